//! The analysis, table by table: each case is a statement and the plan it gets, written out as text. Cases stand in
//! `tests/*.txt`; `UPDATE_CASES=1 cargo test -p pgveil-policy analysis` writes what the analysis says now.

mod hostile;
mod limits;
mod render;
mod turning;
mod world;

use std::path::PathBuf;

use super::Protocol;
use render::render;
use world::world;

/// One statement and its plan.
struct Case {
    protocol: Protocol,
    oids: Vec<u32>,
    sql: String,
    expected: String,
}

/// Lines before the case: comments.
fn read(text: &str) -> Vec<(String, Case)> {
    let mut cases = Vec::new();
    let mut comments = String::new();
    for block in text.split("\n\n") {
        let mut lines = block
            .lines()
            .filter(|line| !line.trim().is_empty())
            .peekable();
        while let Some(comment) = lines.next_if(|line| line.starts_with('#')) {
            comments.push_str(comment);
            comments.push('\n');
        }
        let Some(first) = lines.next() else { continue };
        let protocol = if first.starts_with('!') {
            Protocol::Simple
        } else {
            Protocol::Extended
        };
        let mut sql = first[1..].trim().to_owned();
        let mut oids = Vec::new();
        if let Some((list, rest)) = sql
            .strip_prefix("oids ")
            .and_then(|rest| rest.split_once(": "))
        {
            oids = list.split(',').map(|oid| oid.parse().unwrap()).collect();
            sql = rest.to_owned();
        }
        let sql = sql.replace("\\n", "\n");
        let expected = lines.collect::<Vec<_>>().join("\n");
        cases.push((
            std::mem::take(&mut comments),
            Case {
                protocol,
                oids,
                sql,
                expected,
            },
        ));
    }
    cases
}

/// Compares every case of a file with the plan it gets.
fn check(file: &str) {
    check_in(file, world());
}

