//! What a section of a file came to: fields that have a value, and the sections inside it. No key is known by name.

use std::{path::PathBuf, time::Duration};

use toml::de::DeTable;

use crate::{
    known::{Section, Shape},
    source::shown,
    value::Value,
};

/// A section as it stands in the file, not read yet.
pub(crate) struct Found<'d, 't> {
    /// Which section it is.
    pub(crate) section: &'static Section,
    /// Its NAME, if it has one.
    pub(crate) name: String,
    /// Where it begins.
    pub(crate) at: usize,
    pub(crate) table: &'d DeTable<'t>,
}

impl Found<'_, '_> {
    /// The header as it stands in the file, for messages: ` in [provider.main]`; nothing for the top.
    pub(crate) fn place(&self) -> String {
        match self.section.shape {
            _ if self.section.header.is_empty() => String::new(),
            Shape::Named => format!(
                " in {}",
                self.section.header.replace("NAME", &as_key(&self.name))
            ),
            _ => format!(" in {}", self.section.header),
        }
    }
}

/// A field that has a value: given, or by default.
pub(crate) struct Field {
    pub(crate) key: &'static str,
    pub(crate) value: Value,
    /// Where the value stands; of a default: where the section does.
    pub(crate) at: usize,
}

/// The checked content of a section. A field whose value was wrong is not there: the finding is, so the
/// placeholder that the methods give for it never leaves the crate.
pub(crate) struct Fields<'d, 't> {
    /// Where the section begins.
    pub(crate) at: usize,
    pub(crate) fields: Vec<Field>,
    /// Keys that stand in the file, right or wrong, and where.
    pub(crate) written: Vec<(&'static str, usize)>,
    /// Keys and sections that were meant, by a misspelt word or a section of the wrong shape: they have been
    /// reported, and are not reported as missing too.
    pub(crate) spoiled: Vec<&'static str>,
    /// Sections inside, in file order.
    pub(crate) sections: Vec<Found<'d, 't>>,
    /// ` in [upstream]`, for messages.
    pub(crate) place: String,
}

impl<'d, 't> Fields<'d, 't> {
    pub(crate) fn new(found: &Found<'d, 't>) -> Fields<'d, 't> {
        Fields {
            at: found.at,
            fields: Vec::new(),
            written: Vec::new(),
            spoiled: Vec::new(),
            sections: Vec::new(),
            place: found.place(),
        }
    }

    /// The key's value, if it has a right one.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.fields
            .iter()
            .find(|field| field.key == key)
            .map(|field| &field.value)
    }

    /// Where the key itself stands in the file, if it does, even with a wrong value.
    pub(crate) fn written(&self, key: &str) -> Option<usize> {
        self.written
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, at)| *at)
    }

    /// Whether the key or section was meant but misspelt or misshapen, which has been reported.
    pub(crate) fn spoiled(&self, name: &str) -> bool {
        self.spoiled.contains(&name)
    }

    /// Where the key's value stands, or else the section.
    pub(crate) fn value_at(&self, key: &str) -> usize {
        self.fields
            .iter()
            .find(|field| field.key == key)
            .map_or(self.at, |field| field.at)
    }

    /// The sections inside with this word in the header, in file order.
    pub(crate) fn named<'f>(
        &'f self,
        word: &'f str,
    ) -> impl Iterator<Item = &'f Found<'f, 'f>> + 'f {
        self.sections
            .iter()
            .filter(move |found| found.section.name == word)
    }

    /// The text of a key that has one.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        match self.get(key) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    /// The path of a key that has one.
    pub(crate) fn file(&self, key: &str) -> Option<PathBuf> {
        match self.get(key) {
            Some(Value::File(path)) => Some(path.clone()),
            _ => None,
        }
    }

    /// The switch's state; off if its value was wrong.
    pub(crate) fn switch(&self, key: &str) -> bool {
        matches!(self.get(key), Some(Value::Switch(true)))
    }

    /// The number; 0 if its value was wrong.
    pub(crate) fn count(&self, key: &str) -> usize {
        match self.get(key) {
            Some(Value::Count(count)) => usize::try_from(*count).unwrap_or(usize::MAX),
            _ => 0,
        }
    }

    /// The duration; zero if its value was wrong.
    pub(crate) fn time(&self, key: &str) -> Duration {
        match self.get(key) {
            Some(Value::Time(time)) => *time,
            _ => Duration::ZERO,
        }
    }

    /// The words or names of a list.
    pub(crate) fn words(&self, key: &str) -> Option<Vec<String>> {
        match self.get(key) {
            Some(Value::Words(words)) => Some(words.clone()),
            _ => None,
        }
    }
}

/// A name as TOML writes it: bare if it can be, or in double quotes.
fn as_key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.chars().all(bare) {
        shown(name)
    } else {
        format!("\"{}\"", shown(name))
    }
}
