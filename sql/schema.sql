-- The schema as it is, for reading. `make schema` writes this file; a test compares it with what
-- the migrations make on PostgreSQL 15 and 18. The reasons are in the comments of sql/migrations/.
-- Left out: the weekly partitions, which create_partitions() makes.

CREATE EXTENSION IF NOT EXISTS btree_gin WITH SCHEMA public;

CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public;

CREATE TYPE field_change AS (
	"from" json,
	"to" json
);

CREATE TYPE lead_change_event AS (
	lead json,
	version bigint,
	changes json,
	actor text
);

CREATE TYPE lead_detail_on_wire AS (
	id text,
	email text,
	name text,
	company text,
	title text,
	phone text,
	status text,
	score smallint,
	source text,
	tags text[],
	"customFields" json,
	"conversationCount" integer,
	"lastIntent" text,
	"assignedTo" text,
	"firstSeenAt" text,
	"lastActiveAt" text,
	"createdAt" text,
	"updatedAt" text,
	"conversationSummary" text,
	timeline json
);

CREATE TYPE lead_event AS (
	lead json,
	version bigint,
	actor text
);

CREATE TYPE lead_hit_on_wire AS (
	id text,
	email text,
	name text,
	company text,
	status text,
	score smallint,
	"matchField" text,
	"lastActiveAt" text
);

CREATE TYPE lead_on_wire AS (
	id text,
	email text,
	name text,
	company text,
	title text,
	phone text,
	status text,
	score smallint,
	source text,
	tags text[],
	"customFields" json,
	"firstSeenAt" text,
	"lastActiveAt" text,
	"createdAt" text,
	"updatedAt" text
);

CREATE TYPE search_question AS (
	words text[],
	unspaced text[],
	whole_patterns text[],
	prefix_patterns text[],
	substring_patterns text[],
	digits text
);

CREATE TYPE timeline_on_wire AS (
	id text,
	type text,
	at text,
	summary text,
	actor text
);

CREATE TYPE webhook_on_wire AS (
	id text,
	description text,
	status text,
	"statusReason" text,
	failures integer,
	"failingSince" text,
	"lastSuccessAt" text,
	"disablesAt" text
);

CREATE TYPE webhook_event_data AS (
	webhook webhook_on_wire,
	version bigint,
	actor text
);

CREATE TYPE webhook_expiry AS (
	count bigint,
	since text,
	until text
);

CREATE TYPE webhook_expired_data AS (
	webhook webhook_on_wire,
	expired webhook_expiry,
	version bigint,
	actor text
);

CREATE SEQUENCE outbox_id_seq
    START WITH 2
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE SEQUENCE delivery_token_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE api_key (
    id text NOT NULL COLLATE pg_catalog."C",
    tenant_id bigint NOT NULL,
    live boolean NOT NULL,
    name text NOT NULL,
    scope text NOT NULL,
    hash bytea NOT NULL,
    last4 text NOT NULL,
    created_at timestamp with time zone DEFAULT date_trunc('milliseconds'::text, clock_timestamp()) NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    rotated_at timestamp with time zone,
    last_used_at timestamp with time zone,
    CONSTRAINT api_key_hash_check CHECK ((octet_length(hash) = 32)),
    CONSTRAINT api_key_last4_check CHECK ((char_length(last4) = 4)),
    CONSTRAINT api_key_name_check CHECK (((char_length(name) >= 1) AND (char_length(name) <= 100))),
    CONSTRAINT api_key_scope_check CHECK ((scope = ANY (ARRAY['read'::text, 'write'::text, 'admin'::text])))
);

ALTER TABLE ONLY api_key
    ADD CONSTRAINT api_key_hash_key UNIQUE (hash);

ALTER TABLE ONLY api_key
    ADD CONSTRAINT api_key_pkey PRIMARY KEY (id);

CREATE INDEX api_key_by_tenant ON api_key USING btree (tenant_id, created_at, id);

ALTER TABLE ONLY api_key
    ADD CONSTRAINT api_key_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(id);

CREATE TABLE attempt (
    tenant_id bigint NOT NULL,
    live boolean NOT NULL,
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    delivery_id bigint NOT NULL,
    number smallint NOT NULL,
    at timestamp with time zone NOT NULL,
    status smallint,
    error text COLLATE pg_catalog."C",
    dns_ms real,
    connect_ms real,
    wait_ms real,
    total_ms real NOT NULL,
    body bytea,
    truncated boolean NOT NULL
)
PARTITION BY RANGE (at);

CREATE INDEX attempt_by_delivery ON ONLY attempt USING btree (delivery_id, number);

CREATE TABLE delivery (
    id bigint NOT NULL,
    tenant_id bigint NOT NULL,
    live boolean NOT NULL,
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    event_id text NOT NULL COLLATE pg_catalog."C",
    stored_at timestamp with time zone NOT NULL,
    type text NOT NULL COLLATE pg_catalog."C",
    lead_id text COLLATE pg_catalog."C",
    version bigint,
    cause text DEFAULT 'event'::text NOT NULL COLLATE pg_catalog."C",
    attempts smallint DEFAULT 0 NOT NULL,
    yields boolean DEFAULT false NOT NULL,
    lost smallint DEFAULT 0 NOT NULL,
    due_at timestamp with time zone NOT NULL,
    deadline_at timestamp with time zone,
    last_status smallint,
    last_error text,
    token bigint,
    leased_until timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT delivery_cause_check CHECK ((cause = ANY (ARRAY['event'::text, 'replay'::text, 'resend'::text, 'test'::text]))),
    CONSTRAINT delivery_check CHECK (((token IS NULL) = (leased_until IS NULL)))
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_cost_delay='0');

ALTER TABLE delivery ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME delivery_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ONLY delivery
    ADD CONSTRAINT delivery_pkey PRIMARY KEY (id);

CREATE INDEX delivery_by_due ON delivery USING btree (endpoint_id, yields, due_at, id) WHERE (leased_until IS NULL);

CREATE INDEX delivery_by_endpoint ON delivery USING btree (endpoint_id, created_at, id);

CREATE INDEX delivery_by_lead ON delivery USING btree (endpoint_id, lead_id, version, id) WHERE (version IS NOT NULL);

CREATE INDEX delivery_by_lease ON delivery USING btree (leased_until) WHERE (leased_until IS NOT NULL);

CREATE TABLE delivery_final (
    id bigint NOT NULL,
    tenant_id bigint NOT NULL,
    live boolean NOT NULL,
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    event_id text NOT NULL COLLATE pg_catalog."C",
    stored_at timestamp with time zone NOT NULL,
    type text NOT NULL COLLATE pg_catalog."C",
    lead_id text COLLATE pg_catalog."C",
    version bigint,
    cause text NOT NULL COLLATE pg_catalog."C",
    outcome text NOT NULL COLLATE pg_catalog."C",
    attempts smallint NOT NULL,
    last_status smallint,
    last_error text,
    created_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone NOT NULL,
    CONSTRAINT delivery_final_outcome_check CHECK ((outcome = ANY (ARRAY['delivered'::text, 'failed'::text, 'cancelled'::text, 'superseded'::text])))
)
PARTITION BY RANGE (finished_at);

CREATE INDEX delivery_final_by_endpoint ON ONLY delivery_final USING btree (endpoint_id, created_at, id);

CREATE INDEX delivery_final_by_event ON ONLY delivery_final USING btree (endpoint_id, event_id);

CREATE INDEX delivery_final_undelivered ON ONLY delivery_final USING btree (endpoint_id, outcome, created_at, id) WHERE (outcome <> 'delivered'::text);

CREATE TABLE endpoint (
    tenant_id bigint NOT NULL,
    live boolean NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    url text NOT NULL,
    events text[] NOT NULL,
    description text,
    status text DEFAULT 'active'::text NOT NULL COLLATE pg_catalog."C",
    status_reason text,
    payload text DEFAULT 'full'::text NOT NULL COLLATE pg_catalog."C",
    retry text DEFAULT 'standard'::text NOT NULL COLLATE pg_catalog."C",
    coalesces boolean DEFAULT false NOT NULL,
    rate_limit integer,
    timeout_ms integer,
    headers bytea,
    header_names text[] DEFAULT '{}'::text[] NOT NULL,
    version bigint DEFAULT 0 NOT NULL,
    held_since timestamp with time zone,
    skip_before timestamp with time zone,
    recall_after timestamp with time zone,
    events_since timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    events_after bigint DEFAULT log_get_last_id() NOT NULL,
    created_after bigint DEFAULT log_get_last_id() NOT NULL,
    CONSTRAINT endpoint_description_check CHECK ((char_length(description) <= 500)),
    CONSTRAINT endpoint_events_check CHECK ((cardinality(events) > 0)),
    CONSTRAINT endpoint_payload_check CHECK ((payload = ANY (ARRAY['full'::text, 'thin'::text]))),
    CONSTRAINT endpoint_rate_limit_check CHECK ((rate_limit > 0)),
    CONSTRAINT endpoint_retry_check CHECK ((retry = ANY (ARRAY['fast'::text, 'standard'::text, 'long'::text]))),
    CONSTRAINT endpoint_status_check CHECK ((status = ANY (ARRAY['active'::text, 'paused'::text, 'disabled'::text]))),
    CONSTRAINT endpoint_timeout_ms_check CHECK ((timeout_ms > 0)),
    CONSTRAINT endpoint_url_check CHECK ((char_length(url) <= 2048))
);

ALTER TABLE ONLY endpoint
    ADD CONSTRAINT endpoint_id_key UNIQUE (id);

ALTER TABLE ONLY endpoint
    ADD CONSTRAINT endpoint_pkey PRIMARY KEY (tenant_id, live, id);

CREATE INDEX endpoint_resuming ON endpoint USING btree (id) WHERE ((recall_after IS NOT NULL) OR (skip_before IS NOT NULL));

CREATE TABLE endpoint_health (
    tenant_id bigint NOT NULL,
    live boolean NOT NULL,
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    closed_until timestamp with time zone,
    trips smallint DEFAULT 0 NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    failing_since timestamp with time zone,
    warned smallint DEFAULT 0 NOT NULL,
    warned_at timestamp with time zone,
    last_success_at timestamp with time zone,
    excused_s double precision DEFAULT 0 NOT NULL,
    excused_until timestamp with time zone
)
WITH (fillfactor='50');

ALTER TABLE ONLY endpoint_health
    ADD CONSTRAINT endpoint_health_pkey PRIMARY KEY (endpoint_id);

ALTER TABLE ONLY endpoint_health
    ADD CONSTRAINT endpoint_health_tenant_id_live_endpoint_id_fkey FOREIGN KEY (tenant_id, live, endpoint_id) REFERENCES endpoint(tenant_id, live, id) ON DELETE CASCADE;

CREATE TABLE endpoint_secret (
    tenant_id bigint NOT NULL,
    live boolean NOT NULL,
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    id bigint NOT NULL,
    sealed bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone
);

ALTER TABLE endpoint_secret ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME endpoint_secret_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ONLY endpoint_secret
    ADD CONSTRAINT endpoint_secret_pkey PRIMARY KEY (endpoint_id, id);

ALTER TABLE ONLY endpoint_secret
    ADD CONSTRAINT endpoint_secret_tenant_id_live_endpoint_id_fkey FOREIGN KEY (tenant_id, live, endpoint_id) REFERENCES endpoint(tenant_id, live, id) ON DELETE CASCADE;

