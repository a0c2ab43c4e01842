-- What depends on columns $2 of table $1, indexes apart: exactly what ALTER COLUMN TYPE would look at, what
-- would go on working on sealed values without meaning the same, and what may hold a copy of whole rows.
WITH dependents AS (
    SELECT DISTINCT classid, objid, refobjsubid::int2 AS attnum
    FROM pg_depend
    WHERE refclassid = 'pg_class'::regclass AND refobjid = $1 AND refobjsubid = ANY ($2::int2[])
)
SELECT d.attnum, 'constraint ' || k.contype::text AS kind, k.conname::text AS name, k.conrelid::regclass::text AS place,
       pg_get_constraintdef(k.oid) AS definition, k.conrelid = $1 AS own
FROM dependents d
JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
WHERE k.contype IN ('c', 'f', 't') AND k.conrelid <> 0
UNION ALL
SELECT d.attnum, CASE WHEN r.rulename <> '_RETURN' THEN 'rule' WHEN c.relkind = 'm' THEN 'materialized view' ELSE 'view' END,
       CASE WHEN r.rulename <> '_RETURN' THEN r.rulename::text ELSE c.oid::regclass::text END,
       c.oid::regclass::text, NULL, false
FROM dependents d
JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
JOIN pg_class c ON c.oid = r.ev_class
UNION ALL
SELECT d.attnum, 'trigger', t.tgname::text, t.tgrelid::regclass::text, pg_get_triggerdef(t.oid), t.tgrelid = $1
FROM dependents d
JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
WHERE NOT t.tgisinternal
UNION ALL
SELECT d.attnum, 'policy', p.polname::text, p.polrelid::regclass::text, NULL, p.polrelid = $1
FROM dependents d
JOIN pg_policy p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
UNION ALL
SELECT d.attnum, 'statistics', quote_ident(n.nspname) || '.' || quote_ident(s.stxname), s.stxrelid::regclass::text, NULL, true
FROM dependents d
JOIN pg_statistic_ext s ON d.classid = 'pg_statistic_ext'::regclass AND s.oid = d.objid
JOIN pg_namespace n ON n.oid = s.stxnamespace
UNION ALL
SELECT d.attnum, 'function', p.oid::regprocedure::text, NULL, NULL, false
FROM dependents d
JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
UNION ALL
SELECT d.attnum, 'publication', b.pubname::text, r.prrelid::regclass::text, NULL, true
FROM dependents d
JOIN pg_publication_rel r ON d.classid = 'pg_publication_rel'::regclass AND r.oid = d.objid
JOIN pg_publication b ON b.oid = r.prpubid
UNION ALL
SELECT DISTINCT 0::int2, 'whole row', c.oid::regclass::text, c.oid::regclass::text, NULL, false
FROM pg_depend d
JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
JOIN pg_class c ON c.oid = r.ev_class AND c.relkind = 'm'
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.refobjsubid = 0
UNION ALL
SELECT 0::int2, 'row type', a.attname::text, a.attrelid::regclass::text, NULL, false
FROM pg_class c
JOIN pg_type t ON t.oid = c.reltype
JOIN pg_attribute a ON a.atttypid IN (t.oid, t.typarray) AND a.atttypid <> 0 AND NOT a.attisdropped
JOIN pg_class o ON o.oid = a.attrelid AND o.relkind IN ('r', 'p', 'm')
WHERE c.oid = $1
ORDER BY 1, 2, 4, 3
