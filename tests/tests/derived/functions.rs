//! Functions and procedures in SQL over protected tables: made through pgveil and called at once, made beside it, and what
//! they leave in the catalog.

use anyhow::{Result, ensure};

use crate::{refused, same, same_with, scripts, twin};

#[test]
fn functions_are_made_and_called() -> Result<()> {
    scripts(&[
        &[
            "CREATE FUNCTION whole() RETURNS SETOF customers LANGUAGE sql STABLE AS $$ SELECT * FROM customers ORDER BY id $$",
            "SELECT * FROM whole()",
            "SELECT email, count(*) FROM whole() GROUP BY email ORDER BY count(*), min(id)",
            "SELECT w.id, o.item FROM whole() w JOIN orders o ON o.customer_email = w.email ORDER BY 1, 2",
            "SELECT id FROM whole() WHERE email = 'bob@example.com' AND age = 41",
            "SELECT whole() LIMIT 1",
            "SELECT (whole()).email",
            "CREATE VIEW upon_whole AS SELECT id, email FROM whole()",
            "SELECT * FROM upon_whole WHERE email = 'eve@example.com'",
            "CREATE TEMP TABLE of_whole AS SELECT id, email, born FROM whole()",
            "SELECT * FROM of_whole ORDER BY id",
            "DROP FUNCTION whole CASCADE",
            "!SELECT email FROM whole()",
        ],
        &[
            "CREATE FUNCTION listed(zone text) RETURNS TABLE (number int, mail text, years int, day date) LANGUAGE sql AS \
             'SELECT id, email, age, born FROM customers WHERE region = zone ORDER BY id'",
            "SELECT * FROM listed('eu')",
            "SELECT mail, day FROM listed(zone => 'us') WHERE years = 36",
            "SELECT a.n, a.m FROM listed('eu') AS a (n, m)",
            "SELECT * FROM listed('eu') WITH ORDINALITY WHERE mail IN ('ada@example.com', 'x')",
            "SELECT c.id, l.mail FROM customers c, LATERAL listed(c.region) l WHERE l.number = c.id ORDER BY 1",
            "UPDATE orders SET customer_email = (SELECT mail FROM listed('us') WHERE number = 3) WHERE id = 1",
            "SELECT id, customer_email FROM orders ORDER BY id",
        ],
        &[
            "CREATE FUNCTION mail_of(int) RETURNS text LANGUAGE sql AS $$ SELECT email FROM customers WHERE id = $1 $$",
            "SELECT mail_of(1), mail_of(9) IS NULL",
            "SELECT id, mail_of(id) AS m FROM orders ORDER BY id",
            "SELECT m FROM mail_of(2) AS m",
            "SELECT * FROM mail_of(2)",
            "SELECT id FROM orders WHERE customer_email = mail_of(1) ORDER BY id",
            "SELECT COALESCE(mail_of(4), 'nobody')",
            "!SELECT upper(mail_of(1))",
        ],
        &[
            "CREATE FUNCTION both_of(number int, OUT mail text, OUT place text) LANGUAGE sql BEGIN ATOMIC \
             SELECT email, region FROM customers WHERE id = number; END",
            "SELECT * FROM both_of(1)",
            "SELECT both_of(2)",
            "SELECT (both_of(2)).mail",
            "CREATE FUNCTION years(number int) RETURNS int RETURN (SELECT age FROM customers WHERE id = number)",
            "SELECT years(1), years(4)",
            "SELECT count(*) FROM customers WHERE age = years(3)",
        ],
        &[
            "CREATE FUNCTION found(mail text) RETURNS SETOF customers LANGUAGE sql AS $$ SELECT * FROM customers WHERE email = mail $$",
            "SELECT * FROM found('ada@example.com')",
            "SELECT id FROM found(NULL)",
            "SELECT id FROM found('nobody')",
            "SELECT o.id, f.id FROM orders o, found(o.customer_email) f ORDER BY 1, 2",
            "CREATE FUNCTION counted(mail text, int) RETURNS bigint BEGIN ATOMIC \
             SELECT count(*) FROM customers WHERE email IN ($1, 'eve@example.com') AND id <> $2; END",
            "SELECT counted('ada@example.com', 7), counted('bob@example.com', 2)",
            "SELECT counted('ada@example.com', id) FROM customers ORDER BY id",
            "CREATE FUNCTION fixed() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM customers WHERE ssn = ''111'' AND age = 36'",
            "SELECT fixed()",
            "ALTER FUNCTION found(text) RENAME TO got",
            "SELECT id FROM got('ada@example.com')",
            "COMMENT ON FUNCTION got(text) IS 'gets'",
            "DROP FUNCTION got(text), counted(text, int)",
            "DROP FUNCTION fixed()",
            "!SELECT * FROM got(region) FROM customers",
        ],
        &[
            "CREATE PROCEDURE forget(mail text) LANGUAGE sql AS $$ DELETE FROM orders WHERE customer_email = mail; DELETE FROM customers WHERE email = mail $$",
            "CALL forget('ada@example.com')",
            "SELECT id, email FROM customers ORDER BY id",
            "SELECT id, customer_email FROM orders ORDER BY id",
            "CREATE FUNCTION moved(number int, place text) RETURNS text LANGUAGE sql AS \
             'UPDATE customers SET region = place WHERE id = number RETURNING email'",
            "SELECT moved(2, 'us')",
            "SELECT region, email FROM customers ORDER BY id",
        ],
        &[
            "CREATE FUNCTION of_tenant(tenant int) RETURNS SETOF notes LANGUAGE sql AS $$ SELECT * FROM notes WHERE tenant_id = tenant ORDER BY id $$",
            "SELECT * FROM of_tenant(10)",
            "SELECT id, body FROM of_tenant(10) WHERE tenant_id = 10 AND author = 'ada'",
            "!SELECT id FROM of_tenant(10) WHERE author = 'ada'",
        ],
        &[
            "CREATE FUNCTION in_pl(zone text, most int DEFAULT 9) RETURNS SETOF customers LANGUAGE plpgsql AS $$ \
             DECLARE c customers%ROWTYPE; n int := 0; BEGIN FOR c IN SELECT * FROM customers WHERE region = zone ORDER BY id LOOP \
             n := n + 1; EXIT WHEN n > most; IF c.id <> 2 THEN RETURN NEXT c; END IF; END LOOP; RETURN; END $$",
            "SELECT * FROM in_pl('eu')",
            "SELECT id, email FROM in_pl('us', 1) WHERE email = 'eve@example.com'",
            "SELECT e.email, count(*) FROM in_pl('eu') e GROUP BY e.email",
        ],
        &[
            "CREATE FUNCTION queried(mail text) RETURNS TABLE (number int, years int, day date) LANGUAGE plpgsql AS $$ \
             BEGIN RETURN QUERY SELECT c.id, c.age, c.born FROM customers c WHERE c.email = mail; \
             IF NOT FOUND THEN RETURN QUERY SELECT c.id, c.age, c.born FROM customers c WHERE c.ssn = '222'; END IF; END $$",
            "SELECT * FROM queried('ada@example.com')",
            "SELECT * FROM queried('nobody')",
            "SELECT number FROM queried('eve@example.com') WHERE years = 36 AND day = '1815-12-10'",
        ],
        &[
            "CREATE FUNCTION there(mail text) RETURNS boolean LANGUAGE plpgsql AS $$ \
             BEGIN PERFORM 1 FROM customers WHERE email = mail; RETURN FOUND; END $$",
            "SELECT there('ada@example.com'), there('nobody')",
            "CREATE FUNCTION one_mail(number int) RETURNS text LANGUAGE plpgsql AS $$ \
             BEGIN RETURN (SELECT email FROM customers WHERE id = number); END $$",
            "SELECT one_mail(1), one_mail(4), one_mail(9)",
            "CREATE PROCEDURE dropped(number int) LANGUAGE plpgsql AS $$ \
             BEGIN IF number > 1 THEN DELETE FROM customers WHERE id = number; END IF; END $$",
            "CALL dropped(1)",
            "CALL dropped(2)",
            "SELECT id, email FROM customers ORDER BY id",
        ],
        &[
            "CREATE FUNCTION by_cursor(zone text) RETURNS SETOF customers LANGUAGE plpgsql AS $$ <<main>> \
             DECLARE c CURSOR FOR SELECT * FROM customers WHERE region = zone ORDER BY id; BEGIN <<rows>> FOR r IN c LOOP \
             CASE r.id WHEN 2 THEN CONTINUE rows; ELSE RETURN NEXT r; END CASE; END LOOP rows; END $$",
            "SELECT * FROM by_cursor('eu')",
            "SELECT id FROM by_cursor('us') WHERE email = 'eve@example.com'",
            "CREATE FUNCTION fetched(mail text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE c refcursor; born customers.born%TYPE; \
             found_mail customers.email%TYPE; n int; BEGIN OPEN c FOR SELECT id, customers.email, customers.born FROM customers \
             WHERE email = mail OR age = 41 ORDER BY id; FETCH c INTO n, found_mail, born; MOVE c; CLOSE c; RETURN found_mail; END $$",
            "SELECT fetched('eve@example.com'), fetched('ada@example.com')",
            "CREATE FUNCTION counted_in(regions text[]) RETURNS int LANGUAGE plpgsql AS $$ DECLARE n int := 0; m int; x text; BEGIN \
             FOREACH x IN ARRAY regions LOOP SELECT count(email) INTO m FROM customers WHERE region = x; n := n + m; END LOOP; RETURN n; END $$",
            "SELECT counted_in('{eu,us}'), counted_in('{}')",
        ],
        &[
            "CREATE FUNCTION held(number int) RETURNS text LANGUAGE plpgsql AS $$ DECLARE mail text; n int; BEGIN \
             SELECT id, email INTO n, mail FROM customers WHERE id = number; RETURN mail; END $$",
            "SELECT held(1), held(9) IS NULL",
            "CREATE FUNCTION given(number int, OUT mail text, OUT code varchar, OUT n bigint) LANGUAGE plpgsql AS $$ BEGIN \
             SELECT email, ssn INTO mail, code FROM customers WHERE id = number; n := (SELECT count(*) FROM customers WHERE age = 36); END $$",
            "SELECT * FROM given(3)",
            "SELECT given(1)",
            "SELECT n, mail FROM given(2) WHERE mail IS NOT NULL",
            "CREATE FUNCTION known(wanted text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN \
             IF EXISTS (SELECT 1 FROM customers WHERE email = wanted) THEN RETURN 'yes'; END IF; \
             RETURN 'no of ' || (SELECT count(email) FROM customers); END $$",
            "SELECT known('ada@example.com'), known('nobody')",
            "CREATE FUNCTION each_mail() RETURNS TABLE (mail text) LANGUAGE plpgsql AS $$ DECLARE n int; BEGIN \
             FOR n IN 1 .. 3 LOOP mail := (SELECT email FROM customers WHERE id = n); RETURN NEXT; END LOOP; END $$",
            "SELECT * FROM each_mail()",
            // A variable may hold values of any column, whose terms differ.
            "!SELECT id FROM customers WHERE email = held(2)",
        ],
        &[
            "CREATE FUNCTION pick(number int) RETURNS text LANGUAGE sql AS $$ SELECT email FROM customers WHERE id = number $$",
            "CREATE FUNCTION pick(mail text) RETURNS int LANGUAGE sql AS $$ SELECT id FROM customers WHERE email = mail $$",
            "CREATE FUNCTION pick(born date) RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM customers c WHERE c.id > 1 AND born IS NOT NULL $$",
            "SELECT pick(1), pick('bob@example.com'), pick('2000-01-01'::date)",
            "SELECT id, pick(id), pick(email) FROM customers ORDER BY id",
            "CREATE FUNCTION in_regions(VARIADIC zones text[]) RETURNS SETOF customers LANGUAGE sql AS $$ SELECT * FROM customers WHERE region = ANY (zones) ORDER BY id $$",
            "SELECT id, email FROM in_regions('eu', 'us')",
            "SELECT id, email FROM in_regions(VARIADIC ARRAY['us'])",
            "!SELECT pick(id + 1) FROM customers",
        ],
        &[
            "CREATE FUNCTION opened() RETURNS refcursor LANGUAGE plpgsql AS $$ DECLARE c refcursor := 'kept'; BEGIN \
             OPEN c FOR SELECT id, email FROM customers ORDER BY id; RETURN c; END $$",
            "SELECT opened()",
            "!FETCH ALL FROM kept",
        ],
        &[
            "CREATE FUNCTION mails() RETURNS SETOF text LANGUAGE sql AS $$ SELECT mails.m FROM (SELECT email FROM customers ORDER BY id) AS mails (m) $$",
            "SELECT * FROM mails()",
        ],
        &[
            "!CREATE FUNCTION f(mail text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM 1 FROM customers WHERE email = mail; RETURN f.mail = ''; END $$",
        ],
        &[
            "!CREATE FUNCTION f() RETURNS SETOF customers LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY SELECT * FROM customers ORDER BY email; END $$",
        ],
        &[
            "!CREATE FUNCTION f() RETURNS boolean LANGUAGE plpgsql AS $$ DECLARE c record; BEGIN SELECT * INTO c FROM customers; RETURN length(c.email) > 3; END $$",
        ],
        &[
            "!CREATE FUNCTION f(mail text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM 1 FROM customers WHERE email = mail; RETURN mail = ''; END $$",
        ],
        &[
            "!CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT lower(email) FROM customers $$",
        ],
        &[
            "!CREATE FUNCTION f() RETURNS SETOF customers LANGUAGE sql AS $$ SELECT * FROM customers ORDER BY email $$",
        ],
        &[
            "!CREATE FUNCTION f(a text) RETURNS void LANGUAGE sql AS $$ UPDATE customers SET email = a $$",
        ],
        &[
            "!CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ UPDATE customers SET email = 'x' $$",
        ],
        &[
            "!CREATE FUNCTION f(a text) RETURNS int LANGUAGE sql AS $$ SELECT id FROM notes WHERE author = a $$",
        ],
    ])
}

