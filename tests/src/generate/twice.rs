//! Constants that stand in several places, beside protected columns and others of every type: where one is an untyped
//! parameter, PostgreSQL finds its type in the place that it comes to first.

use super::{
    statement::{DECLARED, Given, Piece, Spelling, TWICE, Writer},
    world::{PAIRED, Type},
};

/// What is given, and the types of which it is a value besides texts.
const VALUES: [(&str, &[Type]); 14] = [
    ("36", &[Type::Int, Type::Bigint, Type::Numeric, Type::Float]),
    (
        "2024-02-29",
        &[Type::Date, Type::Timestamp, Type::Timestamptz],
    ),
    ("AB  ", &[]),
    (
        "2024-02-29 12:34:56.789",
        &[Type::Date, Type::Timestamp, Type::Timestamptz, Type::Time],
    ),
    ("true", &[Type::Bool]),
    ("ok", &[Type::Mood]),
    (
        "0",
        &[
            Type::Int,
            Type::Bigint,
            Type::Numeric,
            Type::Float,
            Type::Bool,
        ],
    ),
    ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", &[Type::Uuid]),
    ("12:34", &[Type::Time]),
    ("0.1", &[Type::Numeric, Type::Float]),
    ("{}", &[Type::Jsonb, Type::Json]),
    ("5000000000", &[Type::Bigint, Type::Numeric, Type::Float]),
    (
        "infinity",
        &[Type::Date, Type::Timestamp, Type::Timestamptz, Type::Float],
    ),
    ("", &[Type::Mood]),
];

const TEXTS: [Type; 3] = [Type::Text, Type::Varchar, Type::Bpchar];

/// A constant in the making: which it is, and what types fit its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared {
    number: usize,
    fits: &'static [Type],
}