fn check_in(file: &str, (rules, view): (&super::Ruleset, super::SessionView)) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/analysis/tests")
        .join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let (mut wrong, mut written) = (Vec::new(), String::new());
    for (comments, case) in read(&text) {
        let plan = rules.analyse(&case.sql, &view, case.protocol, &case.oids);
        let actual = render(rules, &case.sql, plan);
        let mark = if case.protocol == Protocol::Simple {
            '!'
        } else {
            '?'
        };
        let oids = if case.oids.is_empty() {
            String::new()
        } else {
            format!(
                "oids {}: ",
                case.oids
                    .iter()
                    .map(u32::to_string)
                    .collect::<Vec<_>>()
                    .join(",")
            )
        };
        written.push_str(&format!(
            "{comments}{mark} {oids}{}\n{actual}\n\n",
            case.sql.replace('\n', "\\n")
        ));
        if actual != case.expected {
            wrong.push(format!(
                "{}\n--- expected\n{}\n--- actual\n{actual}\n",
                case.sql, case.expected
            ));
        }
    }
    if std::env::var_os("UPDATE_CASES").is_some() {
        std::fs::write(&path, written.trim_end().to_owned() + "\n").unwrap();
        return;
    }
    assert!(
        wrong.is_empty(),
        "{} of {file} differ\n\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

macro_rules! tables {
    ($($name:ident: $file:literal,)*) => {
        $(#[test]
        fn $name() {
            check($file);
        })*
    };
}

tables! {
    passes_on_what_is_selected: "select.txt",
    compares_by_equality_terms: "equality.txt",
    passes_expressions_on: "expression.txt",
    joins: "join.txt",
    keeps_the_order_that_applications_know: "order.txt",
    merges: "merge.txt",
    groups_and_tells_apart: "group.txt",
    looks_into_holders: "holders.txt",
    seals_elements: "elements.txt",
    inserts: "insert.txt",
    updates_and_deletes: "update.txt",
    asks_for_moments: "moments.txt",
    asks_for_the_scopes_of_rows: "touched.txt",
    asks_for_what_plain_columns_hold: "fetched.txt",
    resolves_names: "names.txt",
    proves_scopes: "scope.txt",
    numbers_parameters: "params.txt",
    refuses_by_default: "refused.txt",
    judges_utility_statements: "utility.txt",
    follows_what_sessions_keep: "kept.txt",
    holds_definitions_to_the_policy: "ddl.txt",
    copies: "copy.txt",
    cuts_strings_of_statements: "several.txt",
    reads_views_and_copies: "view.txt",
    makes_relations_of_queries: "derive.txt",
    calls_functions: "function.txt",
    makes_functions: "routine.txt",
    keeps_the_list_of_others_mistakes: "peers.txt",
}

#[test]
fn follows_a_turning_of_terms_step_by_step() {
    check_in("turning.txt", turning::world());
}

/// What a statement gets in a session that differs from the ordinary one.
fn in_session(sql: &str, change: impl Fn(&mut super::SessionView)) -> String {
    let (rules, mut view) = world();
    change(&mut view);
    let plan = rules.analyse(sql, &view, Protocol::Extended, &[]);
    render(rules, sql, plan).lines().next().unwrap().to_owned()
}

#[test]
fn resolves_names_along_the_search_path() {
    let path = |schemas: &[&str]| {
        let schemas: Vec<String> = schemas.iter().map(ToString::to_string).collect();
        move |view: &mut super::SessionView| view.schemas = schemas.clone()
    };
    let sql = "SELECT email FROM customers WHERE email = $1";
    assert_eq!(
        in_session(sql, path(&["pg_catalog", "other", "public"])),
        "unchanged"
    );
    assert!(in_session(sql, path(&["public", "other"])).contains("pgveil.eq_term(email)"));
    // The server says that there is no such table.
    assert_eq!(in_session(sql, path(&["pg_catalog"])), "unchanged");
    let mixed = "SELECT o.email, c.email FROM customers o, public.customers c";
    assert_eq!(
        in_session(mixed, path(&["other", "public"])),
        "SELECT o.email, c.email FROM \"other\".customers o, public.customers c"
    );
}

/// A session with relations of its own, written as the catalog's fixture writes them.
fn with_own(own: &'static str) -> impl Fn(&mut super::SessionView) {
    move |view| {
        view.schemas.insert(0, "pg_temp_3".into());
        view.relations = crate::catalog::fixture::catalog(own).relations;
        for relation in &mut view.relations {
            relation.oid += 50000;
        }
    }
}

#[test]
fn knows_temporary_tables() {
    let hidden = || with_own("pg_temp_3.customers(id int4, email text)");
    assert_eq!(
        in_session("SELECT email FROM customers WHERE email = 'x'", hidden()),
        "unchanged"
    );
    let qualified = in_session(
        "SELECT email FROM public.customers WHERE email = $1",
        hidden(),
    );
    assert!(qualified.contains("pgveil.eq_term(email)"));
    assert_eq!(
        in_session(
            "SELECT l.email FROM leads l JOIN customers c ON c.id = l.id AND l.email = $1",
            hidden()
        ),
        "SELECT l.email FROM public.leads l JOIN pg_temp_3.customers c ON c.id = l.id AND pgveil.eq_term(l.email) = $1"
    );
    let mixed = in_session(
        "SELECT 1 FROM leads l JOIN pg_temp.customers c ON c.email = l.email",
        hidden(),
    );
    assert!(mixed.starts_with("0A000 columns-not-comparable"), "{mixed}");
    let plaintext = in_session(
        "INSERT INTO leads (id, email) SELECT id, email FROM customers",
        hidden(),
    );
    assert!(
        plaintext.contains("seal per row leads.email") || plaintext.contains("pgveil values"),
        "{plaintext}"
    );
    assert!(
        plaintext.contains("FROM pg_temp_3.customers"),
        "{plaintext}"
    );
    let ciphertext = in_session(
        "INSERT INTO customers SELECT id, email FROM leads",
        hidden(),
    );
    assert!(
        ciphertext.starts_with("0A000 expression-not-supported"),
        "{ciphertext}"
    );
}

#[test]
fn knows_temporary_copies_and_views() {
    let own = || {
        with_own(
            "pg_temp_3.kept(id int4, mail pgveil.sealed_text, body pgveil.sealed_jsonb)
             view pg_temp_3.shown(id int4, email pgveil.sealed_text) reads pg_temp_3.kept as SELECT customers.id, customers.email FROM customers
             view pg_temp_3.upper(email pgveil.sealed_text) reads pg_temp_3.shown as SELECT shown.email FROM shown",
        )
    };
    assert_eq!(
        in_session("SELECT mail FROM kept", own()),
        "SELECT mail FROM pg_temp_3.kept"
    );
    let counted = in_session("SELECT count(DISTINCT mail) FROM kept", own());
    assert!(counted.starts_with("0A000"), "{counted}");
    assert!(in_session("SELECT email FROM shown WHERE email = $1", own()).contains("eq_term"));
    assert!(in_session("SELECT email FROM upper WHERE email = $1", own()).contains("eq_term"));
    let written = in_session("INSERT INTO kept (mail) VALUES ('x')", own());
    assert!(written.starts_with("0A000 value-not-sealable"), "{written}");
    assert_eq!(
        in_session(
            "INSERT INTO kept SELECT id, email, notes FROM customers",
            own()
        ),
        "INSERT INTO pg_temp_3.kept SELECT id, email, notes FROM public.customers"
    );
}

#[test]
fn refuses_what_it_cannot_read() {
    let refused = in_session("SELECT 1", |view| view.readable_text = false);
    assert!(
        refused.starts_with("0A000 settings-not-readable"),
        "{refused}"
    );
    let martian = |view: &mut super::SessionView| view.format.time_zone = "Mars/City".into();
    let refused = in_session("SELECT birth FROM customers", martian);
    assert!(
        refused.starts_with("0A000 time-zone-not-supported"),
        "{refused}"
    );
    assert!(in_session("SELECT email FROM leads", martian).starts_with("SELECT"));
}
