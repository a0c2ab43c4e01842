//! Keys made in a real keystore: first use, replicas that race, another root key, counts.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use pgveil_config::ScopePath;
use pgveil_keys::{DekId, KeyError, nonce, sealed, step_up::Authority};
use pgveil_policy::{plan::ColumnId, ruleset::TermContext};
use pgveil_providers::local::LocalProvider;

use super::Site;

fn scope(text: &str) -> ScopePath {
    ScopePath::parse(text).expect("a scope in a test")
}

#[tokio::test]
async fn what_one_replica_seals_another_opens_after_a_restart() -> Result<()> {
    let site = Site::new().await?;
    let acme = scope("tenant:acme/project:crm/env:prod");
    let mut value = Vec::new();
    let (key, term);
    {
        let keys = site.replica().await?;
        key = keys.sealing_key(&acme).await?;
        let index = keys.index_key(&acme, 0).await?;
        term = pgveil_keys::term::equality(&index, &TermContext::Column(ColumnId(1)), b"ada");
        sealed::seal(
            &key,
            ColumnId(1),
            &sealed::Terms::one(0, term),
            &nonce::next(),
            b"ada",
            &mut value,
        )?;
    }
    let keys = site.replica().await?;
    let envelope = sealed::Envelope::parse(&value)?;
    let mut out = Vec::new();
    envelope.open(&*keys.opening_key(envelope.dek).await?, &mut out)?;
    ensure!(out == b"ada");
    let index = keys.index_key(&acme, 0).await?;
    ensure!(pgveil_keys::term::equality(&index, &TermContext::Column(ColumnId(1)), b"ada") == term);
    ensure!(keys.sealing_key(&acme).await?.id() == key.id());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_that_race_for_a_new_deployment_agree() -> Result<()> {
    let site = Site::new().await?;
    let mut tasks = Vec::new();
    for _ in 0..6 {
        let keys = site.replica().await?;
        tasks.push(tokio::spawn(async move {
            let mut ids = Vec::new();
            for tenant in 0..5 {
                let scope = scope(&format!("tenant:t{tenant}"));
                ids.push(keys.sealing_key(&scope).await?.id());
                keys.index_key(&scope, 0).await?;
            }
            Ok::<_, KeyError>(ids)
        }));
    }
    let mut answers = HashSet::new();
    for task in tasks {
        answers.insert(task.await??);
    }
    ensure!(answers.len() == 1, "{answers:?}");
    let counts = site
        .database
        .admin("SELECT count(*), count(DISTINCT (scope, purpose)), max(epoch) FROM pgveil.keys")?;
    ensure!(counts == "10|10|1", "{counts}");
    ensure!(
        site.database
            .admin("SELECT count(*) FROM pgveil.local_keks")?
            == "1"
    );
    Ok(())
}

#[tokio::test]
async fn another_root_key_is_refused_at_start() -> Result<()> {
    let site = Site::new().await?;
    site.replica()
        .await?
        .sealing_key(&scope("platform"))
        .await?;
    let root = site.folder.path().join("root.key");
    std::fs::rename(&root, site.folder.path().join("kept"))?;
    LocalProvider::create_root_key(&root)?;
    let error = format!(
        "{:#}",
        site.replica()
            .await
            .err()
            .context("the wrong root key was taken")?
    );
    ensure!(
        error.contains("does not open the keystore's key encryption keys"),
        "{error}"
    );
    std::fs::rename(site.folder.path().join("kept"), &root)?;
    site.replica()
        .await?
        .sealing_key(&scope("platform"))
        .await?;
    Ok(())
}

#[tokio::test]
async fn keys_that_the_keystore_lost_swapped_or_sealed_are_told_apart() -> Result<()> {
    let site = Site::new().await?;
    let keys = site.replica().await?;
    let (a, b) = (
        keys.sealing_key(&scope("tenant:a")).await?.id(),
        keys.sealing_key(&scope("tenant:b")).await?.id(),
    );
    let opening = async |id: DekId| {
        Ok::<_, anyhow::Error>(
            site.replica()
                .await?
                .opening_key(id)
                .await
                .map(|key| key.id()),
        )
    };
    let unknown = DekId(4711);
    ensure!(opening(unknown).await? == Err(KeyError::NotFound { id: unknown }));
    site.database.admin(&format!(
        "UPDATE pgveil.keys SET wrapped = (SELECT wrapped FROM pgveil.keys WHERE id = {b}) WHERE id = {a}"
    ))?;
    ensure!(matches!(opening(a).await?, Err(KeyError::Damaged { .. })));
    site.database
        .admin("UPDATE pgveil.scopes SET state = 'sealed' WHERE path = 'tenant:b'")?;
    ensure!(matches!(
        opening(b).await?,
        Err(KeyError::ScopeSealed { .. })
    ));
    site.database
        .admin("UPDATE pgveil.scopes SET state = 'open'")?;
    let next = keys
        .rotate(&scope("tenant:b"), Authority::Automatic)
        .await?;
    ensure!(next.is_some_and(|next| next.id != b.0 && next.epoch == 2));
    ensure!(opening(b).await? == Ok(b));
    Ok(())
}

#[tokio::test]
async fn uses_of_all_replicas_add_up_in_the_keystore() -> Result<()> {
    let site = Site::new().await?;
    let (one, two) = (site.replica().await?, site.replica().await?);
    for keys in [&one, &two, &one] {
        let key = keys.sealing_key(&scope("platform")).await?;
        sealed::seal(
            &key,
            ColumnId(1),
            &sealed::Terms::NONE,
            &nonce::next(),
            b"x",
            &mut Vec::new(),
        )?;
    }
    let (uses, block) = (
        site.database.admin("SELECT uses FROM pgveil.keys")?,
        1 << 16,
    );
    ensure!(
        uses == (2 * block).to_string(),
        "{uses}: each leased one block"
    );
    Ok(())
}

#[tokio::test]
async fn of_replicas_that_replace_a_key_at_once_one_makes_the_next() -> Result<()> {
    let site = Site::new().await?;
    let (one, two) = (site.replica().await?, site.replica().await?);
    let platform = scope("platform");
    let first = one.sealing_key(&platform).await?.id();
    ensure!(two.sealing_key(&platform).await?.id() == first);
    site.database
        .admin("UPDATE pgveil.keys SET uses = 7::int8 << 27")?;
    one.clear();
    two.clear();
    one.sealing_key(&platform).await?;
    two.sealing_key(&platform).await?;
    tokio::join!(one.renew(), two.renew());
    let (a, b) = (
        one.sealing_key(&platform).await?.id(),
        two.sealing_key(&platform).await?.id(),
    );
    ensure!(a == b && a != first, "{first} {a} {b}");
    let rows = site.database.admin(
        "SELECT string_agg(epoch || ' ' || state || ' ' || (retired_at IS NOT NULL), ', ' ORDER BY epoch) FROM pgveil.keys",
    )?;
    ensure!(rows == "1 decrypt_only true, 2 active false", "{rows}");
    ensure!(one.opening_key(first).await?.id() == first);
    Ok(())
}
