-- name: api_key_insert
INSERT INTO api_key (id, tenant_id, live, name, scope, hash, last4, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING id, name, scope, live, last4, iso_ms(created_at) AS created_at,
    iso_ms(expires_at) AS expires_at, iso_ms(last_used_at) AS last_used_at;

-- name: api_key_get_many_by_hash
-- $1 hashes, $2 the plan of tenants that have none of their own (null: no limits). The one statement
-- without a tenant: it finds out who is calling, and under which plan, as JSON (null: none).
SELECT k.hash, k.id, k.tenant_id, k.live, k.scope, p.plan
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
-- The keys of a tenant that still work; $2 the caller's mode. In this and the next three a live key
-- reaches keys of both modes, a test key test keys only.
SELECT id, name, scope, live, last4, iso_ms(created_at) AS created_at,
    iso_ms(expires_at) AS expires_at, iso_ms(last_used_at) AS last_used_at
FROM api_key
WHERE tenant_id = $1 AND live <= $2
  AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
ORDER BY created_at, id;

-- name: api_key_revoke
UPDATE api_key SET revoked_at = now_ms()
WHERE tenant_id = $1 AND live <= $2 AND id = $3
  AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
RETURNING id;

-- name: api_key_get_mode
SELECT live FROM api_key
WHERE tenant_id = $1 AND live <= $2 AND id = $3
  AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- name: api_key_rotate
-- $4 id, $5 hash, $6 last four of the new key, which expires when the old one would have. The old
-- one works on for $7 seconds, and never longer than it would have.
WITH old AS MATERIALIZED (
    SELECT id, tenant_id, live, name, scope, expires_at FROM api_key
    WHERE tenant_id = $1 AND live <= $2 AND id = $3
      AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    FOR UPDATE
), ended AS (
    UPDATE api_key AS k
    SET expires_at = least(k.expires_at, now_ms() + make_interval(secs => $7))
    FROM old o WHERE k.tenant_id = $1 AND k.live = o.live AND k.id = o.id
)
INSERT INTO api_key (id, tenant_id, live, name, scope, hash, last4, expires_at)
SELECT $4, o.tenant_id, o.live, o.name, o.scope, $5, $6, o.expires_at FROM old o
RETURNING id, name, scope, live, last4, iso_ms(created_at) AS created_at,
    iso_ms(expires_at) AS expires_at, iso_ms(last_used_at) AS last_used_at;

-- name: api_key_touch_many
-- $1 ids, $2 when each was last used, as seen by one process.
UPDATE api_key k SET last_used_at = greatest(k.last_used_at, u.at)
FROM unnest($1::text[], $2::timestamptz[]) AS u (id, at) WHERE k.id = u.id;
