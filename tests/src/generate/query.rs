//! Queries.

use std::collections::HashMap;

use super::{
    statement::{DEEPEST, Piece, Visible, Writer},
    world::{TABLES, TYPES, Type},
};

/// A column that a query yields.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) kind: Type,
}

impl Writer<'_> {
    /// A query by itself, whose rows may be in a fixed order.
    pub(super) fn top_query(&mut self) {
        match self.choices.weighted(&[60, 12, 14, 14]) {
            0 => self.plain_select(true),
            1 => self.set_operation(),
            2 => self.grouped_select(),
            _ => self.with_query(),
        }
    }

    /// Types for the columns of a query.
    pub(super) fn some_types(&mut self, most: usize) -> Vec<Type> {
        let count = self.choices.below(most) + 1;
        (0..count).map(|_| *self.choices.of(&TYPES)).collect()
    }

    /// A query of given columns, in no order, without names in `scopes`' innermost place afterwards.
    pub(super) fn sub_select(&mut self, kinds: &[Type]) -> Vec<Item> {
        self.push("SELECT ");
        if self.choices.percent(8) && kinds.iter().all(|kind| kind.has_equality()) {
            self.feature("distinct in a sub-select");
            self.push("DISTINCT ");
        }
        // FROM is written before its names are used, so the list is written aside.
        let list = std::mem::take(&mut self.pieces);
        self.from();
        let from = std::mem::replace(&mut self.pieces, list);
        self.depth += 1;
        let mut items = Vec::new();
        self.list(kinds.len(), |writer, index| {
            writer.value(kinds[index]);
            let name = format!("c{}", index + 1);
            writer.push(&format!(" AS {name}"));
            items.push(Item {
                name,
                kind: kinds[index],
            });
        });
        self.depth -= 1;
        self.append(from);
        if self.choices.percent(40) {
            self.push(" WHERE ");
            self.condition();
        }
        self.scopes.pop();
        items
    }

    pub(super) fn append(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            match piece {
                Piece::Text(text) => self.push(&text),
                constant @ Piece::Constant { .. } => self.pieces.push(constant),
            }
        }
    }

    /// `FROM ...`; its names become the innermost scope.
    pub(super) fn from(&mut self) {
        self.scopes.push(Vec::new());
        self.push(" FROM ");
        self.member();
        let joins = self.choices.weighted(&[65, 28, 7]);
        for _ in 0..joins {
            self.join();
        }
    }

    /// One member of FROM.
    fn member(&mut self) {
        let nested = self.depth < DEEPEST;
        match self.choices.weighted(&[84, 10, 3, 3]) {
            1 if nested => {
                self.feature("derived table");
                let kinds = self.some_types(3);
                let alias = self.alias();
                self.push("(");
                let hidden = std::mem::take(&mut self.scopes);
                self.depth += 1;
                let items = self.sub_select(&kinds);
                self.depth -= 1;
                self.scopes = hidden;
                self.push(&format!(") AS {alias}"));
                self.show(&alias, &items);
            }
            2 => {
                self.feature("values in from");
                let kind = *self.choices.of(&TYPES);
                let alias = self.alias();
                let rows = self.choices.below(2) + 1;
                self.push("(VALUES ");
                self.list(rows, |writer, _| {
                    writer.push("(");
                    writer.typed_constant(kind);
                    writer.push(")");
                });
                self.push(&format!(") AS {alias} (c1)"));
                let item = Item {
                    name: "c1".to_owned(),
                    kind,
                };
                self.show(&alias, &[item]);
            }
            3 => {
                self.feature("only, tablesample");
                // The last one is a view, which has no samples.
                let table = *self.choices.of(&TABLES[..TABLES.len() - 1]);
                let alias = self.alias();
                self.push(&format!(
                    "{} AS {alias} TABLESAMPLE BERNOULLI (100)",
                    table.name
                ));
                self.scope().extend(Self::visible(&table, &alias));
            }
            _ => {
                let table = *self.choices.of(&TABLES);
                let alias = self.alias();
                self.push(&format!("{} {alias}", table.name));
                self.scope().extend(Self::visible(&table, &alias));
            }
        }
    }

    fn scope(&mut self) -> &mut Vec<Visible> {
        if self.scopes.is_empty() {
            self.scopes.push(Vec::new());
        }
        let last = self.scopes.len() - 1;
        &mut self.scopes[last]
    }

    fn show(&mut self, alias: &str, items: &[Item]) {
        let columns = items.iter().map(|item| Visible {
            name: format!("{alias}.{}", item.name),
            kind: item.kind,
            key: false,
            class: None,
        });
        let columns: Vec<_> = columns.collect();
        self.scope().extend(columns);
    }

    fn join(&mut self) {
        let kind = self.choices.weighted(&[40, 30, 5, 5, 10, 10]);
        let before = self.scope().clone();
        match kind {
            4 => {
                self.push(" CROSS JOIN ");
                return self.member();
            }
            5 => {
                self.feature("lateral");
                let alias = self.alias();
                self.push(" LEFT JOIN LATERAL (");
                let kind = self.some_type();
                self.depth += 1;
                let items = self.sub_select(&[kind]);
                self.depth -= 1;
                self.push(&format!(") AS {alias} ON true"));
                return self.show(&alias, &items);
            }
            _ => {}
        }
        let word = [" JOIN ", " LEFT JOIN ", " RIGHT JOIN ", " FULL JOIN "][kind];
        self.push(word);
        self.member();
        self.push(" ON ");
        let after = self.scope().clone();
        let joined = after[before.len()..].to_vec();
        // A join of both sides by columns of one type, if there are any.
        let pairs: Vec<_> = before
            .iter()
            .flat_map(|left| joined.iter().map(move |right| (left, right)))
            .filter(|(left, right)| left.kind == right.kind && left.kind.has_equality())
            .collect();
        let alike: Vec<_> = pairs
            .iter()
            .copied()
            .filter(|(left, right)| left.class == right.class)
            .collect();
        let pairs = if alike.is_empty() || self.choices.percent(10) {
            pairs
        } else {
            alike
        };
        if pairs.is_empty() || (kind < 3 && self.choices.percent(15)) {
            self.depth += 1;
            self.condition();
            self.depth -= 1;
        } else {
            self.feature("join on a column");
            let (left, right) = *self.choices.of(&pairs);
            self.push(&format!("{} = {}", left.name, right.name));
        }
    }

    /// SELECT without groups.
    fn plain_select(&mut self, top: bool) {
        self.push("SELECT ");
        let head = std::mem::take(&mut self.pieces);
        self.from();
        let from = std::mem::replace(&mut self.pieces, head);
        let keys = self.keys();
        let distinct = self.choices.weighted(&[82, 12, 6]);
        let count = self.choices.below(4) + 1;
        let kinds: Vec<Type> = (0..count)
            .map(|_| {
                if distinct == 1 {
                    self.comparable_type()
                } else {
                    self.some_type()
                }
            })
            .collect();
        let on_key = distinct == 2 && !keys.is_empty();
        if distinct == 1 {
            self.feature("distinct");
            self.push("DISTINCT ");
        } else if on_key {
            self.feature("distinct on a key");
            self.push(&format!("DISTINCT ON ({}) ", keys.join(", ")));
        }
        if distinct == 0 && self.choices.percent(8) {
            self.push("*");
        } else {
            self.list(count, |writer, index| {
                match writer.choices.weighted(&[88, 6, 6]) {
                    1 if distinct == 0 => writer.window(kinds[index]),
                    2 if distinct == 0 => writer.condition(),
                    _ => writer.value(kinds[index]),
                }
                writer.push(&format!(" AS o{}", index + 1));
            });
        }
        self.append(from);
        if self.choices.percent(60) {
            self.push(" WHERE ");
            self.condition();
        }
        let whole = keys.len() == self.tables_in_scope() && !keys.is_empty();
        let sort = distinct != 1 && whole && self.choices.percent(40);
        if sort || on_key {
            self.push(&format!(" ORDER BY {}", keys.join(", ")));
            self.ordered = top && whole;
            if whole && self.choices.percent(40) {
                self.feature("limit");
                let limit = self.choices.below(5);
                self.push(&format!(" LIMIT {limit}"));
                if self.choices.percent(30) {
                    self.push(" OFFSET 1");
                }
            }
        }
        if top && distinct == 0 && self.choices.percent(5) && !self.has_outer_join() {
            self.feature("for update");
            let lock = *self.choices.of(&[
                " FOR UPDATE",
                " FOR SHARE",
                " FOR NO KEY UPDATE",
                " FOR KEY SHARE",
            ]);
            self.push(lock);
        }
        self.scopes.pop();
    }

    fn has_outer_join(&self) -> bool {
        ["values in from", "derived table", "lateral"]
            .iter()
            .any(|feature| self.features.contains(feature))
            || self.pieces.iter().any(|piece| match piece {
                Piece::Text(text) => ["LEFT ", "RIGHT ", "FULL ", " OVER "]
                    .iter()
                    .any(|word| text.contains(word)),
                Piece::Constant { .. } => false,
            })
    }

    /// The keys of the tables in FROM.
    fn keys(&self) -> Vec<String> {
        let innermost = self.scopes.last();
        let keys = innermost.into_iter().flatten().filter(|column| column.key);
        keys.map(|column| column.name.clone()).collect()
    }

    /// How many members FROM has.
    fn tables_in_scope(&self) -> usize {
        let innermost = self.scopes.last().into_iter().flatten();
        let mut aliases: Vec<_> = innermost
            .filter_map(|column| column.name.split_once('.'))
            .map(|(alias, _)| alias)
            .collect();
        aliases.sort_unstable();
        aliases.dedup();
        aliases.len()
    }

    /// A window function that passes a value on, over a fixed order.
    fn window(&mut self, kind: Type) {
        let keys = self.keys();
        let whole = keys.len() == self.tables_in_scope() && !keys.is_empty();
        let Some(column) = self.reachable(kind).filter(|_| whole) else {
            return self.value(kind);
        };
        self.feature("window function");
        let value = column.name;
        match self.choices.weighted(&[30, 20, 20, 15, 15]) {
            0 => self.push(&format!("lag({value})")),
            1 => {
                self.push(&format!("lead({value}, 1, "));
                self.typed_constant(kind);
                self.push(")");
            }
            2 => self.push(&format!("first_value({value})")),
            3 => self.push(&format!("count({value})")),
            _ => self.push("row_number()"),
        }
        self.push(" OVER (");
        if kind.has_equality() && self.choices.percent(40) {
            self.feature("partition by");
            self.push(&format!("PARTITION BY {value} "));
        }
        self.push(&format!("ORDER BY {})", keys.join(", ")));
    }

    /// SELECT with GROUP BY, or aggregates over all.
    fn grouped_select(&mut self) {
        self.feature("group by");
        self.push("SELECT ");
        let head = std::mem::take(&mut self.pieces);
        self.from();
        let from = std::mem::replace(&mut self.pieces, head);
        let count = self.choices.below(3);
        let mut keys: Vec<String> = Vec::new();
        let mut kinds: HashMap<String, Type> = HashMap::new();
        for _ in 0..count {
            let kind = self.comparable_type();
            if let Some(column) = self.scopes.last().and_then(|level| {
                level
                    .iter()
                    .find(|column| column.kind == kind && !keys.contains(&column.name))
            }) {
                keys.push(column.name.clone());
                kinds.insert(column.name.clone(), kind);
            }
        }
        let items = keys.clone();
        // A key that is an expression is meant by its number, so that its constants are one.
        let expressions = !keys.is_empty() && self.choices.percent(15);
        for key in &items {
            match kinds.get(key) {
                Some(kind) if expressions => {
                    self.feature("group by an expression");
                    self.push(&format!("COALESCE({key}, "));
                    self.constant(*kind);
                    self.push("), ");
                }
                _ => self.push(&format!("{key}, ")),
            }
        }
        self.aggregate();
        if self.choices.percent(40) {
            self.push(", ");
            self.aggregate();
        }
        self.append(from);
        if self.choices.percent(40) {
            self.push(" WHERE ");
            self.condition();
        }
        if !keys.is_empty() {
            self.push(" GROUP BY ");
            match self.choices.weighted(&[70, 20, 10]) {
                0 if !expressions => self.push(&keys.join(", ")),
                0 | 1 => {
                    let numbers: Vec<_> = (1..=keys.len()).map(|n| n.to_string()).collect();
                    self.push(&numbers.join(", "));
                }
                _ => {
                    self.feature("grouping sets");
                    let numbers: Vec<_> = (1..=keys.len()).map(|n| n.to_string()).collect();
                    let keys = if expressions { numbers } else { keys };
                    self.push(&format!("ROLLUP ({})", keys.join(", ")));
                }
            }
        }
        if self.choices.percent(25) {
            self.feature("having");
            self.push(" HAVING count(*) > ");
            let least = self.choices.below(3);
            self.push(&least.to_string());
        }
        self.scopes.pop();
    }

    fn aggregate(&mut self) {
        let kind = self.comparable_type();
        let keys = self.keys();
        let whole = keys.len() == self.tables_in_scope() && !keys.is_empty();
        match self.choices.weighted(&[25, 20, 15, 10, 10, 10, 5, 5, 5]) {
            0 => self.push("count(*)"),
            1 => {
                self.push("count(");
                self.column_of(kind);
                self.push(")");
            }
            2 => {
                self.feature("count distinct");
                self.push("count(DISTINCT ");
                self.column_of(kind);
                self.push(")");
            }
            3 => {
                self.feature("filter");
                self.push("count(*) FILTER (WHERE ");
                self.condition();
                self.push(")");
            }
            4 if whole => {
                self.feature("array_agg");
                self.push("array_agg(");
                self.column_of(kind);
                self.push(&format!(" ORDER BY {})", keys.join(", ")));
            }
            5 if whole => {
                self.feature("json_agg");
                self.push("json_agg(");
                self.column_of(kind);
                self.push(&format!(" ORDER BY {})", keys.join(", ")));
            }
            6 => {
                self.feature("bool_or");
                self.push("bool_or(");
                self.condition();
                self.push(")");
            }
            7 => {
                self.feature("min, max");
                self.push("max(");
                self.column_of(Type::Int);
                self.push(")");
            }
            8 if whole => {
                self.feature("string_agg");
                self.push("string_agg(");
                self.column_of(Type::Text);
                self.push(&format!(", '; ' ORDER BY {})", keys.join(", ")));
            }
            _ => self.push("count(*)"),
        }
    }

    fn column_of(&mut self, kind: Type) {
        match self.reachable(kind) {
            Some(column) => self.push(&column.name),
            None => self.typed_constant(kind),
        }
    }

    fn set_operation(&mut self) {
        let comparable: Vec<Type> = TYPES
            .into_iter()
            .filter(|kind| kind.has_equality())
            .collect();
        let count = self.choices.below(3) + 1;
        let kinds: Vec<Type> = (0..count).map(|_| *self.choices.of(&comparable)).collect();
        let operator = *self.choices.of(&[
            " UNION ALL ",
            " UNION ",
            " INTERSECT ",
            " EXCEPT ",
            " INTERSECT ALL ",
            " EXCEPT ALL ",
        ]);
        self.feature(match operator {
            " UNION ALL " => "union all",
            " UNION " => "union",
            _ => "intersect, except",
        });
        self.sub_select(&kinds);
        self.push(operator);
        self.sub_select(&kinds);
    }

    /// WITH, once or twice, and a query of it.
    fn with_query(&mut self) {
        self.feature("with");
        let kinds = self.some_types(3);
        let name = self.alias();
        self.push(&format!("WITH {name} AS ("));
        self.depth += 1;
        let items = self.sub_select(&kinds);
        self.depth -= 1;
        self.push(") SELECT ");
        let alias = self.alias();
        self.scopes.push(Vec::new());
        self.show(&alias, &items);
        let count = self.choices.below(3) + 1;
        self.list(count, |writer, _| {
            let kind = writer.some_type();
            writer.value(kind);
        });
        self.push(&format!(" FROM {name} AS {alias}"));
        if self.choices.percent(50) {
            self.push(" WHERE ");
            self.condition();
        }
        self.scopes.pop();
    }
}
