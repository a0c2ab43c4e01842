//! UPDATE of rows whose scopes the statement does not tell: the server is asked for them first.

use anyhow::{Context, Result, bail, ensure};
use pgveil_tests::{
    twin::{Expect, judge, sqlstate},
    wire::{Bind, Message, Wire, error_field, transcript},
};

use crate::{refused, same, same_with, settled, twin};

#[test]
fn rows_of_one_tenant_and_of_several_are_updated() -> Result<()> {
    same(&[
        "UPDATE accounts SET note = 'x' WHERE id = 1 RETURNING *",
        "UPDATE accounts SET note = 'x', email = 'new', pin = 7, title = 't' WHERE id IN (1, 3, 4) RETURNING *",
        "UPDATE accounts SET note = NULL WHERE id > 1 RETURNING *",
        "UPDATE accounts SET note = 'x' WHERE id = 99 RETURNING *",
        "UPDATE accounts SET note = 'everywhere' RETURNING id, note",
        "UPDATE accounts SET note = 'everywhere' WHERE true RETURNING id, note",
        "UPDATE accounts AS a SET note = 'x' WHERE a.title = 'a' RETURNING a.id, a.note",
        "UPDATE ONLY accounts SET note = 'x' WHERE title IS NULL RETURNING id, note",
        "UPDATE accounts SET note = 'x' WHERE pin = 1 RETURNING id, note",
        "UPDATE accounts SET note = 'x' WHERE tenant_id IN (10, 20) RETURNING id, note",
        "UPDATE accounts SET note = 'x' WHERE tenant_id > 10 RETURNING id, note",
        "UPDATE accounts SET note = CASE WHEN id = 1 THEN 'one' WHEN id = 3 THEN 'three' ELSE note END WHERE id IN (1, 3, 5) RETURNING id, note",
        "UPDATE accounts SET note = COALESCE(note, 'none') RETURNING id, note",
        "UPDATE accounts SET (title, note) = ('t', 'n') WHERE id IN (2, 4) RETURNING *",
        "UPDATE accounts SET (title, note, pin) = ROW('t', 'n', 9) WHERE id IN (2, 4) RETURNING *",
        "UPDATE accounts SET note = 'x' FROM plain p WHERE p.id = accounts.id RETURNING accounts.id, note, name",
        "UPDATE accounts a SET note = 'x' FROM plain p JOIN plain q ON p.id = q.id WHERE p.id = a.id AND q.n > 5 RETURNING a.id, note",
        "UPDATE accounts a SET note = 'x' FROM (VALUES (1), (5)) AS v(i) WHERE v.i = a.id RETURNING a.id, note",
        "UPDATE accounts SET note = 'x' WHERE id IN (SELECT id FROM plain WHERE n > 5) RETURNING id, note",
        "UPDATE accounts SET note = 'x' WHERE id = (SELECT id FROM accounts WHERE title = 'a' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, note",
        "WITH due AS (SELECT id FROM plain WHERE n > 5) UPDATE accounts SET note = 'x' FROM due WHERE due.id = accounts.id RETURNING accounts.id, note",
        "WITH done AS (UPDATE accounts SET note = 'x' WHERE id IN (1, 3) RETURNING id, note) SELECT * FROM done",
        "UPDATE accounts SET note = 'x' WHERE lower(title) = 'a' AND coalesce(version, 1) = 0 RETURNING id, note",
        "UPDATE parts SET label = 'new', size = 3 RETURNING *",
        "UPDATE parts SET label = 'new' WHERE tenant = 'acme' RETURNING *",
        "UPDATE parts SET size = 4.5 WHERE n = 3 RETURNING *",
        "EXPLAIN (COSTS OFF) UPDATE plain SET n = 1",
        "UPDATE accounts SET note = 'x', nothing = 1 WHERE id = 1",
        "UPDATE accounts SET pin = 99999999999 WHERE id = 1",
        "UPDATE accounts SET note = 'x' WHERE 1 / (id - id) = 1",
    ])?;
    same_with(&[
        (
            "UPDATE accounts SET note = $1 WHERE id = $2 RETURNING *",
            &[Some("x"), Some("3")],
        ),
        (
            "UPDATE accounts SET note = $1 WHERE id = $2 RETURNING *",
            &[None, Some("3")],
        ),
        (
            "UPDATE accounts SET note = $1, pin = $2, title = $3 WHERE id = ANY($4) RETURNING *",
            &[Some("x"), Some("12"), Some("t"), Some("{1,3,5}")],
        ),
        (
            "UPDATE accounts SET note = $1 WHERE title = $1 OR id = $2 RETURNING *",
            &[Some("a"), Some("2")],
        ),
        (
            "UPDATE accounts SET note = $3 WHERE pin = $1 AND version = $2 RETURNING *",
            &[Some("1"), Some("0"), Some("z")],
        ),
        (
            "UPDATE parts SET label = $1, size = $2 WHERE id = $3 RETURNING *",
            &[Some("l"), Some("5.25"), Some("3")],
        ),
        (
            "UPDATE parts SET label = $1 WHERE tenant = $2 RETURNING *",
            &[Some("l"), Some("acme")],
        ),
        (
            "UPDATE accounts a SET note = $1 FROM plain p WHERE p.id = a.id AND p.name = $2 RETURNING a.*",
            &[Some("l"), Some("two")],
        ),
    ])
}