CREATE TABLE idempotent_response (
    tenant_id bigint NOT NULL,
    live boolean NOT NULL,
    key uuid NOT NULL,
    request uuid NOT NULL,
    status smallint NOT NULL,
    location text,
    etag text,
    body text,
    sealed bytea,
    created_at timestamp with time zone DEFAULT now_ms() NOT NULL,
    CONSTRAINT idempotent_response_has_one_body CHECK ((num_nonnulls(body, sealed) = 1)),
    CONSTRAINT idempotent_response_status_check CHECK (((status >= 200) AND (status <= 499)))
);

ALTER TABLE ONLY idempotent_response
    ADD CONSTRAINT idempotent_response_pkey PRIMARY KEY (tenant_id, live, key);

CREATE INDEX idempotent_response_by_created_at ON idempotent_response USING btree (created_at);

CREATE TABLE lead (
    tenant_id bigint NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    edit_version bigint DEFAULT 1 NOT NULL,
    first_seen_at timestamp with time zone NOT NULL,
    last_active_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    conversation_count integer DEFAULT 0 NOT NULL,
    score smallint DEFAULT 0 NOT NULL,
    status_source smallint GENERATED ALWAYS AS (lead_status_source(status, source)) STORED NOT NULL,
    live boolean NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    email text NOT NULL,
    email_key text NOT NULL COLLATE pg_catalog."C",
    name text,
    company text,
    title text,
    phone text,
    phone_e164 text,
    status text NOT NULL COLLATE pg_catalog."C",
    source text NOT NULL COLLATE pg_catalog."C",
    tags text[] DEFAULT '{}'::text[] NOT NULL,
    custom_fields json DEFAULT '{}'::json NOT NULL,
    assigned_to text,
    last_intent text,
    conversation_summary text,
    CONSTRAINT lead_assigned_to_check CHECK ((char_length(assigned_to) <= 200)),
    CONSTRAINT lead_company_check CHECK ((char_length(company) <= 200)),
    CONSTRAINT lead_conversation_count_check CHECK ((conversation_count >= 0)),
    CONSTRAINT lead_custom_fields_check CHECK ((json_typeof(custom_fields) = 'object'::text)),
    CONSTRAINT lead_email_check CHECK ((char_length(email) <= 254)),
    CONSTRAINT lead_name_check CHECK ((char_length(name) <= 200)),
    CONSTRAINT lead_phone_check CHECK ((char_length(phone) <= 50)),
    CONSTRAINT lead_phone_e164_check CHECK ((phone_e164 ~ '^\+[1-9][0-9]{1,14}$'::text)),
    CONSTRAINT lead_score_check CHECK (((score >= 0) AND (score <= 100))),
    CONSTRAINT lead_source_check CHECK ((source = ANY (ARRAY['chat'::text, 'api'::text, 'import'::text, 'form'::text]))),
    CONSTRAINT lead_status_check CHECK ((status = ANY (ARRAY['new'::text, 'qualified'::text, 'contacted'::text, 'converted'::text, 'lost'::text]))),
    CONSTRAINT lead_tags_check CHECK ((cardinality(tags) <= 50)),
    CONSTRAINT lead_title_check CHECK ((char_length(title) <= 200))
)
WITH (fillfactor='65');

ALTER TABLE ONLY lead
    ADD CONSTRAINT lead_email_key UNIQUE (tenant_id, live, email_key);

ALTER TABLE ONLY lead
    ADD CONSTRAINT lead_pkey PRIMARY KEY (tenant_id, live, id);

CREATE INDEX lead_by_created_at ON lead USING btree (tenant_id, live, created_at, id);

CREATE INDEX lead_by_status_source_created_at ON lead USING btree (tenant_id, live, status_source, created_at, id);

CREATE INDEX lead_by_status_source_updated_at ON lead USING btree (tenant_id, live, status_source, updated_at, id);

CREATE INDEX lead_by_updated_at ON lead USING btree (tenant_id, live, updated_at, id);

CREATE TRIGGER lead_was_deleted AFTER DELETE ON lead REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION lead_was_deleted();

CREATE TRIGGER lead_was_inserted AFTER INSERT ON lead REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION lead_was_inserted();

CREATE TRIGGER lead_was_updated AFTER UPDATE ON lead REFERENCING OLD TABLE AS old_leads NEW TABLE AS new_leads FOR EACH STATEMENT EXECUTE FUNCTION lead_was_updated();

CREATE TABLE lead_count (
    tenant_id bigint NOT NULL,
    live boolean NOT NULL,
    slot integer NOT NULL,
    status text NOT NULL COLLATE pg_catalog."C",
    source text NOT NULL COLLATE pg_catalog."C",
    n bigint NOT NULL
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='500');

ALTER TABLE ONLY lead_count
    ADD CONSTRAINT lead_count_pkey PRIMARY KEY (tenant_id, live, slot, status, source);

CREATE INDEX lead_count_surplus ON lead_count USING btree (slot) WHERE (slot > 63);

CREATE TABLE lead_score (
    tenant_id bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    scored_at timestamp with time zone,
    stale_at timestamp with time zone,
    status_source smallint NOT NULL,
    score smallint NOT NULL,
    live boolean NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    rules text,
    factors bytea DEFAULT '\x'::bytea NOT NULL
);

ALTER TABLE ONLY lead_score
    ADD CONSTRAINT lead_by_score PRIMARY KEY (tenant_id, live, score, id);

CREATE INDEX lead_by_score_stale_at ON lead_score USING btree (stale_at) WHERE (stale_at IS NOT NULL);

CREATE INDEX lead_by_status_source_score ON lead_score USING btree (tenant_id, live, status_source, score, id);

CREATE TABLE lead_search (
    tenant_id bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    status_source smallint NOT NULL,
    score smallint NOT NULL,
    live boolean NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    text text NOT NULL COLLATE pg_catalog."C",
    keys text NOT NULL COLLATE pg_catalog."C"
)
WITH (fillfactor='80');

CREATE INDEX lead_search_tokens ON lead_search USING gin (search_tokens(tenant_id, live, text, keys));
ALTER INDEX lead_search_tokens ALTER COLUMN 1 SET STATISTICS 0;

ALTER TABLE ONLY lead_search
    ADD CONSTRAINT lead_search_pkey PRIMARY KEY (tenant_id, live, id);

CREATE TABLE lead_word (
    tenant_id bigint NOT NULL,
    live boolean NOT NULL,
    word text NOT NULL COLLATE pg_catalog."C",
    unused_since timestamp with time zone
);

CREATE INDEX lead_word_by_part ON lead_word USING gin ((((tenant_id * 2) + (live)::integer)), word gin_trgm_ops);

CREATE INDEX lead_word_by_word ON lead_word USING btree (tenant_id, live, word);

CREATE TABLE lead_word_sweep (
    only_row boolean DEFAULT true NOT NULL,
    tenant_id bigint DEFAULT 0 NOT NULL,
    live boolean DEFAULT false NOT NULL,
    word text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    CONSTRAINT lead_word_sweep_only_row_check CHECK (only_row)
)
WITH (fillfactor='20');

ALTER TABLE ONLY lead_word_sweep
    ADD CONSTRAINT lead_word_sweep_pkey PRIMARY KEY (only_row);

CREATE TABLE lease (
    name text NOT NULL COLLATE pg_catalog."C",
    owner text NOT NULL,
    expires_at timestamp with time zone NOT NULL
)
WITH (fillfactor='20');

ALTER TABLE ONLY lease
    ADD CONSTRAINT lease_pkey PRIMARY KEY (name);

CREATE TABLE log_home (
    only_row boolean DEFAULT true NOT NULL,
    place text NOT NULL,
    txid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    CONSTRAINT log_home_only_row_check CHECK (only_row)
);

ALTER TABLE ONLY log_home
    ADD CONSTRAINT log_home_pkey PRIMARY KEY (only_row);

CREATE TABLE number_key (
    only_row boolean DEFAULT true NOT NULL,
    key bytea NOT NULL,
    CONSTRAINT number_key_key_check CHECK ((octet_length(key) = 32)),
    CONSTRAINT number_key_only_row_check CHECK (only_row)
);

ALTER TABLE ONLY number_key
    ADD CONSTRAINT number_key_pkey PRIMARY KEY (only_row);

CREATE TABLE outbox (
    id bigint DEFAULT nextval('outbox_id_seq'::regclass) NOT NULL,
    txid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    generation smallint DEFAULT 1 NOT NULL,
    shard smallint NOT NULL,
    tenant_id bigint NOT NULL,
    live boolean NOT NULL,
    lead_id text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL,
    event_id text NOT NULL COLLATE pg_catalog."C",
    type text NOT NULL COLLATE pg_catalog."C",
    actor text NOT NULL,
    at timestamp with time zone NOT NULL,
    data json NOT NULL
)
PARTITION BY RANGE (at);

CREATE INDEX outbox_by_txid ON ONLY outbox USING btree (txid, shard);

CREATE TABLE partition_plan (
    table_name text NOT NULL,
    keep interval NOT NULL
);

ALTER TABLE ONLY partition_plan
    ADD CONSTRAINT partition_plan_pkey PRIMARY KEY (table_name);

CREATE TABLE plan (
    name text NOT NULL COLLATE pg_catalog."C",
    per_minute integer,
    per_day integer,
    concurrent integer,
    CONSTRAINT plan_concurrent_check CHECK ((concurrent > 0)),
    CONSTRAINT plan_name_check CHECK ((name ~ '^[a-z][a-z0-9-]{0,39}$'::text)),
    CONSTRAINT plan_per_day_check CHECK ((per_day > 0)),
    CONSTRAINT plan_per_minute_check CHECK ((per_minute > 0))
);

ALTER TABLE ONLY plan
    ADD CONSTRAINT plan_pkey PRIMARY KEY (name);

CREATE TABLE plan_route (
    plan text NOT NULL COLLATE pg_catalog."C",
    method text NOT NULL COLLATE pg_catalog."C",
    path text NOT NULL COLLATE pg_catalog."C",
    per_minute integer NOT NULL,
    CONSTRAINT plan_route_method_check CHECK ((method ~ '^[A-Z]{3,7}$'::text)),
    CONSTRAINT plan_route_path_check CHECK ((path ~ '^/[!-~]{1,200}$'::text)),
    CONSTRAINT plan_route_per_minute_check CHECK ((per_minute > 0))
);

ALTER TABLE ONLY plan_route
    ADD CONSTRAINT plan_route_pkey PRIMARY KEY (plan, method, path);

ALTER TABLE ONLY plan_route
    ADD CONSTRAINT plan_route_plan_fkey FOREIGN KEY (plan) REFERENCES plan(name) ON DELETE CASCADE;

CREATE TABLE reader (
    name text NOT NULL COLLATE pg_catalog."C",
    tick bigint NOT NULL,
    event_id bigint DEFAULT 0 NOT NULL
)
WITH (fillfactor='20');

ALTER TABLE ONLY reader
    ADD CONSTRAINT reader_pkey PRIMARY KEY (name);

