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
    for (id, ask) in [
        (10, in_block as Ask),
        (20, extended as Ask),
        (30, simple as Ask),
    ] {
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
    let string = format!("{}; {}", all(13), all(14));
    let both = rows(&simple(&mut wire, &string)?)?;
    ensure!(
        both.len() == 2 && both[0] == both[1] && both[0][0] == both[1][1],
        "{both:?}"
    );
    ensure!(both[0][0] != first[0]);
    let string = format!("BEGIN; {}; COMMIT; {}", all(15), all(16));
    let replies = simple(&mut wire, &string)?;
    let both = rows(&replies)?;
    ensure!(state(&replies) == Some(b'I') && both.len() == 2, "{both:?}");
    ensure!(
        both.iter().all(|row| row[0] == row[1] && row[4] == row[5]),
        "{both:?}"
    );
    Ok(())
}

#[test]
fn a_query_outside_a_block_ends_the_transaction_of_its_question() -> Result<()> {
    let twin = twin()?;
    let mut wire = Wire::connect(&twin.proxy.target("app"))?;
    let mut other = Wire::connect(&twin.proxy.target("app"))?;
    let count = |wire: &mut Wire| -> Result<String> {
        let found = rows(&simple(wire, "SELECT count(*) FROM visits WHERE id > 1")?)?;
        Ok(found[0][0].clone())
    };
    let first = is_one_moment(&simple(&mut wire, &all(10))?, "the first")?;
    ensure!(count(&mut other)? == "1");
    let second = is_one_moment(&simple(&mut wire, &all(11))?, "the second")?;
    ensure!(first != second, "each is a transaction of its own");
    // Nothing that is said behind it takes it back.
    let replies = simple(&mut wire, "ROLLBACK")?;
    ensure!(state(&replies) == Some(b'I'));
    ensure!(count(&mut other)? == "2");
    // Of several statements none stays if one fails.
    let failing = format!("{}; SELECT 1/0", all(12));
    let replies = simple(&mut wire, &failing)?;
    ensure!(sqlstate(&replies).as_deref() == Some("22012"));
    ensure!(state(&replies) == Some(b'I') && count(&mut other)? == "2");
    // What is sent without waiting finds the transactions where they are.
    let sent = [
        Message::query("BEGIN"),
        Message::query(&all(13)),
        Message::query("ROLLBACK"),
        Message::query(&all(14)),
    ];
    wire.send(&sent)?;
    let replies = wire.until_ready(sent.len())?;
    ensure!(rows(&replies)?.len() == 2, "{:?}", sqlstate(&replies));
    ensure!(count(&mut other)? == "3");
    // Only within a block can the server keep a cursor.
    let sql = "DECLARE c CURSOR FOR SELECT id FROM visits WHERE day = CURRENT_DATE";
    let replies = simple(&mut wire, sql)?;
    ensure!(
        sqlstate(&replies).as_deref() == Some("0A000") && state(&replies) == Some(b'I'),
        "{:?}",
        sqlstate(&replies)
    );
    Ok(())
}

