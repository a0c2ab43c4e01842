//! Scopes that are sealed, unsealed or erased while a job is in the middle of them: the job waits and says for what, all else goes
//! on, nothing is answered wrongly, and in the end everything is counted.

use anyhow::{Context, Result, ensure};
use pgveil_keys::audit::Operation;
use pgveil_tests::{
    postgres::{Database, TempPostgres},
    proxy::Proxy,
    site::Site,
    wire::Wire,
};
use serde_json::Value;

use crate::{
    token::token,
    world::{epochs, has_heard, json, once, quick, rotate, shown, until},
};

const TABLE: &str = "CREATE TABLE people (id int PRIMARY KEY, tenant text NOT NULL, env text NOT NULL, email text); \
    CREATE UNIQUE INDEX people_email_key ON people (tenant, env, email)";
const POLICY: &str =
    r#"public.people  scope = "tenant:{tenant}/env:{env}"  email: text, search = ["equality"]"#;
const ROWS: &str = "INSERT INTO people VALUES (1, 'acme', 'prod', 'ada'), (2, 'acme', 'prod', 'eve'), \
    (3, 'acme', 'dev', 'ada'), (4, 'globex', 'prod', 'ada')";

fn world<'a>(database: &Database<'a>) -> Result<(Site<'a>, Proxy)> {
    database.run(TABLE)?;
    let site = quick(database, POLICY)?;
    site.apply()?;
    let proxy = site.serve()?;
    let said = proxy.psql("app", ROWS)?;
    ensure!(said == "INSERT 0 4", "{said}");
    Ok((site, proxy))
}

/// Somebody who has rows: a job passes them over until they are let go.
fn holding(database: &Database<'_>, ids: &str) -> Result<Wire> {
    let mut holder = Wire::connect(&database.target("app"))?;
    holder.query("BEGIN")?;
    holder.query(&format!(
        "SELECT id FROM people WHERE id IN ({ids}) FOR UPDATE"
    ))?;
    Ok(holder)
}

fn seal(site: &Site<'_>, scope: &str) -> Result<()> {
    site.command("seal", &[scope])?.ok().map(drop)
}

/// Until each of them has heard of a seal.
fn have_heard(proxies: &[&Proxy], scopes: &[(&str, &str)]) -> Result<()> {
    for proxy in proxies {
        for scope in scopes {
            has_heard(proxy, &asked(*scope, "ada"))?;
        }
    }
    Ok(())
}

fn unseal(site: &Site<'_>, scope: &str) -> Result<()> {
    let right = token(site, Operation::ScopeUnseal, scope)?;
    let args = [scope, "--token", &right];
    site.command("unseal", &args)?.ok().map(drop)
}

fn erase(site: &Site<'_>, scope: &str) -> Result<()> {
    let right = token(site, Operation::ScopeErase, scope)?;
    let args = ["erase", scope, "--confirm", scope, "--token", &right];
    site.command("scopes", &args)?.ok().map(drop)
}

fn rotate_index_keys(site: &Site<'_>, scope: &str) -> Result<Value> {
    let right = token(site, Operation::IndexRotate, scope)?;
    let args = [scope, "--index-key", "--below", "--json", "--token", &right];
    Ok(json(&site.command("rotate", &args)?.ok()?)?["job"].clone())
}

/// Until the job runs, and waits for a scope whose name begins so.
fn waits_for(site: &Site<'_>, job: &Value, scope: &str) -> Result<()> {
    let named = format!("scope {scope}");
    let in_time = until(|| {
        let shown = shown(site, job)?;
        let waits = shown["waits"].as_str().unwrap_or_default();
        let sealed = waits.starts_with(&named) && waits.contains(" is sealed");
        Ok((sealed && shown["state"] == "running").then_some(()))
    });
    in_time.with_context(|| format!("{:#}", shown(site, job).unwrap_or_default()))
}

