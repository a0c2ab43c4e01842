//! What is read before anything is changed: the catalog, its fingerprint, and `check`.

use super::*;

#[tokio::test]
async fn the_fingerprint_sees_ddl_and_nothing_else() -> Result<()> {
    let it = Deployment::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE VIEW w AS SELECT v FROM t",
        "",
    )?;
    let client = it.database.connect("stranger").await?;
    let mut last = catalog::fingerprint(&client).await?;
    it.database.run("INSERT INTO t SELECT n FROM generate_series(1, 1000) n; ANALYZE t; CREATE TEMP TABLE x (id int)")?;
    it.database.admin("VACUUM t")?;
    ensure!(
        catalog::fingerprint(&client).await? == last,
        "rows, statistics and temporary tables are no DDL"
    );
    for ddl in [
        "ALTER TABLE t ADD COLUMN z int",
        "ALTER TABLE t RENAME COLUMN z TO y",
        "ALTER TABLE t ALTER COLUMN y SET DEFAULT 5",
        "CREATE INDEX i ON t (y)",
        "ALTER INDEX i RENAME TO j",
        "CREATE OR REPLACE VIEW w AS SELECT v, id FROM t",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
        "CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING",
        "CREATE TABLE c () INHERITS (t)",
        "ALTER TABLE c NO INHERIT t",
        "DROP TABLE c",
        "CREATE SCHEMA s",
        "ALTER TABLE t SET SCHEMA s",
    ] {
        it.database.run(ddl)?;
        let now = catalog::fingerprint(&client).await?;
        ensure!(now != last, "{ddl} was not seen");
        last = now;
    }
    Ok(())
}

#[tokio::test]
async fn the_catalog_is_read_without_rights() -> Result<()> {
    let it = Deployment::new(
        "CREATE TABLE t (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, v varchar(5) DEFAULT 'x', UNIQUE (v, id));
         CREATE UNIQUE INDEX t_lower ON t (lower(v)) WHERE id > 0; CREATE TABLE c () INHERITS (t);
         CREATE FUNCTION f() RETURNS SETOF t LANGUAGE sql BEGIN ATOMIC SELECT * FROM t; END;
         CREATE VIEW w AS SELECT v FROM f();",
        "",
    )?;
    let client = it.database.connect("stranger").await?;
    let catalog = catalog::read_unjudged(&client).await?;
    let t = catalog.relation("public", "t").context("t")?;
    let v = t.column("v").context("v")?;
    ensure!(
        (v.type_name.as_str(), v.typmod, v.default.as_deref())
            == ("character varying(5)", 9, Some("'x'::character varying"))
    );
    ensure!(t.column("id").is_some_and(|c| c.identity && c.not_null));
    let lower = t
        .uniques
        .iter()
        .find(|u| u.name == "t_lower")
        .context("t_lower")?;
    ensure!(
        lower.partial && lower.attnums == [0] && lower.keys == ["lower(v::text)"],
        "{lower:?}"
    );
    ensure!(
        catalog
            .relation("public", "c")
            .is_some_and(|c| c.parents == [t.oid])
    );
    let f = catalog.functions.first().context("f")?;
    ensure!(
        f.returns_relation == Some(t.oid) && f.body.contains("public.t"),
        "{f:?}"
    );
    ensure!(
        catalog
            .relation("public", "w")
            .is_some_and(|w| w.calls == [f.oid])
    );
    ensure!(catalog.relation("pg_catalog", "pg_class").is_some());
    Ok(())
}

