//! Simple queries of several statements, COPY, notices, notifications, cancel, and the end of a session.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pgveil_tests::wire::{Message, PROTOCOL_3_0, PROTOCOL_3_2, Wire, startup, transcript};

use crate::{alike, fresh_twin, sessions, twin};

/// The code of a CancelRequest.
const CANCEL: u32 = 80_877_102;

#[test]
fn several_statements_in_one_query_are_answered_one_by_one() -> Result<()> {
    let mut sessions = sessions()?;
    let strings = [
        "SELECT email FROM people WHERE id = 1; SELECT v FROM open WHERE id = 1",
        "BEGIN; INSERT INTO people VALUES (70, 'seven@example.com', 1) RETURNING email; ROLLBACK",
        "INSERT INTO people VALUES (71, 'x', 1); SELECT 1/0; SELECT 'never'",
        "SELECT count(*) FROM people WHERE id = 71",
        "INSERT INTO people VALUES (72, 'x', 1); ROLLBACK; SELECT 1",
        "BEGIN; INSERT INTO people VALUES (73, 'kept', 1); COMMIT; SELECT email FROM people WHERE id = 73; DELETE FROM people WHERE email = 'kept'",
        ";;SELECT email FROM people WHERE id = 1;;",
        "/* first; */ SELECT email FROM people WHERE email = 'a;b' OR id = 1; -- last; one\n",
        "SELECT $$;$$, email FROM people WHERE id = 1; SELECT $a$;$a$",
        "SELECT email FROM people WHERE id = 1; SELEKT",
        "",
        " ; ; ",
        "SELECT email FROM people WHERE email IN ('ada@example.com', 'bob@example.com'); UPDATE people SET age = 1 WHERE false",
    ];
    for sql in strings {
        alike(&mut sessions, &[Message::query(sql)], 1)?;
    }
    Ok(())
}

#[test]
fn a_refused_statement_of_several_stops_the_rest_and_undoes_the_first() -> Result<()> {
    let mut wire = Wire::connect(&twin()?.proxy.target("app"))?;
    let said = wire.query(
        "INSERT INTO people VALUES (80, 'x', 1); SELECT upper(email) FROM people; SELECT 'never'",
    )?;
    ensure!(said.contains("ErrorResponse ERROR 0A000"), "{said}");
    ensure!(
        !said.contains("never") && said.ends_with("ReadyForQuery I"),
        "{said}"
    );
    let count = wire.query("SELECT count(*) FROM people WHERE id = 80")?;
    ensure!(count.contains("DataRow [\"0\"]"), "{count}");
    Ok(())
}

#[test]
fn copy_of_an_unprotected_table_passes() -> Result<()> {
    let mut sessions = sessions()?;
    let table = "CREATE TEMP TABLE c (id int, v text)";
    alike(&mut sessions, &[Message::query(table)], 1)?;
    let copy_in = [
        Message::query("COPY c FROM STDIN"),
        Message::copy_data(b"1\tone\n2"),
        Message::copy_data(b"\ttwo\n3\t\\N\n"),
        Message::copy_done(),
    ];
    alike(&mut sessions, &copy_in, 1)?;
    alike(
        &mut sessions,
        &[Message::query(
            "COPY c TO STDOUT; COPY c TO STDOUT (FORMAT csv, HEADER)",
        )],
        1,
    )?;
    alike(
        &mut sessions,
        &[Message::query(
            "COPY (SELECT id FROM c) TO STDOUT (FORMAT binary)",
        )],
        1,
    )?;
    let failed = [
        Message::query("COPY c FROM STDIN"),
        Message::copy_data(b"4\tfour\n"),
        Message::copy_fail("changed my mind"),
    ];
    alike(&mut sessions, &failed, 1)?;
    let bad = [
        Message::query("COPY c FROM STDIN"),
        Message::copy_data(b"x\tbad\n"),
        Message::copy_done(),
    ];
    alike(&mut sessions, &bad, 1)?;
    let extended = [
        Message::parse("", "COPY c FROM STDIN", &[]),
        Message::bind_text(&[]),
        Message::execute("", 0),
        Message::copy_data(b"5\tfive\n"),
        Message::copy_done(),
        Message::sync(),
        Message::query("SELECT count(*) FROM c"),
    ];
    alike(&mut sessions, &extended, 2).map(drop)
}

