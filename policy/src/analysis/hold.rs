//! Functions and constructors that put sealed values into arrays, rows and documents, and those that take them out
//! again. A function that is not listed here must not get one.

use sqlparser::ast::{
    Array, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
};

use super::{
    Analyser,
    compare::strip,
    expr::Cx,
    function::arg_of,
    holder::{Document, Holder, Inside},
    kind::{Kind, Sealed, Source},
    namespace::Column,
    operand::{Cast, What},
    refusals,
    term::is_text,
};
use crate::{
    Refusal,
    plan::{Rendering, Replacement},
    types::LogicalType,
};

/// What a function does with sealed values and holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// `array_agg`
    Elements,
    /// `row(...)`
    Row,
    /// Makes a document of its arguments.
    Document {
        jsonb: bool,
        /// Of many rows.
        aggregate: bool,
        /// Which arguments become keys.
        keys: Keys,
    },
    /// `json_strip_nulls`
    StripNulls { jsonb: bool },
    /// `unnest`
    Unnest,
    /// Tells only of an array's dimensions.
    Dimensions,
    /// `array_remove(array, NULL)`
    Remove,
    /// Arrays and elements of one type make an array.
    Join,
}

/// Which arguments of a function become keys of an object: they must be plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    None,
    /// The first, third and so on.
    Alternate,
    /// The first.
    First,
}

/// What a function of PostgreSQL does, if it is one of those that know what to do with a holder.
pub(super) fn holding(name: &str) -> Option<Holding> {
    let document = |jsonb, aggregate, keys| Holding::Document {
        jsonb,
        aggregate,
        keys,
    };
    Some(match name {
        "array_agg" => Holding::Elements,
        "row" => Holding::Row,
        "to_json" | "row_to_json" | "array_to_json" | "json_build_array" => {
            document(false, false, Keys::None)
        }
        "to_jsonb" | "jsonb_build_array" => document(true, false, Keys::None),
        "json_build_object" => document(false, false, Keys::Alternate),
        "jsonb_build_object" => document(true, false, Keys::Alternate),
        "json_agg" | "json_agg_strict" => document(false, true, Keys::None),
        "jsonb_agg" | "jsonb_agg_strict" => document(true, true, Keys::None),
        "json_object_agg"
        | "json_object_agg_strict"
        | "json_object_agg_unique"
        | "json_object_agg_unique_strict" => document(false, true, Keys::First),
        "jsonb_object_agg"
        | "jsonb_object_agg_strict"
        | "jsonb_object_agg_unique"
        | "jsonb_object_agg_unique_strict" => document(true, true, Keys::First),
        "json_strip_nulls" => Holding::StripNulls { jsonb: false },
        "jsonb_strip_nulls" => Holding::StripNulls { jsonb: true },
        "unnest" => Holding::Unnest,
        "array_length" | "array_ndims" | "array_dims" | "array_upper" | "array_lower"
        | "cardinality" => Holding::Dimensions,
        "array_remove" => Holding::Remove,
        "array_append" | "array_prepend" | "array_cat" => Holding::Join,
        _ => return None,
    })
}

impl Holding {
    /// Whether it is an aggregate: its arguments are not the group's but each row's.
    pub(super) fn aggregates(self) -> bool {
        matches!(
            self,
            Self::Elements
                | Self::Document {
                    aggregate: true,
                    ..
                }
        )
    }
}

