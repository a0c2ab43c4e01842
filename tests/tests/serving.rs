//! Starting and running `pgveil serve`: root keys, rights on files, keys made once under concurrency, several proxies with
//! one keystore, reconnecting, and an orderly end.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use pgveil_tests::{
    postgres::{Database, TempPostgres},
    proxy::Proxy,
    site::Site,
    wire::Wire,
};

const TABLE: &str = "CREATE TABLE notes (id int PRIMARY KEY, tenant text, body text)";
const POLICY: &str =
    r#"public.notes  scope = "tenant:{tenant}"  body: text, search = ["equality"]"#;

fn site(database: &Database<'static>) -> Result<Site<'static>> {
    database.run(TABLE)?;
    let site = Site::new(database, POLICY)?;
    site.apply()?;
    Ok(site)
}

/// What it says when it refuses to start.
fn refusal(site: &Site<'_>) -> String {
    match site.serve() {
        Ok(_) => "it started".to_owned(),
        Err(error) => format!("{error:#}"),
    }
}

fn allow(path: &Path, mode: u32) -> Result<()> {
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

#[test]
fn a_root_key_that_others_can_read_is_refused() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let site = site(&database)?;
    let key = site.etc().join("root.key");
    for mode in [0o640, 0o604, 0o644, 0o660, 0o777] {
        allow(&key, mode)?;
        let said = refusal(&site);
        ensure!(
            said.contains("root.key") && said.contains("600"),
            "{mode:o}: {said}"
        );
        let checked = site.command("check", &[])?;
        ensure!(
            checked.code == Some(1) && checked.stderr.contains("root.key"),
            "{mode:o}: {}",
            checked.stderr
        );
    }
    for mode in [0o600, 0o400] {
        allow(&key, mode)?;
        site.serve()?;
    }
    Ok(())
}

#[test]
fn another_root_key_is_refused() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let site = site(&database)?;
    site.serve()?
        .psql("app", "INSERT INTO notes VALUES (1, 'acme', 'one')")?;
    let key = site.etc().join("root.key");
    let kept = fs::read(&key)?;
    let other = Site::new(&database, POLICY)?;
    fs::copy(other.etc().join("root.key"), &key)?;
    let said = refusal(&site);
    ensure!(said.contains("root"), "{said}");
    ensure!(!said.contains("panicked"), "{said}");
    fs::write(&key, &kept)?;
    ensure!(site.serve()?.psql("app", "SELECT body FROM notes")? == "one");
    Ok(())
}

#[test]
fn a_root_key_that_is_none_is_refused() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let site = site(&database)?;
    let key = site.etc().join("root.key");
    for bytes in [&b""[..], b"short", &[b'x'; 4096]] {
        fs::write(&key, bytes)?;
        ensure!(refusal(&site).contains("root.key"), "{}", refusal(&site));
    }
    fs::remove_file(&key)?;
    ensure!(refusal(&site).contains("root.key"), "{}", refusal(&site));
    Ok(())
}

#[test]
fn a_database_without_the_schema_is_refused_with_what_to_run() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(TABLE)?;
    let site = Site::new(&database, POLICY)?;
    let said = refusal(&site);
    ensure!(said.contains("pgveil apply"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_once_however_many_ask_at_once() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let site = site(&database)?;
    let proxies = [site.serve()?, site.serve()?];
    let writers = (0..24).map(|id| write_one(&proxies[id as usize % 2], id));
    try_join_all(writers).await?;
    let keys = "SELECT count(*) FROM pgveil.keys WHERE purpose = 'data' AND state = 'active' AND scope LIKE 'tenant:%'";
    ensure!(
        database.admin(keys)? == "3",
        "{}",
        database.admin("SELECT scope, purpose, epoch, state FROM pgveil.keys")?
    );
    let used = "SELECT count(DISTINCT substr(body, 9, 8)) FROM notes";
    ensure!(database.admin(used)? == "3");
    Ok(())
}

/// Three tenants, eight writers each, all at once.
async fn write_one(proxy: &Proxy, id: i32) -> Result<()> {
    let client = proxy.connect("app").await?;
    let tenant = format!("t{}", id % 3);
    client
        .execute(
            "INSERT INTO notes VALUES ($1, $2, $3)",
            &[&id, &tenant, &format!("note {id}")],
        )
        .await?;
    let row = client
        .query_one(
            "SELECT body FROM notes WHERE tenant = $1 AND body = $2",
            &[&tenant, &format!("note {id}")],
        )
        .await?;
    ensure!(row.get::<_, String>(0) == format!("note {id}"));
    Ok(())
}

#[test]
fn what_one_proxy_writes_another_reads_and_finds() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let site = site(&database)?;
    let (one, two) = (site.serve()?, site.serve()?);
    one.psql("app", "INSERT INTO notes VALUES (1, 'acme', 'from one')")?;
    two.psql("app", "INSERT INTO notes VALUES (2, 'acme', 'from two')")?;
    let both = "SELECT id, body FROM notes WHERE tenant = 'acme' AND body IN ('from one', 'from two') ORDER BY id";
    for proxy in [&one, &two] {
        ensure!(proxy.psql("app", both)? == "1|from one\n2|from two");
    }
    Ok(())
}

