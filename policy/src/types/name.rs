//! Names, OIDs and modifiers of logical types. Says nothing about values.

use std::fmt;

use super::{
    Element,
    LogicalType::{self, *},
    interval::{self, Fields},
};

/// A type name that is not a logical type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown type{}", nearest.map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default())]
pub struct UnknownType {
    /// The nearest logical type's name; for a known name with bad modifiers, that name.
    pub nearest: Option<&'static str>,
}

/// Every spelling of every name, and the type it means without modifiers.
const NAMES: [(&str, LogicalType); 44] = [
    ("bool", Bool),
    ("boolean", Bool),
    ("smallint", Int2),
    ("int2", Int2),
    ("int", Int4),
    ("int4", Int4),
    ("integer", Int4),
    ("bigint", Int8),
    ("int8", Int8),
    ("real", Float4),
    ("float4", Float4),
    ("float", Float8),
    ("float8", Float8),
    ("double precision", Float8),
    ("numeric", Numeric(None)),
    ("decimal", Numeric(None)),
    ("dec", Numeric(None)),
    ("text", Text),
    ("varchar", Varchar(None)),
    ("character varying", Varchar(None)),
    ("char varying", Varchar(None)),
    ("bpchar", Bpchar(None)),
    ("char", Bpchar(Some(1))),
    ("character", Bpchar(Some(1))),
    ("bytea", Bytea),
    ("date", Date),
    ("timestamp", Timestamp(None)),
    ("timestamp without time zone", Timestamp(None)),
    ("timestamptz", Timestamptz(None)),
    ("timestamp with time zone", Timestamptz(None)),
    ("time", Time(None)),
    ("time without time zone", Time(None)),
    ("timetz", Timetz(None)),
    ("time with time zone", Timetz(None)),
    ("interval", Interval(None, None)),
    ("inet", Inet),
    ("cidr", Cidr),
    ("macaddr", Macaddr),
    ("macaddr8", Macaddr8),
    ("uuid", Uuid),
    ("json", Json),
    ("jsonb", Jsonb),
    ("nchar", Bpchar(Some(1))),
    ("national character", Bpchar(Some(1))),
];

/// Longest `varchar(n)` and `char(n)`.
const MAX_CHARACTERS: u32 = 10_485_760;
/// `VARHDRSZ`: typmods of varying types count it in.
const HEADER: i32 = 4;
/// How the domains of types that are no enums begin: no type of PostgreSQL's has such a name.
const SEALED: &str = "sealed_";

impl LogicalType {
    /// Reads a type name as SQL spells it, in any case: `varchar(11)`, `character varying (11)`, `timestamp(3) with time zone`.
    pub fn parse(name: &str) -> Result<Self, UnknownType> {
        if let Some(element) = element_name(name) {
            let element = Element::new(Self::parse(element)?);
            return element.map(Array).ok_or(UnknownType { nearest: None });
        }
        let (base, modifiers) = split(name).ok_or(UnknownType {
            nearest: nearest(name),
        })?;
        let known = NAMES.iter().find(|(known, _)| *known == base);
        let (canonical, bare) = match (known, interval_of(&base)) {
            (Some((canonical, bare)), _) => (*canonical, *bare),
            (None, Some(interval)) => ("interval", interval),
            (None, None) => {
                return Err(UnknownType {
                    nearest: nearest(&base),
                });
            }
        };
        let kind = match modifiers {
            None => Some(bare),
            Some(modifiers) => bare.with_modifiers(canonical, &modifiers),
        };
        kind.ok_or(UnknownType {
            nearest: Some(canonical),
        })
    }

