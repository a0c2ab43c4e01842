#!/usr/bin/env python3
"""What an application does with psycopg 3, through pgveil and directly.

    psycopg3.py URL_THROUGH_PGVEIL URL_OF_POSTGRES

It holds no expectations of its own: what went in must come out, equal and of the same Python type.
"""

import datetime as dt
import decimal
import sys
import uuid

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

COLUMNS = "id, name, email, age, balance, born, seen, active, token, doc, photo, score"
UTC = dt.timezone.utc

PEOPLE = [
    (
        1, "Ada", "ada@example.com", 36, decimal.Decimal("1200.50"), dt.date(1815, 12, 10),
        dt.datetime(2024, 2, 29, 12, 34, 56, 789012, tzinfo=UTC), True,
        uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), {"vip": True, "n": [1, 2.5, None]}, b"\x00\xff", 0.1,
    ),
    (2, "Bob", None, None, None, None, None, None, None, None, None, None),
    (
        3, "Çelik", "ünï'c\"ödé\\@example.com", -(2**31), decimal.Decimal("-0.01"), dt.date(9999, 12, 31),
        dt.datetime(1900, 1, 1, tzinfo=UTC), False, uuid.UUID(int=0), [], b"", 1e300,
    ),
]


def same(found, wanted, what):
    if found != wanted or [type(x) for x in found] != [type(x) for x in wanted]:
        raise SystemExit(f"{what}: {found!r} instead of {wanted!r}")


def adapted(row):
    return [Jsonb(value) if isinstance(value, (dict, list)) else value for value in row]


def round_trips(conn, binary):
    marks = ", ".join(["%b" if binary else "%t"] * 12)
    with conn.cursor(binary=binary) as cur:
        cur.executemany(f"INSERT INTO people ({COLUMNS}) VALUES ({marks})", [adapted(row) for row in PEOPLE])
        for row in PEOPLE:
            cur.execute(f"SELECT {COLUMNS} FROM people WHERE id = %s", [row[0]])
            same(list(cur.fetchone()), list(row), f"binary={binary}")
        searches = [("email", PEOPLE[0][2]), ("age", 36), ("balance", PEOPLE[0][4]), ("born", PEOPLE[0][5]), ("token", PEOPLE[0][8])]
        for column, value in searches:
            cur.execute(f"SELECT id FROM people WHERE {column} = %s", [value])
            same(cur.fetchall(), [(1,)], f"{column}, binary={binary}")
            cur.execute(f"SELECT id FROM people WHERE {column} = ANY(%s)", [[value]])
            same(cur.fetchall(), [(1,)], f"{column} = ANY, binary={binary}")
        cur.execute("SELECT id FROM people WHERE email IS NULL")
        same(cur.fetchall(), [(2,)], "IS NULL")
        cur.execute("UPDATE people SET email = %s WHERE email = %s RETURNING email", ["changed", PEOPLE[2][2]])
        same(cur.fetchall(), [("changed",)], "UPDATE RETURNING")
    conn.rollback()


def prepared_and_pipelined(conn):
    with conn.cursor(row_factory=dict_row) as cur:
        for number in range(20):
            cur.execute(
                "INSERT INTO people (id, name, email) VALUES (%s, %s, %s)", [number, "n", f"p{number}@example.com"], prepare=True
            )
        for number in range(20):
            cur.execute("SELECT id FROM people WHERE email = %s", [f"p{number}@example.com"], prepare=True)
            same([cur.fetchone()["id"]], [number], "prepared")
    with conn.pipeline():
        cursors = [conn.execute("SELECT email FROM people WHERE id = %s", [number]) for number in range(20)]
        same([cursor.fetchone()[0] for cursor in cursors], [f"p{number}@example.com" for number in range(20)], "pipeline")
    conn.rollback()


def streams(conn):
    with conn.cursor() as cur:
        cur.execute("INSERT INTO people (id, name, email) SELECT g, 'n', NULL FROM generate_series(1, 100) g")
        found = [row[0] for row in cur.stream("SELECT id FROM people ORDER BY id")]
        same(found, list(range(1, 101)), "stream")
    conn.rollback()


def errors(conn):
    expected = [
        ("INSERT INTO people (id, name, age) VALUES (1, 'n', %s)", ["not a number"], psycopg.errors.InvalidTextRepresentation),
        ("SELECT id FROM people WHERE email LIKE %s", ["p%"], psycopg.errors.FeatureNotSupported),
        ("SELECT id FROM people ORDER BY email", [], psycopg.errors.FeatureNotSupported),
        ("SELECT nope FROM people", [], psycopg.errors.UndefinedColumn),
    ]
    for sql, params, error in expected:
        try:
            conn.execute(sql, params or None)
        except error:
            pass
        else:
            raise SystemExit(f"no {error.__name__}: {sql}")
        conn.rollback()
        same(list(conn.execute("SELECT 1").fetchone()), [1], "after an error")
        conn.rollback()
    conn.execute("INSERT INTO people (id, name, email) VALUES (1, 'n', 'twice')")
    try:
        conn.execute("INSERT INTO people (id, name, email) VALUES (2, 'n', 'twice')")
    except psycopg.errors.UniqueViolation:
        conn.rollback()
    else:
        raise SystemExit("no UniqueViolation")


def is_sealed(through, direct):
    through.execute("INSERT INTO people (id, name, email) VALUES (1, 'Ada', 'ada@example.com')")
    through.commit()
    stored = direct.execute("SELECT email FROM people", binary=True).fetchone()[0]
    if not stored.startswith(b"PGV\x01") or b"ada" in stored:
        raise SystemExit(f"stored in the clear: {stored!r}")


def main():
    through, direct = sys.argv[1:]
    with psycopg.connect(through) as conn:
        for binary in (False, True):
            round_trips(conn, binary)
        prepared_and_pipelined(conn)
        streams(conn)
        errors(conn)
        with psycopg.connect(direct) as other:
            is_sealed(conn, other)


main()
