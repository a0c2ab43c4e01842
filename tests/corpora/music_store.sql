-- The Chinook schema, in the names of its PostgreSQL port, and the questions that its tutorials ask of it.

-- schema --
CREATE TABLE artist (artist_id int PRIMARY KEY, name varchar(120));
CREATE TABLE album (album_id int PRIMARY KEY, title varchar(160) NOT NULL, artist_id int NOT NULL REFERENCES artist);
CREATE TABLE genre (genre_id int PRIMARY KEY, name varchar(120));
CREATE TABLE track (track_id int PRIMARY KEY, name varchar(200) NOT NULL, album_id int REFERENCES album, genre_id int REFERENCES genre, composer varchar(220), milliseconds int NOT NULL, unit_price numeric(10,2) NOT NULL);
CREATE TABLE employee (employee_id int PRIMARY KEY, last_name varchar(20) NOT NULL, first_name varchar(20) NOT NULL, title varchar(30), reports_to int REFERENCES employee, birth_date timestamp, hire_date timestamp, city varchar(40), country varchar(40), phone varchar(24), email varchar(60));
CREATE TABLE customer (customer_id int PRIMARY KEY, first_name varchar(40) NOT NULL, last_name varchar(20) NOT NULL, company varchar(80), address varchar(70), city varchar(40), country varchar(40), phone varchar(24), email varchar(60) NOT NULL, support_rep_id int REFERENCES employee);
CREATE TABLE invoice (invoice_id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customer, invoice_date timestamp NOT NULL, billing_address varchar(70), billing_city varchar(40), billing_country varchar(40), total numeric(10,2) NOT NULL);
CREATE TABLE invoice_line (invoice_line_id int PRIMARY KEY, invoice_id int NOT NULL REFERENCES invoice, track_id int NOT NULL REFERENCES track, unit_price numeric(10,2) NOT NULL, quantity int NOT NULL);

-- policy --
public.customer  scope = "platform"
    first_name: varchar(40), search = ["equality"], equality_group = "names"
    last_name: varchar(20), search = ["equality"]
    address: varchar(70), search = ["equality"], equality_group = "addresses"
    phone: varchar(24), search = ["equality"], equality_group = "phones"
    email: varchar(60), search = ["equality"], equality_group = "emails"
public.employee  scope = "platform"
    birth_date: timestamp
    phone: varchar(24), search = ["equality"], equality_group = "phones"
    email: varchar(60), search = ["equality"], equality_group = "emails"
public.invoice  scope = "platform"
    billing_address: varchar(70), search = ["equality"], equality_group = "addresses"

-- rows --
INSERT INTO artist VALUES (1, 'AC/DC'), (2, 'Accept'), (3, 'Aerosmith');
INSERT INTO album VALUES (1, 'For Those About To Rock', 1), (2, 'Balls to the Wall', 2), (3, 'Restless and Wild', 2), (4, 'Big Ones', 3);
INSERT INTO genre VALUES (1, 'Rock'), (2, 'Jazz'), (3, 'Metal');
INSERT INTO track VALUES (1, 'For Those About To Rock', 1, 1, 'Young', 343719, 0.99), (2, 'Balls to the Wall', 2, 1, NULL, 342562, 0.99),
    (3, 'Fast As a Shark', 3, 3, 'Kaufman', 230619, 0.99), (4, 'Walk On Water', 4, 1, 'Tyler', 295680, 1.99);
INSERT INTO employee VALUES (1, 'Adams', 'Andrew', 'General Manager', NULL, '1962-02-18', '2002-08-14', 'Edmonton', 'Canada', '+1 (780) 428-9482', 'andrew@chinookcorp.com'),
    (2, 'Edwards', 'Nancy', 'Sales Manager', 1, '1958-12-08', '2002-05-01', 'Calgary', 'Canada', '+1 (403) 262-3443', 'nancy@chinookcorp.com'),
    (3, 'Peacock', 'Jane', 'Sales Support Agent', 2, '1973-08-29', '2002-04-01', 'Calgary', 'Canada', '+1 (403) 262-3443', 'jane@chinookcorp.com');
INSERT INTO customer VALUES (1, 'Luís', 'Gonçalves', 'Embraer', 'Av. Brigadeiro Faria Lima, 2170', 'São José dos Campos', 'Brazil', '+55 (12) 3923-5555', 'luisg@embraer.com.br', 3),
    (2, 'Leonie', 'Köhler', NULL, 'Theodor-Heuss-Straße 34', 'Stuttgart', 'Germany', '+49 0711 2842222', 'leonekohler@surfeu.de', 3),
    (3, 'François', 'Tremblay', NULL, '1498 rue Bélanger', 'Montréal', 'Canada', '+1 (514) 721-4711', 'ftremblay@gmail.com', 3),
    (4, 'Jane', 'Peacock', NULL, NULL, 'Calgary', 'Canada', '+1 (403) 262-3443', 'jane@chinookcorp.com', NULL);
