//! The roads that a plaintext could take. Each use of a canary makes a new one, so that a leak names its road.

use pgveil_tests::wire::{Bind, Message};

/// Makes canaries and remembers them.
#[derive(Default)]
pub(crate) struct Canaries {
    made: Vec<String>,
}

impl Canaries {
    /// A text that occurs nowhere else.
    pub(crate) fn text(&mut self, road: &str) -> String {
        self.remember(format!("canary-{:03}-{road}-x7q", self.made.len()))
    }

    /// Eighteen digits: a value of int8 and of numeric.
    fn digits(&mut self) -> String {
        self.remember(format!("7{:03}83645192048361", self.made.len() % 1000))
    }

    fn uuid(&mut self) -> String {
        self.remember(format!(
            "c0ffee99-9c0b-4ef8-bb6d-{:012x}",
            0x6bb9_bd38_0000_u64 + self.made.len() as u64
        ))
    }

    fn remember(&mut self, canary: String) -> String {
        self.made.push(canary.clone());
        canary
    }

    pub(crate) fn all(&self) -> &[String] {
        &self.made
    }
}

/// Statements of one string each: values, search operands, and everything that is refused or fails.
pub(crate) fn statements(c: &mut Canaries) -> Vec<String> {
    let mut all = stored(c);
    all.extend(searched(c));
    all.extend(failed(c));
    all.extend(refused(c));
    all
}

/// A table that is made, renamed, dropped and rolled back within transactions, written to under whatever name it has.
pub(crate) fn made_within(c: &mut Canaries) -> Vec<String> {
    let definitions = [
        (
            "CREATE TABLE fresh (id int, secret text)",
            "fresh",
            "secret",
        ),
        ("ALTER TABLE fresh RENAME TO fresh_a", "fresh_a", "secret"),
        ("SAVEPOINT b", "fresh_a", "secret"),
        ("ALTER TABLE fresh_a RENAME TO fresh_b", "fresh_b", "secret"),
        ("ROLLBACK TO b", "fresh_a", "secret"),
        (
            "ALTER TABLE fresh_a RENAME COLUMN secret TO hidden",
            "fresh_a",
            "hidden",
        ),
        ("DROP TABLE fresh_a", "fresh", "secret"),
        (
            "CREATE TABLE fresh (secret text, id int)",
            "fresh",
            "secret",
        ),
    ];
    let mut road = Vec::new();
    for end in 1..=definitions.len() {
        road.push("BEGIN".to_owned());
        for (sql, table, column) in &definitions[..end] {
            road.push((*sql).to_owned());
            let mut say = |what: &str| {
                road.push("SAVEPOINT try".to_owned());
                road.push(what.replace('?', &c.text("fresh")));
                road.push("ROLLBACK TO try".to_owned());
            };
            say(&format!(
                "INSERT INTO {table} (id, {column}) VALUES (1, '?')"
            ));
            say(&format!(
                "SELECT id FROM {table} WHERE {column} = '?' AND 1 / 0 = 1"
            ));
        }
        road.push(if end % 2 == 0 { "COMMIT" } else { "ROLLBACK" }.to_owned());
        road.push("DROP TABLE IF EXISTS fresh, fresh_a, fresh_b".to_owned());
    }
    road
}

