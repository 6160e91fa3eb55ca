# Needs python3 >= 3.11, pip and make; every target sets up the rest. `make help` lists the targets.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PY := .venv/bin/python
PY2 := .venv-openai2/bin/python
PYL := .venv-lowest/bin/python

# Passed on to pytest, as in: make test PYTEST_ARGS="-k stream -x"
PYTEST_ARGS ?=
# How many processes the tests run in; 0 is this one.
WORKERS ?= 2
# The least line and branch coverage of chutes_core, in percent; 0 turns the limit off.
COV_MIN ?= 98

# What runs on openai 2.x, and so on httpx: whatever speaks to the service, and the peer that holds it there.
TESTS2 := tests/core tests/integration tests/parity tests/llama_index_chutes tests/langchain_chutes \
	tests/local/test_stock_openai.py tests/local/test_stock_langchain.py \
	tests/local/test_stock_llama_index.py -m "not local" \
	--ignore tests/core/cli --ignore tests/core/login --ignore tests/integration/test_ray.py
# What runs on the lowest declared versions: one call of everything, and all that a fallback promises.
TESTSL := tests/test_annotations.py tests/test_public_classes.py tests/core/fallback \
	$(wildcard tests/langchain_chutes/test_fallback*.py tests/llama_index_chutes/test_fallback*.py)
LOWEST := openai httpx pydantic langchain-core llama-index-core
# What covers the core; the rest runs without the price of counting lines.
CORE := tests/core tests/integration chutes_core
REST := --ignore tests/core --ignore tests/integration tests chutes_local langchain_chutes llama_index_chutes tools
PYTEST := -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

.DEFAULT_GOAL := help
.PHONY: help demo test test-lowest check check-types check-wheels bench record docs build constraints clean venv venv-demo venv-openai2 venv-lowest venv-bench venv-bench-openai2

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The demo needs no more than the package: a first one does not wait for the developers' tools.
DEMO := $(if $(wildcard .venv/stamp),venv,venv-demo)
demo: $(DEMO) ## answers, faults and fallbacks in front of your eyes; without a key, on embedded models
	@.$(DEMO)/bin/python examples/demo.py

test: ## what speaks to the SDK on openai 2.x, then on openai 3.x the core, with coverage, and all the rest
	@$(MAKE) -s -j2 venv venv-openai2
	@echo "the core and both frameworks on $$($(PY2) tools/versions.py openai)"
	@$(PY2) $(PYTEST) -p no:cacheprovider $(TESTS2)
	@echo "the core on $$($(PY) tools/versions.py openai)"
	@$(PY) $(PYTEST) --cov --cov-report=term --cov-fail-under=$(COV_MIN) $(CORE)
	@echo "the frameworks, the embedded Chutes and the rest on $$($(PY) tools/versions.py openai)"
	@$(PY) $(PYTEST) $(REST)
	@$(MAKE) -s test-lowest

# On Python 3.11 alone: the lowest versions of some have no wheels for later ones.
test-lowest:
	@if $(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then \
		$(MAKE) -s venv-lowest && \
		echo "every public class and the fallbacks on the lowest versions: $$($(PYL) tools/versions.py $(LOWEST))" && \
		$(PYL) $(PYTEST) -p no:cacheprovider $(TESTSL); \
	else echo "the lowest declared versions are tested on Python 3.11"; fi

check: venv ## lint, format, types, direction of imports, secrets, links, generated pages, and the wheels in clean environments
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@.venv/bin/lint-imports
	@$(PY) tools/check_secrets.py
	@$(PY) tools/check_links.py
	@$(PY) tools/cli_docs.py --check
	@$(PY) tools/errors_table.py --check
	@$(MAKE) -s -j2 --output-sync=target check-types check-wheels

check-types:
	@$(PY) -m mypy

check-wheels:
	@$(PY) tools/check_dist.py

bench: venv venv-bench venv-bench-openai2 ## measure against raw httpx, the SDK and the peers, in speed and under faults; writes docs/benchmarks.md
	@$(PY) -m benchmarks

record: venv ## re-record the cassettes: live with a key, else against the embedded server
	@$(PY) cassettes/record.py

docs: venv ## build the site into build/site, and see that links resolve, tables are the code's, and snippets compile or run
	@$(PY) tools/check_links.py
	@$(PY) tools/errors_table.py --check
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict -q
	@$(PY) -m pytest -q tests/docs

build: venv ## wheel and sdist into dist/
	@rm -rf dist
	@$(PY) -m build --no-isolation --outdir dist . >/dev/null
	@ls dist

constraints: ## resolve afresh and rewrite constraints.txt and constraints-lowest.txt (on Python 3.11)
	@$(PYTHON) tools/environment.py --group dev .venv-resolve
	@$(PYTHON) tools/environment.py --freeze .venv-resolve > constraints.txt
	@$(PYTHON) tools/environment.py --lowest > constraints-lowest.txt
	@$(PYTHON) tools/environment.py --group lowest .venv-resolve constraints-lowest.txt
	@$(PYTHON) tools/environment.py --freeze .venv-resolve > constraints-lowest.txt
	@rm -rf .venv-resolve

clean: ## remove what the other targets made, except the environments
	@rm -rf dist build .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks

venv:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed, and none was found on PATH."; exit 1; }
	@$(PYTHON) tools/environment.py --group dev .venv constraints.txt

venv-demo:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed, and none was found on PATH."; exit 1; }
	@$(PYTHON) tools/environment.py .venv-demo constraints.txt

venv-openai2:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed, and none was found on PATH."; exit 1; }
	@$(PYTHON) tools/environment.py --group dev --group dev-openai2 .venv-openai2 constraints.txt constraints-openai2.txt

venv-lowest:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed, and none was found on PATH."; exit 1; }
	@$(PYTHON) tools/environment.py --group lowest .venv-lowest constraints-lowest.txt

venv-bench:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed, and none was found on PATH."; exit 1; }
	@$(PYTHON) tools/environment.py --group bench .venv-bench constraints.txt

venv-bench-openai2:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed, and none was found on PATH."; exit 1; }
	@$(PYTHON) tools/environment.py --group bench-openai2 .venv-bench-openai2 constraints.txt constraints-openai2.txt constraints-bench.txt
