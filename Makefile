# The commands of this checkout. `make help` lists them; Each command sets up what it needs.

PYTHON ?= python3
ARGS ?=
FLOOR ?= 0

BIN := .venv/bin
STAMP := .venv/.synced
RUN := $(BIN)/python
UV := UV_PROJECT_ENVIRONMENT="$(CURDIR)/.venv" UV_PYTHON="$(CURDIR)/.venv/bin/python" $(BIN)/uv

# The tests start hundreds of Python processes. Without the cache of compiled modules, each would compile its imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-lowest coverage check packaging bench bench-peers profile simulate fuzz soak dist site repository docs plugins format clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20
	@echo
	@echo '  PYTHON=python3.12   the interpreter for .venv (3.11 or newer)'
	@echo '  ARGS="..."          further arguments for the command: make test ARGS="-k fib"'

setup: $(STAMP) ## create the environment in .venv; every command below does this itself
	@echo "Ready: $(BIN)"

demo: $(STAMP) ## run an HTTP front, a worker and a board on 127.0.0.1:8080; Ctrl-C stops them
	@exec $(RUN) -m examples.demo $(ARGS)

# Three processes per core, since many tests wait for leases and servers.
PYTEST := $(RUN) -m pytest -n 6 --dist worksteal
QUICK := -m "not (packaging or soak or cluster or exhaustive)" \
  --ignore-glob='*/test_contract_cluster.py' --ignore-glob='*/test_contract_oldest.py'
# The kit runs on memory and SQLite.
OTHER_KITS := $(foreach plugin,dynamo nats redis sqs,--ignore=plugins/brrr-$(plugin)/tests/test_contract.py)

test: $(STAMP) ## run the tests without soaks, clusters, packaging and the repetitions of long tables, in about 5 minutes
	$(PYTEST) $(QUICK) $(OTHER_KITS) $(ARGS)

test-all: $(STAMP) ## run all tests
	$(PYTEST) $(ARGS)

test-lowest: $(STAMP) ## run the tests with the oldest versions of dependencies that the distributions allow
	$(BIN)/uv venv --quiet --clear --python $(RUN) .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --group test
	.venv-lowest/bin/python -m pytest -n 4 --dist worksteal $(QUICK) tests/unit tests/integration plugins $(ARGS)

soak: $(STAMP) ## kill and freeze processes, cut networks, fill disks and set clocks while workflows run, in about 4 minutes
	@exec $(RUN) -m tests.system.soak $(ARGS)

coverage: $(STAMP) ## run the tests, subprocesses included, and list the lines and branches that none of them reaches
	$(RUN) -m coverage erase
	$(RUN) -m coverage run -m pytest -n 4 --dist worksteal $(QUICK) $(ARGS)
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report --fail-under=$(FLOOR)

check: $(STAMP) ## check format, lint, types, import rules and the lock file; continue when one fails
	@$(RUN) tools/check.py

packaging: $(STAMP) ## build the wheels, install them into an empty environment, and run a program there
	$(RUN) -m pytest -m packaging tests/system/packaging $(ARGS)

fuzz: $(STAMP) ## give random inputs to all that reads bytes, URLs, command lines and requests: ARGS="--inputs 1000000"
	@exec $(RUN) -m tests.fuzz $(ARGS)

bench: $(STAMP) ## run the workloads of benchmarks/ on memory, sqlite, redis and nats
	@exec $(RUN) -m benchmarks $(ARGS)

bench-peers: $(STAMP) ## compare with other queues and workflow engines, in about 12 minutes
	@exec $(RUN) -m benchmarks.peers $(ARGS)

profile: $(STAMP) ## sample the CPU of workers, and write the flame graphs of docs/explanation/profiles
	@exec $(RUN) -m benchmarks.profiles $(ARGS)

simulate: $(STAMP) ## run new simulated histories for a minute: make simulate ARGS="--seconds 600"
	@exec $(RUN) -m brrr_simulation $(ARGS)

dist: $(STAMP) ## build a wheel and a source archive of every distribution into dist/, and check them
	$(RUN) -m tools.dist $(ARGS)

site: $(STAMP) ## build the documentation site into build/site; a broken link is an error
	@UV_PROJECT_ENVIRONMENT="$(CURDIR)/build/site-env" $(BIN)/uv sync --frozen --quiet --python $(RUN) \
		--no-default-groups --group docs --extra cli
	build/site-env/bin/python -m tools.site

repository: $(STAMP) ## change the address of the repository everywhere: make repository URL=https://…
	@$(RUN) -m tools.repository $(URL)

docs: $(STAMP) ## write the pages of docs/ that are generated from the code
	$(RUN) tools/errors_page.py
	$(RUN) tools/contract_pages.py
	$(RUN) -m tools.plugins_page
	$(RUN) tools/public_api.py

plugins: $(STAMP) ## run the contract kit on every backend, and renew docs/reference/plugins.toml, in some minutes
	$(RUN) -m tools.contract_reports $(ARGS)

format: $(STAMP) ## format the code, and fix what the linter can fix
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean: ## remove everything that these commands created, except the demo's results
	rm -rf .venv .venv-lowest dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find brrr_core plugins examples benchmarks tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

# Create the environment of the lock file. The stamp skips this until a lock or project file changes.
$(STAMP): pyproject.toml uv.lock $(wildcard plugins/*/pyproject.toml) tools/bootstrap.py
	@$(PYTHON) tools/bootstrap.py
	@echo "Syncing .venv with uv.lock"
	@$(UV) sync --frozen --quiet
	@touch $@
