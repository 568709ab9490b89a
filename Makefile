# Two commands do everything: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: help demo test test-long lint format bench clean

help:
	@echo "make demo   install and run the whole job; ARGS=--no-serve ends after the report"
	@echo "make test   install and run the tests; ARGS=... goes to pytest"
	@echo "make test-long  a search and a cut link on a cluster, which take minutes each"
	@echo "make lint   ruff and pyright"
	@echo "make bench  measure the demo job; results in benchmarks/results"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[dev]'
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/medtune demo $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long" $(ARGS)

test-long: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m long $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/demo.py $(ARGS)

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache
