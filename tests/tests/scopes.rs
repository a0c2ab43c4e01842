//! Scopes that use keys of their own: which KEK wraps what, and how `pgveil scopes` tells.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use pgveil_tests::{
    kms::{Aws, Bao},
    postgres::TempPostgres,
    proxy::Proxy,
    site::Site,
};

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
SCOPE                 PROVIDER  KEY                    FAILURE
platform              main      platform   overridden  closed   active
tenant:acme           vault     acme       overridden  -        inherited
tenant:acme/env:prod  vault     acme-prod  active      -        inherited

New keys of tenant:acme/env:prod are wrapped by key \"acme-prod\" of provider \"vault\"; while it cannot be reached, it fails closed.
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

/// Acme's keys are in a transit engine, and Beta's, who would rather read on than stop.
const ELSEWHERE: &str = r#"
[[override]]
scope = "tenant:acme"
provider = "vault"
key = "acme"

[[override]]
scope = "tenant:beta"
provider = "vault"
key = "beta"
failure = "open"
"#;

const RIGHTS: &str = "path \"transit/keys/*\" { capabilities = [\"read\"] }\n\
    path \"transit/encrypt/*\" { capabilities = [\"update\"] }\n";

/// How long a key may live on after its provider has said no, and then some.
const LIMIT: Duration = Duration::from_secs(20);

fn body_of(proxy: &Proxy, tenant: &str) -> Result<String> {
    proxy.psql(
        "app",
        &format!("SELECT body FROM notes WHERE tenant = '{tenant}'"),
    )
}

/// Asks until the answer is no, and answers that.
fn until_refused(proxy: &Proxy, tenant: &str) -> Result<String> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        let answer = body_of(proxy, tenant)?;
        if answer.starts_with("ERROR") {
            return Ok(answer);
        }
    }
    bail!("{tenant} can still be read")
}

#[test]
fn a_provider_that_says_no_is_obeyed_and_one_that_is_away_as_the_scope_says() -> Result<()> {
    let Some(bao) = Bao::start()? else {
        return Ok(());
    };
    for key in ["transit/keys/acme", "transit/keys/beta"] {
        bao.run(&["write", "-f", key, "derived=true"])?;
    }
    let folder = tempfile::tempdir()?;
    let grant = |decrypt: &str| -> Result<()> {
        let file = folder.path().join("policy.hcl");
        let path =
            format!("path \"transit/decrypt/{decrypt}\" {{ capabilities = [\"update\"] }}\n");
        std::fs::write(&file, format!("{RIGHTS}{path}"))?;
        bao.run(&["policy", "write", "pgveil", &file.to_string_lossy()])?;
        Ok(())
    };
    grant("*")?;
    let token = bao.run(&["token", "create", "-policy=pgveil", "-field=token"])?;
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let mut site = Site::new(&database, POLICY)?;
    std::fs::write(site.etc().join("vault.token"), token)?;
    site.set("provider.vault", "kind", "\"vault-transit\"")?;
    site.set("provider.vault", "address", &format!("\"{}\"", bao.address))?;
    site.set("provider.vault", "token_file", "\"vault.token\"")?;
    site.set("cache", "ttl", "\"1s\"")?;
    site.append(ELSEWHERE)?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql(
        "app",
        "INSERT INTO notes VALUES (1, 'acme', 'prod', 'a'), (2, 'beta', 'prod', 'b'), (3, 'globex', 'prod', 'c')",
    )?;

    grant("beta")?;
    let refused = until_refused(&proxy, "acme")?;
    ensure!(
        refused.contains("PV002") && refused.contains("denies"),
        "{refused}"
    );
    ensure!(body_of(&proxy, "beta")? == "b" && body_of(&proxy, "globex")? == "c");
    grant("*")?;
    ensure!(body_of(&proxy, "acme")? == "a");

    bao.kill();
    let refused = until_refused(&proxy, "acme")?;
    ensure!(
        refused.contains("PV002") && refused.contains("unavailable"),
        "{refused}"
    );
    ensure!(body_of(&proxy, "beta")? == "b" && body_of(&proxy, "globex")? == "c");
    proxy.psql(
        "app",
        "UPDATE notes SET body = 'later' WHERE tenant = 'beta' AND env = 'prod'",
    )?;
    ensure!(body_of(&proxy, "beta")? == "later");
    Ok(())
}

/// AWS's client traces the requests that it sends: they hold the key that is to be wrapped.
#[test]
fn no_level_of_the_log_shows_a_key() -> Result<()> {
    let Some(emulator) = Aws::start()? else {
        return Ok(());
    };
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let mut site = Site::new(&database, POLICY)?;
    site.set("log", "level", "\"trace,aws_smithy_runtime=trace\"")?;
    site.set("provider.aws", "kind", "\"aws-kms\"")?;
    site.set("provider.aws", "region", "\"eu-central-1\"")?;
    site.set(
        "provider.aws",
        "endpoint",
        &format!("\"{}\"", emulator.endpoint),
    )?;
    site.set("defaults", "provider", "\"aws\"")?;
    site.set("defaults", "key", &format!("\"{}\"", emulator.key()?))?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql("app", "INSERT INTO notes VALUES (1, 'acme', 'prod', 'a')")?;
    ensure!(body_of(&proxy, "acme")? == "a");
    let log = proxy.log();
    ensure!(log.contains("made a key"), "{log}");
    ensure!(
        !log.contains("Plaintext") && !log.contains("transmitting request"),
        "{log}"
    );
    Ok(())
}
