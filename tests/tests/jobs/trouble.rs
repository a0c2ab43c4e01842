//! What keeps a job from its end: seals, damage, triggers, copies that nobody can write.

use anyhow::{Context, Result, ensure};
use pgveil_keys::audit::Operation;
use pgveil_tests::postgres::{Options, TempPostgres};

use crate::{
    token::token,
    world::{epochs, has_heard, json, once, quick, rotate, shown, until},
};

const TABLE: &str = "CREATE TABLE notes (id int PRIMARY KEY, tenant text NOT NULL, body text, touched int DEFAULT 0)";
const POLICY: &str = r#"public.notes  scope = "tenant:{tenant}"  body: text"#;
const ROWS: &str = "INSERT INTO notes (id, tenant, body) VALUES (1, 'acme', 'one'), (2, 'globex', 'two'), (3, 'acme', 'three'), (4, 'acme', 'four')";

#[test]
fn a_sealed_scope_is_waited_for_while_the_others_are_done() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = quick(&database, POLICY)?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql("app", ROWS)?;
    for scope in ["tenant:acme", "tenant:globex"] {
        rotate(&site, scope, &["--no-rewrap"])?;
    }
    site.command("seal", &["tenant:acme"])?.ok()?;
    has_heard(
        &proxy,
        "SELECT body FROM notes WHERE tenant = 'acme' LIMIT 1",
    )?;
    let queued = json(
        &site
            .command("rewrap", &["platform", "--below", "--json"])?
            .ok()?,
    )?;
    let waits = until(|| {
        let job = shown(&site, &queued["job"])?;
        let waits = job["waits"]
            .as_str()
            .unwrap_or_default()
            .contains("tenant:acme is sealed");
        Ok(waits.then_some(job))
    });
    let waits =
        waits.with_context(|| format!("{:#}", shown(&site, &queued["job"]).unwrap_or_default()))?;
    ensure!(waits["state"] == "running", "{waits:#}");
    let done = "tenant:acme 1: 3, tenant:globex 2: 1";
    let others = until(|| Ok((epochs(&database, "notes", "body")? == done).then_some(())));
    others.with_context(|| epochs(&database, "notes", "body").unwrap_or_default())?;
    let right = token(&site, Operation::ScopeUnseal, "tenant:acme")?;
    site.command("unseal", &["tenant:acme", "--token", &right])?
        .ok()?;
    once(&site, &queued["job"], "completed")?;
    ensure!(epochs(&database, "notes", "body")? == "tenant:acme 2: 3, tenant:globex 2: 1");
    Ok(())
}

#[test]
fn what_does_not_open_is_named_when_all_else_is_done() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = quick(&database, POLICY)?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql("app", ROWS)?;
    database.admin(
        "UPDATE notes SET body = set_byte(body::bytea, octet_length(body) - 1, get_byte(body::bytea, octet_length(body) - 1) # 1) WHERE id = 3",
    )?;
    let rotated = rotate(&site, "tenant:acme", &[])?;
    let job = once(&site, &rotated["job"], "failed")?;
    let why = job["failure"].as_str().unwrap_or_default();
    ensure!(why.starts_with("1 values do not open; all others were done. public.notes.body, row with id = 3: the sealed value of column "), "{why}");
    ensure!(
        epochs(&database, "notes", "body")?
            == "tenant:acme 1: 1, tenant:acme 2: 2, tenant:globex 1: 1"
    );
    let watched = site.command("jobs", &["watch", &job["id"].to_string()])?;
    ensure!(
        watched.code == Some(1) && watched.stderr.contains("id = 3"),
        "{}",
        watched.stderr
    );
    proxy.psql("app", "UPDATE notes SET body = 'mended' WHERE id = 3")?;
    site.command("jobs", &["resume", &job["id"].to_string()])?
        .ok()?;
    once(&site, &rotated["job"], "completed")?;
    Ok(())
}

#[test]
fn triggers_fire_only_where_that_was_chosen() -> Result<()> {
    // Rights on parameters are the server's, not a database's.
    let server = TempPostgres::start(&Options::default())?;
    let database = server.database()?;
    database.run(TABLE)?;
    let mut site = quick(&database, POLICY)?;
    site.apply()?;
    database.run(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.touched := NEW.touched + 1; RETURN NEW; END $$; \
         CREATE TRIGGER touch BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION touch()",
    )?;
    site.serve()?.psql("app", ROWS)?;
    let rotated = {
        let _proxy = site.serve()?;
        let rotated = rotate(&site, "tenant:acme", &[])?;
        let job = once(&site, &rotated["job"], "failed")?;
        let why = job["failure"].as_str().unwrap_or_default();
        ensure!(
            why.contains("public.notes has triggers or rules on UPDATE")
                && why.contains("triggers = \"fire\""),
            "{why}"
        );
        rotated
    };
    ensure!(epochs(&database, "notes", "body")? == "tenant:acme 1: 3, tenant:globex 1: 1");
    site.set("reencrypt", "triggers", "\"fire\"")?;
    let _proxy = site.serve()?;
    site.command("jobs", &["resume", &rotated["job"].to_string()])?
        .ok()?;
    once(&site, &rotated["job"], "completed")?;
    ensure!(database.admin("SELECT sum(touched) FROM notes")? == "3");
    Ok(())
}

#[test]
fn copies_in_materialized_views_are_named_and_a_row_that_is_refused_too() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let mut site = quick(&database, POLICY)?;
    site.set("reencrypt", "max_retries", "1")?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql("app", ROWS)?;
    database.run("CREATE MATERIALIZED VIEW kept AS SELECT id, body FROM notes")?;
    // A constraint that some row does not meet any more.
    database.run("ALTER TABLE notes ADD CONSTRAINT late CHECK (id <> 4) NOT VALID")?;
    let rotated = rotate(&site, "tenant:acme", &[])?;
    let job = once(&site, &rotated["job"], "failed")?;
    let why = job["failure"].as_str().unwrap_or_default();
    ensure!(
        why.contains("table public.notes, row with id = 4: ") && why.contains("\"late\""),
        "{why}"
    );
    database.run("ALTER TABLE notes DROP CONSTRAINT late")?;
    let id = rotated["job"].to_string();
    site.command("jobs", &["resume", &id])?.ok()?;
    let job = once(&site, &rotated["job"], "failed")?;
    let why = job["failure"].as_str().unwrap_or_default();
    ensure!(
        why.contains("public.kept (3)") && why.contains("REFRESH MATERIALIZED VIEW"),
        "{why}"
    );
    database.run("REFRESH MATERIALIZED VIEW kept")?;
    site.command("jobs", &["resume", &id])?.ok()?;
    once(&site, &rotated["job"], "completed")?;
    ensure!(epochs(&database, "kept", "body")? == "tenant:acme 2: 3, tenant:globex 1: 1");
    Ok(())
}
