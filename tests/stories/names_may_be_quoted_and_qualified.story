# Names are found as Postgres finds them: quoted, qualified, aliased, by search_path, and shadowed by a temporary table.
-- policy --
crm."People"  scope = "platform"  "E Mail": text, search = ["equality"]
public.people  scope = "platform"  email: text
-- setup directly: create schema crm;
create table crm."People" (id int, "E Mail" text);
create table public.people (id int, email text);
create table crm.people (id int, email text); --
-- as app: insert into crm."People" values (1, 'quoted') --
INSERT 0 1
-- as app: select p."E Mail" as mail from crm."People" p where p."E Mail" = 'quoted' --
quoted
-- as app: insert into PEOPLE (EMAIL, id) values ('folded', 1) --
INSERT 0 1
-- in one session as app: set search_path = crm, public;
insert into people values (1, 'plain table of crm');
select email from people;
select "E Mail" from "People";
select email from public.people; --
SET
INSERT 0 1
plain table of crm
quoted
folded
-- in one session as app: do $$ begin execute 'create temp table peo' || 'ple (id int, email text)'; end $$;
insert into people values (7, 'temporary');
select * from people;
select * from public.people; --
DO
INSERT 0 1
7|temporary
1|folded
-- directly: select email from crm.people --
plain table of crm
