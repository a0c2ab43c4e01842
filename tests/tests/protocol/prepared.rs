//! PREPARE, EXECUTE, DEALLOCATE and DISCARD, by Query and by Parse, beside the protocol's own prepared statements.

use anyhow::{Result, ensure};
use pgveil_tests::wire::{Bind, Message, Wire};

use crate::{alike, extended, same_in_turn, sessions, twin};

/// Bind to a named statement, Describe, Execute, Sync.
fn bound(
    statement: &str,
    params: &[Option<&[u8]>],
    formats: &[i16],
    results: &[i16],
) -> [Message; 5] {
    [
        Message::describe_statement(statement),
        Message::bind(&Bind {
            statement,
            params,
            formats,
            results,
            ..Bind::default()
        }),
        Message::describe_portal(""),
        Message::execute("", 0),
        Message::sync(),
    ]
}

#[test]
fn what_sql_prepares_sql_executes() -> Result<()> {
    let said = same_in_turn(&[
        "PREPARE by_email (text) AS SELECT id, email, age FROM people WHERE email = $1",
        "EXECUTE by_email ('ada@example.com')",
        "EXECUTE by_email ('nobody')",
        "EXECUTE by_email (NULL)",
        "EXECUTE by_email (E'eve@example.com'::text)",
        "EXECUTE by_email",
        "EXECUTE by_email ('a', 'b')",
        "EXECUTE not_there ('a')",
        "EXPLAIN (COSTS off, ANALYZE, TIMING off, SUMMARY off) EXECUTE not_there ('a')",
        "PREPARE by_email AS SELECT 1",
        "PREPARE add (int, text, int) AS INSERT INTO people (id, email, age) VALUES ($1, $2, $3) RETURNING *",
        "BEGIN; EXECUTE add (90 + 1, 'new@example.com', '44'); EXECUTE by_email ('new@example.com'); ROLLBACK",
        "BEGIN; EXECUTE add (92, NULL, NULL); EXECUTE add (93, 5, 1.5); SELECT id, email, age FROM people WHERE id > 90 ORDER BY id",
        "ROLLBACK",
        "EXECUTE add (94, 'x', 'no number')",
        "EXECUTE add (94, 'x', true)",
        "EXECUTE add (94, 'x', 99999999999)",
        "PREPARE several (int[]) AS SELECT id, age FROM people WHERE age = ANY ($1) ORDER BY id",
        "EXECUTE several ('{36,7,NULL}')",
        "EXECUTE several (ARRAY[36, 0])",
        "EXECUTE several (NULL)",
        "PREPARE fixed AS UPDATE people SET age = 1 WHERE email = 'ada@example.com' RETURNING email, age",
        "BEGIN; EXECUTE fixed; EXECUTE fixed; ROLLBACK",
        "DEALLOCATE fixed",
        "EXECUTE fixed",
        "PREPARE fixed (int) AS SELECT v FROM open WHERE id = $1",
        "EXECUTE fixed (1)",
        "DEALLOCATE PREPARE ALL",
        "EXECUTE several ('{36}')",
        "PREPARE one AS SELECT email FROM people WHERE id = $1; EXECUTE one (1); DEALLOCATE one; PREPARE one AS SELECT v FROM open WHERE id = $1; \
         EXECUTE one (1)",
        "EXECUTE one (1)",
        "DISCARD ALL",
        "EXECUTE one (1)",
    ])?;
    ensure!(said[1].contains("ada@example.com"), "{}", said[1]);
    Ok(())
}

#[test]
fn preparing_is_not_undone_by_a_rollback() -> Result<()> {
    same_in_turn(&[
        "BEGIN; PREPARE kept AS SELECT email FROM people WHERE email = $1; ROLLBACK",
        "EXECUTE kept ('ada@example.com')",
        "BEGIN; DEALLOCATE kept; ROLLBACK",
        "EXECUTE kept ('ada@example.com')",
        "BEGIN; PREPARE kept AS SELECT age FROM people WHERE age = $1; SELECT 1/0",
        "ROLLBACK",
        "EXECUTE kept (36)",
        "BEGIN; SELECT 1/0; DEALLOCATE kept",
        "ROLLBACK",
        "EXECUTE kept (36)",
        "PREPARE kept AS SELECT id FROM people WHERE email = $1; SELECT 'never'",
        "EXECUTE kept (36)",
        "BEGIN; DEALLOCATE kept; PREPARE kept AS SELECT id FROM people WHERE email = $1; ROLLBACK",
        "EXECUTE kept ('bob@example.com')",
        "DISCARD PLANS; DISCARD TEMP",
        "EXECUTE kept ('bob@example.com')",
    ])
    .map(drop)
}

