//! Statements that only read, and that must be answered.

use anyhow::Result;

use crate::{refused, same, same_with};

#[test]
fn protected_columns_read_as_plain_ones() -> Result<()> {
    same(&[
        "SELECT * FROM customers",
        "SELECT c.* FROM customers c",
        "SELECT customers.* FROM customers",
        "TABLE customers",
        "SELECT id, email FROM customers ORDER BY id",
        "SELECT email AS address, ssn \"Number\" FROM public.customers AS c WHERE c.id = 1",
        "select EMAIL, Customers.Ssn from CUSTOMERS where ID = 2",
        "SELECT (email), ((c.ssn)) FROM customers c",
        "SELECT balance, born, code, token, active, seen, notes FROM customers",
        "SELECT email, email FROM customers WHERE id = 1",
        "SELECT 1, email, 'x' FROM customers",
        "SELECT email FROM ONLY customers",
        "SELECT email FROM customers ORDER BY id DESC LIMIT 2 OFFSET 1",
        "SELECT email FROM customers ORDER BY id FETCH FIRST 2 ROWS ONLY",
        "SELECT id FROM customers WHERE region = 'eu'",
        "SELECT count(*) FROM customers",
        "SELECT region, count(*) FROM customers GROUP BY region ORDER BY region",
        "SELECT c.id, c.email, length(c.plain) FROM customers c WHERE c.id < 3",
        "SELECT email FROM customers WHERE id IN (1, 2) FOR UPDATE",
        "SELECT \"E Mail\", \"select\" FROM \"Odd Names\" ORDER BY id",
        "SELECT o.\"E Mail\" FROM public.\"Odd Names\" o WHERE o.\"E Mail\" = 'odd@example.com'",
        "SELECT id /* email */, email -- the address\n FROM customers WHERE id = 1",
        "SELECT email, 'it''s', E'\\n', $$dollar$$ FROM customers WHERE id = 1",
        "SELECT ctid IS NOT NULL, email FROM customers WHERE id = 1",
        "SELECT t.email FROM (SELECT * FROM customers) t ORDER BY t.id",
        "SELECT s.mail FROM (SELECT id, email FROM customers) AS s (number, mail) ORDER BY s.number",
        "WITH c AS (SELECT id, email FROM customers) SELECT email FROM c WHERE id = 3",
        "WITH c (a, b) AS MATERIALIZED (SELECT id, email FROM customers) SELECT b FROM c WHERE a = 3",
        "SELECT id FROM customers WHERE id = (SELECT max(customer_id) FROM orders WHERE item = 'pen')",
        "SELECT (SELECT email FROM customers WHERE id = 1)",
        "SELECT o.id, (SELECT c.email FROM customers c WHERE c.id = o.customer_id) FROM orders o",
    ])
}

