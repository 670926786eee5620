-- name: ticker_cut
-- $1 the newest tick that the ticker knows. Cuts the next tick if events have become visible since.
-- The search for new events and the stored snapshot agree, because a statement has only one snapshot. No
-- row: there is nothing new, or another ticker was faster. The search for new events ends at the first row. It
-- excludes transaction ids above the current snapshot, which only rows of an older
-- generation can have.
WITH cut AS (
    UPDATE ticker AS t SET tick = t.tick + 1, snap = pg_current_snapshot(), at = clock_timestamp(),
        last_id = log_get_last_id()
    WHERE t.tick = $1 AND (
        EXISTS (
            SELECT FROM outbox o
            WHERE o.txid >= pg_snapshot_xmax(t.snap)
              AND o.txid < pg_snapshot_xmax(pg_current_snapshot())
              AND o.generation = t.generation
            ORDER BY o.txid LIMIT 1)
        OR EXISTS (
            SELECT FROM outbox o
            WHERE o.txid = ANY (ARRAY(SELECT pg_snapshot_xip(t.snap)))
              AND o.generation = t.generation))
    RETURNING t.tick, t.generation, t.snap, t.at
)
INSERT INTO tick (tick, generation, snap, at)
SELECT tick, generation, snap, at FROM cut
RETURNING tick;

-- name: log_check
-- $1 generation and $2 tick: the newest that Redis has, or 0. Returns `home`, a name for the log that
-- changes when the database is restored or moved; whether a new generation must begin; the newest
-- tick and its generation.
SELECT h.place || '@' || h.txid AS home, log_is_restored($1, $2) AS is_restored, t.tick, t.generation
FROM log_home h CROSS JOIN ticker t;

-- name: log_begin_generation_if_restored
-- $1 a generation that Redis has not seen, $2 generation and $3 tick as for log_is_restored. False:
-- another session has begun the generation meanwhile.
SELECT log_begin_generation($1, $2, $3);

-- name: log_begin_generation_now
-- $1 a generation that Redis has not seen. An operator uses it after a restore that log_is_restored
-- cannot detect.
SELECT log_begin_generation($1, is_certain => true);

-- name: window_read_many
-- $1 tick and $2 event id of the cursor, $3 limit of rows, $4 limit of windows. The rows
-- of window $1 + 1 and of the following windows. A window has the rows that its later tick sees and
-- its earlier tick does not: the rows of transactions that began after the earlier tick, which are a
-- range of the index, and the rows of transactions that were running at the earlier tick, which are
-- probed one by one. A window without rows is one row of nulls. No row: there is no newer window.
SELECT later.tick, later.generation,
    (extract(epoch FROM later.at) * 1000000)::bigint AS cut_at,
    extract(epoch FROM clock_timestamp() - later.at)::float8 AS age_s,
    o.id, o.shard, o.tenant_id, o.live, o.lead_id, o.version, o.event_id, o.type, o.actor,
    iso_ms(o.at) AS at, o.data, o.txid::text::bigint AS txid
FROM tick earlier
JOIN tick later ON later.tick = earlier.tick + 1
LEFT JOIN LATERAL (
    SELECT w.* FROM (
        SELECT a.* FROM outbox a
        WHERE a.txid >= pg_snapshot_xmax(earlier.snap) AND a.txid < pg_snapshot_xmax(later.snap)
        UNION ALL
        SELECT b.* FROM outbox b
        WHERE b.txid = ANY (ARRAY(SELECT pg_snapshot_xip(earlier.snap)))
    ) AS w
    WHERE (earlier.tick > $1 OR w.id > $2) AND pg_visible_in_snapshot(w.txid, later.snap)
      AND w.generation = later.generation AND earlier.generation = later.generation
    ORDER BY w.id LIMIT $3
) AS o ON true
WHERE earlier.tick >= $1 AND earlier.tick < $1 + $4
  AND later.tick > $1 AND later.tick <= $1 + $4  -- without it all ticks from the first are read
ORDER BY later.tick, o.id
LIMIT $3;

-- name: tick_is_gone
-- $1 tick. True if the tick was cut and its row has been dropped.
SELECT t.tick >= $1 AND NOT EXISTS (SELECT FROM tick WHERE tick.tick = $1) FROM ticker t;

-- name: reader_get
SELECT tick, event_id FROM reader WHERE name = $1;

-- part: reader_move
-- $1 reader, $2 and $3 tick and event id of its previous position, $4 and $5 of its new one. No row:
-- another process has moved the reader, and its effects must not be stored.
UPDATE reader SET tick = $4, event_id = $5
WHERE name = $1 AND tick = $2 AND event_id = $3
RETURNING name

