"""What a user may get wrong is refused with value, rule and remedy, before anything starts."""

import gzip
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.checks.preflight import PreflightReport, preflight
from oapl.__main__ import main
from oapl.config.toml import load_config
from oapl.errors import InputError
from tests.support.makers import make_model, make_tokenizer
from tests.support.mixing import NAME as MIXING

HEAVY = ("ray", "vllm", "deepspeed", "wandb")
ROWS = [{"prompt": f"What is {i}+{i}?", "answer": str(2 * i), "response": "x"} for i in range(8)]


@dataclass(frozen=True)
class Bad:
    """Overrides on top of a run that works, and what the error must say."""

    name: str
    overrides: str
    says: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


SET_ONE = "eval.sources.0.name=e\neval.sources.0.path={files}/good.jsonl\n"
# One override per line; {files} is the folder of the fixture. The last words are the remedy's.
CASES = [
    # --- keys
    Bad(
        "typo in a key",
        "sync.intervall=5",
        ("sync.intervall:", "unknown", "did you mean sync.interval"),
    ),
    Bad(
        "typo in a section",
        "optimiser.lr=1e-4",
        ("optimiser:", "unknown", "did you mean optimizer"),
    ),
    Bad(
        "section forgotten",
        "max_tokens=5",
        ("max_tokens:", "unknown", "did you mean rollout.max_tokens"),
    ),
    Bad(
        "typo in a source",
        "data.sources.0.pth=x",
        ("data.sources.0.pth:", "did you mean data.sources.0.path"),
    ),
    Bad(
        "another trainer's name",
        "rollout.num_generations=4",
        ("rollout.num_generations:", "rollout.group_size"),
    ),
    Bad(
        "name missing in a source",
        "data.sources.1.path=x",
        ("data.sources.1.name:", "missing", "Name of the source"),
    ),
    # --- settings that others have
    Bad("LoRA", "lora.r=16", ("lora:", "no LoRA", "leave it out")),
    Bad(
        "LoRA inside a section",
        "model.lora_rank=16",
        ("model.lora_rank:", "no LoRA", "leave it out"),
    ),
    Bad(
        "pipelines",
        "learner.pipeline_parallel_size=2",
        ("learner.pipeline_parallel_size:", "no pipeline", "learner.zero_stage"),
    ),
    Bad(
        "sequence parallelism",
        "learner.sequence_parallel=2",
        ("learner.sequence_parallel:", "no sequence parallelism", "micro_batch_tokens"),
    ),
    Bad(
        "PPO epochs",
        "objective.ppo_epochs=4",
        ("objective.ppo_epochs:", "the setting is called learner.updates_per_batch"),
    ),
    Bad(
        "restarts of ranks as they were",
        "run.max_restarts=2",
        ("run.max_restarts:", "is called restarts.rank.max_restarts now"),
    ),
    Bad(
        "restarts of ranks as they were at first",
        "learner.max_restarts=2",
        ("learner.max_restarts:", "is called restarts.rank.max_restarts now"),
    ),
    Bad(
        "restarts of workers as they were",
        "cluster.max_worker_restarts=2",
        ("cluster.max_worker_restarts:", "is called restarts.worker.max_restarts now"),
    ),
    Bad(
        "restarts of workers as they were at first",
        "cluster.max_restarts=2",
        ("cluster.max_restarts:", "is called restarts.worker.max_restarts now"),
    ),
    Bad(
        "a mode of math as it was",
        "reward.options.math.mode=rule_or_math_verify",
        ('reward.options.math.mode = "rule_or_math_verify"', 'is called "prorl" now'),
    ),
    Bad(
        "no stored groups as it was",
        "tracking.rollout_groups_per_step=0",
        ("tracking.rollout_groups_per_step = 0:", 'is tracking.store_groups = "off" now'),
    ),
    Bad(
        "uses of groups in another section",
        "learner.max_uses=2",
        ("learner.max_uses:", "did you mean replay.max_uses?"),
    ),
    Bad("FSDP", "fsdp.wrap=true", ("fsdp:", "DeepSpeed", "learner.zero_stage")),
    Bad(
        "old log-probs",
        "objective.old_log_probs=true",
        ("objective.old_log_probs:", "inference_logprobs", "leave it out"),
    ),
    # --- types and ranges
    Bad(
        "number in quotes",
        'optimizer.lr="1e-4"',
        ('optimizer.lr = "1e-4"', "must be a number", "Peak learning rate"),
    ),
    Bad(
        "fraction for a count",
        "sync.interval=2.5",
        ("sync.interval = 2.5", "a whole number", "default 50"),
    ),
    Bad(
        "word for a number",
        "optimizer.lr=high",
        ('optimizer.lr = "high"', "must be a number", "default 1e-06"),
    ),
    Bad(
        "word for a boolean",
        "eval.greedy=maybe",
        ('eval.greedy = "maybe"', "true or false", "default true"),
    ),
    Bad(
        "number for a list", "eval.ks=8", ("eval.ks = 8", "must be a list", "default [1, 2, 4, 8]")
    ),
    Bad("number for a section", "sync=5", ("sync = 5", "must be a section", "interval")),
    Bad(
        "number for a table",
        "reward.verifiers=1",
        ("reward.verifiers = 1", "must be a table", "default { math = 1.0 }"),
    ),
    Bad("L of 0", "sync.interval=0", ("sync.interval = 0", "at least 1", "default 50")),
    Bad("negative rate", "optimizer.lr=-1.0", ("optimizer.lr = -1.0", "above 0", "default")),
    Bad("not a number", "optimizer.lr=nan", ("optimizer.lr = nan", "finite", "default")),
    Bad("top-p above 1", "rollout.top_p=1.5", ("rollout.top_p = 1.5", "at most 1", "1 is off")),
    Bad("ZeRO stage", "learner.zero_stage=4", ("learner.zero_stage = 4", "at most 3", "default 1")),
    Bad(
        "unknown precision",
        "learner.precision=bf32",
        ('learner.precision = "bf32"', "one of fp32, bf16", "did you mean"),
    ),
    Bad(
        "unknown choice",
        "data.overlong=trunc",
        ('data.overlong = "trunc"', "drop, truncate, error", "did you mean truncate"),
    ),
    # --- overrides
    Bad(
        "no equals sign",
        "sync.interval",
        ("'sync.interval'", "section.key=value", "as in sync.interval=50"),
    ),
    Bad(
        "dashes",
        "--sync.interval=5",
        ("'--sync.interval=5'", "section.key=value", "without dashes"),
    ),
    Bad(
        "gap in a list",
        "data.sources.7.path=x",
        ("data.sources.7.path=x", "no place in a list of 1", "0 to 1"),
    ),
    # --- rules between fields
    Bad(
        "group of one",
        "rollout.group_size=1",
        ("rollout.group_size = 1", "at least 2 rollouts", "raise rollout.group_size"),
    ),
    Bad(
        "batch cut through a group",
        "learner.batch_size=30",
        ("learner.batch_size = 30", "multiple of rollout.group_size (8)", "set it to 32"),
    ),
    Bad(
        "buffer below a batch",
        "replay.capacity=3",
        ("replay.capacity = 3", "8 groups", "raise replay.capacity"),
    ),
    Bad(
        "nucleus sampling",
        "rollout.top_p=0.9",
        ("rollout.top_p = 0.9", "log-probs", "set rollout.top_p = 1.0"),
    ),
    Bad(
        "top-k sampling",
        "rollout.top_k=40",
        ("rollout.top_k = 40", "log-probs", "set rollout.top_k = 0"),
    ),
    Bad(
        "response fills the context",
        "rollout.context_tokens=64",
        ("rollout.max_tokens = 64", "no room for a prompt", "raise rollout.context_tokens"),
    ),
    Bad(
        "response fills the model",
        "rollout.max_tokens=512",
        ("rollout.max_tokens = 512", "context of 512", "below 512"),
    ),
    Bad(
        "evaluation fills the context",
        "eval.max_tokens=600",
        ("eval.max_tokens = 600", "context of 512", "below 512"),
    ),
    Bad(
        "context beyond the model",
        "rollout.context_tokens=4096",
        ("rollout.context_tokens = 4096", "made for 512", "at most 512"),
    ),
    Bad(
        "drain into nothing",
        "sync.in_flight=drain",
        ('sync.in_flight = "drain"', "replay.max_versions = 1", "to 2 or more"),
    ),
    Bad(
        "two kinds of lag",
        "replay.max_versions=2\nreplay.surplus=0.5\nsync.max_lead=3",
        ("replay.max_versions = 2", "sync.max_lead (3)", "leave one of the two out"),
    ),
    Bad(
        "stragglers with nowhere to go",
        "sync.stragglers=move\nrollout.num_engines=2",
        ('sync.stragglers = "move": ', "sync.max_lead = 0 publishes none so", "set it"),
    ),
    Bad(
        "stragglers with nobody to go to",
        "sync.stragglers=move\nsync.max_lead=3",
        ('sync.stragglers = "move": ', "only 1 collects", "raise rollout.num_engines"),
    ),
    Bad(
        "stragglers beside the policy that sampled",
        "sync.stragglers=move\nsync.max_lead=3\nrollout.num_engines=2\nobjective.anchor=sampler",
        ('sync.stragglers = "move": ', "groups of two versions", "leave one of the two out"),
    ),
    Bad(
        "versions without a surplus",
        "replay.max_versions=2",
        ("replay.max_versions = 2", "replay.surplus = 0", "1.0 for a whole period"),
    ),
    Bad(
        "floor above the peak",
        "optimizer.min_lr=1.0\noptimizer.schedule=cosine",
        ("optimizer.min_lr = 1.0", "optimizer.lr (1e-06)", "lower it"),
    ),
    Bad(
        "floor without a slope",
        "optimizer.min_lr=1e-7",
        ("optimizer.min_lr = 1e-07", "no floor", 'schedule = "cosine"'),
    ),
    Bad(
        "row beyond micro-batch",
        "learner.row_tokens=9000",
        ("learner.row_tokens = 9000", "(8192)", "lower it"),
    ),
    Bad(
        "resets of a reference that the objective has not",
        "reference.reset_every=100",
        ("reference.reset_every = 100: oapl", "has no reference", "kl_coefficient"),
    ),
    Bad(
        "a critic that nobody asks for",
        "critic.lr=1e-4\ncritic.warmup_steps=5",
        ("critic.lr = 0.0001: the objective oapl has no critic", "critic.warmup_steps = 5"),
    ),
    Bad(
        "a policy that is never updated",
        "objective.name=tests.support.valued\ncritic.warmup_steps=1000",
        ("critic.warmup_steps = 1000", "all of run.max_steps (1000)", "raise run.max_steps"),
    ),
    Bad(
        "typo in a setting of the critic",
        "critic.warmup=5",
        ("critic.warmup:", "did you mean critic.warmup_steps"),
    ),
    Bad(
        "another trainer's critic",
        "learner.critic_lr=1e-5",
        ("learner.critic_lr:", "the setting is called critic.lr"),
    ),
    Bad(
        "a critic that is nowhere",
        "objective.name=tests.support.valued\ncritic.path=no/such",
        ("critic.path = 'no/such': ", "give the folder"),
    ),
    Bad(
        "a critic of another type",
        "objective.name=tests.support.valued\ncritic.path={files}/lossy",
        ("lossy': is a qwen2 model, but the policy is a llama one", "leave critic.path out"),
    ),
    Bad(
        "a critic that is no decoder",
        "objective.name=tests.support.valued\ncritic.path={files}/headless",
        ("critic.path = '{files}/headless': the config.json of this mamba model",),
    ),
    Bad(
        "a critic without weights",
        "objective.name=tests.support.valued\ncritic.path={files}/weightless",
        ("critic.path = '{files}/weightless': has no weights",),
    ),
    Bad(
        "a critic of fewer tokens",
        "objective.name=tests.support.valued\ncritic.path={files}/mixed",
        ("mixed': knows 120 tokens, but the policy writes 128", "of the policy's vocabulary"),
    ),
    Bad(
        "a critic to which tokens mean something else",
        "objective.name=tests.support.valued\ncritic.path={files}/foreign",
        ("foreign': its tokenizer is not the policy's: ", " to the policy, ", " to the critic"),
    ),
    Bad(
        "an interval of pass rates from the larger to the smaller",
        "data.sources.0.pass_rate=[0.9, 0.1]",
        ("data.sources.0.pass_rate = [0.9, 0.1]: goes from the smaller to the larger",),
    ),
    Bad(
        "easy ones first where there is no column",
        "data.sources.0.easy_first=true",
        ("none of its ", "rows has a pass rate (column 'pass_rate')", "name a file of them"),
    ),
    Bad(
        "labels that are not there",
        "data.sources.0.labels={files}/none.jsonl",
        ("none.jsonl cannot be read (No such file", "oapl eval or oapl generate wrote"),
    ),
    Bad(
        "an order of an evaluation",
        "eval.sources.0.name=e\neval.sources.0.path={files}/good.jsonl\n"
        "eval.sources.0.easy_first=true",
        ("eval.sources.0.easy_first = true: an evaluation has no order",),
    ),
    Bad(
        "the best of evaluations that are never made",
        "checkpoint.keep_best=true",
        ("checkpoint.keep_best = true: compares evaluations", "set eval.every_syncs"),
    ),
    Bad(
        "the best of evaluations without checkpoints",
        "checkpoint.keep_best=true\neval.every_syncs=3\ncheckpoint.every_syncs=2\n"
        "eval.sources.0.name=e\neval.sources.0.path={files}/good.jsonl",
        ("is of no checkpoint", "set checkpoint.every_syncs to 1 or 3"),
    ),
    Bad(
        "the best of what was published ahead",
        "checkpoint.keep_best=true\neval.every_syncs=1\nsync.max_lead=2\n"
        "eval.sources.0.name=e\neval.sources.0.path={files}/good.jsonl",
        ("with sync.max_lead = 2 what is evaluated was published ahead",),
    ),
    Bad(
        "policies at the end of passes that nobody counts",
        "checkpoint.models=epochs",
        ('checkpoint.models = "epochs": passes are told of examples and stored groups',),
    ),
    Bad(
        "an alarm that there is not",
        "alarms.actions.repetion=stop",
        ("alarms.actions = 'repetion' is not one of oapl.alarms; did you mean 'repetition'?",),
    ),
    Bad(
        "an alarm that does what nobody knows",
        "alarms.actions.ratio=halt",
        ('alarms.actions.ratio = "halt"', "'none', 'stop' or 'reset_reference'"),
    ),
    Bad(
        "an alarm that resets a reference that there is not",
        "alarms.actions.ratio=reset_reference",
        ('alarms.actions.ratio = "reset_reference": the objective oapl has no reference',),
    ),
    Bad(
        "a run to compare with that there is not",
        "tracking.baseline={files}/none",
        ("/none': there is no metrics.jsonl in it", "name the folder of a run"),
    ),
    Bad(
        "two ways to sample an evaluation",
        "eval.as_rollouts=true\neval.top_k=40",
        ("eval.top_k = 40: with eval.as_rollouts answers are drawn by rollout.top_k (0)",),
    ),
    Bad(
        "patience with evaluations that are never made",
        "objective.name=grpo\nobjective.kl_coefficient=1e-4\nreference.patience=3",
        ("reference.patience = 3: counts evaluations", "set eval.every_syncs"),
    ),
    Bad(
        "a sampler of several versions",
        "objective.anchor=sampler\nreplay.max_versions=2\nreplay.surplus=1.0",
        ("replay.max_versions = 2: the learner keeps the policy that sampled for one version",),
    ),
    Bad(
        "a period of no whole iterations",
        "learner.mini_batches=4\nlearner.updates_per_batch=2\nsync.interval=50",
        ("sync.interval = 50: must be a multiple of 8", "updates_per_batch", "set it to 48"),
    ),
    Bad(
        "a run of no whole iterations",
        "learner.mini_batches=4\nsync.interval=4\nrun.max_steps=2",
        ("run.max_steps = 2: must be a multiple of 4", "mini_batches", "set it to 4"),
    ),
    Bad(
        "a buffer that holds a step but no take",
        "learner.mini_batches=4\nsync.interval=4\nrun.max_steps=4\nreplay.capacity=16",
        ("replay.capacity = 16", "takes 32 groups", "learner.mini_batches"),
    ),
    Bad(
        "weights without what they divide by",
        "objective.name=grpo\nobjective.importance=token\nrollout.top_p=0.9",
        ("rollout.top_p = 0.9: grpo uses the log-probs recorded at sampling",),
    ),
    Bad(
        "a group that has nobody to compare with",
        "objective.name=grpo\nrollout.group_size=1",
        ("rollout.group_size = 1: grpo needs at least 2 rollouts",),
    ),
    Bad(
        "fewer samples than k",
        "eval.num_samples=4\neval.ks=[1, 8]",
        ("eval.ks = [1, 8]", "eval.num_samples is 4", "leave 8 out"),
    ),
    Bad(
        "nothing to answer",
        "eval.num_samples=0\neval.greedy=false",
        ("eval.num_samples = 0", "nothing would be answered", "eval.greedy = true"),
    ),
    Bad(
        "a set of which nothing would be answered",
        SET_ONE + "eval.sources.0.answers={num_samples=0, greedy=false}",
        ("eval.sources.0: num_samples = 0 and greedy = false", "set greedy = true"),
    ),
    Bad(
        "fewer samples of a set than k",
        SET_ONE + "eval.num_samples=1\neval.ks=[1, 8]\neval.sources.0.answers.num_samples=4",
        ("eval.ks = [1, 8]", "eval.num_samples is 4", "leave 8 out"),
    ),
    Bad(
        "an unknown setting of a set's answers",
        SET_ONE + "eval.sources.0.answers={temprature=0.5}",
        ("eval.sources.0.answers", "temprature", "there are num_samples, ks, temperature"),
    ),
    Bad(
        "a wrong value in a set's answers",
        SET_ONE + "eval.sources.0.answers={top_p=2.0}",
        ("eval.sources.0.answers", "top_p: Input should be less than or equal to 1"),
    ),
    Bad(
        "a temperature of a set that vLLM refuses",
        SET_ONE + "eval.sources.0.answers={temperature=3.0}",
        ("eval.sources.0: temperature = 3", "vLLM samples at 0.01 to 2"),
    ),
    Bad(
        "answers of a training source",
        "data.sources.0.answers={greedy=false}",
        ("data.sources.0.answers",),
    ),
    Bad(
        "a set's responses that leave no room",
        SET_ONE + "eval.sources.0.answers={max_tokens=512}",
        ("max_tokens of set 'e' = 512", "context of 512", "below 512"),
    ),
    Bad(
        "an evaluation's context without room",
        SET_ONE + "eval.context_tokens=100\neval.max_tokens=100",
        ("eval.max_tokens = 100: leaves no room for a prompt in eval.context_tokens (100)",),
    ),
    Bad(
        "two times for evaluations",
        SET_ONE + "eval.every_steps=100\neval.every_syncs=2",
        ("eval.every_steps = 100: eval.every_syncs (2) says it too", "leave one of the two out"),
    ),
    Bad(
        "an evaluation off a synchronisation without engines for it",
        SET_ONE + "eval.every_steps=30",
        ("eval.every_steps = 30: without engines set aside", "every 50 steps", "set it to 50"),
    ),
    Bad(
        "an evaluation within an iteration",
        SET_ONE + "eval.every_steps=25\neval.engines=1\nrollout.num_engines=2\n"
        "learner.mini_batches=2",
        ("eval.every_steps = 25: must be a multiple of 2", "set it to 24"),
    ),
    Bad(
        "all engines set aside",
        SET_ONE + "eval.every_steps=50\neval.engines=1",
        ("eval.engines = 1: of rollout.num_engines (1) at least one must make rollouts", "to 2"),
    ),
    Bad(
        "engines set aside for nothing",
        SET_ONE + "eval.engines=1\nrollout.num_engines=2",
        ("eval.engines = 1: set aside for evaluations in mid-run, and none is made",),
    ),
    Bad(
        "some engines set aside where nothing is sampled",
        SET_ONE + "eval.every_steps=50\neval.engines=1\nrollout.num_engines=2\n"
        "objective.name=sft\nrollout.group_size=1",
        ("eval.engines = 1: nothing is sampled", "set it to 2"),
    ),
    Bad(
        "a share of engines for nothing",
        SET_ONE + "eval.slots=0.25",
        ("eval.slots = 0.25: for evaluations in mid-run, and none is made",),
    ),
    Bad(
        "a share of engines, and engines set aside",
        SET_ONE + "eval.slots=0.25\neval.engines=1\nrollout.num_engines=2\neval.every_syncs=1",
        ("eval.slots = 0.25: with eval.engines (1)", "leave one of the two out"),
    ),
    Bad(
        "a share of engines that load ahead",
        SET_ONE + "eval.slots=0.25\neval.every_syncs=1\nsync.max_lead=2",
        ("eval.slots = 0.25: with sync.max_lead (2)", "leave one of the two out"),
    ),
    Bad(
        "a share of engines that load beside training",
        SET_ONE + "eval.slots=0.25\neval.every_syncs=1\nreplay.max_versions=2\nreplay.surplus=1.0",
        ("eval.slots = 0.25: with replay.max_versions (2)", "leave one of the two out"),
    ),
    Bad(
        "a share of engines that only evaluate",
        SET_ONE + "eval.slots=0.25\neval.every_syncs=1\nobjective.name=sft\nrollout.group_size=1",
        ("eval.slots = 0.25: nothing is sampled", "set eval.engines = 1"),
    ),
    Bad(
        "a best checkpoint of steps that are none",
        SET_ONE + "checkpoint.keep_best=true\neval.every_steps=75\neval.engines=1\n"
        "rollout.num_engines=2",
        ("checkpoint.keep_best = true: with eval.every_steps = 75", "a checkpoint every 50 steps"),
    ),
    Bad(
        "more ranks than rollouts",
        "learner.num_ranks=128",
        ("learner.batch_size = 64", "num_ranks (128)", "raise it"),
    ),
    Bad(
        "parameters offloaded from every rank's own copy",
        "learner.offload=all",
        ('learner.offload = "all": needs', "ZeRO 3", "learner.zero_stage is 1; raise it"),
    ),
    Bad(
        "an optimizer that is not sharded, offloaded",
        "learner.offload=optimizer\nlearner.zero_stage=0",
        ('learner.offload = "optimizer": needs', "ZeRO 1", "learner.zero_stage is 0"),
    ),
    Bad(
        "offload from the host to the host",
        "learner.offload=optimizer",
        ("learner.offload", 'cluster.device = "cpu" holds all of it', "leave it out"),
    ),
    Bad(
        "ranks in one process",
        "cluster.mode=local\nlearner.num_ranks=2",
        ("learner.num_ranks = 2", "one rank", 'set it to 1, or cluster.mode = "ray"'),
    ),
    Bad(
        "restarts of the process that is the run",
        "cluster.mode=local\nrestarts.rank.max_restarts=2",
        ("restarts: cluster.mode", "nothing is started again", "leave the section out"),
    ),
    Bad(
        "object store without Ray",
        "cluster.mode=local",
        ("object_store", "no Ray", 'sync.transport = "local"'),
    ),
    Bad(
        "run name with a slash", "run.name=a/b", ('run.name = "a/b"', "one folder name", "run.dir")
    ),
    Bad(
        "all weights 0",
        "reward.verifiers.math=0",
        ("reward.verifiers = { math = 0.0 }", "would be 0", "other than 0"),
    ),
    # --- imitation
    Bad(
        "SFT in groups",
        "objective.name=sft",
        ("rollout.group_size = 8", "one response per prompt", "rollout.group_size = 1"),
    ),
    Bad(
        "SFT with a reward",
        "objective.name=sft\nrollout.group_size=1\nreward.deadline_s=9",
        ("reward.deadline_s = 9.0", "sft ignores it", "leave it out"),
    ),
    Bad(
        "hotter than vLLM samples",
        "rollout.temperature=2.5",
        ("rollout.temperature = 2.5", "vLLM samples at 0.01 to 2", "refuses", "set it within"),
    ),
    Bad(
        "colder than vLLM samples",
        "rollout.temperature=0.005",
        ("rollout.temperature = 0.005", "would take 0.01", "set it within these"),
    ),
    Bad(
        "an evaluation hotter than vLLM samples",
        "eval.temperature=2.01\nrollout.engine=vllm_async",
        ("eval.temperature = 2.01", "vLLM samples at 0.01 to 2", "set it within these"),
    ),
    Bad(
        "more sequences than tokens in a pass",
        "rollout.engine_options.max_batched_tokens=64",
        ("max_batched_tokens = 64", "max_num_seqs (128)", "raise it, or lower"),
    ),
    Bad(
        "offloading by another name",
        "learner.offload_optimizer=true",
        ("learner.offload_optimizer:", "the setting is called learner.offload"),
    ),
    Bad(
        "SFT at a temperature",
        "objective.name=sft\nrollout.group_size=1\nrollout.temperature=0.7",
        ("rollout.temperature = 0.7", "sft ignores it", "leave it out"),
    ),
    Bad(
        "RL with responses",
        "data.sources.0.response_key=solution",
        ('data.sources.0.response_key = "solution"', "oapl ignores it", "leave it out"),
    ),
    # --- plugins
    Bad(
        "unknown objective",
        "objective.name=opal",
        ("objective.name = 'opal'", "is not one of", "did you mean 'oapl'"),
    ),
    Bad(
        "objective is a number",
        "objective.name=3",
        ("objective.name = 3", "must be the name", "geometric, grpo, oapl, ppo, remix, sft"),
    ),
    Bad(
        "unknown engine",
        "rollout.engine=vllm_inproc",
        ("rollout.engine = 'vllm_inproc'", "is not one of", "did you mean 'vllm_inprocess'"),
    ),
    Bad(
        "tensor parallel in one process",
        "rollout.tensor_parallel_size=2",
        ("rollout.tensor_parallel_size = 2", "one process", 'rollout.engine = "vllm_async"'),
    ),
    Bad(
        "a degree that does not divide the heads",
        "rollout.engine=vllm_async\nrollout.tensor_parallel_size=3",
        ("rollout.tensor_parallel_size = 3", "4 attention heads", "one of 1, 2, 4"),
    ),
    Bad(
        "cards of a CPU",
        "cluster.devices_per_rank=0.5",
        ("cluster.devices_per_rank = 0.5", "no cards", "cluster.learner_threads"),
    ),
    Bad(
        "two ranks on one card",
        "cluster.device=cuda\nlearner.num_ranks=2\ncluster.devices_per_rank=0.5",
        ("cluster.devices_per_rank = 0.5", "could get one device", "above 0.5"),
    ),
    Bad(
        "more cards than an engine uses",
        "cluster.device=npu\ncluster.devices_per_engine=2",
        ("cluster.devices_per_engine = 2", "rollout.tensor_parallel_size (1)", "set it to 0"),
    ),
    Bad(
        "a share of a CPU's memory",
        "rollout.engine=vllm_async\nrollout.engine_options.memory_fraction=0.5",
        ("memory_fraction = 0.5", "kv_cache_bytes"),
    ),
    Bad(
        "more memory than the share of the card",
        "cluster.device=cuda\ncluster.devices_per_engine=0.5\n"
        "rollout.engine_options.memory_fraction=0.6",
        ("memory_fraction = 0.6", "cluster.devices_per_engine = 0.5", "leave it out"),
    ),
    Bad(
        "unknown transport",
        "sync.transport=object_stor",
        ("sync.transport = 'object_stor'", "is not one of", "did you mean 'object_store'"),
    ),
    Bad(
        "unknown device",
        "cluster.device=gpu",
        ("cluster.device = 'gpu'", "is not one of", "there are cpu"),
    ),
    Bad(
        "unknown verifier",
        "reward.verifiers.maths=1",
        ("'maths'", "is not one of", "did you mean 'math'"),
    ),
    Bad(
        "unknown module",
        "objective.name=no.such.module",
        ("'no.such.module'", "is not one of", "a dotted module path"),
    ),
    Bad(
        "objective's option",
        "objective.beta3=1",
        ("objective.beta3:", "unknown", "did you mean objective.beta"),
    ),
    Bad(
        "objective's range",
        "objective.beta2=0",
        ("objective.beta2 = 0", "above 0", "default 0.001"),
    ),
    Bad(
        "a clip where there is no ratio",
        "objective.clip_ratio=0.2",
        ("objective.clip_ratio: oapl has no such option", "no ratio that could be", "leave it out"),
    ),
    Bad(
        "an option of another objective",
        "objective.name=grpo\nobjective.lam=0.95",
        ("objective.lam: grpo has no such option", "objective.name = 'ppo' or 'remix'"),
    ),
    Bad(
        "a clip in another section",
        "learner.clip_ratio=0.2",
        ("learner.clip_ratio:", "objective.eps_low", "grpo, ppo, remix", "leave it out"),
    ),
    Bad(
        "an anchor whose V* nobody has",
        "objective.anchor=reference",
        (
            'anchor = "reference"',
            "A*-PO",
            'replay.source = "stored"',
            "sync.interval = run.max_steps",
        ),
    ),
    Bad(
        "a set that nothing reads",
        "replay.path=runs/x/groups",
        ('replay.path = ["runs/x/groups"]', 'replay.source = "stored" alone', "leave it out"),
    ),
    Bad(
        "stored groups without a place",
        "replay.source=stored",
        ("replay.path = []", "folders of stored groups", "name one"),
    ),
    Bad(
        "history from a set",
        "replay.source=stored\nreplay.path=x\nobjective.name=remix",
        ('objective.name = "remix"', "has no fresh ones", 'replay.source = "live"'),
    ),
    *(
        Bad(
            f"{setting} beside a set",
            f"replay.source=stored\nreplay.path=x\n{setting}={value}",
            (f"{setting} = ", "groups that are made during training", "leave it out (default"),
        )
        for setting, value in {
            "replay.surplus": 0.5,
            "replay.max_uses": 2,
            "replay.max_versions": 2,
            "replay.max_dropped": 1.0,
            "sync.max_lead": 3,
            "sync.stragglers": "move",
            "sync.in_flight": "drain",
        }.items()
    ),
    Bad(
        "an imitation in a set, and settings of engines that nobody asks",
        "objective.name=sft\nrollout.group_size=1\nrollout.num_engines=2\neval.sources=[]",
        ("rollout.num_engines = 2", "the objective sft ignores it", "leave it out"),
    ),
    Bad(
        "only history",
        "objective.name=remix\nobjective.share=1.0",
        ("objective.share = 1.0", "must be below 1", "default 0.4"),
    ),
    Bad(
        "history of no iteration",
        "objective.name=remix\nobjective.iterations=0",
        ("objective.iterations = 0", "at least 1", "default 2"),
    ),
    Bad(
        "a critic's option without a critic",
        "objective.name=remix\nobjective.on=grpo\nobjective.value_clip=0.2",
        ('value_clip = 0.2: belongs to on = "ppo"', "leave value_clip out"),
    ),
    Bad(
        "engine's option",
        "rollout.engine_options.max_seqs=3",
        ("rollout.engine_options.max_seqs:", "unknown", "max_num_seqs"),
    ),
    Bad(
        "options of an absent verifier",
        "reward.options.maths.x=1",
        ("reward.options.maths:", "no such verifier is in use", "did you mean math"),
    ),
    Bad(
        "reward function missing",
        'reward.verifiers={function=1}\nreward.options.function.function="{files}/no.py:reward"',
        ("reward.options.function", "no.py", "cannot be read", "give the path of a Python file"),
    ),
    # --- model and tokenizer
    Bad("no model", "model.path=", ('model.path = ""', "must name a model", "folder or hub name")),
    Bad(
        "model does not exist",
        "model.path={files}/nowhere",
        ("nowhere", "is no folder", "config.json, weights and tokenizer"),
    ),
    Bad("folder without a model", "model.path={files}", ("has no config.json", "give the folder")),
    Bad(
        "unreadable config.json",
        "model.path={files}/garbled",
        ("garbled", "cannot read", "give the folder"),
    ),
    Bad(
        "no decoder with attention",
        "model.path={files}/headless",
        ("headless", "this mamba model", "no num_attention_heads", "use a Llama"),
    ),
    Bad(
        "no weights",
        "model.path={files}/weightless",
        ("weightless", "has no weights", "copy the model again"),
    ),
    Bad(
        "damaged weights",
        "model.path={files}/damaged",
        ("model.safetensors is damaged", "copy or save the model again"),
    ),
    Bad(
        "missing shard",
        "model.path={files}/sharded",
        ("model-00002.safetensors", "is missing", "copy the model again"),
    ),
    Bad(
        "no tokenizer",
        "model.path={files}/mute",
        ("mute", "no tokenizer can be loaded", "save_pretrained"),
    ),
    Bad("tokenizer that loses text", "model.path={files}/lossy", ("lossy", "loses text", "qwen2")),
    Bad(
        "tokenizer without EOS",
        "model.path={files}/endless",
        ("endless", "no EOS", "set eos_token"),
    ),
    Bad(
        "tokenizer of another model",
        "model.path={files}/mixed",
        ("makes token 127", "vocab_size is 120", "another model"),
    ),
    # --- data
    Bad(
        "no data",
        "data.sources=[]",
        ("data.sources is empty", "nothing to train on", "[[data.sources]]"),
    ),
    Bad(
        "file does not exist",
        "data.sources.0.path={files}/good.json",
        ("good.json is none of", ".jsonl", "convert it"),
    ),
    Bad(
        "typo in a file name",
        "data.sources.0.path={files}/god.jsonl",
        ("god.jsonl does not exist", "has good.jsonl", "relative to"),
    ),
    Bad(
        "malformed line",
        "data.sources.0.path={files}/malformed.jsonl",
        ("malformed.jsonl line 3", "'{\"prompt\": oops}'", "one JSON object"),
    ),
    Bad(
        "line that is no object",
        "data.sources.0.path={files}/list.jsonl",
        ("list.jsonl line 1", "is a list", "one JSON object"),
    ),
    Bad(
        "empty file",
        "data.sources.0.path={files}/empty.jsonl",
        ("empty.jsonl", "has no rows", "at least one"),
    ),
    Bad(
        "cut archive",
        "data.sources.0.path={files}/cut.jsonl.gz",
        ("cut.jsonl.gz", "cannot be read", "write the file again"),
    ),
    Bad(
        "no prompt column",
        "data.sources.0.prompt_key=question",
        ("no column 'question'", "there are prompt, answer, response", "set prompt_key"),
    ),
    Bad(
        "no answer column",
        "data.sources.0.answer_key=solution",
        ("no column 'solution'", "there are prompt, answer, response", "set answer_key"),
    ),
    Bad(
        "answer is null",
        "data.sources.0.path={files}/null.jsonl",
        ("null.jsonl line 1", "answer is null", "accept nothing"),
    ),
    Bad(
        "answer is blank",
        "data.sources.0.path={files}/blank_answer.jsonl",
        ("blank_answer.jsonl line 2", "answer is ' '", "leave the row out"),
    ),
    Bad(
        "answer is an object",
        "data.sources.0.path={files}/object.jsonl\ndata.sources.0.answer_key=reward_model",
        ("object.jsonl line 1", "verifier math", "compares text", "to style or ground_truth"),
    ),
    Bad(
        "answer lies elsewhere in the object",
        "data.sources.0.path={files}/object.jsonl\ndata.sources.0.answer_key=reward_model.truth",
        ("object.jsonl line 1", "no column 'reward_model.truth'", "has style, ground_truth"),
    ),
    Bad(
        "answers in lists of lists",
        "data.sources.0.path={files}/nested.jsonl",
        ("nested.jsonl line 1", "[['3']]", "a number, or a list of these"),
    ),
    Bad(
        "no tests for programs",
        "reward.verifiers={code=1}\nreward.min_level=none",
        ("good.jsonl line 1", "verifier code", "it has no `tests`"),
    ),
    Bad(
        "no puzzle",
        "reward.verifiers={reasoning_gym=1}",
        ("good.jsonl line 1", "verifier reasoning_gym", "needs a column `entry`"),
    ),
    Bad(
        "no instructions",
        "data.sources.0.verifiers={ifeval=1}",
        ("good.jsonl line 1", "verifier ifeval", "instruction_id_list and kwargs"),
    ),
    Bad(
        "answer of an evaluation is an object",
        "eval.sources.0.name=test\neval.sources.0.path={files}/object.jsonl\n"
        "eval.sources.0.answer_key=reward_model",
        ("object.jsonl line 1", "verifier math", "compares text"),
    ),
    Bad(
        "half of a character",
        "data.sources.0.path={files}/half.jsonl",
        ("half.jsonl line 1", "column 'prompt'", "lone surrogate", "write the character whole"),
    ),
    Bad(
        "image in a prompt",
        "data.sources.0.path={files}/image.jsonl",
        ("image.jsonl line 1, message 1", "'image_url'", "leave the part or the row out"),
    ),
    Bad(
        "blank prompt",
        "data.sources.0.path={files}/blank.jsonl",
        ("blank.jsonl line 1", "prompt is '  '", "must be text"),
    ),
    Bad(
        "broken Parquet",
        "data.sources.0.path={files}/broken.parquet",
        ("broken.parquet", "no readable Parquet", "write the file again"),
    ),
    Bad(
        "unknown data set",
        "data.sources.0.path=\ndata.sources.0.dataset=no/such",
        ("'no/such'", "cannot be loaded", "give a folder or file that exists"),
    ),
    Bad(
        "unknown task",
        "data.sources.0.path=\ndata.sources.0.task=chain_sums",
        ("'chain_sums'", "no task of reasoning-gym", "did you mean chain_sum"),
    ),
    Bad(
        "task refuses options",
        "data.sources.0.path=\ndata.sources.0.task=chain_sum\ndata.sources.0.options.terms=3",
        ("{'terms': 3}", "refuses", "ChainSumConfig"),
    ),
    Bad(
        "two origins",
        "data.sources.0.task=chain_sum",
        ("has path and task", "exactly one", "set one of them"),
    ),
    Bad(
        "no origin",
        "data.sources.0.path=",
        ('data.sources.0 ("sums") has no origin', "exactly one", "set one of them"),
    ),
    Bad(
        "size of a file",
        "data.sources.0.size=5",
        ("data.sources.0.size = 5", "belongs to a source with task", "leave it out"),
    ),
    Bad(
        "two of one name",
        "data.sources.1.name=sums\ndata.sources.1.task=chain_sum",
        ('data.sources.1.name = "sums"', "must differ"),
    ),
    Bad(
        "source name with a slash",
        "data.sources.0.name=a/b",
        ('data.sources.0.name = "a/b"', "must be letters", "rename"),
    ),
    Bad(
        "all prompts too long",
        "rollout.context_tokens=70",
        ("none of its 8 prompts fits", "leaves 6", "raise rollout.context_tokens"),
    ),
    Bad(
        "one prompt too long",
        "rollout.context_tokens=70\ndata.overlong=error",
        ("good.jsonl line 1", "has 12 tokens", "data.overlong"),
    ),
    Bad(
        "unknown template",
        "data.template=chatml",
        ("data.template = 'chatml'", "auto, chat, plain"),
    ),
    Bad(
        "no chat template",
        "data.template=chat",
        ('data.template = "chat"', "no chat template", '"plain"'),
    ),
    Bad(
        "system prompt without a place",
        "data.system_prompt=Think.",
        ("data.system_prompt = 'Think.'", "no place", "leave it out"),
    ),
    Bad(
        "template options without a template",
        "data.template_options.enable_thinking=false",
        ("data.template_options = {'enable_thinking': False}", "no place", "leave it out"),
    ),
    Bad(
        "template options that are no table",
        "data.template_options=no_thinking",
        ('data.template_options = "no_thinking"', "must be a table", "enable_thinking = false"),
    ),
    Bad(
        "template option in Python's spelling",
        "data.template_options.enable_thinking=False",
        ("data.template_options", "'False', which is true", "write true or false in small"),
    ),
    Bad(
        "template option that is a date",
        "data.template_options.today=2026-01-31",
        ("data.template_options", "today is 2026-01-31", "give text, numbers, booleans"),
    ),
    Bad(
        "template option that is not finite",
        "data.template_options.limits.most=[1, inf]",
        ("data.template_options", "limits.most.1 is inf", "give text, numbers, booleans"),
    ),
    Bad(
        "template option that is no name",
        "data.template_options.enable-thinking=false",
        ("data.template_options", "'enable-thinking' cannot be a variable", "letters, digits"),
    ),
    Bad(
        "no date",
        "data.date=yesterday",
        ('data.date = "yesterday"', "must be a date like 2026-01-31"),
    ),
    Bad(
        "named templates without a default",
        "model.path={files}/named",
        ("chat templates called rag, tool_use", "none called 'default'", 'template = "plain"'),
    ),
    Bad(
        "chat messages without a template",
        "data.sources.0.path={files}/chat.jsonl",
        ("chat.jsonl line 1", "list of chat messages", "data.template"),
    ),
    Bad(
        "chat that ends with the answer",
        "data.sources.0.path={files}/answered.jsonl",
        ("answered.jsonl line 1", "role 'assistant'", "must be the user's"),
    ),
    Bad(
        "evaluation set missing",
        "eval.sources.0.name=test\neval.sources.0.path={files}/gone.jsonl",
        ("'test'", "gone.jsonl does not exist", "relative to"),
    ),
    # --- names and folders
    Bad(
        "run name beyond a file system",
        "run.name=" + "n" * 300,
        ("run.name = ", "at most 200 letters", "put folders into run.dir"),
    ),
    Bad(
        "run name with a line break",
        'run.name="a\\nb"',
        ('run.name = "a\\nb"', "one folder name"),
    ),
    Bad("run name that is a folder's own", "run.name=..", ('run.name = ".."', "one folder name")),
    Bad(
        "source name beyond a file system",
        "data.sources.0.name=" + "n" * 300,
        ("data.sources.0.name = ", "at most 200", "rename the source"),
    ),
    Bad(
        "run folder beyond a file system",
        "run.dir=runs/" + "n" * 300,
        ("run.dir = ", "each name in it of at most 255", "give a shorter one"),
    ),
    Bad(
        "run folder with a control character",
        'run.dir="runs\\u0000"',
        ("run.dir = ", "without control characters", "rename"),
    ),
    Bad(
        "run folder that is no UTF-8",
        "run.dir=runs\udcff",
        ("'run.dir=runs", "is no text in UTF-8", "write it so"),
    ),
    Bad(
        "uses that do not divide a period's takes",
        "replay.max_uses=3\nlearner.mini_batches=2\nsync.interval=8\nrun.max_steps=8",
        ("replay.max_uses = 3: must divide", "of which there are 4", "set it to 2"),
    ),
    Bad(
        "no use at all",
        "replay.max_uses=0",
        ("replay.max_uses = 0", "at least 1", "default 1"),
    ),
    Bad(
        "several uses of groups of several versions",
        "replay.max_uses=2\nreplay.max_versions=2\nreplay.surplus=1.0",
        ("replay.max_uses = 2: with replay.max_versions (2)", "leave one of the two out"),
    ),
    Bad(
        "several uses and a surplus",
        "replay.max_uses=2\nreplay.surplus=0.5",
        ("replay.max_uses = 2: with replay.surplus (0.5)", "leave one of the two out"),
    ),
    Bad(
        "several uses and a lead",
        "replay.max_uses=2\nsync.max_lead=3",
        ("replay.max_uses = 2: with sync.max_lead (3)", "leave one of the two out"),
    ),
    Bad(
        "several uses and history",
        f"objective.name={MIXING}\nreplay.max_uses=2\nsync.interval=1",
        (f"replay.max_uses = 2: with the objective {MIXING}", "leave one of the two out"),
    ),
    Bad(
        "history over several takes of a period",
        f"objective.name={MIXING}\nlearner.mini_batches=2\nlearner.updates_per_batch=2",
        ("sync.interval = 50: ", "of earlier iterations", "a period is one take; set it to 4 "),
    ),
    Bad(
        "history with a lead",
        f"objective.name={MIXING}\nlearner.mini_batches=2\nsync.interval=2\nsync.max_lead=1",
        ("sync.max_lead = 1: ", "of earlier iterations", "leave it out"),
    ),
    Bad(
        "history in a buffer of several versions",
        f"objective.name={MIXING}\nsync.interval=1\nreplay.max_versions=2\nreplay.surplus=1.0",
        ("replay.max_versions = 2: ", "no history", "replay.surplus = 1: "),
    ),
    Bad(
        "history with a surplus",
        f"objective.name={MIXING}\nsync.interval=1\nreplay.surplus=0.5",
        ("replay.surplus = 0.5: ", "thrown away", "leave it out"),
    ),
    Bad(
        "a take of nothing but history",
        f"objective.name={MIXING}\nsync.interval=1\nobjective.share=1.0",
        ("objective.share = 1.0", "below 1", "default 0.4"),
    ),
    Bad(
        "history of no iterations",
        f"objective.name={MIXING}\nsync.interval=1\nobjective.iterations=0",
        ("objective.iterations = 0", "at least 1", "default 2"),
    ),
    Bad(
        "a prompt for a path",
        "data.sources.0.path=" + "What is 12 + 7? " * 20,
        ("data.sources.0.path = ", "at most 255", "give a shorter one"),
    ),
    Bad(
        "a path for a model beyond all paths",
        "model.path=" + "name/" * 1000,
        ("model.path = ", "at most 4000 bytes", "give a shorter one"),
    ),
    Bad(
        "run folder under a file",
        "run.dir={files}/good.jsonl",
        ("good.jsonl is a file", "cannot be made", "choose another run.dir"),
    ),
    Bad(
        "checkpoint that is none",
        "checkpoint.resume={files}/step-3",
        ("step-3", "is no checkpoint", "auto, or never"),
    ),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "good.jsonl").write_text(_lines(ROWS))
    (folder / "malformed.jsonl").write_text(_lines(ROWS[:2]) + '{"prompt": oops}\n')
    (folder / "list.jsonl").write_text("[1, 2]\n")
    (folder / "empty.jsonl").write_text("\n\n")
    (folder / "null.jsonl").write_text(_lines([{"prompt": "1+1?", "answer": None}]))
    (folder / "blank.jsonl").write_text(_lines([{"prompt": "  ", "answer": "1"}]))
    (folder / "broken.parquet").write_bytes(b"PAR1 but no more")
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(_lines(ROWS * 9).encode())[:-20])
    asked = {"role": "user", "content": "1+1?"}
    (folder / "blank_answer.jsonl").write_text(_lines([ROWS[0], {"prompt": "1?", "answer": " "}]))
    (folder / "own.py").write_text("def reward(prompt, response, reference):\n    return 1.0\n")
    object_ = {"style": "rule", "ground_truth": "3"}
    (folder / "object.jsonl").write_text(_lines([{"prompt": "1+2?", "reward_model": object_}]))
    (folder / "nested.jsonl").write_text(_lines([{"prompt": "1+2?", "answer": [["3"]]}]))
    (folder / "half.jsonl").write_text(_lines([{"prompt": "1+2 \ud83d?", "answer": "3"}]))
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}
    (folder / "image.jsonl").write_text(_lines([{"prompt": [image], "answer": "3"}]))
    answered = [asked, {"role": "assistant", "content": "2"}]
    (folder / "chat.jsonl").write_text(_lines([{"prompt": [asked], "answer": "2"}]))
    (folder / "answered.jsonl").write_text(_lines([{"prompt": answered, "answer": "2"}]))
    make_model(folder / "model")
    _spoil_models(folder)
    return folder