#[test]
fn a_table_made_while_it_runs_is_seen() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let site = site(&database)?;
    let proxy = site.serve()?;
    let made = "CREATE TABLE other (id int, body text); INSERT INTO other VALUES (1, 'plain'); SELECT body FROM other";
    ensure!(proxy.psql("app", made)?.ends_with("plain"));
    database.run("ALTER TABLE notes ADD COLUMN extra text DEFAULT 'e'")?;
    // What is asked before the catalog is read again may be refused; it is not shown wrong, and can be tried again at once.
    let said = proxy.psql("app", "SELECT * FROM notes")?;
    ensure!(said.is_empty() || said.contains("PV003"), "{said}");
    let inserted = "INSERT INTO notes VALUES (1, 'acme', 'b') RETURNING *";
    let said = proxy.psql("app", inserted)?;
    ensure!(said == "1|acme|b|e\nINSERT 0 1", "{said}");
    Ok(())
}

#[test]
fn an_orderly_end_lets_sessions_finish() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let site = site(&database)?;
    let proxy = site.serve()?;
    ensure!(proxy.psql("app", "SELECT 1")? == "1");
    proxy.process().signal("TERM")?;
    ensure!(
        proxy.process().wait_for_end(Duration::from_secs(30)),
        "it does not end:\n{}",
        proxy.log()
    );
    ensure!(!proxy.log().contains("panicked"), "{}", proxy.log());
    Ok(())
}

/// Sends SIGHUP and waits for one line more about it.
fn hang_up(proxy: &Proxy, says: &str) -> Result<()> {
    let before = proxy.log().matches(says).count();
    proxy.process().signal("HUP")?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while proxy.log().matches(says).count() == before {
        let ended = proxy.process().wait_for_end(Duration::from_millis(50));
        ensure!(!ended && Instant::now() < deadline, "{}", proxy.log());
    }
    Ok(())
}

const TAKEN_UP: &str = "SIGHUP: policy, scopes and log level are taken up";
const NOT_TAKEN_UP: &str = "are not taken up; everything stays as it is";

