//! Relations that get their sealed columns from elsewhere: views, materialized views, copies, temporary tables. The same
//! statements directly on plaintext and through pgveil, one script a transaction, and every answer the same.

#[path = "derived/beside.rs"]
mod beside;
#[path = "derived/functions.rs"]
mod functions;
#[path = "derived/made.rs"]
mod made;
#[path = "derived/partitions.rs"]
mod partitions;
#[path = "derived/temporary.rs"]
mod temporary;
#[path = "derived/through.rs"]
mod through;
#[path = "derived/views.rs"]
mod views;

use std::sync::{Mutex, OnceLock};

use anyhow::{Result, anyhow, bail};
use pgveil_tests::{
    postgres::TempPostgres,
    site::Site,
    twin::{Case, Expect, Sessions, Twin, Verdict, compare},
    wire::Message,
};

const TABLES: &str = "
    CREATE TABLE customers (
        id int PRIMARY KEY, region text NOT NULL, email text UNIQUE, ssn varchar(11), age int4, born date, plain text
    );
    CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL, customer_email text, item text);
    CREATE TABLE people (id int PRIMARY KEY, email text);
    CREATE TABLE notes (id int PRIMARY KEY, tenant_id int NOT NULL, author text, body text);
    CREATE TABLE events (id int, region text NOT NULL, who text, UNIQUE (region, who)) PARTITION BY LIST (region);
    CREATE TABLE events_eu PARTITION OF events FOR VALUES IN ('eu');
    CREATE TABLE events_us (who text, id int, region text NOT NULL);
    ALTER TABLE events ATTACH PARTITION events_us FOR VALUES IN ('us');
    CREATE TABLE events_rest PARTITION OF events DEFAULT PARTITION BY HASH (region);
    CREATE TABLE events_rest_0 PARTITION OF events_rest FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE events_rest_1 PARTITION OF events_rest FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE persons (id int PRIMARY KEY, mail text);
    CREATE TABLE staff (level int, PRIMARY KEY (id)) INHERITS (persons);
    INSERT INTO events VALUES (1, 'eu', 'ada'), (2, 'eu', 'bob'), (3, 'us', 'eve'), (4, 'us', 'ada'), (5, 'apac', 'cyn'), (6, 'apac', NULL);
    INSERT INTO persons VALUES (1, 'a@x'), (2, 'c@x');
    INSERT INTO staff VALUES (3, 'c@x', 7);
";

const POLICY: &str = r#"
public.customers  scope = "platform"
    email: text, search = ["equality"], equality_group = "emails"
    ssn: varchar(11), search = ["equality"]
    age: int4, search = ["equality"]
    born: date, search = ["equality"]
public.orders  scope = "platform"
    customer_email: text, search = ["equality"], equality_group = "emails"
public.events  scope = "platform"
    who: text, search = ["equality"]
public.persons  scope = "platform"
    mail: text, search = ["equality"]
public.notes  scope = "tenant:{tenant_id}"
    author: text, search = ["equality"]
    body: text
"#;

const ROWS: &str = "
    INSERT INTO customers (id, region, email, ssn, age, born, plain) VALUES
        (1, 'eu', 'ada@example.com', '111', 36, '1815-12-10', 'p1'),
        (2, 'eu', 'bob@example.com', '222', 41, '1970-01-01', 'p2'),
        (3, 'us', 'eve@example.com', '111', 36, '1815-12-10', 'ada@example.com'),
        (4, 'us', NULL, NULL, NULL, NULL, NULL);
    INSERT INTO orders VALUES
        (1, 1, 'ada@example.com', 'pen'), (2, 1, 'ada@example.com', 'ink'), (3, 2, 'bob@example.com', 'pen'), (4, 9, NULL, NULL);
    INSERT INTO people VALUES (1, 'ada@example.com'), (2, 'zoe@example.com');
    INSERT INTO notes VALUES (1, 10, 'ada', 'first'), (2, 10, 'bob', 'second'), (3, 20, 'ada', 'third'), (4, 20, NULL, NULL);
";