fn stored(c: &mut Canaries) -> Vec<String> {
    // Ids differ from call to call, so that each road stores its row.
    let id = 1000 + c.made.len() * 100;
    vec![
        format!(
            "INSERT INTO vault (id, secret) VALUES ({}, '{}')",
            id + 1,
            c.text("literal")
        ),
        format!(
            "INSERT INTO vault (id, secret) VALUES ({}, E'{}\\n')",
            id + 2,
            c.text("escaped")
        ),
        format!(
            "INSERT INTO vault (id, secret) VALUES ({}, $q${}$q$)",
            id + 3,
            c.text("dollar")
        ),
        format!(
            "INSERT INTO vault (id, secret) VALUES ({}, U&'{}\\00e9')",
            id + 4,
            c.text("unicode")
        ),
        format!(
            "INSERT INTO vault (id, secret) VALUES ({}, text '{}')",
            id + 5,
            c.text("typed")
        ),
        format!(
            "INSERT INTO vault (id, secret) VALUES ({}, '{}'::text)",
            id + 6,
            c.text("cast")
        ),
        format!(
            "INSERT INTO vault (id, secret) VALUES ({}, '{}'\n'{}')",
            id + 7,
            c.text("joined"),
            c.text("continued")
        ),
        format!(
            "INSERT INTO vault (id, secret) VALUES ({}, '{}'), ({}, '{}')",
            id + 8,
            c.text("row1"),
            id + 9,
            c.text("row2")
        ),
        format!(
            "INSERT INTO vault (id, secret) VALUES ({}, '{}') RETURNING *",
            id + 10,
            c.text("returning")
        ),
        format!(
            "INSERT INTO vault VALUES ({}, 1, '{}', '{}')",
            id + 11,
            c.text("no-columns"),
            c.text("code")
        ),
        format!(
            "INSERT INTO vault (id, amount, big, token) VALUES ({}, {}, {}, '{}')",
            id + 12,
            c.digits(),
            c.digits(),
            c.uuid()
        ),
        format!(
            "INSERT INTO vault (id, doc) VALUES ({}, '{{\"{}\": \"{}\"}}')",
            id + 13,
            c.text("key"),
            c.text("value")
        ),
        format!(
            "INSERT INTO vault (id, raw) VALUES ({}, '{}')",
            id + 14,
            c.text("bytea")
        ),
        format!(
            "WITH w AS (INSERT INTO vault (id, secret) VALUES ({}, '{}') RETURNING secret) SELECT * FROM w",
            id + 15,
            c.text("cte")
        ),
        format!(
            "INSERT INTO vault (id, secret) VALUES ({}, '{}') ON CONFLICT (secret) DO NOTHING",
            id + 16,
            c.text("nothing")
        ),
        format!(
            "INSERT INTO vault (id, secret) VALUES ({}, '{}') ON CONFLICT (id) DO UPDATE SET secret = '{}'",
            id + 1,
            c.text("conflict"),
            c.text("conflicting")
        ),
        format!(
            "UPDATE vault SET secret = '{}', code = '{}' WHERE id = {}",
            c.text("updated"),
            c.text("updated-code"),
            id + 2
        ),
        format!(
            "INSERT INTO by_tenant VALUES (1, 'acme', '{}')",
            c.text("tenant")
        ),
        format!(
            "INSERT INTO vault (id, secret) SELECT p0::INTEGER, p1::VARCHAR FROM (VALUES ({}, '{}', 0), ({}, '{}', 1)) AS imp_sen(p0, p1, sen_counter) ORDER BY sen_counter",
            id + 19,
            c.text("column-of-values"),
            id + 20,
            c.text("second-column-of-values")
        ),
        // The server is asked for the scopes of its rows.
        format!(
            "UPDATE by_tenant SET secret = v.secret FROM (VALUES (1, '{}')) v(id, secret) WHERE by_tenant.id = v.id",
            c.text("asked")
        ),
        format!(
            "UPDATE by_tenant SET secret = v.secret FROM unnest('{{1}}'::int[], '{{{}}}'::text[]) v(id, secret) WHERE by_tenant.id = v.id",
            c.text("element-asked")
        ),
        format!(
            "MERGE INTO by_tenant t USING (VALUES (1, '{}')) s(id, secret) ON t.id = s.id WHEN MATCHED THEN UPDATE SET secret = s.secret",
            c.text("merge-asked")
        ),
        format!(
            "MERGE INTO vault v USING (VALUES ({}, '{}')) s(id, secret) ON v.secret = s.secret WHEN MATCHED THEN UPDATE SET code = '{}' WHEN NOT MATCHED THEN INSERT (id, secret) VALUES (s.id, s.secret)",
            id + 21,
            c.text("merged"),
            c.text("merged-code")
        ),
        format!(
            "EXPLAIN INSERT INTO vault (id, secret) VALUES ({}, '{}')",
            id + 17,
            c.text("explained")
        ),
        format!(
            "EXPLAIN ANALYZE VERBOSE INSERT INTO vault (id, secret) VALUES ({}, '{}')",
            id + 18,
            c.text("analysed")
        ),
    ]
}

