//! A job's row that a superuser of the database has changed: nothing is done for it, nothing is proved by it, and it can be ended.

use anyhow::{Context, Result, ensure};
use pgveil_tests::postgres::TempPostgres;

use crate::world::{epochs, once, quick, rotate, shown, until};

const TABLE: &str = "CREATE TABLE notes (id int PRIMARY KEY, tenant text NOT NULL, body text)";
const POLICY: &str = r#"public.notes  scope = "tenant:{tenant}"  body: text"#;
const ROWS: &str = "INSERT INTO notes VALUES (1, 'acme', 'one'), (2, 'acme', 'two')";
const PROOFS: &str = "SELECT count(*) FROM pgveil.audit WHERE operation = 'job.change' \
    AND encode(record, 'escape') LIKE '%proof%'";

#[test]
fn a_job_whose_row_was_changed_proves_nothing() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = quick(&database, POLICY)?;
    site.apply()?;
    site.serve()?.psql("app", ROWS)?;
    let mut epoch = 1;
    for change in [
        r#"target = '{"horizon":0}'"#,
        "target = 'no JSON'",
        "scope = 'tenant:zz'",
        "below = NOT below",
        "kind = 'term change'",
        "kind = 'unheard of'",
        "state = 'completed'",
        "state = 'failed'",
        "reason = 'another'",
        "made_by = 'another'",
        "mac = NULL",
        "mac = '\\x00'",
    ] {
        let was = epochs(&database, "notes", "body")?;
        let proofs = database.admin(PROOFS)?;
        let job = rotate(&site, "tenant:acme", &[])?["job"].clone();
        let id = job.to_string();
        epoch += 1;
        database.admin(&format!("UPDATE pgveil.jobs SET {change} WHERE id = {id}"))?;
        let refused = format!("the row of job {id} ");

        let ran = site.command("jobs", &["run"])?;
        let is_left = !["state = 'completed'", "state = 'failed'"].contains(&change);
        ensure!(ran.code == Some(i32::from(is_left)), "{change}: {ran:?}");
        ensure!(
            ran.stderr.contains(&refused) == is_left,
            "{change}: {ran:?}"
        );
        let resumed = site.command("jobs", &["resume", &id])?;
        ensure!(
            resumed.code == Some(1) && resumed.stderr.contains(&refused),
            "{change}: {resumed:?}"
        );
        ensure!(epochs(&database, "notes", "body")? == was, "{change}");
        ensure!(database.admin(PROOFS)? == proofs, "{change}");
        ensure!(shown(&site, &job)?["is_ours"] == false, "{change}");
        for args in [&["list"][..], &["show", &id]] {
            let said = site.command("jobs", args)?.ok()?;
            ensure!(
                said.contains("refused") && said.contains("somebody else than pgveil"),
                "{change}: {said}"
            );
        }
        let watched = site.command("jobs", &["watch", &id])?;
        ensure!(
            watched.code == Some(1) && watched.stderr.contains("somebody else than pgveil"),
            "{change}: {watched:?}"
        );
        let checked = site.command("check", &[])?;
        ensure!(
            checked.code == Some(1) && checked.stderr.contains(&refused),
            "{change}: {checked:?}"
        );

        // It can be ended, and what it was for be ordered anew.
        site.command("jobs", &["cancel", &id])?.ok()?;
        let shown = shown(&site, &job)?;
        ensure!(
            shown["state"] == "cancelled" && shown["is_ours"] == true,
            "{change}: {shown:#}"
        );
        site.command("check", &[])?.ok().context(change)?;
        site.command("rewrap", &["tenant:acme"])?.ok()?;
        site.command("jobs", &["run"])?.ok().context(change)?;
        let now = epochs(&database, "notes", "body")?;
        ensure!(now == format!("tenant:acme {epoch}: 2"), "{change}: {now}");
    }
    Ok(())
}

/// In the midst of its work, while another job goes on; and a row that is gone.
#[test]
fn a_running_job_stops_and_keeps_no_other_from_its_work() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let mut site = quick(&database, POLICY)?;
    site.set("reencrypt", "interval", "\"1s\"")?;
    site.set("reencrypt", "concurrency", "1")?;
    site.set("reencrypt", "batch_size", "10")?;
    site.apply()?;
    let proxy = site.serve()?;
    let rows = "INSERT INTO notes SELECT n, 'acme', 'note' FROM generate_series(1, 100) n";
    proxy.psql("app", rows)?;
    proxy.psql("app", "INSERT INTO notes VALUES (200, 'globex', 'other')")?;
    let job = rotate(&site, "tenant:acme", &[])?["job"].clone();
    let began = || Ok((shown(&site, &job)?["values_written"].as_u64() > Some(0)).then_some(()));
    until(began)?;
    let proofs = database.admin(PROOFS)?;
    let lie = r#"UPDATE pgveil.jobs SET target = '{"horizon":0}' WHERE id = "#;
    database.admin(&format!("{lie}{job}"))?;
    let told =
        "SELECT count(*) FROM pgveil.audit WHERE operation = 'key.refuse' AND outcome = 'refused'";
    until(|| Ok((database.admin(told)? == "1").then_some(())))?;
    let other = rotate(&site, "tenant:globex", &[])?["job"].clone();
    once(&site, &other, "completed")?;
    let left = epochs(&database, "notes", "body")?;
    ensure!(left.contains("tenant:acme 1: "), "{left}");
    ensure!(left.contains("tenant:globex 2: 1"), "{left}");
    let now = database.admin(PROOFS)?;
    ensure!(now.parse::<u32>()? == proofs.parse::<u32>()? + 1, "{now}");

    // Behind it, nobody is told that it is done.
    database.admin(&format!("DELETE FROM pgveil.jobs WHERE id = {job}"))?;
    let checked = site.command("check", &[])?;
    let gone = format!("the row of job {job} is gone");
    ensure!(
        checked.code == Some(1) && checked.stderr.contains(&gone),
        "{checked:?}"
    );
    Ok(())
}
