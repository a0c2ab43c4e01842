//! Operators: enrolled with a passphrase, asked for it again when they want a token. Table `pgveil.operators`.

use std::{num::NonZeroU32, sync::Arc};

use aws_lc_rs::pbkdf2;
use pgveil_config::ScopePath;
use serde_json::json;
use tokio_postgres::Row;
use zeroize::Zeroizing;

use super::{StepUpError, Token, token};
use crate::{
    audit::{
        Change, Event, Log, Operation, Outcome,
        secrets::{Secrets, same},
    },
    keystore::{KeystoreError, bigint_of},
};

/// A shorter passphrase is refused.
pub const MIN_PASSPHRASE_CHARS: usize = 12;
pub(super) const MAX_PASSPHRASE_BYTES: usize = 1024;
/// So many wrong passphrases in a row lock an operator for a minute.
pub(super) const MAX_FAILURES: i32 = 5;
/// OWASP's number for PBKDF2 with HMAC-SHA-256.
const ROUNDS: u32 = 600_000;
/// A row that asks for more was not written by pgveil.
const MAX_ROUNDS: u32 = 10_000_000;
const SALT_BYTES: usize = 16;
const MAX_NAME_BYTES: usize = 64;
const LABEL: &[u8] = b"operator";

/// What `pgveil.row_changes` and records call an operator who was removed: with the salt, so that one who is enrolled again is
/// another. A row that somebody puts back is no operator.
macro_rules! is_removed {
    () => {
        "EXISTS (SELECT FROM pgveil.row_changes c WHERE c.table_name = 'operators' \
         AND c.row_name = o.name || ' ' || encode(o.salt, 'hex'))"
    };
}

const BY_NAME: &str = concat!(
    "SELECT salt, rounds, verifier, failures, coalesce(locked_until > now(), false) FROM pgveil.operators o \
     WHERE name = $1 AND NOT ",
    is_removed!()
);
const COUNT: &str = concat!(
    "SELECT count(*), count(*) FILTER (WHERE name = $1) FROM pgveil.operators o WHERE NOT ",
    is_removed!()
);
const EVER_ENROLLED: &str = "SELECT EXISTS (SELECT FROM pgveil.audit WHERE operation = 'operator.enroll' AND outcome = 'done')";
const ENROLL: &str =
    "INSERT INTO pgveil.operators (name, salt, rounds, verifier) VALUES ($1, $2, $3, $4)";
const REMOVE: &str = "WITH removed AS (DELETE FROM pgveil.operators WHERE name = $1 \
        RETURNING name || ' ' || encode(salt, 'hex') AS removed) \
    INSERT INTO pgveil.row_changes (table_name, row_name, audit_seq) SELECT 'operators', removed, $2 FROM removed RETURNING row_name";
/// Of one who was removed before, as which somebody had put a row back.
const FORGET: &str = concat!(
    "DELETE FROM pgveil.operators o WHERE name = $1 AND ",
    is_removed!()
);
const FAILED: &str = "UPDATE pgveil.operators SET failures = CASE WHEN failures + 1 >= $2 THEN 0 ELSE failures + 1 END, \
    locked_until = CASE WHEN failures + 1 >= $2 THEN now() + interval '1 minute' END WHERE name = $1";
const SUCCEEDED: &str =
    "UPDATE pgveil.operators SET failures = 0, locked_until = NULL WHERE name = $1";
const LIST: &str = concat!(
    "SELECT name, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
     coalesce(locked_until > now(), false) FROM pgveil.operators o WHERE NOT ",
    is_removed!(),
    " ORDER BY name COLLATE \"C\""
);

/// Who may make tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The name.
    pub name: String,
    /// Since when (ISO 8601, UTC).
    pub created_at: String,
    /// Too many wrong passphrases, a moment ago.
    pub locked: bool,
}

/// A row, as far as a passphrase is compared with it.
struct Verifier {
    salt: Vec<u8>,
    rounds: u32,
    verifier: Vec<u8>,
    locked: bool,
}

