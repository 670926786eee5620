-- name: migration_list
SELECT name FROM schema_migration ORDER BY version;
