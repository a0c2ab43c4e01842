//! `apply --decrypt`: sealed columns go back to plaintext while they are written to through the proxy, only with a token, and
//! the log says so.

use std::fs;

use anyhow::{Result, ensure};
use pgveil_keys::audit::Operation;
use pgveil_tests::{postgres::TempPostgres, site::Site};

use super::{ALL, INDEXES, SHAPE, online, same, token::token, whole};

const COLUMNS: &str = "public.people.email,public.people.note,public.people.born";
const NAMED: &str = "SELECT id, email, tenant, note, born, other FROM people ORDER BY id";

fn decrypt(site: &Site<'_>, args: &[&str]) -> Result<String> {
    let all = [&["--decrypt", COLUMNS, "--yes", "--full-speed"], args].concat();
    site.command("apply", &all)?.ok()
}

#[test]
fn columns_go_back_to_plaintext_while_they_are_written_to() -> Result<()> {
    let (database, mut site) = whole()?;
    site.apply()?;
    let proxy = site.serve()?;

    let unasked = site.command("apply", &["--decrypt", COLUMNS, "--yes"])?;
    ensure!(
        unasked.code == Some(1)
            && unasked
                .stderr
                .contains("column.decrypt needs a step-up token"),
        "{}",
        unasked.stderr
    );
    let columns = "SELECT count(*) FROM pg_attribute WHERE attname LIKE 'pgveil_%' AND NOT attisdropped AND attrelid = 'people'::regclass";
    ensure!(database.run(columns)? == "0");

    let right = token(&site, Operation::ColumnDecrypt, "platform")?;
    let said = decrypt(&site, &["--prepare", "--token", &right])?;
    ensure!(said.contains("ready for the swap"), "{said}");
    let again = site
        .command("apply", &["--online", "--yes", "--full-speed"])?
        .ok()?;
    ensure!(again.contains("Nothing to do"), "{again}");
    // In between it is used as ever, in the order of ever.
    proxy.psql(
        "app",
        "INSERT INTO people VALUES (4000, 'new', 'tenant0', 'a note', '2024-02-29');
         UPDATE people SET email = 'changed', note = NULL WHERE id = 4;
         UPDATE people SET tenant = 'tenant7' WHERE id = 5 AND email = 'canary5@example.com';
         DELETE FROM people WHERE id > 2900 AND id < 4000",
    )?;
    let stale = "SELECT count(*) FROM people WHERE pgveil_plain_email IS NULL";
    ensure!(
        database.run(stale)? != "0",
        "what was written stands beside what it was"
    );
    let before = proxy.psql("app", NAMED)?;
    same(&proxy.psql("app", ALL)?, &before)?;

    let said = decrypt(&site, &[])?;
    ensure!(said.contains("take it out of the policy"), "{said}");
    same(&database.run(NAMED)?, &before)?;
    let shape = database.run(SHAPE)?;
    for column in [
        "email|text|t|where to write|{support=r/app}",
        "note|character varying(40)|f||",
        "born|date|f||",
    ] {
        ensure!(shape.contains(column), "no {column} in\n{shape}");
    }
    ensure!(!shape.contains("pgveil"), "{shape}");
    let indexes = database.run(INDEXES)?;
    for index in [
        "CREATE UNIQUE INDEX people_email ON public.people USING btree (tenant, email)",
        "CREATE UNIQUE INDEX people_born ON public.people USING btree (tenant, born, id)",
    ] {
        ensure!(indexes.contains(index), "no {index} in\n{indexes}");
    }
    let twice = database.run(
        "INSERT INTO people (id, tenant, email) SELECT 9999, tenant, email FROM people WHERE id = 1",
    );
    ensure!(twice.is_err_and(|e| e.to_string().contains("people_email")));
    let left = "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname LIKE '~%') + (SELECT count(*) FROM pg_class WHERE relname LIKE 'pgveil\\_%')
        + (SELECT count(*) FROM pg_constraint WHERE conname LIKE 'pgveil\\_%')";
    ensure!(database.run(left)? == "0", "leftovers");

    let log = site
        .command(
            "audit",
            &["list", "--operation", "column.decrypt", "--json"],
        )?
        .ok()?;
    for part in [
        "\"begin\"",
        "plaintext at rest",
        "public.people.email",
        "\"end\"",
    ] {
        ensure!(log.contains(part), "no {part} in {log}");
    }
    // The policy still names it: it is served as what it is, and there is no gap.
    same(&proxy.psql("app", NAMED)?, &before)?;
    let late = site.serve()?;
    same(&late.psql("app", NAMED)?, &before)?;
    ensure!(late.log().contains("It is served as plaintext"));
    site.write_policy("")?;
    same(&site.serve()?.psql("app", NAMED)?, &before)?;
    // Who was interrupted when it had just ended says the same again, and hears no error; of another column it is one.
    let done = decrypt(&site, &["--token", &right])?;
    ensure!(done.contains("Nothing to do"), "{done}");
    let other = ["--decrypt", "public.people.other", "--yes"];
    let other = site.command("apply", &other)?;
    ensure!(
        other.stderr.contains("is no sealed column"),
        "{}",
        other.stderr
    );
    // A column that somebody else made plaintext is refused.
    site.write_policy(super::POLICY)?;
    database.run(
        "ALTER TABLE people ADD COLUMN other_note varchar(40); ALTER TABLE people DROP COLUMN note",
    )?;
    database.run("ALTER TABLE people RENAME COLUMN other_note TO note")?;
    let refused = site.serve()?.psql("app", "SELECT id FROM people");
    let refused = format!("{:.300?}", refused);
    ensure!(refused.contains("column-not-converted"), "{refused}");
    Ok(())
}

