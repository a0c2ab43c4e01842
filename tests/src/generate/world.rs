//! The tables, columns, rows and values that statements are made of.

/// The types that the generator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Int,
    Text,
    Varchar,
    Numeric,
    Date,
    Bool,
    Uuid,
    Timestamptz,
    Bpchar,
    Jsonb,
    Bigint,
    Timestamp,
    Time,
    Float,
    Json,
    Mood,
}

/// Those of which a query can be made anywhere; the others are the columns' of `pairs`.
pub(super) const TYPES: [Type; 10] = [
    Type::Text,
    Type::Int,
    Type::Varchar,
    Type::Numeric,
    Type::Date,
    Type::Bool,
    Type::Uuid,
    Type::Timestamptz,
    Type::Bpchar,
    Type::Jsonb,
];

impl Type {
    /// The name to cast to.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Text => "text",
            Self::Varchar => "varchar(11)",
            Self::Numeric => "numeric(12,2)",
            Self::Date => "date",
            Self::Bool => "bool",
            Self::Uuid => "uuid",
            Self::Timestamptz => "timestamptz",
            Self::Bpchar => "bpchar(6)",
            Self::Jsonb => "jsonb",
            Self::Bigint => "bigint",
            Self::Timestamp => "timestamp",
            Self::Time => "time",
            Self::Float => "float8",
            Self::Json => "json",
            Self::Mood => "mood",
        }
    }

    /// What a client can declare a parameter of it as; an enum has no fixed number.
    pub(super) fn oid(self) -> u32 {
        match self {
            Self::Int => 23,
            Self::Text => 25,
            Self::Varchar => 1043,
            Self::Numeric => 1700,
            Self::Date => 1082,
            Self::Bool => 16,
            Self::Uuid => 2950,
            Self::Timestamptz => 1184,
            Self::Bpchar => 1042,
            Self::Jsonb => 3802,
            Self::Bigint => 20,
            Self::Timestamp => 1114,
            Self::Time => 1083,
            Self::Float => 701,
            Self::Json => 114,
            Self::Mood => 0,
        }
    }

    /// The same without a length, which a cast of a parameter would apply.
    pub(super) fn bare(self) -> &'static str {
        match self {
            Self::Varchar => "varchar",
            Self::Numeric => "numeric",
            Self::Bpchar => "bpchar",
            other => other.sql(),
        }
    }

    /// Values, of which the tables hold most.
    pub(super) fn values(self) -> &'static [&'static str] {
        match self {
            Self::Int => &["36", "41", "0", "7", "-1", "2147483647"],
            Self::Text => &[
                "ada@example.com",
                "bob@example.com",
                "",
                "Ünïcödé's",
                "nobody",
                "a\\'b",
            ],
            Self::Varchar => &["111-11-1111", "222-22-2222", "", "a'b", "x"],
            Self::Numeric => &["1200.50", "0.00", "-7.10", "99.99", "1200.5"],
            Self::Date => &["1815-12-10", "1970-01-01", "infinity", "2024-02-29"],
            Self::Bool => &["true", "false", "t"],
            Self::Uuid => &[
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            ],
            Self::Timestamptz => &[
                "2024-02-29 12:34:56.789+00",
                "2001-09-09 01:46:40+02",
                "infinity",
            ],
            Self::Bpchar => &["AB", "CD    ", "", "abcdef"],
            Self::Jsonb | Self::Json => &["{\"vip\": true}", "[]", "null", "\"text\""],
            Self::Bigint => &["36", "41", "5000000000", "-1"],
            Self::Timestamp => &["2024-02-29 12:34:56.789", "2024-02-29", "infinity"],
            Self::Time => &["12:34:56.789", "00:00", "24:00"],
            Self::Float => &["1200.5", "0.1", "36", "NaN"],
            Self::Mood => &["sad", "ok", ""],
        }
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Bigint | Self::Numeric | Self::Float)
    }

    pub(super) fn is_day(self) -> bool {
        matches!(self, Self::Date | Self::Timestamp | Self::Timestamptz)
    }

    /// Whether two values can be compared for equality by a search term.
    pub(super) fn has_equality(self) -> bool {
        !matches!(self, Self::Jsonb | Self::Json)
    }
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Type,
    /// Columns of one class can be compared: 0 are the plain ones.
    pub(super) class: u8,
}

/// A table. The first column is its key: an integer, never NULL, never protected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [Column],
    /// May be written.
    pub(super) writable: bool,
}

const fn column(name: &'static str, kind: Type) -> Column {
    Column {
        name,
        kind,
        class: 0,
    }
}

const fn sealed(name: &'static str, kind: Type, class: u8) -> Column {
    Column { name, kind, class }
}

