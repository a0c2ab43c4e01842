#!/usr/bin/env python3
"""Runs a driver's own test suite directly and through pgveil, with a policy in force, and compares test by test.

    suites.py [--python PYTHON] [--pgveil BINARY] [--policy FILE] [--keep] SUITE CHECKOUT [-- arguments of the suite's runner]

CHECKOUT is a copy of the suite's repository, of which nothing is kept here. PYTHON has the suite's own packages and pytest installed. Two
equal clusters are made, and the second one is protected, on a table that no suite names. What passes directly and fails through pgveil is
run once more on both sides, by itself: tests that lean on time or on each other are told apart so. That no test was run is an
error. It brings no tests of its own.

With --policy, pgveil protects columns of tables that the suite makes itself. Then a test may fail because a statement is refused; these
are counted. What fails with other words is shown with them: it must be what follows from a refused statement.
"""

import argparse
import collections
import contextlib
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "regress"))
import others  # noqa: E402
import recipes  # noqa: E402
import regress  # noqa: E402

from outcomes import refusal  # noqa: E402

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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", choices=sorted(recipes.RUNNERS))
    parser.add_argument("checkout", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the suite's packages")
    parser.add_argument("--pgveil", type=pathlib.Path, default=regress.REPOSITORY / "target/debug/pgveil")
    parser.add_argument("--bin", type=pathlib.Path, default=regress.postgres_bin(), help="the folder of initdb and postgres")
    parser.add_argument("--policy", type=pathlib.Path, help="a policy on tables of the suite's own, instead of the one on an unrelated table")
    parser.add_argument("--driver", default="psycopg", help="SQLAlchemy's driver")
    parser.add_argument("--keep", action="store_true", help="leave the outputs behind, and say where")
    parser.add_argument("rest", nargs="*", help="passed on to the suite's runner")
    options = parser.parse_args()
    options.database = recipes.database(options.suite)
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
    regress.CONFIGURATION = regress.CONFIGURATION.replace("/regression", f"/{options.database}")
    policy = options.policy.read_text() if options.policy else regress.POLICY.replace("regress_pgveil_guard", "pgveil_guard")
    results, again = {}, {"direct": {}, "through": {}}
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(place(work, name, policy, options)) for name in ("direct", "through")}
        for name, port in ports.items():
            results[name] = run(work, name, port, options, [])
            passed = sum(outcome.passed for outcome in results[name].values())
            print(f"{name}: {passed} of {len(results[name])} passed", flush=True)
            if not passed and name == "direct":
                output = (work / "results-direct/output").read_text(errors="replace")[-4000:]
                raise SystemExit(f"{output}\n{options.suite}: nothing passes directly, so that nothing is compared")
        differ = missed(results)
        if differ:
            for name, port in ports.items():
                again[name] = run(work, f"{name}-again", port, options, recipes.selectors(options.suite, options.checkout, differ))
    # Again on both sides. What then passes through pgveil leans on time or on others; what then fails directly, or is not come to, tells nothing.
    once = [test for test in differ if passes(again, "through", test)]
    real = [test for test in differ if test not in once and passes(again, "direct", test)]
    open_ = [test for test in differ if test not in once and test not in real]
    refused = [test for test in real if options.policy and refusal(said(again, test))]
    for what, tests in (("failed once", once), ("FAILS", real), ("fails the second time in both,", open_)):
        for test in tests:
            if test in refused:
                continue
            print(f"{what} through pgveil: {test}")
            if test in real and options.policy:
                print("    " + said(again, test).strip()[-1500:].replace("\n", "\n    "))
    if options.policy:
        anchors = collections.Counter(refusal(said(again, test)) for test in refused)
        print("".join(f"{count} tests: {anchor}\n" for anchor, count in anchors.most_common()), end="")
        print(f"{options.suite}: {len(refused)} tests fail for a statement that is refused, {len(real) - len(refused)} otherwise")
    else:
        print(f"{options.suite}: {len(real)} tests pass directly and fail through pgveil, {len(open_)} are undecided")
    return real + open_


def passes(results, name, test):
    outcome = results[name].get(test)
    return outcome is not None and outcome.passed


def said(results, test):
    outcome = results["through"].get(test)
    return outcome.said if outcome else "it was not run"


def missed(results):
    """What passes directly and does not through pgveil, or is not run there at all."""
    through = results["through"]
    return [test for test, outcome in results["direct"].items() if outcome.passed and not (test in through and through[test].passed)]


def run(work, name, port, options, only):
    folder = work / f"results-{name}"
    folder.mkdir()
    return recipes.run(options.suite, folder, port, options, only)


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
    methods = others.METHODS.get(options.suite, {})
    hba = data / "pg_hba.conf"
    hba.write_text("".join(f"host all {role} all {method}\n" for role, method in methods.items()) + hba.read_text())
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(regress.server(options.bin, data))
        psql = regress.psql_command(options.bin, port, "postgres")
        for database in {options.database, "other"} - {"postgres"}:
            subprocess.run([*psql, "-c", f"CREATE DATABASE {database}"], check=True)
        psql = regress.psql_command(options.bin, port, options.database)
        for statement in [*PREPARATION, *others.PREPARATION.get(options.suite, []), GUARD]:
            subprocess.run([*psql, "-c", statement], check=True)
        if name == "direct":
            yield port
            return
        etc = work / "etc"
        subprocess.run([options.pgveil, "init", etc], check=True, stdout=subprocess.DEVNULL)
        (etc / "policy.toml").write_text(policy)
        regress.apply(etc, port, options)
        # Some suites look for the server's socket beside its port.
        listening = regress.free_port()
        both = f'listen = "127.0.0.1:{listening},unix:/tmp/.s.PGSQL.{listening}"'
        regress.CONFIGURATION = regress.CONFIGURATION.replace('listen = "127.0.0.1:0"', both)
        yield stack.enter_context(regress.proxy(work, folder, port, options.pgveil))


if __name__ == "__main__":
    main()
