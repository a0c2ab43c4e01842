//! `[auth]`: who proves to whom that a client is who it says. Nothing is opened here.

use std::path::PathBuf;

use crate::{
    fields::Fields,
    form::Form,
    known::{Key, Kind, Need, Section, Shape, Support, Word},
    reader::Reader,
};

use super::ClientTls;

/// How clients log in.
#[derive(Clone, Debug)]
pub struct Auth {
    /// Who judges the client's proof.
    pub mode: AuthMode,
    /// Roles with their SCRAM verifiers, or passwords.
    pub userlist_file: Option<PathBuf>,
    /// SQL that yields a role's verifier, over the keystore's connection.
    pub query: Option<String>,
    /// Channel binding between clients and pgveil.
    pub channel_binding: ChannelBinding,
    /// What a client's certificate is good for.
    pub certificates: Certificates,
    /// Which certificate may log in as which role; absent: its common name is the role.
    pub certificate_map_file: Option<PathBuf>,
}

/// Who judges the client's proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// The server: the login is relayed.
    Relay,
    /// pgveil, which then logs in to the server as the same role.
    Terminate,
}

/// libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where both sides can.
    Prefer,
    /// Always.
    Require,
}

/// What a client's certificate is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificates {
    /// It is not asked for.
    Off,
    /// It takes the place of the password.
    Login,
    /// It is needed besides the password.
    Require,
}

const fn word(word: &'static str, meaning: &'static str) -> Word {
    Word {
        word,
        support: Support::Since("0.1"),
        meaning,
    }
}

static MODES: [Word; 2] = [
    word(
        "relay",
        "the server judges it: pgveil hands the login on, message by message",
    ),
    word(
        "terminate",
        "pgveil judges it by SCRAM-SHA-256, and logs in to the server as the same role with the key that the proof gave away",
    ),
];

/// The words of every key `channel_binding`.
pub(super) static BINDINGS: [Word; 3] = [
    word("disable", "never"),
    word("prefer", "where both sides can"),
    word("require", "always; a login that does not bind is refused"),
];

static CERTIFICATES: [Word; 3] = [
    word("off", "clients are not asked for one"),
    word(
        "login",
        "a client with a certificate for its role needs no password; one without logs in by password",
    ),
    word(
        "require",
        "a certificate for the role is needed besides the password",
    ),
];

pub(super) static SECTION: Section = Section {
    name: "auth",
    header: "[auth]",
    shape: Shape::One,
    support: Support::Since("0.1"),
    meaning: "Who judges the login of a client. See `docs/operating.md`, \"Logging in\".",
    keys: &[
        Key {
            name: "mode",
            kind: Kind::OneOf(&MODES),
            need: Need::Default("\"relay\""),
            support: Support::Since("0.1"),
            meaning: "Who judges a client's proof. Relaying needs no set-up, but SCRAM with TLS on both legs cannot be relayed to clients that support channel binding. What asks for `md5` or `password` is relayed under either.",
        },
        Key {
            name: "userlist_file",
            kind: Kind::File,
            need: Need::Optional("\"userlist.txt\""),
            support: Support::Since("0.1"),
            meaning: "Roles and their secrets, a line each: `\"role\" \"SCRAM-SHA-256$...\"`, as `pg_authid.rolpassword` has it; a password in clear is for roles that log in by certificate. Read again when it changes.",
        },
        Key {
            name: "query",
            kind: Kind::Text(Form::Any),
            need: Need::Optional("\"SELECT public.pgveil_verifier($1)\""),
            support: Support::Since("0.1"),
            meaning: "SQL that yields the verifier of role `$1` as one text column, run over the keystore's connection for roles that `userlist_file` does not name. The keystore must be in the server's own cluster then.",
        },
        Key {
            name: "channel_binding",
            kind: Kind::OneOf(&BINDINGS),
            need: Need::Default("\"prefer\""),
            support: Support::Since("0.1"),
            meaning: "SCRAM-SHA-256-PLUS between clients and pgveil, under `mode = \"terminate\"`. `require` refuses clients without it, and so clients without TLS.",
        },
        Key {
            name: "certificates",
            kind: Kind::OneOf(&CERTIFICATES),
            need: Need::Default("\"off\""),
            support: Support::Since("0.1"),
            meaning: "What a client's certificate is good for. It must lead to `client_ca_file` in `[client_tls]`. `login` needs `mode = \"terminate\"`, and a way in for pgveil: its own certificate (`cert_file` in `[upstream]`) that the server maps to the role, or the role's password in `userlist_file`.",
        },
        Key {
            name: "certificate_map_file",
            kind: Kind::File,
            need: Need::Optional("\"certificates.map\""),
            support: Support::Since("0.1"),
            meaning: "Which certificate may log in as which role, a line each: `\"common name\" \"role\"`. Without it, the common name is the role.",
        },
    ],
    variants: &[],
    sections: &[],
};