#[test]
fn calls_stand_where_columns_and_tables_stand() -> Result<()> {
    scripts(&[
        &[
            "CREATE FUNCTION one(number int) RETURNS customers LANGUAGE sql STRICT AS $$ SELECT * FROM customers WHERE id = number $$",
            "CREATE FUNCTION upon(number int) RETURNS text LANGUAGE sql AS $$ SELECT email FROM one(number) $$",
            "CREATE FUNCTION found(mail text) RETURNS SETOF customers LANGUAGE sql AS $$ SELECT * FROM customers WHERE email = mail $$",
            "CREATE FUNCTION through(mail text) RETURNS SETOF customers LANGUAGE sql AS $$ SELECT c.* FROM customers c WHERE c.email = mail AND c.age = 36 $$",
            "SELECT id, email, email IS NULL FROM one(99)",
            "SELECT id, email FROM one(NULL)",
            "SELECT o.id FROM one(99) o WHERE o.email = 'x' OR o.email IS NULL",
            "SELECT one(2), upon(2), upon(99)",
            "SELECT o.id, f.age FROM orders o LEFT JOIN LATERAL found(o.customer_email) f ON true ORDER BY 1, f.id",
            "SELECT email FROM found('ada@example.com') UNION SELECT customer_email FROM orders WHERE id = 3",
            "SELECT u, count(*) FROM (SELECT upon(customer_id) AS u FROM orders) o GROUP BY u",
            "SELECT array_agg(upon(id)) FROM (SELECT id FROM customers ORDER BY id) c",
            "SELECT to_jsonb(f) FROM one(1) f",
            "SELECT count(DISTINCT f.email) FROM customers c, through(c.email) f",
            "PREPARE p (text) AS SELECT id, email FROM found($1) WHERE age = 36",
            "EXECUTE p('ada@example.com')",
            "DEALLOCATE p",
            "DECLARE w CURSOR FOR SELECT id, email FROM found('eve@example.com')",
            "FETCH ALL FROM w",
            "COPY (SELECT id, email FROM found('bob@example.com')) TO STDOUT",
            "INSERT INTO orders SELECT 50 + id, id, email, 'new' FROM found('eve@example.com') RETURNING id, customer_email",
            "DELETE FROM orders WHERE customer_email IN (SELECT email FROM found('ada@example.com')) RETURNING id",
            "EXPLAIN (COSTS OFF) SELECT 1 FROM generate_series(1, 2)",
        ],
        &[
            "SAVEPOINT s",
            "CREATE FUNCTION gone() RETURNS bigint LANGUAGE sql AS 'SELECT count(email) FROM customers'",
            "SELECT gone()",
            "ROLLBACK TO s",
            "CREATE FUNCTION gone() RETURNS text LANGUAGE sql AS 'SELECT email FROM customers WHERE id = 2'",
            "SELECT gone()",
            "CREATE OR REPLACE FUNCTION gone() RETURNS text LANGUAGE sql AS 'SELECT email FROM customers WHERE id = 3'",
            "SELECT gone()",
        ],
    ])
}

