-- Valid unique and exclusion indexes. An INCLUDE column is no key. Printing an expression locks the table.
SELECT i.indrelid,
       c.relname,
       i.indisprimary,
       (i.indkey::int2[])[0:i.indnkeyatts - 1] AS attnums,
       array(SELECT CASE WHEN i.indkey[k - 1] <> 0
                         THEN (SELECT quote_ident(a.attname) FROM pg_attribute a
                               WHERE a.attrelid = i.indrelid AND a.attnum = i.indkey[k - 1])
                         WHEN i.indrelid = ANY (/*BUSY*/'{}'::oid[]) THEN '/*CHANGING*/'
                         ELSE pg_get_indexdef(i.indexrelid, k, true) END
             FROM generate_series(1, i.indnkeyatts::int4) k
             ORDER BY k) AS keys,
       -- A key that is checked at COMMIT only may have duplicates until then.
       i.indpred IS NOT NULL OR (i.indisprimary AND NOT i.indimmediate) AS partial
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
WHERE (i.indisunique OR i.indisexclusion)
  AND i.indisvalid
  AND c.relpersistence <> 't'
ORDER BY i.indrelid, c.relname
