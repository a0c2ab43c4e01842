-- Schema pgveil: domains and functions for protected columns, and the keystore's tables.
-- Runs in one transaction, without superuser, on PostgreSQL 14 to 18. Names are qualified throughout and function
-- bodies are bound when they are made, so that no session's search_path changes what they mean. Whatever is there already
-- stays as it is, so that the same lines bring an earlier version's schema up to this one.

DO $$
BEGIN
    -- CREATE SCHEMA IF NOT EXISTS would ask for a right on the database even where an administrator made the schema.
    IF pg_catalog.to_regnamespace('pgveil') IS NULL THEN
        CREATE SCHEMA pgveil;
    END IF;
END
$$;
COMMENT ON SCHEMA pgveil IS 'pgveil: transparent encryption. Sealed column types, search functions, and the keystore (wrapped keys only).';

-- One domain per logical type. What a reader of \d sees as the column's type tells what applications see through pgveil.
-- No domain is named as a type of PostgreSQL's: clients that look a type up by its bare name would find the domain.
DO $$
DECLARE
    logical text;
    domain text;
    single text[] := ARRAY[
        'bool', 'int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'text', 'varchar', 'bpchar', 'bytea',
        'date', 'time', 'timetz', 'timestamp', 'timestamptz', 'interval', 'uuid', 'json', 'jsonb', 'inet', 'cidr', 'macaddr',
        'macaddr8'
    ];
BEGIN
    -- And one per array type: pgveil."sealed_text[]".
    FOREACH logical IN ARRAY single OPERATOR(pg_catalog.||) pg_catalog.string_to_array(
        pg_catalog.array_to_string(single, '[],') OPERATOR(pg_catalog.||) '[]', ',')
    LOOP
        domain := 'sealed_' OPERATOR(pg_catalog.||) logical;
        IF pg_catalog.to_regtype(pg_catalog.format('pgveil.%I', domain)) IS NULL THEN
            EXECUTE pg_catalog.format(
                'CREATE DOMAIN pgveil.%I AS pg_catalog.bytea CONSTRAINT sealed CHECK ('
                'pg_catalog.octet_length(VALUE) OPERATOR(pg_catalog.>=) 45 '
                'AND pg_catalog.substr(VALUE, 1, 4) OPERATOR(pg_catalog.=) ''\x50475601''::pg_catalog.bytea)',
                domain);
        END IF;
        EXECUTE pg_catalog.format('GRANT USAGE ON DOMAIN pgveil.%I TO PUBLIC', domain);
        EXECUTE pg_catalog.format(
            'COMMENT ON DOMAIN pgveil.%I IS %L', domain,
            'A value of type ' OPERATOR(pg_catalog.||) logical
            OPERATOR(pg_catalog.||) ', sealed by pgveil: readable and writable through pgveil only');
    END LOOP;
END
$$;

-- The second net under changes of search terms: a session that compares what has no term gets an error, never fewer rows.
CREATE OR REPLACE FUNCTION pgveil.no_term(sealed pg_catalog.bytea) RETURNS pg_catalog.bytea
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 1 AS $$
BEGIN
    RAISE EXCEPTION 'a sealed value has no equality term'
        USING ERRCODE = 'serialization_failure',
            HINT = 'The search terms of its column are being changed. Try again; if that does not help, see `pgveil plan`.';
END
$$;
COMMENT ON FUNCTION pgveil.no_term(pg_catalog.bytea) IS 'Raises an error: what is compared has no equality term';

CREATE OR REPLACE FUNCTION pgveil.eq_term(sealed pg_catalog.bytea) RETURNS pg_catalog.bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN pg_catalog.get_byte(sealed, 16) OPERATOR(pg_catalog.&) 1 OPERATOR(pg_catalog.=) 1
        THEN pg_catalog.substr(sealed, 18, 16)
        WHEN sealed IS NOT NULL THEN pgveil.no_term(sealed)
    END;
COMMENT ON FUNCTION pgveil.eq_term(pg_catalog.bytea) IS
    'The equality term of a sealed value: equal plaintexts of one column and key have equal terms. For indexes on protected columns';

-- The term of a number: while a column gets other terms, its values have two. Behind the sixteen bytes of a term without number
-- (bit 0) stands the first with one (bit 3), behind that the second (bit 4).
CREATE OR REPLACE FUNCTION pgveil.eq_term(number pg_catalog.int4, sealed pg_catalog.bytea) RETURNS pg_catalog.bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN pg_catalog.get_byte(sealed, 16) OPERATOR(pg_catalog.&) 9 OPERATOR(pg_catalog.=) 8
            AND pg_catalog.substr(sealed, 18, 4) OPERATOR(pg_catalog.=) pg_catalog.int4send(number)
        THEN pg_catalog.substr(sealed, 22, 16)
        WHEN pg_catalog.get_byte(sealed, 16) OPERATOR(pg_catalog.&) 9 OPERATOR(pg_catalog.=) 9
            AND pg_catalog.substr(sealed, 34, 4) OPERATOR(pg_catalog.=) pg_catalog.int4send(number)
        THEN pg_catalog.substr(sealed, 38, 16)
        WHEN pg_catalog.get_byte(sealed, 16) OPERATOR(pg_catalog.&) 24 OPERATOR(pg_catalog.=) 24
            AND pg_catalog.substr(sealed, 38, 4) OPERATOR(pg_catalog.=) pg_catalog.int4send(number)
        THEN pg_catalog.substr(sealed, 42, 16)
        WHEN sealed IS NOT NULL THEN pgveil.no_term(sealed)
    END;
