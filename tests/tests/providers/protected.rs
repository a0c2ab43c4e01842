//! A deployment whose keys were wrapped wherever it was, and that asks for hardware security modules from now on.

use std::fs;

use anyhow::{Context, Result, ensure};
use pgveil_providers::Protection;
use pgveil_tests::{
    kms::Aws,
    postgres::TempPostgres,
    site::{Ran, Site},
};
use serde_json::Value;

use crate::{
    aws::aws,
    gcp::{Google, key},
};

const TABLE: &str = "CREATE TABLE notes (id int PRIMARY KEY, tenant text, body text)";
const POLICY: &str = r#"public.notes  scope = "tenant:{tenant}"  body: text"#;

/// Asks for a new data key of acme's as an operator, who is there already.
fn rotate(site: &Site<'_>) -> Result<Ran> {
    let passphrase = site.etc().join("passphrase");
    let passphrase = passphrase.to_str().context("a UTF-8 path")?;
    let operator = ["--operator", "ada", "--passphrase-file", passphrase];
    site.command(
        "rotate",
        &[&["tenant:acme", "--no-rewrap"], &operator[..]].concat(),
    )
}

fn cells(site: &Site<'_>, names: [&str; 2]) -> Result<Vec<(String, String)>> {
    let listed = site
        .command("scopes", &["list", "--probe", "--json"])?
        .ok()?;
    let listed: Vec<Value> = serde_json::from_str(&listed)?;
    let said = |row: &Value, name: &str| row[name].as_str().unwrap_or("none").to_owned();
    let rows = listed
        .iter()
        .map(|row| (said(row, names[0]), said(row, names[1])));
    Ok(rows.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_wrapped_outside_of_a_module_and_all_that_were_open() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(TABLE)?;
    let google = Google::start().await?;
    let mut site = Site::new(&database, POLICY)?;
    // Google says of `a` that it is in software, and of `b` that it is in a module.
    site.append(&format!(
        "\n[provider.google]\nkind = \"gcp-kms\"\nendpoint = \"{}\"\n\
         [[override]]\nscope = \"tenant:acme\"\nprovider = \"google\"\nkey = \"{}\"\n",
        google.address(),
        key("a")
    ))?;
    site.apply()?;
    let passphrase = site.etc().join("passphrase");
    fs::write(&passphrase, "correct horse battery staple")?;
    let passphrase = passphrase.to_str().context("a UTF-8 path")?;
    let enroll = ["enroll", "ada", "--new-passphrase-file", passphrase];
    site.command("step-up", &enroll)?.ok()?;
    let rows = "SELECT tenant, body FROM notes ORDER BY id";
    let proxy = site.serve()?;
    proxy.psql(
        "app",
        "INSERT INTO notes VALUES (1, 'acme', 'one'), (2, 'globex', 'two')",
    )?;
    let before = proxy.psql("app", rows)?;
    drop(proxy);

    // The built-in provider cannot do what is asked for, which no key has to be tried for.
    site.set("defaults", "key_protection", "\"hsm\"")?;
    let ran = site.command("check", &[])?;
    ensure!(
        ran.code == Some(1) && ran.stderr.contains("keeps its KEKs in software"),
        "{}",
        ran.stderr
    );
    site.set("defaults", "provider", "\"google\"")?;
    site.set("defaults", "key", &format!("\"{}\"", key("b")))?;
    let ran = site.command("check", &[])?;
    for word in ["key_protection", "tenant:acme", "kept in software"] {
        ensure!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    let protections = cells(&site, ["scope", "key_protection"])?;
    ensure!(
        protections
            == [("tenant:acme", "none"), ("tenant:globex", "hsm")]
                .map(|(scope, protection)| (scope.to_owned(), protection.to_owned())),
        "{protections:?}"
    );

    // Everything opens, also what the built-in provider wrapped; no key of acme's is made.
    let proxy = site.serve()?;
    ensure!(proxy.psql("app", rows)? == before);
    ensure!(proxy.psql("app", "INSERT INTO notes VALUES (3, 'initech', 'three')")? == "INSERT 0 1");
    let ran = rotate(&site)?;
    ensure!(
        ran.code != Some(0) && ran.stderr.contains("key_protection"),
        "{} {}",
        ran.stdout,
        ran.stderr
    );
    let ran = site.command("keys", &["rewrap", "tenant:acme"])?;
    ensure!(
        ran.code != Some(0) && ran.stderr.contains("key_protection"),
        "{} {}",
        ran.stdout,
        ran.stderr
    );
    ensure!(proxy.psql("app", rows)?.contains("one"));
    drop(proxy);

    // With a key in a module it is brought there.
    let config = fs::read_to_string(site.config())?;
    fs::write(site.config(), config.replace(&key("a"), &key("b")))?;
    for scope in ["tenant:acme", "tenant:globex"] {
        site.command("keys", &["rewrap", scope])?.ok()?;
    }
    rotate(&site)?.ok()?;
    site.command("check", &[])?.ok()?;
    let under = "SELECT string_agg(DISTINCT k.kek_id, ',') FROM pgveil.keys k";
    let found = database.admin(under)?;
    ensure!(found == key("b"), "{found}");
    let proxy = site.serve()?;
    ensure!(proxy.psql("app", rows)?.contains("one"));
    Ok(())
}

#[tokio::test]
async fn aws_says_of_its_keys_that_they_are_in_modules() -> Result<()> {
    let Some(emulator) = Aws::start()? else {
        return Ok(());
    };
    let provider = aws(&emulator.endpoint, "").await?;
    let found = provider.describe(&emulator.key()?).await?;
    ensure!(found.protection == Protection::Hsm, "{found:?}");
    Ok(())
}
