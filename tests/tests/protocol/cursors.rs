//! Cursors: DECLARE, FETCH, MOVE and CLOSE by Query and by Parse, beside the protocol's own portals.

use anyhow::{Result, ensure};
use pgveil_tests::wire::{Bind, Message, Wire};

use crate::{alike, extended, same_in_turn, sessions, twin};

#[test]
fn a_cursor_moves_in_every_direction() -> Result<()> {
    let said = same_in_turn(&[
        "BEGIN",
        "DECLARE c SCROLL CURSOR FOR SELECT id, email, age FROM people ORDER BY id",
        "FETCH c",
        "FETCH NEXT FROM c",
        "FETCH 2 IN c",
        "FETCH PRIOR FROM c",
        "FETCH FIRST c",
        "FETCH LAST FROM c",
        "FETCH ABSOLUTE 2 FROM c",
        "FETCH ABSOLUTE -1 FROM c",
        "FETCH RELATIVE -2 FROM c",
        "FETCH BACKWARD 2 FROM c",
        "FETCH FORWARD ALL FROM c",
        "FETCH BACKWARD ALL FROM c",
        "FETCH 0 FROM c",
        "MOVE FORWARD 3 IN c",
        "FETCH RELATIVE 0 FROM c",
        "MOVE LAST c",
        "MOVE BACKWARD ALL FROM c",
        "FETCH ALL FROM c",
        "CLOSE c",
        "FETCH c",
        "ROLLBACK",
    ])?;
    ensure!(said[2].contains("ada@example.com"), "{}", said[2]);
    Ok(())
}

#[test]
fn cursors_in_one_string_and_over_many() -> Result<()> {
    same_in_turn(&[
        "BEGIN; DECLARE a CURSOR FOR SELECT email FROM people WHERE email = 'ada@example.com'; DECLARE b CURSOR FOR TABLE people; \
         FETCH ALL FROM a; FETCH 2 FROM b; FETCH b; CLOSE ALL; COMMIT",
        "DECLARE outside CURSOR FOR SELECT email FROM people",
        "FETCH outside",
        "DECLARE one CURSOR FOR SELECT email FROM people ORDER BY id; FETCH 2 FROM one",
        "FETCH one",
        "BEGIN; DECLARE \"Odd \"\"Name\" CURSOR FOR SELECT email FROM people ORDER BY id",
        "FETCH 2 FROM \"Odd \"\"Name\"",
        "FETCH 2 FROM odd",
        "ROLLBACK",
        "BEGIN; DECLARE c CURSOR FOR SELECT email FROM people ORDER BY id; FETCH c; CLOSE c; DECLARE c CURSOR FOR SELECT v FROM open; \
         FETCH c; CLOSE c; DECLARE c CURSOR FOR SELECT age, email FROM people; FETCH c; COMMIT",
    ])
    .map(drop)
}

#[test]
fn a_cursor_ends_with_its_transaction_unless_it_is_held() -> Result<()> {
    same_in_turn(&[
        "DECLARE held SCROLL CURSOR WITH HOLD FOR SELECT id, email FROM people ORDER BY id",
        "FETCH 2 FROM held",
        "BEGIN; FETCH 1 FROM held; ROLLBACK",
        "FETCH 1 FROM held",
        "BEGIN; DECLARE undone CURSOR WITH HOLD FOR SELECT email FROM people ORDER BY id; FETCH undone",
        "ROLLBACK",
        "FETCH undone",
        "BEGIN; DECLARE failed CURSOR WITH HOLD FOR SELECT email FROM people ORDER BY id",
        "SELECT 1/0",
        "COMMIT",
        "FETCH failed",
        "BEGIN; DECLARE plain CURSOR FOR SELECT email FROM people ORDER BY id; FETCH plain; COMMIT",
        "FETCH plain",
        "BEGIN; SAVEPOINT s; DECLARE inner_one CURSOR FOR SELECT email FROM people ORDER BY id; FETCH inner_one",
        "ROLLBACK TO s",
        "FETCH inner_one",
        "ROLLBACK",
        "FETCH PRIOR FROM held",
        "FETCH ALL FROM held",
        "CLOSE held",
        "FETCH held",
        "BEGIN; DECLARE x CURSOR WITH HOLD FOR SELECT email FROM people ORDER BY id; COMMIT",
        "FETCH x",
        "DISCARD ALL",
        "FETCH x",
    ])
    .map(drop)
}

#[test]
fn rows_under_a_cursor_are_changed_in_place() -> Result<()> {
    let said = same_in_turn(&[
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT id, email FROM people WHERE email = 'bob@example.com' FOR UPDATE",
        "FETCH c",
        "UPDATE people SET email = 'robert@example.com', age = 5 WHERE CURRENT OF c RETURNING id, email, age",
        "SELECT email FROM people WHERE email = 'robert@example.com'",
        "FETCH c",
        "ROLLBACK",
        "BEGIN; DECLARE c CURSOR FOR SELECT email FROM people ORDER BY id; MOVE 2 IN c",
        "DELETE FROM people WHERE CURRENT OF c RETURNING email",
        "SELECT count(*) FROM people",
        "ROLLBACK",
    ])?;
    ensure!(said[4].contains("robert"), "{}", said[4]);
    Ok(())
}

#[test]
fn a_binary_cursor_answers_in_binary() -> Result<()> {
    same_in_turn(&[
        "BEGIN; DECLARE b BINARY CURSOR FOR SELECT id, email, age FROM people ORDER BY id",
        "FETCH 2 FROM b",
        "FETCH ALL FROM b",
        "COMMIT",
    ])?;
    let mut sessions = sessions()?;
    alike(
        &mut sessions,
        &[Message::query(
            "BEGIN; DECLARE b BINARY CURSOR FOR SELECT age, email FROM people ORDER BY id",
        )],
        1,
    )?;
    for results in [&[][..], &[0], &[1], &[0, 1]] {
        alike(&mut sessions, &extended("FETCH 1 FROM b", &[], results), 1)?;
    }
    Ok(())
}

