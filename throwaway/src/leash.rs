//! A child process that cannot outlive us: it ends when we drop it, and also when we are killed. It does not restart anything.
//!
//! A shell holds the other end of a pipe. The kernel closes our end whatever way we die, the shell reads end-of-file,
//! kills the program and removes its directory. (`PR_SET_PDEATHSIG` would follow the *thread* that started the child.)

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Mutex, MutexGuard,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// Arguments: the signal that ends the program, the directory to remove ("" for none), the program and its arguments.
/// The inner shell prints its own pid and then *becomes* the program.
const SCRIPT: &str = r#"
signal=$1; dir=$2; shift 2
exec 3<&0
sh -c 'echo $$; exec "$@"' sh "$@" </dev/null 3<&- &
pid=$!
exec >&-
(read -r word <&3; [ "$word" = leave ] && exit 9; kill -s "$signal" "$pid" 2>/dev/null; exit 0) &
reader=$!
wait "$pid"
wait "$reader" || dir=
if [ -n "$dir" ]; then cd /; rm -rf "$dir"; fi
"#;

/// An operating-system user that a child runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
}

/// How to start a program on a leash.
#[derive(Debug)]
pub struct Leash {
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    user: Option<User>,
    signal: &'static str,
    remove: Option<PathBuf>,
}

/// A program on a leash.
#[derive(Debug)]
pub struct Leashed {
    shell: Child,
    pipe: Option<ChildStdin>,
    lines: Mutex<Receiver<String>>,
    pid: u32,
}

impl Leash {
    /// Runs `program` with `args`; on the end of the leash it gets `signal` (`QUIT`, `KILL`, `TERM`).
    pub fn new(program: &Path, args: &[&str], signal: &'static str) -> Self {
        Self {
            program: program.to_owned(),
            args: args.iter().map(ToString::to_string).collect(),
            env: Vec::new(),
            user: None,
            signal,
            remove: None,
        }
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs it as another user; `None` keeps ours.
    pub fn user(mut self, user: Option<User>) -> Self {
        self.user = user;
        self
    }

    /// Removes this directory after the program has ended.
    pub fn remove(mut self, dir: &Path) -> Self {
        self.remove = Some(dir.to_owned());
        self
    }

    /// Starts it. Its stderr goes to `log`; its stdout is read line by line by [`Leashed::line`].
    pub fn start(self, log: File) -> Result<Leashed> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "leash", self.signal]);
        command.arg(self.remove.as_deref().unwrap_or(Path::new("")));
        command.arg(&self.program).args(&self.args);
        command.envs(self.env);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        // A group of its own: Ctrl-C at the terminal reaches us, and the leash then ends in order.
        command.process_group(0).current_dir("/");
        run_as(&mut command, self.user);
        let mut shell = command
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        let pipe = shell.stdin.take();
        let stdout = shell.stdout.take().context("stdout is piped")?;
        let mut leashed = Leashed {
            shell,
            pipe,
            lines: Mutex::new(read_lines(stdout)),
            pid: 0,
        };
        let first = leashed
            .line(Duration::from_secs(10))?
            .context("the program did not start")?;
        leashed.pid = first
            .parse()
            .context("the leash prints the program's pid first")?;
        Ok(leashed)
    }
}

impl Leashed {
    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The next line of its stdout; `None` once it has closed stdout, which is when it has ended.
    pub fn line(&self, within: Duration) -> Result<Option<String>> {
        match self.receiver().recv_timeout(within) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => bail!("no line on stdout within {within:?}"),
        }
    }

    /// Whether the program has closed its stdout. Lines that have not been read are lost.
    pub fn has_ended(&self) -> bool {
        loop {
            match self.receiver().try_recv() {
                Ok(_) => {}
                Err(mpsc::TryRecvError::Empty) => return false,
                Err(mpsc::TryRecvError::Disconnected) => return true,
            }
        }
    }

    /// Waits until the program has closed its stdout; `false` when it has not by then.
    pub fn wait_for_end(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.receiver().recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    fn receiver(&self) -> MutexGuard<'_, Receiver<String>> {
        self.lines.lock().expect("no holder of this lock can panic")
    }

    /// Lets go of a program that has ended, without removing its directory.
    pub fn leave_files(&mut self) {
        if let Some(pipe) = &mut self.pipe {
            let _ = pipe.write_all(b"leave\n");
        }
    }

    /// Sends a signal by its short name (`KILL`, `TERM`, `HUP`, `STOP`, `CONT`).
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill")
            .args(["-s", name, &self.pid.to_string()])
            .status()?;
        if !status.success() {
            bail!("kill -s {name} {} failed", self.pid);
        }
        Ok(())
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.shell.wait();
    }
}

/// Makes `command` run as `user`, with that user's groups only.
pub fn run_as(command: &mut Command, user: Option<User>) {
    if let Some(user) = user {
        command.gid(user.gid).uid(user.uid);
    }
}

fn read_lines(stdout: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
