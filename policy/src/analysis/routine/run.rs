//! The statements of a body, analysed in their order: as they would be sent, or as they are stored. What their rows become
//! (of the function, of a variable) is followed; which statements there are, `plpgsql` says.

use std::{ops::Range, sync::Arc};

use super::{
    Returned,
    argument::Known,
    locals::Locals,
    plpgsql::{self, Step, To},
    returns,
};
use crate::{
    Refusal,
    analysis::{
        Analyser, Protocol, SessionView, derive::check_stored_slot, protection::Protection,
        query::Rows, refusals, statement::parse,
    },
    catalog::Function,
    plan::{Replacement, Slot},
    ruleset::{Protected, Ruleset},
    text::{MAX_DEPTH, Tokens, depth, split},
    types::LogicalType,
};

/// A body to analyse.
pub(super) struct Body<'a> {
    pub(super) rules: &'a Ruleset,
    pub(super) view: &'a SessionView,
    pub(super) function: &'a Function,
    pub(super) returned: &'a Returned,
    pub(super) text: &'a str,
    /// It is run as it stands.
    pub(super) stored: bool,
    /// How many functions and views stand around it.
    pub(super) nested: usize,
}

/// What stopped the analysis of a body, where another type would help.
pub(super) enum Wanted {
    /// This argument is compared with this column.
    Argument((usize, Arc<Protected>)),
    /// This variable, or OUT parameter, gets a sealed value that is shown as this type.
    Variable(String, LogicalType),
}

/// What the analysis of a body found.
pub(super) struct Ran {
    /// The text as it would be sent.
    pub(super) pieces: Vec<Replacement>,
    pub(super) slots: Vec<Slot>,
    pub(super) changed: bool,
    /// What the function selects for its caller, as it is selected.
    pub(super) selected: Option<Rows>,
    /// What it yields under its declaration; not where the text still has other types.
    pub(super) rows: Rows,
    /// By row variable of these: its table.
    pub(super) tables: Vec<u32>,
}

