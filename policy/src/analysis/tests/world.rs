//! A small database and its policy.

use std::sync::LazyLock;

use crate::{Ruleset, analysis::SessionView, ruleset::fixture::ruleset, types::FormatSettings};

const CATALOG: &str = r#"
public.customers(id int4 pk, name text, email pgveil.sealed_text, phone pgveil.sealed_text, ssn pgveil.sealed_varchar, age pgveil.sealed_int4, balance pgveil.sealed_numeric, birth pgveil.sealed_date, active pgveil.sealed_bool, notes pgveil.sealed_jsonb, secret pgveil.sealed_text, city text, created timestamptz, tags text[])
public.leads(id int4 pk, email pgveil.sealed_text, source text, phone pgveil.sealed_text)
public.accounts(id int4 pk, tenant_id int4, email pgveil.sealed_text, pin pgveil.sealed_int4, note pgveil.sealed_text, title text)
public.orders(id int4 pk, tenant_id int4, account_id int4, email pgveil.sealed_text, total int4)
public.visits(id int4 pk, token pgveil.sealed_text, handle pgveil.sealed_text)
public.projects(tenant text, code varchar(8), title pgveil.sealed_text, owner text)
public.plain(id int4 pk, tenant_id int4, email text, name text, body jsonb, n int8)
public.logged(id int4, what text) triggers public.log_it
other.customers(id int4, email text, name text)
public."Odd"(id int4, "E-Mail" pgveil.sealed_text, email text)
public.half(id int4, email text)
view public.customer_view(id int4, email pgveil.sealed_text) reads public.customers as SELECT customers.id, customers.email FROM public.customers
matview public.customers_old(id int4, email pgveil.sealed_text) reads public.customer_view as SELECT customer_view.id, customer_view.email FROM public.customer_view
view public.tenant_five(id int4, tenant int4, mail pgveil.sealed_text, pin pgveil.sealed_int4) reads public.accounts as SELECT a.id, a.tenant_id AS tenant, a.email AS mail, a.pin FROM public.accounts a WHERE (a.tenant_id = 5)
view public.account_mails(tenant_id int4, email pgveil.sealed_text, total int4) reads public.accounts reads public.orders as SELECT a.tenant_id, a.email, o.total FROM (public.accounts a JOIN public.orders o ON (((o.account_id = a.id) AND (o.tenant_id = a.tenant_id))))
view public.all_mails(email pgveil.sealed_text, kind text) reads public.customers reads public.leads as SELECT customers.email, 'customer'::text AS kind FROM public.customers UNION ALL SELECT leads.email, 'lead'::text AS kind FROM public.leads
view public.distinct_mails(email pgveil.sealed_text) reads public.customers as SELECT DISTINCT ON ((pgveil.eq_term(customers.email))) customers.email FROM public.customers
view public.mail_counts(email bytea, n int8) reads public.customers as SELECT pgveil.any_value((customers.email)::bytea) AS email, count(*) AS n FROM public.customers GROUP BY (pgveil.eq_term((customers.email)::bytea))
view public.adas(id int4, phone pgveil.sealed_text) reads public.customers as SELECT customers.id, customers.phone FROM public.customers WHERE (pgveil.eq_term((customers.email)::bytea) = '\x0102'::bytea)
view public.with_cte(id int4, email pgveil.sealed_text) reads public.customers as WITH c AS (SELECT customers.id, customers.email AS mail FROM public.customers) SELECT c.id, c.mail AS email FROM c
view public.cities(city text, n int8) reads public.customers as SELECT customers.city, count(*) AS n FROM public.customers GROUP BY customers.city
view public.wrong_compare(id int4) reads public.customers as SELECT a.id FROM public.customers a, public.customers b WHERE (a.email = b.email)
view public.wrong_distinct(email pgveil.sealed_text) reads public.customers as SELECT DISTINCT customers.email FROM public.customers
view public.wrong_text(email text) reads public.customers as SELECT (customers.email)::text AS email FROM public.customers
view public.swapped(id int4, tenant_id int4, account int4, email pgveil.sealed_text) reads public.orders as SELECT orders.id, orders.account_id AS tenant_id, orders.tenant_id AS account, orders.email FROM public.orders
view public.no_tenant(id int4, email pgveil.sealed_text, note pgveil.sealed_text, title text) reads public.accounts as SELECT accounts.id, accounts.email, accounts.note, accounts.title FROM public.accounts
view public.of_five(id int4, m pgveil.sealed_text, p pgveil.sealed_int4) reads public.tenant_five as SELECT tenant_five.id, tenant_five.mail AS m, tenant_five.pin AS p FROM public.tenant_five
view public.upper_names(id int4, email pgveil.sealed_text, upper text) reads public.customers as SELECT customers.id, customers.email, upper(customers.name) AS upper FROM public.customers
view public.replaced(id int4, email pgveil.sealed_text) reads public.customers instead as SELECT customers.id, customers.email FROM public.customers
view public.ruled(id int4, email pgveil.sealed_text) reads public.customers rules as SELECT customers.id, customers.email FROM public.customers
view public.upon_ruled(id int4, email pgveil.sealed_text) reads public.ruled as SELECT ruled.id, ruled.email FROM public.ruled
view public.copied_mails(id int4, email pgveil.sealed_text) reads public.mail_copy as SELECT mail_copy.id, mail_copy.email FROM public.mail_copy
view public.through_function(n int8) reads public.customers as SELECT public.customer_count() AS n
public.mail_copy(id int4, email pgveil.sealed_text, note pgveil.sealed_numeric)
public.moved(id int4 pk, pgveil_plain_email text, note text, "Size" int4, pgveil_plain_ssn text, ssn pgveil.sealed_text, email pgveil.sealed_text)
view public.moved_notes(note text, mail pgveil.sealed_text) reads public.moved as SELECT moved.note, moved.email AS mail FROM public.moved
function public.all_moved returns public.moved setof sql : SELECT * FROM moved
function public.moved_mails(table mail pgveil.sealed_text) setof sql : SELECT email FROM moved
function public.moved_count gives int8 sql : SELECT count(*) FROM moved
function public.moved_star(table a int4, table b text, table c text, table d int4, table e text) setof sql : SELECT * FROM moved
public.json_copy(id int4, body pgveil.sealed_jsonb)
public.guarded(id int4 pk, tenant_id int4, note pgveil.sealed_text)
public.parent_only(id int4, tenant_id int4)
partitioned public.events(id int4, tenant_id int4, day date, who pgveil.sealed_text) by (day)
public.events_2024(day date, who pgveil.sealed_text, id int4, tenant_id int4) inherits public.events partition
pg_catalog.pg_class(oid int4, relname text, relnamespace int4)
function public.customer_count : select count(*) from CUSTOMERS
function public.log_it : select 1 from customers
public.stamped(id int4, tenant_id int4, note pgveil.sealed_text) triggers public.stamp
function public.stamp : BEGIN NEW.tenant_id := current_setting('app.tenant'); RETURN NEW; END
public.mirrored(id int4, email pgveil.sealed_text) triggers public.mirror
function public.mirror : BEGIN INSERT INTO mail_copy VALUES (NEW.id, NEW.email); RETURN NEW; END
function public.set_updated : BEGIN NEW.created := now(); RETURN NEW; END
function public.lower_email : BEGIN NEW.email := lower(NEW.email); RETURN NEW; END
function public.keep_row : BEGIN INSERT INTO log VALUES (to_jsonb(NEW)); RETURN NEW; END
function public.run_sql : BEGIN EXECUTE given INTO result; RETURN result; END
function public.run_twice : select run_sql(given), run_sql(given)
function public.all_customers returns public.customers setof sql : SELECT * FROM customers
function public.one_customer(cid int4) returns public.customers sql : SELECT c FROM customers c WHERE c.id = cid
function public.mails_of(town text, table id int4, table email pgveil.sealed_text) setof sql : SELECT id, email FROM customers WHERE city = town
function public.mail_of(int4) gives pgveil.sealed_text sql : SELECT email FROM customers WHERE id = $1
function public.mail_as_text(int4) gives text sql : SELECT email FROM customers WHERE id = $1
function public.find_mail(mail text) gives int4 sql : SELECT id FROM customers WHERE email = mail
function public.find_sealed(mail pgveil.sealed_text) gives int4 sql : SELECT id FROM public.customers WHERE pgveil.eq_term(email) = pgveil.eq_term(mail)
function public.find_atomic(mail pgveil.sealed_text) returns public.customers setof sql atomic : BEGIN ATOMIC SELECT customers.id, customers.name, customers.email, customers.phone, customers.ssn, customers.age, customers.balance, customers.birth, customers.active, customers.notes, customers.secret, customers.city, customers.created, customers.tags FROM public.customers WHERE (pgveil.eq_term((customers.email)::bytea) = pgveil.eq_term((find_atomic.mail)::bytea)); END
function public.mail_atomic(cid int4) gives pgveil.sealed_text sql atomic : RETURN (SELECT customers.email FROM public.customers WHERE (customers.id = mail_atomic.cid))
function public.of_account(tenant int4) returns public.accounts setof sql : SELECT * FROM accounts WHERE tenant_id = tenant
function public.touch_customer(cid int4) gives pgveil.sealed_text sql : UPDATE customers SET city = 'x' WHERE id = cid RETURNING email
function public.sorted_customers returns public.customers setof sql : SELECT * FROM customers ORDER BY email
function public.loop_customers returns public.customers setof : BEGIN RETURN QUERY SELECT * FROM customers; END
function public.write_mail(mail text) gives int4 sql : INSERT INTO customers (id, email) VALUES (1, mail) RETURNING id
function public.initcap gives pgveil.sealed_text shadows sql : SELECT email FROM customers
function public.numbered(int4) gives pgveil.sealed_text sql atomic : RETURN (SELECT customers.email FROM public.customers WHERE (customers.id = numbered.""))
function public.each_customer(town text) returns public.customers setof : DECLARE c customers%ROWTYPE; n int := 0; BEGIN FOR c IN SELECT * FROM customers WHERE city = town LOOP n := n + 1; IF c.id > n AND c.city IS NOT NULL THEN RETURN NEXT c; END IF; END LOOP; RETURN; END
function public.kept_mail(cid int4) gives pgveil.sealed_text : DECLARE mail customers.email%TYPE; BEGIN SELECT email INTO mail FROM customers WHERE id = cid; IF mail IS NULL THEN RETURN NULL; END IF; RETURN mail; END
function public.both(cid int4, out mail pgveil.sealed_text, out town text) : BEGIN SELECT email, city INTO mail, town FROM customers c WHERE c.id = cid; END
function public.text_mail(cid int4) gives text : DECLARE mail text; BEGIN SELECT email INTO mail FROM customers WHERE id = cid; RETURN mail; END
function public.peeks(cid int4) gives bool : DECLARE c record; BEGIN SELECT * INTO c FROM customers WHERE id = cid; RETURN length(c.email) > 5; END
function public.dynamic returns public.customers setof : BEGIN RETURN QUERY EXECUTE 'SELECT * FROM customers'; END
function public.looks_up(mail pgveil.sealed_text) gives bool : BEGIN PERFORM 1 FROM customers WHERE pgveil.eq_term(email) = pgveil.eq_term(mail); RETURN FOUND; END
function public.plain_write(cid int4, mail text) gives void : BEGIN UPDATE customers SET email = mail WHERE id = cid; END
function public.literal_in_pl gives int8 : BEGIN RETURN (SELECT count(*) FROM customers WHERE email = 'x'); END
function public.of_list(mail pgveil.sealed_text) gives int8 sql atomic : BEGIN ATOMIC SELECT count(*) AS count FROM public.customers WHERE (pgveil.eq_term((customers.email)::bytea) = ANY (ARRAY[pgveil.eq_term((of_list.mail)::bytea), '\x00'::bytea])); END
function public.drop_mail(mail pgveil.sealed_text) procedure gives void sql : DELETE FROM customers WHERE pgveil.eq_term(email) = pgveil.eq_term(mail)
function public.count_mails(cid int4) procedure gives void : BEGIN DELETE FROM customers WHERE id = cid; END
function public.mixed(out mail pgveil.sealed_text, given pgveil.sealed_text) sql : SELECT phone FROM customers WHERE pgveil.eq_term(email) IN (pgveil.eq_term($1), '\x00'::bytea)
function public.pick(cid int4) gives pgveil.sealed_text sql : SELECT email FROM public.customers WHERE id = cid
function public.pick(mail pgveil.sealed_text) gives int4 sql : SELECT id FROM public.customers WHERE pgveil.eq_term(email) = pgveil.eq_term(mail)
function public.pick(born date) gives int4 sql : SELECT count(*) FROM public.customers WHERE created = born
function public.in_cities(variadic towns text[]) returns public.customers setof sql : SELECT * FROM public.customers WHERE city = ANY (towns)
function public.open_rows(int4) returns public.plain setof sql : SELECT * FROM plain
function public.pairs(table a int4, table b text) setof sql : SELECT 1, 'x'
function public.strange_rows() setof sql : SELECT 1, 2
function public.generate_months(int4) gives date setof sql : SELECT current_date
system generate_series()
system generate_subscripts()
system jsonb_array_elements(value)
system jsonb_array_elements_text(value)
system jsonb_each(key, value)
system now()
system json_populate_recordset
system unnest
function public.nested_mails(table mail pgveil.sealed_text) setof sql : SELECT email FROM mails_of('x')
"#;

