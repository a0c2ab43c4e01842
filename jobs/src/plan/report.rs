//! The plan as a person reads it. Says nothing that the plan does not hold.

use std::fmt::{self, Display, Formatter};

use pgveil_policy::ruleset::{NewTerms, Step};

use super::{ChangePlan, Estimate, IndexStep, Obstacle, PlanReport, SchemaStep, TablePlan, Trace};
use crate::{
    apply::remains,
    migrate::{Migration, lasting},
    sql,
};

impl Display for PlanReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_nothing_to_do() {
            write!(
                f,
                "Nothing to do: database {} is as the policy wants it.",
                self.database
            )?;
            if self.migrations.is_empty() && self.traces.is_empty() {
                return Ok(());
            }
            writeln!(f, "\n")?;
            under_way(&self.migrations, f)?;
            return traces(&self.traces, f);
        }
        writeln!(f, "Plan for database {}\n", self.database)?;
        schema(self.schema, f)?;
        under_way(&self.migrations, f)?;
        for one in &self.tables {
            let estimate = self.estimates.iter().find(|guess| guess.oid == one.oid);
            table(one, estimate, f)?;
        }
        self.changes.iter().try_for_each(|one| change(one, f))?;
        for finding in &self.findings {
            writeln!(f, "  ! {finding}\n")?;
        }
        self.warnings
            .iter()
            .try_for_each(|warning| writeln!(f, "  ? {warning}\n"))?;
        traces(&self.traces, f)?;
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

/// What was begun and has not ended.
fn under_way(migrations: &[Migration], f: &mut Formatter<'_>) -> fmt::Result {
    { migrations.iter() }.try_for_each(|one| writeln!(f, "  > {one}\n"))
}

/// What to do about plaintext that a migration has left behind.
fn traces(traces: &[Trace], f: &mut Formatter<'_>) -> fmt::Result {
    for trace in traces {
        let (table, dead) = (&trace.table, trace.dead_rows.unsigned_abs());
        writeln!(
            f,
            "  ? {table} may hold plaintext from before {} in its pages ({}, {} dead rows)\n      \
             cure: VACUUM (FULL, ANALYZE) {table};   under a lock, and on every replica by its log; pg_repack does it without the lock",
            trace.dropped_at,
            bytes(trace.bytes),
            grouped(dead)
        )?;
    }
    if !traces.is_empty() {
        writeln!(f, "    and elsewhere:")?;
        { remains::ELSEWHERE.iter() }.try_for_each(|place| writeln!(f, "      - {place}"))?;
        writeln!(
            f,
            "      - pages of pg_statistic: VACUUM (FULL) pg_catalog.pg_statistic; as the owner of the database\n"
        )?;
    }
    Ok(())
}

/// What it takes, at once and online.
fn costs(table: &TablePlan, guess: &Estimate, f: &mut Formatter<'_>) -> fmt::Result {
    let size = |count: f64| bytes(count.max(0.0) as u64);
    writeln!(
        f,
        "      = {} of sealed values and {} of indexes on terms",
        size(guess.sealed),
        size(guess.indexes)
    )?;
    writeln!(
        f,
        "      = at once: locked for about {}, {} of disk more meanwhile",
        lasting(guess.at_once.0),
        size(guess.at_once.1)
    )?;
    if !table.only_at_once.is_empty() {
        return not_online(table, f);
    }
    writeln!(
        f,
        "      = online: locked for an instant, about {} of work at full speed, {} at the pace of [reencrypt], {} of disk more until the contract and VACUUM",
        lasting(guess.online.0),
        lasting(guess.paced),
        size(guess.online.1)
    )
}

fn not_online(table: &TablePlan, f: &mut Formatter<'_>) -> fmt::Result {
    let why = table.only_at_once.join("; ");
    writeln!(f, "      = not online: {why}")
}

fn table(table: &TablePlan, estimate: Option<&Estimate>, f: &mut Formatter<'_>) -> fmt::Result {
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
    match estimate {
        Some(estimate) => costs(table, estimate, f)?,
        None if table.columns.is_empty() || table.only_at_once.is_empty() => {}
        None => not_online(table, f)?,
    }
    table
        .obstacles
        .iter()
        .try_for_each(|one| obstacle(one, f))?;
    writeln!(f)
}

