//! Functions and procedures that are made through the proxy: the body is analysed like a statement and kept as it would be
//! sent, with search terms in the place of literals; what it returns or compares sealed gets the domain as its type.

use std::{ops::Range, sync::Arc};

use sqlparser::tokenizer::Token as Kind;

use super::{
    Returned,
    argument::Known,
    body,
    head::{Body, Declared, Head},
    plpgsql, returned_as, returns,
    run::{self, Ran, Wanted},
    types,
};
use crate::{
    Refusal,
    analysis::{
        edits::Edits,
        kind,
        query::Rows,
        refusals,
        statement::{Changes, Door, Verdict},
        term::is_text,
    },
    catalog::{Column, Function, Parameter},
    plan::{Output, Replacement},
    ruleset::Protected,
    text::{Tokens, quote_identifier},
    types::LogicalType,
};

/// What the value behind RETURN is read as the value of.
const SELECT: &str = "SELECT ";

/// What quotes the body that is kept.
const QUOTE: &str = "$pgveil$";

impl Head {
    /// The statements of the body.
    pub(super) fn text(&self, tokens: &Tokens<'_>) -> Option<String> {
        Some(match &self.body {
            Body::Text(at) => match tokens.kind(*at) {
                Kind::SingleQuotedString(text) | Kind::EscapedStringLiteral(text) => text.clone(),
                Kind::DollarQuotedString(quoted) => quoted.value.clone(),
                _ => return None,
            },
            Body::Block(range) => tokens.sql[tokens.bytes(range)].to_owned(),
            Body::Value(range) => format!("{SELECT}{}", &tokens.sql[tokens.bytes(range)]),
        })
    }

    /// Judges the statement. `None`: its body names nothing protected, or is in a language that is not read here.
    pub(in crate::analysis) fn judge(
        &self,
        door: &Door<'_>,
        statement: &Range<usize>,
    ) -> Result<Option<Verdict>, Refusal> {
        let Some(text) = self.text(door.tokens) else {
            return Ok(None);
        };
        let is_read = self.language == "sql" || self.language == "plpgsql";
        if !is_read || !door.protection.named_in(&text) {
            return Ok(None);
        }
        let function = self.function(door, &text);
        if function.returned().is_some_and(types::is_trigger) {
            return Ok(None);
        }
        let start = door.tokens.range(statement.start).start;
        self.make(door, &text, function)
            .map(Some)
            .map_err(|refusal| {
                Refusal {
                    position: None,
                    ..refusal
                }
                .at(start)
            })
    }

    fn make(
        &self,
        door: &Door<'_>,
        text: &str,
        mut function: Function,
    ) -> Result<Verdict, Refusal> {
        if calls(text, &function.name)? {
            return Err(refusals::construct("a function that calls itself"));
        }
        let unnamed = { function.arguments() }
            .filter(|argument| argument.column.name.is_empty())
            .count();
        if !matches!(self.body, Body::Text(_)) && unnamed > 1 {
            return Err(refusals::construct(
                "a body that is no string and has arguments without names",
            ));
        }
        if is_deparsed(text)? {
            return restored(door, &function);
        }
        let view = body::within(door.view, &function)?;
        let mut known = vec![None; function.arguments().count()];
        // With the domain in the place of the types of variables that hold sealed values.
        let mut text = text.to_owned();
        let mut outputs = Vec::new();
        let mut kept = loop {
            let returned = returned_by(door, &function)?;
            let body = run::Body {
                rules: door.rules,
                view: &view,
                function: &function,
                returned: &returned,
                text: &text,
                stored: false,
                nested: 0,
            };
            let mut wanted = None;
            match body.run(&known, &mut wanted) {
                Ok(kept) => break kept,
                Err(refusal) => match wanted {
                    None => return Err(refusal),
                    Some(Wanted::Argument((index, column))) => self
                        .learn(door, &mut function, &mut known, index, column)
                        .map_err(|other| other.unwrap_or(refusal))?,
                    Some(Wanted::Variable(name, logical)) => {
                        if let Some(output) = self.output_for(door, &mut function, &name, logical) {
                            outputs.push(output);
                        } else {
                            let changed = retyped(door, &text, &name, logical)?;
                            text = changed.ok_or(refusal)?;
                        }
                    }
                },
            }
        };
        kept.changed |= text != function.body;
        let mut edits = Edits::default();
        self.retype_arguments(door, &known, &mut edits);
        for (types, logical) in outputs {
            retype(door, &types, logical, &mut edits);
        }
        if let Some(selected) = &kept.selected {
            self.retype_results(door, &mut function, selected, &mut edits)?;
        }
        function.body = stand_in(&kept);
        let (returned, made) = body::read(door.rules, door.view, &function, 0)
            .map_err(|inner| refusals::function_not_callable(&inner))?;
        if let (Some(selected), Returned::Value(_) | Returned::Row { .. }) =
            (kept.selected, &returned)
            && function.language == "sql"
        {
            let shapes = |rows: &Rows| -> Vec<_> {
                rows.columns
                    .iter()
                    .map(|column| column.kind.shape())
                    .collect()
            };
            if shapes(&made.rows) != shapes(&returns(&returned, selected)?) {
                return Err(refusals::not_understood(
                    "The server would keep a body that returns other columns",
                ));
            }
        }
        if kept.changed {
            self.replace_body(door, kept.pieces, &mut edits)?;
        }
        let notes = vec![
            "The body is kept with search terms in the place of literals for protected columns, and sealed values in it keep \
             their domains."
                .to_owned(),
        ];
        let edits = edits
            .finish()
            .ok_or_else(|| refusals::not_understood("Two changes of the text overlap"))?;
        Ok(Verdict::Changed(Box::new(Changes {
            edits,
            slots: kept.slots,
            parameters: door.no_parameters(),
            output: Output::None,
            notes,
            scope_queries: Vec::new(),
            tag: None,
        })))
    }

