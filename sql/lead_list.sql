-- Lists of leads. Every statement gives one row: total, the page's leads as JSON with commas between
-- (null: none), value and id of the last of them, and found: how many there are from the first on, up
-- to one more than the page holds. {column} is what the list is sorted by, {direction} ASC or DESC and
-- {backward} the other; {after} is > or < accordingly and {before} the other. Parameters of all:
-- :tenant, :live, :start and :start_id (the page begins behind them), :stop (it ends before), :skip,
-- :limit, and :most_rows, one more.

-- part: lead_list_walk
-- The page in the order of an index: it costs what it shows. {total}: how to count; {source}: which
-- index to follow.
WITH total AS MATERIALIZED (
    {total}
), page AS MATERIALIZED (
    SELECT w.value, w.id FROM ({source}) AS w
    ORDER BY w.value {direction}, w.id {direction} OFFSET :skip::bigint
    -- Past the end: at once.
    LIMIT CASE WHEN :skip::bigint < (SELECT n FROM total) THEN :most_rows::bigint ELSE 0 END
)
{lead_list_rows}

-- part: lead_list_walk_deep
-- The same for a page far from the beginning, from the end of the list if that is nearer, with
-- {source_turned}; further than :deepest from both there is none. Only one of the two is read.
WITH total AS MATERIALIZED (
    {total}
), way AS MATERIALIZED (
    SELECT CASE WHEN d.skipped <= least(d.rest, :deepest::bigint) THEN :most_rows::bigint ELSE 0 END
            AS ahead,
        CASE WHEN d.rest < d.skipped AND d.rest <= :deepest THEN greatest(d.rest, 0) ELSE 0 END
            AS back
    FROM (SELECT :skip::bigint AS skipped, n - :skip::bigint AS rest FROM total) AS d
), page AS MATERIALIZED (
    (SELECT w.value, w.id FROM ({source}) AS w
    ORDER BY w.value {direction}, w.id {direction} OFFSET :skip LIMIT (SELECT ahead FROM way))
    UNION ALL
    (SELECT w.value, w.id FROM ({source_turned}) AS w
    ORDER BY w.value {backward}, w.id {backward}
    OFFSET (SELECT greatest(back - :most_rows, 0) FROM way)
    LIMIT (SELECT least(back, :most_rows) FROM way))
)
{lead_list_rows}

-- part: lead_list_reach_ahead
SELECT :skip::bigint + :most_rows::bigint

-- part: lead_list_reach_back
SELECT back FROM way

-- part: lead_list_rows
-- OFFSET 0: one look-up for each row of the page, however many the planner thinks they are.
, shown AS MATERIALIZED (
    SELECT p.value, p.id FROM page p
    ORDER BY p.value {direction}, p.id {direction} LIMIT (SELECT :limit::bigint)
)
SELECT t.n AS total, (SELECT count(*) FROM page) AS found, e.value, e.id, b.body
FROM total t
CROSS JOIN (
    SELECT string_agg(l.body, ',') AS body FROM shown s CROSS JOIN LATERAL (
        SELECT lead_json(r)::text AS body FROM lead r
        WHERE r.tenant_id = :tenant AND r.live = :live AND r.id = s.id OFFSET 0
    ) AS l
) AS b
LEFT JOIN (
    SELECT s.value, s.id FROM shown s ORDER BY s.value {backward}, s.id {backward} LIMIT 1
) AS e ON true

-- part: lead_list_any
SELECT l.{column} AS value, l.id FROM lead l
WHERE l.tenant_id = :tenant AND l.live = :live
  AND (l.{column}, l.id) {after} (:start, :start_id) AND l.{column} {before} :stop

-- part: lead_list_one_kind
{lead_list_kind_head} lead_kind(:status, :source) {lead_list_kind_tail}

