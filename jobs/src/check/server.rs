//! The server behind the keystore's URL: version, encoding, and settings under which statements cannot be read safely.

use pgveil_config::{Diagnostic, Settings, TlsMode, settings::AuthMode};
use tokio_postgres::Client;

use super::CheckReport;
use crate::{JobError, findings};

/// Who would start a session with `standard_conforming_strings = off`: the server, or by ALTER ROLE / ALTER DATABASE.
const STRINGS_OFF: &str = "
    SELECT 'the server' WHERE EXISTS (
        SELECT FROM pg_catalog.pg_settings
        WHERE name = 'standard_conforming_strings' AND reset_val = 'off' AND source NOT IN ('user', 'database', 'database user'))
    UNION ALL
    SELECT concat_ws(' in ', 'role ' || r.rolname, 'database ' || d.datname)
    FROM pg_catalog.pg_db_role_setting s
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
    LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
    WHERE 'standard_conforming_strings=off' = ANY (s.setconfig)
      AND (d.datname IS NULL OR d.datname = current_database())";

/// Errors and warnings about the server.
pub(super) async fn check(
    settings: &Settings,
    client: &Client,
    report: &mut CheckReport,
) -> Result<(), JobError> {
    let doing = || JobError::while_doing("ask the server for its settings");
    report.errors.extend(findings::of_server(client).await?);
    for row in client.query(STRINGS_OFF, &[]).await.map_err(doing())? {
        let who: String = row.try_get(0).map_err(doing())?;
        report.warn(Diagnostic::nowhere(
            format!("standard_conforming_strings is off for {who}: statements on protected tables will be refused there"),
            "set it on (the default since PostgreSQL 9.1), or SET standard_conforming_strings = on in the session",
        ));
    }
    let row = client
        .query_one("SELECT current_setting('password_encryption')", &[])
        .await
        .map_err(doing())?;
    let method: String = row.try_get(0).map_err(doing())?;
    if method == "scram-sha-256" {
        channel_binding(settings, report);
    }
    Ok(())
}

/// SCRAM binds a login to the TLS connection under it. With TLS on both legs there are two, and the login that the
/// proxy relays can be bound to neither.
fn channel_binding(settings: &Settings, report: &mut CheckReport) {
    let ends_here = settings.auth.mode == AuthMode::Terminate;
    if ends_here || settings.client_tls.is_none() || settings.upstream.tls == TlsMode::Disable {
        return;
    }
    report.warn(Diagnostic {
        at: settings.upstream.at.clone(),
        message: "TLS on both legs: SCRAM logins cannot be bound to their channel".to_owned(),
        cure: "write mode = \"terminate\" in [auth]; otherwise clients that support channel binding need channel_binding=disable".to_owned(),
    });
}
