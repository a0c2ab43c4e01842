#!/usr/bin/env python3
"""The ways of psycopg 2 and psycopg 3, whichever is named first: psycopg_ways.py psycopg|psycopg2 THROUGH PLAIN"""

import importlib
import io
import sys

import ways
from ways import LIST, NAMES, ROWS, SEARCHED

DRIVER = importlib.import_module(sys.argv.pop(1))
IS_3 = DRIVER.__name__ == "psycopg"


def sqlstate(error):
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)


def rows(connection, binary=False, **options):
    cursor = connection.cursor(binary=True) if binary else connection.cursor(**options)
    cursor.execute(f"SELECT id, {LIST} FROM every ORDER BY id")
    return cursor.fetchall()


def literals(connection):
    cursor = connection.cursor()
    for row in range(ROWS):
        cursor.execute(ways.insert_literals(row))
    cursor.execute("INSERT INTO every (id) VALUES (99)")
    return rows(connection)


def adapted(value, kind):
    if kind not in ("json", "jsonb") or value is None:
        return value
    if not IS_3:
        return importlib.import_module("psycopg2.extras").Json(value)
    module = importlib.import_module("psycopg.types.json")
    return module.Json(value) if kind == "json" else module.Jsonb(value)


KINDS = [column["type"] for column in ways.COLUMNS]


def native(connection):
    """Rows as the driver gives them, taken out again and ready to be sent back."""
    found = literals(connection)
    connection.cursor().execute("DELETE FROM every")
    return [[adapted(value, kind) for value, kind in zip(row, ["int4", *KINDS])] for row in found]


INSERT = f"INSERT INTO every (id, {LIST}) VALUES ({ways.marks('%s')})"


def parameters(connection):
    for row in native(connection):
        connection.cursor().execute(INSERT, row)
    return rows(connection)


def binary_parameters(connection):
    for row in native(connection):
        connection.cursor(binary=True).execute(INSERT.replace("%s", "%b"), row)
    return rows(connection, binary=True)


def prepared(connection):
    for row in native(connection):
        connection.execute(INSERT, row, prepare=True)
    return [connection.execute(f"SELECT {LIST} FROM every WHERE id = %s", [n % ROWS], prepare=True).fetchone() for n in range(8)]


def executemany(connection):
    connection.cursor().executemany(INSERT, native(connection))
    return rows(connection)


def execute_values(connection):
    found = native(connection)
    extras = importlib.import_module("psycopg2.extras")
    extras.execute_values(connection.cursor(), f"INSERT INTO every (id, {LIST}) VALUES %s", found)
    return rows(connection)


def pipeline(connection):
    found = native(connection)
    with connection.pipeline():
        cursors = [connection.execute(INSERT + " RETURNING *", row) for row in found]
        return [cursor.fetchone() for cursor in cursors]


def server_side_cursor(connection):
    literals(connection)
    with connection.cursor(name="everything") as cursor:
        cursor.itersize = 2
        cursor.execute(f"SELECT id, {LIST} FROM every ORDER BY id")
        return [cursor.fetchone(), *cursor.fetchmany(1), *cursor]


def stream(connection):
    literals(connection)
    return list(connection.cursor().stream(f"SELECT id, {LIST} FROM every ORDER BY id"))


def copy_out(connection):
    literals(connection)
    cursor = connection.cursor()
    command = f"COPY every (id, {LIST}) TO STDOUT"
    if IS_3:
        with cursor.copy(command) as copy:
            return b"".join(copy)
    out = io.StringIO()
    cursor.copy_expert(command, out)
    return out.getvalue()


def copy_in(connection):
    lines = "\n".join(["\t".join([str(row)] + [r"\N"] * len(NAMES)) for row in range(3)]) + "\n"
    lines += "9\t" + "\t".join(escape(column["values"][0]) for column in ways.COLUMNS) + "\n"
    cursor = connection.cursor()
    command = f"COPY every (id, {LIST}) FROM STDIN"
    if IS_3:
        with cursor.copy(command) as copy:
            copy.write(lines)
    else:
        cursor.copy_expert(command, io.StringIO(lines))
    return rows(connection)


