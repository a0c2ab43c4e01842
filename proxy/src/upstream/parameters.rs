//! What the server reports of its settings, at login and whenever one changes. Only observed: the reports
//! themselves go to the client as they are.

use std::collections::HashMap;

use crate::messages::{ParameterStatus, Report};

/// PostgreSQL 18 reports 16 settings; extensions may add some.
const PARAMETERS: usize = 1_000;
/// Bytes of all values together.
const VALUE_BYTES: usize = 1024 * 1024;

/// The settings that the server reported last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    values: HashMap<String, Vec<u8>>,
    bytes: usize,
}

/// A server reports more than can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server reports more than {PARAMETERS} settings or {VALUE_BYTES} bytes of them")]
pub struct TooManyParameters;

impl TooManyParameters {
    /// What the client is told.
    pub fn report(&self) -> Report {
        Report::fatal("54000", self.to_string())
    }
}

impl Parameters {
    /// Takes a report.
    pub fn set(&mut self, status: &ParameterStatus<'_>) -> Result<(), TooManyParameters> {
        let name = String::from_utf8_lossy(status.name);
        let replaced = self.values.get(name.as_ref()).map_or(0, Vec::len);
        let bytes = self.bytes - replaced + status.value.len();
        if bytes > VALUE_BYTES || self.values.len() >= PARAMETERS {
            return Err(TooManyParameters);
        }
        self.bytes = bytes;
        self.values.insert(name.into_owned(), status.value.to_vec());
        Ok(())
    }

    /// The value of `name`, spelt as the server does: `client_encoding`, `DateStyle`, `TimeZone`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.values.get(name).map(Vec::as_slice)
    }

    /// The value, if it is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Whether `name` is `on`.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name) == Some(b"on")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(parameters: &mut Parameters, name: &str, value: &[u8]) -> Result<(), TooManyParameters> {
        parameters.set(&ParameterStatus {
            name: name.as_bytes(),
            value,
        })
    }

    #[test]
    fn the_last_report_counts() {
        let mut parameters = Parameters::default();
        set(&mut parameters, "TimeZone", b"UTC").unwrap();
        set(&mut parameters, "TimeZone", b"Europe/Berlin").unwrap();
        set(&mut parameters, "application_name", b"caf\xe9").unwrap();
        set(&mut parameters, "is_superuser", b"on").unwrap();
        assert_eq!(parameters.text("TimeZone"), Some("Europe/Berlin"));
        assert_eq!(
            (
                parameters.get("application_name"),
                parameters.text("application_name")
            ),
            (Some(&b"caf\xe9"[..]), None)
        );
        assert!(parameters.is_on("is_superuser") && !parameters.is_on("integer_datetimes"));
    }

    #[test]
    fn reports_are_not_kept_without_end() {
        let mut parameters = Parameters::default();
        for _ in 0..10 {
            set(&mut parameters, "a", &vec![b'x'; VALUE_BYTES]).unwrap();
        }
        assert_eq!(set(&mut parameters, "b", b"x"), Err(TooManyParameters));
        let mut parameters = Parameters::default();
        let names = (0..=PARAMETERS).map(|number| number.to_string());
        assert!(
            names
                .map(|name| set(&mut parameters, &name, b""))
                .any(|outcome| outcome.is_err())
        );
    }
}
