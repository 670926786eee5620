-- name: score_get
-- $1 tenant, $2 mode, $3 id: the score of a lead, with its factors. No row: the lead does not exist.
SELECT l.id, l.score, coalesce(s.factors, '') AS factors, s.rules, iso_ms(s.scored_at) AS scored_at
FROM lead l LEFT JOIN lead_score s
    ON s.tenant_id = l.tenant_id AND s.live = l.live AND s.score = l.score AND s.id = l.id
WHERE l.tenant_id = $1 AND l.live = $2 AND l.id = $3;

-- name: score_read_many
-- $1 tenants, $2 modes, $3 ids: the fields that scores are computed from, and the current scores. The
-- time is that of the database, which also decides whether a score is stale. Rows are not locked:
-- score_write_many checks the version. (SELECT $1): see lead_get_many.
SELECT l.tenant_id, l.live, l.id, l.version, l.email_key, l.name, l.company, l.title, l.phone,
    l.status, l.source, l.tags, l.custom_fields, l.conversation_count, l.last_intent,
    l.last_active_at, l.score, s.factors, s.rules, s.stale_at, clock_timestamp() AS now
FROM unnest((SELECT $1::bigint[]), (SELECT $2::boolean[]), (SELECT $3::text[])) AS w (tenant_id, live, id)
JOIN lead l ON l.tenant_id = w.tenant_id AND l.live = w.live AND l.id = w.id
LEFT JOIN lead_score s
    ON s.tenant_id = l.tenant_id AND s.live = l.live AND s.score = l.score AND s.id = l.id
ORDER BY l.tenant_id, l.live, l.id;

-- name: score_list_stale
-- $1 limit: leads whose score has become stale, the longest stale first. The statement is for all
-- tenants; the statements that rescore these leads name their tenants.
SELECT s.tenant_id, s.live, s.id
FROM (
    SELECT tenant_id, live, id, score FROM lead_score
    WHERE stale_at <= now() ORDER BY stale_at LIMIT $1
) AS s
CROSS JOIN LATERAL (
    SELECT FROM lead
    WHERE tenant_id = s.tenant_id AND live = s.live AND id = s.id AND score = s.score OFFSET 0
) AS l;

-- name: score_write_many
-- $1 to $5 the move of the scorer's cursor: see reader_move; $1 null: no move. $6 a JSON array of scores,
-- each with the version of the lead that was scored and the id of an event. A lead with another version is skipped: its newer event causes another score. Rows are locked in key order, so of
-- two writers one waits for the other, without a deadlock. If the score differs, the lead gets an event
-- and a new version; if not, only its explanation is written. updated_at and last_active_at do not
-- change. A trigger copies the new score to lead_search. Returns the number of leads whose scores were
-- stored, and how many of them have a new score. No row: another process has moved the cursor, and
-- nothing is changed.
WITH moved AS MATERIALIZED (
    {reader_move}
), is_valid AS MATERIALIZED (
    SELECT name FROM moved UNION ALL SELECT NULL WHERE $1 IS NULL
), input AS MATERIALIZED (
    SELECT i.* FROM json_to_recordset($6) AS i (
        tenant_id bigint, live boolean, id text, version bigint, score smallint, factors text,
        rules text, stale_at timestamptz, event_id text)
    WHERE EXISTS (SELECT FROM is_valid)
), locked AS MATERIALIZED (
    SELECT l.tenant_id, l.live, l.id, l.score AS old_score, i.score <> l.score AS differs,
        i.score, decode(i.factors, 'base64') AS factors, i.rules, i.stale_at, i.event_id, now_ms() AS at
    FROM lead l JOIN input i
        ON i.tenant_id = l.tenant_id AND i.live = l.live AND i.id = l.id AND i.version = l.version
    ORDER BY l.tenant_id, l.live, l.id
    FOR UPDATE OF l
), scored AS (
    UPDATE lead_score AS s SET
        score = n.score, factors = n.factors, rules = n.rules, scored_at = n.at, stale_at = n.stale_at
    FROM locked n
    WHERE s.tenant_id = n.tenant_id AND s.live = n.live AND s.score = n.old_score AND s.id = n.id
), changed AS (
    UPDATE lead AS l SET version = l.version + 1, score = n.score
    FROM locked n
    WHERE l.tenant_id = n.tenant_id AND l.live = n.live AND l.id = n.id AND n.differs
    RETURNING l AS row, n.old_score, n.event_id, n.at
), logged AS (
    INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
    SELECT lead_shard((c.row).id), (c.row).tenant_id, (c.row).live, (c.row).id, (c.row).version,
        c.event_id, 'lead.updated', 'scorer', c.at,
        row_to_json(ROW(lead_json(c.row), (c.row).version, json_build_object('score',
            row_to_json(ROW(to_json(c.old_score), to_json((c.row).score))::field_change)),
            'scorer')::lead_change_event)
    FROM changed c
    ORDER BY (c.row).tenant_id, (c.row).live, (c.row).id
)
SELECT count(k.differs) AS written, count(*) FILTER (WHERE k.differs) AS changed
FROM is_valid v LEFT JOIN locked k ON true
GROUP BY v.name;
