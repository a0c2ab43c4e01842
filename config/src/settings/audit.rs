//! `[audit]`: how long the audit log is kept, and where its checkpoints go. The log itself is in the keystore.

use std::{path::PathBuf, time::Duration};

use crate::{
    fields::Fields,
    form::{self, Form},
    known::{Key, Kind, Need, Section, Shape, Support},
};

/// The audit log.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// How long records are kept; `None`: for ever.
    pub retention: Option<Duration>,
    /// A file outside the database that every checkpoint is appended to.
    pub sink_file: Option<PathBuf>,
    /// Whether every checkpoint goes to the system's log.
    pub sink_syslog: bool,
    /// The log's public key, as it must be.
    pub public_key: Option<[u8; 32]>,
}

const DAY: Duration = Duration::from_hours(24);

pub(super) static SECTION: Section = Section {
    name: "audit",
    header: "[audit]",
    shape: Shape::One,
    support: Support::Since("0.1"),
    meaning: "The audit log: every operation on keys, scopes and configuration, in the keystore. It is always written; here is how long it is kept and where its signed checkpoints go.",
    keys: &[
        Key {
            name: "retention",
            kind: Kind::Time {
                min: DAY.saturating_mul(90),
                max: DAY.saturating_mul(3650),
            },
            need: Need::Optional("\"400d\""),
            support: Support::Since("0.1"),
            meaning: "How long records are kept, at least 90 days. Without it, for ever.",
        },
        Key {
            name: "sink_file",
            kind: Kind::File,
            need: Need::Optional("\"audit-checkpoints.log\""),
            support: Support::Since("0.1"),
            meaning: "A file that every signed checkpoint is appended to, by every replica. Put it where nobody who can change the database can change it: then a log that was cut or set back shows.",
        },
        Key {
            name: "sink_syslog",
            kind: Kind::Switch,
            need: Need::Default("false"),
            support: Support::Since("0.1"),
            meaning: "Whether every signed checkpoint is sent to the system's log (`authpriv.info`).",
        },
        Key {
            name: "public_key",
            kind: Kind::Text(Form::PublicKey),
            need: Need::Optional(
                "\"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\"",
            ),
            support: Support::Since("0.1"),
            meaning: "The log's public key, as `pgveil audit checkpoint-key` prints it: a log with another key, and MACs by it, is not taken for pgveil's. Without it, a process that starts takes the log that it finds.",
        },
    ],
    variants: &[],
    sections: &[],
};

pub(super) fn read(fields: &Fields<'_, '_>) -> Audit {
    Audit {
        retention: fields
            .written("retention")
            .map(|_| fields.time("retention")),
        sink_file: fields.file("sink_file"),
        sink_syslog: fields.switch("sink_syslog"),
        public_key: fields
            .text("public_key")
            .and_then(|text| form::public_key(&text)),
    }
}
