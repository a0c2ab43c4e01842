//! `docs/configuration.md`, printed from the tables of known keys. A test compares the two.

use std::fmt::Write;

use crate::{
    form::show_duration,
    known::{Key, Kind, Need, Section, Support, Word},
    policy, settings,
};

const INTRO: &str = "\
<!-- Generated from the tables of known keys in config/src; `UPDATE=1 cargo test -p pgveil-config` rewrites it. -->

# Configuration

pgveil reads two TOML files: `pgveil.toml` says where everything is, `policy.toml` says which columns are protected.
`pgveil init DIR` writes both with comments; `pgveil check --config pgveil.toml` says what is wrong in them, each finding
with file, line, column and cure.

- A key or section that is not listed here is an error, and so is one marked *not yet*: it is checked and then refused as
  \"not supported yet\", never ignored.
- Paths are relative to the folder of the file that they stand in.
- A duration is text: a whole number and one of the units `ms`, `s`, `m`, `h`, `d`, such as `\"5m\"`.
- Secrets come by `env:NAME` or a `..._file`; pgveil prints neither, and says in no message what is in them.
- A scope path is `platform`, or `tenant:NAME` followed by an optional `/project:NAME` and an optional `/env:NAME`, in this
  order. In a NAME every byte but letters, digits and `._-` is percent-encoded (`%C3%A9`); values that a policy's template
  fills in are encoded by pgveil.
";

/// The whole page.
pub fn markdown() -> String {
    let mut page = INTRO.to_owned();
    file(&mut page, "pgveil.toml", &settings::TOP);
    file(&mut page, "policy.toml", &policy::TOP);
    page
}

fn file(page: &mut String, name: &str, top: &Section) {
    push(page, format_args!("\n## {name}\n"));
    if !top.keys.is_empty() {
        push(page, format_args!("\n### Top of the file\n"));
        keys(page, top.keys, top.support);
    }
    for inner in top.sections {
        section(page, inner);
    }
}

fn section(page: &mut String, section: &Section) {
    let note = if section.support.later().is_some() {
        " Not supported yet."
    } else {
        ""
    };
    push(
        page,
        format_args!("\n### `{}`\n\n{}{note}\n", section.header, section.meaning),
    );
    if !section.keys.is_empty() {
        keys(page, section.keys, section.support);
    }
    for variant in section.variants {
        let header = section.header;
        push(
            page,
            format_args!(
                "\n#### `{header}` with `kind = \"{}\"`\n",
                variant.word.word
            ),
        );
        keys(page, variant.keys, variant.word.support);
    }
    for inner in section.sections {
        self::section(page, inner);
    }
}

fn keys(page: &mut String, keys: &[Key], section: Support) {
    push(
        page,
        format_args!(
            "\n| key | kind | default | meaning | since |\n| --- | --- | --- | --- | --- |\n"
        ),
    );
    for key in keys {
        let support = if section.later().is_some() {
            section
        } else {
            key.support
        };
        let cells = [
            format!("`{}`", key.name),
            kind(key),
            default(key),
            meaning(key, support),
            since(support),
        ];
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        push(page, format_args!("| {} |\n", cells.join(" | ")));
    }
}

fn kind(key: &Key) -> String {
    match &key.kind {
        Kind::Count { min, max, .. } => format!("whole number, {min} to {max}"),
        Kind::Time { min, max } => format!(
            "duration, {} to {}",
            show_duration(*min),
            show_duration(*max)
        ),
        Kind::OneOf(_) | Kind::Variant(_) => "a word".to_owned(),
        Kind::SomeOf(_) => "list of words".to_owned(),
        Kind::Names(what) => format!("list of {what}"),
        Kind::Choice(_) => format!("table such as `{}`", key.need.sample()),
        Kind::Secret => "text or `env:NAME`".to_owned(),
        Kind::File => "path".to_owned(),
        Kind::Switch => "`true` or `false`".to_owned(),
        Kind::Text(form) => form
            .noun()
            .trim_start_matches("an ")
            .trim_start_matches("a ")
            .to_owned(),
    }
}

fn default(key: &Key) -> String {
    match key.need {
        Need::Required(_) => "must be given".to_owned(),
        Need::Default(default) => format!("`{default}`"),
        Need::Optional(_) => "none".to_owned(),
    }
}

fn meaning(key: &Key, support: Support) -> String {
    let mut text = key.meaning.to_owned();
    let words = key.kind.words();
    let list: Vec<_> = match &key.kind {
        Kind::Choice(keys) => keys
            .iter()
            .map(|key| format!("`{} = n`: {}", key.name, key.meaning))
            .collect(),
        _ => words.iter().map(|word| described(word, support)).collect(),
    };
    if !list.is_empty() {
        text.push_str(" <br>");
        text.push_str(&list.join(" <br>"));
    }
    text
}

fn described(word: &Word, support: Support) -> String {
    // Where the whole key is not supported yet, its words need not say so.
    let later = support.later().is_none() && word.support.later().is_some();
    let note = if later { " (*not yet*)" } else { "" };
    format!("`\"{}\"`: {}{note}", word.word, word.meaning)
}

fn since(support: Support) -> String {
    match support {
        Support::Since(version) => version.to_owned(),
        Support::Later(_) => "*not yet*".to_owned(),
    }
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text)
        .expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_page_in_docs_is_the_one_printed_here() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
        let printed = super::markdown();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &printed).unwrap();
        }
        let page = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            page == printed,
            "docs/configuration.md is out of date: UPDATE=1 cargo test -p pgveil-config"
        );
    }
}
