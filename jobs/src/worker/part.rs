//! A table in a job's pass, as it is stored: which columns of it are remade. It runs no statement.

use serde_json::{Value, json};

use crate::{held::is_sealed_and, sql};

/// What is remade of a table's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// Quoted where they must be; one, if it holds arrays.
    pub(super) names: Vec<String>,
    /// The type of a column that holds arrays.
    pub(super) array: Option<String>,
    /// Whether triggers or rules on UPDATE are to be kept from it.
    pub(super) skips_triggers: bool,
}

impl Columns {
    pub(super) fn to_text(&self) -> String {
        json!({ "names": self.names, "array": self.array, "skips_triggers": self.skips_triggers })
            .to_string()
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let names = value["names"].as_array()?.iter();
        Some(Self {
            names: names
                .map(|name| name.as_str().map(str::to_owned))
                .collect::<Option<_>>()?,
            array: value["array"].as_str().map(str::to_owned),
            skips_triggers: value["skips_triggers"].as_bool()?,
        })
    }

    /// The column of a row's value at this place: elements of arrays are all of one.
    pub(super) fn name(&self, at: usize) -> &str {
        let name = self.names.get(at).or(self.names.first());
        name.map_or("", String::as_str)
    }

    /// That a value of row `t` is to be remade.
    pub(super) fn condition(&self, wants: impl Fn(&str, &str) -> String) -> String {
        if self.array.is_some() {
            let wanted = wants(&self.names[0], "held.element");
            let sealed = is_sealed_and("held.element", &wanted);
            return format!(
                "EXISTS (SELECT FROM unnest({}) AS held(element) WHERE {sealed})",
                self.array_value()
            );
        }
        let each = self
            .named_values()
            .map(|(name, value)| is_sealed_and(&value, &wants(name, &value)));
        each.collect::<Vec<_>>().join(" OR ")
    }

    /// How many bytes of row `t` are read.
    pub(super) fn size(&self) -> String {
        if self.array.is_some() {
            return format!(
                "coalesce((SELECT sum(pg_catalog.octet_length(held.element)) FROM unnest({}) AS held(element)), 0)",
                self.array_value()
            );
        }
        let each = self
            .values()
            .map(|value| format!("coalesce(pg_catalog.octet_length({value}), 0)::bigint"));
        each.collect::<Vec<_>>().join(" + ")
    }

    /// The values of row `t` that are to be remade, and NULL for the others.
    fn selected(&self, wants: impl Fn(&str, &str) -> String) -> String {
        if self.array.is_some() {
            return self.array_value();
        }
        let each = self.named_values().map(|(name, value)| {
            let sealed = is_sealed_and(&value, &wants(name, &value));
            format!("CASE WHEN {sealed} THEN {value} END")
        });
        each.collect::<Vec<_>>().join(", ")
    }

    /// What is read of row `t`: its place, the values that are to be remade, and columns beside them.
    pub(super) fn list(&self, wants: impl Fn(&str, &str) -> String, beside: &[String]) -> String {
        let mut list = vec!["t.ctid".to_owned(), self.selected(wants)];
        list.extend(beside.iter().map(|name| format!("t.{}", sql::quoted(name))));
        list.join(", ")
    }

    /// Values in one row of [`Self::list`].
    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    fn named_values(&self) -> impl Iterator<Item = (&str, String)> {
        self.names.iter().map(String::as_str).zip(self.values())
    }

    /// The values of row `t` as bytea.
    pub(super) fn values(&self) -> impl Iterator<Item = String> {
        self.names
            .iter()
            .map(|name| format!("t.{name}::pg_catalog.bytea"))
    }

    pub(super) fn array_value(&self) -> String {
        format!("t.{}::pg_catalog.bytea[]", self.names[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_back() {
        let columns = Columns {
            names: vec!["email".to_owned(), "\"E mail\"".to_owned()],
            array: None,
            skips_triggers: true,
        };
        assert_eq!(Columns::parse(&columns.to_text()), Some(columns));
        assert_eq!(Columns::parse("{}"), None);
    }
}
