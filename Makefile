.DEFAULT_GOAL := help
.PHONY: help install run test faults plans bench bench-overload bench-webhooks bench-neighbours check fmt lint type migrate lock clean
BIN := .venv/bin
RUN := .venv/run.stamp
DEV := .venv/dev.stamp
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

install: $(DEV) ## Install everything for development into .venv

run: $(RUN) ## Run all of Leadlog here; HOST, PORT, DATA_DIR, DATABASE_URL, REDIS_URL are honoured
	@$(BIN)/leadlog dev --end-with-parent

test: $(DEV) ## Run all tests, on a PostgreSQL and a Valkey of their own
	@$(BIN)/pytest

faults: $(DEV) ## Kill, stop and wipe what can be, at full length (half an hour); ARGS='-k freeze' picks
	@$(BIN)/pytest -n0 -m long tests/faults $(ARGS)

plans: $(DEV) ## Check the plans of lists and search on a million leads (minutes)
	@PLAN_LEADS=1000000 $(BIN)/pytest -n 0 -o timeout=1800 tests/sql/test_plans.py

bench: $(DEV) ## Measure against FastAPI, Starlette and pgbench; ARGS='--help' tells what else it can
	@$(BIN)/python -m tests.bench $(ARGS)

bench-overload: $(DEV) ## Measure what one process does when twice as much is asked as it can do
	@$(BIN)/python -m tests.bench.overload $(ARGS)

bench-webhooks: $(DEV) ## Measure webhook delivery; ARGS='--help' tells what else it can
	@$(BIN)/python -m tests.bench.webhooks $(ARGS)

bench-neighbours: $(DEV) ## Measure healthy webhooks beside each kind of hostile one
	@$(BIN)/python -m tests.bench.webhooks.neighbours $(ARGS)

check: lint type ## Run what CI runs before the tests

fmt: $(DEV) ## Format the code and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lint: $(DEV) ## Check format, style and who imports whom
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .
	@$(BIN)/lint-imports

type: $(DEV) ## Check the types
	@$(BIN)/mypy

migrate: $(RUN) ## Bring the schema of DATABASE_URL up to date
	@$(BIN)/leadlog migrate

lock: ## Pin all dependencies and their hashes anew (needs uv)
	echo 'setuptools>=77' | $(LOCK) pyproject.toml - --extra servers --extra demo --upgrade -o deploy/requirements.txt
	echo 'setuptools>=77' | $(LOCK) pyproject.toml - --all-extras -c deploy/requirements.txt -o deploy/requirements-dev.txt

clean: ## Remove the virtual environment and caches; data stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info

$(RUN): deploy/requirements.txt pyproject.toml .ci/install
	@sh .ci/install deploy/requirements.txt
	@touch $@

$(DEV): deploy/requirements-dev.txt pyproject.toml .ci/install
	@sh .ci/install deploy/requirements-dev.txt
	@touch $@ $(RUN)
