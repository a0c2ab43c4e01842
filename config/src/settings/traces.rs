//! `[traces]`: where spans are sent. What a span says is said where it is made.

use std::path::PathBuf;

use crate::{
    fields::Fields,
    form::Form,
    known::{Key, Kind, Need, Section, Shape, Support},
};

/// Spans for OpenTelemetry.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    /// The collector's base URL. `None`: no span is made.
    pub endpoint: Option<String>,
    /// Roots for its certificate, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// `service.name`.
    pub service_name: String,
}

pub(super) static SECTION: Section = Section {
    name: "traces",
    header: "[traces]",
    shape: Shape::One,
    support: Support::Since("0.1"),
    meaning: "Spans for OpenTelemetry: what statements wait for where a key is not in memory. No span shows a value, a key or a statement; scopes and the names of providers and KEKs are shown.",
    keys: &[
        Key {
            name: "endpoint",
            kind: Kind::Text(Form::Url),
            need: Need::Optional("\"http://127.0.0.1:4318\""),
            support: Support::Since("0.1"),
            meaning: "The base URL of a collector that speaks OTLP over HTTP with JSON; `/v1/traces` is put behind it. Without it no span is made.",
        },
        Key {
            name: "ca_file",
            kind: Kind::File,
            need: Need::Optional("\"collector-ca.crt\""),
            support: Support::Since("0.1"),
            meaning: "Roots that the collector's certificate is checked against, in PEM, instead of the system's.",
        },
        Key {
            name: "service_name",
            kind: Kind::Text(Form::Any),
            need: Need::Default("\"pgveil\""),
            support: Support::Since("0.1"),
            meaning: "`service.name` of the spans.",
        },
    ],
    variants: &[],
    sections: &[],
};

pub(super) fn read(fields: &Fields<'_, '_>) -> Traces {
    Traces {
        endpoint: fields.text("endpoint"),
        ca_file: fields.file("ca_file"),
        service_name: fields.text("service_name").unwrap_or_default(),
    }
}
