-- The current state of each lead. Its events are in the log (0003), its history in the timeline (0004).

-- Times are stored and printed with milliseconds, so that a printed time equals the stored one.
CREATE FUNCTION now_ms() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN date_trunc('milliseconds', clock_timestamp());

CREATE FUNCTION iso_ms(at timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

-- The code of status and source. With one column for both, three indexes (one per sort) serve filters
-- by status, by source and by both: a filter by one of them merges the few values of the other. The
-- code is a number, because two texts in every index entry cost a third more to store and compare. It
-- is not in SQL, because PostgreSQL would inline it for the generated column in each execution of a statement
-- that writes leads.
CREATE FUNCTION lead_status_source(status text, source text) RETURNS smallint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN CASE status WHEN 'new' THEN 0 WHEN 'qualified' THEN 4 WHEN 'contacted' THEN 8
        WHEN 'converted' THEN 12 WHEN 'lost' THEN 16 END
        + CASE source WHEN 'chat' THEN 0 WHEN 'api' THEN 1 WHEN 'import' THEN 2 WHEN 'form' THEN 3 END;
END $$;

-- `live` separates the live data of a tenant from its test data. There is no foreign key to tenant: it
-- would lock the one row of the tenant for every insert, and the tenant comes from the API key, never
-- from a request. custom_fields is json, not jsonb: clients get their keys back in the order in which
-- they sent them. Columns of fixed width come first, the widest first, which saves padding. No index
-- has score or version, and a third of each page stays free, so a new score updates the row in place
-- (HOT).
CREATE TABLE lead (
    tenant_id             bigint NOT NULL,
    version               bigint NOT NULL DEFAULT 1,  -- the number of the lead's events so far
    -- The version that last changed a field which clients can write; a new score leaves it.
    edit_version          bigint NOT NULL DEFAULT 1,
    first_seen_at         timestamptz NOT NULL,
    last_active_at        timestamptz NOT NULL,
    created_at            timestamptz NOT NULL,
    updated_at            timestamptz NOT NULL,
    conversation_count    integer NOT NULL DEFAULT 0 CHECK (conversation_count >= 0),
    score                 smallint NOT NULL DEFAULT 0 CHECK (score BETWEEN 0 AND 100),
    status_source         smallint NOT NULL
        GENERATED ALWAYS AS (lead_status_source(status, source)) STORED,
    live                  boolean NOT NULL,
    id                    text COLLATE "C" NOT NULL,
    email                 text NOT NULL CHECK (char_length(email) <= 254),
    email_key             text COLLATE "C" NOT NULL,  -- NFC, lower case, A-label domain
    name                  text CHECK (char_length(name) <= 200),
    company               text CHECK (char_length(company) <= 200),
    title                 text CHECK (char_length(title) <= 200),
    phone                 text CHECK (char_length(phone) <= 50),
    phone_e164            text  -- for search and duplicates, not shown
        CHECK (phone_e164 ~ '^\+[1-9][0-9]{1,14}$'),
    status                text COLLATE "C" NOT NULL
        CHECK (status IN ('new', 'qualified', 'contacted', 'converted', 'lost')),
    source                text COLLATE "C" NOT NULL
        CHECK (source IN ('chat', 'api', 'import', 'form')),
    tags                  text[] NOT NULL DEFAULT '{}' CHECK (cardinality(tags) <= 50),
    custom_fields         json NOT NULL DEFAULT '{}' CHECK (json_typeof(custom_fields) = 'object'),
    assigned_to           text CHECK (char_length(assigned_to) <= 200),
    last_intent           text,
    conversation_summary  text,
    PRIMARY KEY (tenant_id, live, id),
    CONSTRAINT lead_email_key UNIQUE (tenant_id, live, email_key)
) WITH (fillfactor = 65);

CREATE INDEX lead_by_created_at ON lead (tenant_id, live, created_at, id);
CREATE INDEX lead_by_updated_at ON lead (tenant_id, live, updated_at, id);
CREATE INDEX lead_by_status_source_created_at ON lead (tenant_id, live, status_source, created_at, id);
CREATE INDEX lead_by_status_source_updated_at ON lead (tenant_id, live, status_source, updated_at, id);

-- The score of each lead, with its explanation, and the indexes of lists by score. A new score moves the
-- row in all its indexes, which is cheap here and was expensive in lead. There is no index by id: a row
-- is found by its score, which is also in lead. Triggers (0009) keep both tables equal.
CREATE TABLE lead_score (
    tenant_id      bigint NOT NULL,
    created_at     timestamptz NOT NULL,             -- as in lead: most lists filter or sort by it
    scored_at      timestamptz,                      -- null: not scored yet
    stale_at       timestamptz,                      -- when the score will change without an event
    status_source  smallint NOT NULL,                -- as in lead
    score          smallint NOT NULL,                -- as in lead
    live           boolean NOT NULL,
    id             text COLLATE "C" NOT NULL,
    rules          text,                             -- the version of the rules; null: not scored yet
    factors        bytea NOT NULL DEFAULT '',        -- see service/leads/scores.py
    CONSTRAINT lead_by_score PRIMARY KEY (tenant_id, live, score, id)
);

CREATE INDEX lead_by_status_source_score ON lead_score (tenant_id, live, status_source, score, id);
CREATE INDEX lead_by_score_stale_at ON lead_score (stale_at) WHERE stale_at IS NOT NULL;

-- The JSON of a lead in responses and events is defined here only. A row type instead of a sub-select
-- lets the planner inline lead_json; row_to_json prints without spaces and keeps this order. A test
-- compares the type with service.leads.models.Lead.
CREATE TYPE lead_on_wire AS (
    "id" text, "email" text, "name" text, "company" text, "title" text, "phone" text,
    "status" text, "score" smallint, "source" text, "tags" text[], "customFields" json,
    "firstSeenAt" text, "lastActiveAt" text, "createdAt" text, "updatedAt" text
);

CREATE FUNCTION lead_json(l lead) RETURNS json LANGUAGE sql STABLE PARALLEL SAFE
RETURN row_to_json(ROW(
    l.id, l.email, l.name, l.company, l.title, l.phone, l.status, l.score, l.source, l.tags,
    l.custom_fields, iso_ms(l.first_seen_at), iso_ms(l.last_active_at),
    iso_ms(l.created_at), iso_ms(l.updated_at))::lead_on_wire);

-- The ETag of a response to a write, which has no timeline; see service/leads/etags.py.
CREATE FUNCTION lead_write_etag(l lead) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
RETURN '"' || l.edit_version || '.' || l.version || '.0"';

-- The `data` of an event about a lead, without and with the changes.
CREATE TYPE lead_event AS ("lead" json, "version" bigint, "actor" text);

CREATE TYPE lead_change_event AS ("lead" json, "version" bigint, "changes" json, "actor" text);

CREATE TYPE field_change AS ("from" json, "to" json);

-- `"field":{"from":…,"to":…}` if the values differ, else null.
CREATE FUNCTION show_change(field text, old text, new text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN old IS DISTINCT FROM new
    THEN to_json(field) || ':' || row_to_json(ROW(to_json(old), to_json(new))::field_change) END;

-- Advisory locks for e-mail addresses. A patch of an address frees one address and takes another,
-- while a create may hold the second and wait for the first: a deadlock, in whatever order each of them
-- locks rows. So a patch of an address holds the lock of its tenant and mode exclusively; creates share
-- it.
CREATE FUNCTION address_lock_key(tenant_id bigint, live boolean) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hashint8(tenant_id * 2 + live::integer);

CREATE FUNCTION address_lock(lock_key integer) RETURNS void LANGUAGE sql VOLATILE
RETURN pg_advisory_xact_lock(1818583397, lock_key);

CREATE FUNCTION address_lock_shared(lock_key integer) RETURNS void LANGUAGE sql VOLATILE
RETURN pg_advisory_xact_lock_shared(1818583397, lock_key);
