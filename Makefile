PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test fuzz test-install lint bench bench-training bench-latency docs

demo: .venv/installed
	$(BIN)/phiscale run demo

test: .venv/installed-dev
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# Damaged files for every reader; FUZZ is how many each gets: 1,000 take some ten minutes.
FUZZ ?= 1000

fuzz: .venv/installed-dev
	PHISCALE_FUZZ=$(FUZZ) $(BIN)/python -m pytest --timeout 0 tests/fuzz/readers.py

test-install: .venv/installed-dev
	$(BIN)/python .ci/test-install

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed-dev
	$(BIN)/python -m experiments.benchmarks.cost

# CIFAR-10, and how many networks: 4 take some 6 minutes on two cores, 16 some 20.
DATA ?= ../shared/data/cifar10
ARCHITECTURES ?= 16

bench-training: .venv/installed-dev
	$(BIN)/python -m experiments.benchmarks.training --data $(DATA) --architectures $(ARCHITECTURES)
	$(BIN)/python -m experiments.benchmarks.profile --data $(DATA)

bench-latency: .venv/installed-dev
	$(BIN)/python -m experiments.benchmarks.latency

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[onnx]'
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps torchvision timm thop
	touch $@

docs: .venv/installed-docs
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build
	@echo docs/_build/index.html

.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@
