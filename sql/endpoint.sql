-- name: fanout_gate_close
-- $1 tenant. Waits for the fan-outs that read this tenant's endpoints and keeps the next ones out
-- until the transaction ends; see 0020_webhook.sql.
SELECT fanout_gate_close($1);

-- name: endpoint_insert
-- $1 tenant, $2 mode, $3 id, $4 url, $5 events, $6 sealed secret. The gate is closed: createdAt is
-- the moment from which on events are for it.
WITH endpoint AS (
    INSERT INTO endpoint (tenant_id, live, id, url, events, events_since, created_at, updated_at)
    SELECT $1, $2, $3, $4, $5, at, at, at FROM (SELECT now_ms() AS at) AS clock
    RETURNING tenant_id, live, id, created_at
), secret AS (
    INSERT INTO endpoint_secret (tenant_id, live, endpoint_id, sealed, created_at)
    SELECT tenant_id, live, id, $6, created_at FROM endpoint
), health AS (
    INSERT INTO endpoint_health (tenant_id, live, endpoint_id)
    SELECT tenant_id, live, id FROM endpoint
)
SELECT iso_ms(created_at) AS created_at FROM endpoint;

-- name: endpoint_list
-- $1 tenant, $2 mode: all of them, oldest first.
SELECT e.id, e.url, e.events, e.status, iso_ms(e.created_at) AS created_at, e.status_reason,
    e.description, e.payload, e.retry, e.coalesces, e.rate_limit, e.timeout_ms, e.header_names,
    iso_ms(e.updated_at) AS updated_at, h.failures,
    iso_ms(h.failing_since) AS failing_since, iso_ms(h.last_success_at) AS last_success_at,
    iso_ms(CASE WHEN e.status = 'active' AND h.closed_until > now() THEN h.closed_until END)
        AS paused_until
FROM endpoint e
JOIN endpoint_health h ON h.endpoint_id = e.id
WHERE e.tenant_id = $1 AND e.live = $2 AND ($3::text IS NULL OR e.id = $3)
ORDER BY e.created_at, e.id;

-- name: endpoint_delete
-- $1 tenant, $2 mode, $3 id. Secrets go with it; its deliveries are cancelled afterwards, by the
-- dispatcher. No row: there is none.
DELETE FROM endpoint WHERE tenant_id = $1 AND live = $2 AND id = $3 RETURNING id;

-- name: endpoint_count
SELECT count(*) FROM endpoint WHERE tenant_id = $1 AND live = $2;

-- name: fanout_begin
-- $1 tenants: what their endpoints want, whatever their status, held still until the transaction
-- ends. It commits without waiting for the disk; see 0070_fanout_begin.sql.
SELECT tenant_id, live, id, events, coalesces, iso_ms(created_at) AS created_at
FROM fanout_begin($1::bigint[]);

-- name: endpoint_get_many_for_dispatch
-- $1 ids, from deliveries just leased: what is needed to send to each, secrets newest first.
SELECT e.tenant_id, e.live, e.id, e.url, e.payload, e.retry, e.rate_limit, e.timeout_ms, e.headers,
    h.trips, ARRAY(
        SELECT s.sealed FROM endpoint_secret s
        WHERE s.tenant_id = e.tenant_id AND s.live = e.live AND s.endpoint_id = e.id
          AND (s.expires_at IS NULL OR s.expires_at > now())
        ORDER BY s.id DESC
    ) AS secrets
FROM endpoint e
JOIN endpoint_health h ON h.endpoint_id = e.id
WHERE e.id = ANY ($1::text[]);

-- name: endpoint_health_save_many
-- What came of the attempts of a while: $1 endpoints, $2 whether one succeeded, $3 failures after
-- the last success, $4 times the breaker has opened since it last closed.
WITH locked AS MATERIALIZED (
    SELECT h.endpoint_id, i.succeeded, i.failed, i.trips
    FROM unnest($1::text[], $2::boolean[], $3::integer[], $4::smallint[])
        AS i (endpoint_id, succeeded, failed, trips)
    JOIN endpoint_health h ON h.endpoint_id = i.endpoint_id
    ORDER BY h.endpoint_id FOR UPDATE OF h
)
UPDATE endpoint_health h SET
    failures = CASE WHEN l.succeeded THEN l.failed ELSE h.failures + l.failed END,
    failing_since = CASE WHEN l.failed = 0 THEN CASE WHEN l.succeeded THEN NULL ELSE h.failing_since END
        WHEN l.succeeded THEN now() ELSE coalesce(h.failing_since, now()) END,
    last_success_at = CASE WHEN l.succeeded THEN now() ELSE h.last_success_at END,
    warned = CASE WHEN l.succeeded THEN 0 ELSE h.warned END,
    trips = l.trips
