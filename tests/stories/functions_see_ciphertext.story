# Functions of the database see ciphertext: what their bodies show is opened, nothing is shown as something else, and what they write is stopped.
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
ERROR:  0A000: function "texts" cannot be called through pgveil
LINE 1: select * from texts()
        ^
DETAIL:  Of its body pgveil says: protected column "email" cannot be used in a cast: public.people.email holds sealed values; PostgreSQL cannot compute on them.
HINT:  Create the function again through pgveil, or send the statements of its body. See docs/errors.md#relation-not-supported.
-- restart --
-- as app: select * from rows() --
1|ada@example.com
-- as app: select * from texts() --
ERROR:  0A000: function "texts" cannot be called through pgveil
LINE 1: select * from texts()
        ^
DETAIL:  Of its body pgveil says: protected column "email" cannot be used in a cast: public.people.email holds sealed values; PostgreSQL cannot compute on them.
HINT:  Create the function again through pgveil, or send the statements of its body. See docs/errors.md#relation-not-supported.
-- as app: select one() --
ada@example.com
-- as app: select find('ada@example.com') --
ERROR:  0A000: function "find" cannot be called through pgveil
LINE 1: select find('ada@example.com')
        ^
DETAIL:  Of its body pgveil says: protected column "email" cannot be compared with an expression: public.people.email: the other side is not protected.
HINT:  Create the function again through pgveil, or send the statements of its body. See docs/errors.md#relation-not-supported.
-- as app: call add(2, 'bob@example.com') --
ERROR:  0A000: function "add" cannot be called through pgveil
LINE 1: call add(2, 'bob@example.com')
        ^
DETAIL:  Of its body pgveil says: protected column "email" cannot be set to an expression: A value for public.people.email is sealed before the server sees it.
HINT:  Create the function again through pgveil, or send the statements of its body. See docs/errors.md#relation-not-supported.
-- as app: select same('bob@example.com') --
ERROR:  0A000: argument $1 of function "same" cannot be given this value
LINE 1: select same('bob@example.com')
                    ^
DETAIL:  It is a sealed value: one of the column that the body compares it with, or made for that of a literal or a parameter.
HINT:  Give a literal or a parameter, to a function whose body compares it. See docs/errors.md#value-not-constant.
-- as app: select same(email) from people --
ERROR:  0A000: argument $1 of function "same" cannot be given this value
LINE 1: select same(email) from people
                    ^
DETAIL:  It is a sealed value: one of the column that the body compares it with, or made for that of a literal or a parameter.
HINT:  Give a literal or a parameter, to a function whose body compares it. See docs/errors.md#value-not-constant.
-- as app: create function f() returns setof people language sql as 'select * from people' --
CREATE FUNCTION
-- as app: create function g() returns int language sql begin atomic select count(*)::int from people; end --
CREATE FUNCTION
-- as app: create function h() returns int language sql as 'select 1' --
CREATE FUNCTION
-- as app: select email from f() where email = 'ada@example.com' --
ada@example.com
-- as app: select g() --
1
-- directly: create procedure put(place text, value text) language plpgsql as 'begin execute format(''insert into %I values (3, %L)'', place, value); end' --
CREATE PROCEDURE
-- as app: call put('peo' || 'ple', 'carl@example.com') --
ERROR:  PV004: plaintext was to be stored where ciphertext must be
DETAIL:  The domain pgveil.sealed_text refused it.
HINT:  A function, trigger or rule writes the column; pgveil cannot seal what it writes. See docs/errors.md#plaintext-found.
