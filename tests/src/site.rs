//! One pgveil installation for one database: a directory with `pgveil.toml`, `policy.toml` and `root.key`, and the
//! command line run on it. The running proxy is in `proxy.rs`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail};

use crate::{
    kms::KeyServer,
    leash::{Leash, Leashed},
    policy,
    postgres::{Database, TempPostgres},
    proxy::Proxy,
};

/// How long one command may take, in seconds.
const LIMIT: &str = "120";
/// Where the keystore's URL is kept from the files.
const URL_VARIABLE: &str = "PGVEIL_TEST_KEYSTORE_URL";

/// What a command of the CLI did.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Standard output of a command that must succeed.
    pub fn ok(self) -> Result<String> {
        if self.code != Some(0) {
            bail!("exit code {:?}\n{}{}", self.code, self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }
}

/// The directory. It is removed with the last of us, also when we are killed.
#[derive(Debug)]
pub struct Site<'a> {
    dir: PathBuf,
    server: &'a TempPostgres,
    database: String,
    url: String,
    settings: BTreeMap<String, BTreeMap<String, String>>,
    further: String,
    logs: AtomicU32,
    _keeper: Leashed,
}

impl<'a> Site<'a> {
    /// `pgveil init`, then our policy (TOML or the short form) and settings for this database in place of its examples.
    pub fn new(database: &Database<'a>, policy: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("pgveil-site-")
            .tempdir()?
            .keep();
        let keeper = Leash::new(Path::new("sleep"), &["infinity"], "KILL")
            .remove(&dir)
            .start(null()?)?;
        let mut site = Self {
            dir,
            server: database.server(),
            database: database.name().to_owned(),
            url: database.url("pgveil"),
            settings: BTreeMap::new(),
            further: String::new(),
            logs: AtomicU32::new(0),
            _keeper: keeper,
        };
        site.run(&["init", &site.dir.join("etc").to_string_lossy()])?
            .ok()
            .context("pgveil init")?;
        site.default_settings();
        site.write_policy(policy)?;
        Ok(site)
    }

    /// Sets a key; `value` is TOML (`"\"text\""`, `"5"`). The section `""` is the top of the file.
    pub fn set(&mut self, section: &str, key: &str, value: &str) -> Result<()> {
        self.settings
            .entry(section.to_owned())
            .or_default()
            .insert(key.to_owned(), value.to_owned());
        self.write_settings()
    }

    /// Puts further sections behind the settings: `[[override]]` and what else stands more than once.
    pub fn append(&mut self, sections: &str) -> Result<()> {
        self.further.push_str(sections);
        self.write_settings()
    }

    /// Replaces the policy.
    pub fn write_policy(&mut self, policy: &str) -> Result<()> {
        fs::write(self.etc().join("policy.toml"), policy::to_toml(policy)?)?;
        self.write_settings()
    }

    /// The folder that `init` made.
    pub fn etc(&self) -> PathBuf {
        self.dir.join("etc")
    }

    /// `pgveil.toml`.
    pub fn config(&self) -> PathBuf {
        self.etc().join("pgveil.toml")
    }

