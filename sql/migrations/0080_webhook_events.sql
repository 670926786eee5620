-- What befalls a webhook goes into the log as well, beside what befalls leads: `webhook.failing`,
-- `webhook.disabled`, `webhook.expired`. There its id stands where other events have their lead's.

-- Counts its events without gaps, as a lead's version does.
ALTER TABLE endpoint ADD COLUMN version bigint NOT NULL DEFAULT 0;

-- Of what a replay looked at: what could not be sent, because its event is no longer kept.
ALTER TABLE replay ADD COLUMN expired bigint NOT NULL DEFAULT 0;

-- As everyone with a key may see it: the log needs no admin's key, and a URL may hold a password.
CREATE TYPE webhook_on_wire AS (
    "id" text, "description" text, "status" text, "statusReason" text, "failures" integer,
    "failingSince" text, "lastSuccessAt" text, "disablesAt" text);
CREATE TYPE webhook_event_data AS ("webhook" webhook_on_wire, "version" bigint, "actor" text);
CREATE TYPE webhook_expiry AS ("count" bigint, "since" text, "until" text);
CREATE TYPE webhook_expired_data AS (
    "webhook" webhook_on_wire, "expired" webhook_expiry, "version" bigint, "actor" text);

CREATE FUNCTION webhook_show(e endpoint, h endpoint_health) RETURNS webhook_on_wire LANGUAGE sql STABLE
RETURN ROW(e.id, e.description, e.status, e.status_reason, h.failures, iso_ms(h.failing_since),
    iso_ms(h.last_success_at),
    CASE WHEN e.status = 'active' THEN iso_ms(h.failing_since + interval '5 days') END
)::webhook_on_wire;
