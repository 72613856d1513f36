# SEGA-bench. `make help` lists the targets; each builds what it needs and does nothing when it is there.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
RUN    := $(BIN)/python
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM = false

DEMO      := results/demo
REFERENCE := results/embedded
DIRECT    := vanilla pi ntk yarn dype sigma tasr vision_yarn sega window resdit area
STAGED    := upsample ultraimage imax hiflow scalediff freescale hrdit pixelrush

.PHONY: help install demo tables figures gallery answer papers search test train-embedded reference choices search-test search-page paper-search card clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv and install the pinned set

$(STAMP): constraints.txt pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[all,dev]'
	touch $@

# bfloat16 halves the time where the CPU multiplies in it, and takes many times as long where it does not. The images
# look the same (mean difference 0.8 of 255). COUNT prompts end within 4 minutes on 2 cores: at 2x an image of a direct
# method takes 2.4 s in bfloat16, and 8.5 s in float32 on a CPU that has no other.
DTYPE    ?= $(if $(shell grep -m1 -E 'amx_bf16|avx512_bf16' /proc/cpuinfo 2>/dev/null),bfloat16,float32)
COUNT    ?= $(if $(filter bfloat16,$(DTYPE)),5,2)
EXTENDED := vanilla,pi,ntk,yarn,dype,sega,area,hiflow,scalediff,upsample
DEMO_RUN  = $(RUN) run.py -m experiment=demo model.dtype=$(DTYPE)

# At 1x the direct methods are the plain model, so it is made once.
define SCORE_DEMO
$(DEMO_RUN) method=vanilla res=1x prompts.count=$(COUNT) store=$(DEMO)/runs
$(DEMO_RUN) method=$(EXTENDED) res=2x prompts.count=$(COUNT) store=$(DEMO)/runs
$(RUN) -m eval store=$(DEMO)/runs
$(RUN) -m eval store=$(DEMO)/runs eval=lite0 reference.least=64 'metrics=[fid,kid,is,mmd]'
@touch $(DEMO)/.scored
endef

demo: $(STAMP) ## generate, score and report on the embedded model: the main job, in at most 4 minutes on 2 cores
	$(SCORE_DEMO)
	$(RUN) -m eval.report store=$(DEMO)/runs out=$(DEMO)/report

