-- name: webhook_event_insert_many
-- $1 tenants, $2 modes, $3 ids, $4 types, $5 leads, $6 versions, $7 bodies: events that some
-- endpoint wants. Together with their deliveries, so now() is the same for both.
INSERT INTO webhook_event (tenant_id, live, event_id, stored_at, type, lead_id, version, body)
SELECT tenant_id, live, event_id, now(), type, lead_id, version, body
FROM unnest($1::bigint[], $2::boolean[], $3::text[], $4::text[], $5::text[], $6::bigint[],
    $7::bytea[]) AS e (tenant_id, live, event_id, type, lead_id, version, body);

-- name: delivery_insert_many
-- $1 tenants, $2 modes, $3 endpoints, $4 events, $5 types, $6 leads, $7 versions; in log order.
INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, version,
    due_at, created_at)
SELECT d.tenant_id, d.live, d.endpoint_id, d.event_id, now(), d.type, d.lead_id, d.version, now(), now()
FROM unnest($1::bigint[], $2::boolean[], $3::text[], $4::text[], $5::text[], $6::text[],
    $7::bigint[]) WITH ORDINALITY
    AS d (tenant_id, live, endpoint_id, event_id, type, lead_id, version, place)
ORDER BY d.place;

-- name: delivery_claim_many
-- $1 of $2 the part of the lanes that is ours; $3 lanes and $4 how many more each may have in
-- flight, $5 how many one that is not in $3; $6 lanes and $7 deliveries at most; $8 seconds of
-- lease beyond the endpoint's timeout, $9 that timeout where it has none of its own in ms;
-- $10 whether deliveries that wait for another try may be claimed.
-- A lane is what waits for one endpoint. The lanes that are due are found by skipping through the
-- index, so what that costs depends on the number of lanes, not of deliveries. Of each lane we
-- look at a few more than we take: one behind an unfinished earlier one of its lead stays, put off
-- by a time that grows with its distance, so that it is not looked at again and again;
-- delivery_settle_many calls it when its turn has come. At least one row: how many were put off.
WITH RECURSIVE lane AS (
    (SELECT d.endpoint_id, d.retried, d.due_at FROM delivery d WHERE d.leased_until IS NULL
     ORDER BY d.endpoint_id, d.retried, d.due_at LIMIT 1)
    UNION ALL
    SELECT n.endpoint_id, n.retried, n.due_at FROM lane l CROSS JOIN LATERAL (
        SELECT d.endpoint_id, d.retried, d.due_at FROM delivery d
        WHERE d.leased_until IS NULL AND (d.endpoint_id, d.retried) > (l.endpoint_id, l.retried)
        ORDER BY d.endpoint_id, d.retried, d.due_at LIMIT 1) AS n
), open AS MATERIALIZED (
    SELECT l.endpoint_id, l.retried, coalesce(k.want, $5::integer) AS want,
        coalesce(e.timeout_ms, $9::integer) AS timeout_ms
    FROM lane l
    JOIN endpoint e ON e.id = l.endpoint_id AND e.status = 'active' AND e.skip_before IS NULL
    JOIN endpoint_health h ON h.endpoint_id = l.endpoint_id
    LEFT JOIN unnest($3::text[], $4::integer[]) AS k (endpoint_id, want)
        ON k.endpoint_id = l.endpoint_id
    WHERE l.due_at <= now() AND (h.closed_until IS NULL OR h.closed_until <= now())
      AND hashtextextended(l.endpoint_id, 0) & ($2::bigint - 1) = $1::bigint
      AND coalesce(k.want, $5::integer) > 0 AND (NOT l.retried OR $10::boolean)
    ORDER BY random() LIMIT $6
), found AS MATERIALIZED (
    SELECT d.id, o.endpoint_id, o.retried, o.want, o.timeout_ms, d.due_at, d.version,
        head.version AS head_version, head.due_at AS head_due_at
    FROM open o
    CROSS JOIN LATERAL (
        SELECT c.id, c.lead_id, c.version, c.due_at FROM delivery c
        WHERE c.endpoint_id = o.endpoint_id AND c.retried = o.retried
          AND c.leased_until IS NULL AND c.due_at <= now()
        ORDER BY c.due_at, c.id LIMIT o.want * 2 + 8
        FOR UPDATE SKIP LOCKED
    ) AS d
    LEFT JOIN LATERAL (
        SELECT p.version, p.due_at FROM delivery p
        WHERE p.endpoint_id = o.endpoint_id AND p.lead_id = d.lead_id AND p.version IS NOT NULL
          AND (p.version, p.id) < (d.version, d.id)
        ORDER BY p.version, p.id LIMIT 1
    ) AS head ON d.version IS NOT NULL
), ranked AS (
    SELECT f.id, f.timeout_ms, f.want,
        row_number() OVER (PARTITION BY f.endpoint_id ORDER BY f.retried, f.due_at, f.id) AS place
    FROM found f WHERE f.head_version IS NULL
), chosen AS (
    SELECT r.id, r.timeout_ms FROM ranked r WHERE r.place <= r.want ORDER BY r.place LIMIT $7
), claimed AS (
    UPDATE delivery d SET token = nextval('delivery_token_seq'), attempts = d.attempts + 1,
        leased_until = now() + make_interval(secs => $8 + c.timeout_ms / 1000.0)
    FROM chosen c WHERE d.id = c.id
    RETURNING d.id, d.token, d.endpoint_id, d.event_id, d.stored_at, d.type, d.attempts,
        extract(epoch FROM d.deadline_at - now())::float8 AS left_s
), deferred AS (
    UPDATE delivery d SET due_at = greatest(f.head_due_at, now())
        + least(make_interval(secs => 1 + 0.02 * (f.version - f.head_version)), interval '1 min')
    FROM found f WHERE d.id = f.id AND f.head_version IS NOT NULL
    RETURNING d.id
)
SELECT c.id, c.token, c.endpoint_id, c.event_id, c.type, c.attempts, c.left_s, e.body, n.deferred
FROM (SELECT count(*) AS deferred FROM deferred) AS n
LEFT JOIN claimed c ON true
LEFT JOIN webhook_event e ON e.stored_at = c.stored_at AND e.event_id = c.event_id
ORDER BY c.id;

