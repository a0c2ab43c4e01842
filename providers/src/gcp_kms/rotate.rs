//! A new version of a key that becomes its primary one. Making one is not asked for twice while it is not known whether one
//! was made: each stays at Google, and is paid for.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use super::{
    GcpKms, VERSIONS,
    wire::{self, Verb},
};
use crate::ProviderError;

/// Pages of versions that are read, of 100 each: a key that is rotated daily has that many in five years.
const MAX_PAGES: usize = 20;

/// Numbers of versions that may wrap.
type Usable = BTreeSet<u64>;

impl GcpKms {
    pub(super) async fn make_version_primary(&self, kek: &str) -> Result<(), ProviderError> {
        let before = match self.usable_versions(kek).await {
            Ok(versions) => Some(versions),
            // Who may make versions need not be allowed to list them.
            Err(ProviderError::Denied { .. }) => None,
            Err(error) => return Err(error),
        };
        let made = match self.make_version(kek).await {
            Err(lost) if lost.is_outage() => match before {
                None => return Err(lost),
                Some(before) => self.made_or_make(kek, &before).await?,
            },
            made => made?,
        };
        let body = Zeroizing::new(format!(r#"{{"cryptoKeyVersionId":"{made}"}}"#));
        self.ask(kek, Verb::SetPrimary, Some(body), |_: wire::Named| Ok(()))
            .await
    }

    /// The answer of who was asked to make one was lost: the one that is new; where there is none, another is asked for, once.
    async fn made_or_make(&self, kek: &str, before: &Usable) -> Result<u64, ProviderError> {
        let now = self.usable_versions(kek).await?;
        match now.difference(before).max() {
            Some(made) => Ok(*made),
            None => self.make_version(kek).await,
        }
    }

    async fn make_version(&self, kek: &str) -> Result<u64, ProviderError> {
        self.is_plain(kek)?;
        let made: wire::Named = self
            .ask_once(kek, (Verb::NewVersion, ""), Some("{}"))
            .await?;
        number(kek, &made.name).ok_or_else(|| {
            ProviderError::unavailable(&self.name, "its answer is no version of the key")
        })
    }

    async fn usable_versions(&self, kek: &str) -> Result<Usable, ProviderError> {
        let mut found = Usable::new();
        let mut page = String::new();
        for _ in 0..MAX_PAGES {
            let read = |versions: wire::Versions| Ok(versions);
            let versions = self
                .ask_page(kek, (Verb::Versions, &page), None, read)
                .await?;
            let usable = versions.crypto_key_versions.iter();
            let usable = usable.filter(|version| wire::may_wrap(&version.state));
            found.extend(usable.filter_map(|version| number(kek, &version.name)));
            let Some(next) = wire::page(versions.next_page_token.as_deref()) else {
                return Ok(found);
            };
            page = next;
        }
        let reason = "the key has more versions than are read";
        Err(ProviderError::denied(&self.name, kek, reason))
    }
}

/// The number of a version of this key.
fn number(kek: &str, name: &str) -> Option<u64> {
    let number = name.strip_prefix(kek)?.strip_prefix(VERSIONS)?;
    let plain = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| plain)
}
