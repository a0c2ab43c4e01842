//! Statements whose answer on ciphertext would be wrong, or that a later release answers. Refused today; the right answer
//! would be right too, anything else is a bug.

use anyhow::Result;

use crate::refused;

#[test]
fn order_and_ranges_of_a_protected_column() -> Result<()> {
    refused(&[
        "SELECT id FROM customers ORDER BY email",
        "SELECT email FROM customers ORDER BY 1",
        "SELECT email AS x FROM customers ORDER BY x",
        "SELECT id FROM customers ORDER BY region, age DESC",
        "SELECT id FROM customers WHERE age > 18",
        "SELECT id FROM customers WHERE age BETWEEN 1 AND 40",
        "SELECT id FROM customers WHERE email < 'b'",
        "SELECT max(age) FROM customers",
        "SELECT min(email), region FROM customers GROUP BY region",
        "SELECT id, rank() OVER (ORDER BY age) FROM customers",
        "SELECT DISTINCT ON (email) id, email FROM customers ORDER BY email",
        "SELECT id FROM customers WHERE age > ALL (SELECT age FROM customers)",
        "SELECT greatest(age, 5) FROM customers",
        "SELECT array_agg(id ORDER BY email) FROM customers",
    ])
}

#[test]
fn patterns_functions_and_operators_on_a_protected_column() -> Result<()> {
    refused(&[
        "SELECT id FROM customers WHERE email LIKE 'ada%'",
        "SELECT id FROM customers WHERE email ILIKE 'ADA%'",
        "SELECT id FROM customers WHERE email ~ '^ada'",
        "SELECT id FROM customers WHERE email SIMILAR TO 'a%'",
        "SELECT upper(email) FROM customers",
        "SELECT length(email) FROM customers",
        "SELECT email || 'x' FROM customers",
        "SELECT 'x' || email FROM customers",
        "SELECT age + 1 FROM customers",
        "SELECT -age FROM customers",
        "SELECT sum(balance) FROM customers",
        "SELECT avg(age) FROM customers",
        "SELECT email::varchar FROM customers",
        "SELECT age::text FROM customers",
        "SELECT email::bytea FROM customers",
        "SELECT email COLLATE \"C\" FROM customers",
        "SELECT notes->>'vip' FROM customers",
        "SELECT id FROM customers WHERE notes @> '{\"vip\": true}'",
        "SELECT to_json(email) FROM customers",
        "SELECT row_to_json(c) FROM customers c",
        "SELECT c FROM customers c",
        "SELECT ROW(email, 1) FROM customers",
        "SELECT ARRAY[email] FROM customers",
        "SELECT (c).email FROM (SELECT c FROM customers c) t",
        "SELECT concat(email) FROM customers",
        "SELECT format('%s', email) FROM customers",
        "SELECT coalesce(email, plain) FROM customers",
        "SELECT CASE WHEN id = 1 THEN email ELSE plain END FROM customers",
        "SELECT nullif(email, 'ada@example.com') FROM customers",
        "SELECT extract(year FROM born) FROM customers",
        "SELECT born - 1 FROM customers",
        "SELECT id FROM customers WHERE active",
        "SELECT id FROM customers WHERE NOT active",
        "SELECT id FROM customers WHERE active IS TRUE",
        "SELECT count(*) FILTER (WHERE active) FROM customers",
        "SELECT md5(email) FROM customers",
        "SELECT pg_typeof(email) FROM customers",
    ])
}

#[test]
fn comparisons_of_things_that_do_not_compare() -> Result<()> {
    refused(&[
        "SELECT id FROM customers WHERE email = plain",
        "SELECT id FROM customers WHERE plain = email",
        "SELECT id FROM customers WHERE email = ssn",
        "SELECT id FROM customers WHERE email = md5('ada')",
        "SELECT id FROM customers WHERE email = lower('É')",
        "SELECT id FROM customers WHERE email = (SELECT email FROM public_people WHERE id = 1)",
        "SELECT id FROM customers WHERE email IN (SELECT email FROM public_people)",
        "SELECT id FROM customers WHERE email IN (SELECT plain FROM customers)",
        "SELECT id FROM customers WHERE upper(email) = 'ADA@EXAMPLE.COM'",
        "SELECT c.id FROM customers c JOIN public_people p ON p.email = c.email",
        "SELECT c.id FROM customers c JOIN public_people p USING (email)",
        "SELECT c.id FROM customers c NATURAL JOIN public_people p",
        "SELECT c.id FROM public_people p LEFT JOIN customers c ON c.email = p.email",
        "SELECT id FROM orders WHERE total = 10",
        "SELECT DISTINCT total FROM orders",
        "SELECT total, count(*) FROM orders GROUP BY total",
        "SELECT count(DISTINCT total) FROM orders",
        "SELECT DISTINCT notes FROM customers",
        "SELECT DISTINCT * FROM customers",
        "SELECT id FROM customers WHERE notes = '{}'",
        "SELECT id FROM customers WHERE age = id",
        "SELECT id FROM customers WHERE age = balance",
        "SELECT id FROM customers WHERE (email = 'x') IS DISTINCT FROM (email = plain)",
    ])
}

