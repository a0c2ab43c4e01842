//! Roles that the policy reveals values to: do they exist.

use std::collections::HashSet;

use pgveil_config::{Diagnostic, PolicyFile, nearest::nearest};
use tokio_postgres::Client;

use super::CheckReport;
use crate::JobError;

/// A role that does not exist is a finding: nobody would see the values, which is hardly meant.
pub(super) async fn check(
    policy: &PolicyFile,
    client: &Client,
    report: &mut CheckReport,
) -> Result<(), JobError> {
    let doing = || JobError::while_doing("read the names of roles");
    let rows = client
        .query("SELECT rolname::text FROM pg_catalog.pg_roles", &[])
        .await
        .map_err(doing())?;
    let roles: HashSet<String> = rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()
        .map_err(doing())?;
    for column in policy.tables.iter().flat_map(|table| &table.columns) {
        for role in column
            .reveal
            .iter()
            .flatten()
            .filter(|role| !roles.contains(*role))
        {
            let near = nearest(role, roles.iter().map(String::as_str));
            let hint = near
                .map(|near| format!("; did you mean {near}?"))
                .unwrap_or_default();
            let message = format!(
                "`reveal` of {} names role {role}, which does not exist{hint}",
                column.name
            );
            report.error(Diagnostic::at(
                column.at.clone(),
                message,
                "correct the name, or create the role first",
            ));
        }
    }
    Ok(())
}
