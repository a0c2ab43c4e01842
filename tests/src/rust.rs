//! The program on sqlx for the tests of that driver. It builds nothing: `make setup` does.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, ensure};

use crate::driver;

/// Runs the program that `PGVEIL_SQLX` names, of `tests/drivers/sqlx`; without it the test passes with a word on stderr.
pub fn sqlx() -> Result<Option<Command>> {
    let Some(program) = std::env::var_os("PGVEIL_SQLX") else {
        eprintln!("skipped: PGVEIL_SQLX is not set; `make test` sets it");
        return Ok(None);
    };
    let program = PathBuf::from(program);
    ensure!(
        program.is_file(),
        "no {}; run: make setup",
        program.display()
    );
    let mut command = Command::new(program);
    command.arg(driver::folder().join("columns.json"));
    Ok(Some(command))
}