# What is made of the records of STORE: each file has its rule, and is made again when records or their code change.
STORE   ?= $(DEMO)/runs
OUT     ?= $(patsubst %/runs,%,$(STORE))/report
MODEL   ?= tiny
SIZES   ?= 192x192 384x384
LARGE   := $(lastword $(SIZES))
PAPERS  := sega area dype ultraimage hiflow scalediff resdit
SOURCES := $(wildcard eval/*.py eval/*/*.py eval/gallery/web/* eval/answer/web/* eval/published/*.csv $(STORE)/votes/*)
TABLES  := $(addprefix $(OUT)/table.,md csv tex)
STEPWISE := $(foreach name,scaling attention spectra,$(OUT)/$(name)-$(MODEL)-$(LARGE).png)
FIGURES := $(SIZES:%=$(OUT)/grid-$(MODEL)-%.png) $(SIZES:%=$(OUT)/methods-$(MODEL)-%.png) $(OUT)/scores-$(MODEL).png $(OUT)/cost-$(MODEL).png $(STEPWISE)
ifeq ($(STORE),$(DEMO)/runs)
SCORED   := $(DEMO)/.scored
RECORDED := $(DEMO)/.recorded
STEPS    := $(DEMO)/steps
else
SCORED   := $(wildcard $(STORE)/*/*/*/*/scores.json)
STEPS    ?= $(STORE)
RECORDED := $(wildcard $(STEPS)/*/*/*/*/*.steps.jsonl)
endif

tables: $(TABLES) ## the joined table; table-<paper> for that of sega, area, dype, ultraimage, hiflow, scalediff or resdit
.PHONY: help install demo tables figures gallery answer papers search test train-embedded reference choices search-test search-page paper-search card clean
$(PAPERS:%=table-%): table-%: $(OUT)/table-%.md
figures: $(FIGURES) ## grids, quality against size and cost, scaling maps, attention, spectra (STORE, OUT, MODEL, SIZES)
gallery: $(OUT)/gallery/index.html ## a folder of HTML that opens from disk

$(DEMO)/.scored: | $(STAMP)
	$(SCORE_DEMO)

$(DEMO)/.recorded: | $(STAMP)
	$(DEMO_RUN) method=vanilla,ntk,sega res=2x prompts.count=2 store=$(STEPS) 'query=[0.5,0.6]' \
	  'record=[magnitudes,spectrum,attention]'
	@touch $@

$(TABLES) &: $(SCORED) $(SOURCES)
	$(RUN) -m eval.report parts=tables store=$(STORE) out=$(OUT)
	@touch -c $(TABLES)

$(OUT)/table-%.md $(OUT)/table-%.csv $(OUT)/table-%.tex: $(SCORED) $(SOURCES)
	$(RUN) -m eval.published paper=$* store=$(STORE) out=$(OUT)
	@touch -c $(OUT)/table-$*.md $(OUT)/table-$*.csv $(OUT)/table-$*.tex

$(OUT)/grid-$(MODEL)-%.png: $(SCORED) $(SOURCES)
	$(RUN) -m eval.figures grid model=$(MODEL) size=$* store=$(STORE) out=$(OUT)
	@touch -c $@

$(OUT)/methods-$(MODEL)-%.png: $(SCORED) $(SOURCES)
	$(RUN) -m eval.figures methods model=$(MODEL) size=$* store=$(STORE) out=$(OUT)
	@touch -c $@

$(OUT)/scores-$(MODEL).png: $(SCORED) $(SOURCES)
	$(RUN) -m eval.figures size model=$(MODEL) store=$(STORE) out=$(OUT)
	@touch -c $@

$(OUT)/cost-$(MODEL).png: $(SCORED) $(SOURCES)
	$(RUN) -m eval.figures cost model=$(MODEL) store=$(STORE) out=$(OUT)
	@touch -c $@

$(STEPWISE): $(OUT)/%-$(MODEL)-$(LARGE).png: $(RECORDED) $(SOURCES)
	$(RUN) -m eval.figures $* model=$(MODEL) size=$(LARGE) store=$(STEPS) out=$(OUT)
	@touch -c $@

$(OUT)/gallery/index.html: $(SCORED) $(SOURCES)
	$(RUN) -m eval.gallery store=$(STORE) out=$(OUT)/gallery
	@touch -c $@

# The page of the reference, which is committed: without its runs it is made again from answer.json. The caption of the
# images is the second of the reference.
ANSWER        := results/answer
ANSWER_STORE  ?= $(REFERENCE)/runs
ANSWER_PROMPT ?= a-red-checkered-ring-85a7e9da
answer: $(ANSWER)/index.html ## the page that says which method to take at which cost, from the reference or ANSWER_STORE=

$(ANSWER)/index.html: $(wildcard $(ANSWER_STORE)/*/*/*/*/scores.json) $(SOURCES) | $(STAMP)
	$(RUN) -m eval.answer store=$(ANSWER_STORE) out=$(ANSWER) prompt=$(ANSWER_PROMPT)
	@touch -c $@

# Without its dependencies, which are for clusters on AWS: boto3, and a cloudpickle that joblib can't use.
$(VENV)/.ray: $(STAMP)
	$(PIP) ray && $(PIP) --no-deps hydra-ray-launcher || echo "Ray can't be installed here: its launcher will not be tried"
	touch $@

# A small search on this machine: the starting points and TRIALS trials with fewer captions than its file says.
SEARCH ?= direct
TRIALS ?= 12
search: $(STAMP) ## a small search over the keys of methods (SEARCH, TRIALS), and its report
	$(RUN) -m eval.search search=$(SEARCH) trials=$(TRIALS) model.dtype=$(DTYPE) prompts.count=8 out=results/search/$(SEARCH)-small
	$(RUN) -m eval.search.report out=results/search/$(SEARCH)-small

