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

    /// Whether every mention of a relation is the target of an INSERT that neither returns rows nor meets others.
    pub(crate) fn only_inserts_into(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let plain = !name.is_empty() && name.chars().all(is_word_char);
        if self.hides_names || !plain || self.has("returning") || self.has("conflict") {
            return false;
        }
        self.text.match_indices(&name).all(|(at, found)| {
            let (before, after) = (&self.text[..at], &self.text[at + found.len()..]);
            if before.ends_with(is_word_char) || after.starts_with(is_word_char) {
                return true;
            }
            // `insert into "schema"."name"`
            let before = before.trim_end_matches('"').trim_end();
            let before = match before.strip_suffix('.') {
                None => before,
                Some(schema) => {
                    let schema = schema.trim_end().trim_end_matches('"');
                    schema.trim_end_matches(is_word_char).trim_end_matches('"')
                }
            };
            let before = before.trim_end().strip_suffix("into");
            let before = before.map(str::trim_end);
            before.is_some_and(|before| {
                let verb = before.strip_suffix("insert");
                verb.is_some_and(|before| !before.ends_with(is_word_char))
            })
        })
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

/// Whether a trigger's body may change a column of the row that is written: `NEW.column := ...`, `SELECT ... INTO NEW.column`,
/// or the row as a whole.
pub(crate) fn changes_column(body: &str, column: &str) -> bool {
    let text = body.to_ascii_lowercase();
    let column = column.to_ascii_lowercase();
    text.match_indices("new").any(|(at, found)| {
        let (before, after) = (&text[..at], text[at + found.len()..].trim_start());
        if before.ends_with(is_word_char) || after.starts_with(is_word_char) {
            return false;
        }
        let before = before.trim_end();
        let begins = before.is_empty()
            || before.ends_with(';')
            || ["begin", "then", "else", "loop"]
                .iter()
                .any(|word| before.ends_with(word));
        // Behind INTO, targets are a list.
        let clause = before.rsplit(';').next().unwrap_or_default();
        let into = clause
            .split(|c| !is_word_char(c))
            .any(|word| word == "into");
        let sets = |after: &str| after.starts_with(":=") || (begins && after.starts_with('='));
        let Some(field) = after.strip_prefix('.') else {
            return sets(after) || (into && !clause.contains("insert"));
        };
        let field = field.trim_start().trim_start_matches('"');
        let Some(after) = field.strip_prefix(&*column) else {
            return false;
        };
        let after = after.trim_start_matches('"');
        !after.starts_with(is_word_char)
            && (sets(after.trim_start()) || (into && !clause.contains("insert")))
    })
}

/// Whether a body names NEW or OLD otherwise than to take a field of it, to assign one, or to return it.
pub fn takes_rows(body: &str) -> bool {
    let text = body.to_ascii_lowercase();
    ["new", "old"].iter().any(|row| {
        text.match_indices(row).any(|(at, found)| {
            let (before, after) = (&text[..at], &text[at + found.len()..]);
            if before.ends_with(is_word_char) || after.starts_with(is_word_char) {
                return false;
            }
            let field = after.trim_start().strip_prefix('.');
            let is_field = field.is_some_and(|field| !field.trim_start().starts_with('*'));
            !is_field && !before.trim_end().ends_with("return")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{Words, changes_column, takes_rows};

    #[test]
    fn tells_changes_of_a_column() {
        for body in [
            "BEGIN NEW.tenant_id := 5; RETURN NEW; END",
            "begin if true then new . \"tenant_id\" = 5; end if; return new; end",
            "BEGIN SELECT a, b INTO NEW.x, NEW.tenant_id FROM t; RETURN NEW; END",
            "BEGIN NEW := OLD; RETURN NEW; END",
        ] {
            assert!(changes_column(body, "tenant_id"), "{body}");
        }
        for body in [
            "BEGIN IF NEW.tenant_id = 5 THEN NEW.x := 1; END IF; RETURN NEW; END",
            "BEGIN INSERT INTO log VALUES (NEW.tenant_id); RETURN NEW; END",
            "BEGIN NEW.tenant_id_too := 5; x := NEW.tenant_id; RETURN NEW; END",
        ] {
            assert!(!changes_column(body, "tenant_id"), "{body}");
        }
    }

    #[test]
    fn tells_inserts_from_reads() {
        for body in [
            "BEGIN INSERT INTO log VALUES (NEW.id); RETURN NEW; END",
            "insert\n into public . log select 1; INSERT INTO \"public\".\"log\" (a) VALUES (1); SELECT catalog FROM c",
        ] {
            assert!(Words::of(body).only_inserts_into("log"), "{body}");
        }
        for body in [
            "SELECT a INTO b FROM log",
            "INSERT INTO log SELECT * FROM log",
            "INSERT INTO log VALUES (1) RETURNING email",
            "INSERT INTO log VALUES (1) ON CONFLICT DO NOTHING",
            "SELECT 1 INTO log",
            "UPDATE log SET a = 1",
            "reinsert into log",
            "DELETE FROM log",
        ] {
            assert!(!Words::of(body).only_inserts_into("log"), "{body}");
        }
    }

    #[test]
    fn tells_fields_from_rows() {
        for body in [
            "BEGIN NEW.updated := now(); RETURN NEW; END",
            "begin if new . a is null then return old; end if; return\nnew; end",
            "BEGIN renew(1); RETURN NULL; END",
        ] {
            assert!(!takes_rows(body), "{body}");
        }
        for body in [
            "BEGIN INSERT INTO audit SELECT NEW.*; RETURN NEW; END",
            "BEGIN PERFORM to_jsonb(new); RETURN NEW; END",
            "BEGIN r := OLD; RETURN NEW; END",
        ] {
            assert!(takes_rows(body), "{body}");
        }
    }
}
