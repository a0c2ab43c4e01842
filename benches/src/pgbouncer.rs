//! A throw-away pgbouncer in session mode: the yardstick for a proxy that does nothing else. It needs Debian's package.

use std::{
    fs::{self, File},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use pgveil_throwaway::{
    TempPostgres,
    leash::{Leash, Leashed},
    postgres::free_port,
};

const START_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// A running pgbouncer; it ends and its files go when it is dropped.
pub(crate) struct Pgbouncer {
    pub(crate) port: u16,
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
    /// `None` when it is not installed. It must not run as root, so it runs as Postgres does.
    pub(crate) fn start(server: &TempPostgres) -> Result<Option<Self>> {
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
        fs::write(dir.join("pgbouncer.ini"), config(&dir, server.port(), port))?;
        if let Some(user) = server.user() {
            std::os::unix::fs::chown(&dir, Some(user.uid), Some(user.gid))?;
        }
        let log = dir.join("log");
        let process = Leash::new(
            &program,
            &[&dir.join("pgbouncer.ini").to_string_lossy()],
            "KILL",
        )
        .user(server.user())
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

fn config(dir: &Path, server: u16, port: u16) -> String {
    format!(
        "[databases]\n* = host=127.0.0.1 port={server}\n\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = trust\nauth_file = {}/users.txt\npool_mode = session\ndefault_pool_size = 50\n\
         max_client_conn = 200\nlog_connections = 0\nlog_disconnections = 0\n",
        dir.display()
    )
}
