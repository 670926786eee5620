-- name: api_key_insert
-- $8 time of expiry (null: never). Returns no row if $8 is past.
INSERT INTO api_key (id, tenant_id, live, name, scope, hash, last4, expires_at)
SELECT $1, $2, $3, $4, $5, $6, $7, $8
WHERE $8::timestamptz IS NULL OR $8 > clock_timestamp()
RETURNING id, name, scope, live, last4, iso_ms(created_at) AS created_at,
    iso_ms(expires_at) AS expires_at, iso_ms(last_used_at) AS last_used_at;

-- name: api_key_get_many_by_hash
-- $1 hashes, $2 the plan of tenants without a plan (null: no limits). The statement has no
-- tenant, because it authenticates callers. The returned plan is JSON (null: no limits).
SELECT k.hash, k.id, k.tenant_id, k.live, k.scope, t.phone_region, p.plan
FROM api_key k
JOIN tenant t ON t.id = k.tenant_id
LEFT JOIN LATERAL (
    SELECT json_build_object('name', p.name, 'per_minute', p.per_minute, 'per_day', p.per_day,
        'concurrent', p.concurrent, 'routes', (
            SELECT coalesce(json_object_agg(r.method || ' ' || r.path, r.per_minute), '{}')
            FROM plan_route r WHERE r.plan = p.name))::text AS plan
    FROM plan p WHERE p.name = coalesce(t.plan, $2)
) AS p ON true
WHERE k.hash = ANY ($1::bytea[])
  AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now());

-- name: api_key_list
-- $1 tenant, $2 mode of the caller. Returns one row: the valid keys as JSON, separated by commas, the
-- oldest first (null: there is none). The columns have the names and order of the struct ApiKey. Here
-- and in the statements below with `live <= $2`, a live caller reaches the keys of both modes, a test
-- caller test keys only.
SELECT string_agg(row_to_json(o)::text, ',') AS body FROM (
    SELECT k.id, k.name, k.scope, CASE WHEN k.live THEN 'live' ELSE 'test' END AS mode, k.last4,
        iso_ms(k.created_at) AS "createdAt", iso_ms(k.expires_at) AS "expiresAt",
        iso_ms(k.last_used_at) AS "lastUsedAt"
    FROM api_key k
    WHERE k.tenant_id = $1 AND k.live <= $2
      AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
    ORDER BY k.created_at, k.id
) AS o;

-- name: api_key_count
-- $1 tenant, $2 mode. Returns the number of valid keys. It uses clock_timestamp(), because a rotation
-- earlier in the transaction may have ended a key after now().
SELECT count(*) FROM api_key
WHERE tenant_id = $1 AND live = $2
  AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp());

-- name: api_key_revoke
UPDATE api_key SET revoked_at = now_ms()
WHERE tenant_id = $1 AND live <= $2 AND id = $3
  AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
RETURNING id;

-- name: api_key_find
SELECT live, iso_ms(rotated_at) AS rotated_at, iso_ms(expires_at) AS expires_at FROM api_key
WHERE tenant_id = $1 AND live <= $2 AND id = $3
  AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- name: api_key_rotate
-- $4 id, $5 hash, $6 last four characters of the new key. The new key keeps the old expiry.
-- The old key stays valid for $7 seconds, but not longer than before. No row: there is no such key, or
-- it was rotated before, and its expiry is no longer that of its place.
WITH old AS MATERIALIZED (
    SELECT id, tenant_id, live, name, scope, expires_at FROM api_key
    WHERE tenant_id = $1 AND live <= $2 AND id = $3
      AND revoked_at IS NULL AND rotated_at IS NULL
      AND (expires_at IS NULL OR expires_at > now())
    FOR UPDATE
), ended AS (
    UPDATE api_key AS k
    SET rotated_at = now_ms(),
        expires_at = least(k.expires_at, now_ms() + make_interval(secs => $7))
    FROM old o WHERE k.tenant_id = $1 AND k.live = o.live AND k.id = o.id
)
INSERT INTO api_key (id, tenant_id, live, name, scope, hash, last4, expires_at)
SELECT $4, o.tenant_id, o.live, o.name, o.scope, $5, $6, o.expires_at FROM old o
RETURNING id, name, scope, live, last4, iso_ms(created_at) AS created_at,
    iso_ms(expires_at) AS expires_at, iso_ms(last_used_at) AS last_used_at;

-- name: api_key_touch_many
-- $1 ids, $2 seconds since the last use of each, as seen by one process. A stored time in the future is
-- of a clock that was ahead.
UPDATE api_key k SET last_used_at = least(now(), greatest(
    k.last_used_at, date_trunc('seconds', now() - make_interval(secs => u.age_s))))
FROM unnest($1::text[], $2::float8[]) AS u (id, age_s) WHERE k.id = u.id;
