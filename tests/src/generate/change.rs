//! Statements that change rows, and what to look at afterwards.

use super::{
    statement::Writer,
    world::{TABLES, Table, Type},
};

impl Writer<'_> {
    /// Any statement. What it returns is empty for a query, and asks for the changed rows otherwise.
    pub(super) fn any_statement(&mut self) -> Vec<String> {
        let kind = self
            .choices
            .weighted(&[56, 8, 5, 8, 4, 5, 4, 3, 2, 3, 2, 30]);
        if kind == 0 {
            self.top_query();
            return Vec::new();
        }
        if kind == 11 {
            return self.twice();
        }
        let tables: Vec<_> = TABLES.iter().filter(|table| table.writable).collect();
        let table = **self.choices.of(&tables);
        match kind {
            1 => self.insert(&table, false),
            2 => self.insert(&table, true),
            3 => self.update(&table),
            4 => self.delete(&table),
            5 => self.insert_select(&table),
            6 => self.merge(&table),
            7 => self.insert_values(&table),
            8 => self.update_values(&table),
            9 => self.merge_values(&table),
            _ => self.update_unnest(&table),
        }
        vec![format!("SELECT * FROM {} ORDER BY 1", table.name)]
    }

    /// Some columns of a table besides its key, always with those that must not be NULL.
    pub(super) fn some_columns(&mut self, table: &Table) -> Vec<(&'static str, Type)> {
        let mut columns = Vec::new();
        for (index, column) in table.columns.iter().enumerate().skip(1) {
            let needed = ["region", "customer_id", "tenant_id"].contains(&column.name);
            if needed || (index < 13 && self.choices.percent(40)) {
                columns.push((column.name, column.kind));
            }
        }
        columns
    }

    fn new_value(&mut self, name: &str, kind: Type) {
        match name {
            "region" => self.push("'eu'"),
            "customer_id" => self.push("3"),
            "tenant_id" => {
                let tenant = *self.choices.of(&["10", "20"]);
                self.push(tenant);
            }
            _ if self.choices.percent(8) => self.push("DEFAULT"),
            _ => self.constant(kind),
        }
    }

    fn insert(&mut self, table: &Table, conflict: bool) {
        self.feature(if conflict {
            "insert on conflict"
        } else {
            "insert"
        });
        let columns = self.some_columns(table);
        let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
        let rows = self.choices.below(2) + 1;
        let first = if conflict {
            self.choices.below(6) + 1
        } else {
            101
        };
        self.push(&format!(
            "INSERT INTO {} (id, {}) VALUES ",
            table.name,
            names.join(", ")
        ));
        self.list(rows, |writer, row| {
            writer.push(&format!("({}", first + row));
            for (name, kind) in &columns {
                writer.push(", ");
                writer.new_value(name, *kind);
            }
            writer.push(")");
        });
        if conflict {
            self.on_conflict(table, &columns);
        }
        self.returning(table, table.name);
    }

    fn on_conflict(&mut self, table: &Table, columns: &[(&'static str, Type)]) {
        let free: Vec<_> = columns
            .iter()
            .filter(|(name, _)| !["tenant_id", "customer_id"].contains(name))
            .collect();
        match self.choices.weighted(&[20, 20, 60]) {
            0 => self.push(" ON CONFLICT DO NOTHING"),
            1 => self.push(" ON CONFLICT (id) DO NOTHING"),
            _ if free.is_empty() => self.push(" ON CONFLICT (id) DO NOTHING"),
            _ => {
                let (name, kind) = **self.choices.of(&free);
                self.push(&format!(" ON CONFLICT (id) DO UPDATE SET {name} = "));
                match self.choices.weighted(&[60, 20, 20]) {
                    0 => self.push(&format!("EXCLUDED.{name}")),
                    1 => self.push(&format!("{}.{name}", table.name)),
                    _ => self.constant(kind),
                }
            }
        }
    }

    pub(super) fn returning(&mut self, table: &Table, alias: &str) {
        match self.choices.weighted(&[60, 15, 25]) {
            0 => {}
            1 => {
                self.feature("returning");
                self.push(" RETURNING *");
            }
            _ => {
                self.feature("returning");
                self.scopes.push(Self::visible(table, alias));
                self.push(" RETURNING ");
                let count = self.choices.below(2) + 1;
                self.depth += 1;
                self.list(count, |writer, _| {
                    let kind = writer.some_type();
                    writer.value(kind);
                });
                self.depth -= 1;
                self.scopes.pop();
            }
        }
    }

    fn update(&mut self, table: &Table) {
        self.feature("update");
        let alias = self.alias();
        self.push(&format!("UPDATE {} AS {alias} SET ", table.name));
        self.scopes.push(Self::visible(table, &alias));
        let columns: Vec<_> = table.columns[1..]
            .iter()
            .filter(|column| !["tenant_id", "customer_id", "region"].contains(&column.name))
            .collect();
        let count = self.choices.below(2) + 1;
        let start = self.choices.below(columns.len());
        let other = self.choices.percent(20);
        let source = self.alias();
        self.list(count.min(columns.len()), |writer, index| {
            let column = columns[(start + index) % columns.len()];
            writer.push(&format!("{} = ", column.name));
            match writer.choices.weighted(&[60, 25, 10, 5]) {
                0 => writer.constant(column.kind),
                1 => {
                    writer.depth += 1;
                    writer.value(column.kind);
                    writer.depth -= 1;
                }
                2 => {
                    // A column of the same table and type.
                    let same = writer.reachable(column.kind);
                    let name = same.map_or_else(|| column.name.to_owned(), |found| found.name);
                    writer.push(&name);
                }
                _ => writer.push("DEFAULT"),
            }
        });
        if other {
            self.feature("update from");
            let from = *self.choices.of(&TABLES);
            self.push(&format!(" FROM {} AS {source}", from.name));
            let visible = Self::visible(&from, &source);
            if let Some(level) = self.scopes.last_mut() {
                level.extend(visible);
            }
            self.push(&format!(" WHERE {alias}.id = {source}.id AND "));
            self.condition();
        } else if self.choices.percent(85) {
            self.push(" WHERE ");
            if self.choices.percent(60) {
                let id = self.choices.below(6) + 1;
                self.push(&format!("{alias}.id = {id}"));
            } else {
                self.condition();
            }
        }
        self.scopes.pop();
        self.returning(table, &alias);
    }

    fn delete(&mut self, table: &Table) {
        self.feature("delete");
        let alias = self.alias();
        self.push(&format!("DELETE FROM {} AS {alias}", table.name));
        self.scopes.push(Self::visible(table, &alias));
        if self.choices.percent(20) {
            self.feature("delete using");
            let source = self.alias();
            let using = *self.choices.of(&TABLES);
            self.push(&format!(" USING {} AS {source}", using.name));
            let visible = Self::visible(&using, &source);
            if let Some(level) = self.scopes.last_mut() {
                level.extend(visible);
            }
            self.push(&format!(" WHERE {alias}.id = {source}.id AND "));
            self.condition();
        } else {
            self.push(" WHERE ");
            self.condition();
        }
        self.scopes.pop();
        self.returning(table, &alias);
    }

    fn insert_select(&mut self, table: &Table) {
        self.feature("insert select");
        let columns = self.some_columns(table);
        let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
        self.push(&format!(
            "INSERT INTO {} (id, {}) SELECT ",
            table.name,
            names.join(", ")
        ));
        let source = *self.choices.of(&TABLES);
        let alias = self.alias();
        self.scopes.push(Self::visible(&source, &alias));
        self.push(&format!("{alias}.id + 100"));
        self.depth += 1;
        for (name, kind) in &columns {
            self.push(", ");
            match *name {
                "region" => self.push("'eu'"),
                "customer_id" => self.push("3"),
                "tenant_id" => self.push("10"),
                _ => self.value(*kind),
            }
        }
        self.depth -= 1;
        self.push(&format!(" FROM {} AS {alias}", source.name));
        if self.choices.percent(50) {
            self.push(" WHERE ");
            self.condition();
        }
        self.scopes.pop();
        self.returning(table, table.name);
    }

    fn merge(&mut self, table: &Table) {
        self.feature("merge");
        let (target, source) = (self.alias(), self.alias());
        let using = *self.choices.of(&TABLES);
        self.push(&format!(
            "MERGE INTO {} AS {target} USING {} AS {source} ON {target}.id = {source}.id",
            table.name, using.name
        ));
        let column = *self.choices.of(&table.columns[1..]);
        if ["tenant_id", "customer_id", "region"].contains(&column.name) {
            self.push(" WHEN MATCHED THEN DO NOTHING");
            return;
        }
        self.push(&format!(
            " WHEN MATCHED AND {target}.id < 4 THEN UPDATE SET {} = ",
            column.name
        ));
        self.scopes.push(Self::visible(&using, &source));
        self.depth += 1;
        self.value(column.kind);
        self.depth -= 1;
        self.scopes.pop();
        self.push(" WHEN MATCHED AND ");
        self.scopes.push(Self::visible(table, &target));
        self.condition();
        self.scopes.pop();
        self.push(" THEN DELETE");
    }
}
