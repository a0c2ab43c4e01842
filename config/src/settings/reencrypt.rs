//! `[reencrypt]`: the jobs that rewrite rows behind the applications' back, and how much they may take from them.

use std::time::Duration;

use crate::{
    fields::Fields,
    known::{Key, Kind, Need, Section, Shape, Support, Word},
};

/// How jobs over tables run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reencrypt {
    /// Whether a rotation queues a job by itself.
    pub automatic: bool,
    /// Batches at once, over all replicas.
    pub concurrency: usize,
    /// Rows in one transaction.
    pub batch_size: usize,
    /// The pause behind each batch; zero for full speed.
    pub interval: Duration,
    /// How often a failed batch is tried again.
    pub max_retries: usize,
    /// A job that has not got on for so long expires.
    pub lease: Duration,
    /// Whether triggers fire for rows that a job writes.
    pub fires_triggers: bool,
    /// The lag of a standby at which jobs slow down.
    pub max_lag: Duration,
    /// The time of a batch's own statement at which jobs slow down.
    pub max_latency: Duration,
}

static TRIGGERS: [Word; 2] = [
    Word {
        word: "skip",
        support: Support::Since("0.1"),
        meaning: "they do not fire, since nothing changes for the application; a table that has some needs the right to set `session_replication_role` (`GRANT SET ON PARAMETER`, PostgreSQL 15)",
    },
    Word {
        word: "fire",
        support: Support::Since("0.1"),
        meaning: "they fire as for any UPDATE",
    },
];

pub(super) static SECTION: Section = Section {
    name: "reencrypt",
    header: "[reencrypt]",
    shape: Shape::One,
    support: Support::Since("0.1"),
    meaning: "The jobs that bring rows to the present data keys in the background (docs/rotation.md). They run in every `pgveil serve`, which share them.",
    keys: &[
        Key {
            name: "automatic",
            kind: Kind::Switch,
            need: Need::Default("true"),
            support: Support::Since("0.1"),
            meaning: "Whether the rotation of a KEK, or another KEK for a scope, queues a job by itself. `pgveil rotate` says it each time; the end of `dek_epoch` queues none.",
        },
        Key {
            name: "concurrency",
            kind: Kind::Count {
                min: 1,
                max: 256,
                why: "",
            },
            need: Need::Default("2"),
            support: Support::Since("0.1"),
            meaning: "Batches at once, over all replicas and jobs.",
        },
        Key {
            name: "batch_size",
            kind: Kind::Count {
                min: 1,
                max: 100_000,
                why: "",
            },
            need: Need::Default("100"),
            support: Support::Since("0.1"),
            meaning: "Rows in one transaction.",
        },
        Key {
            name: "interval",
            kind: Kind::Time {
                min: Duration::ZERO,
                max: Duration::from_hours(24),
            },
            need: Need::Default("\"5s\""),
            support: Support::Since("0.1"),
            meaning: "The pause behind each batch; `\"0s\"` for full speed, in batches of up to 2,000 rows.",
        },
        Key {
            name: "max_retries",
            kind: Kind::Count {
                min: 0,
                max: 1000,
                why: "",
            },
            need: Need::Default("5"),
            support: Support::Since("0.1"),
            meaning: "How often a failed batch is tried again before the job fails.",
        },
        Key {
            name: "lease",
            kind: Kind::Time {
                min: Duration::from_mins(1),
                max: Duration::from_hours(365 * 24),
            },
            need: Need::Default("\"7d\""),
            support: Support::Since("0.1"),
            meaning: "A job that has not got on for so long expires.",
        },
        Key {
            name: "triggers",
            kind: Kind::OneOf(&TRIGGERS),
            need: Need::Default("\"skip\""),
            support: Support::Since("0.1"),
            meaning: "What becomes of triggers on UPDATE of rows that a job writes.",
        },
        Key {
            name: "max_lag",
            kind: Kind::Time {
                min: Duration::from_secs(1),
                max: Duration::from_hours(24),
            },
            need: Need::Default("\"10s\""),
            support: Support::Since("0.1"),
            meaning: "Jobs slow down while a standby is behind by more. Seen only by a keystore role with `pg_monitor`.",
        },
        Key {
            name: "max_latency",
            kind: Kind::Time {
                min: Duration::from_secs(1),
                max: Duration::from_hours(1),
            },
            need: Need::Default("\"2s\""),
            support: Support::Since("0.1"),
            meaning: "Jobs slow down while the statement of a batch takes longer.",
        },
    ],
    variants: &[],
    sections: &[],
};

pub(super) fn read(fields: &Fields<'_, '_>) -> Reencrypt {
    Reencrypt {
        automatic: fields.switch("automatic"),
        concurrency: fields.count("concurrency"),
        batch_size: fields.count("batch_size"),
        interval: fields.time("interval"),
        max_retries: fields.count("max_retries"),
        lease: fields.time("lease"),
        fires_triggers: fields.text("triggers").as_deref() == Some("fire"),
        max_lag: fields.time("max_lag"),
        max_latency: fields.time("max_latency"),
    }
}