impl Analyser<'_> {
    /// A value that goes into a holder, or a holder itself: sealed columns pass as they are; in a group, one of its
    /// values does.
    pub(super) fn held(&mut self, expr: &Expr, cx: Cx<'_>) -> Result<Kind, Refusal> {
        self.value(expr, cx)
    }

    /// The arguments of a function that may hold. `t.*` is a whole row; in `ROW(t.*)` it is all its fields.
    pub(super) fn held_arguments(
        &mut self,
        holding: Holding,
        args: &[FunctionArg],
        cx: Cx<'_>,
    ) -> Result<Vec<Column>, Refusal> {
        let cx = Cx {
            grouping: cx.grouping.filter(|_| !holding.aggregates()),
            ..cx
        };
        let mut columns = Vec::new();
        for arg in args {
            let kind = match arg_of(arg) {
                FunctionArgExpr::Expr(Expr::QualifiedWildcard(name, _))
                | FunctionArgExpr::QualifiedWildcard(name) => {
                    let names = super::relation::idents_of(name)?;
                    let [table] = names.as_slice() else {
                        return Err(refusals::construct("a qualified name before .* here"));
                    };
                    self.account(table);
                    let table = super::namespace::name_of(table);
                    let entry = cx.scope.find_entry(None, &table)?;
                    if holding == Holding::Row {
                        if entry.reshaped {
                            return Err(refusals::reshaped("* in ROW", &table));
                        }
                        if entry.open {
                            return Err(refusals::construct("* of a function's columns in ROW"));
                        }
                        columns.extend(entry.columns.iter().cloned());
                        continue;
                    }
                    super::namespace::whole_row(entry, &table)?.kind
                }
                FunctionArgExpr::Expr(expr) => self.held(expr, cx)?,
                FunctionArgExpr::Wildcard => Kind::Plain(None),
                FunctionArgExpr::WildcardWithOptions(_) => {
                    return Err(refusals::construct("this form of *"));
                }
            };
            columns.push(Column { name: None, kind });
        }
        Ok(columns)
    }

    /// What a function yields whose arguments are of these kinds.
    pub(super) fn hold(
        &mut self,
        holding: Holding,
        function: &Function,
        name: &str,
        args: Vec<Column>,
    ) -> Result<Kind, Refusal> {
        let place = format!("function {name}");
        if args.iter().all(|arg| arg.kind.protected().is_none()) {
            return Ok(Kind::Plain(None));
        }
        check_call(function, &args, &place)?;
        let kinds = || args.iter().map(|arg| &arg.kind);
        let first = args[0].kind.clone();
        let refuse = |kind: &Kind, place: &str| {
            refusals::not_plain(kind, place)
                .unwrap_or_else(|| refusals::construct(&format!("this use of {place}")))
        };
        match holding {
            Holding::Row => Holder::row(args).map(Kind::Holder),
            Holding::Elements => {
                let element = match first {
                    Kind::Holder(holder) if matches!(holder.inside(), Inside::Array { .. }) => {
                        return Ok(Kind::Holder(holder.without_modifiers()));
                    }
                    other => other,
                };
                let made = Kind::Holder(Holder::array(element.computed(), false)?);
                Ok(self.of_window(function, made))
            }
            Holding::Document { jsonb, keys, .. } => {
                for (index, kind) in kinds().enumerate() {
                    let is_key = match keys {
                        Keys::None => false,
                        Keys::Alternate => index % 2 == 0,
                        Keys::First => index == 0,
                    };
                    if is_key && kind.protected().is_some() {
                        return Err(refuse(kind, "a key of a JSON object"));
                    }
                }
                let rows_only = matches!((name, &first), ("row_to_json", Kind::Sealed(_)));
                if rows_only || (name == "array_to_json" && !is_array(&first)) {
                    return Err(refuse(&first, &place));
                }
                let only = name == "json_build_array" || name == "jsonb_build_array";
                let made = document(kinds(), jsonb, only)?;
                Ok(self.of_window(function, made))
            }
            Holding::StripNulls { jsonb } => match &first {
                Kind::Holder(holder)
                    if matches!(holder.inside(), Inside::Json(_)) && !holds_documents(holder) =>
                {
                    document(std::iter::once(&first), jsonb, false)
                }
                other => Err(refuse(other, &place)),
            },
            Holding::Unnest => match &first {
                Kind::Holder(holder) if args.len() == 1 => match holder.inside() {
                    // A function's result has no modifiers.
                    Inside::Array { element, .. } => Ok(element.element_of(false)),
                    Inside::Row(_) | Inside::Json(_) => Err(refuse(&first, &place)),
                },
                other => Err(refuse(other, &place)),
            },
            Holding::Dimensions if is_array(&first) && plain_behind_first(&args) => {
                Ok(Kind::Plain(None))
            }
            Holding::Remove if is_array(&first) && second_is_null(function) => match first {
                Kind::Holder(holder) => Ok(Kind::Holder(holder.without_modifiers())),
                other => Err(refuse(&other, &place)),
            },
            Holding::Join => join(&args).map(Kind::Holder).ok_or_else(|| {
                refuse(
                    args.iter()
                        .map(|arg| &arg.kind)
                        .find(|kind| kind.protected().is_some())
                        .unwrap_or(&first),
                    &place,
                )
            }),
            Holding::Dimensions | Holding::Remove => Err(refuse(
                kinds()
                    .find(|kind| kind.protected().is_some())
                    .unwrap_or(&first),
                &place,
            )),
        }
    }

    /// `coalesce(json_agg(x), '[]')`: plain documents may stand beside such that hold, empty arrays beside arrays.
    pub(super) fn either(
        &mut self,
        choices: Vec<(&Expr, Kind)>,
        place: &str,
    ) -> Result<Kind, Refusal> {
        let mut merged: Option<Kind> = None;
        let mut others = Vec::new();
        for (expr, kind) in choices {
            let refused = refusals::not_plain(&kind, place).map(|r| r.at(self.start_of(expr)));
            match kind {
                Kind::Holder(holder) => {
                    let kind = Kind::Holder(holder.without_modifiers());
                    let next = match merged {
                        None => Some(kind),
                        Some(before) => before.merged(kind),
                    };
                    merged = next;
                    if merged.is_none() {
                        return Err(refused.unwrap_or_else(|| refusals::construct(place)));
                    }
                }
                Kind::Sealed(_) => {
                    return Err(refused.unwrap_or_else(|| refusals::construct(place)));
                }
                Kind::Plain(_) | Kind::Untyped => others.push(expr),
            }
        }
        let Some(Kind::Holder(holder)) = merged else {
            return Err(refusals::construct(place));
        };
        // Another document would go to the server as it is.
        if holder.given().is_some() && !others.iter().all(|other| is_null(other)) {
            return Err(refusals::holder(&holder, place));
        }
        if !matches!(holder.inside(), Inside::Json(_)) {
            for other in others {
                self.empty_array(other, &holder, place)?;
            }
        }
        Ok(Kind::Holder(holder))
    }

    /// NULL, or `'{}'` for an array.
    fn empty_array(&mut self, expr: &Expr, holder: &Holder, place: &str) -> Result<(), Refusal> {
        let refuse = || refusals::holder(holder, &format!("{place} together with other values"));
        if is_null(expr) {
            return Ok(());
        }
        let operand = self.operand(expr)?.ok_or_else(refuse)?;
        let element = match holder.inside() {
            Inside::Array { element, .. } => element.sealed(),
            Inside::Row(_) | Inside::Json(_) => None,
        };
        let fits = match (&operand.cast, element) {
            (Cast::None, _) => true,
            (Cast::Array(wanted), Some(sealed)) => *wanted == sealed.logical().without_modifiers(),
            (Cast::Array(_) | Cast::To(_) | Cast::Read(_) | Cast::Other(_), _) => false,
        };
        match &operand.what {
            What::Null if fits => {
                self.replace_operand(&operand, Replacement::Text("NULL".to_owned()));
            }
            What::Literal(literal) if fits && literal.text.trim() == "{}" => {
                self.replace_operand(&operand, Replacement::Text("'{}'".to_owned()));
            }
            What::Null
            | What::Literal(_)
            | What::Param(..)
            | What::Applied { .. }
            | What::Asked(_) => {
                return Err(refuse());
            }
        }
        Ok(())
    }

    /// What a window holds comes from other rows too: nothing is known of their scopes.
    fn of_window(&mut self, function: &Function, made: Kind) -> Kind {
        if function.over.is_some() {
            self.of_other_rows(made)
        } else {
            made
        }
    }

    /// The same from rows of which nothing is known.
    pub(super) fn of_other_rows(&mut self, mut made: Kind) -> Kind {
        let instances = &mut self.instances;
        made.each_instance(&mut |instance| {
            let relation = instances[*instance];
            instances.push(relation);
            *instance = instances.len() - 1;
        });
        made
    }

    /// `ARRAY[a, b]`
    pub(super) fn array_of(&mut self, array: &Array, cx: Cx<'_>) -> Result<Kind, Refusal> {
        let mut elements: Vec<(Kind, &Expr)> = Vec::new();
        let mut nulls = false;
        let mut operands: Vec<&Expr> = Vec::new();
        for element in &array.elem {
            if is_null(element) {
                nulls = true;
                continue;
            }
            if self.operand(element)?.is_some() {
                self.expr(element, cx)?;
                operands.push(element);
                continue;
            }
            elements.push((self.held(element, cx)?, element));
        }
        if elements.iter().all(|(kind, _)| kind.protected().is_none()) {
            return Ok(Kind::Plain(None));
        }
        let mut merged: Option<Kind> = None;
        let mut modified = !nulls;
        for (kind, expr) in elements {
            let place = "an array together with something else";
            let position = self.start_of(expr);
            let refused = refusals::not_plain(&kind, place);
            merged = Some(match merged {
                None => kind,
                Some(before) => {
                    let refused = refused.or_else(|| refusals::not_plain(&before, place));
                    modified &= same_modifiers(&before, &kind);
                    before.merged(kind).ok_or_else(|| {
                        refused
                            .unwrap_or_else(|| refusals::construct(place))
                            .at(position)
                    })?
                }
            });
        }
        if let Some(before) = merged.take() {
            merged = Some(self.beside(before, &operands)?);
            modified &= operands.is_empty();
        }
        match merged {
            // An array of arrays is one of more dimensions.
            Some(Kind::Holder(holder)) if matches!(holder.inside(), Inside::Array { .. }) => {
                Ok(Kind::Holder(holder))
            }
            Some(element) => Holder::array(element.computed(), modified).map(Kind::Holder),
            None => Ok(Kind::Plain(None)),
        }
    }

    /// `ARRAY[email, 'x']`: literals and parameters beside a sealed value are sealed with it.
    fn beside(&mut self, element: Kind, operands: &[&Expr]) -> Result<Kind, Refusal> {
        let place = "an array together with something else";
        let Some(first) = operands.first() else {
            return Ok(element);
        };
        let refused = refusals::not_plain(&element, place);
        let bare = match element {
            Kind::Sealed(sealed) => sealed.of_expression(),
            Kind::Plain(_) | Kind::Untyped | Kind::Holder(_) => None,
        };
        let Some(mut sealed) = bare else {
            let refused = refused.unwrap_or_else(|| refusals::construct(place));
            return Err(refused.at(self.start_of(first)));
        };
        for operand in operands {
            if let Some(operand) = self.operand(operand)? {
                sealed = self.pass(sealed, operand)?;
            }
        }
        Ok(Kind::Sealed(sealed))
    }
}

