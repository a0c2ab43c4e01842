//! The first word of every statement of a text. A statement begins at the start and after `;`, also after one inside
//! a literal or comment: those are not told apart, which can only find too much.

use memchr::memchr_iter;

use super::{Scan, is_word_byte};

/// What the first words say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Leading {
    pub(super) scan: Scan,
    /// Some statement could be `SELECT ... INTO`.
    pub(super) may_select_into: bool,
}

pub(super) fn read(sql: &[u8]) -> Leading {
    let mut leading = Leading::default();
    let mut budget = Budget(sql.len().saturating_mul(4));
    let after_semicolons = memchr_iter(b';', sql).map(|at| at + 1);
    for start in std::iter::once(0).chain(after_semicolons) {
        if !leading.add(&sql[start..], &mut budget) {
            // Thousands of comments over comments: whoever writes that gets every check.
            leading.scan.settings = true;
            leading.scan.catalog = true;
            leading.scan.deferred = true;
            leading.scan.names = true;
            leading.may_select_into = true;
            break;
        }
    }
    leading
}

/// How many bytes of comments may be skipped in all, so that the scan stays linear: a comment that holds `;` is
/// skipped again from each of them.
struct Budget(usize);

impl Leading {
    /// Judges one statement, after any EXPLAIN and its options. False when the budget is used up.
    fn add(&mut self, statement: &[u8], budget: &mut Budget) -> bool {
        self.try_add(statement, budget).is_some()
    }

    fn try_add(&mut self, mut statement: &[u8], budget: &mut Budget) -> Option<()> {
        loop {
            let (word, rest) = first_word(statement, budget)?;
            self.scan.names |= NAMES.iter().any(|name| word.eq_ignore_ascii_case(name));
            match Verb::of(word) {
                Verb::Explain => {
                    statement = skip_options(rest, budget)?;
                    let options = &rest[..rest.len() - statement.len()];
                    // pgveil's own option.
                    self.scan.protected |= options
                        .windows(6)
                        .any(|word| word.eq_ignore_ascii_case(b"pgveil"));
                }
                Verb::Rows => self.may_select_into = true,
                Verb::Plain => {}
                Verb::Catalog => {
                    self.scan.catalog = true;
                    self.scan.settings = true;
                }
                Verb::Settings => self.scan.settings = true,
                Verb::Deferred => {
                    self.scan.deferred = true;
                    // PREPARE TRANSACTION ends what SET LOCAL began.
                    let (next, _) = first_word(rest, budget)?;
                    self.scan.settings |= next.eq_ignore_ascii_case(b"TRANSACTION");
                }
            }
            if Verb::of(word) != Verb::Explain {
                return Some(());
            }
        }
    }
}

/// Kinds of first words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    /// EXPLAIN or one of its old-style options: another statement may follow.
    Explain,
    /// May be SELECT ... INTO; also everything that is not known.
    Rows,
    /// Changes rows, or nothing that matters here.
    Plain,
    /// Changes the catalog, and by that temporary relations; or runs any code.
    Catalog,
    /// Changes settings, roles or who is a member of them.
    Settings,
    /// Keeps a statement for later.
    Deferred,
}

/// First words with a meaning; all others are `Verb::Rows`.
const VERBS: [(&str, Verb); 30] = [
    ("INSERT", Verb::Plain),
    ("UPDATE", Verb::Plain),
    ("DELETE", Verb::Plain),
    ("MERGE", Verb::Plain),
    ("COPY", Verb::Plain),
    ("FETCH", Verb::Plain),
    ("BEGIN", Verb::Plain),
    ("COMMIT", Verb::Plain),
    ("END", Verb::Plain),
    ("EXPLAIN", Verb::Explain),
    ("ANALYZE", Verb::Explain),
    ("ANALYSE", Verb::Explain),
    ("VERBOSE", Verb::Explain),
    ("CREATE", Verb::Catalog),
    ("ALTER", Verb::Catalog),
    ("DROP", Verb::Catalog),
    ("IMPORT", Verb::Catalog),
    ("DO", Verb::Catalog),
    ("CALL", Verb::Catalog),
    ("LOAD", Verb::Catalog),
    ("SET", Verb::Settings),
    ("RESET", Verb::Settings),
    ("DISCARD", Verb::Settings),
    ("ROLLBACK", Verb::Settings),
    ("ABORT", Verb::Settings),
    ("GRANT", Verb::Settings),
    ("REVOKE", Verb::Settings),
    ("PREPARE", Verb::Deferred),
    ("DECLARE", Verb::Deferred),
    ("SELECT", Verb::Rows),
];