#[test]
fn equality_holds_in_every_spelling() -> Result<()> {
    same(&[
        "SELECT id FROM customers WHERE email = 'ada@example.com'",
        "SELECT id FROM customers WHERE 'ada@example.com' = email",
        "SELECT id FROM customers WHERE email = 'ada@example.com'::text",
        "SELECT id FROM customers WHERE email = CAST('ada@example.com' AS text)",
        "SELECT id FROM customers WHERE email = 'ADA@example.com'",
        "SELECT id FROM customers WHERE email = ''",
        "SELECT id FROM customers WHERE email = 'Ünïcödé@example.com'",
        "SELECT id FROM customers WHERE email = E'ada\\x40example.com'",
        "SELECT id FROM customers WHERE email <> 'ada@example.com'",
        "SELECT id FROM customers WHERE email != 'ada@example.com'",
        "SELECT id FROM customers WHERE NOT email = 'ada@example.com'",
        "SELECT id FROM customers WHERE email IN ('ada@example.com', 'bob@example.com')",
        "SELECT id FROM customers WHERE email IN ('ada@example.com', NULL)",
        "SELECT id FROM customers WHERE email NOT IN ('ada@example.com', 'bob@example.com')",
        "SELECT id FROM customers WHERE email NOT IN ('ada@example.com', NULL)",
        "SELECT id FROM customers WHERE email = ANY (ARRAY['ada@example.com', 'x'])",
        "SELECT id FROM customers WHERE email = ANY ('{ada@example.com,bob@example.com,NULL}')",
        "SELECT id FROM customers WHERE email IS DISTINCT FROM 'ada@example.com'",
        "SELECT id FROM customers WHERE email IS NOT DISTINCT FROM 'ada@example.com'",
        "SELECT id FROM customers WHERE email IS NOT DISTINCT FROM NULL",
        "SELECT id FROM customers WHERE email = NULL",
        "SELECT id FROM customers WHERE (email, region) = ('ada@example.com', 'eu')",
        "SELECT id FROM customers WHERE (email, id) IN (('ada@example.com', 1), ('bob@example.com', 3))",
        "SELECT id FROM customers WHERE email = 'ada@example.com' OR ssn = '222-22-2222'",
        "SELECT id FROM customers WHERE email = 'ada@example.com' AND region = 'us'",
        "SELECT id, email = 'ada@example.com' FROM customers",
        "SELECT id, email = 'ada@example.com' AS is_ada, email IS NULL FROM customers ORDER BY id",
        "SELECT id FROM customers WHERE email IN (SELECT customer_email FROM orders)",
        "SELECT id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_email = c.email)",
        "SELECT id FROM customers c WHERE NOT EXISTS (SELECT FROM orders o WHERE c.email = o.customer_email)",
        "SELECT id FROM customers WHERE (CASE WHEN email = 'ada@example.com' THEN 1 ELSE 2 END) = 1",
    ])
}

#[test]
fn equality_follows_the_rules_of_each_type() -> Result<()> {
    same(&[
        "SELECT id FROM customers WHERE age = 36",
        "SELECT id FROM customers WHERE age = '36'",
        "SELECT id FROM customers WHERE age = 36::bigint",
        "SELECT id FROM customers WHERE age = 36.0",
        "SELECT id FROM customers WHERE age = -1",
        "SELECT id FROM customers WHERE age = 36.5",
        "SELECT id FROM customers WHERE age = 99999999999",
        "SELECT id FROM customers WHERE age IN (36, 41, NULL)",
        "SELECT id FROM customers WHERE balance = 1200.5",
        "SELECT id FROM customers WHERE balance = 1200.500",
        "SELECT id FROM customers WHERE balance = 0",
        "SELECT id FROM customers WHERE balance = 1200.501",
        "SELECT id FROM customers WHERE balance = -7.1",
        "SELECT id FROM customers WHERE ssn = '111-11-1111'",
        "SELECT id FROM customers WHERE ssn = 'longer than eleven characters'",
        "SELECT id FROM customers WHERE ssn = ''",
        "SELECT id FROM customers WHERE ssn = '111-11-1111 '",
        "SELECT id FROM customers WHERE code = 'AB'",
        "SELECT id FROM customers WHERE code = 'AB   '",
        "SELECT id FROM customers WHERE code = ''",
        "SELECT id FROM customers WHERE born = '1815-12-10'",
        "SELECT id FROM customers WHERE born = date '1815-12-10'",
        "SELECT id FROM customers WHERE born = 'infinity'",
        "SELECT id FROM customers WHERE born = 'December 10, 1815'",
        "SELECT id FROM customers WHERE token = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
        "SELECT id FROM customers WHERE token = '{a0eebc999c0b4ef8bb6d6bb9bd380a11}'",
        "SELECT id FROM customers WHERE active = true",
        "SELECT id FROM customers WHERE active = 'yes'",
        "SELECT id FROM customers WHERE active <> false",
        "SELECT id FROM customers WHERE seen = '2024-02-29 12:34:56.789+00'",
        "SELECT id FROM customers WHERE seen = timestamptz '2024-02-29 14:34:56.789+02'",
        "SELECT id FROM customers WHERE seen = 'infinity'",
    ])
}

