//! Asking a person at a terminal: a name typed again, a passphrase that is not shown, a token. Without a terminal nobody is
//! asked, and what must be known is in files.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use clap::Args;
use pgveil_config::ScopePath;
use pgveil_keys::{
    audit::{Log, Operation},
    keystore::KeystoreError,
    step_up::{StepUpError, Token},
};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use super::Found;

/// What a file with a passphrase or a token may hold.
const MAX_SECRET_BYTES: u64 = 4096;

/// How a dangerous verb gets its step-up token.
#[derive(Clone, Debug, Args)]
pub struct StepUp {
    /// A file with a token from `pgveil step-up token`; `-` reads standard input
    #[arg(long = "token", value_name = "FILE", conflicts_with_all = ["operator", "passphrase_file"])]
    token_file: Option<PathBuf>,
    /// The operator who does this; on a terminal pgveil asks for the passphrase
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// A file with the operator's passphrase, instead of being asked
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl StepUp {
    /// The token that was given, or a new one for an operator who proves to be there.
    pub async fn token(
        &self,
        log: &Arc<Log>,
        operation: Operation,
        scope: &ScopePath,
    ) -> anyhow::Result<Token> {
        if let Some(path) = &self.token_file {
            let text = secret(path)?;
            return Token::parse(&text).map_err(|error| found(&error.into()));
        }
        let operators = log.operators().await.map_err(|error| found(&error))?;
        let name = match (&self.operator, &operators[..]) {
            (Some(name), _) => name.clone(),
            (None, []) => {
                let (needed, nobody) = (StepUpError::Needed { operation }, StepUpError::NoOperator);
                return Err(Found(format!("{needed}: {nobody}\n  cure: {}", nobody.cure())).into());
            }
            (None, [only]) => only.name.clone(),
            (None, _) if io::stdin().is_terminal() => line("Operator: ")?,
            (None, _) => return Err(found(&StepUpError::Needed { operation }.into())),
        };
        let passphrase = match &self.passphrase_file {
            Some(path) => secret(path)?,
            None if io::stdin().is_terminal() => {
                hidden(&format!(
                    "Passphrase of {name} for {operation} on {scope}: "
                ))
                .await?
            }
            None => return Err(found(&StepUpError::Needed { operation }.into())),
        };
        log.step_up_token(&name, &passphrase, operation, scope)
            .await
            .map_err(|error| found(&error))
    }
}

/// A keystore's error with its cure: exit code 1.
pub(super) fn found(error: &KeystoreError) -> anyhow::Error {
    Found(format!("{error}\n  cure: {}", error.cure())).into()
}

/// Whether somebody typed the name of what is about to be lost, or gave it as `--confirm`.
pub(super) fn confirmed(name: &str, given: Option<&str>, what: &str) -> anyhow::Result<()> {
    let typed = match given {
        Some(given) => given.to_owned(),
        None if io::stdin().is_terminal() => {
            println!("{what}");
            line(&format!("Type {name} to do it: "))?
        }
        None => {
            return Err(Found(format!(
                "nobody to ask; give --confirm {name} to do it. {what}"
            ))
            .into());
        }
    };
    if typed.trim() == name {
        Ok(())
    } else {
        Err(Found(format!("that is not {name}: nothing was done")).into())
    }
}

/// A new passphrase: from a file, or typed twice.
pub(super) async fn new_passphrase(
    file: Option<&Path>,
    name: &str,
) -> anyhow::Result<Zeroizing<String>> {
    if let Some(path) = file {
        return secret(path);
    }
    if !io::stdin().is_terminal() {
        return Err(Found("nobody to ask; give --new-passphrase-file".to_owned()).into());
    }
    let first = hidden(&format!("New passphrase of {name}: ")).await?;
    let second = hidden("The same again: ").await?;
    if *first != *second {
        return Err(Found("the two differ: nothing was done".to_owned()).into());
    }
    Ok(first)
}

/// One line of a file, or of standard input for `-`.
pub(super) fn secret(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let cannot = || format!("cannot read {}", path.display());
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).with_context(cannot)?)
    };
    // Room for all of it at once: a text that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_SECRET_BYTES as usize));
    BufReader::new(source.take(MAX_SECRET_BYTES))
        .read_line(&mut text)
        .with_context(cannot)?;
    trimmed(&mut text);
    Ok(text)
}

fn line(prompt: &str) -> anyhow::Result<String> {
    eprint!("{prompt}");
    let _ = io::stderr().flush();
    let mut answer = String::new();
    io::stdin()
        .lock()
        .take(MAX_SECRET_BYTES)
        .read_line(&mut answer)
        .context("standard input")?;
    Ok(answer.trim().to_owned())
}

/// A line that the terminal does not show.
async fn hidden(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    let shown = tcgetattr(io::stdin()).context("the terminal")?;
    let mut silent = shown.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    // Before the echo is off: whoever gives up here wants his terminal back.
    let interrupted = tokio::spawn(end_at_a_signal(shown.clone())?);
    eprint!("{prompt}");
    let _ = io::stderr().flush();
    tcsetattr(io::stdin(), OptionalActions::Flush, &silent).context("the terminal")?;
    let read = tokio::task::spawn_blocking(|| {
        let mut text = Zeroizing::new(String::with_capacity(MAX_SECRET_BYTES as usize));
        let line = { io::stdin().lock().take(MAX_SECRET_BYTES) }.read_line(&mut text);
        line.map(|_| text)
    });
    let read = read.await;
    tcsetattr(io::stdin(), OptionalActions::Flush, &shown).context("the terminal")?;
    eprintln!();
    drop(interrupted);
    let mut text = read.context("standard input")?.context("standard input")?;
    trimmed(&mut text);
    Ok(text)
}

/// Does what these signals do to a program that does not watch them, with the terminal as it was. A signal that is watched
/// once stays watched, so this goes on when the line has been read.
fn end_at_a_signal(shown: Termios) -> anyhow::Result<impl Future<Output = ()>> {
    let watched = |kind| signal(kind).context("signals cannot be watched");
    let mut interrupt = watched(SignalKind::interrupt())?;
    let mut terminate = watched(SignalKind::terminate())?;
    Ok(async move {
        let number = tokio::select! {
            _ = interrupt.recv() => 2,
            _ = terminate.recv() => 15,
        };
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &shown);
        eprintln!();
        // As a shell reports it.
        std::process::exit(128 + number)
    })
}

fn trimmed(text: &mut String) {
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
}
