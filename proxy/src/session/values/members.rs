//! JSON documents of which the server makes rows: the members that go into protected columns are sealed, those that the
//! statement does not name are left out. Everything else stays as it is written.

use pgveil_policy::{
    Refusal,
    plan::{Members, Slot},
    types::{Conversion, Converted, LogicalType, Record, Records, json_string, records},
};

use super::{Made, Maker, adapt, does_not_fit, input_refusal, not_exact, unknown_column};

impl Maker<'_> {
    /// The document's text with sealed members.
    pub(super) async fn seal_members(&self, slot: &Slot) -> Result<Made, Refusal> {
        let members = slot.members.as_deref().ok_or_else(unknown_column)?;
        let logical = if members.jsonb {
            LogicalType::Jsonb
        } else {
            LogicalType::Json
        };
        let document = match self.value(&slot.operand, logical, Conversion::Assignment)? {
            None => return Ok(Made::Null),
            Some(Converted::Value(document)) => document,
            Some(Converted::NeverEqual) => return Err(unknown_column()),
        };
        let bytes = match document.as_bytes() {
            // Behind the version.
            [_, text @ ..] if members.jsonb => text,
            text => text,
        };
        let text = std::str::from_utf8(bytes).map_err(|_| unknown_column())?;
        let mut out = Vec::with_capacity(bytes.len());
        match records(text).map_err(input_refusal)? {
            Records::One(record) => self.record(members, &record, &mut out).await?,
            Records::Many(many) => {
                out.push(b'[');
                for (index, record) in many.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    match record {
                        Some(record) => self.record(members, record, &mut out).await?,
                        None => out.extend_from_slice(b"null"),
                    }
                }
                out.push(b']');
            }
            Records::None => out.extend_from_slice(b"null"),
        }
        Ok(Made::Bytes(out))
    }

    /// One object.
    async fn record(
        &self,
        members: &Members,
        record: &Record<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let mut separator = b'{';
        let mut name = |name: &str, out: &mut Vec<u8>| {
            out.push(separator);
            separator = b',';
            json_string(name.as_bytes(), out);
            out.push(b':');
        };
        for plain in &members.plain {
            if let Some(member) = record.member(plain) {
                name(plain, out);
                out.extend_from_slice(member.written.as_bytes());
            }
        }
        for sealed in &members.sealed {
            let Some(member) = record.member(&sealed.name) else {
                continue;
            };
            name(&sealed.name, out);
            let Some(text) = member.given.text(sealed.from).map_err(input_refusal)? else {
                out.extend_from_slice(b"null");
                continue;
            };
            let columns = &self.rules.columns;
            let column = columns.get(&sealed.column).ok_or_else(unknown_column)?;
            let settings = &self.view.session.format;
            let value = sealed.from.input(&text, settings).and_then(|value| {
                let why = Conversion::Assignment;
                adapt(value, sealed.from, column.logical, why, settings)
            });
            if sealed.exact {
                let bare = sealed.from.without_modifiers();
                let bare = bare.input(&text, settings).map_err(input_refusal)?;
                let same = matches!(&value, Ok(Converted::Value(value)) if *value == bare);
                if !same {
                    return Err(not_exact(column));
                }
            }
            let Converted::Value(value) = value.map_err(input_refusal)? else {
                return Err(does_not_fit(column));
            };
            let scope = self.scope_from(&sealed.scope, &[], &[], Some(record))?;
            self.view.scopes.check(column, scope.sealing(column))?;
            let made = self.seal(column, &scope, &value).await?;
            out.extend_from_slice(b"\"\\\\x");
            out.extend_from_slice(hex::encode(made).as_bytes());
            out.push(b'"');
        }
        if separator == b'{' {
            out.push(b'{');
        }
        out.push(b'}');
        Ok(())
    }
}