#[test]
fn a_decryption_is_undone_before_its_swap() -> Result<()> {
    let (database, site) = whole()?;
    online(&site)?;
    site.command("apply", &["--contract", "--yes"])?.ok()?;
    let (shape, indexes) = (database.run(SHAPE)?, database.run(INDEXES)?);
    let right = token(&site, Operation::ColumnDecrypt, "platform")?;
    decrypt(&site, &["--prepare", "--token", &right])?;
    ensure!(database.run(SHAPE)? != shape);
    site.command("apply", &["--rollback", "--yes"])?.ok()?;
    ensure!(database.run(SHAPE)? == shape);
    ensure!(database.run(INDEXES)? == indexes);
    let kept = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '~%'";
    ensure!(database.run(kept)? == "0");
    same(
        &site.serve()?.psql("app", ALL)?,
        &site.serve()?.psql("app", NAMED)?,
    )
}

#[test]
fn what_hangs_on_sealed_columns_keeps_them_sealed() -> Result<()> {
    for (ddl, why) in [
        ("CREATE VIEW v AS SELECT v FROM t", "view public.v uses v"),
        (
            "ALTER TABLE t ADD CONSTRAINT given CHECK (v IS NOT NULL)",
            "CHECK constraint given uses v",
        ),
        (
            "CREATE INDEX i ON t (octet_length(v))",
            "index i reads v otherwise",
        ),
        (
            "CREATE INDEX i ON t (id) WHERE v IS NULL",
            "index i reads v otherwise",
        ),
        (
            "CREATE TABLE copied AS SELECT id, v FROM t",
            "public.copied.v holds copies",
        ),
    ] {
        let database = TempPostgres::fresh_database()?;
        database.run("CREATE TABLE t (id int PRIMARY KEY, v text)")?;
        let site = Site::new(
            &database,
            r#"public.t  scope = "platform"  v: text, search = ["equality"]"#,
        )?;
        site.apply()?;
        site.serve()?
            .psql("app", "INSERT INTO t VALUES (1, 'one')")?;
        database.run(ddl)?;
        let right = token(&site, Operation::ColumnDecrypt, "platform")?;
        let ran = site.command(
            "apply",
            &["--decrypt", "public.t.v", "--yes", "--token", &right],
        )?;
        ensure!(
            ran.code == Some(1) && ran.stdout.contains(why),
            "{why}: {}{}",
            ran.stdout,
            ran.stderr
        );
        ensure!(
            database.run("SELECT count(*) FROM pg_attribute WHERE attname LIKE 'pgveil%'")? == "0"
        );
    }
    Ok(())
}

#[test]
fn arrays_enums_and_bytes_go_there_and_back() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(
        "CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'happy');
         CREATE TABLE t (id int PRIMARY KEY, mood mood, moods mood[], tags text[], grid int[], raw bytea, at timestamptz[]);
         INSERT INTO t SELECT n, (ARRAY['sad', 'it''s ok', 'happy', NULL])[n % 4 + 1]::mood,
             CASE WHEN n % 3 = 0 THEN ARRAY['happy', NULL, 'sad']::mood[] END,
             CASE WHEN n % 5 > 0 THEN ARRAY['a,b', 'c\"d', NULL, 'canary ' || n] ELSE '{}' END,
             CASE WHEN n % 2 = 0 THEN ARRAY[[n, 2], [3, NULL]] ELSE '[0:1]={1,2}'::int[] END,
             CASE WHEN n % 7 > 0 THEN decode(md5(n::text), 'hex') END,
             ARRAY[timestamptz '2024-02-29 12:00+01' + n * interval '1 hour', 'infinity']
         FROM generate_series(0, 600) n",
    )?;
    let policy = "[[table]]\nname = \"public.t\"\nscope = \"platform\"\n[table.column.mood]\ntype = \"mood\"\nsearch = [\"equality\"]\n\
        [table.column.moods]\ntype = \"mood[]\"\n[table.column.tags]\ntype = \"text[]\"\n[table.column.grid]\ntype = \"int4[]\"\n\
        [table.column.raw]\ntype = \"bytea\"\n[table.column.at]\ntype = \"timestamptz[]\"\n";
    let site = Site::new(&database, policy)?;
    let all = "SELECT id, mood, moods, tags, grid, raw, at FROM t ORDER BY id";
    let before = database.run(all)?;
    online(&site)?;
    same(&site.serve()?.psql("app", all)?, &before)?;
    // Back by undoing it, with rows that were written since.
    site.serve()?.psql(
        "app",
        "UPDATE t SET tags = tags, mood = mood, moods = moods, grid = grid, at = at, raw = raw",
    )?;
    site.command("apply", &["--rollback", "--yes"])?.ok()?;
    same(&database.run(all)?, &before)?;
    // And by decryption.
    online(&site)?;
    site.command("apply", &["--contract", "--yes"])?.ok()?;
    let right = token(&site, Operation::ColumnDecrypt, "platform")?;
    let columns =
        "public.t.mood,public.t.moods,public.t.tags,public.t.grid,public.t.raw,public.t.at";
    let args = [
        "--decrypt",
        columns,
        "--yes",
        "--full-speed",
        "--token",
        &right,
    ];
    site.command("apply", &args)?.ok()?;
    same(&database.run(all)?, &before)?;
    ensure!(
        database.run("SELECT count(*) FROM pg_constraint WHERE conname LIKE 'pgveil%'")? == "0"
    );
    let _ = fs::remove_file(right);
    Ok(())
}

