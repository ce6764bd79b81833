"""Who does what, as Protocols: the whole vocabulary between the packages.

They describe *handles*: an `async` method may cross a process, and then also raises `DiedError`
when that process is gone, and `DeadlineError` when it does not answer within the handle's limit. A
class behind a handle may be synchronous; `deploy.processes.handles` makes up the difference. Every
wait carries its deadline to the callee, which answers in time (`take`, `next_prompts`); nobody
cancels a remote wait. `stats()` is what happened since the last call of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from oapl.config.objective import Declarations
from oapl.records import (
    Batch,
    Credit,
    CreditedGroup,
    EvalAnswers,
    Judgement,
    Lateness,
    LossInputs,
    LossOutputs,
    Metrics,
    MiniBatch,
    ProbeReport,
    Prompt,
    Rollout,
    Sampling,
    ScoredGroup,
    Sent,
    State,
    StepMetrics,
    TensorSpec,
    Terms,
    TokenCredit,
    TokenScores,
    Trouble,
    Unfinished,
    Verdict,
    WeightsVersion,
    WorkerId,
)
from oapl.remote.promises import Promise

if TYPE_CHECKING:
    from torch import Tensor


class PromptSource(Protocol):
    """An ordered, seeded, resumable stream of draws.

    Lives inside the replay buffer's process and is called by its ledger alone, in one thread.
    """

    def next(self) -> Prompt | None:
        """Draw the next prompt, when the period needs more than what has come back.

        Returns:
            A prompt with an id that was never drawn before; None when the data is exhausted, and
            from then on.
        """

    def state(self) -> State:
        """The cursor, for `Batches.snapshot`.

        Returns:
            What `restore` needs, picklable; later draws do not change it.
        """

    def restore(self, state: State) -> None:
        """Go on with the very draw that would have followed `state`. Called by `Batches.restore`.

        Raises:
            CheckpointError: The state was taken over other data.
        """


class Engine(Protocol):
    """An inference engine that holds one version at a time. Its worker is its only caller."""

    @property
    def version(self) -> int:
        """The learner step whose weights are loaded; -1 before the first load and after a failed
        one."""

    async def generate(
        self, prompt: Prompt, sampling: Sampling, begun: Rollout | None = None
    ) -> Rollout:
        """Sample one response. Called G times per prompt by `collect`, and by evaluations.

        Args:
            prompt: What is sampled from.
            sampling: How, and how many tokens at most.
            begun: An aborted rollout of this prompt, sampled so under the version that is held:
                it goes on from its last token. Its log-probs stay, and are compared with this
                engine's where `sampling` is plain.

        Returns:
            A rollout of one version, with finish reason `abort` when a load cut it off, with all
            its tokens so far. One begun under another version ends so at once; one with whose
            log-probs this engine disagrees ends so without a token, and is counted.

        Raises:
            ValueError: The prompt is empty, has a token the model does not know, or does not fit
                its context with `sampling.max_tokens`.
            EngineError: The engine failed or was closed; `rebuild` and load again.
        """

    async def load(self, weights: WeightsVersion) -> ProbeReport:
        """Abort what is in flight, take in the weights, clear caches, re-score the probe.

        With `sync.in_flight = "drain"` it first waits until what is in flight has ended, for half
        of `sync.timeout_s` at most, and counts a wait that was cut (`faults/cut_drains`). Requests
        that come during that wait are answered under the old version, so that no group is torn;
        those that come later end as aborted, with no token sampled.

        Returns:
            How far the engine's log-probs are from the learner's. Judging it is the worker's part.

        Raises:
            WeightsError: The publication was incomplete, non-finite or of another model, or the
                load failed on the way; the engine holds version -1, rebuilt with its first weights
                if it had taken in a part.
            EngineError: It had failed before and was not rebuilt.
            DeadlineError: It took longer than `sync.timeout_s` allows.
        """

    async def score(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Score given tokens at temperature 1, while nothing is in flight.

        Args:
            sequences: Token ids, int32 [T] of each; T below the context, or its last is left out.

        Returns:
            Per sequence float32 [T - 1], ln pi of tokens 1 to T - 1, nats.

        Raises:
            EngineError: The engine failed or was closed.
            DeadlineError: It took longer than `sync.timeout_s` allows.
        """

    async def rebuild(self) -> None:
        """Make a fresh engine in the same process; it holds version -1, what was in flight fails.

        Raises:
            EngineError: It could not be built, or was closed.
            DeadlineError: It took longer than `sync.timeout_s` allows.
        """

    def stats(self) -> Metrics:
        """What was counted since the last call: sums only, which are added over workers."""

    def quiet_s(self) -> float:
        """Seconds since it last made something, a token or a whole response; inf before that."""

    async def ping(self) -> None:
        """Return as soon as it could take something in, which is between two of its steps; at once
        where it has failed or was closed. Not asked during a load or a rebuild."""

    def close(self) -> None:
        """End the engine and its processes; what is in flight ends as aborted. May block."""


