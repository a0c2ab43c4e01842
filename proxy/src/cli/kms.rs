//! `pgveil kms`: the local KMS from the command line. What is printed is in `show`, what is done with keys in `work`.

mod policy;
mod serve;
mod show;
mod work;

use std::{path::Path, process::ExitCode, sync::Arc};

use clap::{Args, Subcommand};
use pgveil_config::{ScopePath, Settings, settings::Provider};
use pgveil_keys::{
    Keystore,
    audit::Operation as Step,
    keystore::{KeystoreError, Loss, PermittedKeks, Standing},
};
use pgveil_providers::local::{
    Algorithm, Caller, Grant, Grantee, KekStore, Key, KeyState, KmsError, LocalKms, NewKey,
    Operation, Usage,
};

use super::{
    Found, WithConfig,
    ask::{StepUp, confirmed, found},
    audit::sign_and_send,
    operating_user,
};
use crate::app;

/// `pgveil kms ...`
#[derive(Debug, Args)]
pub struct Kms {
    #[command(flatten)]
    config: WithConfig,
    /// The local provider, as `[provider.NAME]` calls it; needed if there are several
    #[arg(long, global = true, value_name = "NAME")]
    provider: Option<String>,
    /// Act as this user, instead of the one of the operating system
    #[arg(long = "as", global = true, value_name = "USER", value_parser = parse_user)]
    user: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a key
    #[command(
        after_help = "Examples:\n  pgveil kms create tenant-acme --description 'wraps the data keys of acme' --rotate-every 90\n  pgveil kms create invoices --algorithm rsa-3072 --usage sign-verify\n  pgveil kms create xks --grant key-id:AKIA2345=encrypt,decrypt,describe"
    )]
    Create {
        /// Letters, digits and `-._`, at most 128: what `key` names in the configuration
        name: String,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
        /// aes-256, rsa-2048, rsa-3072, rsa-4096 or ec-p256
        #[arg(long, default_value = "aes-256")]
        algorithm: Algorithm,
        /// encrypt-decrypt or sign-verify; without it, what the algorithm is mostly used for
        #[arg(long)]
        usage: Option<Usage>,
        /// Days between automatic rotations, 1 to 1095; without it, only by hand
        #[arg(long, value_name = "DAYS")]
        rotate_every: Option<u16>,
        /// Make no version yet: the key stays in pre-activation until `rotate`
        #[arg(long)]
        without_version: bool,
        /// WHO=OPERATION,...: who else may use it (see `grant`)
        #[arg(long = "grant", value_name = "WHO=OPERATIONS", value_parser = parse_grant)]
        grants: Vec<Grant>,
    },
    /// List the keys that you may describe
    #[command(after_help = "Example:\n  pgveil kms list --json")]
    List,
    /// Show a key: states, versions, rotation, grants
    #[command(after_help = "Example:\n  pgveil kms show tenant-acme")]
    Show {
        /// The key
        name: String,
    },
    /// Print the public key of an asymmetric key, in PEM
    #[command(after_help = "Example:\n  pgveil kms public-key invoices > invoices.pem")]
    PublicKey {
        /// The key
        name: String,
        /// Another version than the default one
        #[arg(long, value_name = "N")]
        version: Option<u32>,
    },
    /// Make a new default version; the first one activates a key
    #[command(
        after_help = "Example:\n  pgveil step-up token kek.rotate platform > token\n  pgveil kms rotate tenant-acme --token token"
    )]
    Rotate {
        /// How its token is got
        #[command(flatten)]
        step_up: StepUp,
        /// The key
        name: String,
    },
    /// Change the automatic rotation
    #[command(
        after_help = "Examples:\n  pgveil kms schedule tenant-acme 90\n  pgveil kms schedule tenant-acme off"
    )]
    Schedule {
        /// The key
        name: String,
        /// Days between rotations, 1 to 1095, counted from now; or `off`
        every: String,
    },
    /// Disable a version: nobody uses it until it is enabled again
    #[command(after_help = "Example:\n  pgveil kms disable tenant-acme")]
    Disable {
        /// The key
        name: String,
        /// Another version than the default one
        #[arg(long, value_name = "N")]
        version: Option<u32>,
    },
    /// Enable a disabled version; without a version, a deactivated key
    #[command(after_help = "Example:\n  pgveil kms enable tenant-acme --version 2")]
    Enable {
        /// The key
        name: String,
        /// The version; without it, the key if it is deactivated, else its default version
        #[arg(long, value_name = "N")]
        version: Option<u32>,
    },
    /// Stop a whole key: no version does anything until `enable`
    #[command(after_help = "Example:\n  pgveil kms deactivate tenant-acme")]
    Deactivate {
        /// The key
        name: String,
    },
    /// Erase a version for good: what it encrypted cannot be read any more
    #[command(
        after_help = "Example:\n  pgveil step-up token kms.destroy platform > token\n  pgveil kms destroy-version tenant-acme 1 --token token"
    )]
    DestroyVersion {
        /// How its token is got
        #[command(flatten)]
        step_up: StepUp,
        /// The key
        name: String,
        /// The version
        version: u32,
        /// Destroy it although keys stand under it: nothing that they sealed can be read again
        #[arg(long)]
        accept_loss: bool,
        /// The key's name again, where no terminal can be asked
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
    },
    /// Delete a key that never had a version, or whose versions are all destroyed
    #[command(
        after_help = "Example:\n  pgveil step-up token kms.destroy platform > token\n  pgveil kms delete tenant-acme --token token"
    )]
    Delete {
        /// How its token is got
        #[command(flatten)]
        step_up: StepUp,
        /// The key
        name: String,
        /// The key's name again, where no terminal can be asked
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
    },
    /// Let somebody use a key: what they may do from now on
    #[command(
        after_help = "WHO is pgveil (the proxy), user:NAME (the command line), key-id:ID (who signs requests to `kms serve`), cert:CN (a client's certificate), or all of a kind, as in key-id:*\nOPERATIONS: encrypt, decrypt, sign, verify, describe, manage\n\nExample:\n  pgveil kms grant tenant-acme key-id:AKIA2345 encrypt,decrypt,describe"
    )]
    Grant {
        /// The key
        name: String,
        /// WHO
        to: Grantee,
        /// OPERATIONS, with commas
        #[arg(value_delimiter = ',', required = true)]
        operations: Vec<Operation>,
    },
    /// Take all that was granted from somebody
    #[command(after_help = "Example:\n  pgveil kms revoke tenant-acme key-id:AKIA2345")]
    Revoke {
        /// The key
        name: String,
        /// WHO
        from: Grantee,
    },
    /// Encrypt standard input, at most 4096 bytes, or what fits an RSA key
    #[command(
        after_help = "Example:\n  printf secret | pgveil kms encrypt box --context invoices > secret.txt"
    )]
    Encrypt(work::Crypt),
    /// Decrypt what `encrypt` printed, from standard input
    #[command(after_help = "Example:\n  pgveil kms decrypt box --context invoices < secret.txt")]
    Decrypt(work::Crypt),
    /// Sign the SHA-256 of standard input
    #[command(after_help = "Example:\n  pgveil kms sign invoices < invoice.pdf > invoice.sig")]
    Sign(work::Sign),
    /// Verify a signature of standard input; exit code 1 if it is wrong
    #[command(
        after_help = "Example:\n  pgveil kms verify invoices \"$(cat invoice.sig)\" < invoice.pdf"
    )]
    Verify(work::Verify),
    /// Make an access key for requests to `kms serve`, and add it to `credentials_file` in `[kms_server]`
    #[command(after_help = "Example:\n  pgveil kms credentials --json")]
    Credentials,
    /// Print the policy that lets pgveil use the configured keys of a cloud, and nothing more
    Policy {
        /// For whom
        #[command(subcommand)]
        cloud: policy::Cloud,
    },
    /// Serve keys to others over the XKS Proxy API, as `[kms_server]` says
    #[command(
        after_help = "Example:\n  pgveil kms serve --config conf/pgveil.toml\n\nPrints `pgveil: serving keys on HOST:PORT` on standard output once it is ready."
    )]
    Serve,
}

