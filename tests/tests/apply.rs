//! `plan` and `apply` against a real server: what becomes of a table, its rows, its indexes and its files; what is
//! refused, and that a refusal changes nothing.

#[path = "apply/reading.rs"]
mod reading;

use std::{error::Error, fs, path::Path, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use pgveil_config::{PolicyFile, Settings};
use pgveil_jobs::{
    JobError,
    apply::{ApplyReport, How, Outcome, apply},
    catalog, check,
    plan::{PlanReport, plan},
};
use pgveil_keys::{Keys, Keystore, clock::SystemClock, sealed::Envelope};
use pgveil_providers::local::{KekStore, LocalProvider};
use pgveil_tests::postgres::{Database, TempPostgres};
use postgres_types::{FromSql, Type};
use tempfile::TempDir;

/// A deployment's folder and what its files say.
struct Deployment {
    database: Database<'static>,
    settings: Settings,
    policy: PolicyFile,
    _dir: TempDir,
}

impl Deployment {
    /// `schema` is run as the owner of the tables.
    fn new(schema: &str, policy: &str) -> Result<Self> {
        let database = TempPostgres::fresh_database()?;
        if !schema.is_empty() {
            database.run(schema)?;
        }
        let dir = TempDir::new()?;
        LocalProvider::create_root_key(&dir.path().join("root.key"))?;
        let text = format!(
            "listen = \"127.0.0.1:0\"\npolicy = \"policy.toml\"\n\
             [upstream]\naddress = \"127.0.0.1:{}\"\ntls = \"disable\"\n\
             [keystore]\nurl = \"{}\"\n\
             [provider.main]\nkind = \"local\"\nroot_key_file = \"root.key\"\n\
             [defaults]\nprovider = \"main\"\nkey = \"platform\"\n",
            database.server().port(),
            database.url("pgveil")
        );
        fs::write(dir.path().join("pgveil.toml"), &text)?;
        fs::write(dir.path().join("policy.toml"), policy)?;
        let settings = Settings::parse(&text, &dir.path().join("pgveil.toml"))?;
        let policy = PolicyFile::parse(policy, &dir.path().join("policy.toml"))?;
        Ok(Self {
            database,
            settings,
            policy,
            _dir: dir,
        })
    }

    async fn plan(&self) -> Result<PlanReport> {
        let client = self.database.connect("pgveil").await?;
        Ok(plan(&self.settings, &self.policy, &client).await?)
    }

    async fn apply(&self) -> Result<ApplyReport, JobError> {
        apply(&self.settings, &self.policy, true, How::Waiting, |_| {
            panic!("--yes asks nobody")
        })
        .await
    }

    async fn keys(&self) -> Result<Keys> {
        let keystore = Arc::new(Keystore::connect(&self.settings).await?);
        let keks: Arc<dyn KekStore> = Arc::clone(&keystore) as _;
        let providers = pgveil_providers::build(&self.settings, &keks).await?;
        Ok(Keys::new(
            keystore,
            providers,
            &self.settings,
            Arc::new(SystemClock),
        ))
    }

    /// All values of a table in binary form, by row and column.
    async fn values(&self, table: &str) -> Result<Vec<Vec<Option<Vec<u8>>>>> {
        let client = self.database.connect("app").await?;
        let rows = client
            .query(&format!("SELECT * FROM {table} ORDER BY id"), &[])
            .await?;
        Ok(rows
            .iter()
            .map(|row| {
                (0..row.len())
                    .map(|at| row.get::<_, Option<Bytes>>(at).map(|b| b.0))
                    .collect()
            })
            .collect())
    }
}

/// The binary form of a value of any type.
struct Bytes(Vec<u8>);

impl<'a> FromSql<'a> for Bytes {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }
    fn accepts(_: &Type) -> bool {
        true
    }
}

const PEOPLE: &str = "
    CREATE TABLE people (id int PRIMARY KEY, gone text, email text NOT NULL, note text, born date);
    ALTER TABLE people DROP COLUMN gone;
    CREATE UNIQUE INDEX people_email ON people (email);
    COMMENT ON COLUMN people.email IS 'where to write';";

