# make demo: the whole federation on this machine. make test: the tests. Both set everything up themselves.
# ARGS are pytest's own: `make test-parts ARGS=tests/unit/test_x.py` runs that file and nothing else.
PYTHON ?= python3
BIN := .venv/bin
# A folder for pytest's reports (JUnit XML), one for each part; .ci/run reads them.
REPORTS ?=
PYTEST = $(BIN)/pytest --durations 20 $(if $(REPORTS),--junitxml=$(REPORTS)/$@.xml)

.PHONY: demo ci test test-parts test-federation test-long test-repeat test-system test-dist test-kubernetes test-kubernetes-long \
  bench-snakemake bench-airflow bench-broker bench-federation bench-gateway bench-kubernetes bench-disclosure bench-analyses bench-portal images dist lint setup nightly-runner nightly-operators \
  nightly-local-federation nightly-kubernetes nightly-packaging nightly-bench nightly-vcf nightly-snakemake nightly-workflows nightly-tes nightly-portal nightly-beacon

demo: setup
	@$(BIN)/gdi demo $(ARGS)

# Lint, all tests that fit into 75 minutes, the demo; minutes by stage at the end.
ci:
	@.ci/run

# Both at once: the federations' tests mostly wait. Each part's output comes whole. A path in ARGS: that alone, once.
PATHS = $(foreach word,$(ARGS),$(wildcard $(firstword $(subst ::, ,$(word)))))
test: setup
ifeq ($(strip $(PATHS)),)
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target test-parts test-federation
else
	@$(PYTEST) -n 1 --dist loadfile -m "not system and not long" $(ARGS)
endif

# A part's folders are pytest's `testpaths`, which a path in ARGS takes the place of.
test-parts:
	@$(PYTEST) -n 1 -m "not system and not long" -o "testpaths=tests/unit tests/integration" $(ARGS)

# Two federations, each with half of the files.
test-federation:
	@$(PYTEST) -n 2 --dist loadfile -m "not long" -o testpaths=tests/federation $(ARGS)

# Each of tests/order_sensitive.txt 20 times beside one busy loop and 20 times beside eight. ARGS="--times 5 FILE": others.
test-repeat: setup
	@$(BIN)/python -m tests.repeat $(ARGS)

# What would not fit into `make test`: every feature, fault and page against real servers. No root.
test-long: setup
	@$(PYTEST) -n 2 --dist loadfile -m long -o "testpaths=tests/unit tests/integration" $(ARGS)

# Needs root and Debian packages: says so, and what is missing, before it starts.
test-system: setup
	@$(PYTEST) -n 2 --dist loadfile -m system -o testpaths=tests/system $(ARGS)

# Each wheel alone in an empty environment (one of the long tests).
test-dist: setup
	@$(PYTEST) -n 2 -m long -o testpaths=tests/integration/packaging/test_dist.py $(ARGS)

# The executor's figures (docs/benchmarks.md), with the published plugin beside it. ARGS=--quick: the part for CI.
# Nothing else should run meanwhile.
bench-snakemake: setup
	@$(BIN)/python tests/bench/snakemake/run.py $(ARGS)

# One line a figure. ARGS="rules" runs one part of start, rules, kills, jobs, sizing.
bench-airflow: setup
	@$(BIN)/python -m tests.bench.airflow $(ARGS)

# What leaves a node (docs/disclosure.md). ARGS="attacks membership": some parts.
bench-disclosure: setup
	@$(BIN)/python -m tests.bench.disclosure $(ARGS)

# Orders, agents, preflight: one line a figure. ARGS="kills" runs one part of kills, waiting, preflight, nodes, cancel,
# memory, start, launcher.
bench-federation: setup
	@$(BIN)/python -m tests.bench.federation $(ARGS)

# The gateway's speed between an archive paced to 1 Gbit/s and the federation's own TES, and SIGKILLs of it.
# ARGS="tasks" runs one part of downloads, first, tasks, listing, region, kills. GDI_BENCH_GB=0.1: smaller files.
# GDI_FUNNEL=/path/to/funnel: tasks and listing before real Funnel, too, and judged by that.
bench-gateway: setup
	@$(BIN)/python -m tests.bench.gateway $(ARGS)

