//! `[[table]]`: one table, its scope template, and its protected columns.

use std::collections::HashMap;

use crate::{
    Position,
    fields::Found,
    form::Form,
    known::{Key, Kind, Need, Section, Shape, Support, Word},
    reader::Reader,
    source::shown,
};

use super::{
    column::{self, ColumnRule},
    name::{self, TableName},
};

/// One `[[table]]`.
#[derive(Clone, Debug)]
pub struct TableRule {
    /// Schema, `public` when the file gives none.
    pub schema: String,
    /// Table name, as the catalog spells it (not folded).
    pub name: String,
    /// `database = "other"`; `None` means the keystore's database.
    pub database: Option<String>,
    /// The scope template, verbatim: `tenant:{tenant_id}/project:crm/env:{session.env}`.
    pub scope: String,
    /// Where `scope` stands.
    pub scope_at: Position,
    /// `session = "must-match"`: a value's scope must be the session's.
    pub session_must_match: bool,
    /// Where `session` stands, or where it would.
    pub session_at: Position,
    /// `[table.column.NAME]` entries in file order.
    pub columns: Vec<ColumnRule>,
    /// Where the entry's `name` stands.
    pub at: Position,
}

pub(super) static SECTION: Section = Section {
    name: "table",
    header: "[[table]]",
    shape: Shape::Many,
    support: Support::Since("0.1"),
    meaning: "One table with protected columns. Its `[table.column.NAME]` sections follow it.",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text(Form::Any),
            need: Need::Required("\"public.customers\""),
            support: Support::Since("0.1"),
            meaning: "Schema and table, as the catalog spells them: upper and lower case count. Without a schema, `public`. Odd names stand in double quotes: `'\"My Schema\".\"T\"'`.",
        },
        Key {
            name: "scope",
            kind: Kind::Text(Form::Any),
            need: Need::Required("\"tenant:{tenant_id}/project:crm/env:prod\""),
            support: Support::Since("0.1"),
            meaning: "Whose keys a row is sealed with: a scope path in which `{column}` stands for the value of that column in the row, and `{session.NAME}` for the setting `pgveil.NAME` of the session. `\"platform\"`: the same keys for all rows.",
        },
        Key {
            name: "session",
            kind: Kind::OneOf(&SESSIONS),
            need: Need::Default("\"any\""),
            support: Support::Since("0.1"),
            meaning: "Whether a row's scope must be the session's. The session's scope is the same template with the setting `pgveil.COLUMN` in the place of each `{COLUMN}`.",
        },
        Key {
            name: "database",
            kind: Kind::Text(Form::Any),
            need: Need::Optional("\"app\""),
            support: Support::Since("0.1"),
            meaning: "The database of the table. Without it, the keystore's; another one is not supported yet.",
        },
    ],
    variants: &[],
    sections: &[&column::SECTION],
};

static SESSIONS: [Word; 2] = [
    Word {
        word: "any",
        support: Support::Since("0.1"),
        meaning: "every session may write and read values of every scope, as its role permits",
    },
    Word {
        word: "must-match",
        support: Support::Since("0.1"),
        meaning: "a statement that seals, searches or shows a value of another scope than the session's is refused with PV001",
    },
];

/// Reads one table; the offset is where its name stands.
pub(super) fn read(reader: &mut Reader<'_>, found: &Found<'_, '_>) -> (TableRule, usize) {
    let fields = reader.section(found);
    let at = fields.value_at("name");
    let TableName { schema, table } = table_name(reader, fields.text("name"), at);
    let columns: Vec<_> = fields
        .named("column")
        .map(|found| column::read(reader, found))
        .collect();
    if columns.is_empty() && !fields.spoiled("column") {
        let cure = "add a `[table.column.NAME]` for each column to protect, or remove the table";
        reader.report(fields.at, "[[table]] protects no column", cure);
    }
    let rule = TableRule {
        schema,
        name: table,
        database: fields.text("database"),
        scope: fields.text("scope").unwrap_or_default(),
        scope_at: reader.position(fields.value_at("scope")),
        session_must_match: fields.text("session").as_deref() == Some("must-match"),
        session_at: reader.position(fields.value_at("session")),
        columns,
        at: reader.position(at),
    };
    (rule, at)
}

/// The placeholder for a wrong name is empty.
fn table_name(reader: &mut Reader<'_>, text: Option<String>, at: usize) -> TableName {
    let parsed = text.map_or(Err(None), |text| name::parse(&text).map_err(Some));
    parsed.unwrap_or_else(|why| {
        if let Some(why) = why {
            let cure = "write `name = \"schema.table\"`, an odd part in double quotes: `'\"My Schema\".t'`";
            reader.report(at, format!("`name` in [[table]] {why}"), cure);
        }
        TableName { schema: String::new(), table: String::new() }
    })
}

/// A table may have one entry only: with two it would be chance which one counts.
pub(super) fn refuse_duplicates(reader: &mut Reader<'_>, tables: &[(TableRule, usize)]) {
    let mut seen: HashMap<(&Option<String>, &str, &str), &TableRule> = HashMap::new();
    for (rule, at) in tables.iter().filter(|(rule, _)| !rule.name.is_empty()) {
        let first = seen.insert((&rule.database, &rule.schema, &rule.name), rule);
        if let Some(first) = first {
            let line = first.at.line;
            let name = shown(&format!("{}.{}", rule.schema, rule.name));
            let message = format!("`{name}` is listed twice, before on line {line}");
            reader.report(
                *at,
                message,
                "move its columns to that entry and remove this one",
            );
        }
    }
}
