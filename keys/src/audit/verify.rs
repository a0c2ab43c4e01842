//! Judges a log: every record is pgveil's, in its place, and none is missing. Works on rows and on exports alike; reading
//! them is done elsewhere.
//!
//! With the log's keys every MAC is checked. With the public key alone, everything up to the last checkpoint is: links are
//! hashes, and the checkpoint's signature holds the last one.

use super::{
    Checkpoint, Operation, Record,
    chain::{Tip, genesis, link},
    checkpoint::EVERY_RECORDS,
    record::Hash,
    secrets::{PublicKey, Secrets, same},
    stored::{Columns, StoredHead, StoredRecord},
};

/// Where and why a log is not what pgveil wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Bytes that are no record.
    #[error("record {seq} does not read")]
    NoRecord {
        /// Where it stands.
        seq: u64,
    },
    /// A number is missing, twice, or out of order.
    #[error("record {found} stands where record {expected} must")]
    Place {
        /// The number that must come.
        expected: u64,
        /// The one that comes.
        found: u64,
    },
    /// The record before it was another one when this was written.
    #[error("record {seq} does not follow from the record before it")]
    Link {
        /// Which.
        seq: u64,
    },
    /// Not made with the log's key.
    #[error("record {seq} was changed: its MAC is not right")]
    Mac {
        /// Which.
        seq: u64,
    },
    /// The columns for filters say something else.
    #[error("record {seq}: column {column} says something else than the record")]
    Column {
        /// Which.
        seq: u64,
        /// The column.
        column: &'static str,
    },
    /// A checkpoint that pgveil did not sign, or not so.
    #[error("the checkpoint at record {seq} is not signed by the log's key")]
    Signature {
        /// Where it is kept.
        seq: u64,
    },
    /// A checkpoint that was signed when the log was another one.
    #[error("the checkpoint at record {seq} is of another log than this one")]
    Checkpoint {
        /// Where.
        seq: u64,
    },
    /// A checkpoint is missing.
    #[error("a checkpoint between records {after} and {before} is missing")]
    CheckpointMissing {
        /// The last one that is there.
        after: u64,
        /// Where the next one stands.
        before: u64,
    },
    /// The oldest records are gone, and pgveil did not drop them.
    #[error("records 1 to {upto} are missing, and pgveil did not drop them")]
    HeadCut {
        /// The last one that is missing.
        upto: u64,
    },
    /// The newest records are gone, or there are more than pgveil wrote.
    #[error("the log ends with record {found}, and must end with record {expected}")]
    TailCut {
        /// The last one there must be.
        expected: u64,
        /// The last one there is.
        found: u64,
    },
    /// The end's own row.
    #[error("the row of pgveil.audit_head was changed")]
    Head,
    /// A line of an export.
    #[error("line {line} of the export {what}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// A log that is sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sound {
    /// How many records.
    pub records: u64,
    /// The first one's number.
    pub first: u64,
    /// The last one's number.
    pub last: u64,
    /// How many checkpoints.
    pub checkpoints: u64,
    /// The last record that a checkpoint covers.
    pub signed_to: u64,
    /// Whether MACs were checked, and not only links and signatures.
    pub macs: bool,
}

/// Takes a log from its beginning to its end.
#[derive(Debug)]
pub struct Verifier<'a> {
    key: PublicKey,
    secrets: Option<&'a Secrets>,
    /// Before the first record it is not known which audit key the first link names.
    tip: Option<Tip>,
    /// Where the kept records begin.
    anchor: u64,
    /// What the last audit.prune says was dropped.
    pruned: u64,
    sound: Sound,
}

impl<'a> Verifier<'a> {
    /// A log that begins behind `anchor`, or at its very beginning. With `secrets`, MACs are checked.
    pub fn new(
        key: PublicKey,
        secrets: Option<&'a Secrets>,
        anchor: Option<&str>,
    ) -> Result<Self, Fault> {
        let anchor = anchor
            .map(|line| Checkpoint::open(line, &key).ok_or(Fault::Signature { seq: 0 }))
            .transpose()?;
        let begin = anchor.map_or(0, |anchor| anchor.tip.seq);
        Ok(Self {
            key,
            secrets,
            tip: anchor.map(|anchor| anchor.tip),
            anchor: begin,
            pruned: 0,
            sound: Sound {
                first: begin + 1,
                last: begin,
                signed_to: begin,
                macs: secrets.is_some(),
                ..Sound::default()
            },
        })
    }

