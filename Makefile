# SEGA-bench. `make help` lists the targets; each builds what it needs and does nothing when it is there.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
RUN    := $(BIN)/python
STAMP  := $(VENV)/.installed
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM = false

DEMO_STORE := results/demo/runs
DEMO_OUT   := results/demo/report
REFERENCE  := results/embedded

.PHONY: help demo test lint train-embedded reference clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv and install the pinned set

$(STAMP): constraints.txt pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,cluster]'
	touch $@

demo: $(STAMP) ## generate, score and report on the embedded model: the main job, in minutes
	$(RUN) run.py -m model=tiny experiment=demo store=$(DEMO_STORE) method=vanilla,pi,ntk,yarn,dype,sega res=128,256
	$(RUN) -m eval store=$(DEMO_STORE) eval=embedded
	$(RUN) -m eval.report store=$(DEMO_STORE) out=$(DEMO_OUT)

test: $(STAMP) ## lint and run the tests
	$(BIN)/ruff check .
	$(RUN) -m pytest

train-embedded: $(STAMP) ## train the embedded model and its scorer from nothing (hours on a CPU, minutes on a GPU)
	$(RUN) -m sega.embedded.train

clean: ## remove the demo's results (never results/runs)
	rm -rf results/demo
