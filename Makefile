# Everything starts from a clean clone with python3 and make; the environment lives in .venv.

# One thread per process: the arrays are small and results repeat.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
# Compiled files are kept: without them each process that a test starts compiles torch and scipy again, and half of the time of
# the suite goes there.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev
WORKERS ?= 2
OUTPUT ?= demo_output

.PHONY: help install dev demo test test-fast test-oldest dist-test coverage mutants lint format types docs bench clean docs-blocks

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamps make set-up happen once, and again when the dependencies change. Python compiles what it imports when it
# imports it; compiling all of torch beforehand would double the time.
$(RUN): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e ".[test,docs]"
	@touch $(RUN) $@

install: $(RUN)  ## Set up .venv with the package and what it needs to run

dev: $(DEV)  ## Set up .venv for development: tests, linters, documentation

demo: $(RUN)  ## Train, refine and certify on the bundled diabetes data
	$(BIN)/convexnn demo --output $(OUTPUT)

test: lint types  ## Linters, types and the whole test suite
	$(BIN)/python -m pytest -n $(WORKERS)

test-fast: $(DEV)  ## The tests that take a moment
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

lint: $(DEV)  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DEV)  ## Let ruff rewrite the files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DEV)  ## mypy, strict
	$(BIN)/mypy

docs: $(DEV)  ## Build the documentation; warnings are errors
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

coverage: $(DEV)  ## Lines and branches that the whole suite runs: table and coverage.json
	$(BIN)/python -m pytest -n $(WORKERS) --cov=convexnn --cov-branch --cov-report=json --cov-report=term:skip-covered
	$(BIN)/python .ci/coverage_gate.py coverage.json

docs-blocks: $(DEV)  ## Run every Python block of README.md and docs/
	$(BIN)/python -m pytest -n $(WORKERS) tests/test_docs_blocks.py

mutants: $(DEV)  ## Put mistakes into the checkers and see whether the sabotage tests notice (minutes)
	$(BIN)/python -m tests.mutants

OLDEST := .venv-oldest
# scikit-learn before 1.7.1 passes options to L-BFGS-B that scipy 1.16 deprecates; that is between the two of them.
OLD_SKLEARN := ignore:scipy.optimize:DeprecationWarning
test-oldest:  ## The quick suite with the oldest supported versions, in an environment of its own
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -r constraints-oldest.txt -e .
	$(OLDEST)/bin/python -m pip check --disable-pip-version-check
	$(OLDEST)/bin/python -m pytest -n $(WORKERS) -m "not slow" -W $(OLD_SKLEARN)

dist-test: $(DEV)  ## Build sdist and wheel, install the wheel elsewhere, look inside, run the demo and some tests
	$(BIN)/python .ci/dist_test.py $(DIST_OPTIONS)

bench: $(RUN)  ## Every benchmark: bench_output/bench.json and one table (1.5 CPU hours, goes on where it stopped; QUICK=1: minutes)
	$(BIN)/python examples/benchmarks/bench.py $(if $(QUICK),--quick) $(BENCH_OPTIONS)

clean:  ## Remove what the commands wrote; the environment stays
	rm -rf build dist *.egg-info demo_output bench_output .coverage* coverage.json .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf docs/_build docs/api docs/auto_examples docs/sg_execution_times.rst
	find convexnn tests examples docs -name __pycache__ -type d -prune -exec rm -rf {} +
