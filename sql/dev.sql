-- name: lease_delete_all
-- Only where no worker can be left: `leadlog dev` on a database of its own.
DELETE FROM lease;

-- name: slice_list_idle
-- The slices that must run for the log to be read, and that nobody runs now.
SELECT s.name
FROM (SELECT name FROM reader UNION ALL SELECT 'ticker') AS s
LEFT JOIN lease l ON l.name = s.name AND l.expires_at > now()
WHERE l.name IS NULL
ORDER BY s.name;
