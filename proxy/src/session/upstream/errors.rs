//! The server's errors in the client's terms: positions, search terms, plaintext that a domain refused.
//! Errors of stand-ins are replaced elsewhere.

use pgveil_policy::{
    Refusal,
    plan::{ANOTHER_SCOPE, ANOTHER_VALUE, CONFLICT_OF_SCOPES, VALUES_OF_OTHERS},
};

use super::Fate;
use crate::{
    messages::{ErrorFields, Report},
    session::{
        copy::without_ciphertext,
        refuse::{self, put_refusal},
    },
};

/// An error of the server with its position in the client's text; plaintext that a domain refused is named as such.
/// `replaced`: the client's command was run by another one, whose context means nothing to the client.
pub(super) fn mapped(
    queue: &mut bytes::BytesMut,
    fields: ErrorFields<'_>,
    map: Option<&pgveil_policy::splice::PositionMap>,
    replaced: bool,
) -> Fate {
    let text = |code| {
        fields
            .get(code)
            .map(|b| String::from_utf8_lossy(b).into_owned())
    };
    if fields.get(b'C') == Some(b"23514") && fields.get(b's') == Some(b"pgveil") {
        let refusal = Refusal::new(
            "PV004",
            "plaintext-found",
            "plaintext was to be stored where ciphertext must be",
        )
        .detail(format!(
            "The domain pgveil.{} refused it.",
            text(b'd').unwrap_or_default()
        ))
        .hint("A function, trigger or rule writes the column; pgveil cannot seal what it writes.");
        put_refusal(queue, &refusal);
        return Fate::Skip;
    }
    if let Some(refusal) = text(b'M').and_then(|m| raised(fields.get(b'C')?, &m)) {
        put_refusal(queue, &refusal);
        return Fate::Skip;
    }
    let detail = text(b'D');
    let without_terms = detail.as_deref().and_then(without_terms);
    let context = text(b'W');
    let without_ciphertext = context.as_deref().and_then(without_ciphertext);
    let position = map
        .zip(text(b'P').and_then(|p| p.parse().ok()))
        .and_then(|(map, at)| map.original_position(at));
    if position.is_none() && without_terms.is_none() && without_ciphertext.is_none() && !replaced {
        return Fate::Pass;
    }
    let mut report = Report::error(
        text(b'C').unwrap_or_default(),
        text(b'M').unwrap_or_default(),
    );
    let given = || text(b'P').and_then(|p| p.parse().ok());
    report.position = position.or_else(|| given().filter(|_| !replaced));
    report.detail = without_terms.or(detail);
    report.hint = text(b'H');
    report.schema = text(b's');
    report.table = text(b't');
    report.column = text(b'c');
    report.data_type = text(b'd');
    report.constraint = text(b'n');
    report.context = without_ciphertext.or(context);
    refuse::put_report(queue, &report);
    Fate::Skip
}

/// What pgveil makes the server fail with: it asks for a setting that cannot exist.
fn raised(sqlstate: &[u8], message: &str) -> Option<Refusal> {
    if sqlstate != b"42704" {
        return None;
    }
    if message.contains(CONFLICT_OF_SCOPES) {
        let message = "the row in conflict has another scope than the row that was to be inserted";
        let detail = "The values of the statement are sealed for the scope of the row that was to be inserted.";
        return Some(
            Refusal::new("PV001", "scope-not-resolved", message)
                .detail(detail)
                .hint("Update the row in a statement that names its scope's columns."),
        );
    }
    if message.contains(VALUES_OF_OTHERS) {
        let message =
            "the table cannot be attached: it holds values that were sealed for other columns";
        return Some(
            Refusal::unsupported("value-not-movable", message)
                .detail("Searches would not find them.")
                .hint("CREATE TABLE ... PARTITION OF, and move the rows with INSERT ... SELECT."),
        );
    }
    if message.contains(ANOTHER_VALUE) {
        let message =
            "could not seal a value due to a concurrent change of the row that it comes from";
        return Some(
            Refusal::new("40001", "value-changed-meanwhile", message)
                .detail("A row turned up with a value that none had when pgveil asked for them.")
                .hint("The transaction might succeed if retried."),
        );
    }
    message.contains(ANOTHER_SCOPE).then(|| {
        Refusal::new(
            "40001",
            "scope-changed-meanwhile",
            "could not seal a value due to a concurrent change of the row's scope",
        )
        .detail("A row of a scope that no row had when pgveil asked for them is to be updated.")
        .hint("The transaction might succeed if retried; or name the scope's columns in WHERE.")
    })
}

/// `Key (pgveil.eq_term(email::bytea))=(\x...) already exists.` without the term: what the client knows is the column.
fn without_terms(detail: &str) -> Option<String> {
    let keys = detail.strip_prefix("Key (")?;
    if !keys.contains("pgveil.eq_term(") {
        return None;
    }
    let (keys, rest) = keys.split_once(")=(")?;
    let outcome = rest
        .rsplit_once(") ")
        .map_or("already exists.", |(_, outcome)| outcome);
    let mut columns = String::new();
    for (at, part) in keys.split("pgveil.eq_term(").enumerate() {
        // `7, email`: which of the column's terms it is, says nothing to the client either.
        let number = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let named = part[number..].strip_prefix(", ").filter(|_| number > 0);
        columns.push_str(named.filter(|_| at > 0).unwrap_or(part));
    }
    let columns = columns.replace("::bytea", "").replace(')', "");
    Some(format!("Key ({columns}) {outcome}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unique_violation_names_the_column_and_not_the_term() {
        let detail = "Key (tenant_id, pgveil.eq_term(email::bytea))=(1, \\x53) already exists.";
        assert_eq!(
            without_terms(detail).as_deref(),
            Some("Key (tenant_id, email) already exists.")
        );
        let detail = "Key (tenant_id, pgveil.eq_term(7, email::bytea))=(1, \\x53) already exists.";
        assert_eq!(
            without_terms(detail).as_deref(),
            Some("Key (tenant_id, email) already exists.")
        );
        assert_eq!(without_terms("Key (id)=(1) already exists."), None);
    }
}
