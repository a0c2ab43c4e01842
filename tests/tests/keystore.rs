//! The keystore and schema `pgveil` in a real Postgres: installing, rights, domains and functions, keys and their races,
//! lost connections. What the proxy does with them is told in the stories.

#[path = "keystore/authentic.rs"]
mod authentic;
#[path = "keystore/connecting.rs"]
mod connecting;
#[path = "keystore/keks.rs"]
mod keks;
#[path = "keystore/keys.rs"]
mod keys;
#[path = "keystore/labels.rs"]
mod labels;
#[path = "keystore/registry.rs"]
mod registry;
#[path = "support/row_mac.rs"]
mod row_mac;
#[path = "keystore/schema.rs"]
mod schema;
#[path = "keystore/sql.rs"]
mod sql;
#[path = "keystore/tampered.rs"]
mod tampered;

use std::{path::Path, sync::Arc};

use anyhow::Result;
use pgveil_config::{Settings, TlsMode};
use pgveil_keys::{
    Keys, Keystore,
    clock::SystemClock,
    database::{self, Database},
    schema as pgveil_schema,
};
use pgveil_providers::local::{KekStore, LocalProvider};
use pgveil_tests::postgres;

/// A connection as the keystore's role.
async fn connect(database: &postgres::Database<'_>) -> Result<Database> {
    Ok(database::connect(&database.url("pgveil"), TlsMode::Disable, None).await?)
}

/// A database with schema `pgveil`.
async fn installed() -> Result<postgres::Database<'static>> {
    let database = postgres::TempPostgres::fresh_database()?;
    let mut client = connect(&database).await?;
    pgveil_schema::install(&mut client).await?;
    Ok(database)
}

/// A deployment: a database with the schema, and a folder with a root key.
struct Site {
    database: postgres::Database<'static>,
    folder: tempfile::TempDir,
}

impl Site {
    async fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        LocalProvider::create_root_key(&folder.path().join("root.key"))?;
        Ok(Self {
            database: installed().await?,
            folder,
        })
    }

    fn settings(&self) -> Result<Settings> {
        settings(&self.database.url("pgveil"), self.folder.path())
    }

    /// A process of pgveil, as far as keys go.
    async fn replica(&self) -> Result<Keys> {
        let settings = self.settings()?;
        let keystore = Arc::new(Keystore::connect(&settings).await?);
        let keks: Arc<dyn KekStore> = keystore.clone();
        let providers = pgveil_providers::build(&settings, &keks).await?;
        Ok(Keys::new(
            keystore,
            providers,
            &settings,
            Arc::new(SystemClock),
        ))
    }
}

fn settings(url: &str, folder: &Path) -> Result<Settings> {
    let text = format!(
        "policy = \"policy.toml\"\n\
         [upstream]\naddress = \"127.0.0.1:1\"\ntls = \"disable\"\n\
         [keystore]\nurl = \"{url}\"\n\
         [provider.main]\nkind = \"local\"\nroot_key_file = \"root.key\"\n\
         [defaults]\nprovider = \"main\"\nkey = \"platform\"\n"
    );
    Ok(Settings::parse(&text, &folder.join("pgveil.toml"))?)
}
