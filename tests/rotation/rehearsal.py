#!/usr/bin/env python3
"""Rehearses a rotation as an operator would see it: a large table of three tenants, an application at work, a KEK that is rotated, processes killed.

    rehearsal.py [--pgveil BINARY] [--rows N] [--seconds N] [--clients N] [--rate N] [--seed N]

The tenants' KEKs are kept by an emulator of AWS KMS. The application reads, searches, inserts, updates, upserts, deletes and copies through two proxies,
and has its own record of what was acknowledged. Its latencies are measured with no job and beside one at the default pace, turn by turn. Then the job goes
on at full speed, proxies are killed with SIGKILL again and again, and a second rotation comes in the middle. Retired keys are destroyed a minute
after the proof, and no sooner: whoever is destroyed is looked for in the bytes of the table. At the end every row has to be what the application
knows, under its tenant's active key, and the audit log has to be whole. Needs psycopg, PostgreSQL's programs, and PGVEIL_KMS, the folder of key
managers that `make setup` fills; `make rehearsal` has all of it.
"""

import argparse
import contextlib
import os
import pathlib
import random
import secrets
import subprocess
import sys
import tempfile
import threading
import time

import psycopg

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "regress"), str(HERE.parent / "migration")]
import headers  # noqa: E402
import regress  # noqa: E402

DATABASE = "rehearsal"
TENANTS = ["acme", "globex", "initech"]
ROTATED = "acme"
LIMIT = 900
TABLE = "CREATE TABLE people (id bigint PRIMARY KEY, tenant text NOT NULL, email text NOT NULL, note text, changes int NOT NULL)"
POLICY = """
[[table]]
name = "public.people"
scope = "tenant:{tenant}"
[table.column.email]
type = "text"
search = ["equality"]
[table.column.note]
type = "text"
"""
SETTINGS = """
[cache]
ttl = "10s"
stale_max = "10s"
[rotation]
destroy_retired_after = "1m"
[provider.aws]
kind = "aws-kms"
region = "eu-central-1"
endpoint = "{endpoint}"
"""
OVERRIDE = '[[override]]\nscope = "tenant:{tenant}"\nprovider = "aws"\nkey = "{key}"\n'
FULL_SPEED = '[reencrypt]\ninterval = "0s"\n'
ACTIVE = "SELECT id FROM pgveil.keys WHERE purpose = 'data' AND state = 'active' AND scope = 'tenant:{}'"
# Without a pause nobody else would get a processor of a small machine.
PAUSE = 0.001


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pgveil", type=pathlib.Path, default=regress.REPOSITORY / "target/release/pgveil")
    parser.add_argument("--bin", type=pathlib.Path, default=regress.postgres_bin(), help="the folder of initdb and postgres")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=20, help="of each turn in which latencies are measured")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rate", type=int, default=200, help="statements a second, of all clients together")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    options = parser.parse_args()
    options.pgveil = options.pgveil.resolve()
    if "PGVEIL_KMS" not in os.environ:
        raise SystemExit("PGVEIL_KMS is to name the folder of key managers: use `make rehearsal`")
    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="pgveil-rehearsal-") as folder, contextlib.ExitStack() as stack:
        rehearse(pathlib.Path(folder), options, stack)


