-- name: event_read_many
-- $1 tick and $2 event id of the cursor, $3 limit of events, $4 limit of windows, $5 tenant, $6
-- mode, $7 types and $8 lead (null: all), $9 limit of bytes. The events of one tenant and mode in the
-- windows after the cursor; see window_read_many. A window without such events is one row of nulls.
-- No row: there is no newer window. The event that reaches the limit of bytes is the last row;
-- page_bytes is the size of the data up to and including the row.
WITH page AS (
SELECT later.tick, earlier.generation AS since, later.generation,
    (extract(epoch FROM earlier.at) * 1000000)::bigint AS since_at,
    (extract(epoch FROM later.at) * 1000000)::bigint AS cut_at,
    o.id, o.shard, o.tenant_id, o.live, o.lead_id, o.version, o.event_id, o.type, o.actor,
    iso_ms(o.at) AS at, o.data, o.txid::text::bigint AS txid
FROM tick earlier
JOIN tick later ON later.tick = earlier.tick + 1
LEFT JOIN LATERAL (
    SELECT w.* FROM (
        SELECT a.* FROM outbox a
        WHERE ($8::text IS NULL OR a.shard = lead_shard($8))
          AND a.txid >= pg_snapshot_xmax(earlier.snap) AND a.txid < pg_snapshot_xmax(later.snap)
          AND a.tenant_id = $5 AND a.live = $6
        UNION ALL
        SELECT b.* FROM outbox b
        WHERE b.txid = ANY (ARRAY(SELECT pg_snapshot_xip(earlier.snap)))
          AND b.tenant_id = $5 AND b.live = $6
    ) AS w
    WHERE (earlier.tick > $1 OR w.id > $2) AND pg_visible_in_snapshot(w.txid, later.snap)
      AND w.generation = later.generation AND earlier.generation = later.generation
      AND ($7::text[] IS NULL OR w.type = ANY ($7)) AND ($8 IS NULL OR w.lead_id = $8)
    ORDER BY w.id LIMIT $3
) AS o ON true
WHERE earlier.tick >= $1 AND earlier.tick < $1 + $4
  AND later.tick > $1 AND later.tick <= $1 + $4  -- without this line, all ticks from the first are read
ORDER BY later.tick, o.id
LIMIT $3 + $4
), measured AS (
    SELECT page.*, coalesce(octet_length(page.data::text), 0) AS bytes FROM page
), summed AS (
    SELECT measured.*, sum(bytes) OVER (ORDER BY tick, id) AS page_bytes FROM measured
)
SELECT * FROM summed WHERE page_bytes - bytes < $9 ORDER BY tick, id;

-- name: event_list_owners
-- $1 tick, $2 limit of windows. Returns the tenants and modes with events in the windows after a
-- tick, and also some whose events become visible only in a later window. A window without events is one
-- row of nulls. No row: there is no newer window.
SELECT DISTINCT later.tick, o.tenant_id, o.live
FROM tick earlier
JOIN tick later ON later.tick = earlier.tick + 1
LEFT JOIN LATERAL (
    SELECT a.tenant_id, a.live FROM outbox a
    WHERE a.txid >= pg_snapshot_xmax(earlier.snap) AND a.txid < pg_snapshot_xmax(later.snap)
    UNION ALL
    SELECT b.tenant_id, b.live FROM outbox b
    WHERE b.txid = ANY (ARRAY(SELECT pg_snapshot_xip(earlier.snap)))
) AS o ON true
WHERE earlier.tick >= $1 AND earlier.tick < $1 + $2;

-- name: tick_get
-- $1 tick. Its generation and the time of its cut, in microseconds. No row: there is no such tick.
SELECT t.generation, (extract(epoch FROM t.at) * 1000000)::bigint AS cut_at
FROM tick t WHERE t.tick = $1;

-- name: tick_get_oldest
-- The oldest tick that is kept, where a reader without a cursor begins.
SELECT tick, generation, (extract(epoch FROM at) * 1000000)::bigint AS cut_at
FROM tick ORDER BY tick LIMIT 1;

-- name: tick_get_newest
-- The newest tick. All windows after it are still to come.
SELECT tick, generation, (extract(epoch FROM at) * 1000000)::bigint AS cut_at FROM ticker;
