//! Operators and their tokens.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use pgveil_config::ScopePath;
use pgveil_keys::{
    audit::{Event, Log, Operation},
    keystore::KeystoreError,
    step_up::{StepUpError, Token},
};

use super::{Site, scope};

const PASSPHRASE: &str = "correct horse battery";

/// Does an operation with a token, or says why not.
async fn unseal(log: &Arc<Log>, token: &Token, scope: &ScopePath) -> Result<(), KeystoreError> {
    let mut change = log.change().await?;
    change.step_up(token, Operation::ScopeUnseal, scope).await?;
    let event = Event::new(Operation::ScopeUnseal).scope(scope);
    change.commit(event).await
}

fn refusal(answer: Result<(), KeystoreError>) -> Result<StepUpError> {
    match answer {
        Err(KeystoreError::StepUp(error)) => Ok(error),
        other => anyhow::bail!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_once_for_its_operation_and_scope() -> Result<()> {
    let site = Site::new().await?;
    let replica = site.replica().await?;
    let log = replica.keystore.log();
    log.enroll("ada", PASSPHRASE, None).await?;
    let (a, b) = (scope("tenant:a"), scope("tenant:b"));
    let token = log
        .step_up_token("ada", PASSPHRASE, Operation::ScopeUnseal, &a)
        .await?;

    let other = refusal(unseal(log, &token, &b).await)?;
    log.flush().await;
    ensure!(
        other.to_string().contains("another operation or scope"),
        "{other}"
    );
    // What was refused has not used it up.
    site.database
        .admin("CREATE TABLE public.tokens AS TABLE pgveil.step_up_tokens")?;
    unseal(log, &token, &a).await?;
    let again = refusal(unseal(log, &token, &a).await)?;
    ensure!(again.to_string().contains("used"), "{again}");
    // Nor is it good again when a superuser of the database puts its row back.
    site.database
        .admin("INSERT INTO pgveil.step_up_tokens TABLE public.tokens")?;
    let again = refusal(unseal(log, &token, &a).await)?;
    ensure!(again.to_string().contains("it was used"), "{again}");

    log.flush().await;
    let told = site
        .database
        .admin("SELECT string_agg(operation, ',' ORDER BY seq) FROM pgveil.audit")?;
    ensure!(
        told == "operator.enroll,step-up.issue,step-up.refuse,scope.unseal,step-up.refuse,step-up.refuse",
        "{told}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_a_superuser_writes_are_no_tokens_and_no_operators() -> Result<()> {
    let site = Site::new().await?;
    let replica = site.replica().await?;
    let log = replica.keystore.log();
    log.enroll("ada", PASSPHRASE, None).await?;
    let a = scope("tenant:a");
    let token = log
        .step_up_token("ada", PASSPHRASE, Operation::ScopeErase, &a)
        .await?;
    for change in [
        "operation = 'scope.unseal'",
        "scope = 'tenant:b'",
        "expires_us = expires_us + 1",
        "operator = 'eve'",
    ] {
        site.database
            .admin("CREATE TABLE public.kept AS TABLE pgveil.step_up_tokens")?;
        site.database
            .admin(&format!("UPDATE pgveil.step_up_tokens SET {change}"))?;
        let refused = refusal(unseal(log, &token, &a).await)?;
        ensure!(
            refused.to_string().contains("changed"),
            "{change}: {refused}"
        );
        site.database.admin(
            "DELETE FROM pgveil.step_up_tokens; INSERT INTO pgveil.step_up_tokens TABLE public.kept; DROP TABLE public.kept",
        )?;
    }
    // Ada's verifier under another name is nobody's.
    site.database.admin(
        "INSERT INTO pgveil.operators (name, salt, rounds, verifier) SELECT 'eve', salt, rounds, verifier FROM pgveil.operators",
    )?;
    let eve = log
        .step_up_token("eve", PASSPHRASE, Operation::ScopeErase, &a)
        .await;
    ensure!(
        matches!(
            eve,
            Err(KeystoreError::StepUp(StepUpError::Passphrase { .. }))
        ),
        "{eve:?}"
    );
    // Nor can the first operator be enrolled again.
    site.database.admin("DELETE FROM pgveil.operators")?;
    let again = log.enroll("eve", PASSPHRASE, None).await;
    ensure!(
        matches!(again, Err(KeystoreError::Damaged { .. })),
        "{again:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_passphrases_are_recorded_and_lock() -> Result<()> {
    let site = Site::new().await?;
    let replica = site.replica().await?;
    let log = replica.keystore.log();
    let a = scope("tenant:a");
    let nobody = log
        .step_up_token("ada", PASSPHRASE, Operation::ScopeErase, &a)
        .await;
    ensure!(
        matches!(nobody, Err(KeystoreError::StepUp(StepUpError::NoOperator))),
        "{nobody:?}"
    );
    let weak = log.enroll("ada", "short", None).await;
    ensure!(
        matches!(weak, Err(KeystoreError::StepUp(StepUpError::Weak))),
        "{weak:?}"
    );
    log.enroll("ada", PASSPHRASE, None).await?;
    let second = log.enroll("bob", PASSPHRASE, None).await;
    ensure!(
        matches!(
            second,
            Err(KeystoreError::StepUp(StepUpError::Needed { .. }))
        ),
        "{second:?}"
    );
    for _ in 0..5 {
        let wrong = log
            .step_up_token("ada", "wrong horse battery", Operation::ScopeErase, &a)
            .await;
        ensure!(
            matches!(
                wrong,
                Err(KeystoreError::StepUp(StepUpError::Passphrase { .. }))
            ),
            "{wrong:?}"
        );
    }
    let locked = log
        .step_up_token("ada", PASSPHRASE, Operation::ScopeErase, &a)
        .await;
    ensure!(
        matches!(
            locked,
            Err(KeystoreError::StepUp(StepUpError::Locked { .. }))
        ),
        "{locked:?}"
    );
    site.database
        .admin("UPDATE pgveil.operators SET locked_until = now()")?;
    log.step_up_token("ada", PASSPHRASE, Operation::ScopeErase, &a)
        .await?;
    let refused = site.database.admin("SELECT count(*) FROM pgveil.audit WHERE operation = 'step-up.refuse' AND outcome = 'refused'")?;
    ensure!(refused == "6", "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_operator_is_enrolled_and_removed_with_tokens() -> Result<()> {
    let site = Site::new().await?;
    let replica = site.replica().await?;
    let log = replica.keystore.log();
    let platform = ScopePath::platform();
    log.enroll("ada", PASSPHRASE, None).await?;
    let token = log
        .step_up_token("ada", PASSPHRASE, Operation::OperatorEnroll, &platform)
        .await?;
    log.enroll("bob", "another long passphrase", Some(&token))
        .await?;
    let token = log
        .step_up_token(
            "bob",
            "another long passphrase",
            Operation::OperatorRemove,
            &platform,
        )
        .await?;
    site.database
        .admin("CREATE TABLE public.were AS TABLE pgveil.operators")?;
    log.remove_operator("ada", &token).await?;
    // Put back by a superuser of the database, she is no operator and does not stand in the way of another one of her name.
    site.database
        .admin("INSERT INTO pgveil.operators SELECT * FROM public.were WHERE name = 'ada'")?;
    let refused = log
        .step_up_token("ada", PASSPHRASE, Operation::OperatorRemove, &platform)
        .await;
    ensure!(
        matches!(
            refused,
            Err(KeystoreError::StepUp(StepUpError::Passphrase { .. }))
        ),
        "{refused:?}"
    );
    ensure!(log.verify().await?.is_ok());
    // Nor does it help to take away what says that she was removed, but for the log.
    site.database.admin(
        "INSERT INTO pgveil.operators SELECT * FROM public.were WHERE name = 'ada' ON CONFLICT DO NOTHING; \
         DELETE FROM pgveil.row_changes WHERE table_name = 'operators'",
    )?;
    let refused = log
        .step_up_token("ada", PASSPHRASE, Operation::OperatorRemove, &platform)
        .await;
    ensure!(
        matches!(
            refused,
            Err(KeystoreError::StepUp(StepUpError::Passphrase { .. }))
        ),
        "{refused:?}"
    );
    ensure!(log.verify().await?.is_ok());
    let token = log
        .step_up_token(
            "bob",
            "another long passphrase",
            Operation::OperatorRemove,
            &platform,
        )
        .await?;
    let last = log.remove_operator("bob", &token).await;
    ensure!(
        matches!(last, Err(KeystoreError::StepUp(StepUpError::Last))),
        "{last:?}"
    );
    let names: Vec<String> = log
        .operators()
        .await?
        .into_iter()
        .map(|operator| operator.name)
        .collect();
    ensure!(names == ["bob"], "{names:?}");
    let token = log
        .step_up_token(
            "bob",
            "another long passphrase",
            Operation::OperatorEnroll,
            &platform,
        )
        .await?;
    log.enroll("ada", PASSPHRASE, Some(&token)).await?;
    log.step_up_token("ada", PASSPHRASE, Operation::OperatorRemove, &platform)
        .await?;

    // Where records were taken out of the log, nobody knows who was removed.
    site.database.admin(
        "ALTER TABLE pgveil.audit DISABLE TRIGGER append_only; \
         DELETE FROM pgveil.audit WHERE operation LIKE 'operator.%'; DELETE FROM pgveil.row_changes WHERE table_name = 'operators'; \
         ALTER TABLE pgveil.audit ENABLE TRIGGER append_only",
    )?;
    let is_unsound = |refused: &Result<(), KeystoreError>| {
        let table = "pgveil.audit";
        matches!(refused, Err(KeystoreError::Damaged { table: damaged, .. }) if *damaged == table)
    };
    let refused = log
        .step_up_token("ada", PASSPHRASE, Operation::OperatorRemove, &platform)
        .await;
    ensure!(is_unsound(&refused.map(drop)), "a token was made");
    site.database.admin("DELETE FROM pgveil.operators")?;
    let refused = log.enroll("eve", PASSPHRASE, None).await;
    ensure!(is_unsound(&refused), "{refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_nothing_that_needs_one_is_committed() -> Result<()> {
    let site = Site::new().await?;
    let replica = site.replica().await?;
    let log = replica.keystore.log();
    let mut change = log.change().await?;
    change
        .query("INSERT INTO pgveil.scopes (path) VALUES ('tenant:x')", &[])
        .await?;
    let refused = refusal(
        change
            .commit(Event::new(Operation::ScopeErase).scope(&scope("tenant:x")))
            .await,
    )?;
    ensure!(matches!(refused, StepUpError::Needed { .. }), "{refused}");
    let left = site.database.admin("SELECT count(*) FROM pgveil.scopes")?;
    ensure!(left == "0", "{left}");
    let change = replica.keystore.change().await.context("the next one")?;
    change.rollback().await?;
    Ok(())
}
