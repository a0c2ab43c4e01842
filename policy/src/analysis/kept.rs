//! What a session keeps by name: cursors and prepared statements. Says what the session must remember once the server
//! has run a statement, and knows what earlier statements of the same string have kept. The statements inside are
//! judged elsewhere (`prepare`, `execute`).

use std::{collections::HashMap, ops::Range, sync::Arc};

use sqlparser::{keywords::Keyword, tokenizer::Token as Kind};
use zeroize::Zeroizing;

use super::{
    refusals,
    statement::{Door, Verdict},
};
use crate::{
    Refusal,
    plan::{Effect, Output, Plan, Unprotected},
    text::{Tokens, Verb, split, verb},
};

/// The prepared statements of a session that hold something protected.
pub trait Kept: Sync {
    /// The statement of this name; a refusal if it cannot be executed as it was planned.
    fn prepared(&self, name: &str) -> Option<Result<Remembered, Refusal>>;
}

/// A prepared statement, whoever prepared it.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// Its plan, made for the extended protocol.
    pub plan: Arc<Plan>,
    /// The declared types of its parameters; 0: not declared.
    pub declared: Vec<u32>,
}

/// In PostgreSQL's words.
pub fn no_such_statement(name: &str) -> Refusal {
    let message = format!("prepared statement \"{name}\" does not exist");
    Refusal::new("26000", "invalid-input", message)
}

/// A session that keeps nothing.
pub(super) struct Nothing;

impl Kept for Nothing {
    fn prepared(&self, _: &str) -> Option<Result<Remembered, Refusal>> {
        None
    }
}

/// What a name means since an earlier statement of the string.
enum Here {
    /// A statement in which nothing protected is named.
    Plain,
    /// One that holds something protected.
    Protected(Remembered),
    /// Nothing.
    Dropped,
}

/// What the session keeps, as the statements of a string change it one after the other.
pub(super) struct Names<'a> {
    session: &'a dyn Kept,
    /// What this string prepared or dropped.
    here: HashMap<String, Here>,
    /// This string dropped everything before.
    emptied: bool,
}

impl<'a> Names<'a> {
    pub(super) fn new(session: &'a dyn Kept) -> Self {
        Self {
            session,
            here: HashMap::new(),
            emptied: false,
        }
    }

    /// The prepared statement of this name, if it holds something protected.
    pub(super) fn prepared(&self, name: &str) -> Result<Option<Remembered>, Refusal> {
        match self.here.get(name) {
            Some(Here::Plain) => Ok(None),
            Some(Here::Protected(known)) => Ok(Some(known.clone())),
            // The server need not see arguments that were meant for a protected column.
            Some(Here::Dropped) => Err(no_such_statement(name)),
            None if self.emptied => Err(no_such_statement(name)),
            None => self.session.prepared(name).transpose(),
        }
    }

    /// Follows what a statement does.
    pub(super) fn follow(&mut self, effect: &Effect) {
        match effect {
            Effect::Prepare {
                name, statement, ..
            } => {
                let known = match statement {
                    Some(statement) => Here::Protected(Remembered {
                        plan: Arc::clone(&statement.plan),
                        declared: statement.declared.clone(),
                    }),
                    None => Here::Plain,
                };
                self.here.insert(name.clone(), known);
            }
            Effect::Deallocate(Some(name)) => {
                self.here.insert(name.clone(), Here::Dropped);
            }
            Effect::Deallocate(None) | Effect::DiscardAll => {
                self.here.clear();
                self.emptied = true;
            }
            Effect::None | Effect::Declare { .. } | Effect::Close(_) | Effect::Execute { .. } => {}
        }
    }
}

/// What each statement of a text that names nothing protected does to the session's names. Empty if the text cannot be
/// read safely.
pub fn effects(sql: &str) -> Vec<Effect> {
    let Ok(tokens) = Tokens::read(sql) else {
        return Vec::new();
    };
    let effect = |statement: &Range<usize>| match verb(&tokens, statement) {
        Some(verb) => relayed(verb, &tokens, statement),
        None => match executed(&tokens, statement) {
            Some(name) => Effect::Execute { name, plan: None },
            None => Effect::None,
        },
    };
    split(&tokens).iter().map(effect).collect()
}

/// The effect of a statement in which nothing protected is named.
fn relayed(verb: Verb, tokens: &Tokens<'_>, statement: &Range<usize>) -> Effect {
    match verb {
        Verb::Declare { name, hold, .. } => Effect::Declare {
            name,
            hold,
            rows: Output::Unknown,
        },
        Verb::Close(name) => Effect::Close(name),
        Verb::Deallocate(name) => Effect::Deallocate(name),
        Verb::DiscardAll => Effect::DiscardAll,
        Verb::Prepare { name, .. } => Effect::Prepare {
            name,
            statement: None,
            text: unprotected(tokens, statement),
        },
        Verb::Execute { name, .. } => Effect::Execute { name, plan: None },
        Verb::Fetch(_) | Verb::Move(_) => Effect::None,
    }
}

