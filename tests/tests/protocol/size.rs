//! Big rows, and readers that are slower than the server.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use pgveil_tests::{
    proxy::Proxy,
    wire::{Bind, Message, Wire},
};

use crate::{fresh_twin, twin};

const BIG: usize = 50 * 1024 * 1024;

/// Resident memory in MiB.
fn resident(proxy: &Proxy) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.process().pid()))?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .context("VmRSS")?;
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .context("a number")?
        .parse()?;
    Ok(kib / 1024)
}

#[test]
fn a_row_of_fifty_megabytes_passes() -> Result<()> {
    let mut wire = Wire::connect(&twin()?.proxy.target("app"))?;
    let big = "x".repeat(BIG);
    for (table, column) in [("open", "v"), ("people", "email")] {
        wire.query("BEGIN")?;
        let id = Some(&b"900"[..]);
        wire.send(&[
            Message::parse(
                "",
                &format!("INSERT INTO {table} (id, {column}) VALUES ($1, $2)"),
                &[],
            ),
            Message::bind(&Bind {
                params: &[id, Some(big.as_bytes())],
                ..Bind::default()
            }),
            Message::execute("", 0),
            Message::sync(),
        ])?;
        let stored = wire.until_ready(1)?;
        ensure!(
            stored.iter().all(|reply| reply.tag != b'E'),
            "{table}: {}",
            pgveil_tests::wire::transcript(&stored)
        );
        wire.send(&[Message::query(&format!(
            "SELECT {column} FROM {table} WHERE id = 900"
        ))])?;
        let read = wire.until_ready(1)?;
        let row = read
            .iter()
            .find(|reply| reply.tag == b'D')
            .context("a row")?;
        ensure!(
            row.body.len() == BIG + 6 && row.body[6..].iter().all(|byte| *byte == b'x'),
            "{table}"
        );
        wire.query("ROLLBACK")?;
    }
    Ok(())
}

#[test]
fn a_slow_reader_makes_the_server_wait() -> Result<()> {
    let twin = fresh_twin()?;
    let mut wire = Wire::connect(&twin.proxy.target("app"))?;
    let rows = 200_000;
    wire.send(&[Message::query(&format!(
        "SELECT repeat('x', 1000), p.email FROM people p, generate_series(1, {rows}) WHERE p.id = 1"
    ))])?;
    // The server itself says when it cannot get rid of more.
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'ClientWrite'";
    let deadline = Instant::now() + Duration::from_secs(30);
    while twin.veiled.admin(waiting)? != "1" {
        ensure!(
            Instant::now() < deadline,
            "the server never had to wait: something buffers without a limit"
        );
    }
    let resident = resident(&twin.proxy)?;
    ensure!(
        resident < 100,
        "{resident} MiB while the client does not read"
    );
    let replies = wire.until_ready(1)?;
    ensure!(replies.iter().filter(|reply| reply.tag == b'D').count() == rows);
    Ok(())
}

#[test]
fn a_client_that_writes_without_reading_is_answered_in_full() -> Result<()> {
    let mut wire = Wire::connect(&twin()?.proxy.target("app"))?;
    let count = 5_000;
    let messages: Vec<Message> = (0..count)
        .map(|_| Message::query("SELECT email FROM people WHERE email = 'ada@example.com'"))
        .collect();
    wire.send(&messages)?;
    let replies = wire.until_ready(count)?;
    ensure!(replies.iter().filter(|reply| reply.tag == b'D').count() == count);
    Ok(())
}

#[test]
fn many_rows_of_protected_values_are_all_there() -> Result<()> {
    let twin = fresh_twin()?;
    let mut sessions = twin.sessions("app")?;
    let values: Vec<String> = (1000..6000)
        .map(|id| format!("({id}, 'person{id}@example.com', {id})"))
        .collect();
    crate::alike(
        &mut sessions,
        &[Message::query(&format!(
            "INSERT INTO people VALUES {}",
            values.join(", ")
        ))],
        1,
    )?;
    crate::alike(
        &mut sessions,
        &[Message::query("SELECT * FROM people ORDER BY id")],
        1,
    )?;
    crate::alike(
        &mut sessions,
        &[Message::query(
            "SELECT id FROM people WHERE email = 'person3333@example.com'",
        )],
        1,
    )
    .map(drop)
}

/// Statements that are made and closed again leave nothing behind, however many there were.
#[test]
fn thousands_of_prepared_statements_are_kept_and_given_back() -> Result<()> {
    const STATEMENTS: usize = 2_000;
    const CLOSED_AT_ONCE: usize = 500;
    let twin = fresh_twin()?;
    let mut wire = Wire::connect(&twin.proxy.target("app"))?;
    let mut after = Vec::new();
    for round in 0..3 {
        for first in (0..STATEMENTS).step_by(CLOSED_AT_ONCE) {
            let name = |index: usize| format!("statement {index}");
            let range = first..first + CLOSED_AT_ONCE;
            let mut messages: Vec<Message> = range
                .map(|index| {
                    let sql = format!("SELECT email, {index} FROM people WHERE email = $1");
                    Message::parse(&name(index), &sql, &[])
                })
                .collect();
            messages.push(Message::sync());
            wire.send(&messages)?;
            let made = wire.until_ready(1)?;
            ensure!(made.iter().filter(|reply| reply.tag == b'1').count() == CLOSED_AT_ONCE);
        }
        wire.send(&[
            Message::bind(&Bind {
                statement: "statement 1999",
                params: &[Some(b"ada@example.com")],
                ..Bind::default()
            }),
            Message::execute("", 0),
            Message::sync(),
        ])?;
        let found = wire.until_ready(1)?;
        ensure!(found.iter().any(|reply| reply.tag == b'D'), "round {round}");
        if round == 0 {
            let closes =
                (0..STATEMENTS).map(|i| Message::close_statement(&format!("statement {i}")));
            let mut messages: Vec<Message> = closes.collect();
            messages.push(Message::sync());
            wire.send(&messages)?;
            wire.until_ready(1)?;
        } else {
            let said = wire.query("DEALLOCATE ALL")?;
            ensure!(said.contains("DEALLOCATE ALL"), "{said}");
        }
        let gone = wire.exchange(
            &[
                Message::bind(&Bind {
                    statement: "statement 1",
                    params: &[Some(b"x")],
                    ..Bind::default()
                }),
                Message::sync(),
            ],
            1,
        )?;
        ensure!(gone.contains("26000"), "{gone}");
        after.push(resident(&twin.proxy)?);
    }
    ensure!(
        after[0] < 200 && after[2] < after[0] + 20,
        "MiB after each round: {after:?}"
    );
    Ok(())
}
