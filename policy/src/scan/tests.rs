//! What a text is judged to touch, and that nothing is missed.

use proptest::prelude::*;
use sqlparser::{
    dialect::PostgreSqlDialect,
    tokenizer::{Token, Tokenizer},
};

use super::Scan;
use crate::{Ruleset, ruleset::fixture::ruleset};

fn rules() -> Ruleset {
    ruleset(
        "public.people(id int4 pk, email pgveil.sealed_text)
         public.\"Odd \"\"name\"(email pgveil.sealed_text)
         public.a23456789012345678901234567890123456789012345678901234567890123(email pgveil.sealed_text)
         view public.vip(email text) reads public.people
         public.logged(id int4) triggers public.set_tenant
         view public.logged_view(id int4) reads public.logged
         public.free(id int4) triggers public.touch
         function public.set_tenant : BEGIN PERFORM set_config('pgveil.tenant', NEW.t, true); END
         function public.outer_fn : SELECT set_tenant()
         function public.writes_logged : INSERT INTO logged VALUES (1)
         function public.sets_path : UPDATE t SET a = 1; SET search_path = x; UPDATE t SET b = 2
         function public.branches : BEGIN IF TG_OP = 'UPDATE' THEN SET ROLE x; END IF; END
         function public.touch : BEGIN UPDATE t SET a = 1; INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 2; END
         function public.makes : CREATE INDEX ON t (a)
         function public.dynamic : EXECUTE format('%s', x)",
        "table public.people scope platform\n email text",
    )
}

fn scan(sql: &str) -> Scan {
    rules().scan(sql.as_bytes())
}

#[test]
fn finds_protected_names_in_every_spelling() {
    let rules = rules();
    for sql in [
        "select * from people",
        "SELECT * FROM PEOPLE",
        "select*from\"people\"where 1=1",
        "select people.email from x",
        "table public.people;",
        "select * from/*c*/people--x",
        "select 1from x where 1=1and people.a",
        "select $1people",
        "select * from vip",
        "select * from \"Odd \"\"name\"",
        "select * from U&\"p\\0065ople\"",
        "select * from u&\"p!0065ople\"/**/UESCAPE '!'",
        "select 'it''s', $$'$$, u&\"peopl\\0065\"",
        "select * from a23456789012345678901234567890123456789012345678901234567890123",
        "select * from a234567890123456789012345678901234567890123456789012345678901234xyz",
    ] {
        assert!(rules.scan(sql.as_bytes()).protected, "{sql}");
    }
    for sql in [
        "",
        "select * from peoples",
        "select * from my_people",
        "select * from people_archive",
        "select * from people$1",
        "select * from épeople",
        "select * from peopleé",
        "select 1, 'x' from free where a = U&'x'",
        "select odd, name from free",
        "select U&'d\\0061t' AS U&\"d\\0061t\\+000061\"",
        "select 'tricky' AS U&\"\\\" UESCAPE '!'",
    ] {
        assert!(!rules.scan(sql.as_bytes()).protected, "{sql}");
    }
}

#[test]
fn finds_changes_of_settings() {
    let rules = rules();
    for sql in [
        "SET search_path = x",
        " \n\t/* a /* nested */ comment */ -- and another\n set role x",
        "select 1; set x = 1",
        "select 1;--c\nset x = 1",
        "select 'a;b'; RESET ALL",
        "reset role",
        "discard all",
        "select set_config('a', 'b', false)",
        "select pg_catalog.\"set_config\"('a', 'b', false)",
        "rollback to s",
        "ABORT",
        "call f()",
        "do $$ begin end $$",
        "create temp table t (a int)",
        "create table pg_temp.t (a int)",
        "select pg_temp.f()",
        "select 1 into temp x",
        "explain analyze create table x as select 1",
        "explain (analyze, format json /* ) */) create temp table x as select 1",
        "explain analyze verbose create temp table x as select 1",
        "alter table x rename to y",
        "grant a to b",
        "prepare transaction 'x'",
        "select outer_fn()",
        "select sets_path()",
        "select branches()",
        "select dynamic()",
        "select writes_logged()",
        "insert into logged values (1)",
        "insert into logged_view values (1)",
        "update logged set id = 1",
    ] {
        assert!(rules.scan(sql.as_bytes()).settings, "{sql}");
    }
    for sql in [
        "UPDATE t SET a = 1",
        "update t/* c */set a = 1",
        "update t -- c\n set a = 1; update t set b = 2",
        "insert into t values (1) on conflict do update set a = 2",
        "insert into free select reset, temp from discarded",
        "select 1, settle, \"set\" from t",
        "select touch()",
        "select * from free",
        "begin; commit; end",
        "insert into t values ('; sets a')",
        "with x as (select 1) insert into t select * from x",
        "merge into t using u on true when matched then update set a = 1",
        "execute p",
    ] {
        assert!(!rules.scan(sql.as_bytes()).settings, "{sql}");
    }
}

