//! What the operator is told: each case in `findings/*.txt` is a file's text and everything found wrong in it.
//! `UPDATE=1 cargo test -p pgveil-config` rewrites the answers.
//!
//! A case is `=== what it shows`, the text, `---`, the findings. In the text, a last line `@rest` stands for the
//! sections that a `pgveil.toml` must have, right and short.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use pgveil_config::{Diagnostics, PolicyFile, Settings};

const REST: &str = r#"[upstream]
address = "127.0.0.1:5432"
[keystore]
url = "postgres://pgveil@127.0.0.1:5432/app"
[provider.main]
kind = "local"
root_key_file = "root.key"
[defaults]
provider = "main"
key = "platform"
"#;

fn settings(text: &str) -> Result<(), Diagnostics> {
    Settings::parse(&text.replace("@rest\n", REST), Path::new("pgveil.toml")).map(drop)
}

fn policy(text: &str) -> Result<(), Diagnostics> {
    PolicyFile::parse(text, Path::new("policy.toml")).map(drop)
}

fn check(file: &str, read: fn(&str) -> Result<(), Diagnostics>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/findings")
        .join(file);
    let golden = std::fs::read_to_string(&path).unwrap();
    let mut answered = String::new();
    for case in golden.split("=== ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap();
        let (text, _) = rest.split_once("---\n").unwrap();
        let findings = read(text)
            .err()
            .map_or("right".to_owned(), |findings| findings.to_string());
        answered.push_str(&format!("=== {title}\n{text}---\n{findings}\n\n"));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &answered).unwrap();
    } else {
        pretty_eq(&golden, &answered);
    }
}

fn pretty_eq(golden: &str, answered: &str) {
    let differ = golden
        .lines()
        .zip(answered.lines())
        .enumerate()
        .find(|(_, (old, new))| old != new);
    if let Some((line, (old, new))) = differ {
        panic!("line {}:\n  expected {old}\n  found    {new}", line + 1);
    }
    assert_eq!(golden.len(), answered.len());
}

#[test]
fn findings_in_settings() {
    check("settings.txt", settings);
}

#[test]
fn findings_in_a_policy() {
    check("policy.txt", policy);
}

#[test]
fn says_what_to_do_about_a_file_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgveil.toml");
    let missing = Settings::load(&path).unwrap_err().to_string();
    assert!(
        missing.contains("does not exist") && missing.contains("pgveil init DIR"),
        "{missing}"
    );
    let directory = Settings::load(folder.path()).unwrap_err().to_string();
    assert!(directory.contains("is a folder"), "{directory}");
    std::fs::write(&path, b"listen = \"\xff\"").unwrap();
    let latin = Settings::load(&path).unwrap_err().to_string();
    assert!(
        latin.contains("pgveil.toml:1:11: not UTF-8 text"),
        "{latin}"
    );
    std::fs::write(&path, vec![b'#'; 9 * 1024 * 1024]).unwrap();
    let huge = Settings::load(&path).unwrap_err().to_string();
    assert!(huge.contains("is larger than"), "{huge}");
}

#[test]
fn a_file_of_nothing_but_errors_gets_a_list_that_ends() {
    let text: String = (0..5000)
        .flat_map(|i| ["k".to_owned(), i.to_string(), " = 1\n".to_owned()])
        .collect();
    let findings = PolicyFile::parse(&text, Path::new("policy.toml")).unwrap_err();
    assert_eq!(findings.0.len(), 1001);
    assert!(
        findings
            .to_string()
            .contains("4000 more findings are not listed")
    );
}
