//! JSON documents that become rows: `json_to_recordset` and its kin in FROM. What a statement writes to protected columns
//! is sealed inside the document, so that the server makes sealed values of it. The statement is read twice: once to see
//! which members are written where, once with that known. Reads no documents (`types::records` does).

use std::{collections::HashMap, ops::Range, sync::Arc};

use sqlparser::{
    ast::{DataType, Expr, FunctionArg, ObjectName, ObjectNamePart, TableAlias},
    tokenizer::Token as Kind,
};

use super::{
    Analyser, Protocol,
    compare::strip,
    expr::Cx,
    facts::ask,
    from::unnamed,
    function::last_name,
    holder::{Document, Holder, Inside},
    kind::{self, Cell, Place, Sealed, Source},
    literal,
    meant::{UNKNOWN, Use, Wanted},
    namespace::{Column, Namespace, name_of},
    operand::Cast,
    query::Rows,
    refusals,
    relation::{idents_of, lookup},
    scope::{Part, planned, scope_parts},
    term::is_text,
};
use crate::{
    Refusal,
    plan::{self, Make, Member, Members, Rendering, Replacement, ScopePart, Slot},
    ruleset::{Held, Protected},
    types::{LogicalType, is_assignable},
};

/// A call that makes rows of a document.
#[derive(Clone)]
pub(super) struct Call {
    /// The function's name.
    token: usize,
    jsonb: bool,
    columns: Vec<Made>,
    /// The literal or parameter that the document is, if that can be told.
    document: Option<usize>,
}

/// A column of such rows.
#[derive(Clone)]
struct Made {
    name: String,
    /// Its type, if that is a logical one.
    logical: Option<LogicalType>,
    /// The domain that its type is, in place of one.
    domain: Option<String>,
    /// Where the statement names its type.
    named: Option<Range<usize>>,
}

/// What a call's document is to hold.
#[derive(Clone)]
pub(super) struct Decided {
    token: usize,
    document: usize,
    sealed: Vec<Want>,
    call: Call,
}

/// A member that is sealed.
#[derive(Clone)]
struct Want {
    index: usize,
    from: LogicalType,
    column: Arc<Protected>,
    parts: Vec<Of>,
    /// It is used for more than to be stored, and its column has a length.
    exact: bool,
}

/// A part of its scope.
#[derive(Clone)]
enum Of {
    Part(Part),
    /// Another member of the record.
    Member(usize),
}

/// What a function's name says: it reads a `jsonb`; it takes its columns from a row's type.
fn function_of(name: &ObjectName) -> Option<(bool, bool)> {
    let own = match name.0.as_slice() {
        [_] => true,
        [ObjectNamePart::Identifier(schema), _] => name_of(schema) == "pg_catalog",
        _ => false,
    };
    let last = last_name(name).filter(|_| own)?;
    Some(match last.as_str() {
        "json_to_recordset" | "json_to_record" => (false, false),
        "jsonb_to_recordset" | "jsonb_to_record" => (true, false),
        "json_populate_recordset" | "json_populate_record" => (false, true),
        "jsonb_populate_recordset" | "jsonb_populate_record" => (true, true),
        _ => return None,
    })
}

