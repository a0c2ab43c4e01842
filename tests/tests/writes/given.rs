//! What is computed of a time that the statement gives, in protected columns and as on plaintext: dates, clocks that are set,
//! the ends of time, and intervals that do not say that they are some.

use anyhow::{Result, ensure};
use pgveil_tests::{
    postgres::TempPostgres,
    twin::{Case, Expect, Twin, sqlstate},
    wire::Message,
};

const TABLES: &str = "
    CREATE TABLE stays (
        id int PRIMARY KEY,
        seen timestamptz, seen_short timestamptz(3), day date, local timestamp, clock time,
        made timestamptz DEFAULT '2024-03-30 02:30+01', night date DEFAULT '2024-03-30'
    );
";

const POLICY: &str = r#"
public.stays  scope = "platform"
    seen: timestamptz, search = ["equality"]
    seen_short: timestamptz(3), search = ["equality"]
    day: date, search = ["equality"]
    local: timestamp, search = ["equality"]
    clock: time, search = ["equality"]
"#;

const ROWS: &str = "INSERT INTO stays (id, seen, day, local) VALUES
    (1, '2024-03-31 03:30+02', '2024-03-31', '2024-02-29 12:00'), (2, NULL, NULL, NULL)";

fn twin() -> Result<Twin<'static>> {
    Twin::new(TempPostgres::shared()?, TABLES, POLICY, ROWS)
}