/// Which of the session's own relations are plain is asked, so that nothing about them need be readable for pgveil.
#[test]
fn a_plain_table_of_the_transaction_is_filled_in_another_encoding() -> Result<()> {
    let mut sessions = sessions()?;
    for made in ["TEMP TABLE", "TABLE"] {
        let script = [
            "BEGIN",
            "SET LOCAL client_encoding = 'LATIN1'",
            &format!("CREATE {made} notes (id int, v text)"),
        ];
        alike(&mut sessions, &script.map(Message::query), 3)?;
        let latin = |head: &[u8]| [head, b"'caf\xe9')"].concat();
        let query = latin(b"INSERT INTO notes VALUES (1, ");
        let mut parse = [b"\0", &*latin(b"INSERT INTO notes VALUES (2, ")].concat();
        parse.extend(b"\0\0\0");
        let messages = [
            Message::new(b'Q', [&query[..], b"\0"].concat()),
            Message::new(b'P', parse),
            Message::bind_text(&[]),
            Message::execute("", 0),
            Message::sync(),
            Message::query("COPY notes FROM STDIN"),
            Message::copy_data(b"3\tna\xefve\n"),
            Message::copy_done(),
            Message::query("SELECT id, v, octet_length(v) FROM notes ORDER BY id"),
            Message::query("ROLLBACK"),
        ];
        let said = alike(&mut sessions, &messages, 5)?;
        ensure!(!said.contains("ErrorResponse"), "{said}");
    }
    Ok(())
}

#[test]
fn notices_and_settings_pass_when_they_are_due() -> Result<()> {
    let mut sessions = sessions()?;
    let strings = [
        "DO $$ BEGIN RAISE NOTICE 'hello %', 1; END $$; SELECT 1",
        "SET TimeZone = 'America/New_York'",
        "SET client_encoding = 'UTF8'; SHOW client_encoding",
        "SET DateStyle = 'ISO, DMY'",
        "SELECT email FROM people WHERE id = 1",
        "BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'; ROLLBACK",
        "SELECT set_config('application_name', 'named', false)",
        "COMMIT",
        "DROP TABLE IF EXISTS not_there",
    ];
    for sql in strings {
        alike(&mut sessions, &[Message::query(sql)], 1)?;
    }
    Ok(())
}

#[test]
fn a_notification_reaches_an_idle_listener() -> Result<()> {
    let twin = twin()?;
    let mut listener = Wire::connect(&twin.proxy.target("app"))?;
    listener.query("LISTEN news")?;
    twin.veiled.run("NOTIFY news, 'payload'")?;
    let said = listener.until(b'A', 1)?;
    ensure!(
        transcript(&said) == "NotificationResponse pid=+ news \"payload\"",
        "{}",
        transcript(&said)
    );
    Ok(())
}

/// Sends a CancelRequest with this process id and secret, and waits until it was seen to.
fn cancel(port: u16, key: &[u8]) -> Result<()> {
    let mut request = startup(CANCEL, &[]);
    request.extend(key);
    let length = request.len() as u32;
    request[..4].copy_from_slice(&length.to_be_bytes());
    let mut canceller = Wire::open(port)?;
    canceller.send_raw(&request)?;
    ensure!(
        canceller.receive_byte()?.is_none(),
        "a cancel request is answered by closing only"
    );
    Ok(())
}

#[test]
fn a_cancel_request_cancels_this_session_only() -> Result<()> {
    let twin = twin()?;
    let target = twin.proxy.target("app");
    let longer = twin
        .veiled
        .admin("SHOW server_version_num")?
        .parse::<u32>()?
        >= 180_000;
    for version in [PROTOCOL_3_0, PROTOCOL_3_2] {
        let mut sleeper = Wire::connect_in(version, &target, &[])?;
        let mut other = Wire::connect(&target)?;
        // A process id and a secret; who asks an older server for 3.2 is told of 3.0 before.
        let key = sleeper.cancel_key()?.to_vec();
        let (bytes, counter_offers) = match (version, longer) {
            (PROTOCOL_3_2, true) => (36, 0),
            (PROTOCOL_3_2, false) => (8, 1),
            _ => (8, 0),
        };
        let offered = sleeper.greeting.iter().filter(|reply| reply.tag == b'v');
        ensure!((key.len(), offered.count()) == (bytes, counter_offers));
        sleeper.send(&[Message::query(
            "SELECT email, pg_sleep(600) FROM people WHERE id = 1",
        )])?;
        other.send(&[Message::query("SELECT pg_sleep(0.5) IS NULL")])?;
        let running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(600)%' \
            AND state = 'active' AND pid <> pg_backend_pid()";
        wait_until(|| Ok(twin.veiled.admin(running)? == "1"))?;
        let mut wrong = key.clone();
        if let Some(last) = wrong.last_mut() {
            *last ^= 1;
        }
        cancel(target.port, &wrong)?;
        ensure!(
            twin.veiled.admin(running)? == "1",
            "a wrong secret cancelled it"
        );
        cancel(target.port, &key)?;
        let cancelled = transcript(&sleeper.until_ready(1)?);
        ensure!(cancelled.contains("57014"), "{cancelled}");
        let unharmed = transcript(&other.until_ready(1)?);
        ensure!(unharmed.contains("DataRow"), "{unharmed}");
        let found = sleeper.query("SELECT email FROM people WHERE id = 1")?;
        ensure!(found.contains("ada@example.com"), "{found}");
    }
    Ok(())
}

