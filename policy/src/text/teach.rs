//! Teaches the parser what it does not know: the tokens it gets may leave out or spell differently what cannot
//! reference a protected column. Tokens keep their place in the client's text, so every range stays exact.
//! Nothing of this is ever sent.

use std::{collections::HashSet, ops::Range};

use sqlparser::{
    keywords::Keyword,
    tokenizer::{Token as Kind, TokenWithSpan},
};

use super::Tokens;

/// What the parser gets.
pub(crate) struct Taught {
    /// The tokens.
    pub(crate) tokens: Vec<TokenWithSpan>,
    /// Tokens of the text that the parser does not see.
    pub(crate) left_out: HashSet<usize>,
}

/// What the words of a statement are that the parser cannot know.
pub(crate) struct Vocabulary<'v> {
    /// Names of protected columns: nothing that holds one is left out.
    pub(crate) sensitive: &'v dyn Fn(&str) -> bool,
    /// Names of types, as they are written.
    pub(crate) is_type: &'v dyn Fn(&str) -> bool,
}

/// Rewrites the tokens of one statement for the parser.
pub(crate) fn teach(
    tokens: &Tokens<'_>,
    statement: &Range<usize>,
    vocabulary: &Vocabulary<'_>,
) -> Taught {
    let teacher = Teacher {
        tokens,
        end: statement.end,
        vocabulary,
        merge: merge_of_join(tokens, statement),
    };
    let mut taught = Taught {
        tokens: Vec::with_capacity(statement.len()),
        left_out: HashSet::new(),
    };
    let mut index = statement.start;
    while index < statement.end {
        match teacher.lesson(index, index == statement.start) {
            Lesson::Keep => {
                taught.tokens.push(tokens.token(index).clone());
                index += 1;
            }
            Lesson::Spell(words, length) => {
                let span = tokens.token(index).span;
                taught.tokens.extend(words.iter().map(|word| TokenWithSpan {
                    token: spelled(word),
                    span,
                }));
                index += length;
            }
            Lesson::LeaveOut(length) => {
                taught.left_out.extend(index..index + length);
                index += length;
            }
            Lesson::KeepAndLeaveOut(length) => {
                taught.tokens.push(tokens.token(index).clone());
                taught.left_out.extend(index + 1..=index + length);
                index += length + 1;
            }
        }
    }
    taught
}

/// What the parser gets as the name of the last field of `(row).*`, which it does not know.
const ALL_FIELDS: &str = "pgveil_all_fields";

/// What the parser gets as the name of a function's rows that have none.
const NAMELESS: &str = "pgveil_rows";

fn spelled(word: &str) -> Kind {
    match word {
        ALL_FIELDS => Kind::make_word(ALL_FIELDS, None),
        NAMELESS => Kind::make_word(NAMELESS, None),
        "*" => Kind::Mul,
        "(" => Kind::LParen,
        ")" => Kind::RParen,
        _ => Kind::make_keyword(word),
    }
}

enum Lesson {
    /// The parser knows it.
    Keep,
    /// So many tokens are spelled differently.
    Spell(&'static [&'static str], usize),
    /// So many tokens are left out.
    LeaveOut(usize),
    /// The token stays, so many behind it are left out.
    KeepAndLeaveOut(usize),
}

/// Types of literals (`inet '10.0.0.1'`) that are plain words to the parser.
const TYPES_OF_LITERALS: [&str; 7] = [
    "inet", "cidr", "macaddr", "macaddr8", "timetz", "bpchar", "numeric",
];

struct Teacher<'t> {
    tokens: &'t Tokens<'t>,
    end: usize,
    vocabulary: &'t Vocabulary<'t>,
    /// USING and ON of a MERGE whose source is a join.
    merge: Option<(usize, usize)>,
}

/// `MERGE INTO t USING a JOIN b ON a.x = b.x ON t.x = a.x WHEN ...`: the parser wants brackets around the join.
fn merge_of_join(tokens: &Tokens<'_>, statement: &Range<usize>) -> Option<(usize, usize)> {
    let mut marks = [None; 4];
    let mut joined = false;
    let mut at = statement.start;
    while at < statement.end {
        if matches!(tokens.kind(at), Kind::LParen) {
            at = tokens.pair(at)? + 1;
            continue;
        }
        let [merge, using, on, when] = &mut marks;
        if merge.is_none() && tokens.are_words(at, &["merge", "into"]) {
            *merge = Some(at);
        } else if merge.is_some() && using.is_none() && tokens.is_word(at, "using") {
            *using = Some(at);
        } else if using.is_some() && when.is_none() && tokens.is_word(at, "on") {
            *on = Some(at);
        } else if on.is_some() && when.is_none() && tokens.is_word(at, "when") {
            *when = Some(at);
        }
        joined |= using.is_some() && when.is_none() && tokens.is_word(at, "join");
        at += 1;
    }
    let [_, using, on, when] = marks;
    when.filter(|_| joined)?;
    using.zip(on)
}

