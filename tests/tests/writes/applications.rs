//! Statements as ORMs write them, to a table whose rows belong to tenants. Few of them name the tenant.

use anyhow::Result;

use crate::{refused_with, same, same_with};

type Statements<'a> = &'a [(&'a str, &'a [Option<&'a str>])];

#[test]
fn django() -> Result<()> {
    let statements: Statements<'_> = &[
        (
            r#"INSERT INTO "accounts" ("id", "tenant_id", "email", "note", "pin", "title", "version") VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING "accounts"."id""#,
            &[
                Some("70"),
                Some("10"),
                Some("e"),
                Some("n"),
                Some("4"),
                Some("t"),
                Some("0"),
            ],
        ),
        (
            r#"INSERT INTO "accounts" ("id", "tenant_id", "email", "note", "pin", "title", "version") VALUES ($1, $2, $3, $4, $5, $6, $7), ($8, $9, $10, $11, $12, $13, $14) RETURNING "accounts"."id""#,
            &[
                Some("70"),
                Some("10"),
                Some("e"),
                None,
                None,
                None,
                Some("0"),
                Some("71"),
                Some("20"),
                Some("f"),
                Some("n"),
                Some("4"),
                Some("t"),
                Some("1"),
            ],
        ),
        (
            r#"INSERT INTO "accounts" ("id", "tenant_id", "note", "version") VALUES ($1, $2, $3, $4), ($5, $6, $7, $8) ON CONFLICT DO NOTHING"#,
            &[
                Some("1"),
                Some("10"),
                Some("e"),
                Some("0"),
                Some("71"),
                Some("20"),
                Some("f"),
                Some("1"),
            ],
        ),
        (
            r#"INSERT INTO "accounts" ("id", "tenant_id", "note", "version") VALUES ($1, $2, $3, $4), ($5, $6, $7, $8) ON CONFLICT("id") DO UPDATE SET "note" = EXCLUDED."note", "version" = EXCLUDED."version" RETURNING "accounts"."id""#,
            &[
                Some("1"),
                Some("10"),
                Some("e"),
                Some("0"),
                Some("71"),
                Some("20"),
                Some("f"),
                Some("1"),
            ],
        ),
        (
            r#"UPDATE "accounts" SET "tenant_id" = $1, "email" = $2, "note" = $3, "pin" = $4, "title" = $5, "version" = $6, "handle" = NULL WHERE "accounts"."id" = $7"#,
            &[
                Some("20"),
                Some("e"),
                None,
                Some("3"),
                Some("t"),
                Some("1"),
                Some("1"),
            ],
        ),
        (
            r#"UPDATE "accounts" SET "note" = $1 WHERE "accounts"."id" = $2"#,
            &[Some("x"), Some("3")],
        ),
        (
            r#"UPDATE "accounts" SET "note" = $1 WHERE "accounts"."id" IN ($2, $3)"#,
            &[Some("x"), Some("3"), Some("1")],
        ),
        (
            r#"UPDATE "accounts" SET "note" = $1, "version" = ("accounts"."version" + $2) WHERE ("accounts"."title" = $3 AND NOT ("accounts"."id" = $4))"#,
            &[Some("x"), Some("1"), Some("a"), Some("9")],
        ),
        (
            r#"UPDATE "accounts" SET "note" = CASE WHEN ("accounts"."id" = $1) THEN $2 WHEN ("accounts"."id" = $3) THEN $4 ELSE NULL END WHERE "accounts"."id" IN ($5, $6)"#,
            &[
                Some("1"),
                Some("x"),
                Some("3"),
                Some("y"),
                Some("1"),
                Some("3"),
            ],
        ),
        (
            r#"UPDATE "accounts" SET "note" = CASE WHEN ("accounts"."id" = $1) THEN $2 WHEN ("accounts"."id" = $3) THEN $4 ELSE NULL END::text WHERE "accounts"."id" IN ($5, $6)"#,
            &[
                Some("1"),
                Some("x"),
                Some("3"),
                Some("y"),
                Some("1"),
                Some("3"),
            ],
        ),
        (
            r#"UPDATE "accounts" SET "pin" = (CASE WHEN ("accounts"."id" = $1) THEN $2::integer ELSE NULL END)::integer WHERE "accounts"."id" IN ($3)"#,
            &[Some("1"), Some("6"), Some("1")],
        ),
        (
            r#"UPDATE "accounts" SET "note" = $1 WHERE "accounts"."id" IN (SELECT U0."id" FROM "plain" U0 WHERE U0."n" > $2)"#,
            &[Some("x"), Some("5")],
        ),
        (
            r#"UPDATE "accounts" SET "note" = "accounts"."note" WHERE "accounts"."tenant_id" = $1"#,
            &[Some("10")],
        ),
        (
            r#"UPDATE "accounts" SET "note" = "accounts"."note" WHERE "accounts"."id" = $1"#,
            &[Some("1")],
        ),
        (
            r#"DELETE FROM "accounts" WHERE "accounts"."id" IN ($1, $2)"#,
            &[Some("1"), Some("3")],
        ),
        (
            r#"DELETE FROM "accounts" WHERE ("accounts"."tenant_id" = $1 AND "accounts"."email" = $2)"#,
            &[Some("10"), Some("ada")],
        ),
    ];
    same_with(statements)
}

#[test]
fn sqlalchemy() -> Result<()> {
    let statements: Statements<'_> = &[
        (
            "INSERT INTO accounts (id, tenant_id, email, note, pin, title, version) VALUES ($1::INTEGER, $2::INTEGER, $3::VARCHAR, $4::VARCHAR, $5::INTEGER, $6::VARCHAR, $7::INTEGER) RETURNING accounts.id",
            &[
                Some("70"),
                Some("10"),
                Some("e"),
                Some("n"),
                Some("4"),
                Some("t"),
                Some("0"),
            ],
        ),
        (
            "UPDATE accounts SET note=$1::VARCHAR WHERE accounts.id = $2::INTEGER",
            &[Some("x"), Some("3")],
        ),
        (
            "UPDATE accounts SET note=$1::VARCHAR, version=$2::INTEGER WHERE accounts.id = $3::INTEGER AND accounts.version = $4::INTEGER",
            &[Some("x"), Some("1"), Some("3"), Some("0")],
        ),
        (
            "UPDATE accounts SET note=$1::VARCHAR, version=(accounts.version + $2::INTEGER) WHERE accounts.id = $3::INTEGER RETURNING accounts.id, accounts.version",
            &[Some("x"), Some("1"), Some("3")],
        ),
        (
            "UPDATE accounts SET note=$1::VARCHAR FROM plain WHERE accounts.id = plain.id AND plain.name = $2::VARCHAR",
            &[Some("x"), Some("two")],
        ),
        (
            "INSERT INTO accounts (id, tenant_id, note) VALUES ($1::INTEGER, $2::INTEGER, $3::VARCHAR) ON CONFLICT (id) DO UPDATE SET note = excluded.note RETURNING accounts.id",
            &[Some("1"), Some("10"), Some("x")],
        ),
        (
            "INSERT INTO accounts (id, tenant_id, note) VALUES ($1::INTEGER, $2::INTEGER, $3::VARCHAR) ON CONFLICT (id) DO UPDATE SET note = $4::VARCHAR",
            &[Some("1"), Some("10"), Some("x"), Some("y")],
        ),
        (
            "INSERT INTO accounts (id, tenant_id, note) VALUES ($1::INTEGER, $2::INTEGER, $3::VARCHAR) ON CONFLICT ON CONSTRAINT accounts_pkey DO UPDATE SET note = excluded.note",
            &[Some("1"), Some("10"), Some("x")],
        ),
        (
            "DELETE FROM accounts USING plain WHERE plain.id = accounts.id AND plain.name = $1::VARCHAR RETURNING accounts.id, accounts.note",
            &[Some("two")],
        ),
        (
            "DELETE FROM accounts WHERE accounts.id = $1::INTEGER RETURNING accounts.email",
            &[Some("3")],
        ),
    ];
    same_with(statements)
}

#[test]
fn active_record() -> Result<()> {
    let statements: Statements<'_> = &[
        (
            r#"INSERT INTO "accounts" ("id", "tenant_id", "email", "note", "pin", "title", "version") VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING "id""#,
            &[
                Some("70"),
                Some("10"),
                Some("e"),
                Some("n"),
                Some("4"),
                Some("t"),
                Some("0"),
            ],
        ),
        (
            r#"UPDATE "accounts" SET "note" = $1 WHERE "accounts"."id" = $2"#,
            &[Some("x"), Some("3")],
        ),
        (
            r#"UPDATE "accounts" SET "note" = $1, "version" = $2 WHERE "accounts"."id" = $3 AND "accounts"."version" = $4"#,
            &[Some("x"), Some("1"), Some("3"), Some("0")],
        ),
        (
            r#"UPDATE "accounts" SET "note" = $1 WHERE "accounts"."title" = $2"#,
            &[Some("x"), Some("a")],
        ),
        (r#"UPDATE "accounts" SET "note" = $1"#, &[Some("x")]),
        (
            r#"UPDATE "accounts" SET "version" = COALESCE("accounts"."version", 0) + $1, "note" = $2 WHERE "accounts"."id" = $3"#,
            &[Some("1"), Some("x"), Some("3")],
        ),
        (
            r#"UPDATE "accounts" SET "note" = $1 WHERE "accounts"."id" IN (SELECT "accounts"."id" FROM "accounts" INNER JOIN "plain" ON "plain"."id" = "accounts"."id" WHERE "plain"."name" = $2)"#,
            &[Some("x"), Some("two")],
        ),
        (
            r#"UPDATE "accounts" SET "note" = $1 WHERE "accounts"."id" IN (SELECT "accounts"."id" FROM "accounts" WHERE "accounts"."tenant_id" = $2 ORDER BY "accounts"."id" ASC LIMIT $3)"#,
            &[Some("x"), Some("10"), Some("1")],
        ),
        (
            r#"INSERT INTO "accounts" ("id","tenant_id","note","version") VALUES ($1, $2, $3, $4), ($5, $6, $7, $8) ON CONFLICT ("id") DO UPDATE SET "note"=excluded."note","version"=excluded."version" RETURNING "id""#,
            &[
                Some("1"),
                Some("10"),
                Some("e"),
                Some("0"),
                Some("71"),
                Some("20"),
                Some("f"),
                Some("1"),
            ],
        ),
        (
            r#"INSERT INTO "accounts" ("id","tenant_id","note","version") VALUES ($1, $2, $3, $4) ON CONFLICT ("id") DO UPDATE SET "tenant_id"=excluded."tenant_id","note"=excluded."note","version"=excluded."version" RETURNING "id""#,
            &[Some("1"), Some("10"), Some("e"), Some("0")],
        ),
        (
            r#"INSERT INTO "accounts" ("id","tenant_id","email","note","pin","handle") VALUES ($1, $2, $3, $4, $5, NULL) ON CONFLICT ("id") DO UPDATE SET "tenant_id"=excluded."tenant_id","email"=excluded."email","note"=excluded."note","pin"=excluded."pin","handle"=excluded."handle" RETURNING "id""#,
            &[Some("1"), Some("20"), Some("e"), Some("f"), Some("3")],
        ),
        (
            r#"INSERT INTO "accounts" ("id","tenant_id","note") VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING "id""#,
            &[Some("1"), Some("10"), Some("e")],
        ),
        (
            r#"DELETE FROM "accounts" WHERE "accounts"."id" = $1"#,
            &[Some("3")],
        ),
    ];
    same_with(statements)
}

#[test]
fn hibernate_and_eclipselink() -> Result<()> {
    let statements: Statements<'_> = &[
        (
            "insert into accounts (email,note,pin,tenant_id,title,version,id) values ($1,$2,$3,$4,$5,$6,$7)",
            &[
                Some("e"),
                Some("n"),
                Some("4"),
                Some("10"),
                Some("t"),
                Some("0"),
                Some("70"),
            ],
        ),
        (
            "update accounts set email=$1,note=$2,pin=$3,tenant_id=$4,title=$5,version=$6,handle=null where id=$7 and version=$8",
            &[
                Some("e"),
                Some("n"),
                Some("4"),
                Some("20"),
                Some("t"),
                Some("1"),
                Some("1"),
                Some("0"),
            ],
        ),
        (
            "update accounts set email=$1,note=$2,pin=$3,title=$4,version=$5 where id=$6 and version=$7",
            &[
                Some("e"),
                Some("n"),
                Some("4"),
                Some("t"),
                Some("1"),
                Some("1"),
                Some("0"),
            ],
        ),
        (
            "update accounts set note=$1 where id=$2",
            &[Some("n"), Some("1")],
        ),
        (
            "update accounts a1_0 set note=$1 where a1_0.title=$2",
            &[Some("n"), Some("a")],
        ),
        (
            "update accounts set note=$1,version=version+1 where id in ($2,$3)",
            &[Some("n"), Some("1"), Some("5")],
        ),
        (
            "update accounts set note=cast($1 as text) where id=$2",
            &[Some("n"), Some("1")],
        ),
        (
            "insert into accounts as a (id,tenant_id,note) values ($1,$2,$3) on conflict(id) do update set note=excluded.note",
            &[Some("1"), Some("10"), Some("n")],
        ),
        (
            "delete from accounts where id=$1 and version=$2",
            &[Some("1"), Some("0")],
        ),
        (
            "UPDATE ACCOUNTS SET NOTE = $1, VERSION = $2 WHERE ((ID = $3) AND (VERSION = $4))",
            &[Some("n"), Some("1"), Some("1"), Some("0")],
        ),
    ];
    same_with(statements)
}

