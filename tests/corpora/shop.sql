-- A shop of many tenants as Django makes and asks it: users, customers, orders, with names and addresses under each tenant's keys.

-- schema --
CREATE TABLE auth_user (id int PRIMARY KEY, password varchar(128) NOT NULL, last_login timestamptz, is_superuser bool NOT NULL, username varchar(150) NOT NULL UNIQUE, first_name varchar(150) NOT NULL, last_name varchar(150) NOT NULL, email varchar(254) NOT NULL, is_staff bool NOT NULL, is_active bool NOT NULL, date_joined timestamptz NOT NULL);
CREATE TABLE shop_customer (id bigint PRIMARY KEY, tenant_id int NOT NULL, user_id int REFERENCES auth_user, full_name varchar(120) NOT NULL, email varchar(254), phone text, birthday date, credit numeric(10,2), vip bool, preferences jsonb, tags text[]);
CREATE TABLE shop_address (id bigint PRIMARY KEY, tenant_id int NOT NULL, customer_id bigint NOT NULL REFERENCES shop_customer, street text NOT NULL, city text, postcode varchar(10), is_default bool NOT NULL DEFAULT false);
CREATE TABLE shop_order (id bigint PRIMARY KEY, tenant_id int NOT NULL, customer_id bigint NOT NULL REFERENCES shop_customer, state text NOT NULL DEFAULT 'new', contact varchar(254), note text, total numeric(10,2) NOT NULL, created timestamptz NOT NULL);
CREATE TABLE shop_item (id bigint PRIMARY KEY, order_id bigint NOT NULL REFERENCES shop_order, sku text NOT NULL, quantity int NOT NULL);

-- policy --
public.auth_user  scope = "platform"
    email: varchar(254), search = ["equality"]
    last_name: varchar(150)
public.shop_customer  scope = "tenant:{tenant_id}"
    full_name: varchar(120)
    email: varchar(254), search = ["equality"], equality_group = "mail"
    phone: text, search = ["equality"], search_key = "shared"
    birthday: date
    credit: numeric(10,2)
    preferences: jsonb
public.shop_address  scope = "tenant:{tenant_id}"
    street: text
    postcode: varchar(10), search = ["equality"]
public.shop_order  scope = "tenant:{tenant_id}"
    contact: varchar(254), search = ["equality"], equality_group = "mail"
    note: text

-- rows --
INSERT INTO auth_user VALUES (1, 'pbkdf2', NULL, true, 'root', '', '', 'root@example.com', true, true, '2024-01-01'), (2, 'pbkdf2', '2024-03-01', false, 'ada', 'Ada', 'Lovelace', 'ada@example.com', false, true, '2024-02-01'), (3, '!', NULL, false, 'bob', 'Bob', 'Builder', '', false, false, '2024-02-02');
INSERT INTO shop_customer VALUES (1, 10, 2, 'Ada Lovelace', 'ada@example.com', '555-1', '1815-12-10', 100.00, true, '{"lang": "en"}', '{a,b}'), (2, 10, 3, 'Bob Builder', 'bob@example.com', '555-2', NULL, 0, false, '{}', '{}'), (3, 20, NULL, 'Ada Lovelace', 'ada@example.com', '555-1', '1815-12-10', 7.5, NULL, NULL, NULL), (4, 20, NULL, 'Eve', NULL, NULL, NULL, NULL, false, '[1]', '{x}');
INSERT INTO shop_address VALUES (1, 10, 1, '1 Main St', 'London', 'N1', true), (2, 10, 1, '2 Side St', 'London', 'N2', false), (3, 20, 3, '1 Main St', 'Paris', '75001', true);
INSERT INTO shop_order VALUES (1, 10, 1, 'paid', 'ada@example.com', 'ring twice', 20.00, '2024-03-01 10:00+00'), (2, 10, 1, 'new', NULL, NULL, 5.00, '2024-03-02 10:00+00'), (3, 10, 2, 'paid', 'ada@example.com', 'for Ada', 9.99, '2024-03-03 10:00+00'), (4, 20, 3, 'paid', 'ada@example.com', NULL, 70, '2024-03-04 10:00+00');
INSERT INTO shop_item VALUES (1, 1, 'pen', 2), (2, 1, 'ink', 1), (3, 2, 'pen', 5), (4, 4, 'paper', 1);