/// First words of statements about what the session keeps by name. COMMIT and the like only drop, and the session
/// sees them by their answers.
const NAMES: [&[u8]; 8] = [
    b"PREPARE",
    b"EXECUTE",
    b"DEALLOCATE",
    b"DECLARE",
    b"FETCH",
    b"MOVE",
    b"CLOSE",
    b"DISCARD",
];

impl Verb {
    fn of(word: &[u8]) -> Self {
        let known = VERBS
            .iter()
            .find(|(verb, _)| word.eq_ignore_ascii_case(verb.as_bytes()));
        known.map_or(Self::Rows, |(_, verb)| *verb)
    }
}

/// What follows the parenthesized options of EXPLAIN, if there are any.
fn skip_options<'a>(sql: &'a [u8], budget: &mut Budget) -> Option<&'a [u8]> {
    let Some(mut sql) = sql.strip_prefix(b"(") else {
        return Some(sql);
    };
    loop {
        sql = skip_blank(sql, budget)?;
        let Some((byte, rest)) = sql.split_first() else {
            return Some(sql);
        };
        budget.0 = budget.0.checked_sub(1)?;
        sql = rest;
        if *byte == b')' {
            return Some(sql);
        }
    }
}

/// The first word after blanks and comments (empty if something else stands there), and what follows it, again
/// without blanks and comments. `None` when the budget is used up.
fn first_word<'a>(sql: &'a [u8], budget: &mut Budget) -> Option<(&'a [u8], &'a [u8])> {
    let sql = skip_blank(sql, budget)?;
    let end = sql
        .iter()
        .position(|byte| !is_word_byte(*byte))
        .unwrap_or(sql.len());
    let (word, rest) = sql.split_at(end);
    Some((word, skip_blank(rest, budget)?))
}

fn skip_blank<'a>(mut sql: &'a [u8], budget: &mut Budget) -> Option<&'a [u8]> {
    loop {
        let len = match sql {
            [b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, ..] => 1,
            [b'-', b'-', ..] => {
                let end = sql.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                end.unwrap_or(sql.len())
            }
            [b'/', b'*', ..] => block_comment(sql),
            _ => return Some(sql),
        };
        if len > 1 {
            budget.0 = budget.0.checked_sub(len)?;
        }
        sql = &sql[len..];
    }
}

/// The length of the block comment that `sql` begins with; they nest.
pub(super) fn block_comment(sql: &[u8]) -> usize {
    let mut depth = 1;
    let mut at = 2;
    while depth > 0 {
        let Some(rest) = sql.get(at..).filter(|rest| !rest.is_empty()) else {
            return sql.len();
        };
        at += match rest {
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            _ => 1,
        };
    }
    at
}

/// Whether the INTO at `at` belongs to INSERT or MERGE. With a comment between it does not seem to, which is safe.
pub(super) fn is_insert(sql: &[u8], at: usize) -> bool {
    let before = sql[..at].trim_ascii_end();
    let start = before
        .iter()
        .rposition(|byte| !is_word_byte(*byte))
        .map_or(0, |at| at + 1);
    let word = &before[start..];
    word.eq_ignore_ascii_case(b"INSERT") || word.eq_ignore_ascii_case(b"MERGE")
}
