#!/usr/bin/env python3
"""Runs PostgreSQL's own regression files directly and through pgveil, with a policy in force, and compares.

    regress.py [--files a,b] [--policy FILE [--after test_setup,create_index]] [--keep] DIRECTORY_OF_src/test/regress

Three equal clusters are made: one is used directly, one through pgveil, one directly again. What differs between
the two direct runs (OIDs, times, plans that depend on when autovacuum ran) is noise; what differs only through
pgveil is a finding. It brings no regression files of its own: they belong to the PostgreSQL that is tested.

With --policy, pgveil protects columns of the files' own tables in its cluster, the other two stay plain: the files of --after
run directly first and make the tables, `pgveil apply` seals what is in them. Then a statement may be refused, and one that
builds on it may fail; these are counted. An answer with other rows is a finding.
"""

import argparse
import concurrent.futures
import contextlib
import difflib
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
DATABASE = "regression"
FILE_LIMIT = 600
# In force, and named by none of the files.
GUARD = "CREATE TABLE public.regress_pgveil_guard (id int PRIMARY KEY, email text, born date)"
POLICY = """
[[table]]
name = "public.regress_pgveil_guard"
scope = "platform"
[table.column.email]
type = "text"
search = ["equality"]
[table.column.born]
type = "date"
"""
CONFIGURATION = """
listen = "127.0.0.1:0"
policy = "policy.toml"
[upstream]
address = "127.0.0.1:{port}"
tls = "disable"
[keystore]
url = "postgres://postgres@127.0.0.1:{port}/regression"
[provider.main]
kind = "local"
root_key_file = "root.key"
[defaults]
provider = "main"
key = "platform"
[log]
level = "info"
"""
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
full_page_writes = off
autovacuum = off
max_prepared_transactions = 2
wal_level = replica
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=pathlib.Path, help="src/test/regress of the PostgreSQL release that is installed")
    parser.add_argument("--files", help="only these, comma-separated; test_setup comes first in any case")
    parser.add_argument("--policy", type=pathlib.Path, help="a policy on tables of the files, instead of the one on an unrelated table")
    parser.add_argument("--after", default="test_setup", help="the files that run before `pgveil apply`, with --policy")
    parser.add_argument("--pgveil", type=pathlib.Path, default=REPOSITORY / "target/debug/pgveil")
    parser.add_argument("--bin", type=pathlib.Path, default=postgres_bin(), help="the folder of initdb and postgres")
    parser.add_argument("--include", type=pathlib.Path, help="the server's header files, to build regress.so")
    parser.add_argument("--keep", action="store_true", help="leave the outputs behind, and say where")
    options = parser.parse_args()
    # A signal must end the servers, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    work = pathlib.Path(tempfile.mkdtemp(prefix="pgveil-regress-"))
    try:
        found = compare(work, options)
    finally:
        if options.keep:
            print(f"outputs are in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    sys.exit(1 if found else 0)


def compare(work, options):
    files = schedule(options.directory)
    if options.files:
        wanted = options.files.split(",")
        files = [name for name in files if name in wanted or name in options.after.split(",")]
    own(work)
    libraries = build_library(work, options)
    template = work / "template"
    template.mkdir()
    own(template)
    as_server(options.bin / "initdb", "-D", template, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
    with open(template / "postgresql.auto.conf", "a") as conf:
        conf.write(SETTINGS)
    with server(options.bin, template) as port:
        prepare(work, port, options)
    runs = {}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name in ("direct", "through", "again"):
            runs[name] = pool.submit(run, work, name, template, files, libraries, options)
    results = {name: future.result() for name, future in runs.items()}
    return report(files, results, bool(options.policy))


def prepare(work, port, options):
    psql = psql_command(options.bin, port, "postgres")
    subprocess.run([*psql, "-c", f"CREATE DATABASE {DATABASE}"], check=True)
    # What pg_regress sets, so that outputs look as its expected files do.
    for setting in ("lc_messages", "lc_monetary", "lc_numeric", "lc_time"):
        subprocess.run([*psql, "-c", f"ALTER DATABASE {DATABASE} SET {setting} TO 'C'"], check=True)
    for setting, value in (("bytea_output", "hex"), ("timezone_abbreviations", "Default")):
        subprocess.run([*psql, "-c", f"ALTER DATABASE {DATABASE} SET {setting} TO '{value}'"], check=True)
    psql = psql_command(options.bin, port, DATABASE)
    subprocess.run([*psql, "-c", GUARD], check=True)
    etc = work / "etc"
    subprocess.run([options.pgveil, "init", etc], check=True, stdout=subprocess.DEVNULL)
    (etc / "policy.toml").write_text(options.policy.read_text() if options.policy else POLICY)
    if not options.policy:
        apply(etc, port, options)


def apply(etc, port, options):
    (etc / "pgveil.toml").write_text(CONFIGURATION.format(port=port))
    subprocess.run([options.pgveil, "apply", "--yes", "--config", etc / "pgveil.toml"], check=True, stdout=subprocess.DEVNULL)


def run(work, name, template, files, libraries, options):
    """The outputs of all files, by name."""
    place = work / name
    place.mkdir()
    own(place)
    shutil.copytree(template, place / "cluster", copy_function=copy_owned)
    own(place / "cluster")
    for folder in ("results", "testtablespace"):
        (place / folder).mkdir()
        own(place / folder)
    outputs = {}
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(server(options.bin, place / "cluster"))
        entrance = port
        waiting = set(options.after.split(",")) if options.policy else set()
        for file in files:
            if name == "through" and entrance == port and file not in waiting:
                if options.policy:
                    apply(work / "etc", port, options)
                entrance = stack.enter_context(proxy(work, place, port, options.pgveil))
            text = run_file(place, file, entrance, libraries, options)
            outputs[file] = normalise(text, place, (port, entrance))
            (place / "results" / f"{file}.out").write_text(outputs[file])
    return outputs


def run_file(place, file, port, libraries, options):
    environment = dict(
        os.environ,
        PGTZ="PST8PDT",
        PGDATESTYLE="Postgres, MDY",
        PGOPTIONS="-c intervalstyle=postgres_verbose",
        PGHOST="127.0.0.1",
        PGPORT=str(port),
        PGUSER="postgres",
        PGDATABASE=DATABASE,
        LANGUAGE="",
        LC_ALL="C",
        PG_ABS_SRCDIR=str(options.directory.resolve()),
        PG_ABS_BUILDDIR=str(place),
        PG_LIBDIR=str(libraries),
        PG_DLSUFFIX=".so",
    )
    psql = [options.bin / "psql", "-X", "-a", "-q", "-d", DATABASE]
    psql += ["-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"]
    with open(options.directory / "sql" / f"{file}.sql", "rb") as script:
        process = subprocess.Popen(
            psql, stdin=script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=place
        )
        try:
            text, _ = process.communicate(timeout=FILE_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            text = process.communicate()[0] + b"\nTIMED OUT\n"
    return text.decode("utf-8", "surrogateescape").encode("utf-8", "backslashreplace").decode()


def report(files, results, protected):
    findings = refused = 0
    for file in files:
        direct, through, again = (results[name][file] for name in ("direct", "through", "again"))
        if protected:
            direct, through, again = map(without_plans, (direct, through, again))
        if direct == through or again == through:
            continue
        noise = {body for body, _ in hunks(direct, again)} | {body for body, _ in hunks(again, direct)}
        unstable = unstable_lines(direct, again)
        real = [text for body, text in hunks(direct, through) if body not in noise and not body <= unstable]
        if protected:
            right = len(real)
            real = [text for text in real if not fails(text)]
            refused += right - len(real)
        if real:
            findings += 1
            print(f"=== {file}: differs through pgveil")
            print("\n".join(real))
    if protected:
        print(f"{refused} differences are errors in the place of answers")
    print(f"{len(files)} files, {findings} differ through pgveil")
    return findings


def without_plans(text):
    """The plans of protected tables are others: their indexes are on search terms."""
    return re.sub(r"^ +QUERY PLAN *\n-+\n(.*\n)*?\(\d+ rows?\)\n", "QUERY PLAN\n", text, flags=re.MULTILINE)


def fails(text):
    """An error, and none of the lines that an answer would have."""
    added = [line[1:] for line in text.splitlines() if line.startswith("+")]
    said = [line for line in added if line and not re.match(r"(\S*: )?(ERROR|DETAIL|HINT|LINE \d+|CONTEXT|WARNING):? | *\^$", line)]
    return len(said) < len(added) and not said


def hunks(left, right):
    """Each difference: the set of its lines, and how it reads."""
    left, right = left.splitlines(), right.splitlines()
    for tag, a, b, c, d in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if tag != "equal":
            lines = [f"-{line}" for line in left[a:b]] + [f"+{line}" for line in right[c:d]]
            context = [f" {line}" for line in left[max(0, a - 3) : a]]
            yield frozenset(lines), "\n".join([f"@@ line {a + 1} @@", *context, *lines])


def unstable_lines(direct, again):
    return {line for body, _ in hunks(direct, again) for line in body}


def normalise(text, place, ports):
    text = text.replace(str(place), "PLACE")
    for port in ports:
        text = re.sub(rf"\b{port}\b", "PORT", text)
    return text


def schedule(directory):
    files = []
    for line in (directory / "parallel_schedule").read_text().splitlines():
        if line.startswith("test:"):
            files += line.split()[1:]
    return [file for file in files if (directory / "sql" / f"{file}.sql").exists()]


@contextlib.contextmanager
def server(folder, data):
    port = free_port()
    as_server(folder / "pg_ctl", "-D", data, "-o", f"-p {port}", "-l", data / "log", "-w", "start")
    try:
        yield port
    finally:
        as_server(folder / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


@contextlib.contextmanager
def proxy(work, place, port, binary):
    with serving(work, place, port, binary) as (listening, _):
        yield listening


@contextlib.contextmanager
def serving(work, place, port, binary):
    """The port of a proxy, and its process, for signals."""
    etc = place / "etc"
    shutil.copytree(work / "etc", etc)
    (etc / "pgveil.toml").write_text(CONFIGURATION.format(port=port))
    with open(place / "pgveil.log", "wb") as log:
        process = subprocess.Popen(
            [binary, "serve", "--config", etc / "pgveil.toml"], stdout=subprocess.PIPE, stderr=log
        )
        try:
            line = process.stdout.readline().decode()
            if "listening on" not in line:
                raise SystemExit(f"pgveil did not start: {(place / 'pgveil.log').read_text()}")
            yield int(line.rsplit(":", 1)[1]), process
        finally:
            process.kill()
            process.wait()


def psql_command(folder, port, database):
    host = ["-h", "127.0.0.1", "-p", str(port), "-U", "postgres"]
    return [str(folder / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", *host, "-d", database]


def build_library(work, options):
    """regress.so, which some files load; without it they fail alike in all runs."""
    libraries = work / "lib"
    libraries.mkdir()
    pg_config = options.bin / "pg_config"
    installed = pathlib.Path(output(pg_config, "--pkglibdir")) if pg_config.exists() else options.bin.parent / "lib"
    for name in ("autoinc.so", "refint.so"):
        if (installed / name).exists():
            shutil.copy(installed / name, libraries)
    include = options.include or (pathlib.Path(output(pg_config, "--includedir-server")) if pg_config.exists() else None)
    if include and (include / "postgres.h").exists() and shutil.which("cc"):
        source = options.directory / "regress.c"
        others = ["-I", include.parent.parent, "-I", include.parent.parent / "internal"]
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-w", "-I", include, *others, source, "-o", libraries / "regress.so"], check=True
        )
    else:
        print("without regress.so: the server's header files or a C compiler are missing")
    return libraries


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def postgres_bin():
    found = shutil.which("initdb")
    candidates = [pathlib.Path(found).resolve().parent] if found else []
    candidates += sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((path for path in candidates if (path / "initdb").exists()), pathlib.Path("/usr/bin"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def server_user():
    """PostgreSQL refuses to run as root."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None


def own(path):
    if user := server_user():
        for each in [path, *path.rglob("*")]:
            os.chown(each, user.pw_uid, user.pw_gid)
    if path.is_dir() and path.name not in ("cluster", "template"):
        path.chmod(0o755)


def copy_owned(source, target):
    shutil.copy2(source, target)


def as_server(*command):
    user = server_user()
    drop = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd="/", **drop)


if __name__ == "__main__":
    main()
