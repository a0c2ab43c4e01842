//! Google Cloud KMS. There is no emulator that binds associated data or checks checksums, so a server here speaks the
//! published REST API: <https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys>

use std::{
    fs,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use pgveil_providers::{KeyProvider, ProviderError, Wrapped};
use serde_json::{Value, json};

use crate::{
    contract::{
        KEY, configured, context, contract, is_damaged, is_denied, is_unavailable,
        rotates_when_asked,
    },
    fault::{Fault, Reply, Request},
};

const RING: &str = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/";

/// The full name of a key.
pub(crate) fn key(name: &str) -> String {
    format!("{RING}{name}")
}

/// What is done with an answer or instead of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Weather {
    #[default]
    Fair,
    Error(u16, &'static str, &'static str),
    /// The first try fails, the next does not.
    ErrorOnce,
    Hang,
    Redirect,
    /// An answer longer than any that is read.
    Flood,
    /// A page of something on the way.
    Page,
    /// As if the request's checksums had not been seen.
    Unverified,
    /// The answer's checksum is another.
    Altered,
    /// The answer is of another key.
    Another,
    /// The answers to who asks for a new version are lost: that one is made, or none is.
    Lost {
        made: bool,
    },
    /// Nobody may list versions, and the answer to who asks for a new one is lost.
    Unlisted,
}

/// A key: the state of each version.
type Versions = Vec<&'static str>;

#[derive(Default)]
struct Inside {
    weather: Weather,
    /// Versions of key `a`; other keys have one that is enabled.
    versions: Versions,
    /// Versions of `a` that were made and are not the primary one yet.
    made: Vec<usize>,
    asked: usize,
    authorization: Option<String>,
}

/// The server.
pub(crate) struct Google {
    fault: Fault,
    inside: Arc<Mutex<Inside>>,
}

impl Google {
    pub(crate) async fn start() -> Result<Self> {
        let inside = Arc::new(Mutex::new(Inside {
            versions: vec!["ENABLED"],
            ..Inside::default()
        }));
        let shared = Arc::clone(&inside);
        let fault = Fault::plain(move |request| answer(&shared, request)).await?;
        Ok(Self { fault, inside })
    }

    pub(crate) async fn provider(&self) -> Result<Box<dyn KeyProvider>> {
        let address = &self.fault.address;
        configured(&format!("kind = \"gcp-kms\"\nendpoint = \"{address}\"")).await
    }

    pub(crate) fn address(&self) -> &str {
        &self.fault.address
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.inside.lock().expect("no test panics with it").weather = weather;
    }

