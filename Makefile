# `make run` and `make test` need nothing but GNU make and Python: they set up .venv on the way.

# bootstraps uv and, if it is new enough, becomes the Python of .venv; else uv provides 3.11
PYTHON ?= python3

BIN := .venv/bin
STAMP := .venv/.installed
UV := $(if $(shell uv --version 2>/dev/null),uv,.uv/bin/uv)
# the versions that every locked package has wheels for
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test format lock

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST))

run: $(STAMP) ## run the main job: the paper's tables at the mini scale
	$(BIN)/python run.py --suite all

test: $(STAMP) ## lint, check formatting and types, run the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

format: $(STAMP) ## sort imports, apply safe fixes and the formatter
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: | $(filter .uv/%,$(UV)) ## rewrite requirements.lock from pyproject.toml (LOCK=--upgrade for new versions)
	$(UV) pip compile --quiet --universal --python-version 3.11 --group dev --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(LOCK) \
		--output-file requirements.lock pyproject.toml
	! grep -n '://' requirements.lock

# in an older .venv opencv-python may own the files of the headless package: removing the one breaks the other
$(STAMP): requirements.lock | $(filter .uv/%,$(UV))
	$(BIN)/python -c '$(SUPPORTED)' 2>/dev/null || { rm -rf .venv && \
		$(UV) venv --python "$$($(PYTHON) -c '$(SUPPORTED)' && command -v $(PYTHON) || echo 3.11)" .venv; }
	$(UV) pip sync --python $(BIN)/python --require-hashes \
		--reinstall-package opencv-python-headless requirements.lock
	touch $@

# a private copy, so that nothing outside the checkout changes
.uv/bin/uv:
	rm -rf .uv
	$(PYTHON) -m venv .uv && .uv/bin/python -m pip install --quiet uv \
		|| { rm -rf .uv && $(PYTHON) -m pip install --quiet --target .uv uv; } \
		|| { echo "make: cannot install uv: put uv on PATH, or give $(PYTHON) its venv or pip module" >&2; exit 1; }
