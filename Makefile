# Two commands do everything: `make demo` and `make test`. Both set up .venv first, pinned by constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs bench study reference-model clean

help:  ## Show this help.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[eval,plots,ray,serve,vision]" --group dev --group docs
	@touch $@

demo: $(STAMP)  ## Guard the shipped model against the shipped adversarial pictures, offline.
	$(BIN)/smoothguard demo

lint: $(STAMP)  ## Run ruff and mypy.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint  ## Run lint, types and the whole test suite.
	$(BIN)/pytest

docs: $(STAMP)  ## Build the documentation under build/docs; `.venv/bin/mkdocs serve` shows it while you write.
	$(BIN)/mkdocs build --strict

bench: $(STAMP)  ## Measure the guard's own cost: perturbing, encoding, embedding, voting.
	$(BIN)/python -m benchmarks.speed

study: $(STAMP)  ## Attack and guard the reference model in every arm; write docs/study and print the README's table.
	$(BIN)/python -m benchmarks.study

reference-model: $(STAMP)  ## Train the reference model from scratch (about an hour on two cores).
	$(BIN)/python -m training.train

clean:  ## Remove the virtual environment and caches.
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
