-- name: partition_list_expired
-- $1 days for which outbox and tick are kept; partition_plan has the time for other tables. Returns the
-- expired partitions, oldest first, with the statements that detach and drop each. `detach` is null
-- for a detached partition, and finishes an interrupted detachment. A partition is not listed while
-- it is needed: a partition of outbox by the slowest reader; a partition of tick by a reader whose
-- position is in it, even if there has been no event for long; a partition of webhook_event by a waiting
-- delivery; see delivery_expire_many.
WITH standing AS (
    SELECT r.tick, r.tick >= n.tick AS is_current, coalesce(
        (SELECT t.at FROM tick t WHERE t.tick = r.tick LIMIT 1), '-infinity') AS at
    FROM reader r CROSS JOIN ticker n
), slowest AS (
    SELECT min(CASE WHEN is_current THEN now() ELSE at END) AS has_read, min(at) AS position_at
    FROM standing
), part AS (
    SELECT p.table_name, c.relname AS name, i.inhparent IS NOT NULL AS is_attached,
        coalesce(i.inhdetachpending, false) AS is_pending,
        (to_date(right(c.relname, 8), 'YYYYMMDD') + 7)::timestamp AT TIME ZONE 'UTC' AS ends_at,
        CASE WHEN p.table_name IN ('outbox', 'tick') THEN make_interval(days => $1) ELSE p.keep END
            AS keep,
        -- A day of margin: an event has the time of its statement, but its window follows its commit.
        CASE p.table_name WHEN 'outbox' THEN s.has_read - interval '1 day'
            WHEN 'tick' THEN s.position_at - interval '1 day' ELSE 'infinity' END AS unneeded_before
    FROM partition_plan p
    CROSS JOIN slowest s
    JOIN pg_class parent ON parent.oid = to_regclass(p.table_name)
    JOIN pg_class c ON c.relnamespace = parent.relnamespace AND c.relkind = 'r'
        AND c.relname ~ ('^' || p.table_name || '_2[0-9]{7}$')
    LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
)
SELECT table_name, name, ends_at - interval '7 days' AS since,
    date_trunc('week', (now() - keep) AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS kept_from,
    is_attached AND NOT is_pending AS has_readers,
    CASE WHEN is_pending THEN format('ALTER TABLE %I DETACH PARTITION %I FINALIZE', table_name, name)
        WHEN is_attached THEN
            format('ALTER TABLE %I DETACH PARTITION %I CONCURRENTLY', table_name, name)
    END AS detach,
    format('DROP TABLE %I', name) AS remove
FROM part WHERE ends_at + keep < now() AND ends_at <= unneeded_before
  AND (table_name <> 'webhook_event' OR NOT EXISTS (
      SELECT FROM delivery d
      WHERE d.stored_at < part.ends_at AND d.stored_at >= part.ends_at - interval '7 days'))
ORDER BY ends_at, name;

-- name: partition_begin_check
-- $1 statement timeout in seconds, until the end of the transaction. The next statement may read a whole
-- partition.
SELECT set_config('statement_timeout', ($1::integer * 1000)::text, true),
    set_config('enable_seqscan', 'on', true);

-- name: partition_has_young_rows
-- $1 table, $2 start of the week of an expired partition, $3 start of the first week that is kept. True
-- if rows of the partition are younger than the first rows that are kept, by their ids: they were
-- written while the database's clock was behind. The first minute of a week is left out,
-- because transactions overlap.
WITH week AS (
    SELECT w.since FROM generate_series($3::timestamptz, now(), interval '7 days') AS w (since)
    ORDER BY w.since
)
SELECT CASE $1::text
    WHEN 'outbox' THEN EXISTS (
        SELECT FROM outbox o
        WHERE o.at >= $2::timestamptz AND o.at < $2 + interval '7 days' AND o.id > (
            SELECT k.id FROM week w CROSS JOIN LATERAL (
                SELECT min(x.id) AS id FROM outbox x
                WHERE x.at >= w.since + interval '1 minute' AND x.at < w.since + interval '7 days'
            ) AS k WHERE k.id IS NOT NULL ORDER BY w.since LIMIT 1))
    WHEN 'tick' THEN EXISTS (
        SELECT FROM tick t
        WHERE t.at >= $2 AND t.at < $2 + interval '7 days' AND t.tick > (
            SELECT k.tick FROM week w CROSS JOIN LATERAL (
                SELECT min(x.tick) AS tick FROM tick x
                WHERE x.at >= w.since + interval '1 minute' AND x.at < w.since + interval '7 days'
            ) AS k WHERE k.tick IS NOT NULL ORDER BY w.since LIMIT 1))
    WHEN 'delivery_final' THEN EXISTS (
        SELECT FROM delivery_final f
        WHERE f.finished_at >= $2 AND f.finished_at < $2 + interval '7 days'
          AND f.id > (SELECT delivery_find_first($3)))
    WHEN 'attempt' THEN EXISTS (
        SELECT FROM attempt a
        WHERE a.at >= $2 AND a.at < $2 + interval '7 days'
          AND a.delivery_id > (SELECT delivery_find_first($3)))
    WHEN 'webhook_event' THEN EXISTS (
        SELECT FROM endpoint e CROSS JOIN LATERAL (
            SELECT FROM delivery_final f
            WHERE f.endpoint_id = e.id AND f.created_at >= $2
              AND f.created_at < $2 + interval '7 days'
              AND f.id > (SELECT delivery_find_first($3))
            ORDER BY f.created_at LIMIT 1) AS f)
    ELSE false END;

-- name: partition_list_missing
-- The tables that have no partition for next week.
SELECT p.table_name FROM partition_plan p
WHERE NOT EXISTS (
    SELECT FROM pg_inherits i
    WHERE i.inhparent = to_regclass(p.table_name) AND NOT i.inhdetachpending
      AND i.inhrelid = to_regclass(p.table_name || to_char(
          date_trunc('week', now() AT TIME ZONE 'UTC') + interval '7 days', '_YYYYMMDD')))
ORDER BY p.table_name;
