//! A log in real tables, and what a superuser of the database does to it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use pgveil_keys::{
    audit::{
        Checkpoint, Event, Fault, Filter, Operation, Sinks, export,
        sink::{self, SinkError},
    },
    clock::ManualClock,
    keystore::KeystoreError,
};
use serde_json::json;

use super::{Site, scope};

/// Some records, made as they are made.
async fn told(site: &Site) -> Result<super::Replica> {
    let replica = site.replica().await?;
    let log = replica.keystore.log();
    replica.keys.sealing_key(&scope("tenant:a")).await?;
    replica
        .keys
        .sealing_key(&scope("tenant:b/env:prod"))
        .await?;
    log.record(Event::new(Operation::ConfigLoad).detail(json!({ "version": "x" })))
        .await?;
    log.checkpoint().await?;
    log.record(Event::new(Operation::ConfigRefuse)).await?;
    Ok(replica)
}

#[tokio::test]
async fn what_a_superuser_changes_is_found() -> Result<()> {
    let site = Site::new().await?;
    let replica = told(&site).await?;
    let log = replica.keystore.log();
    let sound = log.verify().await??;
    ensure!(
        (sound.records, sound.signed_to, sound.macs) == (4, 3, true),
        "{sound:?}"
    );
    site.database.admin(
        "ALTER TABLE pgveil.audit DISABLE TRIGGER append_only; \
         CREATE TABLE public.audit AS TABLE pgveil.audit; CREATE TABLE public.head AS TABLE pgveil.audit_head; \
         CREATE TABLE public.points AS TABLE pgveil.audit_checkpoints",
    )?;
    for change in [
        "UPDATE pgveil.audit SET record = set_byte(record, 100, (get_byte(record, 100) + 1) % 256) WHERE seq = 2",
        "UPDATE pgveil.audit SET record = set_byte(record, 50, (get_byte(record, 50) + 1) % 256) WHERE seq = 4",
        "UPDATE pgveil.audit SET mac = set_byte(mac, 0, (get_byte(mac, 0) + 1) % 256) WHERE seq = 4",
        "UPDATE pgveil.audit SET actor = 'session:eve' WHERE seq = 1",
        "UPDATE pgveil.audit SET scope = '' WHERE seq = 1",
        "UPDATE pgveil.audit SET at = at + interval '1 microsecond' WHERE seq = 3",
        "UPDATE pgveil.audit SET operation = 'dek.create' WHERE seq = 3",
        "UPDATE pgveil.audit SET outcome = 'failed' WHERE seq = 3",
        "UPDATE pgveil.audit SET operation_id = 'x' WHERE seq = 3",
        "DELETE FROM pgveil.audit WHERE seq = 2",
        "DELETE FROM pgveil.audit WHERE seq = 1",
        "DELETE FROM pgveil.audit WHERE seq <= 3",
        "DELETE FROM pgveil.audit WHERE seq = 4",
        "DELETE FROM pgveil.audit",
        "DELETE FROM pgveil.audit WHERE seq = 2; UPDATE pgveil.audit SET seq = seq - 1 WHERE seq > 2",
        "INSERT INTO pgveil.audit SELECT 5, record, mac, 'x', at, operation, outcome, scope, actor FROM pgveil.audit WHERE seq = 4; \
         UPDATE pgveil.audit_head SET seq = 5",
        "UPDATE pgveil.audit_head SET seq = 3",
        "UPDATE pgveil.audit_head SET link = sha256(link)",
        "UPDATE pgveil.audit_head SET mac = sha256(mac)",
        "DELETE FROM pgveil.audit WHERE seq = 4; UPDATE pgveil.audit_head SET seq = 3",
        "DELETE FROM pgveil.audit_head",
        "UPDATE pgveil.audit_checkpoints SET line = replace(line, 'after=0', 'after=1')",
        "UPDATE pgveil.audit_checkpoints SET line = line || ' '",
        "UPDATE pgveil.audit_checkpoints SET seq = 2",
    ] {
        site.database.admin(change)?;
        let judged = log.verify().await;
        ensure!(!matches!(judged, Ok(Ok(_))), "{change}: {judged:?}");
        site.database.admin(
            "DELETE FROM pgveil.audit; INSERT INTO pgveil.audit TABLE public.audit; \
             DELETE FROM pgveil.audit_head; INSERT INTO pgveil.audit_head TABLE public.head; \
             DELETE FROM pgveil.audit_checkpoints; INSERT INTO pgveil.audit_checkpoints TABLE public.points",
        )?;
    }
    log.verify().await??;
    Ok(())
}

