//! `[[override]]`: what a tenant, project or environment does differently. Known and checked, not supported yet.

use crate::{
    form::Form,
    known::{Key, Kind, Need, Section, Shape, Support},
};

use super::{defaults, rotation};

const REMOVE: &str = "remove it; every scope uses the provider and key of [defaults] today";
const LATER: Support = Support::Later(REMOVE);

pub(super) static SECTION: Section = Section {
    name: "override",
    header: "[[override]]",
    shape: Shape::Many,
    support: LATER,
    meaning: "What a scope does differently from the scopes above it: platform, tenant, tenant environment, project, project environment, the most specific wins.",
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
            meaning: "The NAME of a `[provider.NAME]`.",
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
