//! What can be told in the audit log: operations, outcomes, and an event before it has a place in the chain.

use std::{fmt, time::Duration};

use pgveil_config::ScopePath;
use serde_json::Value;

use super::Actor;

/// Where a record's detail names the rows of `pgveil.keys` that were written with it.
pub(super) const CHANGED_KEYS: &str = "changed_keys";
/// Where it names rows of other tables that were written with it.
pub(super) const CHANGED_ROWS: &str = "changed_rows";
/// So many numbers of 64 bits fit into a detail.
pub(crate) const MAX_CHANGED_KEYS: usize = 128;
/// Names of other rows in one detail: with a single one that is as long as a scope may be, it stays below what fits.
const MAX_NAMES_BYTES: usize = 2048;

/// Names every operation once: the variant, its text, and whether a person needs a step-up token for it.
macro_rules! operations {
    ($($(#[$doc:meta])* $variant:ident = $text:literal $(needs $step_up:ident)?,)*) => {
        /// What was done, or tried. Texts never change: filters and archives name them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Operation {
            $($(#[$doc])* $variant,)*
        }

        impl Operation {
            /// All of them.
            pub const ALL: &[Operation] = &[$(Operation::$variant),*];

            /// As records, filters and tokens spell it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// Whether a person needs a fresh step-up token to do it.
            pub fn needs_step_up(self) -> bool {
                match self {
                    $(Self::$variant => false $(|| operations!(@$step_up))?,)*
                }
            }
        }
    };
    (@step_up) => { true };
}

operations! {
    /// A data or index key was made.
    DekCreate = "dek.create",
    /// A scope got its next data key; the one before opens only.
    DekRotate = "dek.rotate" needs step_up,
    /// A scope's index key is to be replaced, or a step of that was taken: which search terms columns have.
    IndexRotate = "index.rotate" needs step_up,
    /// Wrapped keys were wrapped by another version or another KEK.
    DekRewrap = "dek.rewrap" needs step_up,
    /// A KEK was seen for the first time, and the version that keys under it follow was written down.
    KekSee = "kek.see",
    /// A KEK got a new version.
    KekRotate = "kek.rotate" needs step_up,
    /// The destruction of a key was scheduled.
    KeySchedule = "key.schedule-destruction" needs step_up,
    /// A scheduled destruction was called off.
    KeyCancel = "key.cancel-destruction",
    /// A row of the keystore that pgveil did not write so, or not last, was not used.
    KeyRefuse = "key.refuse",
    /// Rows of a keystore from before there were MACs got theirs.
    KeyAdopt = "key.adopt",
    /// A key was destroyed: what it sealed cannot be read any more.
    KeyDestroy = "key.destroy" needs step_up,
    /// A key of the local KMS was made, or changed.
    KmsChange = "kms.change",
    /// A key version of the local KMS was destroyed, or a key deleted.
    KmsDestroy = "kms.destroy" needs step_up,
    /// A scope was sealed by hand.
    ScopeSeal = "scope.seal",
    /// A scope was unsealed by hand.
    ScopeUnseal = "scope.unseal" needs step_up,
    /// All keys of a scope were destroyed.
    ScopeErase = "scope.erase" needs step_up,
    /// A setting of a scope was overridden at run time.
    OverrideSet = "override.set" needs step_up,
    /// A run-time override was taken back.
    OverrideClear = "override.clear" needs step_up,
    /// A configuration and its policy took effect.
    ConfigLoad = "config.load",
    /// A configuration was read and not taken.
    ConfigRefuse = "config.refuse",
    /// Columns were converted as the policy says.
    PolicyApply = "policy.apply",
    /// Labels of an enum type got their numbers, or are called otherwise.
    LabelRecord = "label.record",
    /// Columns go back to plaintext, or have gone.
    ColumnDecrypt = "column.decrypt" needs step_up,
    /// A role without the right to see it asked for plaintext.
    RevealRefuse = "reveal.refuse",
    /// A provider answered no.
    ProviderDeny = "provider.deny",
    /// A provider that had answered no, or nothing, answers again.
    ProviderRestore = "provider.restore",
    /// A provider cannot be reached.
    ProviderLose = "provider.lose",
    /// An operator was enrolled.
    OperatorEnroll = "operator.enroll" needs step_up,
    /// An operator was removed.
    OperatorRemove = "operator.remove" needs step_up,
    /// A step-up token was made.
    StepUpIssue = "step-up.issue",
    /// A step-up token was refused, or not made: wrong passphrase, used, expired, for something else.
    StepUpRefuse = "step-up.refuse",
    /// A job over tables was started, paused, resumed or cancelled.
    JobChange = "job.change",
    /// Records past their time were dropped.
    AuditPrune = "audit.prune",
    /// The log was exported.
    AuditExport = "audit.export",
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Operation {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let found = Self::ALL.iter().find(|known| known.as_str() == text);
        found.copied().ok_or(())
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    #[default]
    Done,
    /// Not allowed.
    Refused,
    /// Tried, and it went wrong.
    Failed,
}

impl Outcome {
    /// As records spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// What is to be recorded. Its sequence number, its time and its place in the chain come when it is written.
#[derive(Clone, Debug)]
pub struct Event {
    pub(super) operation: Operation,
    pub(super) outcome: Outcome,
    pub(super) actor: Option<Actor>,
    pub(super) scope: String,
    pub(super) key: String,
    pub(super) latency: Option<Duration>,
    pub(super) detail: Value,
}

impl Event {
    /// An operation that was done, by whoever the task acts for.
    pub fn new(operation: Operation) -> Self {
        Self {
            operation,
            outcome: Outcome::Done,
            actor: None,
            scope: String::new(),
            key: String::new(),
            latency: None,
            detail: Value::Null,
        }
    }

    /// How it ended.
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// Who did it, if not whoever the task acts for.
    pub fn actor(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    /// The scope.
    pub fn scope(mut self, scope: &ScopePath) -> Self {
        scope.as_str().clone_into(&mut self.scope);
        self
    }

    /// The scope as text, where it was not parsed.
    pub fn scope_text(mut self, scope: &str) -> Self {
        scope.clone_into(&mut self.scope);
        self
    }

    /// Which key: a key's id, or a KEK's.
    pub fn key(mut self, key: impl ToString) -> Self {
        self.key = key.to_string();
        self
    }

    /// How long it took; without it, as long as its transaction.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = Some(latency);
        self
    }

    /// What else there is to say: an object. Never plaintext, a key or a token.
    pub fn detail(mut self, detail: Value) -> Self {
        self.detail = detail;
        self
    }

    /// One field more of the detail, which is an object.
    pub(crate) fn more(mut self, field: &str, value: Value) -> Self {
        self.detail[field] = value;
        self
    }

    /// Names the rows of `pgveil.keys` that are written with it: [`MAX_CHANGED_KEYS`] at the most. It comes after
    /// [`Event::detail`], of which it becomes a part.
    pub(crate) fn changes(mut self, keys: impl IntoIterator<Item = u64>) -> Self {
        let keys: Vec<Value> = keys.into_iter().map(Value::from).collect();
        if !self.detail.is_object() {
            self.detail = Value::Object(serde_json::Map::new());
        }
        self.detail[CHANGED_KEYS] = Value::Array(keys);
        self
    }

    /// Names rows of a table that are written with it, of which [`bounded_names`] says how many fit. It comes after
    /// [`Event::detail`].
    pub(crate) fn changes_rows(mut self, table: &str, rows: &[String]) -> Self {
        let rows = rows.iter().map(|row| Value::from(format!("{table} {row}")));
        if !self.detail.is_object() {
            self.detail = Value::Object(serde_json::Map::new());
        }
        self.detail[CHANGED_ROWS] = rows.collect();
        self
    }

    /// The actor now, while the task that caused it runs.
    pub(super) fn settled(mut self) -> Self {
        self.actor.get_or_insert_with(Actor::current);
        self
    }
}

/// Names of rows in as many parts as there must be for each to fit into one event's detail.
pub(crate) fn bounded_names(names: &[String]) -> Vec<&[String]> {
    let mut parts = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (at, name) in names.iter().enumerate() {
        // Quotes, a comma, and the table's name.
        let more = name.len() + 16;
        if at > begin && bytes + more > MAX_NAMES_BYTES {
            parts.push(&names[begin..at]);
            (begin, bytes) = (at, 0);
        }
        bytes += more;
    }
    if begin < names.len() {
        parts.push(&names[begin..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_found_by_their_text() {
        for operation in Operation::ALL {
            assert_eq!(operation.as_str().parse(), Ok(*operation));
        }
        assert_eq!("dek.made".parse::<Operation>(), Err(()));
    }

    #[test]
    fn names_of_rows_are_parted_and_none_is_left_out() {
        let names: Vec<String> = (0..500).map(|n| format!("{n}{}", "x".repeat(n))).collect();
        let parts = bounded_names(&names);
        assert_eq!(parts.concat(), names);
        for part in parts {
            let bytes: usize = part.iter().map(|name| name.len() + 16).sum();
            assert!(!part.is_empty() && (bytes <= MAX_NAMES_BYTES || part.len() == 1));
        }
        assert!(bounded_names(&[]).is_empty());
    }

    #[test]
    fn what_destroys_or_opens_needs_step_up_and_sealing_does_not() {
        assert!(Operation::ScopeErase.needs_step_up());
        assert!(Operation::ScopeUnseal.needs_step_up());
        assert!(!Operation::ScopeSeal.needs_step_up());
        assert!(!Operation::DekCreate.needs_step_up());
    }
}