impl Teacher<'_> {
    /// Whether `(a int, b text)` stands here, and no query.
    fn defines_rows(&self, index: usize) -> bool {
        const QUERIES: [&str; 8] = [
            "select", "with", "values", "insert", "update", "delete", "merge", "table",
        ];
        let tokens = self.tokens;
        let word = |at: usize| at < self.end && matches!(tokens.kind(at), Kind::Word(_));
        matches!(tokens.kind(index), Kind::LParen)
            && matches!(tokens.kind(index.wrapping_sub(2)), Kind::RParen)
            && word(index + 1)
            && word(index + 2)
            && !QUERIES.iter().any(|query| tokens.is_word(index + 1, query))
    }

    fn lesson(&self, index: usize, first: bool) -> Lesson {
        let tokens = self.tokens;
        let before = |word: &str| !first && tokens.is_word(index - 1, word);
        match self.merge {
            Some((using, _)) if using == index => return Lesson::Spell(&["USING", "("], 1),
            Some((_, on)) if on == index => return Lesson::Spell(&[")", "ON"], 1),
            _ => {}
        }
        if !first && self.is_literal(index) && self.follows_interval(index) {
            return Lesson::KeepAndLeaveOut(tokens.behind_interval_fields(index + 1) - index - 1);
        }
        match tokens.kind(index) {
            Kind::LParen if before("conflict") => self.conflict_target(index),
            Kind::LBracket if !first => self.subscript_of_target(index),
            Kind::Mul if self.is_all_fields(index) => Lesson::Spell(&[ALL_FIELDS], 1),
            Kind::Word(_) if self.named_literal(index).is_some() => {
                Lesson::Spell(&["DATE"], self.named_literal(index).unwrap_or(1))
            }
            // The parser knows VALUES behind IN only.
            Kind::Eq if self.is_values_of(index + 1, &["any", "some"]) => Lesson::Spell(&["IN"], 2),
            Kind::Neq if self.is_values_of(index + 1, &["all"]) => Lesson::Spell(&["NOT", "IN"], 2),
            Kind::Word(word) if word.quote_style.is_none() => match word.keyword {
                _ if tokens.is_word(index, "isnull") => Lesson::Spell(&["IS", "NULL"], 1),
                _ if self.is_typed_literal(index) => Lesson::Spell(&["DATE"], 1),
                Keyword::INTERVAL if self.is_literal(index + 1) => Lesson::Spell(&["DATE"], 1),
                Keyword::INTERVAL
                    if matches!(tokens.kind(index + 1), Kind::LParen)
                        && self.is_literal(index + 4) =>
                {
                    Lesson::Spell(&["DATE"], 4)
                }
                _ if tokens.is_word(index, "overriding") && tokens.is_word(index + 2, "value") => {
                    Lesson::LeaveOut(3)
                }
                // Of MERGE: one default is as good as all.
                Keyword::DEFAULT if before("insert") && tokens.is_word(index + 1, "values") => {
                    Lesson::Spell(&["VALUES", "(", "DEFAULT", ")"], 2)
                }
                // Rows of a function under a list of definitions need no name, but for the parser.
                Keyword::AS if self.defines_rows(index + 1) => Lesson::Spell(&["AS", NAMELESS], 1),
                Keyword::TABLE => Lesson::Spell(&["SELECT", "*", "FROM"], 1),
                Keyword::NOTNULL => Lesson::Spell(&["IS", "NOT", "NULL"], 1),
                Keyword::NO
                    if before("for") && tokens.are_words(index, &["no", "key", "update"]) =>
                {
                    Lesson::LeaveOut(2)
                }
                Keyword::KEY if before("for") && tokens.is_word(index + 1, "share") => {
                    Lesson::LeaveOut(1)
                }
                Keyword::ONLY if self.names_a_table(index) => Lesson::LeaveOut(1),
                Keyword::VARIADIC
                    if matches!(
                        tokens.kind(index.wrapping_sub(1)),
                        Kind::LParen | Kind::Comma
                    ) =>
                {
                    Lesson::LeaveOut(1)
                }
                Keyword::WHERE if tokens.are_words(index + 1, &["current", "of"]) => {
                    Lesson::LeaveOut((self.end - index).min(4))
                }
                Keyword::WHERE if !first => self.conflict_predicate(index),
                _ if before("between") && tokens.is_word(index, "symmetric") => Lesson::LeaveOut(1),
                _ if before("row") || before("preceding") || before("following") => {
                    self.frame_exclusion(index)
                }
                _ => Lesson::Keep,
            },
            _ => Lesson::Keep,
        }
    }

    /// `ANY (VALUES ...`
    fn is_values_of(&self, index: usize, words: &[&str]) -> bool {
        let tokens = self.tokens;
        index + 2 < self.end
            && words.iter().any(|word| tokens.is_word(index, word))
            && matches!(tokens.kind(index + 1), Kind::LParen)
            && tokens.is_word(index + 2, "values")
    }

    fn is_literal(&self, index: usize) -> bool {
        index < self.end
            && matches!(
                self.tokens.kind(index),
                Kind::SingleQuotedString(_)
                    | Kind::EscapedStringLiteral(_)
                    | Kind::DollarQuotedString(_)
            )
    }

    /// `inet '10.0.0.1'`: the types of such literals that the parser does not know.
    fn is_typed_literal(&self, index: usize) -> bool {
        self.is_literal(index + 1)
            && TYPES_OF_LITERALS
                .iter()
                .any(|name| self.tokens.is_word(index, name))
    }

    /// `mood 'sad'`, `crm."Level" 'low'`: the tokens of the type's name.
    fn named_literal(&self, index: usize) -> Option<usize> {
        let tokens = self.tokens;
        let is_part = index > 0 && matches!(tokens.kind(index - 1), Kind::Period);
        let mut last = index;
        while matches!(tokens.kind(last + 1), Kind::Period)
            && matches!(tokens.kind(last + 2), Kind::Word(_))
        {
            last += 2;
        }
        let named = !is_part && self.is_literal(last + 1) && !tokens.is_syntax(index);
        let name = &tokens.sql[tokens.bytes(&(index..last + 1))];
        (named && (self.vocabulary.is_type)(name)).then_some(last + 1 - index)
    }

    /// `(row).*`
    fn is_all_fields(&self, index: usize) -> bool {
        let is = |back: usize, kind: &Kind| index >= back && self.tokens.kind(index - back) == kind;
        is(1, &Kind::Period) && is(2, &Kind::RParen)
    }

    /// `interval '1' day`, `interval(3) '1'`
    fn follows_interval(&self, literal: usize) -> bool {
        let is_interval = |at: usize| self.tokens.is_word(at, "interval");
        is_interval(literal - 1)
            || (literal >= 4
                && is_interval(literal - 4)
                && matches!(self.tokens.kind(literal - 1), Kind::RParen))
    }

    fn holds_sensitive(&self, range: Range<usize>) -> bool {
        range.into_iter().any(|index| {
            self.tokens
                .name(index)
                .is_some_and(|name| (self.vocabulary.sensitive)(&name))
        })
    }

    /// `ON CONFLICT (lower(a))`: only lists of plain columns are known.
    fn conflict_target(&self, open: usize) -> Lesson {
        let Some(close) = self.tokens.pair(open).filter(|close| *close < self.end) else {
            return Lesson::Keep;
        };
        let plain = (open + 1..close).all(|index| match self.tokens.kind(index) {
            Kind::Word(_) => matches!(self.tokens.kind(index + 1), Kind::Comma | Kind::RParen),
            Kind::Comma => true,
            _ => false,
        });
        if plain || self.holds_sensitive(open..close) {
            return Lesson::Keep;
        }
        Lesson::LeaveOut(close + 1 - open)
    }

    /// `ON CONFLICT (...) WHERE predicate DO`.
    fn conflict_predicate(&self, index: usize) -> Lesson {
        let tokens = self.tokens;
        let follows_target = matches!(tokens.kind(index - 1), Kind::RParen)
            && tokens
                .pair(index - 1)
                .is_some_and(|open| open > 0 && tokens.is_word(open - 1, "conflict"));
        let end = (index..self.end).find(|at| tokens.is_word(*at, "do"));
        match end {
            Some(end) if follows_target && !self.holds_sensitive(index..end) => {
                Lesson::LeaveOut(end - index)
            }
            _ => Lesson::Keep,
        }
    }

    /// `OVER (ROWS ... EXCLUDE CURRENT ROW)`: which rows of a frame are left out, not which columns.
    fn frame_exclusion(&self, index: usize) -> Lesson {
        let tokens = self.tokens;
        let forms: [&[&str]; 4] = [
            &["exclude", "current", "row"],
            &["exclude", "no", "others"],
            &["exclude", "group"],
            &["exclude", "ties"],
        ];
        let ends = |at: usize| at < self.end && matches!(tokens.kind(at), Kind::RParen);
        let form = forms
            .iter()
            .find(|form| tokens.are_words(index, form) && ends(index + form.len()));
        form.map_or(Lesson::Keep, |form| Lesson::LeaveOut(form.len()))
    }

    /// `SET data['k'] = ...` of a column that is not protected.
    fn subscript_of_target(&self, open: usize) -> Lesson {
        let tokens = self.tokens;
        let is_target = open >= 2
            && matches!(tokens.kind(open - 1), Kind::Word(_))
            && (tokens.is_word(open - 2, "set") || matches!(tokens.kind(open - 2), Kind::Comma));
        let Some(close) = tokens
            .pair(open)
            .filter(|close| *close < self.end && is_target)
        else {
            return Lesson::Keep;
        };
        let assigned = matches!(tokens.kind(close + 1), Kind::Eq);
        if assigned && !self.holds_sensitive(open - 1..close) {
            return Lesson::LeaveOut(close + 1 - open);
        }
        Lesson::Keep
    }

    /// `FROM ONLY t`: which rows are read, not which columns.
    fn names_a_table(&self, index: usize) -> bool {
        let follows = ["from", "update", "join", "using", "into"]
            .iter()
            .any(|word| index > 0 && self.tokens.is_word(index - 1, word));
        let after_comma = index > 0 && matches!(self.tokens.kind(index - 1), Kind::Comma);
        (follows || after_comma) && matches!(self.tokens.kind(index + 1), Kind::Word(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taught(sql: &str) -> String {
        let tokens = Tokens::read(sql).unwrap();
        let vocabulary = Vocabulary {
            sensitive: &|name| name == "email",
            is_type: &|name| ["mood", "crm.\"Level\""].contains(&name),
        };
        let taught = teach(&tokens, &(0..tokens.len()), &vocabulary);
        let words: Vec<_> = taught
            .tokens
            .iter()
            .map(|token| token.token.to_string())
            .collect();
        words.join(" ")
    }

    #[test]
    fn teaches_what_the_parser_does_not_know() {
        for (sql, expected) in [
            ("TABLE t", "SELECT * FROM t"),
            ("(TABLE t) LIMIT 1", "( SELECT * FROM t ) LIMIT 1"),
            ("SELECT 1 FOR NO KEY UPDATE", "SELECT 1 FOR UPDATE"),
            ("SELECT 1 FOR KEY SHARE", "SELECT 1 FOR SHARE"),
            (
                "SELECT a ISNULL, b NOTNULL",
                "SELECT a IS NULL , b IS NOT NULL",
            ),
            (
                "ON CONFLICT (lower(a)) DO NOTHING",
                "ON CONFLICT DO NOTHING",
            ),
            (
                "ON CONFLICT (lower(email)) DO NOTHING",
                "ON CONFLICT ( lower ( email ) ) DO NOTHING",
            ),
            (
                "ON CONFLICT (email) WHERE a IS NULL DO NOTHING",
                "ON CONFLICT ( email ) DO NOTHING",
            ),
            ("OVERRIDING SYSTEM VALUE VALUES (1)", "VALUES ( 1 )"),
            (
                "UPDATE t SET d['k'] = 1, e = a[1]",
                "UPDATE t SET d = 1 , e = a [ 1 ]",
            ),
            ("SELECT 1 FROM ONLY t", "SELECT 1 FROM t"),
            (
                "UPDATE t SET a = 1 WHERE CURRENT OF c RETURNING email",
                "UPDATE t SET a = 1 RETURNING email",
            ),
            ("a BETWEEN SYMMETRIC 1 AND 2", "a BETWEEN 1 AND 2"),
            (
                "OVER (ROWS 1 PRECEDING EXCLUDE CURRENT ROW)",
                "OVER ( ROWS 1 PRECEDING )",
            ),
            (
                "OVER (ROWS CURRENT ROW EXCLUDE TIES)",
                "OVER ( ROWS CURRENT ROW )",
            ),
            ("a = inet '10.0.0.1'", "a = DATE '10.0.0.1'"),
            (
                "a = interval '1' day to second(2) AND b",
                "a = DATE '1' AND b",
            ),
            ("a = interval(2) '1'", "a = DATE '1'"),
            ("a = x.interval", "a = x . interval"),
            ("a = mood 'sad'", "a = DATE 'sad'"),
            ("a = crm.\"Level\" 'low'", "a = DATE 'low'"),
            ("a = x.mood 'sad'", "a = x . mood 'sad'"),
            ("a = sad 'mood'", "a = sad 'mood'"),
            ("(s.c).*, 2 * 3", "( s . c ) . pgveil_all_fields , 2 * 3"),
        ] {
            assert_eq!(taught(sql), expected, "{sql}");
        }
    }
}
