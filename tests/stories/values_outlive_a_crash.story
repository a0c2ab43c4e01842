# What was acknowledged is there after pgveil was killed, and is found by its plaintext.
-- policy --
public.people  scope = "tenant:{tenant}"  email: text, search = ["equality"]
-- setup directly: create table people (id int, tenant text, email text) --
-- as app: insert into people values (1, 'acme', 'ada@example.com') --
INSERT 0 1
-- restart --
-- as app: select email from people where tenant = 'acme' and email = 'ada@example.com' --
ada@example.com
-- as app: insert into people values (2, 'acme', 'bob@example.com') --
INSERT 0 1
-- directly: select count(distinct substr(email, 9, 8)) from people --
1
