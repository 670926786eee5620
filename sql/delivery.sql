-- name: delivery_insert_many
-- $1 tenants, $2 modes, $3 ids, $4 types, $5 leads, $6 versions, $7 bodies and $8 transactions of
-- events that some endpoint wants; $9 endpoint and $10 place of the event (from 1) of each delivery,
-- in log order.
WITH event AS MATERIALIZED (
    SELECT tenant_id, live, event_id, type, lead_id, version, body, txid, place
    FROM unnest($1::bigint[], $2::boolean[], $3::text[], $4::text[], $5::text[], $6::bigint[],
        $7::bytea[], $8::bigint[]) WITH ORDINALITY
        AS e (tenant_id, live, event_id, type, lead_id, version, body, txid, place)
), stored AS (
    INSERT INTO webhook_event (tenant_id, live, event_id, stored_at, type, lead_id, version, body,
        txid)
    SELECT tenant_id, live, event_id, now(), type, lead_id, version, body, txid::text::xid8
    FROM event
)
INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, version,
    due_at, created_at)
SELECT e.tenant_id, e.live, d.endpoint_id, e.event_id, now(), e.type, e.lead_id, e.version, now(),
    now()
FROM unnest($9::text[], $10::integer[]) WITH ORDINALITY AS d (endpoint_id, event_place, place)
JOIN event e ON e.place = d.event_place
ORDER BY d.place;

-- name: lane_list_due
-- $1 of $2 the part of the lanes that is ours, $3 rows at most, by chance. A lane is what waits for
-- one endpoint. Skips through the index, so what it costs depends on the number of lanes, not of
-- deliveries.
WITH RECURSIVE lane AS (
    (SELECT d.endpoint_id, d.yields, d.due_at FROM delivery d WHERE d.leased_until IS NULL
     ORDER BY d.endpoint_id, d.yields, d.due_at LIMIT 1)
    UNION ALL
    SELECT n.endpoint_id, n.yields, n.due_at FROM lane l CROSS JOIN LATERAL (
        SELECT d.endpoint_id, d.yields, d.due_at FROM delivery d
        WHERE d.leased_until IS NULL AND (d.endpoint_id, d.yields) > (l.endpoint_id, l.yields)
        ORDER BY d.endpoint_id, d.yields, d.due_at LIMIT 1) AS n
), due AS (
    SELECT DISTINCT l.endpoint_id FROM lane l
    WHERE l.due_at <= now() AND (hashtextextended(l.endpoint_id, 0) & 1048575) % $2::bigint = $1::bigint
)
SELECT d.endpoint_id FROM due d
JOIN endpoint e ON e.id = d.endpoint_id AND e.status = 'active'
JOIN endpoint_health h ON h.endpoint_id = d.endpoint_id
WHERE h.closed_until IS NULL OR h.closed_until <= now()
ORDER BY random() LIMIT $3;

