//! The rows that an UPDATE touches, where the statement does not tell their scopes: the server is asked for them first,
//! every value is sealed for each scope, and each row picks its own. The query is made in `ask`.

use std::{collections::HashMap, ops::Range, sync::Arc};

use sqlparser::ast::{Expr, ObjectName, ObjectNamePart};

use super::{
    Analyser,
    expr::Cx,
    kind,
    operand::{Made, Operand, What},
    refusals,
    scope::{Part, planned},
    written::{Spelling, Written, spelt},
};
use crate::{
    Refusal,
    plan::{self, ANOTHER_SCOPE, Make, Replacement, ScopePart},
    ruleset::Protected,
    template::TemplatePart,
    text::quote_identifier,
    types::{Conversion, LogicalType},
};

/// The rows of the statement under analysis.
#[derive(Clone)]
pub(super) struct Touched {
    /// The row variable of the table that is written to.
    pub(super) instance: usize,
    /// What expressions call it, quoted.
    pub(super) name: String,
    /// How its columns are spelt.
    spelling: Option<Spelling>,
    /// A token of its name.
    pub(super) token: usize,
    /// Whether the statement's own words read the table, so that the server applies the policies for reading anyway.
    pub(super) reads: bool,
    /// WITH stands before the statement, or around it.
    pub(super) with: bool,
    /// What is asked for.
    pub(super) columns: Vec<AskedColumn>,
    /// Values of plain columns are among that.
    pub(super) fetches: bool,
    /// The first column that something is sealed for, and where.
    pub(super) first: Option<(Arc<Protected>, usize)>,
    /// What makes the rows.
    pub(super) by: TouchedBy,
}

/// What makes rows of which the server is asked for something.
#[derive(Clone)]
pub(super) enum TouchedBy {
    /// An UPDATE, whose parts are looked for when they are needed.
    Update,
    Merge(MergeSections),
    /// `INSERT ... SELECT`
    Select(Selected),
}

/// A SELECT whose rows are inserted.
#[derive(Clone)]
pub(super) struct Selected {
    /// Its first token.
    pub(super) select: usize,
    /// What plain columns of the table get that scopes can be made of, by their names.
    pub(super) given: HashMap<String, AskedColumn>,
    /// Not all rows of FROM and WHERE are inserted.
    pub(super) chooses: bool,
}

/// Something that the server is asked for.
#[derive(Clone, PartialEq)]
pub(super) struct AskedColumn {
    /// An expression of type `text` over a row.
    pub(super) sql: String,
    /// What it is the text of.
    pub(super) logical: LogicalType,
}

/// Where the parts of a MERGE stand that say which rows it touches, in tokens.
#[derive(Clone)]
pub(super) struct MergeSections {
    /// Its first token.
    pub(super) merge: usize,
    pub(super) table: Range<usize>,
    /// The source and the condition; `None` if rows without a partner are touched too.
    pub(super) matched: Option<(Range<usize>, Range<usize>)>,
}

/// A column of a source that is to be sealed.
pub(super) enum Given {
    /// Single values.
    Cells(Vec<Operand>),
    /// An array of which `unnest` takes the elements.
    Array(Operand),
}