#[test]
fn what_sql_prepares_a_driver_binds() -> Result<()> {
    let mut sessions = sessions()?;
    let prepare = "PREPARE s (text, int) AS SELECT id, email, age FROM people WHERE email = $1 AND id = $2 AND $2 > 0";
    alike(&mut sessions, &[Message::query(prepare)], 1)?;
    let one = 1_i32.to_be_bytes();
    let params: &[Option<&[u8]>] = &[Some(b"ada@example.com"), Some(&one)];
    for results in [&[0][..], &[1]] {
        alike(&mut sessions, &bound("s", params, &[0, 1], results), 1)?;
    }
    alike(&mut sessions, &bound("s", &[None, None], &[], &[]), 1)?;
    alike(&mut sessions, &bound("s", &[None], &[], &[]), 1)?;
    let dropped = [
        Message::close_statement("s"),
        Message::sync(),
        Message::query("EXECUTE s ('ada@example.com', 1)"),
    ];
    alike(&mut sessions, &dropped, 2)?;
    // Both in one pipeline.
    let pipeline = [
        Message::parse(
            "",
            "PREPARE s AS SELECT email FROM people WHERE email = $1",
            &[],
        ),
        Message::bind_text(&[]),
        Message::execute("", 0),
        Message::bind(&Bind {
            statement: "s",
            params: &[Some(b"bob@example.com")],
            ..Bind::default()
        }),
        Message::describe_portal(""),
        Message::execute("", 0),
        Message::sync(),
        Message::query("PREPARE t AS SELECT age FROM people WHERE age = $1"),
        Message::query("EXECUTE t (36)"),
        Message::describe_statement("t"),
        Message::sync(),
    ];
    alike(&mut sessions, &pipeline, 4)?;
    // PREPARE fails in the middle: what follows is skipped, and the name means what it did.
    let failing = [
        Message::parse("", "PREPARE s AS SELECT id FROM people WHERE age = $1", &[]),
        Message::bind_text(&[]),
        Message::execute("", 0),
        Message::parse("n", "SELECT email FROM people WHERE id = $1", &[]),
        Message::sync(),
        Message::query("EXECUTE s ('bob@example.com')"),
        Message::describe_statement("n"),
        Message::sync(),
    ];
    alike(&mut sessions, &failing, 3).map(drop)
}

#[test]
fn what_a_driver_prepares_sql_executes() -> Result<()> {
    let mut sessions = sessions()?;
    let parse = [
        Message::parse(
            "d",
            "SELECT id, email FROM people WHERE email = $1 OR age = $2 ORDER BY id",
            &[],
        ),
        Message::parse(
            "declared",
            "SELECT id FROM people WHERE email = $1",
            &[1043],
        ),
        Message::parse("open", "SELECT v FROM open WHERE id = $1", &[]),
        Message::sync(),
    ];
    alike(&mut sessions, &parse, 1)?;
    for sql in [
        "EXECUTE d ('ada@example.com', 7)",
        "EXECUTE d ('ada@example.com', '7')",
        "EXECUTE declared ('ada@example.com')",
        "EXECUTE open (1)",
        "EXPLAIN (COSTS off) EXECUTE open (1)",
        "DEALLOCATE d",
        "EXECUTE d ('ada@example.com', 7)",
        "PREPARE d AS SELECT age FROM people WHERE id = $1",
        "EXECUTE d (1)",
    ] {
        alike(&mut sessions, &[Message::query(sql)], 1)?;
    }
    alike(&mut sessions, &bound("d", &[Some(b"1")], &[], &[1]), 1)?;
    let again = [
        Message::parse("d", "SELECT email FROM people WHERE id = $1", &[]),
        Message::sync(),
        Message::query("DISCARD ALL"),
        Message::parse("d", "SELECT email FROM people WHERE email = $1", &[]),
        Message::sync(),
        Message::query("EXECUTE d ('ada@example.com')"),
    ];
    alike(&mut sessions, &again, 4).map(drop)
}

#[test]
fn executing_by_the_extended_protocol() -> Result<()> {
    let mut sessions = sessions()?;
    for sql in [
        "PREPARE q (text) AS SELECT id, email FROM people WHERE email = $1",
        "EXECUTE q ('ada@example.com')",
        "EXECUTE q (NULL)",
        "EXECUTE not_there ('a')",
        "PREPARE w AS UPDATE people SET email = $1 WHERE id = 2 RETURNING email",
        "PREPARE plain AS SELECT v FROM open WHERE id = $1",
        "EXECUTE plain (1)",
    ] {
        alike(&mut sessions, &extended(sql, &[], &[]), 1)?;
    }
    let twice = [
        Message::query("BEGIN"),
        Message::parse("e", "EXECUTE w ('again@example.com')", &[]),
        Message::describe_statement("e"),
        Message::bind(&Bind {
            statement: "e",
            results: &[1],
            ..Bind::default()
        }),
        Message::execute("", 0),
        Message::bind(&Bind {
            statement: "e",
            ..Bind::default()
        }),
        Message::execute("", 0),
        Message::sync(),
        Message::query("ROLLBACK"),
        Message::query("DEALLOCATE w"),
    ];
    alike(&mut sessions, &twice, 4).map(drop)
}

