-- name: timeline_insert_many
-- $1 tenants, $2 modes, $3 leads, $4 versions, $5 event ids, $6 types, $7 times as ISO 8601,
-- $8 summaries, $9 actors. What is filed already stays as it is: reading a window again is harmless.
INSERT INTO timeline (tenant_id, live, lead_id, version, event_id, type, at, summary, actor)
SELECT e.tenant_id, e.live, e.lead_id, e.version, e.event_id, e.type, e.at::timestamptz,
    e.summary, e.actor
FROM unnest($1::bigint[], $2::boolean[], $3::text[], $4::bigint[], $5::text[], $6::text[],
    $7::text[], $8::text[], $9::text[])
    AS e (tenant_id, live, lead_id, version, event_id, type, at, summary, actor)
ORDER BY e.tenant_id, e.live, e.lead_id, e.version
ON CONFLICT (tenant_id, live, lead_id, version) DO NOTHING;

-- name: timeline_delete_many
-- $1 tenants, $2 modes, $3 leads that are gone, and whose timelines go with them.
DELETE FROM timeline AS t
USING unnest($1::bigint[], $2::boolean[], $3::text[]) AS w (tenant_id, live, lead_id)
WHERE t.tenant_id = w.tenant_id AND t.live = w.live AND t.lead_id = w.lead_id;
