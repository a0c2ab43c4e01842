//! Statements chosen to be answered wrong: names that hide, names that only look protected, casts that change a value, and
//! comparisons whose meaning depends on a type. Each must be answered as Postgres does or refused in good form.

use anyhow::Result;

use crate::{check, refused};
use pgveil_tests::twin::{Case, Expect};

#[test]
fn names_that_only_look_protected() -> Result<()> {
    refused(&[
        "WITH customers AS (SELECT 1 AS id, 'x' AS email) SELECT email FROM customers",
        "WITH customers (email) AS (VALUES ('a'), ('b')) SELECT upper(email) FROM customers ORDER BY email",
        "WITH orders AS (SELECT email AS customer_email FROM customers) SELECT customer_email FROM orders",
        "SELECT customers.email FROM public_people customers WHERE customers.email LIKE 'ada%'",
        "SELECT email FROM (SELECT 'x' AS email) customers",
        "SELECT customers FROM (SELECT 1 AS customers) t",
        "SELECT email FROM generate_series(1, 2) email",
        "SELECT c.id, email FROM customers c, generate_series(1, 2) AS g (number), (SELECT 'y' AS x) AS y WHERE c.id = 1",
        "SELECT id FROM customers WHERE EXISTS (SELECT 1 FROM public_people WHERE email = 'ada@example.com')",
        "SELECT id FROM customers WHERE EXISTS (SELECT 1 FROM public_people p WHERE p.email = 'zoe@example.com' AND p.id > 0)",
        "SELECT t.email FROM public_people t JOIN customers u ON t.id = u.id WHERE t.email LIKE 'ada%'",
        "SELECT 'customers', 'email' FROM customers WHERE id = 1",
        "SELECT region AS email FROM customers ORDER BY email",
        "SELECT 'SELECT email FROM customers'",
        "SELECT id AS customers, plain AS email FROM customers ORDER BY 1",
    ])
}

#[test]
fn names_that_hide() -> Result<()> {
    refused(&[
        "SELECT \"email\" FROM \"customers\"",
        "SELECT email FROM U&\"c\\0075stomers\"",
        "SELECT U&\"\\0065mail\" FROM customers",
        "SELECT U&\"!0065mail\" UESCAPE '!' FROM customers",
        "INSERT INTO U&\"c\\0075stomers\" (id, region) VALUES (100, 'eu') RETURNING email",
        "SELECT \"EMAIL\" FROM customers",
        "SELECT email FROM \"Customers\"",
        "SELECT email FROM public/* here */./* there */customers",
        "SELECT email FROM public . customers WHERE customers . id = 1",
        "SELECT email FROM customers*",
        "SELECT public.customers.email FROM public.customers WHERE public.customers.id = 1",
        "SELECT d FROM customers AS c (a, b, d)",
        "SELECT region, email FROM customers AS c (region, email)",
        "SELECT upper(c.email) FROM customers AS c (id, email)",
        "SELECT j.email FROM (customers JOIN orders ON customers.id = orders.customer_id) AS j",
        "SELECT j.x FROM (customers JOIN orders ON customers.id = orders.customer_id) AS j (a, b, x)",
        "SELECT s.e FROM (SELECT email AS e FROM (SELECT * FROM customers) i) s WHERE s.e = 'ada@example.com'",
        "SELECT (SELECT email) FROM customers WHERE id = 1",
        "SELECT (SELECT email || '') FROM customers",
        "SELECT v.x FROM customers, LATERAL (VALUES (email)) v (x)",
        "SELECT x FROM customers, unnest(ARRAY[email]) x",
        "SELECT l.e FROM customers c, LATERAL (SELECT c.email AS e) l WHERE l.e = 'ada@example.com'",
        "SELECT ARRAY(SELECT email FROM customers)",
        "SELECT json_agg(email) FROM customers",
        "SELECT jsonb_build_object('e', email) FROM customers",
        "SELECT query_to_xml('SELECT email FROM customers', true, true, '')",
        "SELECT count(*) FROM (SELECT email FROM customers) t",
        "SELECT EXISTS (SELECT email FROM customers)",
        "SELECT count(customers) FROM customers",
        "SELECT count(c.*) FROM customers c",
        "SELECT c IS NULL FROM customers c",
        "SELECT octet_length(email), pg_column_size(email) FROM customers",
    ])
}

