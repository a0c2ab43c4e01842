//! Literal and parameter arrays that `unnest` takes apart: their elements are sealed one by one on the way into a
//! protected column, or become search terms. An array is replaced as a whole, so its elements must be used nowhere else.

use std::ops::Range;

use sqlparser::{
    ast::{
        Distinct, Expr, Function, FunctionArguments, GroupByExpr, Ident, Query, Select, SelectItem,
        SetExpr, TableAlias, TableFactor,
    },
    tokenizer::Token as Kind,
};

use super::{
    Analyser,
    cells::Cells,
    compare::strip,
    expr::Cx,
    from::unnamed,
    function::last_name,
    literal::Literal,
    namespace::{Namespace, name_of},
    operand::{Cast, Operand, What, array_of, check_types},
    refusals,
    scope::{Part, written_scope},
};
use crate::{
    Refusal,
    plan::{self, Make, Replacement},
    ruleset::Protected,
    types::{Conversion, Converted, LogicalType, Value, convert},
};

/// A FROM of one `unnest` and nothing else.
struct Unnested<'q> {
    arrays: Vec<&'q Expr>,
    /// Its name, where it has one besides its column's.
    table: Option<String>,
    /// The names of its columns, as far as the statement gives them.
    columns: Vec<String>,
}

/// What a column is made of, if that is nothing but literals and parameters.
pub(super) enum Source {
    /// The elements of an array.
    Array(Operand),
    /// Single values.
    Cells(Cells),
}

/// A column that `unnest` makes of a literal or parameter array, or VALUES of literals and parameters.
pub(super) struct ElementColumn {
    /// Its name.
    name: String,
    /// The name of its table; `None` if that is its own.
    table: Option<String>,
    /// The common table expression that it is a column of.
    cte: Option<String>,
    pub(super) source: Source,
}

