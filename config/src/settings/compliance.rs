//! `compliance`: named sets of minimum settings. What falls short is a finding like any other, all of them at once; docs/compliance.md
//! has the table and says what a setting cannot prove.

use std::time::Duration;

use super::{Failure, OwnRotation, Provider, Settings, TlsMode};
use crate::{
    form::show_duration,
    known::{Support, Word},
    reader::Reader,
};

/// A named set of minimum settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compliance {
    /// What pgveil asks of everybody.
    #[default]
    Baseline,
    /// PCI DSS 4.0.
    PciDss,
    /// HIPAA, 45 CFR 164.312 and 164.316.
    Hipaa,
    /// FIPS 140-3: the KEKs in a module that is not pgveil's own.
    Fips140,
}

const DAY: Duration = Duration::from_hours(24);

pub(super) static WORDS: [Word; 4] = [
    Word {
        word: "baseline",
        support: Support::Since("0.1"),
        meaning: "what pgveil asks of everybody",
    },
    Word {
        word: "pci-dss",
        support: Support::Since("0.1"),
        meaning: "PCI DSS 4.0",
    },
    Word {
        word: "hipaa",
        support: Support::Since("0.1"),
        meaning: "HIPAA",
    },
    Word {
        word: "fips-140-3",
        support: Support::Since("0.1"),
        meaning: "KEKs in a module of their own",
    },
];

/// What a level asks for.
struct Minimum {
    /// Verified TLS to the server and to the keystore, unless over a Unix socket.
    tls: TlsMode,
    /// Clients must use TLS, unless over a Unix socket.
    client_tls: bool,
    /// No scope goes on while its provider is away.
    closed: bool,
    cache_ttl: Duration,
    dek_epoch: Duration,
    /// KEKs get new versions at least as often, and it is said how often.
    kek_period: Option<Duration>,
    audit_retention: Duration,
    /// Checkpoints of the audit log leave the database.
    audit_sink: bool,
    /// Every KEK is in a KMS outside pgveil.
    outside_kms: bool,
}

impl Compliance {
    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::PciDss => "pci-dss",
            Self::Hipaa => "hipaa",
            Self::Fips140 => "fips-140-3",
        }
    }

    pub(super) fn from_word(word: &str) -> Self {
        match word {
            "pci-dss" => Self::PciDss,
            "hipaa" => Self::Hipaa,
            "fips-140-3" => Self::Fips140,
            _ => Self::Baseline,
        }
    }

    /// Whether a scope may do this at run time; if not, what the level asks for.
    pub fn allows(self, failure: Option<Failure>, rotation: OwnRotation) -> Result<(), String> {
        let Some(minimum) = self.minimum() else {
            return Ok(());
        };
        let level = self.as_str();
        if minimum.closed && failure == Some(Failure::Open) {
            return Err(format!(
                "`compliance = \"{level}\"` asks for failure \"closed\""
            ));
        }
        if { rotation.dek_epoch }.is_some_and(|epoch| epoch > minimum.dek_epoch) {
            let time = show_duration(minimum.dek_epoch);
            return Err(format!(
                "`compliance = \"{level}\"` asks for a new DEK at least every {time}"
            ));
        }
        if let Some(most) = minimum.kek_period
            && { rotation.kek_period }.is_some_and(|period| period > most)
        {
            let time = show_duration(most);
            return Err(format!(
                "`compliance = \"{level}\"` asks for new versions of KEKs at least every {time}"
            ));
        }
        Ok(())
    }

    fn minimum(self) -> Option<Minimum> {
        let minimum = match self {
            Self::Baseline => return None,
            // 4.2.1 strong cryptography in transit; 3.7.4 a defined cryptoperiod; 10.5.1 twelve months of audit log; 10.3
            // audit logs protected from changes.
            Self::PciDss => Minimum {
                tls: TlsMode::VerifyCa,
                client_tls: true,
                closed: true,
                cache_ttl: Duration::from_mins(15),
                dek_epoch: 365 * DAY,
                kek_period: Some(365 * DAY),
                audit_retention: 365 * DAY,
                audit_sink: true,
                outside_kms: false,
            },
            // 164.312(e)(1) transmission security; 164.312(b) audit controls; 164.316(b)(2)(i) six years.
            Self::Hipaa => Minimum {
                tls: TlsMode::VerifyCa,
                client_tls: true,
                closed: true,
                cache_ttl: Duration::from_mins(15),
                dek_epoch: 365 * DAY,
                kek_period: None,
                audit_retention: 6 * 365 * DAY,
                audit_sink: true,
                outside_kms: false,
            },
            Self::Fips140 => Minimum {
                tls: TlsMode::VerifyFull,
                client_tls: true,
                closed: true,
                cache_ttl: Duration::from_mins(5),
                dek_epoch: 365 * DAY,
                kek_period: None,
                audit_retention: 365 * DAY,
                audit_sink: true,
                outside_kms: true,
            },
        };
        Some(minimum)
    }
}

