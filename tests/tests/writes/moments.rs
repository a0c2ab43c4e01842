//! What only the server knows: its time and who asks, in protected columns and beside them. Two columns of one statement
//! get the same, as on plaintext.

use anyhow::{Context, Result, ensure};
use pgveil_tests::{
    postgres::TempPostgres,
    twin::{Case, Expect, Twin, sqlstate},
    wire::{Message, Reply, Wire},
};

const TABLES: &str = "
    CREATE TABLE visits (
        id int PRIMARY KEY,
        seen timestamptz, seen_plain timestamptz DEFAULT now(),
        day date, day_plain date DEFAULT CURRENT_DATE,
        at_utc timestamp, at_utc_plain timestamp,
        clock time, clock_plain time,
        who text, who_plain text DEFAULT CURRENT_USER,
        room int
    );
";

const POLICY: &str = r#"
public.visits  scope = "platform"
    seen: timestamptz, search = ["equality"]
    day: date, search = ["equality"]
    at_utc: timestamp, search = ["equality"]
    clock: time, search = ["equality"]
    who: text, search = ["equality"]
"#;

const ALL: &str = "VALUES ($id, now(), CURRENT_TIMESTAMP, CURRENT_DATE, CURRENT_DATE, now() AT TIME ZONE 'utc', \
    timezone('UTC', now()), LOCALTIME, LOCALTIME, CURRENT_USER, CURRENT_USER) \
    RETURNING seen, seen_plain, day, day_plain, at_utc, at_utc_plain, clock, clock_plain, who, who_plain";
const COLUMNS: &str = "INSERT INTO visits (id, seen, seen_plain, day, day_plain, at_utc, at_utc_plain, clock, clock_plain, who, who_plain)";

fn twin() -> Result<Twin<'static>> {
    let rows = "INSERT INTO visits (id, day) VALUES (1, '2001-02-03')";
    Twin::new(TempPostgres::shared()?, TABLES, POLICY, rows)
}

fn all(id: u32) -> String {
    format!("{COLUMNS} {}", ALL.replace("$id", &id.to_string()))
}

/// The fields of the rows among some replies.
fn rows(replies: &[Reply]) -> Result<Vec<Vec<String>>> {
    let rows = replies.iter().filter(|reply| reply.tag == b'D');
    rows.map(|reply| {
        let mut rest = reply.body.get(2..).context("a row")?;
        let mut fields = Vec::new();
        while let Some((length, behind)) = rest.split_at_checked(4) {
            let length = usize::try_from(i32::from_be_bytes(length.try_into()?))?;
            let (field, behind) = behind.split_at_checked(length).context("a field")?;
            fields.push(String::from_utf8(field.to_vec())?);
            rest = behind;
        }
        Ok(fields)
    })
    .collect()
}

fn asked(wire: &mut Wire, messages: &[Message]) -> Result<Vec<Reply>> {
    wire.send(messages)?;
    wire.until_ready(1)
}

type Ask = fn(&mut Wire, &str) -> Result<Vec<Reply>>;

fn simple(wire: &mut Wire, sql: &str) -> Result<Vec<Reply>> {
    asked(wire, &[Message::query(sql)])
}

/// In a block of its own.
fn in_block(wire: &mut Wire, sql: &str) -> Result<Vec<Reply>> {
    simple(wire, "BEGIN")?;
    let mut replies = simple(wire, sql)?;
    replies.extend(simple(wire, "COMMIT")?);
    Ok(replies)
}

fn extended(wire: &mut Wire, sql: &str) -> Result<Vec<Reply>> {
    let messages = [
        Message::parse("", sql, &[]),
        Message::bind_text(&[]),
        Message::describe_portal(""),
        Message::execute("", 0),
        Message::sync(),
    ];
    asked(wire, &messages)
}

/// The state that the last ReadyForQuery tells.
fn state(replies: &[Reply]) -> Option<u8> {
    replies.last().and_then(|reply| reply.body.first().copied())
}

fn is_one_moment(replies: &[Reply], what: &str) -> Result<Vec<String>> {
    let found = rows(replies)?;
    let [row] = found.as_slice() else {
        anyhow::bail!("{what}: {found:?}, {:?}", sqlstate(replies));
    };
    for pair in row.chunks(2) {
        ensure!(pair[0] == pair[1], "{what}: {row:?}");
    }
    Ok(row.clone())
}

#[test]
fn columns_of_one_statement_get_the_same_moment() -> Result<()> {
    let twin = twin()?;
    let mut wire = Wire::connect(&twin.proxy.target("app"))?;
    let mut other = Wire::connect(&twin.proxy.target("app"))?;
    for (id, ask) in [(10, in_block as Ask), (20, extended as Ask)] {
        let replies = ask(&mut wire, &all(id))?;
        ensure!(is_one_moment(&replies, "one statement")?.len() == 10);
        ensure!(state(&replies) == Some(b'I'));
        // It has been committed.
        let seen = simple(
            &mut other,
            &format!("SELECT seen FROM visits WHERE id = {id}"),
        )?;
        ensure!(rows(&seen)?.len() == 1, "the row of {id} is not there");
        // What the server fills in by itself is of the same moment.
        let sql = format!(
            "INSERT INTO visits (id, seen, day, who) VALUES ({}, now(), CURRENT_DATE, CURRENT_USER) \
             RETURNING seen, seen_plain, day, day_plain, who, who_plain",
            id + 1
        );
        is_one_moment(&ask(&mut wire, &sql)?, "defaults")?;
        let sql = format!(
            "UPDATE visits SET seen = now(), seen_plain = now() WHERE id = {id} RETURNING seen, seen_plain"
        );
        is_one_moment(&ask(&mut wire, &sql)?, "UPDATE")?;
        let sql = format!("SELECT id, {id} FROM visits WHERE id = {id} AND day = CURRENT_DATE");
        ensure!(rows(&ask(&mut wire, &sql)?)?.len() == 1);
    }
    Ok(())
}

