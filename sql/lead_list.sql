-- name: lead_list
-- One page of leads. $1 tenant, $2 mode, $3–$14 filters (null: none): status, source, created
-- after, created before, updated after, updated before, tag, assignee, e-mail key, least score,
-- most score, custom fields as a JSON object of texts. $15 limit, $16 offset, $17 and $18 sort
-- value and id to go on after (null: from the start). service/lead_lists.py puts in SORT, SHOWN,
-- DIRECTION and BEYOND; each of the six statements walks the index of its sort.
SELECT lead_json(l)::text AS body, SHOWN AS sort_value, l.id
FROM lead l
WHERE l.tenant_id = $1 AND l.live = $2
  AND ($3::text IS NULL OR l.status = $3) AND ($4::text IS NULL OR l.source = $4)
  AND ($5::timestamptz IS NULL OR l.created_at > $5)
  AND ($6::timestamptz IS NULL OR l.created_at < $6)
  AND ($7::timestamptz IS NULL OR l.updated_at > $7)
  AND ($8::timestamptz IS NULL OR l.updated_at < $8)
  AND ($9::text IS NULL OR l.tags @> ARRAY[$9])
  AND ($10::text IS NULL OR l.assigned_to = $10)
  AND ($11::text IS NULL OR l.email_key = $11)
  AND ($12::smallint IS NULL OR l.score >= $12) AND ($13::smallint IS NULL OR l.score <= $13)
  AND ($14::json IS NULL OR NOT EXISTS (
      SELECT FROM json_each_text($14) AS w WHERE (l.custom_fields ->> w.key) IS DISTINCT FROM w.value))
  AND ($18::text IS NULL OR (l.SORT, l.id) BEYOND ($17, $18))
ORDER BY l.SORT DIRECTION, l.id DIRECTION
LIMIT $15 OFFSET $16;

-- name: lead_count
-- How many leads the filters of lead_list match; the same parameters $1–$14.
SELECT count(*) FROM lead l
WHERE l.tenant_id = $1 AND l.live = $2
  AND ($3::text IS NULL OR l.status = $3) AND ($4::text IS NULL OR l.source = $4)
  AND ($5::timestamptz IS NULL OR l.created_at > $5)
  AND ($6::timestamptz IS NULL OR l.created_at < $6)
  AND ($7::timestamptz IS NULL OR l.updated_at > $7)
  AND ($8::timestamptz IS NULL OR l.updated_at < $8)
  AND ($9::text IS NULL OR l.tags @> ARRAY[$9])
  AND ($10::text IS NULL OR l.assigned_to = $10)
  AND ($11::text IS NULL OR l.email_key = $11)
  AND ($12::smallint IS NULL OR l.score >= $12) AND ($13::smallint IS NULL OR l.score <= $13)
  AND ($14::json IS NULL OR NOT EXISTS (
      SELECT FROM json_each_text($14) AS w WHERE (l.custom_fields ->> w.key) IS DISTINCT FROM w.value));
