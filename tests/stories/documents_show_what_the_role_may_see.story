# Arrays, rows and JSON documents hold sealed values; each is opened, masked or hidden by the policy of its own column.
-- policy --
public.people  scope = "platform"
    email: text, search = ["equality"], reveal = ["support"], mask = { keep_last = 8 }
    pin: int4, reveal = ["support"]
    seen: timestamptz
-- setup directly: create table people (id int, email text, pin int4, seen timestamptz, name text);
grant select, insert on people to support;
grant select on people to analyst; --
-- as support: insert into people values (1, 'ada@example.com', 1234, '2020-02-29 12:00:00+00', 'Ada'), (2, null, null, null, 'Bob') --
INSERT 0 2
-- as support: select json_agg(p order by id) from people p --
[{"id":1,"email":"ada@example.com","pin":1234,"seen":"2020-02-29T12:00:00+00:00","name":"Ada"}, 
 {"id":2,"email":null,"pin":null,"seen":null,"name":"Bob"}]
-- as analyst: select json_agg(p order by id) from people p --
[{"id":1,"email":"*******mple.com","pin":null,"seen":"2020-02-29T12:00:00+00:00","name":"Ada"}, 
 {"id":2,"email":null,"pin":null,"seen":null,"name":"Bob"}]
-- as analyst: select to_jsonb(p), array_agg(email) over (order by id), array_agg(pin) over (order by id) from people p order by id --
{"id": 1, "pin": null, "name": "Ada", "seen": "2020-02-29T12:00:00+00:00", "email": "*******mple.com"}|{*******mple.com}|{NULL}
{"id": 2, "pin": null, "name": "Bob", "seen": null, "email": null}|{*******mple.com,NULL}|{NULL,NULL}
-- as analyst: select p, row(email, pin, name) from people p order by id --
(1,*******mple.com,,"2020-02-29 12:00:00+00",Ada)|(*******mple.com,,Ada)
(2,,,,Bob)|(,,Bob)
-- as analyst: select unnest(array_agg(email order by id)) from people --
*******mple.com
(null)
-- prepared as analyst: select jsonb_agg(email) from people where email = $1 -- params: 'ada@example.com' --
["*******mple.com"]
-- as support: select row_to_json(p) ->> 'email' from people p --
ERROR:  0A000: a JSON document that holds protected column "email" cannot be used in an expression with ->>
LINE 1: select row_to_json(p) ->> 'email' from people p
               ^
DETAIL:  Values of public.people.email in it are sealed; PostgreSQL cannot compute on them.
HINT:  Select it as it is, and compute the rest in the application. See docs/errors.md#holder-not-supported.
-- in one session as support: set bytea_output = 'escape';
set timezone = 'America/New_York';
select to_json(p), to_jsonb(p), p, array_agg(email) over (order by id) from people p order by id; --
SET
SET
{"id":1,"email":"ada@example.com","pin":1234,"seen":"2020-02-29T07:00:00-05:00","name":"Ada"}|{"id": 1, "pin": 1234, "name": "Ada", "seen": "2020-02-29T07:00:00-05:00", "email": "ada@example.com"}|(1,ada@example.com,1234,"2020-02-29 07:00:00-05",Ada)|{ada@example.com}
{"id":2,"email":null,"pin":null,"seen":null,"name":"Bob"}|{"id": 2, "pin": null, "name": "Bob", "seen": null, "email": null}|(2,,,,Bob)|{ada@example.com,NULL}
-- directly: select left(json_agg(email order by id)::text, 14) from people --
["\\x504756010
-- directly: update people set name = left(email::text, 40) where id = 1 --
UPDATE 1
-- as support: select row_to_json(p) from people p where id = 1 --
ERROR:  PV003: the result holds a sealed value in a column that is not protected
DETAIL:  It is not shown: the statement read a protected column in a way that pgveil could not follow.
HINT:  Read the protected column by name. See docs/errors.md#stray-ciphertext.
-- as support: select p from people p where id = 1 --
ERROR:  PV003: the result holds a sealed value in a column that is not protected
DETAIL:  It is not shown: the statement read a protected column in a way that pgveil could not follow.
HINT:  Read the protected column by name. See docs/errors.md#stray-ciphertext.
