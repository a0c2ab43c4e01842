"""How the suites in other languages than Python are told of a server, started, and read: Node's, Rust's, Go's and Java's.

What they need (npm packages, crates, modules, Maven's artefacts) is there before, as docs/drivers.md says. It makes no servers and compares nothing.
"""

import json
import re
import shutil

from outcomes import Outcome, junit, libpq, start

# The runner of postgres.js ends at the first failure and tells no names; this one clears what a failed test leaves behind, goes on, and tells them. It
# gives them more time: the machine may be busy.
POSTGRES_JS = """
import fs from 'fs'
import util from 'util'
import { spawnSync } from 'child_process'
const clear = () => spawnSync('psql', ['-c', 'drop owned by postgres_js_test cascade', '-c', 'drop publication if exists alltables'], {
  env: { ...process.env, PGOPTIONS: '-c lock_timeout=5s' }
})
clear()
let queue = new Promise(resolve => setTimeout(resolve, 100))
const note = (name, what, said) => fs.appendFileSync(process.env.PGVEIL_RESULTS, JSON.stringify([name, what, said]) + '\\n')
const seen = {}
export const nt = () => {}
export const t = (name, options, fn) => {
  if (typeof options === 'function') [fn, options] = [options, {}]
  seen[name] = (seen[name] || 0) + 1
  const shown = seen[name] > 1 ? name + ' (' + seen[name] + ')' : name
  queue = queue.then(async() => {
    let timer
    const late = new Promise((_, reject) => timer = setTimeout(() => reject('timed out'), (options.timeout || t.timeout) * 6000))
    try {
      const [expected, got] = await Promise.race([late, Promise.resolve(fn()).then(x => Promise.all(x))])
      if (expected !== got) throw new Error(util.inspect(expected) + ' != ' + util.inspect(got))
      note(shown, 'passed', '')
    } catch (error) {
      note(shown, 'failed', util.inspect(error))
      clear()
    }
    clearTimeout(timer)
  })
}
t.timeout = 5
export const ot = t
// Tests are put into the queue one after the other, when the modules are loaded.
setTimeout(() => queue.then(() => process.exit(0)), 50)
"""


def node_postgres(folder, port, options, only):
    """Each file of the integration tests in both formats, and what mocha runs in the packages beside."""
    packages = options.checkout / "packages"
    environment = libpq(port, options.database) | {"PGTESTNOSSL": "true"}
    found = {}
    for path in sorted((packages / "pg/test/integration").rglob("*-tests.js")):
        for mode in ([], ["binary"]):
            name = f"{path.relative_to(packages)}{' binary' if mode else ''}"
            if (only and name not in only) or (options.rest and not any(part in name for part in options.rest)):
                continue
            code = start(["node", path, *mode], packages / "pg", environment, folder, limit=300)
            found[name] = Outcome("failed" if code else "passed", (folder / "output").read_text(errors="replace")[-2000:])
    for package, files in (("pg-cursor", ["test/**/*.js"]), ("pg-pool", ["test/**/*.js"]), ("pg-query-stream", ["-r", "ts-node/register", "test/**/*.ts"])):
        if options.rest and package not in options.rest:
            continue
        results = folder / f"results-{package}"
        command = ["npx", "mocha", "--exit", "--reporter", "json", "--reporter-option", f"output={results}", *files]
        start(command, packages / package, environment, folder, limit=600)
        for test in json.loads(results.read_text())["tests"] if results.exists() else []:
            failed, pending = bool(test["err"]), test.get("duration") is None
            name = f"{package}: {test['fullTitle']}"
            found[name] = Outcome("failed" if failed else "skipped" if pending else "passed", json.dumps(test["err"]))
    return {name: outcome for name, outcome in found.items() if not only or name in only}


def postgres_js(folder, port, options, only):
    source = folder / "source"
    shutil.copytree(options.checkout, source, ignore=shutil.ignore_patterns(".git", "node_modules"))
    bootstrap = source / "tests/bootstrap.js"
    # The database is there, with a policy: it is not to be made anew.
    gone = ("dropdb", "createdb", "drop user postgres_js_test'")
    lines = [line for line in bootstrap.read_text().splitlines() if not any(word in line for word in gone)]
    bootstrap.write_text("\n".join(lines))
    (source / "tests/test.js").write_text(POSTGRES_JS)
    results = folder / "results"
    environment = libpq(port, options.database) | {"PGVEIL_RESULTS": str(results)}
    start(["node", "tests/index.js"], source, environment, folder, limit=1200)
    found = {}
    for line in results.read_text().splitlines() if results.exists() else []:
        name, what, said = json.loads(line)
        found[name] = Outcome(what, said)
    return found


