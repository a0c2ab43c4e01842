//! Scopes that use keys of their own: which KEK wraps what, and how `pgveil scopes` tells.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use pgveil_keys::audit::Operation;
use pgveil_tests::{
    kms::{Aws, Bao},
    postgres::TempPostgres,
    proxy::Proxy,
    site::Site,
};

use token::{settings, token};

#[path = "scopes/elsewhere.rs"]
mod elsewhere;
#[path = "scopes/keks.rs"]
mod keks;
#[path = "scopes/lifecycle.rs"]
mod lifecycle;
#[path = "scopes/loss.rs"]
mod loss;
#[path = "scopes/many.rs"]
mod many;
#[path = "scopes/replicas.rs"]
mod replicas;
#[path = "support/row_mac.rs"]
mod row_mac;
#[path = "scopes/set_back.rs"]
mod set_back;
#[path = "scopes/shown.rs"]
mod shown;
#[path = "scopes/token.rs"]
mod token;
#[path = "scopes/under_way.rs"]
mod under_way;

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
SETTING                LEVEL                 VALUE                        SET IN
key                    platform              main platform    overridden  configuration
                       tenant:acme           vault acme       overridden  configuration
                       tenant:acme/env:prod  vault acme-prod  active      configuration
failure                platform              closed           active      configuration
                       tenant:acme           -                inherited
                       tenant:acme/env:prod  -                inherited
dek_epoch              platform              90d              active      configuration
                       tenant:acme           -                inherited
                       tenant:acme/env:prod  -                inherited
dek_max_usage          platform              1073741824       active      configuration
                       tenant:acme           -                inherited
                       tenant:acme/env:prod  -                inherited
kek_period             platform              never            active      configuration
                       tenant:acme           -                inherited
                       tenant:acme/env:prod  -                inherited
destroy_retired_after  platform              never            active      configuration
                       tenant:acme           -                inherited
                       tenant:acme/env:prod  -                inherited

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
    // Asked, the providers say whose key they deny.
    site.kms(&["--provider", "vault", "disable", "acme"])?
        .ok()?;
    let listed = site.command("scopes", &["list", "--probe"])?.ok()?;
    let expected = "\
SCOPE                   STATE   PROVIDER  KEY        ACTIVE  DECRYPT ONLY  DESTROYED
tenant:acme/env:prod    open    vault     acme-prod  2       0             0
tenant:acme/env:test    denied  vault     acme       2       0             0
tenant:globex/env:prod  open    main      platform   2       0             0
";
    ensure!(listed == expected, "{listed}");
    let listed = site
        .command("scopes", &["list", "--probe", "--json"])?
        .ok()?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    ensure!(
        listed[0]["key_state"] == "works" && listed[1]["key_state"] == "denied",
        "{listed:#}"
    );
    Ok(())
}

