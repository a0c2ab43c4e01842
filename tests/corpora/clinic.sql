-- A clinic as ActiveRecord, SQLAlchemy, Hibernate, Prisma, Ecto, TypeORM, Sequelize, Entity Framework, GORM and Laravel ask it.

-- schema --
CREATE TABLE patients (id bigint PRIMARY KEY, clinic_id int NOT NULL, first_name varchar NOT NULL, last_name varchar NOT NULL, email varchar UNIQUE, ssn char(11), birth_date date, phone varchar(20), weight numeric(5,1), allergies text[], insurance jsonb, active boolean NOT NULL DEFAULT true, lock_version int NOT NULL DEFAULT 0, created_at timestamp(6) NOT NULL DEFAULT '2024-01-01', updated_at timestamp(6), deleted_at timestamp(6));
CREATE TABLE doctors (id bigint PRIMARY KEY, name varchar NOT NULL, email varchar UNIQUE, license uuid);
CREATE TABLE visits (id bigint PRIMARY KEY, patient_id bigint NOT NULL REFERENCES patients, doctor_id bigint REFERENCES doctors, starts_at timestamptz NOT NULL, reason text, diagnosis text, contact varchar, fee numeric(10,2), state varchar NOT NULL DEFAULT 'open');
CREATE TABLE comments (id bigint PRIMARY KEY, commentable_type varchar NOT NULL, commentable_id bigint NOT NULL, body text, author_email varchar);
CREATE TABLE tags (id bigint PRIMARY KEY, name varchar NOT NULL UNIQUE);
CREATE TABLE taggings (tag_id bigint NOT NULL REFERENCES tags, visit_id bigint NOT NULL REFERENCES visits, PRIMARY KEY (tag_id, visit_id));

-- policy --
public.patients  scope = "platform"
    first_name: varchar, search = ["equality"]
    last_name: varchar, search = ["equality"]
    email: varchar, search = ["equality"], equality_group = "mail"
    ssn: bpchar(11), search = ["equality"]
    birth_date: date, search = ["equality"]
    phone: varchar(20), search = ["equality"]
    weight: numeric(5,1)
    insurance: jsonb
public.doctors  scope = "platform"
    email: varchar, search = ["equality"], equality_group = "mail"
    license: uuid, search = ["equality"]
public.visits  scope = "platform"
    diagnosis: text, search = ["equality"]
    contact: varchar, search = ["equality"], equality_group = "mail"
    fee: numeric(10,2), search = ["equality"]
public.comments  scope = "platform"
    body: text
    author_email: varchar, search = ["equality"], equality_group = "mail"