def rehearse(work, options, stack):
    site = Site(work, options, stack)
    began = time.monotonic()
    site.fill()
    site.say(f"{options.rows} rows sealed by COPY, {options.rows / (time.monotonic() - began):.0f} a second")
    application = Application(site, options)
    stack.callback(application.stop)
    application.start()

    site.say("latencies with no job, and beside one at the default pace")
    alone, beside = [], []
    first = site.query(ACTIVE.format(ROTATED))
    site.rotate_kek()
    site.until("SELECT count(*) FROM pgveil.jobs WHERE state = 'running' AND phase = 'walk'", "1")
    job = site.query("SELECT max(id) FROM pgveil.jobs")
    for _ in range(options.turns):
        site.pgveil("jobs", "pause", job)
        alone.append(application.latencies(options.seconds))
        site.pgveil("jobs", "resume", job)
        beside.append(application.latencies(options.seconds))
    shown("no job", alone)
    shown("a job at the default pace", beside)

    site.say("the same job at full speed, with proxies that are killed")
    site.configure(FULL_SPEED)
    began, kills, chance = time.monotonic(), 0, random.Random(options.seed)
    todo, second = site.todo(first), None
    before = todo
    due = 0
    while todo > 0:
        if time.monotonic() > due:
            site.kill(chance.randrange(2))
            kills, due = kills + 1, time.monotonic() + chance.uniform(1, 4)
        todo = site.todo(first)
        if second is None and 0 < todo < before * 2 / 3:
            second = site.query(ACTIVE.format(ROTATED))
            site.rotate_dek()
            site.say(f"a second rotation, with {todo} values still under the first key")
    took = time.monotonic() - began
    site.say(f"no value names the first key any more: {kills} kills in {took:.0f} s, {before / took:.0f} values a second")
    if second is None:
        raise SystemExit("the first rotation was over before the second one could begin: use more rows")

    destroyed = set()
    ends = time.monotonic() + LIMIT
    while not {first, second} <= destroyed:
        if time.monotonic() > ends:
            raise SystemExit(f"of {first} and {second}, {destroyed or 'none'} is destroyed:\n{site.pgveil('jobs', 'list')}{site.pgveil('keys', 'list')}")
        for key in {first, second} - destroyed:
            if site.query(f"SELECT state FROM pgveil.keys WHERE id = {key}") != "destroyed":
                continue
            left = site.todo(key)
            if left:
                raise SystemExit(f"key {key} is destroyed, and {left} values name it")
            destroyed.add(key)
        time.sleep(1)
    site.say("both keys are destroyed, and no value names them")
    application.stop()
    wrong = application.compare()
    found = headers.compare(site.rows, site.lines, active=True)
    audit = site.pgveil("audit", "verify")
    rows = site.query("SELECT count(*) FROM people")
    site.say(f"{application.done} statements of the application, {application.unknown} with an outcome that a kill left open; {rows} rows")
    for what in [*wrong[:20], *found[:20]]:
        print(what)
    if wrong or found:
        raise SystemExit(f"{len(wrong)} rows are not what was acknowledged, {len(found)} values are not as they should be")
    print(f"every row is what was acknowledged, every value under the active key of its tenant; {audit.strip()}")


def shown(what, turns):
    each = [(percentile(turn, 50), percentile(turn, 99)) for turn in turns]
    each = ", ".join(f"{half * 1000:.1f}/{tail * 1000:.1f}" for half, tail in each)
    every = [latency for turn in turns for latency in turn]
    print(f"  {what}: p50 {percentile(every, 50) * 1000:.2f} ms, p99 {percentile(every, 99) * 1000:.2f} ms of {len(every)} statements ({each})", flush=True)


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


