-- A school with courses, a board of jobs, a chat and the files of a law office: what Hasura, PostgREST, Django, SQLAlchemy, EF Core, Ecto, Doctrine, Knex, Superset, dbt and hand-written clean-up jobs send.

-- schema --
CREATE TABLE schools (id int PRIMARY KEY, name text NOT NULL, head_mail text);
CREATE TABLE students (id int PRIMARY KEY, school_id int NOT NULL REFERENCES schools, email text UNIQUE, first text, last text, born date, guardian text, grade_avg numeric(4,2), tags text[], profile jsonb, code char(8), active boolean NOT NULL DEFAULT true);
CREATE TABLE courses (id int PRIMARY KEY, title text NOT NULL, teacher_mail text, room text, starts date);
CREATE TABLE enrolments (course_id int NOT NULL REFERENCES courses, student_id int NOT NULL REFERENCES students, mark numeric(4,2), comment text, on_day date NOT NULL DEFAULT '2024-01-01', PRIMARY KEY (course_id, student_id));
CREATE TABLE submissions (id int PRIMARY KEY, course_id int NOT NULL, student_id int NOT NULL, sha bytea, body text, points smallint, parent_id int REFERENCES submissions, handed timestamptz);
CREATE TABLE jobs (id int PRIMARY KEY, title text NOT NULL, contact_mail text, salary int, closes date);
CREATE TABLE applicants (id int PRIMARY KEY, job_id int NOT NULL REFERENCES jobs, email text, name text, phone text, stage text NOT NULL DEFAULT 'new', cv jsonb, rating int, UNIQUE (job_id, email));
CREATE TABLE rooms (id int PRIMARY KEY, topic text, owner_mail text);
CREATE TABLE messages (id int PRIMARY KEY, room_id int NOT NULL REFERENCES rooms, sender text, body text, reply_to int REFERENCES messages, reactions jsonb, mentions text[], sent date NOT NULL DEFAULT '2024-01-01', edited boolean);
CREATE TABLE files (no text PRIMARY KEY, client text, opponent text, judge text, facts text, parties jsonb, opened date, closed date, fee numeric(10,2));

-- policy --
public.schools  scope = "platform"
    head_mail: text, search = ["equality"], search_key = "shared", equality_group = "mail"
public.students  scope = "platform"
    email: text, search = ["equality"], search_key = "shared", equality_group = "mail"
    first: text, search = ["equality"], equality_group = "names"
    last: text, search = ["equality"], equality_group = "names"
    born: date, search = ["equality"]
    guardian: text, search = ["equality"], equality_group = "names"
    grade_avg: numeric(4,2), search = ["equality"]
    tags: text[]
    profile: jsonb
    code: char(8), search = ["equality"]
public.courses  scope = "platform"
    teacher_mail: text, search = ["equality"], search_key = "shared", equality_group = "mail"
    room: text, search = ["equality"]
public.enrolments  scope = "platform"
    mark: numeric(4,2), search = ["equality"]
    comment: text
public.submissions  scope = "platform"
    sha: bytea, search = ["equality"]
    body: text
    points: int2, search = ["equality"]
    handed: timestamptz, search = ["equality"]
public.jobs  scope = "platform"
    contact_mail: text, search = ["equality"], search_key = "shared", equality_group = "mail"
    salary: int4, search = ["equality"]
public.applicants  scope = "platform"
    email: text, search = ["equality"], search_key = "shared", equality_group = "mail"
    name: text, search = ["equality"], equality_group = "names"
    phone: text, search = ["equality"]
    cv: jsonb
    rating: int4, search = ["equality"]
public.rooms  scope = "platform"
    owner_mail: text, search = ["equality"], search_key = "shared", equality_group = "mail"
public.messages  scope = "platform"
    sender: text, search = ["equality"], search_key = "shared", equality_group = "mail"
    body: text
    reactions: jsonb
    mentions: text[]
public.files  scope = "platform"
    client: text, search = ["equality"], equality_group = "names"
    opponent: text, search = ["equality"], equality_group = "names"
    judge: text, search = ["equality"]
    facts: text
    parties: jsonb
    fee: numeric(10,2), search = ["equality"]

