//! `pgveil.toml` as a whole: its top keys, its sections in order, and what must agree between them.

mod admin;
mod audit;
mod auth;
mod cache;
mod client_tls;
mod compliance;
mod defaults;
mod given;
mod keystore;
mod kms_server;
mod limits;
mod log;
mod overrides;
mod provider;
mod reencrypt;
mod rotation;
mod traces;
mod upstream;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use toml::de::DeTable;

use crate::{
    Diagnostics,
    form::Form,
    known::{Key, Kind, Need, Section, Shape, Support, Word},
    reader::Reader,
    source,
};

pub use self::{
    admin::Admin,
    audit::Audit,
    auth::{Auth, AuthMode, Certificates, ChannelBinding},
    cache::Cache,
    client_tls::ClientTls,
    compliance::Compliance,
    defaults::{Defaults, Failure, KeyProtection},
    keystore::Keystore,
    kms_server::KmsServer,
    limits::Limits,
    log::Log,
    overrides::Override,
    provider::{AwsKms, AzureKeyVault, GcpKms, Provider, Rest, VaultTransit},
    reencrypt::Reencrypt,
    rotation::{OwnRotation, Rotation},
    traces::Traces,
    upstream::{TlsMode, Upstream},
};
pub use crate::secret::{Secret, SecretError};

/// The whole of `pgveil.toml`. Relative paths are already resolved against the file's folder.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `listen`: HOST:PORT or unix:PATH for clients, with commas between several; port 0 picks a free one.
    pub listen: String,
    /// `policy`: the policy file.
    pub policy: PathBuf,
    /// `compliance`: the set of minimum settings that these meet.
    pub compliance: Compliance,
    /// `[client_tls]`: absent means that SSLRequest is answered `N`.
    pub client_tls: Option<ClientTls>,
    /// `[auth]`.
    pub auth: Auth,
    /// `replication`: whether replication connections are relayed.
    pub relays_replication: bool,
    /// `[upstream]`.
    pub upstream: Upstream,
    /// `[keystore]`.
    pub keystore: Keystore,
    /// `[provider.NAME]`.
    pub providers: BTreeMap<String, Provider>,
    /// `[defaults]`: the platform scope.
    pub defaults: Defaults,
    /// `[[override]]`, in file order.
    pub overrides: Vec<Override>,
    /// `[rotation]`.
    pub rotation: Rotation,
    /// `[reencrypt]`.
    pub reencrypt: Reencrypt,
    /// `[cache]`.
    pub cache: Cache,
    /// `[audit]`.
    pub audit: Audit,
    /// `[admin]`.
    pub admin: Admin,
    /// `[log]`.
    pub log: Log,
    /// `[traces]`.
    pub traces: Traces,
    /// `[limits]`.
    pub limits: Limits,
    /// `[kms_server]`.
    pub kms_server: Option<KmsServer>,
    /// The file itself.
    pub file: PathBuf,
}

/// Where two texts of `pgveil.toml` differ: `listen`, `upstream.address`, `provider.main`, `override`. A text that is no TOML
/// differs from every other one in nothing that could be named.
pub fn changed_keys(before: &str, now: &str) -> BTreeSet<String> {
    let read = |text: &str| text.parse::<toml::Table>().unwrap_or_default();
    let (before, now) = (read(before), read(now));
    let mut changed = BTreeSet::new();
    for name in before.keys().chain(now.keys()) {
        match (before.get(name), now.get(name)) {
            (one, other) if one == other => {}
            (Some(toml::Value::Table(one)), Some(toml::Value::Table(other))) => {
                let differs = |key: &&String| one.get(*key) != other.get(*key);
                let keys = one.keys().chain(other.keys()).filter(differs);
                changed.extend(keys.map(|key| format!("{name}.{key}")));
            }
            (Some(toml::Value::Table(one)), None) | (None, Some(toml::Value::Table(one))) => {
                changed.extend(one.keys().map(|key| format!("{name}.{key}")));
            }
            _ => {
                changed.insert(name.clone());
            }
        }
    }
    changed
}

