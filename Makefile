.DEFAULT_GOAL := help
.PHONY: help book test lint bench serve clean clean-all

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
WORKERS ?= 2
PORT ?= 8000

# Pages, tests and kernels run side by side; each of them on one core.
export OMP_NUM_THREADS ?= 1

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

book: $(VENV)/installed ## Run the pages, build the book, export the notebooks.
	@$(RUN) -m tools.build_book

test: book ## Build the book, then run every test.
	@$(RUN) -m pytest -n $(WORKERS) -rs

lint: $(VENV)/installed ## Check style, format and types.
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

bench: $(VENV)/bench-installed ## Compare speed with the other libraries.
	@$(RUN) -m benchmarks
	@$(RUN) -m benchmarks.bench_trades
	@$(RUN) -m benchmarks.bench_attacks
	@$(RUN) -m benchmarks.bench_certified
	@$(RUN) -m benchmarks.bench_cka
	@$(RUN) -m benchmarks.bench_transport
	@$(RUN) -m benchmarks.bench_multimarginal

serve: book ## Show the built book at http://localhost:8000.
	@$(RUN) -m http.server $(PORT) --bind localhost --directory _build/html

clean: ## Remove the site and the tools' caches; keeps .venv and the executed pages.
	mkdir -p _build && find _build -mindepth 1 -maxdepth 1 ! -name .jupyter_cache -exec rm -rf {} +
	rm -rf dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

clean-all: clean ## Remove the executed pages, too: the next build runs them all.
	rm -rf _build

$(VENV)/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Adversarial Lab needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --requirement requirements.txt
	@touch $@

# The peers pin old versions of what the book needs, so all they need is listed and pip asks nothing.
$(VENV)/bench-installed: requirements-bench.txt $(VENV)/installed
	$(RUN) -m pip install --quiet --no-deps --requirement requirements-bench.txt
	@touch $@
