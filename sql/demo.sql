-- name: demo_count_leads
-- $1 tenant, $2 mode, $3 ids of leads. The number of leads, of scored leads, and their scores.
SELECT count(*) AS leads, count(scored_at) AS scored, min(score) AS lowest,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY score) AS median, max(score) AS highest
FROM lead_score WHERE tenant_id = $1 AND live = $2 AND id = ANY ($3::text[]);

-- name: demo_list_events
-- $1 tenant, $2 mode, $3 ids of leads. Returns all their events by lead and version.
SELECT lead_id, version, event_id FROM outbox
WHERE tenant_id = $1 AND live = $2 AND lead_id = ANY ($3::text[])
ORDER BY lead_id, version;