COMMENT ON FUNCTION pgveil.eq_term(pg_catalog.int4, pg_catalog.bytea) IS
    'The equality term of this number of a sealed value: once its index key was rotated, a column''s terms have a number';

CREATE OR REPLACE FUNCTION pgveil.keep_first(kept pg_catalog.bytea, next pg_catalog.bytea) RETURNS pg_catalog.bytea
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN kept;
COMMENT ON FUNCTION pgveil.keep_first(pg_catalog.bytea, pg_catalog.bytea) IS 'Transition function of pgveil.any_value';

CREATE OR REPLACE AGGREGATE pgveil.any_value(pg_catalog.bytea) (
    SFUNC = pgveil.keep_first,
    STYPE = pg_catalog.bytea,
    COMBINEFUNC = pgveil.keep_first,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE pgveil.any_value(pg_catalog.bytea) IS
    'One of the values of a group, NULL if all are: pgveil uses it where it groups by an equality term';

CREATE TABLE IF NOT EXISTS pgveil.meta (
    name  text PRIMARY KEY,
    value text NOT NULL
);
COMMENT ON TABLE pgveil.meta IS 'The version of this schema, and check values of the local providers'' root keys';

CREATE TABLE IF NOT EXISTS pgveil.columns (
    id             int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schema_name    text NOT NULL,
    table_name     text NOT NULL,
    column_name    text NOT NULL,
    table_oid      oid  NOT NULL,
    attnum         int2 NOT NULL,
    logical_type   text NOT NULL,
    equality       bool NOT NULL,
    shared_key     bool NOT NULL,
    equality_group text,
    scope_template text,
    created_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    retired_at     timestamptz
);
CREATE UNIQUE INDEX IF NOT EXISTS columns_live
    ON pgveil.columns (schema_name, table_name, column_name) WHERE retired_at IS NULL;
COMMENT ON TABLE pgveil.columns IS
    'Protected columns. Sealed values name their column by id, so rows are retired, never changed in meaning, never deleted';
COMMENT ON COLUMN pgveil.columns.logical_type IS 'What applications see, with its modifiers';
COMMENT ON COLUMN pgveil.columns.shared_key IS 'Search terms are made with the platform''s index key instead of the scope''s';
COMMENT ON COLUMN pgveil.columns.scope_template IS 'The policy''s scope when the column was registered: whose index keys made its equality terms';
COMMENT ON COLUMN pgveil.columns.equality_group IS 'Columns of one group have comparable equality terms';
ALTER TABLE pgveil.columns ADD COLUMN IF NOT EXISTS change text
    CHECK (change IN ('adding terms', 'ending terms', 'dropping terms', 'widening', 'narrowing'));
ALTER TABLE pgveil.columns DROP CONSTRAINT IF EXISTS columns_change_check;
ALTER TABLE pgveil.columns ADD CONSTRAINT columns_change_check CHECK (change IN
    ('adding terms', 'ending terms', 'dropping terms', 'widening', 'narrowing', 'announced', 'turning', 'turned', 'clearing'));
ALTER TABLE pgveil.columns ADD COLUMN IF NOT EXISTS change_type text;
ALTER TABLE pgveil.columns ADD COLUMN IF NOT EXISTS term_number int4 NOT NULL DEFAULT 0 CHECK (term_number >= 0);
ALTER TABLE pgveil.columns ADD COLUMN IF NOT EXISTS newest_key int8 NOT NULL DEFAULT 0 CHECK (newest_key >= 0);
ALTER TABLE pgveil.columns ADD COLUMN IF NOT EXISTS other_number int4 CHECK (other_number >= 0);
ALTER TABLE pgveil.columns ADD COLUMN IF NOT EXISTS other_newest_key int8 CHECK (other_newest_key >= 0);
ALTER TABLE pgveil.columns ADD COLUMN IF NOT EXISTS other_shared_key bool;
ALTER TABLE pgveil.columns ADD COLUMN IF NOT EXISTS other_group text;
ALTER TABLE pgveil.columns ADD COLUMN IF NOT EXISTS other_scope text;
COMMENT ON COLUMN pgveil.columns.term_number IS 'Which of a value''s terms are compared: those of this number, pgveil.eq_term(number, value); 0: those without one';
COMMENT ON COLUMN pgveil.columns.newest_key IS
    'Terms are made with a scope''s newest index key with an id up to this, else with its oldest. Which key that is never changes';
COMMENT ON COLUMN pgveil.columns.other_number IS 'While a job turns the terms into others: those beside term_number. The other_ columns describe them';
ALTER TABLE pgveil.columns ADD COLUMN IF NOT EXISTS searched bool NOT NULL DEFAULT false;
COMMENT ON COLUMN pgveil.columns.searched IS 'Values once had terms as they are described here, and copies of them may have them for ever';
ALTER TABLE pgveil.columns ADD COLUMN IF NOT EXISTS revision int4 NOT NULL DEFAULT 0;
COMMENT ON COLUMN pgveil.columns.change IS 'What `pgveil apply` is making of the values, while they are not all so yet';
COMMENT ON COLUMN pgveil.columns.change_type IS 'The type that they will have, when that is being changed';
COMMENT ON COLUMN pgveil.columns.revision IS 'How often the description was changed: pgveil processes look at the sum';

ALTER TABLE pgveil.columns ADD COLUMN IF NOT EXISTS shown_at int2;
ALTER TABLE pgveil.columns ADD COLUMN IF NOT EXISTS shown_before text[];
COMMENT ON COLUMN pgveil.columns.shown_at IS
    'Where applications see a column that was migrated online: the attribute number that it had before. NULL: where it stands';
COMMENT ON COLUMN pgveil.columns.shown_before IS 'Names of the columns that stood behind it then: attribute numbers change with a restore';

CREATE TABLE IF NOT EXISTS pgveil.migrations (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schema_name text NOT NULL,
    table_name text   NOT NULL,
    table_oid  oid    NOT NULL,
    phase      text   NOT NULL CHECK (phase IN
        ('backfill', 'index', 'verify', 'swap', 'swapped', 'undo', 'contracted', 'rolled_back')),
    cursor     text,
    rows       bigint NOT NULL DEFAULT 0 CHECK (rows >= 0),
    verified   bigint NOT NULL DEFAULT 0 CHECK (verified >= 0),
    reason     text,
    old_indexes text[] NOT NULL DEFAULT '{}',
    started_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    ended_at   timestamptz,
    CHECK ((phase IN ('contracted', 'rolled_back')) = (ended_at IS NOT NULL))
);
CREATE UNIQUE INDEX IF NOT EXISTS migrations_live ON pgveil.migrations (table_oid) WHERE ended_at IS NULL;
COMMENT ON TABLE pgveil.migrations IS 'Tables whose columns are sealed or decrypted online, and how far that is';
COMMENT ON SEQUENCE pgveil.migrations_id_seq IS 'Numbers of migrations';
COMMENT ON COLUMN pgveil.migrations.cursor IS 'Where the walk over the table goes on; written with the rows before it';
COMMENT ON COLUMN pgveil.migrations.rows IS 'Rows written by the backfill; one that an application changed meanwhile counts again';
COMMENT ON COLUMN pgveil.migrations.reason IS 'Why it stands still, where it does';

ALTER TABLE pgveil.migrations ADD COLUMN IF NOT EXISTS way text NOT NULL DEFAULT 'seal' CHECK (way IN ('seal', 'open'));
ALTER TABLE pgveil.migrations ADD COLUMN IF NOT EXISTS phase_at timestamptz NOT NULL DEFAULT pg_catalog.now();
ALTER TABLE pgveil.migrations ADD COLUMN IF NOT EXISTS phase_rows bigint NOT NULL DEFAULT 0;
ALTER TABLE pgveil.migrations ADD COLUMN IF NOT EXISTS file oid;
COMMENT ON COLUMN pgveil.migrations.file IS 'The table''s file at the contract: for as long as it is the same one, dropped plaintext may be in its pages';
ALTER TABLE pgveil.migrations ADD COLUMN IF NOT EXISTS mac bytea;
COMMENT ON COLUMN pgveil.migrations.mac IS 'Of what never changes, and of its columns';
COMMENT ON COLUMN pgveil.migrations.way IS 'Whether plaintext is sealed, or sealed values are opened (a decryption)';
COMMENT ON COLUMN pgveil.migrations.phase_rows IS 'Rows written and verified before this phase: what has been done since tells how fast it is';

CREATE TABLE IF NOT EXISTS pgveil.migrated_columns (
    migration   bigint NOT NULL REFERENCES pgveil.migrations,
    column_id   int4   NOT NULL REFERENCES pgveil.columns,
    name        text   NOT NULL,
    plain_place int2   NOT NULL,
    sealed_place int2  NOT NULL,
    not_null    bool   NOT NULL,
    PRIMARY KEY (migration, column_id)
);
COMMENT ON TABLE pgveil.migrated_columns IS 'Their columns: attribute numbers of the plaintext and of the sealed one, whichever of them bears the name';

CREATE TABLE IF NOT EXISTS pgveil.migrated_parts (
    migration bigint NOT NULL REFERENCES pgveil.migrations,
    part      oid    NOT NULL,
    fence     oid    NOT NULL,
    verified  bool   NOT NULL DEFAULT false,
    file      oid,
    PRIMARY KEY (migration, part)
);
COMMENT ON TABLE pgveil.migrated_parts IS 'The leaves of a partitioned table under way, and how far each is';
COMMENT ON COLUMN pgveil.migrated_parts.fence IS 'The trigger that has watched over the copies since they were right: a partition that is attached again has another one';
COMMENT ON COLUMN pgveil.migrated_parts.file IS 'Its file at the contract, as in migrations';

CREATE TABLE IF NOT EXISTS pgveil.scopes (
    path       text PRIMARY KEY,
    state      text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'sealed')),
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE pgveil.scopes IS 'Scopes that have keys: platform, tenant:T, tenant:T/project:P/env:E, ...';
COMMENT ON COLUMN pgveil.scopes.state IS 'Sealed by hand: the keys of the scope and of all scopes below it are not used, its values can be neither read nor written';