#[test]
fn aliases_that_sort_and_group() -> Result<()> {
    refused(&[
        "SELECT email AS region FROM customers ORDER BY region",
        "SELECT email AS region FROM customers c ORDER BY c.region",
        "SELECT ssn AS region, count(*) FROM customers GROUP BY region",
        "SELECT ssn AS s, count(*) FROM customers GROUP BY s",
        "SELECT ssn, count(*) FROM customers GROUP BY 1",
        "SELECT ssn, count(*) FROM customers GROUP BY 1 ORDER BY 2, 1",
        "SELECT ssn, count(*) FROM customers GROUP BY ssn ORDER BY count(*), ssn",
        "SELECT ssn, region, count(*) FROM customers GROUP BY ROLLUP (ssn, region)",
        "SELECT ssn, region, count(*) FROM customers GROUP BY GROUPING SETS ((ssn), (region), ())",
        "SELECT ssn, grouping(ssn) FROM customers GROUP BY CUBE (ssn)",
        "SELECT ssn FROM customers GROUP BY ssn HAVING ssn = '111-11-1111'",
        "SELECT ssn FROM customers GROUP BY ssn HAVING count(*) > 1 AND ssn IS NOT NULL",
        "SELECT ssn FROM customers GROUP BY ssn HAVING max(ssn) > '1'",
        "SELECT ssn || 'x' FROM customers GROUP BY ssn",
        "SELECT age FROM customers GROUP BY ssn",
        "SELECT count(*) FROM customers GROUP BY ssn = '111-11-1111'",
        "SELECT email FROM customers ORDER BY email = 'ada@example.com', id",
        "SELECT email FROM customers ORDER BY email IS NULL, id",
        "SELECT email FROM customers ORDER BY (email)",
        "SELECT id, email FROM customers ORDER BY 2",
        "TABLE customers ORDER BY email",
        "SELECT DISTINCT ON (region) region, email FROM customers ORDER BY region, id",
        "SELECT count(*) FROM (SELECT DISTINCT ON (ssn) id FROM customers) t",
        "SELECT DISTINCT ssn, notes FROM customers",
        "SELECT DISTINCT ssn FROM customers ORDER BY ssn",
        "SELECT DISTINCT ssn AS x, id FROM customers ORDER BY id",
        "SELECT count(DISTINCT (ssn, age)) FROM customers",
        "SELECT count(DISTINCT ssn) FILTER (WHERE age = 36) FROM customers",
        "SELECT count(ALL email) FROM customers",
        "SELECT count(DISTINCT email || '') FROM customers",
        "SELECT array_agg(DISTINCT ssn) FROM customers",
        "SELECT mode() WITHIN GROUP (ORDER BY ssn) FROM customers",
        "SELECT bool_and(active) FROM customers",
        "SELECT first_value(email) OVER (ORDER BY id) FROM customers",
        "SELECT id, lag(email) OVER (ORDER BY id) FROM customers",
        "SELECT id, count(*) OVER (PARTITION BY ssn) FROM customers",
        "SELECT id, row_number() OVER (PARTITION BY region ORDER BY id) FROM customers WHERE email = 'ada@example.com'",
        "SELECT email, count(*) OVER w FROM customers WINDOW w AS (PARTITION BY email)",
        "SELECT count(*) FROM (SELECT DISTINCT ssn FROM customers) t",
        "SELECT count(*) FROM (SELECT DISTINCT notes FROM customers) t",
    ])
}

