# Every target creates the environment that it needs; start with `make run` or `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: sbom licenses audit help run test uncompiled lint types imports unit integration chaos soak delivery contracts model hour drill fuzz fuzz-content bench scale upgrade image docs site lock release clean install

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# One stamp: the environment is updated only when the lock or the project file is newer.
$(VENV)/.installed: requirements-dev.lock pyproject.toml consumer/pyproject.toml hatch_build.py native/content.c native/xxh3.h
	@$(PYTHON) -c 'import sys; sys.exit("ordermesh-sync needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another interpreter: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else 0'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable ./consumer --editable .
	@$(BIN)/python -c 'from worker.capture.records.compiled import missing; missing and print("records are read by Python, which is slower:", missing)'
	@touch $@

# Python may not do it by itself (PYTHONDONTWRITEBYTECODE): then every command would compile what it imports.
$(VENV)/.compiled: $(VENV)/.installed $(shell find worker jobs consumer/ordersync_consumer -name '*.py')
	@$(BIN)/python -m compileall -q worker jobs consumer/ordersync_consumer
	@touch $@

# Compiled by pytest, whose assertions say more. Without it, each of the workers would compile all tests.
$(VENV)/.collected: $(VENV)/.compiled $(shell find tests -name '*.py')
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --collect-only --quiet > $@.log || { tail -n 50 $@.log; exit 1; }
	@touch $@

install: $(VENV)/.compiled  ## Create .venv with the locked dependencies

run: $(VENV)/.compiled  ## Start an embedded Valkey, a sandbox OrderMesh and the daemon; Ctrl-C stops all three
	@exec $(BIN)/ordersync run --sandbox

# More processes than the two cores that CI has: a test with a daemon waits for half of its time.
test: install lint types imports $(VENV)/.collected  ## Run lint, types, imports and all tests (PYTEST="...": options of pytest)
	@$(BIN)/python -m pytest -n 6 --dist worksteal $(PYTEST)

# The compiled reader of content must make no difference but of time. No other test of tests/unit/capture reaches it.
uncompiled: $(VENV)/.collected  ## Run the tests of records without the compiled reader (PYTEST="...": options of pytest)
	@ORDERSYNC_COMPILED=off $(BIN)/python -m pytest -q $(PYTEST) \
		$(addprefix tests/unit/capture/,records state test_cost.py) \
		$(addprefix tests/integration/capture/,test_half_pairs.py test_ignored_fields.py)

lint: $(VENV)/.installed  ## Check style, formatting, wording and generated files (ruff, word list)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m tools.words
	@$(BIN)/python -m worker.contracts deploy --check

types: $(VENV)/.installed  ## Check types (mypy, strict)
	@$(BIN)/mypy

imports: $(VENV)/.installed  ## Check which package may import which (import-linter)
	@$(BIN)/lint-imports

unit: $(VENV)/.installed  ## Run the tests of the pure core
	@$(BIN)/python -m pytest tests/unit

integration: $(VENV)/.installed  ## Run the tests against a real server and the sandbox
	@$(BIN)/python -m pytest tests/integration

chaos: $(VENV)/.installed  ## Run the tests with faults of every kind, long ones as well (15 minutes)
	@$(BIN)/python -m pytest tests/chaos -m "long or not long"

soak: $(VENV)/.installed  ## Ten minutes of every fault at random, with memory and descriptors sampled
	@$(BIN)/python -m tests.chaos.soak

delivery: $(VENV)/.installed  ## Deliver 50,000 events while consumers are killed at random
	@$(BIN)/python -m tests.chaos.delivery

contracts: $(VENV)/.installed  ## Give the schemas to every generator, and compile what they make (300 MB of packages, Java, Go)
	@$(BIN)/python -m pytest tests/integration/contracts tests/integration/deploy/test_example_consumers.py \
		tests/integration/deploy/test_example_receiver.py -m "long or not long"

upgrade: $(VENV)/.installed  ## Run earlier programs beside this one, there and back (REVISIONS="c53ace2 ..."; their packages first)
	@$(BIN)/python -m tests.chaos.upgrade $(REVISIONS)

model: $(VENV)/.installed  ## Run the model-based test with 300 random histories of an account
	@$(BIN)/python -m tests.chaos.model

hour: $(VENV)/.installed  ## Simulate an hour of a shop in four minutes, with faults and a daemon that is killed
	@$(BIN)/python -m tests.chaos.hour

drill: $(VENV)/.installed  ## Let twelve failures happen, and measure when each surface names the cause (10 minutes, root)
	@$(BIN)/python -m tests.chaos.drill

fuzz: $(VENV)/.installed  ## Give 200,000 inputs that nobody would write to all that reads inputs of others (INPUTS=...)
	@$(BIN)/python -m tests.chaos.fuzz --inputs $(or $(INPUTS),200000)

fuzz-content: $(VENV)/.installed  ## Give a million records to the compiled reader under sanitizers, and to Python (INPUTS=...)
	@$(BIN)/python -m tests.chaos.fuzz_content --inputs $(or $(INPUTS),1000000)

bench: $(VENV)/.installed  ## Compare throughput and CPU with scripts of others; ARGS=--peers: with other tools as well
	@$(BIN)/python -m tests.bench $(ARGS)

scale: $(VENV)/.installed  ## Measure what many accounts cost and how fresh they are (SCALE="--accounts 500 --processes 2")
	@$(BIN)/python -m tests.bench.scale $(SCALE)

image: $(VENV)/.installed  ## Run the steps of the Dockerfile in a folder and start the daemon from it (root, Linux)
	@$(BIN)/python -m tests.support.deployment.image

docs: $(VENV)/.installed  ## Generate the schemas in deploy/ and the pages in docs/ from the code, and record what commands print
	@$(BIN)/python -m worker.contracts deploy
	@$(BIN)/python -m tools.licenses
	@$(BIN)/python -m tests.recorded docs/reference/command-output.md

site: $(VENV)/.installed  ## Build the documentation site into site/ (strict)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lock: $(VENV)/.installed  ## Update the locked version of every dependency
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --no-emit-package ordersync-consumer --no-header --python-version 3.11 --extra embedded --extra sandbox --extra otel -o requirements.lock pyproject.toml
	@$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --no-emit-package ordersync-consumer --no-header --python-version 3.11 --all-extras -c requirements.lock -o requirements-dev.lock pyproject.toml
	@echo 'hatchling>=1.27' | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 -c requirements-dev.lock -o requirements-build.lock -
	@echo 'twine>=6.1' | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 -c requirements-dev.lock -o requirements-release.lock -
	@printf 'cyclonedx-bom>=7\npip-audit>=2.9\n' | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 -c requirements-dev.lock -o requirements-supply.lock -

release: $(VENV)/.installed  ## Build the sdist and the wheel in dist/ and check both in clean environments
	@$(BIN)/python -m tools.release

sbom: $(VENV)/.installed  ## Write a bill of materials of the locked packages into dist/ (CycloneDX)
	@$(BIN)/python -m tools.sbom

licenses: $(VENV)/.installed  ## Write the page of the licences of the locked packages, which must be allowed
	@$(BIN)/python -m tools.licenses

# An environment of its own: what audits is not what is audited.
.make/supply/.installed: requirements-supply.lock
	@$(PYTHON) -m venv --clear .make/supply
	@.make/supply/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-supply.lock
	@touch $@

audit: .make/supply/.installed  ## Look up known vulnerabilities of the locked packages; says what could not be looked up
	@.make/supply/bin/python -m tools.audit $(AUDIT) requirements.lock requirements-build.lock

clean:  ## Remove the environment and all caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
