-- name: fanout_gate_close
-- $1 tenant. Waits until the running fan-outs of the tenant have ended, and blocks new ones until the
-- transaction ends; see migrations/0005_webhook.sql.
SELECT fanout_gate_close($1);

-- name: endpoint_insert
-- $1 tenant, $2 mode, $3 id, $4 settings as JSON by column name, $5 encrypted secret. The caller has closed the gate, so created_at is exactly the time from which the endpoint
-- receives events.
WITH endpoint AS (
    INSERT INTO endpoint (tenant_id, live, id, url, events, description, status, payload, retry,
        coalesces, rate_limit, timeout_ms, headers, header_names, held_since, events_since,
        created_at, updated_at)
    SELECT $1, $2, $3, s.url, s.events, s.description, s.status, s.payload, s.retry, s.coalesces,
        s.rate_limit, s.timeout_ms, s.headers, s.header_names,
        CASE WHEN s.status <> 'active' THEN now() END, clock.at, clock.at, clock.at
    FROM json_populate_record(NULL::endpoint, $4) AS s, (SELECT now_ms() AS at) AS clock
    RETURNING tenant_id, live, id, created_at
), secret AS (
    INSERT INTO endpoint_secret (tenant_id, live, endpoint_id, sealed, created_at)
    SELECT tenant_id, live, id, $5, created_at FROM endpoint
)
INSERT INTO endpoint_health (tenant_id, live, endpoint_id) SELECT tenant_id, live, id FROM endpoint;

-- name: endpoint_list
-- $1 tenant, $2 mode, $3 id (null: all). Returns one row: the endpoints as JSON, separated by commas,
-- the oldest first (null: there is none). The columns have the names and order of the struct Endpoint.
SELECT string_agg(row_to_json(o)::text, ',') AS body FROM (
    SELECT e.id, e.url, e.events, e.status, iso_ms(e.created_at) AS "createdAt",
        e.status_reason AS "statusReason", e.description, e.payload, e.retry,
        e.coalesces AS "coalesce", e.rate_limit AS "rateLimit", e.timeout_ms AS "timeoutMs",
        e.header_names AS "headerNames", iso_ms(e.updated_at) AS "updatedAt", h.failures,
        iso_ms(h.failing_since) AS "failingSince", iso_ms(h.last_success_at) AS "lastSuccessAt",
        iso_ms(CASE WHEN e.status = 'active' AND h.closed_until > now() THEN h.closed_until END)
            AS "pausedUntil"
    FROM endpoint e
    JOIN endpoint_health h ON h.endpoint_id = e.id
    WHERE e.tenant_id = $1 AND e.live = $2 AND ($3::text IS NULL OR e.id = $3)
    ORDER BY e.created_at, e.id
) AS o;

-- name: endpoint_delete
-- $1 tenant, $2 mode, $3 id. Deletes the secrets too; the dispatcher cancels the waiting deliveries
-- later. No row: there is no such endpoint.
DELETE FROM endpoint WHERE tenant_id = $1 AND live = $2 AND id = $3 RETURNING id;

-- name: endpoint_count
SELECT count(*) FROM endpoint WHERE tenant_id = $1 AND live = $2;

-- name: fanout_begin
-- $1 tenants. Returns the subscriptions of all their endpoints, whatever the status. The endpoints do
-- not change until the transaction ends. The commit does not wait for the disk; see
-- migrations/0005_webhook.sql. event_is_since explains near_until.
SELECT tenant_id, live, id, events, coalesces, iso_ms(created_at) AS created_at,
    iso_ms(created_at + interval '1 minute') AS near_until, created_after
FROM fanout_begin($1::bigint[]);

-- name: endpoint_get_many_for_dispatch
-- $1 ids of endpoints. Returns the data for sending to each endpoint, with the newest secret first.
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
-- The results of recent attempts: $1 endpoints, $2 whether an attempt succeeded, $3 failures after the
-- last success, $4 how many times the breaker has opened since it last closed.
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
-- $1 endpoint, $2 seconds for which nothing is sent to it, $3 seconds that are excused: they do not
-- count against the retry budget of its deliveries. Overlapping time is excused once.
UPDATE endpoint_health SET
    closed_until = greatest(closed_until, now() + make_interval(secs => $2)),
    excused_s = excused_s + greatest(
        $3 - greatest(extract(epoch FROM excused_until - now())::float8, 0), 0),
    excused_until = greatest(excused_until, now() + make_interval(secs => $3))
WHERE endpoint_id = $1;

