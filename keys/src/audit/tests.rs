//! A small log in memory, and every way to change it.

use serde_json::json;

use super::{
    chain::{Sealed, Tip, genesis},
    export,
    record::{Place, Record},
    secrets::Secrets,
    stored::{Columns, StoredHead},
    *,
};

/// Records, checkpoints and the end, as the tables hold them.
#[derive(Clone, Debug)]
struct Small {
    rows: Vec<StoredRecord>,
    checkpoints: Vec<(u64, String)>,
    head: StoredHead,
}

fn secrets() -> Secrets {
    Secrets::derive(3, &[7; 32])
}

fn event(n: u64) -> Event {
    Event::new(Operation::DekCreate)
        .actor(Actor::session("ada", "192.0.2.1"))
        .scope_text("tenant:acme")
        .key(n)
        .detail(json!({ "epoch": n }))
}

fn small(count: u64) -> Small {
    let secrets = secrets();
    let mut tip = Tip {
        seq: 0,
        link: genesis(3, secrets.public_key()),
    };
    let (mut rows, mut checkpoints) = (Vec::new(), Vec::new());
    for n in 1..=count {
        let place = Place {
            seq: n,
            previous: tip.link,
            audit_key: 3,
            id: [n as u8; 16],
            at_us: 1_700_000_000_000_000 + n,
            latency_us: 5,
            instance: "pgveil@host:1",
        };
        let record = Record::new(&event(n), place);
        let Sealed { bytes, mac } = tip.append(&record, &secrets);
        rows.push(StoredRecord {
            seq: n,
            record: bytes,
            mac: mac.to_vec(),
            columns: Columns::of(&record),
        });
        if n % 3 == 0 {
            checkpoints.push((
                n,
                Checkpoint::sign(&secrets, tip, n - 3, 1_700_000_000_000_000),
            ));
        }
    }
    let head = StoredHead {
        tip,
        mac: secrets.mac_tip(&tip).to_vec(),
    };
    Small {
        rows,
        checkpoints,
        head,
    }
}

/// As [`Log::verify`] reads the tables.
fn judge(log: &Small, macs: bool) -> Result<Sound, Fault> {
    let secrets = secrets();
    let known = macs.then_some(&secrets);
    let mut verifier = Verifier::new(*secrets.public_key(), known, None)?;
    let mut checkpoints = log.checkpoints.iter().peekable();
    for row in &log.rows {
        verifier.row(row)?;
        while let Some((seq, line)) = checkpoints.next_if(|(seq, _)| *seq <= row.seq) {
            verifier.checkpoint(*seq, line)?;
        }
    }
    verifier.head(&log.head)?;
    verifier.finish()
}

/// As [`Log::export`] writes it.
fn exported(log: &Small) -> Vec<u8> {
    let secrets = secrets();
    let key = *secrets.public_key();
    let mut lines = Vec::new();
    let mut writer = export::Writer::new(&mut lines, &key, None);
    let mut verifier = Verifier::new(key, Some(&secrets), None).unwrap();
    for row in &log.rows {
        let record = verifier.row(row).unwrap();
        writer.record(&record, &row.mac);
        for (seq, line) in log.checkpoints.iter().filter(|(seq, _)| *seq == row.seq) {
            verifier.checkpoint(*seq, line).unwrap();
            writer.checkpoint(line);
        }
    }
    writer.end(&secrets, &verifier).unwrap();
    lines
}

#[test]
fn a_log_that_nobody_touched_is_sound() {
    let sound = judge(&small(7), true).unwrap();
    assert_eq!((sound.records, sound.last), (7, 7));
    assert_eq!((sound.checkpoints, sound.signed_to), (2, 6));
    assert_eq!(judge(&small(7), false).unwrap().records, 7);
}

