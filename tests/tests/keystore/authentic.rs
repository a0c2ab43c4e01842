//! A superuser of the database writes the keystore's rows: nothing that they write is used.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use pgveil_config::{ScopePath, settings::OwnRotation};
use pgveil_keys::{
    KeyError, Keystore, Scopes,
    audit::{Fault, Operation},
    keystore::{Adopted, KeyTable, KeystoreError},
    scopes::Own,
    step_up::{Authority, Token},
};
use pgveil_providers::local::KekStore;

use super::{Site, row_mac};

fn scope(text: &str) -> ScopePath {
    ScopePath::parse(text).expect("a scope in a test")
}

impl Site {
    /// The keystore of a process that has just started.
    pub(super) async fn keystore(&self) -> Result<Arc<Keystore>> {
        let settings = self.settings()?;
        let keystore = Arc::new(Keystore::connect(&settings).await?);
        let keks: Arc<dyn KekStore> = keystore.clone();
        let providers = pgveil_providers::build(&settings, &keks).await?;
        let platform = Scopes::new(&settings).kek(&ScopePath::platform());
        keystore.log().use_providers(&providers, &platform);
        Ok(keystore)
    }
}

/// As an operator gets one.
async fn unseal_token(keystore: &Keystore, scope: &ScopePath) -> Result<Token> {
    const PASSPHRASE: &str = "correct horse battery";
    let log = keystore.log();
    log.enroll("ada", PASSPHRASE, None).await?;
    let operation = Operation::ScopeUnseal;
    Ok(log
        .step_up_token("ada", PASSPHRASE, operation, scope)
        .await?)
}

/// What a new process says of a key.
async fn opened(site: &Site, id: u64) -> Result<Result<(), KeyError>> {
    let keys = site.replica().await?;
    Ok(keys.opening_key(pgveil_keys::DekId(id)).await.map(|_| ()))
}

async fn is_refused(site: &Site, id: u64, by: &str) -> Result<()> {
    match opened(site, id).await? {
        Err(KeyError::Damaged { id: named, reason }) if named == id && reason.contains(by) => {
            Ok(())
        }
        other => bail!("{other:?} does not say {by:?}"),
    }
}

#[tokio::test]
async fn every_row_has_the_mac_of_the_documentation() -> Result<()> {
    let site = Site::new().await?;
    let keys = site.replica().await?;
    let a = scope("tenant:a%20b/env:prod");
    keys.sealing_key(&a).await?;
    keys.index_key(&a, 0).await?;
    keys.rotate(&a, Authority::Automatic).await?;
    row_mac::check_all(&site.database, &site.settings()?).await
}

#[tokio::test]
async fn no_column_of_a_key_can_be_changed() -> Result<()> {
    let site = Site::new().await?;
    let keys = site.replica().await?;
    let id = keys.sealing_key(&scope("tenant:a")).await?.id().0;
    keys.sealing_key(&scope("tenant:b")).await?;
    site.database
        .admin("CREATE TABLE public.was AS SELECT * FROM pgveil.keys")?;
    for set in [
        "scope = 'tenant:b', epoch = 2, state = 'decrypt_only'",
        "epoch = 2",
        "state = 'decrypt_only'",
        "state = 'destroyed', wrapped = NULL",
        "provider = 'other'",
        "kek_id = 'another'",
        "kek_version = '2'",
        "wrapped = wrapped || '\\x00'::bytea",
        "wrapped = (SELECT wrapped FROM public.was WHERE scope = 'tenant:b')",
        "created_at = now()",
        "retired_at = now()",
        "destroy_at = now()",
        "destroyed_at = now()",
        "audit_seq = audit_seq + 1",
        "mac = (SELECT mac FROM public.was WHERE scope = 'tenant:b')",
        "mac = substr(mac, 1, 31)",
        "mac = ''",
    ] {
        site.database
            .admin(&format!("UPDATE pgveil.keys SET {set} WHERE id = {id}"))?;
        is_refused(&site, id, "MAC does not fit")
            .await
            .map_err(|error| error.context(set))?;
        site.restore(id)?;
    }
    site.database.admin(&format!(
        "UPDATE pgveil.keys SET mac = NULL, audit_seq = NULL WHERE id = {id}"
    ))?;
    is_refused(&site, id, "no MAC").await?;
    // Nor does it come back by itself: a key that rows have had a MAC once is not given another.
    site.database
        .admin("UPDATE pgveil.keys SET mac = NULL, audit_seq = NULL")?;
    let keystore = site.keystore().await?;
    ensure!(keystore.adopt_rows().await? == Adopted::default());
    site.restore(id)?;
    ensure!(opened(&site, id).await? == Ok(()));
    // Whoever has the audit log's key may let time pass in a row.
    site.database.admin(&format!(
        "UPDATE pgveil.keys SET created_at = created_at - interval '1 day' WHERE id = {id}"
    ))?;
    row_mac::reseal(&site.database, &site.settings()?, &id.to_string()).await?;
    ensure!(opened(&site, id).await? == Ok(()));
    // Uses are counted in the row all the time, and are not under the MAC.
    site.database
        .admin("UPDATE pgveil.keys SET uses = uses + 5")?;
    ensure!(opened(&site, id).await? == Ok(()));
    Ok(())
}

