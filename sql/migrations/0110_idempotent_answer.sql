-- The first answer to each Idempotency-Key, written by the statement that did what was asked, so
-- that neither is there without the other. The janitor removes it a day later.
CREATE TABLE idempotent_answer (
    tenant_id   bigint NOT NULL,
    live        boolean NOT NULL,
    key         uuid NOT NULL,         -- digest of route and Idempotency-Key
    request     uuid NOT NULL,         -- digest of what was asked: path, If-Match, body
    status      smallint NOT NULL CHECK (status BETWEEN 200 AND 499),
    location    text,
    etag        text,
    body        text,                  -- as it went out
    sealed      bytea,                 -- instead of body where that holds a secret
    created_at  timestamptz NOT NULL DEFAULT now_ms(),
    PRIMARY KEY (tenant_id, live, key),
    CONSTRAINT idempotent_answer_has_one_body CHECK (num_nonnulls(body, sealed) = 1)
);

CREATE INDEX idempotent_answer_by_created_at ON idempotent_answer (created_at);

-- `"field":{"from":…,"to":…}` where they differ, else null.
CREATE FUNCTION show_change(field text, old text, new text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN old IS DISTINCT FROM new
    THEN to_json(field) || ':' || row_to_json(ROW(to_json(old), to_json(new))::field_change) END;
