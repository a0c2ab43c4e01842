//! Tables of policies and what compiling them finds.

mod turning;
mod unfit;

use std::sync::Arc;

use pgveil_config::SearchKey;

use super::{
    Change, Declared, Pending, Protected, RegisteredColumn, Ruleset, Step, TermContext,
    fixture::{placed, policy, registered, ruleset},
};
use crate::{catalog::fixture::catalog, plan::ColumnId, types::LogicalType};

const PEOPLE: &str = "public.people(id int4 pk, email pgveil.sealed_text, ssn pgveil.sealed_varchar, tenant_id int4, note text)";

/// The findings as `line: message`, cures apart.
fn findings(catalog_text: &str, policy_text: &str) -> Vec<String> {
    let policy = policy(policy_text);
    findings_with(catalog_text, policy_text, &registered(&policy))
}

fn findings_with(catalog_text: &str, policy_text: &str, past: &[RegisteredColumn]) -> Vec<String> {
    let catalog = Arc::new(catalog(catalog_text));
    let past = placed(past.to_vec(), &catalog);
    let found = Ruleset::compile(&policy(policy_text), catalog, &past, 1);
    let found = found.err().unwrap_or_default();
    assert!(found.iter().all(|finding| !finding.cure.is_empty()));
    let line = |at: &Option<pgveil_config::Position>| at.as_ref().map_or(0, |at| at.line);
    found
        .iter()
        .map(|f| format!("{}: {}", line(&f.at), f.message))
        .collect()
}

#[track_caller]
fn finds(catalog_text: &str, policy_text: &str, expected: &str) {
    let found = findings(catalog_text, policy_text);
    assert!(
        found.len() == 1 && found[0].contains(expected),
        "expected one finding {expected:?}, found {found:#?}"
    );
}

#[test]
fn compiles_converted_columns() {
    let rules = ruleset(
        PEOPLE,
        "table public.people scope tenant:{tenant_id}
           email text equality group=emails
           ssn varchar(11) reveal=support keep_last=4",
    );
    let people = rules.relation("public", "people").unwrap().oid;
    let email = rules.attribute(people, 2).unwrap();
    assert_eq!((email.id, email.name.as_str()), (ColumnId(1), "email"));
    assert_eq!(email.context, TermContext::Group("emails".into()));
    assert_eq!(email.scope.columns(), ["tenant_id"]);
    let ssn = rules.column(ColumnId(2)).unwrap();
    assert_eq!(ssn.logical.sql_name(), "character varying(11)");
    assert_eq!(ssn.context, TermContext::Column(ColumnId(2)));
    assert_eq!(rules.protected_columns(people).len(), 2);
    assert!(rules.attribute(people, 1).is_none());
    assert!(rules.is_protected_relation(people) && !rules.is_pending_table(people));
    assert_eq!(rules.protected_tables().len(), 1);
    assert!(rules.refuse_pending(people).is_none());
}

#[test]
fn suggests_the_nearest_name() {
    let policy = "table public.poeple scope platform\n email text";
    finds(
        PEOPLE,
        policy,
        "1: database app has no table public.poeple; did you mean `public.people`?",
    );
    let policy = "table pubic.people scope platform\n email text";
    finds(
        PEOPLE,
        policy,
        "database app has no table pubic.people; did you mean `public.people`?",
    );
    let policy = "table public.people scope platform\n emial text\n ssn varchar(11)";
    finds(
        PEOPLE,
        policy,
        "2: public.people has no column emial; did you mean `email`?",
    );
    let policy = "table public.people scope platform\n email texd\n ssn varchar(11)";
    finds(
        PEOPLE,
        policy,
        "\"texd\" is not a type that pgveil can protect; did you mean `text`?",
    );
    let policy = "table public.people scope tenant:{tenent_id}\n email text\n ssn varchar(11)";
    finds(
        PEOPLE,
        policy,
        "reads column tenent_id, which public.people does not have; did you mean `tenant_id`?",
    );
}

#[test]
fn reports_everything_at_once_in_the_order_of_the_file() {
    let policy = "table public.people scope platform\n note json equality\n nota text\ntable a.b scope nobody\n x text";
    let found = findings("public.people(note json, not_a text)", policy);
    let lines: Vec<&str> = found.iter().filter_map(|f| f.split(':').next()).collect();
    assert_eq!(lines, ["2", "3", "4"], "{found:#?}");
}

