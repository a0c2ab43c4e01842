//! Strings of several statements in which settings change and transactions end: what can be sent in parts is, and what a
//! client sees is what one message would have shown.

use anyhow::{Result, ensure};
use pgveil_tests::{
    twin::Sessions,
    wire::{Message, Reply, Wire, transcript},
};

use crate::{sessions, twin};

#[test]
fn settings_and_transactions_change_within_a_string() -> Result<()> {
    let mut sessions = sessions()?;
    for sql in [
        "BEGIN; SET LOCAL search_path = pg_catalog, public; SELECT email FROM people WHERE email = 'ada@example.com'; COMMIT",
        "BEGIN; SELECT email FROM people WHERE id = 1; ROLLBACK; SELECT email FROM people WHERE id = 2",
        "BEGIN; INSERT INTO people VALUES (60, 'x', 1); ROLLBACK; SELECT count(*) FROM people WHERE id = 60; SELECT email FROM people WHERE id = 3",
        "SET statement_timeout = 0; SELECT email FROM people WHERE id = 1",
        "SET LOCAL app.\"user\" = 'ada'; SELECT email FROM people WHERE id = 1; RESET work_mem",
        "SHOW search_path; SELECT email FROM people WHERE id = 1",
        "BEGIN; SET LOCAL bytea_output = 'escape'; SELECT nope, email FROM people; COMMIT",
        "ROLLBACK; SELECT nope, email FROM people",
        "BEGIN; SELECT 1/0; SET LOCAL search_path = public; SELECT email FROM people",
        "ROLLBACK; SELECT email FROM people WHERE id = 1",
        "BEGIN; SAVEPOINT s; SELECT 1/0",
        "ROLLBACK TO s; SELECT email FROM people WHERE id = 1; COMMIT; SELECT age FROM people WHERE id = 1",
        "BEGIN; SET LOCAL search_path = public; SELECT email FROM people WHERE id = 1; SET LOCAL search_path = pg_catalog; \
         SELECT age FROM public.people WHERE email = 'ada@example.com'; ROLLBACK; SELECT email FROM people WHERE id = 1",
        "BEGIN",
        "SET LOCAL extra_float_digits = 0; SELECT email FROM people WHERE id = 1; SET LOCAL TimeZone = 'UTC'; SELECT 1/0",
        "COMMIT",
        "BEGIN; UPDATE people SET email = 'y' WHERE id = 1; SAVEPOINT s; UPDATE people SET email = 'z' WHERE id = 1; ROLLBACK TO s; \
         SELECT email FROM people WHERE id = 1; ROLLBACK",
        "BEGIN; ROLLBACK; BEGIN; SELECT email FROM people WHERE id = 1; COMMIT; SELECT email FROM people WHERE id = 2",
    ] {
        alike_but_for_parts(&mut sessions, &[Message::query(sql)], 1)?;
    }
    // The next message was sent before the string was answered.
    let pipeline = [
        Message::query("BEGIN; ROLLBACK; SELECT email FROM people WHERE id = 1"),
        Message::query("SELECT 1"),
        Message::query(
            "BEGIN; SET LOCAL search_path = public; SELECT email FROM people WHERE id = 2; COMMIT",
        ),
        Message::query("SELECT 2"),
    ];
    alike_but_for_parts(&mut sessions, &pipeline, 4)
}

/// Since PostgreSQL 18 `search_path` is reported, as a server does before each ReadyForQuery: so between parts of a string too,
/// where it changes.
fn alike_but_for_parts(
    sessions: &mut Sessions,
    messages: &[Message],
    readies: usize,
) -> Result<()> {
    let (direct, veiled) = sessions.exchange(messages, readies)?;
    let told = |replies: &[Reply]| {
        let said = transcript(replies);
        let lines = said.lines();
        let kept: Vec<&str> = lines
            .filter(|line| !line.starts_with("ParameterStatus search_path="))
            .collect();
        kept.join("\n")
    };
    let (direct, veiled) = (told(&direct), told(&veiled));
    ensure!(
        direct == veiled,
        "directly:\n{direct}\n\nthrough pgveil:\n{veiled}"
    );
    Ok(())
}

#[test]
fn what_one_transaction_must_hold_is_not_sent_in_parts() -> Result<()> {
    let mut wire = Wire::connect(&twin()?.proxy.target("app"))?;
    for sql in [
        "SET search_path = public; SELECT email FROM people",
        "INSERT INTO people VALUES (61, 'x', 1); SET TimeZone = 'UTC'; SELECT email FROM people",
        "BEGIN; COMMIT; SET search_path = public; SELECT email FROM people",
    ] {
        let said = wire.query(sql)?;
        ensure!(said.contains("ErrorResponse ERROR 0A000"), "{sql}\n{said}");
        ensure!(said.ends_with("ReadyForQuery I"), "{sql}\n{said}");
    }
    let said = wire.query("SELECT count(*) FROM people WHERE id = 61")?;
    ensure!(said.contains("DataRow [\"0\"]"), "{said}");
    Ok(())
}

#[test]
fn an_explanation_keeps_its_place() -> Result<()> {
    let mut wire = Wire::connect(&twin()?.proxy.target("app"))?;
    wire.send(&[
        Message::parse(
            "",
            "EXPLAIN (PGVEIL) SELECT email FROM people WHERE email = $1",
            &[],
        ),
        Message::describe_statement(""),
        Message::bind_text(&[Some("canary@example.com")]),
        Message::execute("", 0),
        Message::parse("", "SELECT 1/0", &[]),
        Message::bind_text(&[]),
        Message::execute("", 0),
        Message::parse("", "EXPLAIN (PGVEIL) SELECT email FROM people", &[]),
        Message::sync(),
    ])?;
    let said = pgveil_tests::wire::transcript(&wire.until_ready(1)?);
    ensure!(said.contains("ParameterDescription 25"), "{said}");
    ensure!(said.contains("CommandComplete EXPLAIN"), "{said}");
    ensure!(
        said.contains("equality term for public.people.email"),
        "{said}"
    );
    ensure!(!said.contains("canary"), "{said}");
    ensure!(said.matches("ParseComplete").count() == 2, "{said}");
    Ok(())
}
