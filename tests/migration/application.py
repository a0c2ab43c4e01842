#!/usr/bin/env python3
"""Migrates the tables of an application online while its own test-suite runs on them through pgveil, from the plaintext to the contract.

    application.py [--pgveil BINARY] [--python PYTHON] [--rows N] [--seconds N] CHECKOUT [-- arguments of pytest]

CHECKOUT is the source archive of django-allauth (65.21: accounts, addresses, logins at other sites, second factors), of which nothing is kept
here; PYTHON has Django, psycopg, pytest-django and the packages that its tests ask for. Its tables are made by its own migrations and hold N
accounts each. The suite runs once directly; that is what must pass. Then it runs over and over through two proxies, which do not know the
policy at first, while the migration is prepared, the policy is given to the proxies by SIGHUP, the tables are swapped, rolled back, prepared
and swapped again, and contracted: each step somewhere within a run, and a run behind the last. A test that passes directly and fails through
pgveil is a failure here, unless what failed is a statement that pgveil refuses on sealed columns: these are counted, and shown. At the end all rows have to be sealed and read
back as they were, and after what `pgveil plan` recommends no file of the database may hold any of the values.
It leaves out the one test that empties all tables behind itself.
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "regress"), str(HERE.parent / "suites")]
import headers  # noqa: E402
import regress  # noqa: E402

from outcomes import Outcome, junit, refusal  # noqa: E402

DATABASE = "app"
SETTINGS = """
import os
from tests.projects.regular.settings import *
DATABASES = {"default": dict(
    ENGINE="django.db.backends.postgresql", HOST="127.0.0.1", PORT=os.environ["PGPORT"], USER="postgres", NAME="app", TEST={"NAME": "app"},
)}
"""
# Every protected value has this word in it, and nothing else has.
CANARY = "canary"
COLUMNS = {
    "auth_user": {"first_name": ("varchar(150)", "'canary first ' || n"), "last_name": ("varchar(150)", "'canary last ' || n")},
    "account_emailaddress": {"email": ("varchar(254)", "'canary' || n || '@example.com'")},
    "socialaccount_socialaccount": {"extra_data": ("jsonb", "jsonb_build_object('name', 'canary extra ' || n)")},
    "socialaccount_socialtoken": {"token": ("text", "'canary token ' || n"), "token_secret": ("text", "'canary secret ' || n")},
    "mfa_authenticator": {"data": ("jsonb", "jsonb_build_object('secret', 'canary factor ' || n)")},
}
# What the application looks rows up by.
SEARCHED = {
    ("auth_user", "first_name"), ("account_emailaddress", "email"), ("socialaccount_socialtoken", "token"), ("socialaccount_socialtoken", "token_secret"),
}
# What an account has beside them. Numbers that the suite's own rows will not have.
OTHERS = {
    "auth_user": {"password": "'!'", "is_superuser": "false", "username": "'user' || n", "email": "''", "is_staff": "false",
                  "is_active": "true", "date_joined": "now()"},
    "account_emailaddress": {"verified": "n % 2 = 0", '"primary"': "true", "user_id": "n"},
    "socialaccount_socialaccount": {"provider": "'google'", "uid": "'uid' || n", "last_login": "now()", "date_joined": "now()", "user_id": "n"},
    "socialaccount_socialtoken": {"account_id": "n"},
    "mfa_authenticator": {"type": "'totp'", "user_id": "n", "created_at": "now()"},
}
FIRST = 1_000_000
# It flushes the database behind itself, whatever was in it.
LEFT_OUT = ["tests/apps/account/test_middleware.py::test_accounts_redirect_async_ctx"]
TAKEN_UP = "are taken up"
ENVELOPE = r"\x50475601"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the suite's packages")
    parser.add_argument("--pgveil", type=pathlib.Path, default=regress.REPOSITORY / "target/debug/pgveil")
    parser.add_argument("--bin", type=pathlib.Path, default=regress.postgres_bin(), help="the folder of initdb and postgres")
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--seconds", type=int, default=40, help="between two steps of the migration")
    parser.add_argument("--keep", action="store_true", help="leave the outputs behind, and say where")
    parser.add_argument("rest", nargs="*", help="passed on to pytest")
    options = parser.parse_args()
    options.pgveil = options.pgveil.resolve()
    work = pathlib.Path(tempfile.mkdtemp(prefix="pgveil-application-"))
    try:
        found = migrate(work, options)
    finally:
        if options.keep:
            print(f"outputs are in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    sys.exit(1 if found else 0)


def migrate(work, options):
    regress.own(work)
    regress.CONFIGURATION = regress.CONFIGURATION.replace("/regression", f"/{DATABASE}")
    # So that the backfill is seen at work: some seconds for each table.
    regress.CONFIGURATION += '[reencrypt]\nbatch_size = 500\ninterval = "1s"\n'
    data = work / "cluster"
    regress.as_server(options.bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
    with open(data / "postgresql.auto.conf", "a") as conf:
        conf.write(regress.SETTINGS.replace("autovacuum = off", "autovacuum = on"))
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(contextlib.ExitStack())
        port = server.enter_context(regress.server(options.bin, data))
        psql = regress.psql_command(options.bin, port, "postgres")
        subprocess.run([*psql, "-c", f"CREATE DATABASE {DATABASE}"], check=True)
        place = Place(work, port, options)
        suite = Suite(work, options)
        suite.command("-m", "django", "migrate", "--settings=pgveil_application", "--skip-checks", "-v", "0", port=port)
        for table in COLUMNS:
            place.fill(table, options.rows)
        before = place.rows(port)
        expected = suite.directly(port)
        guarded = regress.POLICY.replace("regress_pgveil_guard", "pgveil_guard")
        place.query(regress.GUARD.replace("regress_pgveil_guard", "pgveil_guard"))
        place.configure(guarded)
        place.apply()
        proxies = [stack.enter_context(place.proxy(name)) for name in ("one", "two")]
        ports = [listening for listening, _ in proxies]
        stack.callback(suite.kill)
        suite.begin(ports)
        suite.runs_for(options.seconds)
        place.configure(guarded + policy())
        place.apply("--online", "--prepare")
        suite.runs_for(options.seconds)
        for name, (_, process) in zip(("one", "two"), proxies):
            place.take_up(name, process, suite)
        for step in (["--online"], ["--rollback"], ["--online", "--prepare"], ["--online"], ["--contract"]):
            suite.runs_for(options.seconds)
            place.apply(*step)
        suite.runs_for(options.seconds)
        suite.end()
        # What was under way at the contract began before it.
        suite.begin(ports)
        suite.end()
        found = suite.compare(expected)
        found += place.compare(before, ports[0])
        place.clear()
        server.close()
        found += remains(data)
    for each in found:
        print(each)
    print(f"{len(found)} findings")
    return found


def policy():
    lines = []
    for table, columns in COLUMNS.items():
        lines += ["[[table]]", f'name = "public.{table}"', 'scope = "platform"']
        for column, (kind, _) in columns.items():
            lines += [f"[table.column.{column}]", f'type = "{kind}"']
            lines += ['search = ["equality"]'] if (table, column) in SEARCHED else []
    return "\n".join([*lines, ""])


class Place:
    """The server, its tables, and pgveil's commands about them."""

    def __init__(self, work, port, options):
        self.work = work
        self.port = port
        self.options = options
        self.psql = regress.psql_command(options.bin, port, DATABASE)
        subprocess.run([options.pgveil, "init", work / "etc"], check=True, stdout=subprocess.DEVNULL)

    def query(self, sql):
        return subprocess.run([*self.psql, "-At", "-c", sql], check=True, capture_output=True, text=True).stdout.strip()

    def fill(self, table, rows):
        values = {"id": "n", **OTHERS[table], **{column: sql for column, (_, sql) in COLUMNS[table].items()}}
        self.query(
            f"INSERT INTO {table} ({', '.join(values)}) SELECT {', '.join(values.values())}"
            f" FROM generate_series({FIRST} + 1, {FIRST} + {rows}) n"
        )

    def rows(self, port):
        """All that is protected, as an application reads it."""
        psql = regress.psql_command(self.options.bin, port, DATABASE)
        found = {}
        for table, columns in COLUMNS.items():
            sql = f"SELECT id, {', '.join(columns)} FROM {table} ORDER BY id"
            found[table] = subprocess.run([*psql, "-At", "-c", sql], check=True, capture_output=True, text=True).stdout.splitlines()
        return found

    def configure(self, text):
        (self.work / "etc/policy.toml").write_text(text)
        (self.work / "etc/pgveil.toml").write_text(regress.CONFIGURATION.format(port=self.port))

    def pgveil(self, *args):
        command = [self.options.pgveil, *args, "--config", self.work / "etc/pgveil.toml"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"pgveil {' '.join(args)}: {done.stdout}\n{done.stderr}")
        return done.stdout

    def apply(self, *args):
        began = time.monotonic()
        self.pgveil("apply", "--yes", *args)
        print(f"apply {' '.join(args)}: {time.monotonic() - began:.1f} s", flush=True)

    @contextlib.contextmanager
    def proxy(self, name):
        folder = self.work / name
        folder.mkdir()
        regress.own(folder)
        with regress.serving(self.work, folder, self.port, self.options.pgveil) as served:
            yield served

    def take_up(self, name, process, suite):
        """Gives a proxy the policy as it is now."""
        shutil.copy(self.work / "etc/policy.toml", self.work / name / "etc/policy.toml")
        process.send_signal(signal.SIGHUP)
        log = self.work / name / "pgveil.log"
        until = time.monotonic() + 60
        while TAKEN_UP not in log.read_text():
            if time.monotonic() > until:
                raise SystemExit(f"the policy is not taken up: {log.read_text()}")
            suite.runs_for(0.1)

    def compare(self, before, port):
        found = []
        after = self.rows(port)
        for table, columns in COLUMNS.items():
            if after[table] != before[table]:
                differ = sum(a != b for a, b in zip(before[table], after[table]))
                found.append(f"{table}: {differ} rows differ, {len(before[table])} before and {len(after[table])} now")
            wanted = " AND ".join(f"substr({column}::bytea, 1, 4) = '{ENVELOPE}'" for column in columns)
            sealed = int(self.query(f"SELECT count(*) FROM {table} WHERE {wanted}"))
            if sealed != len(before[table]):
                found.append(f"{table}: {sealed} of {len(before[table])} rows are sealed")
            print(f"{table}: {sealed} rows are sealed, {len(after[table])} read back", flush=True)
        return found + headers.compare(lambda sql: [line.split("|") for line in self.lines(sql)], self.lines)

    def lines(self, sql):
        return self.query(sql).splitlines()

    def clear(self):
        """What the plan recommends, as it stands there."""
        plan = self.pgveil("plan")
        commands = re.findall(r"(VACUUM \(FULL[^;]*);", plan)
        print(f"plan recommends: {'; '.join(commands) or 'nothing'}", flush=True)
        for command in [*commands, "VACUUM (FULL) pg_catalog.pg_statistic", "CHECKPOINT"]:
            self.query(command)