-- name: delivery_claim_many
-- $1 lanes, $2 how many each may have, $3 deliveries at most, $4 seconds of lease beyond the
-- endpoint's timeout, $5 that timeout where it has none of its own in ms, $6 how many at most of
-- what yields to first attempts (retries, replays). Of each lane we look at a few more than we
-- take: one behind an unfinished earlier one of its lead stays, put off by a time that grows with
-- its distance, so that it is not looked at again and again; delivery_settle_many calls it when
-- its turn has come. What its owner skips is passed over and stands before nobody: as nothing is due
-- before it was made, the index finds the first that is wanted. At least one row: how many were put
-- off. Nobody waits for the disk: a claim or a settlement that a crash of the server undoes is sent
-- again, as at-least-once allows.
WITH open AS MATERIALIZED (
    SELECT k.endpoint_id, y.yields, least(k.want, e.rate_limit) AS want,
        coalesce(e.timeout_ms, $5::integer) AS timeout_ms,
        coalesce(e.skip_before, '-infinity') AS wanted_from, excused_time(h) AS excused_s
    FROM (SELECT set_config('synchronous_commit', 'off', true)) AS unsynced
    CROSS JOIN unnest($1::text[], $2::integer[]) AS k (endpoint_id, want)
    JOIN endpoint e ON e.id = k.endpoint_id AND e.status = 'active'
    JOIN endpoint_health h ON h.endpoint_id = k.endpoint_id
        AND (h.closed_until IS NULL OR h.closed_until <= now())
    CROSS JOIN (VALUES (false), (true)) AS y (yields)
    WHERE NOT y.yields OR $6::integer > 0
), found AS MATERIALIZED (
    SELECT d.id, o.endpoint_id, o.yields, o.want, o.timeout_ms, o.excused_s, d.due_at, d.version,
        head.version AS head_version, head.due_at AS head_due_at
    FROM open o
    CROSS JOIN LATERAL (
        SELECT c.id, c.lead_id, c.version, c.due_at FROM delivery c
        WHERE c.endpoint_id = o.endpoint_id AND c.yields = o.yields
          AND c.leased_until IS NULL AND c.due_at <= now()
          AND c.due_at >= o.wanted_from AND c.created_at >= o.wanted_from
        ORDER BY c.due_at, c.id LIMIT o.want + least(o.want, 8)
    ) AS d
    LEFT JOIN LATERAL (
        SELECT p.version, p.due_at FROM delivery p
        WHERE p.endpoint_id = o.endpoint_id AND p.lead_id = d.lead_id AND p.version IS NOT NULL
          AND (p.version, p.id) < (d.version, d.id)
          AND (p.created_at >= o.wanted_from OR p.leased_until IS NOT NULL)
        ORDER BY p.version, p.id LIMIT 1
    ) AS head ON d.version IS NOT NULL
), ranked AS (
    SELECT f.id, f.endpoint_id, f.timeout_ms, f.excused_s, f.want, f.yields, row_number() OVER (
        PARTITION BY f.endpoint_id, f.yields ORDER BY f.due_at, f.id) AS place
    FROM found f WHERE f.head_version IS NULL
), mixed AS (  -- four first attempts for each that yields to them
    SELECT r.id, r.timeout_ms, r.excused_s, r.want, r.yields, row_number() OVER (
        PARTITION BY r.endpoint_id
        ORDER BY r.place * CASE WHEN r.yields THEN 4 ELSE 1 END, r.yields) AS place
    FROM ranked r
), rationed AS (
    SELECT m.id, m.timeout_ms, m.excused_s, m.yields, m.place,
        row_number() OVER (PARTITION BY m.yields ORDER BY m.place) AS turn
    FROM mixed m WHERE m.place <= m.want
), chosen AS (
    SELECT r.id, r.timeout_ms, r.excused_s FROM rationed r
    WHERE NOT r.yields OR r.turn <= $6::integer
    ORDER BY r.place LIMIT $3
), locked AS MATERIALIZED (  -- in the order of ids, and whatever is as we saw it
    SELECT d.id, c.timeout_ms, c.excused_s FROM chosen c JOIN delivery d ON d.id = c.id
    WHERE d.leased_until IS NULL AND d.due_at <= now()
    ORDER BY d.id FOR UPDATE OF d SKIP LOCKED
), claimed AS (
    UPDATE delivery d SET token = nextval('delivery_token_seq'),
        attempts = least(d.attempts + 1, 32767),
        leased_until = now() + make_interval(secs => $4 + l.timeout_ms / 1000.0)
    FROM locked l WHERE d.id = l.id
    RETURNING d.id, d.token, d.endpoint_id, d.event_id, d.stored_at, d.type, d.attempts,
        d.yields, extract(epoch FROM d.deadline_at - now())::float8 + l.excused_s AS left_s
), blocked AS MATERIALIZED (
    SELECT d.id, f.head_due_at, f.version - f.head_version AS distance
    FROM found f JOIN delivery d ON d.id = f.id
    WHERE f.head_version IS NOT NULL AND d.leased_until IS NULL AND d.due_at = f.due_at
    ORDER BY d.id FOR UPDATE OF d SKIP LOCKED
), deferred AS (
    UPDATE delivery d SET due_at = greatest(b.head_due_at, now())
        + least(make_interval(secs => 1 + 0.02 * b.distance), interval '1 min')
    FROM blocked b WHERE d.id = b.id
    RETURNING d.id
)
SELECT c.id, c.token, c.endpoint_id, c.event_id, c.type, c.attempts, c.yields, c.left_s, e.body,
    n.deferred
