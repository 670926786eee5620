-- name: reconciliation_get_place
-- $1 before which nothing is looked at. The tick up to which all is proven, or the last before $1.
SELECT greatest((SELECT max(r.tick) FROM reconciliation r), tick_find_last($1));

-- name: tick_find_last
-- $1 moment: the last tick that was cut by then, or the oldest that is kept.
SELECT tick_find_last($1);

-- name: reconciliation_find_next
-- $1 tick, $2 ticks at most: the piece of the log after it that all fan-outs have passed, and when
-- its ends were cut. A new generation begins a new piece. No row: there is nothing to prove yet.
SELECT b.tick, a.at AS since, b.at AS upto
FROM tick a CROSS JOIN LATERAL (
    SELECT t.tick, t.at FROM tick t
    WHERE t.tick > a.tick AND t.tick <= least(
        a.tick + $2, (SELECT min(r.tick) FROM reader r WHERE r.name LIKE 'fanout/%'))
      AND (t.generation = a.generation OR t.tick = a.tick + 1)
    ORDER BY t.tick DESC LIMIT 1
) AS b
WHERE a.tick = $1;

-- name: reconciliation_find_end
-- $1 tick up to which all is proven. The moment beyond which it is not: when the next window was cut
-- or, if none was, the oldest event was written that no window holds; now, if there is none either.
-- And how long ago that was.
SELECT f.upto, extract(epoch FROM clock_timestamp() - f.upto)::float8 AS behind_s
FROM (
    SELECT coalesce(
        (SELECT t.at FROM tick t WHERE t.tick > $1 ORDER BY t.tick LIMIT 1),
        (SELECT min(u.at) FROM ticker n
         CROSS JOIN unnest('{0,1,2,3,4,5,6,7}'::smallint[]) AS s (shard)
         CROSS JOIN LATERAL (
            SELECT o.at FROM outbox o
            WHERE o.shard = s.shard AND o.txid >= pg_snapshot_xmax(n.snap)
              AND o.txid < pg_snapshot_xmax(pg_current_snapshot()) AND o.generation = n.generation
            ORDER BY o.txid LIMIT 1) AS u),
        clock_timestamp()) AS upto
) AS f;

-- name: reconciliation_is_due
-- $1 seconds between two. True if the last one is longer ago, or there was none.
SELECT coalesce(max(at) < now() - make_interval(secs => $1), true) FROM reconciliation;

-- name: reconciliation_note
-- $1 and $2 ticks, $3 and $4 moments between which was counted, $5 expected, $6 missing, $7 doubled,
-- $8 stray. What differs has a row of its own; else a row grows to an hour.
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
-- For /metrics: what differed in the last day, and the tick up to which all is proven.
SELECT coalesce(sum(r.missing + r.doubled + r.stray)
        FILTER (WHERE r.at > now() - interval '1 day'), 0)::bigint AS differing,
    coalesce(max(r.tick), (SELECT tick FROM tick ORDER BY tick LIMIT 1)) AS tick
FROM reconciliation r;

-- name: reconciliation_begin
-- $1 seconds that a statement may take until the transaction ends. The counts below say in what order
-- they read: until then they are read by the indexes that have this order, and not by whatever seems as
-- good while a table is thought empty.
SELECT set_config('statement_timeout', ($1::integer * 1000)::text, true),
    set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true);

-- name: endpoint_reconcile
-- $1 and $2 ticks of which the second sees what fan-outs have passed: for each endpoint that events
-- in between were for, how many there were, of how many there is no delivery, and of how many more
-- than one. In between is what the later snapshot sees and the earlier does not; whether readers
-- read it so does not matter.
WITH span AS (
    SELECT a.snap AS before, b.snap AS after, a.generation
    FROM tick a JOIN tick b ON b.tick = $2 AND b.generation = a.generation WHERE a.tick = $1
), event AS MATERIALIZED (
    SELECT w.* FROM span s CROSS JOIN LATERAL (
        SELECT o.* FROM outbox o
        WHERE o.shard = ANY ('{0,1,2,3,4,5,6,7}')
          AND o.txid >= pg_snapshot_xmax(s.before) AND o.txid < pg_snapshot_xmax(s.after)
        UNION ALL
        SELECT o.* FROM outbox o
        WHERE o.shard = ANY ('{0,1,2,3,4,5,6,7}')
          AND o.txid = ANY (ARRAY(SELECT pg_snapshot_xip(s.before)))
    ) AS w
    WHERE pg_visible_in_snapshot(w.txid, s.after) AND w.generation = s.generation
)
SELECT e.tenant_id, e.live, e.id, count(*) AS expected,
    count(*) FILTER (WHERE made.count = 0) AS missing,
    count(*) FILTER (WHERE made.count > 1) AS doubled
FROM event o
JOIN endpoint e ON e.tenant_id = o.tenant_id AND e.live = o.live AND o.type = ANY (e.events)
    AND o.at >= e.events_since
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
              AND f.finished_at > o.at - interval '1 hour'  -- no older partition can have it
            ORDER BY f.event_id LIMIT 2) AS f
    ) AS count
) AS made
GROUP BY e.tenant_id, e.live, e.id;

-- name: delivery_reconcile
-- $1 since, $2 until: for each endpoint the deliveries made in between of which the log has no
-- event, or one that the endpoint did not want.
SELECT e.tenant_id, e.live, e.id, count(*) AS stray
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
      AND o.tenant_id = e.tenant_id AND o.live = e.live AND o.at >= e.created_at
      AND (o.type = ANY (e.events) OR o.at < e.events_since)
      AND o.at < d.stored_at + interval '1 hour'  -- no younger partition can have it
    LIMIT 1
) AS o ON true
WHERE o.event_id IS NULL AND w.is_old IS NOT TRUE
GROUP BY e.tenant_id, e.live, e.id;