    /// The function as the catalog would have it, with the types that the client wrote.
    fn function(&self, door: &Door<'_>, text: &str) -> Function {
        let parameters =
            { self.parameters.iter().enumerate() }.map(|(number, declared)| Parameter {
                mode: declared.mode,
                column: Column {
                    name: declared.name.clone(),
                    attnum: i16::try_from(number + 1).unwrap_or(i16::MAX),
                    ..types::column(door.rules, door.view, door.tokens, &declared.types)
                },
            });
        let mut function = Function {
            name: self.name.last().cloned().unwrap_or_default(),
            body: text.to_owned(),
            language: self.language.clone(),
            kind: if self.procedure { 'p' } else { 'f' },
            returns_set: self.set,
            settings: self.settings.clone(),
            parameters: parameters.collect(),
            ..Function::default()
        };
        let returned = match &self.returns {
            Some(types) => {
                let row = types::row_of(door.rules, door.view, door.tokens, types);
                function.returns_relation = row.map(|relation| relation.oid);
                types::column(door.rules, door.view, door.tokens, types)
            }
            None if function.outputs().next().is_some() => Column {
                type_oid: types::RECORD,
                base_type_oid: types::RECORD,
                ..Column::default()
            },
            None => Column {
                type_oid: types::VOID,
                base_type_oid: types::VOID,
                ..Column::default()
            },
        };
        function.parameters.push(Parameter {
            mode: 'r',
            column: returned,
        });
        function
    }

    /// Makes an argument that the body compares with a protected column one of that column's domain.
    fn learn(
        &self,
        door: &Door<'_>,
        function: &mut Function,
        known: &mut Known,
        index: usize,
        column: Arc<Protected>,
    ) -> Result<(), Option<Refusal>> {
        let given = self.inputs().nth(index);
        let (Some((position, declared)), Some(None)) = (given, known.get(index)) else {
            return Err(None);
        };
        let bare = column.logical.without_modifiers();
        let parameter = &mut function.parameters[position].column;
        let sealed = parameter.sealed_domain() == Some(column.logical.domain());
        let given = types::logical(door.rules, door.view, door.tokens, &declared.types)
            .map(LogicalType::without_modifiers);
        let fits = given.is_some_and(|given| given == bare || is_text(given) && is_text(bare));
        if declared.mode != 'i' || !(sealed || fits) || declared.default {
            return Err(Some(refusals::other_argument(&column, &declared.name)));
        }
        *parameter = Column {
            name: parameter.name.clone(),
            attnum: parameter.attnum,
            ..types::sealed(column.logical)
        };
        known[index] = Some(column);
        Ok(())
    }

