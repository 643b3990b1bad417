# The chores, the same for people and for CI. The first of each sets up .venv; later ones start at once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# written last, so that a set-up that broke off is done again
STAMP := $(VENV)/.installed

export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test interop check format bench clean help

help:
	@echo "make demo    train on a toy world and on a real language model; the report is demo/report.html"
	@echo "make test    every test"
	@echo "make interop test against sae-lens, sparsify, dictionary_learning and SAEBench themselves"
	@echo "make check   style and types"
	@echo "make bench   measure ourselves and peers in turn; the table is benchmarks/results/bench.md"
	@echo "make format  bring the code into shape"
	@echo "make clean   remove the environment and what the demo made"

demo: $(STAMP)
	$(BIN)/assay demo --out demo

# tests are small: threads would only wait for each other
test: export OMP_NUM_THREADS ?= 1
test: $(STAMP)
	$(BIN)/python -m pytest

# Each of the other tools gets an environment of its own, once: two minutes and 2 GB for each.
interop: export LATENT_ASSAY_PEERS ?= $(or $(TMPDIR),/tmp)/latent-assay-peers
interop: $(STAMP)
	$(BIN)/python -m pytest tests/interop

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs/reproductions.md: $(STAMP)
	$(BIN)/assay reproduce --out runs/reproductions
	cp runs/reproductions/reproductions.md $@

docs/calibration.md: $(STAMP)
	$(BIN)/assay calibrate --write --docs $@ --out runs/calibration

bench: $(STAMP)
	$(BIN)/python -m benchmarks.run --out benchmarks/results

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# torch first and pinned: an open range would bring gigabytes of CUDA libraries to a machine without
# a GPU. Where the plain CPU build is served from an index of its own, set PIP_EXTRA_INDEX_URL.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Latent Assay needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo build *.egg-info
