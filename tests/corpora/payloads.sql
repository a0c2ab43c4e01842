-- A charity behind PostgREST of several releases, and workers that send batches as one JSON parameter; logins that normalize what they are given.

-- schema --
CREATE TABLE donors (id int PRIMARY KEY, org_id int NOT NULL DEFAULT 1, email text UNIQUE, full_name text, phone varchar(12), born date, gave numeric(10,2), active bool, prefs jsonb, raw json, city text, tags text[]);
CREATE TABLE notes (id int PRIMARY KEY, tenant_id int NOT NULL, author text, body text, kind text NOT NULL DEFAULT 'note');
CREATE TABLE logs (id int PRIMARY KEY, doc jsonb, txt text);

-- policy --
public.donors  scope = "platform"
    email: text, search = ["equality"], equality_group = "mail"
    full_name: text
    phone: varchar(12), search = ["equality"]
    born: date, search = ["equality"]
    gave: numeric(10,2)
    active: bool, search = ["equality"]
    prefs: jsonb
    raw: json
    tags: text[]
public.notes  scope = "tenant:{tenant_id}"
    author: text, search = ["equality"]
    body: text

-- rows --
INSERT INTO donors (id, org_id, email, full_name, phone, born, gave, active, prefs, raw, city) VALUES (1, 1, 'ada@example.com', 'Ada', '555-1', '1815-12-10', 10.50, true, '{"news": true}', '{"a": 1}', 'London'), (2, 1, 'bob@example.com', 'Bob', NULL, NULL, NULL, false, NULL, NULL, 'Paris'), (3, 2, 'eve@example.com', NULL, '555-3', '1970-01-01', 0, NULL, '[]', '[]', NULL);
INSERT INTO notes VALUES (1, 10, 'ada', 'first'), (2, 10, 'bob', 'second'), (3, 20, 'ada', 'third');
INSERT INTO logs VALUES (1, '{"a": 1}', 'x');

-- statements --
-- PostgREST 12: one row, several, upsert, update
WITH pgrst_source AS (INSERT INTO "public"."donors"("id", "email", "full_name") SELECT "pgrst_body"."id", "pgrst_body"."email", "pgrst_body"."full_name" FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "id", "email", "full_name" FROM json_to_record(pgrst_payload.json_data) AS _("id" integer, "email" text, "full_name" text) ) pgrst_body RETURNING "public"."donors"."id", "public"."donors"."email") SELECT '' AS total_result_set, pg_catalog.count(_postgrest_t) AS page_total, array[]::text[] AS header, coalesce(json_agg(_postgrest_t)->0, 'null') AS body FROM (SELECT * FROM pgrst_source) _postgrest_t
-- with: {"id": 4, "email": "new@example.com", "full_name": "N \"Q\" \u00e9"}

WITH pgrst_source AS (INSERT INTO "public"."donors"("id", "email", "full_name") SELECT "pgrst_body"."id", "pgrst_body"."email", "pgrst_body"."full_name" FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "id", "email", "full_name" FROM json_to_recordset(pgrst_payload.json_data) AS _("id" integer, "email" text, "full_name" text) ) pgrst_body RETURNING "public"."donors".*) SELECT '' AS total_result_set, pg_catalog.count(_postgrest_t) AS page_total, coalesce(json_agg(_postgrest_t), '[]') AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status, '' AS response_inserted FROM (SELECT * FROM pgrst_source) _postgrest_t
-- with: [{"id": 4, "email": "new@example.com", "full_name": null}, {"id": 5, "email": "n5@example.com", "secret": "not named"}]

WITH pgrst_source AS (INSERT INTO "public"."donors"("id", "email", "city") SELECT "pgrst_body"."id", "pgrst_body"."email", "pgrst_body"."city" FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "id", "email", "city" FROM json_to_recordset(pgrst_payload.json_data) AS _("id" integer, "email" text, "city" text) ) pgrst_body ON CONFLICT("id") DO UPDATE SET "id" = EXCLUDED."id", "email" = EXCLUDED."email", "city" = EXCLUDED."city" RETURNING "public"."donors"."id", "public"."donors"."email") SELECT pg_catalog.count(_postgrest_t) AS page_total, coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT * FROM pgrst_source) _postgrest_t
-- with: [{"id": 1, "email": "ada@new.example", "city": "Rome"}, {"id": 9, "email": "nine@example.com"}]

