//! DROP, ALTER, GRANT, REVOKE and COMMENT of functions by the types that an application gave their arguments: where pgveil gave
//! one the domain instead, the domain is written.

use std::ops::Range;

use sqlparser::tokenizer::Token as Kind;

use super::{head, types};
use crate::{
    analysis::{
        ddl,
        edits::Edits,
        statement::{Changes, Door, Verdict},
        term::is_text,
    },
    catalog::Function,
    plan::{Output, Replacement},
    text::quote_identifier,
    types::{LogicalType, type_of_domain},
};

/// Judges a statement that names functions, and no values. `None`: it is none.
pub(in crate::analysis) fn judge(door: &Door<'_>, statement: &Range<usize>) -> Option<Verdict> {
    let tokens = door.tokens;
    let first = statement.start;
    let words = ["drop", "alter", "grant", "revoke", "comment"];
    words
        .iter()
        .any(|word| tokens.is_word(first, word))
        .then_some(())?;
    let is_routine = |at: usize| {
        let words = ["function", "procedure", "routine", "aggregate"];
        words.iter().any(|word| tokens.is_word(at, word))
    };
    let at = statement.clone().find(|at| is_routine(*at))?;
    // `DROP TABLE function`, `GRANT ... ON t TO function`: another rule's business.
    let leads = at == first + 1 || tokens.is_word(at - 1, "on");
    leads.then_some(())?;
    let mut edits = Edits::default();
    let mut at = at + 1 + 2 * usize::from(tokens.are_words(at + 1, &["if", "exists"]));
    loop {
        let (name, behind) = ddl::name(tokens, at)?;
        at = behind;
        if matches!(tokens.kind(behind), Kind::LParen) {
            let close = tokens.pair(behind)?;
            let given = head::parameters(tokens, behind + 1..close, 'i')?;
            let given: Vec<_> = { given.iter() }
                .filter(|given| !matches!(given.mode, 'o' | 't'))
                .map(|given| given.types.clone())
                .collect();
            retype(door, &name, &given, &mut edits);
            at = close + 1;
        }
        if !matches!(tokens.kind(at), Kind::Comma) {
            break;
        }
        at += 1;
    }
    Some(Verdict::Changed(Box::new(Changes {
        edits: edits.finish()?,
        slots: Vec::new(),
        parameters: door.no_parameters(),
        output: Output::None,
        notes: vec![
            "The function is named by the types of its arguments in the database.".to_owned(),
        ],
        scope_queries: Vec::new(),
        tag: None,
    })))
}

/// Writes the domains of the function that is meant, if it has some and no function has the types as they are given.
fn retype(door: &Door<'_>, name: &[String], given: &[Range<usize>], edits: &mut Edits) {
    let logical = |types: &Range<usize>| {
        types::logical(door.rules, door.view, door.tokens, types)
            .map(LogicalType::without_modifiers)
    };
    let Some((last, schema)) = name.split_last() else {
        return;
    };
    let meant = |function: &&Function| {
        let place = match schema.last() {
            Some(schema) => function.schema == *schema,
            None => door.view.schemas.contains(&function.schema),
        };
        place && function.name == *last && function.arguments().count() == given.len()
    };
    let fits = |function: &&Function| {
        function.arguments().zip(given).all(|(argument, types)| {
            let given = logical(types);
            match argument.column.sealed_domain() {
                None => given.is_none_or(|given| given.oid() == argument.column.type_oid),
                Some(domain) => {
                    let sealed = LogicalType::parse(type_of_domain(domain)).ok();
                    let sealed = sealed.map(LogicalType::without_modifiers);
                    given == sealed || given.is_some_and(is_text) && sealed.is_some_and(is_text)
                }
            }
        })
    };
    let functions = door.rules.catalog.functions.iter();
    let mut found = functions.filter(meant).filter(fits);
    let (Some(function), None) = (found.next(), found.next()) else {
        return;
    };
    for (argument, types) in function.arguments().zip(given) {
        if let Some(domain) = argument.column.sealed_domain() {
            let domain = format!("pgveil.{}", quote_identifier(domain));
            edits.replace(door.tokens.bytes(types), Replacement::Text(domain));
        }
    }
}
