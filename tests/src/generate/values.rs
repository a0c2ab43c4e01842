//! Statements that write the columns of VALUES: INSERT ... SELECT, UPDATE ... FROM and MERGE, as applications send rows in
//! bulk.

use super::{
    statement::Writer,
    world::{Table, Type},
};

impl Writer<'_> {
    /// `(VALUES (1, 'x'), (2, 'y')) AS v(id, name)`, with the columns given and the key before them.
    fn rows_of_values(&mut self, columns: &[(&'static str, Type)], first: usize, alias: &str) {
        let rows = self.choices.below(3) + 1;
        self.push("(VALUES ");
        self.list(rows, |writer, row| {
            writer.push(&format!("({}", first + row));
            for (name, kind) in columns {
                writer.push(", ");
                match *name {
                    "region" => writer.push("'eu'"),
                    "customer_id" => writer.push("3"),
                    "tenant_id" => {
                        let tenant = *writer.choices.of(&["10", "20"]);
                        writer.push(tenant);
                    }
                    _ if *kind == Type::Text => writer.constant(*kind),
                    _ => writer.typed_constant(*kind),
                }
            }
            writer.push(")");
        });
        let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
        self.push(&format!(") AS {alias}(id, {})", names.join(", ")));
    }

    /// As SQLAlchemy inserts many rows.
    pub(super) fn insert_values(&mut self, table: &Table) {
        self.feature("insert select values");
        let columns = self.given_columns(table);
        let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
        self.push(&format!(
            "INSERT INTO {} (id, {}) SELECT ",
            table.name,
            names.join(", ")
        ));
        let alias = self.alias();
        self.push(&format!("{alias}.id"));
        for (name, kind) in &columns {
            let cast = match self.choices.weighted(&[70, 30]) {
                0 => String::new(),
                _ => format!("::{}", kind.bare()),
            };
            self.push(&format!(", {alias}.{name}{cast}"));
        }
        self.push(" FROM ");
        self.rows_of_values(&columns, 101, &alias);
        if self.choices.percent(20) {
            self.push(&format!(" WHERE {alias}.id > 101"));
        }
        if self.choices.percent(40) {
            self.push(&format!(" ORDER BY {alias}.id"));
        }
        self.returning(table, table.name);
    }

    pub(super) fn update_values(&mut self, table: &Table) {
        self.feature("update from values");
        let columns = self.written_columns(table);
        let target = self.alias();
        self.push(&format!("UPDATE {} AS {target} SET ", table.name));
        let source = self.alias();
        self.assigned(&columns, &source);
        self.push(" FROM ");
        let first = self.choices.below(5) + 1;
        self.rows_of_values(&columns, first, &source);
        self.push(&format!(" WHERE {target}.id = {source}.id"));
        if table.name == "notes" && self.choices.percent(30) {
            self.push(&format!(" AND {target}.tenant_id = 10"));
        }
        self.returning(table, &target);
    }

    /// `UPDATE ... FROM unnest(ids, values)`
    pub(super) fn update_unnest(&mut self, table: &Table) {
        self.feature("update from unnest");
        let columns = self.written_columns(table);
        let (target, source) = (self.alias(), self.alias());
        self.push(&format!("UPDATE {} AS {target} SET ", table.name));
        self.assigned(&columns, &source);
        let rows = self.choices.below(2) + 1;
        self.push(" FROM unnest(ARRAY[");
        let first = self.choices.below(5) + 1;
        self.list(rows, |writer, row| writer.push(&(first + row).to_string()));
        self.push("]");
        for (_, kind) in &columns {
            self.push(", ARRAY[");
            self.list(rows, |writer, _| writer.constant(*kind));
            self.push(&format!("]::{}[]", kind.bare()));
        }
        let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
        self.push(&format!(
            ") AS {source}(id, {}) WHERE {target}.id = {source}.id",
            names.join(", ")
        ));
        if table.name == "notes" && self.choices.percent(50) {
            self.push(&format!(" AND {target}.tenant_id = 10"));
        }
        self.returning(table, &target);
    }

    pub(super) fn merge_values(&mut self, table: &Table) {
        self.feature("merge values");
        let columns = self.given_columns(table);
        let target = self.alias();
        self.push(&format!("MERGE INTO {} AS {target} USING ", table.name));
        let first = self.choices.below(6) + 1;
        let source = self.alias();
        self.rows_of_values(&columns, first, &source);
        let free: Vec<_> = columns
            .iter()
            .filter(|(name, _)| !["tenant_id", "customer_id", "region"].contains(name))
            .copied()
            .collect();
        self.push(&format!(" ON {target}.id = {source}.id"));
        if table.name == "notes" && self.choices.percent(80) {
            self.push(&format!(" AND {target}.tenant_id = {source}.tenant_id"));
        }
        if let Some((name, _)) = free.first()
            && self.choices.percent(20)
        {
            self.push(&format!(" AND {target}.{name} = {source}.{name}"));
        }
        if !free.is_empty() {
            self.push(" WHEN MATCHED");
            if self.choices.percent(30) {
                let (name, _) = *self.choices.of(&free);
                self.push(&format!(
                    " AND {target}.{name} IS DISTINCT FROM {source}.{name}"
                ));
            }
            self.push(" THEN UPDATE SET ");
            self.assigned(&free, &source);
        }
        let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
        let values: Vec<_> = names
            .iter()
            .map(|name| format!("{source}.{name}"))
            .collect();
        self.push(&format!(
            " WHEN NOT MATCHED THEN INSERT (id, {}) VALUES ({source}.id + 200, {})",
            names.join(", "),
            values.join(", ")
        ));
    }

    /// Some columns, with those that must not be NULL, and at least one.
    fn given_columns(&mut self, table: &Table) -> Vec<(&'static str, Type)> {
        let columns = self.some_columns(table);
        if columns.is_empty() {
            return self.written_columns(table);
        }
        columns
    }

    fn written_columns(&mut self, table: &Table) -> Vec<(&'static str, Type)> {
        let free: Vec<_> = table.columns[1..]
            .iter()
            .filter(|column| !["tenant_id", "customer_id", "region"].contains(&column.name))
            .collect();
        let count = self.choices.below(2) + 1;
        let start = self.choices.below(free.len());
        (0..count.min(free.len()))
            .map(|index| free[(start + index) % free.len()])
            .map(|column| (column.name, column.kind))
            .collect()
    }

    fn assigned(&mut self, columns: &[(&'static str, Type)], source: &str) {
        self.list(columns.len(), |writer, index| {
            let (name, _) = columns[index];
            writer.push(&format!("{name} = {source}.{name}"));
        });
    }
}
