# A unique column stays unique, and ON CONFLICT finds the row by its plaintext.
-- policy --
public.people  scope = "platform"  email: text, search = ["equality"]
-- setup directly: create table people (id int, email text unique) --
-- as app: insert into people values (1, 'ada@example.com') --
INSERT 0 1
-- as app: insert into people values (2, 'ada@example.com') --
ERROR:  23505: duplicate key value violates unique constraint "people_email_key"
DETAIL:  Key (email) already exists.
SCHEMA NAME:  public
TABLE NAME:  people
CONSTRAINT NAME:  people_email_key
-- as app: insert into people values (2, 'ada@example.com') on conflict (email) do nothing --
INSERT 0 0
-- as app: insert into people values (3, 'ada@example.com') on conflict (email) do update set id = excluded.id returning id, email --
3|ada@example.com
INSERT 0 1
-- as app: insert into people values (4, null), (5, null) --
INSERT 0 2
-- as app: update people set email = 'ada@example.com' where id = 4 --
ERROR:  23505: duplicate key value violates unique constraint "people_email_key"
DETAIL:  Key (email) already exists.
SCHEMA NAME:  public
TABLE NAME:  people
CONSTRAINT NAME:  people_email_key
