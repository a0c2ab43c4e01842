//! Connections of pgveil's own: libpq's TLS modes, and coming back after a loss.

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use pgveil_config::{ScopePath, TlsMode};
use pgveil_keys::{
    Keystore, Purpose,
    clock::ManualClock,
    database,
    keystore::{KeyTable, KeystoreError},
    schema,
};
use pgveil_providers::local::LocalProvider;
use pgveil_tests::postgres::{Certificate, Options, PASSWORD, TempPostgres};

use super::{Site, settings};

const TERMINATE: &str = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
    WHERE datname = current_database() AND usename = 'pgveil'";

#[tokio::test]
async fn a_lost_connection_is_made_again_within_the_operation() -> Result<()> {
    let site = Site::new().await?;
    let keystore = Keystore::connect(&site.settings()?).await?;
    let first = keystore.next_id().await?;
    for _ in 0..3 {
        ensure!(site.database.admin(TERMINATE)?.contains('t'));
        ensure!(keystore.next_id().await? > first);
    }
    Ok(())
}

#[tokio::test]
async fn keys_in_memory_outlive_the_keystore_and_new_ones_wait_for_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    LocalProvider::create_root_key(&folder.path().join("root.key"))?;
    let server = TempPostgres::start(&Options::default())?;
    let database = server.database()?;
    let mut client = super::connect(&database).await?;
    schema::install(&mut client).await?;
    let clock = Arc::new(ManualClock::new());
    let settings = settings(&database.url("pgveil"), folder.path())?;
    let keystore = Arc::new(Keystore::connect_with_clock(&settings, clock.clone()).await?);
    let keks: Arc<dyn pgveil_providers::local::KekStore> = keystore.clone();
    let providers = pgveil_providers::build(&settings, &keks).await?;
    let keys = pgveil_keys::Keys::new(keystore.clone(), providers, &settings, clock.clone());
    keys.sealing_key(&ScopePath::platform()).await?;
    drop(server);
    ensure!(keys.cached_sealing_key(&ScopePath::platform()).is_some());
    let error = keys
        .index_key(&ScopePath::platform(), 0)
        .await
        .expect_err("no keystore");
    ensure!(error.is_transient(), "{error}");
    clock.advance(Duration::from_mins(1));
    let error = keystore
        .active("platform", Purpose::Data)
        .await
        .expect_err("no keystore");
    ensure!(
        matches!(error, KeystoreError::Unavailable { .. }),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn what_waiting_does_not_mend_is_told_apart_and_shows_no_password() -> Result<()> {
    let site = Site::new().await?;
    let good = site.database.url("pgveil");
    for url in [
        good.replace(site.database.name(), "nowhere"),
        good.replace("pgveil:", "nobody:"),
    ] {
        let error = Keystore::connect(&settings(&url, site.folder.path())?)
            .await
            .expect_err("cannot work");
        ensure!(
            matches!(error, KeystoreError::Misconfigured { .. }),
            "{error}"
        );
        ensure!(!format!("{error} {error:?}").contains(PASSWORD));
    }
    Ok(())
}

#[tokio::test]
async fn a_closed_connection_leaves_no_backend() -> Result<()> {
    let site = Site::new().await?;
    super::connect(&site.database).await?.close().await;
    let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'pgveil'";
    // The backend needs a moment to go after it has said good-bye.
    for _ in 0..500 {
        if site.database.admin(count)? == "0" {
            return Ok(());
        }
    }
    anyhow::bail!("the backend is still there")
}

/// A server with a certificate for 127.0.0.1 of its own authority.
struct TlsServer {
    server: TempPostgres,
    folder: tempfile::TempDir,
}

impl TlsServer {
    fn start(name: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = |name: &str| folder.path().join(name);
        let ca_key = rcgen::KeyPair::generate()?;
        let mut ca = rcgen::CertificateParams::new(Vec::new())?;
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        fs::write(file("ca.crt"), ca.self_signed(&ca_key)?.pem())?;
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = rcgen::KeyPair::generate()?;
        let leaf =
            rcgen::CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &issuer)?;
        fs::write(file("server.crt"), leaf.pem())?;
        fs::write(file("server.key"), key.serialize_pem())?;
        let mut other = rcgen::CertificateParams::new(Vec::new())?;
        other.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        fs::write(
            file("other.crt"),
            other.self_signed(&rcgen::KeyPair::generate()?)?.pem(),
        )?;
        let certificate = Certificate {
            cert_file: file("server.crt"),
            key_file: file("server.key"),
        };
        Ok(Self {
            server: TempPostgres::start(&Options::default().tls(certificate))?,
            folder,
        })
    }

    /// Whether the connection is encrypted, or that there is none.
    async fn encrypted(
        &self,
        mode: TlsMode,
        ca: Option<&str>,
    ) -> Result<bool, database::ConnectError> {
        let url = format!(
            "postgres://postgres:{PASSWORD}@127.0.0.1:{}/postgres",
            self.server.port()
        );
        let ca = ca.map(|name| self.folder.path().join(name));
        let client = database::connect(&url, mode, ca.as_deref()).await?;
        let row = client
            .query_one(
                "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
                &[],
            )
            .await?;
        Ok(row.get(0))
    }
}

#[tokio::test]
async fn each_tls_mode_does_what_libpq_does() -> Result<()> {
    let server = TlsServer::start("127.0.0.1")?;
    ensure!(!server.encrypted(TlsMode::Disable, None).await?);
    ensure!(server.encrypted(TlsMode::Prefer, None).await?);
    ensure!(server.encrypted(TlsMode::Require, None).await?);
    ensure!(server.encrypted(TlsMode::VerifyCa, Some("ca.crt")).await?);
    ensure!(
        server
            .encrypted(TlsMode::VerifyFull, Some("ca.crt"))
            .await?
    );
    for mode in [TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull] {
        ensure!(
            server.encrypted(mode, Some("other.crt")).await.is_err(),
            "{mode:?} with another authority"
        );
    }
    Ok(())
}

#[tokio::test]
async fn only_verify_full_looks_at_the_name() -> Result<()> {
    let server = TlsServer::start("db.example")?;
    ensure!(server.encrypted(TlsMode::VerifyCa, Some("ca.crt")).await?);
    let error = server
        .encrypted(TlsMode::VerifyFull, Some("ca.crt"))
        .await
        .expect_err("another name");
    ensure!(error.to_string().contains("not valid for name"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_server_without_tls_is_taken_by_prefer_and_refused_by_require() -> Result<()> {
    let site = Site::new().await?;
    let url = site.database.url("pgveil");
    database::connect(&url, TlsMode::Prefer, None).await?;
    let error = database::connect(&url, TlsMode::Require, None)
        .await
        .expect_err("no TLS there");
    ensure!(
        error.to_string().contains("does not support TLS"),
        "{error}"
    );
    Ok(())
}
