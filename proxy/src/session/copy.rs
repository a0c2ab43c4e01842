//! COPY with protected columns: what both directions know of the one that is going on. The rows themselves are
//! `incoming`'s and `outgoing`'s.

pub mod incoming;
pub mod outgoing;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use pgveil_policy::{
    Refusal, Ruleset,
    copy::{CopyIn, CopyPlan, CopyRows},
};
use zeroize::Zeroizing;

use super::{lock, refuse, view::View};
use crate::messages::{ErrorFields, Report};

/// What stands where a value was refused, or in the words of a CopyFail: the server's error quotes it, and so is known
/// to be pgveil's own.
pub const MARKER: &str = "pgveil refused this value";

/// So many values of rows that ON_ERROR left out are kept for their notices.
const MAX_LEFT_OUT: usize = 4 * 1024;

/// One COPY FROM STDIN that is going on.
#[derive(Debug)]
pub struct CopyJob {
    /// What becomes of its rows.
    pub plan: Arc<CopyPlan>,
    /// The session when it began.
    pub view: Arc<View>,
    /// The rules it was planned under.
    pub rules: Arc<Ruleset>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    refused: Option<Refused>,
    left_out: VecDeque<Zeroizing<String>>,
}

/// What the client is to be told in the place of an error that the server was made to report.
#[derive(Debug)]
pub struct Refused {
    /// The error.
    pub refusal: Refusal,
    /// The column and its value as the client wrote it, for CONTEXT; both may be missing.
    pub column: Option<String>,
    /// See `column`.
    pub value: Option<Zeroizing<String>>,
    /// The server quotes no binary values: its error is known by this SQLSTATE.
    pub binary: bool,
    /// Lines that the server would have counted by now and has not seen: those inside quotes.
    pub lines: u64,
}

impl Refused {
    /// A failure of the COPY itself, not of a value.
    pub fn whole(refusal: Refusal) -> Self {
        Self {
            refusal,
            column: None,
            value: None,
            binary: false,
            lines: 0,
        }
    }
}

/// `invalid field size`
const BAD_COPY_FILE: &[u8] = b"22P04";

impl CopyJob {
    /// A COPY that the server has just begun.
    pub fn new(plan: Arc<CopyPlan>, view: Arc<View>, rules: Arc<Ruleset>) -> Self {
        Self {
            plan,
            view,
            rules,
            state: Mutex::default(),
        }
    }

    /// The columns that come in.
    pub fn rows(&self) -> Option<&CopyIn> {
        match &self.plan.rows {
            CopyRows::In(rows) => Some(rows),
            CopyRows::Out(_) | CopyRows::Unread => None,
        }
    }

    /// Remembers what the server's next error means. The first stays.
    pub fn refuse(&self, refused: Refused) {
        lock(&self.state).refused.get_or_insert(refused);
    }

    /// Remembers a value that the server is to leave out, for its notice.
    pub fn leave_out(&self, value: Zeroizing<String>) {
        let mut state = lock(&self.state);
        if state.left_out.len() < MAX_LEFT_OUT {
            state.left_out.push_back(value);
        }
    }