/// Lines that somebody takes out of the file, or moves, are missed: the log has them all.
#[tokio::test]
async fn lines_of_the_file_outside_that_are_gone_or_moved_are_told() -> Result<()> {
    let site = Site::new().await?;
    let clock = Arc::new(ManualClock::new());
    let replica = site.replica_with_clock(Arc::clone(&clock) as _).await?;
    let log = replica.keystore.log();
    let file = site.folder.path().join("checkpoints.log");
    let mut sinks = Sinks::new(Some(file.clone()), None);
    for _ in 0..4 {
        log.record(Event::new(Operation::ConfigLoad)).await?;
        log.checkpoint().await?;
        sinks.follow(log).await?;
    }
    let whole = std::fs::read_to_string(&file)?;
    let lines: Vec<&str> = whole.lines().collect();
    let held = |lines: &[&str]| std::fs::write(&file, lines.join("\n") + "\n");
    let count = lines.len() as u64;
    ensure!(count >= 4, "{whole}");
    ensure!(sink::compare_to_the_end(log, &file).await? == count);
    // Two processes that write one file may both have sent a line.
    held(&[&lines[..2], &lines[1..]].concat())?;
    ensure!(sink::compare_to_the_end(log, &file).await? == count + 1);
    for gone in 0..lines.len() - 1 {
        let mut left = lines.clone();
        left.remove(gone);
        held(&left)?;
        let said = sink::compare(log, &file).await;
        ensure!(
            matches!(said, Err(SinkError::Lacks { .. })),
            "{gone}: {said:?}"
        );
    }
    for at in 1..lines.len() {
        let mut moved = lines.clone();
        moved.swap(at - 1, at);
        held(&moved)?;
        let said = sink::compare(log, &file).await;
        let is_told = matches!(&said, Err(SinkError::Line { line, .. }) if *line == at + 1);
        ensure!(is_told, "{at}: {said:?}");
    }
    // The last ones may be on their way; not for ever.
    for end in [lines.len() - 1, 0] {
        held(&lines[..end])?;
        if end == 0 {
            std::fs::write(&file, "")?;
        }
        let said = sink::compare_to_the_end(log, &file).await;
        ensure!(
            said.as_ref().is_ok_and(|count| *count == end as u64),
            "{said:?}"
        );
    }
    clock.advance(Duration::from_mins(11));
    for end in [lines.len() - 1, 0] {
        held(&lines[..end])?;
        if end == 0 {
            std::fs::write(&file, "")?;
        }
        let said = sink::compare_to_the_end(log, &file).await;
        ensure!(
            matches!(said, Err(SinkError::Lacks { .. })),
            "{end}: {said:?}"
        );
        ensure!(sink::compare(log, &file).await? == end as u64);
    }
    // Whoever follows the log sends them again.
    sinks.follow(log).await?;
    ensure!(sink::compare_to_the_end(log, &file).await? == count);
    Ok(())
}

