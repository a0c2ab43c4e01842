//! What plain columns hold, stored in protected ones: imports from a staging table, values computed of the row's own columns.

use anyhow::{Context, Result, ensure};
use pgveil_tests::{
    postgres::TempPostgres,
    twin::{Case, Expect, Twin, sqlstate},
    wire::{Message, Wire, error_field, transcript},
};

const TABLES: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TABLE staging (
        id int PRIMARY KEY, tenant int, email text, name varchar(60), code char(6), born date, salary numeric,
        seen timestamptz, score float8, ok boolean, token uuid, tags text[], doc jsonb, raw bytea, mood mood, v int, note text
    );
    CREATE TABLE people (
        id int PRIMARY KEY, email text UNIQUE, name varchar(20), code char(6), born date, salary numeric(10,2),
        seen timestamptz, score float8, ok boolean, token uuid, doc jsonb, raw bytea, nick text, plain text
    );
    CREATE TABLE accounts (id int PRIMARY KEY, tenant_id int, email text, note varchar(30), plain text);
    CREATE TABLE tenants (id int PRIMARY KEY, slug text);
";

const POLICY: &str = r#"
public.people  scope = "platform"
    email: text, search = ["equality"]
    name: varchar(20), search = ["equality"]
    code: char(6), search = ["equality"]
    born: date, search = ["equality"]
    salary: numeric(10,2), search = ["equality"]
    seen: timestamptz, search = ["equality"]
    score: float8, search = ["equality"]
    ok: boolean
    token: uuid, search = ["equality"]
    doc: jsonb
    raw: bytea
    nick: text, search = ["equality"]
public.accounts  scope = "tenant:{tenant_id}"
    email: text, search = ["equality"]
    note: varchar(30)
"#;

