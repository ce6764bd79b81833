"""RunConfig and its sections: every setting is declared once, here or in its plugin's own Config.

Sections are frozen pydantic dataclasses: `RunConfig(sync={"interval": 50}, ...)` and
`RunConfig(sync=SyncSection(interval=50), ...)` are the same; an unknown key or a wrong type is
refused, a number in quotes too. The docstring under a field is its help text. The rules that span
fields are in `deploy.checks.settings`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import ArgsKwargs

from oapl.config.fields import (
    Count,
    Date,
    Flag,
    Fraction,
    NonNegative,
    NonNegativeInt,
    Number,
    PathOrHubName,
    PathsOfFolders,
    Positive,
    Probability,
    Share,
    TemplateOptions,
    section,
)
from oapl.config.protocols import laid_under
from oapl.config.restarts import RestartsSection
from oapl.config.sets import with_set


def _with_name(objective: dict[str, Any]) -> dict[str, Any]:
    """`[objective]` may leave its name out."""
    return {"name": "oapl", **objective}


@section
class RunSection:
    """Name, place, seed and length of the run."""

    name: str = "run"
    """Name of the run; its folder is `dir/name`."""
    dir: PathOrHubName = "runs"
    """Folder that holds run folders; made absolute where the run is launched."""
    seed: NonNegativeInt = 0
    """Seed from which every other seed derives."""
    max_steps: Count = 1000
    """Learner steps of the whole run; in a run of stages, of each of them."""
    max_hours: NonNegative = 0.0
    """Stop with a checkpoint after this many hours; 0 means no limit."""


@section
class ModelSection:
    """The model that is trained."""

    path: PathOrHubName = ""
    """Folder or hub name of a Hugging Face causal language model."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Data type of the weights inside the inference engine."""
    attn_implementation: str = "sdpa"
    """Attention of the learner: sdpa, or flash_attention_2 on CUDA."""
    trust_remote_code: Flag = False
    """Run model code that comes with the weights."""


