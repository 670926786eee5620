-- name: lead_search
-- $1 tenant, $2 mode, $3 folded terms, $4 the LIKE pattern of the longest (null: look for typos),
-- $5 the longest term, $6 status (null: any), $7 limit, $8 offset, $9 tier, $10 score and $11 id to
-- go on after (null: from the start). Tiers: 1 whole words, 2 beginnings, 3 insides, 4 typos; a
-- lead's tier is that of its worst term. Terms hold letters and digits only, so LIKE is safe.
WITH candidate AS (
    SELECT s.id, s.words FROM lead_search s
    WHERE s.tenant_id = $1 AND s.live = $2
      AND s.tenant_id * 2 + s.live::integer = $1 * 2 + $2::integer AND s.words LIKE $4
    UNION ALL
    SELECT s.id, s.words FROM lead_search s
    WHERE $4::text IS NULL AND s.tenant_id = $1 AND s.live = $2
      AND s.tenant_id * 2 + s.live::integer = $1 * 2 + $2::integer AND $5 <% s.words
), ranked AS MATERIALIZED (
    SELECT c.id, m.tier, m.place FROM candidate c CROSS JOIN LATERAL (
        SELECT max(t.tier) AS tier, (array_agg(t.place ORDER BY t.tier, t.place))[1] AS place,
            count(*) AS terms
        FROM unnest($3::text[]) AS term CROSS JOIN LATERAL (
            SELECT f.place, CASE
                WHEN f.line LIKE '% ' || term || ' %' THEN 1
                WHEN f.line LIKE '% ' || term || '%' THEN 2
                WHEN length(term) > 2 AND f.line LIKE '%' || term || '%' THEN 3
                WHEN $4::text IS NULL AND term <% f.line THEN 4
            END AS tier
            FROM string_to_table(c.words, E'\n') WITH ORDINALITY AS f (line, place)
            ORDER BY tier NULLS LAST, f.place LIMIT 1
        ) AS t WHERE t.tier IS NOT NULL
    ) AS m WHERE m.terms = cardinality($3::text[])
), hit AS (
    SELECT r.tier, r.place, l.id, l.email, l.name, l.company, l.status, l.score, l.custom_fields,
        l.last_active_at
    FROM ranked r JOIN lead l ON l.tenant_id = $1 AND l.live = $2 AND l.id = r.id
    WHERE $6::text IS NULL OR l.status = $6
), counted AS (
    SELECT count(*) AS total FROM hit
), page AS (
    SELECT h.* FROM hit h
    WHERE $11::text IS NULL OR (h.tier, -h.score, h.id) > ($9::integer, -$10::integer, $11)
    ORDER BY h.tier, h.score DESC, h.id LIMIT $7 OFFSET $8
)
SELECT c.total, p.tier, p.score, p.id, row_to_json(ROW(
    p.id, p.email, p.name, p.company, p.status, p.score,
    CASE p.place WHEN 1 THEN 'name' WHEN 2 THEN 'company' WHEN 3 THEN 'email' ELSE (
        SELECT 'customFields.' || k.key FROM json_each(p.custom_fields) WITH ORDINALITY AS k (key, value, place)
        WHERE k.place = p.place - 3) END,
    iso_ms(p.last_active_at))::lead_hit_on_wire)::text AS body
FROM counted c LEFT JOIN page p ON true
ORDER BY p.tier, p.score DESC, p.id;

-- name: search_fold
-- $1 what was asked for, as the words of leads are kept.
SELECT search_fold($1);
