-- What stands in the way of rewriting table $1 at all, and how large it is.
SELECT c.reloftype <> 0 AS typed,
       pg_has_role(c.relowner, 'USAGE') AS owned,
       pg_get_userbyid(c.relowner)::text AS owner,
       CASE WHEN c.reltuples < 0 THEN -1 ELSE c.reltuples::int8 END AS rows,
       pg_table_size(c.oid) AS bytes,
       array(SELECT DISTINCT p.pubname::text FROM pg_publication_tables p
             WHERE p.schemaname = n.nspname AND p.tablename = c.relname ORDER BY 1) AS publications,
       array(SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
             WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY array_position(i.indkey::int2[], a.attnum)) AS primary_key
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1
