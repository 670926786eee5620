-- name: timeline_write_many
-- $1 to $5 the move of the cursor: see reader_move. Adds entries: $6 tenants, $7 modes, $8 leads, $9
-- versions, $10 event ids, $11 types, $12 times as ISO 8601, $13 summaries, $14 actors. Deletes the
-- timelines of leads: $15 tenants, $16 modes, $17 ids. Existing entries stay as they are, so a window may
-- be read again. No row: another process has moved the cursor, and nothing is changed.
WITH moved AS MATERIALIZED (
    {reader_move}
), added AS (
    INSERT INTO timeline (tenant_id, live, lead_id, version, event_id, type, at, summary, actor)
    SELECT e.tenant_id, e.live, e.lead_id, e.version, e.event_id, e.type, e.at::timestamptz,
        e.summary, e.actor
    FROM unnest($6::bigint[], $7::boolean[], $8::text[], $9::bigint[], $10::text[], $11::text[],
        $12::text[], $13::text[], $14::text[])
        AS e (tenant_id, live, lead_id, version, event_id, type, at, summary, actor)
    WHERE EXISTS (SELECT FROM moved)
    ORDER BY e.tenant_id, e.live, e.lead_id, e.version
    ON CONFLICT (tenant_id, live, lead_id, version) DO NOTHING
), deleted AS (
    DELETE FROM timeline AS t
    USING unnest($15::bigint[], $16::boolean[], $17::text[]) AS w (tenant_id, live, lead_id)
    WHERE t.tenant_id = w.tenant_id AND t.live = w.live AND t.lead_id = w.lead_id
      AND EXISTS (SELECT FROM moved)
)
SELECT name FROM moved;
