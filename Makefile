# Everything a developer and CI run. A bare machine needs Python 3.11, make and git.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
OFFICIAL := .venv-official
OFFICIAL_VERSIONS := 0.6.12 0.7.3 1.0.6 1.5.2
# What the benchmarks compare with, each in its own environment.
PEERS := .venv-peers
PEER_NAMES := floor fanout official-0.7.3
# Makes requests from the server's own description; wants versions of its own of what the tests use.
SCHEMATHESIS := .venv-schemathesis
# A real small model and its server, for `make realmodel`.
REALMODEL := .venv-realmodel
BENCHMARKS := fan_out client_overhead telemetry limits hidden_limit shared_limits outage scale journal server reads whole_flow hosted evaluate interactive coalesce

# Programs that tests start import the package: what they compiled is kept, wherever they run.
unexport PYTHONDONTWRITEBYTECODE

# One more than the two cores that CI has, as many tests wait.
PARALLEL := --numprocesses 3 --dist worksteal

.DEFAULT_GOAL := help
CORE := errors batch engine operations limits transport
COMMA := ,
EMPTY :=
CORE_FILES := $(subst $(EMPTY) $(EMPTY),$(COMMA),$(CORE:%=elluminate_async/%/*))

.PHONY: browser redis docs help demo test coverage faults soak realmodel check bench official schemathesis requirements clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

demo: $(VENV)/.installed ## Generate and rate 136 answers against the embedded server, offline
	@$(BIN)/elluminate-async demo

test: $(VENV)/.docs official schemathesis browser redis ## Run the tests, those with the official clients included
	$(BIN)/python -m pytest $(PARALLEL) --matrix

coverage: $(VENV)/.docs official schemathesis browser redis ## The same tests, with branch coverage measured and held to its gates (a third slower)
	rm -rf .coverage
	$(BIN)/python -m coverage run -m pytest $(PARALLEL) --matrix
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report --skip-covered --sort=cover --precision=1 --fail-under=94
	@echo "The core: $(CORE)"
	@$(BIN)/python -m coverage report --include='$(CORE_FILES)' --precision=1 --format=total --fail-under=98

faults: $(VENV)/.installed ## Inject every row of the fault matrix and print the table
	$(BIN)/python -m pytest -q $(PARALLEL) -m row --matrix

realmodel: $(VENV)/.installed $(REALMODEL)/.installed ## The guide's flow on 20 rows with a real small model, by each way of asking for JSON (some minutes, on two idle cores)
	$(BIN)/python -m tests.realmodel $(REALMODEL_FLAGS)

soak: $(VENV)/.installed realmodel schemathesis ## 10,000 items under every kind of fault, hostile bytes, kill -9 at 500 points, 200 resumes elsewhere, 10,000 answers and requests of any kind (half an hour)
	$(BIN)/python -m tests.soak $(SOAK)
	$(BIN)/python -m tests.soak.kills --points 500
	$(BIN)/python -m tests.soak.evaluations --points 20
	$(BIN)/python -m tests.soak.retries --points 20
	$(BIN)/python -m tests.soak.elsewhere --seeds 10
	$(BIN)/python -m tests.soak.model_answers
	$(BIN)/python -m tests.soak.schema_cases
	$(BIN)/python -m tests.soak.trouble --seeds 20
	$(BIN)/python -m tests.soak.connections
	$(BIN)/python -m tests.soak.service --hangups 1000 --kills 20 --outage 10
	$(BIN)/python -m pytest -q --hypothesis-profile=fresh tests/faults/test_positions.py tests/transport/test_sse.py

check: $(VENV)/.checkers $(VENV)/.docs ## Formatting, lint, types, layering
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/mypy tests/typing
	$(BIN)/python -m pytest -q tests/test_layering.py

bench: $(VENV)/.installed official $(PEER_NAMES:%=$(PEERS)/%/.installed) ## Run the benchmarks: JSON lines, and the tables of benchmarks/README.md (half an hour)
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name --table || exit 1; done

# Debian's two, where they are missing and may be installed; elsewhere their tests skip.
browser:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || echo "no chromium: the tests of the report in a browser are skipped"

redis:
	@command -v redis-server >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null; } || echo "no redis-server: the tests of limits shared by Redis are skipped"

docs: $(VENV)/.docs ## Build the documentation site into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

official: $(OFFICIAL_VERSIONS:%=$(OFFICIAL)/%/.installed) ## The official clients, each in its own environment

schemathesis: $(SCHEMATHESIS)/.installed ## Schemathesis, in an environment of its own

requirements: $(VENV)/.checkers ## Pin again what set-up installs (needs uv)
	uv pip compile pyproject.toml --extra all --extra ray --group build --group test $(UV_FLAGS) -o requirements/dev.txt
	uv pip compile --group check $(UV_FLAGS) -o requirements/check.txt
	uv pip compile --group docs -c requirements/dev.txt $(UV_FLAGS) -o requirements/docs.txt
	uv pip compile --no-deps requirements/realmodel.in $(UV_FLAGS) -o requirements/realmodel.txt
	for name in $(OFFICIAL_VERSIONS:%=official-%) $(PEER_NAMES) schemathesis; do uv pip compile requirements/$$name.in $(UV_FLAGS) -o requirements/$$name.txt; done

UV_FLAGS := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make requirements"

clean: ## Remove what the other targets made
	rm -rf $(VENV) $(OFFICIAL) $(PEERS) $(REALMODEL) $(SCHEMATHESIS) .elluminate .pytest_cache .ruff_cache .hypothesis .coverage build dist site

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "no python3 found: install Python 3.11 or later" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed, and $(PYTHON) is %d.%d: make PYTHON=..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.python requirements/dev.txt pyproject.toml
	$(PIP) --require-hashes -r requirements/dev.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.checkers: $(VENV)/.installed requirements/check.txt
	$(PIP) --require-hashes -r requirements/check.txt
	@touch $@

$(VENV)/.docs: $(VENV)/.installed requirements/docs.txt
	$(PIP) --require-hashes -r requirements/docs.txt
	@touch $@

$(OFFICIAL)/%/.installed: requirements/official-%.txt $(VENV)/.python
	$(BIN)/python -m venv $(OFFICIAL)/$*
	$(OFFICIAL)/$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/official-$*.txt
	@touch $@

$(PEERS)/%/.installed: requirements/%.txt $(VENV)/.python
	$(BIN)/python -m venv $(PEERS)/$*
	$(PEERS)/$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/$*.txt
	@touch $@

$(SCHEMATHESIS)/.installed: requirements/schemathesis.txt $(VENV)/.python
	$(BIN)/python -m venv $(SCHEMATHESIS)
	$(SCHEMATHESIS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/schemathesis.txt
	@touch $@

$(REALMODEL)/.installed: requirements/realmodel.txt $(VENV)/.python
	$(BIN)/python -m venv $(REALMODEL)
	$(REALMODEL)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: -r requirements/realmodel.txt
	@touch $@
