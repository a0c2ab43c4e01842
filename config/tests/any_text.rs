//! Whatever the files hold, reading them ends with settings or with findings.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use pgveil_config::{PolicyFile, Settings, templates};
use proptest::prelude::*;

fn read(text: &str) {
    for findings in [
        Settings::parse(text, Path::new("f.toml")).err(),
        PolicyFile::parse(text, Path::new("f.toml")).err(),
    ]
    .into_iter()
    .flatten()
    {
        assert!(!findings.0.is_empty());
        let lines = text.lines().count() + 1;
        for at in findings.0.iter().filter_map(|finding| finding.at.as_ref()) {
            assert!(
                (1..=lines).contains(&at.line) && at.column >= 1,
                "{at} of {text:?}"
            );
        }
    }
}

/// A template with all its commented-out keys in force.
fn uncommented(template: &str) -> String {
    template
        .replace("\n#[", "\n[")
        .replace("\n#", "\n")
        .replace("\n ", "\n# ")
}

/// Pieces that files are made of, in any order.
fn soup() -> impl Strategy<Value = String> {
    let pieces = [
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\n",
        "\"",
        "'",
        "\"\"\"",
        "#",
        " ",
        "\\",
        "\r",
        "\0",
        "é",
        "\u{feff}",
        "table",
        "column",
        "provider",
        "upstream",
        "override",
        "kind",
        "mask",
        "search",
        "\"local\"",
        "\"aws-kms\"",
        "keep_last",
        "name",
        "-1",
        "0x",
        "1_0",
        "1e400",
        "nan",
        "1979-05-27",
        "true",
        "\"5m\"",
        "[]",
        "{}",
        "[[table]]\n",
        "[table]\n",
        "[table.column.a]\n",
        "[provider.main]\n",
        "[[provider]]\n",
        "a = 1\n",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..40)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_characters(text in any::<String>()) {
        read(&text);
    }

    #[test]
    fn any_order_of_the_right_pieces(text in soup()) {
        read(&text);
    }

    #[test]
    fn any_damage_to_a_right_file(cut in any::<prop::sample::Index>(), length in 0usize..20, insert in soup()) {
        for template in [templates::PGVEIL_TOML, templates::POLICY_TOML] {
            let mut text: Vec<char> = uncommented(template).chars().collect();
            let from = cut.index(text.len());
            let to = (from + length).min(text.len());
            text.splice(from..to, insert.chars());
            read(&text.into_iter().collect::<String>());
        }
    }
}