@section
class DataSource:
    """One source of problems: a file, a Hugging Face data set or a reasoning-gym task."""

    name: str
    """Name of the source in prompt ids and metrics; that of `set`, where it has one."""
    set: str = ""
    """A public set, a file of actors/data/sets, which says the settings below that the source does
    not: data set, columns, verifiers. With `path`, a local file of the set's columns."""
    path: PathOrHubName = ""
    """JSONL (.jsonl, .jsonl.gz) or Parquet file with one problem per row."""
    dataset: PathOrHubName = ""
    """Hugging Face data set, a local path or a hub name."""
    subset: str = ""
    """Configuration of the Hugging Face data set, where it has several."""
    split: str = "train"
    """Split of the Hugging Face data set."""
    task: str = ""
    """Task of reasoning-gym, whose problems are generated."""
    size: Count = 1000
    """How many problems of the reasoning-gym task."""
    seed: NonNegativeInt = 0
    """Seed of the reasoning-gym task, or of `sample`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the reasoning-gym task."""
    prompt_key: str = "prompt"
    """Column with the prompt: text, or a list of chat messages. A dot in any of the three keys
    leads into a column: `extra.question`. A column `tools` is for the chat template."""
    answer_key: str = "answer"
    """Column with the reference answer, like `reward_model.ground_truth`; empty: there is none.
    Verifiers see the others too."""
    response_key: str = "response"
    """Column with the response to imitate (SFT only)."""
    columns: dict[str, str] = field(default_factory=dict)
    """Other names for columns that verifiers and templates look for, as in
    `{ tests = "reward_model.ground_truth" }`."""
    where: dict[str, str] = field(default_factory=dict)
    """Column to text: only rows that have it there are read."""
    labels: PathOrHubName = ""
    """File of pass rates, as `oapl eval` and `oapl generate` leave it beside their groups
    (_pass_rates.jsonl): fills the column `pass_rate` by question. Where a source has such a column
    under another name: `columns = { pass_rate = "solve_rate" }`."""
    pass_rate: tuple[Share, Share] = (0.0, 1.0)
    """Only rows whose column `pass_rate` is from the first to the second are read; unless it is [0,
    1], rows without one are not."""
    easy_first: Flag = False
    """Draw the rows of each pass from the highest `pass_rate` to the lowest, equal ones as they
    come otherwise; rows without one are not read."""
    sample: NonNegativeInt = 0
    """So many rows of it, drawn by `seed`; 0 means all."""
    weight: NonNegative = 0.0
    """Share of the draws, to any scale, given for all of data.sources or for none: then each row is
    drawn once an epoch. An epoch stays as many draws as there are rows."""
    template: str = ""
    """Template of this source; empty means `data.template`."""
    verifiers: dict[str, Number] = field(default_factory=dict)
    """Verifier to weight for this source; empty means `reward.verifiers`."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        """What the named set says, before defaults fill what nobody said."""
        if isinstance(given, ArgsKwargs):
            return ArgsKwargs(given.args, dict(with_set(given.kwargs or {})))
        return with_set(given) if isinstance(given, Mapping) else given


@section
class DataSection:
    """What to train on."""

    sources: tuple[DataSource, ...] = ()
    """Sources, mixed in proportion to their sizes, or by `weight`, by a seeded shuffle."""
    epochs: NonNegativeInt = 0
    """Passes over the data, or over stored groups; 0 means endless (`oapl generate`: one)."""
    shuffle: Flag = True
    """Shuffle each epoch anew, by the run's seed; stored groups too."""
    template: str = "auto"
    """auto: the tokenizer's chat template if it has one; chat: demand it; plain: text as it is; or
    a file of actors/data/templates, such as pcl, deepscaler or code."""
    system_prompt: str = ""
    """System message put before the prompt; needs a chat template."""
    template_options: TemplateOptions = field(default_factory=dict)
    """Variables for the chat template, as in `{ enable_thinking = false }`."""
    date: Date = ""
    """Today, YYYY-MM-DD, for a chat template that asks for it; empty means the day on which the run
    first starts. The run folder keeps it, so that a resumed run goes on with the same prompts."""
    overlong: Literal["drop", "truncate", "error"] = "drop"
    """What to do with a prompt that leaves no room for `rollout.max_tokens` (SFT: or a response
    longer than that). truncate: cut the question, or the response, from the right."""


@section
class RolloutSection:
    """How experience is made."""

    engine: str = "auto"
    """Inference engine: a file of actors/engines; auto: what suits the device."""
    engine_options: dict[str, Any] = field(default_factory=dict)
    """The engine's own options."""
    num_engines: Count = 1
    """Rollout workers, one engine each."""
    tensor_parallel_size: Count = 1
    """Devices over which one engine spreads the model; divides its attention heads."""
    group_size: Count = 8
    """G, rollouts per prompt."""
    temperature: Positive = 1.0
    """Sampling temperature; the learner divides its logits by the same."""
    top_p: Probability = 1.0
    """Nucleus sampling; 1 is off."""
    top_k: NonNegativeInt = 0
    """Top-k sampling; 0 is off."""
    max_tokens: Count = 1024
    """Longest response, in tokens."""
    context_tokens: NonNegativeInt = 0
    """Longest prompt plus response; 0 means the model's own context."""
    max_groups_in_flight: Count = 64
    """Groups one worker generates at a time."""
    max_deaths: Count = 3
    """A prompt under which engines died this often fails."""
    engine_silence_s: Positive = 120.0
    """An engine that takes nothing in for so long, as it does between any two of its steps, hangs,
    and its worker is replaced. Loads have `sync.timeout_s`; raise this where an engine compiles
    kernels, or captures graphs, for longer in mid-run."""


