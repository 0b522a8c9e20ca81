# Two commands do it all: `make repro` sets up and reproduces the slice, `make test` sets up and tests.
# `make check` is the quick part of the tests, for every commit. `make lock` writes requirements.txt from pyproject.toml.
# `make bench` measures speed and memory, two hours on 2 cores, and writes benchmarks/*.md.
PYTHON ?= python3
# Two files of tests at a time, a thread each, which takes half the time of two threads for one; the longest files first.
PYTEST = OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
# `make lock` keeps the versions it finds; FLAGS="--upgrade-package NAME" or FLAGS=--upgrade takes newer ones.
FLAGS =
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: repro test check lint lock bench

repro: .venv/installed
	dvc repro

test: check
	$(PYTEST) -m slice

check: lint
	$(PYTEST)

lint: .venv/installed
	ruff check .
	ruff format --check .
	mypy

# 3.11 is the oldest Python supported; --universal adds what other systems and newer Pythons need.
lock: .venv/installed
	uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 --generate-hashes \
	  --custom-compile-command "make lock" --quiet --output-file requirements.txt $(FLAGS)

bench: .venv/installed
	for name in slice cluster attention training scaling dissection; do \
	  python -m benchmarks.$$name > benchmarks/$$name.partial && mv benchmarks/$$name.partial benchmarks/$$name.md || exit 1; \
	done

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --require-hashes --requirement requirements.txt
	touch $@
