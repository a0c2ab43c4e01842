//! How a text that may come to a table under migration is sent: at once, under the table's guard, in parts, or not at all.
//! Plans no statement and knows no server (docs/decisions/0094).

use std::{ops::Range, sync::Arc};

use super::settings::cut_before;
use crate::{
    Refusal,
    plan::Effect,
    ruleset::{Guard, Ruleset, words::Words},
    text::{Tokens, split},
};

/// What is done with a text, or with its first part.
#[derive(Debug)]
pub enum Course {
    /// It comes to no such table.
    Free,
    /// It is sent up to this byte, which comes to none; then the rest is looked at.
    Cut(usize),
    /// It is sent under these guards, up to this byte if there is one: what ends the transaction takes them away.
    Guarded(Vec<Arc<Guard>>, Option<usize>),
    /// The guards would not last as long as what it does.
    Refused(Refusal),
}

/// What of the session a text may use by name.
pub struct Session<'a> {
    /// It names one of the session's own relations that reads something protected.
    pub own: bool,
    /// Whether a transaction block is open; `None`: it is not known now, and the text is not cut.
    pub in_block: Option<bool>,
    /// The texts of statements that EXECUTE means by a name.
    pub kept: &'a dyn Fn(&str) -> Option<String>,
}

/// Statements that neither compare nor write values.
const INDIFFERENT: [&str; 13] = [
    "vacuum",
    "analyze",
    "analyse",
    "reindex",
    "cluster",
    "fetch",
    "move",
    "close",
    "deallocate",
    "discard",
    "show",
    "listen",
    "notify",
];

impl Ruleset {
    /// The guards of tables that one statement's text may come to.
    pub fn guards_in(&self, sql: &str) -> Vec<Arc<Guard>> {
        if self.guards.is_empty() {
            return Vec::new();
        }
        let words = Words::of(sql);
        let meant = self.guards.iter().filter(|guard| guard.is_meant_by(&words));
        meant.cloned().collect()
    }

    /// Columns that the policy names and that are served as the plaintext that they are: table and column.
    pub fn served_plain(&self) -> impl Iterator<Item = (String, &str)> {
        let columns = { self.guards.iter() }
            .flat_map(|guard| guard.columns.iter().map(move |column| (guard, column)));
        columns.filter_map(|(guard, (attnum, name))| {
            let is_sealed = self.by_attribute.contains_key(&(guard.table_oid, *attnum));
            (!is_sealed).then(|| (format!("{}.{}", guard.schema, guard.table), name.as_str()))
        })
    }

    /// How a text is sent.
    pub fn course(&self, sql: &str, session: &Session<'_>) -> Course {
        if self.guards.is_empty() {
            return Course::Free;
        }
        let Ok(tokens) = Tokens::read(sql) else {
            // The analysis refuses it.
            return Course::Guarded(self.guards.clone(), None);
        };
        let statements = split(&tokens);
        let guards: Vec<Vec<Arc<Guard>>> = { statements.iter() }
            .map(|statement| self.of_statement(&tokens, statement, session))
            .collect();
        let Some(first) = guards.iter().position(|guards| !guards.is_empty()) else {
            return Course::Free;
        };
        let cut = |before: usize| cut_before(sql, before, session.in_block?);
        if first > 0 {
            // What stands before may say how the transaction is to run, which it cannot behind a query.
            if let Some(at) = cut(first) {
                return Course::Cut(at);
            }
            let controls = |at: &usize| controls(&tokens, &statements[*at]);
            if let Some(last) = (0..first).rev().find(controls) {
                return cut(last + 1).map_or_else(not_cut, Course::Cut);
            }
        }
        // Behind another statement of the string, or in a block, the server lets it end none.
        let alone = statements.len() == 1 && session.in_block != Some(true);
        if alone && outlasts(&tokens, &statements[first]) {
            return Course::Refused(does_not_last());
        }
        let end = (first..statements.len()).find(|at| {
            ends(&tokens, &statements[*at])
                && guards[at + 1..].iter().any(|guards| !guards.is_empty())
        });
        let all = |upto: usize| {
            let mut all: Vec<Arc<Guard>> = guards[..upto].iter().flatten().cloned().collect();
            all.sort_by_key(|guard| guard.table_oid);
            all.dedup();
            all
        };
        match end {
            None => Course::Guarded(all(guards.len()), None),
            Some(end) => match cut(end + 1) {
                Some(at) => Course::Guarded(all(end + 1), Some(at)),
                None => not_cut(),
            },
        }
    }