fn searched(c: &mut Canaries) -> Vec<String> {
    vec![
        format!("SELECT * FROM vault WHERE secret = '{}'", c.text("equal")),
        format!(
            "SELECT * FROM vault WHERE '{}' <> secret",
            c.text("not-equal")
        ),
        format!(
            "SELECT * FROM vault WHERE secret IN ('{}', '{}')",
            c.text("in1"),
            c.text("in2")
        ),
        format!(
            "SELECT * FROM vault WHERE secret = ANY ('{{{},{}}}')",
            c.text("any1"),
            c.text("any2")
        ),
        format!(
            "SELECT * FROM vault WHERE secret IS NOT DISTINCT FROM '{}'",
            c.text("distinct")
        ),
        format!(
            "SELECT * FROM vault WHERE (secret, plain) = ('{}', 'x')",
            c.text("tuple")
        ),
        format!("SELECT secret = '{}' FROM vault", c.text("projected")),
        format!(
            "SELECT * FROM vault WHERE big = {} OR amount = {} OR token = '{}'",
            c.digits(),
            c.digits(),
            c.uuid()
        ),
        format!(
            "SELECT * FROM vault a JOIN vault b ON a.secret = b.secret AND a.secret = '{}'",
            c.text("join")
        ),
        format!("DELETE FROM vault WHERE secret = '{}'", c.text("deleted")),
        format!(
            "SELECT * FROM by_tenant WHERE tenant = 'acme' AND secret = '{}'",
            c.text("in-tenant")
        ),
        format!(
            "EXPLAIN SELECT * FROM vault WHERE secret = '{}'",
            c.text("explained-search")
        ),
    ]
}

/// The server or pgveil fails these: in errors people print values.
fn failed(c: &mut Canaries) -> Vec<String> {
    let twice = c.text("twice");
    let id = 1000 + c.made.len() * 100;
    vec![
        format!(
            "INSERT INTO vault (id, secret) VALUES ({}, '{twice}')",
            id + 1
        ),
        format!(
            "INSERT INTO vault (id, secret) VALUES ({}, '{twice}')",
            id + 2
        ),
        format!(
            "INSERT INTO vault (id, secret, plain) VALUES ({}, '{}', NULL)",
            id + 3,
            c.text("failing-row")
        ),
        format!(
            "INSERT INTO vault (id, secret, plain) VALUES ({}, '{}', 1/0)",
            id + 4,
            c.text("division")
        ),
        format!(
            "INSERT INTO vault (id, secret, nope) VALUES ({}, '{}', 1)",
            id + 5,
            c.text("no-column")
        ),
        format!(
            "INSERT INTO vault (id, big) VALUES ({}, '{}')",
            id + 6,
            c.text("no-number")
        ),
        format!(
            "INSERT INTO vault (id, token) VALUES ({}, '{}')",
            id + 7,
            c.text("no-uuid")
        ),
        format!(
            "INSERT INTO vault (id, doc) VALUES ({}, '{{\"{}\"')",
            id + 8,
            c.text("no-json")
        ),
        format!(
            "INSERT INTO vault (id, code) VALUES ({}, '{}')",
            id + 9,
            c.text(&"too-long-".repeat(8))
        ),
        format!(
            "SELECT * FROM vault WHERE big = '{}'",
            c.text("no-number-searched")
        ),
        format!(
            "SELECT * FROM vault WHERE secret = '{}' AND nope = 1",
            c.text("bad-column")
        ),
        format!(
            "BEGIN; INSERT INTO vault (id, secret) VALUES ({}, '{}'); SELECT 1/0",
            id + 10,
            c.text("rolled-back")
        ),
        format!(
            "INSERT INTO vault (id, secret) VALUES ({}, '{}')",
            id + 11,
            c.text("in-failed-transaction")
        ),
        "ROLLBACK".to_owned(),
        format!(
            "INSERT INTO by_tenant VALUES (1, NULL, '{}')",
            c.text("no-scope")
        ),
    ]
}