#[test]
fn no_bit_of_a_row_can_be_changed() {
    let log = small(4);
    for n in 0..log.rows.len() {
        for at in 0..log.rows[n].record.len() {
            for bit in 0..8 {
                let mut changed = log.clone();
                changed.rows[n].record[at] ^= 1 << bit;
                assert!(judge(&changed, true).is_err(), "record {n} byte {at}");
            }
        }
        for at in 0..32 {
            for bit in 0..8 {
                let mut changed = log.clone();
                changed.rows[n].mac[at] ^= 1 << bit;
                assert!(judge(&changed, true).is_err(), "mac {n} byte {at}");
            }
        }
    }
}

#[test]
fn without_the_keys_no_bit_before_the_last_checkpoint_can_be_changed() {
    let log = small(3);
    for n in 0..log.rows.len() {
        for at in 0..log.rows[n].record.len() {
            let mut changed = log.clone();
            changed.rows[n].record[at] ^= 1;
            assert!(judge(&changed, false).is_err(), "record {n} byte {at}");
        }
        for at in 0..32 {
            let mut changed = log.clone();
            changed.rows[n].mac[at] ^= 1;
            assert!(judge(&changed, false).is_err(), "mac {n} byte {at}");
        }
    }
}

#[test]
fn columns_for_filters_say_what_the_record_says() {
    let log = small(2);
    let changes: [fn(&mut Columns); 8] = [
        |columns| columns.changed_keys.push(7),
        |columns| columns.changed_rows.push("scopes platform".to_owned()),
        |columns| columns.operation_id[3] ^= 1,
        |columns| columns.at_us += 1,
        |columns| columns.operation = "config.load".to_owned(),
        |columns| columns.outcome = "failed".to_owned(),
        |columns| columns.scope.clear(),
        |columns| columns.actor.push('x'),
    ];
    for change in changes {
        let mut changed = log.clone();
        change(&mut changed.rows[1].columns);
        assert!(matches!(
            judge(&changed, true),
            Err(Fault::Column { seq: 2, .. })
        ));
    }
}

#[test]
fn no_row_can_be_left_out_added_or_moved() {
    let log = small(7);
    for n in 0..7 {
        let mut fewer = log.clone();
        fewer.rows.remove(n);
        assert!(judge(&fewer, true).is_err(), "without {n}");
        // With the numbers made to fit.
        for (at, row) in fewer.rows.iter_mut().enumerate() {
            row.seq = at as u64 + 1;
        }
        assert!(judge(&fewer, true).is_err(), "without {n}, numbered anew");
        for other in 0..7 {
            let mut more = log.clone();
            more.rows.insert(n, log.rows[other].clone());
            assert!(judge(&more, true).is_err(), "{other} again at {n}");
            if n != other {
                let mut moved = log.clone();
                moved.rows.swap(n, other);
                assert!(judge(&moved, true).is_err(), "{n} and {other} swapped");
                let mut replaced = log.clone();
                replaced.rows[n] = log.rows[other].clone();
                assert!(judge(&replaced, true).is_err(), "{other} in place of {n}");
            }
        }
    }
}

#[test]
fn neither_end_can_be_cut() {
    let log = small(7);
    for n in 1..=7 {
        let mut tail = log.clone();
        tail.rows.truncate(7 - n);
        tail.checkpoints.retain(|(seq, _)| *seq <= 7 - n as u64);
        assert!(judge(&tail, true).is_err(), "without the last {n}");
        // As if a checkpoint stood where the log begins; nothing says that the records were dropped.
        let mut head = log.clone();
        head.rows.drain(..n);
        assert!(judge(&head, true).is_err(), "without the first {n}");
    }
    let secrets = secrets();
    let (seq, anchor) = &log.checkpoints[0];
    let mut verifier = Verifier::new(*secrets.public_key(), Some(&secrets), Some(anchor)).unwrap();
    for row in &log.rows[3..] {
        verifier.row(row).unwrap();
    }
    assert_eq!(verifier.finish(), Err(Fault::HeadCut { upto: *seq }));
}

