//! Scopes that are sealed, unsealed and erased by hand while a proxy runs, and the command line of the audit log.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use pgveil_tests::{postgres::TempPostgres, proxy::Proxy, site::Site};

const TABLE: &str =
    "CREATE TABLE notes (id int PRIMARY KEY, tenant text NOT NULL, env text NOT NULL, body text)";
const POLICY: &str =
    r#"public.notes  scope = "tenant:{tenant}/env:{env}"  body: text, search = ["equality"]"#;
const ROWS: &str = "INSERT INTO notes VALUES (1, 'acme', 'prod', 'a'), (2, 'acme', 'test', 'b'), (3, 'globex', 'prod', 'c')";
/// How long a running proxy may take to follow.
const SOON: Duration = Duration::from_secs(1);

fn read(proxy: &Proxy, tenant: &str) -> Result<String> {
    proxy.psql(
        "app",
        &format!("SELECT body FROM notes WHERE tenant = '{tenant}' ORDER BY id"),
    )
}

/// Asks until the answer is as expected, for as long as a proxy may take.
fn soon(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let begin = Instant::now();
    while !holds() {
        if begin.elapsed() > SOON {
            bail!("not within {SOON:?}: {what}");
        }
    }
    Ok(())
}

fn refused(answer: Result<String>) -> bool {
    answer.is_ok_and(|said| said.contains("PV002"))
}

/// A site with an operator, whose passphrase is in a file.
fn with_operator(site: &Site<'_>) -> Result<String> {
    let passphrase = site.etc().join("passphrase");
    fs::write(&passphrase, "correct horse battery\n")?;
    let passphrase = passphrase.to_str().context("a UTF-8 path")?.to_owned();
    site.command(
        "step-up",
        &["enroll", "ada", "--new-passphrase-file", &passphrase],
    )?
    .ok()?;
    Ok(passphrase)
}

#[test]
fn a_sealed_scope_and_those_below_it_are_out_of_use_until_they_are_unsealed() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = Site::new(&database, POLICY)?;
    site.apply()?;
    let passphrase = with_operator(&site)?;
    let proxy = site.serve()?;
    proxy.psql("app", ROWS)?;
    ensure!(read(&proxy, "acme")? == "a\nb");

    site.command("seal", &["tenant:acme"])?.ok()?;
    soon("acme cannot be read", || refused(read(&proxy, "acme")))?;
    ensure!(read(&proxy, "globex")? == "c", "other scopes go on");
    let written = proxy.psql("app", "INSERT INTO notes VALUES (4, 'acme', 'prod', 'd')");
    ensure!(refused(written), "a sealed scope was written");
    let new = proxy.psql("app", "INSERT INTO notes VALUES (5, 'acme', 'new', 'e')");
    ensure!(refused(new), "a key was made below a sealed scope");
    let keys =
        database.admin("SELECT count(*) FROM pgveil.keys WHERE scope = 'tenant:acme/env:new'")?;
    ensure!(keys == "0", "{keys}");

    let without = site.command("unseal", &["tenant:acme"])?;
    ensure!(
        without.code == Some(1) && without.stderr.contains("step-up"),
        "{without:?}"
    );
    let wrong = site.etc().join("wrong");
    fs::write(&wrong, "wrong horse battery\n")?;
    let wrong = wrong.to_str().context("a UTF-8 path")?;
    let wrong = site.command(
        "unseal",
        &[
            "tenant:acme",
            "--operator",
            "ada",
            "--passphrase-file",
            wrong,
        ],
    )?;
    ensure!(wrong.code == Some(1), "{wrong:?}");
    ensure!(
        refused(read(&proxy, "acme")),
        "unsealed by a wrong passphrase"
    );

    let token = site
        .command(
            "step-up",
            &[
                "token",
                "scope.unseal",
                "tenant:acme",
                "--operator",
                "ada",
                "--passphrase-file",
                &passphrase,
            ],
        )?
        .ok()?;
    let file = site.etc().join("token");
    fs::write(&file, &token)?;
    let file = file.to_str().context("a UTF-8 path")?;
    let elsewhere = site.command("unseal", &["tenant:globex", "--token", file])?;
    ensure!(elsewhere.code == Some(1), "{elsewhere:?}");
    site.command("unseal", &["tenant:acme", "--token", file])?
        .ok()?;
    soon("acme can be read", || {
        read(&proxy, "acme").is_ok_and(|rows| rows == "a\nb")
    })?;
    let again = site.command("unseal", &["tenant:acme", "--token", file])?;
    ensure!(
        again.code == Some(1) && again.stderr.contains("used"),
        "{again:?}"
    );
    let listed = site.command("step-up", &["list", "--json"])?.ok()?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    let since = listed[0]["created_at"].as_str().unwrap_or_default();
    ensure!(
        since.len() == "2026-01-01T00:00:00Z".len() && since.contains('T') && since.ends_with('Z'),
        "not a time as other lists show it: {since}"
    );
    Ok(())
}

