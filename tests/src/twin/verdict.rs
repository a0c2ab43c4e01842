//! Right, refused, or wrong: compares two answers. It asks nobody anything.

use crate::wire::{Reply, describe, error_field};

/// What the table of statements says of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// pgveil answers as Postgres does.
    Same,
    /// pgveil refuses today; answering as Postgres does would be right too.
    Refused,
}

/// How pgveil's answer to a statement stands to the direct one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same.
    Same,
    /// A refusal in due form: its message and detail.
    Refused(String),
    /// Neither: what differs.
    Wrong(String),
}

/// Compares the answers to a statement of which nobody said what to expect. Positions of errors are not looked at. A statement
/// with `several` mistakes in types or values fails for the one that is found first, which need not be the same one.
pub fn compare(ordered: bool, several: bool, direct: &[Reply], veiled: &[Reply]) -> Verdict {
    let unplaced = |replies: &[Reply]| -> Vec<String> {
        let lines = lines(replies, ordered).into_iter();
        lines
            .map(|line| match line.split_once(" at \"") {
                Some((head, _)) if line.starts_with("ErrorResponse") && several => kind(head),
                Some((head, _)) if line.starts_with("ErrorResponse") => head.to_owned(),
                _ => line,
            })
            .collect()
    };
    let (mut wanted, got) = (unplaced(direct), unplaced(veiled));
    forget_planned_modifiers(&mut wanted, &got);
    if wanted == got {
        return Verdict::Same;
    }
    let error = veiled.iter().find(|reply| reply.tag == b'E');
    if is_refusal(veiled) && flaw(veiled).is_none() {
        let field = |code| {
            error
                .and_then(|error| error_field(error, code))
                .unwrap_or_default()
        };
        return Verdict::Refused(format!("{} | {}", field(b'M'), field(b'D')));
    }
    let said: String = error.map(explain).unwrap_or_default();
    Verdict::Wrong(format!(
        "directly:\n{}\nthrough pgveil:\n{}{said}",
        wanted.join("\n"),
        got.join("\n")
    ))
}

/// An error's line with the kind of its mistake.
fn kind(line: &str) -> String {
    const OF_TYPES: [&str; 6] = ["42725", "42804", "42846", "42883", "42P08", "42P18"];
    let (head, code) = line.rsplit_once(' ').unwrap_or((line, ""));
    match code {
        code if OF_TYPES.contains(&code) => format!("{head} (types)"),
        code if code.starts_with("22") => format!("{head} (values)"),
        _ => line.to_owned(),
    }
}

/// The planner drops what is NULL for certain: `COALESCE(ssn, NULL)` is `varchar` as a statement, and `varchar(11)` once it is
/// planned. pgveil keeps to the former, as the limits say.
fn forget_planned_modifiers(wanted: &mut [String], got: &[String]) {
    for at in 0..wanted.len().min(got.len()) {
        let described = [&wanted[at], &got[at]]
            .iter()
            .all(|line| line.starts_with("RowDescription "));
        let of_statement = at > 0 && got[at - 1].starts_with("ParameterDescription");
        let alike = wanted[at].split(' ').count() == got[at].split(' ').count();
        if !described || of_statement || !alike {
            continue;
        }
        let fields = wanted[at].split(' ').zip(got[at].split(' '));
        let fields: Vec<&str> = fields
            .map(|(wanted, got)| {
                let (mut planned, plain) = (parts(wanted), parts(got));
                let computed = wanted.ends_with("@-.0") && plain.get(2) == Some(&"-1");
                if computed && planned.len() == plain.len() {
                    planned[2] = "-1";
                }
                if planned == plain { got } else { wanted }
            })
            .collect();
        wanted[at] = fields.join(" ");
    }
}

/// Name and type, size, modifier, format and place of a field.
fn parts(field: &str) -> Vec<&str> {
    field.split('/').collect()
}

/// What is wrong with pgveil's answer, if anything.
pub fn judge(sql: &str, expect: Expect, direct: &[Reply], veiled: &[Reply]) -> Option<String> {
    let ordered = sql.to_ascii_lowercase().contains("order by");
    let (wanted, got) = (lines(direct, ordered), lines(veiled, ordered));
    if wanted == got {
        return None;
    }
    if expect == Expect::Refused && is_refusal(veiled) {
        return flaw(veiled).map(|flaw| format!("refused, but {flaw}\n{}", got.join("\n")));
    }
    let errors = veiled.iter().filter(|reply| reply.tag == b'E').map(explain);
    let said: String = errors.collect();
    Some(format!(
        "directly:\n{}\nthrough pgveil:\n{}{said}",
        wanted.join("\n"),
        got.join("\n")
    ))
}

/// Message, detail and hint: they say what to mend, though programs cannot rely on them.
fn explain(error: &Reply) -> String {
    let field = |code| error_field(error, code).unwrap_or_default();
    format!("\n  {}\n  {}\n  {}", field(b'M'), field(b'D'), field(b'H'))
}

/// Whether the first error is one of those by which pgveil says no.
fn is_refusal(replies: &[Reply]) -> bool {
    let first = replies.iter().find(|reply| reply.tag == b'E');
    let code = first
        .and_then(|error| error_field(error, b'C'))
        .unwrap_or_default();
    code == "0A000" || code == "42501" || code.starts_with("PV")
}

