//! A throw-away pgbouncer: the yardstick for a proxy that does nothing else, and the pooler that applications put before
//! pgveil. It needs Debian's package.

use std::{
    fs::{self, File},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    leash::{Leash, Leashed, User},
    postgres::free_port,
};

const START_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// A running pgbouncer; it ends and its files go when it is dropped.
pub struct Pgbouncer {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    _process: Leashed,
}

/// The program, if it is installed.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders
        .map(|folder| folder.join("pgbouncer"))
        .find(|program| program.is_file())
}

impl Pgbouncer {
    /// `None` when it is not installed. `mode` is `session` or `transaction`; role `app` enters without a password, on either side.
    /// It must not run as root, so it runs as Postgres does.
    pub fn start(user: Option<User>, upstream: u16, mode: &str, size: u32) -> Result<Option<Self>> {
        let Some(program) = program() else {
            return Ok(None);
        };
        let dir = tempfile::Builder::new()
            .prefix("pgveil-bouncer-")
            .tempdir_in("/tmp")?
            .keep();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        let port = free_port()?;
        fs::write(dir.join("users.txt"), "\"app\" \"\"\n")?;
        fs::write(
            dir.join("pgbouncer.ini"),
            config(&dir, upstream, port, mode, size),
        )?;
        if let Some(user) = user {
            std::os::unix::fs::chown(&dir, Some(user.uid), Some(user.gid))?;
        }
        let log = dir.join("log");
        let process = Leash::new(
            &program,
            &[&dir.join("pgbouncer.ini").to_string_lossy()],
            "KILL",
        )
        .user(user)
        .remove(&dir)
        .start(File::create(&log)?)?;
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if process.wait_for_end(POLL) || Instant::now() > deadline {
                bail!(
                    "pgbouncer does not start:\n{}",
                    fs::read_to_string(&log).unwrap_or_default()
                );
            }
        }
        Ok(Some(Self {
            port,
            _process: process,
        }))
    }
}

fn config(dir: &Path, upstream: u16, port: u16, mode: &str, size: u32) -> String {
    format!(
        "[databases]\n* = host=127.0.0.1 port={upstream}\n\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = trust\nauth_file = {}/users.txt\npool_mode = {mode}\ndefault_pool_size = {size}\n\
         max_client_conn = 200\nlog_connections = 0\nlog_disconnections = 0\n",
        dir.display()
    )
}
