# An analyst sees masked e-mails; the table holds only ciphertext; support sees the truth.
-- policy --
public.people  scope = "platform"   email: text, search = ["equality"], reveal = ["support"], mask = { keep_last = 8 }
-- setup directly: create table people (id int, email text);
grant select, insert on people to support;
grant select on people to analyst; --
-- as support: insert into people values (1, 'ada@example.com') --
INSERT 0 1
-- as support: select email from people where email = 'ada@example.com' --
ada@example.com
-- as analyst: select email from people where email = 'ada@example.com' --
*******mple.com
-- prepared as analyst: select id, email from people where email = $1 -- params: 'ada@example.com' --
1|*******mple.com
-- directly: select substr(email, 1, 4) from people --
\x50475601
-- directly: select count(*) from people where position('ada'::bytea in email) > 0 or position('example'::bytea in email) > 0 --
0
