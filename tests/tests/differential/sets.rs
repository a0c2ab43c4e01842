//! Set operations, DISTINCT ON, groups over expressions and grouping sets, lists and rows of literals: what compares
//! rows as a whole, by terms.

use anyhow::Result;

use crate::{refused, same, same_with};

#[test]
fn intersect_and_except() -> Result<()> {
    same(&[
        "SELECT email FROM customers INTERSECT SELECT customer_email FROM orders",
        "SELECT email FROM customers INTERSECT ALL SELECT customer_email FROM orders",
        "SELECT customer_email FROM orders INTERSECT ALL SELECT customer_email FROM orders",
        "SELECT email FROM customers EXCEPT SELECT customer_email FROM orders",
        "SELECT customer_email FROM orders EXCEPT DISTINCT SELECT email FROM customers",
        "SELECT customer_email FROM orders EXCEPT ALL SELECT email FROM customers",
        "SELECT ssn FROM customers INTERSECT ALL SELECT ssn FROM customers WHERE id > 1",
        "SELECT ssn FROM customers EXCEPT ALL SELECT ssn FROM customers WHERE id > 1",
        "SELECT id, region, email, ssn FROM customers EXCEPT SELECT id, region, email, ssn FROM customers WHERE id > 1",
        "SELECT balance, born FROM customers INTERSECT SELECT balance, born FROM customers WHERE id IN (1, 6)",
        "SELECT id, email FROM customers EXCEPT SELECT id, email FROM customers WHERE region = 'eu' ORDER BY id LIMIT 2",
        "SELECT email AS e, id FROM customers EXCEPT SELECT email, id FROM customers WHERE id = 4 ORDER BY 2 DESC OFFSET 1",
        "SELECT email FROM customers EXCEPT SELECT 'ada@example.com'",
        "SELECT 'ada@example.com' INTERSECT SELECT email FROM customers",
        "SELECT email FROM customers EXCEPT VALUES ('ada@example.com'), ('bob@example.com')",
        "SELECT id, email, 'a' FROM customers INTERSECT SELECT id, email, 'a' FROM customers WHERE id > 2",
        "SELECT id, email, 5 FROM customers EXCEPT SELECT id, email, 5.0 FROM customers WHERE id > 2",
        "(SELECT email FROM customers ORDER BY id LIMIT 2) EXCEPT (SELECT customer_email FROM orders WHERE id = 1)",
        "(SELECT email FROM customers EXCEPT SELECT customer_email FROM orders) UNION ALL SELECT customer_email FROM orders",
        "SELECT customer_email FROM orders UNION SELECT email FROM customers INTERSECT SELECT email FROM customers WHERE id = 1",
        "SELECT customer_email FROM orders UNION SELECT email FROM customers EXCEPT SELECT email FROM customers WHERE id = 1",
        "SELECT customer_email FROM orders EXCEPT SELECT email FROM customers EXCEPT SELECT customer_email FROM orders WHERE id = 4",
        "SELECT count(*) FROM (SELECT email FROM customers EXCEPT SELECT customer_email FROM orders) s",
        "SELECT id FROM customers WHERE email IN (SELECT email FROM customers INTERSECT SELECT customer_email FROM orders)",
        "SELECT EXISTS (SELECT email FROM customers INTERSECT SELECT customer_email FROM orders)",
        "WITH a AS (SELECT email FROM customers), b AS (SELECT customer_email FROM orders) SELECT * FROM a INTERSECT SELECT * FROM b",
        "INSERT INTO orders (id, customer_id, customer_email) SELECT id + 100, id, email FROM customers EXCEPT
            SELECT id + 100, id, email FROM customers WHERE id > 2 RETURNING id, customer_email",
        "SELECT tenant_id, author FROM tenants_notes INTERSECT SELECT tenant_id, author FROM tenants_notes WHERE id > 1",
        "SELECT tenant_id, author FROM tenants_notes UNION SELECT tenant_id, author FROM tenants_notes",
        "SELECT author FROM tenants_notes WHERE tenant_id = 10 EXCEPT SELECT author FROM tenants_notes WHERE tenant_id = 10 AND id = 1",
        "SELECT shared_author FROM tenants_notes EXCEPT SELECT shared_author FROM tenants_notes WHERE tenant_id = 20",
        "SELECT customer_email AS e FROM orders EXCEPT SELECT email FROM customers ORDER BY e IS NULL",
    ])?;
    same_with(&[
        (
            "SELECT email FROM customers INTERSECT SELECT $1",
            &[Some("ada@example.com")],
        ),
        (
            "SELECT id, email FROM customers WHERE email = $1 INTERSECT SELECT id, email FROM customers WHERE id > $2",
            &[Some("ada@example.com"), Some("0")],
        ),
        (
            "SELECT id, email, $1 FROM customers INTERSECT SELECT id, email, 'a' FROM customers WHERE id > 2",
            &[Some("a")],
        ),
    ])?;
    refused(&[
        "SELECT author FROM tenants_notes WHERE tenant_id = 10 EXCEPT SELECT author FROM tenants_notes WHERE tenant_id = 20",
        "SELECT author FROM tenants_notes INTERSECT SELECT author FROM tenants_notes",
        "SELECT body FROM tenants_notes INTERSECT SELECT body FROM tenants_notes",
        "SELECT email, ssn FROM customers EXCEPT SELECT ssn, email FROM customers",
        "SELECT id, email, '5' FROM customers EXCEPT SELECT id, email, 5 FROM customers",
        "SELECT id, email, NULL FROM customers EXCEPT SELECT id, email, plain FROM customers",
        "SELECT email FROM customers INTERSECT SELECT plain FROM customers",
        "SELECT customer_email FROM orders EXCEPT ALL SELECT email FROM customers ORDER BY 1",
    ])
}

