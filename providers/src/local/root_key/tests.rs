//! Root key files, good and bad.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn file_with(folder: &tempfile::TempDir, text: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join("root.key");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn refusal(text: impl AsRef<[u8]>) -> String {
    let folder = folder();
    RootKey::read(&file_with(&folder, text))
        .unwrap_err()
        .to_string()
}

#[test]
fn a_created_file_is_private_and_reads_back() {
    let folder = folder();
    let path = folder.path().join("root.key");
    RootKey::create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert!(
        fs::read_to_string(&path)
            .unwrap()
            .starts_with("# pgveil root key")
    );
    assert_eq!(
        RootKey::read(&path).unwrap().check(),
        RootKey::read(&path).unwrap().check()
    );
}

#[test]
fn two_created_files_differ() {
    let folder = folder();
    let (one, two) = (folder.path().join("1"), folder.path().join("2"));
    RootKey::create(&one).unwrap();
    RootKey::create(&two).unwrap();
    assert_ne!(
        RootKey::read(&one).unwrap().check(),
        RootKey::read(&two).unwrap().check()
    );
}

#[test]
fn an_existing_file_or_link_is_never_overwritten() {
    let folder = folder();
    let path = file_with(&folder, "precious");
    assert!(matches!(
        RootKey::create(&path),
        Err(RootKeyError::Exists { .. })
    ));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    let link = folder.path().join("link");
    symlink("nowhere", &link).unwrap();
    assert!(matches!(
        RootKey::create(&link),
        Err(RootKeyError::Exists { .. })
    ));
    assert!(!folder.path().join("nowhere").exists());
}

#[test]
fn every_permission_bit_for_others_is_refused() {
    let folder = folder();
    let path = folder.path().join("root.key");
    RootKey::create(&path).unwrap();
    for bit in [0o040, 0o020, 0o010, 0o004, 0o002, 0o001] {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600 | bit)).unwrap();
        let error = RootKey::read(&path).unwrap_err();
        assert!(
            matches!(error, RootKeyError::TooOpen { mode, .. } if mode == 0o600 | bit),
            "{error}"
        );
        assert!(error.cure().starts_with("chmod 0600 "));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    RootKey::read(&path).unwrap();
}

#[test]
fn what_is_no_regular_file_is_refused_without_hanging() {
    let folder = folder();
    assert!(matches!(
        RootKey::read(folder.path()),
        Err(RootKeyError::NotAFile { .. })
    ));
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    assert!(matches!(
        RootKey::read(&pipe),
        Err(RootKeyError::NotAFile { .. })
    ));
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(matches!(
        RootKey::read(&socket),
        Err(RootKeyError::NotAFile { .. })
    ));
}

#[test]
fn missing_files_and_circular_links_are_told_apart() {
    let folder = folder();
    let path = folder.path().join("root.key");
    assert!(matches!(
        RootKey::read(&path),
        Err(RootKeyError::Missing { .. })
    ));
    symlink(&path, &path).unwrap();
    assert!(matches!(
        RootKey::read(&path),
        Err(RootKeyError::LinkLoop { .. })
    ));
}

#[test]
fn a_link_to_a_root_key_is_followed() {
    let folder = folder();
    let (path, link) = (folder.path().join("root.key"), folder.path().join("link"));
    RootKey::create(&path).unwrap();
    symlink(&path, &link).unwrap();
    RootKey::read(&link).unwrap();
}

#[test]
fn other_formats_are_refused_with_what_was_found() {
    let digits = "0123456789abcdef".repeat(4);
    assert!(refusal("").ends_with("it holds no key"));
    assert!(refusal("# only a comment\n").ends_with("it holds no key"));
    assert!(refusal([0xFF; 32]).ends_with("it is not text"));
    assert!(refusal(&digits[1..]).ends_with("not 64 hexadecimal digits long"));
    assert!(refusal(format!("{digits}0")).ends_with("not 64 hexadecimal digits long"));
    assert!(refusal(format!("x{}", &digits[1..])).ends_with("no hexadecimal digits"));
    assert!(
        refusal(format!("{digits}\n{digits}")).ends_with("more than one line besides comments")
    );
    assert!(refusal("#\n".repeat(2049)).ends_with("too long for a key"));
}

#[test]
fn a_refusal_never_shows_the_files_content() {
    let secret = "00secret".repeat(8);
    let folder = folder();
    let error = RootKey::read(&file_with(&folder, &secret)).unwrap_err();
    assert!(!format!("{error} {error:?} {}", error.cure()).contains("secret"));
}

#[test]
fn derivation_has_not_changed() {
    let folder = folder();
    let path = file_with(
        &folder,
        "# c\n\n000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\r\n",
    );
    let root = RootKey::read(&path).unwrap();
    assert_eq!(
        hex::encode(root.check().0),
        "d8d493f9bfd6b824c7b0c751e3a7b7b3"
    );
    assert_eq!(format!("{root:?}"), "RootKey(..)");
}
