# Needs python3 >= 3.11, pip and make; every target sets up the rest. `make help` lists the targets.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PY := .venv/bin/python
PY2 := .venv-openai2/bin/python
PYL := .venv-lowest/bin/python

# Passed on to pytest, as in: make test PYTEST_ARGS="-k stream -x"
PYTEST_ARGS ?=
# How many processes the tests run in; 0 is this one. One more than two cores have, since some wait for models.
WORKERS ?= 3
# The least line and branch coverage of chutes_core, in percent; 0 turns the limit off.
COV_MIN ?= 98

# What runs on the lowest declared versions: one call of everything, and the fallbacks, but for their bursts.
TESTSL := tests/test_annotations.py tests/test_public_classes.py tests/core/fallback/test_client.py tests/core/fallback/test_live.py \
	tests/core/fallback/test_drivers.py tests/langchain_chutes/fallback tests/langchain_chutes/structured \
	tests/llama_index_chutes/fallback $(addprefix --ignore=,$(wildcard tests/*/fallback/test_burst.py)) --plain-httpx
LOWEST := openai httpx pydantic langchain-core llama-index-core
# What covers the core: its own tests, and those that both frameworks share with it.
COVERING := chutes_core chutes_cli tests/core tests/cli tests/integration/test_core.py tests/secrets tests/gateway \
	tests/langchain_chutes/fallback/test_model.py tests/langchain_chutes/test_changes.py tests/langchain_chutes/test_cost.py \
	tests/llama_index_chutes/test_cost.py tests/llama_index_chutes/structured tests/parity/test_members.py
# What runs on openai 2.x and httpx once more: whatever touches the SDK or the core's own connections, each framework on
# top of these, and the peers that the SDK holds there. Of the rest neither takes part (docs/decisions/0006).
TESTS2 := tests/core/test_account.py tests/core/catalog/test_catalog.py tests/core/test_client.py tests/core/calls/test_embeddings.py \
	tests/core/test_errors.py tests/core/testing tests/core/test_faults.py tests/core/test_honest.py tests/core/wire/test_images.py \
	tests/core/wire/test_direct.py tests/core/wire/test_streams.py tests/core/failures/test_hints.py tests/core/openai_sdk/test_bill.py tests/core/openai_sdk/test_door.py \
	tests/core/openai_sdk/test_passthrough.py tests/core/openai_sdk/test_fallback.py tests/core/openai_sdk/test_errors.py tests/core/e2ee/test_client.py \
	tests/core/e2ee/test_interop.py tests/core/fallback/test_live.py tests/integration/test_core.py \
	tests/parity/test_langchain.py tests/parity/test_llama_index.py tests/langchain_chutes/test_standard.py \
	tests/secrets/test_ways_out.py \
	tests/llama_index_chutes/fallback/test_foreign.py tests/llama_index_chutes/test_local.py tests/local/test_stock_openai.py \
	tests/local/test_stock_langchain.py tests/local/test_stock_llama_index.py tests/test_isolation.py -m "not local" --plain-httpx
# What is selected by PYTEST_ARGS may be in one of the runs only: that another has found nothing (5) is no failure then.
PYTEST = $(1) -m pytest -q $(2) $(PYTEST_ARGS) $(if $(PYTEST_ARGS),|| [ $$? = 5 ])
TOGETHER := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Python keeps what it has compiled, whatever the environment says, and where `make clean` finds it.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache

.DEFAULT_GOAL := help
.PHONY: help demo test test-lowest coverage check check-types check-wheels check-long check-conflicts fuzz bench record docs build dist sbom constraints hashes clean venv venv-demo venv-openai2 venv-lowest venv-bench venv-bench-openai2

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The demo needs no more than the package: a first one does not wait for the developers' tools.
DEMO := $(if $(wildcard .venv/stamp),venv,venv-demo)
demo: $(DEMO) ## answers, faults and fallbacks in front of your eyes; without a key, on embedded models
	@.$(DEMO)/bin/python examples/demo.py

test: ## all tests; what touches the SDK once more, on openai 2.x; and the fallbacks on the lowest versions
	@$(MAKE) -s venv-openai2
	@echo "all tests on $$($(PY) tools/versions.py openai)"
	@$(call PYTEST,$(PY),$(TOGETHER))
	@echo "what touches the SDK or its HTTP package on $$($(PY2) tools/versions.py openai)"
	@$(call PYTEST,$(PY2),$(TOGETHER) -p no:cacheprovider $(TESTS2))
	@$(MAKE) -s test-lowest

# On Python 3.11 alone: the lowest versions of some have no wheels for later ones.
test-lowest:
	@if $(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then \
		$(MAKE) -s venv-lowest && \
		echo "every public class and the fallbacks on the lowest versions: $$($(PYL) tools/versions.py $(LOWEST))" && \
		{ $(call PYTEST,$(PYL),$(TOGETHER) -p no:cacheprovider $(TESTSL)); }; \
	else echo "the lowest declared versions are tested on Python 3.11"; fi

coverage: venv ## the lines and branches of the core and of the command that their tests run, and which not
	@$(PY) -m pytest -q $(TOGETHER) --cov --cov-report=term --cov-fail-under=$(COV_MIN) $(COVERING)

check: venv ## lint, format, types, direction of imports, secrets, links, generated pages, a test file for each module, and the wheels in clean environments
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@.venv/bin/lint-imports
	@$(PY) tools/check_secrets.py
	@$(PY) tools/check_links.py
	@$(PY) tools/cli_docs.py --check
	@$(PY) tools/errors_table.py --check
	@$(PY) tools/local_differences.py --check
	@$(PY) tools/engine_table.py --check
	@$(PY) tools/money_table.py --check
	@$(PY) tools/sealed_edits.py --check
	@$(PY) tools/arguments_table.py --check
	@$(PY) tools/peer_arguments.py --check
	@$(PY) tools/langchain_profiles.py --check
	@$(PY) tools/models_table.py --check
	@$(PY) tools/code_width.py --check
	@$(PY) tools/notebooks.py --check
	@$(PY) tools/check_tests.py
	@$(PY) tools/check_claims.py
	@$(PY) tools/hashes.py --check
	@$(MAKE) -s -j2 --output-sync=target check-types check-wheels

check-types:
	@$(PY) -m mypy

check-wheels:
	@$(PY) tools/check_dist.py

check-long: check coverage check-conflicts fuzz ## check, and what takes long or asks an index what it has today

check-conflicts: venv
	@$(PY) tools/check_conflicts.py

# How long, and from which seed: FUZZ_SECONDS=600 FUZZ_SEED=7, and FUZZ_ARGS="-k sse" for some of the targets alone.
FUZZ_SECONDS ?= 120
FUZZ_SEED ?=
FUZZ_ARGS ?=
fuzz: venv ## throw bytes at every parser that meets bytes from outside, for FUZZ_SECONDS
	@$(PY) -m tests.fuzz --seconds $(FUZZ_SECONDS) $(FUZZ_SEED:%=--seed %) $(FUZZ_ARGS)

bench: venv venv-bench venv-bench-openai2 ## measure against bare readers, the SDK and the peers, in speed and under faults; writes docs/benchmarks.md and what is behind it
	@$(PY) -m benchmarks

record: venv ## re-record the cassettes: live with a key, else against the embedded server
	@$(PY) cassettes/record.py

docs: venv ## build the site into build/site, and see that links resolve, tables are the code's, and snippets compile or run
	@$(PY) tools/check_links.py
	@$(PY) tools/errors_table.py --check
	@$(PY) tools/local_differences.py --check
	@$(PY) tools/engine_table.py --check
	@$(PY) tools/money_table.py --check
	@$(PY) tools/sealed_edits.py --check
	@$(PY) tools/arguments_table.py --check
	@$(PY) tools/models_table.py --check
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict -q
	@$(PY) -m pytest -q tests/docs

build: venv ## wheel and sdist into dist/
	@rm -rf dist
	@$(PY) -m build --no-isolation --outdir dist . >/dev/null
	@ls dist

dist: build ## all four distributions, what is inside them and their hashes, in dist/: what a release is made of
	@$(MAKE) -s sbom
	@for alias in packaging/*/; do $(PY) -m build --no-isolation --outdir dist $$alias >/dev/null || exit 1; done
	@cd dist && sha256sum *.whl *.tar.gz sbom.cdx.json > SHA256SUMS && cat SHA256SUMS

sbom: venv venv-demo ## what is inside, as a CycloneDX list in dist/
	@$(PY) tools/sbom.py .venv-demo dist/sbom.cdx.json

constraints: ## resolve afresh and rewrite constraints.txt, constraints-lowest.txt and constraints-hashes.txt (on Python 3.11)
	@$(PYTHON) tools/environment.py --unverified --group dev .venv-resolve
	@$(PYTHON) tools/environment.py --freeze .venv-resolve > constraints.txt
	@$(PYTHON) tools/environment.py --lowest > constraints-lowest.txt
	@$(PYTHON) tools/environment.py --unverified --group lowest .venv-resolve constraints-lowest.txt
	@$(PYTHON) tools/environment.py --freeze .venv-resolve > constraints-lowest.txt
	@$(MAKE) -s hashes

hashes: ## ask the index for the hashes of what is pinned and rewrite constraints-hashes.txt
	@$(PYTHON) tools/environment.py --unverified --group dev .venv-resolve constraints.txt
	@.venv-resolve/bin/python tools/hashes.py
	@rm -rf .venv-resolve

clean: ## remove what the other targets made, except the environments
	@rm -rf dist build .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks

venv:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed, and none was found on PATH."; exit 1; }
	@$(PYTHON) tools/environment.py --group dev .venv constraints.txt

venv-demo:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed, and none was found on PATH."; exit 1; }
	@$(PYTHON) tools/environment.py .venv-demo constraints.txt

# Few packages of it are others.
venv-openai2: venv
	@$(PYTHON) tools/environment.py --like .venv --group dev --group dev-openai2 .venv-openai2 constraints.txt constraints-openai2.txt

venv-lowest:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed, and none was found on PATH."; exit 1; }
	@$(PYTHON) tools/environment.py --group lowest .venv-lowest constraints-lowest.txt

venv-bench:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed, and none was found on PATH."; exit 1; }
	@$(PYTHON) tools/environment.py --group bench .venv-bench constraints-bench.txt constraints.txt

venv-bench-openai2:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed, and none was found on PATH."; exit 1; }
	@$(PYTHON) tools/environment.py --group bench-openai2 .venv-bench-openai2 constraints.txt constraints-openai2.txt constraints-bench.txt
