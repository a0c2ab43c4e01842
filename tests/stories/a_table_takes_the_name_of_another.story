# A table that takes a name of the policy holds what it held: values that were sealed for other columns are never taken for its own.
-- policy --
public.people  scope = "platform"  email: text, search = ["equality"]
public.leads  scope = "platform"  email: text, search = ["equality"]
-- setup directly: create table people (id int, email text); create table leads (id int, email text) --
-- as app: insert into leads values (1, 'ada@example.com') --
INSERT 0 1
-- as app: create table copy as select * from leads --
SELECT 1
-- as app: drop table people --
DROP TABLE
-- as app: alter table copy rename to people --
ERROR:  0A000: "copy" holds sealed values and cannot become "public.people", which the policy names
LINE 1: alter table copy rename to people
                                   ^
DETAIL:  Its values may have been sealed for other columns: searches would not find them.
HINT:  CREATE TABLE people, and move the rows with INSERT ... SELECT. See docs/errors.md#value-not-movable.
-- as app: begin; create table other as select * from leads; alter table other rename to people; rollback --
BEGIN
SELECT 1
ERROR:  0A000: "other" holds sealed values and cannot become "public.people", which the policy names
LINE 1: alter table other rename to people;
                                    ^
DETAIL:  Its values may have been sealed for other columns: searches would not find them.
HINT:  CREATE TABLE people, and move the rows with INSERT ... SELECT. See docs/errors.md#value-not-movable.
ROLLBACK
-- directly: alter table copy rename to people --
ALTER TABLE
-- restart --
-- as app: select id from people where email = 'ada@example.com' --
ERROR:  0A000: column "email" of table "people" is not the one that was registered under its name
LINE 1: select id from people where email = 'ada@example.com'
                       ^
DETAIL:  Another column has taken the name, and it holds values that were sealed for other columns, or could not be looked at: searches would not find them.
HINT:  Rename the table, create it anew, and move its rows with INSERT ... SELECT. See docs/errors.md#column-not-recognised.
-- as app: select * from people --
ERROR:  0A000: column "email" of table "people" is not the one that was registered under its name
LINE 1: select * from people
                      ^
DETAIL:  Another column has taken the name, and it holds values that were sealed for other columns, or could not be looked at: searches would not find them.
HINT:  Rename the table, create it anew, and move its rows with INSERT ... SELECT. See docs/errors.md#column-not-recognised.
-- pgveil check --
warning: policy.toml:2:8: public.people has no index on search terms (pgveil.eq_term(email))
    cure: run `pgveil apply`
policy.toml:4:1: public.people.email is not the column that was registered under its name, and holds values that were sealed for others, or could not be looked at
    cure: rename its table, create the table anew through pgveil, and move the rows with INSERT ... SELECT; or let the keystore's role look at its rows
pgveil: 1 error found
exit code 1
-- directly: alter table people rename to copy --
ALTER TABLE
-- as app: create table people (id int, email text) --
CREATE TABLE
-- as app: insert into people values (2, 'ada@example.com') --
INSERT 0 1
-- as app: select id from people where email = 'ada@example.com' --
2
-- as app: create table kept as select * from people --
SELECT 1
-- as app: drop table people --
DROP TABLE
-- directly: alter table kept rename to people --
ALTER TABLE
-- restart --
-- as app: select id from people where email = 'ada@example.com' --
2
-- as app: begin; drop table people; create table people (id int, email text); insert into people values (3, 'ada@example.com'); commit --
BEGIN
DROP TABLE
CREATE TABLE
INSERT 0 1
COMMIT
-- as app: select id from people where email = 'ada@example.com' --
3
-- as app: insert into people select * from leads --
ERROR:  0A000: values of column "email" cannot be stored in protected column "email"
LINE 1: insert into people select * from leads
        ^
DETAIL:  public.people.email: their equality terms are made differently.
HINT:  Move values between columns of one type, equality_group and scope, or read and write them in the application. See docs/errors.md#value-not-movable.
