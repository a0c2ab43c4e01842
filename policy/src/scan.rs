//! The fast path: one case-insensitive multi-pattern pass over a statement's bytes, and a look at the first word of
//! each statement. It judges by words alone, parses nothing, and errs towards `true`.

mod effects;
mod hidden;
mod leading;
pub mod relations;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use aho_corasick::AhoCorasick;

use crate::{Ruleset, catalog::Catalog};

/// What the text can touch, judged by words alone; errs towards `true`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Names something protected (a table, a view or function that depends on one), or may do so in an identifier with Unicode
    /// escapes (`U&"`).
    pub protected: bool,
    /// May change a session setting, role or temporary relation that the analysis reads (`SET`, `RESET`,
    /// `set_config`, `ROLLBACK`, `CREATE TEMP TABLE`, a function that does such things, ...). COMMIT and END are not
    /// reported: the session knows whether something of the transaction ends with it.
    pub settings: bool,
    /// May change the catalog (`CREATE`, `ALTER`, `DROP`, `SELECT ... INTO`, a function that does, ...).
    pub catalog: bool,
    /// Has a PREPARE or DECLARE: what `settings` and `catalog` say may happen at any later EXECUTE or FETCH.
    pub deferred: bool,
    /// Makes, uses or drops what the session keeps by name, prepared statements and cursors (`EXECUTE`, `FETCH`,
    /// `DEALLOCATE`, ...): what it does may depend on what an earlier statement kept.
    pub names: bool,
}

impl Ruleset {
    /// Judges a statement text, of one or more statements, in any encoding that PostgreSQL allows a client.
    /// Linear in its length; only identifiers with Unicode escapes are copied.
    pub fn scan(&self, sql: &[u8]) -> Scan {
        self.scanner().scan(sql)
    }
}

/// What a word in a text means.
#[derive(Clone, Copy, Debug, Default)]
struct Meaning {
    protected: bool,
    settings: bool,
    catalog: bool,
    names: bool,
    /// The word INTO, which makes a table only after SELECT.
    into: bool,
    /// May stand in the middle or at the start of a longer word.
    partial: bool,
    /// Begins an identifier with Unicode escapes, which means what its name means.
    hidden: bool,
}

/// What a text can touch that cannot be told.
const ANYTHING: Meaning = Meaning {
    protected: true,
    settings: true,
    catalog: true,
    names: true,
    into: false,
    partial: true,
    hidden: false,
};

impl Scan {
    fn add(&mut self, meaning: Meaning) {
        self.protected |= meaning.protected;
        self.settings |= meaning.settings;
        self.catalog |= meaning.catalog;
        self.names |= meaning.names;
    }
}

/// The words to look for, in one automaton.
#[derive(Debug)]
pub(crate) struct Scanner {
    words: AhoCorasick,
    /// By pattern.
    meanings: Vec<Meaning>,
    /// What names that are not ASCII mean. How they are written depends on the client's encoding and on how the
    /// server folds case, so that any byte outside ASCII could be a part of one.
    foreign: Meaning,
}

/// PostgreSQL cuts longer identifiers (`NAMEDATALEN - 1`): a longer word can name a name of this length.
const MAX_IDENTIFIER: usize = 63;

/// How far back the start of a run of identifier bytes is looked for, so that the scan stays linear.
const MAX_RUN: usize = 256;