INSERT INTO invoice VALUES (1, 1, '2009-01-01', 'Av. Brigadeiro Faria Lima, 2170', 'São José dos Campos', 'Brazil', 3.98), (2, 2, '2009-01-02', 'Theodor-Heuss-Straße 34', 'Stuttgart', 'Germany', 0.99),
    (3, 2, '2009-02-11', 'Another Street 1', 'Stuttgart', 'Germany', 5.94), (4, 3, '2010-03-04', '1498 rue Bélanger', 'Montréal', 'Canada', 1.99), (5, 4, '2010-03-05', NULL, NULL, NULL, 0.99);
INSERT INTO invoice_line VALUES (1, 1, 1, 0.99, 2), (2, 1, 4, 1.99, 1), (3, 2, 2, 0.99, 1), (4, 3, 3, 0.99, 6), (5, 4, 4, 1.99, 1), (6, 5, 1, 0.99, 1);

-- statements --
SELECT customer_id, first_name, last_name, country FROM customer WHERE country <> 'USA';

SELECT * FROM customer WHERE country = 'Brazil';

SELECT c.first_name, c.last_name, i.invoice_id, i.invoice_date, i.billing_country FROM customer c JOIN invoice i ON c.customer_id = i.customer_id WHERE c.country = 'Brazil';

SELECT * FROM employee WHERE title = 'Sales Support Agent';

SELECT DISTINCT billing_country FROM invoice ORDER BY billing_country;

SELECT e.first_name, e.last_name, i.invoice_id FROM employee e JOIN customer c ON c.support_rep_id = e.employee_id JOIN invoice i ON i.customer_id = c.customer_id ORDER BY i.invoice_id;

SELECT i.total, c.first_name, c.last_name, c.country, e.first_name, e.last_name, e.email FROM invoice i INNER JOIN customer c USING (customer_id) LEFT JOIN employee e ON c.support_rep_id = e.employee_id ORDER BY i.invoice_id;

SELECT count(*), extract(year FROM invoice_date) AS year FROM invoice GROUP BY 2 ORDER BY 2;

SELECT c.country, sum(i.total) AS spent FROM customer AS c JOIN invoice AS i ON i.customer_id = c.customer_id GROUP BY c.country ORDER BY spent DESC, c.country;

SELECT c.customer_id, c.email, sum(i.total) FROM customer c JOIN invoice i USING (customer_id) GROUP BY c.customer_id, c.email ORDER BY 1;

SELECT c.customer_id, c.first_name || ' ' || c.last_name AS full_name FROM customer c;

SELECT c.customer_id, c.email, sum(i.total) AS total FROM customer c JOIN invoice i USING (customer_id) GROUP BY c.customer_id ORDER BY total DESC, c.customer_id LIMIT 2;

SELECT first_name, last_name, email FROM customer WHERE email = 'ftremblay@gmail.com';

SELECT first_name, last_name, email FROM customer WHERE email = $1
-- with: ftremblay@gmail.com

SELECT first_name FROM customer WHERE phone IN ($1, $2)
-- with: +1 (514) 721-4711 | +49 0711 2842222

SELECT * FROM customer WHERE email LIKE '%@gmail.com';
-- refused: protected column "email" cannot be used in a pattern match (LIKE) | public.customer.email holds sealed values; PostgreSQL cannot compute on them.

SELECT * FROM customer ORDER BY last_name, first_name;
-- refused: protected column "last_name" cannot be used in ORDER BY | public.customer.last_name has no order that PostgreSQL could use.

SELECT customer_id, last_name FROM customer ORDER BY customer_id DESC LIMIT 2 OFFSET 1;

SELECT email FROM customer UNION SELECT email FROM employee;

SELECT email FROM customer INTERSECT SELECT email FROM employee;

SELECT email FROM employee EXCEPT SELECT email FROM customer;

SELECT email, 'customer' AS kind FROM customer UNION ALL SELECT email, 'employee' FROM employee;

SELECT c.customer_id, e.employee_id FROM customer c JOIN employee e ON e.email = c.email;

SELECT c.customer_id, e.employee_id FROM customer c JOIN employee e USING (email, phone);

SELECT first_name FROM customer WHERE email IN (SELECT email FROM employee);

SELECT first_name FROM customer c WHERE NOT EXISTS (SELECT 1 FROM employee e WHERE e.phone = c.phone);

SELECT c.customer_id FROM customer c WHERE c.address = (SELECT i.billing_address FROM invoice i WHERE i.customer_id = c.customer_id ORDER BY i.invoice_date LIMIT 1);