#[test]
fn waits_for_tables_and_columns_to_come() {
    let policy = policy(
        "table public.people scope platform\n email text\n iban text\ntable public.later scope platform\n mail text",
    );
    let catalog = Arc::new(catalog("public.people(email pgveil.sealed_text)"));
    let past = placed(registered(&policy), &catalog);
    let rules = Ruleset::compile(&policy, catalog, &past[..1], 1).unwrap();
    let absent: Vec<String> = rules.absent().map(Declared::display_name).collect();
    assert_eq!(absent, ["public.people.iban", "public.later.mail"]);
    assert!(rules.names().any(|name| name == "later"));
    assert_eq!(rules.declared_in("public", "people").len(), 2);
}

#[test]
fn a_table_that_is_made_after_one_like_it_is_no_mistake_of_a_policy_in_force() {
    let policy = policy("table public.accounts scope platform\n filler text");
    let catalog = || Arc::new(catalog("public.account(filler text)"));
    assert!(Ruleset::compile(&policy, catalog(), &[], 1).is_err());
    let rules = Ruleset::recompile(&policy, catalog(), &[], 2);
    assert!(rules.unfit.is_empty());
    let absent: Vec<String> = rules.absent().map(Declared::display_name).collect();
    assert_eq!(absent, ["public.accounts.filler"]);
}

#[test]
fn follows_a_renamed_column_or_table() {
    let policy = policy("table public.people scope platform\n email text");
    let mut past = registered(&policy);
    let compile = |text: &str, past: &[RegisteredColumn]| {
        Ruleset::compile(&policy, Arc::new(catalog(text)), past, 1).unwrap()
    };
    past = placed(
        past,
        &catalog("public.people(id int4, email pgveil.sealed_text)"),
    );
    for (now, table, name) in [
        (
            "public.people(id int4, mail pgveil.sealed_text)",
            "people",
            "mail",
        ),
        (
            "public.folk(id int4, email pgveil.sealed_text)",
            "folk",
            "email",
        ),
    ] {
        let after = compile(now, &past);
        let column = after.column(past[0].id).unwrap();
        assert_eq!((column.table.as_str(), column.name.as_str()), (table, name));
        assert!(!column.retired && after.pending.is_empty(), "{now}");
    }
    // Neither name has stayed: the place may be another database's.
    let after = compile("public.folk(id int4, mail pgveil.sealed_text)", &past);
    assert!(after.column(past[0].id).unwrap().retired);
}

#[test]
fn refuses_relations_that_it_cannot_protect() {
    let plain =
        |prefix: &str, suffix: &str| format!("{prefix}public.t(a text){suffix}\npublic.u(a text)");
    let policy = "table public.t scope platform\n a text";
    finds(&plain("view ", ""), policy, "public.t is a view");
    finds(
        &plain("partitioned ", " by (a)"),
        policy,
        "public.t.a is in the partition key of public.t",
    );
    finds(
        "partitioned public.t(a text, b int4) by (b)\npublic.u(a text default now(), b int4) inherits public.t partition",
        policy,
        "public.u.a has a default",
    );
    finds(
        "partitioned public.u(a text) by (b)\npublic.t(a text) inherits public.u partition",
        policy,
        "public.t is a partition",
    );
    finds(
        "public.t(a text)\nforeign public.u(a text) inherits public.t",
        policy,
        "has a foreign table among its partitions or heirs",
    );
    finds(
        "public.t(a text)\npublic.u(a text) inherits public.t rules",
        policy,
        "has rewrite rules",
    );
    finds(&plain("foreign ", ""), policy, "is a foreign table");
    finds(
        &plain("", " inherits public.u"),
        policy,
        "inherits from another table",
    );
    finds(&plain("", " rules"), policy, "has rewrite rules");
    let policy = "table public.t database other scope platform\n a text";
    finds(&plain("", ""), policy, "is in database other");
    let policy = "table public.t scope platform\n a text\ntable public.t scope platform\n a text";
    finds(&plain("", ""), policy, "3: public.t has an entry already");
}

