//! Checkpoints outside the database: a file, the system's log. Whoever cuts the log's tail, or sets it back to an older
//! state, cannot take back what stands there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::{fs::OpenOptionsExt, net::UnixDatagram},
    path::{Path, PathBuf},
    process,
    sync::Arc,
    time::Duration,
};

use super::{
    Checkpoint, Log, checkpoint::MAX_LINE_BYTES, secrets::PublicKey, stored::StoredHead,
    verify::Fault,
};
use crate::keystore::KeystoreError;

/// Where the system's log listens.
pub const SYSLOG: &str = "/dev/log";
/// How long it may take to take a line.
const PATIENCE: Duration = Duration::from_secs(2);
/// Facility `authpriv`, severity `info` (RFC 3164).
const PRIORITY: u8 = 10 * 8 + 6;

/// Where checkpoints go.
#[derive(Debug)]
pub struct Sinks {
    file: Option<PathBuf>,
    /// A datagram socket.
    syslog: Option<PathBuf>,
    /// The last one that went to the system's log.
    told: Option<u64>,
}

/// Why a sink does not take a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The keystore.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// The file.
    #[error("checkpoints cannot be kept in {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The operating system's words.
        error: io::Error,
    },
    /// The system's log.
    #[error("checkpoints cannot be sent to {}: {error}", path.display())]
    Syslog {
        /// Its socket.
        path: PathBuf,
        /// The operating system's words.
        error: io::Error,
    },
    /// A line of the file that nobody at pgveil wrote there.
    #[error("{}: line {line} {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Lines that were there once, or should be by now.
    #[error(
        "{}: the checkpoint at record {seq} is not in it: lines were taken out, or no pgveil with this file has run since",
        path.display()
    )]
    Lacks {
        /// The file.
        path: PathBuf,
        /// The first that is missing.
        seq: u64,
    },
    /// What is in the file is not what is in the database.
    #[error("{}: {fault}", path.display())]
    Differs {
        /// The file.
        path: PathBuf,
        /// How.
        fault: Fault,
    },
}

impl Sinks {
    /// Those of `[audit]`: a file, and the socket of the system's log ([`SYSLOG`]).
    pub fn new(file: Option<PathBuf>, syslog: Option<PathBuf>) -> Self {
        Self {
            file,
            syslog,
            told: None,
        }
    }

    /// The file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Sends on what has been signed since the last time, by whichever replica.
    pub async fn follow(&mut self, log: &Arc<Log>) -> Result<(), SinkError> {
        if let Some(path) = &self.file {
            let failed = |error| SinkError::File {
                path: path.clone(),
                error,
            };
            let key = *log.secrets().await?.public_key();
            let last = last_line(path).map_err(failed)?;
            let last = last.and_then(|line| Checkpoint::open(&line, &key));
            let mut seq = last.map_or(0, |checkpoint| checkpoint.tip.seq);
            loop {
                let lines = log.checkpoints_after(seq).await?;
                let Some((newest, _)) = lines.last() else {
                    break;
                };
                seq = *newest;
                append(path, &lines).map_err(failed)?;
            }
        }
        match self.syslog.clone() {
            Some(socket) => self.tell(log, &socket).await,
            None => Ok(()),
        }
    }

    /// A process that has just started sends the newest one only: the others were sent by those before it.
    async fn tell(&mut self, log: &Arc<Log>, to: &Path) -> Result<(), SinkError> {
        let Some(told) = self.told else {
            let head = log.stored_head().await?.map_or(0, |head| head.tip.seq);
            let unsigned = log.unsigned().await?;
            self.told = Some(head.saturating_sub(unsigned).saturating_sub(1));
            return Box::pin(self.tell(log, to)).await;
        };
        let lines = log.checkpoints_after(told).await?;
        let Some((newest, _)) = lines.last() else {
            return Ok(());
        };
        let newest = *newest;
        let sent = UnixDatagram::unbound().and_then(|socket| {
            // Its queue may be full: no thread of pgveil's waits for it without end.
            socket.set_write_timeout(Some(PATIENCE))?;
            lines.iter().try_for_each(|(_, line)| {
                let message = format!("<{PRIORITY}>pgveil[{}]: {line}", process::id());
                socket.send_to(message.as_bytes(), to).map(drop)
            })
        });
        sent.map_err(|error| SinkError::Syslog {
            path: to.to_owned(),
            error,
        })?;
        self.told = Some(newest);
        Ok(())
    }
}

/// How long a checkpoint may be on its way to a file.
const ON_THE_WAY_US: u64 = 10 * 60_000_000;

/// Whether the log still has every checkpoint that a file holds, and the file those that were signed before its last one, in their
/// order; answers how many the file holds.
pub async fn compare(log: &Arc<Log>, path: &Path) -> Result<u64, SinkError> {
    let (count, _) = compared(log, path).await?;
    Ok(count)
}

