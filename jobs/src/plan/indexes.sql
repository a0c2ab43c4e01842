-- Indexes of table $1, with all that is needed to write them again over search terms.
-- A column of pg_index that came after PostgreSQL 14 is read through its JSON form.
SELECT i.indexrelid AS oid,
       c.relname::text AS name,
       am.amname::text AS method,
       i.indisvalid,
       i.indisunique,
       i.indisprimary,
       i.indisexclusion,
       i.indisreplident,
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false) AS nulls_not_distinct,
       con.conname::text AS constraint_name,
       coalesce(con.condeferrable, false) AS deferrable,
       pg_get_expr(i.indpred, i.indrelid) AS predicate,
       array(SELECT DISTINCT m[1]::int2
             FROM regexp_matches(coalesce(i.indpred::text, ''), ':varattno (-?\d+)', 'g') m) AS predicate_columns,
       array(SELECT DISTINCT m[1]::int2
             FROM regexp_matches(coalesce(i.indexprs::text, ''), ':varattno (-?\d+)', 'g') m) AS expression_columns,
       coalesce(c.reloptions, '{}') AS options,
       quote_ident(ts.spcname) AS tablespace,
       (i.indkey::int2[])[0:i.indnkeyatts - 1] AS key_columns,
       array(SELECT quote_ident(a.attname)
             FROM generate_series(i.indnkeyatts::int4, i.indnatts - 1) k
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k]
             ORDER BY k) AS included,
       array(SELECT coalesce(pg_get_indexdef(i.indexrelid, k, true), '')
             FROM generate_series(1, i.indnkeyatts::int4) k ORDER BY k) AS key_texts,
       array(SELECT concat(
                 ' COLLATE ' || quote_ident(cn.nspname) || '.' || quote_ident(co.collname),
                 ' ' || CASE WHEN NOT op.opcdefault THEN quote_ident(opn.nspname) || '.' || quote_ident(op.opcname) END,
                 CASE WHEN am.amname = 'btree' THEN
                     CASE i.indoption[k] WHEN 1 THEN ' DESC NULLS LAST' WHEN 2 THEN ' NULLS FIRST' WHEN 3 THEN ' DESC' END
                 END)
             FROM generate_series(0, i.indnkeyatts - 1) k
             JOIN pg_opclass op ON op.oid = i.indclass[k]
             JOIN pg_namespace opn ON opn.oid = op.opcnamespace
             LEFT JOIN pg_collation co ON co.oid = i.indcollation[k]
             LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
             ORDER BY k) AS key_modifiers
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am am ON am.oid = c.relam
LEFT JOIN pg_tablespace ts ON ts.oid = c.reltablespace
LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.contype IN ('p', 'u', 'x') AND con.conrelid = i.indrelid
WHERE i.indrelid = $1
ORDER BY c.relname
