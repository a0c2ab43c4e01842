//! Values brought to their scope's present DEK: the same plaintext, the same terms, the same column, another key.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use futures_util::{FutureExt, future::BoxFuture};
use pgveil_config::ScopePath;
use pgveil_keys::{
    DekId, Keys, Keystore,
    keystore::{JobRecord, KeyEntry},
    nonce, sealed,
};
use serde_json::{Value, json};

use super::{At, Remake, Rest, RowColumns, Trouble, damaged, names_key, value, warm};
use crate::{JobError, sql};

/// More old keys than this are not named to the server in each statement of the walk: it looks them up.
const MAX_NAMED: usize = 1000;
/// Old keys that a proof names.
const MAX_PROVED: usize = 100;

/// The keys before the horizon, of a scope or of all below it.
#[derive(Debug)]
pub(super) struct Rewrap {
    keys: Arc<Keys>,
    horizon: DekId,
    old: HashSet<u64>,
    /// SQL that answers the old keys, as the first bytes of values name them, and perhaps some more.
    looked_up: String,
    /// Where no key is replaced: the lowest id that a scope's values may be brought to, behind its last old one.
    floors: Option<HashMap<ScopePath, DekId>>,
    /// Scopes whose active key is an old one.
    to_rotate: Vec<ScopePath>,
}

impl Rewrap {
    pub(super) async fn of(
        job: &JobRecord,
        keys: &Arc<Keys>,
        keystore: &Keystore,
    ) -> Result<Self, JobError> {
        let target = Target::of(job)?;
        let (mut old, mut to_rotate) = (HashSet::new(), Vec::new());
        let mut floors = HashMap::new();
        for key in keystore.inventory().await? {
            let Some(scope) = target.takes(&key) else {
                continue;
            };
            old.insert(key.id);
            let floor = floors.entry(scope.clone()).or_insert(DekId(0));
            *floor = (*floor).max(DekId(key.id + 1));
            if key.state == "active" {
                to_rotate.push(scope);
            }
        }
        Ok(Self {
            keys: Arc::clone(keys),
            horizon: DekId(target.horizon),
            old,
            looked_up: target.looked_up(),
            floors: target.retired_only.then_some(floors),
            to_rotate,
        })
    }

    /// The lowest id of a key that values of a scope are brought to.
    fn floor(&self, scope: &ScopePath) -> DekId {
        let floors = self.floors.as_ref();
        floors.map_or(self.horizon, |floors| {
            floors.get(scope).copied().unwrap_or(DekId(0))
        })
    }

    async fn resealed(&self, value: &[u8]) -> Result<Option<Vec<u8>>, Trouble> {
        let envelope = value::parse(value)?;
        if !self.old.contains(&envelope.dek.0) {
            return Ok(None);
        }
        let (key, plain) = value::open(&self.keys, &envelope).await?;
        let scope = key.scope();
        let floor = self.floor(scope);
        for _ in 0..4 {
            let held = self.keys.cached_sealing_key(scope);
            let next = match held.filter(|key| key.id() >= floor) {
                Some(key) => key,
                None => {
                    { self.keys.sealing_key_since(scope, floor).await }.map_err(value::trouble)?
                }
            };
            let mut out = Vec::new();
            let sealed = sealed::seal(
                &next,
                envelope.column,
                &envelope.terms,
                &nonce::next(),
                &plain,
                &mut out,
            );
            // Another one took the last use of its lease.
            if sealed.is_ok() {
                return Ok(Some(out));
            }
        }
        Err(value::no_uses_left(scope))
    }
}

impl Remake for Rewrap {
    fn wants(&self, at: At<'_>, value: &str) -> String {
        if self.old.len() > MAX_NAMED {
            // By rows that nobody has judged: what is left out is found by the count, and what is too much is left as it is.
            return format!("{} IN ({})", key_of(value), self.looked_up);
        }
        self.counts(at, value)
    }

