//! Expressions that pass a protected value on: CASE, COALESCE, NULLIF, casts, window functions, and protected booleans
//! as conditions.

use anyhow::Result;

use crate::{refused, same, same_with};

#[test]
fn case_and_coalesce_choose_among_values() -> Result<()> {
    same(&[
        "SELECT id, CASE WHEN id = 1 THEN email END FROM customers ORDER BY id",
        "SELECT id, CASE WHEN id = 1 THEN email ELSE NULL END AS e FROM customers ORDER BY id",
        "SELECT id, CASE WHEN id < 3 THEN email ELSE 'none' END FROM customers ORDER BY id",
        "SELECT id, CASE WHEN email = 'ada@example.com' THEN email ELSE 'other' END FROM customers ORDER BY id",
        "SELECT id, CASE WHEN id = 1 THEN ssn WHEN id = 2 THEN ssn END FROM customers ORDER BY id",
        "SELECT id, CASE WHEN id = 1 THEN ssn ELSE ssn END FROM customers ORDER BY id",
        "SELECT id, CASE WHEN id = 1 THEN email ELSE ssn END FROM customers ORDER BY id",
        "SELECT id, CASE email WHEN 'ada@example.com' THEN 'a' WHEN 'bob@example.com' THEN 'b' ELSE 'c' END FROM customers ORDER BY id",
        "SELECT id, CASE age WHEN 36 THEN email WHEN 41 THEN ssn END FROM customers ORDER BY id",
        "SELECT id, COALESCE(email, 'none') FROM customers ORDER BY id",
        "SELECT id, coalesce(email, NULL, 'none') AS address FROM customers ORDER BY id",
        "SELECT id, COALESCE(email, ssn) FROM customers ORDER BY id",
        "SELECT id, COALESCE(ssn, email) FROM customers ORDER BY id",
        "SELECT id, COALESCE(ssn, ssn) FROM customers ORDER BY id",
        "SELECT id, COALESCE(ssn, 'longer than eleven characters') FROM customers ORDER BY id",
        "SELECT id, COALESCE(ssn, 'x'::text) FROM customers ORDER BY id",
        "SELECT id, COALESCE(age, 0) FROM customers ORDER BY id",
        "SELECT id, COALESCE(age, -5) FROM customers ORDER BY id",
        "SELECT id, COALESCE(balance, 0) FROM customers ORDER BY id",
        "SELECT id, COALESCE(balance, 0.12345) FROM customers ORDER BY id",
        "SELECT id, COALESCE(balance, '7') FROM customers ORDER BY id",
        "SELECT id, COALESCE(balance, age) FROM customers ORDER BY id",
        "SELECT id, COALESCE(age, balance) FROM customers ORDER BY id",
        "SELECT id, COALESCE(code, 'x') FROM customers ORDER BY id",
        "SELECT id, COALESCE(born, '2000-01-01') FROM customers ORDER BY id",
        "SELECT id, COALESCE(born, date '2000-01-01') FROM customers ORDER BY id",
        "SELECT id, COALESCE(active, false) FROM customers ORDER BY id",
        "SELECT id, COALESCE(token, '00000000-0000-0000-0000-000000000000') FROM customers ORDER BY id",
        "SELECT id, COALESCE(seen, '2000-01-01 00:00:00+00') FROM customers ORDER BY id",
        "SELECT id, COALESCE(notes, '{}') FROM customers ORDER BY id",
        "SELECT id, COALESCE(CASE WHEN id = 1 THEN email END, CASE id WHEN 2 THEN 'two' ELSE ssn END, 'none') FROM customers ORDER BY id",
        "SELECT id, (COALESCE((email), ('none'))) FROM customers ORDER BY id",
        "SELECT id FROM customers WHERE COALESCE(email, 'none') = 'none'",
        "SELECT id FROM customers WHERE COALESCE(email, 'none') IN ('none', 'ada@example.com')",
        "SELECT id FROM customers WHERE COALESCE(email, 'none') = ANY ('{none,bob@example.com}')",
        "SELECT id FROM customers WHERE COALESCE(email, '') <> ''",
        "SELECT id FROM customers WHERE COALESCE(email, ssn) IS NULL",
        "SELECT id FROM customers WHERE CASE WHEN region = 'eu' THEN email ELSE 'x' END = 'x'",
        "SELECT id FROM customers WHERE CASE WHEN region = 'eu' THEN email ELSE 'x' END IS NOT DISTINCT FROM NULL",
        "SELECT id FROM customers WHERE email = COALESCE('ada@example.com', 'x')",
        "SELECT id FROM customers WHERE email = COALESCE(NULL, 'ada@example.com')",
        "SELECT id FROM customers WHERE email = CASE WHEN region = 'eu' THEN 'bob@example.com' ELSE 'eve@example.com' END",
        "SELECT id FROM customers WHERE age = CASE WHEN region = 'eu' THEN 36 ELSE 41 END",
        "SELECT id FROM customers WHERE email = COALESCE('ada@example.com', email)",
        "SELECT c.id FROM customers c JOIN orders o ON COALESCE(o.customer_email, 'none') = COALESCE(c.email, 'none')",
        "SELECT count(COALESCE(email, 'x')), count(CASE WHEN id = 1 THEN email END) FROM customers",
        "SELECT count(DISTINCT COALESCE(email, 'x')) FROM customers",
        "SELECT DISTINCT COALESCE(email, 'x') IS NULL FROM customers",
        "SELECT s.e FROM (SELECT id, COALESCE(email, 'none') AS e FROM customers) s WHERE s.e = 'none'",
        "WITH s AS (SELECT id, COALESCE(email, 'none') AS e FROM customers) SELECT id FROM s WHERE e IN ('none', '')",
        "SELECT sum(CASE WHEN email = 'ada@example.com' THEN 1 ELSE 0 END) FROM customers",
        "SELECT CASE WHEN c.id = 1 THEN c.email ELSE o.customer_email END FROM customers c JOIN orders o ON o.customer_id = c.id ORDER BY o.id",
        "SELECT (SELECT COALESCE(email, 'x') FROM customers WHERE id = 4)",
        "SELECT COALESCE((SELECT email FROM customers WHERE id = 77), 'nobody')",
        "SELECT email, COALESCE(email, 'x') FROM customers WHERE id = 4 UNION ALL SELECT email, email FROM customers WHERE id = 1",
        "SELECT COALESCE(email, 'x') AS e FROM customers ORDER BY id LIMIT 1",
        "SELECT id, COALESCE(\"select\", 'x') FROM \"Odd Names\" ORDER BY id",
        "SELECT id, COALESCE(body, 'x') FROM tenants_notes ORDER BY id",
        "SELECT id, COALESCE(author, 'x') FROM tenants_notes ORDER BY id",
        "SELECT id FROM tenants_notes WHERE tenant_id = 20 AND COALESCE(author, 'x') = 'x'",
        "SELECT id FROM tenants_notes WHERE COALESCE(shared_author, 'x') = 'x'",
    ])?;
    same_with(&[
        (
            "SELECT id, COALESCE(email, $1) FROM customers ORDER BY id",
            &[Some("none")],
        ),
        (
            "SELECT id, COALESCE(email, $1) FROM customers ORDER BY id",
            &[None],
        ),
        (
            "SELECT id, COALESCE($1, email) FROM customers ORDER BY id",
            &[Some("x")],
        ),
        (
            "SELECT id, COALESCE(balance, $1) FROM customers ORDER BY id",
            &[Some("5")],
        ),
        (
            "SELECT id, COALESCE(ssn, $1) FROM customers ORDER BY id",
            &[Some("longer than eleven characters")],
        ),
        (
            "SELECT id, COALESCE(ssn, $1::text) FROM customers ORDER BY id",
            &[Some("none")],
        ),
        (
            "SELECT id, COALESCE(age, $1) FROM customers ORDER BY id",
            &[Some("5")],
        ),
        (
            "SELECT id, COALESCE(code, $1) FROM customers ORDER BY id",
            &[Some("q")],
        ),
        (
            "SELECT id FROM customers WHERE email = COALESCE($1, email)",
            &[None],
        ),
        (
            "SELECT id FROM customers WHERE email = COALESCE($1, email)",
            &[Some("ada@example.com")],
        ),
        (
            "SELECT id FROM customers WHERE email = COALESCE($1, $2)",
            &[None, Some("ada@example.com")],
        ),
        (
            "SELECT id FROM customers WHERE COALESCE(email, $1) = $2",
            &[Some("q"), Some("q")],
        ),
        (
            "SELECT id FROM customers WHERE COALESCE(email, $1) = $1",
            &[Some("q")],
        ),
        (
            "SELECT id, CASE WHEN id = $1 THEN email ELSE $2 END FROM customers ORDER BY id",
            &[Some("1"), Some("q")],
        ),
        (
            "SELECT id, CASE email WHEN $1 THEN 1 WHEN $2 THEN 2 END FROM customers ORDER BY id",
            &[Some("ada@example.com"), None],
        ),
        (
            "SELECT id FROM customers WHERE ($1::text IS NULL OR email = $1) ORDER BY id",
            &[None],
        ),
    ])
}