impl Scanner {
    /// Looks for `protected` names, and for functions and relations of the catalog that change settings or the catalog.
    pub(crate) fn new(protected: &BTreeSet<String>, catalog: &Catalog) -> Self {
        let mut meanings: BTreeMap<Vec<u8>, Meaning> = BTreeMap::new();
        let mut add = |word: &str, mean: fn(&mut Meaning)| {
            let doubled = word.replace('"', "\"\"");
            for spelling in [word, &doubled] {
                let pattern = spelling.as_bytes().to_ascii_lowercase();
                let meaning = meanings.entry(pattern).or_default();
                meaning.partial |= word.len() >= MAX_IDENTIFIER;
                mean(meaning);
            }
        };
        let effects = effects::Effects::find(catalog);
        for name in protected {
            add(name, |meaning| meaning.protected = true);
        }
        for name in &effects.settings {
            add(name, |meaning| meaning.settings = true);
        }
        for name in &effects.catalog {
            add(name, |meaning| meaning.catalog = true);
        }
        add("set_config", |meaning| meaning.settings = true);
        // Functions and tables of the session's own, which no catalog shows.
        add("pg_temp", |meaning| {
            meaning.settings = true;
            meaning.partial = true;
        });
        add("into", |meaning| meaning.into = true);
        // Also in the middle of a statement: CREATE TABLE ... AS EXECUTE.
        add("execute", |meaning| meaning.names = true);
        let hidden = Meaning {
            partial: true,
            hidden: true,
            ..Meaning::default()
        };
        meanings.insert(hidden::BEGIN.to_vec(), hidden);
        let is_foreign = |names: &BTreeSet<String>| names.iter().any(|name| !name.is_ascii());
        let foreign = Meaning {
            protected: is_foreign(protected),
            settings: is_foreign(&effects.settings),
            catalog: is_foreign(&effects.catalog),
            ..Meaning::default()
        };
        Self {
            words: AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .build(meanings.keys())
                .expect("names of a catalog are far fewer than the automaton can hold"),
            meanings: meanings.into_values().collect(),
            foreign,
        }
    }

    fn scan(&self, sql: &[u8]) -> Scan {
        let leading = leading::read(sql);
        let mut scan = leading.scan;
        if !sql.is_ascii() {
            scan.add(self.foreign);
        }
        for found in self.words.find_overlapping_iter(sql) {
            let meaning = self.meanings[found.pattern().as_usize()];
            let is_whole = || begins_word(sql, found.start()) && ends_word(sql, found.end());
            if !meaning.partial && !is_whole() {
                continue;
            }
            scan.add(meaning);
            if meaning.hidden {
                self.unhide(sql, found.end(), &mut scan);
            }
            if meaning.into && leading.may_select_into && !leading::is_insert(sql, found.start()) {
                scan.settings = true;
                scan.catalog = true;
            }
        }
        scan
    }

    /// Adds what an identifier with Unicode escapes means, whose body begins at `at`.
    fn unhide(&self, sql: &[u8], at: usize, scan: &mut Scan) {
        let Some(names) = hidden::names(sql, at) else {
            scan.add(ANYTHING);
            return;
        };
        for name in names {
            if !name.is_ascii() {
                scan.add(self.foreign);
            }
            for found in self.words.find_overlapping_iter(&name) {
                scan.add(self.meanings[found.pattern().as_usize()]);
            }
        }
    }
}

/// A byte of an unquoted identifier that is not its first (scan.l: `ident_cont`).
fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Whether PostgreSQL can begin an identifier at `at`. After a number or a parameter it can without a blank (`1from`).
fn begins_word(sql: &[u8], at: usize) -> bool {
    if at == 0 || !is_word_byte(sql[at]) || !is_word_byte(sql[at - 1]) {
        return true;
    }
    // A quote by dollars may end here, within what looks like one word.
    if sql[at - 1] == b'$' {
        return true;
    }
    // Of a longer run only the end is looked at, and not trusted.
    let near = &sql[at.saturating_sub(MAX_RUN)..at];
    let run = near
        .iter()
        .rposition(|byte| !is_word_byte(*byte))
        .map_or(0, |before| before + 1);
    let is_cut = run == 0 && near.len() == MAX_RUN;
    is_cut || near[run].is_ascii_digit() || near[run] == b'$'
}

fn ends_word(sql: &[u8], end: usize) -> bool {
    end == sql.len() || !is_word_byte(sql[end]) || !is_word_byte(sql[end - 1])
}
