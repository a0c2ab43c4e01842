-- The Northwind schema with what is personal in it protected, and pgbench's tables and script beside it.

-- schema --
CREATE TABLE customers (customer_id varchar(5) PRIMARY KEY, company_name varchar(40) NOT NULL, contact_name varchar(30), contact_title varchar(30), address varchar(60), city varchar(15), region varchar(15), postal_code varchar(10), country varchar(15), phone varchar(24), fax varchar(24));
CREATE TABLE employees (employee_id smallint PRIMARY KEY, last_name varchar(20) NOT NULL, first_name varchar(10) NOT NULL, title varchar(30), birth_date date, hire_date date, address varchar(60), city varchar(15), home_phone varchar(24), notes text, reports_to smallint REFERENCES employees, salary real, card bpchar(16));
CREATE TABLE orders (order_id smallint PRIMARY KEY, customer_id varchar(5) REFERENCES customers, employee_id smallint REFERENCES employees, order_date date, shipped_date date, freight real, ship_name varchar(40), ship_address varchar(60), ship_city varchar(15), ship_country varchar(15));
CREATE TABLE products (product_id smallint PRIMARY KEY, product_name varchar(40) NOT NULL, unit_price real, units_in_stock smallint, discontinued int NOT NULL);
CREATE TABLE order_details (order_id smallint NOT NULL REFERENCES orders, product_id smallint NOT NULL REFERENCES products, unit_price real NOT NULL, quantity smallint NOT NULL, discount real NOT NULL, PRIMARY KEY (order_id, product_id));
CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88));
CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84));
CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));

-- policy --
public.customers  scope = "platform"
    contact_name: varchar(30), search = ["equality"], equality_group = "people"
    address: varchar(60), search = ["equality"], equality_group = "places"
    phone: varchar(24), search = ["equality"], equality_group = "phones"
    fax: varchar(24), search = ["equality"], equality_group = "phones"
public.employees  scope = "platform"
    birth_date: date, search = ["equality"]
    address: varchar(60)
    home_phone: varchar(24), search = ["equality"], equality_group = "phones"
    notes: text
    salary: float4, search = ["equality"]
    card: bpchar(16), search = ["equality"]
public.orders  scope = "platform"
    ship_name: varchar(40), search = ["equality"], equality_group = "people"
    ship_address: varchar(60), search = ["equality"], equality_group = "places"
public.pgbench_accounts  scope = "platform"
    filler: bpchar(84)

-- rows --
INSERT INTO customers VALUES ('ALFKI', 'Alfreds Futterkiste', 'Maria Anders', 'Sales Representative', 'Obere Str. 57', 'Berlin', NULL, '12209', 'Germany', '030-0074321', '030-0076545'), ('ANATR', 'Ana Trujillo', 'Ana Trujillo', 'Owner', 'Avda. 2222', 'México D.F.', NULL, '05021', 'Mexico', '(5) 555-4729', '(5) 555-3745'), ('BERGS', 'Berglunds snabbköp', 'Christina Berglund', 'Order Administrator', 'Berguvsvägen 8', 'Luleå', NULL, 'S-958 22', 'Sweden', '0921-12 34 65', NULL), ('PARIS', 'Paris spécialités', NULL, 'Owner', NULL, 'Paris', NULL, NULL, 'France', '030-0074321', '030-0074321');
INSERT INTO employees VALUES (2, 'Fuller', 'Andrew', 'Vice President', '1952-02-19', '1992-08-14', '908 W. Capital Way', 'Tacoma', '(206) 555-9482', 'Andrew received his BTS', NULL, 2000.5, '4111'), (1, 'Davolio', 'Nancy', 'Sales Representative', '1948-12-08', '1992-05-01', '507 20th Ave. E.', 'Seattle', '(206) 555-9857', 'Education includes a BA', 2, 1500, '4222  '), (3, 'Leverling', 'Janet', 'Sales Representative', '1963-08-30', '1992-04-01', NULL, 'Kirkland', '(206) 555-9857', NULL, 2, 1500, NULL);
INSERT INTO orders VALUES (1, 'ALFKI', 1, '1997-08-25', '1997-09-02', 29.46, 'Maria Anders', 'Obere Str. 57', 'Berlin', 'Germany'), (2, 'ALFKI', 3, '1997-10-03', NULL, 61.02, 'Alfred''s Futterkiste', 'Obere Str. 57', 'Berlin', 'Germany'), (3, 'ANATR', 1, '1997-11-28', '1997-12-12', 43.9, 'Ana Trujillo', 'Elsewhere 1', 'México D.F.', 'Mexico'), (4, NULL, 2, '1998-01-01', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO products VALUES (1, 'Chai', 18, 39, 1), (2, 'Chang', 19, 17, 0);
INSERT INTO order_details VALUES (1, 1, 18, 10, 0), (1, 2, 19, 5, 0.1), (2, 1, 18, 1, 0), (3, 2, 19, 7, 0);
INSERT INTO pgbench_branches VALUES (1, 0, NULL);
INSERT INTO pgbench_tellers VALUES (1, 1, 0, NULL);
INSERT INTO pgbench_accounts VALUES (1, 1, 0, ''), (2, 1, 0, 'x');

-- statements --
UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2
-- with: 5 | 1

SELECT abalance FROM pgbench_accounts WHERE aid = $1
-- with: 1

UPDATE pgbench_tellers SET tbalance = tbalance + 5 WHERE tid = 1;

INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, 1, 5, '2024-01-01');