-- statements --
SELECT "auth_user"."id", "auth_user"."password", "auth_user"."last_login", "auth_user"."is_superuser", "auth_user"."username", "auth_user"."first_name", "auth_user"."last_name", "auth_user"."email", "auth_user"."is_staff", "auth_user"."is_active", "auth_user"."date_joined" FROM "auth_user" WHERE "auth_user"."username" = $1 LIMIT 21
-- with: ada

SELECT 1 AS "a" FROM "auth_user" WHERE "auth_user"."email" = $1 LIMIT 1
-- with: ada@example.com

SELECT 1 AS "a" FROM "auth_user" WHERE UPPER("auth_user"."email"::text) = UPPER($1) LIMIT 1
-- with: ADA@example.com
-- refused: protected column "email" cannot be used in function upper | public.auth_user.email holds sealed values; PostgreSQL cannot compute on them.

UPDATE "auth_user" SET "last_login" = $1 WHERE "auth_user"."id" = $2
-- with: 2024-04-01 00:00:00+00 | 2

UPDATE "auth_user" SET "password" = $1, "last_login" = NULL, "is_superuser" = $2, "username" = $3, "first_name" = $4, "last_name" = $5, "email" = $6, "is_staff" = $7, "is_active" = $8, "date_joined" = $9 WHERE "auth_user"."id" = $10
-- with: x | f | ada2 | Ada | King | ada@king.example | f | t | 2024-02-01 | 2

INSERT INTO "auth_user" ("id", "password", "last_login", "is_superuser", "username", "first_name", "last_name", "email", "is_staff", "is_active", "date_joined") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING "auth_user"."id"
-- with: 9 | x | NULL | f | zoe | Zoe | Z | zoe@example.com | f | t | 2024-02-01

SELECT COUNT(*) AS "__count" FROM "shop_customer" WHERE "shop_customer"."tenant_id" = 10

SELECT "shop_customer"."id", "shop_customer"."full_name" FROM "shop_customer" WHERE ("shop_customer"."tenant_id" = $1 AND "shop_customer"."email" = $2)
-- with: 10 | ada@example.com

SELECT "shop_customer"."id" FROM "shop_customer" WHERE ("shop_customer"."tenant_id" = 10 AND NOT ("shop_customer"."email" = 'ada@example.com' AND "shop_customer"."email" IS NOT NULL))

SELECT "shop_customer"."id" FROM "shop_customer" WHERE ("shop_customer"."tenant_id" = $1 AND "shop_customer"."email" IN ($2, $3)) ORDER BY "shop_customer"."id" DESC
-- with: 10 | ada@example.com | bob@example.com

SELECT * FROM shop_customer WHERE email = 'ada@example.com';
-- refused: protected column "email" cannot be used in a comparison across scopes | Equality terms of public.shop_customer.email are made per scope (tenant:{tenant_id}), and the statement does not fix the scope.

SELECT id, tenant_id FROM shop_customer WHERE phone = '555-1' ORDER BY id;

SELECT * FROM shop_customer ORDER BY id;

SELECT * FROM shop_customer WHERE tenant_id = 10 ORDER BY full_name;
-- refused: protected column "full_name" cannot be used in ORDER BY | public.shop_customer.full_name has no order that PostgreSQL could use.

SELECT c.full_name, count(o.id) AS orders, sum(o.total) AS spent FROM shop_customer c LEFT JOIN shop_order o ON o.customer_id = c.id GROUP BY c.id ORDER BY c.id;

SELECT c.full_name, c.email, max(o.created) FROM shop_customer c JOIN shop_order o ON o.customer_id = c.id WHERE c.tenant_id = 10 GROUP BY c.id, c.full_name, c.email ORDER BY 3;

SELECT o.id, c.full_name FROM shop_order o JOIN shop_customer c ON c.id = o.customer_id AND c.tenant_id = o.tenant_id WHERE o.contact = c.email ORDER BY o.id;

SELECT o.id FROM shop_order o JOIN shop_customer c ON c.id = o.customer_id WHERE o.contact <> c.email ORDER BY o.id;
-- refused: protected column "contact" cannot be used in a comparison across scopes | Equality terms of public.shop_order.contact are made per scope (tenant:{tenant_id}), and the statement does not fix the scope.

SELECT contact, count(*) FROM shop_order WHERE tenant_id = 10 GROUP BY contact ORDER BY 2;

SELECT tenant_id, contact, count(*) FROM shop_order GROUP BY tenant_id, contact ORDER BY 1, 3;

SELECT contact, count(*) FROM shop_order GROUP BY contact;
-- refused: protected column "contact" cannot be used in GROUP BY across scopes | Equality terms of public.shop_order.contact are made per scope (tenant:{tenant_id}), and the statement does not fix the scope.

