//! Columns of enum types: the same statements directly on plaintext and through pgveil, with labels that are added and
//! renamed on the way.

use std::sync::OnceLock;

use anyhow::{Result, anyhow, bail};
use pgveil_tests::{
    postgres::TempPostgres,
    twin::{Case, Expect, Sessions, Twin, judge},
    wire::{Bind, Message},
};

const SCHEMA: &str = r#"
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy', '', 'it''s "odd"', 'größer');
    CREATE TYPE other AS ENUM ('sad', 'ok');
    CREATE SCHEMA crm;
    GRANT USAGE ON SCHEMA crm TO PUBLIC;
    CREATE TYPE crm."Level" AS ENUM ('low', 'high');
    CREATE TABLE people (id int PRIMARY KEY, mood mood, moods mood[], level crm."Level", plain mood, name text);
    CREATE TABLE logs (id int, mood mood UNIQUE);
    CREATE TABLE tenants (id int, tenant_id int NOT NULL, mood mood);
"#;

const POLICY: &str = r#"
public.people  scope = "platform"
    mood: mood, search = ["equality"], equality_group = "moods"
    moods: mood[], search = ["equality"]
    level: crm.Level, search = ["equality"]
public.logs  scope = "platform"
    mood: public.mood, search = ["equality"], equality_group = "moods"
public.tenants  scope = "tenant:{tenant_id}"
    mood: mood, search = ["equality"]
"#;

const ROWS: &str = r#"
    INSERT INTO people VALUES (1, 'sad', '{sad,happy}', 'low', 'sad', 'ada'), (2, 'happy', '{}', 'high', 'ok', 'bob'),
        (3, NULL, NULL, NULL, NULL, NULL), (4, '', '{NULL,"it''s \"odd\""}', 'low', 'happy', 'eve'),
        (5, 'größer', '{{sad,ok},{ok,sad}}', 'high', 'sad', 'dan'), (6, 'it''s "odd"', '[0:1]={ok,""}', 'low', 'ok', 'cyn');
    INSERT INTO logs VALUES (1, 'sad'), (2, 'happy'), (3, 'ok');
    INSERT INTO tenants VALUES (1, 10, 'sad'), (2, 10, 'ok'), (3, 20, 'sad');
"#;

fn twin() -> Result<&'static Twin<'static>> {
    static TWIN: OnceLock<Result<Twin<'static>, String>> = OnceLock::new();
    let made = TWIN.get_or_init(|| {
        TempPostgres::shared()
            .and_then(|server| Twin::new(server, SCHEMA, POLICY, ROWS))
            .map_err(|error| format!("{error:#}"))
    });
    made.as_ref().map_err(|error| anyhow!("{error}"))
}

