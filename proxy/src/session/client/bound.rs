//! What a Bind carries: the client's values, and the server's in their place.

use pgveil_policy::{Refusal, plan::ServerParam};

use crate::{
    engine::Prepared,
    messages::{Bind, BindBuilder, TooLong},
    session::{
        ledger::ProtectedStatement,
        values::{Made, Parameters},
    },
};

/// `bytea` in arrays.
const BYTEA: u32 = 17;
const BINARY: i16 = 1;

/// The values of a Bind.
pub(super) fn parameters<'a>(bind: &Bind<'a>, declared: &'a [u32]) -> Parameters<'a> {
    Parameters {
        values: bind.params().collect(),
        formats: bind.formats.codes().collect(),
        declared,
    }
}

pub(super) fn check_count(bind: &Bind<'_>, protected: &ProtectedStatement) -> Result<(), Refusal> {
    let plan = &protected.prepared.plan;
    let wanted = plan.client_params.len().max(protected.declared.len());
    let given = bind.params().len();
    if !protected.prepared.keeps_parameters() && given != wanted {
        let name = String::from_utf8_lossy(bind.statement).into_owned();
        return Err(parameter_count(given, &name, wanted));
    }
    Ok(())
}

pub(super) fn write_bind(
    queue: &mut bytes::BytesMut,
    bind: &Bind<'_>,
    prepared: &Prepared,
    made: &[Made],
) -> Result<(), TooLong> {
    let params = parameters(bind, &[]);
    let names = (bind.portal, bind.statement);
    put_bind(queue, names, prepared, made, &params).end(bind.result_formats.codes())
}

/// A Bind with a plan's parameters, up to the formats of its results.
pub(super) fn put_bind<'a>(
    queue: &'a mut bytes::BytesMut,
    (portal, statement): (&[u8], &[u8]),
    prepared: &Prepared,
    made: &[Made],
    params: &Parameters<'_>,
) -> BindBuilder<'a> {
    let server = &prepared.plan.server_params;
    let values = &params.values;
    // A statement without slots has no server parameters of its own: the client's go as they are.
    let identity: Vec<ServerParam> = (0..values.len()).map(ServerParam::Client).collect();
    let server = if server.is_empty() && !prepared.plan.answers_itself {
        &identity
    } else {
        server
    };
    let formats: Vec<i16> = server
        .iter()
        .map(|param| match param {
            ServerParam::Client(index) => params.format(*index),
            ServerParam::Slot(_) => BINARY,
        })
        .collect();
    let mut builder = BindBuilder::begin(queue, portal, statement, formats.into_iter());
    for param in server {
        match param {
            ServerParam::Client(index) => builder.param(values.get(*index).copied().flatten()),
            ServerParam::Slot(slot) => match made.get(*slot) {
                Some(Made::Bytes(bytes)) => builder.param(Some(bytes)),
                Some(Made::Array(elements)) => builder.param(Some(&array_binary(elements))),
                Some(Made::Null) | None => builder.param(None),
            },
        }
    }
    builder
}

/// `array_send` of a one-dimensional `bytea[]`.
fn array_binary(elements: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(20 + elements.len() * 20);
    let nulls = i32::from(elements.iter().any(Option::is_none));
    let dimensions = i32::from(!elements.is_empty());
    for word in [dimensions, nulls, BYTEA as i32] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    if dimensions == 1 {
        out.extend_from_slice(&(elements.len() as i32).to_be_bytes());
        out.extend_from_slice(&1i32.to_be_bytes());
    }
    for element in elements {
        match element {
            Some(bytes) => {
                out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
                out.extend_from_slice(bytes);
            }
            None => out.extend_from_slice(&(-1i32).to_be_bytes()),
        }
    }
    out
}

fn parameter_count(given: usize, name: &str, wanted: usize) -> Refusal {
    Refusal::new(
        "08P01",
        "invalid-input",
        format!(
            "bind message supplies {given} parameters, but prepared statement \"{name}\" requires {wanted}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_written_as_the_server_reads_them() {
        let bytes = array_binary(&[Some(vec![1, 2]), None]);
        assert_eq!(
            bytes,
            [
                0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 17, // one dimension, nulls, bytea
                0, 0, 0, 2, 0, 0, 0, 1, // two elements from 1
                0, 0, 0, 2, 1, 2, 255, 255, 255, 255,
            ]
        );
        assert_eq!(array_binary(&[]).len(), 12);
    }
}
