//! What the domains refuse, and what the functions give to indexes and groups.

use anyhow::{Result, ensure};
use pgveil_tests::postgres::Database;

use super::installed;

/// SQL for a sealed value of column 1 and DEK 1 with the equality term md5(`text`), as its format has it.
fn sealed(text: &str) -> String {
    format!(
        "decode('504756010000000100000000000000010' || '1' || md5({text}) || repeat('00', 29), 'hex')"
    )
}

fn without_term() -> String {
    "decode('5047560100000001000000000000000100' || repeat('00', 28), 'hex')".to_owned()
}

async fn people() -> Result<Database<'static>> {
    let database = installed().await?;
    database.run("CREATE TABLE people (id int, email pgveil.sealed_text)")?;
    Ok(database)
}

#[tokio::test]
async fn a_domain_refuses_plaintext_from_anyone() -> Result<()> {
    let database = people().await?;
    for plaintext in [
        "'ada@example.com'",
        "repeat('x', 100)::bytea",
        "''",
        "'\\x50475601'",
        "'\\x50475602' || decode(repeat('00', 60), 'hex')",
    ] {
        let refused = database.admin(&format!(
            "INSERT INTO people VALUES (1, {plaintext}::bytea)"
        ));
        let refused = format!("{:#}", refused.expect_err("plaintext"));
        ensure!(
            refused.contains("violates check constraint \"sealed\""),
            "{plaintext}: {refused}"
        );
    }
    database.run("INSERT INTO people VALUES (1, NULL)")?;
    database.run(&format!(
        "INSERT INTO people VALUES (1, {})",
        without_term()
    ))?;
    ensure!(
        database.run("SELECT octet_length(email) FROM people WHERE email IS NOT NULL")? == "45"
    );
    Ok(())
}

#[tokio::test]
async fn every_logical_type_has_its_domain_over_bytea() -> Result<()> {
    let database = installed().await?;
    let domains = database.admin(
        "SELECT string_agg(typname, ' ' ORDER BY typname) FROM pg_type \
         WHERE typnamespace = 'pgveil'::regnamespace AND typtype = 'd' AND typbasetype = 'bytea'::regtype",
    )?;
    let bare = "bool bpchar bytea cidr date float4 float8 inet int2 int4 int8 interval json jsonb macaddr macaddr8 numeric text \
                time timestamp timestamptz timetz uuid varchar";
    let mut wanted: Vec<String> = bare
        .split_whitespace()
        .flat_map(|name| [format!("sealed_{name}"), format!("sealed_{name}[]")])
        .collect();
    wanted.sort_unstable();
    let mut found: Vec<&str> = domains.split_whitespace().collect();
    found.sort_unstable();
    ensure!(found == wanted, "{domains}");
    Ok(())
}

#[tokio::test]
async fn a_term_is_found_through_its_index() -> Result<()> {
    let database = people().await?;
    database.run(&format!(
        "INSERT INTO people SELECT i, {} FROM generate_series(1, 5000) i; \
         INSERT INTO people VALUES (0, NULL); \
         CREATE UNIQUE INDEX ON people (pgveil.eq_term(email)); ANALYZE people",
        sealed("i::text")
    ))?;
    let wanted = "pgveil.eq_term(email) = decode(md5('42'), 'hex')";
    ensure!(database.run(&format!("SELECT id FROM people WHERE {wanted}"))? == "42");
    let plan = database.run(&format!(
        "EXPLAIN (VERBOSE) SELECT id FROM people WHERE {wanted}"
    ))?;
    ensure!(
        plan.contains("Index Scan using people_eq_term_idx"),
        "{plan}"
    );
    ensure!(!plan.contains("pgveil.eq_term("), "not inlined: {plan}");
    let generic = database.run(
        "SET plan_cache_mode = force_generic_plan; \
         PREPARE p(bytea) AS SELECT id FROM people WHERE pgveil.eq_term(email) = $1; \
         EXPLAIN EXECUTE p('\\x00')",
    )?;
    ensure!(generic.contains("people_eq_term_idx"), "{generic}");
    Ok(())
}

