-- Lists of leads, composed from parts (sql/compose.py). Every statement returns one row:
--   total      how many leads the list has,
--   found      how many leads the page has; one more than :limit if another page follows,
--   body       the leads of the page as JSON, separated by commas (null: none),
--   value, id  of the last lead of the page, for the cursor.
-- Three access methods read a page:
--   ordered_scan    reads an index that has the order of the list, and stops after the page;
--   sorted_matches  finds all matches by the index of a filter and sorts them;
--   filtered_scan   reads the index that has the order, and filters the leads while scanning.
-- Words:
--   {column}                 the column that the list is sorted by,
--   {table}                  the table whose indexes have this order: lead_score for scores, else lead,
--   {direction}, {backward}  ASC or DESC, and the opposite,
--   {after}, {before}        > or <, and the opposite,
--   {access_path}            the table and index that find the matches, for their total {counted_path},
--   {filter}                 the conditions that are checked on each match,
--   {leads_in_order}         the leads that a filtered scan reads, and {scan_filter}, the conditions
--                            that are checked on each of them.
-- Parameters of all: :tenant, :live, :start and :start_id (the page begins after them), :stop (the list
-- ends before it), :skip, :limit, and :most_rows, which is :limit + 1.

-- part: lead_list_ordered_scan
-- Reads the page in the order of an index; the cost is that of the skipped leads and the page. {total}:
-- how to count; {source}: which index, or which branches of an index.
WITH total AS MATERIALIZED (
    {total}
), page AS MATERIALIZED (
    SELECT w.value, w.id FROM ({source}) AS w
    ORDER BY w.value {direction}, w.id {direction} OFFSET :skip::bigint
    -- A page past the end reads nothing.
    LIMIT CASE WHEN :skip::bigint < (SELECT n FROM total) THEN :most_rows::bigint ELSE 0 END
)
{lead_list_rows}

-- part: lead_list_ordered_scan_deep
-- Like lead_list_ordered_scan, for a page far from the start: it is read from the nearer end, from the
-- last lead by {source_reversed}. A page that is more than :most_skipped leads away from both ends is
-- empty. Only one of the two branches is read.
WITH total AS MATERIALIZED (
    {total}
), nearer_end AS MATERIALIZED (
    SELECT CASE WHEN d.skipped <= least(d.rest, :most_skipped::bigint) THEN :most_rows::bigint ELSE 0 END
            AS forward,
        CASE WHEN d.rest < d.skipped AND d.rest <= :most_skipped THEN greatest(d.rest, 0) ELSE 0 END
            AS backward
    FROM (SELECT :skip::bigint AS skipped, n - :skip::bigint AS rest FROM total) AS d
), page AS MATERIALIZED (
    (SELECT w.value, w.id FROM ({source}) AS w
    ORDER BY w.value {direction}, w.id {direction} OFFSET :skip LIMIT (SELECT forward FROM nearer_end))
    UNION ALL
    (SELECT w.value, w.id FROM ({source_reversed}) AS w
    ORDER BY w.value {backward}, w.id {backward}
    OFFSET (SELECT greatest(backward - :most_rows, 0) FROM nearer_end)
    LIMIT (SELECT least(backward, :most_rows) FROM nearer_end))
)
{lead_list_rows}

-- part: lead_list_branch_limit_forward
SELECT :skip::bigint + :most_rows::bigint

-- part: lead_list_branch_limit_backward
SELECT backward FROM nearer_end

-- part: lead_list_rows
-- OFFSET 0 makes PostgreSQL look up one lead per row, however many rows it expects.
, listed AS MATERIALIZED (
    SELECT p.value, p.id FROM page p
    ORDER BY p.value {direction}, p.id {direction} LIMIT (SELECT :limit::bigint)
)
SELECT t.n AS total, (SELECT count(*) FROM page) AS found, e.value, e.id, b.body
FROM total t
CROSS JOIN (
    SELECT string_agg(l.body, ',') AS body FROM listed s CROSS JOIN LATERAL (
        SELECT lead_json(r)::text AS body FROM lead r
        WHERE r.tenant_id = :tenant AND r.live = :live AND r.id = s.id OFFSET 0
    ) AS l
) AS b
LEFT JOIN (
    SELECT s.value, s.id FROM listed s ORDER BY s.value {backward}, s.id {backward} LIMIT 1
) AS e ON true

-- part: lead_list_source_all
SELECT l.{column} AS value, l.id FROM {table} l
WHERE l.tenant_id = :tenant AND l.live = :live
  AND (l.{column}, l.id) {after} (:start, :start_id) AND l.{column} {before} :stop

-- part: lead_list_source_one_status_and_source
{lead_list_branch_head} lead_status_source(:status, :source) {lead_list_branch_tail}