#[test]
fn parameters_compare_as_literals_do() -> Result<()> {
    let ada = Some("ada@example.com");
    let bob = Some("bob@example.com");
    same_with(&[
        ("SELECT id, email FROM customers WHERE email = $1", &[ada]),
        ("SELECT id, email FROM customers WHERE $1 = email", &[ada]),
        ("SELECT id FROM customers WHERE email = $1::text", &[ada]),
        ("SELECT id FROM customers WHERE email = $1", &[None]),
        ("SELECT id FROM customers WHERE email <> $1", &[ada]),
        (
            "SELECT id FROM customers WHERE email IN ($1, $2)",
            &[ada, bob],
        ),
        ("SELECT id FROM customers WHERE email IN ($1, $1)", &[ada]),
        (
            "SELECT id FROM customers WHERE email NOT IN ($1, $2)",
            &[ada, None],
        ),
        (
            "SELECT id FROM customers WHERE email = ANY ($1)",
            &[Some("{ada@example.com,\"bob@example.com\"}")],
        ),
        (
            "SELECT id FROM customers WHERE email = ANY ($1::text[])",
            &[Some("{}")],
        ),
        (
            "SELECT id FROM customers WHERE email = ANY ($1)",
            &[Some("{NULL,ada@example.com}")],
        ),
        (
            "SELECT id FROM customers WHERE email IS NOT DISTINCT FROM $1",
            &[None],
        ),
        (
            "SELECT id FROM customers WHERE email IS DISTINCT FROM $1",
            &[ada],
        ),
        (
            "SELECT id FROM customers WHERE (email, region) = ($1, $2)",
            &[ada, Some("eu")],
        ),
        (
            "SELECT id FROM customers WHERE email = $2 AND id = $1",
            &[Some("1"), ada],
        ),
        (
            "SELECT id FROM customers WHERE region = $1 AND email = $2 AND plain = $3",
            &[Some("eu"), ada, Some("p1")],
        ),
        (
            "SELECT id FROM customers WHERE age = $1 AND balance = $2",
            &[Some("36"), Some("1200.5")],
        ),
        ("SELECT id FROM customers WHERE age = $1", &[Some("0")]),
        (
            "SELECT id FROM customers WHERE age = ANY ($1)",
            &[Some("{36,41}")],
        ),
        (
            "SELECT id FROM customers WHERE born = $1",
            &[Some("1815-12-10")],
        ),
        (
            "SELECT id FROM customers WHERE token = $1",
            &[Some("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")],
        ),
        ("SELECT id FROM customers WHERE active = $1", &[Some("t")]),
        (
            "SELECT id FROM customers WHERE seen = $1",
            &[Some("2024-02-29 12:34:56.789+00")],
        ),
        ("SELECT id FROM customers WHERE code = $1", &[Some("AB")]),
        (
            "SELECT id FROM customers WHERE ssn = $1",
            &[Some("111-11-1111")],
        ),
        ("SELECT id FROM customers LIMIT $1", &[Some("0")]),
        (
            "SELECT $1::int + id, email FROM customers WHERE id = $2",
            &[Some("5"), Some("1")],
        ),
        ("SELECT * FROM customers WHERE id = $1", &[Some("1")]),
        ("SELECT * FROM customers WHERE id = $1", &[Some("4")]),
        ("SELECT * FROM customers WHERE id = $1", &[Some("5")]),
    ])
}

#[test]
fn one_parameter_may_play_two_parts() -> Result<()> {
    let ada = Some("ada@example.com");
    same_with(&[
        (
            "SELECT id FROM customers WHERE email = $1 OR plain = $1",
            &[ada],
        ),
        (
            "SELECT $1::text, id FROM customers WHERE email = $1",
            &[ada],
        ),
        (
            "SELECT c.id FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.email = $1 AND o.customer_email = $1",
            &[ada],
        ),
    ])
}

#[test]
fn null_tests_see_the_plaintext_null() -> Result<()> {
    same(&[
        "SELECT id FROM customers WHERE email IS NULL",
        "SELECT id FROM customers WHERE email IS NOT NULL",
        "SELECT id FROM customers WHERE notes IS NULL",
        "SELECT id, email IS NULL FROM customers",
        "SELECT count(email), count(*) FROM customers",
        "SELECT id FROM customers WHERE email ISNULL OR ssn NOTNULL",
        "SELECT id FROM customers WHERE (email IS NULL) = (ssn IS NULL)",
    ])
}

