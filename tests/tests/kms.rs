//! `pgveil kms` on a real keystore: keys made, shown, rotated, disabled, destroyed and deleted, and used by hand.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pgveil_tests::{
    postgres::{Database, TempPostgres},
    site::{Ran, Site},
};
use serde_json::Value;

fn site() -> Result<(Database<'static>, Site<'static>)> {
    let database = TempPostgres::fresh_database()?;
    let site = Site::new(&database, "")?;
    site.apply()?;
    Ok((database, site))
}

fn kms(site: &Site<'_>, args: &[&str]) -> Result<Ran> {
    site.kms(args)
}

fn json(site: &Site<'_>, args: &[&str]) -> Result<Value> {
    let all = [&["--json"], args].concat();
    let printed = kms(site, &all)?.ok().with_context(|| format!("{args:?}"))?;
    Ok(serde_json::from_str(&printed)?)
}

/// A command that is refused, with a word of why.
fn refused(site: &Site<'_>, args: &[&str], why: &str) -> Result<()> {
    let ran = kms(site, args)?;
    ensure!(ran.code == Some(1), "{args:?}: {ran:?}");
    ensure!(ran.stderr.contains(why), "{args:?}: {}", ran.stderr);
    Ok(())
}

fn states(key: &Value) -> Vec<&str> {
    let versions = key["versions"].as_array().map_or(&[][..], Vec::as_slice);
    versions
        .iter()
        .filter_map(|version| version["state"].as_str())
        .collect()
}

#[test]
fn a_key_goes_through_its_life() -> Result<()> {
    let (database, site) = site()?;
    let made = json(
        &site,
        &[
            "--as",
            "ada",
            "create",
            "acme",
            "--description",
            "for acme",
            "--rotate-every",
            "90",
            "--without-version",
        ],
    )?;
    ensure!(
        made["state"] == "pre-activation" && made["default_version"].is_null(),
        "{made}"
    );
    ensure!(
        made["created_by"] == "user:ada" && made["rotation_days"] == 90,
        "{made}"
    );
    ensure!(
        made["next_rotation"].is_null() && made["last_rotation"].is_null(),
        "{made}"
    );
    let ada = |args: &[&str]| json(&site, &[&["--as", "ada"], args].concat());
    let key = ada(&["rotate", "acme"])?;
    ensure!(
        key["state"] == "active" && states(&key) == ["enabled"],
        "{key}"
    );
    ensure!(key["next_rotation"].is_string(), "{key}");
    let key = ada(&["rotate", "acme"])?;
    ensure!(
        key["default_version"] == 2 && key["last_rotation"].is_string(),
        "{key}"
    );
    let key = ada(&["disable", "acme", "--version", "1"])?;
    ensure!(states(&key) == ["disabled", "enabled"], "{key}");
    let key = ada(&["enable", "acme", "--version", "1"])?;
    ensure!(states(&key) == ["enabled", "enabled"], "{key}");
    ensure!(ada(&["deactivate", "acme"])?["state"] == "deactivated");
    refused(&site, &["--as", "ada", "rotate", "acme"], "deactivated")?;
    ensure!(ada(&["enable", "acme"])?["state"] == "active");
    ensure!(ada(&["schedule", "acme", "1095"])?["rotation_days"] == 1095);
    refused(
        &site,
        &["--as", "ada", "schedule", "acme", "1096"],
        "1 to 1095",
    )?;
    ensure!(ada(&["schedule", "acme", "off"])?["rotation_days"].is_null());

    // What cannot be undone wants the name.
    let destroy = ["--as", "ada", "destroy-version", "acme", "1"];
    refused(&site, &destroy, "--confirm acme")?;
    refused(
        &site,
        &[&destroy[..], &["--confirm", "Acme"]].concat(),
        "nothing was done",
    )?;
    refused(
        &site,
        &["--as", "ada", "delete", "acme", "--confirm", "acme"],
        "destroy-version",
    )?;
    let key = ada(&["destroy-version", "acme", "1", "--confirm", "acme"])?;
    ensure!(states(&key) == ["destroyed", "enabled"], "{key}");
    let left = database.admin(
        "SELECT string_agg(version || ' ' || (sealed IS NULL), ', ' ORDER BY version) FROM pgveil.local_keks WHERE kek_id = 'acme'",
    )?;
    ensure!(left == "1 true, 2 false", "{left}");
    ada(&["destroy-version", "acme", "2", "--confirm", "acme"])?;
    ada(&["delete", "acme", "--confirm", "acme"])?;
    refused(&site, &["show", "acme"], "there is no key")?;
    refused(&site, &["create", "acme"], "not used again")?;
    // What is left is the key that wraps the audit log's.
    let left = json(&site, &["list"])?;
    ensure!(
        left.as_array().map(Vec::len) == Some(1) && left[0]["name"] == "platform",
        "{left}"
    );
    let told = database.admin(
        "SELECT string_agg(operation || ' ' || substring(encode(record, 'escape') FROM '\"deed\":\"([a-z-]+)\"'), ', ' ORDER BY seq) \
         FROM pgveil.audit WHERE operation LIKE 'kms.%' OR operation = 'kek.rotate'",
    )?;
    let expected = "kms.change create, kek.rotate rotate, kek.rotate rotate, kms.change disable-version, \
        kms.change enable-version, kms.change deactivate, kms.change activate, kms.change schedule, kms.change schedule, \
        kms.destroy destroy-version, kms.destroy destroy-version, kms.destroy delete";
    ensure!(told == expected, "{told}");
    ensure!(site.command("audit", &["verify"])?.code == Some(0));
    Ok(())
}

