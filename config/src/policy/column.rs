//! `[table.column.NAME]`: one protected column. Its type is looked up by `pgveil-policy`, not here.

use crate::{
    Position,
    fields::{Fields, Found},
    form::Form,
    known::{Key, Kind, Need, Section, Shape, Support, Word},
    reader::Reader,
    value::Value,
};

use super::name;

/// One `[table.column.NAME]`.
#[derive(Clone, Debug)]
pub struct ColumnRule {
    /// Column name, as the catalog spells it.
    pub name: String,
    /// The logical type as written, for example `varchar(11)`.
    pub logical_type: String,
    /// Where `type` stands.
    pub type_at: Position,
    /// `search = [...]`.
    pub search: Searches,
    /// `search_key = "scope" | "shared"`.
    pub search_key: SearchKey,
    /// `equality_group = "emails"`: columns of one group have comparable equality terms.
    pub equality_group: Option<String>,
    /// `reveal = [...]`; `None`: every role sees plaintext.
    pub reveal: Option<Vec<String>>,
    /// `mask = {...}`: what the other roles see.
    pub mask: Mask,
    /// Where the entry stands.
    pub at: Position,
}

/// What Postgres may compute on a column. (`match` and `order` are refused as "not supported yet".)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Searches {
    /// `=`, `<>`, IN, DISTINCT, GROUP BY, UNIQUE, joins.
    pub equality: bool,
}

/// Which index key makes a column's search terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SearchKey {
    /// The row's scope: terms of two tenants do not match.
    #[default]
    Scope,
    /// One key for all scopes (the platform's): one query matches across tenants.
    Shared,
}

/// What a role that may not see a value gets instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mask {
    /// NULL.
    #[default]
    Null,
    /// `{ keep_last = n }`: every character but the last n becomes `*`.
    KeepLast(u32),
    /// `{ keep_first = n }`.
    KeepFirst(u32),
}

pub(super) static SECTION: Section = Section {
    name: "column",
    header: "[table.column.NAME]",
    shape: Shape::Named,
    support: Support::Since("0.1"),
    meaning: "One protected column of the `[[table]]` above it. NAME is as the catalog spells it; an odd one stands in quotes: `[table.column.\"E-Mail\"]`.",
    keys: &[
        Key {
            name: "type",
            kind: Kind::Text(Form::Any),
            need: Need::Required("\"text\""),
            support: Support::Since("0.1"),
            meaning: "The logical type, which applications see: `bool`, `int2`, `int4`, `int8`, `float4`, `float8`, `numeric(p,s)`, `text`, `varchar(n)`, `bpchar(n)`, `bytea`, `date`, `time(p)`, `timetz(p)`, `timestamp(p)`, `timestamptz(p)`, `interval` with fields and precision, `uuid`, `json`, `jsonb`, `inet`, `cidr`, `macaddr`, `macaddr8`, an enum type of the database (`mood` in schema `public`, else `schema.name`), and arrays of these (`text[]`).",
        },
        Key {
            name: "search",
            kind: Kind::SomeOf(&SEARCHES),
            need: Need::Default("[]"),
            support: Support::Since("0.1"),
            meaning: "What Postgres may compute on the column. Each search leaks something about its values, so none is the default.",
        },
        Key {
            name: "search_key",
            kind: Kind::OneOf(&SEARCH_KEYS),
            need: Need::Default("\"scope\""),
            support: Support::Since("0.1"),
            meaning: "Which key makes the search terms.",
        },
        Key {
            name: "equality_group",
            kind: Kind::Text(Form::Any),
            need: Need::Optional("\"emails\""),
            support: Support::Since("0.1"),
            meaning: "Columns that name the same group can be compared with each other: joins, set operations, foreign keys. Which of their values are equal then shows. Without it, a column can be compared with itself and with literals and parameters.",
        },
        Key {
            name: "reveal",
            kind: Kind::Names("roles"),
            need: Need::Optional("[\"app\", \"billing\"]"),
            support: Support::Since("0.1"),
            meaning: "The roles that see plaintext; `[]` for none. Without it, every role does.",
        },
        Key {
            name: "mask",
            kind: Kind::Choice(&MASKS),
            need: Need::Optional("{ keep_last = 4 }"),
            support: Support::Since("0.1"),
            meaning: "What the roles that are not in `reveal` see. Without it, NULL.",
        },
    ],
    variants: &[],
    sections: &[],
};