ALTER TABLE pgveil.columns ADD COLUMN IF NOT EXISTS audit_seq bigint;
ALTER TABLE pgveil.columns ADD COLUMN IF NOT EXISTS mac bytea;
COMMENT ON COLUMN pgveil.columns.audit_seq IS 'The record of the audit log with which the row was written last';
COMMENT ON COLUMN pgveil.columns.mac IS 'HMAC-SHA-256 over the row: one changed by hand is refused';
ALTER TABLE pgveil.scopes ADD COLUMN IF NOT EXISTS audit_seq bigint;
ALTER TABLE pgveil.scopes ADD COLUMN IF NOT EXISTS mac bytea;
COMMENT ON COLUMN pgveil.scopes.mac IS 'HMAC-SHA-256 over the row, once the scope was sealed, unsealed or erased: a seal taken off by hand is refused';

CREATE TABLE IF NOT EXISTS pgveil.enum_labels (
    type_schema text NOT NULL,
    type_name   text NOT NULL,
    label_oid   oid  NOT NULL,
    label       text NOT NULL,
    number      int4 NOT NULL,
    PRIMARY KEY (type_schema, type_name, number)
);
ALTER TABLE pgveil.enum_labels ADD COLUMN IF NOT EXISTS labels int4;
ALTER TABLE pgveil.enum_labels ADD COLUMN IF NOT EXISTS audit_seq bigint;
ALTER TABLE pgveil.enum_labels ADD COLUMN IF NOT EXISTS mac bytea;
COMMENT ON TABLE pgveil.enum_labels IS
    'As which number a label of an enum type is sealed, whatever it is called. A deleted row makes values unreadable';
