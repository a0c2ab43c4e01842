//! Relations that somebody makes or renames around the proxy, named through it the moment after.

use anyhow::Result;
use pgveil_tests::{
    twin::{Case, Expect, Sessions, Verdict, compare},
    wire::Message,
};

use crate::{told, twin};

/// Rounds, each with names of its own: the catalog is looked at every other second too.
const ROUNDS: usize = 8;

#[test]
fn what_is_made_beside_pgveil_is_known_when_it_is_named() -> Result<()> {
    let _alone = crate::ALONE.lock();
    let twin = twin()?;
    let mut wrong = Vec::new();
    let mut sessions = twin.sessions("app")?;
    for round in 0..ROUNDS {
        let make = format!(
            "CREATE TABLE beside_{round} AS SELECT id, email FROM customers;
             CREATE VIEW beside_view_{round} AS SELECT id, email FROM customers;
             CREATE TABLE \"Beside {round}\" AS SELECT id, email FROM customers;
             GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;"
        );
        // One by one: whoever reads the catalog meanwhile locks what it reads.
        let drop = [
            format!("DROP VIEW beside_view_{round}"),
            format!("DROP TABLE beside_{round}"),
            format!("DROP TABLE \"Beside {round}\""),
        ];
        twin.plain.run(&make)?;
        twin.veiled.run(&make)?;
        let refused = [
            "SELECT count(DISTINCT email) FROM beside_#",
            "SELECT email, count(*) FROM \"Beside #\" GROUP BY email",
            "SELECT id FROM public.beside_# WHERE email = 'ada@example.com'",
            "SELECT 1 FROM people p, beside_# b WHERE b.email = p.email",
        ];
        let same = [
            "SELECT count(DISTINCT email) FROM beside_view_#",
            "SELECT email FROM \"Beside #\" ORDER BY id",
            "WITH b AS (SELECT * FROM beside_#) SELECT * FROM b ORDER BY id",
            "SELECT id FROM beside_view_# WHERE email = 'ada@example.com'",
        ];
        // Only the first one after the change can be wrong.
        let (sql, expect) = if round % 2 == 0 {
            (refused[round / 2], Expect::Refused)
        } else {
            (same[round / 2], Expect::Same)
        };
        let sql = sql.replace('#', &round.to_string());
        wrong.extend(sessions.compare(&Case::new(&sql), expect)?);
        for drop in &drop {
            twin.plain.run(drop)?;
            twin.veiled.run(drop)?;
        }
    }
    told(wrong, ROUNDS)
}

#[test]
fn functions_made_beside_pgveil_are_known_when_they_are_called() -> Result<()> {
    let _alone = crate::ALONE.lock();
    let twin = twin()?;
    let mut wrong = Vec::new();
    let mut sessions = twin.sessions("app")?;
    for round in 0..ROUNDS {
        let make = format!(
            "CREATE FUNCTION beside_count_{round}() RETURNS bigint LANGUAGE sql AS 'SELECT count(email) FROM customers';
             CREATE FUNCTION beside_rows_{round}() RETURNS SETOF customers LANGUAGE sql AS 'SELECT * FROM customers';
             CREATE FUNCTION beside_find_{round}(mail text) RETURNS bigint LANGUAGE plpgsql AS
                 'BEGIN RETURN (SELECT count(*) FROM customers WHERE email = mail); END';"
        );
        let drop =
            ["count", "rows", "find"].map(|name| format!("DROP FUNCTION beside_{name}_{round}"));
        twin.plain.run(&make)?;
        twin.veiled.run(&make)?;
        let (sql, expect) = match round % 4 {
            0 => ("SELECT beside_find_#('ada@example.com')", Expect::Refused),
            1 => (
                "SELECT email FROM beside_rows_#() ORDER BY id",
                Expect::Same,
            ),
            2 => ("SELECT public.beside_find_# ($1)", Expect::Refused),
            _ => ("SELECT beside_count_#() + 1", Expect::Same),
        };
        let sql = sql.replace('#', &round.to_string());
        let case = if sql.contains('$') {
            Case::with(&sql, &[Some("ada@example.com")])
        } else {
            Case::new(&sql)
        };
        wrong.extend(sessions.compare(&case, expect)?);
        for drop in &drop {
            twin.plain.run(drop)?;
            twin.veiled.run(drop)?;
        }
    }
    told(wrong, ROUNDS)
}