#[test]
fn refuses_scopes_that_no_row_can_tell() {
    for (column, scope, expected) in [
        ("a text", "tenant:{a}", "which is protected itself"),
        (
            "b date",
            "tenant:{b}",
            "column b of type date, whose text depends",
        ),
        ("b numeric", "tenant:{b}", "of type numeric"),
        (
            "b int4 generated (1)",
            "tenant:{b}",
            "which the server generates",
        ),
        (
            "b int4",
            "tenant:",
            "scope \"tenant:\", at character 8: `tenant:` has no name",
        ),
    ] {
        let catalog = format!("public.t(a text, {column})").replace("(a text, a text)", "(a text)");
        finds(
            &catalog,
            &format!("table public.t scope {scope}\n a text"),
            expected,
        );
    }
    let nullable = "table public.t scope tenant:{b}\n a text";
    assert_eq!(findings("public.t(a text, b uuid)", nullable), [""; 0]);
}

#[test]
fn refuses_columns_that_the_server_computes() {
    let policy = "table public.t scope platform\n a text";
    finds(
        "public.t(a text default 'x'::text)",
        policy,
        "has a default",
    );
    finds(
        "public.t(a text generated upper(b), b text)",
        policy,
        "is a generated column",
    );
    finds(
        "public.t(a text, b text generated upper(a))",
        policy,
        "is read by the generated column b",
    );
    finds(
        "public.t(a int4 identity)",
        "table public.t scope platform\n a int4",
        "is an identity column",
    );
    assert_eq!(
        findings("public.t(a text default NULL::text)", policy),
        [""; 0]
    );
}

#[test]
fn refuses_types_that_differ_from_the_catalog() {
    let policy = "table public.t scope platform\n a varchar(11)";
    finds(
        "public.t(a varchar(20))",
        policy,
        "is character varying(20), but the policy says character varying(11)",
    );
    finds(
        "public.t(a point)",
        policy,
        "of type point, which pgveil cannot protect yet",
    );
    finds(
        "public.t(a pgveil.sealed_text)",
        policy,
        "is sealed as text, but the policy says character varying(11)",
    );
    assert_eq!(
        findings("public.t(a pgveil.sealed_varchar)", policy),
        [""; 0]
    );
}

#[test]
fn refuses_searches_and_masks_without_meaning() {
    for (column, scope, expected) in [
        (
            "a json equality",
            "platform",
            "Postgres has no `=` for json",
        ),
        (
            "a int4 keep_last=2",
            "platform",
            "has a mask of characters, but is integer",
        ),
        (
            "a text group=g",
            "platform",
            "is in equality group \"g\", but has no equality search",
        ),
        (
            "a text equality",
            "tenant:{session.t}",
            "equality search under a scope of the session",
        ),
    ] {
        let logical = column.split(' ').nth(1).unwrap();
        let policy = format!("table public.t scope {scope}\n {column}");
        finds(&format!("public.t(a {logical})"), &policy, expected);
    }
    let shared = "table public.t scope tenant:{session.t}\n a text equality shared";
    assert_eq!(findings("public.t(a text)", shared), [""; 0]);
}

#[test]
fn refuses_equality_groups_with_unlike_members() {
    let catalog = "public.t(a text, b varchar(5), c text, d varchar(9))";
    let policy = |a: &str, b: &str| format!("table public.t scope platform\n {a}\n {b}");
    finds(
        catalog,
        &policy("a text equality group=g", "b varchar(5) equality group=g"),
        "3: public.t.a and public.t.b",
    );
    finds(
        catalog,
        &policy("a text equality group=g", "c text equality shared group=g"),
        "`search_key` differs",
    );
    let fine = policy(
        "b varchar(5) equality group=g",
        "d varchar(9) equality group=g",
    );
    assert_eq!(findings(catalog, &fine), [""; 0]);
}

