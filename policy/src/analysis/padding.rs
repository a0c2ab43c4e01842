//! Conditions that rows without a partner in an outer join fail. PostgreSQL sees by a strict operator that such rows need not be
//! made (it joins otherwise, and can do a FULL JOIN at all that it could not do); `pgveil.eq_term` is not strict, so the
//! condition says it in words. What is compared is `compare`'s business.

use sqlparser::ast::{BinaryOperator, Expr};

use super::{
    Analyser,
    compare::strip,
    expr::Cx,
    from::Condition,
    group::written_reference,
    kind::{Kind, Place, Sealed},
    namespace::Scope,
    term::uncast,
};
/// Conjuncts that are looked at: more of them are not written by hand, and the rest is only slower.
const MOST_CONJUNCTS: usize = 256;

impl Analyser<'_> {
    /// Says of the sealed columns that WHERE and the inner joins compare that they are not NULL, where an outer join may
    /// have made them so. To be asked when the conditions have their edits.
    pub(super) fn not_padded(
        &mut self,
        conditions: &[Condition<'_>],
        selection: Option<&Expr>,
        cx: Cx<'_>,
    ) {
        if self.padded.is_empty() || self.stored {
            return;
        }
        for condition in conditions {
            if let Condition::On {
                on,
                names,
                outer: false,
            } = condition
            {
                let scope = Scope {
                    names,
                    parent: cx.scope.parent,
                };
                self.say_of_conjuncts(on, &scope);
            }
        }
        if let Some(condition) = selection {
            self.say_of_conjuncts(condition, cx.scope);
        }
    }

    fn say_of_conjuncts(&mut self, condition: &Expr, scope: &Scope<'_>) {
        let mut said = Vec::new();
        let mut next = vec![condition];
        let mut count = 0;
        while let Some(conjunct) = next.pop() {
            count += 1;
            if count > MOST_CONJUNCTS {
                return;
            }
            match strip(conjunct) {
                Expr::BinaryOp {
                    left,
                    op: BinaryOperator::And,
                    right,
                } => next.extend([&**right, &**left]),
                compared => {
                    let sides = compared_sides(compared);
                    // Of the whole the parser does not say where brackets begin.
                    let first = sides.first().and_then(|side| self.tokens.extent(side).ok());
                    let Some(first) = first else { continue };
                    let at = self.tokens.range(first.start).start;
                    for side in sides {
                        if let Some(name) = self.padded_column(side, scope)
                            && !said.contains(&name)
                        {
                            self.edits.open(at, format!("{name} IS NOT NULL AND "));
                            said.push(name);
                        }
                    }
                }
            }
        }
    }

    /// How a sealed column of this query is named that an outer join may make NULL.
    fn padded_column(&self, expr: &Expr, scope: &Scope<'_>) -> Option<String> {
        let idents = match uncast(expr) {
            Expr::Identifier(ident) => std::slice::from_ref(ident),
            Expr::CompoundIdentifier(idents) => idents.as_slice(),
            _ => return None,
        };
        let found = scope.find(idents).ok()?;
        let (entry, _) = found.identity?;
        let ours = { scope.names.entries.iter() }.any(|member| member.id == entry);
        match &found.kind {
            Kind::Sealed(sealed) if ours && self.is_padded(sealed) => written_reference(&found),
            _ => None,
        }
    }

    fn is_padded(&self, sealed: &Sealed) -> bool {
        let mut sources = sealed.sources.iter();
        sources.any(|source| match source.place {
            Place::Row(instance) => self.padded.contains(&instance),
            Place::Made(_) | Place::Meant(_) => false,
        })
    }
}

/// The sides of a comparison that is NULL where one of them is.
fn compared_sides(conjunct: &Expr) -> Vec<&Expr> {
    const EQUALITY: [BinaryOperator; 2] = [BinaryOperator::Eq, BinaryOperator::NotEq];
    match conjunct {
        Expr::BinaryOp { left, op, right } if EQUALITY.contains(op) => vec![left, right],
        // Not `<> ALL`, which holds for NULL too where the array is empty.
        Expr::AnyOp {
            left, compare_op, ..
        } if EQUALITY.contains(compare_op) => vec![left],
        Expr::InList { expr, .. } => vec![expr],
        _ => Vec::new(),
    }
}
