//! The root key file: 32 random bytes in hex, readable by its owner only. It is read once, at start.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aes_gcm::{Aes256Gcm, KeyInit};
use hmac::{Hmac, Mac};
use rustix::{fs::OFlags, io::Errno};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
/// A root key file is one comment and one line; more than this is some other file.
const MAX_FILE_BYTES: u64 = 4096;
const SEALING_LABEL: &[u8] = b"pgveil local root: sealing v1";
const CHECK_LABEL: &[u8] = b"pgveil local root: check v1";
const RECORDS_LABEL: &[u8] = b"pgveil local root: records v1";
const HEADER: &str = "\
# pgveil root key. Whoever has this file and the keystore can read every value it protects.
# Keep a copy in a safe place: without it, those values are lost.
";

/// What the local provider derives from the root key file. The file's own bytes are gone after reading.
pub struct RootKey {
    sealing: Aes256Gcm,
    records: Zeroizing<[u8; KEY_BYTES]>,
    check: RootCheck,
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(..)")
    }
}

/// Tells root keys apart without telling anything about them: an HMAC under the root key.
#[derive(Clone, Copy)]
pub struct RootCheck(pub [u8; 16]);

impl PartialEq for RootCheck {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}
impl Eq for RootCheck {}

impl fmt::Debug for RootCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootCheck({})", hex::encode(self.0))
    }
}

impl RootKey {
    /// Reads a root key file and refuses one that others may read. Symbolic links are followed.
    pub fn read(path: &Path) -> Result<Self, RootKeyError> {
        // NONBLOCK: a named pipe in the file's place must not hang the start.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open(path)
            .map_err(|error| RootKeyError::from_open(path, error))?;
        check_metadata(path, &file)?;
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES as usize + 1));
        file.take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut text)
            .map_err(|error| RootKeyError::Io {
                path: path.to_owned(),
                error,
            })?;
        let key = parse(&text).map_err(|found| RootKeyError::Format {
            path: path.to_owned(),
            found,
        })?;
        Ok(Self::derive(&key))
    }

    /// Writes a new root key file with mode 0600; refuses to touch an existing one, a dangling link included.
    pub fn create(path: &Path) -> Result<(), RootKeyError> {
        let failed = |error| RootKeyError::from_create(path, error);
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *key).map_err(|error| failed(io::Error::other(error)))?;
        let text = Zeroizing::new(format!("{HEADER}{}\n", *Zeroizing::new(hex::encode(*key))));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
        // The name must survive a power cut as the bytes do.
        let folder = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed)
    }

    pub(super) fn check(&self) -> RootCheck {
        self.check
    }

    pub(super) fn sealing(&self) -> &Aes256Gcm {
        &self.sealing
    }

    /// A MAC over what the keystore says of a key.
    pub(super) fn mac(&self, record: &[u8]) -> [u8; 32] {
        labelled(&self.records, record)
    }

    /// Whether a MAC is over this, in constant time.
    pub(super) fn made(&self, mac: &[u8], record: &[u8]) -> bool {
        self.mac(record)[..].ct_eq(mac).into()
    }

    fn derive(key: &[u8; KEY_BYTES]) -> Self {
        let sealing = Zeroizing::new(labelled(key, SEALING_LABEL));
        let mut check = [0; 16];
        check.copy_from_slice(&labelled(key, CHECK_LABEL)[..16]);
        let sealing = Aes256Gcm::new_from_slice(&*sealing)
            .expect("HMAC-SHA-256 makes the 32 bytes of an AES-256 key");
        Self {
            sealing,
            records: Zeroizing::new(labelled(key, RECORDS_LABEL)),
            check: RootCheck(check),
        }
    }
}

/// HMAC-SHA-256 as a key derivation: the root key is uniform, so extraction would add nothing (RFC 5869, 3.3).
fn labelled(key: &[u8; KEY_BYTES], label: &[u8]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key)
        .expect("HMAC takes a key of any length");
    mac.update(label);
    mac.finalize().into_bytes().into()
}

fn check_metadata(path: &Path, file: &File) -> Result<(), RootKeyError> {
    let metadata = file.metadata().map_err(|error| RootKeyError::Io {
        path: path.to_owned(),
        error,
    })?;
    if !metadata.is_file() {
        return Err(RootKeyError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(RootKeyError::TooOpen {
            path: path.to_owned(),
            mode,
        });
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(RootKeyError::Format {
            path: path.to_owned(),
            found: "it is too long for a key",
        });
    }
    Ok(())
}

/// The one line that is neither blank nor a comment, as 64 hexadecimal digits.
fn parse(text: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not text")?;
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = lines.next().ok_or("it holds no key")?;
    if lines.next().is_some() {
        return Err("it holds more than one line besides comments");
    }
    if line.len() != 2 * KEY_BYTES {
        return Err("its key is not 64 hexadecimal digits long");
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    hex::decode_to_slice(line, &mut *key)
        .map_err(|_| "its key has characters that are no hexadecimal digits")?;
    Ok(key)
}

/// What is wrong with a root key file.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// No such file.
    #[error("root key file {} does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Links that lead nowhere.
    #[error("root key file {} is a symbolic link that leads in a circle", path.display())]
    LinkLoop {
        /// The file.
        path: PathBuf,
    },
    /// A folder, pipe, socket or device.
    #[error("root key file {} is not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner have rights on it.
    #[error("root key file {} has mode {mode:04o}: others than its owner may use it", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a root key.
    #[error("root key file {} is not a root key: {found}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: &'static str,
    },
    /// There is one already.
    #[error("root key file {} exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refuses.
    #[error("root key file {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its words.
        error: io::Error,
    },
}

impl RootKeyError {
    fn from_open(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => Self::Missing { path },
            Some(Errno::LOOP) => Self::LinkLoop { path },
            // What open(2) says of a socket.
            Some(Errno::NXIO) => Self::NotAFile { path },
            _ => Self::Io { path, error },
        }
    }

    fn from_create(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            _ => Self::Io { path, error },
        }
    }

    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::Missing { path } => format!(
                "restore {} from its safe copy; for a new deployment, `pgveil init` makes one",
                path.display()
            ),
            Self::LinkLoop { .. } => "name the file itself in root_key_file".to_owned(),
            Self::NotAFile { .. } => "name a file that `pgveil init` made in root_key_file".to_owned(),
            Self::TooOpen { path, .. } => format!("chmod 0600 {}", path.display()),
            Self::Format { .. } => {
                "restore it from its safe copy: comments and one line of 64 hexadecimal digits".to_owned()
            }
            Self::Exists { .. } => {
                "keep it: values sealed with it cannot be read without it; name another file for a new one".to_owned()
            }
            Self::Io { .. } => "make the file readable for the user that runs pgveil, and for nobody else".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
