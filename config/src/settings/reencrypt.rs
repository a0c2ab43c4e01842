//! `[reencrypt]`: the background job that brings rows to the current DEK. Known and checked, not supported yet.

use std::time::Duration;

use crate::known::{Key, Kind, Need, Section, Shape, Support};

pub(super) static SECTION: Section = Section {
    name: "reencrypt",
    header: "[reencrypt]",
    shape: Shape::One,
    support: Support::Later("remove it; tables are not re-encrypted in the background today"),
    meaning: "The background job that re-encrypts rows after a rotation.",
    keys: &[
        Key {
            name: "automatic",
            kind: Kind::Switch,
            need: Need::Default("true"),
            support: Support::Since("0.1"),
            meaning: "Whether a rotation starts the job by itself.",
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
            meaning: "Workers at once, across all replicas.",
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
            meaning: "The pause between batches; `\"0s\"` for full speed.",
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
            meaning: "A job that has not moved for so long expires.",
        },
    ],
    variants: &[],
    sections: &[],
};
