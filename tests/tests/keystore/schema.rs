//! Installing schema `pgveil`, and refusing one that is not ours.

use anyhow::{Result, ensure};
use pgveil_config::TlsMode;
use pgveil_keys::{
    Keystore, database,
    keystore::KeystoreError,
    schema::{self, Installed, SchemaError},
};
use pgveil_tests::postgres::TempPostgres;

use super::{Site, connect, installed, settings};

#[tokio::test]
async fn is_installed_once_without_superuser() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let mut client = connect(&database).await?;
    ensure!(schema::check(&*client).await == Err(SchemaError::NotInstalled));
    ensure!(schema::install(&mut client).await? == Installed::Now);
    ensure!(schema::install(&mut client).await? == Installed::Before);
    schema::check(&*client).await?;
    ensure!(database.admin("SELECT rolsuper FROM pg_roles WHERE rolname = 'pgveil'")? == "f");
    Ok(())
}

#[tokio::test]
async fn two_installations_at_once_make_one() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let (mut one, mut two) = (connect(&database).await?, connect(&database).await?);
    let (a, b) = tokio::join!(schema::install(&mut one), schema::install(&mut two));
    ensure!(
        [a?, b?]
            .iter()
            .filter(|done| **done == Installed::Now)
            .count()
            == 1
    );
    Ok(())
}

#[tokio::test]
async fn a_schema_made_by_the_administrator_is_used() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let mut client = database::connect(&database.url("support"), TlsMode::Disable, None).await?;
    let refused = schema::install(&mut client).await;
    ensure!(
        matches!(refused, Err(SchemaError::Forbidden { .. })),
        "{refused:?}"
    );
    database.admin("CREATE SCHEMA pgveil AUTHORIZATION support")?;
    ensure!(schema::install(&mut client).await? == Installed::Now);
    Ok(())
}

#[tokio::test]
async fn a_failed_installation_leaves_nothing() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.admin("CREATE SCHEMA pgveil; GRANT ALL ON SCHEMA pgveil TO pgveil")?;
    let mut client = connect(&database).await?;
    let refused = schema::install(&mut client).await;
    ensure!(
        matches!(refused, Err(SchemaError::Forbidden { .. })),
        "{refused:?}"
    );
    ensure!(schema::installed_version(&*client).await? == None);
    Ok(())
}

#[tokio::test]
async fn other_versions_and_other_peoples_schemas_are_refused_at_start() -> Result<()> {
    let site = Site::new().await?;
    let set = |version: &str| {
        site.database
            .admin(&format!("UPDATE pgveil.meta SET value = '{version}'"))
    };
    let start = async || {
        Keystore::connect(&site.settings()?)
            .await
            .map(drop)
            .map_err(anyhow::Error::from)
    };
    let refusal = async || {
        start()
            .await
            .map_err(|error| error.downcast::<KeystoreError>().ok())
    };
    refusal().await.expect("the right version");
    let newer = schema::VERSION + 1;
    set(&newer.to_string())?;
    ensure!(refusal().await == Err(Some(SchemaError::Newer { found: newer }.into())));
    set("0")?;
    ensure!(refusal().await == Err(Some(SchemaError::Older { found: 0 }.into())));
    set("one")?;
    ensure!(refusal().await == Err(Some(SchemaError::Foreign.into())));
    site.database.admin(
        "DROP SCHEMA pgveil CASCADE; CREATE SCHEMA pgveil; CREATE TABLE pgveil.cars (id int)",
    )?;
    ensure!(refusal().await == Err(Some(SchemaError::Foreign.into())));
    let mut client = connect(&site.database).await?;
    ensure!(schema::install(&mut client).await == Err(SchemaError::Foreign));
    Ok(())
}

