//! What a scope inherits and what it does differently: which KEK wraps its keys. Pure: it asks no provider and reads
//! no table.

use std::collections::BTreeMap;

use pgveil_config::{ScopePath, Settings};

/// A KEK and who holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KekRef {
    /// `[provider.NAME]`.
    pub provider: String,
    /// The KEK's id in it.
    pub kek: String,
}

/// The settings of all scopes.
#[derive(Clone, Debug)]
pub struct Scopes {
    platform: KekRef,
    overrides: BTreeMap<ScopePath, Override>,
}

/// What one scope says of its own.
#[derive(Clone, Debug)]
struct Override {
    /// `None`: that of the scopes above.
    provider: Option<String>,
    kek: String,
}

/// One level of a scope's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// The level.
    pub scope: ScopePath,
    /// The KEK in force for this level itself.
    pub kek: KekRef,
    /// What this level has to do with the KEK of the scope that was asked for.
    pub mark: Mark,
}

/// What a level contributes to a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It sets what holds.
    Active,
    /// It sets something, and a more specific level sets it otherwise.
    Overridden,
    /// It sets nothing.
    Inherited,
}

impl Mark {
    /// As people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Overridden => "overridden",
            Self::Inherited => "inherited",
        }
    }
}

impl Scopes {
    /// `[defaults]` and every `[[override]]`.
    pub fn new(settings: &Settings) -> Self {
        let overrides = settings.overrides.iter().filter_map(|found| {
            let (provider, kek) = found.key.clone()?;
            Some((found.scope.clone(), Override { provider, kek }))
        });
        Self {
            platform: KekRef {
                provider: settings.defaults.provider.clone(),
                kek: settings.defaults.key.clone(),
            },
            overrides: overrides.collect(),
        }
    }

    /// Every scope under one KEK.
    pub fn of_platform(platform: KekRef) -> Self {
        Self {
            platform,
            overrides: BTreeMap::new(),
        }
    }

    /// The KEK that wraps new keys of a scope.
    pub fn kek(&self, scope: &ScopePath) -> KekRef {
        let mut chain = self.chain(scope);
        chain
            .pop()
            .map_or_else(|| self.platform.clone(), |(_, kek, _)| kek)
    }

    /// Why: every level from the platform to the scope itself.
    pub fn preview(&self, scope: &ScopePath) -> Vec<Level> {
        let chain = self.chain(scope);
        let last = chain.iter().rposition(|(_, _, sets)| *sets);
        let levels = chain.into_iter().enumerate();
        levels
            .map(|(at, (scope, kek, sets))| Level {
                scope,
                kek,
                mark: match sets {
                    false => Mark::Inherited,
                    true if Some(at) == last => Mark::Active,
                    true => Mark::Overridden,
                },
            })
            .collect()
    }

    /// Every KEK that some scope may use, each once.
    pub fn keks(&self) -> Vec<KekRef> {
        let overrides = self.overrides.keys().map(|scope| self.kek(scope));
        let mut keks: Vec<KekRef> = overrides.chain([self.platform.clone()]).collect();
        keks.sort();
        keks.dedup();
        keks
    }

    /// By level: the KEK in force there, and whether the level sets it.
    fn chain(&self, scope: &ScopePath) -> Vec<(ScopePath, KekRef, bool)> {
        let mut current = self.platform.clone();
        let levels = scope.chain().into_iter();
        levels
            .map(|level| {
                let found = self.overrides.get(&level);
                if let Some(found) = found {
                    current = KekRef {
                        provider: found.provider.clone().unwrap_or(current.provider.clone()),
                        kek: found.kek.clone(),
                    };
                }
                let sets = found.is_some() || level == ScopePath::platform();
                (level, current.clone(), sets)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const SETTINGS: &str = r#"
        [upstream]
        address = "127.0.0.1:5432"
        [keystore]
        url = "postgres://pgveil@127.0.0.1:5432/app"
        [provider.main]
        kind = "local"
        root_key_file = "root.key"
        [provider.other]
        kind = "local"
        root_key_file = "other.key"
        [defaults]
        provider = "main"
        key = "platform"
        [[override]]
        scope = "tenant:a"
        provider = "other"
        key = "a"
        [[override]]
        scope = "tenant:a/env:prod"
        key = "prod"
        [[override]]
        scope = "tenant:a/project:p"
        key = "p"
        [[override]]
        scope = "tenant:b/project:p/env:prod"
        key = "b"
    "#;

    fn scopes() -> Scopes {
        Scopes::new(&Settings::parse(SETTINGS, Path::new("pgveil.toml")).unwrap())
    }

    fn kek(scope: &str) -> String {
        let found = scopes().kek(&ScopePath::parse(scope).unwrap());
        format!("{}/{}", found.provider, found.kek)
    }

    #[test]
    fn the_most_specific_scope_wins() {
        for (scope, expected) in [
            ("platform", "main/platform"),
            ("tenant:z", "main/platform"),
            ("tenant:a", "other/a"),
            ("tenant:a/env:test", "other/a"),
            ("tenant:a/env:prod", "other/prod"),
            // A project stands above an environment of the tenant.
            ("tenant:a/project:p", "other/p"),
            ("tenant:a/project:p/env:prod", "other/p"),
            ("tenant:a/project:q/env:prod", "other/prod"),
            ("tenant:b/project:p", "main/platform"),
            ("tenant:b/project:p/env:prod", "main/b"),
        ] {
            assert_eq!(kek(scope), expected, "{scope}");
        }
    }

    #[test]
    fn the_preview_says_who_sets_what_holds() {
        let shown = |scope: &str| {
            let levels = scopes().preview(&ScopePath::parse(scope).unwrap());
            let lines: Vec<String> = levels
                .iter()
                .map(|level| format!("{} {} {}", level.scope, level.kek.kek, level.mark.as_str()))
                .collect();
            lines.join("; ")
        };
        assert_eq!(
            shown("tenant:a/project:q/env:prod"),
            "platform platform overridden; tenant:a a overridden; tenant:a/env:prod prod active; \
             tenant:a/project:q prod inherited; tenant:a/project:q/env:prod prod inherited"
        );
        assert_eq!(
            shown("tenant:z"),
            "platform platform active; tenant:z platform inherited"
        );
    }

    #[test]
    fn every_kek_in_use_is_listed_once() {
        let keks = scopes().keks();
        let names: Vec<&str> = keks.iter().map(|kek| kek.kek.as_str()).collect();
        assert_eq!(names, ["b", "platform", "a", "p", "prod"]);
    }
}