    fn of_statement(
        &self,
        tokens: &Tokens<'_>,
        statement: &Range<usize>,
        session: &Session<'_>,
    ) -> Vec<Arc<Guard>> {
        let is = |word: &&str| tokens.is_word(statement.start, word);
        if INDIFFERENT.iter().any(is) {
            return Vec::new();
        }
        let text = &tokens.sql[tokens.bytes(statement)];
        if session.own {
            return self.guards.clone();
        }
        let mut found = self.guards_in(text);
        for effect in super::kept::effects(text) {
            if let Effect::Execute { name, .. } = effect
                && let Some(kept) = (session.kept)(&name)
            {
                found.extend(self.guards_in(&kept));
            }
        }
        found
    }
}

/// Whether a statement begins or ends a transaction.
fn controls(tokens: &Tokens<'_>, statement: &Range<usize>) -> bool {
    let is = |word: &&str| tokens.is_word(statement.start, word);
    ends(tokens, statement) || ["begin", "start"].iter().any(is)
}

/// Whether a statement ends a transaction, and with it the locks.
fn ends(tokens: &Tokens<'_>, statement: &Range<usize>) -> bool {
    let first = statement.start;
    let is = |word: &&str| tokens.is_word(first, word);
    let to_savepoint = statement.clone().any(|at| tokens.is_word(at, "to"));
    ["commit", "end", "abort"].iter().any(is)
        || tokens.is_word(first, "rollback") && !to_savepoint
        || tokens.are_words(first, &["prepare", "transaction"])
}

/// Whether a statement ends transactions as it runs, or runs in none.
fn outlasts(tokens: &Tokens<'_>, statement: &Range<usize>) -> bool {
    let first = statement.start;
    let defines = tokens.is_word(first, "create")
        || tokens.is_word(first, "drop")
        || tokens.is_word(first, "alter");
    tokens.is_word(first, "call")
        || tokens.is_word(first, "do")
        || defines
            && statement
                .clone()
                .any(|at| tokens.is_word(at, "concurrently"))
}

fn does_not_last() -> Refusal {
    Refusal::unsupported(
        "table-being-migrated",
        "the statement cannot run while a table that it uses is being migrated",
    )
    .detail("It may end its transaction or runs in none, and the table could change in the middle of it.")
    .hint("Wait until the migration has ended (`pgveil apply --status`), or send its statements yourself.")
}

