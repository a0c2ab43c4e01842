//! Azure Key Vault: a server here speaks the published REST API, with real keys, real signatures and tokens that must be
//! fetched first: <https://learn.microsoft.com/rest/api/keyvault/keys>

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::{
    digest::{Digest, SHA256},
    encoding::{AsDer, Pkcs8V1Der},
    key_wrap::{AES_256, AesKek, KeyWrap},
    rsa::{
        KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
        PrivateDecryptingKey,
    },
    signature::{KeyPair, RSA_PSS_SHA256, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use pgveil_providers::{KeyProvider, ProviderError, Wrapped};
use serde_json::{Value, json};

use crate::{
    contract::{
        KEY, configured, context, contract, is_damaged, is_denied, is_unavailable,
        rotates_when_asked,
    },
    fault::{Fault, Reply, Request},
};

const TOKEN: &str = "a-token-of-the-test";
const SECRET: &str = "the-secret-of-the-application";

/// A new private key of RSA-2048.
pub(crate) fn rsa_pkcs8() -> Result<Pkcs8V1Der<'static>> {
    let made = PrivateDecryptingKey::generate(KeySize::Rsa2048);
    let made = made.map_err(|_| anyhow::anyhow!("no RSA key"))?;
    made.as_der().map_err(|_| anyhow::anyhow!("no PKCS#8"))
}

/// One version of a key.
enum Material {
    Rsa {
        oaep: Box<PrivateDecryptingKey>,
        sign: Box<RsaKeyPair>,
    },
    Oct([u8; 32]),
    Ec,
}

impl Material {
    fn rsa() -> Result<Self> {
        let der = rsa_pkcs8()?;
        let no = |_| anyhow::anyhow!("an RSA key that is none");
        Ok(Self::Rsa {
            oaep: Box::new(PrivateDecryptingKey::from_pkcs8(der.as_ref()).map_err(no)?),
            sign: Box::new(RsaKeyPair::from_pkcs8(der.as_ref()).map_err(no)?),
        })
    }
}

/// What is done with an answer or instead of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Weather {
    #[default]
    Fair,
    /// Status, code, inner code. For operations on keys only.
    Error(u16, &'static str, &'static str),
    ErrorOnce,
    Hang,
    Redirect,
    Flood,
    Page,
    /// Whoever gives tokens says this.
    NoToken(u16),
}

#[derive(Default)]
struct Inside {
    weather: Weather,
    /// By name: versions, the oldest first.
    keys: BTreeMap<&'static str, Vec<Material>>,
    disabled: bool,
    asked: usize,
    /// Bodies of everything that was sent to a vault without a token.
    unasked: Vec<u8>,
}

/// The server: a vault, and who gives tokens.
pub(crate) struct Vault {
    fault: Fault,
    inside: Arc<Mutex<Inside>>,
}

impl Vault {
    pub(crate) async fn start() -> Result<Self> {
        let keys = BTreeMap::from([
            ("rsa", vec![Material::rsa()?]),
            ("rsa2", vec![Material::rsa()?]),
            ("oct", vec![Material::Oct([7; 32])]),
            ("oct2", vec![Material::Oct([8; 32])]),
            ("ec", vec![Material::Ec]),
        ]);
        let inside = Arc::new(Mutex::new(Inside {
            keys,
            ..Inside::default()
        }));
        let shared = Arc::clone(&inside);
        let fault = Fault::tls(move |request| answer(&shared, request)).await?;
        Ok(Self { fault, inside })
    }

    pub(crate) async fn provider(&self) -> Result<Box<dyn KeyProvider>> {
        self.provider_with(SECRET).await
    }

    async fn provider_with(&self, secret: &str) -> Result<Box<dyn KeyProvider>> {
        configured(&self.section_with(self.address(), secret)).await
    }

    /// Where it is, and who gives tokens.
    pub(crate) fn address(&self) -> &str {
        &self.fault.address
    }

    /// What a configuration says of it, reached at this address.
    pub(crate) fn section(&self, address: &str) -> String {
        self.section_with(address, SECRET)
    }

