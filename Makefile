.DEFAULT_GOAL := help
.PHONY: help address book quick test lint bench serve release clean clean-all

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
WORKERS ?= 2
PORT ?= 8000
TORCH ?=

# Pages, tests and kernels run side by side; each of them on one core.
export OMP_NUM_THREADS ?= 1

define check_python
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
  echo "Adversarial Lab needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
  exit 1; }
endef

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

book: $(VENV)/installed ## Run the pages, build the book, export the notebooks.
	@$(RUN) -m tools.build_book

# Compiled modules are kept, whatever the environment says: without them each start of the tests
# checks 180 modules anew, and takes twice as long.
quick test: export PYTHONDONTWRITEBYTECODE =

quick: $(VENV)/installed ## Run the tests that need no book, browser or sandbox, while you work.
	@$(RUN) -m pytest -n $(WORKERS) --dist worksteal -q -m "not (book or browser or sandbox or slow)" \
	  --ignore=tests/browser

test: book ## Build the book, then run every test.
	@$(RUN) -m pytest -n $(WORKERS) --dist worksteal -rs

lint: $(VENV)/installed ## Check style, format and types.
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

bench: $(VENV)/bench-installed ## Compare speed with the other libraries.
	@$(RUN) -m benchmarks $(if $(ROUNDS),--rounds $(ROUNDS))

serve: book ## Show the built book at http://localhost:8000.
	@$(RUN) -m http.server $(PORT) --bind localhost --directory _build/html

# Only what stands on the command line is meant: REPO or BRANCH may be in anybody's environment.
given = $(if $(findstring command,$(origin $1)),--$2 '$(subst ','\'',$($1))')

address: ## Set where it is published: REPO=owner/name [BRANCH=main] [SITE=...]; REPO= unsets.
	$(check_python)
	@$(PYTHON) -m tools.address $(call given,REPO,repo) $(call given,BRANCH,branch) $(call given,SITE,site)

release: $(VENV)/installed ## Tag a version and build its wheel: VERSION=0.2.0 [DRY_RUN=1].
	@$(RUN) -m tools.release $(call given,VERSION,version) $(if $(DRY_RUN),--dry-run)

clean: ## Remove the site and the tools' caches; keeps .venv and the executed pages.
	mkdir -p _build && find _build -mindepth 1 -maxdepth 1 ! -name .jupyter_cache -exec rm -rf {} +
	rm -rf dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

clean-all: clean ## Remove the executed pages, too: the next build runs them all.
	rm -rf _build

# TORCH=cpu, or another build of PyTorch that uv knows: pip cannot be asked for one by its name.
ifeq ($(TORCH),)
INSTALL = $(RUN) -m pip install --quiet
else
INSTALL = $(RUN) -m pip install --quiet 'uv>=0.7' && \
  $(RUN) -m uv pip install --python $(RUN) --quiet --compile-bytecode --torch-backend $(TORCH)
endif

# The library itself is this folder, and importable from any other.
$(VENV)/installed: requirements.txt pyproject.toml
	$(check_python)
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --requirement requirements.txt
	$(RUN) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# The peers pin old versions of what the book needs, so all they need is listed and pip asks nothing.
$(VENV)/bench-installed: requirements-bench.txt $(VENV)/installed
	$(RUN) -m pip install --quiet --no-deps --requirement requirements-bench.txt
	@touch $@
