//! Values that only the server knows, and that stay the same for all of a transaction: its time, and who asks. They are
//! operands like parameters; the server is asked for them in the statement's own transaction (decision 138).

use std::sync::Arc;

use sqlparser::ast::{Expr, Function, FunctionArguments, ObjectNamePart};
use zeroize::Zeroizing;

use super::{
    Analyser,
    from::unnamed,
    operand::{Cast, Operand, What},
};
use crate::{
    Refusal,
    plan::{self, Moment, Plan, ScopeQuery},
    types::LogicalType,
};

impl Analyser<'_> {
    /// Reads an expression as such an operand.
    pub(super) fn moment(&self, expr: &Expr) -> Result<Option<Operand>, Refusal> {
        // In a definition it is to be another one whenever it is looked at.
        if self.stored || self.in_body {
            return Ok(None);
        }
        let Some(moment) = self.moment_of(expr)? else {
            return Ok(None);
        };
        Ok(self.tokens.extent(expr).ok().map(|extent| Operand {
            what: What::Asked(moment),
            cast: Cast::To(moment.logical()),
            common: None,
            extent,
        }))
    }

    fn moment_of(&self, expr: &Expr) -> Result<Option<Moment>, Refusal> {
        let (zone, of) = match expr {
            Expr::Nested(inner) => return self.moment_of(inner),
            Expr::Function(function) => {
                let list = match &function.args {
                    FunctionArguments::None => return Ok(keyword(function)),
                    FunctionArguments::List(list) if list.args.len() != 1 => list,
                    FunctionArguments::List(_) | FunctionArguments::Subquery(_) => return Ok(None),
                };
                let name = self.plain_call(function).unwrap_or_default();
                match (name.as_str(), unnamed(&list.args).as_deref()) {
                    ("now" | "transaction_timestamp", Some([])) => {
                        return Ok(Some(Moment::Timestamptz));
                    }
                    ("timezone", Some([zone, of])) => (*zone, *of),
                    _ => return Ok(None),
                }
            }
            Expr::AtTimeZone {
                timestamp,
                time_zone,
            } => (time_zone.as_ref(), timestamp.as_ref()),
            _ => return Ok(None),
        };
        let utc = self.text_of(zone)?;
        let utc = utc.is_some_and(|zone| zone.eq_ignore_ascii_case("utc"));
        let of = if utc { self.moment_of(of)? } else { None };
        Ok((of == Some(Moment::Timestamptz)).then_some(Moment::Utc))
    }
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
pub(super) fn cast(moment: Moment, to: LogicalType) -> Option<Moment> {
    use LogicalType::{Date, Text, Time, Timestamp, Timestamptz, Timetz, Varchar};
    Some(match (moment, to) {
        (Moment::Timestamptz, Timestamptz(None))
        | (Moment::Timestamp | Moment::Utc, Timestamp(None))
        | (Moment::Date, Date)
        | (Moment::Timetz, Timetz(None))
        | (Moment::Time, Time(None))
        | (Moment::CurrentUser | Moment::SessionUser, Text | Varchar(None)) => moment,
        (Moment::Timestamptz, Timestamp(None)) => Moment::Timestamp,
        (Moment::Timestamptz | Moment::Timestamp, Date) => Moment::Date,
        (Moment::Timestamptz | Moment::Timestamp, Time(None)) => Moment::Time,
        (Moment::Timestamptz, Timetz(None)) => Moment::Timetz,
        _ => return None,
    })
}

/// The question for the moments that some slots need, if any do.
pub(super) fn question(slots: &[plan::Slot]) -> Option<ScopeQuery> {
    let mut moments = Vec::new();
    for slot in slots {
        if let plan::Operand::Moment(moment) = slot.operand
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
        asks_security: false,
        moments,
        statement: 0,
    })
}
