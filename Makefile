.DEFAULT_GOAL := help
TORCH ?= 2.13.0
PY := .venv/bin/python
.PHONY: help setup test ci lint clean

help: ## List the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: .venv/.ready ## Make .venv and install what is needed

.venv/.ready: pyproject.toml
	test -x $(PY) || python3 -m venv .venv
	$(PY) -m pip install -q torch==$(TORCH)
	$(PY) -m pip install -q -e '.[all,dev]'
	touch $@

test: setup ## Run the tests
	$(PY) -m pytest -q -n 2 -m "not gpu and not assets" --durations=20

lint: setup ## Lint src
	$(PY) -m ruff check --select E9,F --ignore F722,F821 src

ci: lint test ## What .ci/run does

clean: ## Remove .venv and outputs
	rm -rf .venv out
