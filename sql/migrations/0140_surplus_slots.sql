-- More writers at once than slots get slots of their own, named by their process: 64 + pid. Nobody
-- merged them, so the sum behind a list's total had ever more to add up. The indexer now does.
-- Small: what is not a surplus slot is not in it.
CREATE INDEX lead_count_surplus ON lead_count (slot) WHERE slot > 63;

-- The lowest free slot, held until commit: few writers at a time leave few slots to add up. Trying
-- never waits, so it cannot deadlock. A surplus slot is held too, so that it is merged only when its
-- writer is done; while it is being merged, the writer takes another.
CREATE OR REPLACE FUNCTION lead_count_slot() RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    pids CONSTANT integer := 4194304;  -- more than there are
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

-- Adds up to `most` surplus slots to a usual one. Nobody waits for it: it takes only slots that no
-- writer holds, as a writer does. How many they were.
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
