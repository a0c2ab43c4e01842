//! Writes a plan or a refusal as text.

use crate::{
    Plan, Refusal, Ruleset,
    copy::{
        CopyColumn, CopyFormat, CopyHeader, CopyPlan, CopyRole, CopyRows, CopyText, ForceQuote,
    },
    plan::{
        ClientParam, Effect, FetchedAs, Field, Make, Operand, Output, Rendering, ScopePart,
        ServerParam, Shape, Slot, Start,
    },
    ruleset::Protected,
    types::{FormatSettings, LogicalType, TextExpression, Value},
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
    for query in &plan.scope_queries {
        let params: Vec<_> = query.params.iter().map(|n| format!("${}", n + 1)).collect();
        lines.push(format!(
            "  asks {}",
            query.plan.splice(&query.sql, &mut |_, _| {}).text
        ));
        if !params.is_empty() {
            lines.push(format!("    of {}", params.join(", ")));
        }
        for slot in &query.plan.slots {
            lines.push(format!("    with {}", slot_text(rules, slot)));
        }
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
        if let Some(copy) = &statement.copy {
            lines.push(copy_text(rules, copy));
            continue;
        }
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
        Output::Explained => "an explanation".to_owned(),
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
        Effect::Prepare {
            name, statement, ..
        } => Some(match statement {
            None => format!("  prepares {name}: nothing protected"),
            Some(statement) => {
                let inner =
                    rendered(rules, &statement.sql, &statement.plan).replace('\n', "\n    ");
                format!("  prepares {name}:\n    {inner}")
            }
        }),
        Effect::Execute { name, plan } => {
            let known = if plan.is_some() { "" } else { ", unknown" };
            Some(format!("  executes {name}{known}"))
        }
        Effect::Close(name) => Some(format!("  closes {}", all(name))),
        Effect::Deallocate(name) => Some(format!("  deallocates {}", all(name))),
        Effect::DiscardAll => Some("  discards all".to_owned()),
    }
}

fn copy_text(rules: &Ruleset, copy: &CopyPlan) -> String {
    let flags = |flags: &[bool]| {
        let digit = |flag: &bool| if *flag { '1' } else { '0' };
        flags.iter().map(digit).collect::<String>()
    };
    let format = match &copy.format {
        CopyFormat::Binary => "binary".to_owned(),
        CopyFormat::Text(text) => format!("text {}", layout_text(text)),
        CopyFormat::Csv {
            text,
            quote,
            escape,
        } => format!(
            "csv {} quote {:?} escape {:?}",
            layout_text(text),
            char::from(*quote),
            char::from(*escape)
        ),
    };
    let rows = match &copy.rows {
        CopyRows::Unread => return "  copy as the server says".to_owned(),
        CopyRows::Out(out) => {
            let field = |field| field_text(rules, field);
            let fields: Vec<_> = out.fields.iter().map(field).collect();
            let quotes = match &out.force_quote {
                ForceQuote::Fields(fields) if fields.is_empty() => String::new(),
                ForceQuote::Fields(fields) => format!(" quotes {}", flags(fields)),
                ForceQuote::AsServer => " quotes as the server".to_owned(),
            };
            format!("out{quotes} -> {}", fields.join(", "))
        }
        CopyRows::In(rows) => {
            let column = |column: &CopyColumn| {
                let role = match column.role {
                    CopyRole::Plain => "plain".to_owned(),
                    CopyRole::Scope(logical) => format!("scope {}", logical.sql_name()),
                    CopyRole::Sealed(id) => format!("seal {}", column_text(rules, id)),
                };
                let nulls = match (column.force_not_null, column.force_null) {
                    (false, false) => "",
                    (true, false) => " not null",
                    (false, true) => " null",
                    (true, true) => " both",
                };
                format!("{role}{nulls}")
            };
            let columns: Vec<_> = rows.columns.iter().map(column).collect();
            let mode = match (rows.ignores_errors, rows.verbose) {
                (false, _) => "",
                (true, false) => " ignoring",
                (true, true) => " ignoring verbosely",
            };
            format!("in{mode} <- {}", columns.join(", "))
        }
    };
    format!("  copy {format} {rows}")
}

fn layout_text(text: &CopyText) -> String {
    let marker = |bytes: &[u8]| format!("{:?}", String::from_utf8_lossy(bytes));
    let default = text.default.as_deref().map(marker);
    let default = default.map_or(String::new(), |default| format!(" default {default}"));
    let header = match text.header {
        CopyHeader::No => "",
        CopyHeader::Yes => " header",
        CopyHeader::Match => " header match",
    };
    let delimiter = char::from(text.delimiter);
    format!("{delimiter:?} null {}{default}{header}", marker(&text.null))
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
        Shape::Listed { element, .. } => format!("list of {}", shape_text(rules, element)),
        Shape::Row(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|field| shape_text(rules, field))
                .collect();
            format!("row({})", fields.join(", "))
        }
        Shape::Text {
            fields,
            expression,
            shown,
        } => {
            let fields: Vec<_> = fields
                .iter()
                .map(|field| shape_text(rules, field))
                .collect();
            let made = computed_text(expression);
            format!("{} {made} of ({})", shown.sql_name(), fields.join(", "))
                .replacen("text ", "", 1)
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
        ClientParam::Cast { from, to } => {
            format!("from {} as {}", from.sql_name(), to.sql_name())
        }
    }
}

