# What would compute on ciphertext is refused, never answered wrong.
-- policy --
public.people  scope = "platform"  email: text, search = ["equality"]
-- setup directly: create table people (id int, email text, plain text) --
-- as app: insert into people values (1, 'ada@example.com', 'ada@example.com') --
INSERT 0 1
-- as app: select upper(email) from people --
ERROR:  0A000: protected column "email" cannot be used in function upper
LINE 1: select upper(email) from people
                     ^
DETAIL:  public.people.email holds sealed values; PostgreSQL cannot compute on them.
HINT:  Select the column as it is, or compare it for equality; compute the rest in the application. See docs/errors.md#expression-not-supported.
-- as app: select distinct email || '!' from people --
ERROR:  0A000: protected column "email" cannot be used in an expression with ||
LINE 1: select distinct email || '!' from people
                        ^
DETAIL:  public.people.email holds sealed values; PostgreSQL cannot compute on them.
HINT:  Select the column as it is, or compare it for equality; compute the rest in the application. See docs/errors.md#expression-not-supported.
-- as app: select id from people where email like 'ada%' --
ERROR:  0A000: protected column "email" cannot be used in a pattern match (LIKE)
LINE 1: select id from people where email like 'ada%'
                                    ^
DETAIL:  public.people.email holds sealed values; PostgreSQL cannot compute on them.
HINT:  Select the column as it is, or compare it for equality; compute the rest in the application. See docs/errors.md#expression-not-supported.
-- as app: select id from people where email = plain --
ERROR:  0A000: protected column "email" cannot be compared with column plain
LINE 1: select id from people where email = plain
                                    ^
DETAIL:  public.people.email: the other side is not protected.
HINT:  Compare it with a literal, a parameter, or a column of the same type, equality_group and search_key. See docs/errors.md#columns-not-comparable.
-- as app: select id from people where lower(email) = 'ada@example.com' --
ERROR:  0A000: protected column "email" cannot be used in function lower
LINE 1: select id from people where lower(email) = 'ada@example.com'
                                          ^
DETAIL:  public.people.email holds sealed values; PostgreSQL cannot compute on them.
HINT:  Select the column as it is, or compare it for equality; compute the rest in the application. See docs/errors.md#expression-not-supported.
-- as app: select email::varchar from people --
ada@example.com
-- as app: select email from people union select plain from people --
ERROR:  0A000: a set operation cannot combine protected column "email" with something that is not protected
LINE 1: select email from people union select plain from people
        ^
HINT:  Combine columns of the same logical type, or run the queries one by one. See docs/errors.md#set-operation-not-supported.
-- as app: update people set plain = email --
ERROR:  0A000: protected column "email" cannot be used in a value for column "plain"
LINE 1: update people set plain = email
                                  ^
DETAIL:  public.people.email holds sealed values; PostgreSQL cannot compute on them.
HINT:  Select the column as it is, or compare it for equality; compute the rest in the application. See docs/errors.md#expression-not-supported.
-- as app: update people set email = md5('x') --
ERROR:  0A000: protected column "email" cannot be set to an expression
LINE 1: update people set email = md5('x')
                                  ^
DETAIL:  A value for public.people.email is sealed before the server sees it.
HINT:  Give a literal or a parameter; compute the value in the application. See docs/errors.md#value-not-constant.
-- as app: select people from people --
(1,ada@example.com,ada@example.com)
