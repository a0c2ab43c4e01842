//! Records and the changes that they tell of.

use anyhow::{Context, Result, ensure};
use pgveil_keys::audit::{Actor, Event, Operation, Outcome, acting};
use serde_json::json;

use super::{Site, scope};

#[tokio::test]
async fn a_key_is_made_with_its_record() -> Result<()> {
    let site = Site::new().await?;
    let replica = site.replica().await?;
    let acme = scope("tenant:acme");
    let ada = Actor::session("ada", "192.0.2.7");
    let key = acting(ada, replica.keys.sealing_key(&acme)).await?;
    let told = site
        .database
        .admin("SELECT seq, operation, outcome, scope, actor FROM pgveil.audit")?;
    ensure!(
        told == "1|dek.create|done|tenant:acme|session:ada",
        "{told}"
    );
    let key_id = key.id().to_string();
    let in_record = site.database.admin(&format!(
        "SELECT position('{key_id}'::bytea IN record) > 0 AND position('192.0.2.7'::bytea IN record) > 0 FROM pgveil.audit"
    ))?;
    ensure!(in_record == "t", "{in_record}");
    Ok(())
}

#[tokio::test]
async fn no_key_is_made_when_its_record_cannot_be_written() -> Result<()> {
    let site = Site::new().await?;
    let replica = site.replica().await?;
    replica.keys.sealing_key(&scope("tenant:first")).await?;
    site.database
        .admin("ALTER TABLE pgveil.audit ADD CONSTRAINT full_disk CHECK (seq < 2)")?;
    let refused = replica.keys.sealing_key(&scope("tenant:second")).await;
    ensure!(refused.is_err(), "a key without a record");
    let keys = site.database.admin("SELECT scope FROM pgveil.keys")?;
    ensure!(keys == "tenant:first", "{keys}");
    site.database
        .admin("ALTER TABLE pgveil.audit DROP CONSTRAINT full_disk")?;
    replica.keys.sealing_key(&scope("tenant:second")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_append_at_once_without_gaps() -> Result<()> {
    let site = Site::new().await?;
    let mut tasks = Vec::new();
    for replica in 0..4 {
        let (one, scopes) = (site.replica().await?, 0..8);
        tasks.push(tokio::spawn(async move {
            for n in scopes {
                let log = one.keystore.log();
                let event =
                    Event::new(Operation::ConfigLoad).detail(json!({ "replica": replica, "n": n }));
                log.note(event).await?;
                let scope = scope(&format!("tenant:t{n}"));
                one.keys.sealing_key(&scope).await?;
            }
            one.keystore.log().flush().await;
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await.context("a replica panicked")??;
    }
    let told = site.database.admin(
        "SELECT count(*), max(seq), count(*) FILTER (WHERE operation = 'dek.create'), (SELECT seq FROM pgveil.audit_head) \
         FROM pgveil.audit",
    )?;
    // Eight keys, whoever was first, and all that was noted.
    ensure!(told == "40|40|8|40", "{told}");
    Ok(())
}

#[tokio::test]
async fn a_change_that_is_given_up_leaves_nothing_and_lets_the_next_one_in() -> Result<()> {
    let site = Site::new().await?;
    let replica = site.replica().await?;
    let mut change = replica.keystore.change().await?;
    change
        .query("INSERT INTO pgveil.scopes (path) VALUES ('tenant:x')", &[])
        .await?;
    drop(change);
    replica
        .keystore
        .log()
        .record(Event::new(Operation::ConfigRefuse).outcome(Outcome::Failed))
        .await?;
    let left = site.database.admin(
        "SELECT (SELECT count(*) FROM pgveil.scopes), (SELECT string_agg(operation || ' ' || outcome, ',') FROM pgveil.audit)",
    )?;
    ensure!(left == "0|config.refuse failed", "{left}");
    Ok(())
}

#[tokio::test]
async fn the_log_goes_on_after_its_connection_was_cut() -> Result<()> {
    let site = Site::new().await?;
    let replica = site.replica().await?;
    let log = replica.keystore.log();
    log.record(Event::new(Operation::ConfigLoad)).await?;
    let mut change = replica.keystore.change().await?;
    change.query("SELECT 1", &[]).await?;
    site.database.admin(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pgveil'",
    )?;
    let cut = change.commit(Event::new(Operation::ConfigRefuse)).await;
    ensure!(cut.is_err(), "committed without a server");
    log.record(Event::new(Operation::ConfigLoad)).await?;
    let told = site
        .database
        .admin("SELECT string_agg(operation, ',' ORDER BY seq) FROM pgveil.audit")?;
    ensure!(told == "config.load,config.load", "{told}");
    Ok(())
}

#[tokio::test]
async fn rows_are_neither_changed_nor_dropped_by_accident() -> Result<()> {
    let site = Site::new().await?;
    let replica = site.replica().await?;
    replica
        .keystore
        .log()
        .record(Event::new(Operation::ConfigLoad))
        .await?;
    for statement in [
        "UPDATE pgveil.audit SET actor = 'nobody'",
        "DELETE FROM pgveil.audit",
        "TRUNCATE pgveil.audit",
    ] {
        let refused = site.database.admin(statement);
        ensure!(
            refused.is_err_and(|error| format!("{error:#}").contains("append-only")),
            "{statement}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_process_notices_that_the_log_was_set_back() -> Result<()> {
    let site = Site::new().await?;
    let replica = site.replica().await?;
    let log = replica.keystore.log();
    log.record(Event::new(Operation::ConfigLoad)).await?;
    site.database.admin(
        "CREATE TABLE public.before AS TABLE pgveil.audit_head; ALTER TABLE pgveil.audit DISABLE TRIGGER append_only",
    )?;
    log.record(Event::new(Operation::ConfigLoad)).await?;
    // As a superuser who restores an older state, MACs and all.
    site.database.admin(
        "DELETE FROM pgveil.audit WHERE seq = 2; UPDATE pgveil.audit_head h SET seq = b.seq, link = b.link, mac = b.mac FROM public.before b",
    )?;
    let refused = replica.keys.sealing_key(&scope("tenant:a")).await;
    let error = refused
        .err()
        .context("a key on top of a log that was cut")?;
    ensure!(error.to_string().contains("are gone"), "{error}");
    Ok(())
}

#[tokio::test]
async fn an_end_that_somebody_else_wrote_is_not_built_upon() -> Result<()> {
    let site = Site::new().await?;
    let replica = site.replica().await?;
    replica
        .keystore
        .log()
        .record(Event::new(Operation::ConfigLoad))
        .await?;
    site.database
        .admin("UPDATE pgveil.audit_head SET link = sha256('x')")?;
    // Another process, which has not seen the end before.
    let other = site.replica().await?;
    let refused = other.keys.sealing_key(&scope("tenant:a")).await;
    let error = refused.err().context("a key on top of a forged end")?;
    ensure!(
        error.to_string().contains("changed by somebody else"),
        "{error}"
    );
    Ok(())
}
