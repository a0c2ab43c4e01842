# Rows are found by their plaintext, in every spelling of equality, though the table holds none.
-- policy --
public.people  scope = "platform"  email: text, search = ["equality"]  age: int4, search = ["equality"]
-- setup directly: create table people (id int, email text, age int) --
-- as app: insert into people values (1, 'ada@example.com', 36), (2, 'bob@example.com', 41), (3, null, null) --
INSERT 0 3
-- as app: select id from people where email = 'ada@example.com' --
1
-- as app: select id from people where 'bob@example.com' = email and age = 41 --
2
-- as app: select id from people where email in ('ada@example.com', 'bob@example.com') order by id --
1
2
-- as app: select id from people where email is distinct from 'ada@example.com' order by id --
2
3
-- as app: select id from people where email <> 'ada@example.com' --
2
-- as app: select id from people where age = '36'::smallint --
1
-- prepared as app: select id from people where email = any ($1) order by id -- params: '{ada@example.com,bob@example.com}' --
1
2
-- directly: select count(distinct email) from people --
2
