# Headwater. `make help` lists what there is.
#
# Variables: PORT, KAFKA_PORT, POSTGRES_PORT, REGISTRY_PORT, METRICS_PORT, DASHBOARD_PORT, API_PORT, HOST, RATE (events
# a second), VAR (the stack's folder), WORKERS (processes that share the tests), ARGS (more).

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
MADE := $(VENV)/.made-from-lock
WORKERS ?= 2
PYTEST := $(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal

# Only what is given is passed on: the defaults are the command's own.
STACK := $(if $(VAR),--var $(VAR))
UP := $(STACK) $(if $(HOST),--host $(HOST)) $(if $(PORT),--port $(PORT)) \
	$(if $(KAFKA_PORT),--kafka-port $(KAFKA_PORT)) $(if $(POSTGRES_PORT),--postgres-port $(POSTGRES_PORT)) \
	$(if $(REGISTRY_PORT),--registry-port $(REGISTRY_PORT)) $(if $(METRICS_PORT),--metrics-port $(METRICS_PORT)) \
	$(if $(DASHBOARD_PORT),--dashboard-port $(DASHBOARD_PORT)) $(if $(API_PORT),--api-port $(API_PORT)) \
	$(if $(RATE),--rate $(RATE)) $(ARGS)

.PHONY: help up dashboard down reset sql test test-slow lint bench doctor load late break plan env
.DEFAULT_GOAL := help

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: $(MADE) ## Start everything; Ctrl-C stops it and keeps the data (PORT=, DASHBOARD_PORT=, API_PORT=, KAFKA_PORT=, HOST=, RATE=)
	@$(BIN)/headwater up $(UP)

dashboard: $(MADE) ## Only the dashboard, over the data that is there (DASHBOARD_PORT=, HOST=)
	@$(BIN)/headwater dashboard $(STACK) $(if $(HOST),--host $(HOST)) $(if $(DASHBOARD_PORT),--port $(DASHBOARD_PORT))

down: $(MADE) ## Stop what `make up` started
	@$(BIN)/headwater down $(STACK)

reset: $(MADE) ## Delete the local stack's data: lake, runs, logs (CONFIRM=yes)
	@if [ "$(CONFIRM)" != yes ]; then \
		echo "This deletes $(or $(VAR),var): the local lake, all runs and logs. Say: make reset CONFIRM=yes"; exit 1; fi
	@$(BIN)/headwater reset --yes $(STACK)

sql: $(MADE) ## A SQL shell on the tables
	@$(BIN)/headwater sql $(STACK)

test: lint ## Everything that must hold, but for the slow tests; sets up the environment first
	@$(PYTEST) $(ARGS)

test-slow: $(MADE) ## The slow tests: whole stack, browser, Apache Kafka, faults
	@failed=0; \
	$(PYTEST) -m slow $(ARGS) || failed=1; \
	$(PYTEST) -m drawn --hypothesis-profile thorough || failed=1; \
	$(BIN)/pytest tests/integration/test_stream.py --kafka apache || failed=1; \
	exit $$failed

lint: $(MADE) ## ruff check, ruff format --check, mypy, and the generated docs are up to date
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/headwater dictionary --check
	@$(BIN)/headwater contracts --check

bench: $(MADE) ## Measure speed, against the floor of the bare libraries (ARGS=)
	@$(BIN)/python -m benchmarks $(ARGS)

doctor: $(MADE) ## Look for damage in the lake (ARGS=--mend mends it)
	@$(BIN)/headwater doctor $(STACK) $(ARGS)

load: $(MADE) ## Load a file of your own events (FILE=events.csv MAPPING=mapping.yaml; docs/loading.md)
	@$(BIN)/headwater load $(FILE) --mapping $(MAPPING) $(STACK) $(ARGS)

late: $(MADE) ## Send one event of three days ago (DAYS=), and watch its days being restated
	@$(BIN)/python -m local_stack.tour late $(STACK) $(if $(DAYS),--days $(DAYS))

break: $(MADE) ## Take an hour out of silver/outcomes, and watch the check find it
	@$(BIN)/python -m local_stack.tour break $(STACK)

plan: $(MADE) ## Give a user of the database another plan, and watch silver/users get a version
	@$(BIN)/python -m local_stack.tour plan $(STACK)

env: $(MADE) ## Set up the environment, .venv, from requirements.lock

# In place, so that a changed lock costs only what changed; what is no longer in the lock is removed.
$(MADE): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Headwater needs Python 3.11, and there is no '$(PYTHON)' on the path." \
		"Install it (Debian: apt install python3.11 python3.11-venv), or say: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
		echo "Headwater needs Python 3.11; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Say: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@if [ -x $(BIN)/python ] && ! $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; \
		then echo "$(VENV) does not work, or is of another Python: it is made anew"; rm -rf $(VENV); fi
	@if [ ! -x $(BIN)/python ]; then \
		free=$$(df -Pk . | awk 'NR == 2 { print int($$4 / 1024) }'); \
		if [ "$$free" -lt 3072 ]; then echo "$$free MB are free here; the environment and the data need 3072 MB"; exit 1; fi; \
		$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
			echo "$(PYTHON) could not make a virtual environment (Debian: apt install python3.11-venv)"; exit 1; }; fi
	@echo "Setting up $(VENV) from requirements.lock ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements.lock || { \
		echo "The packages of requirements.lock could not be installed; is the package index within reach?"; exit 1; }
	@$(BIN)/python -m pip freeze --all --exclude-editable | sed 's/==.*//; s/ @.*//; s/[_.]/-/g' | grep -ivxF pip | sort > $(VENV)/.there
	@sed 's/==.*//; s/[_.]/-/g' requirements.lock | sort > $(VENV)/.wanted
	@grep -ivxFf $(VENV)/.wanted $(VENV)/.there > $(VENV)/.surplus || true
	@if [ -s $(VENV)/.surplus ]; then \
		$(BIN)/python -m pip uninstall --quiet --yes --disable-pip-version-check --requirement $(VENV)/.surplus; fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
