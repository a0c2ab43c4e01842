//! Verifying AWS's signatures (SigV4) as the XKS Proxy API has them (Appendix A). Signing is AWS's own crate's business.

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, request::Parts};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::wire::SERVICE;
use crate::civil;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
/// How far a request's time may be from ours.
const MAX_SKEW_SECONDS: u64 = 5 * 60;
/// Of the `Authorization` header.
const MAX_HEADER_BYTES: usize = 4096;
const MAX_SIGNED_HEADERS: usize = 32;

/// What the `Authorization` header says.
struct Claim<'a> {
    id: &'a str,
    date: &'a str,
    region: &'a str,
    /// As it stands: lower case, sorted, with semicolons.
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Claim<'a> {
    fn parse(header: &'a str) -> Option<Self> {
        let rest = header.strip_prefix(ALGORITHM)?.strip_prefix(' ')?;
        let mut parts = rest.split(',').map(str::trim);
        let credential = parts.next()?.strip_prefix("Credential=")?;
        let signed_headers = parts.next()?.strip_prefix("SignedHeaders=")?;
        let signature = parts.next()?.strip_prefix("Signature=")?;
        let mut fields = credential.split('/');
        let claim = Self {
            id: fields.next()?,
            date: fields.next()?,
            region: fields.next()?,
            signed_headers,
            signature,
        };
        let ends = fields.next() == Some(SERVICE)
            && fields.next() == Some(TERMINATOR)
            && fields.next().is_none()
            && parts.next().is_none();
        ends.then_some(claim)
    }
}

/// The id of the access key that signed a request. `secret` knows the keys, `now` is in seconds since 1970.
///
/// # Errors
/// What is wrong. It does not tell an unknown id from a wrong signature.
pub(super) fn verify(
    request: &Parts,
    body: &[u8],
    now: u64,
    secret: impl Fn(&str) -> Option<Zeroizing<String>>,
) -> Result<String, &'static str> {
    let header = only(&request.headers, "authorization").ok_or("the request is not signed")?;
    if header.len() > MAX_HEADER_BYTES {
        return Err("the Authorization header is too long");
    }
    let claim = Claim::parse(header).ok_or("the Authorization header is not one of SigV4")?;
    let time = only(&request.headers, "x-amz-date").ok_or("there is no X-Amz-Date")?;
    let at = civil::parse_compact(time).ok_or("X-Amz-Date is no date")?;
    if claim.date != &time[..8] {
        return Err("the credential's date is another than that of X-Amz-Date");
    }
    if at.abs_diff(now) > MAX_SKEW_SECONDS {
        return Err("the request's time is more than five minutes from the server's");
    }
    let canonical = canonical(request, claim.signed_headers, body)?;
    let to_sign = format!(
        "{ALGORITHM}\n{time}\n{}/{}/{SERVICE}/{TERMINATOR}\n{}",
        claim.date,
        claim.region,
        hex::encode(Sha256::digest(canonical.as_bytes()))
    );
    let known = secret(claim.id);
    // An unknown id takes the same time.
    let (found, key) = match known {
        Some(key) => (true, key),
        None => (false, Zeroizing::new("0".repeat(43))),
    };
    let expected = signature(&key, claim.date, claim.region, SERVICE, &to_sign);
    let matches: bool = expected.as_bytes().ct_eq(claim.signature.as_bytes()).into();
    if matches && found {
        return Ok(claim.id.to_owned());
    }
    Err("the signature does not match")
}

/// A header that stands once, as text.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok()
}

/// The canonical request. What would need escapes is refused: no path of the API does.
fn canonical(request: &Parts, signed_headers: &str, body: &[u8]) -> Result<String, &'static str> {
    let path = request.uri.path();
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.');
    if !path.bytes().all(plain) || request.uri.query().is_some() {
        return Err("the path is none of the API's");
    }
    let names: Vec<&str> = signed_headers.split(';').collect();
    if names.len() > MAX_SIGNED_HEADERS
        || !names.is_sorted_by(|one, next| one < next)
        || !names.contains(&"host")
        || !names.contains(&"x-amz-date")
    {
        return Err("SignedHeaders must name host and x-amz-date, and be sorted");
    }
    let mut canonical = format!("{}\n{path}\n\n", request.method);
    for name in &names {
        let values = request.headers.get_all(*name);
        let mut texts = Vec::new();
        for value in values {
            let text = value.to_str().map_err(|_| "a signed header is not ASCII")?;
            texts.push(text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        if texts.is_empty() {
            return Err("a signed header is missing");
        }
        canonical.push_str(&format!("{name}:{}\n", texts.join(",")));
    }
    let hash = hex::encode(Sha256::digest(body));
    canonical.push_str(&format!("\n{signed_headers}\n{hash}"));
    Ok(canonical)
}

/// The signature of a string to sign, in hexadecimal digits.
fn signature(secret: &str, date: &str, region: &str, service: &str, to_sign: &str) -> String {
    let first = Zeroizing::new(format!("AWS4{secret}"));
    let mut key = Zeroizing::new(mac(first.as_bytes(), date));
    for part in [region, service, TERMINATOR] {
        key = Zeroizing::new(mac(&*key, part));
    }
    hex::encode(mac(&*key, to_sign))
}

fn mac(key: &[u8], text: &str) -> [u8; 32] {
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests;
