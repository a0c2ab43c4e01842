//! Sealed values: what stands in the text instead of a literal or parameter that is written to a protected column.

use super::{
    Analyser,
    operand::{Made, Operand},
    refusals,
    scope::{Part, written_scope},
};
use crate::{
    Refusal,
    plan::{self, Make, Replacement},
    ruleset::Protected,
    types::{Conversion, Value},
};

impl Analyser<'_> {
    /// Seals a literal or parameter for a protected column. NULL stays NULL and needs no scope.
    pub(super) fn seal(
        &mut self,
        column: &Protected,
        operand: Operand,
        held: &dyn Fn(&str) -> Option<Part>,
    ) -> Result<(), Refusal> {
        let at = self.tokens.range(operand.extent.start).start;
        let what = match operand.what.planned_param() {
            Some(param) => param,
            None => match self.made(&operand, column, Conversion::Assignment)? {
                Made::Value(value) => {
                    if self.exact && !self.is_exact(&operand, &value, column)? {
                        let what = "a literal that does not fit, and is used elsewhere too";
                        return Err(refusals::not_sealable(column, what).at(at));
                    }
                    plan::Operand::Literal(Some(value))
                }
                Made::Null | Made::NeverEqual => {
                    self.replace_operand(&operand, Replacement::Text("NULL".to_owned()));
                    return Ok(());
                }
            },
        };
        let scope = match written_scope(column, held) {
            Ok(scope) => scope,
            Err(refusal) => {
                let sealed = match &self.conflict {
                    Some(_) => self.seal_conflicting(column, what, &operand),
                    None => self.seal_touched(column, what, &operand, held),
                };
                return sealed.unwrap_or_else(|| Err(refusal.at(at)));
            }
        };
        self.note(format!(
            "Values for {} are sealed before they are sent.",
            refusals::name_of(column)
        ));
        self.slot(Make::Seal, what, column, scope, &operand)
    }

    /// Whether a literal is the same without the column's length.
    fn is_exact(
        &self,
        operand: &Operand,
        value: &Value,
        column: &Protected,
    ) -> Result<bool, Refusal> {
        let bare = self.made_bare(operand, column)?;
        Ok(matches!(bare, Made::Value(bare) if bare == *value))
    }
}