fn parse_user(text: &str) -> Result<String, String> {
    if text.is_empty() || text == "*" || text.len() > 200 || text.contains(char::is_control) {
        return Err("a user's name has 1 to 200 bytes, and is not `*`".to_owned());
    }
    Ok(text.to_owned())
}

fn parse_grant(text: &str) -> Result<Grant, String> {
    let (to, operations) = text
        .rsplit_once('=')
        .ok_or("a grant is WHO=OPERATION,OPERATION")?;
    Ok(Grant {
        to: to.parse()?,
        operations: operations
            .split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()?,
    })
}

/// A key manager that was opened, whoever acts, and how to print.
struct Site {
    kms: LocalKms,
    keystore: Arc<Keystore>,
    caller: Caller,
    json: bool,
}

/// Runs one of them.
///
/// # Errors
/// If the configuration or the keystore cannot be read, or the KMS refuses.
pub async fn run(arguments: Kms) -> anyhow::Result<ExitCode> {
    let Kms {
        config,
        provider,
        user,
        json,
        command,
    } = arguments;
    match command {
        Verb::Serve => return serve::run(&config.config, provider.as_deref()).await,
        Verb::Credentials => return serve::credentials(&config.config, json),
        Verb::Policy { cloud } => return policy::run(&config.config, cloud, provider.as_deref()),
        _ => {}
    }
    let (settings, keystore) = app::keystore(&config.config).await?;
    if !command.only_shows() {
        match keystore.log().catch_up().await {
            // The log's own key may be what is disabled.
            Err(KeystoreError::Unaudited { .. } | KeystoreError::LogKeyAway { .. })
                if command.is_switch() => {}
            caught_up => caught_up.map_err(|error| found(&error))?,
        }
    }
    let token = match command.needs() {
        Some((step_up, operation)) => {
            let platform = ScopePath::platform();
            Some(step_up.token(keystore.log(), operation, &platform).await?)
        }
        None => None,
    };
    let loss = match &command {
        Verb::DestroyVersion {
            accept_loss: true, ..
        } => Loss::Accepted,
        _ => Loss::Refused,
    };
    let keks = PermittedKeks::new(Arc::clone(&keystore), token, loss);
    let site = Site {
        kms: open(&settings, provider.as_deref(), Arc::new(keks)).await?,
        keystore: Arc::clone(&keystore),
        caller: Caller::user(user.unwrap_or_else(operating_user)),
        json,
    };
    let is_grave = command.needs().is_some();
    let done = site.run(command).await?;
    if is_grave {
        sign_and_send(&config.config, &keystore).await;
    }
    Ok(done)
}