/// pgveil must not let these pass, and nothing of them.
fn refused(c: &mut Canaries) -> Vec<String> {
    let literals = [
        "SELECT upper(secret || '{}') FROM vault",
        "SELECT * FROM vault WHERE secret LIKE '{}%'",
        "SELECT * FROM vault WHERE secret ~ '{}'",
        "SELECT * FROM vault WHERE secret > '{}'",
        "SELECT * FROM vault WHERE secret = reverse('{}')",
        "SELECT * FROM vault WHERE secret = repeat('{}', 2)",
        "SELECT * FROM vault WHERE raw = '{}'",
        "SELECT * FROM vault WHERE doc @> '\"{}\"'",
        "SELECT coalesce(secret, '{}') FROM vault",
        "SELECT CASE WHEN true THEN secret ELSE '{}' END FROM vault",
        "SELECT secret FROM vault UNION ALL SELECT '{}'",
        "SELECT nullif(secret, '{}') FROM vault",
        "SELECT secret IN (VALUES ('{}')) FROM vault",
        "INSERT INTO vault (id, secret) VALUES (1, reverse('{}'))",
        "INSERT INTO vault (id, secret) SELECT 1, '{}'",
        "INSERT INTO vault (id, secret) VALUES (1, (SELECT '{}'))",
        "UPDATE vault SET secret = '{}' || secret",
        "UPDATE vault SET secret = (SELECT '{}')",
        "UPDATE by_tenant SET secret = '{}'",
        "UPDATE by_tenant SET secret = '{}' WHERE tenant > 'a'",
        "SELECT * FROM by_tenant WHERE secret = '{}'",
        "DO $$ BEGIN INSERT INTO vault (id, secret) VALUES (1, '{}'); END $$",
        "PREPARE p AS INSERT INTO vault (id, secret) VALUES (1, '{}')",
        "DECLARE cur CURSOR FOR SELECT * FROM vault WHERE secret = '{}'",
        "CREATE VIEW v AS SELECT * FROM vault WHERE secret = '{}'",
        "CREATE TABLE t AS SELECT * FROM vault WHERE secret = '{}'",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $f$ INSERT INTO vault (id, secret) VALUES (1, '{}') $f$",
        "CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS $f$ SELECT count(*) FROM vault WHERE secret = '{}' $f$",
        "CREATE FUNCTION f() RETURNS SETOF vault BEGIN ATOMIC SELECT * FROM vault WHERE secret IN ('{}', 'x'); END",
        "CREATE FUNCTION f() RETURNS bigint LANGUAGE plpgsql AS $f$ BEGIN RETURN (SELECT count(*) FROM vault WHERE secret = '{}'); END $f$",
        "CREATE PROCEDURE f() LANGUAGE sql AS $f$ DELETE FROM vault WHERE secret = repeat('{}', 1) $f$",
        "CREATE RULE r AS ON INSERT TO open DO ALSO INSERT INTO vault (id, secret) VALUES (1, '{}')",
        "ALTER TABLE vault ALTER COLUMN secret SET DEFAULT '{}'",
        "ALTER TABLE vault ADD CHECK (secret <> '{}')",
        "CREATE INDEX ON vault (id) WHERE secret = '{}'",
        "MERGE INTO vault USING open ON vault.id = open.id WHEN NOT MATCHED THEN INSERT (id, secret) VALUES (1, repeat('{}', 1))",
        "MERGE INTO vault v USING (VALUES (1, '{}')) s(id, secret) ON v.id = s.id AND lower(s.secret) = 'x' WHEN MATCHED THEN UPDATE SET secret = s.secret",
        "UPDATE by_tenant t SET secret = v.secret FROM (VALUES ('{}')) v(secret) WHERE v.secret <> 'x'",
        "COPY (SELECT * FROM vault WHERE secret = '{}') TO STDOUT",
        "INSERT INTO vault (id, secret) VALUES (1, '{}') garbage",
        "INSERT INTO vault (id, secret) VALUES (1, '{}'",
        "SELEKT * FROM vault WHERE secret = '{}'",
        "INSERT INTO vault (id, secret) VALUES (1, '{}); SELECT 1",
        "SELECT 1; INSERT INTO vault (id, secret) VALUES (1, reverse('{}'))",
        "INSERT INTO U&\"v\\0061ult\" (id, secret) VALUES (1, '{}')",
        "UPDATE U&\"v!0061ult\" UESCAPE '!' SET secret = '{}'",
        "SELECT * FROM vault WHERE U&\"s\\0065cret\" = '{}'",
        "INSERT INTO vault AS v (id, secret) VALUES (1, CAST('{}' AS varchar(3)))",
        "UPDATE vault SET secret = CASE WHEN id = 1 THEN '{}' ELSE secret END",
        "SELECT CASE secret WHEN '{}' THEN 1 END FROM vault",
        "SELECT * FROM vault WHERE secret = ANY (string_to_array('{}', ','))",
        "SELECT * FROM vault WHERE secret BETWEEN '{}' AND 'z'",
        "SELECT * FROM vault WHERE 'x' IN (secret, '{}')",
        "INSERT INTO vault (id, secret) OVERRIDING USER VALUE VALUES (1, '{}')",
        "INSERT INTO public/**/./**/vault (id, secret) VALUES (1, repeat('{}', 1))",
        "SET standard_conforming_strings = off; INSERT INTO vault (id, secret) VALUES (1, 'a\\'{}')",
    ];
    literals
        .iter()
        .enumerate()
        .map(|(number, sql)| sql.replace("{}", &c.text(&format!("refused{number}"))))
        .collect()
}

