//! The provider `rest` against `pgveil kms serve`: signed, by certificate, and both; how it is denied, and how it fails.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use pgveil_tests::{
    postgres::{Certificate, TempPostgres},
    site::Site,
};
use serde_json::json;

use crate::papers::Papers;

use super::{
    KEY, configured, context, contract,
    fault::{Fault, Reply},
    is_denied, is_unavailable,
    served::{Callers, Served},
};

#[tokio::test]
async fn the_xks_api_keeps_the_contract_signed_and_by_certificate() -> Result<()> {
    for callers in [Callers::Signed, Callers::Certified, Callers::Both] {
        let served = Served::new(callers)?;
        let server = served.site.serve_keys()?;
        served.key("a")?;
        served.key("b")?;
        let provider = configured(&served.own_section(&server)?).await?;
        contract(provider.as_ref(), "a", "b")
            .await
            .with_context(|| format!("{callers:?}"))?;
        server.terminate()?;
        ensure!(
            !server.log().contains("ZWlaWlpaWlpa"),
            "a plaintext is in the log"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_rotated_disabled_or_destroyed_acts_at_once() -> Result<()> {
    let served = Served::new(Callers::Signed)?;
    let server = served.site.serve_keys()?;
    served.key("a")?;
    let provider = configured(&served.own_section(&server)?).await?;
    let here = context("tenant:acme");
    let old = provider.wrap("a", &KEY, &here).await?;
    ensure!(provider.describe("a").await?.version == "1" && old.kek_version == "1");
    served.kms(&["rotate", "a"])?;
    ensure!(provider.describe("a").await?.version == "2");
    let new = provider.wrap("a", &KEY, &here).await?;
    ensure!(new.kek_version == "2");

    served.kms(&["disable", "a", "--version", "1"])?;
    let answer = provider.unwrap("a", &old, &here).await;
    ensure!(is_denied(&answer), "{answer:?}");
    ensure!(provider.unwrap("a", &new, &here).await?.as_slice() == KEY);
    served.kms(&["disable", "a"])?;
    for answer in [
        provider.wrap("a", &KEY, &here).await.map(drop),
        provider.unwrap("a", &new, &here).await.map(drop),
        provider.describe("a").await.map(drop),
    ] {
        ensure!(is_denied(&answer), "{answer:?}");
    }
    served.kms(&["enable", "a"])?;
    ensure!(provider.unwrap("a", &new, &here).await?.as_slice() == KEY);
    served.kms(&["destroy-version", "a", "2", "--confirm", "a"])?;
    let answer = provider.unwrap("a", &new, &here).await;
    ensure!(is_denied(&answer), "{answer:?}");
    served.kms(&["enable", "a", "--version", "1"])?;
    ensure!(provider.unwrap("a", &old, &here).await?.as_slice() == KEY);

    served.kms(&["revoke", "a", &served.grantee()])?;
    let answer = provider.unwrap("a", &old, &here).await;
    ensure!(is_denied(&answer), "{answer:?}");
    let answer = provider.wrap("nobody", &KEY, &here).await;
    ensure!(is_denied(&answer), "{answer:?}");
    for id in ["", ".", "..", "a/../b", "a?x", "\u{e9}"] {
        ensure!(is_denied(&provider.wrap(id, &KEY, &here).await), "{id:?}");
    }

    server.terminate()?;
    let answer = provider.unwrap("a", &old, &here).await;
    ensure!(is_unavailable(&answer), "{answer:?}");
    let log = server.log();
    ensure!(
        log.contains("tenant:acme") || log.contains("Decrypt"),
        "{log}"
    );
    Ok(())
}

#[tokio::test]
async fn who_is_not_known_is_denied_and_access_keys_can_be_changed_without_a_restart() -> Result<()>
{
    let served = Served::new(Callers::Signed)?;
    let server = served.site.serve_keys()?;
    served.kms(&[
        "create",
        "a",
        "--grant",
        "key-id:*=encrypt,decrypt,describe",
    ])?;
    let here = context("platform");
    let (id, key) = &served.access_key;
    let wrong_key = "x".repeat(43);
    for stranger in [
        (id.as_str(), wrong_key.as_str()),
        ("NOBODYNOBODYNOBODY22", key),
    ] {
        let provider = configured(&served.section(&server, stranger)?).await?;
        let answer = provider.wrap("a", &KEY, &here).await;
        ensure!(is_denied(&answer), "{answer:?}");
    }
    let old = configured(&served.section(&server, (id, key))?).await?;
    old.wrap("a", &KEY, &here).await?;
    let (new_id, new_key) = served.new_access_key()?;
    let section = served.section(&server, (&new_id, &new_key))?;
    let new = configured(&section).await?;
    new.wrap("a", &KEY, &here).await?;
    // The old one is taken away.
    let file = served.site.etc().join("kms.credentials");
    std::fs::write(&file, format!("{new_id} {new_key}\n"))?;
    new.wrap("a", &KEY, &here).await?;
    std::fs::write(served.site.etc().join("rest.secret"), key)?;
    let answer = old.wrap("a", &KEY, &here).await;
    ensure!(is_denied(&answer), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn without_the_right_certificate_and_name_everything_is_denied() -> Result<()> {
    let served = Served::new(Callers::Certified)?;
    let server = served.site.serve_keys()?;
    served.kms(&["create", "a", "--grant", "cert:*=encrypt,decrypt,describe"])?;
    let stranger = served.papers.client("somebody else")?;
    let own = served.own_section(&server)?;
    let known = configured(&own).await?;
    known.wrap("a", &KEY, &context("platform")).await?;
    let section: Vec<String> = { own.lines() }
        .filter(|line| !line.starts_with("cert_file") && !line.starts_with("key_file"))
        .map(str::to_owned)
        .collect();
    let with = |certificate: &Certificate| {
        format!(
            "{}\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
            section.join("\n"),
            certificate.cert_file.display(),
            certificate.key_file.display()
        )
    };
    // A name that is not let in, though its grant would be good for anybody.
    let provider = configured(&with(&stranger)).await?;
    let answer = provider.wrap("a", &KEY, &context("platform")).await;
    ensure!(is_denied(&answer), "{answer:?}");
    let told = format!("{answer:?}");
    ensure!(told.contains("somebody else"), "{told}");
    // The right name from another authority: TLS says no, which is an answer.
    let others = Papers::new()?;
    let provider = configured(&with(&others.client(Served::CLIENT)?)).await?;
    let answer = provider.wrap("a", &KEY, &context("platform")).await;
    ensure!(is_denied(&answer), "{answer:?}");
    // And the server tells of both.
    server.terminate()?;
    let log = server.log();
    for said in [
        "somebody else, is not one that is let in",
        "a client was turned away",
    ] {
        ensure!(log.contains(said), "{log}");
    }
    Ok(())
}

/// pgveil behind pgveil: data keys wrapped by a key manager that is another pgveil.
#[tokio::test]
async fn tables_are_protected_by_keys_that_another_pgveil_serves() -> Result<()> {
    let served = Served::new(Callers::Both)?;
    let server = served.site.serve_keys()?;
    served.key("app-db")?;
    let postgres = TempPostgres::shared()?;
    let database = postgres.database()?;
    database.run("CREATE TABLE notes (id int PRIMARY KEY, body text)")?;
    let policy = r#"public.notes  scope = "platform"  body: text, search = ["equality"]"#;
    let mut site = Site::new(&database, policy)?;
    site.append(&format!(
        "[provider.outside]\n{}",
        served.own_section(&server)?
    ))?;
    site.set("defaults", "provider", "\"outside\"")?;
    site.set("defaults", "key", "\"app-db\"")?;
    site.set("cache", "ttl", "\"1s\"")?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql("app", "INSERT INTO notes VALUES (1, 'secret')")?;
    ensure!(proxy.psql("app", "SELECT body FROM notes WHERE body = 'secret'")? == "secret");
    let wrapped = database.admin("SELECT DISTINCT provider || ' ' || kek_id FROM pgveil.keys")?;
    ensure!(wrapped == "outside app-db", "{wrapped}");
    Ok(())
}

/// Each try is signed for itself; a "no" is an answer.
#[tokio::test]
async fn what_passes_is_tried_again_and_a_no_is_not() -> Result<()> {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let server = Fault::tls(move |request| {
        let signed = request.header("authorization").is_some();
        let error = |status: u16, name: &str| Reply::json(status, &json!({ "errorName": name }));
        if request.path.contains("/keys/denied/") || !signed {
            counted.fetch_add(1, Ordering::SeqCst);
            return error(403, "AccessDeniedException");
        }
        match counted.fetch_add(1, Ordering::SeqCst) {
            0 => error(429, "ThrottlingException"),
            1 => Reply::Close,
            _ => Reply::json(
                200,
                &json!({
                    "keySpec": "AES_256",
                    "keyUsage": ["ENCRYPT", "DECRYPT"],
                    "keyStatus": "ENABLED",
                }),
            ),
        }
    })
    .await?;
    let folder = tempfile::tempdir()?;
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "s".repeat(43))?;
    std::fs::set_permissions(&secret, Permissions::from_mode(0o600))?;
    let provider = configured(&format!(
        "kind = \"rest\"\nurl = \"{}/kms/xks/v1\"\nca_file = \"{}\"\n\
         access_key_id = \"ACCESSKEYACCESSKEY22\"\nsecret_access_key_file = \"{}\"\n",
        server.address,
        server.ca_file.display(),
        secret.display()
    ))
    .await?;
    provider.describe("a").await?;
    ensure!(tries.load(Ordering::SeqCst) == 3);
    let answer = provider.describe("denied").await;
    ensure!(is_denied(&answer), "{answer:?}");
    ensure!(
        tries.load(Ordering::SeqCst) == 4,
        "a no was asked for again"
    );
    Ok(())
}
