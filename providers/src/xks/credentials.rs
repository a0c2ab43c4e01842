//! The file of access keys that requests to the server are signed with. It is read again when it changes; a file that became
//! unusable leaves the keys before it in force.

use std::{
    collections::HashMap,
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Mutex,
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Some hundreds of access keys.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// As AWS KMS takes them: 20 to 30 of these characters.
const ID_CHARS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const NEW_ID_CHARS: usize = 20;
const SECRET_BYTES: usize = 32;
const MAX_ID_BYTES: usize = 128;
const MIN_SECRET_BYTES: usize = 32;

type Keys = HashMap<String, Zeroizing<String>>;

/// The file, and what it held last.
pub struct CredentialsFile {
    path: PathBuf,
    held: Mutex<Held>,
}

struct Held {
    keys: Keys,
    seen: Stamp,
}

/// What changes when a file does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            bytes: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl fmt::Debug for CredentialsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Why the file cannot be used. Shows nothing of what it holds.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct CredentialsError {
    path: PathBuf,
    reason: String,
}

impl CredentialsFile {
    /// Reads a file; refuses one that others may read, or that holds no access key.
    pub fn open(path: &Path) -> Result<Self, CredentialsError> {
        let (keys, seen) = read(path).map_err(|reason| CredentialsError {
            path: path.to_owned(),
            reason,
        })?;
        Ok(Self {
            path: path.to_owned(),
            held: Mutex::new(Held { keys, seen }),
        })
    }

    /// The access key of that id.
    pub(super) fn secret(&self, id: &str) -> Option<Zeroizing<String>> {
        let mut held = self.held.lock().expect("no holder of this lock panics");
        let now = std::fs::metadata(&self.path).map(|metadata| Stamp::of(&metadata));
        if now.is_ok_and(|now| now != held.seen)
            && let Ok((keys, seen)) = read(&self.path)
        {
            *held = Held { keys, seen };
        }
        held.keys.get(id).cloned()
    }

    /// Makes an access key and adds it to a file, which is made if there is none: its id, and the key itself.
    pub fn add(path: &Path) -> Result<(String, Zeroizing<String>), CredentialsError> {
        let refused = |reason: String| CredentialsError {
            path: path.to_owned(),
            reason,
        };
        let failed = |error: io::Error| refused(error.to_string());
        let mut random = Zeroizing::new([0; NEW_ID_CHARS + SECRET_BYTES]);
        getrandom::fill(&mut *random).map_err(|error| failed(io::Error::other(error)))?;
        let (id, secret) = random.split_at(NEW_ID_CHARS);
        let id: String = { id.iter() }
            .map(|byte| char::from(ID_CHARS[usize::from(byte % 32)]))
            .collect();
        let secret = Zeroizing::new(BASE64.encode(secret));
        let mut file = options()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        // Nothing secret goes where others can read it.
        check(&file).map_err(refused)?;
        let begin = if ends_within_a_line(&mut file).map_err(failed)? {
            "\n"
        } else {
            ""
        };
        let line = Zeroizing::new(format!("{begin}{id} {}\n", *secret));
        file.write_all(line.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
        Ok((id, secret))
    }
}

/// To read. NONBLOCK: a named pipe in the file's place must not hang whoever opens it.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32);
    options
}

/// Whether a line was begun and not ended, as editors leave it: what is added would become a part of it.
fn ends_within_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// A regular file that nobody but its owner may use.
fn check(file: &File) -> Result<std::fs::Metadata, String> {
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(format!(
            "it has mode {:04o}: others than its owner may use it; chmod 0600",
            metadata.mode() & 0o7777
        ));
    }
    Ok(metadata)
}

fn read(path: &Path) -> Result<(Keys, Stamp), String> {
    let file = { options().open(path) }.map_err(|error| error.to_string())?;
    let metadata = check(&file)?;
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE_BYTES as usize + 1));
    file.take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|_| "it is not text".to_owned())?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("it is longer than {MAX_FILE_BYTES} bytes"));
    }
    Ok((parse(&text)?, Stamp::of(&metadata)))
}

fn parse(text: &str) -> Result<Keys, String> {
    let mut keys = Keys::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| format!("line {}: {what}", at + 1);
        let (id, secret) = line
            .split_once(' ')
            .ok_or_else(|| wrong("there is no blank between id and key"))?;
        let secret = secret.trim();
        let plain = |byte: u8| byte.is_ascii_alphanumeric();
        if id.len() > MAX_ID_BYTES || !id.bytes().all(plain) {
            return Err(wrong("the id has other characters than letters and digits"));
        }
        if secret.len() < MIN_SECRET_BYTES || secret.contains(char::is_whitespace) {
            return Err(wrong("the key has fewer than 32 characters, or blanks"));
        }
        if keys
            .insert(id.to_owned(), Zeroizing::new(secret.to_owned()))
            .is_some()
        {
            return Err(wrong("the id stands twice"));
        }
    }
    if keys.is_empty() {
        return Err("it holds no access key".to_owned());
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_read_again_when_it_changes_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        let (first, first_secret) = CredentialsFile::add(&path).unwrap();
        assert_eq!((first.len(), first_secret.len()), (20, 43));
        let file = CredentialsFile::open(&path).unwrap();
        let (second, second_secret) = CredentialsFile::add(&path).unwrap();
        assert_eq!(file.secret(&first), Some(first_secret));
        assert_eq!(file.secret(&second), Some(second_secret.clone()));
        assert_eq!(file.secret("NOBODY"), None);
        std::fs::write(&path, "one-word\n").unwrap();
        assert!(file.secret(&second).is_some());
        std::fs::write(&path, format!("{second} {}\n", *second_secret)).unwrap();
        assert!(file.secret(&first).is_none() && file.secret(&second).is_some());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = CredentialsFile::open(&path).unwrap_err().to_string();
        assert!(error.contains("0644"), "{error}");
    }

    #[test]
    fn an_access_key_is_added_to_no_file_that_others_read_and_to_no_line_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        let (first, secret) = CredentialsFile::add(&path).unwrap();
        std::fs::write(&path, format!("{first} {}", *secret)).unwrap();
        let (second, _) = CredentialsFile::add(&path).unwrap();
        let file = CredentialsFile::open(&path).unwrap();
        assert_eq!(file.secret(&first), Some(secret));
        assert!(file.secret(&second).is_some());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = CredentialsFile::add(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 0600"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_pipe_in_its_place_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        for error in [
            CredentialsFile::open(&path).unwrap_err(),
            CredentialsFile::add(&path).unwrap_err(),
        ] {
            let error = error.to_string();
            assert!(error.contains("not a regular file"), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        let secret = "x".repeat(32);
        for text in [
            String::new(),
            "# nobody\n".to_owned(),
            secret.clone(),
            format!("A-B {secret}"),
            format!("A {secret}\nA {secret}"),
            "A short-hunter2".to_owned(),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(
                !error.contains("hunter2") && !error.contains("xxx"),
                "{error}"
            );
        }
    }
}
