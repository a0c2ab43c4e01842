//! Every provider against a real or emulated key manager: one contract for all, every pair, and how each fails.

#[path = "providers/aws.rs"]
mod aws;
#[path = "providers/azure.rs"]
mod azure;
#[path = "providers/contract.rs"]
mod contract;
#[path = "providers/fault.rs"]
mod fault;
#[path = "providers/gcp.rs"]
mod gcp;
#[path = "providers/noticed.rs"]
mod noticed;
#[allow(dead_code, reason = "the protocol suite uses the rest of it")]
#[path = "protocol/papers.rs"]
mod papers;
#[path = "providers/protected.rs"]
mod protected;
#[path = "providers/region.rs"]
mod region;
#[path = "providers/rest.rs"]
mod rest;
#[path = "providers/served.rs"]
mod served;
#[path = "providers/serving.rs"]
mod serving;
#[path = "providers/slow.rs"]
mod slow;
#[path = "providers/starting.rs"]
mod starting;
#[path = "providers/switched.rs"]
mod switched;
#[path = "providers/traced.rs"]
mod traced;

use std::{path::Path, sync::Arc};

use anyhow::{Result, ensure};
use pgveil_providers::{
    KeyProvider, Wrapped,
    local::{LocalProvider, MemoryKekStore},
};
use pgveil_tests::kms::{Aws, Bao, ROOT_TOKEN};

use aws::aws;
use contract::{KEY, configured, context, contract, is_denied, is_unavailable, rotates_when_asked};

async fn vault(bao: &Bao, token: &str) -> Result<Box<dyn KeyProvider>> {
    configured(&format!(
        "kind = \"vault-transit\"\naddress = \"{}\"\ntoken = \"{token}\"",
        bao.address
    ))
    .await
}

async fn local(folder: &Path) -> Result<Box<dyn KeyProvider>> {
    let root = folder.join("root.key");
    LocalProvider::create_root_key(&root)?;
    let store = Arc::new(MemoryKekStore::default());
    Ok(Box::new(LocalProvider::open("p", &root, store).await?))
}

#[tokio::test]
async fn the_local_provider_keeps_the_contract() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let local = local(folder.path()).await?;
    contract(local.as_ref(), "a", "b").await?;
    rotates_when_asked(local.as_ref(), "a").await
}

