//! The scopes that a session has for columns whose policy says `session = "must-match"`. Judges scopes; it resolves only
//! the session's own.

use std::collections::HashMap;

use pgveil_config::ScopePath;
use pgveil_policy::{
    Refusal, Ruleset,
    plan::ColumnId,
    ruleset::Protected,
    template::{self, ScopeTemplate, TemplatePart},
};

/// Which columns ask for a scope of the session. Made once for a ruleset.
#[derive(Debug, Default)]
pub struct Wanted(Vec<(ColumnId, ScopeTemplate)>);

impl Wanted {
    /// The columns of a ruleset.
    pub fn of(rules: &Ruleset) -> Self {
        let columns = rules.columns.values();
        let wanted = columns.filter_map(|column| Some((column.id, column.session.clone()?)));
        Self(wanted.collect())
    }

    /// What the session has, by its settings (`pgveil.NAME`; absent when not set or empty).
    pub fn scopes(&self, settings: &HashMap<String, String>) -> SessionScopes {
        let resolved = |template| resolve(template, settings);
        let scopes = self.0.iter();
        SessionScopes(
            scopes
                .map(|(column, template)| (*column, resolved(template)))
                .collect(),
        )
    }
}

/// The session's scope for each column that asks for one.
#[derive(Debug, Default)]
pub struct SessionScopes(HashMap<ColumnId, Result<ScopePath, Unset>>);

/// Why the session has no scope.
#[derive(Debug)]
enum Unset {
    /// This setting is missing.
    Setting(String),
    /// The settings make no scope.
    Malformed(String),
}

fn resolve(
    template: &ScopeTemplate,
    settings: &HashMap<String, String>,
) -> Result<ScopePath, Unset> {
    let mut path = String::new();
    for part in &template.parts {
        match part {
            TemplatePart::Text(text) => path.push_str(text),
            TemplatePart::Session(name) | TemplatePart::Column(name) => {
                let value = settings.get(name);
                let value = value.ok_or_else(|| Unset::Setting(name.clone()))?;
                path.push_str(&template::encode(value));
            }
        }
    }
    ScopePath::parse(&path).map_err(|error| Unset::Malformed(error.to_string()))
}

impl SessionScopes {
    /// Whether values of a column under keys of this scope are for this session.
    ///
    /// # Errors
    /// `PV001` if they are not. The value's own scope is not told.
    pub fn check(&self, column: &Protected, scope: &ScopePath) -> Result<(), Refusal> {
        let Some(own) = self.0.get(&column.id) else {
            return Ok(());
        };
        match own {
            Ok(own) if own == scope => Ok(()),
            Ok(own) => Err(differs(column, &format!("the session's scope is {own}"))
                .hint("Leave rows of other scopes out (WHERE), or SET the session's scope.")),
            Err(Unset::Setting(name)) => Err(differs(
                column,
                &format!("the setting pgveil.{name} is not set in this session"),
            )
            .hint(format!(
                "SET pgveil.{name} = '...', or options=-cpgveil.{name}=... in the connection string."
            ))),
            Err(Unset::Malformed(why)) => Err(differs(
                column,
                &format!("the session's settings make no scope: {why}"),
            )
            .hint("SET the session's scope.")),
        }
    }
}

fn differs(column: &Protected, what: &str) -> Refusal {
    Refusal::new(
        "PV001",
        "scope-not-the-sessions",
        format!(
            "a value of protected column \"{}\" is not of the session's scope",
            column.name
        ),
    )
    .detail(format!(
        "The policy says session = \"must-match\" for {}, and {what}.",
        column.display_name()
    ))
}
