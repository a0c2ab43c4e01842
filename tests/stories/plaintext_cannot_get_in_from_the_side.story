# The database itself refuses plaintext for a protected column, whoever sends it.
-- policy --
public.people  scope = "platform"  email: text
-- setup directly: create table people (id int, email text) --
-- as app: insert into people values (1, 'ada@example.com') --
INSERT 0 1
-- directly: insert into people values (2, 'plaintext') --
ERROR:  23514: value for domain pgveil.sealed_text violates check constraint "sealed"
SCHEMA NAME:  pgveil
DATATYPE NAME:  sealed_text
CONSTRAINT NAME:  sealed
-- directly: update people set email = 'plaintext' --
ERROR:  23514: value for domain pgveil.sealed_text violates check constraint "sealed"
SCHEMA NAME:  pgveil
DATATYPE NAME:  sealed_text
CONSTRAINT NAME:  sealed
-- directly: copy people from stdin;
3	plaintext
\.
--
ERROR:  23514: value for domain pgveil.sealed_text violates check constraint "sealed"
SCHEMA NAME:  pgveil
DATATYPE NAME:  sealed_text
CONSTRAINT NAME:  sealed
-- directly: insert into people select 2, email from people --
INSERT 0 1
-- as app: select id, email from people order by id --
1|ada@example.com
2|ada@example.com
