//! Values that only the server knows, and that stay the same for all of a transaction: its time, and who asks. They are
//! operands like parameters; the server is asked for them in the statement's own transaction (decision 138). What is computed
//! of them, or of times that are given, is computed here (decisions 152, 172).

use std::sync::Arc;

use sqlparser::ast::{BinaryOperator, Expr, Function, FunctionArguments, ObjectNamePart};
use zeroize::Zeroizing;

use super::{
    Analyser,
    extent::is_short,
    from::unnamed,
    operand::{Asked, Cast, Given, Operand, What},
};
use crate::{
    Refusal,
    plan::{self, Moment, Plan, ScopeQuery, Start, Timed},
    types::{InputError, LogicalType, TimeStep},
};

/// Additions and subtractions that are read of one time.
const MOST_STEPS: u32 = 64;

impl Asked {
    /// With one more step, if there is one of such a time, and the parameters in it.
    fn then(mut self: Box<Self>, step: TimeStep, params: Vec<Given>) -> Option<Box<Self>> {
        self.timed = self.timed.then(step)?;
        self.params.extend(params);
        Some(self)
    }
}

impl From<Start> for Box<Asked> {
    fn from(start: Start) -> Self {
        Self::new(Asked {
            timed: start.into(),
            params: Vec::new(),
        })
    }
}

impl From<Moment> for Box<Asked> {
    fn from(moment: Moment) -> Self {
        Start::Asked(moment).into()
    }
}

impl Analyser<'_> {
    /// Reads an expression as such an operand.
    pub(super) fn moment(&self, expr: &Expr) -> Result<Option<Operand>, Refusal> {
        // In a definition it is to be another one whenever it is looked at.
        if self.stored || self.in_body {
            return Ok(None);
        }
        let Some(asked) = self.moment_of(expr)? else {
            return Ok(None);
        };
        Ok(self.tokens.extent(expr).ok().map(|extent| Operand {
            cast: Cast::To(asked.timed.logical()),
            what: What::Asked(asked),
            common: None,
            extent,
        }))
    }

    fn moment_of(&self, expr: &Expr) -> Result<Option<Box<Asked>>, Refusal> {
        let (zone, of) = match expr {
            Expr::Function(function) => {
                let list = match &function.args {
                    FunctionArguments::None => return Ok(keyword(function).map(Box::from)),
                    FunctionArguments::List(list) if list.args.len() != 1 => list,
                    FunctionArguments::List(_) | FunctionArguments::Subquery(_) => return Ok(None),
                };
                let name = self.plain_call(function).unwrap_or_default();
                match (name.as_str(), unnamed(&list.args).as_deref()) {
                    ("now" | "transaction_timestamp", Some([])) => {
                        return Ok(Some(Moment::Timestamptz.into()));
                    }
                    ("date_trunc", Some([unit, of])) => {
                        let unit = self.text_of(unit)?;
                        let step = unit.and_then(|unit| TimeStep::cut(&unit));
                        let asked = self.asked(of)?;
                        let made = |(asked, step): (Box<Asked>, _)| asked.then(step, Vec::new());
                        return Ok(asked.zip(step).and_then(made));
                    }
                    ("timezone", Some([zone, of])) => (*zone, *of),
                    _ => return Ok(None),
                }
            }
            Expr::AtTimeZone {
                timestamp,
                time_zone,
            } => (time_zone.as_ref(), timestamp.as_ref()),
            Expr::BinaryOp { left, op, right } if is_short(expr) => {
                return self.shifted(left, op, right);
            }
            _ => return Ok(None),
        };
        let utc = self.text_of(zone)?;
        let utc = utc.is_some_and(|zone| zone.eq_ignore_ascii_case("utc"));
        let of = if utc { self.asked(of)? } else { None };
        let now = Timed::from(Moment::Timestamptz);
        Ok(of.and_then(|of| {
            if of.timed == now {
                Some(Moment::Utc.into())
            } else {
                of.then(TimeStep::utc(), Vec::new())
            }
        }))
    }

    /// An operand that is such a time, or a time that is given.
    fn asked(&self, expr: &Expr) -> Result<Option<Box<Asked>>, Refusal> {
        Ok(match self.operand(expr)? {
            Some(operand) => self.begun(operand),
            None => None,
        })
    }

    fn begun(&self, operand: Operand) -> Option<Box<Asked>> {
        match (operand.what, operand.cast) {
            (What::Asked(asked), _) => Some(asked),
            (What::Param(param, token), cast) => {
                let logical = match cast {
                    Cast::To(to) => Some(to),
                    // What the client declared.
                    Cast::None => self.parameter_type(param, &cast).unwrap_or(None),
                    Cast::Read(_) | Cast::Array(_) | Cast::Other(_) => None,
                };
                let given = Given { param, token, cast };
                { logical.filter(|logical| is_time(*logical)) }.map(|logical| {
                    Box::new(Asked {
                        timed: Start::Param(param, logical).into(),
                        params: vec![given],
                    })
                })
            }
            (What::Literal(literal), Cast::To(to)) if literal.logical.is_none() && is_time(to) => {
                let read = to.input(literal.text.as_bytes(), &self.view.format);
                // `'now'` is the server's to know.
                let known = !read.as_ref().is_err_and(InputError::is_unsupported);
                known.then(|| Start::Literal(Box::new(read), to).into())
            }
            _ => None,
        }
    }

    /// What is added may be computed of a time again, and is read more than once: so many steps and no more are read of one
    /// time, whatever stands in it.
    fn shifted(
        &self,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
    ) -> Result<Option<Box<Asked>>, Refusal> {
        let around = self.steps_left.get();
        let Some(left_then) = around.unwrap_or(MOST_STEPS).checked_sub(1) else {
            return Ok(None);
        };
        self.steps_left.set(Some(left_then));
        let made = self.shifted_once(left, op, right);
        if around.is_none() {
            self.steps_left.set(None);
        }
        made
    }

    /// `now() - interval '1 day'`, `CURRENT_DATE + 30`: with what is given as a literal or a parameter. The server must not
    /// see it beside the time at which it was asked.
    fn shifted_once(
        &self,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
    ) -> Result<Option<Box<Asked>>, Refusal> {
        let back = match op {
            BinaryOperator::Plus => false,
            BinaryOperator::Minus => true,
            _ => return Ok(None),
        };
        let (asked, by) = match self.asked(left)? {
            Some(asked) => (asked, right),
            None if back => return Ok(None),
            None => match self.asked(right)? {
                Some(asked) => (asked, left),
                None => return Ok(None),
            },
        };
        let step = self.step(by, back, asked.timed.logical())?;
        Ok(step.and_then(|(step, params)| asked.then(step, params)))
    }
}

