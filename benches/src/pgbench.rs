//! One run of pgbench: its median latency, from the log that it writes per transaction, and its throughput.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail, ensure};
use pgveil_throwaway::postgres::PASSWORD;

/// How statements are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    /// Simple queries.
    Simple,
    /// Parse, Bind and Execute each time.
    Extended,
    /// Parsed once, then bound and executed.
    Prepared,
}

/// How long one run is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Length {
    Seconds(u32),
    /// Per client.
    Transactions(u32),
}

/// What to run.
#[derive(Clone, Debug)]
pub(crate) enum Script {
    /// pgbench's own select-only.
    SelectOnly,
    /// The text of a script file.
    Text(String),
}

/// One thing that is measured again and again.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    /// For the progress bar.
    pub(crate) name: String,
    pub(crate) pgbench: PathBuf,
    pub(crate) port: u16,
    pub(crate) database: String,
    pub(crate) mode: Mode,
    pub(crate) clients: u32,
    /// Transactions a second; without it, as many as can be done.
    pub(crate) rate: Option<u32>,
    pub(crate) script: Script,
}

/// What one run measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Median over its transactions, in microseconds.
    pub(crate) latency_us: f64,
    /// The 99th percentile, in microseconds.
    pub(crate) p99_us: f64,
    /// Transactions per second, connecting not counted.
    pub(crate) tps: f64,
}

impl Trial {
    pub(crate) fn run(&self, length: Length) -> Result<Sample> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(&self.pgbench);
        command.args([
            "-n",
            "-l",
            "--log-prefix=log",
            "-h",
            "127.0.0.1",
            "-U",
            "app",
            "-M",
            self.mode.name(),
        ]);
        command
            .arg(format!("--port={}", self.port))
            .arg(format!("--client={}", self.clients));
        // A thread per processor at most: pgbench must not be what is measured.
        command.arg(format!("--jobs={}", self.clients.min(2)));
        if let Some(rate) = self.rate {
            command.arg(format!("--rate={rate}"));
        }
        match length {
            Length::Seconds(seconds) => command.arg(format!("--time={seconds}")),
            Length::Transactions(count) => command.arg(format!("--transactions={count}")),
        };
        match &self.script {
            Script::SelectOnly => command.arg("-S"),
            Script::Text(text) => {
                let file = dir.path().join("script.sql");
                fs::write(&file, text)?;
                command.arg("-f").arg(file)
            }
        };
        command
            .arg(&self.database)
            .current_dir(dir.path())
            .env("PGPASSWORD", PASSWORD);
        let output = command.output().context("run pgbench")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!(
                "{}: pgbench failed\n{}{said}",
                self.name,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let mut latencies = latencies(dir.path())?;
        Ok(Sample {
            latency_us: median(&mut latencies),
            // Sorted by the median.
            p99_us: latencies[(latencies.len() - 1) * 99 / 100],
            tps: tps(&said)?,
        })
    }
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Simple => "simple",
            Mode::Extended => "extended",
            Mode::Prepared => "prepared",
        }
    }
}

/// `tps = 123.4 (without initial connection time)`
fn tps(said: &str) -> Result<f64> {
    let line = said
        .lines()
        .find(|line| line.starts_with("tps = "))
        .with_context(|| format!("no tps in {said}"))?;
    line["tps = ".len()..]
        .split(' ')
        .next()
        .unwrap_or_default()
        .parse()
        .context("tps")
}

/// Each line of a log: client, transaction, latency in microseconds, ...
fn latencies(dir: &std::path::Path) -> Result<Vec<f64>> {
    let mut latencies = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("log.") {
            let text = fs::read_to_string(entry.path())?;
            latencies.extend(
                text.lines()
                    .filter_map(|line| line.split(' ').nth(2)?.parse::<f64>().ok()),
            );
        }
    }
    ensure!(!latencies.is_empty(), "pgbench logged no transaction");
    Ok(latencies)
}

/// The middle value; of two middles their mean.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values[middle]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&mut [4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < f64::EPSILON);
    }

    #[test]
    fn tps_is_read_from_what_pgbench_says() {
        let said = "number of transactions actually processed: 10\ntps = 41523.25 (without initial connection time)\n";
        assert!((tps(said).unwrap() - 41523.25).abs() < 0.01);
        assert!(tps("nothing").is_err());
    }
}
