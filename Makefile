# Two commands: `make demo` and `make test`. Each sets up .venv by itself when it is missing or stale.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The first Python >= 3.11 that really starts (a version manager's shim may exist and refuse).
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)

.PHONY: help install demo test lint types imports size spelling unit format tree clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

install: $(STAMP)  ## set up .venv with everything

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: needs Python >= 3.11. Remedy: install it, or make PYTHON=/path/to/python3." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## the whole job on made-up ultrasound: runs/demo/report.html (under 10 minutes, 2 cores)
	$(BIN)/samling demo --out runs/demo

test: lint types imports size spelling unit  ## every check

lint: $(STAMP)  ## ruff: rules and format
	$(BIN)/ruff check src tests scripts benchmarks
	$(BIN)/ruff format --check src tests scripts benchmarks

types: $(STAMP)  ## mypy --strict on src
	$(BIN)/mypy

imports: $(STAMP)  ## who may import whom
	$(BIN)/lint-imports

size: $(STAMP)  ## no file above 400 lines, no function above 50; the README's tree is true
	$(BIN)/python scripts/check_size.py src tests scripts benchmarks
	$(BIN)/python scripts/file_tree.py --check

spelling: $(STAMP)  ## codespell
	$(BIN)/codespell src tests scripts benchmarks docs *.md

unit: $(STAMP)  ## tests and doctests
	$(BIN)/python -m pytest

format: $(STAMP)  ## let ruff repair what it can
	$(BIN)/ruff check --fix src tests scripts benchmarks
	$(BIN)/ruff format src tests scripts benchmarks

tree: $(STAMP)  ## write the file tree into README.md
	$(BIN)/python scripts/file_tree.py

clean:  ## remove the environment and caches, keep runs/
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
