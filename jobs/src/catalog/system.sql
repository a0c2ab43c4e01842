-- The functions that functions.sql leaves out, by name, and the columns that all of one name yield in FROM: those of OUT
-- parameters, or none for one value. NULL: they differ, are rows of some table, or only the call says.
SELECT p.proname::text AS proname,
       CASE WHEN bool_and(f.columns IS NOT NULL) FILTER (WHERE p.prokind = 'f')
             AND count(DISTINCT f.columns) FILTER (WHERE p.prokind = 'f') = 1
            THEN min(f.columns) FILTER (WHERE p.prokind = 'f')
       END AS columns
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
JOIN pg_type t ON t.oid = p.prorettype
LEFT JOIN pg_type b ON b.oid = t.typbasetype
CROSS JOIN LATERAL (
    -- No row, no row of rows, and nothing that the arguments say.
    SELECT t.typtype IN ('b', 'e', 'r', 'm') OR t.typname IN ('void', 'cstring', 'trigger', 'event_trigger')
        OR (t.typtype = 'd' AND b.typtype = 'b') AS value
) v
CROSS JOIN LATERAL (
    SELECT CASE WHEN count(*) = 0 AND v.value THEN '{}'::text[]
                WHEN (count(*) > 1 OR (count(*) = 1 AND v.value)) AND bool_and(o.name <> '') THEN array_agg(o.name ORDER BY o.number)
           END AS columns
    FROM ROWS FROM (unnest(p.proargmodes), unnest(p.proargnames)) WITH ORDINALITY AS o(mode, name, number)
    WHERE o.mode IN ('o', 'b', 't')
) f
WHERE n.nspname IN ('pg_catalog', 'information_schema', 'pgveil')
GROUP BY p.proname
