-- What computes with the terms of column $2 of table $1: by the server's own record of which column it reads, and its text;
-- functions by their text alone, since nothing is recorded of most.
SELECT DISTINCT
       CASE WHEN c.relkind = 'i' AND i.indisunique THEN 'unique index'
            WHEN c.relkind = 'i' THEN 'index'
            WHEN i.indisunique THEN 'unique index'
            WHEN c.relkind = 'I' THEN 'partitioned index'
            WHEN c.relkind = 'm' THEN 'materialized view'
            ELSE 'view' END AS kind,
       n.nspname::text AS nspname, c.relname::text AS relname
FROM (
    SELECT d.objid AS oid, pg_get_indexdef(d.objid) AS definition
    FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.refobjsubid = $2::int2
      AND EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = d.objid)
      -- A partition's part of an index goes with the index.
      AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = d.objid)
    UNION ALL
    SELECT r.ev_class, pg_get_viewdef(r.ev_class)
    FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.refobjsubid = $2::int2
      AND r.ev_class <> $1
) user_of
JOIN pg_class c ON c.oid = user_of.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index i ON i.indexrelid = c.oid
WHERE user_of.definition LIKE '%pgveil.eq_term(%'
UNION
SELECT CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END, n.nspname::text, p.proname::text
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
CROSS JOIN LATERAL coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) AS body(text)
JOIN pg_attribute a ON a.attrelid = $1 AND a.attnum = $2::int2
JOIN pg_class t ON t.oid = $1
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgveil')
  AND strpos(body.text, 'pgveil.eq_term(') > 0 AND strpos(body.text, a.attname::text) > 0 AND strpos(body.text, t.relname::text) > 0
ORDER BY 1, 2, 3
