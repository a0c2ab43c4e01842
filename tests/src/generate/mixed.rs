//! Values that can come from columns with different search terms, compared with constants.

use super::{statement::Writer, world::Type};

impl Writer<'_> {
    /// `COALESCE(email, ssn) = 'x'`
    pub(super) fn mixed_columns(&mut self) {
        let innermost = self.scopes.last().into_iter().flatten();
        let texts: Vec<String> = innermost
            .filter(|column| matches!(column.kind, Type::Text | Type::Varchar))
            .filter(|column| column.class.is_some_and(|class| class > 0))
            .map(|column| column.name.clone())
            .collect();
        if texts.len() < 2 {
            self.column_or_constant(Type::Text);
            self.push(" = ");
            return self.constant(Type::Text);
        }
        self.feature("columns with different terms");
        let first = self.choices.of(&texts).clone();
        let second = self.choices.of(&texts).clone();
        self.push(&format!("COALESCE({first}, {second})"));
        match self.choices.below(5) {
            0 => self.push(" = "),
            1 => self.push(" <> "),
            form => {
                let (open, close) = match form {
                    2 => (" IN (", ")"),
                    3 => (" NOT IN (", ")"),
                    _ => (" = ANY (ARRAY[", "])"),
                };
                self.push(open);
                self.list(2, |writer, _| writer.constant(Type::Text));
                return self.push(close);
            }
        }
        self.constant(Type::Text);
    }
}