class Scorer(Protocol):
    """A reward server, or several of them behind a worker's `actors.scoring.BatchedScorer`."""

    async def score(self, tasks: Sequence[tuple[Prompt, Rollout]]) -> Sequence[Judgement]:
        """Judge rollouts, each within the configured deadline. Called beside generation.

        Args:
            tasks: Each rollout with its prompt, which names the verifiers; none is aborted.

        Returns:
            One judgement per task, in order. A reward that could not be given is a
            `Judgement.failure`, never an exception.
        """

    async def stats(self) -> Metrics:
        """What happened since the last call. The learner asks servers, a worker its own scorer."""


class JoinedScorer(Scorer, Protocol):
    """What a worker scores by; `actors.scoring.BatchedScorer`."""

    def awaited(self) -> tuple[int, float]:
        """Rollouts without a verdict, and for how many seconds the oldest has had none."""


class RewardServer(Scorer, Protocol):
    """A reward server, as whoever runs it sees it."""

    async def troubles(self, timeout_s: float) -> Sequence[Trouble]:
        """What keeps its verifiers from judging, each sort once.

        Args:
            timeout_s: Longest wait for the first; nothing comes when it is over.
        """


class Batches(Protocol):
    """What the learner takes from: the replay buffer, a queue of worked examples, a stored set.

    `oapl.loops.learn` calls the first five, `LearnerGroup` the last one and those of a checkpoint,
    whoever ends the run `finish`. `step` counts learner steps made, skipped ones included.
    """

    async def take(
        self, count: int, timeout_s: float, ahead: int = 0
    ) -> Sequence[CreditedGroup] | None:
        """Lease groups, oldest first, for the next iteration.

        Those marked `is_history` are lent: their leases were closed in an earlier iteration.

        Args:
            count: Groups of one iteration.
            timeout_s: Longest wait for the last of them.
            ahead: Learner step at which the next period begins, where `lead` may come before these
                groups; 0: it may not.

        Returns:
            Fewer than `count` only at the end of the data, and after that None. None at all (an
            empty sequence) where `lead` would succeed now and they are not there.

        Raises:
            DeadlineError: They were not there in time; says where the draws are.
            DrawsError: Every draw fails; says why the first one did.
        """

    async def trained(self, ids: Sequence[str], step: int) -> None:
        """Close the leases of groups that were trained on.

        Args:
            ids: Of the groups of the last `take`, those that are lent left out.
            step: Learner steps made, the one on these groups included.
        """

    async def drop(self, ids: Sequence[str], reason: str, step: int) -> None:
        """Close the leases of groups whose step was skipped.

        Args:
            ids: Of the groups of the last `take`, those that are lent left out.
            reason: Becomes the detail of their fate, e.g. `non_finite`.
            step: Learner steps made, the skipped one included.
        """

    async def advance(self, step: int) -> None:
        """Begin a period: serve version `step` from now on, and throw out what is too old.

        Called before that version is published, so that nothing is handed out until an engine
        holds it. No group may be leased.
        """

    async def lead(self, step: int, begin: int) -> bool:
        """Serve version `step` ahead of its period, beside the groups that the present one needs.

        Args:
            step: The version to serve: the learner steps made.
            begin: Learner step at which its period will begin, the end of the present one.

        Returns:
            False when the present period still lacks groups; nothing has changed then.
        """

    async def snapshot(self) -> State:
        """Everything that decides what happens next, picklable, leased groups as buffered."""

    async def restore(self, state: State) -> None:
        """Go on from a snapshot, unused until now; what was in flight is drawn again.

        Raises:
            CheckpointError: The snapshot was taken over other data.
        """

    async def take_over(self, state: State) -> bool:
        """Go on in the data where a stage of the same run has ended, unused until now.

        Args:
            state: Its last snapshot, of whatever kind of batches.

        Returns:
            False when that stage had other data; nothing has changed then.
        """

    async def finish(self) -> None:
        """End the run: what has no fate is `unfinished`, and no draw is handed out any more."""

    async def stats(self) -> Metrics:
        """What happened since the last call, under the names of `oapl.tracking.names`."""

    async def first_failure(self) -> str:
        """Cause of the first draw that failed; empty while none has."""


