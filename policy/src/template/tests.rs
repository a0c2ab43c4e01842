//! What parses, what is refused and where, and that encoding is injective.

use super::*;
use proptest::prelude::*;

fn refused(template: &str) -> (usize, String) {
    let error = ScopeTemplate::parse(template).expect_err(template);
    (error.at, error.what)
}

#[test]
fn accepts_the_five_levels_with_placeholders_in_names() {
    for template in [
        "platform",
        "tenant:acme",
        "tenant:{tenant_id}",
        "tenant:acme/env:prod",
        "tenant:t-{tenant_id}/project:crm",
        "tenant:{tenant_id}/project:crm/env:{session.env}",
        "tenant:Acme%20Inc/env:x{Mixed Case}.y",
    ] {
        let parsed = ScopeTemplate::parse(template).expect(template);
        assert_eq!(parsed.to_string(), template);
    }
}

#[test]
fn names_columns_and_settings() {
    let template = ScopeTemplate::parse("tenant:{t}/project:{session.P}/env:{t}").unwrap();
    assert_eq!(template.columns(), ["t"]);
    assert_eq!(template.sessions(), ["p"]);
    assert!(!template.is_fixed());
    assert!(ScopeTemplate::parse("tenant:a/env:b").unwrap().is_fixed());
}

#[test]
fn refuses_what_could_yield_no_level_or_a_wrong_one() {
    for (template, at) in [
        ("", 0),
        ("plat", 0),
        ("platform/tenant:a", 0),
        ("platform{x}", 0),
        ("{a}", 0),
        ("{a}:b", 0),
        ("project:a", 0),
        ("tenant:", 7),
        ("tenant:/env:x", 7),
        ("tenant:a/", 9),
        ("tenant:a/env:b/project:c", 15),
        ("tenant:a/tenant:b", 9),
        ("tenant:a/{x}:b", 9),
        ("tenant:a/en{x}:b", 9),
        ("tenant:a/zone:b", 9),
        ("tenant:{a}{b}", 10),
        ("tenant:{a}-{b}", 11),
        ("tenant:{a", 7),
        ("tenant:{a{b}}", 7),
        ("tenant:a}", 8),
        ("tenant:{}", 8),
        ("tenant:{session.}", 8),
        ("tenant:{session.a-b}", 8),
        ("tenant:a b", 8),
        ("tenant:a:b", 8),
        ("tenant:a%2fb", 8),
        ("tenant:a%2", 8),
        ("tenant:%41", 7),
        ("tenant:%FF", 7),
        ("tenant:é", 7),
    ] {
        let (found, what) = refused(template);
        assert_eq!(found, at, "{template}: {what}");
    }
}

#[test]
fn encodes_upper_case_hex_of_utf8() {
    assert_eq!(encode("a b/c:é%"), "a%20b%2Fc%3A%C3%A9%25");
    assert_eq!(encode("A.b_c-9"), "A.b_c-9");
}

proptest! {
    #[test]
    fn encoding_is_injective(value in any::<String>()) {
        let encoded = encode(&value);
        prop_assert!(encoded.bytes().all(|b| is_plain(b) || b == b'%'));
        prop_assert_eq!(decode(&encoded), Some(value));
    }

    #[test]
    fn parsing_never_panics(template in any::<String>()) {
        let _ = ScopeTemplate::parse(&template);
    }

    #[test]
    fn what_parses_prints_as_itself_or_with_folded_settings(
        template in "(tenant:|platform|/env:|/project:|[{}]|session[.]|[aA%:/]){0,8}"
    ) {
        if let Ok(parsed) = ScopeTemplate::parse(&template) {
            prop_assert!(parsed.to_string().eq_ignore_ascii_case(&template));
        }
    }
}

#[test]
fn a_template_tells_which_scopes_its_rows_can_be_in() {
    let may = |template: &str, scope: &str, below: bool| {
        let template = ScopeTemplate::parse(template).unwrap();
        template.may_yield(&pgveil_config::ScopePath::parse(scope).unwrap(), below)
    };
    let by_tenant = "tenant:{tenant_id}/project:crm/env:{session.env}";
    for (template, scope, itself, below) in [
        ("platform", "platform", true, true),
        ("platform", "tenant:acme", false, false),
        ("tenant:{t}", "tenant:acme", true, true),
        ("tenant:{t}", "platform", false, true),
        ("tenant:eu-{t}", "tenant:acme", false, false),
        ("tenant:eu-{t}", "tenant:eu-acme", true, true),
        ("tenant:eu-{t}", "tenant:eu-", false, false),
        ("tenant:other", "tenant:acme", false, false),
        (by_tenant, "tenant:acme", false, true),
        (by_tenant, "tenant:acme/project:crm", false, true),
        (by_tenant, "tenant:acme/env:prod", false, true),
        (by_tenant, "tenant:acme/project:crm/env:prod", true, true),
        (by_tenant, "tenant:acme/project:shop/env:prod", false, false),
    ] {
        assert_eq!(may(template, scope, false), itself, "{template} {scope}");
        assert_eq!(
            may(template, scope, true),
            below,
            "{template} below {scope}"
        );
    }
}