-- part: lead_list_one_status
-- Each source in its order, and then the best of all, which reads hardly more than the page.
({lead_list_kind_head} lead_kind(:status, 'chat') {lead_list_kind_tail})
UNION ALL ({lead_list_kind_head} lead_kind(:status, 'api') {lead_list_kind_tail})
UNION ALL ({lead_list_kind_head} lead_kind(:status, 'import') {lead_list_kind_tail})
UNION ALL ({lead_list_kind_head} lead_kind(:status, 'form') {lead_list_kind_tail})

-- part: lead_list_one_source
({lead_list_kind_head} lead_kind('new', :source) {lead_list_kind_tail})
UNION ALL ({lead_list_kind_head} lead_kind('qualified', :source) {lead_list_kind_tail})
UNION ALL ({lead_list_kind_head} lead_kind('contacted', :source) {lead_list_kind_tail})
UNION ALL ({lead_list_kind_head} lead_kind('converted', :source) {lead_list_kind_tail})
UNION ALL ({lead_list_kind_head} lead_kind('lost', :source) {lead_list_kind_tail})

-- part: lead_list_kind_head
SELECT l.{column} AS value, l.id FROM lead l
WHERE l.tenant_id = :tenant AND l.live = :live AND l.kind =

-- part: lead_list_kind_tail
AND (l.{column}, l.id) {after} (:start, :start_id) AND l.{column} {before} :stop
ORDER BY l.{column} {direction}, l.id {direction} LIMIT ({reach})

-- part: lead_list_total_kept
-- From the counters, whatever the size of the table.
SELECT coalesce(sum(c.n), 0)::bigint AS n FROM lead_count c
WHERE c.tenant_id = :tenant AND c.live = :live
  AND (:status::text IS NULL OR c.status = :status) AND (:source::text IS NULL OR c.source = :source)

-- part: lead_list_total_counted
-- What lies in the range of the sorting column.
SELECT count(*) AS n FROM lead l
WHERE l.tenant_id = :tenant AND l.live = :live
  AND l.{column} > :least AND l.{column} < :greatest {lead_list_and_kind}

-- part: lead_list_and_kind
AND l.kind = ANY (:kinds::smallint[])

-- part: lead_list_count
-- How many {finder} finds, up to :most.
SELECT count(*) AS n FROM (SELECT FROM {finder} LIMIT (SELECT :most::bigint)) AS f

-- part: lead_list_guess
-- What each finder would find, of leads on pages picked at random, at most 20,000 of all tenants.
SELECT
    count(*) FILTER (WHERE {lead_list_has_keys}) AS by_keys,
    count(*) FILTER (WHERE l.created_at > :created_after AND l.created_at < :created_before
        AND {lead_list_has_kind}) AS by_created_at,
    count(*) FILTER (WHERE l.updated_at > :updated_after AND l.updated_at < :updated_before
        AND {lead_list_has_kind}) AS by_updated_at,
    count(*) FILTER (WHERE l.score > :score_above AND l.score < :score_below
        AND {lead_list_has_kind}) AS by_score
FROM lead l TABLESAMPLE SYSTEM (least(100, (
    SELECT 2000000 / greatest(reltuples, 1) FROM pg_class WHERE oid = 'lead'::regclass)))
WHERE l.tenant_id = :tenant AND l.live = :live

-- part: lead_list_has_kind
(:kinds::smallint[] IS NULL OR l.kind = ANY (:kinds))

-- part: lead_list_has_keys
(:assigned_to::text IS NULL OR l.assigned_to = :assigned_to)
AND (:tag::text IS NULL OR :tag = ANY (l.tags))
AND (:fields::text[] = '{}' OR NOT EXISTS (
    SELECT FROM unnest(:fields, :field_values::text[]) AS f (field, value)
    WHERE l.custom_fields ->> f.field IS DISTINCT FROM f.value))

