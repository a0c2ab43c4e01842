//! `pgveil explain`: how a statement would be rewritten, and why. Nothing is executed.

use std::{fmt::Write, path::Path, process::ExitCode};

use pgveil_policy::{
    Plan, Refusal,
    analysis::{Protocol, SessionView},
    plan::{Field, Make, Output},
    types::FormatSettings,
};

use crate::app;

/// Prints the rewritten statement with placeholders for what would be sealed.
///
/// # Errors
/// If the configuration cannot be used.
pub async fn run(
    config: &Path,
    sql: &str,
    prepared: bool,
    search_path: &[String],
) -> anyhow::Result<ExitCode> {
    let built = app::build(config).await?;
    let engine = built.engine().await?;
    let rules = engine.rules();
    let mut schemas = vec!["pg_catalog".to_owned()];
    schemas.extend(search_path.iter().map(|s| s.trim().to_owned()));
    let view = SessionView {
        schemas,
        relations: Vec::new(),
        readable_text: true,
        format: FormatSettings::default(),
    };
    let scan = rules.set.scan(sql.as_bytes());
    if !scan.protected {
        println!(
            "relayed as it is: no word of it names a protected table, or a view or function that depends on one"
        );
        return Ok(ExitCode::SUCCESS);
    }
    let protocol = if prepared {
        Protocol::Extended
    } else {
        Protocol::Simple
    };
    match rules.set.analyse(sql, &view, protocol, &[]) {
        Ok(plan) => {
            print!("{}", describe(&plan, sql, protocol, &rules.set));
            let refused = plan.statements.iter().find_map(|s| s.refused.as_ref());
            if let Some(refusal) = refused {
                return Ok(refuse(refusal));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(refusal) => Ok(refuse(&refusal)),
    }
}

fn refuse(refusal: &Refusal) -> ExitCode {
    eprintln!("refused with {}: {}", refusal.sqlstate, refusal.message);
    if let Some(detail) = &refusal.detail {
        eprintln!("  because: {detail}");
    }
    if let Some(hint) = &refusal.hint {
        eprintln!("  cure: {hint}");
    }
    eprintln!("  see docs/errors.md#{}", refusal.anchor);
    ExitCode::from(1)
}

/// The rewritten statement as text, what its slots hold, what its result shows, and why.
pub fn describe(
    plan: &Plan,
    sql: &str,
    protocol: Protocol,
    rules: &pgveil_policy::Ruleset,
) -> String {
    let mut out = String::new();
    let text = plan.splice(sql, &mut |slot, out| {
        let column = rules
            .columns
            .get(&plan.slots[slot].column)
            .map_or("?", |c| c.name.as_str());
        let what = match plan.slots[slot].make {
            Make::Seal | Make::SealBare => "sealed",
            Make::EqualityTerm => "equality term",
            Make::EqualityTerms => "equality terms",
            Make::SealElements => "sealed elements",
            Make::SealPerScope => "sealed per scope",
            Make::SealElementsPerScope => "sealed elements per scope",
            Make::SealFetched => "sealed per row",
            Make::SealMembers => "document with sealed members",
        };
        let _ = write!(out, "<{what} for {column}>");
    });
    let _ = writeln!(out, "{}", text.text);
    if protocol == Protocol::Extended {
        for (index, param) in plan.server_params.iter().enumerate() {
            let _ = match param {
                pgveil_policy::plan::ServerParam::Client(n) => {
                    writeln!(out, "  ${}: your ${}, unchanged", index + 1, n + 1)
                }
                pgveil_policy::plan::ServerParam::Slot(n) => {
                    let slot = &plan.slots[*n];
                    let column = rules
                        .columns
                        .get(&slot.column)
                        .map_or("?", |c| c.name.as_str());
                    writeln!(
                        out,
                        "  ${}: {:?} for {column}, made at each Bind",
                        index + 1,
                        slot.make
                    )
                }
            };
        }
    }
    for statement in &plan.statements {
        if let Output::Fields(fields) = &statement.output {
            for (index, field) in fields.iter().enumerate() {
                let number = index + 1;
                let _ = match field {
                    Field::Plain => Ok(()),
                    Field::Sealed { shown, .. } => {
                        writeln!(out, "  result column {number}: opened, shown as {shown}")
                    }
                    Field::Holder(_) => {
                        writeln!(out, "  result column {number}: values inside it are opened")
                    }
                };
            }
        }
    }
    for note in &plan.notes {
        let _ = writeln!(out, "  {note}");
    }
    out
}
