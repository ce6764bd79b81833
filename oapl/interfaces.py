"""Who does what, as Protocols: the whole vocabulary between the packages.

They describe *handles*: an `async` method may cross a process. A class behind a handle may be
synchronous; `deploy.processes.handles` makes up the difference. Every wait carries its deadline to
the callee, which answers in time (`take`, `next_prompts`); nobody cancels a remote wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from oapl.records import (
    Batch,
    Credit,
    CreditedGroup,
    EvalAnswers,
    Judgement,
    LossInputs,
    LossOutputs,
    Metrics,
    ProbeReport,
    Prompt,
    Rollout,
    Sampling,
    ScoredGroup,
    Sent,
    State,
    StepMetrics,
    TensorSpec,
    Verdict,
    WeightsVersion,
    WorkerId,
)
from oapl.remote.promises import Promise

if TYPE_CHECKING:
    from torch import Tensor


class PromptSource(Protocol):
    """An ordered, seeded, resumable stream of draws. Lives inside the replay buffer's process."""

    def next(self) -> Prompt | None:
        """The next draw, or None when the data is exhausted."""

    def state(self) -> State:
        """The cursor, picklable."""

    def restore(self, state: State) -> None: ...


class Engine(Protocol):
    """An inference engine that holds one version at a time."""

    @property
    def version(self) -> int:
        """The learner step whose weights are loaded; -1 before the first load."""

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Rollout:
        """One rollout. Ends with finish_reason `abort` when a load cuts it off.

        Raises:
            ValueError: The prompt does not fit the model's context.
            RuntimeError: The engine failed; `rebuild` and load again.
        """

    async def load(self, weights: WeightsVersion) -> ProbeReport:
        """Abort what is in flight, take in the weights, clear caches, re-score the probe.

        With `sync.in_flight = "drain"` it first waits until what is in flight has ended, for half
        of `sync.timeout_s` at most, and counts a wait that was cut (`faults/cut_drains`). Requests
        that come during that wait are answered under the old version, so that no group is torn;
        those that come later end as aborted, with no token sampled.

        Raises:
            WeightsError: The publication was incomplete, non-finite or of another model; the
                engine holds version -1, rebuilt with its first weights if it had taken in a part.
        """

    async def rebuild(self) -> None:
        """A fresh engine in the same process; holds version -1."""

    def stats(self) -> Metrics:
        """Counters since the last call."""

    def close(self) -> None: ...


class Scorer(Protocol):
    """A reward server."""

    async def score(self, tasks: Sequence[tuple[Prompt, Rollout]]) -> Sequence[Judgement]:
        """One judgement per task, in order; each within the configured deadline."""

    async def stats(self) -> Metrics: ...


class Batches(Protocol):
    """What the learner takes from: the replay buffer, or a queue of worked examples."""

    async def take(self, count: int, timeout_s: float) -> Sequence[CreditedGroup] | None: ...

    async def trained(self, ids: Sequence[str], step: int) -> None: ...

    async def drop(self, ids: Sequence[str], reason: str, step: int) -> None: ...

    async def advance(self, step: int) -> None: ...

    async def lead(self, step: int, begin: int) -> bool: ...

    async def snapshot(self) -> State: ...

    async def restore(self, state: State) -> None: ...

    async def finish(self) -> None: ...

    async def stats(self) -> Metrics: ...


class Replay(Batches, Protocol):
    """Prompt queue, in-flight draws and buffer: one consistent cut. See `oapl.replay.buffer`."""

    async def next_prompts(
        self, worker: WorkerId, version: int, limit: int, timeout_s: float
    ) -> Sequence[Prompt] | None:
        """Up to `limit` draws; none when nothing is needed; None when `version` is not served."""

    async def put(self, worker: WorkerId, groups: Sequence[ScoredGroup]) -> Sequence[str]:
        """What became of each: kept, dropped or refused."""

    async def give_back(
        self, worker: WorkerId, prompt: Prompt, cause: str, num_tokens: int
    ) -> None:
        """The draw returns to the front of the queue; `num_tokens` were generated for nothing."""

    async def fail(self, worker: WorkerId, prompt: Prompt, cause: str, num_tokens: int) -> None: ...

    async def release(self, worker: WorkerId) -> None: ...


class Worker(Protocol):
    """A process that generates: an engine and the `collect` loop around it."""

    async def load(self, weights: WeightsVersion) -> ProbeReport: ...

    async def run(self) -> None:
        """Collect until `stop`."""

    async def evaluate(
        self, prompts: Sequence[Prompt], sampling: Sampling, num_samples: int, greedy: bool
    ) -> Sequence[EvalAnswers]: ...

    async def stats(self) -> Metrics: ...

    async def stop(self) -> None: ...


class Trainer(Protocol):
    """One rank of the learner. All ranks are called together."""

    async def update(self, batch: Batch) -> Metrics:
        """One learner step: forward, objective, backward, step (or skip when non-finite)."""

    async def announce(self, version: int) -> WeightsVersion | None:
        """What the parameters will be published as, without chunks (rank 0 answers)."""

    async def send_chunk(self, number: int) -> Sent | None:
        """Gather a chunk of what was announced and hand it to the WeightSender (rank 0 answers)."""

    async def score_probe(self) -> Sequence[np.ndarray]:
        """The policy's log-probs of the sequences that were announced."""

    def promise(self, method: str, *args: Any) -> Promise[Any]:
        """Ask now for what may be handed on before it is there. Calls are answered in order."""

    async def save(self, path: Path) -> None: ...

    async def load(self, path: Path) -> None: ...

    async def save_model(self, path: Path) -> None:
        """Hugging Face safetensors, config and tokenizer, as transformers and vLLM load them."""

    async def stats(self) -> Metrics: ...


class WeightSender(Protocol):
    """The learner's end of a transport; lives in the process of trainer rank 0.

    Attributes:
        transport: Its file's name.
    """

    transport: str

    def begin(self, version: int, specs: Sequence[TensorSpec]) -> None:
        """A publication of these tensors begins; its chunks come in order."""

    def put(self, number: int, content: np.ndarray) -> Any:
        """Take a chunk, uint8, which is the caller's again afterwards. Returns: its ticket."""

    def close(self) -> None: ...


class WeightReceiver(Protocol):
    """The engine's end of a transport."""

    def receive(self, weights: WeightsVersion) -> Iterator[tuple[str, Tensor]]:
        """The tensors in the order of `weights.specs`."""


class Objective(Protocol):
    """What is minimised. One file each in `oapl/objectives/`.

    `needs` names what else the trainer must compute: `entropy`, `reference`, ...
    """

    needs: frozenset[str]

    def credit(self, group: ScoredGroup) -> Credit: ...

    def loss(self, inputs: LossInputs) -> LossOutputs: ...


class Verifier(Protocol):
    """Judges one response. Runs in a killable process. One file each in `verifiers/`."""

    def verify(self, prompt: Prompt, rollout: Rollout) -> Verdict: ...


class Tracker(Protocol):
    """Where metrics go: JSONL, console, W&B."""

    def log(self, metrics: StepMetrics) -> None: ...

    def message(self, text: str) -> None:
        """One line for the person who watches."""

    def rollouts(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows that `tracking.rollouts.RolloutStore` has just written: a sample, now and then."""

    def phase(self, name: str) -> None:
        """The run is now in one of `tracking.status.PHASES`, or has ended as one of its `ENDS`."""

    def close(self) -> None: ...
