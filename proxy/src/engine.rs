//! What all sessions share: the ruleset in force, the keys, the plans made so far.
//!
//! It owns no socket of a client and knows no message; sessions ask it.

mod reader;

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use pgveil_config::{PolicyFile, Settings};
use pgveil_keys::{Keys, keystore::registry::LEASE};
use pgveil_policy::{
    Plan, Refusal, Ruleset,
    analysis::{Kept, Protocol},
    catalog::Catalog,
    plan::{Effect, FetchedAs, Operand, ScopePart},
    ruleset::Unfit,
    scan::relations::RelationName,
    splice::Spliced,
};
use tokio::sync::Mutex;

use self::reader::CatalogReader;
use crate::session::{
    scoped::Scoped,
    view::{Probe, View},
    withheld::Withheld,
};

/// Statements longer than this are planned anew each time: a cached plan holds its text.
const MAX_CACHED_STATEMENT_BYTES: usize = 16 * 1024;
/// What a cached plan takes besides its text, roughly, and what each of its parts does.
const PLAN_BYTES: usize = 1024;
const PLAN_PART_BYTES: usize = 256;
/// The version of the rules with which the process starts.
const FIRST: u64 = 1;
/// How often the catalog is looked at for changes that went around the proxy.
const CATALOG_POLL: Duration = Duration::from_secs(2);
/// How long the platform's key provider may take to give the key of the registry's rows.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(5);
/// Names remembered that no relation has.
const MAX_NOWHERE: usize = 4096;

/// A plan and what follows from it alone.
#[derive(Debug)]
pub struct Prepared {
    /// The plan.
    pub plan: Arc<Plan>,
    /// In the extended protocol, the text to send, if all slots are parameters; otherwise the text is spliced when it
    /// is sent.
    pub spliced: Option<Spliced>,
    /// Per slot, its scope where the template is fixed.
    pub scopes: Vec<Option<Scoped>>,
    /// The plan's scope queries, ready to be sent.
    pub queries: Vec<Prepared>,
}

impl Prepared {
    /// What follows from a plan for this text.
    pub fn new(plan: Arc<Plan>, sql: &str, protocol: Protocol) -> Self {
        let stable = protocol == Protocol::Extended && !plan.has_literal_slots();
        let spliced = stable.then(|| plan.splice(sql, &mut |_, _| {}));
        let scopes = plan
            .slots
            .iter()
            .map(|slot| fixed_scope(&slot.scope))
            .collect();
        let queries = plan.scope_queries.iter().map(|query| {
            let plan = Arc::clone(&query.plan);
            Self::new(plan, &query.sql, Protocol::Extended)
        });
        let queries = queries.collect();
        Self {
            plan,
            spliced,
            scopes,
            queries,
        }
    }

    /// Whether the server gets the client's parameters as they are: what the client declares and binds is relayed.
    pub fn keeps_parameters(&self) -> bool {
        self.plan.server_params.is_empty() && !self.plan.answers_itself
    }
}

/// A ruleset and the probe that fits it.
#[derive(Debug)]
pub struct Rules {
    /// The compiled policy.
    pub set: Arc<Ruleset>,
    /// What a session asks the server about itself.
    pub probe: Probe,
    /// Of the catalog that they were compiled against; of no use where a transaction saw that catalog.
    pub fingerprint: u64,
    /// Whether the registry was judged that they go by. By others nothing protected is planned.
    pub judged: bool,
}

impl Rules {
    fn new(set: Ruleset, fingerprint: u64, judged: bool) -> Self {
        Self {
            probe: Probe::new(&set),
            set: Arc::new(set),
            fingerprint,
            judged,
        }
    }
}

/// When the catalog is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    /// Unless somebody else has looked meanwhile.
    Due,
}

struct CachedPlan {
    sql: Box<str>,
    view: Arc<str>,
    declared: Box<[u32]>,
    protocol: Protocol,
    version: u64,
    prepared: Arc<Prepared>,
    bytes: usize,
}

