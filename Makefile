# The commands of the project. Needs GNU make, a POSIX shell and Python 3.11 to 3.13 with pip; the rest is installed
# into .venv, pinned with hashes. `make help` lists the targets.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
BUILD := .build
PACKAGES := engine router cli bench client/postingengine client/postingengine_pytest.py

# The first interpreter of a supported version that has pip; Debian's has no ensurepip, and need not. The distribution's
# own is asked first: it is built with profile-guided optimization, which one's own builds seldom are (decision 0019).
PYTHON ?= $(shell for name in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys, pip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& { echo $$name; break; }; done)
PIP = $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check --quiet
INSTALL = $(PIP) install --require-hashes

export HYPOTHESIS_PROFILE ?= dev
SEEDS ?= 500
SEED ?= 1
KILLS ?= 50
IMAGES ?= 200
BENCH_GROUPS ?= 2
BENCH_REPLICAS ?= 1
BENCH_OPTIONS ?=

# Two at a time: kernels compile while pip installs, and tests run beside checks.
MAKEFLAGS += --jobs=2

.DELETE_ON_ERROR:
.PHONY: help setup setup-runtime requirements proto baseline check format test test-chaos test-one-process test-unit \
	test-unit-to-n test-unit-from-o test-property demo up bench-smoke bench-contention chaos \
	crashpoints simulate clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(BUILD)/dev.stamp $(BUILD)/kernels.stamp ## everything for development into .venv

setup-runtime: $(BUILD)/runtime.stamp $(BUILD)/kernels.stamp ## only what runs the engine into .venv

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 with pip is on the PATH: install one, or name it with PYTHON=."; exit 1; }
	$(PYTHON) -m venv --without-pip $(VENV)

$(BUILD)/runtime.stamp: requirements/build.txt requirements/runtime.txt pyproject.toml client/pyproject.toml | $(BIN)/python
	@mkdir -p $(BUILD)
	$(INSTALL) -r requirements/build.txt
	$(INSTALL) --no-build-isolation --use-pep517 -r requirements/runtime.txt
	$(PIP) install --no-deps --no-build-isolation --editable client --editable .
	@touch $@

$(BUILD)/dev.stamp: requirements/dev.txt $(BUILD)/runtime.stamp $(BUILD)/beancount.stamp
	$(INSTALL) -r requirements/dev.txt
	@touch $@

$(BUILD)/beancount.stamp: requirements/beancount.txt $(BUILD)/runtime.stamp
	$(INSTALL) -r requirements/beancount.txt
	@touch $@

# Compiled once, before several processes start and would each compile.
$(BUILD)/kernels.stamp: $(BUILD)/runtime.stamp $(wildcard engine/core/*.py engine/core/*/*.py)
	$(BIN)/posting-engine warm-up
	@touch $@

requirements: $(BUILD)/dev.stamp ## pin requirements/*.in with hashes, for every supported Python and platform
	cd requirements && for name in build runtime dev beancount; do \
		../$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --no-annotate $$name.in --output-file $$name.txt || exit 1; done

proto: $(BUILD)/dev.stamp ## generate the Python code of the contract
	$(BIN)/python proto/contract.py generate

baseline: $(BUILD)/dev.stamp ## accept today's contract as the one that later changes must not break
	$(BIN)/python proto/contract.py baseline

check: $(BUILD)/dev.stamp $(BUILD)/kernels.stamp ## format, lint, types, import contracts, generated code, contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict $(PACKAGES)
	$(BIN)/lint-imports
	$(BIN)/python proto/contract.py check

format: $(BUILD)/dev.stamp ## format and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup ## everything that CI runs, two at a time: whole clusters beside what needs one processor
	$(MAKE) --output-sync=target test-chaos test-property test-unit-to-n test-unit-from-o check test-one-process

# Chaos with one process at a time, beside what needs one processor; the rest of that folder runs whole clusters.
ONE_PROCESS := $(patsubst %,tests/chaos/test_%.py,log_recorded_writes log_sigkill step_crash_images storage_sigkill)

test-chaos:
	$(BIN)/pytest -q tests/chaos $(ONE_PROCESS:%=--ignore=%)

test-unit: test-unit-to-n test-unit-from-o

test-unit-to-n:
	$(BIN)/pytest -q tests/golden tests/model tests/unit/test_[a-n]*.py

test-unit-from-o:
	$(BIN)/pytest -q tests/unit/test_[o-z]*.py

test-one-process:
	$(BIN)/pytest -q $(ONE_PROCESS)

test-property:
	$(BIN)/pytest -q tests/property tests/simulation

demo: $(BUILD)/beancount.stamp $(BUILD)/kernels.stamp ## a real ledger through a cluster that is killed half-way
	$(BIN)/posting-engine demo

up: setup-runtime ## a cluster on this machine, in ./data
	$(BIN)/posting-engine up --folder data

bench-smoke: setup-runtime ## a short benchmark: one line of JSON
	flock $${TMPDIR:-/tmp}/posting-engine-bench.lock $(BIN)/python -m bench.smoke $(BENCH_OPTIONS)

bench-contention: setup-runtime ## what hot accounts and a payroll cost: one line of JSON, and a page with plots
	flock $${TMPDIR:-/tmp}/posting-engine-bench.lock $(BIN)/python -m bench.contention \
		--groups $(BENCH_GROUPS) --replicas $(BENCH_REPLICAS) --report $(BUILD)/bench $(BENCH_OPTIONS)

chaos: setup ## kill and cut the power, at length: KILLS=number IMAGES=number SEED=first
	AT_LENGTH=1 KILLS=$(KILLS) IMAGES=$(IMAGES) SEED=$(SEED) $(BIN)/pytest -q -s tests/chaos

crashpoints: setup ## kill nodes and routers at each step of chains over groups, in turn: SEED=first
	CRASHPOINTS=all CRASHPOINTS_ENDED_S=5 SEED=$(SEED) $(BIN)/pytest -q -s tests/chaos/test_crashpoints.py

simulate: setup ## the replicated log, then groups, routers and couriers, in virtual time: SEEDS=number SEED=first
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --seed $(SEED) --groups 3 --both

clean: ## remove .venv and everything generated but data
	rm -rf $(VENV) $(BUILD) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf *.egg-info client/*.egg-info
