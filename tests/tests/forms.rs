//! The types' text and binary forms, canonical forms and errors against the server's own input, output, send and `=`, on
//! generated texts, near-valid ones too, under many settings. No proxy stands between: thousands of values are asked for
//! in one query. `PGVEIL_CASES` is how many per type and setting (a long run: 100000), `PGVEIL_SEED` begins others.

#[path = "forms/grammar.rs"]
mod grammar;
#[path = "forms/numbers.rs"]
mod numbers;
#[path = "forms/server.rs"]
mod server;

use anyhow::{Result, bail};
use pgveil_policy::types::{FormatSettings, LogicalType};
use pgveil_tests::postgres::TempPostgres;

use crate::{
    grammar::Grammar,
    server::{Answer, Server},
};

/// Texts of each type and setting, if nothing else is asked for.
const CASES: usize = 400;
/// Texts of one query.
const BATCH: usize = 5_000;
/// The release whose SQLSTATEs and messages are compared; of others, only whether a text is a value, and which.
const WORD_BY_WORD: u32 = 15;
/// Differences that are shown.
const SHOWN: usize = 40;

fn number(variable: &str, default: usize) -> usize {
    let set = std::env::var(variable).ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What pgveil makes of a text.
fn ours(kind: LogicalType, text: &str, settings: &FormatSettings) -> Answer {
    match kind.input(text.as_bytes(), settings) {
        Err(error) => Answer::Error {
            sqlstate: error.sqlstate.to_owned(),
            message: error.message,
        },
        Ok(value) => {
            let mut out = Vec::new();
            let shown = match kind.output(value.as_bytes(), settings, &mut out) {
                Ok(()) => String::from_utf8_lossy(&out).into_owned(),
                Err(_) => "(damaged)".to_owned(),
            };
            let sent = hex::encode(value.as_bytes());
            match kind.recv(value.as_bytes(), settings) {
                Ok(again) if again == value => {}
                // The server reads offsets that it does not receive.
                Err(error) if error.sqlstate == "22009" => {}
                _ => {
                    return Answer::Value {
                        shown,
                        sent: format!("{sent} is not received"),
                    };
                }
            }
            Answer::Value { shown, sent }
        }
    }
}

/// pgveil may refuse what needs a clock or what versions read differently.
fn is_refusal(answer: &Answer) -> bool {
    matches!(answer, Answer::Error { sqlstate, message } if sqlstate == "0A000" && message.contains("protected column"))
}

struct Tally {
    same: usize,
    refused: usize,
    /// Refused by both as bad input, in other words: releases look at the parts of a text in another order.
    otherwise: usize,
    wrong: Vec<String>,
}

/// Compares texts of one type; returns the good ones.
fn compare(
    server: &mut Server,
    name: &str,
    settings: &FormatSettings,
    texts: &[String],
    tally: &mut Tally,
) -> Result<Vec<String>> {
    let Ok(kind) = LogicalType::parse(name) else {
        bail!("{name} is no logical type");
    };
    let mut good = Vec::new();
    for (text, theirs) in texts.iter().zip(server.ask(name, texts)?) {
        let ours = ours(kind, text, settings);
        if server.reads_otherwise(text) {
            continue;
        }
        if ours.is_like(&theirs, kind == kind.without_modifiers()) {
            tally.same += 1;
            if matches!(ours, Answer::Value { .. }) {
                good.push(text.clone());
            }
        } else if ours.fails_like(&theirs) && settings.release != WORD_BY_WORD {
            tally.otherwise += 1;
        } else if is_refusal(&ours) {
            tally.refused += 1;
        } else {
            let found = format!("{name} {text:?}\n  server {theirs:?}\n  ours   {ours:?}");
            tally.wrong.push(found);
        }
    }
    Ok(good)
}

/// Whether canonical forms are equal exactly where the server says `=`.
fn compare_equality(
    server: &mut Server,
    name: &str,
    settings: &FormatSettings,
    good: &[String],
    tally: &mut Tally,
) -> Result<()> {
    let with_equality =
        |kind: &LogicalType| kind.supports_equality() && *kind == kind.without_modifiers();
    let Some(kind) = LogicalType::parse(name).ok().filter(with_equality) else {
        return Ok(());
    };
    // Neighbours are alike more often than strangers.
    let pairs: Vec<(String, String)> = (1..good.len())
        .flat_map(|at| [(at, at - 1), (at, at * 7919 % good.len())])
        .map(|(one, other)| (good[one].clone(), good[other].clone()))
        .collect();
    let equal = server.equal(name, &pairs)?;
    for ((one, other), theirs) in pairs.iter().zip(equal) {
        let canonical = |text: &str| {
            let value = kind.input(text.as_bytes(), settings).ok()?;
            Some(kind.canonical(value.as_bytes()).into_owned())
        };
        let ours = canonical(one) == canonical(other);
        if ours != theirs {
            tally.wrong.push(format!(
                "{name} {one:?} = {other:?}: the server says {theirs}, we say {ours}"
            ));
        }
    }
    Ok(())
}

/// Scales beyond the precision, and below zero, are PostgreSQL 15's.
fn exists(name: &str, release: u32) -> bool {
    release >= 15 || !matches!(name, "numeric(3,-2)" | "numeric(3,7)" | "numeric(1000,-5)")
}

/// Runs texts of the types under settings; each setting is a list of `name=value`.
fn run(types: &[&str], all_settings: &[&[(&str, &str)]], seed: &str) -> Result<()> {
    let cases = number("PGVEIL_CASES", CASES).div_ceil(all_settings.len());
    let seed = format!("{seed}{}", number("PGVEIL_SEED", 0));
    let database = TempPostgres::shared()?.database()?;
    let mut server = Server::connect(&database.target("app"))?;
    let mut tally = Tally {
        same: 0,
        refused: 0,
        otherwise: 0,
        wrong: Vec::new(),
    };
    for changed in all_settings {
        let settings = server.set(changed)?;
        for name in types.iter().filter(|name| exists(name, settings.release)) {
            let mut grammar = Grammar::new(&format!("{seed}{name}{changed:?}"));
            let mut left = cases;
            while left > 0 {
                let count = left.min(BATCH);
                let texts: Vec<String> = (0..count).map(|_| grammar.text(name)).collect();
                let before = tally.wrong.len();
                let good = compare(&mut server, name, &settings, &texts, &mut tally)?;
                compare_equality(&mut server, name, &settings, &good, &mut tally)?;
                if tally.wrong.len() > before {
                    tally.wrong[before].push_str(&format!("\n  under {changed:?}"));
                }
                left -= count;
            }
        }
    }
    eprintln!(
        "{types:?}: {} same, {} refused, {} in other words, {} wrong",
        tally.same,
        tally.refused,
        tally.otherwise,
        tally.wrong.len()
    );
    if tally.wrong.is_empty() {
        return Ok(());
    }
    let shown = tally.wrong.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    bail!("{} differences\n{}", tally.wrong.len(), shown.join("\n"))
}

const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "<+03>-03",
    "EST5EDT,M3.2.0,M11.1.0",
    "Africa/Casablanca",
];

