-- Tenants, their API keys and plans.

-- The rate limits of a plan, for each API key of a tenant; null: no limit. Minutes and days are
-- calendar minutes and days in UTC.
CREATE TABLE plan (
    name        text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9-]{0,39}$'),
    per_minute  integer CHECK (per_minute > 0),
    per_day     integer CHECK (per_day > 0),
    concurrent  integer CHECK (concurrent > 0)
);

-- Stricter limits for single routes, by method and path in the route table: POST, /leads.
CREATE TABLE plan_route (
    plan        text COLLATE "C" NOT NULL REFERENCES plan (name) ON DELETE CASCADE,
    method      text COLLATE "C" NOT NULL CHECK (method ~ '^[A-Z]{3,7}$'),
    path        text COLLATE "C" NOT NULL CHECK (path ~ '^/[!-~]{1,200}$'),
    per_minute  integer NOT NULL CHECK (per_minute > 0),
    PRIMARY KEY (plan, method, path)
);

CREATE TABLE tenant (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL UNIQUE CHECK (char_length(name) BETWEEN 1 AND 100),
    plan        text COLLATE "C" REFERENCES plan (name),  -- null: DEFAULT_PLAN
    -- The country of phone numbers without a country code (ISO 3166-1); null: they have none.
    phone_region  text COLLATE "C" CHECK (phone_region ~ '^[A-Z]{2}$'),
    created_at  timestamptz NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp())
);

-- Only the SHA-256 of a key is stored. A key has 190 random bits, so a slow hash would add nothing.
CREATE TABLE api_key (
    id            text COLLATE "C" PRIMARY KEY,
    tenant_id     bigint NOT NULL REFERENCES tenant (id),
    live          boolean NOT NULL,
    name          text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    scope         text NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    hash          bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    last4         text NOT NULL CHECK (char_length(last4) = 4),
    created_at    timestamptz NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp()),
    expires_at    timestamptz,
    revoked_at    timestamptz,
    rotated_at    timestamptz,  -- since then it ends at expires_at, and another key has taken its place
    last_used_at  timestamptz
);

CREATE INDEX api_key_by_tenant ON api_key (tenant_id, created_at, id);

-- One row: the key that hides numbers in ids and cursors; see service/database/hidden_numbers.py.
CREATE TABLE number_key (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    key       bytea NOT NULL CHECK (octet_length(key) = 32)
);

INSERT INTO number_key (key)
VALUES (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));

-- The three plans of the reference product, and one without limits.
INSERT INTO plan (name, per_minute, per_day, concurrent) VALUES
    ('starter', 60, 10000, 5), ('pro', 300, 100000, 25), ('enterprise', 1500, NULL, 100),
    ('unlimited', NULL, NULL, NULL);

INSERT INTO plan_route (plan, method, path, per_minute) VALUES
    ('starter', 'POST', '/leads', 30), ('pro', 'POST', '/leads', 150),
    ('enterprise', 'POST', '/leads', 750),
    ('starter', 'GET', '/leads/search', 20), ('pro', 'GET', '/leads/search', 100),
    ('enterprise', 'GET', '/leads/search', 500);
