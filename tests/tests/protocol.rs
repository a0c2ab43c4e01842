//! The wire protocol through pgveil: what a client sees is what Postgres itself would send. Covers pipelining, Flush, errors
//! up to Sync, portals, Describe, several statements in one Query, COPY, LISTEN/NOTIFY, cancel, big rows, back-pressure,
//! start-up in every version, malformed frames, TLS on both legs, and the ways to log in.

#[path = "protocol/alpn.rs"]
mod alpn;
#[path = "protocol/authentication.rs"]
mod authentication;
#[path = "protocol/cursors.rs"]
mod cursors;
#[path = "protocol/extended.rs"]
mod extended;
#[path = "protocol/hostile.rs"]
mod hostile;
#[path = "protocol/implicit.rs"]
mod implicit;
#[path = "protocol/login.rs"]
mod login;
#[path = "protocol/malformed.rs"]
mod malformed;
#[path = "protocol/outage.rs"]
mod outage;
#[path = "protocol/papers.rs"]
mod papers;
#[path = "protocol/prepared.rs"]
mod prepared;
#[path = "protocol/replication.rs"]
mod replication;
#[path = "protocol/session.rs"]
mod session;
#[path = "protocol/size.rs"]
mod size;
#[path = "protocol/sockets.rs"]
mod sockets;
#[path = "protocol/startup.rs"]
mod startup;
#[path = "protocol/strings.rs"]
mod strings;
#[path = "protocol/tls.rs"]
mod tls;

use std::sync::OnceLock;

use anyhow::{Result, anyhow, ensure};
use pgveil_tests::{
    postgres::TempPostgres,
    twin::{Sessions, Twin},
    wire::{Bind, Message, transcript},
};

const TABLES: &str = "
    CREATE TABLE people (id int PRIMARY KEY, email text, age int4);
    CREATE TABLE open (id int PRIMARY KEY, v text);
";
const POLICY: &str = r#"
public.people  scope = "platform"  email: text, search = ["equality"]  age: int4, search = ["equality"]
"#;
const ROWS: &str = "
    INSERT INTO people VALUES (1, 'ada@example.com', 36), (2, 'bob@example.com', NULL), (3, NULL, 7),
        (4, 'eve@example.com', 0), (5, 'mallory@example.com', -1);
    INSERT INTO open VALUES (1, 'one'), (2, NULL);
";

/// Shared by all tests that leave no trace.
fn twin() -> Result<&'static Twin<'static>> {
    static TWIN: OnceLock<Result<Twin<'static>, String>> = OnceLock::new();
    let made = TWIN.get_or_init(|| fresh_twin().map_err(|error| format!("{error:#}")));
    made.as_ref().map_err(|error| anyhow!("{error}"))
}

fn fresh_twin() -> Result<Twin<'static>> {
    Twin::new(TempPostgres::shared()?, TABLES, POLICY, ROWS)
}

fn sessions() -> Result<Sessions> {
    twin()?.sessions("app")
}

/// Sends the same messages to both sides and asks for the same transcript, message by message.
fn alike(sessions: &mut Sessions, messages: &[Message], readies: usize) -> Result<String> {
    let (direct, veiled) = sessions.exchange(messages, readies)?;
    let (direct, veiled) = (transcript(&direct), transcript(&veiled));
    ensure!(
        direct == veiled,
        "directly:\n{direct}\n\nthrough pgveil:\n{veiled}"
    );
    Ok(veiled)
}

/// One string after the other, each as a Query.
fn same_in_turn(strings: &[&str]) -> Result<Vec<String>> {
    let mut sessions = sessions()?;
    strings
        .iter()
        .map(|sql| alike(&mut sessions, &[Message::query(sql)], 1))
        .collect()
}

/// Parse, Bind, Describe, Execute, Sync.
fn extended(sql: &str, params: &[Option<&[u8]>], results: &[i16]) -> [Message; 5] {
    [
        Message::parse("", sql, &[]),
        Message::bind(&Bind {
            params,
            results,
            ..Bind::default()
        }),
        Message::describe_portal(""),
        Message::execute("", 0),
        Message::sync(),
    ]
}
