//! Where to find a secret: inline, in the environment, or in a file. It is read when it is used, and not kept.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use zeroize::{Zeroize, Zeroizing};

/// No secret of pgveil's is longer (bytes): the longest are connection URLs and tokens.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// A value that is not printed: given inline, as `env:NAME`, or as `..._file`.
#[derive(Clone)]
pub enum Secret {
    /// Given in the file itself (a URL without a password is the only good use).
    Inline(String),
    /// `env:NAME`.
    Env(String),
    /// `*_file = "path"`.
    File(PathBuf),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a secret cannot be read. Never holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// `env:NAME`, and the environment has no such variable.
    #[error("the environment variable `{name}` is not set")]
    VariableNotSet {
        /// NAME.
        name: String,
    },
    /// The file cannot be read.
    #[error("cannot read `{}`: {error}", .path.display())]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Not UTF-8, or longer than 64 KiB, or holding a zero byte.
    #[error(
        "{source_name} does not hold a secret: it must be UTF-8 text of at most {MAX_SECRET_BYTES} bytes"
    )]
    NotASecret {
        /// The variable or file.
        source_name: String,
    },
    /// Nothing in it.
    #[error("{source_name} is empty")]
    Empty {
        /// The variable or file.
        source_name: String,
    },
}

impl Secret {
    /// A key's text: `env:NAME`, or else the secret itself.
    pub(crate) fn from_text(text: String) -> Secret {
        match text.strip_prefix("env:") {
            Some(name) => Secret::Env(name.to_owned()),
            None => Secret::Inline(text),
        }
    }

    /// The secret itself, zeroized when dropped. One newline at the end of a file does not belong to it.
    pub fn read(&self) -> Result<Zeroizing<String>, SecretError> {
        let (secret, source_name) = match self {
            Secret::Inline(text) => (Zeroizing::new(text.clone()), "the value".to_owned()),
            Secret::Env(name) => (
                read_variable(name)?,
                format!("the environment variable `{name}`"),
            ),
            Secret::File(path) => (read_file(path)?, format!("`{}`", path.display())),
        };
        if secret.is_empty() {
            return Err(SecretError::Empty { source_name });
        }
        if secret.contains('\0') {
            return Err(SecretError::NotASecret { source_name });
        }
        Ok(secret)
    }
}

fn read_variable(name: &str) -> Result<Zeroizing<String>, SecretError> {
    // `var_os` panics on none of these, but documents that it may.
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(SecretError::VariableNotSet {
            name: name.to_owned(),
        });
    }
    let value = std::env::var_os(name).ok_or_else(|| SecretError::VariableNotSet {
        name: name.to_owned(),
    })?;
    value
        .into_string()
        .map(Zeroizing::new)
        .map_err(|_| SecretError::NotASecret {
            source_name: format!("the environment variable `{name}`"),
        })
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let unreadable = |error| SecretError::FileUnreadable {
        path: path.to_path_buf(),
        error,
    };
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES as usize + 1));
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_SECRET_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let not_a_secret = || SecretError::NotASecret {
        source_name: format!("`{}`", path.display()),
    };
    if bytes.len() as u64 > MAX_SECRET_BYTES {
        return Err(not_a_secret());
    }
    let without_newline = bytes.strip_suffix(b"\n").map_or(bytes.len(), |rest| {
        rest.strip_suffix(b"\r").map_or(rest.len(), <[u8]>::len)
    });
    bytes.truncate(without_newline);
    String::from_utf8(std::mem::take(&mut *bytes))
        .map(Zeroizing::new)
        .map_err(|error| {
            error.into_bytes().zeroize();
            not_a_secret()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(bytes: &[u8]) -> (tempfile::TempDir, Secret) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, bytes).unwrap();
        (folder, Secret::File(path))
    }

    #[test]
    fn trims_one_newline_at_the_end_of_a_file() {
        for (bytes, secret) in [
            (&b"hunter2"[..], "hunter2"),
            (b"hunter2\n", "hunter2"),
            (b"hunter2\r\n", "hunter2"),
            (b"hunter2 \n\n", "hunter2 \n"),
        ] {
            let (_folder, file) = file_with(bytes);
            assert_eq!(file.read().unwrap().as_str(), secret);
        }
    }

    #[test]
    fn says_why_there_is_no_secret() {
        let long = vec![b'x'; 70_000];
        for bytes in [&b""[..], b"\n", b"a\0b", b"\xff", &long] {
            let (_folder, file) = file_with(bytes);
            let error = file.read().unwrap_err().to_string();
            assert!(
                error.contains("is empty") || error.contains("does not hold a secret"),
                "{error}"
            );
        }
        let error = Secret::Env("PGVEIL_NO_SUCH_VARIABLE".to_owned())
            .read()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the environment variable `PGVEIL_NO_SUCH_VARIABLE` is not set"
        );
        let error = Secret::File("/no/such/file".into()).read().unwrap_err();
        assert!(
            error.to_string().starts_with("cannot read `/no/such/file`"),
            "{error}"
        );
    }

    #[test]
    fn reads_the_environment_and_never_prints() {
        assert_eq!(
            *Secret::from_text("env:PATH".to_owned()).read().unwrap(),
            std::env::var("PATH").unwrap()
        );
        let inline = Secret::from_text("postgres://u:hunter2@h/d".to_owned());
        assert_eq!(inline.read().unwrap().as_str(), "postgres://u:hunter2@h/d");
        assert_eq!(format!("{inline:?}"), "Secret(..)");
    }
}