/// Statements with text parameters; sent in binary too, where text types have the same bytes and the others fail.
pub(crate) fn parameters(c: &mut Canaries) -> Vec<(&'static str, Vec<String>)> {
    vec![
        (
            "INSERT INTO vault (id, secret) VALUES (90001, $1)",
            vec![c.text("param")],
        ),
        (
            "INSERT INTO vault (id, secret, code) VALUES (90002, $1, $2) RETURNING *",
            vec![c.text("param1"), c.text("param2")],
        ),
        (
            "INSERT INTO vault (id, big, token) VALUES (90003, $1, $2)",
            vec![c.digits(), c.uuid()],
        ),
        (
            "INSERT INTO vault (id, amount) VALUES (90004, $1)",
            vec![c.digits()],
        ),
        (
            "INSERT INTO vault (id, doc) VALUES (90005, $1)",
            vec![format!("\"{}\"", c.text("param-doc"))],
        ),
        (
            "INSERT INTO vault (id, raw) VALUES (90006, $1)",
            vec![c.text("param-raw")],
        ),
        (
            "INSERT INTO vault (id, big) VALUES (90007, $1)",
            vec![c.text("param-no-number")],
        ),
        (
            "INSERT INTO vault (id, code) VALUES (90008, $1)",
            vec![c.text(&"param-too-long-".repeat(5))],
        ),
        (
            "INSERT INTO vault (id, secret, plain) VALUES (90009, $1, NULL)",
            vec![c.text("param-failing-row")],
        ),
        (
            "INSERT INTO vault (id, secret) VALUES (90001, $1)",
            vec![c.text("param-same-key")],
        ),
        (
            "UPDATE vault SET secret = $1 WHERE secret = $2",
            vec![c.text("param-set"), c.text("param-where")],
        ),
        (
            "SELECT * FROM vault WHERE secret = $1",
            vec![c.text("param-equal")],
        ),
        (
            "SELECT * FROM vault WHERE secret IN ($1, $2)",
            vec![c.text("param-in1"), c.text("param-in2")],
        ),
        (
            "SELECT * FROM vault WHERE secret = ANY ($1)",
            vec![format!("{{{}}}", c.text("param-any"))],
        ),
        (
            "SELECT * FROM vault WHERE secret IS DISTINCT FROM $1",
            vec![c.text("param-distinct")],
        ),
        (
            "SELECT * FROM vault WHERE big = $1 OR token = $2",
            vec![c.digits(), c.uuid()],
        ),
        (
            "SELECT * FROM vault WHERE secret LIKE $1",
            vec![c.text("param-like")],
        ),
        (
            "SELECT upper(secret || $1) FROM vault",
            vec![c.text("param-upper")],
        ),
        (
            "INSERT INTO vault (id, secret) VALUES (90010, reverse($1))",
            vec![c.text("param-upper-stored")],
        ),
        (
            "INSERT INTO by_tenant VALUES (1, $1, $2)",
            vec!["acme".to_owned(), c.text("param-tenant")],
        ),
        (
            "SELECT * FROM by_tenant WHERE secret = $1",
            vec![c.text("param-all-tenants")],
        ),
        (
            "INSERT INTO vault (id, secret) VALUES (90011, $1) ON CONFLICT (secret) DO UPDATE SET secret = $2",
            vec![c.text("param-conflict"), c.text("param-conflicting")],
        ),
        (
            "INSERT INTO vault (id, secret) VALUES (90012, $1), (90013, $1)",
            vec![c.text("param-twice")],
        ),
        (
            "INSERT INTO vault (id, nope) VALUES (90014, $1)",
            vec![c.text("param-no-column")],
        ),
        (
            "DELETE FROM vault WHERE secret = $1",
            vec![c.text("param-deleted")],
        ),
    ]
}

