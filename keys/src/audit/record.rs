//! A record's canonical bytes: every field with its length before it, so that two different records never have the
//! same bytes. What chains them is in [`super::chain`].

use serde_json::{Value, json};

use super::{
    Event,
    actor::MAX_NAME_BYTES,
    event::{CHANGED_KEYS, CHANGED_ROWS},
};

/// The first byte of a record.
const VERSION: u8 = 1;
/// The longest detail, in bytes of its JSON; a longer one is replaced by its length.
pub const MAX_DETAIL_BYTES: usize = 4096;
/// No record is longer.
pub const MAX_RECORD_BYTES: usize = 1
    + 4 * 8
    + HASH_BYTES
    + 16
    + 8 * 4
    + 3 * MAX_NAME_BYTES
    + 2 * MAX_WORD_BYTES
    + 2 * MAX_TEXT_BYTES
    + MAX_DETAIL_BYTES;
/// The longest operation and outcome.
const MAX_WORD_BYTES: usize = 64;
/// The longest scope and key in a record.
const MAX_TEXT_BYTES: usize = 1024;

/// Bytes of a hash and of a MAC.
pub const HASH_BYTES: usize = 32;
/// A link of the chain, or a MAC.
pub type Hash = [u8; HASH_BYTES];
/// Tells an operation that is tried again from another one.
pub type OperationId = [u8; 16];

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// From 1, without gaps.
    pub seq: u64,
    /// The link of the record before.
    pub previous: Hash,
    /// Which audit key its MAC is made with.
    pub audit_key: u64,
    /// Random.
    pub id: OperationId,
    /// Microseconds since 1970, by the clock of the process that wrote it.
    pub at_us: u64,
    /// How long it took, in microseconds.
    pub latency_us: u64,
    /// The process that wrote it.
    pub instance: String,
    /// Who did it.
    pub actor: String,
    /// From where.
    pub address: String,
    /// What.
    pub operation: String,
    /// How it ended.
    pub outcome: String,
    /// The scope's path, or empty.
    pub scope: String,
    /// A key's id, or empty.
    pub key: String,
    /// A JSON object as text, or empty.
    pub detail: String,
}

/// Where and when a record is written.
pub(super) struct Place<'a> {
    pub(super) seq: u64,
    pub(super) previous: Hash,
    pub(super) audit_key: u64,
    pub(super) id: OperationId,
    pub(super) at_us: u64,
    /// For an event that does not say how long it took.
    pub(super) latency_us: u64,
    pub(super) instance: &'a str,
}

impl Record {
    pub(super) fn new(event: &Event, place: Place<'_>) -> Self {
        let actor = event.actor.as_ref();
        let latency = event
            .latency
            .map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        Self {
            seq: place.seq,
            previous: place.previous,
            audit_key: place.audit_key,
            id: place.id,
            at_us: place.at_us,
            latency_us: latency.unwrap_or(place.latency_us),
            instance: cut(place.instance, MAX_NAME_BYTES),
            actor: cut(
                actor.map_or(place.instance, |actor| &actor.name),
                MAX_NAME_BYTES,
            ),
            address: cut(actor.map_or("", |actor| &actor.address), MAX_NAME_BYTES),
            operation: event.operation.as_str().to_owned(),
            outcome: event.outcome.as_str().to_owned(),
            scope: cut(&event.scope, MAX_TEXT_BYTES),
            key: cut(&event.key, MAX_TEXT_BYTES),
            detail: bounded(&event.detail),
        }
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256 + self.detail.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.seq.to_be_bytes());
        bytes.extend_from_slice(&self.previous);
        bytes.extend_from_slice(&self.audit_key.to_be_bytes());
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.at_us.to_be_bytes());
        bytes.extend_from_slice(&self.latency_us.to_be_bytes());
        for text in self.texts() {
            let length = u32::try_from(text.len()).expect("texts of a record are cut to a few KiB");
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }

    /// Reads canonical bytes; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_RECORD_BYTES {
            return None;
        }
        let mut rest = Bytes(bytes);
        if rest.take::<1>()? != [VERSION] {
            return None;
        }
        let record = Self {
            seq: rest.number()?,
            previous: rest.take()?,
            audit_key: rest.number()?,
            id: rest.take()?,
            at_us: rest.number()?,
            latency_us: rest.number()?,
            instance: rest.text()?,
            actor: rest.text()?,
            address: rest.text()?,
            operation: rest.text()?,
            outcome: rest.text()?,
            scope: rest.text()?,
            key: rest.text()?,
            detail: rest.text()?,
        };
        rest.0.is_empty().then_some(record)
    }

    fn texts(&self) -> [&str; 8] {
        [
            &self.instance,
            &self.actor,
            &self.address,
            &self.operation,
            &self.outcome,
            &self.scope,
            &self.key,
            &self.detail,
        ]
    }

    /// The rows of `pgveil.keys` that were written with it, in ascending order.
    pub fn changed_keys(&self) -> Vec<u64> {
        let detail = self.detail_json();
        let named = detail.get(CHANGED_KEYS).and_then(Value::as_array);
        let mut keys: Vec<u64> = named
            .map(|keys| keys.iter().filter_map(Value::as_u64).collect())
            .unwrap_or_default();
        keys.sort_unstable();
        keys
    }

    /// The rows of other tables that were written with it, as `TABLE ROW`, in the order of their bytes.
    pub fn changed_rows(&self) -> Vec<String> {
        let detail = self.detail_json();
        let named = detail.get(CHANGED_ROWS).and_then(Value::as_array);
        let named = named.into_iter().flatten().filter_map(Value::as_str);
        let mut rows: Vec<String> = named.map(str::to_owned).collect();
        rows.sort_unstable();
        rows
    }

    /// The detail as JSON; null when there is none.
    pub fn detail_json(&self) -> Value {
        serde_json::from_str(&self.detail).unwrap_or_default()
    }
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let length = u32::from_be_bytes(self.take()?) as usize;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(str::to_owned)
    }
}

/// The first bytes of a text, whole characters.
fn cut(text: &str, max: usize) -> String {
    text[..text.floor_char_boundary(max)].to_owned()
}

fn bounded(detail: &Value) -> String {
    if detail.is_null() {
        return String::new();
    }
    let text = detail.to_string();
    if text.len() > MAX_DETAIL_BYTES {
        let mut less = json!({ "left_out_bytes": text.len() });
        // What rows are compared with is never left out, and always fits.
        for rows in [CHANGED_KEYS, CHANGED_ROWS] {
            if let Some(named) = detail.get(rows) {
                less[rows] = named.clone();
            }
        }
        return less.to_string();
    }
    text
}
