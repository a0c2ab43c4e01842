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
    /// Asked afterwards, to see what a write has done.
    pub after: Vec<String>,
    /// Whether the order of the rows is fixed by the statement.
    pub ordered: bool,
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
        kind: Type,
        value: Option<&'static str>,
        spelling: Spelling,
    },
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
    pub(super) features: Vec<&'static str>,
    /// What names mean here, the innermost query last.
    pub(super) scopes: Vec<Vec<Visible>>,
    /// Aliases given so far.
    pub(super) aliases: usize,
    /// Expressions and queries around the present place.
    pub(super) depth: usize,
    pub(super) ordered: bool,
}

/// How deep expressions and queries may be in each other.
pub(super) const DEEPEST: usize = 3;

impl<'c> Writer<'c> {
    pub(super) fn new(choices: &'c mut Choices) -> Self {
        Self {
            choices,
            pieces: Vec::new(),
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
    let after = writer.any_statement();
    let Writer {
        pieces,
        mut features,
        ordered,
        ..
    } = writer;
    let is_query = after.is_empty();
    let (sql, params) = render(&pieces, form == Form::Params);
    let mut statements = vec![sql];
    if form == Form::Wrapped {
        statements = super::session::wrap(choices, &pieces, is_query, &mut features);
    }
    Script {
        statements,
        params,
        after,
        ordered,
        features,
    }
}

/// The text, and the parameters of which it speaks.
pub(super) fn render(pieces: &[Piece], params: bool) -> (String, Vec<Option<&'static str>>) {
    let (mut text, mut values) = (String::new(), Vec::new());
    for piece in pieces {
        match piece {
            Piece::Text(part) => text.push_str(part),
            Piece::Constant {
                kind,
                value,
                spelling,
            } => {
                let bare = if params {
                    values.push(*value);
                    format!("${}", values.len())
                } else {
                    literal(*value, *spelling)
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
    (text, values)
}

/// A constant as it stands in a text.
pub(super) fn literal(value: Option<&str>, spelling: Spelling) -> String {
    match value {
        None => "NULL".to_owned(),
        Some(number) if spelling == Spelling::Number => number.to_owned(),
        Some(text) => format!("'{}'", text.replace('\'', "''")),
    }
}