impl Writer<'_> {
    /// A constant by itself; says which it is.
    pub(super) fn give(&mut self, kind: Type, value: Option<&'static str>) -> usize {
        let declared = if self.declares {
            self.feature(DECLARED);
            match self.choices.weighted(&[25, 35, 20, 20]) {
                0 => None,
                1 => Some(kind),
                2 => Some(Type::Text),
                _ => Some(*self.choices.of(&[
                    Type::Varchar,
                    Type::Bigint,
                    Type::Int,
                    Type::Numeric,
                    Type::Date,
                    Type::Timestamp,
                    Type::Timestamptz,
                    Type::Bpchar,
                ])),
            }
        } else {
            None
        };
        self.given.push(Given {
            value,
            kind,
            declared,
        });
        self.given.len() - 1
    }

    /// A constant that stands somewhere else already, now and then.
    pub(super) fn given_before(&mut self, kind: Type) -> Option<usize> {
        if !self.repeats || self.given.is_empty() || !self.choices.percent(40) {
            return None;
        }
        self.feature(TWICE);
        let number = self.choices.below(self.given.len());
        let before = &self.given[number];
        let value = match (before.kind, kind) {
            _ if before.value.is_none() || before.kind == kind => before.value,
            (_, Type::Text | Type::Varchar | Type::Bpchar) => before.value,
            (first, then) if first.is_number() && then.is_number() => Some("36"),
            (first, then) if first.is_day() && then.is_day() => Some("2024-02-29"),
            _ => Some(*self.choices.of(kind.values())),
        };
        self.given[number].value = value;
        Some(number)
    }

    /// A statement in which one constant stands in several places. Returns what asks for the changed rows.
    pub(super) fn twice(&mut self) -> Vec<String> {
        self.feature(TWICE);
        let (value, fits) = *self.choices.of(&VALUES);
        let kind = fits.first().copied().unwrap_or(Type::Text);
        let value = (!self.choices.percent(4)).then_some(value);
        let shared = Shared {
            number: self.give(kind, value),
            fits,
        };
        let form = self.choices.weighted(&[40, 10, 8, 14, 10, 6, 5, 7]);
        match form {
            0 => self.select_twice(shared),
            1 => self.branches_twice(shared),
            2 => self.with_twice(shared),
            3 => self.insert_twice(shared),
            4 => self.update_twice(shared),
            5 => self.delete_twice(shared),
            6 => self.merge_twice(shared),
            _ => self.insert_select_twice(shared),
        }
        if form < 2 || (form == 2 && !self.features.contains(&"data-changing with")) {
            return Vec::new();
        }
        vec!["SELECT * FROM pairs ORDER BY 1".to_owned()]
    }

    fn it(&mut self, shared: Shared, kind: Type, spelling: Spelling) {
        self.pieces.push(Piece::Constant {
            number: shared.number,
            kind,
            spelling,
        });
    }

    /// The constant, mostly without a cast.
    pub(super) fn bare(&mut self, shared: Shared, kind: Type) {
        let spelling = [Spelling::Plain, Spelling::Cast, Spelling::CastWords]
            [self.choices.weighted(&[86, 11, 3])];
        self.it(shared, kind, spelling);
    }

    /// A type that fits, mostly.
    fn fitting(&mut self, shared: Shared) -> Type {
        if shared.fits.is_empty() || self.choices.percent(35) {
            return *self.choices.of(&TEXTS);
        }
        if self.choices.percent(6) {
            return *self
                .choices
                .of(&[Type::Int, Type::Date, Type::Text, Type::Json]);
        }
        *self.choices.of(shared.fits)
    }

    /// `t1.s_date` or `t1.p_date`, of a type that fits.
    pub(super) fn fitting_column(&mut self, shared: Shared, alias: &str) -> (String, Type) {
        let kind = self.fitting(shared);
        (self.column_twice(kind, alias), kind)
    }

    pub(super) fn column_twice(&mut self, kind: Type, alias: &str) -> String {
        let columns: Vec<_> = PAIRED.columns[1..]
            .iter()
            .filter(|column| column.kind == kind)
            .collect();
        let name = self.choices.of(&columns).name;
        format!("{alias}.{name}")
    }

    /// `use AND use`
    pub(super) fn uses(&mut self, shared: Shared, alias: &str) {
        let count = self.choices.weighted(&[25, 60, 15]) + 1;
        let word = *self.choices.of(&[" OR ", " AND "]);
        for index in 0..count {
            if index > 0 {
                self.push(word);
            }
            self.used(shared, alias);
        }
    }

    /// A condition with the constant.
    pub(super) fn used(&mut self, shared: Shared, alias: &str) {
        let (column, kind) = self.fitting_column(shared, alias);
        let form = self
            .choices
            .weighted(&[60, 20, 8, 6, 6, 6, 6, 6, 6, 6, 6, 6, 4, 4, 14, 5, 4]);
        match form {
            1 => {
                self.bare(shared, kind);
                let operator = *self.choices.of(&[" = ", " <> "]);
                self.push(operator);
                self.push(&column);
            }
            2 => {
                let spelling = *self.choices.of(&[Spelling::Plain, Spelling::Cast]);
                self.it(shared, kind, spelling);
                let test = *self.choices.of(&[" IS NULL", " IS NOT NULL"]);
                self.push(test);
            }
            3 => {
                let (other, _) = self.fitting_column(shared, alias);
                let constant_first = self.choices.percent(50);
                self.push("COALESCE(");
                if constant_first {
                    self.bare(shared, kind);
                    self.push(&format!(", {column}"));
                } else {
                    self.push(&format!("{column}, "));
                    self.bare(shared, kind);
                }
                self.push(&format!(") = {other}"));
            }
            4 => {
                let operator = *self.choices.of(&[" IN (", " NOT IN ("]);
                self.push(&format!("{column}{operator}"));
                self.bare(shared, kind);
                if self.choices.percent(60) {
                    self.push(", ");
                    self.constant(kind);
                }
                self.push(")");
            }
            5 => {
                let (other, _) = self.fitting_column(shared, alias);
                self.bare(shared, kind);
                self.push(&format!(" IN ({column}, {other})"));
            }
            6 => {
                let operator = *self.choices.of(&[" = ANY (ARRAY[", " <> ALL (ARRAY["]);
                self.push(&format!("{column}{operator}"));
                self.bare(shared, kind);
                if self.choices.percent(50) {
                    self.push(", ");
                    self.bare(shared, kind);
                }
                self.push("])");
            }
            7 => {
                let (other, second) = self.fitting_column(shared, alias);
                let operator = *self.choices.of(&[" = ", " <> "]);
                self.push(&format!("({column}, {other}){operator}("));
                self.bare(shared, kind);
                self.push(", ");
                self.bare(shared, second);
                self.push(")");
            }
            8 => {
                let inner = self.alias();
                let (other, second) = self.fitting_column(shared, &inner);
                let word = *self.choices.of(&["EXISTS", "NOT EXISTS"]);
                self.push(&format!(
                    "{word} (SELECT 1 FROM pairs {inner} WHERE {other} = "
                ));
                self.bare(shared, second);
                self.push(&format!(" AND {inner}.id <> {alias}.id)"));
            }
            9 => {
                let simple = self.choices.percent(50);
                if simple {
                    self.push(&format!("CASE {column} WHEN "));
                    self.bare(shared, kind);
                } else {
                    self.push("CASE WHEN ");
                    self.bare(shared, kind);
                    self.push(&format!(" = {column}"));
                }
                self.push(" THEN true ELSE false END");
            }
            10 => {
                self.push(&format!("NULLIF({column}, "));
                self.bare(shared, kind);
                self.push(") IS NULL");
            }
            11 => {
                let operator = *self
                    .choices
                    .of(&[" IS NOT DISTINCT FROM ", " IS DISTINCT FROM "]);
                self.push(&format!("{column}{operator}"));
                self.bare(shared, kind);
            }
            12 => {
                let form = *self
                    .choices
                    .of(&["(SELECT ", "ANY (SELECT ", "ANY (VALUES ("]);
                self.push(&format!("{column} = {form}"));
                self.bare(shared, kind);
                self.push(if form.contains("VALUES") { "))" } else { ")" });
            }
            13 => {
                self.push(&format!("{column} = CASE WHEN {alias}.id < 3 THEN "));
                self.bare(shared, kind);
                self.push(" ELSE ");
                self.constant(kind);
                self.push(" END");
            }
            14 => self.computed_twice(shared, alias),
            15 => {
                self.push(&format!("{column} = NULLIF("));
                self.bare(shared, kind);
                self.push(", ");
                self.constant(kind);
                self.push(")");
            }
            16 => {
                self.bare(shared, kind);
                self.push(" = ");
                if self.choices.percent(50) {
                    self.bare(shared, kind);
                } else {
                    self.constant(kind);
                }
            }
            _ => {
                let operator = *self.choices.of(&[" = ", " <> "]);
                self.push(&format!("{column}{operator}"));
                self.bare(shared, kind);
            }
        }
    }

    /// A condition that computes with the constant, and no protected column.
    fn computed_twice(&mut self, shared: Shared, alias: &str) {
        let form = *self.choices.of(&[
            ("length(", ") > 2"),
            ("lower(", ") = @.p_text"),
            ("@.p_text || ", " = '3636'"),
            ("", " || @.p_text = '3636'"),
            ("concat('a', ", ") = 'a36'"),
            ("jsonb_build_object('k', ", ") IS NOT NULL"),
            ("@.p_int + ", " > 40"),
            ("", " + @.p_num > 40"),
            ("@.p_date + ", " > '2024-02-29'"),
            ("@.p_date - ", " = 0"),
            ("@.p_ts - ", " > interval '1 hour'"),
            ("@.p_text LIKE ", ""),
            ("@.p_date < ", ""),
            ("@.p_tz >= ", ""),
            ("@.p_char > ", ""),
            ("@.p_big BETWEEN 0 AND ", ""),
            ("@.p_num BETWEEN SYMMETRIC 50 AND ", ""),
            ("date_trunc('day', ", ") = @.p_ts"),
            ("to_jsonb(", "::text) IS NOT NULL"),
            ("upper(", ") = ANY (ARRAY[@.p_text, @.p_char])"),
            ("@.id < ", ""),
            ("substr('abc', ", ") = 'bc'"),
            ("coalesce(", ") = @.p_var"),
            ("GREATEST(@.p_date, ", ") = @.p_ts"),
            ("@.p_int = ANY (ARRAY[1, ", "])"),
            ("", " = now()::date"),
            ("", "::int > 3"),
            ("", "::date > '2000-01-01'"),
            ("", " IN (SELECT p_char FROM pairs)"),
            ("@.id IN (SELECT generate_series(1, ", "))"),
        ]);
        self.push(&form.0.replace('@', alias));
        self.it(shared, Type::Text, Spelling::Plain);
        self.push(&form.1.replace('@', alias));
    }

    /// A select item.
    pub(super) fn item_twice(&mut self, shared: Shared, alias: &str) {
        let (column, kind) = self.fitting_column(shared, alias);
        match self.choices.weighted(&[30, 20, 10, 10, 10, 10, 10]) {
            0 => self.push(&column),
            1 => self.bare(shared, kind),
            2 => self.it(shared, kind, Spelling::Cast),
            3 => {
                self.push("COALESCE(");
                self.bare(shared, kind);
                self.push(&format!(", {column})"));
            }
            4 => {
                self.push(&format!("COALESCE({column}, "));
                self.bare(shared, kind);
                self.push(")");
            }
            5 => {
                self.push(&format!("CASE WHEN {alias}.id = 1 THEN "));
                self.bare(shared, kind);
                self.push(&format!(" ELSE {column} END"));
            }
            _ => {
                self.push("(");
                self.used(shared, alias);
                self.push(")");
            }
        }
    }

    fn select_twice(&mut self, shared: Shared) {
        let alias = self.alias();
        self.push(&format!("SELECT {alias}.id"));
        let items = self.choices.weighted(&[40, 40, 20]);
        for _ in 0..items {
            self.push(", ");
            self.item_twice(shared, &alias);
        }
        self.push(&format!(" FROM pairs {alias}"));
        let mut joined = None;
        match self.choices.weighted(&[70, 15, 8, 7]) {
            1 => {
                let other = self.alias();
                self.push(&format!(
                    " JOIN pairs {other} ON {other}.id = {alias}.id AND "
                ));
                self.used(shared, &other);
                joined = Some(other);
            }
            2 => {
                let other = self.alias();
                self.push(" CROSS JOIN (SELECT ");
                let kind = self.fitting(shared);
                self.bare(shared, kind);
                self.push(&format!(" AS c) AS {other}"));
            }
            3 => {
                let other = self.alias();
                self.push(&format!(
                    " CROSS JOIN LATERAL (SELECT count(*) FROM pairs WHERE pairs.id = {alias}.id AND "
                ));
                self.used(shared, "pairs");
                self.push(&format!(") AS {other}"));
            }
            _ => {}
        }
        self.push(" WHERE ");
        self.uses(shared, &alias);
        if let Some(other) = joined
            && self.choices.percent(30)
        {
            self.push(" AND ");
            self.used(shared, &other);
        }
        if self.choices.percent(30) {
            self.push(&format!(" ORDER BY {alias}.id"));
            self.ordered = true;
            match self.choices.weighted(&[70, 20, 10]) {
                1 => {
                    self.push(" LIMIT ");
                    self.it(shared, Type::Bigint, Spelling::Plain);
                }
                2 => {
                    self.push(" OFFSET ");
                    self.it(shared, Type::Bigint, Spelling::Plain);
                }
                _ => {}
            }
        }
    }

    /// UNION and its like, and groups.
    fn branches_twice(&mut self, shared: Shared) {
        if self.choices.percent(30) {
            let alias = self.alias();
            let (column, kind) = self.fitting_column(shared, &alias);
            self.push(&format!("SELECT {column}, count(*) FILTER (WHERE "));
            self.used(shared, &alias);
            self.push(&format!(") FROM pairs {alias} WHERE "));
            self.used(shared, &alias);
            self.push(&format!(" GROUP BY {column} HAVING "));
            if self.choices.percent(50) {
                self.push(&format!("{column} = "));
                self.bare(shared, kind);
            } else {
                self.push("count(*) < ");
                self.it(shared, Type::Bigint, Spelling::Plain);
            }
            return;
        }
        let first = self.alias();
        let (column, kind) = self.fitting_column(shared, &first);
        let word = *self
            .choices
            .of(&["UNION ALL", "UNION", "INTERSECT", "EXCEPT"]);
        self.push(&format!("SELECT {column} FROM pairs {first} WHERE "));
        self.used(shared, &first);
        self.push(&format!(" {word} SELECT "));
        if self.choices.percent(40) {
            self.bare(shared, kind);
            return;
        }
        let second = self.alias();
        let column = self.column_twice(kind, &second);
        self.push(&format!("{column} FROM pairs {second} WHERE "));
        self.used(shared, &second);
    }

    fn with_twice(&mut self, shared: Shared) {
        let name = self.alias();
        let alias = self.alias();
        self.push(&format!("WITH {name} AS ("));
        let changing = self.choices.percent(40);
        if changing {
            self.feature("data-changing with");
            let (column, kind) = self.fitting_column(shared, "");
            self.push(&format!("UPDATE pairs AS {alias} SET {} = ", &column[1..]));
            self.bare(shared, kind);
            self.push(" WHERE ");
            self.used(shared, &alias);
            self.push(&format!(" RETURNING {alias}.*"));
        } else {
            self.push(&format!("SELECT {alias}.* FROM pairs {alias} WHERE "));
            self.used(shared, &alias);
        }
        self.push(&format!(") SELECT {name}.id, "));
        self.item_twice(shared, &name);
        self.push(&format!(" FROM {name} WHERE "));
        self.used(shared, &name);
    }
}
