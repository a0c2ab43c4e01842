//! A superuser takes back what was done to a scope while a proxy runs that has seen it: the seal with its entry in the list of
//! changes, keys that were erased, the whole keystore.

use anyhow::{Result, ensure};
use pgveil_keys::audit::Operation;
use pgveil_tests::{postgres::TempPostgres, proxy::Proxy, site::Site};

use super::{until, until_refused};
use crate::token::token;

const TABLE: &str = "CREATE TABLE notes (id int PRIMARY KEY, tenant text NOT NULL, body text)";
const POLICY: &str = r#"public.notes  scope = "tenant:{tenant}"  body: text"#;
/// How often a statement is tried that must not be answered.
const TRIES: usize = 20;

/// Without triggers and foreign keys, as a superuser can.
fn by_force(sql: &str) -> String {
    format!("SET session_replication_role = replica; {sql}; RESET session_replication_role")
}

const KEEP: &str = "CREATE SCHEMA kept; DO $$ DECLARE t name; BEGIN \
    FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'pgveil' LOOP \
        EXECUTE format('CREATE TABLE kept.%I AS TABLE pgveil.%I', t, t); END LOOP; END $$";
const PUT_BACK: &str = "DO $$ DECLARE t name; BEGIN \
    FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'pgveil' LOOP \
        EXECUTE format('DELETE FROM pgveil.%I', t); \
        EXECUTE format('INSERT INTO pgveil.%I OVERRIDING SYSTEM VALUE SELECT * FROM kept.%I', t, t); END LOOP; END $$";

fn is_not_ready(proxy: &Proxy) -> Result<()> {
    let (status, ready) = proxy.http("/readyz")?;
    let is_told = status.contains("503") && ready.contains("\"log\":false");
    ensure!(is_told, "{status} {ready}");
    Ok(())
}

#[test]
fn a_proxy_that_runs_remembers_what_a_superuser_takes_back() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(TABLE)?;
    let mut site = Site::new(&database, POLICY)?;
    site.set("cache", "ttl", "\"1s\"")?;
    site.set("admin", "listen", "\"127.0.0.1:0\"")?;
    site.set("audit", "sink_file", "\"checkpoints.log\"")?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql(
        "app",
        "INSERT INTO notes VALUES (1, 'acme', 'a'), (2, 'beta', 'b'), (3, 'gone', 'c')",
    )?;
    let erase = token(&site, Operation::ScopeErase, "tenant:gone")?;
    database.admin(KEEP)?;
    site.command("seal", &["tenant:acme"])?.ok()?;
    let erased = [
        "erase",
        "tenant:gone",
        "--confirm",
        "tenant:gone",
        "--token",
        &erase,
    ];
    site.command("scopes", &erased)?.ok()?;
    for tenant in ["acme", "gone"] {
        until_refused(&proxy, tenant)?;
    }
    // The entries of the lists go with the rows: what is left of it is in the log, and here.
    database.admin(&by_force(
        "DELETE FROM pgveil.scopes WHERE path = 'tenant:acme'; \
         DELETE FROM pgveil.row_changes WHERE row_name IN ('tenant:acme', 'tenant:gone'); \
         DELETE FROM pgveil.keys WHERE scope = 'tenant:gone'; DELETE FROM pgveil.scopes WHERE path = 'tenant:gone'; \
         INSERT INTO pgveil.keys SELECT * FROM kept.keys WHERE scope = 'tenant:gone'; \
         INSERT INTO pgveil.scopes SELECT * FROM kept.scopes WHERE path = 'tenant:gone'; \
         DELETE FROM pgveil.key_changes c WHERE NOT EXISTS (SELECT FROM kept.key_changes k WHERE k = c)",
    ))?;
    for _ in 0..TRIES {
        for tenant in ["acme", "gone"] {
            let read = format!("SELECT body FROM notes WHERE tenant = '{tenant}'");
            let answer = proxy.psql("app", &read)?;
            ensure!(answer.starts_with("ERROR"), "{tenant}: {answer}");
        }
    }
    ensure!(proxy.psql("app", "SELECT body FROM notes WHERE tenant = 'beta'")? == "b");
    let written = proxy.psql("app", "INSERT INTO notes VALUES (4, 'acme', 'd')")?;
    ensure!(written.contains("ERROR"), "{written}");

    // All of it set back: nothing protected is shown any more, whatever is written behind.
    database.admin(&by_force(PUT_BACK))?;
    until_refused(&proxy, "beta")?;
    site.command("seal", &["tenant:other"])?.ok()?;
    let said = |words: &str| Ok(proxy.log().contains(words));
    ensure!(
        until(|| said("the audit log was set back"))?,
        "{}",
        proxy.log()
    );
    for tenant in ["acme", "beta", "gone"] {
        until_refused(&proxy, tenant)?;
    }
    is_not_ready(&proxy)?;

    // One that begins is told by what was kept outside the database.
    proxy.kill9()?;
    let checked = site.command("check", &[])?;
    ensure!(
        checked.code == Some(1) && checked.stderr.contains("checkpoints outside the database"),
        "{checked:?}"
    );
    let verified = site.command("audit", &["verify"])?;
    ensure!(
        verified.code == Some(1) && verified.stderr.contains("checkpoints.log"),
        "{verified:?}"
    );
    let proxy = site.serve()?;
    ensure!(
        until(|| Ok(is_not_ready(&proxy).is_ok()))?,
        "{}",
        proxy.log()
    );
    for tenant in ["acme", "beta", "gone"] {
        until_refused(&proxy, tenant)?;
    }
    Ok(())
}
