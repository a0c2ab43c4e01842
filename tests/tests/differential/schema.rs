//! The tables, the policy and the rows that all statements run over.

pub(crate) const TABLES: &str = "
    CREATE TABLE customers (
        id int PRIMARY KEY,
        region text NOT NULL,
        email text UNIQUE,
        ssn varchar(11),
        age int4,
        balance numeric(12,2),
        born date,
        code bpchar(6),
        token uuid,
        active bool,
        seen timestamptz,
        notes jsonb,
        plain text
    );
    CREATE TABLE orders (
        id int PRIMARY KEY,
        customer_id int NOT NULL,
        customer_email text,
        total numeric(12,2),
        item text
    );
    CREATE TABLE public_people (id int PRIMARY KEY, email text, age int4);
    CREATE TABLE tenants_notes (
        id int PRIMARY KEY,
        tenant_id int NOT NULL,
        author text,
        body text,
        shared_author text
    );
    CREATE TABLE visits (
        id int PRIMARY KEY,
        at time(3),
        zoned timetz,
        span interval,
        host inet,
        net cidr UNIQUE,
        mac macaddr,
        tags text[],
        sizes int4[],
        prices numeric(8,2)[],
        days date[]
    );
    CREATE TABLE \"Odd Names\" (id int PRIMARY KEY, \"E Mail\" text, \"select\" text);
";

pub(crate) const POLICY: &str = r#"
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
public.tenants_notes  scope = "tenant:{tenant_id}"
    author: text, search = ["equality"]
    body: text
    shared_author: text, search = ["equality"], search_key = "shared"
public.visits  scope = "platform"
    at: time(3), search = ["equality"]
    zoned: timetz, search = ["equality"]
    span: interval, search = ["equality"]
    host: inet, search = ["equality"]
    net: cidr, search = ["equality"]
    mac: macaddr, search = ["equality"]
    tags: text[], search = ["equality"]
    sizes: int4[], search = ["equality"]
    prices: numeric(8,2)[], search = ["equality"]
    days: date[]
public."Odd Names"  scope = "platform"
    "E Mail": text, search = ["equality"]
    select: text
"#;

pub(crate) const ROWS: &str = "
    INSERT INTO customers (id, region, email, ssn, age, balance, born, code, token, active, seen, notes, plain) VALUES
        (1, 'eu', 'ada@example.com', '111-11-1111', 36, 1200.50, '1815-12-10', 'AB',
            'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', true, '2024-02-29 12:34:56.789+00', '{\"vip\": true, \"n\": [1, 2]}', 'p1'),
        (2, 'eu', 'bob@example.com', '222-22-2222', 41, 0.00, '1970-01-01', 'CD    ',
            'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', false, '2001-09-09 01:46:40+02', '[]', 'p2'),
        (3, 'us', 'eve@example.com', '111-11-1111', 36, -7.10, '1815-12-10', 'AB',
            'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', true, '2024-02-29 13:34:56.789+01', '\"text\"', 'ada@example.com'),
        (4, 'us', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (5, 'us', 'Ünïcödé@example.com', '', 0, 99999999.99, '0044-03-15 BC', '', NULL, false, 'infinity', 'null', ''),
        (6, 'apac', '', 'a''b', 2147483647, 1200.5, 'infinity', 'abcdef', NULL, NULL, '-infinity', '{}', 'p6');
    INSERT INTO orders VALUES
        (1, 1, 'ada@example.com', 10.00, 'pen'),
        (2, 1, 'ada@example.com', 20.00, 'ink'),
        (3, 2, 'bob@example.com', 30.00, 'pen'),
        (4, 9, 'nobody@example.com', NULL, 'paper'),
        (5, 4, NULL, 5.00, NULL);
    INSERT INTO visits VALUES
        (1, '10:00', '10:00+02', '1 day', '10.0.0.1', '10.0.0.0/8', '08:00:2b:01:02:03', '{a,b}', '{1,2}', '{1.5}', '{2024-02-29}'),
        (2, '10:00', '10:00+02', '24 hours', '10.0.0.1/32', '192.168.1.0/24', '08002b010203', '{a,b}', '{1,2}', '{1.50}', '{}'),
        (3, '24:00', '08:00+00', '-1 mon', '::1', '::/0', NULL, '{{a},{b}}', '[0:1]={1,2}', '{NULL,2}', '{infinity,NULL}'),
        (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    INSERT INTO public_people VALUES (1, 'ada@example.com', 36), (2, 'zoe@example.com', NULL);
    INSERT INTO tenants_notes VALUES
        (1, 10, 'ada', 'first', 'ada'), (2, 10, 'bob', 'second', 'bob'),
        (3, 20, 'ada', 'third', 'ada'), (4, 20, NULL, NULL, NULL);
    INSERT INTO \"Odd Names\" VALUES (1, 'odd@example.com', 'chosen'), (2, NULL, NULL);
";