-- rows --
INSERT INTO schools VALUES (1, 'North', 'ann@s.test'), (2, 'South', NULL);
INSERT INTO students VALUES (1, 1, 'ann@s.test', 'Ann', 'Lee', '2008-01-01', 'Lee', 1.50, '{a,b}', '{"h": 1}', 'AB', true), (2, 1, 'ben@s.test', 'Ben', 'Ann', '2008-01-01', NULL, 1.5, '{}', NULL, 'AB      ', true), (3, 2, 'cat@s.test', 'Cat', NULL, NULL, 'Ann', NULL, NULL, '[]', NULL, false), (4, 2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'x', true);
INSERT INTO courses VALUES (1, 'Maths', 'tea@s.test', 'R1', '2024-02-01'), (2, 'Art', 'ann@s.test', 'R1', '2024-03-01'), (3, 'Void', NULL, NULL, NULL);
INSERT INTO enrolments VALUES (1, 1, 1.0, 'good'), (1, 2, 2.50, NULL), (2, 1, 1.00, ''), (2, 3, NULL, 'late');
INSERT INTO submissions VALUES (1, 1, 1, '\x01', 'one', 5, NULL, '2024-01-01 10:00+00'), (2, 1, 1, '\x02', 'two', 7, 1, '2024-01-02 10:00+00'), (3, 1, 2, '\x01', NULL, 5, NULL, NULL), (4, 2, 3, NULL, '', NULL, 2, '2024-01-01 11:00+01');
INSERT INTO jobs VALUES (1, 'Cook', 'hr@s.test', 1000, '2024-06-01'), (2, 'Guard', NULL, 1000, NULL), (3, 'Clerk', 'ann@s.test', NULL, '2024-07-01');
INSERT INTO applicants VALUES (1, 1, 'ann@s.test', 'Ann', '1', 'new', '{"y": 3}', 5), (2, 1, 'zed@s.test', 'Zed', NULL, 'hired', NULL, 3), (3, 2, 'ann@s.test', 'Ann', '1', 'new', '[]', NULL), (4, 3, NULL, NULL, NULL, 'new', NULL, 5);
INSERT INTO rooms VALUES (1, 'general', 'ann@s.test'), (2, 'random', 'ben@s.test'), (3, NULL, NULL);
INSERT INTO messages VALUES (1, 1, 'ann@s.test', 'hi', NULL, '{"+1": ["ben"]}', '{ben}', '2024-01-01', false), (2, 1, 'ben@s.test', 'hello', 1, NULL, '{}', '2024-01-02', NULL), (3, 1, 'ann@s.test', 'so', 2, '{}', NULL, '2024-01-03', true), (4, 2, 'ben@s.test', '', NULL, NULL, NULL, '2024-01-03', false), (5, 2, NULL, NULL, 4, NULL, NULL, '2024-01-04', NULL);
INSERT INTO files VALUES ('A/1', 'Ann', 'Zed', 'Fox', 'facts', '[{"n": "Ann"}]', '2024-01-01', NULL, 100), ('A/2', 'Zed', 'Ann', 'Fox', NULL, NULL, '2024-02-01', '2024-03-01', 100.00), ('B/1', 'Cat', NULL, NULL, '', '{}', '2024-01-05', NULL, NULL);
CREATE VIEW roster AS SELECT e.course_id, c.title, s.id AS student_id, s.email, s.first, s.last, e.mark FROM enrolments e JOIN courses c ON c.id = e.course_id JOIN students s ON s.id = e.student_id;
CREATE VIEW good_roster AS SELECT r.*, r.mark IS NOT NULL AS marked FROM roster r;
CREATE VIEW contacts AS SELECT email, first AS name, 'student' AS kind FROM students UNION ALL SELECT email, name, 'applicant' FROM applicants;

-- statements --
-- views over views and unions
SELECT * FROM good_roster WHERE email = $1 ORDER BY course_id
-- with: ann@s.test

SELECT title, count(*) FILTER (WHERE marked), count(DISTINCT mark) FROM good_roster GROUP BY title ORDER BY title

SELECT kind, count(*) FROM contacts WHERE email = $1 GROUP BY kind ORDER BY kind
-- with: ann@s.test

SELECT email, count(*), array_agg(kind ORDER BY kind) FROM contacts WHERE email IS NOT NULL GROUP BY email

SELECT DISTINCT email FROM contacts

SELECT a.kind, b.kind FROM contacts a JOIN contacts b ON a.email = b.email AND a.kind < b.kind

SELECT name FROM contacts WHERE kind = 'student' EXCEPT SELECT client FROM files

SELECT client FROM files UNION SELECT opponent FROM files UNION SELECT name FROM applicants

