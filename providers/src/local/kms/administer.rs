//! What is done to keys: making, showing, rotating, disabling, destroying and deleting them, and who may use them.

use std::time::{Duration, UNIX_EPOCH};

use super::{
    Caller, Deed, Key, KeyState, KmsError, LocalKms, MaterialChange, Operation, Origin,
    VersionState, authorize, generate,
    key::{self, Algorithm, Rotation, Usage},
};
use crate::local::{
    StoredKey,
    access::{Grant, Grantee},
    material::Material,
};

/// The longest name of a key that is made by hand, as the XKS Proxy API has it.
const MAX_NEW_NAME_BYTES: usize = 128;
/// How many records are read at once.
const PAGE: u32 = 500;
/// How many keys are rotated in one go of the automatic rotation.
const ROTATED_AT_ONCE: u32 = 100;

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Its id: letters, digits and `-._`.
    pub name: String,
    /// What it is for, in somebody's words.
    pub description: String,
    /// What kind of key.
    pub algorithm: Algorithm,
    /// What it is for; nothing, for what the algorithm is commonly used for.
    pub usage: Option<Usage>,
    /// Days between automatic rotations; nothing, for none.
    pub rotate_every_days: Option<u16>,
    /// Whether it gets its first version now. Without one it is in pre-activation.
    pub activate: bool,
    /// Grants besides those to whoever makes it and to pgveil.
    pub grants: Vec<Grant>,
}

impl LocalKms {
    /// Makes a key. Whoever makes it may do everything with it; pgveil may wrap with it.
    pub async fn create(&self, new: NewKey, by: &Caller) -> Result<Key, KmsError> {
        check_new_name(&new.name)?;
        let now = self.store.now().await?;
        let mut key = new_record(&new, now, by)?;
        self.adopt_root().await?;
        // A deleted key that never had a version wrapped nothing: its name may be taken.
        match self.load(&new.name).await? {
            None => {}
            Some(old) if old.state == KeyState::Deleted && old.versions.is_empty() => {
                key.revision = old.revision;
            }
            Some(old) => {
                return Err(KmsError::Exists {
                    key: new.name,
                    deleted: old.state == KeyState::Deleted,
                });
            }
        }
        let material = if new.activate {
            let made = generate(new.algorithm).await?;
            let version = key.add_version(now, by);
            self.seal(&new.name, version, new.algorithm, &made)?
        } else {
            MaterialChange::Keep
        };
        let deed = Deed::Create(key.access.clone());
        if self.write(&mut key, material, (deed, by)).await? {
            return Ok(key);
        }
        Err(KmsError::Exists {
            key: new.name,
            deleted: false,
        })
    }

    /// A key, for those who may describe or manage it.
    pub async fn show(&self, name: &str, caller: &Caller) -> Result<Key, KmsError> {
        let key = self.existing(name).await?;
        if !key.allows(caller, Operation::Manage) {
            authorize(&key, caller, Operation::Describe)?;
        }
        Ok(key)
    }

