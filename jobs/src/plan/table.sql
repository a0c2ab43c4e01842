-- What stands in the way of rewriting table $1 at all, and how large it is, with its partitions.
SELECT c.reloftype <> 0 AS typed,
       pg_has_role(c.relowner, 'USAGE') AS owned,
       pg_get_userbyid(c.relowner)::text AS owner,
       CASE WHEN c.relkind = 'p' THEN coalesce(parts.rows, -1) WHEN c.reltuples < 0 THEN -1 ELSE c.reltuples::int8 END AS rows,
       pg_table_size(c.oid) + coalesce(parts.bytes, 0)::int8 AS bytes,
       array(SELECT DISTINCT p.pubname::text FROM pg_publication_tables p
             WHERE p.schemaname = n.nspname AND p.tablename = c.relname ORDER BY 1) AS publications,
       -- By which names these send it: NULL where they name no tables.
       array(SELECT (SELECT min(format('%I.%I', m.nspname, t.relname)) FROM pg_publication_rel r
                     JOIN pg_class t ON t.oid = r.prrelid JOIN pg_namespace m ON m.oid = t.relnamespace
                     WHERE r.prpubid = p.oid AND (r.prrelid = c.oid OR r.prrelid IN (SELECT relid FROM pg_partition_ancestors(c.oid))))
             FROM pg_publication p WHERE p.pubname IN (SELECT f.pubname FROM pg_publication_tables f
                 WHERE f.schemaname = n.nspname AND f.tablename = c.relname) ORDER BY p.pubname::text) AS published_as,
       array(SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
             WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY array_position(i.indkey::int2[], a.attnum)) AS primary_key
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    SELECT sum(p.reltuples::int8) FILTER (WHERE p.reltuples >= 0)::int8 AS rows, sum(pg_table_size(p.oid)) AS bytes
    FROM pg_partition_tree(c.oid::regclass) t JOIN pg_class p ON p.oid = t.relid WHERE t.isleaf
) parts ON c.relkind = 'p'
WHERE c.oid = $1