#[test]
fn times_are_read_and_shown_as_the_server_does() -> Result<()> {
    run(
        &["time", "time(2)", "timetz", "timetz(0)"],
        &[
            &[],
            &[("TimeZone", "Asia/Kathmandu"), ("DateStyle", "ISO, DMY")],
            &[("TimeZone", "Europe/Berlin"), ("DateStyle", "ISO, YMD")],
        ],
        "times",
    )
}

#[test]
fn intervals_are_read_and_shown_as_the_server_does() -> Result<()> {
    run(
        &[
            "interval",
            "interval(3)",
            "interval year",
            "interval month",
            "interval day",
            "interval hour",
            "interval minute",
            "interval second(1)",
            "interval year to month",
            "interval day to hour",
            "interval day to minute",
            "interval day to second(2)",
            "interval hour to minute",
            "interval hour to second",
            "interval minute to second",
        ],
        &[
            &[("IntervalStyle", "postgres")],
            &[("IntervalStyle", "postgres_verbose")],
            &[("IntervalStyle", "sql_standard")],
            &[("IntervalStyle", "iso_8601")],
        ],
        "intervals",
    )
}

#[test]
fn addresses_are_read_and_shown_as_the_server_does() -> Result<()> {
    run(
        &["inet", "cidr", "macaddr", "macaddr8", "uuid"],
        &[&[]],
        "addresses",
    )
}

