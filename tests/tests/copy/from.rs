//! COPY ... FROM STDIN.

use anyhow::Result;
use pgveil_tests::wire::Message;

use crate::{alone, difference, extended, fail_if_any, twin};

/// A statement, its data, and what shows what came of it.
type Case<'a> = (&'a str, &'a [u8]);

const SHOW: &str = "SELECT id, email, ssn, age, balance, born, code, active, seen, notes, raw, plain FROM people ORDER BY id";

fn same(show: &str, cases: &[Case<'_>]) -> Result<()> {
    let _alone = alone();
    let mut sessions = twin()?.sessions("app")?;
    let mut wrong = Vec::new();
    for (sql, data) in cases {
        for piece in [data.len().max(1), 1, 5] {
            let pieces = data.chunks(piece).map(Message::copy_data);
            let mut simple = vec![Message::query(sql)];
            simple.extend(pieces.clone());
            simple.extend([Message::copy_done(), Message::query(show)]);
            let mut prepared = extended(sql);
            prepared.extend(pieces);
            prepared.extend([Message::copy_done(), Message::sync(), Message::query(show)]);
            for messages in [simple, prepared] {
                let found = difference(&mut sessions, &messages, 2)?;
                let data = String::from_utf8_lossy(data);
                wrong.extend(found.map(|found| format!("{sql}\n{data:?} by {piece}\n{found}")));
            }
        }
    }
    fail_if_any(wrong)
}

#[test]
fn text_is_stored_as_it_would_be() -> Result<()> {
    same(
        SHOW,
        &[
            ("COPY people FROM STDIN", b"10\ta@b\t123\t7\t1.005\t2024-02-29\tab\tt\t2024-01-01 00:00:00+02\t{\"a\": 1}\t\\\\x00ff\tp\n"),
            ("COPY people FROM STDIN", b"10\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n11\t\t\t1\t2\tinfinity\t\tf\tepoch\tnull\t\t\n"),
            ("COPY people (id, email) FROM STDIN", b"10\ta\\tb\\nc\\\\d\\x41\\101\\q\\\te\n11\tlast line without end"),
            ("COPY people (email, id) FROM STDIN", b"one\t10\r\ntwo\t11\r\n"),
            ("COPY people (email, id) FROM STDIN", b"one\t10\rtwo\t11\r"),
            ("COPY people (id, email) FROM STDIN", b"10\ta\\\nb\n11\tc\n"),
            ("COPY people (id, email) FROM STDIN", b"10\ta\n\\.\n11\tb\n"),
            ("COPY people (id, email) FROM STDIN", b"10\ta\n\\."),
            ("COPY people (id, email) FROM STDIN", b"10\ta\n\\.x\n"),
            ("COPY people (id, email) FROM STDIN", b"10\ta\n11\tb\\.\n12\tc\n"),
            ("COPY people (id, email) FROM STDIN", b""),
            ("COPY people (id, email) FROM STDIN (DELIMITER '|', NULL 'nil')", b"10|nil\n11|nil2\n12|a\\|b\n"),
            ("COPY people (id, email) FROM STDIN (NULL '')", b"10\t\n11\t\\N\n"),
            ("COPY people (id, email) FROM STDIN (HEADER)", b"whatever\n10\ta\n"),
            ("COPY people (id, email) FROM STDIN (HEADER MATCH)", b"id\temail\n10\ta\n"),
            ("COPY people (id, email) FROM STDIN (HEADER MATCH)", b"id\tmail\n10\ta\n"),
            ("COPY people (id, email) FROM STDIN (HEADER MATCH)", b"id\n10\ta\n"),
            ("COPY people (id, email) FROM STDIN (HEADER MATCH)", b"id\t\\N\n10\ta\n"),
            ("COPY people (id, email) FROM STDIN DELIMITERS ','", b"10,a\n"),
            ("COPY people (id, email, plain) FROM STDIN WHERE id > 10", b"10\ta\tx\n11\tb\ty\n"),
            ("COPY people (id, email, plain) FROM STDIN WHERE email = 'b' OR email IS NULL", b"10\ta\tx\n11\tb\ty\n12\t\\N\tz\n"),
            ("COPY people (id, plain) FROM STDIN", b"10\tx\n"),
            ("COPY people (id, email) FROM STDIN (FREEZE)", b"10\tx\n"),
        ],
    )
}

#[test]
fn csv_is_stored_as_it_would_be() -> Result<()> {
    same(
        SHOW,
        &[
            (
                "COPY people (id, email, plain) FROM STDIN (FORMAT csv)",
                b"10,a@b,p\n11,\"quoted, \"\"x\"\"\",\"multi\nline\"\n12,,\n13,\"\",\"\"\n",
            ),
            (
                "COPY people (id, email) FROM STDIN CSV",
                b"10,\"multi\nline\r\nend\"\n11,x\n",
            ),
            (
                "COPY people (email, id) FROM STDIN CSV",
                b"\"a\rb\",10\r\nb,11\r\n",
            ),
            (
                "COPY people (id, email) FROM STDIN CSV HEADER",
                b"a,\"b\nc\"\n10,x\n",
            ),
            (
                "COPY people (id, email) FROM STDIN (FORMAT csv, HEADER match)",
                b"\"id\",email\n10,x\n",
            ),
            (
                "COPY people (id, email) FROM STDIN (FORMAT csv, HEADER match)",
                b"id,email,x\n10,x\n",
            ),
            (
                "COPY people (id, email) FROM STDIN (FORMAT csv, DELIMITER ';', QUOTE '''', ESCAPE E'\\\\')",
                b"10;'it\\'s; \\\\ \\x'\n",
            ),
            (
                "COPY people (id, email) FROM STDIN (FORMAT csv, DELIMITER 'x', QUOTE '5', ESCAPE '6')",
                b"10x5axb65c65\n11xplain\n",
            ),
            (
                "COPY people (id, email) FROM STDIN (FORMAT csv, DELIMITER 'a', QUOTE 'f')",
                b"10afxaxf\n11ay\n",
            ),
            (
                "COPY people (id, email) FROM STDIN (FORMAT csv, NULL 'nil')",
                b"10,nil\n11,\"nil\"\n12,\n",
            ),
            (
                "COPY people (id, email) FROM STDIN (FORMAT csv, FORCE_NULL (email))",
                b"10,\"\"\n11,\n12,x\n",
            ),
            (
                "COPY people (id, email) FROM STDIN (FORMAT csv, FORCE_NOT_NULL (email))",
                b"10,\n",
            ),
            (
                "COPY people (id, email) FROM STDIN (FORMAT csv, FORCE_NOT_NULL (email), FORCE_NULL (email))",
                b"10,\n11,\"x\"\n",
            ),
            (
                "COPY people (id, email) FROM STDIN (FORMAT csv, NULL 'n', FORCE_NULL (email))",
                b"10,n\n11,\"n\"\n12,nn\n",
            ),
            (
                "COPY people (id, email) FROM STDIN CSV",
                b"10,a\n\\.\n11,b\n",
            ),
            ("COPY people (id, email) FROM STDIN CSV", b"10,a\n\\.x,b\n"),
            (
                "COPY people (id, email) FROM STDIN CSV",
                b"10,\"unterminated\n11,b\n",
            ),
            (
                "COPY people (id, email) FROM STDIN CSV",
                b"10,a\"b\"c\n11,\"d\"e\"f\"\n",
            ),
            ("COPY people (id, email) FROM STDIN CSV", b"10,last"),
        ],
    )?;
    same(
        "SELECT secret FROM secrets",
        &[
            ("COPY secrets FROM STDIN", b"one\n\n\\N\n"),
            ("COPY secrets FROM STDIN CSV", b"one\n\n\"\"\n\"\\.\"\n"),
            ("COPY secrets FROM STDIN CSV", b"one\n\\.\nignored\n"),
            ("COPY secrets FROM STDIN CSV", b"one\r\n\\.\r\nignored\r\n"),
            ("COPY secrets FROM STDIN CSV", b"\\."),
            (
                "COPY secrets FROM STDIN (FORMAT csv, FORCE_NOT_NULL (secret))",
                b"\n",
            ),
            (
                "COPY secrets FROM STDIN (FORMAT csv, FORCE_NULL (secret))",
                b"\"\"\n",
            ),
        ],
    )
}

#[test]
fn bad_input_is_told_in_the_servers_words_and_lines() -> Result<()> {
    same(
        SHOW,
        &[
            ("COPY people (id, age) FROM STDIN", b"10\t1\n11\tx\n12\t3\n"),
            ("COPY people (id, age) FROM STDIN", b"10\t1\nx\ty\n"),
            ("COPY people (age, id) FROM STDIN", b"1\t10\ny\tx\n"),
            ("COPY people (id, age) FROM STDIN", b"10\t99999999999\n"),
            ("COPY people (id, ssn) FROM STDIN", b"10\tfar too long for that column, and what is more, it is longer than a hundred characters, so that it is cut\n"),
            ("COPY people (id, ssn) FROM STDIN", b"10\tblanks     \n"),
            ("COPY people (id, born) FROM STDIN", b"10\t2024-02-30\n"),
            ("COPY people (id, balance) FROM STDIN", b"10\t99999999999\n"),
            ("COPY people (id, active, seen) FROM STDIN", b"10\tt\tnever\n"),
            ("COPY people (id, raw) FROM STDIN", b"10\t\\\\xzz\n"),
            ("COPY people (id, email) FROM STDIN", b"10\ta\n11\n12\tb\n"),
            ("COPY people (id, email) FROM STDIN", b"10\ta\n11\tb\tc\n12\tb\n"),
            ("COPY people (id, age) FROM STDIN", b"10\tx\ty\n"),
            ("COPY people (id, email) FROM STDIN", b"10\ta\n\n12\tb\n"),
            ("COPY people (id, email) FROM STDIN", b"10\ta\n11\tb\r\n"),
            ("COPY people (id, email) FROM STDIN", b"10\ta\r\n11\tb\n"),
            ("COPY people (id, email) FROM STDIN CSV", b"10,a\n11,b\r\n"),
            ("COPY people (id, email) FROM STDIN CSV", b"10,a\n11,b,c\n"),
            ("COPY people (id, age) FROM STDIN CSV", b"10,1\n11,\"x,\n\"\n"),
            ("COPY people (id, age) FROM STDIN CSV HEADER", b"id,age\n10,1\n11,\n12,x\n"),
            ("COPY people (id, email) FROM STDIN", b"10\ta\n1\tb\n"),
            ("COPY people (id, email) FROM STDIN", b"10\ta\n11\ta\n"),
            ("COPY people (id, email) FROM STDIN", b"10\tada@example.com\n"),
            ("COPY people (id, age) FROM STDIN", b"1\t5\n11\tx\n"),
            ("COPY people (id, email) FROM STDIN", b"10\t\xff\n"),
            ("COPY people (id, email) FROM STDIN", b"10\t\\xff\n"),
            ("COPY people (id, email) FROM STDIN", b"10\t\\000\n"),
            ("COPY people (id, nope) FROM STDIN", b"10\ta\n"),
            ("COPY people (id, doubled, email) FROM STDIN", b"10\t1\ta\n"),
            ("COPY people (id, id, email) FROM STDIN", b"10\t1\ta\n"),
            ("COPY people (id, email) FROM STDIN (FORMAT shiny)", b"10\tcanary\n"),
            ("COPY people (id, email) FROM STDIN (DELIMITER 'ab')", b"10\tcanary\n"),
            ("COPY people (id, email) FROM STDIN (ON_ERROR)", b"10\tcanary\n"),
            ("COPY people (id, email) FROM STDIN WHERE id / 0 > 1", b"10\ta\n"),
        ],
    )?;
    same(
        "SELECT tenant_id, id FROM tenants ORDER BY id",
        &[
            (
                "COPY tenants (tenant_id, body, id) FROM STDIN",
                b"x\tb\t10\n",
            ),
            (
                "COPY tenants (body, tenant_id, id) FROM STDIN",
                b"b\tx\t10\n",
            ),
            (
                "COPY tenants (body, tenant_id, id) FROM STDIN",
                b"\\N\tx\t10\n",
            ),
            (
                "COPY tenants (body, tenant_id, id) FROM STDIN",
                b"b\t7\t2000\n",
            ),
        ],
    )
}

#[test]
fn every_row_is_sealed_for_its_own_scope() -> Result<()> {
    same(
        "SELECT tenant_id, body, id, author FROM tenants ORDER BY id, tenant_id",
        &[
            (
                "COPY tenants FROM STDIN",
                b"11\tone\t10\tada\n12\ttwo\t10\tada\n11\tthree\t11\tada\n\\N\t\\N\t12\t\\N\n",
            ),
            (
                "COPY tenants (body, id, tenant_id) FROM STDIN CSV",
                b"one,10,13\ntwo,11,\"14\"\n,12,\n",
            ),
            (
                "COPY tenants (id, author, tenant_id, body) FROM STDIN WHERE tenant_id = 15 AND body = 'b'",
                b"10\ta\t15\tb\n11\ta\t16\tb\n",
            ),
        ],
    )?;
    same(
        "SELECT id FROM tenants WHERE tenant_id = 11 AND body = 'one'",
        &[(
            "COPY tenants FROM STDIN",
            b"11\tone\t10\tada\n12\tone\t11\tada\n",
        )],
    )
}

fn binary(rows: &[&[Option<&[u8]>]], trailer: bool) -> Vec<u8> {
    let mut data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for row in rows {
        data.extend((row.len() as i16).to_be_bytes());
        for field in *row {
            match field {
                Some(bytes) => {
                    data.extend((bytes.len() as i32).to_be_bytes());
                    data.extend_from_slice(bytes);
                }
                None => data.extend((-1i32).to_be_bytes()),
            }
        }
    }
    if trailer {
        data.extend((-1i16).to_be_bytes());
    }
    data
}

#[test]
fn binary_is_stored_as_it_would_be() -> Result<()> {
    let id = |id: i32| id.to_be_bytes();
    let (ten, eleven) = (id(10), id(11));
    let good: &[&[Option<&[u8]>]] = &[
        &[Some(&ten), Some(b"a\t\\b"), Some(&eleven)],
        &[Some(&eleven), None, None],
    ];
    let mut with_area = binary(good, true);
    with_area[18] = 3;
    with_area.splice(19..19, *b"xyz");
    let mut behind = binary(good, true);
    behind.extend(b"more");
    let mut flags = binary(good, true);
    flags[12] = 1;
    let mut negative = binary(&[&[Some(&ten), None, None]], true);
    negative[19 + 2 + 8..19 + 2 + 12].copy_from_slice(&(-5i32).to_be_bytes());
    let sql = "COPY people (id, email, age) FROM STDIN (FORMAT binary)";
    same(
        SHOW,
        &[
            (sql, &binary(good, true)),
            (sql, &binary(good, false)),
            (
                "COPY BINARY people (id, email, age) FROM STDIN",
                &binary(good, true),
            ),
            (sql, &binary(&[], true)),
            (sql, b""),
            (sql, b"10\ta\t5\n"),
            (sql, &binary(good, true)[..15]),
            (sql, &binary(good, true)[..30]),
            (sql, &with_area),
            (sql, &behind),
            (sql, &flags),
            (sql, &negative),
            (sql, &binary(&[&[Some(&ten), Some(b"x")]], true)),
            (
                sql,
                &binary(&[&[Some(&ten), Some(b"x"), Some(b"12")]], true),
            ),
            (
                sql,
                &binary(&[&[Some(&ten), Some(b"x"), Some(b"12345")]], true),
            ),
            (sql, &binary(&[&[Some(&ten), Some(b"\xff"), None]], true)),
            (sql, &binary(&[&[Some(b"1"), Some(b"x"), Some(b"2")]], true)),
        ],
    )?;
    same(
        "SELECT tenant_id, body, id, author FROM tenants ORDER BY id, tenant_id",
        &[(
            "COPY tenants (body, tenant_id, id) FROM STDIN BINARY",
            &binary(
                &[
                    &[Some(b"x"), Some(&ten), Some(&eleven)],
                    &[Some(b"y"), Some(&eleven), Some(&eleven)],
                ],
                true,
            ),
        )],
    )
}

#[test]
fn options_of_later_releases_are_the_servers() -> Result<()> {
    // Where the server does not know them, it says so of both.
    same(
        SHOW,
        &[
            (
                "COPY people (id, age, email) FROM STDIN (ON_ERROR ignore)",
                b"10\t1\ta\n11\tx\tb\n12\t3\tc\n13\t99999999999\td\n14\t5\te\n",
            ),
            (
                "COPY people (id, age) FROM STDIN (ON_ERROR ignore, LOG_VERBOSITY verbose)",
                b"10\t1\n11\tx\nten\t2\n12\ty\n",
            ),
            (
                "COPY people (id, age) FROM STDIN (FORMAT csv, ON_ERROR ignore, LOG_VERBOSITY verbose)",
                b"10,1\n11,\"x\ny\"\n12,z\n",
            ),
            (
                "COPY people (id, age) FROM STDIN (ON_ERROR ignore, LOG_VERBOSITY silent)",
                b"10\t1\n11\tx\n",
            ),
            (
                "COPY people (id, age) FROM STDIN (ON_ERROR ignore, REJECT_LIMIT 2)",
                b"10\t1\n11\tx\n12\ty\n13\t1\n",
            ),
            (
                "COPY people (id, age) FROM STDIN (ON_ERROR stop)",
                b"10\t1\n11\tx\n",
            ),
            (
                "COPY people (id, email) FROM STDIN (ON_ERROR ignore)",
                b"10\ta\n11\n",
            ),
            (
                "COPY people (id, email) FROM STDIN (ON_ERROR ignore)",
                b"10\ta\n11\t\xff\n",
            ),
            (
                "COPY people (id, email) FROM STDIN (DEFAULT '\\D')",
                b"10\ta\n11\t\\D\n",
            ),
            (
                "COPY people (id, email, age) FROM STDIN (FORMAT csv, DEFAULT 'def')",
                b"10,def,1\n11,\"def\",def\n",
            ),
            (
                "COPY people (id, email) FROM STDIN (FORMAT csv, FORCE_NULL *)",
                b"10,\"\"\n",
            ),
            (
                "COPY people (id, email) FROM STDIN (FORMAT csv, FORCE_NOT_NULL *)",
                b"10,\n",
            ),
        ],
    )?;
    same(
        "SELECT tenant_id, body, id FROM tenants ORDER BY id, tenant_id",
        &[(
            "COPY tenants (tenant_id, body, id) FROM STDIN (ON_ERROR ignore)",
            b"21\ta\t20\nx\tb\t21\n22\tc\t22\n",
        )],
    )
}