#[tokio::test]
async fn a_log_that_was_set_back_does_not_agree_with_the_checkpoints_outside() -> Result<()> {
    let site = Site::new().await?;
    let replica = told(&site).await?;
    let log = replica.keystore.log();
    let file = site.folder.path().join("checkpoints.log");
    site.database.admin(
        "ALTER TABLE pgveil.audit DISABLE TRIGGER append_only; \
         CREATE TABLE public.audit AS TABLE pgveil.audit; CREATE TABLE public.head AS TABLE pgveil.audit_head; \
         CREATE TABLE public.points AS TABLE pgveil.audit_checkpoints",
    )?;
    log.record(Event::new(Operation::ConfigLoad)).await?;
    log.checkpoint().await?;
    let mut sinks = Sinks::new(Some(file.clone()), None);
    sinks.follow(log).await?;
    sinks.follow(log).await?;
    ensure!(
        std::fs::read_to_string(&file)?.lines().count() == 2,
        "each checkpoint once"
    );
    ensure!(sink::compare(log, &file).await? == 2);
    // A whole older state, which is sound by itself.
    site.database.admin(
        "DELETE FROM pgveil.audit; INSERT INTO pgveil.audit TABLE public.audit; \
         DELETE FROM pgveil.audit_head; INSERT INTO pgveil.audit_head TABLE public.head; \
         DELETE FROM pgveil.audit_checkpoints; INSERT INTO pgveil.audit_checkpoints TABLE public.points",
    )?;
    let other = site.replica().await?;
    other.keystore.log().verify().await??;
    let cut = sink::compare(other.keystore.log(), &file).await;
    ensure!(
        cut.as_ref()
            .is_err_and(|error| error.to_string().contains("must end with record 5")),
        "{cut:?}"
    );
    // And other records in place of the last ones.
    other
        .keystore
        .log()
        .record(Event::new(Operation::ConfigRefuse))
        .await?;
    other.keystore.log().checkpoint().await?;
    let other_log = sink::compare(other.keystore.log(), &file).await;
    ensure!(
        other_log
            .as_ref()
            .is_err_and(|error| error.to_string().contains("another log")),
        "{other_log:?}"
    );
    Ok(())
}

#[tokio::test]
async fn an_export_is_judged_without_the_database() -> Result<()> {
    let site = Site::new().await?;
    let replica = told(&site).await?;
    let log = replica.keystore.log();
    let mut exported = Vec::new();
    log.export(&mut exported).await?;
    let secrets = log.secrets().await?;
    let key = *secrets.public_key();
    let sound = export::verify(&mut &exported[..], key, None)?;
    ensure!((sound.records, sound.signed_to) == (5, 5), "{sound:?}");
    ensure!(export::verify(&mut &exported[..], key, Some(&secrets))?.macs);
    let text = String::from_utf8(exported)?;
    ensure!(
        text.contains("\"operation\":\"dek.create\"") && text.contains("audit.export"),
        "{text}"
    );
    let forged = text.replace("tenant:a", "tenant:x");
    ensure!(export::verify(&mut forged.as_bytes(), key, None).is_err());
    Ok(())
}

#[tokio::test]
async fn old_records_are_dropped_up_to_a_checkpoint_and_the_rest_stays_sound() -> Result<()> {
    let site = Site::new().await?;
    let replica = told(&site).await?;
    let log = replica.keystore.log();
    let kept = log.prune(Duration::from_hours(1)).await?;
    ensure!(kept.is_none(), "{kept:?}");
    let pruned = log
        .prune(Duration::ZERO)
        .await?
        .context("nothing was dropped")?;
    ensure!((pruned.upto, pruned.records) == (3, 3), "{pruned:?}");
    let sound = log.verify().await??;
    ensure!(
        (sound.first, sound.last, sound.records) == (4, 5, 2),
        "{sound:?}"
    );
    let mut exported = Vec::new();
    log.export(&mut exported).await?;
    let key = *log.secrets().await?.public_key();
    export::verify(&mut &exported[..], key, None)?;
    // Another process goes on behind it.
    let other = site.replica().await?;
    other.keys.sealing_key(&scope("tenant:c")).await?;
    log.checkpoint().await?;
    log.verify().await??;
    // Whoever drops more himself is found, with a checkpoint in the right place or without.
    site.database.admin(
        "ALTER TABLE pgveil.audit DISABLE TRIGGER append_only; DELETE FROM pgveil.audit WHERE seq <= 6",
    )?;
    let judged = log.verify().await?;
    ensure!(
        matches!(judged, Err(Fault::HeadCut { upto: 6 })),
        "{judged:?}"
    );
    Ok(())
}

