//! Reads the catalog and the registry of columns on a connection of pgveil's own and compiles the policy against them.
//! Says nothing about statements.

use std::sync::Arc;

use pgveil_config::{PolicyFile, Settings};
use pgveil_keys::{
    Keys,
    database::{self, Database},
    keystore::registry::{self, Registry},
};
use pgveil_policy::{
    Ruleset,
    catalog::Catalog,
    plan::ColumnId,
    ruleset::{RegisteredColumn, Unfit},
    scan::relations::RelationName,
};
use tokio_postgres::types::{ToSql, Type};

/// How often the catalog is read while definitions are committed meanwhile.
const ATTEMPTS: usize = 5;

/// Whether a policy is compiled for the first time: names in it that look like mistakes are some only then.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    First,
    Again,
}

/// The connection over which the catalog is read, and what was seen last.
pub(super) struct CatalogReader {
    settings: Arc<Settings>,
    keys: Arc<Keys>,
    database: Option<Database>,
    fingerprint: u64,
    revision: i64,
    /// The last reading was broken off: what is in force may be what was there before.
    is_stale: bool,
    /// What was compiled against last, and the relations in it that another transaction was changing: of them it has what was known before.
    last: Option<(Arc<Catalog>, Vec<u32>)>,
    newest: Option<ColumnId>,
    /// Whether what was compiled last went by rows that were judged: while the key of their MACs is not to be had, nothing
    /// protected may be planned by them.
    judged: bool,
}

impl CatalogReader {
    /// Nothing is read yet.
    pub(super) fn new(settings: Arc<Settings>, keys: Arc<Keys>) -> Self {
        Self {
            settings,
            keys,
            database: None,
            fingerprint: 0,
            revision: 0,
            is_stale: false,
            last: None,
            newest: None,
            judged: false,
        }
    }

    /// The next look finds a difference: what was compiled is not in force.
    pub(super) fn forget(&mut self) {
        self.is_stale = true;
    }

    /// Whether the registry's rows were judged when it was compiled last.
    pub(super) fn is_judged(&self) -> bool {
        self.judged
    }

    /// Of the catalog that was compiled against last.
    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Whether the catalog, the description of a column, or with `ids` the registry of columns, is not what was compiled
    /// against last. The registry is looked at where a transaction has ended: values may bear ids that were given within it.
    pub(super) async fn has_changed(&mut self, ids: bool) -> anyhow::Result<bool> {
        if self.is_stale || !self.judged && self.keys.registry_now().is_some() {
            return Ok(true);
        }
        self.differs(ids).await
    }

    /// Whether it is not what was read last.
    async fn differs(&mut self, ids: bool) -> anyhow::Result<bool> {
        let (fingerprint, revision, newest) = (self.fingerprint, self.revision, self.newest);
        let busy = self.last.as_ref().map(|(_, busy)| busy.clone());
        let busy = busy.filter(|busy| !busy.is_empty());
        let client = self.client().await?;
        if let Some(busy) = busy
            && pgveil_jobs::catalog::being_changed(client).await? != busy
        {
            return Ok(true);
        }
        Ok(
            pgveil_jobs::catalog::fingerprint(client).await? != fingerprint
                || registry::revision(&**client).await? != revision
                || ids && registry::newest(&**client).await? != newest,
        )
    }

    /// OIDs of the relations and functions of these names, in any schema if none is given, and which of both they are.
    /// Temporary ones are a session's own.
    pub(super) async fn find(
        &mut self,
        names: &[RelationName],
    ) -> anyhow::Result<Vec<(u32, bool)>> {
        const FIND: &str = "SELECT c.oid, false FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             JOIN ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS f (schema, name) \
               ON c.relname = f.name::name AND (f.schema IS NULL OR n.nspname = f.schema) \
             WHERE c.relpersistence <> 't' AND c.relkind IN ('r', 'v', 'm', 'f', 'p') \
             UNION ALL SELECT p.oid, true FROM pg_catalog.pg_proc p \
             JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
             WHERE p.proname = ANY ($3::text[]::name[]) AND n.nspname !~ '^pg_temp_'";
        let relations = || names.iter().filter(|name| !name.is_function);
        let schemas: Vec<Option<&str>> = relations().map(|n| n.schema.as_deref()).collect();
        let bare: Vec<&str> = relations().map(|n| n.name.as_str()).collect();
        let functions = names.iter().filter(|name| name.is_function);
        let functions: Vec<&str> = functions.map(|n| n.name.as_str()).collect();
        let params: [(&(dyn ToSql + Sync), Type); 3] = [
            (&schemas, Type::TEXT_ARRAY),
            (&bare, Type::TEXT_ARRAY),
            (&functions, Type::TEXT_ARRAY),
        ];
        let rows = self.client().await?.query_typed(FIND, &params).await?;
        Ok(rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<_, tokio_postgres::Error>>()?)
    }