class Suite:
    """The application's tests: a run directly, then runs one after the other through the proxies."""

    def __init__(self, work, options):
        self.work = work
        self.options = options
        self.under_way = None
        self.ports = []
        self.count = 0
        self.results = []
        (work / "pgveil_application.py").write_text(SETTINGS)

    def environment(self, port):
        path = f"{self.work}:{self.options.checkout}"
        return dict(os.environ, LC_ALL="C.UTF-8", PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1", PGPORT=str(port))

    def command(self, *args, port):
        subprocess.run([self.options.python, *args], cwd=self.options.checkout, env=self.environment(port), check=True)

    def start(self, name, port):
        """A process, and where its results will be."""
        results = self.work / f"results-{name}"
        arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--ds=pgveil_application", "--reuse-db", f"--junitxml={results}"]
        arguments += [f"--deselect={test}" for test in LEFT_OUT] + (self.options.rest or ["tests"])
        with open(self.work / f"output-{name}", "wb") as output:
            process = subprocess.Popen(
                [self.options.python, *arguments], cwd=self.options.checkout, env=self.environment(port),
                stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )
        return process, results

    def directly(self, port):
        process, results = self.start("direct", port)
        process.wait()
        outcomes = junit(results)
        passed = {name for name, outcome in outcomes.items() if outcome.passed}
        if not passed:
            raise SystemExit(f"{(self.work / 'output-direct').read_text()[-4000:]}\nno test passes directly")
        print(f"direct: {len(passed)} of {len(outcomes)} passed", flush=True)
        return passed

    def begin(self, ports):
        self.ports = ports
        self.next()

    def next(self):
        name, port = self.count, self.ports[self.count % len(self.ports)]
        self.count += 1
        self.under_way = self.start(name, port)

    def runs_for(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.under_way[0].poll() is not None:
                self.take()
                self.next()
            time.sleep(0.1)

    def take(self):
        process, results = self.under_way
        process.wait()
        outcomes = junit(results)
        passed = sum(outcome.passed for outcome in outcomes.values())
        print(f"through pgveil, run {len(self.results)}: {passed} of {len(outcomes)} passed", flush=True)
        self.results.append(outcomes)

    def end(self):
        self.take()
        self.under_way = None

    def kill(self):
        if self.under_way and self.under_way[0].poll() is None:
            self.under_way[0].kill()
            self.under_way[0].wait()

    def compare(self, expected):
        found, refused = [], {}
        for number, outcomes in enumerate(self.results):
            for test in sorted(expected):
                outcome = outcomes.get(test, Outcome("missing", "it was not run"))
                if outcome.passed:
                    continue
                if anchor := refusal(outcome.said):
                    refused.setdefault((test, anchor), []).append(number)
                else:
                    found.append(f"run {number}: {test}\n    {outcome.said.strip()[-1500:]}")
        for (test, anchor), runs in sorted(refused.items()):
            print(f"refused with {anchor} in runs {', '.join(map(str, runs))}: {test}")
        print(f"{len(self.results)} runs, {len(refused)} tests meet a statement that is refused", flush=True)
        return found


def remains(data):
    """The files of the database that hold a value. What is in the log is the archive's to forget."""
    word = CANARY.encode()
    found = [path for path in sorted(data.rglob("*")) if path.is_file() and word in path.read_bytes()]
    log = [path for path in found if path.parent.name == "pg_wal"]
    print(f"{len(log)} segments of the write-ahead log hold values of before")
    return [f"{path.relative_to(data)} holds plaintext" for path in found if path not in log]


if __name__ == "__main__":
    main()