SELECT c.customer_id, count(*) FILTER (WHERE i.billing_address IS DISTINCT FROM c.address) AS elsewhere FROM customer c LEFT JOIN invoice i USING (customer_id) GROUP BY c.customer_id ORDER BY 1;

SELECT phone, count(*) FROM employee GROUP BY phone HAVING count(*) > 1;

SELECT min(employee_id), phone, array_agg(first_name ORDER BY employee_id) FROM employee GROUP BY phone ORDER BY 1;

SELECT phone, string_agg(first_name, ', ' ORDER BY employee_id) FROM employee GROUP BY phone HAVING count(*) > 1;

SELECT DISTINCT ON (phone) phone, employee_id FROM employee ORDER BY phone, employee_id;
-- refused: protected column "phone" cannot be used in ORDER BY | public.employee.phone has no order that PostgreSQL could use.

SELECT count(DISTINCT phone), count(phone), count(*) FROM customer;

SELECT coalesce(address, 'unknown') FROM customer ORDER BY customer_id;

SELECT coalesce(company, last_name) FROM customer ORDER BY customer_id;

SELECT customer_id FROM customer WHERE coalesce(address, phone) = '1498 rue Bélanger';

SELECT customer_id, CASE WHEN address IS NULL THEN 'missing' ELSE 'known' END FROM customer ORDER BY 1;

SELECT customer_id, CASE country WHEN 'Canada' THEN phone ELSE email END AS contact FROM customer ORDER BY 1;

SELECT e.employee_id, e.first_name, m.email AS manager FROM employee e LEFT JOIN employee m ON e.reports_to = m.employee_id ORDER BY 1;

WITH RECURSIVE chain AS (SELECT employee_id, email, 0 AS depth FROM employee WHERE reports_to IS NULL UNION ALL SELECT e.employee_id, e.email, chain.depth + 1 FROM employee e JOIN chain ON e.reports_to = chain.employee_id) SELECT * FROM chain ORDER BY depth;

WITH spent AS (SELECT customer_id, sum(total) AS total FROM invoice GROUP BY customer_id) SELECT c.email, s.total, rank() OVER (ORDER BY s.total DESC) FROM customer c JOIN spent s USING (customer_id) ORDER BY s.total DESC, c.customer_id;

SELECT invoice_id, billing_address, lag(billing_address) OVER (PARTITION BY customer_id ORDER BY invoice_date) AS before FROM invoice ORDER BY 1;

SELECT invoice_id, first_value(billing_address) OVER (PARTITION BY customer_id ORDER BY invoice_date ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW) FROM invoice ORDER BY 1;

SELECT billing_address, row_number() OVER (PARTITION BY billing_address ORDER BY invoice_id) FROM invoice ORDER BY invoice_id;

SELECT a.name, count(*) AS tracks FROM artist a JOIN album al USING (artist_id) JOIN track t USING (album_id) GROUP BY a.name ORDER BY tracks DESC, a.name;

SELECT t.name, c.email FROM track t JOIN invoice_line l USING (track_id) JOIN invoice i USING (invoice_id) JOIN customer c USING (customer_id) WHERE t.unit_price > 1 ORDER BY i.invoice_id;

SELECT g.name, c.country, count(*) FROM genre g JOIN track t USING (genre_id) JOIN invoice_line l USING (track_id) JOIN invoice i USING (invoice_id) JOIN customer c USING (customer_id) GROUP BY g.name, c.country ORDER BY 1, 2;

SELECT json_agg(c) FROM customer c WHERE customer_id < 3;

SELECT row_to_json(c) FROM customer c ORDER BY customer_id;

SELECT json_build_object('id', customer_id, 'email', email) FROM customer ORDER BY customer_id;

SELECT c FROM customer c ORDER BY customer_id;

SELECT (c).email, (c).city FROM customer c ORDER BY (c).customer_id;

SELECT (s.c).* FROM (SELECT c FROM customer c) s ORDER BY 1;

SELECT * FROM (SELECT customer_id, email FROM customer) AS t(id, mail) WHERE mail = 'luisg@embraer.com.br';

SELECT c.customer_id, latest.billing_address FROM customer c CROSS JOIN LATERAL (SELECT billing_address FROM invoice i WHERE i.customer_id = c.customer_id ORDER BY invoice_date DESC LIMIT 1) latest ORDER BY 1;

SELECT customer_id FROM customer WHERE (first_name, last_name) = ('Leonie', 'Köhler');

SELECT customer_id FROM customer WHERE (first_name, last_name) IN (('Leonie', 'Köhler'), ('Jane', 'Peacock')) ORDER BY 1;

SELECT customer_id FROM customer WHERE email = ANY ($1)
-- with: {luisg@embraer.com.br,ftremblay@gmail.com}

