//! Conditions on a primary key, whatever its types: with the operators of its index, wherever they are. It runs no walk.

use tokio_postgres::Row;

use crate::sql;

/// A column of the primary key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyColumn {
    name: String,
    /// With its modifiers, as the server prints it.
    type_name: String,
    /// Where the operators are by which the index is sorted.
    operators: String,
}

/// A sealed primary key is walked block by block: its order means nothing, and its text is long.
pub(super) const KEY: &str = "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), n.nspname::text, \
        pg_catalog.format_type(a.atttypid, NULL) LIKE '%sealed\\_%' \
    FROM pg_catalog.pg_index i \
    CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n) \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
    JOIN pg_catalog.pg_opclass c ON c.oid = (i.indclass::oid[])[k.n - 1] \
    JOIN pg_catalog.pg_amop o ON o.amopfamily = c.opcfamily AND o.amoplefttype = c.opcintype \
        AND o.amoprighttype = c.opcintype AND o.amopstrategy = 5 \
    JOIN pg_catalog.pg_operator p ON p.oid = o.amopopr \
    JOIN pg_catalog.pg_namespace n ON n.oid = p.oprnamespace \
    WHERE i.indrelid = $1 AND i.indisprimary AND i.indisvalid AND k.n <= i.indnkeyatts ORDER BY k.n";

/// The primary key of a table, if it has one that can be walked along, of the answer to [`KEY`].
pub(super) fn read(rows: &[Row]) -> Result<Option<Vec<KeyColumn>>, tokio_postgres::Error> {
    let mut columns = Vec::new();
    for row in rows {
        if row.try_get(3)? {
            return Ok(None);
        }
        columns.push(KeyColumn {
            name: row.try_get(0)?,
            type_name: row.try_get(1)?,
            operators: row.try_get(2)?,
        });
    }
    Ok((!columns.is_empty()).then_some(columns))
}

impl KeyColumn {
    fn of_row(&self) -> String {
        format!("t.{}", sql::quoted(&self.name))
    }

    fn value(&self, text: &str) -> String {
        format!("{}::{}", sql::literal(text), self.type_name)
    }

    fn compared(&self, operator: &str, text: &str) -> String {
        let (left, right) = (self.of_row(), self.value(text));
        let operators = sql::quoted(&self.operators);
        format!("{left} OPERATOR({operators}.{operator}) {right}")
    }
}

/// The texts of a row's key as JSON. `concat` asks the type's output function, where a cast to text may be somebody's own.
pub(super) fn cursor(columns: &[KeyColumn]) -> String {
    format!(
        "pg_catalog.jsonb_build_array({})::pg_catalog.text",
        texts(columns)
    )
}

/// The texts of a row's key, one by one.
pub(super) fn texts(columns: &[KeyColumn]) -> String {
    let texts: Vec<String> = { columns.iter() }
        .map(|column| format!("pg_catalog.concat({})", column.of_row()))
        .collect();
    texts.join(", ")
}

pub(super) fn order(columns: &[KeyColumn], direction: &str) -> String {
    let names: Vec<String> = { columns.iter() }
        .map(|column| format!("{}{direction}", column.of_row()))
        .collect();
    names.join(", ")
}

/// Row `t` comes after a key, in the order of the index.
pub(super) fn behind(columns: &[KeyColumn], values: &[String]) -> String {
    if let Some(condition) = as_rows(columns, ">", values) {
        return condition;
    }
    // No one operator compares them all: a > x OR a = x AND (b > y OR ...).
    let mut condition = String::new();
    for (column, value) in columns.iter().zip(values).rev() {
        let greater = column.compared(">", value);
        condition = if condition.is_empty() {
            greater
        } else {
            format!(
                "{greater} OR {} AND ({condition})",
                column.compared("=", value)
            )
        };
    }
    format!(
        "({condition}) AND {}",
        columns[0].compared(">=", &values[0])
    )
}

/// Row `t` is the key's, or comes before it.
pub(super) fn not_behind(columns: &[KeyColumn], values: &[String]) -> String {
    as_rows(columns, "<=", values).unwrap_or_else(|| {
        let first = columns[0].compared("<=", &values[0]);
        format!("NOT ({}) AND {first}", behind(columns, values))
    })
}

/// One comparison of rows, which an index is asked for; if one schema has the operators of all columns.
fn as_rows(columns: &[KeyColumn], operator: &str, values: &[String]) -> Option<String> {
    let same = { columns.windows(2) }.all(|two| two[0].operators == two[1].operators);
    let left: Vec<String> = columns.iter().map(KeyColumn::of_row).collect();
    let right: Vec<String> = { columns.iter().zip(values) }
        .map(|(column, value)| column.value(value))
        .collect();
    let schema = sql::quoted(&columns[0].operators);
    let (left, right) = (left.join(", "), right.join(", "));
    same.then(|| format!("ROW({left}) OPERATOR({schema}.{operator}) ROW({right})"))
}

/// `id = 42, name = x`.
pub(super) fn shown(columns: &[KeyColumn], values: &[String]) -> String {
    let parts: Vec<String> = { columns.iter().zip(values) }
        .map(|(column, value)| format!("{} = {value}", sql::shown(&column.name)))
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, type_name: &str, operators: &str) -> KeyColumn {
        KeyColumn {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            operators: operators.to_owned(),
        }
    }

    #[test]
    fn a_key_whose_operators_are_in_one_schema_is_compared_as_a_row() {
        let columns = [
            column("a", "integer", "pg_catalog"),
            column("B", "text", "pg_catalog"),
        ];
        let values = ["1".to_owned(), "it's".to_owned()];
        assert_eq!(
            behind(&columns, &values),
            "ROW(t.\"a\", t.\"B\") OPERATOR(\"pg_catalog\".>) ROW(E'1'::integer, E'it''s'::text)"
        );
        assert_eq!(shown(&columns, &values), "a = 1, \"B\" = it's");
    }

    #[test]
    fn operators_of_an_extension_are_named_each() {
        let columns = [
            column("a", "integer", "pg_catalog"),
            column("b", "public.citext", "public"),
        ];
        assert_eq!(
            behind(&columns, &["1".to_owned(), "x".to_owned()]),
            "(t.\"a\" OPERATOR(\"pg_catalog\".>) E'1'::integer OR t.\"a\" OPERATOR(\"pg_catalog\".=) E'1'::integer AND \
             (t.\"b\" OPERATOR(\"public\".>) E'x'::public.citext)) AND t.\"a\" OPERATOR(\"pg_catalog\".>=) E'1'::integer"
        );
    }
}
