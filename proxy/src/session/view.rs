//! What a session looks like to the server: search path, role, settings. Asked from the server itself by
//! an injected query (the probe), never modelled here.

use std::{collections::HashMap, sync::Arc};

use aho_corasick::AhoCorasick;
use pgveil_policy::{Ruleset, analysis::SessionView, ruleset::Protected, types::FormatSettings};

use super::scope::{SessionScopes, Wanted};

/// The name under which the probe is prepared; no client is likely to use it, and it is closed at once.
pub const PROBE_NAME: &str = "pgveil probe";

/// Fields of the probe's row before those of the settings.
const FIXED_FIELDS: usize = 13;

/// The session as the server reported it at one moment of the stream.
#[derive(Debug)]
pub struct View {
    /// What the analysis reads.
    pub session: SessionView,
    /// The probe's answer as one text: equal texts, equal analysis.
    pub key: Arc<str>,
    /// Names of `reveal` roles that the current role is or is a member of.
    pub roles: Vec<String>,
    /// `pgveil.NAME` settings that templates name; absent when not set or empty.
    pub settings: HashMap<String, String>,
    /// What these settings make of the session's scope, for the columns that ask for one.
    pub scopes: SessionScopes,
    /// Finds the names of the session's own relations that hold or read sealed values.
    own: Option<OwnNames>,
}

impl View {
    /// Whether the current role may see plaintext of this column.
    pub fn reveals(&self, column: &Protected) -> bool {
        column
            .reveal
            .as_ref()
            .is_none_or(|roles| roles.iter().any(|r| self.roles.contains(r)))
    }

    /// Whether a statement's text may name a relation of the session's own that holds or reads sealed values.
    pub fn names_own(&self, sql: &[u8]) -> bool {
        self.own.as_ref().is_some_and(|own| own.may_stand_in(sql))
    }

    /// Whether names resolve as they did in `other`.
    pub fn resolves_like(&self, other: &View) -> bool {
        self.session.schemas == other.session.schemas
            && self.session.relations == other.session.relations
    }
}

/// Names to look for in every statement's text.
#[derive(Debug)]
enum OwnNames {
    /// By their letters.
    Found(AhoCorasick),
    /// How the client spells letters outside ASCII depends on its encoding: any text may name them.
    Anywhere,
}

impl OwnNames {
    fn of(names: Vec<String>) -> Option<Self> {
        if names.is_empty() {
            return None;
        }
        if names.iter().any(|name| !name.is_ascii()) {
            return Some(Self::Anywhere);
        }
        let names = names.iter().map(|name| name.replace('"', "\"\""));
        // An identifier with Unicode escapes may spell any of them.
        let names = names.chain(["u&\"".to_owned()]);
        let built = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(names);
        // Too many names for the automaton: then any text.
        Some(built.map_or(Self::Anywhere, Self::Found))
    }

    fn may_stand_in(&self, sql: &[u8]) -> bool {
        match self {
            Self::Found(names) => names.is_match(sql),
            Self::Anywhere => true,
        }
    }
}

/// What the probe asks for, decided by the ruleset.
#[derive(Debug)]
pub struct Probe {
    /// The query: one row of text columns, in the order that [`Probe::read`] expects.
    pub sql: String,
    settings: Vec<String>,
    wanted: Wanted,
}

impl Probe {
    /// The probe for a ruleset: its `reveal` roles and `{session.NAME}` settings.
    pub fn new(rules: &Ruleset) -> Self {
        let mut roles: Vec<&str> = Vec::new();
        let mut settings: Vec<String> = Vec::new();
        for column in rules.columns.values() {
            roles.extend(column.reveal.iter().flatten().map(String::as_str));
            let session = column.session.iter().flat_map(|session| session.sessions());
            let named = column.scope.sessions().into_iter().chain(session);
            settings.extend(named.map(str::to_owned));
        }
        roles.sort_unstable();
        roles.dedup();
        settings.sort_unstable();
        settings.dedup();
        Self {
            sql: probe_sql(&roles, &settings, rules.newest_relation()),
            settings,
            wanted: Wanted::of(rules),
        }
    }

