//! Logical types: what applications see of a protected column. Text and binary forms exactly as
//! PostgreSQL 15's own input, output, send and receive functions. Knows no key, no statement and no clock.

mod array;
mod binary;
mod boolean;
mod bytea;
mod calendar;
mod computed;
mod convert;
mod date;
mod datetime;
mod document;
mod encoding;
mod enumeration;
mod error;
mod float;
mod holding;
mod integer;
mod interval;
mod json;
mod jsonb;
#[cfg(test)]
mod known_answers;
mod mac;
mod mask;
mod name;
mod network;
mod numeric;
#[cfg(test)]
mod properties;
mod radix;
mod settings;
mod span;
mod text;
mod time_of_day;
mod timed;
mod timestamp;
mod uuid;
mod zone;

use std::{borrow::Cow, fmt};

use zeroize::Zeroizing;

pub use array::Element;
pub use computed::{TextExpression, TextFunction, spelled};
pub use convert::{
    Conversion, Converted, can_cast, cast, convert, has_operator, is_assignable, is_implicit,
};
pub use document::json_string;
pub use enumeration::{Definition, EnumType, Label};
pub use error::{DamagedValue, InputError};
pub use interval::Fields;
pub use json::{Given, Record, Records, records};
pub use mask::mask;
pub use name::{UnknownType, type_of_domain};
pub use settings::FormatSettings;
pub use span::{GivenAs, Number, Span};
pub use timed::TimeStep;

/// A plaintext value of some logical type in that type's binary (send) form; an enum's as `enumeration` says.
/// Not printable; zeroized on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Zeroizing<Vec<u8>>);

impl Value {
    /// Wraps bytes that are known to be a valid send form.
    pub fn from_send_form(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
    /// The send form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}

/// A logical type with its modifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogicalType {
    /// `boolean`
    Bool,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `numeric`, `numeric(p)`, `numeric(p,s)`: `Some((precision, scale))`
    Numeric(Option<(u16, i16)>),
    /// `text`
    Text,
    /// `varchar`, `varchar(n)`: n characters
    Varchar(Option<u32>),
    /// `char(n)`: n characters, blank-padded
    Bpchar(Option<u32>),
    /// `bytea`
    Bytea,
    /// `date`
    Date,
    /// `timestamp`, `timestamp(p)`
    Timestamp(Option<u8>),
    /// `timestamptz`, `timestamptz(p)`
    Timestamptz(Option<u8>),
    /// `time`, `time(p)`
    Time(Option<u8>),
    /// `timetz`, `timetz(p)`
    Timetz(Option<u8>),
    /// `interval`, with fields and decimals of a second
    Interval(Option<Fields>, Option<u8>),
    /// `inet`
    Inet,
    /// `cidr`
    Cidr,
    /// `macaddr`
    Macaddr,
    /// `macaddr8`
    Macaddr8,
    /// `uuid`
    Uuid,
    /// `json`
    Json,
    /// `jsonb`
    Jsonb,
    /// An enum type of the database
    Enum(EnumType),
    /// An array of any of the others
    Array(Element),
}

use LogicalType::*;

impl LogicalType {
    /// Reads a text form and applies the modifiers, as the input function does for a column of the type.
    /// For an operand of a comparison, ask the type `without_modifiers`.
    pub fn input(self, text: &[u8], settings: &FormatSettings) -> Result<Value, InputError> {
        let text = encoding::utf8(text)?;
        let bytes = match self {
            Bool => boolean::input(text),
            Int2 | Int4 | Int8 => integer::input(self, text, settings.release),
            Float4 | Float8 => float::input(self, text),
            Numeric(modifiers) => numeric::input(text, modifiers, settings.release),
            Text | Varchar(_) | Bpchar(_) => text::assign(self, text),
            Bytea => bytea::input(text),
            Date => date::input(text, settings),
            Timestamp(_) | Timestamptz(_) => timestamp::input(self, text, settings),
            Time(_) | Timetz(_) => time_of_day::input(self, text, settings),
            Interval(fields, precision) => interval::input(text, (fields, precision), settings),
            Inet | Cidr => network::input(self, text),
            Macaddr | Macaddr8 => mac::input(self, text),
            Uuid => uuid::input(text),
            Json => json::input(text),
            Jsonb => jsonb::input(text),
            Enum(kind) => kind.input(text),
            Array(element) => array::input(element, text, settings),
        }?;
        Ok(Value::from_send_form(bytes))
    }