    /// Keys that the caller may describe or manage, in the order of names. A record that is not authentic is an error.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<Key>, KmsError> {
        let mut keys = Vec::new();
        let mut after = String::new();
        loop {
            let page: Vec<StoredKey> = self.store.keys(&self.name, &after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(keys);
            };
            after.clone_from(&last.name);
            for stored in &page {
                let key = self.verified(stored)?;
                if key.state != KeyState::Deleted
                    && (key.allows(caller, Operation::Describe)
                        || key.allows(caller, Operation::Manage))
                {
                    keys.push(key);
                }
            }
        }
    }

    /// Makes a new version the default one; the first version of a key in pre-activation activates it.
    pub async fn rotate(&self, name: &str, caller: &Caller) -> Result<Key, KmsError> {
        let made = generate(self.existing(name).await?.algorithm).await?;
        self.update(name, caller, |key, now| {
            Ok((self.add_version(key, now, caller, &made)?, Deed::Rotate))
        })
        .await
    }

    /// Rotates keys whose time has come; answers which, and what went wrong with others. Several processes may do it: each
    /// key is rotated once.
    pub async fn rotate_due(&self) -> Result<Vec<Result<Key, KmsError>>, KmsError> {
        let now = self.store.now().await?;
        let mut done = Vec::new();
        for name in self.store.due(&self.name, now, ROTATED_AT_ONCE).await? {
            done.extend(self.rotate_if_due(&name, now).await.transpose());
        }
        Ok(done)
    }

    /// Rotates a key because pgveil was asked to, whoever may manage it: who may ask pgveil is decided there.
    pub(crate) async fn rotate_by_pgveil(&self, name: &str) -> Result<Key, KmsError> {
        for _ in 0..super::MAX_ATTEMPTS {
            let (now, mut key) = (self.store.now().await?, self.existing(name).await?);
            let made = generate(key.algorithm).await?;
            let by = Caller::pgveil();
            let material = self.add_version(&mut key, now, &by, &made)?;
            if self
                .write(&mut key, material, (Deed::RotateDue, &by))
                .await?
            {
                return Ok(key);
            }
        }
        Err(KmsError::Busy {
            key: name.to_owned(),
        })
    }

    /// When a key rotates by itself; `None` for one that is yet to be made.
    pub(crate) async fn schedule(&self, name: &str) -> Result<Option<crate::Rotation>, KmsError> {
        let at = |seconds: u64| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        let Some(key) = self.load(name).await? else {
            return Ok(None);
        };
        Ok(Some(crate::Rotation {
            is_automatic: key.rotation.is_some(),
            period_days: key.rotation.as_ref().map(|found| found.every_days.into()),
            last: key.rotated_at.and_then(at),
            next: key.rotate_at().and_then(at),
        }))
    }

    /// Nothing, when it is not due or somebody else was faster.
    async fn rotate_if_due(&self, name: &str, now: u64) -> Result<Option<Key>, KmsError> {
        let Some(mut key) = self.load(name).await? else {
            return Ok(None);
        };
        // The record says when, not the hint beside it.
        if key.rotate_at().is_none_or(|at| at > now) {
            return Ok(None);
        }
        let made = generate(key.algorithm).await?;
        let material = self.add_version(&mut key, now, &Caller::pgveil(), &made)?;
        let done = (Deed::RotateDue, &Caller::pgveil());
        Ok(self.write(&mut key, material, done).await?.then_some(key))
    }

    fn add_version(
        &self,
        key: &mut Key,
        now: u64,
        by: &Caller,
        made: &Material,
    ) -> Result<MaterialChange, KmsError> {
        if key.state == KeyState::Deactivated {
            return Err(state(key, "it is deactivated"));
        }
        if key.versions.len() >= key::MAX_VERSIONS {
            return Err(state(key, "it has as many versions as a key can have"));
        }
        let version = key.add_version(now, by);
        self.seal(&key.name, version, key.algorithm, made)
    }

    /// Changes the automatic rotation; `None` ends it. The time counts from now.
    pub async fn set_rotation(
        &self,
        name: &str,
        every_days: Option<u16>,
        caller: &Caller,
    ) -> Result<Key, KmsError> {
        self.update(name, caller, |key, now| {
            key.rotation = rotation(every_days, now)?;
            Ok((MaterialChange::Keep, Deed::Schedule(every_days)))
        })
        .await
    }

    /// Enables or disables a version; nothing names the default one.
    pub async fn set_enabled(
        &self,
        name: &str,
        version: Option<u32>,
        enabled: bool,
        caller: &Caller,
    ) -> Result<Key, KmsError> {
        self.update(name, caller, |key, _| {
            let version = named_version(key, version)?;
            let (state, from, deed) = if enabled {
                let deed = Deed::EnableVersion(version);
                (VersionState::Enabled, VersionState::Disabled, deed)
            } else {
                let deed = Deed::DisableVersion(version);
                (VersionState::Disabled, VersionState::Enabled, deed)
            };
            let Some(found) = key.version_mut(version).filter(|found| found.state == from) else {
                return Err(not_so(key, version));
            };
            found.state = state;
            Ok((MaterialChange::Keep, deed))
        })
        .await
    }

    /// Stops a whole key, or lets it go on. Its versions keep their states.
    pub async fn set_active(
        &self,
        name: &str,
        active: bool,
        caller: &Caller,
    ) -> Result<Key, KmsError> {
        self.update(name, caller, |key, _| {
            let (to, from, deed) = if active {
                (KeyState::Active, KeyState::Deactivated, Deed::Activate)
            } else {
                (KeyState::Deactivated, KeyState::Active, Deed::Deactivate)
            };
            if key.state != from {
                let reason = format!("it is {}", key.state);
                return Err(state(key, &reason));
            }
            key.state = to;
            Ok((MaterialChange::Keep, deed))
        })
        .await
    }

    /// Erases a version's material: what it encrypted cannot be read any more, by anybody.
    pub async fn destroy_version(
        &self,
        name: &str,
        version: u32,
        caller: &Caller,
    ) -> Result<Key, KmsError> {
        self.update(name, caller, |key, now| {
            let Some(found) = key.version_mut(version) else {
                return Err(no_version(key, version));
            };
            if found.state == VersionState::Destroyed {
                return Err(not_so(key, version));
            }
            found.state = VersionState::Destroyed;
            found.destroyed_at = Some(now);
            let deed = Deed::DestroyVersion(version);
            Ok((MaterialChange::Erase(version), deed))
        })
        .await
    }

    /// Deletes a key that has nothing left to lose: it never had a version, or all were destroyed.
    pub async fn delete(&self, name: &str, caller: &Caller) -> Result<Key, KmsError> {
        self.update(name, caller, |key, _| {
            if !key.is_spent() {
                return Err(state(
                    key,
                    "it has versions that are not destroyed; `destroy-version` them first",
                ));
            }
            key.state = KeyState::Deleted;
            key.rotation = None;
            Ok((MaterialChange::Keep, Deed::Delete))
        })
        .await
    }

    /// Grants operations to somebody, or takes all from them with none.
    pub async fn grant(&self, name: &str, grant: Grant, caller: &Caller) -> Result<Key, KmsError> {
        self.update(name, caller, |key, _| {
            let (grant, at) = (
                grant.clone(),
                key.access.iter().position(|other| other.to == grant.to),
            );
            let before = at.map(|at| key.access.remove(at));
            if grant.operations.is_empty() && before.is_none() {
                return Err(KmsError::Input {
                    reason: format!("key \"{name}\" grants nothing to {}", grant.to),
                });
            }
            let deed = if grant.operations.is_empty() {
                Deed::Revoke {
                    from: grant,
                    before,
                }
            } else {
                key.access.push(grant.clone());
                Deed::Grant { grant, before }
            };
            check_grants(&key.access)?;
            Ok((MaterialChange::Keep, deed))
        })
        .await
    }
}