SELECT * FROM pgbench_accounts ORDER BY aid;

SELECT company_name, contact_name, phone FROM customers ORDER BY customer_id;

SELECT company_name, fax FROM customers WHERE fax IS NOT NULL ORDER BY customer_id;

SELECT company_name FROM customers WHERE phone = fax;

SELECT customer_id FROM customers WHERE '030-0074321' IN (phone, fax) ORDER BY 1;

SELECT customer_id FROM customers WHERE $1 IN (phone, contact_name)
-- with: Ana Trujillo

SELECT customer_id, coalesce(fax, phone) FROM customers ORDER BY 1;

SELECT coalesce(fax, phone) AS number, count(*) FROM customers GROUP BY 1;

SELECT DISTINCT country FROM customers ORDER BY country;

SELECT count(DISTINCT contact_name) FROM customers;

SELECT first_name, last_name, birth_date FROM employees ORDER BY hire_date;

SELECT first_name FROM employees WHERE birth_date = DATE '1952-02-19';

SELECT first_name FROM employees WHERE birth_date IN ('1952-02-19', $1)
-- with: 1963-08-30

SELECT first_name FROM employees WHERE birth_date > '1950-01-01';
-- refused: protected column "birth_date" cannot be used in an order comparison | public.employees.birth_date has no order that PostgreSQL could use.

SELECT first_name, extract(year FROM birth_date) FROM employees;
-- refused: protected column "birth_date" cannot be used in this expression | public.employees.birth_date holds sealed values; PostgreSQL cannot compute on them.

SELECT first_name FROM employees WHERE salary = 1500;

SELECT first_name FROM employees WHERE salary = $1 ORDER BY employee_id
-- with: 1500

SELECT avg(salary) FROM employees;
-- refused: protected column "salary" cannot be used in function avg | public.employees.salary holds sealed values; PostgreSQL cannot compute on them.

SELECT salary, count(*) FROM employees GROUP BY salary HAVING count(*) > 1;

SELECT first_name, card FROM employees WHERE card = '4222';

SELECT first_name, notes FROM employees WHERE notes IS NULL;

SELECT first_name || ' ' || last_name AS name, home_phone FROM employees ORDER BY employee_id;

SELECT e.first_name, m.home_phone FROM employees e JOIN employees m ON m.employee_id = e.reports_to ORDER BY e.employee_id;

SELECT a.first_name, b.first_name FROM employees a JOIN employees b USING (home_phone) WHERE a.employee_id < b.employee_id;

SELECT o.order_id, c.contact_name FROM orders o JOIN customers c USING (customer_id) WHERE o.ship_name = c.contact_name ORDER BY 1;

SELECT o.order_id, o.ship_address = c.address AS same FROM orders o LEFT JOIN customers c USING (customer_id) ORDER BY 1;

SELECT o.order_id FROM orders o WHERE o.ship_address NOT IN (SELECT address FROM customers WHERE address IS NOT NULL) ORDER BY 1;

SELECT c.company_name, o.order_date FROM customers c LEFT JOIN orders o ON o.customer_id = c.customer_id AND o.ship_name = c.contact_name ORDER BY c.customer_id, 2;

SELECT ship_country, count(*), avg(freight) FROM orders GROUP BY ship_country ORDER BY 1;

SELECT ship_name, sum(freight) FROM orders GROUP BY ship_name;

SELECT ship_name, ship_country, count(*) FROM orders GROUP BY ROLLUP (ship_country, ship_name);

SELECT o.order_id, sum(d.unit_price * d.quantity * (1 - d.discount)) AS subtotal, max(o.ship_country) FROM orders o JOIN order_details d USING (order_id) GROUP BY o.order_id ORDER BY 1;

SELECT p.product_name, c.contact_name FROM products p JOIN order_details USING (product_id) JOIN orders USING (order_id) JOIN customers c USING (customer_id) WHERE p.discontinued = 1 ORDER BY order_id;

SELECT contact_name FROM customers UNION SELECT ship_name FROM orders;

