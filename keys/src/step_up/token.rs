//! Step-up tokens: made once a passphrase was right, used up in the transaction of the operation they are for. Table
//! `pgveil.step_up_tokens`, which holds their hashes.

use std::{fmt, time::Duration};

use pgveil_config::ScopePath;
use serde_json::json;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::StepUpError;
use crate::{
    audit::{
        Change, Event, Operation, Outcome,
        secrets::{Secrets, same},
    },
    keystore::{KeystoreError, bigint_of},
};

/// How long a token is good for.
pub const LIFE: Duration = Duration::from_mins(5);

const PREFIX: &str = "pgveil-step-up-";
const BYTES: usize = 32;
const HASH: &[u8] = b"pgveil step-up token v1\0";
const ID: &[u8] = b"pgveil step-up operation v1\0";
const LABEL: &[u8] = b"token";

const FORGET_EXPIRED: &str = "DELETE FROM pgveil.step_up_tokens WHERE expires_us < $1";
const ISSUE: &str = "INSERT INTO pgveil.step_up_tokens (hash, operator, operation, scope, expires_us, mac) \
    VALUES ($1, $2, $3, $4, $5, $6)";
const USE: &str = "DELETE FROM pgveil.step_up_tokens WHERE hash = $1 RETURNING operator, operation, scope, expires_us, mac";
const USED: &str = "SELECT FROM pgveil.audit WHERE operation_id = $1";

/// A token. Not printed but on purpose ([`Token::expose`]).
pub struct Token(Zeroizing<[u8; BYTES]>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// Reads what [`Token::expose`] wrote.
    pub fn parse(text: &str) -> Result<Self, StepUpError> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        let digits = text.trim().strip_prefix(PREFIX);
        let read = digits.map(|digits| hex::decode_to_slice(digits, &mut *bytes));
        match read {
            Some(Ok(())) => Ok(Self(bytes)),
            _ => Err(StepUpError::Token {
                reason: "it is no token",
            }),
        }
    }

    /// The token itself, for the operator.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", hex::encode(*self.0)))
    }

    fn hash(&self) -> [u8; 32] {
        digest(HASH, &*self.0)
    }

    /// The id of the operation that it is used for: it stands in the log, which has each id once, even if somebody
    /// puts the token's row back.
    fn operation_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id.copy_from_slice(&digest(ID, &*self.0)[..16]);
        id
    }
}

/// What a row says of a token.
struct Bound<'a> {
    hash: &'a [u8],
    operator: &'a str,
    operation: &'a str,
    scope: &'a str,
    expires_us: u64,
}

impl Bound<'_> {
    fn mac(&self, secrets: &Secrets) -> [u8; 32] {
        let mut bytes = Vec::with_capacity(128);
        for part in [
            self.hash,
            self.operator.as_bytes(),
            self.operation.as_bytes(),
            self.scope.as_bytes(),
        ] {
            push(&mut bytes, part);
        }
        bytes.extend_from_slice(&self.expires_us.to_be_bytes());
        secrets.mac_step_up(LABEL, &bytes)
    }
}

/// Makes a token for one operation on one scope.
pub(super) async fn issue(
    change: &mut Change,
    operator: &str,
    operation: Operation,
    scope: &ScopePath,
) -> Result<Token, KeystoreError> {
    let mut bytes = Zeroizing::new([0; BYTES]);
    getrandom::fill(&mut *bytes).map_err(|error| KeystoreError::Unaudited {
        reason: format!("no random bytes: {error}"),
    })?;
    let token = Token(bytes);
    let now = change.now_us();
    change.query(FORGET_EXPIRED, &[&bigint_of(now)?]).await?;
    let hash = token.hash();
    let bound = Bound {
        hash: &hash,
        operator,
        operation: operation.as_str(),
        scope: scope.as_str(),
        expires_us: now + LIFE.as_micros() as u64,
    };
    let mac = bound.mac(change.secrets());
    let (hash, mac): (&[u8], &[u8]) = (&hash, &mac);
    let expires = bigint_of(bound.expires_us)?;
    let scope = scope.as_str();
    change
        .query(
            ISSUE,
            &[
                &hash,
                &operator,
                &operation.as_str(),
                &scope,
                &expires,
                &mac,
            ],
        )
        .await?;
    Ok(token)
}