    /// Reads a binary form and applies the modifiers, as the receive function does for a column of the type.
    pub fn recv(self, bytes: &[u8], settings: &FormatSettings) -> Result<Value, InputError> {
        let bytes = match self {
            Bool => boolean::recv(bytes),
            Int2 | Int4 | Int8 => integer::recv(self, bytes),
            Float4 | Float8 => float::recv(self, bytes),
            Numeric(modifiers) => numeric::recv(bytes, modifiers),
            Text | Varchar(_) | Bpchar(_) => text::assign(self, encoding::utf8(bytes)?),
            Bytea => Ok(bytes.to_vec()),
            Date => date::recv(bytes),
            Timestamp(_) | Timestamptz(_) => timestamp::recv(self, bytes),
            Time(_) | Timetz(_) => time_of_day::recv(self, bytes),
            Interval(fields, precision) => interval::recv(bytes, (fields, precision), settings),
            Inet | Cidr => network::recv(self, bytes),
            Macaddr | Macaddr8 => mac::recv(self, bytes),
            Uuid => uuid::recv(bytes),
            Json => json::input(encoding::utf8(bytes)?),
            Jsonb => jsonb::recv(bytes),
            Enum(kind) => kind.recv(bytes),
            Array(element) => array::recv(element, bytes, settings),
        }?;
        Ok(Value::from_send_form(bytes))
    }

    /// Appends the text form of a stored value (the send form) to `out`.
    pub fn output(
        self,
        value: &[u8],
        settings: &FormatSettings,
        out: &mut Vec<u8>,
    ) -> Result<(), DamagedValue> {
        match self {
            Bool => boolean::output(value, out),
            Int2 | Int4 | Int8 => integer::output(self, value, out),
            Float4 | Float8 => float::output(self, value, settings.extra_float_digits, out),
            Numeric(_) => numeric::output(value, out),
            Text | Varchar(_) | Bpchar(_) | Json => {
                out.extend_from_slice(text::read(value)?.as_bytes());
                Ok(())
            }
            Bytea => {
                bytea::output(value, settings.bytea_escape, out);
                Ok(())
            }
            Date => date::output(value, settings, out),
            Timestamp(_) | Timestamptz(_) => timestamp::output(self, value, settings, out),
            Time(_) | Timetz(_) => time_of_day::output(self, value, out),
            Interval(..) => interval::output(value, settings, out),
            Inet | Cidr => network::output(self, value, out),
            Macaddr | Macaddr8 => mac::output(self, value, out),
            Uuid => uuid::output(value, out),
            Array(element) => array::output(element, value, settings, out),
            Enum(kind) => kind.output(value, out),
            Jsonb => {
                out.extend_from_slice(jsonb::read(value)?.as_bytes());
                Ok(())
            }
        }
    }

    /// Appends the binary form of a stored value, as the send function does.
    pub fn send(self, value: &[u8], out: &mut Vec<u8>) -> Result<(), DamagedValue> {
        match self {
            Enum(kind) => kind.output(value, out),
            Array(element) if self.is_stored_otherwise() => array::send(element, value, out),
            _ => {
                out.extend_from_slice(value);
                Ok(())
            }
        }
    }

    /// Whether values are stored in another form than the send form.
    pub fn is_stored_otherwise(self) -> bool {
        match self {
            Enum(_) => true,
            Array(element) => element.kind().is_stored_otherwise(),
            _ => false,
        }
    }