class Replay(Batches, Protocol):
    """Prompt queue, in-flight draws and buffer: one consistent cut. See `oapl.replay.buffer`.

    Beside the learner's methods, those of workers: `collect` calls the first four, whoever watches
    the workers the last. A call by a worker that was released raises `StaleError`.
    """

    async def next_prompts(
        self, worker: WorkerId, version: int, limit: int, timeout_s: float
    ) -> Sequence[Prompt | Unfinished] | None:
        """Hand out draws as soon as the period needs one.

        Args:
            worker: Who asks; the draws are in flight there until they come back.
            version: What the worker's engine holds.
            limit: Most draws, at least 1.
            timeout_s: Longest wait.

        Returns:
            Up to `limit` draws, first those that another worker has begun; an empty list when
            nothing was needed for `timeout_s`; None, at once, when `version` is not served or the
            run has finished.

        Raises:
            StaleError: The worker was released.
        """

    async def put(self, worker: WorkerId, groups: Sequence[ScoredGroup]) -> Sequence[str]:
        """Hand in finished groups: each is credited, and kept, dropped or refused.

        Args:
            worker: Who holds the draws.
            groups: Of G rollouts each, none aborted, of the version they were handed out for.

        Returns:
            Per group, in order, `kept`, `dropped:FILTER` or `refused:WHY`.

        Raises:
            StaleError: The worker was released.
            InputError: The objective cannot credit a group.
        """

    async def give_back(
        self, worker: WorkerId, prompt: Prompt, cause: str, num_tokens: int
    ) -> None:
        """Return a draw to the front of the queue, to be tried again with attempt + 1.

        Args:
            worker: Who held it; when it does no longer, only the tokens are counted.
            prompt: The draw as it was handed out.
            cause: `aborted` or `engine_failed`; part of a metric's name.
            num_tokens: Response tokens that were generated for nothing.

        Raises:
            StaleError: The worker was released.
        """

    async def hand_over(self, worker: WorkerId, unfinished: Unfinished) -> None:
        """Give up a group that a load has cut off, for an engine that holds its version still.

        Where there is none its draw goes back to the front of the queue, as after `give_back`.

        Args:
            worker: Who held it; when it does no longer, only the tokens are counted.
            unfinished: The draw with all its rollouts so far.

        Raises:
            StaleError: The worker was released.
        """

    async def stay_behind(self, worker: WorkerId, timeout_s: float) -> None:
        """Wait before a load, until the last groups of the version held have come.

        Returns at once for a worker that was not chosen to stay behind; from then on it is none.

        Args:
            worker: Who is about to load.
            timeout_s: Longest wait; what is in flight then is lost.
        """

    async def fail(self, worker: WorkerId, prompt: Prompt, cause: str, num_tokens: int) -> None:
        """End a draw that can be neither sampled nor scored; its fate is `failed`.

        Args:
            worker: Who held it; when it does no longer, only the tokens are counted.
            prompt: The draw as it was handed out.
            cause: One line, the detail of the fate.
            num_tokens: Response tokens that were generated for nothing.

        Raises:
            StaleError: The worker was released.
        """

    async def lateness(self) -> Lateness:
        """What the learner waits for now, and who has it."""

    async def release(self, worker: WorkerId) -> None:
        """Take back the draws of a dead worker; later calls of this incarnation are refused.

        A draw under which engines died `rollout.max_deaths` times fails.
        """


