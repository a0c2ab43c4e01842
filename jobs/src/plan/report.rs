//! The plan as a person reads it. Says nothing that the plan does not hold.

use std::fmt::{self, Display, Formatter};

use pgveil_policy::ruleset::Step;

use super::{ChangePlan, IndexStep, Obstacle, PlanReport, SchemaStep, TablePlan};
use crate::sql;

impl Display for PlanReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_nothing_to_do() {
            return write!(
                f,
                "Nothing to do: database {} is as the policy wants it.",
                self.database
            );
        }
        writeln!(f, "Plan for database {}\n", self.database)?;
        schema(self.schema, f)?;
        self.tables.iter().try_for_each(|one| table(one, f))?;
        self.changes.iter().try_for_each(|one| change(one, f))?;
        for finding in &self.findings {
            writeln!(f, "  ! {finding}\n")?;
        }
        self.warnings
            .iter()
            .try_for_each(|warning| writeln!(f, "  ? {warning}\n"))?;
        summary(self, f)
    }
}

fn schema(step: SchemaStep, f: &mut Formatter<'_>) -> fmt::Result {
    match step {
        SchemaStep::UpToDate => Ok(()),
        SchemaStep::Install { version } => writeln!(f, "  + schema pgveil (version {version})\n"),
        SchemaStep::Upgrade { from, to } => {
            writeln!(f, "  ~ schema pgveil (version {from} to {to})\n")
        }
    }
}

fn table(table: &TablePlan, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "  ~ table {}", table.shown())?;
    if table.columns.is_empty() {
        writeln!(f, "  (not rewritten)")?;
    } else {
        writeln!(
            f,
            "  ({}, {}; rewritten under an exclusive lock)",
            rows(table.rows),
            bytes(table.bytes)
        )?;
    }
    let width = table
        .columns
        .iter()
        .map(|c| sql::shown(&c.name).chars().count())
        .max()
        .unwrap_or(0);
    for column in &table.columns {
        let searches = if column.equality {
            ", searched by equality"
        } else {
            ""
        };
        let (name, to) = (sql::shown(&column.name), column.to.domain());
        write!(
            f,
            "      ~ column {name:width$}  {} -> pgveil.{to}",
            column.from_name
        )?;
        let read_as = column.to.sql_name();
        let note = if read_as == column.from_name {
            String::new()
        } else {
            format!(", read as {read_as}")
        };
        writeln!(f, "  (sealed{searches}{note})")?;
    }
    table.indexes.iter().try_for_each(|step| index(step, f))?;
    table
        .obstacles
        .iter()
        .try_for_each(|one| obstacle(one, f))?;
    writeln!(f)
}

/// What becomes of values that are sealed already, while the column is used.
fn change(change: &ChangePlan, f: &mut Formatter<'_>) -> fmt::Result {
    let (what, how) = match &change.wanted.step {
        Step::AddTerms { .. } => ("gets search terms".to_owned(), "each value is written anew"),
        Step::DropTerms => {
            let what = "loses its search terms: comparing stops first";
            (what.to_owned(), "each value is written anew")
        }
        Step::Widen { from, to } if from == to => {
            (format!("stays {to}"), "no value is written anew")
        }
        Step::Widen { from, to } => (format!("{from} -> {to}"), "no value is written anew"),
        Step::Narrow { from, to } => (format!("{from} -> {to}"), "each value is looked at first"),
    };
    writeln!(
        f,
        "  ~ column {}  {what}  ({}, {}; {how}, while the table is used)",
        change.shown(),
        rows(change.table.rows),
        bytes(change.table.bytes)
    )?;
    change.indexes.iter().try_for_each(|step| index(step, f))?;
    let obstacles = change.table.obstacles.iter().chain(&change.obstacles);
    { obstacles }.try_for_each(|one| obstacle(one, f))?;
    writeln!(f)
}

fn obstacle(obstacle: &Obstacle, f: &mut Formatter<'_>) -> fmt::Result {
    let weight = if obstacle.blocks {
        ": BLOCKS apply"
    } else {
        ""
    };
    let sign = if obstacle.blocks { '!' } else { '?' };
    writeln!(
        f,
        "      {sign} {}{weight}\n          cure: {}",
        obstacle.what, obstacle.cure
    )
}

fn index(step: &IndexStep, f: &mut Formatter<'_>) -> fmt::Result {
    let sign = match (&step.drop, &step.create) {
        (Some(_), Some(_)) => '~',
        (None, _) => '+',
        (Some(_), None) => '-',
    };
    writeln!(
        f,
        "      {sign} index {}  {}",
        sql::shown(&step.name),
        step.summary
    )
}