    async fn client(&mut self) -> anyhow::Result<&Database> {
        if self
            .database
            .as_ref()
            .is_none_or(|database| database.is_closed())
        {
            let keystore = &self.settings.keystore;
            let url = keystore.url.read()?;
            self.database =
                Some(database::connect(&url, keystore.tls, keystore.ca_file.as_deref()).await?);
        }
        self.database
            .as_ref()
            .ok_or_else(|| anyhow::anyhow!("no connection"))
    }

    /// The policy compiled against the catalog of now. If that has labels of enum types that are not on record yet, it is
    /// read again once they are.
    pub(super) async fn compile(
        &mut self,
        policy: &PolicyFile,
        version: u64,
    ) -> anyhow::Result<Ruleset> {
        self.compile_as(policy, (version, Reading::Again)).await
    }

    async fn compile_as(
        &mut self,
        policy: &PolicyFile,
        as_what: (u64, Reading),
    ) -> anyhow::Result<Ruleset> {
        // A look behind a reading that was broken off must not find all as it was.
        self.is_stale = true;
        let read = self.compile_with_labels(policy, as_what).await;
        self.is_stale = read.is_err();
        read
    }

    async fn compile_with_labels(
        &mut self,
        policy: &PolicyFile,
        as_what: (u64, Reading),
    ) -> anyhow::Result<Ruleset> {
        let rules = self.compile_whole(policy, as_what).await?;
        if !self.judged {
            return Ok(rules);
        }
        let keys = Arc::clone(&self.keys);
        let client = self.client().await?;
        if pgveil_jobs::labels::record_new(client, &keys, &rules).await? {
            return self.compile_whole(policy, as_what).await;
        }
        Ok(rules)
    }

    /// What was read in part before a definition was committed and in part after it, as at the swap of a migration, may fit nothing: then it
    /// is read again. The server prints expressions by what is there now, not by what the transaction sees.
    async fn compile_whole(
        &mut self,
        policy: &PolicyFile,
        as_what: (u64, Reading),
    ) -> anyhow::Result<Ruleset> {
        let mut attempt = 1;
        loop {
            let read = self.compile_once(policy, as_what).await;
            // Between the two a table may have been swapped: its columns are not what the registry says then.
            let fits = read
                .as_ref()
                .is_ok_and(|rules| rules.unfit.is_empty() && rules.pending.is_empty());
            // It is compared with the fingerprint from before the reading.
            if fits || attempt == ATTEMPTS || !self.differs(false).await.unwrap_or(false) {
                return read;
            }
            attempt += 1;
        }
    }

    async fn compile_once(
        &mut self,
        policy: &PolicyFile,
        as_what: (u64, Reading),
    ) -> anyhow::Result<Ruleset> {
        let last = self.last.clone();
        let registry = self.keys.registry_now();
        let client = self.client().await?;
        // The fingerprint is taken first: a change between the two reads makes the next look find a difference.
        let fingerprint = pgveil_jobs::catalog::fingerprint(client).await?;
        let revision = registry::revision(&**client).await?;
        // Whose transaction it is that changes a relation is not known: it may be that of the client who waits for this.
        let last = last.as_ref().map(|(last, _)| &**last);
        let (catalog, busy) =
            pgveil_jobs::catalog::read_beside(client, registry.as_ref(), last).await?;
        let stored = self.registered(registry.as_ref()).await?;
        self.judged = registry.is_some();
        (self.fingerprint, self.revision) = (fingerprint, revision);
        let catalog = Arc::new(catalog);
        self.last = Some((Arc::clone(&catalog), busy));
        let client = self.client().await?;
        let mut registered = stored.clone();
        let all = pgveil_jobs::recognise::recognise(client, &catalog, &mut registered).await?;
        let mut rules = compiled(policy, &catalog, &registered, as_what)?;
        if !self.judged {
            return Ok(rules);
        }
        let keys = Arc::clone(&self.keys);
        let client = self.client().await?;
        pgveil_jobs::register::follow(client, &keys, &rules, &stored).await?;
        if pgveil_jobs::register::made_through_the_proxy(client, &keys, &rules).await? {
            registered = self.registered(registry.as_ref()).await?;
            rules = compiled(policy, &catalog, &registered, as_what)?;
        }
        self.newest = registered.iter().map(|column| column.id).max();
        if !all {
            // The next look finds a difference.
            self.fingerprint = !fingerprint;
        }
        Ok(rules)
    }