/// Made directly in both databases: the definitions use no equality, so that they are right on either.
const VIEWS: &str = "
    CREATE VIEW mails AS SELECT id, email FROM customers;
    CREATE VIEW renamed (number, mail) AS SELECT id, email FROM customers WHERE region = 'eu';
    CREATE VIEW nested AS SELECT m.email AS e, o.customer_email, o.item FROM mails m JOIN orders o ON o.customer_id = m.id;
    CREATE VIEW everybody AS SELECT email, 'customer' AS kind FROM customers
        UNION ALL SELECT customer_email, 'order' FROM orders;
    CREATE VIEW ten AS SELECT id, tenant_id, author, body FROM notes WHERE tenant_id = 10;
    CREATE VIEW all_notes AS WITH n AS (SELECT * FROM notes) SELECT n.id, n.tenant_id AS tenant, n.author, n.body FROM n;
    CREATE VIEW regions AS SELECT region, count(*) AS n, count(email) AS mails FROM customers GROUP BY region;
    CREATE VIEW barrier WITH (security_barrier) AS SELECT * FROM customers WHERE id < 3;
    CREATE VIEW late AS SELECT c.id, l.item, l.customer_email FROM customers c
        LEFT JOIN LATERAL (SELECT * FROM orders o WHERE o.customer_id = c.id ORDER BY o.id LIMIT 1) l ON true;
    CREATE VIEW wrong AS SELECT a.id FROM customers a JOIN orders o ON a.email = o.customer_email;
    CREATE VIEW wrong_distinct AS SELECT DISTINCT email FROM customers;
    CREATE VIEW eu AS SELECT id, region, email, plain FROM customers WHERE region = 'eu' WITH CASCADED CHECK OPTION;
    CREATE VIEW upon_eu (e, n, r) AS SELECT email, id, region FROM eu WHERE id < 100 WITH LOCAL CHECK OPTION;
    CREATE VIEW turned (b, a, t, n) AS SELECT body, author, tenant_id, id FROM notes;
    CREATE VIEW untold AS SELECT id, author, body FROM notes;
    CREATE VIEW marked AS SELECT id, email, 'm' || plain AS mark FROM customers;
    CREATE VIEW instead_of AS SELECT id, email FROM customers;
    CREATE FUNCTION written() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER instead INSTEAD OF INSERT OR UPDATE OR DELETE ON instead_of FOR EACH ROW EXECUTE FUNCTION written();
    CREATE VIEW upon_instead AS SELECT * FROM instead_of;
    CREATE MATERIALIZED VIEW kept AS SELECT id, email, age FROM customers;
    CREATE TABLE copied AS SELECT id, email, ssn, born FROM customers;
    GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
";

/// Functions whose bodies are the same on either; `TEXT` is the type of an e-mail address, `SAME(a, b)` its equality.
const FUNCTIONS: &str = "
    CREATE FUNCTION everyone() RETURNS SETOF customers LANGUAGE sql AS 'SELECT * FROM customers';
    CREATE FUNCTION nobody_else() RETURNS bigint LANGUAGE sql AS 'SELECT count(email) FROM customers';
    CREATE FUNCTION first_mail(above int, OUT mail TEXT) LANGUAGE sql BEGIN ATOMIC
        SELECT email FROM customers WHERE id >= above ORDER BY id LIMIT 1; END;
    CREATE FUNCTION by_mail(mail TEXT) RETURNS SETOF customers LANGUAGE sql BEGIN ATOMIC
        SELECT * FROM customers WHERE SAME(email, mail); END;
    CREATE FUNCTION with_path() RETURNS SETOF mails LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS
        'SELECT * FROM mails WHERE id = 1';
    CREATE FUNCTION as_text() RETURNS text LANGUAGE sql AS 'SELECT email FROM customers WHERE id = 1';
    CREATE FUNCTION as_table() RETURNS TABLE (id int, email text) LANGUAGE sql AS 'SELECT id, email FROM customers';
    CREATE FUNCTION sorted() RETURNS SETOF customers LANGUAGE sql AS 'SELECT * FROM customers ORDER BY email';
    CREATE FUNCTION told_apart() RETURNS bigint LANGUAGE sql AS 'SELECT count(DISTINCT email) FROM customers';
    CREATE FUNCTION in_plpgsql() RETURNS SETOF customers LANGUAGE plpgsql AS
        'BEGIN RETURN QUERY SELECT * FROM customers ORDER BY email; END';
    CREATE FUNCTION rows_in_plpgsql(above int) RETURNS SETOF customers LANGUAGE plpgsql AS
        'DECLARE c record; BEGIN FOR c IN SELECT * FROM customers WHERE id > above ORDER BY id LOOP RETURN NEXT c; END LOOP; END';
    CREATE FUNCTION out_in_plpgsql(number int, OUT mail TEXT, OUT place text) LANGUAGE plpgsql AS
        'BEGIN SELECT email, region INTO mail, place FROM customers WHERE id = number; END';
    CREATE FUNCTION wrong_literal() RETURNS bigint LANGUAGE plpgsql AS
        'BEGIN RETURN (SELECT count(*) FROM customers WHERE email = ''ada@example.com''); END';
    CREATE FUNCTION plain_argument(mail text) RETURNS bigint LANGUAGE plpgsql AS
        'BEGIN RETURN (SELECT count(*) FROM customers WHERE email = mail); END';
    CREATE PROCEDURE in_a_procedure() LANGUAGE plpgsql AS
        'BEGIN UPDATE customers SET email = ''x'' WHERE id = 1; END';
";

fn functions(veiled: bool) -> String {
    let (text, same) = if veiled {
        (
            "pgveil.sealed_text",
            "pgveil.eq_term(email) = pgveil.eq_term(mail)",
        )
    } else {
        ("text", "email = mail")
    };
    let made = FUNCTIONS.replace("TEXT", text);
    made.replace("SAME(email, mail)", same)
}

