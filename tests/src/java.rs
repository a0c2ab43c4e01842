//! Java for the tests of pgjdbc. It installs nothing: `make setup` fetches the driver where a JDK is installed.

use std::{path::Path, process::Command};

use crate::driver;

/// Runs `tests/drivers/java/SOURCE` with the jar in the folder that `PGVEIL_JAVA` names; without it the test passes with a word
/// on stderr. A program is run from its source, which a JDK can and a JRE cannot.
pub fn with(source: &str) -> Option<Command> {
    let Some(folder) = std::env::var_os("PGVEIL_JAVA") else {
        eprintln!("skipped: PGVEIL_JAVA is not set; `make test` sets it where a JDK is installed");
        return None;
    };
    let jar = Path::new(&folder).join("postgresql.jar");
    if !jar.is_file() {
        eprintln!(
            "skipped: no {}; `make setup` could not fetch it",
            jar.display()
        );
        return None;
    }
    let mut command = Command::new("java");
    command
        .arg("-cp")
        .arg(jar)
        .arg(driver::folder().join("java").join(source))
        .arg(driver::folder().join("columns.json"));
    Some(command)
}