    /// The same for a policy that was not in force before: it may describe a column that is not there otherwise.
    pub(super) async fn compile_new(
        &mut self,
        policy: &PolicyFile,
        version: u64,
    ) -> anyhow::Result<Ruleset> {
        let as_what = (version, Reading::First);
        let rules = self.compile_as(policy, as_what).await?;
        if !self.judged {
            return Ok(rules);
        }
        let keys = Arc::clone(&self.keys);
        let client = self.client().await?;
        if pgveil_jobs::register::described_anew(client, &keys, &rules).await? {
            return self.compile_as(policy, as_what).await;
        }
        Ok(rules)
    }

    /// The policy compiled against the catalog that a transaction sees, while all others see `known`.
    pub(super) async fn compile_within(
        &mut self,
        policy: &PolicyFile,
        seen: Catalog,
        (known, unfit): (&Catalog, &[Unfit]),
        version: u64,
    ) -> anyhow::Result<Ruleset> {
        let seen = Arc::new(seen);
        let registry = self.keys.registry_now();
        self.judged = registry.is_some();
        let mut stored = self.registered(registry.as_ref()).await?;
        let mut rules = compiled_within(policy, &seen, known, &stored, version);
        // What does not fit for anybody is refused for this transaction too; of what it has changed itself, everything is.
        let is_its = |table: &&Unfit| !unfit.contains(table);
        let its = rules.unfit.iter().filter(is_its);
        let its: Vec<_> = its.map(|table| table.finding.clone()).collect();
        if !its.is_empty() {
            return Err(pgveil_config::Diagnostics(its).into());
        }
        let keys = Arc::clone(&self.keys);
        let client = self.client().await?;
        if pgveil_jobs::register::made_in_a_transaction(client, &keys, &rules, known).await? {
            stored = self.registered(registry.as_ref()).await?;
            rules = compiled_within(policy, &seen, known, &stored, version);
        }
        let client = self.client().await?;
        pgveil_jobs::register::follow_in_a_transaction(client, &keys, &rules, known, &stored)
            .await?;
        Ok(rules)
    }

    /// Retired columns too: values that they sealed may have been moved.
    async fn registered(
        &mut self,
        registry: Option<&Registry>,
    ) -> anyhow::Result<Vec<RegisteredColumn>> {
        let client = self.client().await?;
        let rows = match registry {
            Some(registry) => registry.history(&**client).await?,
            None => registry::history_unjudged(&**client).await?,
        };
        Ok(rows.into_iter().map(|row| row.column).collect())
    }
}

/// The same for what a transaction sees: a column that it made under a registered name is the registered one, because
/// nothing but pgveil has written to it. (A table with sealed values does not get such a name through pgveil.)
fn compiled_within(
    policy: &PolicyFile,
    seen: &Arc<Catalog>,
    known: &Catalog,
    stored: &[RegisteredColumn],
    version: u64,
) -> Ruleset {
    let mut registered = stored.to_vec();
    pgveil_jobs::recognise::made_in_a_transaction(seen, known, &mut registered);
    Ruleset::recompile(policy, Arc::clone(seen), &registered, version)
}

fn compiled(
    policy: &PolicyFile,
    catalog: &Arc<Catalog>,
    registered: &[RegisteredColumn],
    (version, reading): (u64, Reading),
) -> anyhow::Result<Ruleset> {
    let catalog = Arc::clone(catalog);
    match reading {
        Reading::First => Ok(Ruleset::compile(policy, catalog, registered, version)
            .map_err(pgveil_config::Diagnostics)?),
        Reading::Again => Ok(Ruleset::recompile(policy, catalog, registered, version)),
    }
}
