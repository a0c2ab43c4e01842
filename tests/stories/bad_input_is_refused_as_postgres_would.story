# The server can no longer check the values, so pgveil does, in Postgres's own words and codes.
-- policy --
public.people  scope = "platform"
    age: int4
    born: date
    code: varchar(3)
    rate: numeric(4,1)
    id: uuid
    doc: jsonb
-- setup directly: create table people (age int, born date, code varchar(3), rate numeric(4,1), id uuid, doc jsonb) --
-- as app: insert into people (age) values ('old') --
ERROR:  22P02: invalid input syntax for type integer: "old"
LINE 1: insert into people (age) values ('old')
                                         ^
-- as app: insert into people (age) values (3000000000) --
ERROR:  22003: integer out of range
-- as app: insert into people (born) values ('2023-02-29') --
ERROR:  22008: date/time field value out of range: "2023-02-29"
LINE 1: insert into people (born) values ('2023-02-29')
                                          ^
-- as app: insert into people (code) values ('abcd') --
ERROR:  22001: value too long for type character varying(3)
-- as app: insert into people (code) values ('abc   ') --
INSERT 0 1
-- as app: insert into people (rate) values (1000) --
ERROR:  22003: numeric field overflow
DETAIL:  A field with precision 4, scale 1 must round to an absolute value less than 10^3.
-- as app: insert into people (id) values ('not-a-uuid') --
ERROR:  22P02: invalid input syntax for type uuid: "not-a-uuid"
LINE 1: insert into people (id) values ('not-a-uuid')
                                        ^
-- as app: insert into people (doc) values ('{"a": ') --
ERROR:  22P02: invalid input syntax for type json
LINE 1: insert into people (doc) values ('{"a": ')
                                         ^
DETAIL:  The input string ended unexpectedly.
-- prepared as app: insert into people (age) values ($1) -- params: 'old' --
ERROR:  22P02: invalid input syntax for type integer: "old"
-- as app: select count(*), count(code) from people --
1|1
