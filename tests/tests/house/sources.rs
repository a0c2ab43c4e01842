//! Reads the repository's own files for the house rules. It judges nothing.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

/// Folders that hold nothing we wrote.
const NOT_OURS: [&str; 4] = ["target", ".git", "node_modules", "__pycache__"];
/// Files with text that we wrote.
const TEXTS: [&str; 10] = [
    "rs", "toml", "md", "sh", "py", "sql", "story", "txt", "json", "yml",
];

/// One Rust file.
pub(crate) struct Source {
    /// Path from the root, with `/`.
    pub(crate) name: String,
    /// All of it.
    pub(crate) text: String,
    /// Without the `#[cfg(test)]` module at its end.
    pub(crate) code: String,
    /// Whether the whole file is test code.
    pub(crate) is_test: bool,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("/"))
        .to_path_buf()
}

/// Every Rust file of ours.
pub(crate) fn sources() -> Result<Vec<Source>> {
    let files: Vec<(String, String)> = texts()?
        .into_iter()
        .filter(|(name, _)| Path::new(name).extension().is_some_and(|ext| ext == "rs"))
        .collect();
    let only_for_tests: BTreeSet<String> = files
        .iter()
        .flat_map(|(name, text)| test_modules(name, text))
        .collect();
    let source = |(name, text): (String, String)| {
        let code = text
            .split("\n#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default()
            .to_owned();
        let is_test = name.starts_with("tests/")
            || name.contains("/tests/")
            || only_for_tests
                .iter()
                .any(|module| name.starts_with(module.as_str()));
        Source {
            name,
            text,
            code,
            is_test,
        }
    };
    Ok(files.into_iter().map(source).collect())
}

/// Every text file of ours, with its name from the root.
pub(crate) fn texts() -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    walk(&root(), &mut found)?;
    found.sort();
    Ok(found)
}

fn walk(dir: &Path, found: &mut Vec<(String, String)>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !NOT_OURS.contains(&name.as_str()) {
                walk(&path, found)?;
            }
        } else if path
            .extension()
            .is_some_and(|ext| TEXTS.contains(&ext.to_string_lossy().as_ref()))
            || name == "Makefile"
        {
            let relative = path.strip_prefix(root())?.to_string_lossy().into_owned();
            found.push((relative, fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

/// `#[cfg(test)] mod NAME;` in `a/b.rs` makes a test of `a/b/NAME.rs` and all below `a/b/NAME/`.
fn test_modules(name: &str, text: &str) -> Vec<String> {
    let mut modules = Vec::new();
    let mut after_attribute = false;
    for line in text.lines().map(str::trim) {
        let words = line
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub ");
        if let (true, Some(module)) = (
            after_attribute,
            words
                .strip_prefix("mod ")
                .and_then(|rest| rest.strip_suffix(';')),
        ) {
            let folder = name
                .trim_end_matches(".rs")
                .trim_end_matches("/lib")
                .trim_end_matches("/main");
            modules.push(format!("{folder}/{module}"));
        }
        after_attribute = line == "#[cfg(test)]" || (after_attribute && line.starts_with('#'));
    }
    modules
}

/// Anchors of refusals: the first literal in kebab case after a constructor that takes one, or after `anchor:`.
pub(crate) fn anchors(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for constructor in ["Refusal::unsupported(", "unsupported(", "anchor: "] {
        for (at, _) in code.match_indices(constructor) {
            let rest = code[at + constructor.len()..].trim_start();
            found.extend(literal(rest));
        }
    }
    for (at, _) in code.match_indices("Refusal::new(") {
        let rest = code[at..]
            .split(',')
            .nth(1)
            .unwrap_or_default()
            .trim_start();
        found.extend(literal(rest));
    }
    found
}

fn literal(text: &str) -> Option<String> {
    let text = text.strip_prefix('"')?;
    let word = &text[..text.find('"')?];
    let kebab = word.contains('-')
        && word
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    kebab.then(|| word.to_owned())
}
