//! A table's name as the policy spells it: `public.customers`, `customers`, `"My Schema"."T"`.

/// Schema and table, as the catalog spells them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TableName {
    /// `public` when the name gives none.
    pub(super) schema: String,
    /// The table.
    pub(super) table: String,
}

/// PostgreSQL's NAMEDATALEN - 1: no catalog holds a longer name (bytes).
const MAX_NAME_BYTES: usize = 63;

/// Reads `schema.table` or `table`. Unlike in SQL, letters are taken as they stand, quoted or not. A part that
/// holds a dot, a blank or a double quote must stand in double quotes; inside them `""` is one double quote.
pub(super) fn parse(text: &str) -> Result<TableName, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = part(rest)?;
        check(&part)?;
        parts.push(part);
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => break,
            None => return Err("has text after a closing double quote".to_owned()),
        }
    }
    let mut parts = parts.into_iter();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(table), None, _) => Ok(TableName {
            schema: "public".to_owned(),
            table,
        }),
        (Some(schema), Some(table), None) => Ok(TableName { schema, table }),
        _ => Err("has more than two parts; a database is named by `database = \"...\"`".to_owned()),
    }
}

/// Why a name cannot be in the catalog.
pub(super) fn check(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("has an empty part".to_owned());
    }
    if name.contains('\0') {
        return Err("holds a zero byte, which no name in Postgres can".to_owned());
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(format!(
            "is longer than {MAX_NAME_BYTES} bytes, the longest name in Postgres"
        ));
    }
    Ok(())
}

/// The first part and what follows it.
fn part(text: &str) -> Result<(String, &str), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (part, after) = text.split_at(text.find('.').unwrap_or(text.len()));
        if part.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"') {
            return Err("has a blank or a double quote outside double quotes".to_owned());
        }
        return Ok((part.to_owned(), after));
    };
    let mut part = String::new();
    let mut rest = quoted;
    while let Some(end) = rest.find('"') {
        part.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                part.push('"');
                rest = after;
            }
            None => return Ok((part, rest)),
        }
    }
    Err("lacks a closing double quote".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_names() {
        for (text, schema, table) in [
            ("customers", "public", "customers"),
            ("public.customers", "public", "customers"),
            ("Public.Customers", "Public", "Customers"),
            ("crm.\"Odd.Name\"", "crm", "Odd.Name"),
            ("\"My Schema\".\"T\"", "My Schema", "T"),
            ("\"a\"\"b\"", "public", "a\"b"),
            ("größe", "public", "größe"),
        ] {
            let name = parse(text).unwrap();
            assert_eq!(
                (name.schema.as_str(), name.table.as_str()),
                (schema, table),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_name() {
        let long = "x".repeat(64);
        for text in [
            "", ".", "a.", ".a", "a.b.c", "a b", "\"a", "\"a\"b", "a\"b\"", "\"\"", "\"a\0\"",
            &long,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn quoting_a_name_keeps_it(schema in "[^\0]{1,15}", table in "[^\0]{1,15}") {
            let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
            let name = parse(&format!("{}.{}", quote(&schema), quote(&table))).unwrap();
            prop_assert_eq!(name, TableName { schema, table });
        }

        #[test]
        fn any_text_is_a_name_or_an_error(text in "[a.\" \\PC]{0,20}") {
            let _ = parse(&text);
        }
    }
}