#[test]
fn distinct_on_and_over_expressions() -> Result<()> {
    same(&[
        "SELECT count(*) FROM (SELECT DISTINCT ON (customer_email) * FROM orders) t",
        "SELECT DISTINCT ON (ssn) ssn FROM customers",
        "SELECT DISTINCT ON (1) ssn FROM customers",
        "SELECT DISTINCT ON (x) ssn AS x FROM customers",
        "SELECT DISTINCT ON (region, ssn) region, ssn FROM customers",
        "SELECT count(*) FROM (SELECT DISTINCT ON (ssn, region) * FROM customers ORDER BY region) t",
        "SELECT count(*) FROM (SELECT DISTINCT ON (COALESCE(ssn, 'x')) id FROM customers) t",
        "SELECT DISTINCT ON (tenant_id, author) tenant_id, author FROM tenants_notes",
        "SELECT DISTINCT COALESCE(email, 'none') FROM customers",
        "SELECT DISTINCT COALESCE(ssn, 'none') AS s, region FROM customers",
        "SELECT DISTINCT region, CASE WHEN id > 2 THEN email END FROM customers",
        "SELECT DISTINCT CASE WHEN id > 2 THEN ssn ELSE 'small' END FROM customers",
        "SELECT DISTINCT NULLIF(ssn, '') FROM customers",
        "SELECT DISTINCT COALESCE(author, 'x') FROM tenants_notes WHERE tenant_id = 10",
    ])?;
    same_with(&[(
        "SELECT DISTINCT COALESCE(email, $1) FROM customers",
        &[Some("none")],
    )])?;
    refused(&[
        "SELECT DISTINCT ON (author) author FROM tenants_notes",
        "SELECT DISTINCT ON (total) total FROM orders",
        "SELECT DISTINCT tenant_id, COALESCE(author, 'x') FROM tenants_notes",
        "SELECT DISTINCT COALESCE(email, region) FROM customers",
        "SELECT DISTINCT (SELECT email FROM customers c WHERE c.id = o.customer_id) FROM orders o",
    ])
}