impl CachedPlan {
    /// Roughly what it takes of memory: the text twice and what the plan says about it.
    fn measured(mut self) -> Self {
        let plan = &self.prepared.plan;
        let parts = plan.slots.len() + plan.server_params.len() + plan.client_params.len();
        // A scope query repeats most of the text, once as it is written and once as it is sent.
        let texts = (3 + 2 * plan.scope_queries.len()) * self.sql.len() + self.view.len();
        self.bytes = PLAN_BYTES + texts + PLAN_PART_BYTES * (parts + plan.statements.len());
        self
    }
}

/// Shared by all sessions of the process.
pub struct Engine {
    rules: ArcSwap<Rules>,
    /// DEKs and index keys.
    pub keys: Arc<Keys>,
    /// Whom what was not shown to.
    pub withheld: Withheld,
    /// The configuration.
    pub settings: Arc<Settings>,
    policy: ArcSwap<PolicyFile>,
    plans: DashMap<u64, CachedPlan>,
    plan_bytes: AtomicUsize,
    hasher: RandomState,
    /// How often the catalog may have changed, and how often that was followed.
    catalog_changed: AtomicU64,
    catalog_followed: AtomicU64,
    /// How often names of relations may have changed, and how often that was followed.
    names_changed: AtomicU64,
    names_followed: AtomicU64,
    catalog: Mutex<CatalogReader>,
    /// For what a transaction has made. Reading the catalog may wait for a lock that this very transaction holds, so
    /// this is a connection of its own.
    within: Mutex<CatalogReader>,
    /// For names that no catalog has: they are looked up without waiting for a catalog that is being read.
    lookup: Mutex<CatalogReader>,
    /// Names that were looked up in vain since the catalog was looked at last. A session's own temporary tables are
    /// asked for once, not with each statement.
    nowhere: DashMap<RelationName, ()>,
    version: AtomicU64,
    started: Instant,
    /// When the catalog and the registry were last known to be what the rules were compiled against, in milliseconds since the
    /// start: taken before they were asked.
    confirmed: AtomicU64,
}

impl Engine {
    /// Reads the catalog and compiles the policy.
    ///
    /// # Errors
    /// What is wrong with the policy or the database, for a person.
    pub async fn start(
        settings: Arc<Settings>,
        policy: PolicyFile,
        keys: Arc<Keys>,
    ) -> anyhow::Result<Self> {
        let started = Instant::now();
        let unknown = know_registry(&keys).await.err();
        if let Some(why) = &unknown {
            tracing::warn!(why, "{REFUSES}");
        }
        let reader = || CatalogReader::new(Arc::clone(&settings), Arc::clone(&keys));
        let (mut catalog, within, lookup) = (reader(), reader(), reader());
        let set = catalog.compile_new(&policy, FIRST).await?;
        warn_of(&set);
        Ok(Self {
            rules: ArcSwap::from_pointee(Rules::new(
                set,
                catalog.fingerprint(),
                catalog.is_judged(),
            )),
            keys,
            withheld: Withheld::default(),
            settings,
            policy: ArcSwap::from_pointee(policy),
            plans: DashMap::new(),
            plan_bytes: AtomicUsize::new(0),
            hasher: RandomState::new(),
            catalog_changed: AtomicU64::new(0),
            catalog_followed: AtomicU64::new(0),
            names_changed: AtomicU64::new(0),
            names_followed: AtomicU64::new(0),
            within: Mutex::new(within),
            lookup: Mutex::new(lookup),
            nowhere: DashMap::new(),
            catalog: Mutex::new(catalog),
            version: AtomicU64::new(FIRST),
            started,
            confirmed: AtomicU64::new(0),
        })
    }

