//! Tables whose terms get another number: one in each step of the turning, and one before and behind it. Tells nothing of how the
//! steps are taken.

use std::sync::{Arc, LazyLock};

use super::{super::SessionView, world::ordinary};
use crate::{
    Ruleset,
    catalog::fixture::catalog,
    ruleset::{
        Change, Generation, OtherTerms,
        fixture::{placed, policy, registered},
    },
};

const CATALOG: &str = "
public.before(id int4 pk, tenant text, email pgveil.sealed_text, mail pgveil.sealed_text)
public.turning(id int4 pk, tenant text, email pgveil.sealed_text, mail pgveil.sealed_text)
public.turned(id int4 pk, tenant text, email pgveil.sealed_text, mail pgveil.sealed_text)
public.clearing(id int4 pk, tenant text, email pgveil.sealed_text, mail pgveil.sealed_text)
public.after(id int4 pk, tenant text, email pgveil.sealed_text, mail pgveil.sealed_text)
view public.turning_ada(id int4, email pgveil.sealed_text) reads public.turning as SELECT t.id, t.email FROM public.turning t WHERE (pgveil.eq_term((t.email)::bytea) = pgveil.eq_term((t.mail)::bytea))
view public.turned_ada(id int4, email pgveil.sealed_text) reads public.turned as SELECT t.id, t.email FROM public.turned t WHERE (pgveil.eq_term((t.email)::bytea) = pgveil.eq_term((t.mail)::bytea))
view public.turned_anew(id int4, email pgveil.sealed_text) reads public.turned as SELECT t.id, t.email FROM public.turned t WHERE (pgveil.eq_term(7, (t.email)::bytea) = pgveil.eq_term(7, (t.mail)::bytea))
";

const POLICY: &str = "
table public.before scope tenant:{tenant}
  email text equality group=before
  mail text equality group=before
table public.turning scope tenant:{tenant}
  email text equality group=turning
  mail text equality group=turning
table public.turned scope tenant:{tenant}
  email text equality group=turned
  mail text equality group=turned
table public.clearing scope tenant:{tenant}
  email text equality group=clearing
  mail text equality group=clearing
table public.after scope tenant:{tenant}
  email text equality group=after
  mail text equality group=after
";

/// The terms of before, and those to come.
const FORMER: Generation = Generation {
    number: 0,
    newest_key: 0,
};
const NEXT: Generation = Generation {
    number: 7,
    newest_key: 9,
};

/// The rules, and the view of an ordinary session.
pub(super) fn world() -> (&'static Ruleset, SessionView) {
    static RULES: LazyLock<Ruleset> = LazyLock::new(compiled);
    (&RULES, ordinary())
}

fn compiled() -> Ruleset {
    let (policy, catalog) = (policy(POLICY), catalog(CATALOG));
    let mut registered = placed(registered(&policy), &catalog);
    for column in &mut registered {
        let other = |generation| OtherTerms {
            generation,
            shared_key: false,
            equality_group: column.equality_group.clone(),
            scope: column.scope.clone(),
        };
        (column.generation, column.change) = match column.table.as_str() {
            "turning" => (FORMER, Some(Change::Turning(other(NEXT)))),
            "turned" => (NEXT, Some(Change::Turned(other(FORMER)))),
            "clearing" => (NEXT, Some(Change::Clearing(other(FORMER)))),
            "after" => (NEXT, None),
            _ => (FORMER, None),
        };
    }
    let compiled = Ruleset::compile(&policy, Arc::new(catalog), &registered, 1);
    compiled.unwrap_or_else(|findings| panic!("the policy has findings: {findings:?}"))
}