#[test]
fn distinct_and_groups_go_by_value() -> Result<()> {
    same(&[
        "SELECT DISTINCT ssn FROM customers",
        "SELECT DISTINCT age FROM customers",
        "SELECT DISTINCT balance FROM customers",
        "SELECT DISTINCT region, age FROM customers",
        "SELECT DISTINCT code FROM customers",
        "SELECT DISTINCT region FROM customers",
        "SELECT count(DISTINCT ssn) FROM customers",
        "SELECT count(DISTINCT age), count(DISTINCT region) FROM customers",
        "SELECT region, count(DISTINCT ssn) FROM customers GROUP BY region ORDER BY region",
        "SELECT ssn, count(*) FROM customers GROUP BY ssn",
        "SELECT age, count(*) FROM customers GROUP BY age HAVING count(*) > 1",
        "SELECT age, region, max(id) FROM customers GROUP BY age, region",
        "SELECT ssn FROM customers GROUP BY ssn",
        "SELECT c.ssn AS number, count(*) FROM customers c GROUP BY c.ssn",
        "SELECT count(*) FROM customers GROUP BY ssn",
        "SELECT seen, count(*) FROM customers GROUP BY seen",
    ])
}

#[test]
fn joins_go_by_value() -> Result<()> {
    same(&[
        "SELECT c.id, o.id FROM customers c JOIN orders o ON c.email = o.customer_email",
        "SELECT c.email, o.customer_email, o.total FROM customers c JOIN orders o ON o.customer_email = c.email",
        "SELECT c.id, o.id FROM customers c LEFT JOIN orders o ON c.email = o.customer_email",
        "SELECT c.id, o.id FROM customers c RIGHT JOIN orders o ON c.email = o.customer_email",
        "SELECT c.id, o.id FROM customers c FULL JOIN orders o ON c.email = o.customer_email",
        "SELECT c.email, o.total FROM customers c, orders o WHERE c.email = o.customer_email",
        "SELECT c.email, o.total FROM customers c JOIN orders o ON c.id = o.customer_id ORDER BY o.id",
        "SELECT c.email, o.total FROM customers c LEFT JOIN orders o ON c.id = o.customer_id AND o.customer_email = 'ada@example.com'",
        "SELECT a.id, b.id FROM customers a JOIN customers b ON a.ssn = b.ssn AND a.id < b.id",
        "SELECT a.id, b.id FROM customers a JOIN customers b USING (ssn)",
        "SELECT ssn, a.id FROM customers a JOIN customers b USING (ssn)",
        "SELECT c.email, p.email FROM customers c JOIN public_people p ON p.id = c.id",
        "SELECT c.email FROM customers c CROSS JOIN public_people p ORDER BY c.id, p.id",
        "SELECT c.email, t.item FROM customers c, LATERAL (SELECT item FROM orders o WHERE o.customer_id = c.id) t",
    ])
}

#[test]
fn set_operations_that_keep_every_row_are_answered() -> Result<()> {
    same(&[
        "SELECT email FROM customers UNION ALL SELECT customer_email FROM orders",
        "SELECT id, email FROM customers WHERE id = 1 UNION ALL SELECT id, email FROM customers WHERE id = 2",
        "(SELECT email FROM customers WHERE id = 1) UNION ALL (SELECT email FROM customers WHERE id = 2)",
        "SELECT region FROM customers UNION SELECT item FROM orders",
        "SELECT id FROM customers WHERE email IS NULL UNION SELECT id FROM orders",
    ])
}

#[test]
fn errors_of_the_server_keep_their_code_and_place() -> Result<()> {
    same(&[
        "SELECT no_such_column FROM customers",
        "SELECT email, no_such FROM customers WHERE email = 'ada@example.com'",
        "SELECT email FROM no_such_table, customers",
        "SELECT email FROM customers WHERE email = 'ada@example.com' AND no_such = 1",
        "SELECT c.email FROM customers d",
        "SELECT email FROM customers GROUP BY region",
        "SELECT 1/0, email FROM customers",
        "SELECT email FROM customers WHERE age = 'not a number'",
        "SELECT email FROM customers WHERE born = 'not a date'",
        "SELECT email FROM customers WHERE token = 'not a uuid'",
        "SELECT email FROM customers a, customers b",
    ])
}

