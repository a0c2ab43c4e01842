//! Encrypting, decrypting, signing and verifying by hand: standard input to standard output.

use std::{
    io::{Read, Write},
    process::ExitCode,
};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use clap::Args;
use pgveil_providers::local::{Ciphertext, Scheme, Signature};
use serde_json::json;
use zeroize::Zeroizing;

use super::{Found, Site, refused};

/// The longest plaintext, and more than any ciphertext of it needs as text.
const MAX_CRYPT_BYTES: u64 = 64 * 1024;
/// The longest message that is signed or verified.
const MAX_MESSAGE_BYTES: u64 = 64 * 1024 * 1024;
/// Of a line of base64 in PEM (RFC 7468).
const PEM_LINE: usize = 64;

/// `encrypt`, `decrypt`.
#[derive(Debug, Args)]
pub(super) struct Crypt {
    /// The key
    name: String,
    /// Text that belongs to it and is not encrypted: decrypting needs the same
    #[arg(long, default_value = "")]
    context: String,
}

/// `sign`.
#[derive(Debug, Args)]
pub(super) struct Sign {
    /// The key
    name: String,
    /// rsa-pss (which RSA keys use without it), rsa-pkcs1 or ecdsa
    #[arg(long)]
    scheme: Option<Scheme>,
    /// Write the signature's own bytes, as other programs expect them, instead of text that names the version
    #[arg(long)]
    raw: bool,
}

/// `verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The key
    name: String,
    /// What `sign` printed
    signature: String,
    /// rsa-pss (which RSA keys use without it), rsa-pkcs1 or ecdsa
    #[arg(long)]
    scheme: Option<Scheme>,
}

/// Standard input, up to a limit.
fn input(limit: u64) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    // Room for a secret at once: growing would leave copies of it behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_CRYPT_BYTES as usize + 64));
    std::io::stdin()
        .lock()
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .context("standard input")?;
    if bytes.len() as u64 > limit {
        return Err(Found(format!("standard input is longer than {limit} bytes")).into());
    }
    Ok(bytes)
}

fn output(bytes: &[u8]) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .context("standard output")?;
    Ok(ExitCode::SUCCESS)
}

impl Site {
    pub(super) async fn encrypt(&self, what: &Crypt) -> anyhow::Result<ExitCode> {
        let Crypt { name, context } = what;
        let plaintext = input(MAX_CRYPT_BYTES)?;
        let made = self
            .kms
            .encrypt(name, &plaintext, context.as_bytes(), &self.caller);
        let made = made.await.map_err(refused)?;
        if self.json {
            let shown =
                json!({ "key": name, "version": made.version, "ciphertext": made.to_text() });
            println!("{shown:#}");
            return Ok(ExitCode::SUCCESS);
        }
        output(format!("{}\n", made.to_text()).as_bytes())
    }

    pub(super) async fn decrypt(&self, what: &Crypt) -> anyhow::Result<ExitCode> {
        let Crypt { name, context } = what;
        let text = input(MAX_CRYPT_BYTES)?;
        let ciphertext = std::str::from_utf8(&text)
            .ok()
            .and_then(Ciphertext::from_text);
        let ciphertext = ciphertext.ok_or_else(|| {
            Found("standard input is not what `pgveil kms encrypt` prints".to_owned())
        })?;
        let opened = self
            .kms
            .decrypt(name, &ciphertext, context.as_bytes(), &self.caller);
        let opened = opened.await.map_err(refused)?;
        if self.json {
            let plaintext = Zeroizing::new(BASE64.encode(&opened));
            let (name, version) = (json!(name), ciphertext.version);
            let text = Zeroizing::new(format!(
                "{{\n  \"key\": {name},\n  \"plaintext\": \"{}\",\n  \"version\": {version}\n}}\n",
                *plaintext
            ));
            return output(text.as_bytes());
        }
        output(&opened)
    }

    pub(super) async fn sign(&self, what: &Sign) -> anyhow::Result<ExitCode> {
        let message = input(MAX_MESSAGE_BYTES)?;
        let made = self
            .kms
            .sign(&what.name, &message, what.scheme, &self.caller);
        let made = made.await.map_err(refused)?;
        if what.raw {
            return output(&made.bytes);
        }
        if self.json {
            let signature = made.to_text();
            let shown =
                json!({ "key": what.name, "version": made.version, "signature": signature });
            println!("{shown:#}");
            return Ok(ExitCode::SUCCESS);
        }
        output(format!("{}\n", made.to_text()).as_bytes())
    }

    pub(super) async fn verify(&self, what: &Verify) -> anyhow::Result<ExitCode> {
        let signature = Signature::from_text(&what.signature)
            .ok_or_else(|| Found("that is not what `pgveil kms sign` prints".to_owned()))?;
        let message = input(MAX_MESSAGE_BYTES)?;
        let valid = self
            .kms
            .verify(&what.name, &message, &signature, what.scheme, &self.caller);
        let valid = valid.await.map_err(refused)?;
        if self.json {
            let shown = json!({ "key": what.name, "version": signature.version, "valid": valid });
            println!("{shown:#}");
        } else if valid {
            println!(
                "valid, by version {} of \"{}\"",
                signature.version, what.name
            );
        }
        if valid {
            return Ok(ExitCode::SUCCESS);
        }
        Err(Found(format!(
            "the signature is not of this message by version {} of \"{}\"",
            signature.version, what.name
        ))
        .into())
    }

    pub(super) async fn public_key(
        &self,
        name: &str,
        version: Option<u32>,
    ) -> anyhow::Result<ExitCode> {
        let shown = self.kms.public_key(name, version, &self.caller).await;
        let (version, der) = shown.map_err(refused)?;
        let pem = pem("PUBLIC KEY", &der);
        if self.json {
            println!(
                "{:#}",
                json!({ "key": name, "version": version, "public_key": pem })
            );
            return Ok(ExitCode::SUCCESS);
        }
        output(pem.as_bytes())
    }
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in BASE64.encode(der).as_bytes().chunks(PEM_LINE) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}
