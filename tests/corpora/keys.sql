-- What a primary key decides and what it only seems to: DISTINCT and GROUP BY over columns without equality.

-- schema --
CREATE TABLE p (id int PRIMARY KEY, name text, notes jsonb, parent int);
CREATE TABLE v (person int, n int);
CREATE TABLE d (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, notes jsonb);
CREATE TABLE base (id int PRIMARY KEY, notes jsonb);
CREATE TABLE heir () INHERITS (base);

-- policy --
public.p  scope = "platform"
    name: text
    notes: jsonb
public.d  scope = "platform"
    notes: jsonb
public.base  scope = "platform"
    notes: jsonb

-- rows --
INSERT INTO p VALUES (1, 'a', '1', NULL), (2, 'b', '2', 1), (3, NULL, NULL, 1);
INSERT INTO v VALUES (1, 1), (1, 2), (2, 1), (9, 9);
INSERT INTO d VALUES (1, '1');
INSERT INTO base VALUES (1, '1');
INSERT INTO heir VALUES (1, '2');

-- statements --
SELECT DISTINCT p.id, lag(p.name) OVER (ORDER BY v.n, p.id) FROM p JOIN v ON v.person = p.id
-- refused: protected column "name" cannot be used in DISTINCT | public.p.name has no equality terms.

SELECT DISTINCT p.id, first_value(p.name) OVER (PARTITION BY v.n ORDER BY p.id) FROM p JOIN v ON v.person = p.id
-- refused: protected column "name" cannot be used in DISTINCT | public.p.name has no equality terms.

SELECT DISTINCT p.id, (SELECT q.name FROM p q WHERE q.id = v.n) FROM p JOIN v ON v.person = p.id
-- refused: protected column "name" cannot be used in DISTINCT | public.p.name has no equality terms.

SELECT DISTINCT p.id, q.name FROM p JOIN p q ON q.parent = p.id
-- refused: protected column "name" cannot be used in DISTINCT | public.p.name has no equality terms.

SELECT DISTINCT p.id, q.id, q.name FROM p LEFT JOIN p q ON q.parent = p.id LEFT JOIN v ON v.person = p.id

SELECT DISTINCT s.id, s.name FROM (SELECT id, name FROM p UNION ALL SELECT id, name FROM p) s
-- refused: protected column "name" cannot be used in DISTINCT | public.p.name has no equality terms.

SELECT DISTINCT s.id, s.name FROM (SELECT id, name FROM p UNION ALL SELECT person, NULL FROM v) s
-- refused: protected column "name" cannot be used in DISTINCT | public.p.name has no equality terms.

SELECT DISTINCT w.id, w.name FROM v, LATERAL (SELECT p.id, p.name FROM p WHERE p.id = v.n) w

WITH w AS (SELECT id, name, notes FROM p) SELECT DISTINCT a.id, b.name FROM w a, w b
-- refused: protected column "name" cannot be used in DISTINCT | public.p.name has no equality terms.

WITH w AS (SELECT id, name, notes FROM p) SELECT DISTINCT a.id, a.name, b.id FROM w a, w b

WITH RECURSIVE w AS (SELECT id, name FROM p WHERE id = 1 UNION ALL SELECT w.id, p.name FROM w JOIN p ON p.parent = w.id AND w.name = 'a') SELECT DISTINCT id, name FROM w
-- refused: protected column "name" cannot be used in a comparison | public.p.name has no equality terms.

WITH RECURSIVE w AS (SELECT id, name, 1 AS n FROM p WHERE id = 1 UNION ALL SELECT w.id, p.name, n + 1 FROM w JOIN p ON p.parent = w.id AND n < 2) SELECT DISTINCT id, name FROM w
-- refused: protected column "name" cannot be used in DISTINCT | public.p.name has no equality terms.

SELECT DISTINCT id, notes FROM d
-- refused: protected column "notes" cannot be used in DISTINCT | public.d.notes has no equality terms.

SELECT DISTINCT id, notes FROM base
-- refused: protected column "notes" cannot be used in DISTINCT | public.base.notes has no equality terms.

SELECT id, notes FROM base GROUP BY id, notes
-- refused: protected column "notes" cannot be used in GROUP BY | public.base.notes has no equality terms.

SELECT p.id, p.name, count(*) FROM p, v GROUP BY p.id, p.name HAVING p.name IS NOT NULL

SELECT p.id, p.name IS NULL, count(*) FROM p, v GROUP BY p.id, p.name ORDER BY p.id

SELECT p.name FROM p JOIN v ON v.person = p.id GROUP BY p.name, p.id ORDER BY p.id

SELECT p.id, p.name AS n, p.notes FROM p GROUP BY n, id, 3

SELECT DISTINCT p.id, COALESCE(p.name) FROM p JOIN v ON v.person = p.id
-- refused: protected column "name" cannot be used in DISTINCT | public.p.name has no equality terms.

SELECT DISTINCT p.id, CASE WHEN v.n = 1 THEN p.name END FROM p JOIN v ON v.person = p.id
-- refused: protected column "name" cannot be used in DISTINCT | public.p.name has no equality terms.

SELECT count(*) FROM (SELECT DISTINCT ON (p.id) p.id, p.name FROM p JOIN v ON v.person = p.id ORDER BY p.id, v.n) s

CREATE TABLE t AS SELECT DISTINCT id, name FROM p

CREATE TEMP VIEW tv AS SELECT p.id, p.name FROM p JOIN v ON v.person = p.id GROUP BY p.id, p.name

INSERT INTO p (id, name) SELECT DISTINCT p.id + 100, p.name FROM p JOIN v ON v.person = p.id
-- refused: protected column "name" cannot be used in DISTINCT | public.p.name has no equality terms.

SELECT p.*, count(*) FROM p JOIN v ON v.person = p.id GROUP BY p.id, p.name, p.notes, p.parent
