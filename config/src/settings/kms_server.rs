//! `[kms_server]`: keys of a local provider offered to others over the XKS Proxy API. The files are read by who serves.

use std::path::PathBuf;

use crate::{
    Position,
    fields::Found,
    form::Form,
    known::{Key, Kind, Need, Section, Shape, Support},
    reader::Reader,
};

/// What `pgveil kms serve` does.
#[derive(Clone, Debug)]
pub struct KmsServer {
    /// HOST:PORT; port 0 picks a free one.
    pub listen: String,
    /// The local provider; absent: the only one.
    pub provider: Option<String>,
    /// PEM certificate chain.
    pub cert_file: PathBuf,
    /// PEM private key.
    pub key_file: PathBuf,
    /// Access keys whose signatures are accepted; absent: requests need not be signed.
    pub credentials_file: Option<PathBuf>,
    /// Whose client certificates are accepted; absent: none is asked for.
    pub client_ca_file: Option<PathBuf>,
    /// Common names of clients; none: every name.
    pub client_names: Vec<String>,
    /// What stands before `/kms/xks/v1` in every path.
    pub path_prefix: Option<String>,
    /// Where the section stands.
    pub at: Position,
}

const SINCE: Support = Support::Since("0.1");

pub(super) static SECTION: Section = Section {
    name: "kms_server",
    header: "[kms_server]",
    shape: Shape::One,
    support: SINCE,
    meaning: "What `pgveil kms serve` offers to others: keys of a local provider, over the XKS Proxy API. `pgveil serve` does not use it. `credentials_file` or `client_ca_file` must be given, so that callers are known; with both, a request needs both.",
    keys: &[
        Key {
            name: "listen",
            kind: Kind::Text(Form::Listen),
            need: Need::Default("\"127.0.0.1:6443\""),
            support: SINCE,
            meaning: "Where it is served: HOST:PORT. Port 0 picks a free port, which is printed. The default can be reached from this machine only.",
        },
        Key {
            name: "provider",
            kind: Kind::Text(Form::Any),
            need: Need::Optional("\"main\""),
            support: SINCE,
            meaning: "The local provider whose keys are served; needed if there are several.",
        },
        Key {
            name: "cert_file",
            kind: Kind::File,
            need: Need::Required("\"kms.crt\""),
            support: SINCE,
            meaning: "The certificate chain, PEM, the server's own certificate first.",
        },
        Key {
            name: "key_file",
            kind: Kind::File,
            need: Need::Required("\"kms.key\""),
            support: SINCE,
            meaning: "The certificate's private key, PEM.",
        },
        Key {
            name: "credentials_file",
            kind: Kind::File,
            need: Need::Optional("\"kms.credentials\""),
            support: SINCE,
            meaning: "Access keys that requests are signed with (SigV4): a line each, access key id and secret access key with a blank between. Its mode must be 0600. `pgveil kms credentials` adds one. Read again when it changes.",
        },
        Key {
            name: "client_ca_file",
            kind: Kind::File,
            need: Need::Optional("\"kms-clients.crt\""),
            support: SINCE,
            meaning: "The roots that certificates of clients must come from, PEM. Every client must then have one.",
        },
        Key {
            name: "client_names",
            kind: Kind::Names("common names"),
            need: Need::Optional("[\"cks.kms.eu-central-1.amazonaws.com\"]"),
            support: SINCE,
            meaning: "Common names of the clients that are let in; requests of others are answered with 403. Without it, every certificate from `client_ca_file` is let in.",
        },
        Key {
            name: "path_prefix",
            kind: Kind::Text(Form::Any),
            need: Need::Optional("\"/keystores/main\""),
            support: SINCE,
            meaning: "What stands before `/kms/xks/v1` in every path: letters, digits and `/-_`.",
        },
    ],
    variants: &[],
    sections: &[],
};

pub(super) fn read(reader: &mut Reader<'_>, found: &Found<'_, '_>) -> KmsServer {
    let fields = reader.section(found);
    let server = KmsServer {
        listen: fields.text("listen").unwrap_or_default(),
        provider: fields.text("provider"),
        cert_file: fields.file("cert_file").unwrap_or_default(),
        key_file: fields.file("key_file").unwrap_or_default(),
        credentials_file: fields.file("credentials_file"),
        client_ca_file: fields.file("client_ca_file"),
        client_names: fields.words("client_names").unwrap_or_default(),
        path_prefix: fields.text("path_prefix"),
        at: reader.position(found.at),
    };
    let unknown_callers = server.credentials_file.is_none() && server.client_ca_file.is_none();
    if unknown_callers && !fields.spoiled("credentials_file") && !fields.spoiled("client_ca_file") {
        reader.report(
            found.at,
            "[kms_server] has neither `credentials_file` nor `client_ca_file`: nobody could be told from anybody",
            "add `credentials_file = \"kms.credentials\"`; `pgveil kms credentials` fills it",
        );
    }
    if !server.client_names.is_empty() && server.client_ca_file.is_none() {
        reader.report(
            fields.value_at("client_names"),
            "`client_names` needs `client_ca_file`",
            "add `client_ca_file`, or remove `client_names`",
        );
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_');
    if let Some(prefix) = &server.path_prefix
        && (!prefix.starts_with('/')
            || prefix.ends_with('/')
            || prefix.contains("//")
            || prefix.len() > 100
            || !prefix.bytes().all(plain))
    {
        reader.report(
            fields.value_at("path_prefix"),
            "`path_prefix` must begin with `/`, not end with it, and hold at most 100 letters, digits and `/-_`",
            "write `path_prefix = \"/keystores/main\"`",
        );
    }
    server
}
