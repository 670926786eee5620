-- The log: an append-only outbox, the ticks that cut it into windows, and the position of each reader.
--
-- Ids are drawn at insert but rows become visible at commit, so "id > last" loses events. A tick stores
-- a snapshot; window k has the rows that snapshot k sees and snapshot k-1 does not, ordered by id. The
-- ids of one lead are drawn under the lock of its row, so this is the commit order of each lead. The
-- method is PgQ's (Skype, 2007); service/events/event_log.py explains it.

-- The tables with weekly partitions, and how long a partition is kept after its week.
CREATE TABLE partition_plan (
    table_name  text PRIMARY KEY,
    keep        interval NOT NULL
);

-- The sequence has no cache, which would break the order of a lead's ids. It starts at 2, because the
-- cursor before event 1 would be (tick, 0), which is the cursor before the whole window.
CREATE SEQUENCE outbox_id_seq START 2 CACHE 1;

-- Only log_begin_generation updates rows, and the only index is for reading windows: a write costs one
-- insert.
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

CREATE INDEX outbox_by_txid ON outbox (txid, shard);

-- Always eight shards: each has a CRM stream. A lead stays in one shard.
CREATE FUNCTION lead_shard(lead_id text) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (get_byte(decode(md5(lead_id), 'hex'), 0) & 7)::smallint;

CREATE TABLE tick (
    tick        bigint NOT NULL,
    generation  smallint NOT NULL,
    snap        pg_snapshot NOT NULL,
    at          timestamptz NOT NULL
) PARTITION BY RANGE (at);

CREATE INDEX tick_by_number ON tick (tick) INCLUDE (generation);

-- The newest event id that was drawn. It depends on no clock, and after a restore it is not behind the
-- restored rows: a dump and a copy contain the sequence.
CREATE FUNCTION log_get_last_id() RETURNS bigint LANGUAGE sql VOLATILE
RETURN (SELECT CASE WHEN s.is_called THEN s.last_value ELSE s.last_value - 1 END FROM outbox_id_seq s);

-- One row: the newest tick. `last_id` was read after the snapshot, which therefore sees no larger id.
CREATE TABLE ticker (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    tick        bigint NOT NULL,
    generation  smallint NOT NULL,
    snap        pg_snapshot NOT NULL,
    at          timestamptz NOT NULL,
    last_id     bigint NOT NULL DEFAULT log_get_last_id()
) WITH (fillfactor = 20);

-- The position of each reader: it has read all windows up to `tick`, and the next up to `event_id`.
CREATE TABLE reader (
    name      text COLLATE "C" PRIMARY KEY,
    tick      bigint NOT NULL,
    event_id  bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 20);

-- The worker that runs a background job now. Leases are rows instead of session locks, which do not work
-- behind PgBouncer.
CREATE TABLE lease (
    name        text COLLATE "C" PRIMARY KEY,
    owner       text NOT NULL,
    expires_at  timestamptz NOT NULL
) WITH (fillfactor = 20);

-- Creates the partitions of this week and the next. No more, because each statement on the parent opens and
-- locks all of them. A table is created first and then attached, because CREATE TABLE … PARTITION OF would
-- block all writers of the parent.
CREATE FUNCTION create_partitions() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    plan record;
    week timestamptz;
    part text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('leadlog.create_partitions'));
    FOR plan IN SELECT table_name FROM partition_plan ORDER BY table_name LOOP
        FOR step IN 0..1 LOOP
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

-- One row, written when a generation begins. `txid` is the transaction that wrote the row, so it equals
-- the row's xmin until the row is loaded from a dump or replicated logically.
CREATE TABLE log_home (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    place     text NOT NULL,
    txid      xid8 NOT NULL DEFAULT pg_current_xact_id()
);

-- A text that changes with a restore. It contains the cluster, the database (a dump may be loaded beside
-- the old one), the timeline (after a promotion or a recovery to a point in time) and a setting by which
-- the starter of the server identifies the files: `leadlog dev` sets the inode of the data folder,
-- which differs in a copy.
CREATE FUNCTION log_place() RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT concat_ws('/', s.system_identifier,
        ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int, d.oid,
        nullif(current_setting('leadlog.data_folder', true), ''))
    FROM pg_control_system() AS s, pg_database AS d WHERE d.datname = current_database());

