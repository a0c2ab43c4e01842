//! What every provider keeps, however its keys are held.

use std::path::Path;

use anyhow::{Result, ensure};
use pgveil_config::{Settings, settings::Provider};
use pgveil_providers::{
    KeyProvider, ProviderError, WrapContext, Wrapped, aws_kms::AwsKms,
    azure_key_vault::AzureKeyVault, gcp_kms::GcpKms, probe, vault_transit::VaultTransit, xks::Xks,
};

/// A provider as configuration text makes it.
pub(crate) async fn configured(section: &str) -> Result<Box<dyn KeyProvider>> {
    let text = format!(
        "[upstream]\naddress = \"127.0.0.1:5432\"\n[keystore]\nurl = \"postgres://pgveil@127.0.0.1/app\"\n\
         [defaults]\nprovider = \"p\"\nkey = \"k\"\n[provider.p]\n{section}"
    );
    let settings = Settings::parse(&text, Path::new("pgveil.toml"))?;
    Ok(match &settings.providers["p"] {
        Provider::AwsKms(at) => Box::new(AwsKms::new("p", at).await),
        Provider::VaultTransit(at) => Box::new(VaultTransit::new("p", at)?),
        Provider::Rest(at) => Box::new(Xks::new("p", at)?),
        Provider::GcpKms(at) => Box::new(GcpKms::new("p", at)?),
        Provider::AzureKeyVault(at) => Box::new(AzureKeyVault::new("p", at)?),
        Provider::Local { .. } => unreachable!("not asked for here"),
    })
}

pub(crate) fn context(scope: &str) -> WrapContext {
    WrapContext {
        scope: scope.to_owned(),
        key_id: 7,
        purpose: "data",
    }
}

pub(crate) const KEY: [u8; 64] = [0x5a; 64];

/// What all providers have in common. `kek` and `other` are two KEKs of theirs.
pub(crate) async fn contract(provider: &dyn KeyProvider, kek: &str, other: &str) -> Result<()> {
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
    let rewrapped = provider.rewrap(kek, &wrapped, other, &here).await?;
    ensure!(provider.unwrap(other, &rewrapped, &here).await?.as_slice() == KEY);
    ensure!(provider.unwrap(kek, &rewrapped, &here).await.is_err());
    if let Some(bytes) = provider.entropy(kek, &here).await? {
        ensure!(Some(bytes) != provider.entropy(kek, &here).await?);
    }
    let probed = probe(provider, "p", kek, "tenant:acme").await?;
    ensure!(probed.latency.is_some() && probed.info.is_made);
    let described = provider.describe(kek).await?;
    ensure!(!described.version.is_empty() && !described.algorithm.is_empty());
    let moved = provider.wrap(other, &KEY, &here).await?;
    ensure!(provider.unwrap(other, &moved, &here).await?.as_slice() == KEY);
    Ok(())
}

/// What those keep that make new versions when they are asked: what was wrapped before opens, and is wrapped anew by the new
/// version.
pub(crate) async fn rotates_when_asked(provider: &dyn KeyProvider, kek: &str) -> Result<()> {
    ensure!(provider.rotates().is_ok());
    let here = context("tenant:acme/env:prod");
    let old = provider.wrap(kek, &KEY, &here).await?;
    let before = provider.describe(kek).await?.version;
    ensure!(before == old.kek_version);
    provider.rotate(kek).await?;
    let after = provider.describe(kek).await?.version;
    ensure!(after != before, "{before} {after}");
    ensure!(provider.unwrap(kek, &old, &here).await?.as_slice() == KEY);
    let moved = provider.rewrap(kek, &old, kek, &here).await?;
    ensure!(moved.kek_version == after, "{moved:?}");
    ensure!(provider.unwrap(kek, &moved, &here).await?.as_slice() == KEY);
    let elsewhere = provider
        .unwrap(kek, &moved, &context("tenant:globex"))
        .await;
    ensure!(elsewhere.is_err());
    Ok(())
}

pub(crate) fn is_denied<T>(answer: &Result<T, ProviderError>) -> bool {
    matches!(answer, Err(ProviderError::Denied { .. }))
}

pub(crate) fn is_unavailable<T>(answer: &Result<T, ProviderError>) -> bool {
    matches!(answer, Err(ProviderError::Unavailable { .. }))
}

pub(crate) fn is_damaged<T>(answer: &Result<T, ProviderError>) -> bool {
    matches!(answer, Err(ProviderError::Damaged { .. }))
}