    /// The next row.
    pub fn row(&mut self, row: &StoredRecord) -> Result<Record, Fault> {
        let record = self.record(row.seq, &row.record, &row.mac)?;
        let seq = row.seq;
        let (is, must) = (&row.columns, Columns::of(&record));
        let columns = [
            ("operation_id", is.operation_id == must.operation_id),
            ("at", is.at_us == must.at_us),
            ("operation", is.operation == must.operation),
            ("outcome", is.outcome == must.outcome),
            ("scope", is.scope == must.scope),
            ("actor", is.actor == must.actor),
            (
                "audit_seq of pgveil.key_changes",
                is.changed_keys == must.changed_keys,
            ),
            (
                "audit_seq of pgveil.row_changes",
                is.changed_rows == must.changed_rows,
            ),
        ];
        match columns.into_iter().find(|(_, right)| !right) {
            Some((column, _)) => Err(Fault::Column { seq, column }),
            None => Ok(record),
        }
    }

    /// The next record; `seq` is where it is kept.
    pub fn record(&mut self, seq: u64, bytes: &[u8], mac: &[u8]) -> Result<Record, Fault> {
        let expected = self.sound.last + 1;
        if seq != expected {
            return Err(Fault::Place {
                expected,
                found: seq,
            });
        }
        let mac: Hash = mac.try_into().map_err(|_| Fault::Mac { seq })?;
        let record = Record::from_bytes(bytes).filter(|record| record.to_bytes() == bytes);
        let record = record.ok_or(Fault::NoRecord { seq })?;
        if record.seq != seq {
            return Err(Fault::Place {
                expected,
                found: record.seq,
            });
        }
        let previous = match self.tip {
            Some(tip) => tip.link,
            None => genesis(record.audit_key, &self.key),
        };
        if record.previous != previous {
            return Err(Fault::Link { seq });
        }
        if let Some(secrets) = self.secrets {
            let right = record.audit_key == secrets.id && same(&secrets.mac_record(bytes), &mac);
            if !right {
                return Err(Fault::Mac { seq });
            }
        }
        if seq - self.sound.signed_to > 2 * EVERY_RECORDS {
            return Err(Fault::CheckpointMissing {
                after: self.sound.signed_to,
                before: seq,
            });
        }
        if record.operation == Operation::AuditPrune.as_str() {
            self.pruned = record.detail_json()["upto"].as_u64().unwrap_or(0);
        }
        self.tip = Some(Tip {
            seq,
            link: link(bytes, &mac),
        });
        self.sound.last = seq;
        self.sound.records += 1;
        Ok(record)
    }

    /// The checkpoint that is kept at the record that came last.
    pub fn checkpoint(&mut self, seq: u64, line: &str) -> Result<(), Fault> {
        let checkpoint = Checkpoint::open(line, &self.key).ok_or(Fault::Signature { seq })?;
        if checkpoint.tip.seq != seq || self.tip != Some(checkpoint.tip) {
            return Err(Fault::Checkpoint { seq });
        }
        if checkpoint.after != self.sound.signed_to {
            return Err(Fault::CheckpointMissing {
                after: self.sound.signed_to,
                before: seq,
            });
        }
        self.sound.signed_to = seq;
        self.sound.checkpoints += 1;
        Ok(())
    }

    /// The end of the log, as its own row has it.
    pub fn head(&self, head: &StoredHead) -> Result<(), Fault> {
        if let Some(secrets) = self.secrets
            && !same(&secrets.mac_tip(&head.tip), &head.mac)
        {
            return Err(Fault::Head);
        }
        if head.tip.seq != self.sound.last {
            return Err(Fault::TailCut {
                expected: head.tip.seq,
                found: self.sound.last,
            });
        }
        match self.tip {
            Some(tip) if tip.link != head.tip.link => Err(Fault::Head),
            _ => Ok(()),
        }
    }

    /// The first record that comes.
    pub(super) fn first(&self) -> u64 {
        self.sound.first
    }

    /// The last record that came.
    pub(super) fn at(&self) -> u64 {
        self.sound.last
    }

    /// The last link.
    pub(super) fn tip(&self) -> Option<Tip> {
        self.tip
    }

    /// Nothing comes any more.
    pub fn finish(self) -> Result<Sound, Fault> {
        if self.anchor != self.pruned {
            return Err(Fault::HeadCut { upto: self.anchor });
        }
        Ok(self.sound)
    }
}