const CUSTOMERS: [Column; 13] = [
    column("id", Type::Int),
    column("region", Type::Text),
    sealed("email", Type::Text, 1),
    sealed("ssn", Type::Varchar, 2),
    sealed("age", Type::Int, 3),
    sealed("balance", Type::Numeric, 4),
    sealed("born", Type::Date, 5),
    sealed("code", Type::Bpchar, 6),
    sealed("token", Type::Uuid, 7),
    sealed("active", Type::Bool, 8),
    sealed("seen", Type::Timestamptz, 9),
    sealed("notes", Type::Jsonb, 10),
    column("plain", Type::Text),
];

/// Of each type a protected column and one that is not.
const PAIRS: [Column; 31] = [
    column("id", Type::Int),
    sealed("s_text", Type::Text, 20),
    column("p_text", Type::Text),
    sealed("s_int", Type::Int, 21),
    column("p_int", Type::Int),
    sealed("s_big", Type::Bigint, 22),
    column("p_big", Type::Bigint),
    sealed("s_num", Type::Numeric, 23),
    column("p_num", Type::Numeric),
    sealed("s_var", Type::Varchar, 24),
    column("p_var", Type::Varchar),
    sealed("s_char", Type::Bpchar, 25),
    column("p_char", Type::Bpchar),
    sealed("s_date", Type::Date, 26),
    column("p_date", Type::Date),
    sealed("s_ts", Type::Timestamp, 27),
    column("p_ts", Type::Timestamp),
    sealed("s_tz", Type::Timestamptz, 28),
    column("p_tz", Type::Timestamptz),
    sealed("s_time", Type::Time, 29),
    column("p_time", Type::Time),
    sealed("s_uuid", Type::Uuid, 30),
    column("p_uuid", Type::Uuid),
    sealed("s_bool", Type::Bool, 31),
    column("p_bool", Type::Bool),
    sealed("s_float", Type::Float, 32),
    column("p_float", Type::Float),
    sealed("s_json", Type::Jsonb, 33),
    column("p_json", Type::Json),
    sealed("s_mood", Type::Mood, 34),
    column("p_mood", Type::Mood),
];

/// The table in which constants are used twice.
pub(super) const PAIRED: Table = Table {
    name: "pairs",
    columns: &PAIRS,
    writable: true,
};

/// All tables.
pub(super) const TABLES: [Table; 6] = [
    Table {
        name: "customers",
        columns: &CUSTOMERS,
        writable: true,
    },
    Table {
        name: "orders",
        columns: &[
            column("id", Type::Int),
            column("customer_id", Type::Int),
            sealed("customer_email", Type::Text, 1),
            sealed("total", Type::Numeric, 11),
            column("item", Type::Text),
        ],
        writable: true,
    },
    Table {
        name: "people",
        columns: &[
            column("id", Type::Int),
            column("mail", Type::Text),
            column("age", Type::Int),
        ],
        writable: true,
    },
    Table {
        name: "notes",
        columns: &[
            column("id", Type::Int),
            column("tenant_id", Type::Int),
            sealed("author", Type::Text, 12),
            sealed("body", Type::Text, 13),
            sealed("shared_author", Type::Text, 14),
        ],
        writable: true,
    },
    PAIRED,
    // A view that PostgreSQL writes through.
    Table {
        name: "buyers",
        columns: &[
            column("id", Type::Int),
            column("region", Type::Text),
            sealed("mail", Type::Text, 1),
            sealed("years", Type::Int, 3),
            column("plain", Type::Text),
        ],
        writable: true,
    },
];

/// Makes the tables, on either side.
pub const SCHEMA: &str = "
    CREATE TABLE customers (
        id int PRIMARY KEY, region text NOT NULL, email text UNIQUE, ssn varchar(11), age int4, balance numeric(12,2),
        born date, code bpchar(6), token uuid, active bool, seen timestamptz, notes jsonb, plain text
    );
    CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL, customer_email text, total numeric(12,2), item text);
    CREATE TABLE people (id int PRIMARY KEY, mail text, age int4);
    CREATE TABLE notes (id int PRIMARY KEY, tenant_id int NOT NULL, author text, body text, shared_author text);
    CREATE TYPE mood AS ENUM ('sad', 'ok', '');
    CREATE TABLE pairs (
        id int PRIMARY KEY, s_text text, p_text text, s_int int4, p_int int4, s_big int8, p_big int8, s_num numeric(12,2), p_num numeric(12,2),
        s_var varchar(11), p_var varchar(11), s_char bpchar(6), p_char bpchar(6), s_date date, p_date date, s_ts timestamp, p_ts timestamp,
        s_tz timestamptz, p_tz timestamptz, s_time time, p_time time, s_uuid uuid, p_uuid uuid, s_bool bool, p_bool bool,
        s_float float8, p_float float8, s_json jsonb, p_json json, s_mood mood, p_mood mood
    );
";

/// What is protected.
pub const POLICY: &str = r#"
public.customers  scope = "platform"
    email: text, search = ["equality"], equality_group = "emails"
    ssn: varchar(11), search = ["equality"]
    age: int4, search = ["equality"]
    balance: numeric(12,2), search = ["equality"]
    born: date, search = ["equality"]
    code: bpchar(6), search = ["equality"]
    token: uuid, search = ["equality"]
    active: bool, search = ["equality"]
    seen: timestamptz, search = ["equality"]
    notes: jsonb