FROM locked l WHERE h.endpoint_id = l.endpoint_id;

-- name: endpoint_close_lane
-- $1 endpoint, $2 seconds for which nothing is to be sent to it, $3 how many of them cost no delivery
-- its budget. What was excused before counts once.
UPDATE endpoint_health SET
    closed_until = greatest(closed_until, now() + make_interval(secs => $2)),
    excused_s = excused_s + greatest(
        $3 - greatest(extract(epoch FROM excused_until - now())::float8, 0), 0),
    excused_until = greatest(excused_until, now() + make_interval(secs => $3))
WHERE endpoint_id = $1;

-- name: endpoint_disable
-- $1 endpoint, $2 why, $3 id of the event that says so. What waits for it is held. No row: it was
-- not active.
WITH disabled AS (
    UPDATE endpoint e SET status = 'disabled', status_reason = $2, held_since = now(),
        updated_at = now_ms(), version = e.version + 1
    WHERE e.id = $1 AND e.status = 'active'
    RETURNING e AS row
), logged AS (
    INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
    SELECT lead_shard((d.row).id), (d.row).tenant_id, (d.row).live, (d.row).id, (d.row).version, $3,
        'webhook.disabled', 'dispatcher', (d.row).updated_at, row_to_json(ROW(
            webhook_show(d.row, h), (d.row).version, 'dispatcher')::webhook_event_data)
    FROM disabled d JOIN endpoint_health h ON h.endpoint_id = (d.row).id
)
SELECT (row).id FROM disabled;

-- name: endpoint_update
-- In a transaction that has closed the gate, see fanout_gate_close.
-- $1 tenant, $2 mode, $3 id, $4 what changes as JSON under column names, $5 from when on deliveries
-- that wait are still wanted if this makes it active (null: all; never later than now, when all
-- fan-outs that wrote for it have ended). Whether it did make it active. No row: there is none.
WITH before AS MATERIALIZED (
    SELECT e AS row FROM endpoint e
    WHERE e.tenant_id = $1 AND e.live = $2 AND e.id = $3 FOR UPDATE
), wanted AS (
    SELECT (b.row).status AS old_status, n.* FROM before b
    CROSS JOIN LATERAL json_populate_record(b.row, $4) AS n
), woken AS (
    UPDATE endpoint_health h SET closed_until = NULL, trips = 0, failures = 0,
        failing_since = NULL, warned = 0, excused_until = NULL,
        excused_s = excused_time(h) + CASE WHEN w.held_since IS NULL THEN 0 ELSE greatest(
            extract(epoch FROM now() - greatest(h.excused_until, w.held_since))::float8, 0) END
    FROM wanted w
    WHERE h.tenant_id = $1 AND h.live = $2 AND h.endpoint_id = $3
      AND w.status = 'active' AND w.old_status <> 'active'
)
UPDATE endpoint e SET url = w.url, events = w.events, description = w.description,
    status = w.status, status_reason = CASE WHEN w.status = w.old_status THEN e.status_reason END,
    payload = w.payload, retry = w.retry, coalesces = w.coalesces, rate_limit = w.rate_limit,
    timeout_ms = w.timeout_ms, headers = w.headers, header_names = w.header_names,
    held_since = CASE WHEN w.status <> 'active' THEN coalesce(e.held_since, now()) END,
    skip_before = CASE WHEN w.status = 'active' AND w.old_status <> 'active'
        THEN greatest(e.skip_before,
            CASE WHEN $5::timestamptz IS NOT NULL THEN least($5, clock_timestamp()) END)
        ELSE e.skip_before END,
    recall_after = CASE WHEN w.status = 'active' AND w.old_status <> 'active'
        THEN now() ELSE e.recall_after END,
    events_since = CASE WHEN w.events = e.events THEN e.events_since ELSE now_ms() END,
    updated_at = greatest(now_ms(), e.updated_at)
FROM wanted w WHERE e.tenant_id = $1 AND e.live = $2 AND e.id = $3
RETURNING w.status = 'active' AND w.old_status <> 'active' AS resumed;

-- name: endpoint_finish_skips
-- Of endpoints whose unwanted deliveries are all cancelled: one that is being sent is not yet.
UPDATE endpoint e SET skip_before = NULL
WHERE e.skip_before IS NOT NULL AND NOT EXISTS (
    SELECT FROM delivery d WHERE d.endpoint_id = e.id AND d.created_at < e.skip_before
);

