# Every target sets up .venv first, from requirements.txt; nothing is installed outside this folder.
PYTHON ?= python3.11
VENV := .venv
PLOTS_PAGE := .dvc/plots_page.html
FORMAT ?= onnx
FUZZ_SECONDS ?= 240
TARGETS ?= zip tar idx cifar csv image params contract architecture weights
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup repro report tensorboard projector serve export verify test browser lint fuzz bench clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-11s %s\n", $$1, $$2}'

setup: $(VENV)/.installed $(PLOTS_PAGE) ## make .venv, install requirements.txt, write DVC's page

$(VENV)/.installed: requirements.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or name one with 'make PYTHON=...'" >&2; exit 1; }
	@echo "setting up $(VENV) (about 2.8 GB; two minutes with a good connection)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

$(PLOTS_PAGE): $(VENV)/.installed stages/plots_page.py imgpipe/templates/plots_page.html imgpipe/vega.py
	@python -m stages.plots_page

repro: setup ## run what params.yaml asks for, from the source to the scores
	@python -m stages.recover
	@python -m stages.check
	@dvc repro
	@python -m stages.report
	@python -m stages.summary

report: setup ## write plots/report.html, one page with all there is to see
	@python -m stages.report

tensorboard: setup ## show training curves, images and histograms in TensorBoard
	@python -m stages.board runs

projector: setup ## walk through the test images in three dimensions, in TensorBoard
	@python -m stages.projector
	@python -m stages.board projector

serve: setup $(VENV)/.serve ## a page to drop images on, on http://localhost:8000
	@python -m stages.predict --serve

export: setup $(VENV)/.export ## the trained model as FORMAT=onnx (or tflite, saved_model)
	@python -m stages.export --format $(FORMAT)

$(VENV)/.%: requirements-%.txt $(VENV)/.installed
	@python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

verify: setup ## run it all anew in a temporary clone: are the bytes the same?
	@python -m stages.verify

test: setup $(VENV)/.serve $(VENV)/.export lint ## run every test
	@python -m pytest

browser: setup $(VENV)/.browser ## install what the tests in a browser need, Chromium too
	@python tests/support/chromium.py

lint: setup ## check style and format
	@ruff check .
	@ruff format --check .

fuzz: setup $(VENV)/.fuzz ## look for files that break a reader: FUZZ_SECONDS=240 for each of TARGETS
	@for target in $(TARGETS); do \
		echo "fuzzing $$target"; \
		python -m fuzz.run $$target -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=fuzz/ || exit 1; \
	done

bench: setup ## measure speed and memory, after make repro: TORCH=a Python that has PyTorch, too
	@python -m benchmarks.features $(if $(TORCH),--torch $(TORCH))
	@python -m benchmarks.training $(if $(TORCH),--torch $(TORCH))
	@python -m benchmarks.accuracy
	@python -m benchmarks.head
	@python -m benchmarks.around
	@python -m benchmarks.growth

clean: ## remove .venv and caches; results stay
	@rm -rf $(VENV) .pytest_cache .ruff_cache
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
