//! `pgveil kms policy`: the permissions that the configuration needs, as the key manager writes them. Asks nobody.

use std::{path::Path, process::ExitCode};

use clap::Subcommand;
use pgveil_config::{
    ScopePath, Settings,
    settings::{AwsKms, Provider},
};
use pgveil_keys::Scopes;
use serde_json::{Value, json};

use crate::cli::Found;

/// For whom.
#[derive(Debug, Subcommand)]
pub(super) enum Cloud {
    /// AWS: an IAM policy for the role or user that pgveil runs as
    #[command(
        after_help = "Example:\n  pgveil kms policy aws --config conf/pgveil.toml > policy.json\n  aws iam put-role-policy --role-name pgveil --policy-name kms --policy-document file://policy.json\n\nReads the configuration only. Each key may be used for the scopes that the configuration gives it: AWS sees the scope in the encryption context."
    )]
    Aws,
}

/// What needs the encryption context.
const USE: [&str; 5] = [
    "kms:Encrypt",
    "kms:Decrypt",
    "kms:GenerateDataKey",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
];
/// What has none.
const LOOK: [&str; 3] = [
    "kms:DescribeKey",
    "kms:GetKeyRotationStatus",
    "kms:ListKeyRotations",
];
/// What `kek_period` asks for, in the primary region only: AWS rotates a multi-Region key there.
const ROTATE: &str = "kms:RotateKeyOnDemand";
/// AWS's name for the part of the encryption context that holds the scope.
const SCOPE: &str = "kms:EncryptionContext:pgveil:scope";