-- name: endpoint_secret_lock
-- $1 tenant, $2 mode, $3 endpoint, whose secrets do not change until the transaction ends: how many
-- sign, and when the first of the old ones expires. No row: there is no such endpoint.
WITH endpoint AS MATERIALIZED (
    SELECT e.id FROM endpoint e WHERE e.tenant_id = $1 AND e.live = $2 AND e.id = $3 FOR UPDATE
)
SELECT count(s.id) AS signing, iso_ms(min(s.expires_at)) AS first_expires_at
FROM endpoint e
LEFT JOIN endpoint_secret s ON s.tenant_id = $1 AND s.live = $2 AND s.endpoint_id = e.id
    AND (s.expires_at IS NULL OR s.expires_at > now())
GROUP BY e.id;

-- name: endpoint_secret_rotate
-- $1 tenant, $2 mode, $3 endpoint, $4 sealed secret, $5 seconds for which the old one signs on. No
-- row: there is no such endpoint.
WITH endpoint AS MATERIALIZED (
    SELECT e.tenant_id, e.live, e.id FROM endpoint e
    WHERE e.tenant_id = $1 AND e.live = $2 AND e.id = $3 FOR UPDATE
), aged AS (
    UPDATE endpoint_secret s SET expires_at = now_ms() + make_interval(secs => $5)
    FROM endpoint e WHERE s.tenant_id = $1 AND s.live = $2 AND s.endpoint_id = e.id
      AND s.expires_at IS NULL
    RETURNING s.expires_at
), expired AS (
    DELETE FROM endpoint_secret s USING endpoint e
    WHERE s.tenant_id = $1 AND s.live = $2 AND s.endpoint_id = e.id AND s.expires_at < now()
)
INSERT INTO endpoint_secret (tenant_id, live, endpoint_id, sealed, created_at)
SELECT tenant_id, live, id, $4, now_ms() FROM endpoint
RETURNING iso_ms((SELECT max(a.expires_at) FROM aged a)) AS previous_expires_at;

-- name: endpoint_warn_failing
-- $1 ids of events, as many endpoints at the most. Endpoints without a success for half, and again
-- for four fifths, of the five days after which endpoint_disable_failing ends it. Of two that look at
-- the same time one tells.
WITH late AS MATERIALIZED (
    SELECT h.endpoint_id AS id,
        CASE WHEN h.failing_since < now() - interval '96 hours' THEN 80 ELSE 50 END AS percent
    FROM endpoint_health h JOIN endpoint e ON e.id = h.endpoint_id AND e.status = 'active'
    WHERE h.failures >= 20 AND h.failing_since < now() - interval '60 hours'
      AND h.warned < CASE WHEN h.failing_since < now() - interval '96 hours' THEN 80 ELSE 50 END
    ORDER BY h.endpoint_id LIMIT cardinality($1::text[]) FOR UPDATE SKIP LOCKED
), due AS (
    SELECT l.id, l.percent, row_number() OVER (ORDER BY l.id) AS place FROM late l
), counted AS (
    UPDATE endpoint e SET version = e.version + 1 FROM due d
    WHERE e.id = d.id AND e.status = 'active'
    RETURNING e AS row, d.percent, d.place
), warned AS (
    UPDATE endpoint_health h SET warned = c.percent, warned_at = now() FROM counted c
    WHERE h.endpoint_id = (c.row).id
    RETURNING h AS health, c.row, c.percent, c.place
), logged AS (
    INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
    SELECT lead_shard((w.row).id), (w.row).tenant_id, (w.row).live, (w.row).id, (w.row).version,
        ($1::text[])[w.place], 'webhook.failing', 'dispatcher', now_ms(), row_to_json(ROW(
            webhook_show(w.row, w.health), (w.row).version, 'dispatcher')::webhook_event_data)
    FROM warned w
)
SELECT (row).tenant_id, (row).id, iso_ms((health).failing_since) AS failing_since,
    (health).failures, percent
FROM warned;

