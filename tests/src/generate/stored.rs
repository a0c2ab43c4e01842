//! Statements that change rows, in which one constant stands in several places.

use super::{statement::Writer, twice::Shared, world::Type};

impl Writer<'_> {
    /// Different columns that fit.
    fn columns_to_fill(&mut self, shared: Shared) -> Vec<(String, Type)> {
        let count = self.choices.weighted(&[15, 65, 20]) + 1;
        let mut columns: Vec<(String, Type)> = Vec::new();
        for _ in 0..count {
            let (column, kind) = self.fitting_column(shared, "");
            let column = column[1..].to_owned();
            if columns.iter().all(|(other, _)| *other != column) {
                columns.push((column, kind));
            }
        }
        columns
    }

    fn filled(&mut self, shared: Shared, kind: Type) {
        match self.choices.weighted(&[80, 8, 6, 6]) {
            1 => self.constant(kind),
            2 => {
                self.push("COALESCE(");
                self.bare(shared, kind);
                self.push(", ");
                self.constant(kind);
                self.push(")");
            }
            3 => {
                self.push("NULLIF(");
                self.bare(shared, kind);
                self.push(", '')");
            }
            _ => self.bare(shared, kind),
        }
    }

    pub(super) fn insert_twice(&mut self, shared: Shared) {
        let columns = self.columns_to_fill(shared);
        let names: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let clashes = self.choices.percent(40);
        let first = if clashes { 3 } else { 101 };
        let names = names.join(", ");
        self.push(&format!("INSERT INTO pairs (id, {names}) VALUES "));
        let rows = self.choices.weighted(&[70, 30]) + 1;
        self.list(rows, |writer, row| {
            writer.push(&format!("({}", first + row));
            for (_, kind) in &columns {
                writer.push(", ");
                writer.filled(shared, *kind);
            }
            writer.push(")");
        });
        if clashes {
            let (column, kind) = self.fitting_column(shared, "");
            let column = column[1..].to_owned();
            self.push(&format!(" ON CONFLICT (id) DO UPDATE SET {column} = "));
            if self.choices.percent(40) {
                let (source, _) = columns[0].clone();
                self.push(&format!("excluded.{source}"));
            } else {
                self.bare(shared, kind);
            }
            if self.choices.percent(40) {
                self.push(" WHERE ");
                self.used(shared, "pairs");
            }
        }
        self.returning_twice(shared, "pairs");
    }

    pub(super) fn insert_select_twice(&mut self, shared: Shared) {
        let columns = self.columns_to_fill(shared);
        let names: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
        self.push(&format!("INSERT INTO pairs (id, {}) ", names.join(", ")));
        let alias = self.alias();
        let from = self.choices.percent(60);
        if from {
            self.push(&format!("SELECT {alias}.id + 100"));
        } else {
            self.push("SELECT 101");
        }
        for (_, kind) in &columns {
            self.push(", ");
            if from && self.choices.percent(20) {
                let column = self.column_twice(*kind, &alias);
                self.push(&column);
            } else {
                self.filled(shared, *kind);
            }
        }
        if from {
            self.push(&format!(" FROM pairs {alias} WHERE "));
            self.used(shared, &alias);
        } else if self.choices.percent(50) {
            self.push(&format!(
                " WHERE NOT EXISTS (SELECT 1 FROM pairs {alias} WHERE "
            ));
            self.used(shared, &alias);
            self.push(")");
        }
        self.returning_twice(shared, "pairs");
    }

    fn returning_twice(&mut self, shared: Shared, alias: &str) {
        if self.choices.percent(35) {
            self.push(&format!(" RETURNING {alias}.id, "));
            self.item_twice(shared, alias);
        }
    }

    pub(super) fn update_twice(&mut self, shared: Shared) {
        let alias = self.alias();
        let columns = self.columns_to_fill(shared);
        self.push(&format!("UPDATE pairs AS {alias} SET "));
        if columns.len() > 1 && self.choices.percent(15) {
            let names: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
            self.push(&format!("({}) = (", names.join(", ")));
            self.list(columns.len(), |writer, index| {
                writer.filled(shared, columns[index].1);
            });
            self.push(")");
        } else {
            self.list(columns.len(), |writer, index| {
                writer.push(&format!("{} = ", columns[index].0));
                writer.filled(shared, columns[index].1);
            });
        }
        if self.choices.percent(20) {
            let source = self.alias();
            self.push(&format!(
                " FROM pairs {source} WHERE {source}.id = {alias}.id AND "
            ));
            self.used(shared, &source);
            self.push(" AND ");
            self.used(shared, &alias);
        } else {
            self.push(" WHERE ");
            self.uses(shared, &alias);
        }
        self.returning_twice(shared, &alias);
    }

    pub(super) fn delete_twice(&mut self, shared: Shared) {
        let alias = self.alias();
        self.push(&format!("DELETE FROM pairs AS {alias} "));
        if self.choices.percent(20) {
            let source = self.alias();
            self.push(&format!(
                "USING pairs {source} WHERE {source}.id = {alias}.id AND "
            ));
            self.used(shared, &source);
            self.push(" AND ");
        } else {
            self.push("WHERE ");
        }
        self.uses(shared, &alias);
        self.returning_twice(shared, &alias);
    }

    pub(super) fn merge_twice(&mut self, shared: Shared) {
        let (target, source) = (self.alias(), self.alias());
        let (written, kind) = self.fitting_column(shared, "");
        let written = written[1..].to_owned();
        self.push(&format!("MERGE INTO pairs AS {target} USING "));
        let given = self.choices.percent(50);
        if given {
            let head = if self.choices.percent(50) {
                "(SELECT 3 AS id, "
            } else {
                "(VALUES (3, "
            };
            self.push(head);
            self.bare(shared, kind);
            let tail = if head.contains("VALUES") {
                ")) AS "
            } else {
                " AS c) AS "
            };
            self.push(&format!("{tail}{source} (id, c)"));
        } else {
            self.push(&format!("pairs AS {source}"));
        }
        self.push(&format!(" ON {target}.id = {source}.id"));
        if self.choices.percent(30) {
            self.push(" AND ");
            self.used(shared, &target);
        }
        self.push(" WHEN MATCHED");
        if self.choices.percent(50) {
            self.push(" AND ");
            self.used(shared, &target);
        }
        self.push(&format!(" THEN UPDATE SET {written} = "));
        if given && self.choices.percent(60) {
            self.push(&format!("{source}.c"));
        } else {
            self.bare(shared, kind);
        }
        if self.choices.percent(50) {
            self.push(&format!(
                " WHEN NOT MATCHED THEN INSERT (id, {written}) VALUES ({source}.id + 100, "
            ));
            self.bare(shared, kind);
            self.push(")");
        }
    }
}