TESTERS ?= 2
test: $(STAMP) $(VENV)/.ray ## lint, check types and run the tests, TESTERS files at a time
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(TESTERS) --dist loadfile

PAPER = results/papers/$*
UNREADY = $(if $(wildcard BSRGAN.pth),,%_and_bsrgan)
papers: $(STAMP) ## list published tables: presets with costs, rows they run, what is missing and why; make paper-<preset> PROMPTS= IMAGES= runs one
	@$(RUN) -m eval.published presets

paper-%: conf/experiment/%.yaml $(STAMP)
	set -e; for preset in $* $(filter-out $(UNREADY),$(patsubst conf/experiment/%.yaml,%,$(wildcard conf/experiment/$*_and_*.yaml))); do \
	  $(RUN) run.py -m experiment=$$preset $(if $(PROMPTS),prompts.path=$(PROMPTS)) store=$(PAPER)/runs $(ARGS); done
	$(RUN) -m eval store=$(PAPER)/runs $(if $(IMAGES),reference.path=$(IMAGES))
	$(RUN) -m eval.report store=$(PAPER)/runs out=$(PAPER)/report

train-embedded: $(STAMP) ## train the embedded model and its scorer from nothing (set for 3 hours on a CPU, 10 minutes on a GPU; ARGS=--install ships them)
	$(RUN) -m sega.embedded.training $(ARGS)

# Every image of the reference is made once; what stops goes on with the next `make`, and a second terminal with the same
# line takes a share. bfloat16, as the real models are run: on CPUs that multiply it, it takes half the time of float32.
# Two stores, since an FID depends on the number of images: all methods on N_1X, N_2X, N_4X and (16:9, 9:16) N_WIDE
# captions, and the options of SEGA on N_SEGA.
N_1X   ?= 16
N_2X   ?= 32
N_4X   ?= 4
N_WIDE ?= 4
N_SEGA ?= 128
comma  := ,
space  := $(subst ,, )
FIELD  := $(subst $(space),$(comma),$(DIRECT) $(STAGED))
CELLS  := $(RUN) run.py -m model=tiny model.dtype=bfloat16 prompts.seed=11
PLACES := store=$(REFERENCE)/runs
ASKED  := res=2x prompts.count=$(N_SEGA) store=$(REFERENCE)/sega/runs
ESRGAN := results/cache/esrgan-medium-2x.safetensors
$(ESRGAN): | $(STAMP)
	$(RUN) scripts/fetch.py esrgan-2x weights=$(@D)

cells: $(STAMP) $(ESRGAN)
	$(CELLS) method=$(FIELD) res=1x prompts.count=$(N_1X) $(PLACES)
	$(CELLS) method=$(FIELD) res=2x prompts.count=$(N_2X) $(PLACES)
	$(CELLS) method=$(FIELD) res=4x prompts.count=$(N_4X) $(PLACES)
	$(CELLS) method=$(FIELD) res=512x288,288x512 prompts.count=$(N_WIDE) $(PLACES)
	$(CELLS) method=sega method.amplitude=0 res=2x prompts.count=$(N_2X) $(PLACES)
	$(CELLS) method=sega method.amplitude=0 res=4x prompts.count=$(N_4X) $(PLACES)
	$(CELLS) method=sega method.amplitude=0 res=512x288,288x512 prompts.count=$(N_WIDE) $(PLACES)
	$(CELLS) method=upsample method.kind=model method.weights=$(ESRGAN) res=2x prompts.count=$(N_2X) $(PLACES)
	$(CELLS) method=sega $(ASKED)
	$(CELLS) method=sega method.amplitude=0 $(ASKED)
	$(CELLS) method=sega method.source=latent $(ASKED)
	$(CELLS) method=sega method.ntk=plain $(ASKED)
	$(CELLS) method=sega method.variant=paper $(ASKED)

