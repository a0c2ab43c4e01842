//! Statements that write, and that must be answered.

use anyhow::Result;

use crate::{same, same_with};

#[test]
fn inserts_are_taken_in_every_shape() -> Result<()> {
    same(&[
        "INSERT INTO customers (id, region, email) VALUES (100, 'eu', 'new@example.com')",
        "INSERT INTO customers (email, id, region) VALUES ('new@example.com', 100, 'eu') RETURNING *",
        "INSERT INTO customers (id, region, email, age) VALUES (100, 'eu', NULL, NULL) RETURNING id, email, age",
        "INSERT INTO customers (id, region, email) VALUES (100, 'eu', DEFAULT) RETURNING email",
        "INSERT INTO customers (id, region, email) VALUES (100, 'a', 'x'), (101, 'b', NULL), (102, 'c', 'y') RETURNING id, email",
        "INSERT INTO customers VALUES (100, 'eu', 'all@example.com', '1', 2, 3, '2000-01-01', 'c', NULL, 'on', 'epoch', '{}', 'p') RETURNING *",
        "INSERT INTO customers VALUES (100, 'eu', 'short@example.com') RETURNING *",
        "INSERT INTO public.customers AS c (id, region, balance) VALUES (100, 'eu', 1.005) RETURNING c.balance",
        "INSERT INTO customers (id, region, balance) VALUES (100, 'eu', 7) RETURNING balance",
        "INSERT INTO customers (id, region, code) VALUES (100, 'eu', 'ab') RETURNING code",
        "INSERT INTO customers (id, region, ssn) VALUES (100, 'eu', '12345678901   ') RETURNING ssn",
        "INSERT INTO customers (id, region, age) VALUES (100, 'eu', '42') RETURNING age",
        "INSERT INTO customers (id, region, age) VALUES (100, 'eu', 42::smallint) RETURNING age",
        "INSERT INTO customers (id, region, email) VALUES (50 + 50, upper('eu'), 'x') RETURNING id, region, email",
        "INSERT INTO customers (id, region, notes) VALUES (100, 'eu', '{\"b\": 1, \"a\": [1, 2, {\"c\": null}], \"b\": 2}') RETURNING notes",
        "INSERT INTO customers (id, region, seen) VALUES (100, 'eu', '2024-07-01 12:00:00 Europe/Berlin') RETURNING seen",
        "INSERT INTO orders (id, customer_id, item) SELECT id + 1000, id, plain FROM customers RETURNING *",
        "INSERT INTO orders (id, customer_id, customer_email) SELECT id + 1000, id, email FROM customers",
        "INSERT INTO orders (id, customer_id, customer_email) SELECT 1000, 1, email FROM customers WHERE email = 'ada@example.com' RETURNING customer_email",
        "WITH made AS (INSERT INTO customers (id, region, email) VALUES (100, 'eu', 'cte@example.com') RETURNING id, email) SELECT * FROM made",
        "INSERT INTO \"Odd Names\" (id, \"E Mail\") VALUES (100, 'new') RETURNING *",
        "INSERT INTO customers (id, region, email) VALUES (100, 'eu', upper('x')), (101, 'eu', 'a' || 'b' || trim(' c ')) RETURNING email",
        "INSERT INTO customers (id, region, code) VALUES (100, 'eu', rtrim('ab--', '-')) RETURNING code",
        "INSERT INTO orders (id, customer_id, customer_email) SELECT id, customer_id, customer_email FROM json_populate_recordset(NULL::orders, '[{\"id\": 101, \"customer_id\": 1, \"customer_email\": \"a\"}]')",
        "INSERT INTO visits SELECT * FROM jsonb_populate_recordset(NULL::visits, '[{\"id\": 101, \"at\": \"10:00\", \"host\": \"::1\", \"tags\": \"{a}\"}]') RETURNING *",
        "INSERT INTO \"Odd Names\" SELECT * FROM json_to_recordset('[{\"id\": 100, \"E Mail\": \"x\", \"select\": 5}]') AS _(id int, \"E Mail\" text, \"select\" text) RETURNING *",
    ])
}

