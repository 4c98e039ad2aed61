# Tremor from a fresh clone: `make demo` runs the main result, `make test` the tests. Both set themselves up in .venv.
#
#   make demo PYTHON=python3.12    builds .venv with that interpreter
#   make test ARGS="-k floats"     hands arguments on to pytest
#   make test-slurm                runs the graph on a SLURM of its own, on this machine
#   make test-browser              looks at the page of results in a real browser

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Containers often set it. Each process would then compile all that it imports: 5 s more for every job with torch.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?=
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin

# The stamps are named after what was installed, so a changed lock builds the environment anew and an unchanged one
# costs nothing. An interpreter that is asked for by name is part of the name.
key = $(shell cat $(1) | cksum | tr -c '0-9\n' -)
WANTED := $(if $(PYTHON),-$(shell $(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null))
RUN := $(VENV)/.run-$(call key,requirements.lock pyproject.toml)
DEV := $(VENV)/.dev-$(call key,requirements.lock pyproject.toml requirements-dev.lock)
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq

# What the demonstration asks for: the main result, and the pictures that show how it comes about.
DEMO := results/exp15/summary.csv
PICTURES := results/spectrum/llama/capital/float32/spectrum.png \
            results/exp12/llama/capital/float64/polar.png \
            results/exp12/llama/capital/float64/plane.png \
            results/exp13/llama/capital/float64/stability.png \
            results/exp15/llama/capital/float64/angles/distances.png

.PHONY: help demo report test test-slurm test-browser chromium lint format bench docs site doctor clean

help:
	@echo 'make demo    train a small model, find its stability boundary, print the table, draw the pictures'
	@echo 'make report  make everything, results/report.html (all figures, with captions) and results/index.html'
	@echo 'make test    run all tests'
	@echo 'make test-slurm   run the graph on a real SLURM of two nodes, private to a folder of this machine'
	@echo 'make test-browser   look at the page of results in chromium (part of make test as well)'
	@echo 'make lint    ruff, mypy, snakefmt and snakemake --lint'
	@echo 'make format  let ruff and snakefmt rewrite the sources'
	@echo 'make bench   measure the speed of the library'
	@echo 'make docs    rewrite the generated files of config/ and build the documentation into docs/_build/html'
	@echo 'make site    build the documentation alone'
	@echo 'make doctor  say what this machine computes with'
	@echo 'make clean   remove caches of tools (results, models and .venv stay)'

demo: $(RUN)$(WANTED)
	@$(BIN)/snakemake $(DEMO) $(PICTURES) --quiet host reason --rerun-incomplete --cores all --resources gpu=1
	@echo
	@$(BIN)/tremor show $(DEMO)
	@printf '\nMore of each column: docs/exp15.md. Pictures to look at:\n'
	@printf '  %s\n' $(PICTURES)

# All experiments of the selection take some minutes; OF=exp15, demo or some files takes what these are made of alone.
OF ?=
PARTS = $(if $(filter demo,$(OF)),$(DEMO) $(PICTURES),$(OF))
report: $(RUN)$(WANTED)
	@$(BIN)/snakemake $(or $(PARTS),all index) --quiet host reason --rerun-incomplete --cores all --resources gpu=1
	@$(BIN)/snakemake $(or $(PARTS),all) --quiet all --report results/report.html
	@printf '\nTo open in a browser:\n'
	@printf '  %s\n' results/report.html $(if $(OF),,results/index.html)

test: $(DEV)$(WANTED) chromium
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(ARGS)

# Debian's packages, once; where they cannot be had the tests are skipped and say so.
SLURM_PACKAGES := slurmctld slurmd slurm-client munge
test-slurm: $(DEV)$(WANTED)
	@if ! PATH="$$PATH:/usr/sbin:/sbin" command -v slurmctld munged >/dev/null; then \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        { apt-get update && apt-get install -y --no-install-recommends $(SLURM_PACKAGES); } >/dev/null 2>&1 \
	            || echo 'SLURM could not be installed with apt-get; its tests are skipped'; \
	    else \
	        echo 'SLURM is missing; as root: apt-get install --no-install-recommends $(SLURM_PACKAGES)'; \
	    fi; \
	fi
	@TREMOR_SLURM=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/slurm -rs --durations=5 $(ARGS)

test-browser: $(DEV)$(WANTED) chromium
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser -rs --durations=5 $(ARGS)

# Debian's browser, once; where it cannot be had the tests that need it are skipped and say so.
chromium:
	@if ! command -v chromium >/dev/null; then \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        { apt-get update && apt-get install -y --no-install-recommends chromium; } >/dev/null 2>&1 \
	            || echo 'chromium could not be installed with apt-get; the tests of the page are skipped'; \
	    else \
	        echo 'chromium is missing; as root: apt-get install --no-install-recommends chromium'; \
	    fi; \
	fi

lint: $(DEV)$(WANTED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/snakefmt --check Snakefile rules workflow/Snakefile
	@$(BIN)/snakemake --lint

format: $(DEV)$(WANTED)
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .
	@$(BIN)/snakefmt Snakefile rules workflow/Snakefile

bench: $(DEV)$(WANTED)
	@$(BIN)/python -m bench $(ARGS)

docs: $(DEV)$(WANTED)
	@$(BIN)/python -m tremor.config.generate
	@$(MAKE) site

# Without rewriting anything, so that CI sees generated files that were forgotten.
site: $(DEV)$(WANTED)
	@OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W --keep-going -n -q -d docs/_build/doctrees docs docs/_build/html
	@echo 'Open docs/_build/html/index.html'

doctor: $(RUN)$(WANTED)
	@$(BIN)/tremor doctor

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .screenshots workflow/tremor.egg-info docs/_build docs/_generated
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# --clear: an environment whose installation was cut short, or whose lock has changed, is built from nothing.
# Plain `snakemake` in it reads an option's values and the targets behind them apart (tremor/command_line.py).
$(RUN)$(WANTED):
	@python=''; \
	for candidate in $(if $(PYTHON),'$(PYTHON)',python3 python3.14 python3.13 python3.12 python3.11); do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	        python=$$candidate; break; \
	    fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo 'error: $(if $(PYTHON),$(PYTHON) does not run as Python 3.11 or newer,no Python 3.11 or newer found);' \
	        'name one: make demo PYTHON=/path/to/python3.12' >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then \
	    echo "error: $$python has no venv module; install it (Debian and Ubuntu: python3-venv)" >&2; exit 1; \
	fi; \
	echo "Building $(VENV) with $$("$$python" --version) (a few minutes at most)"; \
	"$$python" -m venv --clear $(VENV)
	@$(PIP) install --no-compile -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@sed -i.orig 's/^from snakemake.cli import main$$/from tremor.command_line import main/' $(BIN)/snakemake
	@rm $(BIN)/snakemake.orig
	@grep -q tremor.command_line $(BIN)/snakemake
	@touch $(RUN) $(RUN)-$$($(BIN)/python -c 'import platform; print(platform.python_version())')

$(DEV)$(WANTED): $(RUN)$(WANTED)
	@$(PIP) install --no-compile -r requirements-dev.lock
	@touch $(DEV) $(DEV)-$$($(BIN)/python -c 'import platform; print(platform.python_version())')
