//! What holds for every type and any bytes. A test module.

use proptest::prelude::*;

use super::{Conversion, FormatSettings, LogicalType, LogicalType::*, convert};

const TYPES: [LogicalType; 32] = [
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric(None),
    Numeric(Some((6, 2))),
    Numeric(Some((3, -2))),
    Text,
    Varchar(None),
    Varchar(Some(3)),
    Bpchar(None),
    Bpchar(Some(3)),
    Bytea,
    Date,
    Timestamp(None),
    Timestamp(Some(0)),
    Timestamptz(None),
    Timestamptz(Some(3)),
    Time(None),
    Timetz(Some(2)),
    Interval(None, None),
    Interval(Some(super::Fields::DayToSecond), Some(3)),
    Inet,
    Cidr,
    Macaddr,
    Macaddr8,
    Bool,
    Uuid,
    Json,
    Jsonb,
];

fn any_type() -> impl Strategy<Value = LogicalType> {
    (0..TYPES.len()).prop_map(|index| TYPES[index])
}

fn any_settings() -> impl Strategy<Value = FormatSettings> {
    let zones = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "<+0530>-05:30",
        "Mars/City",
        "",
    ];
    let styles = ["ISO, MDY", "ISO, DMY", "ISO, YMD"];
    (0..zones.len(), 0..styles.len(), -15..=3_i32, any::<bool>()).prop_map(
        move |(zone, style, digits, escape)| FormatSettings {
            date_style: styles[style].into(),
            time_zone: zones[zone].into(),
            extra_float_digits: digits,
            bytea_escape: escape,
            release: if escape { 15 } else { 18 },
            ..FormatSettings::default()
        },
    )
}

/// Texts near to what the input functions read.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[0-9+\\-.eE: ]{0,24}",
        "[0-9]{1,5}[-/. ][0-9]{1,2}[-/. ][0-9]{1,4}[ T][0-9:.]{0,15}( ?[A-Za-z/+\\-0-9:]{0,8})?( BC)?",
        "[{}\\[\\]\":,0-9a-z\\\\ ]{0,30}",
        "(Jan|feb|March|now|t|infinity|epoch|am|y|j)?[ -]?[0-9]{0,8}[ :][0-9]{0,4}",
    ]
}

fn shown(kind: LogicalType, value: &[u8], settings: &FormatSettings) -> Vec<u8> {
    let mut out = Vec::new();
    kind.output(value, settings, &mut out).unwrap();
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_make_it_panic(
        kind in any_type(),
        to in any_type(),
        settings in any_settings(),
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        text in any_text(),
    ) {
        let _ = kind.recv(&bytes, &settings);
        let _ = kind.output(&bytes, &settings, &mut Vec::new());
        let _ = kind.canonical(&bytes);
        let _ = kind.input(&bytes, &settings);
        let _ = kind.array_recv(&bytes, &settings);
        let _ = kind.array_input(text.as_bytes(), &settings);
        if let Ok(value) = kind.input(text.as_bytes(), &settings) {
            for why in [Conversion::Assignment, Conversion::Comparison] {
                let _ = convert(&value, kind, to, why, &settings);
            }
        }
        let damaged = super::Value::from_send_form(bytes);
        let _ = convert(&damaged, kind, to, Conversion::Assignment, &settings);
        let _ = convert(&damaged, kind, to, Conversion::Comparison, &settings);
    }

    #[test]
    fn what_is_accepted_reads_back(kind in any_type(), text in any_text()) {
        let settings = FormatSettings::default();
        if let Ok(value) = kind.input(text.as_bytes(), &settings) {
            prop_assert_eq!(&kind.recv(value.as_bytes(), &settings).unwrap(), &value);
            let shown_once = shown(kind, value.as_bytes(), &settings);
            let Ok(again) = kind.input(&shown_once, &settings) else {
                // "Jan-20 0000": PostgreSQL takes a zone that it does not take back.
                prop_assert!(matches!(kind, Timetz(_)), "{:?}", shown_once);
                return Ok(());
            };
            prop_assert_eq!(kind.canonical(again.as_bytes()), kind.canonical(value.as_bytes()));
            prop_assert_eq!(shown(kind, again.as_bytes(), &settings), shown_once);
        }
    }

    #[test]
    fn what_is_received_reads_back(index in 0..TYPES.len(), bytes in prop::collection::vec(any::<u8>(), 16)) {
        let settings = FormatSettings::default();
        let kind = TYPES[index].without_modifiers();
        let length = usize::try_from(kind.typlen()).unwrap_or(bytes.len());
        if let Ok(value) = kind.recv(&bytes[..length], &settings) {
            let text = shown(kind, value.as_bytes(), &settings);
            let again = kind.input(&text, &settings).unwrap();
            prop_assert_eq!(kind.canonical(again.as_bytes()), kind.canonical(value.as_bytes()));
        }
    }

    #[test]
    fn the_canonical_form_is_its_own(kind in any_type(), text in any_text()) {
        // The canonical form of an interval, a sum, is none.
        if let Interval(..) = kind {
            return Ok(());
        }
        if let Ok(value) = kind.input(text.as_bytes(), &FormatSettings::default()) {
            let canonical = kind.canonical(value.as_bytes()).into_owned();
            prop_assert_eq!(&*kind.canonical(&canonical), &canonical[..]);
        }
    }

    #[test]
    fn timestamps_read_back_in_any_zone(seconds in -200_000_000_000_i64..9_000_000_000_000, zone in 0..3_usize) {
        let zone = ["Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"][zone];
        let settings = FormatSettings { time_zone: zone.into(), ..FormatSettings::default() };
        let value = (seconds * 1_000_000).to_be_bytes();
        let text = shown(Timestamptz(None), &value, &settings);
        let again = Timestamptz(None).input(&text, &settings).unwrap();
        prop_assert_eq!(again.as_bytes(), &value);
    }
}