    /// Makes an OUT parameter that gets a sealed value one of the domain; gives the tokens of its type. `None`: it is
    /// none, or of another type.
    fn output_for(
        &self,
        door: &Door<'_>,
        function: &mut Function,
        name: &str,
        logical: LogicalType,
    ) -> Option<(Range<usize>, LogicalType)> {
        let mut all = self.parameters.iter().enumerate();
        let (index, declared) =
            all.find(|(_, declared)| declared.name == name && matches!(declared.mode, 'o' | 't'))?;
        let parameter = &mut function.parameters.get_mut(index)?.column;
        let given = types::logical(door.rules, door.view, door.tokens, &declared.types);
        let fits =
            parameter.sealed_domain().is_none() && given.is_some_and(|given| holds(given, logical));
        fits.then(|| {
            *parameter = Column {
                name: parameter.name.clone(),
                attnum: parameter.attnum,
                ..types::sealed(logical)
            };
            (declared.types.clone(), logical)
        })
    }

    /// The parameters that a caller gives, with their places among all.
    fn inputs(&self) -> impl Iterator<Item = (usize, &Declared)> {
        let all = self.parameters.iter().enumerate();
        all.filter(|(_, declared)| matches!(declared.mode, 'i' | 'b' | 'v'))
    }

    fn retype_arguments(&self, door: &Door<'_>, known: &Known, edits: &mut Edits) {
        for ((_, declared), known) in self.inputs().zip(known) {
            if let Some(column) = known {
                retype(door, &declared.types, column.logical, edits);
            }
        }
    }

    /// Gives what the function returns sealed the domain, in the text and in `function`.
    fn retype_results(
        &self,
        door: &Door<'_>,
        function: &mut Function,
        rows: &Rows,
        edits: &mut Edits,
    ) -> Result<(), Refusal> {
        let outputs: Vec<usize> = { self.parameters.iter().enumerate() }
            .filter(|(_, declared)| matches!(declared.mode, 'o' | 'b' | 't'))
            .map(|(index, _)| index)
            .collect();
        let places: Vec<(usize, &Range<usize>)> = match (&self.returns, outputs.is_empty()) {
            (_, false) => outputs
                .iter()
                .map(|index| (*index, &self.parameters[*index].types))
                .collect(),
            (Some(types), true) if function.returns_relation.is_none() => {
                vec![(function.parameters.len() - 1, types)]
            }
            _ => Vec::new(),
        };
        if places.len() != rows.columns.len() {
            return Ok(());
        }
        for ((index, types), column) in places.into_iter().zip(&rows.columns) {
            let kind::Kind::Sealed(sealed) = &column.kind else {
                continue;
            };
            let parameter = &mut function.parameters[index].column;
            if returned_as(&column.kind, parameter, false).is_ok() {
                continue;
            }
            let bare = sealed.shown.without_modifiers();
            let given = types::logical(door.rules, door.view, door.tokens, types)
                .map(LogicalType::without_modifiers);
            if given != Some(bare) {
                let declared = &door.tokens.sql[door.tokens.bytes(types)];
                return Err(refusals::other_result(sealed.column(), declared));
            }
            *parameter = Column {
                name: parameter.name.clone(),
                attnum: parameter.attnum,
                ..types::sealed(sealed.logical())
            };
            retype(door, types, sealed.logical(), edits);
        }
        Ok(())
    }

    fn replace_body(
        &self,
        door: &Door<'_>,
        mut pieces: Vec<Replacement>,
        edits: &mut Edits,
    ) -> Result<(), Refusal> {
        if let Body::Value(_) = self.body {
            let mut texts = pieces.iter_mut().filter_map(|piece| match piece {
                Replacement::Text(text) if !text.is_empty() => Some(text),
                _ => None,
            });
            let first = texts.next();
            let value = first.and_then(|first| {
                *first = first.strip_prefix(SELECT)?.to_owned();
                Some(())
            });
            value.ok_or_else(|| {
                refusals::not_understood("The value behind RETURN would be changed")
            })?;
        }
        let (range, quote) = match &self.body {
            Body::Text(at) => (*at..at + 1, QUOTE),
            Body::Block(range) | Body::Value(range) => (range.clone(), ""),
        };
        let holds =
            |piece: &Replacement| matches!(piece, Replacement::Text(text) if text.contains(QUOTE));
        if pieces.iter().any(holds) {
            return Err(refusals::not_understood(
                "The body holds the quote of pgveil",
            ));
        }
        let bytes = door.tokens.bytes(&range);
        edits.replace(bytes.clone(), Replacement::Text(quote.to_owned()));
        edits.close_with(bytes.end, pieces);
        edits.close(bytes.end, quote);
        Ok(())
    }
}

