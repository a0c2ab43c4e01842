# Each tenant's rows are sealed with keys of that tenant; a question across tenants is refused unless the key is shared.
-- policy --
public.notes  scope = "tenant:{tenant_id}/project:crm/env:prod"
    author: text, search = ["equality"]
    body: text
    topic: text, search = ["equality"], search_key = "shared"
-- setup directly: create table notes (id int, tenant_id text, author text, body text, topic text) --
-- as app: insert into notes values (1, 'acme', 'ada', 'one', 'x'), (2, 'zeta corp', 'ada', 'two', 'x') --
INSERT 0 2
-- as app: select id, author, body from notes order by id --
1|ada|one
2|ada|two
-- as app: select id from notes where tenant_id = 'acme' and author = 'ada' --
1
-- as app: select id from notes where author = 'ada' --
ERROR:  0A000: protected column "author" cannot be used in a comparison across scopes
LINE 1: select id from notes where author = 'ada'
                                            ^
DETAIL:  Equality terms of public.notes.author are made per scope (tenant:{tenant_id}/project:crm/env:prod), and the statement does not fix the scope.
HINT:  Add the scope's columns to the same condition (AND tenant_id = ...), or set search_key = "shared". See docs/errors.md#scope-not-pinned.
-- as app: select id from notes where topic = 'x' order by id --
1
2
-- as app: select count(distinct topic) from notes --
1
-- as app: select count(distinct author) from notes --
ERROR:  0A000: protected column "author" cannot be used in count(DISTINCT) across scopes
LINE 1: select count(distinct author) from notes
                              ^
DETAIL:  Equality terms of public.notes.author are made per scope (tenant:{tenant_id}/project:crm/env:prod), and the statement does not fix the scope.
HINT:  Add the scope's columns to the same condition (AND tenant_id = ...), or set search_key = "shared". See docs/errors.md#scope-not-pinned.
-- as app: update notes set body = 'changed' where id = 1 --
UPDATE 1
-- as app: update notes set body = 'changed' where tenant_id = 'acme' and id = 1 returning body --
changed
UPDATE 1
-- as app: insert into notes (id, tenant_id, author) values (3, null, 'nobody') --
ERROR:  PV001: the scope of a value for protected column "author" cannot be resolved
LINE 1: ...nto notes (id, tenant_id, author) values (3, null, 'nobody')
                                                              ^
DETAIL:  The scope of public.notes.author is tenant:{tenant_id}/project:crm/env:prod; the statement does not give every scope column as a literal or parameter.
HINT:  Give every scope column as a literal or parameter in the same statement. See docs/errors.md#scope-not-resolved.
-- directly as postgres: select path from pgveil.scopes order by path --
platform
tenant:acme/project:crm/env:prod
tenant:zeta%20corp/project:crm/env:prod
-- directly as postgres: select count(distinct substr(body, 9, 8)), count(distinct substr(author, 18, 16)), count(distinct substr(topic, 18, 16)) from notes --
2|2|1
