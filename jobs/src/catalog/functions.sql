-- Functions, procedures and aggregates that are neither the system's nor pgveil's.
SELECT p.oid,
       n.nspname,
       p.proname,
       coalesce(pg_get_function_sqlbody(p.oid), p.prosrc, '') AS body,
       nullif(t.typrelid, 0) AS returns_relation
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
JOIN pg_type t ON t.oid = p.prorettype
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgveil')
  AND n.nspname !~ '^pg_temp_'
ORDER BY p.oid
