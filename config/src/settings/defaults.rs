//! `[defaults]`: the platform scope, which every other scope inherits from.

use crate::{
    fields::Fields,
    form::Form,
    known::{Key, Kind, Need, Section, Shape, Support, Word},
    nearest::nearest,
    reader::Reader,
    source::shown,
};

/// The platform scope.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// A `[provider.NAME]`.
    pub provider: String,
    /// The KEK's id in that provider.
    pub key: String,
    /// What happens while the provider cannot be reached.
    pub failure: Failure,
}

/// What happens while a provider cannot be reached. One that answers no is obeyed at once under either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failure {
    /// What needs an unwrap fails; cached keys die at `cache.ttl`.
    #[default]
    Closed,
    /// Cached keys go on for up to `cache.stale_max` more.
    Open,
}

impl Failure {
    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
        }
    }
}

/// The words of every key `failure`.
pub(super) static FAILURE: [Word; 2] = [
    Word {
        word: "closed",
        support: Support::Since("0.1"),
        meaning: "while the provider cannot be reached, what needs an unwrap fails, and cached keys die at `cache.ttl`",
    },
    Word {
        word: "open",
        support: Support::Since("0.1"),
        meaning: "cached keys go on, for reading and writing, up to `cache.stale_max` past their time; no new key is made",
    },
];

pub(super) static SECTION: Section = Section {
    name: "defaults",
    header: "[defaults]",
    shape: Shape::One,
    support: Support::Since("0.1"),
    meaning: "The platform scope: what holds for every tenant, project and environment.",
    keys: &[
        Key {
            name: "provider",
            kind: Kind::Text(Form::Any),
            need: Need::Required("\"main\""),
            support: Support::Since("0.1"),
            meaning: "The NAME of a `[provider.NAME]`.",
        },
        Key {
            name: "key",
            kind: Kind::Text(Form::Any),
            need: Need::Required("\"platform\""),
            support: Support::Since("0.1"),
            meaning: "The id of the KEK in that provider. The local provider makes the KEK on first use.",
        },
        Key {
            name: "failure",
            kind: Kind::OneOf(&FAILURE),
            need: Need::Default("\"closed\""),
            support: Support::Since("0.1"),
            meaning: "What happens while the provider cannot be reached. A provider that answers no is obeyed at once under either, and neither lets plaintext through.",
        },
    ],
    variants: &[],
    sections: &[],
};

pub(super) fn read(
    reader: &mut Reader<'_>,
    fields: &Fields<'_, '_>,
    top: &Fields<'_, '_>,
) -> Defaults {
    let provider = fields.text("provider").unwrap_or_default();
    check_provider(reader, fields, &provider, top);
    Defaults {
        provider,
        key: fields.text("key").unwrap_or_default(),
        failure: failure(fields).unwrap_or_default(),
    }
}

/// The section's key `failure`, if it has one.
pub(super) fn failure(fields: &Fields<'_, '_>) -> Option<Failure> {
    match fields.text("failure")?.as_str() {
        "open" => Some(Failure::Open),
        _ => Some(Failure::Closed),
    }
}

/// The section's key `provider` must name a `[provider.NAME]`.
pub(super) fn check_provider(
    reader: &mut Reader<'_>,
    fields: &Fields<'_, '_>,
    provider: &str,
    top: &Fields<'_, '_>,
) {
    let known: Vec<&str> = top
        .named("provider")
        .map(|found| found.name.as_str())
        .collect();
    // A file without any provider has been told so.
    if fields.written("provider").is_some() && !known.is_empty() && !known.contains(&provider) {
        report_unknown(reader, fields.value_at("provider"), provider, &known);
    }
}

fn report_unknown(reader: &mut Reader<'_>, at: usize, provider: &str, known: &[&str]) {
    if provider.is_empty() {
        return;
    }
    let message = format!("there is no [provider.{}]", shown(provider));
    let cure = match nearest(provider, known.iter().copied()) {
        Some(near) => format!("write \"{}\", or add the section", shown(near)),
        None => format!(
            "add the section, or name one of: {}",
            shown(&known.join(", "))
        ),
    };
    reader.report(at, message, cure);
}
