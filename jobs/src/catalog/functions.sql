-- Functions, procedures and aggregates that are neither the system's nor pgveil's. A parameter of a type over a domain of
-- pgveil is taken for one of that domain, as columns are.
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
SELECT p.oid,
       n.nspname,
       p.proname,
       -- A body that the server keeps parsed is printed under locks on what it reads.
       CASE WHEN p.prosqlbody IS NULL THEN coalesce(p.prosrc, '')
            ELSE coalesce((SELECT '/*CHANGING*/ ' || string_agg(DISTINCT quote_ident(c.relname), ' ')
                           FROM pg_depend d JOIN pg_class c ON c.oid = d.refobjid
                           WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_class'::regclass
                           HAVING bool_or(d.refobjid = ANY (/*BUSY*/'{}'::oid[]))),
                          pg_get_function_sqlbody(p.oid), '') END AS body,
       nullif(t.typrelid, 0) AS returns_relation,
       l.lanname::text AS language,
       p.prokind,
       p.proretset,
       p.prosqlbody IS NOT NULL AS parsed,
       coalesce(p.proconfig, '{}') AS settings,
       EXISTS (SELECT FROM pg_proc s
               WHERE s.proname = p.proname AND s.pronamespace = 'pg_catalog'::regnamespace) AS shadows,
       p.pronargdefaults,
       (SELECT json_agg(json_build_object(
                   'mode', a.mode, 'name', coalesce(a.name, ''), 'number', a.number, 'type', a.type::int8,
                   'base', coalesce(b.base, a.type)::int8,
                   'type_name', coalesce(s.name, format_type(a.type, NULL))) ORDER BY a.number)
        FROM (SELECT u.type, u.name, coalesce(u.mode, 'i') AS mode, u.number
              FROM ROWS FROM (unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])), unnest(p.proargnames),
                              unnest(p.proargmodes)) WITH ORDINALITY AS u(type, name, mode, number)
              WHERE u.type IS NOT NULL
              UNION ALL
              SELECT p.prorettype, NULL, 'r', 0) a
        LEFT JOIN bases b ON b.oid = a.type
        LEFT JOIN sealed s ON s.oid = a.type)::text AS parameters
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
JOIN pg_language l ON l.oid = p.prolang
JOIN pg_type t ON t.oid = p.prorettype
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgveil')
  AND n.nspname !~ '^pg_temp_'
ORDER BY p.oid