    fn versions(&self, versions: &[&'static str]) {
        let mut inside = self.inside.lock().expect("no test panics with it");
        (inside.versions, inside.made) = (versions.to_vec(), Vec::new());
    }

    /// Versions of key `a`, primary ones or not.
    fn count(&self) -> usize {
        let inside = self.inside.lock().expect("no test panics with it");
        inside.versions.len() + inside.made.len()
    }

    fn asked(&self) -> usize {
        std::mem::take(&mut self.inside.lock().expect("no test panics with it").asked)
    }
}

fn answer(inside: &Mutex<Inside>, request: &Request) -> Reply {
    let mut inside = inside.lock().expect("no test panics with it");
    inside.asked += 1;
    inside.authorization = request.header("authorization").map(str::to_owned);
    match inside.weather {
        Weather::Error(code, status, message) => return error(code, status, message),
        Weather::ErrorOnce => {
            inside.weather = Weather::Fair;
            return error(503, "UNAVAILABLE", "The service is currently unavailable.");
        }
        Weather::Hang => return Reply::Hang,
        Weather::Redirect => {
            let to = ("location".to_owned(), request.path.clone());
            return Reply::Answer(307, vec![to], Vec::new());
        }
        Weather::Flood => return Reply::Answer(200, Vec::new(), vec![b' '; 1 << 20]),
        Weather::Page => return Reply::Answer(404, Vec::new(), b"<html>".to_vec()),
        _ => {}
    }
    let answered = match rotating(&mut inside, request) {
        Some(answer) => answer,
        None => done(&inside, request),
    };
    match answered {
        Ok(mut body) => {
            let sum = |body: &mut Value, field: &str| {
                if body.get(field).is_some() {
                    body[field] = json!("1");
                }
            };
            match inside.weather {
                Weather::Unverified => body["verifiedPlaintextCrc32c"] = json!(false),
                Weather::Altered => {
                    sum(&mut body, "ciphertextCrc32c");
                    sum(&mut body, "plaintextCrc32c");
                }
                Weather::Another if body.get("name").is_some() => {
                    body["name"] = json!(key("another") + "/cryptoKeyVersions/1");
                }
                _ => {}
            }
            Reply::json(200, &body)
        }
        Err(reply) => reply,
    }
}

/// `google.rpc.Status`, as <https://cloud.google.com/apis/design/errors> shows it.
fn error(code: u16, status: &str, message: &str) -> Reply {
    let body = json!({ "error": { "code": code, "message": message, "status": status } });
    Reply::json(code, &body)
}

fn invalid(message: &str) -> Reply {
    error(400, "INVALID_ARGUMENT", message)
}

/// `cryptoKeyVersions.create` and `updatePrimaryVersion`, of key `a`.
fn rotating(inside: &mut Inside, request: &Request) -> Option<Result<Value, Reply>> {
    let path = request.path.strip_prefix("/v1/")?;
    let name = key("a");
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let version = |number: usize, state: &str| {
        json!({
            "name": format!("{name}/cryptoKeyVersions/{number}"),
            "state": state,
            "algorithm": "GOOGLE_SYMMETRIC_ENCRYPTION",
        })
    };
    let numbered = inside.versions.iter().zip(1..);
    let all = numbered.map(|(state, number)| (number, *state));
    let mut all: Vec<_> = all
        .chain(inside.made.iter().map(|made| (*made, "ENABLED")))
        .collect();
    if path == format!("{name}/cryptoKeyVersions") && request.method == "POST" {
        let made = all.len() + 1;
        let weather = inside.weather;
        if !matches!(weather, Weather::Lost { made: false }) {
            inside.made.push(made);
        }
        if let Weather::Lost { .. } | Weather::Unlisted = weather {
            // The next one is heard.
            inside.weather = Weather::Fair;
            return Some(Err(error(503, "UNAVAILABLE", "Later.")));
        }
        return Some(Ok(version(made, "ENABLED")));
    }
    if let Some(query) = path.strip_prefix(&format!("{name}/cryptoKeyVersions?pageSize=100")) {
        if inside.weather == Weather::Unlisted {
            return Some(Err(error(403, "PERMISSION_DENIED", "Permission denied.")));
        }
        // Two pages, whatever there is.
        let rest = all.split_off(1);
        let (page, next) = match query {
            "" => (all, Some("a/b")),
            "&pageToken=a%2Fb" => (rest, None),
            _ => return Some(Err(invalid("no such page"))),
        };
        let page: Vec<_> = page
            .iter()
            .map(|(number, state)| version(*number, state))
            .collect();
        return Some(Ok(
            json!({ "cryptoKeyVersions": page, "nextPageToken": next }),
        ));
    }
    if path != format!("{name}:updatePrimaryVersion") {
        return None;
    }
    let asked = body["cryptoKeyVersionId"]
        .as_str()
        .and_then(|id| id.parse().ok());
    let Some(made) = asked.filter(|asked| inside.made.contains(asked)) else {
        return Some(Err(invalid("There is no such version.")));
    };
    // What was made before it is there, too.
    let present = inside.made.iter().filter(|other| **other <= made).count();
    inside.made.retain(|other| *other > made);
    for _ in 0..present {
        inside.versions.push("ENABLED");
    }
    Some(Ok(json!({
        "name": name,
        "primary": { "name": format!("{name}/cryptoKeyVersions/{made}"), "state": "ENABLED" },
        "purpose": "ENCRYPT_DECRYPT",
    })))
}

fn done(inside: &Inside, request: &Request) -> Result<Value, Reply> {
    let path = request.path.strip_prefix("/v1/").ok_or(Reply::Close)?;
    let (name, verb) = path.split_once(':').unwrap_or((path, ""));
    let short = name.strip_prefix(RING).unwrap_or_default();
    if !["a", "b", "another"].contains(&short) {
        return Err(error(
            404,
            "NOT_FOUND",
            &format!("CryptoKey {name} not found."),
        ));
    }
    let one = vec!["ENABLED"];
    let versions = if short == "a" { &inside.versions } else { &one };
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let aad = checked(&body, "additionalAuthenticatedData")?;
    match verb {
        "" => Ok(json!({
            "name": name,
            "primary": {
                "name": format!("{name}/cryptoKeyVersions/{}", versions.len()),
                "state": versions.last(),
                "protectionLevel": if short == "b" { "HSM" } else { "SOFTWARE" },
                "algorithm": "GOOGLE_SYMMETRIC_ENCRYPTION",
                "createTime": "2026-10-03T08:00:00.123456789Z",
            },
            "purpose": "ENCRYPT_DECRYPT",
            "nextRotationTime": "2027-01-01T08:00:00Z",
            "rotationPeriod": "7776000s",
        })),
        "encrypt" => {
            let plaintext = checked(&body, "plaintext")?;
            enabled(name, versions, versions.len())?;
            let number = u8::try_from(versions.len()).expect("a few");
            let mut nonce = [0; NONCE_LEN];
            aws_lc_rs::rand::fill(&mut nonce).expect("random bytes");
            let mut sealed = plaintext;
            cipher(name, number)
                .seal_in_place_append_tag(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::from(aad),
                    &mut sealed,
                )
                .expect("it seals");
            let ciphertext = [&[number][..], &nonce, &sealed].concat();
            Ok(json!({
                "name": format!("{name}/cryptoKeyVersions/{number}"),
                "ciphertext": BASE64.encode(&ciphertext),
                "ciphertextCrc32c": crc32c(&ciphertext).to_string(),
                "verifiedPlaintextCrc32c": true,
                "verifiedAdditionalAuthenticatedDataCrc32c": true,
                "protectionLevel": "SOFTWARE",
            }))
        }
        "decrypt" => {
            let ciphertext = checked(&body, "ciphertext")?;
            let malformed = || invalid("Decryption failed: the ciphertext is invalid.");
            let (number, rest) = ciphertext.split_first().ok_or_else(malformed)?;
            if *number == 0 || usize::from(*number) > versions.len() || rest.len() < NONCE_LEN {
                return Err(malformed());
            }
            enabled(name, versions, usize::from(*number))?;
            let (nonce, sealed) = rest.split_at(NONCE_LEN);
            let mut sealed = sealed.to_vec();
            let nonce = Nonce::try_assume_unique_for_key(nonce).expect("of this length");
            let opened = cipher(name, *number).open_in_place(nonce, Aad::from(aad), &mut sealed);
            let plaintext = opened.map_err(|_| malformed())?;
            Ok(json!({
                "plaintext": BASE64.encode(&*plaintext),
                "plaintextCrc32c": crc32c(plaintext).to_string(),
                "usedPrimary": usize::from(*number) == versions.len(),
                "protectionLevel": "SOFTWARE",
            }))
        }
        _ => Err(invalid("no such method")),
    }
}

/// A field in base64, whose checksum stands beside it.
fn checked(body: &Value, field: &str) -> Result<Vec<u8>, Reply> {
    let Some(text) = body.get(field) else {
        return Ok(Vec::new());
    };
    let text = text.as_str().ok_or_else(|| invalid("not text"))?;
    let bytes = BASE64.decode(text).map_err(|_| invalid("not in base64"))?;
    if body[format!("{field}Crc32c")] != json!(crc32c(&bytes).to_string()) {
        return Err(invalid("The checksum does not match."));
    }
    Ok(bytes)
}

fn enabled(name: &str, versions: &Versions, number: usize) -> Result<(), Reply> {
    match versions.get(number.wrapping_sub(1)) {
        Some(&"ENABLED") => Ok(()),
        state => Err(error(
            400,
            "FAILED_PRECONDITION",
            &format!(
                "{name}/cryptoKeyVersions/{number} is not enabled, current state is: {state:?}."
            ),
        )),
    }
}

fn cipher(name: &str, version: u8) -> LessSafeKey {
    let mut key = [version; 32];
    for (byte, letter) in key.iter_mut().zip(name.bytes().rev()) {
        *byte ^= letter;
    }
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes"))
}

/// CRC-32C by its definition: the remainder of the reversed message, one bit after another.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for bit in bytes
        .iter()
        .flat_map(|byte| (0..8).map(move |at| byte >> at & 1))
    {
        let out = register & 1 ^ u32::from(bit);
        register >>= 1;
        if out == 1 {
            register ^= 0x1EDC_6F41_u32.reverse_bits();
        }
    }
    !register
}

