//! Several statements in one string: what the session looked like when the string came may not hold for a statement
//! that follows another. Such a statement is refused where it names something protected. Knows no settings' values.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
};

use sqlparser::tokenizer::Token as Kind;

use super::{kept::Judged, routine::makes_routine, statement::Door};
use crate::{
    Refusal,
    plan::{Effect, Output, Plan, ScopePart, Slot},
    template::encode,
    text::{Tokens, split},
};

/// What is known of the statements before.
#[derive(Default)]
pub(super) struct Settled {
    /// A transaction was begun in this string.
    begun: bool,
    /// A statement may have changed a setting, the role, the search path or the catalog.
    changed: bool,
    /// `pgveil.NAME` settings that this string has set, by lower-case name.
    scopes: BTreeMap<String, String>,
    /// Names of relations that statements of this string may have made of protected ones.
    made: HashSet<String>,
}

/// Statements that change no setting and no definition, unless they call `set_config`.
const SETTLED: [&str; 21] = [
    "copy",
    "select",
    "insert",
    "update",
    "delete",
    "with",
    "values",
    "table",
    "explain",
    "begin",
    "start",
    "savepoint",
    "release",
    "commit",
    "end",
    "declare",
    "fetch",
    "move",
    "close",
    "prepare",
    "deallocate",
];

impl Settled {
    /// Refuses a statement that needs to know what an earlier one may have changed.
    pub(super) fn check(&self, door: &Door<'_>, statement: &Range<usize>) -> Result<(), Refusal> {
        let names_made = || {
            let mut names = statement.clone().filter_map(|at| door.tokens.name(at));
            names.any(|name| self.made.contains(&*name))
        };
        // Under another search path a name may mean what it does not mean now.
        let concerned = self.changed && door.spells_protected(statement);
        if !concerned && (self.made.is_empty() || !names_made()) {
            return Ok(());
        }
        Err(may_have_changed())
    }

    /// The same for a statement that names only what the session keeps. What it fetches is shown only if nothing in it
    /// is protected.
    pub(super) fn check_kept(&self, mut judged: Judged) -> Result<Judged, Refusal> {
        if self.changed {
            if matches!(judged.effect, Effect::Execute { plan: Some(_), .. }) {
                return Err(may_have_changed());
            }
            if matches!(judged.relayed, Output::Cursor(_)) {
                judged.relayed = Output::Unknown;
            }
        }
        Ok(judged)
    }

    /// Scopes that are taken from settings which this string has set are known.
    pub(super) fn fill_scopes(&self, slots: &mut [Slot]) {
        if self.scopes.is_empty() {
            return;
        }
        for part in slots.iter_mut().flat_map(crate::plan::Slot::parts_mut) {
            if let ScopePart::Session(name) = part
                && let Some(value) = self.scopes.get(&name.to_ascii_lowercase())
            {
                *part = ScopePart::Text(encode(value));
            }
        }
    }

    /// Remembers what a statement may have changed.
    pub(super) fn after(&mut self, door: &Door<'_>, statement: &Range<usize>, effect: &Effect) {
        let tokens = door.tokens;
        let first = statement
            .clone()
            .find(|at| tokens.raw(*at) != "(")
            .unwrap_or(statement.start);
        let is = |word: &&str| tokens.is_word(first, word);
        self.begun |= is(&"begin") || is(&"start");
        // The end of a transaction that began earlier undoes its SET LOCAL.
        let ends = (is(&"commit") || is(&"end")) && !self.begun;
        let sets = statement
            .clone()
            .any(|at| tokens.name(at).is_some_and(|name| name == "set_config"));
        if harmless(tokens, statement) {
            return;
        }
        if let Some((name, value)) = scope_set(tokens, statement) {
            self.scopes.insert(name, value);
            return;
        }
        // The end of the transaction may undo what was set in it.
        let undone = !self.scopes.is_empty() && (is(&"commit") || is(&"end") || is(&"release"));
        let into = is(&"select") && statement.clone().any(|at| tokens.is_word(at, "into"));
        let makes = door.names_protected(statement) || makes_routine(door, statement);
        if (!SETTLED.iter().any(is) || into) && makes {
            self.made.extend(made_names(door, statement, into));
        }
        // What a statement may change that was prepared earlier is known only of those that were analysed.
        let executes = matches!(effect, Effect::Execute { plan: Some(_), .. });
        self.changed |= !(SETTLED.iter().any(is) || executes) || ends || undone || sets || into;
    }
}

/// Settings that change neither what a text means nor how values are written.
const HARMLESS: [&str; 24] = [
    "application_name",
    "client_min_messages",
    "commit_delay",
    "constraints",
    "cursor_tuple_fraction",
    "deadlock_timeout",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "effective_cache_size",
    "geqo",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "jit",
    "lock_timeout",
    "log_min_duration_statement",
    "maintenance_work_mem",
    "max_parallel_workers_per_gather",
    "random_page_cost",
    "statement_timeout",
    "synchronous_commit",
    "temp_buffers",
    "transaction",
    "work_mem",
];

