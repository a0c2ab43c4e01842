//! Reading views, materialized views and copies.

use anyhow::Result;

use crate::{refused, same, same_with};

#[test]
fn views_are_read_like_sub_selects() -> Result<()> {
    same(&[
        "SELECT * FROM mails ORDER BY id",
        "SELECT m.* FROM mails m WHERE m.id = 1",
        "SELECT mail FROM renamed WHERE mail = 'ada@example.com'",
        "SELECT id FROM mails WHERE email IN ('ada@example.com', 'bob@example.com') ORDER BY id",
        "SELECT id FROM mails WHERE email IS NULL",
        "SELECT x FROM mails AS m (n, x) WHERE x = 'bob@example.com'",
        "SELECT e, item FROM nested WHERE e = customer_email ORDER BY item",
        "SELECT e, item FROM nested WHERE customer_email = 'ada@example.com' ORDER BY item",
        "SELECT * FROM everybody WHERE email = 'ada@example.com' ORDER BY kind",
        "SELECT count(DISTINCT email) FROM everybody",
        "SELECT email, count(*) FROM everybody GROUP BY email",
        "SELECT DISTINCT email FROM everybody",
        "SELECT * FROM ten ORDER BY id",
        "SELECT id FROM ten WHERE author = 'ada'",
        "SELECT id FROM all_notes WHERE tenant = 20 AND author = 'ada'",
        "SELECT author, count(*) FROM all_notes WHERE tenant = 10 GROUP BY author",
        "SELECT * FROM regions ORDER BY region",
        "SELECT email FROM barrier WHERE email = 'bob@example.com'",
        "SELECT * FROM late ORDER BY id",
        "SELECT id FROM late WHERE customer_email = 'bob@example.com'",
        "SELECT m.id, o.item FROM mails m JOIN orders o ON o.customer_email = m.email ORDER BY o.id",
        "SELECT m.id FROM mails m JOIN everybody e USING (email) ORDER BY 1",
        "SELECT (SELECT email FROM mails WHERE id = 2)",
        "SELECT id FROM customers WHERE email IN (SELECT mail FROM renamed) ORDER BY id",
        "WITH m AS (SELECT * FROM mails) SELECT email FROM m WHERE email = 'eve@example.com'",
        "SELECT count(*) FROM public.mails",
        "SELECT r.mail FROM renamed r FULL JOIN people p ON p.id = r.number ORDER BY p.id",
    ])
}

#[test]
fn parameters_of_views() -> Result<()> {
    let ada = Some("ada@example.com");
    same_with(&[
        ("SELECT id FROM mails WHERE email = $1", &[ada]),
        (
            "SELECT * FROM mails WHERE email = ANY ($1)",
            &[Some("{ada@example.com,x}")],
        ),
        (
            "SELECT id FROM all_notes WHERE tenant = $1 AND author = $2",
            &[Some("20"), Some("ada")],
        ),
        ("SELECT body FROM ten WHERE author = $1", &[Some("bob")]),
        (
            "SELECT kind FROM everybody WHERE email = $1 ORDER BY kind",
            &[ada],
        ),
        ("SELECT age FROM kept WHERE email = $1", &[ada]),
    ])
}

#[test]
fn materialized_views_and_copies() -> Result<()> {
    same(&[
        "SELECT * FROM kept ORDER BY id",
        "SELECT id FROM kept WHERE email = 'ada@example.com'",
        "SELECT k.id FROM kept k JOIN orders o ON o.customer_email = k.email ORDER BY 1",
        "SELECT age, count(*) FROM kept GROUP BY age",
        "SELECT id, email, born FROM copied ORDER BY id",
        "SELECT ssn FROM copied ORDER BY id",
        "SELECT c.id FROM copied c JOIN customers k ON k.id = c.id WHERE k.email = 'ada@example.com'",
        "SELECT id FROM copied WHERE email IS NOT NULL ORDER BY id",
        "SELECT count(email) FROM copied",
    ])
}

#[test]
fn what_a_definition_compares_as_bytes_is_refused() -> Result<()> {
    refused(&[
        "SELECT * FROM wrong",
        "SELECT * FROM wrong_distinct",
        "SELECT count(*) FROM wrong",
        "SELECT id FROM mails ORDER BY email",
        "SELECT id FROM all_notes WHERE author = 'ada'",
        "SELECT DISTINCT author FROM all_notes",
        "SELECT m FROM mails m",
        "SELECT upper(email) FROM mails",
        "SELECT m.id FROM mails m JOIN people p ON p.email = m.email",
        "SELECT id FROM copied WHERE email = 'ada@example.com'",
        "SELECT DISTINCT email FROM copied",
        "SELECT count(DISTINCT email) FROM copied",
        "SELECT c.id FROM copied c JOIN customers k ON k.email = c.email",
        "INSERT INTO copied (id, email) VALUES (9, 'ada@example.com')",
        "INSERT INTO people SELECT id, email FROM mails",
        "INSERT INTO copied (id, email) SELECT id, email FROM people",
        "UPDATE copied SET email = 'x'",
        "UPDATE copied SET email = ssn",
    ])
}

#[test]
fn sealed_values_move_between_tables_and_copies() -> Result<()> {
    same(&[
        "INSERT INTO copied (id, email) SELECT id + 10, email FROM customers RETURNING id, email",
        "INSERT INTO copied (id, email) VALUES (9, NULL) RETURNING *",
        "UPDATE copied SET email = k.email FROM customers k WHERE k.id = 2 RETURNING copied.id, copied.email",
        "DELETE FROM copied WHERE id = 1 RETURNING *",
        "INSERT INTO customers (id, region, email) SELECT id + 10, 'eu', email FROM mails WHERE email IS NULL RETURNING id, email",
    ])
}