    fn with_modifiers(self, name: &str, modifiers: &[i32]) -> Option<Self> {
        let characters = |n: i32| {
            u32::try_from(n)
                .ok()
                .filter(|n| (1..=MAX_CHARACTERS).contains(n))
        };
        match (self, modifiers) {
            (Numeric(_), [precision]) => numeric(*precision, 0),
            (Numeric(_), [precision, scale]) => numeric(*precision, *scale),
            (Varchar(_), [n]) => Some(Varchar(Some(characters(*n)?))),
            (Bpchar(_), [n]) => Some(Bpchar(Some(characters(*n)?))),
            (Timestamp(_), [p]) => Some(Timestamp(decimals(*p))).filter(|_| *p >= 0),
            (Timestamptz(_), [p]) => Some(Timestamptz(decimals(*p))).filter(|_| *p >= 0),
            (Time(_), [p]) => Some(Time(decimals(*p))).filter(|_| *p >= 0),
            (Timetz(_), [p]) => Some(Timetz(decimals(*p))).filter(|_| *p >= 0),
            (Interval(fields, _), [p]) if fields.is_none_or(Fields::has_seconds) => {
                Some(Interval(fields, decimals(*p))).filter(|_| *p >= 0)
            }
            (Float8, [1..=24]) if name == "float" => Some(Float4),
            (Float8, [25..=53]) if name == "float" => Some(Float8),
            _ => None,
        }
    }

    /// The type that an OID and a typmod (-1: none) mean.
    pub fn from_oid(oid: u32, typmod: i32) -> Option<Self> {
        if let Some(one) = Self::of_one(oid, typmod) {
            return Some(one);
        }
        let element = bare_types().find(|kind| kind.array_oid() == oid)?;
        Element::new(Self::of_one(element.oid(), typmod)?).map(Array)
    }

    /// The same of types that are no arrays.
    pub(super) fn of_one(oid: u32, typmod: i32) -> Option<Self> {
        let bare = bare_types().find(|kind| kind.oid() == oid)?;
        if typmod < 0 {
            return Some(bare);
        }
        Some(match bare {
            Numeric(_) => {
                let packed = typmod - HEADER;
                // Eleven bits, sign included.
                let scale = ((packed & 0x7ff) ^ 0x400) - 0x400;
                numeric((packed >> 16) & 0xffff, scale)?
            }
            Varchar(_) => Varchar(Some(u32::try_from(typmod - HEADER).ok()?)),
            Bpchar(_) => Bpchar(Some(u32::try_from(typmod - HEADER).ok()?)),
            Timestamp(_) => Timestamp(decimals(typmod)),
            Timestamptz(_) => Timestamptz(decimals(typmod)),
            Time(_) => Time(decimals(typmod)),
            Timetz(_) => Timetz(decimals(typmod)),
            Interval(..) => {
                let (fields, precision) = interval::from_typmod(typmod)?;
                Interval(fields, precision)
            }
            other => other,
        })
    }

    /// The element type of an array type's OID.
    pub fn from_array_oid(oid: u32) -> Option<Self> {
        bare_types().find(|kind| kind.array_oid() == oid)
    }

    /// OID in `pg_type`.
    pub fn oid(self) -> u32 {
        self.row().1
    }

    /// OID of the array type over it.
    pub fn array_oid(self) -> u32 {
        self.row().2
    }

    /// Bytes of a value on the server, -1 if they vary.
    pub fn typlen(self) -> i16 {
        self.row().3
    }