fn not_cut() -> Course {
    Course::Refused(
        Refusal::unsupported(
            "table-being-migrated",
            "a string with several transactions uses a table that is being migrated",
        )
        .detail("pgveil has to look at the table at the beginning of each transaction.")
        .hint("Send its statements as messages of their own."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::fixture::catalog,
        ruleset::{
            ShownAt,
            fixture::{policy, registered},
        },
    };

    fn rules(text: &str) -> Ruleset {
        let policy = policy("table public.people scope platform\n email text");
        let catalog = Arc::new(catalog(text));
        let mut past = registered(&policy);
        let oid = catalog.relation("public", "people").unwrap().oid;
        past[0].place = (oid, 2);
        past[0].shown = Some(ShownAt {
            attnum: 2,
            before: Vec::new(),
        });
        Ruleset::compile(&policy, catalog, &past, 1).unwrap()
    }

    fn plain() -> Ruleset {
        rules(
            "public.people(id int4, email text, pgveil_shadow_email pgveil.sealed_text)
             public.other(id int4)",
        )
    }

    fn course(rules: &Ruleset, sql: &str, in_block: bool) -> String {
        let kept = |name: &str| (name == "s").then(|| "SELECT FROM people".to_owned());
        let session = Session {
            own: false,
            in_block: Some(in_block),
            kept: &kept,
        };
        match rules.course(sql, &session) {
            Course::Free => "free".to_owned(),
            Course::Cut(at) => format!("cut before {}", &sql[at..]),
            Course::Guarded(_, None) => "guarded".to_owned(),
            Course::Guarded(_, Some(at)) => format!("guarded up to {}", &sql[at..]),
            Course::Refused(refusal) => refusal.anchor.to_owned(),
        }
    }

    #[test]
    fn a_column_that_stands_where_its_registration_says_it_stood_is_served_as_plaintext() {
        let rules = plain();
        assert!(rules.pending.is_empty() && rules.by_attribute.is_empty());
        assert_eq!(rules.guards.len(), 1);
        assert_eq!(rules.guards[0].columns, [(2, "email".to_owned())]);
        assert!(rules.scan(b"SELECT * FROM People").protected);
        // Another column of the name is none that anybody has spoken of.
        let anew = self::rules("public.people(id int4, x int4, email text)");
        assert_eq!(anew.pending.len(), 1);
        assert!(anew.guards.is_empty());
    }

    #[test]
    fn a_partition_is_judged_under_the_guard_of_its_table() {
        let rules = rules(
            "partitioned public.people(id int4, email text, pgveil_shadow_email pgveil.sealed_text) by (id)
             public.part(email text, id int4, pgveil_shadow_email pgveil.sealed_text) inherits public.people partition",
        );
        assert!(rules.pending.is_empty() && rules.by_attribute.is_empty());
        assert_eq!(rules.guards.len(), 1);
        assert_eq!(rules.guards[0].columns, [(2, "email".to_owned())]);
        assert_eq!(course(&rules, "SELECT FROM part", false), "guarded");
        assert!(rules.scan(b"SELECT * FROM part").protected);
        let part = rules.relation("public", "part").unwrap();
        assert!(rules.is_protected_relation(part.oid));
        assert_eq!(part.columns.len(), 2);
    }

    #[test]
    fn what_begins_or_ends_a_transaction_is_sent_apart() {
        let rules = plain();
        for (sql, in_block, expected) in [
            ("SELECT FROM other", false, "free"),
            ("SELECT FROM people", false, "guarded"),
            ("SELECT 1; SELECT FROM people", false, "guarded"),
            (
                "BEGIN; SELECT FROM people",
                false,
                "cut before SELECT FROM people",
            ),
            (
                "BEGIN; SET TRANSACTION READ ONLY; TABLE people; COMMIT",
                false,
                "cut before TABLE people; COMMIT",
            ),
            ("TABLE people; COMMIT", true, "guarded"),
            (
                "TABLE people; COMMIT; SELECT 1; TABLE people",
                true,
                "guarded up to SELECT 1; TABLE people",
            ),
            (
                "COMMIT; SELECT 1; TABLE people",
                true,
                "cut before SELECT 1; TABLE people",
            ),
            (
                "ROLLBACK TO a; TABLE people",
                true,
                "cut before TABLE people",
            ),
            ("SET a = 1; TABLE people", false, "guarded"),
            ("EXECUTE s", false, "guarded"),
            ("EXECUTE other", false, "free"),
            ("VACUUM people", false, "free"),
            (
                "CREATE INDEX CONCURRENTLY ON people (email)",
                false,
                "table-being-migrated",
            ),
            ("CREATE INDEX ON people (email)", false, "guarded"),
            (
                "DO $$ BEGIN DELETE FROM people; END $$",
                false,
                "table-being-migrated",
            ),
        ] {
            assert_eq!(course(&rules, sql, in_block), expected, "{sql}");
        }
    }
}