#[test]
fn what_rotates_or_destroys_a_key_needs_a_token_and_a_log_that_can_be_written() -> Result<()> {
    let (database, site) = site()?;
    json(&site, &["create", "acme"])?;
    for grave in [
        &["rotate", "acme"][..],
        &["destroy-version", "acme", "1", "--confirm", "acme"],
        &["delete", "acme", "--confirm", "acme"],
    ] {
        let ran = site.command("kms", grave)?;
        ensure!(
            ran.code == Some(1) && ran.stderr.contains("needs a step-up token"),
            "{ran:?}"
        );
    }
    // The key that wraps the log's own can be stopped and let go on: else nobody could ever do anything again.
    json(&site, &["disable", "platform"])?;
    let ran = site.command("kms", &["disable", "acme"])?;
    ensure!(
        ran.code == Some(1) && ran.stderr.contains("audit log"),
        "{ran:?}"
    );
    json(&site, &["enable", "platform"])?;
    json(&site, &["deactivate", "platform"])?;
    json(&site, &["enable", "platform"])?;
    let last = "SELECT substring(encode(record, 'escape') FROM '\"deed\":\"([a-z-]+)\"') FROM pgveil.audit ORDER BY seq DESC LIMIT 1";
    ensure!(database.admin(last)? == "activate");
    let state =
        "SELECT count(*) || ' ' || max(revision) FROM pgveil.local_keys WHERE kek_id = 'acme'";
    ensure!(database.admin(state)? == "1 1");
    database.admin("UPDATE pgveil.audit_head SET seq = seq + 1")?;
    let ran = site.command("kms", &["disable", "acme"])?;
    ensure!(
        ran.code == Some(1) && ran.stderr.contains("pgveil.audit_head was changed"),
        "{ran:?}"
    );
    ensure!(
        database.admin(state)? == "1 1",
        "it was changed without a record"
    );
    Ok(())
}

#[test]
fn only_those_with_a_grant_see_and_change_a_key() -> Result<()> {
    let (_database, site) = site()?;
    json(&site, &["--as", "ada", "create", "k"])?;
    refused(
        &site,
        &["--as", "eve", "show", "k"],
        "user:eve may not describe",
    )?;
    refused(
        &site,
        &["--as", "eve", "rotate", "k"],
        "user:eve may not manage",
    )?;
    refused(
        &site,
        &["--as", "eve", "encrypt", "k"],
        "user:eve may not encrypt",
    )?;
    let seen = json(&site, &["--as", "eve", "list"])?;
    ensure!(!seen.to_string().contains("\"k\""), "{seen}");
    let key = json(
        &site,
        &["--as", "ada", "grant", "k", "user:eve", "describe"],
    )?;
    ensure!(key["access"].to_string().contains("user:eve"), "{key}");
    ensure!(json(&site, &["--as", "eve", "show", "k"])?["name"] == "k");
    json(&site, &["--as", "ada", "revoke", "k", "user:eve"])?;
    refused(
        &site,
        &["--as", "eve", "show", "k"],
        "user:eve may not describe",
    )?;
    refused(
        &site,
        &["--as", "ada", "revoke", "k", "user:eve"],
        "grants nothing to user:eve",
    )?;
    refused(
        &site,
        &["--as", "ada", "revoke", "k", "user:ada"],
        "somebody must keep `manage`",
    )?;
    let ran = kms(&site, &["--as", "ada", "grant", "k", "eve", "describe"])?;
    ensure!(ran.code == Some(2), "{ran:?}");
    Ok(())
}

