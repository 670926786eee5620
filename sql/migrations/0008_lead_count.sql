-- Counters for `pagination.total`: without filters and by status and source, a total has constant cost.
--
-- The count of a tenant, mode, status and source is the sum over its slots. A writing transaction
-- takes a slot that no other transaction holds, so writers never wait for each other here. Triggers
-- (0009) update the counters in the writing transaction. Search maintenance merges surplus slots and
-- corrects the counters.

CREATE TABLE lead_count (
    tenant_id  bigint NOT NULL,
    live       boolean NOT NULL,
    slot       integer NOT NULL,
    status     text COLLATE "C" NOT NULL,
    source     text COLLATE "C" NOT NULL,
    n          bigint NOT NULL,  -- negative if a lead was counted in one slot and removed in another
    PRIMARY KEY (tenant_id, live, slot, status, source)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- If all 64 slots are taken, a writer gets a surplus slot, 64 + its pid; lead_count_merge merges them.
-- The index is small: it contains surplus slots only.
CREATE INDEX lead_count_surplus ON lead_count (slot) WHERE slot > 63;

-- Takes the lowest free slot until the end of the transaction, so that few concurrent writers use few
-- slots. It never waits, so it cannot deadlock. A surplus slot is locked too: it is merged only after
-- its writer's transaction, and while it is being merged, the writer takes another one.
CREATE FUNCTION lead_count_slot() RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    pids CONSTANT integer := 4194304;  -- above every pid
BEGIN
    FOR slot IN 0..63 LOOP
        IF pg_try_advisory_xact_lock(1818583396, slot) THEN
            RETURN slot;
        END IF;
    END LOOP;
    FOR turn IN 0..500 LOOP
        IF pg_try_advisory_xact_lock(1818583396, 64 + pg_backend_pid() + turn * pids) THEN
            RETURN 64 + pg_backend_pid() + turn * pids;
        END IF;
    END LOOP;
    RAISE EXCEPTION 'no slot is free';
END $$;

-- Adds up to `most` surplus slots to a usual slot. It takes only slots that no writer holds, so it
-- neither waits nor makes a writer wait. Returns the number of merged slots.
CREATE FUNCTION lead_count_merge(most integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
DECLARE
    usual integer;
    surplus integer;
    merged integer := 0;
BEGIN
    FOR surplus IN SELECT DISTINCT slot FROM lead_count WHERE slot > 63 LIMIT most LOOP
        CONTINUE WHEN NOT pg_try_advisory_xact_lock(1818583396, surplus);
        usual := coalesce(usual, lead_count_slot());
        EXIT WHEN usual > 63;
        WITH gone AS (
            DELETE FROM lead_count WHERE slot = surplus RETURNING tenant_id, live, status, source, n
        )
        INSERT INTO lead_count AS c (tenant_id, live, slot, status, source, n)
        SELECT g.tenant_id, g.live, usual, g.status, g.source, g.n FROM gone g
        ON CONFLICT (tenant_id, live, slot, status, source) DO UPDATE SET n = c.n + excluded.n;
        merged := merged + 1;
    END LOOP;
    RETURN merged;
END $$;