/// Whether a time of this type is computed with.
fn is_time(logical: LogicalType) -> bool {
    use LogicalType::{Date, Time, Timestamp, Timestamptz};
    matches!(
        logical,
        Date | Time(None) | Timestamp(None) | Timestamptz(None)
    )
}

/// `CURRENT_TIMESTAMP` and its like.
fn keyword(function: &Function) -> Option<Moment> {
    let [ObjectNamePart::Identifier(word)] = function.name.0.as_slice() else {
        return None;
    };
    if word.quote_style.is_some() || function.over.is_some() || function.filter.is_some() {
        return None;
    }
    Some(match word.value.to_ascii_lowercase().as_str() {
        "current_timestamp" => Moment::Timestamptz,
        "localtimestamp" => Moment::Timestamp,
        "current_date" => Moment::Date,
        "current_time" => Moment::Timetz,
        "localtime" => Moment::Time,
        "current_user" | "user" => Moment::CurrentUser,
        "session_user" => Moment::SessionUser,
        _ => return None,
    })
}

/// What a cast makes of one.
pub(super) fn cast(timed: Timed, to: LogicalType) -> Option<Timed> {
    use LogicalType::{Date, Text, Time, Timestamp, Timestamptz, Timetz, Varchar};
    if !timed.steps.is_empty() {
        return timed.then(TimeStep::cast(to));
    }
    let Some(moment) = timed.start.moment() else {
        return timed.then(TimeStep::cast(to));
    };
    Some(match (moment, to) {
        (Moment::Timestamptz, Timestamptz(None))
        | (Moment::Timestamp | Moment::Utc, Timestamp(None))
        | (Moment::Date, Date)
        | (Moment::Timetz, Timetz(None))
        | (Moment::Time, Time(None))
        | (Moment::CurrentUser | Moment::SessionUser, Text | Varchar(None)) => timed,
        (Moment::Timestamptz, Timestamp(None)) => Moment::Timestamp.into(),
        (Moment::Timestamptz | Moment::Timestamp, Date) => Moment::Date.into(),
        (Moment::Timestamptz | Moment::Timestamp, Time(None)) => Moment::Time.into(),
        (Moment::Timestamptz, Timetz(None)) => Moment::Timetz.into(),
        _ => return timed.then(TimeStep::cast(to)),
    })
}

/// The question for the moments that some slots need, if any do.
pub(super) fn question(slots: &[plan::Slot]) -> Option<ScopeQuery> {
    let mut moments = Vec::new();
    for slot in slots {
        if let plan::Operand::Moment(timed) = &slot.operand
            && let Some(moment) = timed.start.moment()
            && !moments.contains(&moment)
        {
            moments.push(moment);
        }
    }
    if moments.is_empty() {
        return None;
    }
    let columns: Vec<&str> = moments.iter().map(|moment| moment.sql()).collect();
    Some(ScopeQuery {
        sql: Zeroizing::new(format!("SELECT {}", columns.join(", "))),
        params: Vec::new(),
        declared: Vec::new(),
        plan: Arc::new(Plan::default()),
        columns: vec![LogicalType::Text; moments.len()],
        most: 1,
        asks_security: false,
        moments,
        statement: 0,
    })
}
