//! From a statement's text to a plan, with refusal as the default.
//!
//! Words decide first (`statement`): what names nothing protected is relayed unread. The rest is parsed, its names are
//! resolved (`namespace`), and every expression is plain or sealed (`expr`, where all branches stand). What may happen
//! to a sealed value has a rule in a file of its own; what has no rule is refused. Nothing here knows keys or sockets,
//! and nothing is ever printed from the syntax tree: a plan is edits of the client's own text.

mod access;
mod alternatives;
mod analyser;
mod array;
mod array_literal;
mod ask;
mod branch;
mod called;
mod cells;
mod compare;
mod computed;
mod condition;
mod conflict;
mod constant;
mod copy;
mod course;
mod cte;
mod ddl;
mod decided;
mod derive;
mod difference;
mod edits;
mod elements;
mod execute;
mod explain;
mod expr;
mod extent;
mod facts;
mod fetched;
mod figure;
mod found;
mod from;
mod function;
mod group;
mod hold;
mod holder;
mod insert;
mod joined;
mod kept;
mod kind;
mod list;
mod listed;
mod literal;
mod meant;
mod merge;
mod moment;
mod moved;
mod namespace;
mod nullif;
mod operand;
mod order;
mod padding;
mod params;
mod part;
mod passing;
mod prepare;
mod protection;
mod query;
mod records;
mod refusals;
mod relation;
mod routine;
mod scope;
mod seal;
mod select;
mod sequence;
mod setop;
mod settings;
mod source;
mod span;
mod spelled;
mod statement;
mod term;
#[cfg(test)]
mod tests;
mod touched;
mod truth;
mod type_name;
mod unnest;
mod update;
mod using;
mod utility;
pub(crate) mod view;
mod written;

use std::{ops::Range, sync::Arc};

use crate::{
    Plan, Refusal, Ruleset,
    catalog::Relation,
    plan::{ClientParam, Effect, Output, ScopePart, ScopeQuery, ServerParam, StatementPlan},
    text::{INLINE_DEPTH, MAX_DEPTH, Tokens, Verb, depth, split, verb},
    types::FormatSettings,
};
pub use course::{Course, Session as CourseSession};
pub use kept::{Kept, Remembered, effects, no_such_statement};
pub use settings::{cut, cut_before, in_one_transaction};

use analyser::Analyser;
use protection::Protection;
use statement::{Changes, Door, Verdict};

/// What the analysis must know of the session. The server itself reported every part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// `current_schemas(true)`: effective search path, `pg_temp_N` and `pg_catalog` in their places.
    pub schemas: Vec<String>,
    /// Relations that only this session may know: its temporary ones, and those newer than the catalog. They come
    /// before the catalog's.
    pub relations: Vec<Relation>,
    /// `standard_conforming_strings` is on and `client_encoding` is UTF8.
    pub readable_text: bool,
    /// Settings for literals.
    pub format: FormatSettings,
}

/// Which protocol the text came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Query: several statements, no parameters, slots become literals.
    Simple,
    /// Parse: one statement, slots become server parameters.
    Extended,
}

/// Enough stack for a statement of the greatest depth, in bytes. Only what is used of it takes memory.
const DEEP_STACK_BYTES: usize = 256 << 20;

impl Ruleset {
    /// Analyses a text for a session that keeps nothing by name. See [`Ruleset::analyse_in`].
    pub fn analyse(
        &self,
        sql: &str,
        view: &SessionView,
        protocol: Protocol,
        param_oids: &[u32],
    ) -> Result<Plan, Refusal> {
        self.analyse_in(sql, view, &kept::Nothing, protocol, param_oids)
    }

    /// Analyses a text that may touch something protected (`Scan::protected`), or something that the session keeps
    /// by name (`Scan::names`).
    ///
    /// `param_oids` are the parameter types that the client declared in Parse; 0 or missing: not declared.
    /// A refusal of a later statement of a simple string is in its `StatementPlan`; `Err` if nothing can be sent.
    pub fn analyse_in(
        &self,
        sql: &str,
        view: &SessionView,
        kept: &dyn Kept,
        protocol: Protocol,
        param_oids: &[u32],
    ) -> Result<Plan, Refusal> {
        if !view.readable_text {
            return Err(Refusal::unsupported(
                "settings-not-readable",
                "a statement that names something protected cannot be read with these settings",
            )
            .detail("standard_conforming_strings is off, or client_encoding is not UTF8.")
            .hint("SET standard_conforming_strings = on; SET client_encoding = 'UTF8'."));
        }
        let tokens = Tokens::read(sql)?;
        let statements = split(&tokens);
        let deepest = statements
            .iter()
            .map(|statement| depth(&tokens, statement))
            .max()
            .unwrap_or(0);
        let protection = Protection::of(self, view);
        let door = Door {
            rules: self,
            protection: &protection,
            view,
            protocol,
            oids: param_oids,
            tokens: &tokens,
            kept,
        };
        // Beyond the greatest depth nothing is parsed.
        if deepest <= INLINE_DEPTH || deepest > MAX_DEPTH {
            return door.plan(&statements);
        }
        std::thread::scope(|threads| {
            let deep = std::thread::Builder::new().stack_size(DEEP_STACK_BYTES);
            let done = deep.spawn_scoped(threads, || door.plan(&statements));
            let done = done.ok().and_then(|thread| thread.join().ok());
            done.unwrap_or_else(|| {
                Err(Refusal::unsupported(
                    "statement-too-complex",
                    "the statement could not be analysed",
                ))
            })
        })
    }
}