    /// The rules in force, without asking whether the catalog has changed.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// A statement that may have changed the catalog was executed: the next protected statement waits for a
    /// new look; with `names`, every statement does, because it is not known which ones are protected.
    pub fn catalog_may_have_changed(&self, names: bool) {
        self.nowhere.clear();
        self.catalog_changed.fetch_add(1, Ordering::AcqRel);
        if names {
            self.names_changed.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Whether there may be names of protected things that the rules do not know.
    fn names_may_have_changed(&self) -> bool {
        self.names_changed.load(Ordering::Acquire) != self.names_followed.load(Ordering::Acquire)
    }

    /// Looks at the catalog again if what is protected may have got other names.
    ///
    /// # Errors
    /// `PV002` when it cannot be read: nobody knows whether a statement names something protected.
    pub async fn know_names(&self) -> Result<(), Refusal> {
        if self.names_may_have_changed() {
            self.current_rules().await?;
        }
        Ok(())
    }

    /// Looks at the catalog again if relations or functions of these names are there that the rules do not know: made beside pgveil, or
    /// renamed there, since the catalog was read. `None`: it is not known which names. False if there are none.
    ///
    /// # Errors
    /// `PV002` when nobody can be asked: they may hold sealed values, which the server would compare and count as bytes.
    pub async fn know_relations(&self, names: Option<&[RelationName]>) -> Result<bool, Refusal> {
        let found = match names {
            None => true,
            Some(names) => self.is_somewhere(names).await?,
        };
        if found {
            self.catalog_may_have_changed(false);
            self.current_rules().await?;
        }
        Ok(found)
    }

    /// Whether the server has a relation or function of these names that the rules do not know.
    async fn is_somewhere(&self, names: &[RelationName]) -> Result<bool, Refusal> {
        let asked = |name: &&RelationName| !self.nowhere.contains_key(*name);
        let names: Vec<RelationName> = names.iter().filter(asked).cloned().collect();
        if names.is_empty() {
            return Ok(false);
        }
        let found = self.lookup.lock().await.find(&names).await;
        let found = found.map_err(|error| {
            tracing::error!(
                error = format!("{error:#}"),
                "relations and functions could not be looked up"
            );
            unreadable()
                .detail("A statement names a relation or function that pgveil does not know.")
        })?;
        if found.is_empty() && self.nowhere.len() < MAX_NOWHERE {
            for name in names {
                self.nowhere.insert(name, ());
            }
        }
        let rules = self.rules();
        Ok(found.iter().any(|(oid, is_function)| {
            if *is_function {
                !rules.set.knows_function(*oid)
            } else {
                !rules.set.knows_relation(&[], *oid)
            }
        }))
    }

    /// The rules in force, after a new look at the catalog if one is due.
    ///
    /// # Errors
    /// `PV002` when the catalog cannot be read: nothing protected can be planned without it.
    pub async fn current_rules(&self) -> Result<Arc<Rules>, Refusal> {
        if self.is_due() {
            self.refresh(When::Due).await.map_err(|error| {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the catalog could not be read again"
                );
                unreadable()
            })?;
        }
        let rules = self.rules();
        if rules.judged {
            Ok(rules)
        } else {
            Err(unjudged())
        }
    }

    /// Whether somebody must look before anything protected is planned. Rules are gone by for no longer than [`LEASE`]: who
    /// changes what values are relies on it.
    fn is_due(&self) -> bool {
        let confirmed = self.confirmed.load(Ordering::Acquire);
        self.catalog_changed.load(Ordering::Acquire)
            != self.catalog_followed.load(Ordering::Acquire)
            || self.names_may_have_changed()
            || self.running_ms().saturating_sub(confirmed) >= LEASE.as_millis() as u64
    }

    fn running_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    async fn refresh(&self, when: When) -> anyhow::Result<()> {
        let mut catalog = self.catalog.lock().await;
        // Others may have waited for the same look.
        if when == When::Due && !self.is_due() {
            return Ok(());
        }
        let asked = self.running_ms();
        self.nowhere.clear();
        // A change during the read is not followed by it; until the read is done, nobody goes by what was there before.
        let changed = self.catalog_changed.load(Ordering::Acquire);
        let names = self.names_changed.load(Ordering::Acquire);
        let result = self.refresh_with(&mut catalog).await;
        if result.is_err() {
            // Whatever it is that could not be read: the next statement looks again.
            self.catalog_changed.fetch_add(1, Ordering::AcqRel);
        } else {
            self.catalog_followed.fetch_max(changed, Ordering::AcqRel);
            self.names_followed.fetch_max(names, Ordering::AcqRel);
            self.confirmed.store(asked, Ordering::Release);
        }
        result
    }

    async fn refresh_with(&self, catalog: &mut CatalogReader) -> anyhow::Result<()> {
        if !catalog.has_changed(self.names_may_have_changed()).await? {
            return Ok(());
        }
        let policy = self.policy.load_full();
        let set = catalog.compile(&policy, self.next_version()).await?;
        warn_of_unfit(&set, &self.rules().set);
        let version = set.version;
        self.rules.store(Arc::new(Rules::new(
            set,
            catalog.fingerprint(),
            catalog.is_judged(),
        )));
        self.forget_plans();
        tracing::info!(
            version,
            "the catalog changed; the policy was compiled against it again"
        );
        Ok(())
    }

    /// Takes another policy, whole, or goes on with the one in force.
    ///
    /// # Errors
    /// What is wrong with the policy or the database, for a person.
    pub async fn take(&self, policy: PolicyFile) -> anyhow::Result<()> {
        let mut catalog = self.catalog.lock().await;
        let compiled = catalog.compile_new(&policy, self.next_version()).await;
        let set = match compiled {
            Ok(set) => set,
            Err(error) => {
                catalog.forget();
                return Err(error);
            }
        };
        warn_of(&set);
        self.policy.store(Arc::new(policy));
        self.rules.store(Arc::new(Rules::new(
            set,
            catalog.fingerprint(),
            catalog.is_judged(),
        )));
        self.forget_plans();
        Ok(())
    }

    fn next_version(&self) -> u64 {
        self.version.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The rules within a transaction that sees this catalog, while all others see `known`. Columns that it has made
    /// get their ids.
    ///
    /// # Errors
    /// What the transaction has made does not fit the policy, or the keystore cannot be asked.
    pub async fn rules_within(&self, seen: Catalog, known: &Catalog) -> Result<Rules, Refusal> {
        let mut registry = self.within.lock().await;
        let version = self.next_version();
        let policy = self.policy.load_full();
        let in_force = self.rules();
        let known = (known, in_force.set.unfit.as_slice());
        let compiled = registry.compile_within(&policy, seen, known, version);
        match compiled.await {
            Ok(_) if !registry.is_judged() => Err(unjudged()),
            Ok(set) => Ok(Rules::new(set, 0, true)),
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "what a transaction made could not be followed"
                );
                Err(match error.downcast::<pgveil_config::Diagnostics>() {
                    Ok(findings) => unfit(&findings),
                    Err(_) => unreadable(),
                })
            }
        }
    }