#[test]
fn nullif_compares_by_the_term() -> Result<()> {
    same(&[
        "SELECT id, NULLIF(email, '') FROM customers ORDER BY id",
        "SELECT id, nullif( email , 'ada@example.com' ) AS n FROM customers ORDER BY id",
        "SELECT id, NULLIF(ssn, '') FROM customers ORDER BY id",
        "SELECT id, NULLIF(ssn, 'x'::varchar) FROM customers ORDER BY id",
        "SELECT id, NULLIF(age, 36) FROM customers ORDER BY id",
        "SELECT id, NULLIF(age, 36::bigint) FROM customers ORDER BY id",
        "SELECT id, NULLIF(balance, 0) FROM customers ORDER BY id",
        "SELECT id, NULLIF(balance, 1200.5) FROM customers ORDER BY id",
        "SELECT id, NULLIF(code, 'AB') FROM customers ORDER BY id",
        "SELECT id, NULLIF(active, true) FROM customers ORDER BY id",
        "SELECT id, NULLIF(born, '1815-12-10') FROM customers ORDER BY id",
        "SELECT id, NULLIF(email, NULL) FROM customers ORDER BY id",
        "SELECT o.id, NULLIF(c.email, o.customer_email) FROM customers c JOIN orders o ON o.customer_id = c.id ORDER BY o.id",
        "SELECT id, COALESCE(NULLIF(email, ''), 'none') FROM customers ORDER BY id",
        "SELECT id, NULLIF(COALESCE(email, ''), '') FROM customers ORDER BY id",
        "SELECT id FROM customers WHERE NULLIF(email, '') IS NULL",
        "SELECT id FROM customers WHERE COALESCE(NULLIF(email, ''), 'none') = 'none'",
        "SELECT NULLIF(email, 'x') IS NULL FROM customers ORDER BY id",
        "SELECT email, NULLIF(email, '') FROM customers GROUP BY email HAVING count(*) > 0 ORDER BY count(*), email IS NULL LIMIT 0",
    ])?;
    same_with(&[
        (
            "SELECT id, NULLIF(email, $1) FROM customers ORDER BY id",
            &[Some("ada@example.com")],
        ),
        (
            "SELECT id, NULLIF(email, $1) FROM customers ORDER BY id",
            &[None],
        ),
        (
            "SELECT id, COALESCE(NULLIF(email, $1), $2) FROM customers ORDER BY id",
            &[Some(""), Some("n")],
        ),
    ])
}

