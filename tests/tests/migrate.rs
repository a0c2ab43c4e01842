//! `apply --online` against a real server: what becomes of the table, that applications see their columns where they were, that
//! every phase can be killed while others write, and that there is a way back until the plaintext is dropped.

#[path = "migrate/chaos.rs"]
mod chaos;
#[path = "migrate/contract.rs"]
mod contract;
#[path = "migrate/decrypt.rs"]
mod decrypt;
#[path = "migrate/guarded.rs"]
mod guarded;
#[path = "migrate/load.rs"]
mod load;
#[path = "migrate/lock.rs"]
mod lock;
#[path = "migrate/parted.rs"]
mod parted;
#[path = "migrate/phases.rs"]
mod phases;
#[path = "scopes/token.rs"]
mod token;
#[path = "migrate/traffic.rs"]
mod traffic;
#[path = "migrate/unique.rs"]
mod unique;

use std::fs;

use anyhow::{Context, Result, ensure};
use pgveil_tests::{
    postgres::{Database, TempPostgres},
    site::Site,
};

const TABLE: &str = "
    CREATE TABLE people (id int PRIMARY KEY, gone text, email text NOT NULL, tenant text NOT NULL,
                         note varchar(40), born date, other text DEFAULT 'x');
    ALTER TABLE people DROP COLUMN gone;
    CREATE UNIQUE INDEX people_email ON people (tenant, email);
    ALTER TABLE people ADD CONSTRAINT people_born UNIQUE (tenant, born, id);
    CREATE INDEX people_note ON people (note);
    CREATE INDEX people_other ON people (other);
    COMMENT ON COLUMN people.email IS 'where to write';
    GRANT SELECT (email) ON people TO support;
    CREATE VIEW others AS SELECT id, other FROM people;
    CREATE TABLE orders (id int PRIMARY KEY, person int NOT NULL REFERENCES people);";

const ROWS: &str = "
    INSERT INTO people SELECT n, 'canary' || n || '@example.com', 'tenant' || n % 3,
        CASE WHEN n % 2 = 0 THEN 'canary note ' || n END, date '2000-01-01' + n, 'o' || n
    FROM generate_series(1, 3000) n;
    INSERT INTO orders SELECT n, n FROM generate_series(1, 10) n;";

const POLICY: &str = r#"public.people  scope = "tenant:{tenant}"  email: text, search = ["equality"]  note: varchar(40)  born: date, search = ["equality"]"#;

const SHAPE: &str = "SELECT attname, format_type(atttypid, atttypmod), attnotnull, col_description(attrelid, attnum), attacl
    FROM pg_attribute WHERE attrelid = 'people'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
const INDEXES: &str = "SELECT pg_get_indexdef(indexrelid), conname FROM pg_index LEFT JOIN pg_constraint ON conindid = indexrelid
    AND conrelid = indrelid WHERE indrelid = 'people'::regclass ORDER BY 1";
const ALL: &str = "SELECT * FROM people ORDER BY id";

fn online(site: &Site<'_>) -> Result<String> {
    site.command("apply", &["--online", "--yes", "--full-speed"])?
        .ok()
}

/// The first line that differs.
fn same(found: &str, expected: &str) -> Result<()> {
    // psql through the proxy shows NULL otherwise.
    let (found, expected) = (found.replace("(null)", ""), expected.replace("(null)", ""));
    let mut pairs = found.lines().zip(expected.lines());
    let differs = pairs.find(|(found, expected)| found != expected);
    ensure!(differs.is_none(), "found and expected: {differs:?}");
    ensure!(found.lines().count() == expected.lines().count());
    Ok(())
}

fn whole() -> Result<(Database<'static>, Site<'static>)> {
    let database = TempPostgres::fresh_database()?;
    database.run(&format!("{TABLE}{ROWS}"))?;
    let site = Site::new(&database, POLICY)?;
    Ok((database, site))
}