impl Kind {
    /// As the value of an expression: PostgreSQL reports no column for it.
    pub(super) fn computed(self) -> Self {
        match self {
            Self::Sealed(sealed) => Self::Sealed(Sealed {
                computed: true,
                ..sealed
            }),
            other @ (Self::Plain(_) | Self::Untyped | Self::Holder(_)) => other,
        }
    }

    /// As an element of an array that has the modifiers of its elements' type, or has not.
    pub(super) fn element_of(&self, modified: bool) -> Self {
        match self {
            Self::Sealed(sealed) if !modified && !sealed.converted => Self::Sealed(Sealed {
                computed: true,
                shown: sealed.shown.without_modifiers(),
                ..sealed.clone()
            }),
            other => other.clone().computed(),
        }
    }

    /// Either of two values of one type; `None` if they cannot stand for each other.
    pub(super) fn merged(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Sealed(a), Self::Sealed(b)) if a.logical() == b.logical() => {
                a.or(b).map(Self::Sealed)
            }
            (Self::Sealed(_), Self::Sealed(_)) => None,
            (Self::Holder(a), Self::Holder(b)) => a.merged(b).map(Self::Holder),
            (Self::Plain(_) | Self::Untyped, Self::Plain(_) | Self::Untyped) => {
                Some(Self::Plain(None))
            }
            (Self::Sealed(_), Self::Plain(_) | Self::Untyped | Self::Holder(_))
            | (Self::Holder(_), Self::Plain(_) | Self::Untyped | Self::Sealed(_))
            | (Self::Plain(_) | Self::Untyped, Self::Sealed(_) | Self::Holder(_)) => None,
        }
    }
}

