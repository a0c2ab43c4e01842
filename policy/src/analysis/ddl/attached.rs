//! Triggers and row security policies made on a table of the policy: they pass where nothing of them looks at a protected column.
//! What a function's body does is told by its words, as for those that were made beside pgveil.

use std::ops::Range;

use sqlparser::tokenizer::Token as Kind;

use super::{Definition, existing, name};
use crate::{
    Refusal,
    analysis::statement::{Door, Verdict},
    ruleset::{Held, takes_rows, words::Words},
};

/// `at` is behind the words CREATE [OR REPLACE] [CONSTRAINT] TRIGGER. `None`: it may look at a protected column.
pub(super) fn trigger(
    door: &Door<'_>,
    statement: &Range<usize>,
    at: usize,
) -> Result<Option<Verdict>, Refusal> {
    let tokens = door.tokens;
    let is = |at: &usize, word: &str| tokens.is_word(*at, word);
    let Some(on) = (at + 1..statement.end).find(|at| is(at, "on")) else {
        return Ok(None);
    };
    let Some(execute) = (on..statement.end).rev().find(|at| is(at, "execute")) else {
        return Ok(None);
    };
    let called =
        tokens.is_word(execute + 1, "function") || tokens.is_word(execute + 1, "procedure");
    let (true, Some((function, _))) = (called, name(tokens, execute + 2)) else {
        return Ok(None);
    };
    let Some(attached) = Attached::to(door, on + 1) else {
        return Ok(None);
    };
    // INSTEAD OF belongs to views, REFERENCING names whole sets of rows, and FROM another table.
    let others = ["instead", "referencing"];
    if statement
        .clone()
        .any(|at| others.iter().any(|word| is(&at, word)))
        || is(&attached.behind, "from")
        || !attached.leaves_alone(on + 1..statement.end)
        || !attached.is_blind(&function)
    {
        return Ok(None);
    }
    attached.passes(
        statement,
        "The trigger passes: it names no protected column, and nor does its function.",
    )
}

/// `at` is behind the words CREATE POLICY or ALTER POLICY. `None`: it may look at a protected column.
pub(super) fn policy(
    door: &Door<'_>,
    statement: &Range<usize>,
    at: usize,
) -> Result<Option<Verdict>, Refusal> {
    let tokens = door.tokens;
    if !tokens.is_word(at + 1, "on") {
        return Ok(None);
    }
    let Some(attached) = Attached::to(door, at + 2) else {
        return Ok(None);
    };
    if !attached.leaves_alone(at + 2..statement.end) {
        return Ok(None);
    }
    attached.passes(
        statement,
        "The policy passes: it names no protected column.",
    )
}

/// What a table has that a definition must leave alone.
struct Attached<'d, 'a> {
    door: &'d Door<'a>,
    definition: Definition<'d, 'a>,
    /// The table's name.
    table: &'d str,
    /// Its columns that hold sealed values.
    sealed: Vec<&'d str>,
    /// The token behind its name.
    behind: usize,
}

impl<'d, 'a> Attached<'d, 'a> {
    fn to(door: &'d Door<'a>, at: usize) -> Option<Self> {
        let (parts, behind) = name(door.tokens, at)?;
        let place = existing(door, &parts)?;
        let relation = door.rules.relation(&place.0, &place.1)?;
        if relation.is_view() || door.rules.refuse_pending(relation.oid).is_some() {
            return None;
        }
        let sealed = relation
            .columns
            .iter()
            .filter(|column| !matches!(door.rules.held(relation, column), Held::Plain));
        Some(Self {
            door,
            table: &relation.name,
            sealed: sealed.map(|column| column.name.as_str()).collect(),
            definition: Definition::new(door, place),
            behind,
        })
    }

    /// Whether some tokens, which begin with the table's name, name neither one of these columns, nor the table as a row,
    /// nor anything else that holds or reads sealed values, in strings neither.
    fn leaves_alone(&self, range: Range<usize>) -> bool {
        let tokens = self.door.tokens;
        let protection = self.door.protection;
        let names = |text: &str| {
            let words = Words::of(text);
            self.sealed.iter().any(|name| words.mentions(name)) || protection.named_in(text)
        };
        (self.behind..range.end).all(|at| {
            if matches!(tokens.kind(at), Kind::Word(_)) {
                let Some(name) = tokens.name(at) else {
                    return false;
                };
                let qualifies = *name == *self.table && matches!(tokens.kind(at + 1), Kind::Period);
                let row = qualifies && matches!(tokens.kind(at + 2), Kind::Mul);
                let column = self.sealed.contains(&&*name);
                let other = protection.names_relation(&name) || protection.names_function(&name);
                return !column && !row && (qualifies || !other);
            }
            let plain = matches!(
                tokens.kind(at),
                Kind::SingleQuotedString(_) | Kind::Number(..)
            );
            let text = tokens.raw(at);
            plain && !names(text) || text.len() <= 3 && !text.contains(['\'', '"', '$'])
        })
    }

    /// Whether no function of this name looks at these columns, or at whole rows.
    fn is_blind(&self, function: &[String]) -> bool {
        let Some(last) = function.last() else {
            return false;
        };
        let rules = self.door.rules;
        let mut found = rules
            .catalog
            .functions
            .iter()
            .filter(|known| known.name == *last)
            .peekable();
        found.peek().is_some()
            && !rules.is_dependent_function(last)
            && found.all(|function| {
                let words = Words::of(&function.body);
                !self.sealed.iter().any(|name| words.mentions(name))
                    && !words.has("execute")
                    && !takes_rows(&function.body)
            })
    }

    fn passes(mut self, statement: &Range<usize>, note: &str) -> Result<Option<Verdict>, Refusal> {
        self.definition.note(note.to_owned());
        self.definition.finish(statement, "CREATE", false).map(Some)
    }
}
