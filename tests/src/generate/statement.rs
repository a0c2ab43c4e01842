//! A statement in the making, and its forms: with literals, or with parameters.

use super::{
    choices::Choices,
    world::{Table, Type},
};

/// What a case asks for: statements to run one after the other in one transaction that is rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The statements; in the form with parameters only the first has any.
    pub statements: Vec<String>,
    /// The values of `$1`...
    pub params: Vec<Option<&'static str>>,
    /// As what types they are declared: none of them, or each, 0 where nothing is said.
    pub oids: Vec<u32>,
    /// Asked afterwards, to see what a write has done.
    pub after: Vec<String>,
    /// Whether the order of the rows is fixed by the statement.
    pub ordered: bool,
    /// Whether it may have several mistakes: values that do not fit where they stand again, or types that are declared.
    pub several: bool,
    /// The features that it uses, for the account of what is answered.
    pub features: Vec<&'static str>,
}

/// How constants are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In the text.
    Literals,
    /// As parameters.
    Params,
    /// In the text, through what a session can wrap around a statement: PREPARE, a cursor, COPY, a table, a view.
    Wrapped,
}

/// A part of a statement's text.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Text(String),
    Constant {
        /// Which of the constants given, from 0.
        number: usize,
        /// The type that it has in this place.
        kind: Type,
        spelling: Spelling,
    },
}

/// A constant: a parameter of its own, which may stand in several places.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) value: Option<&'static str>,
    pub(super) kind: Type,
    /// The type that the client says it has.
    pub(super) declared: Option<Type>,
}

/// How a constant is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `'x'`, `$1`
    Plain,
    /// `'x'::type`, `$1::type`
    Cast,
    /// `CAST('x' AS type)`, `CAST($1 AS type)`
    CastWords,
    /// `5`; `$1`
    Number,
}

/// A column that an expression can name.
#[derive(Clone, Debug)]
pub(super) struct Visible {
    /// `c.email`
    pub(super) name: String,
    pub(super) kind: Type,
    /// A key of its table: never NULL, unique there.
    pub(super) key: bool,
    /// As the column's; `None` for what a query computes.
    pub(super) class: Option<u8>,
}

/// Writes one statement.
pub(super) struct Writer<'c> {
    pub(super) choices: &'c mut Choices,
    pub(super) pieces: Vec<Piece>,
    pub(super) given: Vec<Given>,
    /// Whether constants are used again in other places.
    pub(super) repeats: bool,
    /// Whether the client declares types.
    pub(super) declares: bool,
    pub(super) features: Vec<&'static str>,
    /// What names mean here, the innermost query last.
    pub(super) scopes: Vec<Vec<Visible>>,
    /// Aliases given so far.
    pub(super) aliases: usize,
    /// Expressions and queries around the present place.
    pub(super) depth: usize,
    pub(super) ordered: bool,
}

/// Features that statements are known by.
pub(super) const TWICE: &str = "a constant in several places";
pub(super) const DECLARED: &str = "declared types";

/// How deep expressions and queries may be in each other.
pub(super) const DEEPEST: usize = 3;

impl<'c> Writer<'c> {
    pub(super) fn new(choices: &'c mut Choices) -> Self {
        Self {
            choices,
            pieces: Vec::new(),
            given: Vec::new(),
            repeats: false,
            declares: false,
            features: Vec::new(),
            scopes: Vec::new(),
            aliases: 0,
            depth: 0,
            ordered: false,
        }
    }

    pub(super) fn push(&mut self, text: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ => self.pieces.push(Piece::Text(text.to_owned())),
        }
    }

    pub(super) fn feature(&mut self, name: &'static str) {
        if !self.features.contains(&name) {
            self.features.push(name);
        }
    }

    pub(super) fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("t{}", self.aliases)
    }

    /// The columns of a table under an alias.
    pub(super) fn visible(table: &Table, alias: &str) -> Vec<Visible> {
        let columns = table.columns.iter().enumerate();
        columns
            .map(|(index, column)| Visible {
                name: format!("{alias}.{}", column.name),
                kind: column.kind,
                key: index == 0,
                class: Some(column.class),
            })
            .collect()
    }

    /// A list, one after the other.
    pub(super) fn list(&mut self, count: usize, mut one: impl FnMut(&mut Self, usize)) {
        for index in 0..count {
            if index > 0 {
                self.push(", ");
            }
            one(self, index);
        }
    }
}

/// The statement that some choices make, in one form. The same choices make the same statement in every form.
pub fn statement(choices: &mut Choices, form: Form) -> Script {
    let mut writer = Writer::new(choices);
    writer.repeats = writer.choices.percent(25);
    writer.declares = writer.choices.percent(15);
    let after = writer.any_statement();
    let Writer {
        pieces,
        given,
        mut features,
        ordered,
        ..
    } = writer;
    let is_query = after.is_empty();
    let (mut params, mut oids) = (Vec::new(), Vec::new());
    if form == Form::Params {
        params = given.iter().map(|given| given.value).collect();
        oids = declared_oids(&given);
    }
    let mut statements = vec![render(&pieces, &given, form == Form::Params)];
    if form == Form::Wrapped {
        statements = super::session::wrap(choices, &pieces, &given, is_query, &mut features);
    }
    Script {
        statements,
        params,
        oids,
        after,
        ordered,
        several: features
            .iter()
            .any(|feature| [TWICE, DECLARED].contains(feature)),
        features,
    }
}

fn declared_oids(given: &[Given]) -> Vec<u32> {
    if given.iter().all(|given| given.declared.is_none()) {
        return Vec::new();
    }
    let oids = given
        .iter()
        .map(|given| given.declared.map_or(0, Type::oid));
    oids.collect()
}

/// The text, with constants or with parameters.
pub(super) fn render(pieces: &[Piece], given: &[Given], params: bool) -> String {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(part) => text.push_str(part),
            Piece::Constant {
                number,
                kind,
                spelling,
            } => {
                let bare = if params {
                    format!("${}", number + 1)
                } else {
                    literal(given[*number].value, *spelling)
                };
                let kind = if params { kind.bare() } else { kind.sql() };
                text.push_str(&match spelling {
                    Spelling::Plain | Spelling::Number => bare,
                    Spelling::Cast => format!("{bare}::{kind}"),
                    Spelling::CastWords => format!("CAST({bare} AS {kind})"),
                });
            }
        }
    }
    text
}

/// A constant as it stands in a text.
pub(super) fn literal(value: Option<&str>, spelling: Spelling) -> String {
    match value {
        None => "NULL".to_owned(),
        Some(number)
            if spelling == Spelling::Number && number.parse::<f64>().is_ok_and(f64::is_finite) =>
        {
            number.to_owned()
        }
        Some(text) => format!("'{}'", text.replace('\'', "''")),
    }
}