reference: cells card ## make results/embedded: images (hours; resumable), scores, tables, figures, the README's images and numbers
	$(RUN) -m eval store=$(REFERENCE)/runs
	$(RUN) -m eval store=$(REFERENCE)/runs eval=lite0
	$(RUN) -m eval.report store=$(REFERENCE)/runs out=$(REFERENCE)/report cost=calls
	$(RUN) -m eval.report store=$(REFERENCE)/runs out=$(REFERENCE)/report-upsample base=upsample parts=tables
	$(RUN) -m eval store=$(REFERENCE)/sega/runs
	$(RUN) -m eval.report store=$(REFERENCE)/sega/runs out=$(REFERENCE)/sega/report base=sega parts=tables,figures cost=calls
	$(RUN) scripts/front_page.py

# What descriptions leave open in AReA and ResDiT, on captions and a seed that no table uses.
CHOICES = $(REFERENCE)/choices
CHOICE  = $(RUN) run.py -m model=tiny model.dtype=bfloat16 res=2x prompts.seed=900 'seeds=[900]' prompts.count=12 store=$(CHOICES)/runs
choices: $(STAMP) ## try the options of AReA and ResDiT that their descriptions leave open
	$(CHOICE) method=area,resdit
	$(CHOICE) method=area method.switch=0.3,0.45,0.78,0.9
	$(CHOICE) method=area method.ids=own
	$(CHOICE) method=area method.bridge=0
	$(CHOICE) method=area method.smooth=0
	$(CHOICE) method=resdit method.cutoff=0.1,0.4
	$(CHOICE) method=resdit method.feather=0.125,0.5
	$(RUN) -m eval store=$(CHOICES)/runs
	$(RUN) -m eval.report store=$(CHOICES)/runs out=$(CHOICES)/report base=area parts=tables,figures cost=calls

# The confirmatory test of a search, on captions that nothing else uses: published methods, ablations of SEGA, and the
# WINNERS that a search wrote. Set for a GPU; on a CPU, MINUTES is a limit that it keeps. What stops goes on with `make`.
VERDICT  = $(RUN) -m eval.verdict $(if $(WINNERS),winners=$(WINNERS)) $(if $(MINUTES),minutes=$(MINUTES))
WORKERS ?= 1
search-test: $(STAMP) ## the test of a search: images, scores, and results/search/index.html (WINNERS= MINUTES= WORKERS= ARGS=)
	$(VERDICT) make score sheets page workers=$(WORKERS) $(ARGS)

search-page: $(STAMP) ## results/search/index.html again, from the scores or answers.json
	$(VERDICT) page $(ARGS)

PAPER_TEST = results/papers/search
paper-search: $(STAMP) ## the decisive comparisons of search-test on FLUX.1-dev and Qwen-Image (PROMPTS= IMAGES= WINNERS=), with their cost before
	$(VERDICT) cost plan=conf/verdict/paper.yaml
	$(VERDICT) make score sheets page plan=conf/verdict/paper.yaml $(if $(PROMPTS),captions=$(PROMPTS)) \
	  $(if $(IMAGES),images=$(IMAGES)) store=$(PAPER_TEST)/runs out=$(PAPER_TEST) workers=$(WORKERS) $(ARGS)

CARD = $(REFERENCE)/card/runs
NATIVE = $(shell awk '/^native:/{print $$2}' conf/model/tiny.yaml)
NATIVE_RUN = $$(ls -dt $(CARD)/tiny/vanilla/$(NATIVE)x$(NATIVE)/* | head -1)
card: $(STAMP) ## measure the embedded model at its native size and write its card (CARD: a store of runs)
	$(RUN) run.py model=tiny model.dtype=bfloat16 method=vanilla res=$(NATIVE) prompts.seed=11 prompts.count=256 store=$(CARD)
	$(RUN) scripts/embedded_measure.py $(NATIVE_RUN) $(REFERENCE)
	$(RUN) scripts/embedded_card.py $(NATIVE_RUN) $(REFERENCE)

clean: ## remove the demo's results (never results/runs)
	rm -rf results/demo
