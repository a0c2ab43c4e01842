//! What a scope inherits and what it does differently: which KEK wraps its keys. Pure: it asks no provider and reads
//! no table.

use std::collections::BTreeMap;

use pgveil_config::{ScopePath, Settings, settings::Failure};

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
    platform: (KekRef, Failure),
    overrides: BTreeMap<ScopePath, Override>,
}

/// What one scope says of its own.
#[derive(Clone, Debug)]
struct Override {
    /// KEK and provider; without a provider, that of the scopes above.
    key: Option<(Option<String>, String)>,
    failure: Option<Failure>,
}

/// A level, and what is in force there; each with whether the level itself says so.
type Said = (ScopePath, (KekRef, bool), (Failure, bool));

/// One level of a scope's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// The level.
    pub scope: ScopePath,
    /// Which KEK.
    pub kek: Setting<KekRef>,
    /// What happens while its provider cannot be reached.
    pub failure: Setting<Failure>,
}

/// A setting as one level has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    /// What holds for the level itself.
    pub value: T,
    /// What the level contributes to the scope that was asked for.
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
        let overrides = settings.overrides.iter().map(|found| {
            let says = Override {
                key: found.key.clone(),
                failure: found.failure,
            };
            (found.scope.clone(), says)
        });
        let kek = KekRef {
            provider: settings.defaults.provider.clone(),
            kek: settings.defaults.key.clone(),
        };
        Self {
            platform: (kek, settings.defaults.failure),
            overrides: overrides.collect(),
        }
    }

    /// Every scope under one KEK.
    pub fn of_platform(platform: KekRef) -> Self {
        Self {
            platform: (platform, Failure::Closed),
            overrides: BTreeMap::new(),
        }
    }

    /// The KEK that wraps new keys of a scope.
    pub fn kek(&self, scope: &ScopePath) -> KekRef {
        let chain = self.chain(scope);
        let last = chain.into_iter().last();
        last.map_or_else(|| self.platform.0.clone(), |(_, kek, _)| kek.0)
    }

    /// What happens while the provider of a scope cannot be reached.
    pub fn failure(&self, scope: &ScopePath) -> Failure {
        let chain = scope.chain().into_iter().rev();
        let mut says = chain.filter_map(|level| self.overrides.get(&level)?.failure);
        says.next().unwrap_or(self.platform.1)
    }

    /// Why: every level from the platform to the scope itself.
    pub fn preview(&self, scope: &ScopePath) -> Vec<Level> {
        let chain = self.chain(scope);
        let sets_kek = chain.iter().rposition(|(_, (_, sets), _)| *sets);
        let sets_failure = chain.iter().rposition(|(_, _, (_, sets))| *sets);
        let levels = chain.into_iter().enumerate();
        levels
            .map(|(at, (scope, kek, failure))| Level {
                scope,
                kek: marked(kek, Some(at) == sets_kek),
                failure: marked(failure, Some(at) == sets_failure),
            })
            .collect()
    }

    /// Every KEK that some scope may use, each once.
    pub fn keks(&self) -> Vec<KekRef> {
        let overrides = self.overrides.keys().map(|scope| self.kek(scope));
        let mut keks: Vec<KekRef> = overrides.chain([self.platform.0.clone()]).collect();
        keks.sort();
        keks.dedup();
        keks
    }

    /// By level: what is in force there.
    fn chain(&self, scope: &ScopePath) -> Vec<Said> {
        let (mut kek, mut failure) = self.platform.clone();
        let levels = scope.chain().into_iter();
        levels
            .map(|level| {
                let found = self.overrides.get(&level);
                let is_platform = level == ScopePath::platform();
                let key = found.and_then(|found| found.key.as_ref());
                if let Some((provider, id)) = key {
                    kek = KekRef {
                        provider: provider.clone().unwrap_or_else(|| kek.provider.clone()),
                        kek: id.clone(),
                    };
                }
                let own = found.and_then(|found| found.failure);
                failure = own.unwrap_or(failure);
                let kek = (kek.clone(), key.is_some() || is_platform);
                (level, kek, (failure, own.is_some() || is_platform))
            })
            .collect()
    }
}

fn marked<T>((value, sets): (T, bool), is_last: bool) -> Setting<T> {
    let mark = match sets {
        false => Mark::Inherited,
        true if is_last => Mark::Active,
        true => Mark::Overridden,
    };
    Setting { value, mark }
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
        failure = "open"
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
    fn what_a_scope_does_while_its_provider_is_away_is_inherited_too() {
        let failure = |scope: &str| scopes().failure(&ScopePath::parse(scope).unwrap());
        assert_eq!(failure("tenant:a"), Failure::Closed);
        assert_eq!(failure("tenant:a/env:prod"), Failure::Open);
        assert_eq!(failure("tenant:a/project:p/env:prod"), Failure::Open);
    }

    #[test]
    fn the_preview_says_who_sets_what_holds() {
        let shown = |scope: &str| {
            let levels = scopes().preview(&ScopePath::parse(scope).unwrap());
            let lines: Vec<String> = levels
                .iter()
                .map(|level| {
                    let (kek, mark) = (&level.kek.value.kek, level.kek.mark.as_str());
                    let failure = level.failure.value.as_str();
                    let other = level.failure.mark.as_str();
                    format!("{} {kek} {mark} {failure} {other}", level.scope)
                })
                .collect();
            lines.join("; ")
        };
        assert_eq!(
            shown("tenant:a/project:q/env:prod"),
            "platform platform overridden closed overridden; tenant:a a overridden closed inherited; \
             tenant:a/env:prod prod active open active; tenant:a/project:q prod inherited open inherited; \
             tenant:a/project:q/env:prod prod inherited open inherited"
        );
        assert_eq!(
            shown("tenant:z"),
            "platform platform active closed active; tenant:z platform inherited closed inherited"
        );
    }

    #[test]
    fn every_kek_in_use_is_listed_once() {
        let keks = scopes().keks();
        let names: Vec<&str> = keks.iter().map(|kek| kek.kek.as_str()).collect();
        assert_eq!(names, ["b", "platform", "a", "p", "prod"]);
    }
}
