-- name: lead_insert_many
-- $1 a JSON array of new leads, each with its event's id and actor, and with key and request where
-- an Idempotency-Key came along. Locks in key order: two batches that share e-mails wait for each
-- other instead of deadlocking. A row with `written` false is the answer kept under a key that was
-- there before: nothing was done. An e-mail that is taken (or twice in the batch) gives no row;
-- lead_find_many_by_email names its holder. A key that another transaction brings at the same
-- moment fails the statement, and a second run finds its answer. Of two with one e-mail the first
-- in the array is made. The ETag says that the answer has nothing of the timeline.
WITH input AS MATERIALIZED (
    SELECT i.*, now_ms() AS at
    FROM ROWS FROM (json_to_recordset($1) AS (
        tenant_id bigint, live boolean, id text, email text, email_key text, name text,
        company text, title text, phone text, status text, source text, tags text[],
        custom_fields json, assigned_to text, event_id text, actor text, key uuid, request uuid)
    ) WITH ORDINALITY AS i (
        tenant_id, live, id, email, email_key, name, company, title, phone, status, source, tags,
        custom_fields, assigned_to, event_id, actor, key, request, place)
), answered AS MATERIALIZED (
    SELECT i.id, a.request, a.status, a.location, a.etag, a.body
    FROM input i CROSS JOIN LATERAL (
        SELECT request, status, location, etag, body FROM idempotent_answer
        WHERE tenant_id = i.tenant_id AND live = i.live AND key = i.key OFFSET 0
    ) AS a
    WHERE i.key IS NOT NULL
), addresses AS MATERIALIZED (
    SELECT address_lock_shared(w.place) FROM (
        SELECT DISTINCT address_place(tenant_id, live) AS place FROM input ORDER BY place
    ) AS w
), inserted AS (
    INSERT INTO lead (
        tenant_id, live, id, email, email_key, name, company, title, phone, status, source, tags,
        custom_fields, assigned_to, first_seen_at, last_active_at, created_at, updated_at)
    SELECT
        tenant_id, live, id, email, email_key, name, company, title, phone, status, source, tags,
        custom_fields, assigned_to, at, at, at, at
    FROM input i
    WHERE NOT EXISTS (SELECT FROM answered a WHERE a.id = i.id)
      AND (SELECT count(*) FROM addresses) > 0
    ORDER BY tenant_id, live, email_key, place
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
), kept AS (
    INSERT INTO idempotent_answer (tenant_id, live, key, request, status, location, etag, body)
    SELECT i.tenant_id, i.live, i.key, i.request, 201, '/v1/leads/' || i.id, '"1.0"', s.body::text
    FROM shown s JOIN input i ON i.id = (s.row).id
    WHERE i.key IS NOT NULL ORDER BY i.tenant_id, i.live, i.key
)
SELECT true AS written, (row).id AS id, NULL::uuid AS request, 201::smallint AS status,
    '/v1/leads/' || (row).id AS location, '"1.0"' AS etag, body::text AS body
FROM shown
UNION ALL SELECT false, id, request, status, location, etag, body FROM answered;

-- name: lead_find_many_by_email
-- $1 tenants, $2 modes, $3 e-mail keys: who holds each.
SELECT w.tenant_id, w.live, w.email_key, l.id
FROM unnest($1::bigint[], $2::boolean[], $3::text[]) AS w (tenant_id, live, email_key)
CROSS JOIN LATERAL (
    SELECT id FROM lead
    WHERE tenant_id = w.tenant_id AND live = w.live AND email_key = w.email_key OFFSET 0
) AS l;

-- name: lead_get_many
-- $1 tenants, $2 modes, $3 ids, $4 the version the caller has complete (0: none): each lead that
-- exists, with its version, the newest version its timeline tells of, and its detail with a
-- timeline of 20. The detail is null, and not read, where the caller has it.
SELECT w.tenant_id, w.live, w.id, w.known, l.version, t.told,
    CASE WHEN l.version <> w.known THEN row_to_json(ROW(
        l.id, l.email, l.name, l.company, l.title, l.phone, l.status, l.score, l.source, l.tags,
        l.custom_fields, l.conversation_count, l.last_intent, l.assigned_to,
        iso_ms(l.first_seen_at), iso_ms(l.last_active_at),
        iso_ms(l.created_at), iso_ms(l.updated_at), l.conversation_summary, t.entries
    )::lead_detail_on_wire)::text END AS body
FROM unnest($1::bigint[], $2::boolean[], $3::text[], $4::bigint[])
    AS w (tenant_id, live, id, known)
