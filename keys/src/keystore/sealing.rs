//! Sealing, unsealing and erasing scopes by hand. A scope's word holds for all scopes below it. Running proxies hear of it
//! by NOTIFY ([`super::watch`]); what a provider denies is no matter of the keystore.

use pgveil_config::ScopePath;
use serde_json::{Value, json};

use super::{
    Keystore, KeystoreError, bigint_of,
    rows::{at, us},
    watch::CHANNEL,
    words::{self, TABLE, Word, words_of},
};
use crate::{
    audit::{
        Change, Event, Operation,
        event::{MAX_CHANGED_KEYS, bounded_names},
    },
    step_up::Token,
};

const SAID: &str = concat!("SELECT ", words_of!("(SELECT unnest($1::text[]))"));
const ALL_SAID: &str = concat!(
    "SELECT ",
    words_of!(
        "(SELECT path FROM pgveil.scopes UNION SELECT row_name FROM pgveil.row_changes WHERE table_name = 'scopes')"
    )
);
const PUT: &str = concat!(
    "WITH changes AS (INSERT INTO pgveil.row_changes (table_name, row_name, audit_seq) VALUES ('scopes', $1, $5)) \
     INSERT INTO pgveil.scopes (path, state, sealed_at, erased_at, audit_seq, mac) VALUES ($1, $2, ",
    at!("$3::int8"),
    ", ",
    at!("$4::int8"),
    ", $5, $6) ON CONFLICT (path) DO UPDATE SET state = excluded.state, sealed_at = excluded.sealed_at, \
     erased_at = excluded.erased_at, audit_seq = excluded.audit_seq, mac = excluded.mac"
);
/// So that a key that is being made elsewhere is not missed: making one looks at this row.
const BEGIN: &str = "INSERT INTO pgveil.scopes (path, state, sealed_at) VALUES ($1, 'sealed', now()) ON CONFLICT DO NOTHING RETURNING path";
/// A scope whose row somebody took away.
const WAS_WRITTEN: &str =
    "SELECT FROM pgveil.row_changes WHERE table_name = 'scopes' AND row_name = $1 LIMIT 1";
const NOTIFY: &str = "SELECT pg_notify($1, $2)";
/// Every scope whose chain has this one.
const AND_BELOW: &str =
    "SELECT path FROM pgveil.scopes WHERE path = $1 OR starts_with(path, $1 || '/') ORDER BY path";
const LIVING: &str =
    "SELECT id FROM pgveil.keys WHERE scope = $1 AND state <> 'destroyed' ORDER BY id";
/// For a row that pgveil did not write: erased all the same, and never given a MAC.
const DESTROY_FOREIGN: &str = "UPDATE pgveil.keys SET state = 'destroyed', wrapped = NULL, destroyed_at = now() WHERE id = ANY ($1)";
/// Scopes that one erasure may take at once: it is one transaction.
const MAX_ERASED_SCOPES: usize = 10_000;

/// What an erasure destroyed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Which scopes.
    pub scopes: Vec<String>,
    /// How many keys.
    pub keys: usize,
}

impl Keystore {
    /// Seals a scope and all below it. False if it was sealed already.
    pub async fn seal(&self, scope: &ScopePath) -> Result<bool, KeystoreError> {
        let mut change = self.change().await?;
        // A row that is refused is written anew: this is the emergency brake.
        let said = said(&mut change, scope.as_str()).await?;
        if matches!(&said, Some(Ok(word)) if word.is_sealed && word.has_mac) {
            change.rollback().await?;
            return Ok(false);
        }
        let word = Word {
            path: scope.to_string(),
            is_sealed: true,
            sealed_us: Some(change.keystore_now_us().await?),
            erased_us: erased_before(said),
            has_mac: true,
        };
        put(&mut change, &word, 0).await?;
        notify(&mut change, scope).await?;
        let event = Event::new(Operation::ScopeSeal).scope(scope);
        change
            .commit(event.changes_rows(TABLE, &[word.path]))
            .await?;
        Ok(true)
    }

