//! In which order PostgreSQL analyses the parts of a statement, as far as its tokens tell for certain. Knows no types.

use sqlparser::tokenizer::Token as Kind;

use crate::text::Tokens;

impl Tokens<'_> {
    /// Whether PostgreSQL is done with the operator around one parameter before it comes to the other, for certain.
    pub(super) fn comes_before(&self, first: usize, then: usize) -> bool {
        let (ours, theirs) = (self.levels(first), self.levels(then));
        let shared = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
        // The brackets of queries below the innermost one that holds both stand for what is in them.
        let at = |levels: &[usize], token: usize| levels.get(shared).copied().unwrap_or(token);
        let (first, then) = (at(&ours, first), at(&theirs, then));
        let level = shared.checked_sub(1).map(|last| ours[last]);
        // `$1 IN (SELECT ...)`: the query comes first.
        let operand = then > first && then - first <= 4 && theirs.len() > shared;
        let (Some(one), Some(other)) = (self.place_in(level, first), self.place_in(level, then))
        else {
            return false;
        };
        if operand || one.aside || other.aside {
            return false;
        }
        (one.branch, one.clause, first) < (other.branch, other.clause, then)
    }

    /// The opening brackets of the queries around a token, outermost first.
    fn levels(&self, token: usize) -> Vec<usize> {
        let around = |open: &usize| {
            matches!(self.kind(*open), Kind::LParen)
                && self.pair(*open).is_some_and(|close| close > token)
                && QUERIES.iter().any(|word| self.is_word(open + 1, word))
        };
        (0..token).filter(around).collect()
    }

    /// Where in the innermost query around it a token stands.
    pub(super) fn place_of(&self, token: usize) -> Option<Place> {
        let level = self.levels(token).last().copied();
        self.place_in(level, token)
    }

    /// The innermost bracket around a token.
    pub(super) fn bracket_around(&self, token: usize) -> Option<usize> {
        (0..token).rev().find(|open| {
            matches!(self.kind(*open), Kind::LParen)
                && self.pair(*open).is_some_and(|close| close > token)
        })
    }

    /// In which clause of the query that this bracket opens a token stands.
    fn place_in(&self, level: Option<usize>, token: usize) -> Option<Place> {
        let (start, end) = match level {
            Some(open) => (open + 1, self.pair(open)?),
            None => (0, self.len()),
        };
        let mut place = Place {
            branch: 0,
            clause: 0,
            alone: true,
            aside: false,
        };
        let (mut head, mut at) = (None, start);
        while at < end {
            match self.clause(at, start, &mut head) {
                Some(Clause::Unknown) => place.aside = true,
                Some(Clause::Branch) => {
                    place.alone = false;
                    place.branch += usize::from(at < token);
                }
                // What stands behind ON CONFLICT belongs to it, but RETURNING.
                Some(Clause::Named(clause))
                    if at < token && (place.clause != CONFLICT || clause > CONFLICT) =>
                {
                    place.clause = clause;
                }
                _ => {}
            }
            let close = self
                .pair(at)
                .filter(|_| matches!(self.kind(at), Kind::LParen));
            at = match close {
                // Words in the brackets of a call or a group are no clauses of the query.
                Some(close) => close + 1,
                None => at + 1,
            };
        }
        place.alone &= !matches!(head, Some(Head::Insert));
        place.aside |= head.is_none();
        Some(place)
    }

    fn clause(&self, at: usize, start: usize, head: &mut Option<Head>) -> Option<Clause> {
        let is = |word: &str| self.is_word(at, word);
        let before = |word: &str| at > start && self.is_word(at - 1, word);
        if is("with") && (at == start || before("as")) {
            return Some(Clause::Named(0));
        }
        let heads = [
            ("insert", Head::Insert),
            ("update", Head::Update),
            ("delete", Head::Other),
            ("merge", Head::Merge),
            ("select", Head::Other),
            ("values", Head::Other),
        ];
        if head.is_none() {
            *head = heads
                .iter()
                .find(|(word, _)| is(word))
                .map(|(_, head)| *head);
        }
        if matches!(head, Some(Head::Merge)) {
            // All else in the order of the text, but that.
            return is("returning").then_some(Clause::Unknown);
        }
        if is("union") || is("intersect") || is("except") {
            return Some(Clause::Branch);
        }
        let clause = match () {
            () if is("select") || is("values") => SELECT,
            () if is("from") && !before("distinct") => FROM,
            () if is("where") => WHERE,
            () if is("having") => HAVING,
            () if is("order") => ORDER,
            () if is("group") && !before("within") => GROUP,
            () if is("offset") => OFFSET,
            () if is("limit") || is("fetch") => LIMIT,
            () if is("window") => WINDOW,
            () if is("conflict") && before("on") => CONFLICT,
            () if is("returning") => {
                if matches!(head, Some(Head::Update)) {
                    UPDATED - 1
                } else {
                    RETURNING
                }
            }
            () if is("set") && matches!(head, Some(Head::Update)) => UPDATED,
            () => return None,
        };
        Some(Clause::Named(clause))
    }
}

/// Where in a query a token stands.
pub(super) struct Place {
    /// Which SELECT of a set operation.
    branch: usize,
    /// PostgreSQL analyses clauses in the order of their numbers.
    pub(super) clause: usize,
    /// The query is a SELECT, and no set operation.
    pub(super) alone: bool,
    /// What it is in is not known.
    aside: bool,
}

enum Clause {
    Named(usize),
    Branch,
    Unknown,
}

#[derive(Clone, Copy)]
enum Head {
    Insert,
    Update,
    Merge,
    Other,
}

/// As PostgreSQL's `transformSelectStmt` and the like go through a statement; 0 is WITH.
const FROM: usize = 1;
pub(super) const SELECT: usize = 2;
const WHERE: usize = 3;
const HAVING: usize = 4;
const ORDER: usize = 5;
const GROUP: usize = 6;
const OFFSET: usize = 7;
const LIMIT: usize = 8;
const WINDOW: usize = 9;
const CONFLICT: usize = 20;
const RETURNING: usize = 30;
/// What UPDATE sets comes behind all else.
const UPDATED: usize = 41;

/// Words that a query in brackets begins with.
const QUERIES: [&str; 7] = [
    "select", "with", "values", "insert", "update", "delete", "merge",
];