class Site:
    """A cluster, the key manager, two proxies, and the operator."""

    def __init__(self, work, options, stack):
        self.work, self.options, self.began = work, options, time.monotonic()
        regress.own(work)
        data = work / "cluster"
        regress.as_server(options.bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        with open(data / "postgresql.auto.conf", "a") as conf:
            conf.write("listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nshared_buffers = '256MB'\nmax_wal_size = '4GB'\n")
        self.port = stack.enter_context(regress.server(options.bin, data))
        subprocess.run([*regress.psql_command(options.bin, self.port, "postgres"), "-c", f"CREATE DATABASE {DATABASE}"], check=True)
        self.psql = regress.psql_command(options.bin, self.port, DATABASE)
        self.query(TABLE)
        self.endpoint = self.emulator(stack)
        keys = self.at_aws("for _ in range(3): print(kms.create_key()['KeyMetadata']['Arn'])").split()
        self.etc = work / "etc"
        subprocess.run([options.pgveil, "init", self.etc], check=True, stdout=subprocess.DEVNULL)
        (self.etc / "policy.toml").write_text(POLICY)
        overrides = "".join(OVERRIDE.format(tenant=tenant, key=key) for tenant, key in zip(TENANTS, keys))
        base = regress.CONFIGURATION.replace("/regression", f"/{DATABASE}").format(port=self.port)
        self.configuration = base + SETTINGS.format(endpoint=self.endpoint) + overrides
        self.configure("")
        self.pgveil("apply", "--yes")
        self.passphrase = work / "passphrase"
        self.passphrase.write_text(secrets.token_hex(16))
        self.pgveil("step-up", "enroll", "ada", "--new-passphrase-file", self.passphrase)
        self.proxies, self.ports = [None, None], [None, None]
        stack.callback(self.end)
        for at in range(2):
            self.serve(at)

    def say(self, what):
        print(f"{time.monotonic() - self.began:7.1f} s  {what}", flush=True)

    def emulator(self, stack):
        port = regress.free_port()
        program = pathlib.Path(os.environ["PGVEIL_KMS"]) / "bin"
        environment = dict(os.environ, SERVICES="kms", HOME=str(self.work), DISABLE_EVENTS="1")
        command = [program / "localemu", "start", "--host", "127.0.0.1", "--port", str(port)]
        with open(self.work / "kms.log", "wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        stack.callback(lambda: (os.killpg(process.pid, 9), process.wait()))
        self.python = program / "python"
        endpoint = f"http://127.0.0.1:{port}"
        self.endpoint = endpoint
        for _ in range(600):
            with contextlib.suppress(subprocess.CalledProcessError):
                self.at_aws("kms.list_keys()", quiet=True)
                return endpoint
            time.sleep(0.2)
        raise SystemExit("the key manager does not start")

    def at_aws(self, script, quiet=False):
        script = f"import boto3\nkms = boto3.client('kms', region_name='eu-central-1', endpoint_url='{self.endpoint}')\n{script}"
        errors = subprocess.DEVNULL if quiet else None
        return subprocess.run([self.python, "-c", script], check=True, stdout=subprocess.PIPE, stderr=errors, text=True).stdout

    def configure(self, more):
        (self.etc / "pgveil.toml").write_text(self.configuration + more)

    def pgveil(self, *args):
        command = [self.options.pgveil, *args, "--config", self.etc / "pgveil.toml"]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            raise SystemExit(f"pgveil {' '.join(map(str, args))}: {ran.stdout}{ran.stderr}")
        return ran.stdout

    def token(self, operation):
        token = self.work / "token"
        token.write_text(self.pgveil("step-up", "token", operation, f"tenant:{ROTATED}", "--operator", "ada", "--passphrase-file", self.passphrase))
        return token

    def rotate_kek(self):
        self.pgveil("keks", "rotate", f"tenant:{ROTATED}", "--token", self.token("kek.rotate"))

    def rotate_dek(self):
        self.pgveil("rotate", f"tenant:{ROTATED}", "--token", self.token("dek.rotate"))

    def serve(self, at):
        log = open(self.work / f"proxy-{at}.log", "ab")
        command = [self.options.pgveil, "serve", "--config", self.etc / "pgveil.toml"]
        self.proxies[at] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        line = self.proxies[at].stdout.readline().decode()
        if "listening on" not in line:
            raise SystemExit(f"pgveil did not start: {pathlib.Path(log.name).read_text()}")
        log.close()
        self.ports[at] = int(line.rsplit(":", 1)[1])

    def kill(self, at):
        self.proxies[at].kill()
        self.proxies[at].wait()
        self.serve(at)

    def end(self):
        for proxy in filter(None, self.proxies):
            proxy.kill()
            proxy.wait()

    def query(self, sql):
        return subprocess.run([*self.psql, "-At", "-c", sql], check=True, capture_output=True, text=True).stdout.strip()

    def rows(self, sql):
        return [tuple(line.split("|")) for line in self.query(sql).splitlines()]

    def lines(self, sql):
        with subprocess.Popen([*self.psql, "-At", "-c", sql], stdout=subprocess.PIPE, text=True) as ran:
            for line in ran.stdout:
                yield line.rstrip("\n")
        if ran.returncode:
            raise SystemExit(f"psql ended with {ran.returncode}")

    def until(self, sql, right):
        ends = time.monotonic() + LIMIT
        while (said := self.query(sql)) != right:
            if time.monotonic() > ends:
                raise SystemExit(f"{sql}: {said}")
            time.sleep(0.2)

    def todo(self, key):
        """Values that name a key, by the bytes of the table."""
        name = f"= int8send({key})"
        return int(self.query(f"SELECT count(*) FILTER (WHERE substr(email::bytea, 9, 8) {name}) + count(*) FILTER (WHERE substr(note::bytea, 9, 8) {name}) FROM people"))

    def fill(self):
        with psycopg.connect(host="127.0.0.1", port=self.ports[0], user="postgres", dbname=DATABASE) as connection:
            with connection.cursor().copy("COPY people (id, tenant, email, note, changes) FROM STDIN") as copy:
                for number in range(self.options.rows):
                    copy.write_row((number, *fresh(number)))


def fresh(number):
    return (TENANTS[number % 3], f"person{number}@example.com", f"the note of person {number}, as it was", 0)


class Application:
    """Clients that know what was acknowledged to them. Each has rows of its own."""

    def __init__(self, site, options):
        self.site, self.options = site, options
        self.ended = threading.Event()
        self.clients = [Client(self, at) for at in range(options.clients)]

    def start(self):
        for client in self.clients:
            client.start()

    def latencies(self, seconds):
        """Of the statements of so many seconds, in seconds."""
        for client in self.clients:
            client.latencies = []
        time.sleep(seconds)
        self.check()
        return [latency for client in self.clients for latency in client.latencies]

    def check(self):
        for client in self.clients:
            if client.failure:
                raise SystemExit(f"client {client.at}: {client.failure}")

    def stop(self):
        self.ended.set()
        for client in self.clients:
            if client.is_alive():
                client.join()
        self.check()

    @property
    def done(self):
        return sum(client.done for client in self.clients)

    @property
    def unknown(self):
        return sum(client.unknown for client in self.clients)

    def compare(self):
        """Rows that are not what was acknowledged, read through a proxy."""
        wrong, seen = [], set()
        known = {number: states for client in self.clients for number, states in client.known.items()}
        with psycopg.connect(host="127.0.0.1", port=self.site.ports[1], user="postgres", dbname=DATABASE) as connection:
            with connection.cursor("all") as cursor:
                cursor.itersize = 10_000
                for number, *row in cursor.execute("SELECT id, tenant, email, note, changes FROM people"):
                    row = tuple(row)
                    if number in seen:
                        wrong.append(f"row {number} is there twice")
                    seen.add(number)
                    expected = known.get(number, {fresh(number)} if number < self.options.rows else {None})
                    if row not in expected:
                        wrong.append(f"row {number}: {row}, and not one of {expected}")
        for number in range(self.options.rows):
            if number not in seen and None not in known.get(number, {0}):
                wrong.append(f"row {number} is lost")
        wrong.extend(f"row {number} is lost" for number, states in known.items() if number not in seen and number >= self.options.rows and None not in states)
        return wrong


class Client(threading.Thread):
    def __init__(self, application, at):
        super().__init__(daemon=True)
        self.application, self.at = application, at
        self.options, self.ended = application.options, application.ended
        self.chance = random.Random(self.options.seed * 1000 + at)
        # By row: what it may be now. Nothing: it is as it was filled, or was never there.
        self.known = {}
        self.next = self.options.rows + at
        self.connection = None
        self.latencies, self.done, self.unknown, self.failure = [], 0, 0, None

    def run(self):
        try:
            pause = self.options.clients / self.options.rate
            while not self.ended.is_set():
                began = time.monotonic()
                self.step()
                time.sleep(max(PAUSE, pause - (time.monotonic() - began)))
        except Exception as error:  # noqa: BLE001
            self.failure = repr(error)

    def step(self):
        action = self.chance.choices([self.read, self.update, self.insert, self.delete, self.upsert, self.copy], [8, 5, 1, 1, 3, 1])[0]
        try:
            if self.connection is None:
                place = self.application.site.ports[self.chance.randrange(2)]
                self.connection = psycopg.connect(host="127.0.0.1", port=place, user="postgres", dbname=DATABASE, autocommit=True)
            began = time.monotonic()
            action()
            self.latencies.append(time.monotonic() - began)
            self.done += 1
        except psycopg.OperationalError as error:
            # Only one that was killed breaks a connection; what else it says is a failure.
            if error.sqlstate and not error.sqlstate.startswith(("08", "57P")):
                raise
            self.connection = None

    def mine(self):
        count = (self.options.rows - self.at + self.options.clients - 1) // self.options.clients
        return self.at + self.options.clients * self.chance.randrange(count)

    def states(self, number):
        return self.known.get(number, {fresh(number)} if number < self.options.rows else {None})

    def write(self, changes, statement):
        """`changes`: by row, what a state becomes."""
        before = {number: self.states(number) for number in changes}
        after = {number: {change(state) for state in before[number]} for number, change in changes.items()}
        for number in changes:
            self.known[number] = before[number] | after[number]
        self.unknown += 1
        statement(self.connection.cursor())
        self.unknown -= 1
        self.known.update(after)

    def read(self):
        number = self.mine()
        tenant, email, *_ = fresh(number)
        found = self.connection.execute("SELECT tenant, email, note, changes FROM people WHERE tenant = %s AND email = %s", (tenant, email)).fetchall()
        found = {tuple(row) for row in found} or {None}
        if len(found) != 1 or not found <= self.states(number):
            raise AssertionError(f"row {number} is read as {found}, and is one of {self.states(number)}")
        self.known[number] = found

    def update(self):
        number, note = self.mine(), self.note()
        statement = "UPDATE people SET note = %s, changes = changes + 1 WHERE id = %s AND tenant = %s"
        self.write(
            {number: lambda row: row and (row[0], row[1], note, row[3] + 1)},
            lambda cursor: cursor.execute(statement, (note, number, fresh(number)[0])),
        )

    def insert(self):
        number = self.take()
        statement = "INSERT INTO people (id, tenant, email, note, changes) VALUES (%s, %s, %s, %s, %s)"
        self.write({number: lambda _: fresh(number)}, lambda cursor: cursor.execute(statement, (number, *fresh(number))))

    def delete(self):
        number = self.mine()
        self.write({number: lambda _: None}, lambda cursor: cursor.execute("DELETE FROM people WHERE id = %s", (number,)))

    def upsert(self):
        number, note = self.mine(), self.note()
        tenant, email, _, _ = fresh(number)
        statement = "INSERT INTO people (id, tenant, email, note, changes) VALUES (%s, %s, %s, %s, 0) ON CONFLICT (id) DO UPDATE SET note = excluded.note"
        self.write(
            {number: lambda row: (tenant, email, note, row[3] if row else 0)},
            lambda cursor: cursor.execute(statement, (number, tenant, email, note)),
        )

    def copy(self):
        numbers = [self.take() for _ in range(3)]

        def statement(cursor):
            with cursor.copy("COPY people (id, tenant, email, note, changes) FROM STDIN") as copy:
                for number in numbers:
                    copy.write_row((number, *fresh(number)))

        self.write({number: lambda _, number=number: fresh(number) for number in numbers}, statement)

    def take(self):
        self.next += self.options.clients
        return self.next

    def note(self):
        return f"changed to {self.chance.getrandbits(64):016x}"


if __name__ == "__main__":
    main()
