//! Prints medians over rounds, and ratios of medians with the spread of the rounds' own ratios. It measures nothing.

use crate::{
    Measured, Table,
    pgbench::{Sample, median},
    stage::Stage,
};

/// Everything, on standard output.
pub(crate) fn print(stage: &Stage, tables: &[Table], measured: &Measured, how: &str) {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "PostgreSQL {}, {processors} processors, {how}; every round measures each in turn.",
        stage.version()
    );
    println!(
        "Medians over rounds; ratios are to the first column, in brackets the least and greatest of single rounds."
    );
    if stage.pgbouncer.is_none() {
        println!("pgbouncer is not installed: it is missing below.");
    }
    for (table, rows) in tables.iter().zip(measured) {
        let unit = if table.throughput {
            "transactions/s"
        } else {
            "microseconds"
        };
        println!("\n{} ({unit})", table.title);
        print_row(
            "",
            &table
                .columns
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        );
        for ((name, _), columns) in table.rows.iter().zip(rows) {
            print_row(name, &cells(columns, table.throughput));
        }
    }
}

fn print_row(name: &str, cells: &[String]) {
    let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:>28}")).collect();
    println!("  {name:<9}{}", cells.join(""));
}

fn cells(columns: &[Vec<Sample>], throughput: bool) -> Vec<String> {
    let value = |sample: &Sample| {
        if throughput {
            sample.tps
        } else {
            sample.latency_us
        }
    };
    let rounds: Vec<Vec<f64>> = columns
        .iter()
        .map(|samples| samples.iter().map(value).collect())
        .collect();
    let Some(first) = rounds.first() else {
        return Vec::new();
    };
    let base = median(&mut first.clone());
    let cell = |(index, values): (usize, &Vec<f64>)| {
        let middle = median(&mut values.clone());
        if index == 0 {
            return number(middle);
        }
        let ratios: Vec<f64> = values
            .iter()
            .zip(first)
            .map(|(value, first)| value / first)
            .collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = ratios.iter().copied().fold(0.0, f64::max);
        format!(
            "{}  x{:.2} ({least:.2}-{greatest:.2})",
            number(middle),
            middle / base
        )
    };
    rounds.iter().enumerate().map(cell).collect()
}

fn number(value: f64) -> String {
    if value >= 1000.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_medians_with_the_spread_of_rounds() {
        let samples = |values: [f64; 3]| {
            values
                .map(|latency_us| Sample {
                    latency_us,
                    p99_us: latency_us,
                    tps: 1.0,
                })
                .to_vec()
        };
        let cells = cells(
            &[samples([10.0, 20.0, 30.0]), samples([20.0, 30.0, 30.0])],
            false,
        );
        assert_eq!(cells, ["20.0", "30.0  x1.50 (1.00-2.00)"]);
    }
}
