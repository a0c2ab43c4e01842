//! The proxy is killed around the COMMIT of a transaction that made a table and filled it: what was committed can be read
//! and found, what was not is not there, and nothing is in the clear.

use anyhow::{Result, bail, ensure};
use pgveil_tests::{
    postgres::TempPostgres,
    proxy::Proxy,
    wire::{Message, Wire},
};

const POLICY: &str = r#"public.people  scope = "platform"  email: text, search = ["equality"]"#;

/// Where the proxy is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    BeforeCommit,
    CommitSent,
    Committed,
}

#[test]
fn nothing_is_unreadable_after_the_proxy_was_killed() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    let (site, mut proxy) = Proxy::start(&database, POLICY)?;
    let moments = [
        Moment::BeforeCommit,
        Moment::CommitSent,
        Moment::Committed,
        Moment::CommitSent,
        Moment::BeforeCommit,
    ];
    for moment in moments {
        let mut wire = Wire::connect(&proxy.target("app"))?;
        for sql in [
            "BEGIN",
            "CREATE TABLE people (id int, email text UNIQUE)",
            "INSERT INTO people VALUES (1, 'killed@example.com')",
        ] {
            let said = wire.query(sql)?;
            ensure!(!said.contains("ERROR"), "{sql}: {said}");
        }
        match moment {
            Moment::BeforeCommit => {}
            Moment::CommitSent => wire.send(&[Message::query("COMMIT")])?,
            Moment::Committed => drop(wire.query("COMMIT")?),
        }
        proxy.kill9()?;
        proxy = site.serve()?;
        let told = proxy.psql(
            "app",
            "SELECT id, email FROM people WHERE email = 'killed@example.com'",
        )?;
        let is_there = told.contains("1|killed@example.com");
        let is_gone = told.contains("42P01");
        match moment {
            Moment::BeforeCommit => ensure!(is_gone, "{moment:?}: {told}"),
            Moment::CommitSent => ensure!(is_gone || is_there, "{moment:?}: {told}"),
            Moment::Committed => ensure!(is_there, "{moment:?}: {told}"),
        }
        if is_there {
            let again = proxy.psql("app", "INSERT INTO people VALUES (2, 'killed@example.com')")?;
            if !again.contains("23505") {
                bail!("a value sealed after the kill does not meet one sealed before it: {again}");
            }
            let stored = database.psql("app", "SELECT email FROM people")?;
            ensure!(!stored.contains("killed@"), "in the clear: {stored}");
            proxy.psql("app", "DROP TABLE people")?;
        }
    }
    Ok(())
}

#[test]
fn a_column_that_was_rolled_back_may_be_described_anew() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    let (mut site, proxy) = Proxy::start(&database, POLICY)?;
    let said = proxy.psql(
        "app",
        "BEGIN; CREATE TABLE people (id int, email text); INSERT INTO people VALUES (1, 'a@example.com'); ROLLBACK",
    )?;
    ensure!(!said.contains("ERROR"), "{said}");
    drop(proxy);
    site.write_policy(r#"public.people  scope = "platform"  email: varchar(20)"#)?;
    let proxy = site.serve()?;
    let said = proxy.psql(
        "app",
        "BEGIN; CREATE TABLE people (id int, email varchar(20)); INSERT INTO people VALUES (1, 'b@example.com'); \
         SELECT email FROM people; COMMIT; SELECT email FROM people; INSERT INTO people VALUES (2, '123456789012345678901')",
    )?;
    ensure!(
        said.matches("b@example.com").count() == 2 && said.contains("22001"),
        "{said}"
    );
    Ok(())
}
