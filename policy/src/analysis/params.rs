//! Slots and parameters: which client parameter becomes which server parameters, and what the client sees of it.
//! Plain uses keep their numbers; every further role gets a number of its own behind them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
};

use sqlparser::tokenizer::Token as Kind;

use super::{
    Analyser, Protocol,
    constant::family,
    operand::{Cast, Operand, What, check_blanks, check_types, keeps_value, unusable},
    refusals,
    term::is_text,
};
use crate::{
    Refusal,
    plan::{
        self, ClientParam, Make, Moment, Replacement, ScopePart, ServerParam, Slot, Start, Timed,
    },
    ruleset::Protected,
    text::Tokens,
    types::{Conversion, LogicalType},
};

/// Parameters are counted in sixteen bits.
const MAX_PARAMETERS: usize = u16::MAX as usize;

/// Slots among which equal ones are looked for: more of them stand in lists, where nothing tells them apart.
const MOST_COMPARED: usize = 64;

/// What a parameter is used for besides plain uses.
pub(super) struct Role {
    /// From 0.
    param: usize,
    /// Its token.
    token: usize,
    slot: usize,
    /// The column's type.
    column: LogicalType,
    /// The type by declaration or cast, if any.
    given: Option<LogicalType>,
    array: bool,
    make: Make,
    /// What it becomes by an explicit cast before anything else.
    cast: Option<LogicalType>,
    /// What is made of it is NULL exactly when it is.
    follows: bool,
    /// PostgreSQL finds its type here only when it has found those of all other uses.
    last: bool,
}

/// The parameters of a statement that is done.
#[derive(Default)]
pub(super) struct Parameters {
    pub(super) server: Vec<ServerParam>,
    pub(super) client: Vec<ClientParam>,
    /// Slots whose type the server is to find.
    pub(super) untold: Vec<usize>,
}

