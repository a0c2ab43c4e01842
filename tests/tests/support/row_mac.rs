//! The MAC of a row of `pgveil.keys` as docs/keystore.md has it, by other means than pgveil's: the bytes are put together in
//! SQL. For tests that let time pass in a row, as nobody but the holder of the audit log's key can.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use pgveil_config::Settings;
use pgveil_keys::Keystore;
use pgveil_providers::{KeyProvider, WrapContext, Wrapped, local::LocalProvider};
use pgveil_tests::postgres::Database;

const CANONICAL: &str = "int8send(id) || int8send(audit_seq) || pg_temp.lp(scope) || pg_temp.lp(purpose) || int8send(epoch) \
    || pg_temp.lp(state) || pg_temp.lp(provider) || pg_temp.lp(kek_id) || pg_temp.lp(kek_version) \
    || coalesce('\\x01'::bytea || int4send(octet_length(wrapped)) || wrapped, '\\x00') || pg_temp.us(created_at) \
    || pg_temp.maybe(retired_at) || pg_temp.maybe(destroy_at) || pg_temp.maybe(destroyed_at)";
/// Of rows of `pgveil.keks`.
const OF_KEKS: &str = "int8send(audit_seq) || pg_temp.lp(provider) || pg_temp.lp(kek_id) || pg_temp.lp(version) \
    || coalesce('\\x01'::bytea || pg_temp.lp(next_version), '\\x00') || pg_temp.us(first_seen) || pg_temp.maybe(rotated_at) \
    || pg_temp.maybe(asked_at) || coalesce('\\x01'::bytea || int8send(began_seq), '\\x00') \
    || coalesce('\\x01'::bytea || int8send(began_key), '\\x00')";
const FUNCTIONS: &str = "CREATE FUNCTION pg_temp.lp(t text) RETURNS bytea LANGUAGE sql AS \
    $$ SELECT int4send(octet_length(convert_to(t, 'UTF8'))) || convert_to(t, 'UTF8') $$; \
    CREATE FUNCTION pg_temp.us(t timestamptz) RETURNS bytea LANGUAGE sql AS \
    $$ SELECT int8send((extract(epoch FROM t) * 1000000)::int8) $$; \
    CREATE FUNCTION pg_temp.maybe(t timestamptz) RETURNS bytea LANGUAGE sql AS \
    $$ SELECT CASE WHEN t IS NULL THEN '\\x00'::bytea ELSE '\\x01'::bytea || pg_temp.us(t) END $$; ";

/// Whether the stored MACs of all rows of keys and KEKs are those of the documentation.
pub(crate) async fn check_all(database: &Database<'_>, settings: &Settings) -> Result<()> {
    let key = key(database, settings).await?;
    let mut rows = bytes(database, "true")?;
    rows.extend(of_keks(database)?);
    ensure!(!rows.is_empty());
    for (id, bytes, stored) in rows {
        let expected = hex::encode(sign(&key, &bytes));
        ensure!(expected == stored, "row {id}: {stored} is not {expected}");
    }
    Ok(())
}

/// Gives rows of `pgveil.keks` that were changed by hand the MACs that fit.
pub(crate) async fn reseal_keks(database: &Database<'_>, settings: &Settings) -> Result<()> {
    let key = key(database, settings).await?;
    for (row, bytes, _) in of_keks(database)? {
        let mac = hex::encode(sign(&key, &bytes));
        database.admin(&format!(
            "UPDATE pgveil.keks SET mac = '\\x{mac}' WHERE md5(provider || kek_id) = '{row}'"
        ))?;
    }
    Ok(())
}

/// Gives a row that was changed by hand the MAC that fits.
pub(crate) async fn reseal(database: &Database<'_>, settings: &Settings, id: &str) -> Result<()> {
    let key = key(database, settings).await?;
    for (id, bytes, _) in bytes(database, &format!("id = {id}"))? {
        let mac = hex::encode(sign(&key, &bytes));
        database.admin(&format!(
            "UPDATE pgveil.keys SET mac = '\\x{mac}' WHERE id = {id}"
        ))?;
    }
    Ok(())
}

/// Id, what the MAC is over, and the MAC that is stored, in hexadecimal.
fn bytes(database: &Database<'_>, condition: &str) -> Result<Vec<(String, Vec<u8>, String)>> {
    parsed(&database.admin(&format!(
        "{FUNCTIONS} SELECT id || ' ' || encode('keys\\000'::bytea || {CANONICAL}, 'hex') || ' ' || encode(mac, 'hex') \
         FROM pgveil.keys WHERE {condition} ORDER BY id"
    ))?)
}

/// The same of rows of `pgveil.keks`, with a hash for an id.
fn of_keks(database: &Database<'_>) -> Result<Vec<(String, Vec<u8>, String)>> {
    parsed(&database.admin(&format!(
        "{FUNCTIONS} SELECT md5(provider || kek_id) || ' ' || encode('keks\\000'::bytea || {OF_KEKS}, 'hex') || ' ' || encode(mac, 'hex') \
         FROM pgveil.keks"
    ))?)
}

fn parsed(rows: &str) -> Result<Vec<(String, Vec<u8>, String)>> {
    let rows = rows.lines().filter(|line| line.contains(' ')).map(|line| {
        let mut words = line.split(' ');
        let mut next = || words.next().context("three words").map(str::to_owned);
        let (id, bytes, mac) = (next()?, next()?, next()?);
        Ok((id, hex::decode(bytes)?, mac))
    });
    rows.collect()
}

/// The key for MACs of rows, from the audit log's root key.
async fn key(database: &Database<'_>, settings: &Settings) -> Result<Key> {
    let stored = database.admin(
        "SELECT id || ' ' || kek_id || ' ' || kek_version || ' ' || encode(wrapped, 'hex') FROM pgveil.audit_keys",
    )?;
    let words: Vec<&str> = stored.split(' ').collect();
    let [id, kek, version, wrapped] = words[..] else {
        anyhow::bail!("{stored:?} is no audit key");
    };
    let folder = settings.file.parent().unwrap_or(Path::new("."));
    let keystore = Arc::new(Keystore::connect(settings).await?);
    let local = LocalProvider::open("main", &folder.join("root.key"), keystore).await?;
    let context = WrapContext {
        scope: "platform".to_owned(),
        key_id: id.parse()?,
        purpose: "audit",
    };
    let wrapped = Wrapped {
        bytes: hex::decode(wrapped)?,
        kek_version: version.to_owned(),
    };
    let payload = local.unwrap(kek, &wrapped, &context).await?;
    let root = Key::new(HMAC_SHA256, &payload[..32]);
    let rows = sign(&root, b"pgveil keystore rows v1\x01");
    Ok(Key::new(HMAC_SHA256, rows.as_ref()))
}