const PEOPLE_POLICY: &str = "
    [[table]]
    name = \"public.people\"
    scope = \"platform\"
    [table.column.email]
    type = \"text\"
    search = [\"equality\"]
    [table.column.note]
    type = \"text\"
    [table.column.born]
    type = \"date\"
    search = [\"equality\"]";

const FIVE_PEOPLE: &str = "INSERT INTO people SELECT n, 'canary' || n || '@example.com', \
    CASE WHEN n % 2 = 0 THEN 'canary note ' || n END, date '2000-01-01' + n FROM generate_series(1, 5) n;";

#[tokio::test]
async fn an_empty_table_is_converted_and_keeps_its_shape() -> Result<()> {
    let it = Deployment::new(PEOPLE, PEOPLE_POLICY)?;
    let report = it.apply().await?;
    ensure!(
        report.outcome == Outcome::Applied && report.remains.is_empty(),
        "{report}"
    );
    let shape = it.database.run(
        "SELECT attnum, attname, format_type(atttypid, atttypmod), attnotnull, col_description(attrelid, attnum)
         FROM pg_attribute WHERE attrelid = 'people'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY 1",
    )?;
    ensure!(
        shape
            == "1|id|integer|t|\n3|email|pgveil.sealed_text|t|where to write\n4|note|pgveil.sealed_text|f|\n5|born|pgveil.sealed_date|f|",
        "{shape}"
    );
    let refused = it
        .database
        .run("INSERT INTO people VALUES (1, 'plaintext')");
    ensure!(
        refused.is_err_and(|e| e.to_string().contains("sealed")),
        "the server took plaintext"
    );
    Ok(())
}

#[tokio::test]
async fn indexes_become_indexes_on_terms_under_their_names() -> Result<()> {
    let it = Deployment::new(
        "CREATE TABLE t (id int PRIMARY KEY, tenant int NOT NULL, email text, code text, phone text, other text,
                         CONSTRAINT t_email_key UNIQUE (tenant, email));
         CREATE INDEX t_code ON t USING hash (code);
         CREATE INDEX t_mixed ON t (phone text_pattern_ops, other COLLATE \"C\" DESC) INCLUDE (id) WITH (fillfactor = 70)
             WHERE phone IS NOT NULL;",
        "[[table]]
         name = \"t\"
         scope = \"tenant:{tenant}\"
         [table.column.email]
         type = \"text\"
         search = [\"equality\"]
         [table.column.code]
         type = \"text\"
         search = [\"equality\"]
         [table.column.phone]
         type = \"text\"
         search = [\"equality\"]",
    )?;
    let plan = it.plan().await?.to_string();
    let whole = "INCLUDE (id) WITH (fillfactor = E'70') WHERE (phone IS NOT NULL)";
    ensure!(
        plan.lines()
            .any(|line| line.contains("index t_mixed") && line.ends_with(whole)),
        "{plan}"
    );
    it.apply().await?;
    let indexes = it.database.run("SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 't'::regclass ORDER BY 1")?;
    let expected = [
        "CREATE INDEX t_code ON public.t USING hash (pgveil.eq_term((code)::bytea))",
        "CREATE INDEX t_mixed ON public.t USING btree (pgveil.eq_term((phone)::bytea), other COLLATE \"C\" DESC) \
         INCLUDE (id) WITH (fillfactor='70') WHERE (phone IS NOT NULL)",
        "CREATE INDEX t_phone_eq_idx ON public.t USING btree (pgveil.eq_term((phone)::bytea), tenant)",
        "CREATE UNIQUE INDEX t_email_key ON public.t USING btree (tenant, pgveil.eq_term((email)::bytea))",
        "CREATE UNIQUE INDEX t_pkey ON public.t USING btree (id)",
    ];
    ensure!(indexes == expected.join("\n"), "{indexes}");
    ensure!(it.plan().await?.is_nothing_to_do(), "{}", it.plan().await?);
    it.database.run("DROP INDEX t_phone_eq_idx")?;
    let again = it.apply().await?;
    ensure!(
        again.outcome == Outcome::Applied && again.tables.iter().all(|t| t.rows == 0),
        "{again}"
    );
    ensure!(it.database.run("SELECT to_regclass('t_phone_eq_idx')")? == "t_phone_eq_idx");
    Ok(())
}

#[tokio::test]
async fn a_unique_index_goes_on_refusing_duplicates() -> Result<()> {
    let it = Deployment::new(&format!("{PEOPLE}{FIVE_PEOPLE}"), PEOPLE_POLICY)?;
    it.apply().await?;
    let twice = it
        .database
        .run("INSERT INTO people SELECT 9, email FROM people WHERE id = 1");
    ensure!(
        twice.is_err_and(|e| e.to_string().contains("people_email")),
        "a duplicate was taken"
    );
    Ok(())
}

#[tokio::test]
async fn apply_twice_does_nothing_the_second_time() -> Result<()> {
    let it = Deployment::new(&format!("{PEOPLE}{FIVE_PEOPLE}"), PEOPLE_POLICY)?;
    ensure!(it.apply().await?.outcome == Outcome::Applied);
    let before = it.database.run("SELECT pg_relation_filenode('people')")?;
    let again = it.apply().await?;
    ensure!(again.outcome == Outcome::NothingToDo, "{again}");
    ensure!(it.database.run("SELECT pg_relation_filenode('people')")? == before);
    ensure!(again.to_string().starts_with("Nothing to do"));
    Ok(())
}

#[tokio::test]
async fn without_yes_it_shows_the_plan_and_asks() -> Result<()> {
    let it = Deployment::new(PEOPLE, PEOPLE_POLICY)?;
    let mut shown = String::new();
    let report = apply(&it.settings, &it.policy, false, How::Waiting, |plan| {
        shown = plan.to_string();
        false
    });
    ensure!(report.await?.outcome == Outcome::Declined);
    ensure!(
        shown.contains("+ schema pgveil") && shown.contains("~ column email"),
        "{shown}"
    );
    ensure!(
        it.database
            .run("SELECT to_regnamespace('pgveil') IS NULL")?
            == "t"
    );
    Ok(())
}

#[tokio::test]
async fn rows_of_every_type_open_to_what_they_were() -> Result<()> {
    let types = [
        ("bool", "true", "false"),
        ("int2", "-32768", "7"),
        ("int4", "2147483647", "0"),
        ("int8", "-9223372036854775808", "1"),
        ("float4", "'-0'", "1.5"),
        ("float8", "'NaN'", "1e300"),
        ("numeric(10,2)", "1.5", "-99999999.99"),
        ("text", "''", "'canary ü'"),
        ("varchar(5)", "'abcde'", "''"),
        ("bpchar(5)", "'ab'", "'abcde'"),
        ("bytea", "'\\x00ff'", "''"),
        ("date", "'infinity'", "'0044-03-15 BC'"),
        ("timestamp(3)", "'2024-02-29 12:34:56.789'", "'-infinity'"),
        (
            "timestamptz",
            "'2024-02-29 12:34:56.789012+05'",
            "'1900-01-01'",
        ),
        (
            "uuid",
            "'00112233-4455-6677-8899-aabbccddeeff'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        ),
        ("json", "'{\"b\": 1,  \"a\":2}'", "'null'"),
        ("jsonb", "'{\"b\": 1, \"a\": [1.50, null]}'", "'\"x\"'"),
        ("time(3)", "'12:34:56.789'", "'24:00'"),
        ("timetz", "'12:34:56.789+05:30'", "'00:00-15:59:59'"),
        ("interval", "'1 year -2 days 03:04:05.6'", "'-1 mon'"),
        ("interval day to minute", "'1 2:03'", "'0'"),
        ("inet", "'10.0.0.1/8'", "'::1'"),
        ("cidr", "'10.0.0.0/8'", "'2001:db8::/32'"),
        ("macaddr", "'08:00:2b:01:02:03'", "'ff:ff:ff:ff:ff:ff'"),
        (
            "macaddr8",
            "'08:00:2b:01:02:03:04:05'",
            "'00:00:00:00:00:00:00:00'",
        ),
        ("text[]", "'{a,\"b c\",NULL}'", "'[0:1][2:2]={{x},{y}}'"),
        ("numeric(6,2)[]", "'{1.5,NaN}'", "'{}'"),
        ("varchar(3)[]", "'{abc,\"\"}'", "'{NULL}'"),
    ];
    let columns: Vec<String> = types
        .iter()
        .enumerate()
        .map(|(n, (name, ..))| format!("c{n} {name}"))
        .collect();
    let row = |pick: fn(&(&str, &str, &str)) -> String| {
        types.iter().map(pick).collect::<Vec<_>>().join(", ")
    };
    let schema = format!(
        "CREATE TABLE every (id int, tenant text NOT NULL, {});
         INSERT INTO every VALUES (1, 'acme', {}), (2, 'b/c: d', {}), (3, 'acme', {});",
        columns.join(", "),
        row(|t| t.1.to_owned()),
        row(|t| t.2.to_owned()),
        row(|_| "NULL".to_owned()),
    );
    let mut policy =
        "[[table]]\nname = \"every\"\nscope = \"tenant:{tenant}/env:prod\"\n".to_owned();
    for (n, (name, ..)) in types.iter().enumerate() {
        let search = if *name == "json" {
            ""
        } else {
            "search = [\"equality\"]"
        };
        policy.push_str(&format!(
            "[table.column.c{n}]\ntype = \"{name}\"\n{search}\n"
        ));
    }
    let it = Deployment::new(&schema, &policy)?;
    let before = it.values("every").await?;
    let report = it.apply().await?;
    ensure!(
        report.tables[0].rows == 3 && report.tables[0].values == 2 * types.len() as u64,
        "{report}"
    );
    let after = it.values("every").await?;
    let keys = it.keys().await?;
    for (old, new) in before
        .iter()
        .flatten()
        .zip(after.iter().flatten())
        .filter(|(old, new)| old != new)
    {
        let new = new.as_ref().context("NULL where a value was")?;
        let envelope = Envelope::parse(new).map_err(|e| anyhow::anyhow!("{e:?}"))?;
        let key = keys.opening_key(envelope.dek).await?;
        let mut plain = Vec::new();
        envelope
            .open(&key, &mut plain)
            .map_err(|e| anyhow::anyhow!("{e:?}"))?;
        ensure!(old.as_deref() == Some(&plain[..]));
    }
    ensure!(
        after[2].iter().skip(2).all(Option::is_none),
        "NULL stays NULL"
    );
    ensure!(after[..2].iter().all(|row| {
        row.iter()
            .skip(2)
            .flatten()
            .all(|v| v.starts_with(b"PGV\x01"))
    }));
    let scopes = it
        .database
        .admin("SELECT string_agg(path, ' ' ORDER BY path) FROM pgveil.scopes")?;
    ensure!(
        scopes == "tenant:acme/env:prod tenant:b%2Fc%3A%20d/env:prod",
        "{scopes}"
    );
    Ok(())
}

#[tokio::test]
async fn a_wider_source_type_is_converted_if_every_value_fits() -> Result<()> {
    let it = Deployment::new(
        "CREATE TABLE t (id int PRIMARY KEY, a text, n int, d numeric);
         INSERT INTO t VALUES (1, 'abc', 5, 1.50), (2, NULL, NULL, NULL);",
        "[[table]]\nname = \"t\"\nscope = \"platform\"\n\
         [table.column.a]\ntype = \"varchar(3)\"\n[table.column.n]\ntype = \"int8\"\n[table.column.d]\ntype = \"numeric(5,2)\"",
    )?;
    it.apply().await?;
    ensure!(
        it.database
            .admin("SELECT string_agg(logical_type, ', ' ORDER BY id) FROM pgveil.columns")?
            == "character varying(3), bigint, numeric(5,2)"
    );
    Ok(())
}

/// Whatever is refused: the table stays as it was, and no message shows a value.
#[tokio::test]
async fn rows_that_cannot_be_converted_are_named_and_nothing_changes() -> Result<()> {
    let table = "CREATE TABLE t (id int PRIMARY KEY, tenant text, v text); INSERT INTO t VALUES ";
    let policy = |scope: &str, logical: &str| {
        format!(
            "[[table]]\nname = \"t\"\nscope = \"{scope}\"\n[table.column.v]\ntype = \"{logical}\""
        )
    };
    let cases = [
        (
            "(1, 'a', 'ok'), (42, 'a', 'canary')",
            policy("platform", "varchar(3)"),
            "row with id = 42: the value of v does not fit",
        ),
        (
            "(42, 'a', 'ab   ')",
            policy("platform", "varchar(3)"),
            "row with id = 42: the value of v does not fit",
        ),
        (
            "(42, NULL, 'canary')",
            policy("tenant:{tenant}", "text"),
            "row with id = 42: no scope, because tenant is NULL",
        ),
        (
            "(42, '', 'canary')",
            policy("tenant:{tenant}", "text"),
            "no scope, because tenant is NULL, empty",
        ),
        (
            "(42, 'a', 'canary')",
            policy("tenant:{session.tenant}", "text"),
            "reads the session setting pgveil.tenant",
        ),
    ];
    for (rows, policy, expected) in cases {
        let it = Deployment::new(&format!("{table}{rows}"), &policy)?;
        let before = it.database.run(
            "SELECT pg_relation_filenode('t'), md5(string_agg(t::text, '' ORDER BY id)) FROM t",
        )?;
        let Err(error) = it.apply().await else {
            bail!("{rows} was converted")
        };
        let text = format!("{error} / {}", error.cure());
        ensure!(
            text.contains(expected) && !text.contains("canary") && !text.contains("ab "),
            "{text}"
        );
        let after = it.database.run(
            "SELECT pg_relation_filenode('t'), md5(string_agg(t::text, '' ORDER BY id)) FROM t",
        )?;
        ensure!(before == after, "{rows}");
        ensure!(it.database.admin("SELECT count(*) FROM pgveil.columns")? == "0");
    }
    Ok(())
}

#[tokio::test]
async fn a_session_scope_is_fine_for_a_table_without_values() -> Result<()> {
    let it = Deployment::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, NULL);",
        "[[table]]\nname = \"t\"\nscope = \"tenant:{session.tenant}\"\n[table.column.v]\ntype = \"text\"",
    )?;
    ensure!(it.apply().await?.tables[0].rows == 1);
    Ok(())
}

/// Each row: DDL on a table t (id int, v text, w text), and what the plan must say. All block.
const BLOCKED: [(&str, &str); 16] = [
    (
        "ALTER TABLE t ADD CONSTRAINT c CHECK (v <> '')",
        "CHECK constraint c reads v",
    ),
    (
        "ALTER TABLE t ALTER COLUMN v SET DEFAULT 'canary'",
        "has a default",
    ),
    (
        "ALTER TABLE t ADD COLUMN g text GENERATED ALWAYS AS (lower(v)) STORED",
        "generated column g",
    ),
    (
        "ALTER TABLE t ADD UNIQUE (v); CREATE TABLE u (v text REFERENCES t (v))",
        "foreign key u_v_fkey of public.u uses v",
    ),
    ("CREATE VIEW s AS SELECT v FROM t", "view public.s shows v"),
    (
        "CREATE MATERIALIZED VIEW s AS SELECT v FROM t",
        "materialized view public.s holds a plaintext copy of v",
    ),
    (
        "CREATE INDEX i ON t (lower(v))",
        "index i is on an expression over v",
    ),
    (
        "CREATE INDEX i ON t (w) WHERE v <> ''",
        "partial index i has a condition on v",
    ),
    (
        "CREATE INDEX i ON t USING gin (to_tsvector('simple', v))",
        "index i is on an expression over v",
    ),
    ("CREATE INDEX i ON t USING brin (v)", "brin index i is on v"),
    (
        "ALTER TABLE t ADD CONSTRAINT x EXCLUDE USING btree (v WITH =)",
        "exclusion constraint x compares v",
    ),
    (
        "ALTER TABLE t ADD CONSTRAINT x UNIQUE (v) DEFERRABLE",
        "constraint x on v is deferrable",
    ),
    (
        "CREATE STATISTICS s ON v, w FROM t",
        "extended statistics public.s keep samples of v",
    ),
    (
        "CREATE POLICY p ON t USING (v = 'x')",
        "row security policy p on public.t reads v",
    ),
    (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER g BEFORE UPDATE OF v ON t FOR EACH ROW EXECUTE FUNCTION f()",
        "trigger g names v",
    ),
    (
        "CREATE TABLE h (copy t)",
        "column copy of public.h has this table's row type",
    ),
];

#[tokio::test]
async fn what_reads_plaintext_blocks_apply_and_has_a_cure() -> Result<()> {
    let policy = "[[table]]\nname = \"t\"\nscope = \"platform\"\n[table.column.v]\ntype = \"text\"\nsearch = [\"equality\"]";
    for (ddl, expected) in BLOCKED {
        let it = Deployment::new(
            &format!("CREATE TABLE t (id int PRIMARY KEY, v text, w text); {ddl}"),
            policy,
        )?;
        let plan = it.plan().await?;
        ensure!(
            plan.is_blocked() && plan.to_string().contains(expected),
            "{ddl}: {plan}"
        );
        ensure!(!plan.to_string().contains("canary"), "{plan}");
        let Err(JobError::Blocked { .. }) = it.apply().await else {
            bail!("{ddl} did not block")
        };
        ensure!(
            it.database
                .run("SELECT to_regnamespace('pgveil') IS NULL")?
                == "t",
            "{ddl}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_keeps_working_does_not_block() -> Result<()> {
    let policy = "[[table]]\nname = \"t\"\nscope = \"platform\"\n[table.column.v]\ntype = \"text\"";
    let it = Deployment::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text, w text, CHECK (v IS NOT NULL));
         CREATE INDEX i ON t (w) WHERE v IS NOT NULL; CREATE INDEX j ON t (v);
         CREATE VIEW s AS SELECT w FROM t;
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v := lower(NEW.v); RETURN NEW; END';
         CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();
         INSERT INTO t VALUES (1, 'x', 'y');",
        policy,
    )?;
    let plan = it.plan().await?.to_string();
    ensure!(
        plan.contains("? trigger function public.f mentions v") && plan.contains("- index j"),
        "{plan}"
    );
    it.apply().await?;
    ensure!(
        it.database
            .run("SELECT to_regclass('i') IS NOT NULL, to_regclass('j') IS NULL")?
            == "t|t"
    );
    Ok(())
}

#[tokio::test]
async fn a_table_dropped_and_made_again_gets_new_ids() -> Result<()> {
    let it = Deployment::new(PEOPLE, PEOPLE_POLICY)?;
    it.apply().await?;
    it.database
        .run(&format!("DROP TABLE people; {PEOPLE}{FIVE_PEOPLE}"))?;
    ensure!(it.apply().await?.tables[0].rows == 5);
    let ids = it.database.admin(
        "SELECT string_agg(id::text, ' ' ORDER BY id) FROM pgveil.columns WHERE retired_at IS NULL",
    )?;
    ensure!(ids == "4 5 6", "{ids}");
    Ok(())
}

/// Runs `body` in the middle of an apply, right after the server has rewritten table people.
fn when_rewritten(it: &Deployment, body: &str) -> Result<()> {
    it.database.admin(&format!(
        "CREATE FUNCTION public.meddle() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
             IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity = 'public.people') THEN
                 {body};
             END IF;
         END $$;
         CREATE EVENT TRIGGER meddle ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION public.meddle();"
    ))?;
    Ok(())
}

const PEOPLE_AS_THEY_ARE: &str =
    "SELECT pg_relation_filenode('people'), md5(string_agg(p::text, '' ORDER BY id)) FROM people p";

#[tokio::test]
async fn a_crash_in_the_middle_loses_nothing() -> Result<()> {
    let it = Deployment::new(&format!("{PEOPLE}{FIVE_PEOPLE}"), PEOPLE_POLICY)?;
    let before = it.database.run(PEOPLE_AS_THEY_ARE)?;
    it.database.admin("GRANT pg_signal_backend TO pgveil")?;
    when_rewritten(&it, "PERFORM pg_terminate_backend(pg_backend_pid())")?;
    ensure!(it.apply().await.is_err(), "the connection was cut");
    ensure!(it.database.run(PEOPLE_AS_THEY_ARE)? == before);
    it.database.admin("DROP EVENT TRIGGER meddle")?;
    ensure!(it.apply().await?.tables[0].rows == 5);
    Ok(())
}

#[tokio::test]
async fn verification_notices_a_swapped_a_lost_and_a_changed_value() -> Result<()> {
    for meddling in [
        "UPDATE public.people p SET email = o.email FROM public.people o WHERE o.id = 3 - p.id",
        "UPDATE public.people SET note = NULL WHERE id = 2",
        "DELETE FROM public.people WHERE id = 5",
        "UPDATE public.people SET note = (note::bytea || '\\x00')::pgveil.sealed_text WHERE id = 2",
    ] {
        let it = Deployment::new(&format!("{PEOPLE}{FIVE_PEOPLE}"), PEOPLE_POLICY)?;
        let before = it.database.run(PEOPLE_AS_THEY_ARE)?;
        when_rewritten(&it, meddling)?;
        let refused = it.apply().await;
        ensure!(
            matches!(refused, Err(JobError::VerificationFailed { .. })),
            "{meddling}: {refused:?}"
        );
        ensure!(it.database.run(PEOPLE_AS_THEY_ARE)? == before, "{meddling}");
    }
    Ok(())
}

#[tokio::test]
async fn no_plaintext_is_left_in_the_files_of_the_database() -> Result<()> {
    let it = Deployment::new(PEOPLE, PEOPLE_POLICY)?;
    it.database.run(
        "INSERT INTO people SELECT n, 'canary' || n || '@example.com', repeat('canary' || md5(n::text), 1 + n % 400),
             date '2000-01-01' + n FROM generate_series(1, 2000) n;
         UPDATE people SET note = 'canary again' WHERE id % 3 = 0; DELETE FROM people WHERE id % 7 = 0;
         ANALYZE people;",
    )?;
    it.database.admin("CHECKPOINT")?;
    let oid = it
        .database
        .run("SELECT oid FROM pg_database WHERE datname = current_database()")?;
    let base = it.database.server().data_dir().join("base").join(oid);
    ensure!(holds(&base, b"canary")?, "the search itself works");
    let report = it.apply().await?;
    ensure!(
        report
            .remains
            .iter()
            .any(|place| place.contains("write-ahead log")),
        "{report}"
    );
    it.database.admin("CHECKPOINT")?;
    ensure!(!holds(&base, b"canary")?, "plaintext is left in base/");
    ensure!(
        it.database
            .run("SELECT count(*), count(note) > 0 FROM people")?
            == "1715|t"
    );
    Ok(())
}

fn holds(dir: &Path, needle: &[u8]) -> Result<bool> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        // A file that goes between listing and reading holds nothing any more.
        let found = if path.is_dir() {
            holds(&path, needle)?
        } else {
            fs::read(&path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|w| w == needle))
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}
