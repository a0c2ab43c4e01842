//! What a job cannot do for now is told by keys: no row is read for it, all else goes on, and it does not wait for ever.

use anyhow::{Context, Result, ensure};
use pgveil_keys::audit::Operation;
use pgveil_tests::{
    postgres::{Database, TempPostgres},
    site::Site,
    wire::Wire,
};
use serde_json::Value;

use crate::{
    token::token,
    world::{epochs, has_heard, json, once, quick, rotate, shown, until},
};

const TABLE: &str = "CREATE TABLE notes (id int PRIMARY KEY, tenant text NOT NULL, body text)";
const POLICY: &str = r#"public.notes  scope = "tenant:{tenant}"  body: text"#;
const ROWS: &str = "INSERT INTO notes VALUES (1, 'acme', 'one'), (2, 'globex', 'two'), (3, 'acme', 'three'), \
    (4, 'initech', 'four'), (5, 'globex', 'five')";
const MOVED: &str = "SELECT moved_at FROM pgveil.jobs";

/// Until the job has been looked at again.
fn is_looked_at(database: &Database<'_>) -> Result<()> {
    let ask = "SELECT look_at || ' ' || phase FROM pgveil.jobs";
    let before = database.admin(ask)?;
    let again = until(|| Ok((database.admin(ask)? != before).then_some(())));
    again.context("the job is looked at again")
}

fn unseal(site: &Site<'_>, scope: &str) -> Result<()> {
    let right = token(site, Operation::ScopeUnseal, scope)?;
    let args = [scope, "--token", &right];
    site.command("unseal", &args)?.ok().map(drop)
}

/// Until a job is in a phase and waits for what is sealed there.
fn is_held(database: &Database<'_>, site: &Site<'_>, job: &Value, keys: usize) -> Result<Value> {
    let in_time = until(|| {
        let held = database.admin("SELECT phase FROM pgveil.jobs")? == "held";
        let shown = shown(site, job)?;
        let of_it = shown["held_keys"].as_array().map(Vec::len) == Some(keys);
        Ok((held && of_it).then_some(shown))
    });
    in_time.with_context(|| format!("{:#}", shown(site, job).unwrap_or_default()))
}

#[test]
fn what_is_sealed_is_not_read_again_and_is_not_waited_for_without_end() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = quick(&database, POLICY)?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql("app", ROWS)?;
    for scope in ["tenant:acme", "tenant:globex", "tenant:initech"] {
        rotate(&site, scope, &["--no-rewrap"])?;
    }
    for tenant in ["acme", "initech"] {
        site.command("seal", &[&format!("tenant:{tenant}")])?.ok()?;
        let read = format!("SELECT body FROM notes WHERE tenant = '{tenant}'");
        has_heard(&proxy, &read)?;
    }
    let mut holder = Wire::connect(&database.target("app"))?;
    holder.query("BEGIN")?;
    holder.query("SELECT id FROM notes WHERE id = 5 FOR UPDATE")?;
    let args = ["platform", "--below", "--json"];
    let job = json(&site.command("rewrap", &args)?.ok()?)?["job"].clone();

    // The first pass meets all of them. The next ones look for the row that somebody has, and for nothing else.
    let only = until(|| {
        let shown = shown(&site, &job)?;
        let ended = database.admin("SELECT phase FROM pgveil.jobs")? == "retry";
        let later = ended && shown["pass"].as_i64() > Some(1);
        Ok(later.then_some(shown))
    });
    let only = only.with_context(|| format!("{:#}", shown(&site, &job).unwrap_or_default()))?;
    ensure!(only["tables"][0]["left"] == 1, "{only:#}");
    ensure!(
        only["held_keys"].as_array().map(Vec::len) == Some(2),
        "{only:#}"
    );
    holder.query("COMMIT")?;
    let held = is_held(&database, &site, &job, 2)?;
    let done = "tenant:acme 1: 2, tenant:globex 2: 2, tenant:initech 1: 1";
    ensure!(epochs(&database, "notes", "body")? == done);
    let waits = "scope tenant:acme is sealed, and 1 more like it";
    ensure!(held["waits"] == waits, "{held:#}");

    // Nothing but keys is looked at: nobody can read a row. And to look at them is not to get on.
    let settled = "SELECT settled FROM pgveil.jobs";
    until(|| Ok((database.admin(settled)? == "t").then_some(())))?;
    holder.query("BEGIN")?;
    holder.query("LOCK TABLE notes IN ACCESS EXCLUSIVE MODE")?;
    let moved = database.admin(MOVED)?;
    is_looked_at(&database)?;
    is_looked_at(&database)?;
    ensure!(database.admin(MOVED)? == moved, "it got on");
    holder.query("COMMIT")?;
    let still = shown(&site, &job)?;
    ensure!(still["pass"] == held["pass"], "{still:#}");
    let is_listed = until(|| {
        let shown = shown(&site, &job)?;
        let since = shown["moved_at"].as_str().unwrap_or("-");
        let listed = site.command("jobs", &["list"])?.ok()?;
        let said = format!("{waits} (it last got on at {since})");
        Ok(listed.contains(&said).then_some(()))
    });
    is_listed.context("the list says for what it waits, and since when")?;

    // One of them comes back, and is done at once.
    unseal(&site, "tenant:initech")?;
    let done = "tenant:acme 1: 2, tenant:globex 2: 2, tenant:initech 2: 1";
    let came = until(|| Ok((epochs(&database, "notes", "body")? == done).then_some(())));
    came.with_context(|| format!("{:#}", shown(&site, &job).unwrap_or_default()))?;
    let held = is_held(&database, &site, &job, 1)?;
    ensure!(held["waits"] == "scope tenant:acme is sealed", "{held:#}");

    // The other one does not.
    database.admin("UPDATE pgveil.jobs SET moved_at = now() - interval '8 days'")?;
    let expired = once(&site, &job, "expired")?;
    let why = "it did not get on for the time of [reencrypt] lease: scope tenant:acme is sealed";
    ensure!(expired["failure"] == why, "{expired:#}");
    unseal(&site, "tenant:acme")?;
    site.command("jobs", &["resume", &job.to_string()])?.ok()?;
    let whole = once(&site, &job, "completed")?;
    ensure!(
        whole["values_found"] == 5 && whole["values_written"] == 5 && whole["waits"].is_null(),
        "{whole:#}"
    );
    let done = "tenant:acme 2: 2, tenant:globex 2: 2, tenant:initech 2: 1";
    ensure!(epochs(&database, "notes", "body")? == done);
    Ok(())
}

