//! What a session keeps by name: cursors and prepared statements. Judges the statement inside, and says what the session
//! must remember once the server has run it. Remembers nothing itself.

use std::ops::Range;

use sqlparser::{keywords::Keyword, tokenizer::Token as Kind};

use super::{
    refusals,
    statement::{Door, Verdict},
};
use crate::{
    Refusal,
    plan::{Effect, Output},
    text::{Tokens, Verb, split, verb},
};

/// What each statement of a text that names nothing protected does to the session's names. Empty if the text cannot be
/// read safely.
pub fn effects(sql: &str) -> Vec<Effect> {
    let Ok(tokens) = Tokens::read(sql) else {
        return Vec::new();
    };
    let effect = |statement: &Range<usize>| match verb(&tokens, statement) {
        Some(verb) => relayed(verb),
        None => Effect::None,
    };
    split(&tokens).iter().map(effect).collect()
}

/// The effect of a statement in which nothing protected is named.
fn relayed(verb: Verb) -> Effect {
    match verb {
        Verb::Declare { name, hold, .. } => Effect::Declare {
            name,
            hold,
            rows: Output::Unknown,
        },
        Verb::Close(name) => Effect::Close(name),
        Verb::Deallocate(name) => Effect::Deallocate(name),
        Verb::DiscardAll => Effect::DiscardAll,
        Verb::Fetch(_) | Verb::Move(_) | Verb::Prepare { .. } | Verb::Execute { .. } => {
            Effect::None
        }
    }
}

/// What is to be done with a statement, and what follows from it.
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// What it returns if it is relayed.
    pub(super) relayed: Output,
    pub(super) effect: Effect,
}

impl From<Verdict> for Judged {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            relayed: Output::Unknown,
            effect: Effect::None,
        }
    }
}

impl Door<'_> {
    /// Judges one statement, and what it does to the session's names.
    pub(super) fn judge_kept(&self, statement: &Range<usize>) -> Result<Judged, Refusal> {
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
                effect: relayed(verb),
                ..relay
            }),
            Some(Verb::Prepare { .. } | Verb::Execute { .. }) | None => {
                Ok(self.judge(statement)?.into())
            }
        }
    }

    /// The query of a cursor.
    fn inner_query(&self, query: &Range<usize>) -> Result<Verdict, Refusal> {
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
