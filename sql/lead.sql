-- name: lead_insert_many
-- $1 a JSON array of new leads, each with its event's id and actor. Locks in key order: two
-- batches that share e-mails wait for each other instead of deadlocking. An e-mail that is taken
-- (or twice in the batch) gives no row; lead_find_many_by_email names its holder.
WITH input AS MATERIALIZED (
    SELECT i.*, now_ms() AS at
    FROM json_to_recordset($1) AS i (
        tenant_id bigint, live boolean, id text, email text, email_key text, name text,
        company text, title text, phone text, status text, source text, tags text[],
        custom_fields json, assigned_to text, event_id text, actor text)
), inserted AS (
    INSERT INTO lead (
        tenant_id, live, id, email, email_key, name, company, title, phone, status, source, tags,
        custom_fields, assigned_to, first_seen_at, last_active_at, created_at, updated_at)
    SELECT
        tenant_id, live, id, email, email_key, name, company, title, phone, status, source, tags,
        custom_fields, assigned_to, at, at, at, at
    FROM input ORDER BY tenant_id, live, email_key
    ON CONFLICT (tenant_id, live, email_key) DO NOTHING
    RETURNING lead AS row
), shown AS MATERIALIZED (
    SELECT row, lead_json(row) AS body FROM inserted
), logged AS (
    INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
    SELECT lead_shard(i.id), i.tenant_id, i.live, i.id, 1, i.event_id, 'lead.created', i.actor,
        i.at, row_to_json(ROW(s.body, 1, i.actor)::lead_event)
    FROM shown s JOIN input i ON i.id = (s.row).id
    ORDER BY i.tenant_id, i.live, i.id
)
SELECT (row).id AS id, body::text AS body FROM shown;

-- name: lead_find_many_by_email
-- $1 tenants, $2 modes, $3 e-mail keys: who holds each.
SELECT l.tenant_id, l.live, l.email_key, l.id
FROM unnest($1::bigint[], $2::boolean[], $3::text[]) AS w (tenant_id, live, email_key)
JOIN lead l ON l.tenant_id = w.tenant_id AND l.live = w.live AND l.email_key = w.email_key;

-- name: lead_get_many
-- $1 tenants, $2 modes, $3 ids: the detail of each that exists, timeline of 20 included.
SELECT l.tenant_id, l.live, l.id, l.version, row_to_json(ROW(
        l.id, l.email, l.name, l.company, l.title, l.phone, l.status, l.score, l.source, l.tags,
        l.custom_fields, l.conversation_count, l.last_intent, l.assigned_to,
        iso_ms(l.first_seen_at), iso_ms(l.last_active_at),
        iso_ms(l.created_at), iso_ms(l.updated_at), l.conversation_summary, t.entries
    )::lead_detail_on_wire)::text AS body
FROM unnest($1::bigint[], $2::boolean[], $3::text[]) AS w (tenant_id, live, id)
JOIN lead l ON l.tenant_id = w.tenant_id AND l.live = w.live AND l.id = w.id
CROSS JOIN LATERAL (
    SELECT coalesce(json_agg(row_to_json(ROW(
        e.event_id, e.type, iso_ms(e.at), e.summary, e.actor)::timeline_on_wire)
        ORDER BY e.version DESC), '[]') AS entries
    FROM (
        SELECT event_id, type, at, summary, actor, version FROM timeline
        WHERE tenant_id = w.tenant_id AND live = w.live AND lead_id = w.id
        ORDER BY version DESC LIMIT 20
    ) AS e
) AS t;

