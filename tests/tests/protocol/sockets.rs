//! Several places to listen at, Unix sockets on both legs, and TLS from the first byte.

use anyhow::{Result, ensure};
use pgveil_tests::{
    postgres::{Auth, Options, TempPostgres},
    psql::Target,
    site::Site,
};

use crate::{
    POLICY, TABLES,
    papers::{Papers, quoted},
};

#[test]
fn both_legs_may_be_unix_sockets() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(TABLES)?;
    let server = database.server();
    let mut site = Site::new(&database, POLICY)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join(".s.PGSQL.6432");
    // What a killed proxy leaves behind is in nobody's way.
    drop(std::os::unix::net::UnixListener::bind(&file)?);
    let listen = format!("\"127.0.0.1:0, unix:{}\"", file.display());
    site.set("", "listen", &listen)?;
    let socket = server
        .socket_dir()
        .join(format!(".s.PGSQL.{}", server.port()));
    site.set(
        "upstream",
        "address",
        &format!("\"unix:{}\"", socket.display()),
    )?;
    site.set("upstream", "tls", "\"prefer\"")?;
    site.apply()?;
    let checked = site.command("check", &[])?;
    ensure!(checked.code == Some(0), "{checked:?}");
    let proxy = site.serve()?;
    let on_socket = Target {
        port: 6432,
        ..proxy.target("app")
    }
    .with("host", &folder.path().to_string_lossy());
    let said = on_socket.psql(
        "INSERT INTO people VALUES (1, 'a', 1); SELECT email FROM people WHERE email = 'a'",
    )?;
    ensure!(said == "INSERT 0 1\na", "{said}");
    ensure!(proxy.psql("app", "SELECT email FROM people")? == "a");
    let plain = proxy.psql("app", "SELECT inet_client_addr() IS NULL")?;
    ensure!(plain == "t", "the server was not reached by its socket");
    Ok(())
}

#[test]
fn the_leg_to_postgres_may_begin_with_tls() -> Result<()> {
    let papers = Papers::new()?;
    let server = TempPostgres::start(
        &Options::default()
            .auth(Auth::Scram)
            .tls(papers.certificate.clone()),
    )?;
    let database = server.database()?;
    database.run(TABLES)?;
    let mut site = Site::new(&database, POLICY)?;
    site.apply()?;
    site.set("upstream", "tls", "\"verify-full\"")?;
    site.set("upstream", "ca_file", &quoted(&papers.ca_file))?;
    site.set("upstream", "tls_negotiation", "\"direct\"")?;
    let proxy = site.serve()?;
    let said = proxy.psql(
        "app",
        "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    )?;
    let release = server.admin("postgres", "SHOW server_version_num")?;
    if release.parse::<u32>()? >= 170_000 {
        ensure!(said == "t", "{said}");
    } else {
        ensure!(said.contains("cannot be protected"), "{said}");
    }
    Ok(())
}
