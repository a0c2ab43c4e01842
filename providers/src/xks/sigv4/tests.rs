//! Against AWS's published example, against AWS's own signer, and against everything that is almost a signature.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};

use super::*;

const ID: &str = "PGVEILPGVEILPGVEIL22";
const SECRET: &str = "FYtE5EFA5FT0mCc3DrGUe2sti527BitkQ0Zr9MO9fvE";
const NOW: u64 = 1_440_938_160;
const URL: &str = "https://xks.example.com:6443/kms/xks/v1/keys/a-b_c.d/encrypt";
const BODY: &[u8] = b"{}";

/// "Calculate the signature for AWS Signature Version 4", AWS General Reference.
#[test]
fn the_published_example_has_its_published_signature() {
    let to_sign = "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n\
                   f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59";
    assert_eq!(
        signature(
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            "20150830",
            "us-east-1",
            "iam",
            to_sign
        ),
        "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    );
}

/// A request as AWS's crate signs it.
fn signed() -> Parts {
    let identity = Credentials::new(ID, SECRET, None, None, "test").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-central-1")
        .name(SERVICE)
        .time(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW))
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let body = SignableBody::Bytes(BODY);
    let request = SignableRequest::new("POST", URL, std::iter::empty(), body).unwrap();
    let (instructions, _) = sign(request, &params).unwrap().into_parts();
    let mut request = http::Request::post("/kms/xks/v1/keys/a-b_c.d/encrypt")
        .header("host", "xks.example.com:6443");
    for (name, value) in instructions.headers() {
        request = request.header(name, value);
    }
    request.body(()).unwrap().into_parts().0
}

fn secret(id: &str) -> Option<Zeroizing<String>> {
    (id == ID).then(|| Zeroizing::new(SECRET.to_owned()))
}

fn judged(request: &Parts, body: &[u8], now: u64) -> Result<String, &'static str> {
    verify(request, body, now, secret)
}

#[test]
fn what_awss_signer_signs_verifies_for_five_minutes() {
    let request = signed();
    for now in [NOW, NOW - 300, NOW + 300] {
        assert_eq!(judged(&request, BODY, now).as_deref(), Ok(ID));
    }
    for now in [0, NOW - 301, NOW + 301, u64::MAX] {
        assert!(judged(&request, BODY, now).is_err());
    }
}

#[test]
fn nothing_that_is_signed_may_differ() {
    assert!(judged(&signed(), b"{ }", NOW).is_err());
    assert!(verify(&signed(), BODY, NOW, |_| None).is_err());
    let other_key = |_: &str| Some(Zeroizing::new("x".repeat(43)));
    assert!(verify(&signed(), BODY, NOW, other_key).is_err());
    let refuses = |alter: &dyn Fn(&mut Parts)| {
        let mut request = signed();
        alter(&mut request);
        assert!(judged(&request, BODY, NOW).is_err(), "{request:?}");
    };
    refuses(&|request| request.method = http::Method::PUT);
    for path in [
        "/kms/xks/v1/keys/a-b_c.e/encrypt",
        "/kms/xks/v1/keys/a-b_c.d/encrypt?",
        "/kms/xks/v1/keys/a-b_c%2Ed/encrypt",
    ] {
        refuses(&|request| request.uri = path.parse().unwrap());
    }
    for (name, value) in [
        ("host", "xks.example.com"),
        ("x-amz-date", "20150830T123601Z"),
        ("x-amz-date", "20150831T123600Z"),
        ("x-amz-date", "20150830"),
        ("x-amz-date", ""),
        ("authorization", ""),
        ("authorization", "AWS4-HMAC-SHA256 Credential="),
        ("authorization", "Bearer x"),
    ] {
        refuses(&|request| {
            request.headers.insert(name, value.parse().unwrap());
        });
        refuses(&|request| {
            request.headers.remove(name);
        });
        refuses(&|request| {
            request.headers.append(name, value.parse().unwrap());
        });
    }
}

#[test]
fn every_byte_of_the_header_counts() {
    let request = signed();
    let header = only(&request.headers, "authorization").unwrap().to_owned();
    for at in 0..header.len() {
        for byte in [b'0', b'a', b',', b'/', b';'] {
            let mut bytes = header.clone().into_bytes();
            if bytes[at] == byte {
                continue;
            }
            bytes[at] = byte;
            let mut request = signed();
            let value = http::HeaderValue::from_bytes(&bytes).unwrap();
            request.headers.insert("authorization", value);
            let judged = judged(&request, BODY, NOW);
            assert!(
                judged.is_err(),
                "byte {at}: {}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }
}

#[test]
fn a_host_that_is_not_signed_is_not_enough() {
    let mut request = signed();
    let header = only(&request.headers, "authorization").unwrap();
    let without = header.replace("SignedHeaders=host;x-amz-date", "SignedHeaders=x-amz-date");
    request
        .headers
        .insert("authorization", without.parse().unwrap());
    assert!(
        judged(&request, BODY, NOW)
            .unwrap_err()
            .contains("must name host")
    );
}
