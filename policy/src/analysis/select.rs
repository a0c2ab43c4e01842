//! SELECT: names, facts, conditions, groups, the select list and its order. What is selected is passed on as it is.

use std::rc::Rc;

use sqlparser::ast::{
    Expr, Ident, NamedWindowExpr, ObjectName, OrderBy, OrderByKind, Select, SelectFlavor,
    SelectItem, SelectItemQualifiedWildcardKind, WildcardAdditionalOptions,
};

use super::{
    Analyser,
    access::is_whole_row,
    branch::is_grouped,
    compare::strip,
    expr::Cx,
    figure::column_name,
    from::Condition,
    function::is_nullif,
    group::{Grouping, Output, written_reference},
    holder::Inside,
    kind::Kind,
    namespace::{Column, Ctes, Entry, Scope, name_of},
    passing::repeatable,
    query::Rows,
    refusals,
    relation::idents_of,
    statement::place,
    term::uncast,
    using::written,
};
use crate::{Refusal, plan::Replacement, text::quote_identifier};

impl Analyser<'_> {
    /// A SELECT with the ORDER BY that belongs to it.
    pub(super) fn select(
        &mut self,
        select: &Select,
        order_by: Option<&OrderBy>,
        parent: Option<&Scope<'_>>,
        ctes: &Ctes,
    ) -> Result<Rows, Refusal> {
        check_clauses(select)?;
        let wanted = self.wanted.take();
        let mark = self.facts.len();
        let mut conditions = Vec::new();
        let mut names = self.from(&select.from, parent, ctes, &mut conditions)?;
        if let Some(wanted) = wanted {
            let around = (parent, ctes);
            names = self.give_wanted(wanted, select, names, &mut conditions, around)?;
        }
        let scope = Scope {
            names: &names,
            parent,
        };
        let cx = Cx {
            scope: &scope,
            ctes,
            grouping: None,
        };
        self.facts_of(&conditions, select.selection.as_ref(), cx);
        self.join_conditions(&conditions, cx)?;
        if let Some(condition) = &select.selection {
            self.boolean(condition, cx)?;
        }
        self.not_padded(&conditions, select.selection.as_ref(), cx);
        let outer = std::mem::replace(&mut self.row_facts, self.facts.len());
        let grouping = self.grouping(&select.group_by, &select.projection, cx)?;
        let cx = Cx {
            grouping: grouping.as_ref(),
            ..cx
        };
        let (outputs, open) = self.projection(&select.projection, cx)?;
        if let Some(having) = &select.having {
            self.condition(having, cx)?;
        }
        for window in &select.named_window {
            match &window.1 {
                NamedWindowExpr::WindowSpec(spec) => self.window(spec, cx)?,
                NamedWindowExpr::NamedWindow(_) => {
                    return Err(refusals::construct("this form of WINDOW"));
                }
            }
        }
        self.distinctness(select, &outputs, open, cx)?;
        let columns: Vec<_> = outputs
            .into_iter()
            .map(|output| Column {
                name: output.name,
                kind: output.kind,
            })
            .collect();
        if let Some(order_by) = order_by {
            let OrderByKind::Expressions(keys) = &order_by.kind else {
                return Err(refusals::construct("ORDER BY ALL"));
            };
            for key in keys {
                self.order_key(key, &columns, open, cx)?;
            }
        }
        self.row_facts = outer;
        let facts = self.facts.split_off(mark);
        Ok(Rows {
            columns,
            open,
            facts,
        })
    }

    /// What WHERE and the inner joins say holds for all rows that count.
    pub(super) fn facts_of(
        &mut self,
        conditions: &[Condition<'_>],
        selection: Option<&Expr>,
        cx: Cx<'_>,
    ) {
        if let Some(condition) = selection {
            self.collect_facts(condition, cx);
        }
        for condition in conditions {
            if let Condition::On {
                on,
                names,
                outer: false,
            } = condition
            {
                let scope = Scope {
                    names,
                    parent: cx.scope.parent,
                };
                self.collect_facts(
                    on,
                    Cx {
                        scope: &scope,
                        ..cx
                    },
                );
            }
        }
    }

    pub(super) fn join_conditions(
        &mut self,
        conditions: &[Condition<'_>],
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        for condition in conditions {
            match condition {
                Condition::On { on, names, .. } => {
                    let scope = Scope {
                        names,
                        parent: cx.scope.parent,
                    };
                    self.condition(
                        on,
                        Cx {
                            scope: &scope,
                            ..cx
                        },
                    )?;
                }
                Condition::Using { pairs, first } => self.rewrite_using(pairs, *first)?,
            }
        }
        Ok(())
    }

    /// A select or RETURNING list: its columns, and whether the server knows more.
    pub(super) fn projection(
        &mut self,
        items: &[SelectItem],
        cx: Cx<'_>,
    ) -> Result<(Vec<Output>, bool), Refusal> {
        let shown = self.outermost == Some(place(items));
        let around = std::mem::replace(&mut self.shown, shown);
        let listed = self.listed(items, cx);
        self.shown = around;
        listed
    }

    fn listed(&mut self, items: &[SelectItem], cx: Cx<'_>) -> Result<(Vec<Output>, bool), Refusal> {
        let mut outputs = Vec::new();
        let mut open = false;
        for item in items {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    if let Some(row) = self.row_of_all_fields(expr) {
                        self.row_star(&row, &mut outputs, cx)?;
                        continue;
                    }
                    let name = column_name(expr);
                    let output = self.item(expr, None, name, cx)?;
                    outputs.push(output);
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    self.account(alias);
                    let output = self.item(expr, Some(alias), Some(name_of(alias)), cx)?;
                    outputs.push(output);
                }
                SelectItem::Wildcard(options) => open |= self.star(options, &mut outputs, cx)?,
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    options,
                ) => {
                    check_star(options)?;
                    open |= self.qualified_star(name, options, &mut outputs, cx)?;
                }
                // PostgreSQL's `(row).*` is a field to the parser.
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(_), _)
                | SelectItem::ExprWithAliases { .. } => {
                    return Err(refusals::construct("this form of select list"));
                }
            }
        }
        Ok((outputs, open))
    }

    /// One item. A sealed value is passed on; in a group, one of its values is.
    fn item(
        &mut self,
        expr: &Expr,
        alias: Option<&Ident>,
        name: Option<String>,
        cx: Cx<'_>,
    ) -> Result<Output, Refusal> {
        if self.stored {
            let kind = self.passed(expr, cx)?;
            return Ok(Output {
                name,
                kind,
                written: None,
            });
        }
        if self.is_fetched(expr) {
            let kind = Kind::Plain(None);
            return Ok(Output {
                name,
                kind,
                written: None,
            });
        }
        let joined = match self.joined_item(expr, cx)? {
            None => self.listed_item(expr, cx)?,
            joined => joined,
        };
        if let Some(kind) = joined {
            if alias.is_none() {
                self.name_item(expr, name.as_deref())?;
            }
            return Ok(Output {
                name,
                kind,
                written: None,
            });
        }
        let grouped = cx.grouping.filter(|grouping| grouping.holds_item(expr));
        let inner = match grouped {
            // The columns in it are those of each row.
            Some(_) => Cx {
                grouping: None,
                ..cx
            },
            None => cx,
        };
        let kind = self.value(expr, inner)?;
        if let Some(grouping) = grouped {
            match &kind {
                Kind::Sealed(sealed) => self
                    .grouped_item(expr, sealed, grouping)
                    .map_err(|refusal| refusal.at(self.start_of(expr)))?,
                Kind::Holder(holder) => {
                    let place = "GROUP BY over an expression";
                    return Err(refusals::holder(holder, place).at(self.start_of(expr)));
                }
                Kind::Plain(_) | Kind::Untyped => {}
            }
        }
        if kind.sealed().is_none() {
            return Ok(Output {
                name,
                kind,
                written: None,
            });
        }
        let column = match uncast(expr) {
            inner @ Expr::Identifier(ident) => Some((inner, std::slice::from_ref(ident))),
            inner @ Expr::CompoundIdentifier(idents) => Some((inner, idents.as_slice())),
            _ => None,
        };
        let (written, renamed) = match column {
            Some((inner, idents)) => {
                let reference = self.find(idents, cx.scope)?;
                let text = written_reference(&reference);
                let text = text.map(|text| vec![Replacement::Text(text)]);
                (text, grouped.is_some() || is_grouped(inner, cx)?)
            }
            None => {
                let respelt = grouped.is_some() || is_respelt(strip(expr));
                let extent = self.tokens.extent(expr).ok();
                let again = extent.filter(|_| repeatable(expr)).map(|extent| {
                    self.edits
                        .copy(self.tokens.sql, &self.tokens.bytes(&extent))
                });
                (again, respelt)
            }
        };
        if renamed && alias.is_none() {
            self.name_item(expr, name.as_deref())?;
        }
        Ok(Output {
            name,
            kind,
            written,
        })
    }

    /// Gives an item the name that it has as the client wrote it.
    fn name_item(&mut self, expr: &Expr, name: Option<&str>) -> Result<(), Refusal> {
        let name = name.ok_or_else(|| {
            refusals::not_understood("The name of a column of the result is not known")
                .at(self.start_of(expr))
        })?;
        let end = self.tokens.extent(expr)?.end;
        let at = self.tokens.range(end - 1).end;
        self.edits
            .close(at, format!(" AS {}", quote_identifier(name)));
        Ok(())
    }

    /// `*`
    fn star(
        &mut self,
        options: &WildcardAdditionalOptions,
        outputs: &mut Vec<Output>,
        cx: Cx<'_>,
    ) -> Result<bool, Refusal> {
        check_star(options)?;
        let names = cx.scope.names;
        check_star_of_groups(
            cx,
            names
                .shown
                .iter()
                .map(|shown| (shown.entry.id, shown.column)),
        )?;
        let open = names.entries.iter().any(|entry| entry.open);
        if let Some(entry) = names.entries.iter().find(|entry| entry.reshaped)
            && self.stored
        {
            let name = entry.name.as_deref().unwrap_or_default();
            return Err(refusals::reshaped("*", name));
        }
        if names.reshaped {
            let all: Option<Vec<_>> = names.shown.iter().map(written).collect();
            let all = all
                .filter(|_| !open)
                .ok_or_else(|| refusals::construct("* over this join"))?;
            let at = self.tokens.starting(options.wildcard_token.0.span.start);
            let at = at.ok_or_else(|| refusals::not_understood("* has no place in the text"))?;
            let all = all.join(", ");
            // TABLE is parsed as SELECT * FROM.
            let text = if self.tokens.is_word(at, "table") {
                format!("SELECT {all} FROM")
            } else {
                all
            };
            self.edits
                .replace(self.tokens.range(at), Replacement::Text(text));
        }
        for shown in &names.shown {
            let kind = shown.kind.clone();
            outputs.push(Output {
                name: shown.name.clone(),
                written: written(shown).map(|text| vec![Replacement::Text(text)]),
                kind,
            });
        }
        Ok(open)
    }

    /// `t.*` of a table whose columns the server has otherwise: the columns one by one.
    fn write_out(
        &mut self,
        entry: &Entry,
        idents: &[&Ident],
        options: &WildcardAdditionalOptions,
    ) -> Result<(), Refusal> {
        if self.stored {
            let name = entry.name.as_deref().unwrap_or_default();
            return Err(refusals::reshaped("*", name));
        }
        let misread = || refusals::not_understood("* has no place in the text");
        let named = { entry.columns.iter() }.map(|column| {
            let (entry, column) = (entry.name.as_deref()?, column.name.as_deref()?);
            let (entry, column) = (quote_identifier(entry), quote_identifier(column));
            Some(format!("{entry}.{column}"))
        });
        let named: Option<Vec<_>> = named.collect();
        let start = idents.first().ok_or_else(misread)?;
        let start = self.tokens.starting(start.span.start).ok_or_else(misread)?;
        let star = options.wildcard_token.0.span.start;
        let star = self.tokens.starting(star).ok_or_else(misread)?;
        let whole = self.tokens.range(start).start..self.tokens.range(star).end;
        let text = named.ok_or_else(misread)?.join(", ");
        self.edits.replace(whole, Replacement::Text(text));
        Ok(())
    }

    /// `(row).*`
    fn row_star(
        &mut self,
        row: &Expr,
        outputs: &mut Vec<Output>,
        cx: Cx<'_>,
    ) -> Result<(), Refusal> {
        let fields = match self.expr(row, cx)? {
            Kind::Holder(holder) => match holder.inside() {
                Inside::Row(fields) => fields.clone(),
                Inside::Array { .. } | Inside::Json(_) => {
                    return Err(refusals::holder(&holder, ".*").at(self.start_of(row)));
                }
            },
            // Of any other row only the server knows the fields.
            Kind::Plain(_) | Kind::Untyped | Kind::Sealed(_) => {
                return Err(refusals::construct("this form of select list"));
            }
        };
        let whole_row = is_whole_row(row, cx);
        if cx.grouping.is_some() {
            return Err(refusals::construct(".* of a row beside GROUP BY")
                .hint("Name the columns one by one."));
        }
        outputs.extend(fields.into_iter().map(|field| Output {
            name: field.name,
            kind: if whole_row {
                field.kind
            } else {
                field.kind.computed()
            },
            written: None,
        }));
        Ok(())
    }

    /// `t.*`
    fn qualified_star(
        &mut self,
        name: &ObjectName,
        options: &WildcardAdditionalOptions,
        outputs: &mut Vec<Output>,
        cx: Cx<'_>,
    ) -> Result<bool, Refusal> {
        let idents = idents_of(name)?;
        for ident in &idents {
            self.account(ident);
        }
        let names: Vec<_> = idents.iter().map(|ident| name_of(ident)).collect();
        let entry = match names.as_slice() {
            [table] => cx.scope.find_entry(None, table)?,
            [schema, table] => cx.scope.find_entry(Some(schema), table)?,
            _ => return Err(refusals::not_understood("An unusual name before .*")),
        };
        check_star_of_groups(
            cx,
            (0..entry.columns.len()).map(|column| (entry.id, column)),
        )?;
        let entry = Rc::clone(entry);
        if entry.reshaped {
            self.write_out(&entry, &idents, options)?;
        }
        for column in &entry.columns {
            let full = entry.name.as_deref().zip(column.name.as_deref());
            let written = full.map(|(entry, column)| {
                format!("{}.{}", quote_identifier(entry), quote_identifier(column))
            });
            outputs.push(Output {
                name: column.name.clone(),
                kind: column.kind.clone(),
                written: written.map(|text| vec![Replacement::Text(text)]),
            });
        }
        Ok(entry.open)
    }
}

