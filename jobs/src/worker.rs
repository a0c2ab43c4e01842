//! Runs the jobs that are queued, beside those of other replicas: it hands out ranges of rows ([`claim`]), lets batches remake
//! them ([`batch`]), and counts at the beginning and at the end ([`lead`]). What values become is the business of
//! [`crate::remake`].
//!
//! Who has what in hand is in the keystore. A process that dies takes nothing with it: its batches are free as soon as the
//! server notices that its connection is gone, or when their lease is over. A process that was only slow finds that its token
//! is not valid any more, and writes nothing.

mod again;
mod array;
mod batch;
mod claim;
mod held_back;
mod lead;
pub(crate) mod pace;
mod part;
mod place;
mod retired;
mod session;
mod settle;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pgveil_config::Settings;
use pgveil_keys::{
    Keys, Keystore,
    database::Database,
    keystore::{JobRecord, JobState},
};
use serde_json::Value;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    JobError,
    remake::{self, Remake, Sparing},
};
use batch::Batch;
use claim::Claimed;
use pace::Pace;
use retired::Retired;

/// How often it is looked for work.
const PERIOD: Duration = Duration::from_millis(500);
/// Between counts for a job that is held by keys that cannot be had.
const RECOUNT: Duration = Duration::from_mins(10);
/// After the keystore's database could not be reached.
const PAUSE: Duration = Duration::from_secs(2);

/// What batches and leads share.
struct Shared {
    settings: Arc<Settings>,
    keystore: Arc<Keystore>,
    keys: Arc<Keys>,
    pace: Pace,
    /// Turns to write.
    writing: Semaphore,
    /// When what a job that is held is about was last counted here: somebody may have deleted it.
    counted: Mutex<HashMap<u64, Instant>>,
    retired: Retired,
}

/// Runs jobs; one per process.
pub struct Worker {
    shared: Arc<Shared>,
    /// The connection that claims, and whose lock says that this process lives; with its number.
    home: Option<(Database, i32)>,
    /// Connections for batches that have none in hand.
    idle: Vec<Database>,
    batches: JoinSet<Option<Database>>,
    leads: JoinSet<u64>,
    leading: HashSet<u64>,
    /// What each job makes of values, as of its pass.
    kinds: HashMap<u64, (i32, Arc<dyn Remake>)>,
    /// Whose turn it is among several jobs.
    turn: usize,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

/// A job that there is something to do for.
struct Runnable {
    id: u64,
    phase: String,
    pass: i32,
    queued: bool,
    expired: bool,
    waits: Option<String>,
}

const RUNNABLE: &str = "SELECT id, phase, pass, state = 'queued', moved_at < now() - make_interval(secs => $1), waits \
    FROM pgveil.jobs WHERE state IN ('queued', 'running') AND look_at <= now() AND id = ANY ($2) ORDER BY id";

impl Worker {
    /// A worker that has not begun.
    pub fn new(settings: Arc<Settings>, keystore: Arc<Keystore>, keys: Arc<Keys>) -> Self {
        let pace = Pace::new(settings.reencrypt);
        let writing = Semaphore::new(settings.reencrypt.concurrency);
        let shared = Shared {
            settings,
            keystore,
            keys,
            pace,
            writing,
            counted: Mutex::default(),
            retired: Retired::default(),
        };
        Self {
            shared: Arc::new(shared),
            home: None,
            idle: Vec::new(),
            batches: JoinSet::new(),
            leads: JoinSet::new(),
            leading: HashSet::new(),
            kinds: HashMap::new(),
            turn: 0,
        }
    }

    /// Runs whatever is queued, for as long as the process.
    pub async fn run(mut self) {
        loop {
            let pause = match self.round().await {
                Ok(pause) => pause,
                Err(error) => {
                    self.home = None;
                    tracing::warn!(%error, "jobs cannot be looked up; it is tried again");
                    PAUSE
                }
            };
            self.rest(pause).await;
        }
    }

