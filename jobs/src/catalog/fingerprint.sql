-- One number over who wrote each catalog row of the user's objects last, and where (a transaction that writes a row
-- again writes it elsewhere). Every DDL writes or removes such a row; VACUUM, ANALYZE and CREATE INDEX's flags are
-- written in place and leave xmin and ctid alone.
-- 16384 is FirstNormalObjectId: what initdb made has a smaller OID.
WITH kept AS MATERIALIZED (
    SELECT oid, xmin AS written, ctid AS at, tableoid AS place
    FROM pg_class
    WHERE oid >= 16384 AND relpersistence <> 't' AND relkind <> 't'
)
SELECT coalesce(bit_xor(mark), 0) FROM (
    SELECT hash_record_extended(ROW(place, oid, 0::int8, written, at), 0) AS mark FROM kept
    UNION ALL
    SELECT hash_record_extended(ROW(a.tableoid, a.attrelid, a.attnum::int8, a.xmin, a.ctid), 0)
    FROM pg_attribute a JOIN kept ON kept.oid = a.attrelid WHERE a.attnum > 0
    UNION ALL
    SELECT hash_record_extended(ROW(d.tableoid, d.oid, 0::int8, d.xmin, d.ctid), 0)
    FROM pg_attrdef d JOIN kept ON kept.oid = d.adrelid
    UNION ALL
    SELECT hash_record_extended(ROW(i.tableoid, i.indexrelid, 0::int8, i.xmin, i.ctid), 0)
    FROM pg_index i JOIN kept ON kept.oid = i.indrelid
    UNION ALL
    SELECT hash_record_extended(ROW(h.tableoid, h.inhrelid, h.inhparent::int8, h.xmin, h.ctid), 0)
    FROM pg_inherits h JOIN kept ON kept.oid = h.inhrelid
    UNION ALL
    SELECT hash_record_extended(ROW(r.tableoid, r.oid, 0::int8, r.xmin, r.ctid), 0)
    FROM pg_rewrite r JOIN kept ON kept.oid = r.ev_class
    UNION ALL
    SELECT hash_record_extended(ROW(t.tableoid, t.oid, 0::int8, t.xmin, t.ctid), 0)
    FROM pg_trigger t JOIN kept ON kept.oid = t.tgrelid WHERE NOT t.tgisinternal
    UNION ALL
    SELECT hash_record_extended(ROW(p.tableoid, p.oid, 0::int8, p.xmin, p.ctid), 0)
    FROM pg_proc p WHERE p.oid >= 16384
    UNION ALL
    SELECT hash_record_extended(ROW(t.tableoid, t.oid, 0::int8, t.xmin, t.ctid), 0)
    FROM pg_type t WHERE t.oid >= 16384 AND t.typtype IN ('d', 'e')
    UNION ALL
    SELECT hash_record_extended(ROW(e.tableoid, e.oid, 0::int8, e.xmin, e.ctid), 0)
    FROM pg_enum e
    UNION ALL
    SELECT hash_record_extended(ROW(n.tableoid, n.oid, 0::int8, n.xmin, n.ctid), 0)
    FROM pg_namespace n WHERE n.nspname !~ '^pg_(toast|temp_)'
) marks