-- name: delivery_settle_many
-- One element per attempt in each array: $1 delivery, $2 token, $3 verdict (delivered, failed or
-- retry), $4 seconds until the next try, $5 seconds of budget left then, $6 number, $7 when it
-- began, $8 status, $9 error, $10 dns, $11 connect, $12 wait, $13 total in ms, $14 body,
-- $15 truncated, $16 tenant, $17 mode, $18 endpoint. A row per delivery that was still ours; what
-- is missing had gone to somebody else, and only its attempt is kept.
WITH input AS MATERIALIZED (
    SELECT i.* FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::float8[], $5::float8[],
        $6::smallint[], $7::timestamptz[], $8::smallint[], $9::text[], $10::real[], $11::real[],
        $12::real[], $13::real[], $14::bytea[], $15::boolean[], $16::bigint[], $17::boolean[],
        $18::text[])
    AS i (id, token, verdict, due_in_s, budget_s, number, at, status, error, dns_ms, connect_ms,
        wait_ms, total_ms, body, truncated, tenant_id, live, endpoint_id)
), finished AS (
    DELETE FROM delivery d USING input i
    WHERE d.id = i.id AND d.token = i.token AND i.verdict <> 'retry'
    RETURNING d.id, d.tenant_id, d.live, d.endpoint_id, d.event_id, d.stored_at, d.type, d.lead_id,
        d.version, d.cause, i.verdict, d.attempts, i.status, i.error, d.created_at
), filed AS (
    INSERT INTO delivery_final (id, tenant_id, live, endpoint_id, event_id, stored_at, type,
        lead_id, version, cause, outcome, attempts, last_status, last_error, created_at,
        finished_at)
    SELECT id, tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, version, cause,
        verdict, attempts, status, error, created_at, now()
    FROM finished
), retried AS (
    UPDATE delivery d SET token = NULL, leased_until = NULL, retried = true,
        due_at = now() + make_interval(secs => i.due_in_s),
        deadline_at = now() + make_interval(secs => i.budget_s),
        last_status = i.status, last_error = i.error
    FROM input i WHERE d.id = i.id AND d.token = i.token AND i.verdict = 'retry'
    RETURNING d.id
), called AS (
    UPDATE delivery d SET due_at = now()
    FROM finished f CROSS JOIN LATERAL (
        SELECT n.id FROM delivery n
        WHERE n.endpoint_id = f.endpoint_id AND n.lead_id = f.lead_id AND n.version IS NOT NULL
          AND (n.version, n.id) > (f.version, f.id)
        ORDER BY n.version, n.id LIMIT 1
    ) AS next
    WHERE d.id = next.id AND d.leased_until IS NULL AND NOT d.retried AND d.due_at > now()
), logged AS (
    INSERT INTO attempt (tenant_id, live, endpoint_id, delivery_id, number, at, status, error,
        dns_ms, connect_ms, wait_ms, total_ms, body, truncated)
    SELECT i.tenant_id, i.live, i.endpoint_id, i.id, i.number, i.at, i.status, i.error, i.dns_ms,
        i.connect_ms, i.wait_ms, i.total_ms, i.body, i.truncated
    FROM input i
)
SELECT id FROM finished UNION ALL SELECT id FROM retried;

