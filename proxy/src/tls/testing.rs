//! Certificates made on the spot. Only for tests.

use std::{fs, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

/// A folder with `ca.crt`, `server.crt` and `server.key`.
pub(crate) struct Authority {
    dir: TempDir,
}

impl Authority {
    /// An authority that signed a server's certificate.
    pub(crate) fn new(host: &str) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_cert = ca.self_signed(&ca_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let cert = server.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        Self::write(&ca_cert.pem(), &cert.pem(), &key.serialize_pem())
    }

    /// A certificate that is its own authority, as `openssl req -x509` makes one.
    pub(crate) fn self_signed(host: &str) -> Self {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self::alone(&params)
    }

    /// One that has expired.
    pub(crate) fn expired(host: &str) -> Self {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        Self::alone(&params)
    }

    fn alone(params: &CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap().pem();
        Self::write(&cert, &cert, &key.serialize_pem())
    }

    fn write(ca: &str, cert: &str, key: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("ca.crt", ca), ("server.crt", cert), ("server.key", key)] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        Self { dir }
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    pub(crate) fn cert_file(&self) -> PathBuf {
        self.dir.path().join("server.crt")
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.dir.path().join("server.key")
    }
}
