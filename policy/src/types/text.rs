//! `text`, `varchar(n)`, `char(n)`: UTF-8 without NUL. Only deterministic collations: bytes are equality.

use std::borrow::Cow;

use super::{DamagedValue, InputError, LogicalType};

/// Text as it is assigned to a column of the type: blanks beyond the limit are cut, anything else there is
/// `22001`; `char(n)` is padded.
pub(super) fn assign(kind: LogicalType, text: &str) -> Result<Vec<u8>, InputError> {
    match kind {
        LogicalType::Varchar(Some(limit)) => Ok(limited(kind, text, limit)?.as_bytes().to_vec()),
        LogicalType::Bpchar(Some(limit)) => Ok(padded(limited(kind, text, limit)?, limit)),
        _ => Ok(text.as_bytes().to_vec()),
    }
}

/// Text as an explicit cast to the type makes it: cut at the limit.
pub(super) fn cut(kind: LogicalType, text: &str) -> Vec<u8> {
    let upto = |limit: u32| {
        let end = text.char_indices().nth(limit as usize);
        end.map_or(text, |(end, _)| &text[..end])
    };
    match kind {
        LogicalType::Varchar(Some(limit)) => upto(limit).as_bytes().to_vec(),
        LogicalType::Bpchar(Some(limit)) => padded(upto(limit), limit),
        _ => text.as_bytes().to_vec(),
    }
}

/// At most `limit` characters of it.
fn limited(kind: LogicalType, text: &str, limit: u32) -> Result<&str, InputError> {
    let limit = limit as usize;
    if text.len() <= limit {
        return Ok(text);
    }
    let Some((cut, _)) = text.char_indices().nth(limit) else {
        return Ok(text);
    };
    if text[cut..].bytes().any(|byte| byte != b' ') {
        return Err(InputError::new(
            "22001",
            format!("value too long for type {}", kind.sql_name()),
        ));
    }
    Ok(&text[..cut])
}

fn padded(text: &str, width: u32) -> Vec<u8> {
    let blanks = (width as usize).saturating_sub(text.chars().count());
    let mut bytes = Vec::with_capacity(text.len() + blanks);
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(text.len() + blanks, b' ');
    bytes
}

/// The stored text.
pub(super) fn read(value: &[u8]) -> Result<&str, DamagedValue> {
    std::str::from_utf8(value).map_err(|_| DamagedValue)
}

/// Without trailing blanks: what `char(n)` compares, and what it becomes as `text`.
pub(super) fn without_blanks(value: &[u8]) -> &[u8] {
    let end = value
        .iter()
        .rposition(|byte| *byte != b' ')
        .map_or(0, |last| last + 1);
    &value[..end]
}

pub(super) fn canonical(kind: LogicalType, value: &[u8]) -> Cow<'_, [u8]> {
    match kind {
        LogicalType::Bpchar(_) => Cow::Borrowed(without_blanks(value)),
        _ => Cow::Borrowed(value),
    }
}