@section
class RewardSection:
    """How responses are judged."""

    verifiers: dict[str, Number] = field(default_factory=lambda: {"math": 1.0})
    """Verifier to weight; the reward is the weighted sum."""
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Per verifier, its own options."""
    workers: Count = 2
    """Killable processes per verifier and reward server; each judges one response at a time."""
    servers: Count = 1
    """Reward servers, spread over the nodes of a cluster."""
    deadline_s: Positive = 5.0
    """Hard limit for one response; the process is killed beyond it."""
    retries: NonNegativeInt = 3
    """How often what the pool itself broke (a server, a process) is tried before a group fails."""
    max_waiting: Count = 4096
    """Responses that wait per verifier and server; who brings more waits for room."""
    max_wait_s: Positive = 600.0
    """Longest wait of a response for a process; beyond it its group fails."""
    min_level: Literal["none", "seccomp", "landlock", "namespaces"] = "landlock"
    """Least sandbox for programs that models write; a machine that gives less refuses the run."""
    on_failure: Number = 0.0
    """Reward of a response that hung, crashed or broke its verifier."""
    control: Literal["none", "shuffle"] = "none"
    """shuffle: permute the rewards within each group, the control of a claim of learning."""


@section
class ReplaySection:
    """What the learner takes from: the shared buffer between generation and training, or a set."""

    source: Literal["live", "stored"] = "live"
    """live: groups that the engines make meanwhile; stored: those in `path`, without engines."""
    path: PathsOfFolders = ()
    """Folders of stored groups, one or several, as `oapl generate` writes them."""
    capacity: Count = 4096
    """Most groups buffered and in flight at a time."""
    surplus: Share = 0.0
    """Share of a period's groups handed out beyond need. What is left over is thrown away, or, with
    `max_versions` above 1, trained on first in the next period."""
    max_dropped: NonNegative = 4.0
    """Most groups that the objective's filter may drop in a period, as a multiple of those that the
    period trains on; beyond it they are trained on, and the run says so."""
    max_uses: Count = 1
    """How often a group may be trained on within its period: epochs over the period's groups, each
    pass in a new order. Divides the takes of a period."""
    max_versions: Count = 1
    """Newest published versions whose groups are trained on (each group is of one); above 1 the
    largest lag is so many intervals. 1 is the paper's Algorithm 1."""


@section
class AdamSection:
    """AdamW, as every network that is trained has one."""

    lr: Positive = 1e-6
    """Learning rate."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    """Adam's decay rates."""
    eps: Positive = 1e-8
    """Adam's epsilon."""
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay."""
    clip_norm: NonNegative = 1.0
    """Largest global gradient norm; 0 means no clipping."""


@section
class OptimizerSection(AdamSection):
    """AdamW of the policy, and its schedule."""

    lr: Positive = 1e-6
    """Peak learning rate."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after warm-up."""
    min_lr: NonNegative = 0.0
    """Floor of the cosine schedule."""
    warmup_ratio: Fraction = 0.0
    """Share of `run.max_steps` in which the rate rises linearly from 0."""


@section
class LearnerSection:
    """How the learner computes a step."""

    num_ranks: Count = 1
    """DeepSpeed ranks."""
    zero_stage: Annotated[int, Field(ge=0, le=3, strict=True)] = 1
    """ZeRO stage."""
    batch_size: Count = 64
    """Rollouts per learner step over all ranks (SFT: examples); a multiple of the group size."""
    mini_batches: Count = 1
    """Learner steps into which one take is divided: it has `batch_size` times so many rollouts."""
    updates_per_batch: Count = 1
    """Passes over a take. `mini_batches` times these are the learner steps of an iteration; both
    `sync.interval` and `run.max_steps` are whole iterations."""
    micro_batch_tokens: Count = 8192
    """Most tokens in one forward pass; a longer rollout makes a micro-batch of its own."""
    row_tokens: NonNegativeInt = 0
    """Length of a packed row; 0 means one row per micro-batch. Short rows suit CPUs."""
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    """Arithmetic of the learner; its weights are bf16 with fp32 masters, else fp32. fp16 scales the
    loss. What engines are given is `model.dtype`, whatever this is."""
    offload: Literal["none", "optimizer", "all"] = "none"
    """What lies in the host's memory: optimizer needs ZeRO 1 to 3; all, parameters too, needs 3."""
    activation_checkpointing: Flag = False
    """Recompute activations in the backward pass to save memory."""
    logprob_chunk_tokens: Count = 1024
    """Response tokens whose logits exist at a time."""
    max_skipped_in_a_row: Count = 5
    """Stop after so many steps in a row with a non-finite loss or gradient."""


