-- Valid unique and exclusion indexes. An INCLUDE column is no key.
SELECT i.indrelid,
       c.relname,
       i.indisprimary,
       (i.indkey::int2[])[0:i.indnkeyatts - 1] AS attnums,
       array(SELECT pg_get_indexdef(i.indexrelid, k, true)
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