fn slot_text(rules: &Ruleset, slot: &Slot) -> String {
    let make = match slot.make {
        Make::Seal => "seal",
        Make::SealBare => "pass",
        Make::EqualityTerm => "term",
        Make::EqualityTerms => "terms",
        Make::SealElements => "seal each",
        Make::SealPerScope => "seal per scope",
        Make::SealElementsPerScope => "seal each per scope",
        Make::SealFetched => "seal per row",
        Make::SealMembers => return document_text(rules, slot),
    };
    let column = &rules.columns[&slot.column];
    let scope: Vec<_> = slot.scope.iter().map(part_text).collect();
    let operand = operand_text(&slot.operand, column.logical);
    let exactly = if slot.exact { " exactly" } else { "" };
    format!(
        "{make}{exactly} {} {operand} in {}{}",
        column_text(rules, slot.column),
        scope.concat(),
        numbers_text(slot.make, column)
    )
}

/// Which terms: of a column that has others than those without a number.
fn numbers_text(make: Make, column: &Protected) -> String {
    let own = column.generation.number;
    match (make, &column.also) {
        (Make::EqualityTerm | Make::EqualityTerms, _) if own > 0 => format!(" under {own}"),
        (Make::EqualityTerm | Make::EqualityTerms, _) => String::new(),
        (_, Some(also)) => format!(" with terms {own} and {}", also.generation.number),
        (_, None) if own > 0 => format!(" with term {own}"),
        (_, None) => String::new(),
    }
}

fn document_text(rules: &Ruleset, slot: &Slot) -> String {
    let members = slot.members.as_ref().unwrap();
    let logical = if members.jsonb {
        LogicalType::Jsonb
    } else {
        LogicalType::Json
    };
    let sealed = members.sealed.iter().map(|member| {
        let scope: Vec<_> = member.scope.iter().map(part_text).collect();
        let (name, from) = (&member.name, member.from.sql_name());
        let column = column_text(rules, member.column);
        let exactly = if member.exact { " exactly" } else { "" };
        format!("{name} {from}{exactly} for {column} in {}", scope.concat())
    });
    format!(
        "seal members of {}: {}; plain {}",
        operand_text(&slot.operand, logical),
        sealed.collect::<Vec<_>>().join(", "),
        members.plain.join(", ")
    )
}

fn part_text(part: &ScopePart) -> String {
    match part {
        ScopePart::Text(text) => text.clone(),
        ScopePart::Element(operand, logical) => {
            format!("{{each {}}}", operand_text(operand, *logical))
        }
        ScopePart::Member(name, _) => format!("{{member {name}}}"),
        ScopePart::Session(name) => format!("{{session.{name}}}"),
        ScopePart::Asked { query, column, .. } => format!("{{asked {}.{}}}", query + 1, column + 1),
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
        Operand::Argument(value, from) => {
            let value = value
                .as_ref()
                .map_or("NULL".to_owned(), |v| value_text(v, *from));
            format!("{value}::{}", from.sql_name())
        }
        Operand::ArgumentArray(values, from) => {
            let text = |value: &Option<Value>| {
                value
                    .as_ref()
                    .map_or("NULL".to_owned(), |value| value_text(value, *from))
            };
            let values: Vec<_> = values.iter().map(text).collect();
            format!("[{}]::{}[]", values.join(","), from.sql_name())
        }
        Operand::Param(n) => format!("${}", n + 1),
        Operand::Fetched(fetched) => {
            let columns: Vec<_> = fetched
                .columns
                .iter()
                .map(|c| format!("{}.{}", fetched.query + 1, c + 1))
                .collect();
            let made = match &fetched.made {
                FetchedAs::Value(logical) => logical.sql_name(),
                FetchedAs::Text(expression) => computed_text(expression),
            };
            format!("[asked {}] as {made}", columns.join(", "))
        }
        Operand::Computed(expression) => computed_text(expression),
        Operand::Spelled(expression) => format!("value of {}", computed_text(expression)),
        Operand::Split(text, between) => {
            format!(
                "{} split by {}",
                computed_text(text),
                computed_text(between)
            )
        }
        Operand::SpelledEach(array) => {
            format!("values of {}", operand_text(array, LogicalType::Text))
        }
        Operand::Moment(timed) => {
            let start = match &timed.start {
                Start::Asked(moment) => format!("{moment:?}"),
                Start::Param(param, logical) => format!("${}::{}", param + 1, logical.sql_name()),
                Start::Literal(_, logical) => format!("a {}", logical.sql_name()),
            };
            match timed.steps.as_slice() {
                [] => start,
                steps => format!("{start} {steps:?}"),
            }
        }
    }
}

fn computed_text(expression: &TextExpression) -> String {
    let all = |texts: &[TextExpression]| texts.iter().map(computed_text).collect::<Vec<_>>();
    match expression {
        TextExpression::Given(None) => "NULL".to_owned(),
        TextExpression::Given(Some(text)) => format!("'{}'", text.as_str()),
        TextExpression::Param(n) => format!("${}", n + 1),
        TextExpression::Made(function, text) => {
            format!("{}({})", function.name(), computed_text(text))
        }
        TextExpression::Joined(texts) => format!("({})", all(texts).join(" || ")),
        TextExpression::First(texts) => format!("coalesce({})", all(texts).join(", ")),
        TextExpression::Unless(text, other) => {
            format!("nullif({}, {})", computed_text(text), computed_text(other))
        }
        TextExpression::Listed(separator, texts) => {
            format!(
                "concat_ws({}, {})",
                computed_text(separator),
                all(texts).join(", ")
            )
        }
    }
}

fn value_text(value: &Value, logical: LogicalType) -> String {
    let mut out = Vec::new();
    logical
        .output(value.as_bytes(), &FormatSettings::default(), &mut out)
        .unwrap();
    format!("'{}'", String::from_utf8(out).unwrap())
}