#[test]
fn groups_over_expressions() -> Result<()> {
    same(&[
        "SELECT COALESCE(ssn, 'none'), count(*) FROM customers GROUP BY COALESCE(ssn, 'none')",
        "SELECT COALESCE(ssn, 'none'), count(*) FROM customers GROUP BY 1",
        "SELECT COALESCE(ssn, 'none') AS s, count(*) FROM customers GROUP BY s",
        "SELECT max(id), COALESCE(ssn, 'none') AS s FROM customers GROUP BY region, s",
        "SELECT count(*) FROM customers GROUP BY COALESCE(ssn, 'none')",
        "SELECT CASE WHEN id > 2 THEN ssn END, count(*) FROM customers GROUP BY 1",
        "SELECT CASE WHEN region = 'eu' THEN ssn ELSE NULL END, count(*) FROM customers
            GROUP BY CASE WHEN region = 'eu' THEN ssn ELSE NULL END",
        "SELECT CASE WHEN region = 'eu' THEN ssn END AS s, count(*) FROM customers GROUP BY s HAVING count(*) > 0",
        "SELECT NULLIF(ssn, ''), count(*) FROM customers GROUP BY 1",
        "SELECT NULLIF(ssn, ''), count(*) FROM customers GROUP BY NULLIF(ssn, '')",
        "SELECT ssn, COALESCE(ssn, 'none') FROM customers GROUP BY ssn, COALESCE(ssn, 'none')",
        "SELECT ssn, COALESCE(ssn, 'none') FROM customers GROUP BY 1, 2",
        "SELECT ssn::text, count(*) FROM customers GROUP BY ssn::text",
        "SELECT ssn::text, count(*) FROM customers GROUP BY 1",
        "SELECT ssn FROM customers GROUP BY ssn::text",
        "SELECT region, ssn FROM customers GROUP BY (region, ssn)",
        "SELECT COALESCE(author, 'x'), count(*) FROM tenants_notes WHERE tenant_id = 10 GROUP BY 1",
        "SELECT COALESCE(ssn, 'none') FROM customers GROUP BY COALESCE(ssn, 'other')",
    ])?;
    same_with(&[
        (
            "SELECT COALESCE(ssn, $1), count(*) FROM customers GROUP BY COALESCE(ssn, $1)",
            &[Some("none")],
        ),
        (
            "SELECT COALESCE(ssn, $1), count(*) FROM customers GROUP BY 1",
            &[Some("none")],
        ),
    ])?;
    refused(&[
        "SELECT COALESCE(ssn, 'none') FROM customers GROUP BY COALESCE(ssn, 'none') HAVING COALESCE(ssn, 'none') = 'none'",
        "SELECT tenant_id, COALESCE(author, 'x'), count(*) FROM tenants_notes GROUP BY 1, 2",
        "SELECT COALESCE(ssn, 'none'), count(*) FROM customers GROUP BY ROLLUP (1)",
        "SELECT age::bigint, count(*) FROM customers GROUP BY 1",
    ])
}

#[test]
fn grouping_sets() -> Result<()> {
    same(&[
        "SELECT region, ssn, count(*) FROM customers GROUP BY ROLLUP (region, ssn)",
        "SELECT region, ssn, count(*) FROM customers GROUP BY CUBE (region, ssn)",
        "SELECT region, ssn, count(*) FROM customers GROUP BY GROUPING SETS ((region), (ssn), ())",
        "SELECT region, ssn, grouping(region, ssn) FROM customers GROUP BY GROUPING SETS ((region), (ssn), ())",
        "SELECT region, ssn FROM customers GROUP BY region, ROLLUP (ssn) HAVING ssn IS NULL",
        "SELECT region, ssn FROM customers GROUP BY region, ROLLUP (ssn) HAVING ssn = '111-11-1111'",
        "SELECT COALESCE(ssn, 'total'), count(*) FROM customers GROUP BY ROLLUP (ssn)",
        "SELECT age IS NULL, GROUPING(age), count(*) FROM customers GROUP BY ROLLUP (age)",
        "SELECT author, count(*) FROM tenants_notes WHERE tenant_id = 10 GROUP BY ROLLUP (author)",
        "SELECT tenant_id, author, count(*) FROM tenants_notes GROUP BY tenant_id, ROLLUP (author)",
    ])?;
    // The tenant is no key of every group.
    refused(&[
        "SELECT tenant_id, author, count(*) FROM tenants_notes GROUP BY ROLLUP (tenant_id, author)",
        "SELECT tenant_id, author, count(*) FROM tenants_notes GROUP BY GROUPING SETS ((tenant_id), (author))",
    ])
}

