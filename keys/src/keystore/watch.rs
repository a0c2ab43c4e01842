//! Hearing of what other replicas and the command line do: LISTEN on a connection of its own, and looking by itself every
//! few seconds, also while that connection is cut. Anybody who may connect may say anything there:
//! what is heard is a reason to look, and the table is what holds.

use std::{collections::HashSet, sync::Arc, time::Duration};

use pgveil_config::ScopePath;
use tokio::sync::{mpsc, watch};

use super::{Keystore, KeystoreError, presence::Presence};
use crate::{
    Keys,
    database::{self, Database},
    flight::Following,
};

/// Where it is said that scopes changed, or their keys.
pub(super) const CHANNEL: &str = "pgveil_scopes";
const LISTEN: &str = "LISTEN pgveil_scopes";
const RETIRED: &str = "SELECT id FROM pgveil.keys WHERE id = ANY ($1) AND state <> 'active'";
/// One that was erased stays told of when it is open again: its keys are others, whoever has seen it sealed meanwhile or not.
const SEALED: &str = "SELECT path, concat(sealed_at, ' ', erased_at) FROM pgveil.scopes \
    WHERE state <> 'open' OR erased_at IS NOT NULL";
/// How often the sealed scopes are looked up even if nothing was heard.
const POLL: Duration = Duration::from_secs(5);
/// Between attempts to listen again.
const PAUSE: Duration = Duration::from_secs(1);
/// After a look that somebody's word was the reason for: whoever talks without end costs no more than this.
const BREATH: Duration = Duration::from_millis(100);
/// Words heard and not followed yet.
const MAX_HEARD: usize = 64;

/// A scope that is sealed or was erased, and since when: sealed again, it is another one.
type Seal = (ScopePath, String);

/// What was known at the last look.
#[derive(Default)]
struct Known {
    seals: HashSet<Seal>,
    following: Following,
}

impl Keystore {
    /// Lets go of the keys of scopes as they are sealed or erased, and of those that were replaced, and tells who waits for it. Runs
    /// until it is dropped.
    pub async fn watch(self: Arc<Self>, keys: Arc<Keys>) {
        // One word that waits is as good as many.
        let (heard, mut words) = mpsc::channel(1);
        let (floor, floors) = watch::channel(None);
        let listening = tokio::spawn(Arc::clone(&self).listen(heard, floors));
        // Dropped with us.
        let _listening = AbortOnDrop(listening);
        let mut polls = tokio::time::interval(POLL);
        polls.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut known = Known::default();
        loop {
            let heard = tokio::select! {
                Some(()) = words.recv() => true,
                _ = polls.tick() => false,
            };
            if let Some(followed) = self.look(&keys, &mut known).await {
                floor.send_replace(Some(followed));
            }
            if heard {
                tokio::time::sleep(BREATH).await;
            }
        }
    }

    /// Lets go of what was sealed since the last look, since what is sealed is not loaded any more, and of keys that were
    /// replaced; takes up what was set for scopes. Answers up to which record it has followed, if that is news.
    async fn look(&self, keys: &Keys, known: &mut Known) -> Option<u64> {
        // Who looks every two seconds tells what is wrong with it.
        if let Ok(stored) = self.stored().await {
            keys.set_stored(stored);
        }
        let followed = match self.follow(keys, &mut known.following).await {
            Ok(followed) => followed,
            // The cache's time to live still holds.
            Err(error) => {
                tracing::warn!(%error, "replaced keys could not be looked up");
                None
            }
        };
        if let Err(error) = self.follow_log().await {
            tracing::warn!(%error, "what was recorded since could not be read");
        }
        if self.log.stands().is_err() {
            // Whatever is in memory now was loaded by what the keystore said before.
            keys.forget_below(&HashSet::from([ScopePath::platform()]));
        }
        match self.sealed().await {
            Ok(seals) => {
                let anew = seals
                    .difference(&known.seals)
                    .map(|(scope, _)| scope.clone());
                let anew: HashSet<ScopePath> = anew.collect();
                if !anew.is_empty() {
                    tracing::info!(scopes = anew.len(), "scopes were sealed or erased");
                    keys.forget_below(&anew);
                }
                known.seals = seals;
            }
            // The cache's time to live still holds.
            Err(error) => tracing::warn!(%error, "sealed scopes could not be looked up"),
        }
        followed
    }

    /// Lets go of keys that were replaced. What is read and asked stands in the order that [`Following`] wants.
    async fn follow(
        &self,
        keys: &Keys,
        following: &mut Following,
    ) -> Result<Option<u64>, KeystoreError> {
        let head = self.head().await?;
        let is_over = keys.flights().is_over();
        let retired = self.retired(keys.held_to_seal()).await?;
        if !retired.is_empty() {
            keys.seal_no_more(&retired);
        }
        Ok(following.step(keys.flights(), head, is_over))
    }

    /// Which of these keys are not active any more.
    async fn retired(&self, held: Vec<u64>) -> Result<HashSet<u64>, KeystoreError> {
        if held.is_empty() {
            return Ok(HashSet::new());
        }
        let held: Vec<i64> = held
            .into_iter()
            .filter_map(|id| id.try_into().ok())
            .collect();
        let rows = self.query(RETIRED, &[&held]).await?;
        let id = |row: &tokio_postgres::Row| Ok(row.try_get::<_, i64>(0)?.unsigned_abs());
        rows.iter().map(id).collect()
    }

    /// The scopes that are sealed by hand, or were ever erased.
    async fn sealed(&self) -> Result<HashSet<Seal>, KeystoreError> {
        let rows = self.query(SEALED, &[]).await?;
        let mut seals = HashSet::new();
        for row in rows {
            let path: &str = row.try_get(0)?;
            if let Ok(scope) = ScopePath::parse(path) {
                seals.insert((scope, row.try_get(1)?));
            }
        }
        Ok(seals)
    }

    async fn listen(
        self: Arc<Self>,
        heard: mpsc::Sender<()>,
        floors: watch::Receiver<Option<u64>>,
    ) {
        loop {
            match self.hear(&heard, floors.clone()).await {
                Ok(()) => tracing::warn!("the connection that listens for changes was cut"),
                Err(error) => tracing::warn!(%error, "changes cannot be listened for"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Until the connection ends.
    async fn hear(
        &self,
        heard: &mpsc::Sender<()>,
        floors: watch::Receiver<Option<u64>>,
    ) -> Result<(), KeystoreError> {
        let target = &self.target;
        let url = target.read_url()?;
        let (told, mut notices) = mpsc::channel(MAX_HEARD);
        let database: Database =
            database::connect_listening(&url, target.tls, target.ca_file.as_deref(), told)
                .await
                .map_err(|error| KeystoreError::from_connect(&error))?;
        database.batch_execute(LISTEN).await?;
        // What was said before is not heard.
        let _ = heard.try_send(());
        let mut presence = Presence::begin(&database, floors).await?;
        loop {
            tokio::select! {
                notice = notices.recv() => {
                    if notice.is_none() {
                        return Ok(());
                    }
                    // Full: a look is due anyway.
                    let _ = heard.try_send(());
                }
                () = presence.changed() => presence.say(&database).await?,
            }
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
