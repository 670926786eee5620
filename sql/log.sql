-- name: ticker_cut
-- $1 the tick that the ticker believes to be the newest. Cuts the next one if something has
-- become visible since. One statement, so one snapshot: what it sees is what it stores. No row:
-- nothing new, or another ticker was faster. The look for news stops at the first of a shard however
-- many there are, and above all that runs now, where only rows of an older generation can be.
WITH cut AS (
    UPDATE ticker AS t SET tick = t.tick + 1, snap = pg_current_snapshot(), at = clock_timestamp()
    WHERE t.tick = $1 AND (
        EXISTS (
            SELECT FROM unnest('{0,1,2,3,4,5,6,7}'::smallint[]) AS s (shard) CROSS JOIN LATERAL (
                SELECT FROM outbox o
                WHERE o.shard = s.shard AND o.txid >= pg_snapshot_xmax(t.snap)
                  AND o.txid < pg_snapshot_xmax(pg_current_snapshot())
                  AND o.generation = t.generation
                ORDER BY o.txid LIMIT 1) AS o)
        OR EXISTS (
            SELECT FROM outbox o
            WHERE o.shard = ANY ('{0,1,2,3,4,5,6,7}')
              AND o.txid = ANY (ARRAY(SELECT pg_snapshot_xip(t.snap)))
              AND o.generation = t.generation))
    RETURNING t.tick, t.generation, t.snap, t.at
)
INSERT INTO tick (tick, generation, snap, at)
SELECT tick, generation, snap, at FROM cut
RETURNING tick;

-- name: ticker_get_tick
SELECT tick FROM ticker;

-- name: log_begin_generation_if_moved
-- True if the database has moved to another cluster and a new generation was begun.
SELECT log_begin_generation();

-- name: window_read_many
-- $1 tick and $2 event id of the cursor, $3 shards, $4 limit of rows, $5 limit of windows. The rows
-- of window $1 + 1 and of those that follow: what the later tick sees and the earlier did not.
-- Those are the rows whose transaction began after the earlier tick, as an index range, and those
-- that were running then, as exact probes. One row of nulls: a window without rows for these
-- shards. No row: no such window.
SELECT later.tick, later.generation,
    extract(epoch FROM clock_timestamp() - later.at)::float8 AS age_s,
    o.id, o.shard, o.tenant_id, o.live, o.lead_id, o.version, o.event_id, o.type, o.actor,
    iso_ms(o.at) AS at, o.data, o.txid::text::bigint AS txid
FROM tick earlier
JOIN tick later ON later.tick = earlier.tick + 1
LEFT JOIN LATERAL (
    SELECT w.* FROM (
        SELECT a.* FROM outbox a
        WHERE a.shard = ANY ($3::smallint[])
          AND a.txid >= pg_snapshot_xmax(earlier.snap) AND a.txid < pg_snapshot_xmax(later.snap)
        UNION ALL
        SELECT b.* FROM outbox b
        WHERE b.shard = ANY ($3::smallint[])
          AND b.txid = ANY (ARRAY(SELECT pg_snapshot_xip(earlier.snap)))
    ) AS w
    WHERE (earlier.tick > $1 OR w.id > $2) AND pg_visible_in_snapshot(w.txid, later.snap)
      AND w.generation = later.generation AND earlier.generation = later.generation
    ORDER BY w.id LIMIT $4
) AS o ON true
WHERE earlier.tick >= $1 AND earlier.tick < $1 + $5
  AND later.tick > $1 AND later.tick <= $1 + $5  -- said again, or all ticks since the first are read
ORDER BY later.tick, o.id
LIMIT $4;

-- name: tick_is_gone
-- $1 tick. True if it was cut once and its row has been dropped since.
SELECT t.tick >= $1 AND NOT EXISTS (SELECT FROM tick WHERE tick.tick = $1) FROM ticker t;

-- name: reader_get
SELECT shards, tick, event_id FROM reader WHERE name = $1;

-- name: reader_advance_if_at
-- $1 reader, $2 tick and $3 event id where it stood, $4 and $5 where it stands now. No row:
-- another process has moved it, and the transaction of the effects must not commit.
UPDATE reader SET tick = $4, event_id = $5
WHERE name = $1 AND tick = $2 AND event_id = $3
RETURNING name;

-- name: reader_lag
-- Seconds since the oldest window that each reader has not finished was cut; 0 if there is none.
SELECT r.name, coalesce(extract(epoch FROM clock_timestamp() - next.at), 0)::float8 AS lag_s
FROM reader r
LEFT JOIN LATERAL (
    SELECT t.at FROM tick t WHERE t.tick = r.tick + 1 LIMIT 1
) AS next ON true
ORDER BY r.name;

-- name: lease_take
-- $1 slice, $2 owner, $3 seconds. Takes a free or expired lease or renews one's own. No row: it
-- is another's.
INSERT INTO lease AS l (name, owner, expires_at)
VALUES ($1, $2, now() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at
WHERE l.owner = excluded.owner OR l.expires_at < now()
RETURNING l.name;

-- name: lease_release
DELETE FROM lease WHERE name = $1 AND owner = $2;

-- name: lease_list_live
-- The slices that somebody runs now.
SELECT name FROM lease WHERE expires_at > now();

-- name: partition_create_all
SELECT create_partitions();

-- name: log_get_old_writer
-- $1 seconds. How many seconds ago at least a transaction began to write that still runs, if that
-- is more than $1; no row: none. Any database of the cluster counts, prepared transactions too.
SELECT extract(epoch FROM clock_timestamp() - t.at)::float8 AS age_s
FROM (
    SELECT at, snap FROM tick
    WHERE at < clock_timestamp() - make_interval(secs => $1)
      AND generation = (SELECT generation FROM ticker)
    ORDER BY tick DESC LIMIT 1
) AS t
WHERE pg_snapshot_xmin(pg_current_snapshot()) < pg_snapshot_xmax(t.snap);
