//! Node for the tests of its drivers. It installs nothing: `make setup` does.

use std::{path::Path, process::Command};

use anyhow::{Result, ensure};

use crate::driver;

/// Runs `tests/drivers/node/SCRIPT`, whose packages stand in the folder that `PGVEIL_NODE` names; without it the test passes
/// with a word on stderr.
pub fn with(script: &str) -> Result<Option<Command>> {
    let Some(folder) = std::env::var_os("PGVEIL_NODE") else {
        eprintln!("skipped: PGVEIL_NODE is not set; `make test` sets it where node is installed");
        return Ok(None);
    };
    ensure!(
        Path::new(&folder).join("node_modules").is_dir(),
        "{} has no node_modules; run: make setup",
        folder.display()
    );
    let mut command = Command::new("node");
    command.arg(driver::folder().join("node").join(script));
    Ok(Some(command))
}