def rust_postgres(folder, port, options, only):
    """The port stands in its sources."""
    source = folder / "source"
    shutil.copytree(options.checkout, source, ignore=shutil.ignore_patterns(".git", "target"))
    for path in source.rglob("*.rs"):
        text = path.read_text()
        if "5433" in text:
            path.write_text(text.replace("5433", str(port)))
    names = ["tokio-postgres", "postgres", "postgres-types", "postgres-protocol", "postgres-derive-test"]
    packages = [word for name in names for word in ("-p", name)]
    command = ["cargo", "test", "--no-fail-fast", *packages, *options.rest]
    start(command, source, {"CARGO_TARGET_DIR": str(options.checkout / "target")}, folder)
    return cargo((folder / "output").read_text(errors="replace"))


def sqlx(folder, port, options, only):
    """Its macros ask the server while it is compiled: where that fails, nothing was run."""
    url = f"postgres://postgres@127.0.0.1:{port}/{options.database}"
    # The second time it finds everything made.
    start(["psql", "-q", url, "-f", "tests/postgres/setup.sql"], options.checkout, {}, folder)
    features = "any,postgres,macros,migrate,_unstable-all-types,runtime-tokio,tls-none"
    command = ["cargo", "test", "--no-default-features", "--features", features, "--no-fail-fast", "--test", "postgres*", *options.rest]
    environment = {"DATABASE_URL": url, "RUSTUP_TOOLCHAIN": "stable"}
    start(command, options.checkout, environment, folder)
    return cargo((folder / "output").read_text(errors="replace"))


def cargo(output):
    """What `cargo test` prints: of which program each test is, what became of it, and what it said."""
    found, program = {}, ""
    parts = re.split(r"^ +(?:Running|Doc-tests) (.*)$", output, flags=re.MULTILINE)
    for title, text in zip(parts[1::2], parts[2::2]):
        program = re.sub(r" \(.*\)$", "", title)
        package = re.search(r"\(.*/(\w+)-[0-9a-f]+\)$", title)
        program = f"{package[1]} {program}" if package else program
        said = dict(re.findall(r"^---- (\S+) stdout ----\n(.*?)(?=^----|^failures:)", text, flags=re.MULTILINE | re.DOTALL))
        for name, result in re.findall(r"^test (\S+)(?: - [^.]*)? \.\.\. .*?(ok|FAILED|ignored)", text, flags=re.MULTILINE):
            what = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}[result]
            found[f"{program}: {name}"] = Outcome(what, said.get(name, ""))
    return found


def go(suite):
    def runner(folder, port, options, only):
        address = f"host=127.0.0.1 port={port} dbname={options.database}"
        environment = {
            "pgx": {
                "PGX_TEST_DATABASE": f"{address} user=postgres",
                "PGX_TEST_TCP_CONN_STRING": f"{address} user=pgx_md5 password=secret",
                "PGX_TEST_SCRAM_PASSWORD_CONN_STRING": f"{address} user=pgx_scram password=secret channel_binding=disable",
                "PGX_TEST_MD5_PASSWORD_CONN_STRING": f"{address} user=pgx_md5 password=secret",
                "PGX_TEST_PLAIN_PASSWORD_CONN_STRING": f"{address} user=pgx_pw password=secret",
            },
            "pq": libpq(port, options.database) | {"PGUSER": "postgres", "PGSSLMODE": "disable"},
        }[suite]
        command = ["go", "test", "-p", "1", "-count=1", "-json", *(options.rest or ["./..."])]
        start(command, options.checkout, environment, folder)
        found, said = {}, {}
        for line in (folder / "output").read_text(errors="replace").splitlines():
            event = json.loads(line) if line.startswith("{") else {}
            name = f"{event.get('Package')}: {event.get('Test')}"
            if "Test" not in event:
                continue
            if event["Action"] == "output":
                said[name] = said.get(name, "") + event["Output"]
            elif event["Action"] in ("pass", "fail", "skip"):
                found[name] = Outcome({"pass": "passed", "fail": "failed", "skip": "skipped"}[event["Action"]], said.get(name, ""))
        return found

    return runner


