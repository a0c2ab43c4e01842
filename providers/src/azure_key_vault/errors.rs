//! What a failed call to a vault means. <https://learn.microsoft.com/azure/key-vault/general/rest-error-codes>

use azure_core::error::{Error, ErrorKind};
use serde::Deserialize;

use crate::ProviderError;

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Describing,
    Wrapping,
    Unwrapping,
}

/// An error of Azure's client, with what is read of it.
pub(super) enum Failed {
    /// The vault answered with this status and body.
    Answer(u16, Vec<u8>),
    /// Whoever gives tokens answered with this status, and said this.
    NoToken(Option<u16>, String),
    /// Nobody answered.
    NoAnswer(String),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::HttpResponse {
                status,
                raw_response,
                ..
            } => {
                let body = raw_response.as_ref().map(|answer| answer.body().as_ref());
                Self::Answer(u16::from(*status), body.unwrap_or_default().to_vec())
            }
            ErrorKind::Credential => Self::NoToken(status_within(&error), innermost(&error)),
            _ => Self::NoAnswer(innermost(&error)),
        }
    }
}

/// The status of the answer that an error of credentials came from.
fn status_within(error: &Error) -> Option<u16> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let own = error.downcast_ref::<Error>();
        if let Some(ErrorKind::HttpResponse { status, .. }) = own.map(Error::kind) {
            return Some(u16::from(*status));
        }
        next = error.source();
    }
    None
}

fn innermost(error: &Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    let said = source.to_string();
    said.lines().next().unwrap_or_default().to_owned()
}

#[derive(Deserialize)]
struct Body {
    error: Said,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(rename = "innererror")]
    inner: Option<Inner>,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(default)]
    code: String,
}

/// Tells outages from a no, and both from damage.
pub(super) fn meaning(provider: &str, kek: &str, doing: Doing, failed: Failed) -> ProviderError {
    let (status, body) = match failed {
        Failed::Answer(status, body) => (status, body),
        Failed::NoToken(Some(400..=404), said) => {
            return ProviderError::denied(provider, kek, format!("no token: {said}"));
        }
        Failed::NoToken(_, said) => {
            return ProviderError::unavailable(provider, format!("no token: {said}"));
        }
        Failed::NoAnswer(said) => return ProviderError::unavailable(provider, said),
    };
    let Ok(Body { error }) = serde_json::from_slice(&body) else {
        return match status {
            // A vault's refusals are JSON, but for those of its front door.
            401 | 403 => ProviderError::denied(provider, kek, format!("status {status}")),
            _ => ProviderError::unavailable(provider, format!("status {status}")),
        };
    };
    let code = match &error.inner {
        Some(inner) if !inner.code.is_empty() => format!("{} ({})", error.code, inner.code),
        _ => error.code,
    };
    let message = error.message.lines().next().unwrap_or_default();
    let reason = format!("{code}: {message}");
    match status {
        400 if doing == Doing::Unwrapping => ProviderError::damaged(provider, kek, reason),
        // Disabled, expired and not yet valid keys are 403; deleted ones 404, or 409 while that is under way.
        400 | 401 | 403 | 404 | 409 => ProviderError::denied(provider, kek, reason),
        408 | 429 | 500..=599 => ProviderError::unavailable(provider, reason),
        _ => ProviderError::denied(provider, kek, reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(doing: Doing, status: u16, body: &str) -> &'static str {
        let failed = Failed::Answer(status, body.as_bytes().to_vec());
        match meaning("p", "k", doing, failed) {
            ProviderError::Denied { .. } => "denied",
            ProviderError::Damaged { .. } => "damaged",
            ProviderError::Unavailable { .. } => "unavailable",
            ProviderError::NotMine { .. } => "not mine",
        }
    }

    #[test]
    fn errors_are_told_apart() {
        let body = r#"{"error":{"code":"Forbidden","message":"Operation wrapKey is not allowed on a disabled key.","innererror":{"code":"KeyDisabled"}}}"#;
        for doing in [Doing::Describing, Doing::Wrapping, Doing::Unwrapping] {
            for status in [401, 403, 404, 409] {
                assert_eq!(said(doing, status, body), "denied", "{status}");
            }
            for status in [408, 429, 500, 502, 503, 504] {
                assert_eq!(said(doing, status, body), "unavailable", "{status}");
            }
            // What no vault writes comes from something on the way.
            for status in [400, 404, 500, 302] {
                assert_eq!(said(doing, status, "<html>"), "unavailable", "{status}");
            }
        }
        assert_eq!(said(Doing::Unwrapping, 400, body), "damaged");
        assert_eq!(said(Doing::Wrapping, 400, body), "denied");
        let shown = meaning("p", "k", Doing::Wrapping, Failed::Answer(403, body.into()));
        let shown = shown.to_string();
        assert!(
            shown.contains("Forbidden (KeyDisabled): Operation wrapKey"),
            "{shown}"
        );
    }

    #[test]
    fn who_gives_no_token_denies_and_who_does_not_answer_is_away() {
        let said = |status| {
            meaning(
                "p",
                "k",
                Doing::Wrapping,
                Failed::NoToken(status, "x".into()),
            )
        };
        assert!(!said(Some(401)).is_outage());
        assert!(said(Some(503)).is_outage() && said(None).is_outage());
    }
}
