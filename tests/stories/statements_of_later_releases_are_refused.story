# What this release cannot do with a protected column it refuses, and says so.
-- policy --
public.people  scope = "platform"  email: text
-- setup directly: create table people (id int, email text); create table open (id int, email text) --
-- as app: create rule r as on insert to people do nothing --
ERROR:  0A000: CREATE is not supported in a statement that names something protected
LINE 1: create rule r as on insert to people do nothing
        ^
HINT:  See docs/errors.md#statement-not-supported.
-- as app: create table copied as select * from people --
SELECT 0
-- as app: do $$ begin insert into people values (1, 'plaintext'); end $$ --
ERROR:  0A000: SQL inside a string names something protected
LINE 1: do $$ begin insert into people values (1, 'plaintext'); end ...
           ^
DETAIL:  pgveil cannot change what the server will read out of the string.
HINT:  Send the statement itself. See docs/errors.md#dynamic-sql.
-- as app: alter table people alter column email type varchar --
ERROR:  0A000: this change is not possible on protected column "email"
LINE 1: alter table people alter column email type varchar
                                        ^
DETAIL:  The server would have to hold or compute with its plaintext.
HINT:  Let the application compute or check the value, or leave the column unprotected. See docs/errors.md#definition-needs-plaintext.
-- as app: insert into open select * from people --
ERROR:  0A000: protected column "email" cannot be used in a value for a column that is not protected
LINE 1: insert into open select * from people
        ^
DETAIL:  public.people.email holds sealed values; PostgreSQL cannot compute on them.
HINT:  Select the column as it is, or compare it for equality; compute the rest in the application. See docs/errors.md#expression-not-supported.
-- as app: copy open to stdout --
