-- An endpoint is disabled a day after its last notice at the earliest; see endpoint_disable_failing.
ALTER TABLE endpoint_health ADD COLUMN warned_at timestamptz;    -- when `warned` was last set

CREATE OR REPLACE FUNCTION webhook_show(e endpoint, h endpoint_health) RETURNS webhook_on_wire
LANGUAGE sql STABLE
RETURN ROW(e.id, e.description, e.status, e.status_reason, h.failures, iso_ms(h.failing_since),
    iso_ms(h.last_success_at),
    CASE WHEN e.status = 'active' THEN iso_ms(greatest(h.failing_since + interval '5 days',
        CASE WHEN h.warned >= 80 THEN h.warned_at + interval '1 day' END)) END
)::webhook_on_wire;
