#!/usr/bin/env python3
"""Migrates pgbench's tables online while pgbench runs on them through pgveil, from the plaintext to the contract.

    pgbench.py [--pgveil BINARY] [--scale N] [--clients N] [--seconds N] [--modes simple,extended,prepared]

For each protocol mode of pgbench two runs are under way the whole time through two proxies that have the policy: its own TPC-B script, and one that
searches, writes and reads the columns that are being sealed. The migration is prepared, swapped, rolled back, prepared and swapped again, and contracted. pgbench
may try a transaction again that could not be serialized; any other error ends its client and is a failure here. At the end the balances have to agree,
and the table of customers has to hold what its clients wrote, sealed. Needs nothing but PostgreSQL's own programs.
"""

import argparse
import contextlib
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "regress"))
import regress  # noqa: E402

DATABASE = "bench"
TABLES = """
CREATE TABLE customers (id int PRIMARY KEY, email text NOT NULL UNIQUE, note text, changes int NOT NULL DEFAULT 0);
INSERT INTO customers SELECT n, 'customer' || n || '@example.com', 'as it was', 0 FROM generate_series(1, 20000) n
"""
POLICY = """
[[table]]
name = "public.customers"
scope = "platform"
[table.column.email]
type = "text"
search = ["equality"]
[table.column.note]
type = "text"
[[table]]
name = "public.pgbench_accounts"
scope = "platform"
[table.column.filler]
type = "char(84)"
[[table]]
name = "public.pgbench_history"
scope = "platform"
[table.column.filler]
type = "char(22)"
"""
# A wrong answer is a division by zero: found rows are counted, and what was written is read again.
SCRIPT = """
\\set id random(1, 20000)
SELECT email FROM customers WHERE id = :id \\gset
BEGIN;
SELECT 1 / count(*) AS found FROM customers WHERE id = :id AND email = {email};
UPDATE customers SET note = 'changed', changes = changes + 1 WHERE email = {email};
SELECT 1 / count(*) AS noted FROM customers WHERE email = {email} AND note IS NOT NULL AND changes > 0;
END;
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pgveil", type=pathlib.Path, default=regress.REPOSITORY / "target/debug/pgveil")
    parser.add_argument("--bin", type=pathlib.Path, default=regress.postgres_bin(), help="the folder of initdb and postgres")
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=3, help="between two steps of the migration")
    parser.add_argument("--modes", default="simple,extended,prepared")
    options = parser.parse_args()
    options.pgveil = options.pgveil.resolve()
    for mode in options.modes.split(","):
        with tempfile.TemporaryDirectory(prefix="pgveil-migration-") as folder:
            migrate(pathlib.Path(folder), mode, options)


def migrate(work, mode, options):
    regress.own(work)
    regress.CONFIGURATION = regress.CONFIGURATION.replace("/regression", f"/{DATABASE}")
    data = work / "cluster"
    regress.as_server(options.bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
    with open(data / "postgresql.auto.conf", "a") as conf:
        conf.write(regress.SETTINGS)
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(regress.server(options.bin, data))
        psql = regress.psql_command(options.bin, port, "postgres")
        subprocess.run([*psql, "-c", f"CREATE DATABASE {DATABASE}"], check=True)
        psql = regress.psql_command(options.bin, port, DATABASE)
        subprocess.run([*psql, "-c", TABLES], check=True, stdout=subprocess.DEVNULL)
        initialise = ["pgbench", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-i", "-q", "-s", str(options.scale), DATABASE]
        subprocess.run(initialise, check=True, stderr=subprocess.DEVNULL)
        etc = work / "etc"
        subprocess.run([options.pgveil, "init", etc], check=True, stdout=subprocess.DEVNULL)
        (etc / "policy.toml").write_text(POLICY)
        (etc / "pgveil.toml").write_text(regress.CONFIGURATION.format(port=port))

        def apply(*args):
            command = [options.pgveil, "apply", "--yes", "--config", etc / "pgveil.toml", *args]
            began = time.monotonic()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            print(f"{mode}: apply {' '.join(args)}: {time.monotonic() - began:.1f} s", flush=True)

        def query(sql):
            return subprocess.run([*psql, "-At", "-c", sql], check=True, capture_output=True, text=True).stdout.strip()

        # Begun, so that proxies with the policy serve the tables.
        apply("--online", "--prepare", "--full-speed")
        proxies = []
        for name in ("one", "two"):
            folder = work / name
            folder.mkdir()
            regress.own(folder)
            proxies.append(stack.enter_context(regress.proxy(work, folder, port, options.pgveil)))
        load = Load(work, mode, proxies, options)
        stack.callback(load.kill)
        load.runs_for(options.seconds)
        apply("--online", "--full-speed")
        load.runs_for(options.seconds)
        apply("--rollback")
        load.runs_for(options.seconds)
        apply("--online", "--prepare", "--full-speed")
        load.runs_for(options.seconds)
        apply("--online", "--full-speed")
        load.runs_for(options.seconds)
        apply("--contract")
        load.runs_for(options.seconds)
        load.end()
        sums = query(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(bbalance) FROM pgbench_branches),"
            " (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(delta) FROM pgbench_history)"
        ).split("|")
        if len(set(sums)) != 1:
            raise SystemExit(f"{mode}: the balances differ: {sums}")
        plain = query(
            "SELECT (SELECT count(*) FROM customers WHERE substr(email::bytea, 1, 4) <> '\\x50475601' OR substr(note::bytea, 1, 4) <> '\\x50475601')"
            " + (SELECT count(*) FROM pgbench_accounts WHERE substr(filler::bytea, 1, 4) <> '\\x50475601')"
        )
        if plain != "0":
            raise SystemExit(f"{mode}: {plain} rows hold plaintext")
        through = regress.psql_command(options.bin, proxies[0], DATABASE)
        sql = "SELECT id, email, note, changes FROM customers ORDER BY id"
        rows = subprocess.run([*through, "-At", "-c", sql], check=True, capture_output=True, text=True).stdout.splitlines()
        wrong = [row for row in rows if not fits(*row.split("|"))]
        if wrong or len(rows) != 20000:
            raise SystemExit(f"{mode}: {len(rows)} customers, and these are wrong: {wrong[:5]}")
        changes = sum(int(row.split("|")[3]) for row in rows)
        print(f"{mode}: {changes} changes of customers, balances of {sums[0]}: all as it should be", flush=True)


def fits(number, email, note, changes):
    return email == f"customer{number}@example.com" and note == ("changed" if int(changes) else "as it was")


class Load:
    """The runs of pgbench, two through each proxy."""

    def __init__(self, work, mode, proxies, options):
        script = work / "customers.sql"
        # Only the simple protocol has the value in the text.
        script.write_text(SCRIPT.format(email="':email'" if mode == "simple" else ":email"))
        self.runs = []
        for port in proxies:
            for what in (["-b", "tpcb-like"], ["-f", script]):
                command = ["pgbench", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-M", mode, "-n", "-T", "3600"]
                command += ["-c", str(options.clients), "--max-tries=100", *what, DATABASE]
                output = open(work / f"output-{len(self.runs)}", "w")
                self.runs.append((subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT), output))

    def runs_for(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.check()
            time.sleep(0.1)

    def check(self):
        for run, output in self.runs:
            # A client that has met an error ends, and the others go on.
            text = pathlib.Path(output.name).read_text()
            if run.poll() is not None or "error" in text.lower() or "aborted" in text:
                raise SystemExit(f"pgbench has ended, or met an error:\n{text}")

    def end(self):
        self.check()
        for run, output in self.runs:
            run.send_signal(2)
            run.wait()
            output.close()

    def kill(self):
        for run, _ in self.runs:
            if run.poll() is None:
                run.kill()
                run.wait()


if __name__ == "__main__":
    main()
