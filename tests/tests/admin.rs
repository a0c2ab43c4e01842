//! What pgveil says of itself over HTTP.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pgveil_tests::{postgres::TempPostgres, site::Site};

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
    ensure!(proxy.http("/healthz")? == ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
    // The first look at the KEKs is under way.
    let deadline = Instant::now() + Duration::from_secs(20);
    let (status, ready) = loop {
        let answer = proxy.http("/readyz")?;
        if answer.1.contains("\"state\"") || Instant::now() > deadline {
            break answer;
        }
    };
    ensure!(status == "HTTP/1.1 200 OK", "{status} {ready}");
    let ready: serde_json::Value = serde_json::from_str(&ready)?;
    ensure!(
        ready["ready"] == true && ready["keystore"] == true && ready["degraded"] == false,
        "{ready}"
    );
    ensure!(ready["keys"][0]["provider"] == "main", "{ready}");
    let (status, metrics) = proxy.http("/metrics")?;
    ensure!(status == "HTTP/1.1 200 OK", "{status}");
    for line in [
        "# TYPE pgveil_keys_held gauge",
        "pgveil_keys_held 2",
        "pgveil_keys_stale_uses_total 0",
        "pgveil_degraded 0",
        "pgveil_audit_log_stands 1",
        "pgveil_provider_up{provider=\"main\"} 1",
        "pgveil_provider_requests_total{provider=\"main\",verb=\"wrap\"} 1",
        "pgveil_provider_requests_total{provider=\"main\",verb=\"unwrap\"} 1",
        "pgveil_provider_failures_total{provider=\"main\"} 0",
        "pgveil_kek_up{provider=\"main\",key=\"platform\"} 1",
    ] {
        ensure!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
    ensure!(!metrics.contains("secretive") && !ready.to_string().contains("secretive"));
    ensure!(proxy.http("/v1/keys")?.0.contains("404"));
    Ok(())
}