/// Until what an administrator asks is answered so.
fn comes_to(database: &Database<'_>, sql: &str, right: &str) -> Result<()> {
    let in_time = until(|| Ok((database.admin(sql)? == right).then_some(())));
    in_time.with_context(|| format!("{sql}: {}", database.admin(sql).unwrap_or_default()))
}

const STEP: &str = "SELECT coalesce(max(change), 'done') FROM pgveil.columns";
/// Values with a former term, and with one of a job's.
const TERMS: &str = "SELECT count(*) FILTER (WHERE get_byte(email, 16) & 1 = 1) || ' ' || \
    count(*) FILTER (WHERE get_byte(email, 16) & 8 = 8) FROM people";

fn found(proxy: &Proxy, scope: (&str, &str), email: &str) -> Result<String> {
    proxy.psql("app", &asked(scope, email))
}

fn asked((tenant, env): (&str, &str), email: &str) -> String {
    format!(
        "SELECT id FROM people WHERE tenant = '{tenant}' AND env = '{env}' AND email = '{email}'"
    )
}

/// What holds for a scope that is not sealed, whatever step a job is at: `id` is its row with `ada`.
fn goes_on(proxy: &Proxy, scope: (&str, &str), id: &str) -> Result<()> {
    let ada = found(proxy, scope, "ada")?;
    ensure!(ada == id, "{scope:?}: {ada}");
    let nobody = found(proxy, scope, "nobody")?;
    ensure!(nobody.is_empty(), "{scope:?}: {nobody}");
    let (tenant, env) = scope;
    let again = proxy.psql(
        "app",
        &format!("INSERT INTO people VALUES (99, '{tenant}', '{env}', 'ada')"),
    )?;
    ensure!(again.contains("duplicate key value"), "{scope:?}: {again}");
    let both = proxy.psql(
        "app",
        &format!(
            "INSERT INTO people VALUES (98, '{tenant}', '{env}', 'bob'); \
             SELECT id FROM people WHERE tenant = '{tenant}' AND env = '{env}' AND email = 'bob'; \
             DELETE FROM people WHERE tenant = '{tenant}' AND env = '{env}' AND email = 'bob'"
        ),
    )?;
    ensure!(both == "INSERT 0 1\n98\nDELETE 1", "{scope:?}: {both}");
    Ok(())
}

fn is_refused(proxy: &Proxy, scope: (&str, &str), why: &str) -> Result<()> {
    let said = found(proxy, scope, "ada")?;
    ensure!(
        said.contains("PV002") && said.contains(why),
        "{scope:?}: {said}"
    );
    let (tenant, env) = scope;
    let said = proxy.psql(
        "app",
        &format!("INSERT INTO people VALUES (97, '{tenant}', '{env}', 'zoe')"),
    )?;
    ensure!(said.contains("PV002"), "{scope:?}: {said}");
    Ok(())
}

const ACME: (&str, &str) = ("acme", "prod");
const DEV: (&str, &str) = ("acme", "dev");
const GLOBEX: (&str, &str) = ("globex", "prod");

/// The record of a job's end.
fn proof(database: &Database<'_>) -> Result<String> {
    database.admin(
        "SELECT encode(record, 'escape') FROM pgveil.audit WHERE operation = 'job.change' ORDER BY seq DESC LIMIT 1",
    )
}

