//! Terms that the policy wants made otherwise: a step, and what holds for the column until it is taken.

use super::*;
use crate::ruleset::{Generation, NewTerms, OtherTerms};

const BY_TENANT: &str =
    "table public.people scope tenant:{tenant_id}\n ssn varchar(20) equality group=g";

fn other(shared_key: bool, scope: &str) -> OtherTerms {
    OtherTerms {
        generation: Generation {
            number: 7,
            newest_key: 9,
        },
        shared_key,
        equality_group: Some("g".into()),
        scope: Some(scope.into()),
    }
}

#[test]
fn terms_that_are_wanted_otherwise_are_a_step_and_hold_until_it_is_taken() {
    let (column, steps) = compiled(BY_TENANT, |_| ());
    assert!(steps.is_empty());
    assert_eq!(column.scope.to_string(), "tenant:{tenant_id}");
    let wanted = Step::TurnTerms(NewTerms {
        shared_key: false,
        equality_group: Some("g".into()),
        scope: "tenant:{tenant_id}".into(),
    });
    for change in [
        (|p| p.shared_key = true) as fn(&mut RegisteredColumn),
        |p| p.equality_group = None,
        |p| p.scope = Some("tenant:a/env:{note}".into()),
    ] {
        let (column, steps) = compiled(BY_TENANT, change);
        assert_eq!(steps, std::slice::from_ref(&wanted));
        let shared = column.search_key == SearchKey::Shared;
        let own = TermContext::Column(ColumnId(1));
        let of_another = column.scope.to_string() == "tenant:a/env:{note}";
        assert_eq!(
            u8::from(shared) + u8::from(column.context == own) + u8::from(of_another),
            1
        );
    }
}

#[test]
fn a_row_has_both_scopes_while_terms_go_from_one_to_the_other() {
    let narrow = "tenant:{tenant_id}/env:{note}";
    let both = "tenant:{tenant_id}|tenant:{tenant_id}/env:{note}";
    let back = "tenant:{tenant_id}/env:{note}|tenant:{tenant_id}";
    for (change, before, expected, seals_other) in [
        (Change::Announced(other(false, narrow)), "", both, false),
        (Change::Turning(other(false, narrow)), "", both, true),
        (
            Change::Turned(other(false, "tenant:{tenant_id}")),
            narrow,
            back,
            false,
        ),
        (
            Change::Clearing(other(false, "tenant:{tenant_id}")),
            narrow,
            narrow,
            false,
        ),
        (
            Change::Turning(other(false, "tenant:{tenant_id}")),
            "",
            "tenant:{tenant_id}",
            true,
        ),
    ] {
        let (column, steps) = compiled(BY_TENANT, |past| {
            past.change = Some(change.clone());
            if !before.is_empty() {
                past.scope = Some(before.into());
            }
        });
        assert!(steps.is_empty(), "{change:?}");
        assert_eq!(column.scope.to_string(), expected, "{change:?}");
        assert_eq!(column.seals_other, seals_other, "{change:?}");
        let tracked = column.scope.columns();
        assert_eq!(tracked.contains(&"note"), expected.contains("note"));
    }
    // Shared terms depend on no scope: the new one holds for what is sealed, at once.
    let (column, _) = compiled(BY_TENANT, |past| {
        past.shared_key = true;
        past.scope = Some("platform".into());
        past.change = Some(Change::Turning(other(false, narrow)));
    });
    assert_eq!(column.scope.to_string(), narrow);
}

#[test]
fn refuses_other_scopes_that_cannot_be_reached_while_the_table_is_used() {
    let with = |policy_text: &str, change: fn(&mut RegisteredColumn)| {
        let mut past = registered(&policy(BY_TENANT));
        change(&mut past[0]);
        findings_with(PEOPLE, policy_text, &past)
    };
    let strict = "table public.people scope tenant:{tenant_id} must-match\n ssn varchar(20) equality group=g";
    for (policy_text, change, expected) in [
        (
            strict,
            (|p| p.scope = Some("tenant:a".into())) as fn(&mut RegisteredColumn),
            "session = \"must-match\"",
        ),
        (
            BY_TENANT,
            |p| p.scope = Some("tenant:{gone}".into()),
            "column gone",
        ),
        // Terms that were dropped come back as they were, or not at all.
        (
            BY_TENANT,
            |p| {
                (p.equality, p.searched) = (false, true);
                p.scope = Some("tenant:a".into());
            },
            "of scope \"tenant:a\"",
        ),
    ] {
        let found = with(policy_text, change);
        assert!(
            found.len() == 1 && found[0].contains(expected),
            "{expected}: {found:#?}"
        );
    }
}

#[test]
fn values_are_not_moved_between_columns_whose_terms_part() {
    let (column, _) = compiled(BY_TENANT, |_| ());
    let (turning, _) = compiled(BY_TENANT, |past| {
        past.change = Some(Change::Turning(other(true, "tenant:{tenant_id}")));
    });
    assert!(column.terms_match(&turning) && !column.terms_will_match(&turning));
    assert!(turning.terms_will_match(&turning));
}