impl Analyser<'_> {
    /// `json_to_recordset(document) AS t(a int, b text)`, `json_populate_recordset(NULL::t, document)`. `None` if it is
    /// another function, or its columns are not known.
    pub(super) fn record_rows(
        &mut self,
        name: &ObjectName,
        args: &[FunctionArg],
        alias: Option<&TableAlias>,
        cx: Cx<'_>,
    ) -> Result<Option<Namespace>, Refusal> {
        let (Some((jsonb, populates)), Some(args)) = (function_of(name), unnamed(args)) else {
            return Ok(None);
        };
        let token = match name.0.last() {
            Some(ObjectNamePart::Identifier(ident)) => self.tokens.starting(ident.span.start),
            _ => None,
        };
        let made = match args.as_slice() {
            [document] if !populates => self.defined(alias).map(|made| (made, *document)),
            [base, document] if populates => self.of_row_type(base, alias).map(|m| (m, *document)),
            _ => None,
        };
        let (Some((columns, document)), Some(token)) = (made, token) else {
            return Ok(None);
        };
        self.check_function(name)?;
        let call = Call {
            token,
            jsonb,
            columns,
            document: self.document_of(document, jsonb),
        };
        let decided = self.decided.iter().find(|decided| decided.token == token);
        let decided = decided.cloned();
        match &decided {
            Some(_) => {
                let kind = self.value(document, cx)?;
                let whole = matches!(&kind, kind::Kind::Holder(holder)
                    if matches!(holder.inside(), Inside::Json(document) if document.given == Some(token)));
                if !whole {
                    let what = "a JSON document that is changed before it becomes rows";
                    return Err(refusals::construct(what).at(self.start_of(document)));
                }
            }
            None => {
                self.plain(
                    document,
                    cx,
                    "a function that makes rows of a JSON document",
                )?;
            }
        }
        self.instances.push(&self.rules.nowhere);
        let instance = self.instances.len() - 1;
        let cell = |index: usize| {
            i16::try_from(index + 1)
                .ok()
                .map(|attnum| Cell { instance, attnum })
        };
        let columns = call.columns.iter().enumerate().map(|(index, made)| Column {
            name: Some(made.name.clone()),
            kind: kind::Kind::Plain(cell(index)),
        });
        let mut columns: Vec<_> = columns.collect();
        for want in decided.iter().flat_map(|decided| &decided.sealed) {
            let parts = want.parts.iter().map(|part| match part {
                Of::Part(part) => Some(part.clone()),
                Of::Member(index) => cell(*index).map(Part::Cell),
            });
            let Some(parts) = parts.collect::<Option<Vec<_>>>() else {
                return Err(refusals::construct("a record of so many columns"));
            };
            columns[want.index].kind = kind::Kind::Sealed(Sealed {
                sources: vec![Source {
                    column: Arc::clone(&want.column),
                    place: Place::Meant(parts),
                }],
                computed: true,
                shown: want.from,
                converted: false,
                attribute: None,
            });
            if let Some(named) = &call.columns[want.index].named {
                let bytes = self.tokens.bytes(named);
                self.edits
                    .replace(bytes, Replacement::Text("bytea".to_owned()));
            }
        }
        self.calls.insert(instance, call);
        if populates && decided.is_none() {
            self.want_own(args[0], instance)?;
        }
        let named = alias.map(|alias| TableAlias {
            columns: Vec::new(),
            ..alias.clone()
        });
        for column in alias.iter().flat_map(|alias| &alias.columns) {
            self.account(&column.name);
        }
        let rows = Rows {
            columns,
            ..Rows::default()
        };
        let last = last_name(name);
        self.derived(rows, named.as_ref(), last).map(Some)
    }

    /// The columns of a list of definitions.
    fn defined(&mut self, alias: Option<&TableAlias>) -> Option<Vec<Made>> {
        let alias = alias.filter(|alias| !alias.columns.is_empty())?;
        let mut columns = Vec::new();
        for column in &alias.columns {
            column.data_type.as_ref()?;
            let start = self.tokens.starting(column.name.span.start)? + 1;
            let end = self.type_end(start);
            let named = start..end;
            let (logical, domain) = match self.named_type(named.clone()) {
                Cast::To(logical) => (Some(logical), None),
                Cast::Array(element) => (super::operand::array_of(element), None),
                Cast::Other(text) => {
                    let text = text.replace('"', "");
                    (None, text.strip_prefix("pgveil.").map(str::to_owned))
                }
                Cast::None | Cast::Read(_) => (None, None),
            };
            self.account_tokens(named.clone());
            columns.push(Made {
                name: name_of(&column.name),
                logical,
                domain,
                named: Some(named),
            });
        }
        Some(columns)
    }

    /// Where a type ends in a list of definitions.
    pub(super) fn type_end(&self, mut at: usize) -> usize {
        loop {
            at = match self.tokens.kind(at) {
                Kind::Comma | Kind::RParen | Kind::SemiColon | Kind::EOF => return at,
                Kind::LParen => self.tokens.pair(at).map_or(at + 1, |close| close + 1),
                _ => at + 1,
            };
        }
    }

    /// The columns of `NULL::table`.
    fn of_row_type(&mut self, base: &Expr, alias: Option<&TableAlias>) -> Option<Vec<Made>> {
        if alias.is_some_and(|alias| !alias.columns.is_empty()) {
            return None;
        }
        let relation = self.row_type(base)?;
        if relation.reshaped || relation.is_view() {
            return None;
        }
        let mut columns = Vec::new();
        for column in &relation.columns {
            let logical = match self.rules.held(relation, column) {
                Held::Protected(protected) => Some(protected.logical),
                Held::Plain => LogicalType::from_oid(column.base_type_oid, column.typmod),
                Held::Moved(_) | Held::Strange => return None,
            };
            columns.push(Made {
                name: column.name.clone(),
                logical,
                domain: None,
                named: None,
            });
        }
        let extent = self.tokens.extent(base).ok()?;
        self.account_tokens(extent);
        Some(columns)
    }

    /// The table whose row type `NULL` is cast to.
    fn row_type(&self, base: &Expr) -> Option<&'_ crate::catalog::Relation> {
        let Expr::Cast {
            expr,
            data_type: DataType::Custom(name, modifiers),
            ..
        } = strip(base)
        else {
            return None;
        };
        let null =
            matches!(strip(expr), Expr::Value(value) if value.value == sqlparser::ast::Value::Null);
        let names = idents_of(name)
            .ok()
            .filter(|_| null && modifiers.is_empty())?;
        let names: Vec<_> = names.into_iter().map(name_of).collect();
        lookup(self.rules, self.view, &names)
    }

    /// The literal or parameter of which a function makes rows: its argument, or the only document that the statement is
    /// given. Whether it is that is seen when the statement is read again.
    fn document_of(&self, argument: &Expr, jsonb: bool) -> Option<usize> {
        let tokens = self.tokens;
        let own = if jsonb { "jsonb" } else { "json" };
        let found = match self.operand(argument).ok()? {
            Some(operand) => {
                let fits = match &operand.cast {
                    Cast::None => true,
                    Cast::To(logical) => logical.sql_name() == own,
                    _ => false,
                };
                let mut given = operand.extent.filter(|at| self.is_given(*at));
                given
                    .next()
                    .filter(|at| fits && self.may_be_document(*at, own, true))
            }
            None => {
                let cast = |at: usize| {
                    let behind = matches!(tokens.kind(at + 1), Kind::DoubleColon)
                        && tokens.is_word(at + 2, own);
                    let called = at > 1
                        && tokens.is_word(at - 2, "cast")
                        && tokens.is_word(at + 1, "as")
                        && tokens.is_word(at + 2, own);
                    behind || called
                };
                let mut given = (0..tokens.len())
                    .filter(|at| self.is_given(*at) && self.may_be_document(*at, own, cast(*at)));
                given.next().filter(|_| given.next().is_none())
            }
        }?;
        // A second use would bring the plaintext to the server.
        let same = |at: usize| tokens.raw(at) == tokens.raw(found);
        let placeholder = matches!(tokens.kind(found), Kind::Placeholder(_));
        let uses = self.placeholders(0..tokens.len()).filter(|at| same(*at));
        (!placeholder || (self.protocol == Protocol::Extended && uses.count() == 1))
            .then_some(found)
    }

    fn is_given(&self, at: usize) -> bool {
        literal::is_text(self.tokens.kind(at))
            || matches!(self.tokens.kind(at), Kind::Placeholder(_))
    }

    /// Whether a literal or parameter is a document: by its cast, or as the client declared it.
    fn may_be_document(&self, at: usize, own: &str, cast: bool) -> bool {
        if !matches!(self.tokens.kind(at), Kind::Placeholder(_)) {
            return cast;
        }
        let wanted = if own == "jsonb" { JSONB } else { JSON };
        let Ok(param) = self.parameter(at) else {
            return false;
        };
        match self.oids.get(param).copied().unwrap_or(0) {
            0 | 705 => cast,
            TEXT | VARCHAR => {
                cast && (matches!(self.tokens.kind(at + 1), Kind::DoubleColon)
                    || self.tokens.is_word(at + 1, "as"))
            }
            oid => oid == wanted,
        }
    }

    /// Which members of documents these uses want in protected columns.
    pub(super) fn want_members(&mut self, uses: &[Use<'_>], cx: Cx<'_>) -> Result<(), Refusal> {
        if self.calls.is_empty() || !self.decided.is_empty() {
            return Ok(());
        }
        for used in uses {
            let Some((idents, None)) = self.column_used(used.value)? else {
                continue;
            };
            let found = cx.scope.find(idents);
            let Some(cell) = found.ok().and_then(|found| found.kind.cell()) else {
                continue;
            };
            self.want_member(cell, &used.column, &|name| used.parts.get(name).cloned())
                .map_err(|refusal| refusal.at(self.start_of(used.value)))?;
        }
        Ok(())
    }

    /// The same of `SELECT *`, whose columns come in their order.
    pub(super) fn want_shown(
        &mut self,
        wanted: &Wanted<'_>,
        names: &Namespace,
    ) -> Result<(), Refusal> {
        if self.calls.is_empty() || !self.decided.is_empty() || names.reshaped {
            return Ok(());
        }
        let mut parts: HashMap<String, Part> = HashMap::new();
        let mut cells = Vec::new();
        for (shown, (column, protected)) in names.shown.iter().zip(&wanted.columns) {
            let Some(cell) = shown.kind.cell() else {
                continue;
            };
            let logical = LogicalType::from_oid(column.base_type_oid, column.typmod);
            match protected {
                Some(protected) => cells.push((cell, protected)),
                None if logical.is_some_and(|to| self.keeps_scope_text(cell, to)) => {
                    parts.insert(column.name.clone(), self.written_part(cell));
                }
                None => {}
            }
        }
        for (cell, column) in cells {
            self.want_member(cell, column, &|name| parts.get(name).cloned())?;
        }
        Ok(())
    }

    /// The protected columns of a row type are members that its own table wants.
    fn want_own(&mut self, base: &Expr, instance: usize) -> Result<(), Refusal> {
        let Some(relation) = self.row_type(base) else {
            return Ok(());
        };
        let columns = relation.columns.iter().enumerate();
        let wanted: Vec<_> = columns
            .filter_map(|(index, column)| {
                let protected = self.protected(relation, column.attnum)?;
                Some((index, Arc::clone(protected)))
            })
            .collect();
        let position = |name: &str| {
            relation
                .columns
                .iter()
                .position(|column| column.name == name)
        };
        let cell = |index: usize| {
            i16::try_from(index + 1)
                .ok()
                .map(|attnum| Cell { instance, attnum })
        };
        let mut all = Vec::new();
        for (index, column) in wanted {
            let names = column.scope.columns();
            let parts: Vec<_> = names
                .iter()
                .map(|name| ((*name).to_owned(), position(name).and_then(cell)))
                .collect();
            all.push((index, column, parts));
        }
        for (index, column, parts) in all {
            let Some(cell) = cell(index) else { continue };
            let held = |name: &str| {
                let part = parts.iter().find(|(own, _)| own == name);
                part.and_then(|(_, cell)| cell.map(Part::Cell))
            };
            self.want_member(cell, &column, &held)?;
        }
        Ok(())
    }

    fn want_member(
        &mut self,
        cell: Cell,
        column: &Arc<Protected>,
        held: &dyn Fn(&str) -> Option<Part>,
    ) -> Result<(), Refusal> {
        let Some(call) = self.calls.get(&cell.instance) else {
            return Ok(());
        };
        let (index, token) = (usize::from(cell.attnum.unsigned_abs()) - 1, call.token);
        let (Some(made), Some(document)) = (call.columns.get(index), call.document) else {
            return Ok(());
        };
        let domain = made.domain.as_deref();
        let stored = domain.is_some_and(|domain| domain == column.logical.domain());
        let from = if stored {
            Some(column.logical)
        } else {
            made.logical
        };
        let Some(from) = from.filter(|from| is_assignable(*from, column.logical)) else {
            return Ok(());
        };
        let exact = from == column.logical
            || (column.logical == column.logical.without_modifiers()
                && is_text(from)
                && is_text(column.logical));
        let further = !exact && made.named.is_some() && !self.only_written(&made.name, token);
        if further && !(is_text(from) && is_text(column.logical)) {
            return Ok(());
        }
        let of = |part: Part| match part {
            Part::Cell(other) => {
                let class = ask(&self.facts, other);
                let own = |index: &usize| {
                    let attnum = i16::try_from(*index + 1).ok();
                    attnum.is_some_and(|attnum| {
                        let member = Cell {
                            instance: cell.instance,
                            attnum,
                        };
                        member == other || ask(&self.facts, member) == class
                    })
                };
                (0..call.columns.len()).find(own).map(Of::Member)
            }
            part => Some(Of::Part(part)),
        };
        let parts = scope_parts(column, held);
        let parts = parts.and_then(|parts| parts.into_iter().map(of).collect::<Option<Vec<_>>>());
        let parts = parts.ok_or_else(|| refusals::scope_not_resolved(column, UNKNOWN))?;
        let want = Want {
            index,
            from,
            column: Arc::clone(column),
            parts,
            exact: further,
        };
        let call = call.clone();
        match self.wants.iter_mut().find(|decided| decided.token == token) {
            Some(decided) if decided.sealed.iter().any(|want| want.index == index) => {}
            Some(decided) => decided.sealed.push(want),
            None => self.wants.push(Decided {
                token,
                document,
                sealed: vec![want],
                call,
            }),
        }
        Ok(())
    }

    /// Whether a column of a call is written once and used nowhere else, but in a sub-select that passes it on: what its
    /// column's type rounds or cuts would be compared and shown otherwise than the server does.
    fn only_written(&self, name: &str, call: usize) -> bool {
        let tokens = self.tokens;
        let named = |at: &usize| {
            tokens.name(*at).is_some_and(|found| *found == *name) && !self.targets.contains(at)
        };
        let all = (0..tokens.len()).filter(named).count();
        let select = (0..call).rev().find(|at| tokens.is_word(*at, "select"));
        let passed = select.filter(|at| *at > 0 && matches!(tokens.kind(at - 1), Kind::LParen));
        let passed = passed.map_or(0, |select| (select..call).filter(named).count());
        let stars = (0..tokens.len()).any(|at| {
            matches!(tokens.kind(at), Kind::Mul) && tokens.is_word(at.saturating_sub(1), "select")
        });
        all == 2 + passed && passed <= 1 && !stars
    }

    /// What the first reading of the statement decided.
    pub(super) fn take_decided(&mut self) -> Vec<Decided> {
        let mut decided = std::mem::take(&mut self.wants);
        // One document can be read by one call only.
        let documents: Vec<_> = decided.iter().map(|decided| decided.document).collect();
        let once = |at: usize| documents.iter().filter(|other| **other == at).count() == 1;
        decided.retain(|decided| once(decided.document));
        decided
    }

    /// The document that this literal or parameter is, which is sealed inside.
    pub(super) fn is_document(&self, at: usize) -> bool {
        self.decided.iter().any(|decided| decided.document == at)
    }

    /// Puts the document with sealed members in the place of a literal or parameter.
    pub(super) fn given_document(&mut self, expr: &Expr) -> Result<Option<kind::Kind>, Refusal> {
        if self.decided.is_empty() {
            return Ok(None);
        }
        let at = self.tokens.extent(expr)?.start;
        let Some(decided) = self.decided.iter().find(|decided| decided.document == at) else {
            return Ok(None);
        };
        let decided = decided.clone();
        let (jsonb, token) = (decided.call.jsonb, decided.token);
        let logical = if jsonb {
            LogicalType::Jsonb
        } else {
            LogicalType::Json
        };
        let range = self.tokens.range(at);
        let placeholder = matches!(self.tokens.kind(at), Kind::Placeholder(_));
        let param = if placeholder {
            Some(self.parameter(at)?)
        } else {
            None
        };
        let operand = match param {
            Some(param) => plan::Operand::Param(param),
            None => {
                let literal = literal::read(self.tokens, at, false)?;
                let literal =
                    literal.ok_or_else(|| refusals::construct("this document").at(range.start))?;
                let value = logical.input(literal.text.as_bytes(), &self.view.format);
                let value = value.map_err(|error| refusals::input(error, range.start))?;
                plan::Operand::Literal(Some(value))
            }
        };
        let slot = self.document_slot(&decided, operand)?;
        // A query for scopes would be made of the statement's own words, with the document as it was given.
        self.cannot_ask = true;
        if let Some(param) = param {
            self.document_role(param, at, slot, logical);
        }
        self.edits.open(range.start, "pg_catalog.convert_from(");
        let own = logical.sql_name();
        self.edits
            .close(range.end, format!(", 'UTF8')::pg_catalog.{own}"));
        self.edits.replace(range, Replacement::Slot(slot));
        let sources = decided.sealed.iter().map(|want| Source {
            column: Arc::clone(&want.column),
            place: Place::Made(None),
        });
        let holder = Holder::json(Document {
            sources: sources.collect(),
            jsonb,
            rendering: if jsonb {
                Rendering::Jsonb
            } else {
                Rendering::Json
            },
            given: Some(token),
        })?;
        Ok(Some(kind::Kind::Holder(holder)))
    }

    fn document_slot(
        &mut self,
        decided: &Decided,
        operand: plan::Operand,
    ) -> Result<usize, Refusal> {
        let columns = &decided.call.columns;
        let mut sealed = Vec::new();
        for want in &decided.sealed {
            let mut scope = Vec::new();
            for part in &want.parts {
                let part = match part {
                    Of::Part(part) => {
                        planned(std::slice::from_ref(part)).and_then(|mut part| part.pop())
                    }
                    Of::Member(index) => columns.get(*index).and_then(|made| {
                        let logical = made.logical?;
                        Some(ScopePart::Member(made.name.clone(), logical))
                    }),
                };
                let unknown = || refusals::scope_not_resolved(&want.column, UNKNOWN);
                scope.push(part.ok_or_else(unknown)?);
            }
            self.note(format!(
                "Values for {} are sealed inside a JSON document before it is sent.",
                refusals::name_of(&want.column)
            ));
            sealed.push(Member {
                name: columns[want.index].name.clone(),
                from: want.from,
                column: want.column.id,
                scope,
                exact: want.exact,
            });
        }
        let is_sealed = |index: usize| decided.sealed.iter().any(|want| want.index == index);
        let plain = { columns.iter().enumerate() }
            .filter(|(index, _)| !is_sealed(*index))
            .map(|(_, made)| made.name.clone());
        let first = decided.sealed.first();
        let column = first
            .ok_or_else(|| refusals::construct("this document"))?
            .column
            .id;
        self.slots.push(Slot {
            make: Make::SealMembers,
            operand,
            column,
            scope: Vec::new(),
            members: Some(Box::new(Members {
                jsonb: decided.call.jsonb,
                plain: plain.collect(),
                sealed,
            })),
            exact: false,
        });
        Ok(self.slots.len() - 1)
    }

    /// The type of a column that is a member of a record.
    pub(super) fn member_type(&self, cell: Cell) -> Option<LogicalType> {
        let call = self.calls.get(&cell.instance)?;
        let index = usize::from(cell.attnum.unsigned_abs()).checked_sub(1)?;
        call.columns.get(index)?.logical
    }
}

const JSON: u32 = 114;
const JSONB: u32 = 3802;
const TEXT: u32 = 25;
const VARCHAR: u32 = 1043;
