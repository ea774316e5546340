# `make` lists the targets. PYTHON=python3.12 make setup chooses another interpreter.
PYTHON ?= python3
VENV := .venv
OLDEST := .venv-oldest
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
BENCH := $(VENV)/.bench
JOBS ?= 1# runs at a time
QUADRATIC := fig04_momentum_quadratic fig03_noisy_quadratic fig11_noisy_convergence fig12_finite_horizon theory_and_optimizer
OUTER := outer_momentum local_workers outer_momentum_and_optimizer

.PHONY: help setup demo quadratic outer-momentum test test-slurm test-oldest lint figures pictures tables report site status dispute_cifar dispute_ptb searches_cifar search_imagenet search_ptb search_nmt search_multi30k nmt_250k swa_cifar outer_momentum_trials outer_momentum_on_data local_workers_on_data sync check-gpu bench-imagenet bench-input bench-train bench-nmt bench-optimizer bench-outer-momentum bench-ptb bench-quadratic compare-optimizers clean

help: ## List the targets
	@grep -E '^[a-z0-9%_-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: $(READY) ## Build .venv with the tested versions (the other targets call it)

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { echo "error: $(PYTHON) is not Python 3.10 to 3.13; name another: make setup PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "error: $(PYTHON) has no venv module (on Debian: apt-get install python3-venv)"; exit 1; }
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet -r requirements.txt
	$(PY) -m pip install --quiet --no-deps --editable .
	@touch $@

$(BENCH): $(READY) requirements-bench.txt
	$(PY) -m pip install --quiet -r requirements-bench.txt
	@touch $@

demo: $(READY) ## Train SGD and Lookahead on bundled digits and draw results/figures/demo.png (3 minutes)
	$(PY) train.py experiment=demo runtime.device=cpu runtime.threads=1
	$(PY) scripts/figures.py demo --runs outputs

test: $(READY) ## Run the tests, on every core (.venv/bin/pytest -m "not slow" is the quick run)
	$(PY) -m pytest -n auto

test-slurm: $(READY) ## Run the tests on a Slurm that they start here (apt-get install slurmctld slurmd slurm-client munge)
	$(PY) -m pytest -m slurm -rs tests/slurm

$(OLDEST)/.ready: requirements-oldest.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || { echo "error: torch 2.4 needs Python 3.10 to 3.12, not $(PYTHON); name another: make test-oldest PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(OLDEST) || { echo "error: $(PYTHON) has no venv module (on Debian: apt-get install python3-venv)"; exit 1; }
	$(OLDEST)/bin/python -m pip install --quiet -r requirements-oldest.txt
	@touch $@

test-oldest: $(OLDEST)/.ready ## Run the optimizer's tests with the oldest torch that it works with
	$(OLDEST)/bin/python -m pytest -n auto tests/lookahead

quadratic: $(READY) ## Compute and draw the quadratic analysis: Figures 3, 4, 11 and 12 (under a minute on 2 cores)
	@$(MAKE) --no-print-directory -j 2 $(addprefix quadratic-,$(QUADRATIC))

outer-momentum: $(READY) ## Compute and draw the analyses of outer momentum and of local workers (some minutes on 2 cores)
	@$(MAKE) --no-print-directory -j 2 $(addprefix quadratic-,$(OUTER))

quadratic-%: $(READY)
	$(PY) analyze.py experiment=$* runtime.threads=1
	$(PY) scripts/figures.py $* --runs outputs

# What is missing of one figure or table is run, JOBS at a time, and collected; where collecting is refused, for a checkout
# with changes say, it is drawn from outputs/ all the same, and a line says so. Runs at scale=smoke are no results: nothing of
# them goes into results/.
SMOKE = $(filter scale=smoke,$(ARGS))
define reproduce
	@commands="$$($(PY) scripts/status.py --commands $@ $(ARGS))" || exit 1; \
	printf '%s' "$$commands" | xargs -r -d '\n' -P $(JOBS) -I{} sh -c {} || { echo "error: a run of $@ failed; what is done is kept, make $@ goes on from there" >&2; exit 1; }
	@$(if $(SMOKE),echo "note: smoke runs are a trial of the code: none is collected; $@ goes to outputs/$(1)/"; exit 0;) \
	folders="$$($(PY) scripts/status.py --folders $@ $(ARGS))" || exit 1; \
	printf '%s' "$$folders" | xargs -r -d '\n' $(PY) scripts/collect.py || echo "note: not all is in results/runs/, for the reasons above; $@ is made with what is in outputs/"
endef

fig%: $(READY) ## Run what is missing of a figure and draw it (make fig05 ARGS="scale=proxy" JOBS=2)
	$(call reproduce,figures)
	$(PY) scripts/figures.py $@ $(ARGS) --runs outputs --runs results/runs $(if $(SMOKE),--out outputs/figures)

table%: $(READY) ## Run what is missing of a table and write it (make table1)
	$(call reproduce,tables)
	$(PY) scripts/tables.py $@ $(ARGS) --runs outputs --runs results/runs $(if $(SMOKE),--out outputs/tables)

dispute_cifar: ## As table%: the published failure to reproduce Table 1
dispute_ptb: ## As table%: Lookahead around Adam on Penn Treebank at three learning rates
searches_cifar: ## As table%: the grids that Appendix C.1 searched
search_imagenet: ## As table%: the learning rates that Appendix C.2 searched
search_ptb: ## As table%: the grids that Appendix C.3 searched
search_nmt: ## As table%: the rates and k that Appendix C.4 searched, on WMT14
search_multi30k: ## As table%: the same on Multi30k, a stand-in
nmt_250k: ## As table%: Appendix C.4's 250,000 updates on WMT14
swa_cifar: ## As table%: SWA and Lookahead (D.3) beside the SWA code's own numbers
outer_momentum_trials: ## As table%: trials of momentum on the outer update, beyond the paper
outer_momentum_on_data: ## As table%: their best, with three seeds
local_workers_on_data: ## As table%: two workers that meet every k steps beside two of DDP
dispute_cifar dispute_ptb searches_cifar search_imagenet search_ptb search_nmt search_multi30k nmt_250k swa_cifar outer_momentum_trials outer_momentum_on_data local_workers_on_data: $(READY)
	$(call reproduce,tables)
	$(PY) scripts/tables.py $@ $(ARGS) --runs outputs --runs results/runs $(if $(SMOKE),--out outputs/tables)

lint: $(READY) ## Check the style
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

figures: $(READY) ## Rebuild every figure and table from results/runs/
	@$(MAKE) --no-print-directory -j 2 pictures tables

pictures: $(READY) ## Rebuild every figure (PNG, PDF and caption) from results/runs/
	$(PY) scripts/figures.py

tables: $(READY) ## Rebuild the tables in docs/ and results/tables/ (Markdown, CSV, LaTeX) from results/runs/
	$(PY) scripts/tables.py

report: $(READY) ## Judge the paper's claims by results/runs/ and write results/REPORT.md
	$(PY) scripts/report.py

site: $(READY) ## Make results/report.html, one page that needs nothing else, of results/REPORT.md
	$(PY) scripts/site.py

# Asked for together they wait for each other under -j too; make report alone redraws nothing.
report: | $(filter figures pictures tables,$(MAKECMDGOALS))
site: | $(filter figures pictures tables report,$(MAKECMDGOALS))

status: $(READY) ## Say which runs of each experiment are done (ARGS="demo key=value" for some)
	$(PY) scripts/status.py $(ARGS)

sync: $(READY) ## Upload the offline W&B parts below outputs/, in the order they were written
	@find -L outputs -type d -path '*/wandb/offline-run-*' -prune -print0 2>/dev/null | sort -z | xargs -0 -r $(VENV)/bin/wandb sync --yes

check-gpu: $(READY) ## Say whether runs on this GPU may be trusted, and how fast they are (ARGS="--full" for more)
	$(PY) benchmarks/gpu.py $(ARGS)

bench-input: $(READY) ## Measure the CIFAR input pipeline against torchvision's in a DataLoader
	$(PY) benchmarks/input_pipeline.py

bench-train: $(READY) ## Measure the training loop against a plain one
	$(PY) benchmarks/training.py

bench-imagenet: $(READY) ## Measure training on ImageNet against the plain recipe, and Lookahead's share of an update
	$(PY) benchmarks/imagenet.py $(ARGS)

bench-nmt: $(READY) ## Measure training and decoding with the Transformer against plain implementations
	$(PY) benchmarks/translation.py $(ARGS)

bench-optimizer: $(BENCH) ## Measure the optimizer's time and memory against the hardware's limit and others
	$(PY) benchmarks/host_time.py
	$(PY) benchmarks/optimizer.py

bench-outer-momentum: $(READY) ## Measure the exact analysis of outer momentum over a grid against a plain loop
	$(PY) benchmarks/outer_momentum.py

bench-ptb: $(READY) ## Measure training AWD-LSTM on Penn Treebank against a plain implementation
	$(PY) benchmarks/penn_treebank.py $(ARGS)

bench-quadratic: $(READY) ## Measure the noisy quadratic's grid search against a plain loop
	$(PY) benchmarks/quadratic.py

compare-optimizers: $(BENCH) ## Put four Lookahead implementations through the same checks, for docs/optimizers.md
	$(PY) benchmarks/compare_optimizers.py

clean: ## Remove .venv and caches; outputs/, data/ and results/ stay
	rm -rf $(VENV) $(OLDEST) .pytest_cache .ruff_cache .hypothesis
