//! Every column of every table of the keystore, changed by a superuser: a process that starts afterwards opens a value to what it
//! was, makes the term that it had and shows the label that it did, or says an error. Tables that are added are swept by themselves.

use anyhow::{Context, Result, ensure};
use pgveil_config::ScopePath;
use pgveil_keys::{
    keystore::{KeyTable, KeystoreError},
    nonce, sealed,
    step_up::Authority,
    term,
};
use pgveil_policy::{plan::ColumnId, ruleset::TermContext};

use super::{Site, connect, labels};

const PLAIN: &[u8] = b"ada@example.com";

/// A value and its term, as they stand in a table.
struct Stored {
    scope: ScopePath,
    value: Vec<u8>,
    term: [u8; term::EQUALITY_BYTES],
}

/// What a process that has just started makes of it: whether it used anything at all.
async fn used(site: &Site, stored: &Stored) -> Result<bool> {
    let Ok(keys) = site.replica().await else {
        return Ok(false);
    };
    let envelope = sealed::Envelope::parse(&stored.value)?;
    let mut used = false;
    if let Ok(key) = keys.opening_key(envelope.dek).await {
        let mut out = Vec::new();
        if envelope.open(&key, &mut out).is_ok() {
            ensure!(out == PLAIN, "it opens to something else");
            used = true;
        }
    }
    if let Ok(index) = keys.index_key(&stored.scope, 0).await {
        let made = term::equality(&index, &TermContext::Column(ColumnId(1)), PLAIN);
        ensure!(made == stored.term, "another term: it would not be found");
        used = true;
    }
    let client = connect(&site.database).await?;
    if let Ok(registry) = keys.registry().await
        && let Ok(labels) = registry.labels(&*client).await
    {
        ensure!(labels == labels::moods()?, "other labels");
    }
    // What is sealed now must be what anybody else can open.
    if let Ok(key) = keys.sealing_key(&stored.scope).await {
        let other = site.replica().await;
        let opening = match &other {
            Ok(other) => other.opening_key(key.id()).await.ok(),
            Err(_) => None,
        };
        if let Some(opening) = opening {
            let mut value = Vec::new();
            let terms = sealed::Terms::one(0, stored.term);
            sealed::seal(&key, ColumnId(1), &terms, &nonce::next(), PLAIN, &mut value)?;
            let mut out = Vec::new();
            sealed::Envelope::parse(&value)?.open(&opening, &mut out)?;
            ensure!(out == PLAIN, "two processes have two keys of one number");
        }
    }
    Ok(used)
}

