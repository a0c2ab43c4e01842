//! Bodies of functions, analysed as definitions are, statement by statement: what runs in the server as it stands must be
//! what pgveil would send.

use super::{
    Returned, Yield,
    argument::Known,
    run::{Body, Ran, Wanted},
};
use crate::{
    Refusal,
    analysis::{SessionView, kind::Kind, namespace::Column, query::Rows, refusals},
    catalog::Function,
    ruleset::Ruleset,
};

/// Functions and views upon each other, beyond which none is looked into.
const MAX_NESTED: usize = 32;

/// What a function of the catalog returns, and what its body shows of that.
pub(super) fn read(
    rules: &Ruleset,
    view: &SessionView,
    function: &Function,
    nested: usize,
) -> Result<(Returned, Yield), Refusal> {
    if nested > MAX_NESTED {
        return Err(refusals::not_understood("Functions are nested too deeply"));
    }
    let returned = Returned::of(rules, view, function).ok_or_else(|| {
        refusals::not_understood("It returns records, of which only the call says the columns")
    })?;
    if !["sql", "plpgsql"].contains(&function.language.as_str()) {
        return Err(refusals::not_understood(&format!(
            "It is written in {}",
            function.language
        )));
    }
    let view = within(view, function)?;
    let sql = statements_of(function);
    let body = Body {
        rules,
        view: &view,
        function,
        returned: &returned,
        text: &sql,
        stored: true,
        nested,
    };
    let mut known = vec![None; function.arguments().count()];
    let Ran { rows, tables, .. } = loop {
        let mut wanted = None;
        match body.run(&known, &mut wanted) {
            Ok(ran) => break ran,
            Err(refusal) => learn(&mut known, wanted, function).map_err(|()| refusal)?,
        }
    };
    if rows.columns.is_empty() && !returned.columns().is_empty() {
        // What it never returns is NULL, or no row.
        let nothing = Yield {
            rows: nothing(&returned),
            tables: Vec::new(),
            known,
        };
        return Ok((returned, nothing));
    }
    Ok((
        returned,
        Yield {
            rows,
            tables,
            known,
        },
    ))
}

/// The columns of rows that are all NULL.
fn nothing(returned: &Returned) -> Rows {
    let columns = returned.columns().iter().map(|column| Column {
        name: Some(column.name.clone()),
        kind: Kind::Plain(None),
    });
    Rows {
        columns: columns.collect(),
        ..Rows::default()
    }
}

/// Adds what the analysis of a body has found of an argument. An error if that is nothing new.
fn learn(known: &mut Known, wanted: Option<Wanted>, function: &Function) -> Result<(), ()> {
    let Some(Wanted::Argument((index, column))) = wanted else {
        return Err(());
    };
    let parameter = function.arguments().nth(index);
    let sealed = parameter.and_then(|parameter| parameter.column.sealed_domain());
    match known.get_mut(index) {
        Some(place @ None) if sealed == Some(column.logical.domain()) => {
            *place = Some(column);
            Ok(())
        }
        _ => Err(()),
    }
}

/// The session as it is while the function runs.
pub(super) fn within(view: &SessionView, function: &Function) -> Result<SessionView, Refusal> {
    let mut within = view.clone();
    if function.parsed {
        // As the catalog is read: every name is qualified but those of pg_catalog.
        within.schemas = vec!["pg_catalog".to_owned()];
        return Ok(within);
    }
    for setting in &function.settings {
        let path = setting.split_once('=');
        let Some((_, path)) = path.filter(|(name, _)| name.eq_ignore_ascii_case("search_path"))
        else {
            return Err(refusals::not_understood(
                "It changes settings while it runs",
            ));
        };
        within.schemas = search_path(path, view)
            .ok_or_else(|| refusals::not_understood("Its search_path cannot be followed"))?;
    }
    Ok(within)
}

/// The schemas of a search path in effect, as `current_schemas(true)` gives them. `None`: it depends on the role.
fn search_path(path: &str, view: &SessionView) -> Option<Vec<String>> {
    let mut own = view.relations.iter().map(|own| own.schema.as_str());
    let temporary = own.find(|schema| schema.starts_with("pg_temp_"));
    let mut schemas: Vec<String> = Vec::new();
    for part in path.split(',') {
        let part = part.trim();
        let name = match part
            .strip_prefix('"')
            .and_then(|part| part.strip_suffix('"'))
        {
            Some(quoted) if quoted.contains('"') => return None,
            Some(quoted) => quoted.to_owned(),
            None => part.to_ascii_lowercase(),
        };
        match (name.as_str(), temporary) {
            ("$user", _) => return None,
            ("pg_temp", Some(temporary)) => schemas.push(temporary.to_owned()),
            ("pg_temp" | "", _) => {}
            _ => schemas.push(name),
        }
    }
    if !schemas.iter().any(|schema| schema == "pg_catalog") {
        schemas.insert(0, "pg_catalog".to_owned());
    }
    // Without a place of its own it comes first.
    if let Some(temporary) = temporary.filter(|_| !path.contains("pg_temp")) {
        schemas.insert(0, temporary.to_owned());
    }
    Some(schemas)
}

/// The statements of a body in SQL.
fn statements_of(function: &Function) -> String {
    let body = function.body.trim();
    if !function.parsed {
        return body.to_owned();
    }
    // As pg_get_function_sqlbody prints them.
    let body = &*with_numbers(function, body);
    if let Some(value) = body.strip_prefix("RETURN ") {
        return format!("SELECT {value}");
    }
    let block = body.strip_prefix("BEGIN ATOMIC");
    let block = block.and_then(|block| block.strip_suffix("END"));
    block.unwrap_or(body).to_owned()
}

/// An argument without name is printed as `f.""`. If there is one, it is the only one that can be meant.
fn with_numbers(function: &Function, body: &str) -> String {
    let mut unnamed = { function.arguments().enumerate() }
        .filter(|(_, argument)| argument.column.name.is_empty());
    let (Some((index, _)), None) = (unnamed.next(), unnamed.next()) else {
        return body.to_owned();
    };
    let name = &function.name;
    let number = format!("${}", index + 1);
    let quoted = format!("\"{}\".\"\"", name.replace('"', "\"\""));
    let body = body.replace(&quoted, &number);
    let bare = format!("{name}.\"\"");
    let mut text = String::new();
    let mut rest = body.as_str();
    while let Some(at) = rest.find(&bare) {
        let (before, behind) = (&rest[..at], &rest[at + bare.len()..]);
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '"');
        let whole = !before.ends_with(is_part) && !behind.starts_with(is_part);
        text.push_str(before);
        text.push_str(if whole { &number } else { &bare });
        rest = behind;
    }
    text + rest
}
