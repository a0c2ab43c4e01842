//! Arrays, rows and JSON documents that hold sealed values: read, taken apart, put into each other, as PostgreSQL
//! writes them in text and in binary.

use anyhow::Result;

use crate::{refused, same, same_with};

#[test]
fn arrays() -> Result<()> {
    same(&[
        "SELECT array_agg(email ORDER BY id) FROM customers",
        "SELECT array_agg(ssn ORDER BY id), array_agg(age ORDER BY id), array_agg(balance ORDER BY id) FROM customers",
        "SELECT array_agg(born ORDER BY id), array_agg(code ORDER BY id), array_agg(token ORDER BY id) FROM customers",
        "SELECT array_agg(active ORDER BY id), array_agg(seen ORDER BY id), array_agg(notes ORDER BY id) FROM customers",
        "SELECT region, array_agg(email ORDER BY id) FILTER (WHERE email IS NOT NULL) AS mails FROM customers GROUP BY region ORDER BY region",
        "SELECT array_agg(email) FROM customers WHERE false",
        "SELECT id, array_agg(email) OVER (ORDER BY id) FROM customers ORDER BY id",
        "SELECT (array_agg(email ORDER BY id))::text[] FROM customers",
        "SELECT CAST(array_agg(email ORDER BY id) AS text[]) FROM customers",
        "SELECT id, ARRAY[email, email], ARRAY[ssn, ssn], ARRAY[balance, balance], ARRAY[code, code] FROM customers ORDER BY id",
        "SELECT id, ARRAY[email, NULL], ARRAY[ssn, NULL], ARRAY[[email, email], [email, email]] FROM customers ORDER BY id",
        "SELECT ARRAY(SELECT email FROM customers ORDER BY id)",
        "SELECT ARRAY(SELECT ssn FROM customers ORDER BY id), ARRAY(SELECT balance FROM customers ORDER BY id)",
        "SELECT id, ARRAY(SELECT o.customer_email FROM orders o WHERE o.customer_id = c.id ORDER BY o.id) FROM customers c ORDER BY id",
        "SELECT (array_agg(email ORDER BY id))[1], (array_agg(email ORDER BY id))[99] FROM customers",
        "SELECT (array_agg(email ORDER BY id))[2:3], (array_agg(email ORDER BY id))[:2] FROM customers",
        "SELECT (ARRAY[[email, email]])[1][2], (ARRAY[[email, email]])[1] FROM customers ORDER BY id",
        "SELECT array_length(array_agg(email), 1), cardinality(array_agg(email)), array_ndims(array_agg(email)) FROM customers",
        "SELECT array_remove(array_agg(email ORDER BY id), NULL) FROM customers",
        "SELECT array_cat(array_agg(email ORDER BY id), array_agg(email ORDER BY id DESC)) FROM customers",
        "SELECT array_append(array_agg(email ORDER BY id), (SELECT email FROM customers WHERE id = 1)) FROM customers",
        "SELECT array_prepend((SELECT email FROM customers WHERE id = 1), array_agg(email ORDER BY id)) FROM customers",
        "SELECT coalesce(array_agg(email), '{}') FROM customers WHERE false",
        "SELECT coalesce(array_agg(email), '{}'::text[]) FROM customers WHERE false",
        "SELECT coalesce(array_agg(email ORDER BY id), NULL) FROM customers",
        "SELECT array_agg(email ORDER BY id) IS NULL, array_agg(email) IS NOT NULL FROM customers",
        "SELECT email, array_agg(id ORDER BY id), array_agg(email) FROM customers GROUP BY email HAVING count(*) = 1 AND email = 'ada@example.com'",
        "SELECT array_agg(ARRAY[email, email] ORDER BY id) FROM customers",
        "WITH a AS (SELECT array_agg(email ORDER BY id) AS mails FROM customers) SELECT mails, mails[1], cardinality(mails) FROM a",
        "SELECT s.mails FROM (SELECT region, array_agg(email ORDER BY id) AS mails FROM customers GROUP BY region) s ORDER BY s.region",
        "SELECT array_agg(email ORDER BY id) FROM customers UNION ALL SELECT array_agg(customer_email ORDER BY id) FROM orders",
    ])
}

