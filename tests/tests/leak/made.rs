//! Roads through relations that are made of queries.

use crate::roads::Canaries;

/// Tables, views and materialized views with values in their queries; every one is made anew.
pub(crate) fn statements(c: &mut Canaries) -> Vec<String> {
    let statements = [
        "INSERT INTO vault (id, secret) VALUES ((random() * 1e9)::int, '{}')",
        "DROP TABLE IF EXISTS made_table, made_into, made_mixed",
        "DROP VIEW IF EXISTS made_view, made_upon, made_list",
        "DROP MATERIALIZED VIEW IF EXISTS made_kept",
        "CREATE TABLE made_table AS SELECT id, secret, code FROM vault WHERE secret <> '{}'",
        "CREATE TABLE made_mixed AS SELECT id, coalesce(secret, '{}') AS secret FROM vault",
        "CREATE TEMP TABLE made_temporary AS SELECT secret FROM vault UNION SELECT '{}'",
        "SELECT id, secret INTO made_into FROM vault WHERE secret IN ('{}', '{}')",
        "CREATE TABLE made_list AS SELECT upper(secret) || '{}' FROM vault",
        "CREATE VIEW made_view AS SELECT id, secret FROM vault WHERE secret <> '{}'",
        "CREATE VIEW made_upon AS SELECT secret, count(*) FROM made_view WHERE secret <> '{}' GROUP BY secret",
        "INSERT INTO made_view VALUES ((random() * 1e9)::int, '{}') RETURNING secret",
        "INSERT INTO made_view AS v VALUES (1, '{}') ON CONFLICT (id) DO UPDATE SET secret = '{}' WHERE v.secret <> '{}'",
        "UPDATE made_view SET secret = '{}' WHERE secret <> '{}' AND id = 2",
        "DELETE FROM made_view WHERE secret = '{}'",
        "INSERT INTO made_upon VALUES ('{}')",
        "UPDATE made_upon SET secret = '{}' WHERE secret = '{}'",
        "COPY made_view FROM STDIN",
        "CREATE VIEW made_list AS SELECT id FROM vault WHERE secret = ANY ('{\"{}\",\"{}\"}')",
        "CREATE VIEW made_refused AS SELECT coalesce(secret, '{}') FROM vault",
        "CREATE VIEW made_refused AS SELECT secret LIKE '{}' FROM vault",
        "CREATE VIEW made_refused AS SELECT id FROM by_tenant WHERE secret = '{}'",
        "CREATE RECURSIVE VIEW made_refused (a) AS SELECT id FROM vault WHERE secret = '{}'",
        "ALTER VIEW made_view ALTER secret SET DEFAULT '{}'",
        "CREATE MATERIALIZED VIEW made_kept AS SELECT id, secret, doc FROM vault WHERE secret <> '{}' WITH NO DATA",
        "REFRESH MATERIALIZED VIEW made_kept",
        "SELECT * FROM made_kept WHERE secret = '{}'",
        "SELECT * FROM made_table WHERE secret = '{}'",
        "INSERT INTO made_table (id, secret) VALUES (1, '{}')",
        "INSERT INTO made_into SELECT id, secret FROM vault WHERE secret <> '{}'",
        "UPDATE made_table SET secret = '{}'",
        "EXPLAIN ANALYZE CREATE TABLE made_explained AS SELECT secret FROM vault WHERE secret <> '{}'",
        "DROP TABLE IF EXISTS made_explained",
    ];
    let filled = statements.iter().map(|sql| {
        let mut sql = (*sql).to_owned();
        while sql.contains("{}") {
            sql = sql.replacen("{}", &c.text("made"), 1);
        }
        sql
    });
    filled.collect()
}
