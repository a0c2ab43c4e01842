-- Names of the functions that functions.sql leaves out.
SELECT DISTINCT p.proname::text
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname IN ('pg_catalog', 'information_schema', 'pgveil')
ORDER BY 1