    /// Takes a scope's own seal off; a scope above it may still be sealed. False if it was not sealed.
    pub async fn unseal(&self, scope: &ScopePath, token: &Token) -> Result<bool, KeystoreError> {
        let mut change = self.change().await?;
        change.step_up(token, Operation::ScopeUnseal, scope).await?;
        let said = said(&mut change, scope.as_str()).await?;
        if matches!(
            &said,
            None | Some(Ok(Word {
                is_sealed: false,
                ..
            }))
        ) {
            change.rollback().await?;
            return Ok(false);
        }
        let word = Word {
            path: scope.to_string(),
            is_sealed: false,
            sealed_us: None,
            erased_us: erased_before(said),
            has_mac: true,
        };
        put(&mut change, &word, 0).await?;
        notify(&mut change, scope).await?;
        let event = Event::new(Operation::ScopeUnseal).scope(scope);
        change
            .commit(event.changes_rows(TABLE, &[word.path]))
            .await?;
        Ok(true)
    }

    /// Rows of `pgveil.scopes` that are not believed.
    pub(super) async fn refused_scopes(&self) -> Result<Vec<KeystoreError>, KeystoreError> {
        let secrets = self.log().secrets().await?;
        let rows = self.query(ALL_SAID, &[]).await?;
        let answer: Option<&str> = rows.first().map_or(Ok(None), |row| row.try_get(0))?;
        let judged = words::judged(answer, &secrets)?.into_iter();
        let refused = judged.filter_map(|judged| match judged {
            // It is obeyed all the same: it opens nothing.
            Ok(word) if word.is_sealed && !word.has_mac => Some(words::damaged(&format!(
                "the seal of {} has no MAC: an earlier pgveil wrote it, or somebody else",
                word.path
            ))),
            judged => judged.err(),
        });
        Ok(refused.collect())
    }

    /// Destroys all keys of a scope and of all below it, and leaves them sealed. What was sealed with the keys can never
    /// be read again, here; a backup of the keystore and its provider's KEK still can. `lost` says in the record what that is.
    pub async fn erase(
        &self,
        scope: &ScopePath,
        lost: &Value,
        token: &Token,
    ) -> Result<Erased, KeystoreError> {
        if *scope == ScopePath::platform() {
            return Err(KeystoreError::NotDone {
                reason: "the platform cannot be erased as a whole".to_owned(),
                cure: "erase its tenants: `pgveil scopes list` shows them",
            });
        }
        let mut change = self.change().await?;
        change.step_up(token, Operation::ScopeErase, scope).await?;
        let (mut foreign, mut parts) = (Vec::new(), Vec::new());
        let now_us = change.keystore_now_us().await?;
        let paths = self.at_and_below(&mut change, scope).await?;
        let names = bounded_names(&paths);
        let mut erased = Erased {
            scopes: paths.clone(),
            keys: 0,
        };
        for path in &paths {
            let rows = change.query(LIVING, &[path]).await?;
            let ids: Result<Vec<i64>, _> = rows.iter().map(|row| row.try_get(0)).collect();
            let ids: Vec<u64> = ids?.into_iter().map(|id| id as u64).collect();
            for ids in ids.chunks(MAX_CHANGED_KEYS) {
                let (mut rows, others) = self.locked_apart(&mut change, ids).await?;
                for row in &mut rows {
                    row.destroy(now_us);
                }
                // Behind the records of the scopes.
                change.put_keys(&rows, names.len() + parts.len()).await?;
                let part = Event::new(Operation::ScopeErase).scope(scope);
                let part = part.detail(json!({ "part_of": path }));
                parts.push(part.changes(rows.iter().map(|row| row.id)));
                erased.keys += ids.len();
                foreign.extend(others);
            }
        }
        for (n, paths) in names.iter().enumerate() {
            for path in *paths {
                let word = Word {
                    path: path.clone(),
                    is_sealed: true,
                    sealed_us: Some(now_us),
                    erased_us: Some(now_us),
                    has_mac: true,
                };
                put(&mut change, &word, n).await?;
            }
        }
        let ids: Vec<i64> = foreign.iter().map(|id| *id as i64).collect();
        change.query(DESTROY_FOREIGN, &[&ids]).await?;
        notify(&mut change, scope).await?;
        let whole = names.iter().enumerate().map(|(n, paths)| {
            let detail = match n {
                0 => {
                    json!({ "scopes": erased.scopes, "keys": erased.keys, "refused_rows": foreign, "lost": lost })
                }
                _ => json!({ "scopes": paths }),
            };
            let event = Event::new(Operation::ScopeErase).scope(scope);
            event.detail(detail).changes_rows(TABLE, paths)
        });
        let events = whole.chain(parts).collect();
        change.commit_all(events).await?;
        Ok(erased)
    }

