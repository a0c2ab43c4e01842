//! Answers of a real PostgreSQL 15.18 (Debian, UTF-8), or of the release that is named: the send form and the text form of an input, or its error. Never
//! edited, only added to. A test module.

use super::{FormatSettings, LogicalType};

/// Type, one setting that is not the default, input; text and send form, or SQLSTATE and message with `|` and the detail.
type Answer = (
    &'static str,
    &'static str,
    &'static str,
    Result<(&'static str, &'static str), (&'static str, &'static str)>,
);

fn settings(changed: &str) -> FormatSettings {
    let mut settings = FormatSettings::default();
    match changed.split_once('=') {
        None => {}
        Some(("DateStyle", value)) => settings.date_style = value.into(),
        Some(("TimeZone", value)) => settings.time_zone = value.into(),
        Some(("extra_float_digits", value)) => settings.extra_float_digits = value.parse().unwrap(),
        Some(("release", value)) => settings.release = value.parse().unwrap(),
        Some(("bytea_output", value)) => settings.bytea_escape = value == "escape",
        Some((name, _)) => panic!("{name}"),
    }
    settings
}

#[test]
fn answers_as_the_server_answers() {
    for (kind, changed, text, expected) in ANSWERS {
        let label = format!("{kind} {changed} {text:?}");
        let settings = settings(changed);
        let kind = LogicalType::parse(kind).unwrap();
        match (kind.input(text.as_bytes(), &settings), expected) {
            (Ok(value), Ok((shown, sent))) => {
                let mut out = Vec::new();
                kind.output(value.as_bytes(), &settings, &mut out).unwrap();
                assert_eq!(String::from_utf8(out).unwrap(), *shown, "{label}");
                assert_eq!(hex::encode(value.as_bytes()), *sent, "{label}");
                assert_eq!(
                    kind.recv(value.as_bytes(), &settings).unwrap(),
                    value,
                    "{label}"
                );
            }
            (Err(error), Err((sqlstate, message))) => {
                let detail = error
                    .detail
                    .map(|detail| format!("|{detail}"))
                    .unwrap_or_default();
                assert_eq!(
                    (error.sqlstate, format!("{}{detail}", error.message)),
                    (*sqlstate, (*message).into()),
                    "{label}"
                );
            }
            (Ok(_), Err(_)) => panic!("accepted {label}"),
            (Err(error), Ok(_)) => panic!("refused {label}: {}", error.message),
        }
    }
}

