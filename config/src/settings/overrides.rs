//! `[[override]]`: what a tenant, project or environment does differently from the scopes above it.

use std::collections::HashMap;

use crate::{
    Position, ScopePath,
    fields::{Fields, Found},
    form::Form,
    known::{Key, Kind, Need, Section, Shape, Support},
    reader::Reader,
    source::shown,
};

use super::{
    defaults::{self, Failure},
    rotation::{self, OwnRotation},
};

/// One `[[override]]`. What it leaves out, its scope inherits.
#[derive(Clone, Debug)]
pub struct Override {
    /// Whose.
    pub scope: ScopePath,
    /// Provider and KEK: a `[provider.NAME]`, if another than that of the scopes above, and the KEK's id in it.
    pub key: Option<(Option<String>, String)>,
    /// What happens while the provider cannot be reached.
    pub failure: Option<Failure>,
    /// When its DEKs are replaced and destroyed.
    pub rotation: OwnRotation,
    /// Where the section stands.
    pub at: Position,
}

pub(super) static SECTION: Section = Section {
    name: "override",
    header: "[[override]]",
    shape: Shape::Many,
    support: Support::Since("0.1"),
    meaning: "What a scope does differently from the scopes above it: platform, tenant, tenant environment, project, project environment, the most specific wins. Keys that are already wrapped stay under the KEK that wrapped them until `pgveil keys rewrap`.",
    keys: &[
        Key {
            name: "scope",
            kind: Kind::Text(Form::Scope),
            need: Need::Required("\"tenant:acme\""),
            support: Support::Since("0.1"),
            meaning: "The scope, and with it every scope below.",
        },
        Key {
            name: "provider",
            kind: Kind::Text(Form::Any),
            need: Need::Optional("\"aws\""),
            support: Support::Since("0.1"),
            meaning: "The NAME of a `[provider.NAME]`. `key` must then stand beside it.",
        },
        Key {
            name: "key",
            kind: Kind::Text(Form::Any),
            need: Need::Optional("\"arn:aws:kms:eu-central-1:123456789012:key/1234abcd\""),
            support: Support::Since("0.1"),
            meaning: "The id of the KEK in that provider.",
        },
        Key {
            name: "failure",
            kind: Kind::OneOf(&defaults::FAILURE),
            need: Need::Optional("\"closed\""),
            support: Support::Since("0.1"),
            meaning: "As in `[defaults]`.",
        },
        rotation::dek_epoch(Need::Optional("\"90d\"")),
        rotation::dek_max_usage(Need::Optional("1_073_741_824")),
        rotation::kek_period(Need::Optional("\"365d\"")),
        rotation::destroy_retired_after(),
    ],
    variants: &[],
    sections: &[],
};

pub(super) fn read_all(reader: &mut Reader<'_>, top: &Fields<'_, '_>) -> Vec<Override> {
    let mut first: HashMap<ScopePath, Position> = HashMap::new();
    let mut overrides = Vec::new();
    for found in top.named(SECTION.name) {
        let Some(read) = read(reader, found, top) else {
            continue;
        };
        if let Some(line) = first.get(&read.scope).map(|at| at.line) {
            let message = format!("there are two [[override]] of `{}`", read.scope);
            reader.report(
                found.at,
                message,
                format!("write all of it into the one in line {line}"),
            );
            continue;
        }
        first.insert(read.scope.clone(), read.at.clone());
        overrides.push(read);
    }
    overrides
}

fn read(reader: &mut Reader<'_>, found: &Found<'_, '_>, top: &Fields<'_, '_>) -> Option<Override> {
    let fields = reader.section(found);
    let provider = fields.text("provider");
    let key = fields.text("key");
    if let Some(provider) = &provider {
        defaults::check_provider(reader, &fields, provider, top);
        if key.is_none() && !fields.spoiled("key") && fields.written("key").is_none() {
            let message = format!(
                "the override names provider \"{}\" but no key in it",
                shown(provider)
            );
            let cure = "add `key`: the id of the KEK; another provider's would mean nothing there";
            reader.report(fields.value_at("provider"), message, cure);
        }
    }
    let scope = ScopePath::parse(&fields.text("scope")?).ok()?;
    if scope == ScopePath::platform() {
        reader.report(
            fields.value_at("scope"),
            "an [[override]] of `platform`",
            "write it into [defaults], which is the platform scope",
        );
        return None;
    }
    Some(Override {
        scope,
        key: key.map(|key| (provider, key)),
        failure: defaults::failure(&fields),
        rotation: rotation::read_own(&fields),
        at: reader.position(found.at),
    })
}