impl Analyser<'_> {
    /// The rows that an UPDATE of this table touches.
    pub(super) fn touched(
        &self,
        table: &ObjectName,
        alias: Option<String>,
        written: &Written<'_>,
        selection: Option<&Expr>,
        cx: Cx<'_>,
    ) -> Option<Touched> {
        let Some(ObjectNamePart::Identifier(ident)) = table.0.first() else {
            return None;
        };
        let name = alias.unwrap_or_else(|| written.named.name.clone());
        let instance = written.instance;
        Some(Touched {
            instance,
            spelling: written.spelling(),
            name: quote_identifier(&name),
            token: self.tokens.starting(ident.span.start)?,
            reads: selection.is_some_and(|condition| reads(condition, instance, cx)),
            with: !cx.ctes.is_empty(),
            columns: Vec::new(),
            fetches: false,
            first: None,
            by: TouchedBy::Update,
        })
    }

    /// The rows that a MERGE touches.
    pub(super) fn merge_touches(touched: Touched, merge: MergeSections) -> Touched {
        Touched {
            by: TouchedBy::Merge(merge),
            ..touched
        }
    }

    /// Seals a value for the scope of each row that the statement touches. `None` if that does not help.
    pub(super) fn seal_touched(
        &mut self,
        column: &Protected,
        what: plan::Operand,
        operand: &Operand,
        held: &dyn Fn(&str) -> Option<Part>,
    ) -> Option<Result<(), Refusal>> {
        let mut touched = self.touched_rows.take()?;
        let key = self.asked_parts(&mut touched, column, held);
        let at = self.tokens.range(operand.extent.start).start;
        if key.is_some() && touched.first.is_none() {
            let column = self.rules.columns.get(&column.id);
            touched.first = column.map(|column| (Arc::clone(column), at));
        }
        self.touched_rows = Some(touched);
        let (parts, key) = key?;
        self.note(format!(
            "The server is asked for the scopes of the rows; values for {} are sealed for each of them.",
            refusals::name_of(column)
        ));
        let range = self.tokens.bytes(&operand.extent);
        self.pick(range, &key_of(&key), false);
        Some(self.slot(Make::SealPerScope, what, column, parts, operand))
    }

    /// Makes a row pick the value that is sealed for its own scope, of an array or of an array's text.
    fn pick(&mut self, range: Range<usize>, key: &str, text: bool) {
        let (before, behind) = if text {
            ("pg_catalog.convert_from(", ", 'UTF8')::pg_catalog.bytea[]")
        } else {
            ("", "")
        };
        self.edits.open(
            range.start,
            format!(
                "(SELECT COALESCE(\"pgveil v\"[pg_catalog.array_position(\"pgveil v\", {key}) OPERATOR(pg_catalog.+) 1], \
                 CASE WHEN \"pgveil v\" IS NOT NULL THEN {} END) FROM (SELECT {before}",
                failing(ANOTHER_SCOPE)
            ),
        );
        self.edits.close(
            range.end,
            format!("{behind} AS \"pgveil v\") AS \"pgveil scopes\")"),
        );
    }

    /// Seals a column of a source for the scope of each row that the statement touches; `uses` are where the rows
    /// get their values. False if that does not help.
    pub(super) fn seal_touched_source(
        &mut self,
        column: &Arc<Protected>,
        given: Given,
        uses: &[Range<usize>],
        held: &dyn Fn(&str) -> Option<Part>,
    ) -> Result<bool, Refusal> {
        let Some(mut touched) = self.touched_rows.take() else {
            return Ok(false);
        };
        let (operands, elements) = match given {
            Given::Cells(operands) => (operands, false),
            Given::Array(array) => (vec![array], true),
        };
        let asked = self.asked_parts(&mut touched, column, held);
        if let (Some(_), None, Some(first)) = (&asked, &touched.first, operands.first()) {
            let at = self.tokens.range(first.extent.start).start;
            touched.first = Some((Arc::clone(column), at));
        }
        self.touched_rows = Some(touched);
        let Some((_, key)) = asked else {
            return Ok(false);
        };
        self.note(format!(
            "The server is asked for the scopes of the rows; values for {} are sealed for each of them.",
            refusals::name_of(column)
        ));
        for range in uses {
            self.pick(range.clone(), &key_of(&key), elements);
        }
        let make = if elements {
            Make::SealElementsPerScope
        } else {
            Make::SealPerScope
        };
        for operand in operands {
            let null = if elements {
                "NULL::pg_catalog.text[]"
            } else {
                "NULL"
            };
            self.hidden.push((operand.extent.clone(), null));
            let Some(what) = self.stored(&operand, column, elements)? else {
                self.replace_operand(&operand, Replacement::Text("NULL::bytea[]".to_owned()));
                continue;
            };
            let Some(mut touched) = self.touched_rows.take() else {
                return Ok(false);
            };
            let parts = self.asked_parts(&mut touched, column, held);
            self.touched_rows = Some(touched);
            let Some((parts, _)) = parts else {
                return Ok(false);
            };
            self.slot(make, what, column, parts, &operand)?;
        }
        Ok(true)
    }

    /// What is stored of a literal or parameter, or of its elements. `None` for NULL.
    fn stored(
        &self,
        operand: &Operand,
        column: &Protected,
        elements: bool,
    ) -> Result<Option<plan::Operand>, Refusal> {
        let at = self.tokens.range(operand.extent.start).start;
        Ok(match &operand.what {
            What::Param(..) | What::Applied { .. } | What::Asked(_) => operand.what.planned_param(),
            What::Null => None,
            What::Literal(_) if elements => {
                let elements = self.literal_elements(operand, column);
                let elements = elements.map_err(|refusal| refusal.at(at))?;
                Some(plan::Operand::Array(elements))
            }
            What::Literal(_) => match self.made(operand, column, Conversion::Assignment)? {
                Made::Value(value) => Some(plan::Operand::Literal(Some(value))),
                Made::Null | Made::NeverEqual => None,
            },
        })
    }

    /// What a scope's column is asked by.
    fn asked_column(&self, touched: &Touched, name: &str) -> Option<AskedColumn> {
        if let TouchedBy::Select(selected) = &touched.by {
            return selected.given.get(name).cloned();
        }
        let relation = self.instances.get(touched.instance)?;
        let found = relation.columns.iter().find(|c| c.name == *name)?;
        let logical = LogicalType::from_oid(found.base_type_oid, found.typmod)?;
        let name = spelt(touched.spelling.as_ref(), name)?;
        Some(AskedColumn {
            sql: text_of(&touched.name, name),
            logical,
        })
    }

    /// A scope's parts, and what of the row it is asked by. `None` if the server is not asked, or cannot be.
    pub(super) fn asked_parts(
        &self,
        touched: &mut Touched,
        column: &Protected,
        held: &dyn Fn(&str) -> Option<Part>,
    ) -> Option<(Vec<ScopePart>, Vec<AskedColumn>)> {
        let mut key = Vec::new();
        let mut parts = Vec::new();
        let query = self.scope_queries.len();
        for part in &column.scope.parts {
            parts.push(match part {
                TemplatePart::Text(text) => ScopePart::Text(text.clone()),
                TemplatePart::Session(name) => ScopePart::Session(name.clone()),
                TemplatePart::Column(name) => {
                    let known = held(name).and_then(|part| planned(&[part]));
                    if let Some(part) = known.and_then(|mut parts| parts.pop()) {
                        parts.push(part);
                        continue;
                    }
                    let asked = self.asked_column(touched, name)?;
                    let logical = asked.logical;
                    let column = touched.ask(&asked);
                    if !key.contains(&asked) {
                        key.push(asked);
                    }
                    ScopePart::Asked {
                        query,
                        column,
                        logical,
                    }
                }
            });
        }
        (!key.is_empty()).then_some((parts, key))
    }
}

