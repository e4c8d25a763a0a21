# The few commands a person needs. Each makes its own environment.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# As many as there are cores, at most 4: the tests compute nearly all the time, and models take memory.
WORKERS ?= $(shell n=$$(nproc); echo $$(( n < 4 ? n : 4 )))
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo dev test test-daemon test-loop check bench lineage clean lock

demo: $(STAMP)  ## documents to endpoint, then three answers
	@$(BIN)/headwater build
	@$(BIN)/headwater ask \
	  "What does a context manager do when the with block is entered and left?" \
	  "What does the nonlocal statement do?" \
	  "When is the else clause of a try statement executed?"
	@$(BIN)/headwater status
	@echo "Next: 'make dev' opens the Dagster UI and the endpoint; 'headwater sources add FOLDER' reads your documents."

dev: $(STAMP)  ## Dagster UI and daemon, endpoint, MLflow UI, until Ctrl-C
	@exec $(BIN)/headwater dev

test: $(STAMP)  ## every test but those of the next two
	$(BIN)/pytest -q -n $(WORKERS) --dist worksteal --durations=25

test-daemon: $(STAMP)  ## a daemon and an endpoint that are killed
	$(BIN)/pytest -q -n 2 -m daemon --durations=5

test-loop: $(STAMP)  ## the closed loop with the tiny model, about a quarter of an hour
	$(BIN)/pytest -q -m loop

check: $(STAMP)  ## lint, format, types, layers, definitions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	HEADWATER_HOME=$$(mktemp -d) $(BIN)/dagster definitions validate -m definitions

bench: $(STAMP)  ## all benchmarks, side by side; results in benchmarks/results
	$(BIN)/python -m benchmarks

lineage: $(STAMP)  ## draw the warehouse's lineage for the docs
	$(BIN)/python scripts/lineage.py

clean:  ## the environment and caches; HEADWATER_HOME is yours to remove
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info build dbt_project/target dbt_project/logs

# The lock pins every version and is installed without resolving: no CUDA package can come in.
$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing $$(wc -l < requirements.lock) locked packages; about three minutes."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock 2> >(grep -v '^WARNING: Location' >&2)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . 2> >(grep -v '^WARNING: Location' >&2)
	@touch $(STAMP)

lock:  ## resolve anew: pyproject to requirements.lock, CUDA packages left out
	$(PYTHON) scripts/lock.py
