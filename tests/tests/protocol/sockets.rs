//! Several places to listen at, Unix sockets on both legs, TLS from the first byte, and peers that vanish.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use pgveil_tests::{
    postgres::{Auth, Options, TempPostgres},
    proxy::Proxy,
    psql::Target,
    site::Site,
    wire::Wire,
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

/// Local and remote port of each TCP connection that the proxy holds, and whether the kernel asks the peer, within about a
/// minute, if it is still there.
fn connections(proxy: &Proxy) -> Result<Vec<(u16, u16, bool)>> {
    let process = format!("/proc/{}", proxy.process().pid());
    let mut held = Vec::new();
    for file in fs::read_dir(format!("{process}/fd"))? {
        // It may be closed by now.
        let name = fs::read_link(file?.path()).unwrap_or_default();
        held.push(name.to_string_lossy().into_owned());
    }
    let table = fs::read_to_string(format!("{process}/net/tcp"))?;
    let port = |address: &str| -> Result<u16> {
        let (_, port) = address.split_once(':').context("an address")?;
        Ok(u16::from_str_radix(port, 16)?)
    };
    let mut found = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, state, _, timer, _, _, _, inode, ..] = fields[..] else {
            continue;
        };
        let established = state == "01" && held.contains(&format!("socket:[{inode}]"));
        if established {
            let (kind, hundredths) = timer.split_once(':').context("a timer")?;
            let asks = kind == "02" && u64::from_str_radix(hundredths, 16)? <= 61 * 100;
            found.push((port(local)?, port(remote)?, asks));
        }
    }
    Ok(found)
}

#[test]
fn peers_on_both_legs_are_asked_whether_they_live() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(TABLES)?;
    let (_site, proxy) = Proxy::start(&database, POLICY)?;
    let mut wire = Wire::connect(&proxy.target("app"))?;
    wire.query("SELECT email FROM people")?;
    let server = database.server().port();
    // While what was sent last is not acknowledged, another timer runs.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let found = connections(&proxy)?;
        let client = found
            .iter()
            .any(|(local, _, asks)| *local == proxy.port() && *asks);
        let upstream = found
            .iter()
            .any(|(_, remote, asks)| *remote == server && *asks);
        if client && upstream {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{found:?}");
    }
}
