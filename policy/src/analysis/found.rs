//! As what type PostgreSQL takes a parameter that says none: the uses that tell one, and which of them it comes to first.
//! Reads tokens only, and columns that were looked up; what it does not know for certain it does not say.

use std::collections::HashMap;

use sqlparser::tokenizer::Token as Kind;

use super::{
    Analyser,
    kind::{self, Cell},
    operand::{Cast, Operand, What, unusable},
    params::Role,
    sequence::SELECT,
};
use crate::{Refusal, catalog, types::LogicalType};

/// The types of plain columns, by the tokens that name them, and of those that parameters are stored in.
#[derive(Default)]
pub(super) struct Known {
    /// By the first token of a reference: the one behind its last, and its type.
    starting: HashMap<usize, (usize, LogicalType)>,
    /// By the token behind a reference: its first.
    ending: HashMap<usize, usize>,
    /// By the token of a parameter: the type of the column that it is stored in.
    stored: HashMap<usize, LogicalType>,
}

/// What a use says of a parameter's type.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    /// This, and as soon as PostgreSQL comes to it.
    AtOnce(Cast),
    /// This, but when it is done with more than the parameter.
    Later(Cast),
    /// It is not known here.
    Unknown,
}

/// Functions whose first argument is a text if it has no type.
const OF_TEXTS: [&str; 22] = [
    "lower",
    "upper",
    "initcap",
    "length",
    "char_length",
    "character_length",
    "octet_length",
    "btrim",
    "ltrim",
    "rtrim",
    "md5",
    "left",
    "right",
    "split_part",
    "replace",
    "to_tsvector",
    "plainto_tsquery",
    "websearch_to_tsquery",
    "to_tsquery",
    "starts_with",
    "lpad",
    "rpad",
];

/// Words behind which an operand begins, of an operator that binds less than a comparison.
const BEFORE: [&str; 13] = [
    "where",
    "and",
    "or",
    "not",
    "on",
    "having",
    "when",
    "then",
    "else",
    "select",
    "returning",
    "by",
    "all",
];

/// Words that end an operand.
const BEHIND: [&str; 33] = [
    "and",
    "or",
    "then",
    "else",
    "when",
    "end",
    "from",
    "where",
    "group",
    "having",
    "order",
    "limit",
    "offset",
    "fetch",
    "for",
    "union",
    "intersect",
    "except",
    "returning",
    "join",
    "inner",
    "left",
    "right",
    "full",
    "cross",
    "natural",
    "on",
    "window",
    "as",
    "asc",
    "desc",
    "do",
    "using",
];

