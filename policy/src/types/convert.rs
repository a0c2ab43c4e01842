//! Conversions between logical types: what an assignment stores, and what a comparison means. The casts are
//! `pg_cast`'s; a pair that it does not have is refused as the server refuses it.

mod clocks;
mod compare;
mod explicit;
mod numbers;
mod times;

pub use explicit::{can_cast, cast};

use super::{
    FormatSettings, InputError,
    LogicalType::{self, *},
    Value, array, boolean, json, jsonb, mac, network, numeric, text,
};

/// Why a value is converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// It will be stored (assignment cast).
    Assignment,
    /// It will be compared with `=`.
    Comparison,
}

/// A converted value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Converted {
    /// A value of the wanted type.
    Value(Value),
    /// No value of the wanted type equals it (for example 1.5 as an integer).
    NeverEqual,
}

impl Converted {
    fn from_bytes(bytes: Vec<u8>) -> Self {
        Self::Value(Value::from_send_form(bytes))
    }
}

/// Converts a value of type `from` for a column of type `to`.
///
/// As an assignment it obeys the column's modifiers. As an operand of `=` it does not: a value that the column cannot
/// hold is equal to none of its values.
pub fn convert(
    value: &Value,
    from: LogicalType,
    to: LogicalType,
    why: Conversion,
    settings: &FormatSettings,
) -> Result<Converted, InputError> {
    match why {
        Conversion::Assignment => {
            assign(value.as_bytes(), from, to, settings).map(Converted::from_bytes)
        }
        Conversion::Comparison => compare::operand(value, from, to, settings),
    }
}

/// Types that are assigned to and compared with each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Number,
    Text,
    Timestamp,
    Clock,
    Network,
    /// Only with itself.
    Alone(LogicalType),
}

fn family(kind: LogicalType) -> Family {
    match kind.without_modifiers() {
        Int2 | Int4 | Int8 | Float4 | Float8 | Numeric(_) => Family::Number,
        Text | Varchar(_) | Bpchar(_) => Family::Text,
        Date | Timestamp(_) | Timestamptz(_) => Family::Timestamp,
        Time(_) | Timetz(_) | Interval(..) => Family::Clock,
        Inet | Cidr => Family::Network,
        alone @ (Bool | Bytea | Uuid | Json | Jsonb | Macaddr | Macaddr8 | Enum(_) | Array(_)) => {
            Family::Alone(alone)
        }
    }
}

/// Whether Postgres would assign a value of type `from` to a column of type `to`.
pub fn is_assignable(from: LogicalType, to: LogicalType) -> bool {
    let bare = (from.without_modifiers(), to.without_modifiers());
    match bare {
        // Everything has an assignment cast to the string types.
        (_, Text | Varchar(_) | Bpchar(_)) => true,
        (Json, Jsonb) | (Jsonb, Json) | (Macaddr, Macaddr8) | (Macaddr8, Macaddr) => true,
        (Timestamp(_) | Timestamptz(_), Time(_)) | (Timestamptz(_), Timetz(_)) => true,
        (Interval(..), Timetz(_)) | (Timetz(_), Interval(..)) => false,
        (Array(from), Array(to)) => is_assignable(from.kind(), to.kind()),
        (from, to) => family(from) == family(to),
    }
}

/// Whether Postgres has an `=` for the two types.
pub fn has_operator(one: LogicalType, other: LogicalType) -> bool {
    match (one.without_modifiers(), other.without_modifiers()) {
        (Interval(..), Timetz(_)) | (Timetz(_), Interval(..)) => false,
        (one, other) => family(one) == family(other),
    }
}

/// Whether Postgres casts between two types by itself in any expression, modifiers aside (`pg_cast.castcontext`).
pub fn is_implicit(from: LogicalType, to: LogicalType) -> bool {
    let (from, to) = (from.without_modifiers(), to.without_modifiers());
    match (from, to) {
        _ if from == to => false,
        (Text | Varchar(_) | Bpchar(_), Text | Varchar(_) | Bpchar(_)) => true,
        (Int2, Int4 | Int8) | (Int4, Int8) => true,
        (Int2 | Int4 | Int8, Numeric(_)) => true,
        (Int2 | Int4 | Int8 | Numeric(_), Float4 | Float8) | (Float4, Float8) => true,
        (Date, Timestamp(_) | Timestamptz(_)) | (Timestamp(_), Timestamptz(_)) => true,
        (Time(_), Timetz(_) | Interval(..)) | (Cidr, Inet) => true,
        (Macaddr, Macaddr8) | (Macaddr8, Macaddr) => true,
        _ => false,
    }
}

/// A value that is no send form of the type it is said to be.
fn damaged() -> InputError {
    InputError::binary("incorrect binary data format")
}

