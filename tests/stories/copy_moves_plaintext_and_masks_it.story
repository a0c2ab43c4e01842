# COPY moves plaintext in and out, masks it for those who may not see it, and leaves ciphertext in the table.
-- policy --
public.people  scope = "platform"   email: text, search = ["equality"], reveal = ["support"], mask = { keep_last = 8 }
-- setup directly: create table people (id int, email text);
grant select, insert on people to support;
grant select on people to analyst; --
-- as support: copy people from stdin;
1	ada@example.com
2	\N
\.
select count(*) from people --
COPY 2
2
-- as support: copy people to stdout --
1	ada@example.com
2	\N
-- as analyst: copy people to stdout --
1	*******mple.com
2	\N
-- as analyst: copy (select email, id from people where email = 'ada@example.com') to stdout csv header --
email,id
*******mple.com,1
-- as support: copy people to '/tmp/people' --
ERROR:  0A000: the server cannot write rows with protected columns to a file or program
LINE 1: copy people to '/tmp/people'
                       ^
DETAIL:  What the server reads and writes by itself would be plaintext in, ciphertext out.
HINT:  Use COPY ... TO STDOUT (in psql, \copy): the rows come through pgveil then. See docs/errors.md#copy-server-file.
-- directly: select substr(email, 1, 4) from people where id = 1 --
\x50475601
