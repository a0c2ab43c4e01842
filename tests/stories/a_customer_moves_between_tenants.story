# A row cannot carry values sealed for one tenant into another by changing its tenant column.
-- policy --
public.notes  scope = "tenant:{tenant_id}"  body: text
-- setup directly: create table notes (id int, tenant_id text, body text) --
-- as app: insert into notes values (1, 'acme', 'secret of acme') --
INSERT 0 1
-- as app: update notes set tenant_id = 'zeta' where id = 1 --
ERROR:  0A000: column "tenant_id" decides the scope of protected columns and cannot be changed by itself
LINE 1: update notes set tenant_id = 'zeta' where id = 1
        ^
DETAIL:  The row's protected values are sealed with the keys of its present scope.
HINT:  Assign every protected column of the table a literal or parameter in the same UPDATE. See docs/errors.md#scope-column-update.
-- as app: update notes set tenant_id = 'zeta', body = 'written anew' where id = 1 returning tenant_id, body --
zeta|written anew
UPDATE 1
-- as app: select tenant_id, body from notes --
zeta|written anew
