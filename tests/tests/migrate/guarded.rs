//! Applications that come through proxies with the new policy while a table is migrated and swapped: whatever was begun before
//! the swap, and every form of statement, goes on behind it with the right answer.

use std::process::Child;

use anyhow::{Context, Result, ensure};
use pgveil_tests::{
    postgres::Database,
    proxy::Proxy,
    site::Site,
    wire::{Message, Wire, transcript},
};
use tokio_postgres::{Client, SimpleQueryMessage, error::SqlState};

use super::{ALL, same, whole};

const PREPARE: [&str; 4] = ["--online", "--prepare", "--yes", "--full-speed"];

fn prepared(site: &Site<'_>) -> Result<()> {
    let said = site.command("apply", &PREPARE)?.ok()?;
    ensure!(said.contains("ready for the swap"), "{said}");
    Ok(())
}

fn swap(site: &Site<'_>) -> Result<()> {
    let said = super::online(site)?;
    ensure!(said.contains("migrated; the plaintext is kept"), "{said}");
    Ok(())
}

fn start_swap(site: &Site<'_>) -> Result<Child> {
    site.start("apply", &["--online", "--yes", "--full-speed"])
}

/// The first column of what a string of statements returns.
async fn simple(client: &Client, sql: &str) -> Result<String> {
    let messages = client.simple_query(sql).await.context(sql.to_owned())?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
        _ => None,
    });
    Ok(rows.collect::<Vec<_>>().join(","))
}

/// Whether any of the columns holds something that is no sealed value.
fn plaintext(database: &Database<'_>) -> Result<String> {
    database.admin(
        "SELECT count(*) FROM people WHERE substr(email::bytea, 1, 4) <> '\\x50475601' OR substr(note::bytea, 1, 4) <> '\\x50475601'
         OR substr(born::bytea, 1, 4) <> '\\x50475601'",
    )
}

