//! A parameter of no declared type in several places: PostgreSQL takes the type that it finds first.

use anyhow::Result;
use pgveil_tests::twin::{Case, Expect};

use crate::{check, same_with};

#[test]
fn a_parameter_whose_uses_tell_one_type_is_answered() -> Result<()> {
    same_with(&[
        (
            "SELECT id FROM customers WHERE plain = $1 OR email = $1 ORDER BY id",
            &[Some("ada@example.com")],
        ),
        (
            "SELECT id FROM customers WHERE email = $1 OR lower($1) = plain ORDER BY id",
            &[Some("ada@example.com")],
        ),
        (
            "SELECT $1, id FROM customers WHERE email = $1 ORDER BY id",
            &[Some("ada@example.com")],
        ),
        (
            "SELECT id FROM customers WHERE ($1 = '' OR email = $1) AND (COALESCE($2, '') = '' OR plain = $2) ORDER BY id",
            &[Some("ada@example.com"), None],
        ),
        (
            "SELECT id FROM customers WHERE NULLIF($1, '') IS NULL OR email = $1 ORDER BY id",
            &[Some("")],
        ),
        (
            "SELECT id FROM customers WHERE $1 IN ('', 'all') OR email = $1 ORDER BY id",
            &[Some("all")],
        ),
        (
            "SELECT id FROM customers WHERE $1 = 0 OR age = $1 ORDER BY id",
            &[Some("0")],
        ),
        (
            "SELECT $1 AS asked, id FROM customers WHERE email = $1 ORDER BY id",
            &[Some("ada@example.com")],
        ),
        (
            "SELECT id FROM customers WHERE id = $1 OR age = $1 ORDER BY id",
            &[Some("36")],
        ),
        (
            "UPDATE customers SET plain = $1, email = $1 WHERE plain = $1 RETURNING id",
            &[Some("x")],
        ),
        (
            "INSERT INTO customers (id, region, email, plain) VALUES (90, $1, $1, $1) RETURNING region",
            &[Some("x")],
        ),
        (
            "UPDATE customers SET plain = concat($1) WHERE email = $1 RETURNING plain",
            &[Some("ada@example.com")],
        ),
        (
            "SELECT id FROM customers WHERE email = $1 AND concat($1) <> '' ORDER BY id",
            &[Some("ada@example.com")],
        ),
        (
            "INSERT INTO customers (id, region, email, ssn) VALUES (90, 'eu', $1::text, $1::varchar)",
            &[Some("x")],
        ),
    ])
}

#[test]
fn a_parameter_that_may_have_another_type_is_not_answered_wrong() -> Result<()> {
    const CASES: [(&str, &str); 10] = [
        (
            "SELECT id FROM customers WHERE region::bigint = $1 OR age = $1",
            "5000000000",
        ),
        (
            "SELECT o.id FROM orders o JOIN customers c ON o.id = $1 OR c.balance = $1",
            "36",
        ),
        (
            "SELECT id FROM customers WHERE concat($1) = 'x' OR age = $1",
            "36",
        ),
        ("SELECT $1 AS asked FROM customers WHERE age = $1", "36"),
        (
            "SELECT id FROM customers WHERE plain = $1::text AND age = $1",
            "36",
        ),
        (
            "SELECT id FROM customers WHERE now() > $1 OR born = $1",
            "1815-12-10 12:00",
        ),
        (
            "INSERT INTO customers (id, region, age, plain) VALUES (90, 'eu', $1, $1)",
            "36",
        ),
        ("SELECT id FROM customers WHERE $1 = '' OR age = $1", "36"),
        ("UPDATE customers SET email = $1 WHERE id = $1", "1"),
        (
            "SELECT id FROM customers WHERE ($1 IS NULL OR email = $1) AND plain = $1",
            "x",
        ),
    ];
    for (sql, value) in CASES {
        check(Expect::Refused, &[Case::with(sql, &[Some(value)])])?;
    }
    Ok(())
}