/// Prints it for `provider`, or for all of the kind.
pub(super) fn run(
    config: &Path,
    Cloud::Aws: Cloud,
    provider: Option<&str>,
) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(config)?;
    let found = aws_providers(&settings, provider);
    if found.is_empty() {
        let message = match provider {
            Some(name) => format!("there is no [provider.{name}] of kind \"aws-kms\""),
            None => "there is no provider of kind \"aws-kms\"".to_owned(),
        };
        return Err(Found(message).into());
    }
    println!("{:#}", aws(&settings, &found));
    for (name, at) in &found {
        if let Some(role) = &at.role_arn {
            eprintln!(
                "pgveil: provider \"{name}\" assumes {role}: attach the policy to that role, and allow `sts:AssumeRole` on it to whoever pgveil runs as"
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn aws_providers<'a>(settings: &'a Settings, only: Option<&str>) -> Vec<(&'a str, &'a AwsKms)> {
    let all = settings.providers.iter();
    all.filter_map(|(name, provider)| match provider {
        Provider::AwsKms(at) if only.is_none_or(|only| only == name) => Some((name.as_str(), at)),
        _ => None,
    })
    .collect()
}

/// The policy for the keys of these providers.
fn aws(settings: &Settings, providers: &[(&str, &AwsKms)]) -> Value {
    let mut statements = Vec::new();
    let scopes = Scopes::new(settings);
    for (kek, levels) in scopes.uses() {
        let Some((_, at)) = providers.iter().find(|(name, _)| *name == kek.provider) else {
            continue;
        };
        let (resources, alias) = resources(&kek.kek, at);
        let mut condition = json!({});
        if let Some(alias) = alias {
            condition["ForAnyValue:StringEquals"] = json!({ "kms:ResourceAliases": alias });
        }
        let mut look = json!({ "Effect": "Allow", "Action": LOOK, "Resource": resources });
        if condition != json!({}) {
            look["Condition"] = condition.clone();
        }
        condition["StringLike"] = json!({ SCOPE: patterns(&levels) });
        statements.push(json!({
            "Effect": "Allow",
            "Action": USE,
            "Resource": resources,
            "Condition": condition,
        }));
        let rotate = { levels.iter() }
            .any(|level| scopes.effective(level).rotation.kek_period.is_some())
            .then(|| {
                let mut rotate = look.clone();
                rotate["Action"] = json!([ROTATE]);
                rotate["Resource"] = json!(resources[..1]);
                rotate
            });
        statements.push(look);
        statements.extend(rotate);
    }
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// The ARNs of a key, and its alias if that is all that is known of it: a policy names keys, not aliases.
fn resources(kek: &str, at: &AwsKms) -> (Vec<String>, Option<String>) {
    let regions = || std::iter::once(&at.region).chain(&at.replica_regions);
    let (partition, account, resource) = match kek.splitn(6, ':').collect::<Vec<_>>()[..] {
        ["arn", partition, "kms", _, account, resource] => (partition, account, resource),
        _ if kek.starts_with("alias/") => (partition_of(&at.region), "*", kek),
        _ => (partition_of(&at.region), "*", ""),
    };
    let resource = match resource {
        "" => format!("key/{kek}"),
        resource => resource.to_owned(),
    };
    let arn =
        |region: &str, resource: &str| format!("arn:{partition}:kms:{region}:{account}:{resource}");
    if resource.starts_with("alias/") {
        let arns = regions().map(|region| arn(region, "key/*")).collect();
        return (arns, Some(resource));
    }
    if resource.starts_with("key/mrk-") {
        let arns = regions().map(|region| arn(region, &resource)).collect();
        return (arns, None);
    }
    let region = kek.split(':').nth(3).unwrap_or(&at.region);
    (vec![arn(region, &resource)], None)
}

fn partition_of(region: &str) -> &'static str {
    match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// The scopes of levels as AWS's patterns. Names of scopes hold neither `*` nor `?`.
fn patterns(levels: &[ScopePath]) -> Vec<String> {
    if levels.contains(&ScopePath::platform()) {
        // Every scope may inherit from the platform; the context must be there all the same.
        return vec!["*".to_owned()];
    }
    levels.iter().flat_map(below).collect()
}

/// A level and every scope that inherits from it.
fn below(level: &ScopePath) -> Vec<String> {
    let level = level.as_str();
    match level.split_once("/env:") {
        // An environment of a tenant is that of its projects too.
        Some((tenant, env)) if !tenant.contains("/project:") => {
            vec![level.to_owned(), format!("{tenant}/project:*/env:{env}")]
        }
        Some(_) => vec![level.to_owned()],
        None => vec![level.to_owned(), format!("{level}/*")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &str = r#"
        [upstream]
        address = "127.0.0.1:5432"
        [keystore]
        url = "postgres://pgveil@127.0.0.1:5432/app"
        [provider.main]
        kind = "local"
        root_key_file = "root.key"
        [provider.aws]
        kind = "aws-kms"
        region = "eu-central-1"
        replica_regions = ["eu-west-1"]
        [provider.china]
        kind = "aws-kms"
        region = "cn-north-1"
        [defaults]
        provider = "aws"
        key = "arn:aws:kms:eu-central-1:123456789012:key/mrk-1"
        [[override]]
        scope = "tenant:a"
        provider = "aws"
        key = "arn:aws:kms:eu-central-1:123456789012:key/1234"
        [[override]]
        scope = "tenant:b"
        provider = "china"
        key = "alias/b"
        [[override]]
        scope = "tenant:c"
        provider = "main"
        key = "c"
    "#;

    fn policy(only: Option<&str>) -> Value {
        let settings = Settings::parse(SETTINGS, Path::new("pgveil.toml")).unwrap();
        aws(&settings, &aws_providers(&settings, only))
    }

    #[test]
    fn each_key_may_be_used_for_its_scopes_only() {
        let found = policy(None);
        let statements = found["Statement"].as_array().unwrap();
        assert_eq!(statements.len(), 6, "{found:#}");
        let of = |resource: &str| {
            let mut all = statements.iter();
            all.find(|one| one["Resource"][0] == resource && one["Action"][0] == "kms:Encrypt")
                .unwrap_or_else(|| panic!("{resource}: {found:#}"))
        };
        let platform = of("arn:aws:kms:eu-central-1:123456789012:key/mrk-1");
        assert_eq!(
            platform["Resource"][1],
            "arn:aws:kms:eu-west-1:123456789012:key/mrk-1"
        );
        assert_eq!(platform["Condition"]["StringLike"][SCOPE], json!(["*"]));
        let tenant = of("arn:aws:kms:eu-central-1:123456789012:key/1234");
        assert_eq!(tenant["Resource"].as_array().unwrap().len(), 1);
        assert_eq!(
            tenant["Condition"],
            json!({ "StringLike": { SCOPE: ["tenant:a", "tenant:a/*"] } })
        );
        let alias = of("arn:aws-cn:kms:cn-north-1:*:key/*");
        assert_eq!(
            alias["Condition"]["ForAnyValue:StringEquals"]["kms:ResourceAliases"],
            "alias/b"
        );
    }

    #[test]
    fn a_rotation_may_be_asked_for_where_there_is_a_period() {
        assert!(!policy(None).to_string().contains(ROTATE));
        let periodic = SETTINGS.replace(
            "scope = \"tenant:a\"",
            "scope = \"tenant:a\"\n        kek_period = \"365d\"",
        );
        let settings = Settings::parse(&periodic, Path::new("pgveil.toml")).unwrap();
        let found = aws(&settings, &aws_providers(&settings, None));
        let statements = found["Statement"].as_array().unwrap();
        let may: Vec<_> = { statements.iter() }
            .filter(|one| one["Action"] == json!([ROTATE]))
            .map(|one| one["Resource"].clone())
            .collect();
        let key = "arn:aws:kms:eu-central-1:123456789012:key/1234";
        assert_eq!(may, [json!([key])]);
    }

    #[test]
    fn an_environment_of_a_tenant_is_that_of_its_projects() {
        let shown = |scope: &str| below(&ScopePath::parse(scope).unwrap());
        assert_eq!(
            shown("tenant:a/env:prod"),
            ["tenant:a/env:prod", "tenant:a/project:*/env:prod"]
        );
        assert_eq!(
            shown("tenant:a/project:p"),
            ["tenant:a/project:p", "tenant:a/project:p/*"]
        );
        assert_eq!(
            shown("tenant:a/project:p/env:prod"),
            ["tenant:a/project:p/env:prod"]
        );
    }

    #[test]
    fn one_provider_may_be_picked() {
        assert_eq!(
            policy(Some("china"))["Statement"].as_array().unwrap().len(),
            2
        );
        assert_eq!(policy(Some("main"))["Statement"], json!([]));
    }

    #[test]
    fn a_key_that_is_named_by_its_id_is_one_of_the_region() {
        let settings = Settings::parse(SETTINGS, Path::new("pgveil.toml")).unwrap();
        let Provider::AwsKms(at) = &settings.providers["aws"] else {
            unreachable!("it is one of AWS");
        };
        let (found, alias) = resources("1234-abcd", at);
        assert_eq!(found, ["arn:aws:kms:eu-central-1:*:key/1234-abcd"]);
        assert_eq!(alias, None);
    }
}
