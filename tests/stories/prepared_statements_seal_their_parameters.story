# The extended protocol seals parameters on the way in and opens values on the way out.
-- policy --
public.people  scope = "platform"  email: text, search = ["equality"]  born: date
-- setup directly: create table people (id int primary key, email text, born date) --
-- prepared as app: insert into people values ($1, $2, $3) returning * -- params: 1, 'ada@example.com', '10 Dec 1815' --
1|ada@example.com|1815-12-10
INSERT 0 1
-- prepared as app: insert into people values ($1, $2, $3) -- params: 2, null, null --
INSERT 0 1
-- prepared as app: select * from people where email = $1 -- params: 'ada@example.com' --
1|ada@example.com|1815-12-10
-- prepared as app: update people set email = $2 where email = $1 returning email -- params: 'ada@example.com', 'lovelace@example.com' --
lovelace@example.com
UPDATE 1
-- prepared as app: select id from people where email is not distinct from $1 -- params: null --
2
-- prepared as app: insert into people values (3, $1, null) -- params: 'it''s' --
INSERT 0 1
-- prepared as app: select email from people where id = 3 --
it's