#[tokio::test]
async fn nothing_is_dropped_from_a_log_that_is_not_sound() -> Result<()> {
    let site = Site::new().await?;
    let replica = told(&site).await?;
    site.database.admin(
        "ALTER TABLE pgveil.audit DISABLE TRIGGER append_only; UPDATE pgveil.audit SET actor = 'nobody' WHERE seq = 1",
    )?;
    let refused = replica.keystore.log().prune(Duration::ZERO).await;
    ensure!(refused.is_err(), "{refused:?}");
    ensure!(site.database.admin("SELECT count(*) FROM pgveil.audit")? == "4");
    Ok(())
}

#[tokio::test]
async fn a_checkpoint_is_signed_every_thousand_records() -> Result<()> {
    let site = Site::new().await?;
    let replica = site.replica().await?;
    let log = replica.keystore.log();
    for n in 0..1200 {
        log.note(Event::new(Operation::JobChange).detail(json!({ "n": n })))
            .await?;
    }
    log.flush().await;
    let points = site
        .database
        .admin("SELECT count(*), min(seq) >= 1000 FROM pgveil.audit_checkpoints")?;
    ensure!(points == "1|t", "{points}");
    let sound = log.verify().await??;
    ensure!(sound.records == 1200, "{sound:?}");
    Ok(())
}

#[tokio::test]
async fn records_are_filtered() -> Result<()> {
    let site = Site::new().await?;
    let replica = told(&site).await?;
    let log = replica.keystore.log();
    let count = async |filter: Filter| {
        anyhow::Ok(
            log.list(&Filter {
                limit: 100,
                ..filter
            })
            .await?
            .len(),
        )
    };
    let text = |text: &str| Some(text.to_owned());
    ensure!(count(Filter::default()).await? == 4);
    ensure!(
        count(Filter {
            operation: text("dek.create"),
            ..Filter::default()
        })
        .await?
            == 2
    );
    ensure!(
        count(Filter {
            scope: text("tenant:b"),
            ..Filter::default()
        })
        .await?
            == 1
    );
    ensure!(
        count(Filter {
            outcome: text("failed"),
            ..Filter::default()
        })
        .await?
            == 0
    );
    ensure!(
        count(Filter {
            actor: text("nobody"),
            ..Filter::default()
        })
        .await?
            == 0
    );
    ensure!(
        count(Filter {
            since_us: Some(u64::MAX),
            ..Filter::default()
        })
        .await?
            == 0
    );
    ensure!(
        count(Filter {
            until_us: Some(u64::MAX),
            ..Filter::default()
        })
        .await?
            == 4
    );
    let newest = log
        .list(&Filter {
            limit: 1,
            ..Filter::default()
        })
        .await?;
    ensure!(newest[0].operation == "config.refuse", "{newest:?}");
    Ok(())
}