SELECT person, count(*) FROM files CROSS JOIN LATERAL (VALUES (client), (opponent)) AS p(person) WHERE person IS NOT NULL GROUP BY person
-- refused: protected column "client" cannot be used in VALUES | public.files.client holds sealed values; PostgreSQL cannot compute on them.

SELECT f.no, p.role, p.person FROM files f CROSS JOIN LATERAL (VALUES ('client', f.client), ('opponent', f.opponent)) AS p(role, person) WHERE p.person = $1 ORDER BY f.no
-- with: Ann
-- refused: protected column "client" cannot be used in VALUES | public.files.client holds sealed values; PostgreSQL cannot compute on them.

SELECT f.no, unnest(ARRAY[f.client, f.opponent]) AS person FROM files f ORDER BY f.no

SELECT no FROM files WHERE $1 = ANY (ARRAY[client, opponent]) ORDER BY no
-- with: Ann

SELECT no FROM files WHERE (client, opponent) = ($1, $2) OR (opponent, client) = ($1, $2) ORDER BY no
-- with: Ann | Zed

SELECT no FROM files a WHERE EXISTS (SELECT 1 FROM files b WHERE b.client = a.opponent AND b.opponent = a.client) ORDER BY no

SELECT a.no, b.no FROM files a JOIN files b ON a.fee = b.fee AND a.no < b.no

SELECT judge, count(*), sum(CASE WHEN closed IS NULL THEN 1 ELSE 0 END) AS open, min(opened) FROM files GROUP BY judge

SELECT COALESCE(judge, 'none') AS judge, count(*) FROM files GROUP BY 1

SELECT CASE WHEN judge IS NULL THEN 'open' ELSE judge END AS j, count(*) FROM files GROUP BY 1

SELECT NULLIF(judge, 'Fox') AS j, count(*) FROM files GROUP BY NULLIF(judge, 'Fox')

SELECT fee = 100 AS hundred, count(*) FROM files GROUP BY fee = 100

SELECT fee, count(*) FROM files GROUP BY fee HAVING fee = $1 OR count(*) > 5
-- with: 100

SELECT fee FROM files WHERE fee IS NOT DISTINCT FROM $1
-- with: NULL

-- courses
SELECT c.title, s.first, s.last, e.mark FROM enrolments e JOIN students s ON s.id = e.student_id JOIN courses c ON c.id = e.course_id WHERE (c.teacher_mail = $1 OR s.email = $1) ORDER BY e.course_id, e.student_id
-- with: ann@s.test

SELECT s.id, s.email, COALESCE(json_agg(json_build_object('course', c.title, 'mark', e.mark) ORDER BY c.id) FILTER (WHERE c.id IS NOT NULL), '[]') AS courses FROM students s LEFT JOIN enrolments e ON e.student_id = s.id LEFT JOIN courses c ON c.id = e.course_id GROUP BY s.id ORDER BY s.id

SELECT c.id, c.title, top.first, top.mark FROM courses c LEFT JOIN LATERAL (SELECT s.first, e.mark FROM enrolments e JOIN students s ON s.id = e.student_id WHERE e.course_id = c.id ORDER BY s.id LIMIT 1) top ON true ORDER BY c.id

SELECT room, array_agg(title ORDER BY id) FROM courses GROUP BY room ORDER BY array_agg(title ORDER BY id)

SELECT c.room, count(DISTINCT e.student_id) FROM courses c JOIN enrolments e ON e.course_id = c.id GROUP BY c.room

SELECT mark, count(*), round(100.0 * count(*) / sum(count(*)) OVER (), 1) AS pct FROM enrolments GROUP BY mark

SELECT student_id, mark, mark = lag(mark) OVER (PARTITION BY student_id ORDER BY course_id) AS same FROM enrolments ORDER BY student_id, course_id

SELECT student_id, mark, dense_rank() OVER (ORDER BY mark) FROM enrolments
-- refused: protected column "mark" cannot be used in ORDER BY of a window | public.enrolments.mark has no order that PostgreSQL could use.

SELECT avg(mark) FROM enrolments
-- refused: protected column "mark" cannot be used in function avg | public.enrolments.mark holds sealed values; PostgreSQL cannot compute on them.

SELECT course_id, student_id, mark::text FROM enrolments

SELECT course_id, student_id FROM enrolments WHERE mark = $1::float8
-- with: 1
-- refused: a floating-point number cannot be compared with a protected column of another type

SELECT course_id, student_id FROM enrolments WHERE mark = $1::int ORDER BY course_id
-- with: 1

