-- Every relation that can be named in a statement, temporary ones apart, with what hangs on it.
SELECT c.oid,
       n.nspname,
       c.relname,
       c.relkind,
       coalesce(reads.oids, '{}') AS reads,
       coalesce(calls.oids, '{}') AS calls,
       coalesce(parents.oids, '{}') AS parents,
       coalesce(triggers.oids, '{}') AS trigger_functions,
       coalesce(rules.other, false) AS has_rules,
       coalesce(triggers.instead, false) AS has_instead_triggers,
       -- The system's own views read nothing of anybody's.
       CASE WHEN c.relkind NOT IN ('v', 'm') OR n.nspname IN ('pg_catalog', 'information_schema', 'pgveil') THEN NULL
            WHEN c.oid = ANY (/*BUSY*/'{}'::oid[]) OR reads.oids && /*BUSY*/'{}'::oid[] THEN '/*CHANGING*/'
            ELSE pg_get_viewdef(c.oid) END AS definition,
       CASE WHEN c.relkind <> 'p' THEN NULL
            WHEN c.oid = ANY (/*BUSY*/'{}'::oid[]) THEN '/*CHANGING*/'
            ELSE pg_get_partkeydef(c.oid) END AS partition_key,
       c.relispartition
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN (
    SELECT r.ev_class, array_agg(DISTINCT d.refobjid ORDER BY d.refobjid) AS oids
    FROM pg_rewrite r
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                    AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
    GROUP BY r.ev_class
) reads ON reads.ev_class = c.oid
LEFT JOIN (
    -- Called by name, or through an operator.
    SELECT r.ev_class, array_agg(DISTINCT coalesce(o.oprcode::oid, d.refobjid)) AS oids
    FROM pg_rewrite r
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                    AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass)
    LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
    GROUP BY r.ev_class
) calls ON calls.ev_class = c.oid
LEFT JOIN (
    SELECT inhrelid, array_agg(inhparent ORDER BY inhseqno) AS oids
    FROM pg_inherits
    GROUP BY inhrelid
) parents ON parents.inhrelid = c.oid
LEFT JOIN (
    SELECT tgrelid,
           array_agg(DISTINCT tgfoid ORDER BY tgfoid) AS oids,
           -- TRIGGER_TYPE_INSTEAD
           bool_or(tgtype & 64 <> 0) AS instead
    FROM pg_trigger
    WHERE NOT tgisinternal
    GROUP BY tgrelid
) triggers ON triggers.tgrelid = c.oid
LEFT JOIN (
    SELECT ev_class, bool_or(ev_type <> '1') AS other
    FROM pg_rewrite
    GROUP BY ev_class
) rules ON rules.ev_class = c.oid
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c', 'S')
  AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_(toast|temp_)'
ORDER BY c.oid