#[test]
fn prisma_typeorm_and_sequelize() -> Result<()> {
    let statements: Statements<'_> = &[
        (
            r#"INSERT INTO "public"."accounts" ("id","tenant_id","email","note","pin","title","version") VALUES ($1,$2,$3,$4,$5,$6,$7) RETURNING "public"."accounts"."id", "public"."accounts"."note""#,
            &[
                Some("70"),
                Some("10"),
                Some("e"),
                Some("n"),
                Some("4"),
                Some("t"),
                Some("0"),
            ],
        ),
        (
            r#"UPDATE "public"."accounts" SET "note" = $1 WHERE ("public"."accounts"."id" = $2 AND 1=1) RETURNING "public"."accounts"."id", "public"."accounts"."note""#,
            &[Some("x"), Some("3")],
        ),
        (
            r#"UPDATE "public"."accounts" SET "note" = $1 WHERE ("public"."accounts"."id" IN ($2,$3) AND "public"."accounts"."title" = $4)"#,
            &[Some("x"), Some("1"), Some("5"), Some("a")],
        ),
        (
            r#"UPDATE "public"."accounts" SET "note" = $1, "version" = ("version" + $2) WHERE 1=1"#,
            &[Some("x"), Some("1")],
        ),
        (
            r#"INSERT INTO "public"."accounts" ("id","tenant_id","note") VALUES ($1,$2,$3) ON CONFLICT ("id") DO UPDATE SET "note" = $4 WHERE ("public"."accounts"."id" = $5 AND 1=1) RETURNING "public"."accounts"."id""#,
            &[Some("1"), Some("10"), Some("n"), Some("m"), Some("1")],
        ),
        (
            r#"INSERT INTO "public"."accounts" ("id","tenant_id","note") VALUES ($1,$2,$3), ($4,$5,DEFAULT) ON CONFLICT DO NOTHING"#,
            &[Some("70"), Some("10"), Some("n"), Some("71"), Some("20")],
        ),
        (
            r#"DELETE FROM "public"."accounts" WHERE ("public"."accounts"."id" IN ($1) AND 1=1)"#,
            &[Some("3")],
        ),
        (
            r#"INSERT INTO "accounts"("id", "tenant_id", "email", "note", "pin", "title", "version") VALUES ($1, $2, $3, DEFAULT, $4, $5, DEFAULT) RETURNING "id", "version""#,
            &[Some("70"), Some("10"), Some("e"), Some("4"), Some("t")],
        ),
        (
            r#"UPDATE "accounts" SET "note" = $1 WHERE "id" IN ($2)"#,
            &[Some("x"), Some("3")],
        ),
        (
            r#"UPDATE "accounts" SET "note"=$1,"version"=$2 WHERE "id" = $3 RETURNING "id","tenant_id","email","note","pin","title","version""#,
            &[Some("x"), Some("1"), Some("3")],
        ),
        (
            r#"INSERT INTO "accounts" ("id","tenant_id","note") VALUES ($1,$2,$3) ON CONFLICT ("id") DO UPDATE SET "id"=EXCLUDED."id","note"=EXCLUDED."note" RETURNING "id","note""#,
            &[Some("1"), Some("10"), Some("n")],
        ),
        (
            r#"UPDATE "accounts" SET "note" = $1 FROM (SELECT "id" FROM "accounts" WHERE "title" = $2 FOR UPDATE) AS "s0" WHERE "s0"."id" = "accounts"."id""#,
            &[Some("x"), Some("a")],
        ),
    ];
    same_with(statements)
}

