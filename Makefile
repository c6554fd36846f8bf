# Two commands do all the set-up:
#   make demo     makes .venv from the locked dependencies, then runs `noria up --demo $(ARGS)`
#   make test     the same set-up, then every test
# They need python3.11 or newer and make, nothing else.

PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PYTEST_ARGS ?=
# Files of tests side by side: one more than a small machine has cores, since many wait for processes and leases.
# Those that measure a whole demo have the machine to themselves.
WORKERS ?= 3
LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -q

# uv trusts its own list of certificates unless it is told of the system's, where a firm's own stand.
export UV_SYSTEM_CERTS ?= true
export UV_NATIVE_TLS ?= true

# uv reads its own settings, not pip's: hand over an index that was chosen for pip.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif

.DEFAULT_GOAL := help
PEERS := $(patsubst requirements/peer-%.txt,.venv-peers/%/.done,$(wildcard requirements/peer-*.txt))
# PyTorch for CPUs is on no index: it is installed where a list of wheels was named (its own, or a folder).
ifndef UV_FIND_LINKS
PEERS := $(filter-out .venv-peers/torch/.done .venv-peers/keras/.done,$(PEERS))
endif
.PHONY: help demo test check format lock statements postgres browser peers benchmarks benchmarks-data benchmarks-tracking clean

help:
	@sed -n '2,4s/^# *//p' Makefile
	@echo "make check    formatting, lint, types, import contracts, unit and architecture tests"
	@echo "make format   rewrite the formatting"
	@echo "make lock     resolve the dependencies again"
	@echo "make statements   plan the ledger's statements for SQLite again (after a change of a table or a query)"
	@echo "make peers    the tools that Noria is compared with, each in an environment of its own"
	@echo "make benchmarks, make benchmarks-data, make benchmarks-tracking"

demo: $(VENV)/.demo
	@$(BIN)/noria up --demo $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -q -n $(WORKERS) --dist loadfile tests/unit tests/architecture $(PYTEST_ARGS)

test: $(VENV)/.dev postgres browser peers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m compileall -q src  # what was edited is not compiled anew by each process that the tests start
	$(BIN)/python tests/twice.py -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests --ignore=tests/e2e --ignore=tests/peers $(PYTEST_ARGS)
	$(BIN)/python tests/twice.py -q -n 2 --dist loadfile tests/peers $(PYTEST_ARGS)
	$(BIN)/python tests/twice.py -q tests/e2e $(PYTEST_ARGS)

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# How SQLite runs what ordinary commands ask of the ledger, so that they need not load SQLAlchemy.
statements: $(VENV)/.dev
	$(BIN)/python tests/statements.py

benchmarks: $(VENV)/.dev
	for each in benchmarks/*.py benchmarks/pipelines benchmarks/data/versioning.py benchmarks/data/checks.py; do $(BIN)/python $$each || exit 1; done

# The data part alone: versions beside DVC and git-lfs, then checks beside Great Expectations and Pandera.
benchmarks-data: $(VENV)/.dev peers
	$(BIN)/python benchmarks/data/versioning.py
	$(BIN)/python benchmarks/data/checks.py

# A tracking server's work, beside MLflow's own server with one worker and as it starts by default.
benchmarks-tracking: $(VENV)/.dev peers
	$(BIN)/python benchmarks/tracking
	$(BIN)/python benchmarks/tracking/writers.py

# The database that Noria shares with a team is tested for real: install it where that is possible.
postgres:
	@if ls -d /usr/lib/postgresql/*/bin >/dev/null 2>&1 || command -v postgres >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql; \
	else echo "note: Postgres is not installed, and only root on Debian can install it from here"; fi

# Pages whose script matters are looked at by a real browser.
browser:
	@if command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; \
	else echo "note: Chromium is not installed, and only root on Debian can install it from here"; fi

# Tools that are taken over from, or compared with: never in Noria's own environment.
peers: $(PEERS)

.venv-peers/%/.done: requirements/peer-%.txt | $(VENV)/.uv
	@echo "installing $* into .venv-peers/$*"
	@[ -x .venv-peers/$*/bin/python ] || $(BIN)/python -m venv --without-pip .venv-peers/$*
	@$(BIN)/uv pip install --quiet --python .venv-peers/$*/bin/python --require-hashes -r $<
	@touch $@

lock: $(VENV)/.dev
	$(LOCK) pyproject.toml --extra demo --extra postgres --extra s3 --extra dvc --extra mlflow --extra pandera --extra notebook --extra search --extra oidc --group dev requirements/build.in -o requirements/dev.txt
	$(LOCK) pyproject.toml --extra demo requirements/build.in -c requirements/dev.txt -o requirements/demo.txt
	$(LOCK) requirements/uv.in -o requirements/uv.txt
	for each in requirements/peer-*.in benchmarks/pipelines/requirements/*.in; do $(LOCK) $$each -o $${each%.in}.txt || exit 1; done

clean:
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage

$(VENV)/.uv: requirements/uv.txt
	@[ -n "$(PYTHON)" ] || { echo "Noria needs python3.11 or newer" >&2; exit 2; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

# The project itself is installed with the locked build backend, without asking for anything more.
define install
	@echo "installing $(1) into $(VENV)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r $(1) || { \
		echo "uv could not install it; trying pip" >&2; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1); }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q src
endef

$(VENV)/.demo: $(VENV)/.uv requirements/demo.txt pyproject.toml
	$(call install,requirements/demo.txt)
	@touch $@

$(VENV)/.dev: $(VENV)/.uv requirements/dev.txt pyproject.toml
	$(call install,requirements/dev.txt)
	@touch $@ $(VENV)/.demo
