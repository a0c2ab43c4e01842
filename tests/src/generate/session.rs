//! What a session can wrap around a statement: SQL's own prepared statements, cursors, COPY, tables, views and
//! functions.

use super::{
    choices::Choices,
    statement::{Piece, literal, render},
};

/// Statements that amount to the one given.
pub(super) fn wrap(
    choices: &mut Choices,
    pieces: &[Piece],
    is_query: bool,
    features: &mut Vec<&'static str>,
) -> Vec<String> {
    let (sql, _) = render(pieces, false);
    let ways = if is_query { 6 } else { 1 };
    let (feature, statements) = match choices.below(ways) {
        0 => ("prepare", prepared(pieces)),
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
fn prepared(pieces: &[Piece]) -> Vec<String> {
    let (sql, _) = render(pieces, true);
    let arguments: Vec<String> = pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Constant {
                value, spelling, ..
            } => Some(literal(*value, *spelling)),
            Piece::Text(_) => None,
        })
        .collect();
    let execute = if arguments.is_empty() {
        "EXECUTE w".to_owned()
    } else {
        format!("EXECUTE w({})", arguments.join(", "))
    };
    vec![
        format!("PREPARE w AS {sql}"),
        execute,
        "DEALLOCATE w".to_owned(),
    ]
}