/// What becomes of a column of this type; `None` where nobody can say it in SQL.
fn changed(column: &str, type_name: &str) -> Option<Vec<String>> {
    let next = match type_name {
        "bytea" => vec![
            format!(
                "set_byte({column}, length({column}) - 1, 255 - get_byte({column}, length({column}) - 1))"
            ),
            format!("substr({column}, 1, length({column}) - 1)"),
        ],
        "text" => vec![format!("{column} || 'x'"), "'tenant:b'".to_owned()],
        "bigint" | "integer" | "smallint" => vec![format!("{column} + 1"), "0".to_owned()],
        "oid" => vec![format!("{column}::bigint::int4 + 1")],
        "boolean" => vec![format!("NOT {column}")],
        "timestamp with time zone" => vec![
            format!("coalesce({column}, now()) + interval '400 days'"),
            format!("coalesce({column}, now()) - interval '400 days'"),
        ],
        "text[]" => vec![format!("{column} || 'x'::text"), "'{}'".to_owned()],
        "bigint[]" => vec![format!("{column} || 1::bigint"), "'{}'".to_owned()],
        "xid8" => vec!["'1'::xid8".to_owned()],
        _ => return None,
    };
    Some(next.into_iter().chain(["NULL".to_owned()]).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_column_of_any_table_leads_to_another_value_or_term() -> Result<()> {
    let site = Site::new().await?;
    let scope = ScopePath::parse("tenant:a")?;
    let stored = {
        let keys = site.replica().await?;
        let key = keys.sealing_key(&scope).await?;
        let index = keys.index_key(&scope, 0).await?;
        let made = term::equality(&index, &TermContext::Column(ColumnId(1)), PLAIN);
        let mut value = Vec::new();
        let terms = sealed::Terms::one(0, made);
        sealed::seal(&key, ColumnId(1), &terms, &nonce::next(), PLAIN, &mut value)?;
        // An older and a newer key, and another scope's.
        keys.rotate(&scope, Authority::Automatic).await?;
        let other = ScopePath::parse("tenant:b")?;
        keys.sealing_key(&other).await?;
        keys.index_key(&other, 0).await?;
        Stored {
            scope: scope.clone(),
            value,
            term: made,
        }
    };
    {
        let registry = site.replica().await?.registry().await?;
        let client = connect(&site.database).await?;
        labels::record(&client, &registry, &labels::moods()?).await?;
    }
    ensure!(used(&site, &stored).await?, "untouched, it opens");
    let admin = |sql: &str| site.database.admin(sql);
    admin("CREATE SCHEMA kept")?;
    let columns = admin(
        "SELECT c.relname || ' ' || a.attname || ' ' || format_type(a.atttypid, NULL) FROM pg_class c \
         JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = 'pgveil'::regnamespace AND c.relkind = 'r' \
         AND a.attnum > 0 AND NOT a.attisdropped ORDER BY c.relname, a.attnum",
    )?;
    let mut tables: Vec<&str> = { columns.lines() }
        .filter_map(|line| line.split(' ').next())
        .collect();
    tables.dedup();
    // A process may write while it is deceived: it ends, and all is put back.
    let mut restore =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pgveil' \
        AND datname = current_database(); SET session_replication_role = replica"
            .to_owned();
    for table in &tables {
        admin(&format!(
            "CREATE TABLE kept.{table} AS TABLE pgveil.{table}"
        ))?;
        restore += &format!(
            "; DELETE FROM pgveil.{table}; INSERT INTO pgveil.{table} OVERRIDING SYSTEM VALUE SELECT * FROM kept.{table}"
        );
    }
    let (mut changes, mut useless) = (0, 0);
    for line in columns.lines() {
        let (table, rest) = line.split_once(' ').context("a table")?;
        let (column, type_name) = rest.split_once(' ').context("a column and its type")?;
        let all = changed(column, type_name).with_context(|| format!("no change for {line}"))?;
        for to in all {
            // No trigger and no foreign key stops a superuser; what a CHECK or an index stops cannot be there. Rows that nobody
            // needs, of operators for instance, are not there either.
            let change = format!(
                "SET session_replication_role = replica; \
                 WITH changed AS (UPDATE pgveil.{table} SET {column} = {to} RETURNING 1) SELECT count(*) FROM changed"
            );
            if !admin(&change).is_ok_and(|count| count != "0") {
                continue;
            }
            changes += 1;
            let judged = used(&site, &stored).await;
            let used = judged.with_context(|| change.clone())?;
            useless += u32::from(!used);
            admin(&restore)?;
        }
    }
    // All rows of a table taken away.
    for table in &tables {
        admin(&format!(
            "SET session_replication_role = replica; DELETE FROM pgveil.{table}"
        ))?;
        let judged = used(&site, &stored).await;
        judged.with_context(|| format!("without the rows of {table}"))?;
        admin(&restore)?;
    }
    ensure!(used(&site, &stored).await?, "put back, it opens");
    // Neither was everything refused, for whatever reason, nor nothing.
    ensure!(
        tables.len() > 20 && changes > 60 && useless > 15 && useless < changes,
        "{} tables, {changes} changes, {useless} refused altogether",
        tables.len()
    );
    println!(
        "{changes} changes in {} tables, {useless} refused altogether",
        tables.len()
    );
    Ok(())
}

/// What is not there, or does not read, is told by those who look at all rows, and not only by the statement that needs it.
#[tokio::test]
async fn rows_that_are_gone_or_do_not_read_are_named() -> Result<()> {
    let site = Site::new().await?;
    let a = ScopePath::parse("tenant:a")?;
    let (gone, other) = (
        site.replica().await?.sealing_key(&a).await?.id().0,
        site.replica()
            .await?
            .sealing_key(&ScopePath::parse("tenant:b")?)
            .await?
            .id()
            .0,
    );
    let keystore = site.keystore().await?;
    ensure!(keystore.refused_rows().await?.is_empty());
    for (does, says) in [
        (
            format!("DELETE FROM pgveil.keys WHERE id = {gone}"),
            format!("key {gone} in the keystore is refused: its row is gone"),
        ),
        (
            format!(
                "ALTER TABLE pgveil.keys ALTER provider DROP NOT NULL; UPDATE pgveil.keys SET provider = NULL WHERE id = {other}"
            ),
            format!("key {other} in the keystore is refused"),
        ),
        (
            "ALTER TABLE pgveil.overrides ALTER set_by DROP NOT NULL; \
             INSERT INTO pgveil.overrides (scope, failure, set_by) VALUES ('tenant:c', 'open', NULL)"
                .to_owned(),
            "the row of tenant:c does not read".to_owned(),
        ),
        (
            "INSERT INTO pgveil.scopes (path, state, sealed_at) VALUES ('tenant:d', 'sealed', now())"
                .to_owned(),
            "the seal of tenant:d has no MAC".to_owned(),
        ),
    ] {
        site.database.admin(&does)?;
        let named = keystore.refused_rows().await?;
        ensure!(
            named.iter().any(|error| error.to_string().contains(&says)),
            "{does}: {named:?}"
        );
    }
    Ok(())
}

/// Rotations say by an id what they replace: one that was given out before would say nothing, and be told as done.
#[tokio::test]
async fn a_sequence_of_ids_that_was_set_back_is_refused() -> Result<()> {
    let site = Site::new().await?;
    let held = site
        .replica()
        .await?
        .sealing_key(&ScopePath::parse("tenant:a")?)
        .await?;
    let keystore = site.keystore().await?;
    ensure!(keystore.next_id().await? > held.id().0);
    site.database.admin(&format!(
        "SELECT setval('pgveil.key_ids', {}, false)",
        held.id().0
    ))?;
    let refused = keystore.next_id().await;
    ensure!(
        matches!(
            &refused,
            Err(KeystoreError::Damaged {
                table: "pgveil.key_ids",
                ..
            })
        ),
        "{refused:?}"
    );
    // The next one is right again.
    ensure!(keystore.next_ids(2).await?.len() == 2);
    Ok(())
}
