//! A secret that a section takes from a key or from the file that its twin names: `url` or `url_file`.

use crate::{fields::Fields, reader::Reader, secret::Secret};

/// The two keys, and a value of the first as TOML text.
pub(super) struct Either {
    pub(super) key: &'static str,
    pub(super) file_key: &'static str,
    pub(super) sample: &'static str,
}

impl Either {
    /// The secret and where it stands; reports none and two.
    pub(super) fn read(&self, reader: &mut Reader<'_>, fields: &Fields<'_, '_>) -> (Secret, usize) {
        let Either {
            key,
            file_key,
            sample,
        } = self;
        match (fields.written(key), fields.written(file_key)) {
            (None, None) if !fields.spoiled(key) && !fields.spoiled(file_key) => {
                let message = format!("`{key}` is missing{}", fields.place);
                let cure = format!("add `{key} = {sample}`, or `{file_key}`");
                reader.report(fields.at, message, cure);
            }
            (Some(_), Some(second)) => {
                let place = fields.place.trim_start_matches(" in ");
                let message = format!("{place} has both `{key}` and `{file_key}`");
                reader.report(second, message, "keep one of the two");
            }
            _ => {}
        }
        match fields.file(file_key) {
            Some(path) => (Secret::File(path), fields.value_at(file_key)),
            None => (
                Secret::from_text(fields.text(key).unwrap_or_default()),
                fields.value_at(key),
            ),
        }
    }

    /// The secret, if it is given; reports two.
    pub(super) fn read_optional(
        &self,
        reader: &mut Reader<'_>,
        fields: &Fields<'_, '_>,
    ) -> Option<Secret> {
        fields.written(self.key).or(fields.written(self.file_key))?;
        Some(self.read(reader, fields).0)
    }
}
