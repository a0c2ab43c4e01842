//! Names in SQL: quoted for the server, and as short as they can be for people. No SQL is run here.

/// An identifier for SQL that is executed: always in double quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `"schema"."name"`.
pub(crate) fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(name))
}

/// An identifier for people: quoted only where its characters need it.
pub(crate) fn shown(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c == '_';
    let simple = name.starts_with(plain) && name.chars().all(|c| plain(c) || c.is_ascii_digit());
    if simple {
        name.to_owned()
    } else {
        quoted(name)
    }
}

/// `schema.name` for people.
pub(crate) fn shown_qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", shown(schema), shown(name))
}

/// A string literal that reads the same whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// Whether `word` stands in `text` as a word of its own, whatever its case.
pub(crate) fn mentions(text: &str, word: &str) -> bool {
    let (text, word) = (text.to_lowercase(), word.to_lowercase());
    let joins = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    !word.is_empty()
        && text.match_indices(&word).any(|(at, found)| {
            !text[..at].ends_with(joins) && !text[at + found.len()..].starts_with(joins)
        })
}

/// An index key as the policy spells it: the server prints `pgveil.eq_term(email::bytea)`, with the cast from the domain
/// to its base type that it put in itself.
pub(crate) fn index_key(printed: String) -> String {
    let inner = printed
        .strip_prefix("pgveil.eq_term(")
        .and_then(|rest| rest.strip_suffix("::bytea)"));
    inner.map_or_else(
        || printed.clone(),
        |column| format!("pgveil.eq_term({column})"),
    )
}

/// The term of this number of a column, which is quoted where it must be.
pub(crate) fn eq_term(number: u32, column: &str) -> String {
    match number {
        0 => format!("pgveil.eq_term({column})"),
        number => format!("pgveil.eq_term({number}, {column})"),
    }
}

/// Conditions on the header of a sealed value: that it bears any equality term.
pub(crate) fn bears_any(value: &str) -> String {
    format!("(pg_catalog.get_byte({value}, 16) & 25) <> 0")
}

/// That it bears the term of this number.
pub(crate) fn bears(value: &str, number: u32) -> String {
    let bits = format!("pg_catalog.get_byte({value}, 16)");
    if number == 0 {
        return format!("({bits} & 1) = 1");
    }
    let named = format!("'\\x{number:08x}'::pg_catalog.bytea");
    let at = |mask: u8, bits_are: u8, from: u8| {
        format!(
            "({bits} & {mask}) = {bits_are} AND pg_catalog.substr({value}, {from}, 4) = {named}"
        )
    };
    format!(
        "({} OR {} OR {})",
        at(9, 8, 18),
        at(9, 9, 34),
        at(24, 24, 38)
    )
}

/// That it bears the term of this number, and no other.
pub(crate) fn bears_only(value: &str, number: u32) -> String {
    let mask = if number == 0 { 1 } else { 8 };
    let bits = format!("(pg_catalog.get_byte({value}, 16) & 25) = {mask}");
    format!("({bits} AND {})", bears(value, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_needs_it() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(shown("email_2"), "email_2");
        assert_eq!(shown("E-mail"), "\"E-mail\"");
        assert_eq!(shown("2nd"), "\"2nd\"");
        assert_eq!(literal("it's \\"), "E'it''s \\\\'");
    }

    #[test]
    fn the_servers_own_cast_is_left_out_of_an_index_key() {
        assert_eq!(
            index_key("pgveil.eq_term(\"E-mail\"::bytea)".into()),
            "pgveil.eq_term(\"E-mail\")"
        );
        assert_eq!(index_key("lower(email::text)".into()), "lower(email::text)");
    }

    #[test]
    fn finds_whole_words_only() {
        assert!(mentions("NEW.Email := lower(NEW.email)", "email"));
        assert!(!mentions("NEW.email_hash := 1", "email"));
        assert!(!mentions("xemail", "email"));
        assert!(mentions("email", "EMAIL"));
    }
}
