//! Where everything is built, once, in order, and passed on; there are no globals.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use pgveil_config::{Diagnostics, PolicyFile, ScopePath, Settings};
use pgveil_jobs::worker::Worker;
use pgveil_keys::{
    Keys, Keystore, Scopes,
    audit::{Sinks, sink::SYSLOG, tend},
    clock::SystemClock,
    health::Health,
    keystore::KeystoreError,
    scopes::Own,
};
use pgveil_providers::{
    Providers,
    local::{KekStore, LocalKms},
};
use tokio::task::JoinHandle;
use tracing::Metadata;

use crate::{
    cli::Found,
    engine::Engine,
    keeper, keks, key_rotation, prober,
    traces::{self, Sending, Spans},
};

/// The configuration with what it leads to: keystore, providers, keys.
pub struct Built {
    /// `pgveil.toml`.
    pub settings: Arc<Settings>,
    /// `policy.toml`.
    pub policy: PolicyFile,
    /// The connection to schema `pgveil`.
    pub keystore: Arc<Keystore>,
    /// DEKs and index keys.
    pub keys: Arc<Keys>,
    /// The local KMS of each local provider, for automatic rotation.
    pub local: Vec<Arc<LocalKms>>,
    /// Who holds the KEKs.
    pub providers: Providers,
    /// How the KEKs are, for who shows it.
    pub health: Arc<Health>,
}

/// The keystore with its audit log, for commands that change keys or tell of them and serve nobody.
///
/// # Errors
/// What is wrong, with file and line or with a cure.
pub async fn keystore(config: &Path) -> anyhow::Result<(Settings, Arc<Keystore>)> {
    let (settings, keystore, _) = providers(config).await?;
    Ok((settings, keystore))
}

/// The same with the providers, for commands that ask them.
///
/// # Errors
/// What is wrong, with file and line or with a cure.
pub async fn providers(config: &Path) -> anyhow::Result<(Settings, Arc<Keystore>, Providers)> {
    let settings = Settings::load(config)?;
    let (keystore, providers) = connect(&settings).await?;
    let platform = Scopes::new(&settings).kek(&ScopePath::platform());
    keystore.log().use_providers(&providers, &platform);
    Ok((settings, keystore, providers))
}

async fn connect(settings: &Settings) -> anyhow::Result<(Arc<Keystore>, Providers)> {
    let keystore = Keystore::connect(settings)
        .await
        .map_err(|error| Found(format!("{error}; {}", error.cure())))?;
    let keystore = Arc::new(keystore);
    let keks: Arc<dyn KekStore> = Arc::clone(&keystore) as _;
    let providers = pgveil_providers::build(settings, &keks)
        .await
        .map_err(|error| Diagnostics(vec![error.diagnostic()]))?;
    Ok((keystore, providers))
}

/// Reads the files, connects to the keystore, opens the providers.
///
/// # Errors
/// What is wrong, with file and line or with a cure.
pub async fn build(config: &Path) -> anyhow::Result<Built> {
    let built = build_to_mend(config).await?;
    // Before the first key is made: a scope may have another KEK than the files say.
    match built.keystore.stored().await {
        Ok(stored) => built.take_up(stored)?,
        // No scope's KEK is known then, and no key is made; what needs none is served. The keeper asks again. Also where the
        // platform's provider says no: it may say yes later.
        Err(
            error @ (KeystoreError::Unavailable { .. }
            | KeystoreError::LogKeyAway { .. }
            | KeystoreError::Unaudited { .. }),
        ) => {
            tracing::warn!(%error, "what was set for scopes at run time is not known yet");
            built.keys.await_stored();
        }
        Err(error) => return Err(Found(format!("{error}\n  cure: {}", error.cure())).into()),
    }
    Ok(built)
}

/// [`build`], without what was set for scopes at run time: for whoever sets it right.
///
/// # Errors
/// As [`build`].
pub async fn build_to_mend(config: &Path) -> anyhow::Result<Built> {
    let settings = Arc::new(Settings::load(config)?);
    let policy = PolicyFile::load(&settings.policy)?;
    let (keystore, providers) = connect(&settings).await?;
    let keks: Arc<dyn KekStore> = Arc::clone(&keystore) as _;
    let local = pgveil_providers::local_managers(&settings, &keks)
        .await
        .map_err(|error| Diagnostics(vec![error.diagnostic()]))?;
    let keys = Arc::new(Keys::new(
        Arc::clone(&keystore) as _,
        providers.clone(),
        &settings,
        Arc::new(SystemClock),
    ));
    Ok(Built {
        settings,
        policy,
        keystore,
        keys,
        local,
        providers,
        health: Arc::default(),
    })
}

impl Built {
    fn take_up(&self, stored: BTreeMap<ScopePath, Own>) -> anyhow::Result<()> {
        for (scope, own) in &stored {
            let allowed = { self.settings.compliance }.allows(own.failure, own.rotation);
            allowed.map_err(|why| {
                Found(format!(
                    "{why}, and {scope} was set otherwise at run time; take it back with `pgveil scopes clear {scope}` before \
                     you ask for the level"
                ))
            })?;
        }
        self.keys.set_stored(stored);
        Ok(())
    }