#[test]
fn what_is_erased_is_gone_and_the_scope_may_begin_anew() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = Site::new(&database, POLICY)?;
    site.apply()?;
    let passphrase = with_operator(&site)?;
    let by_ada = ["--operator", "ada", "--passphrase-file", &passphrase];
    let proxy = site.serve()?;
    proxy.psql("app", ROWS)?;

    let erase = |name: &str, confirm: &str| {
        let mut args = vec!["erase", name, "--confirm", confirm];
        args.extend(by_ada);
        site.command("scopes", &args)
    };
    ensure!(
        erase("tenant:acme", "acme")?.code == Some(1),
        "without the name typed right"
    );
    let whole = erase("platform", "platform")?;
    ensure!(
        whole.code == Some(1) && whole.stderr.contains("erase its tenants"),
        "the platform as a whole: {whole:?}"
    );
    let slip = erase("tenant:acne", "tenant:acne")?;
    ensure!(
        slip.code == Some(1) && slip.stderr.contains("there is no scope tenant:acne"),
        "{slip:?}"
    );
    let left = database.admin("SELECT count(*) FROM pgveil.scopes WHERE path = 'tenant:acne'")?;
    ensure!(left == "0", "it is a scope now");
    ensure!(read(&proxy, "acme")? == "a\nb");
    let said = erase("tenant:acme", "tenant:acme")?.ok()?;
    ensure!(
        said.contains("4 keys of 3 scopes") && said.contains("tenant:acme/env:prod"),
        "{said}"
    );
    soon("acme cannot be read", || refused(read(&proxy, "acme")))?;
    ensure!(read(&proxy, "globex")? == "c");
    let left = database.admin(
        "SELECT count(*) FILTER (WHERE wrapped IS NULL), count(*) FROM pgveil.keys WHERE scope LIKE 'tenant:acme%'",
    )?;
    ensure!(left == "4|4", "{left}");

    for scope in [
        "tenant:acme",
        "tenant:acme/env:prod",
        "tenant:acme/env:test",
    ] {
        let mut args = vec![scope];
        args.extend(by_ada);
        site.command("unseal", &args)?.ok()?;
    }
    let again = "INSERT INTO notes VALUES (9, 'acme', 'prod', 'z') ON CONFLICT (id) DO NOTHING";
    soon("acme can be written", || {
        let said = proxy.psql("app", again);
        said.is_ok_and(|said| said.starts_with("INSERT"))
    })?;
    ensure!(proxy.psql("app", "SELECT body FROM notes WHERE id = 9")? == "z");
    let old = proxy.psql("app", "SELECT body FROM notes WHERE id = 1");
    ensure!(old?.contains("destroyed"), "an erased value was read");
    Ok(())
}

#[test]
fn the_log_of_a_site_is_listed_judged_and_exported() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let mut site = Site::new(&database, POLICY)?;
    site.set("audit", "sink_file", "\"checkpoints.log\"")?;
    site.apply()?;
    with_operator(&site)?;
    {
        let proxy = site.serve()?;
        proxy.psql("app", ROWS)?;
        site.command("seal", &["tenant:acme"])?.ok()?;
    }
    let listed = site
        .command("audit", &["list", "--scope", "tenant:acme"])?
        .ok()?;
    ensure!(
        listed.contains("scope.seal") && listed.contains("os:"),
        "{listed}"
    );
    ensure!(
        listed.contains("dek.create") && listed.contains("session:app"),
        "{listed}"
    );
    let json = site
        .command("audit", &["list", "--operation", "scope.seal", "--json"])?
        .ok()?;
    let record: serde_json::Value = serde_json::from_str(json.trim())?;
    ensure!(
        record["scope"] == "tenant:acme" && record["outcome"] == "done",
        "{record}"
    );
    let unknown = site.command("audit", &["list", "--operation", "scope.open"])?;
    ensure!(unknown.code == Some(1), "{unknown:?}");
    let unknown = site.command("audit", &["list", "--result", "well"])?;
    ensure!(unknown.code == Some(2), "{unknown:?}");
    let unknown = site.command("audit", &["list", "--scope", "acme"])?;
    ensure!(unknown.code == Some(1), "{unknown:?}");

    let judged = site.command("audit", &["verify"])?.ok()?;
    ensure!(
        judged.starts_with("sound:") && judged.contains("agree"),
        "{judged}"
    );
    let key = site.command("audit", &["checkpoint-key"])?.ok()?;
    let export = site.etc().join("audit.jsonl");
    let path = export.to_str().context("a UTF-8 path")?;
    site.command("audit", &["export", "--out", path])?.ok()?;
    let file = ["verify", "--file", path, "--public-key", key.trim()];
    site.run(&[&["audit"][..], &file].concat())?.ok()?;
    let text = fs::read_to_string(&export)?;
    fs::write(&export, text.replace("os:", "oS:"))?;
    let forged = site.run(&[&["audit"][..], &file].concat())?;
    ensure!(forged.code == Some(1), "{forged:?}");

    database.admin("ALTER TABLE pgveil.audit DISABLE TRIGGER append_only; UPDATE pgveil.audit SET actor = 'nobody' WHERE seq = 1")?;
    let judged = site.command("audit", &["verify"])?;
    ensure!(
        judged.code == Some(1) && judged.stderr.contains("record 1"),
        "{judged:?}"
    );
    Ok(())
}
