//! Parse, Bind, Describe, Execute, Close, Flush, Sync, in every order that clients use.

use anyhow::{Result, ensure};
use pgveil_tests::wire::{Bind, Message};

use crate::{alike, sessions};

const BY_EMAIL: &str = "SELECT id, email, age FROM people WHERE email = $1";
const ALL: &str = "SELECT id, email FROM people ORDER BY id";

#[test]
fn a_pipeline_is_answered_in_order() -> Result<()> {
    let mut sessions = sessions()?;
    let mut messages = Vec::new();
    for email in ["ada@example.com", "bob@example.com", "nobody"] {
        messages.extend([
            Message::parse("", BY_EMAIL, &[]),
            Message::bind_text(&[Some(email)]),
            Message::describe_portal(""),
            Message::execute("", 0),
            Message::sync(),
        ]);
    }
    messages.extend([
        Message::query("SELECT email FROM people WHERE id = 3"),
        Message::query("SELECT 1"),
    ]);
    alike(&mut sessions, &messages, 5).map(drop)
}

#[test]
fn many_statements_before_one_sync_are_one_transaction() -> Result<()> {
    let mut sessions = sessions()?;
    let run = |sql: &str, params: &[Option<&str>]| {
        [
            Message::parse("", sql, &[]),
            Message::bind_text(params),
            Message::describe_portal(""),
            Message::execute("", 0),
        ]
    };
    let mut messages = Vec::new();
    messages.extend(run(
        "INSERT INTO people VALUES (50, $1, 5) RETURNING email",
        &[Some("pipe@example.com")],
    ));
    messages.extend(run(BY_EMAIL, &[Some("pipe@example.com")]));
    messages.extend(run("SELECT 1/0", &[]));
    messages.extend(run("SELECT 'skipped'", &[]));
    messages.push(Message::sync());
    alike(&mut sessions, &messages, 1)?;
    let after = alike(
        &mut sessions,
        &[Message::query("SELECT count(*) FROM people WHERE id = 50")],
        1,
    )?;
    ensure!(
        after.contains("DataRow [\"0\"]"),
        "the pipeline was not rolled back:\n{after}"
    );
    Ok(())
}

#[test]
fn flush_brings_answers_before_sync() -> Result<()> {
    let twin = crate::twin()?;
    let mut wire = pgveil_tests::wire::Wire::connect(&twin.proxy.target("app"))?;
    wire.send(&[
        Message::parse("f", BY_EMAIL, &[]),
        Message::describe_statement("f"),
        Message::flush(),
    ])?;
    let described = wire.until(b'T', 1)?;
    ensure!(described.len() == 3, "{described:?}");
    wire.send(&[
        Message::bind(&Bind {
            statement: "f",
            params: &[Some(b"ada@example.com")],
            ..Bind::default()
        }),
        Message::execute("", 0),
        Message::flush(),
    ])?;
    let rows = wire.until(b'C', 1)?;
    ensure!(rows.len() == 3, "{rows:?}");
    wire.send(&[Message::sync()])?;
    wire.until_ready(1).map(drop)
}

#[test]
fn after_an_error_everything_is_skipped_up_to_sync() -> Result<()> {
    let mut sessions = sessions()?;
    let broken = [
        "SELECT no_such FROM people",
        "SELECT email FROM no_such_table",
        "SELEKT",
        "INSERT INTO people VALUES (1, 'same key', 1)",
        "SELECT id FROM people WHERE email = $1 AND 1 = 'x'",
    ];
    for sql in broken {
        let messages = [
            Message::parse("before", ALL, &[]),
            Message::parse("", sql, &[]),
            Message::bind_text(&[]),
            Message::execute("", 0),
            Message::parse("after", ALL, &[]),
            Message::sync(),
            Message::describe_statement("after"),
            Message::sync(),
            Message::describe_statement("before"),
            Message::close_statement("before"),
            Message::sync(),
        ];
        alike(&mut sessions, &messages, 3)?;
    }
    Ok(())
}