impl Change {
    /// Uses a token up for an operation on a scope, which may then be committed here. A token that is not good for it is
    /// recorded, and nothing is done.
    pub async fn step_up(
        &mut self,
        token: &Token,
        operation: Operation,
        scope: &ScopePath,
    ) -> Result<(), KeystoreError> {
        match self.use_up(token, operation, scope).await {
            Err(KeystoreError::StepUp(error)) => {
                let event = Event::new(Operation::StepUpRefuse)
                    .outcome(Outcome::Refused)
                    .scope(scope)
                    .detail(
                        json!({ "operation": operation.as_str(), "reason": error.to_string() }),
                    );
                // It waits for this transaction to end.
                self.log().note(event).await?;
                Err(error.into())
            }
            used => used,
        }
    }

    async fn use_up(
        &mut self,
        token: &Token,
        operation: Operation,
        scope: &ScopePath,
    ) -> Result<(), KeystoreError> {
        let refused = |reason| KeystoreError::from(StepUpError::Token { reason });
        let (hash, id) = (token.hash(), token.operation_id());
        let (hash, id): (&[u8], &[u8]) = (&hash, &id);
        if !self.query(USED, &[&id]).await?.is_empty() {
            return Err(refused("it was used"));
        }
        let rows = self.query(USE, &[&hash]).await?;
        let row = rows
            .first()
            .ok_or_else(|| refused("it was used, or is of another deployment"))?;
        let expires: i64 = row.try_get(3)?;
        let bound = Bound {
            hash,
            operator: row.try_get(0)?,
            operation: row.try_get(1)?,
            scope: row.try_get(2)?,
            expires_us: u64::try_from(expires).map_err(|_| refused("its row was changed"))?,
        };
        let mac: &[u8] = row.try_get(4)?;
        if !same(&bound.mac(self.secrets()), mac) {
            return Err(refused("its row was changed"));
        }
        if bound.operation != operation.as_str() || bound.scope != scope.as_str() {
            return Err(refused("it is for another operation or scope"));
        }
        if bound.expires_us < self.now_us() {
            return Err(refused("it has expired"));
        }
        self.permit(operation, scope, token.operation_id());
        Ok(())
    }
}

/// `u32be length ‖ part`.
pub(super) fn push(out: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).expect("names are far shorter than 4 GiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(part);
}

fn digest(label: &[u8], bytes: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(label);
    hash.update(bytes);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_not_printed() {
        let token = Token(Zeroizing::new([7; BYTES]));
        let text = token.expose();
        assert_eq!(
            Token::parse(&format!("{}\n", *text)).unwrap().hash(),
            token.hash()
        );
        assert_eq!(format!("{token:?}"), "Token(..)");
        for text in ["", "pgveil-step-up-", "pgveil-step-up-0g", &text[1..]] {
            assert!(Token::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_part_of_a_row_is_under_its_mac() {
        let secrets = Secrets::derive(1, &[3; 32]);
        let bound = |operator, operation, scope, expires_us| {
            Bound {
                hash: &[1; 32],
                operator,
                operation,
                scope,
                expires_us,
            }
            .mac(&secrets)
        };
        let mac = bound("ada", "scope.erase", "tenant:a", 5);
        assert_ne!(mac, bound("adas", "cope.erase", "tenant:a", 5));
        assert_ne!(mac, bound("ada", "scope.unseal", "tenant:a", 5));
        assert_ne!(mac, bound("ada", "scope.erase", "tenant:b", 5));
        assert_ne!(mac, bound("ada", "scope.erase", "tenant:a", 6));
    }
}