fn run(sessions: &mut Sessions, cases: &[Case<'_>], expect: Expect) -> Result<()> {
    let mut wrong = Vec::new();
    for case in cases {
        wrong.extend(sessions.compare(case, expect)?);
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{} statements\n\n{}", wrong.len(), wrong.join("\n\n"))
}

fn same(statements: &[&str]) -> Result<()> {
    let cases: Vec<Case<'_>> = statements.iter().map(|sql| Case::new(sql)).collect();
    run(&mut twin()?.sessions("app")?, &cases, Expect::Same)
}

#[test]
fn labels_go_in_and_out() -> Result<()> {
    same(&[
        "SELECT * FROM people ORDER BY id",
        "SELECT mood::text, moods::text, level::text FROM people ORDER BY id",
        "SELECT mood::varchar(3), level::varchar FROM people ORDER BY id",
        "SELECT array_agg(mood ORDER BY id), array_agg(level ORDER BY id) FROM people",
        "SELECT people FROM people ORDER BY id",
        "SELECT row_to_json(people), to_jsonb(people) FROM people ORDER BY id",
        "SELECT json_agg(mood ORDER BY id), jsonb_build_object('m', max(id)) FROM people",
        "INSERT INTO people (id, mood) VALUES (20, 'happy') RETURNING *",
        "INSERT INTO people (id, mood, moods) VALUES (20, 'happy'::mood, '{ok}'::mood[]) RETURNING *",
        "INSERT INTO people (id, mood) VALUES (20, 'happy'::public.mood) RETURNING mood",
        "INSERT INTO people (id, mood, level) VALUES (20, mood 'happy', crm.\"Level\" 'low') RETURNING *",
        "INSERT INTO people (id, mood) VALUES (20, mood 'none')",
        "INSERT INTO people (id, mood) VALUES (20, CAST('happy' AS \"mood\")) RETURNING mood",
        "INSERT INTO people (id, level) VALUES (20, 'low'::crm.\"Level\") RETURNING level",
        "INSERT INTO people (id, moods) VALUES (20, ARRAY['sad', 'ok']::mood[]) RETURNING moods",
        "INSERT INTO people (id, moods) VALUES (20, ARRAY['sad', NULL]::public.mood[]) RETURNING moods",
        "UPDATE people SET mood = 'ok', moods = '{}' RETURNING id, mood, moods",
        "UPDATE people SET mood = NULL RETURNING mood",
        "INSERT INTO logs VALUES (4, 'sad') ON CONFLICT (mood) DO UPDATE SET id = 9 RETURNING *",
        "INSERT INTO logs VALUES (4, 'sad')",
        "INSERT INTO logs SELECT id + 10, mood FROM people WHERE mood = '' RETURNING *",
        "SELECT COALESCE(mood, 'ok') FROM people ORDER BY id",
        "SELECT CASE WHEN id > 3 THEN mood ELSE 'happy' END FROM people ORDER BY id",
        "SELECT mood, lag(mood, 1, 'sad') OVER (ORDER BY id) FROM people ORDER BY id",
        "SELECT DISTINCT mood FROM people",
        "COPY people (id, mood, moods, level) TO STDOUT",
        "COPY people (mood, moods) TO STDOUT (FORMAT csv, HEADER)",
        "COPY (SELECT mood, moods FROM people ORDER BY id) TO STDOUT (FORMAT binary)",
        "INSERT INTO tenants VALUES (4, 10, 'happy') RETURNING *",
    ])
}

#[test]
fn labels_are_found() -> Result<()> {
    same(&[
        "SELECT id FROM people WHERE mood = 'sad'",
        "SELECT id FROM people WHERE mood = 'sad'::mood",
        "SELECT id FROM people WHERE 'sad' = mood",
        "SELECT id FROM people WHERE mood = mood 'sad'",
        "SELECT id FROM people WHERE public.mood 'happy' = mood AND level = crm.\"Level\" 'high'",
        "SELECT id FROM people WHERE mood IN (mood 'sad', mood '') ORDER BY id",
        "SELECT id FROM people WHERE mood <> 'sad' ORDER BY id",
        "SELECT id FROM people WHERE mood IS DISTINCT FROM 'sad' ORDER BY id",
        "SELECT id FROM people WHERE mood IN ('sad', '') ORDER BY id",
        "SELECT id FROM people WHERE mood = ANY ('{sad,happy}') ORDER BY id",
        "SELECT id FROM people WHERE mood = ANY (ARRAY['sad', 'happy']::mood[]) ORDER BY id",
        "SELECT id FROM people WHERE mood = ANY ('{sad,happy}'::mood[]) ORDER BY id",
        "SELECT id FROM people WHERE moods = '{sad,happy}'",
        "SELECT id FROM people WHERE moods = '{{sad,ok},{ok,sad}}'",
        "SELECT id FROM people WHERE level = 'high' ORDER BY id",
        "SELECT mood, count(*) FROM people GROUP BY mood",
        "SELECT level, count(DISTINCT mood) FROM people GROUP BY level",
        "SELECT p.id, l.id FROM people p JOIN logs l ON l.mood = p.mood ORDER BY 1, 2",
        "SELECT p.id FROM people p JOIN logs l USING (mood) ORDER BY 1",
        "SELECT id FROM people WHERE mood IN (SELECT mood FROM logs) ORDER BY id",
        "SELECT id FROM tenants WHERE tenant_id = 10 AND mood = 'sad'",
        "SELECT mood FROM people UNION SELECT mood FROM logs",
        "DELETE FROM people WHERE mood = 'sad' RETURNING id, mood",
    ])
}

#[test]
fn parameters_of_enums() -> Result<()> {
    let with = |sql: &'static str, params: &[Option<&'static str>]| Case::with(sql, params);
    let cases = [
        with("SELECT id FROM people WHERE mood = $1", &[Some("sad")]),
        with(
            "SELECT id FROM people WHERE mood = $1::mood",
            &[Some("sad")],
        ),
        with(
            "SELECT id FROM people WHERE mood = $1::public.mood",
            &[Some("größer")],
        ),
        with("SELECT id FROM people WHERE mood = $1", &[None]),
        with("SELECT id FROM people WHERE mood = $1", &[Some("furious")]),
        with(
            "SELECT id FROM people WHERE mood = ANY ($1) ORDER BY id",
            &[Some("{sad,happy,NULL}")],
        ),
        with(
            "SELECT id FROM people WHERE mood = ANY ($1::mood[]) ORDER BY id",
            &[Some("{sad,happy}")],
        ),
        with(
            "SELECT id FROM people WHERE mood IN ($1, $2) ORDER BY id",
            &[Some("sad"), Some("")],
        ),
        with(
            "SELECT id FROM people WHERE moods = $1",
            &[Some("{sad,happy}")],
        ),
        with(
            "SELECT id FROM people WHERE level = $1 ORDER BY id",
            &[Some("low")],
        ),
        with(
            "INSERT INTO people (id, mood) VALUES (30, $1) RETURNING mood",
            &[Some("it's \"odd\"")],
        ),
        with(
            "INSERT INTO people (id, mood) VALUES (30, $1) RETURNING mood",
            &[Some("furious")],
        ),
        with(
            "INSERT INTO people (id, moods) VALUES (30, $1) RETURNING moods",
            &[Some("{{ok},{sad}}")],
        ),
        with(
            "INSERT INTO people (id, moods) VALUES (30, $1) RETURNING moods",
            &[Some("{ok,furious}")],
        ),
        with(
            "INSERT INTO people (id, level) VALUES (30, $1) RETURNING level",
            &[Some("high")],
        ),
        with(
            "UPDATE people SET mood = COALESCE($1, mood) WHERE id = $2 RETURNING mood",
            &[Some("ok"), Some("1")],
        ),
        with(
            "SELECT COALESCE(mood, $1) FROM people ORDER BY id",
            &[Some("ok")],
        ),
        with(
            "INSERT INTO people (id, mood, plain) VALUES (30, $1, $2) RETURNING *",
            &[Some("ok"), Some("happy")],
        ),
        with(
            "INSERT INTO logs (id, mood) SELECT 40, unnest($1::mood[]) RETURNING *",
            &[Some("{\"\",größer}")],
        ),
    ];
    run(&mut twin()?.sessions("app")?, &cases, Expect::Same)
}

#[test]
fn what_is_no_label_has_the_servers_sqlstate() -> Result<()> {
    same(&[
        "INSERT INTO people (id, mood) VALUES (20, 'Sad')",
        "INSERT INTO people (id, mood) VALUES (20, ' sad')",
        "INSERT INTO people (id, mood) VALUES (20, 'sad'::text)",
        "INSERT INTO people (id, mood) VALUES (20, 1)",
        "INSERT INTO people (id, mood) VALUES (20, 'sad'::other)",
        "INSERT INTO people (id, level) VALUES (20, 'sad')",
        "INSERT INTO people (id, moods) VALUES (20, '{sad,Sad}')",
        "INSERT INTO people (id, moods) VALUES (20, 'sad')",
        "SELECT id FROM people WHERE mood = 'Sad'",
        "SELECT id FROM people WHERE mood = 'sad'::text",
        "SELECT id FROM people WHERE mood = 'sad'::other",
        "SELECT id FROM people WHERE mood = 1",
        "SELECT id FROM people WHERE mood IN ('sad', 'Sad')",
        "SELECT id FROM people WHERE level = 'sad'",
    ])
}

#[test]
fn what_ciphertext_cannot_answer_is_refused() -> Result<()> {
    let cases = [
        "SELECT id FROM people WHERE mood < 'ok'",
        "SELECT mood FROM people ORDER BY mood",
        "SELECT max(mood) FROM people",
        "SELECT id FROM people WHERE mood = plain",
        "SELECT enum_range(mood) FROM people",
        // The parser takes `type 'text'` for PostgreSQL's own types only.
        "SELECT id FROM people WHERE mood = mood 'sad'",
        "SELECT mood::text::mood FROM people",
        "SELECT id FROM people WHERE mood::text = 'sad'",
        "SELECT id FROM people WHERE 'sad' = ANY (moods)",
    ]
    .map(Case::new);
    run(&mut twin()?.sessions("app")?, &cases, Expect::Refused)
}

/// A driver that knows the type declares parameters with its OID.
#[test]
fn parameters_may_be_declared_with_the_types_oid() -> Result<()> {
    let twin = twin()?;
    let oid = |name: &str| -> Result<u32> {
        let sql = format!("SELECT '{name}'::regtype::oid");
        Ok(twin.plain.psql("app", &sql)?.trim().parse()?)
    };
    let (mood, moods) = (oid("mood")?, oid("mood[]")?);
    let mut array = Vec::new();
    for word in [1, 0, mood, 1, 1, 3] {
        array.extend_from_slice(&word.to_be_bytes());
    }
    array.extend_from_slice(b"sad");
    let mut sessions = twin.sessions("app")?;
    let mut wrong = Vec::new();
    for (sql, oids, value) in [
        (
            "SELECT mood FROM people WHERE mood = $1",
            &[mood][..],
            &b"sad"[..],
        ),
        (
            "INSERT INTO people (id, mood) VALUES (20, $1) RETURNING mood",
            &[mood],
            b"ok",
        ),
        (
            "INSERT INTO people (id, mood) VALUES (20, $1) RETURNING mood",
            &[mood],
            b"furious",
        ),
        (
            "INSERT INTO people (id, name, mood) VALUES (20, $1, $1) RETURNING mood",
            &[mood],
            b"ok",
        ),
        (
            "INSERT INTO people (id, mood) VALUES (20, $1) RETURNING mood",
            &[25],
            b"ok",
        ),
        ("SELECT id FROM people WHERE mood = $1", &[25], b"ok"),
        ("SELECT id FROM people WHERE mood = $1::mood", &[25], b"sad"),
        (
            "SELECT id FROM people WHERE mood = ANY ($1)",
            &[moods],
            &array,
        ),
        (
            "INSERT INTO people (id, moods) VALUES (20, $1) RETURNING moods",
            &[moods],
            &array,
        ),
    ] {
        for results in [0, 1] {
            let messages = [
                Message::parse("", sql, oids),
                Message::describe_statement(""),
                Message::bind(&Bind {
                    formats: &[1],
                    params: &[Some(value)],
                    results: &[results],
                    ..Bind::default()
                }),
                Message::describe_portal(""),
                Message::execute("", 0),
                Message::sync(),
            ];
            sessions.exchange(&[Message::query("begin")], 1)?;
            let (direct, veiled) = sessions.exchange(&messages, 1)?;
            sessions.exchange(&[Message::query("rollback")], 1)?;
            let found = judge(sql, Expect::Same, &direct, &veiled);
            wrong.extend(found.map(|found| format!("{sql} {value:?}\n{found}")));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}", wrong.join("\n\n"))
}

/// Labels are added and renamed, beside pgveil and through it; then everything is still found and shown as on plaintext.
#[test]
fn labels_may_be_added_and_renamed() -> Result<()> {
    let twin = Twin::new(
        TempPostgres::shared()?,
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE people (id int, mood mood, moods mood[]);",
        "public.people  scope = \"platform\"\n    mood: mood, search = [\"equality\"]\n    \
         moods: mood[], search = [\"equality\"]\n",
        "INSERT INTO people VALUES (1, 'sad', '{sad,ok}'), (2, 'ok', '{ok}');",
    )?;
    let mut sessions = twin.sessions("app")?;
    let mut wrong = Vec::new();
    for sql in [
        "ALTER TYPE mood ADD VALUE 'great' AFTER 'ok'",
        "INSERT INTO people VALUES (3, 'great', '{great,sad}')",
        "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'",
        "INSERT INTO people VALUES (4, 'fine', '{fine}')",
        "INSERT INTO people VALUES (5, 'ok', '{ok}')",
        "SELECT id FROM people WHERE mood = 'fine' ORDER BY id",
        "SELECT id FROM people WHERE moods = '{fine}' ORDER BY id",
        "SELECT * FROM people ORDER BY id",
        // The name that became free is given to another.
        "ALTER TYPE mood ADD VALUE 'ok' BEFORE 'sad'",
        "INSERT INTO people VALUES (6, 'ok', '{ok,fine}')",
        "SELECT id FROM people WHERE mood = 'ok' ORDER BY id",
        "SELECT id FROM people WHERE mood = 'fine' ORDER BY id",
        // Two names change places.
        "ALTER TYPE mood RENAME VALUE 'ok' TO 'x'",
        "ALTER TYPE mood RENAME VALUE 'fine' TO 'ok'",
        "ALTER TYPE mood RENAME VALUE 'x' TO 'fine'",
        "SELECT id FROM people WHERE mood = 'ok' ORDER BY id",
        "SELECT mood, count(*) FROM people GROUP BY mood",
        "SELECT * FROM people ORDER BY id",
    ] {
        let (direct, veiled) = sessions.exchange(&[Message::query(sql)], 1)?;
        wrong.extend(
            judge(sql, Expect::Same, &direct, &veiled).map(|found| format!("{sql}\n{found}")),
        );
    }
    // A transaction sees its own change, and takes it back.
    for ends in [&["ROLLBACK TO s", "COMMIT"][..], &["ROLLBACK"]] {
        let within = [
            "BEGIN",
            "SAVEPOINT s",
            "ALTER TYPE mood RENAME VALUE 'great' TO 'grand'",
            "SELECT * FROM people ORDER BY id",
            "SELECT id FROM people WHERE mood = 'grand'",
            "UPDATE people SET mood = 'grand' WHERE id = 1 RETURNING mood",
        ];
        let after = [
            "SELECT * FROM people ORDER BY id",
            "SELECT id FROM people WHERE mood = 'great'",
        ];
        let refusing = [
            "BEGIN",
            "ALTER TYPE mood RENAME VALUE 'great' TO 'grand'",
            "SELECT id FROM people WHERE mood = 'great'",
            "ROLLBACK",
        ];
        for sql in within.iter().chain(ends).chain(&after).chain(&refusing) {
            let (direct, veiled) = sessions.exchange(&[Message::query(sql)], 1)?;
            wrong.extend(
                judge(sql, Expect::Same, &direct, &veiled).map(|found| format!("{sql}\n{found}")),
            );
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n\n"));
    }
    let recorded = "SELECT label, number FROM pgveil.enum_labels ORDER BY 2";
    assert_eq!(
        twin.veiled.admin(recorded)?.trim(),
        "sad|1\nok|2\ngreat|3\nfine|4"
    );
    // A superuser lets two labels change places: what is shown would be another one. The next look at the catalog finds it.
    let swap = "UPDATE pgveil.enum_labels k SET label = w.label, label_oid = w.label_oid FROM pgveil.enum_labels w \
         WHERE k.number + w.number = 3";
    twin.veiled.admin(swap)?;
    twin.proxy.psql("app", "CREATE TABLE looked_at (id int)")?;
    let refused = twin.proxy.psql("app", "SELECT mood FROM people")?;
    assert!(refused.contains("PV002"), "{refused}");
    twin.veiled.admin(swap)?;
    // As from a dump: a type of the same labels with other OIDs.
    twin.proxy.psql("app", "DROP TYPE mood")?;
    let said = twin.proxy.psql("app", "SELECT id FROM people")?;
    assert!(
        said.contains("table \"people\" does not fit the policy any more"),
        "{said}"
    );
    let again = "CREATE TYPE mood AS ENUM ('fine', 'sad', 'ok', 'great')";
    twin.proxy.psql("app", again)?;
    for sql in [
        "SELECT * FROM people ORDER BY id",
        "SELECT id FROM people WHERE mood = 'ok' ORDER BY id",
        "SELECT id FROM people WHERE moods = '{fine,ok}' ORDER BY id",
    ] {
        assert_eq!(
            twin.proxy.psql("app", sql)?,
            twin.plain.psql("app", sql)?,
            "{sql}"
        );
    }
    Ok(())
}