/// The local provider that is meant, opened over the keystore.
async fn open(
    settings: &Settings,
    named: Option<&str>,
    keks: Arc<dyn KekStore>,
) -> anyhow::Result<LocalKms> {
    let (name, root_key_file) = local_provider(settings, named)?;
    LocalKms::open(name, root_key_file, keks)
        .await
        .map_err(|error| Found(format!("provider \"{name}\": {error}; {}", error.cure())).into())
}

impl Verb {
    /// Whether it is what brings a key back, or keeps it from use.
    fn is_switch(&self) -> bool {
        matches!(self, Self::Enable { .. } | Self::Disable { .. })
    }

    /// Whether it neither uses a key nor changes one.
    fn only_shows(&self) -> bool {
        matches!(
            self,
            Self::List | Self::Show { .. } | Self::PublicKey { .. }
        )
    }

    /// What cannot be undone, and what others follow, needs a token.
    fn needs(&self) -> Option<(&StepUp, Step)> {
        match self {
            Self::Rotate { step_up, .. } => Some((step_up, Step::KekRotate)),
            Self::DestroyVersion { step_up, .. } | Self::Delete { step_up, .. } => {
                Some((step_up, Step::KmsDestroy))
            }
            _ => None,
        }
    }
}

fn local_provider<'s>(
    settings: &'s Settings,
    named: Option<&str>,
) -> Result<(&'s str, &'s Path), Found> {
    let mut local = settings
        .providers
        .iter()
        .filter_map(|(name, provider)| match provider {
            Provider::Local { root_key_file, .. } => Some((name.as_str(), root_key_file.as_path())),
            _ => None,
        });
    if let Some(named) = named {
        let found = local.find(|(name, _)| *name == named);
        return found.ok_or_else(|| {
            Found(format!(
                "there is no [provider.{named}] with kind = \"local\""
            ))
        });
    }
    match (local.next(), local.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Found(
            "no provider of the configuration is the local KMS: add one with kind = \"local\""
                .to_owned(),
        )),
        _ => Err(Found(
            "the configuration has several local providers: name one with --provider".to_owned(),
        )),
    }
}

fn refused(error: KmsError) -> anyhow::Error {
    Found(format!("{error}; {}", error.cure())).into()
}

