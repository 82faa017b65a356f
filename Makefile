# `make demo` shows it, `make test` tests it. Both set up all they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TESTS := test-trust test-exchanges test-agents test-processes test-web test-docs test-client test-protocol check

.PHONY: demo test $(TESTS) simulate fuzz crash races flood conform planted histories guides docs screenshots setup clean

demo: setup
	@$(BIN)/ecash demo

# Side by side in the order of TESTS, since much of a test is waiting; their files in memory where there is room, since
# thousands of small databases would wait for the disk otherwise.
MEMORY := $(shell [ -w /dev/shm ] && [ $$(df -k --output=avail /dev/shm | tail -1) -gt 4000000 ] && echo /dev/shm)

test: setup
	@TMPDIR=$(or $(MEMORY),$${TMPDIR:-/tmp}) $(MAKE) --no-print-directory -j4 --output-sync=target $(TESTS)

test-protocol: setup
	$(BIN)/pytest tests/protocol --cov --cov-fail-under=100

test-client: setup
	$(BIN)/pytest tests/agents/client

test-agents: setup
	$(BIN)/pytest tests/agents --ignore=tests/agents/client

test-trust: setup
	$(BIN)/pytest tests --ignore=tests/agents --ignore=tests/protocol --ignore=tests/processes \
		--ignore=tests/docs --ignore=tests/web

test-exchanges: setup
	$(BIN)/pytest tests/processes/test_crash_exchanges.py

test-processes: setup
	$(BIN)/pytest tests/processes --ignore=tests/processes/test_crash_exchanges.py

test-docs: setup
	$(BIN)/pytest tests/docs

test-web: setup
	$(BIN)/pytest tests/web

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The long runs: each prints what it did, and how much of it.
simulate: setup
	$(BIN)/ecash simulate --seeds 10000 --processes 2 --strict

fuzz: setup
	$(BIN)/python -m tests.fuzz --inputs 1000000

crash: setup
	ECASH_CRASH=full ECASH_CRASH_SECONDS=60 $(BIN)/pytest tests/processes

races: setup
	$(BIN)/python -m tests.races --races 1000 --workers 8 --torn 300 --flips 500

flood: setup
	$(BIN)/python -m tests.flood

conform: setup
	ECASH_CONFORM=full $(BIN)/pytest tests/conform

planted: setup
	$(BIN)/python -m tests.planted

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
