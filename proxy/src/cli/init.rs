//! `pgveil init DIR`: the files to start from. Never overwrites.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::ExitCode,
};

use anyhow::Context;
use pgveil_config::templates;
use pgveil_providers::local::LocalProvider;

use super::Found;

const FILES: [&str; 3] = ["pgveil.toml", "policy.toml", "root.key"];

/// Writes the three files.
///
/// # Errors
/// If one of them exists (nothing is written then), or the directory cannot be written.
pub fn run(dir: &Path) -> anyhow::Result<ExitCode> {
    for file in FILES {
        let path = dir.join(file);
        if path.symlink_metadata().is_ok() {
            let path = path.display();
            return Err(Found(format!(
                "{path} exists already; nothing was written. Choose another directory."
            ))
            .into());
        }
    }
    fs::create_dir_all(dir)
        .with_context(|| format!("cannot make the directory {}", dir.display()))?;
    LocalProvider::create_root_key(&dir.join("root.key")).context("cannot write root.key")?;
    write_new(&dir.join("policy.toml"), templates::POLICY_TOML)?;
    write_new(&dir.join("pgveil.toml"), templates::PGVEIL_TOML)?;
    let dir = dir.display();
    println!("wrote {dir}/pgveil.toml, {dir}/policy.toml and {dir}/root.key (mode 0600)");
    println!("next: edit both files, then `pgveil check --config {dir}/pgveil.toml`");
    println!(
        "keep a copy of root.key elsewhere: without it, what it protects cannot be read again"
    );
    Ok(ExitCode::SUCCESS)
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}