#[test]
fn what_cannot_be_asked_for_is_refused() -> Result<()> {
    refused(&[
        "UPDATE accounts SET note = 'x' WHERE id = setseed(0.5)::text::int",
        "UPDATE accounts SET tenant_id = 20 WHERE id = 1",
        "UPDATE accounts SET tenant_id = 20, note = 'x' WHERE id = 1",
        "WITH gone AS (DELETE FROM plain RETURNING id) UPDATE accounts SET note = 'x' FROM gone WHERE gone.id = accounts.id",
        "UPDATE accounts SET note = 'x' WHERE email = 'ada'",
    ])
}

/// Sends the same to both sides, outside a transaction, and compares what is said and what is stored.
fn compare(steps: &[Vec<Message>], readies: usize) -> Result<()> {
    let twin = twin()?;
    let mut sessions = twin.sessions("app")?;
    for messages in steps {
        let (direct, veiled) = sessions.exchange(messages, readies)?;
        if let Some(wrong) = judge("", Expect::Same, &direct, &veiled) {
            bail!("{wrong}");
        }
    }
    settled(&twin)
}

fn bound(statement: &str, params: &[Option<&str>]) -> Vec<Message> {
    let params: Vec<_> = params.iter().map(|p| p.map(str::as_bytes)).collect();
    vec![
        Message::bind(&Bind {
            statement,
            params: &params,
            ..Bind::default()
        }),
        Message::execute("", 0),
    ]
}

#[test]
fn each_statement_commits_by_itself() -> Result<()> {
    let updates = [
        "UPDATE accounts SET note = 'x', pin = 8 WHERE id IN (1, 3, 5)",
        "UPDATE accounts SET email = 'same' ",
        "UPDATE parts SET label = 'l', size = 1",
        "UPDATE accounts SET note = 'y' WHERE id = 99",
        "UPDATE accounts SET note = 'y' WHERE 1 / (id - 1) > 5",
        "UPDATE accounts SET note = 'after' WHERE id = 2",
        "UPDATE accounts SET note = 'a' WHERE id = 1; UPDATE accounts SET note = 'b' WHERE id = 3",
        "BEGIN; UPDATE accounts SET note = 'c' WHERE id = 1; UPDATE accounts SET note = 'd' WHERE id = 3; COMMIT",
        "BEGIN; UPDATE accounts SET note = 'gone' WHERE id = 1; ROLLBACK",
        "BEGIN; INSERT INTO accounts (id, tenant_id) VALUES (50, 50); UPDATE accounts SET note = 'e' WHERE id = 50; COMMIT",
    ];
    let steps: Vec<_> = updates
        .iter()
        .map(|sql| vec![Message::query(sql)])
        .collect();
    compare(&steps, 1)
}

