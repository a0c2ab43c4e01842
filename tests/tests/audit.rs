//! The audit log on a real keystore: what is recorded with what, replicas that append at once, step-up, and every way in
//! which a superuser of the database might change it afterwards.

#[path = "audit/appending.rs"]
mod appending;
#[path = "audit/step_up.rs"]
mod step_up;
#[path = "audit/telling.rs"]
mod telling;
#[path = "audit/verifying.rs"]
mod verifying;

use std::sync::Arc;

use anyhow::Result;
use pgveil_config::{ScopePath, Settings, TlsMode};
use pgveil_keys::{
    Keys, Keystore,
    clock::{Clock, SystemClock},
    database, schema as pgveil_schema,
};
use pgveil_providers::local::{KekStore, LocalProvider};
use pgveil_tests::postgres;

/// A deployment: a database with the schema, and a folder with a root key.
struct Site {
    database: postgres::Database<'static>,
    folder: tempfile::TempDir,
}

/// A process of pgveil, as far as keys go.
struct Replica {
    keystore: Arc<Keystore>,
    keys: Keys,
}

impl Site {
    async fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        LocalProvider::create_root_key(&folder.path().join("root.key"))?;
        let database = postgres::TempPostgres::fresh_database()?;
        let mut client = database::connect(&database.url("pgveil"), TlsMode::Disable, None).await?;
        pgveil_schema::install(&mut client).await?;
        Ok(Self { database, folder })
    }

    fn text(&self) -> String {
        format!(
            "policy = \"policy.toml\"\n\
             [upstream]\naddress = \"127.0.0.1:1\"\ntls = \"disable\"\n\
             [keystore]\nurl = \"{}\"\n\
             [provider.main]\nkind = \"local\"\nroot_key_file = \"root.key\"\n\
             [defaults]\nprovider = \"main\"\nkey = \"platform\"\n",
            self.database.url("pgveil")
        )
    }

    async fn replica(&self) -> Result<Replica> {
        self.replica_of(&self.text()).await
    }

    /// With other settings.
    async fn replica_of(&self, text: &str) -> Result<Replica> {
        self.replica_at(text, Arc::new(SystemClock)).await
    }

    /// Whose time another clock tells.
    async fn replica_with_clock(&self, clock: Arc<dyn Clock>) -> Result<Replica> {
        self.replica_at(&self.text(), clock).await
    }

    async fn replica_at(&self, text: &str, clock: Arc<dyn Clock>) -> Result<Replica> {
        let settings = Settings::parse(text, &self.folder.path().join("pgveil.toml"))?;
        let keystore = Keystore::connect_with_clock(&settings, clock).await?;
        let keystore = Arc::new(keystore);
        let keks: Arc<dyn KekStore> = keystore.clone();
        let providers = pgveil_providers::build(&settings, &keks).await?;
        let keys = Keys::new(
            keystore.clone(),
            providers,
            &settings,
            Arc::new(SystemClock),
        );
        Ok(Replica { keystore, keys })
    }
}

fn scope(text: &str) -> ScopePath {
    ScopePath::parse(text).expect("a scope in a test")
}
