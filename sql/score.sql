-- name: score_get
-- $1 tenant, $2 mode, $3 id: a lead's score and what made it. No row: no such lead.
SELECT id, score, score_factors, score_rules, iso_ms(scored_at) AS scored_at
FROM lead WHERE tenant_id = $1 AND live = $2 AND id = $3;

-- name: score_read_many
-- $1 tenants, $2 modes, $3 ids: what a score is made from, and the score as it is. The time is the
-- database's, which also says when a score is stale. No lock: score_write_many looks again.
SELECT l.tenant_id, l.live, l.id, l.version, l.email_key, l.name, l.company, l.title, l.phone,
    l.status, l.source, l.tags, l.custom_fields, l.conversation_count, l.last_intent,
    l.last_active_at, l.score, l.score_factors, l.score_rules, l.score_stale_at,
    clock_timestamp() AS now
FROM unnest($1::bigint[], $2::boolean[], $3::text[]) AS w (tenant_id, live, id)
JOIN lead l ON l.tenant_id = w.tenant_id AND l.live = w.live AND l.id = w.id
ORDER BY l.tenant_id, l.live, l.id;

-- name: score_list_stale
-- $1 limit: leads whose score time alone has made stale, longest first. All tenants': the caller
-- is the sweep, and what it does for each lead names the tenant.
SELECT tenant_id, live, id FROM lead
WHERE score_stale_at <= clock_timestamp() ORDER BY score_stale_at LIMIT $1;

-- name: score_write_many
-- $1 a JSON array of scores, each with the version of the lead that was read and an event's id.
-- A lead that has changed since is left alone: it has a newer event, which will rescore it. Rows
-- are locked in key order, so that two writers wait for each other instead of deadlocking. Only a
-- score that differs is an event, moves the version, and gives a row with `changed`. Neither
-- updated_at nor last_active_at move.
WITH input AS MATERIALIZED (
    SELECT i.* FROM json_to_recordset($1) AS i (
        tenant_id bigint, live boolean, id text, version bigint, score smallint, factors json,
        rules text, stale_at timestamptz, event_id text)
), locked AS MATERIALIZED (
    SELECT l.tenant_id, l.live, l.id, l.score AS old_score, i.score <> l.score AS differs,
        i.score, i.factors, i.rules, i.stale_at, i.event_id
    FROM lead l JOIN input i
        ON i.tenant_id = l.tenant_id AND i.live = l.live AND i.id = l.id AND i.version = l.version
    ORDER BY l.tenant_id, l.live, l.id
    FOR UPDATE OF l
), changed AS (
    UPDATE lead AS l SET
        version = l.version + s.differs::integer, score = s.score, score_factors = s.factors,
        score_rules = s.rules, scored_at = now_ms(), score_stale_at = s.stale_at
    FROM locked s
    WHERE l.tenant_id = s.tenant_id AND l.live = s.live AND l.id = s.id
    RETURNING l AS row, s.old_score, s.differs, s.event_id
), logged AS (
    INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
    SELECT lead_shard((c.row).id), (c.row).tenant_id, (c.row).live, (c.row).id, (c.row).version,
        c.event_id, 'lead.updated', 'scorer', (c.row).scored_at,
        row_to_json(ROW(lead_json(c.row), (c.row).version, json_build_object('score',
            row_to_json(ROW(to_json(c.old_score), to_json((c.row).score))::field_change)),
            'scorer')::lead_change_event)
    FROM changed c WHERE c.differs
    ORDER BY (c.row).tenant_id, (c.row).live, (c.row).id
)
SELECT (row).tenant_id AS tenant_id, (row).live AS live, (row).id AS id, differs FROM changed;
