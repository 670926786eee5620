-- The lead as it is now. What happened to it is in the log (0003) and in its timeline (0004).

-- Times are kept and printed with milliseconds, so that a printed time compares equal to its row.
CREATE FUNCTION now_ms() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN date_trunc('milliseconds', clock_timestamp());

CREATE FUNCTION iso_ms(at timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

-- `live` parts the live from the test data of a tenant. No foreign key to tenant: it would lock
-- the tenant's one row for every insert; the tenant comes from the key, never from a request.
-- custom_fields is json, not jsonb: clients get their keys back in the order they sent them.
CREATE TABLE lead (
    tenant_id             bigint NOT NULL,
    live                  boolean NOT NULL,
    id                    text COLLATE "C" NOT NULL,
    version               bigint NOT NULL DEFAULT 1,  -- how many events this lead has had
    email                 text NOT NULL CHECK (char_length(email) <= 254),
    email_key             text COLLATE "C" NOT NULL,  -- NFC, lower case, A-label domain
    name                  text CHECK (char_length(name) <= 200),
    company               text CHECK (char_length(company) <= 200),
    title                 text CHECK (char_length(title) <= 200),
    phone                 text CHECK (char_length(phone) <= 50),
    status                text COLLATE "C" NOT NULL
        CHECK (status IN ('new', 'qualified', 'contacted', 'converted', 'lost')),
    score                 smallint NOT NULL DEFAULT 0 CHECK (score BETWEEN 0 AND 100),
    source                text COLLATE "C" NOT NULL
        CHECK (source IN ('chat', 'api', 'import', 'form')),
    tags                  text[] NOT NULL DEFAULT '{}' CHECK (cardinality(tags) <= 50),
    custom_fields         json NOT NULL DEFAULT '{}' CHECK (json_typeof(custom_fields) = 'object'),
    assigned_to           text CHECK (char_length(assigned_to) <= 200),
    conversation_count    integer NOT NULL DEFAULT 0 CHECK (conversation_count >= 0),
    last_intent           text,
    conversation_summary  text,
    first_seen_at         timestamptz NOT NULL,
    last_active_at        timestamptz NOT NULL,
    created_at            timestamptz NOT NULL,
    updated_at            timestamptz NOT NULL,
    score_factors         json NOT NULL DEFAULT '[]',
    scored_at             timestamptz,               -- null: not yet
    score_stale_at        timestamptz,               -- when time alone will change the score
    PRIMARY KEY (tenant_id, live, id),
    CONSTRAINT lead_email_key UNIQUE (tenant_id, live, email_key)
) WITH (fillfactor = 85);

CREATE INDEX lead_by_created_at ON lead (tenant_id, live, created_at, id);
CREATE INDEX lead_by_updated_at ON lead (tenant_id, live, updated_at, id);
CREATE INDEX lead_by_score ON lead (tenant_id, live, score, id);
CREATE INDEX lead_by_score_stale_at ON lead (score_stale_at) WHERE score_stale_at IS NOT NULL;

-- The one place that knows how a lead looks on the wire: replies and events both use it.
-- A row type and not a sub-select, so that the planner can put lead_json in line; row_to_json
-- prints without spaces and keeps this order. service.models.Lead mirrors it, by test.
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

-- `data` of an event about a lead, and of one that also says what changed.
CREATE TYPE lead_event AS ("lead" json, "version" bigint, "actor" text);
CREATE TYPE lead_change_event AS ("lead" json, "version" bigint, "changes" json, "actor" text);
CREATE TYPE field_change AS ("from" json, "to" json);
