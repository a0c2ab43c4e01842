//! What pgveil says of itself over HTTP.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use pgveil_tests::{postgres::TempPostgres, proxy::Proxy, site::Site};

/// Status line and body.
fn get(proxy: &Proxy, path: &str) -> Result<(String, String)> {
    let log = proxy.log();
    let address = { log.lines() }
        .filter(|line| line.contains("health and metrics over HTTP"))
        .find_map(|line| line.split("address=").nth(1))
        .with_context(|| log.clone())?;
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: pgveil\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    let status = head.lines().next().unwrap_or_default();
    Ok((status.to_owned(), body.to_owned()))
}

#[test]
fn health_is_told_and_shows_no_value() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run("CREATE TABLE notes (id int PRIMARY KEY, body text)")?;
    let mut site = Site::new(
        &database,
        r#"public.notes  scope = "tenant:secretive"  body: text"#,
    )?;
    site.set("admin", "listen", "\"127.0.0.1:0\"")?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql("app", "INSERT INTO notes VALUES (1, 'hush')")?;
    ensure!(get(&proxy, "/healthz")? == ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
    // The first look at the KEKs is under way.
    let deadline = Instant::now() + Duration::from_secs(20);
    let (status, ready) = loop {
        let answer = get(&proxy, "/readyz")?;
        if answer.1.contains("\"state\"") || Instant::now() > deadline {
            break answer;
        }
    };
    ensure!(status == "HTTP/1.1 200 OK", "{status} {ready}");
    let ready: serde_json::Value = serde_json::from_str(&ready)?;
    ensure!(
        ready["ready"] == true && ready["keystore"] == true,
        "{ready}"
    );
    ensure!(ready["keys"][0]["provider"] == "main", "{ready}");
    let (status, metrics) = get(&proxy, "/metrics")?;
    ensure!(status == "HTTP/1.1 200 OK", "{status}");
    for line in [
        "# TYPE pgveil_keys_held gauge",
        "pgveil_keys_held 2",
        "pgveil_keys_stale_uses_total 0",
        "pgveil_provider_up{provider=\"main\"} 1",
        "pgveil_kek_up{provider=\"main\",key=\"platform\"} 1",
    ] {
        ensure!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
    ensure!(!metrics.contains("secretive") && !ready.to_string().contains("secretive"));
    ensure!(get(&proxy, "/v1/keys")?.0.contains("404"));
    Ok(())
}