-- name: delivery_reap_many
-- $1 rows at most, $2 lost leases after which one is given up. Takes back what a dispatcher that
-- died or slept too long had leased; a late settlement then fails on its token.
WITH lost AS MATERIALIZED (
    SELECT id, lost + 1 >= $2 AS given_up FROM delivery
    WHERE leased_until < now() ORDER BY leased_until LIMIT $1 FOR UPDATE SKIP LOCKED
), returned AS (
    UPDATE delivery d SET token = NULL, leased_until = NULL, lost = d.lost + 1, due_at = now()
    FROM lost l WHERE d.id = l.id AND NOT l.given_up
    RETURNING d.id, d.endpoint_id, d.event_id, d.attempts, false AS given_up
), quarantined AS (
    DELETE FROM delivery d USING lost l WHERE d.id = l.id AND l.given_up
    RETURNING d.id, d.tenant_id, d.live, d.endpoint_id, d.event_id, d.stored_at, d.type, d.lead_id,
        d.version, d.cause, d.attempts, d.last_status, d.created_at
), filed AS (
    INSERT INTO delivery_final (id, tenant_id, live, endpoint_id, event_id, stored_at, type,
        lead_id, version, cause, outcome, attempts, last_status, last_error, created_at,
        finished_at)
    SELECT id, tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, version, cause,
        'failed', attempts, last_status, 'quarantined', created_at, now()
    FROM quarantined
)
SELECT id, endpoint_id, event_id, attempts, given_up FROM returned
UNION ALL SELECT id, endpoint_id, event_id, attempts, true FROM quarantined;

-- name: delivery_give_back_many
-- $1 deliveries, $2 tokens: attempts that were broken off before their end, at shutdown. Due at
-- once, and not counted.
UPDATE delivery d SET token = NULL, leased_until = NULL, attempts = d.attempts - 1
FROM unnest($1::bigint[], $2::bigint[]) AS g (id, token) WHERE d.id = g.id AND d.token = g.token
RETURNING d.id;

-- name: delivery_cancel_orphans
-- $1 rows at most. Finishes what waits for an endpoint that was deleted meanwhile, or that its
-- owner resumed from a later moment.
WITH RECURSIVE lane AS (
    (SELECT endpoint_id FROM delivery ORDER BY endpoint_id LIMIT 1)
    UNION ALL
    SELECT n.endpoint_id FROM lane l CROSS JOIN LATERAL (
        SELECT d.endpoint_id FROM delivery d WHERE d.endpoint_id > l.endpoint_id
        ORDER BY d.endpoint_id LIMIT 1) AS n
), skipped AS MATERIALIZED (
    SELECT d.id FROM (
        SELECT l.endpoint_id, e.skip_before FROM lane l LEFT JOIN endpoint e ON e.id = l.endpoint_id
        WHERE e.id IS NULL OR e.skip_before IS NOT NULL
    ) AS s CROSS JOIN LATERAL (
        SELECT c.id FROM delivery c WHERE c.endpoint_id = s.endpoint_id AND c.leased_until IS NULL
          AND (s.skip_before IS NULL OR c.created_at < s.skip_before)
        ORDER BY c.id LIMIT $1 FOR UPDATE SKIP LOCKED
    ) AS d LIMIT $1
), cancelled AS (
    DELETE FROM delivery d USING skipped s WHERE d.id = s.id
    RETURNING d.id, d.tenant_id, d.live, d.endpoint_id, d.event_id, d.stored_at, d.type, d.lead_id,
        d.version, d.cause, d.attempts, d.last_status, d.last_error, d.created_at
)
INSERT INTO delivery_final (id, tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id,
    version, cause, outcome, attempts, last_status, last_error, created_at, finished_at)
SELECT id, tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, version, cause,
    'cancelled', attempts, last_status, last_error, created_at, now()
FROM cancelled
RETURNING id;
