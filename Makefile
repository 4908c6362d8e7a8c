# The only entry points. Each sets up what it needs on a machine that has Python 3.11+ and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
RUN    := $(BIN)/python
INPUT  ?=
BENCH  ?=
DATA   ?= quickstart-data
SECONDS ?= 300
SEED   ?=
MUTANTS ?=
BROWSER ?=
ENGINES ?= .venv-engines

# A variable as one word of the shell, whatever is in it: quotes, blanks, dollars.
quoted = '$(subst ','\'',$(value $(1)))'

.DEFAULT_GOAL := help
.PHONY: docs-pictures help quickstart test test-again test-exhaustive test-browser test-engines test-engines-short test-cluster test-cluster-short check format lint types coverage docs docs-site packaging test-pythons bench bench-check bench-lz4 interop interop-lz4 interop-pyodps interop-js interop-types interop-spark fuzz torture soak mutants clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "fletching needs Python 3.11 or newer; '$(PYTHON)' is not. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "could not create $(VENV): is the venv module of $(PYTHON) installed (Debian: python3-venv)?" >&2; exit 1; }
	@$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --upgrade pip

# What a user needs: the package with its server and command line.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing fletching into $(VENV)"
	@$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[server,cli,sql]'
	@touch $@

# What the tests and checks need on top.
$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing the test and check tools into $(VENV)"
	@$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[all]' --group test --group lint --group typing
	@touch $@

quickstart: $(VENV)/.installed ## run the main job on real data (INPUT=path takes yours)
	@$(BIN)/fletching quickstart $(if $(INPUT),--input $(call quoted,INPUT)) $(call quoted,DATA)

# Tests wait for disks, sockets and other processes for a third of their time: one process more than the two
# cores that a small machine has.
test: $(VENV)/.installed-dev ## run the tests
	@$(RUN) -m pytest -n 3 -q

# A test that failed beside the others is run alone: it passes only if another test, or the machine's
# load, was to blame. What ends in an error before it ran has nothing to repeat, and fails.
test-again: $(VENV)/.installed-dev ## run once more, alone, what failed last
	@$(RUN) -m pytest -q --last-failed --last-failed-no-failures none

test-exhaustive: $(VENV)/.installed-dev ## every cut of every golden file, pair of operations, crash, failing call; 22 questions at scale 0.1 (minutes)
	@FLETCHING_TEST_EXHAUSTIVE=1 $(RUN) -m pytest -n 2 -q --timeout 3600 tests/ipc/test_corpus.py \
	  tests/engine/test_interleavings.py tests/engine/query/test_statement_runner.py \
	  tests/engine/changes/test_attempts.py tests/client/test_changes_model.py tests/client/test_keyed_cases.py tests/client/test_keyed_crashes.py \
	  tests/client/test_failing_operations.py \
	  tests/server/tunnel/test_tunnel_crashes.py

# Chromium is the machine's: installed where this may, else the tests are skipped and say so.
$(VENV)/.installed-browser: $(VENV)/.installed-dev
	@echo "installing what drives a browser into $(VENV)"
	@$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group browser
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get install -y -q chromium >/dev/null; } || \
	  echo "there is no Chromium, and it cannot be installed from here (Debian: apt-get install chromium)"
	@touch $@

test-browser: $(VENV)/.installed-browser ## the console in a real Chromium (BROWSER='-k rows'); pictures in build/browser
	@$(RUN) interop/arrow_js/prepare.py
	@$(RUN) -m pytest -q -m browser tests/browser $(BROWSER)

docs-pictures: ## draw the pictures of the console's page anew
	@$(MAKE) --no-print-directory test-browser BROWSER='-k documentation'
	@cp build/browser/console-*.png docs/images/

# The engines are large and pin what they need: they get an environment of their own.
$(ENGINES)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -m venv $(ENGINES)
	@$(ENGINES)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --upgrade pip
	@echo "installing the engines into $(ENGINES)"
	@$(ENGINES)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[server,polars,duckdb,torch,dask,ray,spark]' --group test --group engines
	@touch $@

test-engines: $(ENGINES)/.installed ## run the connectors in the engines they are for
	@$(ENGINES)/bin/python -m pytest -n 2 -q -m engines tests/connectors

