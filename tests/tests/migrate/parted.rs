//! Partitioned tables: what becomes of each partition, that statements may name the table or a partition of it all the while,
//! and partitions that come and go in the middle.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pgveil_keys::audit::Operation;
use pgveil_tests::{
    postgres::{Database, TempPostgres},
    site::Site,
};

use super::{ALL, INDEXES, POLICY, SHAPE, online, same, token::token};

/// As the table of the other tests, in partitions: made of it, attached with other attribute numbers, with partitions of its
/// own, and the rest.
pub(super) const TABLE: &str = "
    CREATE TABLE people (id int, gone text, email text NOT NULL, tenant text NOT NULL,
                         note varchar(40), born date, other text DEFAULT 'x', PRIMARY KEY (id, tenant)) PARTITION BY LIST (tenant);
    ALTER TABLE people DROP COLUMN gone;
    CREATE TABLE people_0 PARTITION OF people FOR VALUES IN ('tenant0');
    CREATE TABLE people_1 (id int NOT NULL, email text NOT NULL, gone int, too int, tenant text NOT NULL,
                           note varchar(40), born date, other text DEFAULT 'x');
    ALTER TABLE people_1 DROP COLUMN gone, DROP COLUMN too;
    ALTER TABLE people ATTACH PARTITION people_1 FOR VALUES IN ('tenant1');
    CREATE TABLE people_2 PARTITION OF people FOR VALUES IN ('tenant2', 'tenant3', 'tenant4') PARTITION BY LIST (tenant);
    CREATE TABLE people_2a PARTITION OF people_2 FOR VALUES IN ('tenant2');
    CREATE TABLE people_2b PARTITION OF people_2 DEFAULT;
    CREATE TABLE people_rest PARTITION OF people DEFAULT;
    CREATE UNIQUE INDEX people_email ON people (tenant, email);
    ALTER TABLE people ADD CONSTRAINT people_born UNIQUE (tenant, born, id);
    CREATE INDEX people_note ON people (note);
    CREATE INDEX people_other ON people (other);
    COMMENT ON COLUMN people.email IS 'where to write';
    COMMENT ON COLUMN people_1.email IS 'where to write them';
    GRANT SELECT (email) ON people TO support;
    GRANT SELECT (email), UPDATE (email) ON people_2a TO support;";

pub(super) const ROWS: &str = "
    INSERT INTO people SELECT n, 'canary' || n || '@example.com', 'tenant' || n % 3,
        CASE WHEN n % 2 = 0 THEN 'canary note ' || n END, date '2000-01-01' + n, 'o' || n
    FROM generate_series(1, 3000) n;";

const PREPARE: [&str; 4] = ["--online", "--prepare", "--yes", "--full-speed"];
/// Of all leaves: their columns, and what their indexes are.
const LEAVES: &str = "SELECT attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, col_description(attrelid, attnum), attacl
    FROM pg_attribute JOIN pg_partition_tree('people') ON relid = attrelid WHERE attnum > 0 AND NOT attisdropped ORDER BY 1, attnum";
const LEAF_INDEXES: &str = "SELECT pg_get_indexdef(indexrelid), indisvalid FROM pg_index JOIN pg_partition_tree('people') ON relid = indrelid
    ORDER BY 1";
/// What pgveil leaves behind nowhere.
const LEFTOVERS: &str = "SELECT relname FROM pg_class WHERE relname LIKE 'pgveil\\_new%' OR relname LIKE 'pgveil\\_stale%'
    UNION ALL SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid
    UNION ALL SELECT conname FROM pg_constraint WHERE conname LIKE 'pgveil\\_no%'";

fn whole() -> Result<(Database<'static>, Site<'static>)> {
    let database = TempPostgres::fresh_database()?;
    database.run(&format!("{TABLE}{ROWS}"))?;
    let site = Site::new(&database, POLICY)?;
    Ok((database, site))
}

fn prepare(site: &Site<'_>) -> Result<()> {
    let said = site.command("apply", &PREPARE)?.ok()?;
    ensure!(said.contains("ready for the swap"), "{said}");
    Ok(())
}

/// Values of the three columns, in any partition, that are not sealed.
fn plaintext(database: &Database<'_>) -> Result<String> {
    database.admin(
        "SELECT count(*) FROM people WHERE substr(email::bytea, 1, 4) <> '\\x50475601' OR substr(note::bytea, 1, 4) <> '\\x50475601'
         OR substr(born::bytea, 1, 4) <> '\\x50475601'",
    )
}