#[test]
fn casts_are_done_when_the_value_is_shown() -> Result<()> {
    same(&[
        "SELECT id, email::text, email::varchar, email::varchar(5), email::char(3) FROM customers ORDER BY id",
        "SELECT id, ssn::text, ssn::varchar, ssn::varchar(11), ssn::varchar(4), CAST(ssn AS char(20)) FROM customers ORDER BY id",
        "SELECT id, age::text, age::varchar, age::bigint, age::numeric, age::float8, age::int FROM customers ORDER BY id",
        "SELECT id, balance::text, balance::numeric, balance::varchar(3) FROM customers ORDER BY id",
        "SELECT id, born::text, born::varchar FROM customers ORDER BY id",
        "SELECT id, code::text, code::bpchar, code::char(3), code::char(9), code::varchar FROM customers ORDER BY id",
        "SELECT id, token::text, active::text, active::varchar, seen::text, seen::date, notes::text, notes::json FROM customers ORDER BY id",
        "SELECT CAST(age AS text) AS a, (age)::text, ((age))::text b FROM customers WHERE id = 1",
        "SELECT age::text::varchar(1), email::varchar::text FROM customers ORDER BY id",
        "SELECT COALESCE(email::varchar, 'x') FROM customers ORDER BY id",
        "SELECT COALESCE(email, 'x')::text, COALESCE(age, 0)::text, COALESCE(ssn, 'x')::varchar(3) FROM customers ORDER BY id",
        "SELECT CASE WHEN id = 1 THEN age::text END FROM customers ORDER BY id",
        "SELECT CASE WHEN id = 1 THEN age::text ELSE age::text END FROM customers ORDER BY id",
        "SELECT s.t FROM (SELECT id, age::text AS t FROM customers) s ORDER BY s.id",
        "SELECT count(age::text) FROM customers",
        "SELECT id FROM customers WHERE age::text IS NULL",
        "SELECT id FROM customers WHERE email::varchar = 'ada@example.com'",
        "SELECT email FROM (SELECT email::varchar AS email FROM customers) s WHERE email = 'ada@example.com'",
        "SELECT email::text FROM customers GROUP BY email HAVING email::text = 'ada@example.com'",
    ])?;
    refused(&[
        "SELECT id FROM customers WHERE age::text = '36'",
        "SELECT id FROM customers WHERE email::varchar(3) = 'ada'",
        "SELECT DISTINCT age::text FROM customers",
        "SELECT age::text, count(*) FROM customers GROUP BY age::text",
        "SELECT COALESCE(age::text, 'none') FROM customers",
        "SELECT email::int FROM customers",
        "SELECT age::smallint FROM customers",
        "SELECT email::bytea FROM customers",
        "SELECT age::text::int FROM customers",
        "SELECT seen::date::text FROM customers ORDER BY id",
        "SELECT balance::numeric(5,1) FROM customers WHERE id = 1",
        "SELECT t FROM (SELECT age::text AS t FROM customers) s WHERE t = '36'",
        "SELECT age::text FROM customers UNION SELECT 'x'",
        "SELECT CASE WHEN id = 1 THEN email::varchar(3) END FROM customers",
        "SELECT lag(email::varchar(3)) OVER (ORDER BY id) FROM customers",
        "SELECT (CASE WHEN true THEN email::varchar(3) ELSE email::varchar(2) END) FROM customers ORDER BY id",
        "SELECT (email::varchar(3))::text FROM customers ORDER BY id",
    ])
}

