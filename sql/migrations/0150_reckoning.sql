-- The reconciler goes on from where it was: by ticks, so that a statement counts a bounded piece of
-- the log and nothing is left out between two. Null: a row of before, which proved a span of time.
ALTER TABLE reconciliation ADD COLUMN tick bigint;

-- Deliveries of events that are not in the log, or that their endpoint did not want.
ALTER TABLE reconciliation ADD COLUMN stray bigint NOT NULL DEFAULT 0;

-- The transaction that wrote the event: with it the log is looked into for one event. Null: stored
-- before this was noted.
ALTER TABLE webhook_event ADD COLUMN txid xid8;

-- The last tick that was cut by then, or the oldest that is kept. Ticks are numbered without gaps and
-- have no index by time, so the place is found by halving.
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