class Answering(Protocol):
    """A worker, as an evaluation sees it."""

    async def evaluate(self, prompts: Sequence[Prompt], terms: Terms) -> Sequence[EvalAnswers]:
        """Answer and judge prompts under the version held; no load comes between.

        Args:
            prompts: Some of the evaluation's; others may be asked at the same time.
            terms: How.

        Returns:
            One record per prompt, in order.

        Raises:
            ValueError: A prompt does not fit the engine.
            EngineError: The engine failed twice in quick succession.
            StaleError: A load has cut it off.
            DeadlineError: Nobody waits for the answers any longer.
        """


class Worker(Answering, Protocol):
    """A process that generates: an engine and the `collect` loop around it.

    Called by `deploy.run.workers`, which starts it again when it ends with an error.
    """

    async def load(self, weights: WeightsVersion) -> ProbeReport:
        """Take in a publication and compare engine and learner at equal version.

        Returns:
            The probe's report; of the version held when `weights` is older.

        Raises:
            WeightsError: The publication cannot be loaded; the worker holds no version.
            ProbeError: They disagree, even after the engine was rebuilt.
            EngineError: The engine failed and could not be rebuilt.
            DeadlineError: The engine took longer than `sync.timeout_s` allows.
        """

    async def run(self, has_own_weights: bool = False) -> None:
        """Collect under each version that is loaded, until `stop`.

        Args:
            has_own_weights: Begin with what the engine was built with, the model's own.

        Raises:
            EngineError: The engine failed twice in quick succession.
            WeightsError: After a fault the engine could not take in again what it held.
            ProbeError: After a fault it disagrees with the learner.
            StaleError: Replay has released this worker.
        """

    async def stats(self) -> Metrics:
        """Sums since the last call: the engine's, the scorer's and the worker's own."""

    async def says(self) -> str:
        """What it is at, in words: when its last token came, which verdicts it awaits."""

    async def stop(self) -> None:
        """End `run` and the engine; what is in flight goes back to replay."""


class Learner(Protocol):
    """The acts of the learner's half, which `oapl.loops.learn` calls in turn.

    `learner.group.LearnerGroup` is the real one. Where a publication goes on beside training, what
    went wrong with it is raised by a later act.

    Attributes:
        step: Learner steps made.
    """

    step: int

    @property
    def begin(self) -> int:
        """Step at which the period that the published version feeds begins.

        -1 before the first publication, above `step` after one that came ahead of its period.
        """

    async def checkpoint_if_due(self) -> None:
        """Save the run at the end of a period, as often as `checkpoint.every_syncs` says.

        Raises:
            RankError: A rank died, hung or failed.
        """

    async def publish(self, begin: int) -> None:
        """Give the weights of `step` to the engines, for the period that begins at `begin`.

        Returns once an engine holds them, or, where there are other groups to train on (ahead of
        the period, or with several versions), once they have left the learner.

        Raises:
            WeightsError: A weight is not finite, or the transport failed.
            DeadlineError: No engine took them within `sync.timeout_s`.
            RankError: A rank died, hung or failed.
        """

    async def evaluate_if_due(self) -> None:
        """Begin an evaluation beside training, where one is due of the policy as it is now.

        Where engines are set aside for that; else evaluations are a part of `publish`.

        Raises:
            WeightsError: A weight is not finite, or the transport failed.
            RankError: A rank died, hung or failed.
        """

    async def prepare(self, groups: Sequence[CreditedGroup]) -> Sequence[MiniBatch]:
        """Begin an iteration: compute what the objective needs of the policy as it is now.

        Args:
            groups: Of one take.

        Returns:
            What its learner steps train on, in order.

        Raises:
            InputError: The groups make no batch.
            RankError: A rank died, hung or failed.
        """

    async def update(self, part: MiniBatch) -> bool:
        """Make one learner step.

        Args:
            part: Of the iteration that was prepared last.

        Returns:
            False when it was skipped for a non-finite loss or gradient; `step` counts it too.

        Raises:
            DivergedError: Too many were skipped in a row.
            InputError: The groups make no batch.
            RankError: A rank died, hung or failed.
        """

    async def report(self) -> None:
        """Collect every owner's counters and write the metrics of the step just made."""


