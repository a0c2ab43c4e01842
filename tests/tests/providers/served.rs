//! The local KMS served to others: a database with the schema, certificates, an access key, and `pgveil kms serve` on them.

use anyhow::{Context, Result};
use pgveil_tests::{
    kms::KeyServer,
    postgres::{Database, TempPostgres},
    site::Site,
};

use crate::papers::Papers;

/// Who may call, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Callers {
    /// Requests are signed.
    Signed,
    /// Clients have certificates.
    Certified,
    /// Both.
    Both,
}

/// A site with keys to serve.
pub(crate) struct Served {
    pub(crate) site: Site<'static>,
    pub(crate) papers: Papers,
    pub(crate) callers: Callers,
    /// Id and key.
    pub(crate) access_key: (String, String),
    _database: Database<'static>,
}

impl Served {
    /// The names of the client's certificate, as grants have it.
    pub(crate) const CLIENT: &'static str = "app";

    pub(crate) fn new(callers: Callers) -> Result<Self> {
        let database = TempPostgres::fresh_database()?;
        let papers = Papers::new()?;
        let mut site = Site::new(&database, "")?;
        let quoted = |text: &str| format!("\"{text}\"");
        let mut settings = vec![
            ("listen", quoted("127.0.0.1:0")),
            (
                "cert_file",
                quoted(&papers.certificate.cert_file.to_string_lossy()),
            ),
            (
                "key_file",
                quoted(&papers.certificate.key_file.to_string_lossy()),
            ),
        ];
        if callers != Callers::Certified {
            settings.push(("credentials_file", quoted("kms.credentials")));
        }
        if callers != Callers::Signed {
            settings.push(("client_ca_file", quoted(&papers.ca_file.to_string_lossy())));
            settings.push(("client_names", format!("[\"{}\"]", Self::CLIENT)));
        }
        for (key, value) in settings {
            site.set("kms_server", key, &value)?;
        }
        site.apply()?;
        let mut served = Self {
            site,
            papers,
            callers,
            access_key: Default::default(),
            _database: database,
        };
        if callers != Callers::Certified {
            served.access_key = served.new_access_key()?;
        }
        Ok(served)
    }

    /// `pgveil kms credentials`.
    pub(crate) fn new_access_key(&self) -> Result<(String, String)> {
        let made = self.site.command("kms", &["--json", "credentials"])?.ok()?;
        let made: serde_json::Value = serde_json::from_str(&made)?;
        let part = |name: &str| {
            let text = made["XksProxyAuthenticationCredential"][name].as_str();
            text.map(str::to_owned).context("an access key")
        };
        Ok((part("AccessKeyId")?, part("RawSecretAccessKey")?))
    }

    /// Whom grants name.
    pub(crate) fn grantee(&self) -> String {
        match self.callers {
            Callers::Certified => format!("cert:{}", Self::CLIENT),
            _ => format!("key-id:{}", self.access_key.0),
        }
    }

    /// Makes a key that the caller may use.
    pub(crate) fn key(&self, name: &str) -> Result<()> {
        let grant = format!("{}=encrypt,decrypt,describe", self.grantee());
        self.kms(&["create", name, "--grant", &grant]).map(drop)
    }

    /// `pgveil kms ...`, which must succeed.
    pub(crate) fn kms(&self, args: &[&str]) -> Result<String> {
        self.site.kms(args)?.ok()
    }

    /// `[provider.NAME]` for a running server, as this caller or as another.
    pub(crate) fn section(&self, server: &KeyServer, access_key: (&str, &str)) -> Result<String> {
        let mut section = format!(
            "kind = \"rest\"\nurl = \"https://127.0.0.1:{}/kms/xks/v1\"\nca_file = \"{}\"\n",
            server.port,
            self.papers.ca_file.display()
        );
        if self.callers != Callers::Certified {
            let file = self.site.etc().join("rest.secret");
            std::fs::write(&file, access_key.1)?;
            section.push_str(&format!(
                "access_key_id = \"{}\"\nsecret_access_key_file = \"{}\"\n",
                access_key.0,
                file.display()
            ));
        }
        if self.callers != Callers::Signed {
            let certificate = self.papers.client(Self::CLIENT)?;
            section.push_str(&format!(
                "cert_file = \"{}\"\nkey_file = \"{}\"\n",
                certificate.cert_file.display(),
                certificate.key_file.display()
            ));
        }
        Ok(section)
    }

    /// [`Served::section`], as who may.
    pub(crate) fn own_section(&self, server: &KeyServer) -> Result<String> {
        let (id, key) = &self.access_key;
        self.section(server, (id, key))
    }
}