SELECT course_id, student_id FROM enrolments WHERE mark = '1' ORDER BY course_id

SELECT course_id, student_id FROM enrolments WHERE mark = ANY ('{1,2.5}') ORDER BY course_id, student_id

SELECT course_id, student_id FROM enrolments WHERE mark = ANY ($1::numeric[]) ORDER BY course_id, student_id
-- with: {1.000,2.5}

INSERT INTO enrolments (course_id, student_id, mark) SELECT $1, s.id, $2 FROM students s WHERE s.school_id = $3 ON CONFLICT (course_id, student_id) DO UPDATE SET mark = excluded.mark, comment = $4 RETURNING student_id, mark, comment
-- with: 1 | 3.333 | 1 | again

INSERT INTO enrolments VALUES (3, 1, 1234.5, NULL, DEFAULT)

INSERT INTO enrolments (course_id, student_id, mark) VALUES (3, 1, round(1.234, 1))
-- refused: protected column "mark" cannot be set to an expression | A value for public.enrolments.mark is sealed before the server sees it.

INSERT INTO enrolments (course_id, student_id, comment) SELECT 3, student_id, comment FROM enrolments WHERE course_id = 2 RETURNING *

INSERT INTO submissions (id, course_id, student_id, sha, points, handed) VALUES ($1, $2, $3, decode($4, 'hex'), $5, $6)
-- with: 9 | 1 | 1 | 00ff | 9 | 2024-01-01 00:00+00
-- refused: protected column "sha" cannot be set to an expression | A value for public.submissions.sha is sealed before the server sees it.

INSERT INTO submissions (id, course_id, student_id, sha, points) VALUES ($1, $2, $3, $4, $5) RETURNING sha, points
-- with: 9 | 1 | 1 | \x00ff | 9

INSERT INTO submissions (id, course_id, student_id, sha, points) VALUES (9, 1, 1, sha256('x'), 70000)
-- refused: protected column "sha" cannot be set to an expression | A value for public.submissions.sha is sealed before the server sees it.

INSERT INTO submissions (id, course_id, student_id, points) VALUES (9, 1, 1, 70000)

SELECT sha, count(*) FROM submissions GROUP BY sha HAVING count(*) > 1

SELECT id, handed AT TIME ZONE 'UTC' FROM submissions ORDER BY id
-- refused: protected column "handed" cannot be used in this expression | public.submissions.handed holds sealed values; PostgreSQL cannot compute on them.

SELECT id FROM submissions WHERE handed = '2024-01-01 12:00+02' ORDER BY id

SELECT id FROM submissions WHERE points IN (5, 7.0) ORDER BY id

SELECT id FROM submissions WHERE points = 5.5

SELECT id FROM submissions WHERE points = $1::bigint ORDER BY id
-- with: 5

SELECT sum(points) FROM submissions
-- refused: protected column "points" cannot be used in function sum | public.submissions.points holds sealed values; PostgreSQL cannot compute on them.

SELECT id FROM submissions WHERE points > 5
-- refused: protected column "points" cannot be used in an order comparison | public.submissions.points has no order that PostgreSQL could use.

WITH RECURSIVE thread AS (SELECT id, parent_id, body, ARRAY[id] AS path FROM submissions WHERE id = $1 UNION ALL SELECT s.id, s.parent_id, s.body, t.path || s.id FROM submissions s JOIN thread t ON s.id = t.parent_id) SELECT id, body, path FROM thread ORDER BY array_length(path, 1)
-- with: 4

SELECT s.first, s.last FROM students s WHERE s.first = s.last OR s.guardian = s.last ORDER BY s.id

SELECT s.id FROM students s WHERE s.first IN (s.last, s.guardian, $1) ORDER BY s.id
-- with: Ann

SELECT a.id, b.id FROM students a, students b WHERE a.guardian = b.first ORDER BY 1, 2

SELECT id FROM students WHERE code = $1 ORDER BY id
-- with: AB

SELECT id FROM students WHERE code = 'AB   ' ORDER BY id

SELECT id, code, code = 'AB'::text AS t FROM students ORDER BY id

SELECT id FROM students WHERE born = $1 AND (email = $2 OR $2 IS NULL) ORDER BY id
-- with: 2008-01-01 | NULL

SELECT id FROM students WHERE born BETWEEN $1 AND $1
-- with: 2008-01-01
-- refused: protected column "born" cannot be used in BETWEEN | public.students.born has no order that PostgreSQL could use.