#[test]
fn ecto_gorm_diesel_and_jooq() -> Result<()> {
    let statements: Statements<'_> = &[
        (
            r#"INSERT INTO "accounts" ("id","tenant_id","note","pin") VALUES ($1,$2,$3,$4)"#,
            &[Some("70"), Some("10"), Some("n"), Some("4")],
        ),
        (
            r#"UPDATE "accounts" SET "note" = $1 WHERE "id" = $2"#,
            &[Some("x"), Some("3")],
        ),
        (
            r#"UPDATE "accounts" AS a0 SET "note" = $1 WHERE (a0."title" = $2)"#,
            &[Some("x"), Some("a")],
        ),
        (
            r#"UPDATE "accounts" AS a0 SET "note" = $1 FROM "plain" AS p1 WHERE (p1."id" = a0."id") AND (p1."n" > $2) RETURNING a0."id", a0."note""#,
            &[Some("x"), Some("5")],
        ),
        (
            r#"INSERT INTO "accounts" AS a0 ("id","tenant_id","note") VALUES ($1,$2,$3),($4,$5,$6) ON CONFLICT ("id") DO UPDATE SET "note" = EXCLUDED."note" RETURNING "id""#,
            &[
                Some("1"),
                Some("10"),
                Some("n"),
                Some("71"),
                Some("20"),
                Some("m"),
            ],
        ),
        (
            r#"INSERT INTO "accounts" AS a0 ("id","tenant_id","note") VALUES ($1,$2,$3) ON CONFLICT ("id") DO UPDATE SET "note" = $4"#,
            &[Some("1"), Some("10"), Some("n"), Some("m")],
        ),
        (
            r#"INSERT INTO "accounts" ("id","tenant_id","note") VALUES ($1,$2,$3) ON CONFLICT ("id") DO UPDATE SET "tenant_id"="excluded"."tenant_id","note"="excluded"."note""#,
            &[Some("1"), Some("10"), Some("n")],
        ),
        (
            r#"DELETE FROM "accounts" AS a0 USING "plain" AS p1 WHERE (p1."id" = a0."id") AND (p1."n" > $1)"#,
            &[Some("5")],
        ),
        (
            r#"UPDATE "accounts" SET "note"=$1,"version"=$2 WHERE "accounts"."title" = $3 AND "id" = $4"#,
            &[Some("x"), Some("1"), Some("a"), Some("1")],
        ),
        (
            r#"update "public"."accounts" set "note" = $1, "title" = $2 where "public"."accounts"."id" = $3 returning "public"."accounts"."id""#,
            &[Some("x"), Some("t"), Some("1")],
        ),
        (
            r#"update "public"."accounts" set ("note", "title") = row ($1, $2) where "public"."accounts"."id" = $3"#,
            &[Some("x"), Some("t"), Some("1")],
        ),
        (
            r#"WITH "ids" AS (SELECT "id" FROM "accounts" WHERE "title" = $1 LIMIT 1 FOR UPDATE SKIP LOCKED) UPDATE "accounts" AS "a" SET "note" = $2 FROM "ids" WHERE "a"."id" = "ids"."id" RETURNING "a"."id", "a"."note""#,
            &[Some("a"), Some("x")],
        ),
    ];
    same_with(statements)
}

