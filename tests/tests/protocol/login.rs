//! Ways to log in: whatever the server asks, the client is asked.

use anyhow::{Result, ensure};
use pgveil_tests::{
    postgres::{Auth, Options, PASSWORD, TempPostgres},
    proxy::Proxy,
};

use crate::{POLICY, TABLES};

#[tokio::test(flavor = "multi_thread")]
async fn every_password_method_is_relayed() -> Result<()> {
    for auth in [Auth::Trust, Auth::Password, Auth::Md5, Auth::Scram] {
        let server = TempPostgres::start(&Options::default().auth(auth))?;
        let database = server.database()?;
        database.run(TABLES)?;
        let (_site, proxy) = Proxy::start(&database, POLICY)?;
        let client = proxy.connect("app").await?;
        client
            .execute(
                "INSERT INTO people VALUES (1, $1, 2)",
                &[&"ada@example.com"],
            )
            .await?;
        let row = client
            .query_one(
                "SELECT email FROM people WHERE email = $1",
                &[&"ada@example.com"],
            )
            .await?;
        ensure!(row.get::<_, String>(0) == "ada@example.com", "{auth:?}");
        ensure!(
            proxy.psql("app", "SELECT email FROM people")? == "ada@example.com",
            "{auth:?}"
        );
        if auth != Auth::Trust {
            let wrong = proxy.url("app").replace(PASSWORD, "wrong");
            let refused = tokio_postgres::connect(&wrong, tokio_postgres::NoTls).await;
            let code = refused
                .err()
                .and_then(|error| error.code().map(|code| code.code().to_owned()));
            ensure!(code.as_deref() == Some("28P01"), "{auth:?}: {code:?}");
        }
    }
    Ok(())
}

#[test]
fn roles_are_the_servers_own() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(&format!("{TABLES} GRANT SELECT ON people TO analyst;"))?;
    let (_site, proxy) = Proxy::start(&database, POLICY)?;
    ensure!(proxy.psql("analyst", "SELECT current_user, session_user")? == "analyst|analyst");
    let denied = proxy.psql("stranger", "SELECT email FROM people")?;
    ensure!(denied.contains("42501"), "{denied}");
    Ok(())
}
