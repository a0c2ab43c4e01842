//! The short way in which tests write a policy. pgveil itself knows only TOML; this makes it.
//!
//! ```text
//! public.people  scope = "platform"   email: text, search = ["equality"], mask = { keep_last = 8 }
//!     ssn: varchar(11), reveal = ["app"]
//! ```

use anyhow::{Context, Result};

/// The keys that may follow a column's type.
const KEYS: [&str; 5] = ["search", "search_key", "equality_group", "reveal", "mask"];

/// The TOML of `text`; text that is TOML already stays as it is.
pub fn to_toml(text: &str) -> Result<String> {
    if text.trim_start().starts_with(['[', '#']) || text.trim().is_empty() {
        return Ok(text.to_owned());
    }
    let mut toml = String::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut parts = line
            .trim()
            .split("  ")
            .map(str::trim)
            .filter(|part| !part.is_empty());
        if !line.starts_with(char::is_whitespace) {
            let name = parts.next().context("a line has a first part")?;
            toml.push_str(&format!("[[table]]\nname = '{name}'\n"));
        }
        for part in parts {
            match column(part) {
                Some((name, rest)) => toml.push_str(&column_toml(name, rest)),
                None => toml.push_str(&format!("{part}\n")),
            }
        }
    }
    Ok(toml)
}

/// `email: text, ...`, but not `scope = "tenant:{tenant_id}"`.
fn column(part: &str) -> Option<(&str, &str)> {
    let (name, rest) = part.split_once(": ")?;
    (!name.contains('=')).then_some((name, rest))
}

fn column_toml(name: &str, rest: &str) -> String {
    let mut starts: Vec<usize> = KEYS
        .iter()
        .flat_map(|key| [format!(", {key} ="), format!(", {key}=")])
        .filter_map(|needle| rest.find(&needle))
        .collect();
    starts.sort_unstable();
    let type_end = starts.first().copied().unwrap_or(rest.len());
    let mut toml = format!("[table.column.{name}]\ntype = \"{}\"\n", &rest[..type_end]);
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(rest.len());
        toml.push_str(rest[start + 1..end].trim());
        toml.push('\n');
    }
    toml
}

#[cfg(test)]
mod tests {
    use super::to_toml;

    #[test]
    fn a_line_becomes_a_table_with_columns() {
        let short = "public.people  scope = \"tenant:{t}\"   email: numeric(10,2), search = [\"equality\"], mask = { keep_last = 8 }\n    b: text\n";
        let toml = "[[table]]\nname = 'public.people'\nscope = \"tenant:{t}\"\n[table.column.email]\ntype = \"numeric(10,2)\"\n\
            search = [\"equality\"]\nmask = { keep_last = 8 }\n[table.column.b]\ntype = \"text\"\n";
        assert_eq!(to_toml(short).unwrap(), toml);
    }

    #[test]
    fn quoted_names_stay_quoted_where_toml_wants_it() {
        let short = "public.\"Odd Names\"  scope = \"platform\"\n  \"E Mail\": text\n";
        let toml = "[[table]]\nname = 'public.\"Odd Names\"'\nscope = \"platform\"\n[table.column.\"E Mail\"]\ntype = \"text\"\n";
        assert_eq!(to_toml(short).unwrap(), toml);
    }

    #[test]
    fn toml_stays_as_it_is() {
        let toml = "# a comment\n[[table]]\nname = \"a\"\n";
        assert_eq!(to_toml(toml).unwrap(), toml);
    }
}