/// SET and RESET of what neither the analysis nor the results depend on: such a setting, a planner switch
/// (`enable_...`), or one of an application's own (`app.user`).
fn harmless(tokens: &Tokens<'_>, statement: &Range<usize>) -> bool {
    let first = statement.start;
    if tokens.is_word(first, "show") {
        return true;
    }
    if !(tokens.is_word(first, "set") || tokens.is_word(first, "reset")) {
        return false;
    }
    let mut at = first + 1;
    if tokens.are_words(at, &["session", "characteristics"]) {
        return true;
    }
    if tokens.is_word(at, "local") || tokens.is_word(at, "session") {
        at += 1;
    }
    let Some(name) = tokens.name(at) else {
        return false;
    };
    if matches!(tokens.kind(at + 1), Kind::Period) {
        return name != "pgveil";
    }
    HARMLESS.contains(&&*name) || name.starts_with("enable_")
}

/// `SET [LOCAL | SESSION] pgveil.NAME = 'value'`.
fn scope_set(tokens: &Tokens<'_>, statement: &Range<usize>) -> Option<(String, String)> {
    let mut at = statement.start + 1;
    if tokens.is_word(at, "local") || tokens.is_word(at, "session") {
        at += 1;
    }
    let shape = tokens.is_word(statement.start, "set")
        && tokens.is_word(at, "pgveil")
        && matches!(tokens.kind(at + 1), Kind::Period)
        && (matches!(tokens.kind(at + 3), Kind::Eq) || tokens.is_word(at + 3, "to"))
        && at + 5 == statement.end;
    let Kind::SingleQuotedString(_) = tokens.kind(at + 4) else {
        return None;
    };
    let raw = tokens.raw(at + 4);
    let value = raw[1..raw.len() - 1].replace("''", "'");
    let name = tokens.name(at + 2)?.to_ascii_lowercase();
    (shape && !value.is_empty()).then_some((name, value))
}

/// Where a string of statements may be cut, so that what follows is sent as a message of its own and the server does the
/// same: within a transaction block, or where one has just ended. `in_block`: one was open before.
///
/// Returns a byte offset before the first statement that was refused because settings may have changed.
pub fn cut(sql: &str, plan: &Plan, in_block: bool) -> Option<usize> {
    let refused = plan.statements.iter().position(|statement| {
        let refusal = statement.refused.as_ref();
        refusal.is_some_and(|refusal| refusal.anchor == MAY_HAVE_CHANGED)
    })?;
    cut_before(sql, refused, in_block)
}

/// The same before a given statement (from 0).
pub fn cut_before(sql: &str, statement: usize, in_block: bool) -> Option<usize> {
    let refused = statement;
    let tokens = Tokens::read(sql).ok()?;
    let statements = split(&tokens);
    let (mut in_block, mut fresh) = (in_block, false);
    for statement in statements.iter().take(refused) {
        let first = statement.start;
        let is = |words: &[&str]| words.iter().any(|word| tokens.is_word(first, word));
        let chains = (first..statement.end).any(|at| tokens.are_words(at, &["and", "chain"]));
        let to_savepoint = statement.clone().any(|at| tokens.is_word(at, "to"));
        let of_prepared = tokens.is_word(first + 1, "prepared");
        if is(&["copy"]) {
            // What the client sends for it could not be told from what follows.
            return None;
        }
        if is(&["begin", "start"]) {
            in_block = true;
        } else if is(&["commit", "end", "rollback", "abort"])
            && !chains
            && !to_savepoint
            && !of_prepared
            || tokens.are_words(first, &["prepare", "transaction"])
        {
            (in_block, fresh) = (false, true);
        } else if !in_block {
            fresh = false;
        }
    }
    let at = statements.get(refused)?.start;
    (in_block || fresh).then(|| tokens.range(at).start)
}

/// Whether all statements of a text before this one (from 0) leave open what transaction they stand in.
pub fn in_one_transaction(sql: &str, statement: usize) -> bool {
    const STAY: [&str; 8] = [
        "select", "values", "with", "insert", "update", "delete", "merge", "table",
    ];
    if statement == 0 {
        return true;
    }
    let Ok(tokens) = Tokens::read(sql) else {
        return false;
    };
    let statements = split(&tokens);
    let stays = |range: &Range<usize>| {
        let mut words = STAY.iter();
        words.any(|word| tokens.is_word(range.start, word))
    };
    statements.len() > statement && statements[..statement].iter().all(stays)
}

const MAY_HAVE_CHANGED: &str = "settings-may-have-changed";

fn may_have_changed() -> Refusal {
    Refusal::unsupported(
        MAY_HAVE_CHANGED,
        "a statement that names something protected follows one that may change settings in the same string",
    )
    .detail("pgveil asks the server for the session's settings between messages, not inside one.")
    .hint("Send it as a message of its own.")
}

/// Words of which one may be the name of what a statement makes: those before `AS`, a bracket or `PARTITION OF`, or
/// those around INTO.
fn made_names(door: &Door<'_>, statement: &Range<usize>, into: bool) -> Vec<String> {
    let tokens = door.tokens;
    let ends = |at: &usize| {
        !into
            && (tokens.raw(*at) == "("
                || ["as", "partition"]
                    .iter()
                    .any(|word| tokens.is_word(*at, word)))
    };
    let words = statement.clone().skip(1).take_while(|at| !ends(at));
    words
        .filter_map(|at| tokens.name(at))
        .map(|name| name.into_owned())
        .collect()
}
