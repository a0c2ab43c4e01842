//! The forms that a text may have: addresses, durations, log filters, scopes. Nothing is resolved or opened.

use std::time::Duration;

use crate::{ScopePath, nearest::nearest, source::shown};

/// What kind of text a key takes.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// Any text that is not empty.
    Any,
    /// HOST:PORT to listen on; port 0 picks a free one.
    Listen,
    /// HOST:PORT to connect to.
    Address,
    /// `http://...` or `https://...`.
    Url,
    /// A log level or a tracing filter.
    LogFilter,
    /// A scope path.
    Scope,
    /// An Ed25519 public key: 64 hexadecimal digits.
    PublicKey,
}

/// Why a text does not have its form: the end of a sentence that begins with the key, and perhaps a better cure.
pub(crate) struct Misfit {
    pub(crate) what: String,
    pub(crate) cure: Option<String>,
}

impl Misfit {
    fn plain(what: impl Into<String>) -> Misfit {
        Misfit {
            what: what.into(),
            cure: None,
        }
    }

    fn with_cure(what: impl Into<String>, cure: impl Into<String>) -> Misfit {
        Misfit {
            what: what.into(),
            cure: Some(cure.into()),
        }
    }
}

impl Form {
    /// What is expected: "must be ...".
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Form::Any => "text",
            Form::Listen | Form::Address => "an address HOST:PORT",
            Form::Url => "a URL",
            Form::LogFilter => "a log level or filter",
            Form::Scope => "a scope",
            Form::PublicKey => "a public key",
        }
    }

    /// Whether the text has this form.
    pub(crate) fn check(self, text: &str) -> Result<(), Misfit> {
        if text.trim().is_empty() {
            return Err(Misfit::plain("must not be empty"));
        }
        if text.contains(|c: char| c.is_control()) {
            return Err(Misfit::plain("must not hold control characters"));
        }
        match self {
            Form::Any => Ok(()),
            Form::Listen => text.split(',').try_for_each(|one| place(one.trim(), true)),
            Form::Address => place(text, false),
            Form::Url => url(text),
            Form::LogFilter => log_filter(text),
            Form::Scope => scope(text),
            Form::PublicKey => match public_key(text) {
                Some(_) => Ok(()),
                None => Err(Misfit::with_cure(
                    "must be a public key: 64 hexadecimal digits",
                    "write what `pgveil audit checkpoint-key` prints",
                )),
            },
        }
    }
}

/// 64 hexadecimal digits, of either case.
pub(crate) fn public_key(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut key = [0; 32];
    if digits.len() != 2 * key.len() {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(key)
}

/// HOST:PORT, or `unix:` and the path of a socket.
fn place(text: &str, zero: bool) -> Result<(), Misfit> {
    match text.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') => Ok(()),
        Some(_) => Err(Misfit::plain("must name a Unix socket by its whole path")),
        None => address(text, zero),
    }
}

fn address(text: &str, zero: bool) -> Result<(), Misfit> {
    let Some((host, port)) = text.rsplit_once(':') else {
        if text.starts_with('/') {
            let cure = format!("write `unix:{}`", shown(text));
            return Err(Misfit::with_cure("must be HOST:PORT, or unix:PATH", cure));
        }
        return Err(Misfit::plain(format!(
            "must be HOST:PORT; `{}` has no port",
            shown(text)
        )));
    };
    if host == "*" {
        let cure = format!(
            "write `0.0.0.0:{0}` for every IPv4 address, `[::]:{0}` for every address",
            shown(port)
        );
        return Err(Misfit::with_cure("must name a host; `*` is none", cure));
    }
    check_host(host, port)?;
    match port.parse::<u16>() {
        Ok(0) if !zero => Err(Misfit::plain("must name a port; 0 is none")),
        Ok(_) if port.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
        _ => Err(Misfit::plain(format!(
            "must be HOST:PORT; `{}` is not a port (0 to 65535)",
            shown(port)
        ))),
    }
}

