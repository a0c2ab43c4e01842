//! Which functions and relations of a catalog change settings or the catalog when a statement names them. Functions
//! are judged by the words of their bodies, whatever their language.

use std::collections::BTreeSet;

use crate::{
    catalog::Catalog,
    ruleset::{Dependents, words::Words},
};

/// Bare names.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// May change a setting, a role or a temporary relation.
    pub(super) settings: BTreeSet<String>,
    /// May change the catalog.
    pub(super) catalog: BTreeSet<String>,
}

impl Effects {
    pub(super) fn find(catalog: &Catalog) -> Self {
        let names = |has_effect: fn(&str) -> bool| {
            let functions = catalog
                .functions
                .iter()
                .filter(|function| has_effect(&function.body));
            let functions: BTreeSet<u32> = functions.map(|function| function.oid).collect();
            let none = BTreeSet::new();
            Dependents::find(catalog, &none, &functions, &none).names(catalog, &none)
        };
        Self {
            settings: names(changes_settings),
            catalog: names(changes_catalog),
        }
    }
}

/// Dynamic SQL may do anything.
const DDL: [&str; 5] = ["create", "alter", "drop", "execute", "import"];
const SETTINGS: [&str; 6] = [
    "set_config",
    "reset",
    "discard",
    "temp",
    "temporary",
    "pg_temp",
];

fn changes_catalog(body: &str) -> bool {
    let words = Words::of(body);
    words.mentions("create") || DDL.iter().any(|word| words.has(word))
}

fn changes_settings(body: &str) -> bool {
    let words = Words::of(body);
    // What makes or renames a relation may make a temporary one.
    changes_catalog(body) || SETTINGS.iter().any(|word| words.has(word)) || has_set_statement(body)
}

/// Words after which a statement begins in SQL or PL/pgSQL.
const OPENERS: [&str; 6] = ["begin", "then", "else", "loop", "atomic", "declare"];

/// Whether some SET is not that of an UPDATE: the text between the last `;` and it holds no UPDATE (or a comment,
/// which may hold the word), or it stands directly after a word that opens a block.
fn has_set_statement(body: &str) -> bool {
    let body = body.to_ascii_lowercase();
    body.split(';').any(|segment| {
        let words: Vec<&str> = segment
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()))
            .filter(|word| !word.is_empty())
            .collect();
        let has_comment = segment.contains("--") || segment.contains("/*");
        let mut has_update = false;
        let mut previous = "";
        words.iter().any(|word| {
            let is_first = !has_update || has_comment || OPENERS.contains(&previous);
            let is_statement = *word == "set" && is_first;
            has_update |= *word == "update";
            previous = word;
            is_statement
        })
    })
}