#[test]
fn what_is_set_at_run_time_moves_the_keys_and_is_followed() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let mut site = Site::new(&database, POLICY)?;
    site.make_root_key("vault.key")?;
    site.append("[provider.vault]\nkind = \"local\"\nroot_key_file = \"vault.key\"\n")?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql(
        "app",
        "INSERT INTO notes VALUES (1, 'acme', 'prod', 'a'), (2, 'globex', 'prod', 'b')",
    )?;
    let wrapped = || {
        database.admin(
            "SELECT string_agg(DISTINCT scope || ' ' || provider || ' ' || kek_id, '; ') FROM pgveil.keys",
        )
    };
    let before = wrapped()?;
    let refused = site.command(
        "scopes",
        &["set", "tenant:acme", "--provider", "nowhere", "--key", "k"],
    )?;
    ensure!(
        refused.code == Some(1) && refused.stderr.contains("there is no [provider.nowhere]"),
        "{}",
        refused.stderr
    );
    let refused = site.command("scopes", &["set", "tenant:acme", "--provider", "vault"])?;
    ensure!(refused.code == Some(2), "{}", refused.stderr);
    ensure!(wrapped()? == before);

    let set = [
        "set",
        "tenant:acme",
        "--provider",
        "vault",
        "--key",
        "acme",
        "--dek-epoch",
        "30d",
    ];
    let unasked = site.command("scopes", &set)?;
    ensure!(
        unasked.code == Some(1) && unasked.stderr.contains("step-up token"),
        "{}",
        unasked.stderr
    );
    ensure!(wrapped()? == before);
    let permitted = |args: &[&str], operation: Operation| {
        let token = token(&site, operation, "tenant:acme")?;
        site.command("scopes", &[args, &["--token", &token]].concat())
    };
    let said = permitted(&set, Operation::OverrideSet)?.ok()?;
    ensure!(
        said.starts_with(
            "tenant:acme: key = vault acme, dek_epoch = 30d.\nKeys wrapped anew: 2.\nScopes with a next data key: 1.\nJob "
        ),
        "{said}"
    );
    // What the former KEK unwraps, out of a backup of the keystore, seals nothing more.
    let epochs = database.admin(
        "SELECT string_agg(scope || ' ' || epoch || ' ' || state, '; ' ORDER BY scope, epoch) FROM pgveil.keys WHERE purpose = 'data'",
    )?;
    ensure!(
        epochs
            == "tenant:acme/env:prod 1 decrypt_only; tenant:acme/env:prod 2 active; tenant:globex/env:prod 1 active",
        "{epochs}"
    );
    let job = site.command("jobs", &["list", "--json"])?.ok()?;
    ensure!(job.contains("another key encryption key"), "{job}");
    ensure!(
        wrapped()? == "tenant:acme/env:prod vault acme; tenant:globex/env:prod main platform",
        "{}",
        wrapped()?
    );
    let again = site.command("scopes", &set)?;
    ensure!(
        again.code == Some(1) && again.stderr.contains("has that already"),
        "{}",
        again.stderr
    );
    let shown = site
        .command("scopes", &["show", "tenant:acme/env:prod", "--json"])?
        .ok()?;
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    ensure!(
        shown["provider"] == "vault" && shown["dek_epoch"] == "30d",
        "{shown}"
    );
    ensure!(shown["chain"][1]["key"]["set_in"] == "keystore", "{shown}");
    let offline = site
        .command(
            "scopes",
            &["show", "tenant:acme/env:prod", "--offline", "--json"],
        )?
        .ok()?;
    ensure!(offline.contains("\"provider\": \"main\""), "{offline}");

    // The running proxy takes it up: new keys of scopes below are wrapped by the new KEK.
    let deadline = Instant::now() + LIMIT;
    for id in 10.. {
        proxy.psql(
            "app",
            &format!("INSERT INTO notes VALUES ({id}, 'acme', 'e{id}', 'c')"),
        )?;
        let provider = database.admin(&format!(
            "SELECT DISTINCT provider FROM pgveil.keys WHERE scope = 'tenant:acme/env:e{id}'"
        ))?;
        if provider == "vault" {
            break;
        }
        ensure!(Instant::now() < deadline, "the proxy does not follow");
    }
    let read = proxy.psql("app", "SELECT body FROM notes WHERE id < 3 ORDER BY id")?;
    ensure!(read == "a\nb", "{read}");
    drop(proxy);

    // A KEK that cannot unwrap what it wrapped: nothing is changed.
    database.admin(
        "UPDATE pgveil.local_keks SET state = 'destroyed', sealed = NULL WHERE kek_id = 'acme'",
    )?;
    let stuck = permitted(&["clear", "tenant:acme"], Operation::OverrideClear)?;
    ensure!(
        stuck.code == Some(1) && stuck.stderr.contains("nothing was changed"),
        "{}",
        stuck.stderr
    );
    let listed = site.command("scopes", &["overrides"])?.ok()?;
    ensure!(
        listed.contains("tenant:acme  key = vault acme, dek_epoch = 30d"),
        "{listed}"
    );
    let clear = ["clear", "tenant:acme", "--keep-wrapped"];
    let kept = permitted(&clear, Operation::OverrideClear)?.ok()?;
    ensure!(
        kept == "tenant:acme does as its configuration says.\n",
        "{kept}"
    );
    let told = database.admin(
        "SELECT string_agg(operation || ' ' || scope, ', ' ORDER BY seq) FROM pgveil.audit \
         WHERE operation LIKE 'override%' OR operation = 'dek.rewrap'",
    )?;
    ensure!(
        told == "override.set tenant:acme, dek.rewrap tenant:acme/env:prod, override.clear tenant:acme",
        "{told}"
    );
    Ok(())
}

#[test]
fn the_platforms_key_is_moved_with_the_audit_logs_own() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let mut site = Site::new(&database, POLICY)?;
    site.make_root_key("vault.key")?;
    site.append("[provider.vault]\nkind = \"local\"\nroot_key_file = \"vault.key\"\n")?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql("app", "INSERT INTO notes VALUES (1, 'acme', 'prod', 'a')")?;
    drop(proxy);
    let wrapped = || {
        database.admin(
            "SELECT string_agg(DISTINCT provider || ' ' || kek_id, '; ') FROM \
             (SELECT provider, kek_id FROM pgveil.keys UNION ALL SELECT provider, kek_id FROM pgveil.audit_keys) k",
        )
    };
    ensure!(wrapped()? == "main platform", "{}", wrapped()?);
    let token = token(&site, Operation::OverrideSet, "platform")?;
    let set = [
        "set",
        "platform",
        "--provider",
        "vault",
        "--key",
        "later",
        "--token",
        &token,
    ];
    let said = site.command("scopes", &set)?.ok()?;
    ensure!(said.contains("Keys wrapped anew: 3."), "{said}");
    ensure!(wrapped()? == "vault later", "{}", wrapped()?);
    let verified = site.command("audit", &["verify"])?.ok()?;
    ensure!(!verified.is_empty());
    let proxy = site.serve()?;
    ensure!(body_of(&proxy, "acme")? == "a");
    proxy.psql("app", "INSERT INTO notes VALUES (2, 'acme', 'test', 'b')")?;
    ensure!(wrapped()? == "vault later", "{}", wrapped()?);
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
        &format!("SELECT body FROM notes WHERE tenant = '{tenant}' ORDER BY id"),
    )
}

/// Whether it comes to hold in time.
fn until(mut holds: impl FnMut() -> Result<bool>) -> Result<bool> {
    let deadline = Instant::now() + LIMIT;
    while !holds()? {
        if Instant::now() > deadline {
            return Ok(false);
        }
    }
    Ok(true)
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
    let again = until(|| Ok(body_of(&proxy, "acme")? == "a"))?;
    ensure!(again, "acme stays sealed though its provider answers again");

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
