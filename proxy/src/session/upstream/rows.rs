//! One DataRow: its sealed fields opened, everything else copied; or only looked at.

use bytes::{BufMut, BytesMut};
use pgveil_keys::{DekId, Keys};
use pgveil_policy::Refusal;

use super::UpstreamSide;
use crate::{
    frame::FrameReader,
    messages::DataRow,
    session::{
        results::{ResultRules, Rule, is_ciphertext, stray_ciphertext},
        values::{Lens, Opened, Scratch, open_field, open_holder},
    },
};

/// Appends the row with its sealed fields opened. `Some` is a key that must be fetched first; nothing was appended then.
///
/// # Errors
/// As [`open_field`]; `PV003` for ciphertext in a plain field.
pub(super) fn open(
    body: &[u8],
    rules: &ResultRules,
    keys: &Keys,
    scratch: &mut Scratch,
    out: &mut BytesMut,
) -> Result<Option<DekId>, Refusal> {
    let (Some(view), Some(ruleset)) = (&rules.view, &rules.rules) else {
        return Err(stray_ciphertext());
    };
    let row = DataRow::read(body)
        .map_err(|m| Refusal::new("08P01", "malformed-message", m.to_string()))?;
    if row.values().len() != rules.columns.len() {
        return Err(Refusal::new(
            "PV003",
            "witnesses-disagree",
            "the row has another number of columns than its description",
        ));
    }
    let start = out.len();
    out.put_u8(b'D');
    out.put_u32(0);
    out.put_u16(rules.columns.len() as u16);
    for (value, rule) in row.values().zip(&rules.columns) {
        let Some(value) = value else {
            out.put_i32(-1);
            continue;
        };
        match rule {
            Rule::Pass => put_value(out, value),
            Rule::Guard if is_ciphertext(value) => {
                out.truncate(start);
                return Err(stray_ciphertext());
            }
            Rule::Guard => put_value(out, value),
            Rule::Open(_) | Rule::Inside(_) => {
                let lens = |revealed| Lens {
                    rules: ruleset,
                    keys,
                    settings: &view.session.format,
                    revealed,
                    scopes: &view.scopes,
                };
                let opened = match rule {
                    Rule::Open(opening) => {
                        open_field(value, opening, &lens(&opening.revealed), scratch)
                    }
                    Rule::Inside(inside) => open_holder(
                        value,
                        &inside.shape,
                        inside.format,
                        &lens(&inside.revealed),
                        scratch,
                    ),
                    Rule::Pass | Rule::Guard => Err(stray_ciphertext()),
                };
                match opened {
                    Ok(Opened::Shown) => put_value(out, scratch.shown()),
                    Ok(Opened::Null) => out.put_i32(-1),
                    Ok(Opened::NeedsKey(key)) => {
                        out.truncate(start);
                        return Ok(Some(key));
                    }
                    Err(refusal) => {
                        out.truncate(start);
                        return Err(refusal);
                    }
                }
            }
        }
    }
    let length = out.len() - start - 1;
    let Ok(length) = i32::try_from(length) else {
        out.truncate(start);
        return Err(Refusal::new(
            "54000",
            "too-long",
            "the row is too long once it is opened",
        ));
    };
    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
    Ok(None)
}

impl<R, W> UpstreamSide<R, W> {
    /// Has it recorded that rows of this result are not shown as they are.
    pub(super) fn tell_withheld(&mut self, rules: &ResultRules) {
        let told = &mut self.told;
        let anew = { rules.withheld.iter() }.filter(|column| told.insert(**column));
        if anew.count() == 0 {
            return;
        }
        if let Some(ruleset) = &rules.rules {
            let engine = &self.shared.engine;
            engine.withheld.note(&engine.keys, ruleset, &rules.withheld);
        }
    }
}

fn put_value(out: &mut BytesMut, value: &[u8]) {
    out.put_i32(value.len() as i32);
    out.put_slice(value);
}

/// Looks for ciphertext in a row that is relayed.
///
/// # Errors
/// `PV003` if there is some.
pub(super) fn guard<R>(reader: &FrameReader<R>, rules: &ResultRules) -> Result<(), Refusal> {
    let Some(frame) = reader.current() else {
        return Ok(());
    };
    // Nearly every row ends here: neither form of an envelope's first bytes stands anywhere in the frame.
    if memchr::memmem::find(frame.body, b"PGV\x01").is_none()
        && memchr::memmem::find(frame.body, b"\\x50475601").is_none()
    {
        return Ok(());
    }
    let row = DataRow::read(frame.body)
        .map_err(|m| Refusal::new("08P01", "malformed-message", m.to_string()))?;
    for (index, value) in row.values().enumerate() {
        let looked_at = rules.guard_all || !matches!(rules.columns.get(index), Some(Rule::Pass));
        if looked_at && value.is_some_and(is_ciphertext) {
            return Err(stray_ciphertext());
        }
    }
    Ok(())
}
