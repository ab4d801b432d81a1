# Two commands do everything: `make train` and `make test`.
#   make train                          the default recipe, cnn
#   make train RECIPE=mlp ARGS="--epochs 10 --seed 1"
#   make test  ARGS="-k conv -x"        options for pytest
# Each stamp in .venv remembers what is installed, so that a second call is quick.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
RECIPE ?= cnn
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help train test oracle lint bench clean

help:
	@echo "make train   create .venv, install mulgil and train a classifier of digits (RECIPE=cnn, ARGS=...)"
	@echo "make test    the whole test suite (ARGS=... for pytest)"
	@echo "make oracle  install torch==2.13.0, and what its sample inputs need, which the tests compare with where it is there"
	@echo "make lint    ruff and mypy"
	@echo "make bench   the benchmarks"
	@echo "make clean   remove .venv and the caches (runs/ stays)"

train: $(VENV)/.train
	@$(BIN)/mulgil train --recipe $(RECIPE) $(ARGS)

# two workers with a BLAS thread each: four threads on two cores would wait for each other
test: $(VENV)/.test
	@$(BIN)/python -c "import torch" 2>/dev/null || echo "torch is not installed: the comparisons with PyTorch are skipped ('make oracle' installs it)"
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(ARGS)

oracle: $(VENV)/.oracle

lint: $(VENV)/.dev
	$(BIN)/ruff check src tests examples benchmarks
	$(BIN)/mypy

bench: $(VENV)/.train
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "mulgil needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@echo "creating $(VENV) and installing: a minute or two, once"
	@$(PYTHON) -m venv --clear $(VENV) \
	  || { echo "this Python has no venv module (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@touch $@

$(VENV)/.train: $(VENV)/.created pyproject.toml
	$(PIP) --editable '.[train]'
	@touch $@

$(VENV)/.test: $(VENV)/.created pyproject.toml
	$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.created pyproject.toml
	$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.oracle: $(VENV)/.created
	$(PIP) torch==2.13.0 expecttest
	@touch $@