SELECT customer_id FROM customer WHERE email <> ALL (ARRAY['luisg@embraer.com.br', 'ftremblay@gmail.com']) ORDER BY 1;

SELECT customer_id FROM customer WHERE email IN (VALUES ('luisg@embraer.com.br'), ('nobody'));

WITH wanted(mail) AS (VALUES ('luisg@embraer.com.br'), ('nobody')) SELECT customer_id FROM customer JOIN wanted ON wanted.mail = customer.email;

WITH wanted(mail) AS (VALUES ('luisg@embraer.com.br'), ('nobody')) SELECT customer_id FROM customer WHERE email IN (SELECT mail FROM wanted);

SELECT birth_date FROM employee ORDER BY employee_id;

SELECT employee_id FROM employee WHERE birth_date = '1962-02-18';
-- refused: protected column "birth_date" cannot be used in a comparison | public.employee.birth_date has no equality terms.

SELECT age(birth_date) FROM employee;
-- refused: protected column "birth_date" cannot be used in function age | public.employee.birth_date holds sealed values; PostgreSQL cannot compute on them.

SELECT nullif(phone, '+1 (403) 262-3443') FROM customer ORDER BY customer_id;

SELECT length(email) FROM customer;
-- refused: protected column "email" cannot be used in function length | public.customer.email holds sealed values; PostgreSQL cannot compute on them.

SELECT upper(last_name) FROM customer;
-- refused: protected column "last_name" cannot be used in function upper | public.customer.last_name holds sealed values; PostgreSQL cannot compute on them.

SELECT email::text FROM customer ORDER BY customer_id;

SELECT max(invoice_date), min(email) FROM invoice JOIN customer USING (customer_id);
-- refused: protected column "email" cannot be used in function min | public.customer.email has no order that PostgreSQL could use.

INSERT INTO customer (customer_id, first_name, last_name, email) VALUES (5, 'Frank', 'Harris', 'fharris@google.com') RETURNING customer_id, email;

INSERT INTO customer (customer_id, first_name, last_name, email, phone) VALUES ($1, $2, $3, $4, $5)
-- with: 6 | Jack | Smith | jacksmith@microsoft.com | NULL

INSERT INTO customer (customer_id, first_name, last_name, email) SELECT employee_id + 100, 'x', 'y', email FROM employee;

INSERT INTO customer SELECT * FROM customer WHERE false;

INSERT INTO customer (customer_id, first_name, last_name, email) SELECT employee_id + 100, first_name, last_name, email FROM employee;

UPDATE customer SET phone = NULL WHERE email = 'ftremblay@gmail.com' RETURNING *;

UPDATE customer SET email = $1, phone = $2 WHERE customer_id = $3
-- with: new@example.org | 123 | 2

UPDATE customer SET email = e.email FROM employee e WHERE e.employee_id = customer.support_rep_id;

UPDATE customer SET (email, phone) = (SELECT e.email, e.phone FROM employee e WHERE e.employee_id = customer.support_rep_id) WHERE support_rep_id IS NOT NULL;

UPDATE customer SET email = lower(email);
-- refused: protected column "email" cannot be used in function lower | public.customer.email holds sealed values; PostgreSQL cannot compute on them.

UPDATE customer SET address = coalesce(address, 'unknown');

UPDATE customer SET address = NULLIF('unknown', address);

UPDATE customer SET address = NULLIF($1, '')
-- with: somewhere

UPDATE invoice SET billing_address = c.address FROM customer c WHERE c.customer_id = invoice.customer_id;

UPDATE customer SET address = CASE WHEN country = 'Canada' THEN 'Canada Post' ELSE address END;

DELETE FROM customer WHERE email = 'nobody' RETURNING *;

DELETE FROM invoice_line USING invoice i WHERE i.invoice_id = invoice_line.invoice_id AND i.billing_address = '1498 rue Bélanger';

MERGE INTO customer c USING employee e ON c.email = e.email WHEN MATCHED THEN UPDATE SET phone = e.phone WHEN NOT MATCHED THEN INSERT (customer_id, first_name, last_name, email) VALUES (e.employee_id + 50, 'x', 'y', e.email);

WITH moved AS (DELETE FROM invoice_line RETURNING *) SELECT count(*) FROM moved;

WITH changed AS (UPDATE customer SET phone = '1' WHERE customer_id = 1 RETURNING email) SELECT * FROM changed;

TABLE employee;

VALUES (1, (SELECT email FROM customer WHERE customer_id = 1));
-- refused: protected column "email" cannot be used in VALUES | public.customer.email holds sealed values; PostgreSQL cannot compute on them.

EXPLAIN (COSTS OFF) SELECT * FROM customer WHERE customer_id = 1;
