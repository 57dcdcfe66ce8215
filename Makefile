# Needs make and Python 3.11 or newer, nothing else. Everything is kept in this directory:
# the virtual environment in .venv/, the data of `make run` in .dev/.

# The first of these that is new enough, unless PYTHON=... names one.
NEW_ENOUGH = -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python $(NEW_ENOUGH) && echo $$python && break; done)

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
export PIP_ROOT_USER_ACTION := ignore
# Tests start hundreds of processes: each would compile all of it again.
unexport PYTHONDONTWRITEBYTECODE

# What is installed depends on the dependencies and, since it refers to it, on the directory.
HASH := $(shell (cat pyproject.toml && pwd) | cksum | cut -d ' ' -f 1)
RUN_STAMP := .venv/.run-$(HASH)
DEV_STAMP := .venv/.dev-$(HASH)

# More arguments for the command, such as `make test ARGS="-k backoff"`.
ARGS ?=

# Processes that share the tests; 0 runs them one after the other, as a debugger wants. Tests wait
# much for servers, so there is one more than cores of a small machine.
WORKERS ?= 3
# A process that a test has crashed is replaced twice: that test would be tried for ever. Files are
# shared out in the order of tests/conftest.py, the slow ones first.
SHARED := -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 2

MAKEFLAGS += --no-print-directory
.PHONY: help run demo test test-full test-browser tools guard check lint format bench bench-scale clean install install-run
.DEFAULT_GOAL := help

help:
	@echo "make run        start Valkey, PostgreSQL, an engine and its page; Ctrl-C stops them"
	@echo "make demo       play a small chat day against a running \`make run\`"
	@echo "make test       run the tests"
	@echo "make test-full  run them with the long ones, on every server that is installed"
	@echo "make test-browser  try the page in Chromium, and keep pictures of it in .test-browser/"
	@echo "make tools      install what some tests use, as root on Debian: Chromium, Prometheus"
	@echo "make guard      show what a job takes, in commands, calls and bytes, and the bounds of it"
	@echo "make check      run the static checks and the quick tests"
	@echo "make lint       run the static checks: format, ruff, mypy, import-linter"
	@echo "make format     bring the code into its format"
	@echo "make bench      measure beside other job systems (about two hours; see benchmarks/README.md)"
	@echo "make bench-scale measure what changes as work grows (about ten minutes, 6 GB of memory)"
	@echo "make clean      remove the virtual environment and caches; .dev/ keeps its data"
	@echo
	@echo "PYTHON=...      the Python to make .venv with, 3.11 or newer"
	@echo "ARGS=...        more arguments for the command, as in make test ARGS='-k backoff'"
	@echo "DEV=...         where make run and make demo keep data, .dev unless said otherwise"
	@echo "WORKERS=...     processes that share the tests, 3 unless said otherwise"

# Where data of `make run` and `make demo` are kept.
DEV ?= .dev

# With places where pushes, emails and texts arrive, for want of accounts.
run: install-run
	@exec $(BIN)/python -m tests.peers --data $(DEV) -- $(BIN)/python -m engine dev --data $(DEV) $(ARGS)

demo: install-run
	@test -f $(DEV)/env || { \
		echo "start \`make run\` first, and \`make demo\` in another terminal"; exit 1; }
	@set -a; . $(abspath $(DEV))/env; \
		test ! -f $(DEV)/sinks.env || . $(abspath $(DEV))/sinks.env; \
		exec $(BIN)/python -m processors demo $(ARGS)

test: install tools
	@$(BIN)/python -m pytest $(SHARED) $(ARGS)

test-browser: install tools
	@mkdir -p .test-browser
	@SCREENSHOTS=$(abspath .test-browser) $(BIN)/python -m pytest tests/browser $(ARGS)

# Programs that some tests use, as package:program. Root on Debian gets those that are missing;
# elsewhere, and where that fails, the tests that want them are skipped and say so.
TOOLS := chromium:chromium prometheus:promtool

tools:
	@missing=; for each in $(TOOLS); do \
		command -v "$${each#*:}" >/dev/null 2>&1 || missing="$$missing $${each%%:*}"; done; \
	if test -n "$$missing" && test "$$(id -u)" = 0 && command -v apt-get >/dev/null 2>&1; then \
		echo "Installing$$missing, which tests use ..."; \
		{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
			--no-install-recommends $$missing; } >/dev/null 2>&1 || \
			echo "That failed; the tests that want it are skipped."; \
	fi

test-full: install tools
	@STEPS=all $(BIN)/python -m pytest -m "" $(SHARED) $(ARGS)

guard: install
	@$(BIN)/python -m tests.guard $(ARGS)

check: lint
	@$(BIN)/python -m pytest $(wildcard tests/unit tests/property tests/simulation tests/tidy) $(ARGS)

lint: install
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-cache > .venv/imports.log || { cat .venv/imports.log; exit 1; }

# Further arguments in ARGS, as in make bench-scale ARGS='--only dead --dead 100000'.
bench-scale: install
	@mkdir -p .bench
	@$(BIN)/python -m benchmarks.scale --json .bench/$(shell date -u +%F)-scale.json $(ARGS)

format: install
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# Where results go; peers are installed beside them.
RESULTS ?= .bench/$(shell date -u +%F).json

bench: install
	@mkdir -p $(dir $(RESULTS))
	@$(BIN)/python -m benchmarks --json $(RESULTS) --chart $(RESULTS:.json=.svg) $(ARGS)

clean:
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

install: $(DEV_STAMP)

# What the tests need includes what `run` needs.
install-run: $(if $(wildcard $(DEV_STAMP)),,$(RUN_STAMP))

$(DEV_STAMP): EXTRAS := embedded,dev
$(RUN_STAMP): EXTRAS := embedded,messaging,sinks

$(RUN_STAMP) $(DEV_STAMP):
	@test -n "$(PYTHON)" && $(PYTHON) $(NEW_ENOUGH) || { \
		echo "Streamlane needs Python 3.11 or newer; name one with PYTHON=/path/to/python3"; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments."; \
		echo "On Debian and Ubuntu: apt-get install python3-venv"; \
		exit 1; }
	@$(BIN)/python $(NEW_ENOUGH) || { \
		echo "Making the virtual environment .venv ..."; \
		$(PYTHON) -m venv --clear .venv; }
	@echo "Installing into .venv ..."
	@$(PIP) install -e '.[$(EXTRAS)]'
	@rm -f .venv/.run-* .venv/.dev-*
	@touch $@