-- part: lead_list_source_one_status
-- One branch per source, each in order; merging them reads hardly more than the page.
({lead_list_branch_head} lead_status_source(:status, 'chat') {lead_list_branch_tail})
UNION ALL ({lead_list_branch_head} lead_status_source(:status, 'api') {lead_list_branch_tail})
UNION ALL ({lead_list_branch_head} lead_status_source(:status, 'import') {lead_list_branch_tail})
UNION ALL ({lead_list_branch_head} lead_status_source(:status, 'form') {lead_list_branch_tail})

-- part: lead_list_source_one_source
({lead_list_branch_head} lead_status_source('new', :source) {lead_list_branch_tail})
UNION ALL ({lead_list_branch_head} lead_status_source('qualified', :source) {lead_list_branch_tail})
UNION ALL ({lead_list_branch_head} lead_status_source('contacted', :source) {lead_list_branch_tail})
UNION ALL ({lead_list_branch_head} lead_status_source('converted', :source) {lead_list_branch_tail})
UNION ALL ({lead_list_branch_head} lead_status_source('lost', :source) {lead_list_branch_tail})

-- part: lead_list_branch_head
SELECT l.{column} AS value, l.id FROM {table} l
WHERE l.tenant_id = :tenant AND l.live = :live AND l.status_source =

-- part: lead_list_branch_tail
AND (l.{column}, l.id) {after} (:start, :start_id) AND l.{column} {before} :stop
ORDER BY l.{column} {direction}, l.id {direction} LIMIT ({branch_limit})

-- part: lead_list_total_from_counters
-- The total from the counters: it costs the same for every size of the table.
SELECT coalesce(sum(c.n), 0)::bigint AS n FROM lead_count c
WHERE c.tenant_id = :tenant AND c.live = :live
  AND (:status::text IS NULL OR c.status = :status) AND (:source::text IS NULL OR c.source = :source)

-- part: lead_list_total_counted
-- The total of a range of the sort column, counted in its index.
SELECT count(*) AS n FROM {table} l
WHERE l.tenant_id = :tenant AND l.live = :live
  AND l.{column} > :least AND l.{column} < :greatest {lead_list_and_status_source}

-- part: lead_list_and_status_source
AND l.status_source = ANY (:status_sources::smallint[])

-- part: lead_list_count
-- How many leads {access_path} finds, counted up to :most.
SELECT count(*) AS n FROM (SELECT FROM {access_path} LIMIT (SELECT :most::bigint)) AS f

-- part: lead_list_estimate
-- How many leads each access path would find, among leads on random pages: at most 20,000 of all
-- tenants.
SELECT
    count(*) FILTER (WHERE {lead_list_has_keys}) AS by_keys,
    count(*) FILTER (WHERE l.created_at > :created_after AND l.created_at < :created_before
        AND {lead_list_has_status_source}) AS by_created_at,
    count(*) FILTER (WHERE l.updated_at > :updated_after AND l.updated_at < :updated_before
        AND {lead_list_has_status_source}) AS by_updated_at,
    count(*) FILTER (WHERE l.score > :score_above AND l.score < :score_below
        AND {lead_list_has_status_source}) AS by_score
FROM lead l TABLESAMPLE SYSTEM (least(100, (
    SELECT 2000000 / greatest(reltuples, 1) FROM pg_class WHERE oid = 'lead'::regclass)))
WHERE l.tenant_id = :tenant AND l.live = :live

-- part: lead_list_has_status_source
(:status_sources::smallint[] IS NULL OR l.status_source = ANY (:status_sources))

-- part: lead_list_has_keys
(:assigned_to::text IS NULL OR l.assigned_to = :assigned_to)
AND (:tag::text IS NULL OR :tag = ANY (l.tags))
AND (:fields::text[] = '{}' OR NOT EXISTS (
    SELECT FROM unnest(:fields, :field_values::text[]) AS f (field, value)
    WHERE l.custom_fields ->> f.field IS DISTINCT FROM f.value))

-- part: lead_list_sorted_matches
-- All matches, if they are few: found by {access_path}, checked by {filter}, then sorted. If there are
-- more than :most_sorted, total is :most_sorted + 1.
WITH found AS MATERIALIZED (
    SELECT l.{column} AS value, l.id FROM {access_path} AND {filter} LIMIT :most_sorted::bigint + 1
), total AS (
    SELECT count(*) AS n FROM found
), page AS MATERIALIZED (
    SELECT f.value, f.id FROM found f WHERE (f.value, f.id) {after} (:start, :start_id)
    ORDER BY f.value {direction}, f.id {direction} OFFSET :skip LIMIT (SELECT :most_rows::bigint)
)
{lead_list_rows}