# Refreshes of three brokers on one PostgreSQL and OpenBao, SIGKILLs of them, tokens from memory, Beacons. ARGS="speed"
# runs one part of rounds, kills, instant, speed, before, beacons, grants. GDI_BENCH_ROUNDS, GDI_BENCH_KILLS,
# GDI_BENCH_GRANTS: fewer of them.
bench-broker: setup
	@$(BIN)/python -m tests.bench.broker $(ARGS)

# Analyses beside their peers (Debian's bcftools and plink2 on the path), CPU seconds; ends with 1 where a row is short.
bench-analyses: setup
	@$(BIN)/python -m tests.bench.analyses $(ARGS)
# The portal's figures, between the tests' broker and Airflow in memory. One line a figure.
bench-portal: setup
	@$(BIN)/python -m tests.bench.portal $(ARGS)

# Needs root, Debian packages and Go (which builds Kubernetes, once): says so, and what is missing, before it starts.
test-kubernetes: setup
	@$(PYTEST) -n 0 -m "kubernetes and not kubernetes_long" -o testpaths=tests/kubernetes $(ARGS)

# What of it would not fit into the CI's time: Airflow's KubernetesExecutor, upgrades during ten runs, every image with
# all its code, a pod that fills its disk.
test-kubernetes-long: setup
	@$(PYTEST) -n 0 -m kubernetes_long -o testpaths=tests/kubernetes $(ARGS)

# What Kubernetes costs, one line a figure. ARGS="update" runs one part of images, update, start, many. Needs what
# test-kubernetes needs.
bench-kubernetes: setup
	@$(BIN)/python -m tests.bench.kubernetes $(ARGS)

# What CI has no time for, by room. Who touches a room runs that room's; docs/status.md has the last date and result.
nightly-runner: setup
	@$(PYTEST) -n 2 --dist loadfile -m system tests/system/test_sandbox_engines.py $(ARGS)

nightly-operators: setup
	@$(PYTEST) -n 2 --dist loadfile -m system tests/system/test_executors.py tests/system/test_no_shared_disk.py $(ARGS)

nightly-local-federation: setup
	@$(PYTEST) -n 2 --dist loadfile -m system tests/system/test_demo.py $(ARGS)

# Snakemake's own tests over the executor, beside the local one on the same S3. ARGS="-k checkpoint": some of them.
nightly-snakemake: setup
	@$(BIN)/python -m tests.support.suites.snakemake_own_run $(ARGS)

# Published workflows of the Snakemake workflow catalogue, fetched into FOLDER, beside the local executor on the same S3
# (tests/cases/snakemake/published.yaml; tools from Debian, snakemake-wrappers in FOLDER/wrappers/VERSION).
nightly-workflows: setup
	@$(BIN)/python -m tests.support.suites.published_run $(FOLDER) $(ARGS)

# ELIXIR's openapi-test-runner, fetched into FOLDER and installed in FOLDER/.venv, against stand-in and gateway.
nightly-tes: setup
	@$(BIN)/python -m tests.support.suites.tes_own_run $(FOLDER) $(ARGS)

nightly-kubernetes: setup
	@$(PYTEST) -n 0 -m kubernetes tests/kubernetes $(ARGS)

nightly-packaging: dist test-dist

# The allele-frequency workflow's counts against bcftools, on every VCF below FOLDER (fetch public repositories there).
# Needs bcftools: apt-get install bcftools.
nightly-vcf: setup
	@$(BIN)/python -m tests.nightly_vcf $(FOLDER) $(ARGS)

# Other people's clients against the portal: dnastack-client-library, wes-service 5, schemathesis, each in an environment
# of its own that pip makes. ARGS="wes": only this one.
nightly-beacon: setup
	@$(BIN)/python -m tests.nightly_beacon $(FOLDER) $(if $(PYTHON),--python $(PYTHON)) $(ARGS)

nightly-portal: setup
	@$(BIN)/python -m tests.nightly_portal $(ARGS)

nightly-bench: bench-snakemake bench-airflow bench-kubernetes

# The Dockerfile's images without a Docker daemon, and their sizes. ARGS="broker node": only these.
images: setup
	@$(BIN)/python -m tests.kubernetes.images $(ARGS)

# A wheel of each folder in packaging/ that has a pyproject.toml, into dist/. ARGS="gdi-token-broker": only these.
dist: setup
	@$(BIN)/python packaging/wheels.py $(ARGS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/gdi workflow check --catalogue workflows

setup:
	@$(PYTHON) packaging/bootstrap.py