FROM (SELECT count(*) AS deferred FROM deferred) AS n
LEFT JOIN claimed c ON true
LEFT JOIN webhook_event e ON e.stored_at = c.stored_at AND e.event_id = c.event_id
ORDER BY c.id;

-- name: delivery_settle_many
-- One element per attempt in each array: $1 delivery, $2 token, $3 verdict (delivered, failed or
-- retry), $4 seconds until the next try, $5 seconds of budget left now, $6 number, $7 when it
-- began, $8 status, $9 error, $10 dns, $11 connect, $12 wait, $13 total in ms, $14 body,
-- $15 truncated, $16 tenant, $17 mode, $18 endpoint. A row per delivery that was still ours, and
-- whether the next of its lead became due by it; what is missing had gone to somebody else, and only
-- its attempt is kept.
WITH input AS MATERIALIZED (
    SELECT i.* FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::float8[], $5::float8[],
        $6::smallint[], $7::timestamptz[], $8::smallint[], $9::text[], $10::real[], $11::real[],
        $12::real[], $13::real[], $14::bytea[], $15::boolean[], $16::bigint[], $17::boolean[],
        $18::text[])
    AS i (id, token, verdict, due_in_s, budget_s, number, at, status, error, dns_ms, connect_ms,
        wait_ms, total_ms, body, truncated, tenant_id, live, endpoint_id)
    CROSS JOIN (SELECT set_config('synchronous_commit', 'off', true)) AS unsynced
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
    UPDATE delivery d SET token = NULL, leased_until = NULL, yields = true,
        due_at = now() + make_interval(secs => i.due_in_s),
        deadline_at = now() + make_interval(secs => i.budget_s - coalesce((
            SELECT excused_time(h) FROM endpoint_health h WHERE h.endpoint_id = d.endpoint_id), 0)),
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
    WHERE d.id = next.id AND d.leased_until IS NULL AND d.attempts = 0 AND d.due_at > now()
    RETURNING f.id
), logged AS (
    INSERT INTO attempt (tenant_id, live, endpoint_id, delivery_id, number, at, status, error,
        dns_ms, connect_ms, wait_ms, total_ms, body, truncated)
    SELECT i.tenant_id, i.live, i.endpoint_id, i.id, i.number, i.at, i.status, i.error, i.dns_ms,
        i.connect_ms, i.wait_ms, i.total_ms, i.body, i.truncated
    FROM input i
)
SELECT s.id, EXISTS (SELECT FROM called c WHERE c.id = s.id) AS calls
FROM (SELECT id FROM finished UNION ALL SELECT id FROM retried) AS s;