impl Analyser<'_> {
    /// Makes a slot in the place of an operand.
    pub(super) fn slot(
        &mut self,
        make: Make,
        what: plan::Operand,
        column: &Protected,
        scope: Vec<ScopePart>,
        operand: &Operand,
    ) -> Result<(), Refusal> {
        let mut given_as = Vec::new();
        let computed = matches!(operand.what, What::Applied { .. });
        let each = matches!(what, plan::Operand::SpelledEach(_));
        let spells = each || matches!(operand.what, What::Applied { spells: true, .. });
        // Of a text that is split the parameter is a text.
        let array = matches!(
            make,
            Make::EqualityTerms | Make::SealElements | Make::SealElementsPerScope
        ) && !matches!(what, plan::Operand::Split(..));
        if let What::Asked(asked) = &operand.what {
            let at = self.tokens.range(operand.extent.start).start;
            check_moment(&asked.timed, column, make, operand.common)
                .map_err(|refusal| refusal.at(at))?;
        }
        for used in operand.params() {
            let (param, token) = (used.param, used.token);
            let position = self.tokens.range(token).start;
            let cast = cast_before(operand, column.logical);
            if self.protocol == Protocol::Simple {
                let message = format!("there is no parameter ${}", param + 1);
                return Err(Refusal::new("42P02", "parameter-not-usable", message).at(position));
            }
            let given = if each {
                let given = self.array_parameter_type(param, &used.cast);
                given.map(|given| given.or(Some(LogicalType::Text)))
            } else if array {
                self.array_parameter_type(param, &used.cast)
            } else {
                // What the cast rounds is rounded when it is done.
                let named = match (cast, &used.cast) {
                    (Some(to), Cast::To(_)) => Cast::To(to.without_modifiers()),
                    (_, named) => named.clone(),
                };
                self.parameter_type(param, &named)
            };
            let among = |given| Self::given_among(param, operand, given, column.logical);
            let given = given
                .and_then(|given| match used.cast {
                    // Among others stands what is made of it.
                    _ if matches!(operand.what, What::Asked(_)) => Ok(given),
                    // Among others it is what it is read as; the client sends the text.
                    Cast::Read(to) => among(Some(to)).map(|_| given),
                    _ => among(given),
                })
                .map_err(|refusal| refusal.at(position))?;
            let judged = if spells || matches!(operand.what, What::Asked(_)) {
                None
            } else if computed {
                Some(LogicalType::Text)
            } else {
                cast.or(given)
            };
            if let Some(given) = judged {
                let why = if make.stores() {
                    Conversion::Assignment
                } else {
                    Conversion::Comparison
                };
                // PostgreSQL points at the operator.
                let before = token.saturating_sub(1);
                let operator = match self.tokens.kind(before) {
                    Kind::Eq | Kind::Neq => self.tokens.range(before).start,
                    _ => position,
                };
                check_types(given, column, why).map_err(|refusal| refusal.at(operator))?;
                if matches!(why, Conversion::Comparison) && operand.common.is_none() {
                    check_blanks(given, column).map_err(|refusal| refusal.at(position))?;
                }
                if let Cast::To(cast) = operand.cast {
                    check_types(cast, column, why).map_err(|refusal| refusal.at(position))?;
                }
            }
            given_as.push((param, token, given, cast));
        }
        let wanted = Slot {
            make,
            operand: what,
            column: column.id,
            scope,
            members: None,
            exact: make.stores() && self.exact,
        };
        let given = given_as.first().and_then(|(_, _, given, _)| *given);
        let follows = match &wanted.operand {
            plan::Operand::Computed(expression)
            | plan::Operand::Spelled(expression)
            | plan::Operand::Split(expression, _) => expression.follows_its_parameter(),
            plan::Operand::Moment(_) => false,
            _ => true,
        };
        let slot = self.made_before(&wanted, given).unwrap_or_else(|| {
            self.slots.push(wanted);
            self.slots.len() - 1
        });
        for (param, token, given, cast) in given_as {
            self.roles.push(Role {
                param,
                token,
                slot,
                column: match make {
                    Make::SealBare => column.logical.without_modifiers(),
                    _ => column.logical,
                },
                given,
                array,
                make,
                cast,
                follows,
                last: false,
            });
        }
        self.replace_operand(operand, Replacement::Slot(slot));
        Ok(())
    }

    /// The role of a parameter that is a JSON document.
    pub(super) fn document_role(
        &mut self,
        param: usize,
        token: usize,
        slot: usize,
        column: LogicalType,
    ) {
        self.roles.push(Role {
            param,
            token,
            slot,
            column,
            given: None,
            array: false,
            make: Make::SealMembers,
            cast: None,
            follows: true,
            last: false,
        });
    }

    /// The type of this parameter, a select item of INSERT's source, is found last: when all others of the source have theirs.
    pub(super) fn resolve_last(&mut self, token: usize) {
        let roles = self.roles.iter_mut();
        roles
            .filter(|role| role.token == token && role.given.is_none())
            .for_each(|role| role.last = true);
    }

    /// The slot that makes the same term already. In GROUP BY and ORDER BY the server tells by its parameter that an
    /// expression with it is the one in the select list.
    fn made_before(&self, wanted: &Slot, given: Option<LogicalType>) -> Option<usize> {
        let given_as = |slot| {
            let role = self.roles.iter().find(|role| role.slot == slot);
            role.and_then(|role| role.given)
        };
        if wanted.make.stores() || self.slots.len() > MOST_COMPARED {
            return None;
        }
        { self.slots.iter().enumerate() }
            .position(|(slot, made)| made == wanted && given_as(slot) == given)
    }

    /// The element type that an array parameter has by its declaration or cast.
    pub(super) fn array_parameter_type(
        &self,
        param: usize,
        cast: &Cast,
    ) -> Result<Option<LogicalType>, Refusal> {
        let declared = match self.oids.get(param).copied().unwrap_or(0) {
            0 | 705 => None,
            oid => Some(self.rules.catalog.element_of(oid).ok_or_else(|| {
                unusable(param, "it is not declared as an array that can be sealed")
            })?),
        };
        let cast = match cast {
            Cast::None => return Ok(declared),
            Cast::Array(element) if *element == element.without_modifiers() => *element,
            _ => {
                return Err(unusable(
                    param,
                    "it is cast to a type that cannot be sealed",
                ));
            }
        };
        match declared {
            Some(declared) if !(declared.comparable_with(cast) || keeps_value(declared, cast)) => {
                Err(unusable(
                    param,
                    "it is declared with another type than it is cast to",
                ))
            }
            _ => Ok(Some(declared.unwrap_or(cast))),
        }
    }

    /// The type in which a parameter arrives, as far as the client or the columns that it was used for so far tell.
    pub(super) fn arriving_oid(&self, param: usize) -> u32 {
        match self.oids.get(param).copied().unwrap_or(0) {
            0 | 705 => {
                let role = self.roles.iter().find(|role| role.param == param);
                let array = role.is_some_and(|role| role.array);
                let arrives = role.map(Role::arrives);
                let oid = |logical: LogicalType| {
                    if array {
                        logical.array_oid()
                    } else {
                        logical.oid()
                    }
                };
                arrives.map_or(0, oid)
            }
            declared => declared,
        }
    }

    /// Numbers all parameters, when every use is known.
    pub(super) fn parameters(&mut self) -> Result<Parameters, Refusal> {
        if self.protocol == Protocol::Simple {
            return Ok(Parameters::default());
        }
        let roles = std::mem::take(&mut self.roles);
        let sealed: HashSet<usize> = roles.iter().map(|role| role.token).collect();
        let from_params: HashSet<usize> = roles.iter().map(|role| role.slot).collect();
        let mut by_param: BTreeMap<usize, (Vec<usize>, Vec<&Role>)> = BTreeMap::new();
        let mut count = self.oids.len();
        for token in self.placeholders(0..self.tokens.len()).collect::<Vec<_>>() {
            let param = self.parameter(token)?;
            count = count.max(param + 1);
            if !sealed.contains(&token) {
                by_param.entry(param).or_default().0.push(token);
            }
        }
        for role in &roles {
            by_param.entry(role.param).or_default().1.push(role);
        }
        let mut parameters = Parameters::default();
        let mut further = Vec::new();
        for param in 0..count {
            let (mut plain, roles) = by_param.remove(&param).unwrap_or_default();
            let untyped = matches!(self.oids.get(param).copied().unwrap_or(0), 0 | 705);
            let bare = self.test_sealed(param, &mut plain, &roles)?;
            if let Some(slot) = bare.filter(|_| untyped && plain.is_empty()) {
                parameters.untold.push(slot);
            }
            let mut slots: Vec<usize> = roles.iter().map(|role| role.slot).collect();
            let mut met = HashSet::new();
            slots.retain(|slot| met.insert(*slot));
            let mut slots = slots.into_iter();
            let first = if plain.is_empty() { slots.next() } else { None };
            parameters
                .server
                .push(first.map_or(ServerParam::Client(param), ServerParam::Slot));
            further.extend(slots);
            let client = self.client_parameter(param, &plain, &roles)?;
            parameters.client.push(client);
        }
        further.extend((0..self.slots.len()).filter(|slot| !from_params.contains(slot)));
        parameters
            .server
            .extend(further.into_iter().map(ServerParam::Slot));
        if parameters.server.len() > MAX_PARAMETERS {
            return Err(too_many());
        }
        self.retype_scopes(&roles)?;
        Ok(parameters)
    }

    /// `$1 IS NULL OR email = $1`: what is made of the parameter is NULL when it is, so that its plaintext need not be
    /// sent for the test. Such uses are plain no longer. Returns the slot if nothing but its terms tells its type.
    fn test_sealed(
        &mut self,
        param: usize,
        plain: &mut Vec<usize>,
        roles: &[&Role],
    ) -> Result<Option<usize>, Refusal> {
        let Some(first) = roles.first() else {
            return Ok(None);
        };
        let Some(role) = roles.iter().find(|role| role.follows) else {
            if plain.iter().any(|token| self.null_tested(*token).is_some()) {
                return Err(unusable(param, "it is computed with and tested for NULL"));
            }
            return Ok(None);
        };
        let (mut tested, mut cast) = (false, false);
        let uses: Vec<usize> = { plain.iter().copied() }
            .chain(roles.iter().map(|role| role.token))
            .collect();
        let (mut bare_tests, mut cast_tests) = (Vec::new(), Vec::new());
        plain.retain(|token| {
            let Some(extent) = self.null_tested(*token) else {
                return true;
            };
            tested = true;
            let is_cast = extent.clone().any(|at| {
                matches!(self.tokens.kind(at), Kind::DoubleColon) || self.tokens.is_word(at, "cast")
            });
            cast |= is_cast;
            if is_cast {
                cast_tests.push(*token);
            } else {
                bare_tests.push(*token);
            }
            let bytes = self.tokens.bytes(&extent);
            self.edits.replace(bytes, Replacement::Slot(role.slot));
            false
        });
        self.check_cast_tests(param, &cast_tests, roles)?;
        let terms = |role: &&Role| !role.make.stores() && role.slot == first.slot;
        let slot = (tested && !cast && roles.iter().all(terms)).then_some(role.slot);
        // The server itself finds out where it sees them all.
        if slot.is_none() || !plain.is_empty() {
            self.check_tests(param, &bare_tests, &uses)?;
        }
        Ok(slot)
    }

    /// A parameter with its casts and brackets, if it is only tested for NULL.
    pub(super) fn null_tested(&self, token: usize) -> Option<Range<usize>> {
        let tokens = self.tokens;
        let (mut start, mut end) = (token, token + 1);
        loop {
            let opened = start > 0 && matches!(tokens.kind(start - 1), Kind::LParen);
            let closed = matches!(tokens.kind(end), Kind::RParen);
            let cast = start > 1 && opened && tokens.is_word(start - 2, "cast");
            let named = tokens.type_end(end + 1);
            if let (Kind::DoubleColon, Some(behind)) = (tokens.kind(end), named) {
                end = behind;
            } else if cast && tokens.is_word(end, "as") {
                let close = named.filter(|at| matches!(tokens.kind(*at), Kind::RParen))?;
                (start, end) = (start - 2, close + 1);
            } else if opened && closed && (start < 2 || is_no_call(tokens, start - 2)) {
                (start, end) = (start - 1, end + 1);
            } else {
                break;
            }
        }
        let tested = tokens.are_words(end, &["is", "null"])
            || tokens.are_words(end, &["is", "not", "null"])
            || tokens.is_word(end, "isnull")
            || tokens.is_word(end, "notnull");
        tested.then_some(start..end)
    }

    /// What the client sees of a parameter, and what its plain uses must say for the server to see the same.
    fn client_parameter(
        &mut self,
        param: usize,
        plain: &[usize],
        roles: &[&Role],
    ) -> Result<ClientParam, Refusal> {
        let Some(first) = roles.first() else {
            return Ok(ClientParam::Server(param));
        };
        if roles.iter().any(|role| role.array != first.array) {
            return Err(unusable(
                param,
                "it is used both as an array and as a single value",
            ));
        }
        let told = !matches!(self.oids.get(param).copied().unwrap_or(0), 0 | 705);
        // Where it is first used, its type is found, if anything there tells it.
        let earliest = roles.iter().min_by_key(|role| role.token);
        let typed = earliest.filter(|role| role.given.is_some() && !told && !role.array);
        let arrives = typed.unwrap_or(first).arrives();
        for role in roles {
            if role.arrives() != arrives && !role.arrives().comparable_with(arrives) {
                return Err(unusable(param, "it is used for columns of different types"));
            }
            let both_stored = role.make.stores() && first.make.stores();
            // By an explicit cast it is made of what it arrived as.
            let follows = typed.is_some() && (role.given.is_none() || is_text(role.arrives()));
            if both_stored && role.arrives() != arrives && !follows {
                return Err(inconsistent(param, arrives, role.arrives()));
            }
        }
        if let Some(last) = roles
            .iter()
            .find(|role| role.last && !told && typed.is_none())
            && let Some(other) = roles.iter().find(|role| role.arrives() != last.arrives())
        {
            return Err(inconsistent(param, other.arrives(), last.arrives()));
        }
        if let Some(to) = first.cast {
            let alike = |role: &&Role| role.cast == first.cast && role.arrives() == arrives;
            if !roles.iter().all(alike) || !plain.is_empty() {
                return Err(unusable(param, "it is used with a cast and without"));
            }
            return Ok(ClientParam::Cast { from: arrives, to });
        }
        if roles.iter().any(|role| role.cast.is_some()) {
            return Err(unusable(param, "it is used with a cast and without"));
        }
        if !told {
            let wanted = if first.array {
                Cast::Array(arrives)
            } else {
                Cast::To(arrives)
            };
            self.check_found(param, plain, roles, &wanted)?;
        }
        let bare = first.column.without_modifiers();
        let stored_as_is = roles
            .iter()
            .all(|role| role.column == first.column && role.make.stores());
        let compared_as_is = roles.iter().all(|role| role.column == bare);
        let client = match first.array {
            true => ClientParam::Array(arrives),
            false if arrives == bare && (stored_as_is || compared_as_is) => {
                ClientParam::Logical(first.column)
            }
            false => ClientParam::Converted { from: arrives },
        };
        self.cast_plain_uses(param, plain, first.array, arrives);
        Ok(client)
    }

    /// `$1 IS NULL OR email = $1`: the server no longer sees the use that told it the type.
    fn cast_plain_uses(
        &mut self,
        param: usize,
        plain: &[usize],
        array: bool,
        arrives: LogicalType,
    ) {
        if plain.is_empty() {
            return;
        }
        self.note(format!(
            "${} is used both for a protected column and elsewhere.",
            param + 1
        ));
        if !matches!(self.oids.get(param).copied().unwrap_or(0), 0 | 705) {
            return;
        }
        let suffix = if array { "[]" } else { "" };
        for token in plain {
            let range = self.tokens.range(*token);
            self.edits.open(range.start, "(");
            // A column is named after a cast, but not after a parameter.
            let name = if self.is_item(*token) {
                " AS \"?column?\""
            } else {
                ""
            };
            let type_name = arrives.sql_name();
            self.edits
                .close(range.end, format!("::{type_name}{suffix}){name}"));
        }
    }

    /// A parameter that is both sealed and part of a scope arrives in one type only.
    fn retype_scopes(&mut self, roles: &[Role]) -> Result<(), Refusal> {
        let arriving: HashMap<usize, &Role> =
            roles.iter().rev().map(|role| (role.param, role)).collect();
        for part in self.slots.iter_mut().flat_map(Slot::parts_mut) {
            if let ScopePart::Element(plan::Operand::Param(param), _) = part
                && arriving.contains_key(param)
            {
                return Err(unusable(
                    *param,
                    "it is used both for a protected column and for a scope column",
                ));
            }
            if let ScopePart::Row(plan::Operand::Param(param), logical) = part
                && let Some(role) = arriving.get(param)
            {
                if role.array || role.cast.is_some() || family(*logical) != family(role.arrives()) {
                    return Err(unusable(
                        *param,
                        "it is used both for a protected column and for a scope column of another type",
                    ));
                }
                // A length stays: what is stored is cut to it.
                if *logical == logical.without_modifiers() {
                    *logical = role.arrives();
                }
            }
        }
        Ok(())
    }
}

