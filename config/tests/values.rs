//! What right files mean: values, defaults, and what one section takes from another.

#![allow(clippy::unwrap_used)]

use std::{path::Path, time::Duration};

use pgveil_config::{Mask, PolicyFile, SearchKey, Secret, Settings, TlsMode, settings::Provider};

const SHORT: &str = r#"
[upstream]
address = "db:5432"
tls = "verify-ca"
ca_file = "ca.crt"
[keystore]
url = "env:PGVEIL_KEYSTORE"
[provider.main]
kind = "local"
root_key_file = "/etc/keys/root.key"
[defaults]
provider = "main"
key = "platform"
"#;

const LONG: &str = r#"
listen = "[::1]:0"
policy = "../policy.toml"
[client_tls]
cert_file = "server.crt"
key_file = "server.key"
required = true
[upstream]
address = "db:5432"
tls = "disable"
connect_timeout = "250ms"
[keystore]
url_file = "keystore.url"
tls = "verify-full"
ca_file = "/ca.crt"
[provider.main]
kind = "local"
root_key_file = "root.key"
[defaults]
provider = "main"
key = "platform"
failure = "closed"
[cache]
ttl = "90s"
[log]
level = "info,pgveil=debug"
format = "json"
[limits]
max_connections = 7
statement_cache = 0x10
max_statement_bytes = 2_048
"#;

#[test]
fn a_short_file_has_the_documented_defaults() {
    let settings = Settings::parse(SHORT, Path::new("/etc/pgveil/pgveil.toml")).unwrap();
    assert_eq!(settings.listen, "127.0.0.1:6432");
    assert_eq!(settings.policy, Path::new("/etc/pgveil/policy.toml"));
    assert!(settings.client_tls.is_none());
    assert_eq!(settings.upstream.connect_timeout, Duration::from_secs(10));
    assert_eq!(settings.upstream.at.as_ref().unwrap().line, 2);
    assert_eq!(settings.keystore.tls, TlsMode::VerifyCa);
    assert_eq!(
        settings.keystore.ca_file.as_deref(),
        Some(Path::new("/etc/pgveil/ca.crt"))
    );
    assert_eq!(
        settings.keystore.at.as_ref().unwrap().to_string(),
        "/etc/pgveil/pgveil.toml:7:7"
    );
    assert!(matches!(&settings.keystore.url, Secret::Env(name) if name == "PGVEIL_KEYSTORE"));
    let Provider::Local { root_key_file, at } = &settings.providers["main"] else {
        panic!("{:?}", settings.providers["main"]);
    };
    assert_eq!(
        (root_key_file.as_path(), at.line),
        (Path::new("/etc/keys/root.key"), 10)
    );
    assert_eq!(settings.cache.ttl, Duration::from_mins(5));
    assert_eq!(
        (settings.log.level.as_str(), settings.log.json),
        ("info", false)
    );
    let limits = settings.limits;
    assert_eq!(
        (limits.max_connections, limits.statement_cache),
        (1000, 4096)
    );
    assert_eq!(limits.max_statement_bytes, 16 * 1024 * 1024);
}

#[test]
fn every_setting_is_read() {
    let settings = Settings::parse(LONG, Path::new("conf/pgveil.toml")).unwrap();
    assert_eq!(settings.listen, "[::1]:0");
    assert_eq!(settings.policy, Path::new("conf/../policy.toml"));
    let client_tls = settings.client_tls.unwrap();
    assert_eq!(client_tls.cert_file, Path::new("conf/server.crt"));
    assert_eq!(client_tls.key_file, Path::new("conf/server.key"));
    assert!(client_tls.required);
    assert_eq!(settings.upstream.tls, TlsMode::Disable);
    assert_eq!(
        settings.upstream.connect_timeout,
        Duration::from_millis(250)
    );
    assert_eq!(settings.keystore.tls, TlsMode::VerifyFull);
    assert_eq!(
        settings.keystore.ca_file.as_deref(),
        Some(Path::new("/ca.crt"))
    );
    assert!(
        matches!(&settings.keystore.url, Secret::File(path) if path == Path::new("conf/keystore.url"))
    );
    assert_eq!(settings.defaults.provider, "main");
    assert_eq!(settings.cache.ttl, Duration::from_secs(90));
    assert_eq!(
        (settings.log.level.as_str(), settings.log.json),
        ("info,pgveil=debug", true)
    );
    let limits = settings.limits;
    assert_eq!(
        (
            limits.max_connections,
            limits.statement_cache,
            limits.max_statement_bytes
        ),
        (7, 16, 2048)
    );
}

#[test]
fn no_debug_output_holds_a_secret() {
    let text = SHORT.replace("env:PGVEIL_KEYSTORE", "postgres://u:hunter2@h/d");
    let settings = Settings::parse(&text, Path::new("pgveil.toml")).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert_eq!(
        settings.keystore.url.read().unwrap().as_str(),
        "postgres://u:hunter2@h/d"
    );
}

#[test]
fn a_policy_is_read_in_file_order() {
    let text = r#"
[[table]]
name = "orders"
scope = "tenant:{tenant_id}"
database = "shop"
[table.column.zip]
type = "bpchar(5)"
[table.column."E-Mail"]
type = "text"
search = ["equality"]
search_key = "shared"
equality_group = "emails"
reveal = []
mask = { keep_first = 2 }
[[table]]
name = '"My Schema"."T"'
scope = "platform"
[table.column.a]
type = "numeric(10,2)"
reveal = ["app", "billing"]
"#;
    let policy = PolicyFile::parse(text, Path::new("policy.toml")).unwrap();
    let [orders, odd] = policy.tables.as_slice() else {
        panic!("two tables")
    };
    assert_eq!(
        (orders.schema.as_str(), orders.name.as_str()),
        ("public", "orders")
    );
    assert_eq!(orders.database.as_deref(), Some("shop"));
    assert_eq!((orders.at.line, orders.at.column), (3, 8));
    assert_eq!(
        (orders.scope.as_str(), orders.scope_at.line),
        ("tenant:{tenant_id}", 4)
    );
    let [zip, email] = orders.columns.as_slice() else {
        panic!("two columns")
    };
    assert_eq!(
        (zip.name.as_str(), zip.logical_type.as_str()),
        ("zip", "bpchar(5)")
    );
    assert_eq!((zip.at.line, zip.type_at.line), (6, 7));
    assert!(!zip.search.equality && zip.reveal.is_none() && zip.mask == Mask::Null);
    assert_eq!(zip.search_key, SearchKey::Scope);
    assert_eq!(email.name, "E-Mail");
    assert!(email.search.equality);
    assert_eq!(email.search_key, SearchKey::Shared);
    assert_eq!(email.equality_group.as_deref(), Some("emails"));
    assert_eq!(email.reveal.as_deref(), Some(&[][..]));
    assert_eq!(email.mask, Mask::KeepFirst(2));
    assert_eq!((odd.schema.as_str(), odd.name.as_str()), ("My Schema", "T"));
    assert_eq!(odd.columns[0].reveal.as_ref().unwrap().len(), 2);
}
