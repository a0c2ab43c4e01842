//! TLS on either leg and on both.

use crate::{
    POLICY, TABLES,
    papers::{Papers, offer_tls_to_clients, quoted},
};
use anyhow::{Result, ensure};
use pgveil_tests::{
    postgres::{Auth, Options, TempPostgres},
    site::Site,
    wire::{PROTOCOL_3_0, Wire, startup},
};

#[test]
fn clients_are_offered_tls_and_can_verify_it() -> Result<()> {
    let papers = Papers::new()?;
    let database = TempPostgres::fresh_database()?;
    database.run(TABLES)?;
    let mut site = Site::new(&database, POLICY)?;
    offer_tls_to_clients(&mut site, &papers)?;
    site.apply()?;
    let proxy = site.serve()?;
    let verified = proxy
        .target("app")
        .with("sslmode", "verify-full")
        .with("sslrootcert", &papers.ca_file.to_string_lossy());
    let said = verified.psql("INSERT INTO people VALUES (1, 'a', 1); SELECT email FROM people")?;
    ensure!(said == "INSERT 0 1\na", "{said}");
    ensure!(
        proxy
            .target("app")
            .with("sslmode", "disable")
            .psql("SELECT 1")?
            == "1"
    );
    Ok(())
}

#[test]
fn clients_without_tls_are_turned_away_when_it_is_required() -> Result<()> {
    let papers = Papers::new()?;
    let database = TempPostgres::fresh_database()?;
    let mut site = Site::new(&database, "")?;
    offer_tls_to_clients(&mut site, &papers)?;
    site.set("client_tls", "required", "true")?;
    site.apply()?;
    let proxy = site.serve()?;
    let plain = proxy
        .target("app")
        .with("sslmode", "disable")
        .psql("SELECT 1")?;
    ensure!(
        plain.contains("FATAL") || plain.contains("TLS") || plain.contains("SSL"),
        "{plain}"
    );
    ensure!(
        proxy
            .target("app")
            .with("sslmode", "require")
            .psql("SELECT 1")?
            == "1"
    );
    Ok(())
}

#[test]
fn bytes_that_come_before_the_handshake_are_refused() -> Result<()> {
    let papers = Papers::new()?;
    let database = TempPostgres::fresh_database()?;
    let mut site = Site::new(&database, "")?;
    offer_tls_to_clients(&mut site, &papers)?;
    site.apply()?;
    let proxy = site.serve()?;
    let mut wire = Wire::open(proxy.port())?;
    let mut bytes = startup(80_877_103, &[]);
    bytes.extend(startup(PROTOCOL_3_0, &[("user", "app")]));
    wire.send_raw(&bytes)?;
    let said = wire.rest();
    let authentication = b"R\0\0\0";
    ensure!(
        !said.windows(4).any(|bytes| bytes == authentication),
        "{said:?}"
    );
    Ok(())
}

/// Gives a further site of a keystore the root key of the first one.
fn share_root_key(site: &Site<'_>, first: &mut Option<Vec<u8>>) -> Result<()> {
    let file = site.etc().join("root.key");
    match first {
        None => *first = Some(std::fs::read(file)?),
        Some(key) => std::fs::write(file, key)?,
    }
    Ok(())
}

#[test]
fn the_leg_to_postgres_is_verified_as_told() -> Result<()> {
    let (papers, other) = (Papers::new()?, Papers::new()?);
    let server = TempPostgres::start(&Options::default().tls(papers.certificate.clone()))?;
    let database = server.database()?;
    database.run(TABLES)?;
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let mut root_key = None;
    for (mode, ca_file, wanted) in [
        ("disable", None, "f"),
        ("prefer", None, "t"),
        ("require", None, "t"),
        ("verify-ca", Some(&papers.ca_file), "t"),
        ("verify-full", Some(&papers.ca_file), "t"),
    ] {
        let mut site = Site::new(&database, POLICY)?;
        share_root_key(&site, &mut root_key)?;
        site.set("upstream", "tls", &format!("\"{mode}\""))?;
        if let Some(ca_file) = ca_file {
            site.set("upstream", "ca_file", &quoted(ca_file))?;
        }
        if mode == "disable" {
            site.apply()?;
        }
        let said = site.serve()?.psql("app", encrypted)?;
        ensure!(said == wanted, "{mode}: {said}");
    }
    let mut site = Site::new(&database, POLICY)?;
    share_root_key(&site, &mut root_key)?;
    site.set("upstream", "tls", "\"verify-full\"")?;
    site.set("upstream", "ca_file", &quoted(&other.ca_file))?;
    let wrong_ca = site.serve().and_then(|proxy| proxy.psql("app", encrypted));
    ensure!(
        !wrong_ca.is_ok_and(|said| said == "t"),
        "a server signed by somebody else was trusted"
    );
    Ok(())
}

#[test]
fn scram_works_with_tls_on_either_leg() -> Result<()> {
    let papers = Papers::new()?;
    let server = TempPostgres::start(
        &Options::default()
            .auth(Auth::Scram)
            .tls(papers.certificate.clone()),
    )?;
    let database = server.database()?;
    database.run(TABLES)?;
    let mut root_key = None;
    for (upstream, to_clients) in [("require", false), ("disable", true)] {
        let mut site = Site::new(&database, POLICY)?;
        share_root_key(&site, &mut root_key)?;
        site.set("upstream", "tls", &format!("\"{upstream}\""))?;
        if to_clients {
            offer_tls_to_clients(&mut site, &papers)?;
        }
        site.apply()?;
        let proxy = site.serve()?;
        let mode = if to_clients { "require" } else { "disable" };
        let said = proxy
            .target("app")
            .with("sslmode", mode)
            .psql("SELECT current_user")?;
        ensure!(said == "app", "upstream {upstream}: {said}");
    }
    Ok(())
}

#[test]
fn scram_with_tls_on_both_legs_works_or_says_clearly_that_it_cannot() -> Result<()> {
    let papers = Papers::new()?;
    let server = TempPostgres::start(
        &Options::default()
            .auth(Auth::Scram)
            .tls(papers.certificate.clone()),
    )?;
    let database = server.database()?;
    let mut site = Site::new(&database, "")?;
    site.set("upstream", "tls", "\"require\"")?;
    offer_tls_to_clients(&mut site, &papers)?;
    site.apply()?;
    let proxy = match site.serve() {
        Ok(proxy) => proxy,
        Err(refused) => {
            ensure!(format!("{refused:#}").contains("SCRAM"), "{refused:#}");
            return Ok(());
        }
    };
    let said = proxy
        .target("app")
        .with("sslmode", "require")
        .psql("SELECT current_user")?;
    ensure!(said == "app" || said.contains("SCRAM"), "{said}");
    ensure!(!said.contains("channel binding check failed"), "{said}");
    Ok(())
}