@section
class CriticSection(AdamSection):
    """The critic of an objective that has one, and its AdamW."""

    lr: Positive = 1e-5
    """Learning rate, constant."""
    path: PathOrHubName = ""
    """Model whose weights it starts from, under a head of zeros; empty means `model.path`."""
    warmup_steps: NonNegativeInt = 0
    """First learner steps of the run, in which it alone is updated."""


@section
class ReferenceSection:
    """When the frozen policy that a KL penalty is measured from is set anew, to the present."""

    reset_every: NonNegativeInt = 0
    """After so many learner steps; 0 means never."""
    patience: NonNegativeInt = 0
    """After so many evaluations in a row that are no better than the best since the last reset (the
    mean over the sets of their mean@n); 0 means never."""
    max_kl: NonNegative = 0.0
    """When a learner step's KL to the reference, in nats a token, is above this; 0 means never."""
    reset_optimizer: Flag = True
    """Begin with fresh moments, too."""


@section
class SyncSection:
    """How weights reach the engines."""

    interval: Count = 50
    """L: learner steps between two publications; what is too old is cleared at each."""
    max_lead: NonNegativeInt = 0
    """Steps by which a version may be published ahead of its period, once the present one has all
    its groups; the lag grows by as many, at most by L. 0 is the paper's Algorithm 1."""
    stragglers: Literal["wait", "move"] = "wait"
    """A version is published ahead (`max_lead`) when the present period has all its groups: wait;
    or as soon as the last of them fit on few engines (one of eight, one at the least), to which
    they are moved while the others load, and which load when they have ended (or after half of
    `timeout_s`): move."""
    in_flight: Literal["abort", "drain"] = "abort"
    """What an engine does with unfinished responses before it loads: abort, or drain, which lets
    them end (within half of `timeout_s`); drain needs `replay.max_versions` above 1."""
    transport: str = "object_store"
    """How tensors travel: a file of oapl/weights."""
    timeout_s: Positive = 600.0
    """Longest wait for a publication to reach one engine, and for a batch; where a worker is
    replaced meanwhile, that time is added, and a batch is waited for until an engine that hangs is
    known to (`rollout.engine_silence_s`)."""
    stall_s: Positive = 40.0
    """A wait that has been silent for so long is told, with who is awaited and what they say, long
    before its deadline; again each time its silence has doubled."""
    probe_sequences: Count = 2
    """Sequences re-scored after each publication."""
    probe_bound: NonNegative = 0.0
    """Largest mean exp(|log-prob difference|); 0 means 1.001 if all is fp32, else 1.10."""


def ks_of(num_samples: int) -> tuple[int, ...]:
    """The k of pass@k where nobody says them: 1, 2, 4, 8, ... that so many samples allow."""
    return tuple(2**power for power in range(num_samples.bit_length()))


@section
class AnswersSection:
    """How the problems of an evaluation are answered, and what counts as right."""

    num_samples: NonNegativeInt = 8
    """Responses per problem."""
    ks: tuple[Count, ...] = ks_of(8)
    """k of pass@k; unset, those of 1, 2, 4, 8, ... that `num_samples` allows."""
    temperature: Positive = 1.0
    """Sampling temperature of the samples."""
    top_p: Probability = 1.0
    """Nucleus sampling; 1 is off."""
    top_k: NonNegativeInt = 0
    """Top-k sampling; 0 is off."""
    max_tokens: NonNegativeInt = 0
    """Longest response; 0 means `rollout.max_tokens`."""
    greedy: Flag = True
    """Answer each problem once more at temperature 0."""
    threshold: Number = 1.0
    """Smallest reward that counts as right in pass@k, maj@n and the pass rates of stored groups."""

    @model_validator(mode="before")
    @classmethod
    def _fit(cls, given: Any) -> Any:
        """The k that the number allows, where none are said."""
        if isinstance(given, ArgsKwargs):
            return ArgsKwargs(given.args, _with_ks(given.kwargs or {}))
        return _with_ks(given) if isinstance(given, Mapping) else given


