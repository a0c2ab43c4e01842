//! RSA and ECDSA versions in use, by AWS-LC: OAEP, PSS, PKCS #1 and ECDSA, all with SHA-256. States and grants are not known here.

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::{
        KeyPair as RsaKeyPair, KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey,
        OaepPublicEncryptingKey, PrivateDecryptingKey,
    },
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256,
        RsaEncoding, UnparsedPublicKey, VerificationAlgorithm,
    },
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{key::Algorithm, material::Material};

/// How a signature is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// RSASSA-PSS with SHA-256, salt as long as the hash.
    RsaPss,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaPkcs1,
    /// ECDSA with SHA-256, in DER.
    Ecdsa,
}

impl Scheme {
    /// What a key signs with unless somebody says otherwise; nothing, for keys that do not sign.
    pub fn of(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::Aes256 => None,
            Algorithm::EcP256 => Some(Self::Ecdsa),
            _ => Some(Self::RsaPss),
        }
    }

    /// Whether such keys can sign so.
    pub(super) fn fits(self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::Aes256 => false,
            Algorithm::EcP256 => self == Self::Ecdsa,
            _ => self != Self::Ecdsa,
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::RsaPss => &RSA_PSS_2048_8192_SHA256,
            Self::RsaPkcs1 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Ecdsa => &ECDSA_P256_SHA256_ASN1,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RsaPss => "rsa-pss",
            Self::RsaPkcs1 => "rsa-pkcs1",
            Self::Ecdsa => "ecdsa",
        })
    }
}

impl FromStr for Scheme {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::RsaPss, Self::RsaPkcs1, Self::Ecdsa]
            .into_iter()
            .find(|scheme| scheme.to_string() == text)
            .ok_or_else(|| format!("\"{text}\" is none of rsa-pss, rsa-pkcs1, ecdsa"))
    }
}

/// A new key pair, as a PKCS #8 document. `None` for what is no asymmetric algorithm, and where there is no randomness.
pub(super) fn generate(algorithm: Algorithm) -> Option<Material> {
    let size = match algorithm {
        Algorithm::Aes256 => return None,
        Algorithm::EcP256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).ok()?;
            let document = pair.to_pkcs8v1().ok()?;
            return Some(Zeroizing::new(document.as_ref().to_vec()));
        }
        Algorithm::Rsa2048 => KeySize::Rsa2048,
        Algorithm::Rsa3072 => KeySize::Rsa3072,
        Algorithm::Rsa4096 => KeySize::Rsa4096,
    };
    let key = PrivateDecryptingKey::generate(size).ok()?;
    let document = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'static>>::as_der(&key).ok()?;
    Some(Zeroizing::new(document.as_ref().to_vec()))
}

/// The public key, as an X.509 SubjectPublicKeyInfo in DER.
pub(super) fn public_key(algorithm: Algorithm, pkcs8: &[u8]) -> Option<Vec<u8>> {
    use aws_lc_rs::encoding::PublicKeyX509Der;
    let der: PublicKeyX509Der<'static> = match algorithm {
        Algorithm::Aes256 => return None,
        Algorithm::EcP256 => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).ok()?;
            pair.public_key().as_der().ok()?
        }
        _ => {
            let key = PrivateDecryptingKey::from_pkcs8(pkcs8).ok()?;
            key.public_key().as_der().ok()?
        }
    };
    Some(der.as_ref().to_vec())
}

/// How long a plaintext this key takes.
pub(super) fn max_plaintext(pkcs8: &[u8]) -> Option<usize> {
    let key = PrivateDecryptingKey::from_pkcs8(pkcs8).ok()?;
    let key = OaepPublicEncryptingKey::new(key.public_key()).ok()?;
    Some(key.max_plaintext_size(&OAEP_SHA256_MGF1SHA256))
}

/// RSA-OAEP with SHA-256; the context is the label.
pub(super) fn encrypt(pkcs8: &[u8], plaintext: &[u8], context: &[u8]) -> Option<Vec<u8>> {
    let key = PrivateDecryptingKey::from_pkcs8(pkcs8).ok()?;
    let key = OaepPublicEncryptingKey::new(key.public_key()).ok()?;
    let mut out = vec![0; key.ciphertext_size()];
    let made = key
        .encrypt(&OAEP_SHA256_MGF1SHA256, plaintext, &mut out, label(context))
        .ok()?;
    Some(made.to_vec())
}

/// Undoes [`encrypt`]; `None` when key, label or bytes differ.
pub(super) fn decrypt(
    pkcs8: &[u8],
    ciphertext: &[u8],
    context: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let key = PrivateDecryptingKey::from_pkcs8(pkcs8).ok()?;
    let key = OaepPrivateDecryptingKey::new(key).ok()?;
    let mut out = Zeroizing::new(vec![0; key.min_output_size()]);
    let length = key
        .decrypt(
            &OAEP_SHA256_MGF1SHA256,
            ciphertext,
            &mut out,
            label(context),
        )
        .ok()?
        .len();
    out.truncate(length);
    Some(out)
}

fn label(context: &[u8]) -> Option<&[u8]> {
    (!context.is_empty()).then_some(context)
}

/// Signs the SHA-256 of a message. The scheme must fit the key.
pub(super) fn sign(scheme: Scheme, pkcs8: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    let random = SystemRandom::new();
    if scheme == Scheme::Ecdsa {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).ok()?;
        let signature = pair.sign(&random, message).ok()?;
        return Some(signature.as_ref().to_vec());
    }
    let pair = RsaKeyPair::from_pkcs8(pkcs8).ok()?;
    let mut signature = vec![0; pair.public_modulus_len()];
    let padding: &'static dyn RsaEncoding = match scheme {
        Scheme::RsaPkcs1 => &RSA_PKCS1_SHA256,
        _ => &RSA_PSS_SHA256,
    };
    pair.sign(padding, &random, message, &mut signature).ok()?;
    Some(signature)
}

/// Whether a signature is of this message and key; `None` when the key cannot be read.
pub(super) fn verify(
    algorithm: Algorithm,
    scheme: Scheme,
    pkcs8: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Option<bool> {
    let public = public_key(algorithm, pkcs8)?;
    let public = UnparsedPublicKey::new(scheme.verification(), public);
    Some(public.verify(message, signature).is_ok())
}
