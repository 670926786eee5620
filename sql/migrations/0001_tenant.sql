-- Who may call: tenants and their API keys.

CREATE TABLE tenant (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL UNIQUE CHECK (char_length(name) BETWEEN 1 AND 100),
    created_at  timestamptz NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp())
);

-- Only the SHA-256 of a key is kept: a key has 190 random bits, so a slow hash would add nothing.
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
    last_used_at  timestamptz
);

CREATE INDEX api_key_by_tenant ON api_key (tenant_id, created_at, id);
