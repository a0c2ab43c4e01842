//! Where the columns are that hold values of their own, and whose values may be taken for whose. It reads no table.

use std::collections::{BTreeMap, HashMap, HashSet};

use pgveil_policy::{
    catalog::Catalog,
    plan::ColumnId,
    ruleset::{OtherTerms, RegisteredColumn},
};
use serde_json::{Value, json};

use super::{At, damaged};
use crate::JobError;

/// Other terms that a column is to get, as a job keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedTerms {
    pub(crate) id: ColumnId,
    pub(crate) shared_key: bool,
    pub(crate) equality_group: Option<String>,
    pub(crate) scope: String,
    /// Columns whose values, where they stand in this one, are shown to the same roles in the same way.
    pub(crate) alike: Vec<ColumnId>,
}

impl WantedTerms {
    /// For the job's target.
    pub(crate) fn to_json(&self) -> Value {
        let alike: Vec<u32> = self.alike.iter().map(|id| id.0).collect();
        json!({
            "id": self.id.0, "shared_key": self.shared_key, "equality_group": self.equality_group, "scope": self.scope,
            "alike": alike,
        })
    }

    /// All of a job's target; none where it is another kind of job.
    pub(crate) fn all_of(target: &Value) -> Result<Vec<Self>, JobError> {
        let Some(columns) = target["columns"].as_array() else {
            return Ok(Vec::new());
        };
        let parsed: Option<Vec<Self>> = columns.iter().map(Self::parse).collect();
        parsed.ok_or_else(|| damaged("columns that are not described"))
    }

    fn parse(value: &Value) -> Option<Self> {
        let id = |value: &Value| Some(ColumnId(u32::try_from(value.as_u64()?).ok()?));
        Some(Self {
            id: id(&value["id"])?,
            shared_key: value["shared_key"].as_bool()?,
            equality_group: value["equality_group"].as_str().map(str::to_owned),
            scope: value["scope"].as_str()?.to_owned(),
            alike: value["alike"]
                .as_array()?
                .iter()
                .map(id)
                .collect::<Option<_>>()?,
        })
    }

    /// The column with these terms in the place of its own.
    pub(crate) fn terms(&self, own: &RegisteredColumn) -> OtherTerms {
        OtherTerms {
            generation: own.generation,
            shared_key: self.shared_key,
            equality_group: self.equality_group.clone(),
            scope: Some(self.scope.clone()),
        }
    }
}

/// Columns in which values stand as their own.
#[derive(Debug, Default)]
pub(super) struct Places {
    at: HashMap<(u32, String), ColumnId>,
    alike: HashSet<(ColumnId, ColumnId)>,
}

impl Places {
    /// Of these columns, and those of partitions and other heirs of their tables.
    pub(super) fn of(
        catalog: &Catalog,
        live: &BTreeMap<ColumnId, &RegisteredColumn>,
        wanted: &[WantedTerms],
    ) -> Self {
        let mut at = HashMap::new();
        for (id, column) in live {
            let (oid, attnum) = column.place;
            let relation = catalog.relation_by_oid(oid);
            let Some(own) = relation.and_then(|relation| relation.attribute(attnum)) else {
                continue;
            };
            at.insert((oid, own.name.clone()), *id);
            for heir in catalog.heirs(oid) {
                if heir.column(&own.name).is_some() {
                    at.insert((heir.oid, own.name.clone()), *id);
                }
            }
        }
        let pairs = wanted.iter().flat_map(|wanted| {
            let pair = |other: &ColumnId| [(wanted.id, *other), (*other, wanted.id)];
            wanted.alike.iter().flat_map(pair)
        });
        Self {
            at,
            alike: pairs.collect(),
        }
    }

    /// Whose place it is.
    pub(super) fn column(&self, at: At<'_>) -> Option<ColumnId> {
        let quoted = at.column.strip_prefix('"');
        let quoted = quoted.and_then(|name| name.strip_suffix('"'));
        let name = quoted.map_or_else(|| at.column.to_owned(), |name| name.replace("\"\"", "\""));
        self.at.get(&(at.relation, name)).copied()
    }

    /// The places of a table.
    pub(super) fn of_relation(&self, oid: u32) -> impl Iterator<Item = ColumnId> {
        let of_it = self.at.iter().filter(move |((of, _), _)| *of == oid);
        of_it.map(|(_, id)| *id)
    }

    /// Whether a value of one may become one of the other.
    pub(super) fn are_alike(&self, one: ColumnId, other: ColumnId) -> bool {
        self.alike.contains(&(one, other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_job_keeps_is_read_back() {
        let wanted = WantedTerms {
            id: ColumnId(3),
            shared_key: true,
            equality_group: Some("mail".to_owned()),
            scope: "tenant:{tenant}".to_owned(),
            alike: vec![ColumnId(3), ColumnId(4)],
        };
        let target = json!({ "columns": [wanted.to_json()] });
        assert_eq!(WantedTerms::all_of(&target).unwrap(), [wanted]);
        assert_eq!(WantedTerms::all_of(&json!({ "horizon": 1 })).unwrap(), []);
        assert!(WantedTerms::all_of(&json!({ "columns": [{ "id": 1 }] })).is_err());
    }

    #[test]
    fn a_column_is_found_by_its_quoted_name() {
        let places = Places {
            at: HashMap::from([((1, "E\"m".to_owned()), ColumnId(7))]),
            alike: HashSet::new(),
        };
        let at = |column| At {
            relation: 1,
            column,
        };
        assert_eq!(places.column(at("\"E\"\"m\"")), Some(ColumnId(7)));
        assert_eq!(places.column(at("email")), None);
    }
}
