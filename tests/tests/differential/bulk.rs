//! Bulk statements: arrays as parameters and literals, taken apart by `unnest`, that are stored and compared.

use anyhow::Result;

use crate::{refused, same, same_with};

const MAILS: &str = "{a@example.com,NULL,\"b \\\"c\\\" d\",\"\"}";

#[test]
fn arrays_are_stored_element_by_element() -> Result<()> {
    same_with(&[
        (
            "INSERT INTO orders (id, customer_id, customer_email) SELECT * FROM unnest($1::int[], $2::int[], $3::text[]) RETURNING id, customer_email, total",
            &[Some("{101,102,103,104}"), Some("{1,2,3,4}"), Some(MAILS)],
        ),
        (
            "INSERT INTO orders (id, customer_id, customer_email) SELECT t.id, 7, t.mail FROM unnest($1::int[], $2::text[]) AS t(id, mail) RETURNING *",
            &[Some("{101,102,103,104}"), Some(MAILS)],
        ),
        (
            "INSERT INTO orders (id, customer_id, customer_email, total) SELECT unnest($1::int[]), 1, unnest($2::text[]), unnest($3::numeric[]) RETURNING id, customer_email, total",
            &[
                Some("{101,102,103}"),
                Some("{x,y}"),
                Some("{1.5,2.005,NULL}"),
            ],
        ),
        (
            "INSERT INTO customers (id, region, ssn, age, balance, born, code, token, active, seen, notes) SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::int8[], $5::numeric[], $6::date[], $7::bpchar[], $8::uuid[], $9::bool[], $10::timestamptz[], $11::jsonb[]) RETURNING *",
            &[
                Some("{101,102}"),
                Some("{eu,us}"),
                Some("{111,222}"),
                Some("{5,NULL}"),
                Some("{1,2.345}"),
                Some("{2020-01-01,infinity}"),
                Some("{a,bcd}"),
                Some("{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,NULL}"),
                Some("{t,f}"),
                Some("{2020-01-01 00:00:00+00,NULL}"),
                Some("{\"{\\\"a\\\": 1}\",null}"),
            ],
        ),
        (
            "INSERT INTO orders (id, customer_id, customer_email) SELECT n, 1, mail FROM unnest($1::text[]) WITH ORDINALITY AS u(mail, n) WHERE n > 1 RETURNING id, customer_email",
            &[Some("{a,b,c}")],
        ),
        (
            "INSERT INTO orders (id, customer_id, customer_email) SELECT 101, 1, mail FROM unnest($1::text[]) AS mail RETURNING id, customer_email",
            &[None],
        ),
        (
            "INSERT INTO orders (id, customer_id, customer_email) SELECT * FROM unnest($1::int[], $2::int[], $3::text[]) RETURNING id",
            &[Some("{}"), Some("{}"), Some("{}")],
        ),
        (
            "INSERT INTO customers (id, region, email) SELECT i, 'eu', e FROM unnest($1::int[], $2::text[]) AS u(i, e) ON CONFLICT (email) DO UPDATE SET region = 'again' RETURNING id, region, email",
            &[Some("{201,202}"), Some("{ada@example.com,new@example.com}")],
        ),
        (
            "INSERT INTO customers (id, region, email) SELECT i, 'eu', e FROM unnest($1::int[], $2::text[]) AS u(i, e) RETURNING id",
            &[Some("{201,202}"), Some("{ada@example.com,new@example.com}")],
        ),
        (
            "INSERT INTO customers (id, region, ssn) SELECT i, 'eu', s FROM unnest($1::int[], $2::text[]) AS u(i, s) RETURNING id",
            &[Some("{201,202}"), Some("{ok,much too long for it}")],
        ),
        (
            "INSERT INTO tenants_notes (id, tenant_id, author, body) SELECT * FROM unnest($1::int[], $2::int[], $3::text[], $4::text[]) RETURNING *",
            &[
                Some("{11,12,13}"),
                Some("{10,20,10}"),
                Some("{x,y,z}"),
                Some("{b1,NULL,b3}"),
            ],
        ),
        (
            "INSERT INTO tenants_notes (id, tenant_id, author) SELECT i, $3, a FROM unnest($1::int[], $2::text[]) AS u(i, a) RETURNING *",
            &[Some("{11,12}"), Some("{x,y}"), Some("10")],
        ),
        (
            "WITH added AS (INSERT INTO tenants_notes (id, tenant_id, author) SELECT * FROM unnest($1::int[], $2::int[], $3::text[]) RETURNING *) SELECT id, author FROM added WHERE tenant_id = 20 AND author = $4",
            &[
                Some("{11,12,13}"),
                Some("{10,20,20}"),
                Some("{x,y,x}"),
                Some("x"),
            ],
        ),
    ])?;
    same(&[
        "INSERT INTO orders (id, customer_id, customer_email) SELECT 101, 1, unnest('{a}'::text[]) RETURNING customer_email",
        "INSERT INTO orders (id, customer_id, customer_email) SELECT * FROM unnest('{101,102}'::int[], '{1,2}'::int[], '{a,NULL}'::text[]) RETURNING id, customer_email",
    ])
}

