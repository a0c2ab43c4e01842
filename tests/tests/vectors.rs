//! The published known-answer vectors, checked by an implementation that shares nothing with ours.

use std::path::Path;

use anyhow::{Result, ensure};
use pgveil_tests::python;

#[test]
fn an_independent_implementation_agrees_with_every_vector() -> Result<()> {
    let Some(mut python) = python::with("cryptography")? else {
        return Ok(());
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/verify.py");
    let output = python.arg(script).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    Ok(())
}