/// The top of `pgveil.toml`, and through it every key that the file may hold.
pub(crate) static TOP: Section = Section {
    name: "",
    header: "",
    shape: Shape::One,
    support: Support::Since("0.1"),
    meaning: "",
    keys: &[
        Key {
            name: "listen",
            kind: Kind::Text(Form::Listen),
            need: Need::Default("\"127.0.0.1:6432\""),
            support: Support::Since("0.1"),
            meaning: "Where clients connect: HOST:PORT, or `unix:` and the path of a socket (libpq looks for `/DIR/.s.PGSQL.PORT`), several with commas between them. Port 0 picks a free port, which `pgveil serve` prints. The default can be reached from this machine only.",
        },
        Key {
            name: "policy",
            kind: Kind::File,
            need: Need::Default("\"policy.toml\""),
            support: Support::Since("0.1"),
            meaning: "The policy file: which columns are protected.",
        },
        Key {
            name: "replication",
            kind: Kind::OneOf(&REPLICATION),
            need: Need::Default("\"relay\""),
            support: Support::Since("0.1"),
            meaning: "What becomes of replication connections (`pg_basebackup`, `pg_receivewal`, standbys, logical decoding). They carry what the disks hold, so protected columns go by as ciphertext.",
        },
        Key {
            name: "compliance",
            kind: Kind::OneOf(&compliance::WORDS),
            need: Need::Default("\"baseline\""),
            support: Support::Since("0.1"),
            meaning: "A named set of minimum settings (docs/compliance.md); a configuration that falls short is refused with the list of what falls short.",
        },
    ],
    variants: &[],
    sections: &[
        &client_tls::SECTION,
        &auth::SECTION,
        &upstream::SECTION,
        &keystore::SECTION,
        &provider::SECTION,
        &defaults::SECTION,
        &overrides::SECTION,
        &rotation::SECTION,
        &reencrypt::SECTION,
        &cache::SECTION,
        &audit::SECTION,
        &admin::SECTION,
        &log::SECTION,
        &traces::SECTION,
        &limits::SECTION,
        &kms_server::SECTION,
    ],
};

static REPLICATION: [Word; 2] = [
    Word {
        word: "relay",
        support: Support::Since("0.1"),
        meaning: "relayed; SQL on them that names something protected is refused",
    },
    Word {
        word: "refuse",
        support: Support::Since("0.1"),
        meaning: "refused",
    },
];

impl Settings {
    /// Reads a `pgveil.toml`.
    pub fn load(path: &Path) -> Result<Settings, Diagnostics> {
        Settings::parse(&source::load(path)?, path)
    }

    /// Reads the text of a `pgveil.toml`; `file` names it in findings, and its folder is where relative
    /// paths start. Opens nothing: whether the files that it names exist is found out by who opens them.
    pub fn parse(text: &str, file: &Path) -> Result<Settings, Diagnostics> {
        source::parse(text, file, |reader, root| {
            Settings::read(reader, root, file)
        })
    }

    fn read(reader: &mut Reader<'_>, root: &DeTable<'_>, file: &Path) -> Settings {
        let nothing = DeTable::new();
        let top = reader.top(&TOP, root);
        let client_tls = top
            .named("client_tls")
            .next()
            .map(|found| client_tls::read(reader, found));
        let auth = reader.one(&auth::SECTION, &top, &nothing);
        let auth = auth::read(reader, &auth, client_tls.as_ref());
        let upstream = reader.one(&upstream::SECTION, &top, &nothing);
        let upstream = upstream::read(reader, &upstream);
        let keystore = reader.one(&keystore::SECTION, &top, &nothing);
        let keystore = keystore::read(reader, &keystore, &upstream);
        let providers = provider::read_all(reader, &top);
        let written = reader.one(&defaults::SECTION, &top, &nothing);
        let defaults = defaults::read(reader, &written, &top);
        let overrides = overrides::read_all(reader, &top);
        let rotation = reader.one(&rotation::SECTION, &top, &nothing);
        let reencrypt = reader.one(&reencrypt::SECTION, &top, &nothing);
        let cache = reader.one(&cache::SECTION, &top, &nothing);
        let audit = reader.one(&audit::SECTION, &top, &nothing);
        let admin = reader.one(&admin::SECTION, &top, &nothing);
        let log = reader.one(&log::SECTION, &top, &nothing);
        let traces = reader.one(&traces::SECTION, &top, &nothing);
        let limits = reader.one(&limits::SECTION, &top, &nothing);
        let kms_server =
            { top.named("kms_server").next() }.map(|found| kms_server::read(reader, found));
        let settings = Settings {
            compliance: Compliance::from_word(&top.text("compliance").unwrap_or_default()),
            listen: top.text("listen").unwrap_or_default(),
            policy: top.file("policy").unwrap_or_default(),
            client_tls,
            auth,
            relays_replication: top.text("replication").as_deref() != Some("refuse"),
            upstream,
            keystore,
            providers,
            defaults,
            overrides,
            rotation: rotation::read(&rotation),
            reencrypt: reencrypt::read(&reencrypt),
            cache: cache::read(&cache),
            audit: audit::read(&audit),
            admin: admin::read(&admin),
            log: log::read(&log),
            traces: traces::read(&traces),
            limits: limits::read(&limits),
            kms_server,
            file: file.to_path_buf(),
        };
        compliance::check(reader, &settings, top.value_at("compliance"));
        defaults::check_protection(reader, &settings, written.value_at("key_protection"));
        settings
    }
}
