//! What is done with keys: wrapping for pgveil, the XKS Proxy API's encryption, and by hand encrypt, decrypt, sign and verify.
//! States and grants are held against the record before any material is unsealed.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use zeroize::Zeroizing;

use super::{
    Caller, Key, KmsError, LocalKms, Operation, authorize,
    key::{Algorithm, Usage},
    material::{self, AesKey, NONCE_BYTES, TAG_BYTES},
    tampered, unusable,
};
use crate::{
    local::asymmetric::{self, Scheme},
    xks::wire::integrity_value,
};

/// What is wrapped or encrypted by hand is short; KMS everywhere stop at this size.
pub(in crate::local) const MAX_PLAINTEXT_BYTES: usize = 4096;
/// What begins everything encrypted or signed by hand; the version and a colon follow.
const PREFIX: &str = "pgveil:v";
/// Of the XKS Proxy API's ciphertext metadata: the format, then the key's version.
const METADATA_FORMAT: u8 = 1;

/// What somebody encrypted by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ciphertext {
    /// The version that encrypted it.
    pub version: u32,
    /// Nonce, ciphertext and tag of AES-256-GCM, or RSA-OAEP's ciphertext.
    pub bytes: Vec<u8>,
}

/// A signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The version that made it.
    pub version: u32,
    /// As the scheme has it.
    pub bytes: Vec<u8>,
}

/// `pgveil:v3:BASE64`.
fn to_text(version: u32, bytes: &[u8]) -> String {
    format!("{PREFIX}{version}:{}", BASE64.encode(bytes))
}

fn from_text(text: &str) -> Option<(u32, Vec<u8>)> {
    let (version, body) = text.trim().strip_prefix(PREFIX)?.split_once(':')?;
    Some((parse_version(version)?, BASE64.decode(body).ok()?))
}

/// A version as it is written: no sign, no zero in front.
pub(in crate::local) fn parse_version(text: &str) -> Option<u32> {
    let version: u32 = text.parse().ok()?;
    (version.to_string() == text).then_some(version)
}

impl Ciphertext {
    /// `pgveil:v3:BASE64`: it names its version.
    pub fn to_text(&self) -> String {
        to_text(self.version, &self.bytes)
    }

    /// Undoes [`Ciphertext::to_text`].
    pub fn from_text(text: &str) -> Option<Self> {
        let (version, bytes) = from_text(text)?;
        Some(Self { version, bytes })
    }
}

impl Signature {
    /// `pgveil:v3:BASE64`: it names its version.
    pub fn to_text(&self) -> String {
        to_text(self.version, &self.bytes)
    }

    /// Undoes [`Signature::to_text`].
    pub fn from_text(text: &str) -> Option<Self> {
        let (version, bytes) = from_text(text)?;
        Some(Self { version, bytes })
    }
}

/// What the XKS Proxy API calls a ciphertext: AES-GCM in its parts.
#[derive(Clone, PartialEq, Eq)]
pub struct XksCiphertext {
    /// As long as the plaintext.
    pub ciphertext: Vec<u8>,
    /// At most 20 bytes: which version encrypted it.
    pub metadata: Vec<u8>,
    /// The initialization vector.
    pub iv: Vec<u8>,
    /// The authentication tag.
    pub tag: Vec<u8>,
}

impl std::fmt::Debug for XksCiphertext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("XksCiphertext(..)")
    }
}