#[test]
fn dates_are_read_and_shown_as_the_server_does() -> Result<()> {
    let settings: Vec<Vec<(&str, &str)>> = ZONES
        .iter()
        .zip(["MDY", "DMY", "YMD"].iter().cycle())
        .map(|(zone, order)| vec![("TimeZone", *zone), ("DateStyle", *order)])
        .collect();
    let settings: Vec<&[(&str, &str)]> = settings.iter().map(Vec::as_slice).collect();
    run(
        &[
            "date",
            "timestamp",
            "timestamp(2)",
            "timestamptz",
            "timestamptz(0)",
        ],
        &settings,
        "dates",
    )
}

#[test]
fn dates_follow_every_style() -> Result<()> {
    let mut settings: Vec<Vec<(&str, &str)>> = Vec::new();
    let mut zones = ZONES.iter().cycle();
    for style in [
        "SQL, MDY",
        "SQL, DMY",
        "SQL, YMD",
        "Postgres, MDY",
        "Postgres, DMY",
        "Postgres, YMD",
        "German, MDY",
        "German, DMY",
        "German, YMD",
        "ISO, YMD",
        "ISO, DMY",
    ] {
        let zone = zones.next().copied().unwrap_or("UTC");
        settings.push(vec![("DateStyle", style), ("TimeZone", zone)]);
    }
    for set in ["India", "Australia"] {
        settings.push(vec![
            ("timezone_abbreviations", set),
            ("DateStyle", "Postgres"),
        ]);
    }
    let settings: Vec<&[(&str, &str)]> = settings.iter().map(Vec::as_slice).collect();
    run(
        &["date", "timestamp", "timestamptz", "timetz"],
        &settings,
        "styles",
    )
}

#[test]
fn arrays_are_read_and_shown_as_the_server_does() -> Result<()> {
    run(
        &[
            "text[]",
            "int4[]",
            "numeric[]",
            "numeric(6,1)[]",
            "bool[]",
            "date[]",
            "timestamptz[]",
            "interval[]",
            "inet[]",
            "float8[]",
            "bytea[]",
            "uuid[]",
            "jsonb[]",
            "time[]",
        ],
        &[
            &[],
            &[
                ("DateStyle", "Postgres, DMY"),
                ("IntervalStyle", "postgres_verbose"),
                ("bytea_output", "escape"),
                ("TimeZone", "Europe/Berlin"),
            ],
        ],
        "arrays",
    )
}

#[test]
fn plain_values_are_read_and_shown_as_the_server_does() -> Result<()> {
    run(
        &[
            "bool",
            "int2",
            "int4",
            "int8",
            "float4",
            "float8",
            "numeric",
            "numeric(10,2)",
            "numeric(3,-2)",
            "numeric(5,5)",
            "numeric(3,7)",
            "numeric(1000,-5)",
            "numeric(1000,1000)",
            "text",
            "bytea",
            "json",
            "jsonb",
        ],
        &[
            &[],
            &[("extra_float_digits", "3"), ("bytea_output", "escape")],
            &[("extra_float_digits", "0")],
            &[("extra_float_digits", "-7")],
            &[("extra_float_digits", "-15")],
        ],
        "plain",
    )
}
