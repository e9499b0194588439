# make demo | test: build the environment if it is missing, then run. `make help` lists.
# STACK=classic takes the last releases of the original hosts, in `.venv-classic`.
# PYTHON=/path/to/python uses an environment of your own in the place of `.venv`.
# `make gpu OUT=docs/results/gpu.md` writes the table there as well, and those of IV-tuning
# and CSK-Net beside it. `make test WORKERS=8` uses more processes.

SHELL := /bin/bash
PYTHON ?=
BOOTSTRAP ?= python3
STACK ?= onedl

VENV_onedl := .venv
LOCK_onedl := requirements/lock.txt
VENV_classic := .venv-classic
LOCK_classic := requirements/classic-lock.txt
VENV := $(VENV_$(STACK))
LOCK := $(LOCK_$(STACK))
ifeq ($(VENV),)
$(error STACK is '$(STACK)', not onedl or classic)
endif

ifeq ($(strip $(PYTHON)),)
PY := $(CURDIR)/$(VENV)/bin/python
NEEDS := env
else
PY := $(PYTHON)
NEEDS :=
endif

export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))
# The networks of the tests are tiny: more threads make them slower.
test test-all: export OMP_NUM_THREADS ?= 1
WORKERS ?= 2
# By file: fixtures of a module are made once.
PARALLEL := -n $(WORKERS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help env demo test test-all gpu lint lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

env:  ## virtual environment with the pinned dependencies (about 6 GB)
	@command -v $(BOOTSTRAP) >/dev/null || { echo "error: no $(BOOTSTRAP);" \
	  "install Python 3.10, 3.11 or 3.12 (Debian, Ubuntu: apt install python3 python3-venv)"; exit 2; }
	@$(BOOTSTRAP) tools/misc/make_env.py --venv $(VENV) --lock $(LOCK)

demo: $(NEEDS)  ## the main job end to end on synthetic images, with a report
	$(PY) tools/demo.py

test: $(NEEDS)  ## the tests, without the slow ones
	$(PY) -m pytest $(PARALLEL)

test-all: $(NEEDS)  ## all tests
	$(PY) -m pytest $(PARALLEL) -m 'slow or not slow'

gpu: $(NEEDS)  ## what only a CUDA GPU shows: its tests, then the speed tables (12 minutes)
	$(PY) -m pytest -m gpu -rs tests/gpu
	$(PY) tools/benchmark/gpu.py --if-present $(if $(OUT),--out $(OUT))
	$(PY) tools/benchmark/ivtuning.py --if-present $(if $(OUT),--out $(dir $(OUT))ivtuning_speed.md)
	$(PY) tools/benchmark/csknet.py --if-present $(if $(OUT),--out $(dir $(OUT))csknet_cost.md)

lint: $(NEEDS)  ## style and spelling
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m codespell_lib

RESOLVE := uv pip compile --universal --python-version 3.10 --no-header --no-annotate \
  --override requirements/overrides.txt

lock:  ## resolve the requirements of both stacks anew (needs uv)
	@command -v uv >/dev/null || { echo "error: no uv; pip install uv"; exit 2; }
	$(RESOLVE) requirements/env.in -o $(LOCK_onedl)
	$(RESOLVE) -c $(LOCK_onedl) requirements/classic.in -o $(LOCK_classic)

clean:  ## remove what builds and test runs left, not the environment
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find mmir tools tests configs -name __pycache__ -type d -prune -exec rm -rf {} +
