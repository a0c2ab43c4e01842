//! What a failed call to AWS KMS means. Nothing is asked again here.

use aws_sdk_kms::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use crate::ProviderError;

/// Tells outages from a no, and both from damage. `SdkError` shows no plaintext.
pub(super) fn meaning<E: ProvideErrorMetadata>(
    provider: &str,
    kek: &str,
    error: &SdkError<E, HttpResponse>,
) -> ProviderError {
    let SdkError::ServiceError(answer) = error else {
        let reason = match error {
            SdkError::TimeoutError(_) => "no answer in time".to_owned(),
            SdkError::DispatchFailure(failure) => innermost(failure.as_connector_error()),
            SdkError::ConstructionFailure(_) => "no request could be made of it".to_owned(),
            _ => "its answer was not understood".to_owned(),
        };
        return ProviderError::unavailable(provider, reason);
    };
    let status = answer.raw().status().as_u16();
    let answer = answer.err();
    let Some(code) = answer.code() else {
        // AWS names its errors; this is something on the way.
        return ProviderError::unavailable(provider, format!("status {status}"));
    };
    let reason = match answer.message() {
        // The sentence goes on behind it.
        Some(message) => format!("{code}: {}", message.trim_end_matches('.')),
        None => code.to_owned(),
    };
    match code {
        "InvalidCiphertextException" => ProviderError::damaged(provider, kek, reason),
        "IncorrectKeyException" => ProviderError::not_mine(provider, reason),
        "DependencyTimeoutException"
        | "KeyUnavailableException"
        | "KMSInternalException"
        | "LimitExceededException"
        | "ThrottlingException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "InternalFailure"
        | "InternalError"
        | "ServiceUnavailable" => ProviderError::unavailable(provider, reason),
        _ if status >= 500 || status == 429 => ProviderError::unavailable(provider, reason),
        _ => ProviderError::denied(provider, kek, reason),
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
