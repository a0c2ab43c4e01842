//! What `EXPLAIN (PGVEIL)` says: how a statement would be rewritten, and why, or why it is refused. It never holds what
//! would be sealed: slots stand as words. Executes nothing.

use std::fmt::Write;

use crate::{
    Plan, Refusal, Ruleset,
    analysis::Protocol,
    plan::{Field, Make, Output, ScopePart, ServerParam, Slot},
};

/// One row of the explanation: what it is about, and what there is to say.
pub type Row = (String, String);

/// Explains the plan of one statement.
pub fn of_plan(plan: &Plan, sql: &str, protocol: Protocol, rules: &Ruleset) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |part: &str, text: String| rows.push((part.to_owned(), text));
    let unknown = |output: &Output| *output == Output::Unknown;
    if plan.is_identity() && plan.statements.iter().all(|s| unknown(&s.output)) {
        row(
            "decision",
            "relayed as it is: it names nothing protected".to_owned(),
        );
        return rows;
    }
    row("decision", "rewritten".to_owned());
    let spliced = plan.splice(sql, &mut |slot, out| {
        let _ = write!(out, "<{}>", made(&plan.slots[slot], rules));
    });
    row("sent", spliced.text);
    if protocol == Protocol::Extended {
        for (index, param) in plan.server_params.iter().enumerate() {
            let text = match param {
                ServerParam::Client(n) => format!("your ${}, unchanged", n + 1),
                ServerParam::Slot(slot) => {
                    let slot = &plan.slots[*slot];
                    format!("{}, {}", made(slot, rules), keys(slot))
                }
            };
            row(&format!("parameter ${}", index + 1), text);
        }
    } else {
        for slot in &plan.slots {
            row("literal", format!("{}, {}", made(slot, rules), keys(slot)));
        }
    }
    for statement in &plan.statements {
        if let Output::Fields(fields) = &statement.output {
            for (index, field) in fields.iter().enumerate() {
                if let Some(text) = shown(field, rules) {
                    row(&format!("result column {}", index + 1), text);
                }
            }
        }
    }
    for note in &plan.notes {
        row("note", note.clone());
    }
    rows
}

/// Explains a refusal. The words of bad input may quote it, and are left out.
pub fn of_refusal(refusal: &Refusal) -> Vec<Row> {
    let message = if refusal.anchor == "invalid-input" {
        "a literal is no value of its column's type".to_owned()
    } else {
        refusal.message.clone()
    };
    let mut rows = vec![
        ("decision".to_owned(), "refused".to_owned()),
        (
            "error".to_owned(),
            format!("{}: {message}", refusal.sqlstate),
        ),
    ];
    if refusal.anchor != "invalid-input" {
        if let Some(detail) = &refusal.detail {
            rows.push(("detail".to_owned(), detail.clone()));
        }
        if let Some(hint) = &refusal.hint {
            rows.push(("hint".to_owned(), hint.to_string()));
        }
    }
    rows.push((
        "see".to_owned(),
        format!("docs/errors.md#{}", refusal.anchor),
    ));
    rows
}

/// A query that returns these rows and reads nothing.
pub fn query(rows: &[Row], json: bool) -> String {
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(part, text)| serde_json::json!({ "part": part, "text": text }))
            .collect();
        let document = serde_json::Value::Array(rows).to_string();
        return format!(
            "SELECT {}::pg_catalog.json AS \"QUERY PLAN\"",
            quote(&document)
        );
    }
    let rows: Vec<String> = rows
        .iter()
        .map(|(part, text)| format!("({}, {})", quote(part), quote(text)))
        .collect();
    format!(
        "SELECT * FROM (VALUES {}) AS explanation(part, text)",
        rows.join(", ")
    )
}

/// A literal under `standard_conforming_strings`.
fn quote(text: &str) -> String {
    format!("'{}'::pg_catalog.text", text.replace('\'', "''")).replace('\0', "")
}

fn column_name(id: crate::plan::ColumnId, rules: &Ruleset) -> String {
    rules.columns.get(&id).map_or_else(
        || "an unknown column".to_owned(),
        |column| format!("{}.{}.{}", column.schema, column.table, column.name),
    )
}

fn made(slot: &Slot, rules: &Ruleset) -> String {
    let what = match slot.make {
        Make::Seal | Make::SealBare => "sealed value",
        Make::EqualityTerm => "equality term",
        Make::EqualityTerms => "equality terms",
        Make::SealElements
        | Make::SealPerScope
        | Make::SealElementsPerScope
        | Make::SealFetched
        | Make::SealMembers => "sealed values",
    };
    format!("{what} for {}", column_name(slot.column, rules))
}

/// Whose keys a slot is made with; values of rows are not shown.
fn keys(slot: &Slot) -> String {
    let mut scope = String::new();
    for part in &slot.scope {
        match part {
            ScopePart::Text(text) => scope.push_str(text),
            ScopePart::Row(..)
            | ScopePart::Element(..)
            | ScopePart::Member(..)
            | ScopePart::Asked { .. } => {
                scope.push_str("{value of the row}");
            }
            ScopePart::Session(name) => {
                let _ = write!(scope, "{{session.{name}}}");
            }
        }
    }
    format!("scope {scope}")
}

fn shown(field: &Field, rules: &Ruleset) -> Option<String> {
    match field {
        Field::Plain => None,
        Field::Sealed { shown, columns, .. } => {
            let columns: Vec<_> = columns.iter().map(|id| column_name(*id, rules)).collect();
            Some(format!(
                "opened, of {}, shown as {}",
                columns.join(" or "),
                shown.sql_name()
            ))
        }
        Field::Holder(_) => Some("opened inside: it holds sealed values".to_owned()),
    }
}
