# Every target sets itself up in .venv; it needs python3 (3.10 or newer) and make.
PYTHON ?= python3
JOBS ?= 2
PYTEST_ARGS ?=
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test studies check format bench docs clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.demo  ## watch weight decay act on two trainings, and get a page with the pictures
	$(BIN)/torchdecay demo

test: .venv/.dev  ## run the test suite (PYTEST_ARGS="-k plan" for a part of it)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(PYTEST_ARGS)

studies: .venv/.dev  ## run the slow tests, minutes each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow --timeout 3600 $(PYTEST_ARGS)

check: .venv/.dev  ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.dev  ## put the source into the one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.dev  ## run every benchmark, one after the other
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

docs: .venv/.dev  ## run every code block of the docs, then build the site strictly
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_docs.py $(PYTEST_ARGS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "built: site/index.html (to search it: $(BIN)/mkdocs serve)"

clean:  ## remove the environment and everything built
	rm -rf .venv site dist .mypy_cache .ruff_cache .pytest_cache

# Debian leaves ensurepip out of python3: there the system's pip fills the environment.
.venv/.made:
	@echo "making .venv; the first installation takes some minutes, later runs reuse it"
	rm -rf .venv
	$(PYTHON) -m venv .venv || { rm -rf .venv && $(PYTHON) -m venv --without-pip .venv \
	    && $(PYTHON) -m pip --python $(BIN)/python install pip; }
	touch $@

# hatchling first, so that the build of this package takes the pinned one.
.venv/.demo: .venv/.made pyproject.toml constraints.txt
	$(INSTALL) hatchling
	$(INSTALL) --no-build-isolation --editable '.[lab]'
	touch $@

.venv/.dev: .venv/.made pyproject.toml constraints.txt
	$(INSTALL) hatchling
	$(INSTALL) --no-build-isolation --editable '.[dev]'
	touch $@ .venv/.demo
