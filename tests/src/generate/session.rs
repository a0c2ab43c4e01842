//! What a session can wrap around a statement: SQL's own prepared statements, cursors, COPY, tables, views and
//! functions.

use super::{
    choices::Choices,
    statement::{Given, Piece, Spelling, literal, render},
    world::Type,
};

/// Statements that amount to the one given.
pub(super) fn wrap(
    choices: &mut Choices,
    pieces: &[Piece],
    given: &[Given],
    is_query: bool,
    features: &mut Vec<&'static str>,
) -> Vec<String> {
    let sql = render(pieces, given, false);
    let ways = if is_query { 6 } else { 1 };
    let (feature, statements) = match choices.below(ways) {
        0 => ("prepare", prepared(pieces, given)),
        1 => (
            "cursor",
            vec![
                format!("DECLARE w SCROLL CURSOR FOR {sql}"),
                "FETCH ALL FROM w".to_owned(),
                "MOVE BACKWARD ALL IN w".to_owned(),
                "FETCH FORWARD ALL FROM w".to_owned(),
            ],
        ),
        2 => ("copy to", vec![format!("COPY ({sql}) TO STDOUT")]),
        3 => (
            "temporary table",
            vec![
                format!("CREATE TEMP TABLE w AS SELECT * FROM ({sql}) AS w (c)"),
                "SELECT * FROM w".to_owned(),
            ],
        ),
        4 => (
            "function",
            vec![
                format!(
                    "CREATE FUNCTION called() RETURNS bigint LANGUAGE sql AS $w$ SELECT count(*) FROM ({sql}) AS w (c) $w$"
                ),
                "SELECT called()".to_owned(),
            ],
        ),
        _ => (
            "view",
            vec![
                format!("CREATE VIEW w AS SELECT * FROM ({sql}) AS w (c)"),
                "SELECT * FROM w".to_owned(),
            ],
        ),
    };
    features.push(feature);
    statements
}

/// PREPARE with the constants as parameters, and EXECUTE with them as arguments.
fn prepared(pieces: &[Piece], given: &[Given]) -> Vec<String> {
    let sql = render(pieces, given, true);
    let argument = |(number, given): (usize, &Given)| {
        let spelling = pieces.iter().find_map(|piece| match piece {
            Piece::Constant {
                number: other,
                spelling,
                ..
            } if *other == number => Some(*spelling),
            _ => None,
        });
        literal(given.value, spelling.unwrap_or(Spelling::Plain))
    };
    let arguments: Vec<String> = given.iter().enumerate().map(argument).collect();
    let execute = if arguments.is_empty() {
        "EXECUTE w".to_owned()
    } else {
        format!("EXECUTE w({})", arguments.join(", "))
    };
    let types: Vec<_> = given
        .iter()
        .map(|given| given.declared.map_or("unknown", Type::bare))
        .collect();
    let types = if given.iter().any(|given| given.declared.is_some()) {
        format!(" ({})", types.join(", "))
    } else {
        String::new()
    };
    vec![
        format!("PREPARE w{types} AS {sql}"),
        execute,
        "DEALLOCATE w".to_owned(),
    ]
}
