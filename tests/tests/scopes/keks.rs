//! New versions of KEKs: asked for, noticed and followed; keys counted under each.

use anyhow::{Result, ensure};
use pgveil_keys::audit::Operation;
use pgveil_tests::{postgres::TempPostgres, site::Site};

use super::{POLICY, TABLE, body_of, row_mac, settings, token, until};

/// Keys by version, the audit log's among them, and how many scopes have which newest epoch.
const STATE: &str = "SELECT (SELECT string_agg(kek_version || ' ' || n, ', ' ORDER BY kek_version) FROM (SELECT kek_version, count(*) n FROM \
    (SELECT kek_version FROM pgveil.keys UNION ALL SELECT kek_version FROM pgveil.audit_keys) k GROUP BY 1) v) || '; ' || \
    (SELECT string_agg(epoch || ' ' || n, ', ' ORDER BY epoch) FROM (SELECT epoch, count(*) n FROM pgveil.keys \
    WHERE state = 'active' AND purpose = 'data' GROUP BY 1) e)";

#[test]
fn a_key_encryption_key_is_rotated_by_hand_and_everything_follows() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = Site::new(&database, POLICY)?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql(
        "app",
        "INSERT INTO notes VALUES (1, 'acme', 'prod', 'a'), (2, 'globex', 'prod', 'b')",
    )?;
    ensure!(database.admin(STATE)? == "1 5; 1 2");
    let bare = site.command("keks", &["rotate", "platform"])?;
    ensure!(
        bare.code == Some(1) && bare.stderr.contains("needs a step-up token"),
        "{}",
        bare.stderr
    );
    let right = token(&site, Operation::KekRotate, "platform")?;
    let said = site
        .command("keks", &["rotate", "platform", "--token", &right])?
        .ok()?;
    // Two scopes with a data key and an index key each, and the audit log's.
    let expected = "Key \"platform\" of provider \"main\" has version 2: 5 keys wrapped anew, 2 scopes with new data keys.\n\
                    Job 1 brings their values to the new data keys; see `pgveil jobs watch 1`.\n";
    ensure!(said == expected, "{said}");
    ensure!(database.admin(STATE)? == "2 7; 2 2");
    ensure!(body_of(&proxy, "acme")? == "a");
    proxy.psql("app", "INSERT INTO notes VALUES (3, 'acme', 'prod', 'c')")?;
    drop(proxy);
    let proxy = site.serve()?;
    ensure!(body_of(&proxy, "globex")? == "b");
    let (runtime, settings) = (tokio::runtime::Runtime::new()?, settings(&site)?);
    runtime.block_on(row_mac::check_all(&database, &settings))?;
    let told = database.admin(
        "SELECT string_agg(substring(encode(record, 'escape') FROM '\"(?:step|deed)\":\"([a-z-]+)\"'), ', ' ORDER BY seq) \
         FROM pgveil.audit WHERE operation = 'kek.rotate'",
    )?;
    ensure!(told == "asked, rotate-due, begun, followed", "{told}");
    ensure!(site.command("audit", &["verify"])?.code == Some(0));
    let listed = site.command("keks", &["list"])?.ok()?;
    let mut lines = listed
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.next().unwrap_or_default();
    ensure!(
        line[..7] == ["main", "platform", "2", "7", "3", "follows", line[6]]
            && lines.next().is_none(),
        "{listed}"
    );
    Ok(())
}

