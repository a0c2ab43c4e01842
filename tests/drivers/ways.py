"""What the Python programs share: columns.json, and the comparison of a way through pgveil with plain PostgreSQL.

A program runs each of its ways twice: on a table whose columns are protected, through pgveil, and on a table of the
same columns in a plain database. Values go in as SQL literals first; what the driver makes of them is then sent
back as parameters, so that nothing here lists a driver's own types.
"""

import json
import pathlib
import sys

COLUMNS = json.loads(pathlib.Path(__file__).with_name("columns.json").read_text())
# Names as the harness makes them: one table holds a column of every logical type.
NAMES = [f"c{number}" for number in range(len(COLUMNS))]
SEARCHED = [name for name, column in zip(NAMES, COLUMNS) if column["search"]]
LIST = ", ".join(NAMES)
ROWS = max(len(column["values"]) for column in COLUMNS)


def literal(text):
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def insert_literals(row):
    values = [literal(column["values"][row % len(column["values"])]) for column in COLUMNS]
    return f"INSERT INTO every (id, {LIST}) VALUES ({row}, {', '.join(values)})"


def marks(form):
    """Placeholders for id and every column: "%s", or "$" for numbered ones."""
    return ", ".join(f"${n + 1}" if form == "$" else form for n in range(len(NAMES) + 1))


class Comparison:
    """Prints a line for each way: same, refused, or WRONG with what was different."""

    def __init__(self, sqlstate):
        self.sqlstate = sqlstate

    def outcome(self, way, connection):
        try:
            return "gave", self.settled(way(connection))
        except AssertionError:
            raise
        except Exception as error:
            return "raised", self.sqlstate(error) or repr(error)

    def settled(self, value):
        """Equal values of different types are different: 1 is not True."""
        if isinstance(value, (list, tuple)):
            return [self.settled(each) for each in value]
        if isinstance(value, memoryview):
            value = bytes(value)
        if type(value).__module__.startswith("asyncpg"):
            value = str(value)
        return (type(value).__name__, value)

    def judge(self, name, through, plain):
        if through == plain:
            verdict = "same"
        elif through[0] == "raised" and str(through[1]) in ("0A000", "PV001", "PV003"):
            verdict = f"refused with {through[1]}"
        else:
            verdict = f"WRONG: {through!r:.1500} instead of {plain!r:.1500}"
        print(f"{name}: {verdict}")

    def compare(self, ways, through, plain, after=lambda connection: None):
        for name, way in ways:
            found = self.outcome(way, through)
            after(through)
            wanted = self.outcome(way, plain)
            after(plain)
            self.judge(name, found, wanted)


def urls():
    return sys.argv[1], sys.argv[2]
