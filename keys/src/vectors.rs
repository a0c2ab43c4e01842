//! Known-answer vectors (`tests/vectors/*.json`), also checked by `tests/vectors/verify.py`. Never edited, only added.

use std::sync::Arc;

use pgveil_config::ScopePath;
use pgveil_policy::{plan::ColumnId, ruleset::TermContext};
use pgveil_providers::WrapContext;
use serde_json::Value;

use crate::{
    DataKey, DekId, IndexKey, binding,
    sealed::{self, Envelope, Terms},
    term,
    usage::Usage,
};

fn vectors(file: &str) -> Vec<Value> {
    let document: Value = serde_json::from_str(file).unwrap();
    let vectors = document["vectors"].as_array().unwrap().clone();
    assert!(!vectors.is_empty());
    vectors
}

fn bytes(vector: &Value, field: &str) -> Vec<u8> {
    hex::decode(vector[field].as_str().unwrap()).unwrap()
}

fn array<const N: usize>(vector: &Value, field: &str) -> [u8; N] {
    bytes(vector, field).try_into().unwrap()
}

fn number(vector: &Value, field: &str) -> u64 {
    vector[field].as_u64().unwrap()
}

/// `equality_term`, `numbered_terms`, or both.
fn terms(vector: &Value) -> Terms {
    let plain = { vector.get("equality_term") }.map(|_| (0, array(vector, "equality_term")));
    let numbered = vector.get("numbered_terms").and_then(Value::as_array);
    let numbered = numbered.into_iter().flatten();
    let numbered = numbered.map(|one| (number(one, "number") as u32, array(one, "term")));
    match plain.into_iter().chain(numbered).collect::<Vec<_>>()[..] {
        [] => Terms::NONE,
        [(number, term)] => Terms::one(number, term),
        [one, other] => Terms::two(one, other),
        _ => panic!("more than two terms"),
    }
}

#[test]
fn envelopes() {
    for vector in vectors(include_str!("../../tests/vectors/envelopes.json")) {
        let name = vector["name"].as_str().unwrap();
        let column = ColumnId(number(&vector, "column_id") as u32);
        let dek = DekId(number(&vector, "dek_id"));
        let key = DataKey::new(
            dek,
            ScopePath::platform(),
            &array(&vector, "dek"),
            Arc::new(Usage::leased(1)),
            crate::key::Term::endless(),
        );
        let terms = terms(&vector);
        let (plaintext, expected) = (bytes(&vector, "plaintext"), bytes(&vector, "envelope"));

        let mut sealed = Vec::new();
        sealed::seal(
            &key,
            column,
            &terms,
            &array(&vector, "nonce"),
            &plaintext,
            &mut sealed,
        )
        .unwrap();
        assert_eq!(
            hex::encode(&sealed),
            hex::encode(&expected),
            "sealing: {name}"
        );

        let envelope = Envelope::parse(&expected).unwrap();
        assert_eq!((envelope.column, envelope.dek), (column, dek), "{name}");
        assert_eq!(envelope.terms, terms, "{name}");
        let mut opened = Vec::new();
        envelope.open(&key, &mut opened).unwrap();
        assert_eq!(opened, plaintext, "opening: {name}");
    }
}

#[test]
fn equality_terms() {
    for vector in vectors(include_str!("../../tests/vectors/equality_terms.json")) {
        let context = match vector["context"].get("group") {
            Some(name) => TermContext::Group(name.as_str().unwrap().to_owned()),
            None => TermContext::Column(ColumnId(number(&vector["context"], "column") as u32)),
        };
        let key = IndexKey::new(&array(&vector, "index_key"));
        let made = term::equality(&key, &context, &bytes(&vector, "canonical"));
        assert_eq!(made, array(&vector, "term"), "{}", vector["name"]);
    }
}

#[test]
fn wrapped_payloads() {
    for vector in vectors(include_str!("../../tests/vectors/wrapped_payloads.json")) {
        let purpose = if vector["purpose"] == "data" {
            "data"
        } else {
            "index"
        };
        let scope = vector["scope"].as_str().unwrap().to_owned();
        let context = WrapContext {
            scope,
            key_id: number(&vector, "key_id"),
            purpose,
        };
        assert_eq!(
            context.aad(),
            bytes(&vector, "context"),
            "{}",
            vector["name"]
        );
        let payload = binding::payload(&array(&vector, "key"), &context);
        assert_eq!(payload[..], bytes(&vector, "payload"), "{}", vector["name"]);
        assert_eq!(
            *binding::key(&*payload, &context).unwrap(),
            array(&vector, "key")
        );
    }
}