class Trainer(Protocol):
    """One rank of the learner. All ranks are called together, by `LearnerGroup`."""

    async def prepare(self, batches: Sequence[Batch]) -> Metrics:
        """Compute and keep what the objective needs of the policy before an iteration's updates.

        Args:
            batches: This rank's share of each mini-batch, packed as its updates will be.

        Returns:
            What it took, `time/prepare_s`, and how good a critic is: `critic/explained_variance`.
        """

    async def reset_reference(self, *, keeps_optimizer: bool = False) -> None:
        """Make the present policy the reference; as `reference.reset_optimizer` says, forget Adam's
        moments.

        Args:
            keeps_optimizer: Whatever that says, they stay.
        """

    async def update(self, batch: Batch) -> Metrics:
        """Make one learner step: forward, objective, backward, step (or skip when non-finite).

        Args:
            batch: This rank's share; as many micro-batches as every other rank's.

        Returns:
            Metrics of the global batch, the same on every rank; `faults/skipped_steps` is 1 when
            the policy's update was skipped, `critic/skipped` when a critic's was.

        Raises:
            DivergedError: `learner.max_skipped_in_a_row` were skipped one after the other.
        """

    async def kept_scores(self) -> Sequence[TokenScores]:
        """Give the policy's log-probs in the last update, of `Batch.kept_groups` alone.

        Returns:
            One record per rollout of this rank's share; none where the policy made no pass.
        """

    async def announce(self, version: int, is_aside: bool = False) -> WeightsVersion | None:
        """Say what the parameters will be published as; nothing is read of them yet.

        Args:
            version: Learner steps made.
            is_aside: It is for engines set aside for evaluations alone.

        Returns:
            The publication without chunks and scores; None on ranks other than 0.

        Raises:
            WeightsError: The transport cannot begin.
        """

    async def send_chunk(self, number: int) -> Sent | None:
        """Gather a chunk of what was announced and hand it to the WeightSender, in order.

        Returns:
            What receivers fetch it with; None on ranks other than 0.

        Raises:
            WeightsError: A parameter is not finite, or the transport failed.
        """

    async def score_probe(self) -> Sequence[np.ndarray]:
        """The policy's log-probs of the sequences that were announced, at temperature 1.

        Returns:
            Per sequence float32 [T - 1], nats: of tokens 1 to T - 1.
        """

    def promise(self, method: str, *args: Any) -> Promise[Any]:
        """Ask now for what may be handed on before it is there. Calls are answered in order.

        Args:
            method: Of this protocol, `send_chunk` or `score_probe`.
            args: What it is called with.
        """

    async def save(self, path: Path, beside: bool = False) -> None:
        """Write everything of this rank that affects the next step into the folder `path`.

        Args:
            path: The folder.
            beside: Return once all is copied, and write it beside what follows, without digests.
        """

    async def saved(self, waits: bool = False) -> bool:
        """Whether what is written beside has been; raises what went wrong with that.

        Args:
            waits: Until it is, but not for all of `sync.timeout_s`.
        """

    async def load(self, path: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            CheckpointError: It is damaged, or of another precision.
        """

    async def take_over(self, path: Path, keeps: Collection[str]) -> None:
        """Begin with the weights that another stage ended with, and with more of what it had.

        Args:
            path: What `save` wrote at its end.
            keeps: `optimizer` and `reference`: what is not begun anew.

        Raises:
            CheckpointError: As of `load`.
        """

    async def save_model(self, path: Path) -> None:
        """Write the policy as transformers and vLLM load it, complete or not at all.

        Args:
            path: Folder for safetensors, config and tokenizer; an older one is replaced.
        """

    async def stats(self) -> Metrics:
        """Gauges of this process, such as its largest memory so far."""


class WeightSender(Protocol):
    """The learner's end of a transport; lives in the process of trainer rank 0, its only caller.

    Attributes:
        transport: Its file's name.
    """

    transport: str

    def begin(self, version: int, specs: Sequence[TensorSpec], is_aside: bool = False) -> None:
        """Begin a publication; the current one and the one before stay available.

        Args:
            version: The learner step whose weights follow.
            specs: Every tensor, in the order sent; its chunks are those of
                `oapl.weights.base.layout`.
            is_aside: It is for engines set aside for evaluations alone: it takes the place of the
                last such one, and of none that other engines serve.

        Raises:
            WeightsError: The transport has no place for it.
        """

    def put(self, number: int, content: np.ndarray) -> Any:
        """Take one chunk of the publication that was begun.

        Args:
            number: 0, 1, ... in order.
            content: uint8 [chunk.num_bytes]; the caller's again when this returns.

        Returns:
            Its ticket, picklable: what the receiver fetches it with.

        Raises:
            WeightsError: The transport could not take it.
        """

    def close(self) -> None:
        """Let go of what was published. For whoever lives on: a rank that ends need not call it."""


class WeightReceiver(Protocol):
    """The engine's end of a transport; picklable, for an engine with processes of its own."""

    def receive(self, weights: WeightsVersion) -> Iterator[tuple[str, Tensor]]:
        """Fetch a publication chunk by chunk, some before the learner has sent the others.

        Returns:
            Name and CPU tensor [...] of each of `weights.specs`, in that order, of its shape and
            dtype: a view of its chunk's memory, which may be read-only.

        Raises:
            WeightsError: It is gone, late, or not what was announced; what has been handed over
                must be thrown away.
        """


@runtime_checkable
class DirectReceiver(WeightReceiver, Protocol):
    """A receiver by way of which tensors need not pass through the engine's host: the processes
    that hold the model fetch them (`oapl.weights.collective.Intake`)."""

    def offers(self, weights: WeightsVersion) -> Iterator[dict[str, Any]]:
        """Tell of each chunk as it leaves the learner, in plain types that any serialiser takes.

        Returns:
            What each of these processes needs to fetch it.

        Raises:
            WeightsError: As of `receive`.
        """


class Objective(Protocol):
    """What is minimised. One file each in `oapl/objectives/`.

    Attributes:
        declares: Its file's declarations, narrowed to what its options make it need.
    """

    declares: Declarations

    def credit(self, group: ScoredGroup) -> Credit:
        """Turn the rewards of a group into a number per rollout. Called by replay, once per group.

        Must be quick and deterministic: it runs behind the buffer's lock. Of a stored group the
        rewards are all that were generated, and the rollouts those that a filter has left.

        Returns:
            float32 [G] and metrics, or the name of the filter that drops the group.

        Raises:
            InputError: The group lacks what the objective needs of it.
        """

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """Compute a micro-batch's share of the loss. Called by every trainer rank.

        Args:
            inputs: N response tokens of B rollouts, and the denominators of the global batch.

        Returns:
            A scalar to be summed over micro-batches and ranks, and detached metrics.
        """


class Masking(Objective, Protocol):
    """An objective that leaves tokens out of its denominators: `kept_counts` is among its needs."""

    def keeps(self, inputs: LossInputs) -> Tensor:
        """Tell which tokens count in the denominators. Called before `loss`, without gradient.

        Args:
            inputs: As for `loss`; the counts are of the whole batch still.

        Returns:
            bool [N]; a rollout counts if one of its tokens does.
        """


class Stateful(Objective, Protocol):
    """An objective that changes with what it sees: `state` is among its needs.

    Each rank has one, and all of them see the same.
    """

    def observe(self, metrics: Metrics) -> None:
        """Take in a learner step's metrics, of the global batch. Called after the step."""

    def state(self) -> State:
        """What decides what it does next, as JSON holds it; for a checkpoint."""

    def restore(self, state: State) -> None:
        """Go on from what `state` gave."""


class TokenCredited(Objective, Protocol):
    """An objective that credits each token apart: `token_credit` is among its needs.

    `credit(group)` still gives the number per rollout that it starts from, such as the reward.
    """

    def token_credit(self, inputs: LossInputs) -> TokenCredit:
        """Credit the tokens of a micro-batch, once per iteration, before its first update.

        Args:
            inputs: As for `loss`, without gradient; `logprobs` are those of the policy now. What
                the objective needs of other policies and of the critic is there.

        Returns:
            Per token, in the order of `inputs.logprobs`.
        """


class Valued(TokenCredited, Protocol):
    """An objective with a critic: `values` is among its needs, and so is `token_credit`."""

    def value_loss(self, inputs: LossInputs) -> LossOutputs:
        """Compute a micro-batch's share of the critic's loss.

        Args:
            inputs: As for `loss`, with `values`, which carry the gradient, and `token_credit`.

        Returns:
            As `loss` does; its metrics are reported beside the policy's.
        """


class Verifier(Protocol):
    """Judges one response. Runs in a killable process. One file each in `verifiers/`."""

    def verify(self, prompt: Prompt, rollout: Rollout) -> Verdict:
        """Judge one response. Called in a reward server's worker process, under a deadline.

        Args:
            prompt: With the `reference` to judge by.
            rollout: Without log-probs, and never an aborted one.

        Returns:
            The reward in the verifier's own range, before its weight.

        Raises:
            InputError: The prompt cannot be judged by its reference. This, and `Unavailable` of
                `reward_server.verifiers.base`, is our fault: no reward is given. Any other
                exception is counted as a verdict of kind `error`.
        """


class Tracker(Protocol):
    """Where metrics go: JSONL, console, W&B. Called in the learner's process alone."""

    def log(self, metrics: StepMetrics) -> None:
        """Take one line of metrics: of a learner step, or of an evaluation at that step."""

    def message(self, text: str) -> None:
        """Tell the person who watches, in one line."""

    def rollouts(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take rows that `tracking.rollouts.RolloutStore` has just written: a sample of groups.

        Args:
            rows: One per rollout, by column; in the order in which they were trained on.
        """

    def phase(self, name: str) -> None:
        """Note that the run is now in another phase, or over.

        Args:
            name: One of `tracking.status.PHASES` or `ENDS`, or `RESTART`.
        """

    def made(self, groups: int, total: int) -> None:
        """Note how far the making of stored groups is.

        Args:
            groups: That are stored.
            total: That there will be.
        """

    def alert(self, title: str, text: str) -> None:
        """Call a person, where the tracker can: what is said here is a message too.

        Args:
            title: In a few words, equal for what is of one kind.
            text: In one line.
        """

    def saved(self, checkpoint: Path, step: int) -> None:
        """Note that a checkpoint is whole.

        Args:
            checkpoint: Its folder, which is removed when newer ones have come.
            step: Learner steps made.
        """

    def close(self) -> None:
        """Finish what is still under way, within bounds; nothing is logged afterwards."""
