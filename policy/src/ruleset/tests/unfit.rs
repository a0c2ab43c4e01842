//! Tables that were changed so that a policy in force does not fit them: refused, and nothing else with them.

use super::*;
use crate::{
    analysis::{Protocol, SessionView},
    types::FormatSettings,
};

const TWO: &str = "table public.people scope tenant:{tenant_id}\n email text\ntable public.orders scope platform\n card text";
const PEOPLE: &str = "public.people(email pgveil.sealed_text, tenant_id int4)";
const ORDERS: &str = "public.orders(card pgveil.sealed_text)";

fn again(catalog_text: &str, policy_text: &str) -> Ruleset {
    let policy = policy(policy_text);
    let catalog = Arc::new(catalog(catalog_text));
    let past = placed(registered(&policy), &catalog);
    Ruleset::recompile(&policy, catalog, &past, 2)
}

fn answer(rules: &Ruleset, sql: &str) -> String {
    let view = SessionView {
        schemas: vec!["pg_catalog".into(), "public".into()],
        relations: vec![],
        readable_text: true,
        format: FormatSettings::default(),
    };
    match rules.analyse(sql, &view, Protocol::Extended, &[]) {
        Ok(_) => "served".to_owned(),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn a_table_that_was_changed_is_refused_and_no_other() {
    for (people, finding) in [
        (
            "public.people(email pgveil.sealed_text, owner int4)",
            "the scope reads column tenant_id",
        ),
        (
            "public.people(email pgveil.sealed_text, tenant_id int4) rules",
            "rewrite rules",
        ),
        (
            "public.people(email pgveil.sealed_text, tenant_id int4)\nunique public.people odd (length(email))",
            "unique index odd",
        ),
        (
            "public.people(email pgveil.sealed_varchar, tenant_id int4)",
            "is sealed as varchar",
        ),
        (
            "view public.people(email pgveil.sealed_text, tenant_id int4)",
            "is a view",
        ),
        // What was not converted is not told to be.
        (
            "public.people(email text default now(), tenant_id int4)",
            "has a default",
        ),
    ] {
        let rules = again(&format!("{people}\n{ORDERS}"), TWO);
        let [unfit] = rules.unfit.as_slice() else {
            panic!("{people}: {:?}", rules.unfit);
        };
        assert!(unfit.finding.message.contains(finding), "{unfit:?}");
        assert_eq!(unfit.display_name(), "public.people");
        for sql in [
            "SELECT email FROM people",
            "SELECT 1 FROM people",
            "INSERT INTO people VALUES ('a', 1)",
            "DELETE FROM people",
            "ALTER TABLE people ADD more text",
            "CREATE INDEX more ON people (email)",
            "CREATE TABLE more (LIKE people)",
        ] {
            let said = answer(&rules, sql);
            assert!(said.contains("does not fit the policy"), "{sql}: {said}");
        }
        let pending = rules.pending_tables();
        let pending: Vec<_> = pending.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(pending, ["people"]);
        for sql in ["SELECT card FROM orders", "DROP TABLE people"] {
            assert_eq!(answer(&rules, sql), "served", "{people}: {sql}");
        }
    }
}

#[test]
fn partitions_and_heirs_are_refused_with_their_table() {
    let tables = "partitioned public.people(email pgveil.sealed_text, owner int4) by (owner)\n\
                  public.people_1(email pgveil.sealed_text, owner int4) inherits public.people partition";
    let rules = again(&format!("{tables}\n{ORDERS}"), TWO);
    for table in ["people", "people_1"] {
        let said = answer(&rules, &format!("SELECT owner FROM {table}"));
        assert!(said.contains("does not fit the policy"), "{table}: {said}");
    }
    assert_eq!(answer(&rules, "SELECT card FROM orders"), "served");
}

#[test]
fn a_table_to_come_is_not_made_without_the_type_that_is_gone() {
    let policy_text = "table public.people scope platform\n mood public.mood\ntable public.orders scope platform\n card text";
    let rules = again(ORDERS, policy_text);
    let [unfit] = rules.unfit.as_slice() else {
        panic!("{:?}", rules.unfit);
    };
    assert!(unfit.oids.is_empty(), "{unfit:?}");
    for sql in [
        "CREATE TABLE people (mood text)",
        "CREATE TABLE people AS SELECT 'sad' AS mood",
        "ALTER TABLE others RENAME TO people",
    ] {
        let said = answer(&rules, sql);
        let refused = ["does not fit the policy", "cannot be made of a query"];
        assert!(
            refused.iter().any(|sign| said.contains(sign)),
            "{sql}: {said}"
        );
    }
    assert_eq!(answer(&rules, "SELECT card FROM orders"), "served");
}

#[test]
fn what_fits_again_is_served_and_what_the_policy_no_longer_names_is_not() {
    let rules = again(&format!("{PEOPLE}\n{ORDERS}"), TWO);
    assert!(rules.unfit.is_empty());
    assert_eq!(answer(&rules, "SELECT email FROM people"), "served");
    let catalog = Arc::new(catalog(&format!("{PEOPLE}\n{ORDERS}")));
    let past = placed(registered(&policy(TWO)), &catalog);
    let fewer = policy("table public.orders scope platform\n card text");
    let rules = Ruleset::recompile(&fewer, catalog, &past, 3);
    let said = answer(&rules, "SELECT email FROM people");
    assert!(said.contains("does not fit the policy"), "{said}");
}
