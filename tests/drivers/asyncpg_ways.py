#!/usr/bin/env python3
"""The ways of asyncpg, which prepares everything and speaks binary: asyncpg_ways.py THROUGH PLAIN"""

import asyncio
import io

import asyncpg
import ways
from ways import LIST, NAMES, ROWS, SEARCHED

INSERT = f"INSERT INTO every (id, {LIST}) VALUES ({ways.marks('$')})"
SELECT = f"SELECT id, {LIST} FROM every ORDER BY id"


async def literals(connection):
    for row in range(ROWS):
        await connection.execute(ways.insert_literals(row))
    await connection.execute("INSERT INTO every (id) VALUES (99)")
    return [tuple(row) for row in await connection.fetch(SELECT)]


async def native(connection):
    found = await literals(connection)
    await connection.execute("DELETE FROM every")
    return found


async def parameters(connection):
    for row in await native(connection):
        await connection.execute(INSERT, *row)
    return [tuple(row) for row in await connection.fetch(SELECT)]


async def executemany(connection):
    await connection.executemany(INSERT, await native(connection))
    return [tuple(row) for row in await connection.fetch(SELECT)]


async def prepared(connection):
    await literals(connection)
    statement = await connection.prepare(f"SELECT {LIST} FROM every WHERE id = $1")
    attributes = [(a.name, a.type.name) for a in statement.get_attributes()]
    return attributes, [tuple(await statement.fetchrow(n % ROWS)) for n in range(8)]


async def parameter_types(connection):
    statement = await connection.prepare(INSERT)
    return [p.name for p in statement.get_parameters()]


async def cursor(connection):
    await literals(connection)
    return [tuple(row) async for row in connection.cursor(SELECT, prefetch=2)]


async def copy_out(connection):
    await literals(connection)
    out = io.BytesIO()
    await connection.copy_from_table("every", columns=["id", *NAMES], output=out)
    return out.getvalue()


async def copy_query(connection):
    await literals(connection)
    out = io.BytesIO()
    await connection.copy_from_query(SELECT, output=out, format="csv")
    return out.getvalue()


async def copy_records(connection):
    await connection.copy_records_to_table("every", records=await native(connection), columns=["id", *NAMES])
    return [tuple(row) for row in await connection.fetch(SELECT)]


async def equality(connection):
    found = []
    for row in (await literals(connection))[:-1]:
        for name in SEARCHED:
            value = row[NAMES.index(name) + 1]
            found.append((name, [r[0] for r in await connection.fetch(f"SELECT id FROM every WHERE {name} = $1 ORDER BY id", value)]))
    return found


async def any_of_an_array(connection):
    found = []
    before = (await literals(connection))[:-1]
    for name in SEARCHED:
        values = [row[NAMES.index(name) + 1] for row in before]
        rows = await connection.fetch(f"SELECT id FROM every WHERE {name} = ANY($1) ORDER BY id", values)
        found.append((name, [row[0] for row in rows]))
    return found


async def nulls(connection):
    await literals(connection)
    await connection.execute(INSERT, 50, *[None] * len(NAMES))
    return [[r[0] for r in await connection.fetch(f"SELECT id FROM every WHERE {name} IS NULL ORDER BY id")] for name in NAMES]


async def transactions(connection):
    await literals(connection)
    try:
        async with connection.transaction():
            await connection.execute("DELETE FROM every")
            raise LookupError
    except LookupError:
        return [tuple(row) for row in await connection.fetch(SELECT)]


async def bad_input(connection):
    states = []
    for name, column in zip(NAMES, ways.COLUMNS):
        try:
            async with connection.transaction():
                await connection.execute(f"INSERT INTO every (id, {name}) VALUES (1, 'not a {column['type']} at all')")
                states.append((name, "took it"))
                raise LookupError
        except asyncpg.PostgresError as error:
            states.append((name, error.sqlstate))
        except LookupError:
            pass
    return states


async def unique(connection):
    await literals(connection)
    await connection.execute(ways.insert_literals(0).replace("(0,", "(70,"))


WAYS = [
    ("literals", literals),
    ("parameters", parameters),
    ("executemany", executemany),
    ("prepared, with attributes", prepared),
    ("parameter types", parameter_types),
    ("cursor", cursor),
    ("COPY out", copy_out),
    ("COPY of a query as CSV", copy_query),
    ("COPY in, binary", copy_records),
    ("= parameter", equality),
    ("= ANY(array)", any_of_an_array),
    ("NULLs", nulls),
    ("transactions and savepoints", transactions),
    ("SQLSTATE of bad input", bad_input),
    ("SQLSTATE of a duplicate", unique),
]


async def main():
    comparison = ways.Comparison(lambda error: getattr(error, "sqlstate", None))
    through, plain = [await asyncpg.connect(url) for url in ways.urls()]
    for name, way in WAYS:
        outcomes = []
        for connection in (through, plain):
            transaction = connection.transaction()
            await transaction.start()
            try:
                outcomes.append(("gave", comparison.settled(await way(connection))))
            except Exception as error:
                outcomes.append(("raised", comparison.sqlstate(error) or repr(error)))
            await transaction.rollback()
        comparison.judge(name, *outcomes)


asyncio.run(main())
