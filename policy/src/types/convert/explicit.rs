//! Explicit casts (`value::type`) that are done when a value is shown: only those that the server does exactly so and
//! that cannot fail.

use super::{
    super::{
        FormatSettings, InputError,
        LogicalType::{self, *},
        Value, text,
    },
    as_text, assign, damaged,
};

/// Whether `cast` does what the server does for `from::to`.
pub fn can_cast(from: LogicalType, to: LogicalType) -> bool {
    let bare = |logical: LogicalType| logical.without_modifiers();
    match (bare(from), to) {
        // All that there are: for a further type, look at what its own casts do.
        (from, Text | Varchar(_) | Bpchar(_)) => matches!(
            from,
            Bool | Int2
                | Int4
                | Int8
                | Float4
                | Float8
                | Numeric(_)
                | Text
                | Varchar(_)
                | Bpchar(_)
                | Bytea
                | Date
                | Timestamp(_)
                | Timestamptz(_)
                | Uuid
                | Json
                | Jsonb
                | Time(_)
                | Timetz(_)
                | Interval(..)
                | Inet
                | Cidr
                | Macaddr
                | Macaddr8
                | Enum(_)
                | Array(_)
        ),
        (Int2, Int4 | Int8 | Numeric(None) | Float4 | Float8)
        | (Int4, Int8 | Numeric(None) | Float8)
        | (Int8 | Numeric(_), Numeric(None))
        | (Float4, Float8)
        | (Timestamp(_), Date | Timestamp(_))
        | (Timestamptz(_), Date | Timestamp(_) | Timestamptz(_))
        | (Jsonb, Json) => true,
        (from, to) => from == to,
    }
}

/// `value::to`, for pairs that [`can_cast`].
///
/// # Errors
/// For a value that is no send form of `from`, or where the server has no such value either.
pub fn cast(
    value: &Value,
    from: LogicalType,
    to: LogicalType,
    settings: &FormatSettings,
) -> Result<Value, InputError> {
    let from = from.without_modifiers();
    let bytes = match to {
        _ if from == to => value.as_bytes().to_vec(),
        Bpchar(_) if matches!(from, Bpchar(_)) => {
            text::cut(to, text::read(value.as_bytes()).map_err(|_| damaged())?)
        }
        Text | Varchar(_) | Bpchar(_) => text::cut(to, &as_text(value.as_bytes(), from, settings)?),
        _ => assign(value.as_bytes(), from, to, settings)?,
    };
    Ok(Value::from_send_form(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_as_the_server_does() {
        let settings = FormatSettings {
            time_zone: "Europe/Berlin".into(),
            ..FormatSettings::default()
        };
        for (from, text, to, shown) in [
            (Int4, "42", Text, "42"),
            (Int4, "42", Int8, "42"),
            (Int4, "12345", Varchar(Some(3)), "123"),
            (Bool, "t", Text, "true"),
            (Bool, "f", Varchar(None), "false"),
            (Text, "äöüß", Varchar(Some(2)), "äö"),
            (Text, "ab", Bpchar(Some(4)), "ab  "),
            (Bpchar(Some(6)), "ab", Text, "ab"),
            (Bpchar(Some(6)), "abcdef", Bpchar(Some(3)), "abc"),
            (Bpchar(Some(6)), "a", Varchar(None), "a"),
            (Numeric(Some((10, 2))), "1", Numeric(None), "1.00"),
            (
                Timestamptz(None),
                "2020-07-01 23:30:00+00",
                Date,
                "2020-07-02",
            ),
            (Date, "2020-07-01", Text, "2020-07-01"),
            (Jsonb, "{\"a\":1}", Text, "{\"a\": 1}"),
        ] {
            assert!(can_cast(from, to), "{from} {to}");
            let value = from.input(text.as_bytes(), &settings).unwrap();
            let value = cast(&value, from, to, &settings).unwrap();
            let mut out = Vec::new();
            to.output(value.as_bytes(), &settings, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), shown, "{from} {text} {to}");
        }
    }

    #[test]
    fn leaves_casts_that_can_fail_to_the_application() {
        for (from, to) in [
            (Text, Int4),
            (Int8, Int4),
            (Float8, Numeric(None)),
            (Numeric(None), Numeric(Some((3, 1)))),
            (Json, Jsonb),
            (Text, Bytea),
        ] {
            assert!(!can_cast(from, to), "{from} {to}");
        }
    }
}