#[test]
fn a_refusal_keeps_its_place_in_a_pipeline() -> Result<()> {
    let twin = crate::twin()?;
    let mut wire = pgveil_tests::wire::Wire::connect(&twin.proxy.target("app"))?;
    let one = |sql: &str| {
        [
            Message::parse("", sql, &[]),
            Message::bind_text(&[]),
            Message::execute("", 0),
        ]
    };
    let mut messages = Vec::new();
    messages.extend(one("SELECT id FROM people WHERE id = 1"));
    messages.extend(one("SELECT upper(email) FROM people"));
    messages.extend(one("SELECT 'skipped'"));
    messages.push(Message::sync());
    messages.extend(one("SELECT 'next'"));
    messages.push(Message::sync());
    let said = wire.exchange(&messages, 2)?;
    let kinds: Vec<&str> = said
        .lines()
        .map(|line| line.split(' ').next().unwrap_or_default())
        .collect();
    let wanted = [
        "ParseComplete",
        "BindComplete",
        "DataRow",
        "CommandComplete",
        "ErrorResponse",
        "ReadyForQuery",
        "ParseComplete",
        "BindComplete",
        "DataRow",
        "CommandComplete",
        "ReadyForQuery",
    ];
    ensure!(kinds == wanted, "{said}");
    ensure!(said.contains("ErrorResponse ERROR 0A000"), "{said}");
    Ok(())
}

#[test]
fn a_refusal_fails_the_transaction_it_is_in() -> Result<()> {
    let twin = crate::twin()?;
    let mut wire = pgveil_tests::wire::Wire::connect(&twin.proxy.target("app"))?;
    wire.query("BEGIN")?;
    let refused = wire.query("SELECT upper(email) FROM people")?;
    ensure!(refused.ends_with("ReadyForQuery E"), "{refused}");
    let after = wire.query("SELECT 1")?;
    ensure!(after.contains("25P02"), "{after}");
    let rolled_back = wire.query("COMMIT")?;
    ensure!(
        rolled_back == "CommandComplete ROLLBACK\nReadyForQuery I",
        "{rolled_back}"
    );
    let alone = wire.query("SELECT upper(email) FROM people")?;
    ensure!(alone.ends_with("ReadyForQuery I"), "{alone}");
    Ok(())
}

#[test]
fn portals_are_read_in_pieces() -> Result<()> {
    let mut sessions = sessions()?;
    let open = |portal: &'static str| {
        Message::bind(&Bind {
            portal,
            statement: "all",
            ..Bind::default()
        })
    };
    let messages = [
        Message::query("BEGIN"),
        Message::parse("all", ALL, &[]),
        open("one"),
        open("two"),
        Message::execute("one", 2),
        Message::execute("two", 1),
        Message::sync(),
        Message::execute("one", 2),
        Message::describe_portal("two"),
        Message::execute("two", 100),
        Message::execute("one", 2),
        Message::execute("one", 2),
        Message::close_portal("one"),
        Message::sync(),
        Message::execute("one", 1),
        Message::sync(),
        Message::query("ROLLBACK"),
    ];
    alike(&mut sessions, &messages, 5).map(drop)
}

#[test]
fn describe_shows_logical_types() -> Result<()> {
    let mut sessions = sessions()?;
    let statements = [
        BY_EMAIL,
        ALL,
        "INSERT INTO people VALUES ($1, $2, $3)",
        "INSERT INTO people (age, email, id) VALUES ($3, $2, $1) RETURNING *",
        "UPDATE people SET email = $2, age = $3 WHERE email = $1",
        "DELETE FROM people WHERE email = ANY ($1)",
        "SELECT $1::int, email FROM people WHERE email = $2 AND id = $3",
        "SELECT 1",
    ];
    for sql in statements {
        let messages = [
            Message::parse("d", sql, &[]),
            Message::describe_statement("d"),
            Message::close_statement("d"),
            Message::sync(),
        ];
        alike(&mut sessions, &messages, 1)?;
    }
    Ok(())
}

