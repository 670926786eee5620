-- name: lead_insert_many
-- Creates leads. $1 a JSON array of new leads, each with the id and actor of its event, and with key
-- and request if it came with an Idempotency-Key. phone_e164 may be absent. Rows are inserted in key order: of two batches that
-- share e-mail addresses one waits for the other, without a deadlock. Returns
--   written true    a new lead: its response;
--   written false   the response that is stored under the key; nothing was done for this lead;
--   no row          the e-mail address belongs to another lead, or to an earlier lead of this array.
--                   lead_find_many_by_email finds that lead.
-- If another transaction commits one of the keys at the same moment, the statement fails, writes
-- nothing, and a second run finds the stored response.
WITH input AS MATERIALIZED (
    SELECT i.*, now_ms() AS at
    FROM ROWS FROM (json_to_recordset($1) AS (
        tenant_id bigint, live boolean, id text, email text, email_key text, name text,
        company text, title text, phone text, phone_e164 text, status text, source text,
        tags text[], custom_fields json, assigned_to text, event_id text, actor text, key uuid,
        request uuid)
    ) WITH ORDINALITY AS i (
        tenant_id, live, id, email, email_key, name, company, title, phone, phone_e164, status,
        source, tags, custom_fields, assigned_to, event_id, actor, key, request, ordinal)
), replayed AS MATERIALIZED (
    SELECT i.id, r.request, r.status, r.location, r.etag, r.body
    FROM input i CROSS JOIN LATERAL (
        SELECT request, status, location, etag, body FROM idempotent_response
        WHERE tenant_id = i.tenant_id AND live = i.live AND key = i.key OFFSET 0
    ) AS r
    WHERE i.key IS NOT NULL
), addresses AS MATERIALIZED (
    SELECT address_lock_shared(w.lock_key) FROM (
        SELECT DISTINCT address_lock_key(tenant_id, live) AS lock_key FROM input ORDER BY lock_key
    ) AS w
), inserted AS (
    INSERT INTO lead (
        tenant_id, live, id, email, email_key, name, company, title, phone, phone_e164, status,
        source, tags, custom_fields, assigned_to, first_seen_at, last_active_at, created_at,
        updated_at)
    SELECT
        tenant_id, live, id, email, email_key, name, company, title, phone, phone_e164, status,
        source, tags, custom_fields, assigned_to, at, at, at, at
    FROM input i
    WHERE NOT EXISTS (SELECT FROM replayed r WHERE r.id = i.id)
      AND (SELECT count(*) FROM addresses) > 0
    ORDER BY tenant_id, live, email_key, ordinal
    ON CONFLICT (tenant_id, live, email_key) DO NOTHING
    RETURNING lead AS row
), rendered AS MATERIALIZED (
    SELECT row, lead_json(row) AS body FROM inserted
), logged AS (
    INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
    SELECT lead_shard(i.id), i.tenant_id, i.live, i.id, 1, i.event_id, 'lead.created', i.actor,
        i.at, row_to_json(ROW(s.body, 1, i.actor)::lead_event)
    FROM rendered s JOIN input i ON i.id = (s.row).id
    ORDER BY i.tenant_id, i.live, i.id
), stored AS (
    INSERT INTO idempotent_response (tenant_id, live, key, request, status, location, etag, body)
    SELECT i.tenant_id, i.live, i.key, i.request, 201, '/v1/leads/' || i.id, lead_write_etag(s.row),
        s.body::text
    FROM rendered s JOIN input i ON i.id = (s.row).id
    WHERE i.key IS NOT NULL ORDER BY i.tenant_id, i.live, i.key
)
SELECT true AS written, (row).id AS id, NULL::uuid AS request, 201::smallint AS status,
    '/v1/leads/' || (row).id AS location, lead_write_etag(row) AS etag, body::text AS body
FROM rendered
UNION ALL SELECT false, id, request, status, location, etag, body FROM replayed;

-- name: lead_find_many_by_email
-- $1 tenants, $2 modes, $3 e-mail keys: the id of the lead that has each e-mail address.
SELECT w.tenant_id, w.live, w.email_key, l.id
FROM unnest($1::bigint[], $2::boolean[], $3::text[]) AS w (tenant_id, live, email_key)
CROSS JOIN LATERAL (
    SELECT id FROM lead
    WHERE tenant_id = w.tenant_id AND live = w.live AND email_key = w.email_key OFFSET 0
) AS l;

