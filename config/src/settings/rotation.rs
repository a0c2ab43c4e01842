//! `[rotation]`: when keys are replaced and destroyed.

use std::time::Duration;

use crate::{
    fields::Fields,
    known::{Key, Kind, Need, Section, Shape, Support},
    value::Value,
};

/// When the DEKs of a scope are replaced and destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// After this time a scope gets a new DEK.
    pub dek_epoch: Duration,
    /// After so many values a scope gets a new DEK: 2^16 to 2^32.
    pub dek_max_usage: u64,
    /// After this time pgveil asks the provider for a new version of a KEK. `None`: it does not.
    pub kek_period: Option<Duration>,
    /// How long after the proof that no value uses it a retired DEK is destroyed. `None`: it is kept.
    pub destroy_retired_after: Option<Duration>,
}

/// What a scope says of its own; what it leaves out it inherits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnRotation {
    /// [`Rotation::dek_epoch`].
    pub dek_epoch: Option<Duration>,
    /// [`Rotation::dek_max_usage`].
    pub dek_max_usage: Option<u64>,
    /// [`Rotation::kek_period`].
    pub kek_period: Option<Duration>,
    /// [`Rotation::destroy_retired_after`].
    pub destroy_retired_after: Option<Duration>,
}

/// NIST SP 800-38D, section 8.3: at most 2^32 invocations with random 96-bit nonces under one key.
const MAX_DEK_USAGE: u64 = 1 << 32;
/// One statement may seal 65,535 parameters, and replicas take their uses in blocks.
const MIN_DEK_USAGE: u64 = 1 << 16;

const PERIOD: Kind = Kind::Time {
    min: Duration::from_mins(1),
    max: Duration::from_hours(3650 * 24),
};

const NOW: Support = Support::Since("0.1");

pub(super) static SECTION: Section = Section {
    name: "rotation",
    header: "[rotation]",
    shape: Shape::One,
    support: NOW,
    meaning: "When keys are replaced by new ones, and old ones destroyed. A retired DEK goes on opening the values that it sealed.",
    keys: &[
        dek_epoch(Need::Default("\"90d\"")),
        dek_max_usage(Need::Default("1_073_741_824")),
        kek_period(Need::Optional("\"365d\"")),
        destroy_retired_after(),
    ],
    variants: &[],
    sections: &[],
};

// Every level of scopes may override these, so `[[override]]` has the same keys; what it leaves out it inherits.

pub(super) const fn dek_epoch(need: Need) -> Key {
    Key {
        name: "dek_epoch",
        kind: PERIOD,
        need,
        support: NOW,
        meaning: "After this time a scope gets a new DEK.",
    }
}

pub(super) const fn dek_max_usage(need: Need) -> Key {
    Key {
        name: "dek_max_usage",
        kind: Kind::Count {
            min: MIN_DEK_USAGE,
            max: MAX_DEK_USAGE,
            why: "2^32 at most: the NIST SP 800-38D bound for random 96-bit nonces under one key; 2^16 at least: the parameters of one statement",
        },
        need,
        support: NOW,
        meaning: "After so many values a scope gets a new DEK, made ahead of time. 2^30 is a quarter of what NIST SP 800-38D allows.",
    }
}

pub(super) const fn kek_period(need: Need) -> Key {
    Key {
        name: "kek_period",
        kind: PERIOD,
        need,
        support: NOW,
        meaning: "After this time pgveil asks the provider for a new version of a KEK, unless the provider rotates it by itself at least as often. Without it, pgveil asks for none, and follows those that it notices.",
    }
}

pub(super) const fn destroy_retired_after() -> Key {
    Key {
        name: "destroy_retired_after",
        kind: PERIOD,
        need: Need::Optional("\"30d\""),
        support: NOW,
        meaning: "How long after the proof that no value uses it a retired DEK is destroyed. Without it, retired DEKs are kept.",
    }
}

pub(super) fn read(fields: &Fields<'_, '_>) -> Rotation {
    Rotation {
        dek_epoch: fields.time("dek_epoch"),
        dek_max_usage: fields.count("dek_max_usage") as u64,
        kek_period: time(fields, "kek_period"),
        destroy_retired_after: time(fields, "destroy_retired_after"),
    }
}

pub(super) fn read_own(fields: &Fields<'_, '_>) -> OwnRotation {
    OwnRotation {
        dek_epoch: time(fields, "dek_epoch"),
        dek_max_usage: match fields.get("dek_max_usage") {
            Some(Value::Count(count)) => Some(*count),
            _ => None,
        },
        kek_period: time(fields, "kek_period"),
        destroy_retired_after: time(fields, "destroy_retired_after"),
    }
}

fn time(fields: &Fields<'_, '_>, key: &str) -> Option<Duration> {
    match fields.get(key) {
        Some(Value::Time(time)) => Some(*time),
        _ => None,
    }
}
