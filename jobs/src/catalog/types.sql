-- Types that a name can mean: all but arrays and row types of relations. Enums come with their labels, in their order.
SELECT t.oid,
       t.typarray,
       n.nspname,
       t.typname,
       CASE WHEN t.typtype = 'e'
            THEN ARRAY(SELECT e.oid FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)
       END AS label_oids,
       CASE WHEN t.typtype = 'e'
            THEN ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)
       END AS labels
FROM pg_type t
JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype <> 'c'
  AND (t.typelem = 0 OR t.typsubscript <> 'array_subscript_handler'::regproc)
  AND n.nspname !~ '^pg_(toast|temp_)'
ORDER BY t.oid
