//! `[limits]`: the limits that an operator may move. The fixed ones stand where they are used.

use crate::{
    fields::Fields,
    known::{Key, Kind, Need, Section, Shape, Support},
};

/// Named limits; every queue, cache and buffer of the proxy has one.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Client connections at once.
    pub max_connections: usize,
    /// Cached statement plans, in the whole process.
    pub statement_cache: usize,
    /// Bytes that they may take, roughly.
    pub statement_cache_bytes: usize,
    /// The longest statement that names something protected, in bytes of its text; a longer one is refused.
    pub max_statement_bytes: usize,
}

pub(super) static SECTION: Section = Section {
    name: "limits",
    header: "[limits]",
    shape: Shape::One,
    support: Support::Since("0.1"),
    meaning: "How much pgveil may use.",
    keys: &[
        Key {
            name: "max_connections",
            kind: Kind::Count {
                min: 1,
                max: 1_000_000,
                why: "",
            },
            need: Need::Default("1000"),
            support: Support::Since("0.1"),
            meaning: "Client connections at once. Each has its own connection to Postgres, whose `max_connections` is the other bound. One more is refused with SQLSTATE 53300, as Postgres does.",
        },
        Key {
            name: "statement_cache",
            kind: Kind::Count {
                min: 1,
                max: 10_000_000,
                why: "",
            },
            need: Need::Default("4096"),
            support: Support::Since("0.1"),
            meaning: "Statement plans kept, in the whole process. A statement that is not among them is analysed again.",
        },
        Key {
            name: "statement_cache_bytes",
            kind: Kind::Count {
                min: 65_536,
                max: 0xFF_FFFF_FFFF,
                why: "that is 1 TiB",
            },
            need: Need::Default("67_108_864"),
            support: Support::Since("0.1"),
            meaning: "Memory that these plans may take together, roughly, in bytes.",
        },
        Key {
            name: "max_statement_bytes",
            kind: Kind::Count {
                min: 1024,
                max: 0x3FFF_FFFF,
                why: "Postgres takes no message longer than 1 GiB",
            },
            need: Need::Default("16_777_216"),
            support: Support::Since("0.1"),
            meaning: "The longest statement, in bytes of its text, that is analysed, because analysis needs many times that much memory. A longer one that names something protected is refused; one that does not is relayed whatever its length.",
        },
    ],
    variants: &[],
    sections: &[],
};

pub(super) fn read(fields: &Fields<'_, '_>) -> Limits {
    Limits {
        max_connections: fields.count("max_connections"),
        statement_cache: fields.count("statement_cache"),
        statement_cache_bytes: fields.count("statement_cache_bytes"),
        max_statement_bytes: fields.count("max_statement_bytes"),
    }
}
