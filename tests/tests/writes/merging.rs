//! MERGE, and the columns of VALUES and `unnest` that INSERT ... SELECT and UPDATE ... FROM write: what they leave behind
//! is what they leave behind on plaintext, under the keys of each row's tenant. PostgreSQL 14 knows no MERGE, 15 and 16 no
//! RETURNING of it: both sides say so.

use anyhow::{Result, bail, ensure};
use pgveil_tests::{
    generate::{Form, Script},
    twin::{Expect, Verdict, judge},
    wire::{Bind, Message},
};

use crate::{key, refused, refused_with, settled, twin};

const AFTER: [&str; 3] = [
    "SELECT * FROM accounts ORDER BY id",
    "SELECT * FROM parts ORDER BY id",
    "SELECT * FROM plain ORDER BY id",
];

/// What a statement answers and leaves behind, in every mode that can carry it.
fn same_after(statements: &[(&str, &[Option<&'static str>])]) -> Result<()> {
    let twin = twin()?;
    let mut sessions = twin.sessions("app")?;
    let mut wrong = Vec::new();
    for (sql, params) in statements {
        let script = Script {
            statements: vec![(*sql).to_owned()],
            params: params.to_vec(),
            after: AFTER.map(str::to_owned).to_vec(),
            oids: Vec::new(),
            ordered: true,
            several: false,
            features: Vec::new(),
        };
        let form = if params.is_empty() {
            Form::Literals
        } else {
            Form::Params
        };
        match sessions.play(&script, form)? {
            Verdict::Same => {}
            other => wrong.push(format!("{sql} {params:?}\n{other:?}")),
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} of {}\n\n{}",
        wrong.len(),
        statements.len(),
        wrong.join("\n\n")
    );
    Ok(())
}

#[test]
fn merge_writes_what_it_writes_on_plaintext() -> Result<()> {
    same_after(&[
        // A table is the source.
        (
            "MERGE INTO accounts a USING plain p ON a.id = p.id WHEN MATCHED THEN UPDATE SET note = 'merged'",
            &[],
        ),
        (
            "MERGE INTO accounts a USING plain p ON a.id = p.id WHEN MATCHED AND p.n > 5 THEN UPDATE SET note = 'merged', email = NULL, title = p.name",
            &[],
        ),
        (
            "MERGE INTO accounts AS a USING plain AS p ON a.id = p.id AND a.tenant_id = p.tenant_id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, tenant_id, title) VALUES (p.id + 100, p.tenant_id, p.name)",
            &[],
        ),
        (
            "MERGE INTO accounts a USING plain p ON a.id = p.id WHEN MATCHED AND a.title = 'c' THEN DELETE WHEN MATCHED AND a.note IS NULL THEN UPDATE SET note = 'was null' WHEN MATCHED THEN DO NOTHING",
            &[],
        ),
        (
            "MERGE INTO accounts a USING plain p ON a.id = p.id + 100 WHEN NOT MATCHED AND p.n > 5 THEN INSERT (id, tenant_id, email, note, pin) VALUES (p.id + 100, 10, 'new', NULL, 4)",
            &[],
        ),
        (
            "MERGE INTO accounts a USING plain p ON a.id = p.id + 100 WHEN NOT MATCHED THEN INSERT VALUES (p.id + 100, 10, 'new', 'n', 4)",
            &[],
        ),
        (
            "MERGE INTO plain p USING accounts a ON a.id = p.id WHEN MATCHED AND a.email = 'ada' AND a.tenant_id = 20 THEN DELETE WHEN NOT MATCHED THEN INSERT (id, name) VALUES (a.id, a.title)",
            &[],
        ),
        (
            "MERGE INTO accounts a USING accounts b ON a.id = b.id AND a.tenant_id = b.tenant_id WHEN MATCHED AND b.id = 1 THEN UPDATE SET note = b.note, title = 'self'",
            &[],
        ),
        (
            "MERGE INTO accounts a USING accounts b ON a.pin = b.pin AND a.id < b.id WHEN MATCHED THEN DELETE",
            &[],
        ),
        (
            "MERGE INTO accounts a USING (SELECT id, email, tenant_id FROM accounts WHERE tenant_id = 10) s ON a.id = s.id + 200 WHEN NOT MATCHED THEN INSERT (id, tenant_id, email) VALUES (s.id + 200, s.tenant_id, s.email)",
            &[],
        ),
        (
            "MERGE INTO accounts a USING plain p ON a.id = p.id WHEN MATCHED THEN UPDATE SET tenant_id = 30, email = 'e', note = 'n', pin = 1, handle = NULL",
            &[],
        ),
        (
            "MERGE INTO accounts a USING plain p ON a.id = p.id + 100 WHEN NOT MATCHED AND p.id = 3 THEN INSERT DEFAULT VALUES",
            &[],
        ),
        (
            "MERGE INTO parts USING plain ON parts.n = plain.n - 4 WHEN MATCHED THEN UPDATE SET label = 'a', size = 1.005",
            &[],
        ),
        (
            "MERGE INTO accounts a USING (VALUES (1), (1)) s(id) ON a.id = s.id WHEN MATCHED THEN UPDATE SET note = 'twice'",
            &[],
        ),
        (
            "MERGE INTO accounts a USING plain p JOIN accounts b ON b.id = p.id ON a.id = p.id + 1 WHEN MATCHED THEN UPDATE SET note = 'joined', title = p.name WHEN NOT MATCHED THEN INSERT (id, tenant_id, email) VALUES (p.id + 100, b.tenant_id, b.email)",
            &[],
        ),
        // VALUES are.
        (
            "MERGE INTO accounts a USING (VALUES (1, 10, 'x', 'm'), (100, 10, 'y', NULL), (3, 20, NULL, 'o')) AS s(id, tenant, email, note) ON a.id = s.id AND a.tenant_id = s.tenant WHEN MATCHED THEN UPDATE SET email = s.email, note = s.note WHEN NOT MATCHED THEN INSERT (id, tenant_id, email, note) VALUES (s.id, s.tenant, s.email, s.note)",
            &[],
        ),
        (
            "MERGE INTO accounts a USING (VALUES (1, 'x'), (5, NULL), (4, '')) AS s(id, note) ON a.id = s.id WHEN MATCHED THEN UPDATE SET note = s.note",
            &[],
        ),
        (
            "MERGE INTO accounts a USING (VALUES (1, 'one', 10), (2, 'three', 20), (3, 'new', 30)) AS s(id, handle, tenant) ON a.handle = s.handle WHEN MATCHED THEN UPDATE SET title = 'found' WHEN NOT MATCHED THEN INSERT (id, tenant_id, handle) VALUES (s.id + 300, s.tenant, s.handle)",
            &[],
        ),
        (
            "MERGE INTO accounts a USING (VALUES (1, 10, 'ada'), (2, 10, 'cid'), (3, 20, NULL)) AS s(id, tenant, email) ON a.id = s.id AND a.tenant_id = s.tenant WHEN MATCHED AND a.email IS DISTINCT FROM s.email THEN UPDATE SET email = s.email, version = a.version + 1",
            &[],
        ),
        (
            "MERGE INTO parts p USING (VALUES (1::bigint, 'acme', 'crm', 'l', 2.555), (9, 'acme', 'new', 'm', NULL)) s(id, tenant, project, label, size) ON p.id = s.id AND p.tenant = s.tenant AND p.project = s.project WHEN MATCHED THEN UPDATE SET label = s.label, size = s.size WHEN NOT MATCHED THEN INSERT (id, tenant, project, label, size) VALUES (s.id, s.tenant, s.project, s.label, s.size)",
            &[],
        ),
        (
            "WITH s(id, note) AS (VALUES (1, 'cte'), (3, 'cte 3')) MERGE INTO accounts a USING s ON a.id = s.id WHEN MATCHED THEN UPDATE SET note = s.note",
            &[],
        ),
        (
            "MERGE INTO accounts a USING (SELECT 1 AS id, 'x' AS note UNION ALL SELECT 3, 'y') s ON a.id = s.id WHEN MATCHED THEN UPDATE SET note = s.note",
            &[],
        ),
        // Parameters.
        (
            "MERGE INTO accounts a USING (VALUES ($1::int, $2::int, $3::text)) AS s(id, tenant, email) ON a.id = s.id AND a.tenant_id = s.tenant WHEN MATCHED THEN UPDATE SET email = s.email WHEN NOT MATCHED THEN INSERT (id, tenant_id, email) VALUES (s.id, s.tenant, s.email)",
            &[Some("1"), Some("10"), Some("p")],
        ),
        (
            "MERGE INTO accounts a USING (VALUES ($1::int, $2::int, $3::text), ($4, $5, $6)) AS s(id, tenant, email) ON a.id = s.id AND a.tenant_id = s.tenant WHEN MATCHED THEN UPDATE SET email = s.email WHEN NOT MATCHED THEN INSERT (id, tenant_id, email) VALUES (s.id, s.tenant, s.email)",
            &[
                Some("3"),
                Some("20"),
                None,
                Some("77"),
                Some("30"),
                Some("q"),
            ],
        ),
        (
            "MERGE INTO accounts a USING (SELECT $1::int AS id, $2::int AS tenant, $3::text AS note, $4::int AS pin) s ON a.id = s.id AND a.tenant_id = s.tenant WHEN MATCHED THEN UPDATE SET note = s.note, pin = s.pin WHEN NOT MATCHED THEN INSERT (id, tenant_id, note, pin) VALUES (s.id, s.tenant, s.note, s.pin)",
            &[Some("90"), Some("20"), Some("n"), Some("6")],
        ),
        (
            "MERGE INTO accounts a USING unnest($1::int[], $2::int[], $3::text[]) AS s(id, tenant, email) ON a.id = s.id AND a.tenant_id = s.tenant WHEN MATCHED THEN UPDATE SET email = s.email WHEN NOT MATCHED THEN INSERT (id, tenant_id, email) VALUES (s.id, s.tenant, s.email)",
            &[Some("{1,3,70}"), Some("{10,20,30}"), Some("{a,NULL,c}")],
        ),
        (
            "MERGE INTO accounts a USING unnest($1::int[], $2::text[]) AS s(id, note) ON a.id = s.id WHEN MATCHED THEN UPDATE SET note = s.note",
            &[Some("{1,3,70}"), Some("{a,NULL,c}")],
        ),
        (
            "MERGE INTO accounts a USING plain p ON a.id = p.id WHEN MATCHED AND a.pin = $1 THEN UPDATE SET note = $2, title = $3",
            &[Some("1"), Some("n"), Some("t")],
        ),
        (
            "MERGE INTO accounts a USING (VALUES ($1::int, $2::text)) s(id, note) ON a.id = s.id WHEN MATCHED THEN UPDATE SET note = s.note, email = $3 WHEN NOT MATCHED THEN INSERT (id, tenant_id, email) VALUES (s.id, 10, $3)",
            &[Some("3"), Some("n"), Some("e")],
        ),
        (
            "MERGE INTO accounts a USING (VALUES ($1::int, $2::text)) s(id, note) ON a.id = s.id WHEN MATCHED THEN UPDATE SET note = s.note, email = $3 WHEN NOT MATCHED THEN INSERT (id, tenant_id, email) VALUES (s.id, 10, $3)",
            &[Some("333"), Some("n"), Some("e")],
        ),
        // What only later releases know.
        (
            "MERGE INTO accounts a USING plain p ON a.id = p.id AND a.tenant_id = 10 WHEN NOT MATCHED BY SOURCE AND a.id > 3 THEN UPDATE SET note = 'alone' WHEN MATCHED THEN UPDATE SET note = 'matched'",
            &[],
        ),
        (
            "MERGE INTO accounts a USING plain p ON a.id = p.id WHEN MATCHED THEN UPDATE SET note = 'm' WHEN NOT MATCHED BY SOURCE THEN DELETE",
            &[],
        ),
        (
            "MERGE INTO accounts a USING (VALUES (1, 10, 'x')) AS s(id, tenant, email) ON a.id = s.id AND a.tenant_id = s.tenant WHEN MATCHED THEN UPDATE SET email = s.email RETURNING merge_action(), a.id, a.email, s.email, a.note",
            &[],
        ),
        (
            "MERGE INTO accounts a USING (VALUES (1, 10, 'x')) AS s(id, tenant, email) ON a.id = s.id AND a.tenant_id = s.tenant WHEN MATCHED THEN UPDATE SET email = s.email RETURNING *",
            &[],
        ),
        (
            "WITH m AS (MERGE INTO accounts a USING plain p ON a.id = p.id WHEN MATCHED THEN UPDATE SET note = 'm' RETURNING a.id, a.note, p.name) SELECT * FROM m ORDER BY id",
            &[],
        ),
        (
            "MERGE INTO accounts a USING plain p ON a.id = p.id WHEN MATCHED THEN DELETE RETURNING a.*, p.*",
            &[],
        ),
    ])
}

#[test]
fn columns_of_values_are_inserted_and_assigned() -> Result<()> {
    same_after(&[
        // As SQLAlchemy's insertmanyvalues writes them, with asyncpg and psycopg and with psycopg2.
        (
            "INSERT INTO accounts (id, tenant_id, email, pin) SELECT p0::INTEGER, p1::INTEGER, p2::VARCHAR, p3::INTEGER FROM (VALUES ($1::INTEGER, $2::INTEGER, $3::VARCHAR, $4::INTEGER, 0), ($5::INTEGER, $6::INTEGER, $7::VARCHAR, $8::INTEGER, 1)) AS imp_sen(p0, p1, p2, p3, sen_counter) ORDER BY sen_counter RETURNING accounts.id, accounts.email, accounts.id AS id__1",
            &[
                Some("50"),
                Some("10"),
                Some("a@example.com"),
                Some("1"),
                Some("51"),
                Some("20"),
                None,
                None,
            ],
        ),
        (
            "INSERT INTO accounts (id, tenant_id, email, pin) SELECT p0::INTEGER, p1::INTEGER, p2::VARCHAR, p3::INTEGER FROM (VALUES (50, 10, 'a', 1, 0), (51, 20, 'b', NULL, 1)) AS imp_sen(p0, p1, p2, p3, sen_counter) ORDER BY sen_counter RETURNING accounts.id, accounts.email, accounts.id AS id__1",
            &[],
        ),
        (
            "INSERT INTO parts (id, tenant, project, label, size) SELECT p0::BIGINT, p1::VARCHAR, p2::VARCHAR, p3::VARCHAR, p4::NUMERIC(10, 2) FROM (VALUES (50, 'acme', 'crm', 'l', 1.005, 0)) AS imp_sen(p0, p1, p2, p3, p4, sen_counter) ORDER BY sen_counter RETURNING id, size",
            &[],
        ),
        (
            "INSERT INTO accounts (id, tenant_id, email) SELECT v.id, 10, v.email FROM (VALUES (50, 'a'), (51, NULL)) v(id, email) WHERE v.email IS NOT NULL",
            &[],
        ),
        (
            "INSERT INTO accounts (id, tenant_id, email) SELECT v.id, v.tenant, v.email FROM (VALUES (50, 10, 'a'), (51, 20, 'b')) v(id, tenant, email) WHERE v.email <> 'b' AND v.tenant = 10",
            &[],
        ),
        (
            "INSERT INTO accounts (id, tenant_id, note) SELECT id + 100, tenant, note FROM unnest($1::int[], $2::int[], $3::text[]) v(id, tenant, note) WHERE note IS NOT NULL RETURNING *",
            &[Some("{1,2,3}"), Some("{10,20,30}"), Some("{a,NULL,c}")],
        ),
        (
            "UPDATE accounts SET note = v.note FROM (VALUES (1, 'x'), (3, NULL), (5, 'z')) v(id, note) WHERE accounts.id = v.id RETURNING accounts.id, accounts.note",
            &[],
        ),
        (
            "UPDATE accounts a SET note = v.note, email = v.email::text, pin = v.pin, title = 'bulk' FROM (VALUES (1, 'x', 'y', 7), (3, NULL, 'w', NULL)) v(id, note, email, pin) WHERE a.id = v.id",
            &[],
        ),
        (
            "UPDATE accounts a SET note = v.note FROM (VALUES (1, 10, 'x'), (3, 20, 'y'), (4, 10, 'z')) v(id, tenant, note) WHERE a.id = v.id AND a.tenant_id = v.tenant RETURNING a.note, v.note",
            &[],
        ),
        (
            "UPDATE accounts a SET note = v.note, email = $7 FROM (VALUES ($1::int, $2::text, $3::text), ($4, $5, $6)) v(id, note, name) WHERE a.id = v.id AND v.name <> 'q' RETURNING a.id, a.note, a.email",
            &[
                Some("1"),
                Some("x"),
                Some("n"),
                Some("5"),
                None,
                Some("m"),
                Some("e"),
            ],
        ),
        (
            "UPDATE accounts a SET email = v.email FROM unnest($1::int[], $2::int[], $3::text[]) v(id, tenant, email) WHERE a.id = v.id AND a.tenant_id = v.tenant RETURNING a.id, a.email, v.email",
            &[Some("{1,3}"), Some("{10,20}"), Some("{a,b}")],
        ),
        (
            r#"UPDATE "accounts" SET "note" = "excluded"."note" FROM (SELECT $1::int AS "id", $2::text AS "note") AS "excluded" WHERE "accounts"."id" = "excluded"."id""#,
            &[Some("1"), Some("x")],
        ),
        (
            "UPDATE accounts a SET note = v.note, pin = v.pin, title = 't' FROM unnest($1::int[], $2::text[], $3::int[]) v(id, note, pin) WHERE a.id = v.id",
            &[Some("{1,3,5,99}"), Some("{x,NULL,\"\"}"), Some("{1,2,3,4}")],
        ),
        (
            "UPDATE accounts a SET note = v.note FROM unnest('{1,3}'::int[], '{\"x \\\"y\\\"\",NULL}'::text[]) v(id, note) WHERE a.id = v.id RETURNING a.id, a.note",
            &[],
        ),
        (
            "UPDATE parts p SET label = v.label, size = v.size FROM unnest($1::bigint[], $2::text[], $3::numeric[]) v(id, label, size) WHERE p.id = v.id",
            &[Some("{1,2,3}"), Some("{a,b,NULL}"), Some("{1.005,NULL,3}")],
        ),
        (
            "UPDATE accounts a SET note = v.note FROM unnest($1::int[], $2::text[]) v(id, note) WHERE a.id = v.id",
            &[Some("{}"), None],
        ),
        (
            "UPDATE parts p SET (label, size) = (v.label, v.size) FROM (VALUES (1, 'x', 1.005), (3, 'y', NULL)) v(id, label, size) WHERE p.id = v.id",
            &[],
        ),
        (
            "UPDATE accounts a SET note = v.note FROM (VALUES (1, 'x'), (99, 'y')) v(id, note) WHERE a.id = v.id AND a.pin = 99",
            &[],
        ),
    ])
}

#[test]
fn what_no_key_is_known_for_is_refused() -> Result<()> {
    refused(&[
        "MERGE INTO accounts a USING plain p ON a.id = p.id WHEN MATCHED THEN UPDATE SET note = p.name",
        "MERGE INTO accounts a USING plain p ON a.id = p.id WHEN MATCHED THEN UPDATE SET tenant_id = 30",
        "MERGE INTO accounts a USING plain p ON a.id = p.id WHEN NOT MATCHED THEN INSERT (id, tenant_id, note) VALUES (p.id, p.tenant_id, 'x')",
        "MERGE INTO accounts a USING (VALUES (1, 10, 'x')) s(id, tenant, note) ON a.id = s.id WHEN MATCHED THEN UPDATE SET note = s.note WHEN NOT MATCHED THEN INSERT (id, tenant_id, note) VALUES (s.id, 20, s.note)",
        "MERGE INTO accounts a USING (VALUES (1, 10, 'x')) s(id, tenant, note) ON a.id = s.id WHEN MATCHED THEN UPDATE SET note = s.note, title = s.note",
        "MERGE INTO accounts a USING (VALUES (1, 10, 'x')) s(id, tenant, note) ON a.id = s.id AND lower(s.note) = 'x' WHEN MATCHED THEN UPDATE SET note = s.note",
        "MERGE INTO accounts a USING accounts b ON a.id = b.id + 1 WHEN MATCHED THEN UPDATE SET note = b.note",
        "INSERT INTO accounts (id, email) SELECT v.id, v.email FROM (VALUES (50, 'a')) v(id, email)",
        "UPDATE accounts a SET note = v.note FROM (VALUES (1, 'x')) v(id, note) WHERE a.id = v.id AND v.note = 'x'",
    ])?;
    refused_with(&[(
        "UPDATE accounts a SET note = v.note FROM unnest($1::text[]) WITH ORDINALITY AS v(note, n) WHERE a.id = v.n",
        &[Some("{x}")],
    )])
}

#[test]
fn every_value_is_under_the_key_of_its_rows_tenant() -> Result<()> {
    let twin = twin()?;
    for sql in [
        "INSERT INTO accounts (id, tenant_id, email, note) SELECT p0::INTEGER, p1::INTEGER, p2::VARCHAR, p3::VARCHAR FROM (VALUES (60, 10, 'a', 'n', 0), (61, 20, 'b', NULL, 1), (62, 30, NULL, 'm', 2)) AS imp_sen(p0, p1, p2, p3, sen_counter) ORDER BY sen_counter",
        "INSERT INTO parts (id, tenant, project, label) SELECT p0::BIGINT, p1, p2, p3::VARCHAR FROM (VALUES (50, 'acme', 'crm', 'l'), (51, 'acme', 'web', 'm')) AS v(p0, p1, p2, p3)",
        "UPDATE accounts SET note = v.note FROM (VALUES (1, 'x'), (3, 'y'), (5, 'z')) v(id, note) WHERE accounts.id = v.id",
        "UPDATE accounts SET note = v.note FROM unnest('{2,3,5}'::int[], '{u,v,w}'::text[]) v(id, note) WHERE accounts.id = v.id",
        "UPDATE accounts a SET note = v.note, pin = v.pin FROM (VALUES (1, 10, 'x', 3), (3, 20, 'y', 4)) v(id, tenant, note, pin) WHERE a.id = v.id AND a.tenant_id = v.tenant",
    ] {
        let (direct, through) = (twin.plain.psql("app", sql)?, twin.proxy.psql("app", sql)?);
        ensure!(direct == through, "{sql}\n{direct}\n{through}");
    }
    settled(&twin)?;
    let version = twin.plain.psql("app", "SHOW server_version_num")?;
    if version.trim().parse::<u32>()? < 150_000 {
        return Ok(());
    }
    for sql in [
        "MERGE INTO accounts a USING (VALUES (1, 10, 'x'), (70, 10, 'y'), (3, 20, 'z'), (71, 30, 'w')) AS s(id, tenant, email) ON a.id = s.id AND a.tenant_id = s.tenant WHEN MATCHED THEN UPDATE SET email = s.email WHEN NOT MATCHED THEN INSERT (id, tenant_id, email) VALUES (s.id, s.tenant, s.email)",
        "MERGE INTO accounts a USING (VALUES (1, 'p'), (3, 'q'), (5, 'r'), (72, 's')) AS s(id, note) ON a.id = s.id WHEN MATCHED THEN UPDATE SET note = s.note, pin = 9 WHEN NOT MATCHED THEN INSERT (id, tenant_id, email) VALUES (s.id, 20, 'e')",
        "MERGE INTO accounts a USING plain p ON a.id = p.id WHEN MATCHED AND a.id = 2 THEN UPDATE SET tenant_id = 30, email = 'moved', note = 'm', pin = 2, handle = 'h' WHEN MATCHED THEN UPDATE SET note = 'stays'",
        "MERGE INTO accounts a USING accounts b ON a.id = b.id + 500 WHEN NOT MATCHED THEN INSERT (id, tenant_id, email, note) VALUES (b.id + 500, b.tenant_id, b.email, b.note)",
    ] {
        let (direct, through) = (twin.plain.psql("app", sql)?, twin.proxy.psql("app", sql)?);
        ensure!(direct == through, "{sql}\n{direct}\n{through}");
    }
    settled(&twin)
}

/// PostgreSQL cuts blanks that are too many for the column off; the key is that of what is stored then.
#[test]
fn the_key_is_that_of_the_scope_as_it_is_stored() -> Result<()> {
    let twin = twin()?;
    let mut sessions = twin.sessions("app")?;
    let project = format!("crm{}", " ".repeat(18));
    for (id, oids, format) in [
        ("60", &[][..], 0),
        ("61", &[20, 25, 1043], 0),
        ("62", &[20, 25, 25], 1),
    ] {
        let binary = id.parse::<i64>()?.to_be_bytes();
        let id = if format == 1 {
            &binary[..]
        } else {
            id.as_bytes()
        };
        let sql = "INSERT INTO parts (id, tenant, project, size) VALUES ($1, $2, $3, 7) RETURNING project || '.'";
        let messages = [
            Message::parse("", sql, oids),
            Message::bind(&Bind {
                formats: &[format],
                params: &[Some(id), Some(b"acme"), Some(project.as_bytes())],
                ..Bind::default()
            }),
            Message::execute("", 0),
            Message::sync(),
        ];
        let (direct, through) = sessions.exchange(&messages, 1)?;
        if let Some(found) = judge(sql, Expect::Same, &direct, &through) {
            bail!("{found}");
        }
    }
    let scopes = twin.veiled.admin(&format!(
        "SELECT DISTINCT k.scope FROM parts p JOIN pgveil.keys k ON k.id = {} WHERE p.id >= 60",
        key("size")
    ))?;
    let expected = format!("tenant:acme/project:crm{}", "%20".repeat(17));
    ensure!(scopes.trim() == expected, "{scopes}");
    Ok(())
}