    /// The server.
    pub fn server(&self) -> &'a TempPostgres {
        self.server
    }

    /// The name of the protected database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The keystore's URL, which no file holds.
    pub fn keystore_url(&self) -> &str {
        &self.url
    }

    /// Runs `pgveil ARGS`.
    pub fn run(&self, args: &[&str]) -> Result<Ran> {
        run_with(args, &[(URL_VARIABLE, &self.url)])
    }

    /// The same with further environment variables.
    pub fn run_env(&self, args: &[&str], env: &[(&str, &str)]) -> Result<Ran> {
        run_with(args, &[&[(URL_VARIABLE, self.url.as_str())], env].concat())
    }

    /// Runs `pgveil ARGS` and kills it after so many seconds.
    pub fn run_for(&self, seconds: u32, args: &[&str]) -> Result<Ran> {
        let output = Command::new("timeout")
            .args(["-s", "KILL", &seconds.to_string()])
            .arg(binary()?)
            .args(args)
            .env(URL_VARIABLE, &self.url)
            .output()
            .context("run pgveil")?;
        Ok(Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs `pgveil COMMAND --config F ARGS`.
    pub fn command(&self, command: &str, args: &[&str]) -> Result<Ran> {
        let config = self.config();
        let mut all = vec![
            command,
            "--config",
            config.to_str().context("a UTF-8 path")?,
        ];
        all.extend_from_slice(args);
        self.run(&all)
    }

    /// `pgveil kms ...`; what needs a step-up token gets one as the only operator, who is enrolled on first use.
    pub fn kms(&self, args: &[&str]) -> Result<Ran> {
        let is_grave = |arg: &&str| ["rotate", "destroy-version", "delete"].contains(arg);
        if !args.iter().any(is_grave) {
            return self.command("kms", args);
        }
        let file = self.etc().join("passphrase");
        let passphrase = file.to_str().context("a UTF-8 path")?;
        if !file.exists() {
            std::fs::write(&file, "correct horse battery staple\n")?;
            let enroll = ["enroll", "ada", "--new-passphrase-file", passphrase];
            self.command("step-up", &enroll)?.ok()?;
        }
        self.command("kms", &[args, &["--passphrase-file", passphrase]].concat())
    }

    /// [`Site::command`] that is not waited for.
    pub fn start(&self, command: &str, args: &[&str]) -> Result<Child> {
        Command::new(binary()?)
            .args([command, "--config"])
            .arg(self.config())
            .args(args)
            .env(URL_VARIABLE, &self.url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start pgveil")
    }

    /// [`Site::command`], with something on standard input.
    pub fn feed(&self, command: &str, args: &[&str], input: &[u8]) -> Result<Ran> {
        let config = self.config();
        let mut child = Command::new("timeout")
            .args(["-k", "1", LIMIT])
            .arg(binary()?)
            .args([command, "--config"])
            .arg(config)
            .args(args)
            .env(URL_VARIABLE, &self.url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run pgveil")?;
        let mut stdin = child.stdin.take().context("standard input")?;
        // A command that refuses at once does not read it.
        let _ = stdin.write_all(input);
        drop(stdin);
        let output = child.wait_with_output().context("run pgveil")?;
        Ok(Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Starts `pgveil kms serve` and waits until it serves; `[kms_server]` must be there, with port 0.
    pub fn serve_keys(&self) -> Result<KeyServer> {
        let log = self
            .dir
            .join(format!("log-{}", self.logs.fetch_add(1, Ordering::Relaxed)));
        let config = self.config();
        let config = config.to_str().context("a UTF-8 path")?;
        let leashed = Leash::new(&binary()?, &["kms", "--config", config, "serve"], "KILL")
            .env(URL_VARIABLE, &self.url)
            .start(File::create(&log)?)?;
        KeyServer::wait(leashed, log)
    }

    /// Writes a root key for another local provider: NAME in the folder of the configuration.
    pub fn make_root_key(&self, name: &str) -> Result<()> {
        let further = self.dir.join(format!("init-{name}"));
        self.run(&["init", &further.to_string_lossy()])?.ok()?;
        fs::rename(further.join("root.key"), self.etc().join(name))?;
        Ok(())
    }

    /// `pgveil apply --yes`, which must succeed.
    pub fn apply(&self) -> Result<String> {
        self.command("apply", &["--yes"])?
            .ok()
            .context("pgveil apply --yes")
    }

    /// `pgveil explain`: how a statement is rewritten and why.
    pub fn explain(&self, sql: &str) -> Result<String> {
        let ran = self.command("explain", &[sql])?;
        Ok(format!("{}{}", ran.stdout, ran.stderr))
    }

    /// Starts `pgveil serve` and waits until it listens.
    pub fn serve(&self) -> Result<Proxy> {
        let log = self
            .dir
            .join(format!("log-{}", self.logs.fetch_add(1, Ordering::Relaxed)));
        let config = self.config();
        let args = [
            "serve",
            "--config",
            config.to_str().context("a UTF-8 path")?,
        ];
        let leashed = Leash::new(&binary()?, &args, "KILL")
            .env(URL_VARIABLE, &self.url)
            .start(File::create(&log)?)?;
        Proxy::wait(leashed, log, self)
    }

    fn default_settings(&mut self) {
        let text = |value: &str| format!("\"{value}\"");
        let upstream = format!("127.0.0.1:{}", self.server.port());
        let defaults = [
            ("", "listen", text("127.0.0.1:0")),
            ("", "policy", text("policy.toml")),
            ("upstream", "address", text(&upstream)),
            ("upstream", "tls", text("disable")),
            ("keystore", "url", text(&format!("env:{URL_VARIABLE}"))),
            ("provider.main", "kind", text("local")),
            ("provider.main", "root_key_file", text("root.key")),
            ("defaults", "provider", text("main")),
            ("defaults", "key", text("platform")),
            ("log", "level", text("info")),
        ];
        for (section, key, value) in defaults {
            self.settings
                .entry(section.to_owned())
                .or_default()
                .insert(key.to_owned(), value);
        }
    }

    fn write_settings(&self) -> Result<()> {
        let mut toml = String::new();
        for (section, keys) in &self.settings {
            if !section.is_empty() {
                toml.push_str(&format!("\n[{section}]\n"));
            }
            for (key, value) in keys {
                toml.push_str(&format!("{key} = {value}\n"));
            }
        }
        toml.push_str(&self.further);
        Ok(fs::write(self.config(), toml)?)
    }
}

/// Runs `pgveil ARGS` outside any site.
pub fn run(args: &[&str]) -> Result<Ran> {
    run_with(args, &[])
}

fn run_with(args: &[&str], env: &[(&str, &str)]) -> Result<Ran> {
    let mut command = Command::new("timeout");
    command
        .args(["-k", "1", LIMIT])
        .arg(binary()?)
        .args(args)
        .envs(env.iter().copied());
    let output = command.output().context("run pgveil")?;
    Ok(Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The built binary: `PGVEIL_BIN`, or the one beside this test.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("PGVEIL_BIN") {
        return Ok(path.into());
    }
    let me = std::env::current_exe()?;
    let beside = me.ancestors().skip(1).take(2).map(|dir| dir.join("pgveil"));
    beside.into_iter().find(|path| path.is_file()).context(
        "the binary pgveil is not built; `make test` builds it first, or run: cargo build -p pgveil",
    )
}

fn null() -> Result<File> {
    Ok(File::options().write(true).open("/dev/null")?)
}