    fn counts(&self, _: At<'_>, value: &str) -> String {
        if self.old.is_empty() {
            return "false".to_owned();
        }
        let ids: BTreeSet<u64> = self.old.iter().copied().collect();
        names_key(value, ids)
    }

    fn prepare<'a>(&'a self, values: &'a [&'a [u8]]) -> BoxFuture<'a, ()> {
        warm(&self.keys, values)
    }

    fn remake<'a>(
        &'a self,
        _: At<'a>,
        _: &'a RowColumns,
        value: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, Trouble>> {
        self.resealed(value).boxed()
    }

    fn begin(&self) -> BoxFuture<'_, Result<Option<String>, JobError>> {
        async {
            let mut waits = None;
            for scope in &self.to_rotate {
                if let Err(error) = self.keys.sealing_key_since(scope, self.horizon).await {
                    waits = Some(error.to_string());
                }
            }
            Ok(waits)
        }
        .boxed()
    }

    fn rests(&self) -> Rest {
        if self.old.is_empty() {
            return Rest::None;
        }
        Rest::Keys(self.old.iter().copied().collect())
    }

    fn proof(&self) -> Value {
        let old: BTreeSet<u64> = self.old.iter().copied().collect();
        let ids: Vec<u64> = old.into_iter().take(MAX_PROVED).collect();
        json!({ "horizon": self.horizon.0, "old_keys": self.old.len(), "ids": ids })
    }
}

/// The id of the data key, as a value's header has it.
fn key_of(value: &str) -> String {
    format!("pg_catalog.substr({value}, 9, 8)")
}

/// What a rewrap brings values to, as it was stored.
struct Target {
    horizon: u64,
    scope: ScopePath,
    below: bool,
    retired_only: bool,
    kek: Option<(String, String)>,
}

impl Target {
    fn of(job: &JobRecord) -> Result<Self, JobError> {
        let text = |name: &str| job.target[name].as_str().map(str::to_owned);
        Ok(Self {
            horizon: { job.target["horizon"].as_u64() }
                .ok_or_else(|| damaged("a rewrap without a horizon"))?,
            scope: ScopePath::parse(&job.scope).map_err(|_| damaged("a scope that is none"))?,
            below: job.below,
            retired_only: job.target["retired_only"].as_bool().unwrap_or(false),
            kek: text("provider").zip(text("key")),
        })
    }

    /// The same for the server, which does not know which scopes are below which: all of the tenant are.
    fn looked_up(&self) -> String {
        let mut conditions = format!(
            "k.purpose = 'data' AND k.state <> 'destroyed' AND k.id < {}",
            self.horizon
        );
        if self.retired_only {
            conditions.push_str(" AND k.state <> 'active'");
        }
        if self.scope != ScopePath::platform() {
            let tenant = self.scope.as_str().split('/').next().unwrap_or_default();
            conditions.push_str(&format!(
                " AND pg_catalog.split_part(k.scope, '/', 1) = {}",
                sql::literal(tenant)
            ));
        }
        if let Some((provider, kek)) = &self.kek {
            let (provider, kek) = (sql::literal(provider), sql::literal(kek));
            conditions.push_str(&format!(
                " AND k.provider = {provider} AND k.kek_id = {kek}"
            ));
        }
        format!("SELECT pg_catalog.int8send(k.id) FROM pgveil.keys k WHERE {conditions}")
    }

    /// The key's scope, if its values are to be brought to another key.
    fn takes(&self, key: &KeyEntry) -> Option<ScopePath> {
        let is_old = key.purpose == "data"
            && key.state != "destroyed"
            && key.id < self.horizon
            && !(self.retired_only && key.state == "active");
        let kek = |(provider, kek): &(String, String)| key.provider == *provider && key.kek == *kek;
        if !is_old || !self.kek.as_ref().is_none_or(kek) {
            return None;
        }
        let scope = ScopePath::parse(&key.scope).ok()?;
        let within = scope == self.scope || self.below && scope.chain().contains(&self.scope);
        within.then_some(scope)
    }
}