def _lines(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _spoil_models(folder: Path) -> None:
    good = folder / "model"

    def like_good(name: str, *left_out: str) -> Path:
        (folder / name).mkdir()
        for file in good.iterdir():
            if file.name not in left_out:
                os.link(file, folder / name / file.name)
        return folder / name

    weights, tokens = "model.safetensors", ("tokenizer.json", "tokenizer_config.json")
    (like_good("garbled", "config.json") / "config.json").write_text("{")
    like_good("weightless", weights)
    damaged = like_good("damaged", weights)
    (damaged / weights).write_bytes((good / weights).read_bytes()[:1000])
    index = {"weight_map": {"a": weights, "b": "model-00002.safetensors"}}
    (like_good("sharded") / f"{weights}.index.json").write_text(json.dumps(index))
    like_good("mute", *tokens)
    lossy = like_good("lossy", "config.json", *tokens)
    config = json.loads((good / "config.json").read_text())
    (lossy / "config.json").write_text(json.dumps(config | {"model_type": "qwen2"}))
    make_tokenizer().save_pretrained(lossy)
    endless = make_tokenizer()
    endless.eos_token = None
    endless.save_pretrained(like_good("endless", *tokens))
    named = make_tokenizer()
    named.chat_template = {"rag": "{{ messages }}", "tool_use": "{{ messages }}"}
    named.save_pretrained(like_good("named", *tokens))
    foreign = json.loads((good / "tokenizer.json").read_text())
    vocabulary = foreign["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (like_good("foreign", "tokenizer.json") / "tokenizer.json").write_text(json.dumps(foreign))
    headless = {"model_type": "mamba", "vocab_size": 128}
    (like_good("headless", "config.json") / "config.json").write_text(json.dumps(headless))
    mixed = like_good("mixed", "config.json")
    (mixed / "config.json").write_text(json.dumps(config | {"vocab_size": 120}))


def run(files: Path, folder: Path, overrides: str) -> PreflightReport:
    """What the program does before it starts anything."""
    base = [
        f"run.dir={folder / 'runs'}",
        f"model.path={files / 'model'}",
        f"data.sources.0.path={files / 'good.jsonl'}",
        "data.sources.0.name=sums",
        "rollout.max_tokens=64",
    ]
    more = overrides.replace("{files}", str(files)).splitlines()
    return preflight(load_config(None, [*base, *more]))


def test_the_run_that_the_cases_spoil_is_accepted(files, tmp_path):
    assert "data sums" in run(files, tmp_path, "").facts


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_input_is_refused_with_value_rule_and_remedy(case, files, tmp_path, monkeypatch):
    for library in HEAVY:
        monkeypatch.setitem(sys.modules, library, None)  # importing one fails, not as InputError
    with pytest.raises(InputError) as caught:
        run(files, tmp_path, case.overrides)
    message = str(caught.value)
    for words in case.says:
        assert words.replace("{files}", str(files)) in message
    assert not (tmp_path / "runs").exists(), "nothing is made for a run that cannot start"


@pytest.mark.parametrize(
    "overrides",
    [
        "data.sources.0.path={files}/object.jsonl\n"
        "data.sources.0.answer_key=reward_model.ground_truth",
        "data.sources.0.path={files}/object.jsonl\ndata.sources.0.answer_key=reward_model\n"
        'reward.verifiers={function=1}\nreward.options.function.function="{files}/own.py:reward"',
        "data.sources.0.answer_key=\nreward.verifiers={format=1}",
        "run.name=" + "n" * 200,
        "data.date=2026-01-31",
        "replay.max_uses=5",
        f"objective.name={MIXING}\nlearner.updates_per_batch=2\nsync.interval=2",
    ],
)
def test_what_resembles_a_mistake_and_is_none_is_accepted(overrides, files, tmp_path):
    assert "data sums" in run(files, tmp_path, overrides).facts


def test_oapl_with_several_versions_and_drain_is_accepted(files, tmp_path):
    assert run(files, tmp_path, "replay.max_versions=3\nreplay.surplus=1\nsync.in_flight=drain")


def test_a_critic_of_the_policys_kind_is_accepted_and_described(files, tmp_path):
    asked = "objective.name=tests.support.valued\nsync.interval=50"
    made = run(files, tmp_path, asked)
    assert made.facts["critic"].startswith("the model with a head of zeros, ")
    assert "critic 0.0" in made.facts["learner rank"]
    path = files / "model"
    made = run(files, tmp_path, f"{asked}\ncritic.path={path}\ncritic.warmup_steps=5")
    assert made.facts["critic"].startswith(f"{path} (llama), ")
    assert made.unchecked == ()
    made = run(files, tmp_path, f"{asked}\ncritic.path={files}/mute")
    assert "no tokenizer lies at critic.path" in made.unchecked[0]
    assert "critic" not in run(files, tmp_path, "").facts


def test_several_mistakes_are_told_at_once_one_per_line(files, tmp_path):
    with pytest.raises(InputError) as caught:
        run(files, tmp_path, "sync.interval=0\nrollout.top_p=2\nlora.r=1")
    assert sorted(line.split()[0] for line in str(caught.value).splitlines()) == [
        "lora:",
        "rollout.top_p",
        "sync.interval",
    ]
    with pytest.raises(InputError) as caught:
        run(files, tmp_path, "replay.capacity=1\nrollout.top_k=3\nrollout.engine=x")
    assert len(str(caught.value).splitlines()) == 3


def test_a_bad_command_line_exits_with_2_and_one_message(files, tmp_path, capsys):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[sync]\nintervall = 5\n")
    assert main(["train", str(recipe), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert "recipe.toml" in error
    assert "did you mean sync.interval" in error
    assert "Traceback" not in error


def test_a_verifier_looks_at_its_options_before_the_run(files, tmp_path, monkeypatch):
    (tmp_path / "picky").mkdir()
    (tmp_path / "picky" / "judge.py").write_text(
        "from oapl.config.fields import section\n"
        "from oapl.errors import InputError\n"
        "from reward_server.verifiers.base import Traits\n"
        "@section\n"
        "class Config:\n"
        "    target: str = ''\n"
        "def build(config):\n"
        "    raise AssertionError\n"
        "def check(config):\n"
        "    raise InputError('target ' + config.target + ' is no file; name one')\n"
        "DECLARES = Traits(runs_programs=False, check=check)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    picked = '\nreward.options={"picky.judge"={target="mine.py"}}'
    with pytest.raises(InputError, match=r"mine.py is no file; name one"):
        run(files, tmp_path, 'reward.verifiers={"picky.judge"=1}' + picked)