    /// The domain in schema `pgveil` (without the schema) that stores it.
    pub fn domain(self) -> &'static str {
        self.row().0
    }

    /// `pg_type.typname` of a type that is no array.
    pub fn type_name(self) -> &'static str {
        match self {
            Enum(kind) => kind.name(),
            _ => type_of_domain(self.domain()),
        }
    }

    /// Domain, OID, array OID, length. But for enums a domain is named after its type in `pg_type`.
    fn row(self) -> (&'static str, u32, u32, i16) {
        match self {
            Bool => ("sealed_bool", 16, 1000, 1),
            Int2 => ("sealed_int2", 21, 1005, 2),
            Int4 => ("sealed_int4", 23, 1007, 4),
            Int8 => ("sealed_int8", 20, 1016, 8),
            Float4 => ("sealed_float4", 700, 1021, 4),
            Float8 => ("sealed_float8", 701, 1022, 8),
            Numeric(_) => ("sealed_numeric", 1700, 1231, -1),
            Text => ("sealed_text", 25, 1009, -1),
            Varchar(_) => ("sealed_varchar", 1043, 1015, -1),
            Bpchar(_) => ("sealed_bpchar", 1042, 1014, -1),
            Bytea => ("sealed_bytea", 17, 1001, -1),
            Date => ("sealed_date", 1082, 1182, 4),
            Timestamp(_) => ("sealed_timestamp", 1114, 1115, 8),
            Timestamptz(_) => ("sealed_timestamptz", 1184, 1185, 8),
            Time(_) => ("sealed_time", 1083, 1183, 8),
            Timetz(_) => ("sealed_timetz", 1266, 1270, 12),
            Interval(..) => ("sealed_interval", 1186, 1187, 16),
            Inet => ("sealed_inet", 869, 1041, -1),
            Cidr => ("sealed_cidr", 650, 651, -1),
            Macaddr => ("sealed_macaddr", 829, 1040, 6),
            Macaddr8 => ("sealed_macaddr8", 774, 775, 8),
            Uuid => ("sealed_uuid", 2950, 2951, 16),
            Json => ("sealed_json", 114, 199, -1),
            Jsonb => ("sealed_jsonb", 3802, 3807, -1),
            Enum(kind) => (kind.domain(), kind.oid(), kind.array_oid(), 4),
            // Arrays of arrays are of the same type.
            Array(element) => {
                let oid = element.kind().row().2;
                (domain_of_array(element.kind()), oid, oid, -1)
            }
        }
    }

    /// `atttypmod` of a column of the type, -1 without modifiers.
    pub fn typmod(self) -> i32 {
        match self {
            Numeric(Some((precision, scale))) => {
                (i32::from(precision) << 16 | i32::from(scale) & 0x7ff) + HEADER
            }
            Varchar(Some(n)) | Bpchar(Some(n)) => {
                i32::try_from(n).map_or(-1, |n| n.saturating_add(HEADER))
            }
            Timestamp(Some(p)) | Timestamptz(Some(p)) | Time(Some(p)) | Timetz(Some(p)) => {
                i32::from(p)
            }
            Interval(fields, precision) => interval::typmod((fields, precision)),
            Array(element) => element.kind().typmod(),
            _ => -1,
        }
    }

    /// The name as `format_type` writes it.
    pub fn sql_name(self) -> String {
        match self {
            Bool => "boolean".into(),
            Int2 => "smallint".into(),
            Int4 => "integer".into(),
            Int8 => "bigint".into(),
            Float4 => "real".into(),
            Float8 => "double precision".into(),
            Numeric(Some((precision, scale))) => format!("numeric({precision},{scale})"),
            Varchar(None) => "character varying".into(),
            Varchar(Some(n)) => format!("character varying({n})"),
            Bpchar(Some(n)) => format!("character({n})"),
            Timestamp(None) => "timestamp without time zone".into(),
            Timestamp(Some(p)) => format!("timestamp({p}) without time zone"),
            Timestamptz(None) => "timestamp with time zone".into(),
            Timestamptz(Some(p)) => format!("timestamp({p}) with time zone"),
            Time(None) => "time without time zone".into(),
            Time(Some(p)) => format!("time({p}) without time zone"),
            Timetz(None) => "time with time zone".into(),
            Timetz(Some(p)) => format!("time({p}) with time zone"),
            Interval(fields, precision) => interval::sql_name((fields, precision)),
            Array(element) => format!("{}[]", element.kind().sql_name()),
            Enum(kind) => kind.sql_name().into(),
            other => other.type_name().into(),
        }
    }

    /// Whether every value of this type is one of the other as it is: the same, or one with room for more.
    pub fn fits_into(self, wider: Self) -> bool {
        match (self, wider) {
            (Varchar(_), Varchar(None)) | (Numeric(_), Numeric(None)) => true,
            (Varchar(Some(length)), Varchar(Some(most))) => length <= most,
            (Numeric(Some((digits, scale))), Numeric(Some((most, same)))) => {
                scale == same && digits <= most
            }
            _ => self == wider,
        }
    }

    /// The same type without modifiers: what an operand of a comparison is read as.
    pub fn without_modifiers(self) -> Self {
        match self {
            Numeric(_) => Numeric(None),
            Varchar(_) => Varchar(None),
            Bpchar(_) => Bpchar(None),
            Timestamp(_) => Timestamp(None),
            Timestamptz(_) => Timestamptz(None),
            Time(_) => Time(None),
            Timetz(_) => Timetz(None),
            Interval(..) => Interval(None, None),
            Array(element) => Element::new(element.kind().without_modifiers()).map_or(self, Array),
            other => other,
        }
    }
}

