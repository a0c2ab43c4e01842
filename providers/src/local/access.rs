//! Who may do what with a key of the local KMS: callers, operations, grants. Nobody is authenticated here.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest name of a caller.
const MAX_NAME_BYTES: usize = 255;

/// One name by which whoever asks is known. Its text form is `pgveil`, or a kind, a colon and a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// `pgveil`: the proxy itself, which wraps data keys.
    Pgveil,
    /// `user:NAME`: a user of the operating system, on the command line.
    User(String),
    /// `key-id:ID`: the access key id that signed a request (SigV4).
    KeyId(String),
    /// `cert:CN`: the common name of a client's certificate.
    Certificate(String),
}

impl Identity {
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Pgveil => ("pgveil", ""),
            Self::User(name) => ("user", name),
            Self::KeyId(name) => ("key-id", name),
            Self::Certificate(name) => ("cert", name),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (kind, "") => f.write_str(kind),
            (kind, name) => write!(f, "{kind}:{name}"),
        }
    }
}

/// Whoever asks, under every name that was proved: a request may be signed and come with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(Vec<Identity>);

impl Caller {
    /// The proxy itself.
    pub fn pgveil() -> Self {
        Self(vec![Identity::Pgveil])
    }

    /// A user on the command line.
    pub fn user(name: impl Into<String>) -> Self {
        Self(vec![Identity::User(name.into())])
    }

    /// The names that were proved.
    pub(super) fn identities(&self) -> &[Identity] {
        &self.0
    }

    /// A request, by what was proved of it; nobody, if nothing was.
    pub fn request(key_id: Option<String>, certificate: Option<String>) -> Self {
        let certificate = certificate.map(Identity::Certificate);
        Self(
            key_id
                .map(Identity::KeyId)
                .into_iter()
                .chain(certificate)
                .collect(),
        )
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, identity) in self.0.iter().enumerate() {
            write!(f, "{}{identity}", if at == 0 { "" } else { " as " })?;
        }
        Ok(())
    }
}

/// What can be done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Encrypt, or wrap.
    Encrypt,
    /// Decrypt, or unwrap.
    Decrypt,
    /// Sign.
    Sign,
    /// Verify a signature.
    Verify,
    /// See what the key is, and its public key.
    Describe,
    /// Change it: versions, states, rotation, grants.
    Manage,
}

impl Operation {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 6] = [
        Self::Encrypt,
        Self::Decrypt,
        Self::Sign,
        Self::Verify,
        Self::Describe,
        Self::Manage,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Sign => "sign",
            Self::Verify => "verify",
            Self::Describe => "describe",
            Self::Manage => "manage",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL
            .into_iter()
            .find(|operation| operation.as_str() == text);
        found.ok_or_else(|| {
            let all = Self::ALL.map(Self::as_str).join(", ");
            format!("\"{text}\" is no operation; there are {all}")
        })
    }
}

/// Whom a grant is for: one identity, or all of a kind (`user:*`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Grantee(String);

impl Grantee {
    /// Every user of the command line.
    pub(super) fn any_user() -> Self {
        Self("user:*".to_owned())
    }

    /// The proxy.
    pub(super) fn pgveil() -> Self {
        Self(Identity::Pgveil.to_string())
    }

    /// That identity and no other.
    pub(super) fn of(identity: &Identity) -> Result<Self, String> {
        if identity.parts().1 == "*" {
            return Err("`*` is nobody's name".to_owned());
        }
        identity.to_string().try_into()
    }

    fn covers(&self, identity: &Identity) -> bool {
        let (kind, name) = identity.parts();
        match self.0.split_once(':') {
            // `*` is no name of anybody's: `user:*` is a kind.
            Some((mine, "*")) => mine == kind && !name.is_empty(),
            _ => self.0 == identity.to_string(),
        }
    }

    /// Its text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Grantee {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let known = match text.split_once(':') {
            Some((kind, name)) => matches!(kind, "user" | "key-id" | "cert") && !name.is_empty(),
            None => text == "pgveil",
        };
        if !known || text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) {
            return Err(
                "a grant is for pgveil, user:NAME, key-id:ID, cert:CN, or all of a kind (user:*)"
                    .to_owned(),
            );
        }
        Ok(Self(text))
    }
}

impl fmt::Display for Grantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Grantee> for String {
    fn from(grantee: Grantee) -> Self {
        grantee.0
    }
}

impl FromStr for Grantee {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

/// A line of a key's access control list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Whom it is for.
    pub to: Grantee,
    /// What they may do.
    pub operations: BTreeSet<Operation>,
}

impl Grant {
    pub(super) fn new(to: Grantee, operations: &[Operation]) -> Self {
        Self {
            to,
            operations: operations.iter().copied().collect(),
        }
    }
}

/// Whether any grant lets the caller do it.
pub(super) fn allows(grants: &[Grant], caller: &Caller, operation: Operation) -> bool {
    caller.0.iter().any(|identity| {
        { grants.iter() }
            .any(|grant| grant.operations.contains(&operation) && grant.to.covers(identity))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(to: &str, operation: Operation) -> Grant {
        Grant::new(to.parse().expect("a grantee"), &[operation])
    }

    #[test]
    fn a_grant_covers_its_identity_and_no_other() {
        let grants = [
            grant("user:ada", Operation::Encrypt),
            grant("key-id:*", Operation::Decrypt),
        ];
        let ada = Caller::user("ada");
        assert!(allows(&grants, &ada, Operation::Encrypt));
        assert!(!allows(&grants, &ada, Operation::Decrypt));
        assert!(!allows(&grants, &Caller::user("*"), Operation::Encrypt));
        assert!(!allows(&grants, &Caller::pgveil(), Operation::Encrypt));
        let signed = Caller::request(Some("ID".to_owned()), None);
        assert!(allows(&grants, &signed, Operation::Decrypt));
        assert!(!allows(&grants, &signed, Operation::Encrypt));
        let named_like_a_user = Caller::request(Some("user:ada".to_owned()), None);
        assert!(!allows(&grants, &named_like_a_user, Operation::Encrypt));
        assert!(!allows(
            &grants,
            &Caller::request(None, None),
            Operation::Decrypt
        ));
    }

    #[test]
    fn nobody_is_called_by_the_name_of_all() {
        for name in ["*", "", "a\nb", &"a".repeat(256)] {
            let grantee = Grantee::of(&Identity::User(name.to_owned()));
            assert!(grantee.is_err(), "{grantee:?}");
        }
        assert!(Grantee::of(&Identity::User("ada".to_owned())).is_ok());
    }

    #[test]
    fn only_what_can_be_an_identity_is_a_grantee() {
        for text in ["pgveil", "user:ada", "user:*", "key-id:A", "cert:c n"] {
            assert!(text.parse::<Grantee>().is_ok(), "{text}");
        }
        for text in ["", "*", "user:", "ada", "group:x", "pgveil:x", "user:a\n"] {
            assert!(text.parse::<Grantee>().is_err(), "{text:?}");
        }
    }
}
