//! Policy changes over values that are sealed already, while applications write through two replicas: one that was started with
//! the policy before, one with the policy after.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use pgveil_tests::{
    postgres::{Database, TempPostgres},
    proxy::Proxy,
    site::Site,
};
use tokio_postgres::{Client, error::SqlState};

const TABLE: &str = "CREATE TABLE people (id int PRIMARY KEY, tenant int NOT NULL, email text, n int NOT NULL DEFAULT 0)";
const SILENT: &str = r#"public.people  scope = "tenant:{tenant}"   email: text"#;
const SEARCH: &str = "SELECT id FROM people WHERE tenant = 1 AND email = 'fixed@example.com'";
const SEARCHED: &str =
    r#"public.people  scope = "tenant:{tenant}"   email: text, search = ["equality"]"#;

/// Values without an equality term, and with one.
const BY_TERM: &str = "SELECT count(*) FILTER (WHERE get_byte(email, 16) = 0) || ' ' || \
    count(*) FILTER (WHERE get_byte(email, 16) = 1) FROM people";

/// What an application has been told is written, by row: what it read last is what it must read again.
type Written = BTreeMap<i32, String>;

/// Writes rows of its own, `from` to `from + 50`, through one replica until it is told to stop; a statement that is refused as
/// one to try again is tried again.
async fn write_until(client: Client, from: i32, stop: Arc<AtomicBool>) -> Result<Written> {
    let mut written = Written::new();
    let insert = "INSERT INTO people (id, tenant, email) VALUES ($1, $2, $3)";
    let (insert, update, delete) = (
        client.prepare(insert).await?,
        client
            .prepare("UPDATE people SET email = $1 WHERE id = $2 AND tenant = $3")
            .await?,
        client.prepare("DELETE FROM people WHERE id = $1").await?,
    );
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let id = from + round % 50;
        let tenant = id % 3;
        let email = format!("{id}-{round}@example.com");
        let done = match written.contains_key(&id) {
            false => client.execute(&insert, &[&id, &tenant, &email]).await,
            true if round % 7 == 0 => client.execute(&delete, &[&id]).await,
            true if round % 5 == 0 => {
                // Not a word about the value: the row moves as it is.
                client
                    .execute("UPDATE people SET n = n + 1 WHERE id = $1", &[&id])
                    .await
            }
            true => client.execute(&update, &[&email, &id, &tenant]).await,
        };
        match done {
            Ok(1) if written.contains_key(&id) && round % 7 == 0 => {
                written.remove(&id);
            }
            Ok(1) if written.contains_key(&id) && round % 5 == 0 => {}
            Ok(1) => {
                written.insert(id, email);
            }
            Ok(rows) => bail!("row {id}: {rows} rows"),
            Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {}
            Err(error) => bail!("row {id}: {error:?}"),
        }
        client.batch_execute("SELECT pg_sleep(0.002)").await?;
    }
    Ok(written)
}

/// Searches all the time: each answer is the row, or a refusal. Answers how often there was an answer.
async fn search_until(client: Client, stop: Arc<AtomicBool>) -> Result<(u64, u64)> {
    let (mut answered, mut refused) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        match client.query(SEARCH, &[]).await {
            Ok(rows) => {
                let ids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
                ensure!(ids == [1], "{ids:?}");
                answered += 1;
            }
            Err(error) => {
                let code = error.code().context("the server's word")?.code().to_owned();
                ensure!(["0A000", "40001"].contains(&code.as_str()), "{error:?}");
                refused += 1;
            }
        }
        client.batch_execute("SELECT pg_sleep(0.005)").await?;
    }
    Ok((answered, refused))
}

struct World<'a> {
    database: Database<'a>,
    site: Site<'a>,
    old: Proxy,
    new: Proxy,
}

/// Rows under the policy before, one replica of it, and one of the policy after.
fn world<'a>(server: &'a TempPostgres, before: &str, after: &str) -> Result<World<'a>> {
    world_at(server, before, after, ("0s", 100))
}

/// The same, where jobs pause so long behind so many rows.
fn world_at<'a>(
    server: &'a TempPostgres,
    before: &str,
    after: &str,
    (pause, rows): (&str, u32),
) -> Result<World<'a>> {
    let database = server.database()?;
    database.run(TABLE)?;
    let mut site = Site::new(&database, before)?;
    site.set("reencrypt", "interval", &format!("\"{pause}\""))?;
    site.set("reencrypt", "batch_size", &rows.to_string())?;
    site.apply()?;
    let old = site.serve()?;
    old.psql(
        "app",
        "INSERT INTO people VALUES (1, 1, 'fixed@example.com'), (2, 2, NULL)",
    )?;
    let mut rows = String::from("INSERT INTO people (id, tenant, email) VALUES (3, 0, 'three')");
    for id in 4..400 {
        rows.push_str(&format!(", ({id}, {}, 'mail{id}@example.com')", id % 3));
    }
    old.psql("app", &rows)?;
    site.write_policy(after)?;
    let new = site.serve()?;
    Ok(World {
        database,
        site,
        old,
        new,
    })
}

