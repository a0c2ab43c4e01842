//! A throw-away Postgres: made, started on a free port, and gone afterwards whatever happens. It knows nothing of pgveil.

mod binaries;
mod database;
mod options;

use std::{
    fs::{self, File, OpenOptions},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

pub use self::{
    database::{Database, connect},
    options::{Auth, Certificate, Options},
};
use crate::leash::{Leash, Leashed, User, run_as};

/// How long a server may take to be ready on a busy machine.
const START_LIMIT: Duration = Duration::from_mins(1);
/// How often a start is tried when somebody else took the port meanwhile.
const PORT_TRIES: usize = 8;
/// How often readiness is asked.
const POLL: Duration = Duration::from_millis(10);

/// The password of the superuser `postgres` and of every role that [`TempPostgres::start`] makes.
pub const PASSWORD: &str = "harness-password";
/// Login roles of every cluster: `app` owns the databases, `pgveil` (a member of `app`) is for the keystore,
/// the others are ordinary users.
pub const ROLES: [&str; 5] = ["app", "pgveil", "support", "analyst", "stranger"];

/// A running server. Dropping it stops it and removes its files; so does the death of this process.
#[derive(Debug)]
pub struct TempPostgres {
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
    user: Option<User>,
    server: Mutex<Leashed>,
}

impl TempPostgres {
    /// Makes and starts a server; returns when it accepts connections.
    pub fn start(options: &Options) -> Result<Self> {
        let bin = binaries::folder()?;
        let user = binaries::server_user()?;
        let dir = make_dir(user)?;
        let made = Self::start_in(&dir, bin, user, options);
        if made.is_err() {
            let _ = fs::remove_dir_all(&dir);
        }
        made
    }

    /// The server that all tests of this binary share; each test takes a [`Database`] of its own.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<TempPostgres, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| Self::start(&Options::default()).map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// An empty database on the shared server.
    pub fn fresh_database() -> Result<Database<'static>> {
        Self::shared()?.database()
    }

    /// An empty database owned by `app`.
    pub fn database(&self) -> Result<Database<'_>> {
        Database::create(self)
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the server's programs.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The server's log.
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The folder of the unix socket.
    pub fn socket_dir(&self) -> PathBuf {
        self.dir.join("s")
    }

    /// Runs SQL as the superuser over the unix socket and returns what psql prints, unaligned and without headers.
    pub fn admin(&self, database: &str, sql: &str) -> Result<String> {
        let mut command = Command::new(self.bin.join("psql"));
        command.args([
            "-X",
            "-A",
            "-t",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            database,
            "-c",
            sql,
        ]);
        command
            .arg("-h")
            .arg(self.socket_dir())
            .args(["-p", &self.port.to_string()]);
        let output = command.output().context("run psql")?;
        if !output.status.success() {
            bail!(
                "psql: {}\nin: {sql}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    }

    fn start_in(dir: &Path, bin: PathBuf, user: Option<User>, options: &Options) -> Result<Self> {
        initdb(&bin, dir, user)?;
        if let Some(certificate) = &options.tls {
            install_certificate(dir, user, certificate)?;
        }
        own(&dir.join("data/pg_hba.conf"), user, &options.hba())?;
        let socket_dir = dir.join("s");
        let postgres = Self::start_on_a_port(dir, bin, user, |port| {
            options.conf(port, &socket_dir.to_string_lossy())
        })?;
        postgres.make_roles()?;
        Ok(postgres)
    }

    /// A server that follows this one, and answers readers. It must be dropped before this one.
    pub fn standby(&self) -> Result<Self> {
        let dir = make_dir(self.user)?;
        let made = self.standby_in(&dir);
        if made.is_err() {
            let _ = fs::remove_dir_all(&dir);
        }
        made
    }

    fn standby_in(&self, dir: &Path) -> Result<Self> {
        let data = dir.join("data");
        let mut command = Command::new(self.bin.join("pg_basebackup"));
        { command.args(["--checkpoint=fast", "--no-sync", "--write-recovery-conf"]) }
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-U", "postgres", "-D", &data.to_string_lossy()])
            .env("PGPASSWORD", PASSWORD)
            .current_dir("/");
        run_as(&mut command, self.user);
        let output = command.output().context("run pg_basebackup")?;
        if !output.status.success() {
            bail!("pg_basebackup: {}", String::from_utf8_lossy(&output.stderr));
        }
        let copied = fs::read_to_string(data.join("postgresql.auto.conf"))?;
        let socket_dir = dir.join("s");
        Self::start_on_a_port(dir, self.bin.clone(), self.user, |port| {
            let sockets = socket_dir.to_string_lossy();
            format!("{copied}\nport = '{port}'\nunix_socket_directories = '{sockets}'\n")
        })
    }

    fn start_on_a_port(
        dir: &Path,
        bin: PathBuf,
        user: Option<User>,
        conf: impl Fn(u16) -> String,
    ) -> Result<Self> {
        for _ in 0..PORT_TRIES {
            let port = free_port()?;
            own(&dir.join("data/postgresql.auto.conf"), user, &conf(port))?;
            let log = File::create(dir.join("log"))?;
            let server = postmaster(&bin, dir, user, log)?;
            if let Some(server) = wait_until_ready(dir, server)? {
                return Ok(Self {
                    bin,
                    dir: dir.to_owned(),
                    port,
                    user,
                    server: Mutex::new(server),
                });
            }
        }
        bail!("no free port in {PORT_TRIES} tries")
    }

    /// Ends the server at once, as an immediate shutdown or a failure of its machine does, and starts it again on the same port:
    /// it recovers from its log. Returns when it accepts connections; the log goes on in the same file.
    pub fn crash(&self) -> Result<()> {
        let mut server = self
            .server
            .lock()
            .expect("no holder of this lock can panic");
        server.signal("QUIT")?;
        if !server.wait_for_end(START_LIMIT) {
            bail!("Postgres did not end within {START_LIMIT:?}");
        }
        server.leave_files();
        let pid_file = self.data_dir().join("postmaster.pid");
        for _ in 0..PORT_TRIES {
            if pid_file.exists() {
                fs::remove_file(&pid_file)?;
            }
            let log = OpenOptions::new().append(true).open(self.log_file())?;
            let started = postmaster(&self.bin, &self.dir, self.user, log)?;
            if let Some(started) = wait_until_ready(&self.dir, started)? {
                *server = started;
                return Ok(());
            }
        }
        bail!("the port {} was taken meanwhile", self.port)
    }

    fn make_roles(&self) -> Result<()> {
        let mut sql = String::new();
        for role in ROLES {
            sql.push_str(&format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}';"));
        }
        sql.push_str("GRANT app TO pgveil;");
        self.admin("postgres", &sql).map(drop)
    }

    /// The user that the server runs as, when it is not ours.
    pub fn user(&self) -> Option<User> {
        self.user
    }
}

/// A port nobody listens on at this moment. Another process may take it before we do: callers try again.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn postmaster(bin: &Path, dir: &Path, user: Option<User>, log: File) -> Result<Leashed> {
    let data = dir.join("data");
    let data = data.to_string_lossy();
    { Leash::new(&bin.join("postgres"), &["-D", &data], "QUIT").user(user) }
        .remove(dir)
        .start(log)
}

/// `None`: the port was taken. Its own status file says when the server is ready.
fn wait_until_ready(dir: &Path, mut server: Leashed) -> Result<Option<Leashed>> {
    let deadline = Instant::now() + START_LIMIT;
    while Instant::now() < deadline {
        let status = fs::read_to_string(dir.join("data/postmaster.pid")).unwrap_or_default();
        if status
            .lines()
            .nth(7)
            .is_some_and(|line| line.trim() == "ready")
        {
            return Ok(Some(server));
        }
        if server.wait_for_end(POLL) {
            let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
            if log.contains("could not create any TCP/IP sockets") {
                server.leave_files();
                return Ok(None);
            }
            bail!("Postgres ended while starting:\n{log}");
        }
    }
    let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
    bail!("Postgres was not ready within {START_LIMIT:?}:\n{log}")
}

fn initdb(bin: &Path, dir: &Path, user: Option<User>) -> Result<()> {
    let password_file = dir.join("pw");
    own(&password_file, user, PASSWORD)?;
    let mut command = Command::new(bin.join("initdb"));
    command.args([
        "--no-sync",
        "--username=postgres",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--auth=trust",
    ]);
    command
        .arg("--pwfile")
        .arg(&password_file)
        .arg("-D")
        .arg(dir.join("data"))
        .current_dir("/");
    run_as(&mut command, user);
    let output = command.output().context("run initdb")?;
    fs::remove_file(&password_file)?;
    if !output.status.success() {
        bail!("initdb: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn install_certificate(dir: &Path, user: Option<User>, certificate: &Certificate) -> Result<()> {
    own(
        &dir.join("data/server.crt"),
        user,
        &fs::read_to_string(&certificate.cert_file)?,
    )?;
    own(
        &dir.join("data/server.key"),
        user,
        &fs::read_to_string(&certificate.key_file)?,
    )
}

/// A short-named directory that the server's user can reach and owns. (A socket's path may have 107 bytes.)
fn make_dir(user: Option<User>) -> Result<PathBuf> {
    let mut base = std::env::temp_dir();
    if user.is_some() && !reachable_by_all(&base) {
        base = PathBuf::from("/tmp");
    }
    let dir = tempfile::Builder::new()
        .prefix("pgveil-pg-")
        .tempdir_in(base)?
        .keep();
    let sockets = dir.join("s");
    fs::create_dir(&sockets)?;
    for path in [&dir, &sockets] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        give(path, user)?;
    }
    Ok(dir)
}

fn reachable_by_all(path: &Path) -> bool {
    path.ancestors()
        .all(|dir| fs::metadata(dir).is_ok_and(|found| found.permissions().mode() & 0o001 != 0))
}

/// Writes a file that only the server's user can read.
fn own(path: &Path, user: Option<User>, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    give(path, user)
}

fn give(path: &Path, user: Option<User>) -> Result<()> {
    if let Some(user) = user {
        std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid))?;
    }
    Ok(())
}
