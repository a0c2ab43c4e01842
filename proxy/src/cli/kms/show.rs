//! Keys for people and for programs.

use pgveil_providers::{civil::rfc3339, local::Key};
use serde_json::{Value, json};

use crate::cli::table;

/// All keys, a line each.
pub(super) fn list(provider: &str, keys: &[Key], as_json: bool) {
    if as_json {
        let all: Vec<_> = keys.iter().map(|key| to_json(provider, key)).collect();
        println!("{:#}", Value::Array(all));
        return;
    }
    let rows = keys.iter().map(|key| {
        let default = key.default().map_or_else(
            || "-".to_owned(),
            |version| format!("{} ({})", version.version, version.state),
        );
        let rotation = key.rotation.as_ref();
        vec![
            key.name.clone(),
            key.state.to_string(),
            default,
            key.algorithm.to_string(),
            key.usage.to_string(),
            rotation.map_or_else(|| "-".to_owned(), |r| format!("{} d", r.every_days)),
            next_rotation(key),
            key.origin.to_string(),
        ]
    });
    table::print(
        &[
            "KEY",
            "STATE",
            "DEFAULT VERSION",
            "ALGORITHM",
            "USAGE",
            "ROTATED EVERY",
            "NEXT ROTATION",
            "ORIGIN",
        ],
        rows,
    );
}

/// One key with all that is known of it.
pub(super) fn key(provider: &str, key: &Key, as_json: bool) {
    if as_json {
        println!("{:#}", to_json(provider, key));
        return;
    }
    let time = |at: Option<u64>| at.map_or_else(|| "-".to_owned(), rfc3339);
    let every = match &key.rotation {
        Some(rotation) => format!("every {} days", rotation.every_days),
        None => "by hand".to_owned(),
    };
    for (name, value) in [
        ("key", key.name.clone()),
        ("provider", provider.to_owned()),
        ("description", key.description.clone()),
        ("type", key.algorithm.kind().to_owned()),
        ("algorithm", key.algorithm.to_string()),
        ("usage", key.usage.to_string()),
        ("state", key.state.to_string()),
        ("origin", key.origin.to_string()),
        (
            "created",
            format!("{} by {}", rfc3339(key.created_at), key.created_by),
        ),
        (
            "default version",
            key.default_version
                .map_or_else(|| "-".to_owned(), |v| v.to_string()),
        ),
        ("rotation", every),
        ("last rotation", time(key.rotated_at)),
        ("next rotation", next_rotation(key)),
    ] {
        println!("{}", format!("{name:<16} {value}").trim_end());
    }
    println!();
    let versions = key.versions.iter().map(|version| {
        vec![
            version.version.to_string(),
            version.state.to_string(),
            rfc3339(version.created_at),
            version.created_by.clone(),
            time(version.destroyed_at),
        ]
    });
    table::print(
        &["VERSION", "STATE", "CREATED", "BY", "DESTROYED"],
        versions,
    );
    println!();
    let grants = key.access.iter().map(|grant| {
        let operations: Vec<_> = grant.operations.iter().map(|o| o.as_str()).collect();
        vec![grant.to.as_str().to_owned(), operations.join(", ")]
    });
    table::print(&["GRANTED TO", "OPERATIONS"], grants);
}

/// A key that cannot be rotated now has no next rotation, whatever its schedule.
fn next_rotation(key: &Key) -> String {
    key.rotate_at().map_or_else(|| "-".to_owned(), rfc3339)
}

fn to_json(provider: &str, key: &Key) -> Value {
    let versions: Vec<_> = { key.versions.iter() }
        .map(|version| {
            json!({
                "version": version.version,
                "state": version.state.as_str(),
                "created_at": rfc3339(version.created_at),
                "created_by": version.created_by,
                "destroyed_at": version.destroyed_at.map(rfc3339),
            })
        })
        .collect();
    json!({
        "name": key.name,
        "provider": provider,
        "description": key.description,
        "type": key.algorithm.kind(),
        "algorithm": key.algorithm.as_str(),
        "usage": key.usage.as_str(),
        "state": key.state.as_str(),
        "origin": key.origin.as_str(),
        "created_at": rfc3339(key.created_at),
        "created_by": key.created_by,
        "default_version": key.default_version,
        "rotation_days": key.rotation.as_ref().map(|rotation| rotation.every_days),
        "last_rotation": key.rotated_at.map(rfc3339),
        "next_rotation": key.rotate_at().map(rfc3339),
        "versions": versions,
        "access": key.access,
    })
}