#[test]
fn a_statement_that_fails_ends_its_transaction() -> Result<()> {
    let twin = twin()?;
    let mut wire = Wire::connect(&twin.proxy.target("app"))?;
    for ask in [in_block as Ask, extended, simple] {
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
fn what_is_computed_of_a_moment_is_what_the_server_computes() -> Result<()> {
    let twin = twin()?;
    let mut wire = Wire::connect(&twin.proxy.target("app"))?;
    let mut id = 100;
    let mut wrong = Vec::new();
    for zone in ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"] {
        simple(&mut wire, &format!("SET TIME ZONE '{zone}'"))?;
        for by in [
            "+ interval '1 day'",
            "- interval '1 month'",
            "+ interval '7 months -3 days 12:30:01.5'",
            "- interval '1' YEAR",
            "- '5 years 6 mons'::interval + interval '01:00'",
        ] {
            let all = [
                ("seen", format!("now() {by}")),
                ("day", format!("(CURRENT_TIMESTAMP {by})::date")),
                ("at_utc", format!("(now() {by}) AT TIME ZONE 'UTC'")),
                ("clock", format!("LOCALTIME {by}")),
            ];
            let more = [
                ("seen", format!("date_trunc('week', now() {by})")),
                ("day", format!("CURRENT_DATE {by}")),
                ("at_utc", format!("LOCALTIMESTAMP {by}")),
                ("clock", format!("(LOCALTIMESTAMP {by})::time")),
            ];
            let units = [
                ("seen", format!("date_trunc('hour', now() {by})")),
                ("day", format!("date_trunc('quarter', LOCALTIMESTAMP {by})")),
                ("at_utc", format!("date_trunc('day', now() {by})")),
                (
                    "clock",
                    format!("date_trunc('minute', LOCALTIMESTAMP {by})"),
                ),
            ];
            for values in [all, more, units] {
                for ask in [simple as Ask, extended, in_block] {
                    id += 1;
                    let pairs = values
                        .clone()
                        .map(|(name, of)| (format!("{name}, {name}_plain"), format!("{of}, {of}")));
                    let (names, exprs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
                    let (names, exprs) = (names.join(", "), exprs.join(", "));
                    let sql = format!(
                        "INSERT INTO visits (id, {names}) VALUES ({id}, {exprs}) RETURNING {names}"
                    );
                    let made = is_one_moment(&ask(&mut wire, &sql)?, &format!("{zone}: {sql}"));
                    wrong.extend(made.err().map(|error| error.to_string()));
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The sealed column gets `$1`, the plain one beside it `$2`: the same text.
#[test]
fn what_is_added_to_a_moment_may_be_a_parameter() -> Result<()> {
    let twin = twin()?;
    let mut wire = Wire::connect(&twin.proxy.target("app"))?;
    simple(&mut wire, "SET TIME ZONE 'Europe/Berlin'")?;
    let mut id = 100;
    let mut wrong = Vec::new();
    for (of, value) in [
        ("now() + $1", "1 day 02:03:04.5"),
        ("now() - $1::interval", "7 mons -3 days"),
        ("$1::interval + now()", "P1Y2M"),
        ("now() + $1 * interval '1 second'", "900.25"),
        ("now() - interval '1 month' * $1::int", "3"),
        ("now() + $1::numeric * interval '1 day'", "0.333"),
        ("now() + ($1 || ' minutes')::interval", "15"),
        ("now() - CAST(concat($1::text, ' days') AS interval)", "30"),
        ("now() + make_interval(hours => $1, days => 2)", "5"),
        ("now() + make_interval(0, $1)", "-14"),
        ("now() + make_interval(secs => $1)", "1.2345675"),
        ("date_trunc('day', now() + $1)", "36:00"),
        ("CURRENT_DATE - $1::int", "30"),
        ("LOCALTIMESTAMP + ($1 * interval '1 hour' * 2)", "1e1"),
    ] {
        id += 1;
        let other = of.replace("$1", "$2");
        let sql = format!(
            "INSERT INTO visits (id, seen, seen_plain) VALUES ({id}, {of}, {other}) RETURNING seen, seen_plain"
        );
        let messages = [
            Message::parse("", &sql, &[]),
            Message::bind_text(&[Some(value), Some(value)]),
            Message::execute("", 0),
            Message::sync(),
        ];
        let made = is_one_moment(&asked(&mut wire, &messages)?, &sql);
        wrong.extend(made.err().map(|error| error.to_string()));
    }
    for interval in [
        "1 day",
        "1 mon",
        "1 year 2 mons 3 days 04:05:06.7",
        "-1 mons +30 days",
        "00:00:01",
    ] {
        for factor in ["0", "3", "-1.25", "0.1", "0.33", "1.005", "33.3333", "1e-7"] {
            id += 1;
            let of = format!("now() + {factor} * interval '{interval}'");
            let sql = format!(
                "INSERT INTO visits (id, seen, seen_plain) VALUES ({id}, {of}, {of}) RETURNING seen, seen_plain"
            );
            let made = is_one_moment(&simple(&mut wire, &sql)?, &sql);
            wrong.extend(made.err().map(|error| error.to_string()));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn what_is_added_to_a_moment_is_described_and_read_as_on_plaintext() -> Result<()> {
    let twin = twin()?;
    let mut sessions = twin.sessions("app")?;
    let mut wrong = Vec::new();
    for (sql, value) in [
        (
            "UPDATE visits SET day = (now() + $1)::date WHERE id = 1 RETURNING day",
            "100 days",
        ),
        (
            "UPDATE visits SET day = (now() + $1)::date WHERE id = 1",
            "nothing",
        ),
        (
            "UPDATE visits SET day = CURRENT_DATE + $1::int4 WHERE id = 1 RETURNING day",
            "-40",
        ),
        (
            "UPDATE visits SET day = CURRENT_DATE - $1::int2 WHERE id = 1 RETURNING day",
            "40",
        ),
        (
            "UPDATE visits SET day = (now() - interval '1 day' * $1)::date WHERE id = 1 RETURNING day",
            "2.0",
        ),
        (
            "UPDATE visits SET day = (now() + $1 * interval '1 day')::date WHERE id = 1",
            "NaN",
        ),
        (
            "UPDATE visits SET day = (now() + ($1 || ' days')::interval)::date WHERE id = 1 RETURNING day",
            "9",
        ),
        (
            "UPDATE visits SET day = (now() + ($1 || ' days')::interval)::date WHERE id = 1",
            "x",
        ),
        (
            "UPDATE visits SET day = (now() + make_interval(weeks => $1))::date WHERE id = 1 RETURNING day",
            "2",
        ),
        (
            "SELECT id FROM visits WHERE day = CURRENT_DATE + $1::int ORDER BY id",
            "3",
        ),
        (
            "SELECT id FROM visits WHERE day IN (CURRENT_DATE + $1::int, '2001-02-03') ORDER BY id",
            "3",
        ),
    ] {
        let case = Case::with(sql, &[Some(value)]);
        wrong.extend(sessions.compare(&case, Expect::Same)?);
        let case = Case::with(sql, &[None]);
        wrong.extend(sessions.compare(&case, Expect::Same)?);
    }
    for sql in [
        // Several operators could be meant, or none.
        "UPDATE visits SET day = CURRENT_DATE + $1 WHERE id = 1",
        "UPDATE visits SET seen = now() - $1 WHERE id = 1",
        "UPDATE visits SET clock = LOCALTIME + $1 WHERE id = 1",
    ] {
        let case = Case::with(sql, &[Some("1 day")]);
        wrong.extend(sessions.compare(&case, Expect::Refused)?);
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

#[test]
fn what_is_prepared_gets_the_moment_of_its_execution() -> Result<()> {
    let twin = twin()?;
    let mut wire = Wire::connect(&twin.proxy.target("app"))?;
    let sql = "PREPARE p AS INSERT INTO visits (id, seen, seen_plain) VALUES ($1, now() - interval '1 day', now() - interval '1 day') RETURNING seen, seen_plain";
    simple(&mut wire, sql)?;
    let first = is_one_moment(&simple(&mut wire, "EXECUTE p(10)")?, "first")?;
    let second = is_one_moment(&in_block(&mut wire, "EXECUTE p(11)")?, "second")?;
    ensure!(first != second);
    let refused = simple(
        &mut wire,
        "PREPARE q AS UPDATE visits SET seen = now() + $1 WHERE id = 10",
    )?;
    ensure!(sqlstate(&refused).as_deref() == Some("0A000"));
    let mut sessions = twin.sessions("app")?;
    let prepare = Case::new(
        "PREPARE d AS SELECT id, who FROM visits WHERE day = CURRENT_DATE - 1 OR id = $1 ORDER BY id",
    );
    ensure!(sessions.compare(&prepare, Expect::Same)?.is_none());
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
        "INSERT INTO visits (id, day) VALUES (5, CURRENT_DATE - 30), (6, CURRENT_DATE + interval '1 month'), (7, date_trunc('month', now()))",
        "SELECT id, day FROM visits WHERE day = CURRENT_DATE - 30 OR day = (now() + INTERVAL '1' MONTH)::date ORDER BY id",
        "SELECT id FROM visits WHERE day IN (date_trunc('month', CURRENT_DATE)::date, 2 + CURRENT_DATE) ORDER BY id",
        "SELECT id FROM visits WHERE seen = now() - interval '1 day' OR seen = now() + '1 day'::interval",
        "SELECT id FROM visits WHERE day = CURRENT_DATE - interval '18 years'",
        "SELECT id FROM visits WHERE day = CURRENT_DATE + 2147483647",
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
        "INSERT INTO visits (id, seen) VALUES (22, clock_timestamp() + interval '1 day')",
        "UPDATE visits SET seen = now() + room * interval '1 day'",
        "CREATE VIEW of_today AS SELECT id FROM visits WHERE day = CURRENT_DATE",
    ] {
        wrong.extend(sessions.compare(&Case::new(sql), Expect::Refused)?);
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}
