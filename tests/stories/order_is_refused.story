# Ciphertext has no order: what would sort or compare it is refused, with what to do.
-- policy --
public.people  scope = "platform"  email: text, search = ["equality"]
-- setup directly: create table people (id int, email text) --
-- as app: insert into people values (1, 'b'), (2, 'a') --
INSERT 0 2
-- as app: select id from people order by email --
ERROR:  0A000: protected column "email" cannot be used in ORDER BY
LINE 1: select id from people order by email
                                       ^
DETAIL:  public.people.email has no order that PostgreSQL could use.
HINT:  Order or compare the rows in the application, or by a column that is not protected. See docs/errors.md#ordering-not-supported.
-- as app: select id from people where email < 'b' --
ERROR:  0A000: protected column "email" cannot be used in an order comparison
LINE 1: select id from people where email < 'b'
                                    ^
DETAIL:  public.people.email has no order that PostgreSQL could use.
HINT:  Order or compare the rows in the application, or by a column that is not protected. See docs/errors.md#ordering-not-supported.
-- as app: select min(email) from people --
ERROR:  0A000: protected column "email" cannot be used in function min
LINE 1: select min(email) from people
                   ^
DETAIL:  public.people.email has no order that PostgreSQL could use.
HINT:  Order or compare the rows in the application, or by a column that is not protected. See docs/errors.md#ordering-not-supported.
-- as app: select id, email from people order by id --
1|b
2|a
