//! COPY ... TO STDOUT.

use anyhow::Result;
use pgveil_tests::wire::Message;

use crate::{difference, extended, fail_if_any, twin};

fn same(statements: &[&str]) -> Result<()> {
    same_after("SELECT 1", statements)
}

fn same_after(setting: &str, statements: &[&str]) -> Result<()> {
    let mut sessions = twin()?.sessions("app")?;
    let mut wrong = Vec::new();
    for sql in statements {
        let simple = [Message::query(setting), Message::query(sql)];
        let mut prepared = vec![Message::query(setting)];
        prepared.extend(extended(sql));
        prepared.push(Message::sync());
        for messages in [&simple[..], &prepared] {
            let found = difference(&mut sessions, messages, 2)?;
            wrong.extend(found.map(|found| format!("{sql}\n{found}")));
        }
    }
    fail_if_any(wrong)
}

#[test]
fn tables_are_copied_in_every_format() -> Result<()> {
    let mut all = Vec::new();
    for table in [
        "people",
        "public.people (id, email, plain)",
        "people(email)",
        "secrets",
        "tenants",
        "\"Odd Name\"",
    ] {
        for options in [
            "",
            " (FORMAT csv)",
            " (FORMAT binary)",
            " (FORMAT csv, HEADER)",
            " (FORMAT text, HEADER true)",
            " WITH CSV HEADER",
            " BINARY",
        ] {
            all.push(format!("COPY {table} TO STDOUT{options}"));
        }
    }
    same(&all.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn every_option_writes_what_it_writes_on_plaintext() -> Result<()> {
    same(&[
        "COPY people TO STDOUT (DELIMITER '|', NULL 'nil')",
        "COPY people TO STDOUT (DELIMITER ',', NULL '')",
        "COPY people TO STDOUT (NULL 'x')",
        "COPY people TO STDOUT WITH DELIMITER AS ';' NULL AS '-'",
        "COPY people TO STDOUT USING DELIMITERS '|'",
        "COPY people TO STDOUT DELIMITERS '|' WITH NULL AS ''",
        "COPY people TO STDOUT (FORMAT csv, DELIMITER ';', QUOTE '''', ESCAPE '!')",
        "COPY people TO STDOUT (FORMAT csv, DELIMITER 'x', QUOTE '5', ESCAPE '6')",
        "COPY people TO STDOUT (FORMAT csv, DELIMITER 'a', NULL 'e')",
        "COPY people TO STDOUT (FORMAT csv, QUOTE 'x', DELIMITER '0')",
        "COPY people TO STDOUT (FORMAT csv, NULL 'NULL', ESCAPE E'\\\\')",
        "COPY people TO STDOUT (FORMAT csv, FORCE_QUOTE *)",
        "COPY people TO STDOUT (FORMAT csv, FORCE_QUOTE (email, plain), DELIMITER '5')",
        "COPY people TO STDOUT CSV HEADER DELIMITER '|' FORCE QUOTE id, age, notes",
        "COPY people TO STDOUT CSV QUOTE AS '$' ESCAPE AS '$' NULL AS 'nil'",
        "COPY secrets TO STDOUT (FORMAT csv, FORCE_QUOTE (secret))",
        "COPY secrets TO STDOUT (FORMAT csv, NULL 'x')",
        "COPY secrets TO STDOUT (NULL '')",
        "COPY people (id, email) TO STDOUT (ENCODING 'UTF8')",
        "COPY people (email, email) TO STDOUT",
        "COPY people (id, doubled) TO STDOUT",
        "COPY people (id, nope) TO STDOUT",
        "COPY nowhere TO STDOUT",
        "COPY people TO STDOUT (FORMAT nothing)",
        "COPY people TO STDOUT (FORMAT csv, DELIMITER 'ab')",
        "COPY people TO STDOUT (DELIMITER 'a')",
        "COPY people TO STDOUT (FORMAT csv, QUOTE ',')",
        "COPY people TO STDOUT (NULL E'\\n')",
        "COPY people TO STDOUT (FORMAT binary, HEADER)",
        "COPY people TO STDOUT (FORMAT binary, DELIMITER ',')",
        "COPY people TO STDOUT (FORCE_QUOTE *)",
        "COPY people TO STDOUT (FORMAT csv, FORCE_NULL (email))",
        "COPY people TO STDOUT (FREEZE, FREEZE)",
        "COPY people TO STDOUT (shiny)",
    ])
}

#[test]
fn queries_are_copied() -> Result<()> {
    same(&[
        "COPY (SELECT id, email FROM people ORDER BY id) TO STDOUT",
        "COPY (SELECT email AS mail, age, count(*) OVER () FROM people ORDER BY id) TO STDOUT CSV HEADER",
        "COPY (SELECT p.email, p.raw FROM people p WHERE p.email = 'ada@example.com') TO STDOUT (FORMAT binary)",
        "COPY (SELECT plain, email FROM people WHERE email IN ('\\.', '') ORDER BY id) TO STDOUT (FORMAT csv)",
        "COPY (TABLE secrets) TO STDOUT (FORMAT csv, FORCE_QUOTE *)",
        "COPY (SELECT email, id FROM people ORDER BY id) TO STDOUT (FORMAT csv, FORCE_QUOTE (email))",
        "COPY (VALUES (1, 'x')) TO STDOUT",
        "COPY (INSERT INTO secrets VALUES ('new'), (NULL) RETURNING secret) TO STDOUT",
        "COPY (UPDATE secrets SET secret = 'y' WHERE secret = 'x' RETURNING *) TO STDOUT CSV",
        "COPY (DELETE FROM people WHERE email = 'ada@example.com' RETURNING id, email) TO STDOUT BINARY",
        "COPY (DELETE FROM people WHERE id = 1) TO STDOUT",
        "COPY (WITH q AS (SELECT email FROM people WHERE id < 3) SELECT * FROM q) TO STDOUT",
        "COPY (SELECT email FROM people UNION ALL SELECT secret FROM secrets) TO STDOUT",
        "COPY (SELECT email, 1/0 FROM people) TO STDOUT",
    ])
}

#[test]
fn settings_decide_how_values_are_written() -> Result<()> {
    let statements = [
        "COPY people TO STDOUT",
        "COPY people TO STDOUT (FORMAT csv, FORCE_QUOTE (email))",
        "COPY people TO STDOUT (FORMAT csv, DELIMITER '1', QUOTE 'P')",
        "COPY people TO STDOUT (FORMAT binary)",
    ];
    for setting in [
        "SET LOCAL bytea_output = 'escape'",
        "SET LOCAL TimeZone = 'America/New_York'",
        "SET LOCAL DateStyle = 'ISO, DMY'",
    ] {
        same_after(setting, &statements)?;
    }
    Ok(())
}

#[test]
fn several_copies_in_one_string() -> Result<()> {
    let mut sessions = twin()?.sessions("app")?;
    let mut wrong = Vec::new();
    for sql in [
        "COPY secrets TO STDOUT; COPY people TO STDOUT (FORMAT csv); SELECT email FROM people ORDER BY id; COPY open TO STDOUT",
        "SELECT 1; COPY open TO STDOUT; COPY (SELECT email FROM people) TO STDOUT; SELECT 1/0; COPY secrets TO STDOUT",
    ] {
        let found = difference(&mut sessions, &[Message::query(sql)], 1)?;
        wrong.extend(found.map(|found| format!("{sql}\n{found}")));
    }
    fail_if_any(wrong)
}
