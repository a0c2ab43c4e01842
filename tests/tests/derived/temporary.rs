//! Temporary tables, copies and views, beside protected tables and in their place.

use anyhow::Result;

use crate::{refused, same, scripts};

#[test]
fn a_domain_over_pgveils_own_is_read_through() -> Result<()> {
    same(&[
        "SELECT id, email, short FROM archived ORDER BY id",
        "SELECT id, email IS NULL FROM archived ORDER BY id",
        "SELECT id, COALESCE(short, email) FROM archived ORDER BY id",
    ])?;
    // Never a comparison of ciphertext.
    refused(&[
        "SELECT count(DISTINCT email) FROM archived",
        "SELECT count(*) FROM archived GROUP BY short",
        "SELECT DISTINCT email FROM archived",
        "SELECT id FROM archived WHERE email = 'ada@example.com'",
        "SELECT id FROM archived WHERE email = short",
        "SELECT a.id FROM archived a JOIN customers c ON c.email = a.email",
        "SELECT a.id FROM archived a JOIN customers c USING (email)",
    ])
}

#[test]
fn plain_temporary_tables_stand_beside_protected_ones() -> Result<()> {
    scripts(&[
        &[
            "CREATE TEMP TABLE picked (id int, why text)",
            "INSERT INTO picked VALUES (1, 'x'), (3, 'y')",
            "SELECT c.id, c.email, p.why FROM customers c JOIN picked p ON p.id = c.id ORDER BY 1",
            "SELECT email FROM customers WHERE id IN (SELECT id FROM picked) ORDER BY id",
            "INSERT INTO picked SELECT id, region FROM customers WHERE email = 'bob@example.com'",
            "SELECT * FROM picked ORDER BY 1",
            "UPDATE customers SET email = 'new@example.com' FROM picked p WHERE p.id = customers.id AND p.why = 'x' RETURNING customers.id, email",
            "DELETE FROM customers USING picked WHERE picked.id = customers.id RETURNING email",
            "DROP TABLE picked",
            "SELECT email FROM customers ORDER BY id",
        ],
        &[
            "CREATE TEMP TABLE mine (id int, email text, raw bytea)",
            "!INSERT INTO mine (id, email) SELECT id, email FROM customers",
        ],
        &[
            "CREATE TEMP TABLE mine (id int, email text, raw bytea)",
            "!INSERT INTO mine (id, raw) SELECT id, email FROM customers",
        ],
        &[
            "CREATE TEMP TABLE mine AS SELECT 1 AS id, 'x' AS email",
            "!INSERT INTO customers (id, region, email) SELECT 99, 'eu', email FROM mine",
        ],
        &[
            "CREATE TABLE fresh (id int, why text)",
            "INSERT INTO fresh VALUES (2, 'z')",
            "SELECT c.email, f.why FROM customers c JOIN fresh f USING (id)",
        ],
    ])
}
