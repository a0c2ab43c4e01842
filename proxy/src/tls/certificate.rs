//! What pgveil reads in a certificate besides what rustls verifies: the hash that a channel binds to, and the
//! subject's common name. A DER reader for these two, no more.

use sha2::{Digest, Sha256, Sha384, Sha512};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const VERSION: u8 = 0xa0;
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// `tls-server-end-point` (RFC 5929, section 4.1): the hash of the certificate, by the function that signed it, but
/// SHA-256 for MD5 and SHA-1. `None` where no such function is defined, as for Ed25519.
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (mut fields, _) = sequence(certificate)?;
    element(&mut fields)?;
    let algorithm = expect(&mut fields, SEQUENCE)?;
    Some(match signature_hash(algorithm)? {
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

/// The subject's CN: the last if there are several, as OpenSSL gives it to PostgreSQL. `None` if there is none, or
/// one that holds a NUL or is not UTF-8.
pub fn common_name(certificate: &[u8]) -> Option<String> {
    let (mut outer, _) = sequence(certificate)?;
    let mut fields = expect(&mut outer, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        element(&mut fields)?;
    }
    // Serial number, signature algorithm, issuer, validity.
    for _ in 0..4 {
        element(&mut fields)?;
    }
    let mut subject = expect(&mut fields, SEQUENCE)?;
    let mut found = None;
    while !subject.is_empty() {
        let mut set = expect(&mut subject, SET)?;
        while !set.is_empty() {
            let mut pair = expect(&mut set, SEQUENCE)?;
            let name = expect(&mut pair, OID)?;
            let (kind, value) = element(&mut pair)?;
            if name == COMMON_NAME {
                found = Some(string(kind, value));
            }
        }
    }
    found?
}

/// UTF8String, PrintableString, IA5String, and TeletexString as far as it is ASCII.
fn string(kind: u8, value: &[u8]) -> Option<String> {
    let known = match kind {
        0x0c => true,
        0x13 | 0x16 | 0x14 => value.is_ascii(),
        _ => false,
    };
    if !known || value.contains(&0) {
        return None;
    }
    String::from_utf8(value.to_vec()).ok()
}

enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// AlgorithmIdentifier of a signature.
fn signature_hash(mut algorithm: &[u8]) -> Option<Hash> {
    let oid = expect(&mut algorithm, OID)?;
    match oid {
        // PKCS #1: md5, sha1, sha256, sha384, sha512 WithRSAEncryption; 10 is RSASSA-PSS.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, which] => match which {
            4 | 5 | 11 => Some(Hash::Sha256),
            12 => Some(Hash::Sha384),
            13 => Some(Hash::Sha512),
            10 => pss_hash(algorithm),
            _ => None,
        },
        // ecdsa-with-SHA1; then SHA256, SHA384, SHA512.
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1] => Some(Hash::Sha256),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, which] => match which {
            2 => Some(Hash::Sha256),
            3 => Some(Hash::Sha384),
            4 => Some(Hash::Sha512),
            _ => None,
        },
        _ => None,
    }
}

/// RSASSA-PSS-params: the hash is the first field, in context 0; SHA-1 if it is absent.
fn pss_hash(mut parameters: &[u8]) -> Option<Hash> {
    let mut fields = expect(&mut parameters, SEQUENCE)?;
    if fields.first() != Some(&0xa0) {
        return Some(Hash::Sha256);
    }
    let (_, mut inner) = element(&mut fields)?;
    let mut algorithm = expect(&mut inner, SEQUENCE)?;
    match expect(&mut algorithm, OID)? {
        [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1] | [0x2b, 0x0e, 3, 2, 0x1a] => Some(Hash::Sha256),
        [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2] => Some(Hash::Sha384),
        [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3] => Some(Hash::Sha512),
        _ => None,
    }
}

/// The content of a SEQUENCE and what follows it.
fn sequence(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes;
    let content = expect(&mut rest, SEQUENCE)?;
    Some((content, rest))
}

fn expect<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    match element(rest)? {
        (found, content) if found == tag => Some(content),
        _ => None,
    }
}

/// Takes tag, length and content off the front. Lengths of four bytes at most.
fn element<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, after) = rest.split_first()?;
    let (&first, mut after) = after.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, left) = after.split_at_checked(count)?;
        length = digits
            .iter()
            .fold(0, |length, digit| length << 8 | usize::from(*digit));
        after = left;
    }
    let (content, left) = after.split_at_checked(length)?;
    *rest = left;
    Some((tag, content))
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    use super::*;
    use crate::tls::testing::Authority;

    fn certificate() -> CertificateDer<'static> {
        CertificateDer::from_pem_file(Authority::new("server.test").cert_file()).unwrap()
    }

    #[test]
    fn an_ecdsa_certificate_is_hashed_as_it_was_signed() {
        let certificate = certificate();
        assert_eq!(
            end_point(&certificate).unwrap(),
            Sha256::digest(&certificate).to_vec()
        );
    }

    #[test]
    fn bytes_that_are_no_certificate_never_panic() {
        let certificate = certificate();
        for end in 0..certificate.len() {
            let _ = (
                end_point(&certificate[..end]),
                common_name(&certificate[..end]),
            );
        }
        for at in 0..certificate.len() {
            for byte in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut spoilt = certificate.to_vec();
                spoilt[at] = byte;
                let _ = (end_point(&spoilt), common_name(&spoilt));
            }
        }
    }

    #[test]
    fn hashes_of_every_kind_are_told_apart() {
        let algorithm = |oid: &[u8], parameters: &[u8]| {
            let mut bytes = vec![OID, oid.len() as u8];
            bytes.extend_from_slice(oid);
            bytes.extend_from_slice(parameters);
            match signature_hash(&bytes) {
                None => 0,
                Some(Hash::Sha256) => 256,
                Some(Hash::Sha384) => 384,
                Some(Hash::Sha512) => 512,
            }
        };
        let rsa = |which| [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, which];
        for (which, size) in [(4, 256), (5, 256), (11, 256), (12, 384), (13, 512), (14, 0)] {
            assert_eq!(algorithm(&rsa(which), b""), size);
        }
        assert_eq!(algorithm(&rsa(10), &[0x30, 0]), 256);
        let sha384 = [
            0x30, 15, 0xa0, 13, 0x30, 11, OID, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2,
        ];
        assert_eq!(algorithm(&rsa(10), &sha384), 384);
        // Ed25519.
        assert_eq!(algorithm(&[0x2b, 0x65, 0x70], b""), 0);
    }
}