#[test]
fn window_functions_pass_values_through() -> Result<()> {
    same(&[
        "SELECT id, lag(email) OVER (ORDER BY id) FROM customers ORDER BY id",
        "SELECT id, lag(email, 2) OVER (ORDER BY id) AS before, lead(ssn) OVER (ORDER BY id) FROM customers ORDER BY id",
        "SELECT id, lag(email, 1, 'first') OVER (ORDER BY id) FROM customers ORDER BY id",
        "SELECT id, lead(age, 1, 0) OVER (PARTITION BY region ORDER BY id) FROM customers ORDER BY id",
        "SELECT id, lead(email, 1, email) OVER (ORDER BY id) FROM customers ORDER BY id",
        "SELECT id, first_value(email) OVER w, last_value(email) OVER w, nth_value(email, 2) OVER w FROM customers WINDOW w AS (PARTITION BY region ORDER BY id) ORDER BY id",
        "SELECT id, first_value(email) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM customers ORDER BY id",
        "SELECT id, row_number() OVER (PARTITION BY email ORDER BY id) FROM customers ORDER BY id",
        "SELECT id, rank() OVER (PARTITION BY ssn, region ORDER BY id), count(*) OVER (PARTITION BY age) FROM customers ORDER BY id",
        "SELECT id, count(email) OVER (PARTITION BY ssn), count(email) OVER () FROM customers ORDER BY id",
        "SELECT id, count(*) OVER w FROM customers WINDOW w AS (PARTITION BY born ORDER BY id) ORDER BY id",
        "SELECT id, row_number() OVER (PARTITION BY COALESCE(email, 'none') ORDER BY id) FROM customers ORDER BY id",
        "SELECT id FROM (SELECT id, email, row_number() OVER (PARTITION BY ssn ORDER BY id DESC) AS n FROM customers) s WHERE n = 1 ORDER BY id",
        "SELECT id, e FROM (SELECT id, lag(email) OVER (ORDER BY id) AS e FROM customers) s WHERE e = 'ada@example.com'",
        "SELECT id, email = lag(email) OVER (ORDER BY id) FROM customers ORDER BY id",
        "SELECT id, lag(email) OVER (ORDER BY id) IS NULL FROM customers ORDER BY id",
        "SELECT id, COALESCE(lag(email) OVER (ORDER BY id), 'first') FROM customers ORDER BY id",
        "SELECT id, lag(email) OVER (ORDER BY email IS NULL, id) FROM customers ORDER BY id",
        "SELECT id, count(*) FILTER (WHERE email = 'ada@example.com') OVER (ORDER BY id) FROM customers ORDER BY id",
        "SELECT id, lag(author) OVER (PARTITION BY tenant_id ORDER BY id), count(*) OVER (PARTITION BY tenant_id, author) FROM tenants_notes ORDER BY id",
    ])?;
    same_with(&[(
        "SELECT id, lag(email, $2, $1) OVER (ORDER BY id) FROM customers ORDER BY id",
        &[Some("first"), Some("1")],
    )])?;
    refused(&[
        "SELECT id, row_number() OVER (ORDER BY email) FROM customers",
        "SELECT id, rank() OVER (PARTITION BY region ORDER BY age) FROM customers",
        "SELECT id, count(*) OVER (PARTITION BY author) FROM tenants_notes",
        "SELECT id, max(email) OVER () FROM customers",
        "SELECT id, lag(email, 1, plain) OVER (ORDER BY id) FROM customers",
    ])
}