fn told(wrong: Vec<String>) -> Result<()> {
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

#[test]
fn what_is_computed_of_a_given_time_is_what_the_server_computes() -> Result<()> {
    let twin = twin()?;
    let mut sessions = twin.sessions("app")?;
    let mut wrong = Vec::new();
    let times = [
        "2024-03-30 02:30",
        "2024-10-26 02:30:00.123456",
        "2024-01-31 23:59:59.9999996",
        "0044-03-15 12:00 BC",
        "1883-11-18 11:59",
        "infinity",
        "-infinity",
    ];
    for zone in ["UTC", "Europe/Berlin", "America/St_Johns"] {
        let set = format!("SET TIME ZONE '{zone}'");
        sessions.exchange(&[Message::query(&set)], 1)?;
        for sql in [
            "UPDATE stays SET seen = $1::timestamptz + interval '1 day', day = ($1::timestamptz + interval '1 day')::date WHERE id = 1 RETURNING seen, day",
            "UPDATE stays SET seen = $1::timestamptz - interval '1 month 1 day 00:00:00.0004', seen_short = $1::timestamptz + interval '0.0004 s' WHERE id = 1 RETURNING seen, seen_short",
            "UPDATE stays SET seen = date_trunc('month', $1::timestamptz) + '25:00' WHERE id = 1 RETURNING seen",
            "UPDATE stays SET local = ($1::timestamptz AT TIME ZONE 'UTC') + '1 day' WHERE id = 1 RETURNING local",
            "UPDATE stays SET local = '-1 month' + $1::timestamp, seen = $1::timestamp - interval '1 year' WHERE id = 1 RETURNING local, seen",
            "UPDATE stays SET local = date_trunc('week', $1::timestamp) WHERE id = 1 RETURNING local",
        ] {
            for time in times {
                wrong.extend(sessions.compare(&Case::with(sql, &[Some(time)]), Expect::Same)?);
            }
            wrong.extend(sessions.compare(&Case::with(sql, &[None]), Expect::Same)?);
        }
        for sql in [
            "UPDATE stays SET day = $1::date + 1 WHERE id = 1 RETURNING day",
            "UPDATE stays SET seen = 400 + $1::date WHERE id = 1 RETURNING seen",
            "UPDATE stays SET day = $1::date - interval '1 month', local = $1::date + interval '1 hour' WHERE id = 1 RETURNING day, local",
            "UPDATE stays SET seen = date_trunc('quarter', $1::date) WHERE id = 1 RETURNING seen",
            "UPDATE stays SET day = $1::date - 2147483647 WHERE id = 1 RETURNING day",
        ] {
            for day in [
                "2024-02-29",
                "2024-03-31",
                "0001-01-01 BC",
                "infinity",
                "-infinity",
                "x",
            ] {
                wrong.extend(sessions.compare(&Case::with(sql, &[Some(day)]), Expect::Same)?);
            }
            wrong.extend(sessions.compare(&Case::with(sql, &[None]), Expect::Same)?);
        }
        for sql in [
            "UPDATE stays SET seen = '2024-03-30 02:30'::timestamptz + '1 day', day = date '2024-01-31' + interval '1 month' WHERE id = 1 RETURNING seen, day",
            "UPDATE stays SET clock = time '23:30' + interval '01:00', local = timestamp '2024-01-31 12:00' + '1 mon' WHERE id = 1 RETURNING clock, local",
            "SELECT id FROM stays WHERE seen = timestamptz '2024-03-30 02:30+01' + interval '1 day' OR day = '2024-04-01'::date - 1 ORDER BY id",
            "SELECT id FROM stays WHERE local IN ('2024-01-31 12:00'::timestamp + '1 mon', '2024-01-01'::timestamp) ORDER BY id",
        ] {
            wrong.extend(sessions.compare(&Case::new(sql), Expect::Same)?);
        }
    }
    told(wrong)
}

#[test]
fn given_times_are_compared_described_and_used_beside_plain_columns() -> Result<()> {
    let twin = twin()?;
    let mut sessions = twin.sessions("app")?;
    let mut wrong = Vec::new();
    for (sql, params) in [
        (
            "SELECT id FROM stays WHERE day = $1::date + 1 ORDER BY id",
            &["2024-03-30"][..],
        ),
        (
            "SELECT id FROM stays WHERE day = $1::date + $2::int AND seen = $3::timestamptz + $4",
            &["2024-03-30", "1", "2024-03-30 02:30+01", "24:00"],
        ),
        (
            "SELECT id FROM stays WHERE day IN ($1::date + 1, $1::date + 2) ORDER BY id",
            &["2024-03-30"],
        ),
        (
            "SELECT id, COALESCE(day, $1::date + 1), CASE WHEN id = 2 THEN $1::date + 2 ELSE day END FROM stays ORDER BY id",
            &["2024-03-30"],
        ),
        (
            "UPDATE stays SET day = $1::date + 1, night = $1::date + 1 WHERE id = 1 RETURNING day, night",
            &["2024-03-30"],
        ),
        (
            "SELECT id FROM stays WHERE made < $1::timestamptz AND seen = $1::timestamptz - '01:00'::interval",
            &["2024-03-31 04:30+02"],
        ),
        (
            "INSERT INTO stays (id, day) VALUES (3, $1::date + 7), (4, $1::date + 14) RETURNING id, day",
            &["2024-03-30"],
        ),
    ] {
        let params: Vec<_> = params.iter().map(|param| Some(*param)).collect();
        wrong.extend(sessions.compare(&Case::with(sql, &params), Expect::Same)?);
    }
    for sql in [
        "UPDATE stays SET seen = now() + '300000 years' WHERE id = 1",
        "SELECT id FROM stays WHERE seen = now() + '3 months' OR local = '1 day' + LOCALTIMESTAMP",
        "UPDATE stays SET day = now() + '-3 months 1 day' WHERE id = 1",
    ] {
        wrong.extend(sessions.compare(&Case::new(sql), Expect::Same)?);
    }
    // Without the place in the statement: they fail when the value is made.
    for sql in [
        "UPDATE stays SET seen = now() + 'three months' WHERE id = 1",
        "UPDATE stays SET seen = '2024-02-31'::timestamptz + '1 day' WHERE id = 1",
    ] {
        let (direct, veiled) = sessions.exchange(&[Message::query(sql)], 1)?;
        ensure!(
            sqlstate(&veiled).is_some() && sqlstate(&direct) == sqlstate(&veiled),
            "{sql}"
        );
    }
    for (sql, param) in [
        // Errors on plaintext too: several operators, or none.
        ("UPDATE stays SET day = $1::date + '1 day'", "2024-03-30"),
        ("UPDATE stays SET clock = $1::time + '1 day'", "02:30"),
        (
            "UPDATE stays SET seen = $1::timestamptz - '1 day'",
            "2024-03-30",
        ),
        ("UPDATE stays SET day = $1 + 1", "2024-03-30"),
        // Where it is first used, PostgreSQL finds another type.
        (
            "SELECT id FROM stays WHERE made > $1 AND day = $1::date + 1",
            "2024-03-30 12:00",
        ),
        (
            "UPDATE stays SET day = $1::date + 1 WHERE $1 IS NULL",
            "2024-03-30",
        ),
    ] {
        wrong.extend(sessions.compare(&Case::with(sql, &[Some(param)]), Expect::Refused)?);
    }
    told(wrong)
}
