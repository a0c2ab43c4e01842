//! What a table of known keys is made of. The tables stand in the files of their sections; from them come
//! the check of the operator's file, the defaults, "not supported yet" and `docs/configuration.md`.

use std::time::Duration;

use crate::form::Form;

/// A section: `[upstream]`, each `[provider.NAME]`, each `[[table]]`, or the top of a file.
pub(crate) struct Section {
    /// The word in the header; empty for the top of the file.
    pub(crate) name: &'static str,
    /// The header as people write it: `[upstream]`, `[provider.NAME]`; empty for the top.
    pub(crate) header: &'static str,
    /// How often it stands.
    pub(crate) shape: Shape,
    /// Whether it works today.
    pub(crate) support: Support,
    /// What it is for: sentences, in Markdown.
    pub(crate) meaning: &'static str,
    /// Its keys.
    pub(crate) keys: &'static [Key],
    /// Further keys that depend on the key `kind`.
    pub(crate) variants: &'static [Variant],
    /// Sections inside it.
    pub(crate) sections: &'static [&'static Section],
}

/// How often a section stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Once, at most: `[upstream]`.
    One,
    /// Once per name: `[provider.NAME]`.
    Named,
    /// Any number: `[[table]]`.
    Many,
}

/// The keys that a section has under one value of its key `kind`.
pub(crate) struct Variant {
    /// The value of `kind`, and whether it works today.
    pub(crate) word: Word,
    /// Its keys, besides those of the section.
    pub(crate) keys: &'static [Key],
}

/// A key of a section.
pub(crate) struct Key {
    /// The word left of `=`.
    pub(crate) name: &'static str,
    /// What may stand right of it.
    pub(crate) kind: Kind,
    /// Whether it must be given, with a sample in TOML.
    pub(crate) need: Need,
    /// Whether it works today.
    pub(crate) support: Support,
    /// What it does: sentences, in Markdown.
    pub(crate) meaning: &'static str,
}

/// Whether a key must be given. Each holds a value as TOML text: cures and docs show it.
pub(crate) enum Need {
    /// Must be given; a sample.
    Required(&'static str),
    /// May be left out; the value it then has. This text is what is parsed then: there is no second copy.
    Default(&'static str),
    /// May be left out and is then absent; a sample.
    Optional(&'static str),
}

impl Need {
    /// A value as TOML text.
    pub(crate) fn sample(&self) -> &'static str {
        match self {
            Need::Required(sample) | Need::Default(sample) | Need::Optional(sample) => sample,
        }
    }
}

/// Whether something works in this version.
#[derive(Clone, Copy)]
pub(crate) enum Support {
    /// Since this version.
    Since(&'static str),
    /// Known, checked, and refused as "not supported yet"; the cure.
    Later(&'static str),
}

impl Support {
    /// The cure, if it is not supported yet.
    pub(crate) fn later(self) -> Option<&'static str> {
        match self {
            Support::Since(_) => None,
            Support::Later(cure) => Some(cure),
        }
    }
}

/// What may stand right of `=`.
pub(crate) enum Kind {
    /// Text of a form.
    Text(Form),
    /// Text that no message repeats, or `env:NAME`.
    Secret,
    /// A path, relative to the file's folder.
    File,
    /// `true` or `false`.
    Switch,
    /// A whole number within bounds, and why these.
    Count {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
        /// Why not more; may be empty.
        why: &'static str,
    },
    /// A duration within bounds, such as `"5m"`.
    Time {
        /// The least.
        min: Duration,
        /// The most.
        max: Duration,
    },
    /// One of these words.
    OneOf(&'static [Word]),
    /// `kind` of a section with variants: one of their words.
    Variant(&'static [Variant]),
    /// A list of some of these words.
    SomeOf(&'static [Word]),
    /// A list of names; what they name.
    Names(&'static str),
    /// A table with exactly one of these keys: `{ keep_last = 4 }`.
    Choice(&'static [Key]),
}

/// A word that may be a value.
pub(crate) struct Word {
    /// As it is written.
    pub(crate) word: &'static str,
    /// Whether it works today.
    pub(crate) support: Support,
    /// What it means: half a sentence, in Markdown.
    pub(crate) meaning: &'static str,
}

impl Kind {
    /// The words of a kind that has words.
    pub(crate) fn words(&self) -> Vec<&'static Word> {
        match self {
            Kind::OneOf(words) | Kind::SomeOf(words) => words.iter().collect(),
            Kind::Variant(variants) => variants.iter().map(|variant| &variant.word).collect(),
            _ => Vec::new(),
        }
    }

    /// What is expected, for a message: "must be ...".
    pub(crate) fn noun(&self) -> String {
        match self {
            Kind::Text(form) => form.noun().to_owned(),
            Kind::Secret => "text, or \"env:NAME\"".to_owned(),
            Kind::File => "a path".to_owned(),
            Kind::Switch => "true or false".to_owned(),
            Kind::Count { .. } => "a whole number".to_owned(),
            Kind::Time { .. } => "a duration".to_owned(),
            Kind::OneOf(_) | Kind::Variant(_) => format!("one of {}", list(self)),
            Kind::SomeOf(_) => format!("a list of {}", list(self)),
            Kind::Names(what) => format!("a list of {what}"),
            Kind::Choice(_) => "a table".to_owned(),
        }
    }
}

fn list(kind: &Kind) -> String {
    let words: Vec<_> = kind
        .words()
        .iter()
        .map(|word| format!("\"{}\"", word.word))
        .collect();
    words.join(", ")
}
