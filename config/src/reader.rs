//! Holds a section of a file against its table of known keys and yields typed fields. It knows no key by name.

use std::path::{Path, PathBuf};

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use crate::{
    Position,
    fields::{Field, Fields, Found},
    known::{Key, Need, Section, Shape, Variant},
    nearest::nearest,
    source::{Findings, shown, start},
    value::Value,
};

/// A file being read: what was found wrong so far, and the folder that relative paths start from.
pub(crate) struct Reader<'t> {
    findings: Findings<'t>,
    base: PathBuf,
}

impl<'t> Reader<'t> {
    pub(crate) fn new(findings: Findings<'t>, base: PathBuf) -> Reader<'t> {
        Reader { findings, base }
    }

    pub(crate) fn into_findings(self) -> Findings<'t> {
        self.findings
    }

    /// Adds a finding at a byte offset.
    pub(crate) fn report(
        &mut self,
        at: usize,
        message: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.findings.report(at, message, cure);
    }

    /// A byte offset for people.
    pub(crate) fn position(&self, at: usize) -> Position {
        self.findings.position(at)
    }

    /// A path of the operator's, from the file's folder.
    pub(crate) fn resolve(&self, path: &str) -> PathBuf {
        self.base.join(Path::new(path))
    }

    /// Reads the top of the file.
    pub(crate) fn top<'d, 'i>(
        &mut self,
        section: &'static Section,
        table: &'d DeTable<'i>,
    ) -> Fields<'d, 'i> {
        self.section(&Found {
            section,
            name: String::new(),
            at: 0,
            table,
        })
    }