-- name: endpoint_disable_failing
-- $1 ids of events, as many endpoints at the most: those without a success for five days and with
-- at least 20 failures, whose owner got the last notice a day ago. With few events the 20 may be
-- full long after the five days, and so the notice is late.
WITH due AS MATERIALIZED (
    SELECT e.id, row_number() OVER (ORDER BY e.id) AS place
    FROM endpoint_health h JOIN endpoint e ON e.id = h.endpoint_id AND e.status = 'active'
    WHERE h.failures >= 20 AND h.failing_since < now() - interval '5 days'
      AND h.warned >= 80
      AND coalesce(h.warned_at, h.failing_since + interval '4 days') < now() - interval '1 day'
    ORDER BY e.id LIMIT cardinality($1::text[])
), disabled AS (
    UPDATE endpoint e SET status = 'disabled', held_since = now(), updated_at = now_ms(),
        version = e.version + 1, status_reason = 'No delivery has succeeded for five days.'
    FROM due d WHERE e.id = d.id AND e.status = 'active'
    RETURNING e AS row, d.place
), logged AS (
    INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
    SELECT lead_shard((d.row).id), (d.row).tenant_id, (d.row).live, (d.row).id, (d.row).version,
        ($1::text[])[d.place], 'webhook.disabled', 'dispatcher', (d.row).updated_at,
        row_to_json(ROW(
            webhook_show(d.row, h), (d.row).version, 'dispatcher')::webhook_event_data)
    FROM disabled d JOIN endpoint_health h ON h.endpoint_id = (d.row).id
)
SELECT (row).tenant_id, (row).id, (row).status_reason FROM disabled;

-- name: endpoint_log_expiry
-- $1 tenant, $2 mode, $3 endpoint, $4 id of the event, $5 how many deliveries expired, $6 and $7
-- from when to when their events came; in the transaction that finishes them. No row: it is gone.
WITH counted AS (
    UPDATE endpoint e SET version = e.version + 1
    WHERE e.tenant_id = $1 AND e.live = $2 AND e.id = $3
    RETURNING e AS row
)
INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
SELECT lead_shard((c.row).id), (c.row).tenant_id, (c.row).live, (c.row).id, (c.row).version, $4,
    'webhook.expired', 'janitor', now_ms(), row_to_json(ROW(webhook_show(c.row, h),
        ROW($5::bigint, iso_ms($6), iso_ms($7))::webhook_expiry, (c.row).version, 'janitor'
    )::webhook_expired_data)
FROM counted c JOIN endpoint_health h ON h.tenant_id = $1 AND h.live = $2 AND h.endpoint_id = $3
RETURNING event_id;

-- name: endpoint_secret_list_for_rekey
-- $1 key id: secrets sealed with another key, some at a time.
SELECT s.tenant_id, s.live, s.endpoint_id, s.id, s.sealed FROM endpoint_secret s
WHERE substr(s.sealed, 1, 4) <> $1 ORDER BY s.endpoint_id, s.id LIMIT 500 FOR UPDATE;

-- name: endpoint_secret_rekey
-- $1 tenant, $2 mode, $3 endpoint, $4 secret, $5 sealed anew.
UPDATE endpoint_secret SET sealed = $5
WHERE tenant_id = $1 AND live = $2 AND endpoint_id = $3 AND id = $4;

-- name: endpoint_headers_list_for_rekey
-- $1 key id: headers sealed with another key, some at a time.
SELECT e.tenant_id, e.live, e.id, e.headers FROM endpoint e
WHERE substr(e.headers, 1, 4) <> $1 ORDER BY e.id LIMIT 500 FOR UPDATE;

-- name: endpoint_headers_rekey
-- $1 tenant, $2 mode, $3 endpoint, $4 sealed anew.
UPDATE endpoint SET headers = $4 WHERE tenant_id = $1 AND live = $2 AND id = $3;

-- name: lane_get_lateness
-- How many seconds ago the oldest delivery was due that could be sent: its endpoint is active, its
-- lane is open, and nothing that waits there is to be skipped. Goes from lane to lane, as
-- lane_list_due does. 0: none is late.
WITH RECURSIVE lane AS (
    (SELECT d.endpoint_id, d.yields, d.due_at FROM delivery d WHERE d.leased_until IS NULL
     ORDER BY d.endpoint_id, d.yields, d.due_at LIMIT 1)
    UNION ALL
    SELECT n.endpoint_id, n.yields, n.due_at FROM lane l CROSS JOIN LATERAL (
        SELECT d.endpoint_id, d.yields, d.due_at FROM delivery d
        WHERE d.leased_until IS NULL AND (d.endpoint_id, d.yields) > (l.endpoint_id, l.yields)
        ORDER BY d.endpoint_id, d.yields, d.due_at LIMIT 1) AS n
)
SELECT greatest(coalesce(extract(epoch FROM now() - min(l.due_at)), 0), 0)::float8 AS late_s
FROM lane l
JOIN endpoint e ON e.id = l.endpoint_id AND e.status = 'active' AND e.skip_before IS NULL
JOIN endpoint_health h ON h.endpoint_id = l.endpoint_id
WHERE h.closed_until IS NULL OR h.closed_until <= now();