-- rows --
INSERT INTO patients (id, clinic_id, first_name, last_name, email, ssn, birth_date, phone, weight, allergies, insurance, active, updated_at) VALUES (1, 1, 'Ada', 'Lovelace', 'ada@example.com', '111-11-1111', '1815-12-10', '555-1', 60.5, '{nuts}', '{"plan": "gold", "n": 1}', true, '2024-01-02'), (2, 1, 'Bob', 'Builder', 'bob@example.com', '222-22-2222', '1970-01-01', '555-2', 80, '{}', NULL, true, NULL), (3, 2, 'Ada', 'Byron', NULL, NULL, NULL, '555-1', NULL, NULL, '[]', false, '2024-01-03'), (4, 2, 'Eve', 'O''Neil', 'eve@example.com', '333-33-3333', '1815-12-10', NULL, 55.0, '{dust,pollen}', '{"plan": "silver"}', true, NULL);
UPDATE patients SET deleted_at = '2024-02-01' WHERE id = 3;
INSERT INTO doctors VALUES (1, 'Dr. Who', 'who@example.com', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'), (2, 'Dr. Eve', 'eve@example.com', NULL), (3, 'Dr. No', NULL, 'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11');
INSERT INTO visits VALUES (1, 1, 1, '2024-03-01 10:00+00', 'cough', 'flu', 'ada@example.com', 50.00, 'done'), (2, 1, 2, '2024-03-05 10:00+00', 'checkup', NULL, 'eve@example.com', 20, 'open'), (3, 2, 1, '2024-03-06 10:00+00', NULL, 'flu', NULL, 50, 'open'), (4, 4, NULL, '2024-03-07 10:00+00', 'cough', 'cold', 'who@example.com', NULL, 'open');
INSERT INTO comments VALUES (1, 'Visit', 1, 'rest', 'who@example.com'), (2, 'Visit', 2, 'fine', 'eve@example.com'), (3, 'Patient', 1, NULL, NULL), (4, 'Patient', 2, 'tall', 'ada@example.com');
INSERT INTO tags VALUES (1, 'urgent'), (2, 'routine');
INSERT INTO taggings VALUES (1, 1), (2, 1), (2, 3);

-- statements --
-- ActiveRecord
SELECT "patients".* FROM "patients" WHERE "patients"."id" = $1 LIMIT $2
-- with: 1 | 1

SELECT "patients".* FROM "patients" WHERE "patients"."email" = $1 LIMIT $2
-- with: ada@example.com | 1

SELECT 1 AS one FROM "patients" WHERE "patients"."email" = $1 LIMIT $2
-- with: ada@example.com | 1

SELECT 1 AS one FROM "patients" WHERE "patients"."email" = $1 AND "patients"."id" != $2 LIMIT $3
-- with: ada@example.com | 1 | 1

SELECT 1 AS one FROM "patients" WHERE LOWER("patients"."email") = LOWER($1) LIMIT $2
-- with: ada@example.com | 1
-- refused: protected column "email" cannot be used in function lower | public.patients.email holds sealed values; PostgreSQL cannot compute on them.

SELECT "patients".* FROM "patients" WHERE "patients"."deleted_at" IS NULL AND "patients"."first_name" = $1 AND "patients"."last_name" IN ($2, $3) ORDER BY "patients"."id" ASC
-- with: Ada | Lovelace | Byron

SELECT "patients".* FROM "patients" WHERE ("patients"."email" = $1 OR "patients"."email" IS NULL) ORDER BY "patients"."id" DESC LIMIT $2 OFFSET $3
-- with: ada@example.com | 10 | 0

SELECT "patients".* FROM "patients" WHERE "patients"."email" != $1 ORDER BY "patients"."id"
-- with: ada@example.com

SELECT "patients".* FROM "patients" WHERE NOT ("patients"."email" = $1 AND "patients"."first_name" = $2) ORDER BY "patients"."id"
-- with: ada@example.com | Ada

SELECT COUNT(*) FROM "patients" WHERE "patients"."birth_date" = $1
-- with: 1815-12-10

SELECT COUNT(DISTINCT "patients"."first_name") FROM "patients"

SELECT COUNT(*) AS "count_all", "patients"."first_name" AS "patients_first_name" FROM "patients" GROUP BY "patients"."first_name"

SELECT COUNT(DISTINCT "patients"."id") FROM "patients" LEFT OUTER JOIN "visits" ON "visits"."patient_id" = "patients"."id" WHERE "visits"."diagnosis" = $1
-- with: flu

SELECT "patients"."id" AS t0_r0, "patients"."email" AS t0_r1, "visits"."id" AS t1_r0, "visits"."diagnosis" AS t1_r1, "visits"."fee" AS t1_r2 FROM "patients" LEFT OUTER JOIN "visits" ON "visits"."patient_id" = "patients"."id" WHERE "patients"."email" = $1 ORDER BY "visits"."id"
-- with: ada@example.com

SELECT DISTINCT "patients"."first_name" FROM "patients" INNER JOIN "visits" ON "visits"."patient_id" = "patients"."id"

SELECT DISTINCT ON ("patients"."first_name") "patients".* FROM "patients" WHERE "patients"."clinic_id" = 1

SELECT DISTINCT "patients"."id", "visits"."starts_at" AS alias_0 FROM "patients" LEFT OUTER JOIN "visits" ON "visits"."patient_id" = "patients"."id" WHERE "patients"."last_name" = $1 ORDER BY "visits"."starts_at" ASC, "patients"."id" LIMIT $2
-- with: Lovelace | 5

SELECT "patients"."email" FROM "patients" WHERE "patients"."id" IN (1, 2, 3) ORDER BY "patients"."id"

SELECT "patients"."id", "patients"."email", "patients"."ssn" FROM "patients" WHERE "patients"."ssn" = $1
-- with: 111-11-1111

INSERT INTO "patients" ("id", "clinic_id", "first_name", "last_name", "email", "ssn", "birth_date", "phone", "weight", "insurance", "created_at", "updated_at") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING "id"
-- with: 50 | 1 | Zoe | Zed | zoe@example.com | 444-44-4444 | 1999-09-09 | 555-9 | 61.25 | {"a":1} | 2024-05-05 | 2024-05-05

UPDATE "patients" SET "email" = $1, "updated_at" = $2, "lock_version" = $3 WHERE "patients"."id" = $4 AND "patients"."lock_version" = $5
-- with: new@example.com | 2024-05-05 | 1 | 1 | 0

UPDATE "patients" SET "deleted_at" = $1 WHERE "patients"."email" = $2
-- with: 2024-05-05 | bob@example.com

UPDATE "patients" SET "lock_version" = COALESCE("lock_version", 0) + $1 WHERE "patients"."first_name" = $2
-- with: 1 | Ada

UPDATE "patients" SET "phone" = NULL, "weight" = $1 WHERE "patients"."id" IN (SELECT "patients"."id" FROM "patients" INNER JOIN "visits" ON "visits"."patient_id" = "patients"."id" WHERE "visits"."diagnosis" = $2)
-- with: 70.0 | flu

DELETE FROM "comments" WHERE "comments"."author_email" = $1
-- with: who@example.com

DELETE FROM "comments" WHERE "comments"."id" IN (SELECT "comments"."id" FROM "comments" WHERE "comments"."author_email" = $1 ORDER BY "comments"."id" ASC LIMIT $2)
-- with: who@example.com | 1

INSERT INTO "doctors" ("id","name","email","license") VALUES (1, 'Dr. Who', 'who2@example.com', NULL), (9, 'Dr. Nine', 'nine@example.com', 'c0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11') ON CONFLICT ("id") DO UPDATE SET "name"=excluded."name","email"=excluded."email" RETURNING "id"

INSERT INTO "doctors" ("id","name","email") VALUES (9, 'Dr. Who', 'who@example.com') ON CONFLICT ("email") DO UPDATE SET updated_at=(CASE WHEN (doctors.name IS NOT DISTINCT FROM excluded.name) THEN doctors.name ELSE CURRENT_TIMESTAMP::text END),"name"=excluded."name" RETURNING "id"

INSERT INTO "doctors" ("id","name","email") VALUES (9, 'Dr. Who', 'who@example.com') ON CONFLICT ("email") DO UPDATE SET "name"=excluded."name" WHERE doctors.name IS DISTINCT FROM excluded.name RETURNING "id", "email"

INSERT INTO "doctors" ("id","name","email") VALUES (9, 'Dr. Ninth', 'nine@example.com') ON CONFLICT  DO NOTHING RETURNING "id"

SELECT "doctors".* FROM "doctors" WHERE "doctors"."email" IN (SELECT "patients"."email" FROM "patients" WHERE "patients"."clinic_id" = $1)
-- with: 2

SELECT "patients".* FROM "patients" WHERE "patients"."id" NOT IN (SELECT "visits"."patient_id" FROM "visits" WHERE "visits"."diagnosis" IS NOT NULL) ORDER BY 1

SELECT "patients".* FROM "patients" WHERE EXISTS (SELECT 1 FROM "doctors" WHERE "doctors"."email" = "patients"."email")

SELECT "comments".* FROM "comments" WHERE "comments"."commentable_type" = $1 AND "comments"."commentable_id" IN ($2, $3) ORDER BY "comments"."id"
-- with: Visit | 1 | 2

SELECT "patients".* FROM "patients" WHERE "patients"."id" > $1 ORDER BY "patients"."id" ASC LIMIT $2
-- with: 0 | 1000

SELECT "patients"."first_name", "patients"."last_name" FROM "patients" WHERE ("patients"."first_name", "patients"."last_name") IN (($1, $2), ($3, $4)) ORDER BY id
-- with: Ada | Lovelace | Bob | Builder

SELECT "patients".* FROM "patients" WHERE "patients"."id" = $1 LIMIT $2 FOR UPDATE
-- with: 1 | 1

SELECT "patients".*, (SELECT COUNT(*) FROM visits WHERE visits.patient_id = patients.id) AS visits_count FROM "patients" ORDER BY id

SELECT SUM("visits"."fee") FROM "visits"
-- refused: protected column "fee" cannot be used in function sum | public.visits.fee holds sealed values; PostgreSQL cannot compute on them.

SELECT MIN("patients"."id") FROM "patients" WHERE "patients"."phone" = $1
-- with: 555-1

SELECT "patients".* FROM "patients" WHERE (birth_date BETWEEN '1800-01-01' AND '1900-01-01')
-- refused: protected column "birth_date" cannot be used in BETWEEN | public.patients.birth_date has no order that PostgreSQL could use.

SELECT "visits".* FROM "visits" INNER JOIN "taggings" ON "taggings"."visit_id" = "visits"."id" INNER JOIN "tags" ON "tags"."id" = "taggings"."tag_id" WHERE "tags"."name" = $1 ORDER BY "visits"."id" DESC
-- with: routine

WITH RECURSIVE tree AS (SELECT id, email FROM patients WHERE id = 1 UNION ALL SELECT p.id, p.email FROM patients p JOIN tree t ON p.id = t.id + 1) SELECT * FROM tree

SELECT "patients".* FROM ((SELECT "patients".* FROM "patients" WHERE "patients"."first_name" = 'Ada') UNION (SELECT "patients".* FROM "patients" WHERE "patients"."first_name" = 'Bob')) "patients"
-- refused: protected column "weight" cannot be used in UNION | public.patients.weight has no equality terms.

SELECT "patients"."id", "patients"."email" FROM ((SELECT "patients"."id", "patients"."email" FROM "patients" WHERE "patients"."first_name" = 'Ada') UNION (SELECT "patients"."id", "patients"."email" FROM "patients" WHERE "patients"."first_name" = 'Bob')) "patients"

-- SQLAlchemy
SELECT patients.id AS patients_id, patients.first_name AS patients_first_name, patients.email AS patients_email, patients.birth_date AS patients_birth_date FROM patients WHERE patients.email = $1::VARCHAR
-- with: ada@example.com

SELECT patients.id, patients.email FROM patients WHERE patients.email IN ($1::VARCHAR, $2::VARCHAR) ORDER BY patients.id
-- with: ada@example.com | bob@example.com

SELECT anon_1.patients_id AS anon_1_patients_id, anon_1.patients_email AS anon_1_patients_email, visits_1.id AS visits_1_id, visits_1.diagnosis AS visits_1_diagnosis FROM (SELECT patients.id AS patients_id, patients.email AS patients_email FROM patients WHERE patients.first_name = $1::VARCHAR LIMIT $2::INTEGER) AS anon_1 LEFT OUTER JOIN visits AS visits_1 ON anon_1.patients_id = visits_1.patient_id ORDER BY anon_1.patients_id, visits_1.id
-- with: Ada | 10

SELECT EXISTS (SELECT 1 FROM patients WHERE patients.email = $1) AS anon_1
-- with: ada@example.com

SELECT count(*) AS count_1 FROM (SELECT patients.id AS patients_id, patients.email AS patients_email, patients.ssn AS patients_ssn FROM patients WHERE patients.last_name = $1) AS anon_1
-- with: Byron

INSERT INTO doctors (id, name, email, license) SELECT p0::BIGINT, p1::VARCHAR, p2::VARCHAR, p3::UUID FROM (VALUES ($1, $2, $3, $4, 0), ($5, $6, $7, $8, 1)) AS imp_sen(p0, p1, p2, p3, sen_counter) ORDER BY sen_counter RETURNING doctors.id, doctors.id AS id__1
-- with: 20 | Dr. A | a@example.com | a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 | 21 | Dr. B | b@example.com | NULL

UPDATE visits SET diagnosis=$1::TEXT, fee=$2::NUMERIC(10, 2) WHERE visits.id = $3::BIGINT
-- with: cold | 12.50 | 1

UPDATE visits SET diagnosis=$1::VARCHAR FROM patients WHERE visits.patient_id = patients.id AND patients.email = $2::VARCHAR
-- with: cold | ada@example.com

DELETE FROM visits USING patients WHERE visits.patient_id = patients.id AND patients.email = $1::VARCHAR AND visits.id > 100 RETURNING visits.id, visits.diagnosis
-- with: ada@example.com

SELECT patients.id, patients.email, row_number() OVER (PARTITION BY patients.first_name ORDER BY patients.id) AS rn FROM patients ORDER BY patients.id

SELECT patients.id, CASE WHEN (patients.email IS NULL) THEN $1 ELSE patients.email END AS mail FROM patients ORDER BY patients.id
-- with: none

SELECT patients.id, coalesce(patients.email, $1) AS coalesce_1 FROM patients ORDER BY patients.id
-- with: none

SELECT patients.first_name || $1 || patients.last_name AS anon_1 FROM patients
-- with:  
-- refused: protected column "first_name" cannot be used in an expression with || | public.patients.first_name holds sealed values; PostgreSQL cannot compute on them.

SELECT doctors.id, doctors.email, lat.id, lat.diagnosis FROM doctors JOIN LATERAL (SELECT visits.id AS id, visits.diagnosis AS diagnosis FROM visits WHERE visits.doctor_id = doctors.id ORDER BY visits.starts_at DESC LIMIT 1) AS lat ON true ORDER BY doctors.id

SELECT patients.id, array_agg(visits.diagnosis ORDER BY visits.id) AS ds FROM patients JOIN visits ON visits.patient_id = patients.id GROUP BY patients.id ORDER BY patients.id

SELECT patients.id, json_build_object('email', patients.email, 'born', patients.birth_date) AS doc FROM patients ORDER BY patients.id

SELECT patients.id, array_remove(array_agg(visits.diagnosis ORDER BY visits.id), NULL) FROM patients LEFT JOIN visits ON visits.patient_id = patients.id GROUP BY patients.id ORDER BY 1

SELECT pg_catalog.count(patients.email) FROM patients

SELECT CAST(patients.birth_date AS VARCHAR) AS d FROM patients ORDER BY patients.id

SELECT CAST(patients.weight AS TEXT) AS d FROM patients ORDER BY patients.id

SELECT patients.insurance ->> $1 FROM patients
-- with: plan
-- refused: protected column "insurance" cannot be used in an expression with ->> | public.patients.insurance holds sealed values; PostgreSQL cannot compute on them.

SELECT extract(year FROM patients.birth_date) FROM patients
-- refused: protected column "birth_date" cannot be used in this expression | public.patients.birth_date holds sealed values; PostgreSQL cannot compute on them.

-- Hibernate
select p1_0.id,p1_0.birth_date,p1_0.email,p1_0.first_name,p1_0.last_name,p1_0.ssn from patients p1_0 where p1_0.id=$1
-- with: 1

select p1_0.id,p1_0.email from patients p1_0 where p1_0.email=$1 and p1_0.active=$2 order by p1_0.id offset $3 rows fetch first $4 rows only
-- with: ada@example.com | t | 0 | 10

select p1_0.id,p1_0.email from patients p1_0 where p1_0.email in ($1,$2,$3,$4) order by p1_0.id
-- with: ada@example.com | bob@example.com | bob@example.com | bob@example.com

select p1_0.id,p1_0.email from patients p1_0 where p1_0.email = any ($1) order by p1_0.id
-- with: {ada@example.com,bob@example.com}

select p1_0.id,p1_0.email from patients p1_0 where array_position($1,p1_0.email) is not null order by p1_0.id
-- with: {ada@example.com,bob@example.com}
-- refused: protected column "email" cannot be used in function array_position | public.patients.email holds sealed values; PostgreSQL cannot compute on them.

select distinct p1_0.id,p1_0.email,v1_0.patient_id,v1_0.id,v1_0.diagnosis,v1_0.fee from patients p1_0 left join visits v1_0 on p1_0.id=v1_0.patient_id where p1_0.last_name=$1
-- with: Lovelace

select count(p1_0.id) from patients p1_0 where p1_0.last_name=$1 and p1_0.birth_date=$2
-- with: Lovelace | 1815-12-10

insert into visits (patient_id,doctor_id,starts_at,reason,diagnosis,contact,fee,state,id) values ($1,$2,$3,$4,$5,$6,$7,$8,$9)
-- with: 1 | NULL | 2024-06-01 00:00:00+00 | x | flu | x@example.com | 1.005 | open | 70

update patients set birth_date=$1,email=$2,first_name=$3,last_name=$4,phone=$5,ssn=$6,weight=$7 where id=$8
-- with: 1900-01-01 | n@example.com | N | M | 1 | 1 | 1.25 | 2

select p1_0.id from patients p1_0 where lower(p1_0.last_name) like $1 escape ''
-- with: %love%
-- refused: protected column "last_name" cannot be used in function lower | public.patients.last_name holds sealed values; PostgreSQL cannot compute on them.

select p1_0.id from patients p1_0 where p1_0.last_name like $1 escape '\'
-- with: Love%
-- refused: protected column "last_name" cannot be used in a pattern match (LIKE) | public.patients.last_name holds sealed values; PostgreSQL cannot compute on them.

select new_p.name, new_p.mail from (select d.name as name, d.email as mail from doctors d) new_p where new_p.mail = $1
-- with: who@example.com

select p1_0.id, p1_0.email from patients p1_0 where ($1 is null or p1_0.email=$1) order by p1_0.id
-- with: ada@example.com

select p1_0.id, p1_0.email from patients p1_0 where (cast($1 as varchar) is null or p1_0.email=cast($1 as varchar)) order by p1_0.id
-- with: ada@example.com

select p1_0.id, p1_0.email from patients p1_0 where p1_0.email=coalesce($1, p1_0.email) order by p1_0.id
-- with: ada@example.com

select p1_0.id from patients p1_0 where p1_0.id=$1 for no key update of p1_0 skip locked
-- with: 1

select max(v1_0.fee),min(v1_0.fee) from visits v1_0
-- refused: protected column "fee" cannot be used in function max | public.visits.fee has no order that PostgreSQL could use.

select v1_0.diagnosis,count(*) from visits v1_0 group by v1_0.diagnosis having count(*)>1

select v1_0.diagnosis,count(*) from visits v1_0 group by v1_0.diagnosis order by count(*) desc, 1 limit 1
-- refused: protected column "diagnosis" cannot be used in ORDER BY | public.visits.diagnosis has no order that PostgreSQL could use.

select p.email, d.email from patients p full join doctors d on p.email = d.email

select p.id, d.id from patients p left join doctors d on p.email = d.email and d.license = $1 order by p.id
-- with: a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11

-- Prisma
SELECT "public"."patients"."id", "public"."patients"."email", "public"."patients"."birth_date" FROM "public"."patients" WHERE ("public"."patients"."email" = $1 AND 1=1) LIMIT $2 OFFSET $3
-- with: ada@example.com | 1 | 0

SELECT "public"."patients"."id", "public"."patients"."email" FROM "public"."patients" WHERE "public"."patients"."id" IN ($1,$2) OFFSET $3
-- with: 1 | 2 | 0

SELECT "public"."patients"."id", "public"."patients"."email"::text FROM "public"."patients" WHERE ("public"."patients"."first_name" = $1 OR "public"."patients"."last_name" = $2) ORDER BY "public"."patients"."id" ASC LIMIT $3 OFFSET $4
-- with: Ada | Builder | 10 | 0

SELECT "t0"."id", "t0"."email" FROM "public"."patients" AS "t0" WHERE ("t0"."id") IN (SELECT "t1"."patient_id" FROM "public"."visits" AS "t1" WHERE ("t1"."diagnosis" = $1 AND "t1"."patient_id" IS NOT NULL)) ORDER BY "t0"."id"
-- with: flu

SELECT COUNT(*), COUNT("email") FROM (SELECT "public"."patients"."id", "public"."patients"."email" FROM "public"."patients" WHERE 1=1 OFFSET $1) AS "sub"
-- with: 0

SELECT COUNT(*) AS "_count$_all", "public"."patients"."first_name" FROM "public"."patients" WHERE 1=1 GROUP BY "public"."patients"."first_name" HAVING COUNT(*) > $1 OFFSET $2
-- with: 0 | 0

SELECT "t1"."id", "t1"."email", "patients_visits"."__prisma_data__" AS "visits" FROM "public"."patients" AS "t1" LEFT JOIN LATERAL (SELECT COALESCE(JSONB_AGG("__prisma_data__"), '[]') AS "__prisma_data__" FROM (SELECT "t4"."__prisma_data__" FROM (SELECT JSONB_BUILD_OBJECT('id', "t3"."id", 'diagnosis', "t3"."diagnosis") AS "__prisma_data__", "t3"."id" FROM (SELECT "t2".* FROM "public"."visits" AS "t2" WHERE "t1"."id" = "t2"."patient_id" /* root select */) AS "t3" /* inner select */) AS "t4" ORDER BY "t4"."id" ASC /* middle select */) AS "t5" /* outer select */) AS "patients_visits" ON TRUE WHERE "t1"."email" = $1 ORDER BY "t1"."id" LIMIT $2
-- with: ada@example.com | 1

INSERT INTO "public"."doctors" ("id","name","email","license") VALUES ($1,$2,$3,$4) RETURNING "public"."doctors"."id", "public"."doctors"."name", "public"."doctors"."email", "public"."doctors"."license"
-- with: 30 | P | p@example.com | a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11

INSERT INTO "public"."doctors" ("id","name","email") VALUES ($1,$2,$3) ON CONFLICT ("email") DO UPDATE SET "name" = $4 WHERE ("public"."doctors"."email" = $5 AND 1=1) RETURNING "public"."doctors"."id", "public"."doctors"."name", "public"."doctors"."email"
-- with: 30 | P | who@example.com | Q | who@example.com

INSERT INTO "public"."doctors" ("id","name","email") VALUES ($1,$2,$3), ($4,$5,$6) ON CONFLICT DO NOTHING
-- with: 30 | P | who@example.com | 31 | Q | q@example.com

UPDATE "public"."patients" SET "email" = $1 WHERE ("public"."patients"."id" = $2 AND 1=1) RETURNING "public"."patients"."id", "public"."patients"."email", "public"."patients"."insurance"
-- with: z@example.com | 1

UPDATE "public"."visits" SET "diagnosis" = $1, "fee" = $2 WHERE ("public"."visits"."diagnosis" = $3 AND "public"."visits"."state" = $4)
-- with: better | 3 | flu | open

SELECT "public"."patients"."id" FROM "public"."patients" WHERE "public"."patients"."email"::text ILIKE $1
-- with: %ada%
-- refused: protected column "email" cannot be used in a pattern match (LIKE) | public.patients.email holds sealed values; PostgreSQL cannot compute on them.

SELECT "public"."patients"."id" FROM "public"."patients" WHERE ("public"."patients"."email" IS NULL OR "public"."patients"."email" <> $1) ORDER BY 1
-- with: ada@example.com

SELECT "public"."patients"."id" FROM "public"."patients" WHERE (NOT "public"."patients"."email" IN ($1,$2)) ORDER BY 1
-- with: ada@example.com | x

DELETE FROM "public"."comments" WHERE ("public"."comments"."author_email" = $1 AND 1=1) RETURNING "public"."comments"."id", "public"."comments"."body"
-- with: who@example.com

-- Ecto
SELECT p0."id", p0."email", p0."birth_date", p0."weight" FROM "patients" AS p0 WHERE (p0."email" = $1)
-- with: ada@example.com

SELECT p0."id", v1."diagnosis" FROM "patients" AS p0 INNER JOIN "visits" AS v1 ON v1."patient_id" = p0."id" WHERE (v1."diagnosis" = ANY($1)) ORDER BY v1."id"
-- with: {flu,cold}

SELECT TRUE FROM "patients" AS p0 WHERE (p0."email" = $1) LIMIT 1
-- with: ada@example.com

SELECT count('*') FROM "patients" AS p0 WHERE (p0."first_name" = $1)
-- with: Ada

INSERT INTO "doctors" ("id","name","email") VALUES ($1,$2,$3) ON CONFLICT ("email") DO UPDATE SET "name" = EXCLUDED."name","email" = EXCLUDED."email" RETURNING "id"
-- with: 40 | E | who@example.com

UPDATE "visits" AS v0 SET "diagnosis" = $1 FROM "patients" AS p1 WHERE (p1."id" = v0."patient_id") AND (p1."email" = $2)
-- with: gone | ada@example.com

SELECT sp0."id", sp0."email" FROM (SELECT p0."id" AS "id", p0."email" AS "email", row_number() OVER "w" AS "rn" FROM "patients" AS p0 WINDOW "w" AS (PARTITION BY p0."first_name" ORDER BY p0."id")) AS sp0 WHERE sp0."rn" = 1 ORDER BY sp0."id"

SELECT p0."id", p0."email" FROM "patients" AS p0 WHERE (p0."id" = ANY($1)) ORDER BY p0."id"
-- with: {1,2}

SELECT d0."id" FROM "doctors" AS d0 WHERE (d0."email" IN ('who@example.com','eve@example.com')) ORDER BY d0."id"

WITH "recent" AS (SELECT v0."patient_id" AS "patient_id", v0."contact" AS "contact" FROM "visits" AS v0 WHERE (v0."diagnosis" = $1)) SELECT p0."id", r1."contact" FROM "patients" AS p0 INNER JOIN "recent" AS r1 ON r1."patient_id" = p0."id" AND r1."contact" = p0."email"
-- with: flu

SELECT p0."email" FROM "patients" AS p0 UNION (SELECT d0."email" FROM "doctors" AS d0)

SELECT p0."email" FROM "patients" AS p0 EXCEPT (SELECT d0."email" FROM "doctors" AS d0)

INSERT INTO "comments" ("id","commentable_type","commentable_id","body","author_email") (SELECT c0."id" + 100, 'Copy', c0."commentable_id", c0."body", c0."author_email" FROM "comments" AS c0 WHERE c0."author_email" = $1) RETURNING "id", "body"
-- with: who@example.com

-- TypeORM, Sequelize, Knex
SELECT "Patient"."id" AS "Patient_id", "Patient"."email" AS "Patient_email", "Patient"."birth_date" AS "Patient_birth_date" FROM "patients" "Patient" WHERE (("Patient"."email" = $1)) AND ( "Patient"."deleted_at" IS NULL ) LIMIT 1
-- with: ada@example.com

SELECT DISTINCT "distinctAlias"."Patient_id" AS "ids_Patient_id" FROM (SELECT "Patient"."id" AS "Patient_id", "Patient"."email" AS "Patient_email", "visit"."diagnosis" AS "visit_diagnosis" FROM "patients" "Patient" LEFT JOIN "visits" "visit" ON "visit"."patient_id"="Patient"."id" WHERE "Patient"."last_name" = $1) "distinctAlias" ORDER BY "Patient_id" ASC LIMIT 10
-- with: Lovelace

INSERT INTO "doctors"("id", "name", "email", "license") VALUES ($1, $2, $3, DEFAULT) RETURNING "id", "license"
-- with: 41 | T | t@example.com

SELECT "id", "email", "birth_date" AS "birthDate" FROM "patients" AS "Patient" WHERE ("Patient"."deleted_at" IS NULL AND ("Patient"."email" = 'ada@example.com' OR "Patient"."phone" = '555-2')) ORDER BY "id"

SELECT count(*) AS "count" FROM "patients" AS "Patient" WHERE "Patient"."email" IN ('ada@example.com', 'x')

SELECT "Patient"."id", "Patient"."email", "visits"."id" AS "visits.id", "visits"."diagnosis" AS "visits.diagnosis" FROM (SELECT "Patient"."id", "Patient"."email" FROM "patients" AS "Patient" WHERE "Patient"."first_name" = 'Ada' AND ( SELECT "patient_id" FROM "visits" AS "visits" WHERE ("visits"."diagnosis" = 'flu' AND "visits"."patient_id" = "Patient"."id") LIMIT 1 ) IS NOT NULL LIMIT 20) AS "Patient" INNER JOIN "visits" AS "visits" ON "Patient"."id" = "visits"."patient_id" AND "visits"."diagnosis" = 'flu'

UPDATE "patients" SET "email"=$1,"updated_at"=$2 WHERE "id" = $3 AND "email" = $4 RETURNING "id","email"
-- with: new@example.com | 2024-01-01 | 1 | ada@example.com

INSERT INTO "doctors" ("id","name","email") VALUES (42,'S','s@example.com'),(43,'U',NULL) RETURNING "id","name","email","license"

select * from "patients" where "email" = $1 and "first_name" is not null and not exists (select * from "comments" where comments.author_email = patients.email and "body" is null) limit $2
-- with: ada@example.com | 1

select "first_name", count("id") as "n" from "patients" group by "first_name" order by "n" desc, "first_name"
-- refused: protected column "first_name" cannot be used in ORDER BY | public.patients.first_name has no order that PostgreSQL could use.

select "p"."email", "d"."name" from "patients" as "p" inner join "doctors" as "d" using ("email")

select "email" from "patients" where "id" = 1 union all select "email" from "doctors" where "id" = 1

-- Entity Framework
SELECT p.id, p.email, p.birth_date FROM patients AS p WHERE p.email = $1 OR (p.email IS NULL AND $1 IS NULL) ORDER BY p.id
-- with: ada@example.com

SELECT p.id, p.email FROM patients AS p WHERE p.email = ANY ($1) OR (p.email IS NULL AND array_position($1, NULL) IS NOT NULL) ORDER BY p.id
-- with: {ada@example.com,x}

SELECT p.id, p.email <> $1 OR p.email IS NULL AS differs FROM patients AS p ORDER BY p.id
-- with: ada@example.com

SELECT t.id, t.email, t0.id, t0.diagnosis FROM (SELECT p.id, p.email FROM patients AS p WHERE p.first_name = $1 LIMIT $2) AS t LEFT JOIN (SELECT t1.id, t1.patient_id, t1.diagnosis FROM (SELECT v.id, v.patient_id, v.diagnosis, ROW_NUMBER() OVER(PARTITION BY v.patient_id ORDER BY v.id DESC) AS row FROM visits AS v) AS t1 WHERE t1.row <= 1) AS t0 ON t.id = t0.patient_id ORDER BY t.id
-- with: Ada | 2

SELECT p.first_name AS "Key", count(*)::int AS "Count" FROM patients AS p GROUP BY p.first_name

SELECT EXISTS (SELECT 1 FROM patients AS p WHERE p.ssn = $1)
-- with: 111-11-1111

SELECT NOT EXISTS (SELECT 1 FROM patients AS p WHERE p.ssn IS NULL OR p.ssn <> $1)
-- with: 111-11-1111

UPDATE patients SET email = $1, weight = $2 WHERE id = $3 AND lock_version = $4
-- with: a@b.example | 3.3 | 1 | 0

INSERT INTO doctors (id, name, email) VALUES ($1, $2, $3), ($4, $5, $6) RETURNING id
-- with: 60 | X | x60@example.com | 61 | Y | x61@example.com

UPDATE patients AS p SET email = $1 WHERE p.last_name = $2
-- with: u@example.com | Builder

SELECT p.id, p.email || '' FROM patients p

SELECT CASE WHEN p.email = $1 THEN 'me' ELSE 'other' END AS who, p.id FROM patients p ORDER BY p.id
-- with: ada@example.com

SELECT count(*) FILTER (WHERE p.email = $1), count(CASE WHEN p.first_name = $2 THEN 1 END), sum(CASE WHEN p.first_name = $2 THEN 1 ELSE 0 END) FROM patients p
-- with: ada@example.com | Ada

-- GORM, Laravel, Doctrine
SELECT * FROM "patients" WHERE email = 'ada@example.com' AND "patients"."deleted_at" IS NULL ORDER BY "patients"."id" LIMIT 1

SELECT * FROM "patients" WHERE "patients"."email" = 'ada@example.com' AND "patients"."first_name" = 'Ada' ORDER BY "patients"."id" LIMIT 1

INSERT INTO "doctors" ("name","email","license","id") VALUES ('G','g@example.com',NULL,70) ON CONFLICT ("id") DO UPDATE SET "name"="excluded"."name","email"="excluded"."email","license"="excluded"."license" RETURNING "id"

UPDATE "patients" SET "email"='g@example.com',"first_name"='G',"updated_at"='2024-01-01 00:00:00' WHERE "id" = 1 AND "patients"."deleted_at" IS NULL

select exists(select * from "patients" where "email" = $1) as "exists"
-- with: ada@example.com

select count(*) as aggregate from "patients" where "email" = $1 and "id" <> $2
-- with: ada@example.com | 1

insert into "doctors" ("id", "email", "name") values ($1, $2, $3) on conflict ("email") do update set "name" = "excluded"."name"
-- with: 71 | who@example.com | L

update "patients" set "email" = $1, "updated_at" = $2 where "id" = $3 and "patients"."deleted_at" is null
-- with: l@example.com | 2024-01-01 | 1

select "patients".*, (select count(*) from "visits" where "patients"."id" = "visits"."patient_id" and "diagnosis" = $1) as "flu_count" from "patients" order by "id"
-- with: flu

select * from "patients" where "email" is not null and ("first_name" = $1 or "last_name" = $1) order by id
-- with: Ada

SELECT t0.id AS id_1, t0.email AS email_2, t0.birth_date AS birth_date_3 FROM patients t0 WHERE t0.email = $1 LIMIT 1
-- with: ada@example.com

SELECT DISTINCT id_0 FROM (SELECT p0_.id AS id_0, p0_.email AS email_1 FROM patients p0_ WHERE p0_.last_name = $1) dctrn_result ORDER BY id_0 ASC LIMIT 10
-- with: Byron

SELECT count(DISTINCT p0_.id) AS sclr_0 FROM patients p0_ INNER JOIN visits v1_ ON p0_.id = v1_.patient_id WHERE v1_.fee = $1
-- with: 50.00

INSERT INTO patients (id, clinic_id, first_name, last_name, email, weight) VALUES (80, 1, 'a', 'b', '', 1000000)

INSERT INTO patients (id, clinic_id, first_name, last_name, email) VALUES (80, 1, 'a', 'b', 'ada@example.com')

INSERT INTO patients (id, clinic_id, first_name, last_name, birth_date) VALUES (80, 1, 'a', 'b', 'yesterdayish')

INSERT INTO patients (id, clinic_id, first_name, last_name) VALUES (80, 1, NULL, 'b')

INSERT INTO patients (id, clinic_id, first_name, last_name, phone) VALUES (80, 1, 'a', 'b', '123456789012345678901')

UPDATE patients SET ssn = '123456789012' WHERE id = 1

SELECT * FROM patients WHERE birth_date = '2024-02-30'

SELECT "patients"."allergies", "patients"."insurance" FROM "patients" WHERE "patients"."allergies" @> $1 ORDER BY id
-- with: {nuts}

UPDATE patients SET email = lower($1) WHERE id = 1
-- with: ADA@EXAMPLE.COM

UPDATE patients SET email = trim('  a@example.com ') WHERE id = 1

INSERT INTO doctors (id, name, email, license) VALUES (90, 'gen', 'gen@example.com', gen_random_uuid())
-- refused: protected column "license" cannot be set to an expression | A value for public.doctors.license is sealed before the server sees it.

UPDATE patients SET birth_date = CURRENT_DATE WHERE id = 1

UPDATE patients SET weight = weight + 1 WHERE id = 1
-- refused: protected column "weight" cannot be used in an expression with + | public.patients.weight holds sealed values; PostgreSQL cannot compute on them.

UPDATE patients SET email = phone WHERE id = 1
-- refused: values of column "phone" cannot be stored in protected column "email" | public.patients.email: their equality terms are made differently.

UPDATE patients SET first_name = last_name, last_name = first_name WHERE id = 1
-- refused: values of column "last_name" cannot be stored in protected column "first_name" | public.patients.first_name: their equality terms are made differently.

SELECT * FROM patients WHERE email = lower($1)
-- with: ADA@EXAMPLE.COM

SELECT * FROM patients WHERE email = trim(both ' ' from $1)
-- with:  ada@example.com 

SELECT id FROM patients WHERE birth_date = CURRENT_DATE

SELECT id FROM patients WHERE birth_date = DATE '1815-12-10' AND weight IS NOT NULL

SELECT p.id FROM patients p WHERE p.email = (SELECT d.email FROM doctors d WHERE d.id = 2)

SELECT p.id FROM patients p WHERE (SELECT d.name FROM doctors d WHERE d.email = p.email) IS NOT NULL
