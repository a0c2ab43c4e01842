//! The same SQL directly on plaintext and through pgveil: same columns, types, rows, tags and SQLSTATEs, or a refusal
//! where the table says so. Covers reading, equality in all its spellings, NULL, DISTINCT and GROUP BY, joins, set
//! operations, ORDER BY, writing, RETURNING, ON CONFLICT, and every format of parameters and results.

#[path = "differential/bulk.rs"]
mod bulk;
#[path = "differential/expressions.rs"]
mod expressions;
#[path = "differential/holding.rs"]
mod holding;
#[path = "differential/kinds.rs"]
mod kinds;
#[path = "differential/parameters.rs"]
mod parameters;
#[path = "differential/reading.rs"]
mod reading;
#[path = "differential/refusing.rs"]
mod refusing;
#[path = "support/registry.rs"]
mod registry;
#[path = "differential/schema.rs"]
mod schema;
#[path = "differential/scoping.rs"]
mod scoping;
#[path = "differential/sets.rs"]
mod sets;
#[path = "differential/tricky.rs"]
mod tricky;
#[path = "differential/writing.rs"]
mod writing;

use std::{
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};
use pgveil_policy::ruleset::{Change, RegisteredColumn};
use pgveil_tests::{
    postgres::TempPostgres,
    twin::{Case, Expect, Twin},
};

/// One pair of databases for all tables: every statement is rolled back.
fn twin() -> Result<&'static Twin<'static>> {
    static TWIN: OnceLock<Result<Twin<'static>, String>> = OnceLock::new();
    let made = TWIN.get_or_init(|| {
        TempPostgres::shared()
            .and_then(|server| Twin::new(server, schema::TABLES, schema::POLICY, schema::ROWS))
            .map_err(|error| format!("{error:#}"))
    });
    made.as_ref().map_err(|error| anyhow!("{error}"))
}

/// The same while the search terms of every column are being changed: each statement is right, or refused.
fn changing() -> Result<&'static Twin<'static>> {
    static TWIN: OnceLock<Result<Twin<'static>, String>> = OnceLock::new();
    let made = TWIN.get_or_init(|| {
        let made = TempPostgres::shared()
            .and_then(|server| Twin::new(server, schema::TABLES, schema::POLICY, schema::ROWS));
        let begun = made.and_then(|twin| {
            let changing = registry::change_all(&twin.veiled, &twin.site, |column| {
                let is_odd = column.id.0 % 2 == 1;
                column.equality.then(|| RegisteredColumn {
                    equality: is_odd,
                    change: Some(if is_odd {
                        Change::EndingTerms
                    } else {
                        Change::AddingTerms
                    }),
                    ..column.clone()
                })
            });
            tokio::runtime::Runtime::new()?.block_on(changing)?;
            follows(&twin)?;
            Ok(twin)
        });
        begun.map_err(|error| format!("{error:#}"))
    });
    made.as_ref().map_err(|error| anyhow!("{error}"))
}

/// Waits until the proxy goes by the registry.
fn follows(twin: &Twin<'_>) -> Result<()> {
    let search = "SELECT id FROM customers WHERE email = 'x'";
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if twin
            .proxy
            .psql("app", search)?
            .contains("has no equality terms")
        {
            return Ok(());
        }
    }
    bail!("the proxy does not follow the registry")
}

/// Every case of a table; all that differ are told at once.
fn check(expect: Expect, cases: &[Case<'_>]) -> Result<()> {
    // One table at a time: writers of the same rows would wait for each other, and in a ring for ever.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    let mut wrong = Vec::new();
    for (twin, expect) in [(twin()?, expect), (changing()?, Expect::Refused)] {
        let mut sessions = twin.sessions("app")?;
        for case in cases {
            wrong.extend(sessions.compare(case, expect)?);
        }
    }
    if !wrong.is_empty() {
        bail!(
            "{} of {} statements\n\n{}",
            wrong.len(),
            cases.len(),
            wrong.join("\n\n")
        );
    }
    Ok(())
}

fn same(statements: &[&str]) -> Result<()> {
    check(Expect::Same, &cases(statements))
}

fn refused(statements: &[&str]) -> Result<()> {
    check(Expect::Refused, &cases(statements))
}

fn same_with(statements: &[(&str, &[Option<&str>])]) -> Result<()> {
    let cases: Vec<Case<'_>> = statements
        .iter()
        .map(|(sql, params)| Case::with(sql, params))
        .collect();
    check(Expect::Same, &cases)
}

fn cases<'a>(statements: &[&'a str]) -> Vec<Case<'a>> {
    statements.iter().map(|sql| Case::new(sql)).collect()
}
