-- The first response to each Idempotency-Key. The statement or transaction that did the work stores
-- it, so that neither exists without the other. The janitor deletes it a day later.
CREATE TABLE idempotent_response (
    tenant_id   bigint NOT NULL,
    live        boolean NOT NULL,
    key         uuid NOT NULL,         -- digest of route and Idempotency-Key
    request     uuid NOT NULL,         -- digest of the path's ids, If-Match and body
    status      smallint NOT NULL CHECK (status BETWEEN 200 AND 499),
    location    text,
    etag        text,
    body        text,                  -- as it was sent
    sealed      bytea,                 -- the encrypted body, if it holds a secret
    created_at  timestamptz NOT NULL DEFAULT now_ms(),
    PRIMARY KEY (tenant_id, live, key),
    CONSTRAINT idempotent_response_has_one_body CHECK (num_nonnulls(body, sealed) = 1)
);

CREATE INDEX idempotent_response_by_created_at ON idempotent_response (created_at);
