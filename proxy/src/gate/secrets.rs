//! What is known of roles: verifiers and passwords in a file, verifiers by a query, and which certificate may log in
//! as which role. Nothing of it is kept longer than the file stays as it is.

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use pgveil_config::{Settings, settings::Keystore};
use pgveil_keys::database::{self, Database};
use tokio_postgres::types::Type;
use zeroize::Zeroizing;

use crate::scram::Verifier;

/// Bytes of a file of roles.
const FILE_BYTES: u64 = 64 * 1024 * 1024;

/// What a role proves itself by.
#[derive(Clone)]
pub enum Secret {
    /// What the server keeps too.
    Verifier(Verifier),
    /// The password itself.
    Password(Zeroizing<String>),
}

/// Why nothing can be looked up.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read it.
    #[error("{} holds secrets and others may read it: chmod 600", path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// A line that is none.
    #[error("{}:{line}: two words are expected, each in double quotes", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number.
        line: usize,
    },
    /// The keystore's connection.
    #[error("the query for verifiers failed: {0}")]
    Query(String),
}

/// The places to look.
pub struct Secrets {
    userlist: Option<Watched<HashMap<String, Secret>>>,
    map: Option<Watched<HashSet<(String, String)>>>,
    query: Option<(String, Keystore)>,
    database: tokio::sync::Mutex<Option<Arc<Database>>>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    pub(super) fn new(settings: &Settings) -> Self {
        let auth = &settings.auth;
        Self {
            userlist: auth.userlist_file.clone().map(Watched::new),
            map: auth.certificate_map_file.clone().map(Watched::new),
            query: auth
                .query
                .clone()
                .map(|query| (query, settings.keystore.clone())),
            database: tokio::sync::Mutex::new(None),
        }
    }

    /// Nowhere.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self {
            userlist: None,
            map: None,
            query: None,
            database: tokio::sync::Mutex::new(None),
        }
    }

    /// Reads the files.
    pub(super) fn check(&self) -> Result<(), SecretsError> {
        self.in_file("").map(drop)?;
        self.may_log_in("", "").map(drop)
    }

    /// What is known of `role`.
    pub async fn find(&self, role: &str) -> Result<Option<Secret>, SecretsError> {
        if let Some(secret) = self.in_file(role)? {
            return Ok(Some(secret));
        }
        let Some((query, keystore)) = &self.query else {
            return Ok(None);
        };
        let failed = |error: tokio_postgres::Error| SecretsError::Query(said(&error));
        let database = self.database(keystore).await?;
        let rows = database
            .query_typed(query, &[(&role, Type::TEXT)])
            .await
            .map_err(failed)?;
        let text: Option<String> = match rows.as_slice() {
            [] => None,
            [row] if row.len() == 1 => row.try_get(0).map_err(failed)?,
            _ => {
                return Err(SecretsError::Query(
                    "it yields more than one value".to_owned(),
                ));
            }
        };
        let text = text.map(Zeroizing::new);
        // A role may have no password, or one that is kept as MD5.
        Ok(text
            .and_then(|text| Verifier::parse(&text))
            .map(Secret::Verifier))
    }

    /// Whether a certificate of this name may log in as `role`.
    pub fn may_log_in(&self, name: &str, role: &str) -> Result<bool, SecretsError> {
        let Some(map) = &self.map else {
            return Ok(name == role);
        };
        let map =
            map.current(|words| words.into_iter().map(|(a, b)| (a, b.to_string())).collect())?;
        Ok(map.contains(&(name.to_owned(), role.to_owned())))
    }

    fn in_file(&self, role: &str) -> Result<Option<Secret>, SecretsError> {
        let Some(userlist) = &self.userlist else {
            return Ok(None);
        };
        let roles = userlist.current(|words| {
            let secret = |text: Zeroizing<String>| match Verifier::parse(&text) {
                Some(verifier) => Secret::Verifier(verifier),
                None => Secret::Password(text),
            };
            words
                .into_iter()
                .map(|(role, text)| (role, secret(text)))
                .collect()
        })?;
        Ok(roles.get(role).cloned())
    }

    async fn database(&self, keystore: &Keystore) -> Result<Arc<Database>, SecretsError> {
        let mut kept = self.database.lock().await;
        if let Some(database) = kept.as_ref().filter(|database| !database.is_closed()) {
            return Ok(Arc::clone(database));
        }
        let url = keystore
            .url
            .read()
            .map_err(|error| SecretsError::Query(error.to_string()))?;
        let database = database::connect(&url, keystore.tls, keystore.ca_file.as_deref())
            .await
            .map_err(|error| SecretsError::Query(error.to_string()))?;
        let database = Arc::new(database);
        *kept = Some(Arc::clone(&database));
        Ok(database)
    }
}

