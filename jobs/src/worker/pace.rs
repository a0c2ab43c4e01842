//! How long the pause behind a batch is: what was asked for, and longer while standbys are behind or the server is slow.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use pgveil_config::settings::Reencrypt;
use pgveil_keys::database::Database;
use tokio_postgres::{Client, Row};

/// What a pause begins with where none was asked for.
const LEAST: Duration = Duration::from_millis(100);
/// The longest pause that slowing down makes.
const MOST: Duration = Duration::from_mins(1);
/// How often the pause is doubled at most.
const MAX_DOUBLED: u32 = 12;

/// NULL where the role may not see it.
pub(super) const LAG: &str = "SELECT coalesce(max(extract(epoch FROM replay_lag)), 0)::float8 FROM pg_catalog.pg_stat_replication";

/// How far the slowest standby is behind; nothing if nobody may know.
pub(super) async fn lag(client: &Database) -> Duration {
    behind(&client.ask(LAG, &[]).await.unwrap_or_default())
}

/// The same over a connection that keeps no statements.
pub(crate) async fn lag_seen_by(client: &Client) -> Duration {
    behind(&client.query(LAG, &[]).await.unwrap_or_default())
}

fn behind(rows: &[Row]) -> Duration {
    let seconds: Option<f64> = rows.first().and_then(|row| row.try_get(0).ok());
    let seconds = seconds.unwrap_or_default().max(0.0);
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// The pace of this process.
#[derive(Debug)]
pub(crate) struct Pace {
    reencrypt: Reencrypt,
    doubled: AtomicU32,
}

impl Pace {
    pub(crate) fn new(reencrypt: Reencrypt) -> Self {
        Self {
            reencrypt,
            doubled: AtomicU32::new(0),
        }
    }

    /// The pause behind a batch whose statement took so long, and why it is longer than was asked for.
    pub(crate) fn judge(&self, took: Duration, lag: Duration) -> (Duration, Option<String>) {
        let Reencrypt {
            interval,
            max_lag,
            max_latency,
            ..
        } = self.reencrypt;
        let why = if lag > max_lag {
            Some(format!(
                "slowed down: a standby is {} s behind",
                lag.as_secs()
            ))
        } else if took > max_latency {
            Some(format!(
                "slowed down: a batch took {:.1} s",
                took.as_secs_f64()
            ))
        } else {
            None
        };
        let step = |doubled: u32| match why {
            Some(_) => (doubled + 1).min(MAX_DOUBLED),
            None => doubled.saturating_sub(1),
        };
        let before = self
            .doubled
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |doubled| {
                Some(step(doubled))
            })
            .unwrap_or(0);
        match step(before) {
            0 => (interval, None),
            doubled => {
                let longer = interval.max(LEAST).saturating_mul(1 << doubled).min(MOST);
                (longer.max(interval), why)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_it_is_slow_and_shrink_again() {
        let pace = Pace::new(Reencrypt {
            automatic: true,
            concurrency: 2,
            batch_size: 100,
            interval: Duration::from_secs(5),
            max_retries: 5,
            lease: Duration::from_hours(1),
            fires_triggers: false,
            max_lag: Duration::from_secs(10),
            max_latency: Duration::from_secs(2),
        });
        let (quick, slow) = (Duration::from_millis(3), Duration::from_secs(3));
        assert_eq!(pace.judge(quick, quick), (Duration::from_secs(5), None));
        assert_eq!(pace.judge(slow, quick).0, Duration::from_secs(10));
        let (pause, why) = pace.judge(quick, Duration::from_secs(11));
        assert_eq!(pause, Duration::from_secs(20));
        assert_eq!(
            why.as_deref(),
            Some("slowed down: a standby is 11 s behind")
        );
        for _ in 0..20 {
            assert!(pace.judge(slow, slow).0 <= MOST);
        }
        for _ in 0..20 {
            pace.judge(quick, quick);
        }
        assert_eq!(pace.judge(quick, quick), (Duration::from_secs(5), None));
    }
}