-- part: lead_list_gather
-- All that match, if they are few: found by {finder}, held against {filter}, then sorted. total is
-- one more than :most_found when there are more.
WITH found AS MATERIALIZED (
    SELECT l.{column} AS value, l.id FROM {finder} AND {filter} LIMIT :most_found::bigint + 1
), total AS (
    SELECT count(*) AS n FROM found
), page AS MATERIALIZED (
    SELECT f.value, f.id FROM found f WHERE (f.value, f.id) {after} (:start, :start_id)
    ORDER BY f.value {direction}, f.id {direction} OFFSET :skip LIMIT (SELECT :most_rows::bigint)
)
{lead_list_rows}

-- part: lead_list_browse
-- Where many match, the page is probably full long before :most_looked_at leads have been looked
-- at in order; counting still takes all that match.
WITH total AS MATERIALIZED (
    SELECT count(*) AS n FROM {finder} AND {filter}
), page AS MATERIALIZED (
    SELECT l.{column} AS value, l.id FROM (
        SELECT l.id, l.email_key, l.status, l.source, l.kind, l.tags, l.custom_fields,
            l.assigned_to, l.score, l.created_at, l.updated_at
        FROM lead l
        WHERE l.tenant_id = :tenant AND l.live = :live
          AND (l.{column}, l.id) {after} (:start, :start_id) AND l.{column} {before} :stop
        ORDER BY l.{column} {direction}, l.id {direction} LIMIT (SELECT :most_looked_at::bigint)
    ) AS l
    WHERE {lead_list_filter_all}
    ORDER BY l.{column} {direction}, l.id {direction} OFFSET :skip LIMIT (SELECT :most_rows::bigint)
)
{lead_list_rows}

-- part: lead_list_by_keys
-- By tags, assignee and custom fields, which the index of search knows too; its table has what most
-- lists filter and sort by beside.
lead_search l
WHERE l.tenant_id = :tenant AND l.live = :live
  AND search_tokens(l.tenant_id, l.live, l.text, l.keys)
    @@ search_filters(:tenant, :live, :tag, :assigned_to, :fields, :field_values)

-- part: lead_list_by_keys_and_row
-- The same where the lead itself must be looked at.
lead_search s JOIN lead l ON l.tenant_id = :tenant AND l.live = :live AND l.id = s.id
WHERE s.tenant_id = :tenant AND s.live = :live
  AND search_tokens(s.tenant_id, s.live, s.text, s.keys)
    @@ search_filters(:tenant, :live, :tag, :assigned_to, :fields, :field_values)

-- part: lead_list_by_email
lead l WHERE l.tenant_id = :tenant AND l.live = :live AND l.email_key = :email

-- part: lead_list_by_created_at
lead l WHERE l.tenant_id = :tenant AND l.live = :live
  AND l.created_at > :created_after AND l.created_at < :created_before {lead_list_and_kind}

-- part: lead_list_by_updated_at
lead l WHERE l.tenant_id = :tenant AND l.live = :live
  AND l.updated_at > :updated_after AND l.updated_at < :updated_before {lead_list_and_kind}

-- part: lead_list_by_score
lead l WHERE l.tenant_id = :tenant AND l.live = :live
  AND l.score > :score_above AND l.score < :score_below {lead_list_and_kind}

-- part: lead_list_filter_some
-- Where the keys have been asked for and lead_search has the rest.
(l.created_at > :created_after AND l.created_at < :created_before
    AND l.score > :score_above AND l.score < :score_below
    AND {lead_list_has_kind}) IS TRUE

-- part: lead_list_filter_none
-- Where the finder has asked for all there is to ask.
true

-- part: lead_list_filter_all
-- Every filter there is, those not asked for with values that all leads pass. IS TRUE keeps them
-- from choosing an index: that is the finder's part, and a plan that suits all values is kept.
(l.created_at > :created_after AND l.created_at < :created_before
    AND l.updated_at > :updated_after AND l.updated_at < :updated_before
    AND l.score > :score_above AND l.score < :score_below
    AND {lead_list_has_kind}
    AND (:email::text IS NULL OR l.email_key = :email)
    AND {lead_list_has_keys}) IS TRUE