const ROWS: &str = r#"
    INSERT INTO staging VALUES
        (1, 10, 'ada@x.test', 'Ada', 'a', '2000-02-29', 1.005, '2024-03-31 02:30+01', 0.1, true, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{a}', '{"b": 1, "a": [null]}', '\x00ff', 'ok', 1, 'x'),
        (2, 20, 'Bob@X.test', 'Bob', 'bb', '0044-03-15 BC', 99999999.994, 'infinity', 'NaN', false, NULL, NULL, 'null', '', 'sad', 2, E'quote '' " \\ /~'),
        (3, 20, 'ada@x.test', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (4, 30, NULL, 'a name of more than twenty', '', 'infinity', 1e9, '-infinity', '-0', NULL, NULL, '{}', '{}', NULL, NULL, 4, ''),
        (5, 30, 'Élise', 'É', 'é', '1970-01-01', -0.00, '1970-01-01 00:00+00', 1e300, true, NULL, NULL, '"x"', '\xdeadbeef', NULL, 5, 'é');
    INSERT INTO tenants VALUES (10, 'ten'), (20, 'twenty'), (30, 'thirty');
    INSERT INTO people (id, email, name, nick, plain) VALUES (101, 'one', 'One', 'o', 'p1'), (102, 'two', 'Two', NULL, 'p2'), (1, 'old', NULL, NULL, NULL);
    INSERT INTO accounts VALUES (201, 10, 'ada@x.test', 'n', 'a'), (202, 20, 'eve', NULL, 'b'), (203, 30, NULL, 'm', NULL);
"#;

fn twin() -> Result<Twin<'static>> {
    Twin::new(TempPostgres::shared()?, TABLES, POLICY, ROWS)
}

fn check(expect: Expect, statements: &[&str]) -> Result<()> {
    let twin = twin()?;
    let mut sessions = twin.sessions("app")?;
    let mut wrong = Vec::new();
    for sql in statements {
        wrong.extend(sessions.compare(&Case::new(sql), expect)?);
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let strangers = twin.veiled.admin(
        "SELECT a.id, k.scope FROM accounts a JOIN pgveil.keys k
             ON k.id = ('x' || encode(substr(a.email::bytea, 9, 8), 'hex'))::bit(64)::bigint
             WHERE k.scope <> 'tenant:' || a.tenant_id",
    )?;
    ensure!(
        strangers.trim().is_empty(),
        "sealed for another scope:\n{strangers}"
    );
    Ok(())
}

#[test]
fn rows_are_imported_from_a_plain_table() -> Result<()> {
    check(
        Expect::Same,
        &[
            "INSERT INTO people (id, email, name) SELECT s.id + 10, s.email, s.name FROM staging s WHERE s.id < 3 RETURNING id, email, name",
            "INSERT INTO people (id, email, plain) SELECT id + 20, lower(email) || '!', email FROM staging WHERE id IN (1, 2) RETURNING *",
            "INSERT INTO people (id, code, born, salary, seen, score, ok, token, doc, raw) SELECT id + 30, code, born, salary, seen, score, ok, token, doc, raw FROM staging WHERE id <> 4 RETURNING *",
            "INSERT INTO people (id, nick) (SELECT s.id + 40, s.note FROM staging AS s) ON CONFLICT DO NOTHING RETURNING nick",
            "INSERT INTO people (id, nick) SELECT id + 50, v::text FROM staging ORDER BY id LIMIT 2 RETURNING nick",
            "INSERT INTO people (id, nick, born) SELECT id + 60, concat_ws(' / ', name, v, note), seen::date FROM staging WHERE id < 4 RETURNING nick, born",
            "INSERT INTO people (id, nick) SELECT id + 70, 'user-' || id || '@x.test' FROM staging RETURNING nick",
            "INSERT INTO people (id, email, name) SELECT s.id, s.email, s.name FROM staging s WHERE s.id = 1 ON CONFLICT (id) DO UPDATE SET email = EXCLUDED.email, name = EXCLUDED.name RETURNING *",
            "INSERT INTO people (id, email) SELECT s.id + 80, s.email FROM staging s WHERE s.email IS NOT NULL ON CONFLICT (email) DO NOTHING RETURNING id, email",
            "INSERT INTO people (id, nick) SELECT s.id + 90, t.slug FROM staging s JOIN tenants t ON t.id = s.tenant WHERE s.v > 1 RETURNING nick",
            "INSERT INTO people (id, nick) SELECT s.id + 110, upper(x.email) FROM staging s JOIN (SELECT id, email FROM staging WHERE v < 3) AS x USING (id) RETURNING nick",
            "INSERT INTO people (id, nick, plain) SELECT id + 120, 'fixed', note FROM staging WHERE id < 3 RETURNING nick, plain",
            "WITH s AS (SELECT * FROM staging WHERE id < 3) INSERT INTO people (id, nick) SELECT id + 130, note FROM s RETURNING nick",
            "WITH i AS (INSERT INTO people (id, nick) SELECT id + 140, note FROM staging WHERE id < 3 RETURNING id, nick) SELECT * FROM i",
            "INSERT INTO people (id, nick) SELECT id + 150, note FROM staging WHERE false RETURNING nick",
            "INSERT INTO people (id, nick, salary) SELECT id + 160, email, v FROM staging RETURNING nick, salary",
            "INSERT INTO people (id, name) SELECT id + 170, name FROM staging",
            "INSERT INTO people (id, salary) SELECT id + 180, salary FROM staging",
            "INSERT INTO people (id, born) SELECT id + 190, email FROM staging",
            "INSERT INTO people (id, nick) SELECT 1, email FROM staging",
            "SELECT id, nick FROM people WHERE nick = 'user-3@x.test' OR nick = 'BOB@X.TEST' ORDER BY id",
            "SELECT * FROM people ORDER BY id",
        ],
    )
}

#[test]
fn values_are_made_of_the_rows_own_columns() -> Result<()> {
    check(
        Expect::Same,
        &[
            "UPDATE people SET email = 'deleted-' || id || '@x.test', name = 'gone', nick = NULL WHERE id = 101 RETURNING *",
            "UPDATE people SET email = concat('deleted-', id) RETURNING id, email",
            "UPDATE people SET nick = plain RETURNING id, nick",
            "UPDATE people AS p SET nick = p.plain || '-' || p.id, plain = 'z' WHERE p.id > 100 RETURNING nick, plain",
            "UPDATE people SET nick = COALESCE(plain, 'none') RETURNING id, nick",
            "UPDATE people SET nick = CASE WHEN id = 101 THEN plain ELSE nick END RETURNING id, nick",
            "UPDATE people p SET email = s.email, name = left(s.name, 20), born = s.born FROM staging s WHERE s.id = p.id RETURNING p.*",
            "UPDATE people p SET email = s.note FROM staging s WHERE s.id = 2 AND p.email = 'two' RETURNING p.email",
            "UPDATE people SET (email, nick) = (plain, 'n-' || plain) WHERE id = 102 RETURNING *",
            "MERGE INTO people p USING staging s ON p.id = s.id WHEN MATCHED THEN UPDATE SET nick = s.email",
            "WITH s AS (SELECT id, note FROM staging) UPDATE people p SET nick = s.note FROM s WHERE s.id = p.id RETURNING p.nick",
            "SELECT * FROM people ORDER BY id",
        ],
    )
}

#[test]
fn each_is_sealed_for_the_scope_of_its_row() -> Result<()> {
    check(
        Expect::Same,
        &[
            "INSERT INTO accounts (id, tenant_id, email, note) SELECT id, tenant, email, note FROM staging RETURNING *",
            "INSERT INTO accounts (id, tenant_id, email) SELECT id + 10, 20, email FROM staging RETURNING *",
            "INSERT INTO accounts (id, tenant_id, email, note) SELECT t.id + 300, t.id, 'admin@' || t.slug, 'welcome' FROM tenants t RETURNING *",
            "INSERT INTO accounts (id, tenant_id, email) SELECT t.id + 400, t.id, 'x' FROM tenants t RETURNING *",
            "UPDATE accounts SET email = 'a-' || id, note = plain RETURNING *",
            "UPDATE accounts SET email = 'a-' || id WHERE tenant_id = 20 RETURNING *",
            "UPDATE accounts a SET email = s.email, note = s.note FROM staging s WHERE s.tenant = a.tenant_id AND s.id IN (1, 2, 4) RETURNING a.*",
            "SELECT id FROM accounts WHERE tenant_id = 20 AND email = 'ada@x.test' ORDER BY id",
            "SELECT * FROM accounts ORDER BY id",
        ],
    )
}

#[test]
fn what_is_not_made_of_plain_columns_alone_is_refused() -> Result<()> {
    check(
        Expect::Refused,
        &[
            "INSERT INTO people (id, nick) SELECT id + 500, email || random() FROM staging",
            "INSERT INTO people (id, nick) SELECT id + 500, s.x FROM (SELECT id, 'secret' || email AS x FROM staging) s",
            "INSERT INTO people (id, nick) SELECT DISTINCT id + 500, email FROM staging",
            "INSERT INTO people (id, nick) SELECT max(id) + 500, email FROM staging GROUP BY email",
            "INSERT INTO people (id, nick) SELECT id + 500, email FROM staging UNION ALL SELECT 1, email FROM staging",
            "UPDATE people SET nick = gen_random_uuid()::text || plain",
            "UPDATE people SET nick = name || plain",
            "UPDATE people SET nick = (SELECT email FROM staging WHERE staging.id = people.id)",
            "UPDATE people SET name = CASE WHEN id = 101 THEN plain ELSE name END",
            "UPDATE people SET nick = plain WHERE random() < 2",
            "COPY (INSERT INTO people (id, nick) SELECT id + 600, note FROM staging RETURNING nick) TO STDOUT",
            "PREPARE p AS INSERT INTO people (id, nick) SELECT id + 600, note FROM staging",
            "MERGE INTO people p USING staging s ON p.id = s.id WHEN NOT MATCHED THEN INSERT (id, nick) VALUES (s.id, s.email)",
            "INSERT INTO people (id, name) SELECT id + 600, name FROM staging ORDER BY id LIMIT 1",
            "MERGE INTO people p USING staging s ON p.id = s.id - 3 WHEN MATCHED AND p.id < 0 THEN UPDATE SET name = s.name",
        ],
    )
}

#[test]
fn rows_are_chosen_by_parameters() -> Result<()> {
    let twin = twin()?;
    let mut sessions = twin.sessions("app")?;
    let mut wrong = Vec::new();
    for (sql, params) in [
        (
            "INSERT INTO people (id, email, nick) SELECT s.id + $1, s.email, $2 FROM staging s WHERE s.v = $3 OR s.id = $3 RETURNING *",
            &["10", "new", "2"][..],
        ),
        (
            "INSERT INTO accounts (id, tenant_id, email, note) SELECT id + $1, tenant, $2, note FROM staging WHERE tenant = $3 RETURNING *",
            &["10", "boss@x.test", "20"],
        ),
        (
            "UPDATE people SET email = 'gone-' || id, plain = $1 WHERE email = $2 RETURNING *",
            &["p", "two"],
        ),
        (
            "UPDATE accounts SET email = plain WHERE tenant_id = $1 AND email = $2 RETURNING *",
            &["20", "eve"],
        ),
        (
            "UPDATE people p SET nick = s.email FROM staging s WHERE s.id = $1 AND p.id = ANY ($2) RETURNING p.nick",
            &["2", "{101,102}"],
        ),
    ] {
        let params: Vec<_> = params.iter().map(|param| Some(*param)).collect();
        wrong.extend(sessions.compare(&Case::with(sql, &params), Expect::Same)?);
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

#[test]
fn a_row_that_changes_meanwhile_fails_the_statement() -> Result<()> {
    let twin = twin()?;
    let mut direct = Wire::connect(&twin.veiled.target("app"))?;
    let mut veiled = Wire::connect(&twin.proxy.target("app"))?;
    // The row is locked, so that the statement waits between what it asked and what it does.
    direct.query("BEGIN")?;
    direct.query("UPDATE people SET plain = 'other' WHERE id = 101")?;
    let update = "UPDATE people SET nick = plain WHERE id IN (101, 102)";
    veiled.send(&[Message::query(update)])?;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE public.people SET nick%'";
    let mut watching = Wire::connect(&twin.veiled.target("app"))?;
    let mut tries = 0;
    while !watching.query(waiting)?.contains("DataRow [\"1\"]") {
        tries += 1;
        ensure!(tries < 20_000, "the statement does not come to the lock");
        std::thread::yield_now();
    }
    direct.query("COMMIT")?;
    let replies = veiled.until_ready(1)?;
    let code = sqlstate(&replies);
    ensure!(code.as_deref() == Some("40001"), "{}", transcript(&replies));
    let error = replies.iter().find(|r| r.tag == b'E').context("an error")?;
    let hint = error_field(error, b'H').unwrap_or_default();
    ensure!(hint.contains("value-changed-meanwhile"), "{hint}");
    // Tried again it is right.
    let again = veiled.query(update)?;
    ensure!(again.contains("UPDATE 2"), "{again}");
    let shown = veiled.query("SELECT nick FROM people WHERE id IN (101, 102) ORDER BY id")?;
    let right = shown.contains("[\"other\"]") && shown.contains("[\"p2\"]");
    ensure!(right, "{shown}");
    Ok(())
}

#[test]
fn more_values_than_are_followed_are_refused() -> Result<()> {
    let twin = twin()?;
    let mut veiled = Wire::connect(&twin.proxy.target("app"))?;
    veiled
        .query("INSERT INTO tenants SELECT g, 'slug ' || g FROM generate_series(1001, 11001) g")?;
    let import = "INSERT INTO people (id, nick) SELECT id, slug FROM tenants WHERE id > 1000";
    let refused = veiled.query(import)?;
    ensure!(refused.contains("54000"), "{refused}");
    let taken = veiled.query(&format!("{import} AND id < 11001"))?;
    ensure!(taken.contains("INSERT 0 10000"), "{taken}");
    let found = veiled.query("SELECT id FROM people WHERE nick = 'slug 10321'")?;
    ensure!(found.contains("[\"10321\"]"), "{found}");
    // Too large in all, though they are few.
    veiled.query(
        "INSERT INTO tenants SELECT g, repeat(g::text, 4000000) FROM generate_series(101, 109) g",
    )?;
    let large = veiled.query(
        "INSERT INTO people (id, nick) SELECT id + 900000, slug FROM tenants WHERE id BETWEEN 101 AND 109",
    )?;
    ensure!(large.contains("54000"), "{large}");
    let alive = veiled.query("SELECT nick FROM people WHERE id = 101")?;
    ensure!(alive.contains("[\"o\"]"), "{alive}");
    Ok(())
}

#[test]
fn the_server_does_not_see_what_is_made_of_literals() -> Result<()> {
    let twin = twin()?;
    let mut veiled = Wire::connect(&twin.proxy.target("app"))?;
    for sql in [
        "UPDATE people SET email = 'canary-' || id WHERE id = 101",
        "INSERT INTO people (id, nick, name) SELECT id + 10, concat('canary-', name), 'canary' FROM staging WHERE id < 3",
    ] {
        let done = veiled.query(sql)?;
        ensure!(!done.contains("ErrorResponse"), "{done}");
        let seen = twin.veiled.admin(
            "SELECT query FROM pg_stat_activity WHERE backend_type = 'client backend'
                 AND datname = current_database() AND pid <> pg_backend_pid()",
        )?;
        ensure!(seen.contains("people"), "{seen}");
        ensure!(!seen.contains("canary"), "{seen}");
    }
    Ok(())
}
