-- The publisher's state of the CRM streams in Redis, from which it can rebuild them.

-- The newest entry of each stream, one per generation and shard. A stream in Redis that ends below
-- this entry has lost entries. The events of a shard after its newest entry are still to be appended.
CREATE TABLE stream (
    generation  smallint NOT NULL,
    shard       smallint NOT NULL,
    tick        bigint NOT NULL,
    event_id    bigint NOT NULL,
    PRIMARY KEY (shard, generation)
) WITH (fillfactor = 20);

-- The checkpoint of each consumer group in each shard: the group has acknowledged every entry up to and
-- including it. A rebuilt stream starts at the smallest checkpoint of its groups.
CREATE TABLE stream_group (
    name        text COLLATE "C" NOT NULL,
    shard       smallint NOT NULL,
    generation  smallint NOT NULL,
    tick        bigint NOT NULL,
    event_id    bigint NOT NULL,
    detached    boolean NOT NULL DEFAULT false,  -- removed from Redis; its checkpoint is kept
    PRIMARY KEY (shard, name)
) WITH (fillfactor = 20);
