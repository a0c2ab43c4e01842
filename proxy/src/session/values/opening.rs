//! Opens sealed values: one that is a field by itself, or one that is found inside another value (`inside`).

use pgveil_config::ScopePath;
use pgveil_keys::{DekId, Keys, sealed};
use pgveil_policy::{
    Refusal, Ruleset,
    plan::ColumnId,
    ruleset::Protected,
    types::{FormatSettings, LogicalType, Value, cast, mask},
};

use crate::session::scope::SessionScopes;

use super::{damaged, input_refusal, no_longer_in_policy, not_sealed, unknown_column};

/// One field of a DataRow, opened.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// [`Scratch::shown`] holds the field's bytes.
    Shown,
    /// The role may not see it and there is no mask: NULL.
    Null,
    /// This key is needed and not in the cache; fetch it and try again.
    NeedsKey(DekId),
}

/// How to open the fields of a result column.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The type that the client sees.
    pub shown: LogicalType,
    /// The types, without modifiers, in which values can be sealed.
    pub stored: Vec<LogicalType>,
    /// The format in which the server sends and the client receives: 0 text, 1 binary.
    pub format: i16,
    /// Columns that may be shown unmasked to this session's role.
    pub revealed: Vec<ColumnId>,
}

/// Through what sealed values are looked at.
#[derive(Clone, Copy)]
pub struct Lens<'a> {
    /// The ruleset of the analysis.
    pub rules: &'a Ruleset,
    /// DEKs.
    pub keys: &'a Keys,
    /// The session's settings for text forms.
    pub settings: &'a FormatSettings,
    /// Columns that may be shown unmasked to this session's role.
    pub revealed: &'a [ColumnId],
    /// The scopes that values must be of, where the policy asks for the session's.
    pub scopes: &'a SessionScopes,
}

/// A sealed value, looked at.
pub enum Unsealed<'a> {
    /// Its plaintext, in the send form of the column's type, stands in the buffer.
    Plain(&'a Protected),
    /// What the role sees instead.
    Masked(String),
    /// The role sees NULL.
    Null,
    /// This key is needed first.
    NeedsKey(DekId),
}

impl<'a> Lens<'a> {
    /// Opens an envelope that must hold a value of one of these types.
    ///
    /// # Errors
    /// As [`open_field`].
    pub fn unseal(
        &self,
        envelope: &[u8],
        types: &[LogicalType],
        plain: &mut Vec<u8>,
    ) -> Result<Unsealed<'a>, Refusal> {
        let envelope = sealed::Envelope::parse(envelope).map_err(|_| not_sealed())?;
        let column = self
            .rules
            .columns
            .get(&envelope.column)
            .ok_or_else(unknown_column)?;
        let logical = column.logical.without_modifiers();
        if types
            .iter()
            .all(|shown| shown.without_modifiers() != logical)
        {
            return Err(damaged(
                "The value was sealed as another type than the column it is in.",
            ));
        }
        let revealed = self.revealed.contains(&column.id);
        if !revealed && column.retired {
            return Err(no_longer_in_policy());
        }
        if !revealed && column.mask == pgveil_config::Mask::Null {
            return Ok(Unsealed::Null);
        }
        let Some(key) = self.keys.cached_opening_key(envelope.dek) else {
            return Ok(Unsealed::NeedsKey(envelope.dek));
        };
        // What was sealed on the way, to be shown only, is of no row's scope.
        if *key.scope() != ScopePath::platform() {
            self.scopes.check(column, key.scope())?;
        }
        plain.clear();
        envelope
            .open(&key, plain)
            .map_err(|_| damaged("Its authentication tag does not match."))?;
        if revealed {
            return Ok(Unsealed::Plain(column));
        }
        let text = std::str::from_utf8(plain)
            .map_err(|_| damaged("Its plaintext is no value of its type."))?;
        Ok(mask(text, column.mask).map_or(Unsealed::Null, Unsealed::Masked))
    }
}

/// Opens one field into `scratch`, which is reused between fields.
///
/// # Errors
/// `PV003` for a value that is damaged, foreign or of another type; `PV004` for one that is no sealed value at all.
pub fn open_field(
    field: &[u8],
    opening: &Opening,
    lens: &Lens<'_>,
    scratch: &mut Scratch,
) -> Result<Opened, Refusal> {
    let Scratch {
        stored,
        plain,
        text: out,
    } = scratch;
    out.clear();
    let bytes = if opening.format == 0 {
        stored.clear();
        decode_bytea_text(field, stored).ok_or_else(not_sealed)?;
        stored.as_slice()
    } else {
        field
    };
    match lens.unseal(bytes, &opening.stored, plain)? {
        Unsealed::Plain(column) => {
            let (shown, own) = (opening.shown, column.logical);
            // Modifiers cut values only in casts; those of the column's own are obeyed already.
            if shown != own && shown != own.without_modifiers() {
                let value = Value::from_send_form(std::mem::take(&mut **plain));
                let casted = cast(&value, own, shown, lens.settings).map_err(input_refusal)?;
                plain.extend_from_slice(casted.as_bytes());
            }
            if opening.format == 0 {
                shown
                    .output(plain, lens.settings, out)
                    .map_err(|_| damaged("Its plaintext is no value of its type."))?;
            } else if shown.is_stored_otherwise() {
                shown
                    .send(plain, out)
                    .map_err(|_| damaged("Its plaintext is no value of its type."))?;
            } else {
                std::mem::swap(&mut **plain, &mut **out);
            }
        }
        Unsealed::Masked(masked) => out.extend_from_slice(masked.as_bytes()),
        Unsealed::Null => return Ok(Opened::Null),
        Unsealed::NeedsKey(key) => return Ok(Opened::NeedsKey(key)),
    }
    Ok(Opened::Shown)
}

/// Buffers for opening, zeroized when the session ends.
#[derive(Default)]
pub struct Scratch {
    pub(super) stored: Vec<u8>,
    pub(super) plain: zeroize::Zeroizing<Vec<u8>>,
    pub(super) text: zeroize::Zeroizing<Vec<u8>>,
}

impl Scratch {
    /// What [`open_field`] opened last, in the format that the client asked for.
    pub fn shown(&self) -> &[u8] {
        &self.text
    }
}

/// `bytea` output in either form: `\x...` or escape.
pub(super) fn decode_bytea_text(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if let Some(digits) = text.strip_prefix(b"\\x") {
        out.resize(digits.len() / 2, 0);
        return hex::decode_to_slice(digits, out).ok();
    }
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match (byte, tail) {
            (b'\\', [b'\\', tail @ ..]) => {
                out.push(b'\\');
                tail
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                tail
            }
            (b'\\', _) => return None,
            (byte, tail) => {
                out.push(byte);
                tail
            }
        };
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytea_is_read_in_both_of_its_text_forms() {
        for (text, bytes) in [
            (&b"\\x00ff10"[..], Some(vec![0, 255, 16])),
            (b"\\x", Some(vec![])),
            (b"a\\\\b\\001\\377", Some(vec![b'a', b'\\', b'b', 1, 255])),
            (b"\\x0", None),
            (b"\\xzz", None),
            (b"\\9", None),
        ] {
            let mut out = Vec::new();
            let read = decode_bytea_text(text, &mut out).map(|()| out);
            assert_eq!(read, bytes, "{}", String::from_utf8_lossy(text));
        }
    }
}
