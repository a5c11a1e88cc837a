# make demo        set up what is needed, then certify the bundled examples
# make test        set up what is needed, then run the tests
# make docs        the documentation, as HTML in build/docs; a warning is an error
# make check       what CI runs: ruff, pyright, import-linter, the documentation, the tests
# make test-slow   the long suites, with many more examples
# make setup       only the set-up, into .venv; redone when pyproject.toml changes
# make clean       remove what was built, .venv too
#
# Needs Python 3.11 or newer, make, and a package index that pip can reach.
#   PYTHON=...       the Python to build .venv from (default: the first on the path that is new enough)
#   TORCH_INDEX=...  index to take torch from (say one with CPU builds, which are much smaller); default: pip's own

.DEFAULT_GOAL := demo
.PHONY: demo setup test test-slow check lint docs clean

VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
STAMP  := $(VENV)/.setup-done
SUITE  := benchmarks/suites/digits
# Two workers: what the smallest machine has. Each keeps torch to one thread (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest -n 2
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

setup: $(STAMP)

# torch first, and by itself, so that TORCH_INDEX can choose its build; the package then finds its requirement met.
# auto_LiRPA last and without its dependencies: it demands torch<1.13, which no Python 3.11 has. It runs on today's torch
# through our adapter. (Its wheel also installs a stray top-level package named `examples`: a bug of that release, harmless
# in a virtual environment of our own.) appdirs and tqdm are what it imports without saying so. When the set-up is redone, pip
# complains that auto_LiRPA's requirements are not met: that is so, and meant.
$(STAMP): pyproject.toml
	@test -x $(BIN)/python || test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer found; install one or say PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	$(PIP) install --quiet -e '.[dev]'
	$(PIP) install --quiet appdirs tqdm
	$(PIP) install --quiet --no-deps auto_LiRPA==0.3
	@touch $@

# A falsified circuit exits with 1: here that is what must happen, and anything else is a failure.
demo: $(STAMP)
	@echo; echo "== A circuit that keeps 37 of the 64 hidden neurons of a digit classifier: a proof"
	$(BIN)/certify $(SUITE)/mlp_certified/circuit.json --spec $(SUITE)/mlp_certified/spec.yaml
	@echo; echo "== A circuit that fits its image but not the images around it: a counterexample (exit code 1)"
	$(BIN)/certify $(SUITE)/mlp_falsified/circuit.json --spec $(SUITE)/mlp_falsified/spec.yaml; \
	code=$$?; test $$code -eq 1 || { echo "make: expected exit code 1 (falsified), got $$code" >&2; exit 1; }

test: $(STAMP)
	$(PYTEST)

test-slow: $(STAMP)
	$(PYTEST) -m slow --hypothesis-profile slow

# pyright is told its project: left to itself it prefers a pyrightconfig.json in any folder above this one.
lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --project pyproject.toml
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs

check: lint docs
	@$(MAKE) --no-print-directory test

clean:
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .hypothesis .ruff_cache .import_linter_cache