-- True if the row of log_home was written in another place, or was loaded or replicated.
CREATE FUNCTION log_has_moved() RETURNS boolean LANGUAGE sql STABLE
RETURN (SELECT h.place <> log_place()
            OR h.xmin::text::bigint <> mod(h.txid::text::numeric, 4294967296)
        FROM log_home AS h);

-- True if the log was restored or moved, or is behind a generation and tick that were seen elsewhere.
CREATE FUNCTION log_is_restored(known_generation integer, known_tick bigint) RETURNS boolean
LANGUAGE sql VOLATILE
RETURN log_has_moved()
    OR (known_generation, known_tick) > (SELECT t.generation::integer, t.tick FROM ticker t);

-- After a restore or a failover, stored transaction ids cannot be compared with new ones, so windows
-- would skip events. Then a new generation begins: events that no tick has seen move into it as if they
-- were written now, and no window mixes two generations. An event was not seen if its id is larger than
-- the tick's (the API may have written it after the restore, with any transaction id), or if its
-- transaction is not visible in the tick's snapshot.
--
-- `known_generation` and `known_tick` are the newest that were seen elsewhere: a log that is behind them
-- has been restored. `unused` is a generation that no log with the same Redis has had. Returns false if
-- there was no restore; `is_certain` skips this check.
CREATE FUNCTION log_begin_generation(
    unused integer, known_generation integer DEFAULT 0, known_tick bigint DEFAULT 0,
    is_certain boolean DEFAULT false
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    old ticker;
    fresh smallint;
BEGIN
    SELECT * INTO STRICT old FROM ticker FOR UPDATE;
    -- Another session may have begun the generation meanwhile.
    IF NOT is_certain AND NOT log_is_restored(known_generation, known_tick) THEN
        RETURN false;
    END IF;
    fresh := greatest(old.generation + 1, known_generation + 1, unused);
    EXECUTE format('ALTER TABLE outbox ALTER COLUMN generation SET DEFAULT %s', fresh);
    UPDATE outbox SET generation = fresh, txid = pg_current_xact_id()
    WHERE id > old.last_id
        OR (generation = old.generation AND NOT pg_visible_in_snapshot(txid, old.snap));
    UPDATE ticker SET tick = old.tick + 1, generation = fresh, snap = '3:3:', at = clock_timestamp();
    INSERT INTO tick (tick, generation, snap, at) SELECT tick, generation, snap, at FROM ticker;
    UPDATE log_home SET place = log_place(), txid = pg_current_xact_id();
    RETURN true;
END $$;

-- The last tick that was cut no later than `by_then`, or the oldest tick that is kept. Ticks are
-- numbered without gaps and have no index by time, so this is a binary search.
CREATE FUNCTION tick_find_last(by_then timestamptz) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    low bigint := (SELECT tick FROM tick ORDER BY tick LIMIT 1);
    high bigint := (SELECT tick FROM ticker);
    middle bigint;
BEGIN
    WHILE low < high LOOP
        middle := (low + high + 1) / 2;
        IF (SELECT t.at FROM tick t WHERE t.tick = middle) <= by_then THEN
            low := middle;
        ELSE
            high := middle - 1;
        END IF;
    END LOOP;
    RETURN low;
END
$$;

INSERT INTO partition_plan (table_name, keep) VALUES ('outbox', '30 days'), ('tick', '30 days');

SELECT create_partitions();

INSERT INTO ticker (tick, generation, snap, at)
VALUES (1, 1, pg_current_snapshot(), clock_timestamp());

INSERT INTO log_home (place) VALUES (log_place());

INSERT INTO tick (tick, generation, snap, at) SELECT tick, generation, snap, at FROM ticker;

INSERT INTO reader (name, tick)
SELECT r.name, t.tick FROM ticker t,
    (VALUES ('fanout'), ('publisher'), ('scorer'), ('timeline_writer')) AS r (name);
