//! INSERT ... ON CONFLICT DO UPDATE where the row in conflict may belong to another tenant: the server compares.

use anyhow::{Result, ensure};
use pgveil_tests::{
    twin::sqlstate,
    wire::{Message, Wire},
};

use crate::{same, same_with, settled, twin};

#[test]
fn a_row_of_the_same_tenant_is_updated() -> Result<()> {
    same(&[
        "INSERT INTO accounts (id, tenant_id, note) VALUES (1, 10, 'new') ON CONFLICT (id) DO UPDATE SET note = EXCLUDED.note RETURNING *",
        "INSERT INTO accounts (id, tenant_id, note, email) VALUES (9, 10, 'new', 'e') ON CONFLICT (id) DO UPDATE SET note = EXCLUDED.note RETURNING *",
        "INSERT INTO accounts AS a (id, tenant_id, note) VALUES (1, 10, 'new'), (3, 20, 'other') ON CONFLICT (id) DO UPDATE SET note = COALESCE(a.note, EXCLUDED.note), title = 'again' RETURNING *",
        "INSERT INTO accounts (id, tenant_id, note) VALUES (1, 10, 'new') ON CONFLICT (id) DO UPDATE SET note = 'literal', pin = 4 RETURNING *",
        "INSERT INTO accounts (id, tenant_id, email, note, pin, handle) VALUES (1, 20, 'e', 'n', 3, 'h') ON CONFLICT (id) DO UPDATE SET tenant_id = EXCLUDED.tenant_id, email = EXCLUDED.email, note = EXCLUDED.note, pin = EXCLUDED.pin, handle = EXCLUDED.handle RETURNING *",
        "INSERT INTO accounts (id, tenant_id, note) VALUES (1, 10, 'new') ON CONFLICT (tenant_id, id) DO UPDATE SET note = EXCLUDED.note RETURNING *",
        "INSERT INTO accounts (id, tenant_id, note) VALUES (1, 99, 'new') ON CONFLICT (id) DO UPDATE SET title = 'other tenant' RETURNING *",
        "INSERT INTO accounts (id, tenant_id, note) VALUES (1, 99, 'new') ON CONFLICT DO NOTHING RETURNING *",
        "INSERT INTO parts (id, tenant, project, label) VALUES (1, 'acme', 'crm', 'l') ON CONFLICT (id) DO UPDATE SET label = EXCLUDED.label RETURNING *",
    ])?;
    same(&[
        "INSERT INTO accounts (id, tenant_id, handle) VALUES (9, 10, 'one') ON CONFLICT ON CONSTRAINT accounts_handle_key DO NOTHING RETURNING *",
        "INSERT INTO accounts (id, tenant_id, handle) VALUES (9, 10, 'other') ON CONFLICT ON CONSTRAINT accounts_handle_key DO NOTHING RETURNING *",
        "INSERT INTO accounts (id, tenant_id, handle, note) VALUES (9, 10, 'one', 'n') ON CONFLICT ON CONSTRAINT accounts_handle_key DO UPDATE SET note = EXCLUDED.note, title = 'found' RETURNING *",
        "INSERT INTO accounts (id, tenant_id, note) VALUES (1, 10, 'n') ON CONFLICT ON CONSTRAINT accounts_pkey DO UPDATE SET note = EXCLUDED.note RETURNING *",
        "INSERT INTO accounts (id, tenant_id, note) VALUES (1, 10, 'n') ON CONFLICT ON CONSTRAINT missing DO NOTHING",
    ])?;
    same_with(&[
        (
            "INSERT INTO accounts (id, tenant_id, note) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET note = EXCLUDED.note RETURNING *",
            &[Some("3"), Some("20"), Some("x")],
        ),
        (
            "INSERT INTO accounts (id, tenant_id, note) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET note = $3 RETURNING *",
            &[Some("3"), Some("20"), Some("x")],
        ),
        (
            "INSERT INTO parts (id, tenant, project, label) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO UPDATE SET label = EXCLUDED.label RETURNING *",
            &[Some("3"), Some("Öl/& Söhne"), Some("crm"), Some("x")],
        ),
    ])
}

#[test]
fn a_row_of_another_tenant_fails_the_statement() -> Result<()> {
    let twin = twin()?;
    let mut veiled = Wire::connect(&twin.proxy.target("app"))?;
    for sql in [
        "INSERT INTO accounts (id, tenant_id, note) VALUES (1, 20, 'new') ON CONFLICT (id) DO UPDATE SET note = EXCLUDED.note",
        "INSERT INTO accounts (id, tenant_id, note) VALUES (1, 20, 'new') ON CONFLICT (id) DO UPDATE SET note = 'x'",
        "INSERT INTO parts (id, tenant, project, label) VALUES (1, 'acme', 'web', 'l') ON CONFLICT (id) DO UPDATE SET label = EXCLUDED.label",
    ] {
        veiled.send(&[Message::query(sql)])?;
        let state = sqlstate(&veiled.until_ready(1)?);
        ensure!(state.as_deref() == Some("PV001"), "{sql}: {state:?}");
    }
    settled(&twin)
}