CREATE TABLE reconciliation (
    since timestamp with time zone NOT NULL,
    upto timestamp with time zone NOT NULL,
    expected bigint NOT NULL,
    missing bigint NOT NULL,
    doubled bigint NOT NULL,
    stray bigint DEFAULT 0 NOT NULL,
    tick bigint,
    at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY reconciliation
    ADD CONSTRAINT reconciliation_pkey PRIMARY KEY (at);

CREATE TABLE replay (
    tenant_id bigint NOT NULL,
    live boolean NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    since timestamp with time zone NOT NULL,
    until timestamp with time zone NOT NULL,
    only_undelivered boolean NOT NULL,
    state text DEFAULT 'running'::text NOT NULL COLLATE pg_catalog."C",
    at_created_at timestamp with time zone NOT NULL,
    at_id bigint DEFAULT 0 NOT NULL,
    seen bigint DEFAULT 0 NOT NULL,
    sent bigint DEFAULT 0 NOT NULL,
    expired bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT replay_state_check CHECK ((state = ANY (ARRAY['running'::text, 'done'::text, 'cancelled'::text])))
);

ALTER TABLE ONLY replay
    ADD CONSTRAINT replay_pkey PRIMARY KEY (tenant_id, live, id);

CREATE INDEX replay_by_endpoint ON replay USING btree (endpoint_id, created_at);

CREATE UNIQUE INDEX replay_running ON replay USING btree (endpoint_id) WHERE (state = 'running'::text);

ALTER TABLE ONLY replay
    ADD CONSTRAINT replay_tenant_id_live_endpoint_id_fkey FOREIGN KEY (tenant_id, live, endpoint_id) REFERENCES endpoint(tenant_id, live, id) ON DELETE CASCADE;

CREATE TABLE stream (
    generation smallint NOT NULL,
    shard smallint NOT NULL,
    tick bigint NOT NULL,
    event_id bigint NOT NULL
)
WITH (fillfactor='20');

ALTER TABLE ONLY stream
    ADD CONSTRAINT stream_pkey PRIMARY KEY (shard, generation);

CREATE TABLE stream_group (
    name text NOT NULL COLLATE pg_catalog."C",
    shard smallint NOT NULL,
    generation smallint NOT NULL,
    tick bigint NOT NULL,
    event_id bigint NOT NULL,
    detached boolean DEFAULT false NOT NULL
)
WITH (fillfactor='20');

ALTER TABLE ONLY stream_group
    ADD CONSTRAINT stream_group_pkey PRIMARY KEY (shard, name);

CREATE TABLE tenant (
    id bigint NOT NULL,
    name text NOT NULL,
    plan text COLLATE pg_catalog."C",
    phone_region text COLLATE pg_catalog."C",
    created_at timestamp with time zone DEFAULT date_trunc('milliseconds'::text, clock_timestamp()) NOT NULL,
    CONSTRAINT tenant_name_check CHECK (((char_length(name) >= 1) AND (char_length(name) <= 100))),
    CONSTRAINT tenant_phone_region_check CHECK ((phone_region ~ '^[A-Z]{2}$'::text))
);

ALTER TABLE tenant ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME tenant_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ONLY tenant
    ADD CONSTRAINT tenant_name_key UNIQUE (name);

ALTER TABLE ONLY tenant
    ADD CONSTRAINT tenant_pkey PRIMARY KEY (id);

ALTER TABLE ONLY tenant
    ADD CONSTRAINT tenant_plan_fkey FOREIGN KEY (plan) REFERENCES plan(name);

CREATE TABLE tick (
    tick bigint NOT NULL,
    generation smallint NOT NULL,
    snap pg_snapshot NOT NULL,
    at timestamp with time zone NOT NULL
)
PARTITION BY RANGE (at);

CREATE INDEX tick_by_number ON ONLY tick USING btree (tick) INCLUDE (generation);

CREATE TABLE ticker (
    only_row boolean DEFAULT true NOT NULL,
    tick bigint NOT NULL,
    generation smallint NOT NULL,
    snap pg_snapshot NOT NULL,
    at timestamp with time zone NOT NULL,
    last_id bigint DEFAULT log_get_last_id() NOT NULL,
    CONSTRAINT ticker_only_row_check CHECK (only_row)
)
WITH (fillfactor='20');

ALTER TABLE ONLY ticker
    ADD CONSTRAINT ticker_pkey PRIMARY KEY (only_row);

CREATE TABLE timeline (
    tenant_id bigint NOT NULL,
    live boolean NOT NULL,
    lead_id text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL,
    event_id text NOT NULL COLLATE pg_catalog."C",
    type text NOT NULL COLLATE pg_catalog."C",
    at timestamp with time zone NOT NULL,
    summary text NOT NULL,
    actor text NOT NULL
);

ALTER TABLE ONLY timeline
    ADD CONSTRAINT timeline_pkey PRIMARY KEY (tenant_id, live, lead_id, version);

CREATE TABLE webhook_event (
    tenant_id bigint NOT NULL,
    live boolean NOT NULL,
    event_id text NOT NULL COLLATE pg_catalog."C",
    stored_at timestamp with time zone NOT NULL,
    txid xid8,
    type text NOT NULL COLLATE pg_catalog."C",
    lead_id text COLLATE pg_catalog."C",
    version bigint,
    body bytea NOT NULL
)
PARTITION BY RANGE (stored_at);

ALTER TABLE ONLY webhook_event
    ADD CONSTRAINT webhook_event_pkey PRIMARY KEY (stored_at, event_id);

CREATE INDEX webhook_event_by_tenant ON ONLY webhook_event USING btree (tenant_id, live, stored_at);

CREATE FUNCTION address_lock(lock_key integer) RETURNS void
    LANGUAGE sql
    RETURN pg_advisory_xact_lock(1818583397, lock_key);

CREATE FUNCTION address_lock_key(tenant_id bigint, live boolean) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN hashint8(((tenant_id * 2) + (live)::integer));

CREATE FUNCTION address_lock_shared(lock_key integer) RETURNS void
    LANGUAGE sql
    RETURN pg_advisory_xact_lock_shared(1818583397, lock_key);

CREATE FUNCTION create_partitions() RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    plan record;
    week timestamptz;
    part text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('leadlog.create_partitions'));
    FOR plan IN SELECT table_name FROM partition_plan ORDER BY table_name LOOP
        FOR step IN 0..1 LOOP
            week := date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + step * interval '7 days';
            part := plan.table_name || to_char(week AT TIME ZONE 'UTC', '_YYYYMMDD');
            CONTINUE WHEN to_regclass(part) IS NOT NULL;
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part, plan.table_name);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                           plan.table_name, part, week, week + interval '7 days');
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

CREATE FUNCTION log_get_last_id() RETURNS bigint
    LANGUAGE sql
    RETURN (SELECT CASE WHEN s.is_called THEN s.last_value ELSE (s.last_value - 1) END AS "case" FROM outbox_id_seq s);

CREATE FUNCTION delivery_find_first(since timestamp with time zone) RETURNS bigint
    LANGUAGE sql STABLE
    RETURN (SELECT min(LEAST(waiting.id, finished.id)) AS min FROM ((endpoint e LEFT JOIN LATERAL (SELECT d.id FROM delivery d WHERE ((d.endpoint_id = e.id) AND (d.created_at >= (delivery_find_first.since + '00:01:00'::interval)) AND (d.created_at < now())) ORDER BY d.created_at, d.id LIMIT 1) waiting ON (true)) LEFT JOIN LATERAL (SELECT f.id FROM delivery_final f WHERE ((f.endpoint_id = e.id) AND (f.created_at >= (delivery_find_first.since + '00:01:00'::interval)) AND (f.created_at < now())) ORDER BY f.created_at, f.id LIMIT 1) finished ON (true)));

CREATE FUNCTION event_is_since(at timestamp with time zone, id bigint, since timestamp with time zone, since_id bigint) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    RETURN ((id > since_id) OR ((at >= since) AND (at <= (since + '00:01:00'::interval))));

