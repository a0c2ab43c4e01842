//! Every shape of table is brought to the new keys: what applications read stays the same, and what is not meant stays as it is.

use anyhow::{Result, ensure};
use pgveil_tests::{postgres::TempPostgres, site::Site};

use crate::world::{epochs, json, once, quick, rotate, until};

const TABLES: &str = r#"
CREATE TABLE people (id int PRIMARY KEY, tenant text NOT NULL, email text, note text, born date);
CREATE TABLE parted (id int, tenant text, body text, PRIMARY KEY (tenant, id)) PARTITION BY LIST (tenant);
CREATE TABLE parted_acme PARTITION OF parted FOR VALUES IN ('acme') PARTITION BY RANGE (id);
CREATE TABLE parted_acme_1 PARTITION OF parted_acme FOR VALUES FROM (0) TO (100);
CREATE TABLE parted_acme_2 PARTITION OF parted_acme FOR VALUES FROM (100) TO (1000);
CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
CREATE TABLE heap (tenant text, body text);
CREATE TABLE keyed ("Name" text, at timestamptz, tenant text, body text, PRIMARY KEY ("Name", at));
CREATE TABLE watched (id int PRIMARY KEY, tenant text, body text, touched int DEFAULT 0);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.touched := NEW.touched + 1; RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION touch();
"#;
const POLICY: &str = r#"
public.people  scope = "tenant:{tenant}"  email: text, search = ["equality"]  note: text  born: date
public.parted  scope = "tenant:{tenant}"  body: text, search = ["equality"]
public.heap  scope = "tenant:{tenant}"  body: text
public.keyed  scope = "tenant:{tenant}"  body: text
public.watched  scope = "tenant:{tenant}"  body: text
"#;
const READ: &str = "SELECT * FROM people ORDER BY id; SELECT * FROM parted ORDER BY tenant, id; SELECT * FROM heap ORDER BY tenant, body; \
    SELECT * FROM keyed ORDER BY at; SELECT * FROM watched ORDER BY id";

/// Fills the tables through the proxy: literals, so that any of its ways of writing does.
fn fill(site: &Site<'_>) -> Result<()> {
    let proxy = site.serve()?;
    let row = |n: usize| {
        let tenant = ["acme", "globex", "acme"][n % 3];
        (
            tenant,
            format!("secret of row {n} {}", "x".repeat(n * 7 % 3000)),
        )
    };
    let mut sql = String::new();
    for (table, values) in [
        (
            "people (id, tenant, email, note, born)",
            "({n}, '{t}', '{v}', NULL, '2001-02-03')",
        ),
        ("parted (id, tenant, body)", "({n}, '{t}', '{v}')"),
        ("heap (tenant, body)", "('{t}', '{v}')"),
        (
            "keyed (\"Name\", at, tenant, body)",
            "('it''s \\ \" {t}', '2026-01-01'::timestamptz + '{n} min'::interval, '{t}', '{v}')",
        ),
        ("watched (id, tenant, body)", "({n}, '{t}', '{v}')"),
    ] {
        let rows: Vec<String> = (0..150)
            .map(|n| {
                let (tenant, value) = row(n);
                { values.replace("{n}", &n.to_string()).replace("{t}", tenant) }
                    .replace("{v}", &value)
            })
            .collect();
        sql.push_str(&format!(
            "INSERT INTO {table} VALUES {};\n",
            rows.join(", ")
        ));
    }
    sql.push_str("UPDATE people SET note = 'noted' WHERE tenant = 'acme' AND id % 2 = 0;");
    let said = proxy.psql("app", &sql)?;
    ensure!(!said.contains("ERROR"), "{said}");
    Ok(())
}

