//! The house rules, as a test: what a reader may rely on in every file.

#[path = "house/sources.rs"]
mod sources;

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Result, ensure};

use crate::sources::{Source, root, sources};

/// A file that wants more lines wants to be two files.
const MAX_LINES: usize = 700;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 10] = [
    "utils", "util", "common", "helpers", "helper", "base", "manager", "handler", "data", "misc",
];
/// Which crates may know which; the folder list is the architecture.
const ARROWS: [(&str, &[&str]); 10] = [
    ("config", &[]),
    ("throwaway", &[]),
    ("providers", &["config"]),
    ("policy", &["config"]),
    ("keys", &["config", "policy", "providers"]),
    ("jobs", &["config", "policy", "providers", "keys"]),
    ("admin", &["keys"]),
    (
        "proxy",
        &[
            "config",
            "policy",
            "providers",
            "keys",
            "jobs",
            "admin",
            "throwaway",
        ],
    ),
    (
        "tests",
        &["config", "policy", "providers", "keys", "jobs", "throwaway"],
    ),
    (
        "benches",
        &["config", "providers", "keys", "tests", "throwaway"],
    ),
];

/// Asks something of every source file; `wrong` says what is wrong with one.
fn every(wrong: impl Fn(&Source) -> Vec<String>) -> Result<()> {
    let mut all = Vec::new();
    for source in sources()? {
        all.extend(
            wrong(&source)
                .into_iter()
                .map(|what| format!("{}: {what}", source.name)),
        );
    }
    ensure!(all.is_empty(), "{}", all.join("\n"));
    Ok(())
}

/// The lines on which any of `words` stands, in code only: comments and these rules themselves may name them.
fn lines_with(code: &str, words: &[&str]) -> Vec<String> {
    let lines = code.lines().enumerate();
    lines
        .filter(|(_, line)| {
            !line.trim_start().starts_with("//") && words.iter().any(|word| line.contains(word))
        })
        .map(|(number, line)| format!("line {}: {}", number + 1, line.trim()))
        .collect()
}

#[test]
fn files_are_short() -> Result<()> {
    every(|source| {
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            vec![format!("{lines} lines")]
        } else {
            Vec::new()
        }
    })
}

#[test]
fn every_file_begins_by_saying_what_it_is() -> Result<()> {
    every(|source| {
        let first = source.text.lines().next().unwrap_or_default();
        if first.starts_with("//! ") {
            Vec::new()
        } else {
            vec![format!("begins with {first:?}")]
        }
    })
}

#[test]
fn nothing_outside_tests_can_panic_by_neglect() -> Result<()> {
    let words = [".unwrap()", "todo!(", "unimplemented!(", "dbg!("];
    every(|source| {
        if source.is_test {
            Vec::new()
        } else {
            lines_with(&source.code, &words)
        }
    })
}

#[test]
fn no_test_is_switched_off() -> Result<()> {
    every(|source| {
        if source.name.starts_with("tests/tests/house") {
            Vec::new()
        } else {
            lines_with(&source.text, &["#[ignore"])
        }
    })
}

#[test]
fn no_test_waits_for_time_to_pass() -> Result<()> {
    every(|source| {
        if source.name.starts_with("tests/tests/house") {
            return Vec::new();
        }
        let sleeps = lines_with(&source.text, &["thread::sleep(", "time::sleep("]);
        sleeps.into_iter().filter(|_| source.is_test).collect()
    })
}

#[test]
fn files_are_named_for_what_they_hold() -> Result<()> {
    every(|source| {
        let parts = source.name.trim_end_matches(".rs").split('/');
        let empty = parts.filter(|part| EMPTY_NAMES.contains(part) || *part == "mod");
        empty.map(|part| format!("{part:?} says nothing")).collect()
    })
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() -> Result<()> {
    // Written in two halves, so that this file does not name them either.
    let places = [
        ["/ho", "me/"],
        ["/ro", "ot/"],
        ["/wo", "rk/"],
        ["/Use", "rs/"],
    ]
    .map(|halves| halves.concat());
    let mut wrong = Vec::new();
    for (name, text) in sources::texts()? {
        for (number, line) in text.lines().enumerate() {
            let found = places.iter().find(|place| {
                line.match_indices(place.as_str())
                    .any(|(at, _)| starts_a_path(line, at))
            });
            wrong.extend(found.map(|place| format!("{name}:{}: {place}", number + 1)));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn starts_a_path(line: &str, at: usize) -> bool {
    let before = line[..at].chars().next_back();
    before.is_none_or(|c| !(c.is_alphanumeric() || "._-}/".contains(c)))
}

#[test]
fn every_refusal_is_explained_in_the_docs() -> Result<()> {
    let mut anchors = BTreeSet::new();
    for source in sources()?.iter().filter(|source| !source.is_test) {
        anchors.extend(sources::anchors(&source.code));
    }
    ensure!(
        !anchors.is_empty(),
        "no anchors found: this test does not see what it should"
    );
    let docs = fs::read_to_string(root().join("docs/errors.md"))?;
    let missing: Vec<&String> = anchors
        .iter()
        .filter(|anchor| !has_heading(&docs, anchor))
        .collect();
    ensure!(
        missing.is_empty(),
        "docs/errors.md has no section for {missing:?}"
    );
    Ok(())
}

/// A heading that is the anchor, as its words or as code, or an explicit `id`.
fn has_heading(docs: &str, anchor: &str) -> bool {
    let heading = |line: &str| {
        line.trim_start_matches('#')
            .trim()
            .trim_matches('`')
            .to_lowercase()
            .replace(' ', "-")
    };
    docs.lines().any(|line| {
        (line.starts_with('#') && heading(line) == anchor)
            || line.contains(&format!("id=\"{anchor}\""))
            || line.contains(&format!("name=\"{anchor}\""))
    })
}

#[test]
fn crates_know_only_those_that_the_drawing_allows() -> Result<()> {
    let mut wrong = Vec::new();
    for (folder, allowed) in ARROWS {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml"))?;
        let section = manifest
            .split("\n[")
            .find(|section| section.starts_with("dependencies]"))
            .unwrap_or_default();
        for line in section.lines().filter(|line| line.starts_with("pgveil-")) {
            let known = line["pgveil-".len()..]
                .split(['.', ' ', '='])
                .next()
                .unwrap_or_default();
            if !allowed.contains(&known) {
                wrong.push(format!("{folder} must not know {known}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let members = fs::read_to_string(root().join("Cargo.toml"))?;
    let members = members
        .lines()
        .find(|line| line.starts_with("members"))
        .unwrap_or_default()
        .to_owned();
    ensure!(
        members.matches('"').count() / 2 == ARROWS.len(),
        "a crate has no arrow here: {members}"
    );
    Ok(())
}

#[test]
fn links_between_documents_lead_somewhere() -> Result<()> {
    let mut wrong = Vec::new();
    for (name, text) in sources::texts()?
        .into_iter()
        .filter(|(name, _)| Path::new(name).extension().is_some_and(|ext| ext == "md"))
    {
        let folder = root()
            .join(&name)
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap_or_default();
            if !(target.is_empty()
                || target.contains("://")
                || target.contains(' ')
                || folder.join(target).exists())
            {
                wrong.push(format!("{name}: {link}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