#[test]
fn protected_booleans_are_conditions() -> Result<()> {
    same(&[
        "SELECT id FROM customers WHERE active",
        "SELECT id FROM customers WHERE NOT active",
        "SELECT id FROM customers WHERE (active) AND id > 1",
        "SELECT id FROM customers WHERE active OR id = 4",
        "SELECT id FROM customers WHERE active IS TRUE",
        "SELECT id FROM customers WHERE active IS NOT TRUE",
        "SELECT id FROM customers WHERE active IS FALSE",
        "SELECT id FROM customers WHERE active IS NOT FALSE",
        "SELECT id FROM customers WHERE active IS UNKNOWN",
        "SELECT id FROM customers WHERE active IS NOT UNKNOWN",
        "SELECT id FROM customers WHERE NOT (active AND region = 'eu')",
        "SELECT id FROM customers WHERE active = true AND NOT active = false",
        "SELECT id, CASE WHEN active THEN 'yes' WHEN NOT active THEN 'no' ELSE 'unknown' END FROM customers ORDER BY id",
        "SELECT id, NOT active, active IS TRUE FROM customers ORDER BY id",
        "SELECT bool_and(active), bool_or(active), every(active) FROM customers",
        "SELECT region, bool_or(active) FROM customers GROUP BY region ORDER BY region",
        "SELECT count(*) FILTER (WHERE active), count(*) FILTER (WHERE NOT active) FROM customers",
        "SELECT bool_or(email = 'ada@example.com') FROM customers",
        "SELECT active, count(*) FROM customers GROUP BY active HAVING active",
        "SELECT CASE WHEN email = 'ada@example.com' THEN 'a' ELSE 'b' END AS kind, count(*) FROM customers GROUP BY CASE WHEN email = 'ada@example.com' THEN 'a' ELSE 'b' END ORDER BY CASE WHEN email = 'ada@example.com' THEN 'a' ELSE 'b' END",
        "SELECT email IN ('ada@example.com', 'bob@example.com') AS known, count(*) FROM customers GROUP BY email IN ('ada@example.com', 'bob@example.com') ORDER BY 1",
        "SELECT c.id FROM customers c JOIN orders o ON c.active AND o.customer_id = c.id ORDER BY o.id",
        "SELECT id FROM customers WHERE COALESCE(active, false)",
        "SELECT id FROM customers WHERE NOT COALESCE(active, false)",
        "SELECT id FROM customers WHERE (SELECT c.active FROM customers c WHERE c.id = customers.id)",
        "UPDATE customers SET plain = 'x' WHERE active RETURNING id",
        "DELETE FROM customers WHERE active IS UNKNOWN RETURNING id",
    ])?;
    refused(&[
        "SELECT id FROM customers WHERE email",
        "SELECT id FROM customers WHERE NOT age",
    ])
}

