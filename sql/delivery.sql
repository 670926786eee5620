-- A statement that finishes deliveries deletes them in a CTE named `finished`, which returns
-- {delivery_columns}, outcome, last_status and last_error, and moves them to delivery_final by the part
-- delivery_file_finished.

-- part: delivery_columns
d.id, d.tenant_id, d.live, d.endpoint_id, d.event_id, d.stored_at, d.type, d.lead_id,
        d.version, d.cause, d.attempts, d.created_at

-- part: delivery_file_finished
INSERT INTO delivery_final (id, tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id,
        version, cause, attempts, created_at, outcome, last_status, last_error, finished_at)
    SELECT id, tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, version, cause,
        attempts, created_at, outcome, last_status, last_error, now()
    FROM finished

-- name: delivery_insert_many
-- $1 tenants, $2 modes, $3 ids, $4 types, $5 leads, $6 versions, $7 bodies and $8 transactions of
-- events to which an endpoint is subscribed; $9 endpoint and $10 ordinal of the event (from 1) of each
-- delivery, in log order.
WITH event AS MATERIALIZED (
    SELECT tenant_id, live, event_id, type, lead_id, version, body, txid, ordinal
    FROM unnest($1::bigint[], $2::boolean[], $3::text[], $4::text[], $5::text[], $6::bigint[],
        $7::bytea[], $8::bigint[]) WITH ORDINALITY
        AS e (tenant_id, live, event_id, type, lead_id, version, body, txid, ordinal)
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
FROM unnest($9::text[], $10::integer[]) WITH ORDINALITY AS d (endpoint_id, event_ordinal, ordinal)
JOIN event e ON e.ordinal = d.event_ordinal
ORDER BY d.ordinal;

-- name: lane_list_due
-- $1 the dispatcher's share of the lanes, from 0, $2 number of shares, $3 limit of rows, which are
-- chosen at random. A lane consists of the waiting deliveries of one endpoint. The query skips from lane
-- to lane in the index, so its cost depends on the number of lanes, not of deliveries.
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
-- $1 lanes, $2 limit of each lane, $3 limit of all, $4 seconds of lease beyond the endpoint's timeout,
-- $5 the timeout in ms of an endpoint without its own, $6 limit of deliveries that yield to first
-- attempts (retries, replays).
--
-- For each lane the statement reads a few more deliveries than it claims, because a delivery waits
-- while an earlier delivery of its lead is unfinished. Such a delivery is deferred by a time that grows
-- with its distance from the first unfinished one, so that it is not read again and again;
-- delivery_settle_many makes it due when its turn has come. Deliveries from before skip_before are not
-- claimed and block no others. A delivery is never due before it was created, so the index scan starts
-- at skip_before. The result has at least one row, with the number of deferred deliveries and the
-- time at which the statement began, in Unix seconds.
--
-- The commit does not wait for the disk: if a crash of the server undoes a claim or a settlement, the
-- delivery is sent again, as at-least-once allows.
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
        PARTITION BY f.endpoint_id, f.yields ORDER BY f.due_at, f.id) AS rank
    FROM found f WHERE f.head_version IS NULL
), mixed AS (  -- four first attempts for each delivery that yields
    SELECT r.id, r.timeout_ms, r.excused_s, r.want, r.yields, row_number() OVER (
        PARTITION BY r.endpoint_id
        ORDER BY r.rank * CASE WHEN r.yields THEN 4 ELSE 1 END, r.yields) AS rank
    FROM ranked r
), rationed AS (
    SELECT m.id, m.timeout_ms, m.excused_s, m.yields, m.rank,
        row_number() OVER (PARTITION BY m.yields ORDER BY m.rank) AS rank_of_kind
    FROM mixed m WHERE m.rank <= m.want
), chosen AS (
    SELECT r.id, r.timeout_ms, r.excused_s FROM rationed r
    WHERE NOT r.yields OR r.rank_of_kind <= $6::integer
    ORDER BY r.rank LIMIT $3
), locked AS MATERIALIZED (  -- in the order of ids; only if unchanged since the read
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
    n.deferred, extract(epoch FROM statement_timestamp())::float8 AS began_at
FROM (SELECT count(*) AS deferred FROM deferred) AS n
LEFT JOIN claimed c ON true
LEFT JOIN webhook_event e ON e.stored_at = c.stored_at AND e.event_id = c.event_id
ORDER BY c.id;

-- name: delivery_settle_many
-- One element per attempt in each array: $1 delivery, $2 token, $3 verdict (delivered, failed or
-- retry), $4 seconds until the next attempt, $5 seconds of budget left, $6 number of the attempt,
-- $7 its age in seconds (the database computes its time), $8 status, $9 error, $10 dns, $11 connect,
-- $12 wait and $13 total in ms, $14 body, $15 truncated, $16 tenant, $17 mode, $18 endpoint.
-- Returns a row for each delivery whose token is still valid, with `calls`: whether the next delivery of
-- its lead became due. If the token is no longer valid, only the attempt is stored.
WITH input AS MATERIALIZED (
    SELECT i.* FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::float8[], $5::float8[],
        $6::smallint[], $7::float8[], $8::smallint[], $9::text[], $10::real[], $11::real[],
        $12::real[], $13::real[], $14::bytea[], $15::boolean[], $16::bigint[], $17::boolean[],
        $18::text[])
    AS i (id, token, verdict, due_in_s, budget_s, number, age_s, status, error, dns_ms, connect_ms,
        wait_ms, total_ms, body, truncated, tenant_id, live, endpoint_id)
    CROSS JOIN (SELECT set_config('synchronous_commit', 'off', true)) AS unsynced
), finished AS (
    DELETE FROM delivery d USING input i
    WHERE d.id = i.id AND d.token = i.token AND i.verdict <> 'retry'
    RETURNING {delivery_columns}, i.verdict AS outcome, i.status AS last_status,
        i.error AS last_error
), filed AS (
    {delivery_file_finished}
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
    SELECT i.tenant_id, i.live, i.endpoint_id, i.id, i.number,
        clock_timestamp() - make_interval(secs => i.age_s), i.status, i.error, i.dns_ms,
        i.connect_ms, i.wait_ms, i.total_ms, i.body, i.truncated
    FROM input i
)
SELECT s.id, EXISTS (SELECT FROM called c WHERE c.id = s.id) AS calls
FROM (SELECT id FROM finished UNION ALL SELECT id FROM retried) AS s;

