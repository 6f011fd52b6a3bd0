# Two commands do all the set-up on a fresh machine: `make lab` opens the course, `make test` runs the whole suite.
# Set-up that was done is not done again, until pyproject.toml or constraints.txt changes.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
SETUP := VENV="$(VENV)" scripts/setup
PROJECT_FILES := pyproject.toml constraints.txt scripts/setup

LAB_ARGS ?=
FILMS_ARGS ?=
TEST_ARGS ?=
BENCH_ARGS ?=
EVALUATE_ARGS ?=
SOAK_ARGS ?=
LIVE_ARGS ?=

.PHONY: help lab test lint nightly notebooks films stills bench soak gpu gpu-live evaluate clean

help: ## say what the commands are
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|' \
	  || true
	@echo
	@echo '  LAB_ARGS="--no-browser --port 8899", TEST_ARGS="-k radix", BENCH_ARGS, SOAK_ARGS, ...: handed on'
	@echo '  PYTHON=python3.12   the interpreter that .venv is made with (3.11 to 3.14)'
	@echo '  INSTALL="uv pip install --python .venv --torch-backend=cpu"   how packages are installed'

lab: $(VENV)/.astrai-lab ## set up, then open the course in JupyterLab on a working copy (astrai-course/)
	$(BIN)/python -m astrai lab $(LAB_ARGS)

test: $(VENV)/.astrai-test lint ## set up, then run ruff, import-linter and the whole test suite
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(TEST_ARGS)

lint: $(VENV)/.astrai-test ## ruff and the rules of who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

nightly: $(VENV)/.astrai-test ## the long forms of the property and stress tests
	$(BIN)/python -m pytest -m nightly --timeout=3600 $(TEST_ARGS)

notebooks: $(VENV)/.astrai-test ## build notebooks/*.ipynb from notebooks/py/*.py, executed
	$(BIN)/python scripts/build_notebooks.py

films: $(VENV)/.astrai-lab ## render all films into films/, at the low quality, with small GIFs
	$(BIN)/python -m astrai render --quality l --gif $(FILMS_ARGS)

stills: films ## keep a still and a GIF of each film, for the README and the notebooks
	$(BIN)/python -m animations.keep_stills films

bench: $(VENV)/.astrai-test ## measure against other engines and the ceiling of this machine
	$(BIN)/python -m astrai bench $(BENCH_ARGS)

soak: $(VENV)/.astrai-test ## put the server under load for up to 15 minutes, and break it
	$(BIN)/python -m benchmarks.soak $(SOAK_ARGS)

gpu: ## on a CUDA device: are the tokens right, how fast is each phase, where does the time go
	$(or $(wildcard $(BIN)/python),python3) -m benchmarks.gpu $(GPU_ARGS)

gpu-live: ## notebook 00's live part on the GPU if there is one, with pictures and what watching costs
	$(or $(wildcard $(BIN)/python),python3) -m benchmarks.live $(LIVE_ARGS)

evaluate: $(VENV)/.astrai-lab ## score the bundled model on held-out prompts
	$(BIN)/python -m astrai evaluate $(EVALUATE_ARGS)

clean: ## remove the environment and what was built
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# The set for tests holds the set for the lab.
$(VENV)/.astrai-test: $(PROJECT_FILES)
	$(SETUP) test
	touch $(VENV)/.astrai-lab $@

$(VENV)/.astrai-lab: $(PROJECT_FILES)
	$(SETUP) lab
	touch $@