    /// The form that is the same for all values that Postgres's `=` calls equal, and only for them: the input of
    /// equality terms. Of a value that is not a send form, the bytes themselves.
    pub fn canonical(self, value: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Float4 | Float8 => float::canonical(self, value),
            Numeric(_) => numeric::canonical(value),
            Bpchar(_) => text::canonical(self, value),
            Jsonb => jsonb::canonical(value),
            Interval(..) => interval::canonical(value).map_or(Cow::Borrowed(value), Cow::Owned),
            Inet | Cidr => network::canonical(value),
            Array(element) => {
                array::canonical(element, value).map_or(Cow::Borrowed(value), Cow::Owned)
            }
            _ => Cow::Borrowed(value),
        }
    }

    /// The type as which an operand without a type is read when it is compared with a column of this type: Postgres
    /// has no `=` of its own for varchar and cidr.
    pub fn operand(self) -> Self {
        match self.without_modifiers() {
            Varchar(_) => Text,
            Cidr => Inet,
            bare => bare,
        }
    }

    /// Whether the canonical forms of both types are equal exactly if Postgres's `=` calls the values equal.
    pub fn comparable_with(self, other: Self) -> bool {
        let family = |kind: Self| match kind.without_modifiers() {
            Varchar(_) => Text,
            Cidr => Inet,
            bare => bare,
        };
        self.supports_equality() && family(self) == family(other)
    }

    /// Whether a value is its text, in both formats.
    pub fn is_string(self) -> bool {
        matches!(self, Text | Varchar(_) | Bpchar(_))
    }

    /// Whether text forms or casts of the type need the session's time zone.
    pub fn depends_on_time_zone(self) -> bool {
        match self {
            Date | Timestamp(_) | Timestamptz(_) | Time(_) | Timetz(_) => true,
            Array(element) => element.kind().depends_on_time_zone(),
            _ => false,
        }
    }

    /// The type's own name in `pg_catalog`, without modifiers, and its send function; none for types of the database.
    pub fn send_function(self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Bool => ("bool", "boolsend"),
            Int2 => ("int2", "int2send"),
            Int4 => ("int4", "int4send"),
            Int8 => ("int8", "int8send"),
            Float4 => ("float4", "float4send"),
            Float8 => ("float8", "float8send"),
            Numeric(_) => ("numeric", "numeric_send"),
            Text => ("text", "textsend"),
            Varchar(_) => ("varchar", "varcharsend"),
            Bpchar(_) => ("bpchar", "bpcharsend"),
            Bytea => ("bytea", "byteasend"),
            Date => ("date", "date_send"),
            Timestamp(_) => ("timestamp", "timestamp_send"),
            Timestamptz(_) => ("timestamptz", "timestamptz_send"),
            Time(_) => ("time", "time_send"),
            Timetz(_) => ("timetz", "timetz_send"),
            Interval(..) => ("interval", "interval_send"),
            Inet => ("inet", "inet_send"),
            Cidr => ("cidr", "cidr_send"),
            Macaddr => ("macaddr", "macaddr_send"),
            Macaddr8 => ("macaddr8", "macaddr8_send"),
            Uuid => ("uuid", "uuid_send"),
            Json => ("json", "json_send"),
            Jsonb => ("jsonb", "jsonb_send"),
            Enum(_) | Array(_) => return None,
        })
    }

    /// Whether Postgres has `=` for the type: not for json.
    pub fn supports_equality(self) -> bool {
        match self {
            Array(element) => element.kind().supports_equality(),
            Json => false,
            _ => true,
        }
    }

    /// The text of a value as a part of a scope path; only for types whose text form depends on no setting.
    pub fn scope_text(self, value: &Value) -> Option<String> {
        if !matches!(self, Text | Varchar(_) | Int2 | Int4 | Int8 | Uuid | Bool) {
            return None;
        }
        let mut out = Vec::new();
        self.output(value.as_bytes(), &FormatSettings::default(), &mut out)
            .ok()?;
        String::from_utf8(out).ok()
    }
}
