# What the server runs by itself sees ciphertext: copies stay sealed, plaintext is stopped, and pgveil says which triggers and policies look at a column.
-- policy --
public.people  scope = "platform"  email: text, search = ["equality"]
public.notes  scope = "tenant:{tenant_id}"  body: text, search = ["equality"]
-- setup directly: create table people (id int primary key, email text, city text, seen timestamptz); create table log_text (id int, email text); create table log_bytes (id int, email bytea); create table audit (id int, doc jsonb); create table notes (id int, tenant_id int, body text); grant all on all tables in schema public to public --
-- directly: create table log (id int, email pgveil.sealed_text); grant all on log to public; create function copy_all() returns trigger language plpgsql as $$ begin insert into log_text values (new.id, new.email); insert into log_bytes values (new.id, new.email); insert into public.log values (new.id, new.email); insert into audit values (new.id, to_jsonb(new)); return new; end $$; create trigger copies after insert or update on people for each row execute function copy_all() --
CREATE TABLE
GRANT
CREATE FUNCTION
CREATE TRIGGER
-- restart --
-- as app: insert into people values (1, 'ada@example.com', 'London'), (2, 'bob@example.com', 'Paris') --
INSERT 0 2
-- as app: select * from log order by id --
1|ada@example.com
2|bob@example.com
-- as app: select p.id from people p join log l on l.email is not null and l.id = p.id order by 1 --
1
2
-- as app: select email from log_bytes --
ERROR:  PV003: the result holds a sealed value in a column that is not protected
DETAIL:  It is not shown: the statement read a protected column in a way that pgveil could not follow.
HINT:  Read the protected column by name. See docs/errors.md#stray-ciphertext.
-- directly: select substr(email, 1, 10), (select substr(doc ->> 'email', 1, 10) from audit a where a.id = t.id) from log_text t order by id --
\x50475601|\x50475601
\x50475601|\x50475601
-- directly: create function writes() returns trigger language plpgsql as $$ begin new.email := 'bob@example.com'; return new; end $$; create trigger writes before update on people for each row execute function writes() --
CREATE FUNCTION
CREATE TRIGGER
-- restart --
-- as app: update people set email = 'eve@example.com' where id = 1 --
ERROR:  PV004: plaintext was to be stored where ciphertext must be
DETAIL:  The domain pgveil.sealed_text refused it.
HINT:  A function, trigger or rule writes the column; pgveil cannot seal what it writes. See docs/errors.md#plaintext-found.
-- as app: update people set city = 'Rome' where id = 1 --
ERROR:  PV004: plaintext was to be stored where ciphertext must be
DETAIL:  The domain pgveil.sealed_text refused it.
HINT:  A function, trigger or rule writes the column; pgveil cannot seal what it writes. See docs/errors.md#plaintext-found.
-- directly: drop trigger writes on people; create function lowers() returns trigger language plpgsql as $$ begin new.city := lower(new.email::text); return new; end $$; create trigger lowers before update on people for each row execute function lowers(); create policy own on people using (email::text = current_user) --
DROP TRIGGER
CREATE FUNCTION
CREATE TRIGGER
CREATE POLICY
-- pgveil check --
warning: policy.toml:4:1: row security policy own of public.people reads email: it sees ciphertext, so that it lets other rows through, or none
    cure: compare a column that is not protected, or DROP POLICY
warning: policy.toml:4:1: trigger copies of public.people (public.copy_all) mentions email: it sees ciphertext
    cure: let it copy the value as it is, into a column of the same type; what computes with the value belongs into the application
warning: policy.toml:4:1: trigger lowers of public.people (public.lowers) mentions email: it sees ciphertext
    cure: let it copy the value as it is, into a column of the same type; what computes with the value belongs into the application
pgveil.toml: in order, with 3 warnings
-- restart --
-- as app: create trigger t before update on people for each row execute function lowers() --
ERROR:  0A000: CREATE is not supported in a statement that names something protected
LINE 1: create trigger t before update on people for each row execut...
        ^
HINT:  See docs/errors.md#statement-not-supported.
-- as app: create policy mine on people using (email = current_user) --
ERROR:  0A000: CREATE is not supported in a statement that names something protected
LINE 1: create policy mine on people using (email = current_user)
        ^
HINT:  See docs/errors.md#statement-not-supported.
-- as app: create rule r as on insert to people do also nothing --
ERROR:  0A000: CREATE is not supported in a statement that names something protected
LINE 1: create rule r as on insert to people do also nothing
        ^
HINT:  See docs/errors.md#statement-not-supported.
-- as app: drop trigger lowers on people; drop policy own on people --
DROP TRIGGER
DROP POLICY
-- directly: create function stamps() returns trigger language plpgsql as $$ begin new.seen := now(); return new; end $$ --
CREATE FUNCTION
-- restart --
-- as app: create trigger stamps before insert or update of email on people for each row when (new.city <> 'Rome') execute function stamps() --
CREATE TRIGGER
-- as app: create policy london on people using (city = 'London') --
CREATE POLICY
-- as app: update people set email = 'eve@example.com' where id = 1 returning seen is not null --
t
UPDATE 1
-- as app: select id from people where email = 'eve@example.com' --
1
-- directly: create function tenants() returns trigger language plpgsql as $$ begin new.tenant_id := 7; return new; end $$; create trigger tenants before insert on notes for each row execute function tenants() --
CREATE FUNCTION
CREATE TRIGGER
-- restart --
-- as app: insert into notes values (1, 5, 'x') --
ERROR:  0A000: "notes" cannot be used through pgveil yet
LINE 1: insert into notes values (1, 5, 'x')
        ^
DETAIL:  It has a trigger that may change column "tenant_id", from which the scope of its values is taken.
HINT:  Let the application set the column, or DROP TRIGGER. See docs/errors.md#relation-not-supported.
