//! Relations that only a session sees: temporary ones, and those that are newer than the catalog as it was read last
//! (made in a transaction that has not committed, or a moment ago); and all relations as a transaction sees them that
//! changed some. The session's own server process describes them as JSON; this reads that. It asks nothing itself.

use serde_json::Value;

use super::{Column, Function, Parameter, Relation, Type, Unique};

/// Reads the relations out of a JSON array; an empty text means none. `None` if it is not what was asked for.
pub fn read(json: &str) -> Option<Vec<Relation>> {
    if json.is_empty() {
        return Some(Vec::new());
    }
    let value: Value = serde_json::from_str(json).ok()?;
    value.as_array()?.iter().map(relation).collect()
}

fn relation(value: &Value) -> Option<Relation> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    let columns = match value.get("columns")? {
        Value::Null => Vec::new(),
        columns => columns
            .as_array()?
            .iter()
            .map(column)
            .collect::<Option<_>>()?,
    };
    Some(Relation {
        oid: number(value.get("oid")?)?,
        schema: text("schema")?,
        name: text("name")?,
        kind: text("kind")?.chars().next()?,
        columns,
        reshaped: false,
        reads: numbers(value.get("reads")?)?,
        parents: numbers(value.get("parents")?)?,
        trigger_functions: numbers(value.get("triggers")?)?,
        has_rules: flag("rules")?,
        has_instead_triggers: flag("instead")?,
        is_partition: flag("partition")?,
        definition: text("definition"),
        partition_key: text("partition_key"),
        calls: value.get("calls").map_or(Some(Vec::new()), numbers)?,
        uniques: value.get("uniques").map_or(Some(Vec::new()), uniques)?,
    })
}

fn uniques(value: &Value) -> Option<Vec<Unique>> {
    match value {
        Value::Null => Some(Vec::new()),
        value => value.as_array()?.iter().map(unique).collect(),
    }
}

fn unique(value: &Value) -> Option<Unique> {
    let keys = value.get("keys")?.as_array()?.iter();
    let attnums = value.get("attnums")?.as_array()?.iter();
    Some(Unique {
        name: value.get("name")?.as_str()?.to_owned(),
        primary: value.get("primary")?.as_bool()?,
        attnums: attnums.map(number).collect::<Option<_>>()?,
        keys: keys.filter_map(Value::as_str).map(str::to_owned).collect(),
        partial: value.get("partial")?.as_bool()?,
    })
}

/// Reads functions out of a JSON array, as [`read`] reads relations.
pub fn read_functions(json: &str) -> Option<Vec<Function>> {
    if json.is_empty() {
        return Some(Vec::new());
    }
    let value: Value = serde_json::from_str(json).ok()?;
    value.as_array()?.iter().map(function).collect()
}

/// Reads types out of a JSON array, as [`read`] reads relations.
pub fn read_types(json: &str) -> Option<Vec<Type>> {
    if json.is_empty() {
        return Some(Vec::new());
    }
    let value: Value = serde_json::from_str(json).ok()?;
    value.as_array()?.iter().map(type_of).collect()
}

fn type_of(value: &Value) -> Option<Type> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let labels = match (value.get("label_oids")?, value.get("labels")?) {
        (Value::Null, Value::Null) => None,
        (oids, labels) => {
            let labels = labels.as_array()?.iter();
            let labels = labels.map(|label| label.as_str().map(str::to_owned));
            let labels = labels.collect::<Option<Vec<String>>>()?;
            Some(numbers(oids)?.into_iter().zip(labels).collect())
        }
    };
    Some(Type {
        oid: number(value.get("oid")?)?,
        array_oid: number(value.get("array")?)?,
        schema: text("schema")?,
        name: text("name")?,
        labels,
    })
}

fn function(value: &Value) -> Option<Function> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(Function {
        oid: number(value.get("oid")?)?,
        schema: text("schema")?,
        name: text("name")?,
        body: text("body")?,
        returns_relation: match value.get("returns")? {
            Value::Null => None,
            oid => Some(number(oid)?),
        },
        language: text("language")?,
        kind: text("kind")?.chars().next()?,
        returns_set: value.get("set")?.as_bool()?,
        parsed: value.get("parsed")?.as_bool()?,
        settings: value
            .get("settings")?
            .as_array()?
            .iter()
            .map(|setting| setting.as_str().map(str::to_owned))
            .collect::<Option<_>>()?,
        shadows: value.get("shadows")?.as_bool()?,
        defaults: number(value.get("defaults")?)?,
        parameters: list_of_parameters(value.get("parameters")?)?,
    })
}

/// Reads the parameters of a function out of a JSON array. `None` if it is not what was asked for.
pub fn read_parameters(json: &str) -> Option<Vec<Parameter>> {
    list_of_parameters(&serde_json::from_str(json).ok()?)
}

fn list_of_parameters(value: &Value) -> Option<Vec<Parameter>> {
    value.as_array()?.iter().map(parameter).collect()
}

fn parameter(value: &Value) -> Option<Parameter> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(Parameter {
        mode: text("mode")?.chars().next()?,
        column: Column {
            attnum: number(value.get("number")?)?,
            name: text("name")?,
            type_oid: number(value.get("type")?)?,
            base_type_oid: number(value.get("base")?)?,
            type_name: text("type_name")?,
            typmod: -1,
            ..Column::default()
        },
    })
}

fn column(value: &Value) -> Option<Column> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    Some(Column {
        attnum: number(value.get("attnum")?)?,
        name: text("name")?,
        type_oid: number(value.get("type")?)?,
        base_type_oid: number(value.get("base")?)?,
        type_name: text("type_name")?,
        typmod: number(value.get("typmod")?)?,
        not_null: flag("not_null")?,
        default: text("default"),
        generated: flag("generated")?,
        identity: flag("identity")?,
    })
}

fn number<T: TryFrom<i64>>(value: &Value) -> Option<T> {
    T::try_from(value.as_i64()?).ok()
}

fn numbers(value: &Value) -> Option<Vec<u32>> {
    value.as_array()?.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_probe_makes() {
        let json = r#"[{"oid" : 20001, "schema" : "pg_temp_3", "name" : "t\"1", "kind" : "r",
            "reads" : [], "parents" : [16384], "triggers" : [], "rules" : false, "instead" : false, "partition" : false,
            "definition" : null, "partition_key" : null,
            "columns" : [{"attnum" : 1, "name" : "email", "type" : 20025, "base" : 17, "type_name" : "pgveil.sealed_text",
                "typmod" : -1, "not_null" : false, "default" : null, "generated" : false, "identity" : false}]},
            {"oid" : 20002, "schema" : "public", "name" : "none", "kind" : "r", "reads" : [],
            "parents" : [], "triggers" : [], "rules" : false, "instead" : false, "partition" : false, "definition" : null,
            "partition_key" : null, "columns" : null}]"#;
        let relations = read(json).unwrap();
        assert_eq!(
            (relations[0].schema.as_str(), relations[0].name.as_str()),
            ("pg_temp_3", "t\"1")
        );
        assert_eq!(relations[0].columns[0].sealed_domain(), Some("sealed_text"));
        assert_eq!(
            (relations[1].schema.as_str(), relations[1].columns.len()),
            ("public", 0)
        );
        assert_eq!(read(""), Some(Vec::new()));
        assert_eq!(read("[{}]"), None);
        assert_eq!(read("\u{3}"), None);
    }
}