impl Site {
    fn restore(&self, id: u64) -> Result<()> {
        self.database.admin(&format!(
            "DELETE FROM pgveil.keys WHERE id = {id}; INSERT INTO pgveil.keys SELECT * FROM public.was WHERE id = {id}"
        ))?;
        Ok(())
    }
}

#[tokio::test]
async fn what_is_refused_is_neither_rotated_rewrapped_nor_destroyed_and_is_told() -> Result<()> {
    let site = Site::new().await?;
    let keys = site.replica().await?;
    let a = scope("tenant:a");
    let id = keys.sealing_key(&a).await?.id().0;
    site.database
        .admin("UPDATE pgveil.keys SET kek_id = 'another'")?;
    let refused = |answer: Result<(), KeyError>| matches!(answer, Err(KeyError::Damaged { id: named, .. }) if named == id);
    let keys = site.replica().await?;
    ensure!(refused(keys.sealing_key(&a).await.map(drop)));
    ensure!(refused(
        keys.rotate(&a, Authority::Automatic).await.map(drop)
    ));
    let keystore = site.keystore().await?;
    let row = |answer: Result<(), KeystoreError>| matches!(answer, Err(KeystoreError::KeyRow { id: named, .. }) if named == id);
    ensure!(row(keystore.records(0).await.map(drop)));
    site.database
        .admin("UPDATE pgveil.keys SET state = 'decrypt_only', destroy_at = now(), retired_at = '2020-01-01'")?;
    ensure!(row(keystore
        .destroy(id, &serde_json::Value::Null)
        .await
        .map(drop)));
    ensure!(row(keystore
        .cancel_destruction(id, &serde_json::Value::Null)
        .await
        .map(drop)));
    // A hidden row does not make the scope begin anew: it may be an index key.
    ensure!(refused(keys.sealing_key(&a).await.map(drop)));
    let all = keystore.refused_rows().await?;
    ensure!(
        matches!(all[..], [KeystoreError::KeyRow { id: named, .. }] if named == id),
        "{all:?}"
    );
    keystore.log().flush().await;
    let told = site.database.admin(
        "SELECT DISTINCT convert_from(record, 'UTF8') LIKE '%MAC does not fit%' FROM \
         (SELECT translate(encode(record, 'escape'), E'\\\\', '')::bytea AS record FROM pgveil.audit WHERE operation = 'key.refuse') r",
    )?;
    ensure!(told == "t", "{told:?}");
    Ok(())
}

#[tokio::test]
async fn a_planted_key_is_refused() -> Result<()> {
    let site = Site::new().await?;
    let keys = site.replica().await?;
    let id = keys.sealing_key(&scope("tenant:a")).await?.id().0;
    // As somebody would who has a key of his own wrapped by a KEK that pgveil can use.
    site.database.admin(
        "INSERT INTO pgveil.scopes VALUES ('tenant:b'); INSERT INTO pgveil.keys (id, scope, purpose, epoch, state, provider, kek_id, \
         kek_version, wrapped, audit_seq, mac) SELECT 4711, 'tenant:b', purpose, epoch, state, provider, kek_id, kek_version, \
         wrapped, audit_seq, mac FROM pgveil.keys",
    )?;
    is_refused(&site, 4711, "MAC does not fit").await?;
    let keys = site.replica().await?;
    let sealed = keys.sealing_key(&scope("tenant:b")).await.map(drop);
    ensure!(
        matches!(sealed, Err(KeyError::Damaged { id: 4711, .. })),
        "{sealed:?}"
    );
    ensure!(opened(&site, id).await? == Ok(()));
    Ok(())
}

