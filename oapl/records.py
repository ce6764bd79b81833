"""What flows through the system, one record per arrow of the architecture diagram.

Invariants: every record is frozen; everything up to and including `Batch` is NumPy, tensors begin
at `LossInputs`; a `Group` holds exactly one version (V* and the KL anchor rest on it); log-probs
are in nats and float32. Shape letters: B rollouts, T tokens, R packed rows, N response tokens,
G rollouts of a group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from oapl.remote.pickling import compact_pickle
from oapl.remote.promises import Promise

if TYPE_CHECKING:
    from torch import Tensor

FinishReason = Literal["stop", "length", "abort"]
VerdictKind = Literal[
    "accepted",
    "wrong_answer",
    "runtime_error",
    "compile_error",
    "timeout",
    "resource_limit",
    "sandbox_violation",
    "malformed",
    "error",
]
KINDS: tuple[VerdictKind, ...] = get_args(VerdictKind)
FateKind = Literal["trained", "dropped", "failed", "unfinished"]
FATES: tuple[FateKind, ...] = get_args(FateKind)
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number, by the types that weights are published in."""


@compact_pickle("token_ids")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prompt:
    """A question with its check.

    Attributes:
        id: Unique per draw, `source:index@epoch`.
        attempt: How often this draw was handed out before (0 the first time).
        text: The prompt as the engine sees it, chat template applied.
        token_ids: int32 [T], what is sampled from.
        verifiers: Verifier name to weight in the reward.
        reference: Whatever the verifiers need: answer, puzzle entry, other columns.
        source: Name of the data source.
        question: The user's own words, before the template.
        max_in_engine: After an engine died under this prompt, most groups that the next one may
            hold with it, this one included; 0 is no limit.
    """

    id: str
    text: str
    token_ids: np.ndarray
    verifiers: Mapping[str, float]
    reference: Mapping[str, Any]
    source: str
    question: str = ""
    attempt: int = 0
    max_in_engine: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a rollout is drawn.

    Attributes:
        temperature: Divides the logits; 0 is greedy.
        top_p: Smallest set of tokens of this probability; 1 is off.
        top_k: So many most likely tokens; 0 is off.
        max_tokens: Most response tokens, EOS included.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 256

    @property
    def is_plain(self) -> bool:
        """Whether it draws from the model's own softmax."""
        return (self.temperature, self.top_p, self.top_k) == (1.0, 1.0, 0)

    def greedy(self) -> Sampling:
        """The same at temperature 0."""
        return replace(self, temperature=0.0, top_p=1.0, top_k=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On which a worker answers prompts of an evaluation.

    Attributes:
        sampling: Of the samples; the greedy answer has its `max_tokens` alone.
        num_samples: Per prompt; 0 leaves the greedy answer.
        greedy: Whether each prompt is answered once more at temperature 0.
        timeout_s: Nobody waits for the answers any longer.
        gives_way: A load does not wait for them, and cuts them off.
    """

    sampling: Sampling
    num_samples: int
    greedy: bool
    timeout_s: float
    gives_way: bool = False


@compact_pickle("token_ids", "inference_logprobs")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rollout:
    """One sampled response.

    Attributes:
        token_ids: int32 [T], the very ids that were sampled; EOS is the last one when it was
            sampled, a truncated rollout has none.
        inference_logprobs: float32 [T], ln pi_vllm of the distribution sampled from, nats.
            None for text that nobody sampled (SFT), and where they were not kept.
        finish_reason: `stop` (EOS), `length` (cut off), `abort` (a synchronisation).
        text: The response decoded, without EOS and padding.
        first_version, last_version: Versions the engine reported at the first and last token.
    """

    token_ids: np.ndarray
    inference_logprobs: np.ndarray | None
    finish_reason: FinishReason
    text: str
    first_version: int
    last_version: int

    @property
    def is_truncated(self) -> bool:
        """Whether it was cut off at `max_tokens`, without EOS."""
        return self.finish_reason == "length"


@compact_pickle()
@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one verifier said of one rollout.

    Attributes:
        kind: `accepted` is full reward, `wrong_answer` any less; `runtime_error`, `compile_error`,
            `timeout`, `resource_limit` and `sandbox_violation` are what running the answer ended
            in; `malformed` has no answer where one was asked for, or was cut off; `error` is the
            verifier's own (an exception, a number that is not finite).
        reward: In the verifier's own range, before its weight. NaN, which only the pool gives,
            says that the verifier gave none, and that `reward.on_failure` stands for it.
        detail: One line for a person.
        seconds: Time the verifier took, without waiting.
        parts: Named parts of the reward, or measures beside it.
    """

    kind: VerdictKind
    reward: float
    detail: str = ""
    seconds: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)