/// Whether a variable of a type may hold every value of another one, and shows it alike.
fn holds(variable: LogicalType, logical: LogicalType) -> bool {
    let bare = variable == variable.without_modifiers();
    logical.fits_into(variable) || (bare && is_text(variable) && is_text(logical))
}

/// A body in PL/pgSQL in which this variable is of the domain. `None`: it has no such variable, or one of another type.
fn retyped(
    door: &Door<'_>,
    text: &str,
    name: &str,
    logical: LogicalType,
) -> Result<Option<String>, Refusal> {
    let tokens = Tokens::read(text)?;
    let block = plpgsql::read(&tokens)?;
    let mut named = block
        .variables
        .iter()
        .filter(|variable| variable.name == name);
    let (Some(variable), None) = (named.next(), named.next()) else {
        return Ok(None);
    };
    let given = types::logical(door.rules, door.view, &tokens, &variable.types);
    if variable.initial || !given.is_some_and(|given| holds(given, logical)) {
        return Ok(None);
    }
    let bytes = tokens.bytes(&variable.types);
    let domain = format!("pgveil.{}", quote_identifier(logical.domain()));
    let (before, behind) = (&text[..bytes.start], &text[bytes.end..]);
    Ok(Some(format!("{before}{domain}{behind}")))
}

fn returned_by(door: &Door<'_>, function: &Function) -> Result<Returned, Refusal> {
    Returned::of(door.rules, door.view, function)
        .ok_or_else(|| refusals::construct("a function that returns records without OUT"))
}

/// Whether a body calls a function of this name. An alias with a list of columns (`AS f (a)`), a table that is written
/// to (`INTO f (a)`) and a query with a name (`WITH f (a) AS`) are no calls.
fn calls(text: &str, name: &str) -> Result<bool, Refusal> {
    let tokens = Tokens::read(text)?;
    Ok((0..tokens.len()).any(|at| {
        let named = tokens.name(at).is_some_and(|word| word == name);
        let behind = |word: &str| at > 0 && tokens.is_word(at - 1, word);
        let is_query = || {
            let close = tokens.pair(at + 1);
            close.is_some_and(|close| {
                tokens.is_word(close + 1, "as")
                    && matches!(tokens.kind(close + 2), Kind::LParen)
                    && (tokens.is_word(close + 3, "select") || tokens.is_word(close + 3, "with"))
            })
        };
        named
            && matches!(tokens.kind(at + 1), Kind::LParen)
            && !behind("as")
            && !behind("into")
            && !is_query()
    }))
}

/// Whether a body names something of schema pgveil, as one does that pgveil wrote (a dump).
fn is_deparsed(text: &str) -> Result<bool, Refusal> {
    let tokens = Tokens::read(text)?;
    let is_ours =
        |at: usize| tokens.is_word(at, "pgveil") && matches!(tokens.kind(at + 1), Kind::Period);
    Ok((0..tokens.len()).any(is_ours))
}

/// A function that is kept as it stands, if it can be called as it stands.
fn restored(door: &Door<'_>, function: &Function) -> Result<Verdict, Refusal> {
    body::read(door.rules, door.view, function, 0)
        .map_err(|inner| refusals::function_not_callable(&inner))?;
    let note = "The body is one that pgveil wrote before; it is kept as it stands.";
    Ok(Verdict::Changed(Box::new(Changes {
        edits: Vec::new(),
        slots: Vec::new(),
        parameters: door.no_parameters(),
        output: Output::None,
        notes: vec![note.to_owned()],
        scope_queries: Vec::new(),
        tag: None,
    })))
}

/// The body as the server will keep it, with some term in the place of each.
fn stand_in(kept: &Ran) -> String {
    let text = kept.pieces.iter().map(|piece| match piece {
        Replacement::Text(text) => text.clone(),
        Replacement::Param(param) => format!("${}", param + 1),
        Replacement::Slot(slot) => {
            let is_array = { kept.slots.get(*slot) }.is_some_and(|slot| slot.make.is_array());
            if is_array {
                "ARRAY['\\x00'::bytea]".to_owned()
            } else {
                "'\\x00'::bytea".to_owned()
            }
        }
    });
    text.collect()
}

/// Writes the domain in the place of a type.
fn retype(door: &Door<'_>, types: &Range<usize>, logical: LogicalType, edits: &mut Edits) {
    if door.tokens.is_word(types.start, "pgveil") {
        return;
    }
    let domain = format!("pgveil.{}", quote_identifier(logical.domain()));
    edits.replace(door.tokens.bytes(types), Replacement::Text(domain));
}
