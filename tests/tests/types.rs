//! Every logical type: text and binary in and out are the server's own, under the session's settings, and bad input has the
//! server's SQLSTATE. Each value is inserted and returned in all formats on a plain and on a protected table.

#[path = "types/declared.rs"]
mod declared;
#[path = "types/generate.rs"]
mod generate;
#[path = "types/values.rs"]
mod values;

use std::sync::OnceLock;

use anyhow::{Result, anyhow, bail};
use pgveil_tests::{
    postgres::TempPostgres,
    twin::{Case, Expect, Sessions, Twin, judge},
    wire::{Bind, Message},
};

use crate::{generate::Generator, values::TYPES};

/// Generated values of each type.
const GENERATED: usize = 60;

fn twin() -> Result<&'static Twin<'static>> {
    static TWIN: OnceLock<Result<Twin<'static>, String>> = OnceLock::new();
    let made = TWIN.get_or_init(|| {
        let (mut schema, mut policy) = (String::new(), String::new());
        for kind in TYPES {
            let (table, sql) = (kind.table, kind.sql);
            schema.push_str(&format!("CREATE TABLE {table} (v {sql});\n"));
            policy.push_str(&format!(
                "public.{table}  scope = \"platform\"  v: {sql}{}\n",
                kind.search()
            ));
        }
        TempPostgres::shared()
            .and_then(|server| Twin::new(server, &schema, &policy, ""))
            .map_err(|error| format!("{error:#}"))
    });
    made.as_ref().map_err(|error| anyhow!("{error}"))
}

/// Both sessions with the same settings.
fn sessions(settings: &[&str]) -> Result<Sessions> {
    let mut sessions = twin()?.sessions("app")?;
    for setting in settings {
        sessions.exchange(&[Message::query(setting)], 1)?;
    }
    Ok(sessions)
}

/// Whether the server reads intervals in 32 bits, and fractions in other steps than later releases: pgveil refuses such ones there
/// (docs/limits.md).
fn is_14() -> Result<bool> {
    static IS_14: OnceLock<bool> = OnceLock::new();
    if let Some(known) = IS_14.get() {
        return Ok(*known);
    }
    let number = twin()?.plain.admin("SHOW server_version_num")?;
    Ok(*IS_14.get_or_init(|| number.trim().starts_with("14")))
}

/// What is wrong with the answer; where it may be refused, with an answer that is neither that nor the server's.
fn fault(sessions: &mut Sessions, case: &Case<'_>, may_refuse: bool) -> Result<Option<String>> {
    match sessions.compare(case, Expect::Same)? {
        Some(_) if may_refuse => sessions.compare(case, Expect::Refused),
        found => Ok(found),
    }
}

/// Stores and returns each value, as a parameter and as a literal.
fn round_trip(sessions: &mut Sessions, table: &str, texts: &[String]) -> Result<()> {
    let mut wrong = Vec::new();
    let may_refuse = table.starts_with("t_interval") && is_14()?;
    let by_parameter = format!("INSERT INTO {table} VALUES ($1) RETURNING v");
    for text in texts {
        let case = Case::with(&by_parameter, &[Some(text.as_str())]);
        wrong.extend(fault(sessions, &case, may_refuse)?);
        let literal = format!(
            "INSERT INTO {table} VALUES ('{}') RETURNING v",
            text.replace('\'', "''")
        );
        wrong.extend(fault(sessions, &Case::new(&literal), may_refuse)?);
    }
    report(wrong)
}

