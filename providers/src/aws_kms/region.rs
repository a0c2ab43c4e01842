//! A region of AWS KMS, and whether it gave an answer when it was asked last. It says nothing of keys: a region that answers
//! may still not have one.

use std::sync::{Mutex, PoisonError};

use aws_sdk_kms::{
    Client,
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use tokio::time::{Duration, Instant};

/// How long a region that gave no answer is asked last. Then one request finds out whether it is back, and pays for it by the
/// time limit if it is not; the others go on behind it.
const LOST_FOR: Duration = Duration::from_secs(10);

/// A region, and the client that asks there.
pub(super) struct KmsRegion {
    name: String,
    client: Client,
    /// Until when it is asked last.
    lost: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for KmsRegion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl KmsRegion {
    pub(super) fn new(name: &str, client: Client) -> Self {
        Self {
            name: name.to_owned(),
            client,
            lost: Mutex::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Learns from an answer, of whatever kind, or from none. One that the region gave itself, an error too, says that it is
    /// there: a key in a key store of its own may be away while the region is not.
    pub(super) fn note<T, E: ProvideErrorMetadata>(
        &self,
        answer: &Result<T, SdkError<E, HttpResponse>>,
    ) {
        let is_there = matches!(answer, Ok(_) | Err(SdkError::ServiceError(_)));
        *self.lost() = (!is_there).then(|| Instant::now() + LOST_FOR);
    }

    /// Whether it gave no answer a moment ago. When that is over, whoever asks first is the one that looks.
    fn is_lost(&self) -> bool {
        let now = Instant::now();
        let mut lost = self.lost();
        match *lost {
            Some(until) if until <= now => {
                *lost = Some(now + LOST_FOR);
                false
            }
            until => until.is_some(),
        }
    }

    fn lost(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of them in the order in which they are asked: those that gave no answer a moment ago last.
pub(super) fn in_turn(regions: &[KmsRegion]) -> Vec<&KmsRegion> {
    let (lost, there): (Vec<_>, Vec<_>) = regions.iter().partition(|region| region.is_lost());
    there.into_iter().chain(lost).collect()
}