impl Site {
    async fn run(&self, command: Verb) -> anyhow::Result<ExitCode> {
        let Self { kms, caller, .. } = self;
        let changed = match command {
            Verb::List => {
                let keys = kms.list(caller).await.map_err(refused)?;
                show::list(kms.name(), &keys, self.json);
                return Ok(ExitCode::SUCCESS);
            }
            Verb::Show { name } => {
                let key = kms.show(&name, caller).await.map_err(refused)?;
                show::key(kms.name(), &key, self.json);
                return Ok(ExitCode::SUCCESS);
            }
            Verb::PublicKey { name, version } => return self.public_key(&name, version).await,
            Verb::Encrypt(what) => return self.encrypt(&what).await,
            Verb::Decrypt(what) => return self.decrypt(&what).await,
            Verb::Sign(what) => return self.sign(&what).await,
            Verb::Verify(what) => return self.verify(&what).await,
            Verb::Create {
                name,
                description,
                algorithm,
                usage,
                rotate_every,
                without_version,
                grants,
            } => {
                let new = NewKey {
                    name,
                    description,
                    algorithm,
                    usage,
                    rotate_every_days: rotate_every,
                    activate: !without_version,
                    grants,
                };
                kms.create(new, caller).await
            }
            Verb::Rotate { name, .. } => kms.rotate(&name, caller).await,
            Verb::Schedule { name, every } => {
                let every = match every.as_str() {
                    "off" => None,
                    days => Some(days.parse().map_err(|_| {
                        Found(format!(
                            "{days:?} is no number of days from 1 to 1095, and not `off`"
                        ))
                    })?),
                };
                kms.set_rotation(&name, every, caller).await
            }
            Verb::Disable { name, version } => {
                let done = kms.set_enabled(&name, version, false, caller).await;
                if let Ok(key) = &done {
                    self.warn_of(key, version.or(key.default_version)).await?;
                }
                done
            }
            Verb::Enable { name, version } => self.enable(&name, version).await,
            Verb::Deactivate { name } => {
                let done = kms.set_active(&name, false, caller).await;
                if let Ok(key) = &done {
                    self.warn_of(key, None).await?;
                }
                done
            }
            Verb::DestroyVersion {
                name,
                version,
                accept_loss,
                confirm,
                ..
            } => {
                kms.show(&name, caller).await.map_err(refused)?;
                let mut what = format!(
                    "What version {version} of \"{name}\" encrypted cannot be read again by anybody."
                );
                let standing = self.standing(&name, Some(version)).await?;
                if !standing.is_empty() {
                    if !accept_loss {
                        return Err(Found(format!(
                            "under version {version} of \"{name}\" stand {standing}; nothing was changed. `pgveil keks rotate SCOPE`, of a scope under this key, \
                             brings them to a new version; run it again with --accept-loss if they are to be lost"
                        ))
                        .into());
                    }
                    what += &format!(" Under it stand {standing}.");
                }
                confirmed(&name, confirm.as_deref(), &what)?;
                kms.destroy_version(&name, version, caller).await
            }
            Verb::Delete { name, confirm, .. } => {
                kms.show(&name, caller).await.map_err(refused)?;
                let what = format!("Key \"{name}\" will be gone for good.");
                confirmed(&name, confirm.as_deref(), &what)?;
                kms.delete(&name, caller).await
            }
            Verb::Grant {
                name,
                to,
                operations,
            } => {
                let operations = operations.into_iter().collect();
                kms.grant(&name, Grant { to, operations }, caller).await
            }
            Verb::Revoke { name, from } => {
                let nothing = Grant {
                    to: from,
                    operations: [].into(),
                };
                kms.grant(&name, nothing, caller).await
            }
            Verb::Serve | Verb::Credentials | Verb::Policy { .. } => {
                unreachable!("these were run before")
            }
        };
        let key = changed.map_err(refused)?;
        show::key(kms.name(), &key, self.json);
        Ok(ExitCode::SUCCESS)
    }

    async fn standing(&self, name: &str, version: Option<u32>) -> anyhow::Result<Standing> {
        let version = version.map(|version| version.to_string());
        let standing = self
            .keystore
            .standing(self.kms.name(), name, version.as_deref());
        standing.await.map_err(|error| found(&error))
    }

    /// Says what is out of reach now. It is what an emergency may want, and is taken back by `enable`.
    async fn warn_of(&self, key: &Key, version: Option<u32>) -> anyhow::Result<()> {
        let standing = self.standing(&key.name, version).await?;
        if !standing.is_empty() {
            eprintln!(
                "pgveil: until `pgveil kms enable {}`, nobody can use what stands under it: {standing}",
                key.name
            );
        }
        Ok(())
    }

    async fn enable(&self, name: &str, version: Option<u32>) -> Result<Key, KmsError> {
        let Self { kms, caller, .. } = self;
        if version.is_none() {
            let key = kms.show(name, caller).await?;
            if key.state == KeyState::Deactivated {
                return kms.set_active(name, true, caller).await;
            }
        }
        kms.set_enabled(name, version, true, caller).await
    }
}
