//! A walk meets every row exactly once, whatever its primary key is, in ranges of any size.

use anyhow::{Context, Result, ensure};
use pgveil_jobs::walk::{Cursor, Walk, Wanted};
use pgveil_tests::postgres::{self, TempPostgres};
use tokio_postgres::Client;

const SETUP: &str = r#"
CREATE EXTENSION citext SCHEMA public;
CREATE TYPE mood AS ENUM ('sad', 'fine', 'glad');
CREATE TABLE numbers (id int PRIMARY KEY, v text);
INSERT INTO numbers SELECT n * 3, n FROM generate_series(1, 1000) n;
CREATE TABLE texts (a text COLLATE "C", "The B" timestamptz, c numeric, v text, PRIMARY KEY (a, "The B", c));
INSERT INTO texts SELECT E'it''s \\ "' || n % 7, timestamptz '2026-03-29 00:00+00' + n % 11 * interval '1 hour', n / 10.0, n
    FROM generate_series(1, 700) n;
CREATE TABLE folded (a int, b citext, c mood, v text, PRIMARY KEY (a, b, c));
INSERT INTO folded SELECT n % 3, CASE WHEN n % 2 = 0 THEN 'K' ELSE 'k' END || n, (enum_range(NULL::mood))[1 + n % 3], n
    FROM generate_series(1, 300) n;
CREATE TABLE odd (a bpchar(9), b bool, c bytea, d float8, e "char", f inet, v text, PRIMARY KEY (a, b, c, d, e, f));
INSERT INTO odd SELECT 'x' || n % 4, n % 2 = 0, decode(to_hex(n + 4096), 'hex'), sqrt(n), chr(65 + n % 5)::"char",
    '10.0.0.0'::inet + n, n FROM generate_series(1, 300) n;
CREATE TABLE heap (v text);
INSERT INTO heap SELECT repeat('x', n % 2000) FROM generate_series(1, 3000) n;
DELETE FROM heap WHERE ctid >= '(5,0)' AND ctid < '(40,0)';
CREATE TABLE many (id int PRIMARY KEY, v text);
INSERT INTO many SELECT n, n FROM generate_series(1, 25000) n;
CREATE TABLE nothing (id int PRIMARY KEY);
CREATE TABLE no_heap (v text);
ANALYZE;
SELECT set_config('search_path', 'pg_catalog', false);
"#;

async fn oid(client: &Client, table: &str) -> Result<u32> {
    let name = format!("public.{table}");
    let sql = "SELECT $1::text::regclass::oid";
    Ok(client.query_one(sql, &[&name]).await?.try_get(0)?)
}

async fn column(client: &Client, sql: &str) -> Result<Vec<String>> {
    let rows = client.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The ctids of each range in turn, with what was said of how many rows it has.
async fn walked(client: &Client, table: &str, wanted: &Wanted) -> Result<Vec<(Vec<String>, u64)>> {
    let walk = Walk::over(client, oid(client, table).await?).await?;
    let end = walk.end(client).await?;
    let (mut after, mut ranges): (Option<Cursor>, _) = (None, Vec::new());
    while let Some(step) = walk
        .next(client, after.as_ref(), end.as_ref(), wanted)
        .await?
    {
        let upto = step.upto.as_ref().or(end.as_ref());
        let sql = format!(
            "SELECT t.ctid::text FROM ONLY {} AS t WHERE {} AND ({})",
            walk.quoted(),
            walk.between(after.as_ref(), upto),
            wanted.condition
        );
        ranges.push((column(client, &sql).await?, step.rows));
        after = step.upto;
        if after.is_none() {
            break;
        }
    }
    Ok(ranges)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_meets_every_row_exactly_once() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let client = postgres::connect(&database.url("postgres")).await?;
    client.batch_execute(SETUP).await.context("the tables")?;
    for (table, limit) in [
        ("numbers", 1000),
        ("numbers", 7),
        ("texts", 1),
        ("texts", 100),
        ("folded", 11),
        ("odd", 13),
        ("heap", 50),
        ("many", 100_000),
        ("nothing", 5),
        ("no_heap", 5),
    ] {
        let sql = format!("SELECT ctid::text FROM public.{table} AS t ORDER BY t.ctid");
        let all: Vec<String> = column(&client, &sql).await?;
        let ranges = walked(&client, table, &Wanted::every(limit)).await?;
        let mut met = Vec::new();
        for (rows, said) in ranges {
            ensure!(
                rows.len() as u64 == said,
                "{table}: {} rows, {said} said",
                rows.len()
            );
            // Block by block, a block is taken whole.
            ensure!(
                table == "heap" || said <= u64::from(limit),
                "{table}: {said} rows"
            );
            met.extend(rows);
        }
        let place = |ctid: &String| -> (u64, u64) {
            let (block, row) = ctid.trim_matches(['(', ')']).split_once(',').unwrap();
            (block.parse().unwrap(), row.parse().unwrap())
        };
        met.sort_by_key(place);
        ensure!(
            met == all,
            "{table} by {limit}: {} of {}",
            met.len(),
            all.len()
        );
    }
    Ok(())
}

/// What is not wanted costs no range of its own for every few rows, and what is heavy is taken in small ranges.
#[tokio::test(flavor = "multi_thread")]
async fn ranges_follow_what_is_wanted_and_how_heavy_it_is() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let client = postgres::connect(&database.url("postgres")).await?;
    client.batch_execute(SETUP).await.context("the tables")?;
    let mut wanted = Wanted::every(10);
    wanted.condition = "t.id % 5000 = 0".to_owned();
    let ranges = walked(&client, "many", &wanted).await?;
    let counts: Vec<u64> = ranges.iter().map(|(_, rows)| *rows).collect();
    ensure!(counts == [2, 2, 1], "{counts:?}");
    for table in ["many", "heap"] {
        wanted = Wanted::every(1000);
        (wanted.size, wanted.bytes) = ("1000".to_owned(), 300_000);
        for (rows, _) in walked(&client, table, &wanted).await? {
            ensure!(rows.len() <= 300 || table == "heap" && rows.len() < 600);
        }
    }
    // One row may be heavier than all.
    wanted.bytes = 1;
    ensure!(walked(&client, "numbers", &wanted).await?.len() == 1000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_condition_is_asked_of_the_index() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let client = postgres::connect(&database.url("postgres")).await?;
    client.batch_execute(SETUP).await.context("the tables")?;
    client
        .batch_execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
        .await?;
    for (table, after, upto) in [
        (
            "texts",
            r#"["x","2026-03-29 01:00:00+00","1.5"]"#,
            r#"["y","2026-03-29 01:00:00+00","1.5"]"#,
        ),
        ("folded", r#"["1","K5","fine"]"#, r#"["2","k7","sad"]"#),
        ("heap", "3", "9"),
    ] {
        let walk = Walk::over(&client, oid(&client, table).await?).await?;
        let (after, upto) = (Cursor::new(after.to_owned()), Cursor::new(upto.to_owned()));
        let range = walk.between(Some(&after), Some(&upto));
        let sql = format!(
            "EXPLAIN (COSTS off) SELECT FROM {} AS t WHERE {range}",
            walk.quoted()
        );
        let plan: Vec<String> = column(&client, &sql).await?;
        let plan = plan.join("\n");
        ensure!(
            plan.contains("Index Cond") || plan.contains("TID Cond"),
            "{plan}"
        );
        ensure!(plan.contains('<') && plan.contains('>'), "{plan}");
    }
    Ok(())
}
