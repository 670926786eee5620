-- name: plan_list
-- Every plan, with its stricter routes as {"POST /leads": 30} and how many tenants have it.
SELECT p.name, p.per_minute, p.per_day, p.concurrent, coalesce(r.routes, '{}')::text AS routes,
    (SELECT count(*) FROM tenant t WHERE t.plan = p.name) AS tenants
FROM plan p LEFT JOIN LATERAL (
    SELECT json_object_agg(r.method || ' ' || r.path, r.per_minute ORDER BY r.method, r.path)
        AS routes
    FROM plan_route r WHERE r.plan = p.name
) AS r ON true
ORDER BY p.per_minute NULLS LAST, p.name;

-- name: plan_save
-- $1 name, $2 requests per minute, $3 per day, $4 concurrent; $5 methods and $6 paths of routes, $7
-- their limits per minute. Creates the plan or replaces all its limits.
WITH saved AS (
    INSERT INTO plan (name, per_minute, per_day, concurrent) VALUES ($1, $2, $3, $4)
    ON CONFLICT (name) DO UPDATE SET per_minute = $2, per_day = $3, concurrent = $4
    RETURNING name
), gone AS (
    DELETE FROM plan_route WHERE plan = $1
      AND (method, path) NOT IN (
          SELECT r.method, r.path FROM unnest($5::text[], $6::text[]) AS r (method, path))
)
INSERT INTO plan_route (plan, method, path, per_minute)
SELECT s.name, r.method, r.path, r.per_minute
FROM saved s CROSS JOIN unnest($5::text[], $6::text[], $7::integer[])
    AS r (method, path, per_minute)
ON CONFLICT (plan, method, path) DO UPDATE SET per_minute = excluded.per_minute;

-- name: plan_delete
-- $1 name. No row: there is no such plan. Fails while a tenant has it.
DELETE FROM plan WHERE name = $1 RETURNING name;

-- name: plan_find
SELECT name FROM plan WHERE name = $1;