    /// The engine: policy compiled against the catalog as it is now.
    ///
    /// # Errors
    /// What is wrong with policy or database.
    pub async fn engine(&self) -> anyhow::Result<Arc<Engine>> {
        let engine = Engine::start(
            Arc::clone(&self.settings),
            self.policy.clone(),
            Arc::clone(&self.keys),
        )
        .await?;
        Ok(Arc::new(engine))
    }

    /// Starts what runs beside the sessions for as long as the process: the catalog is followed, keys are kept in shape, sealed
    /// scopes are let go of, KEKs are looked at, jobs run, the audit log gets its checkpoints.
    pub fn start_background(&self, engine: &Arc<Engine>) -> Vec<JoinHandle<()>> {
        let audit = &self.settings.audit;
        let syslog = audit.sink_syslog.then(|| SYSLOG.into());
        let sinks = Sinks::new(audit.sink_file.clone(), syslog);
        let log = Arc::clone(self.keystore.log());
        vec![
            tokio::spawn(Arc::clone(engine).tend()),
            tokio::spawn(keeper::keep(
                Arc::clone(&self.keys),
                Arc::clone(&self.keystore),
                Arc::clone(&self.settings),
            )),
            tokio::spawn(key_rotation::tend(self.local.clone())),
            tokio::spawn(self.worker().run()),
            tokio::spawn(self.probing()),
            tokio::spawn(self.following()),
            tokio::spawn(Arc::clone(&self.keystore).watch(Arc::clone(&self.keys))),
            tokio::spawn(tend(log, sinks, audit.retention)),
        ]
    }

    /// Brings wrapped keys to new versions of their KEKs until it is dropped.
    fn following(&self) -> impl Future<Output = ()> + Send + 'static {
        self.keks().tend(Arc::clone(&self.health))
    }

    /// Whoever brings keys to new versions of KEKs.
    pub(crate) fn keks(&self) -> keks::Keks {
        keks::Keks {
            keys: Arc::clone(&self.keys),
            keystore: Arc::clone(&self.keystore),
            providers: self.providers.clone(),
            reencrypts: self.settings.reencrypt.automatic,
        }
    }

    /// Runs the jobs that are queued.
    pub fn worker(&self) -> Worker {
        Worker::new(
            Arc::clone(&self.settings),
            Arc::clone(&self.keystore),
            Arc::clone(&self.keys),
        )
    }

    /// Looks at every KEK in use until it is dropped.
    fn probing(&self) -> impl Future<Output = ()> + Send + 'static {
        let keys = Arc::clone(&self.keys);
        prober::run(keys, Arc::clone(&self.health))
    }
}

/// [`build`], with logs and traces set up first as the configuration says.
///
/// # Errors
/// As [`build`].
pub async fn build_logged(config: &Path) -> anyhow::Result<(Built, Told)> {
    let settings = Settings::load(config)?;
    let (spans, sending) = traces::start(&settings.traces)?.unzip();
    let set_level = subscribe(&settings, spans);
    let told = Told { set_level, sending };
    Ok((build(config).await?, told))
}

/// How the process is heard of.
pub struct Told {
    /// Has the logs go by another `[log] level`.
    pub set_level: SetLevel,
    /// Ended last, so that no span is left behind.
    pub sending: Option<Sending>,
}

/// Has the logs go by another `[log] level`.
pub type SetLevel = Box<dyn Fn(&str) + Send>;

/// Logs go to standard error, as the configuration says.
pub fn log_to_stderr(settings: &Settings) -> SetLevel {
    subscribe(settings, None)
}

fn subscribe(settings: &Settings, spans: Option<Spans>) -> SetLevel {
    use std::io::IsTerminal;
    use tracing_subscriber::{
        EnvFilter, Layer, Registry,
        filter::{FilterExt, FilterFn, LevelFilter},
        fmt,
        prelude::*,
        registry, reload,
    };
    // Only what speaks `tracing` is heard: a library's `log` lines may quote statements (Cargo.toml). And of that only what
    // pgveil says, whatever the filter asks for: AWS's client traces requests with the key that is to be wrapped.
    let is_own = |about: &Metadata<'_>| about.target().starts_with("pgveil");
    let filter_of =
        |level: &str| EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let (level, handle) = reload::Layer::new(filter_of(&settings.log.level));
    let own_lines = FilterFn::new(move |about| about.is_event() && is_own(about));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = if settings.log.json {
        lines.json().boxed()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).boxed()
    };
    let lines = lines.with_filter(own_lines.and(level));
    match spans {
        None => registry().with(lines).init(),
        Some(spans) => {
            // Whatever level the logs have.
            let own_spans = FilterFn::new(move |about| about.is_span() && is_own(about))
                .with_max_level_hint(LevelFilter::INFO);
            registry()
                .with(lines)
                .with(spans.with_filter(own_spans))
                .init();
        }
    }
    Box::new(move |level| {
        // It fails only when there is no subscriber any more, and then nobody hears of it.
        let _ = handle.reload(filter_of(level));
    })
}