-- name: delivery_reap_many
-- $1 limit of rows, $2 lost leases after which a delivery is given up. Takes back deliveries whose lease
-- has ended because their dispatcher died or was suspended, and those with a lease of more than a day,
-- which was taken while the database's clock was wrong. A late settlement then fails on its token. A
-- delivery keeps its due_at, so it stays before the later deliveries of its lead. If it is given up,
-- the caller makes the next one due by delivery_make_next_due.
WITH lost AS MATERIALIZED (
    SELECT id, lost + 1 >= $2 AS given_up FROM delivery
    WHERE leased_until < now() OR leased_until > now() + interval '1 day'
    ORDER BY leased_until LIMIT $1 FOR UPDATE SKIP LOCKED
), returned AS (
    UPDATE delivery d SET token = NULL, leased_until = NULL, lost = d.lost + 1
    FROM lost l WHERE d.id = l.id AND NOT l.given_up
    RETURNING d.id, d.endpoint_id, d.lead_id, d.event_id, d.attempts
), finished AS (
    DELETE FROM delivery d USING lost l WHERE d.id = l.id AND l.given_up
    RETURNING {delivery_columns}, 'failed' AS outcome, d.last_status,
        'quarantined' AS last_error
), filed AS (
    {delivery_file_finished}
)
SELECT id, endpoint_id, lead_id, event_id, attempts, false AS given_up FROM returned
UNION ALL SELECT id, endpoint_id, lead_id, event_id, attempts, true FROM finished;

-- name: delivery_repair_many
-- $1 seconds, $2 limit of rows. Makes waiting deliveries due now if their due_at is more than $1 seconds
-- ahead, further than any retry: it was set while the database's clock was ahead. The budget of their
-- retries begins again, because their deadline has the same error. The query skips from lane to lane, as
-- lane_list_due does, so its cost depends on the number of lanes.
WITH RECURSIVE lane AS (
    (SELECT d.endpoint_id, d.yields FROM delivery d WHERE d.leased_until IS NULL
     ORDER BY d.endpoint_id, d.yields LIMIT 1)
    UNION ALL
    SELECT n.endpoint_id, n.yields FROM lane l CROSS JOIN LATERAL (
        SELECT d.endpoint_id, d.yields FROM delivery d
        WHERE d.leased_until IS NULL AND (d.endpoint_id, d.yields) > (l.endpoint_id, l.yields)
        ORDER BY d.endpoint_id, d.yields LIMIT 1) AS n
), found AS MATERIALIZED (
    SELECT d.row_address FROM lane l CROSS JOIN LATERAL (
        SELECT c.ctid AS row_address FROM delivery c
        WHERE c.endpoint_id = l.endpoint_id AND c.yields = l.yields AND c.leased_until IS NULL
          AND c.due_at > now() + make_interval(secs => $1)
        ORDER BY c.due_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ) AS d LIMIT $2
), repaired AS (  -- by address: with stale statistics a search by id may read a whole index
    UPDATE delivery d SET due_at = now(), deadline_at = NULL
    WHERE d.ctid = ANY (ARRAY(SELECT f.row_address FROM found f)) RETURNING d.id
)
SELECT count(*) FROM repaired;