/// Waits until a replica answers so: it follows what the registry says within seconds.
fn follows(proxy: &Proxy, sql: &str, answer: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let said = proxy.psql("app", sql)?;
        let is_refusal = said.starts_with("ERROR") && answer.contains(' ');
        if said.starts_with(answer) || is_refusal && said.contains(answer) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{said}");
    }
}

/// Waits until the job has described the column as getting terms.
fn begins(world: &World<'_>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while world.database.admin("SELECT change FROM pgveil.columns")? != "adding terms" {
        ensure!(Instant::now() < deadline, "the job does not begin");
    }
    Ok(())
}

/// Runs `apply` while applications write and search through both replicas; afterwards every row is what was written last.
fn change_under_load(world: &World<'_>, settled: &str) -> Result<(String, (u64, u64))> {
    let runtime = tokio::runtime::Runtime::new()?;
    let stop = Arc::new(AtomicBool::new(false));
    let (old, new) = (&world.old, &world.new);
    new.psql("app", "DELETE FROM people WHERE id >= 1000")?;
    let (applied, written, searched) = runtime.block_on(async {
        let mut writers = Vec::new();
        for (at, proxy) in [old, new, old, new].into_iter().enumerate() {
            let client = proxy.connect("app").await?;
            let from = 1000 + 100 * at as i32;
            writers.push(tokio::spawn(write_until(client, from, Arc::clone(&stop))));
        }
        let mut readers = Vec::new();
        for proxy in [old, new] {
            let client = proxy.connect("app").await?;
            readers.push(tokio::spawn(search_until(client, Arc::clone(&stop))));
        }
        let applied = tokio::task::block_in_place(|| world.site.apply());
        let followed = tokio::task::block_in_place(|| {
            follows(old, SEARCH, settled)?;
            follows(new, SEARCH, settled)
        });
        stop.store(true, Ordering::Relaxed);
        let (mut written, mut searched) = (Written::new(), (0, 0));
        for writer in writers {
            written.extend(writer.await??);
        }
        for reader in readers {
            let (answered, refused) = reader.await??;
            searched = (searched.0 + answered, searched.1 + refused);
        }
        followed?;
        anyhow::Ok((applied, written, searched))
    })?;
    let read = new.psql(
        "app",
        "SELECT id || ' ' || n, email FROM people WHERE id >= 1000 ORDER BY id",
    )?;
    let read: Written = read
        .lines()
        .map(|line| {
            let (id, email) = line.split_once('|').context("two columns")?;
            let id = id.split(' ').next().context("an id")?;
            Ok((id.parse()?, email.to_owned()))
        })
        .collect::<Result<_>>()?;
    ensure!(
        !written.is_empty() && read == written,
        "{read:?}\n{written:?}"
    );
    Ok((applied?, searched))
}

