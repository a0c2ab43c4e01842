#!/usr/bin/env python3
"""Runs a driver's own test suite directly and through pgveil, with a policy in force, and compares test by test.

    suites.py [--python PYTHON] [--pgveil BINARY] [--keep] SUITE CHECKOUT [-- arguments of the suite's runner]

SUITE is one of asyncpg, django, psycopg3, sqlalchemy; CHECKOUT a copy of its repository, of which nothing is kept here. PYTHON has
the suite's own packages and pytest installed. Two equal clusters are made, and the second one is protected, on a table that no suite
names. What passes directly and fails through pgveil is run once more on both sides, by itself: tests that lean on time or on each other
are told apart so. It brings no tests of its own.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "regress"))
import regress  # noqa: E402

DATABASE = "test"
GUARD = "CREATE TABLE public.pgveil_guard (id int PRIMARY KEY, email text, born date)"
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = '/tmp'
fsync = off
full_page_writes = off
max_connections = 200
max_prepared_transactions = 20
wal_level = logical
"""
# What the suites ask for in their documentation.
PREPARATION = [
    "CREATE ROLE scott SUPERUSER LOGIN PASSWORD 'tiger'",
    "CREATE SCHEMA test_schema",
    "CREATE SCHEMA test_schema_2",
    "CREATE EXTENSION hstore",
    "CREATE EXTENSION citext",
]
DJANGO = """
import json, os
from django.test.runner import DiscoverRunner
from unittest import TextTestResult
connection = dict(
    ENGINE="django.db.backends.postgresql", HOST="127.0.0.1", PORT=os.environ["PGPORT"], USER="postgres", NAME="{database}",
)
# The very database that has a policy; the runner's own would have none.
DATABASES = {{
    "default": dict(connection, TEST={{"NAME": "{database}"}}),
    "other": dict(connection, NAME="other", TEST={{"NAME": "other"}}),
}}
SECRET_KEY = "x"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
TEST_RUNNER = "pgveil_suite.Runner"
class Result(TextTestResult):
    def note(self, test, what):
        with open(os.environ["PGVEIL_RESULTS"], "a") as results:
            results.write(json.dumps([test.id(), what]) + "\\n")
    def addSuccess(self, test):
        super().addSuccess(test)
        self.note(test, "passed")
    def addExpectedFailure(self, test, error):
        super().addExpectedFailure(test, error)
        self.note(test, "passed")
    def addError(self, test, error):
        super().addError(test, error)
        self.note(test, "failed")
    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.note(test, "failed")
    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.note(test, "failed")
class Runner(DiscoverRunner):
    def get_resultclass(self):
        return Result
"""


