//! Writes a plan or a refusal as text.

use crate::{
    Plan, Refusal, Ruleset,
    plan::{
        ClientParam, Effect, Field, Make, Operand, Output, Rendering, ScopePart, ServerParam,
        Shape, Slot,
    },
    types::{FormatSettings, LogicalType, Value},
};

/// The sent text, then slots, parameters and results, a line each.
pub(super) fn render(rules: &Ruleset, sql: &str, plan: Result<Plan, Refusal>) -> String {
    match plan {
        Ok(plan) => rendered(rules, sql, &plan),
        Err(refusal) => refused(sql, &refusal),
    }
}

fn refused(sql: &str, refusal: &Refusal) -> String {
    let at = refusal.position.map_or(String::new(), |at| {
        format!(
            " at `{}`",
            sql[at..].split_whitespace().next().unwrap_or("")
        )
    });
    format!(
        "{} {}: {}{at}",
        refusal.sqlstate, refusal.anchor, refusal.message
    )
}

fn rendered(rules: &Ruleset, sql: &str, plan: &Plan) -> String {
    let mut lines = Vec::new();
    let text = plan
        .splice(sql, &mut |slot, out| out.push_str(&format!("<{slot}>")))
        .text;
    lines.push(if text == sql {
        "unchanged".to_owned()
    } else {
        text.replace('\n', "\\n")
    });
    for (number, slot) in plan.slots.iter().enumerate() {
        let place = plan
            .server_params
            .iter()
            .position(|param| *param == ServerParam::Slot(number));
        let name = place.map_or_else(|| format!("<{number}>"), |place| format!("${}", place + 1));
        lines.push(format!("  {name} = {}", slot_text(rules, slot)));
    }
    let moved = plan
        .server_params
        .iter()
        .enumerate()
        .find(|(at, param)| matches!(param, ServerParam::Client(n) if n != at));
    assert!(moved.is_none(), "a plain parameter changed its number");
    let clients = plan
        .client_params
        .iter()
        .enumerate()
        .filter(|(_, param)| !matches!(param, ClientParam::Server(_)));
    let clients: Vec<_> = clients
        .map(|(n, param)| format!("${}: {}", n + 1, client_text(*param)))
        .collect();
    if !clients.is_empty() {
        lines.push(format!("  client {}", clients.join(", ")));
    }
    for statement in &plan.statements {
        lines.push(match &statement.refused {
            Some(refusal) => format!("  refused {}", refused(sql, refusal)),
            None => format!("  -> {}", output_text(rules, &statement.output)),
        });
        lines.extend(effect_text(rules, &statement.effect));
    }
    lines.join("\n")
}

fn output_text(rules: &Ruleset, output: &Output) -> String {
    match output {
        Output::Unknown => "?".to_owned(),
        Output::None => "nothing".to_owned(),
        Output::Cursor(name) => format!("rows of {name}"),
        Output::Fields(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|field| field_text(rules, field))
                .collect();
            fields.join(", ")
        }
    }
}

fn effect_text(rules: &Ruleset, effect: &Effect) -> Option<String> {
    let all = |name: &Option<String>| name.clone().unwrap_or_else(|| "all".to_owned());
    match effect {
        Effect::None => None,
        Effect::Declare { name, hold, rows } => {
            let held = if *hold { " with hold" } else { "" };
            let rows = output_text(rules, rows);
            Some(format!("  declares {name}{held}: {rows}"))
        }
        Effect::Close(name) => Some(format!("  closes {}", all(name))),
        Effect::Deallocate(name) => Some(format!("  deallocates {}", all(name))),
        Effect::DiscardAll => Some("  discards all".to_owned()),
    }
}

fn column_text(rules: &Ruleset, id: crate::plan::ColumnId) -> String {
    let column = &rules.columns[&id];
    format!("{}.{}", column.table, column.name)
}

fn field_text(rules: &Ruleset, field: &Field) -> String {
    match field {
        Field::Plain => "plain".to_owned(),
        Field::Sealed { shown, columns, .. } => {
            let columns: Vec<_> = columns.iter().map(|id| column_text(rules, *id)).collect();
            assert!(columns.len() == 1 || columns.len() > 1);
            format!("{} {}", columns.join("|"), shown.sql_name())
        }
        Field::Holder(shape) => shape_text(rules, shape),
    }
}

fn shape_text(rules: &Ruleset, shape: &Shape) -> String {
    let names = |columns: &[crate::plan::ColumnId]| {
        let names: Vec<_> = columns.iter().map(|id| column_text(rules, *id)).collect();
        names.join("|")
    };
    match shape {
        Shape::Plain => "plain".to_owned(),
        Shape::Sealed { shown, columns } => format!("{} {}", names(columns), shown.sql_name()),
        Shape::Array { element, modified } => {
            let modified = if *modified { " modified" } else { "" };
            format!("[{}{modified}]", shape_text(rules, element))
        }
        Shape::Row(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|field| shape_text(rules, field))
                .collect();
            format!("row({})", fields.join(", "))
        }
        Shape::Json {
            columns,
            jsonb,
            rendering,
            ..
        } => {
            let name = if *jsonb { "jsonb" } else { "json" };
            let other = (*rendering == Rendering::Jsonb) != *jsonb;
            let other = if other { " by the other" } else { "" };
            format!("{name}({}){other}", names(columns))
        }
    }
}

fn client_text(param: ClientParam) -> String {
    match param {
        ClientParam::Server(n) => format!("server ${}", n + 1),
        ClientParam::Logical(logical) => logical.sql_name(),
        ClientParam::Array(logical) => format!("{}[]", logical.sql_name()),
        ClientParam::Converted { from } => format!("from {}", from.sql_name()),
    }
}

fn slot_text(rules: &Ruleset, slot: &Slot) -> String {
    let make = match slot.make {
        Make::Seal => "seal",
        Make::SealBare => "pass",
        Make::EqualityTerm => "term",
        Make::EqualityTerms => "terms",
        Make::SealElements => "seal each",
    };
    let column = &rules.columns[&slot.column];
    let scope: Vec<_> = slot.scope.iter().map(part_text).collect();
    let operand = operand_text(&slot.operand, column.logical);
    format!(
        "{make} {} {operand} in {}",
        column_text(rules, slot.column),
        scope.concat()
    )
}

fn part_text(part: &ScopePart) -> String {
    match part {
        ScopePart::Text(text) => text.clone(),
        ScopePart::Element(operand, logical) => {
            format!("{{each {}}}", operand_text(operand, *logical))
        }
        ScopePart::Session(name) => format!("{{session.{name}}}"),
        ScopePart::Row(operand, logical) => format!("{{{}}}", operand_text(operand, *logical)),
    }
}

fn operand_text(operand: &Operand, logical: LogicalType) -> String {
    match operand {
        Operand::Literal(None) => "NULL".to_owned(),
        Operand::Literal(Some(value)) => value_text(value, logical),
        Operand::Array(values) => {
            let text = |value: &Option<Value>| {
                value
                    .as_ref()
                    .map_or("NULL".to_owned(), |value| value_text(value, logical))
            };
            format!(
                "[{}]",
                values.iter().map(text).collect::<Vec<_>>().join(",")
            )
        }
        Operand::Param(n) => format!("${}", n + 1),
    }
}

fn value_text(value: &Value, logical: LogicalType) -> String {
    let mut out = Vec::new();
    logical
        .output(value.as_bytes(), &FormatSettings::default(), &mut out)
        .unwrap();
    format!("'{}'", String::from_utf8(out).unwrap())
}