#[tokio::test]
async fn a_unique_index_on_terms_refuses_the_second_and_admits_null() -> Result<()> {
    let database = people().await?;
    database.run("CREATE UNIQUE INDEX ON people (pgveil.eq_term(email))")?;
    database.run(&format!(
        "INSERT INTO people VALUES (1, {}), (2, {})",
        sealed("'a'"),
        sealed("'b'")
    ))?;
    ensure!(
        database
            .run(&format!("INSERT INTO people VALUES (3, {})", sealed("'a'")))
            .is_err()
    );
    database.run(&format!(
        "INSERT INTO people VALUES (3, {}) ON CONFLICT (pgveil.eq_term(email)) DO UPDATE SET id = 30; \
         INSERT INTO people VALUES (4, NULL), (5, NULL)",
        sealed("'a'")
    ))?;
    // What has no term could not be compared: it is refused, whoever writes it.
    let bare = database.run(&format!(
        "INSERT INTO people VALUES (6, {})",
        without_term()
    ));
    ensure!(
        format!("{bare:?}").contains("a sealed value has no equality term"),
        "{bare:?}"
    );
    ensure!(
        database.run("SELECT string_agg(id::text, ' ' ORDER BY id) FROM people")? == "2 4 5 30"
    );
    Ok(())
}

#[tokio::test]
async fn no_search_path_changes_what_a_function_means() -> Result<()> {
    let database = people().await?;
    let term = database.run(&format!(
        "CREATE FUNCTION public.substr(bytea, int, int) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$SELECT ''::bytea$$; \
         CREATE FUNCTION public.get_byte(bytea, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0'; \
         SET search_path = public, pg_catalog; SELECT pgveil.eq_term({}) = decode(md5('a'), 'hex')",
        sealed("'a'")
    ))?;
    ensure!(term == "t", "{term}");
    Ok(())
}

#[tokio::test]
async fn any_value_answers_one_of_the_group_and_null_only_for_nulls() -> Result<()> {
    let database = people().await?;
    database.run(&format!(
        "INSERT INTO people SELECT i, CASE WHEN i % 3 > 0 THEN {} END FROM generate_series(1, 3000) i",
        sealed("(i % 3)::text")
    ))?;
    let answer = "SELECT count(*), count(v), bool_and(v IS NULL OR pgveil.eq_term(v) = t) FROM \
        (SELECT pgveil.eq_term(email) t, pgveil.any_value(email) v FROM people GROUP BY 1) g";
    ensure!(database.run(answer)? == "3|2|t");
    let parallel = "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; ";
    ensure!(database.run(&format!("{parallel}{answer}"))? == "3|2|t");
    ensure!(database.run("SELECT pgveil.any_value(email) IS NULL FROM people WHERE false")? == "t");
    Ok(())
}

#[tokio::test]
async fn a_dump_restores_domains_functions_indexes_and_values() -> Result<()> {
    let database = people().await?;
    database.run(&format!(
        "INSERT INTO people SELECT i, {} FROM generate_series(1, 10) i; CREATE UNIQUE INDEX ON people (pgveil.eq_term(email))",
        sealed("i::text")
    ))?;
    let server = database.server();
    let (socket, port) = (server.socket_dir(), server.port().to_string());
    let pg_dump = server.bin().join("pg_dump");
    if !pg_dump.is_file() {
        println!("not asked: this server comes without its pg_dump, and an older one refuses it");
        return Ok(());
    }
    let dump = std::process::Command::new(pg_dump)
        .arg("-h")
        .arg(socket)
        .args(["-p", &port, "-U", "postgres", database.name()])
        .output()?;
    ensure!(
        dump.status.success(),
        "{}",
        String::from_utf8_lossy(&dump.stderr)
    );
    let copy = pgveil_tests::postgres::TempPostgres::fresh_database()?;
    copy.target("postgres")
        .psql(&String::from_utf8(dump.stdout)?)?;
    ensure!(
        copy.admin("SELECT id FROM people WHERE pgveil.eq_term(email) = decode(md5('7'), 'hex')")?
            == "7"
    );
    let version = copy.admin("SELECT value FROM pgveil.meta WHERE name = 'schema_version'")?;
    ensure!(
        version == pgveil_keys::schema::VERSION.to_string(),
        "{version}"
    );
    ensure!(
        copy.admin("INSERT INTO people VALUES (1, 'plaintext')")
            .is_err()
    );
    Ok(())
}