SELECT DISTINCT tenant_id, contact FROM shop_order;

SELECT DISTINCT contact FROM shop_order WHERE tenant_id = 10;

SELECT phone, count(*) FROM shop_customer GROUP BY phone HAVING count(*) > 1;

SELECT "shop_order"."id", (SELECT U0."street" FROM "shop_address" U0 WHERE (U0."customer_id" = ("shop_order"."customer_id") AND U0."is_default") LIMIT 1) AS "street" FROM "shop_order" ORDER BY 1

SELECT EXISTS(SELECT 1 FROM shop_customer WHERE tenant_id = 10 AND email = 'nobody');

SELECT id, CASE WHEN birthday IS NULL THEN 'unknown' ELSE 'known' END FROM shop_customer ORDER BY id;

SELECT id, COALESCE(email, phone, '-') AS contact FROM shop_customer ORDER BY id;

SELECT id FROM shop_customer WHERE tenant_id = 20 AND COALESCE(email, phone) = '555-1';

SELECT id FROM shop_customer WHERE tenant_id = 10 AND (email = 'ada@example.com' OR phone = '555-2') ORDER BY id;

SELECT id FROM shop_customer WHERE email ILIKE 'ada%';
-- refused: protected column "email" cannot be used in a pattern match (LIKE) | public.shop_customer.email holds sealed values; PostgreSQL cannot compute on them.

SELECT id, preferences FROM shop_customer WHERE preferences IS NOT NULL ORDER BY id;

SELECT id FROM shop_customer WHERE preferences ->> 'lang' = 'en';
-- refused: protected column "preferences" cannot be used in an expression with ->> | public.shop_customer.preferences holds sealed values; PostgreSQL cannot compute on them.

SELECT sum(credit) FROM shop_customer;
-- refused: protected column "credit" cannot be used in function sum | public.shop_customer.credit holds sealed values; PostgreSQL cannot compute on them.

SELECT id, credit + 1 FROM shop_customer;
-- refused: protected column "credit" cannot be used in an expression with + | public.shop_customer.credit holds sealed values; PostgreSQL cannot compute on them.

SELECT date_part('year', birthday) FROM shop_customer;
-- refused: protected column "birthday" cannot be used in function date_part | public.shop_customer.birthday holds sealed values; PostgreSQL cannot compute on them.

SELECT to_jsonb(c) FROM shop_customer c ORDER BY id;

SELECT json_agg(json_build_object('id', id, 'street', street) ORDER BY id) FROM shop_address GROUP BY customer_id ORDER BY customer_id;

SELECT array_agg(street ORDER BY id) FROM shop_address WHERE customer_id = 1;

SELECT string_agg(street, ', ') FROM shop_address;

WITH latest AS (SELECT DISTINCT ON (customer_id) * FROM shop_order ORDER BY customer_id, created DESC) SELECT l.id, l.note, c.full_name FROM latest l JOIN shop_customer c ON c.id = l.customer_id ORDER BY l.id;

SELECT id, note, row_number() OVER (PARTITION BY customer_id ORDER BY created) FROM shop_order ORDER BY id;

SELECT id, lag(note) OVER (PARTITION BY customer_id ORDER BY created) FROM shop_order ORDER BY id;

SELECT a.id, b.id FROM shop_customer a JOIN shop_customer b ON a.phone = b.phone AND a.id < b.id;

SELECT a.id, b.id FROM shop_customer a JOIN shop_customer b ON a.tenant_id = b.tenant_id AND a.email = b.email AND a.id < b.id;

SELECT street, 'address' FROM shop_address UNION ALL SELECT note, 'note' FROM shop_order;

SELECT contact FROM shop_order WHERE tenant_id = 10 UNION SELECT email FROM shop_customer WHERE tenant_id = 10;

SELECT contact FROM shop_order WHERE tenant_id = 10 EXCEPT SELECT email FROM shop_customer WHERE tenant_id = 10;

SELECT id, street FROM shop_address WHERE tenant_id = 10 AND postcode = ANY (ARRAY['N1', 'W1']);

SELECT id FROM shop_address WHERE (tenant_id, postcode) IN ((10, 'N1'), (20, '75001')) ORDER BY id;

SELECT full_name FROM shop_customer WHERE id IN (SELECT customer_id FROM shop_address WHERE tenant_id = 10 AND postcode = 'N2');

