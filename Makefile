# SEGA-bench. `make help` lists the targets; each builds what it needs and does nothing when it is there.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
RUN    := $(BIN)/python
STAMP  := $(VENV)/.installed
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM = false

DEMO      := results/demo
REFERENCE := results/embedded
DIRECT    := vanilla pi ntk yarn dype sega
STAGED    := upsample ultraimage imax hiflow scalediff hrdit

.PHONY: help install demo test train-embedded reference card clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv and install the pinned set

$(STAMP): constraints.txt pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,cluster]'
	touch $@

demo: $(STAMP) ## generate, score and report on the embedded model: the main job, in minutes
	$(RUN) run.py -m experiment=demo method=vanilla,pi,ntk,yarn,dype,sega res=128,256 store=$(DEMO)/runs
	$(RUN) -m eval store=$(DEMO)/runs
	$(RUN) -m eval.report store=$(DEMO)/runs out=$(DEMO)/report

test: $(STAMP) ## lint and run the tests
	$(BIN)/ruff check .
	$(RUN) -m pytest

train-embedded: $(STAMP) ## train the embedded model and its scorer from nothing (hours on a CPU, minutes on a GPU)
	$(RUN) -m sega.embedded.train

reference: $(DIRECT:%=cells-%) cells-uniform card ## regenerate results/embedded (N1, N2, N4: prompts at 1x, 2x, 4x; with make -j each job takes one thread)
	$(RUN) -m eval store=$(REFERENCE)/runs
	$(RUN) -m eval.report store=$(REFERENCE)/runs out=$(REFERENCE)/report

CELL = OMP_NUM_THREADS=$(THREADS) $(RUN) run.py model=tiny store=$(REFERENCE)/runs prompts.seed=11
THREADS ?= 1
N1 ?= 64
N2 ?= 64
N4 ?= 16
cells-%: $(STAMP)
	$(CELL) method=$* res=128 prompts.count=$(N1)
	$(CELL) method=$* res=256 prompts.count=$(N2)
	$(CELL) method=$* res=512 prompts.count=$(N4)

cells-uniform: $(STAMP)
	$(CELL) method=sega method.amplitude=0 res=256 prompts.count=$(N2)
	$(CELL) method=sega method.amplitude=0 res=512 prompts.count=$(N4)

cells-staged: $(STAGED:%=staged-%) ## the remaining methods on the first prompts of the reference
staged-%: $(STAMP)
	$(CELL) method=$* res=256 prompts.count=$(N2)
	$(CELL) method=$* res=512 prompts.count=$(N4)

card: $(STAMP) ## measure the embedded model at its native size and write its card
	$(RUN) run.py model=tiny method=vanilla res=128 prompts.seed=12 prompts.count=256 store=results/cache/card
	$(RUN) scripts/embedded_card.py results/cache/card/tiny/vanilla/128x128/* $(REFERENCE)

clean: ## remove the demo's results (never results/runs)
	rm -rf results/demo
