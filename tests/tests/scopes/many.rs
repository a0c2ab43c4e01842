//! One result whose rows have keys of many scopes, read by a proxy that holds none of them.

use anyhow::{Result, ensure};
use pgveil_tests::{postgres::TempPostgres, site::Site};

use super::{POLICY, TABLE};

#[test]
fn a_result_over_many_scopes_is_read_whole_in_every_way() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = Site::new(&database, POLICY)?;
    site.apply()?;
    // More than are loaded ahead at a time.
    let rows: Vec<String> = (0..150)
        .map(|n| format!("({n}, 'tenant {n}', 'prod', 'body {n}')"))
        .collect();
    let insert = format!("INSERT INTO notes VALUES {}", rows.join(", "));
    site.serve()?.psql("app", &insert)?;
    let scopes =
        database.admin("SELECT count(DISTINCT scope) FROM pgveil.keys WHERE purpose = 'data'")?;
    ensure!(scopes == "150", "{scopes}");
    let expected: Vec<String> = (0..150).map(|n| format!("body {n}")).collect();
    let expected = expected.join("\n");
    for statement in [
        "SELECT body FROM notes ORDER BY id",
        "SELECT unnest(array_agg(body ORDER BY id)) FROM notes",
        "COPY (SELECT body FROM notes ORDER BY id) TO STDOUT",
    ] {
        // A proxy that has just started holds no key.
        let read = site.serve()?.psql("app", statement)?;
        ensure!(read == expected, "{statement}: {read}");
    }
    Ok(())
}
