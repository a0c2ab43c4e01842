//! `[rotation]`: when keys are replaced and destroyed. Known and checked, not supported yet.

use std::time::Duration;

use crate::known::{Key, Kind, Need, Section, Shape, Support};

/// NIST SP 800-38D, section 8.3: at most 2^32 invocations with random 96-bit nonces under one key.
const MAX_DEK_USAGE: u64 = 1 << 32;

const PERIOD: Kind = Kind::Time {
    min: Duration::from_mins(1),
    max: Duration::from_hours(3650 * 24),
};

/// The section says that it is not supported yet; its keys need not say so again.
const IN_TIME: Support = Support::Since("0.1");

pub(super) static SECTION: Section = Section {
    name: "rotation",
    header: "[rotation]",
    shape: Shape::One,
    support: Support::Later("remove it; keys do not rotate by themselves today"),
    meaning: "When keys are replaced by new ones, and old ones destroyed.",
    keys: &[
        dek_epoch(Need::Default("\"90d\""), IN_TIME),
        dek_max_usage(Need::Default("1_073_741_824"), IN_TIME),
        kek_period(Need::Default("\"365d\""), IN_TIME),
        destroy_retired_after(IN_TIME),
    ],
    variants: &[],
    sections: &[],
};

// Every level of scopes may override these, so `[[override]]` has the same keys; what it leaves out it inherits.

pub(super) const fn dek_epoch(need: Need, support: Support) -> Key {
    Key {
        name: "dek_epoch",
        kind: PERIOD,
        need,
        support,
        meaning: "After this time a scope gets a new DEK.",
    }
}

pub(super) const fn dek_max_usage(need: Need, support: Support) -> Key {
    Key {
        name: "dek_max_usage",
        kind: Kind::Count {
            min: 1,
            max: MAX_DEK_USAGE,
            why: "2^32 at most: the NIST SP 800-38D bound for random 96-bit nonces under one key",
        },
        need,
        support,
        meaning: "After so many values a scope gets a new DEK. 2^30 is a quarter of what NIST SP 800-38D allows.",
    }
}

pub(super) const fn kek_period(need: Need, support: Support) -> Key {
    Key {
        name: "kek_period",
        kind: PERIOD,
        need,
        support,
        meaning: "After this time pgveil asks the provider for a new version of a KEK.",
    }
}

pub(super) const fn destroy_retired_after(support: Support) -> Key {
    Key {
        name: "destroy_retired_after",
        kind: PERIOD,
        need: Need::Optional("\"30d\""),
        support,
        meaning: "How long after the proof that no value uses it a retired DEK is destroyed. Without it, retired DEKs are kept.",
    }
}