COMMENT ON COLUMN pgveil.enum_labels.label_oid IS 'pg_enum.oid when the type was looked at last';
COMMENT ON COLUMN pgveil.enum_labels.label IS 'What the label was called when the type was looked at last';
COMMENT ON COLUMN pgveil.enum_labels.labels IS 'How many rows the type had when this one was written: all of a type are written together';
COMMENT ON COLUMN pgveil.enum_labels.mac IS 'HMAC-SHA-256 over the row: one changed by hand is refused';

CREATE TABLE IF NOT EXISTS pgveil.row_changes (
    table_name text   NOT NULL CHECK (table_name IN ('columns', 'scopes', 'enum_labels', 'keks', 'local_keys', 'operators', 'jobs')),
    row_name   text   NOT NULL,
    audit_seq  bigint NOT NULL,
    PRIMARY KEY (table_name, row_name, audit_seq)
);
ALTER TABLE pgveil.row_changes DROP CONSTRAINT IF EXISTS row_changes_table_name_check;
ALTER TABLE pgveil.row_changes ADD CONSTRAINT row_changes_table_name_check
    CHECK (table_name IN ('columns', 'scopes', 'enum_labels', 'keks', 'local_keys', 'operators', 'jobs'));
CREATE INDEX IF NOT EXISTS row_changes_audit_seq ON pgveil.row_changes (audit_seq);
COMMENT ON TABLE pgveil.row_changes IS
    'With which records of the audit log rows of other tables were written: an older row that somebody puts back is refused';

CREATE SEQUENCE IF NOT EXISTS pgveil.key_ids AS bigint;
COMMENT ON SEQUENCE pgveil.key_ids IS 'Ids of keys: taken before a key is wrapped, because the wrapping is bound to the id';

