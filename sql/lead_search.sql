-- name: lead_search_find
-- $1 tenant, $2 mode, $3 the question, $4 kinds (null: all), $5 how many hits to look at; $6 tier,
-- $7 score and $8 id of the hit after which to go on (null: from the first), $9 how many to skip,
-- $10 limit, $11 typos are tried where all else finds fewer. found: how many hits there are; above
-- $5 there are more, and the page is not to be trusted. One row without id: none on this page.
WITH question AS MATERIALIZED (
    SELECT search_ask($3) AS ask
), beginning AS MATERIALIZED (
    SELECT b.id, b.score, b.tier
    FROM question q CROSS JOIN search_beginnings($1, $2, q.ask, $4, NULL, $5::bigint + 1) AS b
), inside AS MATERIALIZED (
    SELECT i.id, i.score, i.tier
    FROM question q CROSS JOIN (SELECT count(*) AS n FROM beginning) AS had
    CROSS JOIN search_insides($1, $2, q.ask, $4, $5 + 1 - had.n) AS i
    WHERE had.n <= $5
), typo AS MATERIALIZED (
    SELECT t.id, t.score, t.tier, t.others
    FROM question q CROSS JOIN (
        SELECT (SELECT count(*) FROM beginning) + (SELECT count(*) FROM inside) AS n) AS had
    CROSS JOIN search_typos($1, $2, q.ask, $4, $5 + 1 - had.n) AS t
    WHERE had.n < $11
), hit AS NOT MATERIALIZED (
    SELECT id, score, tier FROM beginning
    UNION ALL SELECT id, score, tier FROM inside
    UNION ALL SELECT id, score, tier FROM typo
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
    SELECT lead_hit_json(l, search_field(
        s.text, l.custom_fields, (SELECT ask FROM question), (SELECT others FROM typo LIMIT 1)
        ))::text AS body
    FROM lead l JOIN lead_search s ON s.tenant_id = $1 AND s.live = $2 AND s.id = l.id
    WHERE l.tenant_id = $1 AND l.live = $2 AND l.id = p.id OFFSET 0
) AS l ON true
ORDER BY p.tier, p.score DESC, p.id DESC;

-- name: lead_search_find_in_tier
-- $1 tenant, $2 mode, $3 the question, $4 kinds (null: all), $5 the tier, 0 to 2, $6 how many hits
-- to look at, $7 score and $8 id of the hit after which to go on, $9 how many to skip, $10 limit.
-- Otherwise like lead_search_find.
WITH question AS MATERIALIZED (
    SELECT search_ask($3) AS ask
), hit AS MATERIALIZED (
    SELECT b.id, b.score
    FROM question q CROSS JOIN search_beginnings($1, $2, q.ask, $4, $5, $6::bigint + 1) AS b
    WHERE $5::integer < 2
    UNION ALL
    SELECT i.id, i.score
    FROM question q CROSS JOIN search_insides($1, $2, q.ask, $4, $6 + 1) AS i
    WHERE $5 = 2
), page AS MATERIALIZED (
    SELECT h.id, h.score FROM hit h WHERE (h.score, h.id) < ($7::smallint, $8::text)
    ORDER BY h.score DESC, h.id DESC OFFSET $9 LIMIT (SELECT $10::bigint)
)
SELECT (SELECT count(*) FROM hit) AS found, p.id, p.score, $5::integer::smallint AS tier, l.body
FROM (SELECT) AS one
LEFT JOIN page p ON true
LEFT JOIN LATERAL (
    SELECT lead_hit_json(l, search_field(
        s.text, l.custom_fields, (SELECT ask FROM question), NULL))::text AS body
    FROM lead l JOIN lead_search s ON s.tenant_id = $1 AND s.live = $2 AND s.id = l.id
    WHERE l.tenant_id = $1 AND l.live = $2 AND l.id = p.id OFFSET 0
) AS l ON true
ORDER BY p.score DESC, p.id DESC;

