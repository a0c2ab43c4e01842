//! When nobody can seal with the replaced keys any more: replicas hold a key as the active one for a time, and a transaction
//! may have sealed with it and not have ended. Only then is a count the last word.

use std::time::Duration;

use pgveil_config::settings::Cache;
use tokio_postgres::Client;

use crate::{JobError, change::barrier::KNOWN_AFTER, destruction::ON_THE_WAY, remake::Rest};

/// How long it waits.
pub(super) enum Settled {
    Yes,
    NotYet(&'static str),
}

const BEGIN: &str = "UPDATE pgveil.jobs SET settle_at = (SELECT coalesce(max(k.retired_at), now()) FROM pgveil.keys k \
        WHERE k.id = ANY ($2)) + make_interval(secs => $3) \
    WHERE id = $1 AND settle_at IS NULL AND NOT EXISTS (SELECT FROM pgveil.keys k WHERE k.id = ANY ($2) AND k.state = 'active')";
/// Whoever has not heard of the step plans nothing any more after this time. It runs from the first look at the step.
const BEGIN_STEP: &str = "UPDATE pgveil.jobs SET settle_at = clock_timestamp() + make_interval(secs => $2) \
    WHERE id = $1 AND settle_at IS NULL";
const MARK: &str = "UPDATE pgveil.jobs SET settle_horizon = pg_snapshot_xmax(pg_current_snapshot()), \
        settle_waits = (SELECT coalesce(array_agg(DISTINCT virtualtransaction), '{}') FROM pg_locks \
            WHERE locktype = 'virtualxid' AND pid <> pg_backend_pid()) \
    WHERE id = $1 AND settle_horizon IS NULL AND settle_at <= now()";
const SETTLE: &str = "UPDATE pgveil.jobs SET settled = true, moved_at = now() \
    WHERE id = $1 AND NOT settled AND pg_snapshot_xmin(pg_current_snapshot()) >= settle_horizon \
        AND NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'virtualxid' AND virtualtransaction = ANY (settle_waits))";
const STATE: &str = "SELECT settled, settle_at IS NOT NULL, settle_horizon IS NOT NULL FROM pgveil.jobs WHERE id = $1";

/// How long a replica may go on with a key that was replaced.
fn held(cache: Cache) -> Duration {
    cache.ttl + cache.ttl.min(ON_THE_WAY)
}

/// Takes the next step that can be taken now.
pub(super) async fn settle(
    client: &Client,
    job: i64,
    rests: &Rest,
    cache: Cache,
) -> Result<Settled, JobError> {
    let doing = || JobError::while_doing("see which transactions have ended");
    let (holding, under_way) = match rests {
        Rest::None => return Ok(Settled::Yes),
        Rest::Keys(replaced) => {
            let ids: Vec<i64> = { replaced.iter() }
                .filter_map(|id| i64::try_from(*id).ok())
                .collect();
            let hold = held(cache).as_secs_f64();
            { client.execute(BEGIN, &[&job, &ids, &hold]).await }.map_err(doing())?;
            (
                "replicas may hold the old data keys until cache.ttl is over",
                "transactions that may have sealed with the old data keys have not ended",
            )
        }
        Rest::Registry => {
            let hold = KNOWN_AFTER.as_secs_f64();
            { client.execute(BEGIN_STEP, &[&job, &hold]).await }.map_err(doing())?;
            (
                "replicas may go by the description of before for some seconds",
                "transactions that may go by the description of before have not ended",
            )
        }
    };
    { client.execute(MARK, &[&job]).await }.map_err(doing())?;
    { client.execute(SETTLE, &[&job]).await }.map_err(doing())?;
    let row = client.query_one(STATE, &[&job]).await.map_err(doing())?;
    let is = |at: usize| row.try_get::<_, bool>(at).map_err(doing());
    Ok(match (is(0)?, is(1)?, is(2)?) {
        (true, ..) => Settled::Yes,
        (_, false, _) => Settled::NotYet("an old data key is still the active one of its scope"),
        (_, _, false) => Settled::NotYet(holding),
        _ => Settled::NotYet(under_way),
    })
}
