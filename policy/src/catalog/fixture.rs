//! A catalog from a compact text, for tests. It knows no SQL.
//!
//! ```text
//! public.people(id int4 pk, email pgveil.sealed_text, tenant_id int4 not null, born date default now())
//! view public.names(email pgveil.sealed_text) reads public.people calls public.f
//! view public.mails(email pgveil.sealed_text) reads public.people as SELECT people.email FROM public.people
//! public.child(id int4) inherits public.parent triggers public.f rules partition
//! partitioned public.parent(id int4) by (id)
//! unique public.people people_email_key (pgveil.eq_term(email), tenant_id) where
//! function public.f returns public.people : SELECT * FROM people
//! function public.g(a int4, out id int4, out email pgveil.sealed_text) setof sql : SELECT ...
//! function public.h gives pgveil.sealed_text sql atomic : RETURN ...
//! system json_each(key, value)
//! ```
//!
//! One object a line; blank lines and `--` lines are skipped; names may be quoted; objects may be named before
//! they are made. OIDs: relations from 16384, functions from 30000, in the order of the text.

use std::sync::Arc;

use super::{Catalog, Column, Columns, Function, Parameter, Relation, Unique};
use crate::types::{LogicalType, type_of_domain};

const FIRST_RELATION: u32 = 16384;
const FIRST_FUNCTION: u32 = 30000;
const FIRST_DOMAIN: u32 = 20000;
/// An OID for types that are neither logical types nor domains of pgveil.
const OTHER_TYPE: u32 = 29999;

/// Builds the catalog of database `app`.
pub(crate) fn catalog(text: &str) -> Catalog {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("--"))
        .collect();
    let functions: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("function "))
        .collect();
    let uniques: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("unique "))
        .collect();
    let system_functions = lines
        .iter()
        .filter_map(|line| line.strip_prefix("system "))
        .map(system_function)
        .collect();
    let others = ["function ", "unique ", "system "];
    let relations: Vec<&str> = lines
        .into_iter()
        .filter(|line| !others.iter().any(|word| line.starts_with(word)))
        .collect();
    let oids = Oids {
        relations: relations
            .iter()
            .map(|line| qualified(kind(line).1).0)
            .collect(),
        functions: functions.iter().map(|line| qualified(line).0).collect(),
    };
    let mut relations: Vec<Relation> = relations.iter().map(|line| relation(line, &oids)).collect();
    for line in uniques {
        let (table, rest) = qualified(line);
        let relation = relations
            .iter_mut()
            .find(|relation| (relation.schema.clone(), relation.name.clone()) == table)
            .expect("a unique index names a table of the fixture");
        let added = unique(rest, &relation.columns);
        relation.uniques.push(added);
    }
    let functions = functions.iter().map(|line| function(line, &oids)).collect();
    Catalog {
        system_functions: Arc::new(system_functions),
        ..Catalog::new(relations, functions, "app".to_owned())
    }
}

/// `json_each(key, value)`, `now()`; without parentheses its columns are not known.
fn system_function(line: &str) -> (String, Columns) {
    let (name, rest) = name(line);
    let columns = rest.starts_with('(').then(|| {
        let (columns, _) = parenthesized(rest);
        list(columns).into_iter().map(str::to_owned).collect()
    });
    (name, columns)
}

type Name = (String, String);

struct Oids {
    relations: Vec<Name>,
    functions: Vec<Name>,
}

impl Oids {
    fn relation(&self, name: &Name) -> u32 {
        Self::place(&self.relations, name) + FIRST_RELATION
    }

    fn function(&self, name: &Name) -> u32 {
        Self::place(&self.functions, name) + FIRST_FUNCTION
    }

    fn place(names: &[Name], name: &Name) -> u32 {
        let at = names.iter().position(|known| known == name);
        at.unwrap_or_else(|| panic!("the fixture has no {name:?}")) as u32
    }
}

fn kind(line: &str) -> (char, &str) {
    let kinds = [
        ("view ", 'v'),
        ("matview ", 'm'),
        ("foreign ", 'f'),
        ("partitioned ", 'p'),
    ];
    kinds
        .iter()
        .find_map(|(word, kind)| Some((*kind, line.strip_prefix(word)?)))
        .unwrap_or(('r', line))
}

/// Reads a name, quoted or not; returns the rest.
fn name(text: &str) -> (String, &str) {
    let text = text.trim_start();
    if let Some(quoted) = text.strip_prefix('"') {
        let mut end = 0;
        while let Some(at) = quoted[end..].find('"') {
            end += at;
            if !quoted[end + 1..].starts_with('"') {
                return (quoted[..end].replace("\"\"", "\""), &quoted[end + 1..]);
            }
            end += 2;
        }
        panic!("unclosed quote in {text}");
    }
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
        .unwrap_or(text.len());
    (text[..end].to_owned(), &text[end..])
}