#[test]
fn chosen_values_are_written() -> Result<()> {
    same(&[
        "UPDATE customers SET email = CASE WHEN id = 1 THEN 'a@x' WHEN id = 2 THEN 'b@x' ELSE NULL END WHERE id IN (1, 2) RETURNING id, email",
        "UPDATE customers SET email = CASE WHEN id = 1 THEN 'a@x' ELSE email END RETURNING id, email",
        "UPDATE customers SET email = COALESCE('new@x', email) WHERE id = 1 RETURNING email",
        "UPDATE customers SET email = COALESCE(NULL, email) WHERE id = 1 RETURNING email",
        "UPDATE customers SET email = COALESCE(email, 'new@x') WHERE id IN (1, 4) RETURNING id, email",
        "UPDATE customers SET ssn = (CASE WHEN (customers.id = 1) THEN '1' WHEN (customers.id = 2) THEN '2' ELSE NULL END)::varchar(11) WHERE id IN (1, 2) RETURNING id, ssn",
        "UPDATE customers SET age = (CASE WHEN id = 1 THEN 1 WHEN id = 2 THEN 2 ELSE NULL END)::integer WHERE id IN (1, 2) RETURNING id, age",
        "UPDATE customers SET age = CASE WHEN id = 1 THEN 1 ELSE age END WHERE id IN (1, 2) RETURNING id, age",
        "UPDATE customers SET balance = CASE id WHEN 1 THEN 1 WHEN 2 THEN 2.345 END WHERE id IN (1, 2) RETURNING id, balance",
        "UPDATE customers SET active = CASE WHEN active THEN false ELSE true END RETURNING id, active",
        "UPDATE customers SET email = CASE WHEN id = 1 THEN NULL END WHERE id = 1 RETURNING email",
        "UPDATE customers SET email = NULL WHERE id = 1 RETURNING email",
        "UPDATE customers SET email = NULLIF(email, '') RETURNING id, email",
        "UPDATE customers SET email = CASE WHEN email = 'ada@example.com' THEN 'lovelace@x' ELSE email END RETURNING id, email",
        "UPDATE customers SET age = CASE WHEN id = 1 THEN '1' ELSE '2' END WHERE id = 1",
        "INSERT INTO customers (id, region, email) VALUES (20, 'eu', COALESCE(NULL, 'x@x')) RETURNING email",
        "INSERT INTO customers (id, region, email) VALUES (20, 'eu', CASE WHEN 1 = 1 THEN 'x@x' ELSE 'y' END), (21, 'eu', NULL) RETURNING email",
        "INSERT INTO orders (id, customer_id, customer_email) SELECT id + 100, id, COALESCE(email, 'none') FROM customers RETURNING id, customer_email",
        "INSERT INTO orders (id, customer_id, customer_email) SELECT id + 100, id, CASE WHEN id = 1 THEN email ELSE 'none' END FROM customers RETURNING id, customer_email",
        "INSERT INTO customers (id, region, email) VALUES (1, 'eu', 'new@x') ON CONFLICT (id) DO UPDATE SET email = COALESCE(EXCLUDED.email, customers.email) RETURNING email",
        "INSERT INTO customers (id, region, email) VALUES (1, 'eu', NULL) ON CONFLICT (id) DO UPDATE SET email = COALESCE(EXCLUDED.email, customers.email, 'none') RETURNING email",
        "UPDATE tenants_notes SET author = COALESCE(author, 'nobody') WHERE tenant_id = 20 RETURNING id, author",
    ])?;
    same_with(&[
        (
            "UPDATE customers SET email = COALESCE($1, email) WHERE id = $2 RETURNING email",
            &[Some("n@x"), Some("1")],
        ),
        (
            "UPDATE customers SET email = COALESCE($1, email) WHERE id = $2 RETURNING email",
            &[None, Some("1")],
        ),
        (
            "UPDATE customers SET email = CASE WHEN id = $1 THEN $2 WHEN id = $3 THEN $4 END WHERE id IN ($1, $3) RETURNING id, email",
            &[Some("1"), Some("a@x"), Some("2"), Some("b@x")],
        ),
        (
            "UPDATE customers SET ssn = COALESCE($1, ssn), age = COALESCE($2, age) WHERE id = 1 RETURNING ssn, age",
            &[Some("1"), None],
        ),
        (
            "INSERT INTO customers (id, region, email) VALUES (20, 'eu', COALESCE($1, $2)) RETURNING email",
            &[None, Some("q@x")],
        ),
    ])?;
    refused(&[
        "UPDATE customers SET ssn = COALESCE(ssn, 'longer than eleven characters') WHERE id = 1",
        "UPDATE customers SET email = COALESCE(plain, email)",
        "UPDATE customers SET email = lower('X')",
        "INSERT INTO customers (id, region, email) SELECT id + 100, region, COALESCE(email, 'x@x') || '' FROM customers WHERE false",
        "SELECT id, CASE email WHEN NULL THEN 1 WHEN plain THEN 2 END FROM orders o JOIN customers USING (id) WHERE false",
        "UPDATE tenants_notes SET author = COALESCE(author, 'nobody')",
    ])
}