CREATE TABLE IF NOT EXISTS pgveil.keys (
    id           bigint PRIMARY KEY CHECK (id > 0),
    scope        text   NOT NULL REFERENCES pgveil.scopes,
    purpose      text   NOT NULL CHECK (purpose IN ('data', 'index')),
    epoch        int4   NOT NULL CHECK (epoch > 0),
    state        text   NOT NULL CHECK (state IN ('active', 'decrypt_only', 'destroyed')),
    provider     text   NOT NULL,
    kek_id       text   NOT NULL,
    kek_version  text   NOT NULL,
    wrapped      bytea,
    uses         bigint NOT NULL DEFAULT 0 CHECK (uses >= 0),
    created_at   timestamptz NOT NULL DEFAULT pg_catalog.now(),
    retired_at   timestamptz,
    destroyed_at timestamptz,
    UNIQUE (scope, purpose, epoch),
    CHECK ((state = 'destroyed') = (wrapped IS NULL))
);
CREATE UNIQUE INDEX IF NOT EXISTS keys_active ON pgveil.keys (scope, purpose) WHERE state = 'active';
COMMENT ON TABLE pgveil.keys IS
    'Data keys (DEKs) and index keys, wrapped by a provider. A deleted row makes every value sealed with it unreadable for ever';
COMMENT ON COLUMN pgveil.keys.id IS 'What a sealed value names at byte 8';
COMMENT ON COLUMN pgveil.keys.provider IS '[provider.NAME] of pgveil.toml';
COMMENT ON COLUMN pgveil.keys.wrapped IS 'Key and binding under the KEK, in the provider''s format; NULL once destroyed';
COMMENT ON COLUMN pgveil.keys.uses IS 'Uses leased by pgveil processes: at least as many as values were sealed with it';

ALTER TABLE pgveil.keys ADD COLUMN IF NOT EXISTS destroy_at timestamptz;
ALTER TABLE pgveil.keys ADD COLUMN IF NOT EXISTS destroy_horizon xid8;
ALTER TABLE pgveil.keys ADD COLUMN IF NOT EXISTS destroy_waits text[];
COMMENT ON COLUMN pgveil.keys.destroy_waits IS
    'Virtual transactions that ran when the destruction was scheduled: a bound portal may hold a value that is written later';
COMMENT ON COLUMN pgveil.keys.destroy_horizon IS
    'Transactions before it may have sealed with the key and not have ended when the destruction was scheduled';
COMMENT ON COLUMN pgveil.keys.destroy_at IS 'When its destruction is due, once it is proved again that no value uses it';

CREATE TABLE IF NOT EXISTS pgveil.overrides (
    scope                 text PRIMARY KEY,
    provider              text,
    kek_id                text,
    failure               text CHECK (failure IN ('closed', 'open')),
    dek_epoch             int8 CHECK (dek_epoch > 0),
    dek_max_usage         int8 CHECK (dek_max_usage > 0),
    destroy_retired_after int8 CHECK (destroy_retired_after > 0),
    set_at                timestamptz NOT NULL DEFAULT pg_catalog.now(),
    set_by                text NOT NULL,
    CHECK (provider IS NULL OR kek_id IS NOT NULL)
);
COMMENT ON TABLE pgveil.overrides IS
    'What scopes do differently since it was set at run time; before what pgveil.toml says of the same scope. Times in seconds';

ALTER TABLE pgveil.keys ADD COLUMN IF NOT EXISTS audit_seq bigint;
ALTER TABLE pgveil.keys ADD COLUMN IF NOT EXISTS mac bytea;
COMMENT ON COLUMN pgveil.keys.audit_seq IS 'The record of the audit log with which the row was written last';
COMMENT ON COLUMN pgveil.keys.mac IS
    'HMAC-SHA-256 over the row, but for uses and destroy_horizon and destroy_waits: a row changed by hand is refused';
ALTER TABLE pgveil.overrides ADD COLUMN IF NOT EXISTS kek_period int8 CHECK (kek_period > 0);
ALTER TABLE pgveil.overrides ADD COLUMN IF NOT EXISTS audit_seq bigint;
ALTER TABLE pgveil.overrides ADD COLUMN IF NOT EXISTS mac bytea;
COMMENT ON COLUMN pgveil.overrides.mac IS 'HMAC-SHA-256 over the row: one changed by hand is refused';

CREATE TABLE IF NOT EXISTS pgveil.key_changes (
    key_id    bigint NOT NULL,
    audit_seq bigint NOT NULL,
    PRIMARY KEY (key_id, audit_seq)
);
CREATE INDEX IF NOT EXISTS key_changes_audit_seq ON pgveil.key_changes (audit_seq);
COMMENT ON TABLE pgveil.key_changes IS
    'With which records of the audit log rows of pgveil.keys were written: an older row that somebody puts back is refused';

