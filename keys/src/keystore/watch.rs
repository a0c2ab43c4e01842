//! Hearing of what other replicas and the command line do: LISTEN on a connection of its own, and looking by itself every
//! few seconds, also while that connection is cut. What follows from it is decided by who listens.

use std::{sync::Arc, time::Duration};

use pgveil_config::ScopePath;
use tokio::sync::mpsc;

use super::{Keystore, KeystoreError};
use crate::{
    Keys,
    database::{self, Database},
};

/// Where scopes that changed are named.
pub(super) const CHANNEL: &str = "pgveil_scopes";
const LISTEN: &str = "LISTEN pgveil_scopes";
const SEALED: &str = "SELECT path FROM pgveil.scopes WHERE state <> 'open'";
/// How often the sealed scopes are looked up even if nothing was heard.
const POLL: Duration = Duration::from_secs(5);
/// Between attempts to listen again.
const PAUSE: Duration = Duration::from_secs(1);
/// Scopes heard of and not followed yet; when there are more, the next look finds them.
const MAX_HEARD: usize = 1024;

impl Keystore {
    /// Lets go of the keys of scopes as they are sealed or erased. Runs until it is dropped.
    pub async fn watch(self: Arc<Self>, keys: Arc<Keys>) {
        let (heard, mut scopes) = mpsc::channel(MAX_HEARD);
        let listening = tokio::spawn(Arc::clone(&self).listen(heard));
        // Dropped with us.
        let _listening = AbortOnDrop(listening);
        let mut polls = tokio::time::interval(POLL);
        polls.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(scope) = scopes.recv() => match scope {
                    Heard::Scope(scope) => {
                        tracing::info!(scope = scope.as_str(), "a scope was sealed, unsealed or erased");
                        keys.forget_below(&scope);
                    }
                    Heard::Anew => self.look(&keys).await,
                },
                _ = polls.tick() => self.look(&keys).await,
            }
        }
    }

    async fn look(&self, keys: &Keys) {
        match self.sealed().await {
            Ok(scopes) => {
                for scope in scopes {
                    keys.forget_below(&scope);
                }
            }
            // The cache's time to live still holds.
            Err(error) => tracing::warn!(%error, "sealed scopes could not be looked up"),
        }
    }

    /// The scopes that are sealed by hand.
    pub async fn sealed(&self) -> Result<Vec<ScopePath>, KeystoreError> {
        let rows = self.query(SEALED, &[]).await?;
        let mut scopes = Vec::new();
        for row in rows {
            let path: &str = row.try_get(0)?;
            scopes.extend(ScopePath::parse(path));
        }
        Ok(scopes)
    }

    async fn listen(self: Arc<Self>, heard: mpsc::Sender<Heard>) {
        loop {
            match self.hear(&heard).await {
                Ok(()) => tracing::warn!("the connection that listens for changes was cut"),
                Err(error) => tracing::warn!(%error, "changes cannot be listened for"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Until the connection ends.
    async fn hear(&self, heard: &mpsc::Sender<Heard>) -> Result<(), KeystoreError> {
        let target = &self.target;
        let url = target.read_url()?;
        let (told, mut notices) = mpsc::channel(MAX_HEARD);
        let database: Database =
            database::connect_listening(&url, target.tls, target.ca_file.as_deref(), told)
                .await
                .map_err(|error| KeystoreError::from_connect(&error))?;
        database.batch_execute(LISTEN).await?;
        // What was said before is not heard.
        if heard.send(Heard::Anew).await.is_err() {
            return Ok(());
        }
        while let Some(scope) = notices.recv().await {
            // Anybody who may connect may say anything; what is no scope is nothing to us.
            if let Ok(scope) = ScopePath::parse(&scope)
                && heard.send(Heard::Scope(scope)).await.is_err()
            {
                return Ok(());
            }
        }
        Ok(())
    }
}

enum Heard {
    Scope(ScopePath),
    /// It begins, or begins again.
    Anew,
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