impl Role {
    /// Its token.
    pub(super) fn token(&self) -> usize {
        self.token
    }

    /// Whether it is an array.
    pub(super) fn is_array(&self) -> bool {
        self.array
    }

    /// Whether PostgreSQL finds its type as soon as it comes to it: by a cast, or an operator right beside it.
    pub(super) fn tells_at_once(&self, tokens: &Tokens<'_>) -> bool {
        let at = self.token;
        let compares = |at: usize| matches!(tokens.kind(at), Kind::Eq | Kind::Neq);
        let before = |steps: usize| at >= steps && compares(at - steps);
        let cast = matches!(tokens.kind(at + 1), Kind::DoubleColon)
            || (at > 1 && tokens.is_word(at - 2, "cast") && tokens.is_word(at + 1, "as"));
        let any = self.array
            && at > 1
            && (tokens.is_word(at - 2, "any") || tokens.is_word(at - 2, "all"));
        let alone = !self.make.stores() && (before(1) || compares(at + 1) || (any && before(3)));
        alone || (cast && self.given.is_some())
    }

    /// The type in which the client sends it.
    pub(super) fn arrives(&self) -> LogicalType {
        let compared = if self.make.stores() {
            self.column.without_modifiers()
        } else {
            self.column.operand()
        };
        self.given.unwrap_or(compared)
    }
}