#[test]
fn a_hangup_takes_up_the_policy_all_or_nothing_and_ends_nothing() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let mut site = site(&database)?;
    let proxy = site.serve()?;
    let mut before = Wire::connect(&proxy.target("app"))?;
    let inserted = "INSERT INTO notes VALUES (1, 'acme', 'b') RETURNING body";
    let said = before.query(inserted)?;
    ensure!(said.contains("DataRow"), "{said}");
    ensure!(proxy.psql("app", "SELECT body FROM notes")? == "b");

    // Another policy: sessions that are there already follow it too.
    site.write_policy(&format!("{POLICY}, reveal = [\"pgveil\"]"))?;
    hang_up(&proxy, TAKEN_UP)?;
    ensure!(proxy.psql("app", "SELECT count(body), count(*) FROM notes")? == "1|1");
    let hidden = proxy.psql("app", "SELECT body FROM notes")?;
    ensure!(hidden == "(null)", "{hidden:?} {}", proxy.log());
    let shown = before.query("SELECT body FROM notes")?;
    ensure!(!shown.contains("\"b\""), "{shown}");

    // One that does not fit leaves it in force, and is recorded.
    for bad in [
        POLICY.replace("body: text", "body: int4"),
        "public.notes  scope = ".to_owned(),
    ] {
        let policy = site.etc().join("policy.toml");
        match site.write_policy(&bad) {
            Ok(()) => {}
            Err(_) => fs::write(&policy, &bad)?,
        }
        hang_up(&proxy, NOT_TAKEN_UP)?;
        let hidden = proxy.psql("app", "SELECT body FROM notes")?;
        ensure!(hidden == "(null)", "{bad}: {hidden:?} {}", proxy.log());
    }
    site.write_policy(POLICY)?;
    hang_up(&proxy, TAKEN_UP)?;
    ensure!(proxy.psql("app", "SELECT body FROM notes")? == "b");
    let told = site.command("audit", &["list", "--json"])?.ok()?;
    let count = |operation: &str| {
        told.matches(&format!("\"operation\":\"{operation}\""))
            .count()
    };
    ensure!(
        count("config.load") == 3 && count("config.refuse") == 2,
        "{told}"
    );
    Ok(())
}

#[test]
fn a_hangup_takes_up_scopes_and_the_log_level_and_names_what_waits() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let mut site = site(&database)?;
    let proxy = site.serve()?;
    proxy.psql("app", "INSERT INTO notes VALUES (1, 'acme', 'one')")?;
    site.append("\n[[override]]\nscope = \"tenant:globex\"\nkey = \"of-globex\"\n")?;
    site.set("limits", "max_connections", "7")?;
    hang_up(&proxy, TAKEN_UP)?;
    let log = proxy.log();
    let waits = log.lines().find(|line| line.contains("wait for a restart"));
    ensure!(
        waits.is_some_and(
            |line| line.contains("limits.max_connections") && !line.contains("override")
        ),
        "{log}"
    );
    proxy.psql("app", "INSERT INTO notes VALUES (2, 'globex', 'two')")?;
    let keks = "SELECT string_agg(DISTINCT scope || ' ' || kek_id, ', ' ORDER BY scope || ' ' || kek_id) FROM pgveil.keys WHERE purpose = 'data'";
    let keks = database.admin(keks)?;
    ensure!(
        keks == "tenant:acme platform, tenant:globex of-globex",
        "{keks}"
    );
    ensure!(proxy.psql("app", "SELECT body FROM notes ORDER BY id")? == "one\ntwo");

    // A provider that the process has not opened is not used, and nothing else of that file is.
    site.append(
        "\n[provider.other]\nkind = \"local\"\nroot_key_file = \"other.key\"\n\
                 [[override]]\nscope = \"tenant:third\"\nprovider = \"other\"\nkey = \"k\"\n",
    )?;
    site.make_root_key("other.key")?;
    hang_up(&proxy, NOT_TAKEN_UP)?;
    ensure!(
        proxy.log().contains("restart pgveil to use it"),
        "{}",
        proxy.log()
    );
    site.set("log", "level", "\"error\"")?;
    Ok(())
}

#[test]
fn a_server_that_is_gone_is_a_clear_error() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let mut site = site(&database)?;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    site.set("upstream", "address", &format!("\"{nobody}\""))?;
    let said = match site.serve() {
        Ok(proxy) => proxy.psql("app", "SELECT 1")?,
        Err(error) => format!("{error:#}"),
    };
    ensure!(
        said.contains("could not connect") || said.contains("does not answer"),
        "{said}"
    );
    Ok(())
}