WITH pgrst_source AS (INSERT INTO "public"."donors"("id", "email") SELECT "pgrst_body"."id", "pgrst_body"."email" FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "id", "email" FROM json_to_recordset(pgrst_payload.json_data) AS _("id" integer, "email" text) ) pgrst_body ON CONFLICT("email") DO NOTHING RETURNING 1) SELECT pg_catalog.count(_postgrest_t) AS page_total FROM (SELECT * FROM pgrst_source) _postgrest_t
-- with: [{"id": 11, "email": "ada@example.com"}, {"id": 12, "email": "x@example.com"}]

WITH pgrst_source AS (UPDATE "public"."donors" SET "email" = "pgrst_body"."email", "city" = "pgrst_body"."city" FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "email", "city" FROM json_to_record(pgrst_payload.json_data) AS _("email" text, "city" text) ) pgrst_body WHERE "public"."donors"."id" = $2 RETURNING "public"."donors"."id", "public"."donors"."email") SELECT pg_catalog.count(_postgrest_t) AS page_total, coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT * FROM pgrst_source) _postgrest_t
-- with: {"email": "ada2@example.com", "city": "Oslo"} | 1

WITH pgrst_source AS (UPDATE "public"."donors" SET "phone" = "pgrst_body"."phone" FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "phone" FROM json_to_recordset(pgrst_payload.json_data) AS _("phone" character varying(12)) LIMIT 1 ) pgrst_body WHERE "public"."donors"."email" = $2 RETURNING 1) SELECT pg_catalog.count(_postgrest_t) AS page_total FROM (SELECT * FROM pgrst_source) _postgrest_t
-- with: [{"phone": "555-9"}] | bob@example.com

-- types: numbers, dates, truth, documents, as JSON has them
WITH pgrst_source AS (INSERT INTO "public"."donors"("id", "phone", "born", "gave", "active", "prefs", "raw") SELECT "pgrst_body"."id", "pgrst_body"."phone", "pgrst_body"."born", "pgrst_body"."gave", "pgrst_body"."active", "pgrst_body"."prefs", "pgrst_body"."raw" FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "id", "phone", "born", "gave", "active", "prefs", "raw" FROM json_to_recordset(pgrst_payload.json_data) AS _("id" integer, "phone" character varying(12), "born" date, "gave" numeric(10,2), "active" boolean, "prefs" jsonb, "raw" json) ) pgrst_body RETURNING "public"."donors".*) SELECT coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT * FROM pgrst_source) _postgrest_t
-- with: [{"id": 21, "phone": 5551, "born": "2001-02-03", "gave": 1.005, "active": true, "prefs": {"b": 1, "a": [1, 2]}, "raw": { "b" : 1 }}, {"id": 22, "gave": "7", "active": "no", "prefs": "text", "raw": "a\/b"}, {"id": 23, "prefs": 5, "raw": null}]

WITH pgrst_source AS (INSERT INTO "public"."donors"("id", "phone") SELECT "pgrst_body"."id", "pgrst_body"."phone" FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "id", "phone" FROM json_to_recordset(pgrst_payload.json_data) AS _("id" integer, "phone" character varying(12)) ) pgrst_body RETURNING 1) SELECT 1 FROM pgrst_source
-- with: [{"id": 21, "phone": "much too long for it"}]

WITH pgrst_source AS (INSERT INTO "public"."donors"("id", "born") SELECT "pgrst_body"."id", "pgrst_body"."born" FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "id", "born" FROM json_to_recordset(pgrst_payload.json_data) AS _("id" integer, "born" date) ) pgrst_body RETURNING 1) SELECT 1 FROM pgrst_source
-- with: [{"id": 21, "born": "no date"}]

WITH pgrst_source AS (INSERT INTO "public"."donors"("id", "email") SELECT "pgrst_body"."id", "pgrst_body"."email" FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "id", "email" FROM json_to_recordset(pgrst_payload.json_data) AS _("id" integer, "email" text) ) pgrst_body RETURNING 1) SELECT 1 FROM pgrst_source
-- with: {"id": 21, "email": "x"}

WITH pgrst_source AS (INSERT INTO "public"."donors"("id", "email") SELECT "pgrst_body"."id", "pgrst_body"."email" FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "id", "email" FROM json_to_recordset(pgrst_payload.json_data) AS _("id" integer, "email" text) ) pgrst_body RETURNING 1) SELECT 1 FROM pgrst_source
-- with: [{"id": 21, "email": "x"}, 5]

