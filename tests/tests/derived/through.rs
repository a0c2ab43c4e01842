//! Writing through views: what a direct session says and stores, pgveil says and stores.

use anyhow::Result;

use crate::{same_with, scripts};

#[test]
fn rows_are_written_through_a_view() -> Result<()> {
    scripts(&[
        &[
            "INSERT INTO mails VALUES (11, 'new@example.com')",
            "!SELECT lower(email) FROM mails",
        ],
        &[
            "INSERT INTO eu (id, region, email) VALUES (11, 'eu', 'new@example.com'), (12, 'eu', NULL) RETURNING *",
            "SELECT id, region, email, plain FROM customers ORDER BY id",
            "UPDATE eu SET email = 'other@example.com' WHERE email = 'new@example.com' RETURNING id, email, plain",
            "SELECT id FROM customers WHERE email = 'other@example.com'",
            "UPDATE eu SET email = 'x@example.com' WHERE email = 'eve@example.com'",
            "DELETE FROM eu WHERE email = 'other@example.com' RETURNING eu.email, eu",
            "SELECT id, email FROM customers ORDER BY id",
        ],
        &["INSERT INTO eu (id, region, email) VALUES (11, 'us', 'new@example.com')"],
        &["UPDATE eu SET region = 'us' WHERE id = 1"],
        &[
            "INSERT INTO upon_eu (e, n, r) VALUES ('new@example.com', 11, 'eu') RETURNING e, n",
            "UPDATE upon_eu u SET e = 'z@example.com' FROM orders o WHERE o.customer_email = u.e AND o.item = 'ink' RETURNING u.n, u.e, o.item",
            "DELETE FROM upon_eu u USING orders o WHERE o.customer_email = u.e RETURNING u.n",
            "SELECT id, email FROM customers ORDER BY id",
        ],
        &[
            "UPDATE barrier SET age = 50, ssn = '999' WHERE email = 'ada@example.com' RETURNING id, age, ssn, born",
            "SELECT id, age, ssn FROM customers WHERE age = 50",
            "UPDATE barrier SET age = NULL",
            "SELECT id, age FROM customers ORDER BY id",
        ],
        &["INSERT INTO mails (id, email) SELECT id + 20, customer_email FROM orders WHERE id > 2"],
        &[
            "INSERT INTO eu (id, region, email) SELECT id + 20, 'eu', customer_email FROM orders WHERE id > 3 RETURNING id, email",
            "UPDATE eu SET email = NULL, plain = 'p' WHERE id < 3 RETURNING *",
            "SELECT count(*) FROM customers WHERE email IS NULL",
        ],
        &[
            "WITH gone AS (DELETE FROM eu WHERE id = 2 RETURNING email) INSERT INTO upon_eu (n, r, e) SELECT 30, 'eu', email FROM gone RETURNING e",
            "SELECT id, email FROM customers ORDER BY id",
        ],
    ])
}

#[test]
fn conflicts_are_found_through_a_view() -> Result<()> {
    scripts(&[
        &[
            "INSERT INTO eu (id, region, email) VALUES (1, 'eu', 'q@example.com') ON CONFLICT (id) DO UPDATE SET email = EXCLUDED.email, plain = 'again' RETURNING *",
            "SELECT id, email, plain FROM customers ORDER BY id",
        ],
        &[
            "INSERT INTO eu (id, region, email) VALUES (12, 'eu', 'ada@example.com') ON CONFLICT (email) DO NOTHING",
            "INSERT INTO eu (id, region, email) VALUES (12, 'eu', 'ada@example.com') ON CONFLICT (email) DO UPDATE SET plain = 'again' RETURNING id, plain",
            "INSERT INTO upon_eu (n, r, e) VALUES (12, 'eu', 'ada@example.com') ON CONFLICT (e) DO UPDATE SET e = 'w@example.com' WHERE upon_eu.e = 'ada@example.com' RETURNING n, e",
            "SELECT id, email, plain FROM customers ORDER BY id",
        ],
        // A row in conflict need not be one that the view shows.
        &[
            "INSERT INTO eu (id, region, email) VALUES (12, 'eu', 'eve@example.com') ON CONFLICT (email) DO UPDATE SET plain = 'hidden'",
        ],
        &[
            "INSERT INTO eu (id, region, email) VALUES (1, 'eu', 'q') ON CONFLICT ON CONSTRAINT customers_pkey DO NOTHING",
        ],
    ])
}

