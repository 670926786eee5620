-- The budget of retries is time that an endpoint could be sent to: what it asked for by Retry-After
-- and what it was paused or disabled for is excused. Deliveries keep their deadline on a clock that
-- stands still meanwhile, so no row of theirs changes when time is excused.

ALTER TABLE endpoint_health
    -- Seconds excused so far, those up to excused_until already among them.
    ADD COLUMN excused_s double precision NOT NULL DEFAULT 0,
    ADD COLUMN excused_until timestamptz;

ALTER TABLE endpoint
    ADD COLUMN held_since timestamptz,                     -- for how long it has not been active
    -- Made active again: what waits for a later try is being called, in order of due_at, and this
    -- is how far that has come.
    ADD COLUMN recall_after timestamptz;

COMMENT ON COLUMN delivery.deadline_at IS 'of the retries, plus excused_time(); null: not yet tried';
COMMENT ON COLUMN endpoint.skip_before IS 'what was made before this is not sent, but cancelled';

UPDATE endpoint SET held_since = updated_at WHERE status <> 'active';

CREATE INDEX endpoint_resuming ON endpoint (id)
    WHERE recall_after IS NOT NULL OR skip_before IS NOT NULL;

-- Seconds excused until now.
CREATE FUNCTION excused_time(h endpoint_health) RETURNS double precision LANGUAGE sql STABLE
RETURN h.excused_s - greatest(extract(epoch FROM h.excused_until - now())::double precision, 0);