async fn code(client: &Client, sql: &str) -> Option<SqlState> {
    client.simple_query(sql).await.err()?.code().cloned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_before_the_swap_goes_on_behind_it() -> Result<()> {
    let (database, site) = whole()?;
    database.run(
        "CREATE FUNCTION how_many() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM people'",
    )?;
    let before = database.run(ALL)?;
    prepared(&site)?;
    let proxy = site.serve()?;
    same(&proxy.psql("app", ALL)?, &before)?;

    let kept = proxy.connect("app").await?;
    let by_id = kept
        .prepare("SELECT email, note, born FROM people WHERE id = $1")
        .await?;
    let by_email = kept
        .prepare("SELECT id FROM people WHERE email = $1 AND tenant = $2")
        .await?;
    let all = kept.prepare("SELECT * FROM people WHERE id = $1").await?;
    let insert = kept
        .prepare("INSERT INTO people (id, email, tenant, note, born) VALUES ($1, $2, 'tenant1', $3, '2001-02-03')")
        .await?;
    let positional = kept
        .prepare("INSERT INTO people VALUES ($1, $2, 'tenant1', NULL, NULL)")
        .await?;
    let update = kept
        .prepare("UPDATE people SET note = $2 WHERE email = $1 AND tenant = 'tenant1' RETURNING id, note")
        .await?;
    let used = async |n: i32| -> Result<()> {
        let (email, note) = (format!("new{n}"), format!("note {n}"));
        kept.execute(&insert, &[&n, &email, &note])
            .await
            .context("insert")?;
        kept.execute(&positional, &[&(n + 1), &format!("{email} too")])
            .await
            .context("positional")?;
        let row = kept.query_one(&by_id, &[&n]).await.context("by id")?;
        ensure!(row.get::<_, &str>(0) == email && row.get::<_, &str>(1) == note);
        let row = kept
            .query_one(&by_email, &[&email, &"tenant1"])
            .await
            .context("by e-mail")?;
        ensure!(row.get::<_, i32>(0) == n);
        let row = kept.query_one(&all, &[&(n + 1)]).await.context("all")?;
        ensure!(row.len() == 6 && row.get::<_, &str>(1) == format!("{email} too"));
        let row = kept
            .query_one(&update, &[&email, &"changed"])
            .await
            .context("update")?;
        ensure!(row.get::<_, i32>(0) == n && row.get::<_, &str>(1) == "changed");
        Ok(())
    };
    used(5000).await?;
    ensure!(
        database.run("SELECT email, note FROM people WHERE id = 5000")? == "new5000|changed",
        "before the swap the column is plaintext"
    );

    let named = proxy.connect("app").await?;
    simple(
        &named,
        "PREPARE find(text) AS SELECT id FROM people WHERE email = $1 AND tenant = 'tenant1'; \
         PREPARE put AS INSERT INTO people (id, email, tenant) VALUES ($1, $2, 'tenant1')",
    )
    .await?;
    ensure!(simple(&named, "EXECUTE find('new5000')").await? == "5000");
    simple(&named, "EXECUTE put(5100, 'by name')").await?;
    let held = proxy.connect("app").await?;
    simple(
        &held,
        "BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT email FROM people WHERE id < 4 ORDER BY id; COMMIT",
    )
    .await?;
    ensure!(simple(&held, "FETCH 1 FROM held").await? == "canary1@example.com");
    let old = proxy.connect("app").await?;
    simple(
        &old,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM orders",
    )
    .await?;
    let fresh = proxy.connect("app").await?;
    simple(&fresh, "BEGIN; SELECT count(*) FROM orders").await?;
    ensure!(simple(&fresh, "SELECT how_many()").await? == "3003");
    simple(&fresh, "ROLLBACK; BEGIN; SELECT 1").await?;

    swap(&site)?;

    used(6000).await?;
    ensure!(simple(&named, "EXECUTE find('new6000')").await? == "6000");
    simple(&named, "EXECUTE put(6100, 'by name too')").await?;
    ensure!(simple(&named, "EXECUTE find('by name')").await? == "5100");
    ensure!(simple(&named, "EXECUTE find('by name too')").await? == "6100");
    ensure!(
        simple(&held, "FETCH ALL FROM held").await? == "canary2@example.com,canary3@example.com"
    );
    let refused = code(&old, "SELECT count(*) FROM people WHERE email = 'new6000'").await;
    ensure!(
        refused == Some(SqlState::T_R_SERIALIZATION_FAILURE),
        "{refused:?}"
    );
    simple(&old, "ROLLBACK").await?;
    let sql = "SELECT id FROM people WHERE email = 'new6000' AND tenant = 'tenant1'";
    ensure!(simple(&fresh, sql).await? == "6000");
    simple(&fresh, "COMMIT").await?;
    let string = format!("BEGIN ISOLATION LEVEL SERIALIZABLE; {sql}; COMMIT; SELECT 1; {sql}");
    ensure!(simple(&fresh, &string).await? == "6000,1,6000");
    ensure!(plaintext(&database)? == "0", "plaintext behind the swap");

    // And back again, in the same sessions.
    site.command("apply", &["--rollback", "--yes"])?.ok()?;
    used(7000).await?;
    ensure!(simple(&named, "EXECUTE find('new7000')").await? == "7000");
    ensure!(database.run("SELECT email, note FROM people WHERE id = 7000")? == "new7000|changed");
    ensure!(simple(&fresh, &string).await? == "6000,1,6000");
    prepared(&site)?;
    swap(&site)?;
    site.command("apply", &["--contract", "--yes"])?.ok()?;
    used(8000).await?;
    ensure!(simple(&named, "EXECUTE find('new7000')").await? == "7000");
    ensure!(
        plaintext(&database)? == "0",
        "plaintext behind the contract"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_over_the_table_holds_the_swap_up() -> Result<()> {
    let (database, site) = whole()?;
    prepared(&site)?;
    let proxy = site.serve()?;
    let client = proxy.connect("app").await?;
    simple(&client, "BEGIN; SELECT email FROM people WHERE id = 1").await?;
    let mut child = start_swap(&site)?;
    let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'people'::regclass AND NOT granted \
                   AND mode = 'AccessExclusiveLock'";
    while database.admin(waiting)? == "0" {
        ensure!(child.try_wait()?.is_none(), "it swapped over a transaction");
    }
    simple(&client, "UPDATE people SET email = 'within' WHERE id = 1").await?;
    ensure!(database.admin("SELECT email FROM people WHERE id = 2")? == "canary2@example.com");
    simple(&client, "COMMIT").await?;
    ensure!(child.wait()?.success());
    ensure!(
        simple(
            &client,
            "SELECT id FROM people WHERE email = 'within' AND tenant = 'tenant1'"
        )
        .await?
            == "1"
    );
    ensure!(plaintext(&database)? == "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_from_before_the_policy_are_guarded_too() -> Result<()> {
    let (database, mut site) = whole()?;
    let policy = super::POLICY;
    prepared(&site)?;
    site.write_policy("")?;
    let proxy = site.serve()?;
    let client = proxy.connect("app").await?;
    let by_email = client
        .prepare("SELECT id FROM people WHERE email = $1")
        .await?;
    let other = client.prepare("SELECT count(*) FROM orders").await?;
    let found = async |id: i32, email: &str| -> Result<()> {
        let row = client.query_one(&by_email, &[&email]).await?;
        ensure!(row.get::<_, i32>(0) == id);
        Ok(())
    };
    found(7, "canary7@example.com").await?;
    site.write_policy(policy)?;
    proxy.process().signal("HUP")?;
    while !proxy
        .log()
        .contains("the policy names a column that is plaintext")
    {
        client.simple_query("SELECT 1").await?;
    }
    found(8, "canary8@example.com").await?;
    swap(&site)?;
    let by_email = client.query(&by_email, &[&"canary9@example.com"]).await;
    // Without the tenant no scope is known, and that is what it says; not that there is none.
    ensure!(by_email.is_err(), "{by_email:?}");
    client.query_one(&other, &[]).await?;
    ensure!(plaintext(&database)? == "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_outlast_its_guard_is_refused() -> Result<()> {
    let (_database, site) = whole()?;
    prepared(&site)?;
    let proxy: Proxy = site.serve()?;
    let client = proxy.connect("app").await?;
    for sql in [
        "CREATE INDEX CONCURRENTLY ON people (note)",
        "DO $$ BEGIN DELETE FROM people; END $$",
    ] {
        let said = format!("{:?}", proxy.psql("app", sql));
        ensure!(
            said.contains("table-being-migrated") || said.contains("dynamic-sql"),
            "{said}"
        );
    }
    client.batch_execute("ANALYZE people").await?;
    let said = client
        .batch_execute("SELECT * FROM people WHERE emial = 'x'")
        .await;
    ensure!(said.is_err_and(|e| e.code() == Some(&SqlState::UNDEFINED_COLUMN)));
    // The session goes on.
    ensure!(simple(&client, "SELECT count(*) FROM people").await? == "3000");
    Ok(())
}

/// From PostgreSQL 18 on a simple Query does not end the transaction that messages without Sync have begun.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simple_query_ends_the_transaction_of_its_guard() -> Result<()> {
    let (database, site) = whole()?;
    prepared(&site)?;
    let proxy = site.serve()?;
    let client = proxy.connect("app").await?;
    for first in [7000, 8000] {
        let one = format!(
            "INSERT INTO people (id, email, tenant) VALUES ({first}, 'one{first}', 'tenant1')"
        );
        let said = client.simple_query(&one).await?;
        ensure!(
            matches!(said.as_slice(), [SimpleQueryMessage::CommandComplete(1)]),
            "{said:?}"
        );
        ensure!(code(&client, &one).await == Some(SqlState::UNIQUE_VIOLATION));
        // Behind the swap its scope is asked for, in the same transaction.
        let said = client
            .simple_query(&format!(
                "UPDATE people SET note = 'noted' WHERE id = {first} -- no scope"
            ))
            .await?;
        ensure!(
            matches!(said.as_slice(), [SimpleQueryMessage::CommandComplete(1)]),
            "{said:?}"
        );
        let several = format!(
            "INSERT INTO people (id, email, tenant) VALUES ({}, 'two{first}', 'tenant1'); \
             SELECT email FROM people WHERE id = {first}",
            first + 1
        );
        ensure!(simple(&client, &several).await? == format!("one{first}"));
        let line = format!("printf \"{}\\tthree{first}\\ttenant1\\n\"", first + 2);
        proxy.psql(
            "app",
            &format!("\\copy people (id, email, tenant) FROM PROGRAM '{line}'"),
        )?;
        // Others see all of it, and no transaction is left open.
        let seen = format!("SELECT count(*) FROM people WHERE id BETWEEN {first} AND {first} + 2");
        ensure!(database.run(&seen)? == "3");
        let open = database.admin(
            "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%' AND datname = current_database()",
        )?;
        ensure!(open == "0", "{open}");
        let read = format!("SELECT note FROM people WHERE id = {first}");
        ensure!(simple(&proxy.connect("app").await?, &read).await? == "noted");
        if first == 7000 {
            swap(&site)?;
        }
    }
    Ok(())
}

/// What the client has executed without Sync is in one transaction with the guarded Query behind it, and stays open where the
/// server leaves it open.
#[test]
fn a_guarded_query_behind_messages_without_sync_ends_what_it_would_end() -> Result<()> {
    let (database, site) = whole()?;
    prepared(&site)?;
    let proxy = site.serve()?;
    let release: u32 = database.admin("SHOW server_version_num")?.parse()?;
    let insert = |id: u32| {
        format!("INSERT INTO people (id, email, tenant) VALUES ({id}, 'unsynced{id}', 'tenant1')")
    };
    let run = |sql: &str| {
        [
            Message::parse("", sql, &[]),
            Message::bind_text(&[]),
            Message::execute("", 0),
        ]
    };
    let seen = |first: u32| {
        database.run(&format!(
            "SELECT count(*) FROM people WHERE id BETWEEN {first} AND {first} + 9"
        ))
    };
    let elsewhere = "INSERT INTO orders SELECT max(id) + 1, 1 FROM orders".to_owned();
    for (first, order, executed) in [(9000, elsewhere, 0), (9010, insert(9011), 1)] {
        let mut wire = Wire::connect(&proxy.target("app"))?;
        let mut messages = run(&order).to_vec();
        messages.push(Message::query(&insert(first + 2)));
        wire.send(&messages)?;
        let said = transcript(&wire.until_ready(1)?);
        let open = release >= 180_000;
        let status = if open { 'T' } else { 'I' };
        ensure!(said.ends_with(&format!("ReadyForQuery {status}")), "{said}");
        let ended = if open { 0 } else { 1 + executed };
        ensure!(seen(first)? == ended.to_string(), "{order}");
        // A string of several ends it.
        let two = format!("{}; {}", insert(first + 3), insert(first + 4));
        let said = wire.query(&two)?;
        ensure!(said.ends_with("ReadyForQuery I"), "{said}");
        ensure!(seen(first)? == (3 + executed).to_string(), "{order}");
        // What only pgveil has executed is ended by the Query, as what was only parsed.
        wire.send(&[Message::parse("", "TABLE people", &[]), Message::flush()])?;
        wire.until(b'1', 1)?;
        let said = wire.query(&insert(first + 5))?;
        ensure!(said.ends_with("ReadyForQuery I"), "{said}");
        ensure!(seen(first)? == (4 + executed).to_string(), "{order}");
    }
    Ok(())
}
