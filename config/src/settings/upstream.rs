//! `[upstream]`: where Postgres is, and how the leg to it is protected. Nothing is connected here.

use std::{path::PathBuf, time::Duration};

use crate::{
    Position,
    fields::Fields,
    form::Form,
    known::{Key, Kind, Need, Section, Shape, Support, Word},
    reader::Reader,
};

use super::auth::{self, ChannelBinding};

/// Where Postgres is.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// HOST:PORT or unix:PATH.
    pub address: String,
    /// How the leg to Postgres is protected; libpq's `sslmode` terms.
    pub tls: TlsMode,
    /// PEM bundle of trusted roots; absent: the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether the connection begins with the TLS handshake (PostgreSQL 17).
    pub direct_tls: bool,
    /// pgveil's own certificate, for servers that ask for one.
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
    /// Channel binding between pgveil and Postgres, where pgveil logs in itself.
    pub channel_binding: ChannelBinding,
    /// How long connecting may take, TLS included.
    pub connect_timeout: Duration,
    /// Where `[upstream]` stands.
    pub at: Option<Position>,
}

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Never TLS.
    Disable,
    /// TLS if the server offers it, unverified.
    Prefer,
    /// TLS always, unverified.
    Require,
    /// TLS, chain verified.
    VerifyCa,
    /// TLS, chain and host name verified.
    VerifyFull,
}

impl TlsMode {
    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// The higher, the more is verified.
    pub(super) fn rank(self) -> u8 {
        self as u8
    }

    fn from_word(word: &str) -> Option<TlsMode> {
        match word {
            "disable" => Some(TlsMode::Disable),
            "prefer" => Some(TlsMode::Prefer),
            "require" => Some(TlsMode::Require),
            "verify-ca" => Some(TlsMode::VerifyCa),
            "verify-full" => Some(TlsMode::VerifyFull),
            _ => None,
        }
    }

    /// Whether the server's certificate is checked against trusted roots.
    pub fn verifies(self) -> bool {
        matches!(self, TlsMode::VerifyCa | TlsMode::VerifyFull)
    }
}

/// The words of every key `tls`.
pub(super) static TLS_MODES: [Word; 5] = [
    Word {
        word: "disable",
        support: Support::Since("0.1"),
        meaning: "never TLS",
    },
    Word {
        word: "prefer",
        support: Support::Since("0.1"),
        meaning: "TLS if the server offers it; its certificate is not checked",
    },
    Word {
        word: "require",
        support: Support::Since("0.1"),
        meaning: "TLS always; the certificate is not checked",
    },
    Word {
        word: "verify-ca",
        support: Support::Since("0.1"),
        meaning: "TLS, and the certificate must come from a trusted root",
    },
    Word {
        word: "verify-full",
        support: Support::Since("0.1"),
        meaning: "as `verify-ca`, and it must name the host",
    },
];

static NEGOTIATIONS: [Word; 2] = [
    Word {
        word: "postgres",
        support: Support::Since("0.1"),
        meaning: "the server is asked for TLS first",
    },
    Word {
        word: "direct",
        support: Support::Since("0.1"),
        meaning: "the connection begins with the handshake, which saves a round trip; PostgreSQL 17 or later, and `tls` of at least `require`",
    },
];