/// The same, and whether the file has those at the end, too.
pub async fn compare_to_the_end(log: &Arc<Log>, path: &Path) -> Result<u64, SinkError> {
    let (count, unsent) = compared(log, path).await?;
    let now_us = log.clock.unix_us();
    match unsent {
        Some(unsent) if unsent.at_us.saturating_add(ON_THE_WAY_US) < now_us => {
            Err(SinkError::Lacks {
                path: path.to_path_buf(),
                seq: unsent.tip.seq,
            })
        }
        _ => Ok(count),
    }
}

/// How many checkpoints a file holds, and the first of the log's that was signed behind them.
async fn compared(log: &Arc<Log>, path: &Path) -> Result<(u64, Option<Checkpoint>), SinkError> {
    let key = *log.secrets().await?.public_key();
    let kept = kept(path, &key)?;
    let differs = |fault| SinkError::Differs {
        path: path.to_path_buf(),
        fault,
    };
    let end = log
        .stored_head()
        .await?
        .map_or(0, |head: StoredHead| head.tip.seq);
    let begin = log.anchor().await?;
    let begin = begin.and_then(|line| Checkpoint::open(&line, &key));
    let begin = begin.map_or(0, |anchor| anchor.tip.seq);
    let mut stored = BTreeMap::new();
    let mut seq = begin.saturating_sub(1);
    loop {
        let page = log.checkpoints_after(seq).await?;
        let Some((newest, _)) = page.last() else {
            break;
        };
        seq = *newest;
        stored.extend(page);
    }
    let mut count = 0_usize;
    let mut held = BTreeSet::new();
    for (at, line) in kept {
        // Two processes that write the same file may both have sent one.
        let is_moved = held.last().is_some_and(|last| at < *last) && !held.contains(&at);
        held.insert(at);
        count += 1;
        if is_moved {
            return Err(SinkError::Line {
                path: path.to_path_buf(),
                line: count,
                what: "stands behind a checkpoint of a later record",
            });
        }
        if at > end {
            return Err(differs(Fault::TailCut {
                expected: at,
                found: end,
            }));
        }
        // Those from before retention dropped their records are gone from the database.
        if at >= begin && stored.get(&at) != Some(&line) {
            return Err(differs(Fault::Checkpoint { seq: at }));
        }
    }
    // A file begins with all that there are.
    let missing = held.last().and_then(|last| {
        let mut sent = stored.range(..=last).map(|(seq, _)| *seq);
        sent.find(|seq| !held.contains(seq))
    });
    if let Some(seq) = missing {
        return Err(SinkError::Lacks {
            path: path.to_path_buf(),
            seq,
        });
    }
    let behind = held.last().map_or(0, |last| last + 1);
    let unsent = stored.range(behind..).next();
    let unsent = unsent.and_then(|(_, line)| Checkpoint::open(line, &key));
    Ok((count as u64, unsent))
}

/// All lines of a file, each of which must be signed.
fn kept(path: &Path, key: &PublicKey) -> Result<Vec<(u64, String)>, SinkError> {
    let failed = |error| SinkError::File {
        path: path.to_path_buf(),
        error,
    };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        let limit = MAX_LINE_BYTES as u64 + 1;
        Read::take(&mut file, limit)
            .read_until(b'\n', &mut line)
            .map_err(failed)?;
        if line.is_empty() {
            return Ok(lines);
        }
        let text = line
            .strip_suffix(b"\n")
            .and_then(|line| std::str::from_utf8(line).ok());
        let checkpoint = text.and_then(|line| Some((Checkpoint::open(line, key)?, line)));
        let Some((checkpoint, line)) = checkpoint else {
            return Err(SinkError::Line {
                path: path.to_path_buf(),
                line: lines.len() + 1,
                what: "is no checkpoint that the log's key signed",
            });
        };
        lines.push((checkpoint.tip.seq, line.to_owned()));
    }
}

/// The last whole line, of a file that may not be there yet.
fn last_line(path: &Path) -> io::Result<Option<String>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(
        length.saturating_sub(2 * MAX_LINE_BYTES as u64),
    ))?;
    let mut end = Vec::new();
    Read::take(&mut file, 2 * MAX_LINE_BYTES as u64).read_to_end(&mut end)?;
    let text = String::from_utf8_lossy(&end);
    Ok(text.lines().next_back().map(str::to_owned))
}

fn append(path: &Path, lines: &[(u64, String)]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)?;
    let mut text = String::new();
    for (_, line) in lines {
        text.push_str(line);
        text.push('\n');
    }
    file.write_all(text.as_bytes())?;
    file.sync_data()
}
