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
#[path = "differential/reading.rs"]
mod reading;
#[path = "differential/refusing.rs"]
mod refusing;
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

use std::sync::{Mutex, OnceLock};

use anyhow::{Result, anyhow, bail};
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

/// Every case of a table; all that differ are told at once.
fn check(expect: Expect, cases: &[Case<'_>]) -> Result<()> {
    // One table at a time: writers of the same rows would wait for each other, and in a ring for ever.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    let mut sessions = twin()?.sessions("app")?;
    let mut wrong = Vec::new();
    for case in cases {
        wrong.extend(sessions.compare(case, expect)?);
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