-- name: lead_update
-- $1 tenant, $2 mode, $3 id, $4 the patch under column names, $5 the merge patch of custom_fields
-- (null: none; JSON null: clears all), $6 actor, $7 id of the event, $8 id of the event of a
-- status that became so, $9 bytes and $10 keys that custom_fields may have.
-- The row is locked before it is read, so parallel patches of one lead lose nothing; times move
-- forward only. No row: no such lead. existing_lead_id: the e-mail is taken and nothing changed.
-- overflows: merged, custom_fields are too large and nothing changed.
WITH before AS MATERIALIZED (
    SELECT l AS row FROM lead l WHERE l.tenant_id = $1 AND l.live = $2 AND l.id = $3 FOR UPDATE
), patched AS MATERIALIZED (
    SELECT b.row AS old, json_populate_record(b.row, $4) AS new,
        greatest(now_ms(), (b.row).updated_at, (b.row).last_active_at) AS at,
        CASE WHEN $5::json IS NULL THEN (b.row).custom_fields
        WHEN json_typeof($5::json) = 'null' THEN '{}' ELSE (
            SELECT '{' || coalesce(string_agg(
                to_json(key) || ':' || coalesce(p.value, f.value), ','
                ORDER BY f.place NULLS LAST, p.place), '') || '}'
            FROM json_each((b.row).custom_fields) WITH ORDINALITY AS f (key, value, place)
            FULL JOIN json_each($5) WITH ORDINALITY AS p (key, value, place) USING (key)
            WHERE p.value IS NULL OR json_typeof(p.value) <> 'null'
        )::json END AS custom_fields
    FROM before b
), compared AS MATERIALIZED (
    SELECT p.*, (
        SELECT json_object_agg(
            v.field, row_to_json(ROW(v.old, v.new)::field_change) ORDER BY v.place)
        FROM (VALUES
            (1, 'email', to_json((p.old).email), to_json((p.new).email)),
            (2, 'name', to_json((p.old).name), to_json((p.new).name)),
            (3, 'company', to_json((p.old).company), to_json((p.new).company)),
            (4, 'title', to_json((p.old).title), to_json((p.new).title)),
            (5, 'phone', to_json((p.old).phone), to_json((p.new).phone)),
            (6, 'status', to_json((p.old).status), to_json((p.new).status)),
            (7, 'source', to_json((p.old).source), to_json((p.new).source)),
            (8, 'tags', to_json((p.old).tags), to_json((p.new).tags)),
            (9, 'customFields', (p.old).custom_fields, p.custom_fields),
            (10, 'assignedTo', to_json((p.old).assigned_to), to_json((p.new).assigned_to))
        ) AS v (place, field, old, new)
        WHERE v.old::jsonb IS DISTINCT FROM v.new::jsonb
    ) AS changes,
    (p.old).status <> (p.new).status AND (p.new).status IN ('qualified', 'converted') AS became,
    $5::json IS NOT NULL AND (
        octet_length(p.custom_fields::text) > $9
        OR (SELECT count(*) FROM json_object_keys(p.custom_fields)) > $10) AS overflows
    FROM patched p
), taken AS MATERIALIZED (
    SELECT t.id FROM compared c JOIN lead t
        ON t.tenant_id = $1 AND t.live = $2 AND t.email_key = (c.new).email_key AND t.id <> $3
    WHERE (c.new).email_key <> (c.old).email_key
), changed AS (
    UPDATE lead AS l SET
        version = (c.old).version + 1 + c.became::integer,
        email = (c.new).email, email_key = (c.new).email_key, name = (c.new).name,
        company = (c.new).company, title = (c.new).title, phone = (c.new).phone,
        status = (c.new).status, source = (c.new).source, tags = (c.new).tags,
        custom_fields = c.custom_fields, assigned_to = (c.new).assigned_to,
        last_active_at = c.at, updated_at = c.at
    FROM compared c
    WHERE l.tenant_id = $1 AND l.live = $2 AND l.id = $3
      AND c.changes IS NOT NULL AND NOT c.overflows AND NOT EXISTS (SELECT FROM taken)
    RETURNING l AS row, c.changes, c.became, c.old
), shown AS MATERIALIZED (
    SELECT row, changes, became, (old).version AS old_version, lead_json(row) AS body FROM changed
), logged AS (
    INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
    SELECT lead_shard($3), $1, $2, $3, e.version, e.id, e.type, $6, (s.row).updated_at,
        row_to_json(ROW(s.body, e.version, s.changes, $6)::lead_change_event)
    FROM shown s CROSS JOIN LATERAL (VALUES
        (s.old_version + 1, $7, 'lead.updated'),
        (CASE WHEN s.became THEN s.old_version + 2 END, $8, 'lead.' || (s.row).status)
    ) AS e (version, id, type)
    WHERE e.version IS NOT NULL ORDER BY e.version
)
SELECT coalesce(s.body, lead_json(b.row))::text AS body, s.old_version IS NOT NULL AS changed,
    coalesce((s.row).version, (b.row).version) AS version,
    (SELECT id FROM taken) AS existing_lead_id, (SELECT overflows FROM compared) AS overflows
FROM before b LEFT JOIN shown s ON true;

-- name: lead_delete
-- $1 tenant, $2 mode, $3 id, $4 actor, $5 event id. The event holds the lead as it last was.
WITH gone AS (
    DELETE FROM lead AS l WHERE l.tenant_id = $1 AND l.live = $2 AND l.id = $3
    RETURNING l AS row
), logged AS (
    INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
    SELECT lead_shard($3), $1, $2, $3, (g.row).version + 1, $5, 'lead.deleted', $4, now_ms(),
        row_to_json(ROW(lead_json(g.row), (g.row).version + 1, $4)::lead_event)
    FROM gone g
)
SELECT (row).id AS id FROM gone;
