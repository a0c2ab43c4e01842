//! Which length or precision holds every value of another one as it is, byte for byte.

use super::LogicalType::{self, *};

/// Decimals of a second that times have without a modifier.
const MAX_PRECISION: u8 = 6;

impl LogicalType {
    /// Whether every value of `other` is a value of this type too, in the same bytes: only lengths and precisions differ.
    pub fn holds_all_of(self, other: Self) -> bool {
        match (self, other) {
            (Varchar(mine), Varchar(theirs)) => is_at_least(mine, theirs),
            (Numeric(None), Numeric(_)) => true,
            (Numeric(Some((mine, scale))), Numeric(Some((theirs, same)))) => {
                scale == same && mine >= theirs
            }
            (Timestamp(mine), Timestamp(theirs))
            | (Timestamptz(mine), Timestamptz(theirs))
            | (Time(mine), Time(theirs))
            | (Timetz(mine), Timetz(theirs)) => is_as_precise(mine, theirs),
            (Interval(fields, mine), Interval(same, theirs)) => {
                (fields.is_none() || fields == same) && is_as_precise(mine, theirs)
            }
            (Array(mine), Array(theirs)) => mine.kind().holds_all_of(theirs.kind()),
            // char(n) is padded to its length.
            _ => self == other,
        }
    }
}

fn is_at_least(mine: Option<u32>, theirs: Option<u32>) -> bool {
    match (mine, theirs) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(mine), Some(theirs)) => mine >= theirs,
    }
}

fn is_as_precise(mine: Option<u8>, theirs: Option<u8>) -> bool {
    mine.unwrap_or(MAX_PRECISION) >= theirs.unwrap_or(MAX_PRECISION)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        catalog::Catalog,
        types::{Conversion, Converted, FormatSettings, convert},
    };

    fn parsed(name: &str) -> LogicalType {
        Catalog::default().parse_type(name).unwrap()
    }

    #[test]
    fn longer_and_more_precise_types_hold_shorter_ones() {
        for (wide, narrow) in [
            ("varchar(20)", "varchar(11)"),
            ("varchar", "varchar(11)"),
            ("numeric(12,2)", "numeric(10,2)"),
            ("numeric", "numeric(10,2)"),
            ("timestamp", "timestamp(3)"),
            ("timestamptz(4)", "timestamptz(3)"),
            ("time(6)", "time(0)"),
            ("timetz", "timetz(2)"),
            ("interval", "interval(2)"),
            ("interval", "interval day to second(3)"),
            ("varchar(20)[]", "varchar(11)[]"),
        ] {
            let (wide, narrow) = (parsed(wide), parsed(narrow));
            assert!(wide.holds_all_of(narrow), "{wide} {narrow}");
            assert!(!narrow.holds_all_of(wide), "{narrow} {wide}");
        }
        for (one, other) in [
            ("char(3)", "char(5)"),
            ("numeric(10,2)", "numeric(12,3)"),
            ("text", "varchar(3)"),
            ("int4", "int8"),
            ("interval year", "interval month"),
            ("varchar(3)[]", "varchar(3)"),
        ] {
            let (one, other) = (parsed(one), parsed(other));
            assert!(
                !one.holds_all_of(other) && !other.holds_all_of(one),
                "{one} {other}"
            );
        }
        assert!(parsed("timestamp").holds_all_of(parsed("timestamp(6)")));
    }

    const KINDS: [LogicalType; 14] = [
        Varchar(Some(2)),
        Varchar(Some(4)),
        Varchar(None),
        Numeric(Some((3, 1))),
        Numeric(Some((5, 1))),
        Numeric(None),
        Timestamp(Some(2)),
        Timestamp(Some(5)),
        Time(Some(0)),
        Time(None),
        Timetz(Some(1)),
        Timetz(None),
        Interval(None, Some(1)),
        Interval(None, None),
    ];

    proptest! {
        #[test]
        fn a_value_of_the_narrow_type_is_the_same_in_the_wide_one(
            one in 0..KINDS.len(),
            other in 0..KINDS.len(),
            text in prop_oneof![
                "[a-z ]{0,4}",
                "-?[0-9]{1,3}(\\.[0-9]{1,3})?",
                "20[0-9]{2}-0[1-9]-1[0-9] 1[0-9]:2[0-9]:3[0-9]\\.[0-9]{1,6}",
                "1[0-9]:2[0-9]:3[0-9]\\.[0-9]{1,6}(\\+01)?",
            ],
        ) {
            let (wide, narrow) = (KINDS[one], KINDS[other]);
            let settings = FormatSettings::default();
            if !wide.holds_all_of(narrow) {
                return Ok(());
            }
            if let Ok(value) = narrow.input(text.as_bytes(), &settings) {
                let Ok(Converted::Value(same)) = convert(&value, narrow, wide, Conversion::Assignment, &settings) else {
                    return Err(TestCaseError::fail("it does not fit"));
                };
                prop_assert_eq!(same.as_bytes(), value.as_bytes());
            }
        }
    }
}