    /// Reads a section that may be missing as if it stood empty at the file's top, so that its defaults hold
    /// and its required keys are asked for.
    pub(crate) fn one<'f>(
        &mut self,
        section: &'static Section,
        fields: &'f Fields<'_, '_>,
        empty: &'f DeTable<'_>,
    ) -> Fields<'f, 'f> {
        let absent = Found {
            section,
            name: String::new(),
            at: 0,
            table: empty,
        };
        match fields.named(section.name).next() {
            Some(found) => self.section(found),
            None if fields.spoiled(section.name) => {
                let mut fields = Fields::new(&absent);
                fields
                    .spoiled
                    .extend(section.keys.iter().map(|key| key.name));
                fields
            }
            None => self.section(&absent),
        }
    }

    /// Reads one section.
    pub(crate) fn section<'d, 'i>(&mut self, found: &Found<'d, 'i>) -> Fields<'d, 'i> {
        let mut pass = Pass {
            variant: variant_of(found),
            later: false,
            fields: Fields::new(found),
        };
        pass.later = found.section.support.later().is_some()
            || pass
                .variant
                .is_some_and(|variant| variant.word.support.later().is_some());
        let mut entries: Vec<_> = found.table.iter().collect();
        entries.sort_by_key(|(key, _)| start(key));
        for (key, value) in entries {
            self.entry(found, &mut pass, key, value);
        }
        if !pass.later {
            self.complete(found, &mut pass);
        }
        pass.fields
    }

    /// One `key = value` or section inside.
    fn entry<'d, 'i>(
        &mut self,
        found: &Found<'d, 'i>,
        pass: &mut Pass<'d, 'i>,
        key: &Spanned<DeString<'i>>,
        value: &'d Spanned<DeValue<'i>>,
    ) {
        let word: &str = key.get_ref();
        if let Some(known) = pass.keys(found.section).find(|known| known.name == word) {
            pass.fields.written.push((known.name, start(key)));
            if let Some(cure) = known.support.later() {
                let message = format!("`{}`{} is not supported yet", known.name, pass.fields.place);
                self.report(start(key), message, cure);
            }
            if let Some(value) = self.value(known, value, &pass.fields.place) {
                let at = value.1;
                pass.fields.fields.push(Field {
                    key: known.name,
                    value: value.0,
                    at,
                });
            }
        } else if let Some(inner) = found
            .section
            .sections
            .iter()
            .find(|inner| inner.name == word)
        {
            self.inner(inner, value, &mut pass.fields);
        } else if pass.variant.is_some()
            || found.section.variants.is_empty()
            || !in_variant(found.section, word)
        {
            self.unknown(found, pass, key);
        }
    }

    /// A section inside a section; one that is not supported yet is refused, and checked all the same.
    fn inner<'d, 'i>(
        &mut self,
        section: &'static Section,
        value: &'d Spanned<DeValue<'i>>,
        into: &mut Fields<'d, 'i>,
    ) {
        let tables = self.tables(section, value, &mut into.spoiled);
        if let (Some(cure), Some(first)) = (section.support.later(), tables.first()) {
            let message = format!("{} is not supported yet", section.header);
            self.report(first.at, message, cure);
            for found in &tables {
                self.section(found);
            }
        } else {
            into.sections.extend(tables);
        }
    }

    /// The tables of a section, by its shape; what is not a table is reported and spoils the section.
    fn tables<'d, 'i>(
        &mut self,
        section: &'static Section,
        value: &'d Spanned<DeValue<'i>>,
        spoiled: &mut Vec<&'static str>,
    ) -> Vec<Found<'d, 'i>> {
        let at = start(value);
        match (section.shape, value.get_ref()) {
            (Shape::One, DeValue::Table(table)) => vec![Found {
                section,
                name: String::new(),
                at,
                table,
            }],
            (Shape::Named, DeValue::Table(table)) => {
                let mut entries: Vec<_> = table.iter().collect();
                entries.sort_by_key(|(key, _)| start(key));
                entries
                    .into_iter()
                    .filter_map(|(key, value)| self.named_table(section, key, value, spoiled))
                    .collect()
            }
            (Shape::Many, DeValue::Array(array)) => array
                .iter()
                .filter_map(|value| self.listed_table(section, value, spoiled))
                .collect(),
            (Shape::Many, DeValue::Table(_)) => {
                spoiled.push(section.name);
                let message = format!(
                    "`{}` may stand several times, so its header has two brackets",
                    section.name
                );
                self.report(at, message, format!("write `{}`", section.header));
                Vec::new()
            }
            _ => {
                spoiled.push(section.name);
                let message = format!("`{}` must be a section", section.name);
                self.report(
                    at,
                    message,
                    format!("write `{}` and its keys on the lines below", section.header),
                );
                Vec::new()
            }
        }
    }

    fn named_table<'d, 'i>(
        &mut self,
        section: &'static Section,
        key: &Spanned<DeString<'i>>,
        value: &'d Spanned<DeValue<'i>>,
        spoiled: &mut Vec<&'static str>,
    ) -> Option<Found<'d, 'i>> {
        let name: &str = key.get_ref();
        if let DeValue::Table(table) = value.get_ref() {
            if name.is_empty() || name.contains(|c: char| c.is_control()) {
                let message = format!(
                    "the name in {} must not be empty or hold control characters",
                    section.header
                );
                self.report(start(key), message, "give it a name");
            }
            return Some(Found {
                section,
                name: name.to_owned(),
                at: start(value),
                table,
            });
        }
        spoiled.push(section.name);
        let message = format!(
            "`{}` needs a section with a name around it: {}",
            shown(name),
            section.header
        );
        self.report(
            start(key),
            message,
            format!("write `{}`, with a name for NAME", section.header),
        );
        None
    }

    fn listed_table<'d, 'i>(
        &mut self,
        section: &'static Section,
        value: &'d Spanned<DeValue<'i>>,
        spoiled: &mut Vec<&'static str>,
    ) -> Option<Found<'d, 'i>> {
        if let DeValue::Table(table) = value.get_ref() {
            return Some(Found {
                section,
                name: String::new(),
                at: start(value),
                table,
            });
        }
        spoiled.push(section.name);
        let message = format!("`{}` must be a list of sections", section.name);
        self.report(start(value), message, format!("write `{}`", section.header));
        None
    }

    /// Asks for what must be given and was not, and fills in defaults.
    fn complete(&mut self, found: &Found<'_, '_>, pass: &mut Pass<'_, '_>) {
        let absent: Vec<_> = pass
            .keys(found.section)
            .filter(|key| pass.fields.written(key.name).is_none() && key.support.later().is_none())
            .collect();
        for key in absent {
            match key.need {
                Need::Required(_) if pass.fields.spoiled(key.name) => {}
                Need::Required(sample) => {
                    let message = format!("`{}` is missing{}", key.name, pass.fields.place);
                    self.report(found.at, message, format!("add `{} = {sample}`", key.name));
                }
                Need::Default(default) => {
                    if let Some(value) = self.default_value(key, default) {
                        pass.fields.fields.push(Field {
                            key: key.name,
                            value,
                            at: found.at,
                        });
                    }
                }
                Need::Optional(_) => {}
            }
        }
    }

    fn default_value(&mut self, key: &'static Key, default: &'static str) -> Option<Value> {
        let value = DeValue::parse(default).ok()?;
        self.value(key, &value, "").map(|(value, _)| value)
    }

    /// A key that is not known here: which one was meant?
    fn unknown(
        &mut self,
        found: &Found<'_, '_>,
        pass: &mut Pass<'_, '_>,
        key: &Spanned<DeString<'_>>,
    ) {
        let word: &str = key.get_ref();
        let keys: Vec<_> = pass.keys(found.section).map(|key| key.name).collect();
        let known: Vec<_> = keys
            .iter()
            .copied()
            .chain(found.section.sections.iter().map(|s| s.name))
            .collect();
        let unknown = format!("unknown key `{}`{}", shown(word), pass.fields.place);
        if let Some(near) = nearest(word, known.iter().copied()) {
            pass.fields.spoiled.push(near);
            let message = format!("{unknown}; did you mean `{near}`?");
            self.report(
                start(key),
                message,
                format!("write `{near}`, or remove the line"),
            );
        } else if let Some(other) = found
            .section
            .sections
            .iter()
            .find(|other| owns(other, word))
        {
            let message = format!("{unknown}; did you mean `{word}` in {}?", other.header);
            self.report(
                start(key),
                message,
                format!("move it below `{}`", other.header),
            );
        } else {
            let cure = format!("remove it; known here: {}", known.join(", "));
            self.report(start(key), unknown, cure);
        }
    }
}

/// The state of one call of [`Reader::section`].
struct Pass<'d, 't> {
    /// The keys that `kind` adds.
    variant: Option<&'static Variant>,
    /// Whether the section is only checked, and then refused.
    later: bool,
    fields: Fields<'d, 't>,
}

impl Pass<'_, '_> {
    fn keys(&self, section: &'static Section) -> impl Iterator<Item = &'static Key> + use<> {
        let variant = self.variant.map_or(&[][..], |variant| variant.keys);
        section.keys.iter().chain(variant)
    }
}

/// What the table's key `kind` says about further keys.
fn variant_of(found: &Found<'_, '_>) -> Option<&'static Variant> {
    let kind = found.table.get("kind")?.get_ref().as_str()?;
    found
        .section
        .variants
        .iter()
        .find(|variant| variant.word.word == kind)
}

fn in_variant(section: &Section, word: &str) -> bool {
    section
        .variants
        .iter()
        .any(|variant| variant.keys.iter().any(|key| key.name == word))
}

fn owns(section: &Section, word: &str) -> bool {
    section.keys.iter().any(|key| key.name == word)
}