/// The value of a key `channel_binding`.
pub(super) fn channel_binding(fields: &Fields<'_, '_>) -> ChannelBinding {
    match fields.text("channel_binding").as_deref() {
        Some("disable") => ChannelBinding::Disable,
        Some("require") => ChannelBinding::Require,
        _ => ChannelBinding::Prefer,
    }
}

pub(super) fn read(
    reader: &mut Reader<'_>,
    fields: &Fields<'_, '_>,
    client_tls: Option<&ClientTls>,
) -> Auth {
    let auth = Auth {
        mode: match fields.text("mode").as_deref() {
            Some("terminate") => AuthMode::Terminate,
            _ => AuthMode::Relay,
        },
        userlist_file: fields.file("userlist_file"),
        query: fields.text("query"),
        channel_binding: channel_binding(fields),
        certificates: match fields.text("certificates").as_deref() {
            Some("login") => Certificates::Login,
            Some("require") => Certificates::Require,
            _ => Certificates::Off,
        },
        certificate_map_file: fields.file("certificate_map_file"),
    };
    refuse_half_measures(reader, fields, &auth, client_tls);
    auth
}

/// What is asked for must be possible: a weaker login than was written is no login.
fn refuse_half_measures(
    reader: &mut Reader<'_>,
    fields: &Fields<'_, '_>,
    auth: &Auth,
    client_tls: Option<&ClientTls>,
) {
    let terminates = auth.mode == AuthMode::Terminate;
    if terminates && auth.userlist_file.is_none() && auth.query.is_none() {
        reader.report(
            fields.value_at("mode"),
            "`mode = \"terminate\"` in [auth] has nothing to judge a login by",
            "add `userlist_file` or `query`",
        );
    }
    if auth.channel_binding == ChannelBinding::Require && !terminates {
        reader.report(
            fields.value_at("channel_binding"),
            "`channel_binding = \"require\"` in [auth] cannot be kept: a relayed login binds to nothing",
            "write `mode = \"terminate\"` too",
        );
    }
    if auth.channel_binding == ChannelBinding::Require && client_tls.is_none() {
        reader.report(
            fields.value_at("channel_binding"),
            "`channel_binding = \"require\"` in [auth] refuses everybody: there is no TLS to bind to",
            "add [client_tls]",
        );
    }
    if auth.certificates == Certificates::Login && !terminates {
        reader.report(
            fields.value_at("certificates"),
            "`certificates = \"login\"` in [auth] cannot be kept: the server judges a relayed login",
            "write `mode = \"terminate\"` too, or `certificates = \"require\"`",
        );
    }
    let authority = client_tls.is_some_and(|tls| tls.client_ca_file.is_some());
    if auth.certificates != Certificates::Off && !authority {
        reader.report(
            fields.value_at("certificates"),
            "`certificates` in [auth] has no authority to trust",
            "add `client_ca_file` to [client_tls]",
        );
    }
}