    /// Reads the probe's row. `None` if it is not what was asked for.
    pub fn read(&self, rules: &Ruleset, fields: &[Option<Vec<u8>>]) -> Option<View> {
        if fields.len() != FIXED_FIELDS + self.settings.len() {
            return None;
        }
        let text = |i: usize| {
            fields[i]
                .as_deref()
                .and_then(|b| std::str::from_utf8(b).ok())
        };
        let scs = text(6)?;
        let encoding = text(7)?;
        // The server takes the bytes of a client that claims none for its own encoding's.
        let unconverted = encoding == "SQL_ASCII" && text(11)? == "UTF8";
        let format = FormatSettings {
            date_style: text(2)?.to_owned(),
            time_zone: text(3)?.to_owned(),
            extra_float_digits: text(4)?.parse().ok()?,
            bytea_escape: text(5)? == "escape",
            release: text(10)?.parse::<u32>().ok()? / 10_000,
            interval_style: text(8)?.to_owned(),
            abbreviations: text(9)?.to_owned(),
            ascii_case: text(12)? == "true",
        };
        let (schemas, relations) = text(0)?.split_once('\u{1}')?;
        let schemas = names(schemas.to_owned());
        let relations = pgveil_policy::catalog::session::read(relations)?;
        let relations = rules.as_shown(relations);
        let roles = names(text(1)?.to_owned());
        let settings: HashMap<String, String> = self
            .settings
            .iter()
            .enumerate()
            .filter_map(|(i, name)| Some((name.clone(), text(FIXED_FIELDS + i)?.to_owned())))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let mut key = String::new();
        for part in [0, 2, 3, 4, 5, 6, 7, 8, 9, 11] {
            key.push_str(text(part)?);
            key.push('\u{2}');
        }
        let session = SessionView {
            schemas,
            relations,
            readable_text: scs == "on" && (encoding == "UTF8" || unconverted),
            format,
        };
        Some(View {
            own: OwnNames::of(rules.own_names(&session)),
            session,
            key: key.into(),
            roles,
            scopes: self.wanted.scopes(&settings),
            settings,
        })
    }
}