#[tokio::test]
async fn a_transit_engine_keeps_the_contract() -> Result<()> {
    let Some(bao) = Bao::start()? else {
        return Ok(());
    };
    for key in ["transit/keys/a", "transit/keys/b"] {
        bao.run(&["write", "-f", key, "derived=true"])?;
    }
    let provider = vault(&bao, ROOT_TOKEN).await?;
    contract(provider.as_ref(), "a", "b").await?;
    rotates_when_asked(provider.as_ref(), "b").await?;
    let here = context("platform");
    let old = provider.wrap("a", &KEY, &here).await?;

    // A rotation shows, and what was wrapped before it opens until the server's policy says otherwise.
    let before = provider.describe("a").await?;
    bao.run(&["write", "-f", "transit/keys/a/rotate"])?;
    let after = provider.describe("a").await?;
    ensure!((before.version.as_str(), after.version.as_str()) == ("1", "2"));
    ensure!(provider.wrap("a", &KEY, &here).await?.kek_version == "2");
    ensure!(provider.unwrap("a", &old, &here).await?.as_slice() == KEY);
    bao.run(&["write", "transit/keys/a/config", "min_decryption_version=2"])?;
    let opened = provider.unwrap("a", &old, &here).await;
    ensure!(is_denied(&opened), "{opened:?}");

    // A token that may not, a key that is not there, an engine that is not there.
    let stranger = bao.run(&["token", "create", "-policy=default", "-field=token"])?;
    let denied = vault(&bao, &stranger).await?;
    let answer = denied.wrap("a", &KEY, &here).await;
    ensure!(is_denied(&answer), "{answer:?}");
    let missing = Wrapped {
        bytes: b"vault:v1:AAAA".to_vec(),
        kek_version: "1".to_owned(),
    };
    let answer = provider.unwrap("nobody", &missing, &here).await;
    ensure!(is_denied(&answer), "{answer:?}");
    for id in ["", "a/../b", "a?x", "\u{e9}"] {
        ensure!(is_denied(&provider.wrap(id, &KEY, &here).await), "{id:?}");
    }

    // Sealed, and then gone: outages both.
    let wrapped = provider.wrap("b", &KEY, &here).await?;
    bao.run(&["operator", "seal"])?;
    let answer = provider.unwrap("b", &wrapped, &here).await;
    ensure!(is_unavailable(&answer), "{answer:?}");
    bao.kill();
    let answer = provider.unwrap("b", &wrapped, &here).await;
    ensure!(is_unavailable(&answer), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn keys_move_from_any_provider_to_any_other() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (bao, emulator) = (Bao::start()?, Aws::start()?);
    let served = served::Served::new(served::Callers::Both)?;
    let server = served.site.serve_keys()?;
    served.key("a")?;
    let rest = configured(&served.own_section(&server)?).await?;
    let mut providers = vec![
        (local(folder.path()).await?, "a".to_owned()),
        (rest, "a".to_owned()),
    ];
    if let Some(bao) = &bao {
        bao.run(&["write", "-f", "transit/keys/a", "derived=true"])?;
        providers.push((vault(bao, ROOT_TOKEN).await?, "a".to_owned()));
    }
    if let Some(emulator) = &emulator {
        providers.push((aws(&emulator.endpoint, "").await?, emulator.key()?));
    }
    let google = gcp::Google::start().await?;
    providers.push((google.provider().await?, gcp::key("a")));
    let vault = azure::Vault::start().await?;
    for key in ["rsa", "oct"] {
        providers.push((vault.provider().await?, key.to_owned()));
    }
    let here = context("tenant:acme");
    for (from, from_kek) in &providers {
        for (to, to_kek) in &providers {
            let wrapped = from.wrap(from_kek, &KEY, &here).await?;
            let key = from.unwrap(from_kek, &wrapped, &here).await?;
            let moved = to.wrap(to_kek, &key, &here).await?;
            ensure!(
                to.unwrap(to_kek, &moved, &here).await?.as_slice() == KEY,
                "{} to {}",
                from.kind(),
                to.kind()
            );
            if from.kind() != to.kind() {
                let answer = to.unwrap(to_kek, &wrapped, &here).await;
                ensure!(
                    answer.is_err(),
                    "{} opens what {} wrapped",
                    to.kind(),
                    from.kind()
                );
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn nobody_there_is_an_outage() -> Result<()> {
    let port = pgveil_tests::postgres::free_port()?;
    let nobody = format!("http://127.0.0.1:{port}");
    let here = context("platform");
    let vault = configured(&format!(
        "kind = \"vault-transit\"\naddress = \"{nobody}\"\ntoken = \"t\""
    ))
    .await?;
    let gcp = configured(&format!("kind = \"gcp-kms\"\nendpoint = \"{nobody}\"")).await?;
    let azure = configured(&format!(
        "kind = \"azure-key-vault\"\nvault_url = \"https://127.0.0.1:{port}\"\ntenant_id = \"t\"\nclient_id = \"c\"\n\
         client_secret = \"s\""
    ))
    .await?;
    for (provider, kek) in [
        (vault, "a".to_owned()),
        (aws(&nobody, "").await?, "a".to_owned()),
        (gcp, gcp::key("a")),
        (azure, "a".to_owned()),
    ] {
        let answer = provider.wrap(&kek, &KEY, &here).await;
        ensure!(is_unavailable(&answer), "{}: {answer:?}", provider.kind());
    }
    Ok(())
}