impl Touched {
    /// The rows of a SELECT, none of which is there in the table that is written to.
    pub(super) fn of_select(selected: Selected, with: bool) -> Self {
        Self {
            instance: usize::MAX,
            name: String::new(),
            spelling: None,
            token: 0,
            reads: true,
            with,
            columns: Vec::new(),
            fetches: false,
            first: None,
            by: TouchedBy::Select(selected),
        }
    }

    /// The place of what is asked for.
    pub(super) fn ask(&mut self, asked: &AskedColumn) -> usize {
        let known = self.columns.iter().position(|known| known == asked);
        known.unwrap_or_else(|| {
            self.columns.push(asked.clone());
            self.columns.len() - 1
        })
    }
}

/// What a row's scope columns are found by, as [`plan::scope_key`] writes it.
pub(super) fn row_key(name: &str, columns: &[String]) -> String {
    let text = |column: &String| text_of(name, column);
    joined(&columns.iter().map(text).collect::<Vec<_>>())
}

fn key_of(columns: &[AskedColumn]) -> String {
    let texts = columns.iter().map(|column| column.sql.clone());
    joined(&texts.collect::<Vec<_>>())
}

fn text_of(name: &str, column: &str) -> String {
    format!("{name}.{}::pg_catalog.text", quote_identifier(column))
}

fn joined(texts: &[String]) -> String {
    let parts: Vec<String> = texts.iter().map(|text| hex(text)).collect();
    format!(
        "pg_catalog.convert_to(pg_catalog.concat_ws('/', {}), 'UTF8')",
        parts.join(", ")
    )
}

/// The bytes of a text, in digits.
pub(super) fn hex(text: &str) -> String {
    format!("pg_catalog.encode(pg_catalog.convert_to({text}, 'UTF8'), 'hex')")
}

/// An expression of type `bytea` that fails when a row comes to it.
pub(super) fn failing(setting: &str) -> String {
    format!("pg_catalog.decode({}, 'hex')", failing_text(setting))
}

/// The same of type `text`: there is no such setting.
pub(super) fn failing_text(setting: &str) -> String {
    format!("pg_catalog.current_setting('{setting}')")
}

/// Whether a condition reads a column of the table beyond doubt.
fn reads(condition: &Expr, instance: usize, cx: Cx<'_>) -> bool {
    let reads = |expr: &Expr| reads(expr, instance, cx);
    match condition {
        Expr::Nested(inner)
        | Expr::UnaryOp { expr: inner, .. }
        | Expr::Cast { expr: inner, .. }
        | Expr::IsNull(inner)
        | Expr::IsNotNull(inner)
        | Expr::IsTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::InSubquery { expr: inner, .. }
        | Expr::Between { expr: inner, .. }
        | Expr::Like { expr: inner, .. }
        | Expr::ILike { expr: inner, .. }
        | Expr::InList { expr: inner, .. } => reads(inner),
        Expr::IsDistinctFrom(left, right)
        | Expr::IsNotDistinctFrom(left, right)
        | Expr::BinaryOp { left, right, .. }
        | Expr::AnyOp { left, right, .. }
        | Expr::AllOp { left, right, .. } => reads(left) || reads(right),
        Expr::Identifier(ident) => of_instance(std::slice::from_ref(ident), instance, cx),
        Expr::CompoundIdentifier(idents) => of_instance(idents, instance, cx),
        _ => false,
    }
}

fn of_instance(idents: &[sqlparser::ast::Ident], instance: usize, cx: Cx<'_>) -> bool {
    cx.scope.find(idents).is_ok_and(|found| match &found.kind {
        kind::Kind::Plain(Some(cell)) => cell.instance == instance,
        kind::Kind::Sealed(sealed) => sealed
            .sources
            .iter()
            .all(|source| matches!(source.place, kind::Place::Row(row) if row == instance)),
        _ => false,
    })
}
