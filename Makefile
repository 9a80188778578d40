# The commands of the project; each installs what it needs into .venv, once.
PYTHON ?= python3
WORKERS ?= 2
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: demo test check docs studies
.DELETE_ON_ERROR:

# The main job: fit a model to real data, once per installed array library.
demo: $(VENV)/demo.stamp
	$(BIN)/python -m examples.lynx_hare

test: $(VENV)/dev.stamp
	$(PYTEST) -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

# The type checker sees the installed package: it cannot follow an editable install of mapped folders.
check: $(VENV)/dev.stamp docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build
	$(PIP) --no-deps --no-build-isolation --target build/typed .
	cd build/typed && ../../$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p janode
	$(PYTEST) tests/test_docs.py tests/test_layering.py

docs: $(VENV)/dev.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# What the papers claim, reproduced at a small scale; fails if a claim does.
studies: $(VENV)/demo.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.gradient_correction --quick
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.exact_gradients --quick
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.resnet_ode --quick
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.valid_ode --quick

$(VENV)/demo.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing janode with its extras into $(VENV): minutes on a fresh machine, once."
	$(PIP) -c constraints.txt -e '.[torch,jax,cli,plot]' scipy scikit-learn
	touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing janode and what its tests need into $(VENV): minutes on a fresh machine, once."
	$(PIP) -c constraints.txt -e '.[dev]'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
