# `pgveil explain` shows how a statement is rewritten and why; `check` finds all in order.
-- policy --
public.people  scope = "platform"  email: text, search = ["equality"]
-- setup directly: create table people (id int, email text) --
-- explain: select id from people where email = 'ada@example.com' --
select id from public.people where pgveil.eq_term(email) = <equality term for email>
-- explain: insert into people values (1, 'ada@example.com') --
insert into public.people values (1, <sealed for email>)
  Values for public.people.email are sealed before they are sent.
-- explain: select upper(email) from people --
refused with 0A000: protected column "email" cannot be used in function upper
  because: public.people.email holds sealed values; PostgreSQL cannot compute on them.
  cure: Select the column as it is, or compare it for equality; compute the rest in the application.
  see docs/errors.md#expression-not-supported
-- explain: select 1 --
relayed as it is: no word of it names a protected table, or a view or function that depends on one
-- pgveil check --
pgveil.toml: in order
-- pgveil plan --
Nothing to do: database app is as the policy wants it.
