//! A superuser of the database writes rows of KEKs, or puts older ones back: which version keys follow, and the keys of the
//! local KMS. Nothing is followed, wrapped or opened by such a row.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use pgveil_config::ScopePath;
use pgveil_keys::{
    Keystore,
    keystore::{Claim, KekRow, KeystoreError},
    scopes::KekRef,
    step_up::Authority,
};
use pgveil_providers::{
    KeyProvider, WrapContext,
    local::{Caller, KekStore, LocalKms, LocalProvider},
};

use super::{Site, row_mac};

fn platform_kek() -> KekRef {
    KekRef {
        provider: "main".to_owned(),
        kek: "platform".to_owned(),
    }
}

/// What one KEK's row says, or why it is refused.
async fn row_of(keystore: &Keystore) -> Result<Result<KekRow, KeystoreError>> {
    let mut all = keystore.keks().await?;
    ensure!(all.len() == 1, "{all:?}");
    Ok(all.remove(0).1)
}

fn is_refused<T: std::fmt::Debug>(answer: &Result<T, KeystoreError>, by: &str) -> bool {
    matches!(answer, Err(KeystoreError::Damaged { table: "pgveil.keks", reason }) if reason.contains(by))
}

/// Nothing is done by the row.
async fn refuses_all(keystore: &Keystore, by: &str) -> Result<()> {
    let kek = platform_kek();
    let seen = keystore.see_kek(&kek, "2", "2").await;
    ensure!(is_refused(&seen, by), "{seen:?}");
    let claimed = keystore.claim_kek(&kek, "2", 1).await;
    // A row that says that there is nothing to do is not even looked at.
    ensure!(
        matches!(claimed, Ok(None)) || is_refused(&claimed, by),
        "{claimed:?}"
    );
    let asked = keystore.ask_if_due(&kek, Duration::ZERO).await;
    ensure!(is_refused(&asked, by), "{asked:?}");
    let refused = keystore.refused_rows().await?;
    ensure!(
        refused.iter().any(|error| error.to_string().contains(by)),
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_row_of_a_kek_cannot_be_changed_put_back_or_taken_away() -> Result<()> {
    let site = Site::new().await?;
    let (kek, keystore) = (platform_kek(), site.keystore().await?);
    ensure!(!keystore.see_kek(&kek, "1", "1").await?);
    site.database
        .admin("CREATE TABLE public.first AS SELECT * FROM pgveil.keks")?;
    ensure!(keystore.see_kek(&kek, "2", "2").await?);
    let claim = keystore.claim_kek(&kek, "2", 7).await?.context("a claim")?;
    ensure!(claim.horizon == 7, "{claim:?}");
    row_mac::check_all(&site.database, &site.settings()?).await?;
    site.database
        .admin("CREATE TABLE public.second AS SELECT * FROM pgveil.keks")?;
    for (does, says) in [
        ("SET version = '2'", "does not fit"),
        ("SET version = '2', next_version = NULL", "does not fit"),
        ("SET next_version = '3'", "does not fit"),
        ("SET began_seq = 0", "does not fit"),
        ("SET began_key = 0", "does not fit"),
        ("SET began_seq = NULL", "does not fit"),
        ("SET first_seen = now() + interval '1 year'", "does not fit"),
        ("SET rotated_at = now()", "does not fit"),
        ("SET asked_at = now() + interval '1 year'", "does not fit"),
        ("SET provider = 'other', kek_id = 'platform'", "gone"),
        ("SET audit_seq = audit_seq + 1", "does not fit"),
        ("SET mac = NULL", "no MAC"),
        ("SET mac = NULL, audit_seq = NULL", "no MAC"),
    ] {
        let does = format!("UPDATE pgveil.keks {does}");
        site.database.admin(&does)?;
        let by = if says == "gone" { "it is gone" } else { says };
        if says == "gone" {
            let seen = keystore.see_kek(&kek, "2", "2").await;
            ensure!(is_refused(&seen, by), "{does}: {seen:?}");
        } else {
            let said = row_of(&keystore).await?;
            ensure!(is_refused(&said, by), "{does}: {said:?}");
            refuses_all(&keystore, by).await.context(does)?;
        }
        put_back(&site, "second")?;
        row_of(&keystore).await??;
    }
    // Whoever has the audit log's key may let time pass in a row.
    let day = Duration::from_hours(24);
    ensure!(!keystore.ask_if_due(&kek, day).await?);
    site.database
        .admin("UPDATE pgveil.keks SET first_seen = now() - interval '25 hours'")?;
    row_mac::reseal_keks(&site.database, &site.settings()?).await?;
    ensure!(keystore.ask_if_due(&kek, day).await? && !keystore.ask_if_due(&kek, day).await?);
    put_back(&site, "first")?;
    refuses_all(&keystore, "somebody put it back").await?;
    site.database.admin("DELETE FROM pgveil.keks")?;
    let seen = keystore.see_kek(&kek, "2", "2").await;
    ensure!(is_refused(&seen, "it is gone"), "{seen:?}");
    let refused = keystore.refused_rows().await?;
    ensure!(
        refused
            .iter()
            .any(|error| is_refused(&Err::<(), _>(error.clone()), "4:main platform")),
        "{refused:?}"
    );
    keystore.log().flush().await;
    let told = site
        .database
        .admin("SELECT count(*) > 0 FROM pgveil.audit WHERE operation = 'key.refuse'")?;
    ensure!(told == "t");
    ensure!(keystore.log().verify().await?.is_ok());
    Ok(())
}

fn put_back(site: &Site, table: &str) -> Result<()> {
    site.database.admin(&format!(
        "DELETE FROM pgveil.keks; INSERT INTO pgveil.keks SELECT * FROM public.{table}"
    ))?;
    Ok(())
}

#[tokio::test]
async fn a_rotation_that_is_asked_for_writes_a_refused_row_anew_and_moves_all_keys() -> Result<()> {
    let site = Site::new().await?;
    let (kek, keystore) = (platform_kek(), site.keystore().await?);
    let platform = ScopePath::platform();
    ensure!(!keystore.see_kek(&kek, "2", "2").await?);
    for lost in [
        "UPDATE pgveil.keks SET version = '1'",
        "DELETE FROM pgveil.keks",
    ] {
        site.database.admin(lost)?;
        let right = Authority::Automatic;
        keystore
            .ask_for_rotation(&kek, "2", &platform, right)
            .await?;
        let row = row_of(&keystore).await??;
        ensure!(
            row.version.is_empty() && row.next_version.is_none(),
            "{row:?}"
        );
        ensure!(keystore.see_kek(&kek, "2", "2").await?);
        let claim = keystore.claim_kek(&kek, "2", 9).await?;
        ensure!(claim.is_some_and(|Claim { horizon, .. }| horizon == 9));
        keystore
            .kek_followed(&kek, "2", Default::default(), None)
            .await?;
        let row = row_of(&keystore).await??;
        ensure!(row.version == "2" && row.next_version.is_none(), "{row:?}");
    }
    row_mac::check_all(&site.database, &site.settings()?).await?;
    ensure!(keystore.log().verify().await?.is_ok());
    Ok(())
}

/// Nobody is kept from following a version by a right that never ends.
#[tokio::test]
async fn a_right_that_was_given_by_hand_holds_nobody_up() -> Result<()> {
    let site = Site::new().await?;
    let (kek, keystore) = (platform_kek(), site.keystore().await?);
    keystore.see_kek(&kek, "1", "1").await?;
    site.database.admin(
        "UPDATE pgveil.keks SET lease_until = now() + interval '1 hour', leased_by = 'nobody'",
    )?;
    ensure!(keystore.claim_kek(&kek, "2", 1).await?.is_some());
    site.database.admin(
        "UPDATE pgveil.keks SET lease_until = now() + interval '1 minute', leased_by = 'another'",
    )?;
    ensure!(keystore.claim_kek(&kek, "2", 1).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_row_from_before_there_were_macs_gets_one_and_what_it_left_unfinished_is_begun_anew()
-> Result<()> {
    let site = Site::new().await?;
    let (kek, keystore) = (platform_kek(), site.keystore().await?);
    site.database.admin(
        "INSERT INTO pgveil.keks (provider, kek_id, version, next_version, began_seq, began_key) \
         VALUES ('main', 'platform', '1', '2', 99, 99)",
    )?;
    ensure!(keystore.keks().await?.is_empty());
    ensure!(keystore.refused_rows().await?.is_empty());
    ensure!(keystore.see_kek(&kek, "2", "2").await?);
    let row = row_of(&keystore).await??;
    ensure!(row.version == "1" && row.next_version.is_none(), "{row:?}");
    let claim = keystore.claim_kek(&kek, "2", 3).await?.context("a claim")?;
    ensure!(claim.record < 99 && claim.horizon == 3, "{claim:?}");
    Ok(())
}

/// A destroyed version's record and material, put back out of a backup.
#[tokio::test]
async fn an_older_record_of_a_local_key_opens_nothing_for_a_process_that_starts() -> Result<()> {
    let site = Site::new().await?;
    let opens = async || -> Result<LocalProvider> {
        let store: Arc<dyn KekStore> = site.keystore().await?;
        let file = site.folder.path().join("root.key");
        Ok(LocalProvider::open("main", &file, store).await?)
    };
    let context = WrapContext {
        scope: "tenant:a".to_owned(),
        key_id: 1,
        purpose: "data",
    };
    let provider = opens().await?;
    let wrapped = provider.wrap("a", &[7; 32], &context).await?;
    let ada = Caller::user("ada");
    site.database.admin(
        "CREATE TABLE public.keys_then AS SELECT * FROM pgveil.local_keys WHERE kek_id = 'a'; \
         CREATE TABLE public.material_then AS SELECT * FROM pgveil.local_keks WHERE kek_id = 'a'",
    )?;
    let store: Arc<dyn KekStore> = site.keystore().await?;
    let kms = LocalKms::open("main", &site.folder.path().join("root.key"), store).await?;
    kms.rotate("a", &ada).await?;
    kms.destroy_version("a", 1, &ada).await?;
    ensure!(
        opens()
            .await?
            .unwrap("a", &wrapped, &context)
            .await
            .is_err()
    );
    site.database.admin(
        "DELETE FROM pgveil.local_keys WHERE kek_id = 'a'; INSERT INTO pgveil.local_keys SELECT * FROM public.keys_then; \
         DELETE FROM pgveil.local_keks WHERE kek_id = 'a'; INSERT INTO pgveil.local_keks SELECT * FROM public.material_then",
    )?;
    let opened = opens().await?.unwrap("a", &wrapped, &context).await;
    let refused = opened.err().context("an older record opens")?.to_string();
    ensure!(refused.contains("later ones were there"), "{refused}");
    let again = opens().await?.wrap("a", &[7; 32], &context).await;
    ensure!(again.is_err());
    ensure!(site.keystore().await?.log().verify().await?.is_ok());
    Ok(())
}