#[test]
fn parameters_are_sealed_for_calls() -> Result<()> {
    same_with(&[
        ("SELECT id FROM by_mail($1)", &[Some("ada@example.com")]),
        ("SELECT id FROM by_mail($1)", &[None]),
        ("SELECT mail FROM first_mail($1)", &[Some("3")]),
        (
            "SELECT id FROM by_mail($1) WHERE email = $1",
            &[Some("bob@example.com")],
        ),
    ])
}

#[test]
fn functions_made_beside_are_read_by_their_bodies() -> Result<()> {
    same(&[
        "SELECT * FROM everyone() ORDER BY id",
        "SELECT e FROM everyone() e ORDER BY id LIMIT 1",
        "SELECT email FROM everyone() WHERE email = 'bob@example.com'",
        "SELECT nobody_else()",
        "SELECT mail FROM first_mail(2)",
        "SELECT id FROM by_mail('eve@example.com')",
        "SELECT * FROM with_path()",
        "SELECT email, age FROM rows_in_plpgsql(1)",
        "SELECT * FROM out_in_plpgsql(2)",
    ])?;
    refused(&[
        "SELECT as_text()",
        "SELECT * FROM as_table()",
        "SELECT * FROM sorted()",
        "SELECT told_apart()",
        "SELECT * FROM in_plpgsql()",
        "SELECT wrong_literal()",
        "SELECT plain_argument('ada@example.com')",
        "CALL in_a_procedure()",
        "DO $$ BEGIN PERFORM email FROM customers; END $$",
    ])
}

/// The plaintext of a body is not in the catalog.
#[test]
fn no_plaintext_stays_in_the_catalog() -> Result<()> {
    let twin = twin()?;
    let make = "CREATE FUNCTION canary(mail text) RETURNS bigint LANGUAGE sql AS \
                $$ SELECT count(*) FROM customers WHERE email IN (mail, 'canary@example.com') $$";
    let drop = "DROP FUNCTION canary";
    let made = twin.proxy.psql("app", make)?;
    ensure!(made.contains("CREATE FUNCTION"), "{made}");
    let kept = twin.veiled.psql(
        "app",
        "SELECT prosrc LIKE '%canary@%', prosrc LIKE '%eq_term%', pg_get_function_arguments(oid) \
         FROM pg_proc WHERE proname = 'canary'",
    )?;
    ensure!(kept.contains("f|t|mail pgveil.sealed_text"), "{kept}");
    let called = twin.proxy.psql("app", "SELECT canary('ada@example.com')")?;
    ensure!(
        called.trim().ends_with('1') || called.contains("\n1"),
        "{called}"
    );
    twin.proxy.psql("app", drop)?;
    Ok(())
}