    fn section_with(&self, address: &str, secret: &str) -> String {
        format!(
            "kind = \"azure-key-vault\"\nvault_url = \"{address}\"\ntenant_id = \"t\"\nclient_id = \"c\"\n\
             client_secret = \"{secret}\"\nauthority = \"{address}\"\nca_file = \"{}\"\n",
            self.fault.ca_file.display()
        )
    }

    fn set(&self, weather: Weather) {
        self.inside.lock().expect("no test panics with it").weather = weather;
    }

    fn rotate(&self, name: &'static str) -> Result<()> {
        let new = Material::rsa()?;
        let mut inside = self.inside.lock().expect("no test panics with it");
        inside.keys.entry(name).or_default().push(new);
        Ok(())
    }

    fn asked(&self) -> usize {
        std::mem::take(&mut self.inside.lock().expect("no test panics with it").asked)
    }
}

fn answer(inside: &Mutex<Inside>, request: &Request) -> Reply {
    let mut inside = inside.lock().expect("no test panics with it");
    let path = request.path.split('?').next().unwrap_or_default();
    if path == "/t/oauth2/v2.0/token" {
        if let Weather::NoToken(status) = inside.weather {
            let body = json!({ "error": "invalid_client", "error_description": "AADSTS7000222: expired", "error_codes": [7_000_222] });
            return Reply::json(status, &body);
        }
        let form = String::from_utf8_lossy(&request.body).into_owned();
        if !form.contains(&format!("client_secret={SECRET}")) {
            let body = json!({ "error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided.", "error_codes": [7_000_215] });
            return Reply::json(401, &body);
        }
        assert!(
            form.contains("scope=https%3A%2F%2Fvault.azure.net%2F.default"),
            "{form}"
        );
        let body = json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": TOKEN });
        return Reply::json(200, &body);
    }
    if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
        inside.unasked.extend_from_slice(&request.body);
        let challenge = "Bearer authorization=\"https://login.microsoftonline.com/t\", resource=\"https://vault.azure.net\"";
        let header = ("www-authenticate".to_owned(), challenge.to_owned());
        let body = br#"{"error":{"code":"Unauthorized","message":"AKV10000: Request is missing a Bearer or PoP token."}}"#;
        return Reply::Answer(401, vec![header], body.to_vec());
    }
    inside.asked += 1;
    match inside.weather {
        Weather::Error(status, code, inner) => return error(status, code, inner),
        Weather::ErrorOnce => {
            inside.weather = Weather::Fair;
            return error(503, "ServiceUnavailable", "");
        }
        Weather::Hang => return Reply::Hang,
        Weather::Redirect => {
            let to = ("location".to_owned(), request.path.clone());
            return Reply::Answer(307, vec![to], Vec::new());
        }
        Weather::Flood => return Reply::Answer(200, Vec::new(), vec![b' '; 1 << 20]),
        Weather::Page => return Reply::Answer(502, Vec::new(), b"<html>".to_vec()),
        Weather::Fair | Weather::NoToken(_) => {}
    }
    if let Some(name) = path
        .strip_prefix("/keys/")
        .and_then(|rest| rest.strip_suffix("/rotate"))
    {
        return rotated(&mut inside, name, request);
    }
    done(&inside, path, request).unwrap_or_else(|reply| reply)
}

/// `Rotate Key`: a new version by the key's rotation policy, answered as a `KeyBundle`.
fn rotated(inside: &mut Inside, name: &str, request: &Request) -> Reply {
    let Some(versions) = inside.keys.get_mut(name) else {
        return error(404, "KeyNotFound", "");
    };
    if request.method != "POST" {
        return error(405, "MethodNotAllowed", "");
    }
    versions.push(Material::rsa().expect("a key"));
    let number = versions.len();
    let kid = format!("https://example.vault.azure.net/keys/{name}/v{number}");
    let material = &inside.keys[name][number - 1];
    Reply::json(200, &described(inside, material, &kid))
}

/// `KeyVaultError`.
fn error(status: u16, code: &str, inner: &str) -> Reply {
    let mut body = json!({ "error": { "code": code, "message": "as the reference says" } });
    if !inner.is_empty() {
        body["error"]["innererror"] = json!({ "code": inner });
    }
    Reply::json(status, &body)
}