fn summary(plan: &PlanReport, f: &mut Formatter<'_>) -> fmt::Result {
    let columns: usize = plan.tables.iter().map(|t| t.columns.len()).sum();
    let indexes = plan.tables.iter().map(|t| t.indexes.len());
    let indexes: usize = indexes
        .chain(plan.changes.iter().map(|c| c.indexes.len()))
        .sum();
    let of_tables = plan.tables.iter().flat_map(|t| &t.obstacles);
    let of_changes = plan.changes.iter();
    let of_changes = of_changes.flat_map(|c| c.table.obstacles.iter().chain(&c.obstacles));
    let obstacles = of_tables.chain(of_changes);
    let (blocking, warnings) =
        obstacles.fold((plan.findings.len(), plan.warnings.len()), |(b, w), o| {
            if o.blocks { (b + 1, w) } else { (b, w + 1) }
        });
    write!(
        f,
        "{} to seal, {} to change",
        counted(columns, "column"),
        counted(indexes, "index")
    )?;
    if !plan.changes.is_empty() {
        write!(
            f,
            ", {} of sealed values",
            counted(plan.changes.len(), "change")
        )?;
    }
    if warnings > 0 {
        write!(f, ", {}", counted(warnings, "warning"))?;
    }
    match blocking {
        0 => write!(f, "."),
        1 => write!(f, ". One thing blocks apply."),
        several => write!(f, ". {several} things block apply."),
    }
}

/// `1 column`, `2 columns`, `2 indexes`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    match (count, what) {
        (1, _) => format!("1 {what}"),
        (_, "index") => format!("{count} indexes"),
        _ => format!("{count} {what}s"),
    }
}

fn rows(estimate: Option<u64>) -> String {
    match estimate {
        None => "rows not counted yet".to_owned(),
        Some(0) => "empty or nearly so".to_owned(),
        Some(1) => "about 1 row".to_owned(),
        Some(rows) => format!("about {} rows", grouped(rows)),
    }
}

/// `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn bytes(count: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.0} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use pgveil_config::SearchKey;
    use pgveil_policy::{template::ScopeTemplate, types::LogicalType};

    use super::*;
    use crate::plan::{ColumnPlan, Obstacle};

    fn column(
        name: &str,
        from_name: &str,
        from: LogicalType,
        to: LogicalType,
        equality: bool,
    ) -> ColumnPlan {
        ColumnPlan {
            attnum: 2,
            name: name.into(),
            from_name: from_name.into(),
            from,
            to,
            equality,
            search_key: SearchKey::Scope,
            equality_group: None,
        }
    }

    fn customers() -> TablePlan {
        TablePlan {
            oid: 1,
            schema: "public".into(),
            name: "customers".into(),
            rows: Some(5000),
            bytes: 1_300_000,
            primary_key: vec!["id".into()],
            other_columns: vec!["id".into()],
            scope: ScopeTemplate { parts: Vec::new() },
            columns: vec![
                column("email", "text", LogicalType::Text, LogicalType::Text, true),
                column(
                    "ssn",
                    "text",
                    LogicalType::Text,
                    LogicalType::Varchar(Some(11)),
                    false,
                ),
            ],
            only_at_once: Vec::new(),
            indexes: vec![IndexStep {
                online: None,
                name: "customers_email_key".into(),
                drop: Some(String::new()),
                create: Some(String::new()),
                summary: "UNIQUE (pgveil.eq_term(email))".into(),
            }],
            obstacles: vec![Obstacle {
                blocks: true,
                what: "view v shows email".into(),
                cure: "DROP VIEW v;".into(),
            }],
        }
    }

    #[test]
    fn reads_like_a_plan() {
        let plan = PlanReport {
            database: "app".into(),
            schema: SchemaStep::Install { version: 3 },
            tables: vec![customers()],
            ..PlanReport::default()
        };
        let expected = "\
Plan for database app

  + schema pgveil (version 3)

  ~ table public.customers  (about 5,000 rows, 1 MB; rewritten under an exclusive lock)
      ~ column email  text -> pgveil.sealed_text  (sealed, searched by equality)
      ~ column ssn    text -> pgveil.sealed_varchar  (sealed, read as character varying(11))
      ~ index customers_email_key  UNIQUE (pgveil.eq_term(email))
      ! view v shows email: BLOCKS apply
          cure: DROP VIEW v;

2 columns to seal, 1 index to change. One thing blocks apply.";
        assert_eq!(plan.to_string(), expected);
        assert!(plan.is_blocked());
    }

    #[test]
    fn says_when_there_is_nothing_to_do() {
        let plan = PlanReport {
            database: "app".into(),
            ..PlanReport::default()
        };
        assert!(plan.is_nothing_to_do() && !plan.is_blocked());
        assert_eq!(
            plan.to_string(),
            "Nothing to do: database app is as the policy wants it."
        );
    }

    #[test]
    fn groups_digits() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