#[test]
fn refuses_unique_indexes_that_would_not_hold() {
    let by_row = "table public.t scope tenant:{o}\n a text equality";
    let fixed = "table public.t scope platform\n a text equality";
    let plain = |keys: &str| format!("public.t(a text, o int4)\nunique public.t u ({keys})");
    let sealed =
        |keys: &str| format!("public.t(a pgveil.sealed_text, o int4)\nunique public.t u ({keys})");
    let missing = "unique index u on public.t.a does not contain o";
    finds(&plain("a"), by_row, missing);
    finds(&sealed("pgveil.eq_term(a)"), by_row, missing);
    finds(&sealed("pgveil.eq_term(a), lower(o)"), by_row, missing);
    finds(&sealed("a"), fixed, "unique index u computes on public.t.a");
    finds(
        &plain("lower(a)"),
        fixed,
        "unique index u computes on public.t.a",
    );
    finds(
        &plain("a"),
        "table public.t scope platform\n a text",
        "whose values have no equality terms",
    );
    finds("public.t(a text pk)", fixed, "is in the primary key");
    for catalog in [plain("a, o"), sealed("o, pgveil.eq_term(a)"), sealed("o")] {
        assert_eq!(findings(&catalog, by_row), [""; 0]);
    }
    assert_eq!(
        findings(&plain("a"), &by_row.replace("equality", "equality shared")),
        [""; 0]
    );
}

#[test]
fn refuses_what_contradicts_the_stored_values() {
    let policy_text =
        "table public.people scope platform\n ssn varchar(20) equality group=g\n email text";
    let base = registered(&policy(policy_text));
    let with = |change: fn(&mut RegisteredColumn)| {
        let mut past = base.clone();
        change(&mut past[0]);
        findings_with(PEOPLE, policy_text, &past)
    };
    assert_eq!(with(|_| ()), [""; 0]);
    for (change, expected) in [
        (
            (|p| p.logical_type = "text".into()) as fn(&mut RegisteredColumn),
            "sealed as text, but the policy says character varying(20)",
        ),
        (
            |p| (p.shared_key, p.equality) = (true, false),
            "made with search_key = \"shared\"",
        ),
        (
            |p| (p.equality_group, p.equality) = (None, false),
            "of no group",
        ),
    ] {
        let found = with(change);
        assert!(
            found.len() == 1 && found[0].contains(expected),
            "{expected}: {found:#?}"
        );
    }
    assert_eq!(
        with(|p| p.logical_type = "character varying (20)".into()),
        [""; 0]
    );
    assert_eq!(with(|p| p.scope = None), [""; 0]);
}

/// The column, and the steps that lead to the policy.
fn compiled(policy_text: &str, past: impl Fn(&mut RegisteredColumn)) -> (Protected, Vec<Step>) {
    let policy = policy(policy_text);
    let catalog = Arc::new(catalog(PEOPLE));
    let mut registered = placed(registered(&policy), &catalog);
    past(&mut registered[0]);
    let rules = Ruleset::compile(&policy, catalog, &registered, 1).unwrap();
    let column = rules.column(ColumnId(1)).unwrap();
    let steps = rules.wanted.iter().map(|wanted| wanted.step.clone());
    ((**column).clone(), steps.collect())
}