/// The whole way: a new version of the KEK, wrapped keys, data keys, rows, the proof.
#[test]
fn a_new_version_reaches_the_rows_by_itself() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let mut site = Site::new(&database, POLICY)?;
    site.set("cache", "ttl", "\"1s\"")?;
    site.set("cache", "stale_max", "\"1s\"")?;
    site.set("reencrypt", "interval", "\"0s\"")?;
    site.apply()?;
    let proxy = site.serve()?;
    let rows: Vec<String> = (1..=300)
        .map(|n| format!("({n}, 'tenant {}', 'prod', 'body {n}')", n % 3))
        .collect();
    proxy.psql(
        "app",
        &format!("INSERT INTO notes VALUES {}", rows.join(", ")),
    )?;
    let before = proxy.psql("app", "SELECT body FROM notes ORDER BY id")?;
    ensure!(before.lines().count() == 300, "{before}");
    let right = token(&site, Operation::KekRotate, "platform")?;
    let said = site
        .command("keks", &["rotate", "platform", "--token", &right])?
        .ok()?;
    let done = until(|| Ok(database.admin("SELECT state FROM pgveil.jobs")? == "completed"))?;
    ensure!(done, "{said}{}", database.admin("TABLE pgveil.jobs")?);
    let epochs = database.admin(
        "SELECT string_agg(DISTINCT k.epoch::text, ',') FROM notes n \
         JOIN pgveil.keys k ON int8send(k.id) = substr(n.body::bytea, 9, 8)",
    )?;
    ensure!(epochs == "2", "{epochs}");
    ensure!(proxy.psql("app", "SELECT body FROM notes ORDER BY id")? == before);
    ensure!(
        proxy.psql(
            "app",
            "SELECT id FROM notes WHERE tenant = 'tenant 1' AND env = 'prod' AND body = 'body 7'"
        )? == "7"
    );
    ensure!(site.command("audit", &["verify"])?.code == Some(0));
    Ok(())
}

#[test]
fn a_version_that_came_by_itself_is_noticed_and_what_was_left_unfinished_is_finished() -> Result<()>
{
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = Site::new(&database, POLICY)?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql("app", "INSERT INTO notes VALUES (1, 'acme', 'prod', 'a')")?;
    let seen = "SELECT count(*) FROM pgveil.keks WHERE version = '1' AND next_version IS NULL";
    ensure!(
        until(|| Ok(database.admin(seen)? == "1"))?,
        "the KEK is not seen"
    );
    drop(proxy);
    site.kms(&["rotate", "platform"])?.ok()?;
    // As a process leaves it that is killed after it took the right.
    database.admin(
        "UPDATE pgveil.keks SET next_version = '2', began_seq = (SELECT max(seq) FROM pgveil.audit_head), \
         began_key = (SELECT last_value FROM pgveil.key_ids), lease_until = now() + interval '1 second', leased_by = 'another'",
    )?;
    let settings = settings(&site)?;
    tokio::runtime::Runtime::new()?.block_on(row_mac::reseal_keks(&database, &settings))?;
    let proxy = site.serve()?;
    let followed = "SELECT version || coalesce(next_version, '') FROM pgveil.keks";
    ensure!(
        until(|| Ok(database.admin(followed)? == "2"))?,
        "it was not followed: {}",
        database.admin("SELECT version, next_version, lease_until, leased_by FROM pgveil.keks")?
    );
    ensure!(
        database.admin(STATE)? == "2 4; 2 1",
        "{}",
        database.admin(STATE)?
    );
    ensure!(body_of(&proxy, "acme")? == "a");
    Ok(())
}

/// What a replica has seen of a KEK is older than what another one has followed.
#[test]
fn replicas_follow_a_version_once() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = Site::new(&database, POLICY)?;
    site.apply()?;
    site.serve()?
        .psql("app", "INSERT INTO notes VALUES (1, 'acme', 'prod', 'a')")?;
    // These two see version 1 when they begin.
    let (proxy, other) = (site.serve()?, site.serve()?);
    let seen = "SELECT count(*) FROM pgveil.keks WHERE version = '1' AND next_version IS NULL";
    ensure!(
        until(|| Ok(database.admin(seen)? == "1"))?,
        "the KEK is not seen"
    );
    let right = token(&site, Operation::KekRotate, "platform")?;
    let said = site.command("keks", &["rotate", "platform", "--token", &right])?;
    said.ok()?;
    // Each of them looks twice in that time.
    let looked = "SELECT clock_timestamp() > rotated_at + interval '11 s' FROM pgveil.keks";
    ensure!(
        until(|| Ok(database.admin(looked)? == "t"))?,
        "rotated late"
    );
    let followed = database.admin(
        "SELECT count(*) FROM pgveil.audit WHERE operation = 'kek.rotate' AND encode(record, 'escape') LIKE '%\"followed\"%'",
    )?;
    ensure!(followed == "1", "followed {followed} times");
    ensure!(
        database.admin(STATE)? == "2 4; 2 1",
        "{}",
        database.admin(STATE)?
    );
    ensure!(body_of(&proxy, "acme")? == "a" && body_of(&other, "acme")? == "a");
    Ok(())
}