#[test]
fn a_function_call_passes() -> Result<()> {
    let mut sessions = sessions()?;
    let abs_of_int4 = 1397;
    let messages = [
        Message::function_call(abs_of_int4, &["-5"]),
        Message::function_call(1, &[]),
    ];
    alike(&mut sessions, &messages, 2).map(drop)
}

#[test]
fn a_large_object_may_hold_any_bytes() -> Result<()> {
    let mut sessions = sessions()?;
    let (create, open, write, seek, read) = (715, 952, 955, 956, 954);
    let hidden = format!("U&\"{}\"", "x".repeat(1100));
    let messages = [
        Message::query("BEGIN"),
        Message::function_call(create, &["70001"]),
        Message::function_call(open, &["70001", "393216"]),
        Message::function_call(write, &["0", "INSERT INTO people VALUES (99)"]),
        Message::function_call(write, &["0", &hidden]),
        Message::function_call(seek, &["0", "0", "0"]),
        Message::function_call(read, &["0", "2000"]),
        Message::query("COMMIT"),
    ];
    let said = alike(&mut sessions, &messages, 8)?;
    ensure!(!said.contains("ErrorResponse"), "{said}");
    Ok(())
}

#[test]
fn a_function_call_that_has_to_do_with_protected_tables_is_refused() -> Result<()> {
    let twin = fresh_twin()?;
    let proxied = &twin.proxy.target("app");
    let mut wire = Wire::connect(proxied)?;
    // query_to_xml() takes SQL; the server would write it to its log.
    let sql = "INSERT INTO people VALUES (99, 'canary', 1)";
    let said = wire.exchange(&[Message::function_call(2923, &[sql, "t", "f", ""])], 1)?;
    ensure!(said.contains("0A000"), "{said}");
    let oid = "SELECT 'writer(text)'::regprocedure::oid";
    wire.query("CREATE FUNCTION writer(text) RETURNS void LANGUAGE sql AS $$ INSERT INTO open VALUES (50, $1) $$")?;
    let said = wire.query(oid)?;
    let number = said
        .split('"')
        .nth(1)
        .and_then(|number| number.parse().ok())
        .context("an oid")?;
    let called = wire.exchange(&[Message::function_call(number, &["x"])], 1)?;
    ensure!(!called.contains("ErrorResponse"), "{called}");
    // Around the proxy; DDL through it has the catalog looked at again.
    twin.veiled.run("CREATE OR REPLACE FUNCTION writer(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO people VALUES (50, $1); END $$")?;
    wire.query("CREATE TABLE another ()")?;
    let called = wire.exchange(&[Message::function_call(number, &["x"])], 1)?;
    ensure!(called.contains("0A000"), "{called}");
    Ok(())
}

#[test]
fn the_backend_ends_with_its_client() -> Result<()> {
    let twin = fresh_twin()?;
    let backends = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app' AND pid <> pg_backend_pid()";
    let mut polite = Wire::connect(&twin.proxy.target("app"))?;
    let rude = Wire::connect(&twin.proxy.target("app"))?;
    polite.send(&[Message::terminate()])?;
    ensure!(polite.until_closed()?.is_empty());
    drop(rude);
    wait_until(|| Ok(twin.veiled.admin(backends)? == "0"))
}

#[test]
fn a_backend_that_is_terminated_says_so_to_the_client() -> Result<()> {
    let twin = fresh_twin()?;
    let mut wire = Wire::connect(&twin.proxy.target("app"))?;
    twin.veiled.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app'")?;
    let said = transcript(&wire.until_closed()?);
    ensure!(said.contains("57P01"), "{said}");
    Ok(())
}

/// Asks again and again, for at most half a minute.
fn wait_until(mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds()? {
        ensure!(
            Instant::now() < deadline,
            "it has not come about in half a minute"
        );
    }
    Ok(())
}