#[test]
fn keys_are_used_by_hand() -> Result<()> {
    let (_database, site) = site()?;
    json(&site, &["create", "box"])?;
    let feed = |args: &[&str], input: &str| site.feed("kms", args, input.as_bytes());
    let old = feed(&["encrypt", "box", "--context", "c"], "secret")?.ok()?;
    ensure!(
        old.starts_with("pgveil:v1:") && !old.contains("secret"),
        "{old}"
    );
    json(&site, &["rotate", "box"])?;
    ensure!(feed(&["decrypt", "box", "--context", "c"], &old)?.ok()? == "secret");
    let ran = feed(&["decrypt", "box"], &old)?;
    ensure!(
        ran.code == Some(1) && ran.stderr.contains("another context"),
        "{ran:?}"
    );
    let ran = feed(&["decrypt", "box"], "no ciphertext")?;
    ensure!(ran.code == Some(1), "{ran:?}");

    json(
        &site,
        &[
            "create",
            "seal",
            "--algorithm",
            "rsa-2048",
            "--usage",
            "sign-verify",
        ],
    )?;
    let signature = feed(&["sign", "seal"], "message")?.ok()?;
    let valid = feed(&["verify", "seal", signature.trim()], "message")?.ok()?;
    ensure!(valid.contains("valid, by version 1"), "{valid}");
    let ran = feed(&["verify", "seal", signature.trim()], "another message")?;
    ensure!(ran.code == Some(1), "{ran:?}");
    let ran = kms(
        &site,
        &[
            "create",
            "odd",
            "--algorithm",
            "ec-p256",
            "--usage",
            "encrypt-decrypt",
        ],
    )?;
    ensure!(ran.code == Some(1), "{ran:?}");
    Ok(())
}

/// What other programs make of a public key and a signature.
#[test]
fn openssl_verifies_what_a_key_signed() -> Result<()> {
    let (_database, site) = site()?;
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    std::fs::write(at("message"), "message")?;
    for (name, algorithm) in [("rsa", "rsa-2048"), ("ec", "ec-p256")] {
        json(
            &site,
            &[
                "create",
                name,
                "--algorithm",
                algorithm,
                "--usage",
                "sign-verify",
            ],
        )?;
        std::fs::write(at("public.pem"), kms(&site, &["public-key", name])?.ok()?)?;
        let signed = site
            .feed("kms", &["--json", "sign", name], b"message")?
            .ok()?;
        let signed: Value = serde_json::from_str(&signed)?;
        let text = signed["signature"].as_str().context("a signature")?;
        let base64 = text.rsplit(':').next().unwrap_or_default();
        std::fs::write(at("signature.txt"), format!("{base64}\n"))?;
        let run = |args: &[&str]| -> Result<String> {
            let ran = std::process::Command::new("openssl").args(args).output();
            let ran = ran.context("openssl")?;
            Ok(String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned())
        };
        run(&[
            "base64",
            "-d",
            "-A",
            "-in",
            &at("signature.txt"),
            "-out",
            &at("signature"),
        ])?;
        let (public, signature, message) = (at("public.pem"), at("signature"), at("message"));
        let mut verify = vec![
            "dgst",
            "-sha256",
            "-verify",
            &public,
            "-signature",
            &signature,
        ];
        if name == "rsa" {
            verify.extend([
                "-sigopt",
                "rsa_padding_mode:pss",
                "-sigopt",
                "rsa_pss_saltlen:-1",
            ]);
        }
        verify.push(&message);
        let said = run(&verify)?;
        ensure!(said.contains("Verified OK"), "{name}: {said}");
    }
    Ok(())
}