#[test]
fn parameters_are_stored_as_literals_are() -> Result<()> {
    same_with(&[
        (
            "INSERT INTO customers (id, region, email) VALUES ($1, $2, $3) RETURNING *",
            &[Some("100"), Some("eu"), Some("p@example.com")],
        ),
        (
            "INSERT INTO customers (id, region, email) VALUES ($1, $2, $3)",
            &[Some("100"), Some("eu"), None],
        ),
        (
            "INSERT INTO customers (id, region, ssn, age, balance, born, code, token, active, seen, notes) \
             VALUES ($1, 'eu', $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING *",
            &[
                Some("100"),
                Some("s"),
                Some("-5"),
                Some("12345.678"),
                Some("2024-02-29"),
                Some("c"),
                Some("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
                Some("f"),
                Some("2024-02-29 01:02:03.456789+00"),
                Some("{\"k\": [1, 2.50, \"x\"]}"),
            ],
        ),
        (
            "INSERT INTO customers (id, region, email, plain) VALUES (100, 'eu', $1, $1) RETURNING email, plain",
            &[Some("twice")],
        ),
        (
            "UPDATE customers SET email = $1 WHERE email = $1 RETURNING id, email",
            &[Some("ada@example.com")],
        ),
        (
            "UPDATE customers SET email = $1 WHERE email = $2 RETURNING id, email",
            &[Some("n"), Some("ada@example.com")],
        ),
        (
            "UPDATE customers SET age = $2, balance = $3 WHERE id = $1 RETURNING *",
            &[Some("1"), Some("7"), None],
        ),
        (
            "DELETE FROM customers WHERE email = $1 RETURNING id",
            &[Some("bob@example.com")],
        ),
        (
            "INSERT INTO customers (id, region, ssn) VALUES (100, 'eu', $1)",
            &[Some("far longer than eleven")],
        ),
        (
            "INSERT INTO customers (id, region, balance) VALUES (100, 'eu', $1)",
            &[Some("99999999999")],
        ),
    ])
}

#[test]
fn updates_seal_what_they_set() -> Result<()> {
    same(&[
        "UPDATE customers SET email = 'changed@example.com' WHERE id = 1 RETURNING id, email",
        "UPDATE customers SET email = NULL WHERE id = 1 RETURNING email",
        "UPDATE customers SET email = DEFAULT WHERE id = 1 RETURNING email",
        "UPDATE customers c SET age = 5, plain = 'x' WHERE c.email = 'ada@example.com' RETURNING c.*",
        "UPDATE customers SET (email, age) = ('pair@example.com', 9) WHERE id = 1 RETURNING email, age",
        "UPDATE customers SET ssn = '333' WHERE ssn = '111-11-1111'",
        "UPDATE customers SET plain = 'y' WHERE email IN ('ada@example.com', 'bob@example.com') RETURNING id",
        "UPDATE customers SET region = region || '!' WHERE email IS NULL RETURNING region",
        "UPDATE customers SET email = email WHERE id = 1 RETURNING email",
        "UPDATE orders o SET customer_email = c.email FROM customers c WHERE c.id = 2 AND o.id = 1 RETURNING o.customer_email",
        "UPDATE orders SET item = 'z' FROM customers c WHERE c.email = orders.customer_email RETURNING orders.id",
        "UPDATE customers SET balance = 1.239 WHERE id = 1 RETURNING balance",
        "UPDATE customers SET email = 'no one' WHERE false",
    ])
}

#[test]
fn deletes_find_rows_by_value() -> Result<()> {
    same(&[
        "DELETE FROM customers WHERE email = 'ada@example.com'",
        "DELETE FROM customers WHERE email = 'ada@example.com' RETURNING *",
        "DELETE FROM customers c USING orders o WHERE o.customer_email = c.email RETURNING c.id, c.email",
        "DELETE FROM customers WHERE email IS NULL RETURNING id",
        "DELETE FROM orders",
    ])
}

#[test]
fn conflicts_on_a_protected_unique_column_are_found() -> Result<()> {
    same(&[
        "INSERT INTO customers (id, region, email) VALUES (100, 'eu', 'ada@example.com')",
        "INSERT INTO customers (id, region, email) VALUES (100, 'eu', 'ada@example.com') ON CONFLICT DO NOTHING",
        "INSERT INTO customers (id, region, email) VALUES (100, 'eu', 'ada@example.com') ON CONFLICT (email) DO NOTHING RETURNING id",
        "INSERT INTO customers (id, region, email) VALUES (100, 'eu', 'new@example.com') ON CONFLICT (email) DO NOTHING RETURNING id, email",
        "INSERT INTO customers (id, region, email) VALUES (100, 'xx', 'ada@example.com') ON CONFLICT (email) DO UPDATE SET region = excluded.region RETURNING id, region, email",
        "INSERT INTO customers (id, region, email, ssn) VALUES (1, 'xx', 'n@example.com', '9') ON CONFLICT (id) DO UPDATE SET email = excluded.email, ssn = EXCLUDED.ssn RETURNING *",
        "INSERT INTO customers (id, region, email) VALUES (1, 'xx', 'n') ON CONFLICT (id) DO UPDATE SET email = 'literal' RETURNING email",
        "INSERT INTO customers AS c (id, region, email) VALUES (1, 'xx', 'n') ON CONFLICT (id) DO UPDATE SET plain = 'z' WHERE c.email = 'ada@example.com' RETURNING c.plain",
        "INSERT INTO customers (id, region) VALUES (100, 'eu'), (101, 'eu') RETURNING id",
        "UPDATE customers SET email = 'ada@example.com' WHERE id = 2",
    ])?;
    same_with(&[
        (
            "INSERT INTO customers (id, region, email) VALUES ($1, 'q', $2) ON CONFLICT (email) DO UPDATE SET email = $2, region = $3 RETURNING *",
            &[Some("100"), Some("ada@example.com"), Some("r")],
        ),
        (
            "INSERT INTO customers (id, region, email) VALUES ($1, 'q', $2) ON CONFLICT (email) DO UPDATE SET email = excluded.email RETURNING id, email",
            &[Some("100"), Some("fresh@example.com")],
        ),
    ])
}

#[test]
fn bad_input_has_the_code_of_postgres() -> Result<()> {
    same(&[
        "INSERT INTO customers (id, region, age) VALUES (100, 'eu', 'abc')",
        "INSERT INTO customers (id, region, age) VALUES (100, 'eu', 3000000000)",
        "INSERT INTO customers (id, region, balance) VALUES (100, 'eu', 99999999999)",
        "INSERT INTO customers (id, region, balance) VALUES (100, 'eu', 'x')",
        "INSERT INTO customers (id, region, ssn) VALUES (100, 'eu', '123456789012')",
        "INSERT INTO customers (id, region, code) VALUES (100, 'eu', '1234567')",
        "INSERT INTO customers (id, region, born) VALUES (100, 'eu', '2023-02-29')",
        "INSERT INTO customers (id, region, born) VALUES (100, 'eu', 'soon')",
        "INSERT INTO customers (id, region, token) VALUES (100, 'eu', 'zz')",
        "INSERT INTO customers (id, region, active) VALUES (100, 'eu', 'maybe')",
        "INSERT INTO customers (id, region, notes) VALUES (100, 'eu', '{')",
        "INSERT INTO customers (id, region, seen) VALUES (100, 'eu', '2024-13-01')",
        "INSERT INTO customers (id, region, email) VALUES (1, 'eu', 'same key')",
        "INSERT INTO customers (id, region, email) VALUES (100, NULL, 'not null')",
        "INSERT INTO customers (id, email) VALUES (100)",
        "INSERT INTO customers (id, nope) VALUES (100, 'x')",
        "INSERT INTO customers (id, email, email) VALUES (100, 'x', 'y')",
    ])
}
