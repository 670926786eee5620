-- name: lead_search_find
-- Counts the hits of a question and returns one page of them. $1 tenant, $2 mode, $3 question, $4
-- status_source codes (null: all), $5 the most hits to read, $6 tier, $7 score and $8 id of the hit
-- before the page (null: from the first), $9 how many hits to skip, $10 limit, $11 the number of
-- prefix and substring hits below which typos are tried. found: the number of hits. If found is
-- above $5, the statement has not read all hits, and the page is incomplete. An empty page is one
-- row without id.
WITH question AS MATERIALIZED (
    SELECT search_question_parse($3) AS parsed
), prefix_hit AS MATERIALIZED (
    SELECT b.id, b.score, b.tier
    FROM question q CROSS JOIN search_find_prefix($1, $2, q.parsed, $4, NULL, $5::bigint + 1) AS b
), substring_hit AS MATERIALIZED (
    SELECT i.id, i.score, i.tier
    FROM question q CROSS JOIN (SELECT count(*) AS n FROM prefix_hit) AS had
    CROSS JOIN search_find_substring($1, $2, q.parsed, $4, $5 + 1 - had.n) AS i
    WHERE had.n <= $5
), typo_hit AS MATERIALIZED (
    SELECT t.id, t.score, t.tier, t.variants
    FROM question q CROSS JOIN (
        SELECT (SELECT count(*) FROM prefix_hit) + (SELECT count(*) FROM substring_hit) AS n) AS had
    CROSS JOIN search_find_typo($1, $2, q.parsed, $4, $5 + 1 - had.n) AS t
    WHERE had.n < $11
), hit AS NOT MATERIALIZED (
    SELECT id, score, tier FROM prefix_hit
    UNION ALL SELECT id, score, tier FROM substring_hit
    UNION ALL SELECT id, score, tier FROM typo_hit
), page AS MATERIALIZED (
    SELECT h.id, h.score, h.tier FROM hit h
    WHERE $6::smallint IS NULL OR h.tier > $6
       OR (h.tier = $6 AND (h.score, h.id) < ($7::smallint, $8::text))
    ORDER BY h.tier, h.score DESC, h.id DESC OFFSET $9 LIMIT (SELECT $10::bigint)
)
SELECT (SELECT count(*) FROM hit) AS found, p.id, p.score, p.tier, l.body
FROM (SELECT) AS one
LEFT JOIN page p ON true
LEFT JOIN LATERAL (
    SELECT lead_hit_json(l, search_match_field(
        s.text, s.keys, l.custom_fields, (SELECT parsed FROM question), (SELECT variants FROM typo_hit LIMIT 1)
        ))::text AS body
    FROM lead l JOIN lead_search s ON s.tenant_id = $1 AND s.live = $2 AND s.id = l.id
    WHERE l.tenant_id = $1 AND l.live = $2 AND l.id = p.id OFFSET 0
) AS l ON true
ORDER BY p.tier, p.score DESC, p.id DESC;

-- name: lead_search_find_in_tier
-- Like lead_search_find, for one tier. $1 tenant, $2 mode, $3 question, $4 status_source codes (null:
-- all), $5 the tier (0 to 2), $6 the most hits to read, $7 score and $8 id of the hit before the page,
-- $9 how many hits to skip, $10 limit.
WITH question AS MATERIALIZED (
    SELECT search_question_parse($3) AS parsed
), hit AS MATERIALIZED (
    SELECT b.id, b.score
    FROM question q CROSS JOIN search_find_prefix($1, $2, q.parsed, $4, $5, $6::bigint + 1) AS b
    WHERE $5::integer < 2
    UNION ALL
    SELECT i.id, i.score
    FROM question q CROSS JOIN search_find_substring($1, $2, q.parsed, $4, $6 + 1) AS i
    WHERE $5 = 2
), page AS MATERIALIZED (
    SELECT h.id, h.score FROM hit h WHERE (h.score, h.id) < ($7::smallint, $8::text)
    ORDER BY h.score DESC, h.id DESC OFFSET $9 LIMIT (SELECT $10::bigint)
)
SELECT (SELECT count(*) FROM hit) AS found, p.id, p.score, $5::integer::smallint AS tier, l.body
FROM (SELECT) AS one
LEFT JOIN page p ON true
LEFT JOIN LATERAL (
    SELECT lead_hit_json(l, search_match_field(
        s.text, s.keys, l.custom_fields, (SELECT parsed FROM question), NULL))::text AS body
    FROM lead l JOIN lead_search s ON s.tenant_id = $1 AND s.live = $2 AND s.id = l.id
    WHERE l.tenant_id = $1 AND l.live = $2 AND l.id = p.id OFFSET 0
) AS l ON true
ORDER BY p.score DESC, p.id DESC;

-- The next three parts say in which tier a lead matches at the latest, by its `text` and `keys` and the CTE
-- `question`. A question that looks like a phone number also matches by its digits, and by the phone.
-- part: search_matches_words
(text LIKE ALL ((SELECT (parsed).whole_patterns FROM question)::text[])
    OR text LIKE coalesce((SELECT '% ' || (parsed).digits || ' %' FROM question), '')
    OR keys LIKE ANY ((SELECT search_phone_patterns((parsed).digits, true) FROM question)::text[]))

-- part: search_matches_prefixes
(text LIKE ALL ((SELECT (parsed).prefix_patterns FROM question)::text[])
    OR text LIKE coalesce((SELECT '% ' || (parsed).digits || '%' FROM question), '')
    OR keys LIKE ANY ((SELECT search_phone_patterns((parsed).digits, false) FROM question)::text[]))