fn check_host(host: &str, port: &str) -> Result<(), Misfit> {
    if let Some(inner) = host.strip_prefix('[') {
        let valid = inner
            .strip_suffix(']')
            .is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
        return valid.then_some(()).ok_or_else(|| {
            Misfit::plain(format!(
                "must be HOST:PORT; `{}` is not an IPv6 address",
                shown(host)
            ))
        });
    }
    if host.contains(':') {
        let cure = format!("write `[{}]:{}`", shown(host), shown(port));
        return Err(Misfit::with_cure(
            "must have an IPv6 address in brackets",
            cure,
        ));
    }
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() || !host.chars().all(letters) {
        return Err(Misfit::plain(format!(
            "must be HOST:PORT; `{}` is not a host name",
            shown(host)
        )));
    }
    Ok(())
}

fn url(text: &str) -> Result<(), Misfit> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !text.contains(' ') => Ok(()),
        _ => Err(Misfit::plain(
            "must be a URL that begins with https:// or http://",
        )),
    }
}

/// A bare word must be a level; anything else is a tracing filter, which the subscriber itself reads.
fn log_filter(text: &str) -> Result<(), Misfit> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let bare = text.bytes().all(|b| b.is_ascii_alphabetic());
    if !bare || LEVELS.contains(&text.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    let guess = nearest(text, LEVELS).map(|level| format!("; did you mean `{level}`?"));
    Err(Misfit::with_cure(
        format!(
            "does not know the level `{}`{}",
            shown(text),
            guess.unwrap_or_default()
        ),
        "write off, error, warn, info, debug or trace, or a filter such as `info,pgveil=debug`",
    ))
}

fn scope(text: &str) -> Result<(), Misfit> {
    match ScopePath::parse(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(Misfit::plain(format!("must be a scope path: {error}"))),
    }
}

/// The units of a duration, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Reads `"90d"`, `"12h"`, `"5m"`, `"5s"`, `"250ms"`: a whole number and one unit.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*millis).map(Duration::from_millis)
}

/// The reverse of [`duration`], with the largest unit that divides.
pub fn show_duration(time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let unit = UNITS.iter().find(|(_, unit)| millis.is_multiple_of(*unit));
    let (name, unit) = unit.expect("one millisecond divides everything");
    format!("{}{name}", millis / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations() {
        for (text, millis) in [
            ("0s", Some(0)),
            ("5s", Some(5000)),
            ("250ms", Some(250)),
            ("5m", Some(300_000)),
            ("12h", Some(43_200_000)),
            ("90d", Some(7_776_000_000)),
            ("", None),
            ("5", None),
            ("s", None),
            ("-5s", None),
            ("5 s", None),
            ("1.5h", None),
            ("5M", None),
            ("99999999999999999999d", None),
            ("18446744073709551615d", None),
        ] {
            let read = duration(text);
            assert_eq!(read.map(|time| time.as_millis()), millis, "{text}");
            if let Some(time) = read {
                assert_eq!(duration(&show_duration(time)), Some(time), "{text}");
            }
        }
    }

    #[test]
    fn checks_addresses() {
        for good in [
            "127.0.0.1:6432",
            "db.example.com:5432",
            "[::1]:5432",
            "db_1:1",
        ] {
            assert!(Form::Address.check(good).is_ok(), "{good}");
        }
        for bad in [
            "127.0.0.1",
            ":5432",
            "::1:5432",
            "[::1]",
            "[x]:1",
            "h:",
            "h:0",
            "h:+1",
            "h:65536",
            "a b:1",
            "é:1",
            "/run/pg",
            "*:1",
            "",
        ] {
            assert!(Form::Address.check(bad).is_err(), "{bad}");
        }
        assert!(Form::Listen.check("127.0.0.1:0").is_ok());
    }

    #[test]
    fn checks_log_filters() {
        for good in [
            "info",
            "WARN",
            "off",
            "pgveil=debug",
            "info,pgveil_keys=trace",
        ] {
            assert!(Form::LogFilter.check(good).is_ok(), "{good}");
        }
        for bad in ["inof", "verbose", ""] {
            assert!(Form::LogFilter.check(bad).is_err(), "{bad}");
        }
    }
}