SELECT id FROM students WHERE grade_avg = 1.5 ORDER BY id

SELECT s.id, s.tags, cardinality(s.tags) FROM students s ORDER BY s.id
-- refused: protected column "tags" cannot be used in function cardinality | public.students.tags holds sealed values; PostgreSQL cannot compute on them.

SELECT id, profile FROM students WHERE profile IS NOT NULL ORDER BY id

SELECT id FROM students WHERE profile @> '{"h": 1}'
-- refused: protected column "profile" cannot be used in an expression with @> | public.students.profile holds sealed values; PostgreSQL cannot compute on them.

UPDATE students SET profile = $1 WHERE id = $2 RETURNING profile
-- with: {"b": 2, "a": 1.00} | 1

UPDATE students SET tags = $1 WHERE id = $2 RETURNING tags
-- with: {"x,y",NULL} | 1

UPDATE students SET tags = array_append(tags, 'z') WHERE id = 1
-- refused: protected column "tags" cannot be used in function array_append | public.students.tags holds sealed values; PostgreSQL cannot compute on them.

UPDATE students SET tags = ARRAY['a', $1] WHERE id = 1 RETURNING tags
-- with: b
-- refused: protected column "tags" cannot be set to an expression | A value for public.students.tags is sealed before the server sees it.

UPDATE students SET tags = string_to_array($1, ',') WHERE id = 1 RETURNING tags
-- with: q,r
-- refused: protected column "tags" cannot be set to an expression | A value for public.students.tags is sealed before the server sees it.

UPDATE students SET first = initcap($1) WHERE id = 1
-- with: bob
-- refused: protected column "first" cannot be set to an expression | A value for public.students.first is sealed before the server sees it.

UPDATE students SET first = upper(left($1, 1)) || lower(substring($1 from 2)) WHERE id = 1 RETURNING first
-- with: bOB

UPDATE students SET first = btrim($1), last = NULLIF(btrim($2), '') WHERE id = 1 RETURNING first, last
-- with:  x  | y

UPDATE students SET first = last, last = first WHERE id = 1 RETURNING first, last

UPDATE students SET (first, last, guardian) = ROW($1, $2, first) WHERE id = 1 RETURNING first, last, guardian
-- with: A | B

UPDATE students s SET first = v.first, grade_avg = v.avg FROM (VALUES ($1::int, $2::text, $3::numeric), ($4, $5, $6)) AS v(id, first, avg) WHERE s.id = v.id RETURNING s.id, s.first, s.grade_avg
-- with: 1 | A | 1.005 | 2 | B | NULL

UPDATE students SET email = replace($1, ' ', '') WHERE id = 1 RETURNING email
-- with:  a @b.c

UPDATE students SET email = gen_random_uuid()::text || '@deleted' WHERE id = 1
-- refused: protected column "email" cannot be set to an expression | A value for public.students.email is sealed before the server sees it.

UPDATE students SET email = 'deleted-' || id || '@x.test' WHERE id = 1

UPDATE students SET email = concat('deleted-', $1::int, '@x.test') WHERE id = 1 RETURNING email
-- with: 7
-- refused: protected column "email" cannot be set to an expression | A value for public.students.email is sealed before the server sees it.

UPDATE students SET email = md5($1) WHERE id = 1
-- with: x
-- refused: protected column "email" cannot be set to an expression | A value for public.students.email is sealed before the server sees it.

-- chat
SELECT m.id, m.sender, m.body, r.sender AS to_sender, r.body AS to_body FROM messages m LEFT JOIN messages r ON r.id = m.reply_to WHERE m.room_id = $1 AND m.id < $2 ORDER BY m.id DESC LIMIT 2
-- with: 1 | 9

SELECT DISTINCT ON (m.room_id) m.room_id, r.topic, m.sender, m.body FROM messages m JOIN rooms r ON r.id = m.room_id ORDER BY m.room_id, m.id DESC

SELECT r.id, r.topic, count(m.id) FILTER (WHERE m.sender IS DISTINCT FROM $1) AS unread, max(m.sent) FROM rooms r LEFT JOIN messages m ON m.room_id = r.id GROUP BY r.id ORDER BY r.id
-- with: ann@s.test

SELECT sender, count(*) AS n FROM messages GROUP BY sender ORDER BY n DESC, bool_or(edited) NULLS LAST LIMIT 1