fn report(wrong: Vec<String>) -> Result<()> {
    if wrong.is_empty() {
        Ok(())
    } else {
        bail!("{} values\n\n{}", wrong.len(), wrong.join("\n\n"))
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[test]
fn known_values_go_in_and_out_in_every_format() -> Result<()> {
    let mut sessions = sessions(&[])?;
    for kind in TYPES {
        round_trip(&mut sessions, kind.table, &owned(kind.good))?;
    }
    Ok(())
}

#[test]
fn generated_values_go_in_and_out_in_every_format() -> Result<()> {
    let mut sessions = sessions(&[])?;
    for kind in TYPES {
        let mut generator = Generator::new(kind.table);
        let texts: Vec<String> = (0..GENERATED)
            .map(|_| generator.value(kind.table))
            .collect();
        round_trip(&mut sessions, kind.table, &texts)?;
    }
    Ok(())
}

#[test]
fn bad_input_has_the_servers_sqlstate() -> Result<()> {
    let mut sessions = sessions(&[])?;
    for kind in TYPES {
        round_trip(&mut sessions, kind.table, &owned(kind.bad))?;
    }
    Ok(())
}

#[test]
fn text_follows_the_time_zone_of_the_session() -> Result<()> {
    for zone in [
        "America/New_York",
        "Asia/Kathmandu",
        "UTC",
        "<+03>-03",
        "posixrules",
        "Australia/Lord_Howe",
    ] {
        let mut sessions = sessions(&[&format!("SET TimeZone = '{zone}'")])?;
        for kind in TYPES.iter().filter(|kind| {
            kind.table.starts_with("t_timestamp")
                || matches!(kind.table, "t_date" | "t_time" | "t_timetz")
        }) {
            round_trip(&mut sessions, kind.table, &owned(kind.good))?;
        }
    }
    Ok(())
}

#[test]
fn text_follows_the_float_and_bytea_settings_of_the_session() -> Result<()> {
    for setting in [
        "SET extra_float_digits = 0",
        "SET extra_float_digits = -5",
        "SET extra_float_digits = 3",
        "SET bytea_output = 'escape'",
    ] {
        let mut sessions = sessions(&[setting])?;
        for kind in TYPES
            .iter()
            .filter(|kind| kind.table.starts_with("t_float") || kind.table == "t_bytea")
        {
            round_trip(&mut sessions, kind.table, &owned(kind.good))?;
        }
    }
    Ok(())
}

#[test]
fn intervals_follow_the_style_of_the_session() -> Result<()> {
    for style in ["postgres_verbose", "sql_standard", "iso_8601"] {
        let mut sessions = sessions(&[&format!("SET IntervalStyle = '{style}'")])?;
        for kind in TYPES.iter().filter(|kind| kind.sql.starts_with("interval")) {
            round_trip(&mut sessions, kind.table, &owned(kind.good))?;
        }
    }
    Ok(())
}

#[test]
fn literals_with_a_type_are_what_they_say() -> Result<()> {
    let mut sessions = sessions(&[])?;
    let mut wrong = Vec::new();
    for (table, stored, literal) in [
        ("t_time", "10:00", "time '10:00'"),
        ("t_time", "10:00", "time(0) '10:00:00.4'"),
        ("t_time", "10:00", "interval '10 hours'"),
        ("t_time", "10:00", "time without time zone '10:00'"),
        ("t_timetz", "10:00+02", "timetz '10:00+02'"),
        ("t_timetz", "10:00+02", "time with time zone '10:00+02'"),
        ("t_interval", "1 day", "interval '1' day"),
        ("t_interval", "1 day", "interval '1 day'"),
        (
            "t_interval",
            "1 day 2 hours",
            "interval '1 2:03' day to hour",
        ),
        ("t_interval", "1.2 seconds", "interval '1.23' second(1)"),
        ("t_interval", "1.2 seconds", "interval(1) '1.23'"),
        ("t_interval", "1.2 seconds", "'1.23'::interval(1)"),
        ("t_interval", "1 year", "cast('1' as interval year)"),
        ("t_interval", "1 year", "'1'::interval year"),
        ("t_interval", "10 hours", "time '10:00'"),
        ("t_inet", "10.0.0.1", "inet '10.0.0.1'"),
        ("t_inet", "10.0.0.0/8", "cidr '10.0.0.0/8'"),
        ("t_inet", "10.0.0.0/8", "cidr '10'"),
        ("t_cidr", "10.0.0.0/8", "inet '10.0.0.0/8'"),
        ("t_cidr", "10.0.0.0/8", "'10.0.0.1/8'"),
        ("t_macaddr", "08:00:2b:01:02:03", "macaddr '08002b010203'"),
        ("t_text_array", "{a,b}", "ARRAY['a','b']"),
        ("t_text_array", "{a,b}", "'{a,b}'::text[]"),
        ("t_text_array", "{a,b}", "ARRAY['a','b']::text[]"),
        ("t_text_array", "{\"a\\\"b\",NULL}", "ARRAY['a\"b',NULL]"),
        ("t_text_array", "{{a},{b}}", "ARRAY[['a'],['b']]"),
        ("t_text_array", "{1,2}", "ARRAY[1,2]"),
        ("t_text_array", "{1,2}", "ARRAY[1,2]::text[]"),
        ("t_int4_array", "{1,2}", "ARRAY[1,2]"),
        ("t_int4_array", "{1,2}", "ARRAY['1',2]"),
        ("t_int4_array", "{1,2}", "ARRAY['1','2']"),
        ("t_int4_array", "{1,2}", "ARRAY['1','2']::int[]"),
        ("t_int4_array", "{1,2}", "ARRAY[1,3000000000]"),
        ("t_int4_array", "{1,2}", "ARRAY[1,2]::bigint[]"),
        ("t_numeric_array", "{1.50}", "ARRAY[1.5]"),
        ("t_numeric_array", "{1}", "ARRAY[1]"),
        ("t_varchar_array", "{abc}", "ARRAY['abc']"),
        ("t_varchar_array", "{abc}", "ARRAY['abc']::varchar[]"),
        (
            "t_timestamptz_array",
            "{2024-02-29 12:00+00}",
            "ARRAY['2024-02-29 12:00+00']::timestamptz[]",
        ),
        (
            "t_timestamptz_array",
            "{2024-02-29 12:00+00}",
            "ARRAY['2024-02-29 12:00+00']",
        ),
    ] {
        let sql = format!(
            "WITH s AS (INSERT INTO {table} VALUES ('{stored}') RETURNING v) SELECT count(*) FROM s WHERE v = {literal}"
        );
        wrong.extend(sessions.compare(&Case::new(&sql), Expect::Same)?);
        let sql = format!("INSERT INTO {table} VALUES ({literal}) RETURNING v");
        wrong.extend(sessions.compare(&Case::new(&sql), Expect::Same)?);
    }
    report(wrong)
}

#[test]
fn day_before_month_is_read_as_the_session_says() -> Result<()> {
    for style in ["ISO, DMY", "ISO, MDY", "ISO, YMD"] {
        let mut sessions = sessions(&[&format!("SET DateStyle = '{style}'")])?;
        round_trip(
            &mut sessions,
            "t_date",
            &owned(&[
                "01/02/2003",
                "31/12/2003",
                "12-31-2003",
                "2003-01-02",
                "1-2-3",
            ]),
        )?;
    }
    Ok(())
}

#[test]
fn dates_are_shown_in_the_style_of_the_session() -> Result<()> {
    for style in [
        "German",
        "SQL, DMY",
        "SQL, MDY",
        "Postgres, MDY",
        "Postgres, DMY",
    ] {
        let mut sessions = sessions(&[
            &format!("SET DateStyle = '{style}'"),
            "SET TimeZone = 'America/New_York'",
        ])?;
        for table in ["t_date", "t_timestamp", "t_timestamptz", "t_timetz"] {
            let texts = [
                "2024-02-03 12:34:56.7",
                "2024-07-03 12:34+05:30",
                "0044-03-15 12:00 BC",
            ];
            round_trip(&mut sessions, table, &owned(&texts))?;
        }
    }
    Ok(())
}

#[test]
fn spellings_that_hardly_anybody_uses_are_refused_or_right() -> Result<()> {
    let mut sessions = sessions(&[])?;
    let rare = [
        ("t_date", "J2451187"),
        ("t_date", "today"),
        ("t_date", "yesterday"),
        ("t_timestamp", "J2451187 12:00"),
        ("t_timestamptz", "2024-02-29 12:00 America/New_York BC"),
        ("t_timestamptz", "2024-07-01 12:00:00 EST"),
        ("t_timestamptz", "y2001m02d04"),
        ("t_timestamp", "now"),
        ("t_timestamptz", "tomorrow"),
    ];
    let mut wrong = Vec::new();
    for (table, text) in rare {
        let sql = format!("INSERT INTO {table} VALUES ($1) RETURNING v");
        // What `now` is differs between two servers asked one after the other.
        let expect = if matches!(
            text,
            "today" | "yesterday" | "tomorrow" | "now" | "y2001m02d04"
        ) {
            Expect::Refused
        } else {
            Expect::Same
        };
        let found = sessions.compare(&Case::with(&sql, &[Some(text)]), expect)?;
        wrong.extend(found.filter(|_| text != "now"));
    }
    report(wrong)
}

#[test]
fn binary_forms_that_are_no_values_have_the_servers_sqlstate() -> Result<()> {
    let mut sessions = sessions(&[])?;
    let mut wrong = Vec::new();
    for kind in TYPES {
        for bytes in [
            &b""[..],
            b"\x00",
            b"\x00\x00\x00",
            b"\xff\xff\xff\xff\xff",
            b"\x02",
            b"\x80\x00\x00\x00\x00\x00\x00\x01\xff",
        ] {
            let sql = format!("INSERT INTO {} VALUES ($1) RETURNING v", kind.table);
            let messages = [
                Message::parse("", &sql, &[]),
                Message::bind(&Bind {
                    formats: &[1],
                    params: &[Some(bytes)],
                    ..Bind::default()
                }),
                Message::execute("", 0),
                Message::sync(),
            ];
            sessions.exchange(&[Message::query("begin")], 1)?;
            let (direct, veiled) = sessions.exchange(&messages, 1)?;
            sessions.exchange(&[Message::query("rollback")], 1)?;
            let found = judge(&sql, Expect::Same, &direct, &veiled);
            wrong.extend(found.map(|found| format!("{} {bytes:?}\n{found}", kind.table)));
        }
    }
    report(wrong)
}

#[test]
fn equal_values_are_found_however_they_are_spelt() -> Result<()> {
    let mut sessions = sessions(&[])?;
    let mut wrong = Vec::new();
    for kind in TYPES.iter().filter(|kind| kind.equality) {
        for (stored, asked) in kind.equal {
            let sql = format!(
                "WITH s AS (INSERT INTO {0} VALUES ($1) RETURNING v) SELECT count(*) FROM s WHERE v = $2",
                kind.table
            );
            let case = Case::with(&sql, &[Some(stored), Some(asked)]);
            wrong.extend(sessions.compare(&case, Expect::Same)?);
        }
    }
    report(wrong)
}