#[test]
fn a_period_asks_for_a_new_version_once() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let mut site = Site::new(&database, POLICY)?;
    site.set("rotation", "kek_period", "\"30d\"")?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql("app", "INSERT INTO notes VALUES (1, 'acme', 'prod', 'a')")?;
    let seen = "SELECT count(*) FROM pgveil.keks";
    ensure!(
        until(|| Ok(database.admin(seen)? == "1"))?,
        "the KEK is not seen"
    );
    database.admin("UPDATE pgveil.keks SET first_seen = now() - interval '31 days'")?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(row_mac::reseal_keks(&database, &settings(&site)?))?;
    let other = site.serve()?;
    let followed =
        "SELECT version FROM pgveil.keks WHERE next_version IS NULL AND rotated_at IS NOT NULL";
    ensure!(
        until(|| Ok(database.admin(followed)? == "2"))?,
        "it was not rotated"
    );
    let told = database.admin(
        "SELECT string_agg(substring(encode(record, 'escape') FROM '\"(?:step|deed)\":\"([a-z-]+)\"'), ', ' ORDER BY seq) \
         FROM pgveil.audit WHERE operation = 'kek.rotate'",
    )?;
    ensure!(told == "due, rotate-due, begun, followed", "{told}");
    ensure!(body_of(&other, "acme")? == "a" && body_of(&proxy, "acme")? == "a");
    Ok(())
}

/// New data keys of many scopes are stored together, each with its record. What keeps one of them from being stored keeps none
/// of the others, and the rest is done when it is gone.
#[test]
fn many_scopes_get_their_next_data_keys_together_and_one_in_the_way_is_named() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = Site::new(&database, POLICY)?;
    site.apply()?;
    let rows: Vec<String> = (100..330)
        .map(|n| format!("({n}, 't{n}', 'prod', 'body {n}')"))
        .collect();
    let insert = format!("INSERT INTO notes VALUES {}", rows.join(", "));
    site.serve()?.psql("app", &insert)?;
    database.admin(
        "CREATE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$; \
         CREATE TRIGGER stop BEFORE INSERT ON pgveil.keys FOR EACH ROW \
         WHEN (NEW.scope LIKE 'tenant:t250%' AND NEW.epoch = 2) EXECUTE FUNCTION public.stop()",
    )?;
    let right = token(&site, Operation::KekRotate, "platform")?;
    let said = site.command("keks", &["rotate", "platform", "--token", &right])?;
    let named = said.stderr.contains("tenant:t250") && said.stderr.contains("not this one");
    ensure!(said.code == Some(1) && named, "{}", said.stderr);
    let epochs = "SELECT string_agg(epoch || ' ' || n, ', ' ORDER BY epoch) FROM (SELECT epoch, count(*) n FROM pgveil.keys \
        WHERE state = 'active' AND purpose = 'data' GROUP BY 1) e";
    let so_far = database.admin(epochs)?;
    ensure!(so_far == "1 1, 2 229", "{so_far}");
    database.admin("DROP FUNCTION public.stop() CASCADE")?;
    let proxy = site.serve()?;
    let followed = "SELECT version || coalesce(next_version, '') FROM pgveil.keks";
    ensure!(
        until(|| Ok(database.admin(followed)? == "2"))?,
        "it was not finished: {}",
        database.admin(epochs)?
    );
    let all = database.admin(epochs)?;
    ensure!(all == "2 230", "{all}");
    let made = database.admin(
        "SELECT count(*) || ' ' || count(DISTINCT scope) FROM pgveil.audit WHERE operation = 'dek.rotate'",
    )?;
    ensure!(made == "230 230", "{made}");
    // Three batches; in the one that t250 was in, one by one. Which that is is left to who asked for its first key first.
    let transactions = database.admin(
        "SELECT count(DISTINCT xmin::text) FROM pgveil.keys WHERE state = 'active' AND purpose = 'data'",
    )?;
    let one_by_one = ["32", "102"].contains(&&*transactions);
    ensure!(one_by_one, "{transactions}");
    let (runtime, settings) = (tokio::runtime::Runtime::new()?, settings(&site)?);
    runtime.block_on(row_mac::check_all(&database, &settings))?;
    ensure!(site.command("audit", &["verify"])?.code == Some(0));
    let read = proxy.psql("app", "SELECT body FROM notes ORDER BY id")?;
    ensure!(read.lines().count() == 230, "{read}");
    Ok(())
}