impl fmt::Display for LogicalType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sql_name())
    }
}

fn numeric(precision: i32, scale: i32) -> Option<LogicalType> {
    let valid = (1..=1000).contains(&precision) && (-1000..=1000).contains(&scale);
    valid.then_some(Numeric(Some((precision as u16, scale as i16))))
}

/// The name before `[]`, `[3]`, `[][]`: to the server all these are one type.
fn element_name(name: &str) -> Option<&str> {
    let mut rest = name.trim_end();
    let whole = rest;
    while let Some(open) = rest.strip_suffix(']') {
        let size = open.rfind('[')?;
        let digits = open[size + 1..].trim();
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        rest = open[..size].trim_end();
    }
    (rest.len() < whole.len()).then_some(rest)
}

/// What the bare name of a domain says of the type: `numeric` for `sealed_numeric`, `public.mood` for that of an enum.
pub fn type_of_domain(domain: &str) -> &str {
    domain.strip_prefix(SEALED).unwrap_or(domain)
}

/// The domain of arrays of a type: named as SQL writes such an array.
fn domain_of_array(element: LogicalType) -> &'static str {
    match element {
        Bool => "sealed_bool[]",
        Int2 => "sealed_int2[]",
        Int4 => "sealed_int4[]",
        Int8 => "sealed_int8[]",
        Float4 => "sealed_float4[]",
        Float8 => "sealed_float8[]",
        Numeric(_) => "sealed_numeric[]",
        Text => "sealed_text[]",
        Varchar(_) => "sealed_varchar[]",
        Bpchar(_) => "sealed_bpchar[]",
        Bytea => "sealed_bytea[]",
        Date => "sealed_date[]",
        Time(_) => "sealed_time[]",
        Timetz(_) => "sealed_timetz[]",
        Timestamp(_) => "sealed_timestamp[]",
        Timestamptz(_) => "sealed_timestamptz[]",
        Interval(..) => "sealed_interval[]",
        Inet => "sealed_inet[]",
        Cidr => "sealed_cidr[]",
        Macaddr => "sealed_macaddr[]",
        Macaddr8 => "sealed_macaddr8[]",
        Uuid => "sealed_uuid[]",
        Json => "sealed_json[]",
        Jsonb => "sealed_jsonb[]",
        Enum(kind) => kind.array_domain(),
        Array(element) => domain_of_array(element.kind()),
    }
}

/// Decimals of a second; the server warns of more than six, and takes six.
fn decimals(typmod: i32) -> Option<u8> {
    Some(typmod.clamp(0, 6) as u8)
}

/// `interval year to month` without a precision.
fn interval_of(base: &str) -> Option<LogicalType> {
    let fields = Fields::find(base.strip_prefix("interval ")?)?;
    Some(Interval(Some(fields), None))
}

/// Every logical type once, as `pg_type` has it.
fn bare_types() -> impl Iterator<Item = LogicalType> {
    [
        Bool,
        Int2,
        Int4,
        Int8,
        Float4,
        Float8,
        Numeric(None),
        Text,
        Varchar(None),
        Bpchar(None),
        Bytea,
        Date,
        Timestamp(None),
        Timestamptz(None),
        Time(None),
        Timetz(None),
        Interval(None, None),
        Inet,
        Cidr,
        Macaddr,
        Macaddr8,
        Uuid,
        Json,
        Jsonb,
    ]
    .into_iter()
}

