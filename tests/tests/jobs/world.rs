//! A site whose jobs run at full speed, and what its tables hold by their headers. It runs no job.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pgveil_keys::audit::Operation;
use pgveil_tests::{postgres::Database, proxy::Proxy, site::Site};
use serde_json::Value;

use crate::token::token;

/// How long something may take to come to hold.
const LIMIT: Duration = Duration::from_mins(1);

/// Jobs at full speed, and keys that are let go of within a second.
pub(crate) fn quick<'a>(database: &Database<'a>, policy: &str) -> Result<Site<'a>> {
    let mut site = Site::new(database, policy)?;
    site.set("cache", "ttl", "\"1s\"")?;
    site.set("reencrypt", "interval", "\"0s\"")?;
    Ok(site)
}

/// `pgveil rotate`, with the job's number if there is one.
pub(crate) fn rotate(site: &Site<'_>, scope: &str, args: &[&str]) -> Result<Value> {
    let right = token(site, Operation::DekRotate, scope)?;
    let all = [&[scope, "--json", "--token", &right], args].concat();
    json(&site.command("rotate", &all)?.ok()?)
}

pub(crate) fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| text.to_owned())
}

/// Until a process has heard that a scope is sealed, whose value a statement asks for: a worker that has not may still write what
/// it finds, as is its right.
pub(crate) fn has_heard(proxy: &Proxy, sql: &str) -> Result<()> {
    let said = until(|| Ok(proxy.psql("app", sql)?.contains("is sealed").then_some(())));
    said.with_context(|| format!("the process hears of a seal: {sql}"))
}

/// The job as `pgveil jobs show` tells of it.
pub(crate) fn shown(site: &Site<'_>, job: &Value) -> Result<Value> {
    json(
        &site
            .command("jobs", &["show", &job.to_string(), "--json"])?
            .ok()?,
    )
}

/// The job once it is in a state, or has ended in another.
pub(crate) fn once(site: &Site<'_>, job: &Value, state: &str) -> Result<Value> {
    let in_time = until(|| {
        let shown = shown(site, job)?;
        let ended = ["completed", "failed", "expired", "cancelled"];
        let now = shown["state"].as_str().unwrap_or_default();
        Ok((now == state || ended.contains(&now)).then_some(shown))
    });
    let shown_job =
        in_time.with_context(|| format!("{:#}", shown(site, job).unwrap_or_default()))?;
    if shown_job["state"] != state {
        bail!("not {state}: {shown_job:#}");
    }
    Ok(shown_job)
}

/// What comes to be in time.
pub(crate) fn until<T>(mut is: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let limit = Instant::now() + LIMIT;
    while Instant::now() < limit {
        if let Some(found) = is()? {
            return Ok(found);
        }
    }
    bail!("it did not come to hold in time")
}

/// Values of a column by the scope and epoch of the key that their headers name: `tenant:acme 2: 10`.
pub(crate) fn epochs(database: &Database<'_>, table: &str, column: &str) -> Result<String> {
    database.admin(&format!(
        "SELECT string_agg(line, ', ' ORDER BY line) FROM (SELECT k.scope || ' ' || k.epoch || ': ' || count(*) AS line \
         FROM {table} t LEFT JOIN pgveil.keys k ON int8send(k.id) = substr(t.{column}::bytea, 9, 8) \
         WHERE t.{column} IS NOT NULL GROUP BY k.scope, k.epoch) lines"
    ))
}