WITH pgrst_source AS (INSERT INTO "public"."donors"("id", "email") SELECT "pgrst_body"."id", "pgrst_body"."email" FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "id", "email" FROM json_to_recordset(pgrst_payload.json_data) AS _("id" integer, "email" text) ) pgrst_body RETURNING 1) SELECT 1 FROM pgrst_source
-- with: [{"id": 21, "email": "x"}

INSERT INTO donors (id, email) SELECT id, email FROM json_to_recordset($1) AS t(id int, email text)
-- with: NULL

INSERT INTO donors (id, email) SELECT id, email FROM json_to_recordset($1) AS t(id int, email text)
-- with: [{"id": 31, "email": "a", "email": "b"}, {"id": 32, "email": {"x": [1, "y"]}}, {"id": 33, "email": true}, {"id": 34, "email": 1.50}]

-- PostgREST 11 and before
WITH pgrst_source AS (WITH pgrst_payload AS (SELECT $1::json AS json_data), pgrst_body AS ( SELECT CASE WHEN json_typeof(json_data) = 'array' THEN json_data ELSE json_build_array(json_data) END AS val FROM pgrst_payload) INSERT INTO "public"."donors"("id", "email") SELECT "id", "email" FROM json_to_recordset ((SELECT val FROM pgrst_body)) AS _ ("id" integer, "email" text) RETURNING "public"."donors".*) SELECT '' AS total_result_set, pg_catalog.count(_postgrest_t) AS page_total, coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT * FROM pgrst_source) _postgrest_t
-- with: {"id": 41, "email": "one@example.com"}

WITH pgrst_source AS (WITH pgrst_payload AS (SELECT $1::json AS json_data), pgrst_body AS ( SELECT CASE WHEN json_typeof(json_data) = 'array' THEN json_data ELSE json_build_array(json_data) END AS val FROM pgrst_payload) INSERT INTO "public"."donors"("id", "email") SELECT "id", "email" FROM json_populate_recordset (null::"public"."donors", (SELECT val FROM pgrst_body)) _ RETURNING "public"."donors"."email") SELECT pg_catalog.count(_postgrest_t) AS page_total, coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT * FROM pgrst_source) _postgrest_t
-- with: [{"id": 41, "email": "one@example.com", "phone": "555"}, {"id": 42}]

WITH pgrst_source AS (WITH pgrst_payload AS (SELECT $1::json AS json_data), pgrst_body AS ( SELECT CASE WHEN json_typeof(json_data) = 'array' THEN json_data ELSE json_build_array(json_data) END AS val FROM pgrst_payload) UPDATE "public"."donors" SET "email" = _."email", "full_name" = _."full_name" FROM (SELECT * FROM json_populate_recordset (null::"public"."donors" , (SELECT val FROM pgrst_body) )) _ WHERE "public"."donors"."id" = $2 RETURNING "public"."donors"."email") SELECT pg_catalog.count(_postgrest_t) AS page_total, coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT * FROM pgrst_source) _postgrest_t
-- with: {"email": "two@example.com", "full_name": "Two"} | 2

-- batches of workers
INSERT INTO donors (id, email, city) SELECT id, email, city FROM jsonb_to_recordset($1::jsonb) AS x(id int, email text, city text)
-- with: [{"id": 51, "email": "b51@example.com", "city": "Bern"}, {"city": "Graz", "id": 52, "email": null}]

INSERT INTO donors (id, email) SELECT x.id, x.email FROM jsonb_to_recordset('[{"id": 51, "email": "lit@example.com"}]') AS x(id int, email text)

INSERT INTO donors (id, email) SELECT x.id, x.email FROM jsonb_to_recordset('[{"id": 51, "email": "lit@example.com"}]') AS x(id int, email text) RETURNING id, email

INSERT INTO donors SELECT * FROM jsonb_populate_recordset(NULL::donors, $1)
-- with: [{"id": 53, "org_id": 2, "email": "p53@example.com", "born": "1999-12-31", "gave": 3}]

INSERT INTO donors SELECT (jsonb_populate_record(NULL::donors, $1)).*
-- with: {"id": 53, "org_id": 2, "email": "p53@example.com"}
-- refused: this form of select list is not supported in a statement that names something protected

