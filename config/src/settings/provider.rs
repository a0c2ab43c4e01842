//! `[provider.NAME]`: who holds KEKs. What a provider needs to be reached, not how it is reached.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    Position,
    fields::{Fields, Found},
    form::Form,
    known::{Key, Kind, Need, Section, Shape, Support, Variant, Word},
    reader::Reader,
    secret::Secret,
};

use super::given::Either;

/// One `[provider.NAME]`.
#[derive(Clone, Debug)]
pub enum Provider {
    /// The built-in KMS: KEKs sealed under a root key in a file of mode 0600.
    Local {
        /// 32 random bytes, as `pgveil init` writes them.
        root_key_file: PathBuf,
        /// Where `root_key_file` stands.
        at: Position,
    },
    /// AWS Key Management Service.
    AwsKms(AwsKms),
    /// HashiCorp Vault or OpenBao, transit engine.
    VaultTransit(VaultTransit),
    /// A key manager that speaks the XKS Proxy API.
    Rest(Rest),
    /// Google Cloud KMS.
    GcpKms(GcpKms),
    /// Azure Key Vault or Managed HSM.
    AzureKeyVault(AzureKeyVault),
}

impl Provider {
    /// Where it stands.
    pub fn at(&self) -> &Position {
        match self {
            Self::Local { at, .. } => at,
            Self::AwsKms(found) => &found.at,
            Self::VaultTransit(found) => &found.at,
            Self::GcpKms(found) => &found.at,
            Self::AzureKeyVault(found) => &found.at,
            Self::Rest(found) => &found.at,
        }
    }
}

/// What reaches keys in AWS KMS.
#[derive(Clone, Debug)]
pub struct AwsKms {
    /// The region of the keys.
    pub region: String,
    /// Another endpoint than the region's.
    pub endpoint: Option<String>,
    /// A role to assume.
    pub role_arn: Option<String>,
    /// What the role's trust policy asks for.
    pub external_id: Option<String>,
    /// Regions with replicas of multi-Region keys, in the order in which they are tried.
    pub replica_regions: Vec<String>,
    /// Where the section stands.
    pub at: Position,
}

/// What reaches keys in Google Cloud KMS.
#[derive(Clone, Debug)]
pub struct GcpKms {
    /// Another endpoint than Google's.
    pub endpoint: Option<String>,
    /// A service account's key, or another credentials file; without it, the environment's.
    pub credentials_file: Option<PathBuf>,
    /// The roots to trust; without it, the system's.
    pub ca_file: Option<PathBuf>,
    /// Where the section stands.
    pub at: Position,
}

/// What reaches keys in Azure Key Vault.
#[derive(Clone, Debug)]
pub struct AzureKeyVault {
    /// `https://NAME.vault.azure.net` or `https://NAME.managedhsm.azure.net`.
    pub vault_url: String,
    /// The directory.
    pub tenant_id: Option<String>,
    /// The application, or the user-assigned identity.
    pub client_id: Option<String>,
    /// The application's secret; without it, the environment's identity.
    pub client_secret: Option<Secret>,
    /// Who gives tokens, in another cloud than Azure's public one.
    pub authority: Option<String>,
    /// The roots to trust; without it, the system's.
    pub ca_file: Option<PathBuf>,
    /// Where the section stands.
    pub at: Position,
}

/// What reaches a transit engine.
#[derive(Clone, Debug)]
pub struct VaultTransit {
    /// The server: `https://HOST:PORT`.
    pub address: String,
    /// Where the engine is mounted.
    pub mount: String,
    /// The namespace, if the server has them.
    pub namespace: Option<String>,
    /// The token.
    pub token: Secret,
    /// The roots to trust; without it, the system's.
    pub ca_file: Option<PathBuf>,
    /// Where the section stands.
    pub at: Position,
}

