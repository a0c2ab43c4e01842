//! Tables, views and materialized views that are made through pgveil out of protected tables, and used at once.

use anyhow::{Context, Result, ensure};
use pgveil_tests::{
    twin::{Case, Expect, Sessions, Verdict, compare},
    wire::Message,
};

use crate::{scripts, twin};

/// Every query as a table, a view and a materialized view of its own, and what these show. All in one transaction.
fn each_way(queries: &[&str]) -> Result<()> {
    let mut script = Vec::new();
    for (number, query) in queries.iter().enumerate() {
        for made in ["TEMP TABLE", "VIEW", "MATERIALIZED VIEW"] {
            let name = format!("made_{number}_{}", made.len());
            script.push(format!("CREATE {made} {name} AS {query}"));
            script.push(format!("SELECT * FROM {name}"));
            script.push(format!("DROP {} {name}", made.trim_start_matches("TEMP ")));
        }
    }
    let script: Vec<&str> = script.iter().map(String::as_str).collect();
    scripts(&[&script])
}

#[test]
fn queries_become_relations() -> Result<()> {
    each_way(&[
        "SELECT * FROM customers",
        "TABLE orders",
        "SELECT id, email AS e, region FROM customers WHERE region = 'eu'",
        "SELECT id, ssn FROM customers WHERE email = 'ada@example.com'",
        "SELECT id FROM customers WHERE email IN ('ada@example.com', 'eve@example.com')",
        "SELECT id FROM customers WHERE email = ANY ('{ada@example.com,eve@example.com}')",
        "SELECT id, email FROM customers WHERE email <> 'ada@example.com' AND age = 41",
        "SELECT email, count(*) FROM customers GROUP BY email",
        "SELECT email AS e, count(*) AS n FROM customers GROUP BY 1",
        "SELECT age, born, count(DISTINCT email) FROM customers GROUP BY age, born",
        "SELECT DISTINCT age FROM customers",
        "SELECT DISTINCT region, age FROM customers",
        "SELECT email FROM customers UNION ALL SELECT customer_email FROM orders",
        "SELECT email FROM customers UNION SELECT customer_email FROM orders",
        "SELECT c.id, o.item, o.customer_email FROM customers c JOIN orders o ON o.customer_email = c.email",
        "SELECT c.id, email, o.item FROM customers c JOIN orders o USING (id)",
        "SELECT c.*, o.item FROM customers c LEFT JOIN orders o ON o.customer_email = c.email",
        "SELECT email, plain FROM mails JOIN customers USING (id, email)",
        "SELECT COALESCE(c.email, o.customer_email) AS mail FROM customers c FULL JOIN orders o ON o.customer_id = c.id",
        "SELECT CASE WHEN region = 'eu' THEN email END AS mail FROM customers",
        "SELECT CASE WHEN region = 'eu' THEN email END FROM customers",
        "SELECT id, lag(email) OVER (ORDER BY id) FROM customers",
        "SELECT id, first_value(email) OVER (PARTITION BY region ORDER BY id) AS f FROM customers",
        "SELECT id, row_number() OVER (PARTITION BY email ORDER BY id) FROM customers",
        "SELECT (SELECT email FROM customers WHERE id = 2) AS one, 1 AS two",
        "SELECT (SELECT email FROM customers WHERE id = 2)",
        "SELECT * FROM (SELECT email, region FROM customers ORDER BY id LIMIT 2) s",
        "SELECT * FROM (SELECT email, count(*) AS n FROM customers GROUP BY email) s WHERE n = 1",
        "WITH c AS (SELECT id, email FROM customers) SELECT c.email, c.id FROM c",
        "WITH RECURSIVE r (n, mail) AS (SELECT 1, email FROM customers WHERE id = 1 UNION ALL SELECT n + 1, mail FROM r WHERE n < 3) SELECT * FROM r",
        "SELECT id, author, body FROM notes WHERE tenant_id = 10 AND author = 'ada'",
        "SELECT tenant_id, author, count(*) FROM notes GROUP BY tenant_id, author",
        "SELECT n.id, m.id AS other FROM notes n JOIN notes m ON m.tenant_id = n.tenant_id AND m.author = n.author",
        "SELECT id, who FROM events WHERE who = 'ada'",
        "SELECT e, customer_email FROM nested WHERE e = customer_email",
        "SELECT email, kind FROM everybody WHERE email = 'ada@example.com'",
        "SELECT id, email FROM kept WHERE email = 'ada@example.com'",
        "SELECT id, email, ssn FROM copied",
        "SELECT id, email IS NULL AS none FROM customers",
        "SELECT id FROM customers c WHERE EXISTS (SELECT FROM orders o WHERE o.customer_email = c.email)",
        "SELECT id, email FROM customers WHERE email IN (SELECT customer_email FROM orders)",
        "SELECT id, email FROM customers WHERE email NOT IN (SELECT customer_email FROM orders WHERE customer_email IS NOT NULL)",
        "SELECT count(*), count(email), count(DISTINCT email) FROM customers",
        "SELECT id, email FROM customers ORDER BY id DESC LIMIT 2",
        "SELECT id, email FROM customers TABLESAMPLE SYSTEM (100)",
        "SELECT region, email FROM customers WHERE (email, region) = ('ada@example.com', 'eu')",
        "SELECT id, email FROM customers WHERE born = '1815-12-10' OR age IS NOT DISTINCT FROM 41",
        "SELECT id, NULLIF(email, 'bob@example.com') AS mail FROM customers",
        "SELECT DISTINCT ON (region) region, email FROM customers ORDER BY region, id",
        "SELECT DISTINCT email FROM customers",
    ])
}