/// Orders of messages that a driver would not send.
pub(crate) fn raw(c: &mut Canaries) -> Vec<Vec<Message>> {
    vec![
        vec![
            Message::query("COPY vault FROM STDIN"),
            Message::copy_data(format!("1\t1\t{}\n", c.text("copied")).as_bytes()),
            Message::copy_done(),
        ],
        vec![
            Message::query("COPY vault (id, secret) FROM STDIN (FORMAT csv)"),
            Message::copy_data(format!("1,{}\n", c.text("copied-csv")).as_bytes()),
            Message::copy_fail(&c.text("copy-failed")),
        ],
        vec![
            Message::query(&format!(
                "COPY vault (id, secret) FROM STDIN WHERE secret <> '{}'",
                c.text("copied-where")
            )),
            Message::copy_data(format!("97001\t{}\n", c.text("copied-well")).as_bytes()),
            Message::copy_done(),
        ],
        // Rows that fail: by a plain field, by too many fields, within quotes, and data that comes too late.
        vec![
            Message::query("COPY vault (id, secret) FROM STDIN"),
            Message::copy_data(format!("x\t{}\n", c.text("copied-behind-bad")).as_bytes()),
            Message::copy_data(format!("97002\t{}\n", c.text("copied-late")).as_bytes()),
            Message::copy_done(),
        ],
        vec![
            Message::query("COPY vault (id, secret) FROM STDIN"),
            Message::copy_data(format!("97003\ta\t{}\n", c.text("copied-too-many")).as_bytes()),
            Message::copy_done(),
        ],
        vec![
            Message::query("COPY vault (id, secret) FROM STDIN CSV"),
            Message::copy_data(format!("97004,\"{}\n", c.text("copied-unterminated")).as_bytes()),
            Message::copy_done(),
        ],
        vec![
            Message::query("COPY vault (id, secret) FROM STDIN BINARY"),
            Message::copy_data(c.text("copied-as-binary").as_bytes()),
            Message::copy_done(),
        ],
        vec![
            Message::query("COPY vault (id, nope) FROM STDIN"),
            Message::copy_data(format!("97005\t{}\n", c.text("copied-nowhere")).as_bytes()),
            Message::copy_done(),
        ],
        // A Bind without its Parse, and one that comes after an error.
        vec![
            Message::bind_text(&[Some(&c.text("bound-to-nothing"))]),
            Message::execute("", 0),
            Message::sync(),
        ],
        vec![
            Message::parse("", "INSERT INTO vault (id, secret) VALUES (1/0, $1)", &[]),
            Message::bind_text(&[Some(&c.text("bound-after-constant-folding"))]),
            Message::execute("", 0),
            Message::sync(),
        ],
        vec![
            Message::parse("", "SELECT upper(secret) FROM vault WHERE secret = $1", &[]),
            Message::bind_text(&[Some(&c.text("bound-after-refusal"))]),
            Message::execute("", 0),
            Message::sync(),
        ],
        vec![
            Message::parse("", "INSERT INTO vault (id, secret) VALUES (95000, $1)", &[]),
            Message::bind_text(&[Some(&c.text("one")), Some(&c.text("too-many"))]),
            Message::execute("", 0),
            Message::sync(),
        ],
        // Statements parsed behind what forgets all of them, in one go.
        vec![
            Message::parse("n", "SELECT id FROM vault WHERE secret = $1", &[]),
            Message::parse("", "DEALLOCATE ALL", &[]),
            Message::bind_text(&[]),
            Message::execute("", 0),
            Message::parse(
                "n",
                "INSERT INTO vault (id, secret) VALUES (95001, $1)",
                &[],
            ),
            Message::bind(&Bind {
                statement: "n",
                params: &[Some(c.text("behind-deallocate").as_bytes())],
                ..Bind::default()
            }),
            Message::execute("", 0),
            Message::sync(),
        ],
        vec![
            Message::query(
                "PREPARE s (int, text) AS INSERT INTO vault (id, secret) VALUES ($1, $2)",
            ),
            Message::query("PREPARE s AS SELECT upper(secret) FROM vault WHERE id = $1"),
            Message::bind(&Bind {
                statement: "s",
                params: &[Some(b"95002"), Some(c.text("bound-to-sql").as_bytes())],
                ..Bind::default()
            }),
            Message::execute("", 0),
            Message::sync(),
        ],
    ]
}