#[test]
fn index_keys_are_rotated_around_seals_in_the_middle_of_each_walk() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    let (site, proxy) = world(&database)?;
    let other = site.serve()?;
    let mut holder = holding(&database, "1, 3")?;
    let job = rotate_index_keys(&site, "tenant:acme")?;
    // Values get their second terms, but for two, of the scopes below one that is sealed then.
    comes_to(&database, TERMS, "4 2")?;
    seal(&site, "tenant:acme")?;
    have_heard(&[&proxy, &other], &[ACME, DEV])?;
    holder.query("COMMIT")?;
    waits_for(&site, &job, "tenant:acme/env:")?;
    ensure!(database.admin(STEP)? == "turning");
    for proxy in [&proxy, &other] {
        is_refused(proxy, ACME, "is sealed")?;
        is_refused(proxy, DEV, "is sealed")?;
        goes_on(proxy, GLOBEX, "4")?;
    }
    unseal(&site, "tenant:acme")?;
    comes_to(&database, STEP, "turned")?;

    // One of them again, between the two walks: the step needs no key, and the next one does.
    seal(&site, "tenant:acme/env:dev")?;
    comes_to(&database, STEP, "clearing")?;
    waits_for(&site, &job, "tenant:acme/env:dev")?;
    comes_to(&database, TERMS, "1 4")?;
    for proxy in [&proxy, &other] {
        is_refused(proxy, DEV, "is sealed")?;
        goes_on(proxy, ACME, "1")?;
        goes_on(proxy, GLOBEX, "4")?;
    }
    unseal(&site, "tenant:acme/env:dev")?;
    let done = once(&site, &job, "completed")?;
    ensure!(done["waits"].is_null(), "{done:#}");
    ensure!(database.admin(TERMS)? == "0 4");
    // A process that has heard of none of it.
    for proxy in [&proxy, &other, &site.serve()?] {
        goes_on(proxy, ACME, "1")?;
        goes_on(proxy, DEV, "3")?;
        goes_on(proxy, GLOBEX, "4")?;
        ensure!(found(proxy, ACME, "eve")? == "2");
    }
    let proof = proof(&database)?;
    let values = proof.contains("completed") && proof.contains("\"values\":0");
    ensure!(values && proof.contains("\"columns_of_it\":1"), "{proof}");
    Ok(())
}

#[test]
fn scopes_that_are_erased_in_the_middle_of_a_rotation_keep_only_their_own_rows() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    let (site, proxy) = world(&database)?;
    let mut holder = holding(&database, "3")?;
    let job = rotate_index_keys(&site, "tenant:acme")?;
    comes_to(&database, TERMS, "4 3")?;
    seal(&site, "tenant:acme/env:dev")?;
    have_heard(&[&proxy], &[DEV])?;
    holder.query("COMMIT")?;
    waits_for(&site, &job, "tenant:acme/env:dev")?;
    erase(&site, "tenant:acme/env:dev")?;
    let failed = once(&site, &job, "failed")?;
    let why = failed["failure"].as_str().unwrap_or_default();
    ensure!(
        why.starts_with("1 values do not open") && why.contains("row with id = 3"),
        "{why}"
    );
    is_refused(&proxy, DEV, "")?;
    goes_on(&proxy, ACME, "1")?;
    // It begins anew while its row of before is there: that one is neither found nor in the way.
    unseal(&site, "tenant:acme/env:dev")?;
    let anew = "INSERT INTO people VALUES (5, 'acme', 'dev', 'ada')";
    let written = until(|| Ok((proxy.psql("app", anew)? == "INSERT 0 1").then_some(())));
    written.context("the erased scope begins anew")?;
    goes_on(&proxy, DEV, "5")?;
    let read = proxy.psql("app", "SELECT email FROM people WHERE id = 3")?;
    ensure!(
        read.contains("PV002") && read.contains("was destroyed"),
        "{read}"
    );
    let deleted = proxy.psql("app", "DELETE FROM people WHERE id = 3")?;
    ensure!(deleted == "DELETE 1", "{deleted}");
    site.command("jobs", &["resume", &job.to_string()])?.ok()?;

    // And another one, whose values have both terms: it is gone before the former ones are taken out.
    comes_to(&database, STEP, "turned")?;
    erase(&site, "tenant:acme/env:prod")?;
    let failed = once(&site, &job, "failed")?;
    let why = failed["failure"].as_str().unwrap_or_default();
    ensure!(
        why.starts_with("2 values do not open") && why.contains("row with id = 2"),
        "{why}"
    );
    ensure!(database.admin(STEP)? == "clearing");
    goes_on(&proxy, DEV, "5")?;
    goes_on(&proxy, GLOBEX, "4")?;
    let deleted = proxy.psql("app", "DELETE FROM people WHERE id IN (1, 2)")?;
    ensure!(deleted == "DELETE 2", "{deleted}");
    site.command("jobs", &["resume", &job.to_string()])?.ok()?;
    once(&site, &job, "completed")?;
    for proxy in [&proxy, &site.serve()?] {
        goes_on(proxy, DEV, "5")?;
        goes_on(proxy, GLOBEX, "4")?;
    }
    ensure!(database.admin(TERMS)? == "0 2");
    Ok(())
}

