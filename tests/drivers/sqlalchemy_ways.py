#!/usr/bin/env python3
"""The ways of SQLAlchemy on psycopg 3, psycopg 2 or asyncpg: sqlalchemy_ways.py psycopg THROUGH PLAIN"""

import sys

import sqlalchemy as sa
import ways
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.orm import DeclarativeBase, Session

DRIVER = sys.argv.pop(1)
# What an application's models declare for each logical type.
KINDS = {
    "bool": sa.Boolean, "int2": sa.SmallInteger, "int4": sa.Integer, "int8": sa.BigInteger, "float4": sa.REAL,
    "float8": sa.Double, "numeric": sa.Numeric(12, 2), "text": sa.Text, "varchar": sa.String(11), "char": sa.CHAR(4),
    "bytea": sa.LargeBinary, "date": sa.Date, "timestamp": sa.DateTime, "timestamptz": sa.DateTime(timezone=True),
    "uuid": sa.Uuid, "json": sa.JSON(none_as_null=True), "jsonb": pg.JSONB(none_as_null=True),
}


class Base(DeclarativeBase):
    pass


COLUMNS = {
    name: sa.Column(KINDS[column["type"].split("(")[0]], nullable=True)
    for name, column in zip(ways.NAMES, ways.COLUMNS)
    if column["type"].split("(")[0] in KINDS
}
Every = type("Every", (Base,), {"__tablename__": "every", "id": sa.Column(sa.Integer, primary_key=True), **COLUMNS})
TABLE = Every.__table__


def sqlstate(error):
    original = getattr(error, "orig", None)
    return getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)


def rows(connection):
    return [tuple(row) for row in connection.execute(sa.select(TABLE).order_by(TABLE.c.id))]


def literals(connection):
    for row in range(ways.ROWS):
        connection.exec_driver_sql(ways.insert_literals(row).replace("%", "%%"))
    connection.execute(sa.insert(TABLE).values(id=99))
    return rows(connection)


def native(connection):
    found = [dict(row._mapping) for row in connection.execute(sa.select(TABLE)) ] if literals(connection) else []
    connection.execute(sa.delete(TABLE))
    return found


def core_insert(connection):
    for row in native(connection):
        connection.execute(sa.insert(TABLE), row)
    return rows(connection)


def core_insert_many(connection):
    connection.execute(sa.insert(TABLE), native(connection))
    return rows(connection)


def insert_returning(connection):
    found = native(connection)
    return [tuple(row) for row in connection.execute(sa.insert(TABLE).returning(TABLE), found)]


def insert_in_order(connection):
    """Which SQLAlchemy writes as INSERT ... SELECT of VALUES where the server makes the keys."""
    found = native(connection)
    for row in found:
        del row["id"]
    insert = sa.insert(TABLE).returning(*(TABLE.c[name] for name in COLUMNS), sort_by_parameter_order=True)
    return [tuple(row) for row in connection.execute(insert, found)]


def upsert(connection):
    literals(connection)
    insert = pg.insert(TABLE).values(id=0, c7="changed")
    connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_={"c7": insert.excluded.c7}))
    return rows(connection)


def orm(connection):
    with Session(connection) as session:
        session.add_all([Every(**row) for row in native(connection)])
        session.flush()
        session.expire_all()
        one = session.get(Every, 0)
        one.c7 = "by the ORM"
        session.flush()
        session.expire_all()
        return [[getattr(each, name) for name in COLUMNS] for each in session.scalars(sa.select(Every).order_by(Every.id))]


def equality(connection):
    found = []
    before = literals(connection)[:-1]
    for name in ways.SEARCHED:
        column = TABLE.c[name]
        values = [row[ways.NAMES.index(name) + 1] for row in before]
        for value in values:
            found.append(connection.execute(sa.select(TABLE.c.id).where(column == value).order_by(TABLE.c.id)).scalars().all())
    return found


def in_list(connection):
    found = []
    before = literals(connection)[:-1]
    for name in ways.SEARCHED:
        values = [row[ways.NAMES.index(name) + 1] for row in before]
        found.append(connection.execute(sa.select(TABLE.c.id).where(TABLE.c[name].in_(values)).order_by(TABLE.c.id)).scalars().all())
    return found


def grouped(connection):
    literals(connection)
    query = sa.select(TABLE.c.c7, sa.func.count()).group_by(TABLE.c.c7)
    return sorted(((row[0] or "", row[1]) for row in connection.execute(query)))


def stream(connection):
    literals(connection)
    found = connection.execution_options(stream_results=True, yield_per=2).execute(sa.select(TABLE).order_by(TABLE.c.id))
    return [tuple(row) for row in found]


def unique(connection):
    literals(connection)
    connection.exec_driver_sql(ways.insert_literals(0).replace("(0,", "(70,").replace("%", "%%"))


WAYS = [
    ("literals", literals),
    ("insert", core_insert),
    ("insert of many", core_insert_many),
    ("insert returning", insert_returning),
    ("insert returning in order", insert_in_order),
    ("upsert", upsert),
    ("ORM", orm),
    ("= parameter", equality),
    ("IN", in_list),
    ("GROUP BY", grouped),
    ("stream", stream),
    ("SQLSTATE of a duplicate", unique),
]


def main():
    engines = [sa.create_engine(url.replace("postgres://", f"postgresql+{DRIVER}://")) for url in ways.urls()]
    comparison = ways.Comparison(sqlstate)
    for name, way in WAYS:
        outcomes = []
        for engine in engines:
            with engine.connect() as connection:
                outcomes.append(comparison.outcome(way, connection))
                connection.rollback()
        comparison.judge(name, *outcomes)


main()
