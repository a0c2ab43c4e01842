-- Live columns of those relations. Domains are followed down to their base type; one over a domain of pgveil is taken for
-- that domain, whose values it holds.
WITH RECURSIVE domains(oid, base, depth) AS (
    SELECT oid, typbasetype, 1 FROM pg_type WHERE typtype = 'd'
    UNION ALL
    SELECT d.oid, t.typbasetype, d.depth + 1
    FROM domains d
    JOIN pg_type t ON t.oid = d.base
    WHERE t.typtype = 'd'
), bases AS (
    SELECT DISTINCT ON (oid) oid, base FROM domains ORDER BY oid, depth DESC
), sealed AS (
    SELECT d.oid, format_type(d.base, NULL) AS name
    FROM domains d
    JOIN pg_type t ON t.oid = d.base
    JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typtype = 'd' AND n.nspname = 'pgveil'
)
SELECT a.attrelid,
       a.attnum,
       a.attname,
       a.atttypid,
       coalesce(b.base, a.atttypid) AS base_type,
       coalesce(s.name, format_type(a.atttypid, a.atttypmod)) AS type_name,
       a.atttypmod,
       a.attnotnull,
       CASE WHEN e.adrelid = ANY (/*BUSY*/'{}'::oid[]) THEN '/*CHANGING*/'
            ELSE pg_get_expr(e.adbin, e.adrelid) END AS default_expression,
       a.attgenerated <> '' AS generated,
       a.attidentity <> '' AS identity
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN bases b ON b.oid = a.atttypid
LEFT JOIN sealed s ON s.oid = a.atttypid
LEFT JOIN pg_attrdef e ON e.adrelid = a.attrelid AND e.adnum = a.attnum
WHERE a.attnum > 0
  AND NOT a.attisdropped
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c', 'S')
  AND c.relpersistence <> 't'
ORDER BY a.attrelid, a.attnum