# Polars and DuckDB are there for other tests: their connectors can be tried without the large engines.
test-engines-short: $(VENV)/.installed-dev ## run the connectors of Polars and DuckDB alone
	@$(RUN) -m pytest -n 2 -q -m engines tests/connectors

check: $(VENV)/.installed-dev format lint types test ## format, lint, types, tests

format: $(VENV)/.installed-dev ## fail if a file is not formatted
	@$(BIN)/ruff format --check .

lint: $(VENV)/.installed-dev ## lint
	@$(BIN)/ruff check .

types: $(VENV)/.installed-dev ## strict types
	@$(BIN)/mypy

coverage: $(VENV)/.installed-dev ## branch coverage per module
	@$(RUN) -m pytest -n 2 -q --cov --cov-report=term-missing

docs: $(VENV)/.installed ## write the generated pages anew
	@$(RUN) -m fletching.cli.reference > docs/cli.md
	@$(RUN) docs/generate_api.py
	@$(RUN) docs/generate_errors.py
	@$(RUN) docs/generate_conversions.py

# What the site needs; in an environment of its own, since nothing else uses it.
$(VENV)-docs/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -m venv $(VENV)-docs
	@$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --upgrade pip
	@$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable . --group docs
	@touch $@

docs-site: $(VENV)-docs/.installed ## build the documentation as a site (build/site), links checked
	@NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --quiet --strict
	@$(VENV)-docs/bin/python docs/check_site.py build/site
	@echo "build/site/index.html"

interop: interop-lz4 interop-pyodps interop-js interop-types ## both directions with the peers we replace or talk to

interop-lz4: $(VENV)/.installed-dev ## lz4.stream, built from source, and liblz4 (needs gcc)
	@$(RUN) interop/lz4_stream/prepare.py
	@$(RUN) -m pytest -n 2 -q interop/lz4_stream

# PyODPS meets the service over HTTP, each version from an environment of its own.
interop-pyodps: $(VENV)/.installed ## PyODPS 0.13.2, 0.13.1 and 0.12.5.1, unchanged, against a service
	@$(RUN) interop/pyodps/prepare.py
	@FLETCHING_COMMAND=$(abspath $(BIN)/fletching) .interop/pyodps-0.13.2/bin/python -m pytest -q \
	  -c interop/pyodps/pytest.ini interop/pyodps
	@FLETCHING_COMMAND=$(abspath $(BIN)/fletching) .interop/pyodps-0.13.1/bin/python -m pytest -q \
	  -c interop/pyodps/pytest.ini interop/pyodps
	@FLETCHING_COMMAND=$(abspath $(BIN)/fletching) .interop/pyodps-0.12.5.1/bin/python -m pytest -q \
	  -c interop/pyodps/pytest.ini interop/pyodps/test_everyday_*.py interop/pyodps/test_storage_api_v1.py

interop-js: $(VENV)/.installed-dev ## apache-arrow in Node reads and appends over plain HTTP (where Node is)
	@$(RUN) interop/arrow_js/prepare.py
	@$(RUN) -m pytest -q interop/arrow_js

interop-types: $(VENV)/.installed-dev ## pyright takes and refuses at the front doors what mypy does (where Node is)
	@$(RUN) interop/typing/check.py

# Spark runs on Java 17 (Debian: openjdk-17-jre-headless); Python's part is in an environment of its own.
.interop/spark/.installed: constraints.txt | $(VENV)/bin/python
	@$(PYTHON) -m venv .interop/spark
	@.interop/spark/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  pyspark pytest
	@touch $@

interop-spark: .interop/spark/.installed ## our SQL's case tables asked of Spark SQL (where Java 17 is)
	@if command -v java >/dev/null; then \
	  .interop/spark/bin/python -m pytest -q -s -c interop/spark_sql/pytest.ini interop/spark_sql; \
	else echo "no Java: install openjdk-17-jre-headless to compare with Spark SQL"; fi

# What measuring needs: the rivals.
$(VENV)/.installed-bench: $(VENV)/.installed
	@echo "installing the rivals of the measurements into $(VENV)"
	@$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[all,bench]'
	@touch $@

