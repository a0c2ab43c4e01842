//! What sessions and starts of `pgveil serve` leave in the log: reveals that were refused, configurations that were not taken.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use pgveil_tests::{postgres::TempPostgres, site::Site};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(10);
const POLICY: &str = "[[table]]\nname = \"public.people\"\nscope = \"tenant:acme\"\n\
     [table.column.email]\ntype = \"text\"\nsearch = [\"equality\"]\nreveal = [\"pgveil\"]\n\
     [table.column.name]\ntype = \"text\"\n";

/// The records of an operation, once there are any.
fn records(site: &Site<'_>, operation: &str) -> Result<Vec<Value>> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        let listed = site.command("audit", &["list", "--operation", operation, "--json"])?;
        let lines = listed.ok()?;
        let read: Vec<Value> = { lines.lines() }
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        if !read.is_empty() {
            return Ok(read);
        }
    }
    bail!("no {operation} is recorded")
}

#[test]
fn a_refused_reveal_is_recorded_once_with_the_role_and_the_column() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run("CREATE TABLE people (id int PRIMARY KEY, email text, name text)")?;
    let site = Site::new(&database, POLICY)?;
    site.apply()?;
    let proxy = site.serve()?;
    let insert =
        "INSERT INTO people VALUES (1, 'ada@example.com', 'Ada'), (2, 'bob@example.com', 'Bob')";
    proxy.psql("app", insert)?;
    for statement in [
        "SELECT name FROM people",
        "SELECT email FROM people",
        "SELECT array_agg(email), max(id) FROM people",
        "COPY people (email) TO STDOUT",
    ] {
        let shown = proxy.psql("app", statement)?;
        ensure!(!shown.contains("example.com"), "{statement}: {shown}");
    }
    let told = records(&site, "reveal.refuse")?;
    let [told] = &told[..] else {
        bail!("one record for one role and column: {told:?}");
    };
    let fields = [&told["outcome"], &told["actor"], &told["detail"]["column"]];
    let fields: Vec<&str> = fields.iter().filter_map(|field| field.as_str()).collect();
    ensure!(
        fields == ["refused", "session:app", "public.people.email"],
        "{told}"
    );
    Ok(())
}

#[test]
fn a_policy_that_is_not_taken_at_the_start_is_recorded() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run("CREATE TABLE people (id int PRIMARY KEY, email text, name text)")?;
    let mut site = Site::new(&database, POLICY)?;
    site.apply()?;
    let other = POLICY.replace("type = \"text\"\nsearch", "type = \"int4\"\nsearch");
    site.write_policy(&other)?;
    ensure!(site.serve().is_err(), "the column holds texts");
    let told = records(&site, "config.refuse")?;
    ensure!(told[0]["outcome"] == "refused", "{told:?}");
    ensure!(told[0]["detail"]["policy_sha256"].is_string(), "{told:?}");
    Ok(())
}