#[test]
fn terms_are_added_and_dropped_while_the_table_is_used() -> Result<()> {
    let server = TempPostgres::shared()?;
    let mut world = world(server, SILENT, SEARCHED)?;
    let refused = world.new.psql(
        "app",
        "SELECT id FROM people WHERE tenant = 1 AND email = 'fixed@example.com'",
    )?;
    ensure!(refused.contains("has no equality terms"), "{refused}");
    let plan = world.site.command("plan", &[])?.ok()?;
    ensure!(
        plan.contains("column public.people.email  gets search terms"),
        "{plan}"
    );
    ensure!(
        plan.contains("index people_email_eq_idx  (pgveil.eq_term(email), tenant)"),
        "{plan}"
    );

    let (applied, (answered, refused)) = change_under_load(&world, "1")?;
    ensure!(
        applied.contains("public.people.email got search terms"),
        "{applied}"
    );
    ensure!(answered > 0 && refused > 0, "{answered} {refused}");
    let terms = world.database.admin(BY_TERM)?;
    ensure!(terms.starts_with("0 "), "{terms}");
    let plan = world.site.command("plan", &[])?.ok()?;
    ensure!(plan.contains("Nothing to do"), "{plan}");
    // The replica whose file asks for no search follows the registry; all rows are found, and by the index.
    for proxy in [&world.old, &world.new] {
        for (id, email) in [(4, "mail4@example.com"), (399, "mail399@example.com")] {
            let sql = format!(
                "SET enable_seqscan = off; SELECT id FROM people WHERE tenant = {} AND email = '{email}'",
                id % 3
            );
            let found = proxy.psql("app", &sql)?;
            ensure!(found.trim_end().ends_with(&id.to_string()), "{found}");
        }
    }
    let explained = world.new.psql(
        "app",
        "SET enable_seqscan = off; EXPLAIN SELECT id FROM people WHERE tenant = 0 AND email = 'three'",
    )?;
    ensure!(explained.contains("people_email_eq_idx"), "{explained}");

    // And back.
    world.site.write_policy(SILENT)?;
    let plan = world.site.command("plan", &[])?.ok()?;
    ensure!(plan.contains("loses its search terms"), "{plan}");
    ensure!(plan.contains("- index people_email_eq_idx"), "{plan}");
    let (applied, _) = change_under_load(&world, "has no equality terms")?;
    ensure!(
        applied.contains("public.people.email lost its search terms"),
        "{applied}"
    );
    let terms = world.database.admin(BY_TERM)?;
    ensure!(terms.ends_with(" 0") && !terms.starts_with("0 "), "{terms}");
    let refused = world.old.psql(
        "app",
        "SELECT id FROM people WHERE tenant = 1 AND email = 'fixed@example.com'",
    )?;
    ensure!(refused.contains("has no equality terms"), "{refused}");
    Ok(())
}

#[test]
fn what_was_begun_is_gone_on_with() -> Result<()> {
    let server = TempPostgres::shared()?;
    // A value at a time, with minutes between: the job does not end by itself.
    let world = world_at(server, SILENT, SEARCHED, ("5m", 1))?;
    let config = world.site.config();
    let config = config.to_str().context("a path")?;
    let killed = world
        .site
        .run_for(15, &["apply", "--config", config, "--yes"])?;
    ensure!(killed.code != Some(0), "{killed:?}");
    begins(&world)?;
    // New values have terms, and are not compared yet.
    let search = "SELECT id FROM people WHERE tenant = 0 AND email = 'new'";
    for (proxy, id) in [(&world.old, 3000), (&world.new, 3003)] {
        let insert = format!("INSERT INTO people VALUES ({id}, 0, 'new')");
        proxy.psql("app", &insert)?;
        let refused = proxy.psql("app", search)?;
        ensure!(refused.contains("has no equality terms"), "{refused}");
    }
    // A value that stays what it is, and one that INSERT made, are no values from elsewhere.
    for write in [
        "UPDATE people SET email = email WHERE id = 3000 AND tenant = 0",
        "INSERT INTO people VALUES (3003, 0, 'new') ON CONFLICT (id) DO UPDATE SET email = EXCLUDED.email WHERE people.tenant = 0",
    ] {
        let said = world.new.psql("app", write)?;
        ensure!(!said.contains("ERROR"), "{write}: {said}");
    }
    let terms = world
        .database
        .admin(&format!("{BY_TERM} WHERE id >= 3000"))?;
    ensure!(terms == "0 2", "{terms}");
    let plan = world.site.command("plan", &[])?.ok()?;
    ensure!(plan.contains("gets search terms"), "{plan}");
    // What a run leaves that is killed while it makes the index: this one cannot be built before every value has a term.
    let broken = world.database.admin(
        "CREATE INDEX CONCURRENTLY people_email_eq_idx ON people (tenant, pgveil.eq_term(email))",
    );
    ensure!(broken.is_err(), "{broken:?}");
    // It is the same job, which waits for nobody's pauses any more.
    world
        .site
        .command("apply", &["--yes", "--full-speed"])?
        .ok()?;
    let jobs = world
        .database
        .admin("SELECT string_agg(kind || ' ' || state, ', ') FROM pgveil.jobs")?;
    ensure!(jobs == "column change completed", "{jobs}");
    let indexes = world.database.admin(
        "SELECT count(*) FILTER (WHERE indisvalid), count(*) FROM pg_index \
         WHERE indrelid = 'people'::regclass AND pg_get_indexdef(indexrelid) LIKE '%eq_term%'",
    )?;
    ensure!(indexes == "1|1", "{indexes}");
    for proxy in [&world.old, &world.new] {
        follows(proxy, &format!("{search} ORDER BY id"), "3000\n3003")?;
    }
    let terms = world.database.admin(BY_TERM)?;
    ensure!(terms.starts_with("0 "), "{terms}");
    Ok(())
}