fn assign(
    value: &[u8],
    from: LogicalType,
    to: LogicalType,
    settings: &FormatSettings,
) -> Result<Vec<u8>, InputError> {
    if from == to && to.without_modifiers() == to {
        return Ok(value.to_vec());
    }
    match (from, to) {
        (Bpchar(_), Bpchar(_)) => text::assign(to, text::read(value).map_err(|_| damaged())?),
        (_, Text | Varchar(_) | Bpchar(_)) => {
            let text = as_text(value, from, settings)?;
            text::assign(to, &text)
        }
        (Numeric(_), Numeric(modifiers)) => numeric::recv(value, modifiers),
        (
            Int2 | Int4 | Int8 | Float4 | Float8 | Numeric(_),
            Int2 | Int4 | Int8 | Float4 | Float8 | Numeric(_),
        ) => numbers::assign(value, from, to),
        (Date | Timestamp(_) | Timestamptz(_), Date | Timestamp(_) | Timestamptz(_)) => {
            times::assign(value, from, to, settings)
        }
        (
            Time(_) | Timetz(_) | Interval(..) | Timestamp(_) | Timestamptz(_),
            Time(_) | Timetz(_) | Interval(..),
        ) => clocks::assign(value, from, to, settings),
        (Inet | Cidr, Inet | Cidr) => network::assign(value, from, to).map_err(|_| damaged()),
        (Macaddr, Macaddr8) => Ok(mac::widened(value)),
        (Macaddr8, Macaddr) => mac::narrowed(value),
        (Array(from), Array(to)) => array::assign(value, from, to, settings),
        (Json, Jsonb) => jsonb::input(text::read(value).map_err(|_| damaged())?),
        (Jsonb, Json) => json::input(jsonb::read(value).map_err(|_| damaged())?),
        _ if from == to => Ok(value.to_vec()),
        _ => Err(no_assignment(from, to)),
    }
}

fn no_assignment(from: LogicalType, to: LogicalType) -> InputError {
    let (from, to) = (plain_name(from), plain_name(to));
    InputError::new(
        "42804",
        format!("column is of type {to} but expression is of type {from}"),
    )
    .hint("You will need to rewrite or cast the expression.")
}

/// The type's name in errors about types: without modifiers, and `character` for `char(n)`.
fn plain_name(kind: LogicalType) -> String {
    match kind {
        Bpchar(_) => "character".into(),
        _ => kind.without_modifiers().sql_name(),
    }
}

