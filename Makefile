# The project's commands. `make setup` once, then `make check`; CONTRIBUTING.md says more.

VENV ?= .venv
PYTHON ?= $(shell sh .ci/pythons | head -n 1)
BIN := $(VENV)/bin
STAMP := $(VENV)/.done
PIP := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off
UPGRADE ?= --upgrade
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-annotate --no-header

# Files go to the workers in their order, the long ones first: what is small (unit) fills the end.
# Five for two cores: while some wait for processes and sockets (e2e, real), two have something to do (four left them idle 8 % of the time).
WORKERS ?= 5
PYTEST = $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# The tests start many processes: without its caches each would compile everything again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup oldest check lint types test without-peers quick coverage changelog demo hostile long fuzz gen fresh lock wheel hooks site image bench soak one-request weight clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 13

setup: $(STAMP) ## make the virtual environment with everything, and the command kmsconn

# Made anew from the lock whenever the lock or the package's metadata is newer than it.
$(STAMP): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.11 to 3.15 with venv found; name one: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up $(VENV), once: a few minutes, most of them downloads."
	@echo "1/3 The virtual environment, with $(PYTHON)"
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "2/3 The packages of requirements/dev.txt, $$(grep -c == requirements/dev.txt) at most; pip names each as it comes"
	$(PIP) --require-hashes -r requirements/dev.txt
	@echo "3/3 The package kmsconn and its command"
	$(PIP) --quiet --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "Ready: $(BIN)/kmsconn"

oldest: ## the same with the oldest Python of this machine, in .venv-oldest
	$(MAKE) setup VENV=.venv-oldest PYTHON="$(shell sh .ci/pythons | tail -n 1)"

check: $(STAMP) ## everything that must hold before a change is merged
	$(MAKE) -j 2 lint types fresh
	$(MAKE) test

# flake8-async takes a quarter of a second for each file, so only those are read that hold what its rules are about.
ASYNC := \b(async|await|trio|BaseException)\b|except:

lint: $(STAMP) ## ruff (rules and format) and flake8-async
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/flake8 $$(grep -rlE --include='*.py' '$(ASYNC)' kmsconn tools bench)

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

# A worker that ends in mid-test, as one that hung is made to, ends the run: with a new one in its place xdist may wait for ever.
test: $(STAMP) ## the test suite (TESTS="which, as pytest takes it", WORKERS=n processes, 5)
	$(PYTEST) $(TESTS)

without-peers: $(STAMP) ## the tests of the real peers, as on a machine that has none of them
	KMSCONN_PEERS=hidden $(PYTEST) tests/real

# The emulator's own suite is left out, since everything else plays among it; so is what needs a second or more.
QUICK_WORLDS := tests/faults/test_core_releases.py tests/faults/test_ends.py
quick: WORKERS = 2
quick: $(STAMP) ## the tests that matter while one works, under a minute: unit, architecture, some worlds
	$(PYTEST) -m "not slow and not once and not sampled" \
		--ignore tests/unit/emulator --ignore tests/unit/bench tests/unit tests/architecture $(QUICK_WORLDS)

coverage: $(STAMP) ## lines and branches that the unit tests reach (TESTS="which, as pytest takes it")
	$(BIN)/coverage run -m pytest -o faulthandler_timeout=0 $(or $(TESTS),tests/unit)
	$(BIN)/coverage report --skip-covered --sort cover

demo: $(STAMP) ## a connector among emulated chains, Core and buckets, in one process
	@echo "Starting the demonstration: $(BIN)/kmsconn demo"
	@$(BIN)/kmsconn demo

worlds: $(STAMP) ## play thousands of new faulty worlds (WORLDS=n); a failure prints the line that replays it
	KMSCONN_WORLDS=$(or $(WORLDS),3000) $(BIN)/pytest -o faulthandler_timeout=0 tests/faults/test_worlds.py

hostile: $(STAMP) ## replace each answer by each hostile one, some hours (HOSTILE=all: in each kind of world, n: n there)
	KMSCONN_HOSTILE=$(or $(HOSTILE),each) $(BIN)/pytest -s -o faulthandler_timeout=0 tests/faults/test_hostile_answers.py

# All points of test_every_checkpoint take ten hours. A test of a hundred points ends well before the limit for one that hangs.
long: $(STAMP) ## run every test marked long, sampled, rotating or points, with 100 points each (POINTS=n, all: ten hours); make test runs a part
	KMSCONN_LONG=all KMSCONN_POINTS=$(or $(POINTS),100) $(PYTEST) $(if $(POINTS),-o faulthandler_timeout=0) \
		-m "long or sampled or rotating or points" $(TESTS)