    /// The scopes that there are: a tenant's environment takes in that environment of its projects. A name that nothing was
    /// ever sealed under is somebody's slip, and leaves no row behind.
    async fn at_and_below(
        &self,
        change: &mut Change,
        scope: &ScopePath,
    ) -> Result<Vec<String>, KeystoreError> {
        let is_new = !change.query(BEGIN, &[&scope.as_str()]).await?.is_empty();
        let tenant = scope.as_str().split('/').next().unwrap_or_default();
        let rows = change.query(AND_BELOW, &[&tenant]).await?;
        let mut paths = Vec::new();
        for row in rows {
            let path: String = row.try_get(0)?;
            let below = ScopePath::parse(&path).is_ok_and(|path| path.chain().contains(scope));
            if below {
                paths.push(path);
            }
        }
        let is_alone = is_new && paths.len() == 1;
        if is_alone && { change.query(WAS_WRITTEN, &[&scope.as_str()]).await? }.is_empty() {
            return Err(KeystoreError::NoScope {
                scope: scope.to_string(),
            });
        }
        if paths.len() > MAX_ERASED_SCOPES {
            return Err(KeystoreError::NotDone {
                reason: format!(
                    "{} scopes are below {scope}, and {MAX_ERASED_SCOPES} can be erased at once",
                    paths.len()
                ),
                cure: "erase those below it first: `pgveil scopes list` shows them",
            });
        }
        Ok(paths)
    }
}

/// What a scope's own row says; `None` if nothing.
async fn said(
    change: &mut Change,
    path: &str,
) -> Result<Option<Result<Word, KeystoreError>>, KeystoreError> {
    let rows = change.query(SAID, &[&[path].as_slice()]).await?;
    let answer: Option<&str> = rows.first().map_or(Ok(None), |row| row.try_get(0))?;
    Ok(words::judged(answer, change.secrets())?.pop())
}

/// When the keys that the scope had then were destroyed, as its row said.
fn erased_before(said: Option<Result<Word, KeystoreError>>) -> Option<i64> {
    said.and_then(Result::ok).and_then(|word| word.erased_us)
}

/// Writes a scope's row with the `event`th of the events that this is committed with, which must name it.
async fn put(change: &mut Change, word: &Word, event: usize) -> Result<(), KeystoreError> {
    let seq = bigint_of(change.record_seq(event))?;
    let mac: &[u8] = &word.authentic(seq, change.secrets());
    change
        .query(
            PUT,
            &[
                &word.path,
                &word.state(),
                &word.sealed_us,
                &word.erased_us,
                &seq,
                &mac,
            ],
        )
        .await
        .map(drop)
}

/// Has the others look at what changed of a scope, once it is committed.
pub(super) async fn notify(change: &mut Change, scope: &ScopePath) -> Result<(), KeystoreError> {
    change
        .query(NOTIFY, &[&CHANNEL, &scope.as_str()])
        .await
        .map(drop)
}
