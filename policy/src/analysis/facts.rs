//! What a condition says of the columns that scopes depend on: equal to a constant, equal to each other.
//! A fact holds for every row for which the place where it is used matters. It judges no protected column.

use crate::{
    plan::{Operand, ScopePart},
    types::{LogicalType, Value},
};

use super::kind::Cell;

/// A literal or parameter that a column equals.
#[derive(Clone, Debug)]
pub(super) struct Constant {
    /// Which.
    pub(super) what: Known,
    /// The type it is given in.
    pub(super) logical: LogicalType,
}

/// What is known of a constant.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// Its value.
    Literal(Value),
    /// It is a parameter of the client (from 0).
    Param(usize),
}

impl Constant {
    /// The part of a scope that it is.
    pub(super) fn part(&self) -> ScopePart {
        let operand = match &self.what {
            Known::Literal(value) => Operand::Literal(Some(value.clone())),
            Known::Param(number) => Operand::Param(*number),
        };
        ScopePart::Row(operand, self.logical)
    }

    fn text(&self) -> Option<String> {
        match &self.what {
            Known::Literal(value) => self.logical.scope_text(value),
            Known::Param(_) => None,
        }
    }
}

impl PartialEq for Constant {
    fn eq(&self, other: &Self) -> bool {
        match (&self.what, &other.what) {
            (Known::Param(a), Known::Param(b)) => a == b,
            (Known::Literal(_), Known::Literal(_)) => {
                self.text().is_some() && self.text() == other.text()
            }
            _ => false,
        }
    }
}

/// One thing that is known.
#[derive(Clone, Debug)]
pub(super) enum Fact {
    /// Two columns are equal.
    Same(Cell, Cell),
    /// A column is constant.
    Is(Cell, Constant),
    /// A column is one of several constants.
    Among(Cell, Vec<Constant>),
}

impl Fact {
    /// Whether it speaks of a parameter.
    pub(super) fn has_parameter(&self) -> bool {
        let constants = match self {
            Self::Same(..) => &[],
            Self::Is(_, constant) => std::slice::from_ref(constant),
            Self::Among(_, constants) => constants.as_slice(),
        };
        let mut constants = constants.iter();
        constants.any(|constant| matches!(constant.what, Known::Param(_)))
    }

    /// Gives the row variables other numbers.
    pub(super) fn renumber(&mut self, number: &mut dyn FnMut(usize) -> usize) {
        let cells = match self {
            Self::Same(a, b) => [Some(a), Some(b)],
            Self::Is(a, _) | Self::Among(a, _) => [Some(a), None],
        };
        for cell in cells.into_iter().flatten() {
            cell.instance = number(cell.instance);
        }
    }

    /// The columns it speaks of.
    pub(super) fn cells(&self) -> impl Iterator<Item = &Cell> {
        let (first, second) = match self {
            Self::Same(a, b) => (a, Some(b)),
            Self::Is(a, _) | Self::Among(a, _) => (a, None),
        };
        std::iter::once(first).chain(second)
    }
}

/// What all that is known says of one column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// It equals this constant.
    Constant(Constant),
    /// It equals this column: the same one for all columns that equal each other.
    Cell(Cell),
}

/// Follows the facts from a column.
pub(super) fn ask(facts: &[Fact], cell: Cell) -> Answer {
    let class = equals(facts, cell);
    let constant = facts.iter().find_map(|fact| match fact {
        Fact::Is(known, constant) if class.contains(known) => Some(constant.clone()),
        Fact::Is(..) | Fact::Among(..) | Fact::Same(..) => None,
    });
    match constant {
        Some(constant) => Answer::Constant(constant),
        None => Answer::Cell(class.into_iter().min().unwrap_or(cell)),
    }
}

/// The constants of which a column is known to be one.
pub(super) fn ask_among(facts: &[Fact], cell: Cell) -> Option<&[Constant]> {
    let class = equals(facts, cell);
    facts.iter().find_map(|fact| match fact {
        Fact::Among(known, constants) if class.contains(known) => Some(constants.as_slice()),
        Fact::Is(..) | Fact::Among(..) | Fact::Same(..) => None,
    })
}

/// A column and all that equal it.
fn equals(facts: &[Fact], cell: Cell) -> Vec<Cell> {
    let mut class = vec![cell];
    let mut next = 0;
    while let Some(at) = class.get(next).copied() {
        next += 1;
        for fact in facts {
            let Fact::Same(a, b) = fact else {
                continue;
            };
            for (from, to) in [(a, b), (b, a)] {
                if *from == at && !class.contains(to) {
                    class.push(*to);
                }
            }
        }
    }
    class
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(instance: usize) -> Cell {
        Cell {
            instance,
            attnum: 1,
        }
    }

    #[test]
    fn follows_equalities_to_a_constant() {
        let five = Constant {
            what: Known::Param(0),
            logical: LogicalType::Int4,
        };
        let facts = [
            Fact::Same(cell(2), cell(1)),
            Fact::Same(cell(2), cell(3)),
            Fact::Is(cell(3), five.clone()),
            Fact::Same(cell(5), cell(4)),
        ];
        assert_eq!(ask(&facts, cell(1)), Answer::Constant(five));
        assert_eq!(ask(&facts, cell(5)), Answer::Cell(cell(4)));
        assert_eq!(ask(&facts, cell(6)), Answer::Cell(cell(6)));
    }

    #[test]
    fn follows_equalities_to_several_constants() {
        let constant = |param| Constant {
            what: Known::Param(param),
            logical: LogicalType::Int4,
        };
        let both = vec![constant(0), constant(1)];
        let facts = [
            Fact::Among(cell(1), both.clone()),
            Fact::Same(cell(2), cell(1)),
        ];
        assert_eq!(ask(&facts, cell(2)), Answer::Cell(cell(1)));
        assert_eq!(ask_among(&facts, cell(2)), Some(both.as_slice()));
        assert_eq!(ask_among(&facts, cell(3)), None);
    }
}
