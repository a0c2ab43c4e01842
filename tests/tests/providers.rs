//! Every provider against a real or emulated key manager: one contract for all, every pair, and how each fails.

#[path = "protocol/papers.rs"]
mod papers;
#[path = "providers/rest.rs"]
mod rest;
#[path = "providers/served.rs"]
mod served;

use std::{path::Path, sync::Arc};

use anyhow::{Result, ensure};
use pgveil_config::{Settings, settings::Provider};
use pgveil_providers::{
    KeyProvider, ProviderError, WrapContext, Wrapped,
    aws_kms::AwsKms,
    local::{LocalProvider, MemoryKekStore},
    vault_transit::VaultTransit,
    xks::Xks,
};
use pgveil_tests::kms::{Aws, Bao, ROOT_TOKEN};

/// A provider as configuration text makes it.
async fn configured(section: &str) -> Result<Box<dyn KeyProvider>> {
    let text = format!(
        "[upstream]\naddress = \"127.0.0.1:5432\"\n[keystore]\nurl = \"postgres://pgveil@127.0.0.1/app\"\n\
         [defaults]\nprovider = \"p\"\nkey = \"k\"\n[provider.p]\n{section}"
    );
    let settings = Settings::parse(&text, Path::new("pgveil.toml"))?;
    Ok(match &settings.providers["p"] {
        Provider::AwsKms(at) => Box::new(AwsKms::new("p", at).await),
        Provider::VaultTransit(at) => Box::new(VaultTransit::new("p", at)?),
        Provider::Rest(at) => Box::new(Xks::new("p", at)?),
        Provider::Local { .. } => unreachable!("not asked for here"),
    })
}

async fn vault(bao: &Bao, token: &str) -> Result<Box<dyn KeyProvider>> {
    configured(&format!(
        "kind = \"vault-transit\"\naddress = \"{}\"\ntoken = \"{token}\"",
        bao.address
    ))
    .await
}

async fn aws(endpoint: &str, further: &str) -> Result<Box<dyn KeyProvider>> {
    configured(&format!(
        "kind = \"aws-kms\"\nregion = \"eu-central-1\"\nendpoint = \"{endpoint}\"\n{further}"
    ))
    .await
}

async fn local(folder: &Path) -> Result<Box<dyn KeyProvider>> {
    let root = folder.join("root.key");
    LocalProvider::create_root_key(&root)?;
    let store = Arc::new(MemoryKekStore::default());
    Ok(Box::new(LocalProvider::open("p", &root, store).await?))
}

fn context(scope: &str) -> WrapContext {
    WrapContext {
        scope: scope.to_owned(),
        key_id: 7,
        purpose: "data",
    }
}

const KEY: [u8; 64] = [0x5a; 64];

/// What all providers have in common. `kek` and `other` are two KEKs of theirs.
async fn contract(provider: &dyn KeyProvider, kek: &str, other: &str) -> Result<()> {
    let here = context("tenant:acme/env:prod");
    let wrapped = provider.wrap(kek, &KEY, &here).await?;
    ensure!(provider.unwrap(kek, &wrapped, &here).await?.as_slice() == KEY);
    ensure!(
        !wrapped.bytes.windows(16).any(|part| part == &KEY[..16]),
        "the key stands in what was made of it"
    );
    let again = provider.wrap(kek, &KEY, &here).await?;
    ensure!(again.bytes != wrapped.bytes, "wrapping is not random");
    let longest = vec![1; 4096];
    let wide = provider.wrap(kek, &longest, &here).await?;
    ensure!(provider.unwrap(kek, &wide, &here).await?.as_slice() == longest);

    for elsewhere in [
        context("tenant:globex/env:prod"),
        WrapContext {
            key_id: 8,
            ..here.clone()
        },
    ] {
        let opened = provider.unwrap(kek, &wrapped, &elsewhere).await;
        ensure!(opened.is_err(), "it opens for {elsewhere:?}");
    }
    for at in [0, wrapped.bytes.len() / 2, wrapped.bytes.len() - 1] {
        let mut altered = wrapped.clone();
        altered.bytes[at] ^= 1;
        let opened = provider.unwrap(kek, &altered, &here).await;
        ensure!(opened.is_err(), "it opens with byte {at} altered");
        ensure!(
            !matches!(opened, Err(ProviderError::Unavailable { .. })),
            "an altered byte {at} looks like an outage: {opened:?}"
        );
    }
    for bytes in [
        Vec::new(),
        vec![0; 40],
        wrapped.bytes[..wrapped.bytes.len() - 1].to_vec(),
    ] {
        let cut = Wrapped {
            bytes,
            kek_version: wrapped.kek_version.clone(),
        };
        ensure!(provider.unwrap(kek, &cut, &here).await.is_err());
    }
    let described = provider.describe(kek).await?;
    ensure!(!described.version.is_empty() && !described.algorithm.is_empty());
    let moved = provider.wrap(other, &KEY, &here).await?;
    ensure!(provider.unwrap(other, &moved, &here).await?.as_slice() == KEY);
    Ok(())
}

