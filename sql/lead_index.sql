-- name: lead_search_settle
-- Sorts in what writers left at the door of search's indexes; how many pages that was.
SELECT lead_search_settle();

-- name: lead_word_sweep_take
-- $1 seconds between two turns. Where the sweep goes on; no row: it is not yet time. All tenants':
-- what is done there names its tenant and mode.
UPDATE lead_word_sweep SET at = now() WHERE at < now() - make_interval(secs => $1)
RETURNING tenant_id, live, word;

-- name: lead_word_tidy
-- $1 tenant, $2 mode, $3 the word after which to go on, $4 how many words to look at; the last of
-- them, or null: there are no more.
SELECT lead_word_tidy($1, $2, $3, $4);

-- name: lead_word_sweep_advance
-- $1 tenant, $2 mode, $3 word: how far the sweep has come.
UPDATE lead_word_sweep SET (tenant_id, live, word) = ($1, $2, $3);

-- name: lead_count_next
-- $1 tenant, $2 mode: whose turn it is after theirs, first of all tenants again after the last.
SELECT tenant_id, live FROM lead_count
ORDER BY (tenant_id, live) > ($1, $2) DESC, tenant_id, live LIMIT 1;

-- name: lead_count_merge
-- $1 how many at most. Merges counters that writers made when all slots were taken; how many.
SELECT lead_count_merge($1);

-- name: lead_count_reconcile
-- $1 tenant, $2 mode. Counts the leads anew and adds what the counters lack. Both are seen in one
-- snapshot and the difference is added to a slot of its own, so writers go on meanwhile. The rows
-- are what was wrong; there should be none.
WITH counted AS (
    SELECT status, source, count(*) AS n FROM lead WHERE tenant_id = $1 AND live = $2
    GROUP BY status, source
), kept AS (
    SELECT status, source, sum(n) AS n FROM lead_count WHERE tenant_id = $1 AND live = $2
    GROUP BY status, source
), wrong AS (
    SELECT status, source, coalesce(c.n, 0) - coalesce(k.n, 0) AS n
    FROM counted c FULL JOIN kept k USING (status, source)
    WHERE coalesce(c.n, 0) <> coalesce(k.n, 0)
)
INSERT INTO lead_count AS c (tenant_id, live, slot, status, source, n)
SELECT $1, $2, (SELECT lead_count_slot()), w.status, w.source, w.n FROM wrong w
ON CONFLICT (tenant_id, live, slot, status, source) DO UPDATE SET n = c.n + excluded.n
RETURNING c.status, c.source;