#[test]
fn finds_changes_of_the_catalog() {
    let rules = rules();
    for sql in [
        "create table t ()",
        "/* x */ ALTER table t add a int",
        "select 1; drop view v",
        "select a into b from c",
        "with x as (select 1) select * into y from x",
        "(select 1 into t)",
        "import foreign schema s from server f into public",
        "do $$ $$",
        "select makes()",
        "select dynamic()",
    ] {
        assert!(rules.scan(sql.as_bytes()).catalog, "{sql}");
    }
    for sql in [
        "select created, altered from drops",
        "insert into t values (1)",
        "insert into t values ('come into the open')",
        "WITH x AS (SELECT 1) INSERT \n INTO t SELECT * FROM x",
        "set x = 1",
        "select outer_fn()",
    ] {
        assert!(!rules.scan(sql.as_bytes()).catalog, "{sql}");
    }
}

#[test]
fn tells_what_keeps_a_statement_for_later() {
    assert!(scan("prepare p as select set_config('a', 'b', true)").deferred);
    assert!(scan("begin; DECLARE c CURSOR FOR SELECT 1").deferred);
    assert!(!scan("select prepare from t").deferred);
}

#[test]
fn treats_any_foreign_byte_as_a_foreign_name() {
    let rules = ruleset(
        "public.Köpfe(a pgveil.sealed_text)",
        "table public.Köpfe scope platform\n a text",
    );
    for sql in ["select * from KÖPFE", "select 'ü'"] {
        assert!(rules.scan(sql.as_bytes()).protected);
    }
    assert!(rules.scan(b"select * from k\xf6pfe").protected, "LATIN1");
    assert!(!rules.scan(b"select 1").protected);
}

#[test]
fn stays_linear_on_hostile_texts() {
    let rules = rules();
    for unit in [
        ";/*",
        ";--",
        "EXPLAIN(;",
        "people",
        "ANALYZE ",
        ";explain",
        "1people",
        "/*",
        "\u{e9}people",
    ] {
        let text = unit.repeat(20_000);
        rules.scan(text.as_bytes());
    }
}

/// Pieces of text around and between names.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "people", "PEOPLE", "PeOpLe", "\"people\"", "vip", "\"vip\"", "\"Odd \"\"name\"", "peoples", "_people",
            "set", "update", "select", "from", "u", "U&", "E", "N", "x",
        ])
        .prop_map(str::to_owned),
        4 => prop::sample::select(vec![
            " ", "\n", "\t", ";", ",", ".", "(", ")", "=", "*", "'", "''", "\"", "$", "$$", "$1", "1", "1.5", "-",
            "--", "--x\n", "/*", "*/", "/* c */", "::", ":", "&", "\\", "é", "[", "]", "0x1F", "1e5",
        ])
        .prop_map(str::to_owned),
        1 => "[ -~]{0,4}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn what_the_tokenizer_reads_as_a_protected_name_is_found(pieces in prop::collection::vec(piece(), 0..12)) {
        thread_local!(static RULES: Ruleset = rules());
        let sql = pieces.concat();
        let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, &sql).tokenize() else {
            return Ok(());
        };
        RULES.with(|rules| {
            let names: Vec<&str> = rules.names().collect();
            let is_name = |token: &Token| match token {
                Token::Word(word) => {
                    let folded = match word.quote_style {
                        None => word.value.to_lowercase(),
                        Some(_) => word.value.clone(),
                    };
                    names.contains(&folded.as_str())
                }
                _ => false,
            };
            if tokens.iter().any(is_name) {
                prop_assert!(rules.scan(sql.as_bytes()).protected, "{sql}");
            }
            Ok(())
        })?;
    }

    #[test]
    fn scanning_never_panics(sql in prop::collection::vec(any::<u8>(), 0..64)) {
        thread_local!(static RULES: Ruleset = rules());
        RULES.with(|rules| rules.scan(&sql));
    }
}