#[test]
fn set_operations_that_compare_or_mix() -> Result<()> {
    refused(&[
        "SELECT email FROM customers UNION SELECT customer_email FROM orders",
        "SELECT email FROM customers UNION ALL SELECT email FROM public_people",
        "SELECT email FROM public_people UNION ALL SELECT email FROM customers",
        "SELECT email FROM customers UNION ALL SELECT 'literal'",
        "SELECT email FROM customers UNION ALL SELECT ssn FROM customers",
        "SELECT email FROM customers UNION ALL SELECT customer_email FROM orders ORDER BY 1",
        "SELECT email FROM customers UNION SELECT email FROM public_people",
        "VALUES ('x') UNION ALL SELECT email FROM customers",
        "WITH RECURSIVE r AS (SELECT email FROM customers UNION SELECT email FROM r) SELECT * FROM r",
    ])
}

#[test]
fn writing_plaintext_or_ciphertext_where_it_does_not_belong() -> Result<()> {
    refused(&[
        "INSERT INTO public_people (id, email) SELECT id + 100, email FROM customers",
        "UPDATE public_people p SET email = c.email FROM customers c WHERE c.id = p.id",
        "INSERT INTO customers (id, region, email) SELECT id + 100, 'eu', email FROM public_people",
        "INSERT INTO customers (id, region, email) VALUES (100, 'eu', md5('x'))",
        "INSERT INTO customers (id, region, email) VALUES (100, 'eu', (SELECT email FROM public_people WHERE id = 1))",
        "INSERT INTO customers (id, region, age) VALUES (100, 'eu', 1 + 1)",
        "INSERT INTO customers (id, region, seen) VALUES (100, 'eu', current_timestamp)",
        "INSERT INTO customers (id, region, token) VALUES (100, 'eu', gen_random_uuid())",
        "UPDATE customers SET email = plain WHERE id = 1",
        "UPDATE customers SET plain = email WHERE id = 1",
        "UPDATE customers SET email = ssn WHERE id = 1",
        "UPDATE customers SET email = lower(email)",
        "UPDATE customers SET age = age + 1",
        "UPDATE customers SET (email, plain) = (SELECT email, email FROM public_people WHERE id = 1) WHERE id = 1",
        "INSERT INTO customers (id, region, email) VALUES (100, 'eu', 'ada@example.com') ON CONFLICT (email) DO UPDATE SET plain = excluded.email",
        "CREATE TABLE copied AS SELECT * FROM customers",
        "SELECT * INTO copied FROM customers",
        "CREATE TEMP TABLE copied AS SELECT email FROM customers",
    ])
}

#[test]
fn what_cannot_be_parsed() -> Result<()> {
    refused(&[
        "SELECT email FROM customers WHERE",
        "SELECT email, FROM customers",
        "SELEKT email FROM customers",
        "SELECT email FROM customers WHERE email = 'unterminated",
        "INSERT INTO customers VALUES (1, 'eu', 'x'",
    ])
}

#[test]
fn statements_of_later_releases() -> Result<()> {
    refused(&[
        "DECLARE c CURSOR FOR SELECT email FROM customers",
        "PREPARE p AS SELECT email FROM customers",
        "CREATE VIEW v AS SELECT email FROM customers",
        "CREATE MATERIALIZED VIEW v AS SELECT email FROM customers",
        "CREATE INDEX ON customers (email)",
        "ALTER TABLE customers DROP COLUMN email",
        "ALTER TABLE customers RENAME COLUMN email TO mail",
        "ALTER TABLE customers ALTER COLUMN email TYPE varchar",
        "DO $$ BEGIN PERFORM email FROM customers; END $$",
        "CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT email FROM customers LIMIT 1); END'",
        "ALTER TABLE customers ADD CHECK (email <> '')",
    ])
}
