-- Webhooks: endpoints, the events to send to them, and the state of each delivery.

-- An endpoint is disabled by the service (410, days of failure) or paused by its owner. In both cases
-- deliveries are created and wait. The API shows them as `held`, a state that is not stored.
CREATE TABLE endpoint (
    tenant_id      bigint NOT NULL,
    live           boolean NOT NULL,
    id             text COLLATE "C" NOT NULL UNIQUE,
    url            text NOT NULL CHECK (char_length(url) <= 2048),
    events         text[] NOT NULL CHECK (cardinality(events) > 0),  -- see event_is_wanted
    description    text CHECK (char_length(description) <= 500),
    status         text COLLATE "C" NOT NULL DEFAULT 'active'
        CHECK (status IN ('active', 'paused', 'disabled')),
    status_reason  text,
    payload        text COLLATE "C" NOT NULL DEFAULT 'full' CHECK (payload IN ('full', 'thin')),
    retry          text COLLATE "C" NOT NULL DEFAULT 'standard'
        CHECK (retry IN ('fast', 'standard', 'long')),
    coalesces      boolean NOT NULL DEFAULT false,
    rate_limit     integer CHECK (rate_limit > 0),         -- deliveries per second
    timeout_ms     integer CHECK (timeout_ms > 0),
    headers        bytea,                                  -- encrypted JSON object; null: none
    header_names   text[] NOT NULL DEFAULT '{}',
    version        bigint NOT NULL DEFAULT 0,              -- counts its webhook.* events, without gaps
    held_since     timestamptz,                            -- not active since then
    -- Deliveries created before this time are not sent, and are being cancelled.
    skip_before    timestamptz,
    -- The endpoint is active again: its retries are being made due now, in order of due_at. Those with a
    -- due_at up to this time are done.
    recall_after   timestamptz,
    events_since   timestamptz NOT NULL,                   -- `events` has not changed since then
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    -- The newest ids of the log at events_since and created_at; see event_is_since.
    events_after   bigint NOT NULL DEFAULT log_get_last_id(),
    created_after  bigint NOT NULL DEFAULT log_get_last_id(),
    PRIMARY KEY (tenant_id, live, id)
);

CREATE INDEX endpoint_resuming ON endpoint (id)
    WHERE recall_after IS NOT NULL OR skip_before IS NOT NULL;

-- Encrypted by service/encryption.py. Requests are signed with all secrets that have not expired.
CREATE TABLE endpoint_secret (
    tenant_id    bigint NOT NULL,
    live         boolean NOT NULL,
    endpoint_id  text COLLATE "C" NOT NULL,
    id           bigint GENERATED ALWAYS AS IDENTITY,
    sealed       bytea NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,                              -- null: the current one
    PRIMARY KEY (endpoint_id, id),
    FOREIGN KEY (tenant_id, live, endpoint_id) REFERENCES endpoint ON DELETE CASCADE
);

-- The results of an endpoint's deliveries, in a table of their own because they change all the time.
CREATE TABLE endpoint_health (
    tenant_id        bigint NOT NULL,
    live             boolean NOT NULL,
    endpoint_id      text COLLATE "C" PRIMARY KEY,
    closed_until     timestamptz,                          -- breaker open, Retry-After
    trips            smallint NOT NULL DEFAULT 0,          -- of the breaker, since it last closed
    failures         integer NOT NULL DEFAULT 0,           -- since the last success
    failing_since    timestamptz,
    warned           smallint NOT NULL DEFAULT 0,          -- percent of the way to disabling
    warned_at        timestamptz,                          -- when `warned` was last set
    last_success_at  timestamptz,
    -- Seconds excused, including those until excused_until. See excused_time.
    excused_s        double precision NOT NULL DEFAULT 0,
    excused_until    timestamptz,
    FOREIGN KEY (tenant_id, live, endpoint_id) REFERENCES endpoint ON DELETE CASCADE
) WITH (fillfactor = 50);