#[test]
fn the_registry_is_in_force_until_values_are_as_the_policy_wants_them() {
    let policy = "table public.people scope platform\n ssn varchar(20) equality shared group=g";
    let (varchar, bare) = (
        LogicalType::Varchar,
        "table public.people scope platform\n ssn varchar(20)",
    );
    let (column, steps) = compiled(policy, |_| ());
    assert!(steps.is_empty() && column.written == column.logical && column.terms);
    for (change, terms) in [
        (None, false),
        (Some(Change::AddingTerms), true),
        (Some(Change::DroppingTerms), false),
    ] {
        let (column, steps) = compiled(policy, |past| {
            (past.equality, past.searched) = (false, false);
            past.change.clone_from(&change);
        });
        assert!(!column.equality && column.terms == terms, "{change:?}");
        assert!(
            matches!(
                &steps[..],
                [Step::AddTerms {
                    shared_key: true,
                    ..
                }]
            ),
            "{steps:?}"
        );
    }
    let (column, steps) = compiled(policy, |past| past.change = Some(Change::EndingTerms));
    assert!(!column.equality && column.terms);
    assert!(matches!(steps[..], [Step::AddTerms { .. }]), "{steps:?}");
    // Whose file still says what was before goes by the registry too, its key and group included.
    let (column, steps) = compiled(bare, |past| {
        (past.equality, past.shared_key) = (true, true);
        past.equality_group = Some("g".into());
    });
    assert!(column.equality && column.search_key == SearchKey::Shared);
    assert_eq!(column.context, TermContext::Group("g".into()));
    assert_eq!(steps, [Step::DropTerms]);
    let (column, steps) = compiled(bare, |past| past.change = Some(Change::DroppingTerms));
    assert!(!column.equality && !column.terms);
    assert_eq!(steps, [Step::DropTerms]);
    for (registered, change, read, written) in [
        (11, None, 11, 11),
        (11, Some(Change::Widening("varchar(20)".into())), 20, 11),
        (30, Some(Change::Narrowing("varchar(20)".into())), 30, 20),
    ] {
        let (column, steps) = compiled(bare, |past| {
            past.logical_type = format!("varchar({registered})");
            past.change.clone_from(&change);
        });
        assert_eq!(column.logical, varchar(Some(read)), "{change:?}");
        assert_eq!(column.written, varchar(Some(written)), "{change:?}");
        let (from, to) = (varchar(Some(registered)), varchar(Some(20)));
        let step = if registered < 20 {
            Step::Widen { from, to }
        } else {
            Step::Narrow { from, to }
        };
        assert_eq!(steps, [step]);
    }
    // Terms that were dropped come back as they were, or not at all.
    let policy_text = "table public.people scope platform\n ssn varchar(20) equality group=h";
    let mut past = registered(&super::fixture::policy(policy_text));
    (past[0].equality, past[0].equality_group) = (false, Some("g".into()));
    let found = findings_with(PEOPLE, policy_text, &past);
    assert!(
        found.len() == 1 && found[0].contains("of group \"g\""),
        "{found:#?}"
    );
    past[0].searched = false;
    assert_eq!(findings_with(PEOPLE, policy_text, &past), [""; 0]);
    // Begun and given up: the file says what the registry said all along.
    let given_up = Some(Change::Widening("varchar(30)".into()));
    let (_, steps) = compiled(bare, |past| past.change.clone_from(&given_up));
    let same = varchar(Some(20));
    assert_eq!(
        steps,
        [Step::Widen {
            from: same,
            to: same
        }]
    );
}

#[test]
fn refuses_to_unprotect_by_omission() {
    let past = registered(&policy(
        "table public.people scope platform\n email text\n ssn varchar(11)",
    ));
    let left = "table public.people scope platform\n email text";
    let found = findings_with(PEOPLE, left, &past);
    assert_eq!(
        found,
        ["1: public.people.ssn holds sealed values, but the policy no longer names it"]
    );
    assert_eq!(findings_with(PEOPLE, "", &past).len(), 2);
    assert_eq!(
        findings_with("public.people(email text, ssn text)", "", &past),
        [""; 0]
    );
}

#[test]
fn lists_columns_that_are_not_converted_and_refuses_their_tables() {
    let catalog = catalog(
        "public.plain(a text)\npublic.unknown(a pgveil.sealed_text)\npublic.copy(b int4, a pgveil.sealed_text)\npublic.free(a text)",
    );
    let policy = policy(
        "table public.plain scope platform\n a text\ntable public.unknown scope platform\n a text",
    );
    let rules = Ruleset::compile(&policy, Arc::new(catalog), &[], 1).unwrap();
    let states: Vec<(&str, Pending)> = rules
        .pending
        .iter()
        .map(|p| (p.table.as_str(), p.state))
        .collect();
    assert_eq!(
        states,
        [
            ("plain", Pending::NotConverted),
            ("unknown", Pending::NotRegistered),
            ("copy", Pending::NotInPolicy)
        ]
    );
    assert_eq!(
        rules.names().collect::<Vec<_>>(),
        ["copy", "plain", "unknown"]
    );
    for (table, anchor) in [
        ("plain", "column-not-converted"),
        ("copy", "column-not-in-policy"),
    ] {
        let oid = rules.relation("public", table).unwrap().oid;
        let refusal = rules.refuse_pending(oid).unwrap();
        assert_eq!((refusal.sqlstate, refusal.anchor), ("0A000", anchor));
        assert!(rules.is_protected_relation(oid));
    }
    assert!(rules.columns.is_empty());
    assert_eq!(rules.pending_tables().len(), 3);
}

