# With session = "must-match" a session seals, searches and shows values of its own tenant only; what is stored for another is an error, not a gap.
-- policy --
public.accounts  scope = "tenant:{tenant_id}"  session = "must-match"  email: text, search = ["equality"]  note: text
-- setup directly: create table accounts (id int primary key, tenant_id int, email text, note text) --
-- in one session as app: insert into accounts values (0, 5, 'no tenant', 'x');
set pgveil.tenant_id = '5';
insert into accounts values (1, 5, 'ada', 'of five'), (2, 5, 'bob', null);
insert into accounts values (3, 6, 'eve', 'of six');
set pgveil.tenant_id = '6';
insert into accounts values (3, 6, 'eve', 'of six');
select * from accounts order by id;
select * from accounts where tenant_id = 6;
select id from accounts where tenant_id = 5 and email = 'ada';
select id, coalesce(note, 'none') from accounts where id = 3;
select id, tenant_id from accounts order by id;
update accounts set note = 'taken' where id = 1;
update accounts set note = coalesce(note, 'mine') where id = 3 returning note;
insert into accounts select id + 10, tenant_id, email, note from accounts where tenant_id = 6;
reset pgveil.tenant_id;
select note from accounts where id = 3; --
ERROR:  PV001: a value of protected column "email" is not of the session's scope
DETAIL:  The policy says session = "must-match" for public.accounts.email, and the setting pgveil.tenant_id is not set in this session.
HINT:  SET pgveil.tenant_id = '...', or options=-cpgveil.tenant_id=... in the connection string. See docs/errors.md#scope-not-the-sessions.
SET
INSERT 0 2
ERROR:  PV001: a value of protected column "email" is not of the session's scope
DETAIL:  The policy says session = "must-match" for public.accounts.email, and the session's scope is tenant:5.
HINT:  Leave rows of other scopes out (WHERE), or SET the session's scope. See docs/errors.md#scope-not-the-sessions.
SET
INSERT 0 1
ERROR:  PV001: a value of protected column "email" is not of the session's scope
DETAIL:  The policy says session = "must-match" for public.accounts.email, and the session's scope is tenant:6.
HINT:  Leave rows of other scopes out (WHERE), or SET the session's scope. See docs/errors.md#scope-not-the-sessions.
3|6|eve|of six
ERROR:  PV001: a value of protected column "email" is not of the session's scope
DETAIL:  The policy says session = "must-match" for public.accounts.email, and the session's scope is tenant:6.
HINT:  Leave rows of other scopes out (WHERE), or SET the session's scope. See docs/errors.md#scope-not-the-sessions.
3|of six
1|5
2|5
3|6
ERROR:  PV001: a value of protected column "note" is not of the session's scope
DETAIL:  The policy says session = "must-match" for public.accounts.note, and the session's scope is tenant:6.
HINT:  Leave rows of other scopes out (WHERE), or SET the session's scope. See docs/errors.md#scope-not-the-sessions.
of six
UPDATE 1
ERROR:  0A000: values of column "email" cannot be stored in protected column "email"
LINE 1: insert into accounts select id + 10, tenant_id, email, note ...
                                                        ^
DETAIL:  public.accounts.email: the policy asks for values of the session's scope, and the scope of what is moved inside the server is not seen.
HINT:  Read the value and write it again, or take session = "must-match" out of the policy. See docs/errors.md#value-not-movable.
RESET
ERROR:  PV001: a value of protected column "note" is not of the session's scope
DETAIL:  The policy says session = "must-match" for public.accounts.note, and the setting pgveil.tenant_id is not set in this session.
HINT:  SET pgveil.tenant_id = '...', or options=-cpgveil.tenant_id=... in the connection string. See docs/errors.md#scope-not-the-sessions.
-- in one session as app: set pgveil.tenant_id = '6';
copy accounts from stdin;
9	5	zoe	\N
\.
copy accounts from stdin;
8	6	zoe	\N
\.
copy accounts (id, email) to stdout; --
SET
ERROR:  PV001: a value of protected column "email" is not of the session's scope
DETAIL:  The policy says session = "must-match" for public.accounts.email, and the session's scope is tenant:6.
HINT:  Leave rows of other scopes out (WHERE), or SET the session's scope. See docs/errors.md#scope-not-the-sessions.
COPY 1
ERROR:  PV001: a value of protected column "email" is not of the session's scope
DETAIL:  The policy says session = "must-match" for public.accounts.email, and the session's scope is tenant:6.
HINT:  Leave rows of other scopes out (WHERE), or SET the session's scope. See docs/errors.md#scope-not-the-sessions.