#[test]
fn a_statement_is_not_executed_under_a_name_that_means_something_else_by_now() -> Result<()> {
    let mut wire = Wire::connect(&twin()?.proxy.target("app"))?;
    let ask = |wire: &mut Wire, messages: &[Message], readies| -> Result<String> {
        wire.send(messages)?;
        Ok(pgveil_tests::wire::transcript(&wire.until_ready(readies)?))
    };
    let bind = Message::bind(&Bind {
        statement: "e",
        ..Bind::default()
    });
    let run = [bind, Message::execute("", 0), Message::sync()];
    let early = [
        Message::parse("e", "EXECUTE later ('ada@example.com')", &[]),
        Message::sync(),
        Message::query("PREPARE later AS SELECT email FROM people WHERE email = $1"),
    ];
    let said = ask(&mut wire, &early, 2)?;
    ensure!(!said.contains("ErrorResponse"), "{said}");
    let said = ask(&mut wire, &run, 1)?;
    ensure!(said.contains("ErrorResponse ERROR 0A000"), "{said}");
    let said = wire.query("EXECUTE later ('ada@example.com')")?;
    ensure!(said.contains("DataRow [\"ada@example.com\"]"), "{said}");
    let parsed = [
        Message::parse("f", "EXECUTE later ('ada@example.com')", &[]),
        Message::sync(),
        Message::query("DEALLOCATE later; PREPARE later AS SELECT id FROM people WHERE email = $1"),
        Message::bind(&Bind {
            statement: "f",
            ..Bind::default()
        }),
        Message::execute("", 0),
        Message::sync(),
    ];
    let said = ask(&mut wire, &parsed, 3)?;
    ensure!(said.contains("ErrorResponse ERROR 0A000"), "{said}");
    Ok(())
}

#[test]
fn what_cannot_be_executed_right_is_refused() -> Result<()> {
    let mut wire = Wire::connect(&twin()?.proxy.target("app"))?;
    wire.query("PREPARE p AS SELECT email FROM people WHERE email = $1")?;
    for sql in [
        "EXECUTE p (current_user || '@example.com')",
        "EXECUTE p (reverse('moc.elpmaxe@ada'))",
        "SET search_path = pg_catalog; EXECUTE p ('ada@example.com')",
        "PREPARE q AS SELECT lower(email) FROM people",
    ] {
        let said = wire.query(sql)?;
        ensure!(said.contains("ErrorResponse ERROR 0A000"), "{sql}\n{said}");
    }
    wire.query("SET search_path = pg_catalog")?;
    let said = wire.query("EXECUTE p ('ada@example.com')")?;
    ensure!(said.contains("ErrorResponse ERROR 0A000"), "{said}");
    wire.query("RESET search_path")?;
    for sql in [
        "EXECUTE p ('ada@example.com')",
        "EXECUTE p ('ada@' || 'example.com')",
        "EXECUTE p (lower('ADA@EXAMPLE.COM'))",
    ] {
        let said = wire.query(sql)?;
        ensure!(
            said.contains("DataRow [\"ada@example.com\"]"),
            "{sql}\n{said}"
        );
    }
    let said = wire.query("EXPLAIN (VERBOSE, COSTS off) EXECUTE p ('ada@example.com')")?;
    ensure!(
        !said.contains("ErrorResponse") && !said.contains("ada@"),
        "{said}"
    );
    Ok(())
}

#[test]
fn statements_parsed_behind_a_discard_are_sealed() -> Result<()> {
    let mut sessions = sessions()?;
    for drops in ["DISCARD ALL", "DEALLOCATE ALL"] {
        let pipeline = [
            Message::parse("n", "SELECT id FROM people WHERE email = $1", &[]),
            Message::sync(),
            Message::parse("", drops, &[]),
            Message::bind_text(&[]),
            Message::execute("", 0),
            Message::sync(),
            Message::parse("n", "SELECT id, email FROM people WHERE email = $1", &[]),
            Message::bind(&Bind {
                statement: "n",
                params: &[Some(b"ada@example.com")],
                ..Bind::default()
            }),
            Message::describe_portal(""),
            Message::execute("", 0),
            Message::sync(),
            Message::query(drops),
            Message::parse("n", "SELECT email, id FROM people WHERE email = $1", &[]),
            Message::bind(&Bind {
                statement: "n",
                params: &[Some(b"bob@example.com")],
                ..Bind::default()
            }),
            Message::execute("", 0),
            Message::close_statement("n"),
            Message::sync(),
        ];
        alike(&mut sessions, &pipeline, 5)?;
    }
    Ok(())
}
