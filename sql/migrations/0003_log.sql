-- The log: an append-only outbox, the ticks that cut it into windows, and who has read how far.
--
-- Sequence numbers are drawn at insert but become visible at commit, so "id > last" loses events.
-- A tick stores a snapshot; window k is what snapshot k sees and snapshot k-1 did not, ordered by
-- id. Ids of one lead are drawn under its row lock, so this is commit order per lead. The method
-- is PgQ's (Skype, 2007); service/log.py explains it.

-- Which tables come in weekly partitions, and how long a partition is kept after its week.
CREATE TABLE partition_plan (
    table_name  text PRIMARY KEY,
    keep        interval NOT NULL
);

CREATE SEQUENCE outbox_id_seq CACHE 1;  -- a cached sequence would break id order per lead

-- No update, no delete, no index beyond what a window needs: a write pays for one insert only.
CREATE TABLE outbox (
    id          bigint NOT NULL DEFAULT nextval('outbox_id_seq'),
    txid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    generation  smallint NOT NULL DEFAULT 1,  -- raised by log_begin_generation after a restore
    shard       smallint NOT NULL,
    tenant_id   bigint NOT NULL,
    live        boolean NOT NULL,
    lead_id     text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    event_id    text COLLATE "C" NOT NULL,
    type        text COLLATE "C" NOT NULL,
    actor       text NOT NULL,
    at          timestamptz NOT NULL,
    data        json NOT NULL
) PARTITION BY RANGE (at);

CREATE INDEX outbox_by_txid ON outbox (shard, txid);

-- Eight shards, for ever: readers divide them between processes, a lead stays in one.
CREATE FUNCTION lead_shard(lead_id text) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (get_byte(decode(md5(lead_id), 'hex'), 0) & 7)::smallint;

CREATE TABLE tick (
    tick        bigint NOT NULL,
    generation  smallint NOT NULL,
    snap        pg_snapshot NOT NULL,
    at          timestamptz NOT NULL
) PARTITION BY RANGE (at);

CREATE INDEX tick_by_number ON tick (tick) INCLUDE (generation);

-- One row: the newest tick, and the cluster whose transaction ids the ticks speak of.
CREATE TABLE ticker (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    tick        bigint NOT NULL,
    generation  smallint NOT NULL,
    snap        pg_snapshot NOT NULL,
    at          timestamptz NOT NULL,
    cluster     text NOT NULL
) WITH (fillfactor = 20);

-- Where each reader stands: all of tick `tick`, and of the next window all ids up to `event_id`.
CREATE TABLE reader (
    name      text COLLATE "C" PRIMARY KEY,   -- 'scorer/0'
    shards    smallint[] NOT NULL,
    tick      bigint NOT NULL,
    event_id  bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 20);

-- Who runs a background slice now. Rows, not session locks: PgBouncer may sit in between.
CREATE TABLE lease (
    name        text COLLATE "C" PRIMARY KEY,
    owner       text NOT NULL,
    expires_at  timestamptz NOT NULL
) WITH (fillfactor = 20);

-- Makes the partitions of this week and the three to come. A table is made first and attached
-- then, because CREATE TABLE … PARTITION OF would lock out all writers of the parent.
CREATE FUNCTION create_partitions() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    plan record;
    week timestamptz;
    part text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('leadlog.create_partitions'));
    FOR plan IN SELECT table_name FROM partition_plan ORDER BY table_name LOOP
        FOR step IN -1..3 LOOP
            week := date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + step * interval '7 days';
            part := plan.table_name || to_char(week AT TIME ZONE 'UTC', '_YYYYMMDD');
            CONTINUE WHEN to_regclass(part) IS NOT NULL;
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part, plan.table_name);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                           plan.table_name, part, week, week + interval '7 days');
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

-- What a restore to another cluster or a failover changes; transaction ids start anew there.
CREATE FUNCTION cluster_name() RETURNS text LANGUAGE sql STABLE
RETURN (SELECT s.system_identifier || '/' || c.timeline_id
        FROM pg_control_system() AS s, pg_control_checkpoint() AS c);

-- After a restore into another cluster or a failover the stored transaction ids say nothing about
-- new ones, so windows would pass over events. A new generation starts: what no tick had seen moves
-- into it as if written now, and windows never mix two generations. False: same cluster, no change.
CREATE FUNCTION log_begin_generation() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    old ticker;
BEGIN
    SELECT * INTO STRICT old FROM ticker FOR UPDATE;
    IF old.cluster = cluster_name() THEN
        RETURN false;
    END IF;
    EXECUTE format('ALTER TABLE outbox ALTER COLUMN generation SET DEFAULT %s', old.generation + 1);
    UPDATE outbox SET generation = old.generation + 1, txid = pg_current_xact_id()
    WHERE at > old.at OR (generation = old.generation AND NOT pg_visible_in_snapshot(txid, old.snap));
    UPDATE ticker SET tick = old.tick + 1, generation = old.generation + 1, snap = '3:3:',
        at = clock_timestamp(), cluster = cluster_name();
    INSERT INTO tick (tick, generation, snap, at) SELECT tick, generation, snap, at FROM ticker;
    RETURN true;
END $$;

INSERT INTO partition_plan (table_name, keep) VALUES ('outbox', '30 days'), ('tick', '30 days');
SELECT create_partitions();

INSERT INTO ticker (tick, generation, snap, at, cluster)
VALUES (1, 1, pg_current_snapshot(), clock_timestamp(), cluster_name());
INSERT INTO tick (tick, generation, snap, at) SELECT tick, generation, snap, at FROM ticker;

INSERT INTO reader (name, shards, tick)
SELECT name, shards, tick FROM ticker, (VALUES
    ('scorer/0', '{0,1,2,3}'::smallint[]), ('scorer/1', '{4,5,6,7}'),
    ('fanout/0', '{0,1,2,3}'), ('fanout/1', '{4,5,6,7}'),
    ('publisher/0', '{0,1,2,3,4,5,6,7}'),
    ('historian/0', '{0,1,2,3,4,5,6,7}')
) AS r (name, shards);
