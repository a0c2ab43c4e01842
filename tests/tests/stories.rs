//! The golden stories of `tests/stories`, one test each. `UPDATE_STORIES=1` rewrites what they expect.

use std::path::Path;

use anyhow::Result;

fn run(name: &str) -> Result<()> {
    pgveil_tests::story::run(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("stories")
            .join(name),
    )
}

/// Makes a test of each story and knows which there are.
macro_rules! stories {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() -> Result<()> {
                run(concat!(stringify!($name), ".story"))
            }
        )*

        const NAMES: &[&str] = &[$(concat!(stringify!($name), ".story")),*];
    };
}

stories! {
    a_customer_moves_between_tenants
    a_damaged_value_is_not_shown
    a_primary_key_tells_rows_apart
    a_session_keeps_statements_and_cursors
    a_table_takes_the_name_of_another
    an_analyst_sees_masked_emails
    an_unprotected_table_is_as_ever
    bad_input_is_refused_as_postgres_would
    copy_moves_plaintext_and_masks_it
    distinct_and_groups_need_equality
    documents_show_what_the_role_may_see
    equality_finds_rows_in_the_clear_text
    functions_and_patterns_are_refused
    functions_see_ciphertext
    masks_fit_the_type
    names_may_be_quoted_and_qualified
    order_is_refused
    outer_joins_leave_rows_out
    plaintext_cannot_get_in_from_the_side
    prepared_statements_seal_their_parameters
    sessions_keep_to_their_tenant
    several_statements_in_one_string
    statements_of_later_releases_are_refused
    tenants_have_keys_of_their_own
    texts_are_joined_where_they_are_opened
    the_command_line_explains
    the_server_is_asked_to_explain
    the_session_names_its_tenant
    transactions_stay_the_servers_own
    triggers_see_ciphertext
    unique_emails_stay_unique
    values_outlive_a_crash
}

#[test]
fn every_story_is_told() -> Result<()> {
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("stories"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        anyhow::ensure!(
            NAMES.contains(&name.as_str()),
            "{name} is not in tests/stories.rs"
        );
    }
    Ok(())
}
