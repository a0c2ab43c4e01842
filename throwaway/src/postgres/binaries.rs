//! Finds the Postgres server's programs and the user who may run them. It installs nothing: `tests/setup.sh` does.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::leash::User;

/// The folder that holds `initdb`, `postgres` and `psql`: `PGVEIL_PG_BIN`, else what `pg_config` says,
/// else Debian's `/usr/lib/postgresql/N/bin` (the newest), else `PATH`.
pub(super) fn folder() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("PGVEIL_PG_BIN") {
        let dir = PathBuf::from(dir);
        if is_server(&dir) {
            return Ok(dir);
        }
        bail!(
            "PGVEIL_PG_BIN={} holds no initdb and postgres",
            dir.display()
        );
    }
    let mut candidates = Vec::new();
    candidates.extend(from_pg_config());
    candidates.extend(from_debian());
    candidates.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    candidates.into_iter().find(|dir| is_server(dir)).context(
        "no PostgreSQL server programs found; run tests/setup.sh, or name their folder in PGVEIL_PG_BIN",
    )
}

/// Whom Postgres runs as: root must not run it, so root becomes `postgres`, else `nobody`; anyone else stays who he is.
pub(super) fn server_user() -> Result<Option<User>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let (Some(uid), Some(gid)) = (id("-u", name), id("-g", name)) {
            return Ok(Some(User { uid, gid }));
        }
    }
    bail!("running as root, and there is neither a user `postgres` nor `nobody` to run Postgres as")
}

fn id(flag: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([flag, name]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

fn is_server(dir: &Path) -> bool {
    ["initdb", "postgres", "psql"]
        .iter()
        .all(|program| dir.join(program).is_file())
}

fn from_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

fn from_debian() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir("/usr/lib/postgresql") else {
        return Vec::new();
    };
    let mut versions: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, dir)| dir).collect()
}