def _with_ks(table: Mapping[str, Any]) -> dict[str, Any]:
    number = table.get("num_samples")
    if "ks" in table or not isinstance(number, int) or isinstance(number, bool) or number < 0:
        return dict(table)
    return {**table, "ks": ks_of(number)}


def _answers(table: dict[str, Any]) -> dict[str, Any]:
    """What a set says of its own answers is checked as the section is."""
    try:
        AnswersSection(**table)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        known = ", ".join(AnswersSection.__dataclass_fields__)
        raise ValueError(f"{key}: {first['msg']}; there are {known}") from error
    return table


@section
class EvalSource(DataSource):
    """One evaluation set: problems, as those to train on, and how they are answered."""

    protocol: str = ""
    """Protocol of this set alone, like `eval.protocol`."""
    answers: Annotated[dict[str, Any], AfterValidator(_answers)] = field(default_factory=dict)
    """Settings of `eval` that are others for this set, `{ num_samples = 4, temperature = 0.6 }`;
    they come before its protocol's."""
    category: str = ""
    """Column that names a problem's category, like a subject or a puzzle's task: the score of each
    is reported, too. A dot leads into a column."""


@section
class EvalSection(AnswersSection):
    """Evaluation at the start, at the end and in between."""

    sources: tuple[EvalSource, ...] = ()
    """Evaluation sets; each is reported under its name, and may have answers of its own."""
    protocol: str = ""
    """A file of oapl/config/protocols, or one of yours (.toml), which says the settings of the
    answers that are not said beside it: number, temperature, length."""
    every_syncs: NonNegativeInt = 0
    """Evaluate after every so many publications; 0 and no `every_steps`: only at start and end."""
    every_steps: NonNegativeInt = 0
    """Evaluate after every so many learner steps; without `engines` a multiple of
    `sync.interval`."""
    engines: NonNegativeInt = 0
    """So many of `rollout.num_engines` make no rollouts and evaluate beside training, at the price
    of a publication to them alone where a point is no synchronisation; 0: evaluations are made in
    the synchronisation, and the learner waits."""
    slots: Share = 0.0
    """Evaluate after a synchronisation beside rollouts and training, in so large a share of the
    responses that an engine has in flight; an evaluation that outlasts its period is cut, and
    skipped. 0: not so."""
    context_tokens: NonNegativeInt = 0
    """Longest prompt plus response of an evaluation; 0 means `rollout.context_tokens`."""
    endpoint: dict[str, Any] = field(default_factory=dict)
    """An OpenAI-compatible endpoint that answers `oapl eval` in the place of engines, as in
    `{ base_url = "http://HOST:8000/v1", model = "NAME" }`; its options are those of
    rollout.engine_options, of actors.engines.endpoint."""
    as_rollouts: Flag = False
    """Sample as rollouts are, by the four settings of that name in `rollout`; here they stay
    unset."""
    timeout_s: Positive = 3600.0
    """Longest wait for one evaluation set."""
    reflection_words: tuple[str, ...] = ("verify", "re-examine", "check", "but", "wait", "confirm")
    """Words by which a response counts as one that reflects on itself; one is enough."""
    store_groups: Flag = False
    """Keep the samples of a training run's evaluations as stored groups; `oapl eval` always does.
    """

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        """What the named protocol says, before defaults fill what nobody said."""
        if isinstance(given, ArgsKwargs):
            return ArgsKwargs(given.args, laid_under(given.kwargs or {}))
        return laid_under(given) if isinstance(given, Mapping) else given

    @property
    def is_in_mid_run(self) -> bool:
        """Whether there are evaluations between start and end."""
        return bool(self.sources and (self.every_syncs or self.every_steps))


