//! AWS Key Management Service, by AWS's own client.
//! <https://docs.aws.amazon.com/kms/latest/APIReference/>
//!
//! The context is the encryption context: what is wrapped for one scope and key opens for no other, and CloudTrail shows
//! which. Decrypt names the key that is expected, so that a ciphertext of another key of the account does not open.

mod errors;
mod region;

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use aws_config::{
    BehaviorVersion, Region, SdkConfig, sts::AssumeRoleProvider, timeout::TimeoutConfig,
};
use aws_sdk_kms::{
    Client,
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    primitives::Blob,
    types::{DataKeySpec, OriginType},
};
use aws_smithy_http_client::tls::{Provider as Tls, rustls_provider::CryptoMode};
use pgveil_config::settings;
use zeroize::Zeroizing;

use self::region::KmsRegion;
use crate::{
    ENTROPY_BYTES, KekInfo, KeyProvider, Protection, ProviderError, Rotation, WrapContext, Wrapped,
};

/// One attempt; the client repeats what may succeed, with a growing pause.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);
/// All attempts in one region. Whoever waits for a key waits for this.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(4);

/// How many rotations are looked at for the last one.
const MAX_ROTATIONS: i32 = 1000;

/// Keys in AWS KMS.
pub struct AwsKms {
    name: String,
    /// The region, then the replica regions in their order.
    regions: Vec<KmsRegion>,
}

impl std::fmt::Debug for AwsKms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwsKms")
            .field("name", &self.name)
            .field("regions", &self.regions)
            .finish_non_exhaustive()
    }
}

impl AwsKms {
    /// A provider of this name in the configuration. Credentials are looked for when the first key is asked for, where
    /// AWS's own tools look: environment, profile, web identity, container, instance.
    pub async fn new(name: &str, at: &settings::AwsKms) -> Self {
        let base = base(at).await;
        let mut regions = Vec::new();
        for region in std::iter::once(&at.region).chain(&at.replica_regions) {
            let mut config =
                aws_sdk_kms::config::Builder::from(&base).region(Region::new(region.clone()));
            if let Some(endpoint) = &at.endpoint {
                config = config.endpoint_url(endpoint.replace("{region}", region));
            }
            regions.push(KmsRegion::new(region, Client::from_conf(config.build())));
        }
        Self {
            name: name.to_owned(),
            regions,
        }
    }

    /// Asks the region, and where it does not answer the replica regions in their order; one that gave no word a moment ago
    /// comes last. `ask` is given a client and the KEK's id in its region.
    async fn ask<T, E, F>(
        &self,
        kek: &str,
        id: &str,
        ask: impl Fn(Client, String) -> F,
    ) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata,
    {
        let asked = if may_have_replicas(id) {
            region::in_turn(&self.regions)
        } else {
            self.regions.iter().take(1).collect()
        };
        let is_in_order =
            asked.first().map(|one| one.name()) == self.regions.first().map(KmsRegion::name);
        let (mut outage, mut absent) = (None, None);
        for region in asked {
            let answer = ask(region.client(), in_region(id, region.name())).await;
            region.note(&answer);
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let is_there = error.code() != Some("NotFoundException");
            match errors::meaning(&self.name, kek, &error) {
                unavailable if unavailable.is_outage() => {
                    outage.get_or_insert(unavailable);
                }
                // No replica there: that says nothing of the key where it is.
                said if !is_there && (outage.is_some() || !is_in_order) => {
                    absent.get_or_insert(said);
                }
                said => return Err(said),
            }
        }
        Err(outage.or(absent).unwrap_or_else(|| self.without_answer()))
    }

    /// Refuses what names a key that `kek` cannot be.
    fn is_of(&self, kek: &str, wrapped: &Wrapped) -> Result<(), ProviderError> {
        if is_version_of(&wrapped.kek_version, kek) {
            return Ok(());
        }
        let reason = "it names another key";
        Err(ProviderError::not_mine(&self.name, reason))
    }

    fn without_answer(&self) -> ProviderError {
        ProviderError::unavailable(&self.name, "its answer lacks what was asked for")
    }