-- name: endpoint_repair_many
-- $1 seconds. Opens the lanes that are closed for more than $1 seconds, longer than any pause: they were
-- closed while the database's clock was ahead. Excused time that ends as late counts as past. Returns
-- the number of repaired endpoints.
WITH repaired AS (
    UPDATE endpoint_health h SET
        closed_until = CASE WHEN h.closed_until <= l.latest THEN h.closed_until END,
        excused_until = CASE WHEN h.excused_until <= l.latest THEN h.excused_until END
    FROM (SELECT now() + make_interval(secs => $1) AS latest) AS l
    WHERE h.closed_until > l.latest OR h.excused_until > l.latest
    RETURNING h.endpoint_id
)
SELECT count(*) FROM repaired;

-- name: endpoint_disable
-- $1 endpoint, $2 reason, $3 id of the event that reports it. The waiting deliveries are then held. No
-- row: the endpoint was not active.
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
-- Runs in a transaction that has closed the gate; see fanout_gate_close.
-- $1 tenant, $2 mode, $3 id, $4 changes as JSON by column name, $5 the time before which waiting
-- deliveries are skipped if the endpoint becomes active (null: none is skipped; a later time than now
-- counts as now, when all fan-outs that wrote for the endpoint have ended). Returns whether
-- it became active. No row: there is no such endpoint.
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
    events_after = CASE WHEN w.events = e.events THEN e.events_after ELSE log_get_last_id() END,
    updated_at = greatest(now_ms(), e.updated_at)
FROM wanted w WHERE e.tenant_id = $1 AND e.live = $2 AND e.id = $3
RETURNING w.status = 'active' AND w.old_status <> 'active' AS resumed;

-- name: endpoint_finish_skips
-- Clears skip_before of endpoints whose skipped deliveries are all cancelled. A delivery that is being
-- sent is cancelled later.
UPDATE endpoint e SET skip_before = NULL
WHERE e.skip_before IS NOT NULL AND NOT EXISTS (
    SELECT FROM delivery d WHERE d.endpoint_id = e.id AND d.created_at < e.skip_before
);

-- name: endpoint_secret_lock
-- $1 tenant, $2 mode, $3 endpoint. Locks its secrets until the transaction ends. Returns the number of
-- signing secrets and the first time at which an old one expires. No row: there is no such endpoint.
WITH endpoint AS MATERIALIZED (
    SELECT e.id FROM endpoint e WHERE e.tenant_id = $1 AND e.live = $2 AND e.id = $3 FOR UPDATE
)
SELECT count(s.id) AS signing, iso_ms(min(s.expires_at)) AS first_expires_at
FROM endpoint e
LEFT JOIN endpoint_secret s ON s.tenant_id = $1 AND s.live = $2 AND s.endpoint_id = e.id
    AND (s.expires_at IS NULL OR s.expires_at > now())
GROUP BY e.id;

-- name: endpoint_secret_rotate
-- $1 tenant, $2 mode, $3 endpoint, $4 encrypted secret, $5 seconds for which the previous secret still
-- signs. No row: there is no such endpoint.
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
-- $1 ids of events, one for each endpoint at most. Warns of endpoints without a success for 50 %, and
-- again for 80 %, of the five days after which endpoint_disable_failing disables them. Of two
-- concurrent runs only one warns of an endpoint.
WITH late AS MATERIALIZED (
    SELECT h.endpoint_id AS id,
        CASE WHEN h.failing_since < now() - interval '96 hours' THEN 80 ELSE 50 END AS percent
    FROM endpoint_health h JOIN endpoint e ON e.id = h.endpoint_id AND e.status = 'active'
    WHERE h.failures >= 20 AND h.failing_since < now() - interval '60 hours'
      AND h.warned < CASE WHEN h.failing_since < now() - interval '96 hours' THEN 80 ELSE 50 END
    ORDER BY h.endpoint_id LIMIT cardinality($1::text[]) FOR UPDATE SKIP LOCKED
), due AS (
    SELECT l.id, l.percent, row_number() OVER (ORDER BY l.id) AS ordinal FROM late l
), counted AS (
    UPDATE endpoint e SET version = e.version + 1 FROM due d
    WHERE e.id = d.id AND e.status = 'active'
    RETURNING e AS row, d.percent, d.ordinal
), warned AS (
    UPDATE endpoint_health h SET warned = c.percent, warned_at = now() FROM counted c
    WHERE h.endpoint_id = (c.row).id
    RETURNING h AS health, c.row, c.percent, c.ordinal
), logged AS (
    INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
    SELECT lead_shard((w.row).id), (w.row).tenant_id, (w.row).live, (w.row).id, (w.row).version,
        ($1::text[])[w.ordinal], 'webhook.failing', 'dispatcher', now_ms(), row_to_json(ROW(
            webhook_show(w.row, w.health), (w.row).version, 'dispatcher')::webhook_event_data)
    FROM warned w
)
SELECT (row).tenant_id, (row).id, iso_ms((health).failing_since) AS failing_since,
    (health).failures, percent
