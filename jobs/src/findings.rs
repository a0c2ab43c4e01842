//! What is wrong with the policy or the server before anything is done, as diagnostics with cures.

use std::{collections::HashMap, sync::Arc};

use pgveil_config::{Diagnostic, PolicyFile};
use pgveil_policy::{
    Ruleset,
    catalog::{Catalog, Column},
    ruleset::{Pending, PendingColumn, RegisteredColumn, Wanted},
    types::LogicalType,
};
use tokio_postgres::Client;

use crate::{JobError, plan::convertible};

/// The oldest server that pgveil works with.
const OLDEST_VERSION: i32 = 14;

/// Facts about the server.
pub(crate) async fn of_server(client: &Client) -> Result<Vec<Diagnostic>, JobError> {
    let sql =
        "SELECT current_setting('server_version_num')::int4, current_setting('server_encoding')";
    let doing = || JobError::while_doing("ask the server for its version");
    let row = client.query_one(sql, &[]).await.map_err(doing())?;
    let version: i32 = row.try_get(0).map_err(doing())?;
    let encoding: String = row.try_get(1).map_err(doing())?;
    Ok(server_findings(version, &encoding))
}

fn server_findings(version: i32, encoding: &str) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if version / 10_000 < OLDEST_VERSION {
        found.push(Diagnostic::nowhere(
            format!(
                "the server is PostgreSQL {}, pgveil needs {OLDEST_VERSION} or later",
                version / 10_000
            ),
            "upgrade the server",
        ));
    }
    if !matches!(encoding, "UTF8" | "SQL_ASCII") {
        found.push(Diagnostic::nowhere(
            format!("the database's encoding is {encoding}, pgveil supports UTF8 and SQL_ASCII"),
            "use a database with encoding UTF8 (CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0)",
        ));
    }
    found
}

/// What is wrong, and what somebody should know.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
    pub(crate) wanted: Vec<Wanted>,
}

/// The policy against the database, as it will be once it is converted: everything that the ruleset finds, and columns
/// that hold sealed values of which the keystore knows nothing. `registered` is the whole history.
pub(crate) fn of_policy(
    policy: &PolicyFile,
    catalog: &Catalog,
    registered: &[RegisteredColumn],
) -> Findings {
    let catalog = Arc::new(as_it_will_read(policy, catalog));
    let mut found = Findings::default();
    match Ruleset::compile(policy, catalog, registered, 0) {
        Err(errors) => found.errors = errors,
        Ok(ruleset) => {
            let pending = ruleset.pending.iter();
            pending.for_each(|column| add_pending(policy, column, &mut found));
            found.wanted = ruleset.wanted;
        }
    }
    found
}

fn add_pending(policy: &PolicyFile, column: &PendingColumn, found: &mut Findings) {
    let name = format!("{}.{}.{}", column.schema, column.table, column.column);
    let tables = policy
        .tables
        .iter()
        .filter(|t| t.schema == column.schema && t.name == column.table);
    let at = tables
        .flat_map(|t| &t.columns)
        .find(|c| c.name == column.column)
        .map(|c| c.at.clone());
    match column.state {
        Pending::NotConverted => {}
        Pending::NotRegistered => found.errors.push(Diagnostic {
            at,
            message: format!("{name} is under a domain of pgveil, but table pgveil.columns does not know it"),
            cure: "if the table or column was renamed, give it its name back; if it was restored from a backup, restore \
                   schema pgveil from the same one; if it was never written to, change its type back and apply again"
                .to_owned(),
        }),
        Pending::NotRecognised => found.errors.push(Diagnostic {
            at,
            message: format!(
                "{name} is not the column that was registered under its name, and holds values that were sealed for others, \
                 or could not be looked at"
            ),
            cure: "rename its table, create the table anew through pgveil, and move the rows with INSERT ... SELECT; or let \
                   the keystore's role look at its rows"
                .to_owned(),
        }),
        Pending::NotInPolicy => found.warnings.push(Diagnostic {
            at,
            message: format!("{name} is under a domain of pgveil, but no policy names it"),
            cure: "statements that name its table are refused; drop it if it is a copy made beside pgveil".to_owned(),
        }),
    }
}

/// A plain column whose type converts without loss reads as the policy's type: `apply` will see to it row by row.
fn as_it_will_read(policy: &PolicyFile, types: &Catalog) -> Catalog {
    let mut catalog = types.clone();
    let places: HashMap<(String, String), usize> = catalog.by_name.clone();
    for rule in &policy.tables {
        let Some(place) = places.get(&(rule.schema.clone(), rule.name.clone())) else {
            continue;
        };
        let relation = &mut catalog.relations[*place];
        for column_rule in &rule.columns {
            let column = relation
                .columns
                .iter_mut()
                .find(|c| c.name == column_rule.name);
            let to = types.parse_type(&column_rule.logical_type);
            if let (Some(column), Ok(to)) = (column, to) {
                let from = types.type_of(column.type_oid, column.typmod);
                read_as(column, from, to);
            }
        }
    }
    catalog
}

fn read_as(column: &mut Column, from: Option<LogicalType>, to: LogicalType) {
    if from.is_some_and(|from| convertible(from, to)) {
        column.type_oid = to.oid();
        column.base_type_oid = to.oid();
        column.typmod = to.typmod();
        column.type_name = to.sql_name();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_and_odd_encodings_are_findings() {
        assert!(server_findings(150_018, "UTF8").is_empty());
        assert!(server_findings(140_000, "SQL_ASCII").is_empty());
        let found = server_findings(130_011, "LATIN1");
        assert_eq!(found.len(), 2);
        assert!(found[0].message.contains("PostgreSQL 13"));
        assert!(found[1].message.contains("LATIN1"));
    }
}