pub(super) static SECTION: Section = Section {
    name: "upstream",
    header: "[upstream]",
    shape: Shape::One,
    support: Support::Since("0.1"),
    meaning: "The Postgres server behind pgveil. Clients log in to it through pgveil with their own roles and passwords.",
    keys: &[
        Key {
            name: "address",
            kind: Kind::Text(Form::Address),
            need: Need::Required("\"127.0.0.1:5432\""),
            support: Support::Since("0.1"),
            meaning: "Where Postgres listens: HOST:PORT, or `unix:` and the path of its socket, for example `unix:/run/postgresql/.s.PGSQL.5432`. TLS is not spoken on a socket.",
        },
        Key {
            name: "tls",
            kind: Kind::OneOf(&TLS_MODES),
            need: Need::Default("\"prefer\""),
            support: Support::Since("0.1"),
            meaning: "TLS between pgveil and Postgres, in the terms of libpq's `sslmode`, with libpq's default. Across a network use `verify-full`.",
        },
        Key {
            name: "ca_file",
            kind: Kind::File,
            need: Need::Optional("\"ca.crt\""),
            support: Support::Since("0.1"),
            meaning: "The roots that `verify-ca` and `verify-full` trust, PEM. Without it, the system's.",
        },
        Key {
            name: "tls_negotiation",
            kind: Kind::OneOf(&NEGOTIATIONS),
            need: Need::Default("\"postgres\""),
            support: Support::Since("0.1"),
            meaning: "How TLS begins, in the terms of libpq's `sslnegotiation`.",
        },
        Key {
            name: "cert_file",
            kind: Kind::File,
            need: Need::Optional("\"pgveil.crt\""),
            support: Support::Since("0.1"),
            meaning: "pgveil's own certificate chain, PEM, for a server that asks for one (`clientcert`, or `cert` in pg_hba.conf). It is the same for all roles: a map in pg_ident.conf says which it may log in as.",
        },
        Key {
            name: "key_file",
            kind: Kind::File,
            need: Need::Optional("\"pgveil.key\""),
            support: Support::Since("0.1"),
            meaning: "The private key of `cert_file`, PEM.",
        },
        Key {
            name: "channel_binding",
            kind: Kind::OneOf(&auth::BINDINGS),
            need: Need::Default("\"prefer\""),
            support: Support::Since("0.1"),
            meaning: "SCRAM-SHA-256-PLUS between pgveil and Postgres, under `mode = \"terminate\"` in `[auth]`; as libpq's `channel_binding`.",
        },
        Key {
            name: "connect_timeout",
            kind: Kind::Time {
                min: Duration::from_millis(100),
                max: Duration::from_mins(10),
            },
            need: Need::Default("\"10s\""),
            support: Support::Since("0.1"),
            meaning: "How long connecting to Postgres may take, TLS included.",
        },
    ],
    variants: &[],
    sections: &[],
};

pub(super) fn read(reader: &mut Reader<'_>, fields: &Fields<'_, '_>) -> Upstream {
    let tls = tls(fields).unwrap_or(TlsMode::Prefer);
    refuse_idle_ca_file(reader, fields, tls);
    let direct_tls = fields.text("tls_negotiation").as_deref() == Some("direct");
    if direct_tls && matches!(tls, TlsMode::Disable | TlsMode::Prefer) {
        reader.report(
            fields.value_at("tls_negotiation"),
            "`tls_negotiation = \"direct\"` in [upstream] leaves no choice whether TLS is spoken",
            "write `tls = \"verify-full\"`, or at least `tls = \"require\"`",
        );
    }
    let pair = [fields.file("cert_file"), fields.file("key_file")];
    if pair.iter().flatten().count() == 1 {
        let (has, lacks) = if pair[0].is_some() {
            ("cert_file", "key_file")
        } else {
            ("key_file", "cert_file")
        };
        reader.report(
            fields.value_at(has),
            format!("`{has}` in [upstream] is of no use without `{lacks}`"),
            format!("add `{lacks}`"),
        );
    }
    let channel_binding = auth::channel_binding(fields);
    if channel_binding == ChannelBinding::Require && tls == TlsMode::Disable {
        reader.report(
            fields.value_at("channel_binding"),
            "`channel_binding = \"require\"` in [upstream] has no TLS to bind to",
            "write `tls = \"verify-full\"`, or at least `tls = \"require\"`",
        );
    }
    Upstream {
        direct_tls,
        cert_file: fields.file("cert_file"),
        key_file: fields.file("key_file"),
        channel_binding,
        address: fields.text("address").unwrap_or_default(),
        tls,
        ca_file: fields.file("ca_file"),
        connect_timeout: fields.time("connect_timeout"),
        at: Some(reader.position(fields.at)),
    }
}

/// The value of a key `tls`.
pub(super) fn tls(fields: &Fields<'_, '_>) -> Option<TlsMode> {
    fields.text("tls").as_deref().and_then(TlsMode::from_word)
}

/// Who names trusted roots expects that they are used.
pub(super) fn refuse_idle_ca_file(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, tls: TlsMode) {
    if fields.file("ca_file").is_some() && !tls.verifies() {
        let message = format!(
            "`ca_file`{} has no effect: this `tls` does not check certificates",
            fields.place
        );
        let cure = "write `tls = \"verify-full\"`, or remove `ca_file`";
        reader.report(fields.value_at("ca_file"), message, cure);
    }
}
