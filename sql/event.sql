-- name: event_read_many
-- $1 tick and $2 event id of the cursor, $3 limit of events, $4 limit of windows, $5 tenant, $6
-- mode, $7 types and $8 lead (null: all). What the windows after the cursor hold of one tenant and
-- mode; see window_read_many. One row of nulls: a window without any. No row: no newer window.
SELECT later.tick, earlier.generation AS since, later.generation,
    o.id, o.shard, o.tenant_id, o.live, o.lead_id, o.version, o.event_id, o.type, o.actor,
    iso_ms(o.at) AS at, o.data, o.txid::text::bigint AS txid
FROM tick earlier
JOIN tick later ON later.tick = earlier.tick + 1
LEFT JOIN LATERAL (
    SELECT w.* FROM (
        SELECT a.* FROM outbox a
        WHERE a.shard = ANY (
                CASE WHEN $8::text IS NULL THEN '{0,1,2,3,4,5,6,7}' ELSE ARRAY[lead_shard($8)] END)
          AND a.txid >= pg_snapshot_xmax(earlier.snap) AND a.txid < pg_snapshot_xmax(later.snap)
          AND a.tenant_id = $5 AND a.live = $6
        UNION ALL
        SELECT b.* FROM outbox b
        WHERE b.shard = ANY (
                CASE WHEN $8::text IS NULL THEN '{0,1,2,3,4,5,6,7}' ELSE ARRAY[lead_shard($8)] END)
          AND b.txid = ANY (ARRAY(SELECT pg_snapshot_xip(earlier.snap)))
          AND b.tenant_id = $5 AND b.live = $6
    ) AS w
    WHERE (earlier.tick > $1 OR w.id > $2) AND pg_visible_in_snapshot(w.txid, later.snap)
      AND w.generation = later.generation AND earlier.generation = later.generation
      AND ($7::text[] IS NULL OR w.type = ANY ($7)) AND ($8 IS NULL OR w.lead_id = $8)
    ORDER BY w.id LIMIT $3
) AS o ON true
WHERE earlier.tick >= $1 AND earlier.tick < $1 + $4
ORDER BY later.tick, o.id
LIMIT $3 + $4;

-- name: event_list_owners
-- $1 tick, $2 limit of windows: whose events the windows after it hold, or may hold (what became
-- visible later than the tick is named too). One row of nulls: a window without any. No row: no
-- newer window.
SELECT DISTINCT later.tick, o.tenant_id, o.live
FROM tick earlier
JOIN tick later ON later.tick = earlier.tick + 1
LEFT JOIN LATERAL (
    SELECT a.tenant_id, a.live FROM outbox a
    WHERE a.shard = ANY ('{0,1,2,3,4,5,6,7}')
      AND a.txid >= pg_snapshot_xmax(earlier.snap) AND a.txid < pg_snapshot_xmax(later.snap)
    UNION ALL
    SELECT b.tenant_id, b.live FROM outbox b
    WHERE b.shard = ANY ('{0,1,2,3,4,5,6,7}')
      AND b.txid = ANY (ARRAY(SELECT pg_snapshot_xip(earlier.snap)))
) AS o ON true
WHERE earlier.tick >= $1 AND earlier.tick < $1 + $2;

-- name: tick_get_generation
-- $1 tick. No row: it was never cut, or is not kept any more.
SELECT generation FROM tick WHERE tick = $1;

-- name: tick_get_first
-- The oldest tick that is kept: where a reader without a cursor begins.
SELECT tick, generation FROM tick ORDER BY tick LIMIT 1;

-- name: tick_get_latest
-- The newest tick: what comes after it is still to happen.
SELECT tick, generation FROM ticker;
