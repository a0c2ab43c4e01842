//! The types of the database: what a type's name or OID means, the enums among them, and as which numbers their labels
//! are sealed. Reads nothing itself.

use std::collections::HashSet;

use super::Catalog;
use crate::types::{Definition, Element, EnumType, Label, LogicalType, UnknownType};

/// A row of `pg_type` that is no array and no relation's row type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Type {
    /// `pg_type.oid`.
    pub oid: u32,
    /// `pg_type.typarray`.
    pub array_oid: u32,
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// An enum's labels in their order, with their OIDs.
    pub labels: Option<Vec<(u32, String)>>,
}

/// A row of `pgveil.enum_labels`: as which number a label is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedLabel {
    /// Schema and name of the enum type.
    pub schema: String,
    /// Name of the type.
    pub type_name: String,
    /// `pg_enum.oid` when it was seen last.
    pub oid: u32,
    /// What it was called when it was seen last.
    pub label: String,
    /// What sealed values hold.
    pub number: i32,
}

impl Type {
    /// As which number each label is sealed, given what is known from before.
    ///
    /// Labels of a type are renamed and added, never dropped. So if all that are known are still there by their OIDs, the
    /// OIDs tell which is which; if not, the type was made anew (from a dump), and their names do.
    fn sealed_labels(&self, known: &[&SealedLabel]) -> Vec<SealedLabel> {
        let labels = self.labels.as_deref().unwrap_or_default();
        let oids: HashSet<u32> = labels.iter().map(|(oid, _)| *oid).collect();
        let same_type = known.iter().all(|known| oids.contains(&known.oid));
        let mut last = known.iter().map(|known| known.number).max().unwrap_or(0);
        let mut sealed = Vec::with_capacity(labels.len());
        for (oid, label) in labels {
            let past = known.iter().find(|known| {
                if same_type {
                    known.oid == *oid
                } else {
                    known.label == *label
                }
            });
            let number = past.map_or_else(
                || {
                    last += 1;
                    last
                },
                |past| past.number,
            );
            sealed.push(SealedLabel {
                schema: self.schema.clone(),
                type_name: self.name.clone(),
                oid: *oid,
                label: label.clone(),
                number,
            });
        }
        sealed
    }
}

impl Catalog {
    fn known_labels(&self, of: &Type) -> Vec<&SealedLabel> {
        let labels = self.sealed_labels.iter();
        labels
            .filter(|label| label.schema == of.schema && label.type_name == of.name)
            .collect()
    }

    fn enum_type(&self, found: &Type) -> Option<LogicalType> {
        found.labels.as_ref()?;
        let sealed = found.sealed_labels(&self.known_labels(found));
        let label = |label: SealedLabel| Label {
            label: label.label,
            number: label.number,
        };
        let definition = Definition {
            oid: found.oid,
            array_oid: found.array_oid,
            schema: found.schema.clone(),
            name: found.name.clone(),
            labels: sealed.into_iter().map(label).collect(),
        };
        EnumType::new(definition).map(LogicalType::Enum)
    }

    /// What must be on record before a value of an enum type is sealed, where it is not yet.
    pub fn labels_to_record(&self, enums: &[EnumType]) -> Vec<SealedLabel> {
        let mut wanted = Vec::new();
        for kind in enums {
            let Some(found) = self.types.iter().find(|found| found.oid == kind.oid()) else {
                continue;
            };
            let known = self.known_labels(found);
            let sealed = found.sealed_labels(&known).into_iter();
            wanted.extend(sealed.filter(|label| !known.contains(&label)));
        }
        wanted
    }

    /// A type as the policy writes it: one of PostgreSQL's own, or an enum of schema `public` or of the schema that stands
    /// before its name, spelt as the catalog spells it.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse_type(&self, name: &str) -> Result<LogicalType, UnknownType> {
        let unknown = match LogicalType::parse(name) {
            Ok(logical) => return Ok(logical),
            Err(unknown) => unknown,
        };
        let trimmed = name.trim();
        let (single, is_array) = match trimmed.strip_suffix("[]") {
            Some(single) => (single.trim_end(), true),
            None => (trimmed, false),
        };
        let parts = identifiers(single).ok_or_else(|| unknown.clone())?;
        let (schema, name) = match parts.as_slice() {
            [name] => ("public", name.as_str()),
            [schema, name] => (schema.as_str(), name.as_str()),
            _ => return Err(unknown),
        };
        let mut types = self.types.iter();
        let found = types.find(|found| found.schema == schema && found.name == name);
        let single = found.and_then(|found| self.enum_type(found));
        let logical = if is_array {
            single.and_then(Element::new).map(LogicalType::Array)
        } else {
            single
        };
        logical.ok_or(unknown)
    }

    /// The type of an OID and a typmod, enums of the database included.
    pub fn type_of(&self, oid: u32, typmod: i32) -> Option<LogicalType> {
        if let Some(logical) = LogicalType::from_oid(oid, typmod) {
            return Some(logical);
        }
        if oid == 0 {
            return None;
        }
        let enums = || self.types.iter().filter(|found| found.labels.is_some());
        if let Some(found) = enums().find(|found| found.oid == oid) {
            return self.enum_type(found);
        }
        let element = enums().find(|found| found.array_oid == oid)?;
        Element::new(self.enum_type(element)?).map(LogicalType::Array)
    }

    /// The element type of an array type's OID.
    pub fn element_of(&self, oid: u32) -> Option<LogicalType> {
        match self.type_of(oid, -1)? {
            LogicalType::Array(element) => Some(element.kind()),
            _ => None,
        }
    }

    /// What a name means to a session: the enum type that it finds along these schemas, unless something else of that name
    /// comes before it.
    pub fn enum_named(&self, name: &str, schemas: &[String]) -> Option<LogicalType> {
        let found = schemas.iter().find_map(|schema| {
            let is_here = |in_schema: &str, found: &str| in_schema == schema && found == name;
            let mut types = self.types.iter();
            if let Some(found) = types.find(|found| is_here(&found.schema, &found.name)) {
                return Some(Some(found));
            }
            // A relation's row type.
            self.by_name
                .contains_key(&(schema.clone(), name.to_owned()))
                .then_some(None)
        });
        self.enum_type(found??)
    }

    /// Whether schema `pgveil` has this domain.
    pub fn has_domain(&self, name: &str) -> bool {
        let mut types = self.types.iter();
        types.any(|found| found.schema == "pgveil" && found.name == name)
    }
}

