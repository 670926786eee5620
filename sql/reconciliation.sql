-- name: reconciliation_get_start_tick
-- $1 the earliest time. The tick up to which deliveries are checked, or the last tick before $1 if
-- that is later.
SELECT greatest((SELECT max(r.tick) FROM reconciliation r), tick_find_last($1));

-- name: tick_find_last
-- $1 time. Returns the last tick that was cut no later than $1, or the oldest tick that is kept.
SELECT tick_find_last($1);

-- name: reconciliation_find_next
-- $1 tick, $2 limit of ticks. The next span of the log that the fan-out has read: its last tick, and
-- the first and last time at which its ticks were cut. If the clock was set back meanwhile, the first
-- time is at most an hour before that of the first tick. A span ends where a new generation begins. No
-- row: there is nothing to check yet.
SELECT b.tick, greatest(time.first, a.at - interval '1 hour') AS since, time.last AS upto
FROM tick a CROSS JOIN LATERAL (
    SELECT t.tick, t.at FROM tick t
    WHERE t.tick > a.tick AND t.tick <= least(
        a.tick + $2, (SELECT min(r.tick) FROM reader r WHERE r.name = 'fanout'))
      AND (t.generation = a.generation OR t.tick = a.tick + 1)
    ORDER BY t.tick DESC LIMIT 1
) AS b
CROSS JOIN LATERAL (
    SELECT min(t.at) AS first, max(t.at) AS last FROM tick t
    WHERE t.tick >= a.tick AND t.tick <= b.tick
) AS time
WHERE a.tick = $1;

-- name: reconciliation_find_end
-- $1 tick up to which deliveries are checked. Returns the end of the checked time, and the seconds since
-- then. The end is the time at which the next window was cut; if there is none, the time at which the
-- oldest event without a window was written; or else now.
SELECT f.upto, extract(epoch FROM clock_timestamp() - f.upto)::float8 AS behind_s
FROM (
    SELECT coalesce(
        (SELECT t.at FROM tick t WHERE t.tick > $1 ORDER BY t.tick LIMIT 1),
        (SELECT min(u.at) FROM ticker n
         CROSS JOIN LATERAL (
            SELECT o.at FROM outbox o
            WHERE o.txid >= pg_snapshot_xmax(n.snap)
              AND o.txid < pg_snapshot_xmax(pg_current_snapshot()) AND o.generation = n.generation
            ORDER BY o.txid LIMIT 1) AS u),
        clock_timestamp()) AS upto
) AS f;

-- name: reconciliation_is_due
-- $1 seconds. True if the last reconciliation was longer ago than this, or if there has been none.
SELECT coalesce(max(at) < now() - make_interval(secs => $1), true) FROM reconciliation;

-- name: reconciliation_save
-- $1 and $2 ticks, $3 and $4 start and end of the counted time, $5 expected, $6 missing, $7 doubled,
-- $8 stray. A result without a difference extends the last row, up to an hour; another result is a
-- row of its own.
WITH old AS (
    DELETE FROM reconciliation WHERE at < now() - interval '60 days'
), grown AS (
    UPDATE reconciliation SET tick = $2, upto = $4, expected = expected + $5,
        at = clock_timestamp()
    WHERE tick = $1 AND since > $4::timestamptz - interval '1 hour'
      AND missing + doubled + stray = 0 AND $6::bigint + $7::bigint + $8::bigint = 0
    RETURNING tick
)
INSERT INTO reconciliation (since, upto, tick, expected, missing, doubled, stray, at)
SELECT $3, $4, $2, $5, $6, $7, $8, clock_timestamp()
WHERE NOT EXISTS (SELECT FROM grown)
  AND NOT EXISTS (SELECT FROM reconciliation WHERE tick >= $2);

-- name: reconciliation_get_figures
-- For /metrics: the differences of the last day, and the tick up to which deliveries are checked.
SELECT coalesce(sum(r.missing + r.doubled + r.stray)
        FILTER (WHERE r.at > now() - interval '1 day'), 0)::bigint AS differing,
    coalesce(max(r.tick), (SELECT tick FROM tick ORDER BY tick LIMIT 1)) AS tick
FROM reconciliation r;

-- name: reconciliation_begin
-- $1 statement timeout in seconds, until the end of the transaction. The next two statements order
-- their subqueries by an index. Without sorts and sequential scans the planner uses that index even
-- where its statistics are those of an empty table.
SELECT set_config('statement_timeout', ($1::integer * 1000)::text, true),
    set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true);