WITH d AS (SELECT * FROM json_to_recordset($1) AS x(id int, email text, full_name text)) INSERT INTO donors (id, email, full_name) SELECT id, email, full_name FROM d
-- with: [{"id": 54, "email": "e54@example.com", "full_name": "F"}]

WITH d AS (SELECT * FROM json_to_recordset($1) AS x(id int, email text)) UPDATE donors SET email = d.email FROM d WHERE donors.id = d.id RETURNING donors.id, donors.email
-- with: [{"id": 1, "email": "u1@example.com"}, {"id": 2, "email": null}]

UPDATE donors SET email = x.email, gave = x.gave FROM jsonb_to_recordset($1) AS x(id int, email text, gave numeric) WHERE donors.id = x.id
-- with: [{"id": 1, "email": "u1@example.com", "gave": 1.239}, {"id": 2, "email": "u2@example.com"}]

UPDATE donors SET email = x.email FROM jsonb_to_recordset($1) AS x(id int, email text) WHERE donors.id = x.id RETURNING x.id, x.email
-- with: [{"id": 1, "email": "u1@example.com"}]

MERGE INTO donors d USING (SELECT id, email FROM jsonb_to_recordset($1) AS x(id int, email text)) s ON d.id = s.id WHEN MATCHED THEN UPDATE SET email = s.email WHEN NOT MATCHED THEN INSERT (id, email) VALUES (s.id, s.email)
-- with: [{"id": 1, "email": "m1@example.com"}, {"id": 61, "email": "m61@example.com"}]

INSERT INTO donors (id, email) SELECT id, email FROM json_to_recordset($1) AS (id int, email text)
-- with: [{"id": 55, "email": "e55@example.com"}]

INSERT INTO donors (id, tags) SELECT id, tags FROM json_to_recordset($1) AS x(id int, tags text[])
-- with: [{"id": 55, "tags": "{a,b}"}]

INSERT INTO donors (id, tags) SELECT id, tags FROM json_to_recordset($1) AS x(id int, tags text[])
-- with: [{"id": 55, "tags": ["a", "b"]}]
-- refused: an array inside a JSON document cannot be sealed as an array: write it as a string, '{...}'

-- tenants
INSERT INTO notes (id, tenant_id, author, body) SELECT id, tenant_id, author, body FROM json_to_recordset($1) AS x(id int, tenant_id int, author text, body text) RETURNING *
-- with: [{"id": 5, "tenant_id": 10, "author": "ada", "body": "b5"}, {"id": 6, "tenant_id": 30, "author": "zoe"}]

INSERT INTO notes (id, tenant_id, author) SELECT id, 10, author FROM json_to_recordset($1) AS x(id int, author text) RETURNING *
-- with: [{"id": 5, "author": "ada"}]

INSERT INTO notes (id, tenant_id, author, body) SELECT x.id, $2::int, x.author, x.body FROM json_to_recordset($1) AS x(id int, author text, body text) RETURNING *
-- with: [{"id": 5, "author": "ada", "body": "q"}] | 20

INSERT INTO notes SELECT * FROM json_populate_recordset(NULL::notes, $1) RETURNING *
-- with: [{"id": 7, "tenant_id": 10, "author": "ada", "body": "b7", "kind": "x"}]

UPDATE notes SET body = x.body FROM json_to_recordset($1) AS x(id int, tenant_id int, body text) WHERE notes.id = x.id AND notes.tenant_id = x.tenant_id RETURNING notes.*
-- with: [{"id": 1, "tenant_id": 10, "body": "u1"}, {"id": 3, "tenant_id": 20, "body": "u3"}, {"id": 2, "tenant_id": 20, "body": "no"}]

UPDATE notes SET body = x.body FROM json_to_recordset($1) AS x(id int, body text) WHERE notes.id = x.id AND notes.tenant_id = 10 RETURNING notes.*
-- with: [{"id": 1, "body": "u1"}, {"id": 3, "body": "u3"}]

UPDATE notes SET body = x.body FROM json_to_recordset($1) AS x(id int, body text) WHERE notes.id = x.id RETURNING notes.*
-- with: [{"id": 1, "body": "u1"}, {"id": 3, "body": "u3"}]
-- refused: the scope of a value for protected column "body" cannot be resolved | The scope of public.notes.body is tenant:{tenant_id}; the statement does not give every scope column as a literal, a parameter or a column beside the value.