/// The parts of a dotted name; double quotes may stand around each.
fn identifiers(name: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = name;
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        if part.is_empty() {
            return None;
        }
        parts.push(part.to_owned());
        match after.strip_prefix('.') {
            Some(after) => rest = after,
            None if after.is_empty() => return Some(parts),
            None => return None,
        }
    }
}

/// The enum types among logical types, each once.
pub fn enums_of(types: impl Iterator<Item = LogicalType>) -> Vec<EnumType> {
    let single = |logical| match logical {
        LogicalType::Enum(kind) => Some(kind),
        LogicalType::Array(element) => match element.kind() {
            LogicalType::Enum(kind) => Some(kind),
            _ => None,
        },
        _ => None,
    };
    let found: HashSet<EnumType> = types.filter_map(single).collect();
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::FormatSettings;

    fn mood(first: u32, labels: &[&str]) -> Type {
        let labels = labels.iter().zip(first..);
        Type {
            oid: first - 2,
            array_oid: first - 1,
            schema: "public".into(),
            name: "mood".into(),
            labels: Some(
                labels
                    .map(|(label, oid)| (oid, (*label).to_owned()))
                    .collect(),
            ),
        }
    }

    fn numbers(labels: &[SealedLabel]) -> Vec<(&str, i32)> {
        labels
            .iter()
            .map(|label| (label.label.as_str(), label.number))
            .collect()
    }

    fn again(kind: &Type, known: &[SealedLabel]) -> Vec<SealedLabel> {
        kind.sealed_labels(&known.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_label_keeps_its_number() {
        let first = again(&mood(100, &["sad", "ok"]), &[]);
        assert_eq!(numbers(&first), [("sad", 1), ("ok", 2)]);
        // Renamed, and another label gets the name that became free.
        let renamed = again(&mood(100, &["sad", "fine", "ok"]), &first);
        assert_eq!(numbers(&renamed), [("sad", 1), ("fine", 2), ("ok", 3)]);
        // Two labels change places.
        let swapped = again(&mood(100, &["ok", "sad"]), &first);
        assert_eq!(numbers(&swapped), [("ok", 1), ("sad", 2)]);
        // Restored from a dump: other OIDs, the same names.
        let restored = again(&mood(900, &["sad", "fine", "ok"]), &renamed);
        assert_eq!(numbers(&restored), [("sad", 1), ("fine", 2), ("ok", 3)]);
    }

    #[test]
    fn finds_enums_by_name_and_oid() {
        let catalog = Catalog {
            types: vec![
                mood(100, &["sad"]),
                Type {
                    schema: "crm".into(),
                    name: "Mood".into(),
                    ..mood(200, &["ok"])
                },
            ],
            ..Catalog::default()
        };
        let parse = |name: &str| catalog.parse_type(name).map(LogicalType::sql_name).ok();
        assert_eq!(parse("mood").as_deref(), Some("mood"));
        assert_eq!(parse("public.mood []").as_deref(), Some("mood[]"));
        assert_eq!(parse("crm.Mood").as_deref(), Some("crm.\"Mood\""));
        assert_eq!(parse("crm.\"Mood\"[]").as_deref(), Some("crm.\"Mood\"[]"));
        assert_eq!(parse("crm.mood"), None);
        assert_eq!(parse("a.b.mood"), None);
        assert_eq!(parse("int4").as_deref(), Some("integer"));
        let of = |oid| catalog.type_of(oid, -1).map(LogicalType::sql_name);
        assert_eq!(of(98).as_deref(), Some("mood"));
        assert_eq!(of(99).as_deref(), Some("mood[]"));
        assert_eq!(of(97), None);
        let path = |schemas: &[&str]| schemas.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert!(
            catalog
                .enum_named("mood", &path(&["pg_catalog", "public"]))
                .is_some()
        );
        assert!(catalog.enum_named("mood", &path(&["crm"])).is_none());
    }

    #[test]
    fn an_array_of_an_enum_holds_no_oid() {
        let settings = FormatSettings::default();
        let of = |kind: Type| {
            let catalog = Catalog {
                types: vec![kind],
                ..Catalog::default()
            };
            catalog.parse_type("mood[]").unwrap()
        };
        let (before, after) = (of(mood(100, &["sad", "ok"])), of(mood(900, &["sad", "ok"])));
        let value = before.input(b"{ok,NULL,sad}", &settings).unwrap();
        let (mut shown, mut sent) = (Vec::new(), Vec::new());
        after
            .output(value.as_bytes(), &settings, &mut shown)
            .unwrap();
        assert_eq!(shown, b"{ok,NULL,sad}");
        after.send(value.as_bytes(), &mut sent).unwrap();
        assert_eq!(sent[8..12], 898_u32.to_be_bytes());
        assert_eq!(after.recv(&sent, &settings).unwrap(), value);
        assert!(before.recv(&sent, &settings).is_err());
    }
}
