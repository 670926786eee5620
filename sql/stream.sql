-- name: stream_list
-- The newest entry of every stream that should exist.
SELECT shard, generation, tick, event_id FROM stream ORDER BY shard, generation;

-- name: stream_delete
-- $1 shard, $2 generation.
DELETE FROM stream WHERE shard = $1 AND generation = $2;

-- name: stream_advance_if_at
-- $1 to $5 the move of the publisher's cursor: see reader_move. $6 shards, $7
-- generations, $8 ticks and $9 event ids of the streams' newest entries. No row: another process
-- has moved the reader, and nothing is changed.
WITH moved AS (
    {reader_move}
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
SELECT shard, name, generation, tick, event_id, detached FROM stream_group ORDER BY shard, name;

-- name: stream_group_put_many
-- $1 shards, $2 names, $3 generations, $4 ticks, $5 event ids, $6 whether removed from Redis.
INSERT INTO stream_group (shard, name, generation, tick, event_id, detached)
SELECT u.shard, u.name, u.generation, u.tick, u.event_id, u.detached
FROM unnest($1::smallint[], $2::text[], $3::smallint[], $4::bigint[], $5::bigint[], $6::boolean[])
    AS u (shard, name, generation, tick, event_id, detached)
ON CONFLICT (shard, name) DO UPDATE
SET generation = excluded.generation, tick = excluded.tick, event_id = excluded.event_id,
    detached = excluded.detached;

-- name: stream_group_delete_outdated
-- Deletes detached groups whose unread events the log no longer keeps.
DELETE FROM stream_group WHERE detached AND tick < (SELECT min(tick) FROM tick);

-- name: ticker_get_if_reader_at
-- The newest tick and its generation. $1 reader, $2 tick and $3 event id of its cursor. No row:
-- another process has moved the reader.
SELECT t.tick, t.generation
FROM ticker t CROSS JOIN reader r
WHERE r.name = $1 AND r.tick = $2 AND r.event_id = $3;