/// The row that says which version keys follow, and entries of the list of changes that would tell of an older row.
#[test]
fn rows_that_a_superuser_changed_are_told_put_right_and_not_followed() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = Site::new(&database, POLICY)?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql("app", "INSERT INTO notes VALUES (1, 'acme', 'prod', 'a')")?;
    let seen = "SELECT count(*) FROM pgveil.keks WHERE version = '1' AND mac IS NOT NULL";
    ensure!(
        until(|| Ok(database.admin(seen)? == "1"))?,
        "the KEK is not seen"
    );
    site.command("seal", &["tenant:acme"])?.ok()?;
    drop(proxy);
    site.kms(&["rotate", "platform"])?.ok()?;
    // The new version as if all keys were under it, and the scope as if it had never been sealed.
    database.admin(
        "UPDATE pgveil.keks SET version = '2'; DELETE FROM pgveil.row_changes WHERE table_name = 'scopes'; \
         UPDATE pgveil.scopes SET state = 'open', sealed_at = NULL, mac = NULL, audit_seq = NULL WHERE path = 'tenant:acme'",
    )?;
    let checked = site.command("check", &[])?;
    ensure!(
        checked.code == Some(1)
            && checked
                .stderr
                .contains("the row of key \"platform\" of provider \"main\" is refused"),
        "{checked:?}"
    );
    ensure!(
        checked
            .stderr
            .contains("the audit log is not as pgveil wrote it"),
        "{checked:?}"
    );
    let proxy = site.serve()?;
    let told = "SELECT count(*) FROM pgveil.audit WHERE operation = 'key.refuse' AND encode(record, 'escape') LIKE ";
    for what in ["'%took entries out%'", "'%MAC does not fit%pgveil.keks%'"] {
        ensure!(
            until(|| Ok(database.admin(&format!("{told}{what}"))? != "0"))?,
            "{what} is not told"
        );
    }
    let refused = body_of(&proxy, "acme")?;
    ensure!(refused.contains("lost its MAC"), "{refused}");
    ensure!(database.admin(STATE)? == "1 3; 1 1");
    database.admin("UPDATE pgveil.scopes SET state = 'sealed' WHERE path = 'tenant:acme'")?;
    site.command("seal", &["tenant:acme"])?.ok()?;
    let right = token(&site, Operation::KekRotate, "platform")?;
    let said = site.command("keks", &["rotate", "platform", "--token", &right])?;
    ensure!(
        said.stderr
            .contains("It is written anew: all keys under it"),
        "{said:?}"
    );
    said.ok()?;
    let followed = "SELECT version || coalesce(next_version, '') FROM pgveil.keks";
    ensure!(database.admin(followed)? == "3");
    let versions = database.admin("SELECT DISTINCT kek_version FROM pgveil.keys")?;
    ensure!(versions == "3", "{versions}");
    ensure!(site.command("check", &[])?.code == Some(0));
    ensure!(site.command("audit", &["verify"])?.code == Some(0));
    Ok(())
}
