# EXPLAIN (PGVEIL) says how a statement would be rewritten, and why, or why it is refused; it runs nothing and shows no plaintext.
-- policy --
public.people  scope = "tenant:{tenant_id}"  email: text, search = ["equality"]  age: int4
-- setup directly: create table people (id int, tenant_id int, email text, age int) --
-- as app: explain (pgveil) select id, email from people where email = 'ada@example.com' and tenant_id = 7 --
decision|rewritten
sent|select id, email from public.people where pgveil.eq_term(email) = <equality term for public.people.email> and tenant_id = 7
literal|equality term for public.people.email, scope tenant:{value of the row}
result column 2|opened, of public.people.email, shown as text
-- as app: explain (pgveil, format json) insert into people values (1, 7, 'ada@example.com', 36) returning age --
[{"part":"decision","text":"rewritten"},{"part":"sent","text":"insert into public.people values (1, 7, <sealed value for public.people.email>, <sealed value for public.people.age>) returning age"},{"part":"literal","text":"sealed value for public.people.email, scope tenant:{value of the row}"},{"part":"literal","text":"sealed value for public.people.age, scope tenant:{value of the row}"},{"part":"result column 1","text":"opened, of public.people.age, shown as integer"},{"part":"note","text":"Values for public.people.email are sealed before they are sent."},{"part":"note","text":"Values for public.people.age are sealed before they are sent."}]
-- as app: explain (pgveil) select upper(email) from people --
decision|refused
error|0A000: protected column "email" cannot be used in function upper
detail|public.people.email holds sealed values; PostgreSQL cannot compute on them.
hint|Select the column as it is, or compare it for equality; compute the rest in the application.
see|docs/errors.md#expression-not-supported
-- as app: explain (pgveil) insert into people values (1, 7, 'x', 'secret') --
decision|refused
error|22P02: a literal is no value of its column's type
see|docs/errors.md#invalid-input
-- as app: explain (pgveil) select 1 --
decision|relayed as it is: it names nothing protected
-- as app: explain (pgveil, analyze) delete from people --
ERROR:  0A000: an option of EXPLAIN (PGVEIL) other than FORMAT TEXT or JSON is not supported in a statement that names something protected
LINE 1: explain (pgveil, analyze) delete from people
                         ^
HINT:  See docs/errors.md#statement-not-supported.
-- as app: begin \; select 1/0 \; rollback --
BEGIN
ERROR:  22012: division by zero
-- in one session as app:
begin;
select 1/0;
explain (pgveil) select email from people;
rollback;
prepare p as select id from people where email = $1 and tenant_id = $2;
explain (pgveil) execute p ('ada@example.com', 7);
select count(*) from people; --
BEGIN
ERROR:  22012: division by zero
ERROR:  25P02: current transaction is aborted, commands ignored until end of transaction block
ROLLBACK
PREPARE
decision|rewritten
sent|execute p (<equality term for public.people.email>, 7)
literal|equality term for public.people.email, scope tenant:{value of the row}
note|EXECUTE runs the prepared statement "p".
0
-- prepared as app: explain (pgveil) select email, age from people where email = $1 and tenant_id = $2 -- params: 'ada@example.com', '7' --
decision|rewritten
sent|select email, age from public.people where pgveil.eq_term(email) = $1 and tenant_id = $2
parameter $1|equality term for public.people.email, scope tenant:{value of the row}
parameter $2|your $2, unchanged
result column 1|opened, of public.people.email, shown as text
result column 2|opened, of public.people.age, shown as integer
EXPLAIN
