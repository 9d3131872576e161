# Every target works on a fresh machine: it installs what it needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NODE := .cache/node
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes
ARGS ?=

.PHONY: help serve test check bench fmt crash gates docs lock clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

serve: $(VENV)/.serve  ## install and start the gateway; pass flags with ARGS="--port 9000"
	@exec $(BIN)/modelgates serve $(ARGS)

test: $(VENV)/.test  ## install what tests need and run every test
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev  ## lint, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py tests/test_docs.py

bench: $(VENV)/.bench  ## measure design section 7 and write bench/results/
	$(BIN)/python bench/run.py $(ARGS)

crash: $(VENV)/.test  ## 10,000 kills of the ledger, 300 of the server; writes bench/results/crash.md
	MODELGATES_TEST_KILLS=7000 MODELGATES_TEST_POSTGRES_KILLS=3000 \
	MODELGATES_TEST_SERVER_KILLS=200 MODELGATES_TEST_POSTGRES_SERVER_KILLS=100 \
	MODELGATES_TEST_FIGURES=bench/results/crash.md $(BIN)/python -m pytest tests/crash $(ARGS)

gates: $(VENV)/.test  ## the long form of the other release gates; writes bench/results/gates.md
	MODELGATES_TEST_RACES=100 MODELGATES_TEST_CHAOS_S=300 MODELGATES_TEST_REVOCATIONS=20 MODELGATES_TEST_DISK_LIVES=0 \
	MODELGATES_TEST_FIGURES=bench/results/gates.md $(BIN)/python -m pytest tests/gates $(ARGS)

fmt: $(VENV)/.dev  ## format and apply safe fixes
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

docs: $(VENV)/.dev  ## write the generated pages of docs/
	$(BIN)/python docs/generate.py

lock: $(VENV)/.dev  ## renew requirements/*.txt from pyproject.toml and requirements/*.in
	sh requirements/lock.sh $(BIN)

clean:  ## remove what the targets installed
	rm -rf $(VENV) .cache build src/*.egg-info src/modelgates_server/console/vendor

$(VENV)/.serve: requirements/build.txt requirements/runtime.txt requirements/node.txt pyproject.toml $(wildcard build_tools/*.py build_tools/assets/*)
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements/build.txt
	$(PIP) -r requirements/runtime.txt
	@test -z "$$($(BIN)/python -m build_tools.backend)" || $(PIP) --upgrade --target $(NODE) -r requirements/node.txt
	PYTHONPATH=$(CURDIR)/$(NODE) $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.serve requirements/dev.txt
	$(PIP) -r requirements/dev.txt
	@touch $@

$(VENV)/.test: $(VENV)/.dev requirements/cloud.txt tests/clients/install.sh tests/clients/package-lock.json tests/support/find_npm.sh tests/browser/install.sh tests/browser/package-lock.json requirements/browser.txt tests/support/install_postgres.sh requirements/postgres.txt tests/support/install_cc.sh requirements/cc.txt requirements/sdk1.txt requirements/sdk2.txt requirements/openrouter.txt
	$(PIP) -r requirements/cloud.txt
	sh tests/support/install_postgres.sh $(BIN)/python
	sh tests/support/install_cc.sh $(BIN)/python
	sh tests/clients/install.sh $(PYTHON)
	sh tests/browser/install.sh $(BIN)/python
	@touch $@

$(VENV)/.bench: $(VENV)/.dev bench/install.sh
	sh bench/install.sh
	@touch $@