#[test]
fn a_service_key_is_shown_and_the_kill_switch_reaches_the_tables() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run("CREATE TABLE notes (id int PRIMARY KEY, body text)")?;
    let mut site = Site::new(&database, r#"public.notes  scope = "platform"  body: text"#)?;
    site.set("cache", "ttl", "\"1s\"")?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql("app", "INSERT INTO notes VALUES (1, 'secret')")?;
    let key = json(&site, &["show", "platform"])?;
    ensure!(
        key["origin"] == "service" && key["rotation_days"] == 365,
        "{key}"
    );
    ensure!(key["created_by"] == "pgveil", "{key}");
    json(&site, &["disable", "platform"])?;
    let until = |words: &str| {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let read = proxy.psql("app", "SELECT body FROM notes")?;
            if read.contains(words) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "never {words}, but {read}");
        }
    };
    until("PV002")?;
    // Whoever writes into the tables of the keystore does not open it again.
    database.admin(
        "UPDATE pgveil.local_keys SET record = replace(record, 'disabled', 'enabled') RETURNING 1",
    )?;
    until("PV003")?;
    refused(&site, &["show", "platform"], "not as pgveil wrote it")?;
    database.admin(
        "UPDATE pgveil.local_keys SET record = replace(record, 'enabled', 'disabled') RETURNING 1",
    )?;
    json(&site, &["enable", "platform"])?;
    until("secret")
}

#[test]
fn tables_for_people_and_errors_with_cures() -> Result<()> {
    let (_database, site) = site()?;
    kms(
        &site,
        &[
            "create",
            "k",
            "--rotate-every",
            "30",
            "--description",
            "what it is for",
        ],
    )?
    .ok()?;
    let listed = kms(&site, &["list"])?.ok()?;
    ensure!(
        listed.starts_with("KEY ") && listed.contains("30 d"),
        "{listed}"
    );
    let shown = kms(&site, &["show", "k"])?.ok()?;
    for words in [
        "description      what it is for",
        "type             symmetric",
        "GRANTED TO",
    ] {
        ensure!(shown.contains(words), "{words}: {shown}");
    }
    refused(
        &site,
        &["show", "nobody"],
        "`pgveil kms list` shows the keys",
    )?;
    refused(&site, &["public-key", "k"], "cannot show a public key")?;
    refused(
        &site,
        &["disable", "k", "--version", "9"],
        "has no version 9",
    )?;
    refused(&site, &["create", "a b"], "letters, digits")?;
    refused(&site, &["serve"], "has no [kms_server]")?;
    refused(
        &site,
        &["--provider", "other", "list"],
        "there is no [provider.other]",
    )?;
    Ok(())
}

/// The records of changes of local keys, the oldest first: the detail of each.
fn told(site: &Site<'_>, operation: &str) -> Result<Vec<Value>> {
    let listed = site.command("audit", &["list", "--operation", operation, "--json"])?;
    let lines = listed.ok()?;
    let mut read: Vec<Value> = { lines.lines() }
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    read.sort_by_key(|record| record["seq"].as_u64());
    Ok(read
        .into_iter()
        .map(|mut record| record["detail"].take())
        .collect())
}

#[test]
fn the_record_of_a_change_says_what_was_done_to_whom() -> Result<()> {
    let (_database, site) = site()?;
    for does in [
        &[
            "--as",
            "ada",
            "create",
            "acme",
            "--grant",
            "user:cy=describe",
        ][..],
        &["--as", "ada", "grant", "acme", "user:bob", "decrypt"],
        &[
            "--as",
            "ada",
            "grant",
            "acme",
            "user:bob",
            "decrypt,encrypt",
        ],
        &["--as", "ada", "revoke", "acme", "user:bob"],
        &["--as", "ada", "disable", "acme"],
        &["--as", "ada", "enable", "acme", "--version", "1"],
        &["--as", "ada", "schedule", "acme", "90"],
        &["--as", "ada", "schedule", "acme", "off"],
    ] {
        json(&site, does)?;
    }
    let told = told(&site, "kms.change")?;
    let expected = [
        serde_json::json!({ "deed": "create", "version": 1, "grants": [
            { "to": "user:ada", "operations": ["encrypt", "decrypt", "describe", "manage"] },
            { "to": "pgveil", "operations": ["encrypt", "decrypt", "describe"] },
            { "to": "user:cy", "operations": ["describe"] },
        ] }),
        serde_json::json!({ "deed": "grant", "to": "user:bob", "operations": ["decrypt"], "before": null }),
        serde_json::json!({ "deed": "grant", "to": "user:bob", "operations": ["encrypt", "decrypt"], "before": ["decrypt"] }),
        serde_json::json!({ "deed": "revoke", "from": "user:bob", "operations": ["encrypt", "decrypt"] }),
        serde_json::json!({ "deed": "disable-version", "version": 1 }),
        serde_json::json!({ "deed": "enable-version", "version": 1 }),
        serde_json::json!({ "deed": "schedule", "every_days": 90 }),
        serde_json::json!({ "deed": "schedule", "every_days": null }),
    ];
    ensure!(told.len() == expected.len(), "{told:?}");
    for (told, expected) in told.iter().zip(&expected) {
        let expected = expected.as_object().context("an object")?;
        for (field, value) in expected {
            ensure!(told.get(field) == Some(value), "{field}: {told}");
        }
        ensure!(told["by"] == "user:ada", "{told}");
    }
    Ok(())
}