#[test]
fn what_names_nothing_protected_is_untouched() -> Result<()> {
    same(&[
        "SELECT 1",
        "",
        ";",
        "-- only a comment",
        "SELECT * FROM public_people ORDER BY id",
        "SELECT p.email FROM public_people p WHERE p.email LIKE 'ada%'",
        "VALUES (1, 'a'), (2, 'b')",
        "SELECT generate_series(1, 3)",
        "SHOW server_version",
        "EXPLAIN (COSTS OFF) SELECT * FROM public_people",
        "CREATE TABLE made_here (id int)",
        "INSERT INTO public_people VALUES (9, 'x', 1) RETURNING *",
        "DO $$ BEGIN NULL; END $$",
        "SELECT nonsense(",
        "SELECT 1 AS \"?column?\", NULL, true, 1.5, 'text', now() IS NOT NULL",
    ])
}

#[test]
fn a_value_is_compared_with_each_of_several_columns() -> Result<()> {
    same(&[
        "SELECT c.id, o.id FROM customers c JOIN orders o ON o.customer_id = c.id WHERE 'ada@example.com' = ANY (ARRAY[c.email, o.customer_email]) ORDER BY 1, 2",
        "SELECT c.id, o.id FROM customers c JOIN orders o ON o.customer_id = c.id WHERE 'ada@example.com' <> ALL (ARRAY[c.email, o.customer_email]) ORDER BY 1, 2",
        "SELECT c.id, o.id FROM customers c JOIN orders o ON o.customer_id = c.id WHERE 'ada@example.com' = ALL (ARRAY[c.email, o.customer_email]) ORDER BY 1, 2",
        "SELECT c.id, o.id, 'bob@example.com' <> ANY (ARRAY[c.email, o.customer_email]) AS n FROM customers c, orders o ORDER BY 1, 2",
        "SELECT id, NULL = ANY (ARRAY[email]) AS n, 'x' = ANY (ARRAY[email, email]) AS x FROM customers ORDER BY id",
        "SELECT id, '36' = ANY (ARRAY[age]) AS a, 36.0 = ANY (ARRAY[age]) AS b, 36.5 = ANY (ARRAY[age]) AS c FROM customers ORDER BY id",
        "SELECT id, 'x  ' = ANY (ARRAY[code]) AS a, 'x'::text = ANY (ARRAY[code]) AS b FROM customers ORDER BY id",
        "SELECT id, (date '2000-01-01' + 1) = ANY (ARRAY[born, born]) AS a FROM customers ORDER BY id",
        "SELECT id FROM customers WHERE 'no number' = ANY (ARRAY[age])",
        "SELECT id FROM tenants_notes WHERE tenant_id = 20 AND 'ada@example.com' = ANY (ARRAY[author, author]) ORDER BY id",
        "SELECT id FROM tenants_notes WHERE 'ada@example.com' = ANY (ARRAY[shared_author]) ORDER BY id",
    ])?;
    same_with(&[
        (
            "SELECT c.id, o.id FROM customers c JOIN orders o ON o.customer_id = c.id WHERE $1 = ANY (ARRAY[c.email, o.customer_email]) ORDER BY 1, 2",
            &[Some("ada@example.com")],
        ),
        (
            "SELECT id, $1 <> ALL (ARRAY[email, email]) AS n FROM customers ORDER BY id",
            &[None],
        ),
        (
            "SELECT id FROM customers WHERE $1 = ANY (ARRAY[ssn, ssn]) ORDER BY id",
            &[Some("a longer text than that")],
        ),
        (
            "SELECT id FROM customers WHERE $1 = ANY (ARRAY[age]) ORDER BY id",
            &[Some("36")],
        ),
        (
            "SELECT id FROM customers WHERE $1::int8 = ANY (ARRAY[age]) ORDER BY id",
            &[Some("36")],
        ),
    ])?;
    refused(&[
        "SELECT id FROM customers WHERE 'x' = ANY (ARRAY[email, ssn])",
        "SELECT id FROM customers WHERE 'x' = ANY (ARRAY[email, plain])",
        "SELECT id FROM customers WHERE 'x' = ANY (ARRAY[email, 'y'])",
        "SELECT id FROM visits WHERE 'x' = ANY (ARRAY[tags])",
        "SELECT id FROM tenants_notes WHERE 'x' = ANY (ARRAY[author])",
    ])
}