#[test]
fn a_rewrap_goes_on_around_seals_and_erasures() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    let (site, proxy) = world(&database)?;
    let before = "tenant:acme/env:dev 1: 1, tenant:acme/env:prod 1: 2, tenant:globex/env:prod 1: 1";
    ensure!(epochs(&database, "people", "email")? == before);
    let mut holder = holding(&database, "1, 3")?;
    let job = rotate(&site, "platform", &["--below"])?["job"].clone();
    let begun = "tenant:acme/env:dev 1: 1, tenant:acme/env:prod 1: 1, tenant:acme/env:prod 2: 1, tenant:globex/env:prod 2: 1";
    until(|| Ok((epochs(&database, "people", "email")? == begun).then_some(())))?;
    seal(&site, "tenant:acme")?;
    have_heard(&[&proxy], &[ACME, DEV])?;
    holder.query("COMMIT")?;
    waits_for(&site, &job, "tenant:acme/env:")?;
    ensure!(epochs(&database, "people", "email")? == begun);
    is_refused(&proxy, ACME, "is sealed")?;
    goes_on(&proxy, GLOBEX, "4")?;
    unseal(&site, "tenant:acme")?;
    let done = once(&site, &job, "completed")?;
    ensure!(
        done["values_found"] == 4 && done["values_written"] == 4,
        "{done:#}"
    );
    let whole = "tenant:acme/env:dev 2: 1, tenant:acme/env:prod 2: 2, tenant:globex/env:prod 2: 1";
    ensure!(epochs(&database, "people", "email")? == whole);

    // Erased instead: its value is nobody's to write any more, and the job does not wait for it.
    let mut holder = holding(&database, "1, 3")?;
    let job = rotate(&site, "tenant:acme", &["--below"])?["job"].clone();
    let begun = "tenant:acme/env:dev 2: 1, tenant:acme/env:prod 2: 1, tenant:acme/env:prod 3: 1, tenant:globex/env:prod 2: 1";
    until(|| Ok((epochs(&database, "people", "email")? == begun).then_some(())))?;
    seal(&site, "tenant:acme/env:dev")?;
    have_heard(&[&proxy], &[DEV])?;
    holder.query("COMMIT")?;
    waits_for(&site, &job, "tenant:acme/env:dev")?;
    goes_on(&proxy, ACME, "1")?;
    erase(&site, "tenant:acme/env:dev")?;
    let erased = "SELECT count(*) FROM pgveil.audit WHERE operation = 'scope.erase' \
        AND encode(record, 'escape') LIKE '%\"lost\":{\"columns\":1,\"values\":1}%'";
    ensure!(database.admin(erased)? == "1");
    let done = once(&site, &job, "completed")?;
    ensure!(
        done["values_found"] == 3 && done["values_written"] == 2,
        "{done:#}"
    );
    let left = "tenant:acme/env:dev 2: 1, tenant:acme/env:prod 3: 2, tenant:globex/env:prod 2: 1";
    ensure!(epochs(&database, "people", "email")? == left);
    // What is proved is about keys that there are.
    let proof = proof(&database)?;
    let said = proof.contains("\"old_keys\":2") && proof.contains("\"values\":0");
    ensure!(said && proof.contains("\"values_written\":2"), "{proof}");
    unseal(&site, "tenant:acme/env:dev")?;
    let anew = "INSERT INTO people VALUES (5, 'acme', 'dev', 'ada')";
    until(|| Ok((proxy.psql("app", anew)? == "INSERT 0 1").then_some(())))?;
    for proxy in [&proxy, &site.serve()?] {
        goes_on(proxy, ACME, "1")?;
        goes_on(proxy, DEV, "5")?;
        goes_on(proxy, GLOBEX, "4")?;
    }
    Ok(())
}