#[test]
fn elements() -> Result<()> {
    same(&[
        "SELECT unnest(array_agg(email ORDER BY id)) FROM customers",
        "SELECT id, unnest(ARRAY[email, email]) FROM customers ORDER BY id",
        "SELECT u FROM (SELECT array_agg(email ORDER BY id) AS mails FROM customers) s, unnest(s.mails) AS u",
        "SELECT u.mail, u.n FROM (SELECT array_agg(email ORDER BY id) AS mails FROM customers) s, unnest(s.mails) WITH ORDINALITY AS u(mail, n) ORDER BY n",
        "SELECT unnest FROM (SELECT array_agg(age ORDER BY id) AS ages FROM customers) s CROSS JOIN LATERAL unnest(s.ages)",
        "SELECT u FROM (SELECT array_agg(email ORDER BY id) AS mails FROM customers) s, unnest(s.mails) AS u WHERE u = 'ada@example.com'",
        "SELECT count(*) FROM (SELECT array_agg(email) AS mails FROM customers) s, unnest(s.mails) AS u JOIN orders o ON o.customer_email = u",
    ])?;
    same_with(&[
        (
            "SELECT u FROM (SELECT array_agg(email ORDER BY id) AS mails FROM customers) s, unnest(s.mails) AS u WHERE u = $1",
            &[Some("bob@example.com")],
        ),
        (
            "SELECT (array_agg(email ORDER BY id))[$1] FROM customers",
            &[Some("2")],
        ),
    ])
}

#[test]
fn rows() -> Result<()> {
    same(&[
        "SELECT c FROM customers c ORDER BY id",
        "SELECT customers FROM customers ORDER BY id",
        "SELECT t FROM \"Odd Names\" t ORDER BY id",
        "SELECT (c).email, (c).id, (c).balance FROM customers c ORDER BY id",
        "SELECT s FROM (SELECT id, email, balance, notes, seen FROM customers) s ORDER BY id",
        "SELECT ROW(c.email, c.id, 'x', NULL, c.balance, c.code) FROM customers c ORDER BY id",
        "SELECT (c.email, c.id) FROM customers c ORDER BY id",
        "SELECT ROW(o.*), ROW(o.*, 1) FROM orders o ORDER BY id",
        "SELECT ROW(ROW(email, ssn), ARRAY[email, email], id) FROM customers ORDER BY id",
        "WITH a AS (SELECT c FROM customers c) SELECT c, (c).email FROM a ORDER BY (c).id",
        "SELECT (x).email, (x).ssn FROM (SELECT c AS x FROM customers c) s ORDER BY (x).id",
        "SELECT c IS NULL, c IS NOT NULL FROM customers c ORDER BY id",
        "SELECT count(c), count(c.*) FROM customers c",
        "SELECT o.id, c FROM orders o LEFT JOIN customers c ON c.email = o.customer_email ORDER BY o.id",
        "SELECT array_agg(ROW(email, id) ORDER BY id) FROM customers",
        "SELECT array_agg(t ORDER BY t.id) FROM (SELECT id, email, ssn FROM customers) t",
        "SELECT (SELECT t FROM (SELECT email, id FROM customers WHERE id = 1) t)",
        "INSERT INTO orders (id, customer_id, customer_email, total) VALUES (77, 1, 'a \"quoted\", (one)', 1.5) RETURNING orders, (orders).customer_email",
    ])
}