impl Log {
    /// Enrolls an operator. The first one needs no token; it is in the audit log who it was, and the log must be sound.
    pub async fn enroll(
        self: &Arc<Self>,
        name: &str,
        passphrase: &str,
        token: Option<&Token>,
    ) -> Result<(), KeystoreError> {
        check_name(name)?;
        if passphrase.chars().count() < MIN_PASSPHRASE_CHARS
            || passphrase.len() > MAX_PASSPHRASE_BYTES
        {
            return Err(StepUpError::Weak.into());
        }
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|error| KeystoreError::Unaudited {
            reason: format!("no random bytes: {error}"),
        })?;
        let stretched = stretch(passphrase, &salt, ROUNDS).await?;
        if token.is_none() {
            self.catch_up().await?;
        }
        let mut change = self.change().await?;
        let platform = ScopePath::platform();
        let (all, same) = counted(&mut change, name).await?;
        if same > 0 {
            return Err(StepUpError::Enrolled {
                name: name.to_owned(),
            }
            .into());
        }
        match token {
            Some(token) => {
                change
                    .step_up(token, Operation::OperatorEnroll, &platform)
                    .await?;
            }
            None if all > 0 => {
                let operation = Operation::OperatorEnroll;
                return Err(StepUpError::Needed { operation }.into());
            }
            None => first(&mut change).await?,
        }
        change.query(FORGET, &[&name]).await?;
        let verifier = verifier(change.secrets(), name, &salt, ROUNDS, &stretched);
        let (salt, verifier): (&[u8], &[u8]) = (&salt, &verifier);
        change
            .query(ENROLL, &[&name, &salt, &(ROUNDS as i32), &verifier])
            .await?;
        let event = Event::new(Operation::OperatorEnroll)
            .scope(&platform)
            .detail(json!({ "operator": name, "first": all == 0 }));
        change.commit(event).await
    }

    /// Removes an operator, but not the last one.
    pub async fn remove_operator(
        self: &Arc<Self>,
        name: &str,
        token: &Token,
    ) -> Result<(), KeystoreError> {
        let mut change = self.change().await?;
        let platform = ScopePath::platform();
        change
            .step_up(token, Operation::OperatorRemove, &platform)
            .await?;
        let (all, same) = counted(&mut change, name).await?;
        if same == 0 {
            return Err(StepUpError::Passphrase {
                name: name.to_owned(),
            }
            .into());
        }
        if all == 1 {
            return Err(StepUpError::Last.into());
        }
        let seq = bigint_of(change.record_seq(0))?;
        let rows = change.query(REMOVE, &[&name, &seq]).await?;
        let removed: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        let event = Event::new(Operation::OperatorRemove)
            .scope(&platform)
            .detail(json!({ "operator": name }));
        change
            .commit(event.changes_rows("operators", &removed?))
            .await
    }

    /// All operators.
    pub async fn operators(&self) -> Result<Vec<Operator>, KeystoreError> {
        let rows = self.connection.query(LIST, &[]).await?;
        let operator = |row: &Row| {
            Ok(Operator {
                name: row.try_get(0)?,
                created_at: row.try_get(1)?,
                locked: row.try_get(2)?,
            })
        };
        rows.iter().map(operator).collect()
    }

    /// A token for an operator who knows the passphrase, and whom the audit log, which must be sound, does not know as removed.
    pub async fn step_up_token(
        self: &Arc<Self>,
        name: &str,
        passphrase: &str,
        operation: Operation,
        scope: &ScopePath,
    ) -> Result<Token, KeystoreError> {
        let mut rows = self.connection.query(COUNT, &[&name]).await?;
        let count: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
        if count == 0 {
            return Err(StepUpError::NoOperator.into());
        }
        rows = self.connection.query(BY_NAME, &[&name]).await?;
        let found = rows.first().map(Verifier::of).transpose()?;
        // An unknown operator takes as long as a known one.
        let (salt, rounds) = found
            .as_ref()
            .map_or((&[0; SALT_BYTES][..], ROUNDS), |found| {
                (&found.salt[..], found.rounds)
            });
        let stretched = stretch(passphrase, salt, rounds).await?;
        self.catch_up().await?;
        // The stretching took a while: looked at again where nobody else is.
        let mut change = self.change().await?;
        rows = change.query(BY_NAME, &[&name]).await?;
        let found = rows.first().map(Verifier::of).transpose()?;
        let refused = match found {
            None => Some(StepUpError::Passphrase {
                name: name.to_owned(),
            }),
            Some(found) if found.locked => Some(StepUpError::Locked {
                name: name.to_owned(),
            }),
            Some(found) => {
                let expected = verifier(
                    change.secrets(),
                    name,
                    &found.salt,
                    found.rounds,
                    &stretched,
                );
                let right = same(&expected, &found.verifier);
                let sql = if right { SUCCEEDED } else { FAILED };
                let params: &[&(dyn tokio_postgres::types::ToSql + Sync)] = if right {
                    &[&name]
                } else {
                    &[&name, &MAX_FAILURES]
                };
                change.query(sql, params).await?;
                (!right).then(|| StepUpError::Passphrase {
                    name: name.to_owned(),
                })
            }
        };
        let about = json!({ "operator": name, "operation": operation.as_str() });
        if let Some(refused) = refused {
            let event = Event::new(Operation::StepUpRefuse)
                .outcome(Outcome::Refused)
                .scope(scope)
                .detail(about);
            change.commit(event).await?;
            return Err(refused.into());
        }
        let token = token::issue(&mut change, name, operation, scope).await?;
        let event = Event::new(Operation::StepUpIssue)
            .scope(scope)
            .detail(about);
        change.commit(event).await?;
        Ok(token)
    }
}

