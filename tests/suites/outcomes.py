"""What became of a test, how a suite's runner is started, and how reports in JUnit's form are read."""

import os
import re
import subprocess
import xml.etree.ElementTree

DATABASE = "test"
# What sealed columns cannot answer or take, by where the refusal says to read about it (docs/limits.md). Any other error of pgveil is a failure.
REFUSALS = {
    "columns-not-comparable", "definition-differs", "definition-needs-plaintext", "dynamic-sql", "equality-not-enabled",
    "expression-not-supported", "holder-not-supported", "ordering-not-supported", "several-statements", "statement-not-supported",
    "unique-across-scopes", "value-not-constant", "value-not-movable",
}


class Outcome:
    """What became of a test, and what was said when it failed."""

    def __init__(self, what, said=""):
        self.what = what
        self.said = said

    @property
    def passed(self):
        return self.what == "passed"


def start(command, where, environment, folder, limit=None):
    """Runs to its end, with its output kept; its exit code, or none at the limit."""
    with open(folder / "output", "wb") as output:
        environment = dict(os.environ, LC_ALL="C.UTF-8", **environment)
        try:
            done = subprocess.run(
                command, cwd=where, env=environment, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                check=False, timeout=limit,
            )
        except subprocess.TimeoutExpired:
            return "late"
        return done.returncode


def libpq(port, database=DATABASE):
    return {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres", "PGDATABASE": database}


def junit(results):
    found = {}
    if not results.exists():
        return found
    for case in xml.etree.ElementTree.parse(results).iter("testcase"):
        kinds = {child.tag: child for child in case}
        what = "failed" if kinds.keys() & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        said = " ".join(f"{child.get('message')}\n{child.text}" for child in case if child.tag in ("failure", "error"))
        found[f"{case.get('classname')}::{case.get('name')}"] = Outcome(what, said)
    return found


def refusal(said):
    """The anchor of the refusal that a failed test tells of, if it does."""
    anchors = set(re.findall(r"docs/errors\.md#([a-z0-9-]+)", said))
    return min(anchors) if anchors and anchors <= REFUSALS else None