#[tokio::test]
async fn checkpoints_reach_the_systems_log_once_and_signed() -> Result<()> {
    let site = Site::new().await?;
    let replica = told(&site).await?;
    let log = replica.keystore.log();
    let key = *log.secrets().await?.public_key();
    let path = site.folder.path().join("log");
    let mut sinks = Sinks::new(None, Some(path.clone()));
    // Nobody listens: an error, and nothing is lost by it.
    let away = sinks.follow(log).await;
    ensure!(
        away.as_ref()
            .is_err_and(|error| error.to_string().contains("cannot be sent to")),
        "{away:?}"
    );
    let socket = std::os::unix::net::UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let received = || -> Result<Checkpoint> {
        let mut message = [0; 2048];
        let length = socket.recv(&mut message).context("no datagram")?;
        let message = std::str::from_utf8(&message[..length])?;
        // authpriv.info, and a tag, as RFC 3164 has them.
        let line = message
            .strip_prefix("<86>pgveil[")
            .context(message.to_owned())?;
        let (_, line) = line.split_once("]: ").context(message.to_owned())?;
        Checkpoint::open(line, &key).context("a signed checkpoint")
    };
    sinks.follow(log).await?;
    ensure!(received()?.tip.seq == 3);
    log.record(Event::new(Operation::ConfigLoad)).await?;
    log.checkpoint().await?;
    sinks.follow(log).await?;
    sinks.follow(log).await?;
    ensure!(received()?.tip.seq == 5);
    socket.set_nonblocking(true)?;
    ensure!(socket.recv(&mut [0; 16]).is_err(), "each checkpoint once");
    Ok(())
}

#[tokio::test]
async fn a_log_with_another_key_than_the_pinned_one_is_nobodys() -> Result<()> {
    let site = Site::new().await?;
    let replica = told(&site).await?;
    let key = hex::encode(replica.keystore.log().secrets().await?.public_key());
    let pinned = async |key: &str| {
        let text = site.text() + &format!("[audit]\npublic_key = \"{key}\"\n");
        let replica = site.replica_of(&text).await?;
        let known = replica.keystore.log().secrets().await.map(drop);
        let sealed = replica.keys.sealing_key(&scope("tenant:a")).await.map(drop);
        Ok::<_, anyhow::Error>((known, sealed))
    };
    let (known, sealed) = pinned(&key).await?;
    ensure!(known.is_ok() && sealed.is_ok(), "{known:?} {sealed:?}");
    // As somebody would who may use the platform's KEK, and writes the keystore: a log of his own, MACs and all.
    site.database.admin(
        "ALTER TABLE pgveil.audit DISABLE TRIGGER append_only; DELETE FROM pgveil.audit; DELETE FROM pgveil.audit_head; \
         DELETE FROM pgveil.audit_checkpoints; DELETE FROM pgveil.audit_keys; DELETE FROM pgveil.keys; DELETE FROM pgveil.key_changes",
    )?;
    let says = |known: &Result<(), KeystoreError>, words: &str| {
        known
            .as_ref()
            .is_err_and(|error| error.to_string().contains(words))
    };
    let (known, sealed) = pinned(&key).await?;
    ensure!(
        says(&known, "it has no key") && sealed.is_err(),
        "{known:?} {sealed:?}"
    );
    let planted = site.replica().await?;
    planted.keys.sealing_key(&scope("tenant:a")).await?;
    let (known, sealed) = pinned(&key).await?;
    ensure!(
        says(&known, "a log of his own") && sealed.is_err(),
        "{known:?} {sealed:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_log_whose_key_is_gone_gets_no_other() -> Result<()> {
    let site = Site::new().await?;
    told(&site).await?;
    site.database.admin(
        "CREATE TABLE public.kept AS TABLE pgveil.audit_keys; DELETE FROM pgveil.audit_keys",
    )?;
    let replica = site.replica().await?;
    let known = replica.keystore.log().secrets().await.map(drop);
    ensure!(
        matches!(&known, Err(KeystoreError::Damaged { table: "pgveil.audit_keys", reason }) if reason.contains("is gone")),
        "{known:?}"
    );
    let count = "SELECT count(*) FROM pgveil.audit_keys";
    ensure!(site.database.admin(count)? == "0", "another was made");
    site.database
        .admin("INSERT INTO pgveil.audit_keys SELECT * FROM public.kept")?;
    let replica = site.replica().await?;
    ensure!(replica.keystore.log().verify().await?.is_ok());
    Ok(())
}