#[test]
fn documents() -> Result<()> {
    same(&[
        "SELECT row_to_json(c) FROM customers c ORDER BY id",
        "SELECT to_json(c), to_jsonb(c) FROM customers c ORDER BY id",
        "SELECT row_to_json(c.*), row_to_json(c, true) FROM customers c ORDER BY id",
        "SELECT to_json(email), to_jsonb(email), to_json(age), to_jsonb(balance), to_json(active), to_json(born), to_jsonb(seen), to_json(token), to_json(code), to_jsonb(notes), to_json(notes) FROM customers ORDER BY id",
        "SELECT json_agg(c ORDER BY id), jsonb_agg(c ORDER BY id) FROM customers c",
        "SELECT json_agg(email ORDER BY id), jsonb_agg(seen ORDER BY id) FROM customers",
        "SELECT coalesce(json_agg(o ORDER BY o.id), '[]') FROM orders o",
        "SELECT coalesce(json_agg(o ORDER BY o.id), '[]'::json) FROM orders o WHERE false",
        "SELECT json_build_object('id', id, 'email', email, 'age', age, 'deep', jsonb_build_object('s', ssn, 'l', jsonb_build_array(balance, 1, NULL))) FROM customers ORDER BY id",
        "SELECT string_agg(email, ', ' ORDER BY id), string_agg(email, '' ORDER BY id) FILTER (WHERE id < 0) FROM customers",
        "SELECT json_build_array(email, id, notes), jsonb_build_array(email, id, notes) FROM customers ORDER BY id",
        "SELECT json_object_agg(id, email ORDER BY id), jsonb_object_agg(id, email ORDER BY id) FROM customers",
        "SELECT json_agg(row_to_json(t)) FROM (SELECT id, email, plain FROM customers ORDER BY id) t",
        "SELECT to_json(array_agg(email ORDER BY id)), array_to_json(array_agg(age ORDER BY id)) FROM customers",
        "SELECT to_json(c)::jsonb, to_jsonb(c)::json FROM customers c ORDER BY id",
        "SELECT json_strip_nulls(json_build_object('e', email, 'p', plain)), jsonb_strip_nulls(jsonb_build_object('e', email, 'p', plain)) FROM customers ORDER BY id",
        "SELECT email, json_agg(json_build_object('id', id, 'email', email)) FROM customers WHERE email = 'ada@example.com' GROUP BY email",
        "SELECT json_build_object('e', email, 'n', count(*)) FROM customers WHERE email = 'ada@example.com' GROUP BY email",
        "SELECT ARRAY[to_json(email), to_json(email)], ROW(to_jsonb(c), id) FROM customers c ORDER BY id",
        "SELECT array_agg(to_jsonb(t) ORDER BY t.id) FROM (SELECT id, email FROM customers) t",
        "SELECT to_jsonb(c) IS NULL FROM customers c ORDER BY id",
        "SELECT to_json(email) FROM customers UNION ALL SELECT to_json(customer_email) FROM orders",
        "INSERT INTO orders (id, customer_id, customer_email, total) VALUES (77, 1, E'tab\\t\"quote\" \\\\ back\\nline \\u00e9', 1.5) RETURNING to_json(orders), to_jsonb(orders)",
        "SELECT count(*) FROM (SELECT to_jsonb(c) AS doc FROM customers c) s WHERE s.doc IS NOT NULL",
    ])
}

