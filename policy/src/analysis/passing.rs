//! Functions that pass a value through: NULLIF, and window functions such as lag and first_value. Other functions must
//! not get a sealed value (`function`).

use sqlparser::ast::{Expr, Function};

use super::{
    Analyser,
    branch::{Branches, arguments},
    expr::Cx,
    kind::{Kind, Sealed, common_type},
    operand::{Operand, What},
    refusals,
    term::eq_term,
};
use crate::{Refusal, types::LogicalType};

/// Window functions that yield one of their first argument's values.
const PASSING: [&str; 5] = ["lag", "lead", "first_value", "last_value", "nth_value"];

/// Whether a function of this name yields one of the values that it gets.
pub(super) fn passes(name: &str, function: &Function) -> bool {
    let windowed = function.over.is_some() && PASSING.contains(&name);
    let one_of_all = name == "any_value" && function.over.is_none();
    (windowed || one_of_all) && function.name.0.len() == 1
}

impl Analyser<'_> {
    /// `lag(value, distance, default)`, `first_value(value)`, `any_value(value)`: what the arguments make of it.
    pub(super) fn passed_argument(
        &mut self,
        name: &str,
        function: &Function,
        cx: Cx<'_>,
    ) -> Result<Kind, Refusal> {
        let place = format!("function {name}");
        let args = arguments(function);
        let Some((value, others)) = args.as_deref().and_then(<[_]>::split_first) else {
            return Err(refusals::construct(&format!("this form of {place}")));
        };
        let mut branches = Branches::default();
        self.branches(value, cx, &mut branches)?;
        for (index, other) in others.iter().enumerate() {
            // The default of lag and lead is one of the values.
            if index == 1 && matches!(name, "lag" | "lead") {
                self.branches(other, cx, &mut branches)?;
            } else {
                self.plain(other, cx, &place)?;
            }
        }
        let Kind::Sealed(sealed) = self.choice(&branches, cx)? else {
            return Ok(Kind::Plain(None));
        };
        let column = sealed.column().clone();
        let passed = sealed
            .of_expression()
            .ok_or_else(|| refusals::not_supported(&column, &place))?;
        // The value is another row's: of its scope is known what is known of all rows.
        let here = self.facts.split_off(self.row_facts.min(self.facts.len()));
        let known = self.values_scope(&passed).is_some();
        self.facts.extend(here);
        if known {
            Ok(Kind::Sealed(passed))
        } else {
            Ok(self.of_other_rows(Kind::Sealed(passed)))
        }
    }

    /// `NULLIF(a, b)` becomes `CASE WHEN pgveil.eq_term(a) = b's term THEN NULL ELSE a END`.
    pub(super) fn nullif(
        &mut self,
        expr: &Expr,
        function: &Function,
        cx: Cx<'_>,
    ) -> Result<Kind, Refusal> {
        self.check_function(&function.name)?;
        let args = arguments(function);
        let Some([first, second]) = args.as_deref() else {
            return Err(refusals::construct("this form of NULLIF"));
        };
        if self.operand(first)?.is_some() {
            self.plain(second, cx, "NULLIF")?;
            return Ok(Kind::Plain(None));
        }
        let Kind::Sealed(sealed) = self.value(first, cx)? else {
            self.plain(second, cx, "NULLIF")?;
            return Ok(Kind::Plain(None));
        };
        if !repeatable_in_nullif(first) {
            let place = "NULLIF over an expression";
            return Err(refusals::not_supported(sealed.column(), place).at(self.start_of(first)));
        }
        let range = self.tokens.bytes(&self.tokens.extent(first)?);
        let again = self.edits.copy(self.tokens.sql, &range);
        match self.operand(second)? {
            Some(operand) => {
                self.check_nullif(&sealed, &operand)?;
                self.term(&sealed, operand)?;
            }
            None => match self.comparand(second, cx)? {
                Kind::Sealed(other) => {
                    self.check_comparable(&sealed, &other)
                        .map_err(|refusal| refusal.at(self.start_of(second)))?;
                    self.wrap_term(second, &other)?;
                }
                Kind::Plain(_) | Kind::Untyped | Kind::Holder(_) => {
                    return Err(self.mixed(&sealed, first, second));
                }
            },
        }
        super::term::check_equality(&sealed, "NULLIF")
            .map_err(|refusal| refusal.at(self.start_of(first)))?;
        self.edits.open(range.start, eq_term(&sealed));
        self.edits.close(range.end, ")");
        self.as_case(expr, first, second)?;
        let end = self.tokens.bytes(&self.tokens.extent(expr)?).end;
        self.edits.close_with(end, again);
        self.edits.close(end, " END");
        let shown = match sealed.shown {
            LogicalType::Varchar(_) => LogicalType::Text,
            shown => shown,
        };
        Ok(Kind::Sealed(Sealed {
            computed: true,
            shown,
            ..sealed
        }))
    }

    /// Which type NULLIF has depends on both of its arguments.
    fn check_nullif(&self, sealed: &Sealed, operand: &Operand) -> Result<(), Refusal> {
        use LogicalType::{Int2, Int4, Int8, Text, Varchar};
        if matches!(operand.what, What::Null) {
            return Ok(());
        }
        let bare = sealed.shown.without_modifiers();
        let fits = match self
            .operand_type(operand)?
            .map(LogicalType::without_modifiers)
        {
            None => true,
            Some(given) => {
                common_type(bare, given) == Some(bare)
                    || matches!(
                        (given, bare),
                        (Text | Varchar(_), Text | Varchar(_))
                            | (Int2 | Int4 | Int8, Int2 | Int4 | Int8)
                    )
            }
        };
        if fits {
            return Ok(());
        }
        let at = self.tokens.range(operand.extent.start).start;
        Err(refusals::not_supported(sealed.column(), "NULLIF with a value of another type").at(at))
    }
}

/// Whether an expression can be computed twice: it calls no function but COALESCE and NULLIF.
pub(super) fn repeatable(expr: &Expr) -> bool {
    calls_only(expr, &|function| {
        super::branch::coalesced(function).is_some() || super::function::is_nullif(function)
    })
}

/// The same for what stands in a NULLIF, of which each level would double the text.
fn repeatable_in_nullif(expr: &Expr) -> bool {
    calls_only(expr, &|function| {
        super::branch::coalesced(function).is_some()
    })
}

/// Whether an expression has no sub-selects, and no calls but these.
fn calls_only(expr: &Expr, known: &dyn Fn(&Function) -> bool) -> bool {
    let mut others = false;
    let _ = sqlparser::ast::visit_expressions(expr, |part: &Expr| {
        others |= match part {
            Expr::Function(function) => !known(function) || function.over.is_some(),
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => true,
            _ => false,
        };
        std::ops::ControlFlow::<()>::Continue(())
    });
    !others
}
