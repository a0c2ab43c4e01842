#!/usr/bin/env python3
"""Compares the bytes of sealed columns with the keystore, by docs/sealed-value.md and psql alone: it has nothing of pgveil's, and no key.

    headers.py [--active] CONNINFO

Every value of every column under a domain of schema pgveil has to be a whole envelope of a column that is registered, under a data key that is there and
not destroyed, with the terms that its column has. With --active, as behind a rewrap that is completed, under its scope's active key. Shows how many values
name which key, and ends with 1 if anything is wrong. CONNINFO is of somebody who may read the tables and the keystore.
"""

import argparse
import collections
import subprocess
import sys

COLUMNS = """
SELECT a.attrelid::regclass, quote_ident(a.attname) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'm')
JOIN pg_type t ON t.oid = a.atttypid AND t.typtype = 'd' AND t.typnamespace = 'pgveil'::regnamespace
WHERE a.attnum > 0 AND NOT a.attisdropped AND NOT starts_with(a.attname, 'pgveil_shadow_') ORDER BY 1, 2
"""
KEYS = "SELECT id, scope, epoch, state FROM pgveil.keys WHERE purpose = 'data'"
# A column that is turned has two numbers; one whose terms come or go has none that could be relied on.
REGISTERED = "SELECT id, equality, change IS NOT NULL, term_number FROM pgveil.columns"
MAGIC = b"PGV\x01"
EQUALITY, NUMBERED, ANOTHER = 1, 8, 16
NONCE, TAG = 12, 16
MAX_SHOWN = 20


class Damaged(Exception):
    """A value that is no envelope."""


def parse(value):
    """Column, key and the numbers of terms of an envelope, and key and nonce; a term without a number has number 0."""
    if not value.startswith(MAGIC) or len(value) < 17:
        raise Damaged("it does not begin as a sealed value does")
    column, key, bits = int.from_bytes(value[4:8], "big"), int.from_bytes(value[8:16], "big"), value[16]
    if bits & ~(EQUALITY | NUMBERED | ANOTHER):
        raise Damaged(f"term bits {bits:#04x}")
    at, numbers = 17, []
    if bits & EQUALITY:
        numbers.append(0)
        at += 16
    for bit in (NUMBERED, ANOTHER):
        if bits & bit:
            numbers.append(int.from_bytes(value[at:at + 4], "big"))
            at += 4 + 16
    if numbers != sorted(set(numbers)) or len(numbers) > 2:
        raise Damaged(f"terms {numbers}")
    if len(value) < at + NONCE + TAG:
        raise Damaged(f"{len(value)} bytes")
    return column, key, numbers, value[8:16] + value[at:at + NONCE]


def compare(query, lines, active=False):
    """What is wrong. `query` answers rows of texts, `lines` the lines of a statement that may answer many."""
    keys = {int(key): (scope, epoch, state) for key, scope, epoch, state in query(KEYS)}
    registered = {int(column): (equality == "t", changing == "t", int(number)) for column, equality, changing, number in query(REGISTERED)}
    found, counts, nonces = [], collections.Counter(), {}
    for table, name in query(COLUMNS):
        for line in lines(f"COPY (SELECT encode({name}::bytea, 'hex') FROM {table} WHERE {name} IS NOT NULL) TO STDOUT"):
            try:
                column, key, numbers, nonce = parse(bytes.fromhex(line))
            except Damaged as why:
                found.append(f"{table}.{name}: {why}")
                continue
            scope, epoch, state = keys.get(key, ("no key that there is", "?", "?"))
            counts[f"{table}.{name}: {scope} {epoch} {state}"] += 1
            if state == "destroyed" or state == "?" or active and state != "active":
                found.append(f"{table}.{name}: under key {key}, of {scope}, which is {state}")
            equality, changing, number = registered.get(column, (None, False, 0))
            if equality is None:
                found.append(f"{table}.{name}: of column {column}, which is not registered")
            elif not changing and numbers != ([number] if equality else []):
                found.append(f"{table}.{name}: terms {numbers}, and column {column} has {number if equality else 'none'}")
            # A copy has the nonce of what it was copied from.
            if nonces.setdefault(nonce, hash(line)) != hash(line):
                found.append(f"{table}.{name}: two values under key {key} have one nonce, and can be read by anybody")
    for what, count in sorted(counts.items()):
        print(f"{what}: {count}", flush=True)
    total = sum(counts.values())
    print(f"{total} values, {len(found)} findings in their headers", flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("conninfo")
    parser.add_argument("--active", action="store_true", help="a value under a key that is not the active one is a finding")
    options = parser.parse_args()
    psql = ["psql", "-X", "-At", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", options.conninfo, "-c"]

    def lines(sql):
        process = subprocess.Popen([*psql, sql], stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            yield line.rstrip("\n")
        if process.wait():
            raise SystemExit(f"psql: {sql}")

    def query(sql):
        return [line.split("\t") for line in lines(sql)]

    found = compare(query, lines, options.active)
    for each in found[:MAX_SHOWN]:
        print(each)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