-- Seconds excused until now. The retry budget of a delivery is time in which its endpoint accepts
-- requests: the time for which it sent Retry-After, or was paused or disabled, is excused. The deadline
-- of a delivery is on a clock that stops meanwhile, so excusing time changes no delivery.
CREATE FUNCTION excused_time(h endpoint_health) RETURNS double precision LANGUAGE sql STABLE
RETURN h.excused_s - greatest(extract(epoch FROM h.excused_until - now())::double precision, 0);

-- The exact bytes to send, once for each event with a subscribed endpoint. `stored_at` is the time of
-- the fan-out. It determines the partition, so deliveries have it too.
CREATE TABLE webhook_event (
    tenant_id  bigint NOT NULL,
    live       boolean NOT NULL,
    event_id   text COLLATE "C" NOT NULL,
    stored_at  timestamptz NOT NULL,
    txid       xid8,                        -- of the transaction that wrote the event
    type       text COLLATE "C" NOT NULL,
    lead_id    text COLLATE "C",
    version    bigint,
    body       bytea NOT NULL,
    PRIMARY KEY (stored_at, event_id)
) PARTITION BY RANGE (stored_at);

CREATE INDEX webhook_event_by_tenant ON webhook_event (tenant_id, live, stored_at);

CREATE SEQUENCE delivery_token_seq;