/// `ARRAY(SELECT a ...)`, given the columns of the sub-select.
pub(super) fn array_of_query(columns: &[Column]) -> Result<Kind, Refusal> {
    match columns {
        [only] => match &only.kind {
            Kind::Plain(_) | Kind::Untyped => Ok(Kind::Plain(None)),
            Kind::Holder(holder) if matches!(holder.inside(), Inside::Array { .. }) => {
                Ok(only.kind.clone())
            }
            Kind::Sealed(_) | Kind::Holder(_) => {
                Holder::array(only.kind.clone().computed(), true).map(Kind::Holder)
            }
        },
        _ => Err(refusals::construct("ARRAY of several columns")),
    }
}

/// What must hold of a call for its rule to be about PostgreSQL's own function.
fn check_call(function: &Function, args: &[Column], place: &str) -> Result<(), Refusal> {
    let held = || {
        args.iter()
            .find_map(|arg| refusals::not_plain(&arg.kind, place))
            .unwrap_or_else(|| refusals::construct(place))
    };
    let qualified = match function.name.0.as_slice() {
        [_] => false,
        [schema, _] => !schema.to_string().eq_ignore_ascii_case("pg_catalog"),
        _ => true,
    };
    if qualified {
        return Err(held());
    }
    if let FunctionArguments::List(list) = &function.args {
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
            return Err(match args.iter().find_map(|arg| arg.kind.sealed()) {
                Some(sealed) => {
                    refusals::no_order(sealed.column(), &format!("DISTINCT of {place}"))
                }
                None => held(),
            });
        }
        if list
            .args
            .iter()
            .any(|arg| !matches!(arg, FunctionArg::Unnamed(_)))
        {
            return Err(held());
        }
    }
    Ok(())
}