public.orders  scope = "platform"
    customer_email: text, search = ["equality"], equality_group = "emails"
    total: numeric(12,2)
public.notes  scope = "tenant:{tenant_id}"
    author: text, search = ["equality"]
    body: text
    shared_author: text, search = ["equality"], search_key = "shared"
public.pairs  scope = "platform"
    s_text: text, search = ["equality"]
    s_int: int4, search = ["equality"]
    s_big: int8, search = ["equality"]
    s_num: numeric(12,2), search = ["equality"]
    s_var: varchar(11), search = ["equality"]
    s_char: bpchar(6), search = ["equality"]
    s_date: date, search = ["equality"]
    s_ts: timestamp, search = ["equality"]
    s_tz: timestamptz, search = ["equality"]
    s_time: time, search = ["equality"]
    s_uuid: uuid, search = ["equality"]
    s_bool: bool, search = ["equality"]
    s_float: float8, search = ["equality"]
    s_json: jsonb
    s_mood: mood, search = ["equality"]
"#;

/// The rows, written the way an application would.
pub const ROWS: &str = "
    INSERT INTO customers (id, region, email, ssn, age, balance, born, code, token, active, seen, notes, plain) VALUES
        (1, 'eu', 'ada@example.com', '111-11-1111', 36, 1200.50, '1815-12-10', 'AB',
            'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', true, '2024-02-29 12:34:56.789+00', '{\"vip\": true}', 'p1'),
        (2, 'eu', 'bob@example.com', '222-22-2222', 41, 0.00, '1970-01-01', 'CD    ',
            'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', false, '2001-09-09 01:46:40+02', '[]', 'p2'),
        (3, 'us', 'eve@example.com', '111-11-1111', 36, -7.10, '1815-12-10', 'AB',
            'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', true, '2024-02-29 13:34:56.789+01', '\"text\"', 'ada@example.com'),
        (4, 'us', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (5, 'us', 'Ünïcödé''s', '', 0, 99.99, '2024-02-29', '', NULL, false, 'infinity', 'null', ''),
        (6, 'apac', '', 'a''b', 2147483647, 1200.5, 'infinity', 'abcdef', NULL, NULL, '-infinity', '{}', 'p6');
    INSERT INTO orders VALUES
        (1, 1, 'ada@example.com', 10.00, 'pen'), (2, 1, 'ada@example.com', 20.00, 'ink'),
        (3, 2, 'bob@example.com', 30.00, 'pen'), (4, 9, 'nobody', NULL, 'paper'), (5, 4, NULL, 5.00, NULL);
    INSERT INTO people VALUES (1, 'ada@example.com', 36), (2, 'zoe@example.com', NULL), (3, NULL, 7);
    INSERT INTO notes VALUES
        (1, 10, 'ada@example.com', 'first', 'ada@example.com'), (2, 10, 'bob@example.com', 'second', 'nobody'),
        (3, 20, 'ada@example.com', 'third', 'ada@example.com'), (4, 20, NULL, NULL, NULL);
    INSERT INTO pairs VALUES
        (1, '36', '36', 36, 36, 36, 36, 36.00, 36.00, '36', '36', '36', '36', '2024-02-29', '2024-02-29',
            '2024-02-29', '2024-02-29', '2024-02-29 00:00+00', '2024-02-29 00:00+00', '12:34', '12:34',
            'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', true, true, 36, 36, '{}',
            '{}', 'sad', 'sad'),
        (2, '2024-02-29', '2024-02-29', 0, 0, 5000000000, 5000000000, 1200.50, 1200.50, 'x', 'x', 'AB', 'AB',
            '2024-02-29', '2024-02-29', '2024-02-29 12:34:56.789', '2024-02-29 12:34:56.789',
            '2024-02-29 12:34:56.789+00', '2024-02-29 12:34:56.789+00', '12:34:56.789', '12:34:56.789', NULL, NULL,
            false, false, 1200.5, 1200.5, '[]', '[]', '', ''),
        (3, 'AB', 'AB', NULL, NULL, NULL, NULL, NULL, NULL, 'AB  ', 'AB  ', 'AB  ', 'AB  ', NULL, NULL, NULL, NULL,
            NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (4, 'ok', 'ok', -1, -1, -1, -1, -7.10, -7.10, 'true', 'true', '', '', 'infinity', 'infinity', 'infinity',
            'infinity', 'infinity', 'infinity', '00:00', '00:00', NULL, NULL, true, true, 0.1, 0.1, '\"x\"', '\"x\"',
            'ok', 'ok');
    CREATE VIEW buyers AS SELECT id, region, email AS mail, age AS years, plain FROM customers WHERE id <> 3;
";
