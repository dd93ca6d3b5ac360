# make demo: the whole federation on this machine. make test: the tests. Both set everything up themselves.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-parts test-federation test-long test-system bench-snakemake bench-airflow test-kubernetes test-kubernetes-long bench-kubernetes images lint setup

demo: setup
	@$(BIN)/gdi demo $(ARGS)

# Both at once: the federations' tests mostly wait. Each part's output comes whole.
test: setup
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target test-parts test-federation

test-parts:
	@$(BIN)/pytest -n 1 --durations 20 -m "not system and not long" tests/unit tests/integration $(ARGS)

# Two federations, each with half of the files.
test-federation:
	@$(BIN)/pytest -n 2 --dist loadfile --durations 20 tests/federation $(ARGS)

# What would not fit into a quarter of an hour: every feature, fault and page against real servers. No root.
test-long: setup
	@$(BIN)/pytest -n 2 --dist loadfile --durations 20 -m long tests/unit tests/integration $(ARGS)

# Needs root and Debian packages: says so, and what is missing, before it starts.
test-system: setup
	@$(BIN)/pytest -n 2 --dist loadfile --durations 20 -m system tests/system $(ARGS)

# The executor's figures (docs/benchmarks.md), with the published plugin beside it. ARGS=--quick: the part for CI. Nothing else should run meanwhile.
bench-snakemake: setup
	@$(BIN)/python tests/bench/snakemake/run.py $(ARGS)

# One line a figure. ARGS="rules" runs one part of start, rules, kills, jobs, sizing.
bench-airflow: setup
	@$(BIN)/python -m tests.bench.airflow $(ARGS)

# Needs root, Debian packages and Go (which builds Kubernetes, once): says so, and what is missing, before it starts.
test-kubernetes: setup
	@$(BIN)/pytest -n 0 --durations 20 -m "kubernetes and not kubernetes_long" tests/kubernetes $(ARGS)

# What of it would not fit into the CI's time: Airflow's KubernetesExecutor, upgrades during ten runs, every image with all its code, a pod that fills its disk.
test-kubernetes-long: setup
	@$(BIN)/pytest -n 0 --durations 20 -m kubernetes_long tests/kubernetes $(ARGS)

# What Kubernetes costs, one line a figure. ARGS="update" runs one part of images, update, start, many. Needs what test-kubernetes needs.
bench-kubernetes: setup
	@$(BIN)/python -m tests.bench.kubernetes $(ARGS)

# The Dockerfile's images without a Docker daemon, and their sizes. ARGS="broker node": only these.
images: setup
	@$(BIN)/python -m tests.kubernetes.images $(ARGS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/gdi workflow check --catalogue workflows

setup:
	@$(PYTHON) packaging/bootstrap.py
