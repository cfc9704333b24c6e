# `make run` starts the demo, `make test` passes the tests; both make their own virtual environment.
PYTHON ?= python3
PORT ?= 8008
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat
STAMP := $(VENV)/.installed
TOOLS := $(VENV)/.tools

.PHONY: run test lint bench clean

run: $(STAMP)
	@$(BIN)/twistd -n --pidfile= heichat --demo --demo-port $(PORT)

test: $(TOOLS)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(TOOLS)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build *.egg-info

$(STAMP): setup.cfg pyproject.toml
	@echo "Installing into $(VENV)/, once, in less than a minute ..."
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) -e .
	@touch $(STAMP)

$(TOOLS): $(STAMP)
	$(INSTALL) -e '.[test,lint]'
	touch $(TOOLS)