/// What becomes of values that are sealed already, while the column is used.
fn change(change: &ChangePlan, f: &mut Formatter<'_>) -> fmt::Result {
    let (what, how) = match &change.wanted.step {
        Step::AddTerms { .. } => (
            "gets search terms".to_owned(),
            "a job writes each value anew",
        ),
        Step::TurnTerms(new) => (turned(new), "a job writes each value anew, twice"),
        Step::DropTerms => {
            let what = "loses its search terms: comparing stops first";
            (what.to_owned(), "a job writes each value anew")
        }
        Step::Widen { from, to } if from == to => {
            (format!("stays {to}"), "no value is written anew")
        }
        Step::Widen { from, to } => (format!("{from} -> {to}"), "no value is written anew"),
        Step::Narrow { from, to } => (format!("{from} -> {to}"), "a job looks at each value first"),
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

fn turned(new: &NewTerms) -> String {
    let key = if new.shared_key {
        "the platform's key".to_owned()
    } else {
        format!("the keys of {}", new.scope)
    };
    let group = new.equality_group.as_ref();
    let group = group.map_or_else(String::new, |group| format!(", in group {group:?}"));
    format!("gets other search terms: of {key}{group}")
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
pub(super) mod tests {
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

    pub(in crate::plan) fn customers() -> TablePlan {
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
            schema: SchemaStep::Install { version: 4 },
            tables: vec![customers()],
            estimates: vec![Estimate {
                oid: 1,
                sealed: 800_000.0,
                indexes: 225_000.0,
                at_once: (0.2, 3_200_000.0),
                online: (2.0, 2_500_000.0),
                paced: 252.0,
            }],
            traces: vec![Trace {
                table: "public.people".into(),
                bytes: 2_000_000,
                dropped_at: "2026-11-22 10:00 UTC".into(),
                dead_rows: 3000,
            }],
            ..PlanReport::default()
        };
        let expected = "\
Plan for database app

  + schema pgveil (version 4)

  ~ table public.customers  (about 5,000 rows, 1 MB; rewritten under an exclusive lock)
      ~ column email  text -> pgveil.sealed_text  (sealed, searched by equality)
      ~ column ssn    text -> pgveil.sealed_varchar  (sealed, read as character varying(11))
      ~ index customers_email_key  UNIQUE (pgveil.eq_term(email))
      = 781 kB of sealed values and 220 kB of indexes on terms
      = at once: locked for about a moment, 3 MB of disk more meanwhile
      = online: locked for an instant, about 2 s of work at full speed, 4 min at the pace of [reencrypt], 2 MB of disk more until the contract and VACUUM
      ! view v shows email: BLOCKS apply
          cure: DROP VIEW v;

  ? public.people may hold plaintext from before 2026-11-22 10:00 UTC in its pages (2 MB, 3,000 dead rows)
      cure: VACUUM (FULL, ANALYZE) public.people;   under a lock, and on every replica by its log; pg_repack does it without the lock
    and elsewhere:
      - write-ahead log written until now, in pg_wal (also in recycled segments) and in WAL archives: CHECKPOINT; and let the archive's older segments expire
      - base backups, dumps, snapshots and replicas' WAL from before: replace them by new ones
      - logical subscribers and other copies of the table, which were not changed
      - the server's log and pg_stat_statements, if they hold statements with values: rotate the log, SELECT pg_stat_statements_reset();
      - disk blocks that the file system has freed and not overwritten
      - pages of pg_statistic: VACUUM (FULL) pg_catalog.pg_statistic; as the owner of the database

2 columns to seal, 1 index to change. One thing blocks apply.";
        assert_eq!(plan.to_string(), expected);
        assert!(plan.is_blocked());
    }

    #[test]
    fn says_what_cannot_be_migrated_online_of_a_table_that_was_never_counted_too() {
        let mut parted = customers();
        parted.only_at_once.push("it has partitions".into());
        let plan = PlanReport {
            tables: vec![parted],
            ..PlanReport::default()
        };
        let plan = plan.to_string();
        assert!(plan.contains("= not online: it has partitions"), "{plan}");
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