    /// Runs for as long as the process: looks for catalog changes and drops expired keys.
    pub async fn tend(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(CATALOG_POLL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = String::new();
        loop {
            ticks.tick().await;
            self.keys.sweep();
            if !self.rules().judged
                && let Err(why) = know_registry(&self.keys).await
                && why != told
            {
                // Not every two seconds the same.
                tracing::warn!(why, "{REFUSES}");
                told = why;
            }
            if let Err(error) = self.refresh(When::Now).await {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the catalog could not be read"
                );
            }
        }
    }

    /// The plan for a statement text, from the cache or made now.
    ///
    /// # Errors
    /// The refusal of the statement.
    pub fn prepare(
        &self,
        rules: &Rules,
        sql: &str,
        view: &View,
        kept: &dyn Kept,
        protocol: Protocol,
        declared: &[u32],
    ) -> Result<Arc<Prepared>, Refusal> {
        if sql.len() > self.settings.limits.max_statement_bytes {
            return Err(statement_too_long(self.settings.limits.max_statement_bytes));
        }
        let version = rules.set.version;
        let hash = self.hasher.hash_one((
            sql,
            &*view.key,
            declared,
            protocol == Protocol::Simple,
            version,
        ));
        if let Some(hit) = self.plans.get(&hash)
            && *hit.sql == *sql
            && hit.view == view.key
            && *hit.declared == *declared
            && hit.protocol == protocol
            && hit.version == version
        {
            return Ok(Arc::clone(&hit.prepared));
        }
        let plan = rules
            .set
            .analyse_in(sql, &view.session, kept, protocol, declared)?;
        let cacheable = cacheable(sql, &plan);
        let prepared = Arc::new(Prepared::new(Arc::new(plan), sql, protocol));
        if cacheable {
            self.make_room();
            let cached = CachedPlan {
                sql: sql.into(),
                view: Arc::clone(&view.key),
                declared: declared.into(),
                protocol,
                version,
                prepared: Arc::clone(&prepared),
                bytes: 0,
            };
            self.keep(hash, cached.measured());
        }
        Ok(prepared)
    }