#[test]
fn a_prepared_statement_is_asked_for_at_each_bind() -> Result<()> {
    let parse = Message::parse(
        "s",
        "UPDATE accounts SET note = $1 WHERE id = $2 RETURNING note",
        &[],
    );
    let mut steps = vec![vec![
        parse,
        Message::describe_statement("s"),
        Message::sync(),
    ]];
    for (note, id) in [
        (Some("x"), "1"),
        (Some("y"), "3"),
        (None, "5"),
        (Some("z"), "99"),
    ] {
        let mut messages = bound("s", &[note, Some(id)]);
        messages.push(Message::sync());
        steps.push(messages);
    }
    compare(&steps, 1)
}

#[test]
fn in_a_pipeline_what_came_before_is_seen() -> Result<()> {
    let insert = "INSERT INTO accounts (id, tenant_id, note) VALUES ($1, $2, $3)";
    let update = "UPDATE accounts SET note = $1 WHERE id >= $2 RETURNING id, note";
    let mut messages = vec![
        Message::parse("i", insert, &[]),
        Message::parse("u", update, &[]),
    ];
    for tenant in ["60", "61", "62"] {
        messages.extend(bound("i", &[Some(tenant), Some(tenant), Some("old")]));
        messages.extend(bound("u", &[Some("new"), Some("60")]));
    }
    messages.push(Message::sync());
    // An error skips to Sync, also for what would be asked; then all goes on.
    let mut failing = bound("i", &[Some("60"), Some("1"), None]);
    failing.extend(bound("u", &[Some("never"), Some("1")]));
    failing.push(Message::sync());
    let mut asked_fails = bound("u", &[Some("never"), Some("not a number")]);
    asked_fails.extend(bound("u", &[Some("never"), Some("1")]));
    asked_fails.push(Message::sync());
    let mut last = bound("u", &[Some("last"), Some("61")]);
    last.push(Message::sync());
    compare(&[messages, failing, asked_fails, last], 1)
}

#[test]
fn an_error_of_the_query_is_the_statements_own() -> Result<()> {
    let update = "UPDATE accounts SET note = $1 WHERE 10 / (id - $2) > 100 RETURNING id";
    let parse = vec![Message::parse("u", update, &[]), Message::sync()];
    let mut divides = bound("u", &[Some("x"), Some("1")]);
    divides.extend(bound("u", &[Some("x"), Some("0")]));
    divides.push(Message::sync());
    let failed_block = vec![
        Message::query("BEGIN"),
        Message::query("UPDATE accounts SET note = 'x' WHERE 1 / (id - id) = 1"),
        Message::query("UPDATE accounts SET note = 'x' WHERE id = 1"),
        Message::query("COMMIT"),
    ];
    compare(&[parse, divides], 1)?;
    compare(&[failed_block], 4)
}

#[test]
fn portals_of_one_pipeline_run_in_any_order() -> Result<()> {
    let update = "UPDATE accounts SET note = $1 WHERE id = $2 RETURNING id, note";
    let bind = |portal, note: &'static str, id: &'static str| {
        Message::bind(&Bind {
            portal,
            statement: "u",
            params: &[Some(note.as_bytes()), Some(id.as_bytes())],
            ..Bind::default()
        })
    };
    let messages = vec![
        Message::parse("u", update, &[]),
        bind("one", "x", "1"),
        bind("two", "y", "3"),
        Message::describe_portal("two"),
        Message::execute("two", 0),
        Message::execute("one", 1),
        Message::execute("one", 1),
        Message::sync(),
    ];
    compare(&[messages], 1)
}