#[test]
fn a_version_under_which_keys_stand_is_destroyed_only_with_the_loss_accepted() -> Result<()> {
    let (database, site) = site()?;
    // Nothing was sealed yet, but the audit log has begun: its key is counted as the others are.
    json(&site, &["create", "acme"])?;
    let listed = site.command("keks", &["list", "--json"])?.ok()?;
    let listed: Value = serde_json::from_str(&listed)?;
    ensure!(
        listed[0]["versions"] == serde_json::json!([{ "version": "1", "keys": 1, "scopes": 1 }]),
        "{listed}"
    );
    let destroy = ["destroy-version", "platform", "1", "--confirm", "platform"];
    refused(&site, &destroy, "the audit log's own key")?;
    refused(&site, &destroy, "--accept-loss")?;
    let left = "SELECT count(sealed) FROM pgveil.local_keks WHERE kek_id = 'platform'";
    ensure!(database.admin(left)? == "1");
    let warned = kms(&site, &["disable", "platform"])?;
    ensure!(
        warned.code == Some(0) && warned.stderr.contains("the audit log's own key"),
        "{warned:?}"
    );
    json(&site, &["enable", "platform"])?;

    // Under a version that was left nothing stands.
    let passphrase = site.etc().join("passphrase");
    let passphrase = passphrase.to_str().context("a UTF-8 path")?;
    let rotate = ["rotate", "platform", "--passphrase-file", passphrase];
    site.command("keks", &rotate)?.ok()?;
    let listed = site.command("keks", &["list", "--json"])?.ok()?;
    let listed: Value = serde_json::from_str(&listed)?;
    ensure!(listed[0]["versions"][0]["version"] == "2", "{listed}");
    json(&site, &destroy)?;
    ensure!(database.admin(left)? == "1");
    let destroy = [
        "destroy-version",
        "platform",
        "2",
        "--confirm",
        "platform",
        "--accept-loss",
    ];
    json(&site, &destroy)?;
    ensure!(database.admin(left)? == "0");
    let told = database.admin(
        "SELECT encode(record, 'escape') FROM pgveil.audit WHERE operation = 'kms.destroy' ORDER BY seq DESC LIMIT 1",
    )?;
    ensure!(
        told.contains("\"accepted_loss\"") && told.contains("\"audit_log_key\":true"),
        "{told}"
    );
    Ok(())
}

/// A command that ends at once has followed nothing: it holds the records of keys against the audit log.
#[test]
fn a_record_that_was_put_back_is_refused_even_without_its_entries() -> Result<()> {
    let (database, site) = site()?;
    kms(&site, &["create", "box"])?.ok()?;
    kms(&site, &["rotate", "box"])?.ok()?;
    database.admin("CREATE TABLE public.was AS TABLE pgveil.local_keys")?;
    kms(&site, &["disable", "box", "--version", "1"])?.ok()?;
    let put_back = "UPDATE pgveil.local_keys k SET revision = w.revision, record = w.record, mac = w.mac \
        FROM public.was w WHERE w.kek_id = k.kek_id; DELETE FROM pgveil.row_changes WHERE table_name = 'local_keys'";
    database.admin(put_back)?;
    let feed = |args: &[&str]| site.feed("kms", args, b"secret");
    let ran = feed(&["encrypt", "box"])?;
    ensure!(
        ran.code == Some(1) && ran.stderr.contains("later ones were there"),
        "{ran:?}"
    );
    database.admin(put_back)?;
    refused(&site, &["rotate", "box"], "later ones were there")?;
    // What the log lacks, nobody knows.
    database.admin(put_back)?;
    database.admin(
        "ALTER TABLE pgveil.audit DISABLE TRIGGER append_only; DELETE FROM pgveil.audit WHERE operation = 'kms.change'; \
         ALTER TABLE pgveil.audit ENABLE TRIGGER append_only",
    )?;
    let ran = feed(&["encrypt", "box"])?;
    ensure!(
        ran.code == Some(1) && ran.stderr.contains("pgveil.audit is damaged"),
        "{ran:?}"
    );
    Ok(())
}
