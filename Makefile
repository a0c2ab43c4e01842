# Every target does its own set-up: a Rust toolchain and this Makefile are all it asks for.

TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
VENV   := $(TARGET)/venv
NODE   := $(TARGET)/node
JAVA   := $(TARGET)/java
SQLX   := $(TARGET)/sqlx
KMS    := $(TARGET)/kms
# The emulator of AWS KMS takes any credentials, but some must be there.
EMULATED := AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
CARGO  := cargo
# A failed test says what differs; where in the harness it was noticed helps nobody.
export RUST_LIB_BACKTRACE ?= 0
ARGS   :=
# What `make matrix` runs, and against which servers besides Debian's; RELEASES=18 for one.
RELEASES := 14 16 17 18
MATRIX   := --test apply --test copy --test differential --test keystore --test leak --test protocol --test serving \
            --test stories --test types --test enums --test forms --test migrate --test writes

.DEFAULT_GOAL := help
.PHONY: help build release test unit differential check fmt clippy deny demo bench bench-quick matrix stories types regress rehearsal chaos setup setup-bench clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

setup: ## Install what building and testing need: C compiler, PostgreSQL, Python, Node, Java, sqlx and KMS packages
	@tests/setup.sh build postgres venv $(VENV) node $(NODE) java $(JAVA) sqlx $(SQLX) kms $(KMS)

setup-bench:
	@tests/setup.sh build postgres pgbouncer

demo: ## Build pgveil and show it on a throw-away Postgres, until Ctrl-C
	@tests/setup.sh build postgres
	$(CARGO) build --release --locked -p pgveil
	@exec $(TARGET)/release/pgveil demo $(ARGS)

build: ## Build everything for development, tests included
	$(CARGO) build --locked --workspace --all-targets

release: ## Build the binary that users run: target/release/pgveil
	@tests/setup.sh build
	$(CARGO) build --release --locked -p pgveil

test: setup fmt clippy build ## Run everything: format, lints, unit tests, behaviour on a real Postgres
	PGVEIL_PYTHON=$(VENV)/bin/python PGVEIL_SQLX=$(SQLX)/debug/pgveil-driver-sqlx PGVEIL_KMS=$(KMS) $(EMULATED) $(if $(shell command -v npm),PGVEIL_NODE=$(NODE)) \
	  $(if $(shell command -v javac),PGVEIL_JAVA=$(JAVA)) $(CARGO) test --locked --workspace --no-fail-fast $(ARGS)

unit: ## Run only the tests that need no Postgres
	$(CARGO) test --locked --workspace --exclude pgveil-tests --exclude pgveil-benches

matrix: setup ## Run the suites that ask a server against PostgreSQL 14, 16, 17 and 18; fetches them once
	@tests/setup.sh versions $(TARGET)/postgres
	$(CARGO) build --locked -p pgveil
	@for release in $(RELEASES); do \
	  echo "PostgreSQL $$release"; \
	  PGVEIL_PG_BIN=$(TARGET)/postgres/$$release/bin \
	    $(CARGO) test --locked -p pgveil-tests --no-fail-fast $(MATRIX) $(ARGS) || failed="$$failed $$release"; \
	done; if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

stories: setup build ## Run the golden stories; UPDATE_STORIES=1 rewrites what they expect
	$(CARGO) test --locked -p pgveil-tests --test stories $(ARGS)

differential: setup build ## Draw random statements until CASES are judged: SEED=1 CASES=20000, REFUSALS=1 lists what is refused
	PGVEIL_SEED=$(or $(SEED),1) PGVEIL_CASES=$(or $(CASES),20000) $(if $(REFUSALS),PGVEIL_REFUSALS=1) \
	  $(CARGO) test --locked -p pgveil-tests --test generated -- --nocapture

chaos: setup build ## Kill proxies, workers and backends while jobs rotate: SECONDS=60 SEED=1
	PGVEIL_CHAOS_SECONDS=$(or $(SECONDS),60) PGVEIL_SEED=$(or $(SEED),1) \
	  $(CARGO) test --locked -p pgveil-tests --test jobs -- --nocapture chaos

rehearsal: setup ## Rotate a table of ROWS under an application, with processes that are killed, as docs/rotation.md says: ROWS=1000000
	$(CARGO) build --release --locked -p pgveil
	PGVEIL_KMS=$(KMS) $(VENV)/bin/python tests/rotation/rehearsal.py --rows $(or $(ROWS),1000000) $(ARGS)

regress: setup ## Run PostgreSQL's own regression files directly and through pgveil: REGRESS=<its src/test/regress>
	$(CARGO) build --locked -p pgveil
	tests/regress/regress.py --pgveil $(TARGET)/debug/pgveil $(ARGS) $(REGRESS)

types: setup build ## Compare CASES texts of every type with the server's own functions: SEED=1 CASES=100000
	PGVEIL_SEED=$(or $(SEED),1) PGVEIL_CASES=$(or $(CASES),100000) \
	  $(CARGO) test --locked -p pgveil-tests --test forms -- --nocapture

check: fmt clippy ## Check format and lints

fmt:
	@if $(CARGO) fmt --version >/dev/null 2>&1; then echo "$(CARGO) fmt --check"; $(CARGO) fmt --all --check; \
	else echo "skipped: rustfmt is not installed (rustup component add rustfmt)"; fi

clippy:
	@if $(CARGO) clippy --version >/dev/null 2>&1; then echo "$(CARGO) clippy"; \
	  $(CARGO) clippy --locked --workspace --all-targets -- -D warnings; \
	else echo "skipped: clippy is not installed (rustup component add clippy)"; fi

deny: ## Check licences, sources and advisories of what we depend on, if cargo-deny is installed
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check; \
	else echo "skipped: cargo-deny is not installed (cargo install cargo-deny)"; fi

bench: setup-bench ## Measure direct, pgbouncer and pgveil side by side, in one interleaved run
	$(CARGO) build --release --locked -p pgveil -p pgveil-benches
	@exec $(TARGET)/release/pgveil-bench $(ARGS)

bench-quick: ## The same as a smoke run: a few seconds, numbers mean nothing
	@$(MAKE) --no-print-directory bench ARGS="--quick $(ARGS)"

clean: ## Remove everything built
	$(CARGO) clean
