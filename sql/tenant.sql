-- name: tenant_insert
-- One row with the id; no row if the name is taken.
INSERT INTO tenant (name) VALUES ($1) ON CONFLICT (name) DO NOTHING RETURNING id;

-- name: tenant_get_by_name
SELECT id, name, created_at FROM tenant WHERE name = $1;

-- name: tenant_lock
-- $1 tenant. Serializes transactions of a tenant; foreign keys do not wait for this lock.
SELECT FROM tenant WHERE id = $1 FOR NO KEY UPDATE;

-- name: tenant_set_plan
-- $1 name, $2 plan (null: the default). No row: there is no such tenant.
UPDATE tenant SET plan = $2 WHERE name = $1 RETURNING id;

-- name: tenant_set_phone_region
-- $1 name, $2 country code (null: none). No row: there is no such tenant.
UPDATE tenant SET phone_region = $2 WHERE name = $1 RETURNING id;

-- name: tenant_list
SELECT t.id, t.name, t.plan, t.phone_region, t.created_at, count(k.id) FILTER (WHERE k.revoked_at IS NULL) AS active_keys
FROM tenant t LEFT JOIN api_key k ON k.tenant_id = t.id
GROUP BY t.id ORDER BY t.id;

-- name: number_key_get
SELECT key FROM number_key;