/// The bare names of those of a session's own relations that hold or read sealed values.
pub(crate) fn own_names(rules: &Ruleset, view: &SessionView) -> Vec<String> {
    let protection = Protection::of(rules, view);
    let relations = view.relations.iter();
    relations
        .filter(|relation| protection.standing(relation) != protection::Standing::Plain)
        .map(|relation| relation.name.clone())
        .collect()
}

/// A refusal of pgveil's own points at least at its statement; where Postgres gives no position there is none.
fn located(refusal: Refusal, start: usize) -> Refusal {
    if refusal.anchor == "invalid-input" {
        refusal
    } else {
        refusal.at(start)
    }
}

impl Door<'_> {
    /// Judges all statements of a text.
    fn plan(&self, statements: &[Range<usize>]) -> Result<Plan, Refusal> {
        let mut plan = Plan::default();
        let mut changed = false;
        if self.protocol == Protocol::Extended && statements.len() > 1 {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(Refusal::new("42601", "several-statements", message));
        }
        let mut settled = settings::Settled::default();
        let mut names = kept::Names::new(self.kept);
        for statement in statements {
            let judged = settled
                .check(self, statement)
                .and_then(|()| self.judge_kept(statement, &names))
                .and_then(|judged| settled.check_kept(judged));
            let range = self.tokens.bytes(statement);
            let mut effect = Effect::None;
            let mut copy = None;
            let (mut output, tag, refused) = match judged {
                Ok(judged) => {
                    effect = judged.effect;
                    plan.answers_itself |= judged.answers_itself;
                    match judged.verdict {
                        Verdict::Relay => (judged.relayed, None, None),
                        Verdict::Changed(mut changes) => {
                            settled.fill_scopes(&mut changes.slots);
                            changed = true;
                            let tag = changes.tag;
                            (plan.add(*changes), tag, None)
                        }
                        Verdict::Copied(changes, copied) => {
                            changed = true;
                            copy = Some(Arc::new(copied));
                            (plan.add(*changes), None, None)
                        }
                    }
                }
                Err(refusal) if plan.statements.is_empty() => {
                    return Err(located(refusal, range.start));
                }
                Err(refusal) => (Output::Unknown, None, Some(located(refusal, range.start))),
            };
            if let Effect::Declare { rows, .. } = &mut effect {
                // A cursor's rows come with FETCH.
                *rows = std::mem::replace(&mut output, Output::None);
            }
            let stop = refused.is_some();
            names.follow(&effect);
            settled.after(self, statement, &effect);
            plan.statements.push(StatementPlan {
                range,
                output,
                tag,
                refused,
                copy,
                effect,
            });
            if stop {
                break;
            }
        }
        if self.protocol == Protocol::Extended && !changed {
            plan.relay_parameters(self);
        }
        Ok(plan)
    }

    /// The number of parameters that the client uses or declares.
    fn parameter_count(&self) -> usize {
        let whole = 0..self.tokens.len();
        if matches!(verb(self.tokens, &whole), Some(Verb::Prepare { .. })) {
            // What stands in it are the parameters of the statement inside.
            return self.oids.len();
        }
        let numbers = (0..self.tokens.len()).filter_map(|at| match self.tokens.kind(at) {
            sqlparser::tokenizer::Token::Placeholder(_) => {
                self.tokens.raw(at)[1..].parse::<usize>().ok()
            }
            _ => None,
        });
        numbers
            .filter(|number| u16::try_from(*number).is_ok())
            .max()
            .unwrap_or(0)
            .max(self.oids.len())
    }
}

impl Plan {
    fn add(&mut self, mut changes: Changes) -> Output {
        let first = self.slots.len();
        let asked = self.scope_queries.len();
        for part in changes.slots.iter_mut().flat_map(|slot| &mut slot.scope) {
            if let ScopePart::Asked { query, .. } = part {
                *query += asked;
            }
        }
        let statement = self.statements.len();
        let queries = changes.scope_queries.into_iter();
        self.scope_queries
            .extend(queries.map(|query| ScopeQuery { statement, ..query }));
        self.edits.extend(changes.edits.into_iter().map(|mut edit| {
            if let crate::plan::Replacement::Slot(slot) = &mut edit.with {
                *slot += first;
            }
            edit
        }));
        self.slots.extend(changes.slots);
        self.server_params = changes.parameters.server;
        self.client_params = changes.parameters.client;
        let untold = changes.parameters.untold.into_iter();
        self.untold = untold.map(|slot| slot + first).collect();
        for note in changes.notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        changes.output
    }

    /// Parameters of a statement that is relayed as it is.
    fn relay_parameters(&mut self, door: &Door<'_>) {
        let count = door.parameter_count();
        self.server_params = (0..count).map(ServerParam::Client).collect();
        self.client_params = (0..count).map(ClientParam::Server).collect();
    }
}