#[test]
fn the_end_and_its_checkpoints_are_believed_only_as_they_were_written() {
    let log = small(7);
    for at in 0..32 {
        let mut changed = log.clone();
        changed.head.tip.link[at] ^= 1;
        assert_eq!(judge(&changed, true), Err(Fault::Head));
        let mut changed = log.clone();
        changed.head.mac[at] ^= 1;
        assert_eq!(judge(&changed, true), Err(Fault::Head));
    }
    let mut changed = log.clone();
    changed.checkpoints.remove(0);
    assert_eq!(
        judge(&changed, true),
        Err(Fault::CheckpointMissing {
            after: 0,
            before: 6
        })
    );
    let mut changed = log.clone();
    changed.checkpoints[0].1 = log.checkpoints[1].1.clone();
    assert!(judge(&changed, true).is_err());
    let mut changed = log.clone();
    let byte = changed.checkpoints[1].1.pop();
    changed.checkpoints[1]
        .1
        .push(if byte == Some('0') { '1' } else { '0' });
    assert_eq!(judge(&changed, true), Err(Fault::Signature { seq: 6 }));
}

#[test]
fn no_byte_of_an_export_can_be_changed_left_out_or_added() {
    let whole = exported(&small(4));
    let key = *secrets().public_key();
    let read = |bytes: &[u8]| export::verify(&mut &bytes[..], key, None);
    let sound = read(&whole).unwrap();
    assert_eq!((sound.records, sound.last), (4, 4));
    assert!(
        export::verify(&mut &whole[..], key, Some(&secrets()))
            .unwrap()
            .macs
    );
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            assert!(read(&changed).is_err(), "byte {at} bit {bit}");
        }
        let mut fewer = whole.clone();
        fewer.remove(at);
        assert!(read(&fewer).is_err(), "without byte {at}");
        assert!(read(&whole[..at]).is_err(), "cut at {at}");
        for byte in [b' ', b'\n', b'0'] {
            let mut more = whole.clone();
            more.insert(at, byte);
            assert!(read(&more).is_err(), "{byte} before byte {at}");
        }
    }
    assert!(read(&[&whole[..], b"\n"].concat()).is_err());
    assert!(read(&[&whole[..], &whole[..]].concat()).is_err());
}

#[test]
fn no_line_of_an_export_can_be_left_out_doubled_or_moved() {
    let whole = exported(&small(4));
    let key = *secrets().public_key();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let read = |lines: &[&[u8]]| export::verify(&mut &lines.concat()[..], key, None);
    assert!(read(&lines).is_ok());
    for n in 0..lines.len() {
        let mut fewer = lines.clone();
        fewer.remove(n);
        assert!(read(&fewer).is_err(), "without line {n}");
        for other in 0..lines.len() {
            let mut more = lines.clone();
            more.insert(n, lines[other]);
            assert!(read(&more).is_err(), "line {other} again at {n}");
            if n != other {
                let mut moved = lines.clone();
                moved.swap(n, other);
                assert!(read(&moved).is_err(), "lines {n} and {other} swapped");
            }
        }
    }
}

#[test]
fn an_export_of_another_log_is_not_taken() {
    let whole = exported(&small(2));
    let other = Secrets::derive(3, &[8; 32]);
    assert!(export::verify(&mut &whole[..], *other.public_key(), None).is_err());
}

#[test]
fn records_are_read_back_and_long_texts_cut() {
    let long = "é".repeat(5000);
    let event = Event::new(Operation::ConfigLoad)
        .actor(Actor {
            name: long.clone(),
            address: long.clone(),
        })
        .scope_text(&long)
        .key(&long)
        .detail(json!({ "long": long }));
    let place = Place {
        seq: 1,
        previous: [1; 32],
        audit_key: 3,
        id: [2; 16],
        at_us: 3,
        latency_us: 4,
        instance: "pgveil@host:1",
    };
    let record = Record::new(&event, place);
    let bytes = record.to_bytes();
    assert!(bytes.len() <= record::MAX_RECORD_BYTES);
    assert_eq!(Record::from_bytes(&bytes).as_ref(), Some(&record));
    assert_eq!(record.detail_json()["left_out_bytes"], 10_011);
    for at in 0..bytes.len() {
        assert_eq!(Record::from_bytes(&bytes[..at]), None, "cut at {at}");
    }
    assert_eq!(Record::from_bytes(&[&bytes[..], &[0]].concat()), None);
}