/// A statement, the OIDs that the client names, and its parameters.
type Typed<'a> = (&'a str, &'a [u32], &'a [Option<&'a str>]);

#[test]
fn a_client_may_name_the_types_of_its_parameters() -> Result<()> {
    let mut sessions = sessions()?;
    let (text, varchar, int4, int8, unknown) = (25, 1043, 23, 20, 705);
    let cases: [Typed<'_>; 6] = [
        (BY_EMAIL, &[text], &[Some("ada@example.com")]),
        (BY_EMAIL, &[varchar], &[Some("ada@example.com")]),
        (BY_EMAIL, &[unknown], &[Some("ada@example.com")]),
        (BY_EMAIL, &[0], &[Some("ada@example.com")]),
        (
            "SELECT id FROM people WHERE id = $1 AND email = $2",
            &[int8],
            &[Some("1"), Some("ada@example.com")],
        ),
        (
            "INSERT INTO people VALUES ($1, $2, $3) RETURNING age",
            &[int4, text, int8],
            &[Some("60"), None, Some("5")],
        ),
    ];
    for (sql, oids, params) in cases {
        let messages = [
            Message::query("BEGIN"),
            Message::parse("", sql, oids),
            Message::describe_statement(""),
            Message::bind_text(params),
            Message::execute("", 0),
            Message::sync(),
            Message::query("ROLLBACK"),
        ];
        alike(&mut sessions, &messages, 3)?;
    }
    Ok(())
}

#[test]
fn names_of_statements_live_as_in_postgres() -> Result<()> {
    let mut sessions = sessions()?;
    let bind = |statement: &'static str| {
        Message::bind(&Bind {
            statement,
            ..Bind::default()
        })
    };
    let messages = [
        Message::parse("s", ALL, &[]),
        Message::sync(),
        Message::parse("s", "SELECT 1", &[]),
        Message::sync(),
        bind("s"),
        Message::execute("", 1),
        Message::sync(),
        bind("unknown"),
        Message::sync(),
        Message::execute("unknown", 0),
        Message::sync(),
        Message::close_statement("unknown"),
        Message::close_portal("unknown"),
        Message::sync(),
        Message::close_statement("s"),
        bind("s"),
        Message::sync(),
        Message::parse("", ALL, &[]),
        Message::sync(),
        Message::query("SELECT 1"),
        bind(""),
        Message::sync(),
        Message::parse("", ALL, &[]),
        Message::parse("", "SELEKT", &[]),
        Message::sync(),
        bind(""),
        Message::sync(),
    ];
    alike(&mut sessions, &messages, 12).map(drop)
}

#[test]
fn deallocate_and_discard_forget_statements() -> Result<()> {
    let mut sessions = sessions()?;
    let bind = |statement: &'static str| {
        Message::bind(&Bind {
            statement,
            ..Bind::default()
        })
    };
    let messages = [
        Message::parse("a", ALL, &[]),
        Message::parse("b", ALL, &[]),
        Message::sync(),
        Message::query("DEALLOCATE a"),
        bind("a"),
        Message::sync(),
        Message::parse("a", "SELECT id FROM open ORDER BY id", &[]),
        bind("a"),
        Message::execute("", 0),
        Message::sync(),
        Message::query("DISCARD ALL"),
        bind("b"),
        Message::sync(),
        Message::parse("b", "SELECT age FROM people ORDER BY id", &[]),
        bind("b"),
        Message::execute("", 0),
        Message::sync(),
    ];
    alike(&mut sessions, &messages, 7).map(drop)
}

#[test]
fn formats_may_differ_from_column_to_column() -> Result<()> {
    let mut sessions = sessions()?;
    let bind = |results: &'static [i16]| {
        Message::bind(&Bind {
            results,
            ..Bind::default()
        })
    };
    for results in [&[][..], &[0], &[1], &[1, 0, 1], &[0, 1, 0]] {
        let messages = [
            Message::parse("", "SELECT id, email, age FROM people ORDER BY id", &[]),
            bind(results),
            Message::describe_portal(""),
            Message::execute("", 0),
            Message::sync(),
        ];
        alike(&mut sessions, &messages, 1)?;
    }
    let wrong = [
        Message::parse("", ALL, &[]),
        bind(&[0, 1, 0]),
        Message::sync(),
    ];
    alike(&mut sessions, &wrong, 1).map(drop)
}

#[test]
fn too_few_or_too_many_parameters_are_the_servers_error() -> Result<()> {
    let mut sessions = sessions()?;
    for params in [&[][..], &[Some("a"), Some("b")]] {
        let messages = [
            Message::parse("", BY_EMAIL, &[]),
            Message::bind_text(params),
            Message::execute("", 0),
            Message::sync(),
        ];
        let (direct, veiled) = sessions.exchange(&messages, 1)?;
        let code = pgveil_tests::twin::sqlstate;
        ensure!(
            code(&direct) == code(&veiled),
            "{:?} and {:?}",
            code(&direct),
            code(&veiled)
        );
    }
    Ok(())
}
