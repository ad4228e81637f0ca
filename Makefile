# Every target sets up .venv first, from requirements.txt; nothing is installed outside this folder.
PYTHON ?= python3.11
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup repro test lint clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## make .venv and install requirements.txt

$(VENV)/.installed: requirements.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or name one with 'make PYTHON=...'" >&2; exit 1; }
	@echo "setting up $(VENV) (about 2.7 GB; two minutes with a good connection)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

repro: setup ## run what params.yaml asks for, from the source to the scores
	@dvc repro
	@python -m stages.summary

test: setup lint ## run every test
	@python -m pytest

lint: setup ## check style and format
	@ruff check .
	@ruff format --check .

clean: ## remove .venv and caches; results stay
	@rm -rf $(VENV) .pytest_cache .ruff_cache
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
