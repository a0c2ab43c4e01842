//! The benchmark runs: a smoke run of everything it measures. What it measures means nothing here.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use pgveil_tests::site::binary;

#[test]
fn a_smoke_run_prints_every_table() -> Result<()> {
    prints(
        &[],
        &[
            "pgveil",
            "direct",
            "sealed",
            "pgp_sym",
            "encrypt_iv",
            "simple",
            "extended",
            "prepared",
        ],
    )
}

#[test]
fn a_smoke_run_over_keys_counts_one_unwrap_for_each_scope() -> Result<()> {
    prints(
        &["--keys"],
        &[
            "         100           0",
            "100 wrapped keys",
            "Start of `pgveil serve`",
        ],
    )
}

#[test]
fn a_smoke_run_of_the_audit_log_counts_records() -> Result<()> {
    prints(&["--audit"], &["two together", "           256"])
}

#[test]
fn a_smoke_run_of_the_rewrap_says_how_fast_it_is_beside_the_server() -> Result<()> {
    prints(
        &["--rewrap"],
        &["UPDATE in the server", "rewrap at full speed"],
    )
}

#[test]
fn a_smoke_run_of_the_backfill_says_how_fast_it_is_beside_pgcrypto() -> Result<()> {
    prints(
        &["--backfill"],
        &[
            "pgp_sym_encrypt",
            "encrypt_iv and hmac",
            "backfill of apply --online",
        ],
    )
}

#[test]
fn a_smoke_run_of_the_load_says_what_an_application_notices_of_a_job() -> Result<()> {
    prints(
        &["--load"],
        &[
            "100 rows every 5 s (default)",
            "20 rows every second",
            "full speed",
            "of 2 pairs",
        ],
    )
}

fn prints(arguments: &[&str], words: &[&str]) -> Result<()> {
    let pgveil = binary()?;
    let bench = pgveil.with_file_name("pgveil-bench");
    ensure!(
        bench.is_file(),
        "pgveil-bench is not built; `make test` builds it, or run: cargo build -p pgveil-benches"
    );
    let output = Command::new(bench)
        .arg("--quick")
        .args(arguments)
        .env("PGVEIL_BIN", pgveil)
        .output()
        .context("run pgveil-bench")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for word in words {
        ensure!(said.contains(*word), "no {word} in:\n{said}");
    }
    Ok(())
}