/// What pgveil grants on keys that it makes by itself: to itself their use, to whoever holds the root key the rest.
pub(super) fn service_grants() -> Vec<Grant> {
    vec![
        own_grant(Usage::EncryptDecrypt),
        Grant::new(
            Grantee::any_user(),
            &[Operation::Describe, Operation::Manage],
        ),
    ]
}

fn own_grant(usage: Usage) -> Grant {
    let mut operations = usage.operations().to_vec();
    operations.push(Operation::Describe);
    Grant::new(Grantee::pgveil(), &operations)
}

fn new_record(new: &NewKey, now: u64, by: &Caller) -> Result<Key, KmsError> {
    let input = |reason: String| KmsError::Input { reason };
    let usage = new.usage.unwrap_or(new.algorithm.usages()[0]);
    if !new.algorithm.usages().contains(&usage) {
        return Err(input(format!("no {} key can {usage}", new.algorithm)));
    }
    if new.description.len() > key::MAX_DESCRIPTION_BYTES
        || new.description.chars().any(char::is_control)
    {
        return Err(input(
            "a description has at most 1024 bytes, on one line".to_owned(),
        ));
    }
    let mut access = Vec::new();
    for identity in by.identities() {
        let maker = Grantee::of(identity).map_err(input)?;
        access.push(Grant::new(maker, &all_of(usage)));
    }
    if usage == Usage::EncryptDecrypt && new.algorithm == Algorithm::Aes256 {
        access.push(own_grant(usage));
    }
    for grant in &new.grants {
        access.retain(|other| other.to != grant.to);
        access.push(grant.clone());
    }
    check_grants(&access)?;
    Ok(Key {
        name: new.name.clone(),
        revision: 0,
        change_id: String::new(),
        description: new.description.clone(),
        algorithm: new.algorithm,
        usage,
        state: KeyState::PreActivation,
        origin: Origin::Created,
        created_at: now,
        created_by: by.to_string(),
        default_version: None,
        versions: Vec::new(),
        rotated_at: None,
        rotation: rotation(new.rotate_every_days, now)?,
        access,
    })
}

