# Functions of the database see ciphertext: what they read is not shown as something else, and what they write is stopped.
-- policy --
public.people  scope = "platform"  email: text, search = ["equality"]
-- setup directly: create table people (id int primary key, email text) --
-- as app: insert into people values (1, 'ada@example.com') --
INSERT 0 1
-- directly: create function rows() returns setof people language sql as 'select * from people'; create function texts() returns setof text language sql as 'select email::text from people'; create function one() returns pgveil.sealed_text language sql as 'select email from people limit 1'; create function same(pgveil.sealed_text) returns pgveil.sealed_text language sql as 'select $1'; create function find(text) returns int language plpgsql as 'begin return (select id from people where email = $1::bytea); end'; create procedure add(int, text) language plpgsql as 'begin insert into people values ($1, $2); end' --
CREATE FUNCTION
CREATE FUNCTION
CREATE FUNCTION
CREATE FUNCTION
CREATE FUNCTION
CREATE PROCEDURE
-- as app: select * from texts() --
ERROR:  PV003: the result holds a sealed value in a column that is not protected
DETAIL:  It is not shown: the statement read a protected column in a way that pgveil could not follow.
HINT:  Read the protected column by name. See docs/errors.md#stray-ciphertext.
-- restart --
-- as app: select * from rows() --
ERROR:  0A000: "rows" cannot be used through pgveil yet
LINE 1: select * from rows()
        ^
DETAIL:  It is a function that names a protected table.
HINT:  Name the protected table itself. See docs/errors.md#relation-not-supported.
-- as app: select * from texts() --
ERROR:  0A000: "texts" cannot be used through pgveil yet
LINE 1: select * from texts()
        ^
DETAIL:  It is a function that names a protected table.
HINT:  Name the protected table itself. See docs/errors.md#relation-not-supported.
-- as app: select one() --
ERROR:  0A000: "one" cannot be used through pgveil yet
LINE 1: select one()
        ^
DETAIL:  It is a function that names a protected table.
HINT:  Name the protected table itself. See docs/errors.md#relation-not-supported.
-- as app: select find('ada@example.com') --
ERROR:  0A000: "find" cannot be used through pgveil yet
LINE 1: select find('ada@example.com')
        ^
DETAIL:  It is a function that names a protected table.
HINT:  Name the protected table itself. See docs/errors.md#relation-not-supported.
-- as app: call add(2, 'bob@example.com') --
ERROR:  0A000: CALL is not supported in a statement that names something protected
LINE 1: call add(2, 'bob@example.com')
        ^
HINT:  See docs/errors.md#statement-not-supported.
-- as app: select same('bob@example.com') --
ERROR:  PV004: plaintext was to be stored where ciphertext must be
DETAIL:  The domain pgveil.sealed_text refused it.
HINT:  A function, trigger or rule writes the column; pgveil cannot seal what it writes. See docs/errors.md#plaintext-found.
-- as app: select same(email) from people --
ERROR:  0A000: protected column "email" cannot be used in function same
LINE 1: select same(email) from people
                    ^
DETAIL:  public.people.email holds sealed values; PostgreSQL cannot compute on them.
HINT:  Select the column as it is, or compare it for equality; compute the rest in the application. See docs/errors.md#expression-not-supported.
-- as app: create function f() returns setof people language sql as 'select * from people' --
ERROR:  0A000: SQL inside a string names something protected
LINE 1: ...function f() returns setof people language sql as 'select * ...
                                                             ^
DETAIL:  pgveil cannot change what the server will read out of the string.
HINT:  Send the statement itself. See docs/errors.md#dynamic-sql.
-- as app: create function f() returns int language sql begin atomic select count(*)::int from people; end --
ERROR:  0A000: CREATE is not supported in a statement that names something protected
LINE 1: create function f() returns int language sql begin atomic se...
        ^
HINT:  See docs/errors.md#statement-not-supported.
-- as app: create function f() returns int language sql as 'select 1' --
CREATE FUNCTION
