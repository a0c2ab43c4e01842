//! Rows of several tenants, each under keys of its own: what can be answered is answered, the rest is refused.

use anyhow::Result;

use crate::{refused, same, same_with};

#[test]
fn every_tenants_rows_are_read() -> Result<()> {
    same(&[
        "SELECT * FROM tenants_notes",
        "SELECT author, body FROM tenants_notes WHERE tenant_id = 20 ORDER BY id",
        "SELECT count(author) FROM tenants_notes",
        "SELECT id FROM tenants_notes WHERE author IS NULL",
    ])
}

#[test]
fn equality_within_a_pinned_tenant_is_answered() -> Result<()> {
    same(&[
        "SELECT id FROM tenants_notes WHERE tenant_id = 10 AND author = 'ada'",
        "SELECT id FROM tenants_notes WHERE author = 'ada' AND tenant_id = 20",
        "SELECT id FROM tenants_notes t WHERE t.tenant_id = 10 AND t.author IN ('ada', 'bob')",
        "SELECT id FROM tenants_notes WHERE tenant_id = 30 AND author = 'ada'",
        "UPDATE tenants_notes SET body = 'changed' WHERE tenant_id = 10 AND author = 'ada' RETURNING id, body",
    ])?;
    same_with(&[
        (
            "SELECT id, body FROM tenants_notes WHERE tenant_id = $1 AND author = $2",
            &[Some("10"), Some("ada")],
        ),
        (
            "SELECT id FROM tenants_notes WHERE author = $2 AND tenant_id = $1",
            &[Some("20"), Some("ada")],
        ),
    ])
}

#[test]
fn a_shared_search_key_answers_across_tenants() -> Result<()> {
    same(&[
        "SELECT id FROM tenants_notes WHERE shared_author = 'ada'",
        "SELECT DISTINCT shared_author FROM tenants_notes",
        "SELECT shared_author, count(*) FROM tenants_notes GROUP BY shared_author",
        "SELECT a.id, b.id FROM tenants_notes a JOIN tenants_notes b ON a.shared_author = b.shared_author",
    ])
}

#[test]
fn writes_name_their_tenant() -> Result<()> {
    same(&[
        "INSERT INTO tenants_notes (id, tenant_id, author, body) VALUES (100, 10, 'eve', 'x') RETURNING *",
        "INSERT INTO tenants_notes (id, tenant_id, author, body) VALUES (100, 10, 'eve', 'x'), (101, 20, 'eve', 'y') RETURNING *",
        "INSERT INTO tenants_notes VALUES (100, 30, 'eve', 'x', 's') RETURNING author, tenant_id",
    ])?;
    same_with(&[(
        "INSERT INTO tenants_notes (id, tenant_id, author, body) VALUES ($1, $2, $3, $4) RETURNING *",
        &[Some("100"), Some("40"), Some("a"), None],
    )])
}

#[test]
fn equality_across_tenants_under_their_own_keys_is_refused() -> Result<()> {
    refused(&[
        "SELECT id FROM tenants_notes WHERE author = 'ada'",
        "SELECT id FROM tenants_notes WHERE tenant_id = 10 OR author = 'ada'",
        "SELECT id FROM tenants_notes WHERE tenant_id > 5 AND author = 'ada'",
        "SELECT DISTINCT author FROM tenants_notes",
        "SELECT author, count(*) FROM tenants_notes GROUP BY author",
        "SELECT count(DISTINCT author) FROM tenants_notes",
        "SELECT a.id, b.id FROM tenants_notes a JOIN tenants_notes b ON a.author = b.author",
        "SELECT id FROM tenants_notes WHERE author = shared_author",
    ])
}

#[test]
fn a_write_without_a_certain_tenant_is_refused() -> Result<()> {
    refused(&[
        "INSERT INTO tenants_notes (id, tenant_id, author) VALUES (100, 5 + 5, 'x')",
        "UPDATE tenants_notes SET tenant_id = 20 WHERE id = 1",
        "UPDATE tenants_notes SET tenant_id = 20, body = 'moved' WHERE tenant_id = 10",
        "INSERT INTO tenants_notes (id, tenant_id, author) SELECT 100, 10, 'literal'",
    ])
}
