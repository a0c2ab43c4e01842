//! AWS KMS: an emulator that honours disabled keys, a region that is lost, and errors that it does not make.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result, ensure};
use pgveil_providers::{KeyProvider, ProviderError};
use pgveil_tests::{
    kms::Aws,
    postgres::TempPostgres,
    site::{Ran, Site},
};

use crate::{
    contract::{KEY, configured, context, contract, is_denied, is_unavailable},
    fault::{Fault, Reply, Request, forward},
};

pub(crate) async fn aws(endpoint: &str, further: &str) -> Result<Box<dyn KeyProvider>> {
    configured(&format!(
        "kind = \"aws-kms\"\nregion = \"eu-central-1\"\nendpoint = \"{endpoint}\"\n{further}"
    ))
    .await
}

#[tokio::test]
async fn aws_kms_keeps_the_contract() -> Result<()> {
    let Some(emulator) = Aws::start()? else {
        return Ok(());
    };
    let (a, b) = (emulator.key()?, emulator.key()?);
    let provider = aws(&emulator.endpoint, "").await?;
    contract(provider.as_ref(), &a, &b).await?;
    let here = context("platform");

    // An alias that is pointed at another key: what was wrapped names the key behind it.
    emulator.run(&format!(
        "kms.create_alias(AliasName='alias/pgveil', TargetKeyId='{b}')"
    ))?;
    let by_alias = provider.wrap("alias/pgveil", &KEY, &here).await?;
    ensure!(by_alias.kek_version == b, "{by_alias:?}");
    let c = emulator.key()?;
    emulator.run(&format!(
        "kms.update_alias(AliasName='alias/pgveil', TargetKeyId='{c}')"
    ))?;
    ensure!(
        provider
            .unwrap("alias/pgveil", &by_alias, &here)
            .await?
            .as_slice()
            == KEY
    );
    let answer = provider.wrap("alias/nobody", &KEY, &here).await;
    ensure!(is_denied(&answer), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_disabled_or_to_be_deleted_is_denied() -> Result<()> {
    let Some(emulator) = Aws::whole()? else {
        return Ok(());
    };
    let a = emulator.key()?;
    let provider = aws(&emulator.endpoint, "").await?;
    let here = context("platform");
    let wrapped = provider.wrap(&a, &KEY, &here).await?;
    emulator.run(&format!("kms.disable_key(KeyId='{a}')"))?;
    for answer in [
        provider.unwrap(&a, &wrapped, &here).await.map(drop),
        provider.describe(&a).await.map(drop),
    ] {
        ensure!(is_denied(&answer), "{answer:?}");
    }
    emulator.run(&format!("kms.enable_key(KeyId='{a}')"))?;
    ensure!(provider.unwrap(&a, &wrapped, &here).await?.as_slice() == KEY);
    emulator.run(&format!(
        "kms.schedule_key_deletion(KeyId='{a}', PendingWindowInDays=7)"
    ))?;
    let answer = provider.unwrap(&a, &wrapped, &here).await;
    ensure!(is_denied(&answer), "{answer:?}");
    Ok(())
}

/// What was asked of which region stands in the signature.
pub(crate) fn is_for(request: &Request, region: &str) -> bool {
    let signature = request.header("authorization").unwrap_or_default();
    signature.contains(&format!("/{region}/kms/"))
}

#[tokio::test]
async fn a_replica_answers_when_its_region_is_lost() -> Result<()> {
    let Some(emulator) = Aws::whole()? else {
        return Ok(());
    };
    let lost = Arc::new(AtomicBool::new(false));
    let (is_lost, port) = (Arc::clone(&lost), emulator.endpoint.clone());
    let relay = Fault::plain(move |request| {
        if is_lost.load(Ordering::SeqCst) && is_for(request, "eu-central-1") {
            return Reply::Close;
        }
        forward(&port, request).unwrap_or(Reply::Close)
    })
    .await?;
    let key = emulator.run(
        "key = kms.create_key(MultiRegion=True)['KeyMetadata']['Arn']\n\
         kms.replicate_key(KeyId=key, ReplicaRegion='eu-west-1')\nprint(key)",
    )?;
    let single = emulator.key()?;
    let with_replica = aws(&relay.address, "replica_regions = [\"eu-west-1\"]").await?;
    let without = aws(&relay.address, "").await?;
    let here = context("platform");
    let wrapped = with_replica.wrap(&key, &KEY, &here).await?;
    let alone = with_replica.wrap(&single, &KEY, &here).await?;

    lost.store(true, Ordering::SeqCst);
    ensure!(with_replica.unwrap(&key, &wrapped, &here).await?.as_slice() == KEY);
    let there = with_replica.wrap(&key, &KEY, &here).await?;
    let answer = without.unwrap(&key, &wrapped, &here).await;
    ensure!(is_unavailable(&answer), "{answer:?}");
    // A key of one region is not asked for in another, which would say that there is none.
    let answer = with_replica.unwrap(&single, &alone, &here).await;
    ensure!(is_unavailable(&answer), "{answer:?}");
    // Nor is an alias that only the lost region has believed to be gone.
    let answer = with_replica.wrap("alias/nobody", &KEY, &here).await;
    ensure!(is_unavailable(&answer), "{answer:?}");

    lost.store(false, Ordering::SeqCst);
    ensure!(without.unwrap(&key, &there, &here).await?.as_slice() == KEY);
    ensure!(
        with_replica
            .unwrap(&single, &alone, &here)
            .await?
            .as_slice()
            == KEY
    );
    Ok(())
}

#[tokio::test]
async fn rotations_are_told() -> Result<()> {
    let Some(emulator) = Aws::whole()? else {
        return Ok(());
    };
    let key = emulator.key()?;
    let provider = aws(&emulator.endpoint, "").await?;
    let before = provider.rotation(&key).await?.context("AWS tells")?;
    ensure!(!before.is_automatic, "{before:?}");
    emulator.run(&format!(
        "kms.enable_key_rotation(KeyId='{key}', RotationPeriodInDays=180)"
    ))?;
    let after = provider.rotation(&key).await?.context("AWS tells")?;
    ensure!(
        after.is_automatic && after.period_days == Some(180),
        "{after:?}"
    );
    ensure!(after.next.is_some(), "{after:?}");

    // On demand, as often as asked: what was wrapped before opens.
    let here = context("platform");
    let old = provider.wrap(&key, &KEY, &here).await?;
    provider.rotate(&key).await?;
    ensure!(provider.unwrap(&key, &old, &here).await?.as_slice() == KEY);
    let new = provider.wrap(&key, &KEY, &here).await?;
    ensure!(provider.unwrap(&key, &new, &here).await?.as_slice() == KEY);
    let answer = provider.rotate("alias/nobody").await;
    ensure!(is_denied(&answer), "{answer:?}");
    emulator.run(&format!("kms.disable_key(KeyId='{key}')"))?;
    let answer = provider.rotate(&key).await;
    ensure!(is_denied(&answer), "{answer:?}");
    Ok(())
}

/// The emulator tells no `CurrentKeyMaterialId`. As the API reference has the three operations:
/// <https://docs.aws.amazon.com/kms/latest/APIReference/API_RotateKeyOnDemand.html>
#[tokio::test]
async fn a_rotation_on_demand_shows_in_the_key_material() -> Result<()> {
    const KEK: &str =
        "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let rotated = Arc::new(AtomicBool::new(false));
    let is_rotated = Arc::clone(&rotated);
    let server = Fault::plain(move |request| {
        let target = request.header("x-amz-target").unwrap_or_default();
        let asked: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
        if asked["KeyId"] != KEK {
            return Reply::Close;
        }
        match target.rsplit('.').next() {
            Some("RotateKeyOnDemand") => {
                is_rotated.store(true, Ordering::SeqCst);
                Reply::json(200, &serde_json::json!({ "KeyId": KEK }))
            }
            Some("DescribeKey") => {
                let material = if is_rotated.load(Ordering::SeqCst) { "b" } else { "a" };
                let described = serde_json::json!({ "KeyMetadata": {
                    "KeyId": "1234abcd-12ab-34cd-56ef-1234567890ab", "Arn": KEK, "Enabled": true, "KeyState": "Enabled",
                    "KeySpec": "SYMMETRIC_DEFAULT", "CurrentKeyMaterialId": material.repeat(64),
                }});
                Reply::json(200, &described)
            }
            _ => Reply::Close,
        }
    })
    .await?;
    let provider = aws(&server.address, "").await?;
    ensure!(provider.rotates().is_ok());
    ensure!(provider.describe(KEK).await?.version == "a".repeat(64));
    provider.rotate(KEK).await?;
    ensure!(rotated.load(Ordering::SeqCst));
    ensure!(provider.describe(KEK).await?.version == "b".repeat(64));
    Ok(())
}

/// As the API reference has it: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
const ASSUMED: &str = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
    <AssumedRoleUser><AssumedRoleId>AROAPGVEIL:pgveil</AssumedRoleId>\
    <Arn>arn:aws:sts::000000000000:assumed-role/pgveil/pgveil</Arn></AssumedRoleUser>\
    <Credentials><AccessKeyId>ASIAOFTHEROLE0000001</AccessKeyId><SecretAccessKey>role</SecretAccessKey>\
    <SessionToken>session</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult>\
    <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></AssumeRoleResponse>";

const NOT_ASSUMED: &str = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
    <Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole</Message></Error>\
    <RequestId>2</RequestId></ErrorResponse>";

/// The emulator takes any credentials: this server, before it, takes only those of the role, and gives them only to who
/// names the role and its external id.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_assumed_with_its_external_id() -> Result<()> {
    let Some(emulator) = Aws::start()? else {
        return Ok(());
    };
    let (key, behind) = (emulator.key()?, emulator.endpoint.clone());
    let as_role = Arc::new(AtomicBool::new(false));
    let asked_as_role = Arc::clone(&as_role);
    let server = Fault::plain(move |request| {
        let asked = String::from_utf8_lossy(&request.body);
        if asked.contains("Action=AssumeRole") {
            let role = "RoleArn=arn%3Aaws%3Aiam%3A%3A000000000000%3Arole%2Fpgveil";
            let word = ["ExternalId=a%20word", "ExternalId=a+word"];
            let named = asked.contains(role) && word.iter().any(|word| asked.contains(word));
            let (status, said) = if named {
                (200, ASSUMED)
            } else {
                (403, NOT_ASSUMED)
            };
            return Reply::Answer(status, Vec::new(), said.as_bytes().to_vec());
        }
        let signed = request.header("authorization").unwrap_or_default();
        if !signed.contains("Credential=ASIAOFTHEROLE0000001/") {
            let kind = (
                "x-amzn-errortype".to_owned(),
                "AccessDeniedException".to_owned(),
            );
            return Reply::Answer(400, vec![kind], b"{}".to_vec());
        }
        asked_as_role.store(true, Ordering::SeqCst);
        forward(&behind, request).unwrap_or(Reply::Close)
    })
    .await?;
    tokio::task::block_in_place(|| {
        let database = TempPostgres::fresh_database()?;
        let check = |external_id: &str| -> Result<Ran> {
            let mut site = Site::new(&database, "")?;
            site.append(&format!(
                "[provider.aws]\nkind = \"aws-kms\"\nregion = \"eu-central-1\"\nendpoint = \"{}\"\n\
                 role_arn = \"arn:aws:iam::000000000000:role/pgveil\"\n{external_id}\n",
                server.address
            ))?;
            site.set("defaults", "provider", "\"aws\"")?;
            site.set("defaults", "key", &format!("\"{key}\""))?;
            let config = site.config();
            let config = config.to_str().context("a UTF-8 path")?;
            let sts = [("AWS_ENDPOINT_URL_STS", server.address.as_str())];
            site.run_env(&["check", "--config", config], &sts)
        };
        let with = check("external_id = \"a word\"")?;
        ensure!(!with.stderr.contains("aws"), "{}", with.stderr);
        ensure!(as_role.load(Ordering::SeqCst), "{}", with.stdout);
        let without = check("")?;
        ensure!(
            without.code == Some(1) && without.stderr.contains("provider \"aws\""),
            "{}",
            without.stderr
        );
        Ok(())
    })
}

/// Errors as the API reference has them: <https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html>
#[tokio::test]
async fn errors_of_aws_are_told_apart() -> Result<()> {
    let say = |status: u16, kind: &str| {
        let body = format!(r#"{{"__type":"{kind}","message":"m"}}"#);
        let kind = ("x-amzn-errortype".to_owned(), kind.to_owned());
        Reply::Answer(status, vec![kind], body.into_bytes())
    };
    let server = Fault::plain(move |request| {
        let asked = String::from_utf8_lossy(&request.body).into_owned();
        let case = |name: &str| asked.contains(&format!("key/{name}\""));
        match () {
            () if case("denied") => say(400, "AccessDeniedException"),
            () if case("pending") => say(400, "KMSInvalidStateException"),
            () if case("throttled") => say(400, "ThrottlingException"),
            () if case("internal") => say(500, "KMSInternalException"),
            () if case("new") => say(503, "SomethingNewException"),
            () if case("damaged") => say(400, "InvalidCiphertextException"),
            () if case("another") => say(400, "IncorrectKeyException"),
            () if case("page") => Reply::Answer(403, Vec::new(), b"<html>".to_vec()),
            () if case("redirect") => {
                let to = ("location".to_owned(), "/elsewhere".to_owned());
                Reply::Answer(307, vec![to], Vec::new())
            }
            () => Reply::Hang,
        }
    })
    .await?;
    let provider = aws(&server.address, "").await?;
    for (case, expected) in [
        ("denied", "denied"),
        ("pending", "denied"),
        ("throttled", "unavailable"),
        ("internal", "unavailable"),
        ("new", "unavailable"),
        ("damaged", "damaged"),
        ("another", "not mine"),
        ("page", "unavailable"),
        ("redirect", "unavailable"),
        ("slow", "unavailable"),
    ] {
        let kek = format!("arn:aws:kms:eu-central-1:123456789012:key/{case}");
        let wrapped = pgveil_providers::Wrapped {
            bytes: vec![1; 80],
            kek_version: kek.clone(),
        };
        let answer = provider.unwrap(&kek, &wrapped, &context("platform")).await;
        let said = match &answer {
            Ok(_) => "opened",
            Err(ProviderError::Denied { .. }) => "denied",
            Err(ProviderError::Unavailable { .. }) => "unavailable",
            Err(ProviderError::Damaged { .. }) => "damaged",
            Err(ProviderError::NotMine { .. }) => "not mine",
        };
        ensure!(said == expected, "{case}: {answer:?}");
    }
    Ok(())
}