/// Reports what falls short of the level; `at` is where it is asked for.
pub(super) fn check(reader: &mut Reader<'_>, settings: &Settings, at: usize) {
    let Some(minimum) = settings.compliance.minimum() else {
        return;
    };
    let level = settings.compliance.as_str();
    let mut short = |asked: String, cure: String| {
        reader.report(
            at,
            format!("`compliance = \"{level}\"` asks for {asked}"),
            cure,
        );
    };
    let tls = minimum.tls.as_str();
    if !is_socket(&settings.upstream.address) && settings.upstream.tls.rank() < minimum.tls.rank() {
        short(
            format!("verified TLS to the server: at least \"{tls}\""),
            format!("write `tls = \"{tls}\"` in [upstream]"),
        );
    }
    if settings.keystore.tls.rank() < minimum.tls.rank() {
        short(
            format!("verified TLS to the keystore: at least \"{tls}\""),
            format!("write `tls = \"{tls}\"` in [keystore]"),
        );
    }
    let sockets_only = settings.listen.split(',').all(is_socket);
    if minimum.client_tls
        && !sockets_only
        && !settings.client_tls.as_ref().is_some_and(|tls| tls.required)
    {
        short(
            "TLS from clients".to_owned(),
            "add [client_tls] with `required = true`, or listen on `unix:` only".to_owned(),
        );
    }
    if minimum.closed {
        if settings.defaults.failure == Failure::Open {
            short(
                "`failure = \"closed\"`".to_owned(),
                "write it in [defaults]".to_owned(),
            );
        }
        for found in &settings.overrides {
            if found.failure == Some(Failure::Open) {
                short(
                    format!("`failure = \"closed\"`, also for {}", found.scope),
                    format!("write it in its [[override]], line {}", found.at.line),
                );
            }
        }
    }
    if settings.cache.ttl > minimum.cache_ttl {
        let time = show_duration(minimum.cache_ttl);
        short(
            format!("unwrapped keys in memory for at most {time}"),
            format!("write `ttl = \"{time}\"` in [cache], or less"),
        );
    }
    let time = show_duration(minimum.dek_epoch);
    if settings.rotation.dek_epoch > minimum.dek_epoch {
        short(
            format!("a new DEK at least every {time}"),
            format!("write `dek_epoch = \"{time}\"` in [rotation], or less"),
        );
    }
    for found in &settings.overrides {
        if { found.rotation.dek_epoch }.is_some_and(|epoch| epoch > minimum.dek_epoch) {
            short(
                format!("a new DEK at least every {time}, also for {}", found.scope),
                format!("see its [[override]], line {}", found.at.line),
            );
        }
    }
    if let Some(most) = minimum.kek_period {
        let time = show_duration(most);
        if { settings.rotation.kek_period }.is_none_or(|period| period > most) {
            short(
                format!("new versions of KEKs at least every {time}"),
                format!("write `kek_period = \"{time}\"` in [rotation], or less"),
            );
        }
        for found in &settings.overrides {
            if { found.rotation.kek_period }.is_some_and(|period| period > most) {
                short(
                    format!(
                        "new versions of KEKs at least every {time}, also for {}",
                        found.scope
                    ),
                    format!("see its [[override]], line {}", found.at.line),
                );
            }
        }
    }
    if { settings.audit.retention }.is_some_and(|kept| kept < minimum.audit_retention) {
        let time = show_duration(minimum.audit_retention);
        short(
            format!("an audit log that is kept for at least {time}"),
            format!("write `retention = \"{time}\"` in [audit], or remove it"),
        );
    }
    if minimum.audit_sink && settings.audit.sink_file.is_none() && !settings.audit.sink_syslog {
        short(
            "checkpoints of the audit log outside the database".to_owned(),
            "write `sink_file` or `sink_syslog = true` in [audit]".to_owned(),
        );
    }
    if minimum.outside_kms {
        for (name, provider) in &settings.providers {
            if matches!(provider, Provider::Local { .. }) {
                short(
                    format!(
                        "KEKs in a key manager of their own, not in the built-in provider \"{name}\""
                    ),
                    "use a provider of another kind, whose module is validated".to_owned(),
                );
            }
        }
    }
}

fn is_socket(place: &str) -> bool {
    place.trim().starts_with("unix:")
}
