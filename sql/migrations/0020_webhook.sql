-- Webhooks: endpoints, the events they are to get, and how far each delivery has come.

-- `disabled` is our doing (410, days of failure), `paused` the owner's. Either way deliveries are
-- made and wait: held is what a pending delivery of such an endpoint is called, not a state.
CREATE TABLE endpoint (
    tenant_id      bigint NOT NULL,
    live           boolean NOT NULL,
    id             text COLLATE "C" NOT NULL UNIQUE,
    url            text NOT NULL CHECK (char_length(url) <= 2048),
    events         text[] NOT NULL CHECK (cardinality(events) > 0),
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
    headers        bytea,                                  -- sealed JSON object, or null: none
    header_names   text[] NOT NULL DEFAULT '{}',
    -- Deliveries made before this are being cancelled; until that is done nothing is sent.
    skip_before    timestamptz,
    events_since   timestamptz NOT NULL,                   -- for how long `events` has been so
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, live, id)
);

-- Sealed by service/secretbox.py; all that have not expired sign.
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

-- What the dispatcher learns of an endpoint; apart, because it changes all the time.
CREATE TABLE endpoint_health (
    tenant_id        bigint NOT NULL,
    live             boolean NOT NULL,
    endpoint_id      text COLLATE "C" PRIMARY KEY,
    closed_until     timestamptz,                          -- breaker open, Retry-After
    trips            smallint NOT NULL DEFAULT 0,          -- of the breaker, since it last closed
    failures         integer NOT NULL DEFAULT 0,           -- since the last success
    failing_since    timestamptz,
    warned           smallint NOT NULL DEFAULT 0,          -- percent of the way to disabling
    last_success_at  timestamptz,
    FOREIGN KEY (tenant_id, live, endpoint_id) REFERENCES endpoint ON DELETE CASCADE
) WITH (fillfactor = 50);

-- The exact bytes to send, once per event that some endpoint wants. `stored_at` is when fan-out
-- met the event: it picks the partition, so deliveries carry it too.
CREATE TABLE webhook_event (
    tenant_id  bigint NOT NULL,
    live       boolean NOT NULL,
    event_id   text COLLATE "C" NOT NULL,
    stored_at  timestamptz NOT NULL,
    type       text COLLATE "C" NOT NULL,
    lead_id    text COLLATE "C",
    version    bigint,
    body       bytea NOT NULL,
    PRIMARY KEY (stored_at, event_id)
) PARTITION BY RANGE (stored_at);

CREATE INDEX webhook_event_by_tenant ON webhook_event (tenant_id, live, stored_at);

CREATE SEQUENCE delivery_token_seq;

-- The unfinished deliveries and no others, so it stays small however long the service runs.
-- Pending while leased_until is null; leased by whoever knows the token. One with a lead and a
-- version goes in their order, one without (a test, a resend) whenever it likes.
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
    yields        boolean NOT NULL DEFAULT false,          -- to first attempts: a retry, a replay
    lost          smallint NOT NULL DEFAULT 0,             -- leases that ran out
    due_at        timestamptz NOT NULL,
    deadline_at   timestamptz,                             -- of the retries; null: not yet tried
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

-- The finished ones.
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

-- One row per HTTP request we made, or tried to make.
CREATE TABLE attempt (
    tenant_id    bigint NOT NULL,
    live         boolean NOT NULL,
    endpoint_id  text COLLATE "C" NOT NULL,
    delivery_id  bigint NOT NULL,
    number       smallint NOT NULL,
    at           timestamptz NOT NULL,
    status       smallint,                                 -- null: no answer
    error        text COLLATE "C",                         -- null: 2xx
    dns_ms       real,                                     -- null: connection was there already
    connect_ms   real,                                     -- TCP and TLS; null: likewise
    wait_ms      real,                                     -- until the answer's head
    total_ms     real NOT NULL,
    body         bytea,                                    -- the first 16 KiB of the answer
    truncated    boolean NOT NULL
) PARTITION BY RANGE (at);

CREATE INDEX attempt_by_delivery ON attempt (delivery_id, number);

-- A replay under way or done: goes through the endpoint's finished deliveries, oldest first.
CREATE TABLE replay (
    tenant_id         bigint NOT NULL,
    live              boolean NOT NULL,
    id                text COLLATE "C" NOT NULL,
    endpoint_id       text COLLATE "C" NOT NULL,
    since             timestamptz NOT NULL,
    until             timestamptz NOT NULL,
    only_undelivered  boolean NOT NULL,
    state             text COLLATE "C" NOT NULL DEFAULT 'running'
        CHECK (state IN ('running', 'done')),
    at_created_at     timestamptz NOT NULL,                -- how far it has come
    at_id             bigint NOT NULL DEFAULT 0,
    seen              bigint NOT NULL DEFAULT 0,
    sent              bigint NOT NULL DEFAULT 0,           -- deliveries made, that is
    created_at        timestamptz NOT NULL,
    finished_at       timestamptz,
    PRIMARY KEY (tenant_id, live, id),
    FOREIGN KEY (tenant_id, live, endpoint_id) REFERENCES endpoint ON DELETE CASCADE
);

CREATE UNIQUE INDEX replay_running ON replay (endpoint_id) WHERE state = 'running';

-- Each row: of the events in [since, upto), how many deliveries there should be, how many are not.
CREATE TABLE reconciliation (
    since     timestamptz NOT NULL,
    upto      timestamptz NOT NULL,
    expected  bigint NOT NULL,
    missing   bigint NOT NULL,
    doubled   bigint NOT NULL,
    at        timestamptz PRIMARY KEY
);

INSERT INTO partition_plan (table_name, keep) VALUES
    ('webhook_event', '30 days'), ('delivery_final', '30 days'), ('attempt', '30 days');
SELECT create_partitions();

-- Endpoints are made and changed while no fan-out of their tenant runs: so it is exact that an
-- endpoint gets what happens from its createdAt on, and that what fan-out wrote for a paused
-- endpoint it wrote knowing so. Fan-outs share the gate, a change has it alone for a moment.
CREATE FUNCTION fanout_gate_close(tenant_id bigint) RETURNS void LANGUAGE sql VOLATILE
RETURN pg_advisory_xact_lock(727, (tenant_id % 4096)::integer);

CREATE FUNCTION fanout_gate_share(tenant_ids bigint[]) RETURNS void LANGUAGE sql VOLATILE AS $$
    SELECT pg_advisory_xact_lock_shared(727, gate)
    FROM (SELECT DISTINCT (t % 4096)::integer AS gate FROM unnest(tenant_ids) AS t ORDER BY 1) AS g
$$;