#[test]
fn a_table_made_of_a_query_is_there_at_once() -> Result<()> {
    scripts(&[
        &[
            "CREATE TABLE made AS SELECT id, email, born FROM customers WHERE region = 'eu'",
            "SELECT * FROM made ORDER BY id",
            "SELECT m.id, o.item FROM made m JOIN orders o ON o.customer_id = m.id ORDER BY 1, 2",
            "INSERT INTO made SELECT id, email, born FROM customers WHERE email = 'eve@example.com'",
            "UPDATE made SET email = NULL WHERE id = 1",
            "SELECT count(*), count(email) FROM made",
            "DELETE FROM made WHERE id = 3 RETURNING *",
            "ALTER TABLE made RENAME TO other",
            "SELECT email FROM other ORDER BY id",
            "DROP TABLE other",
            "SELECT count(*) FROM customers",
        ],
        &[
            "CREATE TABLE made AS SELECT id, email FROM customers",
            "!SELECT count(DISTINCT email) FROM made",
        ],
        &[
            "CREATE TABLE made AS SELECT id, email FROM customers",
            "!SELECT id FROM made WHERE email = 'ada@example.com'",
        ],
        &[
            "CREATE TEMP TABLE made ON COMMIT DROP AS SELECT email FROM customers",
            "!SELECT email FROM made GROUP BY email",
        ],
        &[
            "CREATE TABLE IF NOT EXISTS made (a, b) AS SELECT id, email FROM customers WITH NO DATA",
            "SELECT a, b FROM made",
            "INSERT INTO made SELECT id, email FROM customers",
            "SELECT a, b FROM made ORDER BY a",
        ],
        &[
            "SELECT id, email INTO made FROM customers WHERE age = 36",
            "SELECT * FROM made ORDER BY id",
        ],
        &[
            "SELECT * INTO TEMP TABLE made FROM customers",
            "SELECT email, region FROM made ORDER BY id",
            "SELECT id INTO UNLOGGED numbers FROM made WHERE region = 'eu'",
            "SELECT * FROM numbers ORDER BY 1",
        ],
        &["!CREATE TABLE made AS SELECT row_to_json(c) FROM customers c"],
        &["!CREATE TABLE made AS SELECT array_agg(email) FROM customers"],
        &["!CREATE TABLE made AS SELECT COALESCE(author, 'x') FROM notes"],
        &["!CREATE TABLE made AS SELECT upper(email) FROM customers"],
        &[
            "CREATE TABLE made AS SELECT COALESCE(email, 'none') AS mail FROM customers",
            "SELECT * FROM made",
        ],
    ])
}

#[test]
fn a_view_made_of_a_query_is_there_at_once() -> Result<()> {
    scripts(&[
        &[
            "CREATE VIEW made AS SELECT id, email FROM customers WHERE email = 'ada@example.com'",
            "SELECT * FROM made",
            "SELECT id FROM made WHERE email = 'ada@example.com'",
            "CREATE VIEW upon AS SELECT email, count(*) AS n FROM made GROUP BY email",
            "SELECT * FROM upon",
            "SELECT n FROM upon WHERE email = 'ada@example.com'",
            "CREATE OR REPLACE VIEW made AS SELECT id, email FROM customers WHERE email = 'bob@example.com'",
            "SELECT * FROM upon",
            "ALTER VIEW upon RENAME COLUMN n TO number",
            "ALTER VIEW upon RENAME TO above",
            "SELECT email, number FROM above",
            "DROP VIEW above, made",
            "SELECT email FROM customers ORDER BY id",
        ],
        &[
            "CREATE MATERIALIZED VIEW made AS SELECT id, email FROM customers WITH NO DATA",
            "REFRESH MATERIALIZED VIEW made",
            "SELECT id FROM made WHERE email = 'ada@example.com'",
            "CREATE UNIQUE INDEX ON made (id)",
            "UPDATE customers SET email = 'new@example.com' WHERE id = 1",
            "REFRESH MATERIALIZED VIEW CONCURRENTLY made",
            "SELECT * FROM made ORDER BY id",
            "SELECT count(DISTINCT email) FROM made",
            "ALTER MATERIALIZED VIEW made RENAME email TO mail",
            "SELECT mail FROM made WHERE mail = 'new@example.com'",
            "DROP MATERIALIZED VIEW made",
        ],
        &["!CREATE VIEW made AS SELECT lower(email) FROM customers"],
        &["!CREATE VIEW made AS SELECT email::varchar(3) FROM customers"],
        &["!CREATE VIEW made AS SELECT id FROM notes WHERE author = 'ada'"],
        &["!CREATE VIEW made AS SELECT COALESCE(email, 'x') FROM customers"],
        &[
            "CREATE VIEW made AS SELECT id, email FROM customers",
            "!ALTER VIEW made ALTER email SET DEFAULT 'x'",
        ],
    ])
}

