//! Registrations changed as `pgveil apply` does, with their MACs and records: for tests of what holds while columns are being
//! changed.

use std::{path::Path, sync::Arc};

use anyhow::{Result, ensure};
use pgveil_config::{ScopePath, Settings};
use pgveil_keys::{Keystore, Scopes};
use pgveil_policy::ruleset::RegisteredColumn;
use pgveil_providers::local::KekStore;
use pgveil_tests::{
    postgres::{self, Database},
    site::Site,
};

/// The keystore of a deployment with the root key of `folder`, as another process has it.
pub(crate) async fn keystore(url: &str, folder: &Path) -> Result<Arc<Keystore>> {
    let text = format!(
        "policy = \"policy.toml\"\n[upstream]\naddress = \"127.0.0.1:1\"\ntls = \"disable\"\n\
         [keystore]\nurl = \"{url}\"\n[provider.main]\nkind = \"local\"\nroot_key_file = \"root.key\"\n\
         [defaults]\nprovider = \"main\"\nkey = \"platform\"\n"
    );
    let settings = Settings::parse(&text, &folder.join("pgveil.toml"))?;
    let keystore = Arc::new(Keystore::connect(&settings).await?);
    let keks: Arc<dyn KekStore> = keystore.clone();
    let providers = pgveil_providers::build(&settings, &keks).await?;
    let platform = Scopes::new(&settings).kek(&ScopePath::platform());
    keystore.log().use_providers(&providers, &platform);
    Ok(keystore)
}

/// Describes every column of which `to` makes another.
pub(crate) async fn change_all(
    database: &Database<'_>,
    site: &Site<'_>,
    to: impl Fn(&RegisteredColumn) -> Option<RegisteredColumn>,
) -> Result<()> {
    let keystore = keystore(site.keystore_url(), &site.etc()).await?;
    let client = postgres::connect(&database.url("pgveil")).await?;
    let registry = keystore.registry().await?;
    client.batch_execute("BEGIN").await?;
    for before in registry.list(&client).await? {
        if let Some(now) = to(&before) {
            ensure!(registry.describe(&client, &before, &now).await?);
        }
    }
    registry.seal(&client, "a test").await?;
    client.batch_execute("COMMIT").await?;
    Ok(())
}
