//! `[defaults]`: the platform scope, which every other scope inherits from.

use crate::{
    fields::Fields,
    form::Form,
    known::{Key, Kind, Need, Section, Shape, Support, Word},
    nearest::nearest,
    reader::Reader,
    settings::{Provider, Settings},
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
    /// Where KEKs must be kept.
    pub key_protection: KeyProtection,
}

/// Where KEKs must be kept for keys to be wrapped under them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyProtection {
    /// Wherever the provider keeps them.
    #[default]
    Any,
    /// In a hardware security module, as the provider says itself.
    Hsm,
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

static PROTECTION: [Word; 2] = [
    Word {
        word: "any",
        support: Support::Since("0.1"),
        meaning: "wherever the provider keeps them",
    },
    Word {
        word: "hsm",
        support: Support::Since("0.1"),
        meaning: "in a hardware security module, as the provider itself says: AWS but for external key stores, Google's HSM keys, Azure's RSA-HSM and oct-HSM",
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
        Key {
            name: "key_protection",
            kind: Kind::OneOf(&PROTECTION),
            need: Need::Default("\"any\""),
            support: Support::Since("0.1"),
            meaning: "Where the KEKs of all scopes must be kept. No key is wrapped under another one; what is wrapped under it already goes on opening.",
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
        key_protection: match fields.text("key_protection").as_deref() {
            Some("hsm") => KeyProtection::Hsm,
            _ => KeyProtection::Any,
        },
    }
}

/// Reports the providers under whose KEKs nothing could ever be wrapped; `at` is where the protection is asked for.
pub(super) fn check_protection(reader: &mut Reader<'_>, settings: &Settings, at: usize) {
    if settings.defaults.key_protection == KeyProtection::Any {
        return;
    }
    let of_overrides = settings.overrides.iter().filter_map(|found| {
        let (provider, _) = found.key.as_ref()?;
        Some((provider.as_ref()?, format!("for {}", found.scope)))
    });
    let of_all = [(&settings.defaults.provider, "by [defaults]".to_owned())];
    for (name, place) in of_all.into_iter().chain(of_overrides) {
        let short = match settings.providers.get(name) {
            Some(Provider::Local { .. }) => "keeps its KEKs in software",
            Some(Provider::VaultTransit(_) | Provider::Rest(_)) => {
                "does not say where its KEKs are kept"
            }
            _ => continue,
        };
        reader.report(
            at,
            format!("`key_protection = \"hsm\"`, and provider \"{name}\", used {place}, {short}"),
            "use one of kind \"aws-kms\", \"gcp-kms\" or \"azure-key-vault\"; the other's section may stay for what is wrapped under it",
        );
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