/// What the server said; a parameter is never part of it.
fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} ({})", error.message(), error.code().code()),
        None => error.to_string(),
    }
}

/// A file of pairs, read again when it changes.
struct Watched<T> {
    path: PathBuf,
    read: Mutex<Option<(Stamp, Arc<T>)>>,
}

type Stamp = (Option<SystemTime>, u64, u64);
type Pairs = Vec<(String, Zeroizing<String>)>;

impl<T> Watched<T> {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            read: Mutex::new(None),
        }
    }

    fn current(&self, make: impl FnOnce(Pairs) -> T) -> Result<Arc<T>, SecretsError> {
        let failed = |source| SecretsError::File {
            path: self.path.clone(),
            source,
        };
        let found = std::fs::metadata(&self.path).map_err(failed)?;
        if found.mode() & 0o037 != 0 {
            return Err(SecretsError::Open {
                path: self.path.clone(),
            });
        }
        if found.len() > FILE_BYTES {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        let stamp = (found.modified().ok(), found.len(), found.ino());
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, value)) = read.as_ref()
            && *then == stamp
        {
            return Ok(Arc::clone(value));
        }
        let text = Zeroizing::new(std::fs::read_to_string(&self.path).map_err(failed)?);
        let value = Arc::new(make(pairs(&text, &self.path)?));
        *read = Some((stamp, Arc::clone(&value)));
        Ok(value)
    }
}

/// Lines of two words in double quotes; a quote inside is doubled. `;` and `#` begin a comment.
fn pairs(text: &str, path: &Path) -> Result<Pairs, SecretsError> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        let pair = word(line)
            .and_then(|(first, rest)| {
                let (second, rest) = word(rest)?;
                let rest = rest.trim_start();
                let ends = rest.is_empty() || rest.starts_with([';', '#']);
                ends.then_some((first.to_string(), second))
            })
            .ok_or_else(|| SecretsError::Line {
                path: path.to_owned(),
                line: number + 1,
            })?;
        found.push(pair);
    }
    Ok(found)
}

fn word(text: &str) -> Option<(Zeroizing<String>, &str)> {
    let mut rest = text.trim_start().strip_prefix('"')?;
    let mut word = Zeroizing::new(String::with_capacity(rest.len()));
    loop {
        let (before, after) = rest.split_once('"')?;
        word.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                word.push('"');
                rest = after;
            }
            None => return Some((word, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_two_quoted_words() {
        let text = "; roles\n\"a\" \"x\"\n\n  \"b \"\"c\"\" d\"   \"\" # none\n# \"no\" \"no\"\n";
        let read = pairs(text, Path::new("f")).unwrap();
        let read: Vec<(&str, &str)> = read.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(read, [("a", "x"), ("b \"c\" d", "")]);
        for wrong in ["a b", "\"a\"", "\"a\" \"b", "\"a\" \"b\" c", "\"a\" b"] {
            assert!(matches!(
                pairs(&format!("\n{wrong}"), Path::new("f")),
                Err(SecretsError::Line { line: 2, .. })
            ));
        }
    }

    #[test]
    fn a_file_is_read_again_when_it_changes_and_not_when_others_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list");
        let watched = Watched::new(path.clone());
        let count = |watched: &Watched<usize>| watched.current(|pairs| pairs.len()).map(|n| *n);
        assert!(matches!(count(&watched), Err(SecretsError::File { .. })));
        std::fs::write(&path, "\"a\" \"b\"\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(count(&watched), Err(SecretsError::Open { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(count(&watched).unwrap(), 1);
        std::fs::write(&path, "\"a\" \"b\"\n\"c\" \"d\"\n").unwrap();
        assert_eq!(count(&watched).unwrap(), 2);
    }
}