def pytest(options, port, results, only):
    """The command of a suite that pytest runs, and what it needs to be told of the server."""
    url = f"postgresql+psycopg://scott:tiger@127.0.0.1:{port}/{DATABASE}"
    known = {
        "psycopg3": (["tests", "--test-dsn", f"host=127.0.0.1 port={port} user=postgres dbname={DATABASE}"], {}),
        "sqlalchemy": (["test", "--dburi", url, "--backend-only", "-n0"], {}),
        "asyncpg": (["tests"], {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres", "PGDATABASE": DATABASE}),
    }
    arguments, environment = known[options.suite]
    if only:
        arguments = [*only, *arguments[1:]]
    command = [options.python, "-m", "pytest", "-q", "-p", "no:randomly", f"--junitxml={results}"]
    return [*command, *arguments, *options.rest], environment, options.checkout


def django(options, port, results, only):
    command = [options.python, "runtests.py", "--settings=pgveil_suite", "--parallel=1", "--keepdb", "--noinput", "-v", "0"]
    environment = {"PYTHONPATH": f"{results.parent}:{options.checkout}", "PGPORT": str(port), "PGVEIL_RESULTS": str(results)}
    (results.parent / "pgveil_suite.py").write_text(DJANGO.format(database=DATABASE))
    return [*command, *(only or options.rest)], environment, options.checkout / "tests"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", choices=["asyncpg", "django", "psycopg3", "sqlalchemy"])
    parser.add_argument("checkout", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the suite's packages")
    parser.add_argument("--pgveil", type=pathlib.Path, default=regress.REPOSITORY / "target/debug/pgveil")
    parser.add_argument("--bin", type=pathlib.Path, default=regress.postgres_bin(), help="the folder of initdb and postgres")
    parser.add_argument("--keep", action="store_true", help="leave the outputs behind, and say where")
    parser.add_argument("rest", nargs="*", help="passed on to the suite's runner")
    options = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="pgveil-suite-"))
    try:
        found = compare(work, options)
    finally:
        if options.keep:
            print(f"outputs are in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    sys.exit(1 if found else 0)


def compare(work, options):
    regress.own(work)
    regress.CONFIGURATION = regress.CONFIGURATION.replace("/regression", f"/{DATABASE}")
    policy = regress.POLICY.replace("regress_pgveil_guard", "pgveil_guard")
    results, again = {}, {}
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(place(work, name, policy, options)) for name in ("direct", "through")}
        for name, port in ports.items():
            results[name] = run(work, name, port, options, [])
            passed = sum(result == "passed" for result in results[name].values())
            print(f"{name}: {passed} of {len(results[name])} passed", flush=True)
        differ = [test for test, result in results["direct"].items() if result == "passed" != results["through"].get(test)]
        if differ:
            for name, port in ports.items():
                again[name] = run(work, f"{name}-again", port, options, selectors(options, differ))
    real = [test for test in differ if again["direct"].get(test) == "passed" != again["through"].get(test)]
    for test in differ:
        print(f"{'FAILS' if test in real else 'failed once'} through pgveil: {test}")
    print(f"{options.suite}: {len(real)} tests pass directly and fail through pgveil")
    return real


@contextlib.contextmanager
def place(work, name, policy, options):
    """A cluster, and the port on which it is used."""
    folder = work / name
    folder.mkdir()
    regress.own(folder)
    data = folder / "cluster"
    regress.as_server(
        options.bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"
    )
    with open(data / "postgresql.auto.conf", "a") as conf:
        conf.write(SETTINGS)
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(regress.server(options.bin, data))
        psql = regress.psql_command(options.bin, port, "postgres")
        for database in (DATABASE, "other"):
            subprocess.run([*psql, "-c", f"CREATE DATABASE {database}"], check=True)
        psql = regress.psql_command(options.bin, port, DATABASE)
        for statement in [*PREPARATION, GUARD]:
            subprocess.run([*psql, "-c", statement], check=True)
        if name == "direct":
            yield port
            return
        etc = work / "etc"
        subprocess.run([options.pgveil, "init", etc], check=True, stdout=subprocess.DEVNULL)
        (etc / "policy.toml").write_text(policy)
        regress.apply(etc, port, options)
        yield stack.enter_context(regress.proxy(work, folder, port, options.pgveil))


def run(work, name, port, options, only):
    """What became of each test, by name."""
    folder = work / f"results-{name}"
    folder.mkdir()
    results = folder / "results"
    recipe = django if options.suite == "django" else pytest
    command, environment, where = recipe(options, port, results, only)
    with open(folder / "output", "wb") as output:
        environment = dict(os.environ, LC_ALL="C.UTF-8", **environment)
        subprocess.run(command, cwd=where, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
    if not results.exists():
        raise SystemExit((folder / "output").read_text(errors="replace")[-4000:])
    return read_lines(results) if options.suite == "django" else read_junit(results)


def read_lines(results):
    found = {}
    for line in results.read_text().splitlines():
        test, what = json.loads(line)
        # One failed part is a failed test.
        found[test] = "failed" if found.get(test) == "failed" else what
    return found


def read_junit(results):
    found = {}
    for case in xml.etree.ElementTree.parse(results).iter("testcase"):
        kinds = {child.tag for child in case}
        what = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        found[f"{case.get('classname')}::{case.get('name')}"] = what
    return found


def selectors(options, tests):
    """How the runner is told to run only these: by file or class, for names of parameters may hold anything."""
    if options.suite == "django":
        return sorted(tests)
    files = set()
    for test in tests:
        parts = test.split("::")[0].split(".")
        while parts and not (options.checkout / "/".join(parts)).with_suffix(".py").exists():
            parts.pop()
        files.add("/".join(parts) + ".py")
    return sorted(files)


if __name__ == "__main__":
    main()