#[rustfmt::skip]
const ANSWERS: &[Answer] = &[
    ("bool", "", "t", Ok(("t", "01"))),
    ("bool", "", " TRUE ", Ok(("t", "01"))),
    ("bool", "", "of", Ok(("f", "00"))),
    ("bool", "", "o", Err(("22P02", "invalid input syntax for type boolean: \"o\""))),
    ("bool", "", "", Err(("22P02", "invalid input syntax for type boolean: \"\""))),
    ("smallint", "", "32768", Err(("22003", "value \"32768\" is out of range for type smallint"))),
    ("smallint", "", "-32768", Ok(("-32768", "8000"))),
    ("integer", "", " -7 ", Ok(("-7", "fffffff9"))),
    ("integer", "", "abc", Err(("22P02", "invalid input syntax for type integer: \"abc\""))),
    ("integer", "", "99999999999", Err(("22003", "value \"99999999999\" is out of range for type integer"))),
    ("integer", "", "2147483648x", Err(("22P02", "invalid input syntax for type integer: \"2147483648x\""))),
    ("integer", "", "99999999999x", Err(("22003", "value \"99999999999x\" is out of range for type integer"))),
    ("integer", "", "0x10", Err(("22P02", "invalid input syntax for type integer: \"0x10\""))),
    ("integer", "", "1_000", Err(("22P02", "invalid input syntax for type integer: \"1_000\""))),
    ("bigint", "", "9223372036854775807", Ok(("9223372036854775807", "7fffffffffffffff"))),
    ("bigint", "", "9223372036854775808", Err(("22003", "value \"9223372036854775808\" is out of range for type bigint"))),
    ("double precision", "", "1e20", Ok(("1e+20", "4415af1d78b58c40"))),
    ("double precision", "", "1e-5", Ok(("1e-05", "3ee4f8b588e368f1"))),
    ("double precision", "", "0.0001", Ok(("0.0001", "3f1a36e2eb1c432d"))),
    ("double precision", "", "123456789012345", Ok(("123456789012345", "42dc12218377de40"))),
    ("double precision", "", "1234567890123456", Ok(("1.234567890123456e+15", "43118b54f22aeb00"))),
    ("double precision", "", "-0", Ok(("-0", "8000000000000000"))),
    ("double precision", "", "NaN", Ok(("NaN", "7ff8000000000000"))),
    ("double precision", "", "inf", Ok(("Infinity", "7ff0000000000000"))),
    ("double precision", "", "1e400", Err(("22003", "\"1e400\" is out of range for type double precision"))),
    ("double precision", "", "5e-324", Ok(("5e-324", "0000000000000001"))),
    ("double precision", "", "9007199254740993", Ok(("9.007199254740992e+15", "4340000000000000"))),
    ("double precision", "", "5.9604644775390625e-08", Ok(("5.960464477539063e-08", "3e70000000000000"))),
    ("double precision", "", "2.98023223876953125e-08", Ok(("2.9802322387695312e-08", "3e60000000000000"))),
    ("double precision", "", "19183349975592552", Ok(("1.9183349975592552e+16", "435109c9ee396b9a"))),
    ("double precision", "", "1e5x", Err(("22P02", "invalid input syntax for type double precision: \"1e5x\""))),
    ("double precision", "extra_float_digits=0", "0.1", Ok(("0.1", "3fb999999999999a"))),
    ("double precision", "extra_float_digits=0", "1e15", Ok(("1e+15", "430c6bf526340000"))),
    ("double precision", "extra_float_digits=0", "123456789.123456789", Ok(("123456789.123457", "419d6f34547e6b75"))),
    ("double precision", "extra_float_digits=-12", "0.1", Ok(("0.1", "3fb999999999999a"))),
    ("double precision", "extra_float_digits=-12", "12345", Ok(("1.23e+04", "40c81c8000000000"))),
    ("real", "", "0.1", Ok(("0.1", "3dcccccd"))),
    ("real", "", "1e6", Ok(("1e+06", "49742400"))),
    ("real", "", "100000", Ok(("100000", "47c35000"))),
    ("real", "", "93922944", Ok(("9.3922944e+07", "4cb324d0"))),
    ("real", "", "0.000244140625", Ok(("0.00024414062", "39800000"))),
    ("real", "", "3.5e38", Err(("22003", "\"3.5e38\" is out of range for type real"))),
    ("real", "", " 1e-50 ", Err(("22003", "\" 1e-50 \" is out of range for type real"))),
    ("numeric", "", "1.00", Ok(("1.00", "00010000000000020001"))),
    ("numeric", "", "-0.00", Ok(("0.00", "0000000000000002"))),
    ("numeric", "", "1e5", Ok(("100000", "0001000100000000000a"))),
    ("numeric", "", "1.5e-3", Ok(("0.0015", "0001ffff00000004000f"))),
    ("numeric", "", ".5", Ok(("0.5", "0001ffff000000011388"))),
    ("numeric", "", "5.", Ok(("5", "00010000000000000005"))),
    ("numeric", "", "NaN", Ok(("NaN", "00000000c0000000"))),
    ("numeric", "", "-inf", Ok(("-Infinity", "00000000f0000020"))),
    ("numeric", "", "1e131072", Err(("22003", "value overflows numeric format"))),
    ("numeric", "", "1e", Err(("22P02", "invalid input syntax for type numeric: \"1e\""))),
    ("numeric", "", "00012.3400", Ok(("12.3400", "0002000000000004000c0d48"))),
    ("numeric", "", "1e-16383x", Err(("22P02", "invalid input syntax for type numeric: \"1e-16383x\""))),
    ("numeric(5,2)", "", "1.005", Ok(("1.01", "000200000000000200010064"))),
    ("numeric(5,2)", "", "-1.005", Ok(("-1.01", "000200004000000200010064"))),
    ("numeric(5,2)", "", "999.994", Ok(("999.99", "000200000000000203e726ac"))),
    ("numeric(5,2)", "", "999.995", Err(("22003", "numeric field overflow|A field with precision 5, scale 2 must round to an absolute value less than 10^3."))),
    ("numeric(5,2)", "", "inf", Err(("22003", "numeric field overflow|A field with precision 5, scale 2 cannot hold an infinite value."))),
    ("numeric(5,2)", "", "NaN", Ok(("NaN", "00000000c0000000"))),
    ("numeric(3,-2)", "", "1250", Ok(("1300", "00010000000000000514"))),
    ("numeric(3,-2)", "", "99950", Err(("22003", "numeric field overflow|A field with precision 3, scale -2 must round to an absolute value less than 10^5."))),
    ("numeric(2,4)", "", "0.00994", Ok(("0.0099", "0001ffff000000040063"))),
    ("numeric(2,4)", "", "0.00995", Err(("22003", "numeric field overflow|A field with precision 2, scale 4 must round to an absolute value less than 10^-2."))),
    ("text", "", "", Ok(("", ""))),
    ("text", "", " é ", Ok((" é ", "20c3a920"))),
    ("varchar(3)", "", "ééé", Ok(("ééé", "c3a9c3a9c3a9"))),
    ("varchar(3)", "", "ab  ", Ok(("ab ", "616220"))),
    ("varchar(3)", "", "abcd", Err(("22001", "value too long for type character varying(3)"))),
    ("char(3)", "", "é", Ok(("é  ", "c3a92020"))),
    ("char(3)", "", "ab  ", Ok(("ab ", "616220"))),
    ("char(3)", "", "abcd", Err(("22001", "value too long for type character(3)"))),
    ("bytea", "", "\\x0aFF", Ok(("\\x0aff", "0aff"))),
    ("bytea", "", "a\\\\b\\001", Ok(("\\x615c6201", "615c6201"))),
    ("bytea", "", "\\x0", Err(("22023", "invalid hexadecimal data: odd number of digits"))),
    ("bytea", "", "\\x0g", Err(("22023", "invalid hexadecimal digit: \"g\""))),
    ("bytea", "", "\\400", Err(("22P02", "invalid input syntax for type bytea"))),
    ("bytea", "bytea_output=escape", "\\x0aFF5c41", Ok(("\\012\\377\\\\A", "0aff5c41"))),
    ("uuid", "", "{A0EEBC99-9C0B4EF8-BB6D6BB9BD380A11}", Ok(("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc999c0b4ef8bb6d6bb9bd380a11"))),
    ("uuid", "", "a0eebc999c0b4ef8bb6d6bb9bd380a11", Ok(("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc999c0b4ef8bb6d6bb9bd380a11"))),
    ("uuid", "", "a0eebc99-9c0b4ef8bb6d-6bb9-bd380a1", Err(("22P02", "invalid input syntax for type uuid: \"a0eebc99-9c0b4ef8bb6d-6bb9-bd380a1\""))),
    ("uuid", "", "a-0eebc999c0b4ef8bb6d6bb9bd380a11", Err(("22P02", "invalid input syntax for type uuid: \"a-0eebc999c0b4ef8bb6d6bb9bd380a11\""))),
    ("json", "", " {\"a\" :1.00, \"a\": [ ]}", Ok((" {\"a\" :1.00, \"a\": [ ]}", "207b226122203a312e30302c202261223a205b205d7d"))),
    ("json", "", "{\"a\":}", Err(("22P02", "invalid input syntax for type json|Expected JSON value, but found \"}\"."))),
    ("json", "", "\\u0000", Err(("22P02", "invalid input syntax for type json|Token \"\\\" is invalid."))),
    ("jsonb", "", " {\"bb\":1, \"a\" :1.00, \"a\": [ 1,\"\\u00e9\\n\" ]}", Ok(("{\"a\": [1, \"é\\n\"], \"bb\": 1}", "017b2261223a205b312c2022c3a95c6e225d2c20226262223a20317d"))),
    ("jsonb", "", "{\"a\":1e3,\"b\":-0}", Ok(("{\"a\": 1000, \"b\": 0}", "017b2261223a20313030302c202262223a20307d"))),
    ("jsonb", "", "{\"a\":}", Err(("22P02", "invalid input syntax for type json|Expected JSON value, but found \"}\"."))),
    ("jsonb", "", "\"\\u0000\"", Err(("22P05", "unsupported Unicode escape sequence|\\u0000 cannot be converted to text."))),
    ("jsonb", "", "\"\\ud800\"", Err(("22P02", "invalid input syntax for type json|Unicode low surrogate must follow a high surrogate."))),
    ("date", "", "2020-02-29", Ok(("2020-02-29", "00001cc4"))),
    ("date", "", "2019-02-29", Err(("22008", "date/time field value out of range: \"2019-02-29\""))),
    ("date", "", "1/2/2020", Ok(("2020-01-02", "00001c8a"))),
    ("date", "", "13/1/2020", Err(("22008", "date/time field value out of range: \"13/1/2020\""))),
    ("date", "", "Jan 8, 1999", Ok(("1999-01-08", "fffffe9a"))),
    ("date", "", "8-Jan-99", Ok(("1999-01-08", "fffffe9a"))),
    ("date", "", "19990108", Ok(("1999-01-08", "fffffe9a"))),
    ("date", "", "990108", Ok(("1999-01-08", "fffffe9a"))),
    ("date", "", "1999.008", Ok(("1999-01-08", "fffffe9a"))),
    ("date", "", "Friday January 8 1999", Ok(("1999-01-08", "fffffe9a"))),
    ("date", "", "January 8, 99 BC", Ok(("0099-01-08 BC", "fff44ec0"))),
    ("date", "", "0001-01-01 BC", Ok(("0001-01-01 BC", "fff4da8b"))),
    ("date", "", "epoch", Ok(("1970-01-01", "ffffd533"))),
    ("date", "", "infinity", Ok(("infinity", "7fffffff"))),
    ("date", "", "-INFINITY", Ok(("-infinity", "80000000"))),
    ("date", "release=17", "infinity", Ok(("infinity", "7fffffff"))),
    ("date", "release=17", "-infinity", Ok(("-infinity", "80000000"))),
    ("date", "release=17", "epoch", Ok(("1970-01-01", "ffffd533"))),
    ("timestamp", "release=17", "BC infinity", Ok(("infinity", "7fffffffffffffff"))),
    ("timestamp", "release=17", "infinity pm", Ok(("infinity", "7fffffffffffffff"))),
    ("timestamp", "release=17", "infinity Jan", Err(("22007", "invalid input syntax for type timestamp: \"infinity Jan\""))),
    ("timestamp", "release=17", "infinity 10:00", Err(("22007", "invalid input syntax for type timestamp: \"infinity 10:00\""))),
    ("date", "", "5874897-12-31", Ok(("5874897-12-31", "7fda970c"))),
    ("date", "", "5874898-01-01", Err(("22008", "date out of range: \"5874898-01-01\""))),
    ("date", "", "4714-11-24 BC", Ok(("4714-11-24 BC", "ffda97a7"))),
    ("date", "", "0000-01-01", Err(("22008", "date/time field value out of range: \"0000-01-01\""))),
    ("date", "", "2020-01-01 12:00", Ok(("2020-01-01", "00001c89"))),
    ("date", "", "12:00", Err(("22007", "invalid input syntax for type date: \"12:00\""))),
    ("date", "", "", Err(("22007", "invalid input syntax for type date: \"\""))),
    ("date", "DateStyle=ISO, DMY", "1/2/2020", Ok(("2020-02-01", "00001ca8"))),
    ("date", "DateStyle=ISO, DMY", "13/1/2020", Ok(("2020-01-13", "00001c95"))),
    ("date", "DateStyle=ISO, DMY", "1/13/2020", Err(("22008", "date/time field value out of range: \"1/13/2020\""))),
    ("date", "DateStyle=ISO, YMD", "1/2/03", Ok(("2001-02-03", "0000018f"))),
    ("date", "DateStyle=ISO, YMD", "20/1/2", Ok(("2020-01-02", "00001c8a"))),
    ("date", "DateStyle=ISO, YMD", "1/2/2020", Err(("22008", "date/time field value out of range: \"1/2/2020\""))),
    ("timestamp", "", "2020-01-01 12:34:56.789", Ok(("2020-01-01 12:34:56.789", "00023e1212a88608"))),
    ("timestamp", "", "2020-01-01T24:00:00", Ok(("2020-01-02 00:00:00", "00023e1ba499c000"))),
    ("timestamp", "", "2020-01-01 24:00:01", Err(("22008", "date/time field value out of range: \"2020-01-01 24:00:01\""))),
    ("timestamp", "", "2020-01-01 23:59:60", Ok(("2020-01-02 00:00:00", "00023e1ba499c000"))),
    ("timestamp", "", "2020-01-01 12:34:56.1234565", Ok(("2020-01-01 12:34:56.123456", "00023e12129e5e40"))),
    ("timestamp", "", "20200101T040506", Ok(("2020-01-01 04:05:06", "00023e0af34e2080"))),
    ("timestamp", "", "2020-01-01 04:05 PM", Ok(("2020-01-01 16:05:00", "00023e1501de4300"))),
    ("timestamp", "", "2020-01-01 13:05 PM", Err(("22008", "date/time field value out of range: \"2020-01-01 13:05 PM\""))),
    ("timestamp", "", "2020-01-01 12:00+05", Ok(("2020-01-01 12:00:00", "00023e1195ae1000"))),
    ("timestamp", "", "2020-01-01 12:00 Mars/City", Err(("22023", "time zone \"mars/city\" not recognized"))),
    ("timestamp", "", "294276-12-31 23:59:59.999999", Ok(("294276-12-31 23:59:59.999999", "7fffff5bb3b29fff"))),
    ("timestamp", "", "294277-01-01", Err(("22008", "timestamp out of range: \"294277-01-01\""))),
    ("timestamp", "", "4713-01-01 00:00:00 BC", Ok(("4713-01-01 00:00:00 BC", "fd0f7fbdaf17e000"))),
    ("timestamp", "", "12345-06-07 08:09", Ok(("12345-06-07 08:09:00", "0487db0028e17f00"))),
    ("timestamp", "", "Wed Dec 17 07:37:16 1997", Ok(("1997-12-17 07:37:16", "ffffc57b8b89c300"))),
    ("timestamp", "", "epoch", Ok(("1970-01-01 00:00:00", "fffca2fec4c82000"))),
    ("timestamp", "", "infinity", Ok(("infinity", "7fffffffffffffff"))),
    ("timestamp(0)", "", "2020-01-01 12:34:56.5", Ok(("2020-01-01 12:34:57", "00023e1212abbe40"))),
    ("timestamp(0)", "", "1999-12-31 23:59:59.5", Ok(("1999-12-31 23:59:59", "fffffffffff0bdc0"))),
    ("timestamp(3)", "", "2020-01-01 12:34:56.7895", Ok(("2020-01-01 12:34:56.79", "00023e1212a889f0"))),
    ("timestamp(3)", "", "1999-01-01 00:00:00.0005", Ok(("1999-01-01 00:00:00", "ffffe35173ec2000"))),
    ("timestamptz", "TimeZone=America/New_York", "2020-01-01 12:00", Ok(("2020-01-01 12:00:00-05", "00023e15c6904400"))),
    ("timestamptz", "TimeZone=America/New_York", "2020-07-01 12:00", Ok(("2020-07-01 12:00:00-04", "00024c62271ae000"))),
    ("timestamptz", "TimeZone=America/New_York", "2021-03-14 02:30", Ok(("2021-03-14 03:30:00-04", "00026078de93ee00"))),
    ("timestamptz", "TimeZone=America/New_York", "2021-11-07 01:30", Ok(("2021-11-07 01:30:00-05", "0002732bc63b8a00"))),
    ("timestamptz", "TimeZone=America/New_York", "2020-01-01 12:00Z", Ok(("2020-01-01 07:00:00-05", "00023e1195ae1000"))),
    ("timestamptz", "TimeZone=America/New_York", "2020-01-01 12:00:00.5+05:30", Ok(("2020-01-01 01:30:00.5-05", "00023e0cf989ab20"))),
    ("timestamptz", "TimeZone=America/New_York", "2020-01-01 12:00 Europe/Berlin", Ok(("2020-01-01 06:00:00-05", "00023e10bf1a6c00"))),
    ("timestamptz", "TimeZone=America/New_York", "2020-07-01 12:00 utc-3", Ok(("2020-07-01 05:00:00-04", "00024c5c49116400"))),
    ("timestamptz", "TimeZone=America/New_York", "2020-07-01 12:00 PST", Ok(("2020-07-01 16:00:00-04", "00024c6581697000"))),
    ("timestamptz", "TimeZone=America/New_York", "2020-01-01 12:00+16", Err(("22009", "time zone displacement out of range: \"2020-01-01 12:00+16\""))),
    ("timestamptz", "TimeZone=America/New_York", "1800-01-01 00:00", Ok(("1800-01-01 00:00:00-04:56:02", "ffe993e11ac99c80"))),
    ("timestamptz", "TimeZone=America/New_York", "0044-03-15 12:00 BC", Ok(("0044-03-15 12:00:00-04:56:02 BC", "ff1af9ed1df96c80"))),
    ("timestamptz", "TimeZone=America/New_York", "15000-07-01 00:00", Ok(("15000-07-01 00:00:00-04", "05b185b94e81d000"))),
    ("timestamptz", "TimeZone=America/New_York", "epoch", Ok(("1969-12-31 19:00:00-05", "fffca2fec4c82000"))),
    ("timestamptz", "TimeZone=Asia/Kolkata", "2020-01-01 12:00", Ok(("2020-01-01 12:00:00+05:30", "00023e0cf9820a00"))),
    ("timestamptz", "TimeZone=<+03>-03", "2020-01-01 12:00", Ok(("2020-01-01 12:00:00+03", "00023e0f11f32400"))),
    ("timestamptz", "TimeZone=UTC-3", "2020-01-01 12:00", Ok(("2020-01-01 12:00:00+03", "00023e0f11f32400"))),
    ("timestamptz(0)", "TimeZone=Africa/Monrovia", "1960-01-01 12:00:00.5", Ok(("1960-01-01 12:00:00-00:44:30", "fffb83fba08be780"))),
];
