# Two commands do everything on a machine with Python 3.10 or newer: `make demo`, `make test`.
# EXTRAS=dev,docs,torch tests with PyTorch as well, which is a download of gigabytes.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev,docs
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test busy quick check docs site browser clean

demo: $(VENV)/.demo
	$(BIN)/python -m raybench experiment=scaling

# The inner loop: checks, and the tests that need neither Ray nor a browser nor other hosts.
quick: check
	$(BIN)/python -m pytest -q -m "not ray and not browser and not hosts and not slow"

# The whole suite, with Ray, browser and hosts where the machine has them; it prints what it skips.
# Tests with Ray mostly wait, so they run beside the others; their output follows.
test: check site
	@mkdir -p build; \
	$(BIN)/python -m pytest -p no:cacheprovider -m "ray or hosts" > build/tests-with-ray.txt 2>&1 & beside=$$!; \
	$(BIN)/python -m pytest -m "not ray and not hosts"; others=$$?; \
	wait $$beside; with_ray=$$?; \
	cat build/tests-with-ray.txt; \
	exit $$((others | with_ray))

# The suite while a process keeps each core busy: nothing that a test asserts may depend on load.
# `make busy TIMES=5` runs it five times.
TIMES ?= 1
busy: $(VENV)/.dev
	$(BIN)/python benchmarks/busy.py --times $(TIMES) $(BIN)/python -m pytest

# Chromium for the test that opens a report; without one that test is skipped and says so.
browser:
	@if command -v chromium || command -v chromium-browser || command -v google-chrome; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  apt-get update -qq && \
	  apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core > /dev/null; \
	else echo "Chromium is not here and cannot be installed: apt-get install chromium, as root."; fi

check: $(VENV)/.dev
	$(BIN)/ruff format --check raybench tests benchmarks examples docs
	$(BIN)/ruff check raybench tests benchmarks examples docs
	$(BIN)/mypy
	$(BIN)/lint-imports

# Writes the reference pages from the code, and the site.
docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py
	$(MAKE) site

# The site in build/site; a broken link or name ends it. Its tools need Python 3.11.5.
site: $(VENV)/.dev
	@if [ -x $(BIN)/mkdocs ]; then NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet; \
	else echo "The documentation is not built: mkdocs needs Python 3.11.5."; fi

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt $(VENV)/.extras
	$(PIP) --editable '.[$(EXTRAS)]'
	touch $@ $(VENV)/.demo

# Changes when other extras are asked for, so that they are installed.
$(VENV)/.extras: $(VENV)/bin/python FORCE
	@echo '$(EXTRAS)' | cmp --silent - $@ || echo '$(EXTRAS)' > $@

FORCE:

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
