# Statements that SQL prepares and cursors that it declares hold ciphertext on the server and show plaintext to the session.
-- policy --
public.people  scope = "platform"  email: text, search = ["equality"], reveal = ["app"]
-- setup directly: create table people (id int, email text); grant select on people to analyst --
-- in one session as app:
prepare add (int, text) as insert into people values ($1, $2) returning *;
execute add (1, 'ada@example.com');
execute add (2, 'bob@example.com');
prepare found as select id from people where email = $1;
execute found ('bob@example.com');
execute found ('bob@' || 'example.com');
execute found (current_user || '@example.com');
select name, statement from pg_prepared_statements order by name;
begin;
declare everybody scroll cursor for select * from people order by id;
fetch all from everybody;
fetch prior from everybody;
close everybody;
declare bob cursor for select * from people where email = 'bob@example.com' for update;
move next in bob;
update people set email = 'robert@example.com' where current of bob;
execute found ('robert@example.com');
commit;
deallocate found;
execute found ('robert@example.com'); --
PREPARE
1|ada@example.com
INSERT 0 1
2|bob@example.com
INSERT 0 1
PREPARE
2
2
ERROR:  0A000: argument 1 of EXECUTE is used for a protected column and must be a literal
LINE 1: execute found (current_user || '@example.com');
                       ^
DETAIL:  Its value is sealed or made a search term before the server sees it.
HINT:  Give a literal of the parameter's type; compute the value in the application. See docs/errors.md#value-not-constant.
add|prepare add (int, pg_catalog.bytea) as insert into public.people values ($1, $2) returning *;
found|prepare found(pg_catalog.bytea) as select id from public.people where pgveil.eq_term(email) = $1;
BEGIN
DECLARE CURSOR
1|ada@example.com
2|bob@example.com
2|bob@example.com
CLOSE CURSOR
DECLARE CURSOR
MOVE 1
UPDATE 1
2
COMMIT
DEALLOCATE
ERROR:  26000: prepared statement "found" does not exist
-- in one session as analyst:
begin;
declare everybody cursor for select email from people order by id;
fetch all from everybody;
rollback; --
BEGIN
DECLARE CURSOR
(null)
(null)
ROLLBACK
-- directly: select id, substr(email, 1, 4) from people order by id --
1|\x50475601
2|\x50475601