/// Runs a statement on both for good.
fn commit(sessions: &mut Sessions, sql: &str) -> Result<Option<String>> {
    let (direct, veiled) = sessions.exchange(&[Message::query(sql)], 1)?;
    Ok(match compare(false, false, &direct, &veiled) {
        Verdict::Same => None,
        verdict => Some(format!("{sql}\n{verdict:#?}")),
    })
}

/// Another session relays nothing before it knows what was committed.
#[test]
fn what_is_made_is_known_to_every_session_at_once() -> Result<()> {
    let _alone = crate::ALONE.lock();
    let twin = twin()?;
    let (mut maker, mut other) = (twin.sessions("app")?, twin.sessions("app")?);
    let made = [
        "CREATE TABLE committed AS SELECT id, email FROM customers",
        "CREATE VIEW committed_view AS SELECT id, email FROM customers WHERE email = 'ada@example.com'",
        "CREATE MATERIALIZED VIEW committed_kept AS SELECT id, email FROM committed_view",
        "SELECT id, email INTO committed_into FROM customers",
        "ALTER TABLE committed_into RENAME TO committed_other",
    ];
    let mut wrong = Vec::new();
    for sql in made {
        wrong.extend(commit(&mut maker, sql)?);
        for sql in [
            "SELECT count(DISTINCT email) FROM committed_view",
            "SELECT id, email FROM committed_kept WHERE email = 'ada@example.com'",
            "SELECT * FROM committed ORDER BY id",
            "SELECT * FROM committed_other ORDER BY id",
        ] {
            wrong.extend(other.compare(&Case::new(sql), Expect::Same)?);
        }
    }
    for sql in [
        "SELECT count(DISTINCT email) FROM committed",
        "SELECT email, count(*) FROM committed_other GROUP BY email",
    ] {
        wrong.extend(other.compare(&Case::new(sql), Expect::Refused)?);
    }
    let types = "SELECT string_agg(DISTINCT format_type(atttypid, atttypmod), ',') FROM pg_attribute \
                 WHERE attrelid = ANY (ARRAY['committed', 'committed_other']::regclass[]) AND attname = 'email'";
    let types = twin.veiled.admin(types)?;
    for sql in [
        "DROP MATERIALIZED VIEW committed_kept",
        "DROP VIEW committed_view",
        "DROP TABLE committed, committed_other",
    ] {
        wrong.extend(commit(&mut maker, sql)?);
    }
    ensure!(
        types == "pgveil.sealed_text",
        "the columns are of type {types}"
    );
    crate::told(wrong, made.len())
}

/// A dump holds the definition that the server has: with search terms, and with the casts that the server puts in.
#[test]
fn a_dumped_view_is_restored_through_pgveil() -> Result<()> {
    let _alone = crate::ALONE.lock();
    let twin = twin()?;
    let queries = [
        (
            "SELECT id, email FROM customers WHERE email = 'ada@example.com' OR ssn IN ('222', '333')",
            "SELECT email FROM dumped ORDER BY id",
        ),
        (
            "SELECT DISTINCT email FROM customers",
            "SELECT count(*), count(email) FROM dumped",
        ),
        (
            "SELECT email, count(*) AS n FROM customers GROUP BY email",
            "SELECT count(email), sum(n) FROM dumped",
        ),
        (
            "SELECT c.id, o.item FROM customers c JOIN orders o ON o.customer_email = c.email",
            "SELECT id, item FROM dumped ORDER BY id, item",
        ),
    ];
    for (query, shown) in queries {
        for kind in ["VIEW", "MATERIALIZED VIEW"] {
            twin.proxy
                .psql("app", &format!("CREATE {kind} dumped AS {query}"))?;
            let before = twin.proxy.psql("app", shown)?;
            let printed = twin
                .veiled
                .admin("SET search_path = ''; SELECT pg_get_viewdef('public.dumped'::regclass)")?;
            ensure!(printed.contains("pgveil."), "{printed}");
            let (_, printed) = printed.split_once("SELECT").context("a definition")?;
            twin.proxy.psql("app", &format!("DROP {kind} dumped"))?;
            let restore = format!("CREATE {kind} public.dumped AS SELECT{printed}");
            twin.proxy.psql("app", &restore)?;
            let after = twin.proxy.psql("app", shown)?;
            twin.proxy.psql("app", &format!("DROP {kind} dumped"))?;
            ensure!(before == after, "{query}\nbefore: {before}\nafter: {after}");
        }
    }
    Ok(())
}