#[test]
fn union_tells_rows_apart_by_terms() -> Result<()> {
    // The order of rows is the server's choice, so every statement sorts or counts.
    same(&[
        "SELECT count(*) FROM (SELECT email FROM customers UNION SELECT customer_email FROM orders) s",
        "SELECT count(*), count(email) FROM (SELECT email FROM customers UNION DISTINCT SELECT NULL) s",
        "SELECT id, email FROM customers UNION SELECT customer_id, customer_email FROM orders WHERE customer_id IN (1, 2) ORDER BY id",
        "SELECT id AS n, email AS address FROM customers UNION SELECT 77, 'x' ORDER BY n DESC LIMIT 3",
        "SELECT id, email FROM customers WHERE id = 1 UNION (SELECT id, email FROM customers ORDER BY id LIMIT 1) ORDER BY 1",
        "SELECT 1, email FROM customers WHERE id = 1 UNION SELECT 1, email FROM customers WHERE id = 1",
        "SELECT region, ssn FROM customers WHERE id IN (1, 3) UNION SELECT region, ssn FROM customers WHERE id = 1 ORDER BY region",
        "SELECT id, email FROM customers UNION SELECT id, email FROM customers UNION ALL SELECT 99, NULL ORDER BY id",
        "SELECT id, email FROM customers UNION ALL SELECT 98, 'lit' UNION ALL SELECT 99, NULL ORDER BY id",
        "SELECT id, ssn FROM customers UNION ALL SELECT 99, 'longer than eleven characters' ORDER BY id",
        "SELECT id, balance FROM customers UNION ALL SELECT 99, 0 ORDER BY id",
        "SELECT 0 AS id, NULL AS email UNION ALL SELECT id, email FROM customers ORDER BY id",
        "SELECT id FROM customers WHERE email IN (SELECT customer_email FROM orders UNION SELECT 'eve@example.com') ORDER BY id",
        "SELECT s.id FROM (SELECT id, email FROM customers UNION SELECT 50, 'q') s WHERE s.email = 'q'",
        "WITH u AS (SELECT email FROM customers UNION SELECT customer_email FROM orders) SELECT count(*) FROM u WHERE email = 'ada@example.com'",
        "SELECT count(*) FROM (SELECT author FROM tenants_notes WHERE tenant_id = 10 UNION SELECT author FROM tenants_notes WHERE tenant_id = 10) s",
        "INSERT INTO orders (id, customer_id, customer_email) SELECT 100, 1, email FROM customers WHERE id = 1 UNION SELECT 100, 1, email FROM customers WHERE id = 1 RETURNING id, customer_email",
        "SELECT count(*) FROM (SELECT age, active, born FROM customers UNION SELECT age, active, born FROM customers) s",
    ])?;
    same_with(&[(
        "SELECT id, email FROM customers UNION SELECT $1::int, $2 ORDER BY id",
        &[Some("1"), Some("ada@example.com")],
    )])?;
    refused(&[
        "SELECT author FROM tenants_notes UNION SELECT author FROM tenants_notes",
        "SELECT email FROM customers UNION SELECT plain FROM customers",
        "SELECT notes FROM customers UNION SELECT notes FROM customers",
    ])
}
