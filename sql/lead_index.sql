-- name: lead_search_clean_pending
-- Moves the entries that writers left in the pending lists of the search indexes into the indexes.
-- Returns the number of pages.
SELECT lead_search_clean_pending();

-- name: lead_word_sweep_take
-- $1 seconds between two turns of the sweep. Returns the position of the sweep; no row: its turn has
-- not come yet. The statement is for all tenants; the next steps name tenant and mode.
UPDATE lead_word_sweep SET at = now() WHERE at < now() - make_interval(secs => $1)
RETURNING tenant_id, live, word;

-- name: lead_word_delete_unused
-- $1 tenant, $2 mode, $3 the word after which to begin, $4 how many words to check. Returns the last
-- word checked; null: there are no more.
SELECT lead_word_delete_unused($1, $2, $3, $4);

-- name: lead_word_sweep_advance
-- $1 tenant, $2 mode, $3 word: the new position of the sweep.
UPDATE lead_word_sweep SET (tenant_id, live, word) = ($1, $2, $3);

-- name: lead_count_next
-- $1 tenant, $2 mode. Returns the next tenant and mode in order, and the first after the last.
SELECT tenant_id, live FROM lead_count
ORDER BY (tenant_id, live) > ($1, $2) DESC, tenant_id, live LIMIT 1;

-- name: lead_count_merge
-- $1 the most slots to merge. Merges the surplus slots of writers that found all usual slots taken.
-- Returns the number of merged slots.
SELECT lead_count_merge($1);

-- name: lead_count_reconcile
-- $1 tenant, $2 mode. Counts the leads again and corrects the counters. One snapshot shows both, and
-- the difference is added to a slot of this transaction, so writers continue meanwhile. Returns the
-- counters that were wrong; there should be none.
WITH counted AS (
    SELECT status, source, count(*) AS n FROM lead WHERE tenant_id = $1 AND live = $2
    GROUP BY status, source
), stored AS (
    SELECT status, source, sum(n) AS n FROM lead_count WHERE tenant_id = $1 AND live = $2
    GROUP BY status, source
), wrong AS (
    SELECT status, source, coalesce(c.n, 0) - coalesce(s.n, 0) AS n
    FROM counted c FULL JOIN stored s USING (status, source)
    WHERE coalesce(c.n, 0) <> coalesce(s.n, 0)
)
INSERT INTO lead_count AS c (tenant_id, live, slot, status, source, n)
SELECT $1, $2, (SELECT lead_count_slot()), w.status, w.source, w.n FROM wrong w
ON CONFLICT (tenant_id, live, slot, status, source) DO UPDATE SET n = c.n + excluded.n
RETURNING c.status, c.source;