SELECT id, sender, body, row_number() OVER (PARTITION BY sender ORDER BY sent DESC, id DESC) AS rn FROM messages ORDER BY id

SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY sender ORDER BY id DESC) AS rn FROM messages) t WHERE rn = 1 ORDER BY id

SELECT id, mentions, reactions FROM messages WHERE $1 = ANY (mentions)
-- with: ben
-- refused: protected column "mentions" cannot be used in a comparison | public.messages.mentions has no equality terms.

SELECT jsonb_build_object('id', m.id, 'from', m.sender, 'reactions', m.reactions, 'mentions', m.mentions) FROM messages m ORDER BY m.id

SELECT json_agg(row_to_json(t)) FROM (SELECT m.id, m.sender, (SELECT json_agg(r.body ORDER BY r.id) FROM messages r WHERE r.reply_to = m.id) AS replies FROM messages m WHERE m.room_id = 1 ORDER BY m.id) t

SELECT coalesce(json_agg("root" ORDER BY "root.pg.id"), '[]') AS "root" FROM (SELECT row_to_json((SELECT "_e" FROM (SELECT "_0"."id" AS "id", "_0"."sender" AS "sender", "_1"."room" AS "room") AS "_e")) AS "root", "_0"."id" AS "root.pg.id" FROM (SELECT * FROM "public"."messages" WHERE "sender" = ($1)::text) AS "_0" LEFT OUTER JOIN LATERAL (SELECT row_to_json((SELECT "_f" FROM (SELECT "_2"."topic" AS "topic", "_2"."owner_mail" AS "owner_mail") AS "_f")) AS "room" FROM (SELECT * FROM "public"."rooms" WHERE "id" = "_0"."room_id" LIMIT 1) AS "_2") AS "_1" ON ('true')) AS "_3"
-- with: ann@s.test

WITH pgrst_source AS (SELECT "public"."messages"."id", "public"."messages"."sender", row_to_json("rooms_1".*) AS "rooms" FROM "public"."messages" LEFT JOIN LATERAL (SELECT "r"."topic", "r"."owner_mail" FROM "public"."rooms" AS "r" WHERE "r"."id" = "public"."messages"."room_id") AS "rooms_1" ON TRUE WHERE "public"."messages"."sender" = $1 ORDER BY "public"."messages"."id") SELECT null::bigint AS total_result_set, pg_catalog.count(_postgrest_t) AS page_total, coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT * FROM pgrst_source) _postgrest_t
-- with: ben@s.test

WITH pgrst_source AS (UPDATE "public"."messages" SET "body" = pgrst_body."body" FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "body" FROM json_to_record(pgrst_payload.json_data) AS _("body" text)) pgrst_body WHERE "public"."messages"."id" = $2 RETURNING "public"."messages"."id", "public"."messages"."body") SELECT coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT * FROM pgrst_source) _postgrest_t
-- with: {"body": "edited"} | 1

WITH pgrst_source AS (DELETE FROM "public"."messages" WHERE "public"."messages"."sender" = $1 AND "public"."messages"."id" NOT IN (SELECT reply_to FROM messages WHERE reply_to IS NOT NULL) RETURNING "public"."messages".*) SELECT coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT * FROM pgrst_source) _postgrest_t
-- with: ann@s.test

DELETE FROM messages WHERE sender = $1 AND body IS NULL RETURNING *
-- with: zed

WITH x AS (UPDATE messages SET body = '[removed]', sender = NULL WHERE sender = $1 RETURNING id, room_id, sender), y AS (UPDATE rooms SET owner_mail = NULL WHERE owner_mail = $1 RETURNING id) SELECT (SELECT count(*) FROM x) AS messages, (SELECT count(*) FROM y) AS rooms, (SELECT array_agg(sender) FROM x) AS senders
-- with: ann@s.test

-- jobs
SELECT j.title, a.name, a.rating FROM applicants a JOIN jobs j ON j.id = a.job_id WHERE a.email = $1 AND a.stage IN ('new', 'hired') ORDER BY j.id
-- with: ann@s.test

SELECT name, email, count(*) AS applied, array_agg(job_id ORDER BY job_id) FROM applicants GROUP BY name, email HAVING count(*) > 1

SELECT stage, rating, count(*) FROM applicants GROUP BY CUBE (stage, rating)

SELECT a.email, s.id FROM applicants a LEFT JOIN students s USING (email) ORDER BY a.id

SELECT email FROM applicants a JOIN students s USING (email) JOIN (SELECT sender AS email, count(*) AS n FROM messages GROUP BY sender) m USING (email) ORDER BY a.id