/// What a cast to `text` makes of a value: its text form, but `true` and `false`, and `char(n)` without blanks.
fn as_text(
    value: &[u8],
    from: LogicalType,
    settings: &FormatSettings,
) -> Result<zeroize::Zeroizing<String>, InputError> {
    let mut out = Vec::new();
    match from {
        Bool => {
            let text: &[u8] = if boolean::read(value).map_err(|_| damaged())? {
                b"true"
            } else {
                b"false"
            };
            out.extend_from_slice(text);
        }
        Bpchar(_) => out.extend_from_slice(text::without_blanks(value)),
        Inet => network::write_full(from, value, &mut out).map_err(|_| damaged())?,
        _ => from
            .output(value, settings, &mut out)
            .map_err(|_| damaged())?,
    }
    String::from_utf8(out)
        .map(zeroize::Zeroizing::new)
        .map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(
        from: LogicalType,
        text: &str,
        to: LogicalType,
        why: Conversion,
    ) -> Result<Option<String>, InputError> {
        let settings = FormatSettings {
            time_zone: "Europe/Berlin".into(),
            ..FormatSettings::default()
        };
        let value = from.input(text.as_bytes(), &settings).unwrap();
        Ok(match convert(&value, from, to, why, &settings)? {
            Converted::NeverEqual => None,
            Converted::Value(value) => {
                let mut out = Vec::new();
                to.output(value.as_bytes(), &settings, &mut out).unwrap();
                Some(String::from_utf8(out).unwrap())
            }
        })
    }

    #[test]
    fn assigns_as_the_server_casts() {
        for (from, text, to, stored) in [
            (Int8, "7", Int2, "7"),
            (Float8, "2.5", Int4, "2"),
            (Float8, "3.5", Int4, "4"),
            (Numeric(None), "2.5", Int4, "3"),
            (Numeric(None), "-2.5", Int8, "-3"),
            (Numeric(None), "1.005", Numeric(Some((5, 2))), "1.01"),
            (Float8, "0.1", Numeric(None), "0.1"),
            (Float4, "16777216", Numeric(None), "16777200"),
            (Float8, "1e20", Numeric(None), "100000000000000000000"),
            (Int4, "42", Varchar(Some(5)), "42"),
            (Bool, "t", Text, "true"),
            (Bpchar(Some(5)), "ab", Text, "ab"),
            (Text, "ab", Bpchar(Some(4)), "ab  "),
            (Date, "2020-01-01", Timestamp(None), "2020-01-01 00:00:00"),
            (
                Date,
                "2020-07-01",
                Timestamptz(None),
                "2020-07-01 00:00:00+02",
            ),
            (Timestamp(None), "2020-07-01 12:34:56.7", Date, "2020-07-01"),
            (
                Timestamptz(None),
                "2020-07-01 23:30:00+00",
                Date,
                "2020-07-02",
            ),
            (
                Timestamptz(None),
                "2020-07-01 12:00:00+00",
                Timestamp(None),
                "2020-07-01 14:00:00",
            ),
            (Date, "infinity", Timestamptz(None), "infinity"),
            (Json, "{\"b\":1,\"a\":2}", Jsonb, "{\"a\": 2, \"b\": 1}"),
            (Jsonb, "[1,2]", Json, "[1, 2]"),
        ] {
            let found = run(from, text, to, Conversion::Assignment).unwrap();
            assert_eq!(found.as_deref(), Some(stored), "{from} {text} {to}");
        }
    }

    #[test]
    fn refuses_what_no_assignment_cast_does() {
        for (from, text, to, sqlstate) in [
            (Text, "1", Int4, "42804"),
            (Int4, "1", Bool, "42804"),
            (Uuid, "00000000-0000-0000-0000-000000000000", Bytea, "42804"),
            (Int8, "40000", Int2, "22003"),
            (Float8, "NaN", Int4, "22003"),
            (Numeric(None), "NaN", Int4, "0A000"),
            (Float8, "1e300", Float4, "22003"),
            (Float8, "1e-300", Float4, "22003"),
            (Int4, "100", Numeric(Some((2, 0))), "22003"),
            (Int4, "123456", Varchar(Some(5)), "22001"),
            (Date, "5874897-12-31", Timestamp(None), "22008"),
        ] {
            let error = run(from, text, to, Conversion::Assignment).unwrap_err();
            assert_eq!(error.sqlstate, sqlstate, "{from} {text} {to}");
        }
    }

    #[test]
    fn compares_exactly_or_never() {
        for (from, text, to, operand) in [
            (Int8, "7", Int2, Some("7")),
            (Int8, "70000", Int2, None),
            (Numeric(None), "7.00", Int4, Some("7")),
            (Numeric(None), "7.5", Int4, None),
            (Numeric(None), "NaN", Int4, None),
            (Int4, "7", Numeric(Some((1, 0))), Some("7")),
            (Float8, "7", Int4, Some("7")),
            (Float8, "7.5", Int4, None),
            (Float8, "1e30", Int8, None),
            (Float8, "0.1", Float4, None),
            (Float8, "0.5", Float4, Some("0.5")),
            (Numeric(None), "0.5", Float4, Some("0.5")),
            (Text, "a ", Bpchar(Some(4)), None),
            (Text, "a", Bpchar(Some(4)), Some("a")),
            (Varchar(None), "a ", Bpchar(Some(4)), Some("a ")),
            (Bpchar(Some(4)), "a", Text, Some("a")),
            (Varchar(None), "a ", Text, Some("a ")),
            (
                Timestamp(None),
                "2020-01-01 00:00",
                Date,
                Some("2020-01-01"),
            ),
            (Timestamp(None), "2020-01-01 00:01", Date, None),
            (
                Timestamptz(None),
                "2019-12-31 23:00+00",
                Date,
                Some("2020-01-01"),
            ),
            (Timestamptz(None), "2020-01-01 00:00+00", Date, None),
            (
                Timestamptz(None),
                "2020-01-01 00:00+00",
                Timestamp(None),
                Some("2020-01-01 01:00:00"),
            ),
            (
                Date,
                "2020-01-01",
                Timestamptz(None),
                Some("2020-01-01 00:00:00+01"),
            ),
            (Date, "5874897-12-31", Timestamp(None), None),
        ] {
            let found = run(from, text, to, Conversion::Comparison).unwrap();
            assert_eq!(found.as_deref(), operand, "{from} {text} {to}");
        }
    }

    #[test]
    fn refuses_comparisons_that_are_not_or_cannot_be_answered() {
        for (from, text, to, sqlstate) in [
            (Text, "1", Int4, "42883"),
            (Json, "1", Json, "42883"),
            (Json, "1", Jsonb, "42883"),
            (Bpchar(Some(4)), "a", Varchar(None), "0A000"),
            (Float8, "1e17", Int8, "0A000"),
            (Float8, "0.1", Numeric(None), "0A000"),
            // Two local times in the skipped hour's stead.
            (
                Timestamptz(None),
                "2021-03-28 01:30+00",
                Timestamp(None),
                "0A000",
            ),
        ] {
            let error = run(from, text, to, Conversion::Comparison).unwrap_err();
            assert_eq!(error.sqlstate, sqlstate, "{from} {text} {to}");
        }
    }
}