/// Columns under domains over the one that a protected column has.
const ARCHIVED: &str = "
    CREATE TABLE archived AS SELECT id, email::mail AS email, email::short_mail AS short FROM customers;
    GRANT ALL ON archived TO PUBLIC;
";

/// One pair of databases for all tables: every statement is rolled back.
fn twin() -> Result<&'static Twin<'static>> {
    static TWIN: OnceLock<Result<Twin<'static>, String>> = OnceLock::new();
    let made = TWIN.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    made.as_ref().map_err(|error| anyhow!("{error}"))
}

fn make() -> Result<Twin<'static>> {
    let server = TempPostgres::shared()?;
    let (plain, veiled) = (server.database()?, server.database()?);
    plain.run(TABLES)?;
    veiled.run(TABLES)?;
    let site = Site::new(&veiled, POLICY)?;
    site.apply()?;
    let proxy = site.serve()?;
    let (direct, through) = (plain.psql("app", ROWS)?, proxy.psql("app", ROWS)?);
    if direct != through {
        bail!("loading the rows differs\ndirectly:\n{direct}\nthrough pgveil:\n{through}");
    }
    // A proxy that starts now knows them at once; the one before would look for them every other second.
    for (database, mail) in [(&plain, "text"), (&veiled, "pgveil.sealed_text")] {
        database.run(VIEWS)?;
        database.run(&functions(mail != "text"))?;
        database.run(&format!(
            "CREATE DOMAIN mail AS {mail}; CREATE DOMAIN short_mail AS mail; {ARCHIVED}"
        ))?;
    }
    let proxy = site.serve()?;
    Ok(Twin {
        plain,
        veiled,
        site,
        proxy,
    })
}

/// One table at a time: writers of the same rows would wait for each other.
static ALONE: Mutex<()> = Mutex::new(());

fn check(expect: Expect, statements: &[&str]) -> Result<()> {
    let _alone = ALONE.lock();
    let mut sessions = twin()?.sessions("app")?;
    let mut wrong = Vec::new();
    for sql in statements {
        wrong.extend(sessions.compare(&Case::new(sql), expect)?);
    }
    told(wrong, statements.len())
}

fn same(statements: &[&str]) -> Result<()> {
    check(Expect::Same, statements)
}

fn refused(statements: &[&str]) -> Result<()> {
    check(Expect::Refused, statements)
}

fn same_with(statements: &[(&str, &[Option<&str>])]) -> Result<()> {
    let _alone = ALONE.lock();
    let mut sessions = twin()?.sessions("app")?;
    let mut wrong = Vec::new();
    for (sql, params) in statements {
        wrong.extend(sessions.compare(&Case::with(sql, params), Expect::Same)?);
    }
    told(wrong, statements.len())
}

/// Every script in a transaction of its own, rolled back. A statement that begins with `!` is refused through pgveil;
/// it stands last, since nothing can follow it.
fn scripts(scripts: &[&[&str]]) -> Result<()> {
    let _alone = ALONE.lock();
    let twin = twin()?;
    let mut wrong = Vec::new();
    for script in scripts {
        for extended in [false, true] {
            let mut sessions = twin.sessions("app")?;
            wrong.extend(run(&mut sessions, script, extended)?);
        }
    }
    told(wrong, scripts.len())
}

/// What is wrong with the first statement that is answered otherwise than it should be.
fn run(sessions: &mut Sessions, script: &[&str], extended: bool) -> Result<Option<String>> {
    sessions.exchange(&[Message::query("begin")], 1)?;
    for sql in script {
        let (expect, sql) = match sql.strip_prefix('!') {
            Some(sql) => (Expect::Refused, sql),
            None => (Expect::Same, *sql),
        };
        let messages = if extended {
            extended_messages(sql)
        } else {
            vec![Message::query(sql)]
        };
        let (direct, veiled) = sessions.exchange(&messages, 1)?;
        let ordered = sql.to_ascii_lowercase().contains("order by");
        match (compare(ordered, false, &direct, &veiled), expect) {
            (Verdict::Same, _) => {}
            (Verdict::Refused(_), Expect::Refused) => break,
            (verdict, _) => {
                let how = if extended { "extended" } else { "simple" };
                return Ok(Some(format!("{sql} ({how}, in {script:#?})\n{verdict:#?}")));
            }
        }
    }
    sessions.exchange(&[Message::query("rollback")], 1)?;
    Ok(None)
}

fn extended_messages(sql: &str) -> Vec<Message> {
    vec![
        Message::parse("", sql, &[]),
        Message::bind(&pgveil_tests::wire::Bind::default()),
        Message::describe_portal(""),
        Message::execute("", 0),
        Message::sync(),
    ]
}

fn told(wrong: Vec<String>, of: usize) -> Result<()> {
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{} of {of}\n\n{}", wrong.len(), wrong.join("\n\n"))
}