def escape(text):
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def equality(connection):
    found = []
    for row in literals(connection)[:-1]:
        for name in SEARCHED:
            cursor = connection.cursor()
            at = NAMES.index(name)
            value = adapted(row[at + 1], KINDS[at])
            cursor.execute(f"SELECT id FROM every WHERE {name} = %s ORDER BY id", [value])
            found.append((name, cursor.fetchall()))
    return found


def any_of_an_array(connection):
    return any_of(connection, [name for name in SEARCHED if KINDS[NAMES.index(name)] != "float4"])


def any_of_float4(connection):
    """psycopg 3 declares its floats as float8[], and the cast to float4[] rounds them."""
    return any_of(connection, [name for name in SEARCHED if KINDS[NAMES.index(name)] == "float4"])


def any_of(connection, names):
    found = []
    before = literals(connection)[:-1]
    for name in names:
        values = [row[NAMES.index(name) + 1] for row in before]
        kind = KINDS[NAMES.index(name)]
        if kind == "jsonb":
            continue
        cursor = connection.cursor()
        cursor.execute(f"SELECT id FROM every WHERE {name} = ANY(%s::{kind}[]) ORDER BY id", [values])
        found.append((name, cursor.fetchall()))
    return found


def nulls(connection):
    literals(connection)
    cursor = connection.cursor()
    cursor.execute(INSERT, [50] + [None] * len(NAMES))
    found = []
    for name in NAMES:
        cursor.execute(f"SELECT id FROM every WHERE {name} IS NULL ORDER BY id")
        found.append(cursor.fetchall())
        cursor.execute(f"UPDATE every SET {name} = %s WHERE id = 0 RETURNING {name}", [None])
        found.append(cursor.fetchall())
    return found


def transactions(connection):
    literals(connection)
    connection.commit()
    cursor = connection.cursor()
    cursor.execute("DELETE FROM every")
    cursor.execute("SAVEPOINT a")
    cursor.execute(ways.insert_literals(1))
    cursor.execute("ROLLBACK TO a")
    inside = rows(connection)
    connection.rollback()
    after = rows(connection)
    connection.cursor().execute("DELETE FROM every")
    connection.commit()
    return inside, after


def bad_input(connection):
    states = []
    for name, column in zip(NAMES, ways.COLUMNS):
        try:
            connection.cursor().execute(f"INSERT INTO every (id, {name}) VALUES (1, 'not a {column['type']} at all')")
            states.append((name, "took it"))
        except DRIVER.Error as error:
            states.append((name, sqlstate(error)))
        connection.rollback()
    return states


def unique(connection):
    literals(connection)
    connection.cursor().execute(ways.insert_literals(0).replace("(0,", "(70,"))


WAYS = [
    ("literals", literals),
    ("parameters", parameters),
    ("executemany", executemany),
    ("server-side cursor", server_side_cursor),
    ("COPY out", copy_out),
    ("COPY in", copy_in),
    ("= parameter", equality),
    ("= ANY(array)", any_of_an_array),
    ("= ANY(array::float4[])", any_of_float4),
    ("NULLs", nulls),
    ("transactions and savepoints", transactions),
    ("SQLSTATE of bad input", bad_input),
    ("SQLSTATE of a duplicate", unique),
]
if IS_3:
    WAYS += [
        ("binary parameters and results", binary_parameters),
        ("prepared", prepared),
        ("pipeline", pipeline),
        ("stream", stream),
    ]
else:
    WAYS += [("execute_values", execute_values)]


def main():
    through, plain = (DRIVER.connect(url) for url in ways.urls())
    ways.Comparison(sqlstate).compare(WAYS, through, plain, after=lambda connection: connection.rollback())


main()
