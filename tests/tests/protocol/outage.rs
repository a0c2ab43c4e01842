//! The server goes away in the middle of what sessions do: each client is told what a direct client is told, no session hangs, and
//! pgveil serves on when the server is back.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use pgveil_tests::{
    postgres::{Options, TempPostgres},
    psql::Target,
    twin::Twin,
    wire::{Message, Reply, Wire, error_field},
};

use crate::{POLICY, ROWS, TABLES};

/// What a session is doing when the server goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Nothing,
    InTransaction,
    Copying,
    Computing,
    Reading,
}

const ALL: [Doing; 5] = [
    Doing::Nothing,
    Doing::InTransaction,
    Doing::Copying,
    Doing::Computing,
    Doing::Reading,
];

/// A session that is doing it. Numbers come from a select list: in FROM the server would write them all down first.
fn busy(target: &Target, doing: Doing) -> Result<Wire> {
    let mut wire = Wire::connect(target)?;
    match doing {
        Doing::Nothing => {
            wire.query("SELECT email FROM people")?;
        }
        Doing::InTransaction => {
            wire.query("BEGIN")?;
            wire.query("UPDATE people SET age = 1 WHERE email = 'nobody@example.com'")?;
        }
        Doing::Copying => {
            wire.send(&[Message::query("COPY people (id, email) FROM STDIN")])?;
            wire.until(b'G', 1)?;
            wire.send(&[Message::copy_data(b"100\tcopied@example.com\n")])?;
        }
        Doing::Computing => wire.send(&[Message::query(
            "SELECT email, (SELECT count(*) FROM (SELECT generate_series(1, 100000000000)) numbers) FROM people",
        )])?,
        Doing::Reading => {
            wire.send(&[Message::query(
                "SELECT repeat('x', 1000), p.email FROM people p, (SELECT generate_series(1, 100000000)) numbers",
            )])?;
            wire.until(b'D', 1)?;
        }
    }
    Ok(wire)
}

/// What it is told at last: severities and codes, up to the end of the connection. A result that is cut off within
/// a message is cut off on a direct connection too.
fn last_words(wire: &mut Wire, doing: Doing) -> Result<Vec<String>> {
    if doing == Doing::Reading {
        wire.ends()?;
        return Ok(Vec::new());
    }
    let replies = wire.until_closed()?;
    let told = replies
        .iter()
        .filter(|reply| matches!(reply.tag, b'E' | b'N'));
    let words = |reply: &Reply| {
        let field = |code| error_field(reply, code).unwrap_or_default();
        format!("{} {}", field(b'V'), field(b'C'))
    };
    Ok(told.map(words).collect())
}

fn told_alike(sessions: Vec<(Doing, Wire, Wire)>) -> Result<()> {
    for (doing, mut direct, mut veiled) in sessions {
        let (direct, veiled) = (
            last_words(&mut direct, doing)?,
            last_words(&mut veiled, doing)?,
        );
        ensure!(
            direct == veiled,
            "{doing:?}: directly {direct:?}, through pgveil {veiled:?}"
        );
    }
    Ok(())
}

fn all_busy(twin: &Twin<'_>) -> Result<Vec<(Doing, Wire, Wire)>> {
    let each = ALL.into_iter().map(|doing| {
        let direct = busy(&twin.plain.target("app"), doing)?;
        Ok((doing, direct, busy(&twin.proxy.target("app"), doing)?))
    });
    each.collect()
}

#[test]
fn sessions_that_are_terminated_are_told_so_whatever_they_do() -> Result<()> {
    let server = TempPostgres::start(&Options::default())?;
    let twin = Twin::new(&server, TABLES, POLICY, ROWS)?;
    let sessions = all_busy(&twin)?;
    server.admin(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'",
    )?;
    told_alike(sessions)?;
    let said = twin
        .proxy
        .psql("app", "SELECT email FROM people WHERE id = 1")?;
    ensure!(said.contains("ada@example.com"), "{said}");
    Ok(())
}

#[test]
fn a_server_that_crashes_and_comes_back_is_used_again() -> Result<()> {
    let server = TempPostgres::start(&Options::default())?;
    let twin = Twin::new(&server, TABLES, POLICY, ROWS)?;
    let mut victim = Wire::connect(&twin.plain.target("app"))?;
    let sessions = all_busy(&twin)?;
    let key = victim.cancel_key()?;
    let pid = u32::from_be_bytes([key[0], key[1], key[2], key[3]]);
    // The server takes the loss of one backend for a crash, ends all others and starts anew.
    ensure!(
        Command::new("kill")
            .args(["-KILL", &pid.to_string()])
            .status()?
            .success()
    );
    victim.ends()?;
    told_alike(sessions)?;
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let said = twin.proxy.psql(
            "app",
            "SELECT email FROM people WHERE email = 'ada@example.com'",
        );
        match said {
            Ok(said) if said.contains("ada@example.com") => break,
            _ => ensure!(
                Instant::now() < deadline,
                "pgveil does not come back with the server"
            ),
        }
    }
    twin.proxy.psql("app", "CREATE TABLE more (id int)")?;
    let said = twin.proxy.psql(
        "app",
        "INSERT INTO people VALUES (50, 'new@example.com'); SELECT email FROM people WHERE id = 50",
    )?;
    ensure!(said.contains("new@example.com"), "{said}");
    Ok(())
}