CREATE FUNCTION event_is_wanted(type text, lead_id text, events text[], endpoint_id text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    RETURN ((type = ANY (events)) OR ((lead_id <> endpoint_id) AND (events && ARRAY['*'::text, (split_part(type, '.'::text, 1) || '.*'::text)])));

CREATE FUNCTION excused_time(h endpoint_health) RETURNS double precision
    LANGUAGE sql STABLE
    RETURN ((h).excused_s - GREATEST((EXTRACT(epoch FROM ((h).excused_until - now())))::double precision, (0)::double precision));

CREATE FUNCTION fanout_begin(tenant_ids bigint[]) RETURNS SETOF endpoint
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM fanout_gate_share(tenant_ids);
    RETURN QUERY SELECT e.* FROM endpoint e WHERE e.tenant_id = ANY (tenant_ids) ORDER BY e.id;
END
$$;

CREATE FUNCTION fanout_gate_close(tenant_id bigint) RETURNS void
    LANGUAGE sql
    RETURN pg_advisory_xact_lock(727, ((tenant_id % (4096)::bigint))::integer);

CREATE FUNCTION fanout_gate_share(tenant_ids bigint[]) RETURNS void
    LANGUAGE sql
    AS $$
    SELECT pg_advisory_xact_lock_shared(727, gate)
    FROM (SELECT DISTINCT (t % 4096)::integer AS gate FROM unnest(tenant_ids) AS t ORDER BY 1) AS g
$$;

CREATE FUNCTION iso_ms(at timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN to_char((at AT TIME ZONE 'UTC'::text), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'::text);

CREATE FUNCTION lead_count_merge(most integer) RETURNS integer
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    usual integer;
    surplus integer;
    merged integer := 0;
BEGIN
    FOR surplus IN SELECT DISTINCT slot FROM lead_count WHERE slot > 63 LIMIT most LOOP
        CONTINUE WHEN NOT pg_try_advisory_xact_lock(1818583396, surplus);
        usual := coalesce(usual, lead_count_slot());
        EXIT WHEN usual > 63;
        WITH gone AS (
            DELETE FROM lead_count WHERE slot = surplus RETURNING tenant_id, live, status, source, n
        )
        INSERT INTO lead_count AS c (tenant_id, live, slot, status, source, n)
        SELECT g.tenant_id, g.live, usual, g.status, g.source, g.n FROM gone g
        ON CONFLICT (tenant_id, live, slot, status, source) DO UPDATE SET n = c.n + excluded.n;
        merged := merged + 1;
    END LOOP;
    RETURN merged;
END $$;

CREATE FUNCTION lead_count_slot() RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    pids CONSTANT integer := 4194304;  -- above every pid
BEGIN
    FOR slot IN 0..63 LOOP
        IF pg_try_advisory_xact_lock(1818583396, slot) THEN
            RETURN slot;
        END IF;
    END LOOP;
    FOR turn IN 0..500 LOOP
        IF pg_try_advisory_xact_lock(1818583396, 64 + pg_backend_pid() + turn * pids) THEN
            RETURN 64 + pg_backend_pid() + turn * pids;
        END IF;
    END LOOP;
    RAISE EXCEPTION 'no slot is free';
END $$;

CREATE FUNCTION lead_status_source(status text, source text) RETURNS smallint
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    AS $$
BEGIN
    RETURN CASE status WHEN 'new' THEN 0 WHEN 'qualified' THEN 4 WHEN 'contacted' THEN 8
        WHEN 'converted' THEN 12 WHEN 'lost' THEN 16 END
        + CASE source WHEN 'chat' THEN 0 WHEN 'api' THEN 1 WHEN 'import' THEN 2 WHEN 'form' THEN 3 END;
END $$;

CREATE FUNCTION lead_hit_json(l lead, match_field text) RETURNS json
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN row_to_json(ROW((l).id, (l).email, (l).name, (l).company, (l).status, (l).score, match_field, iso_ms((l).last_active_at))::lead_hit_on_wire);

CREATE FUNCTION lead_json(l lead) RETURNS json
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN row_to_json(ROW((l).id, (l).email, (l).name, (l).company, (l).title, (l).phone, (l).status, (l).score, (l).source, (l).tags, (l).custom_fields, iso_ms((l).first_seen_at), iso_ms((l).last_active_at), iso_ms((l).created_at), iso_ms((l).updated_at))::lead_on_wire);

CREATE FUNCTION lead_shard(lead_id text) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((get_byte(decode(md5(lead_id), 'hex'::text), 0) & 7))::smallint;

CREATE FUNCTION lead_was_deleted() RETURNS trigger
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
BEGIN
    WITH slot AS MATERIALIZED (
        SELECT lead_count_slot() AS slot
    ), counted AS (
        INSERT INTO lead_count AS c (tenant_id, live, slot, status, source, n)
        SELECT r.tenant_id, r.live, s.slot, r.status, r.source, -count(*)
        FROM removed r CROSS JOIN slot s GROUP BY r.tenant_id, r.live, s.slot, r.status, r.source
        ON CONFLICT (tenant_id, live, slot, status, source) DO UPDATE SET n = c.n + excluded.n
    ), unscored AS (
        DELETE FROM lead_score AS s USING removed r
        WHERE s.tenant_id = r.tenant_id AND s.live = r.live AND s.score = r.score AND s.id = r.id
    )
    DELETE FROM lead_search AS s USING removed r
    WHERE s.tenant_id = r.tenant_id AND s.live = r.live AND s.id = r.id;
    RETURN NULL;
END $$;

CREATE FUNCTION lead_was_inserted() RETURNS trigger
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
BEGIN
    WITH slot AS MATERIALIZED (
        SELECT lead_count_slot() AS slot
    ), counted AS (
        INSERT INTO lead_count AS c (tenant_id, live, slot, status, source, n)
        SELECT a.tenant_id, a.live, s.slot, a.status, a.source, count(*)
        FROM added a CROSS JOIN slot s GROUP BY a.tenant_id, a.live, s.slot, a.status, a.source
        ON CONFLICT (tenant_id, live, slot, status, source) DO UPDATE SET n = c.n + excluded.n
    ), scored AS (
        INSERT INTO lead_score (tenant_id, live, id, status_source, score, created_at)
        SELECT a.tenant_id, a.live, a.id, a.status_source, a.score, a.created_at FROM added a
    ), filed AS (
        INSERT INTO lead_search (tenant_id, live, id, status_source, score, created_at, text, keys)
        SELECT a.tenant_id, a.live, a.id, a.status_source, a.score, a.created_at, d.text, d.keys
        FROM added a CROSS JOIN LATERAL search_document(
            a.name, a.company, a.email, a.custom_fields, a.tags, a.assigned_to, a.phone,
            a.phone_e164) AS d
        RETURNING tenant_id, live, text
    ), used AS (
        SELECT DISTINCT w.tenant_id, w.live, w.word
        FROM (
            SELECT tenant_id, live, unnest(string_to_array(text, ' ')) COLLATE "C" AS word
            FROM filed
        ) AS w
        WHERE length(w.word) > 3 AND strpos(w.word, '-') = 0
          AND ltrim(w.word, '0123456789') <> ''
    )
    INSERT INTO lead_word (tenant_id, live, word)
    SELECT u.tenant_id, u.live, u.word FROM used u
    WHERE NOT EXISTS (
        SELECT FROM lead_word w
        WHERE w.tenant_id = u.tenant_id AND w.live = u.live AND w.word = u.word
          AND w.unused_since IS NULL OFFSET 0);
    RETURN NULL;
END $$;

CREATE FUNCTION lead_was_updated() RETURNS trigger
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    is_changed boolean;
    is_rescored boolean;
BEGIN
    SELECT
        bool_or((n.status_source, n.created_at) <> (o.status_source, o.created_at)
            OR (n.name, n.company, n.email, n.custom_fields::text, n.tags, n.assigned_to, n.phone,
                n.phone_e164)
                IS DISTINCT FROM
            (o.name, o.company, o.email, o.custom_fields::text, o.tags, o.assigned_to, o.phone,
                o.phone_e164)),
        bool_or(n.score <> o.score)
    INTO is_changed, is_rescored
    FROM new_leads n FULL JOIN old_leads o
        ON o.tenant_id = n.tenant_id AND o.live = n.live AND o.id = n.id;
    IF is_changed IS NOT TRUE THEN
        IF is_rescored THEN
            UPDATE lead_search AS s SET score = n.score
            FROM new_leads n
            WHERE s.tenant_id = n.tenant_id AND s.live = n.live AND s.id = n.id
              AND s.score <> n.score;
            -- score_write_many has updated lead_score itself; another writer has not.
            IF EXISTS (SELECT FROM new_leads n WHERE NOT EXISTS (
                SELECT FROM lead_score s WHERE s.tenant_id = n.tenant_id AND s.live = n.live
                  AND s.score = n.score AND s.id = n.id OFFSET 0)) THEN
                UPDATE lead_score AS s SET score = n.score
                FROM new_leads n FULL JOIN old_leads o
                    ON o.tenant_id = n.tenant_id AND o.live = n.live AND o.id = n.id
                WHERE s.tenant_id = o.tenant_id AND s.live = o.live AND s.score = o.score
                  AND s.id = o.id AND n.score <> o.score;
            END IF;
        END IF;
        RETURN NULL;
    END IF;
    WITH compared AS MATERIALIZED (
        SELECT n.tenant_id, n.live, n.id, n.name, n.company, n.email, n.custom_fields, n.tags,
            n.assigned_to, n.phone, n.phone_e164, n.status, n.source, n.status_source, n.score, n.created_at,
            o.status AS old_status, o.source AS old_source, o.score AS old_score,
            n.status_source <> o.status_source AS moved,
            (n.status_source, n.score, n.created_at)
                <> (o.status_source, o.score, o.created_at) AS reranked,
            (n.name, n.company, n.email, n.custom_fields::text, n.tags, n.assigned_to, n.phone,
                n.phone_e164)
                IS DISTINCT FROM
            (o.name, o.company, o.email, o.custom_fields::text, o.tags, o.assigned_to, o.phone,
                o.phone_e164) AS reworded
        FROM new_leads n FULL JOIN old_leads o
            ON o.tenant_id = n.tenant_id AND o.live = n.live AND o.id = n.id
    ), slot AS MATERIALIZED (
        SELECT lead_count_slot() AS slot WHERE EXISTS (SELECT FROM compared WHERE moved)
    ), counted AS (
        INSERT INTO lead_count AS c (tenant_id, live, slot, status, source, n)
        SELECT m.tenant_id, m.live, s.slot, v.status, v.source, sum(v.n)
        FROM compared m CROSS JOIN slot s CROSS JOIN LATERAL (
            VALUES (m.status, m.source, 1), (m.old_status, m.old_source, -1)
        ) AS v (status, source, n)
        WHERE m.moved
        GROUP BY m.tenant_id, m.live, s.slot, v.status, v.source HAVING sum(v.n) <> 0
        ON CONFLICT (tenant_id, live, slot, status, source) DO UPDATE SET n = c.n + excluded.n
    ), scored AS (
        UPDATE lead_score AS s
        SET status_source = c.status_source, score = c.score, created_at = c.created_at
        FROM compared c
        WHERE s.tenant_id = c.tenant_id AND s.live = c.live AND s.score = c.old_score AND s.id = c.id
          AND c.reranked
    ), ranked AS (
        UPDATE lead_search AS s
        SET status_source = c.status_source, score = c.score, created_at = c.created_at
        FROM compared c
        WHERE s.tenant_id = c.tenant_id AND s.live = c.live AND s.id = c.id
          AND c.reranked AND NOT c.reworded
    ), filed AS (
        UPDATE lead_search AS s
        SET status_source = c.status_source, score = c.score, created_at = c.created_at,
            text = d.text, keys = d.keys
        FROM compared c CROSS JOIN LATERAL search_document(
            c.name, c.company, c.email, c.custom_fields, c.tags, c.assigned_to, c.phone,
            c.phone_e164) AS d
        WHERE s.tenant_id = c.tenant_id AND s.live = c.live AND s.id = c.id AND c.reworded
        RETURNING s.tenant_id, s.live, s.text
    ), used AS (
        SELECT DISTINCT w.tenant_id, w.live, w.word
        FROM (
            SELECT tenant_id, live, unnest(string_to_array(text, ' ')) COLLATE "C" AS word
            FROM filed
        ) AS w
        WHERE length(w.word) > 3 AND strpos(w.word, '-') = 0
          AND ltrim(w.word, '0123456789') <> ''
    )
    INSERT INTO lead_word (tenant_id, live, word)
    SELECT u.tenant_id, u.live, u.word FROM used u
    WHERE NOT EXISTS (
        SELECT FROM lead_word w
        WHERE w.tenant_id = u.tenant_id AND w.live = u.live AND w.word = u.word
          AND w.unused_since IS NULL OFFSET 0);
    RETURN NULL;
END $$;

CREATE FUNCTION lead_word_delete_unused(tenant bigint, is_live boolean, beyond text, most integer) RETURNS text
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    one record;
    last text;
    is_used boolean;
BEGIN
    FOR one IN
        SELECT w.word, array_agg(w.ctid) AS row_ids, min(w.unused_since) AS unused_since
        FROM (
            SELECT word, ctid, unused_since FROM lead_word
            WHERE tenant_id = tenant AND live = is_live AND word > beyond
            ORDER BY word LIMIT most
        ) AS w GROUP BY w.word ORDER BY w.word
    LOOP
        last := one.word;
        is_used := EXISTS (
            SELECT FROM lead_search s
            WHERE s.tenant_id = tenant AND s.live = is_live
              AND search_tokens(s.tenant_id, s.live, s.text, s.keys)
                @@ search_key(tenant, is_live, one.word, false)::tsquery);
        IF is_used AND one.unused_since IS NOT NULL THEN
            UPDATE lead_word SET unused_since = NULL
            WHERE tenant_id = tenant AND live = is_live AND ctid = ANY (one.row_ids);
        ELSIF NOT is_used AND one.unused_since < now() - interval '1 hour' THEN
            DELETE FROM lead_word
            WHERE tenant_id = tenant AND live = is_live AND ctid = ANY (one.row_ids)
              AND unused_since < now() - interval '1 hour';
        ELSIF NOT is_used THEN
            UPDATE lead_word SET unused_since = now()
            WHERE tenant_id = tenant AND live = is_live AND ctid = ANY (one.row_ids)
              AND unused_since IS NULL;
        END IF;
    END LOOP;
    RETURN last;
END $$;

CREATE FUNCTION lead_write_etag(l lead) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (((('"'::text || (l).edit_version) || '.'::text) || (l).version) || '.0"'::text);

CREATE FUNCTION log_begin_generation(unused integer, known_generation integer DEFAULT 0, known_tick bigint DEFAULT 0, is_certain boolean DEFAULT false) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    old ticker;
    fresh smallint;
BEGIN
    SELECT * INTO STRICT old FROM ticker FOR UPDATE;
    -- Another session may have begun the generation meanwhile.
    IF NOT is_certain AND NOT log_is_restored(known_generation, known_tick) THEN
        RETURN false;
    END IF;
    fresh := greatest(old.generation + 1, known_generation + 1, unused);
    EXECUTE format('ALTER TABLE outbox ALTER COLUMN generation SET DEFAULT %s', fresh);
    UPDATE outbox SET generation = fresh, txid = pg_current_xact_id()
    WHERE id > old.last_id
        OR (generation = old.generation AND NOT pg_visible_in_snapshot(txid, old.snap));
    UPDATE ticker SET tick = old.tick + 1, generation = fresh, snap = '3:3:', at = clock_timestamp();
    INSERT INTO tick (tick, generation, snap, at) SELECT tick, generation, snap, at FROM ticker;
    UPDATE log_home SET place = log_place(), txid = pg_current_xact_id();
    RETURN true;
END $$;

CREATE FUNCTION log_place() RETURNS text
    LANGUAGE sql STABLE
    RETURN (SELECT concat_ws('/'::text, s.system_identifier, ((('x'::text || "left"(pg_walfile_name(pg_current_wal_insert_lsn()), 8)))::bit(32))::integer, d.oid, NULLIF(current_setting('leadlog.data_folder'::text, true), ''::text)) AS concat_ws FROM pg_control_system() s(pg_control_version, catalog_version_no, system_identifier, pg_control_last_modified), pg_database d WHERE (d.datname = current_database()));

CREATE FUNCTION log_has_moved() RETURNS boolean
    LANGUAGE sql STABLE
    RETURN (SELECT ((h.place <> log_place()) OR ((((h.xmin)::text)::bigint)::numeric <> mod(((h.txid)::text)::numeric, ('4294967296'::bigint)::numeric))) FROM log_home h);

CREATE FUNCTION log_is_restored(known_generation integer, known_tick bigint) RETURNS boolean
    LANGUAGE sql
    RETURN (log_has_moved() OR ((known_generation, known_tick) > (SELECT (t.generation)::integer AS generation, t.tick FROM ticker t)));

CREATE FUNCTION now_ms() RETURNS timestamp with time zone
    LANGUAGE sql PARALLEL SAFE
    RETURN date_trunc('milliseconds'::text, clock_timestamp());

CREATE FUNCTION search_allows_substring(word text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (length(word) > CASE WHEN (ltrim(word, '0123456789'::text) = ''::text) THEN 3 ELSE 2 END);

CREATE FUNCTION search_country_code_length(digits text) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN ("left"(digits, 1) = ANY (ARRAY['1'::text, '7'::text])) THEN 1 WHEN ("left"(digits, 2) = ANY (ARRAY['20'::text, '27'::text, '30'::text, '31'::text, '32'::text, '33'::text, '34'::text, '36'::text, '39'::text, '40'::text, '41'::text, '43'::text, '44'::text, '45'::text, '46'::text, '47'::text, '48'::text, '49'::text, '51'::text, '52'::text, '53'::text, '54'::text, '55'::text, '56'::text, '57'::text, '58'::text, '60'::text, '61'::text, '62'::text, '63'::text, '64'::text, '65'::text, '66'::text, '81'::text, '82'::text, '84'::text, '86'::text, '90'::text, '91'::text, '92'::text, '93'::text, '94'::text, '95'::text, '98'::text])) THEN 2 ELSE 3 END;

CREATE FUNCTION search_digits() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT string_agg(chr((zero.zero + n.n)), ''::text ORDER BY zero.zero, n.n) AS string_agg FROM (unnest(ARRAY[1632, 1776, 1984, 2406, 2534, 2662, 2790, 2918, 3046, 3174, 3302, 3430, 3558, 3664, 3792, 3872, 4160, 4240, 6112, 6160, 6470, 6608, 6784, 6800, 6992, 7088, 7232, 7248, 42528, 43216, 43264, 43472, 43504, 43600, 44016, 66720, 68912, 69734, 69872, 69942, 70096, 70384, 70736, 70864, 71248, 71360, 71472, 71904, 72016, 72784, 73040, 73120, 92768, 92864, 93008, 123200, 123632, 125264]) zero(zero) CROSS JOIN generate_series(0, 9) n(n)));

CREATE FUNCTION search_document(name text, company text, email text, custom_fields json, tags text[], assigned_to text, phone text, phone_e164 text) RETURNS TABLE(text text, keys text)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT
        search_fold(concat(
            ' ', replace(name, E'\x01', ' '), E' \x01 ', replace(company, E'\x01', ' '),
            E' \x01 ', replace(email, E'\x01', ' '), f.words, ' ')),
        concat(
            CASE WHEN strpos(array_to_string(tags, ''), E'\x01') = 0
                THEN E'\x01#' || nullif(array_to_string(tags, E'\x01#'), '')
                ELSE (SELECT string_agg(E'\x01#' || replace(tag, E'\x01', E'\x02'), '')
                    FROM unnest(tags) AS tag) END,
            E'\x01@' || replace(assigned_to, E'\x01', E'\x02'), f.pairs,
            CASE WHEN phone IS NOT NULL OR phone_e164 IS NOT NULL
                THEN search_phone_key(phone, phone_e164) END)
    FROM (
        SELECT
            string_agg(E' \x01 ' || coalesce(replace(CASE
                WHEN left(value, 1) IN ('{', '[') AND json_typeof(custom_fields -> key) <> 'string'
                THEN search_flatten((custom_fields -> key)::jsonb) ELSE value
            END, E'\x01', ' '), ''), '') AS words,
            string_agg(E'\x01:' || replace(key || '=' || left(value, 64), E'\x01', E'\x02'), '')
                AS pairs
        FROM json_each_text(CASE WHEN strpos(custom_fields::text, '\u') > 0
            THEN search_readable(custom_fields) ELSE custom_fields END)
    ) AS f
$$;

CREATE FUNCTION search_filters(tenant bigint, is_live boolean, tag text, assigned_to text, fields text[], field_values text[]) RETURNS tsquery
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT (string_agg(((((''''::text || search_filters.tenant) || CASE WHEN search_filters.is_live THEN 'l'::text ELSE 't'::text END) || replace(replace(replace(k.key, ''::text, ''::text), '\'::text, '\\'::text), ''''::text, ''''''::text)) || ''''::text), '&'::text))::tsquery AS string_agg FROM (SELECT ('#'::text || search_filters.tag) AS "?column?" UNION ALL SELECT ('@'::text || search_filters.assigned_to) UNION ALL SELECT (((':'::text || f.field) || '='::text) || "left"(f.value, 64)) FROM UNNEST(search_filters.fields, search_filters.field_values) f(field, value)) k(key) WHERE (k.key <> ''::text));

CREATE FUNCTION search_find_prefix(tenant bigint, is_live boolean, question search_question, wanted_status_sources smallint[], wanted_tier integer, most bigint) RETURNS TABLE(id text, score smallint, tier smallint)
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    -- Whether the index finds nothing but prefixes. It finds words of unspaced scripts anywhere, and
    -- phone numbers of any country.
    is_exact CONSTANT boolean := question.digits IS NULL
        AND cardinality(question.words) = cardinality(question.whole_patterns);
    is_whole CONSTANT boolean := wanted_tier IS NOT DISTINCT FROM 0;
    whole_patterns CONSTANT text[] := question.whole_patterns;  -- a field would be extracted for each row
    keys text;
    query tsquery;
BEGIN
    SELECT string_agg(CASE
        WHEN is_whole THEN search_key(tenant, is_live, w, false)
        ELSE search_prefix_keys(tenant, is_live, w) END, '&')
    INTO keys FROM unnest(question.words) AS w;
    IF question.unspaced <> '{}' THEN
        keys := concat_ws('&', keys, (
            SELECT string_agg(search_syllable_keys(tenant, is_live, w, true), '&')
            FROM unnest(question.unspaced) AS w));
    END IF;
    IF question.digits IS NOT NULL THEN
        keys := concat_ws('|', keys, search_key(tenant, is_live, question.digits, NOT is_whole), (
            SELECT string_agg(DISTINCT format(CASE WHEN is_whole THEN '''%s%s+%s.'':*' ELSE '''%s%s+%s'':*' END,
                tenant, CASE WHEN is_live THEN 'l' ELSE 't' END, number), '|')
            FROM search_phone_readings(question.digits)));
    END IF;
    query := keys;
    RETURN QUERY SELECT f.id, f.score, f.tier FROM (
        SELECT s.id, s.score, CASE
            WHEN s.text LIKE ALL (whole_patterns) THEN 0
            WHEN is_exact THEN 1
            WHEN question.digits IS NOT NULL AND (s.text LIKE '% ' || question.digits || ' %'
                OR s.keys LIKE ANY (search_phone_patterns(question.digits, true))) THEN 0
            WHEN s.text LIKE ALL (question.prefix_patterns) THEN 1
            WHEN question.digits IS NOT NULL AND (s.text LIKE '% ' || question.digits || '%'
                OR s.keys LIKE ANY (search_phone_patterns(question.digits, false))) THEN 1
            ELSE 2 END::smallint AS tier
        FROM lead_search s
        WHERE s.tenant_id = tenant AND s.live = is_live
          AND search_tokens(s.tenant_id, s.live, s.text, s.keys) @@ query
          AND (wanted_status_sources IS NULL OR s.status_source = ANY (wanted_status_sources))
    ) AS f
    -- The tier is computed again for each mention, so first what needs none.
    WHERE (is_exact AND wanted_tier IS NULL) OR f.tier = wanted_tier
       OR (wanted_tier IS NULL AND f.tier < 2) LIMIT most;
END $$;

CREATE FUNCTION search_find_substring(tenant bigint, is_live boolean, question search_question, wanted_status_sources smallint[], most bigint) RETURNS TABLE(id text, score smallint, tier smallint)
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    few CONSTANT integer := 64;
    most_words CONSTANT integer := 40000;
    word text;
    containing text[];
    driving_word text;
    driving_words text[];
    has_unspaced CONSTANT boolean := cardinality(question.words) < cardinality(question.whole_patterns);
    has_substring boolean := has_unspaced;
    is_number boolean;
    conditions text := '';
    keys text;
    query tsquery;
    found bigint := 0;
    taken bigint;
    most_alternatives integer;
BEGIN
    FOREACH word IN ARRAY question.words LOOP
        CONTINUE WHEN NOT '%' || word || '%' = ANY (question.substring_patterns);
        containing := search_words_containing(tenant, is_live, word, most_words);
        IF ltrim(word, '0123456789') = '' AND cardinality(question.whole_patterns) > 1 THEN
            has_substring := has_substring  -- a number is not in the lexicon, so it is no driving word
                OR EXISTS (SELECT FROM unnest(containing) AS w WHERE NOT starts_with(w, word));
            CONTINUE;
        END IF;
        IF length(word) = 3 AND cardinality(question.whole_patterns) > 1 THEN  -- not in the lexicon
            containing := ARRAY(SELECT w FROM unnest(word || containing) AS w ORDER BY w COLLATE "C");
        END IF;
        has_substring := has_substring OR cardinality(containing) = most_words
            OR EXISTS (SELECT FROM unnest(containing) AS w WHERE NOT starts_with(w, word));
        IF driving_words IS NULL OR cardinality(containing) < cardinality(driving_words) THEN
            driving_word := word;
            driving_words := containing;
        END IF;
    END LOOP;
    IF driving_words = '{}' OR NOT has_substring THEN
        RETURN;
    END IF;
    driving_words := coalesce(driving_words, '{NULL}');  -- one search, by the conditions alone
    FOREACH word IN ARRAY question.unspaced LOOP
        conditions := conditions || '&' || search_syllable_keys(tenant, is_live, word, false);
    END LOOP;
    most_alternatives := CASE WHEN cardinality(driving_words) <= few THEN 512 ELSE few END;
    FOREACH word IN ARRAY question.words LOOP
        CONTINUE WHEN word = driving_word;
        IF '%' || word || '%' = ANY (question.substring_patterns) THEN
            containing := search_words_containing(tenant, is_live, word, most_alternatives);
            is_number := ltrim(word, '0123456789') = '';
            CONTINUE WHEN cardinality(containing) = most_alternatives
                AND (NOT is_number OR driving_word IS NOT NULL);
            conditions := conditions || '&(' || search_key(tenant, is_live, word, is_number) || coalesce((
                SELECT '|' || string_agg(search_key(tenant, is_live, w, false), '|')
                FROM unnest(containing) AS w), '') || ')';
            most_alternatives := CASE
                WHEN cardinality(containing) > few THEN few ELSE most_alternatives END;
        ELSE
            keys := search_prefix_keys(tenant, is_live, word);
            conditions := conditions || CASE
                WHEN cardinality(driving_words) > few AND keys LIKE '%:*' THEN ''
                ELSE '&' || keys END;
        END IF;
    END LOOP;
    IF cardinality(question.words) = 1 AND NOT has_unspaced THEN
        driving_words := ARRAY(
            SELECT w FROM unnest(driving_words) AS w WHERE NOT starts_with(w, driving_word));
    END IF;
    FOR at IN 1..cardinality(driving_words) BY few LOOP
        containing := driving_words[at : at + few - 1];
        SELECT coalesce('(' || string_agg(search_key(tenant, is_live, w, false), '|') || ')'
            || conditions, substr(conditions, 2))
        INTO query FROM unnest(containing) AS w;
        RETURN QUERY SELECT s.id, s.score, 2::smallint
        FROM lead_search s
        WHERE s.tenant_id = tenant AND s.live = is_live
          AND search_tokens(s.tenant_id, s.live, s.text, s.keys) @@ query
          AND (wanted_status_sources IS NULL OR s.status_source = ANY (wanted_status_sources))
          AND s.text LIKE ALL (question.substring_patterns)
          AND NOT s.text LIKE ALL (question.prefix_patterns)
          AND (question.digits IS NULL OR NOT (s.text LIKE '% ' || question.digits || '%'
              OR s.keys LIKE ANY (search_phone_patterns(question.digits, false))))
          AND (cardinality(driving_words) <= few OR containing[1] <= (
              SELECT min(w.word COLLATE "C") FROM string_to_table(s.text, ' ') AS w (word)
              WHERE w.word LIKE '%' || driving_word || '%'))
        LIMIT most - found;
        GET DIAGNOSTICS taken = ROW_COUNT;
        found := found + taken;
        EXIT WHEN found >= most;
    END LOOP;
END $$;

CREATE FUNCTION search_find_typo(tenant bigint, is_live boolean, question search_question, wanted_status_sources smallint[], most bigint) RETURNS TABLE(id text, score smallint, tier smallint, variants text[])
    LANGUAGE plpgsql STABLE ROWS 100
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    few CONSTANT integer := 64;
    word text;
    containing text[];
    variants text[];
    all_variants text[] := '{}';
    alternatives text[] := '{}';  -- of each unspaced word: its patterns, separated by |
    query text := '';
BEGIN
    FOREACH word IN ARRAY question.unspaced LOOP
        variants := search_unspaced_typos(word);
        all_variants := all_variants || variants;
        alternatives := alternatives || concat_ws('|', '%' || replace(word, '-', '_') || '%',
            '% ' || nullif(array_to_string(variants, ' %|% '), '') || ' %');
        query := query || '&(' || (
            SELECT string_agg(search_syllable_keys(tenant, is_live, w, false), '|')
            FROM unnest(word || variants) AS w) || ')';
    END LOOP;
    FOREACH word IN ARRAY question.words LOOP
        containing := '{}';
        variants := '{}';
        IF '%' || word || '%' = ANY (question.substring_patterns) THEN
            containing := search_words_containing(tenant, is_live, word, few);
        END IF;
        IF length(word) BETWEEN 4 AND 40 AND ltrim(word, '0123456789') <> '' THEN
            variants := search_words_one_typo_away(tenant, is_live, word);
            all_variants := all_variants || variants;
        END IF;
        query := query || '&(' || search_key(tenant, is_live, word, true) || coalesce((
            SELECT '|' || string_agg(search_key(tenant, is_live, w, false), '|')
            FROM unnest(containing || variants) AS w), '') || ')';
    END LOOP;
    IF all_variants = '{}' THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT s.id, s.score, 3::smallint, all_variants
    FROM lead_search s
    WHERE s.tenant_id = tenant AND s.live = is_live
      AND search_tokens(s.tenant_id, s.live, s.text, s.keys) @@ substr(query, 2)::tsquery
      AND (wanted_status_sources IS NULL OR s.status_source = ANY (wanted_status_sources))
      AND NOT s.text LIKE ALL (question.substring_patterns)
      AND NOT EXISTS (SELECT FROM unnest(alternatives) AS a (patterns)
        WHERE NOT s.text LIKE ANY (string_to_array(a.patterns, '|')))
    LIMIT most;
END $$;

CREATE FUNCTION search_flatten(value jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT string_agg(CASE jsonb_typeof(v.v) WHEN 'number'::text THEN "left"((v.v #>> '{}'::text[]), 20) ELSE (v.v #>> '{}'::text[]) END, ' '::text) AS string_agg FROM jsonb_path_query(search_flatten.value, 'strict $.**'::jsonpath) v(v) WHERE (jsonb_typeof(v.v) = ANY (ARRAY['string'::text, 'number'::text])));

CREATE FUNCTION search_fold(raw text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $_$
DECLARE
    folded text;
BEGIN
    IF octet_length(raw) = length(raw) THEN
        folded := lower(raw COLLATE "C");
    ELSE
        folded := search_fold_letters(raw);
        IF octet_length(folded) <> length(folded) THEN
            RETURN search_separate(folded);
        END IF;
    END IF;
    -- Frequent signs first: a third of the cost of the regular expression.
    folded := replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(
        folded, '.', ' '), '@', ' '), '-', ' '), '_', ' '), ',', ' '), '''', ' '), '/', ' '),
        '+', ' '), '&', ' '), '$', ' ');
    IF folded ~ '[^a-z0-9 \x01]' THEN
        folded := regexp_replace(folded, '[\x02-\x08\x0e-\x1f\x7f]+', '', 'g');
        folded := regexp_replace(folded, '[^a-z0-9 \x01]+', ' ', 'g');
    END IF;
    IF octet_length(folded) > 2000 THEN  -- words are cut after 200 characters
        folded := regexp_replace(folded, '([^ ]{200})[^ ]+', '\1', 'g');
    END IF;
    RETURN folded;
END $_$;

CREATE FUNCTION search_fold_indic(folded text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
DECLARE
    block integer;
BEGIN
    FOREACH block IN ARRAY '{2304,2432,2560,2688,2816,3072,3200}'::integer[] LOOP
        IF folded ~ format('[%s-%s]', chr(block + 1), chr(block + 127)) THEN
            folded := regexp_replace(folded, format(
                '(?:[%s%s%s%s]%s(?=[%s-%s%s-%s%s-%s%s-%s%s-%s])|%s%s(?=[%s-%s]))',
                chr(block + 25), chr(block + 30), chr(block + 35), chr(block + 40), chr(block + 77),
                chr(block + 21), chr(block + 24), chr(block + 26), chr(block + 29),
                chr(block + 31), chr(block + 34), chr(block + 36), chr(block + 39),
                chr(block + 42), chr(block + 45),
                chr(block + 46), chr(block + 77), chr(block + 42), chr(block + 45)),
                chr(block + 2), 'g');
        END IF;
    END LOOP;
    -- Malayalam: a chillu is a consonant with virama.
    FOREACH block IN ARRAY '{3450,3451,3452,3453,3454,3455}'::integer[] LOOP
        folded := replace(folded, chr(block),
            substr(U&'\0d23\0d28\0d30\0d32\0d33\0d15', block - 3449, 1) || U&'\0d4d');
    END LOOP;
    RETURN translate(folded, U&'\0901\0a70', U&'\0902\0a02');
END $$;

CREATE FUNCTION search_fold_letters(raw text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $_$
DECLARE
    folded text := raw;
BEGIN
    -- normalize() sorts each sequence of combining marks in quadratic time, so no sequence is longer
    -- than 200 characters before it: 8,000 marks cost 1.4 s, now 0.08.
    IF octet_length(raw) > 2000 THEN
        folded := regexp_replace(raw, '([^\x01-\x7f]{200})', '\1 ', 'g');
    END IF;
    IF folded ~ '[－−]' THEN  -- before NFKD, which makes them a hyphen
        folded := regexp_replace(folded,
            '([\u3041-\u30fa\u30fc\uff66-\uff9f])[－−](?=[\u3041-\u30fa\u30fc\uff66-\uff9f]|\s|$)', '\1ー', 'g');
    END IF;
    folded := lower(regexp_replace(
        normalize(folded, NFKD), '[' || search_invisible() || search_marks() || ']+', '', 'g')
        COLLATE "default");  -- not of a column of collation "C", which has no case but for a to z
    IF octet_length(folded) = length(folded) THEN
        RETURN folded;
    END IF;
    folded := translate(folded, 'øłđħıŧςðɓɗƙƴəǝ', 'oldhitσdbdkyee');
    folded := replace(folded, 'l·l', 'll');
    folded := replace(replace(replace(replace(
        folded, 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th');
    IF folded ~ '[\u0454-\u05f2]' THEN  -- Cyrillic, Hebrew
        folded := translate(folded, 'іґєғқңөұүһәҷҳ', 'игегкноуухачх');
        folded := translate(folded,
            U&'\05da\05dd\05df\05e3\05e5', U&'\05db\05de\05e0\05e4\05e6');
        folded := replace(replace(replace(folded,
            U&'\05f0', U&'\05d5\05d5'), U&'\05f1', U&'\05d5\05d9'), U&'\05f2', U&'\05d9\05d9');
    END IF;
    IF folded ~ '[\u0565\u0e40\u0ec0]' THEN  -- Armenian, Thai, Lao
        folded := replace(replace(replace(folded, U&'\0565\057e', U&'\0565\0582'),
            U&'\0e40\0e40', U&'\0e41'), U&'\0ec0\0ec0', U&'\0ec1');
    END IF;
    IF folded ~ '[\u0900-\u0dff]' THEN
        folded := search_fold_indic(folded);
    END IF;
    IF folded ~ '[\u0600-\u06ff]' THEN  -- alef, yeh, kaf, heh; without hamza
        folded := translate(folded,
            U&'\0671\0649\06cc\06d2\06a9\06aa\0629\06c1\06d5\06c3\06be\0621\0674',
            U&'\0627\064a\064a\064a\0643\0643\0647\0647\0647\0647\0647');
    END IF;
    IF folded ~ '[\u3041-\u30ff髙﨑𠮷]' THEN
        folded := translate(folded,
            'ァアィイゥウェエォオカキクケコサシスセソタチッツテトナニヌネノハヒフヘホマミムメモャヤュユョヨラリルレロヮワヰヱヲンヵヶぁぃぅぇぉっゃゅょゎゕゖ髙﨑𠮷',
            'ああいいううええおおかきくけこさしすせそたちつつてとなにぬねのはひふへほまみむめもややゆゆよよらりるれろわわゐゑをんかけあいうえおつやゆよわかけ高崎吉');
        folded := regexp_replace(folded, '([\u3041-\u3096])([\u3099\u309a]?)[\u309d\u30fd]', '\1\2\1', 'g');
    END IF;
    IF folded ~ ('[' || search_digits() || ']') THEN
        folded := translate(folded, search_digits(), repeat('0123456789', 58));
    END IF;
    RETURN normalize(folded, NFKC);
END $_$;

CREATE FUNCTION search_invisible() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN '\x02-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff\u0640\u07fa\u180a'::text;

CREATE FUNCTION search_key(tenant bigint, is_live boolean, word text, is_prefix boolean) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((((''''::text || tenant) || CASE WHEN is_live THEN 'l='::text ELSE 't='::text END) || word) || CASE WHEN (is_prefix AND (length(word) > 1)) THEN ''':*'::text ELSE ''''::text END);

CREATE FUNCTION search_marks() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN '\u0300-\u036f\u1ab0-\u1ace\u1dc0-\u1dff\u20d0-\u20f0\ufe20-\ufe2f\u0483-\u0489\u2de0-\u2dff\ua66f-\ua672\ua674-\ua67d\ua69e\ua69f\U0001e000-\U0001e02a\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\ufb1e\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u0898-\u089f\u08ca-\u08e1\u08e3-\u08ff\U00010eab-\U00010eac\u0711\u0730-\u074a\u07eb-\u07f3\u07fd\u0816-\u082d\u0859-\u085b\u093c\u0951-\u0954\u09bc\u09fe\u0a3c\u0abc\u0b3c\u0c3c\u0cbc\u1cd0-\u1cd2\u1cd4-\u1ce0\u1ce2-\u1ce8\u1ced\u1cf4\u1cf8\u1cf9\ua8e0-\ua8f1\u1be6\u1c37\U000110ba\U00011100-\U00011102\U00011173\U000111ca\U00011236\U000112e9\U0001133b\U0001133c\U00011366-\U00011374\U00011446\U0001145e\U000114c3\U000115c0\U000116b7\U0001183a\U00011943\U00011d42\u0e47-\u0e4c\u0e4e\u0ec8-\u0ecc\u17c9-\u17d1\u17d3\u17dd\u1037\u108d\u1939-\u193b\u1a75-\u1a7f\u1b34\u1b6b-\u1b73\ua92b-\ua92d\ua9b3\uaabf\uaac1\u0f18\u0f19\u0f35\u0f37\u0f39\u0f82\u0f83\u0f86\u0f87\u0fc6\u18a9\u135d-\u135f\ua6f0\ua6f1\u2cef-\u2cf1\u302a-\u302f\U00016ff0\U00016ff1\U00010d24-\U00010d27\U00016af0-\U00016af4\U00016b30-\U00016b36\U0001e130-\U0001e136\U0001e2ae\U0001e2ec-\U0001e2ef\U0001e8d0-\U0001e8d6\U0001e944-\U0001e94a'::text;

CREATE FUNCTION search_match_field(text text, keys text, custom_fields json, question search_question, variants text[]) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    AS $$
DECLARE
    fields CONSTANT text[] := string_to_array(text, E'\x01');
    digits CONSTANT text := question.digits;
    is_phone CONSTANT boolean := digits IS NOT NULL
        AND keys LIKE ANY (search_phone_patterns(digits, false));
    is_number CONSTANT boolean := is_phone OR digits IS NOT NULL AND text LIKE '% ' || digits || '%';
    has_several CONSTANT boolean := cardinality(question.whole_patterns) > 1;
    best integer := 8;
    tier integer;
    matched integer;
BEGIN
    FOR at IN 1..coalesce(cardinality(fields), 0) LOOP
        tier := CASE
            WHEN is_number THEN CASE WHEN fields[at] LIKE '% ' || digits || ' %' THEN 0
                WHEN fields[at] LIKE '% ' || digits || '%' THEN 1 ELSE 8 END
            WHEN fields[at] LIKE ALL (question.whole_patterns) THEN 0
            WHEN fields[at] LIKE ALL (question.prefix_patterns) THEN 1
            WHEN fields[at] LIKE ALL (question.substring_patterns) THEN 2
            WHEN NOT has_several THEN 8
            WHEN fields[at] LIKE ANY (question.whole_patterns) THEN 4
            WHEN fields[at] LIKE ANY (question.prefix_patterns) THEN 5
            WHEN fields[at] LIKE ANY (question.substring_patterns) THEN 6
            WHEN string_to_array(fields[at], ' ') && variants THEN 7 ELSE 8 END;
        IF tier > 3 AND variants IS NOT NULL AND NOT is_number THEN  -- apart: a subquery makes CASE slow
            IF (SELECT count(*) FROM unnest(question.substring_patterns) AS p WHERE NOT fields[at] LIKE p)
                <= (SELECT count(*) FROM unnest(variants) AS v
                    WHERE strpos(fields[at], ' ' || v || ' ') > 0) THEN
                tier := 3;
            END IF;
        END IF;
        IF tier < best THEN
            best := tier;
            matched := at;
            EXIT WHEN best = 0;
        END IF;
    END LOOP;
    IF is_phone AND (best > 1 OR best > 0 AND keys LIKE ANY (search_phone_patterns(digits, true))) THEN
        RETURN 'phone';
    END IF;
    RETURN CASE matched WHEN 1 THEN 'name' WHEN 2 THEN 'company' WHEN 3 THEN 'email' ELSE (
        SELECT 'customFields.' || k.key
        FROM json_object_keys(custom_fields) WITH ORDINALITY AS k (key, at)
        WHERE k.at = matched - 3) END;
END $$;

CREATE FUNCTION search_phone_key(phone text, phone_e164 text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    AS $$
DECLARE
    digits text := substr(phone_e164, 2);
    code_length integer;
BEGIN
    IF digits IS NULL THEN
        digits := translate(phone, '+ ().-', '');
        IF digits ~ '[^0-9]' THEN
            digits := replace(substring(search_fold(phone) FROM '[0-9][0-9 ]*'), ' ', '');
        END IF;
        IF phone ~ '^[^0-9]*[+＋]' OR digits LIKE '00%' THEN
            digits := ltrim(digits, '0');
        ELSE
            code_length := 0;
        END IF;
    END IF;
    code_length := coalesce(code_length, search_country_code_length(digits));
    RETURN E'\x01+' || nullif(ltrim(substr(digits, code_length + 1), '0'), '') || '.'
        || left(digits, code_length) || E'\x01';
END $$;

CREATE FUNCTION search_phone_readings(digits text) RETURNS TABLE(number text, country_code text)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $_$
    SELECT r.number, r.country_code
    FROM (
        SELECT ltrim(digits, '0') AS stripped,
            search_country_code_length(ltrim(digits, '0')) AS code_length
    ) AS d
    CROSS JOIN LATERAL (VALUES
        (d.stripped, NULL, true),
        (ltrim(substr(d.stripped, d.code_length + 1), '0'), left(d.stripped, d.code_length),
            digits !~ '^0[^0]'),
        (ltrim(substr(d.stripped, d.code_length + 1), '0'), '',
            digits !~ '^0[^0]' AND length(d.stripped) > 7),
        (substr(d.stripped, 2), '7', digits ~ '^8[0-9]{10}$'),
        (substr(d.stripped, 2), '', digits ~ '^8[0-9]{10}$'),
        ('8' || substr(d.stripped, 2), '', digits ~ '^7[0-9]{10}$')
    ) AS r (number, country_code, is_possible)
    WHERE r.is_possible AND length(r.number) > 2;
$_$;

CREATE FUNCTION search_phone_patterns(digits text, is_whole boolean) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (digits IS NULL) THEN '{}'::text[] ELSE ARRAY(SELECT (((('%+'::text || r.number) || CASE WHEN search_phone_patterns.is_whole THEN ''::text ELSE '%'::text END) || '.'::text) || COALESCE((r.country_code || ''::text), '%'::text)) FROM search_phone_readings(search_phone_patterns.digits) r(number, country_code)) END;

CREATE FUNCTION search_prefix_keys(tenant bigint, is_live boolean, asked text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    few CONSTANT integer := 64;
    found text[];
BEGIN
    IF length(asked) < 4 OR ltrim(asked, '0123456789') = '' THEN  -- such words are not in the lexicon
        RETURN search_key(tenant, is_live, asked, true);
    END IF;
    found := ARRAY(
        SELECT word FROM lead_word
        WHERE tenant_id = tenant AND live = is_live AND word >= asked AND word < asked || U&'\+10FFFF'
        ORDER BY word LIMIT few);
    IF cardinality(found) = few THEN
        RETURN search_key(tenant, is_live, asked, true);
    END IF;
    RETURN '(' || search_key(tenant, is_live, asked, false) || coalesce((
        SELECT '|' || string_agg(DISTINCT search_key(tenant, is_live, w, false), '|')
        FROM unnest(found) AS w WHERE w <> asked), '') || ')';
END $$;

CREATE FUNCTION search_question_digits(asked text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    AS $_$
DECLARE
    digits text;
BEGIN
    IF asked ~ '[0-9]|[^\x01-\x7f]' THEN
        digits := replace(substring(search_fold(asked) FROM
            '^ *(?:tel +)?([0-9][0-9 ]*?) *(?:(?:x|ext) *[0-9]*)? *$'), ' ', '');
    END IF;
    RETURN CASE WHEN length(digits) BETWEEN 5 AND 24 THEN digits END;
END $_$;

CREATE FUNCTION search_unspaced() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN '\u1100-\u11ff\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u303c\u3041-\u309f\u30a1-\u30fa\u30fc-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U0001aff0-\U0001b16f\U00020000-\U0003ffff'::text;

CREATE FUNCTION search_question_parse(asked text) RETURNS search_question
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT ROW(COALESCE(array_agg(q.word ORDER BY q.n) FILTER (WHERE (NOT q.is_unspaced)), '{}'::text[]), COALESCE(array_agg(q.word ORDER BY q.n) FILTER (WHERE (q.is_unspaced AND (length(q.word) > 1))), CASE WHEN bool_and(q.is_unspaced) THEN (array_agg(q.word ORDER BY q.n))[:2] ELSE NULL::text[] END, '{}'::text[]), COALESCE(array_agg((('% '::text || q.pattern) || ' %'::text) ORDER BY q.n), '{}'::text[]), COALESCE(array_agg((('% '::text || q.pattern) || CASE WHEN ((length(q.word) > 1) OR q.is_unspaced) THEN '%'::text ELSE ' %'::text END) ORDER BY q.n), '{}'::text[]), COALESCE(array_agg(CASE WHEN (q.is_unspaced OR ((q.n <= 8) AND search_allows_substring(q.word))) THEN (('%'::text || q.pattern) || '%'::text) WHEN (length(q.word) > 1) THEN (('% '::text || q.word) || '%'::text) ELSE (('% '::text || q.word) || ' %'::text) END ORDER BY q.n), '{}'::text[]), search_question_digits(search_question_parse.asked))::search_question AS "row" FROM (SELECT w.word, row_number() OVER (ORDER BY (min(w.at))) AS n, replace(w.word, '-'::text, '_'::text) AS pattern, (w.word ~ (('['::text || search_unspaced()) || ']'::text)) AS is_unspaced FROM string_to_table(search_fold(replace(search_question_parse.asked, ''::text, ' '::text)), ' '::text) WITH ORDINALITY w(word, at) WHERE (w.word <> ''::text) GROUP BY w.word) q);

CREATE FUNCTION search_readable(fields json) RETURNS json
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
BEGIN
    PERFORM fields::jsonb;
    RETURN fields;
EXCEPTION WHEN untranslatable_character OR invalid_text_representation THEN
    RETURN '{}';
END $$;

CREATE FUNCTION search_separate(folded text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
DECLARE
    unspaced CONSTANT text := search_unspaced();
BEGIN
    folded := regexp_replace(folded, '[' || search_signs() || ']+', ' ', 'g');
    IF folded ~ ('[' || search_unspaced() || ']') THEN
        IF folded ~ (
            '^[^ ]|[^ ' || unspaced || '][' || unspaced || ']|[' || unspaced || '][^ ' || unspaced || ']'
        ) THEN
            folded := regexp_replace(folded, '([' || unspaced || ']+)', ' \1 ', 'g');
        END IF;
        folded := regexp_replace(folded, ' {2,}', ' ', 'g');
        folded := regexp_replace(folded, '([' || unspaced || '])', '-\1', 'g');
        folded := replace(folded, ' -', ' ');
    END IF;
    IF octet_length(folded) > 2000 THEN  -- words are cut after 200 characters
        folded := regexp_replace(folded, '([^ -]{200})[^ -]+', '\1', 'g');
    END IF;
    RETURN folded;
END $$;

CREATE FUNCTION search_signs() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN '\x02-\x1f\x21-\x2f\x3a-\x60\x7b-\xbf\xd7\xf7\u02b9-\u02df\u02e5-\u02ff\u0375\u03f6\u0482\u055a-\u055f\u0589-\u058f\u05be\u05c0\u05c3\u05c6\u05f3\u05f4\u0606-\u060f\u061b\u061d-\u061f\u066a-\u066d\u06d4\u06de\u06e9\u06fd\u06fe\u0700-\u070d\u07f6-\u07f9\u0830-\u083e\u085e\ufbb2-\ufbc2\ufd3e-\ufd4f\ufdcf\ufdfd-\ufdff\u0964\u0965\u0970\u09f2\u09f3\u09fa\u09fb\u09fd\u0a76\u0af0\u0af1\u0b70\u0bf3-\u0bfa\u0c77\u0c7f\u0c84\u0d4f\u0d79\u0df4\u1cc0-\u1cc7\u1cd3\ua828-\ua82b\ua836-\ua839\ua874-\ua877\ua8ce\ua8cf\ua8f8-\ua8fa\ua8fc\uabeb\u0e3f\u0e4f\u0e5a\u0e5b\u0f01-\u0f17\u0f1a-\u0f1f\u0f34\u0f36\u0f38\u0f3a-\u0f3d\u0f85\u0fbe-\u0fda\u104a-\u104f\u109e\u109f\u1735\u1736\u17d4-\u17d6\u17d8-\u17db\u1940-\u1945\u19de-\u19ff\u1a1e\u1a1f\u1aa0-\u1aad\u1b5a-\u1b6a\u1b74-\u1b7e\u1bfc-\u1bff\u1c3b-\u1c3f\u1c7e\u1c7f\ua92e\ua92f\ua95f\ua9c1-\ua9cd\ua9de\ua9df\uaa5c-\uaa5f\uaa77-\uaa79\uaade\uaadf\uaaf0\uaaf1\u10fb\u1360-\u1368\u1390-\u1399\u1400\u166d\u166e\u1680\u169b\u169c\u16eb-\u16ed\u1800-\u180a\u2000-\u206f\u20a0-\u20cf\u2190-\u2bff\u2cf9-\u2cff\u2e00-\u2fff\ua4fe\ua4ff\ua60d-\ua60f\ua673\ua67e\ua6f2-\ua721\ua789\ua78a\u3000-\u3004\u3008-\u3020\u3030\u303d-\u303f\u30a0\u30fb\u31c0-\u31ef\u4dc0-\u4dff\ua490-\ua4cf\ufe10-\ufe6f\ufff0-\uffff\U00010100-\U0001013f\U0001d000-\U0001d356\U0001f000-\U0001faff'::text;

CREATE FUNCTION search_syllable_keys(tenant bigint, is_live boolean, asked text, is_prefix boolean) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT string_agg((((('('::text || search_key(search_syllable_keys.tenant, search_syllable_keys.is_live, k.pair, false)) || k.rest) || CASE WHEN (search_syllable_keys.is_prefix AND (k.at = 1)) THEN ''::text ELSE (('|'::text || search_key(search_syllable_keys.tenant, search_syllable_keys.is_live, ('-'::text || k.pair), false)) || k.rest) END) || ')'::text), '&'::text) AS string_agg FROM (SELECT s.at, (s.syllable || COALESCE(lead(s.syllable) OVER following, ''::text)) AS pair, CASE WHEN (count(*) OVER () = 1) THEN ':*'::text ELSE ''::text END AS rest, ((s.at > 1) AND (lead(s.at) OVER following IS NULL)) AS is_last FROM string_to_table(search_syllable_keys.asked, '-'::text) WITH ORDINALITY s(syllable, at) WINDOW following AS (ORDER BY s.at)) k WHERE ((k.at <= 16) AND (NOT k.is_last)));

CREATE FUNCTION search_tokens(tenant_id bigint, live boolean, text text, keys text) RETURNS tsvector
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
DECLARE
    space text := tenant_id || CASE WHEN live THEN 'l' ELSE 't' END;
BEGIN
    IF octet_length(text) <> length(text) THEN
        DECLARE
            unspaced CONSTANT text := '['
                '\u1100-\u11ff\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u303c\u3041-\u309f\u30a1-\u30fa'
                '\u30fc-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff'
                '\U0001aff0-\U0001b16f\U00020000-\U0003ffff]';
            pair CONSTANT text := '([ -]' || unspaced || ')[ -](' || unspaced || ')';
        BEGIN
            IF text ~ unspaced THEN
                text := regexp_replace(text, pair, ' \1\2 ', 'g') || ' ' || regexp_replace(
                    regexp_replace(text, '(?<!' || unspaced || ') ' || unspaced
                        || '(?=[ -]' || unspaced || ')', '', 'g'),
                    pair, ' \1\2 ', 'g');
            END IF;
        END;
    END IF;
    RETURN array_to_tsvector(array_remove(array_remove(array_remove(
        string_to_array(
            replace(text, ' ', E'\x01' || space || '=') || replace(keys, E'\x01', E'\x01' || space),
            E'\x01'),
        ''), space || '='), space));
END $$;

CREATE FUNCTION search_word_typos(word text) RETURNS SETOF text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    WITH split AS (
        SELECT left(word, at) AS head, substr(word, at + 1) AS tail
        FROM generate_series(0, length(word)) AS at
    ), letter AS (
        SELECT string_to_table(CASE
            WHEN word ~ '[a-z]' THEN 'abcdefghijklmnopqrstuvwxyz0123456789'
            WHEN word ~ '[а-я]' THEN 'абвгдежзиклмнопрстуфхцчшщъыьэюя'
            WHEN word ~ '[α-ω]' THEN 'αβγδεζηθικλμνξοπρστυφχψω'
            WHEN word ~ '[\u05d0-\u05ea]' THEN
                U&'\05d0\05d1\05d2\05d3\05d4\05d5\05d6\05d7\05d8\05d9\05db\05dc\05de\05e0\05e1\05e2'
                '\05e4\05e6\05e7\05e8\05e9\05ea'
            WHEN word ~ '[\u0627-\u064a]' THEN
                U&'\0627\0628\062a\062b\062c\062d\062e\062f\0630\0631\0632\0633\0634\0635\0636\0637'
                '\0638\0639\063a\0641\0642\0643\0644\0645\0646\0647\0648\064a\067e\0686\0698\06af'
        END, NULL) AS letter
    )
    SELECT head || substr(tail, 2) FROM split WHERE tail <> ''
    UNION SELECT head || substr(tail, 2, 1) || left(tail, 1) || substr(tail, 3)
        FROM split WHERE length(tail) > 1
    UNION SELECT head || letter || tail FROM split, letter
    UNION SELECT head || letter || substr(tail, 2) FROM split, letter WHERE tail <> ''
    EXCEPT SELECT word
$$;

CREATE FUNCTION search_unspaced_typos(word text) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY(SELECT array_to_string(string_to_array(t.typo, NULL::text), '-'::text) AS array_to_string FROM search_word_typos(replace(search_unspaced_typos.word, '-'::text, ''::text)) t(typo) WHERE ((length(search_unspaced_typos.word) >= 7) AND (length(search_unspaced_typos.word) <= 23)));

CREATE FUNCTION search_words_containing(tenant bigint, is_live boolean, part text, most integer) RETURNS text[]
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    AS $$
BEGIN
    RETURN ARRAY(SELECT DISTINCT w.word FROM (
        SELECT word FROM lead_word
        WHERE tenant_id * 2 + live::integer = tenant * 2 + is_live::integer
          AND word LIKE '%' || part || '%' AND unused_since IS NULL
        LIMIT most) AS w ORDER BY w.word);
END $$;

CREATE FUNCTION search_words_one_typo_away(tenant bigint, is_live boolean, asked text) RETURNS text[]
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    AS $$
BEGIN
    RETURN ARRAY(SELECT t.word FROM search_word_typos(asked) AS t (word)
        WHERE length(t.word) = 3 OR EXISTS (
            SELECT FROM lead_word w
            WHERE w.tenant_id = tenant AND w.live = is_live AND w.word = t.word OFFSET 0));
END $$;

CREATE FUNCTION show_change(field text, old text, new text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (old IS DISTINCT FROM new) THEN ((to_json(field) || ':'::text) || row_to_json(ROW(to_json(old), to_json(new))::field_change)) ELSE NULL::text END;

CREATE FUNCTION tick_find_last(by_then timestamp with time zone) RETURNS bigint
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    low bigint := (SELECT tick FROM tick ORDER BY tick LIMIT 1);
    high bigint := (SELECT tick FROM ticker);
    middle bigint;
BEGIN
    WHILE low < high LOOP
        middle := (low + high + 1) / 2;
        IF (SELECT t.at FROM tick t WHERE t.tick = middle) <= by_then THEN
            low := middle;
        ELSE
            high := middle - 1;
        END IF;
    END LOOP;
    RETURN low;
END
$$;

CREATE FUNCTION webhook_show(e endpoint, h endpoint_health) RETURNS webhook_on_wire
    LANGUAGE sql STABLE
    RETURN ROW((e).id, (e).description, (e).status, (e).status_reason, (h).failures, iso_ms((h).failing_since), iso_ms((h).last_success_at), CASE WHEN ((e).status = 'active'::text) THEN iso_ms(GREATEST(((h).failing_since + '5 days'::interval), CASE WHEN ((h).warned >= 80) THEN ((h).warned_at + '1 day'::interval) ELSE NULL::timestamp with time zone END)) ELSE NULL::text END)::webhook_on_wire;

CREATE FUNCTION lead_search_clean_pending() RETURNS bigint
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO '$user', 'public'
    RETURN (gin_clean_pending_list('lead_search_tokens'::regclass) + gin_clean_pending_list('lead_word_by_part'::regclass));
