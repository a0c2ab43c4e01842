//! The life of data keys as `pgveil keys` shows and changes it: the next epoch, and the end of a key that nothing uses.

use anyhow::{Result, ensure};
use pgveil_keys::audit::Operation;
use pgveil_tests::{postgres::TempPostgres, site::Site, wire::Wire};

use super::{POLICY, TABLE, body_of, row_mac, settings, token, until};

#[test]
fn a_key_is_replaced_and_destroyed_only_when_no_value_names_it() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let mut site = Site::new(&database, POLICY)?;
    site.set("cache", "ttl", "\"1s\"")?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql(
        "app",
        "INSERT INTO notes VALUES (1, 'acme', 'prod', 'first')",
    )?;
    let scope = "tenant:acme/env:prod";
    let permitted = |args: &[&str], operation: Operation| {
        let token = token(&site, operation, scope)?;
        let confirm = ["--confirm", scope, "--token", &token];
        site.command("keys", &[args, &confirm].concat())
    };
    let epoch_of = |id: u32| {
        database.admin(&format!(
            "SELECT k.epoch FROM notes n JOIN pgveil.keys k \
             ON int8send(k.id) = substr(n.body::bytea, 9, 8) WHERE n.id = {id}"
        ))
    };
    ensure!(epoch_of(1)? == "1");

    let right = token(&site, Operation::DekRotate, scope)?;
    let said = site
        .command("rotate", &[scope, "--no-rewrap", "--token", &right])?
        .ok()?;
    ensure!(
        said.starts_with("tenant:acme/env:prod: epoch 2 begins with key "),
        "{said}"
    );
    let next = until(|| {
        proxy.psql(
            "app",
            "INSERT INTO notes VALUES (2, 'acme', 'prod', 'second') \
            ON CONFLICT (id) DO UPDATE SET body = excluded.body",
        )?;
        Ok(epoch_of(2)? == "2")
    })?;
    ensure!(next, "the running proxy goes on with the old key");
    ensure!(body_of(&proxy, "acme")? == "first\nsecond");

    let listed = site.command("keys", &["list", "--json"])?.ok()?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    ensure!(
        listed["active"] == 2 && listed["decrypt_only"] == 1 && listed["destroyed"] == 0,
        "{listed:#}"
    );
    ensure!(
        listed["ending_within_72h"] == 0,
        "a retired key stays until somebody ends it: {listed:#}"
    );
    let old = database.admin("SELECT id FROM pgveil.keys WHERE purpose = 'data' AND epoch = 1")?;
    let destroy = ["destroy", &old, "--after", "0s"];
    for other in [&[][..], &["--confirm", "tenant:acme"]] {
        let slip = site.command("keys", &[&destroy[..], other].concat())?;
        ensure!(
            slip.code == Some(1) && slip.stderr.contains("tenant:acme/env:prod"),
            "it was not asked for the scope's name: {}",
            slip.stderr
        );
    }
    let used = permitted(&destroy, Operation::KeySchedule)?;
    ensure!(
        used.code == Some(1)
            && used
                .stderr
                .contains("1 values name it (1 in public.notes.body)"),
        "{}",
        used.stderr
    );
    // A copy that pgveil knows nothing of counts as well.
    database.admin(
        "CREATE TABLE kept (v bytea); INSERT INTO kept SELECT body FROM notes WHERE id = 1",
    )?;
    proxy.psql("app", "UPDATE notes SET body = 'again' WHERE id = 1")?;
    let blind = permitted(&destroy, Operation::KeySchedule)?;
    ensure!(
        blind.code != Some(0) && blind.stderr.contains("permission denied for table kept"),
        "{}",
        blind.stderr
    );
    database.admin("GRANT SELECT ON kept TO pgveil")?;
    let used = permitted(&destroy, Operation::KeySchedule)?;
    ensure!(
        used.stderr.contains("1 in public.kept.v"),
        "{}",
        used.stderr
    );
    database.admin("DROP TABLE kept")?;
    let early = permitted(&destroy, Operation::KeySchedule)?;
    ensure!(
        early.code == Some(1)
            && early.stderr.contains("it was retired at 20")
            && early.stderr.contains("try again then"),
        "{}",
        early.stderr
    );
    database.admin(&format!(
        "UPDATE pgveil.keys SET retired_at = now() - interval '1 day' WHERE id = {old}"
    ))?;
    let changed = permitted(&["destroy", &old, "--after", "7d"], Operation::KeySchedule)?;
    ensure!(
        changed.code == Some(1) && changed.stderr.contains("MAC does not fit"),
        "{}",
        changed.stderr
    );
    tokio::runtime::Runtime::new()?.block_on(row_mac::reseal(
        &database,
        &settings(&site)?,
        &old,
    ))?;

    let said = permitted(&["destroy", &old, "--after", "7d"], Operation::KeySchedule)?.ok()?;
    ensure!(said.contains("will be destroyed in 7d"), "{said}");
    let twice = permitted(&["destroy", &old], Operation::KeySchedule)?;
    ensure!(
        twice.stderr.contains("scheduled for 20"),
        "{}",
        twice.stderr
    );
    let kept = site.command("keys", &["keep", &old])?.ok()?;
    ensure!(kept == format!("Key {old} is kept.\n"), "{kept}");
    drop(proxy);
    // It has written nothing, so that it has no number; a portal of it may hold a value that was sealed long ago.
    let mut idle = Wire::connect(&database.target("app"))?;
    idle.query("BEGIN")?;
    permitted(&destroy, Operation::KeySchedule)?.ok()?;
    let listed = site
        .command(
            "keys",
            &["list", "--scope", "tenant:acme", "--values", "--json"],
        )?
        .ok()?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    let shown = |epoch: u64, field: &str| {
        let all = listed["keys"].as_array().cloned().unwrap_or_default();
        let found = all
            .iter()
            .find(|key| key["epoch"] == epoch && key["purpose"] == "data");
        found.map_or(serde_json::Value::Null, |key| key[field].clone())
    };
    ensure!(
        shown(1, "values") == 0 && shown(2, "values") == 2,
        "{listed:#}"
    );
    ensure!(
        shown(1, "state") == "decrypt_only" && shown(1, "ends_in_s") == 0,
        "{listed:#}"
    );
    ensure!(listed["ending_within_72h"] == 1, "{listed:#}");

    let settled = "SELECT NOT EXISTS (SELECT FROM pg_locks, pgveil.keys k WHERE locktype = 'virtualxid' \
         AND virtualtransaction = ANY (k.destroy_waits))";
    ensure!(database.admin(settled)? == "f");
    let waits = site.serve()?;
    body_of(&waits, "acme")?;
    drop(waits);
    ensure!(
        database.admin(&format!("SELECT state FROM pgveil.keys WHERE id = {old}"))?
            == "decrypt_only",
        "a transaction of that time still runs"
    );
    idle.query("COMMIT")?;

    let proxy = site.serve()?;
    let gone = until(|| {
        Ok(database.admin(&format!(
            "SELECT state || ' ' || (wrapped IS NULL) FROM pgveil.keys WHERE id = {old}"
        ))? == "destroyed true")
    })?;
    ensure!(gone, "it is not destroyed");
    ensure!(body_of(&proxy, "acme")? == "again\nsecond");
    let told = database.admin(
        "SELECT string_agg(operation, ',' ORDER BY seq) FROM pgveil.audit \
         WHERE operation LIKE 'key.%' OR operation = 'dek.rotate'",
    )?;
    ensure!(
        told == "dek.rotate,dek.rotate,key.schedule-destruction,key.cancel-destruction,key.schedule-destruction,key.destroy",
        "{told}"
    );
    Ok(())
}
