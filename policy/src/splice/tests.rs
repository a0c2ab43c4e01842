//! Texts before and after, and positions back.

use super::*;
use crate::{
    Refusal,
    plan::{ColumnId, Edit, Make, Operand, Output, Slot, StatementPlan},
};
use proptest::prelude::*;
use std::ops::Range;

fn edit(range: Range<usize>, with: Replacement) -> Edit {
    Edit { range, with }
}

fn text(text: &str) -> Replacement {
    Replacement::Text(text.to_owned())
}

fn slot() -> Slot {
    Slot {
        make: Make::Seal,
        operand: Operand::Literal(None),
        column: ColumnId(1),
        scope: Vec::new(),
        members: None,
        exact: false,
    }
}

fn statement(range: Range<usize>, refused: bool) -> StatementPlan {
    StatementPlan {
        tag: None,
        range,
        output: Output::Unknown,
        effect: crate::plan::Effect::None,
        refused: refused.then(|| Refusal::unsupported("test", "test")),
        copy: None,
    }
}

fn splice(plan: &Plan, sql: &str) -> Spliced {
    plan.splice(sql, &mut |slot, out| {
        out.push_str(&format!("'\\x{slot:02x}'::bytea"));
    })
}

#[test]
fn writes_slots_as_literals_in_the_simple_protocol() {
    let sql = "INSERT INTO t VALUES ('é', 'b') -- ü";
    let plan = Plan {
        edits: vec![
            edit(22..26, Replacement::Slot(0)),
            edit(28..31, Replacement::Slot(1)),
        ],
        slots: vec![slot(), slot()],
        ..Plan::default()
    };
    let spliced = splice(&plan, sql);
    assert_eq!(
        spliced.text,
        "INSERT INTO t VALUES ('\\x00'::bytea, '\\x01'::bytea) -- ü"
    );
    assert_eq!(spliced.original_position(1), Some(1));
    assert_eq!(
        spliced.original_position(23),
        Some(23),
        "start of the first slot"
    );
    assert_eq!(spliced.original_position(30), Some(23), "inside it");
    let end = spliced.text.chars().count() + 1;
    assert_eq!(
        spliced.original_position(end),
        Some(sql.chars().count() + 1)
    );
    assert_eq!(spliced.original_position(end + 1), None);
    assert_eq!(spliced.original_position(0), None);
}

#[test]
fn writes_slots_as_parameters_in_the_extended_protocol() {
    let sql = "SELECT a FROM t WHERE e IN($2,'x') AND f=$1";
    let plan = Plan {
        edits: vec![
            edit(27..29, Replacement::Slot(1)),
            edit(30..33, Replacement::Slot(0)),
            edit(41..43, Replacement::Param(2)),
        ],
        slots: vec![slot(), slot()],
        server_params: vec![
            ServerParam::Slot(1),
            ServerParam::Slot(0),
            ServerParam::Client(0),
        ],
        ..Plan::default()
    };
    assert_eq!(
        splice(&plan, sql).text,
        "SELECT a FROM t WHERE e IN($1,$2) AND f=$3"
    );
}

#[test]
fn puts_a_blank_where_tokens_would_glue() {
    let sql = "SELECT 1 WHERE'x'=e AND a-b";
    let plan = Plan {
        edits: vec![edit(14..17, text("$1")), edit(26..27, text("-1"))],
        ..Plan::default()
    };
    let spliced = splice(&plan, sql);
    assert_eq!(spliced.text, "SELECT 1 WHERE $1=e AND a- -1");
    assert_eq!(spliced.original_position(15), Some(15));
    assert_eq!(spliced.original_position(18), Some(18));

    let after = Plan {
        edits: vec![edit(7..10, text("$1"))],
        ..Plan::default()
    };
    assert_eq!(splice(&after, "SELECT 'x'FROM t").text, "SELECT $1 FROM t");
}

#[test]
fn replaces_everything_from_the_first_refused_statement_on() {
    let sql = "SELECT 'a'; SELECT 'b'; SELECT 'c'";
    let plan = Plan {
        edits: vec![
            edit(7..10, text("x")),
            edit(19..22, text("y")),
            edit(31..34, text("z")),
        ],
        statements: vec![
            statement(0..10, false),
            statement(12..22, true),
            statement(24..34, false),
        ],
        ..Plan::default()
    };
    let spliced = splice(&plan, sql);
    assert_eq!(spliced.text, format!("SELECT x; {STAND_IN}"));
    assert_eq!(spliced.original_position(15), Some(13));
}

#[test]
fn removes_text_and_maps_the_end_of_input() {
    let plan = Plan {
        edits: vec![edit(8..14, text(""))],
        ..Plan::default()
    };
    let spliced = splice(&plan, "SELECT 1 LIMIT");
    assert_eq!(spliced.text, "SELECT 1");
    assert_eq!(spliced.original_position(9), Some(15));
}

proptest! {
    #[test]
    fn is_the_identity_without_edits(sql in any::<String>(), position in 1usize..200) {
        let spliced = splice(&Plan::default(), &sql);
        prop_assert_eq!(&spliced.text, &sql);
        prop_assert_eq!(spliced.original_position(position), Some(position));
    }

    #[test]
    fn maps_monotonically_and_copied_characters_to_themselves(
        parts in prop::collection::vec(("[ aé'(\u{1F600}-]{0,6}", prop::option::of("[ $b'ü-]{0,6}")), 0..8)
    ) {
        let mut sql = String::new();
        let mut edits = Vec::new();
        for (part, with) in &parts {
            let start = sql.len();
            sql.push_str(part);
            if let Some(with) = with {
                edits.push(edit(start..sql.len(), text(with)));
            }
        }
        let has_edits = !edits.is_empty();
        let plan = Plan { edits, ..Plan::default() };
        let spliced = splice(&plan, &sql);
        let original: Vec<char> = sql.chars().collect();
        let sent: Vec<char> = spliced.text.chars().collect();
        let mut last = 1;
        for position in 1..=sent.len() + 1 {
            let found = spliced.original_position(position).expect("every position maps");
            prop_assert!(found >= last && found <= original.len() + 1);
            last = found;
        }
        if has_edits {
            prop_assert_eq!(spliced.original_position(sent.len() + 2), None);
        }
        for piece in spliced.map.pieces.iter().filter(|piece| piece.copied) {
            prop_assert_eq!(
                &sent[piece.sent..piece.sent + piece.len],
                &original[piece.original..piece.original + piece.len]
            );
        }
    }
}