#[test]
fn comparisons_that_depend_on_the_type() -> Result<()> {
    refused(&[
        "SELECT id FROM customers WHERE code = 'AB'::text",
        "SELECT id FROM customers WHERE code = 'AB  '::text",
        "SELECT id FROM customers WHERE code = 'AB '::varchar",
        "SELECT id FROM customers WHERE code = 'AB'::bpchar",
        "SELECT id FROM customers WHERE code = 'AB   '::char(5)",
        "SELECT id FROM customers WHERE ssn = '111-11-1111 '::bpchar",
        "SELECT id FROM customers WHERE ssn = '111-11-1111   '::char(14)",
        "SELECT id FROM customers WHERE email = 'ada@example.com  '::bpchar",
        "SELECT id FROM customers WHERE email = 'ada@example.com'::varchar(3)",
        "SELECT id FROM customers WHERE email = varchar 'ada@example.com'",
        "SELECT id FROM customers WHERE email = 'ada@example.com'::name",
        "SELECT id FROM customers WHERE email = 'ada@example.com' COLLATE \"C\"",
        "SELECT id FROM customers WHERE email COLLATE \"C\" = 'ada@example.com'",
        "SELECT id FROM customers WHERE email OPERATOR(pg_catalog.=) 'ada@example.com'",
        "SELECT id FROM customers WHERE age = '36'::text",
        "SELECT id FROM customers WHERE age = 36::float8",
        "SELECT id FROM customers WHERE age = 36.4::int",
        "SELECT id FROM customers WHERE age = 35.5::int",
        "SELECT id FROM customers WHERE age = 36.5::float8::int",
        "SELECT id FROM customers WHERE age = '36.0'",
        "SELECT id FROM customers WHERE age = - 36",
        "SELECT id FROM customers WHERE age = +36",
        "SELECT id FROM customers WHERE age = -(-36)",
        "SELECT id FROM customers WHERE age = 0x24",
        "SELECT id FROM customers WHERE age = 2147483647 AND age = 2147483647::int8",
        "SELECT id FROM customers WHERE balance = 1200.5::float8",
        "SELECT id FROM customers WHERE balance = 1200.5::real",
        "SELECT id FROM customers WHERE balance = '1200.5000'",
        "SELECT id FROM customers WHERE balance = 12005e-1",
        "SELECT id FROM customers WHERE balance = 1200.54::numeric(6,1)",
        "SELECT id FROM customers WHERE balance = 'NaN'",
        "SELECT id FROM customers WHERE born = '1815-12-10'::timestamp",
        "SELECT id FROM customers WHERE born = timestamp '1815-12-10 00:00:01'",
        "SELECT id FROM customers WHERE born = '1815-12-10 23:59'",
        "SELECT id FROM customers WHERE seen = date '2024-02-29'",
        "SELECT id FROM customers WHERE seen = timestamp '2024-02-29 12:34:56.789'",
        "SELECT id FROM customers WHERE token = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::text",
        "SELECT id FROM customers WHERE active = 1",
        "SELECT id FROM customers WHERE active = 'maybe'",
        "SELECT id FROM customers WHERE active IN (true, NULL)",
        "SELECT id FROM customers WHERE active = (1 = 1)",
    ])
}

