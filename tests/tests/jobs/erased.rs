//! Index keys are rotated while a scope of the column is sealed or erased: the other scopes go on, nothing is answered wrongly,
//! and the job ends once that scope is there again, or its rows are gone.

use anyhow::{Context, Result, ensure};
use pgveil_keys::audit::Operation;
use pgveil_tests::{
    postgres::{Database, TempPostgres},
    proxy::Proxy,
    site::Site,
};
use serde_json::Value;

use crate::{
    token::token,
    world::{has_heard, json, once, quick, shown, until},
};

const TABLE: &str = "CREATE TABLE people (id int PRIMARY KEY, tenant text NOT NULL, email text); \
    CREATE UNIQUE INDEX people_email_key ON people (tenant, email)";
const POLICY: &str =
    r#"public.people  scope = "tenant:{tenant}"  email: text, search = ["equality"]"#;

/// A rotation of acme's index key that waits for acme, which is sealed.
fn waiting<'a>(database: &Database<'a>) -> Result<(Site<'a>, Proxy, Value)> {
    database.run(TABLE)?;
    let site = quick(database, POLICY)?;
    site.apply()?;
    let proxy = site.serve()?;
    let said = proxy.psql(
        "app",
        "INSERT INTO people VALUES (1, 'acme', 'ada'), (2, 'acme', 'eve'), (3, 'globex', 'ada')",
    )?;
    ensure!(!said.contains("ERROR"), "{said}");
    site.command("seal", &["tenant:acme"])?.ok()?;
    has_heard(&proxy, "SELECT email FROM people WHERE id = 1")?;
    let right = token(&site, Operation::IndexRotate, "tenant:acme")?;
    let args = ["tenant:acme", "--index-key", "--json", "--token", &right];
    let job = json(&site.command("rotate", &args)?.ok()?)?["job"].clone();
    until(|| {
        let waits = shown(&site, &job)?["waits"].as_str().map(str::to_owned);
        let waits = waits.filter(|waits| waits.contains("tenant:acme is sealed"));
        Ok(waits)
    })
    .with_context(|| format!("{:#}", shown(&site, &job).unwrap_or_default()))?;
    Ok((site, proxy, job))
}

fn found(proxy: &Proxy, tenant: &str, email: &str) -> Result<String> {
    let sql = format!("SELECT id FROM people WHERE tenant = '{tenant}' AND email = '{email}'");
    proxy.psql("app", &sql)
}

/// What holds for the other scope all the time.
fn globex_goes_on(proxy: &Proxy) -> Result<()> {
    ensure!(found(proxy, "globex", "ada")? == "3");
    ensure!(found(proxy, "globex", "eve")?.is_empty());
    let again = proxy.psql("app", "INSERT INTO people VALUES (9, 'globex', 'ada')")?;
    ensure!(
        again.contains("duplicate key value violates unique constraint"),
        "{again}"
    );
    Ok(())
}

fn unseal(site: &Site<'_>) -> Result<()> {
    let right = token(site, Operation::ScopeUnseal, "tenant:acme")?;
    site.command("unseal", &["tenant:acme", "--token", &right])?
        .ok()
        .map(drop)
}

#[test]
fn an_index_key_is_rotated_around_a_seal() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    let (site, proxy, job) = waiting(&database)?;
    globex_goes_on(&proxy)?;
    let refused = found(&proxy, "acme", "ada")?;
    ensure!(
        refused.contains("PV002") && refused.contains("is sealed"),
        "{refused}"
    );
    let written = proxy.psql(
        "app",
        "INSERT INTO people VALUES (4, 'globex', 'written meanwhile')",
    )?;
    ensure!(written == "INSERT 0 1", "{written}");
    unseal(&site)?;
    once(&site, &job, "completed")?;
    // A process that has heard of none of it.
    for proxy in [&proxy, &site.serve()?] {
        globex_goes_on(proxy)?;
        ensure!(found(proxy, "globex", "written meanwhile")? == "4");
        ensure!(found(proxy, "acme", "ada")? == "1" && found(proxy, "acme", "eve")? == "2");
    }
    Ok(())
}

#[test]
fn an_erased_scope_keeps_a_rotation_until_its_rows_are_gone() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    let (site, proxy, job) = waiting(&database)?;
    let right = token(&site, Operation::ScopeErase, "tenant:acme")?;
    let erase = [
        "erase",
        "tenant:acme",
        "--confirm",
        "tenant:acme",
        "--token",
        &right,
    ];
    site.command("scopes", &erase)?.ok()?;
    // No unsealing would bring them back: it is not waited for.
    let failed = once(&site, &job, "failed")?;
    let why = failed["failure"].as_str().unwrap_or_default();
    ensure!(
        why.starts_with("2 values do not open") && why.contains("was destroyed"),
        "{why}"
    );
    ensure!(why.contains("delete their rows"), "{why}");
    globex_goes_on(&proxy)?;
    let sealed = found(&proxy, "acme", "ada")?;
    ensure!(sealed.contains("PV002"), "{sealed}");
    let deleted = proxy.psql("app", "DELETE FROM people WHERE tenant = 'acme'")?;
    ensure!(deleted == "DELETE 2", "{deleted}");
    site.command("jobs", &["resume", &job.to_string()])?.ok()?;
    once(&site, &job, "completed")?;
    globex_goes_on(&proxy)?;
    unseal(&site)?;
    let again = until(|| {
        let said = proxy.psql("app", "INSERT INTO people VALUES (5, 'acme', 'ada')")?;
        Ok((said == "INSERT 0 1").then_some(()))
    });
    again.context("the erased scope begins anew")?;
    for proxy in [&proxy, &site.serve()?] {
        globex_goes_on(proxy)?;
        ensure!(found(proxy, "acme", "ada")? == "5");
    }
    Ok(())
}
