//! Builds every configured provider, in one place. Does not decide which scope uses which.

use std::{collections::BTreeMap, sync::Arc};

use pgveil_config::{
    Diagnostic, Position, Settings,
    settings::{self, KeyProtection},
};

use crate::{
    HttpError, KeyProvider,
    aws_kms::AwsKms,
    azure_key_vault::AzureKeyVault,
    gcp_kms::GcpKms,
    local::{KekStore, LocalKms, LocalProvider, OpenError},
    protection::InHsm,
    vault_transit::VaultTransit,
    xks::Xks,
};

/// What no key may be wrapped under.
fn bounded(
    name: &str,
    asked: KeyProtection,
    provider: Arc<dyn KeyProvider>,
) -> Arc<dyn KeyProvider> {
    match asked {
        KeyProtection::Any => provider,
        KeyProtection::Hsm => Arc::new(InHsm::new(name, provider)),
    }
}

/// The providers by their name in the configuration (`[provider.NAME]`).
#[derive(Clone, Debug, Default)]
pub struct Providers(BTreeMap<String, Arc<dyn KeyProvider>>);

impl Providers {
    /// The provider of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn KeyProvider>> {
        self.0.get(name)
    }

    /// Adds a provider, or replaces the one of the same name.
    pub fn insert(&mut self, name: impl Into<String>, provider: Arc<dyn KeyProvider>) {
        self.0.insert(name.into(), provider);
    }

    /// Names and providers in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<dyn KeyProvider>)> {
        self.0
            .iter()
            .map(|(name, provider)| (name.as_str(), provider))
    }
}

/// Builds all providers of `settings`. `keks` is where local providers keep their sealed KEKs.
pub async fn build(settings: &Settings, keks: &Arc<dyn KekStore>) -> Result<Providers, BuildError> {
    let mut providers = Providers::default();
    let asked = settings.defaults.key_protection;
    for (name, provider) in &settings.providers {
        let built: Arc<dyn KeyProvider> = match provider {
            settings::Provider::Local { root_key_file, at } => {
                let local = LocalProvider::open(name, root_key_file, Arc::clone(keks))
                    .await
                    .map_err(|source| BuildError::Local {
                        name: name.clone(),
                        at: at.clone(),
                        source,
                    })?;
                Arc::new(local)
            }
            settings::Provider::AwsKms(at) => Arc::new(AwsKms::new(name, at).await),
            settings::Provider::VaultTransit(at) => {
                let vault = VaultTransit::new(name, at).map_err(http(name, provider))?;
                Arc::new(vault)
            }
            settings::Provider::Rest(at) => {
                let rest = Xks::new(name, at).map_err(http(name, provider))?;
                Arc::new(rest)
            }
            settings::Provider::GcpKms(at) => {
                let gcp = GcpKms::new(name, at).map_err(http(name, provider))?;
                Arc::new(gcp)
            }
            settings::Provider::AzureKeyVault(at) => {
                let azure = AzureKeyVault::new(name, at).map_err(http(name, provider))?;
                Arc::new(azure)
            }
        };
        providers.insert(name, bounded(name, asked, built));
    }
    Ok(providers)
}

/// The key managers behind the local providers of `settings`, for those who look after keys rather than use them.
pub async fn local_managers(
    settings: &Settings,
    keks: &Arc<dyn KekStore>,
) -> Result<Vec<Arc<LocalKms>>, BuildError> {
    let mut managers = Vec::new();
    for (name, provider) in &settings.providers {
        if let settings::Provider::Local { root_key_file, at } = provider {
            let kms = LocalKms::open(name, root_key_file, Arc::clone(keks)).await;
            managers.push(Arc::new(kms.map_err(|source| BuildError::Local {
                name: name.clone(),
                at: at.clone(),
                source,
            })?));
        }
    }
    Ok(managers)
}

fn http<'a>(
    name: &'a str,
    provider: &'a settings::Provider,
) -> impl FnOnce(HttpError) -> BuildError + 'a {
    |source| BuildError::Http {
        name: name.to_owned(),
        at: provider.at().clone(),
        source,
    }
}

/// A provider that cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A local provider.
    #[error("provider \"{name}\": {source}")]
    Local {
        /// `[provider.NAME]`.
        name: String,
        /// Where it stands.
        at: Position,
        /// What is wrong.
        source: OpenError,
    },
    /// A provider behind HTTPS.
    #[error("provider \"{name}\": {source}")]
    Http {
        /// `[provider.NAME]`.
        name: String,
        /// Where it stands.
        at: Position,
        /// What is wrong.
        source: HttpError,
    },
}

impl BuildError {
    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::Local { source, .. } => source.cure(),
            Self::Http { source, .. } => source.cure().to_owned(),
        }
    }

    /// The finding as the configuration's own findings are shown.
    pub fn diagnostic(&self) -> Diagnostic {
        let (Self::Local { at, .. } | Self::Http { at, .. }) = self;
        Diagnostic {
            at: Some(at.clone()),
            message: self.to_string(),
            cure: self.cure(),
        }
    }
}