    /// Runs until no job is queued or running, here or elsewhere.
    ///
    /// # Errors
    /// If the keystore's database cannot be reached, or what is left was changed by somebody else than pgveil.
    pub async fn run_to_the_end(mut self) -> Result<(), JobError> {
        self.shared.keystore.stay().await?;
        loop {
            let pause = self.round().await?;
            let idle = self.batches.is_empty() && self.leads.is_empty();
            if idle {
                let left = self.shared.keystore.unfinished_jobs().await?;
                if left.iter().all(|(_, judged)| judged.is_err()) {
                    let judged = left.into_iter().find_map(|(_, judged)| judged.err());
                    return judged.map_or(Ok(()), |refused| Err(refused.into()));
                }
            }
            self.rest(pause).await;
        }
    }

    /// Runs, with whatever else is queued, until a job has ended or somebody has stopped it or changed its row, and answers how it
    /// stands; `look` is shown it now and then.
    ///
    /// # Errors
    /// If the keystore's database cannot be reached.
    pub async fn run_until(
        mut self,
        job: u64,
        mut look: impl FnMut(&JobRecord),
    ) -> Result<Option<JobRecord>, JobError> {
        loop {
            let pause = self.round().await?;
            let record = self.shared.keystore.job(job).await?;
            let Some(record) = record else {
                return Ok(None);
            };
            look(&record);
            let is_refused = record.is_ours == Some(false);
            if record.state.has_ended() || record.state == JobState::Paused || is_refused {
                return Ok(Some(record));
            }
            self.rest(pause).await;
        }
    }

    /// Until something has ended, or there may be something new.
    async fn rest(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        tokio::select! {
            Some(ended) = self.batches.join_next() => {
                // A batch that panicked has no connection to give back; its lease ends.
                self.idle.extend(ended.ok().flatten());
            }
            Some(led) = self.leads.join_next() => {
                match led {
                    Ok(job) => _ = self.leading.remove(&job),
                    Err(_) => self.leading.clear(),
                }
            }
            () = sleep_until(until) => {}
        }
    }

    /// Hands out what can be handed out now.
    async fn round(&mut self) -> Result<Duration, JobError> {
        let idle = self.batches.is_empty() && self.leads.is_empty();
        if idle && !self.shared.keystore.has_jobs().await? {
            // Nobody needs connections; they would only take places in the server.
            (self.home, self.idle) = (None, Vec::new());
            return Ok(PERIOD);
        }
        let jobs = self.runnable().await?;
        self.kinds
            .retain(|id, _| jobs.iter().any(|job| job.id == *id));
        let mut walking = Vec::new();
        for job in jobs {
            if job.expired {
                self.expire(&job).await?;
            } else if job.phase == "walk" && !job.queued {
                walking.push(job);
            } else {
                self.lead(&job);
            }
        }
        self.hand_out(&walking).await
    }

    async fn runnable(&mut self) -> Result<Vec<Runnable>, JobError> {
        let lease = self.shared.settings.reencrypt.lease.as_secs_f64();
        let unfinished = self.shared.keystore.unfinished_jobs().await?;
        // The others were told of.
        let ours: Vec<i64> = { unfinished.iter() }
            .filter(|(_, judged)| judged.is_ok())
            .map(|(id, _)| id.cast_signed())
            .collect();
        let (home, _) = session::home(&mut self.home, &self.shared.settings).await?;
        let mut jobs = Vec::new();
        for row in home
            .ask(RUNNABLE, &[&lease, &ours])
            .await
            .map_err(looking())?
        {
            let id: i64 = row.try_get(0).map_err(looking())?;
            let queued: bool = row.try_get(3).map_err(looking())?;
            if queued {
                self.shared.keystore.start_job(id.unsigned_abs()).await?;
            }
            jobs.push(Runnable {
                id: id.unsigned_abs(),
                phase: row.try_get(1).map_err(looking())?,
                pass: row.try_get(2).map_err(looking())?,
                queued: false,
                expired: !queued && row.try_get(4).map_err(looking())?,
                waits: row.try_get(5).map_err(looking())?,
            });
        }
        Ok(jobs)
    }

    async fn expire(&self, job: &Runnable) -> Result<(), JobError> {
        let mut failure = "it did not get on for the time of [reencrypt] lease".to_owned();
        if let Some(waits) = &job.waits {
            failure = format!("{failure}: {waits}");
        }
        let keystore = &self.shared.keystore;
        let ended = keystore.end_job(job.id, JobState::Expired, Some(&failure), Value::Null);
        ended.await.map(drop).map_err(JobError::from)
    }

