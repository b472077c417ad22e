# Every tool is called from .venv/bin, so nothing resolves or downloads after `make setup`.
# sweep, test, matrix, matrix-proof, engines, reap, sync, doctor and bench take further arguments: make sweep ARGS="<overrides>"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: help setup sweep test lint types check matrix matrix-proof engines generators format reap sync doctor bench docs clean

BIN := .venv/bin
READY := .venv/.ready
READY_DEV := .venv/.ready-dev
PYTHONS := >=3.11,<3.13
SOURCES := pipeline tests benchmarks docs scripts
# The variable leaves out an advertisement that Material prints
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# uv from PATH where it is 0.9 or later, else one of our own in .uv/
UV := $(shell set -- $$(uv --version 2>/dev/null | sed -n 's/^uv \([0-9]*\)\.\([0-9]*\).*/\1 \2/p'); \
	if [ "$${1:-0}" -gt 0 ] || [ "$${2:-0}" -ge 9 ]; then echo uv; else echo .uv/bin/uv; fi)
OWN_UV := $(filter .uv/%,$(UV))

SYNC = UV_PROJECT_ENVIRONMENT=.venv $(UV) sync --frozen --extra llamacpp --python "$${UV_PYTHON:-$(PYTHONS)}"

# More workers than cores: many tests wait, for an engine to load or a cluster to act
PYTEST := $(BIN)/pytest -n $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n > 6 ? n : 6)))

# ARGS unexpanded by make, so that Hydra's ${...} reaches the shell as it was typed
args = $(value ARGS)
# One line before each thing that is done; with the clock in CI, where it tells how long each took
say = @echo "==$(if $(CI), $$(date +%T)) $(1)"

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(READY_DEV) ## Set up .venv for development (the other targets do what they need)
	$(call say,The environment is ready: .venv)

sweep: $(READY) ## Tune: the smoke experiment; overrides by ARGS="..."
	$(call say,Sweep: servetune -m experiment=smoke)
	@exec $(BIN)/servetune -m experiment=smoke $(args)

test: $(READY_DEV) ## Run the tests; selection by ARGS="..."
	$(call say,Tests: $(PYTEST))
	@exec $(PYTEST) $(args)

lint: $(READY_DEV) | $(OWN_UV) ## Check format, style, layers, YAML, lock file and documentation
	$(call say,Format: ruff format --check)
	@$(BIN)/ruff format --check
	$(call say,Lint: ruff check)
	@$(BIN)/ruff check
	$(call say,Layers: lint-imports)
	@$(BIN)/lint-imports --no-logo
	$(call say,Configuration files: yamllint)
	@$(BIN)/yamllint --strict conf
	$(call say,No marks of a merge left: git grep)
	@! git grep -nE '^(<<<<<<<|>>>>>>>)( |$$)'
	$(call say,Lock file up to date: uv lock --check)
	@$(UV) lock --check
	$(call say,Documentation: mkdocs build --strict)
	@$(MKDOCS)

types: $(READY_DEV) ## Check types
	$(call say,Types: mypy)
	@$(BIN)/mypy

check: ## Run all that CI checks
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory types
	@$(MAKE) --no-print-directory test

matrix: $(READY_DEV) ## Run the whole teardown matrix (test: a selection)
	$(call say,Teardown matrix: $(PYTEST) --matrix=full tests/teardown)
	@exec $(PYTEST) --matrix=full tests/teardown $(args)

matrix-proof: $(READY_DEV) ## Show that the selection finds seeded faults
	$(call say,Seeded faults: tests/support/seeding.py)
	@exec $(BIN)/python tests/support/seeding.py $(args)

engines: $(READY_DEV) ## Tune real engines on the CPU: vLLM, transformers, SGLang
	$(call say,Real engines: tests/support/engine_suite.py)
	@exec $(BIN)/python tests/support/engine_suite.py $(args)

generators: $(READY_DEV) ## Compare load generators: servetune and the real aiperf
	$(call say,Load generators: benchmarks/generators.py --make; tests/live/bench/test_aiperf.py)
	@$(BIN)/python benchmarks/generators.py --make
	@SERVETUNE_TEST_AIPERF="$$($(BIN)/python tests/parts/aiperf_env.py)" $(PYTEST) tests/live/bench/test_aiperf.py

format: $(READY_DEV) ## Format the code and mend what ruff can mend
	$(call say,Format: ruff format; ruff check --fix)
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

reap: $(READY) ## Remove servers whose trial was killed
	$(call say,Reap: servetune reap)
	@exec $(BIN)/servetune reap $(args)

sync: $(READY) ## Upload the offline W&B runs below outputs/, and what waits for MLflow
	$(call say,Sync: servetune sync)
	@exec $(BIN)/servetune sync $(args)

doctor: $(READY) ## Say what works on this machine and what is missing
	$(call say,Doctor: servetune doctor)
	@exec $(BIN)/servetune doctor $(args)

bench: $(READY_DEV) ## Measure what the pipeline costs, against budgets
	$(call say,Benchmarks: each of benchmarks/*.py)
	@failed=; for script in benchmarks/*.py; do echo "== $$script"; \
		$(BIN)/python "$$script" $(args) || failed="$$failed $$script"; done; \
		[ -z "$$failed" ] || { echo "Over a budget or broken:$$failed" >&2; exit 1; }

docs: $(READY_DEV) ## Build the documentation into site/
	$(call say,Documentation: mkdocs build --strict (site/index.html))
	@$(MKDOCS)

clean: ## Remove .venv, .uv and caches; outputs/ stays
	$(call say,Removing .venv .uv dist site and caches; outputs/ stays)
	@rm -rf .venv .uv dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage .coverage.*
	@for tree in $(SOURCES); do [ ! -d "$$tree" ] || find "$$tree" -name __pycache__ -prune -exec rm -rf {} +; done

# What running needs; where the tools for development have been installed, they too, because uv removes what it is not told
$(READY): pyproject.toml uv.lock
	$(if $(OWN_UV),@$(MAKE) --no-print-directory $(OWN_UV))
	$(call say,Installing into .venv from uv.lock: once (some 600 MB to download) and after uv.lock changes)
	@$(SYNC) $(if $(wildcard $(READY_DEV)),--group docs,--no-dev)
	@touch $@ $(wildcard $(READY_DEV))

$(READY_DEV): pyproject.toml uv.lock
	$(if $(OWN_UV),@$(MAKE) --no-print-directory $(OWN_UV))
	$(call say,Installing into .venv from uv.lock with the tools for development: once and after uv.lock changes)
	@$(SYNC) --group docs
	@touch $(READY) $@

.uv/bin/uv:
	$(call say,Fetching uv into .uv: once (uv 0.9 or later is not on PATH))
	@python3 -c 'import ensurepip, venv, sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null || \
		{ echo "python3 >= 3.8 with venv is needed: apt install python3-venv (or put uv >= 0.9 on PATH)" >&2; exit 1; }
	@python3 -m venv --clear .uv
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