/// Strings that make and use what a session keeps by name.
pub(crate) fn kept(c: &mut Canaries) -> Vec<String> {
    let literals = [
        "PREPARE ins (int, text) AS INSERT INTO vault (id, secret) VALUES ($1, $2)",
        "EXECUTE ins (95010, '{}')",
        "EXECUTE ins (95011, repeat('{}', 1))",
        "EXECUTE ins (95012, '{}', 3)",
        "EXPLAIN (VERBOSE) EXECUTE ins (95013, '{}')",
        "EXPLAIN (PGVEIL) EXECUTE ins (95013, '{}')",
        "EXPLAIN (PGVEIL) INSERT INTO vault (id, secret) VALUES (1, '{}')",
        "EXPLAIN (PGVEIL) INSERT INTO vault (id, secret) VALUES (1, reverse('{}'))",
        "EXPLAIN (PGVEIL) INSERT INTO vault (id, big) VALUES (1, '{}')",
        "EXPLAIN (VERBOSE) INSERT INTO vault (id, secret) VALUES (1, '{}')",
        "CREATE TABLE made AS EXECUTE ins (95014, '{}')",
        "BEGIN; DECLARE cur CURSOR WITH HOLD FOR SELECT * FROM vault WHERE secret = '{}'; COMMIT",
        "FETCH ALL FROM cur",
        "PREPARE never AS SELECT upper(secret) FROM vault WHERE secret = $1",
        "EXECUTE never ('{}')",
        "PREPARE lit AS INSERT INTO vault (id, secret) VALUES ($1, '{}')",
        "EXECUTE lit (95015)",
        "DEALLOCATE ins; EXECUTE ins (95016, '{}')",
        "EXECUTE ins (95017, '{}')",
        "BEGIN; SET LOCAL search_path = public; INSERT INTO vault (id, secret) VALUES (95018, '{}'); COMMIT",
        "BEGIN; SELECT 1/0; INSERT INTO vault (id, secret) VALUES (95019, '{}')",
        "ROLLBACK; INSERT INTO vault (id, secret) VALUES (95020, '{}')",
        "DISCARD ALL",
        "EXECUTE lit ('{}')",
    ];
    literals
        .iter()
        .enumerate()
        .map(|(number, sql)| sql.replace("{}", &c.text(&format!("kept{number}"))))
        .collect()
}

/// A psql script: sessions with settings that change how text is read.
pub(crate) fn script(c: &mut Canaries) -> String {
    format!(
        "SET client_encoding = 'LATIN1';\n\
         INSERT INTO vault (id, secret) VALUES (96001, '{}');\n\
         SET client_encoding = 'UTF8';\n\
         SET standard_conforming_strings = off;\n\
         INSERT INTO vault (id, secret) VALUES (96002, '{}');\n\
         SET standard_conforming_strings = on;\n\
         SET search_path = pg_temp, public;\n\
         INSERT INTO vault (id, secret) VALUES (96003, '{}');\n\
         SET DateStyle = 'German';\n\
         INSERT INTO vault (id, secret) VALUES (96004, '{}');\n\
         BEGIN; INSERT INTO vault (id, secret) VALUES (96005, '{}'); SAVEPOINT s;\n\
         INSERT INTO vault (id, secret) VALUES (96005, '{}'); ROLLBACK TO s; COMMIT;\n",
        c.text("latin1"),
        c.text("backslashes"),
        c.text("other-path"),
        c.text("other-style"),
        c.text("savepoint"),
        c.text("savepoint-failed")
    )
}