-- name: delivery_reap_many
-- $1 rows at most, $2 lost leases after which one is given up. Takes back what a dispatcher that
-- died or slept too long had leased; a late settlement then fails on its token. It is due as it
-- was, before what came after it: what follows of its lead waits for it, and is to be called by
-- delivery_call_heads if it is given up.
WITH lost AS MATERIALIZED (
    SELECT id, lost + 1 >= $2 AS given_up FROM delivery
    WHERE leased_until < now() ORDER BY leased_until LIMIT $1 FOR UPDATE SKIP LOCKED
), returned AS (
    UPDATE delivery d SET token = NULL, leased_until = NULL, lost = d.lost + 1
    FROM lost l WHERE d.id = l.id AND NOT l.given_up
    RETURNING d.id, d.endpoint_id, d.lead_id, d.event_id, d.attempts
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
SELECT id, endpoint_id, lead_id, event_id, attempts, false AS given_up FROM returned
UNION ALL SELECT id, endpoint_id, lead_id, event_id, attempts, true FROM quarantined;

-- name: delivery_give_back_many
-- $1 deliveries, $2 tokens: attempts that were broken off before their end, at shutdown. Due at
-- once, and not counted.
UPDATE delivery d SET token = NULL, leased_until = NULL, attempts = d.attempts - 1
FROM unnest($1::bigint[], $2::bigint[]) AS g (id, token) WHERE d.id = g.id AND d.token = g.token
RETURNING d.id;

-- name: delivery_cancel_many
-- $1 rows at most. Finishes what waits for an endpoint that was deleted meanwhile, or that its
-- owner resumed from a later moment; of each such endpoint as much, whatever else there is to do.
-- The next of a lead is to be called by delivery_call_heads, unless its endpoint is deleted.
WITH RECURSIVE lane AS (
    (SELECT endpoint_id FROM delivery ORDER BY endpoint_id LIMIT 1)
    UNION ALL
    SELECT n.endpoint_id FROM lane l CROSS JOIN LATERAL (
        SELECT d.endpoint_id FROM delivery d WHERE d.endpoint_id > l.endpoint_id
        ORDER BY d.endpoint_id LIMIT 1) AS n
), unwanted AS MATERIALIZED (
    SELECT l.endpoint_id, coalesce(e.skip_before, 'infinity') AS wanted_from,
        e.id IS NULL AS is_deleted
    FROM lane l LEFT JOIN endpoint e ON e.id = l.endpoint_id
    WHERE e.id IS NULL OR e.skip_before IS NOT NULL
), found AS MATERIALIZED (
    SELECT d.id, u.is_deleted FROM unwanted u CROSS JOIN LATERAL (
        SELECT c.id FROM delivery c WHERE c.endpoint_id = u.endpoint_id AND c.leased_until IS NULL
          AND c.created_at < u.wanted_from
        ORDER BY c.created_at, c.id
        LIMIT (SELECT greatest($1::bigint / greatest(count(*), 1), 1) FROM unwanted)
    ) AS d
), locked AS MATERIALIZED (
    SELECT d.id, f.is_deleted FROM found f JOIN delivery d ON d.id = f.id
    WHERE d.leased_until IS NULL ORDER BY d.id FOR UPDATE OF d SKIP LOCKED
), cancelled AS (
    DELETE FROM delivery d USING locked l WHERE d.id = l.id
    RETURNING d.id, d.tenant_id, d.live, d.endpoint_id, d.event_id, d.stored_at, d.type, d.lead_id,
        d.version, d.cause, d.attempts, d.last_status, d.last_error, d.created_at, l.is_deleted
), filed AS (
    INSERT INTO delivery_final (id, tenant_id, live, endpoint_id, event_id, stored_at, type,
        lead_id, version, cause, outcome, attempts, last_status, last_error, created_at,
        finished_at)
    SELECT id, tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, version, cause,
        'cancelled', attempts, last_status, last_error, created_at, now()
    FROM cancelled
)
SELECT endpoint_id, lead_id, is_deleted FROM cancelled;

-- name: delivery_recall_many
-- $1 rows at most of each endpoint. Endpoints that were made active again: what waits there for a
-- later try is due now, in the order in which it would have been. How many that were.
WITH resumed AS MATERIALIZED (
    SELECT e.id, e.recall_after, coalesce(e.skip_before, '-infinity') AS wanted_from
    FROM endpoint e WHERE e.recall_after IS NOT NULL
    ORDER BY e.id FOR UPDATE SKIP LOCKED
), found AS MATERIALIZED (
    SELECT d.id, d.due_at, r.id AS endpoint_id FROM resumed r CROSS JOIN LATERAL (
        SELECT c.id, c.due_at FROM delivery c
        WHERE c.endpoint_id = r.id AND c.yields AND c.leased_until IS NULL
          AND c.due_at > r.recall_after AND c.attempts > 0 AND c.created_at >= r.wanted_from
        ORDER BY c.due_at, c.id LIMIT $1
    ) AS d
), locked AS MATERIALIZED (
    SELECT d.id FROM found f JOIN delivery d ON d.id = f.id
    WHERE d.leased_until IS NULL AND d.due_at > now() ORDER BY d.id FOR UPDATE OF d SKIP LOCKED
), recalled AS (
    UPDATE delivery d SET due_at = now() FROM locked l WHERE d.id = l.id RETURNING d.id
), advanced AS (
    UPDATE endpoint e SET recall_after = CASE WHEN p.count = $1 THEN p.upto END
    FROM resumed r CROSS JOIN LATERAL (
        SELECT count(*) AS count, max(f.due_at) AS upto FROM found f WHERE f.endpoint_id = r.id
    ) AS p
    WHERE e.id = r.id
)
SELECT count(*) FROM recalled;

-- name: delivery_call_heads
-- $1 endpoints, $2 leads of which something was finished without being sent: the first that waits
-- now is due if it was put off behind that. In the transaction that finished it. One that is due
-- changes too, if only just: a claim that still saw it behind the other then does not put it off.
WITH head AS MATERIALIZED (
    SELECT h.id FROM (SELECT DISTINCT endpoint_id, lead_id FROM unnest($1::text[], $2::text[])
        AS l (endpoint_id, lead_id)) AS l
    CROSS JOIN LATERAL (
        SELECT n.id FROM delivery n
        WHERE n.endpoint_id = l.endpoint_id AND n.lead_id = l.lead_id AND n.version IS NOT NULL
        ORDER BY n.version, n.id LIMIT 1
    ) AS h
), locked AS MATERIALIZED (
    SELECT d.id FROM head h JOIN delivery d ON d.id = h.id
    WHERE d.leased_until IS NULL AND d.attempts = 0 ORDER BY d.id FOR UPDATE OF d
)
UPDATE delivery d SET due_at = least(d.due_at - interval '1 microsecond', now())
FROM locked l WHERE d.id = l.id;

-- name: delivery_supersede_many
-- $1 tenants, $2 modes, $3 endpoints that coalesce, $4 leads, $5 versions just written: their older
-- lead.updated that nobody is sending now are finished. The next of each lead is to be called by
-- delivery_call_heads.
WITH superseded AS (
    DELETE FROM delivery d
    USING unnest($1::bigint[], $2::boolean[], $3::text[], $4::text[], $5::bigint[])
        AS n (tenant_id, live, endpoint_id, lead_id, version)
    WHERE d.tenant_id = n.tenant_id AND d.live = n.live AND d.endpoint_id = n.endpoint_id AND d.lead_id = n.lead_id AND d.version < n.version
      AND d.type = 'lead.updated' AND d.cause = 'event' AND d.leased_until IS NULL
    RETURNING d.id, d.tenant_id, d.live, d.endpoint_id, d.event_id, d.stored_at, d.type, d.lead_id,
        d.version, d.cause, d.attempts, d.last_status, d.last_error, d.created_at
), filed AS (
    INSERT INTO delivery_final (id, tenant_id, live, endpoint_id, event_id, stored_at, type,
        lead_id, version, cause, outcome, attempts, last_status, last_error, created_at,
        finished_at)
    SELECT id, tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, version, cause,
        'superseded', attempts, last_status, last_error, created_at, now()
    FROM superseded
)
SELECT DISTINCT endpoint_id, lead_id FROM superseded;

-- name: delivery_list_expired
-- $1 days that what waits is kept: the endpoints of which something has waited longer, in whole
-- weeks, for that is how its events are kept; `before` says where that week ends. Looks through what
-- waits only if there is an event so old.
SELECT e.tenant_id, e.live, e.id, c.before
FROM (SELECT date_trunc('week', (now() - make_interval(days => $1)) AT TIME ZONE 'UTC')
    AT TIME ZONE 'UTC' AS before) AS c
JOIN delivery d ON d.stored_at < c.before
JOIN endpoint e ON e.id = d.endpoint_id
WHERE EXISTS (SELECT FROM webhook_event w WHERE w.stored_at < c.before)
GROUP BY e.tenant_id, e.live, e.id, c.before ORDER BY e.id;

-- name: delivery_expire_many
-- $1 tenant, $2 mode, $3 endpoint, $4 before when, $5 rows at most. Finishes as failed what has
-- waited too long: its event goes. How many, from when to when their events came, and the leads of
-- which the next is to be called by delivery_call_heads.
WITH old AS MATERIALIZED (
    SELECT d.id FROM delivery d
    WHERE d.tenant_id = $1 AND d.live = $2 AND d.endpoint_id = $3 AND d.stored_at < $4
      AND d.leased_until IS NULL
    ORDER BY d.id LIMIT $5 FOR UPDATE SKIP LOCKED
), expired AS (
    DELETE FROM delivery d USING old o WHERE d.tenant_id = $1 AND d.live = $2 AND d.id = o.id
    RETURNING d.id, d.tenant_id, d.live, d.endpoint_id, d.event_id, d.stored_at, d.type, d.lead_id,
        d.version, d.cause, d.attempts, d.last_status, d.created_at
), filed AS (
    INSERT INTO delivery_final (id, tenant_id, live, endpoint_id, event_id, stored_at, type,
        lead_id, version, cause, outcome, attempts, last_status, last_error, created_at,
        finished_at)
    SELECT id, tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, version, cause,
        'failed', attempts, last_status, 'event_expired', created_at, now()
    FROM expired
)
SELECT count(*) AS count, min(stored_at) AS since, max(stored_at) AS until,
    array_agg(DISTINCT lead_id) FILTER (WHERE version IS NOT NULL) AS leads
FROM expired;

-- name: delivery_count_expired
-- $1 since, $2 until: the endpoints of which deliveries expired in between, and how many.
SELECT e.tenant_id, e.live, e.id, x.count
FROM endpoint e CROSS JOIN LATERAL (
    SELECT count(*) AS count FROM delivery_final f
    WHERE f.tenant_id = e.tenant_id AND f.live = e.live AND f.endpoint_id = e.id
      AND f.outcome = 'failed' AND f.outcome <> 'delivered' AND f.last_error = 'event_expired'
      AND f.finished_at >= $1 AND f.finished_at < $2
) AS x
WHERE x.count > 0 ORDER BY e.id;

-- name: delivery_list
-- $1 tenant, $2 mode, $3 endpoint, $4 state or null (all), $5 and $6 created_at and id to go on
-- before, or null, $7 rows. Newest first. Held is what waits for an endpoint that is not active; when
-- it is due nobody knows, and nothing is due before its lane opens. An event about a webhook has no
-- lead.
WITH unfinished AS (
    SELECT d.id, d.event_id, d.type,
        CASE WHEN d.type NOT LIKE 'webhook.%' THEN d.lead_id END AS lead_id, d.cause,
        CASE WHEN e.status = 'active' THEN 'pending' ELSE 'held' END AS state, d.attempts,
        d.last_status, d.last_error,
        CASE WHEN e.status = 'active' THEN greatest(d.due_at, h.closed_until) END AS due_at,
        d.created_at, NULL::timestamptz AS finished_at
    FROM endpoint e
    JOIN endpoint_health h ON h.endpoint_id = e.id
    JOIN delivery d ON d.endpoint_id = e.id
    WHERE e.tenant_id = $1 AND e.live = $2 AND e.id = $3
      AND ($4::text IS NULL OR $4 = CASE WHEN e.status = 'active' THEN 'pending' ELSE 'held' END)
      AND ($5::timestamptz IS NULL OR (d.created_at, d.id) < ($5, $6::bigint))
    ORDER BY d.created_at DESC, d.id DESC LIMIT $7
), finished AS (
    SELECT f.id, f.event_id, f.type,
        CASE WHEN f.type NOT LIKE 'webhook.%' THEN f.lead_id END, f.cause, f.outcome AS state, f.attempts,
        f.last_status, f.last_error, NULL::timestamptz AS due_at, f.created_at, f.finished_at
    FROM unnest(ARRAY['delivered', 'failed', 'cancelled', 'superseded']) AS o (outcome)
    CROSS JOIN LATERAL (
        SELECT x.* FROM delivery_final x
        WHERE x.tenant_id = $1 AND x.live = $2 AND x.endpoint_id = $3 AND x.outcome = o.outcome
          AND ($5::timestamptz IS NULL OR (x.created_at, x.id) < ($5, $6::bigint))
        ORDER BY x.created_at DESC, x.id DESC LIMIT $7
    ) AS f
    WHERE $4::text IS NULL OR o.outcome = $4
)
SELECT id, event_id, type, lead_id, cause, state, attempts, last_status, last_error,
    iso_ms(due_at) AS due_at, iso_ms(created_at) AS created_at, iso_ms(finished_at) AS finished_at,
    created_at AS place
FROM (SELECT * FROM unfinished UNION ALL SELECT * FROM finished) AS d
ORDER BY d.created_at DESC, d.id DESC LIMIT $7;

-- name: delivery_get
-- $1 tenant, $2 mode, $3 endpoint, $4 id. No row: there is none.
SELECT d.id, d.event_id, d.type,
    CASE WHEN d.type NOT LIKE 'webhook.%' THEN d.lead_id END AS lead_id, d.cause,
    CASE WHEN e.status = 'active' THEN 'pending' ELSE 'held' END AS state, d.attempts,
    d.last_status, d.last_error,
    iso_ms(CASE WHEN e.status = 'active' THEN greatest(d.due_at, h.closed_until) END) AS due_at,
    iso_ms(d.created_at) AS created_at, NULL AS finished_at
FROM endpoint e
JOIN endpoint_health h ON h.endpoint_id = e.id
JOIN delivery d ON d.endpoint_id = e.id
WHERE e.tenant_id = $1 AND e.live = $2 AND e.id = $3 AND d.id = $4
UNION ALL
SELECT f.id, f.event_id, f.type,
    CASE WHEN f.type NOT LIKE 'webhook.%' THEN f.lead_id END, f.cause, f.outcome, f.attempts,
    f.last_status,
    f.last_error, NULL, iso_ms(f.created_at), iso_ms(f.finished_at)
FROM delivery_final f
WHERE f.tenant_id = $1 AND f.live = $2 AND f.endpoint_id = $3 AND f.id = $4;

-- name: attempt_list
-- $1 tenant, $2 mode, $3 delivery, $4 rows. The newest, oldest first.
SELECT a.number, iso_ms(a.at) AS at, a.status, a.error, a.dns_ms, a.connect_ms, a.wait_ms,
    a.total_ms, a.body, a.truncated
FROM (
    SELECT * FROM attempt WHERE tenant_id = $1 AND live = $2 AND delivery_id = $3
    ORDER BY number DESC, at DESC LIMIT $4
) AS a
ORDER BY a.number, a.at;

-- name: delivery_resend
-- $1 tenant, $2 mode, $3 endpoint, $4 id. One that waits is due at once; of one that is finished a
-- copy is made that waits for no other. No row: there is none, or its event is no longer kept.
WITH hurried AS (
    UPDATE delivery SET due_at = now()
    WHERE tenant_id = $1 AND live = $2 AND endpoint_id = $3 AND id = $4
    RETURNING id
), copied AS (
    INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, cause,
        due_at, created_at)
    SELECT f.tenant_id, f.live, f.endpoint_id, f.event_id, f.stored_at, f.type, f.lead_id,
        'resend', now(), now()
    FROM delivery_final f
    JOIN webhook_event e ON e.stored_at = f.stored_at AND e.event_id = f.event_id
    WHERE f.tenant_id = $1 AND f.live = $2 AND f.endpoint_id = $3 AND f.id = $4
    RETURNING id
)
SELECT id FROM hurried UNION ALL SELECT id FROM copied;

-- name: delivery_insert_test
-- $1 tenant, $2 mode, $3 endpoint, $4 event, $5 type, $6 body. Waits for no other.
WITH event AS (
    INSERT INTO webhook_event (tenant_id, live, event_id, stored_at, type, body)
    VALUES ($1, $2, $4, now(), $5, $6)
    RETURNING tenant_id, live, event_id, stored_at, type
)
INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, cause, due_at,
    created_at)
SELECT tenant_id, live, $3, event_id, stored_at, type, 'test', now(), now() FROM event
RETURNING id;
