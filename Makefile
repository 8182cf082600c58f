# Every target sets itself up in .venv; it needs python3 (3.10 or newer) and make.
PYTHON ?= python3
JOBS ?= 2
PYTEST_ARGS ?=
BIN := .venv/bin
# $(call install,environment,constraints) and $(call pytest,environment).
install = $(1)/bin/python -m pip install --disable-pip-version-check --constraint $(or $(2),constraints.txt)
# One thread each: sums keep their order, and the workers don't fight over the cores. Bytecode is kept whatever the
# environment says: hundreds of processes read the same files.
pytest = OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(1)/bin/python -m pytest -n $(JOBS) --dist loadgroup
ELSEWHERE := slow or peers or distributed
NOT_QUICK := $(ELSEWHERE) or long or docs or integration or browser

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo quick test distributed gpu peers oldest newest studies evidence check format bench docs outputs dist clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.demo  ## watch weight decay act on two trainings, and get a page with the pictures
	$(BIN)/torchdecay demo

quick: .venv/.dev  ## run the tests that take milliseconds, while you work (PYTEST_ARGS="-k plan" for a part of them)
	$(call pytest,.venv) -m "not ($(NOT_QUICK))" $(PYTEST_ARGS)

test: .venv/.dev  ## run the whole suite
	$(call pytest,.venv) $(PYTEST_ARGS)

distributed: .venv/.dev  ## run what is about several processes: every form on every mesh, checkpoints, launchers, Ray
	$(call pytest,.venv) -n 0 -m distributed $(PYTEST_ARGS)

gpu: .venv/.dev  ## test and measure on a GPU, where there is one, in at most 8 minutes
	$(BIN)/python benchmarks/gpu.py

peers: .venv-peers/.dev  ## run the tests on optimizers and models of other libraries, in an environment of their own
	$(call pytest,.venv-peers) -m peers $(PYTEST_ARGS)

oldest: .venv-oldest/.dev  ## run the suite on the oldest torch that is claimed (several gigabytes)
	$(call pytest,.venv-oldest) -m "not ($(ELSEWHERE) or docs or browser)" $(PYTEST_ARGS)

newest: .venv-newest/.dev  ## run the suite on the newest torch that was tried (several gigabytes)
	$(call pytest,.venv-newest) -m "not ($(ELSEWHERE) or docs or browser)" $(PYTEST_ARGS)

studies: .venv/.dev  ## run the slow tests, minutes each
	$(call pytest,.venv) -n 0 -m slow --timeout 3600 $(PYTEST_ARGS)

evidence: .venv/.dev  ## run the studies, minutes each, or one of them (STUDY=grokking), and write docs/evidence.md
	@for name in $(or $(STUDY),$(filter-out page study,$(basename $(notdir $(wildcard studies/*.py))))); do \
	    echo "== $$name"; OMP_NUM_THREADS=1 $(BIN)/python studies/$$name.py || exit 1; done
	$(BIN)/python studies/page.py

check: .venv/.dev  ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.dev  ## put the source into the one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.dev  ## run every benchmark, one after the other
	@over=; for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file" || over="$$over $$file"; done; \
	    [ -z "$$over" ] || { echo "over a limit:$$over"; exit 1; }

docs: .venv/.dev  ## run every code block of the docs, then build the site strictly
	$(call pytest,.venv) -m docs $(PYTEST_ARGS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "built: site/index.html (to search it: $(BIN)/mkdocs serve)"

dist: .venv/.dev  ## build the wheel and the source archive into dist/
	$(BIN)/python -m build --no-isolation --outdir dist .

outputs: .venv/.dev  ## write into the docs what their code prints
	OMP_NUM_THREADS=1 $(BIN)/python tests/docs_pages.py

clean:  ## remove the environments and everything built
	rm -rf .venv .venv-peers .venv-oldest .venv-newest site dist .mypy_cache .ruff_cache .pytest_cache

# Debian leaves ensurepip out of python3: there the system's pip fills the environment.
%/.made:
	@echo "making $*; the first installation takes some minutes, later runs reuse it"
	rm -rf $*
	$(PYTHON) -m venv $* || { rm -rf $* && $(PYTHON) -m venv --without-pip $* \
	    && $(PYTHON) -m pip --python $*/bin/python install pip; }
	touch $@

# hatchling first, so that the build of this package takes the pinned one.
.venv/.demo: .venv/.made pyproject.toml constraints.txt
	$(call install,.venv) hatchling
	$(call install,.venv) --no-build-isolation --editable '.[lab]'
	touch $@

.venv/.dev: .venv/.made pyproject.toml constraints.txt
	$(call install,.venv) hatchling
	$(call install,.venv) --no-build-isolation --editable '.[dev]'
	touch $@ .venv/.demo

# torchvision without what it asks for, another torch, fastai and timm without torchvision's, mmengine with the OpenCV
# that needs no screen, and LitGPT beside a newer huggingface_hub than it asks for; the first works beside this torch but
# for its compiled operators. The sources hold tests that the wheels leave out.
.venv-peers/.dev: .venv-peers/.made pyproject.toml constraints.txt
	$(call install,.venv-peers) hatchling
	$(call install,.venv-peers) --no-build-isolation --editable '.[lab,lightning,peers,skorch,tensorboard,transformers]' \
	    addict bitsandbytes comet_ml e3nn expecttest fastdownload fasttransform gpytorch hypothesis ipykernel \
	    mlflow-skinny nbclient nflows opencv-python-headless parameterized peft pytest pytest-timeout pytest-xdist \
	    python-fasthtml requests stable-baselines3 termcolor torch-geometric torchao trl wandb x-transformers yapf
	$(call install,.venv-peers) --no-deps fastai litgpt mmengine timm torchvision
	.venv-peers/bin/python -m pip download --disable-pip-version-check --constraint constraints.txt --no-deps \
	    --no-binary :all: --dest .venv-peers/sources accelerate timm
	cd .venv-peers/sources && for archive in *.tar.gz; do tar -xzf $$archive || exit 1; done
	touch $@

# The pins of constraints.txt, but for what a file constraints-NAME.txt pins otherwise.
.venv-%/constraints.txt: .venv-%/.made constraints.txt constraints-%.txt
	grep -vE "^($$(sed -n 's/==.*//p' constraints-$*.txt | paste -sd '|'))==" constraints.txt | cat - constraints-$*.txt > $@

.venv-oldest/.dev .venv-newest/.dev: %/.dev: %/.made %/constraints.txt pyproject.toml
	$(call install,$*,$*/constraints.txt) hatchling
	$(call install,$*,$*/constraints.txt) --no-build-isolation --editable '.[test]'
	touch $@