/// A superuser turns a decryption that was permitted to another column, round, or plants one: nothing is opened.
#[test]
fn what_is_decrypted_cannot_be_exchanged_in_the_keystore() -> Result<()> {
    let (database, site) = whole()?;
    site.apply()?;
    let right = token(&site, Operation::ColumnDecrypt, "platform")?;
    let note = ["--decrypt", "public.people.note", "--yes", "--full-speed"];
    let prepare = [&note[..], &["--prepare", "--token", &right]].concat();
    site.command("apply", &prepare)?.ok()?;
    let kept = "CREATE TABLE kept_m AS SELECT * FROM pgveil.migrations; CREATE TABLE kept_c AS SELECT * FROM pgveil.migrated_columns";
    database.admin(kept)?;
    let restore = "UPDATE pgveil.migrations m SET (phase, way, table_oid, table_name, mac) = (k.phase, k.way, k.table_oid, k.table_name, k.mac) \
        FROM kept_m k WHERE k.id = m.id; DELETE FROM pgveil.migrated_columns; INSERT INTO pgveil.migrated_columns SELECT * FROM kept_c";
    for (change, words) in [
        (
            "UPDATE pgveil.migrated_columns c SET column_id = k.id, sealed_place = k.attnum \
             FROM pgveil.columns k WHERE k.column_name = 'email'",
            "does not fit its MAC",
        ),
        (
            "UPDATE pgveil.migrated_columns SET plain_place = (SELECT attnum FROM pg_attribute \
             WHERE attrelid = 'people'::regclass AND attname = 'other')",
            "does not fit its MAC",
        ),
        (
            "UPDATE pgveil.migrated_columns SET name = 'email'",
            "is being migrated online",
        ),
        (
            "UPDATE pgveil.migrated_columns SET not_null = NOT not_null",
            "does not fit its MAC",
        ),
        ("UPDATE pgveil.migrations SET mac = NULL", "has no MAC"),
        (
            "INSERT INTO pgveil.migrated_columns SELECT m.id, k.id, 'email', c.plain_place, k.attnum, false \
             FROM pgveil.migrations m, pgveil.migrated_columns c, pgveil.columns k WHERE k.column_name = 'email'",
            "does not fit its MAC",
        ),
    ] {
        // Again from the beginning: rows are opened in that phase.
        let change =
            format!("UPDATE pgveil.migrations SET phase = 'backfill', cursor = NULL; {change}");
        database.admin(&change)?;
        let ran = site.command("apply", &note)?;
        ensure!(
            ran.code == Some(1) && ran.stderr.contains(words),
            "{change}: {:?} {}{}",
            ran.code,
            ran.stdout,
            ran.stderr
        );
        let opened = "SELECT count(*) FROM people WHERE people::text LIKE '%canary1@example.com%'";
        ensure!(database.admin(opened)? == "0", "{change}");
        database.admin(restore)?;
    }
    // Turned round, it is no decryption any more: the values would be sealed once more.
    database.admin("UPDATE pgveil.migrations SET way = 'seal', phase = 'backfill'")?;
    let ran = site.command("apply", &["--online", "--yes", "--full-speed"])?;
    ensure!(
        ran.code == Some(1) && ran.stderr.contains("does not fit its MAC"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    database.admin(restore)?;
    site.command("apply", &note)?.ok()?;
    let opened = "SELECT count(*) FROM people WHERE note = 'canary note 2'";
    ensure!(database.admin(opened)? == "1");

    // What has ended does not come back: the column that it dropped is not there.
    database.admin("UPDATE pgveil.migrations SET phase = 'backfill', ended_at = NULL")?;
    let ran = site.command("apply", &["--decrypt", "public.people.note", "--yes"])?;
    ensure!(ran.code == Some(1), "{}{}", ran.stdout, ran.stderr);
    Ok(())
}