    fn keep(&self, hash: u64, plan: CachedPlan) {
        self.plan_bytes.fetch_add(plan.bytes, Ordering::Relaxed);
        if let Some(old) = self.plans.insert(hash, plan) {
            self.plan_bytes.fetch_sub(old.bytes, Ordering::Relaxed);
        }
    }

    /// Keeps the cache within `limits.statement_cache` and `statement_cache_bytes`: arbitrary entries go, each of
    /// which costs one analysis.
    fn make_room(&self) {
        let limits = &self.settings.limits;
        while self.plans.len() >= limits.statement_cache
            || self.plan_bytes.load(Ordering::Relaxed) > limits.statement_cache_bytes
        {
            // Its guard must be gone before the entry can be removed.
            let victim = self.plans.iter().next().map(|entry| *entry.key());
            let Some((_, plan)) = victim.and_then(|victim| self.plans.remove(&victim)) else {
                return;
            };
            self.plan_bytes.fetch_sub(plan.bytes, Ordering::Relaxed);
        }
    }

    fn forget_plans(&self) {
        self.plans.retain(|_, plan| {
            self.plan_bytes.fetch_sub(plan.bytes, Ordering::Relaxed);
            false
        });
    }
}

fn unreadable() -> Refusal {
    Refusal::new("PV002", "catalog-unavailable", "pgveil cannot read the database's catalog")
        .detail("The catalog, or what the keystore says of columns, was changed and must be read again before protected columns can be used. That fails.")
        .hint("Look at pgveil's log; `pgveil check` says what is wrong.")
}

/// What of a policy that is taken up somebody should know.
fn warn_of(set: &Ruleset) {
    for column in set.absent() {
        tracing::warn!(
            column = column.display_name(),
            "the policy names a column that does not exist; it is protected once it is made through pgveil"
        );
    }
    for (table, column) in set.served_plain() {
        tracing::warn!(
            table,
            column,
            "the policy names a column that is plaintext: it is being migrated, or was given back. It is served as plaintext until `pgveil apply` has sealed it"
        );
    }
    for wanted in &set.wanted {
        tracing::warn!(
            column = format!("{}.{}.{}", wanted.schema, wanted.table, wanted.column),
            "its values are not yet what the policy wants; they are used as they are until `pgveil apply` has changed them"
        );
    }
}