#[test]
fn who_changes_the_policy_back_has_the_job_cancelled() -> Result<()> {
    let server = TempPostgres::shared()?;
    let mut world = world_at(server, SILENT, SEARCHED, ("5m", 1))?;
    let detached = world.site.command("apply", &["--yes", "--detach"])?.ok()?;
    ensure!(detached.contains("pgveil jobs watch 1"), "{detached}");
    let shown = world.site.command("jobs", &["show", "1"])?.ok()?;
    let why = "the policy wants search terms for public.people.email";
    ensure!(shown.contains(why), "{shown}");
    begins(&world)?;
    world
        .new
        .psql("app", "INSERT INTO people VALUES (3000, 0, 'new')")?;

    world.site.write_policy(SILENT)?;
    let applied = world
        .site
        .command("apply", &["--yes", "--full-speed"])?
        .ok()?;
    ensure!(
        applied.contains("public.people.email lost its search terms"),
        "{applied}"
    );
    let jobs = world
        .database
        .admin("SELECT string_agg(state, ', ' ORDER BY id) FROM pgveil.jobs")?;
    ensure!(jobs == "cancelled, completed", "{jobs}");
    let terms = world.database.admin(BY_TERM)?;
    ensure!(terms.ends_with(" 0"), "{terms}");
    let read = world
        .old
        .psql("app", "SELECT email FROM people WHERE id = 3000")?;
    ensure!(read == "new", "{read}");
    Ok(())
}

#[test]
fn types_get_longer_and_shorter_where_all_values_fit() -> Result<()> {
    let server = TempPostgres::shared()?;
    let policy = |n: u32| {
        format!(
            "public.people  scope = \"platform\"   email: varchar({n}), search = [\"equality\"]"
        )
    };
    let database = server.database()?;
    database.run(
        "CREATE TABLE people (id int PRIMARY KEY, email varchar(5)); \
         INSERT INTO people VALUES (1, 'abc'), (2, NULL)",
    )?;
    let mut site = Site::new(&database, &policy(5))?;
    site.apply()?;
    let proxy = site.serve()?;
    let insert = |id: i32, email: &str| {
        proxy.psql(
            "app",
            &format!("INSERT INTO people VALUES ({id}, '{email}')"),
        )
    };
    let too_long = "value too long for type character varying";
    let refused = insert(3, "abcdef")?;
    ensure!(refused.contains(too_long), "{refused}");
    let before = database.admin("SELECT string_agg(email::text, ' ' ORDER BY id) FROM people")?;
    site.write_policy(&policy(8))?;
    let applied = site.apply()?;
    ensure!(
        applied.contains("was widened: 0 values written anew"),
        "{applied}"
    );
    follows(
        &proxy,
        "INSERT INTO people VALUES (3, 'abcdef') RETURNING 'done'",
        "done",
    )?;
    let refused = insert(4, "abcdefghi")?;
    ensure!(refused.contains(too_long), "{refused}");
    let shown = proxy.psql("app", "SELECT id FROM people WHERE email = 'abcdef'")?;
    ensure!(shown == "3", "{shown}");
    let after = database
        .admin("SELECT string_agg(email::text, ' ' ORDER BY id) FROM people WHERE id < 3")?;
    ensure!(before == after, "no value is written anew");

    // Without a key a row that is updated could be missed.
    site.write_policy(&policy(4))?;
    database.run("ALTER TABLE people DROP CONSTRAINT people_pkey")?;
    let refused = site.command("apply", &["--yes"])?;
    ensure!(refused.code != Some(0), "{refused:?}");
    ensure!(refused.stderr.contains("no primary key"), "{refused:?}");
    database.run("ALTER TABLE people ADD PRIMARY KEY (id)")?;

    // Too short for a row: it is named, and all is as before.
    site.write_policy(&policy(4))?;
    let refused = site.command("apply", &["--yes"])?;
    ensure!(refused.code != Some(0), "{refused:?}");
    ensure!(refused.stderr.contains("row with id = 3"), "{refused:?}");
    ensure!(!refused.stderr.contains("abcdef"), "{refused:?}");
    let state = database.admin("SELECT logical_type, change FROM pgveil.columns")?;
    ensure!(state == "character varying(8)|", "{state}");
    follows(
        &proxy,
        "INSERT INTO people VALUES (4, 'abcdefgh') RETURNING 'done'",
        "done",
    )?;

    site.write_policy(&policy(6))?;
    proxy.psql("app", "DELETE FROM people WHERE id = 4")?;
    let applied = site.apply()?;
    ensure!(applied.contains("was narrowed"), "{applied}");
    // Nobody has written anything longer since before the values were looked at.
    let refused = insert(5, "abcdefg")?;
    ensure!(refused.contains(too_long), "{refused}");
    let done = insert(5, "abcde")?;
    ensure!(!done.contains("ERROR"), "{done}");
    let plan = site.command("plan", &[])?.ok()?;
    ensure!(plan.contains("Nothing to do"), "{plan}");
    Ok(())
}