fn qualified(text: &str) -> (Name, &str) {
    let (schema, rest) = name(text);
    let rest = rest
        .strip_prefix('.')
        .unwrap_or_else(|| panic!("no schema in {text}"));
    let (bare, rest) = name(rest);
    ((schema, bare), rest)
}

/// The text in the parentheses that `text` begins with, and the rest.
fn parenthesized(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&text[1..at], &text[at + 1..]);
        }
    }
    panic!("unbalanced parentheses in {text}");
}

/// Splits at commas outside parentheses.
fn list(text: &str) -> Vec<&str> {
    let mut depth = 0;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|item| !item.is_empty())
    .collect()
}

fn relation(line: &str, oids: &Oids) -> Relation {
    let (kind, rest) = kind(line);
    let (name, rest) = qualified(rest);
    let (columns, mut rest) = parenthesized(rest);
    let mut relation = Relation {
        oid: oids.relation(&name),
        schema: name.0,
        name: name.1,
        kind,
        columns: Vec::new(),
        uniques: Vec::new(),
        reads: Vec::new(),
        calls: Vec::new(),
        parents: Vec::new(),
        trigger_functions: Vec::new(),
        ..Relation::default()
    };
    let mut definition = None;
    if let Some((before, after)) = rest.split_once(" as ") {
        definition = Some(after.trim().to_owned());
        rest = before;
    }
    relation.definition = definition;
    for (at, text) in list(columns).into_iter().enumerate() {
        let (column, unique) = column(text, at as i16 + 1);
        relation.uniques.extend(unique.map(|primary| Unique {
            name: format!("{}_{}_key", relation.name, column.name),
            primary,
            attnums: vec![column.attnum],
            keys: vec![column.name.clone()],
            partial: false,
        }));
        relation.columns.push(column);
    }
    while !rest.trim().is_empty() {
        let (word, after) = self::name(rest);
        if word == "rules" || word == "partition" || word == "instead" {
            relation.has_rules |= word == "rules";
            relation.is_partition |= word == "partition";
            relation.has_instead_triggers |= word == "instead";
            rest = after;
            continue;
        }
        if word == "by" {
            let (key, after) = parenthesized(after);
            relation.partition_key = Some(format!("LIST ({key})"));
            rest = after;
            continue;
        }
        let (target, after) = qualified(after);
        match word.as_str() {
            "reads" => relation.reads.push(oids.relation(&target)),
            "inherits" => relation.parents.push(oids.relation(&target)),
            "calls" => relation.calls.push(oids.function(&target)),
            "triggers" => relation.trigger_functions.push(oids.function(&target)),
            _ => panic!("unknown word {word} in {line}"),
        }
        rest = after;
    }
    relation
}

/// A column and, if it is unique by itself, whether it is the primary key.
fn column(text: &str, attnum: i16) -> (Column, Option<bool>) {
    let (name, rest) = name(text);
    let end = [
        " pk",
        " unique",
        " not null",
        " default ",
        " generated ",
        " identity",
    ]
    .iter()
    .filter_map(|option| rest.find(option))
    .min()
    .unwrap_or(rest.len());
    let (type_name, options) = (rest[..end].trim(), &rest[end..]);
    let after = |word: &str| {
        options
            .split_once(word)
            .map(|(_, text)| text.trim().to_owned())
    };
    let words = options.split(" default ").next().unwrap_or_default();
    let unique = [(" pk", true), (" unique", false)];
    let (type_oid, base_type_oid, typmod) = types(type_name);
    let column = Column {
        attnum,
        name,
        type_oid,
        base_type_oid,
        type_name: type_name.to_owned(),
        typmod,
        not_null: words.contains(" pk") || words.contains(" not null"),
        default: after(" default ").or(after(" generated ")),
        generated: options.contains(" generated "),
        identity: words.contains(" identity"),
    };
    let unique = unique.iter().find(|(word, _)| words.contains(word));
    (column, unique.map(|(_, primary)| *primary))
}

/// OID, base type's OID and typmod.
fn types(name: &str) -> (u32, u32, i32) {
    if let Some(bare) = name.strip_prefix("pgveil.") {
        let logical =
            LogicalType::parse(type_of_domain(bare.trim_matches('"'))).expect("a domain of pgveil");
        return (FIRST_DOMAIN + logical.oid(), 17, -1);
    }
    match LogicalType::parse(name) {
        Ok(logical) => (logical.oid(), logical.oid(), logical.typmod()),
        Err(_) => (OTHER_TYPE, OTHER_TYPE, -1),
    }
}

