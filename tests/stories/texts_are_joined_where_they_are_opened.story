# A select list joins names and addresses. The server sends the columns; who may not see one sees its mask, or NULL, in the text.
-- policy --
public.people  scope = "platform"
    first: text
    last: varchar(20), search = ["equality"], reveal = ["app"], mask = { keep_last = 2 }
    phone: text, reveal = ["app"]
-- setup directly: create table people (id int primary key, first text, last varchar(20), phone text, city text);
grant select, insert, update on people to analyst; --
-- as app: insert into people values (1, 'Ada', 'Lovelace', '555', 'London'), (2, 'Bob', null, null, null), (3, '', 'O"Neil, \', '(1)', 'a b') --
INSERT 0 3
-- as app: select first || ' ' || last as name, concat(first, ' ', last, ' ', phone) from people order by id --
Ada Lovelace|Ada Lovelace 555
(null)|Bob  
 O"Neil, \| O"Neil, \ (1)
-- as analyst: select first || ' ' || last as name, concat(first, ' ', last, ' ', phone) from people order by id --
Ada ******ce|Ada ******ce 
(null)|Bob  
 ******* \| ******* \
-- as app: select first || ' ' || last || ', ' || city || '#' || id from people where last = 'Lovelace' --
Ada Lovelace, London#1
-- as app: select coalesce(nullif(trim(first), ''), last) from people --
ERROR:  0A000: protected column "first" cannot be used in this expression
LINE 1: select coalesce(nullif(trim(first), ''), last) from people
                                    ^
DETAIL:  public.people.first holds sealed values; PostgreSQL cannot compute on them.
HINT:  Select the column as it is, or compare it for equality; compute the rest in the application. See docs/errors.md#expression-not-supported.
-- as app: select coalesce(last, '-') || coalesce(first, '-') from people order by id --
LovelaceAda
-Bob
O"Neil, \
-- as app: select city, concat_ws('/', first, last), count(*) from people group by id, city order by id --
London|Ada/Lovelace|1
(null)|Bob|1
a b|/O"Neil, \|1
-- as app: update people set last = 'King' where id = 1 returning replace(last, 'K', 'R') || '!' --
Ring!
UPDATE 1
-- as app: begin; declare c cursor for select first || '.' from people order by id; fetch 2 from c; commit --
BEGIN
DECLARE CURSOR
Ada.
Bob.
COMMIT
-- as app: prepare p as select last || '?' from people where last = $1; execute p ('King') --
PREPARE
King?
-- as app: create table names as select first || last as name from people --
ERROR:  0A000: protected column "first" cannot be used in an expression with ||
LINE 1: create table names as select first || last as name from peop...
                                     ^
DETAIL:  public.people.first holds sealed values; PostgreSQL cannot compute on them.
HINT:  Select the column as it is, or compare it for equality; compute the rest in the application. See docs/errors.md#expression-not-supported.
-- as app: copy (select first || last from people) to stdout --
\N
O"Neil, \\
AdaKing
-- as app: select first || last as name from people order by name --
ERROR:  0A000: a row that holds protected column "first" cannot be used in ORDER BY
LINE 1: select first || last as name from people order by name
                                                          ^
DETAIL:  Values of public.people.first in it are sealed; PostgreSQL cannot compute on them.
HINT:  Select it as it is, and compute the rest in the application. See docs/errors.md#holder-not-supported.
-- as app: select name from (select first || last as name from people) x --
ERROR:  0A000: protected column "first" cannot be used in an expression with ||
LINE 1: select name from (select first || last as name from people) ...
                                 ^
DETAIL:  public.people.first holds sealed values; PostgreSQL cannot compute on them.
HINT:  Select the column as it is, or compare it for equality; compute the rest in the application. See docs/errors.md#expression-not-supported.
-- as app: select lower(first) || last from people --
ERROR:  0A000: protected column "first" cannot be used in function lower
LINE 1: select lower(first) || last from people
                     ^
DETAIL:  public.people.first holds sealed values; PostgreSQL cannot compute on them.
HINT:  Select the column as it is, or compare it for equality; compute the rest in the application. See docs/errors.md#expression-not-supported.
-- directly: select count(*) from people where first::bytea::text like '\\x504756%' --
3
-- as app: select string_agg(last, '; ' order by id), string_agg(phone, ', ' order by id), left(max(city), 1) from people --
King; O"Neil, \|555, (1)|a
-- as analyst: select string_agg(last, '; ' order by id), string_agg(phone, ', ' order by id), left(max(city), 1) from people --
**ng; ******* \|(null)|a
-- as app: select left(first, 1) || '.' as initial, right(last, 4), split_part(last, '"', 2) from people order by id --
A.|King|
B.|(null)|(null)
.|l, \|Neil, \
-- as analyst: select left(first, 1) || '.' as initial, right(last, 4), substring(phone, 1, 2) from people order by id --
A.|**ng|(null)
B.|(null)|(null)
.|** \|(null)
-- as app: copy (select string_agg(last, E'\n' order by id) from people) to stdout --
King\nO"Neil, \\
