# A refused statement fails its transaction as any error does; savepoints bring it back.
-- policy --
public.people  scope = "platform"  email: text, search = ["equality"]
-- setup directly: create table people (id int, email text) --
-- in one session as app: begin;
insert into people values (1, 'lost@example.com');
select upper(email) from people;
select 1;
commit; --
BEGIN
INSERT 0 1
ERROR:  0A000: protected column "email" cannot be used in function upper
LINE 1: select upper(email) from people;
                     ^
DETAIL:  public.people.email holds sealed values; PostgreSQL cannot compute on them.
HINT:  Select the column as it is, or compare it for equality; compute the rest in the application. See docs/errors.md#expression-not-supported.
ERROR:  25P02: current transaction is aborted, commands ignored until end of transaction block
ROLLBACK
-- as app: select count(*) from people --
0
-- in one session as app: begin;
insert into people values (2, 'kept@example.com');
savepoint s;
select upper(email) from people;
rollback to s;
select email from people where email = 'kept@example.com';
commit; --
BEGIN
INSERT 0 1
SAVEPOINT
ERROR:  0A000: protected column "email" cannot be used in function upper
LINE 1: select upper(email) from people;
                     ^
DETAIL:  public.people.email holds sealed values; PostgreSQL cannot compute on them.
HINT:  Select the column as it is, or compare it for equality; compute the rest in the application. See docs/errors.md#expression-not-supported.
ROLLBACK
kept@example.com
COMMIT
-- as app: select id, email from people --
2|kept@example.com