-- name: delivery_give_back_many
-- $1 deliveries, $2 tokens of attempts that a shutdown interrupted. They are due at once, and the
-- interrupted attempts do not count.
UPDATE delivery d SET token = NULL, leased_until = NULL, attempts = d.attempts - 1
FROM unnest($1::bigint[], $2::bigint[]) AS g (id, token) WHERE d.id = g.id AND d.token = g.token
RETURNING d.id;

-- name: delivery_cancel_many
-- $1 limit of rows. Cancels waiting deliveries of deleted endpoints, and waiting deliveries that were
-- created before the skip_before of their endpoint, which was resumed from a later time. Each such
-- endpoint has an equal share of the limit. The caller makes the next delivery of each lead
-- due by delivery_make_next_due, unless the endpoint is deleted.
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
), finished AS (
    DELETE FROM delivery d USING locked l WHERE d.id = l.id
    RETURNING {delivery_columns}, 'cancelled' AS outcome, d.last_status, d.last_error,
        l.is_deleted
), filed AS (
    {delivery_file_finished}
)
SELECT endpoint_id, lead_id, is_deleted FROM finished;

-- name: delivery_recall_many
-- $1 limit of rows of each endpoint. Makes the retries of resumed endpoints due now, in the order of
-- their due_at, and returns their number.
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

-- name: delivery_make_next_due
-- $1 endpoints, $2 leads of deliveries that were finished without being sent. Makes the first waiting
-- delivery of each lead due, in the transaction that finished the others. A delivery that is due
-- already changes by a microsecond, so that a concurrent claim, which may have read it as blocked, does
-- not defer it.
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
-- $1 tenants, $2 modes, $3 endpoints that coalesce, $4 leads, $5 versions just inserted. Finishes the
-- older lead.updated deliveries that are not being sent. The caller makes the next delivery of each
-- lead due by delivery_make_next_due.
WITH finished AS (
    DELETE FROM delivery d
    USING unnest($1::bigint[], $2::boolean[], $3::text[], $4::text[], $5::bigint[])
        AS n (tenant_id, live, endpoint_id, lead_id, version)
    WHERE d.tenant_id = n.tenant_id AND d.live = n.live AND d.endpoint_id = n.endpoint_id
      AND d.lead_id = n.lead_id AND d.version < n.version
      AND d.type = 'lead.updated' AND d.cause = 'event' AND d.leased_until IS NULL
    RETURNING {delivery_columns}, 'superseded' AS outcome, d.last_status, d.last_error
), filed AS (
    {delivery_file_finished}
)
SELECT DISTINCT endpoint_id, lead_id FROM finished;

-- name: delivery_list_expired
-- $1 days for which events are kept. Returns the endpoints with waiting deliveries of older events.
-- Events are kept in whole weeks, so `before` is the start of the first week that is kept. The
-- deliveries are read only if there is such an event. Deliveries from `first_id` on are young although
-- their events seem old: they were created while the database's clock was behind.
WITH kept AS MATERIALIZED (
    SELECT c.before, coalesce(delivery_find_first(c.before), 9223372036854775807) AS first_id
    FROM (SELECT date_trunc('week', (now() - make_interval(days => $1)) AT TIME ZONE 'UTC')
        AT TIME ZONE 'UTC' AS before) AS c
    WHERE EXISTS (SELECT FROM webhook_event w WHERE w.stored_at < c.before)
)
SELECT e.tenant_id, e.live, e.id, k.before, k.first_id
FROM kept k
JOIN delivery d ON d.stored_at < k.before AND d.id < k.first_id
JOIN endpoint e ON e.id = d.endpoint_id
GROUP BY e.tenant_id, e.live, e.id, k.before, k.first_id ORDER BY e.id;

-- name: delivery_expire_many
-- $1 tenant, $2 mode, $3 endpoint, $4 time, $5 limit of rows, $6 first_id of delivery_list_expired.
-- Finishes, as failed, waiting deliveries of events that were stored before $4 and will be dropped.
-- Returns their number, the time range of their events, and the leads whose next delivery the caller
-- makes due by delivery_make_next_due.
WITH old AS MATERIALIZED (
    SELECT d.id FROM delivery d
    WHERE d.tenant_id = $1 AND d.live = $2 AND d.endpoint_id = $3 AND d.stored_at < $4
      AND d.id < $6 AND d.leased_until IS NULL
    ORDER BY d.id LIMIT $5 FOR UPDATE SKIP LOCKED
), finished AS (
    DELETE FROM delivery d USING old o WHERE d.tenant_id = $1 AND d.live = $2 AND d.id = o.id
    RETURNING {delivery_columns}, 'failed' AS outcome, d.last_status,
        'event_expired' AS last_error
), filed AS (
    {delivery_file_finished}
)
SELECT count(*) AS count, min(stored_at) AS since, max(stored_at) AS until,
    array_agg(DISTINCT lead_id) FILTER (WHERE version IS NOT NULL) AS leads