impl Analyser<'_> {
    /// Remembers of which literals and parameters the columns of an entry are made.
    pub(super) fn remember_elements(
        &mut self,
        names: &Namespace,
        cte: Option<String>,
        sources: Vec<Option<Source>>,
    ) {
        let [entry] = names.entries.as_slice() else {
            return;
        };
        for (index, source) in sources.into_iter().enumerate() {
            let name = entry
                .columns
                .get(index)
                .and_then(|column| column.name.clone());
            if let (Some(source), Some(name)) = (source, name) {
                let table = entry.name.clone().filter(|table| *table != name);
                let column = ElementColumn {
                    name,
                    table,
                    cte: cte.clone(),
                    source,
                };
                self.element_columns.insert((entry.id, index), column);
            }
        }
    }

    /// What a column is made of, if the statement uses the column here and nowhere else.
    pub(super) fn element_column(
        &mut self,
        expr: &Expr,
        cx: Cx<'_>,
    ) -> Result<Option<Source>, Refusal> {
        let idents = match strip(expr) {
            Expr::Identifier(ident) => std::slice::from_ref(ident),
            Expr::CompoundIdentifier(idents) => idents.as_slice(),
            _ => return Ok(None),
        };
        let found = self.find(idents, cx.scope)?;
        let Some(identity) = found.identity.filter(|_| !found.qualify) else {
            return Ok(None);
        };
        let Some(column) = self.element_columns.get(&identity) else {
            return Ok(None);
        };
        let place = idents
            .last()
            .and_then(|ident| self.tokens.starting(ident.span.start));
        let only = place.is_some_and(|place| self.used_only_at(column, &[place]));
        if !only {
            return Ok(None);
        }
        for ident in idents {
            self.account(ident);
        }
        let column = self.element_columns.remove(&identity);
        Ok(column.map(|column| column.source))
    }

    /// The values of this column of a common table expression, if the statement uses the column here and nowhere else.
    pub(super) fn cells_of_cte(
        &mut self,
        cte: &str,
        ident: &Ident,
    ) -> Result<Option<Cells>, Refusal> {
        let name = name_of(ident);
        let Some(place) = self.tokens.starting(ident.span.start) else {
            return Ok(None);
        };
        let found = { self.element_columns.iter() }.find(|(_, column)| {
            column.cte.as_deref() == Some(cte)
                && column.name == name
                && matches!(column.source, Source::Cells(_))
                && self.used_only_at(column, &[place])
        });
        let Some(identity) = found.map(|(identity, _)| *identity) else {
            return Ok(None);
        };
        let column = self.element_columns.remove(&identity);
        Ok(column.and_then(|column| match column.source {
            Source::Cells(cells) => Some(cells),
            Source::Array(_) => None,
        }))
    }

    /// Whether the common table expression that a column belongs to, if any, is named only where it is defined and once
    /// more.
    pub(super) fn used_in_one_from(&self, column: &ElementColumn) -> bool {
        let tokens = self.tokens;
        let qualifies = |at: usize| {
            matches!(tokens.kind(at + 1), Kind::Period) && !matches!(tokens.kind(at + 2), Kind::Mul)
        };
        column.cte.as_ref().is_none_or(|cte| {
            let named = |at: &usize| tokens.name(*at).is_some_and(|found| *found == **cte);
            (0..tokens.len())
                .filter(|at| named(at) && !qualifies(*at))
                .count()
                == 2
        })
    }

    /// Whether a column's name stands in the text only where it is defined and at these places, and its table's name only
    /// where that is defined and before a column's.
    pub(super) fn used_only_at(&self, column: &ElementColumn, uses: &[usize]) -> bool {
        let tokens = self.tokens;
        let is = |at: usize, name: &str| tokens.name(at).is_some_and(|found| *found == *name);
        let behind_period = |at: usize| at >= 2 && matches!(tokens.kind(at - 1), Kind::Period);
        let of_another = |at: usize| {
            let table = column.table.as_ref().unwrap_or(&column.name);
            behind_period(at) && tokens.name(at - 2).is_some() && !is(at - 2, table)
        };
        let others = (0..tokens.len())
            .filter(|at| is(*at, &column.name))
            .filter(|at| !uses.contains(at) && !self.targets.contains(at) && !of_another(*at))
            .count();
        let qualifies = |at: usize| {
            matches!(tokens.kind(at + 1), Kind::Period) && !matches!(tokens.kind(at + 2), Kind::Mul)
        };
        let places = |table: &String| {
            (0..tokens.len())
                .filter(|at| is(*at, table) && !qualifies(*at))
                .count()
        };
        // A common table expression is named where it is defined, and where it is used.
        let once = |table: &String| match &column.cte {
            Some(cte) if cte == table => places(table) == 2,
            _ => places(table) == 1,
        };
        let defined = column.cte.as_ref().is_none_or(|cte| places(cte) == 2);
        let used = defined && column.table.as_ref().is_none_or(once);
        // A star by itself shows every column; `count(*)` and `t.*` do not.
        let shows_all = (0..tokens.len()).any(|at| {
            matches!(tokens.kind(at), Kind::Mul)
                && !behind_period(at)
                && !(at > 0
                    && matches!(tokens.kind(at - 1), Kind::LParen)
                    && matches!(tokens.kind(at + 1), Kind::RParen))
        });
        let natural = (0..tokens.len()).any(|at| tokens.is_word(at, "natural"));
        others == 1 && used && !shows_all && !natural
    }

    /// The array of which a query yields the elements as this column, if that is all it does with it.
    pub(super) fn elements_of(
        &self,
        query: &Query,
        column: usize,
    ) -> Result<Option<Operand>, Refusal> {
        let (SetExpr::Select(select), None, None) =
            (query.body.as_ref(), &query.with, &query.order_by)
        else {
            return Ok(None);
        };
        if !is_simple(select) {
            return Ok(None);
        }
        let range = self.source_range(query)?;
        let item =
            match select.projection.as_slice() {
                [SelectItem::Wildcard(_)] => None,
                items => match items.get(column) {
                    Some(
                        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. },
                    ) if items.iter().all(is_expression) => Some(strip(expr)),
                    _ => return Ok(None),
                },
            };
        if let Some(Expr::Function(function)) = item {
            return match unnest_argument(function) {
                Some(array) if select.from.is_empty() => self.array_operand(array),
                _ => Ok(None),
            };
        }
        let Some(from) = unnest_in(select) else {
            return Ok(None);
        };
        let index = match item {
            None => Some(column),
            Some(Expr::Identifier(ident)) => from.position(&name_of(ident)),
            Some(Expr::CompoundIdentifier(idents)) => match idents.as_slice() {
                [table, column] if from.table.as_deref() == Some(&*name_of(table)) => {
                    from.position(&name_of(column))
                }
                _ => None,
            },
            Some(_) => None,
        };
        let Some(array) = index.and_then(|index| Some((index, *from.arrays.get(index)?))) else {
            return Ok(None);
        };
        if !self.used_once(&from, array.0, item.is_some(), range) {
            return Ok(None);
        }
        self.array_operand(array.1)
    }

    /// A literal or parameter that is an array of a logical type.
    pub(super) fn array_operand(&self, array: &Expr) -> Result<Option<Operand>, Refusal> {
        let operand = match self.operand(array)? {
            Some(operand) if matches!(operand.cast, Cast::Other(_)) => self.twice_cast(array)?,
            operand => operand,
        };
        Ok(operand.filter(|operand| self.element_type(operand).is_some()))
    }

    /// `('{a,b}'::text[])::varchar(11)[]`: a literal that is cast to one array type and then to another. Its own type is
    /// the first.
    fn twice_cast(&self, array: &Expr) -> Result<Option<Operand>, Refusal> {
        let Expr::Cast { expr: inner, .. } = strip(array) else {
            return Ok(None);
        };
        let Some(first) = self.operand(inner)? else {
            return Ok(None);
        };
        let second = self.cast_type(strip(array), &first.extent)?;
        let (What::Literal(literal), Cast::Array(own), Cast::Array(_)) =
            (first.what, first.cast, &second)
        else {
            return Ok(None);
        };
        if literal.logical.is_some() || own != own.without_modifiers() {
            return Ok(None);
        }
        Ok(Some(Operand {
            what: What::Literal(Literal {
                logical: array_of(own),
                ..literal
            }),
            cast: second,
            common: None,
            extent: self.tokens.extent(array)?,
        }))
    }

    /// The type of the elements of an array operand.
    pub(super) fn element_type(&self, operand: &Operand) -> Option<LogicalType> {
        match (&operand.what, &operand.cast) {
            (What::Param(param, _), cast) => self.array_parameter_type(*param, cast).ok()?,
            (What::Null, Cast::Array(element)) => Some(*element),
            (What::Literal(literal), Cast::Array(element)) => match literal.logical {
                None | Some(LogicalType::Array(_)) => Some(*element),
                Some(_) => None,
            },
            // `ARRAY['a', 'b']` has a type by itself.
            (What::Literal(literal), Cast::None) => match literal.logical {
                Some(LogicalType::Array(element)) => Some(element.kind()),
                _ => None,
            },
            (What::Null | What::Literal(_) | What::Applied { .. } | What::Asked(_), _) => None,
        }
    }

    /// Whether the names of a column, and of its table, stand only where they are defined and in the select list.
    fn used_once(
        &self,
        from: &Unnested<'_>,
        index: usize,
        listed: bool,
        range: Range<usize>,
    ) -> bool {
        let named = |name: &str| {
            range
                .clone()
                .filter(|at| self.tokens.name(*at).is_some_and(|found| *found == *name))
                .collect::<Vec<_>>()
        };
        let qualifies = |at: usize| {
            matches!(self.tokens.kind(at + 1), Kind::Period)
                && !matches!(self.tokens.kind(at + 2), Kind::Mul)
        };
        let once = match from.columns.get(index) {
            // `unnest` itself is the name of a column without one; the call is a word more.
            Some(name) if name == "unnest" => named(name).len() == 1 + usize::from(listed),
            Some(name) => named(name).len() == 1 + usize::from(listed),
            None => !listed,
        };
        let table = match &from.table {
            Some(name) => {
                let places = named(name);
                let definitions = places.iter().filter(|at| !qualifies(**at)).count();
                definitions == 1
            }
            None => true,
        };
        // Without names for its columns, an alias that is no column stands for the row.
        let stars = range
            .clone()
            .filter(|at| matches!(self.tokens.kind(*at), Kind::Mul))
            .count();
        once && table && stars == usize::from(!listed)
    }

    /// The tokens of the query that an INSERT takes its rows from, or of a sub-select.
    fn source_range(&self, query: &Query) -> Result<Range<usize>, Refusal> {
        let (start, _) = self.tokens.lead(query)?;
        let mut end = start;
        while end < self.tokens.len() {
            match self.tokens.kind(end) {
                Kind::LParen => {
                    end = self.tokens.behind_pair(end)?;
                    continue;
                }
                Kind::RParen | Kind::SemiColon | Kind::EOF => break,
                _ if self.tokens.is_word(end, "returning") => break,
                _ if self.tokens.is_word(end, "on") && self.tokens.is_word(end + 1, "conflict") => {
                    break;
                }
                _ => end += 1,
            }
        }
        Ok(start..end)
    }

    /// Seals the elements of an array for a protected column.
    pub(super) fn seal_elements(
        &mut self,
        column: &Protected,
        operand: Operand,
        held: &dyn Fn(&str) -> Option<Part>,
    ) -> Result<(), Refusal> {
        let at = self.tokens.range(operand.extent.start).start;
        let what = match &operand.what {
            What::Null => {
                self.replace_operand(&operand, Replacement::Text("NULL::bytea[]".to_owned()));
                return Ok(());
            }
            What::Param(number, _) => plan::Operand::Param(*number),
            What::Literal(_) | What::Applied { .. } | What::Asked(_) => {
                let elements = self.literal_elements(&operand, column);
                let elements = elements.map_err(|refusal| refusal.at(at))?;
                let bare = Protected {
                    logical: column.logical.without_modifiers(),
                    ..column.clone()
                };
                if self.exact && self.literal_elements(&operand, &bare)? != elements {
                    let what = "a literal that does not fit, and is used elsewhere too";
                    return Err(refusals::not_sealable(column, what).at(at));
                }
                plan::Operand::Array(elements)
            }
        };
        let scope = written_scope(column, held).map_err(|refusal| refusal.at(at))?;
        self.note(format!(
            "The elements of an array are sealed for {} one by one before they are sent.",
            refusals::name_of(column)
        ));
        self.slot(Make::SealElements, what, column, scope, &operand)
    }

    /// The elements of a literal array, in the type that it is cast to.
    fn cast_elements(
        &self,
        literal: &Literal,
        element: LogicalType,
        position: usize,
    ) -> Result<Vec<Option<Value>>, Refusal> {
        let format = &self.view.format;
        let own = match literal.logical {
            Some(LogicalType::Array(own)) => own.kind(),
            // A cast cuts off what does not fit; an assignment says so.
            _ => element.without_modifiers(),
        };
        let values = own
            .array_input(literal.text.as_bytes(), format)
            .map_err(|error| refusals::input(error, position))?;
        if own == element {
            return Ok(values);
        }
        let cast =
            |value: Value| match convert(&value, own, element, Conversion::Assignment, format) {
                Ok(Converted::Value(value)) => Ok(value),
                // An explicit cast cuts what is too long, and knows more types than an assignment.
                Ok(Converted::NeverEqual) | Err(_) => {
                    let what = "an array whose cast changes its elements";
                    Err(refusals::construct(what).at(position))
                }
            };
        let values = values.into_iter();
        values.map(|value| value.map(cast).transpose()).collect()
    }

    /// The elements of a literal array as a column stores them.
    pub(super) fn literal_elements(
        &self,
        operand: &Operand,
        column: &Protected,
    ) -> Result<Vec<Option<Value>>, Refusal> {
        let (What::Literal(literal), Some(element)) = (&operand.what, self.element_type(operand))
        else {
            return Err(refusals::not_constant(column));
        };
        let position = self.tokens.range(operand.extent.start).start;
        let format = &self.view.format;
        check_types(element, column, Conversion::Assignment)?;
        let values = self.cast_elements(literal, element, position)?;
        let stored = |value: Value| match convert(
            &value,
            element,
            column.logical,
            Conversion::Assignment,
            format,
        ) {
            Ok(Converted::Value(value)) => Ok(value),
            Ok(Converted::NeverEqual) => Err(refusals::not_constant(column)),
            Err(error) => Err(refusals::input(error, position)),
        };
        values
            .into_iter()
            .map(|value| value.map(stored).transpose())
            .collect()
    }

    /// The part of a scope that the elements of an array make, if they are of the scope column's own type.
    pub(super) fn element_part(&self, operand: &Operand, column: LogicalType) -> Option<Part> {
        use LogicalType::{Bool, Int2, Int4, Int8, Text, Uuid};
        let element = self.element_type(operand)?;
        let same = super::constant::family(element) == super::constant::family(column);
        if !same || !matches!(column, Text | Int2 | Int4 | Int8 | Uuid | Bool) {
            return None;
        }
        match &operand.what {
            What::Param(number, _) => Some(Part::Element(*number, element)),
            What::Literal(literal) => {
                let values = self.cast_elements(literal, element, 0).ok()?;
                Some(Part::Listed(values, element))
            }
            What::Null | What::Applied { .. } | What::Asked(_) => None,
        }
    }
}

