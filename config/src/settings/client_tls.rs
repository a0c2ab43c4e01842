//! `[client_tls]`: TLS towards clients. The certificate is loaded by the proxy, not here.

use std::path::PathBuf;

use crate::{
    fields::Found,
    known::{Key, Kind, Need, Section, Shape, Support},
    reader::Reader,
};

/// TLS towards clients.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// PEM certificate chain.
    pub cert_file: PathBuf,
    /// PEM private key.
    pub key_file: PathBuf,
    /// Refuse clients that do not ask for TLS.
    pub required: bool,
    /// Whose client certificates are trusted; absent: none is asked for.
    pub client_ca_file: Option<PathBuf>,
}

pub(super) static SECTION: Section = Section {
    name: "client_tls",
    header: "[client_tls]",
    shape: Shape::One,
    support: Support::Since("0.1"),
    meaning: "TLS between clients and pgveil. Without this section a client that asks for TLS is told that there is none, as a server without a certificate does.",
    keys: &[
        Key {
            name: "cert_file",
            kind: Kind::File,
            need: Need::Required("\"server.crt\""),
            support: Support::Since("0.1"),
            meaning: "The certificate chain, PEM, pgveil's own certificate first.",
        },
        Key {
            name: "key_file",
            kind: Kind::File,
            need: Need::Required("\"server.key\""),
            support: Support::Since("0.1"),
            meaning: "The certificate's private key, PEM.",
        },
        Key {
            name: "required",
            kind: Kind::Switch,
            need: Need::Default("false"),
            support: Support::Since("0.1"),
            meaning: "Whether clients that do not ask for TLS are refused. Off by default, as in Postgres, so that the certificate can be rolled out before it is enforced.",
        },
        Key {
            name: "client_ca_file",
            kind: Kind::File,
            need: Need::Optional("\"client-ca.crt\""),
            support: Support::Since("0.1"),
            meaning: "The roots that certificates of clients must come from, PEM. Clients are then asked for one; what it is good for says `certificates` in `[auth]`. A client that sends one from elsewhere is refused.",
        },
    ],
    variants: &[],
    sections: &[],
};

pub(super) fn read(reader: &mut Reader<'_>, found: &Found<'_, '_>) -> ClientTls {
    let fields = reader.section(found);
    ClientTls {
        cert_file: fields.file("cert_file").unwrap_or_default(),
        key_file: fields.file("key_file").unwrap_or_default(),
        required: fields.switch("required"),
        client_ca_file: fields.file("client_ca_file"),
    }
}