/// The explicit cast that is done before a parameter is stored or compared: one that reads a text, or one to the column's
/// own type, whose rounding is that of an assignment.
fn cast_before(operand: &Operand, column: LogicalType) -> Option<LogicalType> {
    match operand.cast {
        Cast::Read(to) => Some(to),
        Cast::To(to) if to == column && to != to.without_modifiers() && !to.is_string() => Some(to),
        _ => None,
    }
}

/// Whether what the server says of itself may be stored or compared.
fn check_moment(
    timed: &Timed,
    column: &Protected,
    make: Make,
    common: Option<LogicalType>,
) -> Result<(), Refusal> {
    let given = timed.logical();
    let user = matches!(
        timed.start,
        Start::Asked(Moment::CurrentUser | Moment::SessionUser)
    );
    if user && !is_text(column.logical) || common.is_some_and(|common| common != given) {
        return Err(refusals::not_constant(column));
    }
    let why = if make.stores() {
        Conversion::Assignment
    } else {
        Conversion::Comparison
    };
    check_types(given, column, why)
}

fn inconsistent(param: usize, first: LogicalType, then: LogicalType) -> Refusal {
    let message = format!("inconsistent types deduced for parameter ${}", param + 1);
    let detail = format!("{} versus {}", first.sql_name(), then.sql_name());
    Refusal::new("42P08", "parameter-not-usable", message).detail(detail)
}

/// Whether a bracket behind this token only groups.
fn is_no_call(tokens: &Tokens<'_>, at: usize) -> bool {
    const BEFORE: [&str; 12] = [
        "where", "and", "or", "not", "when", "on", "having", "select", "then", "else", "by", "case",
    ];
    !matches!(tokens.kind(at), Kind::Word(_)) || BEFORE.iter().any(|word| tokens.is_word(at, word))
}

fn too_many() -> Refusal {
    Refusal::unsupported("statement-too-complex", "the statement needs more parameters than the protocol can carry")
        .detail(format!("Every value for a protected column is a parameter of its own; there can be {MAX_PARAMETERS}."))
        .hint("Send fewer rows in one statement.")
}