/// Which tables do not fit the policy any more, and which fit it again.
fn warn_of_unfit(now: &Ruleset, before: &Ruleset) {
    for table in now
        .unfit
        .iter()
        .filter(|table| !before.unfit.contains(table))
    {
        tracing::error!(
            table = table.display_name(),
            finding = table.finding.to_string(),
            "a table was changed and does not fit the policy any more: it is refused until it does"
        );
    }
    let was = |table: &&Unfit| {
        let mut now = now.unfit.iter();
        now.all(|unfit| (&unfit.schema, &unfit.table) != (&table.schema, &table.table))
    };
    for table in before.unfit.iter().filter(was) {
        tracing::info!(
            table = table.display_name(),
            "a table fits the policy again, or is gone"
        );
    }
}

fn unjudged() -> Refusal {
    Refusal::new("PV002", "catalog-unavailable", "pgveil cannot judge its registry of columns")
        .detail("The rows of pgveil.columns have MACs, and the platform's key provider has not given the key for them since pgveil started.")
        .hint("See that the provider of [defaults] answers; `pgveil check` says what is wrong.")
}

/// What is logged until it can be judged.
const REFUSES: &str =
    "the registry of columns cannot be judged: what is protected is refused until it can";

/// Has the platform's provider asked for the key of the registry's rows; answers why it is not to be had. Without it, what is not
/// protected is served all the same.
async fn know_registry(keys: &Keys) -> Result<(), String> {
    match tokio::time::timeout(REGISTRY_PATIENCE, keys.registry()).await {
        Ok(answer) => answer.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err("the platform's key provider does not answer".to_owned()),
    }
}

fn unfit(findings: &pgveil_config::Diagnostics) -> Refusal {
    let messages = findings.0.iter().map(|finding| finding.message.as_str());
    Refusal::unsupported(
        "definition-differs",
        "what this transaction has changed does not fit the policy",
    )
    .detail(messages.collect::<Vec<_>>().join("; "))
    .hint("Roll back, and change the definition or the policy.")
}

fn statement_too_long(limit: usize) -> Refusal {
    Refusal::new(
        "54000",
        "too-long",
        "the statement is too long to be analysed",
    )
    .detail(format!(
        "It names something protected and is longer than {limit} bytes."
    ))
    .hint("Use parameters or smaller batches, or raise limits.max_statement_bytes.")
}

/// Texts with literals for protected columns are not kept: the cache would hold plaintext for as long as it likes.
fn cacheable(sql: &str, plan: &Plan) -> bool {
    fn from_literal(operand: &Operand) -> bool {
        match operand {
            Operand::Literal(Some(_))
            | Operand::Array(_)
            | Operand::Argument(..)
            | Operand::ArgumentArray(..) => true,
            Operand::Computed(text) | Operand::Spelled(text) | Operand::Split(text, _) => {
                text.holds_literal()
            }
            Operand::SpelledEach(array) => from_literal(array),
            // An interval is read as the session's style has it.
            Operand::Moment(timed) => timed.holds_literal(),
            Operand::Fetched(fetched) => match &fetched.made {
                FetchedAs::Value(_) => false,
                FetchedAs::Text(text) => text.holds_literal(),
            },
            Operand::Literal(None) | Operand::Param(_) => false,
        }
    }
    // What EXECUTE means depends on the session; what PREPARE keeps may hold literals.
    let kept = |effect: &Effect| matches!(effect, Effect::Prepare { .. } | Effect::Execute { .. });
    sql.len() <= MAX_CACHED_STATEMENT_BYTES
        && !plan.answers_itself
        && !plan.statements.iter().any(|s| kept(&s.effect))
        && !plan.slots.iter().any(|slot| from_literal(&slot.operand))
        && !plan.scope_queries.iter().any(|query| {
            query
                .plan
                .slots
                .iter()
                .any(|slot| from_literal(&slot.operand))
        })
}

fn fixed_scope(parts: &[ScopePart]) -> Option<Scoped> {
    match parts {
        [ScopePart::Text(text)] => Scoped::parse(text).ok(),
        _ => None,
    }
}
