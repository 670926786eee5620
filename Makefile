.DEFAULT_GOAL := help
.PHONY: help install run test faults plans bench bench-overload bench-flood bench-webhooks bench-neighbours bench-pipeline measure check fmt lint type migrate schema lock clean
BIN := .venv/bin
RUN := .venv/run.stamp
DEV := .venv/dev.stamp
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

install: $(DEV) ## Install everything for development into .venv

run: $(RUN) ## Run all of Leadlog on this machine; HOST, PORT, DATA_DIR, DATABASE_URL and REDIS_URL apply
	@$(BIN)/leadlog dev --end-with-parent

test: $(DEV) ## Run all tests, on a PostgreSQL and a Valkey of their own
	@$(BIN)/pytest

faults: $(DEV) ## Run the long tests, which kill, freeze and wipe servers (over an hour); ARGS='-k freeze' selects, FUZZ_REQUESTS=N shortens the fuzz
	@$(BIN)/pytest -n0 -m long tests/faults $(ARGS)

plans: $(DEV) ## Check the plans of lists and search on a million leads (minutes)
	@PLAN_LEADS=1000000 $(BIN)/pytest -n 0 -o timeout=1800 tests/sql/test_plans.py

bench: $(DEV) ## Compare with FastAPI, Starlette and pgbench; ARGS='--against REF': with another commit
	@$(BIN)/python -m tests.bench $(ARGS)

bench-overload: $(DEV) ## Measure one process that gets twice the requests that it can serve
	@$(BIN)/python -m tests.bench.overload $(ARGS)

bench-flood: $(DEV) ## Measure how one key's flood affects another key
	@$(BIN)/python -m tests.bench.flood $(ARGS)

bench-webhooks: $(DEV) ## Measure webhook delivery; ARGS='--against REF': compare with another commit
	@$(BIN)/python -m tests.bench.webhooks $(ARGS)

bench-neighbours: $(DEV) ## Measure healthy webhooks beside each kind of hostile webhook
	@$(BIN)/python -m tests.bench.webhooks.neighbours $(ARGS)

bench-pipeline: $(DEV) ## Measure what a lead costs from request to readers; ARGS='--against REF': compare with another commit
	@$(BIN)/python -m tests.bench.pipeline $(ARGS)

measure: ## Count lines by folder, file and function; ARGS='--against REF': since that commit
	@python3 tests/measure.py $(ARGS)

check: lint type ## Run what CI runs before the tests

fmt: $(DEV) ## Format the code and apply automatic fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lint: $(DEV) ## Check format, style and imports
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .
	@$(BIN)/lint-imports

type: $(DEV) ## Check the types
	@$(BIN)/mypy

migrate: $(RUN) ## Bring the schema of DATABASE_URL up to date
	@$(BIN)/leadlog migrate

schema: $(DEV) ## Generate sql/schema.sql from the migrations
	@$(BIN)/python -m tests.sql.schema

lock: ## Pin the newest versions of all dependencies, with hashes (needs uv)
	echo 'setuptools>=77' | $(LOCK) pyproject.toml - --extra servers --extra demo --upgrade -o deploy/requirements.txt
	echo 'setuptools>=77' | $(LOCK) pyproject.toml - -c deploy/requirements.txt -o deploy/requirements-prod.txt
	echo 'setuptools>=77' | $(LOCK) pyproject.toml - --all-extras -c deploy/requirements.txt -o deploy/requirements-dev.txt
	echo 'openapi-python-client>=0.29' | $(LOCK) - --upgrade -o .ci/python-client/requirements.txt

clean: ## Remove the virtual environment and caches, but no data
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info

$(RUN): deploy/requirements.txt pyproject.toml .ci/install
	@sh .ci/install deploy/requirements.txt
	@touch $@

$(DEV): deploy/requirements-dev.txt pyproject.toml .ci/install
	@sh .ci/install deploy/requirements-dev.txt
	@touch $@ $(RUN)
