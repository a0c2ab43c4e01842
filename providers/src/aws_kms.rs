//! AWS Key Management Service, by AWS's own client.
//! <https://docs.aws.amazon.com/kms/latest/APIReference/>
//!
//! The context is the encryption context: what is wrapped for one scope and key opens for no other, and CloudTrail shows
//! which. Decrypt names the key that is expected, so that a ciphertext of another key of the account does not open.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use aws_config::{
    BehaviorVersion, Region, SdkConfig, sts::AssumeRoleProvider, timeout::TimeoutConfig,
};
use aws_sdk_kms::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    primitives::Blob,
};
use aws_smithy_http_client::tls::{Provider as Tls, rustls_provider::CryptoMode};
use pgveil_config::settings;
use zeroize::Zeroizing;

use crate::{KekInfo, KeyProvider, ProviderError, WrapContext, Wrapped};

/// One attempt; the client repeats what may succeed, with a growing pause.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);
/// All attempts in one region. Whoever waits for a key waits for this.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(4);

/// Keys in AWS KMS.
pub struct AwsKms {
    name: String,
    /// The region's, then those of the replica regions in their order.
    clients: Vec<(String, Client)>,
}

impl std::fmt::Debug for AwsKms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let regions: Vec<&str> = self
            .clients
            .iter()
            .map(|(region, _)| region.as_str())
            .collect();
        f.debug_struct("AwsKms")
            .field("name", &self.name)
            .field("regions", &regions)
            .finish_non_exhaustive()
    }
}

impl AwsKms {
    /// A provider of this name in the configuration. Credentials are looked for when the first key is asked for, where
    /// AWS's own tools look: environment, profile, web identity, container, instance.
    pub async fn new(name: &str, at: &settings::AwsKms) -> Self {
        let base = base(at).await;
        let mut clients = Vec::new();
        for region in std::iter::once(&at.region).chain(&at.replica_regions) {
            let mut config =
                aws_sdk_kms::config::Builder::from(&base).region(Region::new(region.clone()));
            if let Some(endpoint) = &at.endpoint {
                config = config.endpoint_url(endpoint);
            }
            clients.push((region.clone(), Client::from_conf(config.build())));
        }
        Self {
            name: name.to_owned(),
            clients,
        }
    }

    /// What a failed call means. `SdkError` shows no plaintext.
    fn failed<E: ProvideErrorMetadata, R>(
        &self,
        kek: &str,
        error: &SdkError<E, R>,
    ) -> ProviderError {
        let (provider, kek) = (self.name.clone(), kek.to_owned());
        let SdkError::ServiceError(answer) = error else {
            let reason = match error {
                SdkError::TimeoutError(_) => "no answer in time".to_owned(),
                SdkError::DispatchFailure(failure) => innermost(failure.as_connector_error()),
                SdkError::ConstructionFailure(_) => "no request could be made of it".to_owned(),
                _ => "its answer was not understood".to_owned(),
            };
            return ProviderError::Unavailable { provider, reason };
        };
        let answer = answer.err();
        let code = answer.code().unwrap_or("an error without a name");
        let reason = match answer.message() {
            Some(message) => format!("{code}: {message}"),
            None => code.to_owned(),
        };
        match code {
            "InvalidCiphertextException" => ProviderError::Damaged {
                provider,
                kek,
                reason,
            },
            "IncorrectKeyException" => ProviderError::NotMine { provider, reason },
            "DependencyTimeoutException"
            | "KeyUnavailableException"
            | "KMSInternalException"
            | "LimitExceededException"
            | "ThrottlingException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "InternalFailure"
            | "InternalError"
            | "ServiceUnavailable" => ProviderError::Unavailable { provider, reason },
            _ => ProviderError::Denied {
                provider,
                kek,
                reason,
            },
        }
    }

    fn without_answer(&self) -> ProviderError {
        ProviderError::Unavailable {
            provider: self.name.clone(),
            reason: "its answer lacks what was asked for".to_owned(),
        }
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

fn innermost(error: Option<&(impl std::error::Error + 'static)>) -> String {
    let Some(error) = error else {
        return "no connection".to_owned();
    };
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    source.to_string()
}

#[async_trait]
impl KeyProvider for AwsKms {
    fn kind(&self) -> &'static str {
        "aws-kms"
    }

    async fn wrap(
        &self,
        kek: &str,
        plaintext: &[u8],
        context: &WrapContext,
    ) -> Result<Wrapped, ProviderError> {
        let mut last = self.without_answer();
        for (region, client) in &self.clients {
            let sent = client
                .encrypt()
                .key_id(in_region(kek, region))
                .plaintext(Blob::new(plaintext))
                .set_encryption_context(Some(encryption_context(context)))
                .send();
            match sent.await {
                Ok(answer) => {
                    let bytes = answer
                        .ciphertext_blob
                        .ok_or_else(|| self.without_answer())?;
                    return Ok(Wrapped {
                        bytes: bytes.into_inner(),
                        // The key behind an alias, which may be pointed at another later.
                        kek_version: answer.key_id.unwrap_or_else(|| kek.to_owned()),
                    });
                }
                Err(error) => last = self.failed(kek, &error),
            }
            if !matches!(last, ProviderError::Unavailable { .. }) {
                break;
            }
        }
        Err(last)
    }

    async fn unwrap(
        &self,
        kek: &str,
        wrapped: &Wrapped,
        context: &WrapContext,
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        let mut last = self.without_answer();
        for (region, client) in &self.clients {
            let sent = client
                .decrypt()
                .key_id(in_region(&wrapped.kek_version, region))
                .ciphertext_blob(Blob::new(wrapped.bytes.clone()))
                .set_encryption_context(Some(encryption_context(context)))
                .send();
            match sent.await {
                Ok(answer) => {
                    let plaintext = answer.plaintext.ok_or_else(|| self.without_answer())?;
                    return Ok(Zeroizing::new(plaintext.into_inner()));
                }
                Err(error) => last = self.failed(kek, &error),
            }
            if !matches!(last, ProviderError::Unavailable { .. }) {
                break;
            }
        }
        Err(last)
    }

    async fn describe(&self, kek: &str) -> Result<KekInfo, ProviderError> {
        let mut last = self.without_answer();
        for (region, client) in &self.clients {
            match client
                .describe_key()
                .key_id(in_region(kek, region))
                .send()
                .await
            {
                Ok(answer) => {
                    let found = answer.key_metadata.ok_or_else(|| self.without_answer())?;
                    if !found.enabled {
                        let state = found
                            .key_state
                            .map_or("disabled".to_owned(), |state| state.as_str().to_owned());
                        return Err(ProviderError::Denied {
                            provider: self.name.clone(),
                            kek: kek.to_owned(),
                            reason: format!("the key is in state {state}"),
                        });
                    }
                    return Ok(KekInfo {
                        version: found.current_key_material_id.unwrap_or(found.key_id),
                        algorithm: found
                            .key_spec
                            .map_or_else(String::new, |spec| spec.as_str().to_owned()),
                    });
                }
                Err(error) => last = self.failed(kek, &error),
            }
            if !matches!(last, ProviderError::Unavailable { .. }) {
                break;
            }
        }
        Err(last)
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
}