/// Names in one text, each followed by U+0003 (identifiers cannot hold NUL; control characters are legal but
/// a name that holds this one merely fails to match, which refuses).
fn names(text: String) -> Vec<String> {
    text.split('\u{3}')
        .filter(|n| !n.is_empty())
        .map(str::to_owned)
        .collect()
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Every name is qualified, so that no `search_path` can put another function or operator in its place.
fn probe_sql(roles: &[&str], settings: &[String], newest: u32) -> String {
    let list = "pg_catalog.array_to_string(ARRAY(SELECT x OPERATOR(pg_catalog.||) E'\\x03' FROM";
    let roles = roles
        .iter()
        .map(|r| quote(r))
        .collect::<Vec<_>>()
        .join(", ");
    // Membership is followed through pg_auth_members by hand: pg_has_role() says yes to every superuser,
    // and who runs the database is exactly who should not see plaintext.
    let membership = format!(
        "WITH RECURSIVE m(oid) AS (\
           SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER \
           UNION SELECT a.roleid FROM pg_catalog.pg_auth_members a JOIN m ON a.member OPERATOR(pg_catalog.=) m.oid) \
         SELECT r.rolname::pg_catalog.text AS x FROM pg_catalog.pg_roles r JOIN m ON m.oid OPERATOR(pg_catalog.=) r.oid \
         WHERE r.rolname OPERATOR(pg_catalog.=) ANY(ARRAY[{roles}]::pg_catalog.name[])"
    );
    let relations = relations_sql(newest);
    let mut sql = format!(
        "SELECT {list} pg_catalog.unnest(pg_catalog.current_schemas(true)::pg_catalog.text[]) AS x), '') \
         OPERATOR(pg_catalog.||) E'\\x01' OPERATOR(pg_catalog.||) \
         coalesce(({relations})::pg_catalog.text, ''), \
         {list} ({membership}) s), ''), \
         pg_catalog.current_setting('DateStyle'), pg_catalog.current_setting('TimeZone'), \
         pg_catalog.current_setting('extra_float_digits'), pg_catalog.current_setting('bytea_output'), \
         pg_catalog.current_setting('standard_conforming_strings'), pg_catalog.current_setting('client_encoding'), \
         pg_catalog.current_setting('IntervalStyle'), pg_catalog.current_setting('timezone_abbreviations'), \
         pg_catalog.current_setting('server_version_num'), pg_catalog.current_setting('server_encoding'), \
         (pg_catalog.lower('ABCDEFGHIJKLMNOPQRSTUVWXYZ') OPERATOR(pg_catalog.=) 'abcdefghijklmnopqrstuvwxyz' AND \
          pg_catalog.upper('abcdefghijklmnopqrstuvwxyz') OPERATOR(pg_catalog.=) 'ABCDEFGHIJKLMNOPQRSTUVWXYZ')::pg_catalog.text"
    );
    for name in settings {
        sql.push_str(", pg_catalog.current_setting(");
        sql.push_str(&quote(&format!("pgveil.{name}")));
        sql.push_str(", true)");
    }
    sql
}

/// Relations that only this session may know, for `catalog::session`: its temporary ones, and those with a greater OID
/// than any that the catalog had when it was read. (OIDs are handed out in ascending order. After they have wrapped
/// around, a new relation is unknown until the catalog is read again, which refuses.)
fn relations_sql(newest: u32) -> String {
    let is_temporary = "c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()";
    let oids = |column: &str, from: &str| {
        format!(
            "pg_catalog.array_to_json(ARRAY(SELECT DISTINCT {column}::pg_catalog.int8 FROM {from}))"
        )
    };
    let parents = oids(
        "i.inhparent",
        "pg_catalog.pg_inherits i WHERE i.inhrelid OPERATOR(pg_catalog.=) c.oid",
    );
    let reads = oids(
        "d.refobjid",
        "pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d \
         ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
         AND d.objid OPERATOR(pg_catalog.=) r.oid \
         AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
         WHERE r.ev_class OPERATOR(pg_catalog.=) c.oid AND d.refobjid OPERATOR(pg_catalog.<>) c.oid",
    );
    let triggers = oids(
        "g.tgfoid",
        "pg_catalog.pg_trigger g WHERE g.tgrelid OPERATOR(pg_catalog.=) c.oid AND NOT g.tgisinternal",
    );
    // A domain over one of pgveil's holds the same values.
    let chain = "WITH RECURSIVE d(oid, kind, base, name, space) AS (\
         SELECT t.oid, t.typtype, t.typbasetype, t.typname, t.typnamespace UNION ALL \
         SELECT u.oid, u.typtype, u.typbasetype, u.typname, u.typnamespace FROM d JOIN pg_catalog.pg_type u \
           ON u.oid OPERATOR(pg_catalog.=) d.base WHERE d.kind OPERATOR(pg_catalog.=) 'd')";
    let columns = format!(
        "SELECT pg_catalog.json_agg(pg_catalog.json_build_object(\
           'attnum', a.attnum, 'name', a.attname, 'type', a.atttypid::pg_catalog.int8, \
           'base', ({chain} SELECT d.oid FROM d WHERE d.kind OPERATOR(pg_catalog.<>) 'd')::pg_catalog.int8, \
           'type_name', COALESCE(({chain} SELECT 'pgveil.' OPERATOR(pg_catalog.||) d.name::pg_catalog.text FROM d \
               JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) d.space \
               WHERE n.nspname OPERATOR(pg_catalog.=) 'pgveil' LIMIT 1), \
             pg_catalog.format_type(a.atttypid, a.atttypmod)), \
           'typmod', a.atttypmod, 'not_null', a.attnotnull, \
           'default', (SELECT pg_catalog.pg_get_expr(e.adbin, e.adrelid) FROM pg_catalog.pg_attrdef e \
             WHERE e.adrelid OPERATOR(pg_catalog.=) a.attrelid AND e.adnum OPERATOR(pg_catalog.=) a.attnum), \
           'generated', a.attgenerated OPERATOR(pg_catalog.<>) '', 'identity', a.attidentity OPERATOR(pg_catalog.<>) '') \
           ORDER BY a.attnum) \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid \
         WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped"
    );
    format!(
        "SELECT pg_catalog.json_agg(pg_catalog.json_build_object(\
           'oid', c.oid::pg_catalog.int8, 'schema', n.nspname, 'name', c.relname, \
           'kind', c.relkind, 'reads', {reads}, 'parents', {parents}, \
           'triggers', {triggers}, \
           'rules', EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class OPERATOR(pg_catalog.=) c.oid \
             AND r.ev_type OPERATOR(pg_catalog.<>) '1'), \
           'instead', EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid OPERATOR(pg_catalog.=) c.oid \
             AND NOT g.tgisinternal), \
           'partition', c.relispartition, \
           'definition', CASE WHEN c.relkind OPERATOR(pg_catalog.=) ANY(ARRAY['v','m']::\"char\"[]) \
             THEN pg_catalog.pg_get_viewdef(c.oid) END, \
           'partition_key', CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END, \
           'columns', ({columns})) ORDER BY c.oid) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         WHERE c.relkind OPERATOR(pg_catalog.=) ANY(ARRAY['r','v','m','f','p']::\"char\"[]) \
         AND ({is_temporary} OR c.oid OPERATOR(pg_catalog.>) {newest}::pg_catalog.oid \
           AND c.relpersistence OPERATOR(pg_catalog.<>) 't' \
           AND n.nspname OPERATOR(pg_catalog.<>) 'pg_toast')"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_are_found_in_every_spelling() {
        let own = OwnNames::of(vec!["mine".to_owned(), "a\"b".to_owned()]).unwrap();
        for sql in [
            "TABLE MINE",
            "TABLE \"a\"\"b\"",
            "TABLE u&\"\\006dine\"",
            "SELECT 1 FROM minestrone",
        ] {
            assert!(own.may_stand_in(sql.as_bytes()), "{sql}");
        }
        assert!(!own.may_stand_in(b"SELECT 1"));
        assert!(OwnNames::of(Vec::new()).is_none());
        let foreign = OwnNames::of(vec!["größe".to_owned()]).unwrap();
        assert!(foreign.may_stand_in(b"TABLE gr\xf6\xdfe"));
    }
}