#[test]
fn rows_of_values_and_parameters() -> Result<()> {
    let statements: Statements<'_> = &[
        (
            "with s (id,tenant_id,note) as (values ($1::int,$2::int,$3)) insert into accounts (id,tenant_id,note) select id,tenant_id,note from s",
            &[Some("70"), Some("10"), Some("n")],
        ),
        (
            "UPDATE accounts SET note=v.note FROM (VALUES ($1::INTEGER, $2::VARCHAR), ($3::INTEGER, $4::VARCHAR)) AS v (id, note) WHERE accounts.id = v.id",
            &[Some("1"), Some("x"), Some("3"), Some("y")],
        ),
        (
            r#"UPDATE "accounts" SET "note" = "excluded"."note" FROM (SELECT $1::int AS "id", $2::text AS "note") AS "excluded" WHERE "accounts"."id" = "excluded"."id""#,
            &[Some("1"), Some("x")],
        ),
    ];
    same_with(statements)
}

#[test]
fn what_applications_send_and_is_refused() -> Result<()> {
    let statements: Statements<'_> = &[
        (
            "INSERT INTO accounts (id, tenant_id, note) SELECT p0::INTEGER, p1::INTEGER, p2::VARCHAR FROM (VALUES ($1, $2, $3, 0), ($4, $5, $6, 1)) AS imp_sen(p0, p1, p2, sen_counter) ORDER BY sen_counter RETURNING accounts.id, accounts.id AS id__1",
            &[
                Some("70"),
                Some("10"),
                Some("n"),
                Some("71"),
                Some("20"),
                Some("m"),
            ],
        ),
        (
            r#"INSERT INTO "accounts" ("id","tenant_id","note") (SELECT sp0."id" + 100, sp0."tenant_id", $1 FROM "plain" AS sp0)"#,
            &[Some("n")],
        ),
        (
            r#"INSERT INTO "accounts"("id", "tenant_id", "note") VALUES ($1, $2, $3) ON CONFLICT ( "id" ) DO UPDATE SET "note" = EXCLUDED."note" WHERE ("accounts"."note" IS DISTINCT FROM EXCLUDED."note") RETURNING "version""#,
            &[Some("1"), Some("10"), Some("n")],
        ),
    ];
    refused_with(statements)
}

#[test]
fn djangos_bulk_create_of_several_tenants() -> Result<()> {
    same(&[
        "INSERT INTO accounts (id, tenant_id, email, note, pin) SELECT * FROM UNNEST(('{70,71,72}'::int2[])::integer[], ('{10,20,30}'::int2[])::integer[], ('{a,NULL,\"c d\"}'::text[])::varchar(20)[], ('{x,y,z}'::text[])::text[], ('{1,2,NULL}'::int2[])::integer[]) RETURNING *",
    ])
}