#[test]
fn keeps_the_ids_of_columns_that_are_gone() {
    let policy =
        policy("table public.people scope platform\n email text reveal=support\n ssn varchar(11)");
    let mut past = registered(&policy);
    past[0].id = ColumnId(9);
    let gone = |id: u32, table: &str| RegisteredColumn {
        id: ColumnId(id),
        table: table.to_owned(),
        ..past[0].clone()
    };
    past.extend([gone(4, "people"), gone(5, "dropped")]);
    let catalog = Arc::new(catalog(PEOPLE));
    let past = placed(past, &catalog);
    let rules = Ruleset::compile(&policy, catalog, &past, 1).unwrap();
    let email = rules.column(ColumnId(9)).unwrap();
    assert!(!email.retired);
    let former = rules.column(ColumnId(4)).unwrap();
    assert!(former.retired && former.reveal == email.reveal);
    let dropped = rules.column(ColumnId(5)).unwrap();
    assert!(dropped.retired && dropped.reveal == Some(Vec::new()));
    assert!(rules.attribute(0, 0).is_none());
}

#[test]
fn a_column_that_took_a_registered_name_is_not_that_one() {
    let policy = policy("table public.people scope platform\n email text");
    let catalog = Arc::new(catalog("public.people(id int4, email pgveil.sealed_text)"));
    let mut past = placed(registered(&policy), &catalog);
    past[0].place.0 += 1000;
    let rules = Ruleset::compile(&policy, Arc::clone(&catalog), &past, 1).unwrap();
    let state: Vec<_> = rules.pending.iter().map(|column| column.state).collect();
    assert_eq!(state, [Pending::NotRecognised]);
    assert!(rules.column(past[0].id).unwrap().retired);
    // A registration that came there by a rename goes before a newer one of the name.
    let here = RegisteredColumn {
        table: "leads".to_owned(),
        id: ColumnId(7),
        ..placed(registered(&policy), &catalog).remove(0)
    };
    past[0].id = ColumnId(8);
    past.push(here);
    let rules = Ruleset::compile(&policy, catalog, &past, 1).unwrap();
    assert!(rules.pending.is_empty() && !rules.column(ColumnId(7)).unwrap().retired);
}

#[test]
fn finds_what_reads_protected_tables() {
    let rules = ruleset(
        "public.people(id int4 pk, email pgveil.sealed_text) triggers public.touch
         view public.names(email text) reads public.people
         view public.names2(email text) reads public.names
         view public.through(email text) calls public.f2
         public.orders(id int4) triggers public.check_order
         public.queue(id int4 default next_mail())
         view public.open_orders(id int4) reads public.orders
         public.free(id int4) triggers public.touch
         function public.touch : NEW.updated := now()
         function public.f1 : SELECT email FROM \"People\" WHERE true
         function public.f2 : SELECT f1()
         function public.next_mail : SELECT min(id) FROM public.PEOPLE
         function public.check_order : PERFORM 1 FROM names2
         function public.add_order : INSERT INTO orders VALUES (1)
         function public.show_order : SELECT id FROM orders
         function public.rows returns public.people : SELECT 1
         function public.other : SELECT * FROM people_archive",
        "table public.people scope platform\n email text",
    );
    let is_dependent =
        |name: &str| rules.is_dependent_relation(rules.relation("public", name).unwrap().oid);
    let has_writes =
        |name: &str| rules.has_dependent_writes(rules.relation("public", name).unwrap().oid);
    for view in ["names", "names2", "through"] {
        assert!(is_dependent(view), "{view}");
    }
    for relation in ["people", "orders", "open_orders", "free"] {
        assert!(!is_dependent(relation), "{relation}");
    }
    for relation in ["orders", "queue", "open_orders"] {
        assert!(has_writes(relation), "{relation}");
    }
    assert!(!has_writes("free") && !has_writes("people"));
    for function in ["f1", "f2", "next_mail", "check_order", "add_order", "rows"] {
        assert!(rules.is_dependent_function(function), "{function}");
    }
    for function in ["touch", "show_order", "other"] {
        assert!(!rules.is_dependent_function(function), "{function}");
    }
}
