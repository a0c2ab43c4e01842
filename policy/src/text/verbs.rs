//! Reads the statements that make, use or drop what a session keeps by name: prepared statements and cursors.
//! Grammar only; what is inside them is judged elsewhere. A statement that does not fit the grammar is none of them:
//! the server will say what is wrong with it.

use std::ops::Range;

use sqlparser::tokenizer::Token as Kind;

use super::Tokens;

/// What such a statement says. Names are as PostgreSQL stores them, ranges are of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// `PREPARE name [(types)] AS statement`
    Prepare {
        name: String,
        /// The list with its brackets, or nothing where it would stand.
        list: Range<usize>,
        /// What stands between its commas.
        types: Vec<Range<usize>>,
        statement: Range<usize>,
    },
    /// `EXECUTE name [(arguments)]`
    Execute {
        name: String,
        /// The list with its brackets, or nothing where it would stand.
        list: Range<usize>,
        arguments: Vec<Range<usize>>,
    },
    /// `DEALLOCATE [PREPARE] name | ALL`; `None` is ALL.
    Deallocate(Option<String>),
    /// `DECLARE name ... CURSOR [WITH | WITHOUT HOLD] FOR query`
    Declare {
        name: String,
        hold: bool,
        query: Range<usize>,
    },
    /// `FETCH ... name`
    Fetch(String),
    /// `MOVE ... name`
    Move(String),
    /// `CLOSE name | ALL`; `None` is ALL.
    Close(Option<String>),
    /// `DISCARD ALL`
    DiscardAll,
}

/// What a statement is, if it is one of these.
pub(crate) fn verb(tokens: &Tokens<'_>, statement: &Range<usize>) -> Option<Verb> {
    let first = statement.start;
    let name = |at: usize| {
        let within = at < statement.end;
        within.then(|| tokens.name(at)).flatten().map(String::from)
    };
    let ends = |at: usize| at == statement.end;
    let all_or_name = |at: usize| {
        let all = tokens.is_word(at, "all");
        (at < statement.end && ends(at + 1))
            .then(|| if all { Some(None) } else { name(at).map(Some) })
            .flatten()
    };
    match () {
        () if tokens.is_word(first, "prepare") && !tokens.is_word(first + 1, "transaction") => {
            let (list, types, at) = list(tokens, first + 2, statement.end)?;
            let body = tokens.is_word(at, "as") && at + 1 < statement.end;
            body.then(|| {
                Some(Verb::Prepare {
                    name: name(first + 1)?,
                    list,
                    types,
                    statement: at + 1..statement.end,
                })
            })?
        }
        () if tokens.is_word(first, "execute") => {
            let (list, arguments, at) = list(tokens, first + 2, statement.end)?;
            ends(at).then(|| {
                Some(Verb::Execute {
                    name: name(first + 1)?,
                    list,
                    arguments,
                })
            })?
        }
        () if tokens.is_word(first, "deallocate") => {
            let keyword = tokens.is_word(first + 1, "prepare") && first + 2 < statement.end;
            all_or_name(first + 1 + usize::from(keyword)).map(Verb::Deallocate)
        }
        () if tokens.is_word(first, "declare") => declare(tokens, statement),
        () if tokens.is_word(first, "fetch") => name(statement.end - 1)
            .filter(|_| statement.len() > 1)
            .map(Verb::Fetch),
        () if tokens.is_word(first, "move") => name(statement.end - 1)
            .filter(|_| statement.len() > 1)
            .map(Verb::Move),
        () if tokens.is_word(first, "close") => all_or_name(first + 1).map(Verb::Close),
        () if tokens.are_words(first, &["discard", "all"]) && ends(first + 2) => {
            Some(Verb::DiscardAll)
        }
        () => None,
    }
}

fn declare(tokens: &Tokens<'_>, statement: &Range<usize>) -> Option<Verb> {
    const OPTIONS: [&str; 5] = ["binary", "asensitive", "insensitive", "scroll", "no"];
    let name = tokens.name(statement.start + 1)?.into_owned();
    let mut at = statement.start + 2;
    while OPTIONS.iter().any(|option| tokens.is_word(at, option)) {
        at += 1;
    }
    if !tokens.is_word(at, "cursor") {
        return None;
    }
    at += 1;
    let hold = tokens.are_words(at, &["with", "hold"]);
    if hold || tokens.are_words(at, &["without", "hold"]) {
        at += 2;
    }
    let body = tokens.is_word(at, "for") && at + 1 < statement.end;
    body.then_some(Verb::Declare {
        name,
        hold,
        query: at + 1..statement.end,
    })
}

