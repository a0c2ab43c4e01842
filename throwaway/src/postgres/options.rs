//! How a throw-away Postgres is set up. Speed by default: nothing it holds has to survive.

use std::path::PathBuf;

/// The `pg_hba.conf` method for TCP connections. The unix socket always trusts: the harness itself uses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Nobody is asked anything.
    #[default]
    Trust,
    /// A password in clear text.
    Password,
    /// MD5, with passwords stored as MD5.
    Md5,
    /// SCRAM-SHA-256.
    Scram,
}

impl Auth {
    pub(super) fn method(self) -> &'static str {
        match self {
            Auth::Trust => "trust",
            Auth::Password => "password",
            Auth::Md5 => "md5",
            Auth::Scram => "scram-sha-256",
        }
    }

    pub(super) fn password_encryption(self) -> &'static str {
        if self == Auth::Md5 {
            "md5"
        } else {
            "scram-sha-256"
        }
    }
}

/// A certificate and its key, as PEM files that the harness may read.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The chain.
    pub cert_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

/// What kind of server to start. Later settings win over earlier ones and over the defaults.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(super) auth: Auth,
    pub(super) tls: Option<Certificate>,
    pub(super) settings: Vec<(String, String)>,
}

impl Options {
    /// The `pg_hba.conf` method for TCP.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Offers TLS on TCP.
    pub fn tls(mut self, certificate: Certificate) -> Self {
        self.tls = Some(certificate);
        self
    }

    /// A line of `postgresql.conf`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Everything Postgres can be made to log about statements and parameters, and everything in the WAL.
    pub fn talkative(self) -> Self {
        self.setting("log_statement", "all")
            .setting("log_min_messages", "debug5")
            .setting("log_min_error_statement", "debug5")
            .setting("log_error_verbosity", "verbose")
            .setting("log_parameter_max_length", "-1")
            .setting("log_parameter_max_length_on_error", "-1")
            .setting("log_min_duration_statement", "0")
            .setting("log_connections", "on")
            .setting("debug_print_parse", "on")
            .setting("debug_print_rewritten", "on")
            .setting("debug_print_plan", "on")
            .setting("track_activity_query_size", "64kB")
            .setting("wal_level", "logical")
            .setting("wal_keep_size", "4GB")
            .setting("full_page_writes", "on")
    }

    pub(super) fn conf(&self, port: u16, socket_dir: &str) -> String {
        let mut lines = vec![
            ("listen_addresses".to_owned(), "127.0.0.1".to_owned()),
            ("port".to_owned(), port.to_string()),
            ("unix_socket_directories".to_owned(), socket_dir.to_owned()),
            (
                "password_encryption".to_owned(),
                self.auth.password_encryption().to_owned(),
            ),
        ];
        let fast = [
            ("fsync", "off"),
            ("synchronous_commit", "off"),
            ("full_page_writes", "off"),
            ("autovacuum", "off"),
            ("max_connections", "200"),
            ("shared_buffers", "32MB"),
            ("max_wal_size", "4GB"),
            ("logging_collector", "off"),
            ("log_statement", "all"),
            ("lc_messages", "C"),
            ("timezone", "UTC"),
        ];
        lines.extend(fast.map(|(name, value)| (name.to_owned(), value.to_owned())));
        if self.tls.is_some() {
            lines.push(("ssl".to_owned(), "on".to_owned()));
            lines.push(("ssl_cert_file".to_owned(), "server.crt".to_owned()));
            lines.push(("ssl_key_file".to_owned(), "server.key".to_owned()));
        }
        lines.extend(self.settings.iter().cloned());
        let mut text = String::new();
        for (name, value) in lines {
            text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        text
    }

    pub(super) fn hba(&self) -> String {
        let method = self.auth.method();
        format!(
            "local all all trust\nhost all all 127.0.0.1/32 {method}\nhost replication all 127.0.0.1/32 {method}\n"
        )
    }
}
