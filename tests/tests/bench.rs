//! The benchmark runs: a smoke run of everything it measures. What it measures means nothing here.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use pgveil_tests::site::binary;

#[test]
fn a_smoke_run_prints_every_table() -> Result<()> {
    let pgveil = binary()?;
    let bench = pgveil.with_file_name("pgveil-bench");
    ensure!(
        bench.is_file(),
        "pgveil-bench is not built; `make test` builds it, or run: cargo build -p pgveil-benches"
    );
    let output = Command::new(bench)
        .arg("--quick")
        .env("PGVEIL_BIN", pgveil)
        .output()
        .context("run pgveil-bench")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for word in [
        "pgveil",
        "direct",
        "sealed",
        "pgp_sym",
        "encrypt_iv",
        "simple",
        "extended",
        "prepared",
    ] {
        ensure!(said.contains(word), "no {word} in:\n{said}");
    }
    Ok(())
}
