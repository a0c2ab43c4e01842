//! How fast the rows of a column that holds plaintext are sealed by `apply --online` at full speed, beside pgcrypto in SQL in the
//! same batches: a column of bytea that is filled with pgp_sym_encrypt, or with encrypt_iv and an hmac to search by. There, keys
//! and plaintext are in the server's statements.

use std::{
    process::Child,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use pgveil_tests::site::Site;
use pgveil_throwaway::{Options, TempPostgres, postgres::Database};

use crate::pgbench::median;

/// Rows of a batch at full speed (docs/migration.md).
const BATCH: u32 = 2_000;
const LIMIT: Duration = Duration::from_mins(10);
const POLICY: &str =
    r#"public.people  scope = "platform"  account: int8, search = ["equality"]  secret: text"#;
/// How long the backfill has written, as it notes itself.
const PROGRESS: &str = "SELECT phase, extract(epoch FROM updated_at - started_at), rows FROM pgveil.migrations WHERE ended_at IS NULL";
/// What SQL alone can do to the same two columns.
const WAYS: [(&str, &str); 2] = [
    (
        "pgp_sym_encrypt",
        "a = pgp_sym_encrypt(account::text, 'phrase'), s = pgp_sym_encrypt(secret, 'phrase')",
    ),
    (
        "encrypt_iv and hmac",
        "a = hmac(account::text, 'key', 'sha256') || encrypt_iv(account::text::bytea, '0123456789abcdef', gen_random_bytes(16), 'aes'), \
         s = encrypt_iv(secret::bytea, '0123456789abcdef', gen_random_bytes(16), 'aes')",
    ),
];

/// Measures, turn by turn, and prints.
pub(crate) fn run(quick: bool, rounds: usize) -> Result<()> {
    let rows: u32 = if quick { 10_000 } else { 100_000 };
    let options = Options::default().setting("shared_buffers", "256MB");
    let server = TempPostgres::start(&options)?;
    let (mut ours, mut theirs) = (Vec::new(), [Vec::new(), Vec::new()]);
    for _ in 0..rounds {
        for ((_, set), rates) in WAYS.iter().zip(&mut theirs) {
            let database = filled(&server, rows)?;
            rates.push(f64::from(rows) / in_sql(&database, rows, set)?);
        }
        let database = filled(&server, rows)?;
        ours.push(by_apply(&database)?);
    }
    println!(
        "\nRows of which two columns are sealed, one with a term, {rounds} rounds of {rows} rows in batches of {BATCH}"
    );
    let mut medians = Vec::new();
    for ((name, _), rates) in WAYS.iter().zip(&mut theirs) {
        let rate = median(rates);
        println!("  UPDATE with {name} in SQL: {rate:.0} rows/s");
        medians.push(rate);
    }
    let rate = median(&mut ours);
    let ratios: Vec<String> = medians
        .iter()
        .map(|other| format!("x{:.2}", rate / other))
        .collect();
    println!(
        "  backfill of apply --online: {rate:.0} rows/s, {} of these",
        ratios.join(" and ")
    );
    Ok(())
}

fn filled(server: &TempPostgres, rows: u32) -> Result<Database<'_>> {
    let database = server.database()?;
    database.run(&format!(
        "CREATE TABLE people AS SELECT g AS id, g::int8 AS account, 'secret of person ' || g || ', forty characters' AS secret \
             FROM generate_series(1, {rows}) g;
         ALTER TABLE people ADD PRIMARY KEY (id)"
    ))?;
    for each in [
        "CREATE EXTENSION pgcrypto",
        "VACUUM ANALYZE people",
        "CHECKPOINT",
    ] {
        database.admin(each)?;
    }
    Ok(database)
}

/// Seconds for all rows.
fn in_sql(database: &Database<'_>, rows: u32, set: &str) -> Result<f64> {
    database.admin("ALTER TABLE people ADD COLUMN a bytea, ADD COLUMN s bytea")?;
    let begin = Instant::now();
    database.admin(&format!(
        "DO $$ BEGIN
             FOR low IN 1..{rows} BY {BATCH} LOOP
                 UPDATE people SET {set} WHERE id >= low AND id < low + {BATCH};
                 COMMIT;
             END LOOP;
         END $$"
    ))?;
    Ok(begin.elapsed().as_secs_f64())
}

/// Rows a second: of the last look before the backfill was through.
fn by_apply(database: &Database<'_>) -> Result<f64> {
    let site = Site::new(database, POLICY)?;
    let args = ["--online", "--prepare", "--full-speed", "--yes"];
    let mut child = site.start("apply", &args)?;
    let rate = watched(database, &mut child);
    let ended = child.wait()?;
    ensure!(ended.success(), "apply failed");
    rate
}

fn watched(database: &Database<'_>, child: &mut Child) -> Result<f64> {
    let (deadline, mut rate) = (Instant::now() + LIMIT, 0.0);
    while Instant::now() < deadline {
        // Before it begins there is no such table.
        let now = database.admin(PROGRESS).unwrap_or_default();
        let fields: Vec<&str> = now.split('|').collect();
        if let ["backfill", seconds, rows] = fields[..] {
            let (seconds, rows): (f64, f64) = (seconds.parse()?, rows.parse()?);
            if rows > 0.0 && seconds > 0.0 {
                rate = rows / seconds;
            }
        } else if rate > 0.0 {
            return Ok(rate);
        } else if child.try_wait()?.is_some() {
            bail!("the backfill was through before it was looked at: take more rows");
        }
    }
    bail!("the backfill does not end")
}