/// Somebody deletes them: whoever looks after it next counts, and finds nothing left to wait for.
#[test]
fn what_is_waited_for_may_be_gone() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = quick(&database, POLICY)?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql("app", ROWS)?;
    rotate(&site, "tenant:acme", &["--no-rewrap"])?;
    site.command("seal", &["tenant:acme"])?.ok()?;
    has_heard(&proxy, "SELECT body FROM notes WHERE tenant = 'acme'")?;
    let args = ["tenant:acme", "--json"];
    let job = json(&site.command("rewrap", &args)?.ok()?)?["job"].clone();
    is_held(&database, &site, &job, 1)?;
    database.run("DELETE FROM notes WHERE tenant = 'acme'")?;
    drop(proxy);
    let _another = site.serve()?;
    once(&site, &job, "completed").map(drop)
}

/// It is no use to look at some of the values: none is looked at until all can be.
#[test]
fn a_look_at_lengths_is_held_until_every_key_can_be_had() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let policy = |n: u32| POLICY.replace("body: text", &format!("body: varchar({n})"));
    let mut site = quick(&database, &policy(20))?;
    database.run("ALTER TABLE notes ALTER COLUMN body TYPE varchar(20)")?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql("app", ROWS)?;
    site.command("seal", &["tenant:acme"])?.ok()?;
    has_heard(&proxy, "SELECT body FROM notes WHERE tenant = 'acme'")?;
    site.write_policy(&policy(5))?;
    let mut child = site.start("apply", &["--yes"])?;
    let job = until(|| {
        let id = database.admin("SELECT max(id) FROM pgveil.jobs")?;
        Ok(id.parse::<u64>().ok().map(Value::from))
    })?;
    let held = is_held(&database, &site, &job, 1)?;
    ensure!(
        held["waits"] == "scope tenant:acme is sealed" && held["kind"] == "column change",
        "{held:#}"
    );
    is_looked_at(&database)?;
    is_looked_at(&database)?;
    ensure!(shown(&site, &job)?["pass"] == held["pass"]);
    unseal(&site, "tenant:acme")?;
    once(&site, &job, "completed")?;
    ensure!(child.wait()?.success());
    let refused = until(|| {
        let said = proxy.psql("app", "INSERT INTO notes VALUES (6, 'acme', 'too long')")?;
        Ok(said.contains("value too long").then_some(()))
    });
    refused.context("the shorter length holds")
}