/// What reaches a key manager that speaks the XKS Proxy API. It is signed to, shown a certificate, or both.
#[derive(Clone, Debug)]
pub struct Rest {
    /// The API's root: `https://HOST[/PREFIX]/kms/xks/v1`.
    pub url: String,
    /// The id of the access key that signs requests; absent: they are not signed.
    pub access_key_id: Option<String>,
    /// The access key itself; present with `access_key_id`.
    pub secret_access_key: Option<Secret>,
    /// The region that signatures name.
    pub region: String,
    /// PEM certificate chain that pgveil shows.
    pub cert_file: Option<PathBuf>,
    /// Its private key, PEM; present with `cert_file`.
    pub key_file: Option<PathBuf>,
    /// The roots to trust; without it, the system's.
    pub ca_file: Option<PathBuf>,
    /// Where the section stands.
    pub at: Position,
}

/// A key of a kind that is not supported yet: the kind says so, once.
const CHECKED: Support = Support::Since("0.1");

pub(super) static SECTION: Section = Section {
    name: "provider",
    header: "[provider.NAME]",
    shape: Shape::Named,
    support: Support::Since("0.1"),
    meaning: "A key manager that holds KEKs, under a name of your own. `[defaults]` names the one to use.",
    keys: &[Key {
        name: "kind",
        kind: Kind::Variant(&VARIANTS),
        need: Need::Required("\"local\""),
        support: Support::Since("0.1"),
        meaning: "What kind of key manager it is.",
    }],
    variants: &VARIANTS,
    sections: &[],
};