-- name: endpoint_reconcile
-- $1 and $2 first and last tick of a span that the fan-out has read. For each endpoint with events in
-- the span: the number of events, of events without a delivery, and of events with more than one. The
-- span has the events that the later snapshot sees and the earlier does not, independent of how
-- readers read windows.
WITH span AS (
    SELECT a.snap AS before, b.snap AS after, a.generation
    FROM tick a JOIN tick b ON b.tick = $2 AND b.generation = a.generation WHERE a.tick = $1
), event AS MATERIALIZED (
    SELECT w.* FROM span s CROSS JOIN LATERAL (
        SELECT o.* FROM outbox o
        WHERE o.txid >= pg_snapshot_xmax(s.before) AND o.txid < pg_snapshot_xmax(s.after)
        UNION ALL
        SELECT o.* FROM outbox o
        WHERE o.txid = ANY (ARRAY(SELECT pg_snapshot_xip(s.before)))
    ) AS w
    WHERE pg_visible_in_snapshot(w.txid, s.after) AND w.generation = s.generation
)
SELECT e.tenant_id, e.live, e.id AS endpoint_id, count(*) AS expected,
    count(*) FILTER (WHERE made.count = 0) AS missing,
    count(*) FILTER (WHERE made.count > 1) AS doubled
FROM event o
JOIN endpoint e ON e.tenant_id = o.tenant_id AND e.live = o.live
    AND event_is_wanted(o.type, o.lead_id, e.events, e.id)
    AND event_is_since(o.at, o.id, e.events_since, e.events_after)
CROSS JOIN LATERAL (
    SELECT (
        SELECT count(*) FROM (
            SELECT FROM delivery d
            WHERE d.tenant_id = e.tenant_id AND d.live = e.live AND d.endpoint_id = e.id
              AND d.lead_id = o.lead_id AND d.version >= o.version AND d.version <= o.version
              AND d.cause = 'event'
            ORDER BY d.version, d.id LIMIT 2) AS d
    ) + (
        SELECT count(*) FROM (
            SELECT FROM delivery_final f
            WHERE f.tenant_id = e.tenant_id AND f.live = e.live AND f.endpoint_id = e.id
              AND f.event_id >= o.event_id AND f.event_id <= o.event_id AND f.cause = 'event'
              AND f.finished_at > o.at - interval '1 hour'  -- not in an older partition
            ORDER BY f.event_id LIMIT 2) AS f
    ) AS count
) AS near
CROSS JOIN LATERAL (
    SELECT coalesce(nullif(near.count, 0), (
        SELECT count(*) FROM (
            SELECT FROM delivery_final f  -- in any partition: the clock may have been set back
            WHERE f.tenant_id = e.tenant_id AND f.live = e.live AND f.endpoint_id = e.id
              AND f.event_id >= o.event_id AND f.event_id <= o.event_id AND f.cause = 'event'
            ORDER BY f.event_id LIMIT 2) AS f
    )) AS count
) AS made
GROUP BY e.tenant_id, e.live, e.id;

-- name: delivery_reconcile
-- $1 since, $2 until. For each endpoint: the number of deliveries created in between whose event is not
-- in the log, or is of a type to which the endpoint was not subscribed.
SELECT e.tenant_id, e.live, e.id AS endpoint_id, count(*) AS stray
FROM endpoint e CROSS JOIN LATERAL (
    (SELECT x.event_id, x.stored_at, x.lead_id FROM delivery x
     WHERE x.tenant_id = e.tenant_id AND x.live = e.live AND x.endpoint_id = e.id
       AND x.created_at >= $1 AND x.created_at < $2 AND x.cause = 'event'
     ORDER BY x.created_at, x.id)
    UNION ALL
    (SELECT x.event_id, x.stored_at, x.lead_id FROM delivery_final x
     WHERE x.tenant_id = e.tenant_id AND x.live = e.live AND x.endpoint_id = e.id
       AND x.created_at >= $1 AND x.created_at < $2 AND x.cause = 'event'
       AND x.finished_at > $1::timestamptz - interval '1 hour'
     ORDER BY x.created_at, x.id)
) AS d
LEFT JOIN LATERAL (
    SELECT w.txid, w.txid IS NULL AS is_old FROM webhook_event w
    WHERE w.stored_at = d.stored_at AND w.event_id = d.event_id
      AND w.tenant_id = e.tenant_id AND w.live = e.live LIMIT 1
) AS w ON true
LEFT JOIN LATERAL (
    SELECT o.event_id FROM outbox o
    WHERE o.shard = lead_shard(d.lead_id) AND o.txid = w.txid AND o.event_id = d.event_id
      AND o.tenant_id = e.tenant_id AND o.live = e.live
      AND event_is_since(o.at, o.id, e.created_at, e.created_after)
      AND (event_is_wanted(o.type, o.lead_id, e.events, e.id)
          OR NOT event_is_since(o.at, o.id, e.events_since, e.events_after))
    LIMIT 1
) AS o ON true
WHERE o.event_id IS NULL AND w.is_old IS NOT TRUE
GROUP BY e.tenant_id, e.live, e.id;