-- Only the unfinished deliveries, so the table stays small however long the service runs. A delivery
-- waits while leased_until is null, or is leased by the dispatcher that has the token. Deliveries with a
-- version are sent in the order of versions of their lead; a test or a resend has none.
CREATE TABLE delivery (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id     bigint NOT NULL,
    live          boolean NOT NULL,
    endpoint_id   text COLLATE "C" NOT NULL,
    event_id      text COLLATE "C" NOT NULL,
    stored_at     timestamptz NOT NULL,
    type          text COLLATE "C" NOT NULL,
    lead_id       text COLLATE "C",
    version       bigint,
    cause         text COLLATE "C" NOT NULL DEFAULT 'event'
        CHECK (cause IN ('event', 'replay', 'resend', 'test')),
    attempts      smallint NOT NULL DEFAULT 0,
    yields        boolean NOT NULL DEFAULT false,          -- to first attempts: a retry or a replay
    lost          smallint NOT NULL DEFAULT 0,             -- expired leases
    due_at        timestamptz NOT NULL,
    deadline_at   timestamptz,                             -- of retries, plus excused_time(); null: no attempt yet
    last_status   smallint,
    last_error    text,
    token         bigint,
    leased_until  timestamptz,
    created_at    timestamptz NOT NULL,
    CHECK ((token IS NULL) = (leased_until IS NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX delivery_by_due ON delivery (endpoint_id, yields, due_at, id)
    WHERE leased_until IS NULL;
CREATE INDEX delivery_by_lease ON delivery (leased_until) WHERE leased_until IS NOT NULL;
CREATE INDEX delivery_by_lead ON delivery (endpoint_id, lead_id, version, id)
    WHERE version IS NOT NULL;
CREATE INDEX delivery_by_endpoint ON delivery (endpoint_id, created_at, id);

-- The finished deliveries.
CREATE TABLE delivery_final (
    id           bigint NOT NULL,
    tenant_id    bigint NOT NULL,
    live         boolean NOT NULL,
    endpoint_id  text COLLATE "C" NOT NULL,
    event_id     text COLLATE "C" NOT NULL,
    stored_at    timestamptz NOT NULL,
    type         text COLLATE "C" NOT NULL,
    lead_id      text COLLATE "C",
    version      bigint,
    cause        text COLLATE "C" NOT NULL,
    outcome      text COLLATE "C" NOT NULL
        CHECK (outcome IN ('delivered', 'failed', 'cancelled', 'superseded')),
    attempts     smallint NOT NULL,
    last_status  smallint,
    last_error   text,
    created_at   timestamptz NOT NULL,
    finished_at  timestamptz NOT NULL
) PARTITION BY RANGE (finished_at);

CREATE INDEX delivery_final_by_endpoint ON delivery_final (endpoint_id, created_at, id);
CREATE INDEX delivery_final_by_event ON delivery_final (endpoint_id, event_id);
CREATE INDEX delivery_final_undelivered ON delivery_final (endpoint_id, outcome, created_at, id)
    WHERE outcome <> 'delivered';

-- The first delivery created since a time. Deliveries with larger ids are younger, whatever their dates.
-- The first minute after that time is left out, because transactions overlap. Null: there is none.
CREATE FUNCTION delivery_find_first(since timestamptz) RETURNS bigint LANGUAGE sql STABLE
RETURN (
    SELECT min(least(waiting.id, finished.id)) FROM endpoint e
    LEFT JOIN LATERAL (
        SELECT d.id FROM delivery d
        WHERE d.endpoint_id = e.id AND d.created_at >= since + interval '1 minute'
          AND d.created_at < now()
        ORDER BY d.created_at, d.id LIMIT 1) AS waiting ON true
    LEFT JOIN LATERAL (
        SELECT f.id FROM delivery_final f
        WHERE f.endpoint_id = e.id AND f.created_at >= since + interval '1 minute'
          AND f.created_at < now()
        ORDER BY f.created_at, f.id LIMIT 1) AS finished ON true);

-- One row for each HTTP request, or failed attempt to connect for one.
CREATE TABLE attempt (
    tenant_id    bigint NOT NULL,
    live         boolean NOT NULL,
    endpoint_id  text COLLATE "C" NOT NULL,
    delivery_id  bigint NOT NULL,
    number       smallint NOT NULL,
    at           timestamptz NOT NULL,
    status       smallint,                                 -- null: no response
    error        text COLLATE "C",                         -- null: 2xx
    dns_ms       real,                                     -- null: the connection was reused
    connect_ms   real,                                     -- TCP and TLS; null: reused
    wait_ms      real,                                     -- until the head of the response
    total_ms     real NOT NULL,
    body         bytea,                                    -- the first 16 KiB of the response
    truncated    boolean NOT NULL
) PARTITION BY RANGE (at);

CREATE INDEX attempt_by_delivery ON attempt (delivery_id, number);

-- A running or finished replay, which reads the endpoint's finished deliveries, oldest first.
CREATE TABLE replay (
    tenant_id         bigint NOT NULL,
    live              boolean NOT NULL,
    id                text COLLATE "C" NOT NULL,
    endpoint_id       text COLLATE "C" NOT NULL,
    since             timestamptz NOT NULL,
    until             timestamptz NOT NULL,
    only_undelivered  boolean NOT NULL,
    state             text COLLATE "C" NOT NULL DEFAULT 'running'
        CHECK (state IN ('running', 'done', 'cancelled')),
    at_created_at     timestamptz NOT NULL,                -- the last delivery that was read
    at_id             bigint NOT NULL DEFAULT 0,
    seen              bigint NOT NULL DEFAULT 0,
    sent              bigint NOT NULL DEFAULT 0,           -- deliveries created
    expired           bigint NOT NULL DEFAULT 0,           -- not sent: the event is no longer kept
    created_at        timestamptz NOT NULL,
    finished_at       timestamptz,
    PRIMARY KEY (tenant_id, live, id),
    FOREIGN KEY (tenant_id, live, endpoint_id) REFERENCES endpoint ON DELETE CASCADE
);

CREATE UNIQUE INDEX replay_running ON replay (endpoint_id) WHERE state = 'running';
CREATE INDEX replay_by_endpoint ON replay (endpoint_id, created_at);

-- The results of a reconciliation of the events in [since, upto): expected deliveries and differences.
CREATE TABLE reconciliation (
    since     timestamptz NOT NULL,
    upto      timestamptz NOT NULL,
    expected  bigint NOT NULL,
    missing   bigint NOT NULL,
    doubled   bigint NOT NULL,
    stray     bigint NOT NULL DEFAULT 0,  -- of events not in the log, or not subscribed
    tick      bigint,                     -- the last tick that was counted
    at        timestamptz PRIMARY KEY
);

INSERT INTO partition_plan (table_name, keep) VALUES
    ('webhook_event', '30 days'), ('delivery_final', '30 days'), ('attempt', '30 days');

SELECT create_partitions();

-- Endpoints are created and changed only while no fan-out of their tenant runs. Therefore an endpoint
-- receives exactly the events from its createdAt on (see event_is_since), and a fan-out never uses the
-- old state of an endpoint. Fan-outs share the gate; a change holds it exclusively for a moment.
CREATE FUNCTION fanout_gate_close(tenant_id bigint) RETURNS void LANGUAGE sql VOLATILE
RETURN pg_advisory_xact_lock(727, (tenant_id % 4096)::integer);

CREATE FUNCTION fanout_gate_share(tenant_ids bigint[]) RETURNS void LANGUAGE sql VOLATILE AS $$
    SELECT pg_advisory_xact_lock_shared(727, gate)
    FROM (SELECT DISTINCT (t % 4096)::integer AS gate FROM unnest(tenant_ids) AS t ORDER BY 1) AS g
$$;

-- True if an event was written since a time at which `since_id` was the newest id of the log. Ids decide,
-- because a clock may be set back. In the minute after that time the event's own time suffices as well,
-- because its id may have been drawn before by a transaction that overlaps. Not beyond: a clock that was
-- ahead would add old events.
CREATE FUNCTION event_is_since(
    at timestamptz, id bigint, since timestamptz, since_id bigint
) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN id > since_id OR at BETWEEN since AND since + interval '1 minute';

-- True if an endpoint subscribes to an event: by its type, or by a wildcard such as `lead.*` or `*`. A
-- wildcard leaves out the events about the endpoint itself; see workers/fanout.py.
CREATE FUNCTION event_is_wanted(
    type text, lead_id text, events text[], endpoint_id text
) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN type = ANY (events)
    OR lead_id <> endpoint_id AND events && ARRAY['*', split_part(type, '.', 1) || '.*'];

-- The first statement of a fan-out, in one round trip. A separate query reads the endpoints, so that it
-- sees their state after the gate has been taken.
--
-- The commit does not wait for the disk: a crash undoes the deliveries of a fan-out together with the
-- move of its cursor, and they are created again.
CREATE FUNCTION fanout_begin(tenant_ids bigint[])
RETURNS SETOF endpoint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM fanout_gate_share(tenant_ids);
    RETURN QUERY SELECT e.* FROM endpoint e WHERE e.tenant_id = ANY (tenant_ids) ORDER BY e.id;
END
$$;

-- The log also has events of webhooks: `webhook.failing`, `webhook.disabled`, `webhook.expired`. They
-- have the id of the webhook in place of the id of a lead. Every key may read the log, so `data` omits
-- the URL, which may have a password.
CREATE TYPE webhook_on_wire AS (
    "id" text, "description" text, "status" text, "statusReason" text, "failures" integer,
    "failingSince" text, "lastSuccessAt" text, "disablesAt" text);

CREATE TYPE webhook_event_data AS ("webhook" webhook_on_wire, "version" bigint, "actor" text);

CREATE TYPE webhook_expiry AS ("count" bigint, "since" text, "until" text);

CREATE TYPE webhook_expired_data AS (
    "webhook" webhook_on_wire, "expired" webhook_expiry, "version" bigint, "actor" text);

-- An endpoint is disabled no sooner than a day after its last warning; see endpoint_disable_failing.
CREATE FUNCTION webhook_show(e endpoint, h endpoint_health) RETURNS webhook_on_wire
LANGUAGE sql STABLE
RETURN ROW(e.id, e.description, e.status, e.status_reason, h.failures, iso_ms(h.failing_since),
    iso_ms(h.last_success_at),
    CASE WHEN e.status = 'active' THEN iso_ms(greatest(h.failing_since + interval '5 days',
        CASE WHEN h.warned >= 80 THEN h.warned_at + interval '1 day' END)) END
)::webhook_on_wire;