const POLICY: &str = "
table public.customers scope platform
  email text equality group=emails
  phone text equality
  ssn varchar(11) equality
  age int4 equality
  balance numeric(10,2) equality
  birth date equality
  active bool equality
  notes jsonb
  secret text
  iban text equality
table public.leads scope platform
  email text equality group=emails
  phone text equality
table public.accounts scope tenant:{tenant_id}
  email text equality group=tenant_emails
  pin int4 equality shared
  note text
table public.orders scope tenant:{tenant_id}
  email text equality group=tenant_emails
table public.visits scope tenant:{session.tenant}
  token text
  handle text equality shared
table public.projects scope tenant:{tenant}/project:{code}
  title text equality
table public.Odd scope platform
  E-Mail text equality
table public.events scope tenant:{tenant_id}
  who text equality
table public.stamped scope tenant:{tenant_id}
  note text
table public.mirrored scope platform
  email text equality
table public.moved scope platform
  email text equality
  ssn text
table public.half scope platform
  email text equality
table public.guarded scope tenant:{tenant_id} must-match
  note text
table public.invoices scope tenant:{tenant_id}
  iban text equality
  number varchar(20) equality shared
  memo text
";

/// The rules and the view of an ordinary session. Compiled once.
pub(super) fn world() -> (&'static Ruleset, SessionView) {
    static RULES: LazyLock<Ruleset> = LazyLock::new(|| ruleset(CATALOG, POLICY));
    (&RULES, ordinary())
}

/// A session without anything of its own.
pub(super) fn ordinary() -> SessionView {
    SessionView {
        schemas: vec!["pg_catalog".into(), "public".into()],
        relations: vec![],
        readable_text: true,
        format: FormatSettings::default(),
    }
}
