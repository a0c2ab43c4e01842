//! A small database and its policy.

use std::sync::LazyLock;

use crate::{Ruleset, analysis::SessionView, ruleset::fixture::ruleset, types::FormatSettings};

const CATALOG: &str = r#"
public.customers(id int4 pk, name text, email pgveil.text, phone pgveil.text, ssn pgveil.varchar, age pgveil.int4, balance pgveil.numeric, birth pgveil.date, active pgveil.bool, notes pgveil.jsonb, secret pgveil.text, city text, created timestamptz, tags text[])
public.leads(id int4 pk, email pgveil.text, source text, phone pgveil.text)
public.accounts(id int4 pk, tenant_id int4, email pgveil.text, pin pgveil.int4, note pgveil.text, title text)
public.orders(id int4 pk, tenant_id int4, account_id int4, email pgveil.text, total int4)
public.visits(id int4 pk, token pgveil.text, handle pgveil.text)
public.projects(tenant text, code varchar(8), title pgveil.text, owner text)
public.plain(id int4 pk, tenant_id int4, email text, name text, body jsonb, n int8)
public.logged(id int4, what text) triggers public.log_it
other.customers(id int4, email text, name text)
public."Odd"(id int4, "E-Mail" pgveil.text, email text)
public.half(id int4, email text)
view public.customer_view(id int4, email pgveil.text) reads public.customers
matview public.customers_old(id int4, email pgveil.text) reads public.customer_view
pg_catalog.pg_class(oid int4, relname text, relnamespace int4)
function public.customer_count : select count(*) from CUSTOMERS
function public.log_it : select 1 from customers
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
table public.half scope platform
  email text equality
table public.invoices scope tenant:{tenant_id}
  iban text equality
  number varchar(20) equality shared
  memo text
";

/// The rules and the view of an ordinary session. Compiled once.
pub(super) fn world() -> (&'static Ruleset, SessionView) {
    static RULES: LazyLock<Ruleset> = LazyLock::new(|| ruleset(CATALOG, POLICY));
    let view = SessionView {
        schemas: vec!["pg_catalog".into(), "public".into()],
        temporary: vec![],
        readable_text: true,
        format: FormatSettings::default(),
    };
    (&RULES, view)
}