impl Analyser<'_> {
    /// Remembers the type of a plain column that these tokens name.
    pub(super) fn know_column(&mut self, start: usize, end: usize, kind: &kind::Kind) {
        let kind::Kind::Plain(Some(cell)) = kind else {
            return;
        };
        if let Some(logical) = self.plain_type(*cell) {
            self.known.starting.insert(start, (end, logical));
            self.known.ending.insert(end, start);
        }
    }

    fn plain_type(&self, cell: Cell) -> Option<LogicalType> {
        let relation = self.instances.get(cell.instance)?;
        let column = relation.attribute(cell.attnum)?;
        LogicalType::from_oid(column.base_type_oid, column.typmod)
    }

    /// Remembers the column that a parameter is stored in as it is.
    pub(super) fn know_stored(&mut self, operand: &Operand, column: &catalog::Column) {
        // In a column of a domain it would be of the domain.
        if let (What::Param(_, token), Cast::None) = (&operand.what, &operand.cast)
            && column.type_oid == column.base_type_oid
            && let Some(logical) = LogicalType::from_oid(column.base_type_oid, column.typmod)
        {
            self.known.stored.insert(*token, logical);
        }
    }

    /// What a plain use of a parameter says of its type. In a list to show it is looked at where there are `few`.
    fn told_by(&self, token: usize, few: bool) -> Told {
        if let Some(cast) = self.cast_of(token) {
            return Told::AtOnce(cast);
        }
        if let Some(logical) = self.known.stored.get(&token) {
            return Told::Later(as_cast(*logical));
        }
        let found = self
            .compared(token)
            .or_else(|| self.beside_literal(token))
            .or_else(|| self.any_of(token))
            .or_else(|| self.text_use(token))
            .or_else(|| self.limit_use(token));
        if let Some(cast) = found {
            return Told::AtOnce(cast);
        }
        let shown = || few.then(|| self.listed_alone(token)).flatten();
        match self.one_of_several(token).or_else(shown) {
            Some(cast) => Told::Later(cast),
            None => Told::Unknown,
        }
    }

    /// `$1::date`, `CAST($1 AS date)`
    fn cast_of(&self, token: usize) -> Option<Cast> {
        let tokens = self.tokens;
        let start = if matches!(tokens.kind(token + 1), Kind::DoubleColon) {
            token + 2
        } else {
            let opened = token > 1 && matches!(tokens.kind(token - 1), Kind::LParen);
            let cast = opened && tokens.is_word(token - 2, "cast");
            (cast && tokens.is_word(token + 1, "as")).then_some(token + 2)?
        };
        let end = tokens.type_end(start)?;
        Some(match self.named_type(start..end) {
            Cast::To(to) => Cast::To(to.without_modifiers()),
            other => other,
        })
    }

    /// `name = $1`, `$1 < created`, `created BETWEEN $1 AND $2`, `name IS DISTINCT FROM $1`, `name IN ($1)`
    fn compared(&self, token: usize) -> Option<Cast> {
        let tokens = self.tokens;
        let before = token.checked_sub(1)?;
        let operand = |logical: LogicalType| as_cast(logical.operand());
        if is_comparison(tokens.kind(before)) && self.ends(token + 1) {
            return self.column_before(before).map(operand);
        }
        if is_comparison(tokens.kind(token + 1)) && self.begins(token) {
            let (end, logical) = *self.known.starting.get(&(token + 2))?;
            return self.ends(end).then(|| operand(logical));
        }
        if !self.ends(token + 1) {
            return self.listed_by_itself(token).map(operand);
        }
        if tokens.is_word(before, "from") && tokens.is_word(before - 1, "distinct") {
            let is = if tokens.is_word(before.checked_sub(2)?, "not") {
                before - 3
            } else {
                before - 2
            };
            let column = tokens.is_word(is, "is").then(|| self.column_before(is));
            return column.flatten().map(operand);
        }
        let between = if tokens.is_word(before, "and") {
            let between = before.checked_sub(2)?;
            matches!(tokens.kind(before - 1), Kind::Placeholder(_)).then_some(between)?
        } else {
            before
        };
        let between = if tokens.is_word(between, "symmetric") {
            between.checked_sub(1)?
        } else {
            between
        };
        if tokens.is_word(between, "between") {
            let not = tokens.is_word(between.checked_sub(1)?, "not");
            return self
                .column_before(if not { between - 1 } else { between })
                .map(operand);
        }
        self.listed_by_itself(token).map(operand)
    }

    /// `name IN ($1)`
    fn listed_by_itself(&self, token: usize) -> Option<LogicalType> {
        let tokens = self.tokens;
        let word = token.checked_sub(2)?;
        let alone = matches!(tokens.kind(token - 1), Kind::LParen)
            && matches!(tokens.kind(token + 1), Kind::RParen)
            && tokens.is_word(word, "in");
        let not = word > 0 && tokens.is_word(word - 1, "not");
        let at = if not { word - 1 } else { word };
        alone.then(|| self.column_before(at)).flatten()
    }

    /// `$1 = ''`, `0 < $1`, `$1 IN ('a', 'b')`, `COALESCE($1, '')`, `NULLIF($1, 0)`: beside a literal that has no type it is a
    /// text.
    fn beside_literal(&self, token: usize) -> Option<Cast> {
        let tokens = self.tokens;
        let before = token.checked_sub(1)?;
        if is_comparison(tokens.kind(before)) && self.ends(token + 1) {
            let literal = before.checked_sub(1).filter(|at| self.begins(*at))?;
            return self.literal(literal).map(|(_, cast)| cast);
        }
        if is_comparison(tokens.kind(token + 1)) && self.begins(token) {
            let (end, cast) = self.literal(token + 2)?;
            return self.ends(end).then_some(cast);
        }
        let listed = tokens.is_word(token + 1, "in") && self.begins(token);
        if listed && matches!(tokens.kind(token + 2), Kind::LParen) {
            let texts =
                |at: usize| matches!(tokens.kind(at), Kind::SingleQuotedString(_) | Kind::Comma);
            let close = tokens.pair(token + 2)?;
            let texts = close - token < LONGEST_LIST && (token + 3..close).all(texts);
            return texts.then_some(Cast::To(LogicalType::Text));
        }
        let called = matches!(tokens.kind(before), Kind::LParen)
            && ["coalesce", "nullif"]
                .iter()
                .any(|name| before > 0 && tokens.is_word(before - 1, name));
        if called && matches!(tokens.kind(token + 1), Kind::Comma) {
            let (end, cast) = self.literal(token + 2)?;
            return matches!(tokens.kind(end), Kind::RParen).then_some(cast);
        }
        None
    }

    /// A literal without a cast: the token behind it, and what a parameter beside it is.
    fn literal(&self, at: usize) -> Option<(usize, Cast)> {
        let negative = matches!(self.tokens.kind(at), Kind::Minus);
        let at = at + usize::from(negative);
        let logical = match self.tokens.kind(at) {
            Kind::SingleQuotedString(_) if !negative => LogicalType::Text,
            Kind::Number(digits, _) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                if digits.parse::<i32>().is_ok() {
                    LogicalType::Int4
                } else if digits.parse::<i64>().is_ok() {
                    LogicalType::Int8
                } else {
                    LogicalType::Numeric(None)
                }
            }
            _ => return None,
        };
        Some((at + 1, Cast::To(logical)))
    }

    /// `name = ANY ($1)`
    fn any_of(&self, token: usize) -> Option<Cast> {
        let tokens = self.tokens;
        let operator = token.checked_sub(3)?;
        let any = ["any", "all", "some"]
            .iter()
            .any(|word| tokens.is_word(token - 2, word));
        let alone = matches!(tokens.kind(token - 1), Kind::LParen)
            && matches!(tokens.kind(token + 1), Kind::RParen);
        if !any || !alone || !is_comparison(tokens.kind(operator)) {
            return None;
        }
        self.column_before(operator)
            .map(|logical| Cast::Array(logical.operand()))
    }

    /// `lower($1)`, `name LIKE $1`, `'%' || $1`
    fn text_use(&self, token: usize) -> Option<Cast> {
        let tokens = self.tokens;
        let text = Some(Cast::To(LogicalType::Text));
        let before = token.checked_sub(1)?;
        let behind = tokens.kind(token + 1);
        if matches!(tokens.kind(before), Kind::LParen)
            && matches!(behind, Kind::RParen | Kind::Comma)
            && let Some(name) = before.checked_sub(1).and_then(|at| tokens.name(at))
            && OF_TEXTS.contains(&&*name)
            && !self.is_own_function(&name)
        {
            return text;
        }
        let literal = |at: usize| matches!(tokens.kind(at), Kind::SingleQuotedString(_));
        let pattern = |at: usize| tokens.is_word(at, "like") || tokens.is_word(at, "ilike");
        if pattern(before) && self.ends(token + 1) {
            let not = before > 0 && tokens.is_word(before - 1, "not");
            let column = self.column_before(if not { before - 1 } else { before })?;
            return text.filter(|_| column.is_string());
        }
        let joined = matches!(tokens.kind(before), Kind::StringConcat) && before > 1;
        if joined && literal(before - 1) && (self.begins(before - 1) || pattern(before - 2)) {
            return text;
        }
        let joins = matches!(behind, Kind::StringConcat) && literal(token + 2);
        text.filter(|_| joins && (self.begins(token) || pattern(before)))
    }

    /// `LIMIT $1`
    fn limit_use(&self, token: usize) -> Option<Cast> {
        let before = token.checked_sub(1)?;
        let counts = ["limit", "offset"];
        let counts = counts.iter().any(|word| self.tokens.is_word(before, word));
        counts.then_some(Cast::To(LogicalType::Int8))
    }

    /// `COALESCE(name, $1)`, `name IN ($1, $2)`
    fn one_of_several(&self, token: usize) -> Option<Cast> {
        let tokens = self.tokens;
        let open = (0..token)
            .rev()
            .take(LONGEST_LIST)
            .find(|at| !is_listed(tokens.kind(*at)))?;
        let close = (token + 1..tokens.len())
            .take(LONGEST_LIST)
            .find(|at| !is_listed(tokens.kind(*at)))?;
        let word = open.checked_sub(1)?;
        if matches!(tokens.kind(open), Kind::LParen)
            && matches!(tokens.kind(close), Kind::RParen)
            && tokens.is_word(word, "in")
        {
            let not = word > 0 && tokens.is_word(word - 1, "not");
            return self
                .column_before(if not { word - 1 } else { word })
                .map(as_cast);
        }
        // Two arguments: the column, and the parameter.
        let (first, second) = (token.checked_sub(2), token + 2);
        let called = |at: usize| {
            at > 0 && matches!(tokens.kind(at), Kind::LParen) && tokens.is_word(at - 1, "coalesce")
        };
        if matches!(tokens.kind(token + 1), Kind::Comma) && first.is_some() && called(token - 1) {
            let (end, logical) = *self.known.starting.get(&second)?;
            return matches!(tokens.kind(end), Kind::RParen).then(|| as_cast(logical));
        }
        if matches!(tokens.kind(token + 1), Kind::RParen)
            && matches!(tokens.kind(token - 1), Kind::Comma)
        {
            let start = *self.known.ending.get(&(token - 1))?;
            let (_, logical) = *self.known.starting.get(&start)?;
            return called(start.checked_sub(1)?).then(|| as_cast(logical));
        }
        None
    }

    /// `SELECT $1 AS x`, in no set operation and no INSERT: a text, when the SELECT is done.
    fn listed_alone(&self, token: usize) -> Option<Cast> {
        let before = token.checked_sub(1)?;
        let listed = matches!(self.tokens.kind(before), Kind::Comma)
            || self.tokens.is_word(before, "select");
        let place = self.tokens.place_of(token)?;
        let ended = matches!(self.tokens.kind(token + 1), Kind::Comma) || self.ends(token + 1);
        let bracket = self.tokens.bracket_around(token);
        let here = bracket.is_none() && place.clause == SELECT && place.alone;
        (listed && ended && here).then_some(Cast::To(LogicalType::Text))
    }

    /// `SELECT $1`, without a name
    pub(super) fn is_item(&self, token: usize) -> bool {
        let tokens = self.tokens;
        let Some(before) = token.checked_sub(1) else {
            return false;
        };
        let listed = matches!(tokens.kind(before), Kind::Comma) || tokens.is_word(before, "select");
        let unnamed = self.ends(token + 1) && !tokens.is_word(token + 1, "as");
        let bracket = tokens.bracket_around(token);
        let of_select = bracket.is_none_or(|open| tokens.is_word(open + 1, "select"));
        let place = tokens.place_of(token);
        listed && unnamed && of_select && place.is_some_and(|place| place.clause == SELECT)
    }

    /// Refuses a parameter that says no type, unless PostgreSQL takes it for this one for certain: each use tells it, or one
    /// that does comes before those of which that is not known.
    pub(super) fn check_found(
        &self,
        param: usize,
        plain: &[usize],
        roles: &[&Role],
        wanted: &Cast,
    ) -> Result<(), Refusal> {
        let (mut first, mut others) = (Vec::new(), Vec::new());
        let at_once = roles.iter().filter(|role| role.tells_at_once(self.tokens));
        first.extend(at_once.map(|role| role.token()));
        let few = plain.len() <= MOST_USES;
        for token in plain {
            match self.told_by(*token, few) {
                Told::AtOnce(cast) if cast == *wanted => first.push(*token),
                Told::Later(cast) if cast == *wanted => {}
                _ if self.null_tested(*token).is_some() => {}
                _ => others.push(*token),
            }
        }
        let precedes = |first: &usize| {
            others
                .iter()
                .all(|other| self.tokens.comes_before(*first, *other))
        };
        if others.is_empty() || first.iter().take(MOST_USES).any(precedes) {
            return Ok(());
        }
        Err(unusable(param, UNSURE))
    }

    /// `SELECT $1 IS NULL ... WHERE email = $1`: where PostgreSQL comes to the test first, it finds no type for it.
    pub(super) fn check_tests(
        &self,
        param: usize,
        tests: &[usize],
        uses: &[usize],
    ) -> Result<(), Refusal> {
        let untyped = matches!(self.oids.get(param).copied().unwrap_or(0), 0 | 705);
        let few = uses.len() <= MOST_USES;
        let comes_first = |test: &&usize| {
            let mut others = uses.iter().filter(|other| !tests.contains(other));
            others.all(|other| self.tokens.comes_before(**test, *other))
        };
        match tests.iter().find(comes_first) {
            Some(test) if untyped && few => {
                let message = format!("could not determine data type of parameter ${}", param + 1);
                let at = self.tokens.range(*test).start;
                Err(Refusal::new("42P08", "parameter-not-usable", message).at(at))
            }
            _ => Ok(()),
        }
    }

    /// The first cast of a parameter that is tested for NULL.
    fn cast_tested(&self, token: usize) -> Option<Cast> {
        let extent = self.null_tested(token)?;
        let casts = |at: &usize| {
            matches!(self.tokens.kind(*at), Kind::DoubleColon) || self.tokens.is_word(*at, "as")
        };
        let start = (token + 1..extent.end).find(casts)? + 1;
        let end = self.tokens.type_end(start)?;
        Some(match self.named_type(start..end) {
            Cast::To(to) => Cast::To(to.without_modifiers()),
            other => other,
        })
    }

    /// `$1::int IS NULL OR email = $1`: the cast tells PostgreSQL a type, unless another use has before.
    pub(super) fn check_cast_tests(
        &self,
        param: usize,
        tests: &[usize],
        roles: &[&Role],
    ) -> Result<(), Refusal> {
        let untyped = matches!(self.oids.get(param).copied().unwrap_or(0), 0 | 705);
        let Some(role) = roles.first().filter(|_| untyped) else {
            return Ok(());
        };
        let arrives = role.arrives().without_modifiers();
        let alike = |to: LogicalType| to == arrives || (to.is_string() && arrives.is_string());
        let same = |test: &&usize| match self.cast_tested(**test) {
            Some(Cast::To(to)) => !role.is_array() && alike(to),
            Some(Cast::Array(to)) if role.is_array() => alike(to),
            Some(cast) => cast == as_cast(arrives),
            None => false,
        };
        let told = |test: &usize| {
            let mut told = roles.iter().filter(|role| role.tells_at_once(self.tokens));
            told.any(|role| self.tokens.comes_before(role.token(), *test))
        };
        match tests.iter().find(|test| !same(test) && !told(test)) {
            Some(_) => Err(unusable(param, UNSURE)),
            None => Ok(()),
        }
    }

    /// The type of a plain column that ends before this token, as the first operand of what begins there.
    fn column_before(&self, token: usize) -> Option<LogicalType> {
        let start = *self.known.ending.get(&token)?;
        let (_, logical) = *self.known.starting.get(&start)?;
        self.begins(start).then_some(logical)
    }

    /// Whether nothing before this token binds more than a comparison.
    fn begins(&self, token: usize) -> bool {
        let Some(before) = token.checked_sub(1) else {
            return true;
        };
        matches!(self.tokens.kind(before), Kind::LParen | Kind::Comma)
            || BEFORE.iter().any(|word| self.tokens.is_word(before, word))
    }

    /// Whether an operand ends before this token.
    fn ends(&self, token: usize) -> bool {
        let ended = matches!(
            self.tokens.kind(token),
            Kind::EOF | Kind::RParen | Kind::Comma | Kind::SemiColon
        );
        ended || BEHIND.iter().any(|word| self.tokens.is_word(token, word))
    }

    fn is_own_function(&self, name: &str) -> bool {
        let functions = &self.rules.catalog.functions;
        functions.iter().any(|function| function.name == name)
    }
}

const UNSURE: &str = "another use, without the same cast, may give it another type";

/// So many uses of one parameter are compared with each other.
const MOST_USES: usize = 8;

/// So far a list of parameters is followed.
const LONGEST_LIST: usize = 1_000;

fn as_cast(logical: LogicalType) -> Cast {
    match logical.without_modifiers() {
        LogicalType::Array(element) => Cast::Array(element.kind()),
        bare => Cast::To(bare),
    }
}

fn is_comparison(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Eq | Kind::Neq | Kind::Lt | Kind::LtEq | Kind::Gt | Kind::GtEq
    )
}

/// What can stand in a list beside a parameter without telling a type.
fn is_listed(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Comma | Kind::Placeholder(_) | Kind::SingleQuotedString(_)
    )
}