#[test]
fn a_transaction_is_one_moment() -> Result<()> {
    let twin = twin()?;
    let mut wire = Wire::connect(&twin.proxy.target("app"))?;
    simple(&mut wire, "BEGIN")?;
    let first = is_one_moment(&simple(&mut wire, &all(10))?, "the first")?;
    let second = is_one_moment(&extended(&mut wire, &all(11))?, "the second")?;
    let third = simple(&mut wire, &all(12))?;
    ensure!(state(&third) == Some(b'T'));
    ensure!(first == second && second == is_one_moment(&third, "the third")?);
    simple(&mut wire, "COMMIT")?;
    let replies = simple(&mut wire, &all(13))?;
    ensure!(
        sqlstate(&replies).as_deref() == Some("0A000"),
        "outside a block it is refused"
    );
    ensure!(state(&replies) == Some(b'I'));
    Ok(())
}

#[test]
fn a_statement_that_fails_ends_its_transaction() -> Result<()> {
    let twin = twin()?;
    let mut wire = Wire::connect(&twin.proxy.target("app"))?;
    for ask in [in_block as Ask, extended] {
        let sql = "INSERT INTO visits (id, seen) VALUES (1, now())";
        let replies = ask(&mut wire, sql)?;
        ensure!(sqlstate(&replies).as_deref() == Some("23505"));
        ensure!(state(&replies) == Some(b'I'));
        let replies = ask(&mut wire, "SELECT id FROM visits WHERE seen = now()")?;
        ensure!(rows(&replies)?.is_empty() && state(&replies) == Some(b'I'));
    }
    simple(&mut wire, "BEGIN; SELECT 1/0")?;
    let replies = simple(&mut wire, "SELECT id FROM visits WHERE seen = now()")?;
    ensure!(
        sqlstate(&replies).as_deref() == Some("25P02"),
        "{:?}",
        sqlstate(&replies)
    );
    let replies = simple(&mut wire, "ROLLBACK")?;
    ensure!(state(&replies) == Some(b'I'));
    Ok(())
}

#[test]
fn the_servers_own_values_are_stored_and_compared() -> Result<()> {
    let twin = twin()?;
    let mut sessions = twin.sessions("app")?;
    let mut wrong = Vec::new();
    for sql in [
        "SET TIME ZONE 'Asia/Tokyo'",
        "INSERT INTO visits (id, day, who, room) SELECT 2, CURRENT_DATE, SESSION_USER, 5",
        "INSERT INTO visits (id, day, who) VALUES (3, now(), CURRENT_USER), (4, LOCALTIMESTAMP, 'ada')",
        "SELECT id, who, day = CURRENT_DATE FROM visits ORDER BY id",
        "SELECT id FROM visits WHERE day = CURRENT_DATE ORDER BY id",
        "SELECT id FROM visits WHERE day = now()::date AND who = CURRENT_USER ORDER BY id",
        "SELECT id FROM visits WHERE day IS DISTINCT FROM CURRENT_DATE ORDER BY id",
        "SELECT id FROM visits WHERE day IN (CURRENT_DATE, '2001-02-03') ORDER BY id",
        "SELECT id FROM visits WHERE seen = now() OR at_utc = now() AT TIME ZONE 'UTC'",
        "SELECT id, COALESCE(day, CURRENT_DATE) FROM visits ORDER BY id",
        "SELECT id, COALESCE(seen, now()) = now() AS n FROM visits ORDER BY id",
        "UPDATE visits SET day = CASE WHEN room = 5 THEN day ELSE CURRENT_DATE END, who = COALESCE(who, CURRENT_USER) WHERE id < 4",
        "SELECT id, who, day FROM visits ORDER BY id",
        "INSERT INTO visits (id, day) VALUES (1, CURRENT_DATE) ON CONFLICT (id) DO UPDATE SET day = EXCLUDED.day, who = CURRENT_USER",
        "MERGE INTO visits v USING (VALUES (1), (9)) s(id) ON v.id = s.id WHEN MATCHED THEN UPDATE SET day = CURRENT_DATE WHEN NOT MATCHED THEN INSERT (id, day) VALUES (s.id, CURRENT_DATE)",
        "SELECT id, who, day FROM visits ORDER BY id",
    ] {
        wrong.extend(sessions.compare(&Case::new(sql), Expect::Same)?);
    }
    for sql in [
        "SELECT CURRENT_DATE AS today UNION ALL SELECT day FROM visits ORDER BY 1",
        "COPY (SELECT id FROM visits WHERE day = CURRENT_DATE ORDER BY id) TO STDOUT",
        "INSERT INTO visits (id, day) VALUES (20, CURRENT_USER)",
        "SELECT id FROM visits WHERE who = now()",
        "INSERT INTO visits (id, clock) VALUES (22, now() + interval '1 day')",
        "PREPARE p AS SELECT id FROM visits WHERE day = CURRENT_DATE ORDER BY id",
        "CREATE VIEW of_today AS SELECT id FROM visits WHERE day = CURRENT_DATE",
    ] {
        wrong.extend(sessions.compare(&Case::new(sql), Expect::Refused)?);
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}
