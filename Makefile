# The two commands: `make quickstart` and `make test`. Everything lands in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# constraints.txt holds the tested versions; with it torch comes as a CPU build.
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.installed

.PHONY: quickstart test check bench clean

quickstart: $(STAMP)
	$(BIN)/llmlabel run recipes/support-tickets --out runs/support-tickets
	@echo
	@echo "Open runs/support-tickets/report.html in a browser."

test: $(STAMP)-dev
	$(BIN)/python -m pytest -q

check: $(STAMP)-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)-dev
	$(BIN)/python benchmarks/youtube.py --quick
	$(BIN)/python benchmarks/tickets.py --quick

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install -q -c constraints.txt torch
	$(PIP) install -q -c constraints.txt -e '.[offline]'
	@touch $@

$(STAMP)-dev: $(STAMP)
	$(PIP) install -q -c constraints.txt -e '.[offline,dev]'
	@touch $@