#[test]
fn rarer_spellings_of_equality() -> Result<()> {
    refused(&[
        "SELECT id FROM customers WHERE email = ALL (ARRAY['ada@example.com'])",
        "SELECT id FROM customers WHERE email <> ALL (ARRAY['ada@example.com', 'x'])",
        "SELECT id FROM customers WHERE email <> ALL (ARRAY['ada@example.com', NULL])",
        "SELECT id FROM customers WHERE email <> ANY ('{ada@example.com,bob@example.com}')",
        "SELECT id FROM customers WHERE email = SOME (ARRAY['ada@example.com'])",
        "SELECT id FROM customers WHERE email = ANY (ARRAY[]::text[])",
        "SELECT id FROM customers WHERE email = ANY (ARRAY['ada@example.com']::varchar[])",
        "SELECT id FROM customers WHERE email = ANY ('{\"a\\\"b\", \"NULL\", ada@example.com}')",
        "SELECT id FROM customers WHERE email = ANY ('{{ada@example.com},{bob@example.com}}')",
        "SELECT id FROM customers WHERE email = ANY ('not an array')",
        "SELECT id FROM customers WHERE email = ANY (string_to_array('ada@example.com', ','))",
        "SELECT id FROM customers WHERE email = ANY (SELECT 'ada@example.com')",
        "SELECT id FROM customers WHERE email = ANY (NULL)",
        "SELECT id FROM customers WHERE email = (SELECT 'ada@example.com')",
        "SELECT id FROM customers WHERE email IN (VALUES ('ada@example.com'))",
        "SELECT id FROM customers WHERE email IN (NULL)",
        "SELECT id FROM customers WHERE email IN ('ada@example.com', plain)",
        "SELECT id FROM customers WHERE 'ada@example.com' IN (email, plain)",
        "SELECT id FROM customers WHERE 36 IN (age, id)",
        "SELECT id FROM customers WHERE ROW(email) = ROW('ada@example.com')",
        "SELECT id FROM customers WHERE ROW(email, ssn) IS NULL",
        "SELECT id FROM customers WHERE (email, ssn) IS NOT NULL",
        "SELECT id FROM customers WHERE (id, email) < (2, 'b')",
        "SELECT id FROM customers WHERE (email, ssn) IS DISTINCT FROM ('ada@example.com', '111-11-1111')",
        "SELECT id FROM customers WHERE (id, email) IN (SELECT customer_id, customer_email FROM orders)",
        "SELECT id FROM customers WHERE (id, email) = (SELECT id, email FROM customers WHERE id = 1)",
        "SELECT id FROM customers WHERE (email = 'ada@example.com') IS NOT TRUE",
        "SELECT id FROM customers WHERE (email = 'ada@example.com') IS NULL",
        "SELECT id FROM customers WHERE NOT (email = 'ada@example.com' AND age = 36)",
        "SELECT id FROM customers WHERE email NOT IN (SELECT customer_email FROM orders)",
        "SELECT id FROM customers WHERE email = 'ada@example.com' = true",
        "SELECT id FROM customers WHERE CASE email WHEN 'ada@example.com' THEN true END",
        "SELECT coalesce(email, NULL), coalesce(email, email) FROM customers",
        "SELECT coalesce(email, 'none') FROM customers",
        "SELECT nullif(email, NULL) FROM customers",
        "SELECT CASE WHEN id = 1 THEN email END FROM customers",
        "SELECT email IS DISTINCT FROM plain FROM customers",
        "SELECT id FROM public_people WHERE email IN (SELECT email FROM customers)",
        "SELECT id FROM public_people p WHERE EXISTS (SELECT 1 FROM customers WHERE email = p.email)",
        "SELECT id FROM customers WHERE email BETWEEN 'a' AND 'b'",
    ])
}

#[test]
fn casts_in_the_select_list() -> Result<()> {
    refused(&[
        "SELECT email::text, CAST(email AS text) FROM customers",
        "SELECT ssn::varchar(11) FROM customers",
        "SELECT ssn::varchar(3) FROM customers",
        "SELECT ssn::text FROM customers",
        "SELECT balance::numeric FROM customers",
        "SELECT balance::numeric(12,2) FROM customers",
        "SELECT balance::numeric(12,1) FROM customers",
        "SELECT code::bpchar, code::char(6) FROM customers",
        "SELECT code::char(3) FROM customers",
        "SELECT age::int8 FROM customers",
        "SELECT seen::timestamp FROM customers",
        "SELECT notes::json FROM customers",
    ])
}

