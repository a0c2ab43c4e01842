//! Step-up: what destroys, opens or moves keys needs a token that an operator got by a passphrase a moment ago. A token is
//! good for five minutes, once, for one operation on one scope. What the operation does is not known here.
//!
//! Operators and tokens are rows of the keystore, each under a MAC of the audit log's key: a superuser of the database can
//! delete them and cannot make them, nor try passphrases.

mod operators;
mod token;

pub use operators::{MIN_PASSPHRASE_CHARS, Operator};
pub use token::{LIFE, Token};

use pgveil_config::ScopePath;

use crate::{
    audit::{Change, Operation},
    keystore::KeystoreError,
};

/// By what right something is done that needs step-up.
#[derive(Clone, Copy, Debug)]
pub enum Authority<'a> {
    /// Nobody asked for it: a period has ended, a limit was met, or it follows from what was permitted.
    Automatic,
    /// A person with a token for it.
    Token(&'a Token),
}

impl Authority<'_> {
    /// Lets the change do `operation` on `scope`; a token is used up with it.
    pub(crate) async fn permit(
        self,
        change: &mut Change,
        operation: Operation,
        scope: &ScopePath,
    ) -> Result<(), KeystoreError> {
        match self {
            Self::Automatic => {
                change.automatic();
                Ok(())
            }
            Self::Token(token) => change.step_up(token, operation, scope).await,
        }
    }
}

/// Why an operation may not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepUpError {
    /// No token was given.
    #[error("{operation} needs a step-up token")]
    Needed {
        /// What was to be done.
        operation: Operation,
    },
    /// Nobody can make tokens yet.
    #[error("no operator is enrolled")]
    NoOperator,
    /// No operator of this name, or another passphrase: which of them is not said.
    #[error("operator \"{name}\" is not known by this passphrase")]
    Passphrase {
        /// The name that was given.
        name: String,
    },
    /// Too many wrong passphrases.
    #[error(
        "operator \"{name}\" is locked for a minute after {} wrong passphrases",
        operators::MAX_FAILURES
    )]
    Locked {
        /// The operator.
        name: String,
    },
    /// The passphrase for a new operator.
    #[error(
        "a passphrase has {MIN_PASSPHRASE_CHARS} to {} characters",
        operators::MAX_PASSPHRASE_BYTES
    )]
    Weak,
    /// An operator of this name exists.
    #[error("operator \"{name}\" is enrolled already")]
    Enrolled {
        /// The name.
        name: String,
    },
    /// A name that cannot be one.
    #[error("an operator's name has 1 to 64 letters, digits, `.`, `_`, `@` or `-`")]
    Name,
    /// The last one would lock everybody out.
    #[error("the last operator cannot be removed")]
    Last,
    /// The token is none, is used up, has expired, or was made for something else.
    #[error("the step-up token is not valid: {reason}")]
    Token {
        /// Why not.
        reason: &'static str,
    },
}

impl StepUpError {
    /// What to do about it.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Needed { .. } | Self::Token { .. } => {
                "get one with `pgveil step-up token OPERATION SCOPE` and give it with --token, or give --operator NAME; on a terminal pgveil asks"
            }
            Self::NoOperator => "enroll the first with `pgveil step-up enroll NAME`",
            Self::Passphrase { .. } => {
                "try again; five wrong passphrases lock the operator for a minute"
            }
            Self::Locked { .. } => {
                "wait a minute; see who tried in `pgveil audit list --operation step-up.refuse`"
            }
            Self::Weak => "choose a longer one",
            Self::Enrolled { .. } => "take another name, or remove the old operator first",
            Self::Name => "choose such a name",
            Self::Last => "enroll another one first",
        }
    }
}
