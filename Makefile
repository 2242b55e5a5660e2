# Everything a fresh clone needs is set up by the first target that needs it. System packages are only named,
# never installed (tools/prerequisites.sh).

PYTHON ?= python3
UV_VERSION := 0.13.9
# Trust what the machine trusts, also behind a proxy that re-signs.
export UV_SYSTEM_CERTS := true
# The tests start hundreds of servers: each would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
UV := $(BIN)/uv
UV_READY := .venv/.uv-$(UV_VERSION)
PYTHON_READY := .venv/.installed
TOOLS_READY := tools/node_modules/.installed
CONTRACTS := build/contracts.json
BENCH_READY := bench/.venv/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo run test test-ci test-postgresql test-long sim bench bench-long lint lock docs

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

setup: $(PYTHON_READY) $(CONTRACTS) ## install everything the other targets need, inside this folder

demo: setup ## pay on a local chain: small payouts flow, a large one is approved, others are refused
	@$(BIN)/outlay demo

run: setup ## the same, then keep the server and the chain running until Ctrl-C
	@$(BIN)/outlay demo --keep --profile build/run.json

# Beside tests/store, which runs on both in any case.
ON_BOTH := tests/e2e/test_python_sdk.py tests/e2e/test_delivery.py

# Files in their own order: the last ones are short, so that both workers end at about the same time.
# A test that hangs says where it does, and fails.
BY_TWO := -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 \
	-o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true

# Left to test-ci and test-long.
NOT_NOW := and not ci

test: setup ## run the tests (minutes)
	$(BIN)/pytest tests -m "not long $(NOT_NOW)" $(BY_TWO)
	OUTLAY_TEST_DATABASE=postgresql $(BIN)/pytest $(ON_BOTH) $(BY_TWO)

test-ci: export CI = true
test-ci: NOT_NOW =
test-ci: test ## run the tests as the build machine does: rehearsals of upgrades and losses too, and more random cases

# Without what touches no database, what runs on both in any case, and what has a cheaper sibling.
WITHOUT_IT := $(addprefix --ignore=tests/,browser chains cli client contract explorer fleet monitoring store unit)

test-postgresql: export OUTLAY_TEST_DATABASE = postgresql
test-postgresql: setup ## run the tests on PostgreSQL instead of SQLite
	$(BIN)/pytest tests -m "not long $(NOT_NOW)" $(BY_TWO) $(WITHOUT_IT)

test-long: export OUTLAY_SEEDS ?= 20
test-long: setup ## run all tests with many more seeds (OUTLAY_SEEDS=N, 20 by default)
	$(BIN)/pytest tests

SEEDS ?= 1000
sim: setup ## simulate payouts under faults: SEEDS=N runs (1000 by default), or SEED=N to look at one
	$(BIN)/python -m tests.sim.run $(if $(SEED),--seed $(SEED) --trace,--seeds $(SEEDS))

bench: setup $(BENCH_READY) ## measure beside limits and rivals on this machine (long); writes bench/results/latest.json
	$(BIN)/python -m bench

bench-long: setup $(BENCH_READY) ## the same with 1,000,000 payouts: hours; FOLDER=DIR keeps what it made, to go on later
	$(BIN)/python -m bench --long $(if $(FOLDER),--folder $(FOLDER))

lint: setup ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

COMPILE = $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet
SIGNER_NEEDS = import tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["signer"], sep="\n")

lock: $(UV_READY) ## write the lock files anew from pyproject.toml and tools/package.json
	$(COMPILE) pyproject.toml --all-extras --group dev -o requirements.lock
	$(COMPILE) --group bench -o requirements-bench.lock
	$(BIN)/python -c '$(SIGNER_NEEDS)' | $(COMPILE) - -o requirements-signer.lock
	npm install --prefix tools --package-lock-only --ignore-scripts --no-audit --no-fund --loglevel=error
	node tools/lock.mjs

docs: setup ## write the generated pages of docs/
	$(BIN)/python docs/generate.py

# The files below are stamps: each lies inside what it vouches for, and goes when that goes.

$(UV_READY):
	@sh tools/prerequisites.sh $(PYTHON)
	@$(BIN)/python -c "" 2>/dev/null || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

$(PYTHON_READY): requirements.lock pyproject.toml $(UV_READY)
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

$(BENCH_READY): requirements-bench.lock $(UV_READY)
	$(UV) venv --quiet --clear --python $(PYTHON) bench/.venv
	$(UV) pip sync --quiet --python bench/.venv/bin/python --require-hashes requirements-bench.lock
	@touch $@

$(TOOLS_READY): tools/package.json tools/package-lock.json
	@sh tools/prerequisites.sh $(PYTHON)
	npm ci --prefix tools --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(CONTRACTS): tools/compile.mjs $(wildcard tools/contracts/*.sol) $(TOOLS_READY)
	node tools/compile.mjs $@
