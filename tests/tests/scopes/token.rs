//! Step-up tokens for tests: an operator, and a file with a token. What a token is for is the tests' business.

use std::sync::Arc;

use anyhow::Result;
use pgveil_config::{ScopePath, Secret, Settings};
use pgveil_keys::{Keystore, Scopes, audit::Operation};
use pgveil_providers::local::KekStore;
use pgveil_tests::site::Site;

pub(crate) const PASSPHRASE: &str = "correct horse battery staple";

/// As pgveil reads them, with a keystore that this process can reach.
pub(crate) fn settings(site: &Site<'_>) -> Result<Settings> {
    let mut settings = Settings::load(&site.config())?;
    settings.keystore.url = Secret::Inline(site.keystore_url().to_owned());
    Ok(settings)
}

/// A file with a step-up token for an operation on a scope.
pub(crate) fn token(site: &Site<'_>, operation: Operation, scope: &str) -> Result<String> {
    let runtime = tokio::runtime::Runtime::new()?;
    let token = runtime.block_on(async {
        let settings = settings(site)?;
        let keystore = Arc::new(Keystore::connect(&settings).await?);
        let keks: Arc<dyn KekStore> = Arc::clone(&keystore) as _;
        let providers = pgveil_providers::build(&settings, &keks).await?;
        let log = keystore.log();
        let platform = Scopes::new(&settings).kek(&ScopePath::platform());
        log.use_providers(&providers, &platform);
        if log.operators().await?.is_empty() {
            log.enroll("ada", PASSPHRASE, None).await?;
        }
        let scope = ScopePath::parse(scope)?;
        let token = log
            .step_up_token("ada", PASSPHRASE, operation, &scope)
            .await?;
        anyhow::Ok(token.expose())
    })?;
    let path = site.config().with_file_name("token");
    std::fs::write(&path, token.as_bytes())?;
    Ok(path.to_string_lossy().into_owned())
}
