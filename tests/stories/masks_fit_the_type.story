# Who may not see a value gets its mask, or NULL; what is NULL stays NULL; nothing else tells the value.
-- policy --
public.people  scope = "platform"
    card: varchar(19), reveal = ["app"], mask = { keep_last = 4 }
    name: text, reveal = ["app"], mask = { keep_first = 1 }
    born: date, reveal = ["app"]
    notes: jsonb, reveal = []
-- setup directly: create table people (id int, card varchar(19), name text, born date, notes jsonb);
grant select, insert, update on people to analyst; --
-- as app: insert into people values (1, '1234-5678-9012-3456', 'Ünal', '2001-02-03', '{"a": 1}'), (2, null, '', null, null), (3, '123', 'x', null, null) --
INSERT 0 3
-- as app: select * from people order by id --
1|1234-5678-9012-3456|Ünal|2001-02-03|(null)
2|(null)||(null)|(null)
3|123|x|(null)|(null)
-- as analyst: select * from people order by id --
1|***************3456|Ü***|(null)|(null)
2|(null)||(null)|(null)
3|123|x|(null)|(null)
-- directly as postgres: grant analyst to app --
GRANT ROLE
-- in one session as app: set role analyst;
select card, name from people where id = 1;
reset role;
select card, name from people where id = 1; --
SET
***************3456|Ü***
RESET
1234-5678-9012-3456|Ünal
-- as analyst: insert into people (id, name) values (4, 'written blind') returning id, name --
4|w************
INSERT 0 1