#[tokio::test]
async fn an_older_row_that_is_put_back_is_refused() -> Result<()> {
    let site = Site::new().await?;
    let keys = site.replica().await?;
    let a = scope("tenant:a");
    let id = keys.sealing_key(&a).await?.id().0;
    site.database
        .admin("CREATE TABLE public.was AS SELECT * FROM pgveil.keys")?;
    let next = keys.rotate(&a, Authority::Automatic).await?;
    ensure!(next.is_some_and(|next| next.id != id));
    site.database
        .admin("DELETE FROM pgveil.keys WHERE state = 'active'")?;
    site.restore(id)?;
    is_refused(&site, id, "somebody put it back").await?;
    let sealed = site.replica().await?.sealing_key(&a).await.map(drop);
    ensure!(
        matches!(sealed, Err(KeyError::Damaged { id: named, .. }) if named == id),
        "{sealed:?}"
    );
    // Who has seen the newer row does not even need the list of changes. Of who has not, each process that serves holds the list
    // against the log when it begins, and once an hour.
    let keystore = site.keystore().await?;
    site.database.admin("DELETE FROM pgveil.key_changes")?;
    ensure!(opened(&site, id).await? == Ok(()));
    ensure!(keystore.log().verify().await?.is_err());
    let listed = keystore.log().mend_lists().await?;
    ensure!(listed.put_back > 0 && listed.judged.is_ok(), "{listed:?}");
    is_refused(&site, id, "somebody put it back").await?;
    ensure!(keystore.log().verify().await?.is_ok());
    ensure!(keystore.log().mend_lists().await?.put_back == 0);
    Ok(())
}

/// The same of rows of other tables; and a log that was changed is told of, however much else is.
#[tokio::test]
async fn entries_of_all_lists_are_put_back_and_what_else_is_wrong_is_told() -> Result<()> {
    let site = Site::new().await?;
    let keystore = site.keystore().await?;
    let a = scope("tenant:a");
    let id = site.replica().await?.sealing_key(&a).await?.id().0;
    ensure!(keystore.seal(&a).await?);
    site.database.admin(
        "DELETE FROM pgveil.row_changes; DELETE FROM pgveil.scopes WHERE path <> 'tenant:a'; \
         UPDATE pgveil.scopes SET state = 'open', sealed_at = NULL, mac = NULL, audit_seq = NULL",
    )?;
    // As if it had never been sealed.
    ensure!(opened(&site, id).await? == Ok(()));
    site.database.admin(
        "ALTER TABLE pgveil.audit DISABLE TRIGGER append_only; UPDATE pgveil.audit SET actor = 'eve' WHERE seq = 1; \
         ALTER TABLE pgveil.audit ENABLE TRIGGER append_only",
    )?;
    let listed = keystore.log().mend_lists().await?;
    ensure!(listed.put_back == 1, "{listed:?}");
    let fault = Fault::Column {
        seq: 1,
        column: "actor",
    };
    ensure!(listed.judged == Err(fault), "{:?}", listed.judged);
    let refused = opened(&site, id).await?;
    ensure!(
        matches!(
            &refused,
            Err(KeyError::Keystore(KeystoreError::Damaged {
                table: "pgveil.scopes",
                ..
            }))
        ),
        "{refused:?}"
    );
    let told = site.database.admin(
        "SELECT count(*) FROM pgveil.audit WHERE operation = 'key.refuse' AND encode(record, 'escape') LIKE '%took entries out%'",
    )?;
    ensure!(told == "1", "{told}");
    Ok(())
}

#[tokio::test]
async fn an_index_key_that_is_hidden_or_gone_is_not_made_anew() -> Result<()> {
    let site = Site::new().await?;
    let a = scope("tenant:a");
    site.replica().await?.index_key(&a, 0).await?;
    site.database
        .admin("CREATE TABLE public.was AS SELECT * FROM pgveil.keys")?;
    for hide in [
        "UPDATE pgveil.keys SET state = 'decrypt_only'",
        "DELETE FROM pgveil.keys",
        "UPDATE pgveil.keys SET purpose = 'data'",
    ] {
        site.database.admin(hide)?;
        let made = site.replica().await?.index_key(&a, 0).await.map(drop);
        ensure!(
            matches!(made, Err(KeyError::Damaged { .. })),
            "{hide}: {made:?}"
        );
        site.database
            .admin("DELETE FROM pgveil.keys; INSERT INTO pgveil.keys SELECT * FROM public.was")?;
    }
    site.replica().await?.index_key(&a, 0).await?;
    Ok(())
}

