//! How fast a migration goes: as `[reencrypt]` says, like every work over tables, or as fast as it can; and in either case
//! slower while a standby is behind or the server is slow. It writes no rows.

use std::time::Duration;

use pgveil_config::settings::Reencrypt;
use tokio_postgres::Client;

use crate::{
    apply::progress::Progress,
    worker::pace::{self, Pace},
};

/// Rows of a batch at full speed.
const FULL_SPEED_ROWS: u32 = 2000;

/// The pace of one run.
pub(super) struct Pacing {
    rows: u32,
    pace: Pace,
}

impl Pacing {
    pub(super) fn new(mut reencrypt: Reencrypt, full_speed: bool) -> Self {
        if full_speed {
            reencrypt.interval = Duration::ZERO;
        }
        let rows = if reencrypt.interval.is_zero() {
            FULL_SPEED_ROWS
        } else {
            u32::try_from(reencrypt.batch_size).unwrap_or(u32::MAX)
        };
        Self {
            rows,
            pace: Pace::new(reencrypt),
        }
    }

    /// Most rows of a batch.
    pub(super) fn rows(&self) -> u32 {
        self.rows
    }

    /// Lets applications have the server for a while, behind a batch that took so long.
    pub(super) async fn pause(&self, client: &Client, took: Duration, progress: &Progress) {
        let (pause, why) = self.pace.judge(took, pace::lag_seen_by(client).await);
        if let Some(why) = why {
            progress.note(&why);
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_speed_has_large_batches_and_no_pause() {
        let reencrypt = Reencrypt {
            automatic: true,
            concurrency: 2,
            batch_size: 100,
            interval: Duration::from_secs(5),
            max_retries: 5,
            lease: Duration::from_hours(1),
            fires_triggers: false,
            max_lag: Duration::from_secs(10),
            max_latency: Duration::from_secs(2),
        };
        let quick = Duration::from_millis(1);
        let paced = Pacing::new(reencrypt, false);
        assert_eq!(paced.rows(), 100);
        assert_eq!(paced.pace.judge(quick, quick).0, reencrypt.interval);
        let full = Pacing::new(reencrypt, true);
        assert_eq!(full.rows(), FULL_SPEED_ROWS);
        assert_eq!(full.pace.judge(quick, quick).0, Duration::ZERO);
        let slow = Duration::from_secs(3);
        assert!(full.pace.judge(slow, quick).0 > Duration::ZERO);
    }
}