INSERT INTO notes (id, tenant_id, author) SELECT id, tenant_id, author FROM json_to_recordset($1) AS x(id int, tenant_id int, author text)
-- with: [{"id": 5, "author": "ada"}]
-- refused: the scope of a protected value cannot be resolved | A column that the scope is taken from is NULL or empty in this row.

-- what else is done with the document
INSERT INTO donors (id, email, prefs) SELECT x.id, x.email, d.doc FROM (SELECT $1::jsonb AS doc) d, jsonb_to_recordset(d.doc) AS x(id int, email text)
-- with: [{"id": 71, "email": "a"}]
-- refused: a JSON document that holds protected column "email" cannot be used in a value to store | Values of public.donors.email in it are sealed; PostgreSQL cannot compute on them.

WITH d AS (SELECT $1::jsonb AS doc), i AS (INSERT INTO donors (id, email) SELECT x.id, x.email FROM d, jsonb_to_recordset(d.doc) AS x(id int, email text) RETURNING id) SELECT i.id, d.doc FROM i, d
-- with: [{"id": 71, "email": "a"}]
-- refused: a JSON document that holds protected column "email" cannot be used in the result | Values of public.donors.email in it are sealed; PostgreSQL cannot compute on them.

WITH d AS (SELECT $1::jsonb AS doc), i AS (INSERT INTO donors (id, email) SELECT x.id, x.email FROM d, jsonb_to_recordset(d.doc) AS x(id int, email text) RETURNING id) SELECT i.id, d.doc -> 0 ->> 'email' FROM i, d
-- with: [{"id": 71, "email": "a"}]
-- refused: a JSON document that holds protected column "email" cannot be used in an expression with -> | Values of public.donors.email in it are sealed; PostgreSQL cannot compute on them.

WITH d AS (SELECT $1::jsonb AS doc), i AS (INSERT INTO donors (id, email) SELECT x.id, x.email FROM d, jsonb_to_recordset(d.doc) AS x(id int, email text) RETURNING id) SELECT i.id, json_build_object('d', d.doc) FROM i, d
-- with: [{"id": 71, "email": "a"}]
-- refused: a JSON document that holds protected column "email" cannot be used in the result | Values of public.donors.email in it are sealed; PostgreSQL cannot compute on them.

WITH i AS (INSERT INTO donors (id, email) SELECT x.id, x.email FROM jsonb_to_recordset($1::jsonb) AS x(id int, email text) RETURNING id) SELECT i.id, $1::jsonb FROM i
-- with: [{"id": 71, "email": "a"}]
-- refused: protected column "email" cannot be set to an expression | A value for public.donors.email is sealed before the server sees it.

INSERT INTO donors (id, email, city) SELECT x.id, x.email, x.email FROM jsonb_to_recordset($1) AS x(id int, email text)
-- with: [{"id": 71, "email": "a"}]
-- refused: protected column "email" cannot be used in a value for a column that is not protected | public.donors.email holds sealed values; PostgreSQL cannot compute on them.

INSERT INTO donors (id, email) SELECT x.id, lower(x.email) FROM jsonb_to_recordset($1) AS x(id int, email text)
-- with: [{"id": 71, "email": "a"}]
-- refused: protected column "email" cannot be set to an expression | A value for public.donors.email is sealed before the server sees it.

INSERT INTO donors (id, email) SELECT x.id, x.email FROM jsonb_to_recordset($1) AS x(id int, email text) WHERE x.email <> 'a'
-- with: [{"id": 71, "email": "a"}, {"id": 72, "email": "b"}]

INSERT INTO donors (id, email) SELECT x.id, x.email FROM jsonb_to_recordset($1) AS x(id int, email text) WHERE NOT EXISTS (SELECT 1 FROM donors d WHERE d.email = x.email)
-- with: [{"id": 71, "email": "ada@example.com"}, {"id": 72, "email": "b"}]

INSERT INTO donors (id, email) SELECT DISTINCT x.id, x.email FROM jsonb_to_recordset($1) AS x(id int, email text)
-- with: [{"id": 71, "email": "a"}, {"id": 71, "email": "a"}]
-- refused: protected column "email" cannot be set to an expression | A value for public.donors.email is sealed before the server sees it.