/// What was prepared before the policy named its table would compare bytes, and find what it should not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_prepared_before_the_policy_named_it_is_prepared_again_or_refused() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run("CREATE TABLE letters (id int PRIMARY KEY, body text)")?;
    let mut site = site(&database)?;
    let proxy = site.serve()?;
    let client = proxy.connect("app").await?;
    client
        .batch_execute(
            "INSERT INTO letters VALUES (1, 'a'), (2, 'b');
             PREPARE beside(text) AS SELECT id FROM letters WHERE body <> $1;
             PREPARE other AS SELECT count(*) FROM pg_class WHERE false",
        )
        .await?;
    let found = "SELECT id FROM letters WHERE body = $1";
    let short = client.prepare(found).await?;
    let long = format!("{found} /* {} */", "long ".repeat(60_000));
    let long = client.prepare(&long).await?;
    ensure!(client.simple_query("EXECUTE beside('a')").await?.len() == 3);
    ensure!(client.query(&short, &[&"b"]).await?.len() == 1);
    ensure!(client.query(&long, &[&"b"]).await?.len() == 1);

    let both = format!(
        "{POLICY}\npublic.letters  scope = \"platform\"  body: text, search = [\"equality\"]"
    );
    site.write_policy(&both)?;
    site.apply()?;
    hang_up(&proxy, TAKEN_UP)?;
    for text in ["EXECUTE beside('a')", "EXPLAIN EXECUTE beside('a')"] {
        let refused = client.simple_query(text).await;
        let said = format!("{:?}", refused.map(|rows| rows.len()));
        ensure!(
            said.contains("cached plan must not change"),
            "{text}: {said}"
        );
    }
    let refused = client.query(&long, &[&"b"]).await;
    let said = format!("{:?}", refused.map(|rows| rows.len()));
    ensure!(said.contains("cached plan must not change"), "{said}");
    // What is known is planned anew or refused, and never answered as before.
    match client.query(&short, &[&"b"]).await {
        Ok(rows) => ensure!(rows.len() == 1),
        Err(error) => ensure!(
            format!("{error:?}").contains("cached plan must not change"),
            "{error:?}"
        ),
    }
    client.simple_query("EXECUTE other").await?;
    client.batch_execute("DEALLOCATE beside").await?;
    let again =
        "PREPARE beside(text) AS SELECT id FROM letters WHERE body <> $1; EXECUTE beside('a')";
    let rows = client.simple_query(again).await?;
    let ids: Vec<_> = { rows.iter() }
        .filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .collect();
    ensure!(ids == ["2"], "{rows:?}");
    Ok(())
}

/// What was in force before is not what is there: the table is refused for as long as it does not fit, and all else is served.
#[test]
fn a_table_that_fits_the_policy_no_more_is_refused_every_time_and_nothing_else() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let site = site(&database)?;
    database.admin("CREATE TABLE plain (id int); GRANT ALL ON plain TO app")?;
    let proxy = site.serve()?;
    let read = "SELECT body FROM notes WHERE id = 1";
    let until = |sign: &str| {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let said = proxy.psql("app", read)?;
            if said.contains(sign) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{said}");
        }
    };
    proxy.psql("app", "INSERT INTO notes VALUES (1, 'acme', 'hello')")?;
    until("hello")?;
    let refusal = "table \"notes\" does not fit the policy any more";
    for (change, what, mend) in [
        (
            "CREATE UNIQUE INDEX odd ON notes (length(body::bytea), id)",
            "unique index odd computes on public.notes.body",
            "DROP INDEX odd",
        ),
        (
            "CREATE RULE odd AS ON DELETE TO notes DO ALSO NOTIFY gone",
            "public.notes has rewrite rules",
            "DROP RULE odd ON notes",
        ),
        (
            "ALTER TABLE notes RENAME tenant TO owner",
            "the scope reads column tenant, which public.notes does not have",
            "ALTER TABLE notes RENAME owner TO tenant",
        ),
    ] {
        database.admin(change)?;
        until(refusal)?;
        for sql in [
            read,
            "SELECT id FROM notes",
            "INSERT INTO notes VALUES (2, 'acme', 'not sealed')",
            "ALTER TABLE notes ADD COLUMN more text",
            "CREATE VIEW notes_seen AS SELECT body FROM notes",
            "COPY notes TO STDOUT",
        ] {
            let said = proxy.psql("app", sql)?;
            ensure!(
                said.contains(refusal) && said.contains(what),
                "{sql}: {said}"
            );
        }
        let said = proxy.psql(
            "app",
            "INSERT INTO plain VALUES (1); SELECT count(*) FROM plain",
        )?;
        ensure!(!said.contains("ERROR"), "{said}");
        database.admin(mend)?;
        until("hello")?;
    }
    Ok(())
}