SELECT email, a.id, s.id FROM applicants a FULL JOIN students s USING (email) ORDER BY a.id, s.id
-- refused: FULL JOIN USING a protected column is not supported in a statement that names something protected

SELECT j.id FROM jobs j WHERE j.contact_mail IN (SELECT email FROM students UNION SELECT email FROM applicants) ORDER BY j.id

SELECT j.id, j.salary FROM jobs j WHERE j.salary = (SELECT salary FROM jobs WHERE id = $1) ORDER BY j.id
-- with: 1

SELECT salary, count(*) OVER (PARTITION BY salary) FROM jobs ORDER BY id

INSERT INTO applicants (id, job_id, email, name) VALUES ($1, $2, $3, $4) ON CONFLICT (job_id, email) DO UPDATE SET name = EXCLUDED.name, phone = COALESCE(EXCLUDED.phone, applicants.phone) RETURNING (xmax = 0) AS created, name, phone
-- with: 50 | 1 | ann@s.test | Anna

INSERT INTO applicants (id, job_id, email) VALUES (1, 1, 'q@s.test') ON CONFLICT (id) DO UPDATE SET email = EXCLUDED.email WHERE applicants.email <> EXCLUDED.email RETURNING id, email

INSERT INTO applicants (id, job_id, email, name) SELECT 60 + s.id, 3, s.email, s.first FROM students s WHERE NOT EXISTS (SELECT 1 FROM applicants a WHERE a.email = s.email) RETURNING id, email, name

INSERT INTO applicants (id, job_id, email, cv) SELECT 70 + n, 1, e, c FROM unnest($1::int[], $2::text[], $3::jsonb[]) AS t(n, e, c) RETURNING id, email, cv
-- with: {1,2} | {u1@x,u2@x} | {"{\"a\": 1}",NULL}

MERGE INTO applicants a USING students s ON a.email = s.email AND a.job_id = 1 WHEN MATCHED AND a.name IS DISTINCT FROM s.last THEN UPDATE SET name = s.last WHEN NOT MATCHED AND s.email IS NOT NULL THEN INSERT (id, job_id, email, name) VALUES (80 + s.id, 1, s.email, s.first)

MERGE INTO applicants a USING (SELECT $1::int AS id, $2::text AS email) s ON a.id = s.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, job_id, email) VALUES (s.id, 1, s.email)
-- with: 90 | m@x

DELETE FROM applicants WHERE (job_id, email) IN (SELECT 1, email FROM students) RETURNING id

SELECT count(*) FROM applicants WHERE phone = '' IS NOT FALSE

SELECT id FROM applicants WHERE phone IS NULL OR phone IN ('', $1) ORDER BY id
-- with: 1

SELECT id FROM applicants WHERE NOT (phone = ANY ($1)) ORDER BY id
-- with: {2,3}

SELECT id, rating IN (3, 5) AS good, rating NOT IN (3, NULL) AS odd FROM applicants ORDER BY id

SELECT id, (email = 'ann@s.test')::int AS n, (email = 'ann@s.test')::text AS t FROM applicants ORDER BY id

SELECT sum((email = $1)::int), bool_or(email = $1), count(*) FILTER (WHERE email = $1 IS TRUE) FROM applicants
-- with: ann@s.test

SELECT id FROM applicants WHERE email = 'ann@s.test' = (job_id = 1) ORDER BY id

SELECT id FROM applicants WHERE (email, job_id) > ('a', 1)
-- refused: a row that holds protected column "email" cannot be used in an order comparison | Values of public.applicants.email in it are sealed; PostgreSQL cannot compute on them.

SELECT id FROM applicants WHERE email SIMILAR TO 'a%' OR email ~* 'ann'
-- refused: protected column "email" cannot be used in a pattern match (LIKE) | public.applicants.email holds sealed values; PostgreSQL cannot compute on them.

SELECT id, email FROM applicants ORDER BY lower(email), id
-- refused: protected column "email" cannot be used in function lower | public.applicants.email holds sealed values; PostgreSQL cannot compute on them.

SELECT id, email FROM applicants WHERE id = ANY ($1) ORDER BY array_position($1, id)
-- with: {3,1}

SELECT a.id, t.ord FROM applicants a JOIN unnest($1::text[]) WITH ORDINALITY AS t(email, ord) ON a.email = t.email ORDER BY t.ord, a.id
-- with: {zed@s.test,ann@s.test}

