-- Those of the tables $1 with something that hangs on one of their columns $2, or on their rows: whatever dependents.sql might
-- tell of them, and indexes that belong to no index above. Not what is pgveil's own: triggers whose names begin with $3, and the like.
SELECT a.attrelid
FROM pg_attribute a
JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
LEFT JOIN pg_trigger g ON d.classid = 'pg_trigger'::regclass AND g.oid = d.objid
LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
LEFT JOIN pg_inherits h ON d.classid = 'pg_class'::regclass AND h.inhrelid = d.objid
WHERE a.attrelid = ANY ($1) AND a.attname = ANY ($2::text[]) AND NOT a.attisdropped
  AND CASE WHEN k.oid IS NOT NULL THEN k.contype IN ('c', 'f', 't') AND k.conname::text !~ '^pgveil_(not_null|no_envelope)_'
           WHEN g.oid IS NOT NULL THEN NOT starts_with(g.tgname::text, $3)
           WHEN c.oid IS NOT NULL THEN h.inhrelid IS NULL AND c.relname::text !~ '^pgveil_(new|old|stale)_'
           ELSE true END
UNION
SELECT d.refobjid
FROM pg_depend d
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY ($1) AND d.refobjsubid = 0 AND d.classid = 'pg_rewrite'::regclass
UNION
SELECT i.indrelid
FROM pg_index i
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[]) AND a.attname = ANY ($2::text[])
WHERE i.indrelid = ANY ($1) AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indexrelid)
UNION
SELECT c.oid
FROM pg_class c
JOIN pg_type t ON t.oid = c.reltype
JOIN pg_attribute a ON a.atttypid IN (t.oid, t.typarray) AND a.atttypid <> 0 AND NOT a.attisdropped
WHERE c.oid = ANY ($1)