    /// What the client is told in the place of an error of the server's, if pgveil provoked it.
    pub fn report(&self, fields: ErrorFields<'_>) -> Option<(Report, Refusal)> {
        let mut state = lock(&self.state);
        let refused = state.refused.as_ref()?;
        let text = |code| {
            let bytes = fields.get(code);
            bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        let is_own = text(b'M').is_some_and(|message| message.contains(MARKER))
            || text(b'W').is_some_and(|context| stands_in(&context).is_some())
            || (refused.binary && fields.get(b'C') == Some(BAD_COPY_FILE));
        if !is_own {
            return None;
        }
        let refused = state.refused.take()?;
        let mut report = refuse::report(&refused.refusal);
        report.context = text(b'W').map(|context| own_context(context, &refused));
        Some((report, refused.refusal))
    }

    /// A notice about a row that was left out, with the client's own value in it.
    pub fn notice(&self, message: &str) -> Option<Zeroizing<String>> {
        let (start, end) = stands_in(message)?;
        let value = lock(&self.state).left_out.pop_front();
        let mut text = Zeroizing::new(message[..start].to_owned());
        text.push_str(value.as_ref().map_or("...", |value| value.as_str()));
        text.push_str(&message[end..]);
        Some(text)
    }
}

/// What is written in the place of a value that was refused: no `bytea`, so that the server refuses it there and then.
pub fn stand_in() -> String {
    format!("\\x{MARKER}")
}

/// `COPY t, line 2`, so many lines later.
fn lines_later(context: String, lines: u64) -> String {
    let place = context.trim_end_matches(|c: char| c.is_ascii_digit());
    match context[place.len()..].parse::<u64>() {
        Ok(line) if lines > 0 => format!("{place}{}", line + lines),
        _ => context,
    }
}

/// Where the stand-in is all of a value that the server quotes, the line ends behind it left out: in a line that the
/// server quotes for another reason it is only a part.
fn stands_in(context: &str) -> Option<(usize, usize)> {
    let stand_in = stand_in();
    let at = context.find(&format!(": \"{stand_in}"))? + 3;
    let end = at + stand_in.len();
    let behind = context[end..].trim_start_matches(['\r', '\n']);
    behind
        .starts_with('"')
        .then_some((at, context.len() - behind.len()))
}

/// `COPY t, line 2, column c: "\xpgveil refused this value"` with the client's value, or another column.
fn own_context(context: String, refused: &Refused) -> String {
    let Some((at, end)) = stands_in(&context) else {
        let context = lines_later(context, refused.lines);
        return match &refused.column {
            Some(column) if !context.contains(", column ") => format!("{context}, column {column}"),
            _ => context,
        };
    };
    let mut out = context[..at].to_owned();
    match &refused.value {
        Some(value) => {
            out.push_str(value);
            out.push_str(&context[end..]);
        }
        None => out.truncate(out.rfind(':').unwrap_or(out.len())),
    }
    if let Some(column) = &refused.column
        && let Some(named) = context[..at].rfind(", column ")
    {
        let behind = out[named..]
            .find(':')
            .map(|colon| out.split_off(named + colon));
        out.truncate(named);
        out.push_str(", column ");
        out.push_str(column);
        out.push_str(behind.as_deref().unwrap_or_default());
    }
    out
}

/// A value as the server quotes it in CONTEXT (`CopyLimitPrintoutLength`).
pub fn quoted(value: &[u8]) -> Zeroizing<String> {
    const MOST: usize = 100;
    let text = String::from_utf8_lossy(value);
    if text.len() <= MOST {
        return Zeroizing::new(text.into_owned());
    }
    let mut end = MOST;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Zeroizing::new(format!("{}...", &text[..end]))
}

/// CONTEXT without the line that the server quotes, where that line holds ciphertext: it is not what the client sent.
pub fn without_ciphertext(context: &str) -> Option<String> {
    let at = context.find("x50475601").or_else(|| context.find(MARKER))?;
    let start = context[..at].rfind('\n').map_or(0, |line| line + 1);
    let quoted = start + context[start..at].find(": \"")?;
    let end = context[at..]
        .find('\n')
        .map_or(context.len(), |end| at + end);
    Some(format!("{}{}", &context[..quoted], &context[end..]))
}

/// The server began something else than was planned.
pub fn out_of_step() -> Refusal {
    Refusal::new(
        "PV003",
        "witnesses-disagree",
        "pgveil and the server disagree about the rows of a COPY",
    )
    .detail("Nothing was copied.")
    .hint("The catalog may just have changed: try again. If it stays, run `pgveil check` and report it.")
}

/// The server took an option that pgveil does not know.
pub fn unread() -> Refusal {
    Refusal::unsupported(
        "copy-option",
        "COPY with protected columns has an option that pgveil does not know",
    )
    .detail("The server knows it; pgveil could not tell how rows are written.")
    .hint("Leave the option out.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(column: Option<&str>, value: Option<&str>) -> String {
        let refused = Refused {
            refusal: unread(),
            column: column.map(str::to_owned),
            value: value.map(|value| Zeroizing::new(value.to_owned())),
            binary: false,
            lines: 0,
        };
        own_context(
            "COPY t, line 2, column email: \"\\xpgveil refused this value\"".to_owned(),
            &refused,
        )
    }

    #[test]
    fn context_shows_the_clients_own_value() {
        assert_eq!(
            context(None, Some("a\"b")),
            "COPY t, line 2, column email: \"a\"b\""
        );
        assert_eq!(context(None, None), "COPY t, line 2, column email");
        assert_eq!(
            context(Some("id"), Some("x")),
            "COPY t, line 2, column id: \"x\""
        );
        assert_eq!(context(Some("id"), None), "COPY t, line 2, column id");
        assert_eq!(
            lines_later("COPY t, line 9".to_owned(), 2),
            "COPY t, line 11"
        );
        let line = "COPY t, line 2: \"1,\\xpgveil refused this value,\"";
        assert_eq!(stands_in(line), None);
        assert!(stands_in("COPY t: \"\\xpgveil refused this value\n\r\"").is_some());
    }

    #[test]
    fn ciphertext_is_left_out_of_context() {
        assert_eq!(
            without_ciphertext("COPY t, line 2: \"1\t\\\\x5047560100\"\nSQL f").as_deref(),
            Some("COPY t, line 2\nSQL f")
        );
        assert_eq!(without_ciphertext("COPY t, line 2: \"1\tx\""), None);
    }

    #[test]
    fn long_values_are_cut_as_the_server_cuts_them() {
        assert_eq!(&*quoted(b"abc"), "abc");
        let cut = quoted("é".repeat(60).as_bytes());
        assert_eq!(&*cut, &format!("{}...", "é".repeat(50)));
    }
}
