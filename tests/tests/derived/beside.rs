//! Relations that somebody makes or renames around the proxy, named through it the moment after.

use anyhow::Result;
use pgveil_tests::{
    twin::{Case, Expect},
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
        let verdict = pgveil_tests::twin::compare(false, &direct, &veiled);
        if !matches!(verdict, pgveil_tests::twin::Verdict::Same) {
            wrong.push(format!("{sql}\n{verdict:#?}"));
        }
    }
    told(wrong, 11)
}
