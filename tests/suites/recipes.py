"""How each of Python's suites is told of a server, started, and read: a command, its environment, its folder; and which suites there are.

It makes no servers and compares nothing.
"""

import json
import pathlib

import others
from outcomes import DATABASE, Outcome, junit, libpq, start

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
    def note(self, test, what, error=None):
        said = self._exc_info_to_string(error, test) if error else ""
        with open(os.environ["PGVEIL_RESULTS"], "a") as results:
            results.write(json.dumps([test.id(), what, said]) + "\\n")
    def addSuccess(self, test):
        super().addSuccess(test)
        self.note(test, "passed")
    def addExpectedFailure(self, test, error):
        super().addExpectedFailure(test, error)
        self.note(test, "passed")
    def addError(self, test, error):
        super().addError(test, error)
        self.note(test, "failed", error)
    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.note(test, "failed", error)
    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.note(test, "failed", error)
class Runner(DiscoverRunner):
    def get_resultclass(self):
        return Result
"""


def run(suite, folder, port, options, only):
    """Runs a suite, or these of its tests; the outcomes by name."""
    found = RUNNERS[suite](folder, port, options, only)
    if not found:
        # Nothing collected is nothing compared, not nothing failed.
        said = (folder / "output").read_text(errors="replace")[-4000:]
        raise SystemExit(f"{said}\n{suite}: no test was run ({'only ' + ' '.join(only) if only else 'see above'})")
    return found


def pytest(suite):
    def runner(folder, port, options, only):
        results = folder / "results"
        psycopg2 = {f"PSYCOPG2_TESTDB_{key}": value for key, value in {
            "HOST": "127.0.0.1", "PORT": str(port), "USER": "postgres", "": DATABASE,
        }.items()}
        psycopg2["PSYCOPG2_TESTDB"] = psycopg2.pop("PSYCOPG2_TESTDB_")
        url = f"postgresql+{options.driver}://scott:tiger@127.0.0.1:{port}/{DATABASE}"
        arguments, environment = {
            "psycopg2": (["tests"], psycopg2),
            "psycopg3": (["tests", "--test-dsn", f"host=127.0.0.1 port={port} user=postgres dbname={DATABASE}"], {}),
            "sqlalchemy": (["test", "--dburi", url, "--backend-only", "-n0"], {}),
            "asyncpg": (["tests"], libpq(port)),
        }[suite]
        named = [each for each in options.rest if not each.startswith("-")]
        flags = [each for each in options.rest if each.startswith("-")]
        arguments = [*(only or named or arguments[:1]), *arguments[1:], *flags]
        command = [options.python, "-m", "pytest", "-q", "-p", "no:randomly", f"--junitxml={results}", *arguments]
        start(command, options.checkout, environment, folder)
        return junit(results)

    return runner


def django(folder, port, options, only):
    results = folder / "results"
    command = [options.python, "runtests.py", "--settings=pgveil_suite", "--parallel=1", "--keepdb", "--noinput", "-v", "0"]
    environment = {"PYTHONPATH": f"{folder}:{options.checkout}", "PGPORT": str(port), "PGVEIL_RESULTS": str(results)}
    (folder / "pgveil_suite.py").write_text(DJANGO.format(database=DATABASE))
    start([*command, *(only or options.rest)], options.checkout / "tests", environment, folder)
    found = {}
    for line in results.read_text().splitlines() if results.exists() else []:
        test, what, said = json.loads(line)
        # One failed part is a failed test.
        if test not in found or found[test].passed:
            found[test] = Outcome(what, said)
    return found


def selectors(suite, checkout, tests):
    """How the runner is told to run only these: by file or class, for names of parameters may hold anything."""
    if suite in others.RUNNERS:
        return others.selectors(suite, tests)
    if suite == "django":
        return sorted(tests)
    files = set()
    for test in tests:
        parts = test.split("::")[0].split(".")
        while parts and not (pathlib.Path(checkout) / "/".join(parts)).with_suffix(".py").exists():
            parts.pop()
        files.add("/".join(parts) + ".py")
    return sorted(files)


def database(suite):
    """The one that has a policy: the one that the suite uses."""
    return others.DATABASES.get(suite, DATABASE)


RUNNERS = {
    **others.RUNNERS,
    "asyncpg": pytest("asyncpg"),
    "django": django,
    "psycopg2": pytest("psycopg2"),
    "psycopg3": pytest("psycopg3"),
    "sqlalchemy": pytest("sqlalchemy"),
}