    /// When the key was rotated last; `None` too where asking is not allowed.
    async fn last_rotation(&self, kek: &str) -> Option<SystemTime> {
        let answer = self.ask(kek, kek, |client, id| {
            let request = client.list_key_rotations().key_id(id).limit(MAX_ROTATIONS);
            request.send()
        });
        let rotations = answer.await.ok()?.rotations?;
        let dates = rotations
            .iter()
            .filter_map(|rotation| rotation.rotation_date);
        dates.max().and_then(|date| SystemTime::try_from(date).ok())
    }
}

/// What all regions share: credentials, TLS, time limits.
async fn base(at: &settings::AwsKms) -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Tls::Rustls(CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(ATTEMPT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let base = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(at.region.clone()))
        .http_client(http)
        .timeout_config(timeouts)
        .load()
        .await;
    let Some(role) = &at.role_arn else {
        return base;
    };
    let mut role = AssumeRoleProvider::builder(role)
        .session_name("pgveil")
        .configure(&base);
    if let Some(id) = &at.external_id {
        role = role.external_id(id);
    }
    let role = role.build().await;
    let with_role = base.into_builder();
    with_role
        .credentials_provider(aws_sdk_kms::config::SharedCredentialsProvider::new(role))
        .build()
}

/// The encryption context: it is logged by CloudTrail and must be the same to decrypt.
fn encryption_context(context: &WrapContext) -> HashMap<String, String> {
    [
        ("pgveil:scope", context.scope.clone()),
        ("pgveil:key", context.key_id.to_string()),
        ("pgveil:purpose", context.purpose.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Whether another region may hold the key: multi-Region keys, and aliases, of which each region has its own.
fn may_have_replicas(id: &str) -> bool {
    ["mrk-", "key/mrk-", "alias/"].iter().any(|part| {
        let resource = id.rsplit(':').next().unwrap_or(id);
        resource.starts_with(part)
    })
}

/// Whether the ARN that Encrypt answered may be that of `kek`. What an alias pointed at then, nobody knows now: for one
/// any key passes, or with its ARN any key of the account.
fn is_version_of(version: &str, kek: &str) -> bool {
    let parts = |arn: &str| -> Option<[String; 4]> {
        match arn.splitn(6, ':').collect::<Vec<_>>()[..] {
            ["arn", partition, "kms", region, account, resource] => {
                Some([partition, region, account, resource].map(str::to_owned))
            }
            _ => None,
        }
    };
    let (Some(found), asked) = (parts(version), parts(kek)) else {
        return version == kek;
    };
    let Some([partition, region, account, resource]) = asked else {
        return kek.starts_with("alias/") || found[3] == format!("key/{kek}");
    };
    let is_near = found[0] == partition && found[2] == account;
    let is_here = found[1] == region || resource.starts_with("key/mrk-");
    is_near && (resource.starts_with("alias/") || (is_here && found[3] == resource))
}

/// The ARN of a multi-Region key in another of its regions; any other id stays as it is.
fn in_region(kek: &str, region: &str) -> String {
    let mut parts: Vec<&str> = kek.split(':').collect();
    match parts.as_mut_slice() {
        ["arn", _, "kms", at, _, resource, ..] if resource.starts_with("key/mrk-") => {
            *at = region;
            parts.join(":")
        }
        _ => kek.to_owned(),
    }
}

#[async_trait]
impl KeyProvider for AwsKms {
    fn kind(&self) -> &'static str {
        "aws-kms"
    }

    /// Keys of one region are away with it. Whether one that may have replicas has any shows when the region is lost: each
    /// of them is a way of its own, so that one without takes nothing from one with.
    fn way<'k>(&self, kek: &'k str) -> &'k str {
        if self.regions.len() > 1 && may_have_replicas(kek) {
            kek
        } else {
            ""
        }
    }

    async fn wrap(
        &self,
        kek: &str,
        plaintext: &[u8],
        context: &WrapContext,
    ) -> Result<Wrapped, ProviderError> {
        let answer = self.ask(kek, kek, |client, id| {
            let request = client
                .encrypt()
                .key_id(id)
                .plaintext(Blob::new(plaintext))
                .set_encryption_context(Some(encryption_context(context)));
            request.send()
        });
        let answer = answer.await?;
        let bytes = answer.ciphertext_blob;
        Ok(Wrapped {
            bytes: bytes.ok_or_else(|| self.without_answer())?.into_inner(),
            // The key behind an alias, which may be pointed at another later.
            kek_version: answer.key_id.unwrap_or_else(|| kek.to_owned()),
        })
    }

    async fn unwrap(
        &self,
        kek: &str,
        wrapped: &Wrapped,
        context: &WrapContext,
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        self.is_of(kek, wrapped)?;
        let answer = self.ask(kek, &wrapped.kek_version, |client, id| {
            let request = client
                .decrypt()
                .key_id(id)
                .ciphertext_blob(Blob::new(wrapped.bytes.clone()))
                .set_encryption_context(Some(encryption_context(context)));
            request.send()
        });
        let plaintext = answer.await?.plaintext;
        let plaintext = plaintext.ok_or_else(|| self.without_answer())?;
        Ok(Zeroizing::new(plaintext.into_inner()))
    }

    async fn describe(&self, kek: &str) -> Result<KekInfo, ProviderError> {
        let answer = self.ask(kek, kek, |client, id| {
            client.describe_key().key_id(id).send()
        });
        let found = answer.await?.key_metadata;
        let found = found.ok_or_else(|| self.without_answer())?;
        if !found.enabled {
            let state = found.key_state;
            let state = state.map_or("disabled".to_owned(), |state| state.as_str().to_owned());
            let reason = format!("the key is in state {state}");
            return Err(ProviderError::denied(&self.name, kek, reason));
        }
        let version = found.current_key_material_id.unwrap_or(found.key_id);
        let algorithm = found.key_spec;
        let algorithm = algorithm.map_or_else(String::new, |spec| spec.as_str().to_owned());
        // AWS KMS uses every key in its HSMs, or in a customer's of CloudHSM, but for those of an external key store. What it calls
        // otherwise one day is nothing that we know.
        let protection = match found.origin {
            Some(OriginType::AwsKms | OriginType::AwsCloudhsm | OriginType::External) => {
                Protection::Hsm
            }
            Some(OriginType::ExternalKeyStore) => Protection::External,
            _ => Protection::Unknown,
        };
        Ok(KekInfo::new(version, algorithm).kept(protection))
    }

    fn rotates(&self) -> Result<(), &'static str> {
        Ok(())
    }

    /// `RotateKeyOnDemand`, which AWS carries out some time later.
    async fn rotate(&self, kek: &str) -> Result<(), ProviderError> {
        let answer = self.ask(kek, kek, |client, id| {
            client.rotate_key_on_demand().key_id(id).send()
        });
        answer.await.map(drop)
    }

    async fn rotation(&self, kek: &str) -> Result<Option<Rotation>, ProviderError> {
        let answer = self.ask(kek, kek, |client, id| {
            client.get_key_rotation_status().key_id(id).send()
        });
        let status = answer.await?;
        let days = status.rotation_period_in_days;
        let next = status.next_rotation_date;
        Ok(Some(Rotation {
            is_automatic: status.key_rotation_enabled,
            period_days: days.and_then(|days| u32::try_from(days).ok()),
            last: self.last_rotation(kek).await,
            next: next.and_then(|date| SystemTime::try_from(date).ok()),
        }))
    }

    /// `ReEncrypt`: the key does not leave AWS. Where that is not allowed, by way of this process.
    async fn rewrap(
        &self,
        from: &str,
        wrapped: &Wrapped,
        to: &str,
        context: &WrapContext,
    ) -> Result<Wrapped, ProviderError> {
        self.is_of(from, wrapped)?;
        let answer = self.ask(to, to, |client, id| {
            let region = client.config().region().map_or("", AsRef::as_ref);
            let request = client
                .re_encrypt()
                .source_key_id(in_region(&wrapped.kek_version, region))
                .set_source_encryption_context(Some(encryption_context(context)))
                .ciphertext_blob(Blob::new(wrapped.bytes.clone()))
                .destination_key_id(id)
                .set_destination_encryption_context(Some(encryption_context(context)));
            request.send()
        });
        match answer.await {
            Ok(answer) => Ok(Wrapped {
                bytes: answer
                    .ciphertext_blob
                    .ok_or_else(|| self.without_answer())?
                    .into_inner(),
                kek_version: answer.key_id.unwrap_or_else(|| to.to_owned()),
            }),
            // Which of the two keys says no, the two steps tell.
            Err(ProviderError::Denied { .. }) => {
                let plaintext = self.unwrap(from, wrapped, context).await?;
                self.wrap(to, &plaintext, context).await
            }
            Err(error) => Err(error),
        }
    }

    /// The plaintext of `GenerateDataKey`, from AWS's hardware.
    async fn entropy(
        &self,
        kek: &str,
        context: &WrapContext,
    ) -> Result<Option<Zeroizing<[u8; ENTROPY_BYTES]>>, ProviderError> {
        let answer = self.ask(kek, kek, |client, id| {
            let request = client
                .generate_data_key()
                .key_id(id)
                .key_spec(DataKeySpec::Aes256)
                .set_encryption_context(Some(encryption_context(context)));
            request.send()
        });
        let plaintext = answer.await?.plaintext;
        let plaintext = plaintext.ok_or_else(|| self.without_answer())?;
        let plaintext = Zeroizing::new(plaintext.into_inner());
        let mut bytes = Zeroizing::new([0; ENTROPY_BYTES]);
        if plaintext.len() != ENTROPY_BYTES {
            return Err(self.without_answer());
        }
        bytes.copy_from_slice(&plaintext);
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_multi_region_keys_have_an_arn_in_another_region() {
        let arn = |region: &str, key: &str| format!("arn:aws:kms:{region}:123456789012:{key}");
        assert_eq!(
            in_region(&arn("eu-central-1", "key/mrk-1234"), "eu-west-1"),
            arn("eu-west-1", "key/mrk-1234")
        );
        for same in [
            arn("eu-central-1", "key/1234"),
            arn("eu-central-1", "alias/pgveil"),
            "alias/pgveil".to_owned(),
            "mrk-1234".to_owned(),
        ] {
            assert_eq!(in_region(&same, "eu-west-1"), same);
        }
    }

    #[test]
    fn a_wrapped_key_names_the_key_that_it_should() {
        let arn = |region: &str, account: &str, resource: &str| {
            format!("arn:aws:kms:{region}:{account}:{resource}")
        };
        let version = arn("eu-central-1", "1", "key/a");
        for kek in ["a", "alias/x", &version, &arn("eu-west-1", "1", "alias/x")] {
            assert!(is_version_of(&version, kek), "{kek}");
        }
        for kek in [
            "b",
            "",
            &arn("eu-central-1", "2", "key/a"),
            &arn("eu-west-1", "1", "key/a"),
            &arn("eu-central-1", "1", "key/b"),
            &arn("eu-central-1", "2", "alias/x"),
        ] {
            assert!(!is_version_of(&version, kek), "{kek}");
        }
        let (here, there) = (
            arn("eu-central-1", "1", "key/mrk-a"),
            arn("eu-west-1", "1", "key/mrk-a"),
        );
        assert!(is_version_of(&here, &there) && is_version_of(&there, &here));
    }

    #[test]
    fn a_key_of_one_region_is_looked_for_in_no_other() {
        let arn = "arn:aws:kms:eu-central-1:123456789012:";
        for id in ["mrk-1", "alias/a", "{arn}key/mrk-1", "{arn}alias/a"] {
            assert!(may_have_replicas(&id.replace("{arn}", arn)), "{id}");
        }
        for id in ["1234", "{arn}key/1234", "{arn}key/1-mrk-", ""] {
            assert!(!may_have_replicas(&id.replace("{arn}", arn)), "{id}");
        }
    }
}