/// Everything that can be done with a key for this.
fn all_of(usage: Usage) -> Vec<Operation> {
    let mut operations = usage.operations().to_vec();
    operations.extend([Operation::Describe, Operation::Manage]);
    operations
}

fn rotation(every_days: Option<u16>, now: u64) -> Result<Option<Rotation>, KmsError> {
    let Some(every_days) = every_days else {
        return Ok(None);
    };
    if every_days == 0 || every_days > key::MAX_ROTATION_DAYS {
        return Err(KmsError::Input {
            reason: format!(
                "a key is rotated every 1 to {} days, not {every_days}",
                key::MAX_ROTATION_DAYS
            ),
        });
    }
    Ok(Some(Rotation {
        every_days,
        next_at: now + u64::from(every_days) * key::SECONDS_PER_DAY,
    }))
}

/// A key without anybody who may manage it stays what it is for ever, so the last one cannot be taken away.
fn check_grants(grants: &[Grant]) -> Result<(), KmsError> {
    let input = |reason: String| Err(KmsError::Input { reason });
    if grants.len() > key::MAX_GRANTS {
        return input(format!("a key has at most {} grants", key::MAX_GRANTS));
    }
    if !{ grants.iter() }.any(|grant| grant.operations.contains(&Operation::Manage)) {
        return input("somebody must keep `manage`: grant it to another first".to_owned());
    }
    Ok(())
}

fn check_new_name(name: &str) -> Result<(), KmsError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty()
        || name.len() > MAX_NEW_NAME_BYTES
        || !name.bytes().all(plain)
        // Of a URL's path these would be taken away.
        || matches!(name, "." | "..")
    {
        return Err(KmsError::Input {
            reason: "the name of a key has 1 to 128 letters, digits and `-._`".to_owned(),
        });
    }
    Ok(())
}

fn named_version(key: &Key, version: Option<u32>) -> Result<u32, KmsError> {
    let version = version.or(key.default_version);
    version.ok_or_else(|| state(key, "it has no version yet"))
}

fn no_version(key: &Key, version: u32) -> KmsError {
    KmsError::NoVersion {
        key: key.name.clone(),
        version,
    }
}

/// The version is in another state than it would have to be, or is none.
fn not_so(key: &Key, version: u32) -> KmsError {
    match key.version(version) {
        Some(found) => state(key, &format!("version {version} is {}", found.state)),
        None => no_version(key, version),
    }
}

fn state(key: &Key, reason: &str) -> KmsError {
    KmsError::State {
        key: key.name.clone(),
        reason: reason.to_owned(),
    }
}