SELECT id, tags, full_name FROM shop_customer WHERE 'a' = ANY (tags);

SELECT full_name FROM shop_customer FOR UPDATE SKIP LOCKED;

INSERT INTO shop_customer (id, tenant_id, full_name, email, phone) VALUES ($1, $2, $3, NULLIF($4, ''), NULLIF($5, ''))
-- with: 9 | 10 | Zoe | zoe@example.com | 

INSERT INTO shop_customer (id, tenant_id, full_name, email) VALUES (9, 10, 'Zoe', lower('Zoe@Example.com'));

INSERT INTO shop_customer (id, tenant_id, full_name, birthday) VALUES (9, 10, 'Zoe', CURRENT_DATE);

INSERT INTO shop_customer (id, tenant_id, full_name) VALUES (9, 10, 'Zoe'), (10, 20, 'Yan') ON CONFLICT (id) DO UPDATE SET full_name = EXCLUDED.full_name RETURNING id, full_name;

INSERT INTO shop_order (id, tenant_id, customer_id, contact, total, created) SELECT 9, c.tenant_id, c.id, c.email, 0, '2024-01-01' FROM shop_customer c WHERE c.id = 1 AND c.tenant_id = 10;

INSERT INTO shop_order (id, tenant_id, customer_id, contact, total, created) SELECT 100 + c.id, c.tenant_id, c.id, c.email, 0, '2024-01-01' FROM shop_customer c;

INSERT INTO shop_address (id, tenant_id, customer_id, street) SELECT a.id + 100, a.tenant_id, a.customer_id, a.street FROM shop_address a WHERE a.customer_id = 1;

UPDATE shop_customer SET email = $1 WHERE id = $2
-- with: new@example.com | 1

UPDATE shop_customer SET phone = NULLIF($1, ''), credit = $2 WHERE id = $3 AND tenant_id = $4
-- with: 555-9 | 12.345 | 1 | 10

UPDATE shop_customer SET phone = NULLIF($1, '') WHERE id = $2
-- with: 555-9 | 1
-- refused: protected column "phone" cannot be set to an expression | A value for public.shop_customer.phone is sealed before the server sees it.

UPDATE shop_customer SET credit = credit + 1;
-- refused: protected column "credit" cannot be used in an expression with + | public.shop_customer.credit holds sealed values; PostgreSQL cannot compute on them.

UPDATE shop_customer SET full_name = full_name || '!' WHERE id = 1;
-- refused: protected column "full_name" cannot be used in an expression with || | public.shop_customer.full_name holds sealed values; PostgreSQL cannot compute on them.

UPDATE shop_order SET contact = c.email FROM shop_customer c WHERE c.id = shop_order.customer_id AND c.tenant_id = shop_order.tenant_id;

UPDATE shop_order SET (contact, note) = (SELECT c.email, o2.note FROM shop_customer c, shop_order o2 WHERE c.tenant_id = shop_order.tenant_id AND o2.tenant_id = shop_order.tenant_id AND c.id = shop_order.customer_id AND o2.id = 1) WHERE tenant_id = 10;

UPDATE shop_order SET note = CASE "shop_order"."id" WHEN 1 THEN 'one' WHEN 2 THEN 'two' ELSE note END WHERE id IN (1, 2);

UPDATE shop_order SET note = v.note FROM (VALUES (1, 'one'), (4, 'four')) AS v (id, note) WHERE v.id = shop_order.id;

UPDATE shop_customer SET tenant_id = 20 WHERE id = 1;
-- refused: column "tenant_id" decides the scope of protected columns and cannot be changed by itself | The row's protected values are sealed with the keys of its present scope.

DELETE FROM shop_item USING shop_order o WHERE o.id = shop_item.order_id AND o.tenant_id = 10 AND o.contact = 'ada@example.com' RETURNING shop_item.id, o.note;

DELETE FROM shop_address WHERE id IN (SELECT id FROM shop_address WHERE tenant_id = 10 ORDER BY id LIMIT 1) RETURNING street;

MERGE INTO shop_order o USING shop_customer c ON o.customer_id = c.id AND o.tenant_id = c.tenant_id WHEN MATCHED AND o.contact IS NULL THEN UPDATE SET contact = c.email WHEN MATCHED THEN DO NOTHING;

WITH paid AS (UPDATE shop_order SET state = 'sent' WHERE state = 'paid' RETURNING id, note) SELECT * FROM paid ORDER BY id;

EXPLAIN (COSTS OFF) SELECT id FROM shop_item WHERE sku = 'pen';
