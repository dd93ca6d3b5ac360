# make demo: the whole federation on this machine. make test: the tests. Both set everything up themselves.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-parts test-federation test-system test-kubernetes images lint setup

demo: setup
	@$(BIN)/gdi demo $(ARGS)

# Both at once: the federation's tests mostly wait. Each part's output comes whole.
test: setup
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target test-parts test-federation

test-parts:
	@$(BIN)/pytest -n 2 --dist worksteal -m "not system" tests/unit tests/integration $(ARGS)

test-federation:
	@$(BIN)/pytest -n 0 tests/federation $(ARGS)

# Needs root and Debian packages: says so, and what is missing, before it starts.
test-system: setup
	@$(BIN)/pytest -n 0 -m system tests/system $(ARGS)

# Needs root, Debian packages and Go (which builds Kubernetes, once): says so, and what is missing, before it starts.
test-kubernetes: setup
	@$(BIN)/pytest -n 0 -m kubernetes tests/kubernetes $(ARGS)

# The Dockerfile's images without a Docker daemon, and their sizes. ARGS="broker node": only these.
images: setup
	@$(BIN)/python -m tests.kubernetes.images $(ARGS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

setup:
	@$(PYTHON) scripts/bootstrap.py
