# `make repro` creates the environment and reproduces the slice. `make test` creates the environment and runs all tests.
# `make check` runs the quick tests, for every commit. `make lock` writes requirements.txt from pyproject.toml.
# `make study STUDY=study DATA=/folder` makes profiles/study.yaml from the data sets in a folder, and publishes it in
# studies/study. Interrupted, it goes on from there. `STUDY=study_amount` is another. In parts: `make study-part PART=
# food_10-efficientnet_lite0 ...` keeps the results of a data set and backbone, and `make study-report` joins them.
# `make bench` measures speed and memory and writes benchmarks/*.md. It takes two hours on 2 cores.
PYTHON ?= python3
# Two test files in parallel, one thread each: twice as fast as one file with two threads. Longest files first.
PYTEST = OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
# `make lock` keeps the versions it finds; FLAGS="--upgrade-package NAME" or FLAGS=--upgrade takes newer ones.
FLAGS =
export PATH := $(CURDIR)/.venv/bin:$(PATH)

STUDY = study
DATA = /data

.PHONY: repro test check lint lock bench study study-part study-report

repro: .venv/installed
	python -m stages.check_params
	dvc repro

# The slice trains with two threads, which must have both cores to themselves.
test: check
	python -m pytest -m slice tests/pipeline/test_slice.py
	$(PYTEST) -m slice --ignore tests/pipeline/test_slice.py

check: lint
	$(PYTEST)

lint: .venv/installed
	ruff check .
	ruff format --check .
	mypy

# 3.11 is the oldest Python supported; --universal adds what other systems and newer Pythons need.
lock: .venv/installed
	uv pip compile pyproject.toml --extra export --extra cluster --group dev --universal --python-version 3.11 \
	  --generate-hashes --custom-compile-command "make lock" --quiet --output-file requirements.txt $(FLAGS)

bench: .venv/installed
	for name in slice cluster attention training scaling dissection; do \
	  python -m benchmarks.$$name > benchmarks/$$name.partial && mv benchmarks/$$name.partial benchmarks/$$name.md || exit 1; \
	done

study: .venv/installed
	python -m studies.prepare $(STUDY) $(DATA)
	cd build/$(STUDY) && python -m cluster repro --address local
	python -m studies.publish build/$(STUDY) studies/$(STUDY)

study-part: .venv/installed
	$(if $(PART),,$(error say which part: PART=<data set>-<backbone>))
	python -m studies.prepare $(STUDY) $(DATA)
	cd build/$(STUDY) && python -m cluster repro --address local --glob '*@$(PART)*'
	python -m studies.results keep build/$(STUDY) studies/$(STUDY)/results $(PART)

study-report: .venv/installed
	python -m studies.prepare $(STUDY)
	python -m studies.results restore build/$(STUDY) studies/$(STUDY)/results
	cd build/$(STUDY) && python -m stages.tables && python -m stages.figures && python -m stages.page
	python -m studies.publish build/$(STUDY) studies/$(STUDY)

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --require-hashes --requirement requirements.txt
	touch $@