@compact_pickle()
@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The reward of one rollout and what is behind it.

    Attributes:
        reward: Sum over the verifiers of weight times their reward.
        verdicts: By verifier name.
        failure: Set when it was *our* fault that no verdict could be given (a dead server): such a
            rollout has no reward, and its group fails.
    """

    reward: float
    verdicts: Mapping[str, Verdict]
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a verifier gave no verdict: the first time of its sort, or when nothing else comes.

    Attributes:
        verifier: Its name in the run.
        kind: Of the verdict that stands for it, or `failure` where no reward is given.
        detail: Why, in one line.
        sort: What is equal of two that have one cause.
        in_vain: Responses in a row on which it gave none, where it is taken not to work; else 0.
    """

    verifier: str
    kind: str
    detail: str
    sort: str
    in_vain: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """The G rollouts of one prompt, all sampled under one version.

    Attributes:
        prompt: The draw that was handed out.
        rollouts: G of them, none aborted where the group is put.
        version: The learner step whose weights sampled them.
        sampling: How each was drawn.
        seconds: From the draw's arrival at the worker to its last reward.

    Raises:
        ValueError: A rollout began or ended under another version.
    """

    prompt: Prompt
    rollouts: tuple[Rollout, ...]
    version: int
    sampling: Sampling
    seconds: float = 0.0

    def __post_init__(self) -> None:
        for rollout in self.rollouts:
            if (rollout.first_version, rollout.last_version) != (self.version, self.version):
                raise ValueError(
                    f"group {self.prompt.id}: a rollout spans versions {rollout.first_version} to "
                    f"{rollout.last_version}, but a group is sampled under one version "
                    f"({self.version}); V* would mix policies"
                )

    @property
    def num_tokens(self) -> int:
        """Response tokens of all rollouts."""
        return sum(len(rollout.token_ids) for rollout in self.rollouts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unfinished:
    """A group that one engine has begun and another goes on with, under the same version.

    Attributes:
        prompt: The draw that was handed out.
        rollouts: G of them; those that were aborted go on.
        judgements: Of each rollout; None of those that were aborted.
        seconds: From the draw's arrival at the first worker until it was handed over.
    """

    prompt: Prompt
    rollouts: tuple[Rollout, ...]
    judgements: tuple[Judgement | None, ...]
    seconds: float

    @property
    def num_tokens(self) -> int:
        """Response tokens so far."""
        return sum(len(rollout.token_ids) for rollout in self.rollouts)

    @property
    def num_going_on(self) -> int:
        """Of these, those of rollouts that go on."""
        cut = (one for one in self.rollouts if one.finish_reason == "abort")
        return sum(len(rollout.token_ids) for rollout in cut)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredGroup:
    """A group with its rewards.

    Attributes:
        group: What was sampled.
        rewards: float32 [G].
        verdicts: Per rollout, by verifier name.
    """

    group: Group
    rewards: np.ndarray
    verdicts: tuple[Mapping[str, Verdict], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Credit:
    """What an objective makes of a scored group: a number per rollout, or a reason to drop it.

    Attributes:
        values: float32 [G]; OAPL's r - V*, GRPO's advantage.
        metrics: Per-group numbers to report, e.g. `oapl/v_star`.
        dropped: Name of the filter that dropped the group, None when it is kept.
    """

    values: np.ndarray
    metrics: Mapping[str, float] = field(default_factory=dict)
    dropped: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CreditedGroup:
    """A kept group in the buffer: what `Replay.take` leases to the learner.

    Attributes:
        is_history: Trained on in an earlier iteration, and lent once more beside fresh groups.
    """

    scored: ScoredGroup
    credit: Credit
    is_history: bool = False

    @property
    def id(self) -> str:
        """The prompt's."""
        return self.scored.group.prompt.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """How a draw of a prompt ended; each draw has exactly one.

    Attributes:
        id: Of the prompt.
        attempt: The prompt's, when it ended.
        kind: `trained`; `dropped` by the objective's filter or with a skipped step; `failed`, since
            it could not be sampled or scored; `unfinished` when the run ended.
        detail: Name of the filter or the cause; empty where `kind` says it all.
        step: Learner steps made until then.
    """

    id: str
    attempt: int
    kind: FateKind
    detail: str
    step: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MicroBatch:
    """R packed rows of T tokens; sequences in a row do not attend to one another.

    Attributes:
        token_ids: int64 [R, T], 0 where padded.
        positions: int64 [R, T], restarting at 0 where a sequence begins.
        response_mask: bool [R, T], True exactly on sampled tokens (EOS included when sampled).
        rollout_index: int64 [R, T], which of the B rollouts a token belongs to; -1 is padding.
        inference_logprobs: float32 [R, T], nats, 0 outside the response; NaN where there are none.
        credit, reward: float32 [B].
        lag: int64 [B], learner steps between the rollout's version and the batch.
        group_index: int64 [B], which group of the batch a rollout belongs to.
        place: int64 [B], which of that group's rollouts it is.
        is_truncated: bool [B], cut off at `max_tokens`, without EOS.
        is_history: bool [B], of a group that an earlier iteration trained on.
        is_dummy: A copy that only keeps this rank in step with the others: its loss counts 0.
    """

    token_ids: np.ndarray
    positions: np.ndarray
    response_mask: np.ndarray
    rollout_index: np.ndarray
    inference_logprobs: np.ndarray
    credit: np.ndarray
    reward: np.ndarray
    lag: np.ndarray
    group_index: np.ndarray
    place: np.ndarray
    is_truncated: np.ndarray
    is_history: np.ndarray
    is_dummy: bool = False

    @property
    def num_rollouts(self) -> int:
        """B."""
        return len(self.credit)

    @property
    def num_tokens(self) -> int:
        """Real tokens, prompts included, padding left out."""
        return int((self.rollout_index >= 0).sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """One learner step's rollouts for one rank, in micro-batches.

    Attributes:
        micro_batches: As many on every rank.
        step: Learner steps made before this batch.
        temperature: What the rollouts were sampled at; the learner divides its logits by it.
        global_rollouts, global_tokens: Rollouts and response tokens of the batch over *all* ranks:
            the denominators of every mean.
        global_credit_std: Standard deviation of the credit over these rollouts (n - 1; 0 for one).
        mini_batch: Which one of the iteration it is.
        kept_groups: Groups whose log-probs in the update are kept, to be stored with them.
    """

    micro_batches: tuple[MicroBatch, ...]
    step: int
    temperature: float
    global_rollouts: int
    global_tokens: int
    global_credit_std: float = 0.0
    mini_batch: int = 0
    kept_groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenScores:
    """What the learner thought of the tokens of a rollout when it trained on it.

    Attributes:
        group_index: Which group of the learner step's it belongs to.
        place: Which of that group's rollouts it is.
        logprobs: float32 [T], ln pi of its tokens in the pass of the update, nats.
    """

    group_index: int
    place: int
    logprobs: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MiniBatch:
    """What one learner step of an iteration trains on.

    Attributes:
        groups: A part of the iteration's.
        number: Which part; the same again in the next pass over them.
    """

    groups: tuple[CreditedGroup, ...]
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenCredit:
    """Credit of N response tokens, computed once per iteration.

    Attributes:
        advantage: float32 [N], not whitened.
        returns: float32 [N], what the critic's values shall become; None without a critic.
    """

    advantage: Tensor
    returns: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LossInputs:
    """What an objective sees of one micro-batch: N response tokens of B rollouts.

    Attributes:
        step: Learner steps made before this batch.
        logprobs: float32 [N], ln pi of the sampled tokens, nats; carries the gradient.
        inference_logprobs: float32 [N], ln pi_vllm of the same tokens, nats; NaN where none were
            recorded.
        rollout_index: int64 [N], which of the B rollouts a token belongs to.
        credit, reward, lag: float32 [B], float32 [B] and int64 [B].
        is_truncated: bool [B], cut off at `max_tokens`, without EOS.
        is_history: bool [B], of a group that an earlier iteration trained on.
        iteration: Iterations made before this one, over the whole run.
        global_rollouts, global_tokens: Rollouts and response tokens of the whole global batch, the
            denominators of every mean; without those that `Objective.keeps` leaves out, if it does.
        global_credit_std: Standard deviation of the credit over the global batch's rollouts.
        entropy: float32 [N], nats, with a gradient only for `entropy_gradient`.
            None when it was not asked for.
        proximal: float32 [N], ln pi of the same tokens before the iteration's first update, nats.
        sampler, reference, previous: float32 [N], those of a copy of the policy: the one that
            sampled, the reference, the one before the last iteration. None when not asked for.
        old_values: float32 [N], the critic's value of what stands before each token, before the
            iteration's first update. None without a critic.
        values: float32 [N], the same now, with a gradient; given to `Valued.value_loss` alone.
        token_credit: What `TokenCredited.token_credit` gave for these tokens; None before it.
        token_credit_mean, token_credit_std: Of its advantage over all response tokens of the
            iteration, on all ranks; 0 and 1 where there is none.
    """

    step: int
    logprobs: Tensor
    inference_logprobs: Tensor
    rollout_index: Tensor
    credit: Tensor
    reward: Tensor
    lag: Tensor
    is_truncated: Tensor
    is_history: Tensor
    iteration: int
    global_rollouts: float
    global_tokens: float
    global_credit_std: float
    entropy: Tensor | None = None
    proximal: Tensor | None = None
    sampler: Tensor | None = None
    reference: Tensor | None = None
    previous: Tensor | None = None
    old_values: Tensor | None = None
    values: Tensor | None = None
    token_credit: TokenCredit | None = None
    token_credit_mean: float = 0.0
    token_credit_std: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """Means of several parts of the global batch, as one micro-batch's share of them.

    Attributes:
        names: What each is reported as; nothing where it is a mean over none.
        totals, counts: Detached, [K]: sums, and how many are in each. Their own sums over all
            micro-batches and ranks are divided.
    """

    names: tuple[str, ...]
    totals: Tensor
    counts: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LossOutputs:
    """The micro-batch's share of the loss, and what to report.

    Attributes:
        loss: Scalar; summed over the micro-batches of all ranks it is the loss of the batch.
        metrics: Name to a detached [N] or [B] of per-token or per-rollout numbers. A plain name is
            reported as its mean over the global batch; a name that ends in `_*` as `_mean`,
            `_std`, `_min` and `_max`, one in `_ess` as the effective sample size of such weights.
            `Means` have denominators of their own, and names, so that theirs here is not told.
        terms: Parts that the loss is the sum of, detached, as `loss` is; reported as `loss/TERM`.
    """

    loss: Tensor
    metrics: Mapping[str, Tensor | Means]
    terms: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMetrics:
    """One line of metrics: the learner step (x axis) and a flat table of numbers."""

    step: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """Sequences on which engine and learner must agree.

    Attributes:
        token_ids: Per sequence int32 [T].
        logprobs: Per sequence float32 [T - 1], the learner's ln pi of tokens 1 to T - 1, nats.
    """

    token_ids: tuple[np.ndarray, ...]
    logprobs: tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """Name, shape and dtype (torch's name, a key of `ITEM_BYTES`) of one published tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def num_bytes(self) -> int:
        """Of all its numbers."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sent:
    """A chunk of a publication that has left the learner.

    Attributes:
        ticket: What the transport's receiver fetches it with.
        digest: XXH3 (128 bits) over version, number, names, types, shapes and contents.
    """

    ticket: Any
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightsVersion:
    """A published policy: what it is and where to fetch it, chunk by chunk.

    Attributes:
        version: The learner step whose weights these are.
        specs: Every tensor, in the order sent. Tied tensors are listed once. They alone tell which
            tensors lie in which chunk (`oapl.weights.base.layout`).
        transport: Name of the transport file.
        probe_ids: Sequences that the engine must score after loading, int32 [T] each.
        chunks: In order; each is resolved as the learner gets to it.
        probe_logprobs: What the engine must arrive at: per sequence float32 [T - 1], the learner's
            ln pi of tokens 1 to T - 1, nats.
    """

    version: int
    specs: tuple[TensorSpec, ...]
    transport: str
    probe_ids: tuple[np.ndarray, ...]
    chunks: tuple[Promise[Sent], ...]
    probe_logprobs: Promise[tuple[np.ndarray, ...]]

    @property
    def num_bytes(self) -> int:
        """Of all tensors."""
        return sum(spec.num_bytes for spec in self.specs)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReport:
    """How far the engine is from the learner at equal version.

    Attributes:
        version: The version that was probed.
        ratio: Mean of exp(|learner - engine|) over the probe's tokens; 1 is perfect.
        max_difference: Largest |learner - engine|, nats.
        num_tokens: Tokens compared.
        load_s: From the start of the pause to the end of the load.
    """

    version: int
    ratio: float
    max_difference: float
    num_tokens: int
    load_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerId:
    """Who asks.

    Attributes:
        index: The worker's place, 0 to `rollout.num_engines` - 1.
        incarnation: How often the worker at this place was started again.
    """

    index: int
    incarnation: int = 0

    def __str__(self) -> str:
        return f"worker {self.index}.{self.incarnation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """What the learner waits for at the replay buffer, and who has it.

    Attributes:
        missing: Groups that have yet to come.
        versions: Of which they may be, oldest first.
        holders: Draws in flight, by worker.
        queued: Draws that wait for a worker.
        needed: Draws that may still be handed out.
    """

    missing: int
    versions: tuple[int, ...]
    holders: Mapping[WorkerId, int]
    queued: int
    needed: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvalAnswers:
    """The judged rollouts of one evaluation prompt.

    Attributes:
        prompt: The problem.
        rollouts, judgements: Of the samples, in the same order.
        greedy, greedy_judgement: Of the answer at temperature 0; None when none was asked for.
    """

    prompt: Prompt
    rollouts: tuple[Rollout, ...]
    judgements: tuple[Judgement, ...]
    greedy: Rollout | None = None
    greedy_judgement: Judgement | None = None


Metrics = dict[str, float]
State = dict[str, Any]
Prompts = Sequence[Prompt]
