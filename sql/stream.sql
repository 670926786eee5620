-- name: stream_list
-- The newest entry of every stream there should be.
SELECT shard, generation, tick, event_id FROM stream ORDER BY shard, generation;

-- name: stream_delete
-- $1 shard, $2 generation.
DELETE FROM stream WHERE shard = $1 AND generation = $2;

-- name: stream_advance_if_at
-- $1 reader, $2 tick and $3 event id where it stood, $4 and $5 where it stands now; $6 shards, $7
-- generations, $8 ticks and $9 event ids of the streams' newest entries. No row: another process
-- has moved the reader, and nothing is changed.
WITH moved AS (
    UPDATE reader SET tick = $4, event_id = $5
    WHERE name = $1 AND tick = $2 AND event_id = $3
    RETURNING name
), kept AS (
    INSERT INTO stream (shard, generation, tick, event_id)
    SELECT u.shard, u.generation, u.tick, u.event_id
    FROM unnest($6::smallint[], $7::smallint[], $8::bigint[], $9::bigint[])
        AS u (shard, generation, tick, event_id)
    CROSS JOIN moved
    ON CONFLICT (shard, generation) DO UPDATE
    SET tick = excluded.tick, event_id = excluded.event_id
)
SELECT name FROM moved;

-- name: stream_group_list
SELECT shard, name, generation, tick, event_id, parked FROM stream_group ORDER BY shard, name;

-- name: stream_group_put_many
-- $1 shards, $2 names, $3 generations, $4 ticks, $5 event ids, $6 whether given up in Redis.
INSERT INTO stream_group (shard, name, generation, tick, event_id, parked)
SELECT u.shard, u.name, u.generation, u.tick, u.event_id, u.parked
FROM unnest($1::smallint[], $2::text[], $3::smallint[], $4::bigint[], $5::bigint[], $6::boolean[])
    AS u (shard, name, generation, tick, event_id, parked)
ON CONFLICT (shard, name) DO UPDATE
SET generation = excluded.generation, tick = excluded.tick, event_id = excluded.event_id,
    parked = excluded.parked;

-- name: stream_group_delete_outdated
-- Forgets the groups that left so long ago that the log has nothing for them any more.
DELETE FROM stream_group WHERE parked AND tick < (SELECT min(tick) FROM tick);

-- name: ticker_get_if_reader_at
-- $1 reader, $2 tick and $3 event id where it stood: the newest tick and its generation. No row:
-- another process has moved the reader.
SELECT t.tick, t.generation
FROM ticker t CROSS JOIN reader r
WHERE r.name = $1 AND r.tick = $2 AND r.event_id = $3;

-- name: tick_get_oldest
-- The oldest tick that is kept.
SELECT min(tick) FROM tick;
