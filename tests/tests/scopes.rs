//! Scopes that use keys of their own: which KEK wraps what, and how `pgveil scopes` tells.

use anyhow::{Result, ensure};
use pgveil_tests::{postgres::TempPostgres, site::Site};

const TABLE: &str =
    "CREATE TABLE notes (id int PRIMARY KEY, tenant text NOT NULL, env text NOT NULL, body text)";
const POLICY: &str =
    r#"public.notes  scope = "tenant:{tenant}/env:{env}"  body: text, search = ["equality"]"#;

/// Acme has a provider of its own, its production another key there; everybody else has the platform's.
const OVERRIDES: &str = r#"
[provider.vault]
kind = "local"
root_key_file = "vault.key"

[[override]]
scope = "tenant:acme"
provider = "vault"
key = "acme"

[[override]]
scope = "tenant:acme/env:prod"
key = "acme-prod"
"#;

#[test]
fn each_scope_is_wrapped_by_the_key_that_holds_for_it() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let mut site = Site::new(&database, POLICY)?;
    site.make_root_key("vault.key")?;
    site.append(OVERRIDES)?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql(
        "app",
        "INSERT INTO notes VALUES (1, 'acme', 'prod', 'a'), (2, 'acme', 'test', 'b'), (3, 'globex', 'prod', 'c')",
    )?;
    let read = proxy.psql("app", "SELECT body FROM notes ORDER BY id")?;
    ensure!(read == "a\nb\nc", "{read}");
    let wrapped = database.admin(
        "SELECT scope || ' ' || provider || ' ' || kek_id FROM pgveil.keys WHERE purpose = 'data' ORDER BY scope",
    )?;
    ensure!(
        wrapped
            == "tenant:acme/env:prod vault acme-prod\ntenant:acme/env:test vault acme\n\
                tenant:globex/env:prod main platform",
        "{wrapped}"
    );

    let shown = site
        .command("scopes", &["show", "tenant:acme/env:prod"])?
        .ok()?;
    let expected = "\
SCOPE                 PROVIDER  KEY
platform              main      platform   overridden
tenant:acme           vault     acme       overridden
tenant:acme/env:prod  vault     acme-prod  active

New keys of tenant:acme/env:prod are wrapped by key \"acme-prod\" of provider \"vault\".
";
    ensure!(shown == expected, "{shown}");
    let listed = site.command("scopes", &["list"])?.ok()?;
    let expected = "\
SCOPE                   STATE  PROVIDER  KEY        ACTIVE  DECRYPT ONLY  DESTROYED
tenant:acme/env:prod    open   vault     acme-prod  2       0             0
tenant:acme/env:test    open   vault     acme       2       0             0
tenant:globex/env:prod  open   main      platform   2       0             0
";
    ensure!(listed == expected, "{listed}");
    Ok(())
}