/// A list in brackets that may stand at `at`, its elements, and where it ends.
fn list(
    tokens: &Tokens<'_>,
    at: usize,
    end: usize,
) -> Option<(Range<usize>, Vec<Range<usize>>, usize)> {
    if at >= end || !matches!(tokens.kind(at), Kind::LParen) {
        return Some((at..at, Vec::new(), at));
    }
    let close = tokens.pair(at).filter(|close| *close < end)?;
    let mut elements = Vec::new();
    let (mut start, mut index) = (at + 1, at + 1);
    while index < close {
        match tokens.kind(index) {
            Kind::LParen | Kind::LBracket => index = tokens.pair(index)?,
            Kind::Comma => {
                elements.push(start..index);
                start = index + 1;
            }
            _ => {}
        }
        index += 1;
    }
    elements.push(start..close);
    let whole = elements.iter().all(|element| !element.is_empty());
    whole.then_some((at..close + 1, elements, close + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sql: &str) -> Option<Verb> {
        let tokens = Tokens::read(sql).unwrap();
        verb(&tokens, &(0..tokens.len()))
    }

    #[test]
    fn reads_cursors() {
        for (sql, expected) in [
            ("FETCH c", Some(Verb::Fetch("c".into()))),
            (
                "fetch backward 5 in \"C d\"",
                Some(Verb::Fetch("C d".into())),
            ),
            ("FETCH ABSOLUTE -1 FROM c", Some(Verb::Fetch("c".into()))),
            ("MOVE FORWARD ALL IN C", Some(Verb::Move("c".into()))),
            ("CLOSE ALL", Some(Verb::Close(None))),
            ("CLOSE \"all\"", Some(Verb::Close(Some("all".into())))),
            ("CLOSE a b", None),
            ("FETCH", None),
        ] {
            assert_eq!(read(sql), expected, "{sql}");
        }
        for (sql, held, start) in [
            ("DECLARE c CURSOR FOR SELECT 1", false, 4),
            (
                "DECLARE c BINARY INSENSITIVE NO SCROLL CURSOR WITHOUT HOLD FOR SELECT 1",
                false,
                10,
            ),
            ("declare C scroll cursor with hold for (select 1)", true, 7),
        ] {
            let Some(Verb::Declare { name, hold, query }) = read(sql) else {
                panic!("{sql}")
            };
            assert_eq!(
                (name.as_str(), hold, query.start),
                ("c", held, start),
                "{sql}"
            );
        }
    }

    #[test]
    fn reads_prepared_statements() {
        let Some(Verb::Prepare {
            name,
            types,
            statement,
            ..
        }) = read("PREPARE p (numeric(10, 2), text[], \"My\".type) AS SELECT 1")
        else {
            panic!("no PREPARE")
        };
        assert_eq!((name.as_str(), types.len(), statement.len()), ("p", 3, 2));
        let Some(Verb::Execute {
            name,
            arguments,
            list,
        }) = read("EXECUTE p (1, f(2, 3), ARRAY[4, 5])")
        else {
            panic!("no EXECUTE")
        };
        assert_eq!(
            (name.as_str(), arguments.len(), list.is_empty()),
            ("p", 3, false)
        );
        for (sql, expected) in [
            (
                "DEALLOCATE PREPARE p",
                Some(Verb::Deallocate(Some("p".into()))),
            ),
            (
                "DEALLOCATE prepare",
                Some(Verb::Deallocate(Some("prepare".into()))),
            ),
            ("DEALLOCATE PREPARE ALL", Some(Verb::Deallocate(None))),
            ("DISCARD ALL", Some(Verb::DiscardAll)),
            ("DISCARD PLANS", None),
            ("PREPARE TRANSACTION 'x'", None),
            ("EXECUTE p ()", None),
            ("EXECUTE p (1) x", None),
            ("PREPARE p AS", None),
        ] {
            assert_eq!(read(sql), expected, "{sql}");
        }
    }
}