fn unprotected(tokens: &Tokens<'_>, statement: &Range<usize>) -> Unprotected {
    Unprotected(Zeroizing::new(
        tokens.sql[tokens.bytes(statement)].to_owned(),
    ))
}

/// The statement that another one executes: EXPLAIN EXECUTE, CREATE TABLE AS EXECUTE.
fn executed(tokens: &Tokens<'_>, statement: &Range<usize>) -> Option<String> {
    let at = statement
        .clone()
        .find(|at| tokens.is_word(*at, "execute"))?;
    tokens.name(at + 1).map(String::from)
}

/// What is to be done with a statement, and what follows from it.
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// What it returns if it is relayed.
    pub(super) relayed: Output,
    pub(super) effect: Effect,
    /// The text sent holds the answer.
    pub(super) answers_itself: bool,
}

impl From<Verdict> for Judged {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            relayed: Output::Unknown,
            effect: Effect::None,
            answers_itself: false,
        }
    }
}

impl Kept for Names<'_> {
    fn prepared(&self, name: &str) -> Option<Result<Remembered, Refusal>> {
        Names::prepared(self, name).transpose()
    }
}

impl Door<'_> {
    /// Judges one statement, and what it does to the session's names.
    pub(super) fn judge_kept(
        &self,
        statement: &Range<usize>,
        names: &Names<'_>,
    ) -> Result<Judged, Refusal> {
        let relay = Judged::from(Verdict::Relay);
        match verb(self.tokens, statement) {
            Some(Verb::Declare { query, name, hold }) => {
                self.check_dynamic(statement)?;
                let rows = Output::Unknown;
                Ok(Judged {
                    effect: Effect::Declare { name, hold, rows },
                    ..self.inner_query(&query)?.into()
                })
            }
            Some(Verb::Fetch(name)) => Ok(Judged {
                relayed: Output::Cursor(name),
                ..relay
            }),
            Some(Verb::Move(_)) => Ok(relay),
            Some(verb @ (Verb::Close(_) | Verb::Deallocate(_) | Verb::DiscardAll)) => Ok(Judged {
                effect: relayed(verb, self.tokens, statement),
                ..relay
            }),
            Some(Verb::Prepare {
                name,
                list,
                types,
                statement: inner,
            }) => {
                self.check_dynamic(statement)?;
                let declared = self.declared_types(&types);
                let (verdict, prepared) = self.prepare(&list, &types, &inner, declared)?;
                let text = match prepared {
                    Some(_) => Unprotected::default(),
                    None => unprotected(self.tokens, statement),
                };
                Ok(Judged {
                    effect: Effect::Prepare {
                        name,
                        statement: prepared,
                        text,
                    },
                    ..verdict.into()
                })
            }
            Some(Verb::Execute {
                name,
                list,
                arguments,
            }) => {
                self.check_dynamic(statement)?;
                self.execute(name, &list, &arguments, names)
            }
            None if self.tokens.is_word(statement.start, "explain") => {
                self.explain(statement, names)
            }
            None => self.other(statement, names),
        }
    }

    /// Statements that keep nothing by name.
    fn other(&self, statement: &Range<usize>, names: &Names<'_>) -> Result<Judged, Refusal> {
        if let Some(judged) = self.made_by_execute(statement, names)? {
            return Ok(judged);
        }
        let judged = Judged::from(self.judge(statement)?);
        let Some(name) = executed(self.tokens, statement) else {
            return Ok(judged);
        };
        if names.prepared(&name)?.is_some() {
            let at = self.tokens.range(statement.start).start;
            return Err(refusals::construct("EXECUTE inside of another statement").at(at));
        }
        Ok(Judged {
            effect: Effect::Execute { name, plan: None },
            ..judged
        })
    }

    /// The query of a cursor.
    pub(super) fn inner_query(&self, query: &Range<usize>) -> Result<Verdict, Refusal> {
        if !self.names_protected(query) {
            return Ok(Verdict::Relay);
        }
        let first = query
            .clone()
            .find(|at| !matches!(self.tokens.kind(*at), Kind::LParen))
            .unwrap_or(query.start);
        match self.tokens.keyword(first) {
            Keyword::SELECT | Keyword::WITH | Keyword::TABLE | Keyword::VALUES => {
                self.analyse(query)
            }
            _ => {
                Err(refusals::construct("DECLARE of this").at(self.tokens.range(query.start).start))
            }
        }
    }
}