impl Verifier {
    fn of(row: &Row) -> Result<Self, KeystoreError> {
        let rounds: i32 = row.try_get(1)?;
        let rounds = u32::try_from(rounds)
            .ok()
            .filter(|rounds| (1..=MAX_ROUNDS).contains(rounds));
        Ok(Self {
            salt: row.try_get(0)?,
            rounds: rounds.ok_or_else(|| damaged("a number of rounds"))?,
            verifier: row.try_get(2)?,
            locked: row.try_get(4)?,
        })
    }
}

/// How many operators there are, and how many of this name.
async fn counted(change: &mut Change, name: &str) -> Result<(i64, i64), KeystoreError> {
    let rows = change.query(COUNT, &[&name]).await?;
    let row = rows.first().ok_or_else(|| damaged("no count"))?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// The first operator may be enrolled by whoever runs pgveil, once: rows that somebody deleted do not open that door again.
async fn first(change: &mut Change) -> Result<(), KeystoreError> {
    let rows = change.query(EVER_ENROLLED, &[]).await?;
    let ever: bool = rows.first().map_or(Ok(false), |row| row.try_get(0))?;
    if ever {
        return Err(damaged("operators were enrolled, and are gone"));
    }
    let id = change.id;
    change.permit(Operation::OperatorEnroll, &ScopePath::platform(), id);
    Ok(())
}

/// PBKDF2 with HMAC-SHA-256, on a thread of its own: it takes some tenths of a second.
async fn stretch(
    passphrase: &str,
    salt: &[u8],
    rounds: u32,
) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    let passphrase = Zeroizing::new(passphrase.as_bytes().to_vec());
    let salt = salt.to_vec();
    let rounds = NonZeroU32::new(rounds).ok_or_else(|| damaged("a number of rounds"))?;
    let stretched = tokio::task::spawn_blocking(move || {
        let mut out = Zeroizing::new([0; 32]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            rounds,
            &salt,
            &passphrase,
            &mut *out,
        );
        out
    });
    stretched.await.map_err(|_| KeystoreError::Unavailable {
        reason: "the passphrase could not be stretched".to_owned(),
    })
}

/// Bound to the name, and of no use to anybody without the log's key.
fn verifier(
    secrets: &Secrets,
    name: &str,
    salt: &[u8],
    rounds: u32,
    stretched: &[u8; 32],
) -> [u8; 32] {
    let mut bytes = Zeroizing::new(Vec::with_capacity(128 + salt.len()));
    token::push(&mut bytes, name.as_bytes());
    token::push(&mut bytes, salt);
    bytes.extend_from_slice(&rounds.to_be_bytes());
    bytes.extend_from_slice(stretched);
    secrets.mac_step_up(LABEL, &bytes)
}

fn check_name(name: &str) -> Result<(), StepUpError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(allowed) {
        return Err(StepUpError::Name);
    }
    Ok(())
}

fn damaged(reason: &str) -> KeystoreError {
    KeystoreError::Damaged {
        table: "pgveil.operators",
        reason: reason.to_owned(),
    }
}