#[test]
fn lists_give_their_values_a_type() -> Result<()> {
    same(&[
        "SELECT id FROM customers WHERE code IN ('AB   ', 'CD')",
        "SELECT id FROM customers WHERE code IN ('AB   '::text, 'CD')",
        "SELECT id FROM customers WHERE code IN ('AB   '::text)",
        "SELECT id FROM customers WHERE code = 'AB   '::text",
        "SELECT id FROM customers WHERE ssn IN ('111-11-1111'::char(14), '222-22-2222')",
        "SELECT id FROM customers WHERE age IN ('36', 1.5)",
        "SELECT id FROM customers WHERE age IN ('36.5', 1.5)",
        "SELECT id FROM customers WHERE age IN ('3000000000', 41)",
        "SELECT id FROM customers WHERE age IN ('3000000000', 41::bigint)",
        "SELECT id FROM customers WHERE born IN ('1970-01-01 10:00', '1970-01-01'::timestamp)",
        "SELECT id FROM customers WHERE born IN ('1970-01-01 10:00', '1970-01-01')",
        "SELECT id FROM visits WHERE net IN ('10.0.0.0/8', '10.0.0.1/8')",
        "SELECT id FROM visits WHERE net IN ('10.0.0.1/8')",
        "SELECT id FROM visits WHERE net IN ('10.0.0.1/8', '10.0.0.0/8'::inet)",
        "SELECT id FROM customers WHERE age = ANY(ARRAY['36', '41'])",
        "SELECT id FROM customers WHERE age = ANY(ARRAY['36', '41']::int[])",
        "SELECT id FROM customers WHERE age = ANY(ARRAY['36', 41])",
        "SELECT id FROM visits WHERE net = ANY(ARRAY['10.0.0.0/8', '::/0'])",
        "SELECT CASE age WHEN '36' THEN 'a' WHEN 1.5 THEN 'b' END FROM customers",
    ])?;
    same_with(&[
        ("SELECT id FROM customers WHERE ssn IN ($1)", &[Some("")]),
        (
            "SELECT id FROM customers WHERE ssn IN ($1, $2)",
            &[Some("111-11-1111"), Some("")],
        ),
        (
            "SELECT id FROM customers WHERE ssn NOT IN ($1, 'x')",
            &[Some("111-11-1111")],
        ),
        (
            "SELECT id FROM customers WHERE ssn IN ($1, $2::text)",
            &[Some("111-11-1111"), Some("")],
        ),
        (
            "SELECT id FROM customers WHERE ssn IN ($1, ssn)",
            &[Some("111-11-1111")],
        ),
        (
            "SELECT id FROM customers WHERE ssn IN ($1, ssn, NULL)",
            &[Some("111-11-1111")],
        ),
        (
            "SELECT id FROM customers WHERE ssn::text IN ($1, $2)",
            &[Some("111-11-1111"), Some("")],
        ),
        (
            "SELECT id FROM customers WHERE ssn IN ($1, (SELECT ssn FROM customers WHERE id = 1))",
            &[Some("")],
        ),
        (
            "SELECT id FROM customers WHERE (ssn, id) IN (($1, 1), ($2, 2))",
            &[Some("111-11-1111"), Some("")],
        ),
        (
            "SELECT CASE ssn WHEN $1 THEN 1 WHEN $2 THEN 2 END FROM customers",
            &[Some("111-11-1111"), Some("")],
        ),
        (
            "SELECT id FROM customers WHERE ssn = ANY(ARRAY[$1, $2])",
            &[Some("111-11-1111"), Some("")],
        ),
        (
            "SELECT id FROM customers WHERE code IN ($1::varchar, $2::varchar) OR code IN ($1::varchar, 'AB ')",
            &[Some("AB  "), Some("CD")],
        ),
        (
            "SELECT id FROM customers WHERE ssn = ANY(ARRAY[$1, $2]::varchar[])",
            &[Some("111-11-1111"), Some("")],
        ),
        (
            "SELECT id FROM customers WHERE age IN ($1, $2, $3)",
            &[Some("36"), None, Some("7")],
        ),
        (
            "SELECT id FROM customers WHERE age IN ($1, 3000000000)",
            &[Some("36")],
        ),
        (
            "SELECT id FROM customers WHERE age = ANY(ARRAY[$1, $2])",
            &[Some("36"), Some("41")],
        ),
        (
            "SELECT id FROM customers WHERE age = ANY(ARRAY[$1, 41])",
            &[Some("36")],
        ),
        (
            "SELECT id FROM customers WHERE born IN ($1, '1970-01-01'::timestamp)",
            &[Some("1970-01-01 10:00")],
        ),
        (
            "SELECT id FROM visits WHERE net IN ($1, $2)",
            &[Some("10.0.0.0/8"), Some("::/0")],
        ),
        (
            "SELECT id FROM visits WHERE at IN ($1, $2)",
            &[Some("10:00"), Some("24:00")],
        ),
        (
            "SELECT id FROM customers WHERE $1 IN (email, email)",
            &[Some("ada@example.com")],
        ),
        (
            "SELECT CASE $1 WHEN ssn THEN 1 ELSE 0 END FROM customers",
            &[Some("111-11-1111")],
        ),
    ])
}

