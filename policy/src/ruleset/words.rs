//! The words of a function's body: which names it may mention. Reads no language; errs towards "mentions".

use std::collections::HashSet;

/// A body, ready to be asked for names.
#[derive(Debug)]
pub(crate) struct Words {
    /// Maximal runs of identifier bytes, in lower case.
    words: HashSet<String>,
    /// The whole body in lower case, for names that are not one run.
    text: String,
    /// `U&"..."` can spell any name.
    hides_names: bool,
}

impl Words {
    pub(crate) fn of(body: &str) -> Self {
        let text = body.to_ascii_lowercase();
        let words = text
            .split(|c: char| !is_word_char(c))
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect();
        Self {
            words,
            hides_names: text.contains("u&\""),
            text,
        }
    }

    /// Whether the body may mention this name, spelt as the catalog spells it.
    pub(crate) fn mentions(&self, name: &str) -> bool {
        self.hides_names || self.has(&name.to_ascii_lowercase())
    }

    /// Whether the body may write to a table.
    pub(crate) fn may_write(&self) -> bool {
        let verbs = [
            "insert", "update", "delete", "merge", "copy", "truncate", "execute",
        ];
        self.hides_names || verbs.iter().any(|verb| self.has(verb))
    }

    /// Whether the body has a word, given in lower case.
    pub(crate) fn has(&self, word: &str) -> bool {
        if word.chars().all(is_word_char) {
            self.words.contains(word)
        } else {
            self.text.contains(&word.replace('"', "\"\"")) || self.text.contains(word)
        }
    }
}

fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}