#[test]
fn elements_are_compared_by_their_terms() -> Result<()> {
    same_with(&[
        (
            "SELECT id FROM customers WHERE email IN (SELECT unnest($1::text[])) ORDER BY id",
            &[Some("{ada@example.com,nobody,NULL,\"\"}")],
        ),
        (
            "SELECT id FROM customers WHERE email = ANY (SELECT x FROM unnest($1::text[]) AS x) ORDER BY id",
            &[Some("{ada@example.com,bob@example.com}")],
        ),
        (
            "SELECT id FROM customers WHERE email NOT IN (SELECT * FROM unnest($1::text[])) ORDER BY id",
            &[Some("{ada@example.com}")],
        ),
        (
            "SELECT id FROM customers WHERE email NOT IN (SELECT unnest($1::text[])) ORDER BY id",
            &[Some("{ada@example.com,NULL}")],
        ),
        (
            "SELECT id FROM tenants_notes WHERE tenant_id = $1 AND author IN (SELECT unnest($2::text[])) ORDER BY id",
            &[Some("10"), Some("{ada,bob}")],
        ),
        (
            "SELECT id FROM customers WHERE email = ANY (ARRAY[$1, $2]) ORDER BY id",
            &[Some("ada@example.com"), Some("eve@example.com")],
        ),
        (
            "SELECT c.id, c.email FROM customers c JOIN unnest($1::text[]) AS u(x) ON c.email = u.x ORDER BY c.id",
            &[Some("{ada@example.com,ada@example.com,NULL,nobody}")],
        ),
        (
            "SELECT c.id, u.n FROM customers c LEFT JOIN unnest($1::text[], $2::int[]) AS u(x, n) ON u.x = c.email ORDER BY c.id, u.n",
            &[
                Some("{ada@example.com,bob@example.com,nobody}"),
                Some("{7,8}"),
            ],
        ),
        (
            "SELECT c.* FROM customers c, unnest($1::text[]) AS x WHERE c.ssn = x ORDER BY c.id",
            &[Some("{111-11-1111}")],
        ),
        (
            "SELECT id FROM customers c WHERE EXISTS (SELECT 1 FROM unnest($1::text[]) AS x WHERE x = c.email) ORDER BY id",
            &[Some("{ada@example.com,bob@example.com}")],
        ),
        (
            "UPDATE customers SET email = u.mail, region = 'bulk' FROM unnest($1::int[], $2::text[]) AS u(id, mail) WHERE customers.id = u.id RETURNING customers.id, customers.email, region",
            &[Some("{1,2,3}"), Some("{new@example.com,NULL,\"x y\"}")],
        ),
        (
            "UPDATE customers SET email = u.email FROM (SELECT unnest($1::int[]) AS id, unnest($2::text[]) AS email) AS u WHERE customers.id = u.id RETURNING customers.id, customers.email",
            &[Some("{1,2}"), Some("{new@example.com,other@example.com}")],
        ),
        (
            "UPDATE tenants_notes SET body = u.b FROM unnest($1::int[], $2::text[]) AS u(i, b) WHERE tenants_notes.id = u.i AND tenant_id = $3 RETURNING tenants_notes.id, body",
            &[Some("{1,2,3}"), Some("{a,b,c}"), Some("10")],
        ),
        (
            "DELETE FROM customers WHERE email IN (SELECT unnest($1::text[])) RETURNING id",
            &[Some("{ada@example.com}")],
        ),
    ])?;
    same(&[
        "SELECT id FROM customers WHERE email IN (SELECT unnest('{ada@example.com}'::text[])) ORDER BY id",
    ])
}

