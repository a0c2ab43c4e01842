# What the policy does not name behaves as without pgveil.
-- policy --
public.people  scope = "platform"  email: text
-- setup directly: create table people (id int, email text); create table open (id int primary key, email text) --
-- as app: insert into open values (1, 'ada'), (2, 'bob') returning * --
1|ada
2|bob
INSERT 0 2
-- as app: select upper(email), email like 'a%' from open order by email desc --
BOB|f
ADA|t
-- as app: insert into open values (1, 'again') --
ERROR:  23505: duplicate key value violates unique constraint "open_pkey"
DETAIL:  Key (id)=(1) already exists.
SCHEMA NAME:  public
TABLE NAME:  open
CONSTRAINT NAME:  open_pkey
-- as app: select nope from open --
ERROR:  42703: column "nope" does not exist
LINE 1: select nope from open
               ^
-- as app: copy open to stdout --
1	ada
2	bob
-- as app: create view v as select email from open; select * from v; drop view v --
CREATE VIEW
ada
bob
DROP VIEW
-- as app: do $$ begin raise notice 'hello'; end $$ --
NOTICE:  00000: hello
DO
-- as app: select pg_get_constraintdef(oid) from pg_constraint where contypid = 'pgveil.sealed_text'::regtype --
CHECK (((octet_length(VALUE) >= 45) AND (substr(VALUE, 1, 4) = '\x50475601'::bytea)))