CREATE TABLE IF NOT EXISTS pgveil.keks (
    provider     text NOT NULL,
    kek_id       text NOT NULL,
    version      text NOT NULL,
    next_version text,
    first_seen   timestamptz NOT NULL DEFAULT pg_catalog.now(),
    last_seen    timestamptz NOT NULL DEFAULT pg_catalog.now(),
    rotated_at   timestamptz,
    asked_at     timestamptz,
    began_seq    bigint,
    began_key    bigint,
    lease_until  timestamptz,
    leased_by    text,
    PRIMARY KEY (provider, kek_id)
);
ALTER TABLE pgveil.keks ADD COLUMN IF NOT EXISTS audit_seq bigint;
ALTER TABLE pgveil.keks ADD COLUMN IF NOT EXISTS mac bytea;
COMMENT ON COLUMN pgveil.keks.mac IS 'HMAC-SHA-256 over the row, but for last_seen and the lease: a row changed by hand is refused';
COMMENT ON TABLE pgveil.keks IS 'Which version of each KEK the wrapped keys follow, and who is bringing them to the next one';
COMMENT ON COLUMN pgveil.keks.began_seq IS 'Keys whose rows were written with a later record of the audit log are under the next version already';
COMMENT ON COLUMN pgveil.keks.began_key IS 'Data keys up to this id are replaced';

CREATE TABLE IF NOT EXISTS pgveil.local_keks (
    provider     text  NOT NULL,
    kek_id       text  NOT NULL,
    version      int4  NOT NULL CHECK (version > 0),
    state        text  NOT NULL CHECK (state IN ('active', 'decrypt_only', 'destroyed')),
    sealed       bytea,
    created_at   timestamptz NOT NULL DEFAULT pg_catalog.now(),
    retired_at   timestamptz,
    destroyed_at timestamptz,
    PRIMARY KEY (provider, kek_id, version),
    CHECK ((state = 'destroyed') = (sealed IS NULL))
);
-- A key has many versions that may be used; which ones is said by its record in pgveil.local_keys.
DROP INDEX IF EXISTS pgveil.local_keks_active;
COMMENT ON TABLE pgveil.local_keks IS
    'Key material of local providers, a row per version, sealed under the root key file. A deleted row loses all that it encrypted';
COMMENT ON COLUMN pgveil.local_keks.state IS 'For people: whether there is material. What a version may do is said in pgveil.local_keys';

CREATE TABLE IF NOT EXISTS pgveil.local_keys (
    provider  text   NOT NULL,
    kek_id    text   NOT NULL,
    revision  bigint NOT NULL CHECK (revision > 0),
    record    text   NOT NULL,
    mac       bytea  NOT NULL,
    rotate_at bigint,
    PRIMARY KEY (provider, kek_id)
);
CREATE INDEX IF NOT EXISTS local_keys_rotate_at ON pgveil.local_keys (provider, rotate_at) WHERE rotate_at IS NOT NULL;
COMMENT ON TABLE pgveil.local_keys IS
    'Keys of local providers: states, versions, rotation and grants. `pgveil kms` changes them; a row changed by hand is refused';
COMMENT ON COLUMN pgveil.local_keys.record IS 'JSON text, as pgveil wrote it: the MAC is over these very bytes';
COMMENT ON COLUMN pgveil.local_keys.mac IS 'HMAC-SHA-256 over provider, id, revision and record, under the root key file';
COMMENT ON COLUMN pgveil.local_keys.rotate_at IS 'Where automatic rotation looks (seconds since 1970); the record decides';

CREATE SEQUENCE IF NOT EXISTS pgveil.audit_key_ids AS bigint;
COMMENT ON SEQUENCE pgveil.audit_key_ids IS 'Ids of root keys of the audit log';

CREATE TABLE IF NOT EXISTS pgveil.audit_keys (
    id           bigint PRIMARY KEY CHECK (id > 0),
    provider     text   NOT NULL,
    kek_id       text   NOT NULL,
    kek_version  text   NOT NULL,
    wrapped      bytea  NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT pg_catalog.now(),
    retired_at   timestamptz
);
CREATE UNIQUE INDEX IF NOT EXISTS audit_keys_active ON pgveil.audit_keys ((true)) WHERE retired_at IS NULL;
COMMENT ON TABLE pgveil.audit_keys IS
    'Root keys of the audit log, wrapped by the platform''s provider. Without its row, nothing can be recorded and no operation on keys is done';

CREATE TABLE IF NOT EXISTS pgveil.audit_head (
    one  bool   PRIMARY KEY DEFAULT true CHECK (one),
    seq  bigint NOT NULL CHECK (seq >= 0),
    link bytea  NOT NULL,
    mac  bytea  NOT NULL
);
COMMENT ON TABLE pgveil.audit_head IS 'The end of the audit log, with a MAC. Whoever appends holds its row';

CREATE TABLE IF NOT EXISTS pgveil.audit (
    seq          bigint PRIMARY KEY CHECK (seq > 0),
    record       bytea  NOT NULL,
    mac          bytea  NOT NULL,
    operation_id bytea  NOT NULL UNIQUE,
    at           timestamptz NOT NULL,
    operation    text   NOT NULL,
    outcome      text   NOT NULL,
    scope        text   NOT NULL,
    actor        text   NOT NULL
);
CREATE INDEX IF NOT EXISTS audit_at ON pgveil.audit (at);
CREATE INDEX IF NOT EXISTS audit_scope ON pgveil.audit (scope, seq);
-- A running proxy asks every few seconds what was set last for each scope.
CREATE INDEX IF NOT EXISTS audit_overrides ON pgveil.audit (scope, seq)
    WHERE operation IN ('override.set', 'override.clear') AND outcome = 'done';
