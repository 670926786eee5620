-- name: replay_insert
-- $1 tenant, $2 mode, $3 id, $4 endpoint, $5 since, $6 until (null: now), $7 whether only
-- undelivered deliveries are replayed. No row: another replay of the endpoint is running.
INSERT INTO replay (tenant_id, live, id, endpoint_id, since, until, only_undelivered,
    at_created_at, created_at)
VALUES ($1, $2, $3, $4, $5, least(coalesce($6, now_ms()), now_ms()), $7, $5, now_ms())
ON CONFLICT (endpoint_id) WHERE state = 'running' DO NOTHING
RETURNING id;

-- name: replay_list
-- $1 tenant, $2 mode, $3 endpoint, $4 id (null: all), $5 rows. Newest first.
SELECT id, state, iso_ms(since) AS since, iso_ms(until) AS until, only_undelivered, seen, sent,
    expired, iso_ms(CASE WHEN state = 'done' THEN until ELSE at_created_at END) AS reached_at,
    iso_ms(created_at) AS created_at, iso_ms(finished_at) AS finished_at
FROM replay
WHERE tenant_id = $1 AND live = $2 AND endpoint_id = $3 AND ($4::text IS NULL OR id = $4)
ORDER BY replay.created_at DESC, id DESC LIMIT $5;

-- name: replay_get_running
-- $1 tenant, $2 mode, $3 endpoint.
SELECT id FROM replay
WHERE tenant_id = $1 AND live = $2 AND endpoint_id = $3 AND state = 'running';

-- name: replay_cancel
-- $1 tenant, $2 mode, $3 endpoint, $4 id. Waits for a running replay_advance_one. No row: the replay
-- is not running.
UPDATE replay SET state = 'cancelled', finished_at = now_ms()
WHERE tenant_id = $1 AND live = $2 AND endpoint_id = $3 AND id = $4 AND state = 'running'
RETURNING id;

-- name: replay_advance_one
-- $1 limit of rows, $2 limit of waiting retries and replayed deliveries of an endpoint. The next step
-- of a running replay: creates copies of finished deliveries in their order, except of those that
-- came from a replay, a resend or a test. A delivery whose event is no longer kept counts as expired.
-- One statement does the step, so a replay stays exact if it is interrupted. No row: there is nothing
-- to do now.
WITH job AS MATERIALIZED (
    SELECT r.* FROM replay r
    WHERE r.state = 'running' AND $2 > (
        SELECT count(*) FROM (
            SELECT FROM delivery d
            WHERE d.endpoint_id = r.endpoint_id AND d.yields AND d.leased_until IS NULL LIMIT $2
        ) AS waiting)
    ORDER BY r.created_at LIMIT 1 FOR UPDATE SKIP LOCKED
), page AS MATERIALIZED (
    SELECT f.id, f.tenant_id, f.live, f.endpoint_id, f.event_id, f.stored_at, f.type, f.lead_id,
        f.version, f.outcome, f.cause, f.created_at, j.only_undelivered
    FROM job j CROSS JOIN LATERAL (
        SELECT x.* FROM delivery_final x
        WHERE x.tenant_id = j.tenant_id AND x.live = j.live AND x.endpoint_id = j.endpoint_id
          AND (x.created_at, x.id) > (j.at_created_at, j.at_id) AND x.created_at < j.until
        ORDER BY x.created_at, x.id LIMIT $1
    ) AS f
), wanted AS MATERIALIZED (
    SELECT p.*, e.event_id IS NULL AS is_expired
    FROM page p
    LEFT JOIN webhook_event e ON e.stored_at = p.stored_at AND e.event_id = p.event_id
    WHERE p.cause = 'event' AND p.outcome <> 'superseded' AND NOT (p.only_undelivered AND EXISTS (
        SELECT FROM delivery_final g WHERE g.tenant_id = p.tenant_id AND g.live = p.live
          AND g.endpoint_id = p.endpoint_id AND g.event_id = p.event_id
          AND g.outcome = 'delivered'))
), made AS (
    INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id,
        version, cause, yields, due_at, created_at)
    SELECT w.tenant_id, w.live, w.endpoint_id, w.event_id, w.stored_at, w.type, w.lead_id,
        w.version, 'replay', true, now(), now()
    FROM wanted w WHERE NOT w.is_expired
    ORDER BY w.created_at, w.id
    RETURNING id
), counted AS (
    SELECT (SELECT count(*) FROM page) AS seen, (SELECT count(*) FROM made) AS sent,
        (SELECT count(*) FROM wanted w WHERE w.is_expired) AS expired
)
UPDATE replay r SET
    seen = r.seen + c.seen, sent = r.sent + c.sent, expired = r.expired + c.expired,
    at_created_at = coalesce(last.created_at, r.at_created_at), at_id = coalesce(last.id, r.at_id),
    state = CASE WHEN c.seen < $1 THEN 'done' ELSE 'running' END,
    finished_at = CASE WHEN c.seen < $1 THEN now_ms() END
FROM job j CROSS JOIN counted c
LEFT JOIN LATERAL (
    SELECT p.created_at, p.id FROM page p ORDER BY p.created_at DESC, p.id DESC LIMIT 1
) AS last ON true
WHERE r.tenant_id = j.tenant_id AND r.live = j.live AND r.id = j.id
RETURNING r.id, r.endpoint_id, r.state, c.seen, c.sent;