-- name: lead_get_many
-- $1 tenants, $2 modes, $3 ids, $4 the version of the client's complete copy (0: no copy). Returns for
-- each existing lead its versions, the newest version in its timeline, and its detail with the newest
-- 20 timeline entries. The detail is null, and is not read, if the client's copy is current. (SELECT $1)
-- hides the number of leads from the planner: otherwise a session without forced generic plans plans
-- each execution for one lead, 0.35 ms instead of 0.12.
SELECT w.tenant_id, w.live, w.id, w.known, l.edit_version, l.version, t.timeline_version,
    CASE WHEN l.version <> w.known THEN row_to_json(ROW(
        l.id, l.email, l.name, l.company, l.title, l.phone, l.status, l.score, l.source, l.tags,
        l.custom_fields, l.conversation_count, l.last_intent, l.assigned_to,
        iso_ms(l.first_seen_at), iso_ms(l.last_active_at),
        iso_ms(l.created_at), iso_ms(l.updated_at), l.conversation_summary, t.entries
    )::lead_detail_on_wire)::text END AS body
FROM unnest(
    (SELECT $1::bigint[]), (SELECT $2::boolean[]), (SELECT $3::text[]), (SELECT $4::bigint[])
) AS w (tenant_id, live, id, known)
JOIN lead l ON l.tenant_id = w.tenant_id AND l.live = w.live AND l.id = w.id
CROSS JOIN LATERAL (
    SELECT coalesce(max(e.version), 0) AS timeline_version, coalesce(json_agg(row_to_json(ROW(
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
-- Changes leads. $1 a JSON array of patches, at most one per lead: ordinal (identifies the row in the
-- result), patch (new values by column; a new phone without phone_e164 clears it), custom_fields (a
-- merge patch; null: none), clears_fields (deletes all custom fields), expected (the edit versions of
-- If-Match; null: any), the ids of the
-- lead.updated event and of the event for a new status, and key and request as in lead_insert_many.
-- $2 the most bytes and $3 the most keys of custom_fields. $4 whether to wait for leads that another
-- transaction has locked, at most lock_timeout.
-- Rows are locked in key order and read after that, so concurrent patches lose nothing. Timestamps
-- only increase. Outcomes by ordinal:
--   changed, same   done; the response;
--   replayed        the response that is stored under the key; nothing was done;
--   stale           the lead has none of the expected edit versions;
--   taken           the e-mail address belongs to the lead `holder`;
--   full            the merged custom_fields would exceed $2 or $3;
--   locked          another transaction has locked the lead ($4 false);
--   no row          the lead does not exist.
WITH input AS MATERIALIZED (
    SELECT i.* FROM json_to_recordset($1) AS i (
        ordinal integer, tenant_id bigint, live boolean, id text, patch json, custom_fields json,
        clears_fields boolean, expected bigint[], actor text, event_id text, status_event_id text,
        key uuid, request uuid)
    ORDER BY i.tenant_id, i.live, i.id
), replayed AS MATERIALIZED (
    SELECT i.ordinal, r.request, r.status, r.etag, r.body
    FROM input i CROSS JOIN LATERAL (
        SELECT request, status, etag, body FROM idempotent_response
        WHERE tenant_id = i.tenant_id AND live = i.live AND key = i.key OFFSET 0
    ) AS r
    WHERE i.key IS NOT NULL
), addresses AS MATERIALIZED (
    SELECT address_lock(w.lock_key) FROM (
        SELECT DISTINCT address_lock_key(tenant_id, live) AS lock_key FROM input
        WHERE patch -> 'email_key' IS NOT NULL ORDER BY lock_key
    ) AS w
), pending AS MATERIALIZED (
    SELECT i.* FROM input i
    WHERE NOT EXISTS (SELECT FROM replayed r WHERE r.ordinal = i.ordinal)
      AND (SELECT count(*) FROM addresses) >= 0
), before AS MATERIALIZED (
    SELECT i.*, l.row AS old
    FROM pending i CROSS JOIN LATERAL (
        SELECT lead AS row FROM lead
        WHERE NOT $4::boolean AND tenant_id = i.tenant_id AND live = i.live AND id = i.id
        FOR UPDATE SKIP LOCKED
    ) AS l
    UNION ALL
    SELECT i.*, l.row
    FROM pending i CROSS JOIN LATERAL (
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
                ORDER BY f.ordinal NULLS LAST, p.ordinal), '') || '}'
            FROM json_each((b.old).custom_fields) WITH ORDINALITY AS f (key, value, ordinal)
            FULL JOIN json_each(b.custom_fields) WITH ORDINALITY AS p (key, value, ordinal)
                USING (key)
            WHERE p.value IS NULL OR json_typeof(p.value) <> 'null'
        )::json END AS fields
    FROM before b
), compared AS MATERIALIZED (
    SELECT p.*, (p.new).email_key AS email_key,
        (p.old).status <> (p.new).status AND (p.new).status IN ('qualified', 'converted') AS enters_status,
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
        WHEN NOT (c.old).edit_version = ANY (c.expected) THEN 'stale'
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
        version = (d.old).version + 1 + d.enters_status::integer,
        edit_version = (d.old).version + 1 + d.enters_status::integer,
        email = (d.new).email, email_key = d.email_key, name = (d.new).name,
        company = (d.new).company, title = (d.new).title, phone = (d.new).phone,
        phone_e164 = CASE WHEN (d.new).phone IS NOT DISTINCT FROM (d.old).phone
            OR d.patch -> 'phone_e164' IS NOT NULL THEN (d.new).phone_e164 END,
        status = (d.new).status, source = (d.new).source, tags = (d.new).tags,
        custom_fields = d.fields, assigned_to = (d.new).assigned_to,
        last_active_at = d.at, updated_at = d.at
    FROM decided d
    WHERE l.tenant_id = d.tenant_id AND l.live = d.live AND l.id = d.id AND d.outcome = 'changed'
    RETURNING d.ordinal, l AS row
), rendered AS MATERIALIZED (
    SELECT d.ordinal, d.outcome, d.holder, coalesce(c.row, d.old) AS row,
        lead_json(coalesce(c.row, d.old)) AS body
    FROM decided d LEFT JOIN changed c ON c.ordinal = d.ordinal
), logged AS (
    INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
    SELECT lead_shard(d.id), d.tenant_id, d.live, d.id, e.version, e.id, e.type, d.actor, d.at,
        row_to_json(ROW(
            s.body, e.version, ('{' || d.changes || '}')::json, d.actor)::lead_change_event)
    FROM decided d JOIN rendered s ON s.ordinal = d.ordinal CROSS JOIN LATERAL (VALUES
        ((d.old).version + 1, d.event_id, 'lead.updated'),
        (CASE WHEN d.enters_status THEN (d.old).version + 2 END, d.status_event_id,
            'lead.' || (d.new).status)
    ) AS e (version, id, type)
    WHERE d.outcome = 'changed' AND e.version IS NOT NULL
    ORDER BY d.tenant_id, d.live, d.id, e.version
), stored AS (
    INSERT INTO idempotent_response (tenant_id, live, key, request, status, etag, body)
    SELECT i.tenant_id, i.live, i.key, i.request, 200, lead_write_etag(s.row), s.body::text
    FROM rendered s JOIN input i ON i.ordinal = s.ordinal
    WHERE i.key IS NOT NULL AND s.outcome IN ('changed', 'same')
    ORDER BY i.tenant_id, i.live, i.key
)
SELECT ordinal, outcome, holder, NULL::uuid AS request, 200::smallint AS status,
    lead_write_etag(row) AS etag, body::text AS body
FROM rendered
UNION ALL SELECT ordinal, 'replayed', NULL, request, status, etag, body FROM replayed
UNION ALL SELECT p.ordinal, 'locked', NULL, NULL, NULL, NULL, NULL FROM pending p
WHERE NOT $4 AND NOT EXISTS (SELECT FROM before b WHERE b.ordinal = p.ordinal) AND EXISTS (
    SELECT FROM lead l WHERE l.tenant_id = p.tenant_id AND l.live = p.live AND l.id = p.id);

-- name: lead_delete
-- $1 tenant, $2 mode, $3 id, $4 actor, $5 event id, $6 the edit versions of If-Match (null: any). The
-- event contains the last state of the lead. No row: the lead does not exist. gone false: the lead has
-- another edit version.
WITH before AS MATERIALIZED (
    SELECT l.edit_version FROM lead l
    WHERE l.tenant_id = $1 AND l.live = $2 AND l.id = $3 FOR UPDATE
), gone AS (
    DELETE FROM lead AS l USING before b
    WHERE l.tenant_id = $1 AND l.live = $2 AND l.id = $3
      AND ($6::bigint[] IS NULL OR b.edit_version = ANY ($6))
    RETURNING l AS row
), logged AS (
    INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
    SELECT lead_shard($3), $1, $2, $3, (g.row).version + 1, $5, 'lead.deleted', $4, now_ms(),
        row_to_json(ROW(lead_json(g.row), (g.row).version + 1, $4)::lead_event)
    FROM gone g
)
SELECT EXISTS (SELECT FROM gone) AS gone FROM before;
