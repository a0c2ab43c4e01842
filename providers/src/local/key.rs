//! A key of the local KMS as its record describes it: states, versions, rotation, grants. No key material is here.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::access::{Caller, Grant, Operation, allows};

/// Days between automatic rotations, at most.
pub const MAX_ROTATION_DAYS: u16 = 1095;
/// How often a key that pgveil made by itself is rotated.
pub const SERVICE_ROTATION_DAYS: u16 = 365;
/// A key rotated every day reaches this in eleven years.
pub(super) const MAX_VERSIONS: usize = 4096;
/// Lines of an access control list.
pub(super) const MAX_GRANTS: usize = 100;
/// A description is a sentence.
pub(super) const MAX_DESCRIPTION_BYTES: usize = 1024;
pub(super) const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// A word for each variant: in records, in JSON, on the command line and in tables.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("\"{text}\" is none of {}", [$($word),+].join(", "))),
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(word: $type) -> Self {
                word.as_str().to_owned()
            }
        }
    };
}

/// What kind of key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Algorithm {
    /// AES-256-GCM.
    Aes256,
    /// RSA, 2048 bits.
    Rsa2048,
    /// RSA, 3072 bits.
    Rsa3072,
    /// RSA, 4096 bits.
    Rsa4096,
    /// ECDSA on NIST P-256.
    EcP256,
}

words!(Algorithm {
    Aes256 = "aes-256",
    Rsa2048 = "rsa-2048",
    Rsa3072 = "rsa-3072",
    Rsa4096 = "rsa-4096",
    EcP256 = "ec-p256",
});

impl Algorithm {
    /// `symmetric` or `asymmetric`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Aes256 => "symmetric",
            _ => "asymmetric",
        }
    }

    /// What it can be used for.
    pub fn usages(self) -> &'static [Usage] {
        match self {
            Self::Aes256 => &[Usage::EncryptDecrypt],
            Self::EcP256 => &[Usage::SignVerify],
            _ => &[Usage::EncryptDecrypt, Usage::SignVerify],
        }
    }
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Usage {
    /// Encrypts and decrypts.
    EncryptDecrypt,
    /// Signs and verifies.
    SignVerify,
}

words!(Usage { EncryptDecrypt = "encrypt-decrypt", SignVerify = "sign-verify" });

impl Usage {
    /// Whether a key for this does that.
    pub(super) fn includes(self, operation: Operation) -> bool {
        match operation {
            Operation::Encrypt | Operation::Decrypt => self == Self::EncryptDecrypt,
            Operation::Sign | Operation::Verify => self == Self::SignVerify,
            Operation::Describe | Operation::Manage => true,
        }
    }

    /// The operations that use the key itself.
    pub fn operations(self) -> [Operation; 2] {
        match self {
            Self::EncryptDecrypt => [Operation::Encrypt, Operation::Decrypt],
            Self::SignVerify => [Operation::Sign, Operation::Verify],
        }
    }
}

/// The states of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KeyState {
    /// It never had a version.
    PreActivation,
    /// Its versions do what their states allow.
    Active,
    /// No version does anything.
    Deactivated,
    /// Gone for good; only the name is kept, so that no other key takes it.
    Deleted,
}

words!(KeyState {
    PreActivation = "pre-activation",
    Active = "active",
    Deactivated = "deactivated",
    Deleted = "deleted",
});

/// The states of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum VersionState {
    /// It may be used.
    Enabled,
    /// It may not be used, until it is enabled again.
    Disabled,
    /// Its key material was erased.
    Destroyed,
}

words!(VersionState { Enabled = "enabled", Disabled = "disabled", Destroyed = "destroyed" });

/// Who asked for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Origin {
    /// Somebody made it.
    Created,
    /// pgveil made it on first use, for itself.
    Service,
}

words!(Origin { Created = "created", Service = "service" });

/// A version of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// From 1, without gaps.
    pub version: u32,
    /// What it may be used for.
    pub state: VersionState,
    /// Seconds since 1970.
    pub created_at: u64,
    /// Whoever made or rotated the key.
    pub created_by: String,
    /// When its key material was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroyed_at: Option<u64>,
}

/// Automatic rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// 1 to 1,095.
    pub every_days: u16,
    /// Seconds since 1970.
    pub next_at: u64,
}

/// A key's record. All of it is under a MAC of the root key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its id: what `key` names in the configuration. It stands beside the record's text, under the same MAC.
    #[serde(skip)]
    pub name: String,
    /// Counts the record's changes, from 1. It stands beside the record's text, under the same MAC.
    #[serde(skip)]
    pub revision: u64,
    /// Random, drawn for each change: two writers never write the same record.
    #[serde(rename = "change")]
    pub(super) change_id: String,
    /// What it is for, in somebody's words.
    pub description: String,
    /// What kind of key it is.
    pub algorithm: Algorithm,
    /// What it is for.
    pub usage: Usage,
    /// The key's state; its versions have states of their own.
    pub state: KeyState,
    /// Who asked for it.
    pub origin: Origin,
    /// Seconds since 1970.
    pub created_at: u64,
    /// Whoever made it.
    pub created_by: String,
    /// The version that encrypts and signs.
    pub default_version: Option<u32>,
    /// In order.
    pub versions: Vec<Version>,
    /// When the default version changed last; nothing, for a first version.
    pub rotated_at: Option<u64>,
    /// Automatic rotation; absent: only by hand.
    pub rotation: Option<Rotation>,
    /// Who may do what.
    pub access: Vec<Grant>,
}

impl Key {
    /// One version.
    pub fn version(&self, version: u32) -> Option<&Version> {
        // Without gaps, from 1.
        let at = (version as usize).checked_sub(1)?;
        self.versions
            .get(at)
            .filter(|found| found.version == version)
    }

    pub(super) fn version_mut(&mut self, version: u32) -> Option<&mut Version> {
        let at = (version as usize).checked_sub(1)?;
        self.versions
            .get_mut(at)
            .filter(|found| found.version == version)
    }

    /// The version that encrypts and signs.
    pub fn default(&self) -> Option<&Version> {
        self.version(self.default_version?)
    }

    /// Whether a caller may do that with it, whatever its state is.
    pub fn allows(&self, caller: &Caller, operation: Operation) -> bool {
        allows(&self.access, caller, operation)
    }

    /// When it is to be rotated by itself. A default version that somebody disabled or destroyed stays what it is: a new
    /// version would undo that.
    pub fn rotate_at(&self) -> Option<u64> {
        let usable = self.state == KeyState::Active
            && self.versions.len() < MAX_VERSIONS
            && self
                .default()
                .is_some_and(|version| version.state == VersionState::Enabled);
        let rotation = self.rotation.as_ref().filter(|_| usable)?;
        Some(rotation.next_at)
    }

    /// Whether there is no version left to lose.
    pub(super) fn is_spent(&self) -> bool {
        self.versions
            .iter()
            .all(|version| version.state == VersionState::Destroyed)
    }

    /// Adds a version and makes it the default one.
    pub(super) fn add_version(&mut self, now: u64, by: &Caller) -> u32 {
        let version = self.versions.len() as u32 + 1;
        self.versions.push(Version {
            version,
            state: VersionState::Enabled,
            created_at: now,
            created_by: by.to_string(),
            destroyed_at: None,
        });
        self.default_version = Some(version);
        self.rotated_at = (version > 1).then_some(now);
        if self.state == KeyState::PreActivation {
            self.state = KeyState::Active;
        }
        if let Some(rotation) = &mut self.rotation {
            rotation.next_at = now + u64::from(rotation.every_days) * SECONDS_PER_DAY;
        }
        version
    }
}