#[test]
fn arrays_that_are_used_otherwise_too() -> Result<()> {
    refused(&[
        "INSERT INTO orders (id, customer_id, customer_email) SELECT 101, 1, m FROM unnest('{a}'::text[]) AS m WHERE m <> 'x'",
        "INSERT INTO orders (id, customer_id, item, customer_email) SELECT 101, 1, m, m FROM unnest('{a}'::text[]) AS m",
        "INSERT INTO orders (id, customer_id, customer_email) SELECT 101, 1, m FROM unnest('{b,a}'::text[]) AS m ORDER BY m",
        "INSERT INTO orders (id, customer_id, customer_email) SELECT 101, 1, m FROM unnest('{b,a}'::text[]) AS m ORDER BY 3",
        "INSERT INTO orders (id, customer_id, customer_email) SELECT DISTINCT 101, 1, m FROM unnest('{a,a}'::text[]) AS m",
        "INSERT INTO orders (id, customer_id, customer_email) SELECT 101, 1, lower(m) FROM unnest('{a}'::text[]) AS m",
        "INSERT INTO orders (id, customer_id, customer_email) SELECT max(i), 1, m FROM unnest('{101}'::int[], '{a}'::text[]) AS u(i, m) GROUP BY m",
        "INSERT INTO orders (id, customer_id, customer_email) SELECT i, 1, m FROM unnest('{101}'::int[], '{a}'::text[]) AS u(i, m) WHERE u IS NOT NULL",
        "INSERT INTO tenants_notes (id, author) SELECT i, m FROM unnest('{101}'::int[], '{a}'::text[]) AS u(i, m)",
        "SELECT id FROM customers WHERE email IN (SELECT x FROM unnest('{a}'::text[]) AS x WHERE x > 'a')",
        "SELECT id FROM tenants_notes WHERE author IN (SELECT unnest('{ada}'::text[]))",
        "SELECT * FROM customers c JOIN unnest('{ada@example.com}'::text[]) AS u(x) ON c.email = u.x",
        "SELECT c.id, u.x FROM customers c JOIN unnest('{ada@example.com}'::text[]) AS u(x) ON c.email = u.x",
        "SELECT c.id, u FROM customers c JOIN unnest('{ada@example.com}'::text[]) AS u(x) ON c.email = u.x",
        "SELECT c.id FROM customers c JOIN unnest('{ada@example.com}'::text[]) AS u(x) ON c.email = u.x ORDER BY x",
        "UPDATE tenants_notes SET body = u.b FROM unnest('{1}'::int[], '{a}'::text[]) AS u(i, b) WHERE tenants_notes.id = u.i",
        "UPDATE customers SET email = u.m, plain = u.m FROM unnest('{1}'::int[], '{a}'::text[]) AS u(i, m) WHERE customers.id = u.i",
        "UPDATE customers SET email = u.m FROM unnest('{1}'::int[], '{a}'::text[]) AS u(i, m) WHERE customers.id = u.i RETURNING *",
    ])
}

#[test]
fn columns_of_values_are_cast_where_they_are_used() -> Result<()> {
    same_with(&[
        (
            "UPDATE customers c SET born = v.b::date FROM (VALUES ($1::int, $2), ($3, $4)) AS v(i, b) WHERE c.id = v.i RETURNING born",
            &[Some("1"), Some("2001-02-03"), Some("2"), None],
        ),
        (
            "UPDATE customers c SET born = v.b::date, age = v.a::int FROM (VALUES ($1, $2, $3)) AS v(i, b, a) WHERE c.id = v.i::int",
            &[Some("1"), Some("no date"), Some("7")],
        ),
        (
            "INSERT INTO customers (id, region, born, token, active) SELECT i::int, 'eu', b::date, t::uuid, a::bool FROM (VALUES ($1, $2, $3, $4)) AS v(i, b, t, a) RETURNING born, token, active",
            &[
                Some("100"),
                Some("infinity"),
                Some("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"),
                Some("off"),
            ],
        ),
    ])
}

#[test]
fn parameters_are_rounded_by_their_casts() -> Result<()> {
    same_with(&[
        (
            "UPDATE customers SET balance = $1::numeric(12,2) WHERE id = 1 RETURNING balance",
            &[Some("1.005")],
        ),
        (
            "UPDATE customers SET balance = CAST($1 AS numeric(12, 2)) WHERE id = 1",
            &[Some("123456789012")],
        ),
        (
            "SELECT id FROM customers WHERE balance = $1::numeric(12,2)",
            &[Some("1200.4999")],
        ),
        (
            "SELECT id FROM customers WHERE balance IN ($1::numeric(12,2), $2::numeric(12,2)) ORDER BY id",
            &[Some("1200.504"), Some("-0.001")],
        ),
    ])
}

#[test]
fn parameters_have_the_types_that_the_server_finds() -> Result<()> {
    let address: &[Option<&str>] = &[Some("ada@example.com")];
    let null: &[Option<&str>] = &[None];
    same_with(&[
        (
            "SELECT id FROM customers WHERE $1 IS NULL OR email = $1",
            address,
        ),
        (
            "SELECT id FROM customers WHERE email = $1 OR $1 IS NULL ORDER BY id",
            address,
        ),
        (
            "SELECT id FROM customers WHERE email = $1 OR ($1) IS NULL ORDER BY id",
            null,
        ),
        (
            "SELECT id FROM customers WHERE $1::text IS NULL OR email = $1",
            address,
        ),
        (
            "SELECT $1 IS NULL FROM customers c JOIN orders o ON c.email = $1 ORDER BY 1",
            address,
        ),
    ])
}