#[test]
fn a_partitioned_table_goes_there_and_back_with_its_partitions() -> Result<()> {
    let (database, site) = whole()?;
    let before = database.run(ALL)?;
    let (shape, leaves) = (database.run(SHAPE)?, database.run(LEAVES)?);
    let (indexes, leaf_indexes) = (database.run(INDEXES)?, database.run(LEAF_INDEXES)?);
    let files = "SELECT string_agg(coalesce(pg_relation_filenode(relid), 0)::text, ' ' ORDER BY relid) FROM pg_partition_tree('people')";
    let filenodes = database.run(files)?;
    database.admin("ANALYZE people")?;
    let plan = site.command("plan", &[])?.ok()?;
    for part in ["about 3,000 rows", "= online: locked for an instant"] {
        ensure!(plan.contains(part), "no {part:?} in\n{plan}");
    }
    let said = online(&site)?;
    ensure!(
        said.contains("public.people (email, note, born): migrated; the plaintext is kept"),
        "{said}"
    );
    ensure!(database.run(files)? == filenodes, "it was written anew");
    ensure!(plaintext(&database)? == "0");
    let left = database.run(LEFTOVERS)?;
    ensure!(left.is_empty(), "leftovers: {left}");
    let now = database.run(LEAVES)?;
    for column in [
        "people_1|email|pgveil.sealed_text|t|where to write them|",
        "people_2a|email|pgveil.sealed_text|t||{support=rw/app}",
        "people_2b|pgveil_plain_note|character varying(40)|f||",
        "people|email|pgveil.sealed_text|t|where to write|{support=r/app}",
    ] {
        ensure!(now.contains(column), "no {column} in\n{now}");
    }
    let now = database.run(LEAF_INDEXES)?;
    for index in [
        "CREATE UNIQUE INDEX people_email ON ONLY public.people USING btree (tenant, pgveil.eq_term((email)::bytea))|t",
        "CREATE UNIQUE INDEX people_1_people_email ON public.people_1 USING btree (tenant, pgveil.eq_term((email)::bytea))|t",
        "CREATE UNIQUE INDEX people_2_people_born ON ONLY public.people_2 USING btree (tenant, pgveil.eq_term((born)::bytea), id)|t",
    ] {
        ensure!(now.contains(index), "no {index} in\n{now}");
    }

    let proxy = site.serve()?;
    same(&proxy.psql("app", ALL)?, &before)?;
    // By the names of partitions, in the order of before.
    same(
        &proxy.psql("app", "SELECT * FROM people_1 UNION ALL SELECT * FROM people_2 UNION ALL SELECT * FROM people_0 ORDER BY id")?,
        &before,
    )?;
    proxy.psql(
        "app",
        "INSERT INTO people VALUES (4000, 'new', 'tenant0', 'a note', '2024-02-29');
         INSERT INTO people_1 VALUES (4001, 'newer', 'tenant1', 'a note', '2024-02-29');
         INSERT INTO people_2b VALUES (4002, 'newest', 'tenant4', NULL, '2024-02-28');
         UPDATE people SET email = 'changed', note = NULL WHERE id = 4;
         UPDATE people_2a SET born = '1999-12-31' WHERE id % 2 = 0;
         DELETE FROM people WHERE id > 2900 AND id < 4000",
    )?;
    ensure!(
        proxy.psql(
            "app",
            "SELECT * FROM people_1 WHERE email = 'newer' AND tenant = 'tenant1'"
        )? == "4001|newer|tenant1|a note|2024-02-29|x"
    );
    let twice = proxy.psql(
        "app",
        "INSERT INTO people_1 VALUES (4003, 'newer', 'tenant1', NULL, NULL)",
    );
    let twice = format!("{twice:?}");
    ensure!(twice.contains("people_1_people_email"), "{twice}");
    let kept = "SELECT count(*) FROM people WHERE pgveil_plain_email IS NOT NULL AND id IN (4, 4000, 4001, 4002)";
    ensure!(
        database.run(kept)? == "0",
        "plaintext of before stands beside what was written since"
    );

    let now = proxy.psql("app", ALL)?;
    site.command("apply", &["--rollback", "--yes"])?.ok()?;
    same(&database.run(ALL)?, &now)?;
    ensure!(database.run(SHAPE)? == shape, "{}", database.run(SHAPE)?);
    ensure!(database.run(LEAVES)? == leaves, "{}", database.run(LEAVES)?);
    ensure!(database.run(INDEXES)? == indexes);
    ensure!(database.run(LEAF_INDEXES)? == leaf_indexes);
    // The proxies serve it as plaintext, its partitions too.
    same(&proxy.psql("app", ALL)?, &now)?;
    same(
        &proxy.psql("app", "SELECT * FROM people_1 WHERE email = 'newer'")?,
        "4001|newer|tenant1|a note|2024-02-29|x",
    )?;

    online(&site)?;
    let said = site.command("apply", &["--contract", "--yes"])?.ok()?;
    ensure!(
        said.contains("VACUUM (FULL, ANALYZE) public.people;"),
        "{said}"
    );
    let plan = site.command("plan", &[])?.ok()?;
    ensure!(
        plan.contains("public.people_1 may hold plaintext from before"),
        "{plan}"
    );
    database.admin("VACUUM (FULL, ANALYZE) people")?;
    let plan = site.command("plan", &[])?.ok()?;
    ensure!(!plan.contains("may hold plaintext"), "{plan}");
    same(&proxy.psql("app", ALL)?, &now)?;
    // The proxy may not know yet that it is over.
    let tried =
        "BEGIN; CREATE TABLE people_8 PARTITION OF people FOR VALUES IN ('tenant8'); ROLLBACK";
    let limit = Instant::now() + Duration::from_mins(1);
    while proxy.psql("app", tried)?.contains("is being migrated") {
        ensure!(Instant::now() < limit, "the contract is not noticed");
    }
    // Partitions that are made from now on are shown like the table, also to who has not committed them.
    let made = proxy.psql(
        "app",
        "CREATE TABLE people_8 PARTITION OF people FOR VALUES IN ('tenant8');
         INSERT INTO people_8 VALUES (8000, 'eight', 'tenant8', 'a note', '2024-02-29');
         BEGIN; CREATE TABLE people_9 PARTITION OF people FOR VALUES IN ('tenant9');
         INSERT INTO people VALUES (9000, 'nine', 'tenant9', 'a note', '2024-02-29');
         SELECT * FROM people_9; COMMIT; SELECT * FROM people_8",
    )?;
    for row in [
        "9000|nine|tenant9|a note|2024-02-29|x",
        "8000|eight|tenant8|a note|2024-02-29|x",
    ] {
        ensure!(made.lines().any(|line| line == row), "no {row} in\n{made}");
    }
    ensure!(plaintext(&database)? == "0");

    let right = token(&site, Operation::ColumnDecrypt, "platform")?;
    let columns = "public.people.email,public.people.note,public.people.born";
    let decrypt = [
        "--decrypt",
        columns,
        "--yes",
        "--full-speed",
        "--token",
        &right,
    ];
    site.command("apply", &[&decrypt[..], &["--prepare"]].concat())?
        .ok()?;
    proxy.psql(
        "app",
        "UPDATE people_2a SET note = 'late' WHERE id = 5; UPDATE people SET tenant = 'tenant4' WHERE id = 8 AND tenant = 'tenant2'",
    )?;
    let named = "SELECT id, email, tenant, note, born, other FROM people ORDER BY id";
    let now = proxy.psql("app", named)?;
    site.command("apply", &decrypt[..4])?.ok()?;
    same(&database.run(named)?, &now)?;
    same(&proxy.psql("app", named)?, &now)?;
    let left = database.run(LEFTOVERS)?;
    ensure!(left.is_empty(), "leftovers: {left}");
    ensure!(database.run("SELECT count(*) FROM pg_trigger WHERE tgname LIKE '~%'")? == "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_name_the_table_or_a_partition_over_the_swap() -> Result<()> {
    let (database, site) = whole()?;
    let before = database.run(ALL)?;
    prepare(&site)?;
    let proxy = site.serve()?;
    same(&proxy.psql("app", ALL)?, &before)?;
    let shown = proxy.psql("app", "SELECT * FROM people_1 WHERE id = 1")?;
    ensure!(
        shown == "1|canary1@example.com|tenant1|(null)|2000-01-02|o1",
        "{shown}"
    );
    let client = proxy.connect("app").await?;
    let by_email = client
        .prepare("SELECT id FROM people_1 WHERE email = $1 AND tenant = 'tenant1'")
        .await?;
    let positional = client
        .prepare("INSERT INTO people_1 VALUES ($1, $2, 'tenant1', $3, NULL)")
        .await?;
    let moved = client
        .prepare("UPDATE people SET tenant = 'tenant3', email = $2, note = $3, born = NULL WHERE id = $1 AND tenant = 'tenant1'")
        .await?;
    let used = async |n: i32| -> Result<()> {
        let email = format!("new{n}");
        client
            .execute(&positional, &[&n, &email, &"a note"])
            .await?;
        let row = client.query_one(&by_email, &[&email]).await?;
        ensure!(row.get::<_, i32>(0) == n);
        ensure!(client.execute(&moved, &[&n, &"moved", &"moved"]).await? == 1);
        ensure!(client.query(&by_email, &[&email]).await?.is_empty());
        let row = client
            .query_one("SELECT email, note FROM people_2b WHERE id = $1", &[&n])
            .await?;
        ensure!((row.get::<_, &str>(0), row.get::<_, &str>(1)) == ("moved", "moved"));
        client
            .execute("DELETE FROM people_2 WHERE id = $1", &[&n])
            .await?;
        Ok(())
    };
    used(5000).await?;
    // Somebody in the middle of a transaction over a partition holds the swap up, as over the table.
    let other = proxy.connect("app").await?;
    other
        .batch_execute("BEGIN; SELECT email FROM people_0 WHERE id = 3")
        .await?;
    let mut child = site.start("apply", &["--online", "--yes", "--full-speed"])?;
    let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'people'::regclass AND NOT granted \
                   AND mode = 'AccessExclusiveLock'";
    while database.admin(waiting)? == "0" {
        ensure!(child.try_wait()?.is_none(), "it swapped over a transaction");
    }
    other
        .batch_execute("UPDATE people_0 SET email = 'within' WHERE id = 3; COMMIT")
        .await?;
    ensure!(child.wait()?.success());
    ensure!(plaintext(&database)? == "0");
    used(6000).await?;
    let found = other
        .query_one(
            "SELECT id FROM people_0 WHERE email = 'within' AND tenant = 'tenant0'",
            &[],
        )
        .await?;
    ensure!(found.get::<_, i32>(0) == 3);
    site.command("apply", &["--rollback", "--yes"])?.ok()?;
    used(7000).await?;
    online(&site)?;
    used(8000).await?;
    site.command("apply", &["--contract", "--yes"])?.ok()?;
    used(9000).await?;
    ensure!(plaintext(&database)? == "0");
    Ok(())
}

#[test]
fn partitions_that_come_and_go_are_right_or_refused() -> Result<()> {
    let (database, site) = whole()?;
    prepare(&site)?;
    let attached = "ALTER TABLE people ATTACH PARTITION people_6 FOR VALUES IN ('tenant6')";
    database.run(
        "-- One is made, one goes for ever, one goes and comes back with other plaintext than its copies are of.
         CREATE TABLE people_5 PARTITION OF people FOR VALUES IN ('tenant5');
         INSERT INTO people (id, email, tenant, note) VALUES (5001, 'five', 'tenant5', 'note five');
         ALTER TABLE people DETACH PARTITION people_2;
         DROP TABLE people_2;
         ALTER TABLE people DETACH PARTITION people_1;
         UPDATE people_1 SET email = 'other ' || id, note = NULL WHERE id % 2 = 1;
         ALTER TABLE people ATTACH PARTITION people_1 FOR VALUES IN ('tenant1');
         -- And one comes with copies that are none.
         CREATE TABLE people_6 (LIKE people INCLUDING DEFAULTS);
         INSERT INTO people_6 SELECT * FROM people_1 WHERE id < 600;
         UPDATE people_6 SET tenant = 'tenant6', id = id + 60000, email = 'six ' || id",
    )?;
    database.run(attached)?;
    let before =
        database.run("SELECT id, email, tenant, note, born, other FROM people ORDER BY id")?;
    online(&site)?;
    ensure!(plaintext(&database)? == "0");
    let left = database.run(LEFTOVERS)?;
    ensure!(left.is_empty(), "leftovers: {left}");
    let proxy = site.serve()?;
    same(&proxy.psql("app", ALL)?, &before)?;
    let read = proxy.psql(
        "app",
        "SELECT email FROM people WHERE email = 'six 7' AND tenant = 'tenant6'",
    )?;
    ensure!(read == "six 7", "{read}");

    // Behind the swap: one goes, and one comes back with something else beside its sealed values.
    proxy.psql("app", "ALTER TABLE people DETACH PARTITION people_5")?;
    database.run("ALTER TABLE people DETACH PARTITION people_6")?;
    database.run("UPDATE people_6 SET pgveil_plain_email = 'wrong ' || id")?;
    database.run(attached)?;
    let now = proxy.psql("app", ALL)?;
    site.command("apply", &["--rollback", "--yes"])?.ok()?;
    same(
        &database.run("SELECT id, email, tenant, note, born, other FROM people ORDER BY id")?,
        &now,
    )?;
    ensure!(database.run("SELECT count(*) FROM people WHERE email LIKE 'wrong%'")? == "0");

    // What was detached is told with the contract.
    online(&site)?;
    database.run("ALTER TABLE people DETACH PARTITION people_0")?;
    let said = site.command("apply", &["--contract", "--yes"])?.ok()?;
    ensure!(
        said.contains("public.people_0, detached from public.people behind the swap"),
        "{said}"
    );
    Ok(())
}

#[test]
fn what_of_partitions_cannot_be_migrated_online_is_told() -> Result<()> {
    let parted = "CREATE TABLE t (id int, v text) PARTITION BY RANGE (id); ";
    for (ddl, why) in [
        (
            "CREATE TABLE t1 (v text, id int); ALTER TABLE t ATTACH PARTITION t1 DEFAULT",
            "its partition public.t1 has the columns in another order",
        ),
        (
            "CREATE TABLE t1 PARTITION OF t (v NOT NULL) DEFAULT",
            "its partition public.t1 has a NOT NULL of its own",
        ),
        (
            "CREATE TABLE t1 PARTITION OF t (CHECK (v IS NOT NULL)) DEFAULT",
            "CHECK constraint t1_v_check",
        ),
        (
            "CREATE TABLE t1 PARTITION OF t DEFAULT; CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER \"~~late\" BEFORE UPDATE ON t1 FOR EACH ROW EXECUTE FUNCTION f()",
            "trigger \"~~late\" of its partition public.t1 fires behind pgveil's own",
        ),
    ] {
        let database = TempPostgres::fresh_database()?;
        database.run(&format!("{parted}{ddl}"))?;
        let site = Site::new(&database, r#"public.t  scope = "platform"  v: text"#)?;
        let plan = site.command("plan", &[])?;
        ensure!(plan.stdout.contains(why), "{why}: {}{}", plan.stdout, plan.stderr);
        let ran = site.command("apply", &["--online", "--yes"])?;
        ensure!(ran.code == Some(1) && ran.stderr.contains(why), "{why}: {}", ran.stderr);
        ensure!(database.run("SELECT count(*) FROM pg_attribute WHERE attname LIKE 'pgveil%'")? == "0");
        site.apply()?;
    }
    // In the middle, too: then the migration stands still until it is gone again.
    let database = TempPostgres::fresh_database()?;
    database.run(&format!(
        "{parted}CREATE TABLE t1 PARTITION OF t DEFAULT; INSERT INTO t VALUES (1, 'one')"
    ))?;
    let site = Site::new(&database, r#"public.t  scope = "platform"  v: text"#)?;
    prepare(&site)?;
    database.run(
        "CREATE TABLE t2 (pgveil_shadow_v pgveil.sealed_text, v text, id int);
         ALTER TABLE t ATTACH PARTITION t2 FOR VALUES FROM (100) TO (200)",
    )?;
    let ran = site.command("apply", &["--online", "--yes", "--full-speed"])?;
    ensure!(
        ran.code == Some(1)
            && ran
                .stderr
                .contains("its partition public.t2 has the columns in another order"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    database.run("ALTER TABLE t DETACH PARTITION t2")?;
    online(&site)?;
    ensure!(site.serve()?.psql("app", "SELECT * FROM t")? == "1|one");
    Ok(())
}
