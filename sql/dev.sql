-- name: lease_delete_all
-- Only for `leadlog dev` on its own database, where no worker can be running.
DELETE FROM lease;

-- name: job_list_idle
-- The jobs that the log requires and that no worker runs now.
SELECT s.name
FROM (SELECT name FROM reader UNION ALL SELECT 'ticker') AS s
LEFT JOIN lease l ON l.name = s.name AND l.expires_at > now()
    AND l.expires_at < now() + interval '1 minute'
WHERE l.name IS NULL
ORDER BY s.name;