static VARIANTS: [Variant; 6] = [
    Variant {
        word: Word {
            word: "local",
            support: Support::Since("0.1"),
            meaning: "built in: KEKs sealed under a root key in a file",
        },
        keys: &[Key {
            name: "root_key_file",
            kind: Kind::File,
            need: Need::Required("\"root.key\""),
            support: Support::Since("0.1"),
            meaning: "The root key, as `pgveil init` writes it. Its mode must be 0600. Who has it and the database can read everything; without it nothing can be read: keep a copy elsewhere.",
        }],
    },
    Variant {
        word: Word {
            word: "aws-kms",
            support: Support::Since("0.1"),
            meaning: "AWS Key Management Service",
        },
        keys: &[
            required(
                "region",
                Form::Any,
                "\"eu-central-1\"",
                "The region of the keys.",
            ),
            optional(
                "endpoint",
                Form::Url,
                "\"https://kms.eu-central-1.amazonaws.com\"",
                "Another endpoint than the region's. `{region}` in it stands for the region's name.",
            ),
            optional(
                "role_arn",
                Form::Any,
                "\"arn:aws:iam::123456789012:role/pgveil\"",
                "A role to assume.",
            ),
            optional(
                "external_id",
                Form::Any,
                "\"pgveil\"",
                "The external id that the role's trust policy asks for.",
            ),
            Key {
                name: "replica_regions",
                kind: Kind::Names("regions"),
                need: Need::Optional("[\"eu-west-1\"]"),
                support: CHECKED,
                meaning: "Regions with replicas of multi-region keys, tried in this order when `region` cannot be reached.",
            },
        ],
    },
    Variant {
        word: Word {
            word: "gcp-kms",
            support: Support::Since("0.1"),
            meaning: "Google Cloud KMS",
        },
        keys: &[
            optional(
                "endpoint",
                Form::Url,
                "\"https://cloudkms.googleapis.com\"",
                "Another endpoint than Google's. No token is sent over `http://`.",
            ),
            file(
                "credentials_file",
                "\"gcp.json\"",
                "A service account's key, or another credentials file that `gcloud` writes. Without it, the environment's credentials.",
            ),
            file(
                "ca_file",
                "\"proxy-ca.crt\"",
                "The roots to trust, PEM. Without it, the system's.",
            ),
        ],
    },
    Variant {
        word: Word {
            word: "azure-key-vault",
            support: Support::Since("0.1"),
            meaning: "Azure Key Vault or Managed HSM",
        },
        keys: &[
            required(
                "vault_url",
                Form::Url,
                "\"https://example.vault.azure.net\"",
                "The vault, or the managed HSM.",
            ),
            optional(
                "tenant_id",
                Form::Any,
                "\"00000000-0000-0000-0000-000000000000\"",
                "The directory. Without it, `AZURE_TENANT_ID`.",
            ),
            optional(
                "client_id",
                Form::Any,
                "\"00000000-0000-0000-0000-000000000000\"",
                "The application, or a user-assigned managed identity. Without it, `AZURE_CLIENT_ID`.",
            ),
            Key {
                name: "client_secret",
                kind: Kind::Secret,
                need: Need::Optional("\"env:AZURE_CLIENT_SECRET\""),
                support: CHECKED,
                meaning: "The application's secret. Without it, `AZURE_CLIENT_SECRET`, a workload identity (`AZURE_FEDERATED_TOKEN_FILE`), or a managed identity, whichever is there first.",
            },
            file(
                "client_secret_file",
                "\"azure.secret\"",
                "A file that holds the secret, in place of `client_secret`.",
            ),
            optional(
                "authority",
                Form::Url,
                "\"https://login.microsoftonline.us\"",
                "Who gives tokens. Without it, `AZURE_AUTHORITY_HOST`, or Azure's public cloud.",
            ),
            file(
                "ca_file",
                "\"proxy-ca.crt\"",
                "The roots to trust, PEM. Without it, the system's.",
            ),
        ],
    },
    Variant {
        word: Word {
            word: "vault-transit",
            support: Support::Since("0.1"),
            meaning: "HashiCorp Vault or OpenBao, transit engine",
        },
        keys: &[
            required(
                "address",
                Form::Url,
                "\"https://vault.example.com:8200\"",
                "The server.",
            ),
            Key {
                name: "mount",
                kind: Kind::Text(Form::Any),
                need: Need::Default("\"transit\""),
                support: CHECKED,
                meaning: "Where the transit engine is mounted.",
            },
            optional("namespace", Form::Any, "\"team\"", "The namespace."),
            Key {
                name: "token",
                kind: Kind::Secret,
                need: Need::Optional("\"env:VAULT_TOKEN\""),
                support: CHECKED,
                meaning: "The token. It needs `update` on `MOUNT/encrypt/KEY` and `MOUNT/decrypt/KEY`, and `read` on `MOUNT/keys/KEY`.",
            },
            file(
                "token_file",
                "\"vault.token\"",
                "A file that holds the token, in place of `token`. It is read again for each request, so that an agent may renew it.",
            ),
            file(
                "ca_file",
                "\"vault-ca.crt\"",
                "The roots to trust, PEM. Without it, the system's.",
            ),
        ],
    },
    Variant {
        word: Word {
            word: "rest",
            support: Support::Since("0.1"),
            meaning: "any key manager that speaks the XKS Proxy API, version 1",
        },
        keys: &[
            required(
                "url",
                Form::Url,
                "\"https://xks.example.com/kms/xks/v1\"",
                "The API's root.",
            ),
            optional(
                "access_key_id",
                Form::Any,
                "\"PGVEILPGVEILPGVEIL22\"",
                "The id of the access key that signs requests (SigV4). Without it, requests are not signed.",
            ),
            file(
                "secret_access_key_file",
                "\"xks.secret\"",
                "A file that holds the access key itself. It is read again for each request.",
            ),
            Key {
                name: "region",
                kind: Kind::Text(Form::Any),
                need: Need::Default("\"us-east-1\""),
                support: CHECKED,
                meaning: "The region that signatures name. Most servers take any.",
            },
            file(
                "cert_file",
                "\"pgveil.crt\"",
                "The certificate chain that pgveil shows to a server that asks for one (mutual TLS), PEM. Needs `key_file`.",
            ),
            file(
                "key_file",
                "\"pgveil.key\"",
                "The certificate's private key, PEM.",
            ),
            file(
                "ca_file",
                "\"xks-ca.crt\"",
                "The roots to trust, PEM. Without it, the system's.",
            ),
        ],
    },
];

const fn required(
    name: &'static str,
    form: Form,
    sample: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        name,
        kind: Kind::Text(form),
        need: Need::Required(sample),
        support: CHECKED,
        meaning,
    }
}

const fn optional(
    name: &'static str,
    form: Form,
    sample: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        name,
        kind: Kind::Text(form),
        need: Need::Optional(sample),
        support: CHECKED,
        meaning,
    }
}

const fn file(name: &'static str, sample: &'static str, meaning: &'static str) -> Key {
    Key {
        name,
        kind: Kind::File,
        need: Need::Optional(sample),
        support: CHECKED,
        meaning,
    }
}