-- part: lead_list_filtered_scan
-- If many leads match, the page is probably full long before :most_scanned leads are read in order.
-- The cost of the total still grows with the number of matches.
WITH total AS MATERIALIZED (
    SELECT count(*) AS n FROM {counted_path} AND {filter}
), page AS MATERIALIZED (
    SELECT l.{column} AS value, l.id FROM ({leads_in_order}) AS l
    WHERE {scan_filter}
    ORDER BY l.{column} {direction}, l.id {direction} OFFSET :skip LIMIT (SELECT :most_rows::bigint)
)
{lead_list_rows}

-- part: lead_list_leads_in_order
SELECT l.id, l.score, {lead_list_filtered_columns} FROM lead l
WHERE l.tenant_id = :tenant AND l.live = :live
  AND (l.{column}, l.id) {after} (:start, :start_id) AND l.{column} {before} :stop
ORDER BY l.{column} {direction}, l.id {direction} LIMIT (SELECT :most_scanned::bigint)

-- part: lead_list_scores_in_order
-- The columns of lead_score suffice for filters by status, source, score and time of creation.
SELECT l.id, l.score, l.status_source, l.created_at FROM lead_score l
WHERE l.tenant_id = :tenant AND l.live = :live
  AND (l.score, l.id) {after} (:start, :start_id) AND l.score {before} :stop
ORDER BY l.score {direction}, l.id {direction} LIMIT (SELECT :most_scanned::bigint)

-- part: lead_list_leads_in_order_of_score
SELECT s.id, s.score, l.* FROM ({lead_list_scores_in_order}) AS s CROSS JOIN LATERAL ({lead_list_lead}) AS l

-- part: lead_list_lead
-- The lead of a row s. OFFSET 0: see lead_list_rows.
SELECT {lead_list_filtered_columns} FROM lead l
WHERE l.tenant_id = :tenant AND l.live = :live AND l.id = s.id OFFSET 0

-- part: lead_list_filtered_columns
l.email_key, l.status, l.source, l.status_source, l.tags, l.custom_fields, l.assigned_to, l.created_at,
l.updated_at

-- part: lead_list_by_keys
-- Finds leads by tags, assignee and custom fields, which the search index contains too. lead_search
-- also has the columns that most lists filter and sort by.
lead_search l
WHERE l.tenant_id = :tenant AND l.live = :live
  AND search_tokens(l.tenant_id, l.live, l.text, l.keys)
    @@ search_filters(:tenant, :live, :tag, :assigned_to, :fields, :field_values)

-- part: lead_list_by_keys_and_row
-- Like lead_list_by_keys, for lists that need columns of the lead itself.
lead_search s JOIN lead l ON l.tenant_id = :tenant AND l.live = :live AND l.id = s.id
WHERE s.tenant_id = :tenant AND s.live = :live
  AND search_tokens(s.tenant_id, s.live, s.text, s.keys)
    @@ search_filters(:tenant, :live, :tag, :assigned_to, :fields, :field_values)

-- part: lead_list_by_email
lead l WHERE l.tenant_id = :tenant AND l.live = :live AND l.email_key = :email

-- part: lead_list_by_created_at
lead l WHERE l.tenant_id = :tenant AND l.live = :live
  AND l.created_at > :created_after AND l.created_at < :created_before {lead_list_and_status_source}

-- part: lead_list_by_updated_at
lead l WHERE l.tenant_id = :tenant AND l.live = :live
  AND l.updated_at > :updated_after AND l.updated_at < :updated_before {lead_list_and_status_source}

-- part: lead_list_by_score
-- lead_score also has the columns that most lists filter and sort by.
lead_score l WHERE l.tenant_id = :tenant AND l.live = :live
  AND l.score > :score_above AND l.score < :score_below {lead_list_and_status_source}

-- part: lead_list_by_score_and_row
-- Like lead_list_by_score, for lists that need other columns.
(SELECT l.id, l.score FROM {lead_list_by_score}) AS s
CROSS JOIN LATERAL (SELECT s.id, s.score, r.* FROM ({lead_list_lead}) AS r) AS l WHERE true

-- part: lead_list_filter_some
-- The access path has checked the keys, if there are any. These columns are in lead_search and lead_score.
(l.created_at > :created_after AND l.created_at < :created_before
    AND l.score > :score_above AND l.score < :score_below
    AND {lead_list_has_status_source}) IS TRUE

-- part: lead_list_filter_none
-- The access path has checked every filter.
true

-- part: lead_list_filter_all
-- Every filter that exists. Filters that are not requested get values that every lead passes. IS TRUE
-- keeps PostgreSQL from using an index for these filters. The access path uses an index, so one cached
-- plan suits all values.
(l.created_at > :created_after AND l.created_at < :created_before
    AND l.updated_at > :updated_after AND l.updated_at < :updated_before
    AND l.score > :score_above AND l.score < :score_below
    AND {lead_list_has_status_source}
    AND (:email::text IS NULL OR l.email_key = :email)
    AND {lead_list_has_keys}) IS TRUE
