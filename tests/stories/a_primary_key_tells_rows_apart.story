# Where the primary key is among what rows are told apart by, its table's other columns need no equality.
-- policy --
public.people  scope = "tenant:{tenant}"  name: text, search = ["equality"]  notes: jsonb
-- setup directly: create table people (id int primary key, tenant int, name text, notes jsonb); create table visits (person int) --
-- as app: insert into people values (1, 1, 'Ann', '{"a": 1}'), (2, 2, 'Ann', '{"a": 1}'), (3, 2, null, null) --
INSERT 0 3
-- as app: insert into visits values (1), (1), (2) --
INSERT 0 3
-- as app: select p.id, p.name, p.notes, count(v.person) from people p left join visits v on v.person = p.id group by p.id, p.name, p.notes order by p.id --
1|Ann|{"a": 1}|2
2|Ann|{"a": 1}|1
3|(null)|(null)|0
-- as app: select notes, id from people group by 1, 2 order by 2 --
{"a": 1}|1
{"a": 1}|2
(null)|3
-- as app: select distinct p.id, p.name, p.notes from people p join visits v on v.person = p.id order by p.id --
1|Ann|{"a": 1}
2|Ann|{"a": 1}
-- as app: select count(*) from (select distinct p.* from people p join visits v on v.person = p.id) s --
2
-- as app: select distinct p.notes, v.person from people p join visits v on v.person = p.id --
ERROR:  0A000: protected column "notes" cannot be used in DISTINCT
LINE 1: select distinct p.notes, v.person from people p join visits ...
        ^
DETAIL:  public.people.notes has no equality terms.
HINT:  Add search = ["equality"] to the column in policy.toml and run pgveil apply. See docs/errors.md#equality-not-enabled.