-- Before a label gets a number, it is asked how many the type has had.
CREATE INDEX IF NOT EXISTS audit_labels ON pgveil.audit (seq) WHERE operation = 'label.record';
COMMENT ON TABLE pgveil.audit IS
    'The audit log: append-only, in a keyed hash chain. Read it with `pgveil audit list`, check it with `pgveil audit verify`';
COMMENT ON COLUMN pgveil.audit.record IS 'What counts; the columns behind mac repeat some of it for filters, and verify compares them';

CREATE TABLE IF NOT EXISTS pgveil.audit_checkpoints (
    seq  bigint PRIMARY KEY CHECK (seq >= 0),
    line text   NOT NULL
);
COMMENT ON TABLE pgveil.audit_checkpoints IS 'Signed ends of the audit log. Records are dropped only up to one of them';

CREATE OR REPLACE FUNCTION pgveil.audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP OPERATOR(pg_catalog.=) 'DELETE'
        AND pg_catalog.current_setting('pgveil.audit_prune', true) OPERATOR(pg_catalog.=) 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'pgveil''s audit log is append-only'
        USING ERRCODE = 'restrict_violation', HINT = 'Old records are dropped by pgveil itself: [audit] retention.';
END
$$;
COMMENT ON FUNCTION pgveil.audit_is_append_only() IS 'Keeps accidents from the audit log; what is done on purpose is found by `pgveil audit verify`';
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON pgveil.audit
    FOR EACH STATEMENT EXECUTE FUNCTION pgveil.audit_is_append_only();

CREATE TABLE IF NOT EXISTS pgveil.operators (
    name         text PRIMARY KEY,
    salt         bytea NOT NULL,
    rounds       int4  NOT NULL CHECK (rounds > 0),
    verifier     bytea NOT NULL,
    failures     int4  NOT NULL DEFAULT 0,
    locked_until timestamptz,
    created_at   timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE pgveil.operators IS 'Who may make step-up tokens. The verifiers can only be checked, or made, with the audit log''s key';

CREATE TABLE IF NOT EXISTS pgveil.step_up_tokens (
    hash       bytea PRIMARY KEY,
    operator   text  NOT NULL,
    operation  text  NOT NULL,
    scope      text  NOT NULL,
    expires_us bigint NOT NULL,
    mac        bytea NOT NULL
);
COMMENT ON TABLE pgveil.step_up_tokens IS 'Hashes of step-up tokens that are not used up: five minutes each, for one operation on one scope';

ALTER TABLE pgveil.scopes ADD COLUMN IF NOT EXISTS sealed_at timestamptz;
ALTER TABLE pgveil.scopes ADD COLUMN IF NOT EXISTS erased_at timestamptz;
COMMENT ON COLUMN pgveil.scopes.erased_at IS 'When all keys that the scope had then were destroyed';
CREATE INDEX IF NOT EXISTS scopes_sealed ON pgveil.scopes (path) WHERE state <> 'open';

CREATE SEQUENCE IF NOT EXISTS pgveil.job_ids AS bigint;
COMMENT ON SEQUENCE pgveil.job_ids IS 'Numbers of jobs';

CREATE TABLE IF NOT EXISTS pgveil.jobs (
    id          bigint PRIMARY KEY DEFAULT pg_catalog.nextval('pgveil.job_ids'),
    kind        text NOT NULL,
    scope       text NOT NULL,
    below       bool NOT NULL,
    target      text NOT NULL,
    state       text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'paused', 'completed', 'failed', 'expired', 'cancelled')),
    made_by     text NOT NULL,
    reason      text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
    started_at  timestamptz,
    moved_at    timestamptz NOT NULL DEFAULT pg_catalog.now(),
    ended_at    timestamptz,
    failure     text,
    waits       text,
    phase       text NOT NULL DEFAULT 'count' CHECK (phase IN ('count', 'walk', 'settle', 'retry')),
    pass        int4   NOT NULL DEFAULT 0,
    look_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    found       bigint NOT NULL DEFAULT 0,
    written     bigint NOT NULL DEFAULT 0,
    rows        bigint NOT NULL DEFAULT 0,
    settle_at   timestamptz,
    settle_horizon xid8,
    settle_waits text[],
    settled     bool   NOT NULL DEFAULT false
);
ALTER TABLE pgveil.jobs ADD COLUMN IF NOT EXISTS held bigint[] NOT NULL DEFAULT '{}';
ALTER TABLE pgveil.jobs ADD COLUMN IF NOT EXISTS mac bytea;
ALTER TABLE pgveil.jobs DROP CONSTRAINT IF EXISTS jobs_phase_check;
ALTER TABLE pgveil.jobs ADD CONSTRAINT jobs_phase_check CHECK (phase IN ('count', 'walk', 'settle', 'retry', 'held'));
CREATE INDEX IF NOT EXISTS jobs_unfinished ON pgveil.jobs (id) WHERE state IN ('queued', 'running', 'paused');
COMMENT ON TABLE pgveil.jobs IS 'Work over tables behind the applications'' back: `pgveil jobs list` shows it';
COMMENT ON COLUMN pgveil.jobs.target IS 'JSON: what the job brings values to, pinned when it was made; by kind';
COMMENT ON COLUMN pgveil.jobs.mac IS
    'HMAC-SHA-256 over what was ordered and where the job stands, not over how far it has come: a row changed by hand is refused';
