# A condition on a protected column leaves out the rows that an outer join padded, as PostgreSQL does on plaintext.
-- policy --
public.people  scope = "platform"  mail: text, search = ["equality"], equality_group = "mails"
public.orders  scope = "platform"  mail: text, search = ["equality"], equality_group = "mails"
-- setup directly: create table people (id int primary key, mail text); create table orders (id int primary key, mail text) --
-- as app: insert into people values (1, 'ada'), (2, null), (3, 'eve') --
INSERT 0 3
-- as app: insert into orders values (1, 'ada'), (2, 'bob'), (3, null) --
INSERT 0 3
-- as app: select p.id, o.id from people p full join orders o on o.id > p.id where o.mail = 'bob' order by 1 --
1|2
-- as app: select p.id, o.id from people p full join orders o on p.mail = p.mail where o.mail in ('ada', 'bob') and p.mail = o.mail order by 1 --
1|1
-- as app: select p.id, o.id from people p left join orders o on o.id = p.id where o.mail <> 'ada' or o.mail is null order by 1 --
2|2
3|3