/// The name in lower case with single blanks, and what stood in parentheses (after the name or, as in
/// `timestamp(3) with time zone`, within it).
fn split(name: &str) -> Option<(String, Option<Vec<i32>>)> {
    let (outside, inside) = match name.split_once('(') {
        None => (name.to_owned(), None),
        Some((before, rest)) => {
            let (inside, after) = rest.split_once(')')?;
            (format!("{before} {after}"), Some(inside))
        }
    };
    let words: Vec<String> = outside
        .split_whitespace()
        .map(str::to_ascii_lowercase)
        .collect();
    let joined = words.join(" ");
    let base = joined
        .strip_prefix("pg_catalog.")
        .unwrap_or(&joined)
        .to_owned();
    let numbers = |inside: &str| {
        inside
            .split(',')
            .map(|n| n.trim().parse().ok())
            .collect::<Option<Vec<i32>>>()
    };
    match inside {
        None => Some((base, None)),
        Some(inside) => Some((base, Some(numbers(inside)?))),
    }
}

fn nearest(word: &str) -> Option<&'static str> {
    let word = word
        .split('(')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let score = |name: &str| strsim::jaro_winkler(&word, name);
    let best = NAMES
        .iter()
        .map(|(name, _)| *name)
        .max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) > 0.7).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_names_that_sql_knows() {
        for (name, kind) in [
            ("varchar(11)", Varchar(Some(11))),
            ("Character  Varying (11)", Varchar(Some(11))),
            ("int", Int4),
            ("numeric(10,2)", Numeric(Some((10, 2)))),
            ("decimal( 5 , -2 )", Numeric(Some((5, -2)))),
            ("numeric(3)", Numeric(Some((3, 0)))),
            ("char", Bpchar(Some(1))),
            ("char(3)", Bpchar(Some(3))),
            ("bpchar", Bpchar(None)),
            ("double precision", Float8),
            ("float(24)", Float4),
            ("timestamp(3) with time zone", Timestamptz(Some(3))),
            ("timestamp with time zone", Timestamptz(None)),
            ("timestamptz(0)", Timestamptz(Some(0))),
            ("pg_catalog.int8", Int8),
            ("time(3)", Time(Some(3))),
            ("time with time zone", Timetz(None)),
            ("time(0) with time zone", Timetz(Some(0))),
            ("interval(2)", Interval(None, Some(2))),
            (
                "interval  Day to SECOND (3)",
                Interval(Some(Fields::DayToSecond), Some(3)),
            ),
            ("interval year", Interval(Some(Fields::Year), None)),
            ("inet", Inet),
            ("text[]", Array(Element::new(Text).unwrap())),
            (
                "numeric(10,2)[3][]",
                Array(Element::new(Numeric(Some((10, 2)))).unwrap()),
            ),
            (
                "timestamp(3) with time zone []",
                Array(Element::new(Timestamptz(Some(3))).unwrap()),
            ),
        ] {
            assert_eq!(LogicalType::parse(name), Ok(kind), "{name}");
            assert_eq!(LogicalType::parse(&kind.sql_name()), Ok(kind), "{name}");
            assert_eq!(
                LogicalType::from_oid(kind.oid(), kind.typmod()),
                Some(kind),
                "{name}"
            );
        }
    }

    #[test]
    fn names_the_nearest_of_an_unknown_type() {
        let nearest = |name| LogicalType::parse(name).unwrap_err().nearest;
        assert_eq!(nearest("txt"), Some("text"));
        assert_eq!(nearest("varchr(3)"), Some("varchar"));
        assert_eq!(nearest("varchar(0)"), Some("varchar"));
        assert_eq!(nearest("int4(3)"), Some("int4"));
        assert_eq!(nearest("numeric(1001)"), Some("numeric"));
        assert_eq!(nearest("varchar(3"), Some("varchar"));
        assert_eq!(nearest("???"), None);
    }
}
