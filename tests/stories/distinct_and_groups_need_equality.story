# DISTINCT and GROUP BY go by value where the policy gives equality, and are refused where it does not.
-- policy --
public.people  scope = "platform"  city: text, search = ["equality"]  name: text
-- setup directly: create table people (id int, city text, name text) --
-- as app: insert into people values (1, 'Paris', 'Ann'), (2, 'Rome', 'Ann'), (3, 'Paris', 'Bob') --
INSERT 0 3
-- as app: select count(distinct city) from people --
2
-- as app: select city, count(*) from people group by city order by count(*) --
Rome|1
Paris|2
-- as app: select distinct city from people where id <> 2 --
Paris
-- as app: select distinct name from people --
ERROR:  0A000: protected column "name" cannot be used in DISTINCT
LINE 1: select distinct name from people
        ^
DETAIL:  public.people.name has no equality terms.
HINT:  Add search = ["equality"] to the column in policy.toml and run pgveil apply. See docs/errors.md#equality-not-enabled.
-- as app: select name, count(*) from people group by name --
ERROR:  0A000: protected column "name" cannot be used in GROUP BY
LINE 1: select name, count(*) from people group by name
                                                   ^
DETAIL:  public.people.name has no equality terms.
HINT:  Add search = ["equality"] to the column in policy.toml and run pgveil apply. See docs/errors.md#equality-not-enabled.
-- as app: select id from people where name = 'Ann' --
ERROR:  0A000: protected column "name" cannot be used in a comparison
LINE 1: select id from people where name = 'Ann'
                                    ^
DETAIL:  public.people.name has no equality terms.
HINT:  Add search = ["equality"] to the column in policy.toml and run pgveil apply. See docs/errors.md#equality-not-enabled.
