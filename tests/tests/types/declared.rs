//! Parameters that a client declares with another type than the column's, in both formats: for every pair of types, what is
//! stored and what is found is the server's own or refused.

use anyhow::Result;
use pgveil_tests::{
    twin::{Expect, Sessions, judge, send_form},
    wire::{Bind, Message, Reply},
};

use crate::{report, sessions, twin, values::TYPES};

/// Types that a client may declare, by name, with values.
const DECLARED: &[(&str, &[&str])] = &[
    ("bool", &["t", "f"]),
    ("int2", &["7", "-1"]),
    ("int4", &["7", "40000", "-2147483648"]),
    ("int8", &["7", "3000000000", "9007199254740993"]),
    ("float4", &["7", "0.1", "NaN", "1e30"]),
    (
        "float8",
        &["7", "0.1", "-0", "Infinity", "9007199254740992", "1e300"],
    ),
    (
        "numeric",
        &[
            "7.00",
            "0.1",
            "1.5",
            "NaN",
            "123456789012345678901234567890",
            "1.005",
        ],
    ),
    (
        "text",
        &[
            "7",
            "abc",
            "a ",
            "2024-02-29",
            "t",
            "10:00",
            "{1,2}",
            "",
            "longer than five",
        ],
    ),
    ("varchar", &["7", "a ", "abc"]),
    ("bpchar", &["7", "a ", "abc", "abc    "]),
    ("name", &["abc", "7"]),
    ("\"char\"", &["7"]),
    ("oid", &["7"]),
    ("money", &["7.00"]),
    ("bytea", &["\\x37", "\\x616263"]),
    ("date", &["2024-02-29", "infinity", "5874897-12-31"]),
    (
        "timestamp",
        &["2024-02-29 00:00", "2024-03-31 02:30", "infinity"],
    ),
    (
        "timestamptz",
        &["2024-02-29 00:00+00", "2024-10-27 01:30+00", "-infinity"],
    ),
    ("time", &["10:00", "23:59:59.999999"]),
    ("timetz", &["10:00+02", "10:00+00"]),
    ("interval", &["1 day", "10 hours", "-1 mon"]),
    ("inet", &["10.0.0.1", "10.0.0.0/8"]),
    ("cidr", &["10.0.0.0/8"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", &["08:00:2b:ff:fe:01:02:03"]),
    ("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("json", &["7", "{\"a\":1}", "\"abc\""]),
    ("jsonb", &["7", "{\"a\":1}"]),
    ("bit", &["1"]),
    ("text[]", &["{a,b}", "{7}"]),
    ("int4[]", &["{1,2}"]),
    ("int8[]", &["{1,2}", "{3000000000}"]),
    ("numeric[]", &["{1.50}", "{1.005}"]),
    ("varchar[]", &["{abc}", "{abcd}"]),
    ("timestamptz[]", &["{2024-02-29 12:00+00}"]),
    ("date[]", &["{2024-02-29}"]),
];

/// Rows that are there to be found.
const ROWS: usize = 5;

fn oid_of(name: &str) -> Result<u32> {
    let sql = format!("SELECT '{}'::regtype::oid", name.replace('\'', "''"));
    Ok(twin()?.plain.psql("app", &sql)?.trim().parse()?)
}

/// One statement on both sides, in the transaction that is open.
fn ask(
    sessions: &mut Sessions,
    sql: &str,
    oid: u32,
    format: i16,
    value: &[u8],
) -> Result<(Vec<Reply>, Vec<Reply>)> {
    let bind = Bind {
        formats: &[format],
        params: &[Some(value)],
        ..Bind::default()
    };
    let messages = [
        Message::query("savepoint s"),
        Message::parse("", sql, &[oid]),
        Message::describe_statement(""),
        Message::bind(&bind),
        Message::execute("", 0),
        Message::sync(),
        Message::query("rollback to s"),
    ];
    let (mut direct, mut veiled) = sessions.exchange(&messages, 3)?;
    for replies in [&mut direct, &mut veiled] {
        // Without the answers to SAVEPOINT and ROLLBACK TO.
        replies.truncate(replies.len().saturating_sub(2));
        replies.drain(..2);
    }
    Ok((direct, veiled))
}

/// Whether the server took the statement with the declared type.
fn parsed(replies: &[Reply]) -> bool {
    replies.iter().any(|reply| reply.tag == b'1')
}

/// In this zone local times are skipped and doubled.
const ZONE: &str = "SET TimeZone = 'Europe/Berlin'";

#[test]
fn declared_types_are_converted_as_the_server_does() -> Result<()> {
    let mut sessions = sessions(&[ZONE])?;
    let mut plain = pgveil_tests::wire::Wire::connect(&twin()?.plain.target("app"))?;
    plain.query(ZONE)?;
    let mut values = Vec::new();
    for (name, texts) in DECLARED {
        let oid = oid_of(name)?;
        for text in *texts {
            values.push((*name, oid, *text, 0, text.as_bytes().to_vec()));
            if let Some(sent) = send_form(&mut plain, oid, text)? {
                values.push((*name, oid, *text, 1, sent));
            }
        }
    }
    let mut wrong = Vec::new();
    for kind in TYPES {
        let rows: Vec<String> = kind
            .good
            .iter()
            .take(ROWS)
            .map(|text| text.replace('\'', "''"))
            .collect();
        let insert = format!(
            "INSERT INTO {} VALUES ('{}')",
            kind.table,
            rows.join("'), ('")
        );
        sessions.exchange(&[Message::query("begin"), Message::query(&insert)], 2)?;
        let mut statements = vec![format!(
            "INSERT INTO {} VALUES ($1) RETURNING v",
            kind.table
        )];
        if kind.equality {
            statements.push(format!("SELECT v FROM {} WHERE v = $1", kind.table));
            statements.push(format!(
                "SELECT count(*) FROM {} WHERE v = ANY ($1)",
                kind.table
            ));
        }
        for sql in &statements {
            // The type of which every value fails alike, before any is looked at.
            let mut fails = "";
            for (name, oid, text, format, value) in &values {
                if *name == fails {
                    continue;
                }
                if sql.contains("ANY") && !name.ends_with("[]") {
                    continue;
                }
                let (direct, veiled) = ask(&mut sessions, sql, *oid, *format, value)?;
                if !parsed(&direct) && !parsed(&veiled) {
                    fails = *name;
                }
                let found = judge(sql, Expect::Refused, &direct, &veiled);
                wrong.extend(
                    found.map(|found| format!("{sql} {name} {text:?} ({format})\n{found}")),
                );
            }
        }
        sessions.exchange(&[Message::query("rollback")], 1)?;
    }
    report(wrong)
}
