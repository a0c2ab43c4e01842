//! Certificates for the tests of TLS: an authority, one for 127.0.0.1, and any number for clients.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Result;
use pgveil_tests::{postgres::Certificate, site::Site};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// In files, as long as it lives.
pub(crate) struct Papers {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    /// The authority's certificate.
    pub(crate) ca_file: PathBuf,
    /// For 127.0.0.1 and localhost.
    pub(crate) certificate: Certificate,
}

impl Papers {
    /// A new authority and a server's certificate.
    pub(crate) fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::new(Vec::new())?;
        // Names that differ, or a verifier takes the certificate for one that signed itself.
        ca.distinguished_name
            .push(DnType::CommonName, "the authority");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_file = write(dir.path(), "ca.crt", &ca.self_signed(&ca_key)?.pem())?;
        let issuer = Issuer::new(ca, ca_key);
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let certificate = sign(
            dir.path(),
            "server",
            &CertificateParams::new(names)?,
            &issuer,
        )?;
        Ok(Self {
            dir,
            issuer,
            ca_file,
            certificate,
        })
    }

    /// A certificate whose subject is this name.
    pub(crate) fn client(&self, name: &str) -> Result<Certificate> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        sign(self.dir.path(), name, &params, &self.issuer)
    }
}

fn sign(
    dir: &Path,
    name: &str,
    params: &CertificateParams,
    issuer: &Issuer<'static, KeyPair>,
) -> Result<Certificate> {
    let key = KeyPair::generate()?;
    Ok(Certificate {
        cert_file: write(
            dir,
            &format!("{name}.crt"),
            &params.signed_by(&key, issuer)?.pem(),
        )?,
        key_file: write(dir, &format!("{name}.key"), &key.serialize_pem())?,
    })
}

/// A file that only we can read.
pub(crate) fn write(dir: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}

/// A path as TOML.
pub(crate) fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

/// `[client_tls]` with the server's certificate.
pub(crate) fn offer_tls_to_clients(site: &mut Site<'_>, papers: &Papers) -> Result<()> {
    site.set(
        "client_tls",
        "cert_file",
        &quoted(&papers.certificate.cert_file),
    )?;
    site.set(
        "client_tls",
        "key_file",
        &quoted(&papers.certificate.key_file),
    )
}