#[test]
fn rows_of_literals() -> Result<()> {
    same(&[
        "SELECT id FROM customers WHERE email IN (VALUES ('ada@example.com'), ('bob@example.com'))",
        "SELECT id FROM customers WHERE email NOT IN (VALUES ('ada@example.com'), (NULL))",
        "SELECT id FROM customers WHERE email = ANY (VALUES ('ada@example.com'), ('bob@example.com'))",
        "SELECT id FROM customers WHERE email = SOME (VALUES ('ada@example.com'), (NULL))",
        "SELECT id FROM customers WHERE email <> ALL (VALUES ('ada@example.com'), ('x'))",
        "SELECT id FROM customers WHERE email <> ALL (VALUES ('ada@example.com'), (NULL))",
        "SELECT id FROM customers WHERE (email, id) = ANY (VALUES ('ada@example.com', 1), ('bob@example.com', 3))",
        "SELECT id FROM customers WHERE NOT email = ANY (VALUES ('ada@example.com'))",
        "SELECT id FROM customers WHERE age IN (VALUES ('36'))",
        "SELECT id FROM customers WHERE age IN (VALUES (36), (41.0))",
        "SELECT id FROM customers WHERE code IN (VALUES ('AB  '))",
        "SELECT id FROM customers WHERE (email, id) IN (VALUES ('ada@example.com', 1), ('bob@example.com', 3))",
        "SELECT id FROM customers WHERE email = (SELECT 'ada@example.com')",
        "SELECT id FROM customers WHERE age = (SELECT '36')",
        "SELECT id FROM customers WHERE email IN (SELECT 'ada@example.com' UNION ALL SELECT 'bob@example.com')",
        "SELECT id FROM customers WHERE email <> ALL (SELECT 'ada@example.com')",
        "SELECT id FROM customers WHERE email IN (SELECT 'ada@example.com' LIMIT 1)",
        "SELECT c.id, v.n FROM customers c JOIN (VALUES ('ada@example.com', 1), ('bob@example.com', 2)) AS v(e, n) ON v.e = c.email",
        "SELECT v.n, c.id FROM (VALUES ('ada@example.com', 1), ('x', 2)) v(e, n) LEFT JOIN customers c ON c.email = v.e ORDER BY v.n",
        "SELECT c.id FROM customers c, (SELECT 'ada@example.com' AS e) v WHERE v.e = c.email",
        "SELECT id FROM customers WHERE (id, email) = (SELECT customer_id, customer_email FROM orders WHERE id = 1)",
        "UPDATE customers SET email = v.e FROM (VALUES (1, 'new@example.com'), (2, NULL)) AS v(id, e)
            WHERE customers.id = v.id RETURNING customers.id, email",
        "UPDATE customers SET age = v.e FROM (VALUES (1, 44), (2, 45)) AS v(id, e) WHERE customers.id = v.id RETURNING age",
        "SELECT email FROM customers UNION ALL VALUES ('x'), ('y')",
        "SELECT email FROM customers UNION VALUES ('ada@example.com')",
        "WITH v(e) AS (VALUES ('ada@example.com'), ('bob@example.com')) SELECT c.id FROM customers c JOIN v ON v.e = c.email",
        "WITH v AS (SELECT 'ada@example.com' AS e, 1 AS n) SELECT c.id, x.n FROM customers c JOIN v x ON x.e = c.email",
        "SELECT id FROM customers WHERE 'ada@example.com' IN (email, ssn)",
        "SELECT id FROM customers WHERE '111-11-1111' NOT IN (email, ssn, code) OR id = 4",
        "SELECT id FROM customers WHERE '36' IN (age, ssn)",
        "SELECT id FROM customers WHERE NULL IN (email, ssn)",
        "SELECT ARRAY[email, 'x'] FROM customers",
        "SELECT ARRAY[ssn, 'x', NULL] FROM customers",
    ])?;
    same_with(&[
        (
            "SELECT id FROM customers WHERE email IN (VALUES ($1), ($2))",
            &[Some("ada@example.com"), Some("bob@example.com")],
        ),
        (
            "SELECT id FROM customers WHERE ssn IN (SELECT $1::varchar UNION ALL SELECT $2)",
            &[Some("111-11-1111"), Some("")],
        ),
        (
            "SELECT c.id, v.n FROM customers c JOIN (VALUES ($1, 1), ($2, 2)) AS v(e, n) ON v.e = c.email",
            &[Some("ada@example.com"), Some("bob@example.com")],
        ),
        (
            "SELECT id FROM customers WHERE email = (SELECT $1::text)",
            &[Some("ada@example.com")],
        ),
        (
            "UPDATE customers SET email = v.e FROM (VALUES (1, $1), (2, $2)) AS v(id, e) WHERE customers.id = v.id",
            &[Some("a@b.c"), None],
        ),
        (
            "WITH v(e) AS (VALUES ($1), ($2)) SELECT c.id FROM customers c JOIN v ON v.e = c.email",
            &[Some("ada@example.com"), None],
        ),
        (
            "SELECT id FROM customers WHERE $1 IN (email, ssn)",
            &[Some("111-11-1111")],
        ),
        ("SELECT ARRAY[email, $1] FROM customers", &[Some("x")]),
    ])?;
    refused(&[
        "SELECT v.e, c.id FROM (VALUES ('ada@example.com', 1)) v(e, n) LEFT JOIN customers c ON c.email = v.e",
        "SELECT * FROM (VALUES ('ada@example.com', 1)) v(e, n) JOIN customers c ON c.email = v.e",
        "WITH v(e) AS (VALUES ('ada@example.com')) SELECT c.id, v.e FROM customers c JOIN v ON v.e = c.email",
        "WITH v(e) AS (VALUES ('ada@example.com')) SELECT a.id FROM customers a, v, v w WHERE v.e = a.email",
        "WITH v(e) AS (VALUES ('ada@example.com')) SELECT a.id, (SELECT count(*) FROM v w WHERE w IS NOT NULL) FROM customers a, v WHERE v.e = a.email",
        "SELECT id FROM customers WHERE email IN (SELECT 'ada@example.com' UNION SELECT 'bob@example.com')",
        "SELECT id FROM customers WHERE email IN (SELECT 'ada@example.com' ORDER BY 1)",
        "SELECT id FROM customers WHERE 'ada@example.com' IN (email, plain)",
        "SELECT id FROM customers WHERE code IN ($1::text, $2)",
    ])
}
