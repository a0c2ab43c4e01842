//! `[cache]`: how long unwrapped keys live in memory.

use std::time::Duration;

use crate::{
    fields::Fields,
    known::{Key, Kind, Need, Section, Shape, Support},
};

/// The DEK cache.
#[derive(Clone, Copy, Debug)]
pub struct Cache {
    /// How long an unwrapped key may live in memory.
    pub ttl: Duration,
    /// How long past `ttl` it may be used under [`Failure::Open`](super::Failure::Open) while its provider is away.
    pub stale_max: Duration,
}

const DAY: Duration = Duration::from_hours(24);

pub(super) static SECTION: Section = Section {
    name: "cache",
    header: "[cache]",
    shape: Shape::One,
    support: Support::Since("0.1"),
    meaning: "Unwrapped keys live in memory only, for a bounded time.",
    keys: &[
        Key {
            name: "ttl",
            kind: Kind::Time {
                min: Duration::from_secs(1),
                max: DAY,
            },
            need: Need::Default("\"5m\""),
            support: Support::Since("0.1"),
            meaning: "How long an unwrapped key may be used before the provider is asked again. A revoked KEK makes its data unreadable within this time; a shorter one means more calls to the provider.",
        },
        Key {
            name: "stale_max",
            kind: Kind::Time {
                min: Duration::ZERO,
                max: Duration::from_hours(7 * 24),
            },
            need: Need::Default("\"1h\""),
            support: Support::Since("0.1"),
            meaning: "Under `failure = \"open\"`: how long past `ttl` a key may be used while its provider cannot be reached.",
        },
    ],
    variants: &[],
    sections: &[],
};

pub(super) fn read(fields: &Fields<'_, '_>) -> Cache {
    Cache {
        ttl: fields.time("ttl"),
        stale_max: fields.time("stale_max"),
    }
}