SELECT d.id FROM donors d JOIN jsonb_to_recordset($1) AS x(email text) ON d.email = x.email
-- with: [{"email": "ada@example.com"}]
-- refused: protected column "email" cannot be compared with column x.email | public.donors.email: the other side is not protected.

INSERT INTO donors (id, gave) SELECT x.id, x.gave FROM jsonb_to_recordset($1) AS x(id int, gave numeric) ORDER BY x.gave
-- with: [{"id": 71, "gave": 1.239}]
-- refused: protected column "gave" cannot be set to an expression | A value for public.donors.gave is sealed before the server sees it.

INSERT INTO logs (id, doc) SELECT x.id, $2::jsonb FROM jsonb_to_recordset($1) AS x(id int, email text) JOIN donors d ON d.id = x.id - 70
-- with: [{"id": 71, "email": "a"}] | {"q": 1}

-- normalized input
SELECT id FROM donors WHERE email = lower($1)
-- with: ADA@Example.com

SELECT id FROM donors WHERE email = lower(trim($1)) LIMIT 1
-- with:  ADA@Example.com 

SELECT id FROM donors WHERE email = lower('ADA@EXAMPLE.COM')

SELECT id FROM donors WHERE email = $1 OR email = lower($1)
-- with: BOB@example.com

SELECT id FROM donors WHERE email IN (lower($1), upper($2))
-- with: BOB@example.com | x

SELECT id FROM donors WHERE email = $1 || '@example.com'
-- with: ada

SELECT id FROM donors WHERE phone = btrim($1, '+ ')
-- with: + 555-1 

INSERT INTO donors (id, email, full_name) VALUES ($1, lower($2), btrim($3)) RETURNING email, full_name
-- with: 81 | New@Example.Com |  N N 

UPDATE donors SET email = lower($1), phone = rtrim($2, '-') WHERE id = 1 RETURNING email, phone
-- with: ADA2@example.com | 555--

UPDATE donors SET email = lower($1::text) WHERE id = 1 RETURNING email
-- with: ADA2@example.com

UPDATE donors SET email = lower($1::varchar) WHERE id = 1 RETURNING email
-- with: ADA2@example.com

UPDATE donors SET phone = upper($1) WHERE id = 1 RETURNING phone
-- with: abcdefghijklmnop

UPDATE donors SET born = lower($1) WHERE id = 1 RETURNING phone
-- with: abc

UPDATE donors SET email = lower($1) WHERE id = 1
-- with: NULL

UPDATE donors SET email = 'X' || $1 || '@example.com' WHERE id = 1 RETURNING email
-- with: y

UPDATE donors SET email = $1 || $2 WHERE id = 1 RETURNING email
-- with: y | z

UPDATE donors SET email = 'a' || 'b', full_name = trim(both 'x' from 'xax') WHERE id = 1 RETURNING email, full_name

UPDATE donors SET email = COALESCE(lower($1), email) WHERE id = 1 RETURNING email
-- with: Q@EXAMPLE.com

UPDATE donors SET email = CASE WHEN city = 'London' THEN lower($1) ELSE email END WHERE id < 3 RETURNING email
-- with: Q@EXAMPLE.com

INSERT INTO notes (id, tenant_id, author) VALUES (9, 10, lower($1)) RETURNING author
-- with: ADA

UPDATE notes SET author = lower($1) WHERE id = 3 RETURNING author
-- with: ADA

UPDATE notes SET author = upper('x' || $1) WHERE id IN (1, 3) RETURNING author
-- with: ada

SELECT id FROM donors WHERE city = lower($1) OR email = lower($1)
-- with: BOB@example.com

SELECT id FROM donors WHERE email = upper('bob@example.com')

SELECT id, city FROM donors WHERE lower(city) = lower($1) AND email = $2
-- with: LONDON | ada@example.com

INSERT INTO donors (id, email) VALUES (82, lower($1)), (83, $2) ON CONFLICT (email) DO UPDATE SET city = 'again', full_name = upper($3) RETURNING id, email, city, full_name
-- with: ADA@EXAMPLE.COM | z@example.com | dup

INSERT INTO donors (id, email) SELECT $1::int, lower($2) WHERE NOT EXISTS (SELECT 1 FROM donors WHERE email = lower($2))
-- with: 84 | Fresh@Example.com