static SEARCHES: [Word; 3] = [
    Word {
        word: "equality",
        support: Support::Since("0.1"),
        meaning: "`=`, `<>`, IN, DISTINCT, GROUP BY, UNIQUE, joins; leaks which values are equal",
    },
    Word {
        word: "match",
        support: Support::Later("remove \"match\"; without it LIKE on the column is refused"),
        meaning: "LIKE and ILIKE; leaks which pieces of text values share",
    },
    Word {
        word: "order",
        support: Support::Later(
            "remove \"order\"; without it ranges, ORDER BY, min and max on the column are refused",
        ),
        meaning: "ranges, ORDER BY, min, max; leaks the order of values",
    },
];

static SEARCH_KEYS: [Word; 2] = [
    Word {
        word: "scope",
        support: Support::Since("0.1"),
        meaning: "the row's scope: equal values of two tenants look different",
    },
    Word {
        word: "shared",
        support: Support::Since("0.1"),
        meaning: "one key for all scopes: one query matches across tenants, and equal values of two tenants look equal",
    },
];

/// No type has text as long as this many characters (1 GiB is the longest value).
const MAX_KEPT: u64 = 0x3FFF_FFFF;

static MASKS: [Key; 2] = [
    Key {
        name: "keep_last",
        kind: Kind::Count {
            min: 0,
            max: MAX_KEPT,
            why: "",
        },
        need: Need::Optional("4"),
        support: Support::Since("0.1"),
        meaning: "every character but the last n becomes `*`",
    },
    Key {
        name: "keep_first",
        kind: Kind::Count {
            min: 0,
            max: MAX_KEPT,
            why: "",
        },
        need: Need::Optional("4"),
        support: Support::Since("0.1"),
        meaning: "every character but the first n becomes `*`",
    },
];

pub(super) fn read(reader: &mut Reader<'_>, found: &Found<'_, '_>) -> ColumnRule {
    let fields = reader.section(found);
    // An empty name has been refused with every other section's.
    if let (Err(why), false) = (name::check(&found.name), found.name.is_empty()) {
        reader.report(
            fields.at,
            format!("NAME in [table.column.NAME] {why}"),
            "write the column's name as the catalog spells it",
        );
    }
    let search = Searches {
        equality: fields
            .words("search")
            .is_some_and(|words| words.iter().any(|w| w == "equality")),
    };
    refuse_idle_search_keys(reader, &fields, search);
    refuse_idle_mask(reader, &fields);
    ColumnRule {
        name: found.name.clone(),
        logical_type: fields.text("type").unwrap_or_default(),
        type_at: reader.position(fields.value_at("type")),
        search,
        search_key: search_key(&fields),
        equality_group: fields.text("equality_group"),
        reveal: fields.words("reveal"),
        mask: mask(&fields),
        at: reader.position(fields.at),
    }
}

fn search_key(fields: &Fields<'_, '_>) -> SearchKey {
    match fields.text("search_key").as_deref() {
        Some("shared") => SearchKey::Shared,
        _ => SearchKey::Scope,
    }
}

fn mask(fields: &Fields<'_, '_>) -> Mask {
    let Some(Value::Choice(key, kept)) = fields.get("mask") else {
        return Mask::Null;
    };
    match (*key, kept.as_ref()) {
        ("keep_last", Value::Count(kept)) => {
            Mask::KeepLast(u32::try_from(*kept).unwrap_or(u32::MAX))
        }
        ("keep_first", Value::Count(kept)) => {
            Mask::KeepFirst(u32::try_from(*kept).unwrap_or(u32::MAX))
        }
        _ => Mask::Null,
    }
}

/// A key about search terms of a column that has none is a misunderstanding.
fn refuse_idle_search_keys(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, search: Searches) {
    // If `search` is there but wrong, that is the finding.
    let wrong = fields.written("search").is_some() && fields.words("search").is_none();
    if search.equality || wrong || fields.spoiled("search") {
        return;
    }
    for key in ["search_key", "equality_group"] {
        if let Some(at) = fields.written(key) {
            let message = format!("`{key}`{} has no effect without `search`", fields.place);
            reader.report(
                at,
                message,
                format!("add `search = [\"equality\"]`, or remove `{key}`"),
            );
        }
    }
}

/// Who writes a mask believes that somebody sees it.
fn refuse_idle_mask(reader: &mut Reader<'_>, fields: &Fields<'_, '_>) {
    let reveals = fields.written("reveal").is_some() || fields.spoiled("reveal");
    if let (Some(at), false) = (fields.written("mask"), reveals) {
        let message = format!(
            "`mask`{} has no effect: without `reveal` every role sees plaintext",
            fields.place
        );
        let cure = "add `reveal = [...]` with the roles that see plaintext (`[]` for none), or remove `mask`";
        reader.report(at, message, cure);
    }
}
