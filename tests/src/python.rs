//! Python for the tests that need another implementation or another driver. It installs nothing: `make test` does.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// A Python that can import `module`. `PGVEIL_PYTHON` names one that must be able to; without it, a `python3` that cannot
/// makes the test pass with a word on stderr.
pub fn with(module: &str) -> Result<Option<Command>> {
    let named = std::env::var_os("PGVEIL_PYTHON");
    let program = named.clone().unwrap_or_else(|| "python3".into());
    let imports = Command::new(&program)
        .args(["-c", &format!("import {module}")])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    match (imports, named) {
        (true, _) => Ok(Some(Command::new(program))),
        (false, Some(named)) => bail!(
            "{} cannot import {module}; run: make setup",
            named.display()
        ),
        (false, None) => {
            eprintln!("skipped: python3 cannot import {module}; `make test` provides one that can");
            Ok(None)
        }
    }
}
