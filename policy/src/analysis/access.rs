//! Parts of holders: a field of a row, an element or a slice of an array; and casts of holders that change nothing
//! inside.

use sqlparser::{
    ast::{AccessExpr, CastKind, Expr, Ident, Subscript},
    tokenizer::Token,
};

use super::{
    Analyser,
    compare::strip,
    expr::Cx,
    holder::{Document, Holder, Inside},
    kind::Kind,
    namespace::{Column, name_of},
    operand::Cast,
    refusals,
};
use crate::{Refusal, plan::Rendering, types::LogicalType};

/// Functions whose documents are arrays or objects, and never a sealed value itself.
const CONTAINERS: [&str; 8] = [
    "json_agg",
    "jsonb_agg",
    "row_to_json",
    "json_build_object",
    "jsonb_build_object",
    "json_build_array",
    "jsonb_build_array",
    "json_object_agg",
];

impl Analyser<'_> {
    /// `(a, b)` as a value: a row.
    pub(super) fn tuple(&mut self, members: &[Expr], cx: Cx<'_>) -> Result<Kind, Refusal> {
        let mut fields = Vec::new();
        for member in members {
            let kind = self.held(member, cx)?;
            fields.push(Column { name: None, kind });
        }
        if fields.iter().all(|field| field.kind.protected().is_none()) {
            return Ok(Kind::Plain(None));
        }
        Holder::row(fields).map(Kind::Holder)
    }

    /// `(row).field`, `array[1]`, `array[1:2]`, and chains of them.
    pub(super) fn access(
        &mut self,
        root: &Expr,
        chain: &[AccessExpr],
        cx: Cx<'_>,
    ) -> Result<Kind, Refusal> {
        let mut kind = self.expr(root, cx)?;
        let mut whole_row = is_whole_row(root, cx);
        let mut at = 0;
        while let Some(access) = chain.get(at) {
            let subscripts = chain[at..]
                .iter()
                .take_while(|access| matches!(access, AccessExpr::Subscript(_)))
                .count();
            kind = match access {
                AccessExpr::Dot(field) => {
                    at += 1;
                    self.field(kind, field, whole_row)
                }
                AccessExpr::Subscript(_) => {
                    let parts = &chain[at..at + subscripts];
                    at += subscripts;
                    self.subscripts(kind, parts, cx)
                }
            }
            .map_err(|refusal| refusal.at(self.start_of(root)))?;
            whole_row = false;
        }
        Ok(kind)
    }

    /// Whether a field is the `*` of `(row).*`.
    fn is_all_fields(&self, field: &Ident) -> bool {
        let at = self.tokens.starting(field.span.start);
        at.is_some_and(|at| matches!(self.tokens.kind(at), Token::Mul))
    }

    /// The row of which an expression is all fields: `(row).*`.
    pub(super) fn row_of_all_fields(&self, expr: &Expr) -> Option<Expr> {
        let Expr::CompoundFieldAccess { root, access_chain } = expr else {
            return None;
        };
        let (AccessExpr::Dot(Expr::Identifier(last)), before) = access_chain.split_last()? else {
            return None;
        };
        self.is_all_fields(last).then(|| match before {
            [] => (**root).clone(),
            _ => Expr::CompoundFieldAccess {
                root: root.clone(),
                access_chain: before.to_vec(),
            },
        })
    }

    fn field(&mut self, kind: Kind, field: &Expr, whole_row: bool) -> Result<Kind, Refusal> {
        let Expr::Identifier(ident) = field else {
            return match refusals::not_plain(&kind, "this expression") {
                Some(refusal) => Err(refusal),
                None => Err(refusals::construct("this form of a field")),
            };
        };
        if self.is_all_fields(ident) {
            return Err(refusals::construct(".* of a row here"));
        }
        let fields = match &kind {
            Kind::Plain(_) | Kind::Untyped => {
                self.account(ident);
                return Ok(Kind::Plain(None));
            }
            Kind::Holder(holder) => match holder.inside() {
                Inside::Row(fields) => Some(fields),
                Inside::Array { .. } | Inside::Json(_) => None,
            },
            Kind::Sealed(_) => None,
        };
        let place = "an expression with a field";
        let refuse =
            || refusals::not_plain(&kind, place).unwrap_or_else(|| refusals::construct(place));
        let fields = fields.ok_or_else(refuse)?;
        self.account(ident);
        let name = name_of(ident);
        let mut named = fields
            .iter()
            .filter(|field| field.name.as_deref() == Some(&name));
        // Fields without a known name can have this one.
        let guessed = fields.iter().any(|field| field.name.is_none());
        match (named.next(), named.next(), guessed) {
            (Some(found), None, false) if whole_row => Ok(found.kind.clone()),
            (Some(found), None, false) => Ok(match found.kind.clone() {
                // As a field of a value it is no column any more.
                Kind::Plain(_) => Kind::Plain(None),
                kind @ (Kind::Untyped | Kind::Sealed(_) | Kind::Holder(_)) => kind.computed(),
            }),
            _ => Err(refuse()),
        }
    }

    /// All subscripts of one array: an element, or with a slice among them an array.
    fn subscripts(
        &mut self,
        kind: Kind,
        parts: &[AccessExpr],
        cx: Cx<'_>,
    ) -> Result<Kind, Refusal> {
        let mut sliced = false;
        for part in parts {
            let bounds = match part {
                AccessExpr::Subscript(Subscript::Index { index }) => vec![index],
                AccessExpr::Subscript(Subscript::Slice {
                    lower_bound,
                    upper_bound,
                    stride,
                }) => {
                    sliced = true;
                    lower_bound
                        .iter()
                        .chain(upper_bound)
                        .chain(stride)
                        .collect()
                }
                AccessExpr::Dot(_) => Vec::new(),
            };
            for bound in bounds {
                self.plain(bound, cx, "a subscript")?;
            }
        }
        let place = "an expression with a subscript";
        match &kind {
            Kind::Plain(_) | Kind::Untyped => Ok(Kind::Plain(None)),
            Kind::Holder(holder) => match holder.inside() {
                Inside::Array { .. } if sliced => Ok(kind),
                Inside::Array { element, modified } => Ok(element.element_of(*modified)),
                Inside::Row(_) | Inside::Json(_) => Err(refusals::holder(holder, place)),
            },
            Kind::Sealed(sealed) => Err(refusals::not_supported(sealed.column(), place)),
        }
    }

    /// A cast of an array to an array of the very type of its elements goes; documents change between `json` and
    /// `jsonb`. Everything else would look inside.
    pub(super) fn cast_holder(
        &mut self,
        expr: &Expr,
        inner: &Expr,
        holder: Holder,
    ) -> Result<Kind, Refusal> {
        let Expr::Cast { kind, .. } = expr else {
            return Err(refusals::holder(&holder, "a cast"));
        };
        let extent = self.tokens.extent(inner)?;
        let range = match kind {
            CastKind::DoubleColon => self.tokens.cast_type(&extent)?,
            _ => extent.end + 1..self.tokens.extent(expr)?.end - 1,
        };
        let named = self.named_type(range);
        let refuse = |holder: &Holder| {
            refusals::holder(holder, "a cast to another type").at(self.start_of(expr))
        };
        match (holder.inside(), named) {
            (Inside::Array { element, .. }, Cast::Array(wanted)) => match element.as_ref() {
                Kind::Sealed(sealed)
                    if wanted == sealed.logical() && wanted == wanted.without_modifiers() =>
                {
                    self.drop_cast(expr, inner)?;
                    Ok(Kind::Holder(holder.without_modifiers()))
                }
                Kind::Plain(_) | Kind::Untyped | Kind::Sealed(_) | Kind::Holder(_) => {
                    Err(refuse(&holder))
                }
            },
            (Inside::Json(document), Cast::To(wanted)) => {
                let document = document.clone();
                match wanted {
                    LogicalType::Jsonb => json(Document {
                        jsonb: true,
                        rendering: Rendering::Jsonb,
                        ..document
                    }),
                    LogicalType::Json => json(Document {
                        jsonb: false,
                        ..document
                    }),
                    _ => Err(refuse(&holder)),
                }
            }
            _ => Err(refuse(&holder)),
        }
    }

    /// `document -> 0`, `document -> 'name'`: a piece of a document is one. What is sealed in it is one string to the server,
    /// whatever it is in truth, so nothing of which that may matter is taken apart.
    pub(super) fn piece(
        &mut self,
        document: &Expr,
        index: &Expr,
        cx: Cx<'_>,
    ) -> Result<Kind, Refusal> {
        let place = "an expression with ->";
        let kind = if self.stored {
            self.expr(document, cx)?
        } else {
            self.value(document, cx)?
        };
        self.plain(index, cx, place)?;
        let Kind::Holder(holder) = &kind else {
            let refused = refusals::not_plain(&kind, place);
            return match refused {
                Some(refusal) => Err(refusal.at(self.start_of(document))),
                None => Ok(Kind::Plain(None)),
            };
        };
        let made = matches!(super::compare::strip(document), Expr::Function(function)
            if super::function::last_name(&function.name).is_some_and(|name| CONTAINERS.contains(&&*name)));
        let deep = |source: &super::kind::Source| {
            let logical = source.column.logical;
            matches!(
                logical,
                LogicalType::Json | LogicalType::Jsonb | LogicalType::Array(_)
            )
        };
        let whole = holder.given().is_none()
            && matches!(holder.inside(), Inside::Json(_))
            && (made || !holder.sources().iter().any(deep));
        if !whole {
            return Err(refusals::holder(holder, place).at(self.start_of(document)));
        }
        Ok(kind)
    }

    /// Takes a cast away around its operand.
    pub(super) fn drop_cast(&mut self, expr: &Expr, inner: &Expr) -> Result<(), Refusal> {
        let (outer, inner) = (self.tokens.extent(expr)?, self.tokens.extent(inner)?);
        let starts = |at: usize| self.tokens.range(at).start;
        let ends = |at: usize| self.tokens.range(at - 1).end;
        let lead = starts(outer.start)..starts(inner.start);
        let trail = ends(inner.end)..ends(outer.end);
        if !lead.is_empty() {
            self.edits.lead(lead, "");
        }
        self.edits.trail(trail, "");
        Ok(())
    }
}

fn json(document: Document) -> Result<Kind, Refusal> {
    Holder::json(document).map(Kind::Holder)
}

/// Whether an expression names a member of FROM, so that PostgreSQL takes its fields for the columns.
pub(super) fn is_whole_row(expr: &Expr, cx: Cx<'_>) -> bool {
    match strip(expr) {
        Expr::Identifier(ident) => cx
            .scope
            .find(std::slice::from_ref(ident))
            .is_ok_and(|found| found.identity.is_none()),
        _ => false,
    }
}
