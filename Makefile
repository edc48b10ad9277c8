# Two commands do all the set-up they need: `make run` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test lint types imports unit integration chaos soak model hour bench image docs lock clean install

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# One stamp: the environment is made anew only when a lock or the project file is newer.
$(VENV)/.installed: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("ordermesh-sync needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else 0'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

install: $(VENV)/.installed  ## an environment that can run the worker

run: $(VENV)/.installed  ## embedded Valkey, sandbox OrderMesh and the daemon; Ctrl-C ends all three
	@exec $(BIN)/ordersync run --sandbox

test: lint types imports  ## lint, types, import rules and every test
	@$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.installed  ## ruff: rules and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.installed  ## mypy, strict, over packages and tests
	@$(BIN)/mypy

imports: $(VENV)/.installed  ## the one-way import rules
	@$(BIN)/lint-imports

unit: $(VENV)/.installed  ## the tests of the pure core
	@$(BIN)/python -m pytest tests/unit

integration: $(VENV)/.installed  ## the tests against a real server and the sandbox
	@$(BIN)/python -m pytest tests/integration

chaos: $(VENV)/.installed  ## the tests that kill things
	@$(BIN)/python -m pytest tests/chaos

soak: $(VENV)/.installed  ## consumers killed at random while 50,000 events flow
	@$(BIN)/python -m tests.chaos.soak

model: $(VENV)/.installed  ## 300 made-up lives of an account, each held against what was true at any time
	@$(BIN)/python -m tests.chaos.model

hour: $(VENV)/.installed  ## an hour of a shop in four minutes: all resources, faults, a daemon that is killed
	@$(BIN)/python -m tests.chaos.hour

bench: $(VENV)/.installed  ## the figures, side by side with the scripts people write
	@$(BIN)/python -m tests.bench

image: $(VENV)/.installed  ## the steps of the Dockerfile in a plain folder, and the daemon out of it (root, Linux)
	@$(BIN)/python -m tests.support.deployment.image

docs: $(VENV)/.installed  ## record anew what each command prints
	@$(BIN)/python -m tests.recorded docs/commands.md

lock: $(VENV)/.installed  ## resolve the dependencies anew
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --extra sandbox --extra otel -o requirements.lock pyproject.toml
	@$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --all-extras -c requirements.lock -o requirements-dev.lock pyproject.toml
	@echo 'hatchling>=1.27' | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 -c requirements-dev.lock -o requirements-build.lock -

clean:  ## remove the environment and every cache
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