SELECT city, company_name, contact_name, 'Customers' AS relationship FROM customers UNION SELECT city, title, ship_name, 'Orders' FROM employees, orders WHERE false;

SELECT phone FROM customers UNION ALL SELECT home_phone FROM employees;

SELECT * FROM (SELECT contact_name AS who FROM customers UNION ALL SELECT home_phone FROM employees) u WHERE who = '(206) 555-9857';

SELECT * FROM (SELECT contact_name AS who FROM customers UNION ALL SELECT home_phone FROM employees) u WHERE who = ANY ($1)
-- with: {(206) 555-9857,Ana Trujillo}

SELECT customer_id FROM customers WHERE contact_name LIKE 'M%';
-- refused: protected column "contact_name" cannot be used in a pattern match (LIKE) | public.customers.contact_name holds sealed values; PostgreSQL cannot compute on them.

SELECT contact_name FROM customers ORDER BY contact_name;
-- refused: protected column "contact_name" cannot be used in ORDER BY | public.customers.contact_name has no order that PostgreSQL could use.

SELECT customer_id, rank() OVER (ORDER BY contact_name) FROM customers;
-- refused: protected column "contact_name" cannot be used in ORDER BY of a window | public.customers.contact_name has no order that PostgreSQL could use.

SELECT order_id, last_value(ship_name) OVER (PARTITION BY customer_id ORDER BY order_date ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING EXCLUDE CURRENT ROW) FROM orders ORDER BY 1;

SELECT customer_id, (SELECT max(o.order_date) FROM orders o WHERE o.ship_name = c.contact_name) FROM customers c ORDER BY 1;

SELECT c.customer_id, array(SELECT o.ship_address FROM orders o WHERE o.customer_id = c.customer_id ORDER BY o.order_id) FROM customers c ORDER BY 1;

SELECT customer_id, CASE phone WHEN '030-0074321' THEN 'known' ELSE 'new' END FROM customers ORDER BY 1;

SELECT customer_id, nullif(phone, fax) FROM customers ORDER BY 1;

SELECT customer_id, phone IS DISTINCT FROM fax FROM customers ORDER BY 1;

SELECT lower(contact_name) FROM customers;
-- refused: protected column "contact_name" cannot be used in function lower | public.customers.contact_name holds sealed values; PostgreSQL cannot compute on them.

SELECT substring(phone from 1 for 3) FROM customers;

SELECT contact_name::varchar(5) FROM customers;

SELECT * FROM customers WHERE contact_name = 'Maria Anders' AND country IN ('Germany', 'Mexico');

SELECT * FROM customers TABLESAMPLE SYSTEM (100) WHERE fax IS NULL;

INSERT INTO customers (customer_id, company_name, contact_name, phone) VALUES ('NEWCO', 'New', 'New Name', '1'), ('NEWC2', 'New', NULL, DEFAULT) RETURNING customer_id, contact_name;

INSERT INTO customers (customer_id, company_name, contact_name) VALUES ('NEWCO', 'New', 'A name that is much longer than thirty characters');

INSERT INTO customers VALUES ('ALFKI', 'x') ON CONFLICT (customer_id) DO UPDATE SET contact_name = coalesce(EXCLUDED.contact_name, customers.contact_name);

INSERT INTO orders (order_id, customer_id, ship_name, ship_address) SELECT 9, customer_id, contact_name, address FROM customers WHERE customer_id = 'ALFKI';

UPDATE customers SET phone = fax, fax = phone WHERE customer_id = 'ALFKI';

UPDATE employees SET birth_date = $1, salary = $2, card = $3 WHERE employee_id = $4
-- with: 1960-01-01 | 12.5 | 4333 | 1

UPDATE employees SET notes = notes || ' more' WHERE employee_id = 1;
-- refused: protected column "notes" cannot be used in an expression with || | public.employees.notes holds sealed values; PostgreSQL cannot compute on them.

UPDATE employees SET salary = salary * 1.1;
-- refused: protected column "salary" cannot be used in an expression with * | public.employees.salary holds sealed values; PostgreSQL cannot compute on them.

UPDATE employees SET birth_date = now() WHERE employee_id = 1;

UPDATE employees SET notes = NULL, address = DEFAULT WHERE home_phone = '(206) 555-9857' RETURNING employee_id, home_phone;

UPDATE orders SET (ship_name, ship_address) = (SELECT contact_name, address FROM customers c WHERE c.customer_id = orders.customer_id) WHERE customer_id = 'ALFKI';

DELETE FROM orders WHERE ship_name = 'nobody';

DELETE FROM order_details WHERE order_id IN (SELECT order_id FROM orders WHERE ship_address = $1)
-- with: Obere Str. 57

WITH n(name) AS (VALUES ('Maria Anders'), ('Nobody')) SELECT customer_id FROM customers WHERE contact_name IN (SELECT name FROM n);
