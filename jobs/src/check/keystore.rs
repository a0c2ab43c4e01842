//! Schema `pgveil`: is it there, of our version, and may our role use it.

use pgveil_config::{Diagnostic, Settings};
use pgveil_keys::schema::{self, SchemaError};
use tokio_postgres::Client;

use super::CheckReport;
use crate::JobError;

/// What `serve` does with each table and sequence.
const NEEDED: [(&str, &str); 16] = [
    ("meta", "SELECT, INSERT"),
    ("columns", "SELECT"),
    ("scopes", "SELECT, INSERT"),
    ("keys", "SELECT, INSERT, UPDATE"),
    ("keks", "SELECT, INSERT, UPDATE"),
    ("key_changes", "SELECT, INSERT"),
    ("row_changes", "SELECT, INSERT"),
    ("local_keys", "SELECT, INSERT, UPDATE"),
    ("local_keks", "SELECT, INSERT, UPDATE"),
    ("overrides", "SELECT"),
    ("audit", "SELECT, INSERT"),
    ("audit_head", "SELECT, INSERT, UPDATE"),
    ("audit_keys", "SELECT, INSERT"),
    ("audit_checkpoints", "SELECT, INSERT"),
    ("key_ids", "USAGE"),
    ("audit_key_ids", "USAGE"),
];

fn is_sequence(name: &str) -> bool {
    name.ends_with("_ids")
}

/// Whether the schema can be used.
pub(super) async fn check(
    settings: &Settings,
    client: &Client,
    report: &mut CheckReport,
) -> Result<bool, JobError> {
    if let Err(error) = schema::check(client).await {
        if matches!(error, SchemaError::Database { .. }) {
            return Err(error.into());
        }
        report.error(Diagnostic {
            at: settings.keystore.at.clone(),
            message: error.to_string(),
            cure: error.cure().to_owned(),
        });
        return Ok(false);
    }
    for (name, rights) in NEEDED {
        let missing = missing(client, name, rights).await?;
        if missing.is_empty() {
            continue;
        }
        let (kind, missing) = (
            if is_sequence(name) {
                "SEQUENCE"
            } else {
                "TABLE"
            },
            missing.join(", "),
        );
        report.error(Diagnostic {
            at: settings.keystore.at.clone(),
            message: format!("the role of [keystore] url lacks {missing} on pgveil.{name}"),
            cure: format!("GRANT {missing} ON {kind} pgveil.{name} TO that role, as the role that ran `pgveil apply`"),
        });
    }
    Ok(true)
}

/// Which of `rights` the connection's role does not have.
async fn missing(
    client: &Client,
    name: &str,
    rights: &'static str,
) -> Result<Vec<&'static str>, JobError> {
    let function = if is_sequence(name) {
        "has_sequence_privilege"
    } else {
        "has_table_privilege"
    };
    let sql = format!("SELECT {function}(to_regclass($1)::oid, $2)");
    let mut missing = Vec::new();
    for right in rights.split(", ") {
        let doing = || JobError::while_doing("ask for the keystore role's rights");
        let row = client
            .query_one(&sql, &[&format!("pgveil.{name}"), &right])
            .await
            .map_err(doing())?;
        if row.try_get::<_, Option<bool>>(0).map_err(doing())? != Some(true) {
            missing.push(right);
        }
    }
    Ok(missing)
}
