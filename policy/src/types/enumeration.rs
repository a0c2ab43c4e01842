//! Enum types of the database, and the forms of their values. Which ones there are is the catalog's to know.
//!
//! A value is sealed as a number that pgveil gives its label once and for ever. So a label that is renamed later is shown,
//! sealed and found under its new name; dumps, which do not keep OIDs, change nothing; and the length tells nothing.

use std::{
    collections::HashSet,
    fmt,
    hash::{Hash, Hasher},
    sync::{Mutex, OnceLock, PoisonError},
};

use super::{DamagedValue, InputError, LogicalType, encoding};

/// Most definitions that a process keeps. One is added whenever the labels or the name of an enum type change.
const MOST_DEFINITIONS: usize = 4096;
/// `NAMEDATALEN` less the end.
const LONGEST_NAME: usize = 63;

/// One label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    /// What applications see.
    pub label: String,
    /// What sealed values hold, in four bytes.
    pub number: i32,
}

/// What the catalog says of an enum type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Definition {
    /// `pg_type.oid`.
    pub oid: u32,
    /// `pg_type.typarray`.
    pub array_oid: u32,
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// In their order.
    pub labels: Vec<Label>,
}

/// A definition and the names that follow from it.
struct Known {
    definition: Definition,
    sql_name: String,
    domain: String,
    array_domain: String,
}

/// An enum type as it was defined when the catalog was read.
#[derive(Clone, Copy)]
pub struct EnumType(&'static Known);

/// By definition; they live as long as the process, so that a type is as easy to pass around as any other.
static KNOWN: OnceLock<Mutex<HashSet<ByDefinition>>> = OnceLock::new();

struct ByDefinition(&'static Known);

impl EnumType {
    /// `None` if its name is too long for a domain of that name, or has double quotes in it, or if there are too many.
    pub fn new(definition: Definition) -> Option<Self> {
        let known = KNOWN.get_or_init(Mutex::default);
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ByDefinition(same)) = known.get(&definition) {
            return Some(Self(same));
        }
        let (schema, name) = (&definition.schema, &definition.name);
        let domain = format!("{schema}.{name}");
        let array_domain = format!("{domain}[]");
        if array_domain.len() > LONGEST_NAME
            || domain.contains('"')
            || known.len() >= MOST_DEFINITIONS
        {
            return None;
        }
        let quoted = |name: &str| {
            if is_plain(name) {
                name.to_owned()
            } else {
                format!("\"{name}\"")
            }
        };
        let is_taken = LogicalType::parse(name).is_ok();
        let sql_name = match schema.as_str() {
            "public" if !is_taken => quoted(name),
            _ => format!("{}.{}", quoted(schema), quoted(name)),
        };
        let made: &'static Known = Box::leak(Box::new(Known {
            definition,
            sql_name,
            domain,
            array_domain,
        }));
        known.insert(ByDefinition(made));
        Some(Self(made))
    }

    /// `pg_type.oid`.
    pub fn oid(self) -> u32 {
        self.0.definition.oid
    }

    pub(super) fn array_oid(self) -> u32 {
        self.0.definition.array_oid
    }

    /// As `format_type` writes it where only `public` is in the search path.
    pub(super) fn sql_name(self) -> &'static str {
        &self.0.sql_name
    }

    pub(super) fn name(self) -> &'static str {
        &self.0.definition.name
    }

    pub(super) fn domain(self) -> &'static str {
        &self.0.domain
    }

    pub(super) fn array_domain(self) -> &'static str {
        &self.0.array_domain
    }

    fn labels(self) -> &'static [Label] {
        &self.0.definition.labels
    }

    /// `enum_in` and `enum_recv`.
    pub(super) fn input(self, text: &str) -> Result<Vec<u8>, InputError> {
        match self.labels().iter().find(|label| label.label == text) {
            Some(label) => Ok(label.number.to_be_bytes().to_vec()),
            None => Err(InputError::new(
                "22P02",
                format!(
                    "invalid input value for enum {}: \"{text}\"",
                    self.sql_name()
                ),
            )),
        }
    }

    pub(super) fn recv(self, bytes: &[u8]) -> Result<Vec<u8>, InputError> {
        self.input(encoding::utf8(bytes)?)
    }

    /// `enum_out` and `enum_send`.
    pub(super) fn output(self, stored: &[u8], out: &mut Vec<u8>) -> Result<(), DamagedValue> {
        let mut labels = self.labels().iter();
        let label = labels.find(|label| label.number.to_be_bytes() == stored);
        out.extend_from_slice(label.ok_or(DamagedValue)?.label.as_bytes());
        Ok(())
    }
}

/// Whether a name needs no quotes: keywords aside, which `format_type` quotes and people do not write.
fn is_plain(name: &str) -> bool {
    let begins = |c: char| c.is_ascii_lowercase() || c == '_';
    name.starts_with(begins) && name.chars().all(|c| begins(c) || c.is_ascii_digit())
}

impl PartialEq for EnumType {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for EnumType {}

impl Hash for EnumType {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::from_ref(self.0).hash(state);
    }
}

impl fmt::Debug for EnumType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnumType({})", self.0.domain)
    }
}

impl PartialEq for ByDefinition {
    fn eq(&self, other: &Self) -> bool {
        self.0.definition == other.0.definition
    }
}

impl Eq for ByDefinition {}

impl Hash for ByDefinition {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.definition.hash(state);
    }
}

impl std::borrow::Borrow<Definition> for ByDefinition {
    fn borrow(&self) -> &Definition {
        &self.0.definition
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mood(labels: &[(&str, i32)]) -> EnumType {
        let label = |(label, number): &(&str, i32)| Label {
            label: (*label).to_owned(),
            number: *number,
        };
        let definition = Definition {
            oid: 16400,
            array_oid: 16399,
            schema: "public".into(),
            name: "mood".into(),
            labels: labels.iter().map(label).collect(),
        };
        EnumType::new(definition).unwrap()
    }

    #[test]
    fn a_renamed_label_is_read_and_shown_under_its_new_name() {
        let mood = mood(&[("sad", 1), ("fine", 2)]);
        assert_eq!(mood.input("fine").unwrap(), [0, 0, 0, 2]);
        assert_eq!(mood.recv(b"sad").unwrap(), [0, 0, 0, 1]);
        let mut out = Vec::new();
        mood.output(&[0, 0, 0, 2], &mut out).unwrap();
        assert_eq!(out, b"fine");
        assert!(mood.output(&[0, 0, 0, 3], &mut out).is_err());
        let error = mood.input("ok").unwrap_err();
        assert_eq!(error.sqlstate, "22P02");
        assert_eq!(error.message, "invalid input value for enum mood: \"ok\"");
        assert_eq!(mood.recv(&[0xff]).unwrap_err().sqlstate, "22021");
    }

    #[test]
    fn a_definition_is_kept_once() {
        assert_eq!(mood(&[("a", 1)]), mood(&[("a", 1)]));
        assert_ne!(mood(&[("a", 1)]), mood(&[("b", 1)]));
    }
}
