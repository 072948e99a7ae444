# The commands of this checkout. `make help` lists them; `make demo` and `make test` set up all they need by themselves.

PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.synced
RUN := $(BIN)/python
UV := UV_PROJECT_ENVIRONMENT="$(CURDIR)/.venv" UV_PYTHON="$(CURDIR)/.venv/bin/python" $(BIN)/uv

.DEFAULT_GOAL := help
.PHONY: help setup demo test check packaging bench dist docs format clean

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20
	@echo
	@echo '  PYTHON=python3.12   the interpreter that .venv is made with (3.11 or newer)'
	@echo '  ARGS="..."          more arguments for the command: make test ARGS="-k fib"'

setup: $(STAMP) ## the environment in .venv, that every command below makes by itself
	@echo "Ready: $(BIN)"

demo: $(STAMP) ## an HTTP front and workers on 127.0.0.1:8080; Ctrl-C stops them
	@exec $(RUN) -m examples.demo $(ARGS)

test: $(STAMP) ## every test
	$(RUN) -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

check: $(STAMP) ## format, lint, types, import rules and the lock file: all of them, even when one fails
	@$(RUN) tools/check.py

packaging: $(STAMP) ## build the wheels, install them into an empty environment, and run a programme there
	$(RUN) -m pytest -m packaging tests/packaging $(ARGS)

bench: $(STAMP) ## the workloads of benchmarks/, on memory, sqlite, redis and nats
	@exec $(RUN) -m benchmarks $(ARGS)

dist: $(STAMP) ## a wheel and a source archive of every distribution, into dist/
	rm -rf dist
	$(UV) build --all-packages --out-dir dist $(ARGS)

docs: $(STAMP) ## write the pages of docs/ that are made from the code
	$(RUN) tools/errors_page.py
	$(RUN) tools/contract_pages.py

format: $(STAMP) ## format the code, and mend what the linter can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean: ## remove all that these commands made; the demo's results stay
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find brrr_core plugins examples benchmarks tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment of the lock file. The stamp makes the second run instant; a changed lock or project file renews it.
$(STAMP): pyproject.toml uv.lock $(wildcard plugins/*/pyproject.toml) tools/bootstrap.py
	@$(PYTHON) tools/bootstrap.py
	@echo "Bringing .venv to what uv.lock says"
	@$(UV) sync --frozen --quiet
	@touch $@
