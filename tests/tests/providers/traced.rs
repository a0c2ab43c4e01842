//! Spans that `pgveil serve` sends to a collector: what a statement waits for, and nothing of what it says.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use pgveil_tests::{postgres::TempPostgres, site::Site};
use serde_json::{Value, json};

use crate::fault::{Fault, Reply};

const LIMIT: Duration = Duration::from_mins(1);

/// Attributes by name, as text.
fn attributes(span: &Value) -> BTreeMap<String, String> {
    let all = span["attributes"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| {
        ["stringValue", "intValue"]
            .iter()
            .find_map(|kind| value[*kind].as_str())
            .map_or_else(|| value["boolValue"].to_string(), str::to_owned)
    };
    let named = |found: &Value| {
        let name = found["key"].as_str().unwrap_or_default().to_owned();
        (name, text(&found["value"]))
    };
    all.iter().map(named).collect()
}

fn spans(body: &Value) -> Vec<Value> {
    let all = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array();
    all.cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_statement_waits_for_is_sent_to_the_collector() -> Result<()> {
    let heard: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
    let hears = Arc::clone(&heard);
    let collector = Fault::plain(move |request| {
        let body = serde_json::from_slice(&request.body).unwrap_or_default();
        if let Ok(mut heard) = hears.lock() {
            heard.push((format!("{} {}", request.method, request.path), body));
        }
        Reply::json(200, &json!({}))
    })
    .await?;
    tokio::task::block_in_place(|| {
        let database = TempPostgres::fresh_database()?;
        database.run("CREATE TABLE notes (id int PRIMARY KEY, body text)")?;
        let mut site = Site::new(
            &database,
            r#"public.notes  scope = "tenant:acme"  body: text"#,
        )?;
        site.set("traces", "endpoint", &format!("{:?}", collector.address))?;
        // The logs' level says nothing of spans.
        site.set("log", "level", "\"error\"")?;
        site.apply()?;
        let proxy = site.serve()?;
        proxy.psql("app", "INSERT INTO notes VALUES (1, 'hush')")?;
        let deadline = Instant::now() + LIMIT;
        let found = loop {
            let all: Vec<Value> = { heard.lock().map_err(|error| anyhow::anyhow!("{error}"))? }
                .iter()
                .flat_map(|(_, body)| spans(body))
                .collect();
            let loads = all.iter().any(|span| span["name"] == "key.load");
            if loads && all.iter().any(|span| span["name"] == "kek.probe") {
                break all;
            }
            let ended = proxy.process().wait_for_end(Duration::from_millis(50));
            ensure!(
                !ended && Instant::now() < deadline,
                "{all:#?}\n{}",
                proxy.log()
            );
        };
        let load = { found.iter() }
            .find(|span| span["name"] == "key.load")
            .cloned()
            .unwrap_or_default();
        let said = attributes(&load);
        ensure!(
            said.get("scope")
                .is_some_and(|scope| scope == "tenant:acme")
                && said.get("to").is_some_and(|to| to == "seal"),
            "{load:#}"
        );
        let under: Vec<&Value> = { found.iter() }
            .filter(|span| {
                span["parentSpanId"] == load["spanId"] && span["traceId"] == load["traceId"]
            })
            .collect();
        for operation in ["wrap", "unwrap"] {
            let request = under.iter().find(|span| {
                span["name"] == "provider.request"
                    && attributes(span).get("operation").map(String::as_str) == Some(operation)
            });
            ensure!(request.is_some_and(|span| span["kind"] == 3), "{under:#?}");
        }
        ensure!(
            under.iter().any(|span| span["name"] == "keystore.query"),
            "{under:#?}"
        );
        for span in &found {
            let nanoseconds = |name: &str| -> Result<u128> {
                Ok(span[name].as_str().unwrap_or_default().parse()?)
            };
            ensure!(
                nanoseconds("startTimeUnixNano")? <= nanoseconds("endTimeUnixNano")?,
                "{span:#}"
            );
            let ids = (
                span["traceId"].as_str().map(str::len),
                span["spanId"].as_str().map(str::len),
            );
            ensure!(ids == (Some(32), Some(16)), "{span:#}");
        }
        let heard = heard.lock().map_err(|error| anyhow::anyhow!("{error}"))?;
        for (asked, body) in heard.iter() {
            ensure!(asked == "POST /v1/traces", "{asked}");
            ensure!(!body.to_string().contains("hush"), "{body:#}");
            let service = &body["resourceSpans"][0]["resource"]["attributes"][0]["value"];
            ensure!(service["stringValue"] == "pgveil", "{body:#}");
        }
        ensure!(
            proxy.log().is_empty(),
            "spans show in the log: {}",
            proxy.log()
        );
        Ok(())
    })
}

#[test]
fn a_collector_that_is_away_is_told_of_once_and_stops_nobody() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run("CREATE TABLE notes (id int PRIMARY KEY, body text)")?;
    let mut site = Site::new(
        &database,
        r#"public.notes  scope = "tenant:acme"  body: text"#,
    )?;
    let nobody = pgveil_tests::postgres::free_port()?;
    site.set(
        "traces",
        "endpoint",
        &format!("\"http://127.0.0.1:{nobody}\""),
    )?;
    site.set("cache", "ttl", "\"1s\"")?;
    site.apply()?;
    let proxy = site.serve()?;
    let words = "spans cannot be sent";
    let deadline = Instant::now() + LIMIT;
    let mut id = 0;
    while !proxy.log().contains(words) || id < 20 {
        id += 1;
        let said = proxy.psql("app", &format!("INSERT INTO notes VALUES ({id}, 'x')"))?;
        ensure!(
            !said.contains("ERROR") && Instant::now() < deadline,
            "{said}\n{}",
            proxy.log()
        );
    }
    ensure!(proxy.log().matches(words).count() == 1, "{}", proxy.log());
    Ok(())
}
