PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

# pip finds a local CPU build of torch through its own configuration; uv has to be told. Without one, a machine
# that has no NVIDIA driver gets the CPU wheels, so that nobody downloads CUDA in vain.
LINKS := $(or $(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null))
BACKEND := $(if $(wildcard $(LINKS)/torch-*),,--torch-backend $(if $(shell command -v nvidia-smi 2>/dev/null),auto,cpu))
INTO = UV_FIND_LINKS="$(LINKS)" $(BIN)/uv pip install -q $(BACKEND) -c .ci/constraints.txt --python
INSTALL = $(INTO) $(BIN)/python

.PHONY: demo test check lint fuzz test-slow test-gpu test-browser test-readers test-wheel docs pictures dist clean
.DELETE_ON_ERROR:

demo: $(VENV)/.app
	$(BIN)/da3gs demo --overwrite -o demo.scene

# As many processes run tests side by side; 0: none but pytest's own.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest
PARALLEL = $(PYTEST) -n $(WORKERS) --dist worksteal

test: $(VENV)/.test
	@$(PARALLEL)

# What to run after each edit: the tools, and the tests that start no process of their own.
check: lint
	@$(PARALLEL) -m "not process and not slow and not gpu and not browser" tests/unit tests/project

lint: $(VENV)/.test
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/ruff check --quiet
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy

# Damaged files of every parser and folders of known pieces, for so many minutes.
MINUTES ?= 30
fuzz: $(VENV)/.test
	@$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

test-slow: $(VENV)/.test
	@$(PYTEST) -m "slow and not gpu and not browser"

# Needs a CUDA device and gsplat's compiler; at most 8 minutes with the benchmark.
test-gpu: $(VENV)/.test
	@$(PYTEST) -m gpu
	@$(BIN)/python -m benchmarks.gpu

# Debian's; Ubuntu's package of this name is a snap, which GitHub's machines have as google-chrome.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
CHROMIUM := command -v chromium chromium-browser google-chrome >/dev/null || \
	{ $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq chromium; }

test-browser: $(VENV)/.test
	@$(CHROMIUM)
	@$(PYTEST) -m browser

# Programs that others wrote open what we write: converters and viewers (npm), OpenUSD and gsply (pip), and nerfstudio in
# 3 GB of its own.
READERS := tests/readers
test-readers: $(VENV)/.readers $(READERS)/node_modules/.package-lock.json $(READERS)/.nerfstudio/.done
	@$(CHROMIUM)
	@$(PYTEST) -m "slow or browser" $(READERS)

$(READERS)/node_modules/.package-lock.json: $(READERS)/package-lock.json
	cd $(READERS) && npm ci --omit=dev --no-audit --no-fund --ignore-scripts
	@touch $@

$(READERS)/.nerfstudio/.done: $(BIN)/uv pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(@D)
	$(INTO) $(@D)/bin/python -e '.[nerfstudio]'
	@touch $@

docs: $(VENV)/.test
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build -q -f assets/mkdocs.yml

# The moving picture of the README, and the picture of the rooms.
pictures: demo
	@$(BIN)/da3gs render demo.scene -o assets/docs/demo.webp --size 504x378 --fps 15 --overwrite
	@$(BIN)/python -m benchmarks.rooms

# The wheel alone, in an environment of its own, as somebody who has no checkout gets it.
WHEEL := build/wheel
test-wheel: $(VENV)/.test
	rm -rf $(WHEEL) && $(BIN)/uv build -q -o $(WHEEL) && $(PYTHON) -m venv $(WHEEL)/environment
	$(INTO) $(WHEEL)/environment/$(notdir $(BIN))/python $(WHEEL)/da3gs-*.whl
	@DA3GS_WHEEL=$(WHEEL) $(PYTEST) -m "slow or not slow" tests/project/test_package.py

dist: $(BIN)/uv
	$(BIN)/uv build -q -o dist

clean:
	rm -rf $(VENV) build dist demo.scene demo.mp4 $(READERS)/node_modules $(READERS)/.nerfstudio

$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "da3gs needs Python 3.11 or newer; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q uv

$(VENV)/.app: $(BIN)/uv pyproject.toml .ci/constraints.txt
	$(INSTALL) -e .
	@touch $@

$(VENV)/.readers: $(VENV)/.test
	$(INSTALL) -e '.[test,readers]'
	@touch $@

$(VENV)/.test: $(BIN)/uv pyproject.toml .ci/constraints.txt
	$(INSTALL) -e '.[test]'
	@touch $@ $(VENV)/.app