#[test]
fn values_that_a_cast_changes_before_they_are_stored() -> Result<()> {
    let stored = [
        ("email", "('x')"),
        ("email", "(('x'))"),
        ("email", "CAST('abcdef' AS varchar(3))"),
        ("email", "'abcdef'::char(3)"),
        ("email", "'ab'::char(4)"),
        ("email", "5"),
        ("email", "1.50"),
        ("email", "true"),
        ("email", "date '2024-01-01'"),
        ("email", "NULL::text"),
        ("email", "'a' 'b'"),
        ("email", "'a'\n'b'"),
        ("email", "b'101'"),
        ("email", "x'1F'"),
        ("email", "N'national'"),
        ("email", "'{1,2}'::int[]"),
        ("age", "36.6"),
        ("age", "2.5"),
        ("age", "-2.5"),
        ("age", "2.5::float8"),
        ("age", "1e3"),
        ("age", "'36.6'"),
        ("age", "true"),
        ("age", "NULL::int + 1"),
        ("age", "- 5"),
        ("age", "+5"),
        ("age", "0x10"),
        ("age", "1_000"),
        ("age", "'0x10'"),
        ("balance", "1e3"),
        ("balance", ".5"),
        ("balance", "-.005"),
        ("balance", "1.55::numeric(3,1)"),
        ("balance", "2::int2"),
        ("balance", "0.1::float4"),
        ("balance", "'1e2'"),
        ("born", "'2024-01-01 10:00'"),
        ("born", "timestamp '2024-01-01 10:00'"),
        ("born", "timestamptz '2024-01-01 23:00-05'"),
        ("born", "date '2024-01-01' + 1"),
        ("seen", "date '2024-01-01'"),
        ("seen", "timestamp '2024-01-01 10:00'"),
        ("seen", "'2024-01-01'"),
        ("code", "5"),
        ("code", "'toolong'::char(6)"),
        ("code", "'ab'::text"),
        ("ssn", "'12345678901 '::text"),
        ("ssn", "'123456789012'::varchar(11)"),
        ("ssn", "'123456789012'::varchar"),
        ("notes", "'1'"),
        ("notes", "1"),
        ("notes", "'{\"a\": 1}'::json"),
        ("notes", "'null'"),
        ("active", "1"),
        ("active", "'1'"),
        ("active", "1 = 1"),
        ("active", "'yes'::text"),
        ("token", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::text"),
    ];
    let inserts: Vec<String> = stored
        .iter()
        .map(|(column, value)| format!("INSERT INTO customers (id, region, {column}) VALUES (100, 'eu', {value}) RETURNING {column}"))
        .collect();
    let updates: Vec<String> = stored
        .iter()
        .map(|(column, value)| {
            format!("UPDATE customers SET {column} = {value} WHERE id = 1 RETURNING {column}")
        })
        .collect();
    let cases: Vec<Case<'_>> = inserts
        .iter()
        .chain(&updates)
        .map(|sql| Case::new(sql))
        .collect();
    check(Expect::Refused, &cases)
}

#[test]
fn writes_in_rarer_shapes() -> Result<()> {
    refused(&[
        "INSERT INTO customers DEFAULT VALUES",
        "INSERT INTO customers SELECT * FROM customers WHERE false",
        "INSERT INTO customers TABLE customers",
        "INSERT INTO customers (id, region, email) (VALUES (100, 'eu', 'x'))",
        "INSERT INTO customers (id, region, email) VALUES (100, 'eu', 'x') RETURNING upper(email)",
        "INSERT INTO customers (id, region, email) VALUES (100, 'eu', 'x') RETURNING email AS e, email = 'x'",
        "INSERT INTO customers (id, region, email) OVERRIDING USER VALUE VALUES (100, 'eu', 'x')",
        "INSERT INTO customers (id, region, email) SELECT 100, 'eu', customer_email FROM orders WHERE id = 4 RETURNING email",
        "INSERT INTO customers (id, region, ssn) SELECT 100, 'eu', email FROM customers WHERE id = 1",
        "INSERT INTO customers (id, region, email) SELECT id + 100, 'eu', CASE WHEN id = 1 THEN 'a' ELSE 'b' END FROM public_people",
        "INSERT INTO customers (id, region, email) VALUES (100, 'eu', 'ada@example.com') ON CONFLICT ON CONSTRAINT customers_email_key DO NOTHING",
        "INSERT INTO customers (id, region, email) VALUES (100, 'eu', 'ada@example.com') ON CONFLICT (lower(email)) DO NOTHING",
        "INSERT INTO customers (id, region, email) VALUES (1, 'eu', 'n') ON CONFLICT (id) DO UPDATE SET email = customers.email RETURNING email",
        "INSERT INTO customers (id, region, email) VALUES (1, 'eu', 'n') ON CONFLICT (id) DO UPDATE SET plain = 'd' WHERE customers.email <> excluded.email RETURNING plain",
        "INSERT INTO customers (id, region, email) VALUES (1, 'eu', 'n') ON CONFLICT (id) DO UPDATE SET email = excluded.plain",
        "INSERT INTO customers (id, region, email) VALUES (1, 'eu', 'n') ON CONFLICT (id) DO UPDATE SET (email, plain) = (excluded.email, 'p') RETURNING email, plain",
        "UPDATE customers SET email = (SELECT d.email FROM customers d WHERE d.id = 2) WHERE id = 1",
        "UPDATE customers SET email = CASE WHEN id = 1 THEN 'x' ELSE 'y' END",
        "UPDATE customers SET email = coalesce(email, 'x')",
        "UPDATE customers SET (email, ssn) = (SELECT 'a', 'b') WHERE id = 1",
        "UPDATE customers SET (email, ssn) = ROW ('a', 'b') WHERE id = 1 RETURNING email, ssn",
        "UPDATE customers SET email = o.customer_email FROM orders o WHERE o.id = 4 AND customers.id = 1 RETURNING email",
        "UPDATE customers AS c SET email = 'z' FROM customers d WHERE c.ssn = d.ssn AND c.id < d.id RETURNING c.id, d.id",
        "UPDATE ONLY customers SET email = 'z' WHERE CURRENT OF nothing",
        "DELETE FROM ONLY customers WHERE email = 'ada@example.com' RETURNING email",
        "DELETE FROM customers USING public_people p WHERE p.email = customers.email",
        "WITH gone AS (DELETE FROM customers WHERE id = 1 RETURNING *) SELECT email, ssn FROM gone",
        "WITH changed AS (UPDATE customers SET email = 'z' WHERE id = 1 RETURNING email) SELECT * FROM changed",
        "WITH RECURSIVE t (n, e) AS (SELECT 1, email FROM customers WHERE id = 1 UNION ALL SELECT n + 1, e FROM t WHERE n < 3) SELECT * FROM t",
        "SELECT NULL UNION ALL SELECT email FROM customers",
        "SELECT email FROM customers UNION ALL SELECT NULL",
        "SELECT age FROM customers UNION ALL SELECT id FROM customers",
        "SELECT ssn FROM customers UNION ALL SELECT email FROM customers",
        "SELECT * FROM customers a NATURAL JOIN customers b",
        "SELECT email, a.id FROM customers a FULL JOIN (SELECT customer_email AS email FROM orders) b USING (email)",
        "SELECT a.id FROM customers a JOIN orders b ON (a.email, a.id) = (b.customer_email, b.customer_id)",
        "SELECT email FROM customers WHERE id = 1 FOR UPDATE OF customers SKIP LOCKED",
        "SELECT email FROM customers TABLESAMPLE SYSTEM (100) ORDER BY id",
        "TRUNCATE customers",
        "LOCK TABLE customers IN SHARE MODE",
        "GRANT SELECT ON customers TO analyst",
        "COMMENT ON COLUMN customers.email IS 'an address'",
        "CREATE TRIGGER t BEFORE INSERT ON customers FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ])
}