impl Unnested<'_> {
    fn position(&self, name: &str) -> Option<usize> {
        let mut found = self
            .columns
            .iter()
            .enumerate()
            .filter(|(_, own)| *own == name);
        match (found.next(), found.next()) {
            (Some((index, _)), None) => Some(index),
            _ => None,
        }
    }
}

/// `unnest(array)` as a select item.
fn unnest_argument(function: &Function) -> Option<&Expr> {
    let plain = function.over.is_none()
        && function.filter.is_none()
        && function.within_group.is_empty()
        && function.name.0.len() == 1
        && last_name(&function.name)? == "unnest";
    match &function.args {
        FunctionArguments::List(list) if plain && list.clauses.is_empty() => {
            match unnamed(&list.args)?.as_slice() {
                [array] => Some(array),
                _ => None,
            }
        }
        _ => None,
    }
}

fn unnest_in(select: &Select) -> Option<Unnested<'_>> {
    let [table] = select.from.as_slice() else {
        return None;
    };
    if !table.joins.is_empty() {
        return None;
    }
    let (arrays, alias): (Vec<&Expr>, &Option<TableAlias>) = match &table.relation {
        TableFactor::UNNEST {
            array_exprs,
            alias,
            with_offset: false,
            ..
        } => (array_exprs.iter().collect(), alias),
        TableFactor::Table {
            name,
            args: Some(args),
            alias,
            ..
        } if name.0.len() == 1 && last_name(name)? == "unnest" => (unnamed(&args.args)?, alias),
        TableFactor::Function {
            name, args, alias, ..
        } if name.0.len() == 1 && last_name(name)? == "unnest" => (unnamed(args)?, alias),
        _ => return None,
    };
    let (table, columns) = match alias {
        Some(alias) if alias.columns.is_empty() && arrays.len() == 1 => {
            (None, vec![name_of(&alias.name)])
        }
        Some(alias) => (
            Some(name_of(&alias.name)),
            alias
                .columns
                .iter()
                .map(|column| name_of(&column.name))
                .collect(),
        ),
        None if arrays.len() == 1 => (None, vec!["unnest".to_owned()]),
        None => (None, Vec::new()),
    };
    // A table and a column of one name could be told apart only by place.
    let apart = table.as_ref().is_none_or(|table| !columns.contains(table));
    apart.then_some(Unnested {
        arrays,
        table,
        columns,
    })
}

/// Rows go through it as they are.
pub(super) fn is_simple(select: &Select) -> bool {
    let groups = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(keys, modifiers) => !keys.is_empty() || !modifiers.is_empty(),
    };
    !groups
        && !matches!(select.distinct, Some(Distinct::Distinct | Distinct::On(_)))
        && select.having.is_none()
        && select.named_window.is_empty()
}

pub(super) fn is_expression(item: &SelectItem) -> bool {
    matches!(
        item,
        SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. }
    )
}
