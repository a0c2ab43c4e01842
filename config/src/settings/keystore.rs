//! `[keystore]`: the database with schema `pgveil`, where wrapped keys are kept. Nothing is connected here.

use std::path::PathBuf;

use crate::{
    Position,
    fields::Fields,
    known::{Key, Kind, Need, Section, Shape, Support},
    reader::Reader,
    secret::Secret,
};

use super::given::Either;
use super::upstream::{self, TlsMode, Upstream};

/// Where wrapped keys are kept.
#[derive(Clone)]
pub struct Keystore {
    /// A libpq URL, or where to find one. May hold a password, so `Debug` shows neither.
    pub url: Secret,
    /// TLS on this connection; defaults to the upstream's mode.
    pub tls: TlsMode,
    /// PEM bundle of trusted roots; defaults to the upstream's; absent: the system's.
    pub ca_file: Option<PathBuf>,
    /// Where `url` or `url_file` stands.
    pub at: Option<Position>,
}

impl std::fmt::Debug for Keystore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keystore")
            .field("tls", &self.tls)
            .field("ca_file", &self.ca_file)
            .finish_non_exhaustive()
    }
}

const URL_SAMPLE: &str = "\"postgres://pgveil@127.0.0.1:5432/app\"";

pub(super) static SECTION: Section = Section {
    name: "keystore",
    header: "[keystore]",
    shape: Shape::One,
    support: Support::Since("0.1"),
    meaning: "The database that holds schema `pgveil`: scopes and wrapped keys, never an unwrapped key. Exactly one of `url` and `url_file` is given.",
    keys: &[
        Key {
            name: "url",
            kind: Kind::Secret,
            need: Need::Optional(URL_SAMPLE),
            support: Support::Since("0.1"),
            meaning: "How pgveil itself connects: a libpq URL, or `env:NAME` to take it from the environment. Keep a password out of this file: use `env:NAME` or `url_file`.",
        },
        Key {
            name: "url_file",
            kind: Kind::File,
            need: Need::Optional("\"keystore.url\""),
            support: Support::Since("0.1"),
            meaning: "A file that holds the URL; a newline at its end is ignored.",
        },
        Key {
            name: "tls",
            kind: Kind::OneOf(&upstream::TLS_MODES),
            need: Need::Optional("\"prefer\""),
            support: Support::Since("0.1"),
            meaning: "TLS on this connection. Without it, as `tls` in `[upstream]`.",
        },
        Key {
            name: "ca_file",
            kind: Kind::File,
            need: Need::Optional("\"ca.crt\""),
            support: Support::Since("0.1"),
            meaning: "The roots that `verify-ca` and `verify-full` trust, PEM. Without it, as `ca_file` in `[upstream]`.",
        },
    ],
    variants: &[],
    sections: &[],
};

const URL: Either = Either {
    key: "url",
    file_key: "url_file",
    sample: URL_SAMPLE,
};

pub(super) fn read(
    reader: &mut Reader<'_>,
    fields: &Fields<'_, '_>,
    upstream: &Upstream,
) -> Keystore {
    let tls = upstream::tls(fields).unwrap_or(upstream.tls);
    upstream::refuse_idle_ca_file(reader, fields, tls);
    let (url, at) = URL.read(reader, fields);
    Keystore {
        url,
        tls,
        ca_file: fields.file("ca_file").or_else(|| upstream.ca_file.clone()),
        at: Some(reader.position(at)),
    }
}