/// Whether the server could give the item another name: it sees it without a cast, or as another expression.
fn is_respelt(expr: &Expr) -> bool {
    match expr {
        Expr::Case { .. } | Expr::Cast { .. } => true,
        Expr::Function(function) => is_nullif(function),
        _ => false,
    }
}

impl Grouping {
    fn holds_identity(&self, identity: (usize, usize)) -> bool {
        let reference = super::namespace::Reference {
            kind: Kind::Untyped,
            name: String::new(),
            identity: Some(identity),
            entry: None,
            qualify: false,
        };
        self.holds(&reference)
    }
}

fn check_star(options: &WildcardAdditionalOptions) -> Result<(), Refusal> {
    let unusual = options.opt_ilike.is_some()
        || options.opt_exclude.is_some()
        || options.opt_except.is_some()
        || options.opt_replace.is_some()
        || options.opt_rename.is_some()
        || options.opt_alias.is_some();
    if unusual {
        Err(refusals::construct("this form of *"))
    } else {
        Ok(())
    }
}

fn check_clauses(select: &Select) -> Result<(), Refusal> {
    if select.into.is_some() {
        return Err(refusals::construct("SELECT INTO"));
    }
    let unusual = select.top.is_some()
        || select.exclude.is_some()
        || select.select_modifiers.is_some()
        || !select.lateral_views.is_empty()
        || select.prewhere.is_some()
        || !select.connect_by.is_empty()
        || !select.cluster_by.is_empty()
        || !select.distribute_by.is_empty()
        || !select.sort_by.is_empty()
        || select.qualify.is_some()
        || select.value_table_mode.is_some()
        || select.flavor != SelectFlavor::Standard;
    if unusual {
        Err(refusals::construct("an unusual clause of SELECT"))
    } else {
        Ok(())
    }
}

fn check_star_of_groups(
    cx: Cx<'_>,
    mut columns: impl Iterator<Item = (usize, usize)>,
) -> Result<(), Refusal> {
    let Some(grouping) = cx.grouping else {
        return Ok(());
    };
    if columns.any(|identity| grouping.holds_identity(identity)) {
        return Err(refusals::construct("* beside GROUP BY a protected column")
            .hint("Name the columns one by one."));
    }
    Ok(())
}