#[tokio::test]
async fn the_columns_of_the_systems_functions_are_those_that_the_server_shows() -> Result<()> {
    let it = Deployment::new("", "")?;
    let client = it.database.connect("stranger").await?;
    let catalog = catalog::read_unjudged(&client).await?;
    // Every function of a schema that a call with NULLs of its types can mean.
    let functions = client
        .query(
            "SELECT p.proname::text, format('%I.%I(%s)', n.nspname, p.proname,
                        (SELECT string_agg(format('%s NULL::%s', CASE WHEN p.provariadic <> 0 AND a.number = p.pronargs THEN 'VARIADIC' END,
                                CASE t.typname WHEN 'anyelement' THEN 'int4' WHEN 'anycompatible' THEN 'int4'
                                     WHEN 'anyarray' THEN 'int4[]' WHEN 'anycompatiblearray' THEN 'int4[]'
                                     WHEN 'anyrange' THEN 'int4range' WHEN 'anymultirange' THEN 'int4multirange'
                                     ELSE format_type(t.oid, NULL) END), ', ' ORDER BY a.number)
                         FROM unnest(p.proargtypes) WITH ORDINALITY AS a(type, number) JOIN pg_type t ON t.oid = a.type))
             FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_type r ON r.oid = p.prorettype
             WHERE n.nspname IN ('pg_catalog', 'information_schema') AND p.prokind = 'f' AND r.typname NOT IN ('trigger', 'event_trigger')
               AND NOT EXISTS (SELECT FROM unnest(p.proargtypes) AS a(type) JOIN pg_type t ON t.oid = a.type
                               WHERE t.typtype = 'p' AND t.typname !~ '^any(element|compatible|array|compatiblearray|range|multirange)$')
               AND (p.proretset OR p.proargmodes IS NOT NULL OR p.oid::int8 % 8 = 0)
             ORDER BY 2",
            &[],
        )
        .await?;
    let mut compared = 0;
    for function in functions {
        let (name, call): (String, String) = (function.try_get(0)?, function.try_get(1)?);
        let known = catalog.system_functions.get(&name).context("a name")?;
        let Some(known) = known else { continue };
        let mut wanted = if known.is_empty() {
            vec!["given".to_owned()]
        } else {
            known.clone()
        };
        wanted.push("ordinality".to_owned());
        let sql = format!("SELECT * FROM {call} WITH ORDINALITY AS given");
        let Ok(statement) = client.prepare(&sql).await else {
            // Of some the server does not know which one is meant.
            continue;
        };
        let shown = statement.columns().iter();
        let shown: Vec<_> = shown.map(|column| column.name().to_owned()).collect();
        ensure!(shown == wanted, "{call}: {shown:?} is not {wanted:?}");
        compared += 1;
    }
    ensure!(compared > 250, "{compared} functions");
    let of = |name: &str| catalog.system_functions.get(name).cloned().flatten();
    ensure!(of("generate_series") == Some(Vec::new()));
    ensure!(of("jsonb_array_elements") == Some(vec!["value".to_owned()]));
    ensure!(of("json_each") == Some(vec!["key".to_owned(), "value".to_owned()]));
    ensure!(of("json_populate_record").is_none() && of("unnest").is_none());
    Ok(())
}

#[tokio::test]
async fn check_finds_what_keeps_pgveil_from_serving() -> Result<()> {
    let policy = format!("{PEOPLE_POLICY}\nreveal = [\"suport\"]");
    let mut it = Deployment::new(&format!("{PEOPLE}{FIVE_PEOPLE}"), &policy)?;
    let report = check::check(&it.settings).await.to_string();
    for expected in [
        "schema pgveil is not installed",
        "names role suport, which does not exist; did you mean support?",
    ] {
        ensure!(report.contains(expected), "{report}");
    }
    it.policy = PolicyFile::parse(PEOPLE_POLICY, Path::new("policy.toml"))?;
    fs::write(&it.settings.policy, PEOPLE_POLICY)?;
    it.apply().await?;
    let report = check::check(&it.settings).await;
    ensure!(report.is_good() && report.warnings.is_empty(), "{report}");

    it.settings.upstream.address = "127.0.0.1:1".to_owned();
    LocalProvider::create_root_key(&it.settings.policy.with_file_name("other.key"))?;
    fs::rename(
        it.settings.policy.with_file_name("other.key"),
        it.settings.policy.with_file_name("root.key"),
    )?;
    it.database.admin("ALTER ROLE app SET standard_conforming_strings = off; REVOKE ALL ON pgveil.keys FROM pgveil")?;
    it.database.run("CREATE TABLE fresh (id int, v text)")?;
    fs::write(
        &it.settings.policy,
        format!(
            "{PEOPLE_POLICY}\n[[table]]\nname = \"fresh\"\nscope = \"platform\"\n[table.column.v]\ntype = \"text\""
        ),
    )?;
    let report = check::check(&it.settings).await.to_string();
    for expected in [
        "cannot reach PostgreSQL at 127.0.0.1:1",
        "root.key does not open the keystore's key encryption keys",
        "public.fresh.v is not converted yet",
        "standard_conforming_strings is off for role app",
        "lacks SELECT, INSERT, UPDATE on pgveil.keys",
    ] {
        ensure!(report.contains(expected), "no {expected:?} in:\n{report}");
    }
    it.database
        .admin("ALTER ROLE app RESET standard_conforming_strings")?;
    Ok(())
}