@section
class CheckpointSection:
    """When state is saved, and how a run goes on."""

    every_syncs: NonNegativeInt = 1
    """Save at every so many synchronisations; 0 means only when the run stops."""
    max_minutes: NonNegative = 0.0
    """Save also between synchronisations after so many minutes; 0 means never."""
    keep: Count = 2
    """Checkpoints kept: the newest ones."""
    keep_every_hours: NonNegative = 0.0
    """Keep also the first one, and from there on one for every so many hours; 0 means no others."""
    beside: Flag = False
    """Copy what is saved into host memory (12 bytes a parameter over all ranks, and frozen
    policies) and write it beside training, one checkpoint at a time; a run's last is awaited."""
    keep_best: Flag = False
    """Keep also the one with the best mean over the evaluation sets (of their mean@n, else greedy),
    and its policy in `best/`; best.json has the scores."""
    models: Literal["last", "epochs", "all"] = "last"
    """Policies written for transformers: the last one, in `model/`; epochs: also one after each
    pass over examples or stored groups, `models/epoch-N/`; all: of each checkpoint,
    `models/step-N/`."""
    resume: PathOrHubName = "auto"
    """auto: go on from the run folder's last checkpoint; never: refuse a folder that has one; or a
    checkpoint's path."""


@section
class TrackingSection:
    """Where metrics go."""

    console: Literal["auto", "live", "plain", "off"] = "auto"
    """live: a table that renews itself; plain: one line per report; auto: live on a terminal."""
    console_every_s: Positive = 5.0
    """Seconds between two plain lines."""
    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    """auto: online when logged in, else offline."""
    wandb_project: str = "oapl"
    """W&B project."""
    ray_metrics: Literal["auto", "on", "off"] = "auto"
    """Metrics as gauges on Ray's dashboard; auto: where the run joins a cluster."""
    store_groups: Literal["off", "sample", "all"] = "sample"
    """Groups stored whole, tokens and log-probs included: none, a sample of each step, or all."""
    rollout_groups_per_step: Count = 1
    """Groups per learner step in the sample, which W&B shows too."""
    wandb_checkpoints: Flag = False
    """Upload each checkpoint to W&B as an artifact, optimizer included."""
    trackio: Flag = False
    """Keep the run for trackio too, a board on this machine without an account; see README."""
    baseline: PathOrHubName = ""
    """Folder of a run whose mean response length at the same learner step is taken off ours, as
    `rollout/relative_length`."""
    full_rollout_tokens: NonNegativeInt = 0
    """`rollout.max_tokens` of a rollout that counts as a whole one in `total/weighted_rollouts`: of
    half that limit it counts half. 0 means the run's own."""


Action = Literal["none", "stop", "reset_reference"]


@section
class AlarmsSection:
    """What a run calls a person for; each is told once, with a rollout that shows it, in `alarms/`.

    Means are over `window` learner steps. A threshold of 0 switches its alarm off.
    """

    window: Count = 20
    """Learner steps that a mean is over; later ones are compared with the first so many."""
    repetition: Share = 0.5
    """Share of 4-grams that stood in the response before, or of responses that end going round in
    circles, above which repetition is told."""
    endings: Share = 0.2
    """Rise of the share of cut-off responses that is told while the reward falls."""
    entropy: Share = 0.05
    """Entropy, as a share of that of the first steps, below which it is told."""
    length: Share = 0.5
    """Response length, as a share of the longest mean so far, below which it is told while the
    reward is no higher than then."""
    uniform: Share = 0.95
    """Share of groups with all rewards equal above which it is told, unless most are all right."""
    ratio: NonNegative = 0.25
    """KL of the policy from the one that sampled, nats a token, above which it is told; so is one
    that is ten times as large as any of the window before it."""
    alignment: NonNegative = 1.05
    """Mean exp(|difference|) of engine and learner at equal weights above which it is told."""
    actions: dict[str, Action] = field(default_factory=dict)
    """Alarm to what it does beside telling: none, stop (with a checkpoint), or reset_reference."""


