-- What the publisher knows about the CRM streams in Redis, so that they can be built anew.

-- The newest entry of each stream, one per generation and shard. A stream that ends below it has
-- lost entries; everything of the shard after the newest entry of all is still to be appended.
CREATE TABLE stream (
    generation  smallint NOT NULL,
    shard       smallint NOT NULL,
    tick        bigint NOT NULL,
    event_id    bigint NOT NULL,
    PRIMARY KEY (shard, generation)
) WITH (fillfactor = 20);

-- How far each consumer group is done with each shard: up to and with this entry. A stream that is
-- built anew starts at the smallest of them, and the groups are made again where they stood.
CREATE TABLE stream_group (
    name        text COLLATE "C" NOT NULL,
    shard       smallint NOT NULL,
    generation  smallint NOT NULL,
    tick        bigint NOT NULL,
    event_id    bigint NOT NULL,
    parked      boolean NOT NULL DEFAULT false,  -- given up in Redis so that others could go on
    PRIMARY KEY (shard, name)
) WITH (fillfactor = 20);
