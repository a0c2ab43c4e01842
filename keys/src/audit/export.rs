//! The log as JSON lines: for people and collectors to read, and for anybody with the public key to check without the
//! database. A header, records and checkpoints in their order, and an end that signs every byte before it.
//!
//! A line is judged by writing it again: what a line shows is what its record says, or it is not taken.

use std::{
    io::{self, BufRead, Write},
    sync::Arc,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Event, Log, Operation, Record,
    checkpoint::bytes,
    log::Seen,
    secrets::{PublicKey, Secrets, Signature, signed_by},
    time,
    verify::{Fault, Sound, Verifier},
};
use crate::keystore::KeystoreError;

const HEADER: &str = "pgveil-audit-export v1";
const END: &str = "pgveil-audit-export-end v1";
const SIGNATURE: &str = " signature=";
/// No line is longer: a record is at most some 8 KiB, and stands in it twice, in hexadecimal and as JSON.
const MAX_LINE_BYTES: u64 = 128 * 1024;

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The keystore.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// Where it is written to.
    #[error("the export cannot be written: {0}")]
    Io(#[from] io::Error),
    /// The log is not sound.
    #[error("the audit log is not sound: {0}")]
    Fault(#[from] Fault),
}

impl Log {
    /// Writes the whole log, with a record of having done so, and a checkpoint, at its end.
    pub async fn export(
        self: &Arc<Self>,
        out: &mut (dyn Write + Send),
    ) -> Result<Sound, ExportError> {
        let secrets = self.secrets().await?;
        self.record(Event::new(Operation::AuditExport)).await?;
        self.checkpoint().await?;
        let anchor = self.anchor().await?;
        let upto = self.stored_head().await?.map_or(0, |head| head.tip.seq);
        let key = *secrets.public_key();
        let mut verifier = Verifier::new(key, Some(&secrets), anchor.as_deref())?;
        let mut writer = Writer::new(out, &key, anchor.as_deref());
        let judged = self
            .judge(&mut verifier, upto, &mut |seen| {
                match seen {
                    Seen::Record(record, row) => writer.record(record, &row.mac),
                    Seen::Checkpoint(line) => writer.checkpoint(line),
                }
                Ok(())
            })
            .await?;
        judged?;
        writer.end(&secrets, &verifier)?;
        Ok(verifier.finish()?)
    }
}

/// Writes the lines, and remembers the hash of all of them and the first failure.
pub(super) struct Writer<'a> {
    out: &'a mut (dyn Write + Send),
    hash: Sha256,
    failed: Option<io::Error>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        out: &'a mut (dyn Write + Send),
        key: &PublicKey,
        anchor: Option<&str>,
    ) -> Self {
        let mut writer = Self {
            out,
            hash: Sha256::new(),
            failed: None,
        };
        writer.put(&header(key, anchor));
        writer
    }

    pub(super) fn record(&mut self, record: &Record, mac: &[u8]) {
        self.put(&record_line(record, mac));
    }

    pub(super) fn checkpoint(&mut self, line: &str) {
        self.put(&checkpoint_line(line));
    }

    /// The end, for what went through a verifier.
    pub(super) fn end(mut self, secrets: &Secrets, verifier: &Verifier<'_>) -> io::Result<()> {
        let end = End::of(verifier, self.hash.clone());
        self.put(&end_line(&end.sign(secrets)));
        self.failed.map_or(Ok(()), Err)
    }

    fn put(&mut self, line: &str) {
        if self.failed.is_some() {
            return;
        }
        let line = format!("{line}\n");
        self.hash.update(line.as_bytes());
        self.failed = self.out.write_all(line.as_bytes()).err();
    }
}

/// What the last line signs.
struct End {
    first: u64,
    last: u64,
    link: String,
    /// Of all lines before.
    sha256: String,
}

impl End {
    fn of(verifier: &Verifier<'_>, before: Sha256) -> Self {
        Self {
            first: verifier.first(),
            last: verifier.at(),
            link: hex::encode(verifier.tip().map_or([0; 32], |tip| tip.link)),
            sha256: hex::encode(before.finalize()),
        }
    }

    fn body(&self) -> String {
        let Self {
            first,
            last,
            link,
            sha256,
        } = self;
        format!("{END} from={first} to={last} link={link} sha256={sha256}")
    }

    fn sign(&self, secrets: &Secrets) -> String {
        let body = self.body();
        let signature = hex::encode(secrets.sign(body.as_bytes()));
        format!("{body}{SIGNATURE}{signature}")
    }