fuzz: $(STAMP) ## spoil what gRPC servers say for a while (SECONDS=n); a failure prints the number that replays it
	KMSCONN_FUZZ=$(or $(SECONDS),300) $(BIN)/pytest -s -o faulthandler_timeout=0 tests/property/test_http2_fuzz.py

gen: $(STAMP) ## write what is generated: message classes, run-time ABIs, the options' reference and sample
	$(BIN)/python -m tools.generate

fresh: $(STAMP) ## say whether what is generated is up to date
	$(BIN)/python -m tools.generate --check
	$(BIN)/python tools/gen_contracts.py --check

lock: $(STAMP) ## choose exact versions anew, with hashes (UPGRADE= keeps those that fit)
	$(LOCK) $(UPGRADE) --output-file requirements/dev.txt pyproject.toml requirements/dev.in --all-extras
	$(LOCK) $(UPGRADE) --output-file requirements/run.txt pyproject.toml --constraint requirements/dev.txt
	$(LOCK) $(UPGRADE) --output-file requirements/aws.txt pyproject.toml --extra aws --constraint requirements/dev.txt
	$(LOCK) $(UPGRADE) --output-file requirements/emulator.txt pyproject.toml --extra emulator --constraint requirements/dev.txt
	$(LOCK) $(UPGRADE) --output-file requirements/otel.txt pyproject.toml --extra aws --extra otel --constraint requirements/dev.txt
	$(LOCK) $(UPGRADE) --output-file requirements/postgres.txt pyproject.toml --extra aws --extra postgres --constraint requirements/dev.txt
	$(LOCK) $(UPGRADE) --output-file requirements/build.txt requirements/build.in --constraint requirements/dev.txt

site: $(STAMP) ## build the documentation site into build/site/; a warning is an error
	rm -rf build/site
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env -b html -d build/site.doctrees docs build/site
	@echo "$$(find build/site -name '*.html' | wc -l) pages: build/site/index.html"

wheel: $(STAMP) ## build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

hooks: $(STAMP) ## install the git hooks
	$(BIN)/pre-commit install

bench: $(STAMP) ## measure under loads; judges nothing (QUICK=1, CONNECTOR="command", docs/benchmarks.md)
	$(BIN)/python -m bench $(if $(QUICK),--quick) $(if $(CONNECTOR),--connector '$(CONNECTOR)') $(BENCH)

image: $(STAMP) ## build the image and run it, as root; with podman, on a root of Debian packages (minutes)
	KMSCONN_IMAGE=1 $(BIN)/pytest -s -o faulthandler_timeout=0 tests/real/test_image.py

soak: $(STAMP) ## half an hour of load while dependencies fail (SOAK='--minutes 5 --rate 20')
	$(BIN)/python -m bench.soak $(SOAK)

one-request: $(STAMP) ## count what one public decryption passes through: functions, files, calls, package changes, frames, hops
	$(BIN)/python -m tools.one_request

weight: $(STAMP) ## lines by package, what one public decryption passes through, its instructions
	$(BIN)/python -m tools.weight
	$(BIN)/python -m tools.one_request
	$(BIN)/python -m bench.instructions | tail -4

changelog: $(STAMP) ## show what the next release says from changelog.d; VERSION=n writes it
	$(BIN)/python -m tools.changelog $(if $(VERSION),--release $(VERSION))

clean: ## remove everything that was made
	rm -rf .venv .venv-* dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: peers contracts

peers: ## fetch what is not ours and what tests run against: anvil, solc, node-tkms (needs Node.js 20), radosgw, promtool, kustomize, chromium, PostgreSQL, pgbouncer
	@echo "Fetching anvil, solc and node-tkms by npm, radosgw, promtool, kustomize, Chromium and PostgreSQL by apt-get: a few minutes."
	npm ci --prefix peers --ignore-scripts --no-audit --no-fund --loglevel error
	sh peers/debian.sh radosgw radosgw radosgw-admin
	sh peers/debian.sh prometheus promtool
	sh peers/debian.sh kustomize kustomize
	sh peers/debian.sh chromium chromium
	sh peers/debian.sh pgbouncer pgbouncer
	PATH="$$PATH:$$(echo /usr/lib/postgresql/*/bin | tr ' ' :)" sh peers/debian.sh postgresql postgres initdb

contracts: $(STAMP) ## compile the Solidity contracts of the tests (needs make peers)
	$(BIN)/python tools/gen_contracts.py