#[tokio::test]
async fn what_was_set_for_a_scope_cannot_be_changed_put_back_or_taken_away() -> Result<()> {
    let site = Site::new().await?;
    let keystore = site.keystore().await?;
    let a = scope("tenant:a");
    let own = |kek: &str| Own {
        key: Some((Some("main".to_owned()), kek.to_owned())),
        failure: None,
        rotation: OwnRotation::default(),
    };
    keystore
        .set_override(&a, &own("first"), Authority::Automatic)
        .await?;
    site.database
        .admin("CREATE TABLE public.first AS SELECT * FROM pgveil.overrides")?;
    keystore
        .set_override(&a, &own("second"), Authority::Automatic)
        .await?;
    site.database
        .admin("CREATE TABLE public.second AS SELECT * FROM pgveil.overrides")?;
    let held = keystore.stored().await?;
    ensure!(held.get(&a) == Some(&own("second")), "{held:?}");
    let planted = "INSERT INTO pgveil.overrides (scope, provider, kek_id, set_by) VALUES ('tenant:z', 'main', 'mine', 'eve')";
    for (does, says) in [
        (
            "UPDATE pgveil.overrides SET kek_id = 'mine'",
            "does not fit",
        ),
        (
            "UPDATE pgveil.overrides SET provider = NULL",
            "does not fit",
        ),
        (
            "UPDATE pgveil.overrides SET failure = 'open'",
            "does not fit",
        ),
        ("UPDATE pgveil.overrides SET dek_epoch = 60", "does not fit"),
        (
            "UPDATE pgveil.overrides SET dek_max_usage = 65536",
            "does not fit",
        ),
        (
            "UPDATE pgveil.overrides SET destroy_retired_after = 60",
            "does not fit",
        ),
        (
            "UPDATE pgveil.overrides SET scope = 'platform'",
            "does not fit",
        ),
        (
            "UPDATE pgveil.overrides SET set_by = 'os:eve'",
            "does not fit",
        ),
        ("UPDATE pgveil.overrides SET mac = NULL", "no MAC"),
        (planted, "no MAC"),
        ("DELETE FROM pgveil.overrides", "is gone"),
        (
            "DELETE FROM pgveil.overrides; INSERT INTO pgveil.overrides SELECT * FROM public.first",
            "put it back",
        ),
    ] {
        site.database.admin(does)?;
        let refused = keystore.stored().await;
        ensure!(
            matches!(&refused, Err(KeystoreError::Damaged { reason, .. }) if reason.contains(says)),
            "{does}: {refused:?}"
        );
        site.database.admin(
            "DELETE FROM pgveil.overrides; INSERT INTO pgveil.overrides SELECT * FROM public.second",
        )?;
        keystore.stored().await?;
    }
    // Taken back, it does not come again.
    keystore
        .set_override(&a, &Own::default(), Authority::Automatic)
        .await?;
    site.database
        .admin("INSERT INTO pgveil.overrides SELECT * FROM public.second")?;
    ensure!(keystore.stored().await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_keystore_from_before_macs_gets_them_once() -> Result<()> {
    let site = Site::new().await?;
    let id = site
        .replica()
        .await?
        .sealing_key(&scope("tenant:a"))
        .await?
        .id()
        .0;
    // As it was: without a MAC, and with no audit log that knows better.
    site.database.admin(
        "ALTER TABLE pgveil.audit DISABLE TRIGGER append_only; DELETE FROM pgveil.audit; DELETE FROM pgveil.audit_head; \
         DELETE FROM pgveil.audit_keys; DELETE FROM pgveil.key_changes; \
         ALTER TABLE pgveil.audit ENABLE TRIGGER append_only; UPDATE pgveil.keys SET mac = NULL, audit_seq = NULL; \
         INSERT INTO pgveil.overrides (scope, failure, set_by) VALUES ('tenant:a', 'open', 'os:ada')",
    )?;
    is_refused(&site, id, "no MAC").await?;
    let keystore = site.keystore().await?;
    let adopted = Adopted {
        keys: 1,
        overrides: 1,
    };
    ensure!(keystore.adopt_rows().await? == adopted);
    ensure!(opened(&site, id).await? == Ok(()));
    ensure!(keystore.stored().await?.len() == 1);
    ensure!(keystore.log().verify().await?.is_ok());
    row_mac::check_all(&site.database, &site.settings()?).await?;
    site.database
        .admin("UPDATE pgveil.keys SET mac = NULL, audit_seq = NULL; DELETE FROM pgveil.overrides; DELETE FROM pgveil.key_changes")?;
    ensure!(keystore.adopt_rows().await? == Adopted::default());
    is_refused(&site, id, "no MAC").await
}

#[tokio::test]
async fn a_seal_cannot_be_taken_off_by_hand() -> Result<()> {
    let site = Site::new().await?;
    let keystore = site.keystore().await?;
    let (a, below) = (scope("tenant:a"), scope("tenant:a/project:x"));
    let keys = site.replica().await?;
    let id = keys.sealing_key(&below).await?.id().0;
    // A row of before, with a right MAC: sealed and unsealed once.
    ensure!(keystore.seal(&a).await?);
    let sealed =
        |answer: &Result<(), KeyError>| matches!(answer, Err(KeyError::ScopeSealed { .. }));
    ensure!(sealed(&opened(&site, id).await?));
    let token = unseal_token(&keystore, &a).await?;
    ensure!(keystore.unseal(&a, &token).await?);
    ensure!(opened(&site, id).await? == Ok(()));
    site.database
        .admin("CREATE TABLE public.open AS SELECT * FROM pgveil.scopes")?;
    ensure!(keystore.seal(&a).await? && !keystore.seal(&a).await?);
    ensure!(sealed(&opened(&site, id).await?));
    site.database
        .admin("CREATE TABLE public.sealed AS SELECT * FROM pgveil.scopes")?;
    let row = "path = 'tenant:a'";
    for (does, says) in [
        (
            format!("UPDATE pgveil.scopes SET state = 'open' WHERE {row}"),
            "does not fit",
        ),
        (
            format!(
                "UPDATE pgveil.scopes SET state = 'open', mac = NULL, audit_seq = NULL WHERE {row}"
            ),
            "lost its MAC",
        ),
        (
            format!("UPDATE pgveil.scopes SET sealed_at = NULL WHERE {row}"),
            "does not fit",
        ),
        (
            format!("UPDATE pgveil.scopes SET erased_at = now() WHERE {row}"),
            "does not fit",
        ),
        (
            format!("UPDATE pgveil.scopes SET path = 'tenant:b' WHERE {row}"),
            "is gone",
        ),
        (format!("DELETE FROM pgveil.scopes WHERE {row}"), "is gone"),
        (
            format!(
                "DELETE FROM pgveil.scopes WHERE {row}; INSERT INTO pgveil.scopes SELECT * FROM public.open WHERE {row}"
            ),
            "put it back",
        ),
    ] {
        site.database.admin(&does)?;
        let refused = opened(&site, id).await?;
        ensure!(
            matches!(&refused, Err(KeyError::Keystore(KeystoreError::Damaged { table: "pgveil.scopes", reason })) if reason.contains(says)),
            "{does}: {refused:?}"
        );
        // No key is made either, for it or below it.
        let made = site
            .replica()
            .await?
            .sealing_key(&scope("tenant:a/project:new"))
            .await
            .map(drop);
        ensure!(made.is_err(), "{does}: {made:?}");
        let named = keystore.refused_rows().await?;
        ensure!(
            named.iter().any(|error| error.to_string().contains(says)),
            "{does}: {named:?}"
        );
        site.database.admin(
            "DELETE FROM pgveil.scopes WHERE path IN ('tenant:a', 'tenant:b'); \
             INSERT INTO pgveil.scopes SELECT * FROM public.sealed WHERE path = 'tenant:a'",
        )?;
        ensure!(sealed(&opened(&site, id).await?), "{does}");
    }
    // Sealing is never kept from happening, and writes the row anew.
    site.database.admin(&format!(
        "UPDATE pgveil.scopes SET state = 'open' WHERE {row}"
    ))?;
    ensure!(keystore.seal(&a).await?);
    ensure!(sealed(&opened(&site, id).await?));
    ensure!(keystore.log().verify().await?.is_ok());
    Ok(())
}