FROM finished;

-- name: delivery_count_expired
-- $1 since, $2 until. Returns for each endpoint the number of deliveries that expired in that time.
SELECT e.tenant_id, e.live, e.id AS endpoint_id, x.count
FROM endpoint e CROSS JOIN LATERAL (
    SELECT count(*) AS count FROM delivery_final f
    WHERE f.tenant_id = e.tenant_id AND f.live = e.live AND f.endpoint_id = e.id
      AND f.outcome = 'failed' AND f.outcome <> 'delivered' AND f.last_error = 'event_expired'
      AND f.finished_at >= $1 AND f.finished_at < $2
) AS x
WHERE x.count > 0 ORDER BY e.id;

-- name: delivery_list
-- $1 tenant, $2 mode, $3 endpoint, $4 state (null: all), $5 and $6 created_at and id after which the page
-- begins (null: at the newest), $7 limit. Newest first. A waiting delivery of an endpoint that is not
-- active is `held` and has no due_at; any other is due no earlier than its lane opens. An event about
-- a webhook has no lead.
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
    created_at AS cursor_at
FROM (SELECT * FROM unfinished UNION ALL SELECT * FROM finished) AS d
ORDER BY d.created_at DESC, d.id DESC LIMIT $7;

-- name: delivery_get
-- $1 tenant, $2 mode, $3 endpoint, $4 id. No row: there is no such delivery, or its endpoint is deleted.
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
FROM endpoint e
JOIN delivery_final f ON f.tenant_id = e.tenant_id AND f.live = e.live AND f.endpoint_id = e.id
WHERE e.tenant_id = $1 AND e.live = $2 AND e.id = $3 AND f.id = $4;

-- name: attempt_list
-- $1 tenant, $2 mode, $3 delivery, $4 limit. The newest attempts, oldest first.
SELECT a.number, iso_ms(a.at) AS at, a.status, a.error, a.dns_ms, a.connect_ms, a.wait_ms,
    a.total_ms, a.body, a.truncated
FROM (
    SELECT * FROM attempt WHERE tenant_id = $1 AND live = $2 AND delivery_id = $3
    ORDER BY number DESC, at DESC LIMIT $4
) AS a
ORDER BY a.number, a.at;

-- name: delivery_resend
-- $1 tenant, $2 mode, $3 endpoint, $4 id. Makes a waiting delivery due at once, and copies a finished
-- one; the copy has no version, so it does not wait for other deliveries. No row: there is no such
-- delivery, its endpoint is deleted, or its event is no longer kept.
WITH hurried AS (
    UPDATE delivery d SET due_at = now() FROM endpoint e
    WHERE e.tenant_id = $1 AND e.live = $2 AND e.id = $3
      AND d.tenant_id = $1 AND d.live = $2 AND d.endpoint_id = e.id AND d.id = $4
    RETURNING d.id
), copied AS (
    INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, cause,
        due_at, created_at)
    SELECT f.tenant_id, f.live, f.endpoint_id, f.event_id, f.stored_at, f.type, f.lead_id,
        'resend', now(), now()
    FROM endpoint e
    JOIN delivery_final f ON f.tenant_id = e.tenant_id AND f.live = e.live AND f.endpoint_id = e.id
    JOIN webhook_event w ON w.stored_at = f.stored_at AND w.event_id = f.event_id
    WHERE e.tenant_id = $1 AND e.live = $2 AND e.id = $3 AND f.id = $4
    RETURNING id
)
SELECT id FROM hurried UNION ALL SELECT id FROM copied;

-- name: delivery_insert_test
-- $1 tenant, $2 mode, $3 endpoint, $4 event, $5 type, $6 body. The delivery does not wait for others. If
-- the endpoint has just been deleted, the dispatcher cancels the delivery.
WITH event AS (
    INSERT INTO webhook_event (tenant_id, live, event_id, stored_at, type, body)
    VALUES ($1, $2, $4, now(), $5, $6)
    RETURNING tenant_id, live, event_id, stored_at, type
)
INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, cause, due_at,
    created_at)
SELECT tenant_id, live, $3, event_id, stored_at, type, 'test', now(), now() FROM event
RETURNING id;