# The engines' own question is asked where the engines are: make bench BENCH=engines.
$(ENGINES)/.installed-bench: $(ENGINES)/.installed
	@echo "installing the rivals of the engines' measurements into $(ENGINES)"
	@$(ENGINES)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --group engines-bench
	@touch $@

bench: $(if $(filter engines,$(BENCH)),$(ENGINES),$(VENV))/.installed-bench ## measure beside rivals and floors (BENCH='read --rounds 9')
	@$(if $(filter engines,$(BENCH)),$(ENGINES)/bin/python,$(RUN)) -m benchmarks $(BENCH)
	@$(if $(BENCH),true,$(MAKE) --no-print-directory bench-lz4)

bench-check: $(VENV)/.installed-bench ## every measurement runs; fail if a recorded ratio fell by more than a third
	@$(RUN) -m pytest -n 2 -q -m bench tests
	@$(RUN) -m benchmarks --check

bench-lz4: $(VENV)/.installed-dev ## lz4stream beside lz4.stream, in one run (needs gcc)
	@$(RUN) interop/lz4_stream/prepare.py
	@$(RUN) benchmarks/bench_lz4stream.py

packaging: ## the wheel in clean environments: every extra, lowest versions, the README
	@$(PYTHON) interop/packaging/check.py

test-pythons: ## a short form of the tests on each of Python 3.11 to 3.14 that is found
	@$(PYTHON) interop/pythons/check.py

# A third for each: ipc, the framings of the wire, the tunnel's records.
fuzz: $(VENV)/.installed-dev ## fuzz the decoders for SECONDS, with coverage if atheris is to be had
	@$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt atheris || true
	@$(RUN) fuzz/fuzz_ipc.py everything -max_total_time=$$(($(SECONDS) / 3)) -rss_limit_mb=512
	@$(RUN) fuzz/fuzz_wire.py -max_total_time=$$(($(SECONDS) / 3)) -rss_limit_mb=512
	@$(RUN) fuzz/fuzz_tunnel.py -max_total_time=$$(($(SECONDS) / 3)) -rss_limit_mb=512

torture: $(VENV)/.installed-dev ## kill the server at every point for SECONDS (SEED=n repeats a run)
	@$(RUN) -m torture --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

# What several servers share, for real: PostgreSQL and SeaweedFS from wheels, nginx if it is installed.
test-cluster: $(VENV)/.installed-dev ## several servers over PostgreSQL and S3, everything failing (SECONDS)
	@$(RUN) interop/azure/prepare.py
	@$(RUN) -m pytest -n 2 -q -m cluster tests
	@FLETCHING_TEST_ELSEWHERE=1 $(RUN) -m pytest -n 2 -q tests/objects tests/catalog tests/engine/test_engine.py \
	  tests/engine/test_faults.py tests/engine/test_model.py tests/engine/test_crashes.py tests/engine/reading \
	  tests/engine/writing tests/engine/upkeep
	@$(RUN) interop/pyodps/prepare.py
	@FLETCHING_COMMAND=$(abspath $(BIN)/fletching) $(RUN) -m tests.cluster \
	  .interop/pyodps-0.13.2/bin/python -m pytest -q -c interop/pyodps/pytest.ini interop/pyodps
	@$(RUN) -m torture --cluster --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

# The drills, and a short campaign.
test-cluster-short: $(VENV)/.installed-dev ## the drills of several servers, and half a minute of torture
	@$(RUN) -m pytest -n 2 -q -m cluster tests
	@$(RUN) -m torture --cluster --seconds 30 $(if $(SEED),--seed $(SEED))

soak: $(VENV)/.installed-dev ## watch what a server under mixed load uses for SECONDS (7200 is two hours)
	@$(RUN) -m torture --soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

mutants: $(VENV)/.installed-dev ## change the code in one place after another: do tests notice? (MUTANTS='--count 20')
	@$(RUN) -m mutants $(MUTANTS)

clean: ## remove the environment and every generated file
	rm -rf $(VENV) $(VENV)-docs .mypy_cache .ruff_cache .pytest_cache .hypothesis .interop build dist