#[tokio::test]
async fn google_kms_keeps_the_contract() -> Result<()> {
    let google = Google::start().await?;
    let provider = google.provider().await?;
    contract(provider.as_ref(), &key("a"), &key("b")).await?;
    let here = context("platform");
    let old = provider.wrap(&key("a"), &KEY, &here).await?;
    ensure!(old.kek_version == key("a") + "/cryptoKeyVersions/1");
    let described = provider.describe(&key("a")).await?;
    let rotation = described.rotation.context("Google tells")?;
    ensure!(
        rotation.is_automatic && rotation.period_days == Some(90),
        "{rotation:?}"
    );
    ensure!(
        rotation.last.is_some() && rotation.next > rotation.last,
        "{rotation:?}"
    );

    rotates_when_asked(provider.as_ref(), &key("a")).await?;
    // An answer that is lost makes no second version, whether or not it had made the first.
    for weather in [Weather::Lost { made: true }, Weather::Lost { made: false }] {
        google.versions(&["ENABLED", "DESTROYED"]);
        google.set(weather);
        provider.rotate(&key("a")).await?;
        ensure!(
            google.count() == 3,
            "{weather:?} leaves {} versions",
            google.count()
        );
    }
    google.set(Weather::Unlisted);
    let answer = provider.rotate(&key("a")).await;
    ensure!(is_unavailable(&answer), "{answer:?}");
    ensure!(google.count() == 4, "it was asked for a second time");
    google.set(Weather::Fair);
    let answer = provider.rotate(&key("nobody")).await;
    ensure!(is_denied(&answer), "{answer:?}");
    google.versions(&["ENABLED"]);

    // A rotation shows, and what was wrapped before it opens until its version is disabled or destroyed.
    google.versions(&["ENABLED", "ENABLED"]);
    ensure!(provider.describe(&key("a")).await?.version != described.version);
    let new = provider.wrap(&key("a"), &KEY, &here).await?;
    ensure!(new.kek_version == key("a") + "/cryptoKeyVersions/2");
    ensure!(provider.unwrap(&key("a"), &old, &here).await?.as_slice() == KEY);
    for state in ["DISABLED", "DESTROY_SCHEDULED", "DESTROYED"] {
        google.versions(&[state, "ENABLED"]);
        let answer = provider.unwrap(&key("a"), &old, &here).await;
        ensure!(is_denied(&answer), "{answer:?}");
        ensure!(provider.unwrap(&key("a"), &new, &here).await?.as_slice() == KEY);
        google.versions(&["ENABLED", state]);
        let answer = provider.describe(&key("a")).await;
        ensure!(is_denied(&answer), "{answer:?}");
        let answer = provider.wrap(&key("a"), &KEY, &here).await;
        ensure!(is_denied(&answer), "{answer:?}");
    }

    // Keys that are not there, or no keys; another key's version.
    google.versions(&["ENABLED"]);
    for none in [
        key("nobody"),
        "a".to_owned(),
        key("a") + "/cryptoKeyVersions/1",
    ] {
        let answer = provider.wrap(&none, &KEY, &here).await;
        ensure!(is_denied(&answer), "{none}: {answer:?}");
    }
    let answer = provider.unwrap(&key("b"), &old, &here).await;
    ensure!(
        matches!(answer, Err(ProviderError::NotMine { .. })),
        "{answer:?}"
    );
    let claimed = Wrapped {
        kek_version: key("b") + "/cryptoKeyVersions/1",
        ..old
    };
    let answer = provider.unwrap(&key("b"), &claimed, &here).await;
    ensure!(is_damaged(&answer), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn faults_of_google_kms_are_told_apart() -> Result<()> {
    let google = Google::start().await?;
    let provider = google.provider().await?;
    let (kek, here) = (key("a"), context("platform"));
    let wrapped = provider.wrap(&kek, &KEY, &here).await?;
    for denies in [
        Weather::Error(403, "PERMISSION_DENIED", "Permission denied on resource."),
        Weather::Error(401, "UNAUTHENTICATED", "Request had invalid credentials."),
        Weather::Error(404, "NOT_FOUND", "not found"),
    ] {
        google.set(denies);
        google.asked();
        let answer = provider.unwrap(&kek, &wrapped, &here).await;
        ensure!(is_denied(&answer), "{denies:?}: {answer:?}");
        ensure!(google.asked() == 1, "a no is not asked for twice");
    }
    for away in [
        Weather::Error(503, "UNAVAILABLE", "later"),
        Weather::Error(504, "DEADLINE_EXCEEDED", "later"),
        Weather::Error(429, "RESOURCE_EXHAUSTED", "Quota exceeded."),
        Weather::Error(500, "INTERNAL", "later"),
        Weather::Error(
            400,
            "INVALID_ARGUMENT",
            "The checksum in field ciphertext_crc32c did not match",
        ),
        Weather::Redirect,
        Weather::Flood,
        Weather::Page,
        Weather::Altered,
    ] {
        google.set(away);
        google.asked();
        let answer = provider.unwrap(&kek, &wrapped, &here).await;
        ensure!(is_unavailable(&answer), "{away:?}: {answer:?}");
        ensure!(google.asked() == 3, "{away:?} is worth another try");
    }
    for away in [Weather::Unverified, Weather::Altered, Weather::Another] {
        google.set(away);
        let answer = provider.wrap(&kek, &KEY, &here).await;
        ensure!(is_unavailable(&answer), "{away:?}: {answer:?}");
    }
    google.set(Weather::ErrorOnce);
    ensure!(provider.unwrap(&kek, &wrapped, &here).await?.as_slice() == KEY);
    google.set(Weather::Hang);
    let start = Instant::now();
    let answer = provider.unwrap(&kek, &wrapped, &here).await;
    ensure!(is_unavailable(&answer), "{answer:?}");
    ensure!(
        start.elapsed() < Duration::from_secs(8),
        "it waits too long"
    );
    let asked = google
        .inside
        .lock()
        .expect("no test panics with it")
        .authorization
        .clone();
    ensure!(asked.is_none(), "a token went over plain HTTP");
    Ok(())
}

/// A service account's key signs a token by itself; nobody is asked for one.
#[tokio::test]
async fn a_service_account_signs_its_requests() -> Result<()> {
    let inside = Arc::new(Mutex::new(Inside {
        versions: vec!["ENABLED"],
        ..Inside::default()
    }));
    let shared = Arc::clone(&inside);
    let server = Fault::tls(move |request| answer(&shared, request)).await?;
    let dir = tempfile::tempdir()?;
    let account = dir.path().join("account.json");
    let pem = pem_of(crate::azure::rsa_pkcs8()?.as_ref());
    let text = json!({
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "private_key": pem,
        "client_email": "pgveil@p.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    });
    fs::write(&account, text.to_string())?;
    let section = |account: &str| {
        format!(
            "kind = \"gcp-kms\"\nendpoint = \"{}\"\nca_file = \"{}\"\ncredentials_file = \"{account}\"",
            server.address,
            server.ca_file.display()
        )
    };
    let provider = configured(&section(&account.display().to_string())).await?;
    let here = context("platform");
    let wrapped = provider.wrap(&key("a"), &KEY, &here).await?;
    ensure!(
        provider
            .unwrap(&key("a"), &wrapped, &here)
            .await?
            .as_slice()
            == KEY
    );
    let sent = inside
        .lock()
        .unwrap()
        .authorization
        .clone()
        .context("a token")?;
    ensure!(
        sent.starts_with("Bearer ey") && sent.matches('.').count() == 2,
        "{sent}"
    );

    for (name, text) in [
        ("none", "{}"),
        ("broken", "-----"),
        ("half", r#"{"type":"service_account"}"#),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, text)?;
        let made = configured(&section(&path.display().to_string())).await;
        let error = made
            .err()
            .with_context(|| format!("{name} is taken"))?
            .to_string();
        ensure!(error.contains(name), "{error}");
    }
    Ok(())
}

fn pem_of(der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).expect("base64"))
        .collect();
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    )
}