def pgjdbc(folder, port, options, only):
    """The source archive of Maven Central, which Maven builds."""
    settings = {
        "test.url.PGHOST": "localhost", "test.url.PGPORT": port, "test.url.PGDBNAME": options.database, "user": "test",
        "password": "test", "privilegedUser": "postgres", "privilegedPassword": "", "preparethreshold": 5,
    }
    (options.checkout / "build.local.properties").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    reports = options.checkout / "target/surefire-reports"
    shutil.rmtree(reports, ignore_errors=True)
    chosen = [f"-Dtest={','.join(only or options.rest)}"] if only or options.rest else []
    command = ["mvn", "-B", "-q", "test", "-Dmaven.test.failure.ignore=true", *chosen]
    start(command, options.checkout, {}, folder)
    found = {}
    for path in sorted(reports.glob("TEST-*.xml")):
        found.update(junit(path))
    return found


RUNNERS = {
    "node-postgres": node_postgres,
    "pgjdbc": pgjdbc,
    "pgx": go("pgx"),
    "postgres.js": postgres_js,
    "pq": go("pq"),
    "rust-postgres": rust_postgres,
    "sqlx": sqlx,
}
# A repetition of what differs is of these, where the runner takes names; of all, where it does not.
SELECTED = {"node-postgres"}


def selectors(suite, tests):
    if suite == "pgjdbc":
        return sorted({test.split("::")[0].rsplit(".", 1)[1] for test in tests})
    return sorted(tests) if suite in SELECTED else []


DATABASES = {"postgres.js": "postgres_js_test", "pq": "pqgo", "rust-postgres": "postgres", "sqlx": "sqlx"}
# Roles and types that the suites ask for in their documentation.
PREPARATION = {
    "pgjdbc": ["CREATE ROLE test SUPERUSER LOGIN PASSWORD 'test'"],
    "pgx": [
        "CREATE EXTENSION ltree",
        "CREATE DOMAIN uint64 AS numeric(20, 0)",
        "CREATE ROLE pgx_scram SUPERUSER LOGIN PASSWORD 'secret'",
        "CREATE ROLE pgx_pw SUPERUSER LOGIN PASSWORD 'secret'",
        "SET password_encryption = md5; CREATE ROLE pgx_md5 SUPERUSER LOGIN PASSWORD 'secret'",
        """CREATE ROLE " tricky, ' } "" \\ test user " SUPERUSER PASSWORD 'secret'""",
    ],
    "postgres.js": ["CREATE ROLE postgres_js_test LOGIN", "ALTER DATABASE postgres_js_test OWNER TO postgres_js_test"],
    "pq": [
        "CREATE ROLE pqgo SUPERUSER LOGIN",
        "CREATE ROLE pqgossl LOGIN",
        "CREATE ROLE pqgosslcert LOGIN",
        "CREATE ROLE pqgopassword LOGIN PASSWORD 'wordpass'",
        "CREATE ROLE pqgoscram LOGIN PASSWORD 'wordpass'",
        "SET password_encryption = md5; CREATE ROLE pqgomd5 LOGIN PASSWORD 'wordpass'",
    ],
    "rust-postgres": [
        "CREATE EXTENSION ltree",
        "CREATE ROLE pass_user LOGIN PASSWORD 'password'",
        "CREATE ROLE ssl_user LOGIN",
        "SET password_encryption = md5; CREATE ROLE md5_user LOGIN PASSWORD 'password'",
        "SET password_encryption = 'scram-sha-256'; CREATE ROLE scram_user LOGIN PASSWORD 'password'",
    ],
}
# Who logs in with what; all others are trusted.
METHODS = {
    "pgx": {"pgx_scram": "scram-sha-256", "pgx_pw": "password", "pgx_md5": "md5"},
    "postgres.js": {"postgres_js_test_md5": "md5", "postgres_js_test_scram": "scram-sha-256"},
    "pq": {"pqgopassword": "password", "pqgoscram": "scram-sha-256", "pqgomd5": "md5"},
    "rust-postgres": {"pass_user": "password", "md5_user": "md5", "scram_user": "scram-sha-256"},
}