SELECT t.email, a.id FROM (SELECT DISTINCT unnest($1::text[]) AS email) t LEFT JOIN applicants a ON a.email = t.email WHERE a.id IS NULL OR a.id = 1
-- with: {zed@s.test,ann@s.test,no@s.test}
-- refused: protected column "email" cannot be compared with column t.email | public.applicants.email: the other side is not protected.

SELECT a.id FROM applicants a, (VALUES ($1)) AS v(mail) WHERE a.email = v.mail ORDER BY a.id
-- with: ann@s.test

SELECT a.id FROM applicants a, (SELECT $1::text AS mail) v WHERE a.email = v.mail ORDER BY a.id
-- with: ann@s.test

WITH input(mail, job) AS (VALUES ($1::text, $2::int), ($3, $4)) SELECT i.job, a.id FROM input i LEFT JOIN applicants a ON a.email = i.mail AND a.job_id = i.job ORDER BY i.job, a.id
-- with: ann@s.test | 1 | zed@s.test | 2

SELECT id FROM applicants WHERE email = (VALUES ($1)) ORDER BY id
-- with: ann@s.test
-- refused: protected column "email" cannot be compared with an expression | public.applicants.email: the other side is not protected.

SELECT id FROM applicants WHERE email = (SELECT lower($1)) ORDER BY id
-- with: ANN@s.test

SELECT id FROM applicants WHERE email = (SELECT value FROM (SELECT $1::text AS value) q) ORDER BY id
-- with: ann@s.test
-- refused: protected column "email" cannot be compared with an expression | public.applicants.email: the other side is not protected.

SELECT id FROM applicants WHERE email = current_setting('app.mail', true)
-- refused: protected column "email" cannot be compared with an expression | public.applicants.email: the other side is not protected.

SELECT 1 FROM applicants WHERE email = $1 UNION ALL SELECT 2 FROM students WHERE email = $1 AND first = $2
-- with: ann@s.test | Ann

SELECT id, $1 AS given FROM applicants WHERE email = $1
-- with: ann@s.test

SELECT $1::text AS given, count(*) FROM applicants WHERE email = $1
-- with: ann@s.test

SELECT x.given, count(a.id) FROM (SELECT $1::text AS given) x LEFT JOIN applicants a ON a.email = x.given GROUP BY x.given
-- with: ann@s.test
-- refused: protected column "email" cannot be compared with column x.given | public.applicants.email: the other side is not protected.

SELECT id FROM applicants WHERE email = $1 OR name = $1 OR $1 IS NULL ORDER BY id
-- with: Ann

SELECT id FROM applicants WHERE ($1 IS NULL OR email = $1) AND ($2::text IS NULL OR name = $2) ORDER BY id
-- with: NULL | Ann

SELECT id FROM applicants WHERE email = COALESCE($1, email) AND name = COALESCE(NULLIF($2, ''), name) ORDER BY id
-- with: NULL | Ann

SELECT id FROM applicants WHERE CASE WHEN $1 = '' THEN true ELSE email = $1 END ORDER BY id
-- with: ann@s.test

SELECT id FROM applicants WHERE CASE WHEN $1::text IS NULL THEN true ELSE email = $1 END ORDER BY id
-- with: NULL

SELECT id FROM applicants WHERE (CASE $1::int WHEN 1 THEN email WHEN 2 THEN name END) = $2 ORDER BY id
-- with: 2 | Ann

SELECT id FROM applicants WHERE rating = $1 AND job_id = $1
-- with: 3

SELECT id FROM applicants WHERE job_id = $1 AND rating = $1
-- with: 3

SELECT id FROM applicants a WHERE EXISTS (SELECT 1 FROM jobs j WHERE j.salary = $1 AND j.id = a.job_id AND a.rating = $1 / 200) ORDER BY id
-- with: 1000
-- refused: protected column "rating" cannot be compared with an expression | public.applicants.rating: the other side is not protected.

UPDATE applicants SET rating = $1, job_id = $1 WHERE id = 1 RETURNING rating, job_id
-- with: 2

UPDATE applicants SET name = $1, stage = $1 WHERE id = 1 RETURNING name, stage
-- with: same

UPDATE applicants SET email = $1, cv = jsonb_build_object('mail', $1::text) WHERE id = 1 RETURNING email, cv
-- with: w@x
-- refused: protected column "cv" cannot be set to an expression | A value for public.applicants.cv is sealed before the server sees it.