/// A process that hears of an erasure only when the scope is open again has the keys of before in memory: what it writes must
/// be found by the others.
#[test]
fn an_erasure_that_was_slept_through_is_noticed() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    // Its keys stay in memory all the time.
    let site = Site::new(&database, POLICY)?;
    site.apply()?;
    let (sleeper, proxy) = (site.serve()?, site.serve()?);
    let said = sleeper.psql("app", ROWS)?;
    ensure!(said == "INSERT 0 4", "{said}");
    sleeper.process().signal("STOP")?;
    erase(&site, "tenant:acme/env:dev")?;
    unseal(&site, "tenant:acme/env:dev")?;
    let deleted = proxy.psql("app", "DELETE FROM people WHERE id = 3")?;
    ensure!(deleted == "DELETE 1", "{deleted}");
    let anew = "INSERT INTO people VALUES (5, 'acme', 'dev', 'ada')";
    until(|| Ok((proxy.psql("app", anew)? == "INSERT 0 1").then_some(())))?;
    sleeper.process().signal("CONT")?;
    until(|| {
        let noticed = sleeper.log().contains("scopes were sealed or erased");
        Ok(noticed.then_some(()))
    })?;
    goes_on(&sleeper, DEV, "5")?;
    let written = sleeper.psql("app", "INSERT INTO people VALUES (6, 'acme', 'dev', 'eve')")?;
    ensure!(written == "INSERT 0 1", "{written}");
    for proxy in [&proxy, &sleeper] {
        ensure!(found(proxy, DEV, "eve")? == "6");
    }
    goes_on(&proxy, DEV, "5")
}

/// More old keys than are named in each statement; and values of other scopes from before the rotation.
#[test]
fn a_rewrap_of_more_keys_than_it_names_comes_to_its_end() -> Result<()> {
    const SCOPES: usize = 1005;
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run("CREATE TABLE people (id int PRIMARY KEY, tenant text NOT NULL, env text NOT NULL, email text)")?;
    let policy = r#"public.people  scope = "tenant:{tenant}/env:{env}"  email: text"#;
    let site = quick(&database, policy)?;
    site.apply()?;
    let proxy = site.serve()?;
    let mut rows: Vec<String> = (0..SCOPES)
        .map(|n| format!("({n}, 'acme', 'e{n}', 'ada')"))
        .collect();
    rows.push(format!("({SCOPES}, 'globex', 'prod', 'ada')"));
    let insert = format!("INSERT INTO people VALUES {}", rows.join(", "));
    let said = proxy.psql("app", &insert)?;
    ensure!(said == format!("INSERT 0 {}", SCOPES + 1), "{said}");
    let job = rotate(&site, "tenant:acme", &["--below"])?["job"].clone();
    let done = once(&site, &job, "completed")?;
    ensure!(
        done["values_found"] == SCOPES && done["values_written"] == SCOPES,
        "{done:#}"
    );
    let by_epoch = "SELECT string_agg(line, ', ' ORDER BY line) FROM (SELECT split_part(k.scope, '/', 1) || ' ' || k.epoch || ': ' || count(*) AS line \
        FROM people t LEFT JOIN pgveil.keys k ON int8send(k.id) = substr(t.email::bytea, 9, 8) GROUP BY split_part(k.scope, '/', 1), k.epoch) lines";
    let found = database.admin(by_epoch)?;
    ensure!(
        found == format!("tenant:acme 2: {SCOPES}, tenant:globex 1: 1"),
        "{found}"
    );
    let read = proxy.psql("app", "SELECT count(*) FROM people WHERE email IS NOT NULL; SELECT email FROM people WHERE id = 700")?;
    ensure!(read == format!("{}\nada", SCOPES + 1), "{read}");
    Ok(())
}
