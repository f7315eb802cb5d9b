# Everything a checkout needs, from a machine with Python >= 3.11 and make. `make` alone lists it.

VENV ?= .venv
ARGS ?=
JOBS ?= auto
PYTHON := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help run setup setup-dev test test-all parity tpu gpu-check lint format bench clean

help: ## Lists these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | \
	  while IFS='|' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

run: $(VENV)/.installed ## Pretrains a small language model on this machine's own Python library
	@$(PYTHON) -m mtm.cli train --gin_file=runs/quickstart.gin $(ARGS)

setup: $(VENV)/.installed ## Makes .venv with everything that running needs

setup-dev: $(VENV)/.installed-dev ## Adds what testing needs

test: $(VENV)/.installed-dev ## Runs the quick tests
	@$(PYTHON) -m pytest -n $(JOBS) --maxprocesses=8 -m "not slow and not parity and not tpu" $(ARGS)

test-all: $(VENV)/.installed-dev ## Runs all tests
	@$(PYTHON) -m pytest -n $(JOBS) --maxprocesses=8 -m "not parity and not tpu" $(ARGS)

parity: $(VENV)/.installed-parity ## Compares every family with transformers on torch, live
	@$(PYTHON) -m pytest -n $(JOBS) --maxprocesses=8 -m parity tests/parity $(ARGS)

tpu: $(VENV)/.installed-tpu ## Compiles for TPUs, none of which need be here
	@TPU_SKIP_MDS_QUERY=1 $(PYTHON) -m pytest -n0 -m tpu tests $(ARGS)

gpu-check: ## Tests and measures training on the GPU that is here; needs JAX for CUDA and pytest, no TensorFlow
	@python=$(PYTHON); [ -x $$python ] || python=python3; \
	  $$python -m benchmarks.gpu_check --output benchmarks/results/gpu_check.json $(ARGS)

lint: $(VENV)/.installed-dev ## Checks style and types
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy

format: $(VENV)/.installed-dev ## Sorts imports and lays out the code
	@$(PYTHON) -m ruff check --select I --fix .
	@$(PYTHON) -m ruff format .

# Of programs for devices that need not be here: half an hour with libtpu, or a GPU.
COMPILED := $(addprefix benchmarks/,gpu_check.py memory.py scale.py)

bench: $(VENV)/.installed-bench ## Measures speed, beside transformers on torch; some minutes
	@for file in $(filter-out $(COMPILED),$(wildcard benchmarks/[a-z]*.py)); do \
	  name=$$(basename $$file .py); echo "== $$name"; \
	  $(PYTHON) -m benchmarks.$$name --output benchmarks/results/$$name.json || exit 1; done

clean: ## Removes .venv, caches and builds; trained models in mtm_runs/ stay
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find mtm tasks tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml constraints.txt
	@python=; for name in python3 python3.13 python3.12 python3.11; do \
	  if $$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; \
	  then python=$$name; break; fi; done; \
	if [ -z "$$python" ]; then \
	  echo "error: mtm needs Python 3.11, 3.12 or 3.13, and none is on the PATH" >&2; exit 1; fi; \
	echo "Installing into $(VENV) with $$($$python --version): a minute or two, 3 GB of disk"; \
	$$python -m venv $(VENV)
	@$(PYTHON) -m pip install -qq --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Adding the test tools to $(VENV)"
	@$(PYTHON) -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

$(VENV)/.installed-parity: $(VENV)/.installed-dev
	@echo "Adding torch and transformers to $(VENV), to compare with"
	@$(PYTHON) -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[parity]"
	@touch $@

$(VENV)/.installed-tpu: $(VENV)/.installed-dev
	@echo "Adding libtpu to $(VENV), to compile for TPUs"
	@$(PYTHON) -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[tpu]"
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	@echo "Adding torch and transformers to $(VENV), to compare with"
	@$(PYTHON) -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[bench]"
	@touch $@