/// A session's own relations are its own, whoever asks for them and however they came.
#[test]
fn temporary_tables_of_plain_values_stay_plain() -> Result<()> {
    let _alone = crate::ALONE.lock();
    let mut sessions = twin()?.sessions("app")?;
    let mut wrong = Vec::new();
    for sql in [
        "CREATE TEMP TABLE scratch (id int, email text)",
        "INSERT INTO scratch VALUES (1, 'a'), (2, 'a')",
        "SELECT count(DISTINCT email) FROM scratch WHERE email = 'a'",
        "BEGIN",
        "CREATE TABLE scratch_too AS SELECT * FROM scratch",
        "SELECT s.email, t.id FROM scratch s JOIN scratch_too t USING (id) ORDER BY 2",
        "SELECT count(*) FROM nowhere",
        "ROLLBACK",
        "SELECT * FROM scratch ORDER BY id",
        "DROP TABLE scratch",
        "SELECT * FROM scratch",
    ] {
        let (direct, veiled) = sessions.exchange(&[Message::query(sql)], 1)?;
        let verdict = compare(false, false, &direct, &veiled);
        if !matches!(verdict, Verdict::Same) {
            wrong.push(format!("{sql}\n{verdict:#?}"));
        }
    }
    told(wrong, 11)
}

/// The catalog is read while a client holds the strongest lock: the one who waits for it may be that client.
#[test]
fn a_client_that_changes_relations_is_not_waited_for() -> Result<()> {
    let _alone = crate::ALONE.lock();
    let twin = twin()?;
    let make = "CREATE TABLE locked (id serial PRIMARY KEY, name text DEFAULT lower('X'));
         CREATE UNIQUE INDEX ON locked (lower(name));
         CREATE TABLE locked_parts (id int, name text) PARTITION BY LIST (lower(name));
         CREATE VIEW locked_view AS SELECT l.id, c.email FROM locked l JOIN customers c USING (id);
         CREATE FUNCTION locked_count() RETURNS bigint LANGUAGE sql
             BEGIN ATOMIC SELECT count(c.email) FROM locked l JOIN customers c USING (id); END;
         INSERT INTO locked (name) VALUES ('a'), ('b');
         GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;";
    let meanwhile = "CREATE TABLE meanwhile AS SELECT id, email FROM customers;
         CREATE VIEW locked_too AS SELECT id, email FROM customers;
         GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;";
    let drop = "DROP FUNCTION locked_count(); DROP VIEW locked_view, locked_too; DROP TABLE locked, locked_parts, meanwhile";
    let (mut first, mut second) = (twin.sessions("app")?, twin.sessions("app")?);
    let mut wrong = Vec::new();
    let mut ask = |sessions: &mut Sessions, sql: &str| -> Result<()> {
        let (direct, veiled) = sessions.exchange(&[Message::query(sql)], 1)?;
        let verdict = compare(true, false, &direct, &veiled);
        if !matches!(verdict, Verdict::Same) {
            wrong.push(format!("{sql}\n{verdict:#?}"));
        }
        Ok(())
    };
    for database in [&twin.plain, &twin.veiled] {
        database.run(make)?;
    }
    ask(&mut first, "SELECT email FROM locked_view ORDER BY id")?;
    ask(&mut first, "BEGIN")?;
    ask(&mut first, "LOCK TABLE locked, locked_parts")?;
    for database in [&twin.plain, &twin.veiled] {
        database.run(meanwhile)?;
    }
    ask(&mut first, "SELECT email FROM meanwhile ORDER BY id")?;
    ask(&mut second, "SELECT email FROM customers ORDER BY id")?;
    ask(&mut second, "SELECT email FROM locked_too ORDER BY id")?;
    ask(&mut first, "SELECT email FROM locked_view ORDER BY id")?;
    ask(&mut first, "SELECT locked_count()")?;
    ask(&mut first, "COMMIT")?;
    ask(&mut second, "SELECT email FROM locked_view ORDER BY id")?;
    ask(&mut second, "SELECT locked_count()")?;
    for database in [&twin.plain, &twin.veiled] {
        database.run(drop)?;
    }
    told(wrong, 10)
}