-- part: search_matches_substrings
(text LIKE ALL ((SELECT (parsed).substring_patterns FROM question)::text[])
    OR text LIKE coalesce((SELECT '% ' || (parsed).digits || '%' FROM question), '')
    OR keys LIKE ANY ((SELECT search_phone_patterns((parsed).digits, false) FROM question)::text[]))

-- name: lead_search_filtered_scan
-- Finds the hits of a tier by scanning leads in order of score and filtering them: fast if many leads
-- match. $1 tenant, $2 mode, $3 question, $4 status_source codes (null: all), $5 the tier (0 to 2), $6
-- how many leads to scan, $7 score and $8 id of the lead before the first, $9 how many hits to skip,
-- $10 limit.
WITH question AS MATERIALIZED (
    SELECT search_question_parse($3) AS parsed
)
SELECT w.id, w.score, $5::integer::smallint AS tier, l.body
FROM (
    SELECT r.id, r.score, s.text, s.keys FROM (
        SELECT id, score FROM lead_score
        WHERE tenant_id = $1 AND live = $2 AND (score, id) < ($7::smallint, $8::text)
        ORDER BY score DESC, id DESC LIMIT (SELECT $6::bigint)
    ) AS r CROSS JOIN LATERAL (
        SELECT text, keys FROM lead_search
        WHERE tenant_id = $1 AND live = $2 AND id = r.id AND ($4::smallint[] IS NULL OR status_source = ANY ($4))
        OFFSET 0
    ) AS s
    WHERE CASE $5::integer
        WHEN 0 THEN {search_matches_words}
        WHEN 1 THEN {search_matches_prefixes} AND NOT {search_matches_words}
        ELSE {search_matches_substrings} AND NOT {search_matches_prefixes} END
    ORDER BY r.score DESC, r.id DESC OFFSET $9 LIMIT (SELECT $10::bigint)
) AS w
CROSS JOIN LATERAL (
    SELECT lead_hit_json(l, search_match_field(
        w.text, w.keys, l.custom_fields, (SELECT parsed FROM question), NULL))::text AS body
    FROM lead l WHERE l.tenant_id = $1 AND l.live = $2 AND l.id = w.id OFFSET 0
) AS l
ORDER BY w.score DESC, w.id DESC;

-- name: lead_search_sample
-- Counts the hits among leads on random pages of the table. $1 tenant, $2 mode, $3 question, $4
-- status_source codes (null: all), $5 how many leads to sample, $6 how many leads the tenant has. Reads
-- at most 20,000 rows of all tenants together. A hit of a tier is also counted in the later tiers.
WITH question AS MATERIALIZED (
    SELECT search_question_parse($3) AS parsed
)
SELECT count(*) AS sampled,
    count(*) FILTER (WHERE has_status_source AND {search_matches_words}) AS whole_words,
    count(*) FILTER (WHERE has_status_source AND {search_matches_prefixes}) AS prefixes,
    count(*) FILTER (WHERE has_status_source AND {search_matches_substrings}) AS substrings
FROM (
    SELECT s.text, s.keys, ($4::smallint[] IS NULL OR s.status_source = ANY ($4)) AS has_status_source
    FROM lead_search s TABLESAMPLE SYSTEM (least(100, 100.0 * $5::integer / $6::bigint, (
        SELECT 2000000 / greatest(reltuples, 1) FROM pg_class WHERE oid = 'lead_search'::regclass)))
    WHERE s.tenant_id = $1 AND s.live = $2
) AS s;

-- name: lead_search_sample_runs
-- Like lead_search_sample, for a tenant with a small part of the table. Random pages (at most
-- 100,000 rows of all tenants) yield up to 200 start leads of the tenant. From each start lead on,
-- a run of the tenant's leads is read in order of ids, $5 leads in all. $1 tenant, $2 mode, $3
-- question, $4 status_source codes (null: all).
WITH question AS MATERIALIZED (
    SELECT search_question_parse($3) AS parsed
), start AS MATERIALIZED (
    SELECT id FROM lead_search TABLESAMPLE SYSTEM (least(100, (
        SELECT 10000000 / greatest(reltuples, 1) FROM pg_class WHERE oid = 'lead_search'::regclass)))
    WHERE tenant_id = $1 AND live = $2 ORDER BY random() LIMIT 200
)
SELECT count(*) AS sampled,
    count(*) FILTER (WHERE has_status_source AND {search_matches_words}) AS whole_words,
    count(*) FILTER (WHERE has_status_source AND {search_matches_prefixes}) AS prefixes,
    count(*) FILTER (WHERE has_status_source AND {search_matches_substrings}) AS substrings
FROM (
    SELECT r.text, r.keys, ($4::smallint[] IS NULL OR r.status_source = ANY ($4)) AS has_status_source
    FROM start CROSS JOIN LATERAL (
        SELECT text, keys, status_source FROM lead_search
        WHERE tenant_id = $1 AND live = $2 AND id >= start.id
        ORDER BY id LIMIT (SELECT $5::bigint / greatest(count(*), 1) FROM start)
    ) AS r
) AS s;

-- name: lead_count_get
-- $1 tenant, $2 mode: the number of leads.
SELECT coalesce(sum(n), 0)::bigint FROM lead_count WHERE tenant_id = $1 AND live = $2;