JOIN lead l ON l.tenant_id = w.tenant_id AND l.live = w.live AND l.id = w.id
CROSS JOIN LATERAL (
    SELECT coalesce(max(e.version), 0) AS told, coalesce(json_agg(row_to_json(ROW(
        e.event_id, e.type, iso_ms(e.at), e.summary, e.actor)::timeline_on_wire)
        ORDER BY e.version DESC), '[]') AS entries
    FROM (
        SELECT event_id, type, at, summary, actor, version FROM timeline
        WHERE tenant_id = w.tenant_id AND live = w.live AND lead_id = w.id
          AND l.version <> w.known
        ORDER BY version DESC LIMIT 20
    ) AS e
) AS t;

-- name: lead_update_many
-- $1 a JSON array of patches, no lead twice: place (the caller's number for it), the patch under
-- column names, the merge patch of custom_fields (null: none), clears_fields (all of them), the
-- versions of If-Match (null: any), the ids of its event and of that of a status that became so;
-- key and request as in lead_insert_many. $2 bytes and $3 keys that custom_fields may have. $4
-- whether to wait for leads that another transaction has locked, as long as lock_timeout.
-- Rows are locked in key order before they are read, so parallel patches lose nothing; times move
-- forward only. A place that gives no row: no such lead. Outcomes: changed, same, stale (If-Match),
-- taken (the e-mail, by holder), full (custom_fields, once merged), answered (under this key),
-- locked (not waited for).
WITH input AS MATERIALIZED (
    SELECT i.* FROM json_to_recordset($1) AS i (
        place integer, tenant_id bigint, live boolean, id text, patch json, custom_fields json,
        clears_fields boolean, expected bigint[], actor text, event_id text, became_event_id text,
        key uuid, request uuid)
    ORDER BY i.tenant_id, i.live, i.id
), answered AS MATERIALIZED (
    SELECT i.place, a.request, a.status, a.etag, a.body
    FROM input i CROSS JOIN LATERAL (
        SELECT request, status, etag, body FROM idempotent_answer
        WHERE tenant_id = i.tenant_id AND live = i.live AND key = i.key OFFSET 0
    ) AS a
    WHERE i.key IS NOT NULL
), addresses AS MATERIALIZED (
    SELECT address_lock(w.place) FROM (
        SELECT DISTINCT address_place(tenant_id, live) AS place FROM input
        WHERE patch -> 'email_key' IS NOT NULL ORDER BY place
    ) AS w
), asked AS MATERIALIZED (
    SELECT i.* FROM input i
    WHERE NOT EXISTS (SELECT FROM answered a WHERE a.place = i.place)
      AND (SELECT count(*) FROM addresses) >= 0
), before AS MATERIALIZED (
    SELECT i.*, l.row AS old
    FROM asked i CROSS JOIN LATERAL (
        SELECT lead AS row FROM lead
        WHERE NOT $4::boolean AND tenant_id = i.tenant_id AND live = i.live AND id = i.id
        FOR UPDATE SKIP LOCKED
    ) AS l
    UNION ALL
    SELECT i.*, l.row
    FROM asked i CROSS JOIN LATERAL (
        SELECT lead AS row FROM lead
        WHERE $4::boolean AND tenant_id = i.tenant_id AND live = i.live AND id = i.id FOR UPDATE
    ) AS l
), patched AS MATERIALIZED (
    SELECT b.*, json_populate_record(b.old, b.patch) AS new,
        greatest(now_ms(), (b.old).updated_at, (b.old).last_active_at) AS at,
        CASE WHEN b.clears_fields THEN '{}' WHEN b.custom_fields IS NULL THEN (b.old).custom_fields
        ELSE (
            SELECT '{' || coalesce(string_agg(
                to_json(key) || ':' || coalesce(p.value, f.value), ','
                ORDER BY f.place NULLS LAST, p.place), '') || '}'
            FROM json_each((b.old).custom_fields) WITH ORDINALITY AS f (key, value, place)
            FULL JOIN json_each(b.custom_fields) WITH ORDINALITY AS p (key, value, place)
                USING (key)
            WHERE p.value IS NULL OR json_typeof(p.value) <> 'null'
        )::json END AS fields
    FROM before b
), compared AS MATERIALIZED (
    SELECT p.*, (p.new).email_key AS email_key,
        (p.old).status <> (p.new).status AND (p.new).status IN ('qualified', 'converted') AS became,
        p.custom_fields IS NOT NULL AND (
            octet_length(p.fields::text) > $2
            OR (SELECT count(*) FROM json_object_keys(p.fields)) > $3) AS overflows,
        concat_ws(',',
            show_change('email', (p.old).email, (p.new).email),
            show_change('name', (p.old).name, (p.new).name),
            show_change('company', (p.old).company, (p.new).company),
            show_change('title', (p.old).title, (p.new).title),
            show_change('phone', (p.old).phone, (p.new).phone),
            show_change('status', (p.old).status, (p.new).status),
            show_change('source', (p.old).source, (p.new).source),
            CASE WHEN (p.old).tags <> (p.new).tags THEN '"tags":'
                || row_to_json(ROW(to_json((p.old).tags), to_json((p.new).tags))::field_change) END,
            CASE WHEN (p.old).custom_fields::text <> p.fields::text
                AND (p.old).custom_fields::jsonb <> p.fields::jsonb THEN '"customFields":'
                || row_to_json(ROW((p.old).custom_fields, p.fields)::field_change) END,
            show_change('assignedTo', (p.old).assigned_to, (p.new).assigned_to)) AS changes
    FROM patched p
), decided AS MATERIALIZED (
    SELECT c.*, t.id AS holder, CASE
        WHEN NOT (c.old).version = ANY (c.expected) THEN 'stale'
        WHEN t.id IS NOT NULL THEN 'taken' WHEN c.overflows THEN 'full'
        WHEN c.changes = '' THEN 'same' ELSE 'changed' END AS outcome
    FROM compared c LEFT JOIN LATERAL (
        SELECT id FROM lead
        WHERE tenant_id = c.tenant_id AND live = c.live AND email_key = c.email_key
          AND id <> c.id AND c.email_key <> (c.old).email_key OFFSET 0
    ) AS t ON true
    ORDER BY c.tenant_id, c.live, c.email_key
), changed AS (
    UPDATE lead AS l SET
        version = (d.old).version + 1 + d.became::integer,
        email = (d.new).email, email_key = d.email_key, name = (d.new).name,
        company = (d.new).company, title = (d.new).title, phone = (d.new).phone,
        status = (d.new).status, source = (d.new).source, tags = (d.new).tags,
        custom_fields = d.fields, assigned_to = (d.new).assigned_to,
        last_active_at = d.at, updated_at = d.at
    FROM decided d
    WHERE l.tenant_id = d.tenant_id AND l.live = d.live AND l.id = d.id AND d.outcome = 'changed'
    RETURNING d.place, l AS row
), shown AS MATERIALIZED (
    SELECT d.place, d.outcome, d.holder, coalesce(c.row, d.old) AS row,
        lead_json(coalesce(c.row, d.old)) AS body
    FROM decided d LEFT JOIN changed c ON c.place = d.place
), logged AS (
    INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
    SELECT lead_shard(d.id), d.tenant_id, d.live, d.id, e.version, e.id, e.type, d.actor, d.at,
        row_to_json(ROW(
            s.body, e.version, ('{' || d.changes || '}')::json, d.actor)::lead_change_event)
    FROM decided d JOIN shown s ON s.place = d.place CROSS JOIN LATERAL (VALUES
        ((d.old).version + 1, d.event_id, 'lead.updated'),
        (CASE WHEN d.became THEN (d.old).version + 2 END, d.became_event_id,
            'lead.' || (d.new).status)
    ) AS e (version, id, type)
    WHERE d.outcome = 'changed' AND e.version IS NOT NULL
    ORDER BY d.tenant_id, d.live, d.id, e.version
), kept AS (
    INSERT INTO idempotent_answer (tenant_id, live, key, request, status, etag, body)
    SELECT i.tenant_id, i.live, i.key, i.request, 200, '"' || (s.row).version || '.0"', s.body::text
    FROM shown s JOIN input i ON i.place = s.place
    WHERE i.key IS NOT NULL AND s.outcome IN ('changed', 'same')
    ORDER BY i.tenant_id, i.live, i.key
)
SELECT place, outcome, holder, NULL::uuid AS request, 200::smallint AS status,
    '"' || (row).version || '.0"' AS etag, body::text AS body
FROM shown
UNION ALL SELECT place, 'answered', NULL, request, status, etag, body FROM answered
UNION ALL SELECT a.place, 'locked', NULL, NULL, NULL, NULL, NULL FROM asked a
WHERE NOT $4 AND NOT EXISTS (SELECT FROM before b WHERE b.place = a.place) AND EXISTS (
    SELECT FROM lead l WHERE l.tenant_id = a.tenant_id AND l.live = a.live AND l.id = a.id);

-- name: lead_delete
-- $1 tenant, $2 mode, $3 id, $4 actor, $5 event id, $6 the versions of If-Match (null: any). The
-- event holds the lead as it last was. No row: no such lead. gone false: another version.
WITH before AS MATERIALIZED (
    SELECT l.version FROM lead l WHERE l.tenant_id = $1 AND l.live = $2 AND l.id = $3 FOR UPDATE
), gone AS (
    DELETE FROM lead AS l USING before b
    WHERE l.tenant_id = $1 AND l.live = $2 AND l.id = $3
      AND ($6::bigint[] IS NULL OR b.version = ANY ($6))
    RETURNING l AS row
), logged AS (
    INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
    SELECT lead_shard($3), $1, $2, $3, (g.row).version + 1, $5, 'lead.deleted', $4, now_ms(),
        row_to_json(ROW(lead_json(g.row), (g.row).version + 1, $4)::lead_event)
    FROM gone g
)
SELECT EXISTS (SELECT FROM gone) AS gone FROM before;