#[test]
fn a_table_is_migrated_without_being_rewritten() -> Result<()> {
    let (database, site) = whole()?;
    let before = database.run(ALL)?;
    let file = "SELECT pg_relation_filenode('people')";
    let filenode = database.run(file)?;
    database.admin("ANALYZE people")?;
    let plan = site.command("plan", &[])?.ok()?;
    for part in [
        "about 3,000 rows",
        "of sealed values and",
        "= at once: locked for about",
        "= online: locked for an instant",
    ] {
        ensure!(plan.contains(part), "no {part:?} in\n{plan}");
    }
    let said = online(&site)?;
    ensure!(
        said.contains("public.people (email, note, born): migrated; the plaintext is kept"),
        "{said}"
    );
    ensure!(
        database.run(file)? == filenode,
        "the table was written anew"
    );
    let checked = site.command("check", &[])?;
    ensure!(!checked.stdout.contains("pgveil_"), "{checked:?}");
    let shape = database.run(SHAPE)?;
    let expected = "id|integer|t||\n\
        pgveil_plain_email|text|f||\n\
        tenant|text|t||\n\
        pgveil_plain_note|character varying(40)|f||\n\
        pgveil_plain_born|date|f||\n\
        other|text|f||\n\
        email|pgveil.sealed_text|t|where to write|{support=r/app}\n\
        note|pgveil.sealed_varchar|f||\n\
        born|pgveil.sealed_date|f||";
    ensure!(shape.replace("|{}", "|") == expected, "{shape}");
    let indexes = database.run(INDEXES)?;
    for index in [
        "CREATE UNIQUE INDEX people_email ON public.people USING btree (tenant, pgveil.eq_term((email)::bytea))",
        "CREATE UNIQUE INDEX people_born ON public.people USING btree (tenant, pgveil.eq_term((born)::bytea), id)",
        "CREATE INDEX people_other ON",
    ] {
        ensure!(indexes.contains(index), "no {index} in\n{indexes}");
    }
    let twice = database.run("INSERT INTO people (id, tenant, email) SELECT 9999, tenant, email FROM people WHERE id = 1");
    ensure!(
        twice.is_err_and(|e| e.to_string().contains("people_email")),
        "a duplicate was taken"
    );
    let plain = database.run("UPDATE people SET email = 'plaintext'");
    ensure!(
        plain.is_err_and(|e| e.to_string().contains("sealed")),
        "plaintext was taken"
    );

    let proxy = site.serve()?;
    same(&proxy.psql("app", ALL)?, &before)?;
    ensure!(
        proxy.psql(
            "app",
            "SELECT id FROM people WHERE email = 'canary7@example.com' AND tenant = 'tenant1'"
        )? == "7"
    );
    proxy.psql(
        "app",
        "INSERT INTO people VALUES (4000, 'new', 'tenant0', 'a note', '2024-02-29')",
    )?;
    ensure!(
        proxy.psql("app", "SELECT * FROM people WHERE id = 4000")?
            == "4000|new|tenant0|a note|2024-02-29|x"
    );
    let copied = proxy.psql("app", "COPY people TO STDOUT")?;
    ensure!(
        copied
            .lines()
            .any(|line| line == "4000\tnew\ttenant0\ta note\t2024-02-29\tx"),
        "{copied}"
    );
    let hidden = format!(
        "{:?}",
        proxy.psql("app", "SELECT pgveil_plain_email FROM people")
    );
    ensure!(
        hidden.contains("does not exist") && !hidden.contains("canary"),
        "the kept column is shown: {hidden}"
    );
    let hidden = format!(
        "{:?}",
        proxy.psql("app", "COPY people (id, pgveil_plain_email) TO STDOUT")
    );
    ensure!(
        hidden.contains("does not exist") && !hidden.contains("canary"),
        "the kept column is copied: {hidden}"
    );

    let again = online(&site)?;
    ensure!(again.contains("migrated; the plaintext is kept"), "{again}");
    ensure!(site.apply()?.contains("Nothing to do"));
    Ok(())
}

#[test]
fn a_swap_is_undone_with_what_was_written_since() -> Result<()> {
    let (database, site) = whole()?;
    let shape = database.run(SHAPE)?.replace("gone", "");
    let indexes = database.run(INDEXES)?;
    online(&site)?;
    let proxy = site.serve()?;
    proxy.psql(
        "app",
        "INSERT INTO people VALUES (4000, 'new', 'tenant0', 'a note', '2024-02-29')",
    )?;
    proxy.psql(
        "app",
        "UPDATE people SET email = 'changed', note = NULL WHERE id = 4",
    )?;
    proxy.psql(
        "app",
        "UPDATE people SET born = '1999-12-31' WHERE id % 2 = 0",
    )?;
    proxy.psql("app", "DELETE FROM people WHERE id > 2900 AND id < 4000")?;
    let kept = database.run(
        "SELECT pgveil_plain_email IS NULL, pgveil_plain_born IS NULL FROM people WHERE id = 4",
    )?;
    ensure!(
        kept == "t|t",
        "plaintext of before stands beside what was written since: {kept}"
    );
    let now = proxy.psql("app", ALL)?;
    site.command("apply", &["--rollback", "--yes"])?.ok()?;
    same(&database.run(ALL)?, &now)?;
    ensure!(database.run(SHAPE)? == shape, "{}", database.run(SHAPE)?);
    ensure!(
        database.run(INDEXES)? == indexes,
        "{}",
        database.run(INDEXES)?
    );
    // And once more, to the end.
    online(&site)?;
    same(&site.serve()?.psql("app", ALL)?, &now)?;
    Ok(())
}