#[test]
fn a_value_whose_row_goes_behind_the_look_is_looked_at_again() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(
        "CREATE TABLE people (id int PRIMARY KEY, email varchar(8)); \
         INSERT INTO people SELECT n, 'short' FROM generate_series(1, 400) n; UPDATE people SET email = 'too long' WHERE id = 400",
    )?;
    let policy = |n: u32| format!("public.people  scope = \"platform\"   email: varchar({n})");
    let mut site = Site::new(&database, &policy(8))?;
    site.apply()?;
    site.set("reencrypt", "concurrency", "1")?;
    site.set("reencrypt", "batch_size", "100")?;
    site.set("reencrypt", "interval", "\"2s\"")?;
    site.write_policy(&policy(5))?;
    site.command("apply", &["--yes", "--detach"])?.ok()?;
    let mut run = site.start("jobs", &["run"])?;
    // Between the first batch and the others, three pauses before the last one.
    let limit = Instant::now() + Duration::from_mins(2);
    while database.admin("SELECT count(*) FROM pgveil.job_parts WHERE after IS NOT NULL")? == "0" {
        ensure!(Instant::now() < limit, "it does not begin to look");
    }
    let moved = "UPDATE people SET id = 0 WHERE id = 400 RETURNING (SELECT count(*) FROM pgveil.job_parts WHERE NOT exhausted)";
    let left = database.admin(moved)?;
    ensure!(left == "1", "it had looked at all of them: {left}");
    run.wait()?;
    let ended = database.admin("SELECT state, failure FROM pgveil.jobs")?;
    ensure!(ended.starts_with("failed|1 values do not fit"), "{ended}");
    ensure!(ended.contains("row with id = 0"), "{ended}");
    ensure!(!ended.contains("too long"), "{ended}");
    let described = database.admin("SELECT logical_type, change FROM pgveil.columns")?;
    ensure!(described == "character varying(8)|", "{described}");

    // It fits: and a row that goes there now does, too.
    let proxy = site.serve()?;
    site.write_policy(&policy(8))?;
    proxy.psql("app", "UPDATE people SET email = 'short' WHERE id = 0")?;
    site.write_policy(&policy(5))?;
    let applied = site.command("apply", &["--yes", "--full-speed"])?.ok()?;
    ensure!(applied.contains("was narrowed"), "{applied}");
    Ok(())
}

#[test]
fn comparing_a_value_without_a_term_is_an_error_and_no_silence() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = Site::new(&database, SILENT)?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql("app", "INSERT INTO people VALUES (1, 1, 'ada')")?;
    let compared =
        database.admin("SELECT count(*) FROM people WHERE pgveil.eq_term(email) = '\\x00'");
    ensure!(
        format!("{compared:?}").contains("no equality term"),
        "{compared:?}"
    );
    let nothing = database.admin("SELECT pgveil.eq_term(NULL) IS NULL")?;
    ensure!(nothing == "t", "{nothing}");
    Ok(())
}

#[test]
fn what_stands_on_terms_must_go_before_they_do() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let shared = r#"public.people  scope = "platform"   email: text, search = ["equality"]"#;
    let mut site = Site::new(&database, shared)?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql(
        "app",
        "CREATE UNIQUE INDEX people_email ON people (email); \
         CREATE VIEW mails AS SELECT DISTINCT email FROM people; \
         CREATE FUNCTION who(mail text) RETURNS int LANGUAGE sql AS 'SELECT id FROM people WHERE email = mail'",
    )?;
    site.write_policy(r#"public.people  scope = "platform"   email: text"#)?;
    let refused = site.command("apply", &["--yes"])?;
    ensure!(refused.code != Some(0), "{refused:?}");
    ensure!(
        refused.stderr.contains("unique index public.people_email"),
        "{refused:?}"
    );
    ensure!(refused.stderr.contains("view public.mails"), "{refused:?}");
    ensure!(
        refused
            .stderr
            .contains("function public.who compares by terms"),
        "{refused:?}"
    );
    Ok(())
}