impl Body<'_> {
    /// The statements of the body, in order, and its variables.
    fn steps(&self, tokens: &Tokens<'_>) -> Result<plpgsql::Block, Refusal> {
        if self.function.language == "plpgsql" {
            let mut block = plpgsql::read(tokens)?;
            if self.function.outputs().next().is_some() {
                // At the end of the body stands a RETURN.
                block.steps.push(Step::Return {
                    name: None,
                    next: false,
                });
            }
            return Ok(block);
        }
        let statements = split(tokens);
        let last = statements.len().saturating_sub(1);
        let steps = statements.into_iter().enumerate().map(|(index, tokens)| {
            let apart = tokens.end..tokens.end;
            let to = if index == last { To::Rows } else { To::Nowhere };
            Step::Statement { tokens, apart, to }
        });
        Ok(plpgsql::Block {
            steps: steps.collect(),
            ..plpgsql::Block::default()
        })
    }

    /// Analyses all statements. `wanted` gets what stopped it, if that is an argument of another kind.
    pub(super) fn run(&self, known: &Known, wanted: &mut Option<Wanted>) -> Result<Ran, Refusal> {
        let tokens = Tokens::read(self.text)?;
        let protection = Protection::of(self.rules, self.view);
        let changes_path = |at: usize| tokens.name(at).is_some_and(|name| name == "set_config");
        if (0..tokens.len()).any(changes_path) {
            return Err(refusals::not_understood(
                "It changes settings while it runs",
            ));
        }
        let block = self.steps(&tokens)?;
        let mut locals = Locals::of(self.rules, self.view, self.function, &tokens, &block)?;
        let mut ran = Ran {
            pieces: Vec::new(),
            slots: Vec::new(),
            changed: false,
            selected: None,
            rows: Rows::default(),
            tables: Vec::new(),
        };
        let mut behind = 0;
        for step in &block.steps {
            match step {
                Step::Statement {
                    tokens: range,
                    apart,
                    to,
                } => {
                    let made = self.statement(
                        &tokens,
                        &protection,
                        (range, apart),
                        known,
                        &locals,
                        wanted,
                    )?;
                    let (rows, first) =
                        self.keep(&mut ran, made, tokens.bytes(range), &mut behind)?;
                    self.follow(&mut ran, rows, first, to, &mut locals)
                        .inspect_err(|_| {
                            let unfit = locals.unfit.take();
                            *wanted = unfit.map(|(name, logical)| Wanted::Variable(name, logical));
                        })?;
                }
                Step::Inner { tokens: range, .. }
                    if locals.check_blind(&tokens, &protection, range).is_ok() => {}
                Step::Inner {
                    tokens: range,
                    exists,
                } => {
                    let none = range.end..range.end;
                    let made = self.statement(
                        &tokens,
                        &protection,
                        (range, &none),
                        known,
                        &locals,
                        wanted,
                    )?;
                    let (rows, _) = self.keep(&mut ran, made, tokens.bytes(range), &mut behind)?;
                    if !exists && (rows.open || rows.is_sealed()) {
                        return Err(refusals::not_understood(
                            "A protected value stands in an expression of PL/pgSQL",
                        ));
                    }
                }
                Step::Fetch { cursor, names } => locals.fetch(cursor, names)?,
                // Of a set it is the end.
                Step::Return {
                    name: None,
                    next: false,
                } if self.function.returns_set => {}
                Step::Return { name, .. } if name.as_ref().is_none_or(|name| locals.has(name)) => {
                    let rows = locals.returned(name.as_deref(), self.returned, &mut ran.tables)?;
                    // OUT parameters that were never assigned are NULL.
                    if !rows.columns.is_empty() {
                        self.yields(&mut ran, rows)?;
                    }
                }
                Step::ReturnNull => {}
                Step::Return { .. } | Step::ReturnPlain => {
                    let sealed = self.returned.columns().iter();
                    if { sealed }.any(|column| column.sealed_domain().is_some()) {
                        return Err(refusals::not_understood(
                            "It returns a value that is not sealed as one that is",
                        ));
                    }
                }
            }
        }
        ran.pieces
            .push(Replacement::Text(self.text[behind..].to_owned()));
        for range in &block.blind {
            locals.check_blind(&tokens, &protection, range)?;
        }
        Ok(ran)
    }

    fn statement<'t>(
        &'t self,
        tokens: &'t Tokens<'t>,
        protection: &'t Protection<'t>,
        (range, apart): (&Range<usize>, &Range<usize>),
        known: &Known,
        locals: &Locals,
        wanted: &mut Option<Wanted>,
    ) -> Result<(Analyser<'t>, Rows), Refusal> {
        if depth(tokens, range) > MAX_DEPTH {
            return Err(refusals::not_understood(
                "A statement of it is nested too deeply",
            ));
        }
        let protocol = if self.stored {
            Protocol::Extended
        } else {
            Protocol::Simple
        };
        let mut analyser = Analyser::new(self.rules, protection, self.view, protocol, &[], tokens);
        analyser.stored = self.stored;
        analyser.nested = self.nested;
        analyser.enter_body(self.function, known)?;
        locals.enter(&mut analyser);
        analyser.account_types(range);
        analyser.account_tokens(apart.clone());
        let (parsed, mut left_out) = parse(tokens, protection, range, apart)?;
        left_out.extend(apart.clone());
        let analysed = analyser.statement(&parsed);
        *wanted = analyser.wanted_argument.take().map(Wanted::Argument);
        let (mut rows, _) = analysed?;
        analyser.check_ledger(range, &left_out)?;
        if !self.stored {
            analyser.check_settings()?;
        }
        if !analyser.scope_queries.is_empty() {
            return Err(refusals::asks_in_function());
        }
        for slot in &analyser.slots {
            check_stored_slot(slot)?;
        }
        rows.facts.retain(|fact| !fact.has_parameter());
        Ok((analyser, rows))
    }

    /// Adds an analysed statement, and the text before it; gives its rows and where its row variables begin.
    fn keep(
        &self,
        ran: &mut Ran,
        (analyser, rows): (Analyser<'_>, Rows),
        bytes: Range<usize>,
        behind: &mut usize,
    ) -> Result<(Rows, usize), Refusal> {
        let first = ran.tables.len();
        let tables = analyser.instances.iter().map(|table| table.oid);
        ran.tables.extend(tables);
        let before = self.text[*behind..bytes.start].to_owned();
        ran.pieces.push(Replacement::Text(before));
        self.copy(ran, analyser, &bytes)?;
        *behind = bytes.end;
        Ok((rows, first))
    }

    /// The statement as it would be sent, and its slots.
    fn copy(
        &self,
        ran: &mut Ran,
        analyser: Analyser<'_>,
        bytes: &Range<usize>,
    ) -> Result<(), Refusal> {
        let first = ran.slots.len();
        let copied = analyser.edits.copy(self.text, bytes).into_iter();
        ran.pieces.extend(copied.map(|piece| match piece {
            Replacement::Slot(slot) => Replacement::Slot(first + slot),
            other => other,
        }));
        let edits = analyser.edits.finish();
        let edits = edits.ok_or_else(|| refusals::not_understood("Two changes overlap"))?;
        let changed = !(edits.is_empty() && analyser.slots.is_empty());
        if self.stored && changed {
            return Err(refusals::stored_comparison());
        }
        ran.changed |= changed;
        ran.slots.extend(analyser.slots);
        Ok(())
    }

    fn follow(
        &self,
        ran: &mut Ran,
        mut rows: Rows,
        first: usize,
        to: &To,
        locals: &mut Locals,
    ) -> Result<(), Refusal> {
        rows.renumber(&mut |instance| first + instance);
        match to {
            To::Nowhere => Ok(()),
            To::Variables(names) => locals.assign(names, rows),
            To::Cursor(cursor) => locals.open(cursor, rows),
            To::Rows if matches!(self.returned, Returned::Nothing) => Ok(()),
            To::Rows => self.yields(ran, rows),
        }
    }

    /// What the function returns, as it is selected and, where the types are those of its declaration, under them.
    fn yields(&self, ran: &mut Ran, rows: Rows) -> Result<(), Refusal> {
        ran.selected.get_or_insert_with(|| rows.clone());
        if !self.stored {
            return Ok(());
        }
        let rows = returns(self.returned, rows)?;
        ran.yields(rows)
    }
}

impl Ran {
    /// More of what the function yields.
    fn yields(&mut self, rows: Rows) -> Result<(), Refusal> {
        if self.rows.columns.is_empty() {
            self.rows = rows;
            return Ok(());
        }
        // Of several statements, nothing holds for all rows.
        self.rows.facts.clear();
        for (column, other) in self.rows.columns.iter_mut().zip(rows.columns) {
            let merged = column.kind.clone().merged(other.kind);
            column.kind = merged.ok_or_else(|| {
                refusals::not_understood("It returns different columns in different places")
            })?;
        }
        Ok(())
    }
}