/// Between the beginning and the swap a column gets a NOT NULL: it goes over to the sealed one, and back.
#[test]
fn a_not_null_of_meanwhile_is_kept() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text, w text NOT NULL); INSERT INTO t VALUES (1, 'one', 'uno')",
    )?;
    let site = Site::new(
        &database,
        "public.t  scope = \"platform\"  v: text  w: text",
    )?;
    site.command("apply", &["--online", "--prepare", "--yes"])?
        .ok()?;
    database.run(
        "ALTER TABLE t ALTER COLUMN v SET NOT NULL, ALTER COLUMN w DROP NOT NULL; INSERT INTO t VALUES (2, 'two', NULL)",
    )?;
    online(&site)?;
    let proxy = site.serve()?;
    let write = "INSERT INTO t VALUES (3, 'three', NULL); UPDATE t SET v = 'another' WHERE id = 1";
    let written = proxy.psql("app", write)?;
    ensure!(written == "INSERT 0 1\nUPDATE 1", "{written}");
    let refused = proxy.psql("app", "INSERT INTO t VALUES (4, NULL, 'x')")?;
    ensure!(refused.contains("null value in column \"v\""), "{refused}");
    site.command("apply", &["--rollback", "--yes"])?.ok()?;
    let refused = database.run("INSERT INTO t VALUES (4, NULL, 'x')");
    ensure!(
        refused.is_err_and(|error| format!("{error:#}").contains("null value in column \"v\"")),
        "NOT NULL is gone"
    );
    Ok(())
}

#[test]
fn before_the_swap_nothing_is_left_of_it() -> Result<()> {
    let (database, site) = whole()?;
    database.run("UPDATE people SET tenant = '' WHERE id = 2500")?;
    let before = (
        database.run(ALL)?,
        database.run(SHAPE)?,
        database.run(INDEXES)?,
    );
    let ran = site.command("apply", &["--online", "--yes", "--full-speed"])?;
    ensure!(
        ran.stderr.contains("row with id = 2500: no scope"),
        "{}",
        ran.stderr
    );
    let status = site.command("apply", &["--status"])?.ok()?;
    ensure!(
        status.contains("in phase backfill")
            && status.contains("stopped: table public.people, row with id = 2500"),
        "{status}"
    );
    let at_once = site.command("apply", &["--yes"])?;
    ensure!(
        at_once.stderr.contains("is being migrated online"),
        "{}",
        at_once.stderr
    );
    site.command("apply", &["--rollback", "--yes"])?.ok()?;
    ensure!(
        before
            == (
                database.run(ALL)?,
                database.run(SHAPE)?,
                database.run(INDEXES)?
            )
    );
    ensure!(database.run("SELECT count(*) FROM pg_trigger WHERE tgname LIKE '~%'")? == "0");
    ensure!(site.command("apply", &["--json"])?.ok()?.trim() == "[]");
    Ok(())
}

#[test]
fn after_the_contract_no_file_of_the_table_holds_plaintext() -> Result<()> {
    let (database, site) = whole()?;
    online(&site)?;
    let proxy = site.serve()?;
    let before = proxy.psql("app", ALL)?;
    let said = site.command("apply", &["--contract", "--yes"])?.ok()?;
    ensure!(
        said.contains("VACUUM (FULL, ANALYZE) public.people;"),
        "{said}"
    );
    let plan = site.command("plan", &[])?.ok()?;
    ensure!(
        plan.contains("Nothing to do")
            && plan.contains("public.people may hold plaintext from before"),
        "{plan}"
    );
    database.admin("VACUUM (FULL, ANALYZE) people")?;
    let plan = site.command("plan", &[])?.ok()?;
    ensure!(!plan.contains("may hold plaintext"), "{plan}");
    let files = database.admin(
        "CHECKPOINT; SELECT pg_relation_filepath(c.oid) FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
         WHERE c.oid = 'people'::regclass OR i.indrelid = 'people'::regclass",
    )?;
    for file in files.lines().filter(|line| line.contains('/')) {
        let bytes = fs::read(database.server().data_dir().join(file)).context(file.to_owned())?;
        ensure!(
            !bytes.windows(6).any(|window| window == b"canary"),
            "plaintext in {file}"
        );
    }
    same(&site.serve()?.psql("app", ALL)?, &before)?;
    ensure!(
        proxy
            .psql("app", "SELECT * FROM people WHERE id = 5")?
            .starts_with("5|canary5@example.com|tenant2|(null)|2000-01-06|o5")
    );
    let back = site.command("apply", &["--rollback", "--yes"])?.ok()?;
    ensure!(back.contains("Nothing to do"), "{back}");
    Ok(())
}

