# Two commands do it all: `make repro` sets up and reproduces the slice, `make test` sets up and tests.
# `make bench` measures speed and memory, two hours on 2 cores, and writes benchmarks/*.md.
PYTHON ?= python3
# Two files of tests at a time, a thread each, which takes half the time of two threads for one.
PYTEST = OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: repro test bench

repro: .venv/installed
	dvc repro

test: .venv/installed .venv/cluster
	ruff check .
	ruff format --check .
	$(PYTEST)
	$(PYTEST) -m slice

bench: .venv/installed .venv/cluster
	for name in slice cluster attention training scaling dissection; do \
	  python -m benchmarks.$$name > benchmarks/$$name.partial && mv benchmarks/$$name.partial benchmarks/$$name.md || exit 1; \
	done

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --requirement requirements.txt
	touch $@

.venv/cluster: requirements-cluster.txt .venv/installed
	.venv/bin/pip install --quiet --requirement requirements-cluster.txt --constraint requirements.txt
	touch $@