#[test]
fn cursors_by_the_extended_protocol() -> Result<()> {
    let mut sessions = sessions()?;
    let email: &[Option<&[u8]>] = &[Some(b"ada@example.com")];
    alike(&mut sessions, &[Message::query("BEGIN")], 1)?;
    let declare = "DECLARE c SCROLL CURSOR FOR SELECT id, email, age FROM people WHERE email = $1 OR id > 2 ORDER BY id";
    alike(&mut sessions, &extended(declare, email, &[]), 1)?;
    alike(&mut sessions, &extended("FETCH 2 FROM c", &[], &[1]), 1)?;
    alike(
        &mut sessions,
        &extended("FETCH BACKWARD ALL FROM c", &[], &[0]),
        1,
    )?;
    // Without Describe.
    let undescribed = [
        Message::parse("f", "FETCH FORWARD 1 FROM c", &[]),
        Message::bind(&Bind {
            statement: "f",
            results: &[0, 1, 1],
            ..Bind::default()
        }),
        Message::execute("", 0),
        Message::bind(&Bind {
            statement: "f",
            ..Bind::default()
        }),
        Message::execute("", 0),
        Message::describe_statement("f"),
        Message::sync(),
    ];
    alike(&mut sessions, &undescribed, 1)?;
    alike(&mut sessions, &extended("CLOSE c", &[], &[]), 1)?;
    // The same FETCH, another cursor of that name.
    alike(
        &mut sessions,
        &[Message::query(
            "DECLARE c CURSOR FOR SELECT age, v FROM people JOIN open USING (id) ORDER BY id",
        )],
        1,
    )?;
    let again = [
        Message::bind(&Bind {
            statement: "f",
            ..Bind::default()
        }),
        Message::execute("", 0),
        Message::sync(),
    ];
    alike(&mut sessions, &again, 1)?;
    alike(&mut sessions, &[Message::query("ROLLBACK")], 1).map(drop)
}

#[test]
fn the_protocol_reads_a_cursor_that_sql_declared() -> Result<()> {
    let mut sessions = sessions()?;
    let declare =
        "BEGIN; DECLARE c BINARY CURSOR FOR SELECT email, id, age FROM people ORDER BY id";
    alike(&mut sessions, &[Message::query(declare)], 1)?;
    let messages = [
        Message::describe_portal("c"),
        Message::execute("c", 2),
        Message::execute("c", 1),
        Message::sync(),
    ];
    alike(&mut sessions, &messages, 1)?;
    alike(&mut sessions, &[Message::query("FETCH 1 FROM c")], 1)?;
    let closed = [
        Message::close_portal("c"),
        Message::describe_portal("c"),
        Message::sync(),
    ];
    alike(&mut sessions, &closed, 1)?;
    alike(&mut sessions, &[Message::query("ROLLBACK")], 1)?;
    // In one pipeline.
    let pipeline = [
        Message::query("BEGIN"),
        Message::parse(
            "",
            "DECLARE p CURSOR FOR SELECT email FROM people WHERE email = $1",
            &[],
        ),
        Message::bind_text(&[Some("bob@example.com")]),
        Message::execute("", 0),
        Message::describe_portal("p"),
        Message::execute("p", 0),
        Message::sync(),
        Message::query("ROLLBACK"),
    ];
    alike(&mut sessions, &pipeline, 3).map(drop)
}

#[test]
fn sql_reads_a_portal_that_the_protocol_bound() -> Result<()> {
    let mut sessions = sessions()?;
    let bind = [
        Message::query("BEGIN"),
        Message::parse(
            "s",
            "SELECT id, email FROM people WHERE id > $1 ORDER BY id",
            &[],
        ),
        Message::bind(&Bind {
            portal: "p",
            statement: "s",
            params: &[Some(b"1")],
            results: &[1],
            ..Bind::default()
        }),
        Message::execute("p", 1),
        Message::sync(),
    ];
    alike(&mut sessions, &bind, 2)?;
    for sql in [
        "FETCH 1 FROM p",
        "MOVE 1 IN p",
        "FETCH ALL FROM p",
        "CLOSE p",
        "FETCH p",
        "ROLLBACK",
    ] {
        alike(&mut sessions, &[Message::query(sql)], 1)?;
    }
    Ok(())
}

#[test]
fn a_cursor_shows_what_the_settings_of_the_moment_say() -> Result<()> {
    same_in_turn(&[
        "CREATE TEMP TABLE mine (id int)",
        "BEGIN; DECLARE c CURSOR FOR SELECT email, age FROM people ORDER BY id",
        "FETCH 1 FROM c",
        "SET LOCAL bytea_output = 'escape'",
        "FETCH 1 FROM c",
        "SET LOCAL search_path = pg_catalog",
        "FETCH 1 FROM c",
        "ROLLBACK",
    ])
    .map(drop)
}

#[test]
fn a_cursor_that_cannot_be_answered_is_refused_when_it_is_declared() -> Result<()> {
    let mut wire = Wire::connect(&twin()?.proxy.target("app"))?;
    wire.query("BEGIN")?;
    let said = wire.query("DECLARE c CURSOR FOR SELECT email FROM people ORDER BY email")?;
    ensure!(said.contains("ErrorResponse ERROR 0A000"), "{said}");
    ensure!(said.ends_with("ReadyForQuery E"), "{said}");
    Ok(())
}
