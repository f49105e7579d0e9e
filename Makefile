# Needs python3 >= 3.11 with its venv module, and make. `make` alone lists what there is.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
# Stands for "the environment is what the lock says": made last, so that a broken install is done again.
READY := $(VENV)/.ready
# Arguments for pytest: make test PYTEST="-k refund -x"
PYTEST ?=
# One process a core. Tests of one group (see their marks) never run beside each other.
SPREAD := -n auto --maxprocesses 8 --dist loadgroup

# Some machines forbid Python to keep what it compiled; then every process of ours would compile 1,500 files anew, which
# takes three quarters of its start, and the tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test check faults bench lock clean

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## Sixty days of a coffee roastery in a minute, then its pages
	$(VENV)/bin/afterglow demo

test: check ## Everything that must hold: check, then the tests with a real PostgreSQL and Redis
	$(PY) -m pytest $(SPREAD) $(PYTEST)

check: $(READY) ## Style and types (ruff, mypy strict)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

faults: $(READY) ## The long form of kills, flushes, restarts, races and fuzzing: hours
	AFTERGLOW_FAULTS=long $(PY) -m pytest -m "faults or long" --timeout 3600 $(PYTEST)

bench: $(READY) ## Our speed beside the alternatives: a table, and JSON in benchmarks/results/
	$(PY) -m benchmarks

lock: ## Developers: resolve the dependencies anew and write requirements.lock
	@set -e; tools=$$(mktemp -d); trap 'rm -rf "$$tools"' EXIT; \
	$(PYTHON) -m venv "$$tools"; \
	"$$tools/bin/python" -m pip install --quiet --disable-pip-version-check "uv>=0.13"; \
	"$$tools/bin/uv" pip compile pyproject.toml --extra test --universal --python-version 3.11 --upgrade \
	  --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links --quiet \
	  --output-file "$$tools/lock"; \
	{ echo "# Written by 'make lock': every version and the digest of every file that may stand for it."; \
	  cat "$$tools/lock"; } > requirements.lock

clean: ## Remove the environment and what the tools left behind
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Without compiling: that takes as long as the rest, and what is used compiles itself on first use.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Afterglow needs Python 3.11 or newer and $(PYTHON) is older: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes \
	  -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@