/// `u16be length ‖ aad ‖ u8 length ‖ metadata`, as the XKS Proxy API wants it (Encrypt, `ciphertextMetadata`). Lengths are
/// the caller's to check: at most 8,192 and 20. So it never begins as what pgveil binds otherwise ("pg...").
fn xks_aad(aad: &[u8], metadata: &[u8]) -> Vec<u8> {
    let mut bytes = (aad.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(aad);
    bytes.push(metadata.len() as u8);
    bytes.extend_from_slice(metadata);
    bytes
}

fn xks_metadata(version: u32) -> Vec<u8> {
    [&[METADATA_FORMAT][..], &version.to_be_bytes()].concat()
}

fn xks_version(metadata: &[u8]) -> Option<u32> {
    let (format, version) = metadata.split_first()?;
    let version: [u8; 4] = version.try_into().ok()?;
    (*format == METADATA_FORMAT).then_some(u32::from_be_bytes(version))
}

impl LocalKms {
    /// Encrypts a data key under the default version, for pgveil; makes the key if there is none.
    pub(in crate::local) async fn wrap(
        &self,
        name: &str,
        plaintext: &[u8],
        context: &[u8],
    ) -> Result<(u32, Vec<u8>), KmsError> {
        let key = self.service_key(name).await?;
        let (version, aes) = self
            .aes(&key, None, Operation::Encrypt, &Caller::pgveil())
            .await?;
        let aad = self.id(name, version).wrapping(context);
        let body = { aes.encrypt(plaintext, &aad) }.map_err(|_| KmsError::NoRandomness)?;
        Ok((version, material::wrapped(version, &body)))
    }

    /// Undoes [`LocalKms::wrap`], for the body of what it made.
    pub(in crate::local) async fn unwrap(
        &self,
        name: &str,
        version: u32,
        body: &[u8],
        context: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        let key = self.load(name).await?.ok_or_else(|| KmsError::NotFound {
            key: name.to_owned(),
        })?;
        let (_, aes) = self
            .aes(&key, Some(version), Operation::Decrypt, &Caller::pgveil())
            .await?;
        aes.decrypt(body, &self.id(name, version).wrapping(context))
            .ok_or_else(|| ciphertext(name))
    }

    /// The version that a caller would encrypt with, whatever becomes of it; for [`crate::KeyProvider::describe`].
    pub(in crate::local) async fn current(&self, name: &str) -> Result<Option<u32>, KmsError> {
        let Some(key) = self.load(name).await? else {
            return Ok(None);
        };
        authorize(&key, &Caller::pgveil(), Operation::Describe)?;
        usable_version(&key, None, Operation::Encrypt).map(Some)
    }

    /// Encrypts by hand. The context must be given again to decrypt.
    pub async fn encrypt(
        &self,
        name: &str,
        plaintext: &[u8],
        context: &[u8],
        caller: &Caller,
    ) -> Result<Ciphertext, KmsError> {
        let key = self.existing(name).await?;
        authorize(&key, caller, Operation::Encrypt)?;
        let version = usable_version(&key, None, Operation::Encrypt)?;
        let too_long = |limit: usize| KmsError::Input {
            reason: format!("key \"{name}\" encrypts at most {limit} bytes"),
        };
        if plaintext.len() > MAX_PLAINTEXT_BYTES {
            return Err(too_long(MAX_PLAINTEXT_BYTES));
        }
        let material = self.material(&key, version).await?;
        let bytes = if key.algorithm == Algorithm::Aes256 {
            let aes = AesKey::new(&material).ok_or_else(|| not_of(&key))?;
            let aad = self.id(name, version).encrypting(context);
            aes.encrypt(plaintext, &aad)
                .map_err(|_| KmsError::NoRandomness)?
        } else {
            let limit = asymmetric::max_plaintext(&material).ok_or_else(|| not_of(&key))?;
            if plaintext.len() > limit {
                return Err(too_long(limit));
            }
            asymmetric::encrypt(&material, plaintext, context).ok_or(KmsError::NoRandomness)?
        };
        Ok(Ciphertext { version, bytes })
    }

    /// Decrypts what [`LocalKms::encrypt`] made.
    pub async fn decrypt(
        &self,
        name: &str,
        encrypted: &Ciphertext,
        context: &[u8],
        caller: &Caller,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        let key = self.existing(name).await?;
        authorize(&key, caller, Operation::Decrypt)?;
        let version = usable_version(&key, Some(encrypted.version), Operation::Decrypt)?;
        let material = self.material(&key, version).await?;
        let opened = if key.algorithm == Algorithm::Aes256 {
            let aes = AesKey::new(&material).ok_or_else(|| not_of(&key))?;
            let aad = self.id(name, version).encrypting(context);
            aes.decrypt(&encrypted.bytes, &aad)
        } else {
            asymmetric::decrypt(&material, &encrypted.bytes, context)
        };
        opened.ok_or_else(|| ciphertext(name))
    }

    /// Signs the SHA-256 of a message.
    pub async fn sign(
        &self,
        name: &str,
        message: &[u8],
        scheme: Option<Scheme>,
        caller: &Caller,
    ) -> Result<Signature, KmsError> {
        let key = self.existing(name).await?;
        authorize(&key, caller, Operation::Sign)?;
        let version = usable_version(&key, None, Operation::Sign)?;
        let scheme = fitting(&key, scheme)?;
        let material = self.material(&key, version).await?;
        let bytes = asymmetric::sign(scheme, &material, message).ok_or_else(|| not_of(&key))?;
        Ok(Signature { version, bytes })
    }

    /// Whether a signature is of this message and of that version of the key.
    pub async fn verify(
        &self,
        name: &str,
        message: &[u8],
        signature: &Signature,
        scheme: Option<Scheme>,
        caller: &Caller,
    ) -> Result<bool, KmsError> {
        let key = self.existing(name).await?;
        authorize(&key, caller, Operation::Verify)?;
        let version = usable_version(&key, Some(signature.version), Operation::Verify)?;
        let scheme = fitting(&key, scheme)?;
        let material = self.material(&key, version).await?;
        asymmetric::verify(key.algorithm, scheme, &material, message, &signature.bytes)
            .ok_or_else(|| not_of(&key))
    }

    /// A version's public key in DER (SubjectPublicKeyInfo), the default version's if none is named. Disabled ones are shown.
    pub async fn public_key(
        &self,
        name: &str,
        version: Option<u32>,
        caller: &Caller,
    ) -> Result<(u32, Vec<u8>), KmsError> {
        let key = self.show(name, caller).await?;
        if key.algorithm == Algorithm::Aes256 {
            return Err(usage(&key, "show a public key"));
        }
        let version = (version.or(key.default_version)).ok_or_else(|| KmsError::State {
            key: name.to_owned(),
            reason: "it has no version yet".to_owned(),
        })?;
        match key.version(version) {
            None => Err(KmsError::NoVersion {
                key: name.to_owned(),
                version,
            }),
            Some(found) if found.state == super::VersionState::Destroyed => Err(KmsError::State {
                key: name.to_owned(),
                reason: format!("version {version} is destroyed"),
            }),
            Some(_) => {
                let material = self.material(&key, version).await?;
                let public = asymmetric::public_key(key.algorithm, &material);
                Ok((version, public.ok_or_else(|| not_of(&key))?))
            }
        }
    }

    /// The XKS Proxy API's Encrypt: version, ciphertext, and integrity value over all its parts. Sizes are the caller's to check.
    ///
    /// What is answered has been decrypted, and the integrity value is older than that (Appendix C): a bit that falls over
    /// afterwards shows.
    pub async fn xks_encrypt(
        &self,
        name: &str,
        plaintext: &[u8],
        aad: &[u8],
        caller: &Caller,
    ) -> Result<(u32, XksCiphertext, [u8; 32]), KmsError> {
        let key = self.existing(name).await?;
        let (version, aes) = self.aes(&key, None, Operation::Encrypt, caller).await?;
        let metadata = xks_metadata(version);
        let bound = xks_aad(aad, &metadata);
        let sealed = aes
            .encrypt(plaintext, &bound)
            .map_err(|_| KmsError::NoRandomness)?;
        let (iv, rest) = sealed.split_at(NONCE_BYTES);
        let (ciphertext, tag) = rest.split_at(rest.len() - TAG_BYTES);
        let made = XksCiphertext {
            ciphertext: ciphertext.to_vec(),
            metadata,
            iv: iv.to_vec(),
            tag: tag.to_vec(),
        };
        let XksCiphertext {
            ciphertext,
            metadata,
            iv,
            tag,
        } = &made;
        let value = integrity_value(aad, metadata, iv, ciphertext, tag);
        let opened = aes.decrypt(&[&iv[..], ciphertext, tag].concat(), &bound);
        if opened.is_none_or(|opened| *opened != plaintext) {
            return Err(self::ciphertext(name));
        }
        Ok((version, made, value))
    }

    /// The XKS Proxy API's Decrypt.
    pub async fn xks_decrypt(
        &self,
        name: &str,
        encrypted: &XksCiphertext,
        aad: &[u8],
        caller: &Caller,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        let key = self.existing(name).await?;
        authorize(&key, caller, Operation::Decrypt)?;
        let version = xks_version(&encrypted.metadata)
            .filter(|version| key.version(*version).is_some())
            .ok_or_else(|| ciphertext(name))?;
        let (_, aes) = self
            .aes(&key, Some(version), Operation::Decrypt, caller)
            .await?;
        let sealed = [&encrypted.iv[..], &encrypted.ciphertext, &encrypted.tag].concat();
        if encrypted.iv.len() != NONCE_BYTES {
            return Err(ciphertext(name));
        }
        aes.decrypt(&sealed, &xks_aad(aad, &encrypted.metadata))
            .ok_or_else(|| ciphertext(name))
    }

    /// Whether store and cipher work, without any key of anybody's.
    pub async fn health(&self) -> Result<(), KmsError> {
        self.store.root_check(&self.name).await?;
        let probe = AesKey::new(
            &material::generate(Algorithm::Aes256).map_err(|_| KmsError::NoRandomness)?,
        )
        .ok_or(KmsError::NoRandomness)?;
        let sealed = probe
            .encrypt(b"health", b"")
            .map_err(|_| KmsError::NoRandomness)?;
        probe
            .decrypt(&sealed, b"")
            .map(drop)
            .ok_or(KmsError::NoRandomness)
    }

    /// An AES version, if caller and states allow it.
    async fn aes(
        &self,
        key: &Key,
        version: Option<u32>,
        operation: Operation,
        caller: &Caller,
    ) -> Result<(u32, AesKey), KmsError> {
        authorize(key, caller, operation)?;
        if key.algorithm != Algorithm::Aes256 {
            return Err(usage(key, operation.as_str()));
        }
        let version = usable_version(key, version, operation)?;
        let material = self.material(key, version).await?;
        let aes = AesKey::new(&material).ok_or_else(|| not_of(key))?;
        Ok((version, aes))
    }
}

/// The version to use, the default one if none is named, if usage and states allow it.
fn usable_version(key: &Key, version: Option<u32>, operation: Operation) -> Result<u32, KmsError> {
    if !key.usage.includes(operation) {
        return Err(usage(key, operation.as_str()));
    }
    let state = |reason: String| KmsError::State {
        key: key.name.clone(),
        reason,
    };
    let version =
        (version.or(key.default_version)).ok_or_else(|| state(format!("it is {}", key.state)))?;
    if key.version(version).is_none() {
        return Err(KmsError::NoVersion {
            key: key.name.clone(),
            version,
        });
    }
    unusable(key, version).map_or(Ok(version), |reason| Err(state(reason)))
}

fn fitting(key: &Key, scheme: Option<Scheme>) -> Result<Scheme, KmsError> {
    let scheme = scheme.or(Scheme::of(key.algorithm));
    scheme
        .filter(|scheme| key.usage == Usage::SignVerify && scheme.fits(key.algorithm))
        .ok_or_else(|| usage(key, "sign so"))
}

fn usage(key: &Key, wanted: &str) -> KmsError {
    KmsError::Usage {
        key: key.name.clone(),
        algorithm: key.algorithm.as_str(),
        usage: key.usage.as_str(),
        wanted: wanted.to_owned(),
    }
}

fn ciphertext(name: &str) -> KmsError {
    KmsError::Ciphertext {
        key: name.to_owned(),
    }
}

/// The material opened, and is of another sort than the record says.
fn not_of(key: &Key) -> KmsError {
    tampered(&key.name, "its key material is of another algorithm")
}