#[test]
fn a_row_that_changes_its_tenant_meanwhile_fails_the_statement() -> Result<()> {
    let twin = twin()?;
    let mut direct = Wire::connect(&twin.veiled.target("app"))?;
    let mut veiled = Wire::connect(&twin.proxy.target("app"))?;
    // The row is locked, so that the statement waits between what it asked and what it does.
    direct.query("BEGIN")?;
    direct.query(
        "UPDATE accounts SET tenant_id = 77, note = NULL, email = NULL, pin = NULL WHERE id = 1",
    )?;
    veiled.send(&[Message::query(
        "UPDATE accounts SET note = 'x' WHERE id = 1",
    )])?;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE public.accounts SET note%'";
    let mut watching = Wire::connect(&twin.veiled.target("app"))?;
    let mut tries = 0;
    while !watching.query(waiting)?.contains("DataRow [\"1\"]") {
        tries += 1;
        ensure!(tries < 20_000, "the statement does not come to the lock");
        std::thread::yield_now();
    }
    direct.query("COMMIT")?;
    let replies = veiled.until_ready(1)?;
    ensure!(
        sqlstate(&replies).as_deref() == Some("40001"),
        "{}",
        transcript(&replies)
    );
    let error = replies.iter().find(|r| r.tag == b'E').context("an error")?;
    let hint = error_field(error, b'H').unwrap_or_default();
    ensure!(hint.contains("scope-changed-meanwhile"), "{hint}");
    // Tried again it is right.
    let again = veiled.query("UPDATE accounts SET note = 'x' WHERE id = 1")?;
    ensure!(again.contains("UPDATE 1"), "{again}");
    let strangers = twin.veiled.admin(
        "SELECT count(*) FROM accounts a JOIN pgveil.keys k \
         ON k.id = ('x' || encode(substr(note::bytea, 9, 8), 'hex'))::bit(64)::bigint WHERE a.id = 1 AND k.scope = 'tenant:77'",
    )?;
    ensure!(strangers.trim() == "1", "{strangers}");
    Ok(())
}

#[test]
fn too_many_scopes_and_rows_without_one_are_refused() -> Result<()> {
    let twin = twin()?;
    let rows: Vec<String> = (100..165).map(|i| format!("({i}, {i})")).collect();
    twin.proxy.psql(
        "app",
        &format!(
            "INSERT INTO accounts (id, tenant_id) VALUES {}",
            rows.join(", ")
        ),
    )?;
    let mut veiled = Wire::connect(&twin.proxy.target("app"))?;
    let mut states = Vec::new();
    for sql in [
        "UPDATE accounts SET note = 'x' WHERE id >= 100",
        "UPDATE accounts SET note = 'x' WHERE id BETWEEN 100 AND 163",
        "INSERT INTO accounts (id) VALUES (200)",
        "UPDATE accounts SET note = 'x' WHERE id = 200",
        "UPDATE accounts SET note = NULL WHERE id = 200",
    ] {
        veiled.send(&[Message::query(sql)])?;
        states.push(sqlstate(&veiled.until_ready(1)?).unwrap_or_default());
    }
    ensure!(states == ["PV001", "", "", "PV001", ""], "{states:?}");
    Ok(())
}

#[test]
fn rows_that_only_an_update_may_see_are_not_missed() -> Result<()> {
    let twin = twin()?;
    twin.veiled.run(
        "ALTER TABLE accounts ENABLE ROW LEVEL SECURITY; ALTER TABLE accounts FORCE ROW LEVEL SECURITY; \
         CREATE POLICY reading ON accounts FOR SELECT USING (tenant_id = 10); \
         CREATE POLICY writing ON accounts FOR UPDATE USING (true)",
    )?;
    let mut veiled = Wire::connect(&twin.proxy.target("app"))?;
    let blind = veiled.query("UPDATE accounts SET note = 'x'")?;
    ensure!(blind.contains("PV001"), "{blind}");
    let seeing = veiled.query("UPDATE accounts SET note = 'x' WHERE id > 0")?;
    ensure!(seeing.contains("UPDATE 2"), "{seeing}");
    Ok(())
}
