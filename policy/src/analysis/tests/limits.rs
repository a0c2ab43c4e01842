//! docs/limits.md: which statements are refused, why, and what to do instead. Every row is held by examples in
//! `limits.txt`, so that the page says neither too much nor too little. `UPDATE_CASES=1` writes the page.

use std::{fmt::Write, path::PathBuf};

use super::{Protocol, world};

const BEGIN: &str = "<!-- Written by `UPDATE_CASES=1 cargo test -p pgveil-policy limits` from policy/src/analysis/tests/limits.txt. -->";
const END: &str = "<!-- End of what is written. -->";

/// A row of the page.
struct Limit {
    shape: String,
    why: String,
    instead: String,
    examples: Vec<String>,
}

/// A heading and its rows.
struct Section {
    title: String,
    limits: Vec<Limit>,
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// `# title`, then blocks of `shape | why | instead` and examples, each behind a `?`.
fn read(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if let Some(title) = line.strip_prefix("# ") {
            sections.push(Section {
                title: title.to_owned(),
                limits: Vec::new(),
            });
            continue;
        }
        let section = sections.last_mut().expect("a heading comes first");
        if let Some(example) = line.strip_prefix("? ") {
            let limit = section.limits.last_mut().expect("a row comes first");
            limit.examples.push(example.to_owned());
            continue;
        }
        let parts: Vec<&str> = line.split(" | ").collect();
        let [shape, why, instead] = parts.as_slice() else {
            panic!("not `shape | why | instead`: {line}")
        };
        section.limits.push(Limit {
            shape: (*shape).to_owned(),
            why: (*why).to_owned(),
            instead: (*instead).to_owned(),
            examples: Vec::new(),
        });
    }
    sections
}

/// The anchor of the refusal that an example gets in either protocol.
fn refusal(sql: &str) -> Option<&'static str> {
    let (rules, view) = world();
    [Protocol::Simple, Protocol::Extended]
        .into_iter()
        .map(|protocol| rules.analyse(sql, &view, protocol, &[]))
        .map(|plan| match plan {
            Err(refusal) => Some(refusal.anchor),
            Ok(plan) => plan
                .statements
                .iter()
                .find_map(|statement| statement.refused.as_ref().map(|refusal| refusal.anchor)),
        })
        .reduce(Option::and)
        .flatten()
}

#[test]
fn the_page_of_limits_tells_what_is_refused() {
    let text = std::fs::read_to_string(path("src/analysis/tests/limits.txt")).unwrap();
    let (mut written, mut answered) = (format!("{BEGIN}\n"), Vec::new());
    for section in read(&text) {
        write!(
            written,
            "\n### {}\n\n| statement | why | instead | error |\n| --- | --- | --- | --- |\n",
            section.title
        )
        .unwrap();
        for limit in section.limits {
            assert!(!limit.examples.is_empty(), "no example: {}", limit.shape);
            let mut anchors = Vec::new();
            for example in &limit.examples {
                match refusal(example) {
                    Some(anchor) if anchors.contains(&anchor) => {}
                    Some(anchor) => anchors.push(anchor),
                    None => answered.push(example.clone()),
                }
            }
            let links: Vec<String> = anchors
                .iter()
                .map(|anchor| format!("[{anchor}](errors.md#{anchor})"))
                .collect();
            writeln!(
                written,
                "| {}, as `{}` | {} | {} | {} |",
                limit.shape,
                limit.examples[0].replace('|', "\\|"),
                limit.why,
                limit.instead,
                links.join(", ")
            )
            .unwrap();
        }
    }
    assert!(
        answered.is_empty(),
        "not refused any more:\n{}",
        answered.join("\n")
    );
    let page = path("../docs/limits.md");
    let before = std::fs::read_to_string(&page).unwrap();
    let (head, rest) = before.split_once(BEGIN).expect("where the page begins");
    let (_, tail) = rest.split_once(END).expect("where the page ends");
    let after = format!("{head}{written}\n{END}{tail}");
    if std::env::var_os("UPDATE_CASES").is_some() {
        std::fs::write(&page, after).unwrap();
        return;
    }
    assert!(
        before == after,
        "docs/limits.md is not what limits.txt says: UPDATE_CASES=1 cargo test -p pgveil-policy limits"
    );
}