fn unique(text: &str, columns: &[Column]) -> Unique {
    let (name, rest) = name(text);
    let (keys, rest) = parenthesized(rest);
    let keys: Vec<String> = list(keys).into_iter().map(str::to_owned).collect();
    let attnum = |key: &String| {
        let column = columns.iter().find(|column| column.name == *key);
        column.map_or(0, |column| column.attnum)
    };
    Unique {
        name,
        primary: false,
        attnums: keys.iter().map(attnum).collect(),
        keys,
        partial: rest.contains("where"),
    }
}

fn function(line: &str, oids: &Oids) -> Function {
    let (head, body) = line.split_once(" : ").expect("a function has a body");
    let (name, rest) = qualified(head);
    let mut function = Function {
        oid: oids.function(&name),
        schema: name.0,
        name: name.1,
        body: body.trim().to_owned(),
        language: "plpgsql".to_owned(),
        kind: 'f',
        ..Function::default()
    };
    let mut rest = rest.trim_start();
    if rest.starts_with('(') {
        let (parameters, after) = parenthesized(rest);
        function.parameters = list(parameters).into_iter().map(parameter).collect();
        rest = after;
    }
    let mut returned = Parameter {
        mode: 'r',
        column: Column {
            type_oid: RECORD,
            base_type_oid: RECORD,
            ..Column::default()
        },
    };
    while !rest.trim().is_empty() {
        let (word, after) = self::name(rest);
        rest = after;
        match word.as_str() {
            "returns" => {
                let (relation, after) = qualified(after);
                function.returns_relation = Some(oids.relation(&relation));
                rest = after;
            }
            "gives" => {
                let (given, after) = after.trim().split_once(' ').unwrap_or((after.trim(), ""));
                returned = parameter(&format!("r {given}"));
                returned.column.name = String::new();
                if given == "void" {
                    returned.column.type_oid = 2278;
                }
                rest = after;
            }
            "setof" => function.returns_set = true,
            "atomic" => function.parsed = true,
            "shadows" => function.shadows = true,
            "procedure" => function.kind = 'p',
            "sql" => function.language = word,
            _ => panic!("unknown word {word} in {line}"),
        }
    }
    function.parameters.push(returned);
    function
}

/// `pg_type.oid` of record.
const RECORD: u32 = 2249;

/// `out email pgveil.sealed_text`, `id int4`; modes are r, out, inout, variadic, table.
fn parameter(text: &str) -> Parameter {
    let (mode, rest) = match text.split_once(' ') {
        Some(("r", rest)) => ('r', format!("r {rest}")),
        Some(("out", rest)) => ('o', rest.to_owned()),
        Some(("inout", rest)) => ('b', rest.to_owned()),
        Some(("table", rest)) => ('t', rest.to_owned()),
        Some(("variadic", rest)) => ('v', rest.to_owned()),
        _ => ('i', text.to_owned()),
    };
    let named = if rest.contains(' ') {
        rest.clone()
    } else {
        format!("unnamed {rest}")
    };
    let (mut column, _) = column(&named, 0);
    if !rest.contains(' ') {
        column.name = String::new();
    }
    Parameter { mode, column }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_example() {
        let catalog = catalog(
            r#"
            public.people(id int4 pk, email pgveil.sealed_text, tenant_id int4 not null, born date default now(), n numeric(10,2))
            view public.names(email pgveil.sealed_text) reads public.people calls public.f
            public."Chi""ld"(id int4 unique) inherits public.people triggers public.f rules
            unique public.people people_email_key (pgveil.eq_term(email), tenant_id) where
            function public.f returns public.people : SELECT * FROM people
            "#,
        );
        let people = catalog.relation("public", "people").unwrap();
        assert_eq!(people.oid, 16384);
        assert_eq!(
            people.column("email").unwrap().sealed_domain(),
            Some("sealed_text")
        );
        assert_eq!(
            people.column("born").unwrap().default.as_deref(),
            Some("now()")
        );
        assert_eq!(people.column("n").unwrap().type_name, "numeric(10,2)");
        assert!(people.column("tenant_id").unwrap().not_null);
        assert_eq!(people.uniques.len(), 2);
        assert!(people.uniques[1].partial);
        assert_eq!(people.uniques[1].attnums, [0, 3]);
        let names = catalog.relation("public", "names").unwrap();
        assert_eq!(
            (names.kind, &names.reads, &names.calls),
            ('v', &vec![16384], &vec![30000])
        );
        let child = catalog.relation("public", "Chi\"ld").unwrap();
        assert!(child.has_rules && child.parents == [16384] && child.trigger_functions == [30000]);
        assert_eq!(catalog.functions[0].returns_relation, Some(16384));
    }
}