#[test]
fn scopes_are_the_rows_own() -> Result<()> {
    scripts(&[
        &[
            "INSERT INTO ten VALUES (11, 10, 'new', 'text')",
            "INSERT INTO ten VALUES (12, 20, 'new', 'text')",
            "UPDATE ten SET author = 'newer', body = 'b' WHERE author = 'new' RETURNING *",
            "SELECT id FROM notes WHERE tenant_id = 10 AND author = 'newer'",
            "SELECT id FROM notes WHERE tenant_id = 20 AND author = 'new'",
            "DELETE FROM ten WHERE author = 'ada' RETURNING id",
            "SELECT * FROM notes ORDER BY id",
        ],
        &[
            "UPDATE turned SET a = 'ann' WHERE n = 3",
            "UPDATE turned SET a = 'amy', b = 'all' WHERE n IN (1, 4) RETURNING n, t, a, b",
            "SELECT id FROM notes WHERE tenant_id = 20 AND author = 'ann'",
            "SELECT id FROM notes WHERE tenant_id = 20 AND author = 'amy'",
            "SELECT id FROM notes WHERE tenant_id = 10 AND author = 'amy'",
            "INSERT INTO turned (b, a, t, n) VALUES ('c', 'cyn', 10, 4) ON CONFLICT (n) DO NOTHING",
            "INSERT INTO turned (b, a, t, n) VALUES ('c', 'cyn', 20, 4) ON CONFLICT (n) DO UPDATE SET a = EXCLUDED.a RETURNING *",
            "SELECT id FROM notes WHERE tenant_id = 20 AND author = 'cyn'",
            "!UPDATE turned SET t = 30",
        ],
        &[
            "UPDATE untold SET body = NULL WHERE id = 1",
            "DELETE FROM untold WHERE id = 2",
            "SELECT * FROM notes ORDER BY id",
            "!UPDATE untold SET body = 'x' WHERE id = 1",
        ],
        &["!INSERT INTO untold (id, author) VALUES (9, 'x')"],
        // What a view of one tenant says of its rows is not said of those to come.
        &["!INSERT INTO ten (id, author) VALUES (9, 'x')"],
    ])
}

#[test]
fn what_the_server_does_not_write_is_an_error() -> Result<()> {
    scripts(&[
        &["UPDATE regions SET region = 'x'"],
        &["!DELETE FROM all_notes"],
        &["!INSERT INTO everybody VALUES ('x', 'y')"],
        &["!UPDATE nested SET e = 'x'"],
        &["UPDATE kept SET email = 'x'"],
        &["INSERT INTO marked VALUES (9, 'x', 'y')"],
        &["UPDATE marked SET mark = 'y'"],
        &["INSERT INTO mails (id, ssn) VALUES (1, 'x')"],
        &["!COPY mails FROM STDIN"],
        &["!INSERT INTO instead_of VALUES (9, 'x')"],
        &["!UPDATE instead_of SET email = 'x'"],
        &["!DELETE FROM upon_instead"],
    ])
}

#[test]
fn a_view_of_the_session_is_written_through() -> Result<()> {
    scripts(&[&[
        "CREATE TEMP VIEW mine AS SELECT id, email FROM customers WHERE region = 'eu'",
        "UPDATE mine SET email = 'mine@example.com' WHERE email = 'ada@example.com' RETURNING *",
        "CREATE TEMP VIEW deeper (m, i) AS SELECT email, id FROM mine",
        "UPDATE deeper SET m = 'deep@example.com' WHERE m = 'mine@example.com' RETURNING *",
        "SELECT id FROM customers WHERE email = 'deep@example.com'",
    ]])
}

#[test]
fn parameters_are_sealed_through_a_view() -> Result<()> {
    same_with(&[
        (
            "UPDATE mails SET email = $1 WHERE email = $2 RETURNING id, email",
            &[Some("p@example.com"), Some("bob@example.com")],
        ),
        (
            "INSERT INTO eu (id, region, email) VALUES ($1, $2, $3) RETURNING email",
            &[Some("41"), Some("eu"), Some("p@example.com")],
        ),
        (
            "UPDATE turned SET a = $1 WHERE n = $2 RETURNING t, a",
            &[Some("p"), Some("3")],
        ),
        (
            "DELETE FROM ten WHERE author = $1 RETURNING id",
            &[Some("bob")],
        ),
    ])
}