    fn is_signed(&self, line: &str, key: &PublicKey) -> bool {
        let body = self.body();
        let signature = line
            .strip_prefix(body.as_str())
            .and_then(|rest| rest.strip_prefix(SIGNATURE))
            .and_then(bytes::<64>);
        signature.is_some_and(|signature: Signature| signed_by(key, body.as_bytes(), &signature))
    }
}

fn header(key: &PublicKey, anchor: Option<&str>) -> String {
    json!({ "audit": HEADER, "public_key": hex::encode(key), "anchor": anchor }).to_string()
}

/// A record as one line: what it says, then its bytes and its MAC.
pub fn record_line(record: &Record, mac: &[u8]) -> String {
    let mut line = record_json(record);
    line["record"] = hex::encode(record.to_bytes()).into();
    line["mac"] = hex::encode(mac).into();
    line.to_string()
}

/// What a record says.
pub fn record_json(record: &Record) -> Value {
    json!({
        "seq": record.seq,
        "id": hex::encode(record.id),
        "time": time::show(record.at_us),
        "instance": record.instance,
        "actor": record.actor,
        "address": record.address,
        "operation": record.operation,
        "outcome": record.outcome,
        "scope": record.scope,
        "key": record.key,
        "latency_us": record.latency_us,
        "detail": record.detail_json(),
    })
}

fn checkpoint_line(line: &str) -> String {
    json!({ "checkpoint": line }).to_string()
}

fn end_line(line: &str) -> String {
    json!({ "end": line }).to_string()
}

/// Why an export is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error("the export cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is not what pgveil wrote.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Judges an export. `key` is the public key as it was once noted elsewhere, not the one in the file.
pub fn verify(
    export: &mut dyn BufRead,
    key: PublicKey,
    secrets: Option<&Secrets>,
) -> Result<Sound, ReadError> {
    let mut reader = Reader {
        export,
        hash: Sha256::new(),
        line: 0,
    };
    let (first, _) = reader.next()?.ok_or(reader.fault("is missing"))?;
    let anchor = parse(&first).and_then(|value| value["anchor"].as_str().map(str::to_owned));
    if first != header(&key, anchor.as_deref()) {
        return Err(reader
            .fault("is no header of an export of this key's log")
            .into());
    }
    let mut verifier = Verifier::new(key, secrets, anchor.as_deref())?;
    loop {
        let (line, before) = reader
            .next()?
            .ok_or(reader.fault("is missing: the end is cut off"))?;
        let value = parse(&line).ok_or(reader.fault("does not read"))?;
        if let Some(text) = value["checkpoint"].as_str() {
            if line != checkpoint_line(text) {
                return Err(reader.fault("is not as pgveil writes it").into());
            }
            verifier.checkpoint(verifier.at(), text)?;
        } else if let Some(text) = value["end"].as_str() {
            let end = End::of(&verifier, before);
            if line != end_line(text) || !end.is_signed(text, &key) {
                return Err(reader.fault("does not sign the lines before it").into());
            }
            if reader.next()?.is_some() {
                return Err(reader.fault("stands behind the end").into());
            }
            return Ok(verifier.finish()?);
        } else {
            let hex_of = |name: &str| hex::decode(value[name].as_str()?).ok();
            let (Some(record), Some(mac)) = (hex_of("record"), hex_of("mac")) else {
                return Err(reader.fault("is neither record nor checkpoint").into());
            };
            let record = verifier.record(verifier.at() + 1, &record, &mac)?;
            if line != record_line(&record, &mac) {
                return Err(reader.fault("shows something else than its record").into());
            }
        }
    }
}

struct Reader<'a> {
    export: &'a mut dyn BufRead,
    hash: Sha256,
    line: usize,
}

impl Reader<'_> {
    /// The next line without its newline, and the hash of all before it.
    fn next(&mut self) -> Result<Option<(String, Sha256)>, ReadError> {
        self.line += 1;
        let before = self.hash.clone();
        let mut line = Vec::new();
        io::Read::take(&mut *self.export, MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        self.hash.update(&line);
        if line.pop() != Some(b'\n') {
            return Err(self.fault("is cut off, or too long").into());
        }
        let line = String::from_utf8(line).map_err(|_| self.fault("is not UTF-8"))?;
        Ok(Some((line, before)))
    }

    fn fault(&self, what: &'static str) -> Fault {
        Fault::Line {
            line: self.line,
            what,
        }
    }
}

fn parse(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}