-- name: reader_advance_if_at
-- $1 to $5: see reader_move. No row: the transaction of the effects must not commit.
{reader_move};

-- name: reader_lag
-- The seconds that each reader is behind: since its oldest unfinished window was cut or, if it has
-- finished all windows, since the oldest event without a window was written. Therefore the lag
-- also shows a stopped ticker. 0: the reader has read everything. A cursor may be stored a second late.
WITH uncut AS (
    SELECT min(o.at) AS at
    FROM ticker t
    CROSS JOIN LATERAL (
        SELECT o.at FROM outbox o
        WHERE o.txid >= pg_snapshot_xmax(t.snap)
          AND o.txid < pg_snapshot_xmax(pg_current_snapshot()) AND o.generation = t.generation
        ORDER BY o.txid LIMIT 1) AS o
)
SELECT r.name, greatest(coalesce(
    extract(epoch FROM clock_timestamp() - coalesce(next.at, uncut.at)), 0), 0)::float8 AS lag_s
FROM reader r
CROSS JOIN uncut
LEFT JOIN LATERAL (
    SELECT t.at FROM tick t WHERE t.tick = r.tick + 1 LIMIT 1
) AS next ON true
ORDER BY r.name;

-- name: worker_get_health
-- $1 seconds, longer than another worker needs to take over a job. `alive` counts the worker processes
-- that held a valid lease within that time. `silent_s` is the time since the last lease ended: 0 if one
-- is valid, null if there has never been one. `idle` names the required jobs that no worker has run
-- within that time.
SELECT count(DISTINCT l.owner) FILTER (WHERE l.expires_at > now() - make_interval(secs => $1)) AS alive,
    CASE WHEN count(*) > 0 THEN
        greatest(extract(epoch FROM now() - max(l.expires_at)), 0)::float8 END AS silent_s,
    ARRAY(
        SELECT s.name FROM (SELECT name FROM reader UNION ALL SELECT 'ticker') AS s
        WHERE NOT EXISTS (
            SELECT FROM lease k
            WHERE k.name = s.name AND k.expires_at > now() - make_interval(secs => $1)
              AND k.expires_at < now() + interval '1 minute')
        ORDER BY s.name) AS idle
FROM lease l WHERE l.expires_at < now() + interval '1 minute';

-- name: lease_take
-- $1 job, $2 owner, $3 seconds. Takes a lease that is free, expired or the owner's. No row: another
-- owner holds it. Leases are shorter than a minute, so a lease that ends later is void: it was taken
-- while the database's clock was wrong.
INSERT INTO lease AS l (name, owner, expires_at)
VALUES ($1, $2, now() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at
WHERE l.owner = excluded.owner OR l.expires_at <= now()
    OR l.expires_at > now() + interval '1 minute'
RETURNING l.name;

-- name: lease_renew_many
-- $1 jobs, $2 owner, $3 seconds. Returns the jobs whose leases no other owner has taken, even if they had expired.
UPDATE lease SET expires_at = now() + make_interval(secs => $3)
WHERE name = ANY ($1::text[]) AND owner = $2
RETURNING name;

-- name: lease_release
-- $1 job, $2 owner. The row stays: its expires_at is the time when the job last ran.
UPDATE lease SET expires_at = now() WHERE name = $1 AND owner = $2;

-- name: lease_list_live
-- The jobs with a valid lease.
SELECT name FROM lease WHERE expires_at > now() AND expires_at < now() + interval '1 minute';

-- name: partition_create_all
SELECT create_partitions();

-- name: partition_create_if_missing
-- Creates the partitions of this week and the next if one is missing.
SELECT create_partitions()
WHERE EXISTS (
    SELECT FROM partition_plan p CROSS JOIN generate_series(0, 1) AS step
    WHERE to_regclass(p.table_name || to_char(
        date_trunc('week', now() AT TIME ZONE 'UTC') + step * interval '7 days', '_YYYYMMDD')) IS NULL);

-- name: clock_read
-- The database's time, in Unix seconds.
SELECT extract(epoch FROM clock_timestamp())::float8;

-- name: log_get_old_writer
-- $1 seconds. A lower bound, in seconds, of the age of the oldest running transaction that has
-- written. No row: no such transaction is known to be older than $1. Transactions of all databases of
-- the cluster and prepared transactions count.
SELECT extract(epoch FROM clock_timestamp() - t.at)::float8 AS age_s
FROM (
    SELECT at, snap FROM tick
    WHERE at < clock_timestamp() - make_interval(secs => $1)
      AND generation = (SELECT generation FROM ticker)
    ORDER BY tick DESC LIMIT 1
) AS t
WHERE pg_snapshot_xmin(pg_current_snapshot()) < pg_snapshot_xmax(t.snap);
