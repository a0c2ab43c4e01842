//! psql's commands over protected columns print what they print over plaintext. What reads the catalog shows the domains; a
//! story has that.

use anyhow::{Result, ensure};

use crate::twin;

/// A session each, on the rows of `ROWS`. The harness turns alignment and headers off.
const SAME: &[(&str, &str)] = &[
    (
        "\\gdesc",
        "SELECT id, email, age, born FROM people \\gdesc\nSELECT email AS e FROM people WHERE age = 36 \\gdesc\nDELETE FROM people \\gdesc",
    ),
    (
        "\\gset and variables",
        "SELECT email AS name, age AS years FROM people WHERE id = 1 \\gset\n\\echo :name :years\n\
         SELECT id FROM people WHERE email = :'name' AND age = :years;\n\
         \\set col email\nSELECT :\"col\" FROM people ORDER BY id;\n\\if :{?name}\n\\echo set\n\\endif",
    ),
    (
        "\\gexec",
        "SELECT format('SELECT email FROM people WHERE id = %s', id) FROM people ORDER BY id \\gexec",
    ),
    (
        "\\crosstabview",
        "SELECT email, id, age FROM people ORDER BY id \\crosstabview",
    ),
    (
        "\\gx and \\x",
        "SELECT email, born FROM people WHERE id = 1 \\gx\n\\x on\n\\t off\nSELECT email, born FROM people ORDER BY id;",
    ),
    (
        "forms of tables",
        "\\t off\n\\pset format aligned\nSELECT * FROM people ORDER BY id;\n\\pset format csv\nSELECT * FROM people ORDER BY id;\n\
         \\pset format html\nSELECT * FROM people ORDER BY id;\n\\pset format wrapped\n\\pset columns 30\nSELECT * FROM people ORDER BY id;",
    ),
    (
        "FETCH_COUNT",
        "\\set FETCH_COUNT 2\nSELECT id, email FROM people ORDER BY id;\nSELECT id, email FROM people WHERE email = 'bob';\n\
         INSERT INTO people VALUES (4, 'dan') RETURNING email;\nBEGIN;\nSELECT email FROM people ORDER BY id;\nCOMMIT;",
    ),
    (
        "AUTOCOMMIT off",
        "\\set AUTOCOMMIT off\nUPDATE people SET email = 'changed' WHERE id = 1;\nSELECT email FROM people ORDER BY id;\nROLLBACK;\n\
         SELECT email FROM people ORDER BY id;\nCOMMIT;",
    ),
    (
        "ON_ERROR_ROLLBACK",
        "\\set ON_ERROR_ROLLBACK on\nBEGIN;\nINSERT INTO people (id, age) VALUES (4, 'many');\nINSERT INTO people (id, age) VALUES (4, 5);\n\
         SELECT id, age FROM people ORDER BY id;\nCOMMIT;\nSELECT count(*) FROM people;",
    ),
    (
        "ON_ERROR_STOP",
        "\\set ON_ERROR_STOP on\nINSERT INTO people (id, age) VALUES (4, 'many');\n\\echo not reached",
    ),
    (
        "\\errverbose and what psql keeps of a statement",
        "INSERT INTO people (id, age) VALUES (4, 'many');\n\\errverbose\n\\echo :ERROR :SQLSTATE :LAST_ERROR_MESSAGE\n\
         SELECT email FROM people;\n\\echo :ERROR :SQLSTATE :ROW_COUNT",
    ),
    (
        "several statements in one message",
        "BEGIN \\; SELECT email FROM people WHERE id = 1 \\; UPDATE people SET email = 'new' WHERE email = 'bob' \\; COMMIT;\n\
         \\set SHOW_ALL_RESULTS off\nSELECT 1 \\; SELECT email FROM people WHERE id = 2;",
    ),
    (
        "SINGLELINE and the query buffer",
        "\\set SINGLELINE on\nSELECT email FROM people WHERE id = 1\n\\set SINGLELINE off\nSELECT email\n\\p\nFROM people\nWHERE id = 2\n\\g\n\\r\n\\g",
    ),
    (
        "\\o and \\g to a program",
        "\\o |cat\nSELECT email FROM people WHERE id = 1;\n\\o\nSELECT email FROM people WHERE id = 2 \\g |cat\n",
    ),
    (
        "\\copy with a column list and a query",
        "\\copy people (id, email) to stdout csv\n\\copy (select email from people where email = 'bob') to stdout\n\
         \\copy people (id, email) from program 'echo 9,nine' csv\nSELECT email FROM people WHERE id = 9;",
    ),
    (
        "lists of what is there",
        "\\dt\n\\ds\n\\dv\n\\dm\n\\dp\n\\df\n\\dF\n\\dL\n\\dx\n\\d open\n\\d+ open\n\\dt+ nothing*",
    ),
    (
        "sessions",
        "SET search_path = pg_catalog;\nSELECT email FROM public.people WHERE id = 1;\nRESET search_path;\n\
         DISCARD ALL;\nSELECT email FROM people WHERE id = 1;\n\\encoding\n\\encoding UTF8\nSELECT email FROM people WHERE id = 2;",
    ),
];

#[test]
fn its_commands_print_what_they_print_over_plaintext() -> Result<()> {
    let mut different = String::new();
    for (name, script) in SAME {
        let twin = twin()?;
        let direct = twin.plain.target("app").psql(script)?;
        let through = twin.proxy.target("app").psql(script)?;
        if direct != through {
            different.push_str(&format!(
                "{name}\ndirectly:\n{direct}\nthrough pgveil:\n{through}\n\n"
            ));
        }
    }
    ensure!(different.is_empty(), "{different}");
    Ok(())
}