fn is_array(kind: &Kind) -> bool {
    matches!(kind, Kind::Holder(holder) if matches!(holder.inside(), Inside::Array { .. }))
}

fn is_null(expr: &Expr) -> bool {
    matches!(strip(expr), Expr::Value(value) if value.value == sqlparser::ast::Value::Null)
}

fn plain_behind_first(args: &[Column]) -> bool {
    args[1..].iter().all(|arg| arg.kind.protected().is_none())
}

fn second_is_null(function: &Function) -> bool {
    match &function.args {
        FunctionArguments::List(list) => match list.args.as_slice() {
            [_, second] => matches!(arg_of(second), FunctionArgExpr::Expr(expr) if is_null(expr)),
            _ => false,
        },
        FunctionArguments::None | FunctionArguments::Subquery(_) => false,
    }
}

fn same_modifiers(a: &Kind, b: &Kind) -> bool {
    match (a, b) {
        (Kind::Sealed(a), Kind::Sealed(b)) => a.logical() == b.logical(),
        _ => true,
    }
}

/// `array_append(array, element)` and its kin: all of one type.
fn join(args: &[Column]) -> Option<Holder> {
    let element = |kind: &Kind| match kind {
        Kind::Holder(holder) => match holder.inside() {
            Inside::Array { element, .. } => Some(element.as_ref().clone()),
            Inside::Row(_) | Inside::Json(_) => None,
        },
        Kind::Sealed(_) => Some(kind.clone()),
        Kind::Plain(_) | Kind::Untyped => None,
    };
    let mut elements = args.iter().map(|arg| element(&arg.kind));
    let first = elements.next()??;
    let merged = elements.try_fold(first, |merged, next| merged.merged(next?))?;
    Holder::array(merged.computed(), false).ok()
}

