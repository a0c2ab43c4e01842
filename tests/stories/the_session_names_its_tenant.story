# A scope from the session follows SET, SET LOCAL, RESET and rollback as Postgres has them.
-- policy --
public.notes  scope = "tenant:{session.tenant}"  body: text  topic: text, search = ["equality"], search_key = "shared"
-- setup directly: create table notes (id int, body text, topic text) --
-- in one session as app: insert into notes values (0, 'no tenant', 'x');
set pgveil.tenant = 'acme';
insert into notes values (1, 'of acme', 'x');
begin;
set local pgveil.tenant = 'zeta';
insert into notes values (2, 'of zeta', 'x');
commit;
insert into notes values (3, 'of acme', 'x');
begin;
set pgveil.tenant = 'undone';
rollback;
insert into notes values (4, 'of acme', 'y');
reset pgveil.tenant;
insert into notes values (5, 'no tenant', 'x');
select set_config('pgveil.tenant', 'omega', false);
insert into notes values (6, 'of omega', 'x');
select id, body from notes where topic = 'x' order by id; --
ERROR:  PV001: the scope of a protected value cannot be resolved
DETAIL:  The scope is taken from the setting pgveil.tenant, which is not set in this session.
HINT:  SET pgveil.tenant = '...', or options=-cpgveil.tenant=... in the connection string. See docs/errors.md#scope-not-resolved.
SET
INSERT 0 1
BEGIN
SET
INSERT 0 1
COMMIT
INSERT 0 1
BEGIN
SET
ROLLBACK
INSERT 0 1
RESET
ERROR:  PV001: the scope of a protected value cannot be resolved
DETAIL:  The scope is taken from the setting pgveil.tenant, which is not set in this session.
HINT:  SET pgveil.tenant = '...', or options=-cpgveil.tenant=... in the connection string. See docs/errors.md#scope-not-resolved.
omega
INSERT 0 1
1|of acme
2|of zeta
3|of acme
6|of omega
-- directly as postgres: select n.id, k.scope from notes n join pgveil.keys k on k.id = ('x' || encode(substr(body, 9, 8), 'hex'))::bit(64)::bigint order by n.id --
1|tenant:acme
2|tenant:zeta
3|tenant:acme
4|tenant:acme
6|tenant:omega
