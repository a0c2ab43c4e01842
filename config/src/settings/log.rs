//! `[log]`: what goes to stderr. The subscriber is set up by the binary, not here.

use crate::{
    fields::Fields,
    form::Form,
    known::{Key, Kind, Need, Section, Shape, Support, Word},
};

/// Logs, on stderr.
#[derive(Clone, Debug)]
pub struct Log {
    /// `error | warn | info | debug | trace`, or a tracing filter.
    pub level: String,
    /// JSON lines instead of text.
    pub json: bool,
}

pub(super) static SECTION: Section = Section {
    name: "log",
    header: "[log]",
    shape: Shape::One,
    support: Support::Since("0.1"),
    meaning: "Logs go to stderr. No level shows plaintext, keys, literals or parameters.",
    keys: &[
        Key {
            name: "level",
            kind: Kind::Text(Form::LogFilter),
            need: Need::Default("\"info\""),
            support: Support::Since("0.1"),
            meaning: "`off`, `error`, `warn`, `info`, `debug` or `trace`, or a filter of the Rust crate tracing such as `info,pgveil=debug`.",
        },
        Key {
            name: "format",
            kind: Kind::OneOf(&FORMATS),
            need: Need::Default("\"text\""),
            support: Support::Since("0.1"),
            meaning: "How a line looks.",
        },
    ],
    variants: &[],
    sections: &[],
};

static FORMATS: [Word; 2] = [
    Word {
        word: "text",
        support: Support::Since("0.1"),
        meaning: "for people",
    },
    Word {
        word: "json",
        support: Support::Since("0.1"),
        meaning: "one JSON object a line, for log collectors",
    },
];

pub(super) fn read(fields: &Fields<'_, '_>) -> Log {
    Log {
        level: fields.text("level").unwrap_or_default(),
        json: fields.text("format").as_deref() == Some("json"),
    }
}
