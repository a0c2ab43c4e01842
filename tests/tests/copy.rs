//! COPY with protected columns, to and from the client: the bytes are those of a plaintext Postgres, in text, CSV and
//! binary, under all options; errors keep their words, their lines and their place; pg_dump and pg_restore go through.

#[path = "copy/dump.rs"]
mod dump;
#[path = "copy/from.rs"]
mod from;
#[path = "copy/protocol.rs"]
mod protocol;
#[path = "copy/random.rs"]
mod random;
#[path = "copy/to.rs"]
mod to;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Result, anyhow, bail};
use pgveil_tests::{
    postgres::TempPostgres,
    twin::{Sessions, Twin},
    wire::{Message, Reply, describe, error_field},
};

const TABLES: &str = r#"
    CREATE TABLE people (
        id int PRIMARY KEY,
        email text UNIQUE,
        ssn varchar(11),
        age int4,
        balance numeric(12,2),
        born date,
        code bpchar(6),
        active bool,
        seen timestamptz,
        notes jsonb,
        raw bytea,
        plain text,
        doubled int GENERATED ALWAYS AS (id * 2) STORED
    );
    CREATE TABLE secrets (secret text);
    CREATE TABLE tenants (tenant_id int, body text, id int CHECK (id < 1000), author text);
    CREATE TABLE "Odd Name" ("E Mail" text, "select" int);
    CREATE TABLE open (id int, v text);
"#;

const POLICY: &str = r#"
public.people  scope = "platform"
    email: text, search = ["equality"]
    ssn: varchar(11), search = ["equality"]
    age: int4
    balance: numeric(12,2)
    born: date
    code: bpchar(6)
    active: bool
    seen: timestamptz
    notes: jsonb
    raw: bytea
public.secrets  scope = "platform"  secret: text, search = ["equality"]
public.tenants  scope = "tenant:{tenant_id}"  body: text, search = ["equality"]  author: text, search = ["equality"], search_key = "shared"
public."Odd Name"  scope = "platform"  "E Mail": text
"#;

const ROWS: &str = r#"
    INSERT INTO people (id, email, ssn, age, balance, born, code, active, seen, notes, raw, plain) VALUES
        (1, 'ada@example.com', '111-11-1111', 36, 1200.50, '1815-12-10', 'AB', true, '2024-02-29 12:34:56.789+00',
            '{"vip": true, "n": [1, 2]}', '\x00ff5c27220a', 'p1'),
        (2, E'tab\there, "quoted"\nnew line\r \\ back', E'a\tb,"c"', -1, -0.01, 'infinity', 'CD', false, 'infinity',
            '"a\"b"', '\x', E'plain\t\\ "x",\n'),
        (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (4, '', '', 0, 0, '0044-03-15 BC', '', NULL, NULL, 'null', '\x5c78', ''),
        (5, '\.', '\N', 5, 5, NULL, 'x', NULL, NULL, '[]', NULL, '\.'),
        (6, 'Ünïcödé ☃', 'é', 6, NULL, NULL, NULL, NULL, NULL, NULL, NULL, E'\b\f\v\x01');
    INSERT INTO secrets VALUES ('\.'), (''), (NULL), ('\N'), ('a,b'), ('"'), ('x');
    INSERT INTO tenants (tenant_id, body, id, author) VALUES (1, 'of one', 1, 'ada'), (2, 'of two', 2, 'ada'), (3, NULL, 3, NULL);
    INSERT INTO "Odd Name" VALUES ('odd@example.com', 1);
    INSERT INTO open VALUES (1, 'one'), (2, NULL);
"#;

fn twin() -> Result<&'static Twin<'static>> {
    static TWIN: OnceLock<Result<Twin<'static>, String>> = OnceLock::new();
    let made = TWIN.get_or_init(|| {
        TempPostgres::shared()
            .and_then(|server| Twin::new(server, TABLES, POLICY, ROWS))
            .map_err(|error| format!("{error:#}"))
    });
    made.as_ref().map_err(|error| anyhow!("{error}"))
}

/// Writers of the same keys would wait for each other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A message as a line; errors with their CONTEXT, but for a line that the server quotes in it: it holds ciphertext.
fn line(reply: &Reply) -> String {
    let mut line = describe(reply);
    if matches!(reply.tag, b'E' | b'N') {
        for code in [b'D', b'H', b'W'] {
            let text = error_field(reply, code).unwrap_or_default();
            // pgveil names the key of a unique index, but not its value.
            let text = match text.split_once(")=(") {
                Some((key, _)) if text.starts_with("Key (") => format!("{key}) already exists."),
                // Its values are the server's, who has only ciphertext.
                _ if text.starts_with("Failing row contains") => String::new(),
                _ => text,
            };
            let quotes_line = code == b'W' && !text.contains(", column ");
            let text = match text.split_once(": \"") {
                Some((place, _)) if quotes_line => place.to_owned(),
                _ => text,
            };
            line.push_str(&format!(" [{text}]"));
        }
    }
    line
}

fn lines(replies: &[Reply]) -> Vec<String> {
    replies.iter().map(line).collect()
}

/// Sends the same to both sides, in a transaction that is rolled back; what differs, or nothing.
fn difference(
    sessions: &mut Sessions,
    messages: &[Message],
    readies: usize,
) -> Result<Option<String>> {
    let mut all = vec![Message::query("begin")];
    all.extend_from_slice(messages);
    all.push(Message::query("rollback"));
    let (direct, veiled) = sessions.exchange(&all, readies + 2)?;
    let (direct, veiled) = (lines(&direct), lines(&veiled));
    if direct == veiled {
        return Ok(None);
    }
    let first = direct.iter().zip(&veiled).position(|(a, b)| a != b);
    let at = first.unwrap_or(direct.len().min(veiled.len()));
    let show = |lines: &[String]| {
        lines
            .get(at)
            .cloned()
            .unwrap_or_else(|| "nothing".to_owned())
    };
    Ok(Some(format!(
        "message {at}\n  directly: {}\n  through pgveil: {}",
        show(&direct),
        show(&veiled)
    )))
}

/// A statement by itself in the extended protocol.
fn extended(sql: &str) -> Vec<Message> {
    vec![
        Message::parse("", sql, &[]),
        Message::describe_statement(""),
        Message::bind_text(&[]),
        Message::describe_portal(""),
        Message::execute("", 0),
    ]
}

fn fail_if_any(wrong: Vec<String>) -> Result<()> {
    if !wrong.is_empty() {
        bail!("{} differ\n\n{}", wrong.len(), wrong.join("\n\n"));
    }
    Ok(())
}
