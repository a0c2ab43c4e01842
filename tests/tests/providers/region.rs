//! The first region of AWS is lost under a running proxy: who has a replica goes on, whatever becomes of those without.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use pgveil_tests::{kms::Aws, postgres::TempPostgres, proxy::Proxy, site::Site};

use crate::{
    aws::{aws, is_for},
    contract::{KEY, context},
    fault::{Fault, Reply, forward},
};

const TABLE: &str = "CREATE TABLE notes (id int PRIMARY KEY, tenant text, body text)";
const POLICY: &str = r#"public.notes  scope = "tenant:{tenant}"  body: text"#;
const TTL: Duration = Duration::from_secs(1);
/// So often is each of those without a replica refused: far more than an outage takes.
const REFUSALS: usize = 10;
/// What a loaded machine may take.
const SLACK: Duration = Duration::from_secs(90);

const REPLICAS: &str = "replica_regions = [\"eu-west-1\"]";
const REPLICATED: &str = "key = kms.create_key(MultiRegion=True)['KeyMetadata']['Arn']\n\
    kms.replicate_key(KeyId=key, ReplicaRegion='eu-west-1')\nprint(key)";
const ALONE: &str = "print(kms.create_key(MultiRegion=True)['KeyMetadata']['Arn'])";

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_a_replica_takes_nothing_from_one_that_has_one() -> Result<()> {
    let Some(emulator) = Aws::whole()? else {
        return Ok(());
    };
    let lost = Arc::new(AtomicBool::new(false));
    let (is_lost, behind) = (Arc::clone(&lost), emulator.endpoint.clone());
    let relay = Fault::plain(move |request| {
        if is_lost.load(Ordering::SeqCst) && is_for(request, "eu-central-1") {
            return Reply::Close;
        }
        forward(&behind, request).unwrap_or(Reply::Close)
    })
    .await?;
    tokio::task::block_in_place(|| lose(&emulator, &relay.address, &lost))
}

fn lose(emulator: &Aws, address: &str, lost: &AtomicBool) -> Result<()> {
    let (replicated, alone, single) = (
        emulator.run(REPLICATED)?,
        emulator.run(ALONE)?,
        emulator.key()?,
    );
    emulator.run(&format!(
        "kms.create_alias(AliasName='alias/single', TargetKeyId='{single}')"
    ))?;
    let database = TempPostgres::fresh_database()?;
    database.run(TABLE)?;
    let mut site = Site::new(&database, POLICY)?;
    site.set("cache", "ttl", &format!("\"{}s\"", TTL.as_secs()))?;
    site.append(&format!(
        "\n[provider.aws]\nkind = \"aws-kms\"\nregion = \"eu-central-1\"\nendpoint = \"{address}\"\n{REPLICAS}\n"
    ))?;
    let without = ["alone", "alias"];
    for (tenant, key) in [
        ("replicated", replicated.as_str()),
        ("alone", &alone),
        ("alias", "alias/single"),
    ] {
        site.append(&format!(
            "[[override]]\nscope = \"tenant:{tenant}\"\nprovider = \"aws\"\nkey = \"{key}\"\n"
        ))?;
    }
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql(
        "app",
        "INSERT INTO notes VALUES (1, 'replicated', 'ours'), (2, 'alone', 'ours'), (3, 'alias', 'ours')",
    )?;
    lost.store(true, Ordering::SeqCst);
    let (begin, mut refusals) = (Instant::now(), [0, 0]);
    while refusals.iter().any(|refused| *refused < REFUSALS) {
        ensure!(begin.elapsed() < SLACK, "{refusals:?}\n{}", proxy.log());
        for (tenant, refused) in without.iter().zip(&mut refusals) {
            *refused += usize::from(body(&proxy, tenant)?.contains("PV002"));
            let answer = body(&proxy, "replicated")?;
            ensure!(answer == "ours", "{answer}");
        }
    }
    lost.store(false, Ordering::SeqCst);
    let begin = Instant::now();
    for tenant in without {
        while body(&proxy, tenant)? != "ours" {
            ensure!(begin.elapsed() < SLACK, "{}", proxy.log());
        }
    }
    Ok(())
}

fn body(proxy: &Proxy, tenant: &str) -> Result<String> {
    proxy.psql(
        "app",
        &format!("SELECT body FROM notes WHERE tenant = '{tenant}'"),
    )
}

#[tokio::test]
async fn a_region_that_hangs_is_waited_for_once() -> Result<()> {
    let Some(emulator) = Aws::whole()? else {
        return Ok(());
    };
    let (lost, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (is_lost, counted, behind) = (lost.clone(), asked.clone(), emulator.endpoint.clone());
    let relay = Fault::plain(move |request| {
        if is_lost.load(Ordering::SeqCst) && is_for(request, "eu-central-1") {
            counted.fetch_add(1, Ordering::SeqCst);
            return Reply::Hang;
        }
        forward(&behind, request).unwrap_or(Reply::Close)
    })
    .await?;
    let (replicated, alone) = (emulator.run(REPLICATED)?, emulator.run(ALONE)?);
    let (provider, here) = (aws(&relay.address, REPLICAS).await?, context("platform"));
    let wrapped = provider.wrap(&replicated, &KEY, &here).await?;
    let other = provider.wrap(&alone, &KEY, &here).await?;
    lost.store(true, Ordering::SeqCst);
    ensure!(
        provider
            .unwrap(&replicated, &wrapped, &here)
            .await?
            .as_slice()
            == KEY
    );
    let before = asked.load(Ordering::SeqCst);
    ensure!(before > 0, "the first region is asked first");
    ensure!(
        provider
            .unwrap(&replicated, &wrapped, &here)
            .await?
            .as_slice()
            == KEY
    );
    ensure!(
        asked.load(Ordering::SeqCst) == before,
        "it was waited for again"
    );
    // Where there is no replica, that the other region has no such key says nothing of it.
    lost.store(false, Ordering::SeqCst);
    let opened = provider.unwrap(&alone, &other, &here).await;
    ensure!(opened.context("it is asked last")?.as_slice() == KEY);
    Ok(())
}