SELECT id FROM donors WHERE email = lower($1)
-- with: ÀDA@example.com
-- refused: lower() of a text with other characters than ASCII is not computed for a protected column

-- pieces of documents
WITH s AS (SELECT id, email, prefs, gave, tags FROM donors WHERE id < 3) SELECT json_agg(s ORDER BY id) -> 0, coalesce(json_agg(s ORDER BY id) -> 5, 'null') FROM s

SELECT row_to_json(d) -> 'email', row_to_json(d) -> 'gave', row_to_json(d) -> 'prefs', row_to_json(d) -> 'nothing' FROM donors d ORDER BY id

SELECT row_to_json(d) -> 'prefs' -> 'news' FROM donors d ORDER BY id
-- refused: a JSON document that holds protected column "email" cannot be used in an expression with -> | Values of public.donors.email in it are sealed; PostgreSQL cannot compute on them.

SELECT json_build_object('e', email) -> 'e' -> 0 FROM donors ORDER BY id

SELECT to_jsonb(email) -> 0, to_json(gave) -> 'a' FROM donors ORDER BY id

SELECT to_jsonb(prefs) -> 'news' FROM donors ORDER BY id
-- refused: a JSON document that holds protected column "prefs" cannot be used in an expression with -> | Values of public.donors.prefs in it are sealed; PostgreSQL cannot compute on them.

SELECT row_to_json(d) ->> 'email' FROM donors d ORDER BY id
-- refused: a JSON document that holds protected column "email" cannot be used in an expression with ->> | Values of public.donors.email in it are sealed; PostgreSQL cannot compute on them.

SELECT jsonb_agg(prefs ORDER BY id) -> 0 FROM donors

-- kept by name
PREPARE p1 AS INSERT INTO donors (id, email) SELECT id, email FROM json_to_recordset($1) AS x(id int, email text)

EXECUTE p1('[{"id": 91, "email": "k@example.com"}, {"id": 92}]')
-- refused: an array or document that is sealed cannot be an argument of EXECUTE in the extended protocol

EXECUTE p1('[{"id": 91, "email": "ada@example.com"}]')
-- refused: an array or document that is sealed cannot be an argument of EXECUTE in the extended protocol

EXECUTE p1(NULL)
-- refused: an array or document that is sealed cannot be an argument of EXECUTE in the extended protocol

PREPARE p2 AS UPDATE donors SET gave = $1::numeric(10,2) WHERE id = $2 RETURNING gave

EXECUTE p2(1.2345, 1)

EXECUTE p2('7', 1)

EXECUTE p2('x', 1)

PREPARE p3 AS SELECT id FROM donors WHERE email = lower($1)

EXECUTE p3('ADA@example.com')

PREPARE p4(json) AS WITH s AS (INSERT INTO notes (id, tenant_id, author) SELECT b.id, b.tenant_id, b.author FROM (SELECT $1 AS d) p, LATERAL (SELECT * FROM json_to_recordset(p.d) AS _(id int, tenant_id int, author text)) b RETURNING *) SELECT json_agg(s) FROM s

EXECUTE p4('[{"id": 91, "tenant_id": 40, "author": "k"}]')
-- refused: an array or document that is sealed cannot be an argument of EXECUTE in the extended protocol

-- all columns at once
INSERT INTO notes (id, tenant_id, author) SELECT * FROM json_to_recordset($1) AS x(id int, tenant_id int, author text) RETURNING *
-- with: [{"id": 91, "tenant_id": 40, "author": "k"}, {"author": "m", "id": 92, "tenant_id": 10}]

INSERT INTO donors (id, gave) SELECT * FROM json_to_recordset($1) AS x(id int, gave numeric) RETURNING *
-- with: [{"id": 91, "gave": 1.239}]
-- refused: protected column "gave" cannot be set to an expression | A value for public.donors.gave is sealed before the server sees it.

-- scopes that would be asked for with the document
UPDATE notes SET body = x.body, author = 'lit' FROM json_to_recordset($1) AS x(id int, tenant_id int, body text) WHERE notes.id = x.id AND notes.tenant_id = x.tenant_id
-- with: [{"id": 1, "tenant_id": 10, "body": "u1"}]
-- refused: the scope of a value for protected column "author" cannot be resolved | The scope of public.notes.author is tenant:{tenant_id}; the statement does not tell it, and its rows cannot be asked for without values that are sealed.