pub(super) fn read_all(
    reader: &mut Reader<'_>,
    top: &Fields<'_, '_>,
) -> BTreeMap<String, Provider> {
    if top.named(SECTION.name).next().is_none() && !top.spoiled(SECTION.name) {
        let cure =
            "add `[provider.main]` with `kind = \"local\"` and `root_key_file = \"root.key\"`";
        reader.report(0, "there is no [provider.NAME]", cure);
    }
    top.named(SECTION.name)
        .map(|found| (found.name.clone(), read(reader, found)))
        .collect()
}

/// A kind that is not supported yet has been refused by its word; what is made of it here is not used.
fn read(reader: &mut Reader<'_>, found: &Found<'_, '_>) -> Provider {
    let fields = reader.section(found);
    match fields.text("kind").as_deref() {
        Some("aws-kms") => Provider::AwsKms(AwsKms {
            region: fields.text("region").unwrap_or_default(),
            endpoint: fields.text("endpoint"),
            role_arn: fields.text("role_arn"),
            external_id: fields.text("external_id"),
            replica_regions: fields.words("replica_regions").unwrap_or_default(),
            at: reader.position(found.at),
        }),
        Some("vault-transit") => Provider::VaultTransit(VaultTransit {
            address: fields.text("address").unwrap_or_default(),
            mount: fields.text("mount").unwrap_or_default(),
            namespace: fields.text("namespace"),
            token: TOKEN.read(reader, &fields).0,
            ca_file: fields.file("ca_file"),
            at: reader.position(found.at),
        }),
        Some("rest") => Provider::Rest(read_rest(reader, &fields, found.at)),
        Some("gcp-kms") => Provider::GcpKms(GcpKms {
            endpoint: fields.text("endpoint"),
            credentials_file: fields.file("credentials_file"),
            ca_file: fields.file("ca_file"),
            at: reader.position(found.at),
        }),
        Some("azure-key-vault") => Provider::AzureKeyVault(AzureKeyVault {
            vault_url: fields.text("vault_url").unwrap_or_default(),
            tenant_id: fields.text("tenant_id"),
            client_id: fields.text("client_id"),
            client_secret: CLIENT_SECRET.read_optional(reader, &fields),
            authority: fields.text("authority"),
            ca_file: fields.file("ca_file"),
            at: reader.position(found.at),
        }),
        _ => Provider::Local {
            root_key_file: fields.file("root_key_file").unwrap_or_default(),
            at: reader.position(fields.value_at("root_key_file")),
        },
    }
}

fn read_rest(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, at: usize) -> Rest {
    for (one, other) in [
        ("access_key_id", "secret_access_key_file"),
        ("cert_file", "key_file"),
    ] {
        for (given, missing) in [(one, other), (other, one)] {
            if let Some(given_at) = fields.written(given)
                && fields.written(missing).is_none()
            {
                let message = format!("`{given}` needs `{missing}`");
                reader.report(given_at, message, format!("add `{missing}`"));
            }
        }
    }
    if fields.written("access_key_id").is_none()
        && fields.written("secret_access_key_file").is_none()
        && fields.written("cert_file").is_none()
        && fields.written("key_file").is_none()
    {
        reader.report(
            at,
            format!("pgveil is nobody to the key manager{}", fields.place),
            "add `access_key_id` and `secret_access_key_file`, or `cert_file` and `key_file`",
        );
    }
    Rest {
        url: fields.text("url").unwrap_or_default(),
        access_key_id: fields.text("access_key_id"),
        secret_access_key: fields.file("secret_access_key_file").map(Secret::File),
        region: fields.text("region").unwrap_or_default(),
        cert_file: fields.file("cert_file"),
        key_file: fields.file("key_file"),
        ca_file: fields.file("ca_file"),
        at: reader.position(at),
    }
}

const CLIENT_SECRET: Either = Either {
    key: "client_secret",
    file_key: "client_secret_file",
    sample: "\"env:AZURE_CLIENT_SECRET\"",
};

const TOKEN: Either = Either {
    key: "token",
    file_key: "token_file",
    sample: "\"env:VAULT_TOKEN\"",
};