#[tokio::test]
async fn an_earlier_versions_schema_is_brought_up_with_what_it_holds() -> Result<()> {
    let site = Site::new().await?;
    let columns = "INSERT INTO pgveil.columns (schema_name, table_name, column_name, table_oid, attnum, logical_type, \
         equality, shared_key) VALUES ('public', 'kept', 'email', 1, 1, 'text', true, false)";
    site.database.admin(columns)?;
    site.database.admin(
        "DROP TABLE pgveil.overrides; UPDATE pgveil.meta SET value = '1' WHERE name = 'schema_version'",
    )?;
    let refused = Keystore::connect(&site.settings()?).await.map(drop);
    ensure!(
        refused == Err(SchemaError::Older { found: 1 }.into()),
        "{refused:?}"
    );
    let mut client = connect(&site.database).await?;
    ensure!(schema::install(&mut client).await? == Installed::Upgraded { from: 1 });
    ensure!(schema::install(&mut client).await? == Installed::Before);
    Keystore::connect(&site.settings()?).await?;
    ensure!(
        site.database
            .admin("SELECT table_name FROM pgveil.columns")?
            == "kept"
    );
    ensure!(
        site.database
            .admin("SELECT count(*) FROM pgveil.overrides")?
            == "0"
    );
    Ok(())
}

#[tokio::test]
async fn a_keystore_without_schema_says_what_to_run() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let folder = tempfile::tempdir()?;
    let error = Keystore::connect(&settings(&database.url("pgveil"), folder.path())?)
        .await
        .expect_err("no schema");
    ensure!(error.cure() == "run `pgveil apply`", "{error}");
    Ok(())
}

#[tokio::test]
async fn a_role_without_rights_on_the_keystore_is_refused_at_start() -> Result<()> {
    let database = installed().await?;
    let folder = tempfile::tempdir()?;
    let error = Keystore::connect(&settings(&database.url("stranger"), folder.path())?)
        .await
        .expect_err("no rights");
    ensure!(
        matches!(error, KeystoreError::Schema(SchemaError::Forbidden { .. })),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn every_object_says_what_it_is() -> Result<()> {
    let database = installed().await?;
    let uncommented = database.admin(
        "SELECT string_agg(x.name, ', ') FROM (
            SELECT relname AS name, oid, 'pg_class'::regclass AS class FROM pg_class
                WHERE relnamespace = 'pgveil'::regnamespace AND relkind IN ('r', 'S')
                    AND relname <> 'columns_id_seq'
            UNION ALL SELECT proname, oid, 'pg_proc'::regclass FROM pg_proc WHERE pronamespace = 'pgveil'::regnamespace
            UNION ALL SELECT typname, oid, 'pg_type'::regclass FROM pg_type
                WHERE typnamespace = 'pgveil'::regnamespace AND typtype = 'd'
        ) x WHERE obj_description(x.oid, x.class::text) IS NULL",
    )?;
    ensure!(uncommented.is_empty(), "without a comment: {uncommented}");
    Ok(())
}

#[tokio::test]
async fn public_may_use_domains_and_functions_and_nothing_of_the_keystore() -> Result<()> {
    let database = installed().await?;
    let allowed = database.psql(
        "stranger",
        "SELECT pgveil.eq_term(NULL), pgveil.any_value(NULL), NULL::pgveil.sealed_text",
    )?;
    ensure!(!allowed.contains("ERROR"), "{allowed}");
    for object in [
        "meta",
        "columns",
        "scopes",
        "keys",
        "local_keks",
        "local_keys",
        "key_ids",
        "overrides",
        "audit",
        "audit_head",
        "audit_keys",
        "audit_checkpoints",
        "audit_key_ids",
        "operators",
        "step_up_tokens",
    ] {
        let refused = database.psql("stranger", &format!("TABLE pgveil.{object}"))?;
        ensure!(refused.contains("permission denied"), "{object}: {refused}");
    }
    let refused = database.psql(
        "stranger",
        "CREATE FUNCTION pgveil.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    )?;
    ensure!(refused.contains("permission denied"), "{refused}");
    Ok(())
}
