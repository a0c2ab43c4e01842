//! Tables whose definitions do not fit a policy that is in force: changed beside pgveil since it was taken up. They are refused
//! until they fit again, and all else is served. Judges nothing by itself: the checks beside this file do.

use std::collections::BTreeSet;

use pgveil_config::{Diagnostic, PolicyFile, TableRule};

use super::{Ruleset, compile::Compiled, renames::Renames};
use crate::{Refusal, catalog::Catalog};

/// A table, and the first of what does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Schema, as the table is named now, or as the policy names a table that is not there.
    pub schema: String,
    /// Name.
    pub table: String,
    /// The OIDs of the table and of its partitions and other heirs. None: it is not there, and cannot be made as it should be.
    pub oids: Vec<u32>,
    /// What does not fit, where the policy says so, and the cure.
    pub finding: Diagnostic,
}

/// A finding, and the table that it is about where no entry of the policy is.
pub(super) struct Finding {
    pub(super) diagnostic: Diagnostic,
    pub(super) table: Option<u32>,
}

/// The tables that the findings are about, each once.
pub(super) fn tables(
    policy: &PolicyFile,
    catalog: &Catalog,
    renames: &Renames,
    findings: &[Finding],
) -> Vec<Unfit> {
    let mut unfit: Vec<Unfit> = Vec::new();
    for finding in findings {
        let rule = policy.tables.iter().find(|rule| is_about(finding, rule));
        let relation = match (rule, finding.table) {
            (Some(rule), _) => catalog
                .relation(&rule.schema, &rule.name)
                .or_else(|| renames.relation(catalog, &rule.schema, &rule.name)),
            (None, Some(oid)) => catalog.relation_by_oid(oid),
            (None, None) => None,
        };
        let (schema, table) = match (relation, rule) {
            (Some(relation), _) => (&relation.schema, &relation.name),
            (None, Some(rule)) => (&rule.schema, &rule.name),
            (None, None) => continue,
        };
        if { unfit.iter() }.any(|known| (&known.schema, &known.table) == (schema, table)) {
            continue;
        }
        let family = relation.into_iter().flat_map(|relation| {
            let heirs = catalog.heirs(relation.oid).into_iter();
            std::iter::once(relation.oid).chain(heirs.map(|heir| heir.oid))
        });
        unfit.push(Unfit {
            schema: schema.clone(),
            table: table.clone(),
            oids: family.collect(),
            finding: finding.diagnostic.clone(),
        });
    }
    unfit
}

/// Whether it stands in this entry.
fn is_about(finding: &Finding, rule: &TableRule) -> bool {
    let Some(at) = &finding.diagnostic.at else {
        return false;
    };
    let columns = rule.columns.iter();
    [&rule.at, &rule.scope_at, &rule.session_at]
        .into_iter()
        .chain(columns.flat_map(|column| [&column.at, &column.type_at]))
        .any(|place| place == at)
}

/// What is not there for a table that is refused: a column that only lacks its id gets none, and nothing is served as plaintext. What its
/// values were sealed for is known as before: others may hold copies.
pub(super) fn set_apart(compiled: &mut Compiled, unfit: &[Unfit]) {
    let oids: BTreeSet<u32> = unfit.iter().flat_map(|table| table.oids.clone()).collect();
    compiled
        .pending
        .retain(|column| !oids.contains(&column.table_oid));
    compiled
        .plain
        .retain(|column| !oids.contains(&column.place.0));
}

impl Unfit {
    /// `public.customers`
    pub fn display_name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    fn refusal(&self) -> Refusal {
        Refusal::unsupported(
            "definition-differs",
            format!("table {:?} does not fit the policy any more", self.table),
        )
        .detail(format!("{}.", self.finding.message))
        .hint(format!(
            "Mend it on a connection to PostgreSQL itself, as it was changed there: {}. `pgveil check` says whether it fits.",
            self.finding.cure
        ))
    }
}

impl Ruleset {
    /// The refusal of any statement that names this table, if it does not fit the policy.
    pub(super) fn refuse_unfit(&self, table_oid: u32) -> Option<Refusal> {
        let found = { self.unfit.iter() }.find(|table| table.oids.contains(&table_oid));
        found.map(Unfit::refusal)
    }

    /// The refusal of a definition that spells this name, whatever its schema: it would be made without its types.
    pub(crate) fn refuse_unfit_name(&self, name: &str) -> Option<Refusal> {
        let found = { self.unfit.iter() }.find(|table| {
            let heirs = { table.oids.iter() }.filter_map(|oid| self.catalog.relation_by_oid(*oid));
            let mut heirs = heirs.map(|relation| &relation.name);
            table.table == name || heirs.any(|heir| heir == name)
        });
        found.map(Unfit::refusal)
    }

    /// Whether a table that is not there cannot be made as the policy wants it.
    pub(super) fn is_unfit_to_come(&self, schema: &str, name: &str) -> bool {
        let mut absent = self.unfit.iter().filter(|table| table.oids.is_empty());
        absent.any(|table| table.schema == schema && table.table == name)
    }
}
