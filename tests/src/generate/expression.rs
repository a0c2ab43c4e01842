//! Values and conditions.

use super::{
    statement::{DEEPEST, Piece, Spelling, Visible, Writer},
    world::{TABLES, TYPES, Type},
};

impl Writer<'_> {
    /// A constant where the surroundings decide its type.
    pub(super) fn constant(&mut self, kind: Type) {
        let spelling = if matches!(kind, Type::Int | Type::Numeric) {
            [Spelling::Plain, Spelling::Number, Spelling::Cast]
                [self.choices.weighted(&[40, 40, 20])]
        } else {
            [Spelling::Plain, Spelling::Cast, Spelling::CastWords]
                [self.choices.weighted(&[80, 15, 5])]
        };
        self.constant_as(kind, spelling);
    }

    /// A constant that says its own type.
    pub(super) fn typed_constant(&mut self, kind: Type) {
        self.constant_as(kind, Spelling::Cast);
    }

    fn constant_as(&mut self, kind: Type, spelling: Spelling) {
        let number = match self.given_before(kind) {
            Some(number) => number,
            None => {
                let value = if self.choices.percent(6) {
                    None
                } else {
                    Some(*self.choices.of(kind.values()))
                };
                self.give(kind, value)
            }
        };
        self.pieces.push(Piece::Constant {
            number,
            kind,
            spelling,
        });
    }

    /// A column of a type in reach, if there is one.
    pub(super) fn reachable(&mut self, kind: Type) -> Option<Visible> {
        let outer = self.scopes.len() > 1 && self.choices.percent(15);
        let mut levels: Vec<_> = self.scopes.iter().rev().collect();
        if outer {
            levels.rotate_left(1);
        }
        let found = levels.into_iter().map(|level| {
            let fits = level.iter().filter(|column| column.kind == kind);
            fits.cloned().collect::<Vec<_>>()
        });
        let found = found.into_iter().find(|fits| !fits.is_empty())?;
        Some(self.choices.of(&found).clone())
    }

    /// The same, mostly one that can be compared with columns of a class.
    fn reachable_like(&mut self, kind: Type, class: Option<u8>) -> Option<Visible> {
        if self.choices.percent(10) {
            return self.reachable(kind);
        }
        let alike: Vec<Visible> = self
            .scopes
            .iter()
            .flatten()
            .filter(|column| column.kind == kind && column.class == class)
            .cloned()
            .collect();
        if alike.is_empty() {
            return None;
        }
        Some(self.choices.of(&alike).clone())
    }

    /// A type of which the innermost query has a column.
    pub(super) fn some_type(&mut self) -> Type {
        let kinds: Vec<Type> = self
            .scopes
            .last()
            .into_iter()
            .flatten()
            .map(|column| column.kind)
            .collect();
        if kinds.is_empty() {
            return *self.choices.of(&TYPES);
        }
        *self.choices.of(&kinds)
    }

    /// A type with equality of which the innermost query has a column.
    pub(super) fn comparable_type(&mut self) -> Type {
        let kind = self.some_type();
        if kind.has_equality() {
            kind
        } else {
            Type::Text
        }
    }

    pub(super) fn column_or_constant(&mut self, kind: Type) {
        match self.reachable(kind) {
            Some(column) => self.push(&column.name),
            None => self.typed_constant(kind),
        }
    }

    /// A value of a type.
    pub(super) fn value(&mut self, kind: Type) {
        if self.depth >= DEEPEST {
            return self.column_or_constant(kind);
        }
        self.depth += 1;
        match self
            .choices
            .weighted(&[60, 8, 7, 6, 3, 4, 5, 4, 2, 1, 2, 3])
        {
            0 => self.column_or_constant(kind),
            1 => self.typed_constant(kind),
            2 => {
                self.feature("coalesce");
                self.push("COALESCE(");
                self.column_or_constant(kind);
                self.push(", ");
                if self.choices.percent(50) {
                    self.constant(kind);
                } else {
                    self.value(kind);
                }
                self.push(")");
            }
            3 => {
                self.feature("case");
                self.push("CASE WHEN ");
                self.condition();
                self.push(" THEN ");
                self.value(kind);
                if self.choices.percent(70) {
                    self.push(" ELSE ");
                    self.column_or_constant(kind);
                }
                self.push(" END");
            }
            4 => {
                self.feature("simple case");
                let by = self.comparable_type();
                self.push("CASE ");
                self.column_or_constant(by);
                self.push(" WHEN ");
                self.constant(by);
                self.push(" THEN ");
                self.value(kind);
                self.push(" ELSE ");
                self.column_or_constant(kind);
                self.push(" END");
            }
            5 => {
                self.feature("nullif");
                self.push("NULLIF(");
                self.column_or_constant(kind);
                self.push(", ");
                self.constant(kind);
                self.push(")");
            }
            6 => {
                self.feature("scalar sub-select");
                self.scalar_query(kind);
            }
            7 => {
                self.feature("cast to own type");
                self.column_or_constant(kind);
                self.push(&format!("::{}", kind.sql()));
            }
            8 if kind == Type::Text => {
                self.feature("cast to text");
                let from = self.some_type();
                self.push("(");
                self.column_or_constant(from);
                self.push(")::text");
            }
            9 if kind == Type::Text => {
                self.feature("function of a value");
                self.push("lower(");
                self.column_or_constant(kind);
                self.push(")");
            }
            10 if kind == Type::Text => {
                self.feature("nullif in coalesce");
                self.push("COALESCE(NULLIF(");
                self.constant(kind);
                self.push(", ''), ");
                self.column_or_constant(kind);
                self.push(")");
            }
            11 if kind == Type::Text => self.text_of_parts(),
            _ => self.column_or_constant(kind),
        }
        self.depth -= 1;
    }

    /// A text that is joined or cut.
    fn text_of_parts(&mut self) {
        self.feature("texts joined or cut");
        let (before, behind) = *self.choices.of(&[
            ("", " || '!'"),
            ("left(", ", 3)"),
            ("concat('<', ", ", '>')"),
            ("split_part(", ", '@', 2)"),
            ("substring(", " from 2 for 3)"),
        ]);
        self.push(&format!("({before}"));
        self.column_or_constant(Type::Text);
        self.push(&format!("{behind})"));
    }

    /// A sub-select of exactly one row or none.
    fn scalar_query(&mut self, kind: Type) {
        let tables: Vec<_> = TABLES
            .iter()
            .filter(|table| table.columns.iter().any(|column| column.kind == kind))
            .collect();
        let table = **self.choices.of(&tables);
        let alias = self.alias();
        self.scopes.push(Self::visible(&table, &alias));
        self.push("(SELECT ");
        match self.reachable(kind) {
            Some(column) => self.push(&column.name),
            None => self.push("NULL"),
        }
        self.push(&format!(" FROM {} {alias} WHERE {alias}.id = ", table.name));
        self.key_or_number();
        self.push(")");
        self.scopes.pop();
    }

    /// A key of the query around, or a number.
    fn key_or_number(&mut self) {
        let outer = self.scopes.len().checked_sub(2);
        let key = outer.and_then(|outer| {
            self.scopes[outer]
                .iter()
                .find(|column| column.key)
                .map(|column| column.name.clone())
        });
        match key {
            Some(key) if self.choices.percent(50) => self.push(&key),
            _ => {
                let number = self.choices.below(6) + 1;
                self.push(&number.to_string());
            }
        }
    }

    /// A condition.
    pub(super) fn condition(&mut self) {
        if self.depth >= DEEPEST {
            return self.comparison();
        }
        self.depth += 1;
        match self
            .choices
            .weighted(&[40, 8, 6, 8, 6, 4, 5, 8, 6, 4, 4, 3, 1, 1, 3, 3])
        {
            0 => self.comparison(),
            1 => {
                self.feature("and");
                self.push("(");
                self.condition();
                self.push(" AND ");
                self.condition();
                self.push(")");
            }
            2 => {
                self.feature("or");
                self.push("(");
                self.condition();
                self.push(" OR ");
                self.condition();
                self.push(")");
            }
            3 => {
                self.feature("null test");
                let kind = self.some_type();
                self.value_in_brackets(kind);
                let test = *self.choices.of(&[" IS NULL", " IS NOT NULL"]);
                self.push(test);
            }
            4 => {
                self.feature("not");
                self.push("NOT (");
                self.condition();
                self.push(")");
            }
            5 => {
                self.feature("is distinct from");
                let kind = self.comparable_type();
                self.column_or_constant(kind);
                let operator = *self
                    .choices
                    .of(&[" IS DISTINCT FROM ", " IS NOT DISTINCT FROM "]);
                self.push(operator);
                self.constant(kind);
            }
            6 => {
                self.feature("bool column");
                self.column_or_constant(Type::Bool);
                let test = *self.choices.of(&[
                    "",
                    " IS TRUE",
                    " IS NOT TRUE",
                    " IS FALSE",
                    " IS UNKNOWN",
                    " = true",
                ]);
                self.push(test);
            }
            7 => {
                self.feature("in list");
                let kind = self.comparable_type();
                if self.choices.percent(12) {
                    self.feature("constant in a list of columns");
                    self.constant(kind);
                    self.push(" IN (");
                    self.list(2, |writer, _| writer.column_or_constant(kind));
                    self.push(")");
                    self.depth -= 1;
                    return;
                }
                self.column_or_constant(kind);
                let operator = *self.choices.of(&[" IN (", " NOT IN ("]);
                self.push(operator);
                let count = self.choices.below(3) + 1;
                self.list(count, |writer, _| writer.constant(kind));
                self.push(")");
            }
            8 => {
                self.feature("in sub-select");
                let kind = self.comparable_type();
                self.column_or_constant(kind);
                let operator = *self
                    .choices
                    .of(&[" IN ", " NOT IN ", " = ANY ", " <> ALL "]);
                self.push(operator);
                self.push("(");
                if operator.ends_with("IN ") && self.choices.percent(25) {
                    self.feature("in values");
                    self.push("VALUES ");
                    let count = self.choices.below(2) + 1;
                    self.list(count, |writer, _| {
                        writer.push("(");
                        writer.constant(kind);
                        writer.push(")");
                    });
                } else {
                    self.sub_select(&[kind]);
                }
                self.push(")");
            }
            9 => {
                self.feature("= any array");
                let kind = self.comparable_type();
                self.column_or_constant(kind);
                let operator = *self.choices.of(&[" = ANY (ARRAY[", " <> ALL (ARRAY["]);
                self.push(operator);
                let count = self.choices.below(3) + 1;
                let typed = self.choices.percent(80);
                self.list(count, |writer, _| {
                    if typed {
                        writer.typed_constant(kind);
                    } else {
                        writer.constant(kind);
                    }
                });
                self.push("])");
            }
            10 => {
                self.feature("exists");
                let operator = *self.choices.of(&["EXISTS (", "NOT EXISTS ("]);
                self.push(operator);
                let kind = self.some_type();
                self.sub_select(&[kind]);
                self.push(")");
            }
            11 => {
                self.feature("row comparison");
                let (first, second) = (self.comparable_type(), self.comparable_type());
                self.push("(");
                self.column_or_constant(first);
                self.push(", ");
                self.column_or_constant(second);
                let operator = *self.choices.of(&[") = (", ") <> ("]);
                self.push(operator);
                self.constant(first);
                self.push(", ");
                self.constant(second);
                self.push(")");
            }
            12 => {
                self.feature("order comparison");
                let kind = self.comparable_type();
                self.column_or_constant(kind);
                let operator = *self.choices.of(&[" < ", " >= "]);
                self.push(operator);
                self.constant(kind);
            }
            13 => {
                self.feature("like");
                self.column_or_constant(Type::Text);
                self.push(" LIKE 'a%'");
            }
            14 => {
                self.feature("optional parameter");
                let kind = self.comparable_type();
                self.push("(");
                self.typed_constant(kind);
                self.push(" IS NULL OR ");
                self.column_or_constant(kind);
                self.push(" = ");
                self.constant(kind);
                self.push(")");
            }
            _ => self.mixed_columns(),
        }
        self.depth -= 1;
    }

    fn value_in_brackets(&mut self, kind: Type) {
        self.push("(");
        self.value(kind);
        self.push(")");
    }

    /// A comparison for equality.
    fn comparison(&mut self) {
        let kind = self.comparable_type();
        let operator = *self.choices.of(&[" = ", " <> ", " != "]);
        match self.choices.weighted(&[60, 10, 20, 10, 3]) {
            4 => {
                self.feature("comparison with the server's time");
                self.column_or_constant(Type::Date);
                self.push(operator);
                let time = *self.choices.of(&[
                    "CURRENT_DATE",
                    "CURRENT_DATE - 30",
                    "(now() + 3 * interval '1 month')::date",
                    "(now() - make_interval(days => 40))::date",
                ]);
                self.push(time);
            }
            0 => {
                self.column_or_constant(kind);
                self.push(operator);
                self.constant(kind);
            }
            1 => {
                self.constant(kind);
                self.push(operator);
                self.column_or_constant(kind);
            }
            2 => {
                let first = self.reachable(kind);
                let class = first.as_ref().and_then(|column| column.class);
                match first {
                    Some(column) => self.push(&column.name),
                    None => self.typed_constant(kind),
                }
                self.push(operator);
                match self.reachable_like(kind, class) {
                    Some(column) => self.push(&column.name),
                    None => self.constant(kind),
                }
            }
            _ => {
                self.feature("comparison of expressions");
                self.value_in_brackets(kind);
                self.push(operator);
                self.value_in_brackets(kind);
            }
        }
    }
}
