-- Answers to an Idempotency-Key. Those to creating and changing a lead are written in lead.sql, by
-- the statement that writes the lead.

-- name: idempotent_answer_get_many
-- $1 tenants, $2 modes, $3 keys: the answer to each that has one.
SELECT a.tenant_id, a.live, a.key, a.request, a.status, a.location, a.etag, a.body, a.sealed
FROM unnest($1::bigint[], $2::boolean[], $3::uuid[]) AS w (tenant_id, live, key)
CROSS JOIN LATERAL (
    SELECT tenant_id, live, key, request, status, location, etag, body, sealed
    FROM idempotent_answer
    WHERE tenant_id = w.tenant_id AND live = w.live AND key = w.key OFFSET 0
) AS a;

-- name: idempotent_answer_lock
-- $1 tenant, $2 mode, $3 key: whether nobody else is at work under this key; held until the end of
-- the transaction.
SELECT pg_try_advisory_xact_lock(hashtextextended($1::bigint || ($2::boolean)::text || $3::uuid, 0));

-- name: idempotent_answer_insert_if_new
-- $1 tenant, $2 mode, $3 key, $4 request, $5 status, $6 location, $7 etag, $8 body, $9 sealed.
-- No row: the key has an answer already.
INSERT INTO idempotent_answer (tenant_id, live, key, request, status, location, etag, body, sealed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (tenant_id, live, key) DO NOTHING
RETURNING key;

-- name: idempotent_answer_delete_expired
-- $1 seconds an answer is kept, $2 how many to delete at most; each row a deleted one. Whoever else
-- deletes the same ones is not waited for.
DELETE FROM idempotent_answer AS a
USING (
    SELECT tenant_id, live, key FROM idempotent_answer
    WHERE created_at < now() - make_interval(secs => $1)
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
) AS old
WHERE a.tenant_id = old.tenant_id AND a.live = old.live AND a.key = old.key
RETURNING a.key;

-- name: idempotent_answer_list_for_rekey
-- $1 the id of the current SECRET_KEY: some answers sealed with another, locked.
SELECT tenant_id, live, key, sealed FROM idempotent_answer
WHERE sealed IS NOT NULL AND substr(sealed, 1, 4) <> $1
LIMIT 500 FOR UPDATE;

-- name: idempotent_answer_rekey
-- $1 tenant, $2 mode, $3 key, $4 sealed.
UPDATE idempotent_answer SET sealed = $4 WHERE tenant_id = $1 AND live = $2 AND key = $3;