COMMENT ON COLUMN pgveil.jobs.moved_at IS 'When it last got on: [reencrypt] lease counts from here';
COMMENT ON COLUMN pgveil.jobs.waits IS 'What it waits for at the moment';
COMMENT ON COLUMN pgveil.jobs.held IS
    'Data keys that cannot be had at the moment, by what is sealed or away: rows are not read for their values. What was counted has them';
COMMENT ON COLUMN pgveil.jobs.found IS 'Values that were to be remade when they were first counted';
COMMENT ON COLUMN pgveil.jobs.settled IS
    'Every transaction has ended that may have sealed with what the job replaces: a count from now on is the last word';

CREATE TABLE IF NOT EXISTS pgveil.job_parts (
    job         bigint NOT NULL REFERENCES pgveil.jobs ON DELETE CASCADE,
    part        int4   NOT NULL,
    relation    oid    NOT NULL,
    schema_name text   NOT NULL,
    table_name  text   NOT NULL,
    columns     text   NOT NULL,
    after       text,
    upto        text,
    exhausted   bool   NOT NULL DEFAULT false,
    found       bigint NOT NULL,
    written     bigint NOT NULL DEFAULT 0,
    rows        bigint NOT NULL DEFAULT 0,
    left_rows   bigint NOT NULL DEFAULT 0,
    faulty      bigint NOT NULL DEFAULT 0,
    faults      text[] NOT NULL DEFAULT '{}',
    claimed_at  timestamptz,
    PRIMARY KEY (job, part)
);
COMMENT ON TABLE pgveil.job_parts IS 'Tables that a pass of a job walks over, and how far it has come';
COMMENT ON COLUMN pgveil.job_parts.after IS 'The cursor: everything up to it was handed to a worker. Primary key as JSON, or a block number';
COMMENT ON COLUMN pgveil.job_parts.left_rows IS 'Rows that were locked or changed meanwhile: the next pass has them';

CREATE SEQUENCE IF NOT EXISTS pgveil.job_tokens AS bigint;
COMMENT ON SEQUENCE pgveil.job_tokens IS 'Fencing tokens: a worker whose batch was given to another one has an old token, and writes nothing';

CREATE TABLE IF NOT EXISTS pgveil.job_batches (
    token       bigint PRIMARY KEY,
    job         bigint NOT NULL REFERENCES pgveil.jobs ON DELETE CASCADE,
    part        int4   NOT NULL,
    after       text,
    upto        text,
    worker      int4,
    until       timestamptz NOT NULL,
    attempts    int4   NOT NULL DEFAULT 0,
    is_done     bool   NOT NULL DEFAULT false,
    error       text,
    written     bigint NOT NULL DEFAULT 0,
    rows        bigint NOT NULL DEFAULT 0,
    left_rows   bigint NOT NULL DEFAULT 0,
    faulty      bigint NOT NULL DEFAULT 0,
    faults      text[] NOT NULL DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS job_batches_of ON pgveil.job_batches (job, part);
COMMENT ON TABLE pgveil.job_batches IS 'Ranges of rows that workers have in hand. Nobody else takes one before `until`; a done one stays until the pause behind it is over';
COMMENT ON COLUMN pgveil.job_batches.worker IS 'Who has it: that process holds an advisory lock of this number for as long as it lives';

GRANT USAGE ON SCHEMA pgveil TO PUBLIC;
GRANT EXECUTE ON FUNCTION pgveil.eq_term(pg_catalog.bytea) TO PUBLIC;
GRANT EXECUTE ON FUNCTION pgveil.eq_term(pg_catalog.int4, pg_catalog.bytea) TO PUBLIC;
GRANT EXECUTE ON FUNCTION pgveil.no_term(pg_catalog.bytea) TO PUBLIC;
GRANT EXECUTE ON FUNCTION pgveil.keep_first(pg_catalog.bytea, pg_catalog.bytea) TO PUBLIC;
GRANT EXECUTE ON FUNCTION pgveil.any_value(pg_catalog.bytea) TO PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA pgveil FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA pgveil FROM PUBLIC;
-- Labels are no secret: pg_enum shows them to everybody.
GRANT SELECT ON pgveil.enum_labels TO PUBLIC;

INSERT INTO pgveil.meta (name, value) VALUES ('schema_version', '8')
    ON CONFLICT (name) DO UPDATE SET value = excluded.value;
