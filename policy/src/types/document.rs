//! Values as `to_json` and `to_jsonb` write them into a document. Reads no documents.

use super::{
    DamagedValue, FormatSettings,
    LogicalType::{self, *},
    array, jsonb,
};
use crate::plan::Rendering;

impl LogicalType {
    /// Appends what a document holds for a stored value (the send form).
    pub fn json(
        self,
        value: &[u8],
        rendering: Rendering,
        settings: &FormatSettings,
        out: &mut Vec<u8>,
    ) -> Result<(), DamagedValue> {
        match self.without_modifiers() {
            Bool => {
                let mut text = Vec::new();
                self.output(value, settings, &mut text)?;
                out.extend_from_slice(if text == b"t" { b"true" } else { b"false" });
                Ok(())
            }
            Int2 | Int4 | Int8 | Numeric(_) => self.json_number(value, settings, out),
            // `to_jsonb` makes a numeric of it, which is written without an exponent.
            Float4 | Float8 if rendering == Rendering::Jsonb => {
                let mut text = zeroize::Zeroizing::new(Vec::new());
                self.output(value, settings, &mut text)?;
                match Numeric(None).input(&text, settings) {
                    Ok(number) => Numeric(None).json_number(number.as_bytes(), settings, out),
                    Err(_) => Err(DamagedValue),
                }
            }
            Float4 | Float8 => self.json_number(value, settings, out),
            Json if rendering == Rendering::Jsonb => {
                let text = std::str::from_utf8(value).map_err(|_| DamagedValue)?;
                let document =
                    zeroize::Zeroizing::new(jsonb::input(text).map_err(|_| DamagedValue)?);
                Jsonb.output(&document, settings, out)
            }
            Json | Jsonb => self.output(value, settings, out),
            Date | Timestamp(_) | Timestamptz(_) => self.json_date(value, settings, out),
            Array(element) => array::json(element, value, rendering, settings, out),
            Text | Varchar(_) | Bpchar(_) | Bytea | Uuid | Time(_) | Timetz(_) | Interval(..)
            | Inet | Cidr | Macaddr | Macaddr8 | Enum(_) => {
                let mut text = zeroize::Zeroizing::new(Vec::with_capacity(value.len()));
                self.output(value, settings, &mut text)?;
                json_string(&text, out);
                Ok(())
            }
        }
    }

    /// A number as it is printed; `NaN` and the infinities are strings.
    fn json_number(
        self,
        value: &[u8],
        settings: &FormatSettings,
        out: &mut Vec<u8>,
    ) -> Result<(), DamagedValue> {
        let mut text = zeroize::Zeroizing::new(Vec::new());
        self.output(value, settings, &mut text)?;
        if text.last().is_some_and(u8::is_ascii_digit) {
            out.extend_from_slice(&text);
        } else {
            json_string(&text, out);
        }
        Ok(())
    }

    /// ISO 8601 whatever `DateStyle` says: a `T` before the time, and minutes in every offset.
    fn json_date(
        self,
        value: &[u8],
        settings: &FormatSettings,
        out: &mut Vec<u8>,
    ) -> Result<(), DamagedValue> {
        let settings = FormatSettings {
            date_style: "ISO".into(),
            ..settings.clone()
        };
        let mut text = Vec::new();
        self.output(value, &settings, &mut text)?;
        out.push(b'"');
        match self {
            Timestamp(_) | Timestamptz(_) => out.extend_from_slice(&xsd(&text)),
            _ => out.extend_from_slice(&text),
        }
        out.push(b'"');
        Ok(())
    }
}

/// `2024-02-29 12:34:56+00 BC` as `2024-02-29T12:34:56+00:00 BC`.
fn xsd(iso: &[u8]) -> Vec<u8> {
    let Some(space) = iso.iter().position(|byte| *byte == b' ') else {
        // An infinity.
        return iso.to_vec();
    };
    let (date, time) = (&iso[..space], &iso[space + 1..]);
    let end = time
        .iter()
        .position(|byte| *byte == b' ')
        .unwrap_or(time.len());
    let mut out = [date, b"T", &time[..end]].concat();
    let sign = time[..end]
        .iter()
        .position(|byte| matches!(byte, b'+' | b'-'));
    if sign.is_some_and(|sign| end - sign == 3) {
        out.extend_from_slice(b":00");
    }
    out.extend_from_slice(&time[end..]);
    out
}

/// Appends a JSON string, with the escapes that PostgreSQL writes.
pub fn json_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            8 => out.extend_from_slice(b"\\b"),
            9 => out.extend_from_slice(b"\\t"),
            10 => out.extend_from_slice(b"\\n"),
            12 => out.extend_from_slice(b"\\f"),
            13 => out.extend_from_slice(b"\\r"),
            0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            byte => out.push(*byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_values_as_to_json_and_to_jsonb_do() {
        let berlin = FormatSettings {
            time_zone: "Europe/Berlin".into(),
            ..FormatSettings::default()
        };
        // Taken from PostgreSQL 15: `SELECT to_json(v), to_jsonb(v)`.
        for (logical, text, json, jsonb) in [
            (Bool, "yes", "true", "true"),
            (Int8, "-5", "-5", "-5"),
            (Numeric(None), "1.50", "1.50", "1.50"),
            (Numeric(None), "NaN", "\"NaN\"", "\"NaN\""),
            (Float8, "1e20", "1e+20", "100000000000000000000"),
            (Float8, "-Infinity", "\"-Infinity\"", "\"-Infinity\""),
            (Float4, "0.00001", "1e-05", "0.00001"),
            (
                Text,
                "a\"\\\n\u{1}é",
                "\"a\\\"\\\\\\n\\u0001é\"",
                "\"a\\\"\\\\\\n\\u0001é\"",
            ),
            (Bytea, "\\x00ff", "\"\\\\x00ff\"", "\"\\\\x00ff\""),
            (
                Date,
                "0044-03-15 BC",
                "\"0044-03-15 BC\"",
                "\"0044-03-15 BC\"",
            ),
            (Date, "infinity", "\"infinity\"", "\"infinity\""),
            (
                Timestamp(None),
                "2024-02-29 12:34:56.7",
                "\"2024-02-29T12:34:56.7\"",
                "\"2024-02-29T12:34:56.7\"",
            ),
            (
                Timestamptz(None),
                "2024-02-29 12:34:56+00",
                "\"2024-02-29T13:34:56+01:00\"",
                "\"2024-02-29T13:34:56+01:00\"",
            ),
            (
                Timestamptz(None),
                "1800-01-01 00:00:00+00 BC",
                "\"1800-01-01T00:53:28+00:53:28 BC\"",
                "\"1800-01-01T00:53:28+00:53:28 BC\"",
            ),
            (
                Json,
                "{\"b\":1, \"a\":2}",
                "{\"b\":1, \"a\":2}",
                "{\"a\": 2, \"b\": 1}",
            ),
            (
                Jsonb,
                "{\"b\":1, \"a\":2}",
                "{\"a\": 2, \"b\": 1}",
                "{\"a\": 2, \"b\": 1}",
            ),
        ] {
            let value = logical.input(text.as_bytes(), &berlin).unwrap();
            for (rendering, expected) in [(Rendering::Json, json), (Rendering::Jsonb, jsonb)] {
                let mut out = Vec::new();
                logical
                    .json(value.as_bytes(), rendering, &berlin, &mut out)
                    .unwrap();
                assert_eq!(String::from_utf8_lossy(&out), expected, "{logical} {text}");
            }
        }
    }
}
