-- name: partition_list_expired
-- $1 days that events are kept, for outbox and tick; other tables say it in partition_plan. The
-- partitions whose week has passed so long ago, oldest first, with the statements that take each
-- away: `detach` (null: it is detached already; a detachment that was cut short is finished) and
-- `remove`. One that a reader may still need is not listed: outbox up to the slowest reader, and
-- tick up to the tick on which it stands, which it needs however long nothing has happened. Nor is
-- one that holds an event which a delivery waits to send; see delivery_expire_many.
WITH standing AS (
    SELECT r.tick, r.tick >= n.tick AS is_current, coalesce(
        (SELECT t.at FROM tick t WHERE t.tick = r.tick LIMIT 1), '-infinity') AS at
    FROM reader r CROSS JOIN ticker n
), slowest AS (
    SELECT min(CASE WHEN is_current THEN now() ELSE at END) AS has_read, min(at) AS stands_at
    FROM standing
), part AS (
    SELECT p.table_name, c.relname AS name, i.inhparent IS NOT NULL AS is_attached,
        coalesce(i.inhdetachpending, false) AS is_pending,
        (to_date(right(c.relname, 8), 'YYYYMMDD') + 7)::timestamp AT TIME ZONE 'UTC' AS ends_at,
        CASE WHEN p.table_name IN ('outbox', 'tick') THEN make_interval(days => $1) ELSE p.keep END
            AS keep,
        -- A day more: an event is dated by its statement, its window by its commit.
        CASE p.table_name WHEN 'outbox' THEN s.has_read - interval '1 day'
            WHEN 'tick' THEN s.stands_at - interval '1 day' ELSE 'infinity' END AS unneeded_before
    FROM partition_plan p
    CROSS JOIN slowest s
    JOIN pg_class parent ON parent.oid = to_regclass(p.table_name)
    JOIN pg_class c ON c.relnamespace = parent.relnamespace AND c.relkind = 'r'
        AND c.relname ~ ('^' || p.table_name || '_2[0-9]{7}$')
    LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
)
SELECT name,
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

-- name: partition_list_missing
-- The tables that have no partition for next week.
SELECT p.table_name FROM partition_plan p
WHERE NOT EXISTS (
    SELECT FROM pg_inherits i
    WHERE i.inhparent = to_regclass(p.table_name) AND NOT i.inhdetachpending
      AND i.inhrelid = to_regclass(p.table_name || to_char(
          date_trunc('week', now() AT TIME ZONE 'UTC') + interval '7 days', '_YYYYMMDD')))
ORDER BY p.table_name;
