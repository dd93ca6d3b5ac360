# make demo: the whole federation on this machine. make test: the tests. Both set everything up themselves.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-system lint setup

demo: setup
	@$(BIN)/gdi demo $(ARGS)

test: setup
	@$(BIN)/pytest -m "not system" $(ARGS)

# Needs root and Debian packages: says so, and what is missing, before it starts.
test-system: setup
	@$(BIN)/pytest -n 0 -m system tests/system $(ARGS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

setup:
	@$(PYTHON) scripts/bootstrap.py
