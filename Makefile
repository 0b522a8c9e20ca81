# Two commands do it all: `make repro` sets up and reproduces the slice, `make test` sets up and tests.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: repro test

repro: .venv/installed
	dvc repro

test: .venv/installed .venv/cluster
	ruff check .
	ruff format --check .
	python -m pytest
	python -m pytest -m slice

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --requirement requirements.txt
	touch $@

.venv/cluster: requirements-cluster.txt .venv/installed
	.venv/bin/pip install --quiet --requirement requirements-cluster.txt --constraint requirements.txt
	touch $@