fn done(inside: &Inside, path: &str, request: &Request) -> Result<Reply, Reply> {
    let mut parts = path.trim_start_matches("/keys/").split('/');
    let name = parts.next().unwrap_or_default();
    let found = inside.keys.get(name);
    let versions = found.ok_or_else(|| error(404, "KeyNotFound", ""))?;
    let version = parts.next().filter(|version| !version.is_empty());
    if version == Some("rotationpolicy") {
        return Ok(Reply::json(
            200,
            &json!({
                "lifetimeActions": [
                    { "trigger": { "timeAfterCreate": "P90D" }, "action": { "type": "Rotate" } },
                    { "trigger": { "timeBeforeExpiry": "P30D" }, "action": { "type": "Notify" } },
                ],
                "attributes": { "expiryTime": "P1Y" },
            }),
        ));
    }
    let number = match version {
        None => versions.len(),
        Some(version) => version.trim_start_matches('v').parse().unwrap_or(0),
    };
    let material = versions.get(number.wrapping_sub(1));
    let material = material.ok_or_else(|| error(404, "KeyNotFound", ""))?;
    let kid = format!("https://example.vault.azure.net/keys/{name}/v{number}");
    let Some(verb) = parts.next() else {
        return Ok(Reply::json(200, &described(inside, material, &kid)));
    };
    if inside.disabled {
        return Err(error(403, "Forbidden", "KeyDisabled"));
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let value = BASE64.decode(body["value"].as_str().unwrap_or_default());
    let value = value.map_err(|_| error(400, "BadParameter", ""))?;
    let algorithm = body["alg"].as_str().unwrap_or_default();
    let result = operated(material, verb, algorithm, &value)
        .ok_or_else(|| error(400, "BadParameter", ""))?;
    Ok(Reply::json(
        200,
        &json!({ "kid": kid, "value": BASE64.encode(result) }),
    ))
}

/// `KeyBundle`.
fn described(inside: &Inside, material: &Material, kid: &str) -> Value {
    let mut key = match material {
        Material::Rsa { sign, .. } => {
            let (modulus, exponent) = integers(sign.public_key().as_ref());
            json!({
                "kty": "RSA",
                "n": BASE64.encode(modulus),
                "e": BASE64.encode(exponent),
            })
        }
        Material::Oct(_) => json!({ "kty": "oct-HSM" }),
        Material::Ec => json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" }),
    };
    key["kid"] = json!(kid);
    json!({
        "key": key,
        "attributes": { "enabled": !inside.disabled, "created": 1_790_000_000, "updated": 1_790_000_000 },
    })
}

/// Modulus and exponent of an `RSAPublicKey` of 2,048 bits (RFC 8017, A.1.1).
fn integers(der: &[u8]) -> (&[u8], &[u8]) {
    // SEQUENCE, INTEGER of 257 bytes whose first is 0, INTEGER of 3 bytes.
    let (head, rest) = der.split_at(9);
    assert_eq!(
        (head[0], &head[4..]),
        (0x30, &[0x02, 0x82, 0x01, 0x01, 0x00][..])
    );
    let (modulus, exponent) = rest.split_at(256);
    (modulus, &exponent[2..])
}

fn operated(material: &Material, verb: &str, algorithm: &str, value: &[u8]) -> Option<Vec<u8>> {
    match (material, verb, algorithm) {
        (Material::Rsa { oaep, .. }, "wrapkey", "RSA-OAEP-256") => {
            let key = OaepPublicEncryptingKey::new(oaep.public_key()).ok()?;
            let mut out = vec![0; key.ciphertext_size()];
            key.encrypt(&OAEP_SHA256_MGF1SHA256, value, &mut out, None)
                .ok()
                .map(|out| out.to_vec())
        }
        (Material::Rsa { oaep, .. }, "unwrapkey", "RSA-OAEP-256") => {
            let key = OaepPrivateDecryptingKey::new(oaep.as_ref().clone()).ok()?;
            let mut out = vec![0; key.min_output_size()];
            key.decrypt(&OAEP_SHA256_MGF1SHA256, value, &mut out, None)
                .ok()
                .map(|out| out.to_vec())
        }
        (Material::Rsa { sign, .. }, "sign", "PS256") => {
            let digest = Digest::import_less_safe(value, &SHA256).ok()?;
            let mut out = vec![0; sign.public_modulus_len()];
            sign.sign_digest(&RSA_PSS_SHA256, &digest, &mut out).ok()?;
            Some(out)
        }
        (Material::Oct(key), "wrapkey", "A256KW") => {
            let mut out = vec![0; value.len() + 8];
            let kek = AesKek::new(&AES_256, key).ok()?;
            kek.wrap(value, &mut out).ok().map(|out| out.to_vec())
        }
        (Material::Oct(key), "unwrapkey", "A256KW") => {
            let mut out = vec![0; value.len()];
            let kek = AesKek::new(&AES_256, key).ok()?;
            kek.unwrap(value, &mut out).ok().map(|out| out.to_vec())
        }
        _ => None,
    }
}

#[tokio::test]
async fn a_vault_keeps_the_contract() -> Result<()> {
    let vault = Vault::start().await?;
    let provider = vault.provider().await?;
    contract(provider.as_ref(), "rsa", "rsa2").await?;
    contract(provider.as_ref(), "oct", "oct2").await?;
    contract(provider.as_ref(), "rsa", "oct").await?;
    let here = context("platform");
    let old = provider.wrap("rsa", &KEY, &here).await?;
    let described = provider.describe("rsa").await?;
    ensure!((old.kek_version.as_str(), described.version.as_str()) == ("v1", "v1"));
    ensure!(described.algorithm == "RSA-2048");
    let rotation = provider.rotation("rsa").await?.context("Azure tells")?;
    ensure!(
        rotation.is_automatic && rotation.period_days == Some(90),
        "{rotation:?}"
    );
    ensure!(rotation.next > rotation.last, "{rotation:?}");

    rotates_when_asked(provider.as_ref(), "rsa2").await?;
    let answer = provider.rotate("nobody").await;
    ensure!(is_denied(&answer), "{answer:?}");

    // A rotation shows, and what was wrapped before it opens with the version that it names.
    vault.rotate("rsa")?;
    ensure!(provider.describe("rsa").await?.version == "v2");
    let new = provider.wrap("rsa", &KEY, &here).await?;
    ensure!(new.kek_version == "v2");
    ensure!(provider.unwrap("rsa", &old, &here).await?.as_slice() == KEY);
    let claimed = Wrapped {
        kek_version: "v2".to_owned(),
        ..old.clone()
    };
    let answer = provider.unwrap("rsa", &claimed, &here).await;
    ensure!(is_damaged(&answer), "{answer:?}");

    vault
        .inside
        .lock()
        .expect("no test panics with it")
        .disabled = true;
    for answer in [
        provider.unwrap("rsa", &old, &here).await.map(drop),
        provider.wrap("rsa", &KEY, &here).await.map(drop),
        provider.wrap("oct", &KEY, &here).await.map(drop),
        provider.describe("rsa").await.map(drop),
    ] {
        ensure!(is_denied(&answer), "{answer:?}");
    }
    vault
        .inside
        .lock()
        .expect("no test panics with it")
        .disabled = false;
    ensure!(provider.unwrap("rsa", &old, &here).await?.as_slice() == KEY);
    for none in ["ec", "nobody", "", "a/b", "a?b", "..", "rsa/v1"] {
        let answer = provider.wrap(none, &KEY, &here).await;
        ensure!(is_denied(&answer), "{none}: {answer:?}");
    }
    ensure!(
        vault
            .inside
            .lock()
            .expect("no test panics with it")
            .unasked
            .is_empty(),
        "something was said before there was a token"
    );
    Ok(())
}

/// A public key wraps for anybody. Who can write the keystore must not be able to put a key of their own there.
#[tokio::test]
async fn a_key_that_somebody_else_wrapped_is_refused() -> Result<()> {
    let vault = Vault::start().await?;
    let provider = vault.provider().await?;
    let here = context("platform");
    let honest = provider.wrap("rsa", &KEY, &here).await?;
    let public = {
        let inside = vault.inside.lock().expect("no test panics with it");
        match &inside.keys["rsa"][0] {
            Material::Rsa { oaep, .. } => oaep.public_key(),
            _ => unreachable!("it is RSA"),
        }
    };
    // A wrapped CEK that the vault unwraps, in the place of the real one: the signature is missed.
    let key = OaepPublicEncryptingKey::new(public).map_err(|_| anyhow::anyhow!("no key"))?;
    let mut planted = vec![0; key.ciphertext_size()];
    let sealed = key.encrypt(&OAEP_SHA256_MGF1SHA256, &[5; 32], &mut planted, None);
    sealed.map_err(|_| anyhow::anyhow!("it does not encrypt"))?;
    let mut bytes = honest.bytes.clone();
    bytes[8..8 + planted.len()].copy_from_slice(&planted);
    vault.asked();
    let forged = Wrapped {
        bytes,
        ..honest.clone()
    };
    let answer = provider.unwrap("rsa", &forged, &here).await;
    ensure!(is_damaged(&answer), "{answer:?}");
    ensure!(
        vault.asked() == 0,
        "the vault was asked to open what nobody signed"
    );
    // Said to be wrapped by a symmetric key, which is not signed.
    let mut bytes = honest.bytes.clone();
    bytes[5] = 2;
    let answer = provider
        .unwrap("rsa", &Wrapped { bytes, ..honest }, &here)
        .await;
    ensure!(is_damaged(&answer), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn faults_of_a_vault_are_told_apart() -> Result<()> {
    let vault = Vault::start().await?;
    let provider = vault.provider().await?;
    let here = context("platform");
    let wrapped = provider.wrap("oct", &KEY, &here).await?;
    for denies in [
        Weather::Error(401, "Unauthorized", ""),
        Weather::Error(403, "Forbidden", "KeyDisabled"),
        Weather::Error(403, "Forbidden", "KeyExpired"),
        Weather::Error(403, "Forbidden", "ForbiddenByPolicy"),
        Weather::Error(404, "KeyNotFound", ""),
    ] {
        vault.set(denies);
        let answer = provider.unwrap("oct", &wrapped, &here).await;
        ensure!(is_denied(&answer), "{denies:?}: {answer:?}");
    }
    for away in [
        Weather::Error(429, "Throttled", ""),
        Weather::Error(500, "InternalServerError", ""),
        Weather::Error(503, "ServiceUnavailable", ""),
        Weather::Redirect,
        Weather::Flood,
        Weather::Page,
    ] {
        vault.set(away);
        vault.asked();
        let answer = provider.unwrap("oct", &wrapped, &here).await;
        ensure!(is_unavailable(&answer), "{away:?}: {answer:?}");
        ensure!(vault.asked() == 3, "{away:?} is worth another try");
    }
    vault.set(Weather::Error(400, "BadParameter", ""));
    let answer = provider.unwrap("oct", &wrapped, &here).await;
    ensure!(is_damaged(&answer), "{answer:?}");
    vault.set(Weather::ErrorOnce);
    ensure!(provider.unwrap("oct", &wrapped, &here).await?.as_slice() == KEY);
    vault.set(Weather::Hang);
    let start = Instant::now();
    let answer = provider.unwrap("oct", &wrapped, &here).await;
    ensure!(is_unavailable(&answer), "{answer:?}");
    ensure!(
        start.elapsed() < Duration::from_secs(8),
        "it waits too long"
    );
    Ok(())
}

#[tokio::test]
async fn who_gives_tokens_may_refuse_or_be_away() -> Result<()> {
    let vault = Vault::start().await?;
    let here = context("platform");
    let wrong = vault.provider_with("another-secret").await?;
    let answer = wrong.wrap("oct", &KEY, &here).await;
    ensure!(is_denied(&answer), "{answer:?}");
    let said = answer.err().map(|error: ProviderError| error.to_string());
    let said = said.unwrap_or_default();
    ensure!(!said.contains("another-secret"), "{said}");
    vault.set(Weather::NoToken(503));
    let answer = vault.provider().await?.wrap("oct", &KEY, &here).await;
    ensure!(is_unavailable(&answer), "{answer:?}");
    vault.set(Weather::NoToken(400));
    let answer = vault.provider().await?.wrap("oct", &KEY, &here).await;
    ensure!(is_denied(&answer), "{answer:?}");
    let plain = configured("kind = \"azure-key-vault\"\nvault_url = \"http://127.0.0.1:1\"").await;
    ensure!(plain.is_err(), "a vault over plain HTTP");
    Ok(())
}