@section
class ClusterSection:
    """Where processes run."""

    mode: Literal["ray", "local"] = "ray"
    """local: everything in this process, for a first look or a debugger."""
    address: str = ""
    """Ray cluster to join (`auto` finds it); empty: RAY_ADDRESS if set, as in a job, else one is
    started here."""
    device: str = "cpu"
    """Device of engines and learner: a file of oapl/devices."""
    devices_per_engine: NonNegative = 0.0
    """Devices of one engine, below 1 where several processes share a card; 0 means
    `rollout.tensor_parallel_size`."""
    devices_per_rank: Share = 0.0
    """Devices of one learner rank, below 1 where it shares a card with an engine; 0 means 1."""
    engine_threads: Count = 1
    """CPU threads of one engine."""
    learner_threads: Count = 1
    """CPU threads of one learner rank."""
    engine_resources: dict[str, Positive] = field(default_factory=dict)
    """Custom Ray resources that one rollout worker asks for beside its device, name to amount."""
    learner_resources: dict[str, Positive] = field(default_factory=dict)
    """Custom Ray resources that one learner rank asks for beside its device, name to amount."""
    start_timeout_s: Positive = 300.0
    """Longest wait for a process to get its place on the cluster, and to start there."""
    peak_tflops: NonNegative = 0.0
    """Most operations per second of one learner device, in 10^12, for `perf/mfu`; 0: what is known
    of the card by its name, and no figure where nothing is."""


@section
class RunConfig:
    """A whole run. `oapl train recipe.toml sync.interval=50 optimizer.lr=1e-6`"""

    run: RunSection = field(default_factory=RunSection)
    model: ModelSection = field(default_factory=ModelSection)
    data: DataSection = field(default_factory=DataSection)
    rollout: RolloutSection = field(default_factory=RolloutSection)
    reward: RewardSection = field(default_factory=RewardSection)
    replay: ReplaySection = field(default_factory=ReplaySection)
    objective: Annotated[dict[str, Any], AfterValidator(_with_name)] = field(
        default_factory=lambda: {"name": "oapl"}
    )
    """`name`: a file of oapl/objectives; the other keys are that objective's own."""
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    learner: LearnerSection = field(default_factory=LearnerSection)
    critic: CriticSection = field(default_factory=CriticSection)
    reference: ReferenceSection = field(default_factory=ReferenceSection)
    sync: SyncSection = field(default_factory=SyncSection)
    eval: EvalSection = field(default_factory=EvalSection)
    checkpoint: CheckpointSection = field(default_factory=CheckpointSection)
    tracking: TrackingSection = field(default_factory=TrackingSection)
    alarms: AlarmsSection = field(default_factory=AlarmsSection)
    cluster: ClusterSection = field(default_factory=ClusterSection)
    restarts: RestartsSection = field(default_factory=RestartsSection)
    stages: tuple[dict[str, Any], ...] = ()
    """What is done one after the other in one run, each the recipe with sections of its own and
    the keys `stages.N.*` below."""
    rounds: NonNegativeInt = 0
    """Short for stages: generate, filter, train, so often, each from the result of the one before.
    """
    filters: tuple[dict[str, Any], ...] = ()
    """What a stage of kind filter applies, in order: tables with a name and that filter's options,
    as `oapl filter` has them."""

    @property
    def is_staged(self) -> bool:
        """Whether the run is made of stages; see `oapl.config.stages`."""
        return bool(self.stages or self.rounds)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.run.dir).expanduser().absolute() / self.run.name

    @property
    def ray_address(self) -> str:
        """The Ray cluster to join: the configured one, else RAY_ADDRESS, as in a job."""
        return self.cluster.address or os.environ.get("RAY_ADDRESS", "")

    @property
    def steps_per_take(self) -> int:
        """Learner steps of an iteration."""
        return self.learner.mini_batches * self.learner.updates_per_batch

    @property
    def num_collecting(self) -> int:
        """Engines that are not set aside for evaluations."""
        return self.rollout.num_engines - self.eval.engines

    @property
    def groups_per_step(self) -> int:
        """Groups that one learner step trains on; of a stored set each rollout counts as one."""
        is_stored = self.replay.source == "stored"
        return self.learner.batch_size // (1 if is_stored else self.rollout.group_size)