FROM warned;

-- name: endpoint_disable_failing
-- $1 ids of events, one for each endpoint at most. Disables endpoints without a success for five days
-- and with at least 20 failures, a day after their last warning. With few events the 20th failure, and
-- so the warning, may come long after the five days.
WITH due AS MATERIALIZED (
    SELECT e.id, row_number() OVER (ORDER BY e.id) AS ordinal
    FROM endpoint_health h JOIN endpoint e ON e.id = h.endpoint_id AND e.status = 'active'
    WHERE h.failures >= 20 AND h.failing_since < now() - interval '5 days'
      AND h.warned >= 80
      AND coalesce(h.warned_at, h.failing_since + interval '4 days') < now() - interval '1 day'
    ORDER BY e.id LIMIT cardinality($1::text[])
), disabled AS (
    UPDATE endpoint e SET status = 'disabled', held_since = now(), updated_at = now_ms(),
        version = e.version + 1, status_reason = 'No delivery has succeeded for five days.'
    FROM due d WHERE e.id = d.id AND e.status = 'active'
    RETURNING e AS row, d.ordinal
), logged AS (
    INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
    SELECT lead_shard((d.row).id), (d.row).tenant_id, (d.row).live, (d.row).id, (d.row).version,
        ($1::text[])[d.ordinal], 'webhook.disabled', 'dispatcher', (d.row).updated_at,
        row_to_json(ROW(
            webhook_show(d.row, h), (d.row).version, 'dispatcher')::webhook_event_data)
    FROM disabled d JOIN endpoint_health h ON h.endpoint_id = (d.row).id
)
SELECT (row).tenant_id, (row).id, (row).status_reason FROM disabled;

-- name: endpoint_log_expiry
-- $1 tenant, $2 mode, $3 endpoint, $4 id of the event, $5 number of expired deliveries, $6 and $7 time
-- range of their events. Runs in the transaction that finishes them. No row: there is no such endpoint.
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

-- name: endpoint_secret_list_for_key_rotation
-- $1 key id. A batch of the secrets that are encrypted with another key.
SELECT s.tenant_id, s.live, s.endpoint_id, s.id, s.sealed FROM endpoint_secret s
WHERE substr(s.sealed, 1, 4) <> $1 ORDER BY s.endpoint_id, s.id LIMIT 500 FOR UPDATE;

-- name: endpoint_secret_reencrypt
-- $1 tenant, $2 mode, $3 endpoint, $4 secret, $5 its new ciphertext.
UPDATE endpoint_secret SET sealed = $5
WHERE tenant_id = $1 AND live = $2 AND endpoint_id = $3 AND id = $4;

-- name: endpoint_headers_list_for_key_rotation
-- $1 key id. A batch of the headers that are encrypted with another key.
SELECT e.tenant_id, e.live, e.id, e.headers FROM endpoint e
WHERE substr(e.headers, 1, 4) <> $1 ORDER BY e.id LIMIT 500 FOR UPDATE;

-- name: endpoint_count_undecryptable
-- $1 the ids of all keys: the endpoints with a secret or headers that none of them encrypted.
SELECT count(*) FROM (
    SELECT s.endpoint_id FROM endpoint_secret s
    WHERE substr(s.sealed, 1, 4) <> ALL ($1::bytea[])
      AND (s.expires_at IS NULL OR s.expires_at > now())
    UNION
    SELECT e.id FROM endpoint e
    WHERE e.headers IS NOT NULL AND substr(e.headers, 1, 4) <> ALL ($1::bytea[])
) AS undecryptable;

-- name: endpoint_headers_reencrypt
-- $1 tenant, $2 mode, $3 endpoint, $4 the new ciphertext of its headers.
UPDATE endpoint SET headers = $4 WHERE tenant_id = $1 AND live = $2 AND id = $3;

-- name: lane_get_lateness
-- The seconds by which the oldest sendable delivery is late. Sendable: its endpoint is active, its lane
-- is open, and the lane has no deliveries to skip. The query skips from lane to lane, as
-- lane_list_due does. 0: no delivery is late.
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