#[test]
fn rows_of_every_shape_of_table_are_brought_to_the_new_keys() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLES)?;
    let mut site = quick(&database, POLICY)?;
    site.set("reencrypt", "batch_size", "7")?;
    site.apply()?;
    fill(&site)?;
    database.admin("GRANT SET ON PARAMETER session_replication_role TO pgveil")?;
    // Copies that the policy does not know.
    database.run("CREATE TABLE copies (v bytea, many bytea[], plain bytea)")?;
    database.admin(
        "INSERT INTO copies SELECT email, ARRAY[[email::bytea, NULL], [note, '\\x00']], '\\x5047560100' FROM people WHERE id < 20",
    )?;
    let proxy = site.serve()?;
    let before = proxy.psql("app", READ)?;
    let others = "SELECT md5(string_agg(encode(email, 'hex') || ctid::text || xmin::text, '' ORDER BY id)) FROM people WHERE tenant = 'globex'";
    let untouched = database.admin(others)?;

    let rotated = rotate(&site, "tenant:acme", &[])?;
    ensure!(rotated["keys"][0]["epoch"] == 2, "{rotated:#}");
    let job = once(&site, &rotated["job"], "completed")?;
    // 100 rows of tenant acme in each of five tables, 50 notes, 100 dates; and the copies.
    let copied: u64 = database
        .admin("SELECT count(*) FROM people WHERE tenant = 'acme' AND id < 20")?
        .parse()?;
    let noted: u64 = database
        .admin("SELECT count(*) FROM people WHERE tenant = 'acme' AND id < 20 AND id % 2 = 0")?
        .parse()?;
    ensure!(
        job["values_found"] == 5 * 100 + 50 + 100 + 2 * copied + noted,
        "{job:#}"
    );
    ensure!(job["values_written"] == job["values_found"], "{job:#}");
    for (table, column) in [
        ("people", "email"),
        ("parted", "body"),
        ("heap", "body"),
        ("keyed", "body"),
        ("watched", "body"),
    ] {
        let found = epochs(&database, table, column)?;
        ensure!(
            found == "tenant:acme 2: 100, tenant:globex 1: 50",
            "{table}.{column}: {found}"
        );
    }
    ensure!(epochs(&database, "people", "note")? == "tenant:acme 2: 50");
    ensure!(
        proxy.psql("app", READ)? == before,
        "what applications read has changed"
    );
    ensure!(
        database.admin(others)? == untouched,
        "rows of another scope were written"
    );
    ensure!(
        database.admin("SELECT sum(touched) FROM watched")? == "0",
        "triggers fired"
    );
    let found = proxy.psql(
        "app",
        "SELECT id FROM people WHERE tenant = 'acme' AND email = 'secret of row 2 xxxxxxxxxxxxxx'",
    )?;
    ensure!(found == "2", "{found}");
    // Copies: shape and all that is no sealed value stay.
    let odd = "SELECT count(*) FROM copies c JOIN people p ON substr(c.v, 30) <> '' \
        WHERE p.id < 20 AND c.plain = '\\x5047560100' AND array_dims(c.many) = '[1:2][1:2]' AND c.many[1][2] IS NULL AND c.many[2][2] = '\\x00'";
    ensure!(database.admin(odd)? == (20 * 20).to_string());
    let proof = database.admin(
        "SELECT encode(record, 'escape') FROM pgveil.audit WHERE operation = 'job.change' ORDER BY seq DESC LIMIT 1",
    )?;
    ensure!(
        proof.contains("completed") && proof.contains("\"values\":0"),
        "{proof}"
    );
    let left = site
        .command(
            "keys",
            &["list", "--values", "--json", "--state", "decrypt_only"],
        )?
        .ok()?;
    let left = json(&left)?;
    ensure!(left["keys"][0]["values"] == 0, "{left:#}");
    Ok(())
}

/// The proof is taken by an index on the keys that values name, if there is one for each column.
#[test]
fn the_last_count_goes_by_indexes_on_headers() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(
        "CREATE TABLE people (id int PRIMARY KEY, tenant text NOT NULL, email text, note text)",
    )?;
    let policy = r#"public.people  scope = "tenant:{tenant}"  email: text  note: text"#;
    let site = quick(&database, policy)?;
    site.apply()?;
    let proxy = site.serve()?;
    let rows: Vec<String> = (0..50)
        .map(|n| format!("({n}, 'acme', 'ada {n}', 'noted')"))
        .collect();
    let insert = format!("INSERT INTO people VALUES {}", rows.join(", "));
    let said = proxy.psql("app", &insert)?;
    ensure!(said == "INSERT 0 50", "{said}");
    for column in ["email", "note"] {
        database.run(&format!(
            "CREATE INDEX people_key_of_{column} ON people (substr({column}::bytea, 9, 8))"
        ))?;
    }
    // So small a table is read whole otherwise.
    database.admin(&format!(
        "ALTER ROLE pgveil IN DATABASE {} SET enable_seqscan = off",
        site.database()
    ))?;
    let job = rotate(&site, "tenant:acme", &[])?["job"].clone();
    let done = once(&site, &job, "completed")?;
    ensure!(done["values_written"] == 100, "{done:#}");
    let used = "SELECT count(*) FROM pg_stat_user_indexes WHERE indexrelname LIKE 'people_key_of_%' AND idx_scan >= 2";
    until(|| Ok((database.admin(used)? == "2").then_some(())))?;
    ensure!(epochs(&database, "people", "email")? == "tenant:acme 2: 50");
    Ok(())
}

/// A rotation while a job runs makes a later job, and both end; the last one has the last word.
#[test]
fn two_rotations_in_flight_leave_every_row_under_the_last_key() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLES)?;
    let mut site = quick(&database, POLICY)?;
    site.set("reencrypt", "interval", "\"1s\"")?;
    site.set("reencrypt", "batch_size", "40")?;
    site.apply()?;
    fill(&site)?;
    database.admin("GRANT SET ON PARAMETER session_replication_role TO pgveil")?;
    let _one = site.serve()?;
    let _two = site.serve()?;
    let first = rotate(&site, "tenant:acme", &[])?;
    let second = rotate(&site, "platform", &["--below"]);
    // The platform itself has no key, but scopes below it have.
    let second = second?;
    for job in [&first["job"], &second["job"]] {
        once(&site, job, "completed")?;
    }
    for (table, column) in [
        ("people", "email"),
        ("parted", "body"),
        ("heap", "body"),
        ("keyed", "body"),
    ] {
        let found = epochs(&database, table, column)?;
        ensure!(
            found == "tenant:acme 3: 100, tenant:globex 2: 50",
            "{table}.{column}: {found}"
        );
    }
    Ok(())
}
