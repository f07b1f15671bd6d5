PYTHON ?= python3
BIN := .venv/bin

# Two processes with a thread each: with two each, on two cores, most of the time goes into waiting.
# In the order of the files: else those with the fewest tests come last, which take the longest.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo check test fuzz test-install test-formats lint bench bench-training bench-latency docs

demo: .venv/installed
	$(BIN)/phiscale run demo

# What a newcomer runs first: style, the contracts of samplers and executors, exact costs, the README's
# numbers, and all four stages of a run in miniature.
CHECKED := tests/test_imports.py tests/space/test_layers.py tests/space/test_presets.py tests/scaling/test_compound.py \
	tests/search/test_sampler_contract.py tests/search/executors/test_executor_contract.py tests/docs/test_readme.py tests/docs/test_numbers.py
MINIATURE := $(addprefix --set ,resolution=16 data.glyphs.train_images=200 data.glyphs.test_images=40 \
	objective.bounds={} search.trials=2 search.epochs=1 search.finalists=1 search.final_epochs=1 \
	coefficients.constraint=nominal coefficients.method=grid coefficients.step=0.5 coefficients.tolerance=0.3 \
	coefficients.epochs=1 family.phi=[0,1] family.epochs=1)

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(PYTEST) $(CHECKED)
	folder=$$(mktemp -d) && $(BIN)/phiscale run demo --quiet --out $$folder/run $(MINIATURE) && rm -r $$folder

test: .venv/installed-dev
	$(PYTEST)

# Damaged files for every reader; FUZZ is how many each gets: 150 take some three minutes.
FUZZ ?= 1000

fuzz: .venv/installed-dev
	PHISCALE_FUZZ=$(FUZZ) $(BIN)/python -m pytest --timeout 0 tests/fuzz/readers.py

test-install: .venv/bin/python
	$(BIN)/python .ci/test-install

# The runtimes for devices; downloads gigabytes, so CI does not call it.
test-formats: .venv/bin/python
	$(BIN)/python .ci/test-install --formats

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