/// As PostgREST, Hasura, Rails, Prisma and Supabase nest them.
#[test]
fn nested_documents() -> Result<()> {
    same(&[
        "SELECT coalesce(json_agg(_postgrest_t), '[]')::json AS body FROM (SELECT c.id, c.email FROM customers c ORDER BY c.id) _postgrest_t",
        "SELECT c.id, coalesce(o.orders, '[]') AS orders FROM customers c LEFT JOIN LATERAL (SELECT json_agg(o_1) AS orders FROM (SELECT o.id, o.customer_email, o.total FROM orders o WHERE o.customer_id = c.id ORDER BY o.id) o_1) o ON true ORDER BY c.id",
        "SELECT row_to_json((SELECT _e FROM (SELECT c.id AS id, c.email AS email) AS _e)) AS root FROM customers c ORDER BY c.id",
        "SELECT coalesce(json_agg(root), '[]') AS root FROM (SELECT row_to_json((SELECT _e FROM (SELECT _root.base.id AS id, _root.base.email AS email) AS _e)) AS root FROM (SELECT * FROM customers ORDER BY id) AS base) AS _root WHERE false",
        "SELECT json_build_object('customer', json_build_object('id', c.id, 'email', c.email), 'orders', (SELECT coalesce(json_agg(json_build_object('id', o.id, 'total', o.total) ORDER BY o.id), '[]'::json) FROM orders o WHERE o.customer_email = c.email)) FROM customers c ORDER BY c.id",
        "SELECT t.id, jsonb_agg(jsonb_build_object('email', t.email, 'n', t.id)) FROM (SELECT id, email FROM customers) t GROUP BY t.id ORDER BY t.id",
        "WITH x AS (SELECT c.id, to_jsonb(c) AS doc FROM customers c) SELECT json_agg(x ORDER BY x.id) FROM x",
        "WITH added AS (INSERT INTO orders (id, customer_id, customer_email, total) VALUES (91, 1, 'new@example.com', 2) RETURNING *) SELECT row_to_json(added) FROM added",
    ])
}

#[test]
fn what_would_need_to_look_inside() -> Result<()> {
    refused(&[
        "SELECT ARRAY[[age, 1], [2, age]] FROM customers",
        "SELECT (c).* FROM orders c ORDER BY id",
        "SELECT x.id, x.email FROM (SELECT array_agg(t ORDER BY t.id) AS rows FROM (SELECT id, email FROM customers) t) s, unnest(s.rows) AS x(id int, email text) WHERE false",
        "SELECT array_agg(DISTINCT email) FROM customers",
        "SELECT array_agg(email ORDER BY email) FROM customers",
        "SELECT json_agg(email ORDER BY email) FROM customers",
        "SELECT array_to_string(array_agg(email), ',') FROM customers",
        "SELECT array_position(array_agg(email), 'ada@example.com') FROM customers",
        "SELECT array_agg(email)::text FROM customers",
        "SELECT array_agg(ssn)::varchar(5)[] FROM customers",
        "SELECT array_agg(email) = array_agg(email) FROM customers",
        "SELECT 'ada@example.com' = ANY (array_agg(email)) FROM customers",
        "SELECT c::text FROM customers c",
        "SELECT c = c FROM customers c",
        "SELECT DISTINCT c FROM customers c",
        "SELECT c FROM customers c ORDER BY c",
        "SELECT to_jsonb(c) AS d, count(*) FROM customers c GROUP BY 1",
        "SELECT to_jsonb(c) AS d, count(*) FROM customers c GROUP BY d",
        "SELECT to_jsonb(c) AS d, count(*) FROM customers c GROUP BY to_jsonb(c)",
        "SELECT DISTINCT to_jsonb(c) FROM customers c",
        "SELECT to_jsonb(c) FROM customers c UNION SELECT to_jsonb(c) FROM customers c",
        "SELECT to_jsonb(c) ->> 'email' FROM customers c",
        "SELECT to_jsonb(c) @> '{\"email\": \"ada@example.com\"}' FROM customers c",
        "SELECT jsonb_pretty(to_jsonb(c)) FROM customers c",
        "SELECT json_build_object(email, 1) FROM customers",
        "SELECT json_object_agg(email, id) FROM customers WHERE email IS NOT NULL",
        "SELECT to_json(c)::text FROM customers c",
        "SELECT md5(to_json(c)::text) FROM customers c",
        "SELECT concat(c) FROM customers c",
        "SELECT format('%s', c) FROM customers c",
        "SELECT count(DISTINCT c) FROM customers c",
        "SELECT max(array_agg) FROM (SELECT array_agg(email) FROM customers) s",
        "SELECT greatest(ARRAY[email], ARRAY[email]) FROM customers",
        "UPDATE public_people SET email = (SELECT to_jsonb(c)::text FROM customers c WHERE id = 1)",
        "SELECT x FROM jsonb_to_recordset('[{\"email\": \"a\"}]') AS t(x text), customers c WHERE c.email = t.x",
    ])
}
