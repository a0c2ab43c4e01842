//! What a scope inherits and what it does differently: which KEK wraps its keys, and how long they live. Pure: it asks no
//! provider and reads no table.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pgveil_config::{
    ScopePath, Settings,
    settings::{Failure, OwnRotation, Rotation},
};

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
    platform: Effective,
    /// `[[override]]`.
    configured: BTreeMap<ScopePath, Own>,
    /// Set at run time, kept in the keystore. Where a level has both, these hold.
    stored: BTreeMap<ScopePath, Own>,
}

/// What holds for a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Which KEK wraps its new keys.
    pub kek: KekRef,
    /// What happens while the KEK's provider cannot be reached.
    pub failure: Failure,
    /// When its DEKs are replaced and destroyed.
    pub rotation: Rotation,
}

/// What one scope says of its own; what it leaves out, it inherits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// KEK and provider; without a provider, that of the scopes above.
    pub key: Option<(Option<String>, String)>,
    /// What happens while the provider cannot be reached.
    pub failure: Option<Failure>,
    /// When its DEKs are replaced and destroyed.
    pub rotation: OwnRotation,
}

/// Who says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `pgveil.toml`.
    Configuration,
    /// The keystore: set at run time.
    Keystore,
}

impl Origin {
    /// As people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Keystore => "keystore",
        }
    }
}

/// One level of a scope's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// The level.
    pub scope: ScopePath,
    /// Which KEK.
    pub kek: Setting<KekRef>,
    /// What happens while its provider cannot be reached.
    pub failure: Setting<Failure>,
    /// After what time a DEK is replaced.
    pub dek_epoch: Setting<Duration>,
    /// After how many values a DEK is replaced.
    pub dek_max_usage: Setting<u64>,
    /// After what time a provider is asked for a new version of the KEK.
    pub kek_period: Setting<Option<Duration>>,
    /// How long a retired DEK that no value uses is kept.
    pub destroy_retired_after: Setting<Option<Duration>>,
}

/// A setting as one level has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    /// What holds for the level itself.
    pub value: T,
    /// What the level contributes to the scope that was asked for.
    pub mark: Mark,
    /// Who says it, if the level does.
    pub origin: Option<Origin>,
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

impl Own {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Scopes {
    /// `[defaults]`, `[rotation]` and every `[[override]]`.
    pub fn new(settings: &Settings) -> Self {
        let configured = settings.overrides.iter().map(|found| {
            let says = Own {
                key: found.key.clone(),
                failure: found.failure,
                rotation: found.rotation,
            };
            (found.scope.clone(), says)
        });
        let kek = KekRef {
            provider: settings.defaults.provider.clone(),
            kek: settings.defaults.key.clone(),
        };
        Self {
            platform: Effective {
                kek,
                failure: settings.defaults.failure,
                rotation: settings.rotation,
            },
            configured: configured.collect(),
            stored: BTreeMap::new(),
        }
    }

    /// The same, with what was set at run time.
    #[must_use]
    pub fn with_stored(&self, stored: BTreeMap<ScopePath, Own>) -> Self {
        Self {
            stored,
            ..self.clone()
        }
    }

    /// Every scope as the platform.
    pub fn of_platform(platform: Effective) -> Self {
        Self {
            platform,
            configured: BTreeMap::new(),
            stored: BTreeMap::new(),
        }
    }

    /// What holds for a scope.
    pub fn effective(&self, scope: &ScopePath) -> Effective {
        let mut effective = self.platform.clone();
        if self.configured.is_empty() && self.stored.is_empty() {
            return effective;
        }
        for level in scope.chain() {
            self.descend(&level, &mut effective);
        }
        effective
    }

    /// The KEK that wraps new keys of a scope.
    pub fn kek(&self, scope: &ScopePath) -> KekRef {
        self.effective(scope).kek
    }

    /// What happens while the provider of a scope cannot be reached.
    pub fn failure(&self, scope: &ScopePath) -> Failure {
        let chain = scope.chain().into_iter().rev();
        let mut says = chain.filter_map(|level| {
            let stored = self.stored.get(&level).and_then(|own| own.failure);
            stored.or_else(|| self.configured.get(&level)?.failure)
        });
        says.next().unwrap_or(self.platform.failure)
    }

    /// What was set at run time.
    pub fn stored(&self) -> &BTreeMap<ScopePath, Own> {
        &self.stored
    }

    /// Why: every level from the platform to the scope itself.
    pub fn preview(&self, scope: &ScopePath) -> Vec<Level> {
        let mut effective = self.platform.clone();
        let levels = scope.chain().into_iter().map(|level| {
            let says = self.descend(&level, &mut effective);
            Level {
                kek: says.kek.with(effective.kek.clone()),
                failure: says.failure.with(effective.failure),
                dek_epoch: says.dek_epoch.with(effective.rotation.dek_epoch),
                dek_max_usage: says.dek_max_usage.with(effective.rotation.dek_max_usage),
                kek_period: says.kek_period.with(effective.rotation.kek_period),
                destroy_retired_after: says
                    .destroy_retired_after
                    .with(effective.rotation.destroy_retired_after),
                scope: level,
            }
        });
        let mut levels: Vec<Level> = levels.collect();
        // The last one that says something is the one that holds.
        mark(&mut levels, |level| &mut level.kek);
        mark(&mut levels, |level| &mut level.failure);
        mark(&mut levels, |level| &mut level.dek_epoch);
        mark(&mut levels, |level| &mut level.dek_max_usage);
        mark(&mut levels, |level| &mut level.kek_period);
        mark(&mut levels, |level| &mut level.destroy_retired_after);
        levels
    }

