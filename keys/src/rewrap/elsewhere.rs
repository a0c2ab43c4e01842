//! Keys that stand under another KEK than the one that the settings give their scope, counted. Nothing is moved, and no
//! provider is asked.

use std::collections::BTreeMap;

use pgveil_config::ScopePath;

use super::{Aim, Rewrap, RewrapError};
use crate::scopes::KekRef;

/// Keys that a [`Rewrap::run`] would move from one KEK to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// The KEK that they stand under.
    pub from: KekRef,
    /// The one that holds for their scopes.
    pub to: KekRef,
    /// How many; the audit log's key is counted as one of the platform's.
    pub keys: u64,
    /// The scope of the first of them.
    pub scope: String,
}

impl Rewrap<'_> {
    /// What is to be moved, in the order of KEKs.
    ///
    /// # Errors
    /// If the keystore cannot be read.
    pub async fn elsewhere(&self) -> Result<Vec<Elsewhere>, RewrapError> {
        let mut found = BTreeMap::new();
        let mut after = 0;
        loop {
            let page = self.table.records(after).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            for record in &page {
                if let Some(to) = self.target(record) {
                    let (provider, kek) = (record.provider.clone(), record.kek.clone());
                    count(&mut found, KekRef { provider, kek }, to, &record.scope);
                }
            }
        }
        let platform = ScopePath::platform();
        if let (Aim::Settings { scopes, under }, Some(log)) = (&self.aim, self.table.log())
            && *under == platform
            && let Some(from) = log.root_kek().await?
        {
            let to = scopes.kek(&platform);
            if from != to {
                count(&mut found, from, to, platform.as_str());
            }
        }
        Ok(found.into_values().collect())
    }
}

fn count(found: &mut BTreeMap<(KekRef, KekRef), Elsewhere>, from: KekRef, to: KekRef, scope: &str) {
    let pair = (from.clone(), to.clone());
    let entry = found.entry(pair).or_insert_with(|| Elsewhere {
        from,
        to,
        keys: 0,
        scope: scope.to_owned(),
    });
    entry.keys += 1;
}