-- name: lead_search_browse
-- $1 tenant, $2 mode, $3 the question, $4 kinds (null: all), $5 the tier, 0 to 2, $6 how many leads
-- to look at, $7 score and $8 id of the lead after which to begin, $9 how many hits to skip, $10
-- limit. Looks at one lead after the other, best score first: where many match, that is soon done.
WITH question AS MATERIALIZED (
    SELECT search_ask($3) AS ask
)
SELECT w.id, w.score, $5::integer::smallint AS tier, l.body
FROM (
    SELECT r.id, r.score, s.text FROM (
        SELECT id, score FROM lead
        WHERE tenant_id = $1 AND live = $2 AND (score, id) < ($7::smallint, $8::text)
        ORDER BY score DESC, id DESC LIMIT (SELECT $6::bigint)
    ) AS r CROSS JOIN LATERAL (
        SELECT text FROM lead_search
        WHERE tenant_id = $1 AND live = $2 AND id = r.id AND ($4::smallint[] IS NULL OR kind = ANY ($4))
        OFFSET 0
    ) AS s
    WHERE CASE $5::integer
        WHEN 0 THEN s.text LIKE ALL ((SELECT (ask).wholes FROM question)::text[])
        WHEN 1 THEN s.text LIKE ALL ((SELECT (ask).beginnings FROM question)::text[])
            AND NOT s.text LIKE ALL ((SELECT (ask).wholes FROM question)::text[])
        ELSE s.text LIKE ALL ((SELECT (ask).insides FROM question)::text[])
            AND NOT s.text LIKE ALL ((SELECT (ask).beginnings FROM question)::text[]) END
    ORDER BY r.score DESC, r.id DESC OFFSET $9 LIMIT (SELECT $10::bigint)
) AS w
CROSS JOIN LATERAL (
    SELECT lead_hit_json(l, search_field(
        w.text, l.custom_fields, (SELECT ask FROM question), NULL))::text AS body
    FROM lead l WHERE l.tenant_id = $1 AND l.live = $2 AND l.id = w.id OFFSET 0
) AS l
ORDER BY w.score DESC, w.id DESC;

-- name: lead_search_sample
-- $1 tenant, $2 mode, $3 the question, $4 kinds (null: all), $5 how many leads to look at, $6 how
-- many the tenant has. Looks at whole pages of the table, picked at random, but never at more than
-- 20,000 rows of all tenants together.
WITH question AS MATERIALIZED (
    SELECT search_ask($3) AS ask
)
SELECT count(*) AS looked_at,
    count(*) FILTER (WHERE of_kind
        AND text LIKE ALL ((SELECT (ask).wholes FROM question)::text[])) AS wholes,
    count(*) FILTER (WHERE of_kind
        AND text LIKE ALL ((SELECT (ask).beginnings FROM question)::text[])) AS beginnings,
    count(*) FILTER (WHERE of_kind
        AND text LIKE ALL ((SELECT (ask).insides FROM question)::text[])) AS insides
FROM (
    SELECT s.text, ($4::smallint[] IS NULL OR s.kind = ANY ($4)) AS of_kind
    FROM lead_search s TABLESAMPLE SYSTEM (least(100, 100.0 * $5::integer / $6::bigint, (
        SELECT 2000000 / greatest(reltuples, 1) FROM pg_class WHERE oid = 'lead_search'::regclass)))
    WHERE s.tenant_id = $1 AND s.live = $2
) AS s;

-- name: lead_search_sample_runs
-- $1 tenant, $2 mode, $3 the question, $4 kinds (null: all), $5 how many leads to look at. For a tenant
-- with a small part of the table: what it has on pages picked at random says where its leads are, and
-- from each of those it goes on in the order of ids, as far as makes $5 together. Picks at most 100,000
-- rows of all tenants.
WITH question AS MATERIALIZED (
    SELECT search_ask($3) AS ask
), start AS MATERIALIZED (
    SELECT id FROM lead_search TABLESAMPLE SYSTEM (least(100, (
        SELECT 10000000 / greatest(reltuples, 1) FROM pg_class WHERE oid = 'lead_search'::regclass)))
    WHERE tenant_id = $1 AND live = $2 ORDER BY random() LIMIT 200
)
SELECT count(*) AS looked_at,
    count(*) FILTER (WHERE of_kind
        AND text LIKE ALL ((SELECT (ask).wholes FROM question)::text[])) AS wholes,
    count(*) FILTER (WHERE of_kind
        AND text LIKE ALL ((SELECT (ask).beginnings FROM question)::text[])) AS beginnings,
    count(*) FILTER (WHERE of_kind
        AND text LIKE ALL ((SELECT (ask).insides FROM question)::text[])) AS insides
FROM (
    SELECT r.text, ($4::smallint[] IS NULL OR r.kind = ANY ($4)) AS of_kind
    FROM start CROSS JOIN LATERAL (
        SELECT text, kind FROM lead_search
        WHERE tenant_id = $1 AND live = $2 AND id >= start.id
        ORDER BY id LIMIT (SELECT $5::bigint / greatest(count(*), 1) FROM start)
    ) AS r
) AS s;

-- name: lead_count_get
-- $1 tenant, $2 mode: how many leads there are.
SELECT coalesce(sum(n), 0)::bigint FROM lead_count WHERE tenant_id = $1 AND live = $2;
