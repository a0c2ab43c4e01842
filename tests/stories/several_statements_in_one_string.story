# A string of several statements is one transaction, with each statement rewritten in place.
-- policy --
public.people  scope = "platform"  email: text, search = ["equality"]
-- setup directly: create table people (id int, email text) --
-- as app: insert into people values (1, 'a;b') \; select email from people where email = 'a;b' \; select 'c' --
INSERT 0 1
a;b
c
-- as app: insert into people values (2, 'second') \; select upper(email) from people --
INSERT 0 1
ERROR:  0A000: protected column "email" cannot be used in function upper
LINE 1: ...t into people values (2, 'second') ; select upper(email) fro...
                                                             ^
DETAIL:  public.people.email holds sealed values; PostgreSQL cannot compute on them.
HINT:  Select the column as it is, or compare it for equality; compute the rest in the application. See docs/errors.md#expression-not-supported.
-- as app: select count(*) from people --
1
-- as app: insert into people values (3, 'third') \; select 1/0 --
INSERT 0 1
ERROR:  22012: division by zero
-- as app: select count(*) from people --
1