    /// What a job makes of values: read anew for each pass.
    async fn kind(&mut self, job: &Runnable) -> Result<Option<Arc<dyn Remake>>, JobError> {
        if let Some((pass, kind)) = self.kinds.get(&job.id)
            && *pass == job.pass
        {
            return Ok(Some(Arc::clone(kind)));
        }
        let shared = Arc::clone(&self.shared);
        let Some(record) = shared.job(job.id).await? else {
            return Ok(None);
        };
        let kind = shared.kind(&record).await?;
        let kind = Sparing::of(kind, record.held);
        self.kinds.insert(job.id, (job.pass, Arc::clone(&kind)));
        Ok(Some(kind))
    }

    /// Counts, and what follows from it, if no other replica does.
    fn lead(&mut self, job: &Runnable) {
        if !self.leading.insert(job.id) {
            return;
        }
        let (shared, id) = (Arc::clone(&self.shared), job.id);
        self.leads.spawn(async move {
            lead::lead(&shared, id).await;
            id
        });
    }

    /// Gives out ranges as long as there are any, and places at work. Answers how long until there may be more.
    async fn hand_out(&mut self, walking: &[Runnable]) -> Result<Duration, JobError> {
        let mut over = HashSet::new();
        let mut pause = PERIOD;
        while over.len() < walking.len() {
            self.turn = self.turn.wrapping_add(1);
            let job = &walking[self.turn % walking.len()];
            if over.contains(&job.id) {
                continue;
            }
            let Some(kind) = self.kind(job).await? else {
                over.insert(job.id);
                continue;
            };
            let settings = Arc::clone(&self.shared.settings);
            let (home, number) = session::home(&mut self.home, &settings).await?;
            match claim::claim(home, *number, &settings.reencrypt, job.id, &*kind).await {
                Ok(Claimed::Batch(batch)) => self.begin(*batch, kind),
                Ok(Claimed::Nothing) => _ = over.insert(job.id),
                // It is counted at once.
                Ok(Claimed::Walked) => {
                    over.insert(job.id);
                    pause = Duration::ZERO;
                }
                Ok(Claimed::Busy { wait }) => {
                    pause = pause.min(wait);
                    break;
                }
                Err(error) if error.is_locked() => _ = over.insert(job.id),
                Err(error) if error.is_passing() => return Err(error),
                // A table that cannot be walked over ends the job, not the others.
                Err(error) => {
                    over.insert(job.id);
                    self.shared.fail(job.id, &error).await;
                }
            }
        }
        Ok(pause)
    }

    fn begin(&mut self, batch: Batch, kind: Arc<dyn Remake>) {
        let (shared, connection) = (Arc::clone(&self.shared), self.idle.pop());
        self.batches
            .spawn(async move { batch.run(&shared, &*kind, connection).await });
    }
}

impl Shared {
    /// Whether a job that is held is to be counted again; it counts as counted then.
    fn recount_is_due(&self, job: u64) -> bool {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = counted
            .get(&job)
            .is_none_or(|last| last.elapsed() >= RECOUNT);
        if is_due {
            counted.insert(job, Instant::now());
        }
        is_due
    }

    /// It was counted.
    fn counted(&self, job: u64) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.insert(job, Instant::now());
    }

    /// A job, if pgveil wrote what its row says. While nobody can tell, nothing is done.
    async fn job(&self, id: u64) -> Result<Option<JobRecord>, JobError> {
        let job = self.keystore.job(id).await?;
        Ok(job.filter(|job| job.is_ours == Some(true)))
    }

    async fn kind(&self, job: &JobRecord) -> Result<Arc<dyn Remake>, JobError> {
        remake::of(job, &self.keys, &self.keystore, &self.settings).await
    }

    /// Ends a job that cannot go on; what it did stays.
    async fn fail(&self, job: u64, error: &JobError) {
        let reason = format!("{error}; {}", error.cure());
        tracing::warn!(job, reason, "a job failed");
        let keystore = &self.keystore;
        let ended = keystore.end_job(job, JobState::Failed, Some(&reason), Value::Null);
        if let Err(error) = ended.await {
            tracing::warn!(job, %error, "that a job failed could not be recorded");
        }
    }
}

fn looking() -> impl FnOnce(tokio_postgres::Error) -> JobError {
    JobError::while_doing("look for jobs")
}