/// What is wrong with the form of a refusal.
fn flaw(replies: &[Reply]) -> Option<&'static str> {
    let error = replies.iter().find(|reply| reply.tag == b'E')?;
    if error_field(error, b'H').is_none_or(|hint| hint.is_empty()) {
        return Some("it has no HINT");
    }
    if replies.iter().any(|reply| reply.tag == b'D') {
        return Some("rows went out before it");
    }
    let last = replies.last().map(describe);
    (last.as_deref() != Some("ReadyForQuery E")).then_some("the transaction is not failed")
}

/// Printable lines; of an error only what a program can rely on: severity, SQLSTATE, position. Without ORDER BY the
/// order of rows is nobody's promise. How far a statement came before it failed shows in rows, not in `BindComplete`:
/// Postgres finds some bad values at Execute that pgveil finds at Bind.
fn lines(replies: &[Reply], ordered: bool) -> Vec<String> {
    let failed = replies.iter().any(|reply| reply.tag == b'E');
    let counts = |reply: &&Reply| !failed || matches!(reply.tag, b'D' | b'E' | b'Z');
    let mut lines: Vec<String> = replies.iter().filter(counts).map(line).collect();
    if !ordered {
        sort_rows(&mut lines);
    }
    lines
}

fn line(reply: &Reply) -> String {
    if reply.tag != b'E' {
        return describe(reply);
    }
    let field = |code| error_field(reply, code).unwrap_or_default();
    let code = field(b'C');
    // Of a missing operator Postgres points at the operator, pgveil at the operand that does not fit.
    let place = if code == "42883" {
        String::new()
    } else {
        field(b'P')
    };
    format!("ErrorResponse {} {code} at {place:?}", field(b'V'))
}

fn sort_rows(lines: &mut [String]) {
    let is_row = |line: &String| line.starts_with("DataRow") || line.starts_with("CopyData");
    let mut start = 0;
    while start < lines.len() {
        let length = lines[start..]
            .iter()
            .take_while(|line| is_row(line))
            .count();
        lines[start..start + length].sort_unstable();
        start += length + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(tag: u8, body: &[u8]) -> Reply {
        Reply {
            tag,
            body: body.to_vec(),
        }
    }

    fn error(code: &str, hint: &str) -> Vec<Reply> {
        let body = format!("VERROR\0C{code}\0Mno\0H{hint}\0\0");
        vec![reply(b'E', body.as_bytes()), reply(b'Z', b"E")]
    }

    fn rows(values: &[&[u8]]) -> Vec<Reply> {
        let row = |value: &&[u8]| {
            reply(
                b'D',
                &[&[0, 1, 0, 0, 0, value.len() as u8], *value].concat(),
            )
        };
        values.iter().map(row).chain([reply(b'Z', b"T")]).collect()
    }

    #[test]
    fn rows_in_another_order_are_the_same_only_without_order_by() {
        let (one, two) = (rows(&[b"a", b"b"]), rows(&[b"b", b"a"]));
        assert_eq!(judge("select x", Expect::Same, &one, &two), None);
        assert!(judge("select x order by x", Expect::Same, &one, &two).is_some());
    }

    #[test]
    fn a_refusal_is_right_only_where_the_table_says_so_and_in_form() {
        let direct = rows(&[b"a"]);
        assert_eq!(
            judge("s", Expect::Refused, &direct, &error("0A000", "do this")),
            None
        );
        assert!(judge("s", Expect::Refused, &direct, &error("0A000", "")).is_some());
        assert!(judge("s", Expect::Refused, &direct, &error("XX000", "do this")).is_some());
        assert!(judge("s", Expect::Same, &direct, &error("0A000", "do this")).is_some());
    }

    #[test]
    fn either_of_several_mistakes_may_be_told() {
        let (one, two) = (error("42883", "do this"), error("42804", "do this"));
        assert_eq!(compare(false, true, &one, &two), Verdict::Same);
        for (several, code) in [(false, "42804"), (true, "22P02")] {
            let other = error(code, "do this");
            assert!(matches!(
                compare(false, several, &one, &other),
                Verdict::Wrong(_)
            ));
        }
    }

    #[test]
    fn only_modifiers_that_the_planner_found_are_forgotten() {
        let lines = |first: &str, modifier: &str, table: &str| {
            vec![
                first.to_owned(),
                format!("RowDescription id:23/4/-1/0@T.1 ssn:1043/-1/{modifier}/0@{table}"),
            ]
        };
        for (first, direct, veiled, table, same) in [
            ("BindComplete", "15", "-1", "-.0", true),
            ("BindComplete", "-1", "15", "-.0", false),
            ("BindComplete", "15", "-1", "T.2", false),
            ("ParameterDescription 25", "15", "-1", "-.0", false),
        ] {
            let (mut wanted, got) = (lines(first, direct, table), lines(first, veiled, table));
            forget_planned_modifiers(&mut wanted, &got);
            assert_eq!(wanted == got, same, "{first} {direct} {veiled} {table}");
        }
    }

    #[test]
    fn a_wrong_answer_is_never_right() {
        let (direct, wrong) = (rows(&[b"a"]), rows(&[b"b"]));
        assert!(judge("s", Expect::Same, &direct, &wrong).is_some());
        assert!(judge("s", Expect::Refused, &direct, &wrong).is_some());
    }
}