/// A document of values of these kinds.
fn document<'k>(
    kinds: impl Iterator<Item = &'k Kind>,
    jsonb: bool,
    is_array: bool,
) -> Result<Kind, Refusal> {
    let mut sources = Vec::new();
    let mut rendered = Vec::new();
    let (mut given, mut count) = (None, 0);
    for kind in kinds {
        count += 1;
        if let Kind::Holder(holder) = kind {
            given = given.or(holder.given());
        }
        check_shown(kind)?;
        collect(kind, &mut sources, &mut rendered);
    }
    let rendering = if jsonb {
        Rendering::Jsonb
    } else {
        one_rendering(&sources, &rendered)?
    };
    Holder::json(Document {
        sources,
        jsonb,
        rendering,
        // Beside others it is not known to be whole.
        given: given.map(|call| {
            if is_array && count == 1 {
                call
            } else {
                usize::MAX
            }
        }),
    })
    .map(Kind::Holder)
}

/// A document shows values in their own type: a number that is cast to text would be no string in it.
fn check_shown(kind: &Kind) -> Result<(), Refusal> {
    match kind {
        Kind::Sealed(sealed)
            if sealed.converted || !(sealed.is_as_stored() || is_text(sealed.shown)) =>
        {
            let place = "a JSON document under a cast to another type";
            Err(refusals::not_supported(sealed.column(), place))
        }
        Kind::Sealed(_) | Kind::Plain(_) | Kind::Untyped | Kind::Holder(_) => Ok(()),
    }
}

/// What is inside a kind, and how it is written if it goes into a `json` document.
fn collect(kind: &Kind, sources: &mut Vec<Source>, rendered: &mut Vec<Rendering>) {
    match kind {
        Kind::Plain(_) | Kind::Untyped => {}
        Kind::Sealed(sealed) => {
            sources.extend_from_slice(&sealed.sources);
            rendered.push(Rendering::Json);
        }
        Kind::Holder(holder) => match holder.inside() {
            Inside::Array { element, .. } => collect(element, sources, rendered),
            Inside::Row(fields) => fields
                .iter()
                .for_each(|field| collect(&field.kind, sources, rendered)),
            Inside::Json(document) => {
                sources.extend_from_slice(&document.sources);
                rendered.push(document.rendering);
            }
        },
    }
}

/// One way of writing for the whole document. It matters only where `to_json` and `to_jsonb` differ.
fn one_rendering(sources: &[Source], rendered: &[Rendering]) -> Result<Rendering, Refusal> {
    let all = |wanted: Rendering| rendered.iter().all(|rendering| *rendering == wanted);
    if all(Rendering::Json) {
        return Ok(Rendering::Json);
    }
    if all(Rendering::Jsonb) {
        return Ok(Rendering::Jsonb);
    }
    let differs = |source: &&Source| {
        matches!(
            source.column.logical,
            LogicalType::Float4 | LogicalType::Float8 | LogicalType::Json
        )
    };
    match sources.iter().find(differs) {
        Some(source) => Err(refusals::not_supported(
            &source.column,
            "json and jsonb in one document",
        )),
        None => Ok(Rendering::Json),
    }
}

/// Whether values of the document are documents themselves, of which the server does not know what is inside.
pub(super) fn holds_documents(holder: &Holder) -> bool {
    holder.sources().iter().any(|source| {
        matches!(
            source.column.logical,
            LogicalType::Json | LogicalType::Jsonb
        )
    })
}
