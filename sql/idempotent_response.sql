-- Responses stored under an Idempotency-Key. The statements that create and change a lead store
-- their responses themselves: see lead.sql.

-- name: idempotent_response_get_many
-- $1 tenants, $2 modes, $3 keys: the response stored under each key that has one.
SELECT r.tenant_id, r.live, r.key, r.request, r.status, r.location, r.etag, r.body, r.sealed
FROM unnest($1::bigint[], $2::boolean[], $3::uuid[]) AS w (tenant_id, live, key)
CROSS JOIN LATERAL (
    SELECT tenant_id, live, key, request, status, location, etag, body, sealed
    FROM idempotent_response
    WHERE tenant_id = w.tenant_id AND live = w.live AND key = w.key OFFSET 0
) AS r;

-- name: idempotent_response_lock
-- $1 tenant, $2 mode, $3 key. True if this transaction now holds the key's lock, until its end;
-- false if another transaction holds it.
SELECT pg_try_advisory_xact_lock(hashtextextended($1::bigint || ($2::boolean)::text || $3::uuid, 0));

-- name: idempotent_response_insert_if_new
-- $1 tenant, $2 mode, $3 key, $4 request, $5 status, $6 location, $7 etag, $8 body, $9 sealed.
-- No row: a response is stored under the key already.
INSERT INTO idempotent_response (tenant_id, live, key, request, status, location, etag, body, sealed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (tenant_id, live, key) DO NOTHING
RETURNING key;

-- name: idempotent_response_delete_expired
-- $1 the age in seconds at which a response expires, $2 the most rows to delete. Returns one row
-- per deleted response. Rows that another transaction is deleting are skipped.
DELETE FROM idempotent_response AS r
USING (
    SELECT tenant_id, live, key FROM idempotent_response
    WHERE created_at < now() - make_interval(secs => $1)
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
) AS old
WHERE r.tenant_id = old.tenant_id AND r.live = old.live AND r.key = old.key
RETURNING r.key;

-- name: idempotent_response_list_for_key_rotation
-- $1 the id of the current SECRET_KEY: up to 500 responses sealed with another key, locked.
SELECT tenant_id, live, key, sealed FROM idempotent_response
WHERE sealed IS NOT NULL AND substr(sealed, 1, 4) <> $1
LIMIT 500 FOR UPDATE;

-- name: idempotent_response_rekey
-- $1 tenant, $2 mode, $3 key, $4 sealed.
UPDATE idempotent_response SET sealed = $4 WHERE tenant_id = $1 AND live = $2 AND key = $3;