    /// Every KEK that some scope may use, each once.
    pub fn keks(&self) -> Vec<KekRef> {
        self.uses().into_keys().collect()
    }

    /// Every KEK that some scope may use, with the levels that set it.
    pub fn uses(&self) -> BTreeMap<KekRef, Vec<ScopePath>> {
        let platform = ScopePath::platform();
        let mut uses = BTreeMap::from([(self.kek(&platform), vec![platform])]);
        let both = self.configured.iter().chain(&self.stored);
        let set = both.filter(|(_, own)| own.key.is_some());
        for scope in set.map(|(scope, _)| scope).collect::<BTreeSet<_>>() {
            let levels = uses.entry(self.kek(scope)).or_default();
            if !levels.contains(scope) {
                levels.push(scope.clone());
            }
        }
        uses
    }

    /// Adds what a level says to what holds above it.
    fn descend(&self, level: &ScopePath, effective: &mut Effective) -> Says {
        let mut says = Says::default();
        if *level == ScopePath::platform() {
            says = Says::everything(Origin::Configuration);
        }
        let stored = self.stored.get(level);
        let both = [
            (self.configured.get(level), Origin::Configuration),
            (stored, Origin::Keystore),
        ];
        for (own, origin) in both {
            let Some(own) = own else { continue };
            if let Some((provider, id)) = &own.key {
                let above = &mut effective.kek;
                if let Some(provider) = provider {
                    above.provider.clone_from(provider);
                }
                above.kek.clone_from(id);
                says.kek = Said(Some(origin));
            }
            let Effective {
                failure, rotation, ..
            } = &mut *effective;
            says.failure.take(own.failure, failure, origin);
            let own = own.rotation;
            says.dek_epoch
                .take(own.dek_epoch, &mut rotation.dek_epoch, origin);
            says.dek_max_usage
                .take(own.dek_max_usage, &mut rotation.dek_max_usage, origin);
            let period = own.kek_period.map(Some);
            says.kek_period
                .take(period, &mut rotation.kek_period, origin);
            let keep = own.destroy_retired_after.map(Some);
            says.destroy_retired_after
                .take(keep, &mut rotation.destroy_retired_after, origin);
        }
        says
    }
}

/// Which settings a level sets.
#[derive(Default)]
struct Says {
    kek: Said,
    failure: Said,
    dek_epoch: Said,
    dek_max_usage: Said,
    kek_period: Said,
    destroy_retired_after: Said,
}

/// Who sets it, if somebody does.
#[derive(Clone, Copy, Default)]
struct Said(Option<Origin>);

impl Says {
    fn everything(origin: Origin) -> Self {
        let said = Said(Some(origin));
        Self {
            kek: said,
            failure: said,
            dek_epoch: said,
            dek_max_usage: said,
            kek_period: said,
            destroy_retired_after: said,
        }
    }
}

impl Said {
    fn take<T>(&mut self, own: Option<T>, holds: &mut T, origin: Origin) {
        if let Some(own) = own {
            *holds = own;
            self.0 = Some(origin);
        }
    }

    fn with<T>(self, value: T) -> Setting<T> {
        let mark = match self.0 {
            Some(_) => Mark::Overridden,
            None => Mark::Inherited,
        };
        Setting {
            value,
            mark,
            origin: self.0,
        }
    }
}

fn mark<T>(levels: &mut [Level], setting: impl Fn(&mut Level) -> &mut Setting<T>) {
    let mut from_below = levels.iter_mut().rev().map(setting);
    if let Some(last) = from_below.find(|setting| setting.origin.is_some()) {
        last.mark = Mark::Active;
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
    fn what_was_set_at_run_time_holds_before_the_configuration() {
        let stored = |scope: &str, own: Own| (ScopePath::parse(scope).unwrap(), own);
        let scopes = scopes().with_stored(BTreeMap::from([
            stored(
                "tenant:a",
                Own {
                    key: Some((None, "later".to_owned())),
                    ..Own::default()
                },
            ),
            stored(
                "platform",
                Own {
                    rotation: OwnRotation {
                        dek_max_usage: Some(70_000),
                        ..OwnRotation::default()
                    },
                    ..Own::default()
                },
            ),
        ]));
        let acme = ScopePath::parse("tenant:a").unwrap();
        let found = scopes.effective(&acme);
        assert_eq!(found.kek.provider, "other", "the configuration's");
        assert_eq!(found.kek.kek, "later");
        assert_eq!(found.rotation.dek_max_usage, 70_000);
        assert_eq!(found.rotation.dek_epoch, Duration::from_hours(90 * 24));
        let levels = scopes.preview(&acme);
        assert_eq!(levels[1].kek.origin, Some(Origin::Keystore));
        assert_eq!(levels[1].kek.mark, Mark::Active);
        assert_eq!(levels[0].kek.mark, Mark::Overridden);
        assert_eq!(levels[0].dek_max_usage.origin, Some(Origin::Keystore));
        assert_eq!(levels[1].dek_max_usage.mark, Mark::Inherited);
        assert!(scopes.keks().iter().any(|kek| kek.kek == "later"));
    }

    #[test]
    fn every_kek_in_use_is_listed_once() {
        let keks = scopes().keks();
        let names: Vec<&str> = keks.iter().map(|kek| kek.kek.as_str()).collect();
        assert_eq!(names, ["b", "platform", "a", "p", "prod"]);
        for (kek, scopes) in scopes().uses() {
            for scope in scopes {
                assert_eq!(self::scopes().kek(&scope), kek, "{scope}");
            }
        }
    }
}