fn is_denied<T>(answer: &Result<T, ProviderError>) -> bool {
    matches!(answer, Err(ProviderError::Denied { .. }))
}

fn is_unavailable<T>(answer: &Result<T, ProviderError>) -> bool {
    matches!(answer, Err(ProviderError::Unavailable { .. }))
}

#[tokio::test]
async fn the_local_provider_keeps_the_contract() -> Result<()> {
    let folder = tempfile::tempdir()?;
    contract(local(folder.path()).await?.as_ref(), "a", "b").await
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
async fn aws_kms_keeps_the_contract() -> Result<()> {
    let Some(emulator) = Aws::start()? else {
        return Ok(());
    };
    let (a, b) = (emulator.key()?, emulator.key()?);
    let provider = aws(&emulator.endpoint, "").await?;
    contract(provider.as_ref(), &a, &b).await?;
    let here = context("platform");
    let wrapped = provider.wrap(&a, &KEY, &here).await?;

    // The kill switch: denied while disabled, and again when it is to be deleted.
    emulator.run(&format!("kms.disable_key(KeyId='{a}')"))?;
    for answer in [
        provider.unwrap(&a, &wrapped, &here).await.map(drop),
        provider.describe(&a).await.map(drop),
    ] {
        ensure!(is_denied(&answer), "{answer:?}");
    }
    emulator.run(&format!("kms.enable_key(KeyId='{a}')"))?;
    ensure!(provider.unwrap(&a, &wrapped, &here).await?.as_slice() == KEY);
    emulator.run(&format!(
        "kms.schedule_key_deletion(KeyId='{a}', PendingWindowInDays=7)"
    ))?;
    let answer = provider.unwrap(&a, &wrapped, &here).await;
    ensure!(is_denied(&answer), "{answer:?}");

    // An alias that is pointed at another key: what was wrapped names the key behind it.
    emulator.run(&format!(
        "kms.create_alias(AliasName='alias/pgveil', TargetKeyId='{b}')"
    ))?;
    let by_alias = provider.wrap("alias/pgveil", &KEY, &here).await?;
    ensure!(by_alias.kek_version == b, "{by_alias:?}");
    let c = emulator.key()?;
    emulator.run(&format!(
        "kms.update_alias(AliasName='alias/pgveil', TargetKeyId='{c}')"
    ))?;
    ensure!(
        provider
            .unwrap("alias/pgveil", &by_alias, &here)
            .await?
            .as_slice()
            == KEY
    );
    let answer = provider.wrap("alias/nobody", &KEY, &here).await;
    ensure!(is_denied(&answer), "{answer:?}");
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
    for provider in [vault, aws(&nobody, "").await?] {
        let answer = provider.wrap("a", &KEY, &here).await;
        ensure!(is_unavailable(&answer), "{}: {answer:?}", provider.kind());
    }
    Ok(())
}
