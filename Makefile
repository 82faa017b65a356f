# `make demo` shows it, `make test` tests it. Both set up all they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-inside test-outside test-web check fuzz crash histories guides docs screenshots setup clean

demo: setup
	@$(BIN)/ecash demo

test: check
	@$(MAKE) --no-print-directory -j3 --output-sync=target test-inside test-outside test-web

test-inside:
	$(BIN)/pytest tests/protocol --cov --cov-fail-under=100
	$(BIN)/pytest tests --ignore=tests/protocol --ignore=tests/processes --ignore=tests/docs --ignore=tests/web

test-outside:
	$(BIN)/pytest tests/processes tests/docs

test-web:
	$(BIN)/pytest tests/web

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: setup
	$(BIN)/python -m tests.fuzz --seconds 60

crash: setup
	ECASH_CRASH_SECONDS=60 $(BIN)/pytest tests/processes

histories: setup
	$(BIN)/python -m tests.histories --histories 10000 --processes 2

guides: setup
	$(BIN)/python -m docs.guides --write

docs: setup
	$(BIN)/python -m docs.generate

screenshots: setup
	$(BIN)/python -m tests.web.screenshots

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml
	@echo "Setting up $(VENV) (a minute, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