#[test]
fn what_cannot_be_migrated_online_is_left_alone() -> Result<()> {
    for (ddl, why) in [
        ("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE t1 () INHERITS (t)", "other tables inherit from it"),
        ("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE INDEX i ON t (id) INCLUDE (v)", "index i has a column to seal"),
        ("CREATE TABLE t (id int PRIMARY KEY, v text CHECK (v IS NOT NULL))", "CHECK constraint t_v_check"),
        ("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
          CREATE TRIGGER \"~~late\" BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()", "fires behind pgveil's own"),
    ] {
        let database = TempPostgres::fresh_database()?;
        database.run(ddl)?;
        let site = Site::new(&database, r#"public.t  scope = "platform"  v: text"#)?;
        let ran = site.command("apply", &["--online", "--yes"])?;
        ensure!(ran.code == Some(1) && ran.stderr.contains(why), "{why}: {}", ran.stderr);
        ensure!(database.run("SELECT count(*) FROM pg_attribute WHERE attname LIKE 'pgveil%'")? == "0");
        site.apply()?;
    }
    Ok(())
}

#[test]
fn tables_in_publications_are_refused_with_a_cure_that_works() -> Result<()> {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one')";
    let parted = "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); \
        CREATE TABLE t1 PARTITION OF t DEFAULT; INSERT INTO t VALUES (1, 'one')";
    let anew = "BEGIN; DROP PUBLICATION p; CREATE PUBLICATION p FOR TABLE other; COMMIT";
    for (ddl, publication, why, cure) in [
        (
            table,
            "FOR TABLE t",
            "publication p sends it",
            "ALTER PUBLICATION p DROP TABLE public.t",
        ),
        (table, "FOR ALL TABLES", "publication p sends it", anew),
        // The server tells of its partitions, and sends them by the name of the table.
        (
            parted,
            "FOR TABLE t",
            "publication p sends its partition public.t1",
            "ALTER PUBLICATION p DROP TABLE public.t",
        ),
        (
            parted,
            "FOR TABLE t1",
            "publication p sends its partition public.t1",
            "ALTER PUBLICATION p DROP TABLE public.t1",
        ),
        (
            parted,
            "FOR TABLE t WITH (publish_via_partition_root)",
            "publication p sends it",
            "ALTER PUBLICATION p DROP TABLE public.t",
        ),
        (
            parted,
            "FOR ALL TABLES",
            "publication p sends its partition public.t1",
            anew,
        ),
    ] {
        let database = TempPostgres::fresh_database()?;
        database.run(&format!("CREATE TABLE other (id int PRIMARY KEY); {ddl}"))?;
        database.admin(&format!("CREATE PUBLICATION p {publication}"))?;
        let site = Site::new(&database, r#"public.t  scope = "platform"  v: text"#)?;
        let plan = site.command("plan", &[])?;
        let told = if cure == anew {
            "DROP PUBLICATION p; CREATE PUBLICATION p FOR TABLE"
        } else {
            cure
        };
        ensure!(
            plan.stdout.contains(why)
                && plan.stdout.contains(&format!("{told};"))
                    | plan.stdout.contains(&format!("{told} ...;")),
            "{publication}: {}{}",
            plan.stdout,
            plan.stderr
        );
        let ran = site.command("apply", &["--online", "--yes"])?;
        ensure!(
            ran.code == Some(1) && ran.stderr.contains(why),
            "{publication}: {}",
            ran.stderr
        );
        ensure!(
            database.run("SELECT count(*) FROM pg_attribute WHERE attname LIKE 'pgveil%'")? == "0"
        );
        database.admin(cure)?;
        online(&site)?;
        ensure!(site.serve()?.psql("app", "SELECT * FROM t")? == "1|one");
    }
    Ok(())
}
